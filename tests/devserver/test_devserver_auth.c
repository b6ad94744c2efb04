/* SPDX-License-Identifier: MIT */
/* Policies and tokens of the devserver's core, its clock played by the test. */
#include <stdlib.h>

#include "devserver/play_auth.h"
#include "devserver/policy.h"
#include "tests/unit/suite.h"

static void rules(const char *text)
{
	char error[200] = "";

	ck_assert_msg(ds_core_policies(core, ds_str(text), error, sizeof(error)), "%s", error);
}

START_TEST(test_rules)
{
	static const char good[] = "# who may what\n"
				   "read\tauthenticated  room:*\r\n"
				   "  write sub=ann room:[ab]\n"
				   "\n"
				   "read * open\n"
				   "presence_read admin a/*/c\n"
				   "presence_write * *";
	static const struct {
		enum ds_right right;
		const char *role, *sub, *topic;
		bool may;
	} asked[] = {
		{ DS_READ, "authenticated", NULL, "room:x", true },
		{ DS_READ, "authenticated", NULL, "room:x/y", true },
		{ DS_READ, "authenticated", NULL, "Room:x", false },
		{ DS_READ, "anon", NULL, "room:x", false },
		{ DS_READ, "anon", NULL, "open", true },
		{ DS_READ, "anon", NULL, "open2", false },
		{ DS_READ, "admin", NULL, "open", true },
		{ DS_READ, "nobody_here", NULL, "open", false },
		{ DS_READ, NULL, "ann", "open", false },
		{ DS_READ, "service_role", NULL, "anything", true },
		{ DS_WRITE, "authenticated", "ann", "room:a", true },
		{ DS_WRITE, "authenticated", "ann", "room:c", false },
		{ DS_WRITE, "authenticated", "bob", "room:a", false },
		{ DS_WRITE, "authenticated", NULL, "room:a", false },
		{ DS_WRITE, "nobody_here", "ann", "room:a", false },
		{ DS_PRESENCE_READ, "admin", NULL, "a/b/c", true },
		{ DS_PRESENCE_READ, "authenticated", NULL, "a/b/c", false },
		{ DS_PRESENCE_WRITE, "anon", NULL, "anything", true },
	};
	static const char *const bad[] = { "reed * x", "read *", "read * x y", "read",
					   "# ok\nwrite" };
	char error[200] = "";
	struct ds_policies *p = ds_policies_new(ds_str(good), error, sizeof(error));

	ck_assert_msg(p != NULL, "%s", error);
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		ck_assert_msg(ds_policies_allow(p, asked[i].right, asked[i].role, asked[i].sub,
						asked[i].topic) == asked[i].may,
			      "question %zu", i);
	ds_policies_free(p);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_ptr_null(ds_policies_new(ds_str(bad[i]), error, sizeof(error)));
		ck_assert_ptr_nonnull(strstr(error, i == 4 ? "line 2: " : "line 1: "));
	}
	ck_assert_ptr_null(ds_policies_new(DS_STR("read * x\0"), error, sizeof(error)));
	/* No rules at all are rules, too: nobody may do anything. */
	p = ds_policies_new(DS_STR(""), error, sizeof(error));
	ck_assert(!ds_policies_allow(p, DS_READ, "anon", NULL, "x"));
	ds_policies_free(p);
}
END_TEST

#define DENIED "You do not have permissions to read from this Channel topic: r"
#define LOST   "You no longer have permission to read from this Channel topic: r"

START_TEST(test_who_may_join)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	rules("presence_read sub=ann r\nread sub=bob r");
	s = open_socket(1000);
	say_as(s, "\"role\":\"anon\"", JOIN_AS("1", "r", PRIVATE));
	expect(REFUSED("1", "r", "Unauthorized: " DENIED));
	/* The right to read presence alone will do, but it is looked at with presence only. */
	say_as(s, ANN, JOIN_AS("1", "r", PRIVATE));
	expect(REFUSED("1", "r", "Unauthorized: " DENIED));
	say_as(s, ANN, JOIN_AS("1", "r", PRESENT));
	expect(JOINED("1", "r") "[\"1\",null,\"realtime:r\",\"presence_state\",{}]\n");
	say_as(s, BOB, JOIN_AS("1", "r", PRESENT));
	expect(JOINED("1", "r") "[\"1\",\"1\",\"realtime:r\",\"phx_close\",{}]\n");
	/* Public channels ask nobody. */
	say_as(s, "\"role\":\"anon\"", JOIN_AS("2", "p", "{}"));
	expect(JOINED("2", "p"));
	/* What was stored is for those who may read. */
	say_as(s, ANN,
	       JOIN_AS("3", "r",
		       "{\"private\":true,\"presence\":{\"enabled\":true},\"broadcast\":"
		       "{\"replay\":{\"since\":1}}}"));
	ck_assert_uint_eq(times("Unauthorized: " DENIED), 1);
	end();
}
END_TEST

START_TEST(test_who_hears_and_writes)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;

	begin(&conf);
	rules("read sub=ann r\nwrite sub=ann r\npresence_read sub=bob r");
	a = open_socket(1000);
	b = open_socket(1000);
	say_as(a, ANN, JOIN_AS("1", "r", PRIVATE));
	say_as(b, BOB,
	       JOIN_AS("1", "r",
		       "{\"private\":true,\"presence\":{\"enabled\":true},\"broadcast\":"
		       "{\"ack\":true,\"self\":true}}"));
	expect(JOINED("1", "r")
		       JOINED("1", "r") "[\"1\",null,\"realtime:r\",\"presence_state\",{}]\n");
	say(a, PUSH("2", "r", "broadcast", "{\"n\":1}"));
	expect(CAST("r", "{\"n\":1}") OK("1", "2", "r"));
	/* Not even with an acknowledgement: nothing at all. */
	say(b, PUSH("2", "r", "broadcast", "{\"n\":2}"));
	expect("");
	say(b, PUSH("3", "r", "presence", "{\"event\":\"track\"}"));
	expect("[\"1\",\"3\",\"realtime:r\",\"phx_reply\",{\"status\":\"error\",\"response\":{}}]"
	       "\n");
	say(b, PUSH("4", "r", "presence", "{\"event\":\"untrack\"}"));
	expect(OK("1", "4", "r"));
	end();
}
END_TEST

/* Looked up when it is first needed, kept until the next token, whatever the rules say meanwhile.
 */
START_TEST(test_rights_are_kept_until_the_next_token)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;
	const char *cast = PUSH("2", "r", "broadcast", "{}");

	begin(&conf);
	rules("read * r");
	s = open_socket(1000);
	say_as(s, ANN, JOIN_AS("1", "r", PRIVATE));
	forget();
	say(s, cast);
	expect("");
	rules("read * r\nwrite * r");
	say(s, cast);
	expect(""); /* what was denied stays denied */
	say_as(s, BOB, TOKEN);
	say(s, cast);
	expect(CAST("r", "{}") OK("1", "2", "r"));
	rules("read * r");
	say_as(s, BOB, TOKEN); /* the same token changes nothing */
	say(s, cast);
	expect(CAST("r", "{}") OK("1", "2", "r"));
	say_as(s, ANN, TOKEN);
	say(s, cast);
	expect("");
	rules("");
	say(s, PUSH("3", "r", "presence", "{}"));
	expect(OK("1", "3", "r")); /* still joined */
	say_as(s, BOB, TOKEN);
	expect(SHUT("1", "r", DENIED));
	end();
}
END_TEST

START_TEST(test_a_new_token_that_may_read_less)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	rules("read * r\npresence_read sub=ann r\npresence_write sub=ann r");
	s = open_socket(1000);
	say_as(s, ANN, JOIN_AS("1", "r", PRESENT));
	forget();
	say_as(s, BOB, TOKEN);
	expect(SHUT("1", "r", LOST));
	/* What was never looked at cannot be lost; the first track has it looked at. */
	for (int tracks = 0; tracks < 2; tracks++) {
		say_as(s, ANN, JOIN_AS("1", "r", PRIVATE));
		if (tracks)
			say(s, PUSH("2", "r", "presence", "{\"event\":\"track\"}"));
		forget();
		say_as(s, BOB, TOKEN);
		ck_assert_uint_eq(times(SHUT("1", "r", LOST)), tracks);
		forget();
	}
	end();
}
END_TEST

START_TEST(test_presence_of_private_channels)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;

	begin(&conf);
	rules("read * r\npresence_read sub=ann r\npresence_write * r");
	a = open_socket(1000);
	b = open_socket(1000);
	say_as(a, ANN, JOIN_AS("1", "r", "{\"private\":true}"));
	say_as(b, BOB, JOIN_AS("1", "r", PRESENT));
	forget();
	/* Ann has not switched it on, Bob may not read it. */
	say(b, PUSH("2", "r", "presence", "{\"event\":\"track\"}"));
	expect(OK("1", "2", "r"));
	say(a, PUSH("2", "r", "presence", "{\"event\":\"track\"}"));
	ck_assert_uint_eq(times("presence_diff"), 1);
	forget();
	say(b, PUSH("3", "r", "presence", "{\"event\":\"untrack\"}"));
	ck_assert_uint_eq(times("presence_diff"), 1);
	end();
}
END_TEST

/* The wall clock decides, and is looked at every five minutes. */
START_TEST(test_tokens_are_looked_at_again)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	s = open_socket(1000);
	say(s, JOIN("1", "r"));
	expect(JOINED("1", "r"));
	wall_ahead_ms = 2000000;
	pass(299999);
	expect("");
	pass(1);
	expect(SHUT("1", "r", "Token has expired 1300 seconds ago"));
	end();
}
END_TEST

/* Each new token would otherwise leave a timer that comes back for ever. */
START_TEST(test_one_timer_for_one_channel)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	s = open_socket(100000);
	say(s, JOIN("1", "r"));
	for (int i = 0; i < 10; i++) {
		pass(1);
		say_as(s, i % 2 ? ANN : BOB, TOKEN);
	}
	ck_assert_int_eq(ds_core_deadline(core), 5000 + 300000);
	pass(300000);
	ck_assert_int_eq(ds_core_deadline(core), 5010 + 600000);
	end();
}
END_TEST

/* What is told of joins and tokens is bounded. */
START_TEST(test_the_log_forgets)
{
	static const char first[] = "{\"ever\":5002,\"entries\":[{\"n\":3,";
	struct ds_conf conf = test_conf();
	struct ds_buf log = { 0 };
	struct ds_socket *s;

	begin(&conf);
	s = open_socket(1000);
	for (int i = 0; i < 5002; i++)
		say(s, JOIN("1", "r"));
	forget();
	ds_core_log(core, &log);
	ck_assert_int_eq(strncmp(log.data, first, strlen(first)), 0);
	ds_buf_done(&log);
	end();
}
END_TEST

START_TEST(test_a_stalled_socket)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *a, *b;
	const char *bad = "[\"5\",\"5\",\"realtime:bad\",\"phx_join\",{\"access_token\":\"x\"}]";

	conf.join_error_delay_ms = 5000;
	begin(&conf);
	a = open_socket(1000);
	b = open_socket(1000);
	say(a, "[\"1\",\"1\",\"realtime:r\",\"phx_join\",{\"config\":{\"broadcast\":{\"ack\":true}}"
	       "}]");
	say(b, JOIN("1", "r"));
	forget();
	say(a, bad);
	say(a, bad);
	say(a, "[null,\"6\",\"phoenix\",\"heartbeat\",{}]");
	say(a, PUSH("7", "r", "broadcast", "{\"n\":7}"));
	ds_core_ping(core, a, ds_str("x"));
	pass(300);
	say(b, PUSH("8", "r", "broadcast", "{\"n\":8}"));
	leaving = a;
	ds_core_bye(core, a, 1000);
	pass(4699);
	expect("");
	pass(1);
	expect(REFUSED("5", "bad", "MalformedJWT: The token provided is not a valid JWT"));
	pass(4999);
	expect("");
	pass(1);
	/* What the socket itself answers goes at once. What channels say comes behind what waited:
	 * the acknowledgement of 7, which finds the socket gone. */
	expect(REFUSED("5", "bad", "MalformedJWT: The token provided is not a valid JWT") BEAT("6")
		       CAST("r", "{\"n\":7}") "pong x\n" CAST("r", "{\"n\":8}") "bye 1000\n");
	end();
}
END_TEST

static void add_all(TCase *tc)
{
	tcase_add_test(tc, test_rules);
	tcase_add_test(tc, test_who_may_join);
	tcase_add_test(tc, test_who_hears_and_writes);
	tcase_add_test(tc, test_rights_are_kept_until_the_next_token);
	tcase_add_test(tc, test_a_new_token_that_may_read_less);
	tcase_add_test(tc, test_presence_of_private_channels);
	tcase_add_test(tc, test_tokens_are_looked_at_again);
	tcase_add_test(tc, test_one_timer_for_one_channel);
	tcase_add_test(tc, test_the_log_forgets);
	tcase_add_test(tc, test_a_stalled_socket);
}

int main(void)
{
	Suite *suite = suite_create("devserver: tokens, policies");
	TCase *tc = tcase_create("auth");

	tcase_set_timeout(tc, 60);
	add_all(tc);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
