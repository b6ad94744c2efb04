/* SPDX-License-Identifier: MIT */
/*
 * What a local client might do to make others wait, or pay, for what it asks, on a server that
 * holds everything up for a refusal: each of these once worked.
 */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char no_right[] = "Unauthorized: You do not have permissions to read from this topic";
static const char outage[] = "Realtime was unable to connect to the project database";

static struct fake_peer *a, *b; /* of the users 2000, who attacks, and 2001 */
static bool z_is_refused;

/* Tokens that were really made by the project have serials below FORGED. */
enum { FORGED = 1000 };
static const char *believed; /* the only token that the server takes beside the daemon's */

static const char *judge(const struct line *f)
{
	if (stall_is(f, "never"))
		return stall_never;
	if (stall_is(f, "no") || (z_is_refused && stall_is(f, "z")))
		return no_right;
	if (stall_is(f, "slow"))
		return outage;
	if (strstr(f->text, "the-key") || (believed && strstr(f->text, believed)))
		return NULL;
	return SIGNATURE_WORDS;
}

static void one_link(struct hub_conf *conf)
{
	conf->max_links = 1;
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
	z_is_refused = false;
	believed = NULL;
	a = peer_of(2000);
	b = peer_of(2001);
}

static void begin(void)
{
	begin_with(with_links);
}

static void begin_one(void)
{
	begin_with(one_link);
}

static void end(void)
{
	stall_done();
	rig_teardown();
}

static void ask(struct fake_peer *p, uint32_t id, const char *topic, const char *more)
{
	char params[300];

	snprintf(params, sizeof(params), "{'topic':'%s'%s}", topic, more);
	peer_ask(p, id, "subscribe", params);
}

static void ask_auth(struct fake_peer *p, uint32_t id, const char *token)
{
	char params[9000];

	snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':300000}", token);
	peer_ask(p, id, "auth", params);
}

static bool has_record(uid_t uid)
{
	return user_has_record(user_get(rig.hub, uid), rig.now);
}

/* Refused joins on the further links. */
static unsigned bad_elsewhere(void)
{
	unsigned n = 0;

	for (unsigned i = 1; i < LINKS_MAX; i++)
		n += stall.links[i].n_bad;
	return n;
}

/* ---- tokens with the claims of others ---- */

/* The other's token is decided on after the forged one: that does not stand in line with whatever
 * else the attacker wants. */
START_TEST(forges_a_token_and_keeps_its_own_line_long)
{
	char topic[20];
	struct fake_peer *c;

	believed = token_of_user("worker", 1);
	give(a, 1, token_of_user("worker", FORGED), UNPROVEN("1"));
	c = peer_of(2000);
	for (unsigned i = 0; i < 60; i++) {
		snprintf(topic, sizeof(topic), "no%u", i);
		ask(c, 1 + i, topic, ",'private':true,'keep':true");
	}
	stall_run(20000);
	ask_auth(b, 1, believed);
	/* What is on trial already, then the forged one. */
	ck_assert_uint_le(stall_answer(b, 1, 300000), 2 * STALL_MS + 1000);
	expect(b, ACCEPTED("1"));
	ck_assert_uint_eq(peer_skip(a, "bad_token"), 1);
	ck_assert(has_record(2000));
	ck_assert(!has_record(2001));
}
END_TEST

/* Two users who claim to be the same, many times: their trials stand in each other's queues. */
START_TEST(forge_tokens_for_each_other)
{
	struct fake_peer *c = peer_of(3000);
	char sub[20], topic[20];

	ask(c, 1, "no0", ",'private':true"); /* from now on its joins are tried */
	stall_answer(c, 1, 60000);
	peer_skip(c, "");
	for (unsigned i = 0; i < FAKE_PEERS - 4; i++) {
		snprintf(sub, sizeof(sub), "x%u", i);
		snprintf(topic, sizeof(topic), "t%u", i);
		give_for(a, 1 + i, topic, token_of_user(sub, FORGED), UNPROVEN("*"));
		ask_auth(peer_of(2001), 1, token_of_user(sub, FORGED + 1));
	}
	stall_run(100);
	ask(c, 2, "yes", ",'private':true,'timeout_ms':300000");
	/* What is on trial, and one of each of the two at most. */
	ck_assert_uint_le(stall_answer(c, 2, 300000), 3 * STALL_MS + 1000);
	ck_assert_uint_eq(peer_skip(c, "\"ready\""), 1);
}
END_TEST

/* Whenever the other's token is on trial there is one forged one more. */
static unsigned n_forged;

static const char *judge_and_forge(const struct line *f)
{
	const char *words = judge(f);

	if (!words && stall_is(f, "rtbridge:")) {
		n_forged++;
		peer_skip(a, "");
		give(a, 1 + n_forged, token_of_user("worker", FORGED + n_forged), NULL);
	}
	return words;
}

static void begin_forging(void)
{
	begin_with(with_links);
	stall.judge = judge_and_forge;
	n_forged = 0;
	believed = token_of_user("worker", 1);
	give(a, 1, token_of_user("worker", FORGED), UNPROVEN("1"));
}

START_TEST(forges_a_token_while_that_of_another_is_on_trial)
{
	ask_auth(b, 1, believed);
	ck_assert_uint_le(stall_answer(b, 1, 60000), 2 * STALL_MS + 1000);
	expect(b, ACCEPTED("1"));
	ck_assert_uint_eq(n_forged, 1);
	stall_run(STALL_MS);
	ck_assert_uint_eq(messages_with(a, "bad_token"), 2);
}
END_TEST

START_TEST(forges_a_token_while_that_of_a_hello_is_on_trial)
{
	b = peer_with(believed, "[1,0,null,{*'token':{'state':'pending',*");
	ask(b, 1, "t", ",'timeout_ms':60000");
	ck_assert_uint_le(stall_answer(b, 1, 60000), 2 * STALL_MS + 1000);
	ck_assert_uint_eq(peer_skip(b, "\"ready\""), 1);
	ck_assert_uint_eq(n_forged, 1);
}
END_TEST

/* ---- turns ---- */

enum { OWN = 95 };

/* The time until z is joined again after a lost connection; 2000 has many channels, and asked for z
 * first if `was_there`. */
static uint64_t time_of_return(bool was_there)
{
	uint64_t online = 0;
	char topic[20];

	if (was_there) {
		ask(a, 1, "z", "");
		stall_run(100);
	}
	ask(b, 1, "z", "");
	stall_run(100);
	if (was_there)
		peer_ask(a, 2, "unsubscribe", "{'topic':'z'}");
	for (unsigned i = 0; i < OWN; i++) {
		snprintf(topic, sizeof(topic), "a%02u", i);
		ask(a, 100 + i, topic, "");
	}
	stall_run(60000);
	ck_assert_uint_eq(peer_skip(a, "\"ready\""), OWN + was_there);
	peer_skip(b, "");
	server_drop(SESSION_FAULT_LOST, "lost");
	for (unsigned ms = 0; ms < 60000; ms += 10) {
		stall_run(10);
		if (!online && link_is_online(&rig.hub->links[0]))
			online = rig.now;
		if (peer_skip(b, "\"ready\""))
			return rig.now - online;
	}
	return UINT64_MAX;
}

START_TEST(has_many_channels_when_the_connection_is_lost)
{
	ck_assert_uint_le(time_of_return(false), 100);
}
END_TEST

START_TEST(asks_for_a_channel_of_others_first_and_goes)
{
	ck_assert_uint_le(time_of_return(true), 100);
}
END_TEST

/* ---- who pays ---- */

/* A refused channel that another one still wants is asked for again and again. */
START_TEST(asks_for_the_refused_channel_of_another)
{
	unsigned n_here, n_elsewhere;

	ask(b, 1, "z", ",'private':true,'keep':true");
	stall_run(100);
	expect(b, "[1,1,null,{*'ready'*");
	z_is_refused = true;
	server_drop(SESSION_FAULT_LOST, "lost");
	stall_run(30000 + RECORD_MS);
	ck_assert_uint_eq(peer_skip(b, "\"rejected\""), 1);
	ck_assert(!has_record(2001));
	n_here = stall.links[0].n_bad;
	peer_skip(a, "");
	ask(a, 1, "z", ",'private':true");
	ck_assert_uint_le(stall_answer(a, 1, 15000), STALL_MS + 100);
	expect(a, "[1,1,[300,'rejected','Unauthorized*',null],null]");
	ck_assert(has_record(2000));
	ck_assert(!has_record(2001));
	ck_assert_uint_eq(stall.links[0].n_bad, n_here + 1);
	/* And from then on nobody else waits for it. */
	n_elsewhere = bad_elsewhere();
	for (uint32_t id = 2; id < 5; id++) {
		stall_run(120000);
		ask(a, id, "z", ",'private':true");
		stall_answer(a, id, 15000);
		expect(a, "[1,*,[300,'rejected','Unauthorized*',null],null]");
	}
	ck_assert_uint_eq(stall.links[0].n_bad, n_here + 1);
	ck_assert_uint_eq(bad_elsewhere(), n_elsewhere + 3);
	ck_assert(!has_record(2001));
}
END_TEST

/* ---- what looks like an outage ---- */

START_TEST(keeps_topics_whose_policies_fail)
{
	uint64_t from = rig.now;
	char topic[20];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(topic, sizeof(topic), "slow%02u", i);
		ask(a, 1 + i, topic, ",'private':true,'keep':true,'timeout_ms':100");
	}
	for (uint32_t id = 1; id <= 20; id++) {
		snprintf(topic, sizeof(topic), "t%02u", id);
		ask(b, id, topic, ",'timeout_ms':300000");
		/* Behind the first one, that nothing was known of. */
		ck_assert_uint_le(stall_answer(b, id, 300000), id == 1 ? STALL_MS : 100);
		expect(b, "[1,*,null,{*'ready'*");
		stall_run(3000);
	}
	ck_assert(has_record(2000));
	ck_assert(!has_record(2001));
	ck_assert_uint_le(stall_worst(0, from, rig.now - from), STALL_MS);
}
END_TEST

/* It is believed when two users meet it: then nobody asks the server on and on. */
START_TEST(meets_an_outage_that_others_meet)
{
	unsigned n;

	ask(a, 1, "slow1", ",'private':true,'keep':true,'timeout_ms':100");
	stall_run(STALL_MS + 100);
	ck_assert(!rig.hub->park_all.until_ms);
	ask(b, 1, "slow2", ",'private':true,'keep':true,'timeout_ms':100");
	stall_run(STALL_MS + 100);
	ck_assert(rig.hub->park_all.until_ms);
	n = frames_with("realtime:t");
	ask(peer_of(2002), 1, "t", ",'timeout_ms':300000");
	stall_run(100);
	ck_assert_uint_eq(frames_with("realtime:t"), n);
}
END_TEST

/* ---- a user that comes anew ---- */

/* All there is: two joins that end badly in five minutes. */
static void use_up(void)
{
	for (uint32_t id = 1; id <= BUDGET_OF_USER; id++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "never%u", id);
		ask(a, id, topic, ",'private':true,'timeout_ms':60000");
		stall_run(JOIN_REPLY_MS + 100);
		peer_ask(a, 100 + id, "unsubscribe", "{'all':true}");
		stall_run(1000);
	}
	peer_skip(a, "");
}

START_TEST(comes_anew_for_another_budget)
{
	use_up();
	ask(a, 200, "never", ",'private':true");
	stall_answer(a, 200, 15000);
	ck_assert_uint_eq(peer_skip(a, "\"join_budget\""), 1);
	for (unsigned i = 0; i < 3; i++) {
		peer_close(a);
		stall_run(1000);
		a = peer_of(2000);
		ask(a, 1, "never", ",'private':true");
		ck_assert_uint_lt(stall_answer(a, 1, 15000), 100);
		ck_assert_uint_eq(peer_skip(a, "\"join_budget\""), 1);
	}
	ck_assert_uint_eq(stall.links[0].n_joins, BUDGET_OF_USER);
	/* Another one has its own. */
	ask(b, 1, "well", ",'private':true");
	ck_assert_uint_lt(stall_answer(b, 1, 15000), 100);
	expect(b, "[1,1,null,{*'ready'*");
	/* It comes back with time, not by going. */
	stall_run(BUDGET_MS);
	peer_skip(a, "");
	ask(a, 2, "well2", ",'private':true");
	ck_assert_uint_lt(stall_answer(a, 2, 15000), 100);
	expect(a, "[1,2,null,{*'ready'*");
}
END_TEST

/* Others wait for their channels; it has one, goes, and wants another one. */
START_TEST(comes_anew_for_another_turn)
{
	unsigned n_own = 0;
	char topic[20];

	for (unsigned i = 0; i < 60; i++) {
		snprintf(topic, sizeof(topic), "b%02u", i);
		ask(b, 1 + i, topic, ",'timeout_ms':60000");
	}
	stall_run(100); /* what may go at once has gone */
	peer_skip(b, "");
	while (n_own < 15) {
		peer_close(a);
		turn();
		a = peer_of(2000);
		snprintf(topic, sizeof(topic), "a%02u", n_own++);
		ask(a, 1, topic, ",'timeout_ms':60000");
		stall_answer(a, 1, 10000);
		ck_assert_uint_eq(peer_skip(a, "\"ready\""), 1);
	}
	ck_assert_uint_ge(peer_skip(b, "\"ready\""), n_own - 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_hostile_turns");
	TCase *t = tcase_create("turns");

	tcase_add_checked_fixture(t, begin, end);
	tcase_set_timeout(t, 100);
	tcase_add_test(t, forges_a_token_and_keeps_its_own_line_long);
	tcase_add_test(t, forge_tokens_for_each_other);
	tcase_add_test(t, has_many_channels_when_the_connection_is_lost);
	tcase_add_test(t, asks_for_a_channel_of_others_first_and_goes);
	tcase_add_test(t, asks_for_the_refused_channel_of_another);
	tcase_add_test(t, keeps_topics_whose_policies_fail);
	tcase_add_test(t, meets_an_outage_that_others_meet);
	suite_add_tcase(s, t);
	t = tcase_create("forging");
	tcase_add_checked_fixture(t, begin_forging, end);
	tcase_add_test(t, forges_a_token_while_that_of_another_is_on_trial);
	tcase_add_test(t, forges_a_token_while_that_of_a_hello_is_on_trial);
	suite_add_tcase(s, t);
	t = tcase_create("in place");
	tcase_add_checked_fixture(t, begin_one, end);
	tcase_set_timeout(t, 100);
	tcase_add_test(t, comes_anew_for_another_budget);
	tcase_add_test(t, comes_anew_for_another_turn);
	suite_add_tcase(s, t);
	return suite_run(s);
}
