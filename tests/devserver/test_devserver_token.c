/* SPDX-License-Identifier: MIT */
/* The token endpoint of the devserver's core, where time matters; the clock is played by the test. */
#include <stdlib.h>

#include "devserver/play.h"
#include "tests/unit/suite.h"

#define TOKEN_CHARS 12

static char told[8000]; /* the body of the last answer */

/* The text member @name of @json; must be there. */
static void member(const char *json, const char *name, char *ret, size_t size)
{
	char key[40];
	const char *at, *end;

	snprintf(key, sizeof(key), "\"%s\":\"", name);
	at = strstr(json, key);
	ck_assert_ptr_nonnull(at);
	at += strlen(key);
	end = strchr(at, '"');
	ck_assert_ptr_nonnull(end);
	ck_assert_uint_lt((size_t)(end - at), size);
	snprintf(ret, size, "%.*s", (int)(end - at), at);
}

static void session(const char *order, char ret_token[TOKEN_CHARS + 1])
{
	struct ds_buf b = { 0 };
	char error[200] = "";

	ck_assert_msg(ds_core_session(core, ds_str(order), &b, error, sizeof(error)), "%s", error);
	snprintf(told, sizeof(told), "%.*s", (int)b.len, b.data);
	member(told, "refresh_token", ret_token, TOKEN_CHARS + 1);
	ds_buf_done(&b);
}

/* The status of a refresh; what was told is in @told. */
static int refresh(const char *token_text)
{
	struct ds_buf head = { 0 }, key = { 0 };
	struct ds_request r;
	struct ds_answer a;
	char body[60];
	int status;

	token(&key, 1000000);
	ds_buf_text(&head, "POST /auth/v1/token?grant_type=refresh_token HTTP/1.1\r\napikey: ");
	ds_buf_str(&head, ds_buf_view(&key));
	ds_buf_text(&head, "\r\n\r\n");
	snprintf(body, sizeof(body), "{\"refresh_token\":\"%s\"}", token_text);
	ck_assert_int_eq(ds_http_parse(ds_buf_view(&head), &r), 1);
	ck_assert(ds_rest_is(r.path) && ds_gotrue_is(r.path));
	ds_core_rest(core, &r, ds_str(body), &a);
	snprintf(told, sizeof(told), "%.*s", (int)a.body.len, a.body.data);
	status = a.status;
	ds_answer_done(&a);
	ds_buf_done(&head);
	ds_buf_done(&key);
	return status;
}

/* Refreshes; the token that came of it. */
static void rotate(const char *from, char ret_token[TOKEN_CHARS + 1])
{
	ck_assert_int_eq(refresh(from), 200);
	member(told, "refresh_token", ret_token, TOKEN_CHARS + 1);
}

static void refused(const char *from, const char *code)
{
	char got[60];

	ck_assert_int_eq(refresh(from), 400);
	member(told, "error_code", got, sizeof(got));
	ck_assert_str_eq(got, code);
}

START_TEST(test_the_reuse_interval)
{
	struct ds_conf conf = test_conf();
	char a[13], b[13], c[13], d[13], e[13];

	conf.reuse_interval_ms = 10000;
	begin(&conf);
	session("", a);
	rotate(a, b);
	rotate(b, c);
	pass(9999);
	/* Two behind, but soon enough: another token, and the one that was current still works. */
	rotate(a, d);
	ck_assert_str_ne(d, c);
	rotate(c, e);
	/* Its use has begun the interval anew. */
	pass(9999);
	rotate(a, b);
	/* While that is unused, it is told again, however late. */
	pass(1000000);
	rotate(a, d);
	ck_assert_str_eq(b, d);
	rotate(e, c);
	refused(a, "refresh_token_already_used");
	/* Who was current until then was revoked just now: as on the real server, that has an interval, too. */
	pass(9999);
	rotate(c, d);
	rotate(d, e);
	pass(10000);
	refused(c, "refresh_token_already_used");
	refused(b, "refresh_token_already_used");
	end();
}
END_TEST

START_TEST(test_a_parent_has_no_interval)
{
	struct ds_conf conf = test_conf();
	char a[13], b[13], c[13];

	conf.reuse_interval_ms = 0;
	begin(&conf);
	session("{}", a);
	rotate(a, b);
	pass(100000000);
	rotate(a, c);
	ck_assert_str_eq(b, c);
	rotate(b, c);
	refused(a, "refresh_token_already_used");
	refused(c, "refresh_token_already_used");
	end();
}
END_TEST

START_TEST(test_the_end_of_a_session)
{
	struct ds_conf conf = test_conf();
	char a[13];

	begin(&conf);
	session("{\"not_after_ms\":5000}", a);
	pass(5000);
	rotate(a, a);
	pass(1);
	refused(a, "session_expired");
	end();
}
END_TEST

START_TEST(test_the_life_of_a_token)
{
	struct ds_conf conf = test_conf();
	char a[13], text[4000], want[80];
	int64_t exp_ms = 0;

	conf.token_life_s = 60;
	begin(&conf);
	pass(1700);
	session("{\"sub\":\"ann\",\"role\":\"authenticated\"}", a);
	member(told, "access_token", text, sizeof(text));
	ck_assert_int_eq(ds_jwt_check(ds_str(text), SECRET, WALL_MS + 1700, &exp_ms), DS_JWT_OK);
	/* Whole seconds, as the server counts them. */
	ck_assert_int_eq(exp_ms, WALL_MS + 61000);
	snprintf(want, sizeof(want), "\"expires_in\":60,\"expires_at\":%lld,",
		 (long long)(WALL_MS / 1000 + 61));
	ck_assert_ptr_nonnull(strstr(told, want));
	end();
}
END_TEST

START_TEST(test_the_bucket)
{
	struct ds_conf conf = test_conf();
	char a[13];

	conf.refresh_burst = 3;
	begin(&conf);
	session("", a);
	for (int i = 0; i < 3; i++)
		rotate(a, a);
	ck_assert_int_eq(refresh(a), 429);
	pass(19999);
	ck_assert_int_eq(refresh(a), 429);
	pass(1);
	rotate(a, a);
	ck_assert_int_eq(refresh(a), 429);
	pass(1000000);
	for (int i = 0; i < 3; i++)
		rotate(a, a);
	ck_assert_int_eq(refresh(a), 429);
	end();
}
END_TEST

START_TEST(test_how_many_are_remembered)
{
	struct ds_conf conf = test_conf();
	struct ds_buf b = { 0 };
	unsigned n = 0;

	begin(&conf);
	for (int i = 0; i < 5002; i++)
		ck_assert_int_eq(refresh("zzzzzzzzzzzz"), 400);
	ds_core_tokens(core, &b);
	ds_buf_byte(&b, 0);
	ck_assert_ptr_nonnull(strstr(b.data, "{\"ever\":5002,"));
	ck_assert_ptr_null(strstr(b.data, "{\"n\":2,"));
	for (const char *at = b.data; (at = strstr(at, "zzzzzzzzzzzz")) != NULL; at++)
		n++;
	ck_assert_uint_eq(n, 5000);
	ds_buf_done(&b);
	end();
}
END_TEST

/* What waits while a socket stands still comes afterwards, in its order, and is not lost with "clear". */
START_TEST(test_a_stalled_socket)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	conf.idle_ms = 60000;
	begin(&conf);
	s = open_socket(1000000);
	fault("{\"op\":\"stall\"}");
	say(s, "[null,\"1\",\"phoenix\",\"heartbeat\",{}]");
	fault("{\"op\":\"push\",\"topic\":\"realtime:r\",\"event\":\"x\",\"ref\":\"7\"}");
	pass(1000000);
	expect("");
	ck_assert_int_eq(closed_with, 0);
	fault("{\"op\":\"clear\"}");
	expect("[null,\"1\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n"
	       "[null,\"7\",\"realtime:r\",\"x\",{}]\n");
	fault("{\"op\":\"heartbeats\",\"answer\":false}");
	say(s, "[null,\"2\",\"phoenix\",\"heartbeat\",{}]");
	expect("");
	fault("{\"op\":\"heartbeats\",\"answer\":true}");
	say(s, "[null,\"3\",\"phoenix\",\"heartbeat\",{}]");
	expect("[null,\"3\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n");
	end();
}
END_TEST

START_TEST(test_a_late_close)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	s = open_socket(1000000);
	say(s, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{}]");
	forget();
	fault("{\"op\":\"late_close\",\"topic\":\"realtime:r\",\"ms\":500}");
	say(s, "[\"1\",\"2\",\"realtime:r\",\"phx_leave\",{}]");
	expect("[\"1\",\"2\",\"realtime:r\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n");
	pass(499);
	expect("");
	pass(1);
	expect("[\"1\",\"1\",\"realtime:r\",\"phx_close\",{}]\n");
	end();
}
END_TEST

/* Joins wait for a database that is away, with all that is behind them; so do channels that have to ask it. */
START_TEST(test_a_database_that_is_away)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s, *other;

	begin(&conf);
	s = open_socket(1000000);
	other = open_socket(1000000);
	say(s, "[\"1\",\"1\",\"realtime:p\",\"phx_join\",{\"config\":{\"private\":true,"
	       "\"broadcast\":{\"ack\":true}}}]");
	say(s, "[\"2\",\"2\",\"realtime:o\",\"phx_join\",{\"config\":{\"broadcast\":{\"ack\":true}}"
	       "}]");
	forget();
	ds_core_database(core, false);
	say(s, "[\"1\",\"3\",\"realtime:p\",\"broadcast\",{\"event\":\"e\"}]");
	say(s, "[\"1\",\"4\",\"realtime:p\",\"phx_leave\",{}]");
	expect("");
	say(s, "[\"2\",\"5\",\"realtime:o\",\"broadcast\",{\"event\":\"e\"}]");
	expect("[\"2\",\"5\",\"realtime:o\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n");
	say(s, "[\"6\",\"6\",\"realtime:q\",\"phx_join\",{\"config\":{}}]");
	say(s, "[null,\"7\",\"phoenix\",\"heartbeat\",{}]");
	say(other, "[\"8\",\"8\",\"realtime:q\",\"phx_join\",{}]");
	pass(60000);
	expect("");
	ds_core_gone(core, other);
	ds_core_database(core, true);
	expect("[\"6\",\"6\",\"realtime:q\",\"phx_reply\",{\"status\":\"ok\",\"response\":{"
	       "\"postgres_changes\":[]}}]\n"
	       "[null,\"7\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n"
	       "[\"1\",\"3\",\"realtime:p\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n"
	       "[\"1\",\"4\",\"realtime:p\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n"
	       "[\"1\",\"1\",\"realtime:p\",\"phx_close\",{}]\n");
	/* What is asked already is known, and what still waits at the end is freed. */
	ds_core_database(core, false);
	say(s, "[\"9\",\"9\",\"realtime:p\",\"phx_join\",{}]");
	expect("");
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("devserver: the token endpoint, and what stands still");
	TCase *tc = tcase_create("core");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_the_reuse_interval);
	tcase_add_test(tc, test_a_parent_has_no_interval);
	tcase_add_test(tc, test_the_end_of_a_session);
	tcase_add_test(tc, test_the_life_of_a_token);
	tcase_add_test(tc, test_the_bucket);
	tcase_add_test(tc, test_how_many_are_remembered);
	tcase_add_test(tc, test_a_stalled_socket);
	tcase_add_test(tc, test_a_late_close);
	tcase_add_test(tc, test_a_database_that_is_away);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
