/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Byte spans and a growing byte buffer of the devserver. Running out of memory ends the process:
 * this is a test tool.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** struct ds_str - a borrowed run of bytes, not NUL-terminated */
struct ds_str {
	const char *p;
	size_t n;
};

#define DS_STR(literal) ((struct ds_str){ (literal), sizeof(literal) - 1 })

static inline struct ds_str ds_str(const char *text)
{
	return (struct ds_str){ text, strlen(text) };
}

static inline bool ds_str_eq(struct ds_str a, struct ds_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/** ds_str_dup() - a NUL-terminated copy; the caller frees it */
char *ds_str_dup(struct ds_str s);

/** ds_alloc() - zeroed memory, never NULL; the caller frees it */
void *ds_alloc(size_t size);

/** struct ds_buf - owns @data; all zero is an empty buffer */
struct ds_buf {
	char *data;
	size_t len;
	size_t cap;
};

void ds_buf_done(struct ds_buf *b);
/** ds_buf_reserve() - room for @extra more bytes, so that pointers into the buffer stay valid */
void ds_buf_reserve(struct ds_buf *b, size_t extra);
void ds_buf_add(struct ds_buf *b, const void *bytes, size_t n);
void ds_buf_str(struct ds_buf *b, struct ds_str s);
void ds_buf_text(struct ds_buf *b, const char *text);
void ds_buf_byte(struct ds_buf *b, unsigned char byte);
void ds_buf_fmt(struct ds_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** ds_buf_json() - @s as a JSON string with its quotes */
void ds_buf_json(struct ds_buf *b, struct ds_str s);

static inline struct ds_str ds_buf_view(const struct ds_buf *b)
{
	return (struct ds_str){ b->data, b->len };
}
