/* SPDX-License-Identifier: MIT */
/* Stories about a server that takes fewer channels on a connection than the daemon thinks. */
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND };

static const char too_many[] = "{'reason':'ChannelRateLimitReached: Too many channels'}";

static struct fake_peer *a, *b;

static void begin(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	rig.probes = true;
	server_open();
	a = peer_ready();
	b = peer_ready();
}

static void one_link(struct hub_conf *conf)
{
	conf->max_links = 1;
}

/* As at the daemon's own limit: a further connection. */
START_TEST(goes_elsewhere)
{
	begin(with_links);
	peer_join(a, "one", "{}");
	peer_ask(a, 5, "subscribe", "{'topic':'two','timeout_ms':60000}");
	server_reply(expect_frame("*'phx_join'*"), false, too_many);
	advance(SECOND);
	ck_assert(rig.links[1].is_open);
	open_link(1);
	ck_assert_uint_eq(server_join("two")->link, 1);
	expect(a, "[1,5,null,{*'state':'ready'}]");
	/* What comes next does not ask there again. */
	peer_ask(a, 6, "subscribe", "{'topic':'three'}");
	ck_assert_uint_eq(server_join("three")->link, 1);
	expect(a, "[1,6,null,*");
	/* Nor is it moved back. */
	peer_ask(a, 7, "unsubscribe", "{'topic':'three'}");
	advance(5 * SECOND);
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	advance(10 * MINUTE);
	expect_no_frame();
}
END_TEST

/* Who had it before keeps what it knows: joined anew elsewhere, with a gap. */
START_TEST(after_an_outage)
{
	begin(with_links);
	peer_join(a, "one", "{}");
	peer_join(b, "two", "{}");
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	server_reply(expect_frame("*'phx_join'*"), true, "{}");
	server_reply(expect_frame("*'phx_join'*"), false, too_many);
	peer_skip(b, "");
	open_link(1);
	ck_assert_uint_eq(server_join("two")->link, 1);
	expect(b, "[2,'gap',{*'cause':'connection',*");
	expect(b, "[2,'channel',{*'two',*'ready'}]");
}
END_TEST

/* With one connection: told, and joined when another channel has been left. */
START_TEST(waits_for_room)
{
	struct fake_peer *c;

	begin(one_link);
	peer_join(a, "one", "{}");
	peer_join(b, "two", "{}");
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	server_reply(expect_frame("*'phx_join'*"), true, "{}");
	server_reply(expect_frame("*'phx_join'*"), false, too_many);
	ck_assert_uint_eq(peer_skip(b, "too_many_channels"), 1);
	c = peer_ready();
	peer_ask(c, 1, "subscribe", "{'topic':'three'}");
	expect(c, "[1,1,[207,'too_many',*");
	peer_close(a);
	advance(5 * SECOND);
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	ck_assert_uint_eq(server_join("two")->link, 0);
	expect(b, "[2,'gap',*");
	expect(b, "[2,'channel',{*'ready'}]");
}
END_TEST

/* The next connection may take them all. */
START_TEST(forgotten_with_the_connection)
{
	begin(one_link);
	peer_join(a, "one", "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'two'}");
	server_reply(expect_frame("*'phx_join'*"), false, too_many);
	expect(b, "[1,1,[300,'rejected',*");
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(20 * SECOND);
	server_open();
	server_join("one");
	peer_skip(b, "");
	peer_ask(b, 2, "subscribe", "{'topic':'two'}");
	server_join("two");
	expect(b, "[1,2,null,*'ready'}]");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("place");
	Suite *s = suite_create("hub_place");

	tcase_add_checked_fixture(t, NULL, rig_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, goes_elsewhere);
	tcase_add_test(t, after_an_outage);
	tcase_add_test(t, waits_for_room);
	tcase_add_test(t, forgotten_with_the_connection);
	suite_add_tcase(s, t);
	return suite_run(s);
}
