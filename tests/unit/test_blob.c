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

static uint8_t room[4000];
static struct outq_scratch scratch = { room, sizeof(room) };

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
	ck_assert_uint_eq(outq_peek(&q, &scratch, iov, 4, &bytes), 1);
	ck_assert_uint_eq(bytes, 2);
	ck_assert_mem_eq(iov[0].iov_base, "aa", 2);
	outq_done(&q);
	blob_unref(a);
	blob_unref(b);
}
END_TEST

START_TEST(outq_lays_small_entries_side_by_side)
{
	static const size_t sizes[] = { 3, 0, 5, OUTQ_COPY_MAX, 7, 7, OUTQ_COPY_MAX - 1 };
	static const size_t want[] = { 8, OUTQ_COPY_MAX, 14 + OUTQ_COPY_MAX - 1 };
	struct outq q = { 0 };
	struct iovec iov[8];
	struct blob *b;
	size_t bytes;

	for (unsigned i = 0; i < 7; i++) {
		b = blob_of((char)('a' + i), sizes[i]);
		outq_push(&q, b);
		blob_unref(b);
	}
	ck_assert_uint_eq(outq_peek(&q, &scratch, iov, 8, &bytes), 3);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_eq(iov[i].iov_len, want[i]);
	ck_assert_uint_eq(bytes, want[0] + want[1] + want[2]);
	ck_assert_mem_eq(iov[0].iov_base, "aaaccccc", 8);
	ck_assert_mem_eq(iov[2].iov_base, "eeeeeeefffffffg", 15);
	ck_assert_uint_eq(outq_peek(&q, &scratch, iov, 1, &bytes), 1);
	ck_assert_uint_eq(bytes, want[0]);
	/* Without room each has an iovec of its own. */
	ck_assert_uint_eq(outq_peek(&q, &(struct outq_scratch){ room, 0 }, iov, 8, &bytes), 7);
	ck_assert_uint_eq(bytes, want[0] + want[1] + want[2]);
	outq_done(&q);
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
	while (n_want < sizeof(want) - 2000 || q.n > 0) {
		for (n = (size_t)random() % 40; n > 0 && n_want < sizeof(want) - 2000; n--) {
			size = random() % 8 ? (size_t)random() % 100 : (size_t)random() % 2 * 1500;
			b = blob_of((char)random(), size);
			memcpy(want + n_want, b->data, size);
			n_want += size;
			ck_assert_int_eq(outq_push(&q, b), 0);
			blob_unref(b);
		}
		for (n = (size_t)random() % 20; n > 0; n--) {
			scratch.size = (size_t)random() % (sizeof(room) + 1);
			size = outq_peek(&q, &scratch, iov, 5, &bytes);
			ck_assert_uint_le(size, q.n < 5 ? q.n : 5);
			ck_assert(size > 0 || q.n == 0);
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
	tcase_add_test(c, outq_lays_small_entries_side_by_side);
	tcase_add_test(c, outq_is_a_stream);
	suite_add_tcase(s, c);
	return suite_run(s);
}
