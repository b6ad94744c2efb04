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
#include "wire/wire_dial.h"
#include "wire/wire_http.h"
#include "wire/wire_request.h"
#include "wire/wire_sock.h"
#include "wire/wire_watch.h"

enum {
	WIRE_READ_SIZE = 16384,
	WIRE_WRITE_SIZE = 16384, /* at a time: the WebSockets have their turn in between */
};

enum wire_exchange_state { EXCHANGE_IDLE, EXCHANGE_DIALLING, EXCHANGE_TLS, EXCHANGE_TALKING };

struct wire_lws;

struct wire_exchange {
	struct wire_lws *w;
	unsigned nr;
	uint64_t epoch;
	enum wire_exchange_state state;
	struct wire_request *req;
	char where[WIRE_WHERE_MAX];
	struct wire_dial dial;
	struct wire_sock sock;   /* once the dial is over */
	struct wire_watch watch; /* of sock.fd */
	bool ended;              /* the answer's why and text are decided */
	bool judged;             /* what the connection is worth is noted */
	bool was_sent;
	bool deaf; /* the server takes no more of the request */
	size_t n_sent;
	struct wire_http http;
	lws_sorted_usec_list_t sul_all;
};

void wire_exchange_init(struct wire_exchange *x, struct wire_lws *w, unsigned nr);
bool wire_exchange_is_idle(const struct wire_exchange *x);

/* Takes the request out of a POST item; x is idle. */
void wire_exchange_start(struct wire_exchange *x, struct mbox_item *item);
/* Ends it without an answer. */
void wire_exchange_stop(struct wire_exchange *x);
