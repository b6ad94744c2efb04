/* SPDX-License-Identifier: MIT */
#include "realtime/backoff.h"

#include "base/mix.h"

#include "realtime/reasons.h"

void backoff_init(struct backoff *b, uint32_t min_ms, uint32_t max_ms, uint64_t seed)
{
	*b = (struct backoff){ .min_ms = min_ms, .max_ms = max_ms, .random = seed };
}

void backoff_reset(struct backoff *b)
{
	b->n = b->n_slow = 0;
	b->waited_ms = 0;
	b->at_once = false;
}

void backoff_at_once(struct backoff *b)
{
	b->at_once = true;
}

uint32_t backoff_random(struct backoff *b, uint32_t limit)
{
	/* The upper half times the range: no bias worth naming below 2^32. */
	return (uint32_t)((mix_next(&b->random) >> 32) * ((uint64_t)limit + 1) >> 32);
}

uint32_t backoff_doubled(uint32_t value, unsigned n, uint32_t max)
{
	while (n-- > 0 && value < max)
		value = value > max / 2 ? max : value * 2;
	return value < max ? value : max;
}

uint32_t backoff_next(struct backoff *b, enum session_fault fault, uint32_t retry_after_s)
{
	const struct fault_reason *reason = reasons_of_fault(fault);
	uint32_t ceiling = backoff_doubled(b->min_ms, b->n, b->max_ms), floor = reason->floor_ms,
		 least = 0, delay;

	if (b->is_patient && b->waited_ms >= BACKOFF_LONG_MS && !floor)
		ceiling = backoff_doubled(ceiling, 1, UINT32_MAX);
	if (fault == SESSION_FAULT_RESTART && b->n == 0)
		ceiling = BACKOFF_RESTART_MS;
	if (reason->grown_ms)
		floor = backoff_doubled(floor, b->n_slow++, reason->grown_ms);
	if (retry_after_s > BACKOFF_RETRY_AFTER_MAX_S)
		retry_after_s = BACKOFF_RETRY_AFTER_MAX_S;
	if (retry_after_s)
		floor = retry_after_s * 1000;
	/* By now everybody's attempts are spread; short ones only knock more often. */
	if (b->is_patient && b->n >= BACKOFF_SPREAD_N && !floor)
		least = ceiling / 4;
	b->n++;
	delay = floor + least + backoff_random(b, ceiling - least);
	if (b->at_once && delay < b->min_ms / 2)
		delay = b->min_ms / 2;
	b->at_once = delay < b->min_ms / 2;
	b->waited_ms += delay;
	return delay;
}
