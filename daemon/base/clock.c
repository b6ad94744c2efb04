/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static uint64_t ms_of(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t system_now(void *ctx)
{
	(void)ctx;
	return ms_of(CLOCK_MONOTONIC);
}

static uint64_t system_boot(void *ctx)
{
	(void)ctx;
	return ms_of(CLOCK_BOOTTIME);
}

static int64_t system_wall(void *ctx)
{
	struct timespec t;

	(void)ctx;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const struct clock clock_system = { system_now, system_wall, NULL, system_boot };
