/* SPDX-License-Identifier: MIT */
#include "ipc/outq.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	OUTQ_FIRST_CAP = 8,
	OUTQ_KEEP_CAP = 64, /* a ring that a burst has grown is given back when it runs empty */
};

static struct blob **outq_slot(const struct outq *q, size_t i)
{
	return &q->ring[(q->first + i) & (q->cap - 1)];
}

void outq_done(struct outq *q)
{
	for (size_t i = 0; i < q->n; i++)
		blob_unref(*outq_slot(q, i));
	free(q->ring);
	*q = (struct outq){ 0 };
}

static int outq_grow(struct outq *q)
{
	size_t cap = q->cap ? q->cap * 2 : OUTQ_FIRST_CAP;
	struct blob **ring = malloc(cap * sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	for (size_t i = 0; i < q->n; i++)
		ring[i] = *outq_slot(q, i);
	free(q->ring);
	q->ring = ring;
	q->cap = cap;
	q->first = 0;
	return 0;
}

int outq_push(struct outq *q, struct blob *blob)
{
	if (q->n == q->cap && outq_grow(q) < 0)
		return -ENOMEM;
	*outq_slot(q, q->n++) = blob_ref(blob);
	q->cost += outq_cost_of(blob);
	return 0;
}

size_t outq_peek(const struct outq *q, const struct outq_scratch *scratch, struct iovec *iov,
		 size_t max, size_t *ret_bytes)
{
	size_t n = 0, used = 0, bytes = 0, skip = q->offset, left;
	bool copy, beside = false; /* the last iovec ends where the next copy goes */
	const struct blob *b;
	const uint8_t *at;

	for (size_t i = 0; i < q->n; i++) {
		b = *outq_slot(q, i);
		at = b->data + skip;
		left = b->size - skip;
		copy = left < OUTQ_COPY_MAX && left <= scratch->size - used;
		if (n == max && !(copy && beside))
			break;
		if (copy) {
			memcpy(scratch->bytes + used, at, left);
			at = scratch->bytes + used;
			used += left;
		}
		if (copy && beside)
			iov[n - 1].iov_len += left;
		else
			iov[n++] = (struct iovec){ (void *)(uintptr_t)at, left };
		beside = copy;
		bytes += left;
		skip = 0;
	}
	*ret_bytes = bytes;
	return n;
}

void outq_consume(struct outq *q, size_t bytes)
{
	struct blob *b;
	size_t left;

	while (q->n > 0) {
		b = *outq_slot(q, 0);
		left = b->size - q->offset;
		if (bytes < left) {
			q->offset += bytes;
			q->cost -= bytes;
			return;
		}
		bytes -= left;
		q->cost -= left + OUTQ_ENTRY_COST;
		q->offset = 0;
		q->first = (q->first + 1) & (q->cap - 1);
		q->n--;
		blob_unref(b);
	}
	if (q->cap > OUTQ_KEEP_CAP)
		outq_done(q);
}

void outq_drop(struct outq *q)
{
	size_t keep = q->offset > 0 ? 1 : 0;
	struct blob *b;

	while (q->n > keep) {
		b = *outq_slot(q, --q->n);
		q->cost -= outq_cost_of(b);
		blob_unref(b);
	}
}
