/* SPDX-License-Identifier: MIT */
#include "base/blob.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/outq.h"
#include "loop_util.h"

START_TEST(blob_counts_its_holders)
{
	char bytes[] = "bytes";
	struct blob *b = blob_new(bytes, 5);

	bytes[0] = 'x';
	ck_assert_uint_eq(b->n_refs, 1);
	ck_assert_uint_eq(b->size, 5);
	ck_assert_mem_eq(b->data, "bytes", 5);
	ck_assert_ptr_eq(blob_ref(b), b);
	ck_assert_ptr_null(blob_unref(b));
	ck_assert_mem_eq(b->data, "bytes", 5);
	ck_assert_ptr_null(blob_unref(b));
	ck_assert_ptr_null(blob_unref(NULL));
	b = blob_new(NULL, 0);
	ck_assert_uint_eq(b->size, 0);
	blob_unref(b);
}
END_TEST

static struct blob *blob_of(char c, size_t size)
{
	char *bytes = malloc(size + 1);
	struct blob *b;

	memset(bytes, c, size + 1);
	b = blob_new(bytes, size);
	free(bytes);
	return b;
}

START_TEST(outq_keeps_its_own_reference)
{
	struct outq q = { 0 };
	struct blob *b = blob_of('a', 3);

	ck_assert_int_eq(outq_push(&q, b), 0);
	ck_assert_int_eq(outq_push(&q, b), 0);
	ck_assert_uint_eq(b->n_refs, 3);
	ck_assert_uint_eq(q.cost, 2 * (3 + OUTQ_ENTRY_COST));
	outq_consume(&q, 4); /* the first one and a third of the second */
	ck_assert_uint_eq(b->n_refs, 2);
	ck_assert_uint_eq(q.cost, 2 + OUTQ_ENTRY_COST);
	outq_done(&q);
	ck_assert_uint_eq(b->n_refs, 1);
	ck_assert_uint_eq(q.cost, 0);
	blob_unref(b);
}
END_TEST

START_TEST(outq_drop_keeps_what_is_half_written)
{
	struct blob *a = blob_of('a', 3), *b = blob_of('b', 3);
	struct outq q = { 0 };
	struct iovec iov[4];
	size_t bytes;

	outq_drop(&q);
	outq_push(&q, a);
	outq_push(&q, b);
	outq_drop(&q);
	ck_assert_uint_eq(q.n, 0);
	ck_assert_uint_eq(q.cost, 0);
	outq_push(&q, a);
	outq_push(&q, b);
	outq_consume(&q, 1);
	outq_drop(&q);
	ck_assert_uint_eq(b->n_refs, 1);
	ck_assert_uint_eq(q.cost, 2 + OUTQ_ENTRY_COST);
	ck_assert_uint_eq(outq_peek(&q, iov, 4, &bytes), 1);
	ck_assert_uint_eq(bytes, 2);
	ck_assert_mem_eq(iov[0].iov_base, "aa", 2);
	outq_done(&q);
	blob_unref(a);
	blob_unref(b);
}
END_TEST

/* Against a plain buffer, with random pushes, peeks, partial writes and empty blobs. */
START_TEST(outq_is_a_stream)
{
	static char want[1 << 20];
	size_t n_want = 0, n_got = 0, cost, bytes, n, size, left;
	struct outq q = { 0 };
	struct iovec iov[5];
	struct blob *b;

	srandom(7);
	while (n_want < sizeof(want) - 200 || q.n > 0) {
		for (n = (size_t)random() % 40; n > 0 && n_want < sizeof(want) - 200; n--) {
			size = random() % 8 ? (size_t)random() % 100 : 0;
			b = blob_of((char)random(), size);
			memcpy(want + n_want, b->data, size);
			n_want += size;
			ck_assert_int_eq(outq_push(&q, b), 0);
			blob_unref(b);
		}
		for (n = (size_t)random() % 20; n > 0; n--) {
			size = outq_peek(&q, iov, 5, &bytes);
			ck_assert_uint_eq(size, q.n < 5 ? q.n : 5);
			left = bytes = bytes ? (size_t)random() % (bytes + 1) : 0;
			for (size_t i = 0; i < size && left > 0; i++) {
				if (iov[i].iov_len > left)
					iov[i].iov_len = left;
				ck_assert_mem_eq(want + n_got, iov[i].iov_base, iov[i].iov_len);
				n_got += iov[i].iov_len;
				left -= iov[i].iov_len;
			}
			cost = q.cost;
			outq_consume(&q, bytes);
			ck_assert_uint_le(q.cost, cost - bytes);
			ck_assert_uint_eq(q.cost, n_want - n_got + q.n * OUTQ_ENTRY_COST);
		}
	}
	ck_assert_uint_eq(n_got, n_want);
	ck_assert_uint_eq(q.cost, 0);
	ck_assert_uint_le(q.cap, 64);
	outq_done(&q);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blob");
	TCase *c = tcase_create("blob");

	tcase_set_timeout(c, 120);
	tcase_add_test(c, blob_counts_its_holders);
	tcase_add_test(c, outq_keeps_its_own_reference);
	tcase_add_test(c, outq_drop_keeps_what_is_half_written);
	tcase_add_test(c, outq_is_a_stream);
	suite_add_tcase(s, c);
	return run_suite(s);
}
