/* SPDX-License-Identifier: MIT */
/* Stories about subscribing: one join for many, what is delivered to whom, and when. */
#include "hub_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(one_join_is_shared)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	peer_ask(b, 1, "subscribe", "{'topic':'t','private':false}");
	expect_nothing(a);
	server_reply(expect_frame("['1','1','realtime:t','phx_join',{'config':{'broadcast':{"
				  "'ack':true,'self':false},'presence':{'enabled':false,'key':'*'},"
				  "'postgres_changes':[],'private':false},'access_token':"
				  "'the-key'}]"),
		     true, "{'postgres_changes':[]}");
	expect_no_frame();
	expect(a, "[1,1,null,{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	expect(b, "[1,1,null,{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	/* Who comes later is answered at once. */
	peer_ask(c, 7, "subscribe", "{'topic':'t'}");
	expect(c, "[1,7,null,{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	expect_no_frame();
	server_broadcast("t", "e", "{'n':1}");
	for (unsigned i = 0; i < 3; i++) {
		expect(&rig.peers[i], "[2,'broadcast',{'chan':1,'topic':'t','event':'e',"
				      "'payload':{'n':1}}]");
		expect_nothing(&rig.peers[i]);
	}
}
END_TEST

START_TEST(private_is_said_in_the_join)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'p','private':true}");
	server_reply(expect_frame("['1','1','realtime:p','phx_join',{*'private':true},*"), true,
		     "{}");
	expect(a, "[1,1,null,{'chan':1,'topic':'p','private':true,'state':'ready'}]");
}
END_TEST

static void with_new_key(struct hub_conf *conf)
{
	rig.apikey = secret_free(rig.apikey);
	rig.apikey = secret_new("sb_publishable_x", 16);
	conf->apikey = rig.apikey;
}

START_TEST(sb_keys_stay_out_of_joins)
{
	rig_start(with_new_key);
	server_open();
	peer_ask(peer_ready(), 1, "subscribe", "{'topic':'t'}");
	expect_frame("['1','1','realtime:t','phx_join',{'config':{*,'private':false}}]");
	rig_teardown();
}
END_TEST

START_TEST(nothing_before_the_answer)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	server_broadcast("t", "e", "1");
	expect_nothing(a);
	server_drop(SESSION_FAULT_LOST, "gone");
	expect(a, "[2,'connection',{'state':'backoff',*");
	expect_nothing(a);
}
END_TEST

START_TEST(event_filters)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready(), *d = peer_ready();

	peer_join(a, "t", "{'events':['x','y']}");
	peer_join(b, "t", "{'events':['y','*']}");
	peer_join(c, "t", "{'events':[]}");
	peer_join(d, "t", "{'events':null,'self':null}");
	server_broadcast("t", "x", "1");
	server_broadcast("t", "X", "2");
	server_broadcast("t", "*", "3");
	server_text("[null,null,'realtime:t','broadcast',{'no':'event'}]");
	expect(a, "*'event':'x','payload':1}]");
	expect_nothing(a);
	expect_nothing(c);
	expect(b, "*'event':'x','payload':1}]");
	expect(b, "*'event':'X','payload':2}]");
	expect(b, "*'event':'*','payload':3}]");
	expect(b, "*'event':'','raw':{'no':'event'}}]");
	expect(d, "*'payload':1}]");
}
END_TEST

START_TEST(other_topics_are_not_for_us)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	server_broadcast("other", "e", "1");
	server_text("[null,null,'t','broadcast',{'event':'e','payload':1}]");
	server_text("[null,null,'phoenix','broadcast',{'event':'e','payload':1}]");
	server_text("[null,null,'realtime:','broadcast',{'event':'e','payload':1}]");
	expect_nothing(a);
}
END_TEST

START_TEST(change_while_joined)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{'events':['x']}");
	peer_ask(a, 2, "subscribe", "{'topic':'t','broadcast':{'events':['y']}}");
	expect(a, "[1,2,null,{'chan':1,*'state':'ready'}]");
	expect_no_frame();
	server_broadcast("t", "x", "1");
	server_broadcast("t", "y", "2");
	expect(a, "*'event':'y','payload':2}]");
	expect_nothing(a);
	ck_assert_uint_eq(a->peer->n_subs, 1);
}
END_TEST

START_TEST(change_while_waiting)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t','broadcast':{'events':['x']}}");
	peer_ask(a, 2, "subscribe", "{'topic':'t','broadcast':{'events':['y']}}");
	/* The first one is superseded and told how things stand. */
	expect(a, "[1,1,null,{'chan':1,*'state':'joining'}]");
	expect_nothing(a);
	server_join("t");
	expect(a, "[2,'channel',{'chan':1,*'state':'ready'}]");
	expect(a, "[1,2,null,{'chan':1,*'state':'ready'}]");
	server_broadcast("t", "x", "1");
	server_broadcast("t", "y", "2");
	expect(a, "*'event':'y','payload':2}]");
	expect_nothing(a);
}
END_TEST

START_TEST(timeout_without_keep)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	advance(14999);
	expect_nothing(a);
	advance(1);
	expect(a, "[1,1,[101,'timeout',*],null]");
	/* Given up: the answer of the server, if it comes, is followed by a leave. */
	ck_assert_uint_eq(a->peer->n_subs, 0);
	peer_ask(a, 2, "subscribe", "{'topic':'u','timeout_ms':0}");
	advance(0);
	expect(a, "[1,2,[101,'timeout',*],null]");
}
END_TEST

START_TEST(timeout_with_keep)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t','keep':true,'timeout_ms':100}");
	advance(100);
	expect(a, "[1,1,null,{'chan':1,'topic':'t','private':false,'state':'joining'}]");
	server_join("t");
	expect(a, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'ready'}]");
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	/* A change keeps the subscription even without `keep`. */
	server_drop(SESSION_FAULT_LOST, "x");
	expect(a, "[2,'channel',{*'state':'rejoining','code':'connection','text':*}]");
	expect(a, "[2,'connection',{'state':'backoff',*");
	peer_ask(a, 2, "subscribe", "{'topic':'t','timeout_ms':1}");
	advance(1);
	expect(a, "[1,2,null,{'chan':1,*'state':'rejoining'}]");
	ck_assert_uint_eq(a->peer->n_subs, 1);
}
END_TEST

START_TEST(unsubscribe_while_waiting)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	peer_ask(a, 2, "subscribe", "{'topic':'u'}");
	peer_ask(a, 3, "unsubscribe", "{'topic':'t'}");
	expect(a, "[1,1,[206,'not_subscribed',*],null]");
	expect(a, "[1,3,null,{}]");
	peer_ask(a, 4, "unsubscribe", "{'all':true}");
	expect(a, "[1,2,[206,'not_subscribed',*],null]");
	expect(a, "[1,4,null,{}]");
	/* The joins were on their way: they succeed, linger and are left. */
	server_serve();
	expect_nothing(a);
	advance(2000);
	expect_frame("['1','3','realtime:t','phx_leave',{}]");
	expect_frame("['2','4','realtime:u','phx_leave',{}]");
}
END_TEST

START_TEST(unsubscribe_by_chan_and_what_does_not_exist)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(a, "t", "{}");
	peer_ask(a, 2, "unsubscribe", "{'chan':2}");
	expect(a, "[1,2,[206,'not_subscribed',*],null]");
	peer_ask(a, 3, "unsubscribe", "{'topic':'t','private':true}");
	expect(a, "[1,3,[206,'not_subscribed',*],null]");
	peer_ask(b, 3, "unsubscribe", "{'chan':1}");
	expect(b, "[1,3,[206,'not_subscribed',*],null]");
	peer_ask(a, 4, "unsubscribe", "{}");
	expect(a, "[1,4,[200,'bad_request',*],null]");
	peer_ask(a, 5, "unsubscribe", "{'chan':1}");
	expect(a, "[1,5,null,{}]");
	server_broadcast("t", "e", "1");
	expect_nothing(a);
	peer_ask(a, 6, "unsubscribe", "{'all':true}");
	expect(a, "[1,6,null,{}]");
}
END_TEST

START_TEST(bad_requests)
{
	static const struct {
		const char *params, *answer;
	} rows[] = {
		{ "{}", "[200,'bad_request','topic*" },
		{ "{'topic':1}", "[200,'bad_request','topic*" },
		{ "{'topic':''}", "[201,'bad_topic',*" },
		{ "{'topic':'rtbridge:x'}", "[201,*" },
		{ "{'topic':'a\\u0000'}", "[201,*" },
		{ "{'topic':'a\\u0085'}", "[201,*" },
		{ "{'topic':'t','private':1}", "[200,'bad_request','private*" },
		{ "{'topic':'t','keep':'yes'}", "[200,'bad_request','keep*" },
		{ "{'topic':'t','wait':'soon'}", "[200,'bad_request','wait*" },
		{ "{'topic':'t','timeout_ms':-1}", "[200,'bad_request','timeout_ms*" },
		{ "{'topic':'t','timeout_ms':300001}", "[200,'bad_request','timeout_ms*" },
		{ "{'topic':'t','timeout_ms':1.5}", "[200,'bad_request','timeout_ms*" },
		{ "{'topic':'t','broadcast':true}", "[200,'bad_request','broadcast*" },
		{ "{'topic':'t','broadcast':{'self':1}}", "[200,'bad_request','broadcast.self*" },
		{ "{'topic':'t','broadcast':{'events':'x'}}", "[200,'bad_request',*events*" },
		{ "{'topic':'t','broadcast':{'events':['x',1]}}", "[202,'bad_event',*" },
		{ "{'topic':'t','broadcast':{'events':['x','']}}", "[202,'bad_event',*" },
	};
	struct fake_peer *a = peer_ready();
	char pattern[200];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		peer_ask(a, i, "subscribe", rows[i].params);
		snprintf(pattern, sizeof(pattern), "[1,%u,%s,null]", i, rows[i].answer);
		expect(a, pattern);
	}
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

START_TEST(limits_of_names)
{
	struct fake_peer *a = peer_ready();
	char params[1200], name[300];

	memset(name, 'x', sizeof(name));
	snprintf(params, sizeof(params), "{'topic':'%.241s'}", name);
	peer_ask(a, 1, "subscribe", params);
	expect(a, "[1,1,[201,*");
	snprintf(params, sizeof(params), "{'topic':'%.240s','broadcast':{'events':['%.256s']}}",
		 name, name);
	peer_ask(a, 2, "subscribe", params);
	expect(a, "[1,2,[202,*");
	snprintf(params, sizeof(params), "{'topic':'%.240s','broadcast':{'events':['%.255s']}}",
		 name, name);
	peer_ask(a, 3, "subscribe", params);
	server_serve();
	expect(a, "[1,3,null,*");
}
END_TEST

START_TEST(unknown_keys_are_ignored)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "subscribe", "{'topic':'t','future':{'a':[1]},'broadcast':{'x':1}}");
	server_serve();
	expect(a, "[1,1,null,*");
}
END_TEST

START_TEST(as_a_notification)
{
	struct fake_peer *a = peer_ready();

	peer_call(a, "subscribe", "{'topic':'t'}");
	server_serve();
	expect_nothing(a);
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	peer_call(a, "subscribe", "{'topic':''}");
	expect(a, "[2,'error',{'method':'subscribe','error':[201,*]}]");
	peer_call(a, "unsubscribe", "{'topic':'nobody'}");
	expect(a, "[2,'error',{'method':'unsubscribe','error':[206,*]}]");
	peer_call(a, "unsubscribe", "{'topic':'t'}");
	expect_nothing(a);
	peer_call(a, "subscribe", "{'topic':'u','timeout_ms':5}");
	expect_frame("*'phx_join'*");
	advance(5);
	expect(a, "[2,'error',{'method':'subscribe','error':[101,*]}]");
}
END_TEST

static void with_few(struct hub_conf *conf)
{
	conf->max_subscriptions = 2;
}

START_TEST(too_many_subscriptions)
{
	struct fake_peer *a;

	rig_start(with_few);
	server_open();
	a = peer_ready();
	peer_ask(a, 1, "subscribe", "{'topic':'1'}");
	peer_ask(a, 2, "subscribe", "{'topic':'2'}");
	peer_ask(a, 3, "subscribe", "{'topic':'3'}");
	expect(a, "[1,3,[207,'too_many',*],null]");
	ck_assert_uint_eq(rig.hub->n_chans, 2);
	peer_ask(a, 4, "unsubscribe", "{'topic':'1'}");
	expect(a, "[1,1,*");
	expect(a, "[1,4,*");
	peer_ask(a, 5, "subscribe", "{'topic':'3'}");
	server_serve();
	expect(a, "[1,2,null,*");
	expect(a, "[1,5,null,*");
	rig_teardown();
}
END_TEST

START_TEST(all_parts_of_a_message)
{
	struct fake_peer *a = peer_ready();
	static const char bad[] = "\4\12\1\0\1realtime:te{broken";
	static const char bad_event[] = "\4\12\1\0\1realtime:t\377{}";
	static const char bin[] = "\4\12\1\0\0realtime:te\1\2\3";

	peer_join(a, "t", "{}");
	server_text("[null,null,'realtime:t','broadcast',{'type':'broadcast','event':'e',"
		    "'payload':{'a':1},'meta':{'id':'7'},'more':2}]");
	expect(a, "[2,'broadcast',{'chan':1,'topic':'t','event':'e','payload':{'a':1},"
		  "'meta':{'id':'7'},'extra':{'more':2}}]");
	server_bytes(true, bin, sizeof(bin) - 1);
	expect(a, "*'event':'e','payload':{'bin':'010203'}}]");
	/* What cannot be decoded is delivered as bytes, under `payload`. */
	server_bytes(true, bad, sizeof(bad) - 1);
	expect(a, "*'event':'e','payload':{'bin':'7b62726f6b656e'},'undecodable':true}]");
	server_bytes(true, bad_event, sizeof(bad_event) - 1);
	expect(a, "*'event':'','payload':{'bin':'7b7d'},'undecodable':true}]");
	ck_assert_uint_eq(rig.hub->counters.undecoded, 2);
	ck_assert_uint_eq(rig.hub->counters.messages_in, 4);
}
END_TEST

START_TEST(change_of_a_refused_one)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	server_text("['1','1','realtime:t','system',{'status':'error','message':"
		    "'You no longer have permission','extension':'system'}]");
	server_text("['1','1','realtime:t','phx_close',{}]");
	expect(a, "[2,'channel',{'chan':1,*'state':'rejected','code':'unauthorized',*");
	/* The wish is kept, but the question has its answer. */
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	expect(a, "[1,2,[300,'rejected','You no longer have permission',null],null]");
	expect_nothing(a);
	server_drop(SESSION_FAULT_LOST, "x");
	expect(a, "[2,'channel',{*'state':'rejoining',*");
	expect(a, "[2,'connection',*");
	advance(60000);
	server_open();
	expect(a, "[2,'connection',{'state':'online',*");
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: no'}");
	expect(a, "[2,'channel',{*'state':'rejected',*");
	expect(a, "[1,3,[300,'rejected','Unauthorized: no',null],null]");
	expect_nothing(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_subscribe");
	TCase *t = tcase_create("online"), *own = tcase_create("own");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, rig_setup_online, rig_teardown);
	tcase_add_test(t, one_join_is_shared);
	tcase_add_test(t, private_is_said_in_the_join);
	tcase_add_test(t, nothing_before_the_answer);
	tcase_add_test(t, event_filters);
	tcase_add_test(t, other_topics_are_not_for_us);
	tcase_add_test(t, change_while_joined);
	tcase_add_test(t, change_while_waiting);
	tcase_add_test(t, timeout_without_keep);
	tcase_add_test(t, timeout_with_keep);
	tcase_add_test(t, unsubscribe_while_waiting);
	tcase_add_test(t, unsubscribe_by_chan_and_what_does_not_exist);
	tcase_add_test(t, bad_requests);
	tcase_add_test(t, limits_of_names);
	tcase_add_test(t, unknown_keys_are_ignored);
	tcase_add_test(t, as_a_notification);
	tcase_add_test(t, all_parts_of_a_message);
	tcase_add_test(t, change_of_a_refused_one);
	suite_add_tcase(s, t);
	tcase_add_test(own, sb_keys_stay_out_of_joins);
	tcase_add_test(own, too_many_subscriptions);
	suite_add_tcase(s, own);
	return suite_run(s);
}
