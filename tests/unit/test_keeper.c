/* SPDX-License-Identifier: MIT */
/* The states of the daemon's own token, and what leads from one to the other:
 * daemon/realtime/keeper.h. */
#include "tests/unit/test_keeper_util.h"

/* ---- from the beginning to the end ---- */

START_TEST(test_life)
{
	struct keeper_status st = status();

	ck_assert_int_eq(st.state, KEEPER_WAITING);
	ck_assert(!st.has_token && !st.is_fetching);
	ck_assert_int_eq(st.ends_in_ms, -1);
	ck_assert_int_eq(st.next_try_ms, -1);
	ck_assert_int_eq(st.since_wall_ms, EPOCH * 1000);
	ck_assert_uint_eq(keeper_deadline(k), UINT64_MAX);
	keeper_tick(k);
	check_log("");
	keeper_start(k);
	check_log("fetch1 [waiting fetching] ");
	ck_assert_int_eq(status().next_try_ms, 0);
	ck_assert_uint_eq(keeper_deadline(k), UINT64_MAX);
	boot += 2 * SECOND;
	got(HOUR, 0);
	check_log("adopt1(3598 s) [good] "); /* it may have been made when the fetch began */
	st = status();
	ck_assert(st.has_token && !st.is_fetching);
	ck_assert_str_eq(st.role, "worker");
	ck_assert_int_eq(st.ends_in_ms, 3598 * SECOND);
	ck_assert_int_eq(st.since_wall_ms, EPOCH * 1000 + 2 * SECOND);
	ck_assert_uint_eq(keeper_deadline(k), boot + (uint64_t)st.next_try_ms);
	ck_assert_str_eq(st.code, "");
	ck_assert_str_eq(st.text, "");
	run_next();
	check_log("renew2 [good fetching] ");
	got(HOUR, 1);
	check_log("adopt2(3600 s) [good] ");
	ck_assert_uint_eq(status().fetches, 2);
	ck_assert_uint_eq(status().failures, 0);
	ck_assert_int_eq(status().since_wall_ms, EPOCH * 1000 + 2 * SECOND);
}
END_TEST

START_TEST(test_late_and_bad)
{
	uint64_t end;

	go_good();
	end = ends_at;
	run_next();
	boot++;
	failed();
	check_log("renew2 [good fetching] [late http] ");
	ck_assert(status().has_token);
	ck_assert_int_eq(status().since_wall_ms, fake_wall(NULL));
	ck_assert_str_eq(status().text, "it did not work");
	while (keeper_deadline(k) < end) {
		run_next();
		if (boot < end)
			failed();
	}
	recorded[0] = '\0';
	ck_assert_int_eq(status().state, KEEPER_LATE);
	run_until(end - 1);
	ck_assert(status().has_token);
	quiet = true;
	run_until(end);
	quiet = false;
	ck_assert_int_eq(status().state, KEEPER_BAD);
	ck_assert(!status().has_token);
	ck_assert_uint_eq(ends_at, 0);
	ck_assert_str_eq(status().code, "http");
	ck_assert_str_eq(status().role, "");
	ck_assert_int_eq(status().ends_in_ms, -1);
	run_next();
	recorded[0] = '\0';
	got(HOUR, 1);
	check_log("adopt3(3600 s) [good] ");
	ck_assert_str_eq(status().code, "");
}
END_TEST

/* Nothing has been said yet of why there is no other when it ends. */
START_TEST(test_ends_while_fetching)
{
	go_good();
	run_next();
	boot = ends_at - 1;
	keeper_tick(k);
	check_log("renew2 [good fetching] ");
	ck_assert_uint_eq(keeper_deadline(k), boot + 1);
	run_next();
	check_log("drop2 [bad fetching expired] ");
	ck_assert_ptr_nonnull(strstr(status().text, "has ended"));
	ck_assert_uint_eq(keeper_deadline(k), UINT64_MAX);
	got(HOUR, 1);
	/* Fetched for the better part of an hour: of that one nothing is left either. */
	ck_assert_int_eq(status().state, KEEPER_GOOD);
	ck_assert_uint_lt(ends_at, boot + HOUR);
}
END_TEST

START_TEST(test_no_first_one)
{
	keeper_start(k);
	failed();
	check_log("fetch1 [waiting fetching] [waiting http] ");
	ck_assert_uint_le(keeper_deadline(k), boot + SECOND);
	run_next();
	check_log("fetch2 [waiting fetching http] ");
	news_token("nonsense", 0);
	check_log("[waiting bad_token] ");
	ck_assert_ptr_nonnull(strstr(status().text, "three parts"));
	run_next();
	got(HOUR, 0);
	check_log("fetch3 [waiting fetching bad_token] adopt1(3600 s) [good] ");
	ck_assert_uint_eq(status().failures, 2);
}
END_TEST

/* ---- numbers ---- */

START_TEST(test_late_answers)
{
	struct keeper_news news = { .got = KEEPER_REFUSED };

	keeper_on_fetched(k, 0, &news);
	keeper_on_fetched(k, 1, &news);
	check_log("");
	keeper_start(k);
	keeper_on_fetched(k, 0, &news);
	keeper_on_fetched(k, 2, &news);
	check_log("fetch1 [waiting fetching] ");
	got(HOUR, 0);
	check_log("adopt1(3600 s) [good] ");
	got(HOUR, 1); /* twice the same number */
	keeper_on_fetched(k, 1, &news);
	check_log("");
	keeper_ask(k, true);
	keeper_on_fetched(k, 1, &news);
	check_log("renew2 [good fetching] ");
	got(HOUR, 2);
	check_log("adopt2(3600 s) [good] ");
}
END_TEST

START_TEST(test_fetch_fails_at_once)
{
	fetch_result = -EAGAIN;
	keeper_start(k);
	check_log("fetch1 [waiting cannot_fetch] ");
	ck_assert_ptr_nonnull(strstr(status().text, strerror(EAGAIN)));
	run_next();
	check_log("fetch2 ");
	fetch_result = 0;
	got(HOUR, 0); /* nobody asked */
	check_log("");
	run_next();
	got(HOUR, 0);
	check_log("fetch3 [waiting fetching cannot_fetch] adopt1(3600 s) [good] ");
	fetch_result = -ENOMEM;
	run_next();
	check_log("renew4 [late cannot_fetch] ");
	ck_assert_uint_eq(status().failures, 3);
}
END_TEST

/* ---- who asks meanwhile ---- */

START_TEST(test_ask)
{
	go_good();
	keeper_ask(k, true);
	keeper_ask(k, true);
	check_log("renew2 [good fetching] ");
	got(HOUR, 1); /* newer than what was asked for */
	check_log("adopt2(3600 s) [good] ");
	keeper_ask(k, true);
	keeper_ask(k, true);
	failed();
	check_log("renew3 [good fetching] renew4 [late fetching http] ");
	failed();
	check_log("[late http] ");
	keeper_ask(k, false);
	check_log("fetch5 [late fetching http] ");
	keeper_ask(k, false);
	keeper_ask(k, true); /* what has changed is more */
	got(HOUR, 2);
	check_log("adopt3(3600 s) fetch6 [good fetching] ");
	keeper_ask(k, true);
	keeper_ask(k, false);
	got(HOUR, 3);
	check_log("adopt4(3600 s) fetch7 ");
	got(HOUR, 4);
	check_log("adopt5(3600 s) [good] ");
}
END_TEST

START_TEST(test_same_bytes_answer_no_ask)
{
	go_good();
	keeper_ask(k, true);
	keeper_ask(k, true);
	got(HOUR, 0);
	check_log("renew2 [good fetching] renew3 ");
	got(HOUR, 0);
	check_log("[good] ");
}
END_TEST

START_TEST(test_changed_source_fails)
{
	go_good();
	keeper_ask(k, false);
	failed();
	run_next();
	check_log("fetch2 [good fetching] [late http] fetch3 [late fetching http] ");
	got(HOUR, 1);
	run_next();
	check_log("adopt2(3600 s) [good] renew4 [good fetching] ");
}
END_TEST

/* ---- denied ---- */

START_TEST(test_denied)
{
	go_good();
	run_next();
	denied();
	check_log("renew2 [good fetching] [denied login_needed] ");
	ck_assert(status().has_token);
	ck_assert_str_eq(status().text, "log in again");
	ck_assert_str_eq(status().role, "worker");
	ck_assert_int_eq(status().next_try_ms, -1);
	ck_assert_uint_eq(keeper_deadline(k), ends_at);
	run_until(boot + DAY);
	check_log("drop2 [denied login_needed] ");
	ck_assert(!status().has_token);
	ck_assert_uint_eq(keeper_deadline(k), UINT64_MAX);
	keeper_ask(k, false);
	check_log("fetch3 [denied fetching login_needed] ");
	failed();
	check_log("[bad http] ");
	run_next();
	denied();
	check_log("fetch4 [bad fetching http] [denied login_needed] ");
	keeper_ask(k, true);
	got(HOUR, 1);
	check_log("renew5 [denied fetching login_needed] adopt3(3600 s) [good] ");
}
END_TEST

START_TEST(test_denied_at_first)
{
	keeper_start(k);
	keeper_ask(k, false);
	denied(); /* what was there before the change */
	check_log("fetch1 [waiting fetching] fetch2 [denied fetching login_needed] ");
	denied();
	check_log("[denied login_needed] ");
	run_until(boot + DAY);
	check_log("");
	fetch_result = -EIO;
	keeper_ask(k, false);
	check_log("fetch3 [waiting cannot_fetch] ");
}
END_TEST

/* The server refuses the token that was left: what is to be done is what the source said. */
START_TEST(test_denied_and_refused)
{
	go_good();
	run_next();
	denied();
	keeper_refused(k, serial, "expired", "by the server");
	check_log("renew2 [good fetching] [denied login_needed] drop2 [denied login_needed] ");
	run_until(boot + DAY);
	check_log("");
}
END_TEST

/* ---- a trouble that is no failure ---- */

START_TEST(test_trouble)
{
	char token[1024];
	struct keeper_news news = { .got = KEEPER_TOKEN,
				    .token = token,
				    .lives_ms = HOUR,
				    .code = "cannot_store",
				    .text = "no\nroom\033[1m" };

	keeper_set_trouble(k, "x", "y"); /* of what? */
	check_log("");
	make_token(EPOCH, EPOCH + 3600, 0, token);
	news.size = strlen(token);
	keeper_start(k);
	keeper_on_fetched(k, nr, &news);
	check_log("fetch1 [waiting fetching] adopt1(3600 s) [good cannot_store] ");
	ck_assert_str_eq(status().text, "no room?[1m");
	keeper_set_trouble(k, "cannot_store", "still not");
	check_log("[good cannot_store] ");
	ck_assert_str_eq(status().text, "still not");
	keeper_set_trouble(k, "cannot_store", "still not");
	check_log("");
	run_next();
	failed();
	check_log("renew2 [good fetching cannot_store] [late http] ");
	run_next();
	got(HOUR, 1);
	check_log("renew3 [late fetching http] adopt2(3600 s) [good] ");
	keeper_set_trouble(k, "cannot_store", "again");
	keeper_set_trouble(k, NULL, NULL);
	check_log("[good cannot_store] [good] ");
	keeper_set_trouble(k, "cannot_store", "again");
	keeper_refused(k, serial, "x", "y");
	got(HOUR, 2);
	check_log("[good cannot_store] drop3 renew4 [bad fetching x] adopt4(3600 s) [good] ");
}
END_TEST

START_TEST(test_free_with_everything)
{
	go_good();
	keeper_refused(k, serial, "x", "y");
	got(HOUR, 1);
	keeper_refused(k, serial, "x", "y");
	run_next();
	got(HOUR, 2);
	keeper_ask(k, true);
	ck_assert_ptr_null(keeper_free(NULL));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_life);
	tcase_add_test(tc, test_late_and_bad);
	tcase_add_test(tc, test_ends_while_fetching);
	tcase_add_test(tc, test_no_first_one);
	tcase_add_test(tc, test_late_answers);
	tcase_add_test(tc, test_fetch_fails_at_once);
	tcase_add_test(tc, test_ask);
	tcase_add_test(tc, test_same_bytes_answer_no_ask);
	tcase_add_test(tc, test_changed_source_fails);
	tcase_add_test(tc, test_denied);
	tcase_add_test(tc, test_denied_at_first);
	tcase_add_test(tc, test_denied_and_refused);
	tcase_add_test(tc, test_trouble);
	tcase_add_test(tc, test_free_with_everything);
}

int main(void)
{
	return run("keeper", add);
}
