/* SPDX-License-Identifier: MIT */
#include "realtime/pending.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 32 };

void pending_init(struct pending *p)
{
	*p = (struct pending){ .next_deadline = UINT64_MAX };
}

void pending_done(struct pending *p)
{
	free(p->at);
	pending_init(p);
}

int pending_reserve(struct pending *p)
{
	size_t n = p->end - p->first, cap = p->cap ? p->cap * 2 : FIRST_CAP;
	struct pending_push *at;

	if (p->end < p->cap)
		return 0;
	if (p->first > p->cap / 2) {
		memmove(p->at, p->at + p->first, n * sizeof(*p->at));
		p->first = 0;
		p->end = n;
		return 0;
	}
	at = reallocarray(p->at, cap, sizeof(*at));
	if (!at)
		return -ENOMEM;
	p->at = at;
	p->cap = cap;
	return 0;
}

/* The first place with a ref of at least `ref`. */
static size_t lower_bound(const struct pending *p, uint64_t ref)
{
	size_t low = p->first, high = p->end;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->at[mid].ref < ref)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void pending_add(struct pending *p, const struct pending_push *push)
{
	/* Refs are taken before the frame is made, so they may arrive slightly out of order. */
	size_t i = p->end;

	if (p->end > p->first && p->at[p->end - 1].ref > push->ref)
		i = lower_bound(p, push->ref);
	memmove(p->at + i + 1, p->at + i, (p->end - i) * sizeof(*p->at));
	p->at[i] = *push;
	p->end++;
	if (push->is_join)
		p->n_joins++;
	if (push->deadline_ms < p->next_deadline)
		p->next_deadline = push->deadline_ms;
}

/* Drops what is over and done with from the start. */
static void trim(struct pending *p)
{
	while (p->first < p->end && !p->at[p->first].fn && !p->at[p->first].is_join)
		p->first++;
	if (p->first == p->end)
		p->first = p->end = 0;
}

static void owed_no_more(struct pending *p, struct pending_push *push)
{
	if (push->is_join)
		p->n_joins--;
	push->is_join = false;
}

bool pending_answer(struct pending *p, uint64_t ref, struct pending_push *ret)
{
	size_t i = lower_bound(p, ref);

	if (i == p->end || p->at[i].ref != ref)
		return false;
	*ret = p->at[i];
	owed_no_more(p, &p->at[i]);
	p->at[i].fn = NULL;
	trim(p);
	return ret->fn != NULL;
}

bool pending_expire(struct pending *p, uint64_t now, uint64_t after, struct pending_push *ret)
{
	uint64_t earliest = UINT64_MAX;

	if (p->next_deadline > now)
		return false;
	for (size_t i = lower_bound(p, after + 1); i < p->end; i++) {
		if (!p->at[i].fn || p->at[i].deadline_ms > now)
			continue;
		*ret = p->at[i];
		p->at[i].fn = NULL;
		trim(p);
		return true;
	}
	for (size_t i = p->first; i < p->end; i++) {
		if (p->at[i].fn && p->at[i].deadline_ms < earliest)
			earliest = p->at[i].deadline_ms;
	}
	p->next_deadline = earliest;
	return false;
}

void pending_settle(struct pending *p, uint64_t sent_ms)
{
	if (!p->n_joins)
		return;
	for (size_t i = p->first; i < p->end; i++) {
		if (!p->at[i].fn && p->at[i].sent_ms <= sent_ms)
			owed_no_more(p, &p->at[i]);
	}
	trim(p);
}
