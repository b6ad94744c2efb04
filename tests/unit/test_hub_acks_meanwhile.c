/* SPDX-License-Identifier: MIT */
/* Stories about acks that do not come while something else happens: clients go, the channel ends or
 * is joined anew, presence asks questions of its own, the daemon stops. */
#include "hub_fixture.h"
#include "hub_sends.h"

#include <stdio.h>
#include <string.h>

#define SEND(n)     "{'topic':'t','event':'e','payload':" #n ",'via':'ws'}"
#define ACKED(id)   "[1," #id ",null,{'outcome':'acked','via':'ws'}]"
#define DENIED(id)  "[1," #id ",null,{'outcome':'denied','via':'ws','text':'*'}]"
#define UNKNOWN(id) "[1," #id ",null,{'outcome':'unknown','via':'ws','text':'*'}]"
#define QUESTION    "[*,'realtime:t','presence',{}]"

static struct line *expect_payload(unsigned n)
{
	char pattern[100];

	snprintf(pattern, sizeof(pattern), "[3,*'realtime:t','e',%u]", n);
	return expect_frame(pattern);
}

static struct fake_peer *a, *b;

/* `a` sends, `b` listens. */
static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
	b = peer_ready();
	peer_join(b, "t", "{}");
}

/* ---- who goes, and what ends ---- */

START_TEST(the_sender_has_gone)
{
	struct fake_peer *c = peer_ready();
	struct line *f;

	peer_ask(a, 2, "broadcast", "{'topic':'t','event':'e','payload':1,'via':'ws','id':'x'}");
	expect_payload(1);
	peer_ask(a, 3, "broadcast", "{'topic':'t','event':'e','payload':2,'via':'ws','id':'y'}");
	f = expect_payload(2);
	peer_close(a);
	server_reply(f, true, "{}");
	expect(b, "*'payload':2}]");
	expect_nothing(b);
	expect_outcome(c, 1, "x", "null,{'outcome':'denied','via':'ws','text':'*'}");
	expect_outcome(c, 2, "y", "null,{'outcome':'acked','via':'ws'}");
	peer_ask(c, 3, "broadcast", "{'topic':'t','event':'e','payload':3,'via':'ws','id':'z'}");
	expect_payload(3);
	peer_close(c);
	advance(2000);
	server_reply(expect_frame(QUESTION), true, "{}");
	expect_outcome(b, 3, "z", "null,{'outcome':'denied','via':'ws','text':'*'}");
	expect_nothing(b);
}
END_TEST

/* All go; the channel stays until the outcome, and then for a while. */
START_TEST(all_have_gone)
{
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	peer_close(a);
	peer_close(b);
	advance(2000);
	server_reply(expect_frame(QUESTION), true, "{}");
	MUST(RB_EMPTY(&rig.hub->sends));
	advance(2000);
	server_reply(expect_frame("[*'phx_leave',{}]"), true, "{}");
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

/* By loop: the channel ends while the question is on its way, which is answered all the same or
 * not. */
START_TEST(the_channel_ends)
{
	struct line *q;

	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	advance(2000);
	q = expect_frame(QUESTION);
	server_text("['1','1','realtime:t','%s',{}]", _i % 2 ? "phx_error" : "phx_close");
	expect(a, UNKNOWN(2));
	if (_i / 2)
		server_reply(q, true, "{}");
	peer_ask(a, 3, "broadcast", SEND(2));
	while (rig.frames.next >= rig.frames.n || rig.frames.at[rig.frames.n - 1].taken)
		advance(10);
	MUST(rig.now < 1008000); /* the old question might still be answered */
	server_join("t");
	expect_payload(2);
	advance(1999);
	expect_no_frame();
	advance(1);
	server_reply(expect_frame(QUESTION), true, "{}");
	expect(a, DENIED(3));
	expect_nothing(a);
}
END_TEST

/* ---- joined anew by our own wish ---- */

/* What is owed is waited for, also for what the question brings. By loop: an ack or an answer. */
START_TEST(joined_anew)
{
	struct fake_peer *c = peer_ready();
	struct line *f, *q;

	peer_ask(a, 2, "broadcast", SEND(1));
	f = expect_payload(1);
	advance(1000);
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{}}");
	advance(500);
	/* It is to be joined anew: this waits for that. */
	peer_ask(a, 3, "broadcast", SEND(2));
	expect_no_frame();
	advance(500);
	q = expect_frame(QUESTION);
	expect_no_frame();
	advance(100);
	server_reply(_i ? f : q, true, "{}");
	if (_i)
		expect(a, ACKED(2));
	else
		expect(a, DENIED(2));
	/* No timer of its own is waited for. */
	advance(0);
	server_join("t");
	expect_frame(QUESTION); /* who is there, this time */
	server_reply(expect_payload(2), true, "{}");
	expect(a, ACKED(3));
	expect_nothing(a);
	ck_assert_uint_eq(peer_skip(b, "\"payload\":2}"), 1);
}
END_TEST

START_TEST(joined_anew_without_an_answer)
{
	struct fake_peer *c = peer_ready();
	struct line *q;

	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	advance(1000);
	peer_ask(c, 1, "subscribe", "{'topic':'t','presence':{}}");
	peer_ask(a, 3, "broadcast", SEND(2));
	expect_payload(2); /* a moment is left for others to wish for it, too */
	advance(1000);
	q = expect_frame(QUESTION);
	advance(1200);
	expect(a, UNKNOWN(2));
	expect(a, UNKNOWN(3));
	server_join("t");
	server_reply(q, true, "{}"); /* of the channel before */
	peer_ask(a, 4, "broadcast", SEND(3));
	server_reply(expect_frame(QUESTION), true, "{}"); /* who is there */
	server_reply(expect_payload(3), true, "{}");
	expect(a, ACKED(4));
	expect_nothing(a);
	advance(10000);
	expect_no_frame();
}
END_TEST

/* The question about who is there looks the same, and is another one. */
START_TEST(two_questions)
{
	struct fake_peer *c = peer_ready();
	struct line *room, *q;

	peer_ask(c, 1, "subscribe", "{'topic':'w','presence':{}}");
	server_join("w");
	room = expect_frame("[*'realtime:w','presence',{}]");
	peer_ask(a, 2, "broadcast", "{'topic':'w','event':'e','payload':1,'via':'ws'}");
	expect_frame("[3,*'realtime:w','e',1]");
	advance(2000);
	q = expect_frame("[*'realtime:w','presence',{}]");
	server_reply(room, true, "{}");
	expect(c, "[1,1,null,{*'presence':{'state':'denied',*");
	expect_nothing(a);
	server_reply(q, true, "{}");
	expect(a, DENIED(2));
	advance(10000);
	expect_no_frame();
	expect_nothing(c);
}
END_TEST

/* While it is shown by a tracker, whose calls are answered, too. */
START_TEST(beside_a_tracker)
{
	struct fake_peer *c = peer_ready();
	struct line *track;

	peer_ask(c, 1, "track", "{'topic':'w','key':'k','state':{'n':1}}");
	server_join("w");
	track = expect_frame("[*'presence',{*'track'*");
	server_reply(expect_frame("[*'realtime:w','presence',{}]"), true, "{}"); /* who is there */
	peer_ask(a, 2, "broadcast", "{'topic':'w','event':'e','payload':1,'via':'ws'}");
	expect_frame("[3,*'realtime:w','e',1]");
	server_reply(track, true, "{}"); /* asked before: no proof */
	expect_nothing(a);
	advance(2000);
	server_reply(expect_frame("[*'realtime:w','presence',{}]"), true, "{}");
	expect(a, DENIED(2));
	expect(c, "[1,1,null,{'outcome':'acked',*");
	expect_nothing(c);
}
END_TEST

/* A private channel that is back asks for what is stored, and is held until that is there: what is
 * sent waits, so that its copies come behind. By loop: the server says that it is all, or never. */
START_TEST(behind_stored_messages)
{
	struct fake_peer *c = peer_ready();
	struct line *q, *f;

	peer_ask(c, 1, "subscribe", "{'topic':'w','private':true}");
	server_serve();
	expect(c, "[1,1,null,*'ready'}]");
	server_drop(SESSION_FAULT_LOST, "gone");
	peer_ask(a, 2, "broadcast",
		 "{'topic':'w','private':true,'event':'e','payload':2,'via':'ws','ttl_ms':60000}");
	advance(1500);
	server_open();
	server_join("t");
	server_reply(expect_frame("[*'realtime:w','phx_join',{*'replay'*"), true, "{}");
	q = expect_frame("[*'realtime:w','presence',{}]");
	server_broadcast("w", "e", "1");
	peer_skip(c, "");
	advance(_i ? 9999 : 100);
	expect_no_frame();
	expect_nothing(c);
	if (_i)
		advance(1);
	else
		server_reply(q, true, "{}");
	expect(c, "[2,'gap',*");
	expect(c, "[2,'channel',*'ready'}]");
	expect(c, "*'payload':1}]");
	f = expect_frame("[3,*'realtime:w','e',2]");
	expect_no_frame();
	/* It has a question of its own, if need be. */
	advance(2000);
	q = expect_frame("[*'realtime:w','presence',{}]");
	server_reply(f, true, "{}");
	expect(c, "*'payload':2}]");
	peer_skip(a, "");
	ck_assert(!a->asked[2]);
	server_reply(q, true, "{}");
	expect_nothing(c);
}
END_TEST

/* The daemon stops: what is on its way has its outcome first. */
START_TEST(draining)
{
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	hub_drain(rig.hub, 5000);
	turn();
	advance(2000);
	ck_assert(!a->finished);
	server_reply(expect_frame(QUESTION), true, "{}");
	expect(a, "[2,'connection',*'draining'*");
	expect(a, DENIED(2));
	advance(100);
	expect_farewell(a, "shutdown", false);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_acks_meanwhile");
	TCase *t = tcase_create("meanwhile");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, the_sender_has_gone);
	tcase_add_test(t, all_have_gone);
	tcase_add_loop_test(t, the_channel_ends, 0, 4);
	tcase_add_loop_test(t, joined_anew, 0, 2);
	tcase_add_test(t, joined_anew_without_an_answer);
	tcase_add_test(t, two_questions);
	tcase_add_test(t, beside_a_tracker);
	tcase_add_loop_test(t, behind_stored_messages, 0, 2);
	tcase_add_test(t, draining);
	suite_add_tcase(s, t);
	return suite_run(s);
}
