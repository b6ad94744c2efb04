/* SPDX-License-Identifier: MIT */
/* Stories about joins that may fail: what they cost the others, and that the allowed ones get
 * through. */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *bad, *good;

static const char *judge(const struct line *f)
{
	if (stall_is(f, "no") || stall_is(f, "secret"))
		return "Unauthorized: You do not have permissions to read from this Channel topic";
	return NULL;
}

static void four_links(struct hub_conf *conf)
{
	conf->max_links = 4;
}

static struct fake_peer *peer_of(uid_t uid)
{
	rig.uid = uid;
	return peer_ready();
}

static void begin_with(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	server_open();
	stall_start(judge);
	bad = peer_of(2000);
	good = peer_of(2001);
}

static void begin(void)
{
	begin_with(four_links);
}

static void always(struct hub_conf *conf)
{
	conf->max_links = 4;
	conf->probation = HUB_PROBATION_ALWAYS;
}

static void begin_always(void)
{
	begin_with(always);
}

static void end(void)
{
	stall_done();
	rig_teardown();
}

static void ask_private(struct fake_peer *p, uint32_t id, const char *topic, const char *more)
{
	char params[300];

	snprintf(params, sizeof(params), "{'topic':'%s','private':true%s}", topic, more);
	peer_ask(p, id, "subscribe", params);
}

/* Its joins have failed: what it asks from now on is tried apart. */
static void get_record(struct fake_peer *p)
{
	ask_private(p, 1, "no-right", "");
	stall_answer(p, 1, 20000);
	expect(p, "[1,1,[300,'rejected','Unauthorized*',null],null]");
}

/* ---- the price for others ---- */

static struct latencies {
	uint64_t worst;
	unsigned n, n_slow;
} seen;

/* New forbidden topics, as many as one client may ask for. */
static void keep_asking(struct fake_peer *p)
{
	static unsigned serial;
	char topic[20];

	for (uint32_t id = 600; id < 700; id++) {
		if (p->asked[id])
			continue;
		snprintf(topic, sizeof(topic), "no%u", serial++);
		ask_private(p, id, topic, "");
	}
}

/* Broadcasts of `good`, one a second, while `p` asks; each answer's time is noted. */
static void chat(unsigned seconds, struct fake_peer *p)
{
	uint64_t took, until;

	for (unsigned i = 0; i < seconds; i++) {
		until = rig.now + 1000;
		if (p)
			keep_asking(p);
		peer_ask(good, 500, "broadcast", "{'topic':'talk','event':'e','payload':1}");
		took = stall_answer(good, 500, 20000);
		seen.n++;
		seen.n_slow += took > 200;
		seen.worst = took > seen.worst ? took : seen.worst;
		if (rig.now < until)
			stall_run(until - rig.now);
	}
}

static void chat_while_hundred_fail(void)
{
	seen = (struct latencies){ 0 };
	peer_ask(good, 501, "subscribe", "{'topic':'talk'}");
	ck_assert_uint_lt(stall_answer(good, 501, 20000), 100);
	chat(600, bad);
	ck_assert_uint_eq(peer_skip(good, "\"acked\""), seen.n);
}

START_TEST(a_hundred_forbidden)
{
	chat_while_hundred_fail();
	ck_assert_uint_le(seen.worst, 6000);
	ck_assert_uint_le(seen.n_slow, 1);
	ck_assert_uint_eq(stall.links[0].n_bad, 1);
	ck_assert_uint_gt(stall.n_refusals, 100);
}
END_TEST

START_TEST(a_hundred_forbidden_always)
{
	chat_while_hundred_fail();
	ck_assert_uint_le(seen.worst, 200);
	ck_assert_uint_eq(stall.links[0].n_bad, 0);
}
END_TEST

/* What was proven is refused on the next connection: the others do not pay for each of it. */
static const char *nothing_private(const struct line *f)
{
	return strstr(f->text, "\"private\":true") ? "Unauthorized: no" : NULL;
}

START_TEST(rights_taken_away)
{
	uint64_t from;
	char topic[20];

	for (unsigned i = 0; i < 20; i++) {
		snprintf(topic, sizeof(topic), "mine%u", i);
		ask_private(bad, 10 + i, topic, ",'timeout_ms':60000");
	}
	peer_ask(good, 501, "subscribe", "{'topic':'talk'}");
	stall_run(10000);
	ck_assert_uint_eq(peer_skip(bad, "ready"), 20);
	from = rig.now;
	stall.judge = nothing_private;
	server_drop(SESSION_FAULT_LOST, "lost");
	stall_run(600000);
	ck_assert_uint_le(stall_worst(0, from, 600000), 60000);
	ck_assert_uint_le(rig.links[0].n_opened, 4);
}
END_TEST

/* ---- own tokens ---- */

START_TEST(unproven_token_and_public_topic)
{
	get_record(bad);
	give(bad, 2, token_of_user("alice", 1), "[1,2,null,{'state':'unproven',*}]");
	peer_ask(bad, 3, "subscribe", "{'topic':'open'}");
	ck_assert_uint_lt(stall_answer(bad, 3, 15000), 1000);
	expect(bad, "[1,3,null,{*'ready'}]");
}
END_TEST

START_TEST(unproven_token_and_private_topic)
{
	get_record(bad);
	give(bad, 2, token_of_user("alice", 1), "[1,2,null,{'state':'unproven',*}]");
	ask_private(bad, 3, "open", "");
	ck_assert_uint_lt(stall_answer(bad, 3, 15000), 1000);
	expect(bad, "[1,3,null,{*'ready'}]");
}
END_TEST

static const char *no_tokens(const struct line *f)
{
	return strstr(f->text, "\"the-key\"")
		       ? judge(f)
		       : "JwtSignatureError: Failed to validate JWT signature";
}

START_TEST(bad_token_and_public_topic)
{
	get_record(bad);
	stall.judge = no_tokens;
	give(bad, 2, token_of_user("alice", 1), "[1,2,null,{'state':'unproven',*}]");
	peer_ask(bad, 3, "subscribe", "{'topic':'open','timeout_ms':60000}");
	ck_assert_uint_lt(stall_answer(bad, 3, 60000), 7000);
	expect(bad, "[1,3,[211,'bad_token','JwtSignatureError*',null],null]");
	expect(bad, "[2,'error',{'method':'auth',*'error':[211,'bad_token',*]}]");
	stall_run(60000);
	ck_assert_uint_le(stall.n_refusals, 2);
}
END_TEST

/* ---- the allowed ones get through ---- */

/* Each join that a third user is allowed has at most one trial before it, in the worst case. */
START_TEST(a_third_in_time)
{
	struct fake_peer *third = peer_of(2002);
	uint64_t took, worst = 0;
	char topic[20];

	get_record(bad);
	get_record(third);
	for (unsigned i = 0; i < 30; i++) {
		keep_asking(bad);
		snprintf(topic, sizeof(topic), "mine%u", i);
		ask_private(third, 10 + i, topic, "");
		took = stall_answer(third, 10 + i, 15000);
		worst = took > worst ? took : worst;
		stall_run(700);
	}
	ck_assert_uint_eq(peer_skip(third, "ready"), 30);
	ck_assert_uint_le(worst, 5500);
}
END_TEST

/* Without a record of its own it does not wait for anybody's trial. */
START_TEST(who_has_no_record)
{
	char topic[20];

	get_record(bad);
	for (unsigned i = 0; i < 30; i++) {
		keep_asking(bad);
		snprintf(topic, sizeof(topic), "mine%u", i);
		ask_private(good, 10 + i, topic, "");
		ck_assert_uint_lt(stall_answer(good, 10 + i, 15000), 100);
		stall_run(700);
	}
	ck_assert_uint_eq(peer_skip(good, "ready"), 30);
}
END_TEST

/* Who wants the same as a user with a record does not stand in that user's queue. */
START_TEST(shared_with_one_who_failed)
{
	uint64_t took;

	get_record(bad);
	for (uint32_t id = 10; id < 30; id++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "no%u", id);
		ask_private(bad, id, topic, ",'timeout_ms':300000");
	}
	ask_private(bad, 30, "ours", ",'timeout_ms':300000");
	stall_run(100);
	ask_private(good, 2, "ours", "");
	took = stall_answer(good, 2, 20000);
	ck_assert_uint_le(took, 6000);
	expect(good, "[1,2,null,{*'ready'}]");
}
END_TEST

START_TEST(record_is_forgotten)
{
	get_record(bad);
	stall_run(RECORD_MS - 1000);
	ask_private(bad, 2, "a", "");
	ck_assert_uint_lt(stall_answer(bad, 2, 15000), 100);
	ck_assert(rig.links[1].is_open);
	expect(bad, "[1,2,null,{*'ready'}]");
	stall_run(PROBATION_IDLE_MS + 1000);
	ck_assert(!rig.links[1].is_open);
	ask_private(bad, 3, "b", "");
	ck_assert_uint_lt(stall_answer(bad, 3, 15000), 100);
	expect(bad, "[1,3,null,{*'ready'}]");
	ck_assert(!rig.links[1].is_open);
}
END_TEST

/* After a success a topic is as good as any for an hour. */
START_TEST(proven_for_an_hour)
{
	ask_private(good, 1, "a", "");
	stall_run(100);
	expect(good, "[1,1,null,{*'ready'}]");
	peer_call(good, "unsubscribe", "{'all':true}");
	stall_run(10000);
	peer_skip(good, "");
	get_record(bad);
	ask_private(bad, 2, "a", "");
	ck_assert_uint_lt(stall_answer(bad, 2, 100), 100);
	ck_assert(!rig.links[1].n_opened);
	peer_call(bad, "unsubscribe", "{'all':true}");
	stall_run(PROVEN_MS + 10000);
	get_record(good);
	ask_private(good, 2, "a", "");
	ck_assert_uint_lt(stall_answer(good, 2, 100), 100);
	ck_assert_uint_eq(stall.links[1].n_joins, 1);
}
END_TEST

/* What was refused to one user and has been joined by another since is not refused from memory. */
static bool is_open;

static const char *opened_later(const struct line *f)
{
	return is_open ? NULL : judge(f);
}

START_TEST(proven_beats_memory)
{
	is_open = false;
	stall.judge = opened_later;
	get_record(bad);
	is_open = true;
	ask_private(good, 1, "no-right", "");
	stall_run(100);
	expect(good, "[1,1,null,{*'ready'}]");
	peer_call(good, "unsubscribe", "{'all':true}");
	stall_run(4000);
	ask_private(bad, 2, "no-right", "");
	stall_run(100);
	expect(bad, "[1,2,null,{*'ready'}]");
}
END_TEST

START_TEST(reconnect_with_eighty)
{
	uint64_t from;
	char topic[20];

	get_record(bad);
	for (unsigned i = 0; i < 80; i++) {
		snprintf(topic, sizeof(topic), "mine%u", i);
		ask_private(bad, 10 + i, topic, ",'timeout_ms':100000");
	}
	stall_run(60000);
	ck_assert_uint_eq(peer_skip(bad, "ready"), 80);
	ck_assert_uint_eq(stall.links[1].n_joins, 80);
	/* More than an hour after they were joined. */
	stall_run(2 * PROVEN_MS);
	get_record(good);
	server_drop(SESSION_FAULT_LOST, "lost");
	peer_skip(bad, "");
	from = stall.links[0].n_joins;
	while (!link_is_online(&rig.hub->links[0]))
		stall_run(10);
	ck_assert_uint_eq(stall.links[0].n_joins - from, PACE_BURST);
	stall_run(7500);
	ck_assert_uint_eq(stall.links[0].n_joins - from, 80);
	ck_assert_uint_eq(peer_skip(bad, "\"ready\""), 80);
	ck_assert_uint_eq(stall.links[1].n_joins, 80);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_probation");
	TCase *t = tcase_create("probation");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, a_hundred_forbidden);
	tcase_add_test(t, unproven_token_and_public_topic);
	tcase_add_test(t, unproven_token_and_private_topic);
	tcase_add_test(t, bad_token_and_public_topic);
	tcase_add_test(t, a_third_in_time);
	tcase_add_test(t, who_has_no_record);
	tcase_add_test(t, shared_with_one_who_failed);
	tcase_add_test(t, record_is_forgotten);
	tcase_add_test(t, proven_for_an_hour);
	tcase_add_test(t, proven_beats_memory);
	tcase_add_test(t, reconnect_with_eighty);
	tcase_add_test(t, rights_taken_away);
	suite_add_tcase(s, t);
	t = tcase_create("always");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, begin_always, end);
	tcase_add_test(t, a_hundred_forbidden_always);
	tcase_add_test(t, unproven_token_and_public_topic);
	suite_add_tcase(s, t);
	return suite_run(s);
}
