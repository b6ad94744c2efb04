/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A session between a clock that the test moves and recorders: everything the session does goes
 * into one line of text, which check_log() compares and clears.
 */
#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/session.h"

enum { HEARTBEAT = 25000, REPLY = 10000, JITTER = HEARTBEAT * 8 / 100 };

static uint64_t now;
static struct session *s;
static struct session_conf conf;
static char recorded[16384];
static uint64_t epoch;         /* of the last open */
static uint64_t heartbeat_ref; /* of the last heartbeat sent */
static uint64_t heartbeat_at;
static unsigned n_heartbeats;
static int open_result, send_result;
static void (*on_event)(const char *what, uint64_t n); /* what a callback does besides */

static inline void record(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void record(const char *format, ...)
{
	size_t n = strlen(recorded);
	va_list args;

	va_start(args, format);
	vsnprintf(recorded + n, sizeof(recorded) - n, format, args);
	va_end(args);
	ck_assert_uint_lt(strlen(recorded), sizeof(recorded) - 1);
}

static inline void check_log(const char *want)
{
	ck_assert_str_eq(recorded, want);
	recorded[0] = 0;
}

static inline uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return now;
}

static inline int64_t fake_wall(void *ctx)
{
	(void)ctx;
	return 1000000 + (int64_t)now;
}

static const struct clock fake_clock = { fake_now, fake_wall, NULL, NULL };

static inline int fake_open(void *ctx, uint64_t e)
{
	(void)ctx;
	ck_assert_uint_gt(e, epoch);
	epoch = e;
	record("open%d ", (int)e);
	return open_result;
}

static inline int fake_send(void *ctx, uint64_t e, bool binary, const void *data, size_t size)
{
	char text[256];
	char *at;

	(void)ctx;
	ck_assert_uint_eq(e, epoch);
	ck_assert_uint_lt(size, sizeof(text));
	memcpy(text, data, size);
	text[size] = 0;
	if (send_result)
		return send_result;
	at = strstr(text, "\"phoenix\",\"heartbeat\"");
	if (!at) {
		record("send%s:%s ", binary ? "-binary" : "", text);
		return 0;
	}
	ck_assert_int_eq(sscanf(text, "[null,\"%lu\"", &heartbeat_ref), 1);
	heartbeat_at = now;
	n_heartbeats++;
	record("heartbeat ");
	return 0;
}

static inline void fake_close(void *ctx, uint64_t e, uint16_t code)
{
	(void)ctx;
	ck_assert_uint_eq(e, epoch);
	record("close%u ", code);
}

static inline void event(const char *what, uint64_t n)
{
	if (on_event)
		on_event(what, n);
}

static inline void fake_online(void *ctx)
{
	(void)ctx;
	record("online ");
	event("online", 0);
}

static inline void fake_offline(void *ctx)
{
	(void)ctx;
	record("offline ");
	event("offline", 0);
}

static inline void fake_changed(void *ctx)
{
	static const char *const names[] = { "idle", "connecting", "ONLINE", "backoff",
					     "draining" };
	struct session_status st;

	(void)ctx;
	session_get_status(s, &st);
	record("[%s%s] ", names[st.state], st.stalled ? " stalled" : "");
	event("changed", 0);
}

static inline void fake_message(void *ctx, const struct phx_msg *m)
{
	(void)ctx;
	record("message:%.*s ", (int)m->event.size, m->event.p);
	event("message", 0);
}

static inline void fake_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
			      struct rtbp_val response)
{
	static const char *const names[] = { "ok", "error", "lost", "timeout" };

	(void)ctx;
	ck_assert_int_eq(response.p != NULL, result <= SESSION_ERROR && cookie < 900);
	record("%s(%d)#%d ", names[result], (int)cookie, (int)ref);
	event("reply", cookie);
}

static const struct session_ops fake_ops = {
	.open = fake_open,
	.send = fake_send,
	.close = fake_close,
	.online = fake_online,
	.offline = fake_offline,
	.changed = fake_changed,
	.message = fake_message,
};

static inline void setup(void)
{
	now = 5000000;
	recorded[0] = 0;
	epoch = heartbeat_ref = heartbeat_at = n_heartbeats = 0;
	open_result = send_result = 0;
	on_event = NULL;
	conf = (struct session_conf){ .vsn = PHX_VSN_2,
				      .heartbeat_ms = HEARTBEAT,
				      .heartbeat_reply_ms = REPLY,
				      .backoff_min_ms = 1000,
				      .backoff_max_ms = 30000,
				      .stable_ms = 30000,
				      .seed = 42 };
	s = session_new(&conf, &fake_clock, &fake_ops, NULL);
	ck_assert_ptr_nonnull(s);
}

static inline void teardown(void)
{
	s = session_free(s);
}

/* The owner's loop: whatever falls due until `until` happens at its time. */
static inline void run_until(uint64_t until)
{
	uint64_t at;

	for (unsigned n = 0; (at = session_deadline(s)) <= until; n++) {
		ck_assert_uint_lt(n, 10000); /* a deadline that a tick does not move */
		if (at > now)
			now = at;
		session_tick(s);
	}
	now = until;
}

static inline void frame(const char *text)
{
	session_on_frame(s, epoch, false, text, strlen(text));
}

static inline void reply(uint64_t ref, const char *topic, const char *status)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "[null,\"%d\",\"%s\",\"phx_reply\",{\"status\":\"%s\",\"response\":{}}]", (int)ref,
		 topic, status);
	frame(text);
}

static inline void answer_heartbeat(void)
{
	reply(heartbeat_ref, "phoenix", "ok");
}

static inline void closed(enum session_fault fault)
{
	struct session_end end = { .fault = fault, .text = "it ended" };

	session_on_closed(s, epoch, &end);
}

static inline void closed_after(enum session_fault fault, uint32_t retry_after_s)
{
	struct session_end end = { .fault = fault, .retry_after_s = retry_after_s };

	session_on_closed(s, epoch, &end);
}

static inline void go_online(void)
{
	session_start(s);
	session_on_opened(s, epoch);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	recorded[0] = 0;
}

/* Pushes a frame {cookie}; returns its ref. */
static inline uint64_t push(uint64_t cookie, uint32_t timeout_ms, bool is_join)
{
	struct session_push p = { .ref = session_next_ref(s),
				  .is_join = is_join,
				  .timeout_ms = timeout_ms,
				  .fn = fake_reply,
				  .cookie = cookie };
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)cookie);
	ck_assert_int_eq(session_push(s, &p, text, strlen(text)), 0);
	return p.ref;
}

static inline struct session_status status(void)
{
	struct session_status st;

	session_get_status(s, &st);
	return st;
}

static inline int run(const char *name, void (*add)(TCase *))
{
	TCase *tc = tcase_create(name);
	Suite *suite = suite_create(name);
	SRunner *runner;
	int n;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	add(tc);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n ? EXIT_FAILURE : EXIT_SUCCESS;
}
