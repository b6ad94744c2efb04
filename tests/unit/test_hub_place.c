/* SPDX-License-Identifier: MIT */
/* Stories about a server that takes fewer channels on a connection than the daemon thinks. */
#include "hub_own.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND, SENT = JOINS_UNANSWERED_MAX + 2 };

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

/* ---- once the number is known ---- */

static unsigned joins_on(unsigned link)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig.frames.n; i++)
		n += rig.frames.at[i].link == link &&
		     strcmp(rig.frames.at[i].event, "phx_join") == 0;
	return n;
}

static void ask_for(struct fake_peer *p, uint32_t id, unsigned topic)
{
	char params[60];

	snprintf(params, sizeof(params), "{'topic':'t%u','timeout_ms':60000}", topic);
	peer_ask(p, id, "subscribe", params);
}

/* Each refusal would hold up the connection for 5 s: what is beyond the number is told without one. */
START_TEST(nothing_is_sent_beyond)
{
	struct line ok[2];

	begin(one_link);
	for (unsigned i = 0; i < 20; i++)
		ask_for(a, 1 + i, i);
	advance(3 * SECOND);
	ck_assert_uint_eq(joins_on(0), JOINS_UNANSWERED_MAX);
	/* Those that are on their way already, and one more for each that is taken. */
	for (unsigned i = 0; i < SENT; i++) {
		struct line f = *expect_frame("*'phx_join'*");

		if (i < 2)
			ok[i] = f;
		server_reply(&f, i < 2, i < 2 ? "{}" : too_many);
	}
	advance(3 * SECOND);
	expect_no_frame();
	ck_assert_uint_eq(messages_with(a, "\"ready\""), 2);
	ck_assert_uint_eq(messages_with(a, "[300,\"rejected\",\"ChannelRateLimitReached"), 0);
	ck_assert_uint_eq(messages_with(a, "[300,\"rejected\",\"Too many channels: "), 18);
	/* Nor what is asked for again later. */
	advance(10 * MINUTE);
	for (unsigned i = 2; i < 12; i++)
		ask_for(b, i, i);
	advance(3 * SECOND);
	expect_no_frame();
	/* What is there is joined anew after a crash, and for somebody's presence. */
	server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t0','phx_error',{}]", ok[0].ref,
		    ok[0].ref);
	advance(5 * SECOND);
	/* What has just ended was counted: that makes the number no smaller. */
	server_reply(expect_frame("*'realtime:t0','phx_join'*"), false, too_many);
	advance(10 * MINUTE);
	ask_for(b, 19, 0);
	server_join("t0");
	advance(MINUTE);
	peer_ask(b, 20, "subscribe", "{'topic':'t1','presence':{}}");
	advance(5 * SECOND);
	server_join("t1");
	ck_assert_uint_eq(joins_on(0), SENT + 3);
	/* The next connection may take more. */
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	server_join("t0");
	server_join("t1");
	ask_for(b, 21, 19);
	server_join("t19");
}
END_TEST

/* Where further connections may be opened they take it, unsent here. */
START_TEST(the_others_go_elsewhere)
{
	unsigned n_before;

	begin(with_links);
	for (unsigned i = 0; i < 20; i++) {
		ask_for(a, 1 + i, i);
		advance(SECOND);
		server_serve();
	}
	ck_assert_uint_eq(messages_with(a, "\"ready\""), 20);
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	n_before = joins_on(0);
	server_open();
	advance(3 * SECOND);
	for (unsigned i = 0; i < SENT; i++)
		server_reply(expect_frame("*'phx_join'*"), i < 2, i < 2 ? "{}" : too_many);
	ck_assert(rig.links[1].is_open);
	open_link(1);
	for (unsigned i = 0; i < 5; i++) {
		advance(3 * SECOND);
		server_serve();
	}
	ck_assert_uint_eq(joins_on(0), n_before + SENT);
	ck_assert_uint_eq(joins_on(1), 18);
	ck_assert_uint_eq(rig.hub->links[0].n_joins, 2);
	ck_assert_uint_eq(rig.hub->links[1].n_joins, 18);
}
END_TEST

/* ---- a place becomes free ---- */

static void two_links(struct hub_conf *conf)
{
	conf->max_links = 2;
}

/* On another connection than the one that refused it. */
START_TEST(a_place_on_another_link)
{
	struct line *f;

	begin(two_links);
	peer_join(a, "one", "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'two','timeout_ms':60000}");
	server_reply(expect_frame("*'phx_join'*"), false, too_many);
	advance(SECOND);
	open_link(1);
	ck_assert_uint_eq(server_join("two")->link, 1);
	/* Its subscription stays, because it was joined before. */
	peer_ask(b, 2, "subscribe", "{'topic':'three','timeout_ms':60000}");
	f = server_join("three");
	ck_assert_uint_eq(f->link, 1);
	peer_skip(b, "");
	rig.at = 1;
	server_text("['%" PRIu64 "','%" PRIu64 "','realtime:three','phx_error',{}]", f->ref,
		    f->ref);
	rig.at = 0;
	advance(5 * SECOND);
	server_reply(expect_frame("*'realtime:three','phx_join'*"), false, too_many);
	ck_assert_uint_eq(peer_skip(b, "too_many_channels"), 1);
	peer_close(a);
	advance(5 * SECOND);
	server_reply(expect_frame("*'realtime:one','phx_leave'*"), true, "{}");
	ck_assert_uint_eq(server_join("three")->link, 0);
	expect(b, "[2,'gap',*'three'*");
	expect(b, "[2,'channel',{*'three',*'ready'}]");
}
END_TEST

/* One that was refused has none, so its end makes none free; nor does that of one that waits, while others
 * have all there are. */
START_TEST(the_end_of_one_without_a_place)
{
	struct fake_peer *c, *d;
	struct line one;

	begin(one_link);
	c = peer_ready();
	d = peer_ready();
	peer_join(a, "t1", "{}");
	peer_join(b, "t2", "{}");
	peer_join(c, "t3", "{}");
	peer_join(d, "t4", "{}");
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	one = *expect_frame("*'realtime:t1','phx_join'*");
	server_reply(&one, true, "{}");
	server_reply(expect_frame("*'realtime:t2','phx_join'*"), false,
		     "{'reason':'Query was cancelled, please try again'}");
	server_reply(expect_frame("*'realtime:t3','phx_join'*"), false, too_many);
	server_reply(expect_frame("*'realtime:t4','phx_join'*"), false, too_many);
	ck_assert_uint_eq(peer_skip(c, "too_many_channels"), 1);
	ck_assert_uint_eq(peer_skip(d, "too_many_channels"), 1);
	peer_close(b);
	advance(SECOND);
	expect_no_frame();
	expect_nothing(c);
	/* Its place is its own while it comes back. */
	server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t1','phx_error',{}]", one.ref, one.ref);
	peer_close(c);
	turn();
	expect_no_frame();
	advance(5 * SECOND);
	server_join("t1");
	advance(5 * SECOND);
	expect_no_frame();
	expect_nothing(d);
	peer_close(a);
	advance(5 * SECOND);
	server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	server_join("t4");
}
END_TEST

/* One that had a place, and is refused for another reason, has it no more. */
START_TEST(one_loses_its_right)
{
	struct fake_peer *c;
	struct line two;

	begin(one_link);
	c = peer_ready();
	peer_join(a, "t1", "{}");
	peer_join(b, "t2", "{}");
	peer_join(c, "t3", "{}");
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	server_reply(expect_frame("*'realtime:t1','phx_join'*"), true, "{}");
	two = *expect_frame("*'realtime:t2','phx_join'*");
	server_reply(&two, true, "{}");
	server_reply(expect_frame("*'realtime:t3','phx_join'*"), false, too_many);
	ck_assert_uint_eq(peer_skip(c, "too_many_channels"), 1);
	own_closed(&two, "You no longer have permission to read from this topic");
	server_join("t3");
	ck_assert_uint_eq(peer_skip(b, "\"rejected\",\"code\":\"unauthorized\""), 1);
	ck_assert_uint_eq(peer_skip(c, "\"ready\""), 1);
	/* Its end comes later, and frees nothing. */
	peer_close(b);
	advance(5 * SECOND);
	expect_no_frame();
}
END_TEST

/* ---- with a token that is being tested ---- */

/* The channel that was to show what a new token is worth finds no place: another one shows it. */
START_TEST(refused_while_it_tests)
{
	struct line one, two;

	own_start(one_link);
	rig.probes = true;
	a = peer_ready();
	b = peer_ready();
	own_give(1, 60 * MINUTE);
	peer_ask(a, 1, "subscribe", "{'topic':'one'}");
	one = *expect_join("one", own_name(1));
	server_reply(&one, true, "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'two'}");
	two = *expect_join("two", own_name(1));
	server_reply(&two, true, "{}");
	own_give(2, 60 * MINUTE);
	expect_push("one", 0, own_name(2));
	expect_push("two", 0, own_name(2));
	server_text("['%" PRIu64 "','%" PRIu64 "','realtime:two','phx_error',{}]", two.ref,
		    two.ref);
	advance(5 * SECOND);
	server_reply(expect_join("two", own_name(2)), false, too_many);
	ck_assert_uint_eq(peer_skip(b, "too_many_channels"), 1);
	server_text("['%" PRIu64 "','%" PRIu64 "','realtime:one','phx_error',{}]", one.ref,
		    one.ref);
	advance(5 * SECOND);
	server_reply(expect_join("one", own_name(2)), true, "{}");
	ck_assert_uint_eq(peer_skip(a, "\"ready\""), 2);
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
	tcase_add_test(t, nothing_is_sent_beyond);
	tcase_add_test(t, the_others_go_elsewhere);
	tcase_add_test(t, a_place_on_another_link);
	tcase_add_test(t, the_end_of_one_without_a_place);
	tcase_add_test(t, one_loses_its_right);
	tcase_add_test(t, refused_while_it_tests);
	suite_add_tcase(s, t);
	return suite_run(s);
}
