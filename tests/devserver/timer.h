/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Timers as a heap of (when, what, whom). Nothing is ever taken back: whoever gets a timer looks
 * whether its socket and channel are still there. Knows no clock.
 */
#include "buf.h"

enum ds_timer_kind {
	DS_TIMER_IDLE,
	DS_TIMER_UNSTICK,
	DS_TIMER_EXPIRY,
	DS_TIMER_SUBSCRIBE,
	DS_TIMER_SEND,
	DS_TIMER_STATE,
	DS_TIMER_LEAVE,
	DS_TIMER_READY
};

struct ds_timer {
	int64_t due_ms;
	uint64_t order; /* equal times fire in the order in which they were set */
	enum ds_timer_kind kind;
	uint64_t socket_id;
	uint64_t serial; /* of the channel, where there is one */
	struct ds_buf
		frame; /* DS_TIMER_SEND: a text frame; DS_TIMER_STATE: a payload, may be empty;
			  DS_TIMER_READY: empty unless it fails */
};

struct ds_timers {
	struct ds_timer *heap;
	size_t n, cap;
	uint64_t next_order;
};

/** ds_timers_add() - @t.frame is given */
void ds_timers_add(struct ds_timers *ts, struct ds_timer t);
/** ds_timers_next() - the earliest time, or -1 */
int64_t ds_timers_next(const struct ds_timers *ts);
/** ds_timers_take() - takes the earliest one that is due at @now_ms; its frame is given */
bool ds_timers_take(struct ds_timers *ts, int64_t now_ms, struct ds_timer *ret);
void ds_timers_done(struct ds_timers *ts);
