/* SPDX-License-Identifier: MIT */
/*
 * What a local client might do to the others through the hub: each of these once worked, or would
 * without a rule that is easily lost.
 */
#include "hub_fixture.h"

#include <stdio.h>
#include <string.h>

#include "hub_presence.h"

/* A key with one meta. */
#define AT(key, ref, n) "'" key "':{'metas':[{'phx_ref':'" ref "','n':" n "}]}"

static void four_links(struct hub_conf *conf)
{
	conf->max_links = 4;
}

static void four_links_merge(struct hub_conf *conf)
{
	conf->max_links = 4;
	conf->trackers = HUB_TRACKERS_MERGE;
}

static void refuse(struct hub_conf *conf)
{
	conf->trackers = HUB_TRACKERS_REFUSE;
}

static void begin(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	server_open();
}

/* Links that were asked for are online, and the server has answered everything. */
static void serve(void)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (rig.links[i].is_open && rig.hub->links[i].session &&
		    session_get_state(rig.hub->links[i].session) == SESSION_CONNECTING) {
			rig.at = i;
			server_open();
			rig.at = 0;
		}
	}
	server_serve();
}

static void serve_for(uint64_t ms, uint64_t step)
{
	for (uint64_t passed = 0; passed < ms; passed += step) {
		serve();
		advance(step);
	}
	serve();
}

static unsigned count_frames(size_t from, unsigned link, const char *event)
{
	unsigned n = 0;

	for (size_t i = from; i < rig.frames.n; i++)
		n += rig.frames.at[i].link == link && strcmp(rig.frames.at[i].event, event) == 0;
	return n;
}

static unsigned count_gaps(const struct fake_peer *p)
{
	unsigned n = 0;

	for (size_t i = 0; i < p->got.n; i++)
		n += strstr(p->got.at[i].text, "\"gap\"") != NULL;
	return n;
}

/* A tracker on a further link names the channel by its number, when the shared join is gone. */
START_TEST(broadcast_without_a_shared_join)
{
	struct fake_peer *a, *b;

	begin(four_links);
	a = peer_ready();
	b = peer_ready();
	peer_ask(a, 1, "track", "{'topic':'t','key':'a','state':{}}");
	serve();
	peer_ask(b, 1, "track", "{'topic':'t','key':'b','state':{}}");
	serve_for(1000, 100);
	expect(b, "[1,1,null,{'outcome':'acked'*");
	peer_close(a);
	serve_for(33000, 1000);
	ck_assert_ptr_null(chan_find_number(rig.hub, 1)->join);
	peer_ask(b, 2, "broadcast", "{'chan':1,'event':'e','payload':1}");
	serve_for(1000, 100);
	expect(b, "[1,2,null,{'outcome':'acked',*");
}
END_TEST

/* Coming and going on a further link does not start a new budget of calls each time. */
START_TEST(coming_and_going)
{
	struct fake_peer *a, *b;
	size_t from;

	begin(four_links);
	a = peer_ready();
	b = peer_ready();
	peer_ask(a, 1, "track", "{'topic':'t','key':'a','state':{}}");
	serve();
	peer_call(b, "track", "{'topic':'t','key':'b','state':{}}");
	serve();
	from = rig.frames.n;
	for (unsigned i = 0; i < 1500; i++) {
		peer_call(b, "untrack", "{'topic':'t'}");
		peer_call(b, "track", "{'topic':'t','key':'b','state':{}}");
		advance(20);
		serve();
		advance(20);
		serve();
	}
	MUST_MSG(count_frames(from, 1, "presence") <= 15, "%u calls in a minute",
		 count_frames(from, 1, "presence"));
	MUST_MSG(count_frames(from, 1, "phx_join") <= 3, "%u joins in a minute",
		 count_frames(from, 1, "phx_join"));
}
END_TEST

/* Many channels at once: the server counts for the whole project. */
START_TEST(calls_of_all_channels)
{
	struct fake_peer *a;
	char params[100];
	size_t from;

	begin(four_links);
	a = peer_ready();
	for (unsigned i = 0; i < 80; i++) {
		snprintf(params, sizeof(params), "{'topic':'t%u','state':{}}", i);
		peer_call(a, "track", params);
	}
	serve_for(60000, 1000);
	from = rig.frames.n;
	for (unsigned i = 0; i < 80; i++) {
		snprintf(params, sizeof(params), "{'topic':'t%u','state':{'n':1}}", i);
		peer_call(a, "track", params);
	}
	ck_assert_uint_eq(count_frames(from, 0, "presence"), CALLS_BURST);
	advance(1000);
	ck_assert_uint_le(count_frames(from, 0, "presence"), CALLS_BURST + CALLS_PER_S);
	serve_for(20000, 100);
	ck_assert_uint_eq(count_frames(from, 0, "presence"), 80);
	/* All go at once: some at once, all within seconds. */
	from = rig.frames.n;
	peer_close(a);
	ck_assert_uint_ge(count_frames(from, 0, "presence"), CALLS_DEBT);
	serve_for(10000, 100);
	ck_assert_uint_ge(count_frames(from, 0, "presence") + count_frames(from, 0, "phx_leave"),
			  80);
}
END_TEST

/* A long queue of joins on one link does not starve the others. */
START_TEST(queue_of_another_link)
{
	struct fake_peer *v, *x;
	unsigned n = 0;
	char params[100];

	begin(four_links);
	v = peer_ready();
	x = peer_ready();
	peer_ask(v, 1, "subscribe", "{'topic':'t'}");
	serve_for(5000, 1000);
	expect(v, "[1,1,*");
	peer_ask(v, 2, "subscribe", "{'topic':'t','private':true}");
	for (unsigned i = 0; i < 60; i++) {
		while (n < 12 + i) {
			snprintf(params, sizeof(params), "{'topic':'x%u'}", n++);
			peer_call(x, "subscribe", params);
		}
		serve();
		advance(100);
		if (i >= 2) {
			snprintf(params, sizeof(params), "{'topic':'x%u'}", i - 2);
			peer_call(x, "unsubscribe", params);
		}
	}
	ck_assert(rig.links[1].is_open);
	expect(v, "[1,2,null,{*'state':'ready'}]");
}
END_TEST

/* One key after the other in a shared channel: its subscribers get few gaps. */
static void change_keys(struct fake_peer *x, struct fake_peer *victim)
{
	unsigned before = count_gaps(victim);
	char params[100];

	for (unsigned i = 0; i < 60; i++) {
		snprintf(params, sizeof(params), "{'topic':'t','key':'k%u','state':{}}", i);
		peer_call(x, "track", params);
		serve_for(10500, 500);
		peer_call(x, "untrack", "{'topic':'t'}");
	}
	/* In ten minutes and a half: at 0, 10, 30, 70, 150, 310 s and so on. */
	MUST_MSG(count_gaps(victim) - before <= 8, "%u gaps", count_gaps(victim) - before);
}

START_TEST(keys_in_turn)
{
	struct fake_peer *victim, *x;

	begin(refuse);
	victim = peer_ready();
	x = peer_ready();
	peer_ask(victim, 1, "subscribe", "{'topic':'t'}");
	serve();
	change_keys(x, victim);
}
END_TEST

START_TEST(keys_in_turn_with_all_links_taken)
{
	struct fake_peer *victim, *x[4];
	char params[100];

	begin(four_links);
	victim = peer_ready();
	peer_ask(victim, 1, "subscribe", "{'topic':'t'}");
	serve();
	for (unsigned i = 0; i < 4; i++) {
		x[i] = peer_ready();
		snprintf(params, sizeof(params), "{'topic':'t','key':'f%u','state':{}}", i);
		peer_ask(x[i], 1, "track", params);
		serve_for(1000, 100);
		expect(x[i], "[1,1,null,{'outcome':'acked',*");
	}
	peer_call(x[0], "untrack", "{'topic':'t'}");
	change_keys(x[0], victim);
}
END_TEST

/* Who passes by and names a key costs nobody a rejoin. */
START_TEST(key_of_a_passer_by)
{
	struct fake_peer *v, *x, *w;

	begin(four_links);
	v = peer_ready();
	x = peer_ready();
	w = peer_ready();
	peer_ask(v, 1, "subscribe", "{'topic':'t','presence':{}}");
	serve();
	peer_ask(x, 1, "subscribe", "{'topic':'t','presence':{'key':'zzz'}}");
	peer_ask(x, 2, "unsubscribe", "{'topic':'t'}");
	peer_ask(w, 1, "track", "{'topic':'t','state':{}}");
	serve_for(2000, 100);
	expect(w, "[1,1,null,{'outcome':'acked',*");
	ck_assert_uint_eq(count_frames(0, 0, "phx_join"), 1);
}
END_TEST

/* Values that the server finds larger than JSON shows are counted as it counts. */
START_TEST(merged_states_as_the_server_counts)
{
	struct fake_peer *p;
	char params[65000];
	size_t n;

	begin(four_links_merge);
	n = (size_t)snprintf(params, sizeof(params), "{'topic':'t','state':{'x':[0");
	while (n < sizeof(params) - 100)
		n += (size_t)snprintf(params + n, sizeof(params) - n, ",['']");
	snprintf(params + n, sizeof(params) - n, "]}}");
	p = peer_ready();
	peer_ask(p, 1, "track", params);
	serve();
	expect(p, "[1,1,null,{'outcome':'acked',*");
	p = peer_ready();
	peer_ask(p, 1, "track", params);
	expect(p, "[1,1,[210,'presence_taken',*too large*],null]");
}
END_TEST

/* A topic cut between its characters would make `status` unreadable for everybody. */
START_TEST(status_stays_text)
{
	struct fake_peer *a, *b;
	char params[400] = "{'topic':'a";

	begin(four_links);
	a = peer_ready();
	b = peer_ready();
	for (unsigned i = 0; i < 60; i++)
		strcat(params, "\xc3\xa9");
	strcat(params, "','state':{}}");
	peer_ask(a, 1, "track", params);
	serve();
	peer_ask(b, 1, "track", params);
	ck_assert(rig.links[1].is_open);
	peer_ask(a, 2, "status", "{}");
	/* The fixture reads each text as UTF-8. */
	expect(a, "[1,1,null,*");
	expect(a, "[1,2,null,{*'why':'*channel a*','joins':1*");
}
END_TEST

/* What came from the channel before is older than the new one's state: nobody is brought back. */
START_TEST(ghost_of_the_channel_before)
{
	struct fake_peer *a, *b;
	struct line first, join, probe;

	begin(NULL);
	a = peer_ready();
	b = peer_ready();
	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	first = server_join_watched("t", NULL);
	server_state(&first, "{}");
	expect(a, "[1,1,null,{*'state':'ok','snapshot':[]*");
	peer_ask(b, 1, "track", "{'topic':'t','key':'b','state':{}}");
	advance(REJOIN_GATHER_MS);
	expect(a, "[2,'channel',*'rejoining'*");
	join = *expect_frame("*'phx_join'*");
	server_diff("t", "{" AT("X", "r1", "1") "}", "{}");
	server_reply(&join, true, "{}");
	expect_frame("*'event':'track'*");
	probe = *expect_frame("[*,'presence',{}]");
	server_state(&join, "{}");
	server_reply(&probe, true, "{}");
	expect(a, "[2,'gap',*");
	expect(a, "[2,'channel',*'joined'*");
	expect(a, "[2,'channel',*'ready'*");
	peer_ask(a, 2, "presence", "{'topic':'t'}");
	expect(a, "[1,2,null,{'state':'ok','snapshot':[]}]");
}
END_TEST

/* A rejoin is called off by everybody's going while the link takes nothing: who was shown is not
 * forgotten at the server. */
START_TEST(gone_while_the_link_is_full)
{
	struct fake_peer *a, *b, *c, *d;
	char params[100];
	size_t from;

	begin(NULL);
	a = peer_ready();
	b = peer_ready();
	c = peer_ready();
	d = peer_ready();
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	serve();
	peer_ask(a, 1, "track", "{'topic':'t','state':{}}");
	serve();
	expect(a, "[1,1,null,{'outcome':'acked'*");
	peer_ask(b, 2, "subscribe", "{'topic':'t','presence':{}}");
	advance(REJOIN_GATHER_MS - 10);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(params, sizeof(params), "{'topic':'x%u'}", i);
		peer_call(c, "subscribe", params);
		serve();
	}
	advance(10);
	ck_assert(chan_find_number(rig.hub, 1)->join->live);
	from = rig.frames.n;
	rig.send_result = 1;
	rig.no_turns = true;
	peer_close(a);
	peer_close(b);
	rig.no_turns = false;
	turn();
	rig.send_result = 0;
	peer_ask(d, 1, "subscribe", "{'topic':'t'}");
	serve_for(10000, 100);
	/* Left, or joined anew: either way the entry is gone. */
	ck_assert_uint_ge(count_frames(from, 0, "phx_leave") + count_frames(from, 0, "phx_join"),
			  1);
	expect(d, "[1,1,null,{*'state':'ready'}]");
}
END_TEST

/* Large presence of several channels at once: a client that reads well is not closed over it. */
START_TEST(snapshots_wait_for_room)
{
	struct fake_peer *a, *b;
	struct line join;

	begin(NULL);
	a = peer_ready();
	b = peer_ready();
	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{}}");
	join = server_join_watched("t", NULL);
	server_state(&join, "{" AT("x", "1", "1") "}");
	expect(a, "[1,1,null,{*'state':'ok',*");
	b->queued = rig.conf.peer_queue_bytes / 4 + 1;
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	expect(b, "[1,1,null,{*'state':'joined','presence':{'state':'pending','snapshot':[]}}]");
	server_diff("t", "{" AT("y", "2", "2") "}", "{}");
	expect(a, "[2,'presence',{*'join':*");
	advance(1000);
	expect_nothing(b);
	b->queued = 0;
	advance(BEHIND_RETRY_MS);
	expect(b, "[2,'presence',{*'sync':[*'x'*'y'*]}]");
	expect(b, "[2,'channel',{*'state':'ready','presence':'ok'}]");
	/* And changes that find no room become one whole state. */
	b->queued = rig.conf.peer_queue_bytes / 2;
	server_diff("t", "{" AT("z", "3", "3") "}", "{}");
	server_diff("t", "{}", "{" AT("y", "2", "2") "}");
	expect_nothing(b);
	b->queued = 0;
	advance(BEHIND_RETRY_MS);
	expect(b, "[2,'presence',{*'sync':[*'x'*'z'*]}]");
	expect(b, "[2,'channel',{*'state':'ready','presence':'ok'}]");
	server_diff("t", "{}", "{" AT("z", "3", "3") "}");
	expect(b, "[2,'presence',{*'leave':[{'key':'z',*}]}]");
}
END_TEST

/* ---- a server that stops answering on one connection ---- */

static void three_channels_each(struct hub_conf *conf)
{
	conf->max_links = 3;
	conf->max_channels = 4;
	conf->linger_ms = 0;
}

/* Room on link 0 for what is on link 1: two of its four channels are left. */
static void leave_two(struct fake_peer *p)
{
	for (unsigned i = 3; i <= 4; i++) {
		char params[60];

		snprintf(params, sizeof(params), "{'chan':%u}", i);
		peer_ask(p, 10 + i, "unsubscribe", params);
		expect(p, "[1,*,null,{}]");
		server_reply(expect_frame("*'phx_leave'*"), true, "{}");
	}
}

/* Moves the channel x, if it is to be moved now. */
static void serve_move(void)
{
	while (rig.frames.next < rig.frames.n) {
		struct line *f = &rig.frames.at[rig.frames.next++];

		if (strcmp(f->event, "phx_join") == 0)
			server_reply(f, true, "{}");
	}
}

/* It asked who is there, alone on a further link, and that is emptied before the server has
 * answered: the answer does not come (0), or the connection ends (1). */
START_TEST(asks_who_is_there_on_a_link_that_is_emptied)
{
	struct fake_peer *a, *b;

	begin(three_channels_each);
	a = peer_ready();
	b = peer_ready();
	for (unsigned i = 1; i <= 4; i++) {
		char params[60];

		snprintf(params, sizeof(params), "{'topic':'t%u'}", i);
		peer_ask(a, i, "subscribe", params);
		server_reply(expect_frame("*'phx_join'*"), true, "{}");
		expect(a, "[1,*,null,{*'ready'}]");
	}
	peer_ask(b, 1, "subscribe", "{'topic':'x','presence':{},'keep':true,'timeout_ms':1000}");
	rig.at = 1;
	server_open();
	rig.at = 0;
	ck_assert_uint_eq(server_join("x")->link, 1);
	expect_frame("[*'realtime:x','presence',*");
	leave_two(a);
	advance(12000);
	serve_move();
	if (_i == 1) {
		rig.at = 1;
		server_drop(SESSION_FAULT_LOST, "lost");
		rig.at = 0;
	}
	serve_for(120000, 1000);
	peer_skip(b, "");
	server_broadcast("x", "e", "1");
	expect(b, "[2,'broadcast',*");
	/* It was moved, then or later. */
	ck_assert(!rig.links[1].is_open);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_hostile");
	TCase *t = tcase_create("hostile");

	tcase_add_checked_fixture(t, NULL, rig_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, broadcast_without_a_shared_join);
	tcase_add_test(t, coming_and_going);
	tcase_add_test(t, calls_of_all_channels);
	tcase_add_test(t, queue_of_another_link);
	tcase_add_test(t, keys_in_turn);
	tcase_add_test(t, keys_in_turn_with_all_links_taken);
	tcase_add_test(t, key_of_a_passer_by);
	tcase_add_test(t, merged_states_as_the_server_counts);
	tcase_add_test(t, status_stays_text);
	tcase_add_test(t, ghost_of_the_channel_before);
	tcase_add_test(t, gone_while_the_link_is_full);
	tcase_add_test(t, snapshots_wait_for_room);
	tcase_add_loop_test(t, asks_who_is_there_on_a_link_that_is_emptied, 0, 2);
	suite_add_tcase(s, t);
	return suite_run(s);
}
