/* SPDX-License-Identifier: MIT */
/*
 * Presence: one entry per channel, under the key that its join named. Everybody in a public room
 * hears the differences; in a private one, those who switched presence on and may read it.
 */
#include "core_int.h"

#include <jansson.h>
#include <stdlib.h>

#include "jwt.h"
#include "term.h"

/* A key like the real server's: a UUID of version 1. */
static void make_key(struct ds_core *c, struct ds_buf *key)
{
	uint64_t a = ds_random(c), b = ds_random(c);

	ds_buf_fmt(key, "%08x-%04x-1%03x-%04x-%012llx", (unsigned)(a >> 32),
		   (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff,
		   0x8000 | ((unsigned)(b >> 48) & 0x3fff),
		   (unsigned long long)(b & 0xffffffffffff));
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
	if (key.len == 0)
		make_key(c, &key);
	p->key = (struct ds_str){ ds_str_dup(ds_buf_view(&key)), key.len };
	ds_buf_done(&key);
}

void ds_presence_done(struct ds_presence *p)
{
	free((char *)p->key.p);
	free(p->calls);
	ds_buf_done(&p->payload);
	ds_buf_done(&p->meta);
}

static void add_entry(struct ds_buf *b, struct ds_str key, struct ds_str metas)
{
	ds_buf_byte(b, '{');
	if (metas.n) {
		ds_buf_json(b, key);
		ds_buf_text(b, ":{\"metas\":[");
		ds_buf_str(b, metas);
		ds_buf_text(b, "]}");
	}
	ds_buf_byte(b, '}');
}

/* Do the policies, as a test has laid them down, keep this room from reading or writing presence?
 */
static bool denied(const struct ds_core *c, const struct ds_room *room, bool write)
{
	struct ds_buf topic = { 0 };
	bool yes;

	ds_json_text(room->topic_json, &topic);
	yes = ds_rules_deny(&c->rules, ds_buf_view(&topic), write);
	ds_buf_done(&topic);
	return yes;
}

static bool rule_hit(struct ds_core *c, enum ds_rule_op op, const struct ds_room *room,
		     const char *event, struct ds_rule_hit *ret)
{
	struct ds_buf topic = { 0 };
	bool hit;

	ds_json_text(room->topic_json, &topic);
	hit = ds_rules_use(&c->rules, op, ds_buf_view(&topic), ds_str(event), ret);
	if (hit)
		free(ret->text);
	ds_buf_done(&topic);
	return hit;
}

static void send_diff(struct ds_core *c, struct ds_room *room, struct ds_str key,
		      struct ds_str joins, struct ds_str leaves)
{
	struct ds_buf frame[3] = { { 0 } }, payload = { 0 };
	struct ds_channel *to;
	unsigned n = 0;

	if (denied(c, room, false))
		return;
	ds_buf_text(&payload, "{\"joins\":");
	add_entry(&payload, key, joins);
	ds_buf_text(&payload, ",\"leaves\":");
	add_entry(&payload, key, leaves);
	ds_buf_byte(&payload, '}');
	TAILQ_FOREACH(to, &room->members, in_room) {
		struct ds_buf *b = &frame[to->socket->vsn];

		if (!ds_rights_has(to, DS_PRESENCE_READ))
			continue;
		if (b->len == 0)
			ds_phx_push(b, to->socket->vsn, DS_NULL, DS_NULL, to->topic_json,
				    "presence_diff", ds_buf_view(&payload));
		ds_socket_send(c, to->socket, false, ds_buf_view(b));
		n++;
	}
	ds_limit_diffs(c, n);
	ds_buf_done(&frame[DS_VSN_1]);
	ds_buf_done(&frame[DS_VSN_2]);
	ds_buf_done(&payload);
}

static int compare_keys(struct ds_str a, struct ds_str b)
{
	int r = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return r != 0 ? r : (a.n > b.n) - (a.n < b.n);
}

static int by_key(const void *a, const void *b)
{
	const struct ds_entry *x = a, *y = b;
	int r = compare_keys(x->presence->key, y->presence->key);

	return r != 0 ? r : (x->serial > y->serial) - (x->serial < y->serial);
}

struct ds_entry *ds_presence_entries(const struct ds_room *room, size_t *ret_n)
{
	const struct ds_channel *m;
	const struct ds_ghost *g;
	struct ds_entry *list;
	size_t n = 0;

	TAILQ_FOREACH(m, &room->members, in_room)
		n += m->presence.tracked;
	TAILQ_FOREACH(g, &room->ghosts, in_room)
		n++;
	list = ds_alloc(n * sizeof(*list));
	n = 0;
	TAILQ_FOREACH(m, &room->members, in_room)
		if (m->presence.tracked)
			list[n++] =
				(struct ds_entry){ &m->presence, m->serial, m->socket->id, false };
	TAILQ_FOREACH(g, &room->ghosts, in_room)
		list[n++] = (struct ds_entry){ &g->presence, g->serial, g->socket_id, true };
	qsort(list, n, sizeof(*list), by_key);
	*ret_n = n;
	return list;
}

/* The payload of a presence_state. */
static void add_state(struct ds_buf *b, const struct ds_room *room)
{
	size_t n;
	struct ds_entry *list = ds_presence_entries(room, &n);

	ds_buf_byte(b, '{');
	for (size_t i = 0; i < n; i++) {
		const struct ds_presence *p = list[i].presence;
		bool first = i == 0 || !ds_str_eq(p->key, list[i - 1].presence->key);
		bool last = i + 1 == n || !ds_str_eq(p->key, list[i + 1].presence->key);

		if (i > 0)
			ds_buf_byte(b, ',');
		if (first) {
			ds_buf_json(b, p->key);
			ds_buf_text(b, ":{\"metas\":[");
		}
		ds_buf_str(b, ds_buf_view(&p->meta));
		if (last)
			ds_buf_text(b, "]}");
	}
	ds_buf_byte(b, '}');
	free(list);
}

void ds_presence_state(struct ds_core *c, struct ds_channel *ch, struct ds_str payload)
{
	struct ds_buf b = { 0 };

	if (payload.n)
		ds_buf_str(&b, payload);
	else
		add_state(&b, ch->room);
	ds_channel_push(c, ch, "presence_state", ds_buf_view(&b));
	ds_buf_done(&b);
}

#define TOO_MANY "Too many presence messages per second"

bool ds_presence_joined(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_timer t = { .kind = DS_TIMER_STATE, .socket_id = ch->socket->id };
	struct ds_rule_hit hit;

	if (!ch->presence.on || !ds_rights_has(ch, DS_PRESENCE_READ) || denied(c, ch->room, false))
		return true;
	if (!ds_limit_presence(c)) {
		ds_channel_shut(c, ch, TOO_MANY);
		return false;
	}
	if (!rule_hit(c, DS_RULE_NO_STATE, ch->room, "phx_join", &hit)) {
		ds_presence_state(c, ch, DS_STR(""));
		return true;
	}
	if (hit.ms < 0)
		return true;
	t.serial = ch->serial;
	t.due_ms = c->mono_ms + hit.ms;
	if (hit.stale)
		add_state(&t.frame, ch->room);
	ds_timers_add(&c->timers, t);
	return true;
}

/*
 * Counts one call; false if there were too many in the window. The real server's windows begin with
 * a call and end with it, so that up to twice as many may come close together; here no stretch of
 * that length may have more. What passes here passes there, wherever its windows begin.
 */
static bool call_allowed(struct ds_core *c, struct ds_presence *p)
{
	unsigned max = c->conf.presence_max;
	int64_t *slot = &p->calls[p->n_calls % max];

	if (p->n_calls >= max && c->mono_ms - *slot <= c->conf.presence_window_ms)
		return false;
	*slot = c->mono_ms;
	p->n_calls++;
	c->n_presence_calls++;
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

/* The track that switches presence on has the right to read looked up, too. */
static bool may_track(struct ds_core *c, struct ds_channel *ch)
{
	(void)ds_rights_ask(c, ch, DS_PRESENCE_READ);
	return ds_rights_ask(c, ch, DS_PRESENCE_WRITE) && !denied(c, ch->room, true);
}

static void track(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	struct ds_presence *p = &ch->presence;
	struct ds_str payload = DS_EMPTY, ref = ds_str(ch->push_ref);
	struct ds_buf old = { 0 };
	bool same;

	if (!may_track(c, ch)) {
		ds_reply(c, ch->socket, ref, m, "error", DS_EMPTY);
		return;
	}
	if (ds_json_get(m->payload, "payload", &payload) &&
	    ds_json_kind(payload) != DS_JSON_OBJECT) {
		ds_reply_reason(c, ch->socket, ref, m,
				DS_STR("Presence track payload must be a map"));
		return;
	}
	if (ds_term_size(payload) > c->conf.payload_max_bytes) {
		ds_channel_shut(c, ch, "Track message size exceeded");
		return;
	}
	same = p->tracked && same_value(payload, ds_buf_view(&p->payload));
	if (!same && !ds_limit_presence(c)) {
		ds_channel_shut(c, ch, TOO_MANY);
		return;
	}
	p->on = true;
	ds_reply(c, ch->socket, ref, m, "ok", DS_EMPTY);
	if (same)
		return;
	if (p->tracked)
		ds_buf_str(&old, ds_buf_view(&p->meta));
	make_meta(c, p, payload);
	p->tracked = true;
	send_diff(c, ch->room, p->key, ds_buf_view(&p->meta), ds_buf_view(&old));
	ds_buf_done(&old);
}

static void untrack(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	struct ds_presence *p = &ch->presence;

	ds_reply(c, ch->socket, ds_str(ch->push_ref), m, "ok", DS_EMPTY);
	if (!p->tracked)
		return;
	p->tracked = false;
	send_diff(c, ch->room, p->key, DS_STR(""), ds_buf_view(&p->meta));
}

static void haunt(struct ds_core *c, struct ds_channel *ch, struct ds_room *room, int64_t ms)
{
	struct ds_timer t = { .kind = DS_TIMER_LEAVE, .socket_id = ch->socket->id };
	struct ds_ghost *g = ds_alloc(sizeof(*g));

	g->room = room;
	g->serial = ch->serial;
	g->socket_id = ch->socket->id;
	g->presence = ch->presence;
	ch->presence = (struct ds_presence){ 0 };
	TAILQ_INSERT_TAIL(&room->ghosts, g, in_room);
	TAILQ_INSERT_TAIL(&c->ghosts, g, in_core);
	t.serial = g->serial;
	t.due_ms = c->mono_ms + ms;
	ds_timers_add(&c->timers, t);
}

void ds_presence_gone(struct ds_core *c, struct ds_channel *ch, struct ds_room *room)
{
	struct ds_rule_hit hit;

	if (!ch->presence.tracked)
		return;
	if (rule_hit(c, DS_RULE_LATE_LEAVE, room, "phx_leave", &hit))
		haunt(c, ch, room, hit.ms);
	else
		send_diff(c, room, ch->presence.key, DS_STR(""), ds_buf_view(&ch->presence.meta));
}

void ds_presence_ghost_gone(struct ds_core *c, uint64_t serial)
{
	struct ds_ghost *g;

	TAILQ_FOREACH(g, &c->ghosts, in_core)
		if (g->serial == serial)
			break;
	if (!g)
		return;
	TAILQ_REMOVE(&c->ghosts, g, in_core);
	TAILQ_REMOVE(&g->room->ghosts, g, in_room);
	send_diff(c, g->room, g->presence.key, DS_STR(""), ds_buf_view(&g->presence.meta));
	ds_room_check(c, g->room);
	ds_presence_done(&g->presence);
	free(g);
}

void ds_presence_event(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	struct ds_buf name = { 0 };
	struct ds_str event;

	if (!ds_json_get(m->payload, "event", &event)) {
		ds_reply(c, ch->socket, ds_str(ch->push_ref), m, "ok", DS_EMPTY);
		return;
	}
	if (ds_json_kind(event) != DS_JSON_STRING) {
		ds_channel_crash(c, ch);
		return;
	}
	if (!call_allowed(c, &ch->presence)) {
		c->n_presence_closed++;
		ds_channel_shut(c, ch, "Client presence rate limit exceeded");
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
