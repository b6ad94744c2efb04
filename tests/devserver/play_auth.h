/* SPDX-License-Identifier: MIT */
#pragma once
/* What clients with tokens say, and what they hear, for play.h. */
#include "devserver/play.h"

#define OK(join_ref, ref, topic)                                                          \
	"[\"" join_ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_reply\",{\"status\":" \
	"\"ok\",\"response\":{}}]\n"
#define JOINED(ref, topic)                                                                  \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_reply\",{\"status\":\"ok\"," \
	"\"response\":{\"postgres_changes\":[]}}]\n"
#define REFUSED(ref, topic, why)                                                               \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_reply\",{\"status\":\"error\"," \
	"\"response\":{\"reason\":\"" why "\"}}]\n"
#define SHUT(ref, topic, why)                                                            \
	"[\"" ref "\",null,\"realtime:" topic "\",\"system\",{\"message\":\"" why        \
	"\",\"status\":\"error\",\"extension\":\"system\",\"channel\":\"" topic "\"}]\n" \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_close\",{}]\n"
#define BEAT(ref) \
	"[null,\"" ref "\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]\n"
#define CAST(topic, payload) "[null,null,\"realtime:" topic "\",\"broadcast\"," payload "]\n"

#define ANN   "\"role\":\"authenticated\",\"sub\":\"ann\""
#define BOB   "\"role\":\"authenticated\",\"sub\":\"bob\""
#define NEVER "1900000000" /* far behind WALL_MS */

/* @text with each "$" replaced by a token of these claims that ends in the far future. */
static inline void say_as(struct ds_socket *s, const char *claims, const char *text)
{
	struct ds_buf json = { 0 }, frame = { 0 };

	ds_buf_fmt(&json, "{%s,\"exp\":" NEVER "}", claims);
	for (; *text; text++) {
		if (*text == '$')
			ds_jwt_sign(ds_buf_view(&json), SECRET, &frame);
		else
			ds_buf_byte(&frame, (unsigned char)*text);
	}
	ds_core_frame(core, s, false, ds_buf_view(&frame));
	ds_buf_done(&json);
	ds_buf_done(&frame);
}

#define JOIN_AS(ref, topic, config)                                                        \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_join\",{\"config\":" config \
	",\"access_token\":\"$\"}]"
#define PRIVATE "{\"private\":true,\"broadcast\":{\"ack\":true,\"self\":true}}"
#define PRESENT "{\"private\":true,\"presence\":{\"enabled\":true,\"key\":\"k\"}}"
#define PUSH(ref, topic, event, payload) \
	"[\"1\",\"" ref "\",\"realtime:" topic "\",\"" event "\"," payload "]"
#define TOKEN PUSH("9", "r", "access_token", "{\"access_token\":\"$\"}")
#define JOIN(ref, topic) \
	"[\"" ref "\",\"" ref "\",\"realtime:" topic "\",\"phx_join\",{\"config\":{}}]"
