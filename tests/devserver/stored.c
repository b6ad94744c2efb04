/* SPDX-License-Identifier: MIT */
/*
 * What the database sends: passed on at once, and stored for channels that ask for a replay. With a
 * real database its own table is the store; otherwise the messages are kept here.
 */
#include <stdlib.h>

#include "fault_int.h"
#include "jwt.h"
#include "term.h"

#define STORED_MAX   10000
#define RETENTION_MS 259200000 /* 72 h */

void ds_stored_drop(struct ds_core *c)
{
	struct ds_stored *st = TAILQ_FIRST(&c->stored);

	TAILQ_REMOVE(&c->stored, st, link);
	c->n_stored--;
	ds_buf_done(&st->name);
	ds_buf_done(&st->event);
	ds_buf_done(&st->payload);
	free(st);
}

/* By their times; of equal ones the newer is the later. */
static void store(struct ds_core *c, const struct ds_db_message *m, int64_t at_ms)
{
	struct ds_stored *st = ds_alloc(sizeof(*st)),
			 *before = TAILQ_LAST(&c->stored, ds_stored_list);

	memcpy(st->id, m->id.p, m->id.n);
	ds_buf_str(&st->name, m->topic);
	ds_buf_str(&st->event, m->event);
	ds_buf_str(&st->payload, m->payload);
	st->private = m->private;
	st->binary = m->binary;
	st->at_ms = at_ms;
	while (before && before->at_ms > at_ms)
		before = TAILQ_PREV(before, ds_stored_list, link);
	if (before)
		TAILQ_INSERT_AFTER(&c->stored, before, st, link);
	else
		TAILQ_INSERT_HEAD(&c->stored, st, link);
	c->n_stored++;
	while (c->n_stored > STORED_MAX ||
	       (c->n_stored && TAILQ_FIRST(&c->stored)->at_ms < c->wall_ms - RETENTION_MS))
		ds_stored_drop(c);
}

void ds_stored_meta(struct ds_buf *b, struct ds_str id, bool replayed)
{
	ds_buf_text(b, "{\"id\":");
	ds_buf_json(b, id);
	ds_buf_text(b, replayed ? ",\"replayed\":true}" : "}");
}

void ds_core_db_message(struct ds_core *c, const struct ds_db_message *row)
{
	struct ds_msg m = { .form = DS_PAYLOAD_USER };
	struct ds_buf meta = { 0 };

	/* What is too much or too large is lost, but stays in the store. */
	if (ds_limit_flooded(c) || ds_term_bytes(row->payload.n) > c->conf.payload_max_bytes)
		return;
	ds_stored_meta(&meta, row->id, false);
	m.user_event = row->event;
	m.user_json = !row->binary;
	m.payload = row->payload;
	m.meta = ds_buf_view(&meta);
	ds_cast_outside(c, row->topic, row->private, row->id, &m);
	ds_buf_done(&meta);
}

/* Orders. */

bool ds_op_refuse_replay(struct ds_order *o)
{
	return ds_order_rule(o, DS_RULE_REFUSE_REPLAY, 1);
}

bool ds_op_replication(struct ds_order *o)
{
	if (ds_order_number(o, "ms", 0) < 0)
		return ds_order_fail(o, "replication needs a time that is not negative", "ms");
	ds_order_add(o, DS_RULE_REPLICATION, 1)->fail =
		json_is_true(json_object_get(o->json, "fail"));
	return true;
}

static void make_id(struct ds_core *c, struct ds_buf *id)
{
	uint64_t a = ds_random(c), b = ds_random(c);

	ds_buf_fmt(id, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
		   (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff,
		   0x8000 | ((unsigned)(b >> 48) & 0x3fff), (unsigned long long)b & 0xffffffffffff);
}

/* As realtime.send() does it: the payload has an id, be it its own or the message's. */
static bool read_payload(struct ds_order *o, struct ds_str id, struct ds_db_message *m,
			 struct ds_buf *b)
{
	const char *base64 = ds_order_text(o, "base64", NULL);
	struct ds_str payload, v;

	m->binary = base64 != NULL;
	if (base64 && !ds_base64_decode(b, ds_str(base64)))
		return ds_order_fail(o, "db_send needs base64 text", "base64");
	if (!base64) {
		if (!ds_json_get(o->raw, "payload", &payload) ||
		    ds_json_kind(payload) != DS_JSON_OBJECT)
			return ds_order_fail(o, "db_send needs an object (or base64)", "payload");
		if (ds_json_get(payload, "id", &v)) {
			ds_buf_str(b, payload);
		} else {
			struct ds_json_iter it = ds_json_iter(payload);
			bool empty = !ds_json_member(&it, &v, &v);

			ds_buf_text(b, "{\"id\":");
			ds_buf_json(b, id);
			ds_buf_text(b, empty ? "" : ",");
			ds_buf_add(b, payload.p + 1, payload.n - 1);
		}
	}
	m->payload = ds_buf_view(b);
	return true;
}

bool ds_op_db_send(struct ds_order *o)
{
	const char *topic = ds_order_text(o, "topic", NULL), *id = ds_order_text(o, "id", NULL);
	struct ds_db_message m = { .private = true };
	struct ds_buf made = { 0 }, payload = { 0 };
	bool ok;

	if (o->c->ops.pg_replay)
		return ds_order_fail(o, "there is a real database: use realtime.send()", "db_send");
	if (!topic || strncmp(topic, DS_TOPIC_HEAD, strlen(DS_TOPIC_HEAD)) == 0)
		return ds_order_fail(o, "db_send needs a topic, without its \"realtime:\"",
				     "topic");
	if (!ds_order_text(o, "event", NULL))
		return ds_order_fail(o, "db_send needs a string", "event");
	if (id && strlen(id) >= DS_ID_SIZE)
		return ds_order_fail(o, "db_send needs an id of at most 36 bytes", "id");
	if (id)
		ds_buf_text(&made, id);
	else
		make_id(o->c, &made);
	m.id = ds_buf_view(&made);
	m.topic = ds_str(topic);
	m.event = ds_str(ds_order_text(o, "event", ""));
	m.private = !json_is_false(json_object_get(o->json, "private"));
	ok = read_payload(o, m.id, &m, &payload);
	if (ok && !json_is_false(json_object_get(o->json, "store")))
		store(o->c, &m, o->c->wall_ms - ds_order_number(o, "age_ms", 0));
	if (ok && !json_is_false(json_object_get(o->json, "deliver")))
		ds_core_db_message(o->c, &m);
	ds_buf_done(&made);
	ds_buf_done(&payload);
	return ok;
}
