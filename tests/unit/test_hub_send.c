/* SPDX-License-Identifier: MIT */
/* Stories about broadcasts of peers: outcomes, the copies for others, order, what a loss does. */
#include "hub_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEND(n)   "{'topic':'t','event':'e','payload':" #n "}"
#define ACKED(id) "[1," #id ",null,{'outcome':'acked','via':'ws'}]"

START_TEST(loopback)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready(), *c = peer_ready(), *d = peer_ready();
	struct line *f;

	peer_join(a, "t", "{'self':true}");
	peer_join(b, "t", "{}");
	peer_join(c, "t", "{'events':['other']}");
	peer_ask(a, 2, "broadcast", SEND({ 'n' : 1 }));
	f = expect_frame("[3,'1','2','realtime:t','e',{'n':1}]");
	expect_nothing(b);
	server_reply(f, true, "{}");
	/* One copy each, in front of the outcome. */
	expect(a, "[2,'broadcast',{'chan':1,'topic':'t','event':'e','payload':{'n':1}}]");
	expect(a, ACKED(2));
	expect(b, "[2,'broadcast',{'chan':1,'topic':'t','event':'e','payload':{'n':1}}]");
	peer_ask(b, 2, "broadcast", "{'chan':1,'event':'e','payload':2,'via':'ws'}");
	server_reply(expect_frame("[3,'1','3','realtime:t','e',2]"), true, "{}");
	expect(a, "*'payload':2}]");
	expect(b, ACKED(2));
	/* A sender need not be subscribed. */
	peer_ask(d, 2, "broadcast", SEND(3));
	server_serve();
	expect(a, "*'payload':3}]");
	expect(b, "*'payload':3}]");
	expect(d, ACKED(2));
	for (unsigned i = 0; i < 4; i++)
		expect_nothing(&rig.peers[i]);
	expect_nothing(c);
	expect_no_frame();
}
END_TEST

START_TEST(bin_payload)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct rtbp_buf f = RTBP_BUF_INIT;

	peer_join(a, "t", "{}");
	rtbp_pack_array(&f, 3);
	rtbp_pack_uint(&f, RTBP_NOTIFICATION);
	rtbp_pack_text(&f, "broadcast");
	rtbp_pack_map(&f, 3);
	rtbp_pack_field_text(&f, RTBP_F_TOPIC, "t");
	rtbp_pack_field_text(&f, RTBP_F_EVENT, "e");
	rtbp_pack_field(&f, RTBP_F_PAYLOAD);
	rtbp_pack_bin(&f, "xyz", 3);
	peer_frame(b, f.data, f.size);
	rtbp_buf_done(&f);
	server_reply(expect_frame("[3,'1','2','realtime:t','e',bin:xyz]"), true, "{}");
	expect(a, "*'payload':{'bin':'78797a'}}]");
	/* A notification has no outcome. */
	expect_nothing(b);
}
END_TEST

START_TEST(a_later_ack_denies)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();
	struct line *f;

	peer_join(b, "t", "{}");
	peer_ask(a, 1, "broadcast", SEND(1));
	peer_ask(a, 2, "broadcast", SEND(2));
	peer_ask(a, 3, "broadcast", SEND(3));
	expect_frame("[3,*,1]");
	f = expect_frame("[3,*,2]");
	expect_frame("[3,*,3]");
	server_reply(f, true, "{}");
	expect(a, "[1,1,null,{'outcome':'denied','via':'ws','text':*}]");
	expect(a, ACKED(2));
	expect_nothing(a);
	expect(b, "*'payload':2}]");
	expect_nothing(b);
	/* The third has no proof against it. */
	advance(10000);
	expect(a, "[1,3,null,{'outcome':'unknown','via':'ws','text':*}]");
	expect_nothing(b);
}
END_TEST

START_TEST(lost_link)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(b, "t", "{}");
	peer_ask(a, 1, "broadcast", SEND(1));
	expect_frame("[3,*,1]");
	server_drop(SESSION_FAULT_LOST, "gone");
	expect(a, "[1,1,null,{'outcome':'unknown',*");
	expect(a, "[2,'connection',*");
	peer_ask(a, 2, "broadcast", SEND(2));
	peer_ask(a, 3, "broadcast", SEND(3));
	expect_nothing(a);
	advance(1500);
	server_open();
	/* In their order, behind the rejoin; the first one never again. */
	server_join("t");
	server_reply(expect_frame("[3,'1','2',*,2]"), true, "{}");
	server_reply(expect_frame("[3,'1','3',*,3]"), true, "{}");
	expect_no_frame();
	expect(a, "[2,'connection',*");
	expect(a, ACKED(2));
	expect(a, ACKED(3));
	expect_nothing(a);
	expect(b, "[2,'channel',*'rejoining'*");
	expect(b, "[2,'connection',*");
	expect(b, "[2,'connection',*");
	expect(b, "[2,'gap',*'connection'*");
	expect(b, "[2,'channel',*'ready'*");
	expect(b, "*'payload':2}]");
	expect(b, "*'payload':3}]");
	expect_nothing(b);
}
END_TEST

START_TEST(late_acks_of_a_dead_connection)
{
	struct fake_peer *a = peer_ready();
	uint64_t old = rig.links[0].epoch;
	const char *ack = "[\"1\",\"2\",\"realtime:t\",\"phx_reply\",{\"status\":\"ok\","
			  "\"response\":{}}]";

	peer_join(a, "t", "{}");
	peer_ask(a, 2, "broadcast", SEND(1));
	server_drop(SESSION_FAULT_LOST, "gone");
	expect(a, "[1,2,null,{'outcome':'unknown',*");
	advance(1500);
	server_open();
	server_serve();
	peer_ask(a, 3, "broadcast", SEND(2));
	hub_on_frame(rig.hub, 0, old, false, ack, strlen(ack));
	turn();
	ck_assert(a->asked[3]);
	server_serve();
	ck_assert(!a->asked[3]);
}
END_TEST

START_TEST(lost_channel)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_frame("[3,*,1]");
	rig.send_result = 1;
	peer_ask(a, 3, "broadcast", SEND(2));
	rig.send_result = 0;
	server_text("['1','1','realtime:t','phx_error',{}]");
	expect(a, "[1,2,null,{'outcome':'unknown','via':'ws','text':'channel_crash*");
	expect(a, "[2,'channel',{*'state':'rejoining',*,'retry_in_ms':*}]");
	/* A reply that comes all the same is nobody's. */
	server_text("['1','2','realtime:t','phx_reply',{'status':'ok','response':{}}]");
	expect_nothing(a);
	advance(3000);
	server_join("t");
	expect(a, "[2,'gap',*'crash'*");
	expect(a, "[2,'channel',*'ready'*");
	server_reply(expect_frame("[3,*,2]"), true, "{}");
	expect(a, ACKED(3));
}
END_TEST

START_TEST(expired)
{
	struct fake_peer *a = peer_ready();

	server_drop(SESSION_FAULT_LOST, "gone");
	expect(a, "[2,'connection',*");
	peer_ask(a, 1, "broadcast", "{'topic':'t','event':'e','payload':1,'ttl_ms':100}");
	peer_ask(a, 2, "broadcast", SEND(2));
	advance(99);
	expect_nothing(a);
	advance(1);
	expect(a, "[1,1,null,{'outcome':'expired',*");
	ck_assert(a->asked[2]);
	rig.no_turns = false;
	advance(9900);
	ck_assert(!a->asked[2]);
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

START_TEST(full_mailbox)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(b, "t", "{}");
	rig.send_result = 1;
	peer_ask(a, 1, "broadcast", SEND(1));
	peer_ask(a, 2, "broadcast", SEND(2));
	advance(500);
	expect_no_frame();
	rig.send_result = -ENOMEM;
	advance(500);
	rig.send_result = 0;
	advance(10);
	server_reply(expect_frame("[3,*,1]"), true, "{}");
	server_reply(expect_frame("[3,*,2]"), true, "{}");
	expect_no_frame();
	expect(a, ACKED(1));
	expect(a, ACKED(2));
	expect(b, "*'payload':1}]");
	expect(b, "*'payload':2}]");
}
END_TEST

START_TEST(backpressure)
{
	struct fake_peer *a = peer_ready();
	unsigned id = 2;

	peer_join(a, "t", "{}");
	for (; !a->paused; id++)
		peer_ask(a, id, "broadcast", SEND(1));
	ck_assert_uint_eq(id - 2, PEER_SENDS_MAX);
	for (unsigned i = 0; i < PEER_SENDS_MAX / 2; i++) {
		ck_assert(a->paused);
		server_reply(expect_frame("[3,*"), true, "{}");
	}
	ck_assert(!a->paused);
}
END_TEST

static void with_little(struct hub_conf *conf)
{
	conf->send_bytes = 1000;
}

START_TEST(busy)
{
	char params[800];
	struct fake_peer *a, *b;

	rig_start(with_little);
	a = peer_ready();
	b = peer_ready();
	snprintf(params, sizeof(params), "{'topic':'t','event':'e','payload':'%0600d'}", 7);
	peer_ask(a, 1, "broadcast", params);
	peer_ask(b, 1, "broadcast", params);
	expect(b, "[1,1,null,{'outcome':'busy','via':'ws','text':*}]");
	snprintf(params, sizeof(params), "{'topic':'u','event':'e','payload':'%0600d'}", 7);
	peer_ask(b, 2, "broadcast", params);
	expect(b, "[1,2,null,{'outcome':'busy',*");
	ck_assert_uint_eq(rig.hub->n_chans, 1);
	server_open();
	server_serve();
	ck_assert(!a->asked[1]);
	rig_teardown();
}
END_TEST

START_TEST(bad_requests)
{
	static const struct {
		const char *params, *answer;
	} rows[] = {
		{ "{'topic':'t','payload':1}", "[200,'bad_request','event*" },
		{ "{'topic':'t','event':'','payload':1}", "[202,*" },
		{ "{'topic':'t','event':'e'}", "[200,'bad_request','payload*" },
		{ "{'event':'e','payload':1}", "[200,'bad_request','name*" },
		{ "{'topic':'rtbridge:','event':'e','payload':1}", "[201,*" },
		{ "{'topic':'t','event':'e','payload':1,'via':'mail'}", "[200,*" },
		{ "{'topic':'t','event':'e','payload':1,'via':1}", "[200,*" },
		{ "{'topic':'t','event':'e','payload':1,'ttl_ms':60001}", "[200,*" },
		{ "{'chan':1,'event':'e','payload':1}", "[206,*" },
	};
	struct fake_peer *a = peer_ready();
	struct rtbp_buf f = RTBP_BUF_INIT;
	char pattern[200];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		peer_ask(a, i, "broadcast", rows[i].params);
		snprintf(pattern, sizeof(pattern), "[1,%u,%s,null]", i, rows[i].answer);
		expect(a, pattern);
	}
	rtbp_pack_array(&f, 3);
	rtbp_pack_uint(&f, RTBP_NOTIFICATION);
	rtbp_pack_text(&f, "broadcast");
	rtbp_pack_map(&f, 3);
	rtbp_pack_field_text(&f, RTBP_F_TOPIC, "t");
	rtbp_pack_field_text(&f, RTBP_F_EVENT, "e");
	rtbp_pack_field(&f, RTBP_F_PAYLOAD);
	rtbp_pack_map(&f, 1);
	rtbp_pack_text(&f, "a");
	rtbp_pack_bin(&f, "x", 1);
	peer_frame(a, f.data, f.size);
	rtbp_buf_done(&f);
	expect(a, "[2,'error',{'method':'broadcast','error':[203,'bad_payload','$.a: *',null]}]");
	ck_assert_uint_eq(rig.hub->n_chans, 0);
	expect_no_frame();
}
END_TEST

START_TEST(to_a_refused_channel)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "broadcast", SEND(1));
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: not you'}");
	expect(a, "[1,1,null,{'outcome':'not_joined','via':'ws','text':'Unauthorized: not you'}]");
	peer_ask(a, 2, "broadcast", SEND(1));
	expect(a, "[1,2,null,{'outcome':'not_joined','via':'ws','text':'Unauthorized: not you'}]");
	expect_no_frame();
	advance(10000);
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

START_TEST(sender_only_lingers_longer)
{
	struct fake_peer *a = peer_ready();

	peer_ask(a, 1, "broadcast", SEND(1));
	server_serve();
	server_serve();
	expect(a, ACKED(1));
	advance(29999);
	peer_ask(a, 2, "broadcast", SEND(2));
	server_serve();
	advance(29999);
	expect_no_frame();
	advance(1);
	expect_frame("['1','*','realtime:t','phx_leave',{}]");
}
END_TEST

START_TEST(the_sender_dies)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(b, "t", "{}");
	peer_ask(a, 1, "broadcast", SEND(1));
	rig.send_result = 1;
	peer_ask(a, 2, "broadcast", SEND(2));
	peer_close(a);
	rig.send_result = 0;
	advance(10);
	server_reply(expect_frame("[3,*,1]"), true, "{}");
	server_reply(expect_frame("[3,*,2]"), true, "{}");
	expect(b, "*'payload':1}]");
	expect(b, "*'payload':2}]");
	expect_nothing(b);
}
END_TEST

START_TEST(dies_in_the_same_turn)
{
	struct fake_peer *a = peer_ready(), *b = peer_ready();

	peer_join(a, "t", "{'self':true}");
	peer_join(b, "t", "{}");
	rig.no_turns = true;
	peer_ask(a, 2, "broadcast", SEND(1));
	peer_ask(a, 3, "sync", "{'upstream':true}");
	peer_ask(a, 4, "subscribe", "{'topic':'u'}");
	peer_close(a);
	server_serve();
	rig.no_turns = false;
	turn();
	expect(b, "*'payload':1}]");
	expect_nothing(b);
}
END_TEST

START_TEST(refusals)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "t", "{}");
	peer_ask(a, 2, "broadcast", SEND(1));
	server_reply(expect_frame("[3,*"), false, "{'reason':'payload_size_exceeded'}");
	expect(a, "[1,2,null,{'outcome':'too_big','via':'ws','text':'*payload_size_exceeded'}]");
	peer_ask(a, 3, "broadcast", SEND(1));
	server_reply(expect_frame("[3,*"), false, "{'reason':'unmatched topic'}");
	expect(a, "[1,3,null,{'outcome':'not_joined',*");
	peer_ask(a, 4, "broadcast", SEND(1));
	server_reply(expect_frame("[3,*"), false, "{}");
	expect(a, "[1,4,null,{'outcome':'denied',*");
	peer_ask(a, 5, "broadcast", SEND(1));
	/* Cut at a character's border, else the text would be none. */
	server_reply(expect_frame("[3,*"), false,
		     "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\u00e9\u00e9'");
	expect(a, "[1,5,null,{'outcome':'denied',*");
}
END_TEST

/* A peer whose sends wait for a channel must be heard: it may want to know, or to leave. */
START_TEST(waiting_sends_do_not_pause)
{
	struct fake_peer *a = peer_ready();

	peer_join(a, "other", "{}");
	rig.send_result = 1;
	for (unsigned id = 2; id < 2 + PEER_SENDS_MAX; id++)
		peer_ask(a, id, "broadcast", SEND(1));
	ck_assert(!a->paused);
	expect_nothing(a);
	peer_ask(a, 1000, "broadcast", SEND(1));
	expect(a, "[1,1000,null,{'outcome':'busy',*");
	ck_assert(!a->paused);
	rig.send_result = 0;
	advance(10);
	server_join("t");
	/* Now they are given, and the usual rule holds. */
	ck_assert(a->paused);
	server_serve();
	ck_assert(!a->paused);
	ck_assert_uint_eq(a->n_asked, 0);
}
END_TEST

/* The server closes the whole connection for a message over its limit: it must not get one. */
START_TEST(too_big_for_the_server)
{
	struct fake_peer *a = peer_ready();
	struct rtbp_buf params = RTBP_BUF_INIT;

	peer_join(a, "t", "{}");
	rtbp_buf_text(&params, "{'topic':'t','event':'e','payload':'");
	for (unsigned i = 0; i < 850000; i++)
		rtbp_buf_text(&params, "\\u0001");
	rtbp_buf_put(&params, "'}", 3);
	peer_ask(a, 2, "broadcast", (const char *)params.data);
	rtbp_buf_done(&params);
	expect_no_frame();
	expect(a, "[1,2,null,{'outcome':'too_big','via':'ws','text':'5100*");
	/* What stands behind it is not held up. */
	peer_ask(a, 3, "broadcast", SEND(3));
	server_serve();
	expect(a, ACKED(3));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_send");
	TCase *t = tcase_create("online"), *own = tcase_create("own");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, rig_setup_online, rig_teardown);
	tcase_add_test(t, loopback);
	tcase_add_test(t, bin_payload);
	tcase_add_test(t, a_later_ack_denies);
	tcase_add_test(t, lost_link);
	tcase_add_test(t, late_acks_of_a_dead_connection);
	tcase_add_test(t, lost_channel);
	tcase_add_test(t, expired);
	tcase_add_test(t, full_mailbox);
	tcase_add_test(t, backpressure);
	tcase_add_test(t, bad_requests);
	tcase_add_test(t, to_a_refused_channel);
	tcase_add_test(t, sender_only_lingers_longer);
	tcase_add_test(t, the_sender_dies);
	tcase_add_test(t, dies_in_the_same_turn);
	tcase_add_test(t, refusals);
	tcase_add_test(t, waiting_sends_do_not_pause);
	tcase_add_test(t, too_big_for_the_server);
	suite_add_tcase(s, t);
	tcase_add_test(own, busy);
	suite_add_tcase(s, own);
	return suite_run(s);
}
