/* SPDX-License-Identifier: MIT */
/* Stories about one local client that wants to be seen, and what the server makes of it. */
#include "hub_presence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL(n) "{'type':'presence','event':'track','payload':{'n':" n "}}"
#define UNTRACK "{'type':'presence','event':'untrack'}"
#define ASK(n)  "{'topic':'t','state':{'n':" n "}}"

static struct fake_peer *a;

static void setup(void)
{
	rig_setup();
	rig.probes = true;
	server_open();
	a = peer_ready();
}

/* a tracks with n = 1; the server has it. */
static void shown(void)
{
	peer_ask(a, 1, "track", ASK("1"));
	server_join("t");
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','key':'*'}]");
}

START_TEST(acked)
{
	uint64_t first;

	peer_ask(a, 1, "track", "{'topic':'t','state':{'n':1},'key':'alice'}");
	first = expect_frame("*'phx_join',{*'presence':{'enabled':true,'key':'alice'}*")->ref;
	rig.frames.at[0].taken = false;
	rig.frames.next = 0;
	ck_assert(server_join("t")->ref == first);
	expect_nothing(a);
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','key':'alice'}]");
	/* The same once more: nothing is to be done. */
	peer_ask(a, 2, "track", "{'chan':1,'state':{'n':1}}");
	expect(a, "[1,2,null,{'outcome':'acked','key':'alice'}]");
	peer_call(a, "track", ASK("1"));
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

START_TEST(made_key)
{
	char key[100];

	shown();
	ck_assert_int_eq(sscanf(strstr(a->got.at[1].text, "\"key\":\"") + 7, "%99[^\"]", key), 1);
	ck_assert_uint_eq(strlen(key), 36);
	ck_assert(strstr(rig.frames.at[0].text, key));
	ck_assert(key[14] == '4' && strchr("89ab", key[19]));
}
END_TEST

START_TEST(tracked_again)
{
	shown();
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(a, "[2,'track',{'chan':1,'topic':'t','private':false,'key':'*','outcome':'queued',"
		  "'text':'*connection*'}]");
	advance(5000);
	expect(a, "[2,'connection',*");
	server_open();
	expect(a, "[2,'connection',*");
	server_join("t");
	expect_nothing(a);
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[2,'track',{'chan':1,'topic':'t','private':false,'key':'*','outcome':'acked'}]");
	expect_nothing(a);
	expect_no_frame();
	/* And after the server has closed the channel. */
	server_close(&rig.frames.at[rig.frames.n - 3], NULL);
	expect(a, "[2,'track',{*'outcome':'queued',*");
	advance(5000);
	server_join("t");
	expect_call("t", CALL("1"));
	/* A state given meanwhile goes with the next one. */
	peer_ask(a, 2, "track", ASK("2"));
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(a, "[2,'connection',*");
	advance(5000);
	server_open();
	server_join("t");
	expect_call("t", CALL("2"));
	expect_no_frame();
}
END_TEST

START_TEST(throttled)
{
	shown();
	peer_ask(a, 2, "track", ASK("2"));
	expect(a, "[1,2,null,{'outcome':'throttled','key':'*','text':'*five*','retry_in_ms':250}]");
	advance(249);
	expect_no_frame();
	advance(1);
	server_reply(expect_call("t", CALL("2")), true, "{}");
	expect(a, "[2,'track',{*'outcome':'acked'}]");
	expect_nothing(a);
	advance(100);
	peer_ask(a, 3, "track", ASK("3"));
	expect(a, "[1,3,null,{*'throttled',*'retry_in_ms':900}]");
	peer_ask(a, 4, "track", ASK("4"));
	expect(a, "[1,4,null,{*'throttled',*'retry_in_ms':900}]");
	advance(900);
	server_reply(expect_call("t", CALL("4")), true, "{}");
	expect(a, "[2,'track',{*'outcome':'acked'}]");
	/* Enough time: at once. */
	advance(4000);
	peer_ask(a, 5, "track", ASK("5"));
	expect_nothing(a);
	server_reply(expect_call("t", CALL("5")), true, "{}");
	expect(a, "[1,5,null,{'outcome':'acked',*");
	/* The fifth is kept for the end. */
	peer_ask(a, 6, "track", ASK("6"));
	expect(a, "[1,6,null,{*'throttled',*'retry_in_ms':*}]");
	advance(20000);
	expect_no_frame();
	advance(10000);
	server_reply(expect_call("t", CALL("6")), true, "{}");
	expect_no_frame();
}
END_TEST

/* The same state as the one that is held back: it is neither new nor acked. */
START_TEST(throttled_while_a_rejoin_is_planned)
{
	struct fake_peer *b = peer_ready(), *c = peer_ready();

	peer_join(b, "t", "{}");
	peer_ask(a, 1, "track", ASK("1"));
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked',*");
	peer_ask(a, 2, "track", ASK("2"));
	expect(a, "[1,2,null,{*'throttled',*'retry_in_ms':250}]");
	advance(100);
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{}}");
	advance(150);
	peer_close(c);
	server_reply(expect_call("t", CALL("2")), true, "{}");
	advance(10000);
	expect_no_frame();
}
END_TEST

START_TEST(throttled_twice)
{
	shown();
	peer_ask(a, 2, "track", ASK("2"));
	expect(a, "[1,2,null,{*'throttled',*'retry_in_ms':250}]");
	advance(100);
	peer_ask(a, 3, "track", ASK("2"));
	expect(a, "[1,3,null,{*'throttled',*'retry_in_ms':150}]");
	/* Back to what the server has: the call would be idle, and still the answer is true. */
	peer_ask(a, 4, "track", ASK("1"));
	expect(a, "[1,4,null,{*'throttled',*");
	advance(150);
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect_no_frame();
}
END_TEST

START_TEST(twenty_in_a_second)
{
	struct line *last = NULL;
	unsigned n_calls = 0;
	char params[100];

	shown();
	for (unsigned n = 2; n <= 21; n++) {
		snprintf(params, sizeof(params), "{'topic':'t','state':{'n':%u}}", n);
		peer_ask(a, n, "track", params);
		advance(50);
		server_serve();
	}
	advance(8000);
	server_serve();
	for (size_t i = 0; i < rig.frames.n; i++) {
		if (strcmp(rig.frames.at[i].event, "presence") != 0)
			continue;
		last = &rig.frames.at[i];
		n_calls++;
	}
	ck_assert_msg(text_matches("*" CALL("21") "]", last->text), "%s", last->text);
	ck_assert_uint_le(n_calls, 4);
	ck_assert_uint_eq(a->n_asked, 0);
}
END_TEST

START_TEST(queued)
{
	peer_ask(a, 1, "track", "{'topic':'t','state':{'n':1},'timeout_ms':100}");
	advance(99);
	expect_nothing(a);
	advance(1);
	expect(a, "[1,1,null,{'outcome':'queued','key':'*','text':*}]");
	server_join("t");
	expect_call("t", CALL("1"));
	/* Given to the server, no answer: neither. */
	peer_ask(a, 2, "track", "{'topic':'t','state':{'n':1},'timeout_ms':0}");
	advance(0);
	expect(a, "[1,2,null,{'outcome':'queued',*");
	advance(SLOT_CALL_MS - 1);
	expect_no_frame();
	/* Without an answer it is asked again. */
	advance(1);
	peer_ask(a, 3, "track", ASK("1"));
	expect_nothing(a);
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[1,3,null,{'outcome':'acked',*");
}
END_TEST

START_TEST(replaced)
{
	peer_ask(a, 1, "track", ASK("1"));
	peer_ask(a, 2, "track", ASK("2"));
	expect(a, "[1,1,null,{'outcome':'replaced',*");
	server_join("t");
	peer_ask(a, 3, "track", ASK("3"));
	expect(a, "[1,2,null,{'outcome':'replaced',*");
	server_reply(expect_call("t", CALL("2")), true, "{}");
	/* The answer is to an older state. */
	expect(a, "[1,3,null,{*'throttled',*'retry_in_ms':250}]");
	peer_ask(a, 4, "track", ASK("4"));
	expect(a, "[1,4,null,{*'throttled',*");
	peer_ask(a, 5, "untrack", "{'chan':1}");
	expect(a, "[1,5,null,{}]");
	expect_call("t", UNTRACK);
	peer_ask(a, 6, "untrack", "{'topic':'t'}");
	expect(a, "[1,6,[206,'not_subscribed',*],null]");
	peer_ask(a, 7, "untrack", "{'chan':1}");
	expect(a, "[1,7,[206,'not_subscribed',*],null]");
	peer_ask(a, 8, "untrack", "{'topic':'unheard of'}");
	expect(a, "[1,8,[206,'not_subscribed',*],null]");
	peer_ask(a, 9, "untrack", "{}");
	expect(a, "[1,9,[200,'bad_request',*],null]");
}
END_TEST

START_TEST(untracked_while_waiting)
{
	peer_ask(a, 1, "track", ASK("1"));
	peer_ask(a, 2, "untrack", "{'topic':'t'}");
	expect(a, "[1,1,null,{'outcome':'replaced',*");
	expect(a, "[1,2,null,{}]");
	server_join("t");
	expect_no_frame();
	advance(2000);
	advance(30000);
	expect_frame("*'phx_leave'*");
}
END_TEST

START_TEST(denied)
{
	peer_ask(a, 1, "track", ASK("1"));
	server_join("t");
	server_reply(expect_call("t", CALL("1")), false, "{'reason':'no rights'}");
	expect(a, "[1,1,null,{'outcome':'denied','key':'*','text':'no rights'}]");
	peer_ask(a, 2, "untrack", "{'topic':'t'}");
	expect(a, "[1,2,[206,*");
	expect_no_frame();
	/* Rights change: asked again when somebody asks. */
	advance(1000);
	peer_ask(a, 3, "track", ASK("1"));
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[1,3,null,{'outcome':'acked',*");
	/* Refused after the answer: it is told, and what the server still shows is taken away. */
	peer_ask(a, 4, "track", ASK("2"));
	expect(a, "[1,4,null,{*'throttled',*");
	advance(1000);
	server_reply(expect_call("t", CALL("2")), false, "{}");
	expect(a, "[2,'error',{'method':'track','chan':1,'topic':'t','private':*,'error':[300,'"
		  "rejected',*]}]");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

/* Who was taken away leaves nothing behind that would have to be taken away again. */
START_TEST(denied_after_another)
{
	struct fake_peer *b = peer_ready();

	shown();
	peer_close(a);
	server_reply(expect_call("t", UNTRACK), true, "{}");
	advance(5000);
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	server_serve();
	advance(1000);
	server_serve();
	expect(b, "[1,1,*");
	peer_ask(b, 2, "track", ASK("1"));
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(b, "[1,2,null,{'outcome':'acked',*");
	peer_ask(b, 3, "untrack", "{'topic':'t'}");
	expect(b, "[1,3,null,{}]");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	advance(CALLS_WINDOW_MS);
	peer_ask(b, 4, "track", ASK("1"));
	server_reply(expect_call("t", CALL("1")), false, "{}");
	expect(b, "[1,4,null,{'outcome':'denied',*");
	expect_no_frame();
}
END_TEST

/* No answer to the first call: it may have been heard, so a refusal of the next one leaves it. */
START_TEST(denied_after_silence)
{
	peer_ask(a, 1, "track", ASK("1"));
	server_join("t");
	expect_call("t", CALL("1"));
	advance(SLOT_CALL_MS);
	server_reply(expect_call("t", CALL("1")), false, "{'reason':'no'}");
	expect(a, "[1,1,null,{'outcome':'denied',*");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	advance(10000);
	expect_no_frame();
}
END_TEST

/* The server refuses to take it away: not asked for ever, and the next one is not refused for it.
 */
START_TEST(untrack_refused)
{
	struct fake_peer *b = peer_ready();

	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	server_join("t");
	expect(b, "[1,1,*");
	peer_ask(a, 1, "track", ASK("1"));
	server_reply(expect_call("t", CALL("1")), true, "{}");
	peer_close(a);
	peer_ask(b, 2, "track", ASK("2"));
	server_reply(expect_call("t", UNTRACK), false, "{}");
	expect(b, "[1,2,null,{*'throttled',*");
	advance(1000);
	server_reply(expect_call("t", CALL("2")), true, "{}");
	expect(b, "[2,'track',{*'outcome':'acked'}]");
	expect_nothing(b);
	peer_ask(b, 3, "untrack", "{'topic':'t'}");
	expect(b, "[1,3,null,{}]");
	server_reply(expect_call("t", UNTRACK), false, "{}");
	advance(60000);
	expect_no_frame();
}
END_TEST

START_TEST(rejected_channel)
{
	peer_ask(a, 1, "track", "{'topic':'t','private':true,'state':{}}");
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: no'}");
	expect(a, "[1,1,[300,'rejected','Unauthorized: no',null],null]");
	peer_ask(a, 2, "track", "{'topic':'t','private':true,'state':{}}");
	expect(a, "[1,2,[300,'rejected','Unauthorized: no',null],null]");
	advance(JOIN_REJECTED_MS);
	/* Later it is asked again; then who was answered before is told unasked. */
	peer_ask(a, 3, "track", "{'topic':'t','private':true,'state':{},'timeout_ms':0}");
	advance(0);
	expect(a, "[1,3,null,{'outcome':'queued',*");
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: no'}");
	expect(a, "[2,'error',{'method':'track','chan':*,'topic':'t','private':*,'error':[300,'"
		  "rejected',"
		  "'Unauthorized: no',null]}]");
	peer_ask(a, 4, "untrack", "{'topic':'t','private':true}");
	expect(a, "[1,4,[206,*");
	advance(JOIN_REJECTED_MS);
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

/* ---- the end ---- */

START_TEST(dead_peer)
{
	static const unsigned pauses[] = { 250, 1000, 4000 };
	char params[100];

	shown();
	for (unsigned i = 0; i < (unsigned)_i; i++) {
		advance(pauses[i]);
		snprintf(params, sizeof(params), "{'topic':'t','state':{'m':%u}}", i);
		peer_ask(a, i + 2, "track", params);
		server_reply(expect_frame("[*,'presence',*"), true, "{}");
		expect(a, "[1,*'acked',*");
	}
	/* Something may be held back, too. */
	peer_ask(a, 100, "track", ASK("7"));
	expect(a, "[1,100,null,{*'throttled',*");
	peer_close(a);
	server_reply(expect_call("t", UNTRACK), true, "{}");
	expect_no_frame();
	advance(60000);
	server_serve();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

/* It dies while its call is on the way: that is not waited for. */
START_TEST(dead_peer_in_flight)
{
	struct line call;

	peer_ask(a, 1, "track", ASK("1"));
	server_join("t");
	call = *expect_call("t", CALL("1"));
	peer_close(a);
	server_reply(&call, _i == 0, "{}");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	expect_no_frame();
}
END_TEST

START_TEST(too_large_for_the_server)
{
	struct fake_peer *b = peer_ready();
	bool answered = _i;
	struct line join;

	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	join = *server_join("t");
	expect(b, "[1,1,*");
	peer_ask(a, 1, "track", "{'topic':'t','state':{'n':1},'timeout_ms':100}");
	expect_call("t", CALL("1"));
	if (answered) {
		advance(100);
		expect(a, "[1,1,null,{'outcome':'queued',*");
	}
	server_close(&join, "Track message size exceeded");
	if (answered)
		expect(a,
		       "[2,'error',{'method':'track','chan':1,'topic':'t','private':false,'error':"
		       "[203,'bad_payload','Track message size exceeded',null]}]");
	else
		expect(a, "[1,1,[203,'bad_payload','Track message size exceeded',null],null]");
	expect(b, "[2,'channel',{*'rejoining','code':'track_too_big',*");
	advance(5000);
	server_join("t");
	advance(5000);
	expect_no_frame();
}
END_TEST

START_TEST(too_many_calls_for_the_server)
{
	shown();
	server_close(&rig.frames.at[0], "Client presence rate limit exceeded");
	expect(a, "[2,'track',{*'outcome':'queued','text':'Client presence rate *");
	advance(29999);
	expect_no_frame();
	advance(1001);
	server_join("t");
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[2,'track',{*'outcome':'acked'}]");
	expect_nothing(a);
}
END_TEST

/* The link has no room: the last state follows. */
START_TEST(link_without_room)
{
	peer_ask(a, 1, "track", ASK("1"));
	rig.send_result = 1;
	server_reply(expect_frame("*'phx_join'*"), true, "{}");
	advance(1000);
	peer_ask(a, 2, "track", ASK("2"));
	expect(a, "[1,1,null,{'outcome':'replaced',*");
	rig.send_result = 0;
	advance(LINK_BUSY_RETRY_MS);
	server_reply(expect_call("t", CALL("2")), true, "{}");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	expect_no_frame();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_track");
	TCase *t = tcase_create("track");

	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, acked);
	tcase_add_test(t, made_key);
	tcase_add_test(t, tracked_again);
	tcase_add_test(t, throttled);
	tcase_add_test(t, throttled_while_a_rejoin_is_planned);
	tcase_add_test(t, throttled_twice);
	tcase_add_test(t, twenty_in_a_second);
	tcase_add_test(t, queued);
	tcase_add_test(t, replaced);
	tcase_add_test(t, untracked_while_waiting);
	tcase_add_test(t, denied);
	tcase_add_test(t, denied_after_another);
	tcase_add_test(t, denied_after_silence);
	tcase_add_test(t, untrack_refused);
	tcase_add_test(t, rejected_channel);
	tcase_add_loop_test(t, dead_peer, 0, 4);
	tcase_add_loop_test(t, dead_peer_in_flight, 0, 2);
	tcase_add_loop_test(t, too_large_for_the_server, 0, 2);
	tcase_add_test(t, too_many_calls_for_the_server);
	tcase_add_test(t, link_without_room);
	suite_add_tcase(s, t);
	return suite_run(s);
}
