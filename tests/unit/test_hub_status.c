/* SPDX-License-Identifier: MIT */
/* Stories about `status`: what it says of joins that wait, of identities, and what asking for it
 * again and again costs. */
#include "hub_stall.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

enum { MANY = 30 };

static struct fake_peer *a, *b;
static struct acl *rules;

static const char *judge(const struct line *f)
{
	if (stall_is(f, "busy"))
		return "QueryCanceled: Query was cancelled";
	if (stall_is(f, "no"))
		return "Unauthorized: You do not have permissions to read from this topic";
	return NULL;
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

static void begin(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	server_open();
	stall_start(judge);
	a = peer_of(2000);
	b = peer_of(2001);
}

static void end(void)
{
	stall_done();
	rig_teardown();
	rules = acl_free(rules);
}

static void ask(struct fake_peer *p, uint32_t id, const char *topic, const char *more)
{
	char params[200];

	snprintf(params, sizeof(params), "{'topic':'%s','private':true%s}", topic, more);
	peer_ask(p, id, "subscribe", params);
}

/* ---- joins that wait ---- */

START_TEST(when_it_is_tried_again)
{
	const char *got;

	begin(with_links);
	ask(a, 1, "busy", ",'keep':true,'timeout_ms':5500");
	stall_run(5600);
	expect(a, "[1,1,null,{*'joining'}]");
	peer_ask(a, 2, "channels", "{}");
	got = expect(a,
		     "[1,2,null,{'channels':[{'chan':1,'topic':'busy',*'state':'joining',*'code':'"
		     "database_query','text':'QueryCanceled*','retry_in_ms':*}]}]");
	ck_assert_uint_gt(strtoul(strstr(got, "retry_in_ms\":") + 13, NULL, 10), 500);
	/* Not any more when it is out, nor when it is there. */
	for (unsigned i = 0; i < 300 && !stall_outstanding(0) && !stall_outstanding(1); i++)
		stall_run(100);
	peer_skip(a, "");
	peer_ask(a, 3, "channels", "{}");
	got = expect(a, "[1,3,*");
	ck_assert_ptr_null(strstr(got, "retry_in_ms"));
	ask(b, 1, "good", "");
	stall_run(20000);
	peer_skip(b, "");
	peer_ask(b, 2, "status", "{}");
	expect(b, "[1,2,null,{*'topic':'good',*'state':'ready',*'shown':0}*");
}
END_TEST

START_TEST(tried_apart)
{
	begin(with_links);
	ask(a, 1, "no1", "");
	stall_run(5100);
	expect(a, "[1,1,[300,*");
	ask(a, 2, "no2", "");
	ask(a, 3, "later", "");
	stall_run(1000);
	peer_ask(a, 4, "channels", "{}");
	expect(a, "[1,4,null,{'channels':[{*'topic':'no2',*'state':'joining',*'code':'probation','"
		  "text':*}"
		  ",{*'topic':'later',*'state':'joining',*'code':'probation','text':*}]}]");
	stall_run(10000);
	expect(a, "[1,2,[300,*");
	expect(a, "[1,3,null,{*'ready'}]");
}
END_TEST

START_TEST(not_before)
{
	const char *got;

	begin(one_link);
	ask(a, 1, "busy", ",'keep':true,'timeout_ms':5500");
	stall_run(5600);
	expect(a, "[1,1,null,{*'joining'}]");
	ask(a, 2, "no1", "");
	stall_run(30000);
	peer_skip(a, "");
	peer_ask(a, 3, "channels", "{}");
	got = expect(
		a,
		"[1,3,null,{'channels':[{*'topic':'busy',*'state':'joining',*'code':'join_budget',"
		"'text':'2 joins of this user have failed within 5 minutes, and each makes all "
		"others wait ([limits] links = 1)','retry_in_ms':*}]}]");
	ck_assert_uint_gt(strtoul(strstr(got, "retry_in_ms\":") + 13, NULL, 10), 200000);
}
END_TEST

/* ---- identities ---- */

static void with_rules(struct hub_conf *conf)
{
	with_links(conf);
	rules = rules_of("allow user 2000 read,write,presence topic *\nallow user 2001 read topic "
			 "*\nown user 2000\n");
	conf->acl = rules;
}

/* Who cannot use the daemon's identity has nothing to do with its channels. */
START_TEST(not_its_identity)
{
	struct fake_peer *owner;

	begin(with_rules);
	owner = peer_of(1000);
	peer_ask(owner, 1, "subscribe", "{'topic':'open'}");
	stall_run(10);
	peer_ask(a, 1, "channels", "{}");
	expect(a, "[1,1,null,{'channels':[]}]");
	peer_ask(a, 2, "status", "{}");
	expect(a, "[1,2,null,{*'channels':[],*");
	peer_ask(b, 1, "channels", "{}");
	expect(b, "[1,1,null,{'channels':[{*'topic':'open',*}]}]");
	give(a, 3, token_of_user("alice", 1), UNPROVEN("3"));
	peer_ask(a, 4, "subscribe", "{'topic':'open'}");
	stall_run(10);
	peer_skip(a, "");
	peer_ask(a, 5, "channels", "{}");
	expect(a, "[1,5,null,{'channels':[{*'topic':'open',*'identity':1,*}]}]");
	peer_ask(owner, 2, "channels", "{}");
	ck_assert_uint_eq(peer_skip(owner, "\"identity\":0"), 1);
	/* What it only tracks in. */
	peer_ask(a, 6, "unsubscribe", "{'all':true}");
	peer_ask(a, 7, "track", "{'topic':'seen','state':{}}");
	stall_run(5000);
	peer_skip(a, "");
	peer_ask(a, 8, "channels", "{}");
	expect(a, "[1,8,null,{'channels':[{*'topic':'seen',*'identity':1,*'trackers':1,*}]}]");
}
END_TEST

/* Each of many clients gave two of three tokens, each for two topics. */
START_TEST(many_clients)
{
	static const char *const topics[] = { "r", "s", "t", "u" };
	struct fake_peer *owner, *p = NULL;
	const char *tokens[3];

	begin(with_links);
	tokens[0] = token_of_user("u0", 1);
	tokens[1] = token_of_user("u1", 1);
	tokens[2] = token_of_user("u2", 1);
	rig.uid = 1000;
	owner = peer_ready();
	for (unsigned i = 0; i < MANY; i++) {
		p = peer_of(2002 + i % 2);
		for (unsigned k = 0; k < 4; k++)
			give_for(p, k, topics[k], tokens[(i + k % 2) % 3], NULL);
		peer_ask(p, 9, "subscribe", "{'topic':'r'}");
	}
	stall_run(10);
	peer_ask(owner, 1, "status", "{}");
	expect(owner, "[1,1,null,{*'identities':["
		      "{'identity':1,*'clients':20,'channels':1},"
		      "{'identity':2,*'clients':20,'channels':1},"
		      "{'identity':3,*'clients':20,'channels':1}],*");
	peer_close(p);
	peer_ask(owner, 2, "status", "{}");
	expect(owner, "[1,2,null,{*'identity':1,*'clients':19,*'identity':2,*'clients':20,*"
		      "'identity':3,*'clients':19,*");
	give_for(owner, 3, "alone", tokens[1], NULL);
	peer_ask(owner, 4, "subscribe", "{'topic':'alone'}");
	stall_run(10);
	peer_skip(owner, "");
	peer_ask(owner, 5, "status", "{}");
	expect(owner, "[1,5,null,{*'identity':2,*'clients':21,'channels':2}*");
	peer_ask(owner, 6, "unsubscribe", "{'all':true}");
	stall_run(5000);
	peer_skip(owner, "");
	peer_ask(owner, 7, "status", "{}");
	expect(owner, "[1,7,null,{*'identity':2,*'clients':21,'channels':1}*");
}
END_TEST

static void with_rights_to_send(struct hub_conf *conf)
{
	rules = rules_of("allow user 2000 write topic no*\nallow user 2001 read topic yes\n");
	conf->acl = rules;
}

/* Who only sends sees why its message waits, though it may not read the topic. */
START_TEST(of_who_only_sends)
{
	begin(with_rights_to_send);
	give(a, 5, token_of_user("alice", 1), UNPROVEN("5"));
	server_drop(SESSION_FAULT_LOST, "gone");
	peer_skip(a, "");
	peer_skip(b, "");
	peer_ask(a, 1, "broadcast",
		 "{'topic':'no1','event':'e','payload':1,'ttl_ms':60000,'private':true}");
	peer_ask(a, 2, "channels", "{}");
	expect(a, "[1,2,null,{'channels':[{'chan':1,'topic':'no1',*");
	peer_ask(b, 1, "channels", "{}");
	expect(b, "[1,1,null,{'channels':[]}]");
}
END_TEST

/* ---- again and again ---- */

/* A few bytes ask for what costs much: what others want comes in between. */
START_TEST(one_in_a_turn)
{
	struct fake_peer *more;

	begin(one_link);
	more = peer_of(2000);
	rig.no_turns = true;
	peer_call(a, "status", "{}"); /* no answer is wanted: it costs nothing */
	peer_ask(a, 1, "status", "{}");
	expect(a, "[1,1,null,{'server':*");
	ck_assert(!a->paused);
	/* In the same turn: of this client, and of others of its user. */
	peer_ask(a, 2, "channels", "{}");
	expect_nothing(a);
	ck_assert(a->paused);
	peer_ask(more, 1, "clients", "{}");
	expect_nothing(more);
	ck_assert(more->paused);
	peer_ask(b, 1, "clients", "{}");
	expect(b, "[1,1,null,{'clients':*");
	ck_assert(!b->paused);
	/* One after the other, though the loop comes back so late that all are due. */
	rig.no_turns = false;
	turn();
	rig.no_turns = true;
	rig.now += 100;
	hub_tick(rig.hub);
	expect(a, "[1,2,null,{'channels':*");
	ck_assert(!a->paused);
	expect_nothing(more);
	ck_assert(more->paused);
	rig.no_turns = false;
	turn();
	advance(REPORT_PAUSE_MS);
	expect(more, "[1,1,null,{'clients':*");
	ck_assert(!more->paused);
	/* In the next turns at once. */
	peer_ask(a, 3, "status", "{}");
	expect(a, "[1,3,null,{'server':*");
	peer_ask(a, 4, "status", "{}");
	expect(a, "[1,4,null,{'server':*");
	ck_assert(!a->paused);
}
END_TEST

/* It goes away, or is ended, while its request waits. */
START_TEST(gone_while_it_waits)
{
	struct fake_peer *more;

	begin(one_link);
	more = peer_of(2000);
	rig.no_turns = true;
	peer_ask(a, 1, "status", "{}");
	expect(a, "[1,1,*");
	peer_ask(a, 2, "status", "{}");
	peer_ask(more, 2, "status", "{}");
	ck_assert(a->paused && more->paused);
	rig.no_turns = false;
	peer_close(a);
	peer_end(more->peer, RTBP_E_SHUTDOWN, NULL, false);
	advance(3 * REPORT_PAUSE_MS);
	expect_nothing(more);
	expect_farewell(more, "shutdown", false);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_status");
	TCase *t = tcase_create("status");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, when_it_is_tried_again);
	tcase_add_test(t, tried_apart);
	tcase_add_test(t, not_before);
	tcase_add_test(t, not_its_identity);
	tcase_add_test(t, many_clients);
	tcase_add_test(t, of_who_only_sends);
	tcase_add_test(t, one_in_a_turn);
	tcase_add_test(t, gone_while_it_waits);
	suite_add_tcase(s, t);
	return suite_run(s);
}
