/* SPDX-License-Identifier: MIT */
/*
 * Sockets of the core. A socket is open until ds_core_gone(); in between it may be
 *   stuck:   a join is being worked on, so nothing of this socket moves, in or out;
 *   closing: its close was asked for, frames of both directions are dropped.
 */
#include "auth_int.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>

struct ds_conf ds_conf_default(void)
{
	return (struct ds_conf){
		.idle_ms = 60000,
		.resubscribe_ms = 1000,
		.frame_max_bytes = 5000000,
		.payload_max_bytes = 3000500,
		.out_max_bytes = 50000000,
		.channels_max = 100,
		.rate_tick_ms = 5000,
		.presence_max = 5,
		.presence_window_ms = 30000,
		.token_life_s = 3600,
		.reuse_interval_ms = 10000,
		.seed = 1,
	};
}

struct ds_core *ds_core_new(const struct ds_conf *conf, const struct ds_ops *ops)
{
	struct ds_core *c = ds_alloc(sizeof(*c));

	c->conf = *conf;
	c->ops = *ops;
	c->next_id = 1;
	TAILQ_INIT(&c->sockets);
	TAILQ_INIT(&c->rules);
	TAILQ_INIT(&c->ghosts);
	TAILQ_INIT(&c->log);
	TAILQ_INIT(&c->posted);
	TAILQ_INIT(&c->stored);
	TAILQ_INIT(&c->asked);
	return c;
}

struct ds_core *ds_core_free(struct ds_core *c)
{
	struct ds_socket *s;

	if (!c)
		return NULL;
	ds_rules_clear(&c->rules);
	while ((s = TAILQ_FIRST(&c->sockets)) != NULL) {
		s->closing = true;
		ds_core_gone(c, s);
	}
	while (!TAILQ_EMPTY(&c->ghosts))
		ds_presence_ghost_gone(c, TAILQ_FIRST(&c->ghosts)->serial);
	ds_timers_done(&c->timers);
	while (!TAILQ_EMPTY(&c->log))
		ds_log_drop(c);
	while (!TAILQ_EMPTY(&c->posted))
		ds_web_drop(c);
	while (!TAILQ_EMPTY(&c->stored))
		ds_stored_drop(c);
	while (!TAILQ_EMPTY(&c->asked))
		ds_auth_log_drop(c);
	ds_auth_free(c->auth);
	ds_policies_free(c->policies);
	free(c);
	return NULL;
}

const struct ds_conf *ds_core_conf(const struct ds_core *c)
{
	return &c->conf;
}

void ds_core_clock(struct ds_core *c, int64_t mono_ms, int64_t wall_ms)
{
	c->mono_ms = mono_ms;
	c->wall_ms = wall_ms;
}

int64_t ds_core_deadline(const struct ds_core *c)
{
	return ds_timers_next(&c->timers);
}

bool ds_core_muted(const struct ds_core *c)
{
	return c->muted;
}

/* splitmix64: refs need to differ and to repeat with the seed, no more. */
uint64_t ds_random(struct ds_core *c)
{
	uint64_t z = c->conf.seed * 0x9e3779b97f4a7c15u + ++c->n_random * 0xbf58476d1ce4e5b9u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static int by_id(const void *a, const void *b)
{
	const struct ds_socket *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

struct ds_socket *ds_socket_by_id(struct ds_core *c, uint64_t id)
{
	struct ds_socket key = { .id = id };
	struct ds_socket **hit = tfind(&key, &c->by_id, by_id);

	return hit ? *hit : NULL;
}

static void arm_idle(struct ds_core *c, struct ds_socket *s)
{
	struct ds_timer t = { .kind = DS_TIMER_IDLE, .socket_id = s->id };

	t.due_ms = s->heard_ms + c->conf.idle_ms;
	ds_timers_add(&c->timers, t);
}

struct ds_socket *ds_core_open(struct ds_core *c, void *conn, struct ds_str vsn,
			       struct ds_str apikey)
{
	struct ds_socket *s = ds_alloc(sizeof(*s));

	s->conn = conn;
	s->id = c->next_id++;
	s->vsn = vsn.p && vsn.n && vsn.p[0] == '2' ? DS_VSN_2 : DS_VSN_1;
	s->apikey = ds_str_dup(apikey);
	s->heard_ms = c->mono_ms;
	TAILQ_INIT(&s->channels);
	TAILQ_INIT(&s->held);
	TAILQ_INIT(&s->waiting);
	TAILQ_INSERT_TAIL(&c->sockets, s, link);
	if (!tsearch(s, &c->by_id, by_id))
		abort();
	c->n_sockets++;
	c->n_opened++;
	arm_idle(c, s);
	return s;
}

static void held_free(struct ds_held *h)
{
	ds_buf_done(&h->frame);
	free(h);
}

void ds_core_gone(struct ds_core *c, struct ds_socket *s)
{
	struct ds_held *h;
	struct ds_channel *ch;

	s->closing = true;
	while ((ch = TAILQ_FIRST(&s->channels)) != NULL)
		ds_channel_end(c, ch);
	while ((h = TAILQ_FIRST(&s->held)) != NULL) {
		TAILQ_REMOVE(&s->held, h, link);
		held_free(h);
	}
	ds_outage_gone(s);
	ds_limit_gone(c, s);
	tdelete(s, &c->by_id, by_id);
	TAILQ_REMOVE(&c->sockets, s, link);
	c->n_sockets--;
	ds_buf_done(&s->rows);
	free(s->apikey);
	free(s);
}

void ds_socket_close(struct ds_core *c, struct ds_socket *s, int code)
{
	if (s->closing)
		return;
	s->closing = true;
	c->ops.close(s->conn, code);
}

void ds_core_shutdown(struct ds_core *c)
{
	struct ds_socket *s;

	TAILQ_FOREACH(s, &c->sockets, link)
		ds_socket_close(c, s, 1012);
}

struct ds_held *ds_socket_hold(struct ds_socket *s, enum ds_held_kind kind, struct ds_str frame,
			       bool first)
{
	struct ds_held *h = ds_alloc(sizeof(*h));

	h->kind = kind;
	ds_buf_str(&h->frame, frame);
	s->held_bytes += frame.n + sizeof(*h);
	if (first)
		TAILQ_INSERT_HEAD(&s->held, h, link);
	else
		TAILQ_INSERT_TAIL(&s->held, h, link);
	return h;
}

/* As the real server's heap limit: a socket that hoards is killed without a close frame. */
static void hold_or_drop(struct ds_core *c, struct ds_socket *s, enum ds_held_kind kind,
			 bool binary, struct ds_str frame)
{
	if (s->held_bytes + frame.n > c->conf.out_max_bytes)
		ds_socket_close(c, s, 0);
	else
		ds_socket_hold(s, kind, frame, false)->binary = binary;
}

void ds_socket_send(struct ds_core *c, struct ds_socket *s, bool binary, struct ds_str frame)
{
	if (s->closing || c->muted)
		return;
	if (s->stuck || (s->queueing && !TAILQ_EMPTY(&s->held))) {
		hold_or_drop(c, s, DS_HELD_OUT, binary, frame);
		return;
	}
	s->n_sent++;
	c->n_sent++;
	c->ops.send(s->conn, binary, frame);
}

void ds_socket_stick(struct ds_core *c, struct ds_socket *s, int64_t ms)
{
	struct ds_timer t = { .kind = DS_TIMER_UNSTICK, .socket_id = s->id };

	s->stuck = true;
	t.due_ms = c->mono_ms + ms;
	ds_timers_add(&c->timers, t);
}

void ds_reply(struct ds_core *c, struct ds_socket *s, struct ds_str join_ref,
	      const struct ds_msg *m, const char *status, struct ds_str response)
{
	struct ds_timer t = { .kind = DS_TIMER_SEND, .socket_id = s->id };
	struct ds_rule_hit hit;
	struct ds_buf b = { 0 };

	if (ds_rules_use(&c->rules, DS_RULE_DROP_REPLY, m->topic, m->event, &hit)) {
		free(hit.text);
		return;
	}
	ds_phx_reply(&b, s->vsn, join_ref, m->ref, m->topic_json, status, response);
	if (ds_rules_use(&c->rules, DS_RULE_DELAY_REPLY, m->topic, m->event, &hit)) {
		free(hit.text);
		t.due_ms = c->mono_ms + hit.ms;
		t.frame = b;
		ds_timers_add(&c->timers, t);
		return;
	}
	ds_socket_send(c, s, false, ds_buf_view(&b));
	ds_buf_done(&b);
}

void ds_reply_reason(struct ds_core *c, struct ds_socket *s, struct ds_str join_ref,
		     const struct ds_msg *m, struct ds_str reason)
{
	struct ds_buf b = { 0 };

	ds_buf_text(&b, "{\"reason\":");
	ds_buf_json(&b, reason);
	ds_buf_byte(&b, '}');
	ds_reply(c, s, join_ref, m, "error", ds_buf_view(&b));
	ds_buf_done(&b);
}

static bool is(struct ds_str s, const char *text)
{
	return s.p && ds_str_eq(s, ds_str(text));
}

/* The join_ref that a message must carry to reach the channel, and a leave in any case. */
static bool ref_fits(const struct ds_channel *ch, const struct ds_msg *m)
{
	return ds_str_eq(m->join_ref, ds_str(ch->join_ref)) ||
	       ds_str_eq(m->join_ref, ds_str(ch->push_ref));
}

static void on_message(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m)
{
	struct ds_channel *ch;

	if (is(m->topic, "phoenix") && is(m->event, "heartbeat")) {
		s->n_heartbeats++;
		c->n_heartbeats++;
		if (!s->no_beats)
			ds_reply(c, s, DS_NULL, m, "ok", DS_EMPTY);
		return;
	}
	if (is(m->event, "phx_join") && m->topic.p && m->topic.n >= strlen(DS_TOPIC_HEAD) &&
	    memcmp(m->topic.p, DS_TOPIC_HEAD, strlen(DS_TOPIC_HEAD)) == 0) {
		ds_join(c, s, m);
		return;
	}
	ch = m->topic.p ? ds_channel_by_topic(s, m->topic_json) : NULL;
	if (!ch) {
		if (is(m->event, "phx_leave"))
			ds_reply(c, s, m->join_ref, m, "ok", DS_EMPTY);
		else
			ds_reply_reason(c, s, DS_NULL, m, DS_STR("unmatched topic"));
		return;
	}
	if ((c->conf.strict_refs || is(m->event, "phx_leave")) && !ref_fits(ch, m))
		return;
	/* A channel of the real server is a process of its own: its answers come behind what waits
	 * for the socket already. */
	s->queueing = s->draining;
	ds_channel_message(c, ch, m);
	s->queueing = false;
}

/* A test wants this join to take its time: the socket stands still, then the join is done. */
static bool delay_join(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m, bool binary,
		       struct ds_str frame)
{
	struct ds_rule_hit hit;
	struct ds_held *h;

	if (!is(m->event, "phx_join") ||
	    !ds_rules_use(&c->rules, DS_RULE_DELAY_JOIN, m->topic, m->event, &hit))
		return false;
	free(hit.text);
	h = ds_socket_hold(s, DS_HELD_IN, frame, true);
	h->binary = binary;
	h->no_delay = true;
	ds_socket_stick(c, s, hit.ms);
	return true;
}

/* A join that the database has to be asked about: the socket stands still until it has answered. */
static bool ask_first(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m, bool binary,
		      struct ds_str frame)
{
	struct ds_held *h;

	if (!ds_replay_ask(c, s, m))
		return false;
	h = ds_socket_hold(s, DS_HELD_IN, frame, true);
	h->binary = binary;
	h->no_delay = true;
	s->stuck = true;
	return true;
}

static void work(struct ds_core *c, struct ds_socket *s, bool binary, struct ds_str frame,
		 bool no_delay)
{
	struct ds_msg m;

	if (!ds_msg_decode(s->vsn, binary, frame, &m))
		return;
	if ((no_delay || !delay_join(c, s, &m, binary, frame)) &&
	    !ds_outage_holds(c, s, &m, binary, frame) && !ask_first(c, s, &m, binary, frame)) {
		on_message(c, s, &m);
		s->rows.len = 0;
		s->rows_here = false;
	}
	ds_msg_done(&m);
}

void ds_socket_work(struct ds_core *c, struct ds_socket *s, bool binary, struct ds_str frame)
{
	if (s->stuck)
		hold_or_drop(c, s, DS_HELD_IN, binary, frame);
	else
		work(c, s, binary, frame, false);
}

void ds_core_frame(struct ds_core *c, struct ds_socket *s, bool binary, struct ds_str frame)
{
	s->n_received++;
	c->n_received++;
	if (!s->closing && !c->muted)
		ds_socket_work(c, s, binary, frame);
}

void ds_core_ping(struct ds_core *c, struct ds_socket *s, struct ds_str payload)
{
	if (s->closing || c->muted)
		return;
	if (s->stuck)
		hold_or_drop(c, s, DS_HELD_PING, false, payload);
	else
		c->ops.pong(s->conn, payload);
}

void ds_core_bye(struct ds_core *c, struct ds_socket *s, int code)
{
	if (s->stuck && !s->closing)
		ds_socket_hold(s, DS_HELD_BYE, DS_STR(""), false)->code = code;
	else
		c->ops.bye(s->conn, code);
}

void ds_core_alive(struct ds_core *c, struct ds_socket *s)
{
	s->heard_ms = c->mono_ms;
}

/* After DS_HELD_BYE the socket is gone. */
static void release(struct ds_core *c, struct ds_socket *s, const struct ds_held *h)
{
	struct ds_str frame = ds_buf_view(&h->frame);

	switch (h->kind) {
	case DS_HELD_IN:
		if (!c->muted)
			work(c, s, h->binary, frame, h->no_delay);
		break;
	case DS_HELD_PING:
		ds_core_ping(c, s, frame);
		break;
	case DS_HELD_OUT:
		ds_socket_send(c, s, h->binary, frame);
		break;
	case DS_HELD_CLOSE:
		ds_socket_close(c, s, h->code);
		break;
	case DS_HELD_BYE:
		c->ops.bye(s->conn, h->code);
		break;
	}
}

static void unstick(struct ds_core *c, struct ds_socket *s)
{
	struct ds_held *h;
	bool bye = false;

	if (s->stalled)
		return;
	s->stuck = false;
	s->draining = true;
	while (!bye && !s->stuck && !s->closing && (h = TAILQ_FIRST(&s->held)) != NULL) {
		TAILQ_REMOVE(&s->held, h, link);
		s->held_bytes -= h->frame.len + sizeof(*h);
		bye = h->kind == DS_HELD_BYE;
		release(c, s, h);
		held_free(h);
	}
	if (!bye)
		s->draining = false;
}

void ds_socket_resume(struct ds_core *c, struct ds_socket *s)
{
	unstick(c, s);
}

void ds_socket_stall(struct ds_core *c, struct ds_socket *s, bool on)
{
	if (on == s->stalled)
		return;
	s->stalled = on;
	s->stuck = true;
	if (!on)
		unstick(c, s);
}

void ds_core_pg_replayed(struct ds_core *c, uint64_t socket_id, struct ds_str rows)
{
	struct ds_socket *s = ds_socket_by_id(c, socket_id);

	if (!s || s->closing)
		return;
	s->rows.len = 0;
	ds_buf_str(&s->rows, rows);
	s->rows_here = true;
	unstick(c, s);
}

static void fire(struct ds_core *c, struct ds_timer *t)
{
	struct ds_socket *s = ds_socket_by_id(c, t->socket_id);
	struct ds_channel *ch = s && t->serial ? ds_channel_by_serial(s, t->serial) : NULL;

	if (t->kind == DS_TIMER_LEAVE)
		ds_presence_ghost_gone(c, t->serial);
	if (!s || s->closing)
		return;
	switch (t->kind) {
	case DS_TIMER_LEAVE:
		break;
	case DS_TIMER_IDLE:
		/* A socket that is stuck hears nothing, not even how late it is. */
		if (s->stuck)
			s->heard_ms = c->mono_ms;
		if (c->mono_ms - s->heard_ms >= c->conf.idle_ms)
			ds_socket_close(c, s, 1000);
		else
			arm_idle(c, s);
		break;
	case DS_TIMER_UNSTICK:
		unstick(c, s);
		break;
	case DS_TIMER_SEND:
		ds_socket_send(c, s, false, ds_buf_view(&t->frame));
		break;
	case DS_TIMER_STATE:
		if (ch)
			ds_presence_state(c, ch, ds_buf_view(&t->frame));
		break;
	case DS_TIMER_EXPIRY:
		if (ch)
			ds_expire(c, ch);
		break;
	case DS_TIMER_SUBSCRIBE:
		if (ch)
			ds_pg_subscribe(c, ch);
		break;
	case DS_TIMER_READY:
		if (ch)
			ds_replication_ready(c, ch, t->frame.len > 0);
		break;
	}
}

void ds_core_tick(struct ds_core *c)
{
	struct ds_timer t;

	while (ds_timers_take(&c->timers, c->mono_ms, &t)) {
		fire(c, &t);
		ds_buf_done(&t.frame);
	}
}
