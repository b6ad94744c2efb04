/* SPDX-License-Identifier: MIT */
/* Stories about what the server says of database changes: rows, refusals, interruptions. */
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

/* What comes between two moments of the story is missed, and told as such. */
static void expect_gap(struct fake_peer *p, const char *ids, int64_t from, int64_t to,
		       const char *cause)
{
	char pattern[400];

	snprintf(pattern, sizeof(pattern),
		 "[2,'gap',{'chan':1,'topic':'','from':%" PRId64 ",'to':%" PRId64
		 ",'cause':'%s','ids':[%s]}]",
		 from, to, cause, ids);
	expect(p, pattern);
}

START_TEST(connection_lost)
{
	struct line join = peer_flowing(a);
	int64_t from;

	server_numbered(&join, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	from = clock_wall(&rig.clock);
	advance(3000);
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(a, "[2,'connection',*");
	expect(a, "[2,'channel',{" HEAD "'state':'rejoining','postgres_changes':[{'id':1,"
		  "'state':'pending','code':'connection','text':*}]}]");
	advance(1500);
	server_open();
	expect(a, "[2,'connection',*");
	join = expect_feed(ON("t"));
	server_takes(&join, "12");
	expect(a, CHANNEL("joined", PENDING("1")));
	server_numbered(&join, "12", 2);
	expect_nothing(a);
	advance(700);
	server_system(&join, true, SUBSCRIBED);
	expect_gap(a, "1", from, clock_wall(&rig.clock), "connection");
	expect(a, CHANNEL("ready", READY("1")));
	server_numbered(&join, "12", 3);
	expect(a, TOLD("1", ROW("INSERT", "3")));
	expect_nothing(a);
}
END_TEST

START_TEST(channel_closed)
{
	struct line join = peer_flowing(a);
	int64_t from = clock_wall(&rig.clock);

	peer_ask(b, 1, "subscribe", ASK(T("t") "," T("t")));
	expect(b, "[1,1,null,*");
	server_ends(&join);
	expect(a, "[2,'channel',{" HEAD "'state':'rejoining',*'pending','code':'unknown','text':"
		  "'the server closed the channel; what to do: *'}]}]");
	expect(b, "[2,'channel',{*");
	server_numbered(&join, "11", 1);
	expect_nothing(a);
	advance(5000);
	join = server_feed(ON("t"), "11");
	expect(a, CHANNEL("joined", PENDING("1")));
	expect_gap(a, "1", from, clock_wall(&rig.clock), "unknown");
	expect(a, CHANNEL("ready", READY("1")));
	expect(b, CHANNEL("joined", PENDING("1")));
	expect_gap(b, "1", from, clock_wall(&rig.clock), "unknown");
	expect(b, CHANNEL("ready", READY("1")));
	/* Who comes now misses nothing. */
	peer_ask(a, 2, "subscribe", "{'topic':'x','postgres_changes':[" T("t") "]}");
	expect(a, "[1,2,null,{'chan':2,*'ready',*");
	server_numbered(&join, "11", 2);
	expect(a, TOLD("1", ROW("INSERT", "2")));
	expect_nothing(a);
}
END_TEST

/* The server's own trouble: it tries again by itself, and what comes until then is missed. */
START_TEST(trouble_that_passes)
{
	struct line join;
	int64_t from;

	peer_ask(a, 1, "subscribe", ASK(T("t")));
	join = expect_feed(ON("t"));
	server_takes(&join, "11");
	server_system(&join, false, TROUBLE);
	expect_nothing(a);
	advance(5000);
	server_system(&join, true, SUBSCRIBED);
	expect(a, ANSWER("1", "ready", READY("1")));
	from = clock_wall(&rig.clock);
	advance(1000);
	from = clock_wall(&rig.clock);
	server_system(&join, false, TROUBLE);
	expect(a, "[2,'channel',{" HEAD "'state':'joined','postgres_changes':[{'id':1,'state':"
		  "'pending','code':'" TROUBLE_CODE
		  "','text':'{:error, *timeouts*}; what to do: *'}]}]");
	server_numbered(&join, "11", 1);
	expect_nothing(a);
	server_system(&join, false, TROUBLE);
	advance(5000);
	expect_nothing(a);
	expect_no_frame();
	server_system(&join, true, SUBSCRIBED);
	expect_gap(a, "1", from, clock_wall(&rig.clock), TROUBLE_CODE);
	expect(a, CHANNEL("ready", READY("1")));
	server_numbered(&join, "11", 2);
	expect(a, TOLD("1", ROW("INSERT", "2")));
	expect_nothing(a);
}
END_TEST

START_TEST(refused)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("bad")));
	join = expect_feed(ON("bad"));
	server_takes(&join, "11");
	server_system(&join, false, BAD_TEXT);
	expect(a, "[1,1,null,{" HEAD "'state':'ready','postgres_changes':[{'id':1,'state':'error',"
		  "'code':'binding_refused','text':'Unable to subscribe to changes*'}]}]");
	server_left(&join);
	/* The refusal answers for a while. */
	advance(9000);
	peer_ask(b, 1, "subscribe", ASK(T("bad")));
	expect(b, "[1,1,null,{*'error','code':'binding_refused',*");
	expect_no_frame();
	advance(1000);
	peer_ask(b, 2, "subscribe", "{'topic':'x','postgres_changes':[" T("bad") "]}");
	expect(a, CHANNEL("joining", PENDING("1")));
	join = expect_feed(ON("bad"));
	server_takes(&join, "11");
	server_system(&join, true, SUBSCRIBED);
	expect(a, CHANNEL("joined", PENDING("1")));
	/* Nobody was ever told that they flow: no gap. */
	expect(a, CHANNEL("ready", READY("1")));
	expect(b, "[2,'channel',{'chan':1,*'joining',*");
	expect(b, "[2,'channel',{'chan':1,*'joined',*");
	expect(b, "[2,'channel',{'chan':1,*'ready',*");
	expect(b, "[1,2,null,{'chan':2,*'ready',*");
	server_numbered(&join, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	expect(b, TOLD("1", ROW("INSERT", "1")));
}
END_TEST

/* The table may be there one day: tried by itself, ever more seldom. */
START_TEST(refused_and_tried_again)
{
	static const unsigned pauses[] = { 60000, 120000, 240000, 480000, 600000, 600000 };
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("bad")));
	for (unsigned i = 0; i < sizeof(pauses) / sizeof(*pauses); i++) {
		join = expect_feed(ON("bad"));
		server_takes(&join, "11");
		server_system(&join, false, BAD_TEXT);
		server_left(&join);
		advance(pauses[i] - 1);
		expect_no_frame();
		advance(1);
	}
	join = server_feed(ON("bad"), "11");
	/* Then it is closed, and refused, and begins anew. */
	server_system(&join, false, BAD_TEXT);
	server_left(&join);
	advance(59999);
	expect_no_frame();
	advance(1);
	expect_feed(ON("bad"));
}
END_TEST

/* Somebody who had it ready, until the table left the publication. */
START_TEST(refused_later)
{
	struct line join = peer_flowing(a);
	int64_t from;

	advance(1000);
	from = clock_wall(&rig.clock);
	server_system(&join, false, BAD_TEXT);
	expect(a, "[2,'channel',{" HEAD "'state':'ready','postgres_changes':[{'id':1,'state':"
		  "'error','code':'binding_refused',*");
	server_left(&join);
	server_numbered(&join, "11", 1);
	advance(60000);
	join = expect_feed(ON("t"));
	expect(a,
	       "[2,'channel',{" HEAD "'state':'rejoining','postgres_changes':[" PENDING("1") "]}]");
	server_takes(&join, "11");
	expect(a, CHANNEL("joined", PENDING("1")));
	server_system(&join, true, SUBSCRIBED);
	expect_gap(a, "1", from, clock_wall(&rig.clock), "binding_refused");
	expect(a, CHANNEL("ready", READY("1")));
	expect_nothing(a);
}
END_TEST

START_TEST(who_gets_what)
{
	struct line join;

	peer_ask(
		a, 1, "subscribe",
		ASK("{'event':'INSERT','table':'t'},{'event':'UPDATE','table':'t'},{'table':'*'}"));
	join = server_feed("*", "1,2,3");
	expect(a, "[1,1,null,*");
	peer_ask(b, 1, "subscribe", ASK("{'event':'update','table':'t'}"));
	expect(b, "[1,1,null,*'ready'}]}]");
	/* An old server sends every type: sorted out here. One message, whoever it is for. */
	server_row(&join, "1,2,3", ROW("INSERT", "1"));
	expect(a, TOLD("1,3", ROW("INSERT", "1")));
	expect_nothing(b);
	server_row(&join, "3,2,1", ROW("UPDATE", "2"));
	expect(a, TOLD("3,2", ROW("UPDATE", "2")));
	expect(b, TOLD("3,2", ROW("UPDATE", "2")));
	server_row(&join, "1,2", ROW("DELETE", "3"));
	expect_nothing(a);
	server_row(&join, "2,3", ROW("DELETE", "3"));
	expect(a, TOLD("3", ROW("DELETE", "3")));
	server_row(&join, "", ROW("DELETE", "4"));
	server_row(&join, "4,99999999999,-1,'1',null,1.5", ROW("DELETE", "4"));
	expect_nothing(a);
	/* The same in two subscriptions of one client: still one message. */
	peer_ask(a, 2, "subscribe", "{'topic':'x','postgres_changes':[{'table':'*'}]}");
	expect(a, "[1,2,null,*'ready'}]}]");
	server_row(&join, "3", ROW("DELETE", "5"));
	expect(a, TOLD("3", ROW("DELETE", "5")));
	peer_ask(a, 3, "unsubscribe", "{'chan':1}");
	expect(a, "[1,3,null,{}]");
	server_row(&join, "3,1", ROW("INSERT", "6"));
	expect(a, TOLD("3", ROW("INSERT", "6")));
	expect_nothing(a);
	expect_nothing(b);
}
END_TEST

/* Numbers, broken texts and what servers say beside: passed on as they are. */
START_TEST(data_as_it_came)
{
	static const char data[] =
		"{'schema':'public','table':'t','type':'UPDATE','commit_timestamp':null,'columns':"
		"[{'name':'id','type':'int8'}],'record':{},'old_record':{'n':"
		"12345678901234567890123,"
		"'m':1.50},'errors':['Error 413: Payload Too Large'],'later':[[]]}";
	char pattern[600];
	struct line join = peer_flowing(a);

	server_row(&join, "11", data);
	snprintf(pattern, sizeof(pattern), "[2,'postgres_changes',{'ids':[1],'data':%s}]", data);
	expect(a, pattern);
}
END_TEST

START_TEST(undecodable_rows)
{
	static const char *const payloads[] = {
		"{}",
		"{'ids':[11]}",
		"{'ids':11,'data':{'type':'INSERT'}}",
		"{'data':{'type':'INSERT'}}",
		"{'ids':[11],'data':{'type':1}}",
		"{'ids':[11],'data':{}}",
		"{'ids':[11],'data':null}",
		"{'ids':[11],'data':[]}",
		"[]",
		"null",
		"{'ids':[11],'data':{'type':'INSERT','record':{'a':'\x80'}}}",
	};
	struct line join = peer_flowing(a);
	uint64_t n = 0;

	peer_ask(b, 1, "subscribe", "{'topic':'','postgres_changes':[" T("u") "]}");
	server_feed(ON("u"), "21");
	expect(b, "[1,1,null,*");
	for (unsigned i = 0; i < sizeof(payloads) / sizeof(*payloads); i++) {
		server_text("[null,null,'%s','postgres_changes',%s]", join.topic, payloads[i]);
		expect_gap(a, "1", clock_wall(&rig.clock), clock_wall(&rig.clock), "undecodable");
		n++;
		ck_assert_uint_eq(rig.hub->counters.undecoded, n);
	}
	server_numbered(&join, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	/* It is nobody else's. */
	expect_nothing(b);
}
END_TEST

/* Ids that are not those of what was asked for: nothing that comes could be told apart. */
START_TEST(replies_that_do_not_fit)
{
	static const char *const replies[] = {
		"{}",
		"{'postgres_changes':[]}",
		"{'postgres_changes':7}",
		"{'postgres_changes':[{'id':11}]}",
		"{'postgres_changes':[{'id':11},{'id':11}]}",
		"{'postgres_changes':[{'id':11},{}]}",
		"{'postgres_changes':[{'id':11},{'id':'12'}]}",
		"{'postgres_changes':[{'id':-1},{'id':2}]}",
		"{'postgres_changes':[{'id':1},{'id':2},{'id':3}]}",
		"{'postgres_changes':[[],[]]}",
		"[]",
		"null",
	};
	struct line join, half;

	for (unsigned i = 0; i < sizeof(replies) / sizeof(*replies); i++) {
		peer_ask(a, i + 10, "subscribe", ASK(T("t") "," T("u")));
		join = expect_feed(ON("t") "," ON("u"));
		server_reply(&join, true, replies[i]);
		server_system(&join, true, SUBSCRIBED);
		/* The same cure as for a binding that the server does not take. */
		server_reply(expect_frame("[*,'phx_leave',{}]"), true, "{}");
		half = expect_feed(ON("t"));
		server_takes(&half, "11");
		server_system(&half, true, SUBSCRIBED);
		expect_nothing(a);
		half = expect_feed(ON("u"));
		server_reply(&half, true, replies[i % 2]);
		server_reply(expect_frame("[*,'phx_leave',{}]"), true, "{}");
		expect(a,
		       "[1,*,null,{*'ready','postgres_changes':[{'id':*,'state':'ready'},{'id':*,"
		       "'state':'error','code':'unknown','text':*fit*}]}]");
		peer_ask(a, i + 100, "unsubscribe", "{'chan':1}");
		peer_ask(a, i + 200, "unsubscribe", "{'all':true}");
		a->got.next = a->got.n;
		advance(3000);
		server_serve();
		advance(3000);
		ck_assert_uint_eq(rig.hub->n_bindings, 0);
	}
}
END_TEST

/* What is said to a join before this one means nothing. */
START_TEST(words_of_the_join_before)
{
	struct line first = peer_flowing(a), second;

	server_ends(&first);
	expect(a, "[2,'channel',*");
	advance(5000);
	second = expect_feed(ON("t"));
	server_system(&first, true, SUBSCRIBED);
	server_system(&first, false, BAD_TEXT);
	expect_nothing(a);
	server_takes(&second, "11");
	expect(a, CHANNEL("joined", PENDING("1")));
	server_system(&first, true, SUBSCRIBED);
	server_system(&first, false, BAD_TEXT);
	server_system(&first, false, TROUBLE);
	server_ends(&first);
	expect_nothing(a);
	server_system(&second, true, SUBSCRIBED);
	expect(a, "[2,'gap',*");
	expect(a, CHANNEL("ready", READY("1")));
	server_system(&first, false, BAD_TEXT);
	server_ends(&first);
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

/* Other words of `system`, or none that can be read. */
START_TEST(other_words)
{
	struct line join = peer_flowing(a);

	server_text(
		"['%u',null,'%s','system',{'message':'x','status':'error','extension':'system'}]",
		(unsigned)join.ref, join.topic);
	server_text("['%u',null,'%s','system',{}]", (unsigned)join.ref, join.topic);
	server_text("['%u',null,'%s','system',null]", (unsigned)join.ref, join.topic);
	server_text("['%u',null,'%s','system',{'status':7,'extension':[]}]", (unsigned)join.ref,
		    join.topic);
	server_text("[null,null,'%s','other',{}]", join.topic);
	server_broadcast(join.topic + 9, "e", "1");
	expect_nothing(a);
	server_numbered(&join, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	/* An error without a text is one that passes. */
	server_text("['%u',null,'%s','system',{'status':'error'," PG "}]", (unsigned)join.ref,
		    join.topic);
	expect(a, "[2,'channel',{*'joined','postgres_changes':[{'id':1,'state':'pending',*");
	server_system(&join, true, "");
	expect(a, "[2,'gap',*");
	expect(a, CHANNEL("ready", READY("1")));
}
END_TEST

START_TEST(join_refused_for_now)
{
	struct line join;

	peer_ask(a, 1, "subscribe", "{'timeout_ms':500,'postgres_changes':[" T("t") "]}");
	join = expect_feed(ON("t"));
	server_reply(&join, false, "{'reason':'DatabaseLackOfConnections: x'}");
	expect_nothing(a);
	advance(500);
	expect(a, "[1,1,[102,'join_failed','DatabaseLackOfConnections: x',*],null]");
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_feeds, 0);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

START_TEST(join_refused_for_good)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("t")));
	join = expect_feed(ON("t"));
	server_reply(&join, false, "{'reason':'Unauthorized: no'}");
	expect(a, "[1,1,null,{" HEAD "'state':'ready','postgres_changes':[{'id':1,'state':'error',"
		  "'code':'unauthorized','text':'Unauthorized: no; what to do: *'}]}]");
	advance(10000);
	expect_no_frame();
	peer_ask(b, 1, "subscribe", ASK(T("t")));
	expect(a, "[2,'channel',{*'joining','postgres_changes':[{'id':1,'state':'pending',*");
	join = server_feed(ON("t"), "11");
	expect(a, CHANNEL("joined", PENDING("1")));
	expect(a, CHANNEL("ready", READY("1")));
	expect(b, ANSWER("1", "ready", READY("1")));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_changes_told");
	TCase *t = tcase_create("changes");

	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, connection_lost);
	tcase_add_test(t, channel_closed);
	tcase_add_test(t, trouble_that_passes);
	tcase_add_test(t, refused);
	tcase_add_test(t, refused_and_tried_again);
	tcase_add_test(t, refused_later);
	tcase_add_test(t, who_gets_what);
	tcase_add_test(t, data_as_it_came);
	tcase_add_test(t, undecodable_rows);
	tcase_add_test(t, replies_that_do_not_fit);
	tcase_add_test(t, words_of_the_join_before);
	tcase_add_test(t, other_words);
	tcase_add_test(t, join_refused_for_now);
	tcase_add_test(t, join_refused_for_good);
	suite_add_tcase(s, t);
	return suite_run(s);
}
