/* SPDX-License-Identifier: MIT */
#include "base/timers.h"

#include <stddef.h>

static int timer_compare(struct timer *a, struct timer *b)
{
	if (a->at_ms != b->at_ms)
		return a->at_ms < b->at_ms ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

/* RB_GENERATE_STATIC wants a __unused that only BSD's own headers define. */
RB_GENERATE_INTERNAL(timer_tree, timer, entry, timer_compare, __attribute__((unused)) static)

void timers_init(struct timers *t)
{
	RB_INIT(&t->tree);
	t->next_order = 0;
}

void timer_init(struct timer *timer, void (*fn)(void *ctx), void *ctx)
{
	*timer = (struct timer){ .fn = fn, .ctx = ctx };
}

void timer_arm(struct timers *t, struct timer *timer, uint64_t at_ms)
{
	timer_disarm(t, timer);
	timer->at_ms = at_ms;
	timer->order = t->next_order++;
	timer->armed = true;
	RB_INSERT(timer_tree, &t->tree, timer);
}

void timer_disarm(struct timers *t, struct timer *timer)
{
	if (timer->armed) {
		RB_REMOVE(timer_tree, &t->tree, timer);
		timer->armed = false;
	}
}

uint64_t timers_deadline(struct timers *t)
{
	struct timer *first = RB_MIN(timer_tree, &t->tree);

	return first ? first->at_ms : UINT64_MAX;
}

void timers_run(struct timers *t, uint64_t now_ms)
{
	uint64_t until = t->next_order;
	struct timer *timer;

	/* A callback may arm and disarm any timer, so the tree is searched anew each time. */
	for (;;) {
		RB_FOREACH(timer, timer_tree, &t->tree) {
			if (timer->at_ms > now_ms || timer->order < until)
				break;
		}
		if (!timer || timer->at_ms > now_ms)
			return;
		timer_disarm(t, timer);
		timer->fn(timer->ctx);
	}
}
