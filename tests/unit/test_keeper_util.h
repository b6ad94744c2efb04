/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A keeper between clocks that the test moves and recorders: everything that it does goes into one
 * line of text, which check_log() compares and clears. Tokens are made here, too; nobody signs them.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/keeper.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, LEAD = 120 * SECOND };
#define DAY ((uint64_t)24 * HOUR)
/* The true time, in seconds, when `boot` is START. */
#define EPOCH INT64_C(1800000000)
#define START ((uint64_t)5000000)

/* ---- clocks ---- */

static uint64_t boot;    /* goes on in sleep */
static uint64_t slept;   /* so much of it */
static int64_t wall_off; /* how much the wall clock is ahead of the true time, in ms */

static inline uint64_t fake_now(void *ctx)
{
	(void)ctx;
	return boot - slept;
}

static inline uint64_t fake_boot(void *ctx)
{
	(void)ctx;
	return boot;
}

static inline int64_t true_ms(void)
{
	return EPOCH * 1000 + (int64_t)(boot - START);
}

static inline int64_t fake_wall(void *ctx)
{
	(void)ctx;
	return true_ms() + wall_off;
}

static const struct clock fake_clock = { fake_now, fake_wall, NULL, fake_boot };

/* ---- tokens ---- */

static inline size_t base64url(const char *bytes, size_t size, char *to)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789-_";
	uint32_t bits = 0;
	unsigned n_bits = 0;
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		bits = bits << 8 | (uint8_t)bytes[i];
		for (n_bits += 8; n_bits >= 6; n_bits -= 6)
			to[n++] = digits[bits >> (n_bits - 6) & 63];
	}
	if (n_bits > 0)
		to[n++] = digits[bits << (6 - n_bits) & 63];
	to[n] = '\0';
	return n;
}

static inline void make_token_of(const char *header, const char *payload, char *to)
{
	to += base64url(header, strlen(header), to);
	*to++ = '.';
	to += base64url(payload, strlen(payload), to);
	strcpy(to, ".c2lnbmVk");
}

/* Times in seconds; `iat` below 0: none. `n` makes it another one. */
static inline void make_token(int64_t iat, int64_t exp, unsigned n, char *to)
{
	char payload[256], iat_text[48] = "";

	if (iat >= 0)
		snprintf(iat_text, sizeof(iat_text), "\"iat\":%" PRId64 ",", iat);
	snprintf(payload, sizeof(payload), "{%s\"exp\":%" PRId64 ",\"role\":\"worker\",\"n\":%u}",
		 iat_text, exp, n);
	make_token_of("{\"alg\":\"HS256\"}", payload, to);
}

/* ---- the keeper's neighbours ---- */

static struct keeper *k;
static struct keeper_conf conf;
static char recorded[65536];
static uint64_t nr;      /* of the last fetch */
static uint64_t serial;  /* of the last adopt */
static uint64_t ends_at; /* of what was adopted, as it was told; 0: none */
static int fetch_result;
static bool quiet; /* records nothing */

static inline void record(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void record(const char *format, ...)
{
	size_t n = strlen(recorded);
	va_list args;

	if (quiet)
		return;
	va_start(args, format);
	vsnprintf(recorded + n, sizeof(recorded) - n, format, args);
	va_end(args);
	ck_assert_uint_lt(strlen(recorded), sizeof(recorded) - 1);
}

static inline void check_log(const char *want)
{
	ck_assert_str_eq(recorded, want);
	recorded[0] = '\0';
}

static inline int fake_fetch(void *ctx, uint64_t n, bool is_renewal)
{
	(void)ctx;
	ck_assert_uint_eq(n, nr + 1);
	nr = n;
	record("%s%d ", is_renewal ? "renew" : "fetch", (int)n);
	return fetch_result;
}

static inline void fake_adopt(void *ctx, const struct secret *token, const struct jwt *jwt,
			      uint64_t s, uint64_t lives_ms)
{
	(void)ctx;
	ck_assert_uint_gt(s, serial);
	ck_assert_int_eq(token == NULL, jwt == NULL);
	serial = s;
	ends_at = token ? boot + lives_ms : 0;
	if (token) {
		ck_assert_uint_gt(lives_ms, 0);
		ck_assert_str_eq(jwt->role, "worker");
		record("adopt%d(%" PRIu64 " s) ", (int)s, lives_ms / 1000);
	} else {
		record("drop%d ", (int)s);
	}
}

static inline struct keeper_status status(void)
{
	struct keeper_status st;

	keeper_get_status(k, &st);
	return st;
}

static inline void fake_changed(void *ctx)
{
	struct keeper_status st = status();

	(void)ctx;
	record("[%s%s%s%s] ", keeper_state_name(st.state), st.is_fetching ? " fetching" : "",
	       *st.code ? " " : "", st.code);
}

static const struct keeper_ops fake_ops = { fake_fetch, fake_adopt, fake_changed };

static inline void make_keeper(void)
{
	k = keeper_new(&conf, &fake_clock, &fake_ops, NULL);
	ck_assert_ptr_nonnull(k);
}

static inline void setup(void)
{
	boot = START;
	slept = 0;
	wall_off = 0;
	nr = serial = ends_at = 0;
	fetch_result = 0;
	quiet = false;
	recorded[0] = '\0';
	conf = (struct keeper_conf){ .lead_ms = LEAD, .seed = 42 };
	make_keeper();
}

static inline void teardown(void)
{
	k = keeper_free(k);
}

/* ---- what the test does ---- */

static inline void news_token(const char *token, uint64_t lives_ms)
{
	struct keeper_news news = {
		.got = KEEPER_TOKEN, .token = token, .size = strlen(token), .lives_ms = lives_ms
	};

	keeper_on_fetched(k, nr, &news);
}

/* A fresh one that lives for `ms`, as its source says; the n-th. */
static inline void got(uint64_t ms, unsigned n)
{
	char token[1024];

	make_token(true_ms() / 1000, true_ms() / 1000 + (int64_t)(ms / 1000), n, token);
	news_token(token, ms);
}

static inline void failed_after(const char *code, uint32_t retry_after_s)
{
	struct keeper_news news = { .got = KEEPER_FAILED,
				    .code = code,
				    .text = "it did not work",
				    .retry_after_s = retry_after_s };

	keeper_on_fetched(k, nr, &news);
}

static inline void failed(void)
{
	failed_after("http", 0);
}

static inline void denied(void)
{
	struct keeper_news news = { .got = KEEPER_REFUSED,
				    .code = "login_needed",
				    .text = "log in again" };

	keeper_on_fetched(k, nr, &news);
}

/* The owner's loop: whatever falls due until `until` happens at its time. */
static inline void run_until(uint64_t until)
{
	uint64_t at;

	for (unsigned n = 0; (at = keeper_deadline(k)) <= until; n++) {
		ck_assert_uint_lt(n, 10000); /* a deadline that a tick does not move */
		if (at > boot)
			boot = at;
		keeper_tick(k);
	}
	boot = until;
}

/* To the next thing that is due. Return: how long that took. */
static inline uint64_t run_next(void)
{
	uint64_t from = boot, at = keeper_deadline(k);

	ck_assert_uint_ne(at, UINT64_MAX);
	if (at > boot)
		boot = at;
	keeper_tick(k);
	return boot - from;
}

/* GOOD with an hour's token. */
static inline void go_good(void)
{
	keeper_start(k);
	got(HOUR, 0);
	ck_assert_int_eq(status().state, KEEPER_GOOD);
	recorded[0] = '\0';
}

/* What go_good() got. */
static inline void first_again(void)
{
	char token[1024];

	make_token(EPOCH, EPOCH + 3600, 0, token);
	news_token(token, 0);
}

static inline int run(const char *name, void (*add)(TCase *tc))
{
	TCase *tc = tcase_create(name);
	Suite *suite = suite_create(name);
	SRunner *runner;
	int n;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	add(tc);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n ? EXIT_FAILURE : EXIT_SUCCESS;
}
