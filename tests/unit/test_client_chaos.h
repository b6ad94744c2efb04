/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Allocations that fail: the linker routes those of library and protocol code through here
 * (--wrap). Those of the played daemon never fail: `armed` is set during calls of the library only.
 * Include in one file of a test program only, in place of test_client_fake.h.
 */
#include <rtbridge/rtbridge.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);

static struct {
	bool armed;
	long n, fail_from, fail_to; /* allocations counted from 1 */
	long n_failed;
} chaos;

static bool fails(void)
{
	if (!chaos.armed)
		return false;
	chaos.n++;
	if (chaos.n < chaos.fail_from || chaos.n > chaos.fail_to)
		return false;
	chaos.n_failed++;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

static int armed_wait(struct rtb_client *c, int timeout_ms)
{
	int r;

	chaos.armed = true;
	r = rtb_wait(c, timeout_ms);
	chaos.armed = false;
	return r;
}

/* The played daemon turns the client by this. */
#define rtb_wait(c, timeout_ms) armed_wait(c, timeout_ms)
#include "test_client_fake.h"

/* Repeats a call while it says -ENOMEM. */
#define TRY(r, call)                 \
	do {                         \
		chaos.armed = true;  \
		(r) = (call);        \
		chaos.armed = false; \
	} while ((r) == -ENOMEM)

/* A whole life, in which the N-th allocation fails, for all N. */
static void each_allocation(int n_in_a_row, void (*life)(struct fake *f))
{
	struct fake f;

	fake_start(&f);
	for (long n = 1;; n++) {
		chaos.n = chaos.n_failed = 0;
		chaos.fail_from = n;
		chaos.fail_to = n + n_in_a_row - 1;
		life(&f);
		if (!chaos.n_failed)
			break;
		ck_assert_int_lt(n, 1000);
	}
	/* Did it fail where it should? A life takes at least this many. */
	ck_assert_int_gt(chaos.n, 15);
	fake_stop(&f);
}
