/* SPDX-License-Identifier: MIT */
/* Stories about the ends of tokens: by the clock, by the server's word; and of what hangs on them.
 */
#include "hub_fixture.h"
#include "hub_tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_peer *a, *b;
static const char *first, *second;
static struct line joined; /* of t */

/* a and b have t, by tokens of one identity; the join has the one of b, which lives longer. */
static void begin(void)
{
	rig_start(with_links);
	server_open();
	a = peer_ready();
	b = peer_ready();
	first = token_of_user("alice", 1);
	give(a, 1, first, UNPROVEN("1"));
	peer_ask(a, 2, "subscribe", "{'topic':'t'}");
	joined = *expect_join("t", first);
	server_reply(&joined, true, "{}");
	expect(a, "[1,2,null,{'chan':1,*'ready'}]");
	advance(600000);
	second = token_of_user("alice", 2);
	give(b, 1, second, NULL);
	open_link(1);
	server_tries(1, second, true, "{}");
	expect_push("t", 0, second);
	trial_left();
	expect(b, ACCEPTED("1"));
	peer_shares(b, 2, "t");
}

static void expect_over(struct fake_peer *p, const char *code)
{
	char pattern[300];

	snprintf(pattern, sizeof(pattern),
		 "[2,'error',{'method':'auth','code':'%s','error':[211,'bad_token',*]}]", code);
	expect(p, pattern);
	snprintf(pattern, sizeof(pattern),
		 "[2,'channel',{'chan':1,'topic':'t','private':false,'state':'rejected','code':'%s'"
		 ",'text':*}]",
		 code);
	expect(p, pattern);
	expect_nothing(p);
}

/* What the server says before it closes the channel. */
static void server_says(const struct line *join, const char *words)
{
	rig.at = join->link;
	server_text("['%" PRIu64 "',null,'%s','system',{'status':'error','message':'%s',"
		    "'extension':'system','channel':'x'}]",
		    join->ref, join->topic, words);
	server_text("['%" PRIu64 "','%" PRIu64 "','%s','phx_close',{}]", join->ref, join->ref,
		    join->topic);
	rig.at = 0;
}

/* ---- by the clock ---- */

/* Whose own has expired hears nothing more, though the channel goes on with another's. */
START_TEST(each_by_its_own)
{
	advance(3000000 - 1000);
	expect_nothing(a);
	advance(2000);
	expect_over(a, "token_expired");
	expect_nothing(b);
	expect_no_frame();
	server_broadcast("t", "e", "1");
	expect_nothing(a);
	expect(b, "[2,'broadcast',{'chan':1,*");
	advance(600000);
	expect_over(b, "token_expired");
	advance(2000);
	expect_frame("[*'realtime:t','phx_leave',*");
}
END_TEST

START_TEST(clock_set_forward)
{
	rig.wall_step_ms = 3100000;
	advance(EXPIRY_LOOK_MS);
	expect_over(a, "token_expired");
	expect_nothing(b);
	rig.wall_step_ms = 10000000;
	advance(EXPIRY_LOOK_MS);
	expect_over(b, "token_expired");
	/* Set right again: what has ended stays so, a new one is taken. */
	rig.wall_step_ms = 0;
	advance(EXPIRY_LOOK_MS);
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	expect(a, "[1,3,[211,*");
	give(a, 4, first, "[1,4,null,{'state':*");
}
END_TEST

START_TEST(clock_set_back)
{
	rig.wall_step_ms = -7200000;
	advance(3600000);
	expect_nothing(a);
	expect_nothing(b);
	rig.wall_step_ms = 0;
	advance(EXPIRY_LOOK_MS);
	expect_over(a, "token_expired");
	expect_over(b, "token_expired");
}
END_TEST

/* A little wrong is noticed in time all the same. */
START_TEST(clock_set_a_little_forward)
{
	rig.wall_step_ms = 30000;
	advance(2970000 - 1000);
	expect_nothing(a);
	advance(2000 + EXPIRY_LOOK_MS);
	expect_over(a, "token_expired");
	expect_nothing(b);
}
END_TEST

/* The clock is wrong for all, and the connection is new: nothing goes out without a token. */
START_TEST(no_token_left_at_a_rejoin)
{
	rig.wall_step_ms = 10000000;
	server_drop(SESSION_FAULT_LOST, "gone");
	advance(2000);
	server_open();
	expect_no_frame(); /* neither the daemon's nor one that has expired */
	advance(EXPIRY_LOOK_MS);
	ck_assert_uint_eq(peer_skip(a, "\"rejected\""), 1);
	ck_assert_uint_eq(peer_skip(b, "\"rejected\""), 1);
	expect_no_frame();
}
END_TEST

/* ---- by the server ---- */

/* It closes over the token that the join has: on with the other one, and its bearer's ends. */
START_TEST(closed_with_another_token)
{
	server_says(&joined, "Token has expired 12 seconds ago");
	joined = *expect_join("t", first);
	expect(a, "[2,'channel',{'chan':1,*'rejoining','code':'token_expired',*");
	expect(b, "[2,'channel',{'chan':1,*'rejoining','code':'token_expired',*");
	expect_over(b, "token_expired");
	server_reply(&joined, true, "{}");
	expect(a, "[2,'gap',{'chan':1,*'cause':'token_expired',*}]");
	expect(a, "[2,'channel',{'chan':1,*'ready'}]");
	expect_nothing(a);
	/* Not asked about again. */
	give(b, 3, second, "[1,3,[211,'bad_token','Token has expired*");
	expect_no_frame();
}
END_TEST

START_TEST(closed_with_no_other)
{
	peer_close(b);
	advance(EXPIRY_LOOK_MS);
	server_drop(SESSION_FAULT_LOST, "gone");
	advance(2000);
	server_open();
	joined = *expect_join("t", first);
	server_reply(&joined, true, "{}");
	peer_skip(a, "");
	server_says(&joined, "Token has expired 12 seconds ago");
	expect(a, "[2,'channel',{'chan':1,*'state':'rejected','code':'token_expired',*");
	expect(a, "[2,'error',{'method':'auth',*");
	peer_ask(a, 3, "subscribe", "{'topic':'t'}");
	expect(a, "[1,3,[211,*");
	peer_ask(a, 4, "unsubscribe", "{'topic':'t'}");
	expect(a, "[1,4,[206,*");
	advance(600000);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

/* One of several is refused at a rejoin: those who gave others go on. */
START_TEST(refused_while_others_live)
{
	struct fake_peer *c = peer_ready();
	struct line f;

	give(c, 1, second, ACCEPTED("1"));
	peer_shares(c, 2, "t");
	server_drop(SESSION_FAULT_LOST, "gone");
	advance(2000);
	server_open();
	f = *expect_join("t", second);
	peer_skip(a, "");
	peer_skip(b, "");
	peer_skip(c, "");
	server_reply(&f, false, REFUSED_TOKEN);
	f = *expect_join("t", first);
	server_reply(&f, true, "{}");
	ck_assert_uint_eq(messages_with(b, "\"rejected\""), 1);
	ck_assert_uint_eq(messages_with(c, "\"rejected\""), 1);
	ck_assert_uint_eq(messages_with(a, "\"rejected\""), 0);
	server_broadcast("t", "e", "1");
	ck_assert_uint_eq(peer_skip(a, "\"broadcast\""), 1);
	ck_assert_uint_eq(peer_skip(b, "\"broadcast\""), 0);
	ck_assert_uint_eq(peer_skip(c, "\"broadcast\""), 0);
	expect_no_frame();
}
END_TEST

/* The right to read has gone: a word about the identity, not about the daemon's or another's. */
/* It was told of the refusal, and counts on the next connection: a token of another identity takes
 * that wish away, which is told, too. */
START_TEST(revoked_and_replaced)
{
	server_says(&joined, "You no longer have permission to read from this topic");
	expect(a, "[2,'channel',{'chan':1,*'rejected','code':'unauthorized',*");
	give(a, 3, token_of_user("bob", 1), UNPROVEN("3"));
	expect(a, "[2,'channel',{'chan':1,*'rejected','code':'token_replaced',*");
	expect_nothing(a);
}
END_TEST

START_TEST(right_to_read_revoked)
{
	const char *bob = token_of_user("bob", 1);
	struct fake_peer *c = peer_ready(), *d = peer_ready();
	struct line of_c, of_d;

	advance(31000); /* the connection of the trials is closed */
	peer_ask(c, 1, "subscribe", "{'topic':'t'}");
	open_link(1);
	of_c = *expect_join("t", "the-key");
	server_reply(&of_c, true, "{}");
	expect(c, "[1,1,null,{*'ready'}]");
	give(d, 1, bob, UNPROVEN("1"));
	peer_ask(d, 2, "subscribe", "{'topic':'t'}");
	open_link(2);
	of_d = *expect_join("t", bob);
	server_reply(&of_d, true, "{}");
	expect(d, "[1,2,null,{*'ready'}]");
	server_says(&joined, "You no longer have permission to read from this topic");
	expect(a, "[2,'channel',{'chan':1,*'rejected','code':'unauthorized',*");
	expect(b, "[2,'channel',{'chan':1,*'rejected','code':'unauthorized',*");
	expect_nothing(a);
	expect_nothing(b);
	expect_nothing(c);
	expect_nothing(d);
	expect_no_frame();
	/* Their tokens are good for other topics. */
	peer_joins(a, 3, "u", second);
	rig.at = of_c.link;
	server_broadcast("t", "e", "1");
	rig.at = of_d.link;
	server_broadcast("t", "e", "2");
	rig.at = 0;
	expect(c, "[2,'broadcast',*");
	expect(d, "[2,'broadcast',*");
	expect_nothing(a);
	expect_nothing(b);
	expect_nothing(c);
}
END_TEST

/* What an identity had is not what comes after it: the same claims later are another one. */
START_TEST(all_have_gone)
{
	const char *third;

	peer_close(a);
	peer_close(b);
	advance(100000);
	ck_assert_uint_eq(rig.hub->n_tokens, 0);
	ck_assert(TAILQ_EMPTY(&rig.hub->identities));
	peer_skip(a, "");
	third = token_of_user("alice", 3);
	b = peer_with(third, "[1,0,null,{*'token':{'state':'unproven',*");
	while (rig.frames.next < rig.frames.n)
		rig.frames.next++;
	peer_joins(b, 1, "t", third);
}
END_TEST

/* What waits for a channel whose token has ended is not sent by somebody else's. */
START_TEST(sends_and_trackers)
{
	peer_ask(a, 3, "track", "{'topic':'k','state':{'n':1}}");
	expect_join("k", second);
	peer_ask(a, 4, "broadcast", "{'topic':'m','event':'e','payload':'of a','ttl_ms':60000}");
	expect_join("m", second);
	rig.wall_step_ms = 3100000;
	advance(14000);
	expect_nothing(a);
	advance(EXPIRY_LOOK_MS);
	expect(a, "[1,3,null,{'outcome':'queued',*");
	peer_skip(a, "");
	ck_assert_uint_eq(messages_with(a, "\"bad_token\""), 3);
	ck_assert_uint_eq(messages_with(a, "\"state\":\"rejected\",\"code\":\"token_expired\""), 1);
	ck_assert_uint_eq(frames_with("of a"), 0);
	ck_assert_uint_eq(a->n_asked, 0);
}
END_TEST

/* Two wait for their next try when the token ends, one of them with somebody else. */
START_TEST(ends_in_a_backoff)
{
	struct fake_peer *p = peer_ready(), *q = peer_ready();
	const char *brief = token_of("'role':'authenticated','sub':'carol'", 20, 1);

	give(p, 1, brief, UNPROVEN("1"));
	peer_joins(p, 2, "x", brief);
	give(q, 1, brief, ACCEPTED("1"));
	advance(17000);
	peer_ask(p, 3, "subscribe", "{'topic':'one','timeout_ms':60000}");
	peer_ask(p, 4, "subscribe", "{'topic':'two','timeout_ms':60000}");
	peer_ask(p, 5, "broadcast", "{'topic':'two','event':'e','payload':1,'ttl_ms':60000}");
	peer_ask(p, 6, "sync", "{'timeout_ms':60000}");
	peer_ask(p, 7, "track", "{'topic':'one','state':{},'timeout_ms':60000}");
	peer_ask(q, 3, "subscribe", "{'topic':'one','timeout_ms':60000}");
	server_reply(expect_join("one", brief), false, "{'reason':'QueryCanceled: x'}");
	server_reply(expect_join("two", brief), false, "{'reason':'QueryCanceled: x'}");
	advance(4000);
	ck_assert_uint_eq(p->n_asked, 0);
	ck_assert_uint_eq(q->n_asked, 0);
	peer_skip(p, "");
	peer_skip(q, "");
	ck_assert_uint_eq(messages_with(p, "[1,3,[211,"), 1);
	ck_assert_uint_eq(messages_with(p, "[1,4,[211,"), 1);
	ck_assert_uint_eq(messages_with(p, "[1,5,"), 1);
	ck_assert_uint_eq(messages_with(p, "[1,6,null,{}]"), 1);
	ck_assert_uint_eq(messages_with(p, "[1,7,[211,"), 1);
	ck_assert_uint_eq(messages_with(q, "[1,3,[211,"), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_auth_ends");
	TCase *t = tcase_create("ends");

	tcase_add_checked_fixture(t, begin, rig_teardown);
	tcase_add_test(t, each_by_its_own);
	tcase_add_test(t, clock_set_forward);
	tcase_add_test(t, clock_set_back);
	tcase_add_test(t, clock_set_a_little_forward);
	tcase_add_test(t, no_token_left_at_a_rejoin);
	tcase_add_test(t, closed_with_another_token);
	tcase_add_test(t, closed_with_no_other);
	tcase_add_test(t, refused_while_others_live);
	tcase_add_test(t, revoked_and_replaced);
	tcase_add_test(t, right_to_read_revoked);
	tcase_add_test(t, all_have_gone);
	tcase_add_test(t, sends_and_trackers);
	tcase_add_test(t, ends_in_a_backoff);
	suite_add_tcase(s, t);
	return suite_run(s);
}
