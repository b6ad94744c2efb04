/* SPDX-License-Identifier: MIT */
/* Stories about how tokens are given: by hello and by auth, in good and in bad form, for which
 * topics. */
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

START_TEST(never_sent)
{
	static char large[9000];
	char mark[40], params[20000];
	const char *bad[16], *good = token_of_user("alice", 1);
	unsigned n = 0;

	memset(large, 'x', sizeof(large) - 1);
	bad[n++] = "sb_secret_0123456789abcdef";
	bad[n++] = "";
	bad[n++] = "two.parts";
	bad[n++] = "no!base64.no!base64.no!base64";
	bad[n++] = "eyJhbGciOiJIUzI1NiJ9.e30.AAAA";
	bad[n++] = token_of("'role':'authenticated'", 0, 1);
	bad[n++] = token_of("'role':'authenticated'", -3600, 1);
	bad[n++] = token_with_header("{'alg':'none'}", "'role':'authenticated'", 3600);
	bad[n++] = token_with_header("{'alg':'NONE'}", "'role':'authenticated'", 3600);
	bad[n++] = token_with_header("{'typ':'JWT'}", "'role':'authenticated'", 3600);
	bad[n++] = token_of("'sub':'x'", 3600, 1);
	bad[n++] = token_of("'role':''", 3600, 1);
	bad[n++] = token_of_parts("{'alg':'HS256'}", "{'role':'authenticated'}", "s");
	bad[n++] = token_of_parts("{'alg':'HS256'}", "{'role':'a','exp':'9999999999'}", "s");
	bad[n++] = token_of_parts("{'alg':'HS256'}", "{'role':'a','exp':9999999999}", "");
	bad[n++] = large;
	for (unsigned i = 0; i < n; i++) {
		give(a, 1 + i, bad[i], "[1,*,[211,'bad_token','the token *',null],null]");
		give_for(a, 100 + i, "t", bad[i],
			 "[1,*,[211,'bad_token','the token *',null],null]");
	}
	peer_call(a, "auth", "{'token':'sb_secret_0123456789abcdef'}");
	expect(a, "[2,'error',{'method':'auth',*'error':[211,*");
	expect_nothing(a);
	/* None of them was put in force: the daemon's identity still is. */
	peer_joins(a, 200, "t", "the-key");
	give(a, 201, good, UNPROVEN("201"));
	expect(a, "[2,'channel',*'token_replaced',*");
	for (unsigned i = 0; i < n; i++)
		give(a, 210 + i, bad[i], "[1,*,[211,*");
	peer_joins(a, 202, "u", good); /* what was in force stays */
	for (unsigned i = 0; i < n; i++) {
		snprintf(mark, sizeof(mark), "%.30s", bad[i]);
		snprintf(params, sizeof(params), "%s", bad[i]);
		if (bad[i][0])
			ck_assert_uint_eq(frames_with(params), 0);
	}
	ck_assert_uint_eq(frames_with("sb_"), 0);
}
END_TEST

START_TEST(scopes_that_are_none)
{
	const char *alice = token_of_user("alice", 1);
	char params[2000];

	peer_join(b, "t", "{}");
	snprintf(params, sizeof(params), "{'chan':1,'token':'%s'}", alice);
	peer_ask(a, 1, "auth", params); /* another client's */
	expect(a, "[1,1,[206,'not_subscribed',*");
	peer_ask(a, 2, "auth", "{'chan':99,'token':null}");
	expect(a, "[1,2,[206,'not_subscribed',*");
	give_for(a, 3, "", alice, "[1,3,[201,'bad_topic',*");
	give_for(a, 4, "rtbridge:x", alice, "[1,4,[201,'bad_topic',*");
	peer_ask(a, 5, "auth", "{'topic':5,'token':null}");
	expect(a, "[1,5,[200,'bad_request',*");
	peer_ask(a, 6, "auth", "{'token':5}");
	expect(a, "[1,6,[200,'bad_request',*");
	peer_ask(a, 7, "auth", "{}"); /* forgetting to say it is no clearing */
	expect(a, "[1,7,[200,'bad_request',*");
	snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':300001}", alice);
	peer_ask(a, 8, "auth", params);
	expect(a, "[1,8,[200,'bad_request',*");
	peer_ask(a, 9, "auth", "{'topic':'nowhere','token':null}");
	expect(a, "[1,9,null,{'state':'cleared'}]");
	/* One general and 63 for topics; replacing is no further one. */
	give(a, 10, alice, UNPROVEN("10"));
	for (unsigned i = 1; i < GRANTS_MAX; i++) {
		snprintf(params, sizeof(params), "t%u", i);
		give_for(a, 10 + i, params, alice, "[1,*,null,{'state':'unproven',*");
	}
	give_for(a, 100, "one-more", alice, "[1,100,[207,'too_many',*");
	give_for(a, 101, "t5", alice, UNPROVEN("101"));
	give(a, 102, alice, UNPROVEN("102"));
	peer_ask(a, 103, "auth", "{'topic':'t7','token':null}");
	expect(a, "[1,103,null,{'state':'cleared'}]");
	give_for(a, 104, "one-more", alice, UNPROVEN("104"));
	expect_nothing(a);
	expect_nothing(b);
	expect_no_frame();
}
END_TEST

START_TEST(hello)
{
	const char *alice = token_of_user("alice", 1);
	struct fake_peer *p = peer_with("sb_x", "[1,0,[211,'bad_token','the token *',null],null]");
	char params[2000];

	/* Again, without and with something wrong. */
	peer_ask(p, 1, "subscribe", "{'topic':'t'}");
	expect(p, "[1,1,[208,'hello_first',*");
	peer_ask(p, 2, "hello", "{'protocol':1,'token':5}");
	expect(p, "[1,2,[200,'bad_request',*");
	snprintf(params, sizeof(params), "{'protocol':1,'token':'%s'}", alice);
	peer_ask(p, 3, "hello", params);
	expect(p, "[1,3,null,{'protocol':1,*'token':{'state':'unproven','expires':*}}]");
	peer_joins(p, 4, "t", alice);
	p = peer_with(alice, "[1,0,null,{*'token':{'state':'accepted','expires':1700004600}}]");
	peer_shares(p, 1, "t");
	/* As if absent. */
	p = peer_attach();
	peer_ask(p, 1, "hello", "{'protocol':1,'token':null}");
	expect(p, "[1,1,null,{'protocol':1,*'connection':{'state':'online','since':*}}]");
	peer_joins(p, 2, "u", "the-key");
}
END_TEST

/* Who said hello with a bad token has as little time as others. */
START_TEST(hello_has_its_time)
{
	struct fake_peer *p = peer_with("sb_x", "[1,0,[211,*");

	advance(1500);
	peer_ask(p, 1, "hello", "{'protocol':1,'token':'sb_y'}");
	expect(p, "[1,1,[211,*");
	advance(500);
	expect_farewell(p, "hello_timeout", false);
}
END_TEST

/* Refused later: never on with the daemon's own identity. */
START_TEST(hello_refused_later)
{
	const char *alice = token_of_user("alice", 1);
	struct fake_peer *p = peer_with(alice, "[1,0,null,{*'token':{'state':'unproven',*");

	peer_ask(p, 1, "subscribe", "{'topic':'t'}");
	server_reply(expect_join("t", alice), false, REFUSED_TOKEN);
	expect(p, "[1,1,[211,'bad_token','" SIGNATURE_WORDS "',null],null]");
	expect(p, "[2,'error',{'method':'auth',*'error':[211,'bad_token','" SIGNATURE_WORDS
		  "',null]}]");
	peer_ask(p, 2, "subscribe", "{'topic':'t'}");
	expect(p, "[1,2,[211,*");
	peer_ask(p, 3, "broadcast", "{'topic':'t','event':'e','payload':1}");
	expect(p, "[1,3,[211,*");
	peer_ask(p, 4, "track", "{'topic':'t','state':{}}");
	expect(p, "[1,4,[211,*");
	peer_ask(p, 5, "subscribe", "{'postgres_changes':[{'schema':'public','table':'t'}]}");
	expect(p, "[1,5,[211,*");
	peer_call(p, "broadcast", "{'topic':'t','event':'e','payload':1}");
	expect(p, "[2,'error',{'method':'broadcast','error':[211,*");
	advance(400000);
	expect_no_frame();
	peer_ask(p, 6, "subscribe", "{'topic':'t'}");
	expect(p, "[1,6,[211,*");
	expect_no_frame();
}
END_TEST

/* One user does not take the places of all. */
START_TEST(tokens_of_one_user)
{
	struct fake_peer *p = NULL;
	char topic[20];
	unsigned n = 0;

	rig.uid = 1001;
	for (unsigned i = 0; i < TOKENS_MAX / 2; i++) {
		if (i % 60 == 0)
			p = peer_ready();
		snprintf(topic, sizeof(topic), "t%u", i);
		give_for(p, 1 + i, topic, token_of_user(topic, 1),
			 "[1,*,null,{'state':'unproven',*");
		n++;
	}
	give_for(p, 900, "more", token_of_user("more", 1), "[1,900,[207,'too_many',*");
	ck_assert_uint_eq(rig.hub->n_tokens, n);
	/* One that is there already is no further one. */
	give_for(p, 901, "more", token_of_user(topic, 1), UNPROVEN("901"));
	rig.uid = 1002;
	p = peer_with(token_of_user("of another", 1), "[1,0,null,{*'unproven'*");
	give(a, 1, token_of_user("of the owner", 1), UNPROVEN("1"));
}
END_TEST

/* Each identity has its own join of a topic: as many as there are connections. */
START_TEST(identities_of_one_topic)
{
	struct fake_peer *p;
	const char *token;
	char name[20];

	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "user %u", i);
		token = token_of_user(name, 1);
		p = peer_with(token, "[1,0,null,{*'unproven'*");
		peer_ask(p, 1, "subscribe", "{'topic':'t'}");
		if (i)
			open_link(i);
		server_reply(expect_join("t", token), true, "{}");
		expect(p, "[1,1,null,{'chan':*,*'ready'}]");
	}
	p = peer_with(token_of_user("one more", 1), "[1,0,null,{*'unproven'*");
	peer_ask(p, 1, "subscribe", "{'topic':'t'}");
	expect(p, "[1,1,[207,'too_many','*limits*',null],null]");
	expect_no_frame();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_auth_forms");
	TCase *t = tcase_create("forms");

	tcase_add_checked_fixture(t, begin, rig_teardown);
	tcase_add_test(t, never_sent);
	tcase_add_test(t, scopes_that_are_none);
	tcase_add_test(t, hello);
	tcase_add_test(t, hello_has_its_time);
	tcase_add_test(t, hello_refused_later);
	tcase_add_test(t, tokens_of_one_user);
	tcase_add_test(t, identities_of_one_topic);
	suite_add_tcase(s, t);
	return suite_run(s);
}
