/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A descriptor of our own that libwebsockets polls, as a file that is not its own. Thread W.
 *
 * Rules for the wsi of a foreign descriptor in libwebsockets 4.1.6, kept here:
 * - It clears POLLOUT after the WRITEABLE callback, also when that has asked for more: ask from a
 *   timer, which runs before the next poll().
 * - Return 0 always; the end of a wsi is a timeout that is due at once. It has no other, and it closes
 *   the descriptor then.
 * And here by the caller:
 * - A descriptor that is adopted while events are handed out inherits those of the last owner of its
 *   place in the poll table: start from a timer, too.
 */
#include <libwebsockets.h>
#include <stdbool.h>

#define WIRE_WATCH_PROTOCOL "rtbridge-watch"

struct wire_lws;

struct wire_watch {
	struct wire_lws *w;
	int fd;          /* -1: none. Closed by wire_watch_stop() */
	struct lws *wsi; /* NULL: it has seen a hang-up */
	/* Readable or writable; `hung_up`: for the last time, the descriptor is gone as soon as this
	 * returns. */
	void (*ready)(struct wire_watch *watch, bool hung_up);
	lws_sorted_usec_list_t sul;
};

void wire_watch_init(struct wire_watch *watch, struct wire_lws *w,
		     void (*ready)(struct wire_watch *watch, bool hung_up));

/* Return: 0, the descriptor belongs to the watch, and ready() is called when it is writable; -ENOMEM.
 */
int wire_watch_start(struct wire_watch *watch, int fd);
/* ready() once more when it is writable. */
void wire_watch_writable(struct wire_watch *watch);
/* `to`, which watches nothing, goes on with what `from` has watched. */
void wire_watch_move(struct wire_watch *to, struct wire_watch *from);
/* ready() is not called any more, and the descriptor closed from the loop. */
void wire_watch_stop(struct wire_watch *watch);

void wire_watch_on_callback(struct wire_watch *watch, enum lws_callback_reasons reason);
