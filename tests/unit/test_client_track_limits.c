/* SPDX-License-Identifier: MIT */
/* librtbridge: states, keys, frames and queues at their limits. */
#include "test_client_log.h"
#include "suite.h"

/* {"k":"aaa..."} with `n` letters. */
static char *long_state(size_t n, char letter)
{
	char *json = malloc(n + 9);

	ck_assert_ptr_nonnull(json);
	memcpy(json, "{\"k\":\"", 6);
	memset(json + 6, letter, n);
	memcpy(json + 6 + n, "\"}", 3);
	return json;
}

START_TEST(limits)
{
	static const uint8_t nan_map[] = { 0x81, 0xa1, 'k', 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0 };
	static const uint8_t nil[] = { 0xc0 }, half[] = { 0x81, 0xa1 },
			     bin[] = { 0x81, 0xa1, 'k', 0xc4, 0 };
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;
	struct rtbp_buf quotes = RTBP_BUF_INIT;
	char text[RTBP_STATE_MAX / 2], *json;
	struct rtb_tracker *tr = NULL;
	struct rtb_client *c;
	struct log log;
	struct fake f;
	int r;

	memset(text, '"', sizeof(text));

	c = shown_client(&f, &log);
	ck_assert_int_eq(rtb_track_json(c, "t", "{}", 2, NULL, &tr), -EEXIST);
	ck_assert_int_eq(rtb_track_json(c, "", "{}", 2, NULL, &tr), RTB_E_TOPIC);
	ck_assert_int_eq(rtb_track_json(c, "u", "[]", 2, NULL, &tr), RTB_E_PAYLOAD);
	ck_assert_int_eq(rtb_track_json(c, "u", "{", 1, NULL, &tr), RTB_E_PAYLOAD);
	ck_assert_int_eq(rtb_track(c, "u", nil, sizeof(nil), NULL, &tr), RTB_E_PAYLOAD);
	ck_assert_int_eq(rtb_track(c, "u", half, sizeof(half), NULL, &tr), RTB_E_PAYLOAD);
	ck_assert_int_eq(rtb_track(c, "u", bin, sizeof(bin), NULL, &tr), RTB_E_PAYLOAD);
	ck_assert_int_eq(rtb_track(c, "u", nan_map, sizeof(nan_map), NULL, &tr), RTB_E_PAYLOAD);
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "$.k"));
	o.key = "rtbridge:x";
	ck_assert_int_eq(rtb_track_json(c, "u", "{}", 2, &o, &tr), RTB_E_KEY);
	o.key = NULL;
	o.size = 1;
	ck_assert_int_eq(rtb_track_json(c, "u", "{}", 2, &o, &tr), -EINVAL);
	ck_assert_ptr_null(tr);
	ck_assert_ptr_null(rtb_untrack(NULL));
	/* As JSON it may have 64 KiB, not a byte more; escapes count. */
	json = long_state(RTBP_STATE_MAX - 7, 'a');
	ck_assert_int_eq(rtb_track_update_json(log.tracker, json, (size_t)-1), RTB_E_TOO_BIG);
	free(json);
	rtbp_pack_map(&quotes, 1);
	rtbp_pack_text(&quotes, "k");
	rtbp_pack_str(&quotes, text, sizeof(text));
	ck_assert_int_eq(rtb_track_update(log.tracker, quotes.data, quotes.size), RTB_E_TOO_BIG);
	rtbp_buf_done(&quotes);
	json = long_state(RTBP_STATE_MAX, 'a');
	ck_assert_int_eq(rtb_track_json(c, "u", json, (size_t)-1, NULL, &tr), RTB_E_TOO_BIG);
	free(json);
	ck_assert_int_eq(rtb_tracker_state(log.tracker), RTB_TRACK_SHOWN);
	ck_assert(fake_is_quiet(&f, c));
	json = long_state(RTBP_STATE_MAX - 8, 'a');
	r = rtb_track_update_json(log.tracker, json, (size_t)-1);
	ck_assert_int_eq(r, 0);
	free(json);
	fake_expect(&f, c, RTBP_M_TRACK);
	end(&f, c);
}
END_TEST

START_TEST(larger_than_the_frames_of_the_daemon)
{
	struct log log = { 0 };
	struct rtb_client *c;
	struct fake f;
	char *json;

	fake_start(&f);
	f.frame_bytes = 2000;
	c = fake_client(&f, NULL);
	json = long_state(3000, 'a');
	show(c, &log, "t", NULL, json);
	free(json);
	fake_attach(&f, c);
	UNTIL(c, strncmp(log.heard, "refused:too_big:", 16) == 0);
	rtb_untrack(log.tracker);
	marker(&f, c);
	end(&f, c);
}
END_TEST

START_TEST(a_full_queue)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct log log = { 0 };
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	o.send_queue_bytes = 1;
	c = fake_client(&f, &o);
	fake_attach(&f, c);
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	/* Neither fits behind that; both are sent when there is room, in order. */
	show(c, &log, "t", NULL, "{\"n\":1}");
	fake_expect(&f, c, RTBP_M_BROADCAST);
	expect_track(&f, c, "t", "absent", "{\"n\":1}");
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	rtb_untrack(log.tracker);
	show(c, &log, "t", NULL, "{\"n\":2}");
	fake_expect(&f, c, RTBP_M_BROADCAST);
	fake_expect(&f, c, RTBP_M_UNTRACK);
	expect_track(&f, c, "t", "absent", "{\"n\":2}");
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_track_limits");
	TCase *t = tcase_create("track");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, limits);
	tcase_add_test(t, larger_than_the_frames_of_the_daemon);
	tcase_add_test(t, a_full_queue);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
