/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The W side of wire: the libwebsockets context, its thread, the connections and the requests. It knows
 * addresses and bytes; it decides nothing about reconnecting. M talks to it by mailbox items.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire/mbox.h"
#include "wire/wire.h"
#include "wire/wire_reach.h"

/* M to W */
enum wire_down {
	WIRE_DOWN_OPEN, /* rider: struct wire_attempt with numeric addresses */
	WIRE_DOWN_SEND,
	WIRE_DOWN_CLOSE, /* code: of the close frame */
	WIRE_DOWN_RESUME,
	WIRE_DOWN_POST, /* link: of the posts; rider: struct wire_request with numeric addresses */
};

/* W to M */
enum wire_up {
	WIRE_UP_OPENED,
	WIRE_UP_MESSAGE,
	WIRE_UP_CLOSED,   /* data: struct wire_end */
	WIRE_UP_ANSWERED, /* link: of the posts; data: struct wire_answer and the body */
};

/* What both threads hold; everything in it is safe to use from both. */
struct wire_shared {
	struct mbox *up, *down;
	int efd; /* eventfd: W rings M */
	struct wire_reach reach;
	_Atomic size_t unsent[WIRE_MAX_LINKS]; /* bytes given to W for each link, and not written */
	_Atomic uint64_t bytes_in, bytes_out, messages_in, messages_out, pauses;
};

struct wire_lws;

/* `shared` is borrowed until wire_lws_free() has returned true. Return: 0 or a negative errno with
 * the reason in the log. */
int wire_lws_new(const struct wire_conf *conf, struct wire_shared *shared, struct wire_lws **ret);

/* Tells W to look into its mailbox. Any thread. */
void wire_lws_wake(struct wire_lws *w);

/* Closes the connections, joins the thread, frees. Return: false when the thread did not end within
 * 2 s; then everything it can reach must be left alone for ever. */
bool wire_lws_free(struct wire_lws *w);

/* W is done with an item from M. */
void wire_down_done(struct wire_shared *shared, struct mbox_item *item);

/* Rings M; for items that M itself puts into the mailbox up, too. */
void wire_ring(int efd);
