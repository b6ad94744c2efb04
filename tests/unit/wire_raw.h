/* SPDX-License-Identifier: MIT */
#pragma once
/* A wire and the server that misbehaves, tests/wire/raw_server.py. */
#include "wire_util.h"

static struct server server;

static inline void start_server(void)
{
	const char *const argv[] = { RTB_PYTHON, RTB_WIRE_TESTS "/raw_server.py", NULL };

	server_start(&server, argv);
}

static inline void stop_server(void)
{
	server_stop(&server);
}

static inline void raw_open(struct rig *rig, unsigned link, const char *path)
{
	rig_open(rig, link, false, "127.0.0.1", server_port(&server, "raw"), path);
}

static inline void close_when_answered(struct rig *rig, unsigned link)
{
	wire_close(rig->w, link, rig->recs[link].epoch, 1000);
}

/* The wire still works: open, echo, close. */
static inline void expect_works(struct rig *rig)
{
	struct rec *rec = &rig->recs[0];

	raw_open(rig, 0, "/echo");
	rig_until(rig, rec->n_opened == 1 || rec->n_closed == 1);
	ck_assert_msg(rec->n_opened == 1, "%s", rec->end.text);
	ck_assert_int_eq(wire_send(rig->w, 0, rec->epoch, false, "hello", 5), 0);
	rig->on_message = close_when_answered;
	ck_assert_int_eq(rig_until_closed(rig, 0)->why, WIRE_BY_US);
	rig->on_message = NULL;
	ck_assert_uint_eq(rec->n_messages, 1);
	ck_assert_str_eq(rec->text, "hello");
	ck_assert(rec->end.was_open);
}

static inline void send_something(struct rig *rig, unsigned link)
{
	ck_assert_int_eq(wire_send(rig->w, link, rig->recs[link].epoch, false, "x", 1), 0);
}
