/* SPDX-License-Identifier: MIT */
#pragma once
/* Shared by the two programs that test proto/rtbp_json.h: hex, documents of a given shape. */
#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_json.h"
#include "suite.h"

#ifdef NDEBUG
#error tests need their assertions
#endif

/* Runs `test` for each element of `table`, whose index it finds in _i. */
#define LOOP(t, test, table) \
	tcase_add_loop_test(t, test, 0, (int)(sizeof(table) / sizeof((table)[0])))

/* Bytes as hex, in a static buffer good until the fourth next call. */
static inline const char *hex(const void *data, size_t size)
{
	static char text[4][4096];
	static unsigned turn;
	char *t = text[turn++ % 4];

	ck_assert_uint_lt(size * 2, sizeof(text[0]));
	t[0] = 0;
	for (size_t i = 0; i < size; i++)
		snprintf(t + 2 * i, 3, "%02x", ((const uint8_t *)data)[i]);
	return t;
}

/* The reverse; spaces between bytes are skipped. */
static inline size_t unhex(const char *text, uint8_t *ret, size_t room)
{
	size_t n = 0;
	unsigned byte;

	for (; *text; text++) {
		if (*text == ' ')
			continue;
		ck_assert_uint_lt(n, room);
		ck_assert_int_eq(sscanf(text, "%2x", &byte), 1);
		ret[n++] = (uint8_t)byte;
		text++;
	}
	return n;
}

static inline void put_n(struct rtbp_buf *b, const char *text, size_t n)
{
	while (n--)
		rtbp_buf_text(b, text);
}

__attribute__((format(printf, 2, 3))) static inline void put_fmt(struct rtbp_buf *b,
								 const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	rtbp_buf_text(b, text);
}

/* Both directions from buffer to fresh buffer; the result is what the function returned. */
static inline int to_mp(const struct rtbp_buf *json, struct rtbp_buf *ret)
{
	*ret = (struct rtbp_buf)RTBP_BUF_INIT;
	return rtbp_json_to_mp((const char *)json->data, json->size, 256, ret, NULL);
}

static inline int to_json(const struct rtbp_buf *mp, struct rtbp_buf *ret)
{
	*ret = (struct rtbp_buf)RTBP_BUF_INIT;
	return rtbp_mp_to_json(mp->data, mp->size, ret, NULL);
}
