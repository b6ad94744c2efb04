/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Bounded mailbox between two threads: many items in, all items out, in order. Bounded in bytes.
 * It only stores; waking the other side is the caller's business (mbox_put says when it is needed).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mbox_item {
	struct mbox_item *next; /* owned by the mailbox while inside */
	unsigned kind;          /* meaning given by the user of the mailbox */
	unsigned link;
	uint64_t epoch;
	uint32_t code;
	bool binary;
	size_t size;   /* payload bytes */
	uint8_t *data; /* payload, inside this allocation, behind WIRE_PRE bytes of headroom */
};

struct mbox;

/* Return: the item with room for `size` payload bytes, zeroed header; NULL without memory. */
struct mbox_item *mbox_item_new(size_t size);
/* Wipes the payload, then frees. NULL is fine. Returns NULL. */
struct mbox_item *mbox_item_free(struct mbox_item *item);

struct mbox *mbox_new(size_t max_bytes);
struct mbox *mbox_free(struct mbox *m); /* frees what is inside, too */

/*
 * Gives an item away. `force` admits it over the limit (open, close: there are few of them and they
 * must not be lost). Return: 0 and the mailbox owns the item; 1 when full, the caller still owns
 * it. `ret_wake` is set to true when the mailbox was empty, so that the other side may be asleep.
 */
int mbox_put(struct mbox *m, struct mbox_item *item, bool force, bool *ret_wake);

/* Takes everything, oldest first, linked by ->next; NULL when empty. `ret_was_full` tells that a
 * put was refused since the last take, so that the writer wants to hear that there is room again.
 */
struct mbox_item *mbox_take(struct mbox *m, bool *ret_was_full);

size_t mbox_bytes(struct mbox *m);
