/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One HTTP request and its answer, on thread W. libwebsockets only waits for the socket (as for a
 * file that is not its own): its HTTP client does not look for an answer before all of the body is
 * sent, takes a "100 Continue" for the answer, gives up an answer with more than 16 KiB of headers,
 * and sends its own headers in one write that may not be cut; its raw connections cannot do TLS.
 */
#include <libwebsockets.h>

#include "wire/mbox.h"
#include "wire/wire_http.h"
#include "wire/wire_request.h"
#include "wire/wire_sock.h"

#define WIRE_EXCHANGE_PROTOCOL "rtbridge-http"

enum {
	WIRE_READ_SIZE = 16384,
	WIRE_WRITE_SIZE = 16384, /* at a time: the WebSockets have their turn in between */
};

enum wire_exchange_state { EXCHANGE_IDLE, EXCHANGE_CONNECTING, EXCHANGE_TLS, EXCHANGE_TALKING };

struct wire_lws;

struct wire_exchange {
	struct wire_lws *w;
	unsigned nr;
	uint64_t epoch;
	enum wire_exchange_state state;
	struct wire_request *req;
	int addr; /* index of the address tried now */
	char where[WIRE_WHERE_MAX];
	struct wire_sock sock;
	struct lws *wsi; /* watches sock.fd */
	bool adopted;    /* ... and closes it */
	bool ended;      /* the answer's why and text are decided */
	bool was_sent;
	bool deaf; /* the server takes no more of the request */
	size_t n_sent;
	struct wire_http http;
	lws_sorted_usec_list_t sul_next, sul_addr, sul_all, sul_more;
};

void wire_exchange_init(struct wire_exchange *x, struct wire_lws *w, unsigned nr);
bool wire_exchange_is_idle(const struct wire_exchange *x);

/* Takes the request out of a POST item; x is idle. */
void wire_exchange_start(struct wire_exchange *x, struct mbox_item *item);
/* Ends it without an answer. */
void wire_exchange_stop(struct wire_exchange *x);

void wire_exchange_on_callback(struct wire_exchange *x, enum lws_callback_reasons reason);
