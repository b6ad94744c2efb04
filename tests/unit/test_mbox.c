/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "wire/mbox.h"
#include "suite.h"

static struct mbox_item *item_of(unsigned kind, size_t size)
{
	struct mbox_item *item = mbox_item_new(size);

	ck_assert_ptr_nonnull(item);
	item->kind = kind;
	memset(item->data, (int)kind, size);
	return item;
}

START_TEST(test_order_and_wake)
{
	struct mbox *m = mbox_new(1000000);
	struct mbox_item *item, *next;
	bool wake = false;
	unsigned n = 0;

	ck_assert_ptr_null(mbox_take(m));
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(mbox_put(m, item_of(i, i * 100), false, &wake), 0);
		ck_assert_int_eq(wake, i == 0);
	}
	ck_assert_uint_gt(mbox_bytes(m), 1000);
	for (item = mbox_take(m); item; item = next) {
		next = item->next;
		ck_assert_uint_eq(item->kind, n);
		ck_assert_uint_eq(item->size, n * 100);
		ck_assert(n == 0 || item->data[n * 100 - 1] == n);
		ck_assert(!mbox_done(m, item));
		n++;
	}
	ck_assert_uint_eq(n, 5);
	ck_assert_uint_eq(mbox_bytes(m), 0);
	mbox_put(m, item_of(1, 0), false, &wake);
	ck_assert(wake);
	mbox_free(m);
	ck_assert_ptr_null(mbox_free(NULL));
	ck_assert_ptr_null(mbox_item_free(NULL));
}
END_TEST

START_TEST(test_bound_holds_until_done)
{
	struct mbox *m = mbox_new(1000);
	struct mbox_item *taken, *refused = item_of(2, 600);
	bool wake;

	/* An empty mailbox takes what is larger than itself, else it could never pass. */
	ck_assert_int_eq(mbox_put(m, item_of(1, 5000), false, &wake), 0);
	ck_assert_int_eq(mbox_put(m, refused, false, &wake), 1);
	taken = mbox_take(m);
	/* Taken is not done. */
	ck_assert_int_eq(mbox_put(m, refused, false, &wake), 1);
	ck_assert(mbox_done(m, taken));
	ck_assert_int_eq(mbox_put(m, refused, false, &wake), 0);
	/* Told once. */
	ck_assert(!mbox_done(m, mbox_take(m)));
	mbox_free(m);
}
END_TEST

START_TEST(test_force)
{
	struct mbox *m = mbox_new(100);
	struct mbox_item *item;
	bool wake;

	ck_assert_int_eq(mbox_put(m, item_of(1, 100), false, &wake), 0);
	ck_assert_int_eq(mbox_put(m, item_of(2, 100), true, &wake), 0);
	ck_assert(!wake);
	item = mbox_take(m);
	ck_assert_uint_eq(item->next->kind, 2);
	mbox_item_free(item->next);
	mbox_item_free(item);
	mbox_free(m);
}
END_TEST

static int n_freed;

static void count_free(void *rider)
{
	n_freed++;
	free(rider);
}

START_TEST(test_rider_is_freed_once)
{
	struct mbox *m = mbox_new(100);
	struct mbox_item *item = item_of(1, 0);
	bool wake;

	item->rider = malloc(10);
	item->rider_free = count_free;
	mbox_put(m, item, true, &wake);
	mbox_free(m);
	ck_assert_int_eq(n_freed, 1);
}
END_TEST

START_TEST(test_absurd_size)
{
	ck_assert_ptr_null(mbox_item_new(SIZE_MAX));
	ck_assert_ptr_null(mbox_item_new(SIZE_MAX - 20));
}
END_TEST

enum { N_ITEMS = 20000 };

static void *put_many(void *arg)
{
	struct mbox *m = arg;
	bool wake;

	for (unsigned i = 0; i < N_ITEMS; i++) {
		struct mbox_item *item = mbox_item_new(i % 50);

		item->kind = i;
		while (mbox_put(m, item, false, &wake) != 0)
			sched_yield();
	}
	return NULL;
}

START_TEST(test_two_threads)
{
	struct mbox *m = mbox_new(5000);
	struct mbox_item *item, *next;
	pthread_t thread;
	unsigned n = 0;

	pthread_create(&thread, NULL, put_many, m);
	while (n < N_ITEMS) {
		for (item = mbox_take(m); item; item = next) {
			next = item->next;
			ck_assert_uint_eq(item->kind, n++);
			mbox_done(m, item);
		}
		ck_assert_uint_le(mbox_bytes(m), 5000);
	}
	pthread_join(thread, NULL);
	ck_assert_uint_eq(mbox_bytes(m), 0);
	mbox_free(m);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mbox");
	TCase *t = tcase_create("mbox");

	suite_add_tcase(suite, t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, test_order_and_wake);
	tcase_add_test(t, test_bound_holds_until_done);
	tcase_add_test(t, test_force);
	tcase_add_test(t, test_rider_is_freed_once);
	tcase_add_test(t, test_absurd_size);
	tcase_add_test(t, test_two_threads);
	return suite_run(suite);
}
