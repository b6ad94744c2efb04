/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pace: how many joins in a second. Pure.
 *
 * The server counts the joins of a project's clients together, and who exceeds the limit loses the
 * whole connection. Nobody tells us how much of it others use; so the first joins are sent slowly,
 * after PACE_CLEAN of them without a complaint faster, and for ten minutes after a complaint at
 * half the slow pace.
 */
#include <stdint.h>

#include "base/bucket.h"

enum {
	PACE_BURST = 10,
	PACE_CLEAN = 50,
	PACE_FASTER = 5, /* times, at most: pace_init()'s `most` may allow less */
	PACE_SLOW_MS = 10 * 60 * 1000,
};

struct pace {
	struct bucket bucket;
	uint32_t base, most; /* per second */
	unsigned n_clean;    /* since the last complaint */
	uint64_t slow_until_ms;
};

/* @most: the least of PACE_FASTER * base and this; 0: not known. */
void pace_init(struct pace *p, uint32_t base, uint32_t most, uint64_t now);
/* As bucket_take() and bucket_give_back(). */
uint64_t pace_take(struct pace *p, uint64_t now);
void pace_give_back(struct pace *p);
/* A join was answered, and not with a complaint about too many of them. */
void pace_clean(struct pace *p);
void pace_too_fast(struct pace *p, uint64_t now);
/* Joins in a second, now. */
uint32_t pace_per_s(const struct pace *p, uint64_t now);
