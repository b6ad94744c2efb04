/* SPDX-License-Identifier: MIT */
/*
 *      IDLE --start--> CONNECTING --opened--> ONLINE --closed, given up--> BACKOFF
 *                        ^   \--------------closed, failed------------------^  |
 *                        \-------deadline, and the old connection closed------/
 *      any --stop--> DRAINING --closed--> IDLE
 *
 * `below` says that wire has a connection or attempt of our epoch that it has not reported closed;
 * `live` says that the epoch is open for frames and pushes. Given up means below without live.
 */
#include "realtime/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "realtime/backoff.h"
#include "realtime/heartbeat.h"
#include "realtime/pending.h"
#include "realtime/probes.h"

enum {
	NONSENSE_MAX = 20, /* malformed frames taken within NONSENSE_MS; one more ends the link */
	NONSENSE_MS = 60000,
	POLICY_BORNE = 2, /* closes for a policy's sake; one more is taken for how it is there */
	OUT_KEEP = 4096,
	CLOSE_NORMAL = 1000,
	CLOSE_PROTOCOL = 1002,
};

struct session {
	struct session_conf conf;
	const struct clock *clock;
	const struct session_ops *ops;
	void *ctx;

	enum session_state state;
	bool wanted, below, live, stalled;
	uint64_t epoch, next_ref;
	uint64_t next_try_ms;               /* no attempt before */
	uint64_t attempt_ms;                /* when the last one was made */
	uint64_t online_ms;                 /* since when ONLINE */
	uint64_t n_online;                  /* how often */
	uint64_t n_malformed;               /* in all */
	unsigned n_policy;                  /* closes for a policy's sake in a row */
	uint64_t nonsense_ms[NONSENSE_MAX]; /* when the latest ones of this epoch came, a ring */
	size_t n_nonsense;
	int64_t since_wall_ms;
	enum session_fault fault;
	char text[256];

	struct backoff backoff;
	struct pending pending;
	struct probes probes;
	struct heartbeat heartbeat;
	struct phx_decoder decoder;
	struct rtbp_buf out; /* the heartbeat's frame */
};

struct session *session_new(const struct session_conf *conf, const struct clock *clock,
			    const struct session_ops *ops, void *ctx)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->conf = *conf;
	s->clock = clock;
	s->ops = ops;
	s->ctx = ctx;
	s->epoch = conf->epoch_base;
	s->since_wall_ms = clock_wall(clock);
	s->heartbeat.interval_ms = conf->heartbeat_ms;
	s->heartbeat.reply_ms = conf->heartbeat_reply_ms;
	s->heartbeat.rtt_ms = -1;
	backoff_init(&s->backoff, conf->backoff_min_ms, conf->backoff_max_ms, conf->seed);
	s->backoff.is_patient = true;
	pending_init(&s->pending);
	return s;
}

struct session *session_free(struct session *s)
{
	if (!s)
		return NULL;
	pending_done(&s->pending);
	probes_done(&s->probes);
	phx_decoder_done(&s->decoder);
	rtbp_buf_done(&s->out);
	free(s);
	return NULL;
}

static uint64_t now_ms(const struct session *s)
{
	return clock_now(s->clock);
}

static void set_state(struct session *s, enum session_state state)
{
	s->state = state;
	s->since_wall_ms = clock_wall(s->clock);
	s->stalled = false;
}

/* Texts from below may quote a server. */
static void set_fault(struct session *s, enum session_fault fault, const char *text)
{
	s->fault = fault;
	snprintf(s->text, sizeof(s->text), "%s", text ? text : "");
	text_clean(s->text);
}

/* ---- beginning and end of an epoch ---- */

/* Everybody who waits hears that the answer will not come. The lists are taken out first: who
 * hears it may start anew. */
static void lose(struct session *s)
{
	struct pending pending = s->pending;
	struct probes probes = s->probes;

	if (!s->live)
		return;
	s->live = false;
	pending_init(&s->pending);
	s->probes = (struct probes){ 0 };
	for (size_t i = pending.first; i < pending.end; i++) {
		const struct pending_push *p = &pending.at[i];

		if (p->fn)
			p->fn(p->ctx, p->cookie, SESSION_LOST, p->ref, (struct rtbp_val){ 0 });
	}
	for (size_t i = 0; i < probes.n; i++) {
		const struct probe *p = &probes.at[probes.first + i];

		p->fn(p->ctx, p->cookie, SESSION_LOST, p->ref, (struct rtbp_val){ 0 });
	}
	pending_done(&pending);
	probes_done(&probes);
	s->ops->offline(s->ctx);
}

/* A connection that lasted, and that carried something both ways, ends the series of failures. */
static void credit(struct session *s)
{
	if (!s->live || !s->heartbeat.answered || now_ms(s) - s->online_ms < s->conf.stable_ms)
		return;
	backoff_reset(&s->backoff);
	s->n_policy = 0;
}

/* The connection or attempt is over, or given up; the next one comes at `next_try_ms`. */
static void go_back(struct session *s, enum session_fault fault, const char *text,
		    uint64_t next_try_ms)
{
	s->next_try_ms = next_try_ms;
	set_fault(s, fault, text);
	set_state(s, SESSION_BACKOFF);
	lose(s);
	s->ops->changed(s->ctx);
}

static void failed(struct session *s, enum session_fault fault, uint32_t retry_after_s,
		   const char *text)
{
	credit(s);
	s->n_policy = fault == SESSION_FAULT_POLICY ? s->n_policy + 1 : 0;
	if (s->n_policy > POLICY_BORNE)
		fault = SESSION_FAULT_POLICY_AGAIN;
	go_back(s, fault, text, now_ms(s) + backoff_next(&s->backoff, fault, retry_after_s));
}

static void give_up(struct session *s, enum session_fault fault, uint16_t code, const char *text)
{
	s->ops->close(s->ctx, s->epoch, code);
	failed(s, fault, 0, text);
}

static void attempt(struct session *s)
{
	int r;

	s->epoch++;
	s->attempt_ms = now_ms(s);
	s->below = true;
	set_state(s, SESSION_CONNECTING);
	r = s->ops->open(s->ctx, s->epoch);
	if (r == 0) {
		s->ops->changed(s->ctx);
		return;
	}
	s->below = false;
	failed(s, SESSION_FAULT_CONNECT, 0,
	       r == -ENOMEM ? "out of memory" : "the attempt could not be started");
}

static void attempt_when_due(struct session *s)
{
	if (!s->below && now_ms(s) >= s->next_try_ms)
		attempt(s);
	else
		s->ops->changed(s->ctx);
}

/* An attempt that nobody has to wait for; but not twice in a row. */
static uint64_t at_once(const struct session *s)
{
	uint64_t now = now_ms(s), earliest = s->attempt_ms + s->conf.backoff_min_ms;

	return s->attempt_ms && earliest > now ? earliest : now;
}

static void begin(struct session *s)
{
	uint64_t earliest = at_once(s);

	if (s->next_try_ms < earliest)
		s->next_try_ms = earliest;
	set_state(s, SESSION_BACKOFF);
	attempt_when_due(s);
}

void session_start(struct session *s)
{
	if (s->wanted)
		return;
	s->wanted = true;
	if (s->state == SESSION_IDLE)
		begin(s);
}

void session_stop(struct session *s)
{
	if (!s->wanted)
		return;
	s->wanted = false;
	if (s->state == SESSION_CONNECTING || s->state == SESSION_ONLINE)
		s->ops->close(s->ctx, s->epoch, CLOSE_NORMAL);
	if (s->state == SESSION_DRAINING)
		return; /* a start in between had no effect yet */
	set_fault(s, SESSION_FAULT_NONE, NULL);
	set_state(s, s->below ? SESSION_DRAINING : SESSION_IDLE);
	s->ops->changed(s->ctx);
}

void session_reconnect(struct session *s, enum session_fault fault, const char *text)
{
	uint64_t next_try_ms = at_once(s);

	if (!s->wanted || s->state == SESSION_DRAINING)
		return;
	if (s->state == SESSION_CONNECTING || s->state == SESSION_ONLINE) {
		s->ops->close(s->ctx, s->epoch, CLOSE_NORMAL);
		credit(s);
		backoff_at_once(&s->backoff);
		go_back(s, fault, text, next_try_ms);
		return;
	}
	backoff_at_once(&s->backoff);
	s->next_try_ms = next_try_ms;
	attempt_when_due(s);
}

/* The server itself has said, or meant, "not now". */
static bool is_servers_word(enum session_fault fault)
{
	switch (fault) {
	case SESSION_FAULT_AUTH:
	case SESSION_FAULT_FORBIDDEN:
	case SESSION_FAULT_NOT_FOUND:
	case SESSION_FAULT_RATE:
	case SESSION_FAULT_SERVER:
	case SESSION_FAULT_OVERLOAD:
	case SESSION_FAULT_POLICY_AGAIN:
	case SESSION_FAULT_CONFIG:
		return true;
	default:
		return false;
	}
}

void session_poke(struct session *s)
{
	if (s->state == SESSION_ONLINE && !s->heartbeat.poked_ms)
		heartbeat_poke(&s->heartbeat, now_ms(s));
	else if (s->state == SESSION_BACKOFF && s->wanted && !is_servers_word(s->fault))
		session_reconnect(s, s->fault, s->text);
}

void session_on_opened(struct session *s, uint64_t epoch)
{
	uint64_t now = now_ms(s);

	if (epoch != s->epoch || s->state != SESSION_CONNECTING)
		return;
	s->live = true;
	s->next_ref = 1;
	s->online_ms = now;
	s->n_online++;
	s->n_nonsense = 0;
	heartbeat_begin(&s->heartbeat, now,
			backoff_random(&s->backoff, heartbeat_jitter_range(&s->heartbeat)));
	set_fault(s, SESSION_FAULT_NONE, NULL);
	set_state(s, SESSION_ONLINE);
	s->ops->online(s->ctx);
	s->ops->changed(s->ctx);
}

void session_on_closed(struct session *s, uint64_t epoch, const struct session_end *end)
{
	if (epoch != s->epoch || !s->below)
		return;
	s->below = false;
	if (s->state == SESSION_CONNECTING || s->state == SESSION_ONLINE) {
		failed(s, end->fault, end->retry_after_s, end->text);
		return;
	}
	if (s->state != SESSION_DRAINING)
		return; /* given up before; the deadline is what counts now */
	credit(s);
	set_state(s, SESSION_IDLE);
	lose(s);
	if (s->wanted && s->state == SESSION_IDLE)
		begin(s);
	else
		s->ops->changed(s->ctx);
}

/* ---- heartbeats ---- */

static int send_heartbeat(struct session *s)
{
	uint64_t ref = session_next_ref(s), now = now_ms(s);
	int r;

	rtbp_buf_reset(&s->out, OUT_KEEP);
	phx_encode(s->conf.vsn, 0, ref, "phoenix", 7, "heartbeat", "{}", 2, &s->out);
	r = s->out.error;
	if (!r)
		r = s->ops->send(s->ctx, s->epoch, false, s->out.data, s->out.size);
	if (r)
		return r;
	heartbeat_sent(&s->heartbeat, ref, now,
		       backoff_random(&s->backoff, heartbeat_jitter_range(&s->heartbeat)));
	probes_assign(&s->probes, ref);
	return 0;
}

int session_probe(struct session *s, session_reply_fn fn, void *ctx, uint64_t cookie)
{
	int r;

	if (s->state != SESSION_ONLINE)
		return -ENOTCONN;
	r = probes_add(&s->probes, fn, ctx, cookie);
	if (r || s->heartbeat.n_out)
		return r;
	r = send_heartbeat(s);
	if (r)
		probes_drop_last(&s->probes);
	return r;
}

static void on_heartbeat_answer(struct session *s, uint64_t ref, uint64_t sent_ms)
{
	uint64_t epoch = s->epoch;
	struct probe probe;

	pending_settle(&s->pending, sent_ms);
	while (s->live && s->epoch == epoch && probes_take(&s->probes, ref, &probe))
		probe.fn(probe.ctx, probe.cookie, SESSION_OK, ref, (struct rtbp_val){ 0 });
	if (s->epoch != epoch || s->state != SESSION_ONLINE)
		return;
	if (!s->heartbeat.n_out && s->probes.n && send_heartbeat(s))
		heartbeat_not_sent(&s->heartbeat, now_ms(s));
	if (s->stalled && now_ms(s) < heartbeat_late_ms(&s->heartbeat)) {
		s->stalled = false;
		s->ops->changed(s->ctx);
	}
}

static void tick_heartbeat(struct session *s)
{
	uint64_t now = now_ms(s), epoch = s->epoch;
	struct heartbeat *h = &s->heartbeat;

	if (now >= heartbeat_limit_ms(h, s->pending.n_joins)) {
		give_up(s, SESSION_FAULT_HEARTBEAT, CLOSE_NORMAL,
			h->busy_ms ? "what we send does not get through"
				   : "the server does not answer a heartbeat");
		return;
	}
	if (!s->stalled && now >= heartbeat_late_ms(h)) {
		s->stalled = true;
		s->ops->changed(s->ctx);
		if (s->epoch != epoch || s->state != SESSION_ONLINE)
			return;
	}
	if (now >= h->next_ms && send_heartbeat(s))
		heartbeat_not_sent(h, now);
}

/* ---- frames ---- */

static void on_nonsense(struct session *s, const char *text)
{
	uint64_t now = now_ms(s), *slot = &s->nonsense_ms[s->n_nonsense % NONSENSE_MAX];
	bool too_many = s->n_nonsense >= NONSENSE_MAX && now - *slot < NONSENSE_MS;
	char why[256];

	s->n_malformed++;
	s->n_nonsense++;
	*slot = now;
	log_debug("epoch %llu: a frame was dropped: %s", (unsigned long long)s->epoch, text);
	if (!too_many || s->state != SESSION_ONLINE)
		return;
	snprintf(why, sizeof(why), "more than %d malformed frames in a minute, the last: %s",
		 NONSENSE_MAX, text);
	give_up(s, SESSION_FAULT_PROTOCOL, CLOSE_PROTOCOL, why);
}

static void on_reply(struct session *s, const struct phx_msg *m)
{
	size_t n_joins = s->pending.n_joins;
	struct pending_push push;
	uint64_t ref, sent_ms;
	bool known;

	if (!phx_ref(m->ref, &ref))
		return;
	if (heartbeat_answer(&s->heartbeat, ref, now_ms(s), &sent_ms)) {
		on_heartbeat_answer(s, ref, sent_ms);
		return;
	}
	known = pending_answer(&s->pending, ref, &push);
	if (s->pending.n_joins < n_joins)
		s->heartbeat.join_done_ms = now_ms(s);
	if (known)
		push.fn(push.ctx, push.cookie, m->ok ? SESSION_OK : SESSION_ERROR, ref, m->payload);
}

void session_on_frame(struct session *s, uint64_t epoch, bool binary, const void *data, size_t size)
{
	const char *text = "";
	struct phx_msg m;
	int r;

	if (epoch != s->epoch || !s->live)
		return;
	s->heartbeat.received_ms = now_ms(s);
	r = phx_decode(&s->decoder, s->conf.vsn, binary, data, size, &m, &text);
	if (r == 0 && m.kind == PHX_REPLY)
		on_reply(s, &m);
	else if (r == 0)
		s->ops->message(s->ctx, &m);
	else if (r == PHX_E_MALFORMED)
		on_nonsense(s, text);
	else if (r < 0 && s->state == SESSION_ONLINE)
		/* What was in it is lost, and a lost message must show: as a gap. */
		give_up(s, SESSION_FAULT_LOST, CLOSE_NORMAL, "out of memory for a frame");
}

/* ---- pushes ---- */

uint64_t session_next_ref(struct session *s)
{
	return s->next_ref++;
}

int session_push(struct session *s, const struct session_push *push, const void *frame, size_t size)
{
	uint64_t now = now_ms(s);
	int r;

	if (s->state != SESSION_ONLINE)
		return -ENOTCONN;
	if (push->timeout_ms) {
		r = pending_reserve(&s->pending);
		if (r)
			return r;
	}
	r = s->ops->send(s->ctx, s->epoch, push->binary, frame, size);
	if (r == 0)
		heartbeat_room(&s->heartbeat, now);
	if (r == 0 && push->timeout_ms)
		pending_add(&s->pending, &(struct pending_push){
						 .ref = push->ref,
						 .sent_ms = now,
						 .deadline_ms = now + push->timeout_ms,
						 .cookie = push->cookie,
						 .fn = push->fn,
						 .ctx = push->ctx,
						 .is_join = push->is_join,
					 });
	return r;
}

/* Return: false when a callback ended the epoch. */
static bool expire_pushes(struct session *s)
{
	uint64_t now = now_ms(s), epoch = s->epoch;
	struct pending_push p = { .ref = 0 };

	while (pending_expire(&s->pending, now, p.ref, &p)) {
		p.fn(p.ctx, p.cookie, SESSION_TIMEOUT, p.ref, (struct rtbp_val){ 0 });
		if (!s->live || s->epoch != epoch)
			return false;
	}
	return true;
}

/* ---- time and state ---- */

uint64_t session_deadline(const struct session *s)
{
	uint64_t next = UINT64_MAX, at;

	if (s->state == SESSION_BACKOFF)
		return s->below ? UINT64_MAX : s->next_try_ms;
	if (!s->live)
		return UINT64_MAX;
	if (s->state == SESSION_ONLINE) {
		next = s->heartbeat.next_ms;
		at = heartbeat_limit_ms(&s->heartbeat, s->pending.n_joins);
		next = at < next ? at : next;
		at = s->stalled ? UINT64_MAX : heartbeat_late_ms(&s->heartbeat);
		next = at < next ? at : next;
	}
	return s->pending.next_deadline < next ? s->pending.next_deadline : next;
}

void session_tick(struct session *s)
{
	if (s->state == SESSION_BACKOFF) {
		if (!s->below && now_ms(s) >= s->next_try_ms)
			attempt(s);
		return;
	}
	if (s->live && expire_pushes(s) && s->state == SESSION_ONLINE)
		tick_heartbeat(s);
}

enum session_state session_get_state(const struct session *s)
{
	return s->state;
}

void session_get_status(const struct session *s, struct session_status *ret)
{
	uint64_t now = now_ms(s);

	*ret = (struct session_status){
		.state = s->state,
		.since_wall_ms = s->since_wall_ms,
		.fault = s->fault,
		.next_try_ms = -1,
		.rtt_ms = s->heartbeat.rtt_ms,
		.stalled = s->stalled,
		.epoch = s->epoch,
		.reconnects = s->n_online ? s->n_online - 1 : 0,
		.malformed = s->n_malformed,
	};
	memcpy(ret->text, s->text, sizeof(ret->text));
	if (s->state == SESSION_BACKOFF)
		ret->next_try_ms = s->next_try_ms > now ? (int64_t)(s->next_try_ms - now) : 0;
}

enum phx_vsn session_vsn(const struct session *s)
{
	return s->conf.vsn;
}
