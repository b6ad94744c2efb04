/* SPDX-License-Identifier: MIT */
/* Stories about another token for channels that are joined: few at a time, those first whose own
 * ends first, and none that has it already. */
#include "hub_own.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR = 3600000, MANY = 100, PER_S = 20 };

static struct fake_peer *a;
static struct line joined[MANY];

static void more_channels(struct hub_conf *conf)
{
	conf->max_channels = MANY;
	conf->max_subscriptions = MANY;
	conf->joins_per_s = 1000;
	conf->joins_most_per_s = 1000;
}

static void begin(void)
{
	own_start(more_channels);
	rig.probes = true;
	a = peer_ready();
	own_give(1, HOUR);
}

static void join(unsigned i)
{
	char params[100];

	snprintf(params, sizeof(params), "{'topic':'t%u'}", i);
	peer_ask(a, 1 + i, "subscribe", params);
	advance(1000);
	snprintf(params, sizeof(params), "t%u", i);
	joined[i] = *expect_join(params, own_name(rig.hub->own.token->serial));
	server_reply(&joined[i], true, "{}");
}

static void join_all(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		join(i);
	peer_skip(a, "");
}

static unsigned pushes_within(uint64_t from_ms, uint64_t to_ms)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig.frames.n; i++) {
		const struct line *f = &rig.frames.at[i];

		n += strcmp(f->event, "access_token") == 0 && f->at_ms >= from_ms &&
		     f->at_ms < to_ms;
	}
	return n;
}

static unsigned pushes_to(const char *topic)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig.frames.n; i++)
		n += strcmp(rig.frames.at[i].event, "access_token") == 0 &&
		     strcmp(rig.frames.at[i].topic, topic) == 0;
	return n;
}

/* Never more than twenty in a second, none left out, none twice. */
START_TEST(a_hundred_channels)
{
	uint64_t begin_ms;
	char topic[40];

	begin();
	join_all(MANY);
	begin_ms = rig.now;
	own_give(2, HOUR);
	advance(30000);
	for (uint64_t at = begin_ms; at < rig.now; at += 10)
		ck_assert_uint_le(pushes_within(at, at + 1000), PER_S);
	ck_assert_uint_eq(pushes_within(begin_ms, begin_ms + 8000), MANY);
	ck_assert_uint_eq(pushes_within(begin_ms, rig.now), MANY);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(topic, sizeof(topic), "realtime:t%u", i);
		ck_assert_uint_eq(pushes_to(topic), 1);
	}
	ck_assert_uint_eq(frames_with("\"access_token\":\"own-2\""), MANY);
	expect_nothing(a); /* nobody notices */
}
END_TEST

/* What is joined anew meanwhile has it from its join. */
START_TEST(joined_anew_meanwhile)
{
	begin();
	join_all(30);
	own_give(2, HOUR);
	own_closed(&joined[29], "channel closed for some reason");
	ck_assert_uint_eq(pushes_to("realtime:t29"), 0);
	advance(5000);
	server_serve();
	advance(15000);
	ck_assert_uint_eq(pushes_to("realtime:t29"), 0);
	ck_assert_uint_eq(pushes_within(0, rig.now), 29);
	ck_assert_uint_eq(frames_with("\"realtime:t29\",\"phx_join\""), 2);
}
END_TEST

/* A third one comes while the second is still being told: nobody is told the second any more. */
START_TEST(another_meanwhile)
{
	begin();
	join_all(40);
	own_give(2, HOUR);
	advance(1000);
	own_give(3, HOUR);
	advance(20000);
	ck_assert_uint_le(frames_with("\"access_token\":\"own-2\""), 20);
	ck_assert_uint_eq(frames_with("\"access_token\":\"own-3\""), 40);
}
END_TEST

static unsigned number_of(const struct line *f)
{
	return (unsigned)strtoul(f->topic + strlen("realtime:t"), NULL, 10);
}

/* Those first whose token ends first: what a channel has is what it was joined with, or told last. */
START_TEST(whose_ends_first)
{
	unsigned n_told;

	begin();
	join_all(20);
	own_give(2, 600000);
	n_told = frames_with("\"access_token\",{\"access_token\":\"own-2\"");
	ck_assert_uint_eq(n_told, PUSHES_BURST);
	own_give(3, HOUR);
	advance(10000);
	for (unsigned i = 0; i < n_told; i++)
		expect_push("t*", 0, own_name(2));
	/* They have ten minutes, the others almost an hour. */
	for (unsigned i = 0; i < 20; i++)
		ck_assert_uint_eq(number_of(expect_frame("[*'access_token',{*'own-3'}]")), i);
	expect_no_frame();
}
END_TEST

/* A full mailbox: tried again, once each. */
START_TEST(no_room)
{
	begin();
	join_all(3);
	rig.send_result = 1;
	own_give(2, HOUR);
	advance(500);
	ck_assert_uint_eq(pushes_within(0, rig.now), 0);
	rig.send_result = 0;
	advance(500);
	expect_push("t0", 0, own_name(2));
	expect_push("t1", 0, own_name(2));
	expect_push("t2", 0, own_name(2));
	advance(10000);
	expect_no_frame();
}
END_TEST

/* The server will not have it: the channel that was told first says so, and no more are told. */
START_TEST(refused_after_the_first)
{
	unsigned n;

	begin();
	join_all(60);
	own_give(2, HOUR);
	advance(300);
	n = pushes_within(0, rig.now);
	ck_assert_uint_le(n, 12);
	own_closed(&joined[0], "Failed to validate JWT signature");
	ck_assert_uint_eq(owner.n_refused, 1);
	ck_assert_uint_eq(owner.serial, 2);
	advance(60000);
	ck_assert_uint_eq(pushes_within(0, rig.now), n);
	ck_assert_uint_eq(peer_skip(a, "token_signature"), 1);
	own_give(3, HOUR);
	advance(20000);
	server_serve();
	advance(2000);
	/* t0 by its join, the others by a push. */
	ck_assert_uint_eq(frames_with("\"access_token\",{\"access_token\":\"own-3\""), 59);
}
END_TEST

/* The end of the old one crosses the new one: that is no word about the new one. */
START_TEST(the_end_crosses_it)
{
	begin();
	own_give(2, 10000);
	join(0);
	peer_skip(a, "");
	advance(8000);
	own_give(3, HOUR);
	expect_push("t0", 0, own_name(3));
	own_closed(&joined[0], OWN_EXPIRED);
	ck_assert_uint_eq(owner.n_refused, 0);
	server_reply(expect_join("t0", own_name(3)), true, "{}");
	expect(a, "[2,'channel',{*'rejoining','code':'token_expired',*");
	expect(a, "[2,'gap',*");
	expect(a, "[2,'channel',{*'ready'}]");
}
END_TEST

/* Identities of clients take the same road. */
START_TEST(of_clients)
{
	const char *first, *second;
	struct fake_peer *b;
	unsigned n;

	begin();
	first = token_of_user("alice", 1);
	second = token_of("'role':'authenticated','sub':'alice'", 7200, 2);
	b = peer_with(first, "[1,0,null,*");
	for (unsigned i = 0; i < 30; i++) {
		char params[100];

		snprintf(params, sizeof(params), "{'topic':'t%u'}", i);
		peer_ask(b, 1 + i, "subscribe", params);
		advance(1000);
		snprintf(params, sizeof(params), "t%u", i);
		server_reply(expect_join(params, first), true, "{}");
	}
	give(b, 50, second, NULL);
	open_link(1);
	server_tries(1, second, true, "{}");
	n = pushes_within(0, rig.now + 1);
	ck_assert_uint_ge(n, 1);
	ck_assert_uint_le(n, PUSHES_BURST);
	advance(1000);
	ck_assert_uint_le(pushes_within(0, rig.now), PER_S);
	advance(5000);
	ck_assert_uint_eq(pushes_within(0, rig.now), 30);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("push");
	Suite *s = suite_create("hub_own_push");

	tcase_add_checked_fixture(t, NULL, own_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_hundred_channels);
	tcase_add_test(t, joined_anew_meanwhile);
	tcase_add_test(t, another_meanwhile);
	tcase_add_test(t, whose_ends_first);
	tcase_add_test(t, no_room);
	tcase_add_test(t, refused_after_the_first);
	tcase_add_test(t, the_end_crosses_it);
	tcase_add_test(t, of_clients);
	suite_add_tcase(s, t);
	return suite_run(s);
}
