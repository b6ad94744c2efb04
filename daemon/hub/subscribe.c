/* SPDX-License-Identifier: MIT */
/*
 * subscribe: what one peer wants from one channel. The answer to `subscribe` is the first thing
 * that a peer gets about it; `answered` guards that: hub_deliver() and the notices pass over a
 * subscription until then.
 */
#include <errno.h>
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

struct sub *sub_find(struct peer *p, uint64_t chan)
{
	struct sub *s;

	TAILQ_FOREACH(s, &p->subs, in_peer) {
		if (s->join->chan == chan)
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
	struct join *j = s->join;

	sub_stop_waiting(s);
	TAILQ_REMOVE(&s->peer->subs, s, in_peer);
	s->peer->n_subs--;
	TAILQ_REMOVE(&j->subs, s, in_join);
	j->n_subs--;
	events_free(s->events, s->n_events);
	free(s);
	join_update(j);
}

/* ---- answers and notices ---- */

static void pack_state(struct rtbp_buf *b, struct join *j)
{
	rtbp_pack_field_uint(b, RTBP_F_CHAN, j->chan);
	rtbp_pack_field(b, RTBP_F_TOPIC);
	rtbp_pack_str(b, j->topic.p, j->topic.size);
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE, j->is_private);
	rtbp_pack_field_text(b, RTBP_F_STATE, join_state_name(j));
}

static void sub_answer(struct sub *s)
{
	struct peer *p = s->peer;
	struct rtbp_buf *b;
	size_t begin;

	s->answered = true;
	if (s->waiting && s->request.wants_answer) {
		b = hub_scratch(p->hub);
		begin = rtbp_msg_begin_result(b, s->request.id);
		rtbp_pack_map(b, 4);
		pack_state(b, s->join);
		(void)rtbp_msg_end(b, begin);
		peer_send_scratch(p);
	}
	sub_stop_waiting(s);
}

static void sub_notice(struct sub *s)
{
	struct join *j = s->join;
	struct hub *hub = j->hub;
	struct rtbp_buf *b = hub_scratch(hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_CHANNEL), map = rtbp_pack_map_begin(b);
	uint16_t n = 4;

	pack_state(b, j);
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

/* A refusal answers those who ask; it ends those who are new, those who had the channel before keep
 * their wish. */
static void sub_refused(struct sub *s)
{
	struct request r = s->request;

	if (s->waiting)
		peer_answer_error(s->peer, &r, RTBP_M_SUBSCRIBE, RTBP_E_REJECTED, s->join->text,
				  -1);
	if (s->answered)
		sub_stop_waiting(s);
	else
		sub_free(s);
}

void subs_on_join_state(struct join *j)
{
	struct sub *s, *next;

	for (s = TAILQ_FIRST(&j->subs); s; s = next) {
		next = TAILQ_NEXT(s, in_join);
		if (s->peer->state != PEER_READY)
			continue;
		if (s->answered)
			sub_notice(s);
		if (s->waiting && j->state == JOIN_JOINED)
			sub_answer(s);
		else if (s->waiting && j->state == JOIN_REJECTED)
			sub_refused(s);
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
	struct join *j = s->join;
	const char *text = j->text[0] ? j->text : NULL;

	if (s->keep || s->answered) {
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

/* Return: NULL and the wish; or what is wrong, with the code. */
static const char *wish_read(struct rtbp_val params, struct wish *w, enum rtbp_error *code)
{
	struct rtbp_val v, broadcast = rtbp_field(params, RTBP_F_BROADCAST);
	struct rtbp_str wait;

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
	v = rtbp_field(params, RTBP_F_TIMEOUT_MS);
	w->timeout_ms = SUBSCRIBE_TIMEOUT_MS;
	if (v.p && (!rtbp_get_uint(v, &w->timeout_ms) || w->timeout_ms > SUBSCRIBE_TIMEOUT_MAX_MS))
		return "timeout_ms is an integer from 0 to 300000";
	if (broadcast.p && !rtbp_is(broadcast, RTBP_MAP))
		return "broadcast is a map";
	if (!optional_bool(rtbp_field(broadcast, RTBP_F_SELF), &w->self))
		return "broadcast.self is a boolean";
	return wish_events(rtbp_field(broadcast, RTBP_F_EVENTS), w, code);
}

static struct sub *sub_new(struct peer *p, struct join *j)
{
	struct sub *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->peer = p;
	s->join = j;
	timer_init(&s->timer, sub_timeout, s);
	TAILQ_INSERT_TAIL(&p->subs, s, in_peer);
	p->n_subs++;
	TAILQ_INSERT_TAIL(&j->subs, s, in_join);
	j->n_subs++;
	j->sender_only = false;
	return s;
}

/* The wish is put in force; the answer comes now or with the join. */
static void subscribe_apply(struct peer *p, struct sub *s, const struct request *r, struct wish *w)
{
	struct join *j = s->join;

	if (s->waiting)
		sub_answer(s); /* an earlier request for the same channel: superseded, told how
				  things stand */
	events_free(s->events, s->n_events);
	s->events = w->events;
	s->n_events = w->n_events;
	w->events = NULL;
	w->n_events = 0;
	s->self = w->self;
	s->keep = w->keep;
	peer_request_add(p, &s->request, REQUEST_SUBSCRIBE, r->id, r->wants_answer);
	s->waiting = true;
	if (j->state == JOIN_JOINED) {
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
	struct join *j = NULL;
	struct sub *s;
	enum rtbp_error code;
	const char *text = wish_read(params, &w, &code);
	int r;

	if (!text) {
		r = join_get(p->hub, w.topic, w.is_private, &j, &text);
		code = r == -ENOMEM ? RTBP_E_BUSY : (enum rtbp_error)r;
		if (r == -ENOMEM)
			text = "no memory";
	}
	if (text) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, code, text, -1);
		events_free(w.events, w.n_events);
		return;
	}
	s = sub_find(p, j->chan);
	if (!s && p->n_subs >= p->hub->conf.max_subscriptions) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, RTBP_E_TOO_MANY,
				  "this client has as many subscriptions as it may", -1);
	} else if (!s && !(s = sub_new(p, j))) {
		peer_answer_error(p, &now, RTBP_M_SUBSCRIBE, RTBP_E_BUSY, "no memory", -1);
	} else {
		subscribe_apply(p, s, &now, &w);
	}
	events_free(w.events, w.n_events);
	join_update(j);
}

void unsubscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct sub *s = NULL;
	struct rtbp_str topic;
	struct rtbp_buf *b;
	struct join *j;
	bool all = false, is_private = false;
	uint64_t chan;
	size_t begin;

	(void)rtbp_get_bool(rtbp_field(params, RTBP_F_ALL), &all);
	(void)rtbp_get_bool(rtbp_field(params, RTBP_F_PRIVATE), &is_private);
	if (all) {
		while ((s = TAILQ_FIRST(&p->subs)))
			sub_end(s);
	} else {
		if (rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &chan)) {
			s = sub_find(p, chan);
		} else if (rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic)) {
			j = join_find(p->hub, topic, is_private);
			s = j ? sub_find(p, j->chan) : NULL;
		} else {
			peer_answer_error(p, &now, RTBP_M_UNSUBSCRIBE, RTBP_E_BAD_REQUEST,
					  "name the subscription by chan, or by topic, or say all",
					  -1);
			return;
		}
		if (!s) {
			peer_answer_error(p, &now, RTBP_M_UNSUBSCRIBE, RTBP_E_NOT_SUBSCRIBED, NULL,
					  -1);
			return;
		}
		sub_end(s);
	}
	if (wants_answer) {
		b = hub_scratch(p->hub);
		begin = rtbp_msg_begin_result(b, id);
		rtbp_pack_map(b, 0);
		(void)rtbp_msg_end(b, begin);
		peer_send_scratch(p);
	}
}
