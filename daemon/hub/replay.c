/* SPDX-License-Identifier: MIT */
/* replay: the stored messages that one subscription asked for (replay.h has the picture). */
#include "hub/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

static const char no_memory[] = "the daemon is out of memory";

/* ---- the wish ---- */

static void replay_late(void *ctx);

bool replay_wish(struct sub *s, uint64_t since_ms, unsigned limit)
{
	struct replay *r = calloc(1, sizeof(*r)), *old = s->replay;

	if (!r)
		return false;
	STAILQ_INIT(&r->live);
	if (old) {
		memcpy(r->ids, old->ids, sizeof(r->ids));
		r->n_ids = old->n_ids;
		r->bytes = old->bytes;
		STAILQ_CONCAT(&r->live, &old->live); /* it is owed that still */
	}
	replay_free(s);
	r->sub = s;
	r->number = s->peer->hub->next_id++;
	r->since_ms = since_ms;
	r->limit = limit;
	STAILQ_INIT(&r->stored);
	timer_init(&r->timer, replay_late, r);
	s->replay = r;
	return true;
}

/* Its own join is left to itself. */
static void let_go(struct replay *r)
{
	struct join *j = r->join;

	r->join = NULL;
	if (!j)
		return;
	j->owner = NULL;
	join_update(j);
}

void replay_free(struct sub *s)
{
	struct replay *r = s->replay;

	if (!r)
		return;
	s->replay = NULL;
	timer_disarm(&s->peer->hub->timers, &r->timer);
	kept_free_all(&r->stored);
	kept_free_all(&r->live);
	let_go(r);
	free(r);
	replays_run(s->chan);
}

struct replay *replay_find(const struct chan *ch, enum replay_state state)
{
	const struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (s->replay && s->replay->state == state)
			return s->replay;
	}
	return NULL;
}

void replays_ride_no_more(struct chan *ch)
{
	struct replay *r = replay_find(ch, REPLAY_RIDES);

	if (r)
		r->state = REPLAY_WANTED;
}

/* ---- the end ---- */

/* Else the wish waits for the channel. */
static bool is_served(const struct chan *ch)
{
	return ch->join && ch->join->state == JOIN_JOINED && !ch->hold.active;
}

static void tell_end(const struct replay *r, unsigned n, const char *text)
{
	const struct chan *ch = r->sub->chan;
	struct rtbp_buf *b = hub_scratch(ch->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_REPLAY);

	rtbp_pack_map(b, text ? 5 : 4);
	chan_pack_name(ch, b);
	rtbp_pack_field_text(b, RTBP_F_STORED,
			     text                      ? "none"
			     : r->n_stored >= r->limit ? "truncated"
						       : "replayed");
	rtbp_pack_field_uint(b, RTBP_F_N, n);
	if (text)
		rtbp_pack_field_text(b, RTBP_F_TEXT, text);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(r->sub->peer);
}

static bool is_known(const struct replay *r, uint64_t id)
{
	for (unsigned i = 0; id && i < 2 * REPLAY_MAX; i++) {
		if (r->ids[i] == id)
			return true;
	}
	return false;
}

/* Return: how many there were for this subscription. */
static unsigned deliver(struct replay *r, const struct kept_list *list, bool is_stored)
{
	struct sub *s = r->sub;
	const struct kept *k;
	unsigned n = 0;

	STAILQ_FOREACH(k, list, entry) {
		if (is_stored && k->news.id)
			r->ids[r->n_ids++ % (2 * REPLAY_MAX)] = k->news.id;
		else if (!is_stored && is_known(r, k->news.id))
			continue;
		if (!news_is_for(&k->news, s))
			continue;
		n++;
		news_give(&k->news, s);
	}
	return n;
}

/* Text: why there are none; NULL: there are. */
static void replay_end(struct replay *r, const struct kept_list *stored, const char *text)
{
	struct kept_list none = STAILQ_HEAD_INITIALIZER(none);
	struct hub *hub = r->sub->peer->hub;
	unsigned n;

	r->state = REPLAY_OVER;
	let_go(r);
	n = deliver(r, text ? &none : stored, true);
	if (r->sub->peer->state == PEER_READY)
		tell_end(r, n, text);
	(void)deliver(r, &r->live, false);
	kept_free_all(&r->stored);
	kept_free_all(&r->live);
	timer_arm(&hub->timers, &r->timer, hub_now(hub) + REPLAY_KNOWN_MS);
	replays_run(r->sub->chan);
}

void replays_lost(struct chan *ch)
{
	struct sub *s;

	ch->runs_replays = true; /* nothing new is begun meanwhile */
	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!s->replay || !s->answered || s->replay->state == REPLAY_OVER)
			continue;
		if (s->replay->state == REPLAY_ASIDE || !STAILQ_EMPTY(&s->replay->live))
			replay_end(s->replay, &s->replay->stored,
				   "the channel was interrupted in the meantime");
	}
	ch->runs_replays = false;
}

void replay_rode(struct replay *r, struct kept_list *stored, unsigned n_stored, const char *text)
{
	r->n_stored = n_stored;
	r->failed = text;
	r->state = REPLAY_HERE;
	STAILQ_CONCAT(&r->stored, stored);
	if (r->sub->answered)
		replay_answered(r->sub);
}

static void replay_late(void *ctx)
{
	struct replay *r = ctx;

	if (r->state == REPLAY_OVER)
		replay_free(r->sub);
	else if (is_served(r->sub->chan))
		replay_end(r, &r->stored,
			   r->join && r->join->text[0] ? r->join->text : "it was not done in time");
}

/* ---- a join of its own ---- */

static bool aside_wanted(const struct join *j)
{
	return j->owner != NULL;
}

static void aside_config(const struct join *j, struct join_config *ret)
{
	const struct replay *r = j->owner;

	ret->replay_since_ms = r->since_ms;
	ret->replay_limit = r->limit;
}

static void aside_changed(struct join *j)
{
	struct replay *r = j->owner;

	if (!r)
		return;
	if (j->state == JOIN_JOINED)
		join_probe(j);
	else if (j->refused || j->state == JOIN_REJECTED)
		replay_end(r, &r->stored, j->text);
}

static void aside_lost(struct join *j, const char *code, const char *text)
{
	struct replay *r = j->owner;

	(void)code;
	if (r && text[0])
		replay_end(r, &r->stored, text);
}

static void aside_message(struct join *j, const struct phx_msg *msg)
{
	struct replay *r = j->owner;
	struct news news;

	/* The channel's own join brings what is live. */
	if (!r || msg->kind != PHX_BROADCAST || !news_is_replayed(msg) || r->n_stored >= REPLAY_MAX)
		return;
	r->n_stored++;
	if (!news_pack(r->sub->chan, msg, &news)) {
		r->failed = no_memory;
		return;
	}
	r->stored_bytes += news.notice->size;
	if (r->stored_bytes > REPLAY_BYTES)
		r->failed = hold_too_much;
	else if (!kept_add(&r->stored, &news))
		r->failed = no_memory;
	blob_unref(news.notice);
}

static void aside_probed(struct join *j, uint64_t ref, bool answered)
{
	struct replay *r = j->owner;

	(void)ref;
	if (r)
		replay_end(r, &r->stored,
			   answered ? r->failed : "the server did not answer in time");
}

static void aside_dead(struct join *j)
{
	struct replay *r = j->owner;

	if (!r)
		return;
	r->join = NULL;
	replay_end(r, &r->stored, j->text[0] ? j->text : "the channel was left");
}

static const struct join_ops aside_ops = {
	.wanted = aside_wanted,
	.config = aside_config,
	.changed = aside_changed,
	.lost = aside_lost,
	.message = aside_message,
	.probed = aside_probed,
	.dead = aside_dead,
};

static void go_aside(struct replay *r)
{
	struct sub *s = r->sub;
	struct chan *ch = s->chan;
	struct hub *hub = ch->hub;
	const char *text = NULL;
	struct link *link;
	char why[JOIN_WHY_MAX], topic[101];

	r->state = REPLAY_ASIDE;
	hub_copy_text(ch->topic, topic, sizeof(topic));
	snprintf(why, sizeof(why), "stored messages of channel %s, which is joined already", topic);
	ch->held = true;
	link = link_place(hub, s->peer->cred.uid, s->peer, ch->topic, why, &text);
	ch->held = false;
	if (link) {
		r->join = join_new(link, ch->topic, ch->is_private, ch->identity, &aside_ops, r);
		link_update(link);
	}
	if (!r->join) {
		replay_end(r, &r->stored, text ? text : no_memory);
		return;
	}
	join_set_cause(r->join, s->peer->cred.uid, why);
	join_update(r->join);
}

static void run_one(struct replay *r)
{
	struct chan *ch = r->sub->chan;

	if (hub_now(ch->hub) < ch->join->no_replay_before_ms)
		replay_end(r, &r->stored, "the server refused to replay messages of this channel");
	else
		go_aside(r);
}

/* Who has waited longest: who asks again and again is behind the others each time. */
static struct replay *next_replay(const struct chan *ch)
{
	struct timers *timers = &ch->hub->timers;
	struct replay *r, *found = NULL;
	const struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		r = s->replay;
		if (!r || !s->answered || r->state != REPLAY_WANTED)
			continue;
		if (!r->timer.armed)
			timer_arm(timers, &r->timer, hub_now(ch->hub) + REPLAY_MS);
		if (!found || r->number < found->number)
			found = r;
	}
	return found;
}

void replays_run(struct chan *ch)
{
	struct replay *r;

	if (!is_served(ch) || ch->runs_replays || ch->hub->dying)
		return;
	ch->runs_replays = true;
	/* A connection has one join of a topic: one at a time is as fast, and leaves room. */
	while ((r = next_replay(ch)) && !replay_find(ch, REPLAY_ASIDE))
		run_one(r);
	ch->runs_replays = false;
}

void replay_answered(struct sub *s)
{
	struct replay *r = s->replay;

	if (r && r->state == REPLAY_HERE)
		replay_end(r, &r->stored, r->failed);
	else if (r && r->state == REPLAY_WANTED)
		replays_run(s->chan);
}

bool replay_takes(struct sub *s, const struct news *news)
{
	struct replay *r = s->replay;

	if (!r)
		return false;
	if (r->state == REPLAY_OVER)
		return is_known(r, news->id);
	/* Live ones come behind the stored ones. */
	if (r->state == REPLAY_RIDES || (r->state == REPLAY_WANTED && !s->answered))
		return false;
	r->bytes += sizeof(struct kept) + news->notice->size;
	if (r->bytes <= HOLD_BYTES && kept_add(&r->live, news))
		return true;
	r->failed = hold_too_much;
	if (s->answered)
		replay_end(r, &r->stored, r->failed);
	else
		kept_free_all(&r->live); /* they came before the answer */
	return false;
}
