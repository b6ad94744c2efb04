/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One WebSocket of libwebsockets: wire_dial makes the TCP connection, libwebsockets does the rest.
 * Only the files of thread W include this.
 */
#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>

#include "wire/wire_dial.h"
#include "wire/wire_exchange.h"
#include "wire/wire_link.h"
#include "wire/wire_lws.h"
#include "wire/wire_tls.h"

struct wire_conn {
	struct wire_link l;
	struct wire_lws *w;
	struct wire_dial dial;
	struct lws *wsi;
	bool connecting;  /* inside lws_client_connect_via_info() */
	bool gone;        /* ... which destroyed the wsi */
	char why_not[96]; /* libwebsockets did not take the connection over */
	bool handed;      /* the wsi has the dialled connection */
	bool judged;      /* ... and what it is worth is noted */
	bool hung_up;     /* it failed when the peer had ended it */
	lws_sorted_usec_list_t sul_attempt, sul_close, sul_kill;
};

struct wire_lws {
	struct wire_shared *shared;
	struct lws_context *context;
	pthread_t thread;
	bool running;
	int over; /* eventfd: the thread has ended */
	uint32_t connect_ms, tcp_ms;
	void *ssl_ctx;  /* of all client connections */
	char *read_buf; /* WIRE_READ_SIZE: of one call of an exchange */
	_Atomic bool stop;
	bool stop_now;
	struct wire_tls_hook tls_hook;
	lws_sorted_usec_list_t sul_stop;
	struct wire_conn conns[WIRE_MAX_LINKS];
	struct wire_exchange exchanges[WIRE_MAX_POSTS];
};

/* Runs cb right before the thread waits for events again, not earlier than in `ms`. */
void wire_timer(struct wire_lws *w, lws_sorted_usec_list_t *sul, sul_cb_t cb, uint64_t ms);

void wire_conn_init(struct wire_conn *c, struct wire_lws *w, unsigned nr, size_t max_message_bytes);

/* Starts the attempt that an OPEN item carries; the conn is idle. */
void wire_conn_open(struct wire_conn *c, struct mbox_item *item);
/* Gives one message; the conn is open. It takes the item. */
void wire_conn_send(struct wire_conn *c, struct mbox_item *item);
/* Ends an attempt at once, an open connection by a close frame. */
void wire_conn_close(struct wire_conn *c, enum wire_why why, uint16_t code, const char *text);
/* M has room again. */
void wire_conn_resume(struct wire_conn *c);

/* The TLS handshake starts: nothing of the server has been looked at yet. */
void wire_conn_on_tls_handshake(struct wire_conn *c, void *ssl);
void wire_conn_on_tls_alert(struct wire_conn *c, bool over, const char *text);

/* The callback of all connections (user, in, len as libwebsockets gives them for `reason`). */
int wire_conn_on_callback(struct wire_conn *c, struct lws *wsi, enum lws_callback_reasons reason,
			  void *user, void *in, size_t len);
