/* SPDX-License-Identifier: MIT */
/*
 * subscribe: what one peer wants from one channel. The answer to `subscribe` is the first thing
 * that a peer gets about it; `answered` guards that: hub_deliver() and the notices pass over a
 * subscription until then.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/impl.h"

/* What a subscribe request says, unpacked. `events` is given to the sub. */
struct wish {
	struct rtbp_str topic;
	bool is_private, self, keep;
	uint64_t timeout_ms;
	char **events;
	unsigned n_events;
	bool wait_joined, presence;
	unsigned presence_events;
	char *presence_key; /* given to the sub, too */
};

static void events_free(char **events, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(events[i]);
	free(events);
}

bool sub_wants(const struct sub *s, struct rtbp_str event)
{
	if (!s->events)
		return true;
	for (unsigned i = 0; i < s->n_events; i++) {
		if (rtbp_str_is(event, s->events[i]))
			return true;
	}
	return false;
}

struct sub *sub_find(struct peer *p, uint64_t number)
{
	struct sub *s;

	TAILQ_FOREACH(s, &p->subs, in_peer) {
		if (s->chan->number == number)
			return s;
	}
	return NULL;
}

static void sub_stop_waiting(struct sub *s)
{
	timer_disarm(&s->peer->hub->timers, &s->timer);
	if (s->waiting) {
		s->waiting = false;
		peer_request_done(s->peer, &s->request);
	}
}

void sub_free(struct sub *s)
{
	struct chan *ch = s->chan;

	sub_stop_waiting(s);
	TAILQ_REMOVE(&s->peer->subs, s, in_peer);
	s->peer->n_subs--;
	TAILQ_REMOVE(&ch->subs, s, in_chan);
	ch->n_subs--;
	events_free(s->events, s->n_events);
	free(s->presence_key);
	free(s);
	chan_update(ch);
}

/* ---- answers and notices ---- */

/* Broadcasts flow, but who is there is still to come. */
static bool waits_for_room(const struct sub *s)
{
	return s->presence && s->chan->join->state == JOIN_JOINED &&
	       (s->behind || s->chan->room.state == ROOM_PENDING);
}

static void pack_state(struct rtbp_buf *b, const struct sub *s)
{
	const struct chan *ch = s->chan;

	chan_pack_name(ch, b);
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE, ch->is_private);
	rtbp_pack_field_text(b, RTBP_F_STATE, waits_for_room(s) ? "joined" : chan_state_name(ch));
}

static void sub_answer(struct sub *s)
{
	struct peer *p = s->peer;
	struct rtbp_buf *b;
	size_t begin;

	s->answered = true;
	s->behind = false;
	s->has_snapshot = s->presence && s->chan->room.state == ROOM_OK;
	if (s->has_snapshot && !room_fits_queue(s))
		room_fall_behind(s);
	if (s->waiting && s->request.wants_answer) {
		b = hub_scratch(p->hub);
		begin = rtbp_msg_begin_result(b, s->request.id);
		rtbp_pack_map(b, s->presence ? 5 : 4);
		pack_state(b, s);
		if (s->presence) {
			rtbp_pack_field(b, RTBP_F_PRESENCE);
			room_pack(s->chan, s->behind, b);
		}
		(void)rtbp_msg_end(b, begin);
		peer_send_scratch(p);
	}
	sub_stop_waiting(s);
}

void sub_notice(struct sub *s)
{
	struct join *j = s->chan->join;
	struct hub *hub = j->hub;
	struct rtbp_buf *b = hub_scratch(hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_CHANNEL), map = rtbp_pack_map_begin(b);
	uint16_t n = 4;

	pack_state(b, s);
	if (s->presence) {
		rtbp_pack_field_text(b, RTBP_F_PRESENCE,
				     s->behind ? "pending" : room_state_name(s->chan));
		n++;
	}
	if (j->code[0]) {
		rtbp_pack_field_text(b, RTBP_F_CODE, j->code);
		rtbp_pack_field_text(b, RTBP_F_TEXT, j->text);
		n = (uint16_t)(n + 2);
	}
	if (j->state == JOIN_WAITING && j->retry_at_ms > hub_now(hub)) {
		rtbp_pack_field_uint(b, RTBP_F_RETRY_IN_MS, j->retry_at_ms - hub_now(hub));
		n++;
	}
	rtbp_pack_map_end(b, map, n);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
}

/* The channel is back: what may have been missed. */
static void sub_gap(struct sub *s)
{
	const struct chan *ch = s->chan;
	const struct join *j = ch->join;
	struct rtbp_buf *b = hub_scratch(ch->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_GAP);

	rtbp_pack_map(b, 5);
	chan_pack_name(ch, b);
	rtbp_pack_field_uint(b, RTBP_F_FROM, (uint64_t)j->gap_from_wall_ms);
	rtbp_pack_field_uint(b, RTBP_F_TO, (uint64_t)clock_wall(ch->hub->clock));
	rtbp_pack_field_text(b, RTBP_F_CAUSE, j->gap_cause);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
}

/* A refusal answers those who ask; it ends those who are new, those who had the channel before keep
 * their wish. */
static void sub_refused(struct sub *s)
{
	struct request r = s->request;

	if (s->waiting)
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_REJECTED,
				  s->chan->join->text, -1);
	if (s->answered)
		sub_stop_waiting(s);
	else
		sub_free(s);
}

void subs_on_chan_state(struct chan *ch)
{
	struct join *j = ch->join;
	struct sub *s, *next;

	for (s = TAILQ_FIRST(&ch->subs); s; s = next) {
		next = TAILQ_NEXT(s, in_chan);
		if (s->peer->state != PEER_READY)
			continue;
		if (s->answered && j->state == JOIN_JOINED && j->gap_from_wall_ms)
			sub_gap(s);
		if (s->answered)
			sub_notice(s);
		if (s->waiting && j->state == JOIN_JOINED && (s->wait_joined || !waits_for_room(s)))
			sub_answer(s);
		else if (s->waiting && j->state == JOIN_REJECTED)
			sub_refused(s);
	}
}

void subs_on_room_settled(struct chan *ch)
{
	struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!s->presence || s->peer->state != PEER_READY)
			continue;
		if (s->answered && !s->has_snapshot && ch->room.state == ROOM_OK)
			room_tell_sync(s);
		if (s->answered)
			sub_notice(s);
		/* A rejoin may be on its way: that is waited for. */
		if (s->waiting && ch->join->state == JOIN_JOINED)
			sub_answer(s);
	}
}

/* An unsubscribe overtakes a subscribe that still waits: that one is answered, too. */
static void sub_end(struct sub *s)
{
	struct request r = s->request;

	if (s->waiting)
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_NOT_SUBSCRIBED,
				  "unsubscribed before the channel was joined", -1);
	sub_free(s);
}

static void sub_timeout(void *ctx)
{
	struct sub *s = ctx;
	struct request r = s->request;
	struct join *j = s->chan->join;
	const char *text = j->text[0] ? j->text : NULL;

	/* What is joined is kept: only its presence is still to come. */
	if (s->keep || s->answered || j->state == JOIN_JOINED) {
		sub_answer(s);
		return;
	}
	/* The server did answer, and will be asked again at retry_at_ms: no use in asking earlier.
	 */
	if (j->refused && j->state == JOIN_WAITING && j->retry_at_ms > hub_now(j->hub))
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_JOIN_FAILED, text,
				  (int64_t)(j->retry_at_ms - hub_now(j->hub)));
	else
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_TIMEOUT, text, -1);
	sub_free(s);
}

/* ---- requests ---- */

static const char *wish_events(struct rtbp_val v, struct wish *w, enum rtbp_error *code)
{
	struct rtbp_iter it;
	struct rtbp_val e;
	struct rtbp_str s;
	bool all = false;

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	if (!rtbp_iter_array(v, &it) || it.left > EVENTS_MAX)
		return "broadcast.events is an array of at most 64 strings";
	w->events = calloc(it.left + 1, sizeof(*w->events));
	if (!w->events) {
		*code = RTBP_E_BUSY;
		return "no memory";
	}
	while (rtbp_iter_next(&it, &e)) {
		*code = RTBP_E_BAD_EVENT;
		if (!rtbp_get_str(e, &s) || !rtbp_event_ok(s))
			return rtbp_error_sentence(RTBP_E_BAD_EVENT);
		all |= rtbp_str_is(s, "*");
		w->events[w->n_events] = strndup(s.p, s.size);
		if (!w->events[w->n_events]) {
			*code = RTBP_E_BUSY;
			return "no memory";
		}
		w->n_events++;
	}
	if (all) {
		events_free(w->events, w->n_events);
		w->events = NULL;
		w->n_events = 0;
	}
	return NULL;
}

static bool optional_bool(struct rtbp_val v, bool *ret)
{
	return !v.p || rtbp_is(v, RTBP_NIL) || rtbp_get_bool(v, ret);
}

static const char *wish_presence(struct rtbp_val v, struct wish *w, enum rtbp_error *code)
{
	static const char *const names[WATCH_N_EVENTS] = { "sync", "join", "leave", "update" };
	static const char wrong[] =
		"presence.events is an array of \"sync\", \"join\", \"leave\", \"update\"";
	struct rtbp_str s;
	struct rtbp_iter it;
	struct rtbp_val e;
	unsigned i;

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	*code = RTBP_E_BAD_REQUEST;
	if (!rtbp_is(v, RTBP_MAP))
		return "presence is a map";
	w->presence = true;
	e = rtbp_field(v, RTBP_F_EVENTS);
	w->presence_events = !e.p || rtbp_is(e, RTBP_NIL) ? ~0u : 0;
	if (!w->presence_events && !rtbp_iter_array(e, &it))
		return wrong;
	while (!(w->presence_events & 1u << WATCH_N_EVENTS) && rtbp_iter_next(&it, &e)) {
		if (!rtbp_get_str(e, &s))
			return wrong;
		for (i = 0; i < WATCH_N_EVENTS && !rtbp_str_is(s, names[i]);)
			i++;
		if (i == WATCH_N_EVENTS)
			return wrong;
		w->presence_events |= 1u << i;
	}
	e = rtbp_field(v, RTBP_F_KEY);
	if (!e.p || rtbp_is(e, RTBP_NIL))
		return NULL;
	*code = RTBP_E_BAD_KEY;
	if (!rtbp_get_str(e, &s) || !rtbp_key_ok(s))
		return rtbp_error_sentence(RTBP_E_BAD_KEY);
	*code = RTBP_E_BUSY;
	w->presence_key = strndup(s.p, s.size);
	return w->presence_key ? NULL : "no memory";
}

/* Return: NULL and the wish; or what is wrong, with the code. */
static const char *wish_read(struct rtbp_val params, struct wish *w, enum rtbp_error *code)
{
	struct rtbp_val v, broadcast = rtbp_field(params, RTBP_F_BROADCAST);
	struct rtbp_str wait = { "ready", 5 };
	const char *wrong;

	*code = RTBP_E_BAD_REQUEST;
	if (!rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &w->topic))
		return "topic is a string";
	if (!rtbp_topic_ok(w->topic)) {
		*code = RTBP_E_BAD_TOPIC;
		return rtbp_error_sentence(RTBP_E_BAD_TOPIC);
	}
	if (!optional_bool(rtbp_field(params, RTBP_F_PRIVATE), &w->is_private))
		return "private is a boolean";
	if (!optional_bool(rtbp_field(params, RTBP_F_KEEP), &w->keep))
		return "keep is a boolean";
	v = rtbp_field(params, RTBP_F_WAIT);
	if (v.p && (!rtbp_get_str(v, &wait) ||
		    !(rtbp_str_is(wait, "ready") || rtbp_str_is(wait, "joined"))))
		return "wait is \"ready\" or \"joined\"";
	w->wait_joined = rtbp_str_is(wait, "joined");
	v = rtbp_field(params, RTBP_F_TIMEOUT_MS);
	w->timeout_ms = SUBSCRIBE_TIMEOUT_MS;
	if (v.p && (!rtbp_get_uint(v, &w->timeout_ms) || w->timeout_ms > SUBSCRIBE_TIMEOUT_MAX_MS))
		return "timeout_ms is an integer from 0 to 300000";
	if (broadcast.p && !rtbp_is(broadcast, RTBP_MAP))
		return "broadcast is a map";
	if (!optional_bool(rtbp_field(broadcast, RTBP_F_SELF), &w->self))
		return "broadcast.self is a boolean";
	wrong = wish_events(rtbp_field(broadcast, RTBP_F_EVENTS), w, code);
	return wrong ? wrong : wish_presence(rtbp_field(params, RTBP_F_PRESENCE), w, code);
}

static struct sub *sub_new(struct peer *p, struct chan *ch)
{
	struct sub *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->peer = p;
	s->chan = ch;
	timer_init(&s->timer, sub_timeout, s);
	TAILQ_INSERT_TAIL(&p->subs, s, in_peer);
	p->n_subs++;
	TAILQ_INSERT_TAIL(&ch->subs, s, in_chan);
	ch->n_subs++;
	ch->sender_only = false;
	return s;
}

/* The key under which the peer will track itself: if it is said in time the join has it from the
 * start, and tracking costs no rejoin. */
static void claim_key(struct chan *ch, const char *key)
{
	if (!ch->key_is_made || ch->slot.n_trackers || ch->join->state != JOIN_WAITING ||
	    ch->join->live || ch->hub->conf.trackers == HUB_TRACKERS_MERGE)
		return;
	snprintf(ch->key, sizeof(ch->key), "%s", key);
	ch->key_is_made = false;
}

static void wish_put(struct sub *s, struct wish *w)
{
	events_free(s->events, s->n_events);
	s->events = w->events;
	s->n_events = w->n_events;
	w->events = NULL;
	w->n_events = 0;
	s->self = w->self;
	s->keep = w->keep;
	s->wait_joined = w->wait_joined;
	s->presence = w->presence;
	if (!s->presence)
		s->has_snapshot = s->behind = false;
	s->presence_events = w->presence_events;
	free(s->presence_key);
	s->presence_key = w->presence_key;
	w->presence_key = NULL;
	if (s->presence_key)
		claim_key(s->chan, s->presence_key);
}

/* The wish is put in force; the answer comes now or with the join. */
static void subscribe_apply(struct peer *p, struct sub *s, const struct request *r, struct wish *w)
{
	struct join *j = s->chan->join;

	if (s->waiting)
		sub_answer(s); /* an earlier request for the same channel: superseded, told how
				  things stand */
	wish_put(s, w);
	peer_request_add(p, &s->request, REQUEST_SUBSCRIBE, r->id, r->wants_answer);
	s->waiting = true;
	if (j->state == JOIN_JOINED && (s->wait_joined || !waits_for_room(s))) {
		sub_answer(s);
	} else if (j->state == JOIN_REJECTED) {
		sub_refused(s);
	} else {
		timer_arm(&p->hub->timers, &s->timer, hub_now(p->hub) + w->timeout_ms);
		join_update(j);
	}
}

void subscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct wish w = { 0 };
	struct chan *ch = NULL;
	struct sub *s;
	enum rtbp_error code;
	const char *text = wish_read(params, &w, &code);
	int r;

	if (!text) {
		r = chan_get(p, w.topic, w.is_private, &ch, &text);
		code = r == -ENOMEM ? RTBP_E_BUSY : (enum rtbp_error)r;
		if (r == -ENOMEM)
			text = "no memory";
	}
	s = ch ? sub_find(p, ch->number) : NULL;
	if (text) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, code, text, -1);
	} else if (!s && p->n_subs >= p->hub->conf.max_subscriptions) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, RTBP_E_TOO_MANY,
				  "this client has as many subscriptions as it may", -1);
	} else if (!s && !(s = sub_new(p, ch))) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, RTBP_E_BUSY, "no memory", -1);
	} else {
		subscribe_apply(p, s, &now, &w);
	}
	events_free(w.events, w.n_events);
	free(w.presence_key);
	if (ch)
		chan_update(ch);
}

void unsubscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	enum rtbp_error code = RTBP_E_BAD_REQUEST;
	const char *text = NULL;
	struct sub *s = NULL;
	struct chan *ch;
	bool all = false;

	(void)rtbp_get_bool(rtbp_field(params, RTBP_F_ALL), &all);
	if (all) {
		while ((s = TAILQ_FIRST(&p->subs)))
			sub_end(s);
	} else {
		ch = request_chan(p, params, false, &code, &text);
		s = ch ? sub_find(p, ch->number) : NULL;
		if (!s) {
			peer_answer_error(p, &now, RTBP_M_UNSUBSCRIBE,
					  ch ? RTBP_E_NOT_SUBSCRIBED : code, ch ? NULL : text, -1);
			return;
		}
		sub_end(s);
	}
	peer_answer_empty(p, id, wants_answer);
}
