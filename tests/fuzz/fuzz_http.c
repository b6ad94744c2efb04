/* SPDX-License-Identifier: MIT */
/*
 * daemon/wire/wire_http.h on any answer. The first byte says in pieces of how many bytes it comes, and
 * whether the connection's end is the server's will; the rest is what comes.
 *
 * Checked: pieces make no difference; a status stays what it is; a body is only what came, in its order,
 * and never more than there is room for; who is done is done; nothing that lacks its end is whole.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "wire/wire_http.h"

enum { ROOM = 64 };

struct outcome {
	int end; /* of the last feed, or of the connection's end */
	struct wire_http http;
	char body[ROOM + 1];
};

/* Each byte of the body stands in what came, behind the one before. */
static bool is_part_of(const char *body, size_t size, const char *data, size_t n)
{
	const char *at = data;

	for (size_t i = 0; i < size; i++) {
		at = memchr(at, body[i], n - (size_t)(at - data));
		if (!at)
			return false;
		at++;
	}
	return true;
}

static void feed(struct outcome *o, const char *data, size_t size, size_t piece, bool orderly)
{
	unsigned status = 0;
	size_t at = 0, n;
	int r = 0;

	memset(o, 0, sizeof(*o));
	o->body[ROOM] = '#';
	wire_http_init(&o->http, o->body, ROOM);
	while (at < size && r == 0) {
		n = size - at < piece ? size - at : piece;
		r = wire_http_feed(&o->http, data + at, n);
		at += n;
		FUZZ_CHECK(status == 0 || o->http.status == status);
		status = o->http.status;
		FUZZ_CHECK(o->http.body_size <= ROOM && o->body[ROOM] == '#');
		FUZZ_CHECK((r == 1) == (o->http.state == HTTP_OVER));
	}
	FUZZ_CHECK(r != 1 || status != 0);
	if (r == 0) {
		r = wire_http_end(&o->http, orderly);
		FUZZ_CHECK(r == 0 || r == -EPROTO);
		FUZZ_CHECK(!o->http.whole || orderly);
	}
	FUZZ_CHECK((r < 0) == (o->http.status == 0));
	FUZZ_CHECK(o->http.status == 0 || o->http.status == 101 ||
		   (o->http.status >= 200 && o->http.status < 1000));
	FUZZ_CHECK(o->http.retry_after_s <= WIRE_HTTP_RETRY_MAX_S);
	FUZZ_CHECK(is_part_of(o->body, o->http.body_size, data, size));
	o->end = r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t pieces[] = { 1, 2, 3, 7, 16, 64, 255, 1024 };
	struct outcome whole, parts;
	const char *text;
	bool orderly;

	if (size == 0)
		return 0;
	text = (const char *)data + 1;
	orderly = data[0] & 0x80;
	feed(&whole, text, size - 1, size, orderly);
	feed(&parts, text, size - 1, pieces[data[0] % (sizeof(pieces) / sizeof(*pieces))], orderly);
	FUZZ_CHECK((whole.end < 0) == (parts.end < 0));
	FUZZ_CHECK(whole.http.status == parts.http.status &&
		   whole.http.retry_after_s == parts.http.retry_after_s &&
		   whole.http.whole == parts.http.whole);
	FUZZ_CHECK(whole.http.body_size == parts.http.body_size &&
		   memcmp(whole.body, parts.body, whole.http.body_size) == 0);
	return 0;
}
