/* SPDX-License-Identifier: MIT */
/*
 * Presence: one entry per channel, under the key that its join named. Everybody in a public room
 * hears the differences; in a private one, those who switched presence on.
 */
#include "core_int.h"

#include <jansson.h>
#include <stdlib.h>

#include "jwt.h"

/* A key like the real server's: a UUID of version 1. */
static char *made_key(struct ds_core *c)
{
	uint64_t a = ds_random(c), b = ds_random(c);
	struct ds_buf text = { 0 };

	ds_buf_fmt(&text, "%08x-%04x-1%03x-%04x-%012llx", (unsigned)(a >> 32),
		   (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff,
		   0x8000 | ((unsigned)(b >> 48) & 0x3fff),
		   (unsigned long long)(b & 0xffffffffffff));
	ds_buf_byte(&text, 0);
	return text.data;
}

void ds_presence_init(struct ds_core *c, struct ds_channel *ch, struct ds_str config)
{
	struct ds_presence *p = &ch->presence;
	struct ds_buf key = { 0 };
	struct ds_str v;

	p->calls = ds_alloc(c->conf.presence_max * sizeof(*p->calls));
	if (ds_json_get(config, "key", &v)) {
		enum ds_json_kind kind = ds_json_kind(v);

		if (kind == DS_JSON_STRING)
			ds_json_text(v, &key);
		else if (kind == DS_JSON_NUMBER || kind == DS_JSON_TRUE || kind == DS_JSON_FALSE)
			ds_buf_str(&key, v);
	}
	p->key = key.len ? ds_str_dup(ds_buf_view(&key)) : made_key(c);
	ds_buf_done(&key);
}

void ds_presence_done(struct ds_presence *p)
{
	free(p->key);
	free(p->calls);
	ds_buf_done(&p->payload);
	ds_buf_done(&p->meta);
}

static void add_entry(struct ds_buf *b, const char *key, struct ds_str metas)
{
	ds_buf_byte(b, '{');
	if (metas.n) {
		ds_buf_json(b, ds_str(key));
		ds_buf_text(b, ":{\"metas\":[");
		ds_buf_str(b, metas);
		ds_buf_text(b, "]}");
	}
	ds_buf_byte(b, '}');
}

static void send_diff(struct ds_core *c, struct ds_room *room, const struct ds_channel *ch,
		      struct ds_str joins, struct ds_str leaves)
{
	struct ds_buf frame[3] = { { 0 } }, payload = { 0 };
	struct ds_channel *to;

	ds_buf_text(&payload, "{\"joins\":");
	add_entry(&payload, ch->presence.key, joins);
	ds_buf_text(&payload, ",\"leaves\":");
	add_entry(&payload, ch->presence.key, leaves);
	ds_buf_byte(&payload, '}');
	TAILQ_FOREACH(to, &room->members, in_room) {
		struct ds_buf *b = &frame[to->socket->vsn];

		if (room->private && !to->presence.on)
			continue;
		if (b->len == 0)
			ds_phx_push(b, to->socket->vsn, DS_NULL, DS_NULL, to->topic_json,
				    "presence_diff", ds_buf_view(&payload));
		ds_socket_send(c, to->socket, false, ds_buf_view(b));
	}
	ds_buf_done(&frame[DS_VSN_1]);
	ds_buf_done(&frame[DS_VSN_2]);
	ds_buf_done(&payload);
}

static int by_key(const void *a, const void *b)
{
	const struct ds_channel *const *x = a, *const *y = b;
	int r = strcmp((*x)->presence.key, (*y)->presence.key);

	if (r != 0)
		return r;
	return (*x)->serial < (*y)->serial ? -1 : (*x)->serial > (*y)->serial;
}

void ds_presence_state(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_channel **tracked, *m;
	struct ds_buf b = { 0 };
	size_t n = 0;

	TAILQ_FOREACH(m, &ch->room->members, in_room)
		n += m->presence.tracked;
	tracked = ds_alloc(n * sizeof(struct ds_channel *));
	n = 0;
	TAILQ_FOREACH(m, &ch->room->members, in_room)
		if (m->presence.tracked)
			tracked[n++] = m;
	qsort(tracked, n, sizeof(struct ds_channel *), by_key);
	ds_buf_byte(&b, '{');
	for (size_t i = 0; i < n; i++) {
		const struct ds_presence *p = &tracked[i]->presence;
		bool first = i == 0 || strcmp(p->key, tracked[i - 1]->presence.key) != 0;
		bool last = i + 1 == n || strcmp(p->key, tracked[i + 1]->presence.key) != 0;

		if (i > 0)
			ds_buf_byte(&b, ',');
		if (first) {
			ds_buf_json(&b, ds_str(p->key));
			ds_buf_text(&b, ":{\"metas\":[");
		}
		ds_buf_str(&b, ds_buf_view(&p->meta));
		if (last)
			ds_buf_text(&b, "]}");
	}
	ds_buf_byte(&b, '}');
	ds_channel_push(c, ch, "presence_state", ds_buf_view(&b));
	ds_buf_done(&b);
	free(tracked);
}

/* Counts one call; false if there were too many in the window. */
static bool call_allowed(struct ds_core *c, struct ds_presence *p)
{
	unsigned max = c->conf.presence_max;
	int64_t *slot = &p->calls[p->n_calls % max];

	if (p->n_calls >= max && c->mono_ms - *slot < c->conf.presence_window_ms)
		return false;
	*slot = c->mono_ms;
	p->n_calls++;
	return true;
}

static bool same_value(struct ds_str a, struct ds_str b)
{
	json_t *x, *y;
	bool same;

	if (ds_str_eq(a, b))
		return true;
	x = json_loadb(a.p, a.n, JSON_ALLOW_NUL, NULL);
	y = json_loadb(b.p, b.n, JSON_ALLOW_NUL, NULL);
	same = x && y && json_equal(x, y);
	json_decref(x);
	json_decref(y);
	return same;
}

/* Meta = payload with phx_ref in front, and phx_ref_prev if it follows another. */
static void make_meta(struct ds_core *c, struct ds_presence *p, struct ds_str payload)
{
	struct ds_str inner = ds_json_trim((struct ds_str){ payload.p + 1, payload.n - 2 });
	uint64_t bits[2] = { ds_random(c), ds_random(c) };
	struct ds_buf meta = { 0 }, ref = { 0 };

	ds_base64url(&ref, bits, 12);
	ds_buf_fmt(&meta, "{\"phx_ref\":\"%.16s\"", ref.data);
	if (p->tracked)
		ds_buf_fmt(&meta, ",\"phx_ref_prev\":\"%s\"", p->ref);
	if (inner.n) {
		ds_buf_byte(&meta, ',');
		ds_buf_str(&meta, inner);
	}
	ds_buf_byte(&meta, '}');
	memcpy(p->ref, ref.data, DS_REF_SIZE - 1);
	ds_buf_done(&ref);
	ds_buf_done(&p->meta);
	p->meta = meta;
	p->payload.len = 0;
	ds_buf_str(&p->payload, payload);
}

static void track(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	struct ds_presence *p = &ch->presence;
	struct ds_str payload = DS_EMPTY, ref = ds_str(ch->push_ref);
	struct ds_buf old = { 0 };

	if (ds_json_get(m->payload, "payload", &payload) &&
	    ds_json_kind(payload) != DS_JSON_OBJECT) {
		ds_reply_reason(c, ch->socket, ref, m, "Presence track payload must be a map");
		return;
	}
	if (payload.n > c->conf.payload_max_bytes) {
		ds_channel_shut(c, ch, "Track message size exceeded");
		return;
	}
	p->on = true;
	ds_reply(c, ch->socket, ref, m, "ok", DS_EMPTY);
	if (p->tracked && same_value(payload, ds_buf_view(&p->payload)))
		return;
	if (p->tracked)
		ds_buf_str(&old, ds_buf_view(&p->meta));
	make_meta(c, p, payload);
	p->tracked = true;
	send_diff(c, ch->room, ch, ds_buf_view(&p->meta), ds_buf_view(&old));
	ds_buf_done(&old);
}

static void untrack(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	ds_reply(c, ch->socket, ds_str(ch->push_ref), m, "ok", DS_EMPTY);
	if (!ch->presence.tracked)
		return;
	ch->presence.tracked = false;
	send_diff(c, ch->room, ch, DS_STR(""), ds_buf_view(&ch->presence.meta));
}

void ds_presence_gone(struct ds_core *c, struct ds_channel *ch, struct ds_room *room)
{
	if (ch->presence.tracked)
		send_diff(c, room, ch, DS_STR(""), ds_buf_view(&ch->presence.meta));
}

void ds_presence_event(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	struct ds_buf name = { 0 };
	struct ds_str event;

	if (!ds_json_get(m->payload, "event", &event)) {
		ds_reply(c, ch->socket, ds_str(ch->push_ref), m, "ok", DS_EMPTY);
		return;
	}
	if (!call_allowed(c, &ch->presence)) {
		ds_channel_shut(c, ch, "Client presence rate limit exceeded");
		return;
	}
	if (ds_json_kind(event) != DS_JSON_STRING) {
		ds_channel_crash(c, ch);
		return;
	}
	ds_json_text(event, &name);
	ds_buf_byte(&name, 0);
	if (strcasecmp(name.data, "track") == 0)
		track(c, ch, m);
	else if (strcasecmp(name.data, "untrack") == 0)
		untrack(c, ch, m);
	else
		ds_reply(c, ch->socket, ds_str(ch->push_ref), m, "error", DS_EMPTY);
	ds_buf_done(&name);
}
