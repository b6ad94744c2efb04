/* SPDX-License-Identifier: MIT */
/* Stories about requests that do not get through, that are too many or too large, and whose turn it
 * is. */
#include "hub_fixture.h"
#include "hub_sends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SENT(id)  "[1," #id ",null,{'outcome':'sent','via':'http'}]"
#define TO(topic) "{'topic':'" topic "','event':'e','payload':{'n':1},'via':'http'}"

static struct fake_peer *a;

static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
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

/* ---- it cannot be reached ---- */

/* Each pause is drawn from the upper half of one that doubles, from 0.5 s to 5 s. */
START_TEST(pauses_grow)
{
	static const unsigned most[] = { 500, 1000, 2000, 4000, 5000, 5000, 5000, 5000 };
	struct line *post;
	uint64_t from;

	says(a, 1, 60000);
	post = expect_post("*");
	for (unsigned i = 0; i < sizeof(most) / sizeof(*most); i++) {
		post_unreachable(post);
		from = rig.now;
		while (!(post = any_post()))
			advance(1);
		MUST_MSG(rig.now - from >= most[i] / 2 && rig.now - from <= most[i],
			 "pause %u: %u ms", i, (unsigned)(rig.now - from));
	}
	/* It works again: the next failure is a first one. */
	server_answer(post, 202, "");
	expect(a, SENT(1));
	says(a, 2, 60000);
	post_unreachable(expect_post("*"));
	from = rig.now;
	while (!(post = any_post()))
		advance(1);
	MUST(rig.now - from <= 500);
	server_answer(post, 500, "");
	expect(a, "[1,2,null,{'outcome':'unknown',*");
}
END_TEST

/* Who answers for the network knows when it makes sense, as with a proxy that refuses a password. */
START_TEST(not_before_that)
{
	struct hub_answer refused = { .text = "the proxy refused", .retry_after_s = 10 };
	struct line *post;
	uint64_t from;

	says(a, 1, 60000);
	post = expect_post("*");
	for (unsigned i = 0; i < 2; i++) {
		server_answer_all(post, &refused);
		from = rig.now;
		advance(9900);
		expect_no_post();
		while (!(post = any_post()))
			advance(100);
		MUST(rig.now - from <= 20100);
	}
	server_answer(post, 202, "");
	expect(a, SENT(1));
}
END_TEST

/* What comes meanwhile, to other channels too, waits for the same moment; the order is kept. */
START_TEST(all_wait)
{
	struct line *post;

	says(a, 1, 10000);
	says(a, 2, 10000);
	post = expect_post("*");
	MUST(carries(post, "1"));
	post_unreachable(post);
	says(a, 3, 10000);
	peer_ask(a, 4, "broadcast", TO("u"));
	advance(200);
	expect_no_post();
	advance(300);
	post = expect_post("*'topic':'t'*");
	MUST(carries(post, "123"));
	post_unreachable(post);
	expect_post("*'topic':'u'*");
	advance(1000);
	post = expect_post("*'topic':'t'*");
	MUST(carries(post, "123"));
	server_answer(post, 202, "");
	for (unsigned i = 0; i < 3; i++)
		expect(a, "[1,*,null,{'outcome':'sent','via':'http'}]");
	ck_assert(a->asked[4]);
}
END_TEST

/* An answer to one says that the server can be reached: the others need not wait. */
START_TEST(one_gets_through)
{
	struct line *t, *u;

	says(a, 1, 10000);
	peer_ask(a, 2, "broadcast", TO("u"));
	t = expect_post("*'topic':'t'*");
	u = expect_post("*'topic':'u'*");
	post_unreachable(t);
	expect_no_post();
	server_answer(u, 202, "");
	expect(a, SENT(2));
	server_answer(expect_post("*'topic':'t'*"), 202, "");
	expect(a, SENT(1));
}
END_TEST

START_TEST(each_has_its_own_time)
{
	struct line *post;

	says(a, 1, 3000);
	rig.no_turns = true;
	says(a, 2, 300);
	says(a, 3, 60000);
	rig.no_turns = false;
	post = expect_post("*");
	post_unreachable(post);
	advance(249);
	expect_nothing(a);
	advance(51);
	/* Somewhere between it may have been tried again with all three. */
	if ((post = any_post()))
		post_unreachable(post);
	advance(0);
	expect(a, "[1,2,null,{'outcome':'expired','via':'http','text':'connect: refused'}]");
	while (a->asked[1]) {
		advance(10);
		if ((post = any_post())) {
			MUST(!carries(post, "2"));
			post_unreachable(post);
		}
	}
	expect(a, "[1,1,null,{'outcome':'expired',*");
	MUST(rig.now - 1000000 >= 3000);
	while (!(post = any_post()))
		advance(10);
	MUST(carries(post, "3") && !carries(post, "1"));
	server_answer(post, 202, "");
	expect(a, SENT(3));
}
END_TEST

/* Its time is over while the request is away: it counts what the request says. */
START_TEST(over_while_it_is_away)
{
	struct line *post;

	says(a, 1, 1000);
	post = expect_post("*");
	advance(9000);
	expect_nothing(a);
	server_answer(post, 202, "");
	expect(a, SENT(1));
	says(a, 2, 1000);
	post = expect_post("*");
	advance(9000);
	post_unreachable(post);
	advance(0);
	expect(a, "[1,2,null,{'outcome':'expired','via':'http','text':'connect: refused'}]");
	advance(10000);
	expect_no_post();
	/* None at all: it goes with this turn, or never. */
	says(a, 3, 0);
	server_answer(expect_post("*"), 202, "");
	expect(a, SENT(3));
}
END_TEST

/* Never again what may have arrived. */
START_TEST(cut_off)
{
	struct line *post;

	says(a, 1, 60000);
	post = expect_post("*");
	says(a, 2, 60000);
	server_answer(post, 0, "");
	expect(a, "[1,1,null,{'outcome':'unknown','via':'http','text':'the connection ended *'}]");
	post = expect_post("*");
	MUST(carries(post, "2") && !carries(post, "1"));
	server_answer(post, 202, "");
	expect(a, SENT(2));
	advance(60000);
	expect_no_post();
}
END_TEST

/* By loop: not now; never. */
START_TEST(not_taken)
{
	rig.post_result = _i ? -22 : 1;
	says(a, 1, 10000);
	if (_i) {
		expect(a, "[1,1,null,{'outcome':'unsupported','via':'http','text':'*'}]");
		ck_assert_uint_eq(rig.hub->n_chans, 0);
		rig.post_result = 0;
		says(a, 2, 10000);
		server_answer(expect_post("*"), 202, "");
		expect(a, SENT(2));
		return;
	}
	advance(100);
	expect_nothing(a);
	rig.post_result = 0;
	advance(10);
	server_answer(expect_post("*"), 202, "");
	expect(a, SENT(1));
	rig.post_result = 1;
	says(a, 2, 50);
	advance(50);
	expect(a, "[1,2,null,{'outcome':'expired','via':'http','text':'*'}]");
	rig.post_result = 0;
	advance(1000);
	expect_no_post();
}
END_TEST

/* ---- without anything else ---- */

static void on_demand(struct hub_conf *conf)
{
	conf->connect_always = false;
}

/* It needs no connection, and makes none. */
START_TEST(without_a_connection)
{
	rig_teardown();
	rig_start(on_demand);
	server_open();
	advance(60000); /* it is idle, and goes */
	a = peer_ready();
	ck_assert(!rig.links[0].is_open);
	says(a, 1, 1000);
	server_answer(expect_post("*"), 202, "");
	expect(a, SENT(1));
	ck_assert(!rig.links[0].is_open);
	peer_ask(a, 2, "subscribe", "{'topic':'t','keep':true,'timeout_ms':0}");
	server_drop(SESSION_FAULT_CONNECT, "no route");
	peer_skip(a, "");
	says(a, 3, 1000);
	server_answer(expect_post("*"), 202, "");
	expect(a, SENT(3));
	/* Somebody waits for the channel: auto waits, too. */
	peer_ask(a, 4, "broadcast", "{'topic':'t','event':'e','payload':{},'ttl_ms':100}");
	expect_no_post();
	advance(100);
	expect(a, "[1,2,null,{*'state':'joining'}]");
	expect(a, "[1,4,null,{'outcome':'expired','via':'ws','text':'*'}]");
}
END_TEST

/* What comes for a request that is not on its way is nobody's. */
START_TEST(answers_of_nobody)
{
	struct hub_answer h = { .was_sent = true, .status = 202, .text = "" };
	struct line *post;

	hub_on_answered(rig.hub, 0, &h);
	hub_on_answered(rig.hub, 1, &h);
	says(a, 1, 1000);
	post = expect_post("*");
	hub_on_answered(rig.hub, post->ref + 1, &h);
	hub_on_answered(rig.hub, 0, &h);
	expect_nothing(a);
	server_answer(post, 202, "");
	expect(a, SENT(1));
	hub_on_answered(rig.hub, rig.posts.at[0].ref, &h);
	turn();
	expect_nothing(a);
}
END_TEST

START_TEST(too_large_as_json)
{
	struct rtbp_buf params = RTBP_BUF_INIT;

	rtbp_buf_text(&params, "{'topic':'t','event':'e','via':'http','payload':{'x':'");
	for (unsigned i = 0; i < 850000; i++)
		rtbp_buf_text(&params, "\\u0001");
	rtbp_buf_put(&params, "'}}", 4);
	says(a, 1, 1000);
	peer_ask(a, 2, "broadcast", (const char *)params.data);
	says(a, 3, 1000);
	rtbp_buf_done(&params);
	server_answer(expect_post("*'n':1}*"), 202, "");
	expect(a, SENT(1));
	expect(a, "[1,2,null,{'outcome':'too_big','via':'http','text':'*'}]");
	server_answer(expect_post("*'n':3}*"), 202, "");
	expect(a, SENT(3));
}
END_TEST

/* A client whose messages wait is heard; one more than so many is told "busy". */
START_TEST(so_many_wait)
{
	unsigned id = 2;

	says(a, 1, 60000);
	for (; id < 2 + PEER_SENDS_MAX; id++)
		says(a, id, 60000);
	ck_assert(!a->paused);
	says(a, id, 60000);
	expect(a, "[1,514,null,{'outcome':'busy','via':'http','text':'*'}]");
	server_answer(expect_post("*"), 202, "");
	expect(a, SENT(1));
	for (unsigned i = 0; i < PEER_SENDS_MAX / POST_MESSAGES_MAX; i++)
		server_answer(expect_post("*"), 202, "");
	ck_assert_uint_eq(peer_skip(a, "\"sent\""), PEER_SENDS_MAX);
	expect_no_post();
}
END_TEST

/* ---- whose turn it is ---- */

static unsigned ask_many(struct fake_peer *p, const char *prefix, unsigned n)
{
	char params[200];
	unsigned n_posts = 0;

	for (unsigned i = 0; i < n; i++) {
		snprintf(params, sizeof(params),
			 "{'topic':'%s%u','event':'e','payload':{},'via':'http','ttl_ms':60000}",
			 prefix, i);
		peer_ask(p, 100 + i, "broadcast", params);
	}
	while (any_post())
		n_posts++;
	return n_posts;
}

/* One who fills everything, at a server that does not answer, leaves half of the places. */
START_TEST(half_of_the_places)
{
	struct fake_peer *bad = peer_of(2000), *worse = peer_of(2000), *good = peer_of(2001);
	struct line *post;

	ck_assert_uint_eq(ask_many(bad, "x", 100), POSTS_MAX / 2);
	ck_assert_uint_eq(ask_many(worse, "y", 100), 0);
	/* Going and coming does not help. */
	peer_close(bad);
	bad = peer_of(2000);
	ck_assert_uint_eq(ask_many(bad, "z", 10), 0);
	for (unsigned i = 1; i <= 20; i++) {
		says(good, i, 1000);
		server_answer(expect_post("*'topic':'t'*"), 202, "");
		expect(good, "[1,*,null,{'outcome':'sent','via':'http'}]");
	}
	/* One of the others is answered: the next one of that user goes. */
	post = &rig.posts.at[0];
	server_answer(post, 202, "");
	expect_post("*'topic':'x4'*");
	expect_no_post();
}
END_TEST

/* All places are taken: whoever comes next has the next one, before those who had theirs. */
START_TEST(turns)
{
	struct fake_peer *b = peer_of(2000), *c = peer_of(2001), *d = peer_of(2002);

	ck_assert_uint_eq(ask_many(b, "x", 6), 4);
	ck_assert_uint_eq(ask_many(c, "y", 6), 4);
	says(d, 1, 60000);
	expect_no_post();
	server_answer(&rig.posts.at[7], 202, ""); /* one of c's: d has no less right to it */
	server_answer(&rig.posts.at[6], 202, "");
	for (unsigned i = 0; i < 2; i++)
		expect_post("*");
	ck_assert(strstr(rig.posts.at[8].text, "\"t\"") || strstr(rig.posts.at[9].text, "\"t\""));
	expect_no_post();
}
END_TEST

/* One channel, full of one user's messages, on either way: others have half of it. */
START_TEST(half_of_a_channel)
{
	static const char *const vias[] = { "ws", "http" };
	struct fake_peer *good = peer_of(2001), *bad = NULL;
	unsigned n = 0, n_busy = 0;
	char params[200];

	server_drop(SESSION_FAULT_LOST, "gone");
	peer_skip(good, "");
	rig.post_result = 1;
	rig.no_turns = true;
	snprintf(params, sizeof(params),
		 "{'topic':'t','event':'e','payload':{},'via':'%s','ttl_ms':60000}", vias[_i]);
	for (; n < CHAN_SENDS_MAX; n++) {
		if (n % PEER_SENDS_MAX == 0)
			bad = peer_of(2000);
		peer_ask(bad, 1 + n % PEER_SENDS_MAX, "broadcast", params);
		n_busy += peer_skip(bad, "\"busy\"");
	}
	ck_assert_uint_eq(n_busy, CHAN_SENDS_MAX / 2);
	peer_ask(good, 1, "broadcast", params);
	expect_nothing(good);
	/* Another channel is another matter. */
	bad = peer_of(2000);
	peer_ask(bad, 1, "broadcast", TO("u"));
	expect_nothing(bad);
}
END_TEST

/* The messages of a user that stand behind another one's in one channel count for the first. */
START_TEST(shared_channel)
{
	struct fake_peer *b = peer_of(2000), *c = peer_of(2001);
	struct line *post;

	ck_assert_uint_eq(ask_many(b, "x", 3), 3);
	says(b, 1, 10000);
	post = expect_post("*'topic':'t'*");
	says(c, 2, 10000);
	says(b, 3, 10000);
	says(c, 4, 10000);
	server_answer(post, 202, "");
	expect(b, SENT(1));
	post = expect_post("*");
	MUST(carries(post, "234"));
	server_answer(post, 202, "");
	expect(b, SENT(3));
	expect(c, SENT(2));
	expect(c, SENT(4));
}
END_TEST

static TCase *add_case(Suite *s, const char *name)
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	suite_add_tcase(s, t);
	return t;
}

int main(void)
{
	Suite *s = suite_create("hub_http_again");
	TCase *t = add_case(s, "again"), *who = add_case(s, "who");

	tcase_add_test(t, pauses_grow);
	tcase_add_test(t, not_before_that);
	tcase_add_test(t, all_wait);
	tcase_add_test(t, one_gets_through);
	tcase_add_test(t, each_has_its_own_time);
	tcase_add_test(t, over_while_it_is_away);
	tcase_add_test(t, cut_off);
	tcase_add_loop_test(t, not_taken, 0, 2);
	tcase_add_test(t, without_a_connection);
	tcase_add_test(t, answers_of_nobody);
	tcase_add_test(t, too_large_as_json);
	tcase_add_test(t, so_many_wait);
	tcase_add_test(who, half_of_the_places);
	tcase_add_test(who, turns);
	tcase_add_loop_test(who, half_of_a_channel, 0, 2);
	tcase_add_test(who, shared_channel);
	return suite_run(s);
}
