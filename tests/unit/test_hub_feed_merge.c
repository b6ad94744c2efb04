/* SPDX-License-Identifier: MIT */
/* Stories about feeds that are merged, step by step: two sources, one target. */
#include "hub_changes_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MERGE_SETTLE_MS = 200, MERGE_TWIN_MS = 1000 };

#define ON(table)  "{'event':'*','table':'" table "'}"
#define SUBSCRIBED "Subscribed to PostgreSQL"

static struct fake_peer *a, *b;

static void short_of_channels(struct hub_conf *conf)
{
	conf->max_channels = 4;
}

static struct line one, two, target;

/* a has t1 on one feed, b t2 on another; and the link has become short. */
static void two_feeds(void)
{
	rig_start(short_of_channels);
	server_open();
	a = peer_ready();
	b = peer_ready();
	peer_ask(a, 1, "subscribe", "{'postgres_changes':[{'table':'t1'}]}");
	one = server_feed(ON("t1"), "11");
	expect(a, "[1,1,null,*");
	peer_ask(b, 1, "subscribe", "{'postgres_changes':[{'table':'t2'}]}");
	two = server_feed(ON("t2"), "12");
	expect(b, "[1,1,null,*");
	expect_no_frame();
	advance(MERGE_SETTLE_MS);
	target = expect_feed(ON("t1") "," ON("t2"));
	expect_no_frame();
}

#define DATA(n)      "{'type':'INSERT','record':{'n':" n ",'b':[1,{'x':1,'y':2}]}}"
#define OTHER_WAY(n) "{'record':{'b':[1,{'y':2,'x':1}],'n':" n "},'type':'INSERT'}"

static void merged(void)
{
	two_feeds();
	server_takes(&target, "11,12");
	server_row(&one, "11", DATA("1"));
	server_row(&target, "11", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':1,*");
	expect_nothing(a);
	server_system(&target, true, SUBSCRIBED);
	expect_nothing(b);
}

static void left(const struct line *first, const struct line *second)
{
	advance(MERGE_OVERLAP_MS);
	server_left(first);
	server_left(second);
}

START_TEST(merged_step_by_step)
{
	merged();
	/* By both, in either order; the maps in any order of their keys. */
	server_row(&one, "11", DATA("2"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2,*");
	server_row(&target, "11", OTHER_WAY("2"));
	server_row(&target, "11", DATA("3"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':3,*");
	server_row(&one, "11", OTHER_WAY("3"));
	expect_nothing(a);
	/* By the source alone: looked up before. By the target alone: never in vain. */
	server_row(&two, "12", DATA("4"));
	expect(b, "[2,'postgres_changes',{'ids':[2],*'n':4,*");
	server_row(&target, "12", DATA("5"));
	expect(b, "[2,'postgres_changes',{'ids':[2],*'n':5,*");
	/* Twice the same change is two. */
	server_row(&one, "11", DATA("6"));
	server_row(&one, "11", DATA("6"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':6,*");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':6,*");
	server_row(&target, "11", DATA("6"));
	server_row(&target, "11", DATA("6"));
	server_row(&target, "11", DATA("6"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':6,*");
	server_row(&one, "11", DATA("6"));
	expect_nothing(a);
	left(&one, &two);
	/* What was still on its way. */
	server_row(&one, "11", DATA("7"));
	expect_nothing(a);
	advance(MERGE_TWIN_MS);
	server_row(&target, "11,12", DATA("8"));
	expect(a, "[2,'postgres_changes',{'ids':[1,2],*'n':8,*");
	expect(b, "[2,'postgres_changes',{'ids':[1,2],*'n':8,*");
	server_row(&target, "11,12", DATA("8"));
	expect(a, "[2,'postgres_changes',{'ids':[1,2],*'n':8,*");
	expect(b, "[2,'postgres_changes',{'ids':[1,2],*'n':8,*");
	expect_nothing(a);
	expect_nothing(b);
	ck_assert_uint_eq(rig.hub->n_feeds, 1);
	advance(60000);
	expect_no_frame();
}
END_TEST

/* The row comes by a source, then the server says that the target flows, then the row comes by
 * the target: one process sends the rows, another one that word. */
START_TEST(the_word_between_two_copies)
{
	two_feeds();
	server_takes(&target, "11,12");
	server_row(&one, "11", DATA("1"));
	server_system(&target, true, SUBSCRIBED);
	server_row(&target, "11", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':1,*");
	expect_nothing(a);
	/* And the other way round. */
	server_row(&target, "12", DATA("2"));
	server_row(&two, "12", DATA("2"));
	expect(b, "[2,'postgres_changes',{'ids':[2],*'n':2,*");
	expect_nothing(b);
}
END_TEST

START_TEST(the_word_between_two_copies_mirrored)
{
	two_feeds();
	server_takes(&target, "11,12");
	server_row(&target, "11", DATA("1"));
	expect_nothing(a);
	server_system(&target, true, SUBSCRIBED);
	server_row(&one, "11", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':1,*");
	expect_nothing(a);
	left(&one, &two);
	advance(MERGE_TWIN_MS);
	server_row(&target, "11", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':1,*");
	expect_nothing(a);
}
END_TEST

/* Everything flows on by the sources. */
static void still_apart(void)
{
	expect_nothing(a);
	expect_nothing(b);
	server_row(&one, "11", DATA("50"));
	server_row(&two, "12", DATA("51"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':50,*");
	expect(b, "[2,'postgres_changes',{'ids':[2],*'n':51,*");
	/* Not again soon. */
	advance(299000);
	expect_no_frame();
	expect_nothing(a);
	expect_nothing(b);
}

START_TEST(target_refused_at_once)
{
	two_feeds();
	server_reply(&target, false, "{'reason':'Unauthorized: no'}");
	advance(JOIN_REJECTED_MS);
	still_apart();
	ck_assert_uint_eq(rig.hub->n_feeds, 2);
}
END_TEST

START_TEST(target_not_taken)
{
	two_feeds();
	server_takes(&target, "11,12");
	server_system(&target, false, BAD_TEXT);
	server_left(&target);
	still_apart();
	ck_assert_uint_eq(rig.hub->n_feeds, 2);
}
END_TEST

START_TEST(target_with_a_bad_reply)
{
	two_feeds();
	server_takes(&target, "11,11");
	server_left(&target);
	still_apart();
}
END_TEST

START_TEST(target_closed_before_it_is_ready)
{
	two_feeds();
	server_takes(&target, "11,12");
	server_ends(&target);
	still_apart();
	ck_assert_uint_eq(rig.hub->n_feeds, 2);
}
END_TEST

/* An error that passes: nothing is lost while it is waited for. */
START_TEST(target_in_trouble)
{
	two_feeds();
	server_takes(&target, "11,12");
	server_system(&target, false, "{:error, :timeout}");
	server_row(&one, "11", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':1,*");
	expect_nothing(a);
	server_system(&target, true, SUBSCRIBED);
	expect_nothing(a);
	server_row(&one, "11", DATA("2"));
	server_row(&target, "11", DATA("2"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2,*");
	expect_nothing(a);
	left(&one, &two);
}
END_TEST

/* Busy at first: the join is tried again, and the sources stay meanwhile. */
START_TEST(target_refused_for_now)
{
	two_feeds();
	server_reply(&target, false, "{'reason':'RealtimeRestarting: x'}");
	server_row(&one, "11", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':1,*");
	advance(5000);
	target = server_feed(ON("t1") "," ON("t2"), "11,12");
	server_row(&target, "11", DATA("2"));
	server_row(&one, "11", DATA("2"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2,*");
	expect_nothing(a);
	left(&one, &two);
	expect_nothing(b);
}
END_TEST

/* There are frames that were not looked at. */
static bool is_more(void)
{
	for (size_t i = rig.frames.next; i < rig.frames.n; i++) {
		if (!rig.frames.at[i].taken)
			return true;
	}
	return false;
}

/* The connection goes at each step; afterwards all flows again, with one gap for each. */
START_TEST(dropped_at_each_step)
{
	struct line join;
	unsigned n = 0;

	two_feeds();
	if (_i > 0)
		server_takes(&target, "11,12");
	if (_i > 1)
		server_system(&target, true, SUBSCRIBED);
	if (_i > 2) {
		server_row(&one, "11", DATA("1"));
		expect(a, "[2,'postgres_changes',*");
	}
	if (_i > 3)
		advance(MERGE_OVERLAP_MS);
	if (_i > 4) {
		server_left(&one);
		server_left(&two);
	}
	if (_i > 5)
		advance(MERGE_TWIN_MS);
	server_drop(SESSION_FAULT_LOST, "lost");
	rig.frames.next = rig.frames.n;
	advance(2000);
	server_open();
	for (; n < 3 && is_more(); n++) {
		join = expect_feed("*");
		server_takes(&join,
			     strstr(join.text, "t1") && strstr(join.text, "t2") ? "11,12" : "13");
		server_system(&join, true, SUBSCRIBED);
	}
	/* The target's join that had no answer is tried again; one that had is given up. */
	ck_assert_uint_eq(n, _i == 0 ? 3 : _i == 1 ? 2 : 1);
	ck_assert_uint_eq(peer_skip(a, "\"gap\""), 1);
	ck_assert_uint_eq(peer_skip(b, "\"gap\""), 1);
	if (_i != 1) {
		server_row(&join, "11,12", DATA("5"));
		expect(a, "[2,'postgres_changes',{'ids':[1,2],*'n':5,*");
		expect(b, "[2,'postgres_changes',{'ids':[1,2],*'n':5,*");
		expect_nothing(a);
	}
	advance(30000);
	server_serve();
	advance(1);
	ck_assert_uint_eq(rig.hub->n_feeds, _i == 1 ? 2 : 1);
	expect_nothing(a);
	expect_nothing(b);
}
END_TEST

/* A source is closed: its own trouble alone, and the merge goes on. */
START_TEST(source_closed)
{
	two_feeds();
	server_takes(&target, "11,12");
	server_ends(&one);
	expect(a, "[2,'channel',{*'rejoining',*");
	server_system(&target, true, SUBSCRIBED);
	expect(a, "[2,'gap',{*'ids':[1]}]");
	expect(a, "[2,'channel',{*'ready',*");
	server_row(&target, "11,12", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1,2],*'n':1,*");
	expect(b, "[2,'postgres_changes',{'ids':[1,2],*'n':1,*");
	server_row(&two, "12", DATA("1"));
	expect_nothing(a);
	expect_nothing(b);
	advance(10000);
	server_left(&two);
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_feeds, 1);
}
END_TEST

START_TEST(source_closed_in_the_overlap)
{
	merged();
	server_ends(&one);
	expect_nothing(a);
	server_row(&target, "11", DATA("2"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2,*");
	advance(2000);
	server_left(&two);
	advance(10000);
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_feeds, 1);
}
END_TEST

/* It is gone after it had taken over: a gap, and one feed again. */
START_TEST(target_closed_in_the_overlap)
{
	merged();
	server_ends(&target);
	expect(a, "[2,'channel',{*'pending'*");
	expect(b, "[2,'channel',{*'pending'*");
	advance(2000);
	target = server_feed(ON("t1") "," ON("t2"), "11,12");
	server_left(&one);
	server_left(&two);
	ck_assert_uint_eq(peer_skip(a, "\"gap\""), 1);
	ck_assert_uint_eq(peer_skip(b, "\"gap\""), 1);
	server_row(&target, "11", DATA("2"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2,*");
	advance(10000);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

/* Who goes, who comes while it is going on. */
START_TEST(gone_and_come_while_merging)
{
	two_feeds();
	peer_ask(a, 2, "unsubscribe", "{'chan':1}");
	expect(a, "[1,2,null,{}]");
	advance(500);
	server_takes(&target, "11,12");
	peer_ask(a, 3, "subscribe", "{'topic':'','postgres_changes':[{'table':'t1'}]}");
	expect(a, "[1,3,null,{*'ready'*");
	server_row(&one, "11", DATA("1"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':1,*");
	server_system(&target, true, SUBSCRIBED);
	peer_ask(a, 4, "unsubscribe", "{'all':true}");
	expect(a, "[1,4,null,{}]");
	server_row(&one, "11", DATA("2"));
	server_row(&target, "11", DATA("2"));
	advance(100);
	peer_ask(a, 5, "subscribe", "{'topic':'','postgres_changes':[{'table':'t1'}]}");
	expect(a, "[1,5,null,{*'ready'*");
	server_row(&target, "11", DATA("3"));
	server_row(&one, "11", DATA("3"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':3,*");
	expect_nothing(a);
	peer_close(a);
	peer_close(b);
	advance(4000);
	server_left(&one);
	server_left(&two);
	server_left(&target);
	advance(5000);
	ck_assert_uint_eq(rig.hub->n_feeds, 0);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

/* Nobody is left before the target is there. */
START_TEST(all_gone_while_merging)
{
	two_feeds();
	if (_i == 1)
		server_takes(&target, "11,12");
	peer_close(a);
	peer_close(b);
	if (_i == 0)
		server_takes(&target, "11,12");
	advance(5000);
	server_serve();
	advance(15000);
	server_serve();
	advance(15000);
	ck_assert_uint_eq(rig.hub->n_feeds, 0);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
	ck_assert_uint_eq(rig.hub->links[0].n_joins, 0);
}
END_TEST

/* The teardown frees whatever there is. */
START_TEST(freed_while_merging)
{
	two_feeds();
	if (_i > 0)
		server_takes(&target, "11,12");
	if (_i > 1)
		server_system(&target, true, SUBSCRIBED);
	if (_i > 2)
		server_row(&one, "11", DATA("1"));
	if (_i > 3)
		advance(MERGE_OVERLAP_MS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_feed_merge");
	TCase *t = tcase_create("feed_merge");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, rig_teardown);
	tcase_add_test(t, merged_step_by_step);
	tcase_add_test(t, the_word_between_two_copies);
	tcase_add_test(t, the_word_between_two_copies_mirrored);
	tcase_add_test(t, target_refused_at_once);
	tcase_add_test(t, target_not_taken);
	tcase_add_test(t, target_with_a_bad_reply);
	tcase_add_test(t, target_closed_before_it_is_ready);
	tcase_add_test(t, target_in_trouble);
	tcase_add_test(t, target_refused_for_now);
	tcase_add_loop_test(t, dropped_at_each_step, 0, 7);
	tcase_add_test(t, source_closed);
	tcase_add_test(t, source_closed_in_the_overlap);
	tcase_add_test(t, target_closed_in_the_overlap);
	tcase_add_test(t, gone_and_come_while_merging);
	tcase_add_loop_test(t, all_gone_while_merging, 0, 2);
	tcase_add_loop_test(t, freed_while_merging, 0, 5);
	suite_add_tcase(s, t);
	return suite_run(s);
}
