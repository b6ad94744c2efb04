/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Reads one HTTP/1 answer, piece by piece as it comes. The status is what matters: once its line
 * was there, nothing that follows can take it back.
 *
 * No I/O.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_HTTP_READ_MAX =
		1 << 20,          /* of one answer, headers and all; the rest is not waited for */
	WIRE_HTTP_LINE_MAX = 256, /* longer lines are read over */
	WIRE_HTTP_RETRY_MAX_S = 86400,
};

enum wire_http_state {
	HTTP_STATUS,      /* in the status line, up to the status */
	HTTP_STATUS_REST, /* the reason phrase */
	HTTP_HEADERS,
	HTTP_LENGTH, /* a body of `left` more bytes */
	HTTP_TO_END, /* a body that ends with the connection */
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK, /* `left` more bytes of this chunk */
	HTTP_CHUNK_END,
	HTTP_TRAILERS,
	HTTP_OVER,
};

struct wire_http {
	/* What is known; 1xx but 101 is not counted as an answer. */
	unsigned status; /* 0: none yet */
	uint32_t retry_after_s;
	char *body; /* the caller's room */
	size_t room, body_size;
	bool whole; /* the body is complete, and all of it is in `body` */

	enum wire_http_state state;
	size_t total;
	char line[WIRE_HTTP_LINE_MAX + 1];
	size_t line_size; /* may be more than is kept */
	unsigned code;    /* of the header that is read now */
	bool chunked, has_length, strange;
	uint64_t left;
};

void wire_http_init(struct wire_http *h, char *body, size_t room);

/* Return: 0; 1 when nothing more is needed; -EPROTO when this is not HTTP (there is no status). */
int wire_http_feed(struct wire_http *h, const char *data, size_t size);

/* The connection ended. `orderly`: by the server's will. Return: 0; -EPROTO without a status. */
int wire_http_end(struct wire_http *h, bool orderly);
