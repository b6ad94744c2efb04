/* SPDX-License-Identifier: MIT */
/* Stories about refusals that concern more than the join that met them: what waits, how often it is
 * tested again, what clients are told, and that all is joined when it is over. */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 5, TOPICS_EACH = 10, ALL = USERS * TOPICS_EACH };

static const char disabled[] = "RealtimeDisabledForTenant: Realtime disabled for this tenant";
static const char restarting[] = "RealtimeRestarting: Realtime is restarting, please standby";
static const char unreachable[] = "UnableToConnectToProject: Realtime was unable to connect to "
				  "the project database";
static const char join_rate[] = "ClientJoinRateLimitReached: Too many joins per second";
static const char private_only[] = "PrivateOnly: This project only allows private channels";
static const char too_many[] = "ConnectionRateLimitReached: Too many connected users";
static const char bad_key[] = "JwtSignatureError: Failed to validate JWT signature";
static const char no_right[] = "Unauthorized: You do not have permissions to read from this topic";

static struct fake_peer *users[USERS];
static const char *all_get, *public_get;

static const char *judge(const struct line *f)
{
	if (stall_is(f, "no"))
		return no_right;
	if (public_get && !strstr(f->text, "\"private\":true"))
		return public_get;
	return all_get;
}

static void two_links(struct hub_conf *conf)
{
	conf->max_links = 2;
}

static void begin_with(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	server_open();
	all_get = public_get = NULL;
	stall_start(judge);
	for (unsigned i = 0; i < USERS; i++) {
		rig.uid = 2000 + i;
		users[i] = peer_ready();
	}
}

static void begin(void)
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

	snprintf(params, sizeof(params), "{'topic':'%s'%s}", topic, more);
	peer_ask(p, id, "subscribe", params);
}

/* Each user wants its topics, and goes on wanting them. */
static void ask_all(void)
{
	char topic[20];

	for (unsigned n = 0; n < ALL; n++) {
		snprintf(topic, sizeof(topic), "t%u", n);
		ask(users[n % USERS], 1 + n / USERS, topic, ",'keep':true,'timeout_ms':1000");
	}
}

static unsigned n_joins(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LINKS_MAX; i++)
		n += stall.links[i].n_joins;
	return n;
}

static unsigned n_joined(void)
{
	struct join *j;
	unsigned n = 0;

	RB_FOREACH(j, join_id_tree, &rig.hub->joins)
		n += j->state == JOIN_JOINED;
	return n;
}

/* Until all that were out are answered. */
static void until_quiet(void)
{
	do
		stall_run(100);
	while (stall_outstanding(0));
}

static unsigned joins_within(uint64_t ms)
{
	unsigned n = n_joins();

	stall_run(ms);
	return n_joins() - n;
}

/* ---- all of the project ---- */

START_TEST(project)
{
	all_get = disabled;
	ask_all();
	stall_run(5500);
	ck_assert_uint_le(n_joins(), JOINS_UNANSWERED_MAX);
	/* 5 min and an eighth at most: nothing is sent, whatever those that were out are told. */
	ck_assert_uint_eq(joins_within(290000), 0);
	ck_assert_uint_eq(joins_within(60000), 1);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_le(joins_within(300000), 1);
	all_get = NULL;
	stall_run(400000);
	ck_assert_uint_eq(n_joined(), ALL);
}
END_TEST

/* A second, doubled with each test, whatever those say that were out already. */
START_TEST(outage)
{
	all_get = restarting;
	ask_all();
	until_quiet();
	ck_assert_uint_le(n_joins(), JOINS_UNANSWERED_MAX + 8);
	ck_assert_uint_ge(joins_within(60000), 3);
	ck_assert_uint_le(stall_outstanding(0), 1);
	all_get = NULL;
	stall_run(120000);
	ck_assert_uint_eq(n_joined(), ALL);
}
END_TEST

/* One at a time tests, however many were out at first. */
START_TEST(one_tests)
{
	all_get = unreachable;
	ask_all();
	until_quiet();
	for (unsigned i = 0; i < 600; i++) {
		stall_run(1000);
		ck_assert_uint_le(stall_outstanding(0), 1);
	}
	ck_assert_uint_le(n_joins(), JOINS_UNANSWERED_MAX + 12);
	all_get = NULL;
	stall_run(400000);
	ck_assert_uint_eq(n_joined(), ALL);
}
END_TEST

static const char *first_is_refused(const struct line *f)
{
	return stall_is(f, "first") ? join_rate : NULL;
}

/* Others of the same second still get through: that does not end the pause. */
START_TEST(join_rate_and_late_successes)
{
	stall.judge = first_is_refused;
	ask(users[0], 1, "first", ",'keep':true,'timeout_ms':1000");
	ask(users[1], 1, "second", "");
	stall_run(5500);
	ck_assert_uint_eq(n_joined(), 1);
	ask(users[2], 1, "third", ",'keep':true,'timeout_ms':1000");
	ck_assert_uint_eq(joins_within(54000), 0);
	stall.judge = judge;
	stall_run(30000);
	ck_assert_uint_eq(n_joined(), 3);
}
END_TEST

/* The server closes the connection over it: on the next one nothing is joined before its time. */
START_TEST(join_rate_and_close)
{
	all_get = NULL;
	ask_all();
	stall_run(20000);
	ck_assert_uint_eq(n_joined(), ALL);
	all_get = join_rate;
	ask(users[0], 100, "new", ",'keep':true,'timeout_ms':1000");
	stall_run(5001);
	server_drop(SESSION_FAULT_RESTART, "1001");
	all_get = NULL;
	ck_assert_uint_eq(joins_within(55000), 0);
	ck_assert(rig.links[0].is_open);
	stall_run(40000);
	ck_assert_uint_eq(n_joined(), ALL + 1);
}
END_TEST

START_TEST(connection_lost_while_parked)
{
	all_get = disabled;
	ask_all();
	stall_run(6000);
	server_drop(SESSION_FAULT_LOST, "lost");
	ck_assert_uint_eq(joins_within(280000), 0);
	all_get = NULL;
	stall_run(120000);
	ck_assert_uint_eq(n_joined(), ALL);
}
END_TEST

/* The one that tests is called off, its client goes, its connection ends: another one tests. */
START_TEST(the_test_vanishes)
{
	unsigned before;

	all_get = unreachable;
	ask_all();
	until_quiet();
	before = n_joins();
	while (n_joins() == before)
		stall_run(100);
	server_drop(SESSION_FAULT_LOST, "lost");
	all_get = NULL;
	stall_run(60000);
	ck_assert_uint_eq(n_joined(), ALL);
}
END_TEST

START_TEST(those_who_test_leave)
{
	all_get = unreachable;
	ask_all();
	until_quiet();
	stall_run(600000);
	for (unsigned i = 1; i < USERS; i++)
		peer_close(users[i]);
	stall_run(100);
	all_get = NULL;
	stall_run(400000);
	ck_assert_uint_eq(n_joined(), TOPICS_EACH);
}
END_TEST

/* ---- what clients are told ---- */

START_TEST(told_why)
{
	all_get = disabled;
	ask(users[0], 1, "a", "");
	ask(users[1], 1, "b", ",'timeout_ms':60000");
	stall_run(15000);
	expect(users[0], "[1,1,[102,'join_failed','RealtimeDisabled*',*],null]");
	stall_run(45000);
	expect(users[1], "[1,1,[102,'join_failed','RealtimeDisabled*',*],null]");
	/* Nor is it asked anew for who comes now. */
	ask(users[2], 1, "c", "");
	ck_assert_uint_eq(joins_within(15000), 0);
	expect(users[2], "[1,1,[10*,*,'RealtimeDisabled*',*],null]");
}
END_TEST

START_TEST(refused_here)
{
	unsigned n;

	public_get = private_only;
	ask(users[0], 1, "a", "");
	stall_run(5001);
	expect(users[0], "[1,1,[300,'rejected','PrivateOnly*',null],null]");
	n = n_joins();
	for (unsigned i = 1; i < USERS; i++) {
		ask(users[i], 1, "b", "");
		turn();
		expect(users[i], "[1,1,[300,'rejected','PrivateOnly*',null],null]");
		ask(users[i], 2, "c", ",'private':true");
		stall_run(100);
		expect(users[i], "[1,2,null,{*'ready'}]");
	}
	ck_assert_uint_eq(n_joins(), n + 1);
	/* One tests again after a minute. */
	stall_run(70000);
	for (unsigned i = 0; i < USERS; i++)
		ask(users[i], 3, "d", "");
	stall_run(5100);
	ck_assert_uint_eq(n_joins(), n + 2);
}
END_TEST

START_TEST(own_token_refused)
{
	unsigned n;

	all_get = bad_key;
	ask(users[0], 1, "a", "");
	stall_run(5001);
	expect(users[0], "[1,1,[300,'rejected','JwtSignature*',null],null]");
	n = n_joins();
	ask(users[1], 1, "b", ",'private':true");
	expect(users[1], "[1,1,[300,'rejected','JwtSignature*',null],null]");
	peer_ask(users[1], 2, "broadcast", "{'topic':'c','event':'e','payload':1}");
	expect(users[1], "[1,2,null,{'outcome':'not_joined',*'JwtSignature*'}]");
	ck_assert_uint_eq(n_joins(), n);
	/* Who has a token of its own is not concerned. */
	all_get = NULL;
	give(users[2], 1, token_of_user("alice", 1), "[1,1,null,{'state':'unproven',*}]");
	ask(users[2], 2, "d", "");
	stall_run(100);
	expect(users[2], "[1,2,null,{*'ready'}]");
	/* On the next connection one tests at once. */
	server_drop(SESSION_FAULT_LOST, "lost");
	stall_run(3000);
	peer_skip(users[3], "");
	ask(users[3], 1, "e", "");
	stall_run(100);
	expect(users[3], "[1,1,null,{*'ready'}]");
}
END_TEST

/* All who come while one tests again have its answer, not the old words. */
START_TEST(recovered_for_all)
{
	public_get = private_only;
	ask(users[0], 1, "a", "");
	stall_run(75000);
	public_get = NULL;
	for (unsigned i = 0; i < USERS; i++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "new%u", i);
		ask(users[i], 2, topic, "");
	}
	stall_run(1000);
	for (unsigned i = 0; i < USERS; i++) {
		peer_skip(users[i], "");
		ck_assert_msg(!users[i]->asked[2], "%u", i);
	}
	ck_assert_uint_eq(n_joined(), USERS);
}
END_TEST

/* Words that came from no server do not grow: the pause of the negative memory is of its own
 * refusals. */
START_TEST(memory_of_refusals_here)
{
	public_get = private_only;
	ask(users[0], 1, "a", "");
	stall_run(5001);
	for (uint32_t id = 2; id < 6; id++) {
		ask(users[1], id, "b", "");
		stall_run(11000);
	}
	peer_skip(users[1], "");
	public_get = NULL;
	stall_run(30000);
	ask(users[2], 1, "c", "");
	stall_run(100);
	expect(users[2], "[1,1,null,{*'ready'}]");
	ask(users[1], 9, "b", "");
	stall_run(100);
	expect(users[1], "[1,9,null,{*'ready'}]");
}
END_TEST

/* ---- one connection ---- */

static const char *further_link_is_full(const struct line *f)
{
	return f->link == 1 ? too_many : NULL;
}

START_TEST(too_many_connections)
{
	stall.judge = further_link_is_full;
	ask(users[0], 1, "t", "");
	ask(users[1], 1, "t", ",'private':true,'keep':true,'timeout_ms':1000");
	ask(users[2], 1, "u", "");
	stall_run(5500);
	expect(users[0], "[1,1,null,{*'ready'}]");
	expect(users[2], "[1,1,null,{*'ready'}]");
	ask(users[3], 1, "v", "");
	stall_run(100);
	expect(users[3], "[1,1,null,{*'ready'}]");
	stall.links[1].n_joins = 0;
	stall_run(54000);
	ck_assert_uint_eq(stall.links[1].n_joins, 0);
	stall.judge = judge;
	stall_run(20000);
	ck_assert_uint_eq(stall.links[1].n_joins, 1);
	ck_assert_uint_eq(n_joined(), 4);
}
END_TEST

/* The one that tests meets another word: what it was to test is over. */
START_TEST(test_meets_another_word)
{
	all_get = unreachable;
	ask(users[0], 1, "no-right", ",'timeout_ms':300000");
	stall_run(5001);
	ask(users[1], 1, "a", ",'timeout_ms':300000");
	all_get = NULL;
	stall_run(20000);
	expect(users[1], "[1,1,null,{*'ready'}]");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_parks");
	TCase *t = tcase_create("parks");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, project);
	tcase_add_test(t, outage);
	tcase_add_test(t, one_tests);
	tcase_add_test(t, join_rate_and_late_successes);
	tcase_add_test(t, join_rate_and_close);
	tcase_add_test(t, connection_lost_while_parked);
	tcase_add_test(t, the_test_vanishes);
	tcase_add_test(t, those_who_test_leave);
	tcase_add_test(t, told_why);
	tcase_add_test(t, refused_here);
	tcase_add_test(t, own_token_refused);
	tcase_add_test(t, recovered_for_all);
	tcase_add_test(t, memory_of_refusals_here);
	tcase_add_test(t, too_many_connections);
	tcase_add_test(t, test_meets_another_word);
	suite_add_tcase(s, t);
	return suite_run(s);
}
