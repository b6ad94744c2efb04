/* SPDX-License-Identifier: MIT */
/* Stories about who may still send what waits, or what has come back unsent: tokens that end, rules
 * that change, clients that go, and the daemon's own end. */
#include "hub_fixture.h"
#include "hub_sends.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

#define SENT(id)  "[1," #id ",null,{'outcome':'sent','via':'http'}]"
#define TO(topic) "{'topic':'" topic "','event':'e','payload':{'n':1},'via':'http'}"

static struct fake_peer *a;
static struct acl *rules;

static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
}

static void teardown(void)
{
	rig_teardown();
	rules = acl_free(rules);
}

static struct fake_peer *peer_of(uid_t uid)
{
	rig.uid = uid;
	return peer_ready();
}

static void says(struct fake_peer *p, unsigned id, unsigned ttl_ms)
{
	char params[200];

	snprintf(params, sizeof(params),
		 "{'topic':'t','event':'e','payload':{'n':%u},'via':'http','ttl_ms':%u}", id,
		 ttl_ms);
	peer_ask(p, id, "broadcast", params);
}

static void reload(const char *lines)
{
	struct acl *old = rules;

	rules = rules_of(lines);
	hub_set_acl(rig.hub, rules);
	acl_free(old);
	turn();
}

static bool carries(const struct line *post, const char *numbers)
{
	const char *at = post->text;

	for (; *numbers; numbers++) {
		char text[] = { '"', 'n', '"', ':', *numbers, '}', 0 };

		at = strstr(at, text);
		if (!at)
			return false;
	}
	return true;
}

/* ---- who may ---- */

START_TEST(with_its_own_token)
{
	const char *alice = token_of_user("alice", 1), *bob = token_of_user("bob", 1);
	struct fake_peer *b = peer_ready();
	char pattern[1000];

	give(a, 1, alice, UNPROVEN("1"));
	give(b, 1, bob, UNPROVEN("1"));
	says(a, 2, 10000);
	snprintf(pattern, sizeof(pattern), "/broadcast application/json %s {*'n':2}*", alice);
	server_answer(expect_post(pattern), 202, "");
	expect(a, SENT(2));
	/* The same topic under another identity: another channel, with its own turn. */
	says(a, 3, 10000);
	says(b, 4, 10000);
	expect_post(pattern[0] ? "*'n':3}*" : "");
	snprintf(pattern, sizeof(pattern), "/broadcast application/json %s {*'n':4}*", bob);
	server_answer(expect_post(pattern), 401, "{'message':'bad jwt'}");
	expect(b, "[1,4,null,{'outcome':'denied','via':'http','text':'HTTP status 401: bad jwt'}]");
	peer_ask(b, 5, "auth", "{'token':null}");
	expect(b, "[1,5,null,{'state':'cleared'}]");
	says(b, 6, 10000);
	server_answer(expect_post("/broadcast application/json - {*'n':6}*"), 202, "");
	expect(b, SENT(6));
}
END_TEST

/* The token ends while its message waits: it is not sent with it, and not with another one.
 * By loop: it is queued; it is away, and has not left a byte when that is known. */
START_TEST(token_has_ended)
{
	const char *alice = token_of("'role':'authenticated','sub':'alice'", 5, 1);
	struct line *post;

	give(a, 1, alice, UNPROVEN("1"));
	says(a, 2, 60000);
	post = expect_post("*");
	if (_i == 0) {
		post_unreachable(post);
		while (rig.now < 1005000) {
			advance(100);
			if ((post = any_post()))
				post_unreachable(post);
		}
		if (a->asked[2])
			advance(1000);
		expect(a, "[2,'error',{*'method':'auth'*");
		expect(a, "[1,2,[211,'bad_token',*],null]");
	} else {
		advance(6000);
		post_unreachable(post);
		expect(a, "[2,'error',{*'method':'auth'*");
		expect(a, "[1,2,null,{'outcome':'denied','via':'http','text':'*'}]");
	}
	advance(60000);
	expect_no_post();
}
END_TEST

/* Another client of the same identity has a token that lives on. */
START_TEST(token_has_ended_of_one)
{
	const char *claims = "'role':'authenticated','sub':'alice'";
	const char *first = token_of(claims, 5, 1), *second = token_of(claims, 3600, 2);
	struct fake_peer *b = peer_ready();
	struct line *post;

	give(a, 1, first, UNPROVEN("1"));
	peer_joins(a, 2, "joined", first);
	give(b, 1, second, NULL);
	server_tries(0, second, true, "{}");
	rig.frames.next = rig.frames.n; /* the trial is left, the channel gets the better one */
	expect(b, ACCEPTED("1"));
	says(a, 3, 60000);
	says(b, 4, 60000);
	post = expect_post("*'n':3}*");
	advance(6000);
	peer_skip(a, "");
	post_unreachable(post);
	/* What a's token allowed is over; b's goes on. */
	expect(a, "[1,3,null,{'outcome':'denied','via':'http','text':'*'}]");
	advance(1000);
	post = expect_post("*'n':4}*");
	MUST(!carries(post, "3"));
	server_answer(post, 202, "");
	expect(b, SENT(4));
}
END_TEST

/* The rules change while it waits, or while it is away without having left. By loop: the client
 * is still there, or not. */
START_TEST(may_not_any_more)
{
	struct fake_peer *b = peer_of(2000), *c = peer_of(2001);
	struct line *post;

	reload("allow user 2000 write topic *\nallow user 2001 write topic *\n");
	peer_ask(b, 1, "broadcast",
		 "{'topic':'t','event':'e','payload':{'n':1},'via':'http',"
		 "'id':'one'}");
	post = expect_post("*");
	peer_ask(b, 2, "broadcast",
		 "{'topic':'t','event':'e','payload':{'n':2},'via':'http',"
		 "'id':'two'}");
	says(c, 3, 10000);
	if (_i)
		peer_close(b);
	reload("allow user 2000 write topic u\nallow user 2001 write topic *\n");
	if (!_i)
		expect(b, "[1,2,[301,'forbidden',*],null]");
	post_unreachable(post);
	advance(1000);
	post = expect_post("*");
	MUST_MSG(!carries(post, "1") && !carries(post, "2") && carries(post, "3"), "%s",
		 post->text);
	server_answer(post, 202, "");
	expect(c, SENT(3));
	if (!_i)
		expect(b, "[1,1,null,{'outcome':'denied','via':'http','text':'*'}]");
	b = peer_of(2000);
	expect_outcome(b, 3, "one", "null,{'outcome':'denied','via':'http','text':'*'}");
	expect_outcome(b, 4, "two", "null,{'outcome':'denied','via':'http','text':'*'}");
	/* What the server takes it has taken. */
	peer_ask(b, 5, "broadcast", TO("u"));
	post = expect_post("*");
	reload("allow user 2000 write topic nothing\nallow user 2001 write topic *\n");
	server_answer(post, 202, "");
	expect(b, SENT(5));
	peer_ask(b, 6, "broadcast", TO("u"));
	expect(b, "[1,6,[301,'forbidden','*write*',*],null]");
	expect_no_post();
}
END_TEST

/* A refused batch is sent again one by one: not what may not be sent by then. */
START_TEST(may_not_any_more_singly)
{
	struct fake_peer *b = peer_of(2000), *c = peer_of(2001);
	struct line *post;

	reload("allow user 2000 write topic *\nallow user 2001 write topic *\n");
	rig.no_turns = true;
	says(b, 1, 10000);
	says(c, 2, 10000);
	says(b, 3, 10000);
	rig.no_turns = false;
	turn();
	post = expect_post("*");
	MUST(carries(post, "123"));
	reload("allow user 2001 write topic *\n");
	ck_assert(b->finished);
	server_answer(post, 413, "");
	post = expect_post("*");
	MUST(carries(post, "2") && !carries(post, "1") && !carries(post, "3"));
	server_answer(post, 202, "");
	expect(c, SENT(2));
	expect_no_post();
}
END_TEST

/* ---- who has gone ---- */

START_TEST(the_sender_has_gone)
{
	struct fake_peer *b = peer_ready();
	struct line *post;

	peer_ask(a, 1, "broadcast",
		 "{'topic':'t','event':'e','payload':{},'via':'http',"
		 "'id':'x'}");
	post = expect_post("*");
	says(a, 2, 10000);
	peer_close(a);
	expect_outcome(b, 1, "x", "null,{'outcome':'pending','via':'http'}");
	server_answer(post, 202, "");
	expect_outcome(b, 2, "x", "null,{'outcome':'sent','via':'http'}");
	server_answer(expect_post("*'n':2}*"), 202, "");
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

/* An orderly stop waits for what is on its way, and sends what waits. */
START_TEST(draining)
{
	struct line *post;

	says(a, 1, 10000);
	post = expect_post("*");
	says(a, 2, 10000);
	hub_drain(rig.hub, 5000);
	turn();
	expect(a, "[2,'connection',*'draining'*");
	advance(1000);
	server_answer(post, 202, "");
	expect(a, SENT(1));
	server_answer(expect_post("*'n':2}*"), 202, "");
	expect(a, SENT(2));
	ck_assert(!a->finished);
	advance(100);
	expect_farewell(a, "shutdown", false);
}
END_TEST

/* But not longer than it may; the answer that comes then is nobody's. */
START_TEST(draining_for_too_long)
{
	struct line *post;

	says(a, 1, 10000);
	post = expect_post("*");
	says(a, 2, 10000);
	hub_drain(rig.hub, 500);
	turn();
	advance(500);
	expect_farewell(a, "shutdown", false);
	peer_close(a);
	advance(3000);
	MUST(rig.drained);
	server_answer(post, 202, "");
	expect_no_post();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_http_rights");
	TCase *t = tcase_create("rights");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, with_its_own_token);
	tcase_add_loop_test(t, token_has_ended, 0, 2);
	tcase_add_test(t, token_has_ended_of_one);
	tcase_add_loop_test(t, may_not_any_more, 0, 2);
	tcase_add_test(t, may_not_any_more_singly);
	tcase_add_test(t, the_sender_has_gone);
	tcase_add_test(t, draining);
	tcase_add_test(t, draining_for_too_long);
	suite_add_tcase(s, t);
	return suite_run(s);
}
