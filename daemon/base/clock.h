/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Time as a value that is handed in: rooms with timers get a clock, tests give them one that they
 * move. now_ms never goes back and has no relation to the calendar (CLOCK_MONOTONIC in the daemon);
 * boot_ms is the same and goes on while the machine sleeps (CLOCK_BOOTTIME), for what ends whether
 * we run or not; wall_ms is Unix time, for people only.
 */
#include <stdint.h>

struct clock {
	uint64_t (*now_ms)(void *ctx);
	int64_t (*wall_ms)(void *ctx);
	void *ctx;
	uint64_t (*boot_ms)(void *ctx); /* NULL: this machine does not sleep, now_ms serves */
};

static inline uint64_t clock_now(const struct clock *c)
{
	return c->now_ms(c->ctx);
}

static inline uint64_t clock_boot(const struct clock *c)
{
	return c->boot_ms ? c->boot_ms(c->ctx) : c->now_ms(c->ctx);
}

static inline int64_t clock_wall(const struct clock *c)
{
	return c->wall_ms(c->ctx);
}

extern const struct clock clock_system;
