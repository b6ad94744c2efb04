/* SPDX-License-Identifier: MIT */
#include "phx.h"

#include "span.h"

static const struct ds_str json_null = { "null", 4 };

void ds_msg_done(struct ds_msg *m)
{
	ds_buf_done(&m->store);
}

/* Appends to the store, which has been given its room before: earlier spans stay valid. */
static struct ds_str stored_text(struct ds_msg *m, struct ds_str raw)
{
	size_t start = m->store.len;

	if (ds_json_kind(raw) != DS_JSON_STRING)
		return (struct ds_str){ NULL, 0 };
	ds_json_text(raw, &m->store);
	return (struct ds_str){ m->store.data + start, m->store.len - start };
}

static struct ds_str stored_json(struct ds_msg *m, struct ds_str text)
{
	size_t start = m->store.len;

	ds_buf_json(&m->store, text);
	return (struct ds_str){ m->store.data + start, m->store.len - start };
}

/* One spelling for one text, so that refs compare as bytes. */
static struct ds_str normal(struct ds_msg *m, struct ds_str raw)
{
	if (!memchr(raw.p, '\\', raw.n))
		return raw;
	return stored_json(m, stored_text(m, raw));
}

/* join_ref, ref, topic, event and payload as raw JSON, in this order. */
static bool text_parts(enum ds_vsn vsn, struct ds_str frame, struct ds_str part[5])
{
	struct ds_json_iter it = ds_json_iter(frame);

	if (vsn == DS_VSN_1) {
		part[0] = json_null;
		(void)ds_json_get(frame, "join_ref", &part[0]);
		return ds_json_get(frame, "ref", &part[1]) &&
		       ds_json_get(frame, "topic", &part[2]) &&
		       ds_json_get(frame, "event", &part[3]) &&
		       ds_json_get(frame, "payload", &part[4]);
	}
	if (ds_json_kind(frame) != DS_JSON_ARRAY)
		return false;
	for (int i = 0; i < 5; i++)
		if (!ds_json_item(&it, &part[i]))
			return false;
	return true;
}

static bool decode_text(enum ds_vsn vsn, struct ds_str frame, struct ds_msg *m)
{
	struct ds_str part[5];
	size_t room = 0;

	if (!ds_json_valid(frame) || !text_parts(vsn, frame, part))
		return false;
	for (int i = 0; i < 4; i++)
		room += part[i].n * 7 + 2; /* decoded once, and each byte escaped again */
	ds_buf_reserve(&m->store, room);
	m->form = DS_PAYLOAD_JSON;
	m->join_ref = normal(m, part[0]);
	m->ref = normal(m, part[1]);
	m->topic = stored_text(m, part[2]);
	m->topic_json = m->topic.p ? stored_json(m, m->topic) : part[2];
	m->event = stored_text(m, part[3]);
	m->payload = part[4];
	return true;
}

struct cursor {
	const unsigned char *p;
	const unsigned char *end;
	bool short_frame;
};

static struct ds_str take(struct cursor *c, size_t n)
{
	struct ds_str s = { (const char *)c->p, n };

	if ((size_t)(c->end - c->p) < n) {
		c->short_frame = true;
		return (struct ds_str){ "", 0 };
	}
	c->p += n;
	return s;
}

static bool metadata_ok(struct ds_str meta)
{
	return meta.n == 0 || ds_json_valid(meta);
}

static bool decode_binary(struct ds_str frame, struct ds_msg *m)
{
	const unsigned char *h = (const unsigned char *)frame.p;
	struct cursor c;
	struct ds_str join_ref, ref, event, meta = { "", 0 };
	size_t head;

	if (frame.n < 1 || (h[0] != 0 && h[0] != 3))
		return false;
	head = h[0] == 3 ? 7 : 5;
	if (frame.n < head)
		return false;
	c = (struct cursor){ h + head, h + frame.n, false };
	join_ref = take(&c, h[1]);
	ref = take(&c, h[2]);
	m->topic = take(&c, h[3]);
	event = take(&c, h[4]);
	if (h[0] == 3)
		meta = take(&c, h[5]);
	if (c.short_frame || !metadata_ok(meta))
		return false;
	m->payload = (struct ds_str){ (const char *)c.p, (size_t)(c.end - c.p) };
	m->form = h[0] == 3 ? DS_PAYLOAD_USER : DS_PAYLOAD_RAW;
	m->event = h[0] == 3 ? DS_STR("broadcast") : event;
	m->user_event = event;
	m->user_json = h[0] == 3 && h[6] != 0;
	ds_buf_reserve(&m->store, 3 * (255 * 6 + 2));
	m->join_ref = stored_json(m, join_ref);
	m->ref = stored_json(m, ref);
	m->topic_json = stored_json(m, m->topic);
	return true;
}

bool ds_msg_decode(enum ds_vsn vsn, bool binary, struct ds_str frame, struct ds_msg *ret)
{
	bool ok;

	*ret = (struct ds_msg){ 0 };
	if (binary && vsn == DS_VSN_2)
		ok = decode_binary(frame, ret);
	else
		ok = decode_text(vsn, frame, ret);
	if (!ok)
		ds_msg_done(ret);
	return ok;
}

void ds_phx_push(struct ds_buf *b, enum ds_vsn vsn, struct ds_str join_ref, struct ds_str ref,
		 struct ds_str topic_json, const char *event, struct ds_str payload)
{
	ds_buf_reserve(b, payload.n + topic_json.n + 128);
	if (vsn == DS_VSN_1) {
		ds_buf_text(b, "{\"ref\":");
		ds_buf_str(b, ref);
		ds_buf_text(b, ",\"event\":\"");
		ds_buf_text(b, event);
		ds_buf_text(b, "\",\"topic\":");
		ds_buf_str(b, topic_json);
		ds_buf_text(b, ",\"payload\":");
		ds_buf_str(b, payload);
		ds_buf_byte(b, '}');
		return;
	}
	ds_buf_byte(b, '[');
	ds_buf_str(b, join_ref);
	ds_buf_byte(b, ',');
	ds_buf_str(b, ref);
	ds_buf_byte(b, ',');
	ds_buf_str(b, topic_json);
	ds_buf_text(b, ",\"");
	ds_buf_text(b, event);
	ds_buf_text(b, "\",");
	ds_buf_str(b, payload);
	ds_buf_byte(b, ']');
}

void ds_phx_reply(struct ds_buf *b, enum ds_vsn vsn, struct ds_str join_ref, struct ds_str ref,
		  struct ds_str topic_json, const char *status, struct ds_str response)
{
	struct ds_buf payload = { 0 };

	ds_buf_text(&payload, "{\"status\":\"");
	ds_buf_text(&payload, status);
	ds_buf_text(&payload, "\",\"response\":");
	ds_buf_str(&payload, response);
	ds_buf_byte(&payload, '}');
	ds_phx_push(b, vsn, join_ref, ref, topic_json, "phx_reply", ds_buf_view(&payload));
	ds_buf_done(&payload);
}

void ds_phx_user_binary(struct ds_buf *b, const struct ds_msg *m)
{
	ds_buf_byte(b, 4);
	ds_buf_byte(b, (unsigned char)m->topic.n);
	ds_buf_byte(b, (unsigned char)m->user_event.n);
	ds_buf_byte(b, (unsigned char)m->meta.n); /* the sender's own is never passed on */
	ds_buf_byte(b, m->user_json);
	ds_buf_str(b, m->topic);
	ds_buf_str(b, m->user_event);
	ds_buf_str(b, m->meta);
	ds_buf_str(b, m->payload);
}

void ds_phx_user_text(struct ds_buf *b, const struct ds_msg *m)
{
	struct ds_buf payload = { 0 };

	ds_buf_text(&payload, "{\"event\":");
	ds_buf_json(&payload, m->user_event);
	if (m->meta.n) {
		ds_buf_text(&payload, ",\"meta\":");
		ds_buf_str(&payload, m->meta);
	}
	ds_buf_text(&payload, ",\"payload\":");
	ds_buf_str(&payload, m->payload);
	ds_buf_text(&payload, ",\"type\":\"broadcast\"}");
	ds_phx_push(b, DS_VSN_1, json_null, json_null, m->topic_json, "broadcast",
		    ds_buf_view(&payload));
	ds_buf_done(&payload);
}

void ds_phx_raw_binary(struct ds_buf *b, const struct ds_msg *m)
{
	ds_buf_byte(b, 2);
	ds_buf_byte(b, (unsigned char)m->topic.n);
	ds_buf_byte(b, (unsigned char)m->event.n);
	ds_buf_str(b, m->topic);
	ds_buf_str(b, m->event);
	ds_buf_str(b, m->payload);
}
