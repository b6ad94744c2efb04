/* SPDX-License-Identifier: MIT */
/* The daemon's own token when the server refuses it, or when its source has nothing new:
 * daemon/realtime/keeper.h. */
#include "tests/unit/test_keeper_util.h"

/* ---- refused by the server ---- */

START_TEST(test_refused)
{
	go_good();
	keeper_refused(k, serial, "signature", "it is not signed by this project");
	check_log("drop2 renew2 [bad fetching signature] ");
	ck_assert_str_eq(status().text, "it is not signed by this project");
	keeper_refused(k, 1, "signature", "again");
	keeper_refused(k, serial, "signature", "again");
	check_log("");
	got(HOUR, 1);
	check_log("adopt3(3600 s) [good] ");
	keeper_refused(k, 1, "signature", "again");
	check_log(""); /* of the one before */
}
END_TEST

static void check_slow(unsigned n)
{
	uint64_t want = (uint64_t)KEEPER_SLOW_MIN_MS << n;

	ck_assert_uint_eq(run_next(), want < KEEPER_SLOW_MAX_MS ? want : KEEPER_SLOW_MAX_MS);
}

START_TEST(test_refused_again_and_again)
{
	go_good();
	for (unsigned n = 0; n < 10; n++) {
		keeper_refused(k, serial, NULL, NULL);
		ck_assert_str_eq(status().code, "refused");
		if (n > 0)
			check_slow(n - 1);
		ck_assert(status().is_fetching);
		boot += 2 * SECOND;
		got(HOUR, 1 + n);
		boot += SECOND;
	}
	/* Good for long enough: the next refusal is the first one again. */
	boot += KEEPER_SLOW_MAX_MS - SECOND;
	keeper_refused(k, serial, "x", "y");
	ck_assert(status().is_fetching);
	got(HOUR, 100);
	keeper_refused(k, serial, "x", "y");
	ck_assert(!status().is_fetching);
	check_slow(0);
	/* So it is when the source changes. */
	got(HOUR, 101);
	keeper_refused(k, serial, "x", "y");
	keeper_ask(k, false);
	got(HOUR, 102);
	keeper_refused(k, serial, "x", "y");
	ck_assert(status().is_fetching);
}
END_TEST

START_TEST(test_refused_and_the_same_bytes)
{
	go_good();
	boot += SECOND;
	keeper_refused(k, serial, "x", "y");
	for (unsigned n = 0; n < 8; n++) {
		recorded[0] = '\0';
		first_again();
		check_log("[bad refused] ");
		ck_assert_ptr_nonnull(strstr(status().text, "the same token again"));
		ck_assert_ptr_nonnull(strstr(status().text, "(y): it must give another one"));
		check_slow(n);
	}
	failed();
	ck_assert_uint_le((uint64_t)status().next_try_ms, 1000);
	run_next();
	recorded[0] = '\0';
	got(HOUR, 1);
	check_log("adopt3(3600 s) [good] ");
}
END_TEST

START_TEST(test_refused_while_fetching)
{
	go_good();
	run_next();
	keeper_refused(k, serial, "x", "y");
	check_log("renew2 [good fetching] drop2 [bad fetching x] ");
	first_again(); /* the source's cache */
	check_log("[bad refused] ");
	check_slow(0);
	got(HOUR, 1);
	ck_assert_int_eq(status().state, KEEPER_GOOD);
	keeper_refused(k, serial, "x", "y");
	ck_assert(!status().is_fetching);
}
END_TEST

/* ---- a source that has nothing new ---- */

START_TEST(test_not_renewed)
{
	go_good();
	keeper_ask(k, true);
	got(HOUR, 0);
	check_log("renew2 [good fetching] [good] ");
	run_next();
	recorded[0] = '\0';
	/* A command that keeps its token until the last moment. */
	while (boot < ends_at - MINUTE) {
		first_again();
		ck_assert_int_eq(status().state, KEEPER_LATE);
		ck_assert_str_eq(status().code, "not_renewed");
		ck_assert_uint_eq(run_next(), KEEPER_REST_MS);
	}
	failed();
	while (keeper_deadline(k) < ends_at) {
		run_next();
		failed();
	}
	ck_assert(status().has_token);
}
END_TEST

/* At its end it is asked at once, and what has ended is not taken again, whatever it says of itself:
 * of a token so short-lived the wall clock alone could not tell. */
START_TEST(test_spent)
{
	char token[1024];
	uint64_t end;

	keeper_start(k);
	make_token(EPOCH, EPOCH + 90, 0, token);
	news_token(token, 0);
	end = ends_at;
	check_log("fetch1 [waiting fetching] adopt1(90 s) [good] ");
	run_next();
	news_token(token, 0);
	check_log("renew2 [good fetching] [late not_renewed] ");
	ck_assert_uint_eq(keeper_deadline(k), end);
	run_next();
	check_log("drop2 renew3 [bad fetching not_renewed] ");
	ck_assert_uint_eq(boot, end);
	news_token(token, 0);
	check_log("[bad bad_token] ");
	ck_assert_ptr_nonnull(strstr(status().text, "has ended"));
	run_next();
	got(HOUR, 1);
	ck_assert_int_eq(status().state, KEEPER_GOOD);
}
END_TEST

START_TEST(test_watched)
{
	char want[64];
	uint64_t lead;

	teardown();
	conf.is_watched = true;
	make_keeper();
	go_good();
	lead = keeper_deadline(k);
	boot += 10 * MINUTE;
	keeper_ask(k, false); /* the file was touched */
	first_again();
	check_log("fetch2 [good fetching] [good] ");
	ck_assert_uint_eq(keeper_deadline(k), lead);
	run_next();
	check_log("renew3 [good fetching] ");
	for (;;) {
		first_again();
		check_log("[good] "); /* it is early enough */
		ck_assert_uint_le(run_next(), KEEPER_REST_MS);
		if (!status().has_token)
			break;
		snprintf(want, sizeof(want), "renew%d [good fetching] ", (int)nr);
		check_log(want);
	}
	ck_assert_uint_gt(nr, 6);
	ck_assert_int_eq(status().state, KEEPER_BAD);
	ck_assert_str_eq(status().code, "expired");
	recorded[0] = '\0';
	first_again();
	check_log("[bad bad_token] ");
	keeper_ask(k, false); /* now it was written */
	boot += 100;
	got(HOUR, 1);
	ck_assert_int_eq(status().state, KEEPER_GOOD);
	ck_assert_uint_gt(keeper_deadline(k), boot + HOUR / 2);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_refused);
	tcase_add_test(tc, test_refused_again_and_again);
	tcase_add_test(tc, test_refused_and_the_same_bytes);
	tcase_add_test(tc, test_refused_while_fetching);
	tcase_add_test(tc, test_not_renewed);
	tcase_add_test(tc, test_spent);
	tcase_add_test(tc, test_watched);
}

int main(void)
{
	return run("keeper_refused", add);
}
