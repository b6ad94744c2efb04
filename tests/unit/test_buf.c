/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_buf.h"

#include "alloc_util.h"
#include "proto_util.h"

START_TEST(appends_in_order)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	rtbp_buf_text(&b, "ab");
	rtbp_buf_byte(&b, 'c');
	rtbp_buf_put(&b, "d\0e", 3);
	rtbp_buf_put(&b, NULL, 0);
	rtbp_buf_text(&b, "");
	ck_assert(rtbp_buf_ok(&b));
	ck_assert_uint_eq(b.size, 6);
	ck_assert_mem_eq(b.data, "abcd\0e", 6);
	rtbp_buf_done(&b);
	ck_assert_ptr_null(b.data);
	rtbp_buf_text(&b, "again"); /* may be used after done */
	ck_assert_mem_eq(b.data, "again", 5);
	rtbp_buf_done(&b);
}
END_TEST

START_TEST(room_is_committed_by_the_caller)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	uint8_t *at;

	rtbp_buf_text(&b, "x");
	at = rtbp_buf_room(&b, 1000);
	ck_assert_ptr_eq(at, b.data + 1);
	ck_assert_uint_ge(b.cap, 1001);
	ck_assert_uint_eq(b.size, 1);
	memset(at, 'y', 1000);
	b.size += 1000;
	ck_assert_uint_eq(b.data[1000], 'y');
	rtbp_buf_done(&b);
	ck_assert_ptr_nonnull(rtbp_buf_room(&b, 0));
	rtbp_buf_done(&b);
}
END_TEST

/* Doubling: appending n bytes one at a time costs a logarithm of allocations. */
START_TEST(growth_is_geometric)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	allocs_watch(false);
	for (unsigned i = 0; i < 1u << 20; i++)
		rtbp_buf_byte(&b, (uint8_t)i);
	allocs_unwatch();
	ck_assert_uint_le(allocs.n_calls, 20);
	ck_assert_uint_le(allocs.largest, 2u << 20);
	for (unsigned i = 0; i < 1u << 20; i++) {
		if (b.data[i] != (uint8_t)i)
			ck_abort_msg("byte %u", i);
	}
	rtbp_buf_done(&b);
}
END_TEST

START_TEST(limit_sticks)
{
	struct rtbp_buf b = { .max_bytes = 4 };

	rtbp_buf_text(&b, "abcd"); /* just fits */
	ck_assert(rtbp_buf_ok(&b));
	rtbp_buf_byte(&b, 'e');
	ck_assert_int_eq(b.error, -EMSGSIZE);
	ck_assert_mem_eq(b.data, "abcd", 4);
	ck_assert_uint_eq(b.size, 4);
	rtbp_buf_reset(&b, 1024);
	ck_assert(rtbp_buf_ok(&b));
	rtbp_buf_text(&b, "abc");
	rtbp_buf_text(&b, "de");
	rtbp_buf_text(&b, "f"); /* would fit, but a hole would be in front of it */
	ck_assert_int_eq(b.error, -EMSGSIZE);
	ck_assert_uint_eq(b.size, 3);
	ck_assert_ptr_null(rtbp_buf_room(&b, 0));
	rtbp_buf_done(&b);
}
END_TEST

/* A limit below what is there already admits nothing more. */
START_TEST(limit_may_come_late)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	rtbp_buf_text(&b, "abcd");
	b.max_bytes = 2;
	rtbp_buf_byte(&b, 'e');
	ck_assert_int_eq(b.error, -EMSGSIZE);
	ck_assert_uint_eq(b.size, 4);
	rtbp_buf_done(&b);
}
END_TEST

START_TEST(absurd_sizes_do_not_wrap)
{
	static const size_t sizes[] = { SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4 };
	struct rtbp_buf b = RTBP_BUF_INIT;

	for (unsigned i = 0; i < N_OF(sizes); i++) {
		rtbp_buf_text(&b, "abc");
		ck_assert_ptr_null(rtbp_buf_room(&b, sizes[i]));
		ck_assert_int_eq(b.error, -EMSGSIZE);
		rtbp_buf_reset(&b, 0);
	}
}
END_TEST

START_TEST(no_memory_sticks)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	uint8_t *at;

	allocs_watch(true);
	rtbp_buf_text(&b, "abc");
	allocs_unwatch();
	ck_assert_int_eq(b.error, -ENOMEM);
	ck_assert_uint_eq(b.size, 0);
	rtbp_buf_text(&b, "abc");
	ck_assert_int_eq(b.error, -ENOMEM);
	rtbp_buf_reset(&b, 0);
	rtbp_buf_text(&b, "abc");
	ck_assert_int_eq(b.error, 0);
	/* What was there survives a growth that fails. */
	allocs_watch(true);
	at = rtbp_buf_room(&b, 4096);
	allocs_unwatch();
	ck_assert_ptr_null(at);
	ck_assert_int_eq(b.error, -ENOMEM);
	ck_assert_uint_eq(b.size, 3);
	ck_assert_mem_eq(b.data, "abc", 3);
	rtbp_buf_done(&b);
	ck_assert_int_eq(b.error, 0);
}
END_TEST

START_TEST(reset_keeps_at_most)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	uint8_t *data;

	rtbp_buf_text(&b, "abc");
	data = b.data;
	rtbp_buf_reset(&b, b.cap);
	ck_assert_ptr_eq(b.data, data);
	ck_assert_uint_eq(b.size, 0);
	rtbp_buf_reset(&b, b.cap - 1);
	ck_assert_ptr_null(b.data);
	ck_assert_uint_eq(b.cap, 0);
}
END_TEST

START_TEST(take_hands_over)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	size_t size;
	uint8_t *data;

	rtbp_buf_text(&b, "abc");
	data = rtbp_buf_take(&b, &size);
	ck_assert_uint_eq(size, 3);
	ck_assert_mem_eq(data, "abc", 3);
	ck_assert_ptr_null(b.data);
	rtbp_buf_text(&b, "de");
	ck_assert_mem_eq(b.data, "de", 2);
	ck_assert_mem_eq(data, "abc", 3);
	free(data);
	rtbp_buf_done(&b);
	ck_assert_ptr_null(rtbp_buf_take(&b, &size));
	ck_assert_uint_eq(size, 0);
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("buf");

	tcase_add_test(c, appends_in_order);
	tcase_add_test(c, room_is_committed_by_the_caller);
	tcase_add_test(c, growth_is_geometric);
	tcase_add_test(c, limit_sticks);
	tcase_add_test(c, limit_may_come_late);
	tcase_add_test(c, absurd_sizes_do_not_wrap);
	tcase_add_test(c, no_memory_sticks);
	tcase_add_test(c, reset_keeps_at_most);
	tcase_add_test(c, take_hands_over);
	return run_tests("buf", c);
}
