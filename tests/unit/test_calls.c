/* SPDX-License-Identifier: MIT */
/* When presence calls may be made: the server's limit is held by every sequence of wishes. */
#include "realtime/calls.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include "suite.h"

enum { SERVER_WINDOW_MS = 30000, SEQUENCES = 50, CALLS = 400 };

static uint64_t seed;

static unsigned draw(unsigned n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (unsigned)((z ^ z >> 31) % n);
}

static void make(struct calls *c, uint64_t at, bool leaving)
{
	ck_assert_uint_eq(calls_next(c, at, leaving), at);
	calls_made(c, at);
}

START_TEST(first_goes_at_once)
{
	struct calls c;

	calls_init(&c);
	ck_assert_uint_eq(calls_next(&c, 0, false), 0);
	ck_assert_uint_eq(calls_next(&c, 12345, false), 12345);
	ck_assert_uint_eq(calls_next(&c, 12345, true), 12345);
	/* Asking changes nothing. */
	ck_assert_uint_eq(calls_next(&c, 5, false), 5);
}
END_TEST

START_TEST(pauses_grow)
{
	static const uint64_t pauses[] = { 250, 1000, 4000 };
	uint64_t now = 1000, last;
	struct calls c;

	calls_init(&c);
	make(&c, now, false);
	for (unsigned i = 0; i < 3; i++) {
		last = now;
		now += pauses[i];
		ck_assert_uint_eq(calls_next(&c, last, false), now);
		ck_assert_uint_eq(calls_next(&c, now - 1, false), now);
		ck_assert_uint_eq(calls_next(&c, now + 7, false), now + 7);
		make(&c, now, false);
	}
	/* The fifth waits for the window of the first. */
	ck_assert_uint_eq(calls_next(&c, now, false), 1000 + CALLS_WINDOW_MS);
	ck_assert_uint_eq(calls_next(&c, 999 + CALLS_WINDOW_MS, false), 1000 + CALLS_WINDOW_MS);
	make(&c, 1000 + CALLS_WINDOW_MS, false);
	/* Four again, until the second one and then the third leave the window. */
	ck_assert_uint_eq(calls_next(&c, 1000 + CALLS_WINDOW_MS, false), 2250 + CALLS_WINDOW_MS);
}
END_TEST

START_TEST(reserve_for_leaving)
{
	struct calls c;

	calls_init(&c);
	make(&c, 1000, false);
	make(&c, 1250, false);
	make(&c, 2250, false);
	make(&c, 6250, false);
	make(&c, 6250, true); /* the reserve, without a pause */
	/* Then nobody may, not even to leave. */
	ck_assert_uint_eq(calls_next(&c, 6251, true), 1000 + CALLS_WINDOW_MS);
	ck_assert_uint_eq(calls_next(&c, 6251, false), 1250 + CALLS_WINDOW_MS);
	/* As soon as a showing call is made again there is a reserve for taking it away. */
	make(&c, 1250 + CALLS_WINDOW_MS, false);
	make(&c, 1250 + CALLS_WINDOW_MS, true);
}
END_TEST

START_TEST(leaving_makes_no_pause)
{
	struct calls c;

	calls_init(&c);
	for (unsigned i = 0; i < CALLS_MAX; i++)
		make(&c, 5000, true);
	ck_assert_uint_eq(calls_next(&c, 5000, true), 5000 + CALLS_WINDOW_MS);
	make(&c, 5000 + CALLS_WINDOW_MS, true);
}
END_TEST

START_TEST(a_new_channel_counts_from_zero)
{
	struct calls c;

	calls_init(&c);
	for (unsigned i = 0; i < CALLS_MAX; i++)
		make(&c, 5000, true);
	calls_init(&c);
	make(&c, 5001, false);
}
END_TEST

/* What the server counts: no call has five others in the 30 s in front of it, even if the last
 * one travelled a second faster than the first. And who shows something can always take it away at
 * once if all calls but the last were for showing. */
START_TEST(never_a_sixth)
{
	uint64_t at[CALLS], now = 1000000, next;
	unsigned reserve_missed = 0, n_shown = 0;
	struct calls c;
	bool leaving;

	seed = (uint64_t)_i * 7919 + 1;
	calls_init(&c);
	for (unsigned i = 0; i < CALLS; i++) {
		now += draw(4) ? draw(300) : draw(20000);
		leaving = draw(1 + (unsigned)_i % 5) == 0;
		next = calls_next(&c, now, leaving);
		ck_assert_uint_ge(next, now);
		ck_assert_uint_le(next, now + CALLS_WINDOW_MS);
		/* The time told is the time that holds. */
		if (next > now)
			ck_assert_uint_eq(calls_next(&c, next - 1, leaving), next);
		ck_assert_uint_eq(calls_next(&c, next, leaving), next);
		now = next;
		calls_made(&c, now);
		at[i] = now;
		if (i >= 5)
			ck_assert_uint_gt(now - at[i - 5], SERVER_WINDOW_MS);
		if (!leaving) {
			n_shown++;
			reserve_missed += calls_next(&c, now, true) > now;
		}
	}
	ck_assert_uint_eq(reserve_missed, 0);
	ck_assert(n_shown > 0 || _i % 5 == 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("calls");
	TCase *t = tcase_create("calls");

	tcase_add_test(t, first_goes_at_once);
	tcase_add_test(t, pauses_grow);
	tcase_add_test(t, reserve_for_leaving);
	tcase_add_test(t, leaving_makes_no_pause);
	tcase_add_test(t, a_new_channel_counts_from_zero);
	tcase_add_loop_test(t, never_a_sixth, 0, SEQUENCES);
	suite_add_tcase(s, t);
	return suite_run(s);
}
