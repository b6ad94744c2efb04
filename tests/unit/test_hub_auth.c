/* SPDX-License-Identifier: MIT */
/* Stories about clients with tokens of their own: which joins carry them, who shares what, what
 * ends with a token. */
#include "hub_fixture.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *a, *b;

static void begin(void)
{
	rig_start(with_links);
	server_open();
	a = peer_ready();
	b = peer_ready();
}

START_TEST(a_join_carries_it)
{
	const char *alice = token_of_user("alice", 1);

	give(a, 1, alice, "[1,1,null,{'state':'unproven','expires':*}]");
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	server_reply(expect_join("t", alice), true, "{}");
	expect(a, "[1,2,null,{'chan':1,*'ready'}]");
	give(a, 3, alice, "[1,3,null,{'state':'accepted','expires':*}]");
	expect_no_frame();
	/* Others share it by the same bytes, and only so. */
	give(b, 1, alice, "[1,1,null,{'state':'accepted',*}]");
	peer_ask(b, 2, "subscribe", "{'topic':'t'}");
	expect(b, "[1,2,null,{'chan':1,*'ready'}]");
	give(b, 3, token_of_user("bob", 1), "[1,3,null,{'state':'unproven',*}]");
	expect(b, "[2,'channel',{'chan':1,*'state':'rejected','code':'token_replaced','text':*}]");
	peer_ask(b, 4, "subscribe", "{'topic':'t'}");
	expect_no_frame();
	open_link(1);
	server_reply(expect_join("t", token_of_user("bob", 1)), true, "{}");
	expect(b, "[1,4,null,{'chan':2,*'ready'}]");
}
END_TEST

/* Claims of an identity that others use: tried on a connection apart before it may touch theirs. */
START_TEST(refreshed_by_each)
{
	const char *first = token_of_user("alice", 1), *second;
	struct line *f;

	give(a, 1, first, "[1,1,null,{'state':'unproven',*}]");
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	server_reply(expect_join("t", first), true, "{}");
	expect(a, "[1,2,null,{'chan':1,*'ready'}]");
	advance(1000);
	second = token_of_user("alice", 2);
	give(b, 1, second, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'t'}");
	expect_nothing(b);
	open_link(1);
	f = expect_join("rtbridge:*", second);
	ck_assert_uint_eq(f->link, 1);
	server_reply(f, true, "{}");
	f = expect_frame("[*,*,'realtime:t','access_token',{'access_token':*}]");
	ck_assert_uint_eq(f->link, 0);
	expect_frame("[*'realtime:rtbridge:*','phx_leave',{}]");
	expect(b, "[1,1,null,{'state':'accepted',*}]");
	expect(b, "[1,2,null,{'chan':1,*'ready'}]");
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

START_TEST(refused_first_join)
{
	const char *alice = token_of_user("alice", 1);

	give(a, 1, alice, "[1,1,null,{'state':'unproven',*}]");
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	server_reply(expect_join("t", alice), false,
		     "{'reason':'JwtSignatureError: Failed to validate JWT signature'}");
	expect(a, "[1,2,[211,'bad_token','JwtSignatureError*',null],null]");
	expect(a, "[2,'error',{'method':'auth','code':'token_signature','error':[211,'bad_token',*]"
		  "}]");
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	expect(a, "[1,3,[211,'bad_token','JwtSignatureError*',null],null]");
	expect_no_frame();
	give(a, 4, alice, "[1,4,[211,'bad_token','JwtSignatureError*',null],null]");
	peer_ask(a, 5, "auth", "{'token':null}");
	expect(a, "[1,5,null,{'state':'cleared'}]");
	peer_ask(a, 6, "subscribe", "{'topic':'t'}");
	server_reply(expect_join("t", "the-key"), true, "{}");
	expect(a, "[1,6,null,{*'ready'}]");
}
END_TEST

START_TEST(expiry)
{
	const char *alice = token_of_user("alice", 1);

	give(a, 1, alice, "[1,1,null,{'state':'unproven',*}]");
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	server_reply(expect_join("t", alice), true, "{}");
	expect(a, "[1,2,null,{'chan':1,*'ready'}]");
	advance(3599000);
	expect_nothing(a);
	advance(2000);
	expect(a,
	       "[2,'error',{'method':'auth','code':'token_expired','error':[211,'bad_token',*]}]");
	expect(a, "[2,'channel',{'chan':1,*'state':'rejected','code':'token_expired','text':*}]");
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	expect(a, "[1,3,[211,*],null]");
	advance(2000);
	expect_frame("*'phx_leave'*");
	expect_no_frame();
}
END_TEST

/* ---- for one topic ---- */

START_TEST(per_topic)
{
	const char *alice = token_of_user("alice", 1), *bob = token_of_user("bob", 1);
	struct line *f;

	give_for(a, 1, "t", alice, UNPROVEN("1"));
	peer_joins(a, 2, "t", alice);
	peer_joins(a, 3, "u", "the-key");
	/* Private and public of a name are one scope. */
	peer_ask(a, 4, "subscribe", "{'topic':'t','private':true}");
	open_link(1);
	server_reply(expect_join("t", alice), true, "{}");
	expect(a, "[1,4,null,{'chan':3,*'ready'}]");
	/* A general one beside it is for the others. */
	give(a, 5, bob, UNPROVEN("5"));
	expect(a, "[2,'channel',{'chan':2,'topic':'u',*'rejected','code':'token_replaced',*}]");
	expect_nothing(a);
	peer_joins(a, 6, "v", bob);
	/* By the chan of something that this client has. */
	peer_ask(a, 7, "auth", "{'chan':1,'token':null}");
	expect(a, "[1,7,null,{'state':'cleared'}]");
	expect(a, "[2,'channel',{'chan':1,*'rejected','code':'token_cleared',*}]");
	expect(a, "[2,'channel',{'chan':3,*'rejected','code':'token_cleared',*}]");
	expect_nothing(a);
	/* From there on the general one is in force for it. The place of the one before is free at
	 * once. */
	peer_ask(a, 8, "subscribe", "{'topic':'t'}");
	ck_assert_uint_eq(expect_frame("[*'realtime:t','phx_leave',*")->link, 0);
	f = expect_join("t", bob);
	ck_assert_uint_eq(f->link, 0);
	server_reply(f, true, "{}");
	expect(a, "[1,8,null,{'chan':5,*'ready'}]");
	peer_ask(a, 9, "auth", "{'token':null}");
	expect(a, "[1,9,null,{'state':'cleared'}]");
	expect(a, "[2,'channel',{'chan':4,*'code':'token_cleared',*}]");
	expect(a, "[2,'channel',{'chan':5,*'code':'token_cleared',*}]");
	expect_nothing(a);
}
END_TEST

/* ---- another identity ---- */

START_TEST(replaced)
{
	const char *alice = token_of_user("alice", 1), *bob = token_of_user("bob", 1);
	struct line f, row;

	rig.probes = true;
	give(a, 1, alice, UNPROVEN("1"));
	peer_joins(a, 2, "t", alice);
	peer_ask(a, 3, "track", "{'topic':'k','state':{'n':1}}");
	server_reply(expect_join("k", alice), true, "{}");
	server_reply(expect_frame("[*'presence',{*'n':1*"), true, "{}");
	expect(a, "[1,3,null,{'outcome':'acked',*");
	peer_ask(a, 4, "subscribe", "{'postgres_changes':[{'schema':'public','table':'t'}]}");
	row = *expect_join("rtbridge:*", alice);
	server_reply(&row, true, "{'postgres_changes':[{'id':11}]}");
	server_text("['%u',null,'%s','system',{'message':'ok','status':'ok','extension':"
		    "'postgres_changes','channel':'x'}]",
		    (unsigned)row.ref, row.topic);
	expect(a, "[1,4,null,{'chan':3,*'ready',*");
	peer_ask(a, 5, "broadcast", "{'chan':1,'event':'e','payload':1}");
	f = *expect_frame("[3,*'realtime:t','e',1]");
	peer_ask(a, 6, "subscribe", "{'topic':'slow'}");
	expect_join("slow", alice);
	give(a, 7, bob, UNPROVEN("7"));
	expect(a, "[2,'channel',{'chan':1,*'rejected','code':'token_replaced',*}]");
	expect(a, "[2,'channel',{'chan':3,'topic':'',*'rejected','code':'token_replaced',*}]");
	expect(a, "[1,6,[211,'bad_token',*,null],null]");
	expect(a, "[2,'error',{'method':'track','chan':2,*'error':[211,'bad_token',*]}]");
	expect_nothing(a);
	/* The old identity's presence goes at once, its send has its answer. */
	expect_frame("[*'realtime:k','presence',{*'untrack'*");
	server_reply(&f, true, "{}");
	expect(a, "[1,5,null,{'outcome':'acked',*");
	server_broadcast("t", "e", "2");
	server_text("['%u',null,'%s','postgres_changes',{'ids':[11],'data':{'type':'INSERT',"
		    "'schema':'public','table':'t','record':{}}}]",
		    (unsigned)row.ref, row.topic);
	expect_nothing(a);
}
END_TEST

/* What waits for its channel was asked for with the token that has gone. */
START_TEST(sends_of_a_token_that_was_replaced)
{
	const char *alice = token_of_user("alice", 1), *bob = token_of_user("bob", 1);
	struct line f;

	give(a, 1, alice, UNPROVEN("1"));
	peer_ask(a, 2, "broadcast", "{'topic':'t','event':'e','payload':'of alice'}");
	f = *expect_join("t", alice);
	give(a, 3, bob, UNPROVEN("3"));
	expect(a, "[1,2,[211,'bad_token',*,null],null]");
	server_reply(&f, true, "{}");
	expect_no_frame();
	ck_assert_uint_eq(frames_with("of alice"), 0);
}
END_TEST

/* A barrier behind them is answered behind them. */
START_TEST(sends_and_a_barrier)
{
	const char *alice = token_of_user("alice", 1);
	char params[100];

	give(a, 1, alice, UNPROVEN("1"));
	for (unsigned i = 2; i < 8; i += 2) {
		snprintf(params, sizeof(params), "{'topic':'t','event':'e','payload':%u}", i);
		peer_ask(a, i, "broadcast", params);
		peer_ask(a, i + 1, "sync", "{}");
	}
	expect_join("t", alice);
	peer_ask(a, 8, "auth", "{'token':null}");
	expect(a, "[1,8,null,{'state':'cleared'}]");
	for (unsigned i = 2; i < 8; i += 2) {
		snprintf(params, sizeof(params), "[1,%u,[211,'bad_token',*,null],null]", i);
		expect(a, params);
		snprintf(params, sizeof(params), "[1,%u,null,{}]", i + 1);
		expect(a, params);
	}
	expect_nothing(a);
}
END_TEST

/* ---- the same identity ---- */

START_TEST(replaced_by_its_like)
{
	const char *first = token_of_user("alice", 1), *longer, *shorter;

	give(a, 1, first, UNPROVEN("1"));
	peer_joins(a, 2, "t", first);
	peer_joins(a, 3, "u", first);
	peer_join(b, "of-the-daemon", "{}");
	advance(1000);
	longer = token_of_user("alice", 2);
	give(a, 4, longer, NULL);
	open_link(1);
	server_tries(1, longer, true, "{}");
	/* Each join of the identity is told once. */
	expect_push("t", 0, longer);
	expect_push("u", 0, longer);
	trial_left();
	expect(a, ACCEPTED("4"));
	expect_nothing(a);
	/* Accepted before: at once, and no news. */
	give(a, 5, longer, ACCEPTED("5"));
	expect_no_frame();
	shorter = token_of("'role':'authenticated','sub':'alice'", 1800, 3);
	give(a, 6, shorter, NULL);
	server_tries(1, shorter, true, "{}");
	/* Worse than what they have: nothing is pushed. But what is the client's now counts. */
	trial_left();
	expect(a, ACCEPTED("6"));
	expect_no_frame();
	peer_joins(a, 7, "v", shorter);
	advance(1801000);
	expect(a, "[2,'error',{'method':'auth',*");
	expect(a, "[2,'channel',{'chan':1,*'token_expired',*");
	expect(a, "[2,'channel',{'chan':2,*'token_expired',*");
	expect(a, "[2,'channel',{'chan':4,*'token_expired',*");
	expect_nothing(a);
	expect_nothing(b);
}
END_TEST

/* Refused: what was in force stays, and nothing of it was ever pushed. */
START_TEST(replaced_by_a_forged_like)
{
	const char *first = token_of_user("alice", 1), *forged;

	give(a, 1, first, UNPROVEN("1"));
	peer_joins(a, 2, "t", first);
	forged = token_of("'role':'authenticated','sub':'alice'", 7200, 2);
	give(a, 3, forged, NULL);
	open_link(1);
	server_tries(1, forged, false, REFUSED_TOKEN);
	expect(a, "[1,3,[211,'bad_token','" SIGNATURE_WORDS "',null],null]");
	expect_nothing(a);
	expect_no_frame();
	peer_joins(a, 4, "u", first);
	ck_assert_uint_eq(frames_with(forged), 1);
}
END_TEST

/* Sixteen clients of one identity bring a new one each, one after the other. */
START_TEST(sixteen_refresh)
{
	const char *first = token_of_user("alice", 0), *next;
	struct fake_peer *p[16];

	for (unsigned i = 0; i < 16; i++) {
		p[i] = i ? peer_ready() : a;
		give(p[i], 1, first, i ? ACCEPTED("1") : UNPROVEN("1"));
		if (i)
			peer_shares(p[i], 2, "t");
		else
			peer_joins(p[i], 2, "t", first);
	}
	for (unsigned i = 0; i < 16; i++) {
		advance(1000);
		next = token_of_user("alice", i + 1);
		give(p[i], 3, next, NULL);
		if (i == 0)
			open_link(1);
		server_tries(1, next, true, "{}");
		expect_push("t", 0, next);
		trial_left();
		expect(p[i], ACCEPTED("3"));
	}
	for (unsigned i = 0; i < 16; i++)
		expect_nothing(p[i]);
	expect_no_frame();

	ck_assert_uint_eq(frames_with("\"realtime:t\",\"phx_join\""), 1);
	ck_assert_uint_eq(frames_with("\"access_token\",{"), 16);
	/* The link of the trials goes; the channel knows nothing of it. */
	advance(31000);
	ck_assert(!rig.links[1].is_open);
	server_broadcast("t", "e", "1");
	for (unsigned i = 0; i < 16; i++)
		expect(p[i], "[2,'broadcast',{'chan':1,*");
}
END_TEST

/* ---- claims of another's identity ---- */

/* Two that claim the same, and none is believed yet: the first is asked about first. */
START_TEST(two_unproven)
{
	const char *first = token_of_user("alice", 1), *second;

	give(a, 1, first, UNPROVEN("1"));
	advance(1000);
	second = token_of_user("alice", 2);
	give(b, 1, second, NULL);
	open_link(1);
	server_tries(1, first, true, "{}");
	trial_left();
	server_tries(1, second, true, "{}");
	trial_left();
	expect(b, ACCEPTED("1"));
	peer_joins(a, 2, "t", second); /* the one that lives longest */
	peer_shares(b, 2, "t");
}
END_TEST

/* The word about the second comes first, because users take turns: still one in the end. */
START_TEST(two_unproven_of_two_users)
{
	const char *first = token_of_user("alice", 1), *second = token_of_user("alice", 2);
	struct fake_peer *c, *d;

	rig.uid = 2000;
	c = peer_ready();
	rig.uid = 1500;
	d = peer_ready();
	give(c, 1, first, UNPROVEN("1"));
	give(d, 1, second, NULL);
	open_link(1);
	for (unsigned i = 0; i < 2; i++) {
		server_reply(expect_frame("[*'realtime:rtbridge:*','phx_join',*"), true, "{}");
		trial_left();
	}
	expect(d, ACCEPTED("1"));
	give(c, 3, first, ACCEPTED("3"));
	peer_ask(c, 4, "subscribe", "{'topic':'t'}");
	server_reply(expect_frame("[*'realtime:t','phx_join',*"), true, "{}");
	expect(c, "[1,4,null,{'chan':1,*");
	peer_shares(d, 4, "t");
	ck_assert_uint_eq(messages_with(d, "\"chan\":1"), 1);
}
END_TEST

/* One is taken while its like is refused: the bearer of the good one gets an identity. */
START_TEST(accepted_while_its_like_is_refused)
{
	const char *forged = token_of_user("alice", 1), *true_one = token_of_user("alice", 2);

	give(a, 1, forged, UNPROVEN("1"));
	give(b, 1, true_one, NULL);
	peer_ask(b, 2, "subscribe", "{'topic':'t'}");
	open_link(1);
	server_tries(1, forged, false, REFUSED_TOKEN);
	expect(a, "[2,'error',{'method':'auth',*'error':[211,*]}]");
	expect_nothing(a);
	server_tries(1, true_one, true, "{}");
	trial_left();
	expect(b, ACCEPTED("1"));
	server_reply(expect_join("t", true_one), true, "{}");
	expect(b, "[1,2,null,{*'ready'}]");
	/* Said again it is refused without asking. */
	give(a, 2, forged, "[1,2,[211,'bad_token','" SIGNATURE_WORDS "',null],null]");
	expect_no_frame();
}
END_TEST

/* Whatever the bearer of a forged token tries: nothing of those whose claims it copied. */
START_TEST(forged)
{
	const char *alice = token_of_user("alice", 1), *copy;
	struct fake_peer *m;

	give(a, 1, alice, UNPROVEN("1"));
	peer_ask(a, 2, "subscribe", "{'topic':'secret-topic'}");
	server_reply(expect_join("secret-topic", alice), true, "{}");
	expect(a, "[1,2,null,{'chan':1,*");
	rig.uid = 1001;
	copy = token_of_user("alice", 666);
	m = peer_with(copy, "[1,0,null,{*'token':{'state':'pending','expires':*}}]");
	peer_ask(m, 1, "subscribe", "{'topic':'secret-topic'}");
	peer_ask(m, 2, "subscribe", "{'topic':'secret-topic','presence':{}}");
	peer_ask(m, 3, "broadcast", "{'topic':'secret-topic','event':'e','payload':'evil'}");
	peer_ask(m, 4, "track", "{'topic':'secret-topic','state':{'evil':1}}");
	peer_ask(m, 5, "subscribe", "{'postgres_changes':[{'schema':'public','table':'t'}]}");
	peer_ask(m, 6, "broadcast", "{'chan':1,'event':'e','payload':'evil'}");
	server_broadcast("secret-topic", "e", "'secret'");
	expect(a, "[2,'broadcast',*");
	open_link(1);
	server_tries(1, copy, false, REFUSED_TOKEN);
	expect(m, "[2,'error',{'method':'auth',*'error':[211,*]}]");
	for (unsigned id = 1; id < 6; id++)
		expect(m, "[1,*,[211,'bad_token','" SIGNATURE_WORDS "',null],null]");
	expect(m, "[1,6,[206,'not_subscribed',*");
	server_broadcast("secret-topic", "e", "'secret'");
	expect(a, "[2,'broadcast',*");
	expect_nothing(m);
	expect_nothing(a);
	expect_no_frame();
	ck_assert_uint_eq(frames_with("evil"), 0);
	ck_assert_uint_eq(messages_with(m, "secret"), 0);
	ck_assert_uint_eq(messages_with(m, "\"chan\""), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_auth");
	TCase *t = tcase_create("auth");

	tcase_add_checked_fixture(t, begin, rig_teardown);
	tcase_add_test(t, a_join_carries_it);
	tcase_add_test(t, refreshed_by_each);
	tcase_add_test(t, refused_first_join);
	tcase_add_test(t, expiry);
	tcase_add_test(t, per_topic);
	tcase_add_test(t, replaced);
	tcase_add_test(t, sends_of_a_token_that_was_replaced);
	tcase_add_test(t, sends_and_a_barrier);
	tcase_add_test(t, replaced_by_its_like);
	tcase_add_test(t, replaced_by_a_forged_like);
	tcase_add_test(t, sixteen_refresh);
	tcase_add_test(t, two_unproven);
	tcase_add_test(t, two_unproven_of_two_users);
	tcase_add_test(t, accepted_while_its_like_is_refused);
	tcase_add_test(t, forged);
	suite_add_tcase(s, t);
	return suite_run(s);
}
