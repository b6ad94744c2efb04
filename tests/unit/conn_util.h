/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A conn under test: the owner above it as a recorder, a client's end of the socket beside it.
 */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/conn.h"
#include "loop_util.h"
#include "proto/rtbp_buf.h"
#include "proto/rtbp_frame.h"

enum { FRAME_MAX = 100 * 1000, QUEUE_MAX = 200 * 1000 };

/* The owner as a recorder, with a client's end of the socket beside it. */
struct side {
	struct conn *conn;
	int client;
	unsigned n_frames, n_oversize, n_closed;
	size_t oversize;
	struct rtbp_buf bodies; /* all bodies, a '|' after each */
	char end[128];
	void (*on_frame)(struct side *s); /* what the owner does inside the callback */
	void (*on_oversize)(struct side *s);
	bool inside_call; /* a conn_*() call is running: no ops may come */
	bool free_in_closed, stop_when_closed;
};

static struct loop *loop;
static struct side side;
static unsigned fds_before;

static inline void on_frame(void *ctx, const uint8_t *body, size_t size)
{
	struct side *s = ctx;

	ck_assert(!s->inside_call);
	ck_assert_uint_eq(s->n_closed, 0);
	s->n_frames++;
	rtbp_buf_put(&s->bodies, body, size);
	rtbp_buf_byte(&s->bodies, '|');
	if (s->on_frame)
		s->on_frame(s);
}

static inline void on_oversize(void *ctx, size_t size)
{
	struct side *s = ctx;

	s->n_oversize++;
	s->oversize = size;
	if (s->on_oversize)
		s->on_oversize(s);
}

static inline void on_closed(void *ctx, const char *text)
{
	struct side *s = ctx;

	ck_assert(!s->inside_call);
	s->n_closed++;
	snprintf(s->end, sizeof(s->end), "%s", text);
	if (s->free_in_closed)
		s->conn = conn_free(s->conn);
	if (s->stop_when_closed)
		loop_stop(loop);
}

static const struct conn_ops ops = { on_frame, on_oversize, on_closed };
static const struct conn_cred cred = { .uid = 1, .gid = 2, .pid = 3 };

static inline void side_open(struct side *s, int type, size_t queue_max)
{
	int pair[2];

	*s = (struct side){ 0 };
	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	s->client = pair[1];
	ck_assert_int_eq(conn_new(loop, pair[0], &cred, FRAME_MAX, queue_max, &ops, s, &s->conn),
			 0);
}

static inline void side_leave(struct side *s)
{
	if (s->client >= 0)
		close(s->client);
	s->client = -1;
}

static inline void side_close(struct side *s)
{
	side_leave(s);
	s->conn = conn_free(s->conn);
	rtbp_buf_done(&s->bodies);
}

static inline void setup(void)
{
	fds_before = open_fds();
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	side_open(&side, SOCK_STREAM, QUEUE_MAX);
}

static inline void teardown(void)
{
	side_close(&side);
	loop_free(loop);
	ck_assert_uint_eq(open_fds(), fds_before);
}

/* ---- the client's side ---- */

static inline void client_write(const void *bytes, size_t size)
{
	ck_assert_int_eq(send(side.client, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

static inline void client_frame(const char *body)
{
	uint8_t frame[1024];
	size_t size = strlen(body);

	rtbp_put_length(frame, size);
	memcpy(frame + 4, body, size);
	client_write(frame, size + 4);
}

/* What is there for the client at this moment, up to `max`. */
static inline size_t client_take(void *to, size_t max)
{
	size_t got = 0;
	ssize_t n;

	while (got < max) {
		n = recv(side.client, (char *)to + got, max - got, 0);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static inline bool client_sees_end(void)
{
	char byte;

	return recv(side.client, &byte, 1, 0) == 0;
}

static inline void expect_bodies(const char *text)
{
	ck_assert_uint_eq(side.bodies.size, strlen(text));
	ck_assert_mem_eq(side.bodies.data, text, strlen(text));
}

static inline void expect_end(const char *text)
{
	ck_assert_uint_eq(side.n_closed, 1);
	ck_assert_str_eq(side.end, text);
	run_turn(loop);
	run_turn(loop);
	ck_assert_uint_eq(side.n_closed, 1);
}

static inline int send_text(const char *text)
{
	struct blob *b = blob_new(text, strlen(text));
	int r;

	side.inside_call = true;
	r = conn_send(side.conn, b);
	side.inside_call = false;
	blob_unref(b);
	return r;
}

static inline void finish(const char *farewell, bool drop)
{
	struct blob *b = farewell ? blob_new(farewell, strlen(farewell)) : NULL;

	side.inside_call = true;
	conn_finish(side.conn, b, drop);
	side.inside_call = false;
	blob_unref(b);
}
