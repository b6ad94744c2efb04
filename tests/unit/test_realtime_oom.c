/* SPDX-License-Identifier: MIT */
/* daemon/realtime when the n-th allocation fails, for every n: nothing leaks, nothing is lost
 * silently. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_pack.h"
#include "realtime/jwt.h"
#include "realtime/session.h"
#include "oom_util.h"
#include "suite.h"

#define LONG   "0123456789012345678901234567890123456789012345678901234567890123456789"
#define LONGER LONG LONG LONG LONG

static const struct {
	bool binary;
	const char *bytes;
	size_t size;
} frames[] = {
#define FRAME(binary, bytes)                     \
	{                                        \
		binary, bytes, sizeof(bytes) - 1 \
	}
	FRAME(false, "[1,2,\"t\",\"e\",{\"a\":\"" LONGER "\"}]"),
	FRAME(false, "[null,null,\"t\",\"broadcast\",{\"event\":\"e\",\"more\":\"" LONGER "\"}]"),
	FRAME(false, "[null,null,\"t\",\"broadcast\",{nope " LONGER "}]"),
	FRAME(true, "\x04\x01\x01\x02\x01te{}[\"" LONGER "\"]"),
	FRAME(true, "\x04\x01\x01\x02\x01te{}{nope" LONGER),
	FRAME(true, "\x04\x01\x01\x00\x00te" LONGER),
	FRAME(true, "\x02\x01\x09tbroadcast" LONGER),
};

START_TEST(test_decode)
{
	for (unsigned n = 1;; n++) {
		struct phx_decoder d = { 0 };
		const char *why = NULL;
		struct phx_msg m;
		int r;

		has_failed = false;
		fail_at = n;
		r = phx_decode(&d, PHX_VSN_2, frames[_i].binary, frames[_i].bytes, frames[_i].size,
			       &m, &why);
		fail_at = 0;
		phx_decoder_done(&d);
		ck_assert_msg(r == (has_failed ? -ENOMEM : 0), "allocation %u: %d", n, r);
		if (!has_failed)
			break;
		ck_assert_uint_lt(n, 100);
	}
}
END_TEST

START_TEST(test_encode)
{
	struct rtbp_buf payload = RTBP_BUF_INIT;

	rtbp_pack_text(&payload, LONGER);
	for (unsigned n = 1;; n++) {
		struct rtbp_buf out = RTBP_BUF_INIT;
		struct rtbp_json_fault fault;
		bool binary;
		int r;

		has_failed = false;
		fail_at = n;
		r = phx_encode_broadcast(PHX_VSN_1, 1, 2, LONG, sizeof(LONG) - 1,
					 (struct rtbp_str){ "e", 1 },
					 (struct rtbp_val){ payload.data, payload.size },
					 (struct rtbp_val){ NULL, 0 }, &out, &binary, &fault);
		fail_at = 0;
		ck_assert_int_eq(r, has_failed ? -ENOMEM : 0);
		ck_assert_int_eq(out.size == 0, has_failed);
		rtbp_buf_done(&out);
		if (!has_failed)
			break;
	}
	rtbp_buf_done(&payload);
}
END_TEST

/* ---- session ---- */

static uint64_t now, epoch;
static unsigned n_sent, n_closed, n_messages, n_replies, n_offline;

static uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return now;
}

static int64_t fake_wall(void *ctx)
{
	(void)ctx;
	return (int64_t)now;
}

static int fake_open(void *ctx, uint64_t e)
{
	(void)ctx;
	epoch = e;
	return 0;
}

static int fake_send(void *ctx, uint64_t e, bool binary, const void *data, size_t size)
{
	(void)ctx, (void)e, (void)binary, (void)data, (void)size;
	n_sent++;
	return 0;
}

static void fake_close(void *ctx, uint64_t e, uint16_t code)
{
	(void)ctx, (void)e, (void)code;
	n_closed++;
}

static void fake_offline(void *ctx)
{
	(void)ctx;
	n_offline++;
}

static void fake_nothing(void *ctx)
{
	(void)ctx;
}

static void fake_message(void *ctx, const struct phx_msg *m)
{
	(void)ctx, (void)m;
	n_messages++;
}

static void fake_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
		       struct rtbp_val response)
{
	(void)ctx, (void)cookie, (void)result, (void)ref, (void)response;
	n_replies++;
}

static const struct clock clock_fake = { fake_now, fake_wall, NULL, NULL };
static const struct session_ops ops = { fake_open,    fake_send,    fake_close,  fake_nothing,
					fake_offline, fake_nothing, fake_message };

/* What each call returned, and how it must fit what happened. */
struct outcome {
	unsigned n_pushed, n_probed;
	bool made;
};

static struct outcome one_life(void)
{
	static const struct session_conf conf = { .vsn = PHX_VSN_2,
						  .heartbeat_ms = 25000,
						  .heartbeat_reply_ms = 10000,
						  .backoff_min_ms = 1000,
						  .backoff_max_ms = 30000,
						  .stable_ms = 30000 };
	struct session *s = session_new(&conf, &clock_fake, &ops, NULL);
	struct session_push p = { .timeout_ms = 1000, .fn = fake_reply };
	struct session_end end = { .fault = SESSION_FAULT_LOST };
	struct outcome o = { .made = s != NULL };

	if (!s)
		return o;
	session_start(s);
	session_on_opened(s, epoch);
	for (int i = 0; i < 100; i++) {
		p.ref = session_next_ref(s);
		o.n_pushed += session_push(s, &p, "x", 1) == 0;
		o.n_probed += session_probe(s, fake_reply, NULL, 0) == 0;
	}
	for (size_t i = 0; i < sizeof(frames) / sizeof(*frames); i++)
		session_on_frame(s, epoch, frames[i].binary, frames[i].bytes, frames[i].size);
	session_on_closed(s, epoch, &end);
	session_free(s);
	return o;
}

START_TEST(test_session)
{
	for (unsigned n = 1;; n++) {
		struct outcome o;

		now = 1000;
		n_sent = n_closed = n_messages = n_replies = n_offline = 0;
		has_failed = false;
		fail_at = n;
		o = one_life();
		fail_at = 0;
		if (!o.made)
			continue;
		/* Who was promised an answer got one; a frame that could not be read ends the
		 * connection, so that its loss shows. */
		ck_assert_uint_eq(n_replies, o.n_pushed + o.n_probed);
		ck_assert_uint_eq(n_offline, 1);
		ck_assert(n_closed == 1 || n_messages == sizeof(frames) / sizeof(*frames));
		ck_assert_uint_ge(o.n_pushed, 99);
		if (!has_failed)
			break;
		ck_assert_uint_lt(n, 1000);
	}
	ck_assert_uint_eq(n_closed, 0);
	ck_assert_uint_eq(n_sent, 101); /* the pushes, and one heartbeat for all the probes */
}
END_TEST

START_TEST(test_jwt)
{
	/* {"alg":"HS256"}, {"exp":1900000000,"role":"r","a":{"c":[{"e":1,"d":2}],"b":{}}} */
	static const char token[] = "eyJhbGciOiJIUzI1NiJ9."
				    "eyJleHAiOjE5MDAwMDAwMDAsInJvbGUiOiJyIiwiYSI6eyJjIjpbeyJlIjoxLC"
				    "JkIjoyfV0sImIiOnt9fX0.c2ln";
	const char *text;
	struct jwt jwt;
	int r;

	for (unsigned n = 1;; n++) {
		has_failed = false;
		fail_at = n;
		r = jwt_read(token, sizeof(token) - 1, 1800000000, &jwt, &text);
		fail_at = 0;
		if (!has_failed)
			break;
		ck_assert_int_eq(r, -ENOMEM);
	}
	ck_assert_int_eq(r, 0);
	jwt_done(&jwt);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("realtime_oom");
	Suite *suite = suite_create("realtime_oom");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_decode, 0, sizeof(frames) / sizeof(*frames));
	tcase_add_test(tc, test_jwt);
	tcase_add_test(tc, test_encode);
	tcase_add_test(tc, test_session);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
