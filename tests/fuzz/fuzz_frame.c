/* SPDX-License-Identifier: MIT */
/*
 * A stream in any pieces: the first byte of an input seeds the sizes of the pieces, the rest is
 * the stream. However it is cut, the reader gives the frames that a plain look at the whole stream
 * finds, keeps no more memory than the bytes that came call for, and each frame goes through
 * rtbp_msg_parse(), whose views must lie in the frame.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "proto/rtbp_frame.h"
#include "proto/rtbp_msg.h"

enum { MAX_FRAME = 4096, READER_FLOOR = 64 * 1024 };

static void check_inside(struct rtbp_val v, const uint8_t *body, size_t size)
{
	FUZZ_CHECK(!v.p || (v.p > body && v.size > 0 && v.p + v.size <= body + size));
}

static void read_message(const uint8_t *body, size_t size)
{
	/* Exactly as large as the frame, so that a sanitizer sees one byte too many. */
	uint8_t *copy = malloc(size ? size : 1);
	struct rtbp_error_info e;
	struct rtbp_fault fault;
	struct rtbp_msg m;

	FUZZ_CHECK(copy);
	memcpy(copy, body, size);
	if (rtbp_msg_parse(copy, size, &m, &fault)) {
		FUZZ_CHECK(fault.offset <= size && fault.text && *fault.text);
	} else {
		check_inside(m.params, copy, size);
		check_inside(m.error, copy, size);
		check_inside(m.result, copy, size);
		check_inside((struct rtbp_val){ (const uint8_t *)m.method.p, m.method.size ?: 1 },
			     copy, size + !m.method.size);
		FUZZ_CHECK((m.type == RTBP_RESPONSE) == !m.method.p);
		FUZZ_CHECK((m.type == RTBP_RESPONSE) == !m.params.p);
		FUZZ_CHECK((m.type == RTBP_RESPONSE) == (!m.error.p != !m.result.p));
		if (m.error.p && rtbp_msg_error(m.error, &e))
			check_inside((struct rtbp_val){ (const uint8_t *)e.text.p, 1 }, copy,
				     size + 1);
	}
	free(copy);
}

/* The frame at `*at` of the whole stream, in the words of PROTOCOL.md. */
static int plain_next(const uint8_t *stream, size_t size, size_t *at, size_t *ret_size)
{
	const uint8_t *p = stream + *at;

	if (size - *at < 4)
		return RTBP_FRAME_NONE;
	*ret_size = ((size_t)p[0] << 24) + ((size_t)p[1] << 16) + ((size_t)p[2] << 8) + p[3];
	if (*ret_size > MAX_FRAME)
		return -EMSGSIZE;
	if (size - *at - 4 < *ret_size)
		return RTBP_FRAME_NONE;
	*at += 4 + *ret_size;
	return RTBP_FRAME_ONE;
}

/* Takes out all frames there are. Return: false when the stream cannot be read on. */
static bool drain(struct rtbp_reader *r, const uint8_t *stream, size_t fed, size_t *at)
{
	size_t size, expected, before;
	const uint8_t *body;
	int got, want;

	for (;;) {
		before = *at;
		want = plain_next(stream, fed, at, &expected);
		got = rtbp_reader_next(r, &body, &size);
		FUZZ_CHECK(got == want);
		if (got == RTBP_FRAME_NONE) {
			FUZZ_CHECK(rtbp_reader_partial(r) == fed - *at);
			return true;
		}
		FUZZ_CHECK(size == expected);
		if (got < 0)
			return false;
		FUZZ_CHECK(memcmp(body, stream + before + 4, size) == 0);
		read_message(body, size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rtbp_reader reader;
	size_t fed = 0, at = 0, n, room;
	uint32_t random;
	uint8_t *into;

	if (size == 0)
		return 0;
	random = *data++;
	size--;
	rtbp_reader_init(&reader, MAX_FRAME);
	while (fed < size) {
		/* 0 asks for single bytes, 255 for the whole at once. */
		n = random == 0 ? 1 : random == 255 ? size : 1 + (random >> 16) % 64;
		if (random != 0 && random != 255)
			random = random * 1103515245u + 12345u;
		n = n < size - fed ? n : size - fed;
		into = rtbp_reader_room(&reader, n, &room);
		FUZZ_CHECK(into && room >= n);
		FUZZ_CHECK(reader.cap <= READER_FLOOR + 2 * (rtbp_reader_partial(&reader) + n));
		memcpy(into, data + fed, n);
		rtbp_reader_add(&reader, n);
		fed += n;
		if (!drain(&reader, data, fed, &at))
			break;
	}
	rtbp_reader_done(&reader);
	return 0;
}
