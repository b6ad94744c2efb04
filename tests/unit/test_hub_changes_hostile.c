/* SPDX-License-Identifier: MIT */
/*
 * What clients and bad moments might do to database changes: each of these once went wrong, or
 * would without a rule that is easily lost.
 */
#include "hub_changes_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBSCRIBED "Subscribed to PostgreSQL"
#define NEW_WORDS  "some new words"
#define REFUSED    "{'reason':'Unauthorized: no'}"
#define ROW(n)     "{'type':'INSERT','record':{'n':" n "}}"
#define T(table)   "{'table':'" table "'}"
#define ON(table)  "{'event':'*','table':'" table "'}"
#define PUBLIC(topic, bindings) \
	"{'topic':'" topic "','timeout_ms':60000,'postgres_changes':[" bindings "]}"

static struct fake_peer *a, *b;

static void small(struct hub_conf *conf)
{
	conf->private_only = HUB_PRIVATE_NO;
	conf->max_links = 1;
	conf->max_channels = 2;
}

static void four_links(struct hub_conf *conf)
{
	conf->max_links = 4;
}

static void few_bindings(struct hub_conf *conf)
{
	conf->max_bindings = 3;
}

static void begin(void (*change)(struct hub_conf *conf))
{
	database_start();
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

/* The link is full, and the topic was refused: the channel that is being asked for is not taken for
 * one that may go. */
START_TEST(its_own_channel_is_not_evicted)
{
	begin(small);
	peer_ask(a, 1, "subscribe", "{'topic':'x'}");
	server_reply(expect_frame("[*'realtime:x','phx_join'*"), true, "{}");
	expect(a, "[1,1,null,{*'ready'}]");
	peer_ask(a, 2, "subscribe", "{'topic':'y','private':true}");
	server_reply(expect_frame("[*'realtime:y','phx_join'*"), false, REFUSED);
	expect(a, "[1,2,[300,'rejected','Unauthorized: no',null],null]");
	peer_ask(a, 3, "subscribe",
		 "{'topic':'y','private':true,'broadcast':{},'postgres_changes':[" T("t") "]}");
	expect(a, "[1,3,[300,'rejected','Unauthorized: no',null],null]");
	expect_nothing(a);
}
END_TEST

/* A refused feed that nobody wants makes room for the next. */
START_TEST(a_feed_goes_while_a_place_is_looked_for)
{
	struct line f;

	begin(small);
	peer_ask(a, 1, "subscribe", PUBLIC("n", T("t1")));
	f = expect_feed(ON("t1"));
	server_reply(&f, false, "{'reason':'PrivateOnly: x'}");
	expect(a, "[1,1,null,{*'id':1,'state':'error','code':'private_only',*");
	peer_ask(a, 2, "unsubscribe", "{'chan':1}");
	expect(a, "[1,2,null,{}]");
	advance(70000); /* it is believed for a while */
	peer_ask(a, 3, "subscribe", "{'topic':'x'}");
	server_reply(expect_frame("[*'realtime:x','phx_join'*"), true, "{}");
	expect(a, "[1,3,null,{*'ready'}]");
	peer_ask(a, 4, "subscribe", PUBLIC("n", T("t2")));
	(void)server_feed(ON("t2"), "12");
	expect(a, "[1,4,null,{*'ready','postgres_changes':[{'id':2,'state':'ready'}]}]");
}
END_TEST

/* The ids of a new wish are unknown to its asker until it is answered. */
START_TEST(rows_of_an_unanswered_wish)
{
	struct line f, g, h;

	begin(four_links);
	peer_ask(a, 1, "subscribe", PUBLIC("n", T("t1")));
	f = server_feed(ON("t1"), "11");
	expect(a, "[1,1,null,{*'ready'}]}]");
	peer_ask(b, 1, "subscribe", PUBLIC("m", T("t2")));
	g = server_feed(ON("t2"), "12");
	expect(b, "[1,1,null,{*'ready'}]}]");
	peer_ask(a, 2, "subscribe", PUBLIC("n", T("t1") "," T("t2") "," T("t3")));
	h = expect_feed(ON("t3"));
	server_row(&g, "12", ROW("1"));
	expect(b, "[2,'postgres_changes',{'ids':[2],*'n':1*");
	server_row(&f, "11", ROW("2"));
	expect(a, "[2,'postgres_changes',{'ids':[1],*'n':2*");
	expect_nothing(a);
	server_takes(&h, "13");
	server_system(&h, true, SUBSCRIBED);
	expect(a, "[1,2,null,{*'ready','postgres_changes':[{'id':1,'state':'ready'},{'id':2,"
		  "'state':'ready'},{'id':3,'state':'ready'}]}]");
	server_row(&g, "12", ROW("3"));
	expect(a, "[2,'postgres_changes',{'ids':[2],*'n':3*");
}
END_TEST

/* The doubt of words that were followed by good ones does not end a later, good life. */
START_TEST(doubt_of_an_earlier_life)
{
	struct line f;

	begin(four_links);
	peer_ask(a, 1, "subscribe", PUBLIC("n", T("t1")));
	f = server_feed(ON("t1"), "11");
	expect(a, "[1,1,null,*");
	server_system(&f, false, NEW_WORDS);
	expect(a, "[2,'channel',*'pending','code':'unknown',*");
	advance(5000);
	server_system(&f, true, SUBSCRIBED);
	expect(a, "[2,'gap',*");
	expect(a, "[2,'channel',*'ready'}]}]");
	advance(10000);
	server_ends(&f);
	expect(a, "[2,'channel',*'rejoining',*");
	advance(4000);
	f = expect_feed(ON("t1"));
	server_takes(&f, "11");
	expect(a, "[2,'channel',*'joined','postgres_changes':[{'id':1,'state':'pending'}]}]");
	advance(1500);
	expect_nothing(a);
	expect_no_frame();
	server_system(&f, true, SUBSCRIBED);
	expect(a, "[2,'gap',*");
	expect(a, "[2,'channel',*'ready'}]}]");
}
END_TEST

/* Said again and again, unknown words do not put off the end of the doubt. */
START_TEST(doubt_that_is_repeated)
{
	struct line f;

	begin(four_links);
	peer_ask(a, 1, "subscribe",
		 "{'wait':'joined','postgres_changes':[" T("t1") "," T("t2") "]}");
	f = expect_feed(ON("t1") "," ON("t2"));
	server_takes(&f, "11,12");
	for (unsigned i = 0; i < 3; i++) {
		server_system(&f, false, NEW_WORDS);
		advance(8000);
	}
	server_left(&f);
	(void)server_feed(ON("t1"), "11");
	(void)server_feed(ON("t2"), "12");
	peer_ask(a, 2, "sync", "{}");
	MUST(peer_skip(a, "{\"id\":1,\"state\":\"ready\"},{\"id\":2,\"state\":\"ready\"}]") == 1);
}
END_TEST

/* A table's name is in the server's words: it does not choose what they mean. */
START_TEST(words_of_users)
{
	struct line f;

	begin(four_links);
	for (unsigned i = 0; i < 20; i++) {
		peer_ask(a, i, "subscribe",
			 "{'postgres_changes':[{'table':'only allows private channels'}]}");
		if (i == 0) {
			f = *expect_frame("[*'phx_join'*");
			server_takes(&f, "11");
			server_system(&f, false,
				      "Unable to subscribe to changes with given parameters. "
				      "[event: *, schema: public, table: only allows private "
				      "channels, filters: []]");
			server_left(&f);
		}
		expect(a, "[1,*,null,{*'id':1,'state':'error','code':'binding_refused',*");
		expect_no_frame();
		advance(200);
	}
	peer_ask(b, 1, "subscribe", PUBLIC("n", T("t1")));
	(void)server_feed(ON("t1"), "12");
	expect(b, "[1,1,null,{*'ready'}]}]");
}
END_TEST

/* A thousand bad bindings are tried one after the other: nobody else waits for them. */
START_TEST(a_thousand_bad_ones)
{
	char *params, text[200];
	size_t from;
	unsigned n_further = 0;

	begin(four_links);
	peer_ask(b, 1, "subscribe", "{'topic':'early','postgres_changes':[{'table':'t9'}]}");
	database_serve();
	expect(b, "[1,1,null,{*'ready'}]}]");
	from = rig.frames.n;
	for (unsigned s = 0; s < 60; s++) {
		if (s % 20 == 0) {
			params = many("'timeout_ms':0,'keep':true,", "bad", s * 1000, 1000);
			peer_ask(a, 1 + s, "subscribe", params);
			free(params);
		}
		if (s % 10 == 5) {
			snprintf(text, sizeof(text), "{'topic':'v%u'}", s);
			peer_ask(b, 2 * s, "subscribe", text);
			snprintf(text, sizeof(text),
				 "{'topic':'n%u','postgres_changes':[{'table':'t%u'}]}", s, 10 + s);
			peer_ask(b, 2 * s + 1, "subscribe", text);
		}
		database_serve_for(1000, 200);
		if (s % 10 == 9)
			MUST_MSG(peer_skip(b, "\"ready\"") == 2 && b->n_asked == 0,
				 "not in 5 s, at %u", s);
		MUST(!a->finished);
	}
	for (size_t i = from; i < rig.frames.n; i++)
		n_further += rig.frames.at[i].link > 0 &&
			     strcmp(rig.frames.at[i].event, "phx_join") == 0;
	/* They are being tried all the while. */
	MUST_MSG(database.n_joins >= 100, "%u joins", database.n_joins);
	MUST_MSG(n_further <= 5, "%u joins on further links", n_further);
}
END_TEST

/* Refused before any of them is looked at. */
START_TEST(more_bindings_than_allowed)
{
	begin(few_bindings);
	peer_ask(a, 1, "subscribe", "{'postgres_changes':[1,2,3,4]}");
	expect(a, "[1,1,[*,'too_many',*bindings*],null]");
	peer_ask(a, 2, "subscribe", "{'postgres_changes':[1,2,3]}");
	expect(a, "[1,2,[*,'bad_request',*],null]");
	expect_no_frame();
}
END_TEST

/* Notices of a subscription with more than 64 bindings have those only that changed. */
START_TEST(long_notices)
{
	struct db_channel *feed = NULL;
	char *params;

	begin(four_links);
	peer_ask(b, 1, "subscribe", PUBLIC("n", T("t0")));
	database_serve();
	expect(b, "[1,1,null,{*'ready'}]}]");
	params = many("", "t", 0, 70);
	peer_ask(a, 1, "subscribe", params);
	free(params);
	database_serve();
	expect(a, "[1,1,null,{*'id':1,*'id':70,'state':'ready'}]}]");
	for (unsigned i = 0; i < DB_CHANNELS; i++) {
		if (database_has(&database.channels[i]) && database.channels[i].n == 1)
			feed = &database.channels[i];
	}
	ck_assert_ptr_nonnull(feed);
	database_trouble(feed);
	expect(a, "[2,'channel',{*'state':'joined','postgres_changes':[{'id':1,'state':'pending',"
		  "'code':'database_query','text':*}]}]");
	MUST(!strstr(a->got.at[a->got.n - 1].text, "\"id\":2"));
	database_serve();
	expect(a, "[2,'gap',{*'ids':[1]}]");
	expect(a, "[2,'channel',{*'state':'ready','postgres_changes':[{'id':1,'state':'ready'}]}]");
	expect_nothing(a);
}
END_TEST

/* The status of a hub with long bindings fits into a message. */
START_TEST(status_of_long_bindings)
{
	char filler[1100], params[3000];

	memset(filler, 'x', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = 0;
	begin(four_links);
	snprintf(params, sizeof(params),
		 "{'wait':'joined','timeout_ms':0,'keep':true,'postgres_changes':[" T(
			 "t1") ","
			       "{'table':'t2','filter':'a=eq.%s'}]}",
		 filler);
	peer_ask(a, 1, "subscribe", params);
	peer_ask(b, 2, "status", "{}");
	expect(b, "[1,2,null,{*'postgres_changes':[{'id':1,'identity':0,'binding':" ON(
			  "t1") ",'state':*"
				"{'id':2,'identity':0,'state':'pending',*");
	MUST(!strstr(b->got.at[b->got.n - 1].text, "xxxx"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_changes_hostile");
	TCase *t = tcase_create("hostile");

	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, its_own_channel_is_not_evicted);
	tcase_add_test(t, a_feed_goes_while_a_place_is_looked_for);
	tcase_add_test(t, rows_of_an_unanswered_wish);
	tcase_add_test(t, doubt_of_an_earlier_life);
	tcase_add_test(t, doubt_that_is_repeated);
	tcase_add_test(t, words_of_users);
	tcase_add_test(t, a_thousand_bad_ones);
	tcase_add_test(t, more_bindings_than_allowed);
	tcase_add_test(t, long_notices);
	tcase_add_test(t, status_of_long_bindings);
	suite_add_tcase(s, t);
	return suite_run(s);
}
