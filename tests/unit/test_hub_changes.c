/* SPDX-License-Identifier: MIT */
/* Stories about asking for database changes: requests, limits, answers, ends. */
#include "hub_changes_server.h"
#include "hub_changes_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *a, *b;

static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
	b = peer_ready();
}

START_TEST(from_asking_to_the_end)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("t")));
	join = expect_feed(ON("t"));
	expect_nothing(a);
	server_takes(&join, "11");
	/* Nothing was promised before the server says that they flow. */
	server_numbered(&join, "11", 0);
	expect_nothing(a);
	server_system(&join, true, SUBSCRIBED);
	expect(a, ANSWER("1", "ready", READY("1")));
	server_numbered(&join, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	server_row(&join, "11", "{'type':'DELETE','old_record':{'id':5}}");
	expect(a, TOLD("1", "{'type':'DELETE','old_record':{'id':5}}"));
	expect_nothing(b);
	/* Said again, after a change of the token: no news. */
	server_system(&join, true, SUBSCRIBED);
	expect_nothing(a);
	peer_ask(a, 2, "unsubscribe", "{'chan':1}");
	expect(a, "[1,2,null,{}]");
	server_numbered(&join, "11", 2);
	expect_nothing(a);
	advance(1999);
	expect_no_frame();
	advance(1);
	server_left(&join);
	ck_assert_uint_eq(rig.hub->n_feeds, 0);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
	expect_no_frame();
}
END_TEST

START_TEST(answered_when_joined)
{
	struct line join;

	peer_ask(a, 1, "subscribe",
		 "{'topic':'name','wait':'joined','postgres_changes':[" T("t") "]}");
	join = expect_feed(ON("t"));
	expect_nothing(a);
	server_takes(&join, "11");
	expect(a, "[1,1,null,{'chan':1,'topic':'name','private':false,'state':'joined',"
		  "'postgres_changes':[" PENDING("1") "]}]");
	server_numbered(&join, "11", 1);
	expect_nothing(a);
	server_system(&join, true, SUBSCRIBED);
	/* What never flowed was never interrupted: no gap. */
	expect(a, "[2,'channel',{'chan':1,'topic':'name','private':false,'state':'ready',"
		  "'postgres_changes':[" READY("1") "]}]");
	expect_nothing(a);
	server_numbered(&join, "11", 2);
	expect(a, TOLD("1", ROW("INSERT", "2")));
}
END_TEST

/* Said in many ways, it is the same. */
START_TEST(equal_bindings)
{
	struct line join;

	peer_ask(a, 1, "subscribe",
		 "{'postgres_changes':[{'event':'insert','schema':'public','table':'t'},"
		 "{'table':'t','schema':'public','filter':'','select':[],'event':'INSERT'},"
		 "{'schema':'public','table':'t','event':'InSeRt','filter':null,'select':null},"
		 "{'schema':'*'}]}");
	join = server_feed("{'event':'INSERT','schema':'public','table':'t'},"
			   "{'event':'*','schema':'*'}",
			   "11,12");
	expect(a, ANSWER("1", "ready", READY("1") "," READY("1") "," READY("1") "," READY("2")));
	server_numbered(&join, "12,11,11,12", 1);
	expect(a, TOLD("2,1", ROW("INSERT", "1")));
	expect_nothing(a);
	/* And another client's is the same. */
	peer_ask(b, 1, "subscribe", ASK("{'schema':'public','table':'t','event':'iNSERT'}"));
	expect(b, "[1,1,null,{'chan':1,*'state':'ready','postgres_changes':[" READY("1") "]}]");
	expect_no_frame();
	server_numbered(&join, "11", 2);
	expect(a, TOLD("1", ROW("INSERT", "2")));
	expect(b, TOLD("1", ROW("INSERT", "2")));
	server_ends(&join);
	/* Told once, though asked three times. */
	expect(a, "[2,'channel',{*'postgres_changes':[{'id':1,*},{'id':2,*}]}]");
}
END_TEST

/* All that a binding may have goes to the server as it was said. */
START_TEST(what_is_sent)
{
	peer_ask(a, 1, "subscribe",
		 ASK("{'event':'update','schema':'public','table':'t','filter':'a=eq.x,b=in.(1,2)',"
		     "'select':['id','a'],'later':1}"));
	expect_feed("{'event':'UPDATE','schema':'public','table':'t','filter':'a=eq.x,b=in.(1,2)',"
		    "'select':['id','a']}");
	peer_ask(a, 2, "subscribe", "{'topic':'x','postgres_changes':[{'table':'*'}]}");
	expect_feed("{'event':'*','table':'*'}");
	/* As if absent. */
	peer_ask(a, 3, "subscribe", "{'topic':'y','postgres_changes':[]}");
	expect_frame("[*,*,'realtime:y','phx_join',{*'postgres_changes':[],*");
	peer_ask(a, 4, "subscribe", "{'topic':'z','postgres_changes':null}");
	expect_frame("[*,*,'realtime:z','phx_join',{*'postgres_changes':[],*");
	expect_no_frame();
}
END_TEST

START_TEST(wrong_requests)
{
	static const char *const cases[][2] = {
		{ "1", "postgres_changes is an array*" },
		{ "{}", "postgres_changes is an array*" },
		{ "[1]", "postgres_changes[0]: a binding is a map" },
		{ "[{'table':'t'},[]]", "postgres_changes[1]: a binding is a map" },
		{ "[{}]", "postgres_changes[0]: a schema or a table is missing" },
		{ "[{'table':''}]", "postgres_changes[0]: table is 1 to 255 bytes*" },
		{ "[{'table':7}]", "postgres_changes[0]: table is 1 to 255 bytes*" },
		{ "[{'table':'a\\u0007b'}]", "postgres_changes[0]: table is*" },
		{ "[{'table':'t'},{'table':'t'},{'schema':[]}]",
		  "postgres_changes[2]: schema is*" },
		{ "[{'schema':'s','filter':'a=eq.1'}]", "postgres_changes[0]: a filter needs a*" },
		{ "[{'table':'t','filter':1}]", "postgres_changes[0]: filter is a string*" },
		{ "[{'table':'t','filter':'a\\nb'}]", "postgres_changes[0]: filter is a string*" },
		{ "[{'table':'t','event':'TRUNCATE'}]", "postgres_changes[0]: event is*" },
		{ "[{'table':'t','event':''}]", "postgres_changes[0]: event is*" },
		{ "[{'table':'t','event':1}]", "postgres_changes[0]: event is a string" },
		{ "[{'table':'t','select':'id'}]", "postgres_changes[0]: select is an array*" },
		{ "[{'table':'t','select':[1]}]", "postgres_changes[0]: a column's name*" },
		{ "[{'table':'t','select':['']}]", "postgres_changes[0]: a column's name*" },
	};
	char params[200], answer[300];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(params, sizeof(params), "{'postgres_changes':%s}", cases[i][0]);
		peer_ask(a, i, "subscribe", params);
		snprintf(answer, sizeof(answer), "[1,%u,[200,'bad_request','%s',null],null]", i,
			 cases[i][1]);
		expect(a, answer);
	}
	peer_ask(a, 100, "subscribe", "{'postgres_changes':[]}");
	expect(a, "[1,100,[200,'bad_request','topic is a string',null],null]");
	peer_ask(a, 101, "subscribe", "{'broadcast':{},'postgres_changes':[{'table':'t'}]}");
	expect(a, "[1,101,[200,'bad_request','topic is a string',null],null]");
	peer_ask(a, 102, "subscribe", "{'topic':7,'postgres_changes':[{'table':'t'}]}");
	expect(a, "[1,102,[200,'bad_request','topic is a string',null],null]");
	peer_ask(a, 103, "subscribe", "{'topic':'rtbridge:1','postgres_changes':[{'table':'t'}]}");
	expect(a, "[1,103,[201,'bad_topic',*");
	peer_ask(a, 104, "subscribe",
		 "{'topic':'','presence':{},'postgres_changes':[{'table':'t'}]}");
	expect(a, "[1,104,[201,'bad_topic',*");
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

static void binding_of_size(char *params, size_t size, size_t filter)
{
	int n = snprintf(params, size, "{'postgres_changes':[{'table':'t','filter':'a=eq.");

	memset(params + n, 'x', filter);
	snprintf(params + (size_t)n + filter, size - (size_t)n - filter, "'}]}");
}

START_TEST(sizes)
{
	/* {"event":"*","table":"t","filter":"a=eq."} */
	static const size_t around = 42;
	char params[10000];
	size_t n;

	binding_of_size(params, sizeof(params), 8192 - around);
	peer_ask(a, 1, "subscribe", params);
	expect_frame("[*,'phx_join',*");
	binding_of_size(params, sizeof(params), 8192 - around + 1);
	peer_ask(a, 2, "subscribe", params);
	expect(a, "[1,2,[200,'bad_request','postgres_changes[0]: *8 KiB*',null],null]");
	for (unsigned columns = 100; columns <= 101; columns++) {
		n = (size_t)snprintf(params, sizeof(params),
				     "{'topic':'c','postgres_changes':[{'schema':'s','table':'t',"
				     "'select':[");
		for (unsigned i = 0; i < columns; i++)
			n += (size_t)snprintf(params + n, sizeof(params) - n, "%s'c%u'",
					      i ? "," : "", i);
		snprintf(params + n, sizeof(params) - n, "]}]}");
		peer_ask(a, columns, "subscribe", params);
	}
	expect(a, "[1,101,[200,'bad_request','postgres_changes[0]: select is*100*',null],null]");
	expect_feed("*'c99']}");
	expect_no_frame();
}
END_TEST

/* Everything that was asked for, of the channel and of the database. */
START_TEST(with_a_channel)
{
	struct line join, feed;

	peer_ask(a, 1, "subscribe", "{'topic':'t','broadcast':{},'postgres_changes':[" T("t") "]}");
	join = *expect_frame("[*,*,'realtime:t','phx_join',{*'postgres_changes':[],*");
	feed = expect_feed(ON("t"));
	server_takes(&feed, "11");
	server_system(&feed, true, SUBSCRIBED);
	expect_nothing(a);
	server_reply(&join, true, "{'postgres_changes':[]}");
	expect(a, "[1,1,null,{'chan':1,'topic':'t','private':false,'state':'ready',"
		  "'postgres_changes':[" READY("1") "]}]");
	server_broadcast("t", "e", "1");
	server_numbered(&feed, "11", 1);
	expect(a, "[2,'broadcast',*");
	expect(a, TOLD("1", ROW("INSERT", "1")));
	/* The channel's end is none of the feed's, and the other way round. */
	server_ends(&join);
	expect(a,
	       "[2,'channel',{*'state':'rejoining','postgres_changes':[" READY("1") "],'code':*");
	server_numbered(&feed, "11", 2);
	expect(a, TOLD("1", ROW("INSERT", "2")));
	advance(5000);
	server_join("t");
	expect(a, "[2,'gap',{'chan':1,'topic':'t','from':*,'to':*,'cause':*',*}]");
	expect(a, "[2,'channel',{*'state':'ready','postgres_changes':[" READY("1") "]}]");
	server_ends(&feed);
	expect(a,
	       "[2,'channel',{*'state':'joined','postgres_changes':[{'id':1,'state':'pending',*");
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	/* Changed to the changes alone: the channel goes. */
	peer_ask(a, 2, "subscribe", "{'topic':'t','postgres_changes':[" T("t") "]}");
	server_broadcast("t", "e", "2");
	expect_nothing(a);
	advance(10000);
	expect_frame("[*,'" FEED_TOPIC "','phx_join',*");
}
END_TEST

/* What stays flows on while the rest changes. */
START_TEST(changed_without_a_hole)
{
	struct line first = peer_flowing(a), second;

	peer_ask(a, 2, "subscribe", ASK(T("u") "," T("t")));
	/* Nothing of the new one before the answer. */
	expect_nothing(a);
	server_numbered(&first, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	second = expect_feed(ON("u"));
	server_takes(&second, "21");
	server_numbered(&first, "11", 2);
	expect(a, TOLD("1", ROW("INSERT", "2")));
	server_system(&second, true, SUBSCRIBED);
	expect(a, ANSWER("2", "ready", READY("2") "," READY("1")));
	server_numbered(&first, "11", 3);
	expect(a, TOLD("1", ROW("INSERT", "3")));
	/* And away with the first one. */
	peer_ask(a, 3, "subscribe", ASK(T("u")));
	expect(a, ANSWER("3", "ready", READY("2")));
	server_numbered(&first, "11", 4);
	server_numbered(&second, "21", 5);
	expect(a, TOLD("2", ROW("INSERT", "5")));
	advance(1000);
	/* Back in time: it flows still. */
	peer_ask(a, 4, "subscribe", ASK(T("t")));
	expect(a, ANSWER("4", "ready", READY("1")));
	server_numbered(&first, "11", 6);
	expect(a, TOLD("1", ROW("INSERT", "6")));
	advance(2000);
	server_left(&second);
	advance(10000);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

START_TEST(times_that_are_over)
{
	struct line join;

	server_drop(SESSION_FAULT_LOST, "lost");
	expect(a, "[2,'connection',*");
	peer_ask(a, 1, "subscribe", "{'timeout_ms':500,'postgres_changes':[" T("t") "]}");
	peer_ask(b, 1, "subscribe",
		 "{'timeout_ms':500,'keep':true,'postgres_changes':[" T("u") "]}");
	expect(b, "[2,'connection',*");
	advance(499);
	expect_nothing(a);
	advance(1);
	expect(a, "[1,1,[101,'timeout',*");
	expect(b, "[1,1,null,{'chan':1,'topic':'','private':false,'state':'joining',"
		  "'postgres_changes':[" PENDING("2") "]}]");
	advance(1500);
	server_open();
	expect(b, "[2,'connection',*");
	/* Only what is still wanted is joined. */
	join = expect_feed(ON("u"));
	expect_no_frame();
	peer_ask(a, 2, "subscribe", "{'timeout_ms':100,'postgres_changes':[" T("u") "]}");
	server_takes(&join, "21");
	expect(b, CHANNEL("joined", PENDING("2")));
	advance(100);
	/* What is joined is kept. */
	expect(a, "[2,'connection',*");
	expect(a, ANSWER("2", "joined", PENDING("2")));
	server_system(&join, true, SUBSCRIBED);
	expect(a, CHANNEL("ready", READY("2")));
	expect(b, CHANNEL("ready", READY("2")));
	expect_nothing(a);
	expect_nothing(b);
}
END_TEST

START_TEST(called_off_while_joining)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("t")));
	join = expect_feed(ON("t"));
	peer_ask(a, 2, "unsubscribe", "{'topic':''}");
	expect(a, "[1,1,[206,'not_subscribed',*");
	expect(a, "[1,2,null,{}]");
	server_takes(&join, "11");
	server_system(&join, true, SUBSCRIBED);
	/* It flows: who asks for it now has it. */
	advance(1000);
	peer_ask(b, 1, "subscribe", ASK(T("t")));
	expect(b, "[1,1,null,{*'ready','postgres_changes':[" READY("1") "]}]");
	peer_ask(b, 2, "unsubscribe", "{'all':true}");
	expect(b, "[1,2,null,{}]");
	advance(2000);
	/* Wanted again while it is left. */
	peer_ask(b, 3, "subscribe", ASK(T("t")));
	expect_nothing(b);
	server_left(&join);
	join = server_feed(ON("t"), "11");
	expect(b, "[1,3,null,{*'ready','postgres_changes':[" READY("1") "]}]");
	server_numbered(&join, "11", 1);
	expect(b, TOLD("1", ROW("INSERT", "1")));
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

START_TEST(in_status)
{
	struct line join = peer_flowing(a), bad;

	server_numbered(&join, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	peer_ask(b, 1, "subscribe",
		 ASK(T("t") ",{'event':'delete','table':'bad','filter':'a=eq.1'}"));
	bad = expect_feed("{'event':'DELETE','table':'bad','filter':'a=eq.1'}");
	server_takes(&bad, "12");
	peer_ask(a, 8, "status", "{}");
	expect(a, "[1,8,null,{*'feeds':[{'feed':1,'identity':0,'link':0,'state':'ready','bindings':"
		  "1,'ready':true},"
		  "{'feed':2,'identity':0,'link':0,'state':'joined','bindings':1,'ready':false}],"
		  "'postgres_changes':[{'id':1,'identity':0,'binding':{'event':'*','schema':'"
		  "public','table':'t'},"
		  "'state':'ready','feed':1,'clients':2,'rows':1},{'id':2,'identity':0,'binding':{'"
		  "event':"
		  "'DELETE','table':'bad','filter':'a=eq.1'},'state':'pending','feed':2,"
		  "'clients':1,'rows':0}],'private_only':false*");
	server_system(&bad, false, BAD_TEXT);
	server_left(&bad);
	expect(b, "[1,1,null,*");
	peer_ask(a, 9, "status", "{}");
	expect(a,
	       "[1,9,null,{*'feeds':[{'feed':1,*'ready':true}],*{'id':2,*'state':'error','clients':"
	       "1,'rows':0,'code':'binding_refused','text':'Unable*'}],'private_only':false*");
}
END_TEST

/* A client, or all, may go at any moment; the teardown sees what is left. */
START_TEST(gone_in_each_state)
{
	struct line join;

	if (_i % 10 == 0)
		server_drop(SESSION_FAULT_LOST, "lost");
	peer_ask(a, 1, "subscribe", ASK(T("t") "," T("u")));
	if (_i % 10 > 1) {
		join = expect_feed(ON("t") "," ON("u"));
		if (_i % 10 == 2)
			server_reply(&join, false, "{'reason':'RealtimeRestarting: x'}");
		else if (_i % 10 == 3)
			server_reply(&join, false, "{'reason':'Unauthorized: no'}");
		else
			server_takes(&join, "11,12");
	}
	if (_i % 10 == 5)
		server_system(&join, true, SUBSCRIBED);
	else if (_i % 10 == 6)
		server_system(&join, false, BAD_TEXT);
	else if (_i % 10 == 7)
		server_system(&join, false, TROUBLE);
	else if (_i % 10 == 8)
		server_ends(&join);
	else if (_i % 10 == 9)
		server_drop(SESSION_FAULT_LOST, "lost");
	if (_i >= 10) {
		peer_close(a);
		advance(5000);
		server_serve();
		advance(20000);
		ck_assert_uint_eq(rig.hub->n_feeds, 0);
		ck_assert_uint_eq(rig.hub->n_bindings, 0);
		ck_assert_uint_eq(rig.hub->n_chans, 0);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_changes");
	TCase *t = tcase_create("changes");

	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, from_asking_to_the_end);
	tcase_add_test(t, answered_when_joined);
	tcase_add_test(t, equal_bindings);
	tcase_add_test(t, what_is_sent);
	tcase_add_test(t, wrong_requests);
	tcase_add_test(t, sizes);
	tcase_add_test(t, with_a_channel);
	tcase_add_test(t, changed_without_a_hole);
	tcase_add_test(t, times_that_are_over);
	tcase_add_test(t, called_off_while_joining);
	tcase_add_test(t, in_status);
	tcase_add_loop_test(t, gone_in_each_state, 0, 20);
	suite_add_tcase(s, t);
	return suite_run(s);
}
