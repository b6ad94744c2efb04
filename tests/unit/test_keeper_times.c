/* SPDX-License-Identifier: MIT */
/* When the daemon's own token is renewed, and for how long it is believed to live:
 * daemon/realtime/keeper.h. */
#include "tests/unit/test_keeper_util.h"

/* ---- the lead ---- */

static const struct {
	uint64_t life_s, from_s, to_s; /* renewed at this age */
} leads[] = {
	{ 3600, 3600 - 360 - 60, 3600 - 360 }, /* a tenth */
	{ 86400, 86400 - 8640 - 60, 86400 - 8640 },
	{ 1200, 1200 - 120 - 60, 1200 - 120 }, /* lead_ms */
	{ 600, 600 - 120 - 60, 600 - 120 },
	{ 320, 160, 200 }, /* never in the first half */
	{ 240, 120, 120 },
	{ 60, 30, 30 },
	{ 4, 2, 2 },
	{ 2, 1, 1 },
	{ 1, 1, 1 }, /* not more often than once in a second */
};

START_TEST(test_lead)
{
	uint64_t life = leads[_i].life_s * SECOND, least = UINT64_MAX, most = 0, age;

	quiet = true;
	keeper_start(k);
	for (unsigned n = 0; n < 600; n++) {
		got(life, n);
		ck_assert_int_eq(status().state, KEEPER_GOOD);
		age = run_next();
		ck_assert(status().is_fetching || leads[_i].life_s == 1);
		ck_assert_uint_ge(age * 2, life);
		least = age < least ? age : least;
		most = age > most ? age : most;
		if (!status().is_fetching)
			run_next();
	}
	ck_assert_uint_ge(least, leads[_i].from_s * SECOND);
	ck_assert_uint_le(most, leads[_i].to_s * SECOND);
	/* All of the span is used. */
	ck_assert_uint_le((least - leads[_i].from_s * SECOND) * 50,
			  (leads[_i].to_s - leads[_i].from_s) * SECOND);
	ck_assert_uint_le((leads[_i].to_s * SECOND - most) * 50,
			  (leads[_i].to_s - leads[_i].from_s) * SECOND + 50 * SECOND);
}
END_TEST

/* ---- delays after failures ---- */

/* Each as a share of its ceiling: never more than all of it, half of it in the mean. */
START_TEST(test_backoff)
{
	static const uint64_t ceilings[] = { 1000,  2000,  4000,  8000, 16000,
					     30000, 30000, 30000, 30000 };
	double sum = 0;
	unsigned n = 0;
	uint64_t delay, before;

	quiet = true;
	go_good();
	for (unsigned series = 0; series < 300; series++) {
		keeper_ask(k, true);
		before = SECOND;
		for (unsigned i = 0; i < sizeof(ceilings) / sizeof(*ceilings); i++) {
			failed();
			delay = (uint64_t)status().next_try_ms;
			ck_assert_uint_le(delay, ceilings[i]);
			/* Never two at once. */
			ck_assert(delay >= SECOND / 2 || before >= SECOND / 2);
			before = delay;
			sum += (double)delay / (double)ceilings[i];
			n++;
			run_next();
		}
		failed();
		ck_assert_int_eq(status().next_try_ms, KEEPER_REST_MS);
		run_next();
		failed();
		ck_assert_int_le(status().next_try_ms, SECOND);
		run_next();
		got(HOUR, series);
	}
	ck_assert_double_gt(sum / n, 0.47);
	ck_assert_double_lt(sum / n, 0.53);
}
END_TEST

START_TEST(test_retry_after)
{
	go_good();
	keeper_ask(k, true);
	failed_after("rate_limited", 60);
	ck_assert_int_ge(status().next_try_ms, 60 * SECOND);
	ck_assert_int_le(status().next_try_ms, 61 * SECOND);
	run_next();
	failed_after("rate_limited", 1000000);
	ck_assert_int_ge(status().next_try_ms, 3600 * SECOND);
	ck_assert_int_le(status().next_try_ms, 3602 * SECOND);
	run_next(); /* the end of the token does not call for another one before */
	check_log("renew2 [good fetching] [late rate_limited] renew3 [late fetching rate_limited] "
		  "[late rate_limited] drop2 [bad rate_limited] ");
	ck_assert_int_gt(status().next_try_ms, 0);
	/* In the place of the rest after ten of them. */
	keeper_ask(k, true);
	for (unsigned i = 0; i < 8; i++) {
		ck_assert(status().is_fetching);
		failed_after("rate_limited", i < 7 ? 0 : 300);
		if (i < 7)
			run_next();
	}
	ck_assert_int_ge(status().next_try_ms, 300 * SECOND);
}
END_TEST

/* ---- sleep ---- */

static void sleep_until(uint64_t at)
{
	slept += at - boot;
	boot = at;
}

START_TEST(test_sleeps_over_the_lead)
{
	go_good();
	sleep_until(ends_at - 90 * SECOND);
	keeper_tick(k);
	check_log("renew2 [good fetching] ");
	ck_assert_int_eq(status().ends_in_ms, 90 * SECOND);
	got(HOUR, 1);
	check_log("adopt2(3600 s) [good] ");
}
END_TEST

START_TEST(test_sleeps_over_the_end)
{
	go_good();
	sleep_until(ends_at + 5 * HOUR);
	keeper_tick(k);
	check_log("drop2 renew2 [bad fetching expired] ");
	got(HOUR, 1);
	check_log("adopt3(3600 s) [good] ");
}
END_TEST

START_TEST(test_sleeps_over_a_delay)
{
	go_good();
	keeper_ask(k, true);
	failed();
	sleep_until(boot + 30 * SECOND);
	recorded[0] = '\0';
	keeper_tick(k);
	check_log("renew3 [late fetching http] ");
}
END_TEST

/* The answer lay in the socket for all the night: what it brought is over. */
START_TEST(test_sleeps_over_an_answer)
{
	char token[1024];

	go_good();
	run_next();
	make_token(true_ms() / 1000, true_ms() / 1000 + 3600, 1, token);
	sleep_until(boot + 8 * HOUR);
	keeper_tick(k);
	news_token(token, HOUR);
	check_log("renew2 [good fetching] drop2 [bad fetching expired] [bad bad_token] ");
	run_next();
	got(HOUR, 2);
	check_log("renew3 [bad fetching bad_token] adopt3(3600 s) [good] ");
}
END_TEST

/* ---- clocks that are wrong ---- */

static const int64_t skews[] = { 0,
				 10 * MINUTE,
				 -10 * MINUTE,
				 30 * MINUTE,
				 -5 * HOUR,
				 -EPOCH * 1000,
				 (int64_t)365 * 24 * HOUR };

/* With what the source says the wall clock has no say. */
START_TEST(test_skew_of_a_session)
{
	wall_off = skews[_i];
	keeper_start(k);
	for (unsigned n = 0; n < 10; n++) {
		got(HOUR, n);
		ck_assert_int_eq(status().state, KEEPER_GOOD);
		ck_assert_uint_eq(ends_at, boot + HOUR);
		run_next();
		ck_assert(status().is_fetching);
		wall_off += n % 2 ? -7 * HOUR : 7 * HOUR; /* somebody sets it */
	}
}
END_TEST

static const struct {
	const char *what;
	int64_t skew_s, age_s, life_s; /* life_s below 0: no iat */
	int64_t want_s;                /* 0: refused as ended */
} files[] = {
	{ "a right clock", 0, 0, 3600, 3600 },
	{ "a right clock, an old file", 0, 3000, 3600, 600 },
	{ "a right clock, a file of 9 minutes", 0, 540, 3600, 3060 },
	{ "a right clock, ended", 0, 3601, 3600, 0 },
	{ "a right clock, ended now", 0, 3600, 3600, 0 },
	{ "ahead, new", 600, 0, 3600, 3000 },
	{ "ahead, new and short", 599, 0, 300, 300 },
	{ "ahead by too much, short", 601, 0, 300, 0 },
	{ "ahead, half of it gone", 600, 1800, 3600, 1200 },
	{ "ahead by half an hour", 1800, 0, 3600, 1800 },
	{ "ahead by two hours", 7200, 0, 3600, 0 },
	{ "late, new", -600, 0, 3600, 3600 },
	{ "late, new and short", -600, 0, 60, 60 },
	{ "late, older than it is late", -600, 900, 3600, 3300 },
	{ "1970", -EPOCH + 30, 0, 3600, 3600 },
	{ "no iat", 0, 1000, -3600, 2600 },
	{ "no iat, ahead", 600, 0, -3600, 3000 },
	{ "no iat, late", -600, 0, -3600, 4200 },
	{ "no iat, ended", 600, 0, -300, 0 },
	{ "100 years", 0, 10, INT64_C(3155760000), INT64_C(3155760000) - 10 },
	{ "100 years, no iat", 0, 10, -INT64_C(3155760000), INT64_C(3155760000) - 10 },
	{ "ended before it was made", 0, 0, 0, 0 },
};

/* What a file or a command gives says of itself how long it lives. */
START_TEST(test_files)
{
	int64_t life = files[_i].life_s, iat = EPOCH - files[_i].age_s;
	char token[1024];

	wall_off = files[_i].skew_s * 1000;
	make_token(life < 0 ? -1 : iat, iat + (life < 0 ? -life : life), 0, token);
	keeper_start(k);
	news_token(token, 0);
	if (files[_i].want_s) {
		ck_assert_msg(ends_at == boot + (uint64_t)files[_i].want_s * SECOND,
			      "%s: %" PRId64 " s", files[_i].what,
			      (int64_t)(ends_at - boot) / SECOND);
		run_next();
		ck_assert(status().is_fetching);
		return;
	}
	ck_assert_msg(status().state == KEEPER_WAITING, "%s", files[_i].what);
	ck_assert_str_eq(status().code, "bad_token");
	ck_assert_ptr_nonnull(strstr(status().text, "has ended"));
	ck_assert_ptr_nonnull(strstr(status().text, "clock"));
}
END_TEST

/* A restart with a file that is younger than the ten minutes for which `iat` may count: the renewal
 * must come before its end, not ten minutes after. */
START_TEST(test_young_file)
{
	char token[1024];
	uint64_t end;

	for (int64_t age = 0; age <= 1200; age += 30) {
		make_token(EPOCH - age, EPOCH - age + 3600, 0, token);
		boot = START;
		end = boot + (uint64_t)(3600 - age) * SECOND;
		teardown();
		nr = serial = 0;
		make_keeper();
		keeper_start(k);
		news_token(token, 0);
		run_next();
		ck_assert(status().is_fetching);
		ck_assert_uint_le(boot + LEAD, end);
	}
}
END_TEST

/* ---- what the source says, and what the token says ---- */

static const struct {
	const char *claims;
	uint64_t lives_ms, want_ms; /* 0: refused */
} claims[] = {
	{ "\"iat\":1800000000,\"exp\":1800003600", 1800 * SECOND, 1800 * SECOND },
	/* A hook made it shorter than the answer says. */
	{ "\"iat\":1800000000,\"exp\":1800000600", HOUR, 600 * SECOND },
	{ "\"iat\":1800000000.0,\"exp\":1800000600", HOUR, 600 * SECOND },
	{ "\"iat\":1800000000.5,\"exp\":1800000600", HOUR, 599500 },
	{ "\"iat\":1800000000.50,\"exp\":1800000600", HOUR, 599500 }, /* kept as text */
	/* What is no time is none. */
	{ "\"iat\":\"1800000000\",\"exp\":1800000600", HOUR, HOUR },
	{ "\"iat\":null,\"exp\":1800000600", HOUR, HOUR },
	{ "\"iat\":-1,\"exp\":1800000600", HOUR, HOUR },
	{ "\"iat\":1e300,\"exp\":1800000600", HOUR, HOUR },
	{ "\"iat\":1e400,\"exp\":1800000600", HOUR, HOUR },
	{ "\"iat\":1800000000.50000000000000000000000000000000000000000000000000000000000000,"
	  "\"exp\":1800000600",
	  HOUR, HOUR },
	{ "\"iat\":1800000601,\"exp\":1800000600", HOUR, HOUR },
	{ "\"iat\":1800000601,\"exp\":1800000600", 0, 600 * SECOND },
	{ "\"iat\":0,\"exp\":1e300", UINT64_MAX, 0 }, /* see the test */
	{ "\"exp\":1700000000", HOUR, HOUR },         /* by a clock that is not ours */
};

START_TEST(test_claims)
{
	uint64_t want = claims[_i].want_ms;
	char token[1024], payload[512];

	snprintf(payload, sizeof(payload), "{%s,\"role\":\"worker\"}", claims[_i].claims);
	make_token_of("{\"alg\":\"ES256\"}", payload, token);
	keeper_start(k);
	news_token(token, claims[_i].lives_ms);
	ck_assert_int_eq(status().state, KEEPER_GOOD);
	if (!want)
		want = (uint64_t)JWT_EXP_MAX * 1000;
	ck_assert_uint_eq(ends_at, boot + want);
}
END_TEST

/* ---- tokens that are none ---- */

static const struct {
	const char *header, *payload, *words;
} wrong[] = {
	{ "{\"alg\":\"HS256\"}", "{\"role\":\"worker\"}", "exp" },
	{ "{\"alg\":\"HS256\"}", "{\"role\":\"worker\",\"exp\":\"soon\"}", "no number" },
	{ "{\"alg\":\"HS256\"}", "{\"role\":\"worker\",\"exp\":-5}", "has expired" },
	{ "{\"alg\":\"HS256\"}", "{\"exp\":1800000600}", "role" },
	{ "{\"alg\":\"none\"}", "{\"role\":\"worker\",\"exp\":1800000600}", "not signed" },
	{ "{}", "{\"role\":\"worker\",\"exp\":1800000600}", "alg" },
	{ "{\"alg\":\"HS256\"}", "[]", "JSON object" },
};

START_TEST(test_wrong)
{
	static const char large[1024 * 1024];
	char token[1024];

	make_token_of(wrong[_i].header, wrong[_i].payload, token);
	go_good();
	keeper_ask(k, true);
	recorded[0] = '\0';
	news_token(token, HOUR);
	check_log("[late bad_token] ");
	ck_assert_ptr_nonnull(strstr(status().text, wrong[_i].words));
	ck_assert(status().has_token);
	run_next();
	keeper_on_fetched(k, nr,
			  &(struct keeper_news){
				  .got = KEEPER_TOKEN, .token = large, .size = sizeof(large) });
	ck_assert_ptr_nonnull(strstr(status().text, "8192 bytes"));
	run_next();
	news_token("sb_secret_abc", 0);
	ck_assert_ptr_nonnull(strstr(status().text, "API key"));
	run_next();
	keeper_on_fetched(k, nr, &(struct keeper_news){ .got = KEEPER_TOKEN, .token = "" });
	ck_assert_ptr_nonnull(strstr(status().text, "is empty"));
	ck_assert_uint_eq(status().failures, 4);
	run_next();
	got(HOUR, 1);
	ck_assert_int_eq(status().state, KEEPER_GOOD);
}
END_TEST

START_TEST(test_names)
{
	ck_assert_str_eq(keeper_state_name(KEEPER_WAITING), "waiting");
	ck_assert_str_eq(keeper_state_name(KEEPER_GOOD), "good");
	ck_assert_str_eq(keeper_state_name(KEEPER_LATE), "late");
	ck_assert_str_eq(keeper_state_name(KEEPER_BAD), "bad");
	ck_assert_str_eq(keeper_state_name(KEEPER_DENIED), "denied");
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_lead, 0, ROWS(leads));
	tcase_add_test(tc, test_backoff);
	tcase_add_test(tc, test_retry_after);
	tcase_add_test(tc, test_sleeps_over_the_lead);
	tcase_add_test(tc, test_sleeps_over_the_end);
	tcase_add_test(tc, test_sleeps_over_a_delay);
	tcase_add_test(tc, test_sleeps_over_an_answer);
	tcase_add_loop_test(tc, test_skew_of_a_session, 0, ROWS(skews));
	tcase_add_loop_test(tc, test_files, 0, ROWS(files));
	tcase_add_test(tc, test_young_file);
	tcase_add_loop_test(tc, test_claims, 0, ROWS(claims));
	tcase_add_loop_test(tc, test_wrong, 0, ROWS(wrong));
	tcase_add_test(tc, test_names);
}

int main(void)
{
	return run("keeper_times", add);
}
