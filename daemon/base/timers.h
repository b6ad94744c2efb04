/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Many one-shot timers over one clock, without a loop: the owner asks for the next deadline and
 * runs what is due. Equal deadlines run in the order of arming. Logic with time uses these, so
 * tests can move the clock.
 */
#include <stdbool.h>
#include <stdint.h>
#include <bsd/sys/tree.h>

struct timer {
	RB_ENTRY(timer) entry;
	uint64_t at_ms;
	uint64_t order;
	void (*fn)(void *ctx);
	void *ctx;
	bool armed;
};

RB_HEAD(timer_tree, timer);

struct timers {
	struct timer_tree tree;
	uint64_t next_order;
};

void timers_init(struct timers *t);
void timer_init(struct timer *timer, void (*fn)(void *ctx), void *ctx);
/* (Re-)arms. The struct belongs to the caller, who disarms it before it goes away. */
void timer_arm(struct timers *t, struct timer *timer, uint64_t at_ms);
void timer_disarm(struct timers *t, struct timer *timer);

/* UINT64_MAX: none is armed. */
uint64_t timers_deadline(struct timers *t);
/* Runs what is due at `now_ms`. What a callback arms for `now_ms` or earlier waits for the next
 * run. */
void timers_run(struct timers *t, uint64_t now_ms);
