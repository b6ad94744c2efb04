/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The server's end of RFC 6455, without sockets: bytes in, messages out. No extensions, so all
 * reserved bits are errors. Text is not checked for UTF-8, as the real server does not.
 *
 * It is our own, not libwebsockets', because the daemon's client is libwebsockets: a test server
 * with the same framing code would share its faults.
 */
#include "buf.h"

struct ds_ws_ops {
	void (*message)(void *arg, bool binary, struct ds_str message);
	void (*ping)(void *arg, struct ds_str payload);
	/* The peer closed, or broke a rule: close with this code (1005: it gave none). */
	void (*close)(void *arg, int code);
};

/** struct ds_ws - zero but for @max_bytes, @ops and @arg */
struct ds_ws {
	size_t max_bytes; /* of one message, fragments summed: 1009 beyond it */
	const struct ds_ws_ops *ops;
	void *arg;
	struct ds_buf in;
	struct ds_buf message;
	int opcode; /* of the unfinished message, 0 if there is none */
	bool ended; /* close() was called: the rest is ignored */
};

void ds_ws_feed(struct ds_ws *w, struct ds_str bytes);
void ds_ws_done(struct ds_ws *w);

enum ds_ws_opcode { DS_WS_TEXT = 1, DS_WS_BINARY = 2, DS_WS_CLOSE = 8, DS_WS_PONG = 10 };

/** ds_ws_head() - appends the head of an unmasked final frame of @size bytes */
void ds_ws_head(struct ds_buf *b, enum ds_ws_opcode opcode, size_t size);
/** ds_ws_frame() - appends a whole frame */
void ds_ws_frame(struct ds_buf *b, enum ds_ws_opcode opcode, struct ds_str payload);
/** ds_ws_accept() - appends the Sec-WebSocket-Accept of @key */
void ds_ws_accept(struct ds_buf *b, struct ds_str key);
