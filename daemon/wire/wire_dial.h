/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From addresses to one TCP connection, through the proxy if there is one. For the WebSockets and the
 * requests alike: they know of no addresses. Thread W.
 *
 *  IDLE --start--> CONNECTING --> (ASKING the proxy) --> THERE --done(true)--> handed over: IDLE
 *                   |    ^            | failed
 *                   +----+            +--> done(false)
 *            next address, no next: done(false)
 */
#include <libwebsockets.h>

#include "wire/wire_attempt.h"
#include "wire/wire_proxy.h"
#include "wire/wire_sock.h"
#include "wire/wire_watch.h"

enum {
	/* Of all addresses but the last together: who answers at the end of the list is reached
	 * after little more than this. */
	WIRE_DIAL_OTHERS_MS = 5000,
	WIRE_DIAL_LEAST_MS = 1000, /* of one: a lost SYN is sent again after a second */
};

enum wire_dial_state { DIAL_IDLE, DIAL_CONNECTING, DIAL_ASKING, DIAL_THERE, DIAL_FAILED };

struct wire_dial {
	struct wire_lws *w;
	enum wire_dial_state state;
	const struct wire_attempt *to;
	int addr;          /* index of the address tried now */
	char *where;       /* WIRE_WHERE_MAX, the owner's: for its texts */
	uint64_t since_ms; /* when it was begun with */
	/* From a timer. False: see `why` and `text`. */
	void (*done)(struct wire_dial *dial, bool ok);
	enum wire_why why; /* WIRE_CONNECT, WIRE_PROXY_AUTH */
	char text[192];
	struct wire_sock sock;
	struct wire_watch watch; /* of sock.fd */
	struct wire_proxy_talk talk;
	lws_sorted_usec_list_t sul_next, sul_addr;
};

void wire_dial_init(struct wire_dial *dial, struct wire_lws *w, char *where,
		    void (*done)(struct wire_dial *dial, bool ok));
/* `to` is borrowed until done(), wire_dial_stop() or wire_dial_late(). */
void wire_dial_start(struct wire_dial *dial, const struct wire_attempt *to);
/* Without done(). It may be idle. */
void wire_dial_stop(struct wire_dial *dial);
/* It has taken its owner's time: stops it. Return: `text`, with what it was waiting for. */
const char *wire_dial_late(struct wire_dial *dial);

/* After done(true), within it: the connection is the caller's. */
void wire_dial_take(struct wire_dial *dial, struct wire_sock *ret_sock, struct wire_watch *to);
/* A copy of it, under the number of a descriptor that is open already; wire_dial_stop() leaves that
 * one alone. Return: 0; a negative errno. */
int wire_dial_take_as(struct wire_dial *dial, int fd);

/* What a connection that was handed over came to. */
enum wire_dial_verdict {
	WIRE_DIAL_SPOKE,  /* a server has said something sensible */
	WIRE_DIAL_ENDED,  /* it ended before that */
	WIRE_DIAL_SILENT, /* it had no more time for that; nothing is proved when that was short */
};

/* Who takes connections and says nothing must not be tried first for ever. `to`: of
 * wire_dial_start(). Nothing through a proxy, whose own address has been judged by its answer. */
void wire_dial_judge(struct wire_dial *dial, const struct wire_attempt *to,
		     enum wire_dial_verdict verdict);

/* How long address number `addr` of n has: what is left for it, for none of the others is waited
 * longer. */
uint32_t wire_dial_share_ms(int addr, int n, uint32_t connect_ms);
