/* SPDX-License-Identifier: MIT */
/* Stories about rules that become others while clients live. */
#include "hub_changes_server.h"
#include "hub_changes_text.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

#define ALL     "allow * read,write,presence topic *\nallow * read table *.*\n"
#define CHANGED "the access rules have changed, and do not allow it any more"

static struct acl *rules;
static struct fake_peer *a, *b;

static void with_rules(struct hub_conf *conf)
{
	with_links(conf);
	conf->acl = rules;
}

/* The hub has other rules from now on. */
static void reload(const char *lines)
{
	struct acl *old = rules;

	rules = rules_of(lines);
	hub_set_acl(rig.hub, rules);
	acl_free(old); /* nothing of them may be looked at any more */
	turn();
}

static void begin(void)
{
	rules = rules_of(ALL);
	rig_start(with_rules);
	server_open();
	rig.uid = 1001;
	a = peer_ready();
	rig.uid = 1002;
	b = peer_ready();
}

static void end(void)
{
	rig_teardown();
	rules = acl_free(rules);
}

/* The end of the subscription to t, chan 1. */
static void expect_end(struct fake_peer *p)
{
	expect(p, "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'rejected',"
		  "'code':'forbidden','text':'" CHANGED "'}]");
}

/* A reload that leaves the rules as they are takes nothing from those who have gone. */
START_TEST(sends_of_the_departed)
{
	for (int same = 0; same < 2; same++) {
		server_drop(SESSION_FAULT_LOST, "gone");
		rig.uid = 1001;
		a = peer_ready();
		peer_ask(a, 1, "broadcast",
			 same ? "{'topic':'t','event':'second','payload':1,'ttl_ms':60000}"
			      : "{'topic':'t','event':'first','payload':1,'ttl_ms':60000}");
		peer_close(a);
		if (!same)
			reload("deny user 7 read topic x\n" ALL);
		reload(ALL);
		advance(5000);
		server_open();
		server_serve();
		turn();
	}
	ck_assert_uint_eq(frames_with("first"), 0);
	ck_assert_uint_eq(frames_with("second"), 1);
}
END_TEST

START_TEST(what_may_stay_does)
{
	peer_join(a, "t", "{}");
	peer_shares(b, 1, "t");
	reload(ALL);
	expect_nothing(a);
	expect_nothing(b);
	expect_no_frame();
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',{'chan':1,*");
	expect(b, "[2,'broadcast',{'chan':1,*");
}
END_TEST

START_TEST(broadcasts_of_one)
{
	peer_join(a, "t", "{}");
	peer_shares(b, 1, "t");
	reload("deny user 1001 read topic t\n" ALL);
	expect_end(a);
	expect_nothing(b);
	expect_no_frame(); /* the channel stays for the others */
	server_broadcast("t", "e", "1");
	expect_nothing(a);
	expect(b, "[2,'broadcast',{'chan':1,*");
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	expect(a, "[1,2,[301,'forbidden',*,null],null]");
	peer_ask(a, 3, "unsubscribe", "{'chan':1}");
	expect(a, "[1,3,[206,'not_subscribed',*,null],null]");
	/* Allowed again: nothing comes back by itself, asking does it. */
	reload(ALL);
	expect_nothing(a);
	peer_shares(a, 4, "t");
}
END_TEST

START_TEST(last_one_leaves)
{
	peer_join(a, "t", "{}");
	reload("deny * read topic t\n" ALL);
	expect_end(a);
	advance(2000);
	expect_frame("[*'realtime:t','phx_leave',{}]");
}
END_TEST

/* A request that still waits is answered with what has become of it. */
START_TEST(while_joining)
{
	struct line f;

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	f = *expect_frame("[*'realtime:t','phx_join',*");
	reload("deny user 1001 read topic t\n" ALL);
	expect(a, "[1,1,[301,'forbidden','" CHANGED "',null],null]");
	expect_nothing(b);
	server_reply(&f, true, "{}");
	expect(b, "[1,1,null,{'chan':1,*'ready'}]");
	expect_nothing(a);
}
END_TEST

START_TEST(presence_of_one)
{
	rig.probes = true;
	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	server_join("t");
	server_text("['1',null,'realtime:t','presence_state',{}]");
	peer_skip(a, "");
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	expect(b, "[1,1,null,{'chan':1,*");
	reload("deny user 1001 presence topic t\n" ALL);
	peer_skip(b, "");
	ck_assert_uint_eq(peer_skip(a, "forbidden"), 1);
	server_text("[null,null,'realtime:t','presence_diff',{'joins':{'k':{'metas':[{'phx_ref':"
		    "'R'}]}},'leaves':{}}]");
	expect_nothing(a);
	expect(b, "[2,'presence',{'chan':1,*");
	peer_ask(a, 2, "presence", "{'chan':1}");
	expect(a, "[1,2,[206,*");
	/* Its broadcasts it may still have. */
	peer_shares(a, 3, "t");
}
END_TEST

START_TEST(trackers)
{
	struct line f;

	rig.probes = true;
	peer_ask(a, 1, "track", "{'topic':'t','state':{'n':1}}");
	f = *expect_frame("[*'realtime:t','phx_join',*");
	server_reply(&f, true, "{}");
	server_text("['%u',null,'realtime:t','presence_state',{}]", (unsigned)f.ref);
	server_reply(expect_frame("[*'presence',{*'n':1*"), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked',*");
	reload("deny * presence topic t\n" ALL);
	expect(a, "[2,'error',{'method':'track','chan':1,'topic':'t','private':false,'error':[301,"
		  "'forbidden','" CHANGED "',null]}]");
	expect_nothing(a);
	expect_frame("[*'presence',{'type':'presence','event':'untrack'*");
	peer_ask(a, 2, "track", "{'topic':'t','state':{'n':2}}");
	expect(a, "[1,2,[301,*");
	peer_ask(a, 3, "untrack", "{'topic':'t'}");
	expect(a, "[1,3,[206,*");
}
END_TEST

START_TEST(trackers_waiting)
{
	peer_ask(a, 1, "track", "{'topic':'t','state':{'n':1}}");
	expect_frame("[*'realtime:t','phx_join',*");
	reload("deny * presence topic t\n" ALL);
	expect(a, "[1,1,[301,'forbidden','" CHANGED "',null],null]");
	expect_nothing(a);
}
END_TEST

/* What waits for its channel would be sent by somebody who may not. */
START_TEST(sends_that_wait)
{
	struct line f;

	peer_ask(a, 1, "broadcast", "{'topic':'t','event':'e','payload':'mine'}");
	peer_ask(b, 1, "broadcast", "{'topic':'t','event':'e','payload':'its'}");
	f = *expect_frame("[*'realtime:t','phx_join',*");
	reload("deny user 1001 write topic t\n" ALL);
	expect(a, "[1,1,[301,'forbidden',*,null],null]");
	server_reply(&f, true, "{}");
	server_reply(expect_frame("[3,*'realtime:t','e','its']"), true, "{}");
	expect(b, "[1,1,null,{'outcome':'acked',*");
	expect_no_frame();
	ck_assert_uint_eq(frames_with("mine"), 0);
	peer_ask(a, 2, "broadcast", "{'topic':'t','event':'e','payload':'mine'}");
	expect(a, "[1,2,[301,*");
}
END_TEST

/* What was given to the connection before has its answer. */
START_TEST(sends_on_their_way)
{
	struct line f;

	peer_join(b, "t", "{}");
	peer_ask(a, 1, "broadcast", "{'topic':'t','event':'e','payload':1}");
	f = *expect_frame("[3,*'realtime:t','e',1]");
	reload("deny user 1001 write topic t\n" ALL);
	expect_nothing(a);
	server_reply(&f, true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','via':'ws'}]");
	expect(b, "[2,'broadcast',{*");
}
END_TEST

/* ---- database changes ---- */

#define FORBIDDEN(id) "{'id':" id ",'state':'error','code':'forbidden','text':*}"

START_TEST(one_table_of_two)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("t") "," T("u")));
	join = server_feed(ON("t") "," ON("u"), "11,12");
	expect(a, ANSWER("1", "ready", READY("1") "," READY("2")));
	peer_ask(b, 1, "subscribe", ASK(T("t")));
	expect(b, "[1,1,null,{*'ready'*");
	reload("deny user 1001 read table public.t\n" ALL);
	expect(a, CHANNEL("ready", FORBIDDEN("1") "," READY("2")));
	expect_nothing(b);
	server_row(&join, "11", "{'type':'INSERT','schema':'public','table':'t','record':{'n':1}}");
	expect_nothing(a);
	expect(b, "[2,'postgres_changes',{'ids':[1],*");
	server_row(&join, "12", "{'type':'INSERT','schema':'public','table':'u','record':{'n':2}}");
	expect(a, "[2,'postgres_changes',{'ids':[2],*");
	/* Asked anew it has no id. */
	peer_ask(a, 2, "subscribe", ASK(T("t") "," T("u")));
	expect(a, ANSWER("2", "ready", FORBIDDEN("0") "," READY("2")));
	reload(ALL);
	expect_nothing(a);
	peer_ask(a, 3, "subscribe", ASK(T("t") "," T("u")));
	expect(a, ANSWER("3", "ready", READY("1") "," READY("2")));
	expect_no_frame();
}
END_TEST

/* The server has closed the channel for good, and was heard; the changes flow all the same, until
 * the reload. */
START_TEST(rejected_while_changes_flow)
{
	struct line join, feed;

	peer_ask(a, 1, "subscribe", "{'topic':'t','broadcast':{},'postgres_changes':[" T("u") "]}");
	join = *server_join("t");
	feed = server_feed(ON("u"), "11");
	expect(a, "[1,1,null,{'chan':1,*'ready'*");
	server_text("['%" PRIu64 "',null,'%s','system',{'status':'error','message':'Unauthorized: "
		    "You do not have permissions to read from this Channel topic','extension':"
		    "'system','channel':'t'}]",
		    join.ref, join.topic);
	server_text("['%" PRIu64 "','%" PRIu64 "','%s','phx_close',{}]", join.ref, join.ref,
		    join.topic);
	expect(a, "[2,'channel',{'chan':1,*'rejected',*'code':'unauthorized',*");
	server_row(&feed, "11", "{'type':'INSERT','schema':'public','table':'u','record':{'n':1}}");
	expect(a, "[2,'postgres_changes',{'ids':[1],*");
	reload("deny user 1001 read topic t\n" ALL);
	expect(a, "[2,'channel',{'chan':1,*'state':'rejected','code':'forbidden',*");
	server_row(&feed, "11", "{'type':'INSERT','schema':'public','table':'u','record':{'n':2}}");
	expect_nothing(a);
}
END_TEST

/* The same binding said twice, which nobody else wants and nothing carries any more. */
START_TEST(refused_and_said_twice)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("t") "," T("t")));
	join = expect_feed(ON("t"));
	server_takes(&join, "11");
	server_system(&join, false, BAD_TEXT);
	peer_skip(a, "");
	advance(3000);
	server_serve();
	advance(3000);
	reload("deny user 1001 read table public.t\n" ALL);
	expect(a, CHANNEL("ready", FORBIDDEN("1")));
	expect_nothing(a);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

START_TEST(flowing_and_said_twice)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("t") "," T("t")));
	join = server_feed(ON("t"), "11");
	expect(a, ANSWER("1", "ready", READY("1") "," READY("1")));
	reload("deny user 1001 read table public.t\n" ALL);
	expect(a, CHANNEL("ready", FORBIDDEN("1")));
	server_numbered(&join, "11", 1);
	expect_nothing(a);
	advance(2000);
	server_left(&join);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

/* Halves of what was refused are still being tried. */
START_TEST(while_halves_are_tried)
{
	struct line join;

	peer_ask(a, 1, "subscribe", ASK(T("t") "," T("u") "," T("t") "," T("v") "," T("u")));
	join = expect_feed(ON("t") "," ON("u") "," ON("v"));
	server_takes(&join, "11,12,13");
	server_system(&join, false, BAD_TEXT);
	reload("deny user 1001 read table public.*\n" ALL);
	expect(a, "[1,1,null,{*'ready','postgres_changes':[" FORBIDDEN("0") "," FORBIDDEN(
			  "0") "," FORBIDDEN("0") "," FORBIDDEN("0") "," FORBIDDEN("0") "]}]");
	expect_nothing(a);
	/* What was asked for before is refused again, or left. */
	for (unsigned i = 0; i < 10; i++) {
		for (; rig.frames.next < rig.frames.n; rig.frames.next++) {
			join = rig.frames.at[rig.frames.next];
			server_reply(&rig.frames.at[rig.frames.next],
				     strcmp(join.event, "phx_leave") == 0,
				     "{'reason':'RealtimeRestarting: x'}");
		}
		advance(1000);
	}
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
	ck_assert_uint_eq(rig.hub->n_feeds, 0);
}
END_TEST

/* A request that waits for changes only is answered as soon as nothing is to be waited for. */
START_TEST(changes_that_are_waited_for)
{
	peer_ask(a, 1, "subscribe", ASK(T("t")));
	expect_feed(ON("t"));
	reload("deny user 1001 read table public.t\n" ALL);
	expect(a, ANSWER("1", "ready", FORBIDDEN("0")));
	expect_nothing(a);
}
END_TEST

/* ---- who may not be there at all ---- */

START_TEST(who_may_nothing_ends)
{
	peer_join(a, "t", "{}");
	peer_shares(b, 1, "t");
	peer_ask(a, 2, "broadcast", "{'topic':'u','event':'e','payload':1}");
	expect_frame("[*'realtime:u','phx_join',*");
	reload("allow user 1002 read topic t\n");
	expect(a, "[1,2,[301,*");
	expect_farewell(a, "denied", true);
	expect_nothing(b);
	server_broadcast("t", "e", "1");
	expect(b, "[2,'broadcast',*");
	rig.uid = 1001;
	expect_farewell(peer_attach(), "denied", false);
	reload(ALL);
	rig.uid = 1001;
	peer_ready();
}
END_TEST

START_TEST(before_hello)
{
	struct fake_peer *p;

	rig.uid = 1001;
	p = peer_attach();
	reload("allow user 1002 read topic t\n");
	expect_farewell(p, "denied", true);
}
END_TEST

/* Needs a token of its own from now on: what it has with the daemon's identity ends. */
START_TEST(own_identity_from_now_on)
{
	const char *alice = token_of_user("alice", 1);
	struct line join;

	peer_join(a, "t", "{}");
	peer_shares(b, 1, "t");
	peer_ask(a, 2, "subscribe", "{'topic':'w','postgres_changes':[" T("t") "]}");
	join = server_feed(ON("t"), "11");
	expect(a, "[1,2,null,{'chan':2,*'ready'*");
	reload(ALL "own user 1001\n");
	expect_end(a);
	expect(a, "[2,'channel',{'chan':2,*'state':'rejected','code':'forbidden',*");
	expect_nothing(b);
	server_numbered(&join, "11", 1);
	expect_nothing(a);
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	expect(a, "[1,3,[301,'forbidden',*");
	peer_ask(a, 4, "broadcast", "{'topic':'t','event':'e','payload':1}");
	expect(a, "[1,4,[301,'forbidden',*");
	give(a, 5, alice, UNPROVEN("5"));
	peer_ask(a, 6, "subscribe", "{'topic':'t'}");
	open_link(1);
	server_reply(expect_join("t", alice), true, "{}");
	expect(a, "[1,6,null,{'chan':3,*'ready'}]");
	reload(ALL "own user 1001\n");
	expect_nothing(a);
}
END_TEST

/* What waits for the server's word about a token is looked at when its turn comes. */
START_TEST(held_requests)
{
	const char *first = token_of_user("alice", 1), *second = token_of_user("alice", 2);

	give(b, 1, first, UNPROVEN("1"));
	peer_joins(b, 2, "t", first);
	give(a, 1, second, NULL);
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	peer_ask(a, 3, "broadcast", "{'topic':'t','event':'e','payload':1}");
	reload("deny user 1001 read,write topic t\n" ALL);
	open_link(1);
	server_tries(1, second, true, "{}");
	trial_left();
	expect(a, ACCEPTED("1"));
	expect(a, "[1,2,[301,*");
	expect(a, "[1,3,[301,*");
	expect_no_frame();
}
END_TEST

/* ---- private channels only ---- */

static void private_only(struct hub_conf *conf)
{
	with_rules(conf);
	conf->private_only = HUB_PRIVATE_YES;
}

static struct line of_p; /* the join of the private channel */

/* a has the channel p with changes of t, said twice. */
static void begin_private(void)
{
	rules = rules_of(ALL);
	rig_start(private_only);
	server_open();
	rig.uid = 1001;
	a = peer_ready();
	rig.uid = 1002;
	b = peer_ready();
	peer_ask(a, 1, "subscribe",
		 "{'topic':'p','private':true,'postgres_changes':[" T("t") "," T("t") "]}");
	of_p = *expect_frame("[*'realtime:p','phx_join',*");
	server_takes(&of_p, "11");
	server_system(&of_p, true, SUBSCRIBED);
	expect(a,
	       "[1,1,null,{'chan':1,*'ready','postgres_changes':[" READY("1") "," READY("1") "]}]");
}

START_TEST(private_and_said_twice)
{
	begin_private();
	reload("deny user 1001 read table public.t\n" ALL);
	expect(a, "[2,'channel',{'chan':1,*'ready','postgres_changes':[" FORBIDDEN("1") "]}]");
	server_numbered(&of_p, "11", 1);
	expect_nothing(a);
	for (unsigned i = 0; i < 10; i++) {
		server_serve();
		advance(1000);
	}
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

/* Those of another ride on the channel of who may not any more. */
START_TEST(carried_by_the_channel_of_another)
{
	struct line join;

	begin_private();
	peer_ask(b, 1, "subscribe", "{'topic':'q','private':true,'postgres_changes':[" T("t") "]}");
	expect(b, "[1,1,null,{'chan':2,*'ready','postgres_changes':[" READY("1") "]}]");
	expect_no_frame();
	reload("deny user 1001 read,write,presence topic *\ndeny user 1001 read table *.*\n" ALL);
	expect_farewell(a, "denied", true);
	peer_close(a);
	/* They move to a channel that one of those who want them has. */
	for (unsigned i = 0; i < 5; i++) {
		advance(1000);
		while (rig.frames.next < rig.frames.n &&
		       !strstr(rig.frames.at[rig.frames.next].text, "\"realtime:q\",\"phx_join"))
			rig.frames.next++;
		if (rig.frames.next < rig.frames.n)
			break;
	}
	join = *expect_frame("[*'realtime:q','phx_join',*" ON("t") "*");
	server_takes(&join, "21");
	server_system(&join, true, SUBSCRIBED);
	server_numbered(&join, "21", 2);
	ck_assert_uint_eq(peer_skip(b, "\"n\":2"), 1);
	ck_assert_uint_eq(messages_with(b, "[2,\"gap\""), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_access_reload");
	TCase *t = tcase_create("reload"), *own = tcase_create("private");

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, sends_of_the_departed);
	tcase_add_test(t, what_may_stay_does);
	tcase_add_test(t, rejected_while_changes_flow);
	tcase_add_test(t, broadcasts_of_one);
	tcase_add_test(t, last_one_leaves);
	tcase_add_test(t, while_joining);
	tcase_add_test(t, presence_of_one);
	tcase_add_test(t, trackers);
	tcase_add_test(t, trackers_waiting);
	tcase_add_test(t, sends_that_wait);
	tcase_add_test(t, sends_on_their_way);
	tcase_add_test(t, one_table_of_two);
	tcase_add_test(t, refused_and_said_twice);
	tcase_add_test(t, flowing_and_said_twice);
	tcase_add_test(t, while_halves_are_tried);
	tcase_add_test(t, changes_that_are_waited_for);
	tcase_add_test(t, who_may_nothing_ends);
	tcase_add_test(t, before_hello);
	tcase_add_test(t, own_identity_from_now_on);
	tcase_add_test(t, held_requests);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(own, NULL, end);
	tcase_add_test(own, private_and_said_twice);
	tcase_add_test(own, carried_by_the_channel_of_another);
	suite_add_tcase(s, own);
	return suite_run(s);
}
