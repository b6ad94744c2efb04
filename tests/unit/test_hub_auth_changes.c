/* SPDX-License-Identifier: MIT */
/* Stories about database changes of clients with tokens of their own: bindings, feeds and rows of
 * one identity are nothing for another. */
#include "hub_changes_server.h"
#include "hub_changes_text.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *a, *b, *c;
static const char *alice, *bob;

static void start(void (*change)(struct hub_conf *conf))
{
	database_start();
	rig_start(change);
	server_open();
	a = peer_ready();
	b = peer_ready();
	c = peer_ready();
	alice = token_of_user("alice", 1);
	bob = token_of_user("bob", 1);
}

/* a is alice, b is bob, c is nobody but the daemon. */
static void begin(void)
{
	start(with_links);
	give(a, 1, alice, UNPROVEN("1"));
	give(b, 1, bob, UNPROVEN("1"));
}

static void end(void)
{
	rig_teardown();
	database_start();
}

/* The next frame is the join of a feed with this binding and this token, on link 0. */
static struct line expect_feed_by(const char *binding, const char *token)
{
	char pattern[3000];
	struct line *f;

	snprintf(pattern, sizeof(pattern),
		 "[*,*,'" FEED_TOPIC "','phx_join',{*'postgres_changes':[%s],'private':false},"
		 "'access_token':'%s'}]",
		 binding, token);
	f = expect_frame(pattern);
	ck_assert_uint_eq(f->link, 0);
	return *f;
}

static struct line flowing(struct fake_peer *p, const char *token, const char *ids)
{
	struct line join;

	peer_ask(p, 2, "subscribe", ASK(T("t")));
	join = expect_feed_by(ON("t"), token);
	server_takes(&join, ids);
	server_system(&join, true, SUBSCRIBED);
	expect(p, "[1,2,null,{*'ready','postgres_changes':[{'id':*,'state':'ready'}]}]");
	return join;
}

/* Equal bindings of three identities are three, each on a feed of its own. */
START_TEST(rows_of_each)
{
	struct line of_a = flowing(a, alice, "11"), of_b = flowing(b, bob, "21"),
		    of_c = flowing(c, "the-key", "31");

	ck_assert_uint_eq(rig.hub->n_bindings, 3);
	server_numbered(&of_a, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	server_numbered(&of_b, "21", 2);
	expect(b, TOLD("2", ROW("INSERT", "2")));
	server_numbered(&of_c, "31", 3);
	expect(c, TOLD("3", ROW("INSERT", "3")));
	/* The server's ids mean nothing on the feed of another. */
	server_numbered(&of_a, "21,31", 4);
	expect_nothing(a);
	expect_nothing(b);
	expect_nothing(c);
	expect_no_frame();
}
END_TEST

/* Those of one identity share, whatever their tokens are. */
START_TEST(rows_of_one_identity)
{
	struct line of_a = flowing(a, alice, "11");
	struct fake_peer *d = peer_ready();
	const char *longer;

	give(d, 1, alice, ACCEPTED("1"));
	peer_ask(d, 2, "subscribe", ASK(T("t")));
	expect(d, "[1,2,null,{*'postgres_changes':[" READY("1") "]}]");
	advance(1000);
	longer = token_of_user("alice", 2);
	give(d, 3, longer, NULL);
	open_link(1);
	server_tries(1, longer, true, "{}");
	expect_push("rtbridge:*", 0, longer);
	trial_left();
	expect(d, ACCEPTED("3"));
	server_numbered(&of_a, "11", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	expect(d, TOLD("1", ROW("INSERT", "1")));
	/* The end of one ends its wish alone. */
	peer_ask(a, 3, "auth", "{'token':null}");
	expect(a, "[1,3,null,{'state':'cleared'}]");
	expect(a, "[2,'channel',{'chan':1,*'rejected','code':'token_cleared',*");
	server_numbered(&of_a, "11", 2);
	expect_nothing(a);
	expect(d, TOLD("1", ROW("INSERT", "2")));
	expect_no_frame();
}
END_TEST

/* What one is refused is no word about the others'. */
START_TEST(refused_for_one)
{
	struct line of_a, of_b;

	peer_ask(a, 2, "subscribe", ASK(T("t")));
	of_a = expect_feed_by(ON("t"), alice);
	peer_ask(b, 2, "subscribe", ASK(T("t")));
	server_takes(&of_a, "11");
	server_system(&of_a, false, BAD_TEXT);
	expect(a, "[1,2,null,{*'postgres_changes':[{'id':1,'state':'error','code':"
		  "'binding_refused',*");
	of_b = expect_feed_by(ON("t"), bob);
	server_takes(&of_b, "21");
	server_system(&of_b, true, SUBSCRIBED);
	expect(b, "[1,2,null,{*'postgres_changes':[" READY("2") "]}]");
	expect_nothing(a);
}
END_TEST

/* The identity's feeds are on one connection, so that its changes keep their order. */
START_TEST(feeds_of_one_on_one_link)
{
	struct line of_a = flowing(a, alice, "11"), of_b = flowing(b, bob, "21"), more;

	peer_ask(a, 3, "subscribe", "{'topic':'n','postgres_changes':[" T("u") "]}");
	more = expect_feed_by(ON("u"), alice);
	ck_assert_uint_eq(more.link, of_a.link);
	server_takes(&more, "12");
	server_system(&more, true, SUBSCRIBED);
	expect(a, "[1,3,null,{*'ready',*");
	ck_assert_uint_eq(of_b.link, of_a.link);
}
END_TEST

/* ---- the end of a token ---- */

START_TEST(token_refused_at_the_feed)
{
	struct line of_a, of_b = flowing(b, bob, "21");

	peer_ask(a, 2, "subscribe", ASK(T("t")));
	of_a = expect_feed_by(ON("t"), alice);
	server_reply(&of_a, false, REFUSED_TOKEN);
	expect(a, "[2,'error',{'method':'auth',*'error':[211,'bad_token','" SIGNATURE_WORDS
		  "',null]}]");
	expect(a, "[1,2,[211,'bad_token','" SIGNATURE_WORDS "',null],null]");
	expect_nothing(a);
	expect_no_frame();
	server_numbered(&of_b, "21", 1);
	expect(b, "[2,'postgres_changes',*");
	advance(700000);
	expect_no_frame(); /* nothing is tried by itself */
	ck_assert_uint_eq(rig.hub->n_bindings, 1);
}
END_TEST

START_TEST(token_expires)
{
	struct line of_a = flowing(a, alice, "11");

	advance(3601000);
	expect(a, "[2,'error',{'method':'auth',*");
	expect(a, "[2,'channel',{'chan':1,*'rejected','code':'token_expired',*");
	server_numbered(&of_a, "11", 1);
	expect_nothing(a);
	advance(2000);
	server_left(&of_a);
	ck_assert_uint_eq(rig.hub->n_bindings, 0);
}
END_TEST

/* The server closes the feed over the token that it has: on with another one of the identity. */
START_TEST(closed_over_one_of_two_tokens)
{
	struct line of_a = flowing(a, alice, "11");
	struct fake_peer *d = peer_ready();
	const char *longer;

	advance(1000);
	longer = token_of_user("alice", 2);
	give(d, 1, longer, NULL);
	open_link(1);
	server_tries(1, longer, true, "{}");
	expect_push("rtbridge:*", 0, longer);
	trial_left();
	expect(d, ACCEPTED("1"));
	server_text("['%" PRIu64 "',null,'%s','system',{'status':'error','message':'Token has "
		    "expired 5 seconds ago','extension':'system','channel':'x'}]",
		    of_a.ref, of_a.topic);
	server_ends(&of_a);
	expect(d, "[2,'error',{'method':'auth',*");
	of_a = expect_feed_by(ON("t"), alice);
	server_takes(&of_a, "12");
	server_system(&of_a, true, SUBSCRIBED);
	ck_assert_uint_eq(peer_skip(a, "\"gap\""), 1);
	server_numbered(&of_a, "12", 1);
	expect(a, TOLD("1", ROW("INSERT", "1")));
	expect_nothing(d);
}
END_TEST

/* ---- many feeds ---- */

/* Small feeds are put together when places run out: those of one identity. */
START_TEST(merges_do_not_mix)
{
	char params[300];
	unsigned n_alice = 0, n_bob = 0, n_both = 0;

	for (unsigned i = 0; i < 42; i++) {
		struct fake_peer *p = i % 2 ? a : b;

		snprintf(params, sizeof(params),
			 "{'topic':'n%u','postgres_changes':[{'schema':'public','table':'t%u'}]}",
			 i, i);
		peer_ask(p, 10 + i, "subscribe", params);
		database_serve();
	}
	/* Other channels take the places. */
	for (unsigned i = 0; i < 46; i++) {
		snprintf(params, sizeof(params), "{'topic':'c%u'}", i);
		peer_ask(c, 10 + i, "subscribe", params);
		database_serve();
	}
	database_serve_for(10000, 100);
	ck_assert_uint_lt(database_feeds(), 42); /* it was done */
	for (size_t i = 0; i < rig.frames.n; i++) {
		const char *text = rig.frames.at[i].text;
		bool even = false, odd = false;

		if (!strstr(text, "phx_join") || !strstr(text, "rtbridge:"))
			continue;
		for (unsigned k = 0; k < 42; k++) {
			snprintf(params, sizeof(params), "\"table\":\"t%u\"", k);
			if (strstr(text, params))
				*(k % 2 ? &odd : &even) = true;
		}
		n_alice += odd && strstr(text, alice);
		n_bob += even && strstr(text, bob);
		n_both += odd && even;
		ck_assert(!odd || strstr(text, alice));
		ck_assert(!even || strstr(text, bob));
	}
	ck_assert_uint_eq(n_both, 0);
	ck_assert_uint_gt(n_alice, 0);
	ck_assert_uint_gt(n_bob, 0);
	/* And each row comes to its own. */
	peer_skip(a, "");
	peer_skip(b, "");
	database_row(3, "INSERT", 1);
	expect(a, "[2,'postgres_changes',*");
	database_row(4, "INSERT", 2);
	expect(b, "[2,'postgres_changes',*");
	expect_nothing(a);
	expect_nothing(b);
}
END_TEST

/* A bad binding among many of one identity: halves of it carry its token. */
START_TEST(halves_keep_their_identity)
{
	size_t from = rig.frames.n;

	peer_ask(a, 2, "subscribe", ASK(T("t1") "," T("t2") "," T("bad3") "," T("t4")));
	peer_ask(b, 2, "subscribe", ASK(T("t5") "," T("bad6") "," T("t7")));
	database_serve_for(20000, 100);
	expect(a,
	       "[1,2,null,{*'postgres_changes':[{*'ready'},{*'ready'},{*'error',*},{*'ready'}]}]");
	expect(b, "[1,2,null,{*'postgres_changes':[{*'ready'},{*'error',*},{*'ready'}]}]");
	for (size_t i = from; i < rig.frames.n; i++) {
		const char *text = rig.frames.at[i].text;

		if (!strstr(text, "phx_join"))
			continue;
		ck_assert(!strstr(text, "the-key"));
		if (strstr(text, "\"t1\"") || strstr(text, "\"bad3\"") || strstr(text, "\"t4\""))
			ck_assert(strstr(text, alice) && !strstr(text, "\"t5\"") &&
				  !strstr(text, "\"bad6\""));
	}
}
END_TEST

/* ---- private channels only ---- */

static void private_only(struct hub_conf *conf)
{
	with_links(conf);
	conf->private_only = HUB_PRIVATE_YES;
}

#define PRIVATE(topic) \
	"{'topic':'" topic "','private':true,'timeout_ms':60000,'postgres_changes':[" T("t") "]}"

static struct line expect_private_by(const char *topic, const char *token)
{
	char pattern[3000];

	snprintf(pattern, sizeof(pattern),
		 "[*,*,'realtime:%s','phx_join',{*'postgres_changes':[" ON(
			 "t") "],'private':true},'access_token':'%s'}]",
		 topic, token);
	return *expect_frame(pattern);
}

/* Equal bindings of two identities never ride on one channel. */
START_TEST(private_channels_of_two)
{
	struct line of_a, of_b;

	start(private_only);
	give(a, 1, alice, UNPROVEN("1"));
	give(b, 1, bob, UNPROVEN("1"));
	peer_ask(a, 2, "subscribe", PRIVATE("p"));
	of_a = expect_private_by("p", alice);
	server_takes(&of_a, "11");
	server_system(&of_a, true, SUBSCRIBED);
	expect(a, "[1,2,null,{'chan':1,*'ready','postgres_changes':[" READY("1") "]}]");
	peer_ask(b, 2, "subscribe", PRIVATE("q"));
	of_b = expect_private_by("q", bob);
	server_takes(&of_b, "21");
	server_system(&of_b, true, SUBSCRIBED);
	expect(b, "[1,2,null,{'chan':2,*'ready','postgres_changes':[" READY("2") "]}]");
	server_row(&of_a, "11", ROW("INSERT", "1"));
	expect(a, TOLD("1", ROW("INSERT", "1")));
	expect_nothing(b);
	server_row(&of_b, "21", ROW("INSERT", "2"));
	expect(b, TOLD("2", ROW("INSERT", "2")));
	expect_nothing(a);
	/* The one of a goes: nothing of it moves to the channel of b. */
	peer_ask(a, 3, "auth", "{'token':null}");
	peer_skip(a, "");
	advance(2000);
	server_left(&of_a);
	ck_assert_uint_eq(rig.hub->n_bindings, 1);
	expect_nothing(b);
}
END_TEST

/* The trial of a token in such a project: its invented topic may not be read, and says so. */
START_TEST(trial_in_a_private_project)
{
	const char *longer;
	struct line f;

	start(private_only);
	give(a, 1, alice, UNPROVEN("1"));
	peer_ask(a, 2, "subscribe", "{'topic':'p','private':true}");
	server_reply(expect_join("p", alice), true, "{}");
	expect(a, "[1,2,null,{*'ready'}]");
	advance(1000);
	longer = token_of_user("alice", 2);
	give(b, 1, longer, NULL);
	open_link(1);
	f = *expect_frame("[*'realtime:rtbridge:*','phx_join',{*'private':true*");
	server_reply(&f, false,
		     "{'reason':'Unauthorized: You do not have permissions to read from this "
		     "Channel topic: rtbridge:x'}");
	expect_push("p", 0, longer);
	expect(b, ACCEPTED("1"));
	expect_nothing(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_auth_changes");
	TCase *t = tcase_create("changes"), *own = tcase_create("own begin");

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, rows_of_each);
	tcase_add_test(t, rows_of_one_identity);
	tcase_add_test(t, refused_for_one);
	tcase_add_test(t, feeds_of_one_on_one_link);
	tcase_add_test(t, token_refused_at_the_feed);
	tcase_add_test(t, token_expires);
	tcase_add_test(t, closed_over_one_of_two_tokens);
	tcase_add_test(t, merges_do_not_mix);
	tcase_add_test(t, halves_keep_their_identity);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(own, NULL, end);
	tcase_add_test(own, private_channels_of_two);
	tcase_add_test(own, trial_in_a_private_project);
	suite_add_tcase(s, own);
	return suite_run(s);
}
