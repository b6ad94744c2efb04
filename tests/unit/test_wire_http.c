/* SPDX-License-Identifier: MIT */
/* The reader of HTTP answers: whatever the pieces are that an answer comes in. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire_http.h"
#include "suite.h"

#define OK      "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"

enum { ROOM = 32 };

static const struct {
	const char *answer;
	unsigned status;
	const char *body;
	bool whole; /* when the connection ends in order behind it */
	bool over;  /* without the connection's end */
	uint32_t retry_after_s;
} cases[] = {
	{ OK "Content-Length: 5\r\n\r\nhello", 200, "hello", true, true, 0 },
	{ OK "content-LENGTH:5\r\n\r\nhello and more", 200, "hello", true, true, 0 },
	{ OK "Content-Length: 5\r\n\r\nhell", 200, "hell", false, false, 0 },
	{ OK "Content-Length: 0\r\n\r\n", 200, "", true, true, 0 },
	{ OK "\r\nto the end", 200, "to the end", true, false, 0 },
	{ OK "Content-Length: 32\r\n\r\n0123456789abcdef0123456789abcdef", 200,
	  "0123456789abcdef0123456789abcdef", true, true, 0 },
	{ OK "Content-Length: 33\r\n\r\n0123456789abcdef0123456789abcdefX", 200,
	  "0123456789abcdef0123456789abcdef", false, true, 0 },
	{ OK "Content-Length: x\r\n\r\nhello", 200, "hello", false, false, 0 },
	{ OK "Content-Length: -1\r\n\r\nhello", 200, "hello", false, false, 0 },
	{ OK "Content-Length: 99999999999999999999\r\n\r\nhello", 200, "hello", false, false, 0 },
	{ OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 200, "hello", false, false, 0 },
	{ OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", true, true, 0 },
	{ CHUNKED "5\r\nhello\r\n0\r\n\r\n", 200, "hello", true, true, 0 },
	{ CHUNKED "2;a=b\r\nhe\r\n03 \r\nllo\r\n000\r\nX: y\r\nZ: 1\r\n\r\n", 200, "hello", true,
	  true, 0 },
	{ CHUNKED "A\r\n0123456789\r\nf\r\n0123456789abcde\r\n0\r\n\r\n", 200,
	  "01234567890123456789abcde", true, true, 0 },
	{ CHUNKED "0\r\n\r\n", 200, "", true, true, 0 },
	{ CHUNKED "5\r\nhello\r\n0\r\n", 200, "hello", false, false, 0 },
	{ CHUNKED "5\r\nhelloX\r\n", 200, "hello", false, true, 0 },
	{ CHUNKED "\r\n", 200, "", false, true, 0 },
	{ CHUNKED "5x\r\nhello", 200, "", false, true, 0 },
	{ CHUNKED "123456789\r\nhello", 200, "", false, true, 0 },
	{ CHUNKED "12345678\r\nhello", 200, "hello", false, false, 0 },
	{ OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200,
	  "ab", true, true, 0 },
	{ OK "Transfer-Encoding: gzip, Chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, "ab", false, true,
	  0 },
	{ OK "Transfer-Encoding: gzip\r\n\r\nab", 200, "ab", false, false, 0 },
	{ "HTTP/1.0 502 Bad Gateway\r\n\r\nx", 502, "x", true, false, 0 },
	{ "HTTP/1.1 429\r\nRetry-After: 30\r\n\r\n", 429, "", true, false, 30 },
	{ "HTTP/1.1 429 \r\nretry-after:\t 30 \t\r\n\r\n", 429, "", true, false, 30 },
	{ "HTTP/1.1 503 x\r\nRetry-After: 86401\r\n\r\n", 503, "", true, false, 86400 },
	{ "HTTP/1.1 503 x\r\nRetry-After: soon\r\n\r\n", 503, "", true, false, 0 },
	{ "HTTP/1.1 503 x\r\nX-Retry-After: 5\r\n\r\n", 503, "", true, false, 0 },
	{ "HTTP/1.1 503 x\r\nRetry-After-X: 5\r\n\r\n", 503, "", true, false, 0 },
	{ "HTTP/1.1 204 x\r\n\r\nno body", 204, "", true, true, 0 },
	{ "HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\nno body", 304, "", true, true, 0 },
	{ "HTTP/1.1 101 x\r\n\r\nno body", 101, "", true, true, 0 },
	{ "HTTP/1.1 100 Continue\r\n\r\n" OK "\r\nx", 200, "x", true, false, 0 },
	/* What an interim answer says is not about the answer. */
	{ "HTTP/1.1 199 x\r\nContent-Length: 1\r\nRetry-After: 1\r\nTransfer-Encoding: "
	  "chunked\r\n\r\n" OK "\r\nto the end",
	  200, "to the end", true, false, 0 },
	{ "HTTP/1.1 200\n\nx", 200, "x", true, false, 0 },
	{ "HTTP/1.1 200 \xff\x01\nno colon\n:\n: \n a fold\n\nx", 200, "x", true, false, 0 },
	{ "HTTP/1.1 202 ", 202, "", false, false, 0 },
	{ "HTTP/1.1 202 Accepted\r\nRetry-After: 1", 202, "", false, false, 0 },
};

enum { N_CASES = sizeof(cases) / sizeof(*cases) };

static void expect(const struct wire_http *h, int i, bool whole, const char *how)
{
	ck_assert_msg(h->status == cases[i].status, "%d %s: status %u", i, how, h->status);
	ck_assert_msg(h->body_size == strlen(cases[i].body) &&
			      memcmp(h->body, cases[i].body, h->body_size) == 0,
		      "%d %s: %.*s", i, how, (int)h->body_size, h->body);
	ck_assert_msg(h->whole == whole, "%d %s: whole %d", i, how, h->whole);
	ck_assert_uint_eq(h->retry_after_s, cases[i].retry_after_s);
}

/* Fed up to `at`, the rest, and then byte by byte; each piece in a block of its own, so that reading
 * over its end is seen. */
static int feed(struct wire_http *h, const char *data, size_t size)
{
	char *piece = malloc(size > 0 ? size : 1);
	int r;

	ck_assert_ptr_nonnull(piece);
	memcpy(piece, data, size);
	r = wire_http_feed(h, piece, size);
	free(piece);
	return r;
}

START_TEST(test_answers)
{
	const char *answer = cases[_i].answer;
	size_t size = strlen(answer);
	char body[ROOM];
	struct wire_http h;
	int r = 0;

	for (size_t at = 0; at <= size; at++) {
		wire_http_init(&h, body, ROOM);
		r = feed(&h, answer, at);
		ck_assert_int_ge(r, 0);
		if (r == 0)
			r = feed(&h, answer + at, size - at);
		ck_assert_int_eq(r, cases[_i].over);
		ck_assert_int_eq(wire_http_end(&h, true), 0);
		expect(&h, _i, cases[_i].whole, "in two");
	}
	wire_http_init(&h, body, ROOM);
	r = 0;
	for (size_t at = 0; at < size && r == 0; at++)
		r = feed(&h, answer + at, 1);
	ck_assert_int_eq(r, cases[_i].over);
	/* Torn off is not whole, unless it was over. */
	ck_assert_int_eq(wire_http_end(&h, false), 0);
	expect(&h, _i, cases[_i].over && cases[_i].whole, "in bytes");
}
END_TEST

/* The status stands from the byte behind it on. */
START_TEST(test_cut_anywhere)
{
	static const char answer[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello";
	char body[ROOM];
	struct wire_http h;

	for (size_t at = 0; at < sizeof(answer); at++) {
		wire_http_init(&h, body, ROOM);
		(void)feed(&h, answer, at);
		ck_assert_int_eq(wire_http_end(&h, true), at > 12 ? 0 : -EPROTO);
		ck_assert_uint_eq(h.status, at > 12 ? 202 : 0);
		ck_assert(h.whole == (at >= sizeof(answer) - 1));
	}
}
END_TEST

START_TEST(test_not_http)
{
	static const char *const texts[] = {
		"220 mail.example ESMTP\r\n",
		"http/1.1 200 OK\r\n",
		"HTTP/2 200\r\n",
		"HTTP/2.0 200 OK\r\n",
		"HTTP/1.x 200 OK\r\n",
		"HTTP/1.1  200 OK\r\n",
		"HTTP/1.1 000 OK\r\n",
		"HTTP/1.1 20 OK\r\n",
		"HTTP/1.1 2000 OK\r\n",
		"HTTP/1.1 -20 OK\r\n",
		" HTTP/1.1 200 OK\r\n",
		"\r\nHTTP/1.1 200 OK\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nno",
		"<html>",
	};
	char body[ROOM];
	struct wire_http h;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		wire_http_init(&h, body, ROOM);
		ck_assert_msg(feed(&h, texts[i], strlen(texts[i])) == -EPROTO, "%s", texts[i]);
		ck_assert_uint_eq(h.status, 0);
	}
}
END_TEST

/* No more than so much is read, in any part of it. */
START_TEST(test_limit)
{
	static const char *const starts[] = {
		OK "\r\n",
		OK "X: ",
		OK,
		CHUNKED "fffffff\r\n",
		CHUNKED "0\r\n",
		CHUNKED "1",
		"HTTP/1.1 100 x\r\n",
	};
	static const char *const pieces[] = { "0123456789\r\n", "0123456789" };
	char body[ROOM];
	struct wire_http h;
	int r;

	for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++) {
		for (size_t k = 0; k < 2; k++) {
			wire_http_init(&h, body, ROOM);
			r = feed(&h, starts[i], strlen(starts[i]));
			while (r == 0) {
				r = wire_http_feed(&h, pieces[k], strlen(pieces[k]));
				ck_assert_uint_le(h.total, WIRE_HTTP_READ_MAX + 16);
			}
			ck_assert_int_eq(r, i == 6 ? -EPROTO : 1);
			ck_assert(!h.whole);
			ck_assert_uint_le(h.body_size, ROOM);
		}
	}
}
END_TEST

/* Lines around the length that is kept. */
START_TEST(test_long_lines)
{
	static const char name[] = "Retry-After:";
	char answer[1000], body[ROOM];
	struct wire_http h;
	int n;

	for (int blanks = 200; blanks < 300; blanks++) {
		n = snprintf(answer, sizeof(answer), OK "%s%*s\r\nContent-Length: 0\r\n\r\n", name,
			     blanks, "7");
		wire_http_init(&h, body, ROOM);
		ck_assert_int_eq(feed(&h, answer, (size_t)n), 1);
		ck_assert(h.whole);
		/* The line has its carriage return. */
		ck_assert_uint_eq(h.retry_after_s,
				  sizeof(name) + (size_t)blanks <= WIRE_HTTP_LINE_MAX ? 7 : 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_http");
	TCase *t = tcase_create("answers");

	suite_add_tcase(suite, t);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, test_answers, 0, N_CASES);
	tcase_add_test(t, test_cut_anywhere);
	tcase_add_test(t, test_not_http);
	tcase_add_test(t, test_limit);
	tcase_add_test(t, test_long_lines);
	return suite_run(suite);
}
