/* SPDX-License-Identifier: MIT */
/* Stories about connections that users share: further ones by half, and none that nobody needs. */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *taker, *other, *owner;

static const char *judge(const struct line *f)
{
	return stall_is(f, "no") ? "Unauthorized: no" : NULL;
}

static void four_links(struct hub_conf *conf)
{
	conf->max_links = 4;
	conf->max_channels = 4;
}

static void three_links(struct hub_conf *conf)
{
	conf->max_links = 3;
}

static void goes_idle(struct hub_conf *conf)
{
	conf->max_links = 2;
	conf->connect_always = false;
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
	taker = peer_of(2000);
	other = peer_of(2001);
	owner = peer_of(1000);
}

static void begin(void)
{
	begin_with(four_links);
}

static void begin_idle(void)
{
	begin_with(goes_idle);
}

static void end(void)
{
	stall_done();
	rig_teardown();
}

static unsigned n_open(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LINKS_MAX; i++)
		n += rig.links[i].is_open;
	return n;
}

/* One more request of `p`, answered within a moment; the answer must match. */
static uint32_t next_id;

static void expect_answer(struct fake_peer *p, uint32_t id, const char *answer)
{
	char pattern[400], head[20];

	snprintf(head, sizeof(head), "[1,%u,", id);
	snprintf(pattern, sizeof(pattern), "%s%s", head, answer);
	for (size_t i = p->got.next; i < p->got.n; i++) {
		const char *text = p->got.at[i].text;

		if (strncmp(text, head, strlen(head)) != 0)
			continue;
		MUST_MSG(text_matches(pattern, text), "%s; expected %s", text, pattern);
		peer_skip(p, "");
		return;
	}
	ck_abort_msg("no answer; expected %s", pattern);
}

static void ask(struct fake_peer *p, const char *method, const char *params, const char *answer)
{
	uint32_t id = ++next_id % 500;

	peer_ask(p, id, method, params);
	stall_run(1100);
	expect_answer(p, id, answer);
}

#define READY "null,{*'ready'*}]"
#define SHOWN "null,{'outcome':'acked',*}]"

/* ---- half of them ---- */

START_TEST(by_trackers)
{
	struct fake_peer *more[4];

	for (unsigned i = 0; i < 4; i++)
		more[i] = peer_of(2000);
	for (unsigned i = 0; i < 3; i++)
		ask(more[i], "track", "{'topic':'t','state':{}}", SHOWN);
	ck_assert_uint_eq(n_open(), 3);
	ask(more[3], "track", "{'topic':'t','state':{}}",
	    "[210,'presence_taken','*this user*half*',null],null]");
	ck_assert_uint_eq(n_open(), 3);
	ask(other, "track", "{'topic':'t','state':{}}", SHOWN);
	ck_assert_uint_eq(n_open(), 4);
	/* What becomes free is the last one again: kept for those who have none. */
	peer_close(more[2]);
	stall_run(60000);
	ck_assert_uint_eq(n_open(), 3);
	ask(more[3], "track", "{'topic':'t','state':{}}",
	    "[210,'presence_taken','*this user*half*',null],null]");
	ask(peer_of(2002), "track", "{'topic':'t','state':{}}", SHOWN);
}
END_TEST

START_TEST(by_channels)
{
	char params[100];

	for (unsigned i = 0; i < 12; i++) {
		snprintf(params, sizeof(params), "{'topic':'%u'}", i);
		ask(taker, "subscribe", params, READY);
	}
	ask(taker, "subscribe", "{'topic':'x'}", "[207,'too_many','this user*half*',null],null]");
	ask(other, "subscribe", "{'topic':'x'}", READY);
	ck_assert_uint_eq(n_open(), 4);
	/* And now there is room for both. */
	ask(taker, "subscribe", "{'topic':'x'}", READY);
	ask(taker, "subscribe", "{'topic':'y'}", READY);
}
END_TEST

START_TEST(by_twins_and_identities)
{
	char params[100];
	struct fake_peer *more[3];

	ask(taker, "subscribe", "{'topic':'t'}", READY);
	ask(taker, "subscribe", "{'topic':'t','private':true}", READY);
	ck_assert_uint_eq(n_open(), 2);
	for (unsigned i = 0; i < 3; i++) {
		more[i] = peer_of(2000);
		snprintf(params, sizeof(params), "user-%u", i);
		give(more[i], 1000, token_of_user(params, i),
		     "[1,1000,null,{'state':'unproven',*}]");
	}
	ask(more[0], "subscribe", "{'topic':'t'}", READY);
	ck_assert_uint_eq(n_open(), 3);
	ask(more[1], "subscribe", "{'topic':'t'}", "[207,'too_many','this user*half*',null],null]");
	ask(more[1], "subscribe", "{'topic':'u'}", READY);
	give(other, 1000, token_of_user("bob", 9), "[1,1000,null,{'state':'unproven',*}]");
	ask(other, "subscribe", "{'topic':'t'}", READY);
	ck_assert_uint_eq(n_open(), 4);
	/* There is none any more. */
	ask(peer_of(2002), "subscribe", "{'topic':'t'}", READY);
	give(more[2], 1001, token_of_user("carol", 10), "[1,1001,null,{'state':'unproven',*}]");
	ask(more[2], "subscribe", "{'topic':'t'}", "[207,'too_many',*,null],null]");
}
END_TEST

START_TEST(owner_has_no_share)
{
	struct fake_peer *more[3];

	for (unsigned i = 0; i < 3; i++)
		more[i] = peer_of(i ? 1000 : 0);
	ask(owner, "track", "{'topic':'t','state':{}}", SHOWN);
	for (unsigned i = 0; i < 3; i++)
		ask(more[i], "track", "{'topic':'t','state':{}}", SHOWN);
	ck_assert_uint_eq(n_open(), 4);
	ask(other, "track", "{'topic':'t','state':{}}", "[210,'presence_taken',*,null],null]");
}
END_TEST

START_TEST(why_a_link_is_there)
{
	ask(taker, "subscribe", "{'topic':'t'}", READY);
	ask(taker, "subscribe", "{'topic':'t','private':true}", READY);
	ask(other, "track", "{'topic':'t','state':{}}", SHOWN);
	ask(owner, "track", "{'topic':'t','state':{}}", SHOWN);
	ask(owner, "status", "{}",
	    "null,{*'links':[{'link':0,*'why':'shared by all',*},{'link':1,*'why':'private channel "
	    "t*','joins':*,'uid':2000},{'link':2,*'why':'*tracker*t*'uid':1000}]*");
	/* Its own, a trial's, and one that nothing needs any more. */
	peer_ask(taker, 600, "subscribe", "{'topic':'no','private':true}");
	stall_answer(taker, 600, 15000);
	peer_ask(taker, 601, "subscribe", "{'topic':'no2','private':true}");
	ask(owner, "status", "{}",
	    "null,{*'why':'trying out joins that may fail',*'uid':2000,'text':*}]*");
}
END_TEST

/* ---- with two further ones ---- */

static void begin_three(void)
{
	begin_with(three_links);
}

START_TEST(half_of_two)
{
	struct fake_peer *more = peer_of(2000);

	ask(taker, "subscribe", "{'topic':'t'}", READY);
	ask(taker, "subscribe", "{'topic':'t','private':true}", READY);
	give(more, 1000, token_of_user("alice", 1), "[1,1000,null,{'state':'unproven',*}]");
	ask(more, "subscribe", "{'topic':'t'}", "[207,'too_many','this user*half*',null],null]");
	ask(more, "subscribe", "{'topic':'u'}", READY);
	ck_assert_uint_eq(n_open(), 2);
	ask(other, "track", "{'topic':'t','state':{}}", SHOWN);
	ask(peer_of(2002), "track", "{'topic':'t','state':{}}", SHOWN);
	ck_assert_uint_eq(n_open(), 3);
}
END_TEST

/* ---- nothing is joined ---- */

START_TEST(closed_and_opened_again)
{
	ask(taker, "subscribe", "{'topic':'t'}", READY);
	stall_run(2 * LINK_IDLE_MS);
	ck_assert(rig.links[0].is_open);
	ask(taker, "unsubscribe", "{'all':true}", "null,{}]");
	stall_run(LINK_IDLE_MS);
	ck_assert(rig.links[0].is_open);
	stall_run(3000);
	ck_assert(!rig.links[0].is_open);
	ck_assert_uint_eq(peer_skip(other, "\"idle\""), 1);
	ask(other, "status", "{}", "null,{*'connection':{'state':'idle',*}*'channels':[]*");
	ask(taker, "subscribe", "{'topic':'t'}", READY);
	ck_assert(rig.links[0].is_open);
	ck_assert_uint_eq(rig.links[0].n_opened, 2);
}
END_TEST

static void until_idle(void)
{
	stall_run(LINK_IDLE_MS + 1000);
	ck_assert(!rig.links[0].is_open);
	peer_skip(taker, "");
	peer_skip(other, "");
	peer_skip(owner, "");
}

START_TEST(broadcast_while_idle)
{
	until_idle();
	peer_ask(taker, 1, "broadcast", "{'topic':'t','event':'e','payload':1}");
	ck_assert_uint_lt(stall_answer(taker, 1, 10000), 100);
	ck_assert_uint_eq(peer_skip(taker, "\"acked\""), 1);
	/* It lingers, and goes. */
	stall_run(30000 + LINK_IDLE_MS + 2000);
	ck_assert(!rig.links[0].is_open);
}
END_TEST

START_TEST(track_while_idle)
{
	until_idle();
	peer_ask(taker, 1, "track", "{'topic':'t','state':{}}");
	ck_assert_uint_lt(stall_answer(taker, 1, 10000), 2000);
	ck_assert_uint_eq(peer_skip(taker, "\"acked\""), 1);
	stall_run(2 * LINK_IDLE_MS);
	ck_assert(rig.links[0].is_open);
}
END_TEST

START_TEST(changes_while_idle)
{
	until_idle();
	peer_ask(taker, 1, "subscribe",
		 "{'postgres_changes':[{'schema':'public','table':'t'}],'wait':'joined'}");
	stall_run(2000);
	ck_assert_uint_eq(stall.links[0].n_joins, 1);
}
END_TEST

/* Nothing of it is on its way: it is answered at once, and opens nothing. */
START_TEST(sync_while_idle)
{
	until_idle();
	peer_ask(taker, 1, "sync", "{'upstream':true}");
	ck_assert_uint_lt(stall_answer(taker, 1, 10000), 100);
	expect(taker, "[1,1,null,{}]");
	stall_run(1000);
	ck_assert(!rig.links[0].is_open);
}
END_TEST

/* One that waits for the connection that is being closed. */
START_TEST(sync_while_it_closes)
{
	stall_run(LINK_IDLE_MS - 100);
	stall_done();
	stall_start(judge);
	peer_skip(taker, "");
	peer_ask(taker, 1, "sync", "{'upstream':true,'timeout_ms':60000}");
	rig.stuck = true;
	advance(200);
	peer_ask(taker, 2, "sync", "{'upstream':true,'timeout_ms':60000}");
	rig.stuck = false;
	turn();
	stall_run(20000);
	ck_assert(!taker->asked[1] && !taker->asked[2]);
}
END_TEST

START_TEST(wanted_while_it_closes)
{
	stall_run(LINK_IDLE_MS - 500);
	ck_assert(rig.links[0].is_open);
	rig.stuck = true;
	stall_run(2000);
	ck_assert(rig.links[0].is_closing);
	peer_skip(taker, "");
	peer_ask(taker, 1, "subscribe", "{'topic':'t'}");
	peer_ask(taker, 2, "broadcast", "{'topic':'u','event':'e','payload':1}");
	stall_run(500);
	rig.stuck = false;
	turn();
	stall_run(3000);
	ck_assert(!taker->asked[1] && !taker->asked[2]);
	ck_assert_uint_eq(peer_skip(taker, "\"ready\""), 1);
}
END_TEST

/* Again and again, a moment before, at, and after the end. */
START_TEST(wanted_around_its_end)
{
	for (int ms = -3; ms <= 3; ms++) {
		ask(taker, "subscribe", "{'topic':'t'}", "*");
		peer_skip(taker, "");
		ask(taker, "unsubscribe", "{'all':true}", "*");
		stall_run((uint64_t)(LINK_IDLE_MS + 2000 - 1100 + ms));
		peer_skip(taker, "");
		peer_ask(taker, 900, "subscribe", "{'topic':'t'}");
		ck_assert_uint_lt(stall_answer(taker, 900, 15000), 3000);
		peer_skip(taker, "");
		ck_assert(rig.links[0].is_open);
		ask(taker, "unsubscribe", "{'all':true}", "*");
		stall_run(2 * LINK_IDLE_MS);
		peer_skip(taker, "");
	}
}
END_TEST

/* Trouble is not taken for idleness: it stays to be seen. */
START_TEST(trouble_is_shown)
{
	server_drop(SESSION_FAULT_AUTH, "401");
	peer_skip(owner, "");
	for (unsigned i = 0; i < 20; i++) {
		peer_ask(owner, 901, "status", "{}");
		expect(owner, "[1,901,null,{*'connection':{'state':'auth_failed',*");
		advance(10000);
		peer_skip(owner, "");
		if (rig.links[0].is_open)
			server_drop(SESSION_FAULT_AUTH, "401");
		peer_skip(owner, "");
	}
	/* When it is over nothing needs it. */
	while (!rig.links[0].is_open)
		advance(10000);
	stall_run(LINK_IDLE_MS + 1000);
	ck_assert(!rig.links[0].is_open);
}
END_TEST

/* A further link goes like the first. */
START_TEST(further_link)
{
	ask(taker, "subscribe", "{'topic':'t'}", READY);
	ask(taker, "subscribe", "{'topic':'t','private':true}", READY);
	ck_assert(rig.links[1].is_open);
	ask(taker, "unsubscribe", "{'all':true}", "*");
	stall_run(LINK_IDLE_MS + 3000);
	ck_assert_uint_eq(n_open(), 0);
	peer_skip(taker, "");
	ask(taker, "subscribe", "{'topic':'t','private':true}", "*");
	ck_assert_uint_eq(n_open(), 1);
}
END_TEST

/* Only trials are left: their connection has its own time. */
START_TEST(with_the_trials_link)
{
	peer_ask(taker, 600, "subscribe", "{'topic':'no','private':true}");
	stall_answer(taker, 600, 15000);
	peer_ask(taker, 601, "subscribe", "{'topic':'no2','private':true}");
	stall_answer(taker, 601, 15000);
	ck_assert_uint_eq(n_open(), 2);
	stall_run(PROBATION_IDLE_MS);
	ck_assert_uint_eq(n_open(), 1);
	stall_run(LINK_IDLE_MS);
	ck_assert_uint_eq(n_open(), 0);
}
END_TEST

/* A token is to be tried, and the connection for that does not come: in its place, then. */
START_TEST(token_tried_while_idle)
{
	char params[4000];

	give(taker, 1000, token_of_user("alice", 1), "[1,1000,null,{'state':'unproven',*}]");
	ask(taker, "subscribe", "{'topic':'t'}", READY);
	ask(taker, "unsubscribe", "{'all':true}", "null,{}]");
	stall_run(2 * LINK_IDLE_MS);
	ck_assert(!rig.links[0].is_open);
	stall.silent[1] = true;
	snprintf(params, sizeof(params), "{'token':'%s','timeout_ms':60000}",
		 token_of_user("alice", 2));
	peer_ask(other, 1000, "auth", params);
	ck_assert_uint_le(stall_answer(other, 1000, 40000), PROBATION_LINK_MS + 6000);
	expect_answer(other, 1000, "null,{'state':'accepted',*}]");
	stall_run(2 * LINK_IDLE_MS);
	ck_assert_uint_eq(n_open(), 0);
}
END_TEST

START_TEST(ends_while_idle)
{
	until_idle();
	hub_drain(rig.hub, 1000);
	stall_run(2000);
	peer_close(taker);
	peer_close(other);
	peer_close(owner);
	stall_run(5000);
	ck_assert(rig.drained);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_shares");
	TCase *t = tcase_create("shares");

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, by_trackers);
	tcase_add_test(t, by_channels);
	tcase_add_test(t, by_twins_and_identities);
	tcase_add_test(t, owner_has_no_share);
	tcase_add_test(t, why_a_link_is_there);
	suite_add_tcase(s, t);
	t = tcase_create("three links");
	tcase_add_checked_fixture(t, begin_three, end);
	tcase_add_test(t, half_of_two);
	suite_add_tcase(s, t);
	t = tcase_create("idle");
	tcase_add_checked_fixture(t, begin_idle, end);
	tcase_add_test(t, closed_and_opened_again);
	tcase_add_test(t, broadcast_while_idle);
	tcase_add_test(t, track_while_idle);
	tcase_add_test(t, changes_while_idle);
	tcase_add_test(t, sync_while_idle);
	tcase_add_test(t, sync_while_it_closes);
	tcase_add_test(t, wanted_while_it_closes);
	tcase_add_test(t, wanted_around_its_end);
	tcase_add_test(t, trouble_is_shown);
	tcase_add_test(t, further_link);
	tcase_add_test(t, with_the_trials_link);
	tcase_add_test(t, token_tried_while_idle);
	tcase_add_test(t, ends_while_idle);
	suite_add_tcase(s, t);
	return suite_run(s);
}
