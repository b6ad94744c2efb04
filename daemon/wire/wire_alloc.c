/* SPDX-License-Identifier: MIT */
#include "wire/wire_alloc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	/* Sixteen links with some ten blocks each, and the requests; beyond that the heap serves.
	 */
	MAX_MAPS = 512,
	/* More would take the room that RLIMIT_MEMLOCK, usually 8 MiB, leaves for keys. Of a request
	 * with a large body it covers the headers, which come first. */
	LOCK_MAX = 128 * 1024,
};

static struct {
	pthread_mutex_t lock;
	size_t n;
	struct map {
		void *base;
		size_t mapped, size;
	} maps[MAX_MAPS];
} maps = { .lock = PTHREAD_MUTEX_INITIALIZER };

void *wire_alloc(size_t size)
{
	return malloc(size > 0 ? size : 1);
}

void wire_wipe_free(void *p)
{
	if (!p)
		return;
	explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

/* Under AddressSanitizer everything stays on the heap, whose borders it watches. */
static bool map_wanted(size_t size)
{
#if defined(__SANITIZE_ADDRESS__)
	(void)size;
	return false;
#else
	return size >= WIRE_ALLOC_PRIVATE;
#endif
}

static void *map_new(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t mapped = (size + page - 1) / page * page;
	bool stored;
	void *p;

	p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, mapped, MADV_DONTDUMP);
	/* Forbidden by RLIMIT_MEMLOCK: then it may be swapped. */
	(void)mlock(p, mapped < LOCK_MAX ? mapped : LOCK_MAX);
	pthread_mutex_lock(&maps.lock);
	stored = maps.n < MAX_MAPS;
	if (stored)
		maps.maps[maps.n++] = (struct map){ p, mapped, size };
	pthread_mutex_unlock(&maps.lock);
	if (!stored) {
		munmap(p, mapped);
		return NULL;
	}
	return p;
}

/* Takes the entry of `p` out of the table. */
static bool map_take(void *p, struct map *ret)
{
	bool found = false;

	if ((uintptr_t)p % (uintptr_t)sysconf(_SC_PAGESIZE) != 0)
		return false;
	pthread_mutex_lock(&maps.lock);
	for (size_t i = 0; i < maps.n && !found; i++) {
		if (maps.maps[i].base == p) {
			*ret = maps.maps[i];
			maps.maps[i] = maps.maps[--maps.n];
			found = true;
		}
	}
	pthread_mutex_unlock(&maps.lock);
	return found;
}

/* 0 for a block of the heap. */
static size_t map_size(const void *p)
{
	size_t size = 0;

	if ((uintptr_t)p % (uintptr_t)sysconf(_SC_PAGESIZE) != 0)
		return 0;
	pthread_mutex_lock(&maps.lock);
	for (size_t i = 0; i < maps.n && size == 0; i++) {
		if (maps.maps[i].base == p)
			size = maps.maps[i].size;
	}
	pthread_mutex_unlock(&maps.lock);
	return size;
}

static void any_free(void *p)
{
	struct map map;

	if (map_take(p, &map)) {
		explicit_bzero(map.base, map.mapped);
		munmap(map.base, map.mapped);
	} else {
		wire_wipe_free(p);
	}
}

void *wire_alloc_realloc(void *p, size_t size, const char *reason)
{
	void *fresh = NULL;
	size_t old;

	(void)reason;
	if (size > 0) {
		if (map_wanted(size))
			fresh = map_new(size);
		if (!fresh)
			fresh = malloc(size);
		if (!fresh)
			return NULL;
	}
	if (p) {
		old = map_size(p);
		if (old == 0)
			old = malloc_usable_size(p);
		if (fresh)
			memcpy(fresh, p, old < size ? old : size);
		any_free(p);
	}
	return fresh;
}
