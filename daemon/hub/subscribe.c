/* SPDX-License-Identifier: MIT */
/*
 * subscribe: what one peer wants from one channel. The answer to `subscribe` is the first thing
 * that a peer gets about it; `answered` guards that: news_deliver() and the notices pass over a
 * subscription until then.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/acl.h"
#include "hub/impl.h"
#include "hub/wish.h"

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
	wants_free(s);
	replay_free(s);
	TAILQ_REMOVE(&ch->subs, s, in_chan);
	ch->n_subs--;
	ch->n_on_channel -= s->on_channel;
	wish_events_free(s->events, s->n_events);
	free(s->presence_key);
	free(s);
	chan_update(ch);
}

/* ---- answers and notices ---- */

/* How far everything is that the sub asked for. */
enum progress {
	PROGRESS_DOWN,   /* the channel, or what carries its changes, is not joined */
	PROGRESS_JOINED, /* broadcasts flow; who is there, or some changes, are still to come */
	PROGRESS_READY,
};

/* `known`: as far as the peer has an answer; else all of it. */
static enum progress sub_progress(const struct sub *s, bool known)
{
	enum wants_state wants = wants_state(s, known);

	if (s->on_channel && (s->chan->join->state != JOIN_JOINED || s->chan->hold.active))
		return PROGRESS_DOWN;
	if (!s->on_channel && wants == WANTS_DOWN)
		return PROGRESS_DOWN;
	if (s->presence && (s->behind || s->chan->room.state == ROOM_PENDING))
		return PROGRESS_JOINED;
	return wants == WANTS_SETTLED ? PROGRESS_READY : PROGRESS_JOINED;
}

static bool sub_is_rejected(const struct sub *s)
{
	return s->on_channel && s->chan->join->state == JOIN_REJECTED;
}

/* Whether what a waiting request asked for is there. */
static bool sub_may_answer(const struct sub *s)
{
	return sub_progress(s, false) >= (s->wait_joined ? PROGRESS_JOINED : PROGRESS_READY);
}

static const char *state_name(const struct sub *s, bool known)
{
	switch (sub_progress(s, known)) {
	case PROGRESS_READY:
		return "ready";
	case PROGRESS_JOINED:
		return "joined";
	case PROGRESS_DOWN:
		break;
	}
	if (s->on_channel)
		return chan_state_name(s->chan);
	for (unsigned i = 0; i < s->n_wants; i++) {
		if (s->wants[i].flowed)
			return "rejoining";
	}
	return "joining";
}

static void pack_state(struct rtbp_buf *b, const struct sub *s, bool known)
{
	chan_pack_name(s->chan, b);
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE, s->chan->is_private);
	rtbp_pack_field_text(b, RTBP_F_STATE, state_name(s, known));
}

static void sub_answer(struct sub *s)
{
	struct peer *p = s->peer;
	struct rtbp_buf *b;
	size_t begin;

	wants_tell_gaps(s);
	s->answered = true;
	s->behind = false;
	s->has_snapshot = s->presence && s->chan->room.state == ROOM_OK;
	if (s->has_snapshot && !room_fits_queue(s))
		room_fall_behind(s);
	if (s->waiting && s->request.wants_answer) {
		b = hub_scratch(p->hub);
		begin = rtbp_msg_begin_result(b, s->request.id);
		rtbp_pack_map(b, 4 + s->presence + (s->n_wants > 0));
		pack_state(b, s, false);
		if (s->presence) {
			rtbp_pack_field(b, RTBP_F_PRESENCE);
			room_pack(s->chan, s->behind, b);
		}
		if (s->n_wants)
			wants_pack(s, true, b);
		(void)rtbp_msg_end(b, begin);
		peer_send_scratch(p);
	}
	wants_answered(s, true);
	s->told_progress = sub_progress(s, true);
	system_answered(s);
	sub_stop_waiting(s);
	replay_answered(s);
}

void sub_notice(struct sub *s)
{
	struct hub *hub = s->peer->hub;
	const struct join *j = s->on_channel ? s->chan->join : NULL;
	struct rtbp_buf *b;
	size_t begin, map;
	uint16_t n = 4;

	wants_tell_gaps(s); /* before anything says that they flow */
	b = hub_scratch(hub);
	begin = rtbp_msg_begin_notice(b, RTBP_N_CHANNEL);
	map = rtbp_pack_map_begin(b);

	pack_state(b, s, true);
	if (s->presence) {
		rtbp_pack_field_text(b, RTBP_F_PRESENCE,
				     s->behind ? "pending" : room_state_name(s->chan));
		n++;
	}
	if (s->n_wants) {
		wants_pack(s, false, b);
		n++;
	}
	if (j)
		n = (uint16_t)(n + join_pack_reason(j, b));
	rtbp_pack_map_end(b, map, n);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
	wants_answered(s, false);
	s->told_progress = sub_progress(s, true);
}

/* The channel is back: what may have been missed, and what of it the server has stored. */
static void sub_gap(struct sub *s)
{
	const struct chan *ch = s->chan;
	const struct gap *gap = &ch->gap;
	struct rtbp_buf *b = hub_scratch(ch->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_GAP);

	rtbp_pack_map(b, 7);
	chan_pack_name(ch, b);
	rtbp_pack_field_uint(b, RTBP_F_FROM, (uint64_t)gap->from_wall_ms);
	rtbp_pack_field_uint(b, RTBP_F_TO, (uint64_t)gap->to_wall_ms);
	rtbp_pack_field_text(b, RTBP_F_CAUSE, gap->cause);
	rtbp_pack_field_text(b, RTBP_F_STORED, s->broadcasts ? gap->stored : "none");
	rtbp_pack_field_uint(b, RTBP_F_N, s->broadcasts ? gap->n : 0);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
	hold_deliver_stored(s);
}

/* One that is not there any more, in the words of a `channel` notice. */
static void tell_rejected(const struct sub *s, const char *code, const char *text)
{
	struct rtbp_buf *b = hub_scratch(s->peer->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_CHANNEL);

	rtbp_pack_map(b, 6);
	chan_pack_name(s->chan, b);
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE, s->chan->is_private);
	rtbp_pack_field_text(b, RTBP_F_STATE, "rejected");
	rtbp_pack_field_text(b, RTBP_F_CODE, code);
	rtbp_pack_field_text(b, RTBP_F_TEXT, text);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
}

void sub_reject(struct sub *s, enum rtbp_error error, const char *code, const char *text)
{
	struct request r = s->request;
	/* By the refusal of the join, if that was for its token. Changes may flow all the same. */
	bool has_heard = error == RTBP_E_BAD_TOKEN && !s->n_wants && sub_is_rejected(s) &&
			 join_is_refused_for_token(s->chan->join);

	if (s->peer->state == PEER_READY) {
		if (s->answered && !has_heard)
			tell_rejected(s, code, text);
		if (s->waiting)
			peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, error, text, -1);
	}
	sub_free(s);
}

/* Too many have failed, and each makes all wait: who is new is told when to come again. */
static bool sub_has_no_budget(const struct sub *s)
{
	return s->on_channel && s->chan->join->state == JOIN_WAITING && !s->answered &&
	       strcmp(s->chan->join->code, "join_budget") == 0;
}

static void sub_no_budget(struct sub *s)
{
	const struct join *j = s->chan->join;
	uint64_t now = hub_now(j->hub);
	struct request r = s->request;

	peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_JOIN_BUDGET, j->text,
			  (int64_t)(j->retry_at_ms > now ? j->retry_at_ms - now : 0));
	sub_free(s);
}

/* A refusal answers those who ask; it ends those who are new, those who had the channel before keep
 * their wish. */
static void sub_refused(struct sub *s)
{
	struct request r = s->request;

	if (s->waiting)
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, join_refusal_error(s->chan->join),
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
		if (s->peer->state != PEER_READY || !s->on_channel)
			continue;
		if (s->answered && j->state == JOIN_JOINED && ch->gap.from_wall_ms)
			sub_gap(s);
		if (s->answered)
			sub_notice(s);
		if (s->waiting && sub_may_answer(s))
			sub_answer(s);
		else if (s->waiting && j->state == JOIN_REJECTED)
			sub_refused(s);
		else if (s->waiting && sub_has_no_budget(s))
			sub_no_budget(s);
	}
}

void sub_on_changes(struct sub *s)
{
	if (s->peer->state != PEER_READY)
		return;
	if (s->answered) {
		wants_tell_gaps(s);
		if (!wants_are_told(s) || s->told_progress != (unsigned)sub_progress(s, true))
			sub_notice(s);
	}
	if (s->waiting && sub_may_answer(s))
		sub_answer(s);
}

void subs_on_room_settled(struct chan *ch)
{
	struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!s->presence || s->peer->state != PEER_READY || ch->hold.active)
			continue;
		if (s->answered && !s->has_snapshot && ch->room.state == ROOM_OK)
			room_tell_sync(s);
		if (s->answered)
			sub_notice(s);
		/* A rejoin may be on its way: that is waited for. */
		if (s->waiting && sub_may_answer(s))
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
	const struct join *j = s->chan->join;
	const char *text;

	/* What is joined is kept: only parts of it are still to come. */
	if (s->keep || s->answered || sub_progress(s, false) >= PROGRESS_JOINED) {
		sub_answer(s);
		return;
	}
	if (!s->on_channel)
		j = wants_join(s);
	text = j && j->text[0] ? j->text : NULL;
	/* The server did answer, and will be asked again at retry_at_ms: no use in asking earlier.
	 */
	if (j && j->refused && j->state == JOIN_WAITING && j->retry_at_ms > hub_now(j->hub))
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_JOIN_FAILED, text,
				  (int64_t)(j->retry_at_ms - hub_now(j->hub)));
	else
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_TIMEOUT, text,
				  j && own_is_missing_for(j) ? own_next_ms(j->hub) : -1);
	sub_free(s);
}

/* ---- requests ---- */

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
	wish_events_free(s->events, s->n_events);
	s->events = w->events;
	s->n_events = w->n_events;
	w->events = NULL;
	w->n_events = 0;
	s->chan->n_on_channel += w->on_channel;
	s->chan->n_on_channel -= s->on_channel;
	s->on_channel = w->on_channel;
	s->chan->sender_only &= !w->on_channel;
	s->broadcasts = w->broadcasts;
	s->self = w->self;
	s->keep = w->keep;
	s->wait_joined = w->wait_joined;
	s->replication_ready = w->replication_ready;
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
	int r_put;

	if (s->waiting)
		sub_answer(s); /* an earlier request for the same channel: superseded, told how
				  things stand */
	/* While places are looked for, what nobody wants may go: this channel is wanted already. */
	s->chan->n_on_channel += w->on_channel;
	r_put = wants_put(s, &w->changes);
	s->chan->n_on_channel -= w->on_channel;
	if (r_put < 0) {
		peer_answer_error(p, r, RTBP_M_SUBSCRIBE, RTBP_E_BUSY,
				  "no memory, or too many bindings of all clients", -1);
		if (!s->answered)
			sub_free(s);
		return;
	}
	wish_put(s, w);
	if (w->replay_limit && !replay_wish(s, w->replay_since_ms, w->replay_limit)) {
		peer_answer_error(p, r, RTBP_M_SUBSCRIBE, RTBP_E_BUSY, "no memory", -1);
		if (!s->answered)
			sub_free(s);
		return;
	}
	peer_request_add(p, &s->request, REQUEST_SUBSCRIBE, r->id, r->wants_answer);
	s->waiting = true;
	if (sub_may_answer(s)) {
		sub_answer(s);
	} else if (sub_is_rejected(s)) {
		sub_refused(s);
	} else if (sub_has_no_budget(s)) {
		sub_no_budget(s);
	} else {
		timer_arm(&p->hub->timers, &s->timer,
			  hub_now(p->hub) + peer_time_left(p, w->timeout_ms));
		if (s->chan->join)
			join_update(s->chan->join);
	}
}

/* Return: NULL, or what is too many. */
static const char *over_limits(const struct peer *p, const struct sub *s, const struct wish *w)
{
	const struct hub_conf *conf = &p->hub->conf;

	if (!s && p->n_subs >= conf->max_subscriptions)
		return "this client has as many subscriptions as it may";
	if (p->n_bindings - (s ? s->n_wants : 0) + w->changes.n > conf->max_bindings)
		return "this client has as many bindings as it may ([limits] bindings)";
	if (p->user && w->changes.n &&
	    !user_may_have(p->hub, p->user,
			   p->user->n_bindings - (s ? s->n_wants : 0) + w->changes.n, BINDINGS_MAX))
		return "this user has as many bindings as one may: half of those of all";
	return NULL;
}

void subscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct wish w = { 0 };
	struct chan *ch = NULL;
	struct sub *s;
	enum rtbp_error code;
	char wrong[160];
	const char *text =
		wish_read(params, p->hub->conf.max_bindings, &w, &code, wrong, sizeof(wrong));
	int r;

	if (!text) {
		r = chan_get(p, w.topic, w.is_private,
			     access_rights(w.broadcasts, w.presence, w.topic), w.on_channel, &ch,
			     &text);
		code = r == -ENOMEM ? RTBP_E_BUSY : (enum rtbp_error)r;
		if (r == -ENOMEM)
			text = "no memory";
	}
	s = ch ? sub_find(p, ch->number) : NULL;
	if (text) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, code, text, -1);
	} else if ((text = over_limits(p, s, &w))) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, RTBP_E_TOO_MANY, text, -1);
	} else if (!s && !(s = sub_new(p, ch))) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, RTBP_E_BUSY, "no memory", -1);
	} else {
		subscribe_apply(p, s, &now, &w);
	}
	wish_done(&w);
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
		ch = request_chan(p, params, false, 0, &code, &text);
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
