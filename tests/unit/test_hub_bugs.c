/* SPDX-License-Identifier: MIT */
/*
 * What went wrong in other clients and bridges, told as stories about channels, sends and presence.
 * Each names the public report that it comes from.
 */
#include "hub_changes_server.h"
#include "hub_presence.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *a, *b;

static void begin(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	server_open();
	a = peer_ready();
	b = peer_ready();
}

static void setup(void)
{
	begin(NULL);
}

/* A broadcast in a form that both serializers have. */
static void server_says(const char *topic, const char *event, const char *payload)
{
	server_text("[null,null,'realtime:%s','broadcast',{'type':'broadcast','event':'%s',"
		    "'payload':%s}]",
		    topic, event, payload);
}

static void with_version_1(struct hub_conf *conf)
{
	conf->session.vsn = PHX_VSN_1;
}

static void hears(struct fake_peer *p, const char *topic, const char *payload)
{
	char pattern[200];

	server_says(topic, "e", payload);
	snprintf(pattern, sizeof(pattern),
		 "[2,'broadcast',{*'topic':'%s','event':'e','payload':%s}]", topic, payload);
	expect(p, pattern);
}

/* On this the end of a channel is told from another one's by its ref alone. */
static void setup_1(void)
{
	begin(with_version_1);
}

/* The connection is lost and back. */
static void lose_and_open(void)
{
	server_drop(SESSION_FAULT_LOST, "lost");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
}

/* ---- leave and join ---- */

/* What the server says when a channel is left: R the reply, C the close; and what it forgets. */
static const char *const words[] = { "RC", "CR", "R", "C", "" };
enum { N_WORDS = sizeof(words) / sizeof(*words), MOMENTS = 4 };

static void server_says_of_leave(char word, struct line *leave)
{
	if (word == 'R')
		server_reply(leave, true, "{}");
	else
		server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t','phx_close',{}]",
			    leave->join_ref, leave->join_ref);
}

/* The leave's words, all once more: they are of a channel that is gone. */
static void late_words(struct line *leave)
{
	for (unsigned i = 0; i < 2; i++)
		server_text("['%" PRIu64 "','%" PRIu64
			    "','realtime:t','phx_reply',{'status':'%s','response':{}}]",
			    leave->join_ref, leave->ref, i ? "error" : "ok");
	server_says_of_leave('C', leave);
	server_text("['%" PRIu64 "','%" PRIu64 "','realtime:t','phx_error',{}]", leave->join_ref,
		    leave->join_ref);
}

/* supabase-py#1337: a leave and a join in a row, and the answer to the leave closed what had been
 * joined. The subscribe comes at each moment of each order of the server's words. */
START_TEST(left_and_joined_at_once)
{
	const char *order = words[_i % N_WORDS];
	unsigned moment = (unsigned)_i / N_WORDS;
	struct line leave, join;

	peer_join(a, "t", "{}");
	peer_ask(a, 2, "unsubscribe", "{'chan':1}");
	expect(a, "[1,2,null,{}]");
	if (moment == 0) /* nothing was sent yet, and nothing needs to be */
		peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	advance(2000);
	if (moment == 0) {
		expect_no_frame();
		expect(b, "[1,1,null,{'chan':1,*'state':'ready'}]");
		hears(b, "t", "1");
		return;
	}
	leave = *expect_frame("[*,*,'realtime:t','phx_leave',{}]");
	for (unsigned n = 1; n < MOMENTS; n++) {
		if (n == moment)
			peer_ask(b, 1, "subscribe", "{'topic':'t'}");
		if (n <= strlen(order))
			server_says_of_leave(order[n - 1], &leave);
	}
	if (!strchr(order, 'R'))
		advance(10000);
	join = *server_join("t");
	expect(b, "[1,1,null,{'chan':*,*'state':'ready'}]");
	late_words(&leave);
	hears(b, "t", "2");
	expect_nothing(b);
	expect_no_frame();
	ck_assert_uint_ne(join.ref, leave.join_ref);
}
END_TEST

/* The same with the connection: channels are joined on the new one, never left there. */
START_TEST(no_leave_on_the_way_back)
{
	for (unsigned i = 0; i < 10; i++) {
		char params[40];

		snprintf(params, sizeof(params), "{'topic':'t%u'}", i);
		peer_ask(a, 10 + i, "subscribe", params);
	}
	server_serve();
	advance(1000);
	lose_and_open();
	for (unsigned i = 0; i < 10; i++)
		server_reply(expect_frame("[*'phx_join'*"), true, "{}");
	expect_no_frame();
	peer_skip(a, "");
	for (unsigned i = 0; i < 10; i++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "t%u", i);
		hears(a, topic, "1");
	}
}
END_TEST

/* ---- what was subscribed is there after each reset ---- */

enum { TOPICS = 30, RESETS = 40 };

/* So many resets would take hours. */
static void quickly(struct hub_conf *conf)
{
	conf->session.backoff_min_ms = conf->session.backoff_max_ms = 500;
}

/* On this connection each topic was joined once at most. */
static void check_joined_once(void)
{
	for (unsigned i = 0; i < TOPICS; i++) {
		unsigned n = 0;
		char topic[40];

		snprintf(topic, sizeof(topic), "realtime:t%u", i);
		for (size_t f = 0; f < rig.frames.n; f++) {
			const struct line *l = &rig.frames.at[f];

			n += l->epoch == rig.links[0].epoch && strcmp(l->event, "phx_join") == 0 &&
			     strcmp(l->topic, topic) == 0;
		}
		MUST(n <= 1);
	}
}

static struct line *any_frame_left(void)
{
	for (size_t i = rig.frames.next; i < rig.frames.n; i++) {
		if (!rig.frames.at[i].taken && frame_is_current(&rig.frames.at[i]))
			return &rig.frames.at[i];
	}
	return NULL;
}

/* The server answers so many frames. */
static void server_answers(unsigned n)
{
	struct line *f;

	while (n-- > 0 && (f = any_frame_left())) {
		f->taken = true;
		server_reply(f, true, "{}");
	}
}

/* nats-server#3515, realtime-py#258, supabase-swift#196: after some resets some subscriptions are
 * dead, and say that they live. The connection is lost at each point of coming back. */
START_TEST(subscriptions_after_resets)
{
	struct fake_peer *peers[3];

	rig_start(quickly);
	server_open();
	for (unsigned i = 0; i < 3; i++)
		peers[i] = peer_ready();
	for (unsigned i = 0; i < TOPICS; i++) {
		char params[100];

		snprintf(params, sizeof(params), "{'topic':'t%u','private':%s,'keep':true}", i,
			 i % 3 == 2 ? "true" : "false");
		peer_ask(peers[i % 3], 10 + i, "subscribe", params);
		peer_ask(peers[(i + 1) % 3], 100 + i, "subscribe", params);
	}
	for (unsigned reset = 0; reset < RESETS; reset++) {
		server_answers(reset);
		check_joined_once();
		lose_and_open();
	}
	for (unsigned i = 0; i < 60; i++) {
		server_answers(100);
		advance(100);
	}
	check_joined_once();
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(peers[i]->n_asked, 0);
		peer_skip(peers[i], "");
	}
	for (unsigned i = 0; i < TOPICS; i++) {
		char topic[20];

		snprintf(topic, sizeof(topic), "t%u", i);
		hears(peers[i % 3], topic, "7");
		expect(peers[(i + 1) % 3], "[2,'broadcast',*");
		expect_nothing(peers[(i + 2) % 3]);
	}
	rig_teardown();
}
END_TEST

/* realtime-py#213, supabase-swift#585: joined again without what it had been joined for. */
START_TEST(bindings_after_resets)
{
	database_start();
	rig_start(quickly);
	server_open();
	a = peer_ready();
	peer_ask(a, 1, "subscribe",
		 "{'postgres_changes':[{'table':'t1','event':'INSERT'},{'table':'t2',"
		 "'filter':'n=eq.1'},{'table':'t3','event':'DELETE'}]}");
	database_serve();
	expect(a, "[1,1,null,{*'state':'ready',*");
	for (unsigned i = 0; i < RESETS; i++) {
		struct line join;

		lose_and_open();
		join = *expect_frame("[*'phx_join'*{'event':'INSERT','table':'t1'}"
				     "*'table':'t2','filter':'n=eq.1'}*{'event':'DELETE',*'t3'}*");
		expect_no_frame();
		server_takes(&join, "11,12,13");
		server_system(&join, true, "Subscribed to PostgreSQL");
		peer_skip(a, "");
		server_row(&join, "11",
			   "{'schema':'public','table':'t1','type':'INSERT','record':{'n':1}}");
		expect(a, "[2,'postgres_changes',{'ids':[*],*'n':1}}}]");
		expect_nothing(a);
	}
	rig_teardown();
	database_start();
}
END_TEST

/* ---- sends ---- */

enum { SENDS = 20, ATTEMPTS = 45 };

static unsigned n_sent(unsigned payload)
{
	char tail[40];
	unsigned n = 0;

	snprintf(tail, sizeof(tail), "[3,*,%u]", payload);
	for (size_t i = 0; i < rig.frames.n; i++)
		n += text_matches(tail, rig.frames.at[i].text);
	return n;
}

/* Of the answers to the sends: how many say this, each about one that was sent once. */
static unsigned n_told(const char *outcome)
{
	char pattern[60];
	unsigned n = 0;

	for (unsigned i = 0; i < SENDS; i++) {
		snprintf(pattern, sizeof(pattern), "[1,%u,null,{'outcome':'%s',*", 500 + i,
			 outcome);
		for (size_t m = 0; m < a->got.n; m++) {
			if (!text_matches(pattern, a->got.at[m].text))
				continue;
			MUST(n_sent(1000 + i) == 1);
			n++;
		}
	}
	return n;
}

/* mosquitto#2248: what had queued up was sent anew with each attempt to connect, 45 times in all.
 * The connection ends at each of the points between "refused" and "answered". */
START_TEST(a_queue_is_sent_once)
{
	char params[100];

	rig_start(quickly);
	server_open();
	a = peer_ready();
	for (unsigned i = 0; i < SENDS; i++) {
		snprintf(params, sizeof(params), "{'topic':'t%u','keep':true}", i);
		peer_ask(a, 100 + i, "subscribe", params);
	}
	server_drop(SESSION_FAULT_LOST, "lost");
	for (unsigned i = 0; i < SENDS; i++) {
		snprintf(params, sizeof(params),
			 "{'topic':'t%u','event':'e','payload':%u,'ttl_ms':60000}", i, 1000 + i);
		peer_ask(a, 500 + i, "broadcast", params);
	}
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		while (!rig.links[0].is_open)
			advance(10);
		if (i % 3 > 0)
			server_open();
		if (i % 3 > 1)
			server_answers(1 + i / 3); /* joins, and some of what follows */
		server_drop(SESSION_FAULT_LOST, "lost again");
	}
	advance(60000);
	ck_assert_uint_eq(a->n_asked, 0);
	for (unsigned i = 0; i < SENDS; i++)
		MUST(n_sent(1000 + i) <= 1);
	ck_assert_uint_ge(n_told("acked"), 3);
	ck_assert_uint_ge(n_told("unknown"), 3);
	rig_teardown();
}
END_TEST

/* ---- one topic, many who want it ---- */

/* realtime-js#180, supabase-flutter#94, #232, #237: the second channel of a topic closed the first;
 * realtime-js#127: or each message came twice. */
START_TEST(a_topic_for_two)
{
	peer_join(a, "t", "{}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	expect(b, "[1,1,null,{'chan':1,*'state':'ready'}]");
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	expect(a, "[1,2,null,{'chan':1,*'state':'ready'}]");
	expect_no_frame();
	hears(a, "t", "1");
	expect(b, "[2,'broadcast',*");
	expect_nothing(a);
	expect_nothing(b);
	peer_close(a);
	advance(60000);
	hears(b, "t", "2");
	expect_no_frame();
}
END_TEST

/* A second join of ours would be answered so by the server: the close of the first is of the old
 * ref, before the answer or behind it. */
START_TEST(the_close_of_what_was_replaced)
{
	struct line first, second;

	peer_join(a, "t", "{}");
	first = rig.frames.at[0];
	peer_ask(b, 1, "subscribe", "{'topic':'t','presence':{}}");
	advance(REJOIN_GATHER_MS);
	second = *expect_frame("[*,*,'realtime:t','phx_join',*'presence':{'enabled':true,*");
	if (_i)
		server_close(&first, NULL);
	server_reply(&second, true, "{}");
	if (!_i)
		server_close(&first, NULL);
	server_state(&second, "{}");
	expect(b, "[1,1,null,{'chan':1,*'state':'ready',*");
	hears(b, "t", "1");
	expect_frame("*'presence',{}]");
	advance(20000);
	expect_no_frame();
}
END_TEST

/* ---- presence ---- */

enum { BY_LOSS, BY_CLOSE, BY_CRASH, BY_LIMIT, N_WAYS };

/* realtime-csharp#29: rejoined, and nobody is shown any more. */
START_TEST(shown_again_after_a_rejoin)
{
	struct line join;

	rig.probes = true;
	peer_ask(a, 1, "track", "{'topic':'t','key':'alice','state':{'n':1}}");
	join = *server_join("t");
	server_reply(expect_call("t", "*'event':'track','payload':{'n':1}}"), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','key':'alice'}]");
	for (unsigned i = 0; i < 5; i++) {
		advance(40000);
		if (_i == BY_LOSS)
			lose_and_open();
		else if (_i == BY_CLOSE)
			server_close(&join, NULL);
		else if (_i == BY_LIMIT)
			server_close(&join, "Client presence rate limit exceeded");
		else
			server_text("['%" PRIu64 "','%" PRIu64
				    "','realtime:t','phx_error',{'reason':'channel_crash'}]",
				    join.ref, join.ref);
		if (_i != BY_LOSS)
			advance(_i == BY_LIMIT ? 31000 : 3000);
		join = *server_join("t");
		MUST(strstr(join.text, "\"key\":\"alice\""));
		server_reply(expect_call("t", "*'event':'track','payload':{'n':1}}"), true, "{}");
		expect_no_frame(); /* once */
		peer_skip(a, "");
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_bugs");
	TCase *t = tcase_create("online"), *own = tcase_create("own"), *v1 = tcase_create("1.0.0");

	tcase_set_timeout(t, 60);
	tcase_set_timeout(own, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_set_timeout(v1, 60);
	tcase_add_checked_fixture(v1, setup_1, rig_teardown);
	tcase_add_loop_test(t, left_and_joined_at_once, 0, N_WORDS * MOMENTS);
	tcase_add_loop_test(v1, left_and_joined_at_once, 0, N_WORDS * MOMENTS);
	tcase_add_test(t, no_leave_on_the_way_back);
	tcase_add_test(own, subscriptions_after_resets);
	tcase_add_test(own, bindings_after_resets);
	tcase_add_test(own, a_queue_is_sent_once);
	tcase_add_test(t, a_topic_for_two);
	tcase_add_loop_test(t, the_close_of_what_was_replaced, 0, 2);
	tcase_add_loop_test(v1, the_close_of_what_was_replaced, 0, 2);
	tcase_add_loop_test(t, shown_again_after_a_rejoin, 0, N_WAYS);
	tcase_add_loop_test(v1, shown_again_after_a_rejoin, 0, N_WAYS);
	suite_add_tcase(s, t);
	suite_add_tcase(s, v1);
	suite_add_tcase(s, own);
	return suite_run(s);
}
