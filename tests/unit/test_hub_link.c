/* SPDX-License-Identifier: MIT */
/* Stories about the connection to the server: what peers hear of its ends, and sync. */
#include "hub_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(one_notice_for_the_loss_and_one_for_its_end)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready();

	peer_join(a, "t", "{}");
	peer_join(b, "t", "{}");
	server_drop(SESSION_FAULT_LOST, "connection reset");
	expect(a, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'rejoining','code':"
		  "'connection','text':*}]");
	expect(a, "[2,'connection',{'state':'backoff','since':*,'reason':'lost','text':"
		  "'connection reset*','next_try_ms':*}]");
	/* Who subscribes meanwhile waits and hears nothing. */
	peer_ask(c, 1, "subscribe", "{'topic':'t','timeout_ms':300000}");
	for (unsigned i = 0; i < 3; i++) {
		advance(40000);
		server_drop(SESSION_FAULT_CONNECT, "refused");
	}
	advance(40000);
	server_open();
	expect(a, "[2,'connection',{'state':'online','since':*}]");
	server_join("t");
	expect(a, "[2,'gap',{'chan':1,'topic':'t','from':*,'to':*,'cause':'connection',*}]");
	expect(a, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	expect_nothing(a);
	for (unsigned i = 0; i < 5; i++)
		expect(b, "[2,*");
	expect_nothing(b);
	expect(c, "[2,'connection',{'state':'backoff',*");
	expect(c, "[2,'connection',{'state':'online',*");
	expect(c, "[1,1,null,{'chan':1,*'state':'ready'}]");
	expect_nothing(c);
}
END_TEST

START_TEST(another_word_for_the_trouble_is_news)
{
	struct fake_peer *a = peer_ready();

	server_drop(SESSION_FAULT_LOST, "x");
	expect(a, "[2,'connection',{'state':'backoff',*");
	advance(5000);
	server_drop(SESSION_FAULT_AUTH, "HTTP 401");
	expect(a, "[2,'connection',{'state':'auth_failed',*'reason':'auth',*");
	advance(3600000);
	server_drop(SESSION_FAULT_AUTH, "HTTP 401");
	expect_nothing(a);
}
END_TEST

START_TEST(stalled)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t','timeout_ms':300000}");
	expect_frame("*'phx_join'*");
	rig.mute = true;
	for (unsigned i = 0; i < 60 && a->got.n < 2; i++)
		advance(1000);
	expect(a, "[2,'connection',{'state':'stalled',*");
	rig.mute = false;
	for (unsigned i = 0; i < 300 && a->got.n < 4; i++)
		advance(1000);
	expect(a, "[2,'connection',{'state':'*");
}
END_TEST

START_TEST(replies_of_a_dead_epoch)
{
	struct fake_peer *a = peer_ready();
	const char *reply = "[\"1\",\"1\",\"realtime:t\",\"phx_reply\",{\"status\":\"ok\","
			    "\"response\":{}}]";
	uint64_t old = rig.links[0].epoch;

	peer_ask(a, 1, "subscribe", "{'topic':'t','timeout_ms':300000}");
	expect_frame("['1','1',*'phx_join'*");
	server_drop(SESSION_FAULT_LOST, "x");
	advance(2000);
	server_open();
	expect_frame("['1','1',*'phx_join'*");
	expect(a, "[2,'connection',*");
	expect(a, "[2,'connection',*");
	hub_on_frame(rig.hub, 0, old, false, reply, strlen(reply));
	turn();
	expect_nothing(a);
	server_text("['1','1','realtime:t','phx_reply',{'status':'ok','response':{}}]");
	expect(a, "[1,1,null,*");
}
END_TEST

START_TEST(refused_ones_are_tried_on_the_next_connection)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(a, "t", "{}");
	server_text("['1',null,'realtime:t','system',{'status':'error','message':"
		    "'Token has expired'}]");
	server_text("['1','1','realtime:t','phx_close',{}]");
	expect(a, "[2,'channel',{*'state':'rejected','code':'token_expired',*");
	advance(9999);
	expect_no_frame();
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	expect(b, "[1,1,[300,'rejected','Token has expired',null],null]");
	/* Later the server is asked anew, for rights change without a word. */
	advance(100000);
	expect_no_frame();
	peer_ask(b, 2, "subscribe", "{'topic':'t'}");
	server_reply(expect_frame("*'phx_join'*"), false,
		     "{'reason':'InvalidJWTToken: Token has expired 9 seconds ago'}");
	expect(b, "[1,2,[300,'rejected',*");
	expect(a, "[2,'channel',{*'state':'rejected','code':'token_expired',*");
	server_drop(SESSION_FAULT_LOST, "x");
	expect(a, "[2,'channel',{*'state':'rejoining',*");
	advance(2000);
	server_open();
	server_join("t");
	expect(a, "[2,'connection',*");
	expect(a, "[2,'connection',*");
	expect(a, "[2,'gap',{*'cause':'token_expired',*}]");
	expect(a, "[2,'channel',{*'state':'ready'}]");
}
END_TEST

START_TEST(link_lost_while_leaving)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(a, "t", "{}");
	peer_join(b, "u", "{}");
	peer_close(a);
	peer_ask(b, 2, "unsubscribe", "{'topic':'u'}");
	expect(b, "[1,2,*");
	advance(2000);
	expect_frame("*'realtime:t','phx_leave'*");
	expect_frame("*'realtime:u','phx_leave'*");
	peer_ask(b, 3, "subscribe", "{'topic':'u'}");
	server_drop(SESSION_FAULT_LOST, "x");
	expect(b, "[2,'connection',*");
	advance(2000);
	server_open();
	server_join("u");
	expect(b, "[2,'connection',*");
	expect(b, "[1,3,null,{'chan':2,*'ready'}]");
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_chans, 1);
}
END_TEST

START_TEST(silent_server)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	rig.mute = true;
	advance(60000);
	expect(a, "[2,'channel',{*'state':'rejoining',*");
	expect(a, "[2,'connection',{'state':'backoff','since':*,'reason':'heartbeat',*");
	ck_assert_uint_ge(rig.links[0].n_opened, 2);
}
END_TEST

/* ---- sync ---- */

START_TEST(sync_behind_earlier_requests)
{
	struct fake_peer *a = peer_ready();
	struct line *f;

	peer_ask(a, 1, "sync", "{}");
	expect(a, "[1,1,null,{}]");
	peer_join(a, "t", "{'self':true}");
	a->asked[1] = false;
	peer_ask(a, 2, "broadcast", "{'topic':'t','event':'e','payload':1}");
	f = expect_frame("[3,*");
	peer_ask(a, 3, "sync", "{}");
	peer_ask(a, 4, "subscribe", "{'topic':'u'}");
	peer_ask(a, 5, "sync", "{}");
	expect_nothing(a);
	server_reply(f, true, "{}");
	expect(a, "[2,'broadcast',*");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	expect(a, "[1,3,null,{}]");
	expect_nothing(a);
	server_join("u");
	expect(a, "[1,4,null,*");
	expect(a, "[1,5,null,{}]");
	peer_call(a, "sync", "{}");
	expect_nothing(a);
	peer_call(a, "sync", "{'timeout_ms':'x'}");
	expect(a, "[2,'error',{'method':'sync','error':[200,*]}]");
	peer_ask(a, 6, "sync", "{'timeout_ms':300001}");
	expect(a, "[1,6,[200,*],null]");
}
END_TEST

START_TEST(sync_timeout)
{
	struct fake_peer *a = peer_ready();

	rig.mute = true;
	peer_ask(a, 1, "sync", "{'upstream':true,'timeout_ms':100}");
	peer_ask(a, 2, "sync", "{}");
	peer_ask(a, 3, "sync", "{'upstream':true}");
	advance(99);
	expect_nothing(a);
	advance(1);
	expect(a, "[1,1,[101,'timeout',*],null]");
	expect(a, "[1,2,null,{}]");
	peer_close(a);
	rig.mute = false;
	server_drop(SESSION_FAULT_LOST, "x");
}
END_TEST

START_TEST(sync_upstream)
{
	struct fake_peer *a = peer_ready();
	unsigned n = rig.n_heartbeats;

	rig.mute = true;
	peer_ask(a, 1, "sync", "{'upstream':true}");
	ck_assert_uint_eq(rig.n_heartbeats, n + 1);
	expect_nothing(a);
	server_drop(SESSION_FAULT_LOST, "x");
	expect(a, "[2,'connection',*");
	rig.mute = false;
	advance(2000);
	server_open();
	expect(a, "[2,'connection',*");
	expect(a, "[1,1,null,{}]");
	/* Also when the link takes nothing at first. */
	rig.send_result = 1;
	peer_ask(a, 2, "sync", "{'upstream':true}");
	advance(100);
	expect_nothing(a);
	rig.send_result = 0;
	advance(10);
	expect(a, "[1,2,null,{}]");
}
END_TEST

START_TEST(syncs_are_limited)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	for (unsigned i = 0; i < PEER_SYNCS_MAX; i++)
		peer_ask(a, 2 + i, "sync", "{'timeout_ms':300000}");
	expect_nothing(a);
	peer_ask(a, 500, "sync", "{}");
	expect(a, "[1,500,[100,'busy','this client has as many unanswered syncs*],null]");
	peer_ask(b, 1, "sync", "{}");
	expect(b, "[1,1,null,{}]");
	server_join("t");
	expect(a, "[1,1,null,*");
	for (unsigned i = 0; i < PEER_SYNCS_MAX; i++)
		expect(a, "[1,*,null,{}]");
	peer_ask(a, 501, "sync", "{}");
	expect(a, "[1,501,null,{}]");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_link");
	TCase *t = tcase_create("online");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, rig_setup_online, rig_teardown);
	tcase_add_test(t, one_notice_for_the_loss_and_one_for_its_end);
	tcase_add_test(t, another_word_for_the_trouble_is_news);
	tcase_add_test(t, stalled);
	tcase_add_test(t, replies_of_a_dead_epoch);
	tcase_add_test(t, refused_ones_are_tried_on_the_next_connection);
	tcase_add_test(t, link_lost_while_leaving);
	tcase_add_test(t, silent_server);
	tcase_add_test(t, sync_behind_earlier_requests);
	tcase_add_test(t, sync_timeout);
	tcase_add_test(t, sync_upstream);
	tcase_add_test(t, syncs_are_limited);
	suite_add_tcase(s, t);
	return suite_run(s);
}
