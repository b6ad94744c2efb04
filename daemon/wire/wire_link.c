/* SPDX-License-Identifier: MIT */
#include "wire/wire_link.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static void queue_init(struct wire_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static void queue_add(struct wire_queue *q, struct mbox_item *item)
{
	item->next = NULL;
	*q->tail = item;
	q->tail = &item->next;
}

static struct mbox_item *queue_take(struct wire_queue *q)
{
	struct mbox_item *item = q->head;

	if (item) {
		q->head = item->next;
		if (!q->head)
			q->tail = &q->head;
		item->next = NULL;
	}
	return item;
}

void wire_link_init(struct wire_link *l, unsigned nr, struct wire_shared *shared,
		    size_t max_message_bytes)
{
	memset(l, 0, sizeof(*l));
	l->nr = nr;
	l->shared = shared;
	l->rx.max_bytes = max_message_bytes;
	queue_init(&l->out);
	queue_init(&l->held);
}

void wire_link_begin(struct wire_link *l, struct mbox_item *item)
{
	l->state = LINK_TRYING;
	l->epoch = item->epoch;
	l->attempt = TAKE(item->rider);
	l->ended = false;
	memset(&l->end, 0, sizeof(l->end));
	l->paused = l->flush_over = l->close_sent = false;
	l->close_code = 0;
	l->pinned = l->request_sent = false;
	l->tls_text[0] = '\0';
	l->body_size = 0;
}

void wire_link_end(struct wire_link *l, enum wire_why why, const char *format, ...)
{
	va_list args;
	int n;

	if (l->ended)
		return;
	l->ended = true;
	l->end.why = why;
	n = snprintf(l->end.text, sizeof(l->end.text), "%s: ", l->where);
	va_start(args, format);
	vsnprintf(l->end.text + n, sizeof(l->end.text) - (size_t)n, format, args);
	va_end(args);
}

static void link_put(struct wire_link *l, struct mbox_item *item)
{
	bool wake = false;

	item->link = l->nr;
	item->epoch = l->epoch;
	mbox_put(l->shared->up, item, true, &wake);
	if (wake)
		wire_ring(l->shared->efd);
}

static struct mbox_item *news_new(enum wire_up kind, size_t size)
{
	struct mbox_item *item = mbox_item_new(size);

	if (!item) {
		/* M would wait for ever for news that cannot be told. */
		log_error("wire: no memory to report a connection's state; giving up");
		abort();
	}
	item->kind = kind;
	return item;
}

void wire_link_opened(struct wire_link *l)
{
	l->state = LINK_OPEN;
	l->end.was_open = true;
	l->attempt = wire_attempt_free(l->attempt);
	link_put(l, news_new(WIRE_UP_OPENED, 0));
}

static bool try_put(struct wire_link *l, struct mbox_item *item)
{
	bool wake = false;

	if (mbox_put(l->shared->up, item, false, &wake) != 0)
		return false;
	if (wake)
		wire_ring(l->shared->efd);
	return true;
}

bool wire_link_deliver(struct wire_link *l, struct mbox_item *item)
{
	item->kind = WIRE_UP_MESSAGE;
	item->link = l->nr;
	item->epoch = l->epoch;
	if (!l->held.head && try_put(l, item))
		return false;
	queue_add(&l->held, item);
	return true;
}

bool wire_link_unhold(struct wire_link *l)
{
	struct mbox_item *item;

	while ((item = queue_take(&l->held))) {
		if (try_put(l, item))
			continue;
		item->next = l->held.head;
		if (!l->held.head)
			l->held.tail = &item->next;
		l->held.head = item;
		return false;
	}
	return true;
}

void wire_link_out_add(struct wire_link *l, struct mbox_item *item)
{
	queue_add(&l->out, item);
}

struct mbox_item *wire_link_out_take(struct wire_link *l)
{
	return queue_take(&l->out);
}

static void link_drop_out(struct wire_link *l)
{
	struct mbox_item *item;

	while ((item = queue_take(&l->out)))
		wire_down_done(l->shared, item);
}

void wire_link_finish(struct wire_link *l)
{
	struct mbox_item *item;

	link_drop_out(l);
	wire_rx_reset(&l->rx);
	l->attempt = wire_attempt_free(l->attempt);
	/* Whole messages that came before the end belong in front of it. */
	while ((item = queue_take(&l->held)))
		link_put(l, item);
	item = news_new(WIRE_UP_CLOSED, sizeof(l->end));
	memcpy(item->data, &l->end, sizeof(l->end));
	link_put(l, item);
	l->state = LINK_IDLE;
}

void wire_link_done(struct wire_link *l)
{
	struct mbox_item *item;

	link_drop_out(l);
	while ((item = queue_take(&l->held)))
		mbox_item_free(item);
	wire_rx_reset(&l->rx);
	l->attempt = wire_attempt_free(l->attempt);
}
