/* SPDX-License-Identifier: MIT */
/* Stories about names of sends, and the question what became of them. */
#include "hub_fixture.h"
#include "hub_sends.h"
#include "hub_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"

#define NAMED(name, via) \
	"{'topic':'t','event':'e','payload':{'n':1},'via':'" via "','id':'" name "'}"
#define UNKNOWN_ID "[212,'unknown_id','*',null],null"
#define SENT       "{'outcome':'sent','via':'http'}"
#define ACKED      "{'outcome':'acked','via':'ws'}"

static struct fake_peer *a, *b, *stranger; /* two connections of user 1000, one of 2000 */

static void begin(void)
{
	server_open();
	a = peer_ready();
	b = peer_ready();
	rig.uid = 2000;
	stranger = peer_ready();
	rig.uid = 1000;
}

static void setup(void)
{
	rig_setup();
	begin();
}

/* ---- who is told what ---- */

START_TEST(from_pending_to_the_end)
{
	struct line *f;

	peer_ask(a, 1, "broadcast", NAMED("x", "ws"));
	expect_outcome(a, 2, "x", "null,{'outcome':'pending','via':'ws'}");
	server_join("t");
	f = expect_frame("[3,*");
	expect_outcome(b, 2, "x", "null,{'outcome':'pending','via':'ws'}");
	server_reply(f, true, "{}");
	expect(a, "[1,1,null," ACKED "]");
	expect_outcome(a, 3, "x", "null," ACKED);
	expect_outcome(b, 3, "x", "null," ACKED);
	expect_outcome(stranger, 3, "x", UNKNOWN_ID);
	/* The other user's of the same name is another one. */
	peer_ask(stranger, 4, "broadcast", NAMED("x", "http"));
	expect_outcome(stranger, 5, "x", "null,{'outcome':'pending','via':'http'}");
	expect_outcome(b, 5, "x", "null," ACKED);
	server_answer(expect_post("*"), 413, "{'message':'no'}");
	expect(stranger, "[1,4,null,{'outcome':'too_big',*");
	expect_outcome(stranger, 6, "x",
		       "null,{'outcome':'too_big','via':'http','text':'HTTP status 413: no'}");
	expect_outcome(b, 6, "x", "null," ACKED);
	expect_outcome(a, 7, "y", UNKNOWN_ID);
	peer_call(a, "outcome", "{'id':'x'}");
	expect_nothing(a);
}
END_TEST

/* For whom it was made: the connection went with the answer. */
START_TEST(the_sender_has_gone)
{
	struct line *f;

	peer_ask(a, 1, "broadcast", NAMED("x", "ws"));
	peer_ask(a, 2, "broadcast", NAMED("y", "http"));
	server_join("t");
	f = expect_frame("[3,*");
	peer_close(a);
	peer_close(b);
	server_reply(f, true, "{}");
	a = peer_ready();
	expect_outcome(a, 1, "x", "null," ACKED);
	expect_outcome(a, 2, "y", "null,{'outcome':'pending','via':'http'}");
	peer_close(a);
	server_answer(expect_post("*"), 202, "");
	/* Nobody of this user is there for a while. */
	advance(59999);
	a = peer_ready();
	expect_outcome(a, 1, "y", "null," SENT);
	expect_outcome(a, 2, "x", "null," ACKED);
	advance(1);
	expect_outcome(a, 3, "y", UNKNOWN_ID);
	expect_outcome(a, 4, "x", UNKNOWN_ID);
	ck_assert_uint_eq(rig.hub->n_outcomes, 0);
}
END_TEST

/* A notification has no answer, but it may have a name. */
START_TEST(of_a_notification)
{
	peer_call(a, "broadcast", NAMED("x", "http"));
	server_answer(expect_post("*"), 202, "");
	expect_nothing(a);
	expect_outcome(a, 1, "x", "null," SENT);
}
END_TEST

/* The minute begins with the end, however long the send took. */
START_TEST(for_a_minute)
{
	struct line *post;

	peer_ask(a, 1, "broadcast",
		 "{'topic':'t','event':'e','payload':{},'via':'http','id':'x','ttl_ms':60000}");
	post = expect_post("*");
	for (unsigned i = 0; i < 50; i++) {
		post_unreachable(post);
		while (!(post = any_post()))
			advance(50);
		if (rig.now > 1055000)
			break;
	}
	server_answer(post, 202, "");
	expect(a, "[1,1,null," SENT "]");
	advance(30000);
	peer_ask(a, 2, "broadcast", NAMED("y", "http"));
	server_answer(expect_post("*"), 202, "");
	expect(a, "[1,2,null," SENT "]");
	advance(29999);
	expect_outcome(a, 3, "x", "null," SENT);
	/* Asked for does not mean kept longer. */
	advance(1);
	expect_outcome(a, 4, "x", UNKNOWN_ID);
	expect_outcome(a, 5, "y", "null," SENT);
	advance(30000);
	expect_outcome(a, 6, "y", UNKNOWN_ID);
}
END_TEST

/* ---- names ---- */

START_TEST(a_name_in_use)
{
	struct line *post;

	peer_ask(a, 1, "broadcast", NAMED("x", "http"));
	post = expect_post("*");
	peer_ask(b, 2, "broadcast", NAMED("x", "http"));
	expect(b, "[1,2,[200,'bad_request','this id *',null],null]");
	/* It says nothing of what it was refused for, and changes nothing of the other one. */
	expect_outcome(b, 3, "x", "null,{'outcome':'pending','via':'http'}");
	server_answer(post, 202, "");
	expect(a, "[1,1,null," SENT "]");
	peer_ask(a, 4, "broadcast", NAMED("x", "ws"));
	expect(a, "[1,4,[200,'bad_request','this id *',null],null]");
	peer_ask(a, 5, "broadcast", "{'topic':'t','event':'e','payload':1,'via':'http','id':'x'}");
	expect(a, "[1,5,[200,'bad_request','this id *',null],null]");
	peer_call(a, "broadcast", NAMED("x", "ws"));
	expect(a,
	       "[2,'error',{'method':'broadcast','error':[200,'bad_request','this id *',null]}]");
	expect_outcome(a, 6, "x", "null," SENT);
	expect_no_frame();
	expect_no_post();
	advance(60000);
	peer_ask(a, 7, "broadcast", NAMED("x", "http"));
	server_answer(expect_post("*"), 202, "");
	expect(a, "[1,7,null," SENT "]");
	ck_assert_uint_eq(rig.hub->n_chans, 0);
}
END_TEST

START_TEST(form_of_a_name)
{
	static const struct {
		const char *id;
		bool good;
	} rows[] = {
		{ "''", false },
		{ "1", false },
		{ "true", false },
		{ "['x']", false },
		{ "{}", false },
		{ "'a b'", false },
		{ "' '", false },
		{ "'\\u0000'", false },
		{ "'a\\u0000'", false },
		{ "'\\u007f'", false },
		{ "'\\n'", false },
		{ "'\\u00e9'", false },
		{ "'0123456789012345678901234567890123456789012345678901234567890123'", true },
		{ "'01234567890123456789012345678901234567890123456789012345678901234'", false },
		{ "'!'", true },
		{ "'~'", true },
		{ "'\\u0022\\\\'", true },
		{ "null", true },
	};
	char params[300];
	unsigned n_good = 0;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(params, sizeof(params),
			 "{'topic':'t','event':'e','payload':{},'via':'http','id':%s}", rows[i].id);
		peer_ask(a, i, "broadcast", params);
		if (rows[i].good) {
			server_answer(expect_post("*"), 202, "");
			expect(a, "[1,*,null," SENT "]");
			n_good += i + 1 < sizeof(rows) / sizeof(*rows);
		} else {
			expect(a, "[1,*,[200,'bad_request','id *',null],null]");
		}
	}
	expect_no_post();
	ck_assert_uint_eq(rig.hub->n_outcomes, n_good);
	/* One of them is the beginning of another one. */
	expect_outcome(a, 100, "012345678901234567890123456789012345678901234567890123456789012",
		       UNKNOWN_ID);
	peer_ask(a, 101, "outcome", "{'id':'\\u0022\\\\'}");
	expect(a, "[1,101,null," SENT "]");
	peer_ask(a, 102, "outcome", "{}");
	expect(a, "[1,102,[200,'bad_request','id *',null],null]");
	peer_ask(a, 103, "outcome", "{'id':1}");
	expect(a, "[1,103,[200,'bad_request','id *',null],null]");
	peer_ask(a, 104, "outcome", "{'id':''}");
	expect(a, "[1,104,[212,*");
}
END_TEST

/* ---- ended at once ---- */

static void with_a_plan(struct hub_conf *conf)
{
	conf->payload_bytes = 100;
}

START_TEST(refused_at_once)
{
	char params[800], bytes[102];

	rig_teardown();
	rig_start(with_a_plan);
	begin();
	/* The plan's limit counts a bin's bytes, and JSON that is sent as it stands. */
	memset(bytes, 'x', 101);
	bytes[101] = '\0';
	peer_ask_bin(a, 1, "{'topic':'t','event':'e','via':'ws','id':'w'}", bytes);
	expect(a, "[1,1,null,{'outcome':'too_big','via':'ws','text':'101 bytes, *'}]");
	peer_ask_bin(a, 2, "{'topic':'t','event':'e','via':'http','id':'h'}", bytes);
	expect(a, "[1,2,null,{'outcome':'too_big','via':'http','text':'101 bytes, *'}]");
	expect_outcome(b, 2, "w", "null,{'outcome':'too_big','via':'ws','text':'101 *'}");
	expect_outcome(b, 3, "h", "null,{'outcome':'too_big','via':'http','text':'101 *'}");
	peer_ask_bin(a, 3, "{'topic':'t','event':'e','via':'http'}", bytes + 1);
	server_answer(expect_post("*"), 202, "");
	expect(a, "[1,3,null," SENT "]");
	for (unsigned n = 92; n < 94; n++) {
		snprintf(params, sizeof(params),
			 "{'topic':'t','event':'e','payload':{'n':'%0*d'},'via':'ws','id':'j%u',"
			 "'ttl_ms':1}",
			 (int)n, 7, n);
		peer_ask(a, n, "broadcast", params);
	}
	expect(a, "[1,93,null,{'outcome':'too_big','via':'ws','text':'101 bytes as JSON, *'}]");
	expect_outcome(b, 4, "j92", "null,{'outcome':'pending','via':'ws'}");
	/* The server takes JSON apart that comes by HTTP: it is asked. */
	snprintf(params, sizeof(params),
		 "{'topic':'t','event':'e','payload':{'n':'%0300d'},'via':'http'}", 7);
	peer_ask(a, 4, "broadcast", params);
	server_answer(expect_post("*"), 202, "");
	expect(a, "[1,4,null," SENT "]");
	advance(1);
	expect(a, "[1,92,null,{'outcome':'expired',*");
	expect_no_post();
}
END_TEST

static void with_few_bytes(struct hub_conf *conf)
{
	conf->send_bytes = 1000;
}

START_TEST(busy)
{
	char params[800];

	rig_teardown();
	rig_start(with_few_bytes);
	begin();
	snprintf(params, sizeof(params),
		 "{'topic':'t','event':'e','payload':'%0600d','via':'ws','id':'much'}", 7);
	peer_ask(a, 5, "broadcast", params);
	expect_outcome(a, 6, "much", "null,{'outcome':'pending','via':'ws'}");
	memcpy(strstr(params, "much"), "more", 4);
	peer_ask(a, 7, "broadcast", params);
	expect(a, "[1,7,null,{'outcome':'busy','via':'ws','text':'*'}]");
	peer_ask(stranger, 7, "broadcast", params);
	expect(stranger, "[1,7,null,{'outcome':'busy','via':'ws','text':'*'}]");
	expect_outcome(b, 8, "more", "null,{'outcome':'busy','via':'ws','text':'*'}");
	/* The name is taken by that. */
	peer_ask(a, 9, "broadcast", NAMED("more", "http"));
	expect(a, "[1,9,[200,'bad_request','this id *',null],null]");
}
END_TEST

START_TEST(not_joined)
{
	peer_ask(a, 1, "broadcast", NAMED("x", "ws"));
	server_reply(expect_frame("*'phx_join'*"), false, "{'reason':'Unauthorized: not you'}");
	expect(a, "[1,1,null,{'outcome':'not_joined',*");
	peer_ask(a, 2, "broadcast", NAMED("y", "ws"));
	expect(a, "[1,2,null,{'outcome':'not_joined','via':'ws','text':'Unauthorized: not you'}]");
	expect_outcome(b, 3, "x",
		       "null,{'outcome':'not_joined','via':'ws','text':'Unauthorized: not you'}");
	expect_outcome(b, 4, "y",
		       "null,{'outcome':'not_joined','via':'ws','text':'Unauthorized: not you'}");
}
END_TEST

/* Nothing is kept of an error: the name is free. */
START_TEST(errors)
{
	static const char *const rows[] = {
		"'topic':'t','event':'','payload':{}",
		"'topic':'rtbridge:','event':'e','payload':{}",
		"'topic':'','event':'e','payload':{}",
		"'chan':7,'event':'e','payload':{}",
		"'topic':'t','event':'e'",
		"'topic':'t','event':'e','payload':{},'ttl_ms':-1",
		"'topic':'t','event':'e','payload':{},'private':1",
		"'topic':'t','event':'e','payload':{},'extra':1",
		"'topic':'t','event':'e','payload':{},'extra':{'event':1}",
		"'topic':'forbidden','event':'e','payload':{}",
	};
	static const char *const vias[] = { "auto", "ws", "http" };
	struct acl *rules = rules_of("allow user 2000 write topic t\n");
	char params[200];

	hub_set_acl(rig.hub, rules);
	turn();
	for (unsigned i = 0; i < 3 * sizeof(rows) / sizeof(*rows); i++) {
		snprintf(params, sizeof(params), "{%s,'id':'x','via':'%s'}", rows[i / 3],
			 vias[i % 3]);
		peer_ask(stranger, 1, "broadcast", params);
		expect(stranger, "[1,1,[*],null]");
		expect_outcome(stranger, 2, "x", UNKNOWN_ID);
	}
	ck_assert_uint_eq(rig.hub->n_outcomes, 0);
	ck_assert_uint_eq(rig.hub->n_chans, 0);
	peer_ask(stranger, 3, "broadcast", NAMED("x", "http"));
	server_answer(expect_post("*"), 202, "");
	expect(stranger, "[1,3,null," SENT "]");
	hub_set_acl(rig.hub, NULL);
	acl_free(rules);
}
END_TEST

/* ---- how many ---- */

static void say(struct fake_peer *p, const char *prefix, unsigned n)
{
	char params[200];

	snprintf(params, sizeof(params),
		 "{'topic':'t','event':'e','payload':{},'via':'http','id':'%s%u'}", prefix, n);
	peer_ask(p, 1, "broadcast", params);
	server_answer(any_post(), 202, "");
	expect(p, "[1,1,null," SENT "]");
}

/* A user has half of the places: then its own oldest ones go, not those of others. */
START_TEST(half_of_them)
{
	rig.hub->conf.owner = 0;
	say(a, "a", 0);
	for (unsigned i = 0; i < OUTCOMES_MAX / 2; i++)
		say(stranger, "s", i);
	expect_outcome(stranger, 2, "s0", "null," SENT);
	say(stranger, "more", 0);
	expect_outcome(stranger, 2, "s0", UNKNOWN_ID);
	expect_outcome(stranger, 2, "s1", "null," SENT);
	expect_outcome(stranger, 2, "more0", "null," SENT);
	expect_outcome(b, 2, "a0", "null," SENT);
	ck_assert_uint_eq(rig.hub->n_outcomes, OUTCOMES_MAX / 2 + 1);
}
END_TEST

/* All places are taken by several: who comes with none has one. */
START_TEST(all_of_them)
{
	struct fake_peer *c;

	rig.hub->conf.owner = 0;
	rig.uid = 3000;
	c = peer_ready();
	for (unsigned i = 0; i < OUTCOMES_MAX / 2; i++)
		say(stranger, "s", i);
	for (unsigned i = 0; i < OUTCOMES_MAX / 2; i++)
		say(c, "c", i);
	ck_assert_uint_eq(rig.hub->n_outcomes, OUTCOMES_MAX);
	say(a, "a", 0);
	ck_assert_uint_eq(rig.hub->n_outcomes, OUTCOMES_MAX);
	expect_outcome(a, 2, "a0", "null," SENT);
	expect_outcome(stranger, 2, "s0", UNKNOWN_ID); /* the oldest of all */
	expect_outcome(c, 2, "c0", "null," SENT);
	/* Who makes room with its own does so first. */
	say(stranger, "t", 0);
	expect_outcome(stranger, 2, "s1", UNKNOWN_ID);
	expect_outcome(c, 2, "c0", "null," SENT);
}
END_TEST

/* The daemon's own user may have all; what others have lately ended goes then, but not a place
 * that is needed by a send that is still on its way. */
START_TEST(owner_has_all)
{
	peer_ask(stranger, 1, "broadcast", NAMED("pending", "http"));
	expect_post("*");
	for (unsigned i = 0; i < OUTCOMES_MAX + 10; i++) {
		char params[200];

		snprintf(params, sizeof(params),
			 "{'topic':'u','event':'e','payload':{},'via':'http','id':'o%u'}", i);
		peer_ask(a, 1, "broadcast", params);
		server_answer(any_post(), 202, "");
		expect(a, "[1,1,null," SENT "]");
	}
	ck_assert_uint_eq(rig.hub->n_outcomes, OUTCOMES_MAX);
	expect_outcome(stranger, 2, "pending", "null,{'outcome':'pending','via':'http'}");
	server_answer(&rig.posts.at[0], 202, "");
	expect(stranger, "[1,1,null," SENT "]");
	expect_outcome(stranger, 3, "pending", "null," SENT);
	expect_outcome(a, 4, "o10", UNKNOWN_ID);
	expect_outcome(a, 5, "o11", "null," SENT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_outcomes");
	TCase *t = tcase_create("outcomes");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, from_pending_to_the_end);
	tcase_add_test(t, the_sender_has_gone);
	tcase_add_test(t, of_a_notification);
	tcase_add_test(t, for_a_minute);
	tcase_add_test(t, a_name_in_use);
	tcase_add_test(t, form_of_a_name);
	tcase_add_test(t, refused_at_once);
	tcase_add_test(t, busy);
	tcase_add_test(t, not_joined);
	tcase_add_test(t, errors);
	tcase_add_test(t, half_of_them);
	tcase_add_test(t, all_of_them);
	tcase_add_test(t, owner_has_all);
	suite_add_tcase(s, t);
	return suite_run(s);
}
