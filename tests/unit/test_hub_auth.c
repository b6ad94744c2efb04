/* SPDX-License-Identifier: MIT */
/* Stories about clients with tokens of their own: which joins carry them, who shares what, what
 * ends with a token. */
#include "hub_fixture.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>

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
	expect(a, "[2,'error',{'method':'auth','error':[211,'bad_token',*]}]");
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
	expect(a, "[2,'error',{'method':'auth','error':[211,'bad_token',*]}]");
	expect(a, "[2,'channel',{'chan':1,*'state':'rejected','code':'token_expired','text':*}]");
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	expect(a, "[1,3,[211,*],null]");
	advance(2000);
	expect_frame("*'phx_leave'*");
	expect_no_frame();
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
	suite_add_tcase(s, t);
	return suite_run(s);
}
