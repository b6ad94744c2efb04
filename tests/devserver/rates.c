/* SPDX-License-Identifier: MIT */
#include "rates.h"

#define QUIET_MAX 60 /* 5 minutes */

static void sample(struct ds_rate *r, uint64_t limit, int64_t tick_ms)
{
	uint64_t sum = 0;

	r->samples[r->at++ % DS_RATE_SAMPLES] = r->count;
	if (r->n < DS_RATE_SAMPLES)
		r->n++;
	for (unsigned i = 0; i < r->n; i++)
		sum += r->samples[i];
	r->quiet = r->count ? 0 : r->quiet + 1;
	r->count = 0;
	r->average = (double)sum * 1000 / ((double)tick_ms * r->n);
	r->triggered = limit > 0 && r->average >= (double)limit;
}

void ds_rate_look(struct ds_rate *r, uint64_t limit, int64_t tick_ms, int64_t now_ms)
{
	while (r->begun && r->next_ms <= now_ms) {
		sample(r, limit, tick_ms);
		r->next_ms += tick_ms;
		if (r->quiet >= QUIET_MAX)
			*r = (struct ds_rate){ .begun = false };
	}
	if (r->begun)
		return;
	r->begun = true;
	sample(r, limit, tick_ms);
	r->next_ms = now_ms + tick_ms;
}
