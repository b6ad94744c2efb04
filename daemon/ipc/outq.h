/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * outq: what one conn has still to write, as references to shared blobs in the order of sending.
 *
 *     head                 tail
 *     [ half written | blob | blob | ... ]
 *
 * Without I/O: it hands out iovecs and is told how many bytes of them were taken. What it costs is
 * counted with OUTQ_ENTRY_COST for each entry, so that one-byte messages are not free.
 */
#include <stddef.h>
#include <sys/uio.h>

#include "base/blob.h"

enum {
	/* What an entry costs besides its bytes: the slot, and the header of the blob with its
	 * malloc. Rounded up generously, because the blob may be held by this queue alone. */
	OUTQ_ENTRY_COST = 64,
	/* Smaller ones cost the kernel less as a part of one iovec than as one of their own: a
	 * fifth to a third of the processor time at 32 messages of 300 bytes a turn, nothing at
	 * 1000. */
	OUTQ_COPY_MAX = 1024,
};

struct outq {
	struct blob **ring; /* `cap` slots, a power of two; the n entries start at `first` */
	size_t cap, first, n;
	size_t offset; /* bytes of the first entry that are written already */
	size_t cost;   /* unwritten bytes, plus OUTQ_ENTRY_COST per entry */
};

/* A zeroed struct is an empty queue. */
void outq_done(struct outq *q);

/* Takes a reference of its own. Return: 0, -ENOMEM. */
int outq_push(struct outq *q, struct blob *blob);

static inline size_t outq_cost_of(const struct blob *blob)
{
	return blob->size + OUTQ_ENTRY_COST;
}

/* Room to lay small entries side by side in, for the time of one write. */
struct outq_scratch {
	uint8_t *bytes;
	size_t size;
};

/* The first unwritten bytes, borrowed until the queue or the scratch changes. Return: how many
 * iovecs were filled. */
size_t outq_peek(const struct outq *q, const struct outq_scratch *scratch, struct iovec *iov,
		 size_t max, size_t *ret_bytes);
/* `bytes` of what outq_peek() showed are written. */
void outq_consume(struct outq *q, size_t bytes);

/* Drops everything, except the rest of a first entry that is half written. */
void outq_drop(struct outq *q);
