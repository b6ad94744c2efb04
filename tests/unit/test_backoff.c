/* SPDX-License-Identifier: MIT */
/* Delays between attempts: daemon/realtime/backoff.h. */
#include <check.h>
#include <stdlib.h>

#include "realtime/backoff.h"
#include "realtime/reasons.h"
#include "suite.h"

enum { MIN = 1000, MAX = 30000, RUNS = 4000, MINUTE = 60000 };

/* Least, most and mean of the n-th delay of a series, over many seeds. */
struct spread {
	uint32_t least, most;
	uint64_t sum;
};

static struct spread spread_of(enum session_fault fault, unsigned nth, uint32_t retry_after_s)
{
	struct spread s = { UINT32_MAX, 0, 0 };

	for (uint64_t seed = 0; seed < RUNS; seed++) {
		struct backoff b;
		uint32_t delay = 0;

		backoff_init(&b, MIN, MAX, seed);
		b.is_patient = true;
		for (unsigned n = 0; n <= nth; n++)
			delay = backoff_next(&b, fault, retry_after_s);
		s.least = delay < s.least ? delay : s.least;
		s.most = delay > s.most ? delay : s.most;
		s.sum += delay;
	}
	return s;
}

/* From `floor` to `floor + ceiling`, evenly, near to both ends. */
static void spread_is(struct spread s, uint32_t floor, uint32_t ceiling)
{
	uint64_t mean = s.sum / RUNS;

	ck_assert_uint_ge(s.least, floor);
	ck_assert_uint_lt(s.least, floor + ceiling / 50 + 1);
	ck_assert_uint_le(s.most, floor + ceiling);
	ck_assert_uint_gt(s.most, floor + ceiling - ceiling / 50 - 1);
	ck_assert_uint_gt(mean, floor + ceiling * 47ull / 100);
	ck_assert_uint_lt(mean, floor + ceiling * 53ull / 100);
}

static const uint32_t ceilings[] = { 1000, 2000, 4000, 8000, 16000, 30000, 30000 };

/* Full jitter, but for the guard: after next to no delay the next has at least 500 ms. */
START_TEST(test_full_jitter)
{
	for (unsigned n = 0; n < sizeof(ceilings) / sizeof(*ceilings); n++) {
		struct spread s = spread_of(SESSION_FAULT_LOST, n, 0);

		if (n >= BACKOFF_SPREAD_N) {
			spread_is(s, ceilings[n] / 4, ceilings[n] - ceilings[n] / 4);
			continue;
		}
		ck_assert_uint_le(s.most, ceilings[n]);
		ck_assert_uint_gt(s.most, ceilings[n] - ceilings[n] / 50);
		ck_assert_uint_lt(s.least, n == 1 ? 510 : 700);
		ck_assert_uint_gt(s.sum / RUNS, ceilings[n] * 47ull / 100);
		ck_assert_uint_lt(s.sum / RUNS, ceilings[n] * 57ull / 100);
	}
	spread_is(spread_of(SESSION_FAULT_LOST, 0, 0), 0, 1000);
	spread_is(spread_of(SESSION_FAULT_LOST, 20, 0), 7500, 22500);
	spread_is(spread_of(SESSION_FAULT_LOST, 1000, 0), 15000, 45000);
}
END_TEST

START_TEST(test_never_twice_at_once)
{
	struct backoff b;

	for (uint64_t seed = 0; seed < RUNS; seed++) {
		uint32_t last = MIN, delay;

		backoff_init(&b, MIN, MAX, seed);
		for (unsigned n = 0; n < 10; n++) {
			delay = backoff_next(&b, SESSION_FAULT_RESTART, 0);
			ck_assert(last >= MIN / 2 || delay >= MIN / 2);
			last = delay;
		}
		backoff_reset(&b);
		backoff_at_once(&b);
		ck_assert_uint_ge(backoff_next(&b, SESSION_FAULT_LOST, 0), MIN / 2);
	}
}
END_TEST

START_TEST(test_floors)
{
	spread_is(spread_of(SESSION_FAULT_RESTART, 0, 0), 0, 1000);
	spread_is(spread_of(SESSION_FAULT_OVERLOAD, 0, 0), 10000, 1000);
	spread_is(spread_of(SESSION_FAULT_OVERLOAD, 3, 0), 10000, 8000);
	spread_is(spread_of(SESSION_FAULT_RATE, 0, 0), MINUTE, 1000);
	spread_is(spread_of(SESSION_FAULT_RATE, 10, 0), MINUTE, 30000);
	/* The server's wish takes the floor's place, up to an hour. */
	spread_is(spread_of(SESSION_FAULT_RATE, 0, 7), 7000, 1000);
	spread_is(spread_of(SESSION_FAULT_SERVER, 0, 120), 120000, 1000);
	spread_is(spread_of(SESSION_FAULT_RATE, 0, UINT32_MAX), 3600000, 1000);
}
END_TEST

START_TEST(test_restart_with_long_min)
{
	struct backoff b;

	for (uint64_t seed = 0; seed < RUNS; seed++) {
		backoff_init(&b, 5000, MAX, seed);
		ck_assert_uint_le(backoff_next(&b, SESSION_FAULT_RESTART, 0), 1000);
	}
}
END_TEST

static const enum session_fault slow[] = { SESSION_FAULT_AUTH, SESSION_FAULT_FORBIDDEN,
					   SESSION_FAULT_NOT_FOUND, SESSION_FAULT_TLS,
					   SESSION_FAULT_CONFIG };

START_TEST(test_growing_floors)
{
	spread_is(spread_of(slow[_i], 0, 0), MINUTE, 1000);
	spread_is(spread_of(slow[_i], 1, 0), 2 * MINUTE, 2000);
	spread_is(spread_of(slow[_i], 3, 0), 8 * MINUTE, 8000);
	spread_is(spread_of(slow[_i], 4, 0), 15 * MINUTE, 16000);
	spread_is(spread_of(slow[_i], 500, 0), 15 * MINUTE, 30000);
}
END_TEST

START_TEST(test_reset)
{
	struct backoff b;

	backoff_init(&b, MIN, MAX, 1);
	for (int i = 0; i < 10; i++)
		backoff_next(&b, SESSION_FAULT_AUTH, 0);
	backoff_reset(&b);
	ck_assert_uint_le(backoff_next(&b, SESSION_FAULT_AUTH, 0), MINUTE + 1000);
	backoff_reset(&b);
	ck_assert_uint_le(backoff_next(&b, SESSION_FAULT_LOST, 0), 1000);
}
END_TEST

/* One seed, one series; another seed, another. */
/* Two hours without a server: 30 s at most in the first ten minutes, then 60 s. */
START_TEST(test_long_outage)
{
	uint64_t waited = 0, late = 0;
	unsigned n_first = 0, n_late = 0;
	struct backoff b;
	uint32_t delay;

	backoff_init(&b, MIN, MAX, 7);
	b.is_patient = true;
	while (waited < 120ull * MINUTE) {
		delay = backoff_next(&b, SESSION_FAULT_CONNECT, 0);
		if (waited < BACKOFF_LONG_MS) {
			ck_assert_uint_le(delay, MAX);
			n_first++;
		} else {
			ck_assert_uint_le(delay, 2 * MAX);
			late = delay > late ? delay : late;
			n_late++;
		}
		waited += delay;
	}
	ck_assert_uint_gt(late, 2 * MAX - MAX / 10);
	ck_assert_uint_le(n_first, 60);
	ck_assert_uint_lt(n_late, 110 * 60 / 30 + 40);
	backoff_reset(&b);
	for (unsigned n = 0; n < 8; n++)
		ck_assert_uint_le(backoff_next(&b, SESSION_FAULT_CONNECT, 0), MAX);
}
END_TEST

START_TEST(test_seed)
{
	struct backoff a, b, c;
	unsigned same = 0;

	backoff_init(&a, MIN, MAX, 7);
	backoff_init(&b, MIN, MAX, 7);
	b.is_patient = true;
	backoff_init(&c, MIN, MAX, 8);
	for (int i = 0; i < 100; i++) {
		uint32_t x = backoff_random(&a, 1000000);

		ck_assert_uint_eq(x, backoff_random(&b, 1000000));
		same += x == backoff_random(&c, 1000000);
	}
	ck_assert_uint_lt(same, 3);
	ck_assert_uint_eq(backoff_random(&a, 0), 0);
	(void)backoff_random(&a, UINT32_MAX);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("backoff");
	Suite *suite = suite_create("backoff");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_full_jitter);
	tcase_add_test(tc, test_never_twice_at_once);
	tcase_add_test(tc, test_floors);
	tcase_add_test(tc, test_restart_with_long_min);
	tcase_add_loop_test(tc, test_growing_floors, 0, sizeof(slow) / sizeof(*slow));
	tcase_add_test(tc, test_reset);
	tcase_add_test(tc, test_long_outage);
	tcase_add_test(tc, test_seed);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
