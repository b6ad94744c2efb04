/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Reassembly of one received message out of the pieces that libwebsockets hands over, straight
 * into the mailbox item that will carry it to M. Knows no connection; allocates at most
 * max_bytes, whatever lengths the peer declares.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/mbox.h"

struct wire_rx {
	struct mbox_item *item; /* NULL between messages; item->size bytes are there */
	size_t max_bytes;
};

struct wire_rx_piece {
	const void *data;
	size_t size;
	size_t frame_rest; /* bytes of this frame that are still to come */
	bool first;        /* starts a message */
	bool final;        /* this frame is the message's last one */
	bool binary;
};

enum { WIRE_RX_E_TOO_BIG = 1 };

/* Return: 0 (`ret_item` is the whole message, then the caller's, or NULL when more is to come);
 * WIRE_RX_E_TOO_BIG as soon as the announced length says so; -ENOMEM. After an error the rest of
 * the connection's input must be thrown away. */
int wire_rx_add(struct wire_rx *rx, const struct wire_rx_piece *piece, struct mbox_item **ret_item);

/* Forgets the unfinished message. */
void wire_rx_reset(struct wire_rx *rx);
