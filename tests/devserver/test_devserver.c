/* SPDX-License-Identifier: MIT */
/* The devserver's core without sockets: its clock is played by the test. */
#include <jansson.h>
#include <stdlib.h>

#include "devserver/play.h"
#include "devserver/span.h"
#include "devserver/ws.h"
#include "tests/unit/suite.h"

#define JOINED(ref)                                                                              \
	"[\"" ref "\",\"" ref "\",\"realtime:r\",\"phx_reply\",{\"status\":\"ok\",\"response\":" \
	"{\"postgres_changes\":[]}}]\n"
#define BEAT(ref) \
	"[null,\"" ref "\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n"

START_TEST(test_a_refused_join_holds_all_back)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s, *other;

	conf.join_error_delay_ms = 5000;
	begin(&conf);
	s = open_socket(100);
	other = open_socket(100);
	say(s, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{}}]");
	say(other, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{}}]");
	expect(JOINED("1") JOINED("1"));
	say(s, "[\"2\",\"2\",\"realtime:\",\"phx_join\",{}]");
	say(s, "[null,\"3\",\"phoenix\",\"heartbeat\",{}]");
	say(other, "[\"1\",\"4\",\"realtime:r\",\"broadcast\",{}]");
	say(s, "[\"5\",\"5\",\"realtime:\",\"phx_join\",{}]");
	say(s, "[null,\"6\",\"phoenix\",\"heartbeat\",{}]");
	pass(4999);
	expect("");
	pass(1);
	expect("[\"2\",\"2\",\"realtime:\",\"phx_reply\",{\"status\":\"error\",\"response\":"
	       "{\"reason\":\"TopicNameRequired: You must provide a topic name\"}}]\n" BEAT(
		       "3") "[null,null,\"realtime:r\",\"broadcast\",{}]\n");
	pass(5000);
	expect("[\"5\",\"5\",\"realtime:\",\"phx_reply\",{\"status\":\"error\",\"response\":"
	       "{\"reason\":\"TopicNameRequired: You must provide a topic name\"}}]\n" BEAT("6"));
	ds_core_gone(core, s);
	end();
}
END_TEST

START_TEST(test_a_token_ends_to_the_millisecond)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	s = open_socket(1000);
	say(s, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{}}]");
	expect(JOINED("1"));
	pass(999999);
	expect("");
	pass(1);
	expect("[\"1\",null,\"realtime:r\",\"system\",{\"message\":\"Token has expired 0 seconds "
	       "ago\",\"status\":\"error\",\"extension\":\"system\",\"channel\":\"r\"}]\n"
	       "[\"1\",\"1\",\"realtime:r\",\"phx_close\",{}]\n");
	pass(1000);
	say(s, "[\"2\",\"2\",\"realtime:r\",\"phx_join\",{\"config\":{}}]");
	expect("[\"2\",\"2\",\"realtime:r\",\"phx_reply\",{\"status\":\"error\",\"response\":"
	       "{\"reason\":\"InvalidJWTToken: Token has expired 1 seconds ago\"}}]\n");
	end();
}
END_TEST

START_TEST(test_timers_do_not_pile_up)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	s = open_socket(100000000);
	for (int i = 0; i < 1000; i++)
		say(s, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{}}]");
	ds_core_gone(core, s);
	pass(300000);
	pass(conf.idle_ms);
	ck_assert_int_eq(ds_core_deadline(core), -1);
	end();
}
END_TEST

START_TEST(test_presence_calls_are_counted_in_a_window)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;
	const char *call = "[\"1\",\"2\",\"realtime:r\",\"presence\",{\"event\":\"untrack\"}]";
	const char *probe = "[\"1\",\"2\",\"realtime:r\",\"presence\",{}]";
	const char *ok = "[\"1\",\"2\",\"realtime:r\",\"phx_reply\",{\"status\":\"ok\","
			 "\"response\":{}}]\n";

	begin(&conf);
	s = open_socket(1000);
	say(s, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{}}]");
	expect(JOINED("1"));
	for (int i = 0; i < 12; i++) {
		say(s, call);
		expect(ok);
		pass(6001);
	}
	for (int i = 0; i < 20; i++) {
		say(s, probe);
		expect(ok);
	}
	for (int i = 0; i < 2; i++)
		say(s, call);
	ck_assert_ptr_nonnull(memmem(heard.data, heard.len, "Client presence rate limit", 26));
	ck_assert_ptr_nonnull(memmem(heard.data, heard.len, "phx_close", 9));
	end();
}
END_TEST

#define JOIN(ref, key)                                                                    \
	"[\"" ref "\",\"" ref "\",\"realtime:r\",\"phx_join\",{\"config\":{\"presence\":" \
	"{\"enabled\":true,\"key\":\"" key "\"}}}]"
#define CALL(event, payload)                                                             \
	"[\"1\",\"2\",\"realtime:r\",\"presence\",{\"event\":\"" event "\",\"payload\":" \
	"" payload "}]"
#define SHUT "Client presence rate limit exceeded"

/* Stricter than windows one after the other: none of that length, wherever it begins, has more. */
START_TEST(test_no_window_has_too_many_presence_calls)
{
	static const struct {
		int64_t wait_ms;
		unsigned shut;
	} last[] = { { 9, 1 }, { 10, 1 }, { 11, 0 } };
	struct ds_conf conf = test_conf();

	for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++) {
		struct ds_socket *s;

		begin(&conf);
		s = open_socket(1000);
		say(s, JOIN("1", "k"));
		say(s, CALL("untrack", "{}"));
		pass(29990);
		for (int n = 0; n < 4; n++)
			say(s, CALL("bogus", "{}"));
		pass(last[i].wait_ms);
		forget();
		say(s, CALL("untrack", "{}"));
		ck_assert_uint_eq(times(SHUT), last[i].shut);
		ck_assert_uint_eq(times("phx_reply"), 1 - last[i].shut);
		forget();
		say(s, CALL("untrack", "{}")); /* the four are still in the window */
		ck_assert_uint_eq(times(SHUT), 1 - last[i].shut);
		end();
	}
}
END_TEST

/* A late state tells how things are when it is sent, a stale one how they were at the join. */
START_TEST(test_late_states)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;

	begin(&conf);
	a = open_socket(1000);
	b = open_socket(1000);
	say(a, JOIN("1", "a"));
	say(a, CALL("track", "{\"n\":1}"));
	for (int stale = 0; stale < 2; stale++) {
		fault(stale ? "{\"op\":\"no_presence_state\",\"ms\":500,\"stale\":true}"
			    : "{\"op\":\"no_presence_state\",\"ms\":500}");
		say(b, JOIN("7", "b"));
		say(a, stale ? CALL("track", "{\"n\":3}") : CALL("track", "{\"n\":2}"));
		forget();
		pass(499);
		expect("");
		pass(1);
		ck_assert_uint_eq(times("[\"7\",null,\"realtime:r\",\"presence_state\",{\"a\":"),
				  1);
		/* Late: what came in the meantime; stale: what had been before the join. */
		ck_assert_uint_eq(times("\"n\":2"), 1);
		ck_assert_uint_eq(times("phx_ref\":"), 1);
	}
	/* A channel that has ended by then, or been replaced, gets none. */
	fault("{\"op\":\"no_presence_state\",\"ms\":500,\"stale\":true,\"count\":2}");
	say(b, JOIN("7", "b"));
	say(b, JOIN("8", "b"));
	say(b, "[\"8\",\"9\",\"realtime:r\",\"phx_leave\",{}]");
	forget();
	pass(500);
	expect("");
	end();
}
END_TEST

START_TEST(test_a_late_leave)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;

	begin(&conf);
	a = open_socket(1000);
	b = open_socket(1000);
	say(a, JOIN("1", "a"));
	say(a, CALL("track", "{\"n\":1}"));
	fault("{\"op\":\"late_leave\",\"topic\":\"realtime:r\",\"ms\":700,\"count\":-1}");
	ds_core_gone(core, a);
	pass(699);
	forget();
	say(b, JOIN("1", "a"));
	say(b, CALL("track", "{\"n\":2}"));
	ck_assert_uint_eq(times("presence_state\",{\"a\":{\"metas\":[{\"phx_ref\":"), 1);
	ck_assert_uint_eq(times("\"leaves\":{}"), 1);
	forget();
	pass(1);
	ck_assert_uint_eq(times("\"joins\":{},\"leaves\":{\"a\":"), 1);
	ck_assert_uint_eq(times("\"n\":1"), 1);
	/* Nobody is left to hear of the last one; it still keeps the room, for those who come. */
	ds_core_gone(core, b);
	pass(100);
	b = open_socket(1000);
	forget();
	say(b, JOIN("1", "c"));
	ck_assert_uint_eq(times("\"n\":2"), 1);
	say(b, CALL("track", "{}"));
	ds_core_gone(core, b);
	end(); /* with two that have not left yet */
}
END_TEST

START_TEST(test_idle)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	conf.idle_ms = 60000;
	begin(&conf);
	s = open_socket(1000);
	pass(59999);
	ds_core_alive(core, s);
	pass(59999);
	ck_assert_int_eq(closed_with, 0);
	pass(1);
	ck_assert_int_eq(closed_with, 1000);
	end();
}
END_TEST

/* The scanner against jansson, on documents that both treat alike. */
START_TEST(test_scanner_and_jansson_agree)
{
	static const char letters[] = "{}[]:,\"\\ue01-+.truefalsn \t\n\x01\xc3\xa9";
	char text[16];

	srand(7);
	for (int round = 0; round < 400000; round++) {
		size_t n = (size_t)rand() % sizeof(text);
		json_t *j;

		for (size_t i = 0; i < n; i++)
			text[i] = letters[(size_t)rand() % (sizeof(letters) - 1)];
		j = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL,
			       NULL);
		/* jansson refuses what does not fit a double; nothing so long is made here but
		 * exponents. */
		if (!memchr(text, 'e', n) || j)
			ck_assert_msg(ds_json_valid((struct ds_str){ text, n }) == (j != NULL),
				      "%.*s", (int)n, text);
		json_decref(j);
	}
}
END_TEST

START_TEST(test_scanner_on_hard_cases)
{
	static const char *const good[] = { " {} ",
					    "1e400",
					    "-0",
					    "\"\\ud83d\\ude00\"",
					    "123456789012345678901234567890",
					    "{\"a\":1,\"a\":{\"b\":[[],{}]}}",
					    "\"\\u0000\"" };
	static const char *const bad[] = { "",
					   " ",
					   "01",
					   "+1",
					   ".5",
					   "1.",
					   "1e",
					   "\"\\ud800\"",
					   "\"\\ude00\"",
					   "[1,]",
					   "{\"a\"}",
					   "[1}",
					   "nul",
					   "[",
					   "{\"a\":1,}",
					   "\"\xff\"",
					   "\"\xed\xa0\x80\"",
					   "1 2",
					   "\"\t\"",
					   "[\"a\":1]" };
	struct ds_buf b = { 0 };
	struct ds_str v;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_msg(ds_json_valid(ds_str(good[i])), "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!ds_json_valid(ds_str(bad[i])), "%s", bad[i]);
	for (int i = 0; i < 65537; i++)
		ds_buf_byte(&b, '[');
	ck_assert(!ds_json_valid(ds_buf_view(&b)));
	b.len = 65000;
	for (int i = 0; i < 65000; i++)
		ds_buf_byte(&b, ']');
	ck_assert(ds_json_valid(ds_buf_view(&b)));
	ds_buf_done(&b);
	ck_assert(ds_json_get(ds_str("{\"x\":\"}\\\"\",\"k\\u0065y\" : [1 , 2] }"), "key", &v));
	ck_assert(ds_str_eq(v, DS_STR("[1 , 2]")));
}
END_TEST

static struct ds_buf said;

static void ws_message(void *arg, bool binary, struct ds_str message)
{
	ck_assert_ptr_null(arg);
	ds_buf_fmt(&said, "%c%zu ", binary ? 'b' : 't', message.n);
}

static void ws_ping(void *arg, struct ds_str payload)
{
	ck_assert_ptr_null(arg);
	ds_buf_fmt(&said, "p%zu ", payload.n);
}

static void ws_close(void *arg, int code)
{
	ck_assert_ptr_null(arg);
	ds_buf_fmt(&said, "c%d ", code);
}

/* A frame's head, a mask of zeros, and as many zeros. */
static void add_frame(struct ds_buf *b, unsigned first, size_t size)
{
	struct ds_buf plain = { 0 };

	ds_ws_head(&plain, DS_WS_TEXT, size);
	plain.data[0] = (char)first;
	plain.data[1] = (char)(plain.data[1] | 0x80);
	ds_buf_str(b, ds_buf_view(&plain));
	for (size_t i = 0; i < size + 4; i++)
		ds_buf_byte(b, 0);
	ds_buf_done(&plain);
}

START_TEST(test_frames_cut_at_every_length)
{
	static const struct ds_ws_ops ops = { ws_message, ws_ping, ws_close };
	struct ds_buf b = { 0 };

	add_frame(&b, 0x81, 3);
	add_frame(&b, 0x02, 200);
	add_frame(&b, 0x89, 5);
	add_frame(&b, 0x00, 0);
	add_frame(&b, 0x80, 70000);
	add_frame(&b, 0x82, 100000); /* its limit is 100000 */
	add_frame(&b, 0x01, 60000);
	add_frame(&b, 0x80, 40001);
	for (size_t step = 1; step < 100000; step = step * 3 + 1) {
		struct ds_ws w = { .max_bytes = 100000, .ops = &ops };

		for (size_t at = 0; at < b.len; at += step) {
			size_t n = b.len - at < step ? b.len - at : step;

			ds_ws_feed(&w, (struct ds_str){ b.data + at, n });
		}
		ds_buf_byte(&said, 0);
		ck_assert_str_eq(said.data, "t3 p5 b70200 b100000 c1009 ");
		said.len = 0;
		ds_ws_done(&w);
	}
	ds_buf_done(&said);
	ds_buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("devserver");
	TCase *tc = tcase_create("core");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_a_refused_join_holds_all_back);
	tcase_add_test(tc, test_a_token_ends_to_the_millisecond);
	tcase_add_test(tc, test_timers_do_not_pile_up);
	tcase_add_test(tc, test_presence_calls_are_counted_in_a_window);
	tcase_add_test(tc, test_no_window_has_too_many_presence_calls);
	tcase_add_test(tc, test_late_states);
	tcase_add_test(tc, test_a_late_leave);
	tcase_add_test(tc, test_idle);
	tcase_add_test(tc, test_scanner_and_jansson_agree);
	tcase_add_test(tc, test_scanner_on_hard_cases);
	tcase_add_test(tc, test_frames_cut_at_every_length);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
