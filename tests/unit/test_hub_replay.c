/* SPDX-License-Identifier: MIT */
/* Stored messages that a subscription asks for, and the notices of the server. */
#include "hub_replay.h"

#define REPLAY(since) "'private':true,'broadcast':{'replay':{'since':" since "}}"

/* ---- asked for by a subscription ---- */

/* The first join of the channel carries it. */
START_TEST(rides)
{
	struct line *join, *probe;

	peer_ask(a, 1, "subscribe",
		 "{'topic':'t','private':true,'broadcast':{'replay':{'since':1234,'limit':2}}}");
	peer_ask(b, 1, "subscribe", "{'topic':'t','private':true}");
	join = expect_frame("*'phx_join',*'replay':{'since':1234,'limit':2}}*");
	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(0);
	stored(1, true);
	stored(2, true);
	stored(2, false);
	stored(3, false);
	expect_nothing(a);
	server_reply(probe, true, "{}");
	expect(a, "[1,1,null,{'chan':1,*'state':'ready'}]");
	expect_stored(a, 1, true);
	expect_stored(a, 2, true);
	expect(a, "[2,'replay',{'chan':1,'topic':'t','stored':'truncated','n':2}]");
	expect_stored(a, 3, false);
	expect_nothing(a);
	/* It asked for nothing that is stored. */
	expect(b, "[1,1,null,{'chan':1,*'state':'ready'}]");
	expect_stored(b, 2, false);
	expect_stored(b, 3, false);
	expect_nothing(b);
}
END_TEST

/* The shared join is not disturbed. */
START_TEST(aside)
{
	struct line *join, *probe;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{'chan':1,*'state':'ready'}]");
	expect_nothing(b);
	stored(5, false);
	expect_stored(a, 5, false);
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*'replay':{'since':77,'limit':25}}*");
	ck_assert_uint_eq(join->link, 1);
	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(1);
	stored(4, true);
	stored(5, true);
	stored(6, false); /* it comes by the shared join as well */
	rig.at = 0;
	stored(6, false);
	expect_stored(a, 6, false);
	expect_nothing(b);
	server_reply(probe, true, "{}");
	expect_stored(b, 4, true);
	expect_stored(b, 5, true);
	expect(b, "[2,'replay',{'chan':1,'topic':'t','stored':'replayed','n':2}]");
	expect_stored(b, 6, false);
	expect_nothing(b);
	ck_assert_uint_eq(expect_frame("*'phx_leave'*")->link, 1);
	/* A late copy. */
	stored(4, false);
	expect_stored(a, 4, false);
	expect_nothing(b);
	advance(REPLAY_KNOWN_MS);
	stored(4, false);
	expect_stored(b, 4, false);
}
END_TEST

START_TEST(aside_refused)
{
	struct line *join;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{'chan':1,*'state':'ready'}]");
	stored(5, false);
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*'replay':{*");
	server_reply(join, false,
		     "{'reason':'UnableToReplayMessages: Replay params are not valid'}");
	expect(b, "[2,'replay',{*'stored':'none','n':0,'text':'UnableToReplayMessages*");
	expect_stored(b, 5, false);
	expect_stored(a, 5, false);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

START_TEST(aside_late)
{
	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	stored(5, false);
	advance(REPLAY_MS);
	expect(b, "[2,'replay',{*'stored':'none','n':0,'text':'*");
	expect_stored(b, 5, false);
}
END_TEST

START_TEST(aside_not_to_be_had)
{
	subscribed(a, "{}");
	/* Each connection has a channel of this name. */
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	rig.at = 1;
	server_open();
	server_join("t");
	expect(a, "[1,2,*");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	expect(b, "[2,'replay',{*'stored':'none','n':0,'text':'each connection*");
	expect_no_frame();
}
END_TEST

/* Asked again before the first is over: the last one counts, and its place is still taken. */
START_TEST(asked_again)
{
	struct line *join;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*'since':77,*");
	peer_ask(b, 2, "subscribe", "{'topic':'t'," REPLAY("78") "}");
	expect(b, "[1,2,null,{*");
	expect(b, "[2,'replay',{*'stored':'none','n':0,'text':'each connection*");
	server_reply(join, true, "{'postgres_changes':[]}");
	stored(1, true);
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	peer_ask(b, 3, "subscribe", "{'topic':'t'," REPLAY("79") "}");
	expect(b, "[1,3,null,{*");
	server_reply(expect_frame("*'phx_join',*'since':79,*"), true, "{'postgres_changes':[]}");
	server_reply(expect_probe(1), true, "{}");
	expect(b, "[2,'replay',{*'stored':'replayed','n':0}]");
	expect_nothing(b);
}
END_TEST

/* Several at once: one after the other, by the same further connection. */
START_TEST(many_at_once)
{
	struct fake_peer *p[3];
	struct line *join;

	subscribed(a, "{}");
	for (unsigned i = 0; i < 3; i++) {
		p[i] = peer_ready();
		peer_ask(p[i], 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
		expect(p[i], "[1,1,null,{*");
	}
	stored(9, false);
	rig.at = 1;
	server_open();
	for (unsigned i = 0; i < 3; i++) {
		join = expect_frame("*'phx_join',*'since':77,*");
		ck_assert_uint_eq(join->link, 1);
		expect_no_frame();
		server_reply(join, true, "{'postgres_changes':[]}");
		server_text("['%u',null,'realtime:t','broadcast',{'type':'broadcast','event':'e',"
			    "'payload':{'n':8},'meta':{'id':'id-8','replayed':true}}]",
			    (unsigned)join->ref);
		expect_nothing(p[i]);
		server_reply(expect_probe(1), true, "{}");
		expect_stored(p[i], 8, true);
		expect(p[i], "[2,'replay',{*'stored':'replayed','n':1}]");
		expect_stored(p[i], 9, false);
		expect_nothing(p[i]);
		expect_frame("*'phx_leave'*");
		advance(1000);
	}
}
END_TEST

/* Who waits does not wait for ever. */
START_TEST(many_and_no_answer)
{
	struct fake_peer *c = peer_ready();

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	peer_ask(c, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(c, "[1,1,null,{*");
	stored(9, false);
	advance(REPLAY_MS);
	expect(b, "[2,'replay',{*'stored':'none','n':0,*");
	expect_stored(b, 9, false);
	expect(c, "[2,'replay',{*'stored':'none','n':0,*");
	expect_stored(c, 9, false);
}
END_TEST

/* What was kept back for one replay is not lost with it. */
START_TEST(asked_again_with_something_kept)
{
	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	stored(5, false);
	server_broadcast("t", "odd", "{'n':9}");
	expect_nothing(b);
	peer_ask(b, 2, "subscribe", "{'topic':'t'," REPLAY("78") "}");
	expect(b, "[1,2,null,{*");
	advance(REPLAY_MS);
	expect(b, "[2,'replay',{*'stored':'none',*");
	expect_stored(b, 5, false);
	expect(b, "[2,'broadcast',{*'payload':{'n':9}}]");
	expect_nothing(b);
}
END_TEST

/* ... nor with the wish for messages, and not told to who wants none any more. */
START_TEST(wants_no_messages_any_more)
{
	struct line *join;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*");
	peer_ask(
		b, 2, "subscribe",
		"{'topic':'t','private':true,'wait':'joined','presence':{},'postgres_changes':[]}");
	server_reply(join, true, "{'postgres_changes':[]}");
	stored(4, true);
	server_reply(expect_probe(1), true, "{}");
	(void)peer_skip(b, "1,2,null");
	ck_assert_uint_eq(peer_skip(b, "broadcast"), 0);
}
END_TEST

/* A gap that begins meanwhile: first what was kept back, then the gap, and nothing twice. */
START_TEST(gap_while_aside)
{
	struct line *join;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	server_broadcast("t", "odd", "{'n':1}");
	rig.at = 1;
	server_open();
	expect_frame("*'phx_join',*'since':77,*");
	rig.at = 0;
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(b, "[2,'replay',{*'stored':'none',*'text':'the channel was interrupted*");
	expect(b, "[2,'broadcast',{*'payload':{'n':1}}]");
	advance(5000);
	server_open();
	join = expect_frame("*'phx_join',*'replay':{*");
	server_reply(join, true, "{'postgres_changes':[]}");
	stored(4, true);
	server_reply(expect_probe(0), true, "{}");
	(void)peer_skip(b, "connection");
	ck_assert(text_matches("[2,'broadcast',{*'id-4'*", b->got.at[b->got.n - 2].text));
	ck_assert(text_matches("[2,'channel',{*'ready'}]", b->got.at[b->got.n - 1].text));
}
END_TEST

/* What came by a replay is not told again by a gap that reaches back. */
START_TEST(gap_after_aside)
{
	struct line *join;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*'since':77,*");
	server_reply(join, true, "{'postgres_changes':[]}");
	stored(4, true);
	server_reply(expect_probe(1), true, "{}");
	expect_stored(b, 4, true);
	expect(b, "[2,'replay',{*'n':1}]");
	expect_frame("*'phx_leave'*");
	rig.at = 0;
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(5000);
	server_open();
	join = expect_frame("*'phx_join',*'replay':{*");
	server_reply(join, true, "{'postgres_changes':[]}");
	stored(4, true);
	server_reply(expect_probe(0), true, "{}");
	ck_assert_uint_eq(peer_skip(b, "id-4"), 0);
	ck_assert_uint_eq(peer_skip(a, "id-4"), 1); /* to it that one is new */
}
END_TEST

/* Two who ask again and again do not keep the third one waiting. */
START_TEST(each_in_turn)
{
	struct fake_peer *p[3];
	struct line *join;
	char text[200];

	subscribed(a, "{}");
	for (unsigned i = 0; i < 3; i++) {
		p[i] = peer_ready();
		peer_ask(p[i], 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	}
	rig.at = 1;
	server_open();
	for (unsigned i = 0; i < 3; i++) {
		join = expect_frame("*'phx_join',*");
		server_reply(join, true, "{'postgres_changes':[]}");
		server_reply(expect_probe(1), true, "{}");
		snprintf(text, sizeof(text), "{'topic':'t'," REPLAY("%u") "}", i + 100);
		peer_ask(p[i], 2, "subscribe", text);
		expect_frame("*'phx_leave'*");
		advance(500);
	}
	ck_assert(text_matches("[2,'replay',{*'replayed',*", p[2]->got.at[2].text));
}
END_TEST

/* More than is kept of it. */
START_TEST(aside_too_large)
{
	struct line *join;
	char *big;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*");
	server_reply(join, true, "{'postgres_changes':[]}");
	big = calloc(1, 1000001);
	ck_assert_ptr_nonnull(big);
	memset(big, 'x', 1000000);
	for (unsigned i = 0; i < 9; i++)
		server_text("['1',null,'realtime:t','broadcast',{'event':'e','payload':{'x':'%s'},"
			    "'meta':{'id':'id-%u','replayed':true}}]",
			    big, i);
	free(big);
	server_reply(expect_probe(1), true, "{}");
	expect(b, "[2,'replay',{*'stored':'none','n':0,'text':'more came*");
	expect_nothing(b);
}
END_TEST

START_TEST(goes_while_aside)
{
	struct line *join;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'," REPLAY("77") "}");
	expect(b, "[1,1,null,{*");
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*'since':77,*");
	peer_close(b);
	server_reply(join, true, "{'postgres_changes':[]}");
	expect_frame("*'phx_leave'*");
	stored(1, true);
}
END_TEST

/* The answer waits for who is there; what is stored waits for the answer. */
START_TEST(rides_before_the_answer)
{
	struct line *join, *probe, *own;

	peer_ask(a, 1, "subscribe",
		 "{'topic':'t','private':true,'broadcast':{'replay':{'since':1}},'presence':{}}");
	join = expect_frame("*'phx_join',*'replay':{'since':1,*");
	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(0);
	own = expect_probe(0);
	stored(1, true);
	server_reply(probe, true, "{}");
	stored(2, false);
	expect_nothing(a);
	server_reply(own, true, "{}");
	expect(a, "[1,1,null,{*'presence':{'state':'denied',*");
	expect_stored(a, 1, true);
	expect(a, "[2,'replay',{*'stored':'replayed','n':1}]");
	expect_stored(a, 2, false);
}
END_TEST

START_TEST(bad_wishes)
{
	static const char *const rows[] = {
		"'broadcast':{'replay':{'since':1}}",
		"'private':true,'broadcast':{'replay':1}",
		"'private':true,'broadcast':{'replay':{}}",
		"'private':true,'broadcast':{'replay':{'since':-1}}",
		"'private':true,'broadcast':{'replay':{'since':'1'}}",
		"'private':true,'broadcast':{'replay':{'since':18446744073709551615}}",
		"'private':true,'broadcast':{'replay':{'since':253402300800000}}",
		"'private':true,'broadcast':{'replay':{'since':1,'limit':0}}",
		"'private':true,'broadcast':{'replay':{'since':1,'limit':26}}",
		"'private':true,'broadcast':{'replication_ready':1}",
	};
	char params[200];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(params, sizeof(params), "{'topic':'t',%s}", rows[i]);
		peer_ask(a, i + 1, "subscribe", params);
		snprintf(params, sizeof(params), "[1,%u,[200,'bad_request','broadcast.rep*", i + 1);
		expect(a, params);
	}
	expect_no_frame();
}
END_TEST

/* ---- notices of the server ---- */

#define READY "'message':'Replication connection established'"
#define TOLD                                                                            \
	"[2,'system',{'chan':1,'topic':'t','extension':'system','status':'ok','text':'" \
	"Replication connection established'}]"

START_TEST(replication_ready)
{
	struct line *join;

	peer_ask(a, 1, "subscribe", "{'topic':'t','broadcast':{'replication_ready':true}}");
	join = expect_frame("*'phx_join',*'broadcast':{*'replication_ready':true}*");
	server_reply(join, true, "{'postgres_changes':[]}");
	expect(a, "[1,1,*");
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	expect(b, "[1,1,*");
	server_text("['1',null,'realtime:t','system',{" READY
		    ",'status':'ok','extension':'system','channel':'t'}]");
	expect(a, TOLD);
	expect_nothing(b);
	/* Who asks later hears it with the answer, once. */
	peer_ask(b, 2, "subscribe", "{'topic':'t','broadcast':{'replication_ready':true}}");
	expect(b, "[1,2,*");
	expect(b, TOLD);
	expect_nothing(b);
	expect_no_frame();
}
END_TEST

START_TEST(replication_asked_later)
{
	struct line *join;

	subscribed(a, "{}");
	peer_ask(b, 1, "subscribe",
		 "{'topic':'t','private':true,'broadcast':{'replication_ready':true}}");
	expect(b, "[1,1,*");
	advance(REJOIN_GATHER_MS);
	expect(a, "[2,'channel',{*'rejoining','code':'replication_ready',*");
	join = expect_frame("*'phx_join',*'replication_ready':true}*");
	server_reply(join, true, "{'postgres_changes':[]}");
	server_reply(expect_probe(0), true, "{}");
	expect(a, "[2,'gap',{*'cause':'replication_ready',*");
}
END_TEST

START_TEST(other_notices)
{
	subscribed(a, "{}");
	server_text("[null,null,'realtime:t','system',{'message':'Server requested disconnect',"
		    "'status':'ok','extension':'system'}]");
	expect(a, "[2,'system',{*'status':'ok','text':'Server requested disconnect'}]");
	server_text("['1',null,'realtime:t','system',{'message':'odd','status':'error',"
		    "'extension':'broadcast','channel':'t'}]");
	expect(a, "[2,'system',{*'extension':'broadcast','status':'error','text':'odd'}]");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_replay");
	TCase *t = tcase_create("replay");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, rides);
	tcase_add_test(t, aside);
	tcase_add_test(t, aside_refused);
	tcase_add_test(t, aside_late);
	tcase_add_test(t, aside_not_to_be_had);
	tcase_add_test(t, asked_again);
	tcase_add_test(t, many_at_once);
	tcase_add_test(t, many_and_no_answer);
	tcase_add_test(t, asked_again_with_something_kept);
	tcase_add_test(t, wants_no_messages_any_more);
	tcase_add_test(t, gap_while_aside);
	tcase_add_test(t, gap_after_aside);
	tcase_add_test(t, each_in_turn);
	tcase_add_test(t, aside_too_large);
	tcase_add_test(t, goes_while_aside);
	tcase_add_test(t, rides_before_the_answer);
	tcase_add_test(t, bad_wishes);
	tcase_add_test(t, replication_ready);
	tcase_add_test(t, replication_asked_later);
	tcase_add_test(t, other_notices);
	suite_add_tcase(s, t);
	return suite_run(s);
}
