/* SPDX-License-Identifier: MIT */
/* Stories about attached processes: hello, nonsense, slow readers, status, the orderly stop. */
#include "hub_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(hello)
{
	struct fake_peer *a = peer_attach(), *b;

	peer_ask(a, 1, "status", "{}");
	expect(a, "[1,1,[208,'hello_first',*],null]");
	peer_call(a, "hello", "{'protocol':1}");
	expect(a, "[2,'error',{'method':'hello','error':[208,*]}]");
	peer_ask(a, 2, "hello",
		 "{'protocol':1,'token':null,'client':{'name':'a\\nb','version':7}}");
	expect(a, "[1,2,null,{'protocol':1,'server':{'name':'rtbridged','version':*},'session':1,"
		  "'limits':{'frame_bytes':4194304,'queue_bytes':4194304,'topic_bytes':240,"
		  "'event_bytes':255,'key_bytes':255,'state_bytes':65536,'binding_bytes':8192,'"
		  "bindings':1000,'depth':64,"
		  "'subscriptions':100},'features':['broadcast','sync.upstream','presence','gap','"
		  "postgres_changes','auth','http','outcome','replay','system'],"
		  "'connection':{'state':'online','since':*}}]");
	ck_assert_str_eq(a->peer->name, "a b");
	ck_assert_str_eq(a->peer->version, "");
	peer_ask(a, 3, "hello", "{'protocol':1}");
	expect(a, "[1,3,[200,'bad_request',*],null]");
	advance(10000);
	ck_assert(!a->finished);
	b = peer_attach();
	peer_ask(b, 1, "hello", "{'protocol':2}");
	expect(b, "[1,1,[402,'version',*],null]");
	expect_farewell(b, "version", false);
	/* Nothing is taken from it any more. */
	peer_frame(b, "\x94\0\2\xa6status\x80", 11);
	peer_close(b);
	b = peer_attach();
	peer_ask(b, 1, "hello", "{}");
	expect(b, "[1,1,[402,'version',*],null]");
}
END_TEST

START_TEST(hello_in_time)
{
	struct fake_peer *a = peer_attach();

	advance(1999);
	ck_assert(!a->finished);
	advance(1);
	expect_farewell(a, "hello_timeout", false);
	ck_assert_uint_eq(rig.hub->n_peers, 1);
	peer_close(a);
	ck_assert_uint_eq(rig.hub->n_peers, 0);
}
END_TEST

START_TEST(long_names_are_cut_between_characters)
{
	struct fake_peer *a = peer_attach();

	peer_ask(a, 1, "hello",
		 "{'protocol':1,'client':{'name':'"
		 "0123456789012345678901234567890123456789012345678901234567890"
		 "1\u00e9\u00e9','version':'"
		 "01234567890123456789012345678\u20ac'}}");
	ck_assert_str_eq(a->peer->name,
			 "0123456789012345678901234567890123456789012345678901234567890"
			 "1");
	ck_assert_str_eq(a->peer->version, "01234567890123456789012345678");
	peer_ask(a, 2, "status", "{}");
	ck_assert_uint_eq(a->n_asked, 0);
}
END_TEST

START_TEST(protocol_errors)
{
	static const struct {
		const char *bytes;
		size_t size;
	} rows[] = {
		{ "", 0 },
		{ "\xc1", 1 },
		{ "\x93\2\xa4sync", 7 },
		{ "\x94\1\0\xc0\x80", 5 },       /* a response */
		{ "\x94\0\xff\xa4sync\x80", 9 }, /* id -1 */
		{ "\x93\2\xa4sync\xc0", 8 },     /* params nil */
		{ "\x94\0\0\1\x80", 5 },
	};
	struct fake_peer *a;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		a = peer_ready();
		peer_frame(a, rows[i].bytes, rows[i].size);
		expect_nothing(a);
		expect_farewell(a, "protocol", false);
		peer_frame(a, rows[i].bytes, rows[i].size);
	}
	a = peer_ready();
	hub_on_peer_oversize(a->peer, 99999999);
	turn();
	expect_farewell(a, "too_big", false);
	hub_on_peer_oversize(a->peer, 99999999);
}
END_TEST

START_TEST(extra_elements_are_ignored)
{
	struct fake_peer *a = peer_ready();

	a->asked[9] = true;
	a->n_asked++;
	peer_frame(a, "\x96\0\x09\xa4sync\x80\xc0\x01", 11);
	expect(a, "[1,9,null,{}]");
}
END_TEST

START_TEST(slow_consumer)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready();

	peer_join(a, "t", "{}");
	peer_join(b, "t", "{}");
	peer_join(c, "t", "{}");
	b->send_result = 1;
	b->room = 2;
	for (unsigned i = 0; i < 5; i++)
		server_broadcast("t", "e", "1");
	for (unsigned i = 0; i < 5; i++) {
		expect(a, "[2,'broadcast',*");
		expect(c, "[2,'broadcast',*");
	}
	expect(b, "[2,'broadcast',*");
	expect(b, "[2,'broadcast',*");
	expect_nothing(b);
	expect_farewell(b, "slow_consumer", true);
	ck_assert_uint_eq(rig.hub->counters.slow_consumers, 1);
	ck_assert_uint_eq(b->peer->n_subs, 0);
	peer_close(b);
	/* In the middle of a fan-out, before the turn has ended. */
	rig.no_turns = true;
	a->send_result = -ENOMEM;
	server_broadcast("t", "e", "2");
	server_broadcast("t", "e", "3");
	peer_close(a);
	server_broadcast("t", "e", "4");
	rig.no_turns = false;
	turn();
	expect_farewell(a, "no_memory", true);
	for (unsigned i = 0; i < 3; i++)
		expect(c, "[2,'broadcast',*");
	expect_nothing(c);
}
END_TEST

START_TEST(slow_at_the_worst_moments)
{
	/* The queue is full at the n-th message of a life that meets every kind of message. */
	for (unsigned room = 0; room < 14; room++) {
		struct fake_peer *a = peer_ready(), *b = peer_ready();

		a->send_result = room % 2 ? 1 : -ENOMEM;
		a->room = room;
		peer_ask(a, 1, "subscribe", "{'topic':'t','broadcast':{'self':true}}");
		peer_ask(a, 2, "subscribe", "{'topic':'t'}");
		peer_ask(a, 3, "broadcast", "{'topic':'t','event':'e','payload':1}");
		peer_ask(a, 4, "sync", "{'upstream':true}");
		server_serve();
		peer_ask(a, 5, "subscribe", "{'topic':'v','keep':true,'timeout_ms':0}");
		peer_ask(a, 6, "status", "{}");
		peer_ask(a, 7, "broadcast", "{'topic':'u','event':'e','payload':1,'ttl_ms':0}");
		advance(0);
		server_drop(SESSION_FAULT_LOST, "x");
		advance(2000);
		server_open();
		server_serve();
		peer_ask(a, 8, "unsubscribe", "{'all':true}");
		ck_assert_uint_le(a->got.n, room + 1);
		peer_close(a);
		peer_close(b);
		advance(40000);
		server_serve();
		ck_assert_uint_eq(rig.hub->n_chans, 0);
	}
}
END_TEST

START_TEST(status)
{
	struct fake_peer *a = peer_ready(), *b = peer_attach();
	const char *text;

	peer_join(a, "t", "{}");
	advance(30000);
	server_drop(SESSION_FAULT_RESTART, "going away");
	expect(a, "[2,'channel',*");
	expect(a, "[2,'connection',*");
	advance(2000);
	server_open();
	expect(a, "[2,'connection',*");
	peer_call(a, "status", "{}");
	peer_ask(a, 2, "status", "{}");
	text = expect(
		a,
		"[1,2,null,{'server':{'name':'rtbridged','version':*,'pid':*,'uptime_ms':"
		"32000},'connection':{'state':'online','since':*},'url':"
		"'wss://example.test:443/realtime/v1/websocket','vsn':'2.0.0','admin':true,'links':"
		"[{'link':0,'state':'online','since':*,'why':'shared by all','joins':1,"
		"'rtt_ms':*}],'clients':[{'session':1,'uid':1000,'pid':4242,'name':"
		"'test','version':'1','subscriptions':1,'trackers':0,'queued_bytes':4711}],"
		"'channels':[{'chan':1,'topic':'t','private':false,'identity':0,'state':'rejoining'"
		","
		"'link':0,'subscribers':1,'queued_sends':0,'trackers':0,'shown':0,'code':'"
		"connection','text':"
		"*}],'identities':[],'feeds':[],'postgres_changes':[],'private_only':false,'http':{"
		"'requests':0},'"
		"counters':{'"
		"reconnects':1,'messages_in':0,'messages_out':0,"
		"'bytes_in':*,'bytes_out':*,'deliveries':0,'undecoded':0,"
		"'slow_consumers':0,'malformed':*},'last_disconnect':{'since':*,'reason':'restart',"
		"'text':'going away'}}]");
	ck_assert_ptr_null(strstr(text, "the-key"));
	ck_assert(b->finished); /* no hello */
}
END_TEST

static void with_four_peers(struct hub_conf *conf)
{
	conf->max_peers = 4;
	conf->send_bytes = 2000;
}

/* What there is for all one user has half of; the daemon's own may have all. */
START_TEST(shares_of_users)
{
	struct fake_peer *a, *b, *c;

	rig_start(with_four_peers);
	server_open();
	rig.uid = 2000;
	a = peer_ready();
	(void)peer_ready();
	c = peer_attach();
	expect_farewell(c, "full", false);
	peer_close(c);
	rig.uid = 2001;
	b = peer_ready();
	for (unsigned i = 1; i < 40; i++) {
		peer_ask(a, i, "broadcast", "{'topic':'t','event':'e','payload':1}");
		if (a->n_asked < i)
			break;
	}
	expect(a, "[1,*,null,{'outcome':'busy','via':'ws','text':'this user*half*'}]");
	peer_ask(b, 1, "broadcast", "{'topic':'t','event':'e','payload':1}");
	expect_nothing(b);
	peer_close(b);
	rig.uid = 1000;
	(void)peer_ready();
	rig_teardown();
}
END_TEST

static void with_two_peers(struct hub_conf *conf)
{
	conf->max_peers = 2;
}

START_TEST(max_clients)
{
	struct fake_peer *a, *c;

	rig_start(with_two_peers);
	a = peer_ready();
	(void)peer_ready();
	c = peer_attach();
	expect_farewell(c, "full", false);
	peer_close(c);
	peer_close(a);
	(void)peer_ready();
	rig_teardown();
}
END_TEST

START_TEST(drain_at_once)
{
	struct fake_peer *a = peer_ready(), *b;

	peer_join(a, "t", "{}");
	hub_drain(rig.hub, 1000);
	turn();
	expect(a, "[2,'connection',{'state':'draining',*");
	/* A moment for what may still be in a socket. */
	ck_assert(!a->finished);
	advance(40);
	peer_ask(a, 9, "sync", "{}");
	expect(a, "[1,9,null,{}]");
	advance(40);
	ck_assert(!a->finished);
	advance(10);
	expect_farewell(a, "shutdown", false);
	ck_assert(!rig.drained);
	b = peer_attach();
	expect_farewell(b, "shutdown", false);
	peer_close(a);
	ck_assert(!rig.drained);
	peer_close(b);
	ck_assert(rig.drained);
	ck_assert(!rig.links[0].is_open);
}
END_TEST

START_TEST(drain_in_vain)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 2, "broadcast", "{'topic':'t','event':'e','payload':1}");
	rig.stuck = true;
	hub_drain(rig.hub, 1000);
	turn();
	advance(999);
	ck_assert(!a->finished);
	advance(1);
	expect_farewell(a, "shutdown", false);
	/* Neither the peer nor the link goes. */
	advance(1999);
	ck_assert(!rig.drained);
	advance(1);
	ck_assert(rig.drained);
	rig.stuck = false;
}
END_TEST

START_TEST(drain_with_sends)
{
	struct fake_peer *a = peer_ready();
	struct line *f;

	peer_join(a, "t", "{}");
	for (uint32_t id = 2; id < 4; id++)
		peer_ask(a, id, "broadcast", "{'topic':'t','event':'e','payload':1}");
	hub_drain(rig.hub, 1000);
	hub_drain(rig.hub, 1000);
	turn();
	expect(a, "[2,'connection',{'state':'draining',*");
	ck_assert(!a->finished);
	f = expect_frame("[3,*");
	server_reply(f, true, "{}");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	/* What was in the socket when the end began is carried out, too. */
	peer_ask(a, 4, "broadcast", "{'topic':'t','event':'e','payload':2}");
	server_reply(expect_frame("[3,*"), true, "{}");
	expect(a, "[1,3,null,{'outcome':'acked',*");
	server_reply(expect_frame("[3,*"), true, "{}");
	expect(a, "[1,4,null,{'outcome':'acked',*");
	advance(50);
	expect_farewell(a, "shutdown", false);
	peer_close(a);
	ck_assert(rig.drained);
}
END_TEST

START_TEST(unknown_methods)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "teleport", "{}");
	expect(a, "[1,1,[204,'unknown_method',*teleport*],null]");
	/* Nobody may take it for the failure of another method. */
	peer_call(a, "teleport", "{}");
	expect(a, "[2,'error',{'error':[204,'unknown_method',*teleport*]}]");
	peer_frame(a, "\x93\2\xa2\xff\xfe\x80", 6);
	expect(a, "[2,'error',{'error':[204,'unknown_method','the method*");
}
END_TEST

/* A deadline that a request has set is of use only if the owner asks for it. */
START_TEST(each_request_wakes)
{
	struct fake_peer *a = peer_ready();

	rig.no_turns = true;
	rig.awake = false;
	peer_ask(a, 1, "subscribe", "{'topic':'t','timeout_ms':300}");
	ck_assert(rig.awake);
}
END_TEST

/* Of a hub that is freed while it runs nothing goes down any more. */
START_TEST(freed_while_a_join_is_due)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	size_t n;

	peer_ask(a, 1, "subscribe", "{'topic':'t'}");
	peer_ask(b, 1, "subscribe", "{'topic':'t'}");
	server_reply(expect_frame("*phx_join*"), false, "{'reason':'IncreaseConnectionPool: x'}");
	n = rig.frames.n;
	rig.now += 15000;
	rig.hub = hub_free(rig.hub);
	ck_assert_uint_eq(rig.frames.n, n);
	for (unsigned i = 0; i < FAKE_PEERS; i++)
		rig.peers[i].attached = false;
	rig.no_turns = true;
	hub_new(&rig.conf, &rig.clock, &(const struct hub_ops){ 0 }, NULL, &rig.hub);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_peer");
	TCase *t = tcase_create("online"), *own = tcase_create("own");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, rig_setup_online, rig_teardown);
	tcase_add_test(t, hello);
	tcase_add_test(t, hello_in_time);
	tcase_add_test(t, long_names_are_cut_between_characters);
	tcase_add_test(t, protocol_errors);
	tcase_add_test(t, extra_elements_are_ignored);
	tcase_add_test(t, slow_consumer);
	tcase_add_test(t, slow_at_the_worst_moments);
	tcase_add_test(t, status);
	tcase_add_test(t, drain_at_once);
	tcase_add_test(t, drain_in_vain);
	tcase_add_test(t, drain_with_sends);
	tcase_add_test(t, unknown_methods);
	tcase_add_test(t, each_request_wakes);
	tcase_add_test(t, freed_while_a_join_is_due);
	suite_add_tcase(s, t);
	tcase_add_test(own, shares_of_users);
	tcase_add_test(own, max_clients);
	suite_add_tcase(s, own);
	return suite_run(s);
}
