/* SPDX-License-Identifier: MIT */
/* Stories about channels that are joined anew because somebody wants to know who is there. */
#include "hub_presence.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(key, ref, n)   "'" key "':{'metas':[{'phx_ref':'" ref "','n':" n "}]}"
#define SEEN(key, ref, n) "{'key':'" key "','ref':'" ref "','state':{'n':" n "}}"
#define REJOINING                                                                                  \
	"[2,'channel',{'chan':1,'topic':'t','private':false,'state':'rejoining','code':'presence'" \
	","                                                                                        \
	"'text':*}]"
#define READY      "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'ready'}]"
#define GAP(cause) "[2,'gap',{'chan':1,'topic':'t','from':*,'to':*,'cause':'" cause "',*}]"

static struct fake_peer *a, *b;

/* a subscribes without presence, b wants it on the joined channel. */
static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
	b = peer_ready();
	peer_join(a, "t", "{}");
}

static void watch(void)
{
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{},'timeout_ms':60000}");
}

/* The story's good end: joined with presence, everybody answered. */
static void good_end(const char *cause)
{
	char gap[200];
	struct line join = server_join_watched("t", NULL);

	snprintf(gap, sizeof(gap), GAP("%s"), cause);
	expect(a, gap);
	expect(a, READY);
	expect_nothing(b);
	server_state(&join, "{" AT("alice", "1", "1") "}");
	expect(b, "[1,1,null,{*'state':'ready',*" SEEN("alice", "1", "1") "]}}]");
	expect_nothing(a);
	expect_nothing(b);
	expect_no_frame();
}

START_TEST(one_for_all_who_want_it)
{
	struct fake_peer *c = peer_ready(), *d = peer_ready();
	struct line first = rig.frames.at[0], join;

	watch();
	advance(REJOIN_GATHER_MS - 50);
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{},'wait':'joined'}");
	expect(c, "[1,1,null,{*'state':'joined','presence':{'state':'pending','snapshot':[]}}]");
	advance(49);
	expect_no_frame();
	expect_nothing(a);
	advance(1);
	join = *expect_frame("[*,*,'realtime:t','phx_join',*'presence':{'enabled':true,*");
	expect_no_frame();
	expect(a, REJOINING);
	expect(c, "[2,'channel',{*'state':'rejoining','presence':'pending','code':'presence',*");
	peer_ask(d, 1, "subscribe", "{'topic':'t','presence':{}}");
	/* The old channel still speaks until the new one does. */
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	expect(c, "[2,'broadcast',*");
	expect_nothing(b);
	/* The end of the old one is none of the new one. */
	server_close(&first, NULL);
	server_broadcast("t", "e", "2");
	expect(a, "[2,'broadcast',*");
	expect(c, "[2,'broadcast',*");
	server_reply(&join, true, "{}");
	expect_frame("[*,*,'realtime:t','presence',{}]");
	server_close(&first, NULL);
	expect(a, GAP("presence"));
	expect(a, READY);
	expect(c, "[2,'gap',*");
	expect(c, "[2,'channel',{*'state':'joined','presence':'pending'}]");
	server_state(&join, "{" AT("alice", "1", "1") "}");
	expect(b, "[1,1,null,{*'state':'ready',*" SEEN("alice", "1", "1") "]}}]");
	expect(c, "[2,'presence',{*'sync':[" SEEN("alice", "1", "1") "]}]");
	expect(c, "[2,'channel',{*'state':'ready','presence':'ok'}]");
	expect(d, "[1,1,null,{*'state':'ready',*" SEEN("alice", "1", "1") "]}}]");
	expect_nothing(a);
	advance(20000);
	expect_no_frame();
}
END_TEST

/* A presence_state that was on its way from the channel before is not the new one's. */
START_TEST(state_of_the_channel_before)
{
	struct fake_peer *c = peer_ready();
	struct line first, join, probe;

	peer_ask(c, 1, "subscribe", "{'topic':'u','presence':{}}");
	first = server_join_watched("u", NULL);
	peer_ask(b, 1, "track", "{'topic':'u','key':'bob','state':{}}");
	rig.send_result = 1;
	advance(REJOIN_GATHER_MS);
	/* Known, but the channel is not joined. */
	server_state(&first, "{" AT("old", "1", "1") "}");
	expect_nothing(c);
	rig.send_result = 0;
	advance(LINK_BUSY_RETRY_MS);
	join = *expect_frame("[*,*,'realtime:u','phx_join',*'key':'bob'*");
	server_state(&first, "{" AT("old", "1", "1") "}");
	expect_nothing(c);
	server_reply(&join, true, "{}");
	expect_frame("[*,*,'realtime:u','presence',{'type':'presence','event':'track',*");
	probe = *expect_frame("[*,*,'realtime:u','presence',{}]");
	server_state(&join, "{" AT("new", "2", "2") "}");
	/* Nor before those here had time to be shown again. */
	expect_nothing(c);
	server_reply(&probe, true, "{}");
	expect(c, "[1,1,null,{*'state':'ready','presence':{'state':'ok','snapshot':[" SEEN(
			  "new", "2", "2") "]}}]");
}
END_TEST

START_TEST(sends_around_it)
{
	struct line send;

	peer_ask(a, 2, "broadcast", "{'chan':1,'event':'e','payload':1}");
	send = *expect_frame("[3,*,1]");
	watch();
	advance(REJOIN_GATHER_MS);
	/* An answer is owed: no join yet, and nothing new for the old channel. */
	expect_no_frame();
	expect_nothing(a);
	peer_ask(a, 3, "broadcast", "{'chan':1,'event':'e','payload':2}");
	peer_ask(b, 2, "broadcast", "{'chan':1,'event':'e','payload':3}");
	expect_no_frame();
	server_reply(&send, true, "{}");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	advance(0);
	expect(a, REJOINING);
	server_join_watched("t", NULL);
	expect(a, GAP("presence"));
	expect(a, READY);
	server_reply(expect_frame("[3,*,2]"), true, "{}");
	server_reply(expect_frame("[3,*,3]"), true, "{}");
	expect(a, "[1,3,null,{'outcome':'acked',*");
	expect(a, "[2,'broadcast',{*'payload':3}]");
	expect(b, "[1,2,null,{'outcome':'acked',*");
}
END_TEST

START_TEST(owed_but_never_answered)
{
	struct line send;

	peer_ask(a, 2, "broadcast", "{'chan':1,'event':'e','payload':1}");
	send = *expect_frame("[3,*,1]");
	watch();
	advance(REJOIN_GATHER_MS + REJOIN_OWED_MS - 1);
	expect_frame("*'presence',{}]"); /* the ack is late */
	expect_no_frame();
	expect_nothing(a);
	advance(1);
	expect(a, "[1,2,null,{'outcome':'unknown',*");
	expect(a, REJOINING);
	/* Too late to count. */
	server_reply(&send, true, "{}");
	expect_nothing(a);
	good_end("presence");
}
END_TEST

START_TEST(called_off_while_gathering)
{
	watch();
	advance(100);
	peer_ask(b, 2, "unsubscribe", "{'chan':1}");
	expect(b, "[1,1,[206,*");
	expect(b, "[1,2,null,{}]");
	advance(1000);
	expect_nothing(a);
	expect_no_frame();
	/* And wanted again: gathered for anew. */
	peer_ask(b, 3, "subscribe", "{'topic':'t','presence':{}}");
	advance(REJOIN_GATHER_MS - 1);
	expect_no_frame();
	peer_close(b);
	advance(1000);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

START_TEST(called_off_while_held)
{
	struct line send;

	peer_ask(a, 2, "broadcast", "{'chan':1,'event':'e','payload':1}");
	send = *expect_frame("[3,*,1]");
	watch();
	advance(1000);
	peer_ask(a, 3, "broadcast", "{'chan':1,'event':'e','payload':2}");
	expect_no_frame();
	peer_close(b);
	/* What was held back goes at once. */
	server_reply(&send, true, "{}");
	server_reply(expect_frame("[3,*,2]"), true, "{}");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	expect(a, "[1,3,null,{'outcome':'acked',*");
	advance(20000);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

/* Nobody wants it any more while the join waits for room: left, whatever was thought of it. */
START_TEST(called_off_while_waiting)
{
	watch();
	rig.send_result = 1;
	advance(REJOIN_GATHER_MS + 100);
	expect(a, REJOINING);
	peer_ask(a, 2, "unsubscribe", "{'chan':1}");
	expect(a, "[1,2,null,{}]");
	peer_close(b);
	advance(100);
	rig.send_result = 0;
	advance(LINK_BUSY_RETRY_MS);
	server_reply(expect_frame("['1',*,'realtime:t','phx_leave',{}]"), true, "{}");
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

/* The same, but somebody comes before it could be left: what it was joined with still counts. */
START_TEST(called_off_and_wanted_again)
{
	struct fake_peer *c = peer_ready();
	struct line join;

	watch();
	rig.send_result = 1;
	advance(REJOIN_GATHER_MS);
	expect(a, REJOINING);
	peer_close(a);
	peer_close(b);
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{}}");
	rig.send_result = 0;
	server_state(&rig.frames.at[0], "{" AT("old", "1", "1") "}");
	/* It was not left, the link being full: it goes on where it was. */
	advance(LINK_BUSY_RETRY_MS);
	join = server_join_watched("t", NULL);
	server_state(&join, "{" AT("new", "2", "2") "}");
	expect(c, "[1,1,null,{*'ready','presence':{'state':'ok','snapshot':[" SEEN("new", "2",
										   "2") "]}}]");
}
END_TEST

START_TEST(refused_for_now)
{
	watch();
	advance(REJOIN_GATHER_MS);
	expect(a, REJOINING);
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'RealtimeRestarting: x'}");
	expect(a, "[2,'channel',{*'rejoining','code':'restarting',*'retry_in_ms':*");
	/* The channel before went with it. */
	server_broadcast("t", "e", "1");
	expect_nothing(a);
	advance(2000);
	good_end("presence");
}
END_TEST

START_TEST(refused_for_good)
{
	watch();
	advance(REJOIN_GATHER_MS);
	expect(a, REJOINING);
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: no'}");
	expect(a, "[2,'channel',{*'state':'rejected','code':'unauthorized',*");
	expect(b, "[1,1,[300,'rejected','Unauthorized: no',null],null]");
	advance(60000);
	expect_no_frame();
	/* a keeps its wish, which is without presence. */
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(5000);
	server_open();
	expect_frame("*'phx_join'*'presence':{'enabled':false*");
}
END_TEST

START_TEST(unanswered)
{
	watch();
	advance(REJOIN_GATHER_MS);
	expect(a, REJOINING);
	expect_frame("*'phx_join'*");
	advance(JOIN_REPLY_MS);
	expect(a, "[2,'channel',{*'rejoining',*'retry_in_ms':*");
	expect_frame("*'phx_leave'*");
	advance(2000);
	good_end("presence");
}
END_TEST

enum { GATHERING, OWED, WAITING, JOINING, N_PHASES };

/* The connection ends in each of the phases: the next one starts with presence at once. */
START_TEST(offline)
{
	peer_ask(a, 2, "broadcast", "{'chan':1,'event':'e','payload':1}");
	if (_i != OWED)
		server_reply(expect_frame("[3,*"), true, "{}");
	else
		expect_frame("[3,*");
	watch();
	advance(_i == GATHERING ? 100 : REJOIN_GATHER_MS - 1);
	rig.send_result = _i == WAITING;
	advance(1);
	rig.send_result = 0;
	if (_i == JOINING)
		expect_frame("*'phx_join'*");
	expect_no_frame();
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(a,
	       _i == OWED ? "[1,2,null,{'outcome':'unknown',*" : "[1,2,null,{'outcome':'acked',*");
	if (_i == WAITING || _i == JOINING)
		expect(a, REJOINING);
	expect(a, "[2,'channel',{*'state':'rejoining','code':'connection',*");
	expect(a, "[2,'connection',*");
	expect(b, "[2,'connection',*");
	server_broadcast("t", "e", "1"); /* of the connection that has ended */
	advance(5000);
	server_open();
	expect(a, "[2,'connection',*");
	expect(b, "[2,'connection',*");
	good_end(_i == WAITING || _i == JOINING ? "presence" : "connection");
}
END_TEST

/* The server closes the old channel while the new join waits for room. */
START_TEST(closed_while_waiting)
{
	watch();
	rig.send_result = 1;
	advance(REJOIN_GATHER_MS);
	expect(a, REJOINING);
	server_close(&rig.frames.at[0], "Too many messages per second");
	server_broadcast("t", "e", "1");
	expect_nothing(a);
	rig.send_result = 0;
	advance(LINK_BUSY_RETRY_MS);
	good_end("presence");
}
END_TEST

/* The server closes it while the wishes are gathered: one join for both, when the class allows. */
START_TEST(closed_while_gathering)
{
	watch();
	advance(100);
	server_close(&rig.frames.at[0], "Too many messages per second");
	expect(a, "[2,'channel',{*'rejoining','code':'message_rate',*");
	advance(59999);
	expect_no_frame();
	advance(1001);
	expect(b, "[1,1,[101,'timeout',*],null]");
	server_join("t");
	expect(a, GAP("message_rate"));
	expect(a, READY);
}
END_TEST

/* Who leaves takes the wish along, also on the way. */
START_TEST(watcher_gone_while_joining)
{
	struct line join;

	watch();
	advance(REJOIN_GATHER_MS);
	expect(a, REJOINING);
	peer_close(b);
	join = server_join_watched("t", NULL);
	expect(a, GAP("presence"));
	expect(a, READY);
	server_state(&join, "{" AT("alice", "1", "1") "}");
	expect_nothing(a);
	/* It has presence now: the next one who wants it has it at once. */
	peer_ask(a, 2, "subscribe", "{'topic':'t','presence':{}}");
	expect(a, "[1,2,null,{*'state':'ready','presence':{'state':'ok',*" SEEN("alice", "1",
										"1") "]}}]");
	expect_no_frame();
}
END_TEST

START_TEST(timeout_of_the_wish)
{
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{},'timeout_ms':300}");
	advance(REJOIN_GATHER_MS);
	expect(a, REJOINING);
	expect_frame("*'phx_join'*");
	advance(100);
	expect(b, "[1,1,[101,'timeout',*],null]");
	expect_nothing(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_rejoin");
	TCase *t = tcase_create("rejoin");

	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, one_for_all_who_want_it);
	tcase_add_test(t, state_of_the_channel_before);
	tcase_add_test(t, sends_around_it);
	tcase_add_test(t, owed_but_never_answered);
	tcase_add_test(t, called_off_while_gathering);
	tcase_add_test(t, called_off_while_held);
	tcase_add_test(t, called_off_while_waiting);
	tcase_add_test(t, called_off_and_wanted_again);
	tcase_add_test(t, refused_for_now);
	tcase_add_test(t, refused_for_good);
	tcase_add_test(t, unanswered);
	tcase_add_loop_test(t, offline, 0, N_PHASES);
	tcase_add_test(t, closed_while_waiting);
	tcase_add_test(t, closed_while_gathering);
	tcase_add_test(t, watcher_gone_while_joining);
	tcase_add_test(t, timeout_of_the_wish);
	suite_add_tcase(s, t);
	return suite_run(s);
}
