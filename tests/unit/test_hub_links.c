/* SPDX-License-Identifier: MIT */
/* Stories about further links: who gets one, and when it goes. */
#include "hub_presence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL(n) "{'type':'presence','event':'track','payload':{'n':" n "}}"
#define UNTRACK "{'type':'presence','event':'untrack'}"
#define ASK(n)  "{'topic':'t','state':{'n':" n "}}"

static struct fake_peer *a, *b;

static void three_links(struct hub_conf *conf)
{
	conf->max_links = 3;
	conf->max_channels = 4;
}

static void setup(void)
{
	rig_start(three_links);
	rig.probes = true;
	server_open();
	a = peer_ready();
	b = peer_ready();
}

static void open_link(unsigned link)
{
	rig.at = link;
	server_open();
	rig.at = 0;
}

/* p tracks with n; its own join comes on `link`, which is open. */
static void shown_on(struct fake_peer *p, unsigned link, const char *n)
{
	char params[100], call[100];
	struct line join;

	snprintf(params, sizeof(params), ASK("%s"), n);
	snprintf(call, sizeof(call), CALL("%s"), n);
	peer_ask(p, 1, "track", params);
	if (link && rig.links[link].n_opened && rig.links[link].is_open &&
	    session_get_state(rig.hub->links[link].session) != SESSION_ONLINE)
		open_link(link);
	join = *server_join("t");
	ck_assert_uint_eq(join.link, link);
	server_reply(expect_call("t", call), true, "{}");
	expect(p, "[1,1,null,{'outcome':'acked','key':'*'}]");
}

START_TEST(one_for_each_tracker)
{
	struct fake_peer *c = peer_ready(), *d = peer_ready();

	shown_on(a, 0, "1");
	ck_assert(!rig.links[1].is_open);
	shown_on(b, 1, "2");
	ck_assert(!rig.links[2].is_open);
	shown_on(c, 2, "3");
	peer_ask(d, 1, "track", ASK("4"));
	expect(d, "[1,1,[210,'presence_taken','*[limits] links*',null],null]");
	expect_no_frame();
	/* Whoever goes makes room; the others stay as they are. */
	peer_close(b);
	server_reply(expect_call("t", UNTRACK), true, "{}");
	advance(2000);
	server_reply(expect_frame("[*,*,'realtime:t','phx_leave',{}]"), true, "{}");
	peer_ask(d, 2, "track", ASK("4"));
	ck_assert_uint_eq(server_join("t")->link, 1);
	server_reply(expect_call("t", CALL("4")), true, "{}");
	expect(d, "[1,2,null,{'outcome':'acked',*");
	expect_no_frame();
}
END_TEST

START_TEST(status)
{
	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	peer_ask(a, 9, "status", "{}");
	expect(a, "[1,9,null,{*'links':[{'link':0,'state':'online',*'why':'shared by "
		  "all','joins':1,*},"
		  "{'link':1,'state':'online',*'why':'*tracker*channel t','joins':1,*'uid':1000}]*"
		  "'channels':[{*'link':0,*'trackers':2,'shown':2}]*");
}
END_TEST

START_TEST(closed_when_idle)
{
	struct fake_peer *c = peer_ready();

	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	peer_close(b);
	server_serve();
	advance(2000);
	server_serve();
	advance(LINK_IDLE_MS - 1);
	ck_assert(rig.links[1].is_open);
	/* Used again in time: it stays. */
	peer_ask(c, 1, "track", ASK("3"));
	server_serve();
	server_serve();
	expect(c, "[1,1,null,{'outcome':'acked',*");
	advance(2 * LINK_IDLE_MS);
	ck_assert(rig.links[1].is_open);
	peer_ask(c, 2, "untrack", "{'topic':'t'}");
	server_serve();
	expect(c, "[1,2,null,{}]");
	advance(2000);
	server_serve();
	advance(LINK_IDLE_MS);
	ck_assert(!rig.links[1].is_open);
	peer_ask(a, 9, "status", "{}");
	expect(a, "[1,9,null,{*'links':[{'link':0,*}],'clients'*");
	/* And opened again. */
	peer_ask(c, 3, "track", ASK("4"));
	open_link(1);
	server_join("t");
	server_reply(expect_call("t", CALL("4")), true, "{}");
	expect(c, "[1,3,null,{'outcome':'acked',*");
}
END_TEST

/* Wanted again before the old connection's end is there. */
START_TEST(wanted_while_closing)
{
	struct fake_peer *c = peer_ready();

	rig.hub->conf.max_links = 2; /* else another one is taken */
	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	peer_close(b);
	server_serve();
	advance(2000);
	server_serve();
	rig.stuck = true;
	advance(LINK_IDLE_MS);
	ck_assert(rig.links[1].is_closing);
	peer_ask(c, 1, "track", ASK("3"));
	advance(100);
	rig.stuck = false;
	turn();
	advance(2000);
	ck_assert(rig.links[1].is_open);
	open_link(1);
	server_join("t");
	server_reply(expect_call("t", CALL("3")), true, "{}");
	expect(c, "[1,1,null,{'outcome':'acked',*");
}
END_TEST

/* One that is being left is taken again, under a new key. */
START_TEST(taken_again_while_left)
{
	struct fake_peer *c = peer_ready();
	struct line leave;

	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	peer_close(b);
	server_reply(expect_call("t", UNTRACK), true, "{}");
	expect_no_frame();
	peer_ask(c, 1, "track", "{'topic':'t','state':{'n':3},'key':'carol'}");
	leave = *expect_frame("[*,*,'realtime:t','phx_leave',{}]");
	expect_no_frame();
	ck_assert(!rig.links[2].is_open);
	server_reply(&leave, true, "{}");
	expect_frame("*'phx_join',{*'key':'carol'}*");
	server_reply(&rig.frames.at[rig.frames.n - 1], true, "{}");
	server_reply(expect_call("t", CALL("3")), true, "{}");
	expect(c, "[1,1,null,{'outcome':'acked','key':'carol'}]");
	expect_no_frame();
}
END_TEST

/* Whoever comes back before it is left goes on with it, and with its budget of calls. */
START_TEST(taken_again_while_lingering)
{
	struct fake_peer *c = peer_ready();

	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	peer_close(b);
	server_reply(expect_call("t", UNTRACK), true, "{}");
	peer_ask(c, 1, "track", ASK("3"));
	expect(c, "[1,1,null,{'outcome':'throttled',*");
	advance(1000);
	server_reply(expect_call("t", CALL("3")), true, "{}");
	expect_no_frame();
}
END_TEST

/* A tracker on a link of its own does not need the shared one. */
START_TEST(shared_join_goes_first)
{
	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	peer_ask(a, 2, "untrack", "{'topic':'t'}");
	expect(a, "[1,2,null,{}]");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	advance(30000);
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	peer_ask(b, 2, "track", "{'chan':1,'state':{'n':3}}");
	server_reply(expect_call("t", CALL("3")), true, "{}");
	expect(b, "[1,2,null,{'outcome':'acked',*");
	peer_ask(b, 3, "status", "{}");
	expect(b, "[1,3,null,{*'channels':[{'chan':1,*'link':1,*'trackers':1,'shown':1}]*");
	peer_ask(b, 4, "sync", "{'upstream':true}");
	expect(b, "[1,4,null,{}]");
	/* Subscribed, it has both. */
	rig.probes = false;
	peer_ask(b, 5, "subscribe", "{'topic':'t','presence':{}}");
	ck_assert_uint_eq(server_join_watched("t", NULL).link, 0);
	peer_ask(b, 6, "broadcast", "{'chan':1,'event':'e','payload':1}");
	ck_assert_uint_eq(expect_frame("[3,*")->link, 0);
	peer_close(b);
	expect_call("t", UNTRACK);
	advance(2000);
	expect_frame("*'presence',{}]"); /* the ack is late */
	ck_assert_uint_eq(expect_frame("*'phx_leave'*")->link, 1);
}
END_TEST

/* What the further link hears is known already. */
START_TEST(hears_nothing_twice)
{
	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	expect(a, "[1,2,*");
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	rig.at = 1;
	server_broadcast("t", "e", "1");
	server_diff("t", "{}", "{}");
	rig.at = 0;
	expect_nothing(a);
}
END_TEST

START_TEST(rejected_and_asked_again)
{
	struct fake_peer *c = peer_ready();

	shown_on(a, 0, "1");
	peer_ask(b, 1, "track", ASK("2"));
	open_link(1);
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: no'}");
	expect(b, "[1,1,[300,'rejected','Unauthorized: no',null],null]");
	/* The memory of the refusal is no reason to open another link. */
	peer_ask(c, 1, "track", ASK("3"));
	ck_assert_uint_eq(server_join("t")->link, 1);
	server_reply(expect_call("t", CALL("3")), true, "{}");
	expect(c, "[1,1,null,{'outcome':'acked',*");
	ck_assert(!rig.links[2].is_open);
}
END_TEST

/* Nothing is left of a channel but a refused place for a tracker; who comes then gets it whole. */
START_TEST(only_a_refusal_is_left)
{
	struct fake_peer *c = peer_ready();

	shown_on(a, 0, "1");
	peer_ask(b, 1, "track", ASK("2"));
	open_link(1);
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: no'}");
	expect(b, "[1,1,[300,'rejected',*");
	peer_close(a);
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(b, "[2,'connection',*");
	expect(c, "[2,'connection',*");
	expect_call("t", UNTRACK);
	/* The first link has the private channel of that name now. */
	peer_ask(b, 2, "subscribe", "{'topic':'t','private':true}");
	peer_ask(c, 1, "subscribe", "{'topic':'t','timeout_ms':60000}");
	ck_assert_uint_eq(server_join("t")->link, 1);
	expect(c, "[1,1,null,{'chan':3,*'state':'ready'}]");
	rig.at = 1;
	server_broadcast("t", "e", "1");
	expect(c, "[2,'broadcast',{'chan':3,*");
}
END_TEST

/* Who is shown on a further link stays so, whatever becomes of the shared join. */
START_TEST(shared_join_refused)
{
	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	server_close(&rig.frames.at[0], NULL);
	advance(5000);
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: no'}");
	expect(a, "[2,'track',{*'outcome':'queued',*");
	expect(a, "[2,'error',{'method':'track',*'error':[300,'rejected',*");
	peer_ask(b, 2, "track", ASK("3"));
	server_reply(expect_call("t", CALL("3")), true, "{}");
	expect(b, "[1,2,null,{'outcome':'acked',*");
	peer_ask(a, 2, "track", ASK("4"));
	expect(a, "[1,2,[300,'rejected','Unauthorized: no',null],null]");
	expect_no_frame();
}
END_TEST

START_TEST(public_and_private)
{
	struct line first, second;

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	first = *server_join("t");
	expect(a, "[1,1,null,{'chan':1,*");
	peer_ask(b, 1, "subscribe", "{'topic':'t','private':true}");
	open_link(1);
	second = *expect_frame("*'phx_join',{*'private':true}*");
	server_reply(&second, true, "{}");
	expect(b, "[1,1,null,{'chan':2,*'private':true,'state':'ready'}]");
	ck_assert_uint_eq(first.link, 0);
	ck_assert_uint_eq(second.link, 1);
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',{'chan':1,*");
	expect_nothing(b);
	rig.at = 1;
	server_broadcast("t", "e", "2");
	expect(b, "[2,'broadcast',{'chan':2,*");
	expect_nothing(a);
	peer_ask(a, 2, "broadcast", "{'topic':'t','private':true,'event':'e','payload':3}");
	server_reply(expect_frame("[3,*,3]"), true, "{}");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	expect(b, "[2,'broadcast',{'chan':2,*");
	/* One link's end is not the other one's. */
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(b, "[2,'channel',{'chan':2,*'rejoining',*");
	expect_nothing(a);
	rig.at = 0;
	server_broadcast("t", "e", "4");
	expect(a, "[2,'broadcast',{'chan':1,*");
	advance(2000);
	open_link(1);
	server_join("t");
	expect(b, "[2,'gap',{'chan':2,*'cause':'connection',*}]");
	expect(b, "[2,'channel',{'chan':2,*'ready'}]");
	expect_nothing(a);
}
END_TEST

START_TEST(more_channels_than_one_may_carry)
{
	char params[100];

	for (unsigned i = 1; i <= 13; i++) {
		snprintf(params, sizeof(params), "{'topic':'%u'}", i);
		peer_ask(a, i, "subscribe", params);
		if (i % 4 == 1 && i > 1 && i < 13)
			open_link(i / 4);
		advance(1000);
		if (i < 13)
			ck_assert_uint_eq(expect_frame("*'phx_join'*")->link, (i - 1) / 4);
		if (i < 13)
			server_reply(&rig.frames.at[rig.frames.next], true, "{}");
		expect(a, i < 13 ? "[1,*,null,{'chan':*,*'ready'}]"
				 : "[1,13,[207,'too_many','*[limits] links*channels*',null],null]");
	}
	expect_no_frame();
}
END_TEST

START_TEST(sync_waits_for_each)
{
	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	rig.mute = true;
	peer_ask(a, 9, "sync", "{'upstream':true}");
	peer_ask(b, 9, "sync", "{'upstream':true}");
	expect_nothing(a);
	expect_nothing(b);
	rig.mute = false;
	/* Answer link 0's heartbeats only, then link 1's. */
	for (unsigned link = 0; link < 2; link++) {
		for (size_t i = 0; i < rig.frames.n; i++) {
			struct line *f = &rig.frames.at[i];

			if (strcmp(f->event, "heartbeat") != 0 || f->link != link || f->answered)
				continue;
			f->answered = true;
			rig.at = link;
			server_text(
				"[null,'%u','phoenix','phx_reply',{'status':'ok','response':{}}]",
				(unsigned)f->ref);
		}
		if (link == 0) {
			expect(a, "[1,9,null,{}]");
			expect_nothing(b);
		}
	}
	expect(b, "[1,9,null,{}]");
}
END_TEST

/* The link that was waited for is closed, because nothing needs it any more. */
START_TEST(sync_and_a_link_that_goes)
{
	shown_on(a, 0, "1");
	peer_ask(b, 1, "track", ASK("2"));
	peer_ask(b, 2, "sync", "{'upstream':true,'timeout_ms':300000}");
	peer_ask(b, 3, "untrack", "{'topic':'t'}");
	expect(b, "[1,1,null,{'outcome':'replaced',*");
	expect(b, "[1,3,null,{}]");
	expect_nothing(b);
	advance(LINK_IDLE_MS);
	expect(b, "[1,2,null,{}]");
}
END_TEST

START_TEST(end_with_further_links)
{
	shown_on(a, 0, "1");
	shown_on(b, 1, "2");
	hub_drain(rig.hub, 100);
	turn();
	advance(200);
	ck_assert(a->finished && b->finished);
	peer_close(a);
	peer_close(b);
	advance(5000);
	ck_assert(rig.drained);
	ck_assert(!rig.links[0].is_open && !rig.links[1].is_open);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_links");
	TCase *t = tcase_create("links");

	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, one_for_each_tracker);
	tcase_add_test(t, status);
	tcase_add_test(t, closed_when_idle);
	tcase_add_test(t, wanted_while_closing);
	tcase_add_test(t, taken_again_while_left);
	tcase_add_test(t, taken_again_while_lingering);
	tcase_add_test(t, shared_join_goes_first);
	tcase_add_test(t, hears_nothing_twice);
	tcase_add_test(t, rejected_and_asked_again);
	tcase_add_test(t, only_a_refusal_is_left);
	tcase_add_test(t, shared_join_refused);
	tcase_add_test(t, public_and_private);
	tcase_add_test(t, more_channels_than_one_may_carry);
	tcase_add_test(t, sync_waits_for_each);
	tcase_add_test(t, sync_and_a_link_that_goes);
	tcase_add_test(t, end_with_further_links);
	suite_add_tcase(s, t);
	return suite_run(s);
}
