/* SPDX-License-Identifier: MIT */
/* Stories about trials: what the server may say to them, and what may happen meanwhile. */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *bad, *good;
static const char *words_for_tokens; /* to all that is joined with a client's own */
static const char *next_word;        /* to the next trial of a topic */

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

static void begin(void)
{
	rig_start(four_links);
	server_open();
	stall_start(judge);
	words_for_tokens = next_word = NULL;
	bad = peer_of(2000);
	good = peer_of(2001);
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

/* ---- what the server may say to a trial ---- */

static const char *judge_once(const struct line *f)
{
	const char *word = next_word;

	if (f->link == 1 && word) {
		next_word = NULL;
		return word;
	}
	return judge(f);
}

static void trial_meets(const char *word, uint64_t at_least, uint64_t at_most)
{
	uint64_t took;

	get_record(bad);
	stall.judge = judge_once;
	next_word = word;
	ask_private(bad, 2, "a", ",'timeout_ms':300000");
	took = stall_answer(bad, 2, 300000);
	ck_assert_uint_ge(took, at_least);
	ck_assert_uint_le(took, at_most);
	expect(bad, "[1,2,null,{*'ready'}]");
	ck_assert_uint_eq(stall.links[0].n_bad, 1);
}

START_TEST(trial_meets_trouble)
{
	trial_meets("QueryCanceled: Query was cancelled", 5000, 20000);
}
END_TEST

START_TEST(trial_meets_outage)
{
	trial_meets("UnableToConnectToProject: no", 5000, 20000);
}
END_TEST

START_TEST(trial_meets_join_rate)
{
	trial_meets("ClientJoinRateLimitReached: Too many joins per second", 60000, 90000);
}
END_TEST

START_TEST(trial_meets_crash)
{
	trial_meets("UnknownErrorOnChannel: Unknown Error on Channel", 5000, 20000);
}
END_TEST

START_TEST(trial_meets_unknown_words)
{
	trial_meets("Whatever", 5000, 20000);
}
END_TEST

/* There is no further connection to be had: in its place. */
START_TEST(trial_meets_too_many_connections)
{
	trial_meets("ConnectionRateLimitReached: Too many connected users", 5000, 5500);
	ck_assert(!rig.links[1].is_open);
}
END_TEST

START_TEST(trial_meets_own_bad_key)
{
	get_record(bad);
	stall.judge = judge_once;
	next_word = "JwtSignatureError: Failed to validate JWT signature";
	ask_private(bad, 2, "a", "");
	stall_answer(bad, 2, 15000);
	expect(bad, "[1,2,[300,'rejected','JwtSignatureError*',null],null]");
	/* It is everybody's. */
	ask_private(good, 2, "b", "");
	expect(good, "[1,2,[300,'rejected','JwtSignatureError*',null],null]");
}
END_TEST

START_TEST(same_words_as_fresh)
{
	get_record(bad);
	ask_private(bad, 2, "no", "");
	stall_answer(bad, 2, 15000);
	expect(bad, "[1,2,[300,'rejected','Unauthorized: You do not have*topic',null],null]");
	ask_private(bad, 3, "no", "");
	expect(bad, "[1,3,[300,'rejected','Unauthorized: You do not have*topic',null],null]");
}
END_TEST

/* Refused for now: its words are the answer when the time is over. */
static const char *trouble(const struct line *f)
{
	return f->link == 1 ? "QueryCanceled: Query was cancelled" : judge(f);
}

START_TEST(told_of_trouble)
{
	get_record(bad);
	stall.judge = trouble;
	ask_private(bad, 2, "a", ",'timeout_ms':9000");
	stall_answer(bad, 2, 15000);
	expect(bad, "[1,2,[102,'join_failed','QueryCanceled*',*],null]");
}
END_TEST

/* ---- what may happen meanwhile ---- */

/* Called off while the server holds it: the next one is not sent behind it. */
START_TEST(called_off)
{
	get_record(bad);
	for (uint32_t id = 10; id < 60; id += 2) {
		char topic[20];

		snprintf(topic, sizeof(topic), "no%u", id);
		ask_private(bad, id, topic, "");
		stall_run(100);
		ck_assert_uint_le(stall_outstanding(1), 1);
		peer_ask(bad, id + 1, "unsubscribe", "{'all':true}");
		stall_run(100);
		ck_assert_uint_le(stall_outstanding(1), 1);
	}
	stall_run(30000);
	peer_skip(bad, "");
	ck_assert_uint_eq(stall_outstanding(1), 0);
}
END_TEST

START_TEST(client_goes)
{
	get_record(bad);
	get_record(good);
	ask_private(bad, 2, "no", "");
	ask_private(good, 2, "a", "");
	stall_run(1000);
	peer_close(bad);
	ck_assert_uint_lt(stall_answer(good, 2, 15000), 5000);
	expect(good, "[1,2,null,{*'ready'}]");
	stall_run(PROBATION_IDLE_MS + 6000);
	ck_assert(!rig.links[1].is_open);
}
END_TEST

/* Proven by another identity's... by another client meanwhile: goes without its trial. */
START_TEST(joined_by_another_meanwhile)
{
	get_record(bad);
	ask_private(bad, 2, "no", "");
	ask_private(bad, 3, "a", "");
	stall_run(100);
	ask_private(good, 2, "a", "");
	stall_answer(good, 2, 15000);
	expect(good, "[1,2,null,{*'ready'}]");
	expect(bad, "[1,3,null,{*'ready'}]");
	stall_answer(bad, 2, 15000);
	expect(bad, "[1,2,[300,*");
	ck_assert_uint_le(stall.links[0].n_joins, 3);
}
END_TEST

START_TEST(its_link_drops)
{
	get_record(bad);
	ask_private(bad, 2, "a", "");
	ask_private(bad, 3, "no", "");
	stall_run(2000);
	rig.at = 1;
	server_drop(SESSION_FAULT_LOST, "lost");
	rig.at = 0;
	stall_run(13000);
	expect(bad, "[1,2,null,{*'ready'}]");
	expect(bad, "[1,3,[300,*");
	ck_assert_uint_eq(stall.links[0].n_bad, 1);
}
END_TEST

/* Its connection has 15 s to come back, whatever timer ran before. */
START_TEST(its_link_drops_late)
{
	stall.silent[1] = true;
	get_record(bad);
	ask_private(bad, 2, "no", ",'timeout_ms':60000");
	stall_run(13000);
	stall.silent[1] = false;
	stall_run(1000);
	ck_assert_uint_eq(stall_outstanding(1), 1);
	rig.at = 1;
	server_drop(SESSION_FAULT_LOST, "lost");
	rig.at = 0;
	stall_run(10000);
	expect(bad, "[1,2,[300,*");
	ck_assert_uint_eq(stall.links[0].n_bad, 1);
}
END_TEST

START_TEST(its_link_never_comes)
{
	stall.silent[1] = true;
	get_record(bad);
	ask_private(bad, 2, "a", ",'timeout_ms':60000");
	ck_assert_uint_ge(stall_answer(bad, 2, 60000), PROBATION_LINK_MS);
	expect(bad, "[1,2,null,{*'ready'}]");
	ck_assert(!rig.links[1].is_open);
	/* A minute later it is tried again. */
	stall.silent[1] = false;
	ask_private(bad, 3, "b", "");
	ck_assert_uint_lt(stall_answer(bad, 3, 100), 100);
	ck_assert(!rig.links[1].is_open);
	stall_run(PROBATION_AGAIN_MS);
	ask_private(bad, 4, "c", "");
	ck_assert_uint_lt(stall_answer(bad, 4, 100), 100);
	ck_assert(rig.links[1].is_open);
}
END_TEST

START_TEST(all_drops)
{
	get_record(bad);
	ask_private(bad, 2, "no", ",'timeout_ms':60000");
	ask_private(bad, 3, "a", ",'timeout_ms':60000");
	ask_private(good, 2, "b", "");
	stall_run(1000);
	for (rig.at = 2; rig.at-- > 0;)
		server_drop(SESSION_FAULT_LOST, "lost");
	rig.at = 0;
	stall_run(30000);
	ck_assert_uint_eq(peer_skip(good, "ready"), 2);
	ck_assert_uint_eq(peer_skip(bad, "[1,3,null"), 1);
	ck_assert(!bad->asked[2]);
	ck_assert_uint_eq(stall.links[0].n_bad, 1);
}
END_TEST

START_TEST(ends_with_a_trial)
{
	get_record(bad);
	ask_private(bad, 2, "no", "");
	ask_private(bad, 3, "no2", "");
	stall_run(1000);
	hub_drain(rig.hub, 100);
	stall_run(200);
	ck_assert(bad->finished && good->finished);
	peer_close(bad);
	peer_close(good);
	stall_run(5000);
	ck_assert(rig.drained);
	ck_assert(!rig.links[0].is_open && !rig.links[1].is_open);
	stall_run(60000);
}
END_TEST

/* A channel that works stays proven while it does: who wants its presence does not wait. */
START_TEST(joined_anew)
{
	ask_private(bad, 10, "a", "");
	stall_run(100);
	expect(bad, "[1,10,null,{*'ready'}]");
	stall_run(2 * PROVEN_MS);
	get_record(bad);
	ask_private(bad, 2, "a", ",'presence':{},'wait':'joined'");
	stall_run(1000);
	ck_assert_uint_eq(stall.links[1].n_joins, 0);
	ck_assert_uint_eq(stall.links[0].n_joins, 3);
}
END_TEST

/* ---- the connection of the trials ---- */

START_TEST(given_to_a_spill)
{
	struct fake_peer *c = peer_of(2002), *d = peer_of(2003);
	struct fake_peer *trackers[] = { good, c, d };

	get_record(bad);
	ask_private(bad, 2, "a", "");
	stall_run(100);
	ck_assert(rig.links[1].is_open && rig.hub->links[1].is_probation);
	peer_ask(bad, 3, "track", "{'topic':'t','state':{}}");
	for (unsigned i = 0; i < 3; i++) {
		peer_ask(trackers[i], 3, "track", "{'topic':'t','state':{}}");
		stall_answer(trackers[i], 3, 5000);
		expect(trackers[i], "[1,3,null,{'outcome':'acked',*");
	}
	ck_assert(!rig.hub->probation.link);
	/* And has it back when the spill has gone. */
	ask_private(bad, 4, "b", "");
	ck_assert_uint_lt(stall_answer(bad, 4, 15000), 100);
	peer_close(c);
	stall_run(70000);
	ask_private(bad, 5, "c", "");
	ck_assert_uint_lt(stall_answer(bad, 5, 15000), 100);
	ck_assert(rig.hub->probation.link);
}
END_TEST

START_TEST(not_given_while_it_tries)
{
	struct fake_peer *c = peer_of(2002), *d = peer_of(2003);

	get_record(bad);
	ask_private(bad, 2, "no", "");
	stall_run(100);
	peer_ask(bad, 3, "track", "{'topic':'t','state':{}}");
	peer_ask(good, 3, "track", "{'topic':'t','state':{}}");
	peer_ask(c, 3, "track", "{'topic':'t','state':{}}");
	peer_ask(d, 3, "track", "{'topic':'t','state':{}}");
	stall_run(100);
	expect(d, "[1,3,[210,'presence_taken',*");
	ck_assert_uint_eq(stall_outstanding(1), 1);
	stall_run(5000);
	peer_ask(d, 4, "track", "{'topic':'t','state':{}}");
	stall_run(100);
	expect(d, "[1,4,null,{'outcome':'acked',*");
}
END_TEST

/* ---- tokens among them ---- */

static const char *judge_tokens(const struct line *f)
{
	return strstr(f->text, "\"the-key\"") ? judge(f) : words_for_tokens;
}

/* Alice is known; others claim to be her. */
static void alice(void)
{
	give(good, 900, token_of_user("alice", 1), "[1,900,null,{'state':'unproven',*}]");
	peer_ask(good, 901, "subscribe", "{'topic':'talk'}");
	stall_run(100);
	expect(good, "[1,901,null,{*'ready'}]");
	stall.judge = judge_tokens;
}

static void claim(struct fake_peer *p, uint32_t id, unsigned serial)
{
	char params[4000];

	snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':60000}",
		 token_of_user("alice", serial));
	peer_ask(p, id, "auth", params);
}

START_TEST(tokens_and_topics_in_turn)
{
	struct fake_peer *third = peer_of(2002);

	get_record(bad);
	alice();
	for (uint32_t id = 10; id < 15; id++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "no%u", id);
		ask_private(bad, id, topic, ",'timeout_ms':60000");
	}
	stall_run(100);
	claim(third, 1, 2);
	/* Behind the one that is out, not behind all of them. */
	ck_assert_uint_le(stall_answer(third, 1, 60000), 5500);
	expect(third, "[1,1,null,{'state':'accepted',*}]");
	stall_run(30000);
	ck_assert_uint_eq(peer_skip(bad, "rejected"), 5);
	ck_assert_uint_eq(stall.links[0].n_bad, 1);
}
END_TEST

START_TEST(forged_tokens_are_tried_apart)
{
	alice();
	words_for_tokens = "JwtSignatureError: Failed to validate JWT signature";
	for (uint32_t i = 0; i < 10; i++) {
		claim(bad, i, 10 + i);
		ck_assert_uint_le(stall_answer(bad, i, 60000), 6000);
		expect(bad, "[1,*,[211,'bad_token','JwtSignature*',null],null]");
	}
	ck_assert_uint_eq(stall.links[0].n_bad, 0);
	/* Its other joins are tried now, too. */
	words_for_tokens = NULL;
	ask_private(bad, 20, "a", "");
	stall_run(100);
	expect(bad, "[1,20,null,{*'ready'}]");
	ck_assert_uint_eq(stall.links[1].n_joins, 11);
}
END_TEST

static const char *private_project(const struct line *f)
{
	if (!strstr(f->text, "\"private\":true"))
		return "PrivateOnly: This project only allows private channels";
	return stall_is(f, "rtbridge:") ? "Unauthorized: no" : judge(f);
}

/* Where nobody may read what was invented, "no right" shows that the token was looked at. */
START_TEST(shown_by_a_refusal)
{
	alice();
	stall.judge = private_project;
	claim(bad, 1, 2);
	ck_assert_uint_le(stall_answer(bad, 1, 60000), 12000);
	expect(bad, "[1,1,null,{'state':'accepted',*}]");
	ck_assert_uint_eq(stall.links[0].n_bad, 0);
	/* By now it is known: at once with a private one. */
	claim(bad, 2, 3);
	ck_assert_uint_le(stall_answer(bad, 2, 60000), 5500);
	expect(bad, "[1,2,null,{'state':'accepted',*}]");
}
END_TEST

START_TEST(public_topic_of_a_private_project)
{
	get_record(bad);
	give(bad, 2, token_of_user("bob", 1), "[1,2,null,{'state':'unproven',*}]");
	stall.judge = private_project;
	peer_ask(bad, 3, "subscribe", "{'topic':'open'}");
	ck_assert_uint_le(stall_answer(bad, 3, 15000), 5500);
	expect(bad, "[1,3,[300,'rejected','PrivateOnly*',null],null]");
	/* It was no word about the token. */
	ask_private(bad, 4, "open", "");
	ck_assert_uint_le(stall_answer(bad, 4, 15000), 500);
	expect(bad, "[1,4,null,{*'ready'}]");
}
END_TEST

START_TEST(token_goes_while_it_is_tried)
{
	alice();
	words_for_tokens = "JwtSignatureError: Failed to validate JWT signature";
	claim(bad, 1, 2);
	stall_run(1000);
	peer_close(bad);
	stall_run(1000);
	ck_assert_uint_eq(stall_outstanding(1), 1);
	stall_run(60000);
	ck_assert(!rig.links[1].is_open);
}
END_TEST

START_TEST(token_and_its_link)
{
	stall.silent[1] = true;
	alice();
	claim(bad, 1, 2);
	ck_assert_uint_le(stall_answer(bad, 1, 60000), PROBATION_LINK_MS + 1000);
	expect(bad, "[1,1,null,{'state':'accepted',*}]");
}
END_TEST

/* ---- no answer at all ---- */

/* One that the server never answers does not keep the others'. */
static const char *some_hang(const struct line *f)
{
	return stall_is(f, "hang") ? stall_never : judge(f);
}

START_TEST(never_answered)
{
	get_record(bad);
	get_record(good);
	stall.judge = some_hang;
	ask_private(bad, 2, "hang", ",'keep':true,'timeout_ms':1000");
	stall_run(100);
	for (uint32_t id = 2; id < 6; id++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "a%u", id);
		ask_private(good, id, topic, ",'timeout_ms':60000");
		ck_assert_uint_le(stall_answer(good, id, 60000), 16000);
		stall_run(300);
	}
	ck_assert_uint_eq(peer_skip(good, "ready"), 4);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_trials");
	TCase *t = tcase_create("trials");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, trial_meets_trouble);
	tcase_add_test(t, trial_meets_outage);
	tcase_add_test(t, trial_meets_join_rate);
	tcase_add_test(t, trial_meets_crash);
	tcase_add_test(t, trial_meets_unknown_words);
	tcase_add_test(t, trial_meets_too_many_connections);
	tcase_add_test(t, trial_meets_own_bad_key);
	tcase_add_test(t, same_words_as_fresh);
	tcase_add_test(t, told_of_trouble);
	tcase_add_test(t, called_off);
	tcase_add_test(t, client_goes);
	tcase_add_test(t, joined_by_another_meanwhile);
	tcase_add_test(t, its_link_drops);
	tcase_add_test(t, its_link_drops_late);
	tcase_add_test(t, its_link_never_comes);
	tcase_add_test(t, all_drops);
	tcase_add_test(t, ends_with_a_trial);
	tcase_add_test(t, joined_anew);
	tcase_add_test(t, given_to_a_spill);
	tcase_add_test(t, not_given_while_it_tries);
	tcase_add_test(t, tokens_and_topics_in_turn);
	tcase_add_test(t, forged_tokens_are_tried_apart);
	tcase_add_test(t, shown_by_a_refusal);
	tcase_add_test(t, public_topic_of_a_private_project);
	tcase_add_test(t, token_goes_while_it_is_tried);
	tcase_add_test(t, token_and_its_link);
	tcase_add_test(t, never_answered);
	suite_add_tcase(s, t);
	return suite_run(s);
}
