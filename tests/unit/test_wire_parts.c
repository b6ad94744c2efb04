/* SPDX-License-Identifier: MIT */
/* The parts of wire that know no connection: reassembly, the private allocator, cleaned texts,
 * what counts as this machine. */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "wire/wire_alloc.h"
#include "wire/wire_attempt.h"
#include "wire/wire_log.h"
#include "wire/wire_rx.h"
#include "suite.h"

static struct mbox_item *add(struct wire_rx *rx, const char *data, size_t rest, bool first,
			     bool final)
{
	struct wire_rx_piece piece = { .data = data,
				       .size = strlen(data),
				       .frame_rest = rest,
				       .first = first,
				       .final = final };
	struct mbox_item *item;

	ck_assert_int_eq(wire_rx_add(rx, &piece, &item), 0);
	return item;
}

START_TEST(test_rx_pieces)
{
	struct wire_rx rx = { .max_bytes = 100 };
	struct mbox_item *item;

	item = add(&rx, "whole", 0, true, true);
	ck_assert_uint_eq(item->size, 5);
	ck_assert_mem_eq(item->data, "whole", 5);
	mbox_item_free(item);
	/* One frame in two pieces, then a frame without bytes, then the last. */
	ck_assert_ptr_null(add(&rx, "one ", 4, true, false));
	ck_assert_ptr_null(add(&rx, "two ", 0, false, false));
	ck_assert_ptr_null(add(&rx, "", 0, false, false));
	item = add(&rx, "three", 0, false, true);
	ck_assert_uint_eq(item->size, 13);
	ck_assert_mem_eq(item->data, "one two three", 13);
	mbox_item_free(item);
	item = add(&rx, "", 0, true, true);
	ck_assert_uint_eq(item->size, 0);
	mbox_item_free(item);
	ck_assert_ptr_null(add(&rx, "left behind", 10, true, true));
	wire_rx_reset(&rx);
}
END_TEST

START_TEST(test_rx_limit)
{
	struct wire_rx rx = { .max_bytes = 10 };
	struct wire_rx_piece piece = { .data = "0123456789", .size = 10, .first = true };
	struct mbox_item *item;

	ck_assert_int_eq(wire_rx_add(&rx, &piece, &item), 0);
	piece.first = false;
	piece.size = 1;
	ck_assert_int_eq(wire_rx_add(&rx, &piece, &item), WIRE_RX_E_TOO_BIG);
	wire_rx_reset(&rx);
	/* Announced is enough. */
	piece = (struct wire_rx_piece){ .data = "0", .size = 1, .frame_rest = 10, .first = true };
	ck_assert_int_eq(wire_rx_add(&rx, &piece, &item), WIRE_RX_E_TOO_BIG);
	piece.frame_rest = SIZE_MAX;
	ck_assert_int_eq(wire_rx_add(&rx, &piece, &item), WIRE_RX_E_TOO_BIG);
	piece.frame_rest = 9;
	ck_assert_int_eq(wire_rx_add(&rx, &piece, &item), 0);
	wire_rx_reset(&rx);
}
END_TEST

START_TEST(test_rx_many_small_fragments)
{
	struct wire_rx rx = { .max_bytes = 1000 };
	struct mbox_item *item = NULL;

	for (int i = 0; i < 1000; i++) {
		struct wire_rx_piece piece = { .data = "abcdefghij" + i % 10,
					       .size = 1,
					       .first = i == 0,
					       .final = i == 999,
					       .binary = i == 0 };

		ck_assert_ptr_null(item);
		ck_assert_int_eq(wire_rx_add(&rx, &piece, &item), 0);
	}
	ck_assert_ptr_nonnull(item);
	ck_assert(item->binary);
	ck_assert_uint_eq(item->size, 1000);
	ck_assert_uint_le(item->room, 1000);
	for (size_t i = 0; i < 1000; i++)
		ck_assert_int_eq(item->data[i], "abcdefghij"[i % 10]);
	mbox_item_free(item);
}
END_TEST

START_TEST(test_alloc_keeps_bytes)
{
	static const size_t sizes[] = { 1, 100, 127, 128, 129, 5000, 70000, 300, 20, 9000 };
	unsigned char *p = NULL;
	size_t old = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		p = wire_alloc_realloc(p, sizes[i], "test");
		ck_assert_ptr_nonnull(p);
		for (size_t n = 0; n < (old < sizes[i] ? old : sizes[i]); n++)
			ck_assert_int_eq(p[n], (unsigned char)(n * 7));
		for (size_t n = 0; n < sizes[i]; n++)
			p[n] = (unsigned char)(n * 7);
		old = sizes[i];
	}
	ck_assert_ptr_null(wire_alloc_realloc(p, 0, "test"));
	ck_assert_ptr_null(wire_alloc_realloc(NULL, 0, "test"));
}
END_TEST

/* More blocks than the table has room for; some come from the plain heap then. */
START_TEST(test_alloc_many)
{
	enum { N = 700 };
	static unsigned char *blocks[N];

	for (unsigned i = 0; i < N; i++) {
		blocks[i] = wire_alloc_realloc(NULL, 200, "test");
		ck_assert_ptr_nonnull(blocks[i]);
		memset(blocks[i], (int)(i & 255), 200);
	}
	for (unsigned i = 0; i < N; i++)
		ck_assert_int_eq(blocks[(i * 37) % N][199], ((i * 37) % N) & 255);
	for (unsigned i = 0; i < N; i++)
		wire_alloc_realloc(blocks[(i * 37) % N], 0, "test");
}
END_TEST

START_TEST(test_clean_texts)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{ "plain\n", "plain" },
		{ "a\r\nb\x1b[1m", "a  b [1m" },
		{ "GET /x?apikey=SECRET&vsn=1 HTTP", "GET /x?apikey=...&vsn=1 HTTP" },
		{ "/x?APIKEY=SECRET", "/x?APIKEY=..." },
		{ "access_token=SECRET; x", "access_token=... x" },
		{ "x-api-key: SECRET\r\nhost: a", "x-api-key:...  host: a" },
		{ "apikey=", "apikey=..." },
		{ "apikey= SECRET", "apikey=..." },
		{ "Authorization: Bearer SECRET\nHost: a", "Authorization:... Host: a" },
		{ "authorization:Bearer SECRET", "authorization:..." },
		{ "apikey: SECRET SECRET", "apikey:..." },
		{ "apikey=\"SECRET\" x", "apikey=... x" },
		{ "{\"apikey\":\"SECRET\",\"a\":1}", "{\"apikey\":...,\"a\":1}" },
		{ "{\"access_token\" : \"SE\\\"CRET\"}", "{\"access_token\" :...}" },
		{ "{'authorization': 'Bearer SECRET'}", "{'authorization':...}" },
		{ "\"{\\\"apikey\\\":\\\"SECRET\\\"}\"", "\"{\\\"apikey\\\":...}\"" },
		{ "{\"apikey\":\"SECRET\\", "{\"apikey\":..." },
		{ "{\"apikey\":[\"SECRET\"]}", "{\"apikey\":..." },
		/* Words for people stay. */
		{ "InvalidJWTToken: Token has expired", "InvalidJWTToken: Token has expired" },
		{ "No `apikey` header was found", "No `apikey` header was found" },
		{ "the apikey", "the apikey" },
	};
	char to[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		wire_log_clean(to, sizeof(to), cases[i].from, strlen(cases[i].from));
		ck_assert_str_eq(to, cases[i].to);
	}
	/* A byte that ends a string does not end a secret. */
	wire_log_clean(to, sizeof(to), "apikey=a\0SECRET b", 17);
	ck_assert_str_eq(to, "apikey=... b");
	/* No room for the mark: nothing behind it either. */
	for (size_t size = 1; size < 20; size++) {
		wire_log_clean(to, size, "key apikey=SECRET", 17);
		ck_assert_ptr_null(strstr(to, "SE"));
		ck_assert_uint_lt(strlen(to), size);
	}
}
END_TEST

START_TEST(test_local_addresses)
{
	static const struct {
		const char *addr;
		bool local;
	} cases[] = {
		{ "127.0.0.1", true },    { "127.9.8.7", true },
		{ "::1", true },          { "::ffff:127.0.0.1", true },
		{ "128.0.0.1", false },   { "0.0.0.0", false },
		{ "::", false },          { "::ffff:10.0.0.1", false },
		{ "fe80::1", false },     { "localhost", false },
		{ "192.168.0.1", false },
	};
	struct wire_attempt a = { 0 };

	ck_assert(!wire_attempt_is_local(&a));
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		a.addrs.n_addrs = 1;
		strcpy(a.addrs.addrs[0], cases[i].addr);
		ck_assert_msg(wire_attempt_is_local(&a) == cases[i].local, "%s", cases[i].addr);
	}
	/* All that may be used. */
	a.addrs.n_addrs = 2;
	strcpy(a.addrs.addrs[0], "127.0.0.1");
	strcpy(a.addrs.addrs[1], "10.0.0.1");
	ck_assert(!wire_attempt_is_local(&a));
}
END_TEST

START_TEST(test_authority)
{
	static const struct {
		bool tls;
		const char *host;
		uint16_t port;
		const char *authority;
	} cases[] = {
		{ true, "x.supabase.co", 443, "x.supabase.co" },
		{ false, "localhost", 80, "localhost" },
		{ false, "localhost", 443, "localhost:443" },
		{ true, "10.0.0.1", 8443, "10.0.0.1:8443" },
		{ true, "::1", 443, "[::1]" },
		{ true, "::1", 65535, "[::1]:65535" },
	};
	static const char *const headers[] = { "x-a: 1", "x-b: 2", NULL };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct wire_target target = { .tls = cases[i].tls,
					      .host = cases[i].host,
					      .port = cases[i].port,
					      .path = "/p",
					      .headers = headers };
		struct wire_attempt *a;

		ck_assert_int_eq(wire_attempt_new(&target, &a), 0);
		ck_assert_str_eq(a->authority, cases[i].authority);
		ck_assert_str_eq(secret_bytes(a->path), "/p");
		ck_assert_str_eq(secret_bytes(a->headers), "x-a: 1\r\nx-b: 2\r\n");
		wire_attempt_free(a);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_parts");
	TCase *t = tcase_create("parts");

	suite_add_tcase(suite, t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, test_rx_pieces);
	tcase_add_test(t, test_rx_limit);
	tcase_add_test(t, test_rx_many_small_fragments);
	tcase_add_test(t, test_alloc_keeps_bytes);
	tcase_add_test(t, test_alloc_many);
	tcase_add_test(t, test_clean_texts);
	tcase_add_test(t, test_local_addresses);
	tcase_add_test(t, test_authority);
	return suite_run(suite);
}
