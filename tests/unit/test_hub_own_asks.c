/* SPDX-License-Identifier: MIT */
/* Stories about what may be asked for (`reconnect`, `refresh_token`), about another API key, and about
 * what lifts a refusal for good. */
#include "hub_own.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

enum { HOUR = 3600000 };

#define REFUSED_TOPIC "{'reason':'TopicNameRequired: You must provide a topic name'}"

static struct fake_peer *a, *b;
static struct acl *rules;
static struct secret *key;

static void with_rules(struct hub_conf *conf)
{
	rules = rules_of("allow user 1000 admin\nallow user 1000 read,write topic *\n"
			 "allow user 2000 read,write topic *\n");
	conf->acl = rules;
}

static void begin(void)
{
	own_start(with_rules);
	rig.probes = true;
	a = peer_ready();
	rig.uid = 2000;
	b = peer_ready();
}

static void end(void)
{
	own_end();
	rules = acl_free(rules);
	key = secret_free(key);
}

static void ask(struct fake_peer *p, uint32_t id, const char *topic, const char *more)
{
	char params[200];

	snprintf(params, sizeof(params), "{'topic':'%s'%s}", topic, more);
	peer_ask(p, id, "subscribe", params);
}

static void another_key(const char *text)
{
	struct secret *before = key;

	key = secret_new(text, strlen(text));
	hub_set_apikey(rig.hub, key);
	secret_free(before);
	turn();
}

/* ---- reconnect ---- */

START_TEST(reconnects)
{
	begin();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	server_reply(expect_join("t", own_name(1)), true, "{}");
	expect(a, "[1,1,null,*");
	advance(5000);
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
	peer_ask(a, 2, "reconnect", "{}");
	expect(a, "[2,'channel',{*'rejoining','code':'connection',*");
	expect(a, "[2,'connection',{'state':'backoff',*'reason':'closed','text':'it was asked for "
		  "(rtbridge reconnect); *");
	expect(a, "[1,2,null,{'state':'*','since':*,'reason':'closed','text':*}]");
	advance(0);
	ck_assert_uint_eq(rig.links[0].n_opened, 2); /* at once */
	server_open();
	server_reply(expect_join("t", own_name(1)), true, "{}");
}
END_TEST

/* Who asked, and by which number, is for the log: others are not told of it. */
START_TEST(who_asked_is_not_told)
{
	begin();
	ask(b, 1, "t", ",'timeout_ms':60000");
	peer_ask(a, 1, "reconnect", "{}");
	ck_assert_uint_eq(peer_skip(b, "asked for"), 1);
	ck_assert_uint_eq(messages_with(b, "uid"), 0);
	peer_ask(a, 2, "status", "{}");
	ck_assert_uint_eq(messages_with(a, "(uid "), 0);
}
END_TEST

/* Once in ten seconds, however often it is asked for, and by however many. */
START_TEST(asked_again_and_again)
{
	struct fake_peer *c;

	begin();
	rig.uid = 1000;
	c = peer_ready();
	own_give(1, HOUR);
	advance(5000);
	peer_ask(a, 1, "reconnect", "{}");
	peer_skip(a, "");
	advance(2000);
	server_open();
	ck_assert_uint_eq(rig.links[0].n_opened, 2);
	peer_skip(a, "");
	peer_skip(c, "");
	for (uint32_t i = 2; i <= 50; i++) {
		peer_ask(i % 2 ? a : c, i, "reconnect", "{}");
		peer_skip(i % 2 ? a : c, "");
	}
	ck_assert_uint_eq(
		messages_with(a, "\"busy\",\"somebody has asked for it within the last 10 s"), 24);
	peer_call(c, "reconnect", "{}");
	expect(c, "[2,'error',{'method':'reconnect','error':[100,'busy',*,8000]}]");
	ck_assert_uint_eq(rig.links[0].n_opened, 2);
	/* One that was refused does not make the pause longer. */
	advance(7999);
	peer_ask(c, 51, "reconnect", "{}");
	expect(c, "[1,51,[100,'busy',*,1],null]");
	advance(1);
	peer_ask(c, 52, "reconnect", "{}");
	ck_assert_uint_eq(peer_skip(c, "[1,52,null,"), 1);
	advance(1000);
	ck_assert_uint_eq(rig.links[0].n_opened, 3);
}
END_TEST

/* What has been closed at the daemon's end stays so. */
START_TEST(not_at_the_end)
{
	begin();
	own_says("good", 5000, "", "");
	ask(a, 1, "t", "");
	own_give(1, HOUR);
	expect_join("t", own_name(1));
	peer_ask(a, 2, "broadcast",
		 "{'topic':'t','event':'e','payload':1,'via':'ws'}"); /* is waited for */
	hub_drain(rig.hub, 2000);
	turn();
	peer_skip(a, "");
	peer_ask(a, 3, "reconnect", "{}");
	expect(a, "[1,3,[405,'shutdown','the daemon is stopping',null],null]");
	peer_ask(a, 4, "refresh_token", "{}");
	expect(a, "[1,4,[405,'shutdown','the daemon is stopping',null],null]");
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
	ck_assert_uint_eq(owner.n_wanted, 0);
}
END_TEST

START_TEST(not_by_everybody)
{
	begin();
	own_says("good", -1, "", "");
	peer_ask(b, 1, "reconnect", "{}");
	expect(b, "[1,1,[301,'forbidden','this needs the right admin*");
	peer_ask(b, 2, "refresh_token", "{}");
	expect(b, "[1,2,[301,'forbidden','this needs the right admin*");
	advance(5000);
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
	ck_assert_uint_eq(owner.n_wanted, 0);
}
END_TEST

/* While it waits for its time after a failure: the attempt is made now. */
START_TEST(in_a_backoff)
{
	begin();
	server_drop(SESSION_FAULT_FORBIDDEN, "HTTP status 403");
	advance(20000);
	ck_assert(!rig.links[0].is_open);
	peer_ask(a, 1, "reconnect", "{}");
	ck_assert(rig.links[0].is_open);
	peer_skip(a, "");
	server_open();
	ck_assert_uint_eq(peer_skip(a, "\"online\""), 1);
}
END_TEST

/* One that is closed because nothing needs it is opened. */
static void on_demand(struct hub_conf *conf)
{
	conf->connect_always = false;
}

START_TEST(when_idle)
{
	own_start(on_demand);
	a = peer_ready();
	advance(60000);
	ck_assert(!rig.links[0].is_open);
	peer_ask(a, 1, "reconnect", "{}");
	ck_assert(rig.links[0].is_open);
}
END_TEST

/* What the server refused for good, and what is parked, is tried anew. */
START_TEST(lifts_what_was_refused)
{
	struct line f;

	begin();
	own_give(1, HOUR);
	ask(a, 1, "p", ",'private':true");
	f = *expect_join("p", own_name(1));
	server_reply(&f, true, "{}");
	expect(a, "[1,1,null,*");
	own_closed(&f, "You no longer have permission to read from this topic");
	expect(a, "[2,'channel',{*'rejected',*");
	ask(a, 2, "d", ",'keep':true,'timeout_ms':1000");
	server_reply(expect_join("d", own_name(1)), false,
		     "{'reason':'RealtimeDisabledForTenant: Realtime disabled for this tenant'}");
	advance(1000);
	expect(a, "[1,2,null,{*'joining'}]");
	expect_no_frame();
	peer_ask(a, 3, "reconnect", "{}");
	advance(0);
	server_open();
	advance(1000);
	expect_join("d", own_name(1));
	expect_join("p", own_name(1));
}
END_TEST

/* ---- refresh_token ---- */

START_TEST(refreshed)
{
	begin();
	own_give(1, HOUR);
	own_says("good", 3000000, "", "");
	peer_ask(a, 1, "refresh_token", "{}");
	ck_assert_uint_eq(owner.n_wanted, 1);
	own_says("good", 0, "", ""); /* under way */
	expect_nothing(a);
	own_give(2, HOUR);
	expect_nothing(a);
	own_says("good", 3000000, "", "");
	expect(a, "[1,1,null,{'source':'command','state':'good','since':*,'role':'service_role',"
		  "'expires':*,'next_try_ms':3000000}]");
}
END_TEST

START_TEST(refresh_fails)
{
	begin();
	own_give(1, HOUR);
	own_says("good", 3000000, "", "");
	peer_ask(a, 1, "refresh_token", "{}");
	own_says("good", 0, "", "");
	own_says("late", 12000, "command_failed", "the command ended with 1; see its output");
	expect(a, "[1,1,null,{*'state':'late',*'next_try_ms':12000,'code':'command_failed','text':'"
		  "the "
		  "command ended with 1; see its output'}]");
}
END_TEST

START_TEST(refresh_takes_too_long)
{
	begin();
	own_says("waiting", 5000, "", "");
	peer_ask(a, 1, "refresh_token", "{'timeout_ms':2000}");
	own_says("waiting", 0, "", "");
	peer_ask(a, 2, "refresh_token", "{}");
	expect(a, "[1,2,[100,'busy','this client has asked for it already',null],null]");
	peer_ask(a, 3, "refresh_token", "{'timeout_ms':'x'}");
	expect(a, "[1,3,[200,*");
	advance(2000);
	expect(a, "[1,1,[101,'timeout',*");
	own_says("waiting", 5000, "", "");
	expect_nothing(a);
}
END_TEST

/* Once in ten seconds, for all clients together. */
START_TEST(refresh_asked_again_and_again)
{
	struct fake_peer *c;

	begin();
	rig.uid = 1000;
	c = peer_ready();
	own_says("good", 5000, "", "");
	peer_ask(a, 1, "refresh_token", "{}");
	own_says("good", 5000, "", "");
	expect(a, "[1,1,null,{*");
	advance(4000);
	peer_ask(a, 2, "refresh_token", "{}");
	expect(a, "[1,2,[100,'busy','somebody has asked for it within the last 10 s*',6000],null]");
	peer_ask(c, 1, "refresh_token", "{}");
	expect(c, "[1,1,[100,'busy','somebody has asked for it within the last 10 s*',6000],null]");
	advance(5999);
	peer_ask(c, 2, "refresh_token", "{}");
	expect(c, "[1,2,[100,*,1],null]");
	ck_assert_uint_eq(owner.n_wanted, 1);
	advance(1);
	peer_ask(c, 3, "refresh_token", "{}");
	ck_assert_uint_eq(owner.n_wanted, 2);
	own_says("good", 5000, "", "");
	expect(c, "[1,3,null,{*");
}
END_TEST

/* Who asks and goes is not answered; the others are. */
START_TEST(asker_goes)
{
	struct fake_peer *c;

	begin();
	rig.uid = 1000;
	c = peer_ready();
	own_says("good", 5000, "", "");
	peer_ask(a, 1, "refresh_token", "{}");
	advance(10000);
	peer_ask(c, 1, "refresh_token", "{}");
	ck_assert_uint_eq(owner.n_wanted, 2);
	peer_ask(a, 2, "sync", "{}");
	peer_close(c);
	expect_nothing(a);
	own_says("good", 60000, "", "");
	expect(a, "[1,1,null,{*");
	expect(a, "[1,2,null,{}]");
}
END_TEST

START_TEST(nothing_to_refresh)
{
	rig_start(with_links);
	server_open();
	a = peer_ready();
	peer_ask(a, 1, "refresh_token", "{}");
	expect(a, "[1,1,[205,'unsupported',*");
	peer_call(a, "refresh_token", "{}");
	expect(a, "[2,'error',{'method':'refresh_token','error':[205,*}]");
}
END_TEST

/* ---- another API key ---- */

START_TEST(key_refused_at_the_door)
{
	begin();
	server_drop(SESSION_FAULT_LOST, "lost");
	ck_assert_uint_eq(owner.n_key_refused, 0);
	advance(2000);
	server_drop(SESSION_FAULT_AUTH, "HTTP status 401");
	ck_assert_uint_eq(owner.n_key_refused, 1);
	advance(30000);
	ck_assert(!rig.links[0].is_open);
	another_key("second");
	ck_assert(rig.links[0].is_open);
	server_open();
	own_give(1, HOUR);
	ask(a, 1, "t", "");
	server_reply(expect_join("t", own_name(1)), true, "{}");
}
END_TEST

/* An attempt that is under way has the old one. */
START_TEST(replaced_during_an_attempt)
{
	unsigned n;

	begin();
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(2000);
	ck_assert(rig.links[0].is_open);
	n = rig.links[0].n_opened;
	another_key("second");
	advance(1000);
	ck_assert(rig.links[0].is_open);
	ck_assert_uint_eq(rig.links[0].n_opened, n + 1);
	server_open();
}
END_TEST

/* A connection that is up stays; without a token of its own what the key was refused for is tried with
 * the other one, by one join first. */
START_TEST(replaced_while_online)
{
	struct line t, u;

	rig_start(with_links);
	server_open();
	a = peer_ready();
	ask(a, 1, "t", "");
	t = *expect_join("t", "the-key");
	server_reply(&t, true, "{}");
	expect(a, "[1,1,null,*");
	ask(a, 2, "u", "");
	u = *expect_join("u", "the-key");
	server_reply(&u, true, "{}");
	expect(a, "[1,2,null,*");
	own_closed(&t, OWN_EXPIRED);
	own_closed(&u, OWN_EXPIRED);
	ck_assert_uint_eq(peer_skip(a, "\"rejected\""), 2);
	advance(100000);
	expect_no_frame();
	another_key("second");
	ck_assert_uint_eq(rig.links[0].n_opened, 1);
	server_reply(expect_join("t", "second"), true, "{}");
	server_reply(expect_join("u", "second"), true, "{}");
	ck_assert_uint_eq(peer_skip(a, "\"ready\""), 2);
}
END_TEST

/* ---- what lifts a refusal ---- */

/* Another token of the identity. */
START_TEST(another_token_of_a_client)
{
	const char *first, *second;
	struct line f;

	begin();
	own_give(1, HOUR);
	first = token_of_user("alice", 1);
	second = token_of("'role':'authenticated','sub':'alice'", 7200, 2);
	give(b, 1, first, NULL);
	peer_skip(b, "");
	ask(b, 2, "p", ",'private':true");
	f = *expect_join("p", first);
	server_reply(&f, true, "{}");
	expect(b, "[1,2,null,*'ready'}]");
	own_closed(&f, "You no longer have permission to read from this topic");
	expect(b, "[2,'channel',{*'rejected','code':'unauthorized',*");
	advance(100000);
	expect_no_frame();
	give(b, 3, second, NULL);
	open_link(1);
	server_tries(1, second, true, "{}");
	server_reply(expect_join("p", second), true, "{}");
	peer_skip(b, "");
}
END_TEST

/* A reload, while something waits for the daemon's token as well. */
START_TEST(a_reload)
{
	struct acl *before;
	struct line f;

	begin();
	own_give(1, HOUR);
	ask(a, 1, "p", ",'private':true");
	f = *expect_join("p", own_name(1));
	server_reply(&f, true, "{}");
	expect(a, "[1,1,null,*");
	own_closed(&f, "You no longer have permission to read from this topic");
	expect(a, "[2,'channel',{*'rejected',*");
	own_take(2);
	ask(b, 1, "w", ",'timeout_ms':60000");
	before = rules;
	rules = rules_of("allow user 1000 read,write topic *\nallow user 2000 read topic *\n");
	hub_set_acl(rig.hub, rules);
	acl_free(before);
	turn();
	expect_no_frame();
	peer_skip(a, "");
	expect_nothing(b);
	own_give(3, HOUR);
	server_serve();
	advance(1000);
	server_serve();
	expect(b, "[1,1,null,*'ready'}]");
	ck_assert_uint_eq(peer_skip(a, "\"ready\""), 1);
}
END_TEST

/* ... and what waits ends with the right to it. */
START_TEST(a_reload_takes_the_right)
{
	struct acl *before;

	begin();
	ask(b, 1, "w", ",'timeout_ms':60000");
	before = rules;
	rules = rules_of("allow user 1000 read,write topic *\nallow user 2000 read topic other\n");
	hub_set_acl(rig.hub, rules);
	acl_free(before);
	turn();
	expect(b, "[1,1,[301,*");
	own_give(1, HOUR);
	expect_no_frame();
}
END_TEST

/* A new connection, and who asks again: as ever. */
static void one_link(struct hub_conf *conf)
{
	conf->max_links = 1;
}

START_TEST(as_ever)
{
	struct line f;

	own_start(one_link);
	a = peer_ready();
	own_give(1, HOUR);
	ask(a, 1, "p", "");
	f = *expect_join("p", own_name(1));
	server_reply(&f, true, "{}");
	own_closed(&f, "TopicNameRequired: You must provide a topic name");
	peer_skip(a, "");
	advance(60000);
	expect_no_frame();
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(3000);
	server_open();
	server_reply(expect_join("p", own_name(1)), false, REFUSED_TOPIC);
	ck_assert_uint_eq(peer_skip(a, "\"rejected\""), 1);
	advance(60000);
	expect_no_frame();
	ask(a, 2, "p", "");
	server_reply(expect_join("p", own_name(1)), true, "{}");
	ck_assert_uint_eq(peer_skip(a, "[1,2,null,"), 1);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("asks");
	Suite *s = suite_create("hub_own_asks");

	tcase_add_checked_fixture(t, NULL, end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, reconnects);
	tcase_add_test(t, asked_again_and_again);
	tcase_add_test(t, who_asked_is_not_told);
	tcase_add_test(t, not_at_the_end);
	tcase_add_test(t, not_by_everybody);
	tcase_add_test(t, in_a_backoff);
	tcase_add_test(t, when_idle);
	tcase_add_test(t, lifts_what_was_refused);
	tcase_add_test(t, refreshed);
	tcase_add_test(t, refresh_fails);
	tcase_add_test(t, refresh_takes_too_long);
	tcase_add_test(t, refresh_asked_again_and_again);
	tcase_add_test(t, asker_goes);
	tcase_add_test(t, nothing_to_refresh);
	tcase_add_test(t, key_refused_at_the_door);
	tcase_add_test(t, replaced_during_an_attempt);
	tcase_add_test(t, replaced_while_online);
	tcase_add_test(t, another_token_of_a_client);
	tcase_add_test(t, a_reload);
	tcase_add_test(t, a_reload_takes_the_right);
	tcase_add_test(t, as_ever);
	suite_add_tcase(s, t);
	return suite_run(s);
}
