/* SPDX-License-Identifier: MIT */
#include "base/bucket.h"

#include <check.h>
#include <stdlib.h>
#include "suite.h"

START_TEST(burst_then_rate)
{
	struct bucket b;
	uint64_t now = 5000, at;
	unsigned n = 0;

	bucket_init(&b, 10, 3, now);
	while ((at = bucket_take(&b, now, 0)) == 0)
		n++;
	ck_assert_uint_eq(n, 3);
	ck_assert_uint_eq(at, now + 100);
	ck_assert(bucket_take(&b, at - 1, 0));
	ck_assert_uint_eq(bucket_take(&b, at, 0), 0);
	/* In ten seconds, asked at each of them: the rate. */
	n = 0;
	for (now = at; now < at + 10000; now++)
		n += bucket_take(&b, now, 0) == 0;
	ck_assert_uint_ge(n, 99);
	ck_assert_uint_le(n, 100);
}
END_TEST

START_TEST(debt)
{
	struct bucket b;
	uint64_t at;

	bucket_init(&b, 10, 1, 0);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(bucket_take(&b, 0, 2), 0);
	at = bucket_take(&b, 0, 2);
	ck_assert_uint_eq(at, 100);
	/* Who may not borrow waits until the debt is paid. */
	ck_assert_uint_eq(bucket_take(&b, 0, 0), 300);
	ck_assert_uint_eq(bucket_take(&b, 300, 0), 0);
}
END_TEST

START_TEST(given_back)
{
	struct bucket b;

	bucket_init(&b, 1, 1, 0);
	ck_assert_uint_eq(bucket_take(&b, 0, 0), 0);
	bucket_give_back(&b);
	ck_assert_uint_eq(bucket_take(&b, 0, 0), 0);
	ck_assert(bucket_take(&b, 0, 0));
}
END_TEST

START_TEST(after_a_long_time)
{
	struct bucket b;

	bucket_init(&b, 1000000, 2, 0);
	ck_assert_uint_eq(bucket_take(&b, 0, 0), 0);
	ck_assert_uint_eq(bucket_take(&b, UINT64_MAX / 2, 0), 0);
	ck_assert_uint_eq(bucket_take(&b, UINT64_MAX / 2, 0), 0);
	ck_assert(bucket_take(&b, UINT64_MAX / 2, 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("bucket");
	TCase *t = tcase_create("bucket");

	tcase_add_test(t, burst_then_rate);
	tcase_add_test(t, debt);
	tcase_add_test(t, given_back);
	tcase_add_test(t, after_a_long_time);
	suite_add_tcase(s, t);
	return suite_run(s);
}
