/* SPDX-License-Identifier: MIT */
/*
 * Stories about acks that do not come. A write that the policies refuse has no reply at all; but
 * replies of one channel come in order, so whatever is answered later proves it. When nothing else
 * is, the daemon asks a question after 2 s.
 */
#include "hub_fixture.h"
#include "hub_sends.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SEND(n)     "{'topic':'t','event':'e','payload':" #n ",'via':'ws'}"
#define ACKED(id)   "[1," #id ",null,{'outcome':'acked','via':'ws'}]"
#define DENIED(id)  "[1," #id ",null,{'outcome':'denied','via':'ws','text':'*'}]"
#define UNKNOWN(id) "[1," #id ",null,{'outcome':'unknown','via':'ws','text':'*'}]"
#define QUESTION    "[*,'realtime:t','presence',{}]"

/* On serializer 1.0.0 it is a text frame. */
static struct line *expect_payload(unsigned n)
{
	char pattern[100];

	if (rig.conf.session.vsn == PHX_VSN_1)
		snprintf(pattern, sizeof(pattern), "[*'realtime:t','broadcast',{*'payload':%u}]",
			 n);
	else
		snprintf(pattern, sizeof(pattern), "[3,*'realtime:t','e',%u]", n);
	return expect_frame(pattern);
}

static struct fake_peer *a, *b;

/* `a` sends, `b` listens. */
static void begin(void)
{
	server_open();
	a = peer_ready();
	b = peer_ready();
	peer_join(b, "t", "{}");
}

static void setup(void)
{
	rig_setup();
	begin();
}

static void with_vsn_1(struct hub_conf *conf)
{
	conf->session.vsn = PHX_VSN_1;
}

/* ---- the question ---- */

/* By loop: serializer, and how it is answered: both are answers. */
START_TEST(asked_after_2_s)
{
	struct line *q;

	rig_start(_i % 2 ? with_vsn_1 : NULL);
	begin();
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	advance(1999);
	expect_no_frame();
	advance(1);
	q = expect_frame("['1','3','realtime:t','presence',{}]");
	expect_nothing(a);
	advance(500);
	server_reply(q, _i / 2, "{}");
	expect(a, DENIED(2));
	expect_nothing(b);
	/* The channel goes on. */
	peer_ask(a, 3, "broadcast", SEND(2));
	server_reply(expect_payload(2), true, "{}");
	expect(a, ACKED(3));
	expect(b, "*'payload':2}]");
	advance(9000);
	expect_no_frame();
	expect_nothing(a);
	rig_teardown();
}
END_TEST

START_TEST(all_before_it_are_denied)
{
	peer_ask(a, 2, "broadcast", SEND(1));
	advance(1000);
	peer_ask(a, 3, "broadcast", SEND(2));
	advance(999);
	peer_ask(b, 4, "broadcast", SEND(3));
	for (unsigned i = 1; i <= 3; i++)
		expect_payload(i);
	advance(1);
	server_reply(expect_frame(QUESTION), true, "{}");
	expect(a, DENIED(2));
	expect(a, DENIED(3));
	expect(b, DENIED(4));
	expect_nothing(b);
	advance(10000);
	expect_no_frame();
}
END_TEST

START_TEST(what_comes_after_it_stays_open)
{
	struct line *q, *f;

	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	advance(2000);
	q = expect_frame(QUESTION);
	peer_ask(a, 3, "broadcast", SEND(2));
	f = expect_payload(2);
	advance(500);
	server_reply(q, true, "{}");
	expect(a, DENIED(2));
	expect_nothing(a);
	/* It has a question of its own, 2 s after it was sent itself. */
	advance(1499);
	expect_no_frame();
	advance(1);
	q = expect_frame(QUESTION);
	/* Its ack comes late, but before the answer. */
	server_reply(f, true, "{}");
	expect(b, "*'payload':2}]");
	expect(a, ACKED(3));
	server_reply(q, true, "{}");
	expect_nothing(a);
	expect_nothing(b);
	advance(10000);
	expect_no_frame();
}
END_TEST

/* A later ack says it before the question does, which still stands for what came between. */
START_TEST(an_ack_while_it_is_asked)
{
	struct line *q, *f[4];

	for (unsigned i = 1; i <= 3; i++) {
		char params[100];

		snprintf(params, sizeof(params),
			 "{'topic':'t','event':'e','payload':%u,'via':'ws'}", i);
		peer_ask(a, i + 1, "broadcast", params);
		f[i] = expect_payload(i);
	}
	advance(2000);
	q = expect_frame(QUESTION);
	server_reply(f[2], true, "{}");
	expect(a, DENIED(2));
	expect(a, ACKED(3));
	expect_nothing(a);
	server_reply(q, true, "{}");
	expect(a, DENIED(4));
	expect(b, "*'payload':2}]");
	expect_nothing(b);
}
END_TEST

/* Each has its 2 s; an ack of the oldest moves the question to the next one. */
START_TEST(the_next_one_is_late_later)
{
	struct line *f;

	peer_ask(a, 2, "broadcast", SEND(1));
	f = expect_payload(1);
	advance(1500);
	peer_ask(a, 3, "broadcast", SEND(2));
	expect_payload(2);
	server_reply(f, true, "{}");
	expect(a, ACKED(2));
	advance(1999);
	expect_no_frame();
	advance(1);
	server_reply(expect_frame(QUESTION), true, "{}");
	expect(a, DENIED(3));
}
END_TEST

/* Everything is refused: it does not ask for each. */
START_TEST(questions_are_few)
{
	unsigned n = 0, id = 2;
	struct line *q;

	for (unsigned ms = 0; ms < 20000; ms += 50) {
		peer_ask(a, id++, "broadcast", SEND(1));
		expect_payload(1);
		advance(50);
		if ((q = any_frame())) {
			MUST(text_matches(QUESTION, q->text));
			server_reply(q, true, "{}");
			n++;
		}
	}
	ck_assert_uint_ge(n, 8);
	ck_assert_uint_le(n, 10);
	ck_assert_uint_le(a->n_asked, 2000 / 50 + 1);
}
END_TEST

/* Hundreds wait for it; the client is read again. */
START_TEST(one_question_for_many)
{
	unsigned id = 2;

	for (; !a->paused; id++) {
		peer_ask(a, id, "broadcast", SEND(1));
		expect_payload(1);
	}
	ck_assert_uint_eq(id - 2, PEER_SENDS_MAX);
	advance(2000);
	server_reply(expect_frame(QUESTION), true, "{}");
	ck_assert_uint_eq(a->n_asked, 0);
	ck_assert_uint_eq(peer_skip(a, "\"denied\""), PEER_SENDS_MAX);
	ck_assert(!a->paused);
	expect_nothing(b);
}
END_TEST

/* An error to a later message is an answer, too. What the socket says of a topic that it does not
 * know is none of the channel's. */
START_TEST(an_error_to_a_later_one)
{
	peer_ask(a, 2, "broadcast", SEND(1));
	peer_ask(a, 3, "broadcast", SEND(2));
	expect_payload(1);
	server_reply(expect_payload(2), false, "{'reason':'payload_size_exceeded'}");
	expect(a, DENIED(2));
	expect(a, "[1,3,null,{'outcome':'too_big',*");
	peer_ask(a, 4, "broadcast", SEND(3));
	peer_ask(a, 5, "broadcast", SEND(4));
	expect_payload(3);
	server_reply(expect_payload(4), false, "{'reason':'unmatched topic'}");
	expect(a, "[1,5,null,{'outcome':'not_joined',*");
	expect_nothing(a);
	advance(10000);
	expect(a, UNKNOWN(4));
}
END_TEST

/* ---- the question fails ---- */

START_TEST(no_answer_at_all)
{
	struct line *late;

	peer_ask(a, 2, "broadcast", SEND(1));
	late = expect_payload(1);
	advance(2000);
	expect_frame(QUESTION);
	advance(7999);
	expect_nothing(a);
	/* No second question while the first one may be answered. */
	expect_no_frame();
	advance(1);
	expect(a, UNKNOWN(2));
	/* It comes after all: it was said to be unknown, and stays so. */
	server_reply(late, true, "{}");
	expect_nothing(a);
	expect_nothing(b);
	/* The question is over 10 s after it was asked; then the next one is. */
	peer_ask(a, 3, "broadcast", SEND(2));
	expect_payload(2);
	advance(1999);
	expect_no_frame();
	advance(1);
	server_reply(expect_frame(QUESTION), true, "{}");
	expect(a, DENIED(3));
}
END_TEST

START_TEST(lost_with_the_link)
{
	struct line *q;

	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	advance(2000);
	q = expect_frame(QUESTION);
	server_drop(SESSION_FAULT_LOST, "gone");
	expect(a, UNKNOWN(2));
	peer_skip(a, "");
	advance(1500);
	server_open();
	peer_ask(a, 3, "broadcast", SEND(2));
	server_join("t");
	expect_payload(2);
	/* The old question's number means something else by now, or nothing. */
	MUST(!frame_is_current(q));
	advance(2000);
	server_reply(expect_frame(QUESTION), true, "{}");
	peer_skip(b, "");
	expect(a, "[2,'connection',*");
	expect(a, DENIED(3));
	expect_nothing(a);
}
END_TEST

START_TEST(no_room_for_it)
{
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	rig.send_result = _i ? -ENOMEM : 1;
	advance(3000);
	expect_no_frame();
	rig.send_result = 0;
	advance(10);
	server_reply(expect_frame(QUESTION), true, "{}");
	expect(a, DENIED(2));
	expect_no_frame();
}
END_TEST

START_TEST(never_any_room_for_it)
{
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	rig.send_result = 1;
	advance(10000);
	expect(a, UNKNOWN(2));
	rig.send_result = 0;
	advance(30000);
	expect_no_frame();
	expect_nothing(a);
}
END_TEST

START_TEST(link_ends_while_it_waits_for_room)
{
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	rig.send_result = 1;
	advance(2005);
	server_drop(SESSION_FAULT_LOST, "gone");
	expect(a, UNKNOWN(2));
	rig.send_result = 0;
	advance(1500);
	server_open();
	server_join("t");
	advance(10000);
	expect_no_frame();
}
END_TEST

/* ---- several channels ---- */

START_TEST(each_channel_for_itself)
{
	struct line *qt, *qu;

	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	peer_ask(a, 3, "broadcast", "{'topic':'u','event':'e','payload':1,'via':'ws'}");
	server_join("u");
	expect_frame("[3,*'realtime:u','e',1]");
	advance(2000);
	qt = expect_frame("[*'presence',{}]");
	qu = expect_frame("[*'presence',{}]");
	if (strcmp(qt->topic, "realtime:t") != 0) {
		struct line *swap = qt;

		qt = qu;
		qu = swap;
	}
	server_reply(qu, true, "{}");
	expect(a, DENIED(3));
	expect_nothing(a);
	server_reply(qt, true, "{}");
	expect(a, DENIED(2));
}
END_TEST

/* The same topic, public and private, on two links. */
START_TEST(namesakes)
{
	struct line *f;

	rig_start(NULL);
	rig_teardown();
	/* With a second link for the private one. */
	rig_start(NULL);
	rig.hub->conf.max_links = 2;
	begin();
	peer_ask(a, 2, "broadcast", SEND(1));
	expect_payload(1);
	peer_ask(a, 3, "broadcast",
		 "{'topic':'t','private':true,'event':'e','payload':2,'via':'ws'}");
	rig.at = 1;
	server_open();
	f = server_join("t");
	ck_assert_uint_eq(f->link, 1);
	f = expect_payload(2);
	ck_assert_uint_eq(f->link, 1);
	/* The ack of the one proves nothing of the other. */
	server_reply(f, true, "{}");
	expect(a, ACKED(3));
	expect_nothing(a);
	expect_nothing(b);
	advance(2000);
	f = expect_frame(QUESTION);
	ck_assert_uint_eq(f->link, 0);
	server_reply(f, true, "{}");
	expect(a, DENIED(2));
	rig_teardown();
}
END_TEST

static TCase *add_case(Suite *s, const char *name, void (*up)(void))
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 60);
	if (up)
		tcase_add_checked_fixture(t, up, rig_teardown);
	suite_add_tcase(s, t);
	return t;
}

int main(void)
{
	Suite *s = suite_create("hub_acks");
	TCase *t = add_case(s, "joined", setup), *own = add_case(s, "own", NULL);

	tcase_add_loop_test(own, asked_after_2_s, 0, 4);
	tcase_add_test(own, namesakes);
	tcase_add_test(t, all_before_it_are_denied);
	tcase_add_test(t, what_comes_after_it_stays_open);
	tcase_add_test(t, an_ack_while_it_is_asked);
	tcase_add_test(t, the_next_one_is_late_later);
	tcase_add_test(t, questions_are_few);
	tcase_add_test(t, one_question_for_many);
	tcase_add_test(t, an_error_to_a_later_one);
	tcase_add_test(t, no_answer_at_all);
	tcase_add_test(t, lost_with_the_link);
	tcase_add_loop_test(t, no_room_for_it, 0, 2);
	tcase_add_test(t, never_any_room_for_it);
	tcase_add_test(t, link_ends_while_it_waits_for_room);
	tcase_add_test(t, each_channel_for_itself);
	return suite_run(s);
}
