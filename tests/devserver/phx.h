/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Phoenix frames, both serializer versions: bytes to parts and parts to bytes.
 * Knows no channels. Payloads pass as the bytes that came.
 */
#include "buf.h"

enum ds_vsn { DS_VSN_1 = 1, DS_VSN_2 = 2 };

enum ds_payload {
	DS_PAYLOAD_JSON, /* a text frame */
	DS_PAYLOAD_USER, /* binary kind 3: a user's broadcast */
	DS_PAYLOAD_RAW   /* binary kind 0: a plain push with bytes */
};

/**
 * struct ds_msg - one message from a client
 *
 * The spans point into the frame or into @store, and live until ds_msg_done() or the frame's end,
 * whichever comes first. @join_ref, @ref and @topic_json are JSON text ("null" if there is none).
 */
struct ds_msg {
	struct ds_str join_ref;
	struct ds_str ref;
	struct ds_str topic_json;
	struct ds_str topic; /* decoded; of a topic that is no string: empty, p NULL */
	struct ds_str event; /* decoded, likewise */
	enum ds_payload form;
	struct ds_str payload;
	struct ds_str user_event; /* DS_PAYLOAD_USER only */
	bool user_json;           /* DS_PAYLOAD_USER only: the payload claims to be JSON */
	struct ds_str meta;       /* DS_PAYLOAD_USER only: the server's own JSON; empty: none */
	struct ds_buf store;
};

/** ds_msg_decode() - false if the real server would drop the frame; @ret needs no done then */
bool ds_msg_decode(enum ds_vsn vsn, bool binary, struct ds_str frame, struct ds_msg *ret);
void ds_msg_done(struct ds_msg *m);

/** ds_phx_push() - appends a text frame; all but @event is JSON text */
void ds_phx_push(struct ds_buf *b, enum ds_vsn vsn, struct ds_str join_ref, struct ds_str ref,
		 struct ds_str topic_json, const char *event, struct ds_str payload);

/** ds_phx_reply() - appends a phx_reply; @response is JSON text */
void ds_phx_reply(struct ds_buf *b, enum ds_vsn vsn, struct ds_str join_ref, struct ds_str ref,
		  struct ds_str topic_json, const char *status, struct ds_str response);

/**
 * ds_phx_user_binary() - appends the kind 4 frame for subscribers of version 2
 *
 * Topic, event and metadata have at most 255 bytes each.
 */
void ds_phx_user_binary(struct ds_buf *b, const struct ds_msg *m);
/** ds_phx_user_text() - appends the text frame for subscribers of version 1 (JSON form only) */
void ds_phx_user_text(struct ds_buf *b, const struct ds_msg *m);
/** ds_phx_raw_binary() - appends the kind 2 frame that relays a kind 0 push */
void ds_phx_raw_binary(struct ds_buf *b, const struct ds_msg *m);
