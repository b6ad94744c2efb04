/* SPDX-License-Identifier: MIT */
#include "realtime/calls.h"

/* After so many calls in the window, how long after the last one the next may come. */
static const uint64_t pauses_ms[CALLS_MAX - 1] = { 0, 250, 1000, 4000 };

void calls_init(struct calls *c)
{
	*c = (struct calls){ .n = 0 };
}

/* The i-th last call, i from 1 on; there must be one. */
static uint64_t ago(const struct calls *c, unsigned i)
{
	return c->at_ms[(c->n - i) % CALLS_MAX];
}

uint64_t calls_next(const struct calls *c, uint64_t now, bool leaving)
{
	unsigned max = leaving ? CALLS_MAX : CALLS_MAX - 1, n;
	uint64_t at = now;

	/* While time goes on, calls leave the window: fewer of them, another pause. */
	for (;;) {
		uint64_t left;

		for (n = 0; n < CALLS_MAX && n < c->n && ago(c, n + 1) + CALLS_WINDOW_MS > at;)
			n++;
		if (n < max && (leaving || n == 0 || ago(c, 1) + pauses_ms[n] <= at))
			return at;
		left = ago(c, n) + CALLS_WINDOW_MS;
		at = n < max && ago(c, 1) + pauses_ms[n] < left ? ago(c, 1) + pauses_ms[n] : left;
	}
}

void calls_made(struct calls *c, uint64_t now)
{
	c->at_ms[c->n++ % CALLS_MAX] = now;
}
