/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Framing without I/O: a stream of (u32 big-endian length, body). Bytes go in as they come, whole
 * bodies come out.
 *
 * A length is judged as soon as its four bytes are there; memory grows with the bytes that really
 * came, never with what a length promises.
 */
#include <stddef.h>
#include <stdint.h>

struct rtbp_reader {
	uint8_t *buf;
	size_t cap, start, end; /* start <= end <= cap; [start, end) is not yet consumed */
	size_t max_frame_bytes;
};

enum {
	RTBP_FRAME_NONE = 0, /* more bytes are needed */
	RTBP_FRAME_ONE = 1,  /* a whole frame came out */
};

void rtbp_reader_init(struct rtbp_reader *r, size_t max_frame_bytes);
void rtbp_reader_done(struct rtbp_reader *r);

/* Room to read into, at least 1 byte and usually `want`; commit what came by rtbp_reader_add().
 * Return: the room and its size; NULL without memory. Ends the life of bodies handed out before. */
uint8_t *rtbp_reader_room(struct rtbp_reader *r, size_t want, size_t *ret_size);
void rtbp_reader_add(struct rtbp_reader *r, size_t n);

/**
 * rtbp_reader_next() - the next whole frame
 * @ret_body: borrowed, until the next rtbp_reader_room() or _done()
 *
 * Return: RTBP_FRAME_ONE, RTBP_FRAME_NONE; -EMSGSIZE when the length is over the limit (@ret_size
 * says how long it claims to be), after which the stream cannot be read on.
 */
int rtbp_reader_next(struct rtbp_reader *r, const uint8_t **ret_body, size_t *ret_size);

/* Bytes of a frame that is not whole yet. */
size_t rtbp_reader_partial(const struct rtbp_reader *r);

void rtbp_put_length(uint8_t at[4], size_t size);
