/* SPDX-License-Identifier: MIT */
/* Policies, tokens and limits of the devserver's core, its clock played by the test. */
#include <stdlib.h>

#include "devserver/play.h"
#include "devserver/policy.h"
#include "devserver/rates.h"

#define OK(join_ref, ref, topic)                                                          \
	"[\"" join_ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_reply\",{\"status\":" \
	"\"ok\",\"response\":{}}]\n"
#define JOINED(ref, topic)                                                                  \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_reply\",{\"status\":\"ok\"," \
	"\"response\":{\"postgres_changes\":[]}}]\n"
#define REFUSED(ref, topic, why)                                                               \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_reply\",{\"status\":\"error\"," \
	"\"response\":{\"reason\":\"" why "\"}}]\n"
#define SHUT(ref, topic, why)                                                            \
	"[\"" ref "\",null,\"realtime:" topic "\",\"system\",{\"message\":\"" why        \
	"\",\"status\":\"error\",\"extension\":\"system\",\"channel\":\"" topic "\"}]\n" \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_close\",{}]\n"
#define BEAT(ref) \
	"[null,\"" ref "\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n"
#define CAST(topic, payload) "[null,null,\"realtime:" topic "\",\"broadcast\"," payload "]\n"

#define ANN   "\"role\":\"authenticated\",\"sub\":\"ann\""
#define BOB   "\"role\":\"authenticated\",\"sub\":\"bob\""
#define NEVER "1900000000" /* far behind WALL_MS */

/* @text with each "$" replaced by a token of these claims that ends in the far future. */
static void say_as(struct ds_socket *s, const char *claims, const char *text)
{
	struct ds_buf json = { 0 }, frame = { 0 };

	ds_buf_fmt(&json, "{%s,\"exp\":" NEVER "}", claims);
	for (; *text; text++) {
		if (*text == '$')
			ds_jwt_sign(ds_buf_view(&json), SECRET, &frame);
		else
			ds_buf_byte(&frame, (unsigned char)*text);
	}
	ds_core_frame(core, s, false, ds_buf_view(&frame));
	ds_buf_done(&json);
	ds_buf_done(&frame);
}

#define JOIN_AS(ref, topic, config)                                                        \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_join\",{\"config\":" config \
	",\"access_token\":\"$\"}]"
#define PRIVATE "{\"private\":true,\"broadcast\":{\"ack\":true,\"self\":true}}"
#define PRESENT "{\"private\":true,\"presence\":{\"enabled\":true,\"key\":\"k\"}}"
#define PUSH(ref, topic, event, payload) \
	"[\"1\",\"" ref "\",\"realtime:" topic "\",\"" event "\"," payload "]"
#define TOKEN PUSH("9", "r", "access_token", "{\"access_token\":\"$\"}")
#define JOIN(ref, topic) \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_join\",{\"config\":{}}]"

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
	tcase_add_test(tc, test_joins_are_averages);
	tcase_add_test(tc, test_a_counter);
	tcase_add_test(tc, test_too_many_events);
	tcase_add_test(tc, test_unknown_events_count);
	tcase_add_test(tc, test_too_much_presence);
	tcase_add_test(tc, test_users);
	tcase_add_test(tc, test_the_order_of_the_checks);
}

int main(void)
{
	Suite *suite = suite_create("devserver: tokens, policies, limits");
	TCase *tc = tcase_create("auth");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tc, 60);
	add_all(tc);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
