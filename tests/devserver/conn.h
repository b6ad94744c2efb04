/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One TCP connection between the shell and the core: an HTTP request first, then a WebSocket.
 * Sans-I/O as well: bytes in, bytes and wishes out.
 */
#include "core.h"
#include "ws.h"

enum ds_conn_state {
	DS_CONN_HEAD,    /* reading the request's head */
	DS_CONN_BODY,    /* ... and its body */
	DS_CONN_DELAYED, /* an answer, or its next piece, waits for its time */
	DS_CONN_HUNG,    /* never answered */
	DS_CONN_OPEN,    /* a WebSocket */
	DS_CONN_FLUSH,   /* write what is queued, then end the connection gently */
	DS_CONN_DROP     /* end it at once */
};

struct ds_conn {
	struct ds_core *core;
	enum ds_conn_state state;
	bool loopback; /* the peer is on this machine: /_devserver is open to it */
	struct ds_buf in;
	struct ds_buf out; /* unsent bytes from @out_sent on */
	size_t out_sent;
	struct ds_buf later; /* DS_CONN_DELAYED: the answer, from @later_sent on */
	size_t later_sent;
	size_t piece_bytes; /* ... comes in pieces of so many bytes; 0: at once */
	int64_t delay_ms;
	struct ds_buf piece; /* DS_CONN_DELAYED: what comes again and again, if not empty ... */
	int64_t pieces_left; /* ... so often; -1: without end */
	bool deaf;           /* nothing is to be read */
	bool announced;      /* the request's head has been looked at: @web is what becomes of it */
	struct ds_web web;   /* of a request to the HTTP API */
	struct ds_ws ws;
	struct ds_socket *socket;
	void (*wake)(void *arg); /* out or state has changed */
	void *arg;
};

/** ds_conn_ops() - for ds_core_new(): what the core asks goes to its struct ds_conn */
const struct ds_ops *ds_conn_ops(void);

void ds_conn_init(struct ds_conn *cn, struct ds_core *core, bool loopback);
/** ds_conn_done() - the connection has ended; leaves the core */
void ds_conn_done(struct ds_conn *cn);
/** ds_conn_input() - bytes came; the core's clock is set */
void ds_conn_input(struct ds_conn *cn, struct ds_str bytes);
/** ds_conn_delay_over() - the time of DS_CONN_DELAYED has passed */
void ds_conn_delay_over(struct ds_conn *cn);
/** ds_conn_unsent() - what is to be written next; ds_conn_sent() tells how much was */
struct ds_str ds_conn_unsent(const struct ds_conn *cn);
void ds_conn_sent(struct ds_conn *cn, size_t n);
