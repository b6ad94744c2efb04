/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Name lookups on a thread of their own, because getaddrinfo() blocks for as long as the system's
 * resolver likes and must silence neither M nor the healthy connections of W.
 *
 * One lookup per `slot` at a time; a new one for the same slot forgets the old one. The answer is
 * delivered by resolver_dispatch() on M. A lookup that outlives its deadline is answered with a
 * failure at the deadline's check (resolver_tick); its late answer is dropped. A hung thread is
 * replaced by a new one, at most a few at a time.
 */
#include <stdint.h>
#include <sys/socket.h>

enum { RESOLVER_MAX_ADDRS = 8, RESOLVER_SLOTS = 16 };

struct resolver_answer {
	int n_addrs;                        /* 0: failed, see text */
	char addrs[RESOLVER_MAX_ADDRS][46]; /* numeric, in the order to try */
	char text[128];
};

struct resolver;
typedef void (*resolver_fn)(void *ctx, unsigned slot, uint64_t cookie,
			    const struct resolver_answer *answer);

int resolver_new(resolver_fn fn, void *ctx, struct resolver **ret);
struct resolver *resolver_free(struct resolver *r); /* never waits for a hung lookup */
int resolver_fd(const struct resolver *r);
void resolver_dispatch(struct resolver *r);

/* Return: 0, the answer follows; -ENOMEM; -EAGAIN when too many lookups hang. `host` is borrowed
 * for the call. */
int resolver_lookup(struct resolver *r, unsigned slot, uint64_t cookie, const char *host,
		    uint32_t timeout_ms);
void resolver_cancel(struct resolver *r, unsigned slot);
