/* SPDX-License-Identifier: MIT */
/*
 * What clients, a slow server and lost links might do to database changes on private channels: each
 * of these once went wrong, or would without a rule that is easily lost.
 */
#include "hub_changes_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBSCRIBED "Subscribed to PostgreSQL"
#define REFUSED    "{'reason':'Unauthorized: no'}"
#define ROW(n)     "{'type':'INSERT','record':{'n':" n "}}"
#define T(table)   "{'table':'" table "'}"
#define ON(table)  "{'event':'*','table':'" table "'}"
#define ASK(topic, bindings)                                                                       \
	"{'topic':'" topic "','private':true,'timeout_ms':60000,'postgres_changes':[" bindings "]" \
	"}"

static struct fake_peer *a, *b, *c;

static void private_only(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_YES;
	conf->max_links = 3;
}

static void private_only_one_link(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_YES;
}

static void private_only_small(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_YES;
	conf->max_links = 3;
	conf->max_channels = 2;
}

static void private_only_smallest(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_YES;
	conf->max_links = 2;
	conf->max_channels = 1;
}

static void begin(void (*change)(struct hub_conf *conf))
{
	database_start();
	database.private_only = true;
	rig_start(change);
	server_open();
	a = peer_ready();
	b = peer_ready();
	c = peer_ready();
}

static void teardown(void)
{
	rig_teardown();
	database_start();
}

static void open_further(unsigned link)
{
	ck_assert(rig.links[link].is_open);
	rig.at = link;
	server_open();
	rig.at = 0;
}

static void drop_further(unsigned link, enum session_fault fault)
{
	rig.at = link;
	server_drop(fault, "too many connections");
	rig.at = 0;
}

/* What p got so far is not looked at. */
static void forget(struct fake_peer *p)
{
	p->got.next = p->got.n;
}

/* a's table t1 flows on the private channel p of link 0. */
static struct line begin_private(void)
{
	struct line join;

	begin(private_only);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	join = expect_private(0, ON("t1"));
	server_takes(&join, "11");
	server_system(&join, true, SUBSCRIBED);
	expect(a, "[1,1,null,{*'ready'}]}]");
	return join;
}

/* The same, and b's t2 is being tried on link 1; the server has not answered. */
static struct line begin_proof(void)
{
	struct line proof;

	(void)begin_private();
	peer_ask(b, 1, "subscribe", ASK("p", T("t2")));
	open_further(1);
	proof = expect_private(1, ON("t2"));
	return proof;
}

/* Both flow on the channel now. */
static void expect_both(void)
{
	struct line join = expect_private(0, ON("t1") "," ON("t2"));

	server_takes(&join, "11,12");
	server_system(&join, true, SUBSCRIBED);
	expect(b, "[1,1,null,{*'ready','postgres_changes':[{'id':2,'state':'ready'}]}]");
	forget(a);
	server_row(&join, "12,11", ROW("7"));
	expect(b, "[2,'postgres_changes',{'ids':[2],*'n':7*");
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':7*");
}

/* A request's bindings of n tables: prefix and a number from `from`. To be freed. */
static char *many(const char *head, const char *prefix, unsigned from, unsigned n)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	MUST(out);
	fprintf(out, "{%s'postgres_changes':[", head);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s{'table':'%s%u'}", i ? "," : "", prefix, from + i);
	fprintf(out, "]}");
	fclose(out);
	return text;
}

/* From changes to broadcasts, while the channel could not be joined yet. */
START_TEST(another_wish_while_waiting)
{
	struct line *join;

	begin(private_only);
	server_drop(SESSION_FAULT_LOST, "x");
	expect(a, "[2,'connection',*");
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	peer_ask(a, 2, "subscribe", "{'topic':'p','private':true}");
	expect(a, "[1,1,null,{*'joining','postgres_changes':[{'id':1,'state':'pending'}]}]");
	expect_nothing(a);
	advance(5000);
	server_open();
	expect(a, "[2,'connection',{'state':'online',*");
	join = expect_frame("[*'realtime:p','phx_join'*");
	ck_assert_ptr_null(strstr(join->text, "t1"));
	server_reply(join, true, "{}");
	expect(a, "[2,'channel',{'chan':1,'topic':'p','private':true,'state':'ready'}]");
	expect(a, "[1,2,null,{'chan':1,'topic':'p','private':true,'state':'ready'}]");
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

/* The place for a trial is had from a refused channel's feed. */
START_TEST(a_feed_goes_while_feeds_are_run)
{
	struct line first, join;

	begin(private_only_small);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	first = expect_private(0, ON("t1"));
	server_takes(&first, "11");
	server_system(&first, true, SUBSCRIBED);
	peer_ask(a, 2, "subscribe", "{'topic':'x','private':true}");
	server_reply(expect_frame("[*'realtime:x','phx_join'*"), true, "{}");
	peer_ask(a, 3, "subscribe", "{'topic':'z','private':true}");
	open_further(1);
	server_reply(expect_frame("[*'realtime:z','phx_join'*"), true, "{}");
	peer_ask(b, 1, "subscribe", ASK("px", T("t3")));
	join = *expect_frame("[*'realtime:px','phx_join'*");
	ck_assert_uint_eq(join.link, 1);
	server_reply(&join, false, REFUSED);
	expect(b, "[1,1,null,{*'id':2,'state':'error','code':'unauthorized',*");
	peer_ask(b, 2, "unsubscribe", "{'all':true}");
	expect(b, "[1,2,null,{}]");
	peer_ask(c, 1, "subscribe", ASK("p", T("t2")));
	join = expect_private(1, ON("t2"));
	server_takes(&join, "12");
	server_system(&join, true, SUBSCRIBED);
	server_left(&join);
	advance(REJOIN_GATHER_MS);
	join = expect_private(0, ON("t1") "," ON("t2"));
	server_takes(&join, "11,12");
	server_system(&join, true, SUBSCRIBED);
	expect(c, "[1,1,null,{*'ready','postgres_changes':[{'id':3,'state':'ready'}]}]");
}
END_TEST

/* The join of a trial is refused when its asker has gone. */
START_TEST(a_trial_is_refused_without_its_asker)
{
	struct line proof = begin_proof();

	peer_close(b);
	server_reply(&proof, false, REFUSED);
	advance(5000);
	expect_nothing(a);
	peer_ask(c, 1, "subscribe", ASK("p", T("t1")));
	expect(c, "[1,1,null,{*'ready','postgres_changes':[{'id':1,'state':'ready'}]}]");
	expect_no_frame();
}
END_TEST

/* The ids of the answer are those of the join as it was sent. */
START_TEST(ids_of_a_binding_that_went_meanwhile)
{
	struct line join;

	begin(private_only);
	peer_ask(b, 1, "subscribe", ASK("p", T("t0")));
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	(void)expect_private(0, ON("t0"));
	server_drop(SESSION_FAULT_LOST, "x");
	advance(5000);
	server_open();
	join = expect_private(0, ON("t0") "," ON("t1"));
	peer_ask(b, 2, "unsubscribe", "{'chan':1}");
	server_takes(&join, "10,11");
	server_system(&join, true, SUBSCRIBED);
	expect(a, "[2,'connection',{'state':'backoff',*");
	expect(a, "[2,'connection',{'state':'online',*");
	expect(a, "[1,1,null,{*'ready','postgres_changes':[{'id':2,'state':'ready'}]}]");
	server_row(&join, "10", ROW("1"));
	server_row(&join, "11", ROW("2"));
	expect(a, "[2,'postgres_changes',{'ids':[2],*'n':2*");
	expect_nothing(a);
}
END_TEST

/* What flowed by the channel of somebody who goes needs another: not while the daemon stops. */
START_TEST(nothing_new_while_stopping)
{
	struct line first;

	begin(private_only_smallest);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1")));
	first = expect_private(0, ON("t1"));
	server_takes(&first, "11");
	server_system(&first, true, SUBSCRIBED);
	peer_ask(b, 1, "subscribe", ASK("q", T("t1")));
	expect(b, "[1,1,null,{*'ready'}]}]");
	hub_drain(rig.hub, 2000);
	turn();
	advance(100);
	peer_close(a);
	advance(5000);
	ck_assert_uint_eq(rig.links[1].n_opened, 0);
	ck_assert(rig.drained);
}
END_TEST

/* A database's first subscription may take long: that is not a refusal. */
START_TEST(a_slow_trial)
{
	struct line proof = begin_proof();

	advance(3000);
	server_takes(&proof, "12");
	advance(12000);
	expect_nothing(b);
	server_system(&proof, true, SUBSCRIBED);
	server_left(&proof);
	advance(REJOIN_GATHER_MS);
	expect_both();
}
END_TEST

/* Without its link there is no trial: joined as it is. */
START_TEST(the_link_of_a_trial_is_lost)
{
	struct line proof = begin_proof();

	server_takes(&proof, "12");
	drop_further(1, SESSION_FAULT_CLOSED);
	for (unsigned i = 0; i < 14; i++) {
		if (rig.links[1].is_open && !rig.links[1].is_closing)
			drop_further(1, SESSION_FAULT_HANDSHAKE);
		advance(1000);
	}
	expect_both();
}
END_TEST

START_TEST(no_link_for_a_trial)
{
	(void)begin_private();
	peer_ask(b, 1, "subscribe", ASK("p", T("t2")));
	for (unsigned i = 0; i < 14; i++) {
		if (rig.links[1].is_open && !rig.links[1].is_closing)
			drop_further(1, SESSION_FAULT_HANDSHAKE);
		advance(1000);
	}
	expect_both();
}
END_TEST

/* A refusal that is said again is no refusal of the others. */
START_TEST(a_refusal_said_three_times)
{
	struct line join;

	begin(private_only_one_link);
	peer_ask(a, 1, "subscribe", ASK("p", T("t1") "," T("t2") "," T("bad")));
	join = expect_private(0, ON("t1") "," ON("t2") "," ON("bad"));
	server_takes(&join, "11,12,13");
	for (unsigned i = 0; i < 3; i++)
		server_system(&join, false, BAD_TEXT);
	database_serve_for(30000, 100);
	expect(a, "[1,1,null,{*'ready','postgres_changes':[{'id':1,'state':'ready'},{'id':2,"
		  "'state':'ready'},{'id':3,'state':'error','code':'binding_refused',*");
}
END_TEST

/* One of twenty tables is taken out of the publication: the others are back within a minute. */
START_TEST(one_of_twenty_goes_bad)
{
	char *params, word[30];

	begin(private_only);
	params = many("'topic':'p','private':true,'timeout_ms':60000,", "t", 0, 20);
	peer_ask(a, 1, "subscribe", params);
	free(params);
	database_serve();
	expect(a, "[1,1,null,{*'ready','postgres_changes':*");
	server_drop(SESSION_FAULT_LOST, "x");
	for (unsigned passed = 0; passed < 60; passed++) {
		(void)database_open_link();
		while (database_frame(0)) {
			for (unsigned i = 0; i < DB_CHANNELS; i++) {
				struct db_channel *ch = &database.channels[i];

				for (unsigned k = 0; k < ch->n; k++)
					ch->at[k].bad |= ch->at[k].table == 0;
			}
		}
		while (database_word(0))
			;
		advance(1000);
	}
	forget(a);
	for (unsigned i = 0; i < 20; i++)
		database_row(i, "INSERT", 100 + i);
	for (unsigned i = 1; i < 20; i++) {
		snprintf(word, sizeof(word), "[2,*'n':%u}*", 100 + i);
		expect(a, word);
	}
	expect_nothing(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_private_hostile");
	TCase *t = tcase_create("hostile");

	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, another_wish_while_waiting);
	tcase_add_test(t, a_feed_goes_while_feeds_are_run);
	tcase_add_test(t, a_trial_is_refused_without_its_asker);
	tcase_add_test(t, ids_of_a_binding_that_went_meanwhile);
	tcase_add_test(t, nothing_new_while_stopping);
	tcase_add_test(t, a_slow_trial);
	tcase_add_test(t, the_link_of_a_trial_is_lost);
	tcase_add_test(t, no_link_for_a_trial);
	tcase_add_test(t, a_refusal_said_three_times);
	tcase_add_test(t, one_of_twenty_goes_bad);
	suite_add_tcase(s, t);
	return suite_run(s);
}
