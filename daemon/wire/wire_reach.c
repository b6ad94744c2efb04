/* SPDX-License-Identifier: MIT */
#include "wire/wire_reach.h"

#include <stdio.h>
#include <string.h>

enum rank { RANK_GOOD, RANK_UNKNOWN, RANK_BAD_FAMILY, RANK_BAD };

void wire_reach_init(struct wire_reach *r)
{
	pthread_mutex_init(&r->lock, NULL);
}

void wire_reach_done(struct wire_reach *r)
{
	pthread_mutex_destroy(&r->lock);
}

static unsigned family_of(const char *addr)
{
	return strchr(addr, ':') != NULL;
}

static uint64_t last_ms(const struct wire_reach_addr *a)
{
	return a->good_ms > a->bad_ms ? a->good_ms : a->bad_ms;
}

/* Return: what is known of the address; NULL. */
static struct wire_reach_addr *find(struct wire_reach *r, const char *addr)
{
	for (unsigned i = 0; i < WIRE_REACH_ADDRS; i++) {
		if (strcmp(r->addrs[i].addr, addr) == 0)
			return &r->addrs[i];
	}
	return NULL;
}

static struct wire_reach_addr *find_or_make(struct wire_reach *r, const char *addr)
{
	struct wire_reach_addr *a = find(r, addr);

	if (a)
		return a;
	a = &r->addrs[0];
	for (unsigned i = 1; i < WIRE_REACH_ADDRS; i++) {
		if (last_ms(&r->addrs[i]) < last_ms(a))
			a = &r->addrs[i];
	}
	*a = (struct wire_reach_addr){ 0 };
	snprintf(a->addr, sizeof(a->addr), "%s", addr);
	return a;
}

void wire_reach_note(struct wire_reach *r, const char *addr, bool good, uint64_t now_ms)
{
	unsigned family = family_of(addr);
	struct wire_reach_addr *a;

	pthread_mutex_lock(&r->lock);
	a = find_or_make(r, addr);
	if (good) {
		a->good_ms = r->family_good_ms[family] = now_ms;
		a->bad_ms = r->family_bad_ms[family] = 0;
	} else {
		a->bad_ms = r->family_bad_ms[family] = now_ms;
		a->good_ms = 0;
	}
	pthread_mutex_unlock(&r->lock);
}

static bool is_fresh(uint64_t then_ms, uint64_t now_ms)
{
	return then_ms != 0 && now_ms - then_ms <= WIRE_REACH_MS;
}

/* The larger, the sooner it is tried within its rank. */
static enum rank rank_of(struct wire_reach *r, const char *addr, uint64_t now_ms,
			 uint64_t *ret_good)
{
	const struct wire_reach_addr *a = find(r, addr);

	*ret_good = 0;
	if (a && is_fresh(a->good_ms, now_ms)) {
		*ret_good = a->good_ms;
		return RANK_GOOD;
	}
	if (a && is_fresh(a->bad_ms, now_ms))
		return RANK_BAD;
	return is_fresh(r->family_bad_ms[family_of(addr)], now_ms) ? RANK_BAD_FAMILY : RANK_UNKNOWN;
}

void wire_reach_sort(struct wire_reach *r, struct resolver_answer *addrs, uint64_t now_ms)
{
	struct resolver_answer sorted = *addrs;
	enum rank ranks[RESOLVER_MAX_ADDRS];
	uint64_t good[RESOLVER_MAX_ADDRS];
	int at;

	pthread_mutex_lock(&r->lock);
	for (int i = 0; i < addrs->n_addrs; i++) {
		enum rank rank;
		uint64_t ms;

		rank = rank_of(r, addrs->addrs[i], now_ms, &ms);
		for (at = i; at > 0 &&
			     (ranks[at - 1] > rank || (ranks[at - 1] == rank && good[at - 1] < ms));
		     at--) {
			ranks[at] = ranks[at - 1];
			good[at] = good[at - 1];
			memcpy(sorted.addrs[at], sorted.addrs[at - 1], sizeof(sorted.addrs[0]));
		}
		ranks[at] = rank;
		good[at] = ms;
		memcpy(sorted.addrs[at], addrs->addrs[i], sizeof(sorted.addrs[0]));
	}
	pthread_mutex_unlock(&r->lock);
	*addrs = sorted;
}
