/* SPDX-License-Identifier: MIT */
/* librtbridge: subscriptions over losses and refusals, and changed inside callbacks. */
#include "test_client_ear.h"
#include "suite.h"

START_TEST(wishes_survive_the_daemon)
{
	struct ear ear, early = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	uint32_t id;

	c = ready_client(&f, &ear);
	fake_close(&f);
	HEARD(&ear, "ready joining:detached ");
	listen_to(c, &early, "u", false, only_a); /* while nobody is there */
	ck_assert_int_eq(rtb_sub_state(early.sub), RTB_CHANNEL_JOINING);
	fake_listen(&f);
	fake_attach(&f, c);
	for (int i = 0; i < 2; i++) {
		m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
		id = m.id;
		ck_assert(field_bool(m.params, RTBP_F_KEEP));
		say_subscribed(&f, id, field_text(m.params, RTBP_F_TOPIC, "t") ? 70 : 71,
			       field_text(m.params, RTBP_F_TOPIC, "t") ? "joining" : "ready");
	}
	say_broadcast(&f, 71, "a", "1");
	say_broadcast(&f, 5, "e", "\"of the old daemon\"");
	say_channel(&f, 70, "ready", "", "");
	say_broadcast(&f, 70, "e", "2");
	fake_flush(&f, c);
	HEARD(&early, "ready a=1 ");
	HEARD(&ear, "ready joining:detached joining ready e=2 ");
	end(&f, c);
}
END_TEST

START_TEST(unsubscribe_while_away)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = ready_client(&f, &ear);
	fake_close(&f);
	HEARD(&ear, "ready joining:detached ");
	rtb_unsubscribe(ear.sub);
	fake_listen(&f);
	fake_attach(&f, c);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(rejected_and_asked_again)
{
	struct ear ear = { 0 }, again = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	listen_to(c, &ear, "t", false, NULL);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	rtbp_msg_put_error(&f.out, m.id, RTBP_E_REJECTED, "Unauthorized", -1);
	fake_flush(&f, c);
	HEARD(&ear, "rejected:rejected ");
	listen_to(c, &again, "t", false, NULL);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	say_subscribed(&f, m.id, 3, "ready");
	fake_flush(&f, c);
	HEARD(&again, "ready ");
	HEARD(&ear, "rejected:rejected joining ready ");
	/* Later, by a notice. */
	say_channel(&f, 3, "rejected", "token_expired", "over");
	fake_flush(&f, c);
	HEARD(&again, "ready rejected:token_expired ");
	end(&f, c);
}
END_TEST

START_TEST(refused_for_now_is_tried_again)
{
	struct ear ear = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	listen_to(c, &ear, "t", false, NULL);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	rtbp_msg_put_error(&f.out, m.id, RTBP_E_BUSY, "not now", 1);
	fake_flush(&f, c);
	HEARD(&ear, "joining:busy ");
	ck_assert_int_ge(rtb_client_timeout_ms(c), 0);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	say_subscribed(&f, m.id, 3, "ready");
	fake_flush(&f, c);
	HEARD(&ear, "joining:busy ready ");
	end(&f, c);
}
END_TEST

START_TEST(stale_answers_are_ignored)
{
	struct ear ear = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t first, second;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	listen_to(c, &ear, "t", false, NULL);
	first = fake_expect(&f, c, RTBP_M_SUBSCRIBE).id;
	rtb_unsubscribe(ear.sub);
	fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	listen_to(c, &ear, "t", false, NULL);
	second = fake_expect(&f, c, RTBP_M_SUBSCRIBE).id;
	rtbp_msg_put_error(&f.out, first, RTBP_E_REJECTED, "of the first", -1);
	fake_flush(&f, c);
	ck_assert(fake_is_quiet(&f, c));
	ck_assert_int_eq(rtb_sub_state(ear.sub), RTB_CHANNEL_JOINING);
	say_subscribed(&f, second, 4, "ready");
	fake_flush(&f, c);
	HEARD(&ear, "ready ");
	end(&f, c);
}
END_TEST

/* ---- inside callbacks ---- */

static void act_leave(struct ear *ear)
{
	ear->sub = rtb_unsubscribe(ear->sub);
}

static void act_leave_other(struct ear *ear)
{
	ear->other->sub = rtb_unsubscribe(ear->other->sub);
}

static void act_join_same(struct ear *ear)
{
	listen_to(ear->c, ear->other, "t", false, NULL);
}

static void act_leave_and_join(struct ear *ear)
{
	rtb_unsubscribe(ear->sub);
	listen_to(ear->c, ear, "t", false, NULL);
}

static void act_forbidden(struct ear *ear)
{
	enum rtb_outcome outcome;
	char *json;

	ck_assert_int_eq(rtb_client_process(ear->c), -EDEADLK);
	ck_assert_int_eq(rtb_wait(ear->c, 0), -EDEADLK);
	ck_assert_int_eq(rtb_wait_attached(ear->c, 0), -EDEADLK);
	ck_assert_int_eq(rtb_wait_ready(ear->sub, 0), -EDEADLK);
	ck_assert_int_eq(rtb_wait_sync(ear->c, false, 0), -EDEADLK);
	ck_assert_int_eq(rtb_wait_status_json(ear->c, 0, &json), -EDEADLK);
	ck_assert_int_eq(rtb_wait_broadcast_json(ear->c, "t", "e", "1", NULL, 0, &outcome),
			 -EDEADLK);
	ck_assert_ptr_eq(rtb_client_free(ear->c), ear->c);
	ck_assert_int_gt(rtb_broadcast_json(ear->c, "t", "e", "1", 1, NULL), 0);
	hear(ear, "forbidden");
}

START_TEST(changes_inside_callbacks)
{
	struct ear ear, other = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	c = ready_client(&f, &ear);
	ear.other = &other;
	other.c = c;
	ear.act = act_forbidden;
	say_broadcast(&f, 5, "e", "0");
	fake_flush(&f, c);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	ear.act = act_join_same;
	say_broadcast(&f, 5, "e", "1"); /* not for the one that joins because of it */
	say_broadcast(&f, 5, "e", "2");
	fake_flush(&f, c);
	HEARD(&other, "ready e=2 ");
	ear.act = act_leave_other;
	say_broadcast(&f, 5, "e", "3");
	say_broadcast(&f, 5, "e", "4");
	fake_flush(&f, c);
	HEARD(&ear, "ready e=0 forbidden e=1 e=2 e=3 e=4 ");
	ck_assert_str_eq(other.heard, "ready e=2 ");
	ear.act = act_leave_and_join;
	say_broadcast(&f, 5, "e", "5");
	say_broadcast(&f, 5, "e", "6");
	fake_flush(&f, c);
	/* The wishes are the same, so that the daemon need not know. */
	HEARD(&ear, "ready e=0 forbidden e=1 e=2 e=3 e=4 e=5 ready e=6 ");
	ck_assert(fake_is_quiet(&f, c));
	ear.act = act_leave;
	say_broadcast(&f, 5, "e", "7");
	say_broadcast(&f, 5, "e", "8");
	fake_flush(&f, c);
	m = fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	ck_assert_str_eq(strstr(ear.heard, "e=6"), "e=6 e=7 ");
	ck_assert(fake_is_quiet(&f, c));
	(void)m;
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_life");
	TCase *t = tcase_create("life");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, wishes_survive_the_daemon);
	tcase_add_test(t, unsubscribe_while_away);
	tcase_add_test(t, rejected_and_asked_again);
	tcase_add_test(t, refused_for_now_is_tried_again);
	tcase_add_test(t, stale_answers_are_ignored);
	tcase_add_test(t, changes_inside_callbacks);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
