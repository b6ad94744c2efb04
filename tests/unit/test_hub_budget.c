/* SPDX-License-Identifier: MIT */
/* Stories about joins that may fail where no connection apart is to be had: in their place, one at
 * a time, and only so many failures are borne. */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ASKERS = 8, AT_ONCE = 4, MINUTES_5 = 300000 };

static const char no_right[] = "Unauthorized: You do not have permissions to read from this topic";
static const char trouble[] = "QueryCanceled: Query was cancelled";
static const char bad_token[] = "JwtSignatureError: Failed to validate JWT signature";

static struct fake_peer *users[ASKERS];
static const char *invented_gets; /* what the topics get on which tokens are tried */

static const char *judge(const struct line *f)
{
	if (strstr(f->text, "\"access_token\"") && !strstr(f->text, "\"the-key\"") &&
	    stall_is(f, "rtbridge:"))
		return invented_gets;
	if (stall_is(f, "busy"))
		return trouble;
	return stall_is(f, "no") ? no_right : NULL;
}

static void one_link(struct hub_conf *conf)
{
	conf->max_links = 1;
}

static void begin_with(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	server_open();
	stall_start(judge);
	invented_gets = NULL;
	for (unsigned i = 0; i < ASKERS; i++) {
		rig.uid = 2000 + i;
		users[i] = peer_ready();
	}
}

static void begin(void)
{
	begin_with(one_link);
}

static void two_links(struct hub_conf *conf)
{
	conf->max_links = 2;
}

static void begin_two(void)
{
	begin_with(two_links);
}

static void end(void)
{
	stall_done();
	rig_teardown();
}

static void ask(struct fake_peer *p, uint32_t id, const char *topic, const char *more)
{
	char params[300];

	snprintf(params, sizeof(params), "{'topic':'%s','private':true%s}", topic, more);
	peer_ask(p, id, "subscribe", params);
}

static unsigned serial;

/* New topics, again and again. */
static void keep_asking(struct fake_peer *p, const char *prefix)
{
	char topic[40];

	for (uint32_t id = 600; id < 600 + AT_ONCE; id++) {
		if (p->asked[id])
			continue;
		snprintf(topic, sizeof(topic), "%s%u", prefix, serial++);
		ask(p, id, topic, "");
	}
}

/* ---- what is borne ---- */

START_TEST(one_user)
{
	uint64_t from = rig.now, took, worst = 0;
	unsigned n_late = 0;

	peer_ask(users[1], 1, "subscribe", "{'topic':'talk'}");
	stall_run(10);
	while (rig.now < from + 900000) {
		keep_asking(users[0], "no");
		peer_ask(users[1], 2, "broadcast", "{'topic':'talk','event':'e','payload':1}");
		took = stall_answer(users[1], 2, 60000);
		worst = took > worst ? took : worst;
		n_late += took > 200;
		stall_run(1000);
		ck_assert_uint_le(stall_outstanding(0), 1);
	}
	ck_assert_uint_le(worst, 10000);
	ck_assert_uint_eq(stall_worst(0, from, MINUTES_5), 2 * STALL_MS);
	ck_assert_uint_eq(stall.links[0].n_bad, 6);
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
	ck_assert_uint_gt(peer_skip(users[0], "join_budget"), 100);
}
END_TEST

START_TEST(many_users)
{
	uint64_t from = rig.now;

	while (rig.now < from + 900000) {
		for (unsigned i = 0; i < ASKERS; i++)
			keep_asking(users[i], "no");
		stall_run(1000);
		ck_assert_uint_le(stall_outstanding(0), 1);
	}
	ck_assert_uint_eq(stall_worst(0, from, MINUTES_5), 4 * STALL_MS);
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
}
END_TEST

START_TEST(told_when)
{
	ask(users[0], 1, "no1", "");
	ask(users[0], 2, "no2", "");
	ask(users[0], 3, "no3", "");
	ask(users[0], 4, "a", "");
	stall_run(10001);
	expect(users[0], "[1,1,[300,'rejected','Unauthorized*',null],null]");
	expect(users[0], "[1,2,[300,'rejected','Unauthorized*',null],null]");
	expect(users[0], "[1,3,[103,'join_budget','2 joins of this user have failed within 5 "
			 "minutes, and each "
			 "makes all others wait ([limits] links = 1)',295*],null]");
	expect(users[0], "[1,4,[103,'join_budget',*,295*],null]");
	/* Public ones, and what others join, are none of it. */
	peer_ask(users[0], 5, "subscribe", "{'topic':'open'}");
	ask(users[1], 1, "b", "");
	stall_run(100);
	expect(users[0], "[1,5,null,{*'ready'}]");
	expect(users[1], "[1,1,null,{*'ready'}]");
	/* Shared, and so proven. */
	ask(users[0], 6, "b", "");
	stall_run(10);
	expect(users[0], "[1,6,null,{*'ready'}]");
	stall_run(294000);
	ask(users[0], 7, "a", "");
	stall_run(100);
	expect(users[0], "[1,7,[103,'join_budget',*],null]");
	stall_run(2000);
	ask(users[0], 8, "a", "");
	stall_run(100);
	expect(users[0], "[1,8,null,{*'ready'}]");
}
END_TEST

/* Somebody who has done no wrong is told when the others' failures let it try. */
START_TEST(all_is_used_up)
{
	for (unsigned i = 0; i < 4; i++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "no%u", i);
		ask(users[i], 1, topic, ",'timeout_ms':60000");
	}
	stall_run(25000);
	ask(users[4], 1, "a", "");
	stall_run(100);
	expect(users[4], "[1,1,[103,'join_budget','4 joins of all users have failed within 5 "
			 "minutes, and each "
			 "makes all others wait ([limits] links = 1)',*],null]");
	stall_run(MINUTES_5);
	ask(users[4], 2, "a", "");
	stall_run(100);
	expect(users[4], "[1,2,null,{*'ready'}]");
}
END_TEST

/* Those who had the channel keep their wish, and it is joined when the time has come. */
START_TEST(wishes_are_kept)
{
	ask(users[0], 1, "busy", ",'keep':true,'timeout_ms':100");
	stall_run(200);
	expect(users[0], "[1,1,null,{*'joining'}]");
	ask(users[0], 2, "no1", "");
	ask(users[0], 3, "no2", "");
	stall_run(MINUTES_5 + 60000);
	stall.judge = judge;
	ck_assert_uint_le(stall_worst(0, 0, MINUTES_5), 4 * STALL_MS);
}
END_TEST

/* Refusals that are nobody's fault stall everything just the same. */
START_TEST(trouble_is_counted)
{
	uint64_t from = rig.now;

	while (rig.now < from + 900000) {
		keep_asking(users[0], "busy");
		stall_run(1000);
	}
	ck_assert_uint_le(stall_worst(0, from, MINUTES_5), 4 * STALL_MS);
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
}
END_TEST

/* What one has used up it does not have anew as another client. */
START_TEST(comes_back_as_another)
{
	uint64_t from = rig.now;
	struct fake_peer *p;

	for (unsigned i = 0; i < 12; i++) {
		rig.uid = 3000;
		p = peer_ready();
		ask(p, 1, i % 2 ? "busy1" : "busy2", ",'timeout_ms':5500");
		ask(p, 2, i % 2 ? "busy3" : "busy4", "");
		stall_run(12000);
		peer_close(p);
		stall_run(1000);
	}
	ck_assert_uint_le(stall_worst(0, from, MINUTES_5), 2 * STALL_MS);
}
END_TEST

START_TEST(a_topic_that_is_never_answered)
{
	ask(users[0], 1, "no1", "");
	stall_run(100);
	ask(users[0], 2, "a", "");
	ask(users[1], 2, "b", "");
	stall_run(4000);
	ck_assert_uint_eq(stall_outstanding(0), 1);
	server_drop(SESSION_FAULT_LOST, "lost");
	stall_run(12000);
	expect(users[1], "[2,*");
	peer_skip(users[1], "");
	ck_assert(!users[0]->asked[1] && !users[0]->asked[2] && !users[1]->asked[2]);
	ck_assert_uint_eq(stall.links[0].n_bad, 2);
}
END_TEST

/* Who has done no wrong does not wait for the budget of another who wants the same. */
START_TEST(shared_with_one_who_has_none)
{
	ask(users[0], 1, "no1", ",'timeout_ms':60000");
	ask(users[0], 2, "no2", ",'timeout_ms':60000");
	ask(users[0], 3, "ours", ",'keep':true,'timeout_ms':1000");
	stall_run(10100);
	expect(users[0], "[1,3,null,{*'joining'}]");
	peer_skip(users[0], "");
	ask(users[1], 1, "ours", "");
	ck_assert_uint_lt(stall_answer(users[1], 1, 15000), 1000);
	expect(users[1], "[1,1,null,{*'ready'}]");
	ck_assert_uint_eq(peer_skip(users[0], "ready"), 1);
}
END_TEST

/* ---- sends and trackers ---- */

START_TEST(broadcast_without_budget)
{
	ask(users[0], 1, "no1", "");
	ask(users[0], 2, "no2", "");
	stall_run(11000);
	peer_skip(users[0], "");
	peer_ask(users[0], 3, "broadcast",
		 "{'topic':'c','private':true,'event':'e','payload':1,'ttl_ms':3000}");
	stall_run(3100);
	expect(users[0], "[1,3,null,{'outcome':'*',*'text':'2 joins of this user have failed*'}]");
	ck_assert_uint_eq(stall.links[0].n_joins, 2);
}
END_TEST

START_TEST(track_without_budget)
{
	ask(users[0], 1, "no1", "");
	ask(users[0], 2, "no2", "");
	stall_run(11000);
	peer_skip(users[0], "");
	peer_ask(users[0], 3, "track", "{'topic':'c','private':true,'state':{},'timeout_ms':3000}");
	stall_run(3100);
	expect(users[0], "[1,3,null,{'outcome':'queued',*}]");
	stall_run(MINUTES_5);
	ck_assert_uint_eq(peer_skip(users[0], "\"acked\""), 1);
}
END_TEST

/* ---- tokens ---- */

/* Clients bring one token after the other that claims to be alice's. */
static void forge(struct fake_peer *p)
{
	char params[4000];

	if (p->asked[700])
		return;
	snprintf(params, sizeof(params), "{'token':'%s'}", token_of_user("alice", 10 + serial++));
	peer_ask(p, 700, "auth", params);
}

static void alice(void)
{
	give(users[1], 1, token_of_user("alice", 1), "[1,1,null,{'state':'unproven',*}]");
	peer_ask(users[1], 2, "subscribe", "{'topic':'talk'}");
	stall_run(100);
	expect(users[1], "[1,2,null,{*'ready'}]");
}

START_TEST(forged_tokens)
{
	uint64_t from = rig.now;

	alice();
	invented_gets = bad_token;
	while (rig.now < from + 900000) {
		forge(users[0]);
		stall_run(500);
		ck_assert_uint_le(stall_outstanding(0), 1);
	}
	ck_assert_uint_eq(stall_worst(0, from, MINUTES_5), 2 * STALL_MS);
	expect(users[0], "[1,700,[211,'bad_token',*],null]");
}
END_TEST

/* An answer that shows that the token is good has stalled all others as well. */
START_TEST(tokens_shown_by_refusals)
{
	uint64_t from = rig.now;

	alice();
	rig.hub->private_only = true;
	invented_gets = no_right;
	while (rig.now < from + 900000) {
		forge(users[0]);
		stall_run(500);
	}
	ck_assert_uint_ge(peer_skip(users[0], "\"accepted\""), 1);
	ck_assert_uint_le(stall_worst(0, from, MINUTES_5), 4 * STALL_MS);
}
END_TEST

START_TEST(tokens_and_trouble)
{
	uint64_t from = rig.now;

	alice();
	invented_gets = trouble;
	while (rig.now < from + 900000) {
		forge(users[0]);
		stall_run(500);
	}
	ck_assert_uint_le(stall_worst(0, from, MINUTES_5), 4 * STALL_MS);
}
END_TEST

/* ---- two connections, one of them in use ---- */

/* While one of a user without a record is out, nothing that may fail is sent behind it. */
START_TEST(one_outstanding)
{
	peer_ask(users[0], 1, "subscribe", "{'topic':'t'}");
	ask(users[1], 1, "no1", "");
	stall_run(5100);
	stall.silent[1] = true;
	ask(users[1], 2, "no2", ",'timeout_ms':60000");
	stall_run(PROBATION_LINK_MS - 2000);
	ask(users[2], 1, "no3", "");
	for (unsigned i = 0; i < 300; i++) {
		stall_run(100);
		ck_assert_uint_le(stall_outstanding(0), 1);
	}
	ck_assert_uint_eq(stall.links[0].n_bad, 3);
}
END_TEST

/* A trial in its place, whose connection is down, does not keep the others'. */
START_TEST(its_place_is_down)
{
	peer_ask(users[0], 1, "subscribe", "{'topic':'t'}");
	stall_run(10);
	ask(users[1], 1, "t", ",'keep':true,'timeout_ms':1000");
	stall_run(100);
	ck_assert_uint_eq(stall.links[1].n_joins, 1);
	ask(users[2], 1, "no1", "");
	stall_run(5100);
	for (unsigned i = 0; i < 3; i++) {
		stall.silent[1] = true;
		rig.at = 1;
		server_drop(SESSION_FAULT_LOST, "lost");
		rig.at = 0;
		ask(users[2], 10 + i, i == 0 ? "a" : i == 1 ? "b" : "c", "");
		ck_assert_uint_lt(stall_answer(users[2], 10 + i, 15000), 1000);
		stall.silent[1] = false;
		stall_run(60000);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_budget");
	TCase *t = tcase_create("budget");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, one_user);
	tcase_add_test(t, many_users);
	tcase_add_test(t, told_when);
	tcase_add_test(t, all_is_used_up);
	tcase_add_test(t, wishes_are_kept);
	tcase_add_test(t, trouble_is_counted);
	tcase_add_test(t, comes_back_as_another);
	tcase_add_test(t, a_topic_that_is_never_answered);
	tcase_add_test(t, shared_with_one_who_has_none);
	tcase_add_test(t, broadcast_without_budget);
	tcase_add_test(t, track_without_budget);
	tcase_add_test(t, forged_tokens);
	tcase_add_test(t, tokens_shown_by_refusals);
	tcase_add_test(t, tokens_and_trouble);
	suite_add_tcase(s, t);
	t = tcase_create("two links");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, begin_two, end);
	tcase_add_test(t, one_outstanding);
	tcase_add_test(t, its_place_is_down);
	suite_add_tcase(s, t);
	return suite_run(s);
}
