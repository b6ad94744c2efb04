/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * calls: when the next presence call of one join may be sent. Pure.
 *
 * The server closes a channel at its sixth presence call in 30 s. We use four, keep the fifth for
 * showing that somebody has gone, and never make a sixth. So that a burst does not use up what
 * the half minute has and then leave an old state standing, calls are spread: the first of a
 * window goes at once, the next ones after growing pauses.
 */
#include <stdbool.h>
#include <stdint.h>

enum {
	CALLS_MAX = 5,
	/* The server's window and some air: what we send evenly may arrive closer together. */
	CALLS_WINDOW_MS = 31000,
};

struct calls {
	uint64_t at_ms[CALLS_MAX]; /* a ring; n % CALLS_MAX is the oldest */
	unsigned n;                /* since calls_init(); the ring holds the last CALLS_MAX */
};

/* A new channel at the server counts from zero. */
void calls_init(struct calls *c);

/* The earliest time from `now` on at which a call may be made; `leaving`: one that takes somebody
 * away, for which the reserve is kept and no pause is made. */
uint64_t calls_next(const struct calls *c, uint64_t now, bool leaving);

void calls_made(struct calls *c, uint64_t now);
