/* SPDX-License-Identifier: MIT */
/* The daemon's session with Supabase Auth: daemon/realtime/refresh.h. */
#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/refresh.h"
#include "suite.h"

enum { SECOND = 1000 };

static struct refresh *r;
static uint64_t now;
static char recorded[4096];
static uint64_t post_nr;
static int post_result, store_result;
static bool asks_again; /* the keeper wants another one as soon as it has heard */

static void record(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void record(const char *format, ...)
{
	size_t n = strlen(recorded);
	va_list args;

	va_start(args, format);
	vsnprintf(recorded + n, sizeof(recorded) - n, format, args);
	va_end(args);
}

static void check_log(const char *want)
{
	ck_assert_str_eq(recorded, want);
	recorded[0] = '\0';
}

static uint64_t fake_boot(void *ctx)
{
	(void)ctx;
	return now;
}

static uint64_t never_asked(void *ctx)
{
	(void)ctx;
	ck_abort_msg("a clock that stands still in sleep was asked");
	return 0;
}

static int64_t no_wall(void *ctx)
{
	(void)ctx;
	ck_abort_msg("the wall clock was asked");
	return 0;
}

static const struct clock fake_clock = { never_asked, no_wall, NULL, fake_boot };

static int fake_post(void *ctx, uint64_t nr, const void *body, size_t size)
{
	(void)ctx;
	ck_assert_uint_gt(nr, post_nr);
	post_nr = nr;
	record("post%d:%.*s ", (int)nr, (int)size, (const char *)body);
	return post_result;
}

static int fake_store(void *ctx, const struct secret *token)
{
	(void)ctx;
	record("store:%s ", secret_bytes(token));
	return store_result;
}

static void fake_give(void *ctx, uint64_t nr, const struct keeper_news *news)
{
	static const char *const names[] = { "token", "failed", "refused" };

	(void)ctx;
	record("%s%d", names[news->got], (int)nr);
	if (news->got == KEEPER_TOKEN)
		record(":%.*s:%d", (int)news->size, news->token, (int)news->lives_ms);
	if (news->code)
		record("(%s)", news->code);
	if (news->retry_after_s)
		record("+%u", news->retry_after_s);
	record(" ");
	ck_assert_int_eq(news->code != NULL, news->text != NULL);
	ck_assert_ptr_null(news->text ? strstr(news->text, "seed") : NULL);
	if (news->code && strcmp(news->code, "cannot_store") == 0)
		ck_assert_ptr_nonnull(strstr(news->text, "there is room")); /* all of it */
	if (asks_again) {
		asks_again = false;
		ck_assert_int_eq(refresh_fetch(r, nr + 1), 0);
	}
}

static void fake_trouble(void *ctx, const char *code, const char *text)
{
	(void)ctx;
	ck_assert_int_eq(code != NULL, text != NULL);
	record("trouble:%s ", code ? code : "none");
}

static const struct refresh_ops ops = { fake_post, fake_store, fake_give, fake_trouble };

static void setup(void)
{
	now = 5000000;
	recorded[0] = '\0';
	post_nr = 0;
	post_result = store_result = 0;
	asks_again = false;
	r = refresh_new(&fake_clock, &ops, NULL);
	ck_assert_ptr_nonnull(r);
}

static void teardown(void)
{
	r = refresh_free(r);
}

static void set_token(const char *bytes, bool is_stored)
{
	ck_assert_int_eq(refresh_set_token(r, bytes, strlen(bytes), is_stored), 0);
}

static void answer_nr(uint64_t nr, unsigned status, const char *body)
{
	struct gotrue_answer a = { .status = status,
				   .body = body,
				   .size = strlen(body),
				   .whole = true,
				   .text = "no way" };

	refresh_on_answer(r, nr, &a);
}

static void answer(unsigned status, const char *body)
{
	answer_nr(post_nr, status, body);
}

#define TOKENS(access, refresh)                                                                 \
	"{\"access_token\":\"" access "\",\"expires_in\":60,\"refresh_token\":\"" refresh "\"," \
	"\"user\":{}}"
#define POST(nr, token) "post" #nr ":{\"refresh_token\":\"" token "\"} "

static void fetch(uint64_t nr)
{
	ck_assert_int_eq(refresh_fetch(r, nr), 0);
}

/* Steps to the deadline; returns how long that took. */
static uint64_t run_next(void)
{
	uint64_t from = now, at = refresh_deadline(r);

	ck_assert_uint_ne(at, UINT64_MAX);
	if (at > now)
		now = at;
	refresh_tick(r);
	return now - from;
}

/* ---- one after the other ---- */

START_TEST(test_rotation)
{
	ck_assert(!refresh_is_stored(r));
	set_token("seed0", true);
	ck_assert(refresh_is_stored(r));
	ck_assert_uint_eq(refresh_deadline(r), UINT64_MAX);
	refresh_tick(r);
	fetch(1);
	check_log(POST(1, "seed0"));
	answer(200, TOKENS("a1", "r1"));
	check_log("store:r1 token1:a1:60000 ");
	fetch(2);
	answer(200, TOKENS("a2", "r2"));
	check_log(POST(2, "r1") "store:r2 token2:a2:60000 ");
	/* A server that does not rotate. */
	fetch(3);
	answer(200, TOKENS("a3", "r2"));
	check_log(POST(3, "r2") "token3:a3:60000 ");
	ck_assert_uint_eq(refresh_deadline(r), UINT64_MAX);
}
END_TEST

START_TEST(test_no_token)
{
	fetch(7);
	check_log("");
	ck_assert_uint_eq(refresh_deadline(r), now);
	refresh_tick(r);
	check_log("refused7(no_token) ");
	ck_assert_uint_eq(refresh_deadline(r), UINT64_MAX);
	refresh_tick(r);
	check_log("");
	fetch(8);
	set_token("seed0", true); /* just in time */
	check_log(POST(1, "seed0"));
	refresh_tick(r);
	check_log("");
	answer(200, TOKENS("a", "r"));
	check_log("store:r token8:a:60000 ");
}
END_TEST

/* Lost, cut, unreadable: whatever the server has done, it forgives the same token again. */
START_TEST(test_same_token_again)
{
	struct gotrue_answer cut = { .status = 200, .body = "{\"access", .size = 8 };

	set_token("seed0", true);
	fetch(1);
	answer(0, "");
	check_log(POST(1, "seed0") "failed1(no_answer) ");
	fetch(2);
	answer(200, "<html>");
	check_log(POST(2, "seed0") "failed2(bad_answer) ");
	fetch(3);
	refresh_on_answer(r, post_nr, &cut);
	check_log(POST(3, "seed0") "failed3(bad_answer) ");
	fetch(4);
	answer(503, "");
	check_log(POST(4, "seed0") "failed4(server_error) ");
	fetch(5);
	answer(429, "");
	check_log(POST(5, "seed0") "failed5(rate_limited)+60 ");
	fetch(6);
	answer(200, TOKENS("a", "r1"));
	check_log(POST(6, "seed0") "store:r1 token6:a:60000 ");
}
END_TEST

START_TEST(test_denied)
{
	set_token("seed0", true);
	fetch(1);
	answer(400, "{\"error_code\":\"refresh_token_already_used\",\"msg\":\"seed0\"}");
	check_log(POST(1, "seed0") "refused1(login_needed) ");
	/* Somebody asks for it all the same. */
	fetch(2);
	answer(403, "{\"code\":403,\"error_code\":\"bad_jwt\",\"msg\":\"seed0\"}");
	check_log(POST(2, "seed0") "refused2(bad_apikey) ");
	set_token("seed1", true);
	check_log("");
	fetch(3);
	answer(200, TOKENS("a", "r1"));
	check_log(POST(3, "seed1") "store:r1 token3:a:60000 ");
}
END_TEST

/* The gateway in front of Auth takes no key for a while: the session is what it was. */
START_TEST(test_key_refused_for_a_while)
{
	set_token("seed0", true);
	for (uint64_t i = 1; i < 4; i++) {
		fetch(i);
		recorded[0] = '\0';
		answer(401, "{\"message\":\"Invalid API key\"}");
		ck_assert_ptr_nonnull(strstr(recorded, "(bad_apikey)+60 "));
		ck_assert_int_eq(strncmp(recorded, "failed", 6), 0);
		recorded[0] = '\0';
	}
	fetch(4);
	answer(200, TOKENS("a", "r1"));
	check_log(POST(4, "seed0") "store:r1 token4:a:60000 ");
}
END_TEST

START_TEST(test_post_fails)
{
	set_token("seed0", true);
	post_result = -EBUSY;
	ck_assert_int_eq(refresh_fetch(r, 1), -EBUSY);
	check_log(POST(1, "seed0"));
	answer(200, TOKENS("a", "r1")); /* nobody asked */
	ck_assert_uint_eq(refresh_deadline(r), UINT64_MAX);
	check_log("");
	post_result = 0;
	fetch(2);
	answer(200, TOKENS("a", "r1"));
	check_log(POST(2, "seed0") "store:r1 token2:a:60000 ");
}
END_TEST

START_TEST(test_numbers)
{
	set_token("seed0", true);
	answer_nr(0, 200, TOKENS("a", "r1"));
	fetch(1);
	answer_nr(0, 200, TOKENS("a", "r1"));
	answer_nr(2, 200, TOKENS("a", "r1"));
	check_log(POST(1, "seed0"));
	answer(200, TOKENS("a", "r1"));
	check_log("store:r1 token1:a:60000 ");
	answer(200, TOKENS("a", "r2")); /* twice */
	check_log("");
	fetch(2);
	fetch(3); /* what came before is forgotten */
	answer_nr(2, 200, TOKENS("a", "r2"));
	check_log(POST(2, "r1") POST(3, "r1"));
	answer(200, TOKENS("a", "r2"));
	check_log("store:r2 token3:a:60000 ");
}
END_TEST

/* ---- a disk that does not take it ---- */

/* Two steps ahead of the disk are what the server does not forgive: there is one at most. */
START_TEST(test_cannot_store)
{
	static const uint64_t delays[] = { 1, 2, 4, 8, 16, 32, 60, 60 };

	set_token("seed0", true);
	fetch(1);
	store_result = -ENOSPC;
	answer(200, TOKENS("a1", "r1"));
	check_log(POST(1, "seed0") "store:r1 token1:a1:60000(cannot_store) ");
	ck_assert(!refresh_is_stored(r));
	for (size_t i = 0; i < sizeof(delays) / sizeof(*delays); i++) {
		ck_assert_uint_eq(run_next(), delays[i] * SECOND);
		check_log("store:r1 trouble:cannot_store ");
	}
	fetch(2);
	check_log("store:r1 ");
	refresh_tick(r);
	check_log("failed2(cannot_store) ");
	ck_assert_uint_eq(refresh_deadline(r), now + REFRESH_STORE_MAX_MS);
	store_result = 0;
	ck_assert_uint_eq(run_next(), REFRESH_STORE_MAX_MS);
	check_log("store:r1 trouble:none ");
	ck_assert(refresh_is_stored(r));
	ck_assert_uint_eq(refresh_deadline(r), UINT64_MAX);
	fetch(3);
	answer(200, TOKENS("a2", "r2"));
	check_log(POST(2, "r1") "store:r2 token3:a2:60000 ");
}
END_TEST

/* The keeper does not wait for the next attempt. */
START_TEST(test_fetch_stores)
{
	set_token("seed0", true);
	fetch(1);
	store_result = -EIO;
	answer(200, TOKENS("a1", "r1"));
	store_result = 0;
	fetch(2);
	check_log(POST(1, "seed0") "store:r1 token1:a1:60000(cannot_store) "
				   "store:r1 trouble:none " POST(2, "r1"));
	answer(200, TOKENS("a2", "r2"));
	check_log("store:r2 token2:a2:60000 ");
	/* The delays begin anew. */
	fetch(3);
	store_result = -EIO;
	answer(200, TOKENS("a3", "r3"));
	ck_assert_uint_eq(run_next(), SECOND);
}
END_TEST

START_TEST(test_seed_is_not_stored)
{
	set_token("seed0", false);
	ck_assert(!refresh_is_stored(r));
	ck_assert_uint_eq(refresh_deadline(r), now);
	store_result = -EROFS;
	fetch(1);
	refresh_tick(r);
	check_log("store:seed0 failed1(cannot_store) ");
	run_next();
	check_log("store:seed0 trouble:cannot_store ");
	store_result = 0;
	run_next();
	check_log("store:seed0 trouble:none ");
	fetch(2);
	check_log(POST(1, "seed0"));
}
END_TEST

START_TEST(test_somebody_else_stores)
{
	set_token("seed0", true);
	fetch(1);
	store_result = -EROFS;
	answer(200, TOKENS("a1", "r1"));
	recorded[0] = '\0';
	set_token("r1", false);
	ck_assert(!refresh_is_stored(r));
	check_log("");
	set_token("r1", true);
	ck_assert(refresh_is_stored(r));
	check_log("trouble:none ");
	set_token("r1", false); /* it stays so */
	ck_assert(refresh_is_stored(r));
	fetch(2);
	check_log(POST(2, "r1"));
}
END_TEST

/* ---- another login ---- */

START_TEST(test_another_seed_meanwhile)
{
	set_token("seed0", true);
	fetch(1);
	set_token("seed1", true);
	check_log(POST(1, "seed0") POST(2, "seed1"));
	answer_nr(1, 200, TOKENS("a0", "r0"));
	check_log("");
	answer_nr(1, 400, "{\"error_code\":\"session_expired\"}");
	check_log("");
	answer_nr(2, 200, TOKENS("a1", "r1"));
	check_log("store:r1 token1:a1:60000 ");
}
END_TEST

START_TEST(test_the_same_seed_meanwhile)
{
	set_token("seed0", true);
	fetch(1);
	set_token("seed0", true);
	answer(200, TOKENS("a1", "r1"));
	check_log(POST(1, "seed0") "store:r1 token1:a1:60000 ");
}
END_TEST

START_TEST(test_another_seed_cannot_be_posted)
{
	set_token("seed0", true);
	fetch(1);
	post_result = -ENOMEM;
	set_token("seed1", true);
	check_log(POST(1, "seed0") POST(2, "seed1"));
	answer_nr(1, 200, TOKENS("a0", "r0"));
	check_log("");
	run_next();
	check_log("failed1(cannot_fetch) ");
	post_result = 0;
	fetch(2);
	post_result = -ENOMEM;
	set_token("seed2", true);
	post_result = 0;
	set_token("seed3", true); /* before the keeper has heard of it: it need not */
	check_log(POST(3, "seed1") POST(4, "seed2") POST(5, "seed3"));
	refresh_tick(r);
	check_log("");
	answer(200, TOKENS("a", "r"));
	check_log("store:r token2:a:60000 ");
}
END_TEST

/* What could not be stored belongs to a session that nobody wants any more. */
START_TEST(test_another_seed_after_trouble)
{
	set_token("seed0", true);
	fetch(1);
	store_result = -EIO;
	answer(200, TOKENS("a1", "r1"));
	recorded[0] = '\0';
	set_token("seed1", true);
	check_log("trouble:none ");
	ck_assert_uint_eq(refresh_deadline(r), UINT64_MAX);
	fetch(2);
	check_log(POST(2, "seed1"));
	set_token("seed2", false);
	answer(200, TOKENS("a2", "r2")); /* of seed1 */
	refresh_tick(r);
	check_log("store:seed2 failed2(cannot_store) ");
}
END_TEST

/* ---- from inside ---- */

START_TEST(test_keeper_asks_again)
{
	set_token("seed0", true);
	fetch(1);
	asks_again = true;
	answer(200, TOKENS("a1", "r1"));
	check_log(POST(1, "seed0") "store:r1 token1:a1:60000 " POST(2, "r1"));
	asks_again = true;
	store_result = -EIO;
	answer(200, TOKENS("a2", "r2"));
	check_log("store:r2 token2:a2:60000(cannot_store) store:r2 ");
	asks_again = true;
	refresh_tick(r);
	check_log("failed3(cannot_store) store:r2 ");
	store_result = 0;
	refresh_tick(r);
	check_log("failed4(cannot_store) ");
	asks_again = true;
	fetch(5);
	answer(200, TOKENS("a3", "r2"));
	check_log("store:r2 trouble:none " POST(3, "r2") "token5:a3:60000 " POST(4, "r2"));
	ck_assert_ptr_null(refresh_free(NULL));
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("refresh");
	Suite *suite = suite_create("refresh");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_rotation);
	tcase_add_test(tc, test_no_token);
	tcase_add_test(tc, test_same_token_again);
	tcase_add_test(tc, test_denied);
	tcase_add_test(tc, test_key_refused_for_a_while);
	tcase_add_test(tc, test_post_fails);
	tcase_add_test(tc, test_numbers);
	tcase_add_test(tc, test_cannot_store);
	tcase_add_test(tc, test_fetch_stores);
	tcase_add_test(tc, test_seed_is_not_stored);
	tcase_add_test(tc, test_somebody_else_stores);
	tcase_add_test(tc, test_another_seed_meanwhile);
	tcase_add_test(tc, test_the_same_seed_meanwhile);
	tcase_add_test(tc, test_another_seed_cannot_be_posted);
	tcase_add_test(tc, test_another_seed_after_trouble);
	tcase_add_test(tc, test_keeper_asks_again);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
