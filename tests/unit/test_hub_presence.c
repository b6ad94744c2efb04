/* SPDX-License-Identifier: MIT */
/* Stories about watching: who is there, from the server's words to what each watcher is told. */
#include "hub_presence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry as the server says it, and as a watcher sees it. */
#define AT(key, ref, n)   "'" key "':{'metas':[{'phx_ref':'" ref "','n':" n "}]}"
#define SEEN(key, ref, n) "{'key':'" key "','ref':'" ref "','state':{'n':" n "}}"
#define NEW(key, ref, prev, n) \
	"'" key "':{'metas':[{'phx_ref':'" ref "','phx_ref_prev':'" prev "','n':" n "}]}"
#define ANSWER(id, state, presence, snapshot)                                  \
	"[1," id ",null,{'chan':1,'topic':'t','private':false,'state':'" state \
	"','presence':{'state':'" presence "','snapshot':[" snapshot "]}}]"
#define TOLD(changes) "[2,'presence',{'chan':1,'topic':'t'," changes "}]"
#define CHANNEL(state, presence)                                             \
	"[2,'channel',{'chan':1,'topic':'t','private':false,'state':'" state \
	"','presence':'" presence "'}]"

START_TEST(snapshot_in_the_answer)
{
	struct fake_peer *a = peer_ready();
	struct line join, probe;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	join = server_join_watched("t", &probe);
	expect_nothing(a);
	/* What comes before the state waits for it. */
	server_diff("t", "{" AT("bob", "2", "2") "}", "{}");
	expect_nothing(a);
	server_state(&join, "{" AT("alice", "1", "1") "}");
	expect(a, "[1,1,null,{*'state':'ready','presence':{'state':'ok','snapshot':[*]}}]");
	ck_assert(text_matches("*" SEEN("alice", "1", "1") "*", a->got.at[1].text));
	ck_assert(text_matches("*" SEEN("bob", "2", "2") "*", a->got.at[1].text));
	server_reply(&probe, false, "{}");
	expect_nothing(a);
	server_diff("t", "{" AT("carol", "3", "3") "}", "{}");
	expect(a, TOLD("'join':[" SEEN("carol", "3", "3") "]"));
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

START_TEST(answered_when_joined)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line join;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{},'wait':'joined'}");
	peer_ask(b, 1, "subscribe",
		 "{'topic':'t','presence':{'events':['join','leave','update']},'wait':'joined'}");
	join = server_join_watched("t", NULL);
	expect(a, ANSWER("1", "joined", "pending", ""));
	expect(b, ANSWER("1", "joined", "pending", ""));
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	expect(b, "[2,'broadcast',*");
	peer_ask(a, 2, "presence", "{'chan':1}");
	expect(a, "[1,2,null,{'state':'pending','snapshot':[]}]");
	server_state(&join, "{" AT("alice", "1", "1") "}");
	expect(a, TOLD("'sync':[" SEEN("alice", "1", "1") "]"));
	expect(a, CHANNEL("ready", "ok"));
	expect(b, CHANNEL("ready", "ok"));
	peer_ask(b, 2, "presence", "{'topic':'t'}");
	expect(b, "[1,2,null,{'state':'ok','snapshot':[" SEEN("alice", "1", "1") "]}]");
	server_diff("t", "{}", "{" AT("alice", "1", "1") "}");
	expect(a, TOLD("'leave':[" SEEN("alice", "1", "1") "]"));
	expect(b, TOLD("'leave':[" SEEN("alice", "1", "1") "]"));
}
END_TEST

START_TEST(timeouts)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready();
	struct line join;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{},'timeout_ms':100}");
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{},'timeout_ms':100,'keep':true}");
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{},'timeout_ms':200}");
	advance(100);
	expect(a, "[1,1,[101,'timeout',*],null]");
	expect(b, ANSWER("1", "joining", "pending", ""));
	join = server_join_watched("t", NULL);
	expect(b, CHANNEL("joined", "pending"));
	/* What is joined is kept. */
	expect_nothing(c);
	advance(100);
	expect(c, ANSWER("1", "joined", "pending", ""));
	server_state(&join, "{}");
	expect_nothing(a);
	expect(b, TOLD("'sync':[]"));
	expect(b, CHANNEL("ready", "ok"));
	expect(c, TOLD("'sync':[]"));
	expect(c, CHANNEL("ready", "ok"));
}
END_TEST

START_TEST(late_subscriber)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready();

	peer_watch(a, "t", "{" AT("alice", "1", "1") "}");
	server_diff("t", "{" NEW("alice", "2", "1", "5") "}", "{" AT("alice", "1", "1") "}");
	expect(a, TOLD("'update':[{'key':'alice','prev':'1','ref':'2','state':{'n':5}}]"));
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{},'timeout_ms':0}");
	expect(b, ANSWER("1", "ready", "ok", SEEN("alice", "2", "5")));
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{},'wait':'joined'}");
	expect(c, ANSWER("1", "ready", "ok", SEEN("alice", "2", "5")));
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

/* One message that says all three: leaves first, then joins, then updates. */
static const char all_joins[] = "{" AT("dora", "4", "4") "," NEW("bob", "5", "2", "5") "}";
static const char all_leaves[] = "{" AT("bob", "2", "2") "," AT("alice", "1", "1") "}";
#define ALL_START  "{" AT("alice", "1", "1") "," AT("bob", "2", "2") "," AT("carol", "3", "3") "}"
#define ALL_LEAVE  "'leave':[" SEEN("alice", "1", "1") "]"
#define ALL_JOIN   "'join':[" SEEN("dora", "4", "4") "]"
#define ALL_UPDATE "'update':[{'key':'bob','prev':'2','ref':'5','state':{'n':5}}]"

START_TEST(filters)
{
	static const struct {
		const char *events, *told;
	} cases[] = {
		{ "null", TOLD(ALL_LEAVE "," ALL_JOIN "," ALL_UPDATE) },
		{ "['sync','update','leave','join']", TOLD(ALL_LEAVE "," ALL_JOIN "," ALL_UPDATE) },
		{ "['join']", TOLD(ALL_JOIN) },
		{ "['leave']", TOLD(ALL_LEAVE) },
		{ "['update','update']", TOLD(ALL_UPDATE) },
		{ "['update','leave']", TOLD(ALL_LEAVE "," ALL_UPDATE) },
		{ "['sync']", NULL },
		{ "[]", NULL },
	};
	enum { N = sizeof(cases) / sizeof(*cases) };
	struct fake_peer *first = peer_ready(), *p[N];
	char params[200];

	peer_watch(first, "t", ALL_START);
	for (unsigned i = 0; i < N; i++) {
		p[i] = peer_ready();
		snprintf(params, sizeof(params), "{'topic':'t','presence':{'events':%s}}",
			 cases[i].events);
		peer_ask(p[i], 1, "subscribe", params);
		expect(p[i], "[1,1,null,{*'presence':{'state':'ok','snapshot':[*'key'*'key'*");
	}
	server_diff("t", all_joins, all_leaves);
	for (unsigned i = 0; i < N; i++) {
		if (cases[i].told)
			expect(p[i], cases[i].told);
		expect_nothing(p[i]);
	}
	/* An empty diff says nothing to anybody. */
	expect(first, TOLD("*"));
	server_diff("t", "{}", "{}");
	expect_nothing(first);
}
END_TEST

START_TEST(bad_wishes)
{
	static const struct {
		const char *presence, *error;
	} cases[] = {
		{ "[]", "bad_request" },
		{ "true", "bad_request" },
		{ "{'events':'join'}", "bad_request" },
		{ "{'events':['joined']}", "bad_request" },
		{ "{'events':[1]}", "bad_request" },
		{ "{'key':''}", "bad_key" },
		{ "{'key':7}", "bad_key" },
		{ "{'key':'rtbridge:x'}", "bad_key" },
		{ "{'key':'a\\u0000b'}", "bad_key" },
	};
	struct fake_peer *a = peer_ready();
	char params[200], pattern[100];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(params, sizeof(params), "{'topic':'t','presence':%s}", cases[i].presence);
		peer_ask(a, i + 1, "subscribe", params);
		snprintf(pattern, sizeof(pattern), "[1,%u,[*,'%s',*],null]", i + 1, cases[i].error);
		expect(a, pattern);
	}
	/* nil is as if absent. */
	peer_ask(a, 100, "subscribe", "{'topic':'t','presence':null}");
	expect_frame("*'presence':{'enabled':false,*");
	expect_no_frame();
}
END_TEST

START_TEST(denied)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line join, probe;
	bool ok = _i;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	join = server_join_watched("t", &probe);
	server_reply(&probe, ok, "{}");
	expect(a, ANSWER("1", "ready", "denied", ""));
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	expect(b, ANSWER("1", "ready", "denied", ""));
	peer_ask(b, 2, "presence", "{'chan':1}");
	expect(b, "[1,2,null,{'state':'denied','snapshot':[]}]");
	/* Should it come after all, it counts. */
	server_state(&join, "{" AT("alice", "1", "1") "}");
	expect(a, TOLD("'sync':[" SEEN("alice", "1", "1") "]"));
	expect(a, CHANNEL("ready", "ok"));
	expect_no_frame();
}
END_TEST

START_TEST(probe_unanswered)
{
	struct fake_peer *a = peer_ready();
	struct line probe;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	server_join_watched("t", &probe);
	advance(ROOM_PROBE_MS - 1);
	expect_no_frame();
	advance(1);
	expect_nothing(a);
	/* Silence proves nothing: asked again. A late answer to the first one counts no more. */
	expect_frame("[*,*,'realtime:t','presence',{}]");
	server_reply(&probe, true, "{}");
	expect_nothing(a);
	advance(15000 - ROOM_PROBE_MS);
	expect(a, ANSWER("1", "joined", "pending", ""));
	advance(2 * ROOM_PROBE_MS - 15000);
	server_reply(expect_frame("[*,*,'realtime:t','presence',{}]"), true, "{}");
	expect(a, CHANNEL("ready", "denied"));
	advance(60000);
	expect_no_frame();
}
END_TEST

/* The link's mailbox is full: the probe follows. */
START_TEST(probe_waits_for_room)
{
	struct fake_peer *a = peer_ready();
	struct line join;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	join = *expect_frame("*'phx_join'*");
	rig.send_result = 1;
	server_reply(&join, true, "{}");
	expect_no_frame();
	advance(100);
	rig.send_result = 0;
	advance(LINK_BUSY_RETRY_MS);
	server_reply(expect_frame("[*,*,'realtime:t','presence',{}]"), true, "{}");
	expect(a, ANSWER("1", "ready", "denied", ""));
}
END_TEST

static void little_presence(struct hub_conf *conf)
{
	conf->presence_bytes = 600;
}

START_TEST(overflow)
{
	struct fake_peer *a, *b;
	struct line join;
	char text[1200], many[800] = "";

	rig_start(little_presence);
	server_open();
	a = peer_ready();
	b = peer_ready();
	join = peer_watch(a, "t", "{" AT("alice", "1", "1") "}");
	for (unsigned i = 0; i < 20; i++)
		snprintf(many + strlen(many), sizeof(many) - strlen(many),
			 "%s'k%u':{'metas':[{'phx_ref':'x%u'}]}", i ? "," : "", i, i);
	snprintf(text, sizeof(text), "{%s}", many);
	server_diff("t", text, "{}");
	expect(a, TOLD("'sync':[]"));
	expect(a, CHANNEL("ready", "overflow"));
	server_diff("t", "{" AT("bob", "2", "2") "}", "{}");
	server_state(&join, "{" AT("bob", "2", "2") "}");
	expect_nothing(a);
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	expect(b, ANSWER("1", "ready", "overflow", ""));
	/* With the next join it is tried again. */
	server_close(&join, NULL);
	expect(a, "[2,'channel',{*'rejoining','presence':'overflow',*");
	expect(b, "[2,'channel',{*'rejoining','presence':'overflow',*");
	advance(5000);
	join = server_join_watched("t", NULL);
	server_state(&join, "{" AT("bob", "2", "2") "}");
	expect(a, "[2,'gap',*");
	expect(a, CHANNEL("joined", "pending"));
	expect(a, TOLD("'sync':[" SEEN("bob", "2", "2") "]"));
	expect(a, CHANNEL("ready", "ok"));
	expect_nothing(a);
}
END_TEST

START_TEST(kept_over_a_reconnect)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready();
	struct line join;

	peer_watch(a, "t", "{" AT("alice", "1", "1") "," AT("bob", "2", "2") "}");
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(a, "[2,'channel',{*'state':'rejoining','presence':'ok','code':'connection',*");
	expect(a, "[2,'connection',*");
	advance(5000);
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{},'wait':'joined'}");
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{}}");
	server_open();
	join = server_join_watched("t", NULL);
	expect(a, "[2,'connection',*");
	expect(a, "[2,'gap',{*'cause':'connection',*}]");
	expect(a, CHANNEL("joined", "pending"));
	/* What is held of the old channel is no answer. */
	expect(b, "[2,'connection',*");
	expect(b, "[2,'connection',*");
	expect(b, ANSWER("1", "joined", "pending", ""));
	server_state(&join, "{" AT("alice", "1", "1") "," AT("carol", "3", "3") "}");
	expect(a, TOLD("'leave':[" SEEN("bob", "2", "2") "],'join':[" SEEN("carol", "3", "3") "]"));
	expect(a, CHANNEL("ready", "ok"));
	expect(b, TOLD("'sync':[*" SEEN("carol", "3", "3") "*]"));
	expect(b, CHANNEL("ready", "ok"));
	expect(c, "[2,'connection',*");
	expect(c, "[2,'connection',*");
	expect(c, "[1,1,null,{*'ready','presence':{'state':'ok',*" SEEN("carol", "3", "3") "*");
	expect_nothing(a);
	expect_nothing(b);
	expect_nothing(c);
	/* Nothing changed: nothing but the channel's way is told. */
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(5000);
	server_open();
	join = server_join_watched("t", NULL);
	for (unsigned i = 0; i < 5; i++)
		expect(a, "[2,'*n*");
	server_state(&join, "{" AT("alice", "1", "1") "," AT("carol", "3", "3") "}");
	expect(a, CHANNEL("ready", "ok"));
	expect_nothing(a);
}
END_TEST

START_TEST(unsubscribed_in_the_middle)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line join;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	peer_ask(a, 2, "unsubscribe", "{'topic':'t'}");
	expect(a, "[1,1,[206,'not_subscribed',*],null]");
	expect(a, "[1,2,null,{}]");
	join = server_join_watched("t", NULL);
	peer_ask(a, 3, "subscribe", "{'topic':'t','presence':{}}");
	peer_ask(a, 4, "unsubscribe", "{'chan':1}");
	expect(a, "[1,3,[206,*");
	expect(a, "[1,4,null,{}]");
	peer_ask(b, 2, "unsubscribe", "{'all':true}");
	expect(b, "[1,1,[206,*");
	expect(b, "[1,2,null,{}]");
	server_state(&join, "{" AT("alice", "1", "1") "}");
	server_diff("t", "{" AT("bob", "2", "2") "}", "{}");
	expect_nothing(a);
	expect_nothing(b);
	/* Within the linger the state is still right. */
	peer_ask(a, 5, "subscribe", "{'topic':'t','presence':{}}");
	expect(a, "[1,5,null,{*'snapshot':[*" SEEN("bob", "2", "2") "*");
	peer_ask(a, 6, "presence", "{'chan':1}");
	expect(a, "[1,6,null,{'state':'ok',*");
	peer_ask(a, 7, "unsubscribe", "{'chan':1}");
	expect(a, "[1,7,null,{}]");
	peer_ask(a, 8, "presence", "{'chan':1}");
	expect(a, "[1,8,[206,'not_subscribed',*],null]");
	server_diff("t", "{" AT("carol", "3", "3") "}", "{}");
	expect_nothing(a);
	advance(2000);
	expect_frame("*'phx_leave'*");
}
END_TEST

START_TEST(wish_changed)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line join;

	peer_watch(b, "t", "{}");
	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	expect(a, "[1,1,null,{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	peer_ask(a, 2, "presence", "{'chan':1}");
	expect(a, "[1,2,[206,'not_subscribed',*],null]");
	peer_ask(a, 3, "subscribe", "{'topic':'t','presence':{}}");
	expect(a, ANSWER("3", "ready", "ok", ""));
	server_diff("t", "{" AT("bob", "2", "2") "}", "{}");
	expect(a, TOLD("'join':[*]"));
	peer_ask(a, 4, "subscribe", "{'topic':'t'}");
	expect(a, "[1,4,null,{*'state':'ready'}]");
	server_diff("t", "{}", "{" AT("bob", "2", "2") "}");
	expect_nothing(a);
	/* Changed while the channel is away: the old wish is over at once. */
	peer_ask(a, 5, "subscribe", "{'topic':'t','presence':{}}");
	expect(a, ANSWER("5", "ready", "ok", ""));
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(5000);
	peer_ask(a, 6, "subscribe", "{'topic':'t'}");
	server_open();
	join = server_join_watched("t", NULL);
	expect(a, "[2,'channel',{*'presence':'ok','code':'connection',*");
	expect(a, "[2,'connection',*");
	expect(a, "[2,'connection',*");
	expect(a, "[2,'gap',*");
	expect(a, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	expect(a, "[1,6,null,{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	server_state(&join, "{" AT("dora", "9", "9") "}");
	server_diff("t", "{}", "{" AT("dora", "9", "9") "}");
	expect_nothing(a);
}
END_TEST

START_TEST(without_presence_it_is_ignored)
{
	struct fake_peer *a = peer_ready();
	struct line join;

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	join = *server_join("t");
	expect(a, "[1,1,*");
	server_state(&join, "{" AT("alice", "1", "1") "}");
	server_diff("t", "{" AT("bob", "2", "2") "}", "{}");
	expect_nothing(a);
	expect_no_frame();
	ck_assert(!chan_find_number(rig.hub, 1)->room.fold);
}
END_TEST

START_TEST(malformed)
{
	static const char *const states[] = { "[]", "null", "'x'", "1" };
	static const char *const diffs[] = { "[]", "{'joins':[]}", "{'joins':{},'leaves':1}",
					     "{'leaves':'x'}", "null" };
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line join;

	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	join = server_join_watched("t", NULL);
	for (unsigned i = 0; i < sizeof(states) / sizeof(*states); i++)
		server_state(&join, states[i]);
	expect_nothing(a);
	/* Parts of no use are passed over. */
	server_state(&join, "{'a':1,'b':{},'c':{'metas':{}},'d':{'metas':[1,{},{'phx_ref':1}]},"
			    "" AT("alice", "1", "1") "}");
	expect(a, ANSWER("1", "ready", "ok", SEEN("alice", "1", "1")));
	for (unsigned i = 0; i < sizeof(diffs) / sizeof(*diffs); i++)
		server_text("[null,null,'realtime:t','presence_diff',%s]", diffs[i]);
	for (unsigned i = 0; i < sizeof(states) / sizeof(*states); i++)
		server_state(&join, states[i]);
	server_text("[null,null,'realtime:t','presence_gossip',{'joins':{" AT("x", "1", "1") "}}]");
	expect_nothing(a);
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	expect(b, ANSWER("1", "ready", "ok", SEEN("alice", "1", "1")));
}
END_TEST

START_TEST(slow_watcher)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_watch(a, "t", "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{'events':['join']}}");
	expect(b, "[1,1,*");
	a->send_result = b->send_result = 1;
	server_diff("t", "{" AT("bob", "2", "2") "}", "{}");
	expect_farewell(a, "slow_consumer", true);
	expect_farewell(b, "slow_consumer", true);
	server_diff("t", "{" AT("carol", "3", "3") "}", "{}");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_presence");
	TCase *t = tcase_create("online"), *own = tcase_create("own");

	tcase_add_checked_fixture(t, rig_setup_online, rig_teardown);
	tcase_add_test(t, snapshot_in_the_answer);
	tcase_add_test(t, answered_when_joined);
	tcase_add_test(t, timeouts);
	tcase_add_test(t, late_subscriber);
	tcase_add_test(t, filters);
	tcase_add_test(t, bad_wishes);
	tcase_add_loop_test(t, denied, 0, 2);
	tcase_add_test(t, probe_unanswered);
	tcase_add_test(t, probe_waits_for_room);
	tcase_add_test(t, kept_over_a_reconnect);
	tcase_add_test(t, unsubscribed_in_the_middle);
	tcase_add_test(t, wish_changed);
	tcase_add_test(t, without_presence_it_is_ignored);
	tcase_add_test(t, malformed);
	tcase_add_test(t, slow_watcher);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(own, NULL, rig_teardown);
	tcase_add_test(own, overflow);
	suite_add_tcase(s, own);
	return suite_run(s);
}
