/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Counts and refuses allocations of the code under test, between allocs_watch() and
 * allocs_unwatch(): an assertion of Check allocates as well, so none may stand between them. Works
 * for the objects of the program only (not inside shared libraries) and needs its link options
 * --wrap=malloc,--wrap=calloc,--wrap=realloc. One file of a program includes it.
 */
#include <stddef.h>
#include <stdbool.h>

static struct {
	bool watching;
	unsigned n_calls;
	size_t largest; /* bytes of the largest request */
	bool refuse;    /* answers every request with NULL */
} allocs;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool allocs_grant(size_t size)
{
	if (!allocs.watching)
		return true;
	allocs.n_calls++;
	if (size > allocs.largest)
		allocs.largest = size;
	return !allocs.refuse;
}

void *__wrap_malloc(size_t size)
{
	return allocs_grant(size) ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return allocs_grant(n * size) ? __real_calloc(n, size) : NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
	return allocs_grant(size) ? __real_realloc(old, size) : NULL;
}

static inline void allocs_reset(void)
{
	allocs.n_calls = 0;
	allocs.largest = 0;
}

static inline void allocs_watch(bool refuse)
{
	allocs.refuse = refuse;
	allocs.watching = true;
}

static inline void allocs_unwatch(void)
{
	allocs.watching = false;
}
