/* SPDX-License-Identifier: MIT */
#pragma once
/* Shared by the programs that test proto/: hex, exact copies, counted allocations. */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "suite.h"

#ifdef NDEBUG
#error tests need their assertions
#endif

#define N_OF(table) (sizeof(table) / sizeof((table)[0]))

/* Runs `test` for each element of `table`, whose index it finds in _i. */
#define LOOP(t, test, table) tcase_add_loop_test(t, test, 0, (int)N_OF(table))

/* Bytes from hex, spaces skipped. */
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

/* A copy on the heap of exactly `size` bytes, so that a sanitizer sees one byte too many. */
static inline uint8_t *exact(const void *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		ck_abort_msg("no memory");
	if (size)
		memcpy(copy, data, size);
	return copy;
}

/* Big-endian, as MessagePack and the frame length want it. */
static inline void put_be(uint8_t *at, uint64_t v, unsigned n_bytes)
{
	while (n_bytes--) {
		at[n_bytes] = (uint8_t)v;
		v >>= 8;
	}
}

static inline int run_tests(const char *name, TCase *cases)
{
	Suite *suite = suite_create(name);

	tcase_set_timeout(cases, 200);
	suite_add_tcase(suite, cases);
	return suite_run(suite);
}
