/* SPDX-License-Identifier: MIT */
/*
 * What the server has stored of a gap. What it sends after the join's answer is held until a probe
 * is answered, and each message comes once.
 */
#include "hub_replay.h"

/* Both have it, and the connection is lost and back; the join that asks is returned. */
static struct line *gap_begins(void)
{
	subscribed(a, "{}");
	subscribed(b, "{'events':['odd']}");
	server_drop(SESSION_FAULT_LOST, "lost");
	expect(a, "[2,'channel',{*'rejoining'*");
	expect(b, "[2,'channel',{*'rejoining'*");
	(void)peer_skip(a, "connection");
	(void)peer_skip(b, "connection");
	advance(2000);
	server_open();
	(void)peer_skip(a, "connection");
	(void)peer_skip(b, "connection");
	return expect_frame(
		"*'phx_join',*'broadcast':{*'replay':{'since':1700000940000,'limit':25}}*");
}

#define GAP(stored, n)                                                                             \
	"[2,'gap',{'chan':1,'topic':'t','from':1700001000000,'to':*,'cause':'connection','stored'" \
	":'" stored "','n':" n "}]"

START_TEST(after_a_gap)
{
	struct line *join, *probe;

	join = gap_begins();
	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(0);
	stored(1, true);
	stored(2, true);
	stored(3, false); /* live ones, and one that was stored as well */
	stored(2, false);
	server_broadcast("t", "odd", "{'n':9}");
	expect_nothing(a);
	expect_nothing(b);
	/* Who comes now is answered with the others, and gets no gap. */
	peer_ask(a, 2, "status", "{}");
	expect(a, "[1,2,null,{*'state':'rejoining'*");
	server_reply(probe, true, "{}");
	expect(a, GAP("replayed", "2"));
	expect_stored(a, 1, true);
	expect_stored(a, 2, true);
	expect(a, "[2,'channel',{*'state':'ready'}]");
	expect_stored(a, 3, false);
	expect(a, "[2,'broadcast',{*'payload':{'n':9}}]");
	expect_nothing(a);
	expect(b, GAP("replayed", "2"));
	expect_stored(b, 1, true);
	expect(b, "[2,'channel',{*'state':'ready'}]");
	expect_stored(b, 3, false);
	expect(b, "[2,'broadcast',{*'payload':{'n':9}}]");
	expect_nothing(b);
	/* Late copies of what came. */
	stored(4, true);
	stored(3, true);
	expect_stored(a, 4, true);
	expect_nothing(a);
}
END_TEST

/* The minute before the gap brings what was there. */
START_TEST(nothing_twice)
{
	struct line *join, *probe;

	subscribed(a, "{}");
	stored(1, false);
	stored(2, false);
	expect_stored(a, 1, false);
	expect_stored(a, 2, false);
	server_text("['1','1','realtime:t','phx_error',{}]");
	expect(a, "[2,'channel',{*'rejoining','code':'crash'*");
	advance(JOIN_BACKOFF_MIN_MS + 1000);
	join = expect_frame("*'phx_join',*'replay':{*");
	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(0);
	stored(1, true);
	stored(2, true);
	stored(3, true);
	server_reply(probe, true, "{}");
	expect(a, "[2,'gap',{*'cause':'crash','stored':'replayed','n':1}]");
	expect_stored(a, 3, true);
	expect(a, "[2,'channel',{*'ready'}]");
	expect_nothing(a);
}
END_TEST

/* Who names a message that goes by HTTP chooses its id, and may choose one twice. */
START_TEST(a_live_id_is_no_proof)
{
	struct line *join, *probe;

	subscribed(a, "{}");
	stored(1, false);
	expect_stored(a, 1, false);
	server_text("['1','1','realtime:t','phx_error',{}]");
	advance(JOIN_BACKOFF_MIN_MS + 1000);
	join = expect_frame("*'phx_join',*'replay':{*");
	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(0);
	stored(1, false);
	server_reply(probe, true, "{}");
	(void)peer_skip(a, "channel");
	ck_assert_uint_eq(a->got.n, 7);
	ck_assert(text_matches("[2,'broadcast',{*'payload':{'n':1},*", a->got.at[6].text));
}
END_TEST

START_TEST(truncated)
{
	struct line *join = gap_begins(), *probe;

	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(0);
	for (unsigned i = 0; i < REPLAY_MAX; i++)
		stored(i, true);
	server_reply(probe, true, "{}");
	expect(a, GAP("truncated", "25"));
	for (unsigned i = 0; i < REPLAY_MAX; i++)
		expect_stored(a, i, true);
	expect(a, "[2,'channel',{*'ready'}]");
}
END_TEST

/* An error is an answer as well. */
START_TEST(probe_refused)
{
	struct line *join = gap_begins();

	server_reply(join, true, "{'postgres_changes':[]}");
	server_reply(expect_probe(0), false, "{}");
	expect(a, GAP("replayed", "0"));
	expect(a, "[2,'channel',{*'ready'}]");
}
END_TEST

START_TEST(probe_unanswered)
{
	struct line *join = gap_begins();

	server_reply(join, true, "{'postgres_changes':[]}");
	expect_probe(0);
	stored(1, true);
	stored(2, false);
	advance(PROBE_MS);
	expect(a, GAP("truncated", "1"));
	expect_stored(a, 1, true); /* still, as it came */
	expect(a, "[2,'channel',{*'ready'}]");
	expect_stored(a, 2, false);
	expect_nothing(a);
}
END_TEST

START_TEST(probe_finds_no_room)
{
	struct line *join = gap_begins();

	rig.no_turns = true;
	rig.send_result = 1;
	server_reply(join, true, "{'postgres_changes':[]}");
	rig.no_turns = false;
	turn();
	advance(100);
	expect_no_frame();
	rig.send_result = 0;
	advance(100);
	server_reply(expect_probe(0), true, "{}");
	expect(a, GAP("replayed", "0"));
}
END_TEST

/* What came in between belongs to the one long gap. */
START_TEST(lost_while_held)
{
	struct line *join = gap_begins();

	server_reply(join, true, "{'postgres_changes':[]}");
	expect_probe(0);
	stored(1, true);
	stored(2, false);
	server_drop(SESSION_FAULT_LOST, "again");
	(void)peer_skip(a, "x");
	(void)peer_skip(b, "x");
	advance(5000);
	server_open();
	(void)peer_skip(a, "x");
	(void)peer_skip(b, "x");
	join = expect_frame("*'phx_join',*'replay':{'since':1700000940000,'limit':25}}*");
	server_reply(join, true, "{'postgres_changes':[]}");
	server_reply(expect_probe(0), true, "{}");
	expect(a, GAP("replayed", "0"));
	expect(a, "[2,'channel',{*'ready'}]");
	expect_nothing(a);
}
END_TEST

/* What came while it was held has not been told, and is not known. */
START_TEST(stored_while_held_and_lost)
{
	struct line *join = gap_begins();

	server_reply(join, true, "{'postgres_changes':[]}");
	expect_probe(0);
	stored(1, true);
	server_drop(SESSION_FAULT_LOST, "again");
	advance(5000);
	server_open();
	(void)peer_skip(a, "x");
	join = expect_frame("*'phx_join',*'replay':{*");
	server_reply(join, true, "{'postgres_changes':[]}");
	stored(1, true);
	server_reply(expect_probe(0), true, "{}");
	expect(a, GAP("replayed", "1"));
	expect_stored(a, 1, true);
}
END_TEST

/* It is joined all the same, and not asked again. */
START_TEST(replay_refused)
{
	struct line *join = gap_begins();

	server_reply(join, false,
		     "{'reason':'UnableToReplayMessages: Realtime was unable to replay messages'}");
	join = expect_frame("*'phx_join',*");
	ck_assert_ptr_null(strstr(join->text, "replay"));
	server_reply(join, true, "{'postgres_changes':[]}");
	(void)peer_skip(a, "rejoining");
	expect_nothing(a);
	expect_no_frame();
}
END_TEST

#define MAY_NOT_READ                                                                             \
	"{'reason':'Unauthorized: You do not have permissions to read from this Channel topic: " \
	"t'}"

/* Who may see the presence only may join, and may not ask for what is stored. Rights may as well
 * have been taken away: so it is tried apart before it is joined without that wish. */
START_TEST(may_not_read)
{
	struct line *join = gap_begins();

	server_reply(join, false, MAY_NOT_READ);
	expect_no_frame();
	rig.at = 1;
	server_open();
	join = expect_frame("*'phx_join',*");
	ck_assert_uint_eq(join->link, 1);
	ck_assert_ptr_null(strstr(join->text, "replay"));
	server_reply(join, true, "{'postgres_changes':[]}");
	join = expect_frame("*'phx_join',*");
	ck_assert_uint_eq(join->link, 0);
	ck_assert_ptr_null(strstr(join->text, "replay"));
	expect_frame("*'phx_leave'*"); /* of the trial */
	server_reply(join, true, "{'postgres_changes':[]}");
	(void)peer_skip(b, "x");
	ck_assert(text_matches("[2,'gap',{*'stored':'none','n':0}]", a->got.at[a->got.n - 2].text));
	ck_assert(text_matches("[2,'channel',{*'state':'ready'}]", a->got.at[a->got.n - 1].text));
	/* It is not asked for again. */
	rig.at = 0;
	server_text("['%u','%u','realtime:t','phx_error',{}]", (unsigned)join->ref,
		    (unsigned)join->ref);
	advance(JOIN_BACKOFF_MIN_MS + 1000);
	join = expect_frame("*'phx_join',*");
	ck_assert_ptr_null(strstr(join->text, "replay"));
}
END_TEST

START_TEST(too_much_while_held)
{
	struct line *join = gap_begins();
	char big[70000];
	unsigned n = 0;

	server_reply(join, true, "{'postgres_changes':[]}");
	expect_probe(0);
	big[0] = '\'';
	memset(big + 1, 'x', sizeof(big) - 3);
	big[sizeof(big) - 2] = '\'';
	big[sizeof(big) - 1] = '\0';
	while (n < 20) {
		server_broadcast("t", "odd", big);
		n++;
	}
	/* Given up, and nothing of it is lost. */
	expect(a, GAP("none", "0"));
	expect(a, "[2,'channel',{*'ready'}]");
	ck_assert_uint_eq(peer_skip(a, "xxxx"), n);
}
END_TEST

/* Nothing of public channels is stored. */
START_TEST(public_channels_ask_for_nothing)
{
	struct line *join;

	peer_join(a, "u", "{}");
	server_drop(SESSION_FAULT_LOST, "lost");
	advance(2000);
	server_open();
	(void)peer_skip(a, "x");
	join = expect_frame("*'phx_join',*");
	ck_assert_ptr_null(strstr(join->text, "replay"));
	server_reply(join, true, "{'postgres_changes':[]}");
	expect(a, "[2,'gap',{*'cause':'connection','stored':'none','n':0}]");
}
END_TEST

/* The presence is told behind the gap; its own probe behind ours. */
START_TEST(with_presence)
{
	struct line *join, *probe, *own;

	peer_ask(a, 1, "subscribe", "{'topic':'t','private':true,'presence':{}}");
	server_join("t");
	server_text("['1',null,'realtime:t','presence_state',{}]");
	server_reply(expect_probe(0), true, "{}");
	expect(a, "[1,1,null,{*'presence':{'state':'ok','snapshot':[]}}]");
	server_text("['1','1','realtime:t','phx_error',{}]");
	advance(3000);
	(void)peer_skip(a, "x");
	join = expect_frame("*'phx_join',*'replay':{*");
	server_reply(join, true, "{'postgres_changes':[]}");
	probe = expect_probe(0);
	own = expect_probe(0);
	server_text("['%u',null,'realtime:t','presence_state',{'k':{'metas':[{'phx_ref':'r'}]}}]",
		    (unsigned)join->ref);
	stored(1, true);
	expect_nothing(a);
	server_reply(probe, true, "{}");
	expect(a, "[2,'gap',{*'stored':'replayed','n':1}]");
	expect_stored(a, 1, true);
	expect(a, "[2,'channel',{*'state':'joined',*");
	expect(a, "[2,'presence',{*'join':[{'key':'k',*");
	expect(a, "[2,'channel',{*'state':'ready',*");
	server_reply(own, true, "{}");
	expect_nothing(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_gaps");
	TCase *t = tcase_create("replay");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, after_a_gap);
	tcase_add_test(t, nothing_twice);
	tcase_add_test(t, a_live_id_is_no_proof);
	tcase_add_test(t, truncated);
	tcase_add_test(t, probe_refused);
	tcase_add_test(t, probe_unanswered);
	tcase_add_test(t, probe_finds_no_room);
	tcase_add_test(t, lost_while_held);
	tcase_add_test(t, stored_while_held_and_lost);
	tcase_add_test(t, replay_refused);
	tcase_add_test(t, may_not_read);
	tcase_add_test(t, too_much_while_held);
	tcase_add_test(t, public_channels_ask_for_nothing);
	tcase_add_test(t, with_presence);
	suite_add_tcase(s, t);
	return suite_run(s);
}
