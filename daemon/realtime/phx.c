/* SPDX-License-Identifier: MIT */
/* Phoenix frames to their parts. The way out is in phx_out.c. */
#include "realtime/phx.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/rtbp_pack.h"

enum {
	KEEP_BYTES = 256 * 1024, /* scratch memory kept between frames */

	KIND_PUSH = 0,
	KIND_REPLY = 1,
	KIND_BROADCAST = 2,
	KIND_USER_BROADCAST = 4,
};

static const uint8_t empty_map[] = { 0x80 };

void phx_decoder_done(struct phx_decoder *d)
{
	rtbp_buf_done(&d->mp);
	rtbp_buf_done(&d->parts);
}

static int malformed(struct phx_decoder *d, const char *text)
{
	snprintf(d->text, sizeof(d->text), "%s", text);
	return PHX_E_MALFORMED;
}

static struct rtbp_val whole(const struct rtbp_buf *b)
{
	return (struct rtbp_val){ b->data, b->size };
}

/* The bytes as a MessagePack bin in d->mp. */
static int as_bin(struct phx_decoder *d, const void *p, size_t size, struct rtbp_val *ret)
{
	rtbp_buf_reset(&d->mp, KEEP_BYTES);
	rtbp_pack_bin(&d->mp, p, size);
	if (!rtbp_buf_ok(&d->mp))
		return -ENOMEM;
	*ret = whole(&d->mp);
	return 0;
}

/* null, text, or an integer as its text (it is echoed as we sent it, and we send text). */
static bool ref_of(struct rtbp_val v, char *number, size_t number_size, struct rtbp_str *ret)
{
	uint64_t u;
	int64_t i;

	*ret = (struct rtbp_str){ NULL, 0 };
	if (!v.p || rtbp_is(v, RTBP_NIL) || rtbp_get_str(v, ret))
		return true;
	if (rtbp_get_uint(v, &u))
		snprintf(number, number_size, "%" PRIu64, u);
	else if (rtbp_get_int(v, &i))
		snprintf(number, number_size, "%" PRId64, i);
	else
		return false;
	*ret = (struct rtbp_str){ number, strlen(number) };
	return true;
}

/* ---- the parts of a text frame ---- */

struct envelope {
	struct rtbp_val join_ref, ref, topic, event, payload;
};

static bool envelope_from_array(struct rtbp_val frame, struct envelope *e)
{
	struct rtbp_iter it;

	return rtbp_iter_array(frame, &it) && rtbp_iter_next(&it, &e->join_ref) &&
	       rtbp_iter_next(&it, &e->ref) && rtbp_iter_next(&it, &e->topic) &&
	       rtbp_iter_next(&it, &e->event) && rtbp_iter_next(&it, &e->payload);
}

static bool envelope_from_map(struct rtbp_val frame, struct envelope *e)
{
	struct rtbp_val k, v;
	struct rtbp_iter it;
	struct rtbp_str key;

	if (!rtbp_iter_map(frame, &it))
		return false;
	while (rtbp_iter_next(&it, &k) && rtbp_iter_next(&it, &v)) {
		if (!rtbp_get_str(k, &key))
			continue;
		if (rtbp_str_is(key, "topic"))
			e->topic = v;
		else if (rtbp_str_is(key, "event"))
			e->event = v;
		else if (rtbp_str_is(key, "payload"))
			e->payload = v;
		else if (rtbp_str_is(key, "ref"))
			e->ref = v;
		else if (rtbp_str_is(key, "join_ref"))
			e->join_ref = v;
	}
	return e->payload.p != NULL;
}

static int read_envelope(struct phx_decoder *d, enum phx_vsn vsn, struct envelope *e,
			 struct phx_msg *m)
{
	struct rtbp_val frame = whole(&d->mp);

	*e = (struct envelope){ 0 };
	if (vsn == PHX_VSN_2 ? !envelope_from_array(frame, e) : !envelope_from_map(frame, e))
		return malformed(d, vsn == PHX_VSN_2
					    ? "JSON, but not an array of five"
					    : "JSON, but not an object with topic, event, payload");
	if (!rtbp_get_str(e->topic, &m->topic) || !rtbp_get_str(e->event, &m->event))
		return malformed(d, "topic or event is no text");
	if (!ref_of(e->join_ref, d->numbers[0], sizeof(d->numbers[0]), &m->join_ref) ||
	    !ref_of(e->ref, d->numbers[1], sizeof(d->numbers[1]), &m->ref))
		return malformed(d, "a ref is neither null, text nor an integer");
	return 0;
}

static int reply(struct phx_decoder *d, struct rtbp_val payload, struct phx_msg *m)
{
	struct rtbp_str status;

	m->kind = PHX_REPLY;
	if (!rtbp_get_str(rtbp_find(payload, "status", 6), &status))
		return malformed(d, "a reply without status");
	m->ok = rtbp_str_is(status, "ok");
	m->payload = rtbp_find(payload, "response", 8);
	return 0;
}

/* Which of a broadcast's own keys `k` is; what is none of them belongs into extra. */
static struct rtbp_val *broadcast_part(struct phx_msg *m, struct rtbp_str k, struct rtbp_val v,
				       struct rtbp_val *event, struct rtbp_val *type)
{
	struct rtbp_str text;

	if (rtbp_str_is(k, "event"))
		return event;
	if (rtbp_str_is(k, "payload"))
		return &m->payload;
	if (rtbp_str_is(k, "meta") && rtbp_is(v, RTBP_MAP))
		return &m->meta;
	if (rtbp_str_is(k, "type") && rtbp_get_str(v, &text) && rtbp_str_is(text, "broadcast"))
		return type;
	return NULL;
}

static int pack_extra(struct phx_decoder *d, struct rtbp_val payload, uint32_t n_extra,
		      struct phx_msg *m)
{
	struct rtbp_val k, v, event, type;
	struct rtbp_iter it;
	struct rtbp_str key;

	rtbp_buf_reset(&d->parts, KEEP_BYTES);
	rtbp_pack_map(&d->parts, n_extra);
	rtbp_iter_map(payload, &it);
	while (rtbp_iter_next(&it, &k) && rtbp_iter_next(&it, &v)) {
		if (rtbp_get_str(k, &key) && broadcast_part(m, key, v, &event, &type))
			continue;
		rtbp_pack_val(&d->parts, k);
		rtbp_pack_val(&d->parts, v);
	}
	if (!rtbp_buf_ok(&d->parts))
		return -ENOMEM;
	m->extra = whole(&d->parts);
	return 0;
}

static int broadcast(struct phx_decoder *d, struct rtbp_val payload, struct phx_msg *m)
{
	struct rtbp_val k, v, event = { NULL, 0 }, type, *part;
	uint32_t n_extra = 0;
	struct rtbp_iter it;
	struct rtbp_str key;

	m->kind = PHX_BROADCAST;
	m->payload = payload;
	if (!rtbp_get_str(rtbp_find(payload, "event", 5), &m->user_event)) {
		m->user_event = (struct rtbp_str){ NULL, 0 };
		return 0;
	}
	m->payload = (struct rtbp_val){ empty_map, sizeof(empty_map) };
	rtbp_iter_map(payload, &it);
	while (rtbp_iter_next(&it, &k) && rtbp_iter_next(&it, &v)) {
		part = rtbp_get_str(k, &key) ? broadcast_part(m, key, v, &event, &type) : NULL;
		if (part)
			*part = v;
		else
			n_extra++;
	}
	return n_extra ? pack_extra(d, payload, n_extra, m) : 0;
}

/* ---- text frames ---- */

/*
 * Where the payload of a frame begins, found without decoding it: behind the fourth comma of an
 * array, or behind `"payload":` of an object, in both cases outside of strings and of inner
 * containers. 0: not found.
 */
static size_t payload_offset(enum phx_vsn vsn, const char *p, size_t size)
{
	static const char key[] = "\"payload\":";
	unsigned depth = 0, n_commas = 0;
	bool in_string = false;

	for (size_t i = 0; i < size; i++) {
		if (in_string) {
			if (p[i] == '\\')
				i++;
			else if (p[i] == '"')
				in_string = false;
			continue;
		}
		if (vsn == PHX_VSN_1 && depth == 1 && size - i > sizeof(key) &&
		    memcmp(p + i, key, sizeof(key) - 1) == 0)
			return i + sizeof(key) - 1;
		if (p[i] == '"')
			in_string = true;
		else if (p[i] == '[' || p[i] == '{')
			depth++;
		else if ((p[i] == ']' || p[i] == '}') && depth-- <= 1)
			return 0;
		else if (vsn == PHX_VSN_2 && p[i] == ',' && depth == 1 && ++n_commas == 4)
			return i + 1;
	}
	return 0;
}

/*
 * The frame is no JSON that we can take. If that is the payload's fault, hand out the rest: the
 * envelope with `null` in the payload's place, and the payload as bytes. Works for what servers
 * write: the payload last, no space behind its key.
 */
static int salvage(struct phx_decoder *d, enum phx_vsn vsn, const char *data, size_t size,
		   struct phx_msg *m)
{
	const char *close = vsn == PHX_VSN_2 ? "null]" : "null}";
	size_t at = payload_offset(vsn, data, size);
	struct envelope e;
	int r;

	if (!at || at >= size || data[size - 1] != close[4])
		return PHX_E_MALFORMED;
	rtbp_buf_reset(&d->parts, KEEP_BYTES);
	rtbp_buf_put(&d->parts, data, at);
	rtbp_buf_text(&d->parts, close);
	if (!rtbp_buf_ok(&d->parts))
		return -ENOMEM;
	rtbp_buf_reset(&d->mp, KEEP_BYTES);
	r = rtbp_json_to_mp((const char *)d->parts.data, d->parts.size, 2, &d->mp, NULL);
	if (r)
		return r == -ENOMEM ? r : PHX_E_MALFORMED;
	r = read_envelope(d, vsn, &e, m);
	if (r || rtbp_str_is(m->event, "phx_reply"))
		return PHX_E_MALFORMED;
	m->kind = rtbp_str_is(m->event, "broadcast") ? PHX_BROADCAST : PHX_MESSAGE;
	m->undecodable = true;
	rtbp_buf_reset(&d->parts, KEEP_BYTES);
	rtbp_pack_bin(&d->parts, data + at, size - at - 1);
	if (!rtbp_buf_ok(&d->parts))
		return -ENOMEM;
	m->payload = whole(&d->parts);
	return 0;
}

static int decode_text(struct phx_decoder *d, enum phx_vsn vsn, const char *data, size_t size,
		       struct phx_msg *m)
{
	struct rtbp_json_fault fault;
	struct envelope e;
	int r;

	rtbp_buf_reset(&d->mp, KEEP_BYTES);
	r = rtbp_json_to_mp(data, size, PHX_DEPTH, &d->mp, &fault);
	if (r == -ENOMEM)
		return r;
	if (r) {
		snprintf(d->text, sizeof(d->text), "no JSON: %s (at byte %zu)",
			 r > 0 ? fault.text : "too large", r > 0 ? fault.offset : size);
		return salvage(d, vsn, data, size, m);
	}
	r = read_envelope(d, vsn, &e, m);
	if (r)
		return r;
	if (rtbp_str_is(m->event, "phx_reply"))
		return reply(d, e.payload, m);
	if (rtbp_str_is(m->event, "broadcast"))
		return broadcast(d, e.payload, m);
	m->kind = PHX_MESSAGE;
	m->payload = e.payload;
	return 0;
}

/* ---- binary frames ---- */

/* The rest of a binary frame; take() hands out the next `size` bytes and says false at its end. */
struct rest {
	const uint8_t *p;
	size_t size;
};

static bool take(struct rest *in, size_t size, struct rtbp_str *ret)
{
	if (size > in->size)
		return false;
	*ret = (struct rtbp_str){ (const char *)in->p, size };
	in->p += size;
	in->size -= size;
	return true;
}

/* Reads `n` length bytes (and one more byte if ret_encoding), then the `n` strings. */
static bool take_strings(struct rest *in, unsigned n, struct rtbp_str *ret, uint8_t *ret_encoding)
{
	struct rtbp_str head;

	if (!take(in, n + (ret_encoding ? 1 : 0), &head))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (!take(in, (uint8_t)head.p[i], &ret[i]))
			return false;
	}
	if (ret_encoding)
		*ret_encoding = (uint8_t)head.p[n];
	return true;
}

/* Binary frames have no null: an empty ref stands for it. */
static struct rtbp_str ref_or_null(struct rtbp_str s)
{
	return s.size ? s : (struct rtbp_str){ NULL, 0 };
}

static int user_broadcast(struct phx_decoder *d, struct rest *in, struct phx_msg *m)
{
	struct rtbp_str s[3]; /* topic, user event, metadata */
	uint8_t encoding;
	int r;

	if (!take_strings(in, 3, s, &encoding))
		return malformed(d, "a binary frame that ends too early");
	m->kind = PHX_BROADCAST;
	m->topic = s[0];
	m->event = (struct rtbp_str){ "broadcast", 9 };
	if (s[2].size) {
		/* The server's own making; if it is not what we know, the message counts all the
		 * same. */
		rtbp_buf_reset(&d->parts, KEEP_BYTES);
		r = rtbp_json_to_mp(s[2].p, s[2].size, RTBP_JSON_DEPTH, &d->parts, NULL);
		if (r == -ENOMEM)
			return r;
		if (!r && rtbp_is(whole(&d->parts), RTBP_MAP))
			m->meta = whole(&d->parts);
	}
	if (!rtbp_utf8_valid(s[1].p, s[1].size)) {
		m->undecodable = true;
		return as_bin(d, in->p, in->size, &m->payload);
	}
	m->user_event = s[1];
	if (encoding == 0)
		return as_bin(d, in->p, in->size, &m->payload);
	rtbp_buf_reset(&d->mp, KEEP_BYTES);
	r = rtbp_json_to_mp((const char *)in->p, in->size, RTBP_JSON_DEPTH, &d->mp, NULL);
	if (r == -ENOMEM)
		return r;
	if (r) {
		m->undecodable = true;
		return as_bin(d, in->p, in->size, &m->payload);
	}
	m->payload = whole(&d->mp);
	return 0;
}

static int binary_reply(struct phx_decoder *d, struct rest *in, struct phx_msg *m)
{
	struct rtbp_str s[4]; /* join_ref, ref, topic, status */

	if (!take_strings(in, 4, s, NULL))
		return malformed(d, "a binary frame that ends too early");
	m->kind = PHX_REPLY;
	m->join_ref = ref_or_null(s[0]);
	m->ref = ref_or_null(s[1]);
	m->topic = s[2];
	m->event = (struct rtbp_str){ "phx_reply", 9 };
	m->ok = rtbp_str_is(s[3], "ok");
	return as_bin(d, in->p, in->size, &m->payload);
}

/* Kind 0 as servers write it (three lengths: there is no ref), and kind 2 (two). */
static int binary_push(struct phx_decoder *d, struct rest *in, bool has_join_ref, struct phx_msg *m)
{
	struct rtbp_str s[3] = { { NULL, 0 } }; /* join_ref, topic, event */

	if (!take_strings(in, has_join_ref ? 3 : 2, has_join_ref ? s : s + 1, NULL))
		return malformed(d, "a binary frame that ends too early");
	m->join_ref = ref_or_null(s[0]);
	m->topic = s[1];
	m->event = s[2];
	m->kind = rtbp_str_is(m->event, "broadcast") ? PHX_BROADCAST : PHX_MESSAGE;
	return as_bin(d, in->p, in->size, &m->payload);
}

static int decode_binary(struct phx_decoder *d, const uint8_t *data, size_t size, struct phx_msg *m)
{
	struct rest in = { data, size };
	struct rtbp_str kind;
	int r;

	if (!take(&in, 1, &kind))
		return malformed(d, "an empty binary frame");
	switch ((uint8_t)kind.p[0]) {
	case KIND_PUSH:
		r = binary_push(d, &in, true, m);
		break;
	case KIND_REPLY:
		r = binary_reply(d, &in, m);
		break;
	case KIND_BROADCAST:
		r = binary_push(d, &in, false, m);
		break;
	case KIND_USER_BROADCAST:
		r = user_broadcast(d, &in, m);
		break;
	default:
		snprintf(d->text, sizeof(d->text), "a binary frame of kind %u",
			 (unsigned)(uint8_t)kind.p[0]);
		return PHX_E_IGNORED;
	}
	/* From here on they are told to others as text. */
	if (r == 0 && (!rtbp_utf8_valid(m->topic.p, m->topic.size) ||
		       !rtbp_utf8_valid(m->event.p, m->event.size)))
		return malformed(d, "topic or event is no UTF-8");
	return r;
}

int phx_decode(struct phx_decoder *d, enum phx_vsn vsn, bool binary, const void *data, size_t size,
	       struct phx_msg *ret, const char **ret_text)
{
	struct phx_msg m = { 0 };
	int r;

	d->text[0] = 0;
	if (!binary)
		r = decode_text(d, vsn, data, size, &m);
	else if (vsn == PHX_VSN_2)
		r = decode_binary(d, data, size, &m);
	else
		r = malformed(d, "a binary frame, which vsn 1.0.0 does not have");
	if (r == 0)
		*ret = m;
	else if (r > 0)
		*ret_text = d->text;
	return r;
}

bool phx_ref(struct rtbp_str s, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.size == 0 || s.size > 20 || s.p[0] == '0')
		return false;
	for (size_t i = 0; i < s.size; i++) {
		unsigned digit = (unsigned)(s.p[i] - '0');

		if (digit > 9 || v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*ret = v;
	return true;
}
