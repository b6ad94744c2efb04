/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_frame.h"

#include "alloc_util.h"
#include "proto/rtbp_table.h"
#include "proto_util.h"

enum { MAX_FRAME = 1 << 20 };

static struct rtbp_reader reader;

static void setup(void)
{
	rtbp_reader_init(&reader, MAX_FRAME);
	allocs_reset();
}

static void teardown(void)
{
	rtbp_reader_done(&reader);
}

static void feed(const void *data, size_t size)
{
	size_t room;
	uint8_t *at;

	allocs_watch(false);
	at = rtbp_reader_room(&reader, size ? size : 1, &room);
	allocs_unwatch();
	ck_assert_ptr_nonnull(at);
	ck_assert_uint_ge(room, size);
	memcpy(at, data, size);
	rtbp_reader_add(&reader, size);
}

static void expect_none(void)
{
	const uint8_t *body = NULL;
	size_t size = 4711;

	ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), RTBP_FRAME_NONE);
	ck_assert_ptr_null(body);
	ck_assert_uint_eq(size, 4711);
}

static void expect_one(const char *text)
{
	const uint8_t *body;
	size_t size;

	ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), RTBP_FRAME_ONE);
	ck_assert_uint_eq(size, strlen(text));
	ck_assert_mem_eq(body, text, size);
}

/* A frame of `size` bytes, each `fill`, to free(). */
static uint8_t *frame_of(size_t size, int fill)
{
	uint8_t *frame = malloc(size + RTBP_HEADER_BYTES);

	ck_assert_ptr_nonnull(frame);
	rtbp_put_length(frame, size);
	memset(frame + RTBP_HEADER_BYTES, fill, size);
	return frame;
}

START_TEST(length_is_big_endian)
{
	uint8_t at[4];

	rtbp_put_length(at, 0x01020304);
	ck_assert_mem_eq(at, "\1\2\3\4", 4);
	rtbp_put_length(at, 0xfffefdfc);
	ck_assert_mem_eq(at, "\xff\xfe\xfd\xfc", 4);
}
END_TEST

START_TEST(nothing_is_no_frame)
{
	expect_none();
	ck_assert_uint_eq(rtbp_reader_partial(&reader), 0);
	feed("", 0);
	expect_none();
}
END_TEST

static const char stream[] = "\0\0\0\3abc\0\0\0\0\0\0\0\5defgh\0\0\0\1i";

static void expect_stream(void)
{
	expect_one("abc");
	expect_one("");
	expect_one("defgh");
	expect_one("i");
	expect_none();
	ck_assert_uint_eq(rtbp_reader_partial(&reader), 0);
}

START_TEST(several_frames_at_once)
{
	for (unsigned i = 0; i < 1000; i++) {
		feed(stream, sizeof(stream) - 1);
		expect_stream();
	}
	ck_assert_uint_le(allocs.largest, 64 * 1024);
}
END_TEST

/* The whole stream in two parts, cut at every byte, with frames taken out between them. */
START_TEST(split_at_every_byte)
{
	static const char *const bodies[] = { "abc", "", "defgh", "i" };
	static const size_t ends[] = { 7, 11, 20, 25 };
	size_t size = sizeof(stream) - 1, done;

	for (size_t cut = 0; cut <= size; cut++) {
		done = 0;
		feed(stream, cut);
		while (done < N_OF(ends) && ends[done] <= cut)
			expect_one(bodies[done++]);
		expect_none();
		ck_assert_uint_eq(rtbp_reader_partial(&reader), cut - (done ? ends[done - 1] : 0));
		feed(stream + cut, size - cut);
		while (done < N_OF(ends))
			expect_one(bodies[done++]);
		expect_none();
	}
}
END_TEST

START_TEST(one_byte_at_a_time)
{
	uint8_t *frame = frame_of(10000, 'x');
	const uint8_t *body;
	size_t size;

	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < 10003; i++) {
			feed(frame + i, 1);
			expect_none();
			ck_assert_uint_eq(rtbp_reader_partial(&reader), i + 1);
		}
		feed(frame + 10003, 1);
		ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), RTBP_FRAME_ONE);
		ck_assert_uint_eq(size, 10000);
		ck_assert_mem_eq(body, frame + RTBP_HEADER_BYTES, size);
	}
	free(frame);
}
END_TEST

/* Frames that never end where a read ends: the rest moves to the front again and again. */
START_TEST(frames_across_reads_keep_their_bytes)
{
	enum { N_FRAMES = 500 };
	uint8_t *all = malloc(N_FRAMES * (700 + RTBP_HEADER_BYTES)), *at = all;
	const uint8_t *body;
	size_t size, total, done = 0;
	unsigned n = 0;

	ck_assert_ptr_nonnull(all);
	for (unsigned i = 0; i < N_FRAMES; i++) {
		size = i * 7919 % 700;
		rtbp_put_length(at, size);
		memset(at + RTBP_HEADER_BYTES, (int)i, size);
		at += RTBP_HEADER_BYTES + size;
	}
	total = (size_t)(at - all);
	while (done < total) {
		size = total - done < 997 ? total - done : 997;
		feed(all + done, size);
		done += size;
		while (rtbp_reader_next(&reader, &body, &size) == RTBP_FRAME_ONE) {
			ck_assert_uint_eq(size, n * 7919 % 700);
			for (size_t i = 0; i < size; i++) {
				if (body[i] != (uint8_t)n)
					ck_abort_msg("frame %u, byte %zu", n, i);
			}
			n++;
		}
	}
	ck_assert_uint_eq(n, N_FRAMES);
	ck_assert_uint_le(allocs.largest, 8192);
	free(all);
}
END_TEST

START_TEST(oversize_is_judged_from_four_bytes)
{
	static const uint32_t sizes[] = { MAX_FRAME + 1, 0x7fffffff, 0xffffffff };
	const uint8_t *body = NULL;
	uint8_t header[4];
	size_t size;

	for (unsigned i = 0; i < N_OF(sizes); i++) {
		rtbp_reader_done(&reader);
		rtbp_put_length(header, sizes[i]);
		feed(header, 3);
		expect_none();
		feed(header + 3, 1);
		for (unsigned twice = 0; twice < 2; twice++) {
			ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), -EMSGSIZE);
			ck_assert_uint_eq(size, sizes[i]);
			ck_assert_ptr_null(body);
		}
	}
	ck_assert_uint_le(allocs.largest, 4096);
}
END_TEST

START_TEST(oversize_behind_good_frames)
{
	const uint8_t *body;
	size_t size;

	feed("\0\0\0\1a\0\0\0\1b\x7f\0\0\0", 14);
	expect_one("a");
	expect_one("b");
	ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), -EMSGSIZE);
}
END_TEST

START_TEST(the_largest_frame_passes)
{
	uint8_t *frame = frame_of(MAX_FRAME, 'x');
	const uint8_t *body;
	size_t size;

	feed(frame, MAX_FRAME + RTBP_HEADER_BYTES);
	ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), RTBP_FRAME_ONE);
	ck_assert_uint_eq(size, MAX_FRAME);
	free(frame);
}
END_TEST

/* A length within the limit buys no memory; only bytes that came do. */
START_TEST(memory_follows_bytes_not_promises)
{
	uint8_t *frame = frame_of(MAX_FRAME, 'x');
	size_t sent = 0;

	while (sent + 1000 <= MAX_FRAME) {
		feed(frame + sent, 1000);
		sent += 1000;
		expect_none();
		ck_assert_uint_le(reader.cap, sent < 4096 ? 4096 : 2 * sent);
	}
	free(frame);
}
END_TEST

START_TEST(memory_is_given_back)
{
	uint8_t *frame = frame_of(MAX_FRAME, 'x');
	const uint8_t *body;
	size_t size, room;

	feed(frame, MAX_FRAME + RTBP_HEADER_BYTES);
	ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), RTBP_FRAME_ONE);
	ck_assert_uint_ge(reader.cap, MAX_FRAME);
	ck_assert_mem_eq(body, frame + RTBP_HEADER_BYTES, size); /* lives until the next room */
	ck_assert_ptr_nonnull(rtbp_reader_room(&reader, 4096, &room));
	ck_assert_uint_le(reader.cap, 64 * 1024);
	feed(stream, sizeof(stream) - 1);
	expect_stream();
	free(frame);
}
END_TEST

START_TEST(room_is_never_empty)
{
	size_t room = 0;

	ck_assert_ptr_nonnull(rtbp_reader_room(&reader, 0, &room));
	ck_assert_uint_ge(room, 1);
	feed("\0\0\1\0", 4);
	while (reader.end < reader.cap)
		feed("x", 1);
	ck_assert_ptr_nonnull(rtbp_reader_room(&reader, 0, &room));
	ck_assert_uint_ge(room, 1);
}
END_TEST

START_TEST(no_memory_loses_nothing)
{
	const uint8_t *body;
	uint8_t *at, *frame = frame_of(9000, 'x');
	size_t size, room;

	allocs_watch(true);
	at = rtbp_reader_room(&reader, 1, &room);
	allocs_unwatch();
	ck_assert_ptr_null(at);
	feed(frame, 3000);
	allocs_watch(true);
	at = rtbp_reader_room(&reader, 6004, &room);
	allocs_unwatch();
	ck_assert_ptr_null(at);
	expect_none();
	ck_assert_uint_eq(rtbp_reader_partial(&reader), 3000);
	feed(frame + 3000, 6004);
	ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), RTBP_FRAME_ONE);
	ck_assert_mem_eq(body, frame + RTBP_HEADER_BYTES, 9000);
	free(frame);
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("frame");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, length_is_big_endian);
	tcase_add_test(c, nothing_is_no_frame);
	tcase_add_test(c, several_frames_at_once);
	tcase_add_test(c, split_at_every_byte);
	tcase_add_test(c, one_byte_at_a_time);
	tcase_add_test(c, frames_across_reads_keep_their_bytes);
	tcase_add_test(c, oversize_is_judged_from_four_bytes);
	tcase_add_test(c, oversize_behind_good_frames);
	tcase_add_test(c, the_largest_frame_passes);
	tcase_add_test(c, memory_follows_bytes_not_promises);
	tcase_add_test(c, memory_is_given_back);
	tcase_add_test(c, room_is_never_empty);
	tcase_add_test(c, no_memory_loses_nothing);
	return run_tests("frame", c);
}
