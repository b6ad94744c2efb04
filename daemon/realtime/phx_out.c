/* SPDX-License-Identifier: MIT */
/* Parts to Phoenix frames. */
#include "realtime/phx.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { KIND_USER_BROADCAST_PUSH = 3, LENGTH_MAX = 255 };

static void put_ref(struct rtbp_buf *out, uint64_t ref)
{
	char text[24];

	if (ref)
		snprintf(text, sizeof(text), "\"%" PRIu64 "\"", ref);
	rtbp_buf_text(out, ref ? text : "null");
}

/* Everything up to the payload, and what follows it. */
static void begin(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
		  size_t topic_size, const char *event, struct rtbp_buf *out)
{
	if (vsn == PHX_VSN_2) {
		rtbp_buf_byte(out, '[');
		put_ref(out, join_ref);
		rtbp_buf_byte(out, ',');
		put_ref(out, ref);
		rtbp_buf_byte(out, ',');
	} else {
		rtbp_buf_byte(out, '{');
		if (join_ref) {
			rtbp_buf_text(out, "\"join_ref\":");
			put_ref(out, join_ref);
			rtbp_buf_byte(out, ',');
		}
		rtbp_buf_text(out, "\"ref\":");
		put_ref(out, ref);
		rtbp_buf_text(out, ",\"topic\":");
	}
	rtbp_json_quote(out, topic, topic_size);
	rtbp_buf_text(out, vsn == PHX_VSN_2 ? "," : ",\"event\":");
	rtbp_json_quote(out, event, strlen(event));
	rtbp_buf_text(out, vsn == PHX_VSN_2 ? "," : ",\"payload\":");
}

static void end(enum phx_vsn vsn, struct rtbp_buf *out)
{
	rtbp_buf_byte(out, vsn == PHX_VSN_2 ? ']' : '}');
}

void phx_encode(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
		size_t topic_size, const char *event, const char *payload_json, size_t payload_size,
		struct rtbp_buf *out)
{
	begin(vsn, join_ref, ref, topic, topic_size, event, out);
	rtbp_buf_put(out, payload_json, payload_size);
	end(vsn, out);
}

/* A ref's digits; none for 0. Returns their number. */
static uint8_t digits(uint64_t ref, char text[24])
{
	return ref ? (uint8_t)snprintf(text, 24, "%" PRIu64, ref) : 0;
}

static int encode_kind3(uint64_t join_ref, uint64_t ref, const char *topic, size_t topic_size,
			struct rtbp_str event, struct rtbp_val payload, struct rtbp_buf *out,
			struct rtbp_json_fault *fault)
{
	char join_ref_text[24], ref_text[24];
	uint8_t n_join_ref = digits(join_ref, join_ref_text), n_ref = digits(ref, ref_text);
	struct rtbp_str bin;
	bool is_bin = rtbp_get_bin(payload, &bin);

	rtbp_buf_byte(out, KIND_USER_BROADCAST_PUSH);
	rtbp_buf_byte(out, n_join_ref);
	rtbp_buf_byte(out, n_ref);
	rtbp_buf_byte(out, (uint8_t)topic_size);
	rtbp_buf_byte(out, (uint8_t)event.size);
	rtbp_buf_byte(out, 0); /* no metadata: the server would drop it */
	rtbp_buf_byte(out, is_bin ? 0 : 1);
	rtbp_buf_put(out, join_ref_text, n_join_ref);
	rtbp_buf_put(out, ref_text, n_ref);
	rtbp_buf_put(out, topic, topic_size);
	rtbp_buf_put(out, event.p, event.size);
	if (!is_bin)
		return rtbp_mp_to_json(payload.p, payload.size, out, fault);
	rtbp_buf_put(out, bin.p, bin.size);
	return 0;
}

/* @extra: absent, or a map with members: they become members of the Phoenix payload. */
static int encode_text(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
		       size_t topic_size, struct rtbp_str event, struct rtbp_val payload,
		       struct rtbp_val extra, struct rtbp_buf *out, struct rtbp_json_fault *fault)
{
	size_t brace;
	int r;

	begin(vsn, join_ref, ref, topic, topic_size, "broadcast", out);
	rtbp_buf_text(out, "{\"type\":\"broadcast\",\"event\":");
	rtbp_json_quote(out, event.p, event.size);
	rtbp_buf_text(out, ",\"payload\":");
	r = rtbp_mp_to_json(payload.p, payload.size, out, fault);
	if (r)
		return r;
	if (extra.p) {
		brace = out->size;
		r = rtbp_mp_to_json(extra.p, extra.size, out, fault);
		if (r)
			return r;
		if (rtbp_buf_ok(out))
			out->data[brace] = ',';
	} else {
		rtbp_buf_byte(out, '}');
	}
	end(vsn, out);
	return 0;
}

int phx_encode_broadcast(enum phx_vsn vsn, uint64_t join_ref, uint64_t ref, const char *topic,
			 size_t topic_size, struct rtbp_str event, struct rtbp_val payload,
			 struct rtbp_val extra, struct rtbp_buf *out, bool *ret_binary,
			 struct rtbp_json_fault *fault)
{
	bool is_bin = rtbp_is(payload, RTBP_BIN), is_text = vsn == PHX_VSN_1 || extra.p;
	size_t before = out->size;
	int r;

	if (topic_size > LENGTH_MAX || event.size > LENGTH_MAX)
		return -EMSGSIZE;
	if (is_bin && is_text)
		return -ENOTSUP;
	if (is_text)
		r = encode_text(vsn, join_ref, ref, topic, topic_size, event, payload, extra, out,
				fault);
	else
		r = encode_kind3(join_ref, ref, topic, topic_size, event, payload, out, fault);
	if (r == 0)
		r = out->error;
	if (r == 0)
		*ret_binary = !is_text;
	else
		out->size = before;
	return r;
}
