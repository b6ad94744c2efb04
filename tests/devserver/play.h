/* SPDX-License-Identifier: MIT */
#pragma once
/* Plays the core without sockets: its clock, its clients, and an ear for all that it says. */
#include <check.h>
#include <stdio.h>

#include "devserver/core.h"
#include "devserver/jwt.h"

#ifdef NDEBUG
#error "tests need assertions"
#endif

#define SECRET  "a secret for tests"
#define WALL_MS 1800000000000

static struct ds_core *core;
static struct ds_buf heard; /* all frames, each followed by a newline */
static int closed_with;
static int64_t now_ms;
static int64_t wall_ahead_ms;     /* so much the wall clock was put forward */
static struct ds_socket *leaving; /* whose close is waited for */

static inline void on_send(void *conn, bool binary, struct ds_str frame)
{
	ck_assert_ptr_eq(conn, &heard);
	ck_assert(!binary);
	ds_buf_str(&heard, frame);
	ds_buf_byte(&heard, '\n');
}

static inline void on_close(void *conn, int code)
{
	ck_assert_ptr_eq(conn, &heard);
	closed_with = code;
}

static inline void on_pong(void *conn, struct ds_str payload)
{
	ck_assert_ptr_eq(conn, &heard);
	ds_buf_fmt(&heard, "pong %.*s\n", (int)payload.n, payload.p);
}

static inline void on_bye(void *conn, int code)
{
	ck_assert_ptr_eq(conn, &heard);
	ds_buf_fmt(&heard, "bye %d\n", code);
	ds_core_gone(core, leaving);
	leaving = NULL;
}

static inline void on_half_frame(void *conn, size_t size_bytes)
{
	ck_abort_msg("half frame of %zu on %p", size_bytes, conn);
}

static inline void begin(const struct ds_conf *conf)
{
	static const struct ds_ops ops = { .send = on_send,
					   .close = on_close,
					   .pong = on_pong,
					   .bye = on_bye,
					   .half_frame = on_half_frame };

	core = ds_core_new(conf, &ops);
	closed_with = 0;
	wall_ahead_ms = 0;
	now_ms = 5000;
	ds_core_clock(core, now_ms, WALL_MS);
}

static inline void end(void)
{
	core = ds_core_free(core);
	ds_buf_done(&heard);
}

/* Lets time pass from timer to timer. */
static inline void pass(int64_t ms)
{
	int64_t until = now_ms + ms, due;

	while ((due = ds_core_deadline(core)) >= 0 && due <= until) {
		if (due > now_ms)
			now_ms = due;
		ds_core_clock(core, now_ms, WALL_MS + wall_ahead_ms + now_ms - 5000);
		ds_core_tick(core);
	}
	now_ms = until;
	ds_core_clock(core, now_ms, WALL_MS + wall_ahead_ms + now_ms - 5000);
}

static inline struct ds_conf test_conf(void)
{
	struct ds_conf conf = ds_conf_default();

	conf.jwt_secret = SECRET;
	conf.idle_ms = 1000000000;
	return conf;
}

/* A token that ends @seconds after the start. */
static inline void token(struct ds_buf *b, long seconds)
{
	char claims[80];

	snprintf(claims, sizeof(claims), "{\"role\":\"anon\",\"exp\":%ld}",
		 (long)(WALL_MS / 1000) + seconds);
	ds_jwt_sign(ds_str(claims), SECRET, b);
}

static inline struct ds_socket *open_socket(long token_seconds)
{
	struct ds_buf key = { 0 };
	struct ds_socket *s;

	token(&key, token_seconds);
	ck_assert_int_eq(
		ds_core_upgrade(core, ds_str("h"), ds_str("2.0.0"), ds_buf_view(&key)).status, 0);
	s = ds_core_open(core, &heard, ds_str("2.0.0"), ds_buf_view(&key));
	ds_buf_done(&key);
	return s;
}

static inline void say(struct ds_socket *s, const char *text)
{
	ds_core_frame(core, s, false, ds_str(text));
}

/* Everything that was heard since the last call. */
static inline void expect(const char *text)
{
	ds_buf_byte(&heard, 0);
	ck_assert_str_eq(heard.data, text);
	heard.len = 0;
}

static inline void fault(const char *json)
{
	char error[200] = "";

	ck_assert_msg(ds_core_fault(core, ds_str(json), error, sizeof(error)), "%s", error);
}

/* How often @text was heard since the last call of expect() or forget(). */
static inline unsigned times(const char *text)
{
	const char *at;
	unsigned n = 0;

	ds_buf_byte(&heard, 0);
	heard.len--;
	for (at = heard.data; (at = strstr(at, text)) != NULL; at++)
		n++;
	return n;
}

static inline void forget(void)
{
	heard.len = 0;
}
