/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_json_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Up to here comparing all pairs of hashes is cheaper than sorting. */
enum { PAIRWISE_MAX = 32 };

void rtbp_keys_init(struct rtbp_keys *keys)
{
	keys->v = keys->inline_v;
	keys->n = 0;
	keys->cap = RTBP_KEYS_INLINE;
}

void rtbp_keys_done(struct rtbp_keys *keys)
{
	if (keys->v != keys->inline_v)
		free(keys->v);
	rtbp_keys_init(keys);
}

static uint64_t load(const uint8_t *p, size_t n)
{
	uint64_t word = 0;

	memcpy(&word, p, n);
	return word;
}

/*
 * Eight bytes a step, the last ones by reads that overlap (a memcpy() of unknown length would cost
 * more than all the rest). Collisions cost time only, and not much, so no secret seed.
 */
static uint32_t hash_bytes(const uint8_t *p, size_t n)
{
	const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
	const uint8_t *end = p + n;
	uint64_t h = n * odd, last = 0;

	for (; end - p > 8; p += 8) {
		h = (h ^ load(p, 8)) * odd;
		h ^= h >> 32;
	}
	if (n >= 8)
		last = load(end - 8, 8);
	else if (n >= 4)
		last = load(p, 4) | load(end - 4, 4) << 32;
	else if (n)
		last = (uint64_t)p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)end[-1] << 16;
	return (uint32_t)(((h ^ last) * odd) >> 33);
}

static int grow(struct rtbp_keys *keys)
{
	size_t cap = keys->cap * 2;
	struct rtbp_key *v;

	if (keys->v == keys->inline_v) {
		v = malloc(cap * sizeof(*v));
		if (v)
			memcpy(v, keys->inline_v, sizeof(keys->inline_v));
	} else {
		v = reallocarray(keys->v, cap, sizeof(*v));
	}
	if (!v)
		return -ENOMEM;
	keys->v = v;
	keys->cap = cap;
	return 0;
}

int rtbp_keys_push(struct rtbp_keys *keys, const uint8_t *base, size_t at, uint32_t len)
{
	struct rtbp_key *key;

	if (keys->n == keys->cap) {
		int r = grow(keys);

		if (r)
			return r;
	}
	key = &keys->v[keys->n++];
	key->at = at;
	key->len = len;
	key->hash = hash_bytes(base + at, len) & 0x7fffffff;
	key->is_repeated = 0;
	return 0;
}

bool rtbp_key_equal(const struct rtbp_key *a, const struct rtbp_key *b, const uint8_t *base)
{
	return a->hash == b->hash && a->len == b->len &&
	       !memcmp(base + a->at, base + b->at, a->len);
}

static size_t mark_pairwise(struct rtbp_key *v, size_t n, const uint8_t *base)
{
	size_t found = 0;

	for (size_t i = 0; i + 1 < n; i++)
		for (size_t j = i + 1; j < n; j++)
			if (rtbp_key_equal(&v[i], &v[j], base)) {
				v[i].is_repeated = 1;
				found++;
				break;
			}
	return found;
}

static int by_place(const void *a_, const void *b_)
{
	const struct rtbp_key *a = a_, *b = b_;

	return a->at < b->at ? -1 : a->at > b->at;
}

/* Equal keys become neighbours, in the order of their places. */
static int by_key(const void *a_, const void *b_, void *base_)
{
	const struct rtbp_key *a = a_, *b = b_;
	const uint8_t *base = base_;
	int r;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	r = memcmp(base + a->at, base + b->at, a->len);
	return r ? r : by_place(a, b);
}

size_t rtbp_keys_find_repeated(struct rtbp_key *v, size_t n, const uint8_t *base)
{
	size_t found = 0;

	if (n <= PAIRWISE_MAX)
		return mark_pairwise(v, n, base);
	qsort_r(v, n, sizeof(*v), by_key, (void *)(uintptr_t)base);
	for (size_t i = 0; i + 1 < n; i++)
		if (rtbp_key_equal(&v[i], &v[i + 1], base)) {
			v[i].is_repeated = 1;
			found++;
		}
	if (found)
		qsort(v, n, sizeof(*v), by_place);
	return found;
}
