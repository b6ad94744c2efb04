/* SPDX-License-Identifier: MIT */
/* Stories about many bindings: which feed carries what, halves of what was refused, merging. */
#include "hub_changes_server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *a, *b;

static void begin(void (*change)(struct hub_conf *conf))
{
	database_start();
	rig_start(change);
	server_open();
	a = peer_ready();
	b = peer_ready();
}

/* Ten joins in a second, however well it goes. */
static void usual_pace(struct hub_conf *conf)
{
	conf->joins_most_per_s = conf->joins_per_s;
}

static void setup(void)
{
	begin(usual_pace);
}

static void teardown(void)
{
	rig_teardown();
	database_start();
}

/* subscribe to `n` tables from `first` on; those of `bad` are none. */
static void ask(struct fake_peer *p, uint32_t id, const char *topic, unsigned first, unsigned n,
		unsigned bad)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	fprintf(out, "{'topic':'%s','timeout_ms':60000,'postgres_changes':[", topic);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s{'table':'t%u'}", i ? "," : "", first + i);
	for (unsigned i = 0; i < bad; i++)
		fprintf(out, "%s{'table':'bad%u'}", i || n ? "," : "", first + i);
	fprintf(out, "]}");
	fclose(out);
	peer_ask(p, id, "subscribe", text);
	free(text);
}

static unsigned count(const char *text, const char *word)
{
	unsigned n = 0;

	while ((text = strstr(text, word))) {
		text += strlen(word);
		n++;
	}
	return n;
}

/* The row came once; nothing else did. */
static void expect_row(struct fake_peer *p, unsigned n)
{
	char pattern[100];

	snprintf(pattern, sizeof(pattern), "[2,'postgres_changes',{*'record':{'n':%u},*", n);
	expect(p, pattern);
	expect_nothing(p);
}

START_TEST(sixteen_with_the_same)
{
	struct fake_peer *peers[16];

	for (unsigned i = 0; i < 16; i++) {
		peers[i] = i < 2 ? (i ? b : a) : peer_ready();
		ask(peers[i], 1, "", 1, 5, 0);
	}
	database_serve();
	ck_assert_uint_eq(database.n_joins, 1);
	ck_assert_uint_eq(database_feeds(), 1);
	for (unsigned i = 0; i < 16; i++)
		expect(peers[i], "[1,1,null,{*'ready','postgres_changes':[{'id':1,'state':'ready'},"
				 "{'id':2,*},{'id':3,*},{'id':4,*},{'id':5,'state':'ready'}]}]");
	database_row(3, "INSERT", 7);
	for (unsigned i = 0; i < 16; i++)
		expect_row(peers[i], 7);
	/* The last one ends it. */
	for (unsigned i = 0; i < 15; i++)
		peer_close(peers[i]);
	database_serve_for(10000, 100);
	ck_assert_uint_eq(database_feeds(), 1);
	database_row(3, "INSERT", 8);
	expect_row(peers[15], 8);
	peer_close(peers[15]);
	database_serve_for(2100, 100);
	ck_assert_uint_eq(database_feeds(), 0);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

START_TEST(fifty_in_one)
{
	ask(a, 1, "", 1, 120, 0);
	database_serve();
	ck_assert_uint_eq(database.n_joins, 3);
	MUST(count(expect(a, "[1,1,*"), "\"ready\"") == 121);
	for (unsigned i = 0; i < DB_CHANNELS; i++)
		MUST(database.channels[i].n <= FEED_BINDINGS);
	database_row(1, "INSERT", 1);
	expect_row(a, 1);
	database_row(120, "DELETE", 2);
	expect_row(a, 2);
}
END_TEST

/* Coming back in time costs nothing, and nothing is missed. */
START_TEST(wanted_again_in_time)
{
	ask(a, 1, "", 1, 1, 0);
	database_serve();
	expect(a, "[1,1,*'ready'*");
	peer_close(a);
	advance(1990);
	ask(b, 1, "", 1, 1, 0);
	expect(b, "[1,1,null,{*'state':'ready','postgres_changes':[{'id':1,'state':'ready'}]}]");
	database_serve_for(10000, 100);
	database_row(1, "INSERT", 1);
	expect_row(b, 1);
	ck_assert_uint_eq(database.n_joins, 1);
	ck_assert_uint_eq(database.n_leaves, 0);
}
END_TEST

/* How it stands after the story of one bad binding or more: counted in the answer. */
static void halved(unsigned good, unsigned bad)
{
	const char *text;

	ask(a, 1, "", 1, good, bad);
	database_serve_for(20000, 50);
	text = expect(a, "[1,1,null,{*");
	ck_assert_uint_eq(count(text, "\"state\":\"ready\""), good + 1);
	ck_assert_uint_eq(count(text, "\"state\":\"error\""), bad);
	ck_assert_uint_eq(count(text, "\"code\":\"binding_refused\""), bad);
	ck_assert_uint_eq(count(text, "Unable to subscribe to changes"), bad);
	/* No gap: nothing flowed before. */
	ck_assert_uint_eq(peer_skip(a, "gap"), 0);
	for (unsigned i = 1; i <= good; i++) {
		database_row(i, "INSERT", i);
		expect_row(a, i);
	}
	/* The pieces are one again. */
	ck_assert_uint_eq(database_feeds(), good ? 1 : 0);
	ck_assert_uint_eq(rig.hub->n_feeds, good ? 1 : 0);
}

START_TEST(one_bad_among_fifty)
{
	halved(49, 1);
	/* 50, 25+25, 12+13, 6+6 ..., and the pieces' union. */
	ck_assert_uint_le(database.n_joins, 1 + 2 * 6 + 1);
}
END_TEST

START_TEST(two_bad_among_many)
{
	halved(40, 2);
}
END_TEST

START_TEST(all_bad)
{
	halved(0, 50);
	/* Each alone, and the ways there; and not all at once, again and again. */
	ck_assert_uint_eq(database.n_joins, 99);
	database_serve_for(60000, 1000);
	ck_assert_uint_ge(database.n_joins, 100);
	ck_assert_uint_le(database.n_joins, 99 + 30);
}
END_TEST

/* Others' changes flow on, whatever somebody asks for. */
START_TEST(bad_ones_of_somebody_else)
{
	struct db_channel *c = NULL;

	ask(a, 1, "", 1, 3, 0);
	database_serve();
	expect(a, "[1,1,*");
	for (unsigned i = 0; i < DB_CHANNELS && !c; i++)
		c = database.channels[i].n ? &database.channels[i] : NULL;
	for (unsigned i = 0; i < 50; i++) {
		ask(b, 2 * i + 1, "", 10 * i, 3, 2);
		database_serve();
		database_row(2, "INSERT", i);
		expect_row(a, i);
		if (i % 2) {
			peer_ask(b, 2 * i + 2, "unsubscribe", "{'all':true}");
			database_serve();
		}
		advance(100);
	}
	ck_assert(database_has(c) && c->subscribed);
	/* Ten in a second and a burst of ten, however many are asked for. */
	ck_assert_uint_le(database.n_joins, 1 + 10 + 50 + 10);
	database_serve_for(30000, 100);
	database_row(2, "INSERT", 100);
	expect_row(a, 100);
}
END_TEST

/* ---- many ---- */

static void twenty_channels(struct hub_conf *conf)
{
	conf->max_channels = 22;
}

static struct fake_peer *peers[20];
static unsigned n_rows;

/* A row of each table, and each comes once to who asked for it. */
static void all_rows(void)
{
	for (unsigned i = 0; i < 500; i += 7) {
		database_row(i, "INSERT", ++n_rows);
		peer_skip(peers[(i / 25 + 1) % 20], "gap");
		expect_row(peers[i / 25], n_rows);
	}
}

START_TEST(five_hundred_of_twenty)
{
	unsigned most = 0;

	n_rows = 0;
	for (unsigned i = 0; i < 20; i++) {
		peers[i] = i < 2 ? (i ? b : a) : peer_ready();
		ask(peers[i], 1, "", i * 25, 25, 0);
		database_serve_for(100, 100);
		most = database_feeds() > most ? database_feeds() : most;
	}
	database_serve_for(1000, 100);
	for (unsigned i = 0; i < 20; i++) {
		expect(peers[i], "[1,1,null,{*'state':'ready','postgres_changes'*");
		expect_nothing(peers[i]);
	}
	ck_assert_uint_le(most, 20);
	for (unsigned i = 0; i < 20; i++) {
		all_rows();
		database_serve_for(100, 50);
	}
	ck_assert_uint_le(database_feeds(), 20);
	for (unsigned i = 0; i < 20; i++)
		ck_assert_uint_eq(peer_skip(peers[i], "gap"), 0);
}
END_TEST

START_TEST(merged_when_short)
{
	rig_teardown();
	begin(twenty_channels);
	n_rows = 0;
	for (unsigned i = 0; i < 20; i++) {
		peers[i] = i < 2 ? (i ? b : a) : peer_ready();
		ask(peers[i], 1, "", i * 25, 25, 0);
		database_serve_for(100, 100);
	}
	for (unsigned i = 0; i < 60; i++) {
		database_serve_for(100, 50);
		if (i >= 10) {
			for (unsigned k = 0; i == 10 && k < 20; k++) {
				expect(peers[k], "[1,1,null,{*'state':'ready'*");
				expect_nothing(peers[k]);
			}
			all_rows();
		}
	}
	database_serve_for(20000, 100);
	ck_assert_uint_le(database_feeds(), 12);
	all_rows();
	for (unsigned i = 0; i < 20; i++)
		expect_nothing(peers[i]);
}
END_TEST

/* Two links, and no place on either. */
static void three_channels(struct hub_conf *conf)
{
	conf->max_channels = 3;
	conf->max_links = 2;
}

START_TEST(no_room)
{
	rig_teardown();
	begin(three_channels);
	for (unsigned i = 1; i <= 6; i++) {
		char params[100];

		snprintf(params, sizeof(params), "{'topic':'x%u'}", i);
		peer_ask(a, i, "subscribe", params);
		database_serve_for(500, 100);
		expect(a, "[1,*,null,{*'ready'}]");
	}
	ask(b, 1, "", 1, 2, 0);
	expect(b, "[1,1,null,{*'state':'ready','postgres_changes':[{'id':1,'state':'error','code':"
		  "'too_many','text':'*[limits]*'},{'id':2,'state':'error','code':'too_many',*");
	/* A place is free, and it is asked for again. */
	peer_ask(a, 7, "unsubscribe", "{'topic':'x1'}");
	expect(a, "[1,7,null,{}]");
	database_serve_for(12000, 500);
	ask(b, 2, "", 1, 2, 0);
	database_serve();
	expect(b, "[2,'channel',{*'joining',*'pending'*'pending'*");
	peer_skip(b, "gap");
	database_row(1, "INSERT", 1);
	expect_row(b, 1);
}
END_TEST

/* Without anybody who asks: by itself, when its time has come. */
START_TEST(no_room_and_tried_again)
{
	rig_teardown();
	begin(three_channels);
	for (unsigned i = 1; i <= 6; i++) {
		char params[100];

		snprintf(params, sizeof(params), "{'topic':'x%u'}", i);
		peer_ask(a, i, "subscribe", params);
		database_serve_for(500, 100);
		expect(a, "[1,*,null,{*'ready'}]");
	}
	ask(b, 1, "", 1, 60, 0);
	ck_assert_uint_eq(count(expect(b, "[1,1,*"), "too_many"), 60);
	peer_ask(a, 7, "unsubscribe", "{'all':true}");
	database_serve_for(200000, 1000);
	peer_skip(b, "gap");
	for (unsigned i = 1; i <= 60; i++) {
		database_row(i, "INSERT", i);
		expect_row(b, i);
	}
}
END_TEST

/* ---- the limits ---- */

START_TEST(a_client_s_limit)
{
	ask(a, 1, "", 0, 600, 0);
	ask(a, 2, "x", 300, 401, 0);
	expect(a, "[1,2,[207,'too_many','*[limits] bindings*',null],null]");
	ask(a, 3, "x", 300, 400, 0);
	ask(a, 4, "y", 1, 1, 0);
	expect(a, "[1,4,[207,'too_many',*");
	/* A change counts what it replaces. */
	ask(a, 5, "x", 0, 400, 0);
	expect(a, "[1,3,null,*");
	ask(a, 6, "x", 0, 1, 0);
	expect(a, "[1,5,null,*");
	ask(a, 7, "y", 1, 399, 0);
	ask(b, 1, "", 1000, 1000, 0);
	database_serve_for(30000, 100);
	ck_assert_uint_eq(rig.hub->n_bindings, 600 + 1000);
	ck_assert_uint_eq(a->n_asked + b->n_asked, 0);
	peer_ask(a, 8, "unsubscribe", "{'all':true}");
	peer_skip(a, "gap");
	ask(a, 9, "", 0, 1001, 0);
	expect(a, "[1,9,[207,'too_many',*");
}
END_TEST

START_TEST(everybody_s_limit)
{
	struct fake_peer *p;

	for (unsigned i = 0; i < 10; i++)
		ask(i ? peer_ready() : a, 1, "", i * 1000, 1000, 0);
	ck_assert_uint_eq(rig.hub->n_bindings, BINDINGS_MAX);
	ask(b, 1, "", 9999, 2, 0);
	expect(b, "[1,1,[100,'busy','*too many bindings of all clients',*");
	ck_assert_uint_eq(rig.hub->n_bindings, BINDINGS_MAX);
	ask(b, 2, "", 9998, 2, 0);
	expect(b, "[1,2,null,*");
	/* Nothing is left of what was refused. */
	ck_assert_uint_eq(b->peer->n_bindings, 2);
	p = peer_ready();
	peer_ask(p, 1, "status", "{}");
	expect(p, "[1,1,null,*");
}
END_TEST

/* Coming and going as fast as it can: joins stay paced, and nobody else's feed is touched. */
START_TEST(coming_and_going)
{
	unsigned before;

	ask(a, 1, "", 1, 2, 0);
	database_serve();
	expect(a, "[1,1,*");
	before = database.n_joins;
	for (unsigned i = 0; i < 500; i++) {
		char params[100];

		snprintf(params, sizeof(params),
			 "{'topic':'x%u','postgres_changes':[{'table':'t%u'},{'table':'bad%u'}]}",
			 i % 50, 100 + i, i);
		peer_call(b, "subscribe", params);
		snprintf(params, sizeof(params), "{'topic':'x%u'}", (i + 25) % 50);
		peer_call(b, "unsubscribe", params);
		database_serve();
		advance(20);
	}
	ck_assert_uint_le(database.n_joins - before, 10 + 10 * 10 + 1);
	ck_assert_uint_eq(peer_skip(a, ""), 0);
	database_row(2, "INSERT", 1);
	expect_row(a, 1);
	peer_close(b);
	database_serve_for(60000, 500);
	ck_assert_uint_eq(rig.hub->n_bindings, 2);
	ck_assert_uint_eq(database_feeds(), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_feeds");
	TCase *t = tcase_create("feeds");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, sixteen_with_the_same);
	tcase_add_test(t, fifty_in_one);
	tcase_add_test(t, wanted_again_in_time);
	tcase_add_test(t, one_bad_among_fifty);
	tcase_add_test(t, two_bad_among_many);
	tcase_add_test(t, all_bad);
	tcase_add_test(t, bad_ones_of_somebody_else);
	tcase_add_test(t, five_hundred_of_twenty);
	tcase_add_test(t, merged_when_short);
	tcase_add_test(t, no_room);
	tcase_add_test(t, no_room_and_tried_again);
	tcase_add_test(t, a_client_s_limit);
	tcase_add_test(t, everybody_s_limit);
	tcase_add_test(t, coming_and_going);
	suite_add_tcase(s, t);
	return suite_run(s);
}
