/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Lets the n-th allocation of the code under test fail. Assertions of Check allocate, too, so none may
 * stand where fail_at is not 0. Works for the objects of the program only (not inside shared libraries)
 * and needs its link options --wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray. One file of
 * a program includes it.
 */
#include <stdbool.h>
#include <stddef.h>

/* 0: allocations are granted; n: the n-th from now fails, and with `all` those behind it as well. */
static unsigned fail_at;
static bool all;
static bool has_failed;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

static bool granted(void)
{
	if (!fail_at || --fail_at)
		return true;
	has_failed = true;
	fail_at = all;
	return false;
}

void *__wrap_malloc(size_t size)
{
	return granted() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return granted() ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
	return granted() ? __real_realloc(p, size) : NULL;
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return granted() ? __real_reallocarray(p, n, size) : NULL;
}
