/* SPDX-License-Identifier: MIT */
/* The rig's clocks: they stand still unless advance() or fall_asleep() moves them. */
#include "hub_fixture.h"

static uint64_t now(void *ctx)
{
	(void)ctx;
	return rig.now;
}

static uint64_t boot(void *ctx)
{
	(void)ctx;
	return rig.now + rig.slept_ms;
}

static int64_t wall(void *ctx)
{
	(void)ctx;
	return (int64_t)(rig.now + rig.slept_ms) + 1700000000000 + rig.wall_step_ms;
}

const struct clock rig_clock = { now, wall, NULL, boot };

void fall_asleep(uint64_t ms)
{
	rig.slept_ms += ms;
}
