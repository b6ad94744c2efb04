/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Name lookups on threads of their own, because getaddrinfo() blocks for as long as the system's
 * resolver likes and must silence neither M nor the healthy connections of W.
 *
 * One lookup per slot at a time; a new one for the same slot forgets the old one. Answers come from
 * resolver_dispatch() on M. A lookup that outlives its deadline is answered with a failure; its
 * late answer is dropped. Each lookup has its own short-lived thread, at most RESOLVER_MAX_THREADS
 * at a time, so a hung one holds up nobody else.
 *
 * It may not decide anything about the addresses except their order. All calls on M.
 */
#include <stdbool.h>
#include <stdint.h>

enum {
	RESOLVER_MAX_ADDRS = 8,
	RESOLVER_SLOTS = 25,
	RESOLVER_HOST_MAX = 255, /* longest DNS name, rounded up */
	/* A resolver that hangs for minutes meets one attempt per slot and half minute. */
	RESOLVER_MAX_THREADS = 32,
};

struct resolver_answer {
	int n_addrs;                        /* 0: failed, see text */
	char addrs[RESOLVER_MAX_ADDRS][46]; /* numeric, in the order to try */
	char text[128];
};

struct resolver;
/* May call resolver_lookup() and resolver_cancel(), not resolver_free(). */
typedef void (*resolver_fn)(void *ctx, unsigned slot, uint64_t cookie,
			    const struct resolver_answer *answer);
/* Blocks; fills addrs (any order) or text. Called on a thread of the resolver. */
typedef void (*resolver_lookup_fn)(const char *host, struct resolver_answer *ret);

/* Return: 0; -ENOMEM; another negative errno when the timer could not be made. */
int resolver_new(resolver_fn fn, void *ctx, struct resolver **ret);
/* Never waits for a hung lookup: its thread frees the rest when it comes back. Returns NULL. */
struct resolver *resolver_free(struct resolver *r);
/* Readable when resolver_dispatch() has work. */
int resolver_fd(const struct resolver *r);
void resolver_dispatch(struct resolver *r);

/* Return: 0, the answer follows; -ENAMETOOLONG; -ENOMEM; -EAGAIN when too many lookups hang.
 * `host` is borrowed for the call. */
int resolver_lookup(struct resolver *r, unsigned slot, uint64_t cookie, const char *host,
		    uint32_t timeout_ms);
void resolver_cancel(struct resolver *r, unsigned slot);

/* Puts IPv6 and IPv4 in turns, the family of the first address first: one dead family costs one
 * attempt, not all of them. */
void resolver_interleave(struct resolver_answer *answer);

/* "localhost" and its subdomains. */
bool resolver_is_localhost(const char *host);

/* Tests: replaces getaddrinfo() for resolvers made later; NULL restores it. */
void resolver_set_lookup(resolver_lookup_fn fn);
