/* SPDX-License-Identifier: MIT */
/* Stories about further links that are emptied: what was on them moves to a lower one. */
#include "hub_changes_server.h"
#include "hub_changes_text.h"
#include "hub_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void three_channels_each(struct hub_conf *conf)
{
	conf->max_links = 3;
	conf->max_channels = 4;
	conf->linger_ms = 0;
}

static struct fake_peer *a, *b;

/* Four channels of `a` on link 0, one of `b` on link 1. */
static void begin(void)
{
	static const char *const topics[] = { "t1", "t2", "t3", "t4" };
	char params[100];

	rig_start(three_channels_each);
	server_open();
	a = peer_ready();
	b = peer_ready();
	for (unsigned i = 0; i < 4; i++) {
		snprintf(params, sizeof(params), "{'topic':'%s'}", topics[i]);
		peer_ask(a, i + 1, "subscribe", params);
		server_join(topics[i]);
		expect(a, "[1,*,null,{*'ready'}]");
	}
	peer_ask(b, 1, "subscribe", "{'topic':'x','broadcast':{'self':true}}");
	rig.at = 1;
	server_open();
	ck_assert_uint_eq(server_join("x")->link, 1);
	expect(b, "[1,1,null,{'chan':5,*'ready'}]");
}

/* Two channels of link 0 are left. */
static void make_room(void)
{
	for (unsigned i = 3; i <= 4; i++) {
		char params[60];

		snprintf(params, sizeof(params), "{'chan':%u}", i);
		peer_ask(a, 10 + i, "unsubscribe", params);
		expect(a, "[1,*,null,{}]");
		server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	}
}

START_TEST(channel)
{
	struct line *f;

	advance(20000);
	expect_no_frame();
	make_room();
	advance(1000);
	f = expect_frame("[*'realtime:x','phx_join',*");
	ck_assert_uint_eq(f->link, 0);
	/* Until the answer the old one delivers, the new one does not. */
	rig.at = 1;
	server_broadcast("x", "e", "1");
	expect(b, "[2,'broadcast',{'chan':5,*'payload':1}]");
	rig.at = 0;
	server_reply(f, true, "{}");
	expect(b, "[2,'gap',{'chan':5,*'cause':'moved',*}]");
	expect(b, "[2,'channel',{'chan':5,*'state':'ready'}]");
	rig.at = 1;
	server_broadcast("x", "e", "2");
	rig.at = 0;
	server_broadcast("x", "e", "3");
	expect(b, "[2,'broadcast',{'chan':5,*'payload':3}]");
	f = expect_frame("[*'realtime:x','phx_leave',*");
	ck_assert_uint_eq(f->link, 1);
	server_reply(f, true, "{}");
	advance(49000);
	ck_assert(rig.links[1].is_open);
	advance(2000);
	ck_assert(!rig.links[1].is_open);
	expect_nothing(b);
	peer_ask(b, 2, "broadcast", "{'chan':5,'event':'e','payload':4}");
	f = expect_frame("[3,*'realtime:x','e',4]");
	ck_assert_uint_eq(f->link, 0);
	server_reply(f, true, "{}");
	expect(b, "[2,'broadcast',{'chan':5,*'payload':4}]");
	expect(b, "[1,2,null,{'outcome':'acked','via':'ws'}]");
}
END_TEST

/* A channel that somebody sends to stays: the server would send us our own messages. */
START_TEST(not_while_sending)
{
	struct line *f, *join;

	make_room();
	for (unsigned i = 2; i < 8; i++) {
		advance(5000);
		peer_ask(b, i, "broadcast", "{'chan':5,'event':'e','payload':4}");
		server_reply(expect_frame("[3,*'realtime:x','e',4]"), true, "{}");
		expect(b, "[2,'broadcast',{*'payload':4}]");
		expect(b, "[1,*,null,{'outcome':'acked','via':'ws'}]");
	}
	advance(11000);
	join = expect_frame("[*'realtime:x','phx_join',*");
	peer_ask(b, 9, "broadcast", "{'chan':5,'event':'e','payload':5}");
	f = expect_frame("[3,*'realtime:x','e',5]");
	ck_assert_uint_eq(f->link, 1);
	server_reply(join, true, "{}");
	rig.at = 0;
	server_broadcast("x", "e", "5");
	server_reply(f, true, "{}");
	expect(b, "[2,'broadcast',{*'payload':5}]");
	expect(b, "[1,9,null,{'outcome':'acked','via':'ws'}]");
	f = expect_frame("[*'realtime:x','phx_leave',*");
	ck_assert_uint_eq(f->link, 0);
	server_reply(f, true, "{}");
	expect_nothing(b);
	advance(290000);
	expect_no_frame();
	advance(12000);
	ck_assert_uint_eq(expect_frame("[*'realtime:x','phx_join',*")->link, 0);
}
END_TEST

/* It goes, or its links do, in the middle. */
START_TEST(disturbed)
{
	struct line *f;

	make_room();
	advance(11000);
	f = expect_frame("[*'realtime:x','phx_join',*");
	switch (_i) {
	case 0:
		peer_close(b);
		server_reply(f, true, "{}");
		break;
	case 1:
		server_reply(f, false, "{'reason':'Unauthorized: no'}");
		break;
	case 2:
		rig.at = 1;
		server_drop(SESSION_FAULT_LOST, "lost");
		expect(b, "[2,'channel',{'chan':5,*'state':'rejoining',*");
		rig.at = 0;
		server_reply(f, true, "{}");
		break;
	case 3:
		rig.at = 0;
		server_drop(SESSION_FAULT_LOST, "lost");
		break;
	case 4:
		peer_ask(b, 2, "subscribe", "{'topic':'x','presence':{}}");
		server_reply(f, true, "{}");
		break;
	case 5:
		rig.at = 1;
		server_text("['1','1','realtime:x','phx_close',{}]");
		rig.at = 0;
		server_reply(f, true, "{}");
		break;
	default:
		break;
	}
	rig.probes = true;
	for (unsigned i = 0; i < 60; i++) {
		server_serve();
		advance(1000);
		for (rig.at = 0; rig.at < 3; rig.at++) {
			if (rig.links[rig.at].is_open && !link_is_online(&rig.hub->links[rig.at]))
				server_open();
		}
		rig.at = 0;
	}
	if (_i > 0)
		ck_assert_uint_eq(rig.hub->n_chans, 3);
}
END_TEST

START_TEST(feed)
{
	struct line join, *f;

	peer_close(b);
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	b = peer_ready();
	peer_ask(b, 1, "subscribe", ASK(T("t")));
	join = server_feed(ON("t"), "11");
	ck_assert_uint_eq(join.link, 1);
	expect(b, "[1,1,null,{*'ready'}]}]");
	make_room();
	advance(11000);
	f = expect_frame("[*'realtime:rtbridge:*','phx_join',{*'table':'t'*");
	ck_assert_uint_eq(f->link, 0);
	join = *f;
	server_takes(&join, "11");
	rig.at = 1;
	server_text("[null,null,'realtime:rtbridge:%s','postgres_changes',{'ids':[11],'data':%s}]",
		    strstr(rig.hub->feeds.tqh_first->join->wire_topic, "rtbridge:") + 9,
		    ROW("INSERT", "1"));
	expect(b, "[2,'postgres_changes',{*'n':1*");
	rig.at = 0;
	server_system(&join, true, SUBSCRIBED);
	server_row(&join, "11", ROW("INSERT", "1")); /* its twin */
	server_row(&join, "11", ROW("INSERT", "2"));
	expect(b, "[2,'postgres_changes',{*'n':2*");
	expect_nothing(b);
	advance(19000);
	expect_no_frame();
	advance(2000);
	f = expect_frame("*'phx_leave'*");
	ck_assert_uint_eq(f->link, 1);
	server_reply(f, true, "{}");
	advance(51000);
	ck_assert(!rig.links[1].is_open);
	expect_nothing(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_move");
	TCase *t = tcase_create("move");

	tcase_add_checked_fixture(t, begin, rig_teardown);
	tcase_add_test(t, channel);
	tcase_add_test(t, not_while_sending);
	tcase_add_loop_test(t, disturbed, 0, 6);
	tcase_add_test(t, feed);
	suite_add_tcase(s, t);
	return suite_run(s);
}
