/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_FIRST_CAP = 256 };

void rtbp_buf_done(struct rtbp_buf *b)
{
	free(b->data);
	b->data = NULL;
	b->size = b->cap = 0;
	b->error = 0;
}

void rtbp_buf_reset(struct rtbp_buf *b, size_t keep_bytes)
{
	if (b->cap > keep_bytes) {
		free(b->data);
		b->data = NULL;
		b->cap = 0;
	}
	b->size = 0;
	b->error = 0;
}

uint8_t *rtbp_buf_room(struct rtbp_buf *b, size_t n)
{
	size_t need, cap;
	uint8_t *data;

	if (b->error)
		return NULL;
	if (n > SIZE_MAX / 4 - b->size ||
	    (b->max_bytes && (b->size > b->max_bytes || n > b->max_bytes - b->size))) {
		b->error = -EMSGSIZE;
		return NULL;
	}
	need = b->size + n;
	if (need > b->cap || !b->data) {
		cap = b->cap ? b->cap : BUF_FIRST_CAP;
		while (cap < need)
			cap *= 2;
		data = realloc(b->data, cap);
		if (!data) {
			b->error = -ENOMEM;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
	}
	return b->data + b->size;
}

void rtbp_buf_put(struct rtbp_buf *b, const void *data, size_t n)
{
	uint8_t *at = rtbp_buf_room(b, n);

	if (at && n) {
		memcpy(at, data, n);
		b->size += n;
	}
}

void rtbp_buf_byte(struct rtbp_buf *b, uint8_t byte)
{
	rtbp_buf_put(b, &byte, 1);
}

void rtbp_buf_text(struct rtbp_buf *b, const char *text)
{
	rtbp_buf_put(b, text, strlen(text));
}

uint8_t *rtbp_buf_take(struct rtbp_buf *b, size_t *ret_size)
{
	uint8_t *data = b->data;

	*ret_size = b->size;
	b->data = NULL;
	b->size = b->cap = 0;
	return data;
}
