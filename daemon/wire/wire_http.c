/* SPDX-License-Identifier: MIT */
#include "wire/wire_http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

void wire_http_init(struct wire_http *h, char *body, size_t room)
{
	memset(h, 0, sizeof(*h));
	h->body = body;
	h->room = room;
}

/* Nothing more is needed. */
static void over(struct wire_http *h, bool whole)
{
	h->state = HTTP_OVER;
	h->whole = whole && !h->strange;
}

/* ---- the status line ---- */

static bool status_byte_is_good(size_t at, char c)
{
	/* 9 is a digit, 1 is 1 to 9, $ what ends the status. */
	static const char form[] = "HTTP/1.9 199$";

	switch (form[at]) {
	case '9':
		return c >= '0' && c <= '9';
	case '1':
		return at < 9 ? c == '1' : c >= '1' && c <= '9';
	case '$':
		return c == ' ' || c == '\r' || c == '\n';
	default:
		return c == form[at];
	}
}

static int status_byte(struct wire_http *h, char c)
{
	size_t at = h->line_size;

	if (!status_byte_is_good(at, c))
		return -EPROTO;
	h->line[h->line_size++] = c;
	if (at < 12)
		return 0;
	h->code = (unsigned)(h->line[9] - '0') * 100 + (unsigned)(h->line[10] - '0') * 10 +
		  (unsigned)(h->line[11] - '0');
	if (h->code == 101 || h->code >= 200)
		h->status = h->code;
	h->line_size = 0;
	h->state = c == '\n' ? HTTP_HEADERS : HTTP_STATUS_REST;
	return 0;
}

/* ---- lines ---- */

/* Return: 1 when `line` has a whole line, without its end; 0. What does not fit makes it empty of
 * meaning: a lone colon. */
static int line_byte(struct wire_http *h, char c)
{
	if (c != '\n') {
		if (h->line_size < WIRE_HTTP_LINE_MAX)
			h->line[h->line_size] = c;
		if (h->line_size <= WIRE_HTTP_LINE_MAX)
			h->line_size++;
		return 0;
	}
	if (h->line_size > WIRE_HTTP_LINE_MAX) {
		strcpy(h->line, ":");
	} else {
		if (h->line_size > 0 && h->line[h->line_size - 1] == '\r')
			h->line_size--;
		h->line[h->line_size] = '\0';
	}
	h->line_size = 0;
	return 1;
}

/* Return: the value of the header `name` in this line, without the blanks around it; NULL. */
static char *header_value(char *line, const char *name)
{
	size_t len = strlen(name);
	char *value, *end;

	if (strncasecmp(line, name, len) != 0 || line[len] != ':')
		return NULL;
	value = line + len + 1;
	value += strspn(value, " \t");
	for (end = value + strlen(value); end > value && strchr(" \t", end[-1]); end--)
		;
	*end = '\0';
	return value;
}

/* Return: false when it is no number of 1 to 15 digits. */
static bool number_read(const char *text, uint64_t *ret)
{
	size_t len = strspn(text, "0123456789");
	uint64_t n = 0;

	if (len == 0 || len > 15 || text[len] != '\0')
		return false;
	for (; *text; text++)
		n = n * 10 + (uint64_t)(*text - '0');
	*ret = n;
	return true;
}

static void header_line(struct wire_http *h)
{
	uint64_t n;
	char *value;

	value = header_value(h->line, "content-length");
	if (value) {
		if (!number_read(value, &n) || (h->has_length && n != h->left))
			h->strange = true;
		else
			h->left = n;
		h->has_length = true;
	}
	value = header_value(h->line, "transfer-encoding");
	if (value) {
		/* What is encoded in another way first is of no use, but ends like this, too. */
		h->chunked =
			strlen(value) >= 7 && strcasecmp(value + strlen(value) - 7, "chunked") == 0;
		h->strange = h->strange || strcasecmp(value, "chunked") != 0;
	}
	/* A date instead of seconds is read over. */
	value = header_value(h->line, "retry-after");
	if (value && number_read(value, &n))
		h->retry_after_s = n < WIRE_HTTP_RETRY_MAX_S ? (uint32_t)n : WIRE_HTTP_RETRY_MAX_S;
}

static void headers_over(struct wire_http *h)
{
	if (h->status == 0) {
		h->chunked = h->has_length = h->strange = false;
		h->retry_after_s = 0;
		h->left = 0;
		h->state = HTTP_STATUS;
	} else if (h->status == 101 || h->status == 204 || h->status == 304) {
		over(h, true);
	} else if (h->chunked) {
		h->left = 0;
		h->state = HTTP_CHUNK_SIZE;
	} else if (!h->has_length || h->strange) {
		h->state = HTTP_TO_END;
	} else if (h->left > 0) {
		h->state = HTTP_LENGTH;
	} else {
		over(h, true);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void chunk_size_line(struct wire_http *h)
{
	const char *p = h->line;
	uint64_t n = 0;
	int digit;

	for (; (digit = hex_digit(*p)) >= 0 && p < h->line + 8; p++)
		n = n * 16 + (uint64_t)digit;
	if (p == h->line || (*p && !strchr("; \t", *p))) {
		over(h, false);
		return;
	}
	h->left = n;
	h->state = n > 0 ? HTTP_CHUNK : HTTP_TRAILERS;
}

static void line_done(struct wire_http *h)
{
	bool empty = h->line[0] == '\0';

	switch (h->state) {
	case HTTP_STATUS_REST:
		h->state = HTTP_HEADERS;
		break;
	case HTTP_HEADERS:
		if (empty)
			headers_over(h);
		else
			header_line(h);
		break;
	case HTTP_CHUNK_SIZE:
		chunk_size_line(h);
		break;
	case HTTP_CHUNK_END:
		if (empty)
			h->state = HTTP_CHUNK_SIZE;
		else
			over(h, false);
		break;
	case HTTP_TRAILERS:
		if (empty)
			over(h, true);
		break;
	default:
		break;
	}
}

/* ---- the body ---- */

/* Return: how many of the bytes belong to this part of it. */
static size_t body_take(struct wire_http *h, const char *data, size_t size)
{
	bool bounded = h->state != HTTP_TO_END;
	size_t keep = h->room - h->body_size;

	if (bounded && size > h->left)
		size = (size_t)h->left;
	if (size > keep)
		h->strange = true; /* not whole */
	else
		keep = size;
	memcpy(h->body + h->body_size, data, keep);
	h->body_size += keep;
	if (bounded)
		h->left -= size;
	if (h->state == HTTP_LENGTH && h->left == 0)
		over(h, true);
	else if (h->state == HTTP_CHUNK && h->left == 0)
		h->state = HTTP_CHUNK_END;
	return size;
}

int wire_http_feed(struct wire_http *h, const char *data, size_t size)
{
	size_t n = 0;

	while (n < size && h->state != HTTP_OVER) {
		switch (h->state) {
		case HTTP_STATUS:
			if (status_byte(h, data[n++]) < 0)
				return -EPROTO;
			break;
		case HTTP_LENGTH:
		case HTTP_TO_END:
		case HTTP_CHUNK:
			n += body_take(h, data + n, size - n);
			break;
		default:
			if (line_byte(h, data[n++]))
				line_done(h);
			break;
		}
	}
	h->total += size;
	if (h->state != HTTP_OVER && h->total >= WIRE_HTTP_READ_MAX)
		return wire_http_end(h, false) < 0 ? -EPROTO : 1;
	return h->state == HTTP_OVER;
}

int wire_http_end(struct wire_http *h, bool orderly)
{
	if (h->state != HTTP_OVER)
		over(h, orderly && h->state == HTTP_TO_END);
	return h->status == 0 ? -EPROTO : 0;
}
