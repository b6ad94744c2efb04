/* SPDX-License-Identifier: MIT */
/*
 * daemon/realtime/phx.h on any frame. The first byte chooses how it is read: 0 vsn 1 text, 1 vsn 2
 * text, 2 vsn 1 binary, 3 vsn 2 binary.
 *
 * Checked: all that is handed out is whole, within bounds, UTF-8 where it says text; the decoder
 * forgets the frame before; what was decoded can be encoded, and decodes to the same again.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "realtime/phx.h"

static void check_val(struct rtbp_val v)
{
	size_t offset;

	FUZZ_CHECK(rtbp_check(v.p, v.size, RTBP_DEPTH_MAX - 2, &offset) == 0);
}

static void check_str(struct rtbp_str s)
{
	FUZZ_CHECK(s.p || s.size == 0);
	FUZZ_CHECK(!s.p || rtbp_utf8_valid(s.p, s.size) || s.size == 0);
}

static void check_message(const struct phx_msg *m)
{
	FUZZ_CHECK(m->topic.p && m->event.p);
	check_str(m->topic);
	check_str(m->event);
	check_str(m->user_event);
	if (m->payload.p)
		check_val(m->payload);
	else
		FUZZ_CHECK(m->kind == PHX_REPLY);
	FUZZ_CHECK(!m->undecodable || (m->kind != PHX_REPLY && rtbp_is(m->payload, RTBP_BIN)));
	if (m->kind != PHX_BROADCAST) {
		FUZZ_CHECK(!m->user_event.p && !m->meta.p && !m->extra.p);
		return;
	}
	FUZZ_CHECK(rtbp_str_is(m->event, "broadcast"));
	FUZZ_CHECK(m->user_event.p || (!m->extra.p && (!m->meta.p || m->undecodable)));
	if (m->meta.p) {
		check_val(m->meta);
		FUZZ_CHECK(rtbp_is(m->meta, RTBP_MAP));
	}
	if (m->extra.p) {
		check_val(m->extra);
		FUZZ_CHECK(rtbp_is(m->extra, RTBP_MAP));
	}
}

static bool same_val(struct rtbp_val a, struct rtbp_val b)
{
	return a.size == b.size && (!a.size || memcmp(a.p, b.p, a.size) == 0);
}

static bool same_str(struct rtbp_str a, struct rtbp_str b)
{
	return a.size == b.size && (!a.size || memcmp(a.p, b.p, a.size) == 0);
}

/* What a server makes of a broadcast that it was sent. */
static void as_received(const struct rtbp_buf *out, bool binary, struct rtbp_buf *in)
{
	if (!binary) {
		rtbp_buf_put(in, out->data, out->size);
		return;
	}
	FUZZ_CHECK(out->data[0] == 3);
	rtbp_buf_byte(in, 4);
	rtbp_buf_put(in, out->data + 3, out->size - 3);
}

/* Out in one of its forms, and in again. */
static void broadcast_again(const struct phx_msg *m, enum phx_vsn vsn, struct rtbp_val extra)
{
	struct rtbp_buf out = RTBP_BUF_INIT, in = RTBP_BUF_INIT;
	bool binary = false, is_bin = rtbp_is(m->payload, RTBP_BIN);
	struct phx_decoder d = { 0 };
	struct rtbp_json_fault fault = { 0 };
	const char *text;
	struct phx_msg n;
	int r;

	rtbp_buf_byte(&out, '#');
	r = phx_encode_broadcast(vsn, 0, 0, m->topic.p, m->topic.size, m->user_event, m->payload,
				 extra, &out, &binary, &fault);
	FUZZ_CHECK(out.data[0] == '#' && (r == 0 || out.size == 1));
	FUZZ_CHECK((r == -ENOTSUP) == (is_bin && (vsn == PHX_VSN_1 || extra.p)));
	FUZZ_CHECK(r <= 0 || fault.text[0]); /* deeper than a payload may be */
	if (r == 0) {
		FUZZ_CHECK(binary == (vsn == PHX_VSN_2 && !extra.p));
		memmove(out.data, out.data + 1, --out.size);
		as_received(&out, binary, &in);
		FUZZ_CHECK(phx_decode(&d, vsn, binary, in.data, in.size, &n, &text) == 0);
		FUZZ_CHECK(n.kind == PHX_BROADCAST && !n.undecodable);
		FUZZ_CHECK(same_str(n.topic, m->topic) && same_str(n.user_event, m->user_event));
		FUZZ_CHECK(same_val(n.payload, m->payload));
		FUZZ_CHECK(same_val(n.extra, extra));
	}
	rtbp_buf_done(&out);
	rtbp_buf_done(&in);
	phx_decoder_done(&d);
}

static void all_broadcasts_again(const struct phx_msg *m)
{
	static const struct rtbp_val none;
	struct rtbp_val extra = m->extra, type;

	if (!m->user_event.p || m->topic.size > 255 || m->user_event.size > 255)
		return;
	/* One that says "broadcast" is not told as such, and no sender may say another. */
	type = rtbp_find(extra, "type", 4);
	if (type.p)
		extra = none;
	broadcast_again(m, PHX_VSN_2, none);
	broadcast_again(m, PHX_VSN_1, none);
	if (extra.p) {
		broadcast_again(m, PHX_VSN_2, extra);
		broadcast_again(m, PHX_VSN_1, extra);
	}
}

static void message_again(const struct phx_msg *m, enum phx_vsn vsn)
{
	struct rtbp_buf out = RTBP_BUF_INIT, json = RTBP_BUF_INIT;
	struct phx_decoder d = { 0 };
	struct rtbp_json_fault fault;
	uint64_t ref = 0, join_ref = 0;
	const char *text;
	struct phx_msg n;
	char event[256];

	if (m->event.size >= sizeof(event) || memchr(m->event.p, 0, m->event.size) ||
	    rtbp_mp_to_json(m->payload.p, m->payload.size, &json, &fault)) {
		rtbp_buf_done(&json);
		return;
	}
	memcpy(event, m->event.p, m->event.size);
	event[m->event.size] = 0;
	(void)phx_ref(m->ref, &ref);
	(void)phx_ref(m->join_ref, &join_ref);
	phx_encode(vsn, join_ref, ref, m->topic.p, m->topic.size, event, (const char *)json.data,
		   json.size, &out);
	FUZZ_CHECK(phx_decode(&d, vsn, false, out.data, out.size, &n, &text) == 0);
	FUZZ_CHECK(n.kind == PHX_MESSAGE && !n.undecodable);
	FUZZ_CHECK(same_str(n.topic, m->topic) && same_str(n.event, m->event));
	FUZZ_CHECK(same_val(n.payload, m->payload));
	FUZZ_CHECK(!ref == !n.ref.p && (!ref || same_str(n.ref, m->ref)));
	FUZZ_CHECK(!join_ref == !n.join_ref.p && (!join_ref || same_str(n.join_ref, m->join_ref)));
	rtbp_buf_done(&out);
	rtbp_buf_done(&json);
	phx_decoder_done(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct phx_decoder used; /* has seen every input before */
	struct phx_decoder fresh = { 0 };
	const char *text = NULL, *text_used = NULL;
	struct phx_msg m, m_used;
	enum phx_vsn vsn;
	bool binary;
	int r;

	if (size == 0)
		return 0;
	vsn = data[0] & 1 ? PHX_VSN_2 : PHX_VSN_1;
	binary = data[0] & 2;
	r = phx_decode(&fresh, vsn, binary, data + 1, size - 1, &m, &text);
	FUZZ_CHECK(r == phx_decode(&used, vsn, binary, data + 1, size - 1, &m_used, &text_used));
	FUZZ_CHECK(r == 0 || r == PHX_E_MALFORMED || r == PHX_E_IGNORED);
	if (r) {
		FUZZ_CHECK(text && text[0] && strcmp(text, text_used) == 0);
	} else {
		check_message(&m);
		FUZZ_CHECK(m.kind == m_used.kind && same_val(m.payload, m_used.payload) &&
			   same_val(m.extra, m_used.extra) && same_val(m.meta, m_used.meta));
		if (m.kind == PHX_BROADCAST)
			all_broadcasts_again(&m);
		else if (m.kind == PHX_MESSAGE)
			message_again(&m, vsn);
	}
	phx_decoder_done(&fresh);
	return 0;
}
