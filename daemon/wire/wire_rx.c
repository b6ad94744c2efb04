/* SPDX-License-Identifier: MIT */
#include "wire/wire_rx.h"

#include <errno.h>
#include <string.h>

void wire_rx_reset(struct wire_rx *rx)
{
	rx->item = mbox_item_free(rx->item);
}

/* Room for `need` bytes in all: exact for the first frame, whose length is known (the usual message
 * has only that one), doubling after that. */
static int rx_room(struct wire_rx *rx, size_t need)
{
	size_t room = rx->item ? rx->item->room : 0;
	struct mbox_item *bigger;

	if (rx->item && need <= room)
		return 0;
	if (rx->item && need < 2 * room)
		need = 2 * room < rx->max_bytes ? 2 * room : rx->max_bytes;
	bigger = mbox_item_new(need);
	if (!bigger)
		return -ENOMEM;
	bigger->size = 0;
	if (rx->item) {
		memcpy(bigger->data, rx->item->data, rx->item->size);
		bigger->size = rx->item->size;
		bigger->binary = rx->item->binary;
		mbox_item_free(rx->item);
	}
	rx->item = bigger;
	return 0;
}

int wire_rx_add(struct wire_rx *rx, const struct wire_rx_piece *piece, struct mbox_item **ret_item)
{
	size_t have, left;
	int r;

	*ret_item = NULL;
	if (piece->first)
		wire_rx_reset(rx);
	have = rx->item ? rx->item->size : 0;
	left = rx->max_bytes - have;
	if (piece->size > left || piece->frame_rest > left - piece->size)
		return WIRE_RX_E_TOO_BIG;
	r = rx_room(rx, have + piece->size + piece->frame_rest);
	if (r < 0)
		return r;
	if (piece->first)
		rx->item->binary = piece->binary;
	if (piece->size > 0)
		memcpy(rx->item->data + have, piece->data, piece->size);
	rx->item->size += piece->size;
	if (piece->final && piece->frame_rest == 0)
		*ret_item = TAKE(rx->item);
	return 0;
}
