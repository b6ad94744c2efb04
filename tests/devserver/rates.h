/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * How many a second, as the real server reckons it: every 5 s a sample, the average over up to 12
 * of them. A limit is reached, and is no longer, at a sample only: bursts between two of them pass.
 * Without timers: the samples that were due are taken when somebody looks.
 */
#include <stdbool.h>
#include <stdint.h>

#define DS_RATE_SAMPLES 12

/** struct ds_rate - all zero: not begun, or forgotten after 60 quiet samples */
struct ds_rate {
	bool begun;
	bool triggered; /* the average has reached the limit */
	int64_t next_ms;
	uint64_t count; /* since the last sample */
	uint64_t samples[DS_RATE_SAMPLES];
	unsigned n, at;
	unsigned quiet; /* samples without anything, the last ones */
	double average; /* a second */
};

/**
 * ds_rate_look() - takes the samples that are due, begins if need be
 *
 * It begins with a sample of nothing, which halves the first real one.
 *
 * @limit:   a second; 0: never reached
 * @tick_ms: from sample to sample
 */
void ds_rate_look(struct ds_rate *r, uint64_t limit, int64_t tick_ms, int64_t now_ms);
