/* SPDX-License-Identifier: MIT */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void *must(void *p)
{
	if (!p) {
		fputs("rtbridge-devserver: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *ds_alloc(size_t size)
{
	return must(calloc(1, size ? size : 1));
}

char *ds_str_dup(struct ds_str s)
{
	char *copy = ds_alloc(s.n + 1);

	if (s.n)
		memcpy(copy, s.p, s.n);
	return copy;
}

void ds_buf_done(struct ds_buf *b)
{
	free(b->data);
	*b = (struct ds_buf){ 0 };
}

void ds_buf_reserve(struct ds_buf *b, size_t extra)
{
	size_t cap = b->cap ? b->cap : 64;

	if (b->cap - b->len >= extra && b->data)
		return;
	while (cap - b->len < extra)
		cap *= 2;
	b->data = must(realloc(b->data, cap));
	b->cap = cap;
}

void ds_buf_add(struct ds_buf *b, const void *bytes, size_t n)
{
	ds_buf_reserve(b, n);
	if (n)
		memcpy(b->data + b->len, bytes, n);
	b->len += n;
}

void ds_buf_str(struct ds_buf *b, struct ds_str s)
{
	ds_buf_add(b, s.p, s.n);
}

void ds_buf_text(struct ds_buf *b, const char *text)
{
	ds_buf_add(b, text, strlen(text));
}

void ds_buf_byte(struct ds_buf *b, unsigned char byte)
{
	ds_buf_add(b, &byte, 1);
}

void ds_buf_fmt(struct ds_buf *b, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Only short, bounded things are formatted; long ones are added as spans. */
	if (n < 0 || (size_t)n >= sizeof(text))
		abort();
	ds_buf_add(b, text, (size_t)n);
}

void ds_buf_json(struct ds_buf *b, struct ds_str s)
{
	size_t start = 0;

	ds_buf_byte(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		ds_buf_add(b, s.p + start, i - start);
		start = i + 1;
		if (c == '"' || c == '\\')
			ds_buf_fmt(b, "\\%c", c);
		else
			ds_buf_fmt(b, "\\u%04x", c);
	}
	ds_buf_add(b, s.p + start, s.n - start);
	ds_buf_byte(b, '"');
}
