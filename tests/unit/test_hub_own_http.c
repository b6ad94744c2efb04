/* SPDX-License-Identifier: MIT */
/* Stories about sends by HTTP with the daemon's own token: they carry it, wait without it, and a 401
 * of the server is a word about it. */
#include "hub_own.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR = 3600000 };

#define NOT_THIS_TOKEN "{\"message\":\"Unauthorized\"}"

static struct fake_peer *a;
static struct secret *second; /* another API key */

static void begin(void)
{
	own_start(NULL);
	a = peer_ready();
}

static void end(void)
{
	own_end();
	second = secret_free(second);
}

static void send(struct fake_peer *p, uint32_t id, const char *topic, const char *more)
{
	char params[200];

	snprintf(params, sizeof(params),
		 "{'topic':'%s','event':'e','payload':{},'via':'http','id':'m%u'%s}", topic, id,
		 more);
	peer_ask(p, id, "broadcast", params);
}

START_TEST(carried)
{
	begin();
	own_give(1, HOUR);
	send(a, 1, "t", "");
	server_answer(expect_post("/broadcast application/json own-1 {*'t'*}"), 202, "");
	expect(a, "[1,1,null,{'outcome':'sent','via':'http'}]");
	own_give(2, HOUR);
	send(a, 2, "t", "");
	server_answer(expect_post("/broadcast application/json own-2 *"), 202, "");
}
END_TEST

START_TEST(wait_for_the_first)
{
	begin();
	send(a, 1, "t", "");
	send(a, 2, "u", "");
	advance(2000);
	expect_no_post();
	own_give(1, HOUR);
	server_answer(expect_post("* own-1 {*'t'*}"), 202, "");
	server_answer(expect_post("* own-1 {*'u'*}"), 202, "");
	expect(a, "[1,1,null,{'outcome':'sent',*");
	expect(a, "[1,2,null,{'outcome':'sent',*");
}
END_TEST

/* As long as they may: then it is told what they waited for. */
START_TEST(expire)
{
	begin();
	own_says("waiting", 5000, "command_failed", "the command ended with 1; see its output");
	send(a, 1, "t", ",'ttl_ms':1000");
	advance(1000);
	expect(a,
	       "[1,1,null,{'outcome':'expired','via':'http','text':'the command ended with 1; see "
	       "its output'}]");
	own_give(1, HOUR);
	expect_no_post();
}
END_TEST

/* Those of clients with tokens of their own do not wait for it. */
START_TEST(others_go)
{
	const char *alice;
	struct fake_peer *b;
	char post[600];

	begin();
	alice = token_of_user("alice", 1);
	b = peer_with(alice, "[1,0,null,*");
	send(a, 1, "t", "");
	send(b, 2, "t", "");
	snprintf(post, sizeof(post), "/broadcast application/json %s *", alice);
	server_answer(expect_post(post), 202, "");
	expect(b, "[1,2,null,{'outcome':'sent',*");
	expect_no_post();
}
END_TEST

/* Nothing of the request was done: it goes with the next token. */
START_TEST(refused)
{
	begin();
	own_give(1, HOUR);
	send(a, 1, "t", "");
	server_answer(expect_post("* own-1 *"), 401, NOT_THIS_TOKEN);
	ck_assert_uint_eq(owner.n_refused, 1);
	ck_assert_uint_eq(owner.serial, 1);
	ck_assert_str_eq(owner.code, "token_invalid");
	expect_nothing(a);
	expect_no_post();
	/* Joins would meet the same. */
	peer_ask(a, 2, "subscribe", "{'topic':'u'}");
	expect_no_frame();
	own_give(2, HOUR);
	expect_join("u", own_name(2));
	server_answer(expect_post("* own-2 *"), 202, "");
	expect(a, "[1,1,null,{'outcome':'sent',*");
}
END_TEST

/* Several at once: one word about one token. */
START_TEST(several_refused)
{
	struct line *posts[4];

	begin();
	own_give(1, HOUR);
	for (unsigned i = 0; i < 4; i++) {
		char topic[8];

		snprintf(topic, sizeof(topic), "t%u", i);
		send(a, 1 + i, topic, "");
		posts[i] = expect_post("* own-1 *");
	}
	server_answer(posts[0], 401, NOT_THIS_TOKEN);
	own_give(2, HOUR);
	server_answer(expect_post("* own-2 {*'t0'*}"), 202, "");
	expect(a, "[1,1,null,{'outcome':'sent',*");
	for (unsigned i = 1; i < 4; i++) {
		server_answer(posts[i], 401, NOT_THIS_TOKEN);
		server_answer(expect_post("* own-2 *"), 202, "");
		expect(a, "[1,*,null,{'outcome':'sent',*");
	}
	ck_assert_uint_eq(owner.n_refused, 1);
}
END_TEST

/* A gateway that does not know the key: no word about the token. */
START_TEST(by_a_gateway)
{
	begin();
	own_give(1, HOUR);
	send(a, 1, "t", "");
	server_answer(expect_post("* own-1 *"), 401,
		      "{\"message\":\"Invalid authentication credentials\"}");
	expect(a, "[1,1,null,{'outcome':'denied',*");
	ck_assert_uint_eq(owner.n_refused, 0);
}
END_TEST

/* A complaint that quotes the token it was sent with is not passed on, though another is in force. */
START_TEST(quoted_back)
{
	struct line *post;

	begin();
	own_give(1, HOUR);
	send(a, 1, "t", "");
	post = expect_post("* own-1 *");
	own_give(2, HOUR);
	server_answer(post, 403, "{\"message\":\"no right for own-1 here\"}");
	expect(a, "[1,1,null,{'outcome':'denied','via':'http','text':'HTTP status 403'}]");
}
END_TEST

/* The same of an API key that has been replaced since, and of a token whose client has others: they
 * are not kept, so nothing is passed on. What is sent from then on is told as ever. */
START_TEST(quoted_back_after_it_is_gone)
{
	struct line *posts[2];
	struct fake_peer *b;
	const char *alice;
	char words[600];

	begin();
	alice = token_of_user("alice", 1);
	own_give(1, HOUR);
	rig.uid = 2001;
	b = peer_with(alice, "[1,0,null,*");
	send(a, 1, "t", "");
	posts[0] = expect_post("* own-1 *");
	send(b, 2, "t", "");
	posts[1] = expect_post("*");
	second = secret_new("second", 6);
	hub_set_apikey(rig.hub, second);
	turn();
	server_answer(posts[0], 403, "{\"message\":\"apikey: the-key\"}");
	expect(a, "[1,1,null,{'outcome':'denied','via':'http','text':'HTTP status 403'}]");
	server_answer(posts[1], 403, "{\"message\":\"apikey: the-key\"}");
	expect(b, "[1,2,null,{'outcome':'denied','via':'http','text':'HTTP status 403'}]");
	send(a, 3, "t", "");
	server_answer(expect_post("* own-1 *"), 403, "{\"message\":\"not today\"}");
	expect(a, "[1,3,null,{*'text':'HTTP status 403: not today'}]");

	send(b, 4, "t", "");
	posts[1] = expect_post("*");
	/* Of those that nobody has any more the one that lives longest is kept: that is the second. */
	for (unsigned i = 0; i < 2; i++) {
		give(b, 5 + i,
		     token_of("'role':'authenticated','sub':'alice'", 7200 + i * 600, 2 + i), NULL);
		open_link(1);
		server_serve();
		advance(1000);
	}
	peer_skip(b, "");
	snprintf(words, sizeof(words), "{\"message\":\"Bearer %s\"}", alice);
	server_answer(posts[1], 403, words);
	ck_assert_uint_eq(messages_with(b, alice), 0);
	peer_ask(b, 8, "outcome", "{'id':'m4'}");
	expect(b, "[1,4,null,{'outcome':'denied','via':'http','text':'HTTP status 403'}]");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("http");
	Suite *s = suite_create("hub_own_http");

	tcase_add_checked_fixture(t, NULL, end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, carried);
	tcase_add_test(t, wait_for_the_first);
	tcase_add_test(t, expire);
	tcase_add_test(t, others_go);
	tcase_add_test(t, refused);
	tcase_add_test(t, several_refused);
	tcase_add_test(t, by_a_gateway);
	tcase_add_test(t, quoted_back);
	tcase_add_test(t, quoted_back_after_it_is_gone);
	suite_add_tcase(s, t);
	return suite_run(s);
}
