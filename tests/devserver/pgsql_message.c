/* SPDX-License-Identifier: MIT */
#include "pgsql_message.h"

#include <stdlib.h>

#include "span.h"

#define SCHEMA "realtime"
#define TABLE  "messages" /* its partitions are called after it */

bool pgsql_is_message(struct ds_str change)
{
	struct ds_str schema, table;

	/* Most changes are rows of something else: those cost no more than this. */
	if (!memmem(change.p, change.n, "\"" SCHEMA "\"", strlen(SCHEMA) + 2))
		return false;
	return ds_json_get(change, "schema", &schema) && ds_json_key_is(schema, SCHEMA) &&
	       ds_json_get(change, "table", &table) && table.n > strlen(TABLE) + 1 &&
	       memcmp(table.p + 1, TABLE, strlen(TABLE)) == 0;
}

/* The value of a column of the new row, JSON; false if it is null or not there. */
static bool column(struct ds_str change, const char *name, struct ds_str *ret)
{
	struct ds_str list, item, key;
	struct ds_json_iter it;

	if (!ds_json_get(change, "columns", &list))
		return false;
	it = ds_json_iter(list);
	while (ds_json_item(&it, &item))
		if (ds_json_get(item, "name", &key) && ds_json_key_is(key, name))
			return ds_json_get(item, "value", ret) &&
			       ds_json_kind(*ret) != DS_JSON_NULL;
	return false;
}

static bool text_column(struct ds_str change, const char *name, struct ds_buf *ret)
{
	struct ds_str v;

	if (!column(change, name, &v) || ds_json_kind(v) != DS_JSON_STRING)
		return false;
	ds_json_text(v, ret);
	return true;
}

static void from_hex(struct ds_buf *b)
{
	for (size_t i = 0; i + 1 < b->len; i += 2) {
		char hex[3] = { b->data[i], b->data[i + 1], 0 };

		b->data[i / 2] = (char)strtol(hex, NULL, 16);
	}
	b->len /= 2;
}

void pgsql_message(struct ds_core *core, struct ds_str change)
{
	struct ds_buf id = { 0 }, topic = { 0 }, event = { 0 }, payload = { 0 };
	struct ds_str action, private;
	struct ds_db_message m = { .binary = false };
	bool whole;

	whole = ds_json_get(change, "action", &action) && ds_json_key_is(action, "I") &&
		text_column(change, "id", &id) && text_column(change, "topic", &topic) &&
		text_column(change, "event", &event) && column(change, "private", &private);
	if (whole && !text_column(change, "payload", &payload)) {
		m.binary = whole = text_column(change, "binary_payload", &payload);
		from_hex(&payload);
	}
	if (whole) {
		m.id = ds_buf_view(&id);
		m.topic = ds_buf_view(&topic);
		m.event = ds_buf_view(&event);
		m.payload = ds_buf_view(&payload);
		m.private = ds_json_kind(private) == DS_JSON_TRUE;
		ds_core_db_message(core, &m);
	}
	ds_buf_done(&id);
	ds_buf_done(&topic);
	ds_buf_done(&event);
	ds_buf_done(&payload);
}
