/* SPDX-License-Identifier: MIT */
/* The pace of joins: daemon/realtime/pace.h. */
#include <check.h>
#include <stdlib.h>

#include "realtime/pace.h"
#include "suite.h"

static struct pace p;
static uint64_t now;

/* As many as the pace allows within a time, each at its moment. */
static unsigned count(uint64_t ms)
{
	uint64_t until = now + ms, at;
	unsigned n = 0;

	while (now < until) {
		at = pace_take(&p, now);
		if (at == 0) {
			n++;
		} else {
			ck_assert_uint_gt(at, now);
			now = at < until ? at : until;
		}
	}
	return n;
}

static void start(uint32_t base, uint32_t most)
{
	now = 1000000;
	pace_init(&p, base, most, now);
}

START_TEST(test_faster_after_clean_ones)
{
	start(10, 0);
	ck_assert_uint_eq(count(10000), PACE_BURST + 100 - 1); /* the next is due just now */
	for (unsigned i = 0; i + 1 < PACE_CLEAN; i++)
		pace_clean(&p);
	ck_assert_uint_eq(count(10000), 100);
	pace_clean(&p);
	ck_assert_uint_ge(count(10000), 500);
	ck_assert_uint_eq(count(10000), 500);
}
END_TEST

START_TEST(test_slower_after_a_complaint)
{
	start(10, 0);
	for (unsigned i = 0; i < PACE_CLEAN; i++)
		pace_clean(&p);
	pace_too_fast(&p, now);
	ck_assert_uint_eq(pace_per_s(&p, now), 5);
	/* Good answers do not shorten it, and count for what follows. */
	for (unsigned i = 0; i < PACE_CLEAN; i++)
		pace_clean(&p);
	ck_assert_uint_eq(pace_per_s(&p, now + PACE_SLOW_MS - 1), 5);
	ck_assert_uint_eq(pace_per_s(&p, now + PACE_SLOW_MS), 50);
	pace_too_fast(&p, now);
	ck_assert_uint_eq(pace_per_s(&p, now + PACE_SLOW_MS), 10);
}
END_TEST

START_TEST(test_of_the_plan)
{
	start(10, 25);
	for (unsigned i = 0; i < PACE_CLEAN; i++)
		pace_clean(&p);
	ck_assert_uint_eq(pace_per_s(&p, now), 25);
	/* What somebody has asked for by name is not taken back. */
	start(30, 25);
	ck_assert_uint_eq(pace_per_s(&p, now), 30);
	for (unsigned i = 0; i < PACE_CLEAN; i++)
		pace_clean(&p);
	ck_assert_uint_eq(pace_per_s(&p, now), 30);
}
END_TEST

START_TEST(test_never_none)
{
	start(1, 0);
	pace_too_fast(&p, now);
	ck_assert_uint_eq(pace_per_s(&p, now), 1);
	ck_assert_uint_eq(count(5000), PACE_BURST + 5 - 1);
	pace_give_back(&p);
	ck_assert_uint_eq(pace_take(&p, now), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pace");
	TCase *tc = tcase_create("pace");

	tcase_add_test(tc, test_faster_after_clean_ones);
	tcase_add_test(tc, test_slower_after_a_complaint);
	tcase_add_test(tc, test_of_the_plan);
	tcase_add_test(tc, test_never_none);
	suite_add_tcase(s, tc);
	return suite_run(s);
}
