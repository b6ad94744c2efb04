/* SPDX-License-Identifier: MIT */
/*
 * What went wrong with tokens in other clients: rejoins with an old one, with one that was taken
 * back, and with a dead one, for ever. Each story names the public report that it comes from.
 */
#include "hub_fixture.h"
#include "hub_own.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char expired[] = "{'reason':'InvalidJWTToken: Token has expired 9 seconds ago'}";

static void setup(void)
{
	rig_start(with_links);
	server_open();
}

static void lose_and_open(void)
{
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
}

static unsigned n_joins(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig.frames.n; i++)
		n += strcmp(rig.frames.at[i].event, "phx_join") == 0;
	return n;
}

/* ---- an old one ---- */

enum { BY_LOSS, BY_CRASH, BY_WORDS, BY_NO_ANSWER, N_WAYS };

static bool is_frame_there(void)
{
	for (size_t i = rig.frames.next; i < rig.frames.n; i++) {
		if (!rig.frames.at[i].taken)
			return true;
	}
	return false;
}

/* The next frame comes within a while. */
static void until_frame(void)
{
	for (unsigned i = 0; !is_frame_there(); i++) {
		MUST(i < 300);
		advance(100);
	}
}

/* supabase-py#1655, supabase-js#2613, realtime-js#274: the new token was told to the channel, and
 * the rejoin carried the old one. */
START_TEST(a_rejoin_carries_what_was_pushed)
{
	const char *claims = "'role':'authenticated','sub':'alice'";
	const char *first = token_of(claims, 3600, 1), *second = token_of(claims, 7200, 2);
	struct fake_peer *p = peer_ready(), *other = peer_ready();
	unsigned n_first;
	uint64_t ref;

	give(p, 1, first, UNPROVEN("1"));
	give(other, 1, first, UNPROVEN("1")); /* who keeps the old one */
	peer_joins(p, 2, "t", first);
	ref = rig.frames.at[0].ref;
	give(p, 3, second, NULL);
	open_link(1);
	server_tries(1, second, true, "{}");
	expect_push("t", 0, second);
	trial_left();
	expect(p, ACCEPTED("3"));
	n_first = frames_with(first);
	for (unsigned i = 0; i < 3; i++) {
		struct line *f;

		if (_i == BY_LOSS)
			lose_and_open();
		else if (_i == BY_WORDS)
			server_text("['%" PRIu64 "',null,'realtime:t','system',{'status':'error',"
				    "'message':'Query was cancelled, please try again',"
				    "'extension':'system'}]",
				    ref);
		if (_i == BY_CRASH)
			server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t','phx_error',{}]",
				    ref, ref);
		else if (_i != BY_LOSS)
			server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t','phx_close',{}]",
				    ref, ref);
		if (_i != BY_LOSS)
			until_frame();
		f = expect_join("t", second);
		if (_i == BY_NO_ANSWER) {
			until_frame();
			expect_frame("*'phx_leave'*");
			until_frame();
			f = expect_join("t", second);
		}
		ref = f->ref;
		server_reply(f, true, "{}");
		expect_no_frame();
		advance(31000);
	}
	ck_assert_uint_eq(frames_with(first), n_first);
}
END_TEST

/* The server ends the channel for the token before, at the moment at which it is told the next one: that
 * says nothing of the next one, with which the channel goes on. */
START_TEST(the_end_of_the_old_one_crosses_the_new_one)
{
	const char *claims = "'role':'authenticated','sub':'alice'";
	const char *first = token_of(claims, 20, 1), *second = token_of(claims, 7200, 2);
	bool is_private = _i == 1;
	struct fake_peer *p = peer_ready();
	struct line f;

	rig.probes = true;
	give(p, 1, first, UNPROVEN("1"));
	peer_ask(p, 2, "subscribe", is_private ? "{'topic':'t','private':true}" : "{'topic':'t'}");
	f = *expect_join("t", first);
	server_reply(&f, true, "{}");
	peer_skip(p, "");
	advance(15000);
	give(p, 3, second, NULL);
	open_link(1);
	server_tries(1, second, true, "{}");
	expect_push("t", 0, second);
	trial_left();
	expect(p, ACCEPTED("3"));
	own_closed(&f, OWN_EXPIRED);
	expect(p, "[2,'channel',{*'state':'rejoining','code':'token_expired',*");
	f = *expect_join("t", second);
	server_reply(&f, true, "{}");
	expect(p, "[2,'gap',{*'cause':'token_expired',*");
	expect(p, "[2,'channel',{*'ready'}]");
	expect_nothing(p);
	/* The same word about this join is one about the new one. */
	own_closed(&f, OWN_EXPIRED);
	ck_assert_uint_eq(peer_skip(p, "\"rejected\",\"code\":\"token_expired\""), 1);
	expect_no_frame();
}
END_TEST

/* The same with the daemon's own, for all channels: after a renewal nothing carries the old one. */
START_TEST(a_rejoin_carries_the_renewed_one)
{
	enum { HOUR = 3600000, CHANNELS = 8 };
	struct fake_peer *p;
	unsigned n_old;

	own_start(NULL);
	p = peer_ready();
	own_give(1, HOUR);
	for (unsigned i = 0; i < CHANNELS; i++) {
		char params[60];

		snprintf(params, sizeof(params), "{'topic':'t%u'}", i);
		peer_ask(p, 10 + i, "subscribe", params);
	}
	server_serve();
	for (uint64_t serial = 2; serial < 12; serial++) {
		own_give(serial, HOUR);
		if (serial % 2) /* else it is lost before all of them are told */
			advance(2000);
		for (size_t i = rig.frames.next; i < rig.frames.n; i++)
			rig.frames.at[i].taken = true;
		n_old = frames_with(own_name(serial - 1));
		lose_and_open();
		for (unsigned i = 0; i < CHANNELS; i++)
			server_reply(expect_join("t*", own_name(serial)), true, "{}");
		expect_no_frame();
		ck_assert_uint_eq(frames_with(own_name(serial - 1)), n_old);
		advance(31000);
		server_serve();
	}
	own_end();
}
END_TEST

/* ---- one that was taken back ---- */

/* supabase-js#2596: after a sign-out the channels were joined with the token of before. */
START_TEST(nothing_with_a_cleared_token)
{
	const char *alice = token_of_user("alice", 1);
	struct fake_peer *p = peer_ready();
	unsigned n;

	give(p, 1, alice, UNPROVEN("1"));
	peer_joins(p, 2, "t", alice);
	peer_ask(p, 3, "auth", "{'token':null}");
	expect(p, "[1,3,null,{'state':'cleared'}]");
	expect(p, "[2,'channel',{*'state':'rejected','code':'token_cleared',*");
	n = frames_with(alice);
	for (unsigned i = 0; i < 10; i++) {
		advance(300000);
		server_serve();
		lose_and_open();
		server_serve();
	}
	ck_assert_uint_eq(frames_with(alice), n);
}
END_TEST

/* ---- a dead one ---- */

/* supabase-js#2596: a dead token was tried again every five or six seconds, without an end. A
 * client's is tried once: with the server's word it is over for all that hangs on it. */
START_TEST(a_dead_token_of_a_client)
{
	const char *alice = token_of_user("alice", 1);
	struct fake_peer *p = peer_ready();
	unsigned n;

	give(p, 1, alice, UNPROVEN("1"));
	for (unsigned i = 0; i < 5; i++) {
		char params[60];

		snprintf(params, sizeof(params), "{'topic':'t%u','keep':true}", i);
		peer_ask(p, 10 + i, "subscribe", params);
	}
	for (unsigned i = 0; i < 100; i++) {
		struct line *f = NULL;

		for (size_t k = rig.frames.next; k < rig.frames.n && !f; k++)
			f = rig.frames.at[k].taken ? NULL : &rig.frames.at[k];
		if (!f)
			break;
		f->taken = true;
		server_reply(f, strcmp(f->event, "phx_join") != 0, expired);
	}
	n = frames_with(alice);
	ck_assert_uint_le(n, 5);
	for (unsigned i = 0; i < 24; i++) {
		advance(3600000);
		expect_no_frame();
		lose_and_open();
		expect_no_frame();
	}
	ck_assert_uint_eq(frames_with(alice), n);
	/* Until it brings another one. */
	peer_skip(p, "");
	give(p, 50, token_of_user("alice", 2), UNPROVEN("50"));
	peer_joins(p, 51, "t0", token_of_user("alice", 2));
}
END_TEST

/* The daemon's own: joins wait; one at a time looks again, seldom, and with each new connection. */
START_TEST(a_dead_token_of_the_daemon)
{
	struct fake_peer *p = peer_ready();
	unsigned before;

	for (unsigned i = 0; i < 5; i++) {
		char params[60];

		snprintf(params, sizeof(params), "{'topic':'t%u','keep':true}", i);
		peer_ask(p, 10 + i, "subscribe", params);
	}
	server_serve();
	for (unsigned i = 0; i < 24; i++) {
		before = n_joins();
		lose_and_open();
		for (unsigned k = 0; k < 3600; k++) {
			for (size_t f = rig.frames.next; f < rig.frames.n; f++) {
				struct line *l = &rig.frames.at[f];

				if (l->taken || !frame_is_current(l))
					continue;
				l->taken = true;
				server_reply(l, false, expired);
			}
			advance(1000);
		}
		ck_assert_uint_ge(n_joins() - before, 1);
		ck_assert_uint_le(n_joins() - before, 10);
	}
	lose_and_open();
	/* The key is good again. */
	server_serve();
	advance(600000);
	server_serve();
	peer_skip(p, "");
	server_broadcast("t0", "e", "1");
	expect(p, "[2,'broadcast',*");
}
END_TEST

/* ... and one that comes from somewhere: no join at all before there is another. */
START_TEST(a_dead_token_that_is_renewed)
{
	enum { HOUR = 3600000 };
	struct fake_peer *p;

	own_start(NULL);
	p = peer_ready();
	own_give(1, 1000ull * HOUR);
	peer_ask(p, 1, "subscribe", "{'topic':'t'}");
	server_serve();
	own_closed(&rig.frames.at[0], OWN_EXPIRED);
	for (unsigned i = 0; i < 24; i++) {
		advance(HOUR);
		expect_no_frame();
		lose_and_open();
		expect_no_frame();
	}
	ck_assert_uint_eq(owner.n_refused, 1);
	own_give(2, HOUR);
	server_reply(expect_join("t", own_name(2)), true, "{}");
	peer_skip(p, "");
	server_broadcast("t", "e", "1");
	expect(p, "[2,'broadcast',*");
	own_end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_bugs_tokens");
	TCase *t = tcase_create("tokens"), *own = tcase_create("own");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_loop_test(t, a_rejoin_carries_what_was_pushed, 0, N_WAYS);
	tcase_add_loop_test(t, the_end_of_the_old_one_crosses_the_new_one, 0, 2);
	tcase_add_test(t, nothing_with_a_cleared_token);
	tcase_add_test(t, a_dead_token_of_a_client);
	tcase_add_test(t, a_dead_token_of_the_daemon);
	tcase_set_timeout(own, 60);
	tcase_add_test(own, a_rejoin_carries_the_renewed_one);
	tcase_add_test(own, a_dead_token_that_is_renewed);
	suite_add_tcase(s, t);
	suite_add_tcase(s, own);
	return suite_run(s);
}
