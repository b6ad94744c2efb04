/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Bounded mailbox between two threads: many items in, all items out, in order. Bounded in bytes:
 * an item counts from its put until the taker is done with it, so that a taker's own queue is
 * inside the bound.
 *
 * It only stores; waking the other side is the caller's business (mbox_put says when it is needed).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct mbox_item {
	struct mbox_item *next; /* owned by the mailbox while inside */
	unsigned kind;          /* meaning given by the user of the mailbox */
	unsigned link;
	uint64_t epoch;
	uint32_t code;
	bool binary;
	void *rider;                /* an object that travels with the item, or NULL */
	void (*rider_free)(void *); /* frees the rider if nobody took it (set rider to NULL then) */
	size_t size;                /* payload bytes in use */
	size_t room;                /* payload bytes allocated; this is what is charged */
	uint8_t *data; /* payload, inside this allocation, behind WIRE_PRE bytes of headroom */
};

struct mbox;

/* Return: the item with room for `size` payload bytes, zeroed header; NULL without memory. */
struct mbox_item *mbox_item_new(size_t size);
/* Wipes the payload, then frees; a rider still inside, too. NULL is fine. Returns NULL. */
struct mbox_item *mbox_item_free(struct mbox_item *item);
DEFINE_CLEANUP(struct mbox_item, mbox_item_free);

struct mbox *mbox_new(size_t max_bytes);
struct mbox *mbox_free(struct mbox *m); /* frees what is inside, too */

/*
 * Gives an item away. `force` admits it over the limit (open, close: there are few of them and they
 * must not be lost); an empty mailbox admits any item. Return: 0 and the mailbox owns the item; 1
 * when full, the caller still owns it. `ret_wake` tells that nothing was waiting to be taken, so
 * that the other side may be asleep.
 */
int mbox_put(struct mbox *m, struct mbox_item *item, bool force, bool *ret_wake);

/* Takes everything, oldest first, linked by ->next; NULL when empty. Each item ends in
 * mbox_done(). */
struct mbox_item *mbox_take(struct mbox *m);

/* Frees a taken item and gives its room back. Return: true when a put was refused before and at
 * least half of the mailbox is free again, so that the writer wants to hear of it (told once). */
bool mbox_done(struct mbox *m, struct mbox_item *item);

/* Bytes inside or taken and not done. */
size_t mbox_bytes(struct mbox *m);
