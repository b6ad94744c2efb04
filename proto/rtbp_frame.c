/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_table.h"

enum {
	READER_FIRST_CAP = 4096,
	READER_KEEP_CAP =
		64 * 1024, /* a buffer that one large frame has grown is given back when empty */
};

void rtbp_reader_init(struct rtbp_reader *r, size_t max_frame_bytes)
{
	*r = (struct rtbp_reader){ .max_frame_bytes = max_frame_bytes };
}

void rtbp_reader_done(struct rtbp_reader *r)
{
	free(r->buf);
	r->buf = NULL;
	r->cap = r->start = r->end = 0;
}

uint8_t *rtbp_reader_room(struct rtbp_reader *r, size_t want, size_t *ret_size)
{
	size_t cap;
	uint8_t *buf;

	if (want == 0)
		want = 1; /* a read of 0 bytes would look like the end of the stream */
	if (r->start == r->end) {
		r->start = r->end = 0;
		if (r->cap > READER_KEEP_CAP)
			rtbp_reader_done(r);
	} else if (r->start > 0 && r->cap - r->end < want) {
		memmove(r->buf, r->buf + r->start, r->end - r->start);
		r->end -= r->start;
		r->start = 0;
	}
	if (r->cap - r->end < want) {
		cap = r->cap ? r->cap : READER_FIRST_CAP;
		while (cap - r->end < want)
			cap *= 2;
		buf = realloc(r->buf, cap);
		if (!buf)
			return NULL;
		r->buf = buf;
		r->cap = cap;
	}
	*ret_size = r->cap - r->end;
	return r->buf + r->end;
}

void rtbp_reader_add(struct rtbp_reader *r, size_t n)
{
	r->end += n;
}

int rtbp_reader_next(struct rtbp_reader *r, const uint8_t **ret_body, size_t *ret_size)
{
	size_t have = r->end - r->start, size;
	const uint8_t *p;

	if (have < RTBP_HEADER_BYTES)
		return RTBP_FRAME_NONE;
	p = r->buf + r->start;
	size = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	if (size > r->max_frame_bytes) {
		*ret_size = size;
		return -EMSGSIZE;
	}
	if (have - RTBP_HEADER_BYTES < size)
		return RTBP_FRAME_NONE;
	*ret_body = p + RTBP_HEADER_BYTES;
	*ret_size = size;
	r->start += RTBP_HEADER_BYTES + size;
	return RTBP_FRAME_ONE;
}

size_t rtbp_reader_partial(const struct rtbp_reader *r)
{
	return r->end - r->start;
}

void rtbp_put_length(uint8_t at[4], size_t size)
{
	at[0] = (uint8_t)(size >> 24);
	at[1] = (uint8_t)(size >> 16);
	at[2] = (uint8_t)(size >> 8);
	at[3] = (uint8_t)size;
}
