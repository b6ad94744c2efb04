/* SPDX-License-Identifier: MIT */
/*
 * What a program asks for that has one answer: broadcasts, what became of them, the status, the
 * barrier. Whatever can be known to be wrong here is refused before it is packed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"
#include "proto/rtbp_json.h"

static int read_options(const struct rtb_send_options *options, struct rtb_send_options *ret)
{
	*ret = (struct rtb_send_options)RTB_SEND_OPTIONS_INIT;
	if (!options)
		return 0;
	if (options->size < offsetof(struct rtb_send_options, via))
		return -EINVAL;
	/* A caller with a later header may have more fields than this library knows. */
	memcpy(ret, options, options->size < sizeof(*ret) ? options->size : sizeof(*ret));
	return 0;
}

/* What must hold before a request is packed; earlier wishes go first, so that a message never
 * overtakes the subscription made before it. */
static int check_ready(struct rtb_client *c)
{
	int r = rtbc_check_attached(c);

	if (r == 0)
		r = rtbc_flush(c);
	return r;
}

/* What needs a token that is not in force must not go out without it. */
static int check_gate(struct rtb_client *c, const char *topic)
{
	const char *text;

	switch (rtbc_token_gate(c, topic, &text)) {
	case RTBC_GATE_WAIT:
		return rtbc_fail(c, RTB_E_BUSY, "the token is being decided");
	case RTBC_GATE_REFUSED:
		return rtbc_fail(c, RTB_E_TOKEN, "the token was refused: %s", text);
	default:
		return 0;
	}
}

static bool is_send_id(const char *id)
{
	size_t n = strlen(id);

	for (const char *p = id; *p; p++)
		if (*p <= 0x20 || *p >= 0x7f)
			return false;
	return n >= 1 && n <= RTBC_SEND_ID_MAX;
}

static int check_options(struct rtb_client *c, const struct rtb_send_options *o, bool is_binary)
{
	size_t offset;
	int r;

	if ((unsigned)o->via > RTB_VIA_HTTP || (unsigned)o->form > RTB_BINARY)
		return rtbc_fail(c, -EINVAL, "no such via or form");
	if (o->id && !is_send_id(o->id))
		return rtbc_fail(c, -EINVAL,
				 "bad id: 1 to %d bytes of printable ASCII without blanks",
				 RTBC_SEND_ID_MAX);
	if (!o->extra)
		return 0;
	if (is_binary)
		return rtbc_fail(c, -EINVAL, "extra does not go with a binary payload");
	r = o->extra_size > c->frame_limit
		    ? RTBP_VAL_E_TRUNCATED
		    : rtbp_check(o->extra, o->extra_size, RTBP_JSON_DEPTH, &offset);
	if (r || !rtbp_is((struct rtbp_val){ o->extra, o->extra_size }, RTBP_MAP))
		return rtbc_fail(c, RTB_E_PAYLOAD, "bad extra: it is no MessagePack map");
	return 0;
}

/* Payloads over it the daemon would refuse in any case; what it takes to say others to the server,
 * and on which way, only it knows. */
static int check_plan(struct rtb_client *c, size_t size)
{
	if (size <= c->payload_limit)
		return 0;
	return rtbc_fail(c, RTB_E_TOO_BIG, "%zu bytes, the project's plan takes %zu", size,
			 c->payload_limit);
}

static int check_payload(struct rtb_client *c, const void *payload, size_t size,
			 const struct rtb_send_options *o)
{
	struct rtbp_val v = { payload, size };
	struct rtbp_str bin = { NULL, 0 };
	size_t offset;
	int r;

	if (size > c->frame_limit) /* before it is copied */
		return rtbc_fail(c, RTB_E_TOO_BIG, "%zu bytes, but the daemon takes at most %zu",
				 size, c->frame_limit);
	if (o->form == RTB_BINARY) {
		bin.size = size;
	} else {
		r = rtbp_check(payload, size, RTBP_JSON_DEPTH, &offset);
		if (r)
			return rtbc_fail(c, RTB_E_PAYLOAD, "bad payload: %s (at byte %zu)",
					 rtbp_val_text(r), offset);
		(void)rtbp_get_bin(v, &bin);
	}
	r = check_options(c, o, o->form == RTB_BINARY || rtbp_is(v, RTBP_BIN));
	return r < 0 ? r : check_plan(c, bin.size);
}

static int check_send(struct rtb_client *c, const char *topic, const char *event,
		      const void *payload, size_t payload_size, const struct rtb_send_options *o)
{
	int r;

	if (!rtbp_topic_ok((struct rtbp_str){ topic, strlen(topic) }))
		return rtbc_fail(c, RTB_E_TOPIC, "%s", rtb_strerror(RTB_E_TOPIC));
	if (!rtbp_event_ok((struct rtbp_str){ event, strlen(event) }))
		return rtbc_fail(c, RTB_E_EVENT, "%s", rtb_strerror(RTB_E_EVENT));
	r = check_payload(c, payload, payload_size, o);
	if (r == 0)
		r = check_ready(c);
	return r < 0 ? r : check_gate(c, topic);
}

static void pack_send(struct rtb_client *c, const struct rtbc_pending *p, const char *topic,
		      const char *event, const struct rtb_send_options *o)
{
	char buf[RTBC_NAME_SIZE];
	const char *name = rtbc_send_name(c, p, buf);

	rtbp_pack_map(&c->out, 3 + (o->is_private ? 1 : 0) + (o->ttl_ms ? 1 : 0) + (*name ? 1 : 0) +
				       (o->via ? 1 : 0) + (o->extra ? 1 : 0));
	rtbp_pack_field_text(&c->out, RTBP_F_TOPIC, topic);
	if (o->is_private)
		rtbp_pack_field_bool(&c->out, RTBP_F_PRIVATE, true);
	rtbp_pack_field_text(&c->out, RTBP_F_EVENT, event);
	if (o->ttl_ms)
		rtbp_pack_field_uint(&c->out, RTBP_F_TTL_MS, o->ttl_ms);
	if (*name)
		rtbp_pack_field_text(&c->out, RTBP_F_ID, name);
	if (o->via)
		rtbp_pack_field_text(&c->out, RTBP_F_VIA, rtbc_via_name(o->via));
	if (o->extra) {
		rtbp_pack_field(&c->out, RTBP_F_EXTRA);
		rtbp_pack_val(&c->out, (struct rtbp_val){ o->extra, o->extra_size });
	}
	rtbp_pack_field(&c->out, RTBP_F_PAYLOAD);
}

/* The payload is MessagePack or binary. */
static int64_t send_packed(struct rtb_client *c, const char *topic, const char *event,
			   const void *payload, size_t payload_size,
			   const struct rtb_send_options *o)
{
	struct rtbc_pending *p;
	size_t begin;
	int r;

	r = check_send(c, topic, event, payload, payload_size, o);
	if (r < 0)
		return r;
	p = rtbc_request_begin_named(c, RTBP_M_BROADCAST, RTBC_SEND, o->id ? o->id : "", &begin,
				     &r);
	if (!p)
		return r;
	p->result = o->result;
	p->user = o->user;
	p->has_name = c->has_outcome;
	p->ttl_ms = o->ttl_ms ? o->ttl_ms : RTBC_TTL_MS;
	pack_send(c, p, topic, event, o);
	if (o->form == RTB_BINARY)
		rtbp_pack_bin(&c->out, payload, payload_size);
	else
		rtbp_pack_val(&c->out, (struct rtbp_val){ payload, payload_size });
	return rtbc_request_end(c, p, begin);
}

static int64_t send_json(struct rtb_client *c, const char *topic, const char *event,
			 const char *json, size_t size, const struct rtb_send_options *o)
{
	char error[RTBC_TEXT_MAX / 2];
	void *payload;
	int64_t r;

	if (size == (size_t)-1)
		size = strlen(json);
	r = rtb_json_to_msgpack(json, size, &payload, &size, error, sizeof(error));
	if (r == RTB_E_PAYLOAD)
		return rtbc_fail(c, RTB_E_PAYLOAD, "bad payload: %s", error);
	if (r < 0)
		return rtbc_fail(c, (int)r, "out of memory");
	r = send_packed(c, topic, event, payload, size, o);
	free(payload);
	return r;
}

int64_t rtb_broadcast(struct rtb_client *c, const char *topic, const char *event,
		      const void *payload, size_t payload_size,
		      const struct rtb_send_options *options)
{
	struct rtb_send_options o;
	int r = read_options(options, &o);

	if (r < 0)
		return r;
	if (o.form == RTB_JSON)
		return send_json(c, topic, event, payload, payload_size, &o);
	return send_packed(c, topic, event, payload, payload_size, &o);
}

int64_t rtb_broadcast_json(struct rtb_client *c, const char *topic, const char *event,
			   const char *json, size_t json_size,
			   const struct rtb_send_options *options)
{
	struct rtb_send_options o;
	int r = read_options(options, &o);

	if (r < 0)
		return r;
	o.form = RTB_JSON;
	return send_json(c, topic, event, json, json_size, &o);
}

int64_t rtb_outcome(struct rtb_client *c, const char *id, rtb_result_fn fn, void *user)
{
	struct rtbc_pending *p;
	size_t begin;
	int r;

	if (!id || !is_send_id(id))
		return rtbc_fail(c, -EINVAL, "bad id: 1 to %d bytes of printable ASCII",
				 RTBC_SEND_ID_MAX);
	r = check_ready(c);
	if (r < 0)
		return r;
	if (!c->has_outcome)
		return rtbc_fail(c, RTB_E_REFUSED,
				 "the daemon on %s does not keep what became of sends", c->path);
	p = rtbc_request_begin_named(c, RTBP_M_OUTCOME, RTBC_OUTCOME, id, &begin, &r);
	if (!p)
		return r;
	p->result = fn;
	p->user = user;
	rtbp_pack_map(&c->out, 1);
	rtbp_pack_field_text(&c->out, RTBP_F_ID, id);
	return rtbc_request_end(c, p, begin);
}

static int64_t ask(struct rtb_client *c, enum rtbp_method method, bool upstream, rtb_reply_fn fn,
		   void *user)
{
	struct rtbc_pending *p;
	size_t begin;
	int r = check_ready(c);

	if (r < 0)
		return r;
	p = rtbc_request_begin(c, method, RTBC_REPLY, &begin, &r);
	if (!p)
		return r;
	p->reply = fn;
	p->user = user;
	rtbp_pack_map(&c->out, upstream ? 1 : 0);
	if (upstream)
		rtbp_pack_field_bool(&c->out, RTBP_F_UPSTREAM, true);
	return rtbc_request_end(c, p, begin);
}

int64_t rtb_status(struct rtb_client *c, rtb_reply_fn fn, void *user)
{
	return ask(c, RTBP_M_STATUS, false, fn, user);
}

int64_t rtb_sync(struct rtb_client *c, bool upstream, rtb_reply_fn fn, void *user)
{
	return ask(c, RTBP_M_SYNC, upstream, fn, user);
}

int64_t rtb_reconnect(struct rtb_client *c, rtb_reply_fn fn, void *user)
{
	return ask(c, RTBP_M_RECONNECT, false, fn, user);
}

int64_t rtb_refresh_token(struct rtb_client *c, rtb_reply_fn fn, void *user)
{
	return ask(c, RTBP_M_REFRESH_TOKEN, false, fn, user);
}
