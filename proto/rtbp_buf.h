/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Growing byte buffer of the protocol code, with a sticky error.
 *
 * Writers append without looking; whoever needs the bytes asks rtbp_buf_ok() once at the end. After
 * a failed allocation, or when an append would pass `max_bytes`, the buffer keeps what it has,
 * swallows further appends and says why in `error`.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rtbp_buf {
	uint8_t *data;
	size_t size;      /* bytes in use */
	size_t cap;       /* bytes allocated */
	size_t max_bytes; /* 0: no limit */
	int error;        /* 0, -ENOMEM or -EMSGSIZE; sticky until rtbp_buf_reset() */
};

#define RTBP_BUF_INIT            \
	{                        \
		NULL, 0, 0, 0, 0 \
	}

/* Frees the bytes; the buffer may be used again. Accepts a zeroed buffer. */
void rtbp_buf_done(struct rtbp_buf *b);

/* Forgets contents and error, keeps at most `keep_bytes` allocated. */
void rtbp_buf_reset(struct rtbp_buf *b, size_t keep_bytes);

/* Makes room for `n` more bytes and returns where they go (commit with b->size += n), or NULL. */
uint8_t *rtbp_buf_room(struct rtbp_buf *b, size_t n);

void rtbp_buf_put(struct rtbp_buf *b, const void *data, size_t n);
void rtbp_buf_byte(struct rtbp_buf *b, uint8_t byte);
void rtbp_buf_text(struct rtbp_buf *b, const char *text);

/* Hands the allocated bytes over to the caller, who frees them; the buffer is empty afterwards. */
uint8_t *rtbp_buf_take(struct rtbp_buf *b, size_t *ret_size);

static inline bool rtbp_buf_ok(const struct rtbp_buf *b)
{
	return b->error == 0;
}
