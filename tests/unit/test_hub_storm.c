/* SPDX-License-Identifier: MIT */
/*
 * Storms: a connection that flaps, a hundred channels that come back, a server that says "too many
 * joins" or talks nonsense. What the server gets of us stays within what it takes, and in the end
 * everything is there (phoenix#4045, supabase-js#2236, warmbly#206).
 */
#include "hub_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND, CHANNELS = 90, USERS = 3 };

static struct fake_peer *peers[USERS];

static void setup(void)
{
	rig_setup_online();
	for (unsigned i = 0; i < USERS; i++) {
		rig.uid = 2000 + i;
		peers[i] = peer_ready();
	}
}

/* Each channel is of one user. */
static void ask_all(void)
{
	char params[80];

	for (unsigned i = 0; i < CHANNELS; i++) {
		snprintf(params, sizeof(params), "{'topic':'t%u','keep':true}", i);
		peer_ask(peers[i % USERS], 10 + i, "subscribe", params);
	}
}

/* The server answers what has come: joins with this, the rest with ok. NULL: all is well. */
static void server_answers(const char *refusal)
{
	for (size_t i = rig.frames.next; i < rig.frames.n; i++) {
		struct line *f = &rig.frames.at[i];

		if (f->taken || !frame_is_current(f))
			continue;
		f->taken = true;
		server_reply(f, !refusal || strcmp(f->event, "phx_join") != 0,
			     refusal ? refusal : "{}");
	}
}

static void serve_for(uint64_t ms, const char *refusal)
{
	for (uint64_t until = rig.now + ms; rig.now < until;) {
		server_answers(refusal);
		advance(100);
	}
}

/* Joins sent from `from` on, before `to`. */
static unsigned joins_between(uint64_t from, uint64_t to)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig.frames.n; i++) {
		const struct line *f = &rig.frames.at[i];

		n += strcmp(f->event, "phx_join") == 0 && f->at_ms >= from && f->at_ms < to;
	}
	return n;
}

/* From there until now no second has more than the pace and its burst give. */
static void check_pace(uint64_t from, unsigned per_s)
{
	for (uint64_t at = from; at < rig.now; at += 250)
		MUST(joins_between(at, at + SECOND) <= PACE_BURST + per_s);
	for (uint64_t at = from; at < rig.now; at += SECOND)
		MUST(joins_between(at, at + 10 * SECOND) <= PACE_BURST + 10 * per_s);
}

/* All ask and are joined, slowly: nobody knows yet what the server bears. */
static void all_join(void)
{
	uint64_t from = rig.now;

	ask_all();
	serve_for(3 * SECOND, NULL);
	check_pace(from, JOINS_PER_S);
	serve_for(17 * SECOND, NULL);
}

static void check_all_joined(void)
{
	for (unsigned i = 0; i < USERS; i++) {
		ck_assert_uint_eq(peers[i]->n_asked, 0);
		peer_skip(peers[i], "");
	}
	for (unsigned i = 0; i < CHANNELS; i++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "t%u", i);
		server_broadcast(topic, "e", "1");
		expect(peers[i % USERS], "[2,'broadcast',*");
	}
}

/* ---- the connection ---- */

START_TEST(a_hundred_come_back)
{
	uint64_t from;

	all_join();
	check_all_joined();
	from = rig.now;
	server_drop(SESSION_FAULT_RESTART, "1012");
	while (!rig.links[0].is_open)
		advance(10);
	server_open();
	serve_for(3 * SECOND, NULL);
	check_all_joined();
	check_pace(from, PACE_FASTER * JOINS_PER_S);
}
END_TEST

/* It lasts for two seconds each time: neither the attempts nor the joins grow into a storm. */
START_TEST(a_connection_that_flaps)
{
	uint64_t from, begun;
	unsigned n_opened;

	all_join();
	from = rig.now;
	n_opened = rig.links[0].n_opened;
	for (begun = rig.now; rig.now < begun + 10 * MINUTE;) {
		if (rig.links[0].is_open) {
			server_open();
			serve_for(2 * SECOND, NULL);
			server_drop(SESSION_FAULT_LOST, "flap");
		}
		advance(100);
	}
	ck_assert_uint_le(rig.links[0].n_opened - n_opened, 60);
	ck_assert_uint_ge(rig.links[0].n_opened - n_opened, 15);
	check_pace(from, PACE_FASTER * JOINS_PER_S);
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	serve_for(20 * SECOND, NULL);
	check_all_joined();
}
END_TEST

/* ---- too many joins ---- */

static const char join_rate[] =
	"{'reason':'ClientJoinRateLimitReached: Too many joins per second'}";

/* The server refuses one and closes the connection: nobody is joined for a minute, not on the next
 * connection either, and not for those who ask meanwhile. */
START_TEST(nothing_is_joined_for_a_minute)
{
	uint64_t from;

	all_join();
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	server_answers(join_rate);
	from = rig.now;
	server_drop(SESSION_FAULT_RESTART, "1001");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	peer_ask(peers[0], 500, "subscribe", "{'topic':'late','keep':true,'timeout_ms':300000}");
	serve_for(from + MINUTE - rig.now, NULL);
	ck_assert_uint_eq(joins_between(from + 1, rig.now), 0);
	serve_for(60 * SECOND, NULL);
	check_all_joined();
	check_pace(from + 1, JOINS_PER_S / 2);
}
END_TEST

/* ---- nonsense ---- */

/* None of these is a message of the protocol. */
static const char *const nonsense[] = {
	"",
	" ",
	"nonsense",
	"{",
	"[",
	"[]",
	"[1",
	"['1','1','realtime:t0','phx_close']", /* an element is missing */
	"['1','1','realtime:t0']",
	"{'topic':'realtime:t0','event':'phx_close','payload':{},'ref':'1'}", /* of 1.0.0 */
	"['1','1','realtime:t0','phx_close',{}",
	"['1','1','realtime:t0','phx_close',{}]x",
	"['1','1',7,'phx_close',{}]",
	"['1','1','realtime:t0',7,{}]",
	"['1','1',null,'phx_close',{}]",
	"[['1'],'1','realtime:t0','phx_close',{}]",
	"'realtime:t0'",
	"7",
	"null",
	"true",
	"\x01\x02",
};
enum { N_NONSENSE = sizeof(nonsense) / sizeof(*nonsense), NONSENSE_TAKEN = 20 };

static void one_channel(void)
{
	peer_join(peers[0], "t0", "{}");
	peer_skip(peers[0], "");
}

/* A few are passed over; more than 20 within a minute, and what talks there is no server that one
 * should stay with. Each end is told as a gap. */
START_TEST(nonsense_in_bulk)
{
	one_channel();
	for (unsigned i = 0; i < NONSENSE_TAKEN; i++)
		server_text("%s", nonsense[_i]);
	expect_nothing(peers[0]);
	server_broadcast("t0", "e", "1");
	expect(peers[0], "[2,'broadcast',*");
	advance(MINUTE); /* forgotten */
	for (unsigned i = 0; i < NONSENSE_TAKEN; i++)
		server_text("%s", nonsense[_i]);
	ck_assert(rig.links[0].is_open);
	expect_nothing(peers[0]);
	server_text("%s", nonsense[_i]);
	expect(peers[0], "[2,'channel',{*'state':'rejoining','code':'connection',*");
	expect(peers[0], "[2,'connection',{'state':'backoff',*'reason':'protocol',*");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	server_join("t0");
	expect(peers[0], "[2,'connection',{'state':'online',*");
	expect(peers[0], "[2,'gap',*");
	expect(peers[0], "[2,'channel',{*'state':'ready'}]");
}
END_TEST

/* Well said, and of nobody: events and topics that nobody knows. */
static const char *const unknown[] = {
	"[null,null,'realtime:t0','new_event',{}]",
	"['1',null,'realtime:t0','new_event',{'a':[1,2,{'b':null}]}]",
	"[null,null,'realtime:t0','',{}]",
	"[null,null,'realtime:nobody','broadcast',{'type':'broadcast','event':'e','payload':1}]",
	"['7','7','realtime:nobody','phx_close',{}]",
	"[null,null,'','broadcast',{'event':'e','payload':1}]",
	"[null,null,'t0','broadcast',{'event':'e','payload':1}]",
	"[null,null,'phoenix','new_event',{}]",
	"[null,null,'realtime:','broadcast',{'event':'e','payload':1}]",
	"[null,'99999','realtime:t0','phx_reply',{'status':'ok','response':{}}]",
	"[null,'99999999999999999999999','realtime:t0','phx_reply',{'status':'ok','response':{}}]",
	"[null,'-1','realtime:t0','phx_reply',{'status':'ok','response':{}}]",
	"[null,'x','realtime:t0','phx_reply',{'status':'ok','response':{}}]",
	"[null,null,'realtime:t0','phx_reply',{'status':'ok','response':{}}]",
	"['1','1','realtime:t0','phx_reply',{'status':'new','response':{}}]",
	"[null,null,'realtime:t0','postgres_changes',{}]",
	"[null,null,'realtime:t0','presence_diff',{}]",
	"[null,null,'realtime:t0','presence_state',7]",
	"[null,null,'realtime:t0','system',{'extension':'new','status':'new','message':null}]",
};
enum { N_UNKNOWN = sizeof(unknown) / sizeof(*unknown) };

START_TEST(unknown_words_in_bulk)
{
	one_channel();
	for (unsigned i = 0; i < 1000; i++)
		server_text("%s", unknown[_i]);
	ck_assert(rig.links[0].is_open);
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
	server_broadcast("t0", "e", "1");
	/* At most passed on as the notice that it is. */
	peer_skip(peers[0], "\"system\"");
	ck_assert_uint_eq(rig.hub->n_chans, 1);
	server_broadcast("t0", "e", "2");
	expect(peers[0], "[2,'broadcast',{*'payload':2}]");
	expect_no_frame();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_storm");
	TCase *t = tcase_create("storm");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, a_hundred_come_back);
	tcase_add_test(t, a_connection_that_flaps);
	tcase_add_test(t, nothing_is_joined_for_a_minute);
	tcase_add_loop_test(t, nonsense_in_bulk, 0, N_NONSENSE);
	tcase_add_loop_test(t, unknown_words_in_bulk, 0, N_UNKNOWN);
	suite_add_tcase(s, t);
	return suite_run(s);
}
