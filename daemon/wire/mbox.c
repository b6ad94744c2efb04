/* SPDX-License-Identifier: MIT */
#include "wire/mbox.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"
#include "wire/wire_alloc.h"

struct mbox {
	pthread_mutex_t lock;
	struct mbox_item *head, **tail;
	size_t bytes, max_bytes;
	bool refused;
};

struct mbox_item *mbox_item_new(size_t size)
{
	struct mbox_item *item;

	if (size > SIZE_MAX - sizeof(*item) - WIRE_PRE)
		return NULL;
	item = wire_alloc(sizeof(*item) + WIRE_PRE + size);
	if (!item)
		return NULL;
	memset(item, 0, sizeof(*item));
	item->data = (uint8_t *)(item + 1) + WIRE_PRE;
	item->size = item->room = size;
	return item;
}

struct mbox_item *mbox_item_free(struct mbox_item *item)
{
	if (item) {
		if (item->rider && item->rider_free)
			item->rider_free(item->rider);
		wire_wipe_free(item);
	}
	return NULL;
}

struct mbox *mbox_new(size_t max_bytes)
{
	struct mbox *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	pthread_mutex_init(&m->lock, NULL);
	m->tail = &m->head;
	m->max_bytes = max_bytes;
	return m;
}

struct mbox *mbox_free(struct mbox *m)
{
	struct mbox_item *item, *next;

	if (m) {
		for (item = m->head; item; item = next) {
			next = item->next;
			mbox_item_free(item);
		}
		pthread_mutex_destroy(&m->lock);
		free(m);
	}
	return NULL;
}

/* Headers count: a flood of empty messages is bounded, too. */
static size_t item_cost(const struct mbox_item *item)
{
	return sizeof(*item) + WIRE_PRE + item->room;
}

int mbox_put(struct mbox *m, struct mbox_item *item, bool force, bool *ret_wake)
{
	size_t cost = item_cost(item);
	int r = 0;

	pthread_mutex_lock(&m->lock);
	if (!force && m->bytes > 0 && (cost > m->max_bytes || m->bytes > m->max_bytes - cost)) {
		m->refused = true;
		r = 1;
	} else {
		*ret_wake = m->head == NULL;
		item->next = NULL;
		*m->tail = item;
		m->tail = &item->next;
		m->bytes += cost;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

struct mbox_item *mbox_take(struct mbox *m)
{
	struct mbox_item *head;

	pthread_mutex_lock(&m->lock);
	head = m->head;
	m->head = NULL;
	m->tail = &m->head;
	pthread_mutex_unlock(&m->lock);
	return head;
}

bool mbox_done(struct mbox *m, struct mbox_item *item)
{
	bool tell = false;

	pthread_mutex_lock(&m->lock);
	m->bytes -= item_cost(item);
	if (m->refused && m->bytes <= m->max_bytes / 2) {
		m->refused = false;
		tell = true;
	}
	pthread_mutex_unlock(&m->lock);
	mbox_item_free(item);
	return tell;
}

size_t mbox_bytes(struct mbox *m)
{
	size_t bytes;

	pthread_mutex_lock(&m->lock);
	bytes = m->bytes;
	pthread_mutex_unlock(&m->lock);
	return bytes;
}
