/* SPDX-License-Identifier: MIT */
/* The orders of POST /_devserver/fault that are about the database. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fault_int.h"

#define LOST_MS 1000 /* how long a subscription is lost, unless the order says */

bool ds_op_postgres_error(struct ds_order *o)
{
	return ds_order_rule(o, DS_RULE_POSTGRES_ERROR, 1);
}

bool ds_op_postgres_delay(struct ds_order *o)
{
	if (ds_order_number(o, "ms", -1) < 0)
		return ds_order_fail(o, "postgres_delay needs a time that is not negative", "ms");
	return ds_order_rule(o, DS_RULE_POSTGRES_DELAY, 1);
}

bool ds_op_postgres_refuse(struct ds_order *o)
{
	if (!ds_order_text(o, "schema", NULL))
		return ds_order_fail(o, "postgres_refuse needs a string", "schema");
	if (!ds_order_text(o, "table", NULL))
		return ds_order_fail(o, "postgres_refuse needs a string", "table");
	return ds_order_rule(o, DS_RULE_POSTGRES_REFUSE, ds_order_number(o, "times", -1));
}

/* What the order says about one channel of its topic. */
static void to_channel(struct ds_order *o, struct ds_channel *ch)
{
	struct ds_str payload;

	if (strcmp(o->op, "postgres_raw") == 0 && ds_json_get(o->raw, "payload", &payload))
		ds_pg_push(o->c, ch, payload);
	else if (strcmp(o->op, "postgres_again") == 0)
		ds_pg_subscribed(o->c, ch);
	else if (strcmp(o->op, "postgres_lost") == 0)
		ds_pg_lose(o->c, ch, "{:error, \"Too many database timeouts\"}",
			   ds_order_number(o, "ms", LOST_MS));
}

bool ds_op_postgres_channels(struct ds_order *o)
{
	const char *topic = ds_order_text(o, "topic", NULL);
	struct ds_buf name = { 0 };
	struct ds_socket *s;

	if (!topic)
		return ds_order_fail(o, "this needs a topic, with its \"realtime:\"", "topic");
	if (strcmp(o->op, "postgres_raw") == 0 && !json_object_get(o->json, "payload"))
		return ds_order_fail(o, "postgres_raw needs any JSON value", "payload");
	ds_buf_json(&name, ds_str(topic));
	TAILQ_FOREACH(s, &o->c->sockets, link) {
		struct ds_channel *ch = NULL;

		if (ds_order_chosen(o, s))
			ch = ds_channel_by_topic(s, ds_buf_view(&name));
		if (ch)
			to_channel(o, ch);
	}
	ds_buf_done(&name);
	return true;
}

static void add_now(struct ds_core *c, struct ds_buf *b)
{
	time_t seconds = (time_t)(c->wall_ms / 1000);
	char text[40];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	ds_buf_fmt(b, "\"%s.%03dZ\"", text, (int)(c->wall_ms % 1000));
}

/* The member as it came, or what it is otherwise; NULL leaves it out. */
static void add_member(struct ds_order *o, struct ds_buf *b, const char *key, const char *otherwise)
{
	struct ds_str v;

	if (!ds_json_get(o->raw, key, &v)) {
		if (!otherwise)
			return;
		v = ds_str(otherwise);
	}
	ds_buf_fmt(b, ",\"%s\":", key);
	ds_buf_str(b, v);
}

bool ds_op_postgres_row(struct ds_order *o)
{
	const char *schema = ds_order_text(o, "schema", "public");
	const char *table = ds_order_text(o, "table", NULL);
	const char *type = ds_order_text(o, "type", NULL);
	bool insert = type && strcmp(type, "INSERT") == 0;
	bool delete = type && strcmp(type, "DELETE") == 0;
	struct ds_buf data = { 0 };
	struct ds_str row = DS_EMPTY;

	if (!table)
		return ds_order_fail(o, "postgres_row needs a string", "table");
	if (!type || (!insert && !delete &&strcmp(type, "UPDATE") != 0))
		return ds_order_fail(o, "postgres_row needs INSERT, UPDATE or DELETE", "type");
	ds_buf_fmt(&data, "{\"type\":\"%s\",\"schema\":", type);
	ds_buf_json(&data, ds_str(schema));
	ds_buf_text(&data, ",\"table\":");
	ds_buf_json(&data, ds_str(table));
	add_member(o, &data, "record", delete ? NULL : "{}");
	add_member(o, &data, "old_record", insert ? NULL : "{}");
	add_member(o, &data, "columns", "[]");
	add_member(o, &data, "errors", "null");
	add_member(o, &data, "commit_timestamp", NULL);
	if (!json_object_get(o->json, "commit_timestamp")) {
		ds_buf_text(&data, ",\"commit_timestamp\":");
		add_now(o->c, &data);
	}
	ds_buf_byte(&data, '}');
	ds_json_get(o->raw, delete ? "old_record" : "record", &row);
	ds_pg_row(o->c, ds_str(type), ds_str(schema), ds_str(table), row, ds_buf_view(&data));
	ds_buf_done(&data);
	return true;
}
