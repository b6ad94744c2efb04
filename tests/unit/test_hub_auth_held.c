/* SPDX-License-Identifier: MIT */
/* Stories about requests that wait until the server has said whether it takes their client's token.
 */
#include "hub_fixture.h"
#include "hub_tokens.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *a, *b;
static const char *first, *second;

/* An identity is in use by a; b gave a token that claims to be it. */
static void begin_with(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	server_open();
	a = peer_ready();
	first = token_of_user("alice", 1);
	give(a, 1, first, UNPROVEN("1"));
	peer_joins(a, 2, "t", first);
	advance(1000);
	second = token_of_user("alice", 2);
}

static void begin(void)
{
	begin_with(with_links);
	b = peer_ready();
}

/* The server takes what b gave. */
static void accept_it(void)
{
	open_link(1);
	server_tries(1, second, true, "{}");
	expect_push("t", 0, second);
	trial_left();
}

static void refuse_it(void)
{
	open_link(1);
	server_tries(1, second, false, REFUSED_TOKEN);
}

START_TEST(in_their_order)
{
	struct line f;

	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'t','broadcast':{'self':true}}");
	peer_ask(b, 3, "broadcast", "{'topic':'t','event':'one','payload':1}");
	peer_ask(b, 4, "broadcast", "{'topic':'t','event':'two','payload':2}");
	peer_ask(b, 5, "sync", "{}");
	peer_ask(b, 6, "unsubscribe", "{'topic':'t'}");
	peer_call(b, "broadcast", "{'topic':'t','event':'three','payload':3}");
	peer_ask(b, 7, "sync", "{}");
	expect_nothing(b);
	accept_it();
	expect(b, ACCEPTED("1"));
	expect(b, "[1,2,null,{'chan':1,*'ready'}]");
	expect(b, "[1,6,null,{}]");
	f = *expect_frame("[3,*'realtime:t','one',1]");
	expect_nothing(b);
	server_reply(&f, true, "{}");
	expect(a, "[2,'broadcast',*'one'*");
	expect(b, "[1,3,null,{'outcome':'acked',*");
	expect_nothing(b); /* the barrier waits for the second */
	server_reply(expect_frame("[3,*'realtime:t','two',2]"), true, "{}");
	expect(b, "[1,4,null,{'outcome':'acked',*");
	expect(b, "[1,5,null,{}]");
	expect_nothing(b);
	server_reply(expect_frame("[3,*'realtime:t','three',3]"), true, "{}");
	expect(b, "[1,7,null,{}]");
	expect_nothing(b);
}
END_TEST

START_TEST(of_a_hello)
{
	struct fake_peer *p = peer_with(second, "[1,0,null,{*'token':{'state':'pending',*}}]");

	peer_ask(p, 1, "subscribe", "{'topic':'t'}");
	peer_ask(p, 2, "sync", "{}");
	expect_nothing(p);
	accept_it();
	expect(p, "[1,1,null,{'chan':1,*'ready'}]");
	expect(p, "[1,2,null,{}]");
	expect_nothing(p);
}
END_TEST

START_TEST(of_a_hello_that_is_refused)
{
	struct fake_peer *p = peer_with(second, "[1,0,null,{*'token':{'state':'pending',*}}]");

	peer_ask(p, 1, "subscribe", "{'topic':'t'}");
	peer_call(p, "broadcast", "{'topic':'t','event':'e','payload':1}");
	peer_ask(p, 2, "sync", "{}");
	refuse_it();
	expect(p, "[2,'error',{'method':'auth',*'error':[211,'bad_token','" SIGNATURE_WORDS
		  "',null]}]");
	expect(p, "[1,1,[211,*");
	expect(p, "[2,'error',{'method':'broadcast','error':[211,*");
	expect(p, "[1,2,null,{}]");
	expect_nothing(p);
	expect_no_frame();
	/* The way out. */
	give(p, 3, first, ACCEPTED("3"));
	peer_shares(p, 4, "t");
}
END_TEST

/* Refused: what was in force before is what they are carried out with. */
START_TEST(of_an_auth_that_is_refused)
{
	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'u'}");
	refuse_it();
	expect(b, "[1,1,[211,'bad_token','" SIGNATURE_WORDS "',null],null]");
	server_reply(expect_join("u", "the-key"), true, "{}");
	expect(b, "[1,2,null,{'chan':2,*'ready'}]");
}
END_TEST

/* An auth among them: what stands behind it waits for the next word. */
START_TEST(an_auth_behind_an_auth)
{
	const char *third = token_of_user("alice", 3), *bob = token_of_user("bob", 1);

	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'t'}");
	give(b, 3, third, NULL);
	peer_ask(b, 4, "sync", "{}");
	give(b, 5, bob, NULL);
	peer_ask(b, 6, "subscribe", "{'topic':'x'}");
	accept_it();
	expect(b, ACCEPTED("1"));
	expect(b, "[1,2,null,{'chan':1,*'ready'}]");
	expect_nothing(b);
	server_tries(1, third, true, "{}");
	trial_left();
	expect(b, ACCEPTED("3"));
	expect(b, "[1,4,null,{}]");
	expect(b, UNPROVEN("5"));
	expect(b, "[2,'channel',{'chan':1,*'token_replaced',*");
	server_reply(expect_join("x", bob), true, "{}");
	expect(b, "[1,6,null,{'chan':2,*'ready'}]");
	expect_nothing(b);
}
END_TEST

/* Who asks how things stand wants to know it now. */
START_TEST(what_is_not_held)
{
	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'t'}");
	peer_ask(b, 3, "status", "{}");
	expect(b, "[1,3,null,{'server':*");
	peer_ask(b, 4, "channels", "{}");
	expect(b, "[1,4,null,{'channels':*");
	peer_ask(b, 5, "clients", "{}");
	expect(b, "[1,5,null,{'clients':*");
	peer_ask(b, 6, "hello", "{'protocol':1}");
	expect(b, "[1,6,[200,*");
	peer_ask(b, 7, "no-such-method", "{}");
	expect(b, "[1,7,[204,*");
	expect_nothing(b);
}
END_TEST

/* What a client has already goes on while it waits. */
START_TEST(what_flows_goes_on)
{
	peer_join(b, "u", "{}");
	give(b, 2, second, NULL);
	server_broadcast("u", "e", "1");
	expect(b, "[2,'broadcast',*");
	server_drop(SESSION_FAULT_LOST, "gone");
	expect(b, "[2,'channel',*'rejoining'*");
	expect(b, "[2,'connection',*");
	expect_nothing(b);
}
END_TEST

/* ---- their time ---- */

/* As long as each says of itself; nobody is there to be asked. */
START_TEST(timeouts)
{
	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'t','timeout_ms':1000}");
	peer_ask(b, 3, "subscribe", "{'topic':'u','timeout_ms':1000,'keep':true}");
	peer_ask(b, 4, "broadcast", "{'topic':'t','event':'e','payload':1,'ttl_ms':2000}");
	peer_ask(b, 5, "track", "{'topic':'t','state':{},'timeout_ms':3000}");
	peer_ask(b, 6, "sync", "{'timeout_ms':4000}");
	peer_call(b, "broadcast", "{'topic':'t','event':'e','payload':1,'ttl_ms':4500}");
	peer_ask(b, 7, "auth", "{'token':null,'timeout_ms':5000}");
	peer_ask(b, 8, "broadcast", "{'topic':'t','event':'e','payload':1}");
	advance(999);
	expect_nothing(b);
	advance(1);
	expect(b, "[1,2,[101,'timeout',*");
	expect_nothing(b);
	advance(1000);
	expect(b, "[1,4,null,{'outcome':'expired','via':'ws','text':*}]");
	advance(1000);
	expect(b, "[1,5,[101,'timeout',*");
	advance(1000);
	expect(b, "[1,6,[101,'timeout',*");
	expect_nothing(b);
	advance(1000);
	expect(b, "[1,7,[101,'timeout',*");
	advance(4999);
	expect_nothing(b);
	advance(1);
	expect(b, "[1,8,null,{'outcome':'expired',*");
	expect_nothing(b);
	/* The auth itself: then the kept wish is carried out with what was in force. */
	advance(5000);
	expect(b, "[1,1,[101,'timeout',*");
	server_reply(expect_join("u", "the-key"), true, "{}");
	expect(b, "[1,3,null,{*'topic':'u',*'state':'joining'}]");
	expect(b, "[2,'channel',{*'topic':'u',*'state':'ready'}]");
	expect_nothing(b);
	expect_no_frame();
}
END_TEST

/* What has waited does not begin its time anew. */
START_TEST(time_goes_on)
{
	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'u','timeout_ms':3000}");
	peer_ask(b, 3, "broadcast", "{'topic':'v','event':'e','payload':1,'ttl_ms':3500}");
	peer_ask(b, 4, "track", "{'topic':'w','state':{},'timeout_ms':4000}");
	peer_ask(b, 5, "sync", "{'timeout_ms':4500}");
	advance(2500);
	accept_it();
	expect(b, ACCEPTED("1"));
	expect_nothing(b);
	advance(499);
	expect_nothing(b);
	advance(1);
	expect(b, "[1,2,[101,*");
	expect_nothing(b);
	advance(500);
	expect(b, "[1,3,null,{'outcome':'expired',*");
	expect_nothing(b);
	advance(500);
	expect(b, "[1,4,null,{'outcome':'queued',*");
	/* Nothing stands before the barrier any more. */
	expect(b, "[1,5,null,{}]");
	expect_nothing(b);
}
END_TEST

/* A barrier behind what takes long. */
START_TEST(time_of_a_barrier)
{
	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'u','timeout_ms':60000}");
	peer_ask(b, 3, "sync", "{'timeout_ms':4000}");
	advance(2500);
	accept_it();
	expect(b, ACCEPTED("1"));
	advance(1499);
	expect_nothing(b);
	advance(1);
	expect(b, "[1,3,[101,'timeout',*");
	expect_nothing(b);
}
END_TEST

START_TEST(time_of_an_auth)
{
	const char *third = token_of_user("alice", 3);
	char params[2000];

	give(b, 1, second, NULL);
	snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':4000}", third);
	peer_ask(b, 2, "auth", params);
	advance(2500);
	accept_it();
	expect(b, ACCEPTED("1"));
	expect_join("rtbridge:*", third);
	advance(1499);
	expect_nothing(b);
	advance(1);
	expect(b, "[1,2,[101,'timeout',*");
	expect_nothing(b);
	/* What was accepted before it is still in force. */
	peer_shares(b, 3, "t");
}
END_TEST

/* Wishes to have less are carried out whenever it is. */
START_TEST(an_unsubscribe_is_not_forgotten)
{
	char params[2000];

	peer_join(b, "u", "{}");
	server_drop(SESSION_FAULT_LOST, "gone");
	rig.open_result = -ENETDOWN;
	peer_skip(b, "");
	snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':60000}", second);
	peer_ask(b, 2, "auth", params);
	peer_ask(b, 3, "unsubscribe", "{'topic':'u'}");
	advance(60000);
	expect(b, "[1,2,[101,'timeout',*");
	expect(b, "[1,3,null,{}]");
	peer_ask(b, 4, "unsubscribe", "{'topic':'u'}");
	expect(b, "[1,4,[206,*");
	expect_nothing(b);
}
END_TEST

/* ---- limits ---- */

START_TEST(too_many)
{
	char params[2000];

	snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':300000}", second);
	peer_ask(b, 1, "auth", params);
	for (unsigned i = 0; i < HELD_MAX; i++)
		peer_ask(b, 10 + i, "subscribe", "{'topic':'t','keep':true}");
	expect_nothing(b);
	peer_ask(b, 2, "subscribe", "{'topic':'t'}");
	expect(b, "[1,2,[100,'busy',*");
	peer_call(b, "broadcast", "{'topic':'t','event':'e','payload':1}");
	expect(b, "[2,'error',{'method':'broadcast','error':[100,'busy',*");
	peer_ask(b, 5, "broadcast", "{'topic':'t','event':'e','payload':1}");
	expect(b, "[1,5,null,{'outcome':'busy',*");
	peer_ask(b, 3, "status", "{}");
	expect(b, "[1,3,null,*");
	/* No other client hears of it. */
	peer_ask(a, 3, "sync", "{}");
	expect(a, "[1,3,null,{}]");
	accept_it();
	expect(b, ACCEPTED("1"));
	for (unsigned i = 0; i < HELD_MAX; i++)
		expect(b, "[1,*,null,{'chan':1,*'ready'}]");
	expect_nothing(b);
	peer_ask(b, 4, "sync", "{}");
	expect(b, "[1,4,null,{}]");
}
END_TEST

START_TEST(too_large)
{
	static char params[300 * 1024], big[sizeof(params) - 100];

	memset(big, 'x', sizeof(big) - 1);
	give(b, 1, second, NULL);
	snprintf(params, sizeof(params), "{'topic':'t','event':'e','payload':'%s'}", big);
	for (unsigned i = 2; i < 5; i++)
		peer_ask(b, i, "broadcast", params);
	expect_nothing(b);
	peer_ask(b, 5, "broadcast", params);
	expect(b, "[1,5,null,{'outcome':'busy',*");
	peer_ask(b, 6, "sync", "{}"); /* what is small has room still */
	expect_nothing(b);
}
END_TEST

/* ---- ends ---- */

START_TEST(gone_while_held)
{
	struct fake_peer *p;

	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'x'}");
	peer_ask(b, 3, "broadcast", "{'topic':'x','event':'e','payload':1}");
	peer_close(b);
	/* Nobody needs to know whether it is taken. */
	ck_assert_uint_eq(rig.hub->n_tokens, 1);
	if (rig.links[1].is_open)
		open_link(1);
	advance(40000);
	ck_assert_uint_eq(frames_with("'x'"), 0);
	ck_assert_uint_eq(frames_with(second), 0);
	p = peer_with(second, "[1,0,null,{*'token':{'state':'pending',*}}]");
	peer_close(p);
	expect_nothing(a);
}
END_TEST

/* Gone while the server is being asked: its answer is nobody's. */
START_TEST(gone_while_asked)
{
	struct line f;

	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'x'}");
	open_link(1);
	f = *expect_join("rtbridge:*", second);
	peer_close(b);
	server_reply(&f, true, "{}");
	trial_left();
	expect_no_frame();
	expect_nothing(a);
	ck_assert_uint_eq(rig.hub->n_tokens, 1);
}
END_TEST

START_TEST(drained)
{
	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'x'}");
	peer_ask(b, 3, "broadcast", "{'topic':'x','event':'e','payload':1}");
	hub_drain(rig.hub, 500);
	turn();
	advance(3000);
	expect_farewell(a, "shutdown", false);
	expect_farewell(b, "shutdown", false);
	peer_close(a);
	peer_close(b);
	advance(3000);
	ck_assert(rig.drained);
	ck_assert_uint_eq(frames_with(second), 0);
}
END_TEST

static void begin_offline(void)
{
	begin();
	server_drop(SESSION_FAULT_LOST, "gone");
	peer_skip(a, "");
	peer_skip(b, "");
}

/* Nobody to be asked, for a long time: a hello waits on, what it holds does not. */
START_TEST(offline_for_long)
{
	struct fake_peer *p;

	begin_offline();
	p = peer_with(second, "[1,0,null,{*'token':{'state':'pending',*}}]");
	give(b, 1, second, NULL);
	peer_ask(p, 1, "subscribe", "{'topic':'t'}");
	peer_ask(p, 2, "subscribe", "{'topic':'t','keep':true}");
	rig.open_result = -ENETDOWN;
	advance(15000);
	expect(b, "[1,1,[101,'timeout',*");
	expect(p, "[1,1,[101,'timeout',*");
	advance(600000);
	expect_nothing(p);
	rig.open_result = 0;
	advance(60000);
	server_open();
	peer_skip(p, "");
	server_reply(expect_join("t", first), true, "{}");
	advance(1);
	ck_assert(rig.links[1].is_open);
	open_link(1);
	server_tries(1, second, true, "{}");
	expect_push("t", 0, second);
	trial_left();
	expect(p, "[1,2,null,{'chan':1,*'ready'}]");
	expect_nothing(p);
}
END_TEST

/* It expires while nobody can be asked about it. */
START_TEST(expired_while_held)
{
	struct fake_peer *p;

	begin_offline();
	p = peer_with(second, "[1,0,null,{*'token':{'state':'pending',*}}]");
	peer_ask(p, 1, "subscribe", "{'topic':'t','keep':true}");
	rig.open_result = -ENETDOWN;
	advance(3700000);
	expect(p, "[2,'error',{'method':'auth',*'error':[211,'bad_token',*]}]");
	expect(p, "[1,1,[211,'bad_token',*");
	peer_ask(p, 2, "subscribe", "{'topic':'t'}");
	expect(p, "[1,2,[211,'bad_token',*");
	rig.open_result = 0;
	advance(60000);
	server_open();
	advance(1000);
	ck_assert_uint_eq(frames_with(second), 0);
	expect_no_frame();
}
END_TEST

/* ---- where there is one connection only ---- */

static void one_link(struct hub_conf *conf)
{
	conf->max_links = 1;
}

/* Each refusal makes all others wait for 5 s: how many are borne does not depend on whether who
 * caused them waits for the answer. */
START_TEST(who_goes_before_the_answer_pays_for_it)
{
	struct line f[8];
	unsigned n = 0;
	size_t from;
	struct fake_peer *p;

	begin_with(one_link);
	rig.uid = 1001;
	for (unsigned i = 0; i < 8; i++) {
		from = rig.frames.n;
		p = peer_ready();
		give(p, 1, token_of_user("alice", 100 + i), NULL);
		peer_close(p);
		if (rig.frames.n == from)
			continue;
		f[n++] = *expect_frame("[*'realtime:rtbridge:*','phx_join',*");
		server_reply(&f[n - 1], false, REFUSED_TOKEN);
		advance(1000);
	}
	ck_assert_uint_le(n, BUDGET_OF_USER);
}
END_TEST

/* And they are out one at a time. */
START_TEST(one_trial_at_a_time)
{
	struct fake_peer *p;
	struct line f;

	begin();
	give(b, 1, second, NULL);
	open_link(1);
	f = *expect_join("rtbridge:*", second);
	peer_close(b);
	for (unsigned i = 0; i < 20; i++) {
		p = peer_ready();
		give(p, 1, token_of_user("alice", 100 + i), NULL);
		peer_close(p);
	}
	expect_no_frame();
	server_reply(&f, false, REFUSED_TOKEN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_auth_held");
	TCase *t = tcase_create("held"), *own = tcase_create("own begin");

	tcase_add_checked_fixture(t, begin, rig_teardown);
	tcase_add_test(t, in_their_order);
	tcase_add_test(t, of_a_hello);
	tcase_add_test(t, of_a_hello_that_is_refused);
	tcase_add_test(t, of_an_auth_that_is_refused);
	tcase_add_test(t, an_auth_behind_an_auth);
	tcase_add_test(t, what_is_not_held);
	tcase_add_test(t, what_flows_goes_on);
	tcase_add_test(t, timeouts);
	tcase_add_test(t, time_goes_on);
	tcase_add_test(t, time_of_a_barrier);
	tcase_add_test(t, time_of_an_auth);
	tcase_add_test(t, an_unsubscribe_is_not_forgotten);
	tcase_add_test(t, too_many);
	tcase_add_test(t, too_large);
	tcase_add_test(t, gone_while_held);
	tcase_add_test(t, gone_while_asked);
	tcase_add_test(t, drained);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(own, NULL, rig_teardown);
	tcase_add_test(own, offline_for_long);
	tcase_add_test(own, expired_while_held);
	tcase_add_test(own, who_goes_before_the_answer_pays_for_it);
	tcase_add_test(own, one_trial_at_a_time);
	suite_add_tcase(s, own);
	return suite_run(s);
}
