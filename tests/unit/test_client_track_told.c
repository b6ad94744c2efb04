/* SPDX-License-Identifier: MIT */
/* librtbridge: `track` notifications, what became of a state that was answered before. */
#include "test_client_log.h"
#include "suite.h"

static void tell(struct fake *f, const char *topic, bool is_private, const char *rest)
{
	char json[256];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":5,\"topic\":\"%s\",\"private\":%s,\"key\":\"k\",%s}", topic,
		       is_private ? "true" : "false", rest);
	say_notice(f, RTBP_N_TRACK, json);
}

#define QUEUED "\"outcome\":\"queued\",\"text\":\"away\""
#define ACKED  "\"outcome\":\"acked\""

START_TEST(hidden_and_shown_again)
{
	struct rtb_client *c;
	struct log log;
	struct fake f;

	c = shown_client(&f, &log);
	tell(&f, "t", false, QUEUED);
	fake_flush(&f, c);
	HEARD(&log, "pending@k:queued:away ");
	ck_assert_int_eq(rtb_wait_shown(log.tracker, 0), RTB_E_TIMEOUT);
	/* The daemon does it by itself; saying it twice changes nothing. */
	marker(&f, c);
	tell(&f, "t", false, ACKED);
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	HEARD(&log, "pending@k:queued:away shown@k ");
	ck_assert_int_eq(rtb_wait_shown(log.tracker, 60000), 0);
	/* Words that this library does not know, and notices that are none. */
	tell(&f, "t", false, "\"outcome\":\"later\"");
	tell(&f, "t", false, "\"outcome\":7");
	tell(&f, "u", false, QUEUED);
	say_notice(&f, RTBP_N_TRACK, "{\"chan\":5,\"outcome\":\"queued\"}");
	fake_flush(&f, c);
	marker(&f, c);
	ck_assert_str_eq(log.heard, "pending@k:queued:away shown@k ");
	/* The tracker may get another key with another join. */
	say_notice(&f, RTBP_N_TRACK,
		   "{\"topic\":\"t\",\"private\":false,\"key\":\"l\",\"outcome\":\"queued\"}");
	fake_flush(&f, c);
	HEARD(&log, "pending@k:queued:away shown@k pending@l:queued ");
	end(&f, c);
}
END_TEST

START_TEST(no_question_is_left)
{
	struct rtb_client *c;
	struct log log, two = { 0 };
	struct fake f;

	c = shown_client(&f, &log);
	change(&log, "{\"n\":2}");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":2}"),
		   "{\"outcome\":\"throttled\",\"retry_in_ms\":100}");
	fake_flush(&f, c);
	HEARD(&log, "throttled@k ");
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	HEARD(&log, "throttled@k shown@k ");
	/* The other one is told nothing, and asks: at a moment when the first one would have. */
	show(c, &two, "u", NULL, "{}");
	say_result(&f, expect_track(&f, c, "u", "absent", "{}"),
		   "{\"outcome\":\"throttled\",\"retry_in_ms\":101}");
	fake_flush(&f, c);
	expect_track(&f, c, "u", "absent", "{}");
	ck_assert(fake_is_quiet(&f, c));
	/* The same after "queued", and with an interruption before it is shown. */
	change(&log, "{\"n\":3}");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":3}"), "{\"outcome\":\"queued\"}");
	tell(&f, "t", false, QUEUED);
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	HEARD(&log, "throttled@k shown@k pending@k:queued pending@k:queued:away shown@k ");
	UNTIL(c, rtb_client_timeout_ms(c) == -1); /* past the moment of the question */
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(not_about_a_newer_state)
{
	struct rtb_client *c;
	struct log log;
	struct fake f;
	uint32_t id;

	c = shown_client(&f, &log);
	/* The daemon has not read the newer one: its answer is what counts. */
	change(&log, "{\"n\":2}");
	id = expect_track(&f, c, "t", "absent", "{\"n\":2}");
	tell(&f, "t", false, QUEUED);
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	marker(&f, c);
	ck_assert_str_eq(log.heard, "");
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_PENDING);
	/* Nor has it taken it; what it shows is the older one. */
	rtbp_msg_put_error(&f.out, id, RTBP_E_BUSY, "not now", 200);
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	id = expect_track(&f, c, "t", "absent", "{\"n\":2}");
	ck_assert_str_eq(log.heard, "pending@k:busy:not now ");
	say_result(&f, id, "{\"outcome\":\"queued\"}");
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	HEARD(&log, "pending@k:busy:not now pending@k:queued shown@k ");
	marker(&f, c);
	end(&f, c);
}
END_TEST

START_TEST(an_open_question_is_answered)
{
	struct rtb_client *c;
	struct log log;
	struct fake f;
	uint32_t id;

	c = shown_client(&f, &log);
	change(&log, "{\"n\":2}");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":2}"),
		   "{\"outcome\":\"throttled\",\"retry_in_ms\":100}");
	fake_flush(&f, c);
	/* Asked again; what was said before the daemon read that is not the last word. */
	id = expect_track(&f, c, "t", "absent", "{\"n\":2}");
	tell(&f, "t", false, QUEUED);
	fake_flush(&f, c);
	marker(&f, c);
	ck_assert_str_eq(log.heard, "throttled@k ");
	say_result(&f, id, "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	HEARD(&log, "throttled@k shown@k ");
	tell(&f, "t", false, QUEUED);
	fake_flush(&f, c);
	HEARD(&log, "throttled@k shown@k pending@k:queued:away ");
	end(&f, c);
}
END_TEST

START_TEST(not_about_what_is_over)
{
	struct rtb_client *c;
	struct log log;
	struct fake f;
	uint32_t id;

	c = shown_client(&f, &log);
	rtb_untrack(log.tracker);
	show(c, &log, "t", NULL, "{\"n\":3}");
	id = fake_expect(&f, c, RTBP_M_UNTRACK).id;
	tell(&f, "t", false, QUEUED);
	/* The end of the old one, and the new one's first words in one go. */
	say_result(&f, id, "{}");
	say_result(&f, expect_track(&f, c, "t", "absent", "{\"n\":3}"),
		   "{\"outcome\":\"queued\",\"key\":\"m\"}");
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	HEARD(&log, "pending@m:queued shown@k ");
	change(&log, "{\"n\":4}");
	id = expect_track(&f, c, "t", "absent", "{\"n\":4}");
	say_result(&f, id, "{\"outcome\":\"denied\",\"text\":\"policy\"}");
	tell(&f, "t", false, QUEUED);
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	marker(&f, c);
	ck_assert_str_eq(log.heard, "pending@m:queued shown@k refused@k:denied:policy ");
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_REFUSED);
	end(&f, c);
}
END_TEST

START_TEST(of_two_privacies)
{
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;
	struct log log, two = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = shown_client(&f, &log);
	o.is_private = true;
	o.track = on_track;
	o.user = &two;
	two.c = c;
	ck_assert_int_eq(rtb_track_json(c, "t", "{}", 2, &o, &two.tracker), 0);
	say_result(&f, fake_expect(&f, c, RTBP_M_TRACK).id, "{\"outcome\":\"acked\"}");
	tell(&f, "t", true, QUEUED);
	fake_flush(&f, c);
	HEARD(&two, "shown pending@k:queued:away ");
	ck_assert_str_eq(log.heard, "");
	tell(&f, "t", false, QUEUED);
	fake_flush(&f, c);
	HEARD(&log, "pending@k:queued:away ");
	tell(&f, "t", true, ACKED);
	fake_flush(&f, c);
	HEARD(&two, "shown pending@k:queued:away shown@k ");
	ck_assert_str_eq(log.heard, "pending@k:queued:away ");
	end(&f, c);
}
END_TEST

static void end_it(struct log *log)
{
	log->tracker = rtb_untrack(log->tracker);
}

START_TEST(ended_when_told)
{
	struct rtb_client *c;
	struct log log;
	struct fake f;

	c = shown_client(&f, &log);
	log.act = end_it;
	tell(&f, "t", false, QUEUED);
	tell(&f, "t", false, ACKED);
	fake_flush(&f, c);
	fake_expect(&f, c, RTBP_M_UNTRACK);
	ck_assert_str_eq(log.heard, "pending@k:queued:away ");
	ck_assert_ptr_null(log.tracker);
	marker(&f, c);
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_track_told");
	TCase *t = tcase_create("track");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, hidden_and_shown_again);
	tcase_add_test(t, no_question_is_left);
	tcase_add_test(t, not_about_a_newer_state);
	tcase_add_test(t, an_open_question_is_answered);
	tcase_add_test(t, not_about_what_is_over);
	tcase_add_test(t, of_two_privacies);
	tcase_add_test(t, ended_when_told);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
