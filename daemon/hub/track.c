/* SPDX-License-Identifier: MIT */
/*
 * track: a local process wants to be seen in a channel. The wish holds until `untrack` or the
 * process's end; which slot shows it is decided once, here, by the rule of `[presence] trackers`.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/acl.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"
#include "realtime/term.h"

/* What a track request says, unpacked. */
struct track_ask {
	struct rtbp_str key; /* p NULL: none */
	struct rtbp_val state;
	size_t term_size;
	uint64_t timeout_ms;
};

/* What is wrong, for the answer. */
struct track_fault {
	enum rtbp_error code;
	const char *text;
	char buf[288];
};

struct tracker *tracker_find(struct peer *p, const struct chan *ch)
{
	struct tracker *t;

	TAILQ_FOREACH(t, &p->trackers, in_peer) {
		if (t->chan == ch)
			return t;
	}
	return NULL;
}

/* ---- answers ---- */

static void tracker_stop_waiting(struct tracker *t)
{
	timer_disarm(&t->peer->hub->timers, &t->timer);
	if (t->waiting) {
		t->waiting = false;
		peer_request_done(t->peer, &t->request);
	}
}

static void tracker_answer(struct tracker *t, const char *outcome, const char *text,
			   int64_t retry_in_ms)
{
	struct peer *p = t->peer;
	struct rtbp_buf *b;
	size_t begin;

	if (t->waiting && t->request.wants_answer) {
		b = hub_scratch(p->hub);
		begin = rtbp_msg_begin_result(b, t->request.id);
		rtbp_pack_map(b, 2 + (text != NULL) + (retry_in_ms >= 0));
		rtbp_pack_field_text(b, RTBP_F_OUTCOME, outcome);
		rtbp_pack_field_text(b, RTBP_F_KEY, t->key);
		if (text)
			rtbp_pack_field_text(b, RTBP_F_TEXT, text);
		if (retry_in_ms >= 0)
			rtbp_pack_field_uint(b, RTBP_F_RETRY_IN_MS, (uint64_t)retry_in_ms);
		(void)rtbp_msg_end(b, begin);
		peer_send_scratch(p);
	}
	tracker_stop_waiting(t);
}

/* What became of a request that was answered before. */
static void tracker_tell(struct tracker *t, const char *outcome, const char *text)
{
	struct rtbp_buf *b = hub_scratch(t->peer->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_TRACK);

	if (t->peer->state != PEER_READY)
		return;
	rtbp_pack_map(b, text ? 6 : 5);
	chan_pack_name(t->chan, b);
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE, t->chan->is_private);
	rtbp_pack_field_text(b, RTBP_F_KEY, t->key);
	rtbp_pack_field_text(b, RTBP_F_OUTCOME, outcome);
	if (text)
		rtbp_pack_field_text(b, RTBP_F_TEXT, text);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(t->peer);
}

void trackers_acked(struct slot *slot)
{
	struct tracker *t;

	TAILQ_FOREACH(t, &slot->trackers, in_slot) {
		if (t->version > slot->acked_version)
			continue;
		if (t->waiting)
			tracker_answer(t, "acked", NULL, -1);
		else if (!t->told_shown)
			tracker_tell(t, "acked", NULL);
		t->told_shown = true;
	}
}

void trackers_hidden(struct slot *slot, const char *text)
{
	struct tracker *t;

	TAILQ_FOREACH(t, &slot->trackers, in_slot) {
		if (t->told_shown && !t->waiting)
			tracker_tell(t, "queued", text);
		t->told_shown = false;
	}
}

void trackers_throttled(struct slot *slot, uint64_t ms)
{
	struct tracker *t;

	TAILQ_FOREACH(t, &slot->trackers, in_slot) {
		if (!t->waiting || t->version <= slot->sent_version)
			continue;
		t->told_shown = false;
		tracker_answer(t, "throttled",
			       "the server allows five presence calls of a channel in 30 s",
			       (int64_t)ms);
	}
}

/* It was answered before: its end is told unasked. */
static void tracker_notice(struct tracker *t, enum rtbp_error code, const char *text)
{
	struct rtbp_buf *b = hub_scratch(t->peer->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_ERROR);

	rtbp_pack_map(b, 5);
	rtbp_pack_field_text(b, RTBP_F_METHOD, rtbp_method_name(RTBP_M_TRACK));
	chan_pack_name(t->chan, b);
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE, t->chan->is_private);
	rtbp_pack_field(b, RTBP_F_ERROR);
	rtbp_pack_error(b, code, text, -1);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(t->peer);
}

static void tracker_timeout(void *ctx)
{
	struct tracker *t = ctx;
	const struct join *j = t->slot->join;

	t->told_shown = false;
	tracker_answer(t, "queued", j->text[0] ? j->text : "the server has not answered yet", -1);
	hub_wake(t->chan->hub);
}

/* ---- coming and going ---- */

/* Unlinks and frees; what it showed is the caller's to see to. */
static void tracker_drop(struct tracker *t)
{
	struct slot *slot = t->slot;

	tracker_stop_waiting(t);
	TAILQ_REMOVE(&slot->trackers, t, in_slot);
	slot->n_trackers--;
	if (slot->shown && t->version <= slot->sent_version)
		slot->someone_left = true;
	TAILQ_REMOVE(&t->peer->trackers, t, in_peer);
	t->peer->n_trackers--;
	blob_unref(t->state);
	free(t);
}

void tracker_free(struct tracker *t)
{
	struct slot *slot = t->slot;

	tracker_drop(t);
	slot_changed(slot);
	slot_update_owner(slot);
}

static void tracker_refused(struct tracker *t, enum rtbp_error code, const char *outcome,
			    const char *text)
{
	if (t->waiting && outcome)
		tracker_answer(t, outcome, text, -1);
	else if (t->waiting)
		peer_answer_error(t->peer, &t->request, RTBP_M_TRACK, code, text, -1);
	else if (t->peer->state == PEER_READY)
		tracker_notice(t, code, text);
	tracker_drop(t);
}

void tracker_reject(struct tracker *t, enum rtbp_error code, const char *text)
{
	struct slot *slot = t->slot;

	tracker_refused(t, code, NULL, text);
	slot_changed(slot);
	slot_update_owner(slot);
}

void trackers_refused(struct slot *slot, enum rtbp_error code, const char *outcome,
		      const char *text)
{
	while (!TAILQ_EMPTY(&slot->trackers))
		tracker_refused(TAILQ_FIRST(&slot->trackers), code, outcome, text);
	slot->version++;
}

void trackers_refused_new(struct slot *slot, const char *text)
{
	struct tracker *t, *next;
	unsigned n_new = 0;

	TAILQ_FOREACH(t, &slot->trackers, in_slot)
		n_new += t->version > slot->acked_version;
	for (t = TAILQ_FIRST(&slot->trackers); t; t = next) {
		next = TAILQ_NEXT(t, in_slot);
		if (n_new && t->version <= slot->acked_version)
			continue;
		tracker_refused(t, RTBP_E_BAD_PAYLOAD, NULL, text);
	}
	slot->version++;
}

/* ---- where ---- */

static bool is_merged(const struct hub *hub)
{
	return hub->conf.trackers == HUB_TRACKERS_MERGE;
}

static int refuse(struct track_fault *f, enum rtbp_error code, const char *text)
{
	f->code = code;
	f->text = text;
	return -1;
}

/* The key of a slot that shows one tracker is the join's; it is chosen before that is sent, or
 * costs a rejoin. */
static void choose_key(char key[RTBP_KEY_MAX + 1], bool *is_made, struct hub *hub,
		       const char *wanted)
{
	if (wanted) {
		snprintf(key, RTBP_KEY_MAX + 1, "%s", wanted);
		*is_made = false;
	} else if (!*is_made) {
		hub_make_uuid(hub, key);
		*is_made = true;
	}
}

/* Would the entry still be small enough with this state of `t`? */
static int check_merged_size(const struct slot *slot, const struct tracker *t, size_t size,
			     struct track_fault *f)
{
	const struct tracker *other;

	TAILQ_FOREACH(other, &slot->trackers, in_slot)
		size += other == t ? 0 : other->term_size;
	if (size <= MERGED_STATE_MAX)
		return 0;
	return refuse(f, RTBP_E_PRESENCE_TAKEN,
		      "the states of the channel's clients are too large for one entry "
		      "([presence] trackers = merge)");
}

static int place_merged(struct tracker *t, struct track_fault *f)
{
	struct slot *slot = &t->chan->slot;
	struct tracker *other;

	if (!t->has_key)
		hub_make_uuid(t->peer->hub, t->key);
	TAILQ_FOREACH(other, &slot->trackers, in_slot) {
		if (strcmp(other->key, t->key) == 0)
			return refuse(f, RTBP_E_PRESENCE_TAKEN,
				      "another client shows itself under this key; with [presence] "
				      "trackers = merge each needs a key of its own");
	}
	t->slot = slot;
	return check_merged_size(slot, t, t->term_size, f);
}

/* Can the shared join show it without being joined anew? Else may it be, for this? Once in its
 * life: each time is a gap for all who share it. */
static bool shared_slot_serves(struct chan *ch, const struct tracker *t)
{
	const struct join *j = ch->join;
	bool is_there = j->state == JOIN_JOINED || j->state == JOIN_JOINING || j->live;

	if (ch->slot.n_trackers)
		return false;
	if (!is_there || (t->has_key ? strcmp(t->key, j->key) == 0 : ch->key_is_made))
		return true;
	if (ch->rekeyed)
		return false;
	ch->rekeyed = true;
	return true;
}

static void use_shared_slot(struct chan *ch, struct tracker *t)
{
	t->slot = &ch->slot;
	choose_key(ch->key, &ch->key_is_made, ch->hub, t->has_key ? t->key : NULL);
	snprintf(t->key, sizeof(t->key), "%s", ch->key);
}

static int place_apart(struct tracker *t, struct track_fault *f)
{
	struct hub *hub = t->peer->hub;
	struct chan *ch = t->chan;
	bool is_first = ch->slot.n_trackers == 0;
	struct spill *sp = NULL;
	const char *why = NULL;

	if (shared_slot_serves(ch, t)) {
		use_shared_slot(ch, t);
		return 0;
	}
	if (hub->conf.trackers == HUB_TRACKERS_LINKS)
		sp = spill_get(ch, t->peer, t->has_key ? t->key : NULL, &why);
	if (sp) {
		t->slot = &sp->slot;
		choose_key(sp->key, &sp->key_is_made, hub, t->has_key ? t->key : NULL);
		snprintf(t->key, sizeof(t->key), "%s", sp->key);
		return 0;
	}
	if (is_first) {
		use_shared_slot(ch, t); /* joined anew once more, as often as that may be */
		return 0;
	}
	if (hub->conf.trackers == HUB_TRACKERS_REFUSE)
		return refuse(f, RTBP_E_PRESENCE_TAKEN,
			      "another client of this daemon is shown in the channel, and "
			      "[presence] trackers = refuse allows one");
	snprintf(f->buf, sizeof(f->buf),
		 "another client of this daemon is shown in the channel, one for each connection, "
		 "and "
		 "%s; more can be shown with [presence] trackers = merge",
		 why);
	return refuse(f, RTBP_E_PRESENCE_TAKEN, f->buf);
}

/* Under which key: what the request says, else what the peer's subscription says. */
static void ask_key(struct tracker *t, const struct track_ask *a)
{
	const struct sub *s = sub_find(t->peer, t->chan->number);

	t->has_key = true;
	if (a->key.p)
		hub_copy_text(a->key, t->key, sizeof(t->key));
	else if (s && s->presence_key)
		snprintf(t->key, sizeof(t->key), "%s", s->presence_key);
	else
		t->has_key = false;
}

static struct tracker *tracker_new(struct peer *p, struct chan *ch, const struct track_ask *a,
				   struct track_fault *f)
{
	struct tracker *t;

	if (p->n_trackers >= p->hub->conf.max_subscriptions) {
		refuse(f, RTBP_E_TOO_MANY, "this client tracks in as many channels as it may");
		return NULL;
	}
	t = calloc(1, sizeof(*t));
	if (!t || !(t->state = blob_new(a->state.p, a->state.size))) {
		free(t);
		refuse(f, RTBP_E_BUSY, "no memory");
		return NULL;
	}
	t->peer = p;
	t->chan = ch;
	t->term_size = a->term_size;
	timer_init(&t->timer, tracker_timeout, t);
	ask_key(t, a);
	if ((is_merged(p->hub) ? place_merged(t, f) : place_apart(t, f)) < 0) {
		blob_unref(t->state);
		free(t);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&p->trackers, t, in_peer);
	p->n_trackers++;
	TAILQ_INSERT_TAIL(&t->slot->trackers, t, in_slot);
	t->slot->n_trackers++;
	t->version = t->slot->version + 1;
	return t;
}

/* ---- requests ---- */

static int read_state(struct hub *hub, struct rtbp_val params, struct track_ask *a,
		      struct track_fault *f)
{
	struct rtbp_buf *b = hub_scratch(hub);
	struct rtbp_json_fault fault;
	int r;

	a->state = rtbp_field(params, RTBP_F_STATE);
	if (!rtbp_is(a->state, RTBP_MAP))
		return refuse(f, RTBP_E_BAD_PAYLOAD, "state is a map");
	r = rtbp_mp_to_json(a->state.p, a->state.size, b, &fault);
	if (r < 0)
		return refuse(f, RTBP_E_BUSY, "no memory");
	if (r > 0) {
		snprintf(f->buf, sizeof(f->buf), "%s: %s", fault.path, fault.text);
		return refuse(f, RTBP_E_BAD_PAYLOAD, f->buf);
	}
	a->term_size = term_size(a->state) + TERM_HEADER + RTBP_KEY_MAX;
	if (a->state.size > RTBP_STATE_MAX || b->size > RTBP_STATE_MAX) {
		snprintf(f->buf, sizeof(f->buf), "the state has %zu bytes as JSON, the limit is %d",
			 b->size, RTBP_STATE_MAX);
		return refuse(f, RTBP_E_BAD_PAYLOAD, f->buf);
	}
	return 0;
}

static int read_ask(struct hub *hub, struct rtbp_val params, struct track_ask *a,
		    struct track_fault *f)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_KEY);

	if (v.p && !rtbp_is(v, RTBP_NIL)) {
		if (!rtbp_get_str(v, &a->key) || !rtbp_key_ok(a->key))
			return refuse(f, RTBP_E_BAD_KEY, rtbp_error_sentence(RTBP_E_BAD_KEY));
	}
	v = rtbp_field(params, RTBP_F_TIMEOUT_MS);
	a->timeout_ms = TRACK_TIMEOUT_MS;
	if (v.p && (!rtbp_get_uint(v, &a->timeout_ms) || a->timeout_ms > TRACK_TIMEOUT_MAX_MS))
		return refuse(f, RTBP_E_BAD_REQUEST, "timeout_ms is an integer from 0 to 300000");
	return read_state(hub, params, a, f);
}

/* Another state of the same tracker. */
static int tracker_change(struct tracker *t, const struct track_ask *a, struct track_fault *f)
{
	struct blob *state;

	if (a->key.p && !rtbp_str_is(a->key, t->key))
		return refuse(f, RTBP_E_BAD_REQUEST,
			      "this client is shown there under another key: untrack first");
	if (t->state->size == a->state.size &&
	    memcmp(t->state->data, a->state.p, a->state.size) == 0)
		return 0;
	if (is_merged(t->peer->hub) && check_merged_size(t->slot, t, a->term_size, f) < 0)
		return -1;
	state = blob_new(a->state.p, a->state.size);
	if (!state)
		return refuse(f, RTBP_E_BUSY, "no memory");
	blob_unref(t->state);
	t->state = state;
	t->term_size = a->term_size;
	t->version = t->slot->version + 1;
	return 0;
}

static void tracker_wait(struct tracker *t, const struct request *now, uint64_t timeout_ms)
{
	struct slot *slot = t->slot;

	if (t->waiting)
		tracker_answer(t, "replaced", NULL, -1);
	peer_request_add(t->peer, &t->request, REQUEST_TRACK, now->id, now->wants_answer);
	t->waiting = true;
	if (t->version <= slot->acked_version) {
		t->told_shown = true;
		tracker_answer(t, "acked", NULL, -1);
		return;
	}
	timer_arm(&t->peer->hub->timers, &t->timer,
		  hub_now(t->peer->hub) + peer_time_left(t->peer, timeout_ms));
	if (t->version > slot->version)
		slot_changed(slot);
	else
		slot_run(slot);
}

void track_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct track_ask a = { .key = { NULL, 0 } };
	struct track_fault f = { .code = RTBP_E_BAD_REQUEST };
	struct tracker *t = NULL;
	struct chan *ch = NULL;
	int r = read_ask(p->hub, params, &a, &f);

	if (r == 0) {
		/* Who is shown already, maybe on a further link, needs no shared join made. */
		ch = request_chan(p, params, false, 0, &f.code, &f.text);
		t = ch ? tracker_find(p, ch) : NULL;
		if (!t)
			ch = request_chan(p, params, true, ACL_PRESENCE, &f.code, &f.text);
		r = ch ? 0 : -1;
	}
	/* Who is shown on a further link stays so, whatever became of the shared one. */
	if (ch && r == 0 && !t && ch->join && ch->join->state == JOIN_REJECTED)
		r = refuse(&f, join_refusal_error(ch->join), ch->join->text);
	if (t)
		r = tracker_change(t, &a, &f);
	else if (r == 0)
		r = (t = tracker_new(p, ch, &a, &f)) ? 0 : -1;
	if (r < 0 && f.code == RTBP_E_PRESENCE_TAKEN &&
	    !bucket_take(&p->hub->refusals_bucket, hub_now(p->hub), 0))
		log_notice("%s: client %" PRIu64 " (uid %u, pid %d, %s) is not shown: %s",
			   ch->topic_text, p->session, p->cred.uid, (int)p->cred.pid, p->name,
			   f.text);
	if (r < 0)
		peer_answer_error(p, &now, RTBP_M_TRACK, f.code, f.text, -1);
	else
		tracker_wait(t, &now, a.timeout_ms);
	if (r == 0)
		slot_update_owner(t->slot);
	if (ch)
		chan_update(ch);
}

void untrack_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	enum rtbp_error code = RTBP_E_BAD_REQUEST;
	const char *text = NULL;
	struct chan *ch = request_chan(p, params, false, 0, &code, &text);
	struct tracker *t = ch ? tracker_find(p, ch) : NULL;

	if (!t) {
		if (ch || !text) {
			code = RTBP_E_NOT_SUBSCRIBED;
			text = "this client does not track there";
		}
		peer_answer_error(p, &now, RTBP_M_UNTRACK, code, text, -1);
		return;
	}
	if (t->waiting)
		tracker_answer(t, "replaced", NULL, -1);
	tracker_free(t);
	peer_answer_empty(p, id, wants_answer);
}

void presence_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	enum rtbp_error code = RTBP_E_BAD_REQUEST;
	const char *text = NULL;
	struct chan *ch = request_chan(p, params, false, 0, &code, &text);
	struct sub *s = ch ? sub_find(p, ch->number) : NULL;
	struct rtbp_buf *b;
	size_t begin;

	if (!s || !s->presence) {
		if (ch || !text) {
			code = RTBP_E_NOT_SUBSCRIBED;
			text = "this client has no subscription with presence there";
		}
		peer_answer_error(p, &now, RTBP_M_PRESENCE, code, text, -1);
		return;
	}
	if (!wants_answer)
		return;
	b = hub_scratch(p->hub);
	begin = rtbp_msg_begin_result(b, id);
	room_pack(ch, false, b);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(p);
}
