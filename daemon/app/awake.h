/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * awake: notices what happens to the machine and may have ended its connections without a word:
 * it slept, or its network has changed.
 *
 *   timerfd (CLOCK_BOOTTIME) -- each AWAKE_LOOK_MS, and at once after a sleep --> both clocks
 *        compared --> slept()
 *   rtnetlink (addresses, routes, links) --> quiet for AWAKE_QUIET_MS, or AWAKE_LATE_MS after the first
 *        --> network()
 *
 * CLOCK_MONOTONIC stands still while the machine sleeps, and so does every timer of the loop; the
 * difference to CLOCK_BOOTTIME is how long it slept. What changes by itself all the time (lifetimes
 * in router advertisements, the machine's own loopback, addresses that are still being tried) is no
 * change of the network.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct awake;
struct loop;

enum {
	AWAKE_LOOK_MS = 5000,
	AWAKE_SLEPT_MIN_MS = 2000, /* less is the clocks' own jitter, or no harm */
	AWAKE_QUIET_MS = 300,
	AWAKE_LATE_MS = 5000, /* a network that never comes to rest is looked at all the same */
};

struct awake_ops {
	void (*slept)(void *ctx, uint64_t ms);
	void (*network)(void *ctx);
};

/* Return: 0; -ENOMEM; another negative errno when the kernel has no timer. Without rtnetlink (no
 * such family in a sandbox) it says so in the log and does the rest. */
int awake_new(struct loop *loop, const struct awake_ops *ops, void *ctx, struct awake **ret);
struct awake *awake_free(struct awake *a); /* NULL is fine. Returns NULL. */

/* Whether a datagram of rtnetlink holds something that can make or end a connection. */
bool awake_is_news(const void *data, size_t size);

/* The two clocks, in ms; a sleep is what their difference has grown by. Return: ms slept since the
 * last call; 0: less than AWAKE_SLEPT_MIN_MS. */
struct awake_clocks {
	uint64_t apart_ms;
	bool known;
};
uint64_t awake_look(struct awake_clocks *c, uint64_t now_ms, uint64_t boot_ms);
