/* SPDX-License-Identifier: MIT */
/* Stories about joins: refusals, closed channels, lingering, pacing. */
#include "hub_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(refused_for_good)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t','private':true}");
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: go away'}");
	expect(a, "[1,1,[300,'rejected','Unauthorized: go away',null],null]");
	for (unsigned id = 2; id < 11; id++) {
		peer_ask(b, id, "subscribe", "{'topic':'t','private':true}");
		expect(b, "[1,*,[300,'rejected','Unauthorized: go away',null],null]");
		advance(1000);
	}
	expect_no_frame();
	/* Asking does not prolong it. */
	advance(1000);
	peer_ask(b, 100, "subscribe", "{'topic':'t','private':true}");
	server_join("t");
	expect(b, "[1,100,null,{'chan':2,*");
}
END_TEST

START_TEST(refusal_as_bare_text_and_none)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'1'}");
	server_reply(expect_frame("*'phx_join'*"), false, "'TopicNameRequired: x'");
	expect(a, "[1,1,[300,'rejected','TopicNameRequired: x',null],null]");
	peer_ask(a, 2, "subscribe", "{'topic':'2','timeout_ms':10}");
	server_reply(expect_frame("*'phx_join'*"), false, "{}");
	advance(10);
	expect(a, "[1,2,[102,'join_failed','the server refused the join without a reason',*");
}
END_TEST

START_TEST(transient_refusal)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	peer_ask(b, 1, "subscribe", "{'topic':'t','timeout_ms':1,'keep':true}");
	advance(1);
	expect(b, "[1,1,null,{'chan':1,*'state':'joining'}]");
	server_reply(expect_frame("*'phx_join'*"), false,
		     "{'reason':'RealtimeRestarting: in a moment'}");
	expect_nothing(a);
	expect(b, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'joining',"
		  "'code':'restarting','text':'RealtimeRestarting: in a moment; what to do: *',"
		  "'retry_in_ms':*}]");
	advance(999);
	expect_no_frame();
	advance(1001);
	server_join("t");
	expect(a, "[1,1,null,{'chan':1,*'state':'ready'}]");
	expect(b, "[2,'channel',{*'state':'ready'}]");
}
END_TEST

START_TEST(refused_while_nobody_wants_it)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	peer_close(a);
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'RealtimeRestarting: x'}");
	advance(60000);
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

START_TEST(public_and_private_of_one_name)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(a, "t", "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t','private':true}");
	expect(b, "[1,1,[207,'too_many',*topic*],null]");
	peer_ask(b, 2, "broadcast", "{'topic':'t','private':true,'event':'e','payload':1}");
	expect(b, "[1,2,[207,'too_many',*],null]");
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	expect_no_frame();
}
END_TEST

START_TEST(no_answer_to_a_join)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t','timeout_ms':60000}");
	expect_frame("['1','1',*'phx_join'*");
	advance(15000);
	/* Should the first one succeed late, it is undone before the next one. */
	expect_frame("['1',*,'realtime:t','phx_leave',{}]");
	expect_no_frame();
	advance(2001);
	server_join("t");
	expect(a, "[1,1,null,*");
}
END_TEST

START_TEST(closed_by_the_server)
{
	struct fake_peer *a = peer_ready();
	uint64_t second;

	peer_join(a, "t", "{}");
	server_text("['1',null,'realtime:t','system',{'status':'error','message':"
		    "'Too many messages per second','extension':'system','channel':'t'}]");
	expect_nothing(a);
	server_text("['1','1','realtime:t','phx_close',{}]");
	expect(a, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'rejoining',"
		  "'code':'message_rate','text':'Too many messages per second; what to do: *',"
		  "'retry_in_ms':*}]");
	advance(59999);
	expect_no_frame();
	advance(1001);
	second = server_join("t")->join_ref;
	expect(a, "[2,'gap',{'chan':1,'topic':'t','from':*,'to':*,'cause':'message_rate',*}]");
	expect(a, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	/* The close of the join before does not end this one. */
	server_text("['1','1','realtime:t','phx_close',{}]");
	server_text("['1','1','realtime:t','phx_error',{}]");
	server_text("[null,null,'realtime:t','phx_close',{}]");
	expect_nothing(a);
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	/* Nor does its reason explain the next one. */
	server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t','phx_close',{}]", second, second);
	expect(a, "[2,'channel',{*'code':'unknown','text':'the server closed the channel; what to "
		  "do: *',*");
}
END_TEST

START_TEST(closed_without_subscribers)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	peer_close(a);
	server_text("['1','1','realtime:t','phx_close',{}]");
	advance(60000);
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

START_TEST(odd_system_messages)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	server_text("['1',null,'realtime:t','system',null]");
	server_text("['1',null,'realtime:t','system',{'status':'error','message':7}]");
	server_text("['1',null,'realtime:t','system',{'status':'ok','message':'fine'}]");
	server_text("['1',null,'realtime:t','presence_state',{}]");
	server_text("['1','999','realtime:t','phx_reply',{'status':'ok','response':{}}]");
	server_text("['1','1','realtime:t','phx_reply',{'status':'error','response':{}}]");
	server_text("['x','-1','realtime:t','phx_close',{}]");
	expect(a, "[2,'system',{'chan':1,'topic':'t','extension':'','status':'ok','text':'fine'}]");
	expect_nothing(a);
	ck_assert_str_eq(TAILQ_FIRST(&a->peer->subs)->chan->join->system_text, "");
}
END_TEST

START_TEST(linger_and_leave)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(a, "t", "{}");
	peer_ask(a, 2, "unsubscribe", "{'chan':1}");
	advance(1999);
	expect_no_frame();
	/* Back within the two seconds: as if nothing had been. */
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	peer_ask(a, 4, "unsubscribe", "{'chan':1}");
	advance(1999);
	expect_no_frame();
	ck_assert_uint_eq(a->n_asked, 0);
	advance(1);
	expect_frame("['1',*,'realtime:t','phx_leave',{}]");
	/* Wanted again while the leave is on its way: rejoined behind its reply. */
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	expect_no_frame();
	expect_nothing(b);
	server_reply(&rig.frames.at[1], true, "{}");
	server_text("['1','1','realtime:t','phx_close',{}]");
	server_join("t");
	expect(b, "[1,1,null,{'chan':1,*'state':'ready'}]");
	/* And left for good. */
	peer_close(b);
	advance(2000);
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	ck_assert_uint_eq(rig.hub->n_chans, 0);
	advance(100000);
	expect_no_frame();
}
END_TEST

START_TEST(leave_without_a_reply)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	peer_ask(a, 2, "unsubscribe", "{'chan':1}");
	advance(2000);
	expect_frame("*'phx_leave'*");
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	advance(10000);
	server_join("t");
	ck_assert_uint_eq(a->n_asked, 0);
}
END_TEST

START_TEST(join_finds_no_room)
{
	struct fake_peer *a = peer_ready();

	rig.send_result = 1;
	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	advance(100);
	rig.send_result = -ENOMEM;
	advance(100);
	expect_no_frame();
	rig.send_result = 0;
	advance(10);
	server_join("t");
	expect(a, "[1,1,null,*");
}
END_TEST

static unsigned count_joins(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig.frames.n; i++)
		n += strcmp(rig.frames.at[i].event, "phx_join") == 0;
	return n;
}

START_TEST(pacing)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	char params[64];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(params, sizeof(params), "{'topic':'%u','timeout_ms':100000}", i);
		peer_ask(i % 2 ? a : b, 100 + i, "subscribe", params);
	}
	/* The ninety-first and those behind it found no room; nobody else is touched. */
	for (unsigned i = 90; i < 100; i++)
		expect(i % 2 ? a : b, "[1,*,[207,'too_many',*],null]");
	ck_assert_uint_eq(count_joins(), 10);
	advance(5000);
	ck_assert_uint_eq(count_joins(), 10); /* ten are unanswered: no more */
	server_serve();
	ck_assert_uint_eq(count_joins(), 20);
	server_serve();
	/* Now the bucket counts: ten in a second. */
	ck_assert_uint_eq(count_joins(), 20);
	for (unsigned i = 0; i < 10; i++) {
		advance(100);
		server_serve();
	}
	ck_assert_uint_eq(count_joins(), 30);
	for (unsigned i = 0; i < 70; i++) {
		advance(100);
		server_serve();
	}
	ck_assert_uint_eq(count_joins(), 90);
	ck_assert_uint_eq(a->n_asked + b->n_asked, 0);
}
END_TEST

static void with_two(struct hub_conf *conf)
{
	conf->max_channels = 2;
}

START_TEST(too_many_channels)
{
	struct fake_peer *a;

	rig_start(with_two);
	server_open();
	a = peer_ready();
	peer_ask(a, 1, "subscribe", "{'topic':'1'}");
	peer_ask(a, 2, "subscribe", "{'topic':'2'}");
	peer_ask(a, 3, "subscribe", "{'topic':'3'}");
	expect(a, "[1,3,[207,'too_many',*',null],null]");
	peer_ask(a, 4, "broadcast", "{'topic':'3','event':'e','payload':1}");
	expect(a, "[1,4,[207,'too_many',*',null],null]");
	rig_teardown();
}
END_TEST

START_TEST(lingering_channel_makes_room)
{
	struct fake_peer *a;

	rig_start(with_two);
	server_open();
	a = peer_ready();
	peer_join(a, "1", "{}");
	peer_join(a, "2", "{}");
	peer_ask(a, 3, "unsubscribe", "{'topic':'1'}");
	expect(a, "[1,3,null,{}]");
	expect_no_frame();
	/* Long before its linger is over, the channel that nobody wants goes. */
	peer_ask(a, 4, "subscribe", "{'topic':'3'}");
	server_reply(expect_frame("['1',*,'realtime:1','phx_leave',{}]"), true, "{}");
	server_join("3");
	expect(a, "[1,4,null,{'chan':3,*'ready'}]");
	peer_ask(a, 5, "subscribe", "{'topic':'4'}");
	expect(a, "[1,5,[207,'too_many',*',null],null]");
	rig_teardown();
}
END_TEST

START_TEST(long_reason_is_cut_between_characters)
{
	struct fake_peer *a = peer_ready();
	char response[400] = "{'reason':'Unauthorized:";
	size_t n = strlen(response);

	/* Two-byte characters: with one more byte in front the cut falls inside one. */
	for (unsigned odd = 0; odd < 2; odd++) {
		size_t at = n + odd;

		memset(response + n, 'x', odd);
		for (unsigned i = 0; i < 150; i++, at += 2)
			memcpy(response + at, "\u00e9", 2);
		memcpy(response + at, "'}", 3);
		peer_ask(a, 1 + odd, "subscribe", odd ? "{'topic':'b'}" : "{'topic':'a'}");
		server_reply(expect_frame("*'phx_join'*"), false, response);
		expect(a, "[1,*,[300,'rejected','Unauthorized:*\u00e9',null],null]");
	}
}
END_TEST

/* The server's advice for PrivateOnly is to ask for a private channel: that must work at once. */
START_TEST(private_after_a_refused_public)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	server_reply(expect_frame("*'phx_join'*"), false,
		     "{'reason':'PrivateOnly: This project only allows private channels'}");
	expect(a, "[1,1,[300,'rejected','PrivateOnly*");
	peer_ask(a, 2, "subscribe", "{'topic':'t','private':true}");
	server_join("t");
	expect(a, "[1,2,null,{'chan':2,'topic':'t','private':true,'state':'ready'}]");
}
END_TEST

START_TEST(leave_finds_no_room)
{
	struct fake_peer *a = peer_ready();
	static const int results[] = { 1, -ENOMEM };

	for (unsigned i = 0; i < 2; i++) {
		peer_ask(a, 10 + i, "subscribe", "{'topic':'t'}");
		server_serve();
		peer_ask(a, 20 + i, "unsubscribe", "{'topic':'t'}");
		rig.send_result = results[i];
		advance(2100);
		expect_no_frame();
		rig.send_result = 0;
		advance(10);
		server_reply(expect_frame("*'phx_leave'*"), true, "{}");
		ck_assert_uint_eq(rig.hub->n_chans, 0);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_join");
	TCase *t = tcase_create("online"), *own = tcase_create("own");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, rig_setup_online, rig_teardown);
	tcase_add_test(t, refused_for_good);
	tcase_add_test(t, refusal_as_bare_text_and_none);
	tcase_add_test(t, transient_refusal);
	tcase_add_test(t, refused_while_nobody_wants_it);
	tcase_add_test(t, public_and_private_of_one_name);
	tcase_add_test(t, no_answer_to_a_join);
	tcase_add_test(t, closed_by_the_server);
	tcase_add_test(t, closed_without_subscribers);
	tcase_add_test(t, odd_system_messages);
	tcase_add_test(t, linger_and_leave);
	tcase_add_test(t, leave_without_a_reply);
	tcase_add_test(t, join_finds_no_room);
	tcase_add_test(t, pacing);
	tcase_add_test(t, long_reason_is_cut_between_characters);
	tcase_add_test(t, private_after_a_refused_public);
	tcase_add_test(t, leave_finds_no_room);
	suite_add_tcase(s, t);
	tcase_add_test(own, too_many_channels);
	tcase_add_test(own, lingering_channel_makes_room);
	suite_add_tcase(s, own);
	return suite_run(s);
}
