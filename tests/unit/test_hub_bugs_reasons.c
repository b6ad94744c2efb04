/* SPDX-License-Identifier: MIT */
/*
 * The server refuses a join, or ends a channel that nobody asked it to end, with each of its words:
 * the client is told, and what comes next goes by the class of the words. Clients that take a
 * phx_close for the end of the matter stay silent for ever (supabase-py#1134, realtime#1414).
 */
#include "hub_presence.h"
#include "hub_tokens.h"

#include "realtime/reasons.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEVER = REASON_NEVER, SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };

/* As the server says them; `least_ms`: before the next join. */
static const struct says {
	const char *text, *code;
	int least_ms;
} ends[] = {
	{ "Too many messages per second", "message_rate", MINUTE },
	{ "Too many presence messages per second", "presence_rate", MINUTE },
	{ "Client presence rate limit exceeded", "presence_calls", 30 * SECOND },
	{ "Track message size exceeded", "track_too_big", SECOND },
	{ "Realtime was unable to connect to the project database", "database_unreachable",
	  5 * SECOND },
	{ "Query was cancelled, please try again", "database_query", 5 * SECOND },
	{ "Node request timeout", "server_rpc", SECOND },
	{ "RPC call error: {:badrpc, :nodedown}", "server_rpc", SECOND },
	{ "Replication connection was not established in time", "database_replication",
	  5 * SECOND },
	{ ":initializing", "initializing", SECOND },
	{ ":increase_connection_pool", "database_connections", 10 * SECOND },
	{ "something that no table has", "unknown", SECOND },
	{ "Token has expired 0 seconds ago", "token_expired", NEVER },
	{ "0", "token_expired", NEVER },
	{ "Fields `role` and `exp` are required in JWT", "token_incomplete", NEVER },
	{ "The token provided is not a valid JWT", "token_malformed", NEVER },
	{ "Failed to generate JWT signer for key ID (kid) \\'k\\', check your JWT secret or JWKS "
	  "configuration",
	  "token_signer", NEVER },
	{ ":signature_error", "token_signature", NEVER },
	{ "You do not have permissions to read from this Channel topic: t", "unauthorized", NEVER },
	{ "You no longer have permission to read from this Channel topic: t", "unauthorized",
	  NEVER },
};

static const struct says refusals[] = {
	{ "RealtimeRestarting: Realtime is restarting, please standby", "restarting", SECOND },
	{ "InitializingProjectConnection: Connecting to the project database", "initializing",
	  SECOND },
	{ "UnableToConnectToProject: Realtime was unable to connect to the project database",
	  "database_unreachable", 5 * SECOND },
	{ "IncreaseConnectionPool: Please increase your connection pool size",
	  "database_connections", 10 * SECOND },
	{ "DatabaseLackOfConnections: Database can\\u0027t accept more connections, Realtime "
	  "won\\u0027t connect",
	  "database_connections", 10 * SECOND },
	{ "DatabaseConnectionRateLimitReached: Too many database connections attempts per second",
	  "database_connections", 10 * SECOND },
	{ "QueryCanceled: %{}", "database_query", 5 * SECOND },
	{ "MissingPartition: Realtime was unable to find the expected messages partition",
	  "database_partition", 30 * SECOND },
	{ "TimeoutOnRpcCall: Node request timeout", "server_rpc", SECOND },
	{ "ErrorOnRpcCall: RPC call error: :x", "server_rpc", SECOND },
	{ "MusterJoinError: timed out after 4000ms", "server_rpc", SECOND },
	{ "Unknown Error on Channel", "crash", 5 * SECOND },
	{ "UnknownErrorOnChannel: x", "crash", 5 * SECOND },
	{ "join crashed", "crash", 5 * SECOND },
	{ "ClientJoinRateLimitReached: Too many joins per second", "join_rate", MINUTE },
	{ "ConnectionRateLimitReached: Too many connected users", "too_many_connections", MINUTE },
	{ "TenantNotFound: Tenant with the given ID does not exist", "project_not_found",
	  5 * MINUTE },
	{ "RealtimeDisabledForTenant: Realtime disabled for this tenant", "project_disabled",
	  5 * MINUTE },
	{ "something that no table has", "unknown", SECOND },
	{ "ChannelRateLimitReached: Too many channels", "too_many_channels", NEVER },
	{ "Unauthorized: You do not have permissions to read from this Channel topic: t",
	  "unauthorized", NEVER },
	{ "PrivateOnly: This project only allows private channels", "private_only", NEVER },
	{ "TopicNameRequired: You must provide a topic name", "topic_required", NEVER },
	{ "InvalidJoinPayload: x", "bad_join", NEVER },
	{ "InvalidJWTToken: Token has expired 12 seconds ago", "token_expired", NEVER },
	{ "InvalidJWTToken: Fields `role` and `exp` are required in JWT", "token_incomplete",
	  NEVER },
	{ "MalformedJWT: The token provided is not a valid JWT", "token_malformed", NEVER },
	{ "JwtSignatureError: Failed to validate JWT signature", "token_signature", NEVER },
	{ "JwtSignerError: Failed to generate JWT signer, check your JWT secret", "token_signer",
	  NEVER },
};

enum { N_ENDS = sizeof(ends) / sizeof(*ends), N_REFUSALS = sizeof(refusals) / sizeof(*refusals) };

static struct fake_peer *a;

/* A broadcast in a form that both serializers have. */
static void server_says(const char *topic, const char *event, const char *payload)
{
	server_text("[null,null,'realtime:%s','broadcast',{'type':'broadcast','event':'%s',"
		    "'payload':%s}]",
		    topic, event, payload);
}

static void with_version_1(struct hub_conf *conf)
{
	conf->session.vsn = PHX_VSN_1;
}

static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
}

/* On this the end of a channel is told from another one's by its ref alone. */
static void setup_1(void)
{
	rig_start(with_version_1);
	server_open();
	a = peer_ready();
}

static bool is_join_there(void)
{
	for (size_t i = rig.frames.next; i < rig.frames.n; i++) {
		if (!rig.frames.at[i].taken && strcmp(rig.frames.at[i].event, "phx_join") == 0)
			return true;
	}
	return false;
}

/* Return: when the next join went out, from now; at most `ms`. */
static uint64_t next_join_within(uint64_t ms)
{
	uint64_t from = rig.now;

	while (!is_join_there() && rig.now - from < ms)
		advance(rig.now - from < MINUTE ? 10 : SECOND);
	return rig.now - from;
}

static void lose_and_open(void)
{
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
}

static void told(const struct says *says, const char *state)
{
	char pattern[300];

	snprintf(pattern, sizeof(pattern), "[2,'channel',{'chan':1,*'state':'%s','code':'%s',*}]",
		 state, says->code);
	expect(a, pattern);
	expect_nothing(a);
}

/* After a while, or with the next connection: it is back, and says so with a gap. */
static void comes_back(const struct says *says)
{
	uint64_t delay, spread;

	if (says->least_ms == NEVER) {
		told(says, "rejected");
		ck_assert_uint_ge(next_join_within(6 * HOUR), 6 * HOUR);
		lose_and_open();
		peer_skip(a, "");
	} else {
		told(says, "rejoining");
		delay = next_join_within(HOUR);
		spread = says->least_ms / 8 > SECOND ? (uint64_t)says->least_ms / 8 : SECOND;
		ck_assert_uint_ge(delay, (uint64_t)says->least_ms);
		ck_assert_uint_le(delay, (uint64_t)says->least_ms + spread + 10);
	}
	server_join("t");
	expect(a, "[2,'gap',{'chan':1,*");
	expect(a, "[2,'channel',{'chan':1,*'state':'ready'}]");
	server_says("t", "e", "1");
	expect(a, "[2,'broadcast',*");
}

/* ---- a channel that was joined ---- */

START_TEST(ended_with_words)
{
	peer_join(a, "t", "{}");
	server_close(&rig.frames.at[0], ends[_i].text);
	comes_back(&ends[_i]);
}
END_TEST

static const char *const crashes[] = { "{}", "{'reason':'channel_crash'}", "{'reason':'x'}", "null",
				       "{'reason':7}" };

START_TEST(ended_without_a_word)
{
	static const struct says crash = { "", "crash", SECOND }, none = { "", "unknown", SECOND };

	peer_join(a, "t", "{}");
	if (_i == 0)
		server_close(&rig.frames.at[0], NULL);
	else
		server_text("['1','1','realtime:t','phx_error',%s]", crashes[_i - 1]);
	comes_back(_i == 0 ? &none : &crash);
}
END_TEST

/* The words stand before another channel's end, or for a while before the end of this one. */
START_TEST(words_and_ends_apart)
{
	static const struct says rate = { "", "message_rate", MINUTE };

	peer_join(a, "t", "{}");
	server_text("['1',null,'realtime:t','system',{'status':'error','extension':'system',"
		    "'message':'Too many messages per second','channel':'t'}]");
	server_text("['9','9','realtime:t','phx_close',{}]"); /* of no join of ours */
	server_text("['1','1','realtime:u','phx_close',{}]");
	server_text("['1','1','phoenix','phx_close',{}]");
	peer_skip(a, "");
	server_says("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	advance(5000);
	server_text("['1','1','realtime:t','phx_close',{}]");
	comes_back(&rate);
}
END_TEST

/* Twice, and late: the end of a join that is over ends nothing. */
START_TEST(ended_twice)
{
	static const struct says none = { "", "unknown", SECOND };
	struct line first;

	peer_join(a, "t", "{}");
	first = rig.frames.at[0];
	server_close(&first, NULL);
	server_close(&first, "Too many messages per second");
	server_text("['1','1','realtime:t','phx_error',{}]");
	comes_back(&none);
	server_close(&first, NULL);
	server_text("['1','1','realtime:t','phx_error',{}]");
	server_text("['1','1','realtime:t','phx_reply',{'status':'error','response':{'reason':"
		    "'Unauthorized: x'}}]");
	server_says("t", "e", "2");
	expect(a, "[2,'broadcast',*");
	expect_nothing(a);
	advance(HOUR);
	expect_no_frame();
}
END_TEST

/* ---- a join ---- */

START_TEST(refused_at_the_rejoin)
{
	char response[400];

	peer_join(a, "t", "{}");
	lose_and_open();
	snprintf(response, sizeof(response), "{'reason':'%s'}", refusals[_i].text);
	peer_skip(a, "");
	server_reply(expect_frame("*'phx_join'*"), false, response);
	comes_back(&refusals[_i]);
}
END_TEST

START_TEST(refused_at_the_first_join)
{
	const struct says *says = &refusals[_i];
	char response[400];
	uint64_t delay;

	snprintf(response, sizeof(response), "{'reason':'%s'}", says->text);
	peer_ask(a, 1, "subscribe", "{'topic':'t','timeout_ms':300000,'keep':true}");
	server_reply(expect_frame("*'phx_join'*"), false, response);
	if (says->least_ms == NEVER) {
		expect(a, "[1,1,[300,'rejected',*,null],null]");
		ck_assert_uint_ge(next_join_within(HOUR), HOUR);
		return;
	}
	expect_nothing(a);
	delay = next_join_within(HOUR);
	ck_assert_uint_ge(delay, (uint64_t)says->least_ms);
	server_join("t");
	peer_skip(a, "");
	server_says("t", "e", "1");
	expect(a, "[2,'broadcast',*");
}
END_TEST

/* No answer: should the join succeed late, it is undone before the next one. */
START_TEST(no_answer_at_the_rejoin)
{
	static const struct says silence = { "", "join_timeout", SECOND };
	struct line first;

	peer_join(a, "t", "{}");
	lose_and_open();
	peer_skip(a, "");
	first = *expect_frame("*'phx_join'*");
	advance(JOIN_REPLY_MS);
	ck_assert_uint_eq(expect_frame("[*'realtime:t','phx_leave',{}]")->join_ref, first.ref);
	expect_no_frame();
	server_text("['%" PRIu64 "','%" PRIu64
		    "','realtime:t','phx_reply',{'status':'ok','response':{}}]",
		    first.ref, first.ref);
	server_close(&first, NULL);
	comes_back(&silence);
	server_close(&first, NULL);
	server_says("t", "e", "2");
	expect(a, "[2,'broadcast',*");
}
END_TEST

/* What is parked for its token: a new one unparks it (supabase-js#1732: had to be made anew). */
START_TEST(another_token_is_tried_at_once)
{
	const char *bad = token_of_user("alice", 1), *good = token_of_user("alice", 2);

	give(a, 1, bad, UNPROVEN("1"));
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	server_reply(expect_join("t", bad), false, REFUSED_TOKEN);
	expect(a, "[1,2,[211,'bad_token',*");
	peer_skip(a, "");
	advance(MINUTE);
	expect_no_frame();
	give(a, 3, good, UNPROVEN("3"));
	peer_joins(a, 4, "t", good);
}
END_TEST

/* ---- again and again ---- */

/* What passes is retried for ever, ever less often, and not in step with the others. */
START_TEST(refused_for_now_again_and_again)
{
	enum { TOPICS = 8, ROUNDS = 60 };
	uint64_t last[TOPICS] = { 0 }, longest = 0, sum = 0;
	unsigned n = 0, in_step = 0;

	for (unsigned i = 0; i < TOPICS; i++) {
		char params[60];

		snprintf(params, sizeof(params), "{'topic':'%u','keep':true}", i);
		peer_ask(a, 10 + i, "subscribe", params);
	}
	while (n < TOPICS * ROUNDS) {
		struct line *f;
		unsigned topic;
		uint64_t at;

		MUST(next_join_within(MINUTE) < MINUTE);
		f = expect_frame("*'phx_join'*");
		topic = (unsigned)strtoul(f->topic + 9, NULL, 10);
		at = f->at_ms;
		if (last[topic]) {
			MUST(at - last[topic] >= SECOND);
			longest = at - last[topic] > longest ? at - last[topic] : longest;
			sum += at - last[topic];
		}
		for (unsigned i = 0; i < TOPICS; i++)
			in_step += i != topic && last[i] == at;
		last[topic] = at;
		server_reply(f, false, "{'reason':'TimeoutOnRpcCall: Node request timeout'}");
		n++;
	}
	ck_assert_uint_le(longest, 31 * SECOND + 100);
	ck_assert_uint_ge(longest, 25 * SECOND);
	ck_assert_uint_ge(sum / n, 10 * SECOND);
	ck_assert_uint_le(in_step, TOPICS * (TOPICS - 1) / 2 + 2); /* when all were new */
}
END_TEST

/* The stack is the same after ten thousand of them (supabase-swift#742). */
static uintptr_t deepest;

static void measure(struct fake_peer *p, const struct rtbp_msg *m)
{
	char here;

	(void)p;
	(void)m;
	deepest = (uintptr_t)&here < deepest ? (uintptr_t)&here : deepest;
}

START_TEST(ten_thousand_refusals)
{
	uintptr_t after_ten = 0;

	peer_join(a, "t", "{}");
	deepest = UINTPTR_MAX;
	a->on_message = measure;
	for (unsigned i = 0; i < 10000; i++) {
		struct line *f;

		if (i % 2)
			server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t','phx_error',{}]",
				    rig.frames.at[rig.frames.n - 1].ref,
				    rig.frames.at[rig.frames.n - 1].ref);
		MUST(i == 0 || next_join_within(MINUTE) < MINUTE);
		if (i == 0) {
			server_close(&rig.frames.at[0], NULL);
			MUST(next_join_within(MINUTE) < MINUTE);
		}
		f = expect_frame("*'phx_join'*");
		server_reply(f, i % 2 == 0, "{'reason':'Unknown Error on Channel'}");
		if (i == 10)
			after_ten = deepest;
	}
	ck_assert_uint_eq(deepest, after_ten);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_bugs_reasons");
	TCase *t = tcase_create("reasons"), *v1 = tcase_create("1.0.0");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_set_timeout(v1, 60);
	tcase_add_checked_fixture(v1, setup_1, rig_teardown);
	tcase_add_loop_test(t, ended_with_words, 0, N_ENDS);
	tcase_add_loop_test(v1, ended_with_words, 0, N_ENDS);
	tcase_add_loop_test(t, ended_without_a_word, 0, 6);
	tcase_add_test(t, words_and_ends_apart);
	tcase_add_test(v1, words_and_ends_apart);
	tcase_add_test(t, ended_twice);
	tcase_add_test(v1, ended_twice);
	tcase_add_loop_test(t, refused_at_the_rejoin, 0, N_REFUSALS);
	tcase_add_loop_test(t, refused_at_the_first_join, 0, N_REFUSALS);
	tcase_add_test(t, no_answer_at_the_rejoin);
	tcase_add_test(v1, no_answer_at_the_rejoin);
	tcase_add_test(t, another_token_is_tried_at_once);
	tcase_add_test(t, refused_for_now_again_and_again);
	tcase_add_test(t, ten_thousand_refusals);
	suite_add_tcase(s, t);
	suite_add_tcase(s, v1);
	return suite_run(s);
}
