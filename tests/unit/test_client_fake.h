/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A daemon played by the test: listens in a directory of its own, and says exactly what the test
 * tells it to. Client and fake share one thread: whenever the fake waits, it turns the client.
 * Include in one file of a test program only.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <rtbridge/rtbridge.h>
#include "proto/rtbp_frame.h"
#include "proto/rtbp_json.h"
#include "proto/rtbp_msg.h"

#define FAKE_UNUSED __attribute__((unused))

enum { FAKE_DEADLINE_S = 60 };

struct fake {
	char dir[64], path[96];
	int listen_fd, fd;
	struct rtbp_reader reader;
	struct rtbp_buf out;  /* what fake_flush() sends */
	size_t frame_bytes;   /* announced by hello */
	int bindings;         /* the same; 0: no database changes */
	const char *token;    /* its member about the token, as JSON; NULL: none */
	bool is_old;          /* from before tokens */
	const char *features; /* further ones, as JSON: "\"outcome\"" */
	size_t payload_bytes; /* announced by hello; 0: not */
};

static time_t fake_deadline(void)
{
	return time(NULL) + FAKE_DEADLINE_S;
}

/* Turns the client until the condition holds. */
#define UNTIL(c, cond)                                                                \
	do {                                                                          \
		time_t until_ = fake_deadline();                                      \
		while (!(cond)) {                                                     \
			ck_assert_msg(time(NULL) < until_, "not in time: %s", #cond); \
			(void)rtb_wait(c, 20);                                        \
		}                                                                     \
	} while (0)

static void fake_listen(struct fake *f)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	(void)unlink(f->path);
	strcpy(addr.sun_path, f->path);
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(f->listen_fd, 0);
	ck_assert_int_eq(bind(f->listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(listen(f->listen_fd, 16), 0);
}

FAKE_UNUSED static void fake_init(struct fake *f)
{
	*f = (struct fake){
		.listen_fd = -1, .fd = -1, .frame_bytes = RTBP_FRAME_MAX_UP, .bindings = 500
	};
	strcpy(f->dir, "/tmp/rtb-client-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	(void)snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
	rtbp_reader_init(&f->reader, RTBP_FRAME_MAX_DOWN);
}

FAKE_UNUSED static void fake_start(struct fake *f)
{
	fake_init(f);
	fake_listen(f);
}

/* The connection ends. */
FAKE_UNUSED static void fake_hang_up(struct fake *f)
{
	if (f->fd >= 0)
		(void)close(f->fd);
	f->fd = -1;
	rtbp_reader_done(&f->reader);
	rtbp_buf_reset(&f->out, 0);
}

/* Nobody listens any more. */
FAKE_UNUSED static void fake_close(struct fake *f)
{
	fake_hang_up(f);
	if (f->listen_fd >= 0)
		(void)close(f->listen_fd);
	f->listen_fd = -1;
	(void)unlink(f->path);
}

FAKE_UNUSED static void fake_stop(struct fake *f)
{
	fake_close(f);
	rtbp_buf_done(&f->out);
	ck_assert_int_eq(rmdir(f->dir), 0);
}

FAKE_UNUSED static struct rtb_client *fake_client(struct fake *f, const struct rtb_options *options)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_client *c;

	if (options)
		o = *options;
	o.socket_path = f->path;
	ck_assert_int_eq(rtb_client_new(&o, &c), 0);
	return c;
}

FAKE_UNUSED static void fake_accept(struct fake *f, struct rtb_client *c)
{
	ck_assert_int_lt(f->fd, 0);
	UNTIL(c, (f->fd = accept4(f->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
}

static int fake_read(struct fake *f)
{
	size_t room;
	uint8_t *at = rtbp_reader_room(&f->reader, 65536, &room);
	ssize_t n = recv(f->fd, at, room, 0);

	if (n > 0)
		rtbp_reader_add(&f->reader, (size_t)n);
	return n > 0;
}

/* The next message of the client. */
FAKE_UNUSED static struct rtbp_msg fake_next(struct fake *f, struct rtb_client *c)
{
	const uint8_t *body = NULL;
	struct rtbp_fault fault;
	struct rtbp_msg m;
	size_t size = 0;

	UNTIL(c, rtbp_reader_next(&f->reader, &body, &size) == RTBP_FRAME_ONE ||
			 (fake_read(f) &&
			  rtbp_reader_next(&f->reader, &body, &size) == RTBP_FRAME_ONE));
	ck_assert_int_eq(rtbp_msg_parse(body, size, &m, &fault), 0);
	return m;
}

FAKE_UNUSED static bool msg_is(const struct rtbp_msg *m, enum rtbp_method method)
{
	return rtbp_str_is(m->method, rtbp_method_name(method));
}

FAKE_UNUSED static struct rtbp_msg fake_expect(struct fake *f, struct rtb_client *c,
					       enum rtbp_method method)
{
	struct rtbp_msg m = fake_next(f, c);

	ck_assert_msg(msg_is(&m, method), "expected %s, got %.*s", rtbp_method_name(method),
		      (int)m.method.size, m.method.p);
	ck_assert_int_eq(m.type, RTBP_REQUEST);
	return m;
}

/* Is there nothing from the client? What it wanted to say has been said after a turn. */
FAKE_UNUSED static bool fake_is_quiet(struct fake *f, struct rtb_client *c)
{
	const uint8_t *body;
	size_t size;

	(void)rtb_client_process(c);
	(void)fake_read(f);
	return rtbp_reader_next(&f->reader, &body, &size) == RTBP_FRAME_NONE &&
	       rtbp_reader_partial(&f->reader) == 0;
}

/* Sends what is in `out`, turning the client when the socket is full. */
FAKE_UNUSED static void fake_flush(struct fake *f, struct rtb_client *c)
{
	size_t sent = 0;
	ssize_t n;

	ck_assert(rtbp_buf_ok(&f->out));
	UNTIL(c, (n = send(f->fd, f->out.data + sent, f->out.size - sent, MSG_NOSIGNAL),
		  sent += n > 0 ? (size_t)n : 0, sent == f->out.size));
	rtbp_buf_reset(&f->out, 65536);
}

/* ---- what it can say: into `out` ---- */

FAKE_UNUSED static void say_json(struct fake *f, const char *json)
{
	ck_assert_int_eq(rtbp_json_to_mp(json, strlen(json), 64, &f->out, NULL), 0);
}

FAKE_UNUSED static void say_result(struct fake *f, uint32_t id, const char *json)
{
	size_t begin = rtbp_msg_begin_result(&f->out, id);

	say_json(f, json);
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

FAKE_UNUSED static void say_notice(struct fake *f, enum rtbp_notice notice, const char *json)
{
	size_t begin = rtbp_msg_begin_notice(&f->out, notice);

	say_json(f, json);
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

FAKE_UNUSED static void say_hello(struct fake *f)
{
	char json[500], plan[40] = "";

	if (f->payload_bytes)
		(void)snprintf(plan, sizeof(plan), ",\"payload_bytes\":%zu", f->payload_bytes);
	(void)snprintf(json, sizeof(json),
		       "{\"protocol\":1,\"server\":{\"name\":\"fake\",\"version\":\"1\"},"
		       "\"session\":1,\"limits\":{\"frame_bytes\":%zu,\"bindings\":%d%s},"
		       "\"features\":[\"gap\"%s%s%s%s],%s%s%s"
		       "\"connection\":{\"state\":\"online\",\"since\":1700000000000}}",
		       f->frame_bytes, f->bindings, plan,
		       f->bindings ? ",\"postgres_changes\"" : "", f->is_old ? "" : ",\"auth\"",
		       f->features ? "," : "", f->features ? f->features : "",
		       f->token ? "\"token\":" : "", f->token ? f->token : "", f->token ? "," : "");
	say_result(f, 0, json);
}

FAKE_UNUSED static void say_subscribed(struct fake *f, uint32_t id, int chan, const char *state)
{
	char json[128];

	(void)snprintf(json, sizeof(json), "{\"chan\":%d,\"state\":\"%s\"}", chan, state);
	say_result(f, id, json);
}

FAKE_UNUSED static void say_broadcast(struct fake *f, int chan, const char *event,
				      const char *payload)
{
	char json[1024];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":%d,\"topic\":\"t\",\"event\":\"%s\",\"payload\":%s}", chan, event,
		       payload);
	say_notice(f, RTBP_N_BROADCAST, json);
}

FAKE_UNUSED static void say_channel(struct fake *f, int chan, const char *state, const char *code,
				    const char *text)
{
	char json[1024];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":%d,\"topic\":\"t\",\"private\":false,\"state\":\"%s\","
		       "\"code\":\"%s\",\"text\":\"%s\"}",
		       chan, state, code, text);
	say_notice(f, RTBP_N_CHANNEL, json);
}

FAKE_UNUSED static void say_error(struct fake *f, uint32_t id, enum rtbp_error code,
				  const char *text)
{
	ck_assert_int_eq(rtbp_msg_put_error(&f->out, id, code, text, -1), 0);
}

FAKE_UNUSED static void say_end(struct fake *f, enum rtbp_error code, const char *text)
{
	size_t begin = rtbp_msg_begin_notice(&f->out, RTBP_N_ERROR);

	rtbp_pack_map(&f->out, 1);
	rtbp_pack_field(&f->out, RTBP_F_ERROR);
	rtbp_pack_error(&f->out, code, text, -1);
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

/* Accept and answer hello. */
FAKE_UNUSED static void fake_attach(struct fake *f, struct rtb_client *c)
{
	fake_accept(f, c);
	fake_expect(f, c, RTBP_M_HELLO);
	say_hello(f);
	fake_flush(f, c);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHED);
}

/* ---- what the client asked: fields of the last message ---- */

FAKE_UNUSED static bool field_text(struct rtbp_val map, enum rtbp_field field, const char *text)
{
	struct rtbp_str s;

	return rtbp_get_str(rtbp_field(map, field), &s) && rtbp_str_is(s, text);
}

FAKE_UNUSED static bool field_bool(struct rtbp_val map, enum rtbp_field field)
{
	bool v = false;

	(void)rtbp_get_bool(rtbp_field(map, field), &v);
	return v;
}

/* The value as JSON, in a buffer that the next call overwrites. */
FAKE_UNUSED static const char *field_json(struct rtbp_val map, enum rtbp_field field)
{
	static char text[512];
	struct rtbp_val v = rtbp_field(map, field);
	struct rtbp_buf b = RTBP_BUF_INIT;

	strcpy(text, "absent");
	if (v.p) {
		ck_assert_int_eq(rtbp_mp_to_json(v.p, v.size, &b, NULL), 0);
		(void)snprintf(text, sizeof(text), "%.*s", (int)b.size, (char *)b.data);
	}
	rtbp_buf_done(&b);
	return text;
}
