/* SPDX-License-Identifier: MIT */
/*
 * What a local client might do to learn, to send or to take up more than the access rules and its
 * token let it: each of these once worked.
 */
#include "hub_changes_server.h"
#include "hub_changes_text.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

static struct acl *rules;
static const char *lines;
static struct fake_peer *a, *b; /* of the users 2000, who attacks, and 2001 */

static void with_rules(struct hub_conf *conf)
{
	with_links(conf);
	rules = rules_of(lines);
	conf->acl = rules;
}

static void private_only(struct hub_conf *conf)
{
	with_rules(conf);
	conf->private_only = HUB_PRIVATE_YES;
}

static void few_bytes(struct hub_conf *conf)
{
	with_rules(conf);
	conf->send_bytes = 1024 * 1024;
}

static struct fake_peer *peer_of(uid_t uid)
{
	rig.uid = uid;
	return peer_ready();
}

static void begin(const char *with, void (*change)(struct hub_conf *conf))
{
	lines = with;
	rig_start(change);
	rig.probes = true;
	server_open();
	a = peer_of(2000);
	b = peer_of(2001);
}

/* No server yet: whatever is sent waits. */
static void begin_offline(const char *with)
{
	lines = with;
	rig_start(few_bytes);
	a = peer_of(2000);
}

static void end(void)
{
	rig_teardown();
	rules = acl_free(rules);
}

static void reload(const char *with)
{
	struct acl *old = rules;

	rules = rules_of(with);
	hub_set_acl(rig.hub, rules);
	acl_free(old);
	turn();
}

/* ---- a topic, by way of database changes ---- */

#define STATE                                                                         \
	"[null,null,'realtime:secret','presence_state',{'alice':{'metas':[{'phx_ref'" \
	":'r1'}]}}]"

/* Who names a topic beside changes that it may not have either is told nothing of the topic. */
START_TEST(sees_a_topic_beside_changes_that_are_forbidden)
{
	begin("allow user 2000 write topic w\nallow user 2001 read,presence topic secret\n",
	      with_rules);
	peer_ask(b, 1, "subscribe", "{'topic':'secret','presence':{}}");
	server_join("secret");
	server_text(STATE);
	expect(b, "[1,1,null,{*'ready'*");
	peer_ask(a, 1, "channels", "{}");
	expect(a, "[1,1,null,{'channels':[]}]");
	peer_ask(a, 2, "subscribe", "{'topic':'secret','postgres_changes':[{'table':'none'}]}");
	expect(a, "[1,2,[301,'forbidden',*,null],null]");
	/* As of one that is not there. */
	peer_ask(a, 3, "subscribe", "{'topic':'nope','postgres_changes':[{'table':'none'}]}");
	expect(a, "[1,3,[301,'forbidden',*,null],null]");
	peer_ask(a, 4, "channels", "{}");
	expect(a, "[1,4,null,{'channels':[]}]");
	peer_ask(a, 5, "presence", "{'topic':'secret'}");
	expect(a, "[1,5,[206,'not_subscribed',*,null],null]");
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

/* Nor does it keep one for the sake of its changes when the right to read it is taken away. */
START_TEST(keeps_a_topic_beside_changes_that_stay_allowed)
{
	begin("allow user 2000 read topic secret\nallow user 2000 read table public.t\n"
	      "allow user 2001 read topic *\n",
	      with_rules);
	peer_ask(b, 1, "subscribe", "{'topic':'secret'}");
	server_join("secret");
	expect(b, "[1,1,null,{*'ready'*");
	peer_ask(a, 1, "subscribe", "{'topic':'secret','postgres_changes':[" T("t") "]}");
	(void)server_feed(ON("t"), "11");
	expect(a, "[1,1,null,{'chan':*'topic':'secret',*'ready'*");
	reload("allow user 2000 read table public.t\nallow user 2001 read topic *\n");
	expect(a, "[2,'channel',{*'topic':'secret',*'state':'rejected','code':'forbidden',*");
	peer_ask(a, 2, "channels", "{}");
	expect(a, "[1,2,null,{'channels':[]}]");
	expect_nothing(b);
}
END_TEST

/* Where changes are carried by private channels: no private topic is joined for who may not read
 * it, nor is that of others joined anew. */
START_TEST(has_private_topics_joined_that_it_may_not_read)
{
	unsigned joins;

	begin("allow user 2000 read table public.t\nallow user 2001 read topic theirs\n",
	      private_only);
	peer_ask(b, 1, "subscribe", "{'topic':'theirs','private':true}");
	server_join("theirs");
	expect(b, "[1,1,null,{*'ready'*");
	joins = frames_with("phx_join");
	peer_ask(a, 1, "subscribe",
		 "{'topic':'theirs','private':true,'postgres_changes':[" T("t") "]}");
	expect(a, "[1,1,[301,'forbidden',*,null],null]");
	peer_ask(a, 2, "subscribe",
		 "{'topic':'another','private':true,'postgres_changes':[" T("t") "]}");
	expect(a, "[1,2,[301,'forbidden',*,null],null]");
	advance(60000);
	ck_assert(!rig.links[1].is_open);
	ck_assert_uint_eq(frames_with("phx_join"), joins);
	server_broadcast("theirs", "e", "1");
	expect(b, "[2,'broadcast',*");
	expect_nothing(b);
	expect_nothing(a);
}
END_TEST

/* ---- a token's last moment ---- */

enum { LOOKS = 40 }; /* more than there are at the clock from a request to its join */

static int64_t (*steady_wall)(void *ctx);
static int looks_left; /* then the next millisecond begins; below 0: it stands still */

static int64_t ticking_wall(void *ctx)
{
	if (looks_left >= 0 && looks_left-- == 0)
		rig.wall_step_ms++;
	return steady_wall(ctx);
}

/* A join in the last millisecond of a token that nobody ever asked the server about: the second
 * ends when the hub looks at the clock for the nth time. Return: whether the token was sent. */
static bool joins_as_the_token_ends(int n)
{
	const char *token;
	bool sent;

	begin("own user 2000\nallow * read topic *\n", with_rules);
	steady_wall = rig.clock.wall_ms;
	rig.clock.wall_ms = ticking_wall;
	looks_left = -1;
	token = token_of("'role':'x','sub':'x'", 1, 1);
	give(a, 1, token, UNPROVEN("1"));
	rig.wall_step_ms += 999 - steady_wall(NULL) % 1000;
	looks_left = n;
	rig.no_turns = true;
	peer_ask(a, 2, "subscribe", "{'topic':'secret','private':true}");
	rig.no_turns = false;
	turn();
	looks_left = -1;
	sent = frames_with(token) > 0;
	ck_assert_uint_eq(frames_with("the-key"), 0);
	ck_assert_uint_eq(frames_with("phx_join"), sent);
	/* And in the end it is over, whatever the moment. */
	advance(1100);
	ck_assert_uint_eq(frames_with("the-key"), 0);
	ck_assert_uint_eq(messages_with(a, "bad_token"), sent ? 2 : 1 + !a->asked[2]);
	end();
	return sent;
}

START_TEST(joins_with_the_daemons_key_as_its_token_ends)
{
	unsigned n_sent = 0;

	for (int n = 0; n < LOOKS; n++)
		n_sent += joins_as_the_token_ends(n);
	/* The end came before some look, and after some other. */
	ck_assert_uint_gt(n_sent, 0);
	ck_assert_uint_lt(n_sent, LOOKS);
	begin("allow * read topic *\n", with_rules); /* for the fixture to end */
}
END_TEST

/* Its end is in the middle of one of our seconds. */
START_TEST(reads_on_after_its_tokens_end)
{
	const char *token;

	begin("allow * read topic *\n", with_rules);
	rig.wall_step_ms += 1500 - rig.clock.wall_ms(NULL) % 1000;
	token = token_of("'role':'x','sub':'x'", 2, 1);
	give(a, 1, token, UNPROVEN("1"));
	peer_joins(a, 2, "t", token);
	peer_skip(a, "");
	advance(1499);
	server_broadcast("t", "e", "1");
	expect(a, "[2,'broadcast',*");
	advance(1);
	ck_assert_uint_ge(peer_skip(a, "bad_token"), 1);
	server_broadcast("t", "e", "2");
	expect_nothing(a);
}
END_TEST

/* ---- what waits to be sent ---- */

#define LONG_TTL ",'ttl_ms':60000}"
#define QUEUED   "{'topic':'t','event':'e','payload':'said before'" LONG_TTL

/* Broadcasts of 60 KB until one is refused. Return: how many wait. */
static unsigned fill(struct fake_peer *p)
{
	static char params[70000], payload[60001];
	unsigned n;

	memset(payload, 'x', sizeof(payload) - 1);
	snprintf(params, sizeof(params), "{'topic':'t','event':'e','payload':'%s'" LONG_TTL,
		 payload);
	for (n = 0; n < 30; n++) {
		peer_ask(p, n + 1, "broadcast", params);
		if (!p->asked[n + 1])
			break;
	}
	expect(p, "[1,*'busy',*");
	return n;
}

/* Half of the bytes that may wait are one user's, however many connections they came by. */
START_TEST(takes_all_unsent_bytes_by_coming_and_going)
{
	unsigned n;

	begin_offline("allow * read,write topic *\n");
	n = fill(a);
	ck_assert_uint_ge(n, 5);
	for (unsigned i = 0; i < 3; i++) {
		peer_close(a);
		turn();
		a = peer_of(2000);
		ck_assert_uint_eq(fill(a), 0);
	}
	ck_assert_uint_eq(fill(peer_of(2001)), n);
	/* They end with their time, and are its own again. */
	advance(61000);
	ck_assert_uint_eq(fill(a), n);
}
END_TEST

/* Whoever has gone cannot be asked again what it may. */
START_TEST(sends_after_its_right_was_taken)
{
	begin_offline("allow user 2000 write topic t\n");
	peer_ask(a, 1, "broadcast", QUEUED);
	peer_close(a);
	turn();
	reload("allow user 2000 read topic t\n");
	server_open();
	server_serve();
	ck_assert_uint_eq(frames_with("said before"), 0);
}
END_TEST

/* Its connection ends with the new rules, or is ending when they come. */
START_TEST(sends_after_it_may_not_attach_any_more)
{
	begin_offline("allow user 2000 write topic t\n");
	peer_ask(a, 1, "broadcast", QUEUED);
	b = peer_of(2000);
	peer_ask(b, 1, "broadcast", QUEUED);
	peer_frame(b, "\xc1", 1);
	expect_farewell(b, "protocol", false);
	reload("allow user 2001 write topic t\n");
	expect_farewell(a, "denied", true);
	peer_close(a);
	peer_close(b);
	turn();
	server_open();
	server_serve();
	ck_assert_uint_eq(frames_with("said before"), 0);
}
END_TEST

START_TEST(sends_after_its_tokens_end)
{
	begin_offline("allow * read,write topic *\n");
	give(a, 1, token_of("'role':'r','sub':'s'", 10, 1), UNPROVEN("1"));
	peer_ask(a, 2, "broadcast", QUEUED);
	peer_close(a);
	turn();
	advance(20000);
	if (!rig.links[0].is_open)
		advance(30000);
	server_open();
	server_serve();
	ck_assert_uint_eq(frames_with("said before"), 0);
	ck_assert_uint_eq(frames_with("the-key"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_hostile_rights");
	TCase *t = tcase_create("rights");

	tcase_add_checked_fixture(t, NULL, end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, sees_a_topic_beside_changes_that_are_forbidden);
	tcase_add_test(t, keeps_a_topic_beside_changes_that_stay_allowed);
	tcase_add_test(t, has_private_topics_joined_that_it_may_not_read);
	tcase_add_test(t, joins_with_the_daemons_key_as_its_token_ends);
	tcase_add_test(t, reads_on_after_its_tokens_end);
	tcase_add_test(t, takes_all_unsent_bytes_by_coming_and_going);
	tcase_add_test(t, sends_after_its_right_was_taken);
	tcase_add_test(t, sends_after_it_may_not_attach_any_more);
	tcase_add_test(t, sends_after_its_tokens_end);
	suite_add_tcase(s, t);
	return suite_run(s);
}
