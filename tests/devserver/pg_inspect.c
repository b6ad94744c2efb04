/* SPDX-License-Identifier: MIT */
/*
 * Values as Elixir shows them, for the real server's messages. Long lists of filters are broken
 * into lines, as its pretty printer does at 80 columns.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pg_params.h"
#include "span.h"

#define WIDTH     80
#define ITEMS_MAX 50 /* the rest is shown as ... */

static void inspect_text(struct ds_str s, struct ds_buf *b)
{
	static const char from[] = "\a\b\t\n\v\f\r\033", to[] = "abtnvfre";

	ds_buf_byte(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		const char *hit = c ? strchr(from, c) : NULL;

		if (hit)
			ds_buf_fmt(b, "\\%c", to[hit - from]);
		else if (c < 0x20 || c == 0x7f)
			ds_buf_fmt(b, "\\x%02X", c);
		else if (c == '"' || c == '\\' || (c == '#' && i + 1 < s.n && s.p[i + 1] == '{'))
			ds_buf_fmt(b, "\\%c", c);
		else
			ds_buf_byte(b, c);
	}
	ds_buf_byte(b, '"');
}

static void inspect_json_text(struct ds_str raw, struct ds_buf *b)
{
	struct ds_buf text = { 0 };

	ds_json_text(raw, &text);
	inspect_text(ds_buf_view(&text), b);
	ds_buf_done(&text);
}

struct pair {
	struct ds_buf key;
	struct ds_str value;
};

static int by_key(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	size_t n = x->key.len < y->key.len ? x->key.len : y->key.len;
	int d = n ? memcmp(x->key.data, y->key.data, n) : 0;

	return d ? d : x->key.len < y->key.len ? -1 : x->key.len > y->key.len;
}

/* Small maps of Elixir are in the order of their keys. */
static void inspect_map(struct ds_str object, struct ds_buf *b)
{
	struct ds_json_iter it = ds_json_iter(object);
	struct ds_str key, value;
	struct pair *pairs;
	size_t n = 0, room = 0;

	while (ds_json_member(&it, &key, &value))
		room++;
	pairs = ds_alloc((room + 1) * sizeof(*pairs));
	for (it = ds_json_iter(object); ds_json_member(&it, &key, &value); n++) {
		inspect_json_text(key, &pairs[n].key);
		pairs[n].value = value;
	}
	qsort(pairs, n, sizeof(*pairs), by_key);
	ds_buf_text(b, "%{");
	for (size_t i = 0; i < n; i++) {
		ds_buf_text(b, i ? ", " : "");
		ds_buf_str(b, ds_buf_view(&pairs[i].key));
		ds_buf_text(b, " => ");
		ds_elixir_inspect(pairs[i].value, b);
		ds_buf_done(&pairs[i].key);
	}
	ds_buf_byte(b, '}');
	free(pairs);
}

void ds_elixir_inspect(struct ds_str json, struct ds_buf *b)
{
	struct ds_json_iter it;
	struct ds_str item;
	size_t n = 0;

	switch (ds_json_kind(json)) {
	case DS_JSON_NULL:
		ds_buf_text(b, "nil");
		break;
	case DS_JSON_STRING:
		inspect_json_text(json, b);
		break;
	case DS_JSON_OBJECT:
		inspect_map(json, b);
		break;
	case DS_JSON_ARRAY:
		ds_buf_byte(b, '[');
		for (it = ds_json_iter(json); ds_json_item(&it, &item); n++) {
			ds_buf_text(b, n ? ", " : "");
			if (n == ITEMS_MAX) {
				ds_buf_text(b, "...");
				break;
			}
			ds_elixir_inspect(item, b);
		}
		ds_buf_byte(b, ']');
		break;
	default:
		ds_buf_str(b, ds_json_trim(json));
		break;
	}
}

/* Words with commas, filled up to the width; @column is where the first one begins, the other
 * lines begin there, too. @after is what follows the last word on its line. */
static void fill(const struct ds_buf *words, size_t n, size_t column, size_t after,
		 struct ds_buf *b)
{
	size_t at = column;

	for (size_t i = 0; i < n; i++) {
		size_t length = words[i].len + (i + 1 < n ? 1 : after);

		if (i && at + 1 + length > WIDTH) {
			ds_buf_byte(b, '\n');
			for (at = 0; at < column; at++)
				ds_buf_byte(b, ' ');
		} else if (i) {
			ds_buf_byte(b, ' ');
			at++;
		}
		ds_buf_str(b, ds_buf_view(&words[i]));
		if (i + 1 < n)
			ds_buf_byte(b, ',');
		at += length;
	}
}

static void describe_filter(const struct ds_pg_filter *f, size_t indent, struct ds_buf *b)
{
	struct ds_buf words[4] = { { 0 } };
	size_t flat = 2 + 3 * 2;

	inspect_text(ds_str(f->column), &words[0]);
	inspect_text(ds_str(f->op), &words[1]);
	inspect_text(ds_str(f->value), &words[2]);
	ds_buf_text(&words[3], f->negate ? "true" : "false");
	for (size_t i = 0; i < 4; i++)
		flat += words[i].len;
	ds_buf_byte(b, '{');
	if (indent == 0 || indent + flat + 1 <= WIDTH) {
		for (size_t i = 0; i < 4; i++) {
			ds_buf_text(b, i ? ", " : "");
			ds_buf_str(b, ds_buf_view(&words[i]));
		}
	} else {
		fill(words, 4, indent + 1, 1, b);
	}
	ds_buf_byte(b, '}');
	for (size_t i = 0; i < 4; i++)
		ds_buf_done(&words[i]);
}

static void describe_filters(const struct ds_pg_params *p, struct ds_buf *b)
{
	size_t before = b->len;

	ds_buf_byte(b, '[');
	for (size_t i = 0; i < p->n_filters; i++) {
		ds_buf_text(b, i ? ", " : "");
		describe_filter(&p->filters[i], 0, b);
	}
	ds_buf_byte(b, ']');
	if (b->len - before <= WIDTH)
		return;
	b->len = before;
	ds_buf_byte(b, '[');
	for (size_t i = 0; i < p->n_filters; i++) {
		ds_buf_text(b, i ? ",\n  " : "\n  ");
		describe_filter(&p->filters[i], 2, b);
	}
	ds_buf_text(b, "\n]");
}

static void describe_select(const struct ds_pg_params *p, struct ds_buf *b)
{
	size_t n = p->n_select < ITEMS_MAX ? p->n_select : ITEMS_MAX;
	struct ds_buf *words = ds_alloc((n + 1) * sizeof(*words));

	for (size_t i = 0; i < n; i++)
		inspect_text(ds_str(p->select[i]), &words[i]);
	if (n < p->n_select)
		ds_buf_text(&words[n++], "...");
	ds_buf_byte(b, '[');
	fill(words, n, 1, 1, b);
	ds_buf_byte(b, ']');
	for (size_t i = 0; i < n; i++)
		ds_buf_done(&words[i]);
	free(words);
}

void ds_pg_params_describe(const struct ds_pg_params *p, struct ds_buf *b)
{
	ds_buf_fmt(b, "event: %s, schema: %s, table: %s, filters: ", p->event, p->schema, p->table);
	describe_filters(p, b);
	ds_buf_text(b, ", select: ");
	if (p->has_select)
		describe_select(p, b);
	else
		ds_buf_text(b, "nil");
}
