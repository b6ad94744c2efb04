/* SPDX-License-Identifier: MIT */
/* Limits of the devserver's core, its clock played by the test. */
#include <stdlib.h>

#include "devserver/play_auth.h"
#include "devserver/rates.h"
#include "tests/unit/suite.h"

/* As it was recorded: 12 joins at once, one a second allowed. */
START_TEST(test_joins_are_averages)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;
	struct ds_buf key = { 0 };
	struct ds_refusal r;
	char text[100];

	conf.joins_max = 1;
	conf.join_error_delay_ms = 5000;
	conf.connect_error_delay_ms = 2000;
	begin(&conf);
	token(&key, 10000);
	a = open_socket(10000);
	b = open_socket(10000);
	for (int i = 0; i < 12; i++) {
		snprintf(text, sizeof(text),
			 "[\"1\",\"1\",\"realtime:%d\",\"phx_join\",{\"config\":{}}]", i);
		say(a, text);
	}
	ck_assert_uint_eq(times("\"status\":\"ok\""), 12);
	forget();
	pass(4999);
	ck_assert_int_eq(
		ds_core_upgrade(core, ds_str("h"), ds_str("2.0.0"), ds_buf_view(&key)).status, 0);
	pass(1508);
	say(a, JOIN("2", "late"));
	r = ds_core_upgrade(core, ds_str("h"), ds_str("2.0.0"), ds_buf_view(&key));
	ck_assert_int_eq(r.status, 429);
	ck_assert_str_eq(r.error, "Too many joins per second");
	ck_assert_int_eq(r.delay_ms, 2000);
	pass(4999);
	expect("");
	ck_assert_int_eq(closed_with, 0);
	pass(1);
	expect(REFUSED("2", "late", "ClientJoinRateLimitReached: Too many joins per second"));
	ck_assert_int_eq(closed_with, 1001);
	ds_core_gone(core, a);
	/* Three samples now: 0, 12, 0 make 0.8 a second. What was refused did not count. */
	say(b, JOIN("1", "late"));
	expect(JOINED("1", "late"));
	ds_buf_done(&key);
	end();
}
END_TEST

START_TEST(test_a_counter)
{
	struct ds_rate r = { 0 };

	ds_rate_look(&r, 10, 5000, 0);
	r.count = 99;
	ds_rate_look(&r, 10, 5000, 5000);
	ck_assert(!r.triggered && r.average > 9.89 && r.average < 9.91);
	r.count = 51;
	ds_rate_look(&r, 10, 5000, 9999);
	ck_assert(!r.triggered);
	ds_rate_look(&r, 10, 5000, 10000);
	ck_assert(r.triggered && r.average > 9.99 && r.average < 10.01);
	ds_rate_look(&r, 10, 5000, 14999);
	ck_assert(r.triggered);
	ds_rate_look(&r, 10, 5000, 15000);
	ck_assert(!r.triggered);
	/* A minute is all that it remembers, ... */
	ds_rate_look(&r, 10, 5000, 64999);
	ck_assert(r.average > 0);
	ds_rate_look(&r, 10, 5000, 70000);
	ck_assert(r.average < 0.001);
	/* ... and after five quiet ones, and some seconds, it begins anew, at another second. */
	ds_rate_look(&r, 10, 5000, 309000);
	ck_assert_int_eq(r.next_ms, 310000);
	ds_rate_look(&r, 10, 5000, 311234);
	ck_assert_int_eq(r.next_ms, 311234 + 5000);
	ck_assert_uint_eq(r.n, 1);
	/* No limit is never reached. */
	r.count = 1000000;
	ds_rate_look(&r, 0, 5000, 320000);
	ck_assert(!r.triggered);
}
END_TEST

START_TEST(test_too_many_events)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b, *c;
	const char *cast = PUSH("2", "r", "broadcast", "{}");

	conf.events_max = 2;
	begin(&conf);
	a = open_socket(1000);
	b = open_socket(1000);
	c = open_socket(1000);
	say(a, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{\"broadcast\":{\"ack\":true}}"
	       "}]");
	say(b, JOIN("1", "r"));
	say(c, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{\"broadcast\":{\"ack\":true,"
	       "\"self\":true}}}]");
	forget();
	/* 9 broadcasts are 27 events: themselves and two receivers of each. */
	for (int i = 0; i < 9; i++)
		say(a, cast);
	ck_assert_uint_eq(times(OK("1", "2", "r")), 9);
	forget();
	pass(5000);
	say(b, "[\"3\",\"3\",\"realtime:s\",\"phx_join\",{\"config\":{}}]");
	forget();
	/* Only those who hear it are closed, after they have heard it. */
	say(a, cast);
	expect(CAST("r", "{}") SHUT("1", "r", "Too many messages per second") CAST("r", "{}")
		       SHUT("1", "r", "Too many messages per second") OK("1", "2", "r"));
	say(a, cast);
	expect(OK("1", "2", "r"));
	/* One's own copy is one that is heard: acknowledged first, then closed. */
	say(c, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{\"broadcast\":{\"ack\":true,"
	       "\"self\":true}}}]");
	forget();
	say(c, cast);
	ck_assert_uint_eq(times(OK("1", "2", "r") SHUT("1", "r", "Too many messages per second")),
			  1);
	forget();
	say(b, "[\"3\",\"4\",\"realtime:s\",\"broadcast\",{}]");
	say(b, "[null,\"5\",\"phoenix\",\"heartbeat\",{}]");
	expect(BEAT("5"));
	end();
}
END_TEST

START_TEST(test_unknown_events_count)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;

	conf.events_max = 1;
	begin(&conf);
	a = open_socket(1000);
	b = open_socket(1000);
	say(a, JOIN("1", "r"));
	say(b, JOIN("1", "r"));
	for (int i = 0; i < 10; i++)
		say(a, i % 2 ? PUSH("2", "r", "what", "{}") : PUSH("2", "r", "access_token", "{}"));
	/* These do not. */
	say(a, PUSH("2", "r", "access_token", "{\"access_token\":null}"));
	say(a, "[null,\"5\",\"phoenix\",\"heartbeat\",{}]");
	forget();
	pass(5000);
	say(a, PUSH("3", "r", "broadcast", "{}"));
	expect(CAST("r", "{}") SHUT("1", "r", "Too many messages per second"));
	end();
}
END_TEST

START_TEST(test_too_much_presence)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;
	const char *here = "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{\"presence\":"
			   "{\"enabled\":true}}}]";
	const char *track = PUSH("2", "r", "presence", "{\"event\":\"track\"}");

	conf.presences_max = 1;
	begin(&conf);
	a = open_socket(1000);
	b = open_socket(1000);
	say(a, here);
	say(b, JOIN("1", "r"));
	for (int i = 0; i < 3; i++) {
		say(a, track); /* with the two that hear it: three */
		say(a, PUSH("2", "r", "presence", "{\"event\":\"untrack\"}"));
		pass(10);
		if (i < 2)
			say(a, here);
	}
	/* 3 presence_state, 3 tracks, 6 diffs of 2 each: 18, and more than 10 are too many. */
	pass(5000);
	forget();
	say(a, track);
	expect(SHUT("1", "r", "Too many presence messages per second"));
	say(a, here);
	expect(JOINED("1", "r") SHUT("1", "r", "Too many presence messages per second"));
	say(b, PUSH("2", "r", "presence", "{\"event\":\"untrack\"}"));
	expect(OK("1", "2", "r"));
	end();
}
END_TEST

START_TEST(test_users)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;
	struct ds_buf key = { 0 };
	struct ds_refusal r;

	conf.users_max = 1;
	begin(&conf);
	token(&key, 10000);
	a = open_socket(1000);
	b = open_socket(1000); /* who has not joined is none */
	say(a, JOIN("1", "r"));
	say(a, PUSH("2", "r", "phx_leave", "{}"));
	say(a, JOIN("1", "r"));
	forget();
	say(b, JOIN("1", "r"));
	expect(REFUSED("1", "r", "ConnectionRateLimitReached: Too many connected users"));
	r = ds_core_upgrade(core, ds_str("h"), ds_str("2.0.0"), ds_buf_view(&key));
	ck_assert_int_eq(r.status, 429);
	ck_assert_str_eq(r.error, "Too many connected users");
	say(a, PUSH("3", "r", "phx_leave", "{}")); /* does not uncount */
	forget();
	say(b, JOIN("1", "r"));
	expect(REFUSED("1", "r", "ConnectionRateLimitReached: Too many connected users"));
	ds_core_gone(core, a);
	say(b, JOIN("1", "r"));
	expect(JOINED("1", "r"));
	ds_buf_done(&key);
	end();
}
END_TEST

START_TEST(test_the_order_of_the_checks)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;
	const char *bad = "[\"1\",\"1\",\"realtime:x\",\"phx_join\",{\"access_token\":\"x\"}]";

	conf.channels_max = 1;
	begin(&conf);
	a = open_socket(1000);
	b = open_socket(1000);
	say(a, JOIN("1", "r"));
	forget();
	say(a, bad);
	expect(REFUSED("1", "x", "ChannelRateLimitReached: Too many channels"));
	say(b, bad);
	expect(REFUSED("1", "x", "MalformedJWT: The token provided is not a valid JWT"));
	say(b, "[\"1\",\"1\",\"realtime:\",\"phx_join\",[]]");
	expect(REFUSED("1", "", "TopicNameRequired: You must provide a topic name"));
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("devserver: limits");
	TCase *tc = tcase_create("limits");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_joins_are_averages);
	tcase_add_test(tc, test_a_counter);
	tcase_add_test(tc, test_too_many_events);
	tcase_add_test(tc, test_unknown_events_count);
	tcase_add_test(tc, test_too_much_presence);
	tcase_add_test(tc, test_users);
	tcase_add_test(tc, test_the_order_of_the_checks);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
