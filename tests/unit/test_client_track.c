/* SPDX-License-Identifier: MIT */
/* librtbridge: showing oneself in a channel. */
#include "test_client_log.h"
#include "suite.h"

static void say_refused_later(struct fake *f, const char *topic)
{
	size_t begin = rtbp_msg_begin_notice(&f->out, RTBP_N_ERROR);

	rtbp_pack_map(&f->out, 4);
	rtbp_pack_field(&f->out, RTBP_F_ERROR);
	rtbp_pack_error(&f->out, RTBP_E_REJECTED, "Too large", -1);
	rtbp_pack_field_text(&f->out, RTBP_F_METHOD, "track");
	rtbp_pack_field_uint(&f->out, RTBP_F_CHAN, 5);
	rtbp_pack_field_text(&f->out, RTBP_F_TOPIC, topic);
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

START_TEST(shown_and_changed)
{
	struct log log = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	fake_start(&f);
	c = fake_client(&f, NULL);
	show(c, &log, "t", "me", "{\"n\":1}"); /* while nobody is there */
	ck_assert_str_eq(rtb_tracker_topic(log.tracker), "t");
	ck_assert_ptr_eq(rtb_tracker_client(log.tracker), c);
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_PENDING);
	change(&log, "{\"n\":2}");
	fake_attach(&f, c);
	id = expect_track(&f, c, "t", "\"me\"", "{\"n\":2}");
	/* One question at a time; what is outdated before its turn is skipped. */
	change(&log, "{\"n\":3}");
	change(&log, "{\"n\":4}");
	ck_assert(fake_is_quiet(&f, c));
	say_result(&f, id, "{\"outcome\":\"acked\",\"key\":\"me\"}");
	fake_flush(&f, c);
	id = expect_track(&f, c, "t", "\"me\"", "{\"n\":4}");
	ck_assert_str_eq(log.heard, "");
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_PENDING);
	say_result(&f, id, "{\"outcome\":\"acked\",\"key\":\"me\"}");
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_shown(log.tracker, 60000), 0);
	ck_assert_str_eq(log.heard, "shown@me ");
	/* And again from the shown state: the caller knows that this one is pending. */
	change(&log, "{}");
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_PENDING);
	say_result(&f, expect_track(&f, c, "t", "\"me\"", "{}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "shown@me shown@me ");
	ck_assert_ptr_null(rtb_untrack(log.tracker));
	fake_expect(&f, c, RTBP_M_UNTRACK);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(throttled_is_asked_again)
{
	struct log log = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = attached(&f);
	show(c, &log, "t", NULL, "{\"n\":1}");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":1}"),
		   "{\"outcome\":\"throttled\",\"key\":\"k\",\"retry_in_ms\":100}");
	fake_flush(&f, c);
	HEARD(&log, "throttled@k ");
	ck_assert_int_ge(rtb_client_timeout_ms(c), 0);
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":1}"),
		   "{\"outcome\":\"throttled\",\"key\":\"k\",\"retry_in_ms\":100000}");
	fake_flush(&f, c);
	marker(&f, c);
	/* A newer state does not wait for that: the daemon sends it instead. */
	change(&log, "{\"n\":2}");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":2}"),
		   "{\"outcome\":\"throttled\",\"key\":\"k\",\"retry_in_ms\":100}");
	fake_flush(&f, c);
	HEARD(&log, "throttled@k throttled@k ");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":2}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "throttled@k throttled@k shown@k ");
	marker(&f, c);
	end(&f, c);
}
END_TEST

START_TEST(for_now_is_not_for_good)
{
	struct log log = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = attached(&f);
	show(c, &log, "t", NULL, "{}");
	/* "queued" comes after a long wait; who says it at once is asked a second later. */
	say_result(&f, expect_track(&f, c, "t", "absent", "{}"),
		   "{\"outcome\":\"queued\",\"key\":\"k\",\"text\":\"not joined\"}");
	fake_flush(&f, c);
	HEARD(&log, "pending@k:queued:not joined ");
	ck_assert_int_gt(rtb_client_timeout_ms(c), 0);
	id = expect_track(&f, c, "t", "absent", "{}");
	rtbp_msg_put_error(&f.out, id, RTBP_E_BUSY, "not now", 120);
	fake_flush(&f, c);
	HEARD(&log, "pending@k:queued:not joined pending@k:busy:not now ");
	log.heard[0] = '\0';
	/* A word that this library does not know. */
	say_result(&f, expect_track(&f, c, "t", "absent", "{}"), "{\"outcome\":\"later\"}");
	fake_flush(&f, c);
	HEARD(&log, "pending@k:later ");
	say_result(&f, expect_track(&f, c, "t", "absent", "{}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "pending@k:later shown@k ");
	end(&f, c);
}
END_TEST

START_TEST(refused)
{
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;
	struct log log = { 0 };
	struct rtb_tracker *other;
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = attached(&f);
	show(c, &log, "t", NULL, "{}");
	id = expect_track(&f, c, "t", "absent", "{}");
	rtbp_msg_put_error(&f.out, id, RTBP_E_PRESENCE_TAKEN, "trackers = refuse", -1);
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_shown(log.tracker, 60000), RTB_E_REFUSED);
	ck_assert_str_eq(rtb_client_error_text(c), "trackers = refuse (presence_taken)");
	ck_assert_str_eq(log.heard, "refused:presence_taken:trackers = refuse ");
	ck_assert_int_eq(rtb_track_update_json(log.tracker, "{}", 2), RTB_E_REFUSED);
	/* It is over, also for the next daemon; the other one is not. */
	o.is_private = true;
	ck_assert_int_eq(rtb_track_json(c, "t", "{}", 2, &o, &other), 0);
	id = fake_expect(&f, c, RTBP_M_TRACK).id;
	fake_close(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_REFUSED);
	fake_listen(&f);
	fake_attach(&f, c);
	id = fake_expect(&f, c, RTBP_M_TRACK).id;
	say_result(&f, id, "{\"outcome\":\"denied\",\"key\":\"k\",\"text\":\"policy\"}");
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_shown(other, 60000), RTB_E_REFUSED);
	ck_assert_str_eq(rtb_client_error_text(c), "policy (denied)");
	/* Nothing was sent of it to this daemon, so there is nothing to take back. */
	rtb_untrack(log.tracker);
	marker(&f, c);
	rtb_untrack(other);
	fake_expect(&f, c, RTBP_M_UNTRACK);
	end(&f, c);
}
END_TEST

static void on_error(struct rtb_client *c, int code, const char *name, const char *text, void *user)
{
	(void)c;
	(void)code;
	(void)name;
	(void)text;
	++*(int *)user;
}

START_TEST(refused_later)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct log log = { 0 };
	struct rtb_client *c;
	int n_errors = 0;
	struct fake f;
	uint32_t id;

	fake_start(&f);
	o.handlers.error = on_error;
	o.user = &n_errors;
	c = fake_client(&f, &o);
	fake_attach(&f, c);
	show(c, &log, "t", NULL, "{\"n\":1}");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":1}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "shown ");
	/* It was about the old state, or about another topic. */
	change(&log, "{\"n\":2}");
	id = expect_track(&f, c, "t", "absent", "{\"n\":2}");
	say_refused_later(&f, "t");
	say_result(&f, id, "{\"outcome\":\"acked\"}");
	say_refused_later(&f, "u");
	fake_flush(&f, c);
	HEARD(&log, "shown shown ");
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_SHOWN);
	say_refused_later(&f, "t");
	fake_flush(&f, c);
	HEARD(&log, "shown shown refused:rejected:Too large ");
	marker(&f, c);
	/* Ended and begun anew: what is still said about the old one is not about the new one. */
	rtb_untrack(log.tracker);
	log.heard[0] = '\0';
	show(c, &log, "t", NULL, "{\"n\":3}");
	id = fake_expect(&f, c, RTBP_M_UNTRACK).id;
	say_refused_later(&f, "t");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":3}"), "{\"outcome\":\"acked\"}");
	say_refused_later(&f, "t");
	say_result(&f, id, "{}");
	fake_flush(&f, c);
	HEARD(&log, "shown ");
	marker(&f, c);
	say_refused_later(&f, "t");
	fake_flush(&f, c);
	HEARD(&log, "shown refused:rejected:Too large ");
	ck_assert_int_eq(n_errors, 0);
	end(&f, c);
}
END_TEST

START_TEST(over_a_restart_of_the_daemon)
{
	struct rtb_client *c;
	struct log log, two = { 0 };
	struct fake f;

	c = shown_client(&f, &log);
	show(c, &two, "u", NULL, "{\"n\":2}");
	expect_track(&f, c, "u", "absent", "{\"n\":2}");
	change(&two, "{\"n\":3}");
	fake_close(&f);
	HEARD(&log, "pending@k:detached:the daemon closed the connection ");
	HEARD(&two, "pending:detached:the daemon closed the connection ");
	change(&log, "{\"n\":4}");
	fake_listen(&f);
	fake_attach(&f, c);
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":4}"),
		   "{\"outcome\":\"acked\",\"key\":\"l\"}");
	say_result(&f, expect_track(&f, c, "u", "absent", "{\"n\":3}"), "{\"outcome\":\"acked\"}");
	log.heard[0] = '\0';
	fake_flush(&f, c);
	HEARD(&log, "shown@l ");
	/* Ended while away: the next daemon never hears of it. */
	fake_close(&f);
	HEARD(&log, "shown@l pending@l:detached:the daemon closed the connection ");
	rtb_untrack(log.tracker);
	fake_listen(&f);
	fake_attach(&f, c);
	expect_track(&f, c, "u", "absent", "{\"n\":3}");
	marker(&f, c);
	end(&f, c);
}
END_TEST

START_TEST(ended_and_begun_again)
{
	struct rtb_client *c;
	struct log log, again = { 0 };
	struct rtbp_msg m;
	struct fake f;
	uint32_t id;

	c = shown_client(&f, &log);
	change(&log, "{\"n\":2}");
	id = expect_track(&f, c, "t", "absent", "{\"n\":2}");
	/* With a question open. */
	ck_assert_ptr_null(rtb_untrack(log.tracker));
	show(c, &again, "t", "me", "{\"n\":3}");
	m = fake_expect(&f, c, RTBP_M_UNTRACK);
	ck_assert(field_text(m.params, RTBP_F_TOPIC, "t"));
	ck_assert_str_eq(field_json(m.params, RTBP_F_PRIVATE), "false");
	say_result(&f, id, "{\"outcome\":\"acked\",\"key\":\"k\"}");
	rtbp_msg_put_error(&f.out, m.id, RTBP_E_NOT_SUBSCRIBED, NULL, -1);
	say_result(&f, expect_track(&f, c, "t", "\"me\"", "{\"n\":3}"),
		   "{\"outcome\":\"acked\",\"key\":\"me\"}");
	fake_flush(&f, c);
	HEARD(&again, "shown@me ");
	ck_assert_str_eq(log.heard, "");
	marker(&f, c);
	end(&f, c);
}
END_TEST

static void end_both(struct log *log)
{
	log->tracker = rtb_untrack(log->tracker);
	log->other->tracker = rtb_untrack(log->other->tracker);
	show(log->c, log, "t", NULL, "{\"n\":9}");
}

static void change_it(struct log *log)
{
	change(log, "{\"n\":5}");
}

START_TEST(changed_in_callbacks)
{
	struct rtb_client *c;
	struct log log, two = { 0 };
	struct fake f;

	c = shown_client(&f, &log);
	change(&log, "{\"n\":4}");
	log.act = change_it;
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":4}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "shown@k ");
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_PENDING);
	show(c, &two, "u", NULL, "{}");
	log.act = end_both;
	log.other = &two;
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":5}"), "{\"outcome\":\"acked\"}");
	say_result(&f, expect_track(&f, c, "u", "absent", "{}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	fake_expect(&f, c, RTBP_M_UNTRACK);
	fake_expect(&f, c, RTBP_M_UNTRACK);
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":9}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "shown@k shown@k shown ");
	ck_assert_str_eq(two.heard, "");
	end(&f, c);
}
END_TEST

static void end_it(struct log *log)
{
	log->tracker = rtb_untrack(log->tracker);
}

START_TEST(waiting)
{
	struct log log = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = attached(&f);
	show(c, &log, "t", NULL, "{}");
	ck_assert_int_eq(rtb_wait_shown(log.tracker, 0), RTB_E_TIMEOUT);
	log.act = end_it;
	say_result(&f, expect_track(&f, c, "t", "absent", "{}"), "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_shown(log.tracker, 60000), -ECANCELED);
	ck_assert_ptr_null(log.tracker);
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_track");
	TCase *t = tcase_create("track");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, shown_and_changed);
	tcase_add_test(t, throttled_is_asked_again);
	tcase_add_test(t, for_now_is_not_for_good);
	tcase_add_test(t, refused);
	tcase_add_test(t, refused_later);
	tcase_add_test(t, over_a_restart_of_the_daemon);
	tcase_add_test(t, ended_and_begun_again);
	tcase_add_test(t, changed_in_callbacks);
	tcase_add_test(t, waiting);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
