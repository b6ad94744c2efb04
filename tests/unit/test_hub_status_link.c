/* SPDX-License-Identifier: MIT */
/* Stories about what is told of the connections and of the daemon's token: in `status`, in the notice,
 * in the one line for the service manager. In every state: what is wrong, since when, what is tried
 * next and when. */
#include "hub_own.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"
#include "realtime/reasons.h"

enum { HOUR = 3600000 };

static struct fake_peer *a;
static struct acl *rules;

static void on_demand(struct hub_conf *conf)
{
	conf->connect_always = false;
}

static void begin_with(void (*change)(struct hub_conf *conf))
{
	rig_start(change);
	a = peer_ready();
	peer_skip(a, "");
}

static void end(void)
{
	rig_teardown();
	rules = acl_free(rules);
}

/* Of the answer to `status`, this must match. */
static void expect_status(struct fake_peer *p, const char *pattern)
{
	static uint32_t id = 100;
	char whole[2000];

	peer_skip(p, "");
	snprintf(whole, sizeof(whole), "[1,%u,null,{%s", ++id, pattern);
	peer_ask(p, id, "status", "{}");
	expect(p, whole);
}

static void expect_line(const char *pattern)
{
	MUST_MSG(text_matches(pattern, rig.status), "the line is: %s; expected %s", rig.status,
		 pattern);
}

#define URL "wss://example.test:443/realtime/v1/websocket"

/* ---- the connection ---- */

START_TEST(connecting_and_online)
{
	begin_with(with_links);
	expect_status(a, "*'connection':{'state':'connecting','since':1700001000000,'text':'the "
			 "connection is being opened'},*");
	expect_line("connecting: " URL);
	server_open();
	expect_status(a, "*'connection':{'state':'online','since':1700001000000},*");
	expect_line("online: " URL ", 1 clients, 0 channels");
}
END_TEST

/* Each way to fail: its word, the server's or the system's words, what to do, since when it is down,
 * and when the next attempt comes. */
START_TEST(each_fault)
{
	const struct fault_reason *reason = reasons_of_fault((enum session_fault)_i);
	char pattern[900];

	begin_with(with_links);
	server_open();
	advance(5000);
	server_drop((enum session_fault)_i, "these words");
	snprintf(pattern, sizeof(pattern),
		 "*'connection':{'state':'%s','since':1700001005000,'reason':'%s','text':'these "
		 "words; "
		 "what to do: "
		 "%s','next_try_ms':*},*'last_disconnect':{'since':1700001005000,'reason':"
		 "'%s',*",
		 reason->state, reason->name, reason->advice, reason->name);
	expect_status(a, pattern);
	snprintf(pattern, sizeof(pattern),
		 "%s: " URL ": %s: these words; next attempt in *s; down "
		 "since *:*:*",
		 reason->state, reason->name);
	expect_line(pattern);
}
END_TEST

START_TEST(attempts_are_counted)
{
	begin_with(with_links);
	server_open();
	server_drop(SESSION_FAULT_LOST, "broken");
	for (unsigned i = 0; i < 7; i++) {
		while (!rig.links[0].is_open)
			advance(100);
		expect_line("connecting: " URL ": *; attempt *; down since *");
		/* Not since the attempt: since the loss. */
		expect_status(
			a, "*'connection':{'state':'connecting','since':1700001000000,'reason':*,"
			   "'text':*},*");
		server_drop(SESSION_FAULT_CONNECT, "refused");
	}
	expect_line("backoff: " URL ": connect: refused; attempt 7, next in * s; down since *:*:*");
	while (!rig.links[0].is_open)
		advance(100);
	server_open();
	expect_line("online: *");
}
END_TEST

START_TEST(idle)
{
	begin_with(on_demand);
	server_open();
	advance(60000);
	expect_status(a,
		      "*'connection':{'state':'idle','since':*,'text':'closed, because nothing is "
		      "joined; the next wish opens it again'},*");
	expect_line("idle: " URL);
}
END_TEST

START_TEST(draining)
{
	begin_with(with_links);
	server_open();
	peer_skip(a, "");
	hub_drain(rig.hub, 2000);
	expect(a,
	       "[2,'connection',{'state':'draining','since':*,'text':'the daemon is stopping'}]");
}
END_TEST

/* Who may know it learns which join the server is busy with. */
static void with_rules(struct hub_conf *conf)
{
	with_links(conf);
	rules = rules_of("allow user 1000 admin\nallow user 1000 read topic *\n"
			 "allow user 2000 read topic secret\nallow user 2001 read topic other\n");
	conf->acl = rules;
}

START_TEST(stalled)
{
	struct fake_peer *mine, *foreign;

	begin_with(with_rules);
	server_open();
	rig.uid = 2000;
	mine = peer_ready();
	rig.uid = 2001;
	foreign = peer_ready();
	advance(14000);
	rig.mute = true;
	advance(10000);
	peer_ask(mine, 1, "subscribe", "{'topic':'secret','timeout_ms':100000}");
	expect_join("secret", "the-key");
	for (unsigned i = 0; i < 300 && !strstr(rig.status, "stalled"); i++)
		advance(100);
	expect_line("stalled: " URL ", 3 clients, 1 channels");
	expect_status(mine,
		      "*'connection':{'state':'stalled','since':*,'text':'the server has not "
		      "answered a heartbeat, with the join of secret (uid 2000) before it; what "
		      "to do: *'},*");
	expect_status(a, "*'connection':{'state':'stalled',*secret (uid 2000)*},*");
	expect_status(foreign,
		      "*'connection':{'state':'stalled',*with the join of a channel before "
		      "it; *},*");
	/* The notice goes to all. */
	ck_assert_uint_eq(messages_with(foreign, "secret"), 0);
	ck_assert_uint_ge(messages_with(foreign, "with the join of a channel before it"), 2);
}
END_TEST

/* ---- further links ---- */

START_TEST(a_further_link)
{
	begin_with(with_links);
	server_open();
	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	server_join("t");
	peer_ask(a, 2, "subscribe", "{'topic':'t','private':true,'timeout_ms':60000}");
	expect_status(a,
		      "*'links':[{'link':0,*'rtt_ms':null},{'link':1,'state':'connecting',*'text':"
		      "'the connection is being opened'}],*");
	rig.at = 1;
	server_drop(SESSION_FAULT_TLS, "no such certificate");
	rig.at = 0;
	expect_status(a, "*'connection':{'state':'online',*'links':[{'link':0,*},{'link':1,'state':"
			 "'config_error','since':*,*'uid':1000,'reason':'tls','text':'no such "
			 "certificate; what to do: check the certificate*','next_try_ms':*}],*");
	expect_status(a, "*'topic':'t','private':true,*'state':'joining','link':1,*");
}
END_TEST

/* ---- channels: what to do about it ---- */

START_TEST(what_to_do)
{
	begin_with(with_links);
	server_open();
	peer_ask(a, 1, "subscribe", "{'topic':'t','keep':true,'timeout_ms':100}");
	server_reply(expect_join("t", "the-key"), false,
		     "{'reason':'DatabaseLackOfConnections: Database can\\u0027t accept more'}");
	advance(100);
	expect_status(
		a, "*'channels':[{*'code':'database_connections','text':'DatabaseLack*; what to "
		   "do: nothing at first; if it stays, look at the project*','retry_in_ms':*}],*");
}
END_TEST

/* ---- the token ---- */

static void with_identity_rules(struct hub_conf *conf)
{
	rules = rules_of(
		"allow user 1000 admin\nallow user 1000 read topic *\n"
		"allow user 2000 read topic *\nallow user 2001 read topic *\nown user 2001\n");
	conf->acl = rules;
}

START_TEST(token_for_whom)
{
	struct fake_peer *other, *stranger;

	own_start(with_identity_rules);
	a = peer_ready();
	rig.uid = 2000;
	other = peer_ready();
	rig.uid = 2001;
	stranger = peer_ready();
	expect_status(a, "*");
	ck_assert_uint_eq(messages_with(a, "\"token\""), 0); /* nothing is known of it yet */
	own_give(1, HOUR);
	own_says("good", 3000000, "", "");
	expect_status(a, "*'token':{'source':'command','state':'good','since':1700001000000,'role':"
			 "'service_role','expires':1700001240,'next_try_ms':3000000},*");
	own_says("late", 12000, "command_failed", "the command ended with 1; see its output");
	expect_status(other,
		      "*'token':{'source':'command','state':'late',*'next_try_ms':12000,'code':"
		      "'command_failed','text':'the command ended with 1; see its output'},*");
	advance(2000);
	expect_status(other, "*'token':{*'next_try_ms':10000,*");
	expect_status(stranger, "*");
	ck_assert_uint_eq(messages_with(stranger, "\"token\""), 0);
	ck_assert_uint_eq(messages_with(stranger, "command_failed"), 0);
	/* And nobody ever sees itself. */
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		ck_assert_uint_eq(messages_with(&rig.peers[i], "own-1"), 0);
	ck_assert_ptr_null(strstr(rig.status, "own-1"));
}
END_TEST

START_TEST(token_in_the_line)
{
	own_start(NULL);
	a = peer_ready();
	expect_line("online: *, 0 clients, 0 channels");
	own_says("waiting", 0, "", "");
	expect_line("online: *; token: waiting");
	own_give(1, HOUR);
	own_says("good", 3000000, "", "");
	expect_line("online: *, 1 clients, 0 channels");
	own_says("late", 12000, "command_failed", "the command ended with 1");
	expect_line("online: *; token: ends in 4 min, late: the command ended with 1");
	own_says("bad", 12000, "token_expired", "it has ended");
	server_drop(SESSION_FAULT_LOST, "broken");
	expect_line("backoff: *: lost: broken; next attempt in * s; down since *; token: *bad: it "
		    "has ended");
}
END_TEST

/* A long text, or one that is no clean line, does no harm. */
START_TEST(token_texts)
{
	char text[1200], long_text[1000];

	own_start(NULL);
	a = peer_ready();
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	snprintf(text, sizeof(text), "a\nb\033 \xc3\xa4%s", long_text);
	own_says("bad", -1, "code", text);
	peer_ask(a, 1, "subscribe", "{'topic':'t','keep':true,'timeout_ms':0}");
	advance(1);
	expect(a, "[1,1,null,*");
	expect_status(a, "*'token':{*'text':'a b? \xc3\xa4xxx*");
	ck_assert_ptr_null(strchr(rig.status, '\n'));
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("link"), *token = tcase_create("token");
	Suite *s = suite_create("hub_status_link");

	tcase_add_checked_fixture(t, NULL, end);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, connecting_and_online);
	tcase_add_loop_test(t, each_fault, SESSION_FAULT_DNS, SESSION_FAULT_CONFIG + 1);
	tcase_add_test(t, attempts_are_counted);
	tcase_add_test(t, idle);
	tcase_add_test(t, draining);
	tcase_add_test(t, stalled);
	tcase_add_test(t, a_further_link);
	tcase_add_test(t, what_to_do);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(token, NULL, end);
	tcase_add_test(token, token_for_whom);
	tcase_add_test(token, token_in_the_line);
	tcase_add_test(token, token_texts);
	suite_add_tcase(s, token);
	return suite_run(s);
}
