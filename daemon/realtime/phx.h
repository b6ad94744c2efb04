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
#include "proto/rtbp_json.h"
#include "proto/rtbp_val.h"

enum phx_vsn { PHX_VSN_1, PHX_VSN_2 };

/* Deepest JSON taken from the server: a payload's 64, and the four containers around the deepest
 * payload there is (a jsonb column: frame, payload, data, record). */
enum { PHX_DEPTH = RTBP_JSON_DEPTH + 4 };

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

	/* PHX_BROADCAST, PHX_MESSAGE */
	bool undecodable; /* payload is a MessagePack bin of bytes that could not be decoded */
};

enum {
	PHX_E_MALFORMED = 1, /* no Phoenix frame; ret_text says why */
	PHX_E_IGNORED,       /* a kind of frame that carries nothing for us */
};

/* Scratch memory of the decoder, reused from frame to frame; zero-initialise, then
 * phx_decoder_done(). */
struct phx_decoder {
	struct rtbp_buf mp;    /* the frame, or a binary frame's payload, as MessagePack */
	struct rtbp_buf parts; /* what had to be built beside it: extra, meta of a binary frame */
	char numbers[2][24];   /* join_ref and ref that were numbers */
	char text[192];        /* what *ret_text points to */
};
void phx_decoder_done(struct phx_decoder *d);

/**
 * phx_decode() - take one frame apart
 * @ret: views into @d and @data, valid until the next phx_decode() with @d
 * @ret_text: on PHX_E_*: why, for the log; lives as @ret
 *
 * A user broadcast is known by the event "broadcast", whatever form it came in:
 *   - text, payload {"event": "name", ...}: user_event, payload, meta (if it is a map), and what
 *     else there is in extra ("type" too, unless it says "broadcast"). Without "payload" it is an
 *     empty map: the official JavaScript client turns it into that when it sends on vsn 2, so a
 *     receiver sees the same whatever the sender speaks;
 *   - text, any other payload (no map, no "event", "event" no string): user_event.p NULL, payload
 *     is the whole Phoenix payload;
 *   - kind 4: user_event, meta, payload; a bin when its encoding is binary;
 *   - kinds 0 and 2 (Phoenix' raw bytes: there is no user event in them): user_event.p NULL,
 *     payload a bin.
 * Kinds 0, 1, 2 carry raw bytes in Phoenix, so the payload of a message or reply from them is a
 * bin as well.
 *
 * What other users wrote must not count as the server's nonsense: a kind 4 payload that is no JSON
 * is `undecodable` (bin of its bytes; the server relays them unread). So is the payload of a text
 * frame whose envelope can be read (too deep; or, on vsn 1, somebody's broken kind 3 spliced in);
 * then user_event.p is NULL and the bin has the JSON text of the whole Phoenix payload. A user
 * event that is no UTF-8: user_event.p NULL, `undecodable`, bin of the payload's bytes.
 *
 * Return: 0; PHX_E_*; -ENOMEM.
 */
int phx_decode(struct phx_decoder *d, enum phx_vsn vsn, bool binary, const void *data, size_t size,
	       struct phx_msg *ret, const char **ret_text);

/**
 * phx_encode() - append one text frame to @out
 * @join_ref, @ref: 0 means null (vsn 1: an absent join_ref)
 * @payload_json: the payload as JSON text
 */
void phx_encode(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
		size_t topic_size, const char *event, const char *payload_json, size_t payload_size,
		struct rtbp_buf *out);

/**
 * phx_encode_broadcast() - append a user's broadcast to @out: kind 3 on vsn 2, text on vsn 1 and
 * with @extra, which kind 3 has no place for
 * @payload: checked MessagePack; a top-level bin is sent as binary
 * @extra: absent, or a map, not empty, of what shall stand beside event and payload
 * @ret_binary: whether the frame is to be sent as a binary frame
 *
 * Return: 0; RTBP_JSON_E_* with @fault when the payload cannot be said in JSON; -ENOTSUP: bin as
 * text; -EMSGSIZE: topic or event over the 255 bytes of a length byte, or @out's own limit;
 * -ENOMEM. On anything but 0 @out has the size that it had before.
 */
int phx_encode_broadcast(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
			 size_t topic_size, struct rtbp_str event, struct rtbp_val payload,
			 struct rtbp_val extra, struct rtbp_buf *out, bool *ret_binary,
			 struct rtbp_json_fault *fault);

/* Decimal refs as our encoder writes them. Return: false when `s` is none of ours. */
bool phx_ref(struct rtbp_str s, uint64_t *ret);
