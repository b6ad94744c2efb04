/* SPDX-License-Identifier: MIT */
#pragma once
/* What the tests of daemon/realtime/phx.h share: a decoder, and what a decoded frame must be. */
#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_pack.h"
#include "realtime/phx.h"

static struct phx_decoder decoder;
static struct phx_msg msg;
static const char *why;
static void *frame; /* msg's views may point here */

static inline void setup(void)
{
	decoder = (struct phx_decoder){ 0 };
	frame = NULL;
}

static inline void teardown(void)
{
	phx_decoder_done(&decoder);
	free(frame);
}

/* Decodes a copy of exactly that size, so that a sanitizer sees each byte read past its end. */
static inline int decode(enum phx_vsn vsn, bool binary, const void *data, size_t size)
{
	free(frame);
	frame = malloc(size ? size : 1);
	ck_assert_ptr_nonnull(frame);
	if (size)
		memcpy(frame, data, size);
	memset(&msg, 0xee, sizeof(msg));
	why = NULL;
	return phx_decode(&decoder, vsn, binary, frame, size, &msg, &why);
}

static inline int text2(const char *json)
{
	return decode(PHX_VSN_2, false, json, strlen(json));
}

static inline int text1(const char *json)
{
	return decode(PHX_VSN_1, false, json, strlen(json));
}

#define BINARY(bytes) decode(PHX_VSN_2, true, bytes, sizeof(bytes) - 1)

static inline void str_is(struct rtbp_str s, const char *want)
{
	if (!want) {
		ck_assert_ptr_null(s.p);
		return;
	}
	ck_assert_ptr_nonnull(s.p);
	ck_assert_msg(rtbp_str_is(s, want), "\"%.*s\", not \"%s\"", (int)s.size, s.p, want);
}

/* `want` NULL: absent. */
static inline void json_is(struct rtbp_val v, const char *want)
{
	struct rtbp_buf out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;

	if (!want) {
		ck_assert_ptr_null(v.p);
		return;
	}
	ck_assert_ptr_nonnull(v.p);
	ck_assert_int_eq(rtbp_mp_to_json(v.p, v.size, &out, &fault), 0);
	ck_assert_msg(out.size == strlen(want) && !memcmp(out.data, want, out.size), "%.*s, not %s",
		      (int)out.size, (const char *)out.data, want);
	rtbp_buf_done(&out);
}

static inline void bin_is(struct rtbp_val v, const void *want, size_t size)
{
	struct rtbp_str s;

	ck_assert(rtbp_get_bin(v, &s));
	ck_assert_uint_eq(s.size, size);
	ck_assert(!memcmp(s.p, want, size));
}

/* Runs one case with the fixture. */
static inline int run(const char *name, void (*add)(TCase *))
{
	TCase *tc = tcase_create(name);
	Suite *suite = suite_create(name);
	SRunner *runner;
	int n;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	add(tc);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n ? EXIT_FAILURE : EXIT_SUCCESS;
}
