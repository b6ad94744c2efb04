/* SPDX-License-Identifier: MIT */
#include "timer.h"

#include <stdlib.h>

static bool before(const struct ds_timer *a, const struct ds_timer *b)
{
	return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void swap(struct ds_timer *a, struct ds_timer *b)
{
	struct ds_timer t = *a;

	*a = *b;
	*b = t;
}

void ds_timers_add(struct ds_timers *ts, struct ds_timer t)
{
	size_t i = ts->n;

	if (ts->n == ts->cap) {
		size_t cap = ts->cap ? ts->cap * 2 : 16;
		struct ds_timer *heap = ds_alloc(cap * sizeof(*heap));

		if (ts->n)
			memcpy(heap, ts->heap, ts->n * sizeof(*heap));
		free(ts->heap);
		ts->heap = heap;
		ts->cap = cap;
	}
	t.order = ts->next_order++;
	ts->heap[ts->n++] = t;
	while (i > 0 && before(&ts->heap[i], &ts->heap[(i - 1) / 2])) {
		swap(&ts->heap[i], &ts->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
}

int64_t ds_timers_next(const struct ds_timers *ts)
{
	return ts->n ? ts->heap[0].due_ms : -1;
}

bool ds_timers_take(struct ds_timers *ts, int64_t now_ms, struct ds_timer *ret)
{
	size_t i = 0;

	if (ts->n == 0 || ts->heap[0].due_ms > now_ms)
		return false;
	*ret = ts->heap[0];
	ts->heap[0] = ts->heap[--ts->n];
	for (;;) {
		size_t least = i, left = 2 * i + 1;

		if (left < ts->n && before(&ts->heap[left], &ts->heap[least]))
			least = left;
		if (left + 1 < ts->n && before(&ts->heap[left + 1], &ts->heap[least]))
			least = left + 1;
		if (least == i)
			return true;
		swap(&ts->heap[i], &ts->heap[least]);
		i = least;
	}
}

void ds_timers_done(struct ds_timers *ts)
{
	for (size_t i = 0; i < ts->n; i++)
		ds_buf_done(&ts->heap[i].frame);
	free(ts->heap);
	*ts = (struct ds_timers){ 0 };
}
