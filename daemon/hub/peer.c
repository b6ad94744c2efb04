/* SPDX-License-Identifier: MIT */
/*
 * peer: one attached process: its requests are unpacked and handed on, what it is owed is queued,
 * and there is one door out, with a reason.
 *
 *     NEW --hello--> READY --peer_end()--> CLOSING --closed--> GONE --turn's end--> freed
 *       \------------------ connection closed -----------------^
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

static void peer_reap_later(struct peer *p)
{
	if (p->reaped)
		return;
	p->reaped = true;
	TAILQ_INSERT_TAIL(&p->hub->reap_peers, p, reap_entry);
	hub_wake(p->hub);
}

void peer_end(struct peer *p, enum rtbp_error code, const char *text, bool drop)
{
	struct rtbp_buf *b = hub_scratch(p->hub);
	struct blob *farewell;
	size_t begin;

	if (p->state >= PEER_CLOSING)
		return;
	p->state = PEER_CLOSING;
	timer_disarm(&p->hub->timers, &p->hello_timer);
	begin = rtbp_msg_begin_notice(b, RTBP_N_ERROR);
	rtbp_pack_map(b, 1);
	rtbp_pack_field(b, RTBP_F_ERROR);
	rtbp_pack_error(b, code, text, -1);
	(void)rtbp_msg_end(b, begin);
	farewell = hub_scratch_blob(p->hub);
	log_info("client %" PRIu64 " (uid %u, pid %d, %s): closing: %s: %s", p->session,
		 p->cred.uid, (int)p->cred.pid, p->name, rtbp_error_name(code),
		 text ? text : rtbp_error_sentence(code));
	p->io->finish(p->io_ctx, farewell, drop);
	blob_unref(farewell);
	peer_reap_later(p);
}

void peer_send(struct peer *p, struct blob *blob)
{
	char text[128];
	int r;

	if (!blob || p->state >= PEER_CLOSING)
		return;
	r = p->io->send(p->io_ctx, blob);
	if (r == 0)
		return;
	if (r == -ENOMEM) {
		peer_end(p, RTBP_E_NO_MEMORY, NULL, true);
		return;
	}
	p->hub->counters.slow_consumers++;
	snprintf(text, sizeof(text), "%zu bytes were waiting to be read, the limit is %zu",
		 p->io->queued_bytes(p->io_ctx), p->hub->conf.peer_queue_bytes);
	log_warning("client %" PRIu64 " (uid %u, pid %d, %s) does not read: %s; closing it",
		    p->session, p->cred.uid, (int)p->cred.pid, p->name, text);
	peer_end(p, RTBP_E_SLOW_CONSUMER, text, true);
}

void peer_send_scratch(struct peer *p)
{
	struct blob *blob = hub_scratch_blob(p->hub);

	if (!blob)
		peer_end(p, RTBP_E_NO_MEMORY, NULL, true);
	peer_send(p, blob);
	blob_unref(blob);
}

void peer_answer_error(struct peer *p, const struct request *r, enum rtbp_method m,
		       enum rtbp_error code, const char *text, int64_t retry_after_ms)
{
	struct rtbp_buf *b = hub_scratch(p->hub);
	size_t begin;

	if (r->wants_answer) {
		(void)rtbp_msg_put_error(b, r->id, code, text, retry_after_ms);
	} else {
		begin = rtbp_msg_begin_notice(b, RTBP_N_ERROR);
		rtbp_pack_map(b, m == RTBP_N_METHODS ? 1 : 2);
		if (m != RTBP_N_METHODS)
			rtbp_pack_field_text(b, RTBP_F_METHOD, rtbp_method_name(m));
		rtbp_pack_field(b, RTBP_F_ERROR);
		rtbp_pack_error(b, code, text, retry_after_ms);
		(void)rtbp_msg_end(b, begin);
	}
	peer_send_scratch(p);
}

void peer_answer_empty(struct peer *p, uint32_t id, bool wants_answer)
{
	struct rtbp_buf *b = hub_scratch(p->hub);
	size_t begin;

	if (!wants_answer)
		return;
	begin = rtbp_msg_begin_result(b, id);
	rtbp_pack_map(b, 0);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(p);
}

/* ---- the list of unanswered requests ---- */

void peer_request_add(struct peer *p, struct request *r, enum request_kind kind, uint32_t id,
		      bool wants_answer)
{
	struct request *held;

	r->kind = kind;
	r->id = id;
	r->wants_answer = wants_answer;
	/* What is being carried out came before what is still held. */
	TAILQ_FOREACH(held, &p->requests, entry) {
		if (p->releasing && held->kind == REQUEST_HELD)
			break;
	}
	if (held)
		TAILQ_INSERT_BEFORE(held, r, entry);
	else
		TAILQ_INSERT_TAIL(&p->requests, r, entry);
}

uint64_t peer_time_left(const struct peer *p, uint64_t ms)
{
	return ms > p->late_ms ? ms - p->late_ms : 0;
}

void peer_request_done(struct peer *p, struct request *r)
{
	TAILQ_REMOVE(&p->requests, r, entry);
	sync_check(p);
}

/* Backpressure: a peer is not read further while many of its sends are on their way, which takes a
 * moment. What waits for its channel may wait long, and the peer's other requests want to be heard:
 * there broadcast_request() answers "busy" instead. */
void peer_update_pause(struct peer *p)
{
	bool pause;

	if (p->given.n >= PEER_SENDS_MAX || p->given.bytes >= PEER_SEND_BYTES_MAX)
		p->is_full = true;
	else if (p->given.n <= PEER_SENDS_MAX / 2 && p->given.bytes <= PEER_SEND_BYTES_MAX / 2)
		p->is_full = false;
	pause = p->is_full || p->report.waits;
	if (pause != p->paused && p->state < PEER_CLOSING) {
		p->paused = pause;
		p->io->pause(p->io_ctx, pause);
	}
}

/* ---- requests ---- */

static void copy_text(struct rtbp_val v, char *to, size_t size)
{
	struct rtbp_str s = { "", 0 };

	if (rtbp_get_str(v, &s) && !rtbp_utf8_valid(s.p, s.size))
		s = (struct rtbp_str){ "?", 1 };
	hub_copy_text(s, to, size); /* shown by `status` and in the log */
}

static void hello_answer(struct peer *p, uint32_t id, const struct grant *g)
{
	static const char *const features[] = { "broadcast", "sync.upstream",    "presence",
						"gap",       "postgres_changes", "auth",
						"http",      "outcome",          "replay",
						"system" };
	struct hub *hub = p->hub;
	struct rtbp_buf *b = hub_scratch(hub);
	size_t begin = rtbp_msg_begin_result(b, id);

	rtbp_pack_map(b, g ? 7 : 6);
	rtbp_pack_field_uint(b, RTBP_F_PROTOCOL, RTBP_PROTOCOL);
	rtbp_pack_field(b, RTBP_F_SERVER);
	rtbp_pack_map(b, 2);
	rtbp_pack_field_text(b, RTBP_F_NAME, "rtbridged");
	rtbp_pack_field_text(b, RTBP_F_VERSION, RTB_VERSION);
	rtbp_pack_field_uint(b, RTBP_F_SESSION, p->session);
	rtbp_pack_field(b, RTBP_F_LIMITS);
	rtbp_pack_map(b, hub->conf.payload_bytes ? 11 : 10);
	rtbp_pack_field_uint(b, RTBP_F_FRAME_BYTES, hub->conf.peer_frame_bytes);
	rtbp_pack_field_uint(b, RTBP_F_QUEUE_BYTES, hub->conf.peer_queue_bytes);
	rtbp_pack_field_uint(b, RTBP_F_TOPIC_BYTES, RTBP_TOPIC_MAX);
	rtbp_pack_field_uint(b, RTBP_F_EVENT_BYTES, RTBP_EVENT_MAX);
	rtbp_pack_field_uint(b, RTBP_F_KEY_BYTES, RTBP_KEY_MAX);
	rtbp_pack_field_uint(b, RTBP_F_STATE_BYTES, RTBP_STATE_MAX);
	rtbp_pack_field_uint(b, RTBP_F_BINDING_BYTES, RTBP_BINDING_MAX);
	rtbp_pack_field_uint(b, RTBP_F_BINDINGS, hub->conf.max_bindings);
	rtbp_pack_field_uint(b, RTBP_F_DEPTH, 64);
	rtbp_pack_field_uint(b, RTBP_F_SUBSCRIPTIONS, hub->conf.max_subscriptions);
	if (hub->conf.payload_bytes)
		rtbp_pack_field_uint(b, RTBP_F_PAYLOAD_BYTES, hub->conf.payload_bytes);
	rtbp_pack_field(b, RTBP_F_FEATURES);
	rtbp_pack_array(b, sizeof(features) / sizeof(*features));
	for (size_t i = 0; i < sizeof(features) / sizeof(*features); i++)
		rtbp_pack_text(b, features[i]);
	rtbp_pack_field(b, RTBP_F_CONNECTION);
	report_pack_connection(hub, NULL, b);
	if (g)
		auth_pack(g, b);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(p);
}

static void hello_request(struct peer *p, uint32_t id, struct rtbp_val params)
{
	struct rtbp_val client = rtbp_field(params, RTBP_F_CLIENT);
	struct grant *g;
	struct rtbp_buf *b;
	uint64_t protocol;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_PROTOCOL), &protocol) ||
	    protocol != RTBP_PROTOCOL) {
		b = hub_scratch(p->hub);
		(void)rtbp_msg_put_error(b, id, RTBP_E_VERSION, "this daemon speaks protocol 1",
					 -1);
		peer_send_scratch(p);
		peer_end(p, RTBP_E_VERSION, "this daemon speaks protocol 1", false);
		return;
	}
	if (!auth_hello(p, id, rtbp_field(params, RTBP_F_TOKEN), &g))
		return; /* it may say hello again, while there is time */
	copy_text(rtbp_field(client, RTBP_F_NAME), p->name, sizeof(p->name));
	copy_text(rtbp_field(client, RTBP_F_VERSION), p->version, sizeof(p->version));
	timer_disarm(&p->hub->timers, &p->hello_timer);
	p->state = PEER_READY;
	log_info("client %" PRIu64 " attached: uid %u, pid %d, %s %s", p->session, p->cred.uid,
		 (int)p->cred.pid, p->name, p->version);
	hello_answer(p, id, g);
}

void peer_carry_out(struct peer *p, enum rtbp_method m, uint32_t id, bool wants_answer,
		    struct rtbp_val params)
{
	switch (m) {
	case RTBP_M_AUTH:
		auth_request(p, id, wants_answer, params);
		break;
	case RTBP_M_SUBSCRIBE:
		subscribe_request(p, id, wants_answer, params);
		break;
	case RTBP_M_UNSUBSCRIBE:
		unsubscribe_request(p, id, wants_answer, params);
		break;
	case RTBP_M_BROADCAST:
		broadcast_request(p, id, wants_answer, params);
		break;
	case RTBP_M_OUTCOME:
		outcome_request(p, id, wants_answer, params);
		break;
	case RTBP_M_STATUS:
	case RTBP_M_CHANNELS:
	case RTBP_M_CLIENTS:
		report_request(p, m, id, wants_answer);
		break;
	case RTBP_M_RECONNECT:
		reconnect_request(p, id, wants_answer);
		break;
	case RTBP_M_REFRESH_TOKEN:
		refresh_request(p, id, wants_answer, params);
		break;
	case RTBP_M_SYNC:
		sync_request(p, id, wants_answer, params);
		break;
	case RTBP_M_TRACK:
		track_request(p, id, wants_answer, params);
		break;
	case RTBP_M_UNTRACK:
		untrack_request(p, id, wants_answer, params);
		break;
	case RTBP_M_PRESENCE:
		presence_request(p, id, wants_answer, params);
		break;
	case RTBP_M_HELLO: /* the first one only, which is not carried out here */
	case RTBP_N_METHODS:
		break;
	}
}

static void peer_request(struct peer *p, const struct rtbp_msg *m)
{
	struct request now = { .id = m->id, .wants_answer = m->type == RTBP_REQUEST };
	int method = rtbp_method_find(m->method.p, m->method.size);
	char text[128];

	if (method < 0) {
		snprintf(text, sizeof(text), "no method \"%.*s\"; this daemon speaks protocol %d",
			 (int)(m->method.size < 64 ? m->method.size : 64), m->method.p,
			 RTBP_PROTOCOL);
		if (!rtbp_utf8_valid(text, strlen(text)))
			snprintf(text, sizeof(text), "the method's name is no text");
		peer_answer_error(p, &now, RTBP_N_METHODS, RTBP_E_UNKNOWN_METHOD, text, -1);
		return;
	}
	if (p->state == PEER_NEW && (method != RTBP_M_HELLO || !now.wants_answer)) {
		peer_answer_error(p, &now, (enum rtbp_method)method, RTBP_E_HELLO_FIRST, NULL, -1);
		return;
	}
	if (method == RTBP_M_HELLO && p->state == PEER_NEW)
		hello_request(p, m->id, m->params);
	else if (method == RTBP_M_HELLO)
		peer_answer_error(p, &now, RTBP_M_HELLO, RTBP_E_BAD_REQUEST,
				  "hello was said already", -1);
	else if (held_must(p, (enum rtbp_method)method))
		held_add(p, (enum rtbp_method)method, m->id, now.wants_answer, m->params);
	else
		peer_carry_out(p, (enum rtbp_method)method, m->id, now.wants_answer, m->params);
}

/* ---- from ipc ---- */

void hub_on_peer_frame(struct peer *p, const uint8_t *body, size_t size)
{
	struct rtbp_fault fault;
	struct rtbp_msg m;
	char text[160];

	if (p->state >= PEER_CLOSING)
		return;
	p->hub->n_frames++;
	if (rtbp_msg_parse(body, size, &m, &fault) != 0) {
		snprintf(text, sizeof(text), "byte %zu of the frame: %s", fault.offset, fault.text);
		peer_end(p, RTBP_E_PROTOCOL, text, false);
	} else if (m.type == RTBP_RESPONSE) {
		peer_end(p, RTBP_E_PROTOCOL, "a client sends no responses", false);
	} else {
		peer_request(p, &m);
	}
	/* Most requests set a timer: the owner must learn of the new deadline. */
	hub_wake(p->hub);
}

void hub_on_peer_oversize(struct peer *p, size_t size)
{
	char text[128];

	snprintf(text, sizeof(text), "a frame of %zu bytes was announced, the limit is %zu", size,
		 p->hub->conf.peer_frame_bytes);
	peer_end(p, RTBP_E_TOO_BIG, text, false);
}

static void peer_hello_late(void *ctx)
{
	peer_end(ctx, RTBP_E_HELLO_TIMEOUT, NULL, false);
}

int hub_attach(struct hub *hub, const struct peer_cred *cred, const struct peer_io *io,
	       void *io_ctx, struct peer **ret)
{
	struct peer *p = calloc(1, sizeof(*p));
	char text[96];

	if (!p)
		return -ENOMEM;
	p->hub = hub;
	p->cred = *cred;
	p->io = io;
	p->io_ctx = io_ctx;
	p->session = hub->next_session++;
	snprintf(p->name, sizeof(p->name), "?");
	TAILQ_INIT(&p->subs);
	TAILQ_INIT(&p->trackers);
	TAILQ_INIT(&p->requests);
	TAILQ_INIT(&p->grants);
	p->user = user_get(hub, cred->uid);
	if (p->user)
		p->user->n_peers++;
	timer_init(&p->report.timer, report_timer_due, p);
	timer_init(&p->hello_timer, peer_hello_late, p);
	timer_arm(&hub->timers, &p->hello_timer, hub_now(hub) + HELLO_MS);
	TAILQ_INSERT_TAIL(&hub->peers, p, entry);
	hub->n_peers++;
	*ret = p;
	hub_wake(hub);
	if (hub->drain != HUB_RUNNING) {
		peer_end(p, RTBP_E_SHUTDOWN, NULL, false);
	} else if (!access_may_attach(p)) {
		peer_end(p, RTBP_E_DENIED,
			 "no access rule allows this user anything ([access] rule)", false);
	} else if (hub->n_peers > hub->conf.max_peers) {
		snprintf(text, sizeof(text), "%u clients are attached, the limit is %u",
			 hub->n_peers - 1, hub->conf.max_peers);
		peer_end(p, RTBP_E_FULL, text, false);
	} else if (!user_may_have(hub, p->user, p->user ? p->user->n_peers : 0,
				  hub->conf.max_peers)) {
		peer_end(p, RTBP_E_FULL,
			 "this user has as many clients attached as one may: half of [limits] "
			 "clients",
			 false);
	}
	return 0;
}

void hub_on_peer_closed(struct peer *p, const char *text)
{
	if (p->state == PEER_READY)
		log_info("client %" PRIu64 " (uid %u, pid %d, %s) detached: %s", p->session,
			 p->cred.uid, (int)p->cred.pid, p->name, text);
	p->state = PEER_GONE;
	peer_reap_later(p);
}

/* ---- at the turn's end ---- */

static void peer_detach(struct peer *p)
{
	struct request *r, *next;
	struct tracker *t;
	struct sub *s;

	timer_disarm(&p->hub->timers, &p->hello_timer);
	timer_disarm(&p->hub->timers, &p->report.timer);
	sends_forget_peer(p);
	while ((t = TAILQ_FIRST(&p->trackers)))
		tracker_free(t);
	while ((s = TAILQ_FIRST(&p->subs)))
		sub_free(s);
	for (r = TAILQ_FIRST(&p->requests); r; r = next) {
		next = TAILQ_NEXT(r, entry);
		if (r->kind == REQUEST_SYNC)
			sync_free((struct sync *)((char *)r - offsetof(struct sync, request)));
		else if (r->kind == REQUEST_HELD)
			held_free(r);
		else if (r->kind == REQUEST_REFRESH)
			refresh_asked_free(
				(struct refresh_asked *)((char *)r -
							 offsetof(struct refresh_asked, request)));
	}
	auth_forget_peer(p);
}

void peer_free(struct peer *p)
{
	peer_detach(p);
	p->reaped = false;
	if (p->state != PEER_GONE)
		return;
	TAILQ_REMOVE(&p->hub->peers, p, entry);
	p->hub->n_peers--;
	if (p->user)
		p->user->n_peers--;
	users_trim(p->hub);
	free(p);
}
