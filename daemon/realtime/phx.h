/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * phx: Phoenix frames <-> their parts, both serializer versions, text and binary. Pure: no clock,
 * no state.
 *
 *     vsn 1.0.0   {"topic","event","payload","ref","join_ref"?}                text
 *     vsn 2.0.0   [join_ref, ref, topic, event, payload]                       text
 *                 kinds 0 push, 1 reply, 2 broadcast, 4 user broadcast (in)    binary
 *                 kind 3 user broadcast push (out)                             binary
 *
 * Decoding turns the JSON of a frame into MessagePack once (proto/rtbp_json.h) and then reads the
 * envelope from that. Topics are handed over with their "realtime:" as they stand on the wire.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/rtbp_buf.h"
#include "proto/rtbp_val.h"

enum phx_vsn { PHX_VSN_1, PHX_VSN_2 };

enum phx_kind {
	PHX_MESSAGE,   /* topic, event, payload (a MessagePack value) */
	PHX_REPLY,     /* an answer: ref, ok or not, response in payload */
	PHX_BROADCAST, /* a user's broadcast in either form: user_event and payload, or raw */
};

struct phx_msg {
	enum phx_kind kind;
	struct rtbp_str join_ref, ref; /* p NULL: null or absent; numbers are given as their text */
	struct rtbp_str topic;         /* with "realtime:" */
	struct rtbp_str event;         /* PHX_MESSAGE: the Phoenix event */
	struct rtbp_val payload;       /* MessagePack; see below for PHX_BROADCAST */
	bool ok;                       /* PHX_REPLY */

	/* PHX_BROADCAST */
	struct rtbp_str
		user_event;    /* p NULL: none, then payload is the whole Phoenix payload ("raw") */
	struct rtbp_val meta;  /* absent, or a map */
	struct rtbp_val extra; /* absent, or a map of the other top-level keys */
	bool undecodable; /* the bytes could not be decoded: payload is a MessagePack bin with them
			   */
};

enum {
	PHX_E_MALFORMED = 1, /* no Phoenix frame; ret_text says why */
	PHX_E_IGNORED,       /* a kind of frame that carries nothing for us */
};

/* Scratch memory of the decoder, reused from frame to frame; zero-initialise, then
 * phx_decoder_done(). */
struct phx_decoder {
	struct rtbp_buf mp;    /* the frame as MessagePack */
	struct rtbp_buf parts; /* what had to be built beside it: extra, bin payloads, refs that
				  were numbers */
};
void phx_decoder_done(struct phx_decoder *d);

/**
 * phx_decode() - take one frame apart
 * @ret: views into @d and @data, valid until the next phx_decode() with @d
 *
 * A user broadcast whose JSON cannot be decoded (binary kind 4 with broken JSON; the server relays
 * it unread) is delivered with `undecodable`. A text frame that is no JSON at all is
 * PHX_E_MALFORMED. A payload of a kind 2 or 4 frame with encoding "binary" is given as MessagePack
 * bin.
 *
 * Return: 0; PHX_E_*; -ENOMEM.
 */
int phx_decode(struct phx_decoder *d, enum phx_vsn vsn, bool binary, const void *data, size_t size,
	       struct phx_msg *ret, const char **ret_text);

/**
 * phx_encode() - one text frame
 * @join_ref, @ref: 0 means null
 * @payload_json: the payload as JSON text
 */
void phx_encode(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
		size_t topic_size, const char *event, const char *payload_json, size_t payload_size,
		struct rtbp_buf *out);

/**
 * phx_encode_broadcast() - a user's broadcast: kind 3 on vsn 2, text on vsn 1
 * @payload: checked MessagePack; a top-level bin is sent as binary
 * @ret_binary: whether the frame is to be sent as a binary frame
 *
 * Return: 0; RTBP_JSON_E_* with @fault when the payload cannot be said in JSON; -ENOTSUP: bin on
 * vsn 1; -ENOMEM.
 */
struct rtbp_json_fault;
int phx_encode_broadcast(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
			 size_t topic_size, struct rtbp_str event, struct rtbp_val payload,
			 struct rtbp_buf *out, bool *ret_binary, struct rtbp_json_fault *fault);

/* Decimal refs as our encoder writes them. Return: false when `s` is none of ours. */
bool phx_ref(struct rtbp_str s, uint64_t *ret);
