/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * At which addresses a server spoke lately, and at which not: a black hole, and who takes connections
 * and says nothing, cost their seconds once, not at each reconnection. W notes, M sorts; it knows no
 * names and no ports. Any thread.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire/resolver.h"

enum {
	WIRE_REACH_MS = 10 * 60 * 1000, /* what is older is forgotten */
	WIRE_REACH_ADDRS = 32,          /* the oldest makes room */
};

struct wire_reach {
	pthread_mutex_t lock;
	/* CLOCK_MONOTONIC in ms; 0: never */
	struct wire_reach_addr {
		char addr[46];
		uint64_t good_ms, bad_ms;
	} addrs[WIRE_REACH_ADDRS];
	uint64_t family_good_ms[2], family_bad_ms[2]; /* IPv4, IPv6 */
};

/* `r` is all zeros before. */
void wire_reach_init(struct wire_reach *r);
void wire_reach_done(struct wire_reach *r);

/* `good`: somebody spoke there; else it was refused, unreachable, silent or cut off. */
void wire_reach_note(struct wire_reach *r, const char *addr, bool good, uint64_t now_ms);

/* What worked (the last one first), then what nothing is known of, then the family that failed,
 * then the addresses that failed. Otherwise the order stays. */
void wire_reach_sort(struct wire_reach *r, struct resolver_answer *addrs, uint64_t now_ms);
