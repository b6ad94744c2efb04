/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One link as W sees it, without libwebsockets: its queues, what it tells M, and why it ended.
 * Only W touches it.
 */
#include "wire/mbox.h"
#include "wire/wire.h"
#include "wire/wire_attempt.h"
#include "wire/wire_lws.h"
#include "wire/wire_rx.h"

enum wire_link_state { LINK_IDLE, LINK_TRYING, LINK_OPEN, LINK_CLOSING };

struct wire_queue {
	struct mbox_item *head, **tail;
};

struct wire_link {
	struct wire_shared *shared;
	unsigned nr;
	uint64_t epoch;
	enum wire_link_state state;
	struct wire_attempt *attempt; /* while TRYING */
	char where[WIRE_WHERE_MAX];   /* for texts */

	bool pinned, request_sent;
	char tls_text[224];
	char body[128]; /* start of an HTTP answer's body */
	size_t body_size;

	bool ended; /* end.why and end.text are decided */
	struct wire_end end;

	struct wire_queue out;  /* items from M, not yet written */
	struct wire_queue held; /* messages for M that found the mailbox full */
	bool paused;            /* reading is off until M posts RESUME */
	struct wire_rx rx;
	uint16_t close_code; /* CLOSING: what our close frame says */
	bool close_sent;
	bool flush_over; /* CLOSING: what is still in `out` is given up */
};

void wire_link_init(struct wire_link *l, unsigned nr, struct wire_shared *shared,
		    size_t max_message_bytes);

/* Takes the attempt out of an OPEN item. */
void wire_link_begin(struct wire_link *l, struct mbox_item *item);
/* Decides why the link ends; the first cause wins. The text gets `where` in front. */
void wire_link_end(struct wire_link *l, enum wire_why why, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

void wire_link_opened(struct wire_link *l);

/* A message for M. Return: true when M's mailbox is full, so that reading must pause. */
bool wire_link_deliver(struct wire_link *l, struct mbox_item *item);
/* M has room again. Return: true when nothing is held any more. */
bool wire_link_unhold(struct wire_link *l);

void wire_link_out_add(struct wire_link *l, struct mbox_item *item);
struct mbox_item *wire_link_out_take(struct wire_link *l);

/* The connection is gone for good: empties the queues, tells M, back to IDLE. */
void wire_link_finish(struct wire_link *l);
/* Frees what it holds without telling anybody. */
void wire_link_done(struct wire_link *l);
