/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * backoff: how long to wait before the next attempt. Pure: the jitter comes from a seed, no clock.
 *
 * Full jitter, rand(0, min(max, min * 2^n)), on top of the floor of the fault's class
 * (realtime/reasons.h). Floors that grow double with each attempt that fails that way. After an
 * attempt that was made at once (a delay under half of `min`) the next delay is at least that half:
 * never two in a row.
 *
 * If it is patient and the class has no floor, the delays from the fifth on are no less than a
 * quarter of what they may be, and an outage of ten minutes and more is asked after half as often:
 * twice `max`.
 */
#include <stdbool.h>
#include <stdint.h>

#include "realtime/session.h"

enum {
	BACKOFF_RETRY_AFTER_MAX_S = 3600, /* a server may not silence us for longer */
	BACKOFF_RESTART_MS = 1000,        /* after "restart": spread over this, then as usual */
	BACKOFF_SPREAD_N = 4,             /* so many are spread over all that they may be */
	BACKOFF_LONG_MS = 600000,         /* of waiting */
};

struct backoff {
	uint32_t min_ms, max_ms;
	uint64_t random;
	bool is_patient;    /* there is a server to spare: a link, not a token that ends */
	unsigned n;         /* failures since the last reset */
	unsigned n_slow;    /* those of them whose floor grows */
	uint64_t waited_ms; /* since the last reset */
	bool at_once;       /* the last delay was next to none */
};

void backoff_init(struct backoff *b, uint32_t min_ms, uint32_t max_ms, uint64_t seed);

/* The link proved stable: start anew. */
void backoff_reset(struct backoff *b);

/* The next attempt is made without asking for a delay. */
void backoff_at_once(struct backoff *b);

/* The delay before the next attempt, in ms. @retry_after_s: the server's wish, 0: none; takes the
 * place of the class floor. */
uint32_t backoff_next(struct backoff *b, enum session_fault fault, uint32_t retry_after_s);

/* value * 2^n, at most `max`. */
uint32_t backoff_doubled(uint32_t value, unsigned n, uint32_t max);

/* Uniform in 0 .. limit, from the same seed: jitter of other timers. */
uint32_t backoff_random(struct backoff *b, uint32_t limit);
