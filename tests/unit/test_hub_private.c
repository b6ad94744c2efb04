/* SPDX-License-Identifier: MIT */
/* Stories about projects that allow private channels only: changes ride on the private channels of
 * those who ask for them, after they were tried out beside. */
#include "hub_changes_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBSCRIBED "Subscribed to PostgreSQL"
#define ON(table)  "{'event':'*','table':'" table "'}"
#define ASK(topic, bindings)                                                                       \
	"{'topic':'" topic "','private':true,'timeout_ms':60000,'postgres_changes':[" bindings "]" \
	"}"
#define T(table) "{'table':'" table "'}"

static struct fake_peer *a, *b;

static void yes(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_YES;
	conf->max_links = 3;
}

static void yes_one_link(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_YES;
}

static void no(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_NO;
	conf->max_links = 3;
}

static void learns(struct hub_conf *conf)
{
	conf->max_links = 3;
}

static void begin(void (*change)(struct hub_conf *conf))
{
	database_start();
	database.private_only = true;
	rig_start(change);
	server_open();
	a = peer_ready();
	b = peer_ready();
}

static void teardown(void)
{
	rig_teardown();
	database_start();
}

/* The row, with these ids. */
static void expect_row(struct fake_peer *p, const char *ids, unsigned n)
{
	char pattern[100];

	snprintf(pattern, sizeof(pattern), "[2,'postgres_changes',{'ids':[%s],*'record':{'n':%u},*",
		 ids, n);
	expect(p, pattern);
	expect_nothing(p);
}

static void open_further(unsigned link)
{
	ck_assert(rig.links[link].is_open);
	rig.at = link;
	server_open();
	rig.at = 0;
}

START_TEST(rides_on_the_channel)
{
	struct line join;

	begin(yes);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	/* Nobody is disturbed: not tried out before. */
	join = expect_private(0, ON("t1"));
	expect_no_frame();
	server_takes(&join, "11");
	server_row(&join, "11", "{'type':'INSERT','record':{'n':1}}");
	expect_nothing(a);
	server_system(&join, true, SUBSCRIBED);
	expect(a,
	       "[1,1,null,{'chan':1,'topic':'p','private':true,'state':'ready','postgres_changes':"
	       "[{'id':1,'state':'ready'}]}]");
	server_row(&join, "11", "{'type':'INSERT','record':{'n':2}}");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2*");
	/* Who wants the channel, too, has it. */
	peer_ask(b, 1, "subscribe", "{'topic':'p','private':true}");
	expect(b, "[1,1,null,{'chan':1,*'ready'}]");
	server_broadcast("p", "e", "1");
	expect(b, "[2,'broadcast',*");
	server_row(&join, "11", "{'type':'INSERT','record':{'n':3}}");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':3*");
	expect_nothing(a);
	expect_nothing(b);
	peer_ask(a, 9, "status", "{}");
	expect(a, "[1,9,null,{*'feeds':[{'feed':1,'identity':0,'link':0,'state':'ready','bindings':"
		  "1,'ready':true,"
		  "'chan':1}],*'private_only':true*");
	peer_close(b);
	peer_close(a);
	advance(2000);
	server_left(&join);
	ck_assert_uint_eq(rig.hub->n_feeds, 0);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
	ck_assert_uint_eq(rig.hub->n_chans, 0);
	expect_no_frame();
}
END_TEST

/* Tried on a further link, in one go; then the channel is joined anew, once. */
START_TEST(tried_out_first)
{
	struct line first, proof, second;

	begin(yes);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	first = expect_private(0, ON("t1"));
	server_takes(&first, "11");
	server_system(&first, true, SUBSCRIBED);
	expect(a, "[1,1,null,*");
	peer_ask(b, 1, "subscribe", ASK("p", T("t2") "," T("t1") "," T("t3")));
	expect_no_frame();
	open_further(1);
	proof = expect_private(1, ON("t2") "," ON("t3"));
	server_takes(&proof, "12,13");
	expect_no_frame();
	/* What comes by the trial is for nobody. */
	server_row(&proof, "12", "{'type':'INSERT','record':{'n':1}}");
	server_system(&proof, true, SUBSCRIBED);
	server_row(&first, "11", "{'type':'INSERT','record':{'n':2}}");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2*");
	expect_nothing(b);
	server_left(&proof);
	advance(REJOIN_GATHER_MS);
	second = expect_private(0, ON("t1") "," ON("t2") "," ON("t3"));
	expect(a, "[2,'channel',{*'rejoining',*");
	/* The channel before lives until the new one's answer. */
	server_row(&first, "11", "{'type':'INSERT','record':{'n':3}}");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':3*");
	server_takes(&second, "11,12,13");
	server_ends(&first);
	expect(a, "[2,'channel',{*'joined',*'pending'*");
	server_system(&second, true, SUBSCRIBED);
	expect(a, "[2,'gap',{'chan':1,'topic':'p',*'cause':'postgres_changes','ids':[1]}]");
	expect(a, "[2,'channel',{*'ready','postgres_changes':[{'id':1,'state':'ready'}]}]");
	expect(b,
	       "[1,1,null,{*'ready','postgres_changes':[{'id':2,'state':'ready'},{'id':1,'state':"
	       "'ready'},{'id':3,'state':'ready'}]}]");
	/* Everybody gets the own ids only. */
	server_row(&second, "13,12,11", "{'type':'INSERT','record':{'n':4}}");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':4*");
	expect(b, "[2,'postgres_changes',{'ids':[3,2,1],*'n':4*");
	server_row(&second, "12", "{'type':'INSERT','record':{'n':5}}");
	expect(b, "[2,'postgres_changes',{'ids':[2],*'n':5*");
	expect_nothing(a);
	expect_nothing(b);
	expect_no_frame();
}
END_TEST

/* What the server does not take is found beside; who has the channel hears nothing of it. */
START_TEST(bad_ones_are_found_beside)
{
	size_t before;

	begin(yes);
	peer_ask(a, 1, "subscribe",
		 "{'topic':'p','private':true,'broadcast':{},'postgres_changes':[" T("t1") "]}");
	database_serve();
	expect(a, "[1,1,null,*");
	before = rig.frames.n;
	peer_ask(b, 1, "subscribe", ASK("p", T("bad1") "," T("bad2") "," T("bad3")));
	database_serve_for(5000, 50);
	expect(b, "[1,1,null,{*'ready','postgres_changes':[{'id':2,'state':'error','code':"
		  "'binding_refused',*},{'id':3,'state':'error',*},{'id':4,'state':'error',*}]}]");
	expect_nothing(a);
	for (size_t i = before; i < rig.frames.n; i++)
		MUST(strcmp(rig.frames.at[i].event, "phx_join") != 0 || rig.frames.at[i].link == 1);
	database_row(1, "INSERT", 1);
	expect_row(a, "1", 1);
	expect_nothing(b);
	/* Good and bad ones together. */
	peer_ask(b, 2, "subscribe", ASK("p", T("bad4") "," T("t5") "," T("t6") "," T("bad7")));
	database_serve_for(20000, 50);
	peer_skip(b, "gap");
	/* Of the channel's messages and of its own changes. */
	ck_assert_uint_eq(peer_skip(a, "\"gap\""), 2);
	database_row(6, "INSERT", 2);
	expect_row(b, "7", 2);
	database_row(1, "INSERT", 3);
	expect_row(a, "1", 3);
	peer_ask(b, 3, "status", "{}");
	expect(b, "[1,3,null,{*'id':5,*'state':'error'*'id':6,*'state':'ready'*'id':7,*'state':'"
		  "ready'*"
		  "'id':8,*'state':'error'*");
	peer_close(b);
	database_serve_for(70000, 1000);
	ck_assert(!rig.links[1].is_open);
}
END_TEST

/* Learned from the first refusal. */
START_TEST(learned)
{
	begin(learns);
	peer_ask(a, 1, "subscribe", "{'postgres_changes':[" T("t1") "]}");
	peer_ask(b, 1, "subscribe", ASK("p", T("t1") "," T("t2")));
	database_serve_for(5000, 50);
	ck_assert(rig.hub->private_only);
	expect(b,
	       "[1,1,null,{*'ready','postgres_changes':[{'id':1,'state':'ready'},{'id':2,'state':"
	       "'ready'}]}]");
	/* One who asks without a channel shares what another one's channel brings. */
	expect(a, "[1,1,null,{'chan':1,'topic':'',*'ready','postgres_changes':[{'id':1,'state':"
		  "'ready'}]}]");
	database_row(1, "INSERT", 1);
	expect_row(a, "1", 1);
	expect_row(b, "1", 1);
	peer_ask(a, 2, "subscribe", "{'topic':'x','postgres_changes':[" T("t3") "]}");
	expect(a, "[1,2,null,{*'ready','postgres_changes':[{'id':3,'state':'error','code':'private_"
		  "only',"
		  "'text':'*private*topic*'}]}]");
	/* Its bearer goes: nobody is left who may carry it. */
	peer_ask(b, 2, "unsubscribe", "{'all':true}");
	expect(b, "[1,2,null,{}]");
	database_serve_for(35000, 500);
	expect(a, "[2,'channel',{'chan':1,*'error','code':'private_only',*");
	expect_nothing(a);
	ck_assert_uint_eq(database_feeds(), 0);
	/* And comes back, on another channel. */
	peer_ask(b, 3, "subscribe", ASK("q", T("t1")));
	database_serve_for(15000, 50);
	expect(b, "[1,3,null,{*'ready'*");
	ck_assert_uint_eq(peer_skip(a, "\"gap\""), 1);
	database_row(1, "INSERT", 2);
	expect_row(a, "1", 2);
}
END_TEST

START_TEST(told_that_it_is_not_so)
{
	begin(no);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	database_serve_for(5000, 50);
	expect(a,
	       "[1,1,null,{*'postgres_changes':[{'id':1,'state':'error','code':'private_only',*");
	ck_assert(!rig.hub->private_only);
}
END_TEST

/* One link only: one unproven binding after the other. */
START_TEST(without_a_further_link)
{
	begin(yes_one_link);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	database_serve();
	expect(a, "[1,1,null,{*'ready'*");
	peer_ask(b, 1, "subscribe", ASK("p", T("t2") "," T("bad1") "," T("t3")));
	database_serve_for(400000, 500);
	peer_skip(a, "");
	peer_skip(b, "");
	peer_ask(b, 2, "status", "{}");
	expect(b, "[1,2,null,{*'id':1,*'state':'ready'*'id':2,*'state':'ready'*'id':3,*'state':'"
		  "error','clients'*"
		  "'id':4,*'state':'ready'*");
	for (unsigned i = 1; i <= 3; i++) {
		database_row(i, "INSERT", i);
		expect_row(i == 1 ? a : b, i == 1 ? "1" : i == 2 ? "2" : "4", i);
		expect_nothing(i == 1 ? b : a);
	}
	ck_assert(!rig.links[1].is_open);
}
END_TEST

/* One link, nobody there before, all at once and one is bad. */
START_TEST(bad_ones_from_the_start)
{
	begin(_i ? yes_one_link : yes);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1") "," T("bad1") "," T("t2")));
	database_serve_for(400000, 500);
	peer_skip(a, "");
	peer_ask(a, 2, "status", "{}");
	expect(a, "[1,2,null,{*'id':1,*'state':'ready'*'id':2,*'state':'error','clients'*'id':3,*"
		  "'state':'ready'*");
	database_row(1, "INSERT", 1);
	expect_row(a, "1", 1);
	database_row(2, "INSERT", 2);
	expect_row(a, "3", 2);
}
END_TEST

START_TEST(link_lost)
{
	begin(yes);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	database_serve();
	expect(a, "[1,1,null,{*'ready'*");
	peer_ask(b, 1, "subscribe", ASK("p", T("t2")));
	if (_i == 1)
		(void)database_open_link();
	if (_i == 2) {
		(void)database_open_link();
		(void)database_frame(1);
	}
	if (_i > 2)
		database_serve();
	if (_i > 3)
		advance(REJOIN_GATHER_MS);
	if (_i > 4)
		database_serve();
	if (rig.links[1].is_open && !rig.links[1].is_closing) {
		rig.at = 1;
		server_drop(SESSION_FAULT_LOST, "lost");
		rig.at = 0;
	}
	server_drop(SESSION_FAULT_LOST, "lost");
	database_serve_for(60000, 500);
	peer_skip(a, "");
	peer_skip(b, "");
	database_row(1, "INSERT", 1);
	database_row(2, "INSERT", 2);
	expect_row(a, "1", 1);
	expect_row(b, "2", 2);
}
END_TEST

/* Somebody, or all, may go at each step. */
START_TEST(gone_at_each_step)
{
	begin(_i < 16 ? yes : yes_one_link);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	database_serve();
	expect(a, "[1,1,null,{*'ready'*");
	peer_ask(b, 1, "subscribe", ASK("p", T("t2") "," T("bad1") "," T("t1")));
	for (int i = 0; i < _i % 8; i++) {
		(void)database_open_link();
		(void)database_frame(1);
		(void)database_word(0);
		advance(100);
	}
	peer_close(b);
	if (_i % 16 >= 8)
		peer_close(a);
	database_serve_for(100000, 1000);
	if (_i % 16 >= 8) {
		ck_assert_uint_eq(rig.hub->n_feeds, 0);
		ck_assert_uint_eq(rig.hub->n_bindings, 0);
		ck_assert_uint_eq(rig.hub->n_chans, 0);
		ck_assert_uint_eq(database_feeds(), 0);
	} else {
		peer_skip(a, "");
		database_row(1, "INSERT", 1);
		expect_row(a, "1", 1);
		ck_assert_uint_eq(database_feeds(), 1);
	}
}
END_TEST

/* A binding of two channels moves when the first goes. */
START_TEST(moves_to_another_channel)
{
	begin(yes);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	peer_ask(b, 1, "subscribe", ASK("q", T("t1")));
	database_serve_for(1000, 50);
	expect(a, "[1,1,null,{*'ready'*");
	expect(b, "[1,1,null,{*'ready'*");
	database_row(1, "INSERT", 1);
	expect_row(a, "1", 1);
	expect_row(b, "1", 1);
	peer_close(a);
	database_serve_for(30000, 50);
	ck_assert_uint_eq(peer_skip(b, "\"gap\""), 1);
	database_row(1, "INSERT", 2);
	expect_row(b, "1", 2);
	ck_assert_uint_eq(database_feeds(), 1);
}
END_TEST

START_TEST(as_many_as_a_channel_carries)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	const char *answer;
	unsigned n = 0;

	begin(yes);
	fprintf(out, "{'topic':'p','private':true,'timeout_ms':60000,'postgres_changes':[");
	for (unsigned i = 0; i < CHAN_BINDINGS + 2; i++)
		fprintf(out, "%s{'table':'t%u'}", i ? "," : "", i);
	fprintf(out, "]}");
	fclose(out);
	peer_ask(a, 1, "subscribe", text);
	free(text);
	database_serve_for(20000, 50);
	answer = expect(a, "[1,1,null,{*'ready'*");
	for (const char *p = answer; (p = strstr(p, "too_many")); p++)
		n++;
	ck_assert_uint_eq(n, 2);
	database_row(CHAN_BINDINGS - 1, "INSERT", 1);
	expect_row(a, "200", 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_private");
	TCase *t = tcase_create("private");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_add_test(t, rides_on_the_channel);
	tcase_add_test(t, tried_out_first);
	tcase_add_test(t, bad_ones_are_found_beside);
	tcase_add_test(t, learned);
	tcase_add_test(t, told_that_it_is_not_so);
	tcase_add_test(t, without_a_further_link);
	tcase_add_loop_test(t, bad_ones_from_the_start, 0, 2);
	tcase_add_loop_test(t, link_lost, 0, 6);
	tcase_add_loop_test(t, gone_at_each_step, 0, 32);
	tcase_add_test(t, moves_to_another_channel);
	tcase_add_test(t, as_many_as_a_channel_carries);
	suite_add_tcase(s, t);
	return suite_run(s);
}
