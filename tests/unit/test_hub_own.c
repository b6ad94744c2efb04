/* SPDX-License-Identifier: MIT */
/* Stories about the daemon's own token: which joins carry it, what waits while there is none, and
 * what the server's word about it leads to. */
#include "hub_own.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR = 3600000 };

static struct fake_peer *a;

static void begin(void)
{
	own_start(NULL);
	a = peer_ready();
}

static void ask(struct fake_peer *p, uint32_t id, const char *topic, const char *more)
{
	char params[200];

	snprintf(params, sizeof(params), "{'topic':'%s'%s}", topic, more);
	peer_ask(p, id, "subscribe", params);
}

/* ---- none yet ---- */

/* Not refused, not sent with the API key: it waits, and hears what for. */
START_TEST(waits_for_the_first)
{
	begin();
	own_says("waiting", 4000, "", "");
	ask(a, 1, "t", ",'keep':true,'timeout_ms':1000");
	expect_no_frame();
	advance(1000);
	expect(a, "[1,1,null,{*'state':'joining'}]");
	peer_ask(a, 2, "channels", "{}");
	expect(a, "[1,2,null,{'channels':[{*'topic':'t',*'state':'joining',*'code':'token_missing',"
		  "'text':'the daemon has got no token of its own yet*','retry_in_ms':3000}]}]");
	own_give(1, HOUR);
	server_reply(expect_join("t", own_name(1)), true, "{}");
	expect(a, "[2,'channel',{*'state':'ready'}]");
	ck_assert_uint_eq(frames_with("the-key"), 0);
}
END_TEST

START_TEST(waits_longer_than_it_may)
{
	begin();
	own_says("waiting", 4000, "command_failed", "the command ended with 1; see its output");
	ask(a, 1, "t", ",'timeout_ms':1000");
	advance(999);
	expect_nothing(a);
	advance(1);
	expect(a, "[1,1,[101,'timeout','the command ended with 1; see its output',3000],null]");
	own_give(1, HOUR);
	expect_no_frame();
}
END_TEST

/* Before the connection is there, it is the connection that is waited for. */
START_TEST(adopted_while_offline)
{
	begin();
	server_drop(SESSION_FAULT_LOST, "lost");
	ask(a, 1, "t", ",'timeout_ms':60000");
	own_give(1, HOUR);
	own_give(2, HOUR);
	advance(2000);
	server_open();
	server_reply(expect_join("t", own_name(2)), true, "{}");
	peer_skip(a, "");
	expect_no_frame();
	ck_assert_uint_eq(frames_with("access_token\":\"own-1"), 0);
}
END_TEST

/* The first join with a token shows what it is worth: the others do not hold the connection up. */
START_TEST(one_tests)
{
	char topic[20];
	struct line f;

	begin();
	for (unsigned i = 0; i < 30; i++) {
		snprintf(topic, sizeof(topic), "t%u", i);
		ask(a, i + 1, topic, ",'timeout_ms':60000");
	}
	own_give(1, HOUR);
	f = *expect_join("t*", own_name(1));
	advance(4000);
	expect_no_frame();
	server_reply(&f, false, REFUSED_TOKEN);
	ck_assert_uint_eq(owner.n_refused, 1);
	ck_assert_uint_eq(owner.serial, 1);
	ck_assert_str_eq(owner.code, "token_signature");
	ck_assert_ptr_nonnull(strstr(owner.text, "Failed to validate JWT signature"));
	advance(20000);
	expect_no_frame();
	expect_nothing(a);
	own_give(2, HOUR);
	server_reply(expect_join("t*", own_name(2)), true, "{}");
	for (unsigned i = 0; i < 29; i++) {
		server_reply(expect_join("t*", own_name(2)), true, "{}");
		advance(100);
	}
	ck_assert_uint_eq(peer_skip(a, "\"ready\""), 30);
	ck_assert_uint_eq(owner.n_refused, 1);
}
END_TEST

/* When it is taken, the others follow at the usual pace, not one by one. */
START_TEST(the_others_follow_together)
{
	char topic[20];
	unsigned n = 0;

	begin();
	for (unsigned i = 0; i < 8; i++) {
		snprintf(topic, sizeof(topic), "t%u", i);
		ask(a, i + 1, topic, "");
	}
	own_give(1, HOUR);
	server_reply(expect_join("t*", own_name(1)), true, "{}");
	for (; n < 7; n++)
		expect_join("t*", own_name(1)); /* none is answered yet */
	expect_no_frame();
}
END_TEST

/* ---- its end ---- */

/* By the clock: no join is sent with it, though nobody has said anything. */
START_TEST(ends_without_another)
{
	begin();
	own_says("good", 50000, "", "");
	own_give(1, 60000);
	ask(a, 1, "t", "");
	server_reply(expect_join("t", own_name(1)), true, "{}");
	expect(a, "[1,1,null,*");
	advance(59999);
	ask(a, 2, "u", "");
	server_reply(expect_join("u", own_name(1)), true, "{}");
	expect(a, "[1,2,null,*");
	advance(1);
	own_says("bad", 12000, "command_failed", "the command ended with 1; see its output");
	ask(a, 3, "v", ",'keep':true,'timeout_ms':1000");
	advance(1000);
	expect(a, "[1,3,null,{*'joining'}]");
	expect_no_frame(); /* those that are joined stay */
	ck_assert_uint_eq(owner.n_refused, 0);
	own_give(2, HOUR);
	expect_push("t", 0, own_name(2));
	expect_push("u", 0, own_name(2));
	server_reply(expect_join("v", own_name(2)), true, "{}");
	expect(a, "[2,'channel',{*'topic':'v',*'ready'}]");
}
END_TEST

/* The server closes what it has: told as what it is, nobody is cut off, and the rejoin waits. */
START_TEST(closed_at_its_end)
{
	struct line f;

	begin();
	own_give(1, 60000);
	ask(a, 1, "t", "");
	f = *expect_join("t", own_name(1));
	server_reply(&f, true, "{}");
	expect(a, "[1,1,null,*");
	advance(60000);
	own_says("bad", 12000, "command_failed", "the command ended with 1; see its output");
	own_closed(&f, OWN_EXPIRED);
	expect(a, "[2,'channel',{'chan':1,'topic':'t',*'state':'rejoining','code':'token_expired',"
		  "'text':*,'retry_in_ms':12000}]");
	ck_assert_uint_eq(owner.n_refused, 0); /* known here, too */
	advance(11000);
	expect_no_frame();
	expect_nothing(a);
	peer_ask(a, 2, "channels", "{}");
	expect(a,
	       "[1,2,null,{'channels':[{*'state':'rejoining',*'code':'token_expired','text':'the "
	       "command ended with 1; see its output','retry_in_ms':1000}]}]");
	own_give(2, HOUR);
	server_reply(expect_join("t", own_name(2)), true, "{}");
	expect(a, "[2,'gap',{*'cause':'token_expired',*");
	expect(a, "[2,'channel',{*'ready'}]");
}
END_TEST

/* The machine sleeps, and the token ends meanwhile: timers have not run. */
START_TEST(ends_while_asleep)
{
	begin();
	own_give(1, HOUR);
	fall_asleep(HOUR);
	ask(a, 1, "t", ",'keep':true,'timeout_ms':1000");
	expect_no_frame();
	advance(1000);
	expect(a, "[1,1,null,{*'joining'}]");
	expect_no_frame();
	own_give(2, HOUR);
	server_reply(expect_join("t", own_name(2)), true, "{}");
}
END_TEST

/* The server's clock is ahead: it refuses what is good here. */
START_TEST(refused_by_a_close)
{
	struct line f;

	begin();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	f = *expect_join("t", own_name(1));
	server_reply(&f, true, "{}");
	expect(a, "[1,1,null,*");
	own_closed(&f, OWN_EXPIRED);
	expect(a, "[2,'channel',{*'rejoining','code':'token_expired','text':*}]");
	ck_assert_uint_eq(owner.n_refused, 1);
	ck_assert_uint_eq(owner.serial, 1);
	ck_assert_str_eq(owner.code, "token_expired");
	advance(60000);
	expect_no_frame();
	own_give(2, HOUR);
	server_reply(expect_join("t", own_name(2)), true, "{}");
}
END_TEST

/* Many are closed at once: the owner hears of it once, and the next one is tested by one join. */
START_TEST(all_closed_at_once)
{
	struct line f[10], *test;
	char topic[20];

	begin();
	own_give(1, HOUR);
	for (unsigned i = 0; i < 10; i++) {
		snprintf(topic, sizeof(topic), "t%u", i);
		ask(a, i + 1, topic, "");
		f[i] = *expect_join(topic, own_name(1));
		server_reply(&f[i], true, "{}");
	}
	peer_skip(a, "");
	for (unsigned i = 0; i < 10; i++)
		own_closed(&f[i], OWN_EXPIRED);
	ck_assert_uint_eq(owner.n_refused, 1);
	ck_assert_uint_eq(peer_skip(a, "token_expired"), 10);
	advance(2000); /* the pace of joins */
	expect_no_frame();
	own_give(2, HOUR);
	test = expect_join("t*", own_name(2));
	expect_no_frame();
	server_reply(test, true, "{}");
	server_serve();
	advance(2000);
	server_serve();
	ck_assert_uint_eq(peer_skip(a, "\"ready\""), 10);
}
END_TEST

/* The owner has the next one at once: nothing waits. */
START_TEST(renewed_from_inside)
{
	begin();
	owner.renews = true;
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	server_reply(expect_join("t", own_name(1)), false, REFUSED_TOKEN);
	server_reply(expect_join("t", own_name(2)), false, REFUSED_TOKEN);
	server_reply(expect_join("t", own_name(3)), true, "{}");
	expect(a, "[1,1,null,*'ready'}]");
	ck_assert_uint_eq(owner.n_refused, 2);
}
END_TEST

/* A refusal of the one before says nothing about the one that has come meanwhile. */
START_TEST(refused_too_late)
{
	struct line f;

	begin();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	f = *expect_join("t", own_name(1));
	own_give(2, HOUR);
	server_reply(&f, false, REFUSED_TOKEN);
	ck_assert_uint_eq(owner.n_refused, 0);
	server_reply(expect_join("t", own_name(2)), true, "{}");
	expect(a, "[1,1,null,*'ready'}]");
}
END_TEST

/* Private topics that may fail are tried apart: with the own token, and not while there is none; those
 * of others are not kept waiting by it. */
START_TEST(trials_wait_too)
{
	struct fake_peer *b;
	const char *alice;

	begin();
	alice = token_of_user("alice", 1);
	own_give(1, HOUR);
	ask(a, 1, "no", ",'private':true");
	server_reply(expect_join("no", own_name(1)), false,
		     "{'reason':'Unauthorized: You do not have permissions to read'}");
	expect(a, "[1,1,[300,*");
	/* Its joins are tried apart now. */
	ask(a, 2, "p", ",'private':true");
	own_take(2);
	open_link(1);
	expect_no_frame();
	rig.uid = 2001;
	b = peer_with(alice, "[1,0,null,*");
	rig.probes = true;
	ask(b, 1, "q", "");
	server_reply(expect_join("q", alice), true, "{}");
	expect(b, "[1,1,null,*'ready'}]");
	advance(1000);
	expect_no_frame();
	own_give(3, HOUR);
	server_reply(expect_join("p", own_name(3)), true, "{}");
	server_serve();
	advance(2000);
	server_serve();
	expect(a, "[1,2,null,*'ready'}]");
	ck_assert_uint_eq(frames_with("the-key"), 0);
}
END_TEST

/* Database changes of the daemon's identity go with it, too. */
START_TEST(feeds)
{
	begin();
	peer_ask(
		a, 1, "subscribe",
		"{'topic':'','timeout_ms':60000,'postgres_changes':[{'event':'*','schema':'public',"
		"'table':'todos'}]}");
	advance(1000);
	expect_no_frame();
	own_give(1, HOUR);
	expect_join("rtbridge:*", own_name(1));
}
END_TEST

/* A key that is no token names the project; the joins carry the token. */
static void sb_key(struct hub_conf *conf)
{
	static struct secret *key;

	secret_free(key);
	key = secret_new("sb_publishable_abc", 18);
	conf->apikey = key;
}

START_TEST(with_an_sb_key)
{
	own_start(sb_key);
	a = peer_ready();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	server_reply(expect_join("t", own_name(1)), true, "{}");
	expect(a, "[1,1,null,*'ready'}]");
}
END_TEST

/* Without has_own_token nothing of this is in force. */
START_TEST(none_configured)
{
	rig_start(with_links);
	server_open();
	a = peer_ready();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	server_reply(expect_join("t", "the-key"), false, REFUSED_TOKEN);
	expect(a, "[1,1,[300,*");
	expect_no_frame();
	ck_assert_uint_eq(owner.n_refused, 0);
}
END_TEST

/* Refused for want of rights that the next one may have. */
START_TEST(another_may_have_the_right)
{
	begin();
	rig.probes = true;
	own_give(1, HOUR);
	ask(a, 1, "p", ",'private':true");
	server_reply(expect_join("p", own_name(1)), true, "{}");
	expect(a, "[1,1,null,*'ready'}]");
	own_closed(&(struct line){ .link = 0, .ref = 1, .topic = "realtime:p" },
		   "You no longer have permission to read from this topic");
	expect(a, "[2,'channel',{*'rejected','code':'unauthorized',*what to do: *");
	advance(100000);
	expect_no_frame();
	own_give(2, HOUR);
	server_reply(expect_join("p", own_name(2)), true, "{}");
	expect(a, "[2,'gap',*");
	expect(a, "[2,'channel',{*'ready'}]");
}
END_TEST

/* Who wants more of a channel that is joined waits for the token: the channel, which works, does not. */
START_TEST(a_rejoin_waits)
{
	struct fake_peer *b;
	struct line f;

	begin();
	rig.probes = true;
	b = peer_ready();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	f = *expect_join("t", own_name(1));
	server_reply(&f, true, "{}");
	expect(a, "[1,1,null,*'ready'}]");
	own_take(2);
	ask(b, 1, "t", ",'presence':{},'keep':true,'timeout_ms':1000");
	advance(20000);
	expect_no_frame();
	expect_nothing(a);
	expect(b, "[1,1,null,{*'state':'joined','presence':{'state':'pending','snapshot':[]}}]");
	/* Both ways. */
	peer_ask(a, 2, "broadcast", "{'topic':'t','event':'e','payload':1,'via':'ws'}");
	server_reply(expect_frame("[3,*'e',1]"), true, "{}");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	expect(b, "[2,'broadcast',{*");
	own_give(3, HOUR);
	expect_push("t", 0, own_name(3));
	advance(10000);
	f = *expect_join("t", own_name(3));
	ck_assert_ptr_nonnull(strstr(f.text, "\"presence\":{\"enabled\":true"));
	server_reply(&f, true, "{}");
	ck_assert_uint_eq(peer_skip(a, "\"ready\""), 1);
}
END_TEST

/* ... and is forgotten when nobody wants it any more. */
START_TEST(a_rejoin_waits_for_nobody)
{
	struct fake_peer *b;

	begin();
	b = peer_ready();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	server_reply(expect_join("t", own_name(1)), true, "{}");
	expect(a, "[1,1,null,*'ready'}]");
	own_take(2);
	ask(b, 1, "t", ",'presence':{},'keep':true,'timeout_ms':1000");
	advance(3000);
	peer_close(b);
	own_give(3, HOUR);
	expect_push("t", 0, own_name(3));
	advance(60000);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("own");
	Suite *s = suite_create("hub_own");

	tcase_add_checked_fixture(t, NULL, own_end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, waits_for_the_first);
	tcase_add_test(t, waits_longer_than_it_may);
	tcase_add_test(t, adopted_while_offline);
	tcase_add_test(t, one_tests);
	tcase_add_test(t, the_others_follow_together);
	tcase_add_test(t, ends_without_another);
	tcase_add_test(t, closed_at_its_end);
	tcase_add_test(t, ends_while_asleep);
	tcase_add_test(t, refused_by_a_close);
	tcase_add_test(t, all_closed_at_once);
	tcase_add_test(t, renewed_from_inside);
	tcase_add_test(t, refused_too_late);
	tcase_add_test(t, trials_wait_too);
	tcase_add_test(t, feeds);
	tcase_add_test(t, with_an_sb_key);
	tcase_add_test(t, none_configured);
	tcase_add_test(t, another_may_have_the_right);
	tcase_add_test(t, a_rejoin_waits);
	tcase_add_test(t, a_rejoin_waits_for_nobody);
	suite_add_tcase(s, t);
	return suite_run(s);
}
