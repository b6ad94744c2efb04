/* SPDX-License-Identifier: MIT */
/* Stories about what may be tracked: under which key, how large, and what is refused at once. */
#include "hub_presence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL(n) "{'type':'presence','event':'track','payload':{'n':" n "}}"
#define UNTRACK "{'type':'presence','event':'untrack'}"
#define ASK(n)  "{'topic':'t','state':{'n':" n "}}"

static struct fake_peer *a;

static void few_subscriptions(struct hub_conf *conf)
{
	conf->max_subscriptions = 2;
}

static void setup(void)
{
	rig_start(few_subscriptions);
	rig.probes = true;
	server_open();
	a = peer_ready();
}

/* ---- keys ---- */

START_TEST(key_of_the_subscription)
{
	peer_ask(a, 1, "subscribe", "{'topic':'t','presence':{'key':'alice'}}");
	expect_frame("*'phx_join',{*'presence':{'enabled':true,'key':'alice'}*");
	server_reply(&rig.frames.at[0], true, "{}");
	expect(a, "[1,1,null,{*'state':'ready',*");
	peer_ask(a, 2, "track", ASK("1"));
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[1,2,null,{'outcome':'acked','key':'alice'}]");
	peer_ask(a, 3, "track", "{'topic':'t','state':{'n':1},'key':'bob'}");
	expect(a, "[1,3,[200,'bad_request',*untrack*],null]");
	peer_ask(a, 4, "track", "{'topic':'t','state':{'n':1},'key':'alice'}");
	expect(a, "[1,4,null,{'outcome':'acked','key':'alice'}]");
	expect_no_frame();
}
END_TEST

/* Another key than the shared join has, and no further link may be opened. */
START_TEST(key_costs_a_rejoin)
{
	struct fake_peer *b = peer_ready();

	peer_join(b, "t", "{}");
	peer_ask(a, 1, "track", "{'topic':'t','state':{'n':1},'key':'alice'}");
	advance(REJOIN_GATHER_MS - 1);
	expect_no_frame();
	advance(1);
	expect(b, "[2,'channel',{*'rejoining','code':'presence',*");
	expect_frame("*'phx_join',{*'presence':{'enabled':true,'key':'alice'}*");
	server_reply(&rig.frames.at[rig.frames.n - 1], true, "{}");
	expect(b, "[2,'gap',{*'cause':'presence',*}]");
	expect(b, "[2,'channel',{*'ready'}]");
	server_reply(expect_call("t", CALL("1")), true, "{}");
	expect(a, "[1,1,null,{'outcome':'acked','key':'alice'}]");
	peer_ask(a, 2, "untrack", "{'topic':'t'}");
	expect(a, "[1,2,null,{}]");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	/* The key is there now. */
	peer_ask(a, 3, "track", "{'topic':'t','state':{'n':3},'key':'alice'}");
	expect(a, "[1,3,null,{*'throttled',*");
	advance(1000);
	server_reply(expect_call("t", CALL("3")), true, "{}");
	expect(a, "[2,'track',{*'key':'alice','outcome':'acked'}]");
	peer_ask(a, 4, "untrack", "{'topic':'t'}");
	expect(a, "[1,4,null,{}]");
	server_reply(expect_call("t", UNTRACK), true, "{}");
	/* A third one: not before its time. */
	peer_ask(a, 5, "track", "{'topic':'t','state':{'n':5},'key':'carol'}");
	advance(REJOIN_PAUSE_MIN_MS - 1000 - 1);
	expect_no_frame();
	expect_nothing(b);
	advance(1);
	expect_frame("*'phx_join',{*'presence':{'enabled':true,'key':'carol'}*");
	expect_no_frame();
}
END_TEST

/* The wish for the key is over before the rejoin: none is made. */
START_TEST(key_no_longer_wanted)
{
	struct fake_peer *b = peer_ready();

	peer_join(b, "t", "{}");
	peer_ask(a, 1, "track", "{'topic':'t','state':{'n':1},'key':'alice'}");
	advance(100);
	peer_close(a);
	advance(60000);
	expect_no_frame();
	expect_nothing(b);
}
END_TEST

START_TEST(bad_asks)
{
	static const struct {
		const char *params, *error;
	} cases[] = {
		{ "{'topic':'t'}", "bad_payload" },
		{ "{'topic':'t','state':[]}", "bad_payload" },
		{ "{'topic':'t','state':null}", "bad_payload" },
		{ "{'topic':'t','state':'x'}", "bad_payload" },
		{ "{'topic':'t','state':{},'key':''}", "bad_key" },
		{ "{'topic':'t','state':{},'key':1}", "bad_key" },
		{ "{'topic':'t','state':{},'key':'rtbridge:1'}", "bad_key" },
		{ "{'topic':'t','state':{},'timeout_ms':300001}", "bad_request" },
		{ "{'topic':'t','state':{},'timeout_ms':'1'}", "bad_request" },
		{ "{'topic':'','state':{}}", "bad_topic" },
		{ "{'topic':'rtbridge:x','state':{}}", "bad_topic" },
		{ "{'topic':'t','private':1,'state':{}}", "bad_request" },
		{ "{'state':{}}", "bad_request" },
		{ "{'chan':77,'state':{}}", "not_subscribed" },
	};
	char pattern[100];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		peer_ask(a, i + 1, "track", cases[i].params);
		snprintf(pattern, sizeof(pattern), "[1,%u,[*,'%s',*],null]", i + 1, cases[i].error);
		expect(a, pattern);
	}
	peer_call(a, "track", "{'topic':'t'}");
	expect(a, "[2,'error',{'method':'track','error':[*,'bad_payload',*]}]");
	expect_no_frame();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

/* A state of `size` bytes as JSON. */
static void ask_large(uint32_t ask_id, size_t size)
{
	char *params = malloc(size + 100);
	int n;

	ck_assert_ptr_nonnull(params);
	n = sprintf(params, "{'topic':'t','state':{'x':'");
	memset(params + n, 'y', size - 8);
	strcpy(params + n + size - 8, "'}}");
	peer_ask(a, ask_id, "track", params);
	free(params);
}

START_TEST(limits)
{
	ask_large(1, RTBP_STATE_MAX + 1);
	expect(a, "[1,1,[203,'bad_payload',*65537*65536*],null]");
	expect_no_frame();
	ask_large(2, RTBP_STATE_MAX);
	server_join("t");
	server_reply(expect_frame("[*,'presence',{'type':'presence','event':'track',*"), true,
		     "{}");
	expect(a, "[1,2,null,{'outcome':'acked',*");
	/* A refused one leaves what is there. */
	ask_large(3, RTBP_STATE_MAX + 1);
	expect(a, "[1,3,[203,*");
	peer_ask(a, 4, "untrack", "{'topic':'t'}");
	expect(a, "[1,4,null,{}]");
	/* As many as subscriptions: two here. */
	peer_ask(a, 5, "track", "{'topic':'u','state':{}}");
	peer_ask(a, 6, "track", "{'topic':'v','state':{}}");
	peer_ask(a, 7, "track", "{'topic':'w','state':{}}");
	expect(a, "[1,7,[207,'too_many',*],null]");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_track_asks");
	TCase *t = tcase_create("asks");

	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, key_of_the_subscription);
	tcase_add_test(t, key_costs_a_rejoin);
	tcase_add_test(t, key_no_longer_wanted);
	tcase_add_test(t, bad_asks);
	tcase_add_test(t, limits);
	suite_add_tcase(s, t);
	return suite_run(s);
}
