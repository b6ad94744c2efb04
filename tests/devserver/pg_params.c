/* SPDX-License-Identifier: MIT */
#include "pg_params.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "span.h"

static const char *const operators[] = { "eq",    "neq",    "lt",        "lte",   "gt",
					 "gte",   "in",     "like",      "ilike", "is",
					 "match", "imatch", "isdistinct" };

static char *text_of(struct ds_str json)
{
	struct ds_buf b = { 0 };

	ds_json_text(json, &b);
	ds_buf_byte(&b, 0);
	return b.data;
}

static const char *event_of(struct ds_str binding)
{
	static const char *const known[] = { "INSERT", "UPDATE", "DELETE" };
	const char *event = "*";
	struct ds_str v;
	char *text;

	if (!ds_json_get(binding, "event", &v) || ds_json_kind(v) != DS_JSON_STRING)
		return event;
	text = text_of(v);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcasecmp(text, known[i]) == 0)
			event = known[i];
	free(text);
	return event;
}

static bool parse_select(struct ds_str binding, struct ds_pg_params *p, struct ds_buf *ret_error)
{
	struct ds_json_iter it;
	struct ds_str v, item;
	size_t room = 0;

	if (!ds_json_get(binding, "select", &v))
		return true;
	if (ds_json_kind(v) == DS_JSON_STRING) {
		ds_buf_text(ret_error, "Error parsing `select` params: expected a list of column "
				       "name strings, e.g. select: [\"col1\", \"col2\"]");
		return false;
	}
	if (ds_json_kind(v) != DS_JSON_ARRAY)
		return true;
	p->has_select = true;
	for (it = ds_json_iter(v); ds_json_item(&it, &item);)
		room++;
	p->select = ds_alloc((room + 1) * sizeof(*p->select));
	for (it = ds_json_iter(v); ds_json_item(&it, &item);)
		if (ds_json_kind(item) == DS_JSON_STRING)
			p->select[p->n_select++] = text_of(item);
	return true;
}

static bool blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct ds_str trim(struct ds_str s)
{
	while (s.n && blank(s.p[0]))
		s = (struct ds_str){ s.p + 1, s.n - 1 };
	while (s.n && blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* The length of the first condition. Commas within parentheses or quotes are part of it; quotes
 * open only where a value may begin. */
static size_t segment_length(struct ds_str s)
{
	bool quoted = false;
	int depth = 0;
	char before = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (quoted) {
			if (c == '\\' && i + 1 < s.n)
				c = s.p[++i];
			else if (c == '"')
				quoted = false;
		} else if (c == '"' && (before == '.' || before == '(' || before == ',')) {
			quoted = true;
		} else if (c == '(') {
			depth++;
		} else if (c == ')' && depth > 0) {
			depth--;
		} else if (c == ',' && depth == 0) {
			return i;
		}
		before = c;
	}
	return s.n;
}

/* "a\"b" without its quotes; what is not wholly quoted stays as it is. */
static char *unquoted(struct ds_str s)
{
	struct ds_buf b = { 0 };

	if (s.n == 0 || s.p[0] != '"')
		return ds_str_dup(s);
	for (size_t i = 1; i < s.n; i++) {
		if (s.p[i] == '"' && i + 1 == s.n) {
			ds_buf_byte(&b, 0);
			return b.data;
		}
		if (s.p[i] == '"')
			break;
		if (s.p[i] == '\\' && i + 1 < s.n)
			i++;
		ds_buf_byte(&b, (unsigned char)s.p[i]);
	}
	ds_buf_done(&b);
	return ds_str_dup(s);
}

/* What the real server could not go on with, as the list that it shows. */
static bool not_understood(struct ds_buf *ret_error, struct ds_str first, struct ds_str second)
{
	struct ds_buf list = { 0 };

	ds_buf_byte(&list, '[');
	ds_buf_json(&list, first);
	if (second.p) {
		ds_buf_byte(&list, ',');
		ds_buf_json(&list, second);
	}
	ds_buf_byte(&list, ']');
	ds_elixir_inspect(ds_buf_view(&list), ret_error);
	ds_buf_done(&list);
	return false;
}

/* Cuts @s at the first @at; false if there is none. */
static bool cut(struct ds_str s, char at, struct ds_str *ret_head, struct ds_str *ret_tail)
{
	const char *hit = s.n ? memchr(s.p, at, s.n) : NULL;

	if (!hit)
		return false;
	*ret_head = (struct ds_str){ s.p, (size_t)(hit - s.p) };
	*ret_tail = (struct ds_str){ hit + 1, s.n - ret_head->n - 1 };
	return true;
}

/* One condition: column=op.value or column=not.op.value */
static bool parse_condition(struct ds_str s, struct ds_pg_filter *ret, struct ds_buf *ret_error)
{
	struct ds_str column, rest, op, value;

	s = trim(s);
	if (s.n == 0) {
		ds_buf_text(ret_error,
			    "filter must not contain empty segments (check for extra commas)");
		return false;
	}
	if (!cut(s, '=', &column, &rest))
		return not_understood(ret_error, s, (struct ds_str){ 0 });
	ret->negate = rest.n >= 4 && memcmp(rest.p, "not.", 4) == 0;
	if (ret->negate)
		rest = (struct ds_str){ rest.p + 4, rest.n - 4 };
	if (!cut(rest, '.', &op, &value))
		return not_understood(ret_error, rest, (struct ds_str){ 0 });
	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		if (ds_str_eq(op, ds_str(operators[i])))
			ret->op = operators[i];
	if (!ret->op)
		return not_understood(ret_error, op, value);
	ret->column = ds_str_dup(column);
	if (strcmp(ret->op, "in") != 0) {
		ret->value = unquoted(value);
		return true;
	}
	if (value.n < 2 || value.p[0] != '(' || value.p[value.n - 1] != ')') {
		ds_buf_text(ret_error, "`in` filter value must be wrapped by parentheses");
		return false;
	}
	ret->value = ds_str_dup(value);
	ret->value[0] = '{';
	ret->value[value.n - 1] = '}';
	return true;
}

static bool parse_filters(struct ds_str text, struct ds_pg_params *p, struct ds_buf *ret_error)
{
	struct ds_str rest = trim(text);
	size_t room = 1;

	if (rest.n == 0)
		return true;
	for (size_t i = 0; i < rest.n; i++)
		room += rest.p[i] == ',';
	p->filters = ds_alloc(room * sizeof(*p->filters));
	for (;;) {
		size_t n = segment_length(rest);
		struct ds_buf why = { 0 };

		if (!parse_condition((struct ds_str){ rest.p, n }, &p->filters[p->n_filters++],
				     &why)) {
			ds_buf_text(ret_error, "Error parsing `filter` params: ");
			ds_buf_str(ret_error, ds_buf_view(&why));
			ds_buf_done(&why);
			return false;
		}
		if (n == rest.n)
			return true;
		rest = (struct ds_str){ rest.p + n + 1, rest.n - n - 1 };
	}
}

enum member { ABSENT, STRING, OTHER };

static enum member member(struct ds_str binding, const char *key, struct ds_str *ret)
{
	if (!ds_json_get(binding, key, ret))
		return ABSENT;
	return ds_json_kind(*ret) == DS_JSON_STRING ? STRING : OTHER;
}

static bool has_no_subject(struct ds_str binding, struct ds_buf *ret_error)
{
	ds_buf_text(ret_error, "No subscription params provided. Please provide at least a "
			       "`schema` or `table` to subscribe to: ");
	ds_elixir_inspect(binding, ret_error);
	return false;
}

bool ds_pg_params_parse(struct ds_str binding, struct ds_pg_params *ret, struct ds_buf *ret_error)
{
	struct ds_str schema, table, filter;
	enum member has_schema, has_table, has_filter;

	*ret = (struct ds_pg_params){ .event = event_of(binding) };
	if (!parse_select(binding, ret, ret_error))
		return false;
	has_schema = member(binding, "schema", &schema);
	has_table = member(binding, "table", &table);
	has_filter = member(binding, "filter", &filter);
	if (has_schema == OTHER || has_table == OTHER || has_filter == OTHER ||
	    (has_schema == ABSENT && has_table == ABSENT) ||
	    (has_filter == STRING && (has_schema == ABSENT || has_table == ABSENT)))
		return has_no_subject(binding, ret_error);
	ret->schema = has_schema == STRING ? text_of(schema) : ds_str_dup(DS_STR("public"));
	ret->table = has_table == STRING ? text_of(table) : ds_str_dup(DS_STR("*"));
	if (has_filter == STRING) {
		char *text = text_of(filter);
		bool ok = parse_filters(ds_str(text), ret, ret_error);

		free(text);
		if (!ok)
			return false;
	}
	if (ret->has_select && (strcmp(ret->schema, "*") == 0 || strcmp(ret->table, "*") == 0)) {
		ds_buf_text(ret_error, "Column selection is not supported for wildcard "
				       "subscriptions. Provide an explicit schema and table name.");
		return false;
	}
	return true;
}

void ds_pg_params_done(struct ds_pg_params *p)
{
	for (size_t i = 0; i < p->n_filters; i++) {
		free(p->filters[i].column);
		free(p->filters[i].value);
	}
	for (size_t i = 0; i < p->n_select; i++)
		free(p->select[i]);
	free(p->filters);
	free(p->select);
	free(p->schema);
	free(p->table);
	*p = (struct ds_pg_params){ 0 };
}

void ds_pg_params_json(const struct ds_pg_params *p, struct ds_buf *b)
{
	ds_buf_fmt(b, "{\"event\":\"%s\",\"schema\":", p->event);
	ds_buf_json(b, ds_str(p->schema));
	ds_buf_text(b, ",\"table\":");
	ds_buf_json(b, ds_str(p->table));
	ds_buf_text(b, ",\"filters\":[");
	for (size_t i = 0; i < p->n_filters; i++) {
		ds_buf_text(b, i ? ",[" : "[");
		ds_buf_json(b, ds_str(p->filters[i].column));
		ds_buf_fmt(b, ",\"%s\",", p->filters[i].op);
		ds_buf_json(b, ds_str(p->filters[i].value));
		ds_buf_text(b, p->filters[i].negate ? ",true]" : ",false]");
	}
	ds_buf_text(b, "],\"select\":");
	for (size_t i = 0; i < p->n_select; i++) {
		ds_buf_byte(b, i ? ',' : '[');
		ds_buf_json(b, ds_str(p->select[i]));
	}
	ds_buf_text(b, p->n_select ? "]}" : p->has_select ? "[]}" : "null}");
}

/* The next character's length; the text is UTF-8, and _ stands for a character. */
static size_t step(struct ds_str s)
{
	size_t n = 1;

	while (n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n++;
	return n;
}

bool ds_pg_like(const char *pattern, struct ds_str text)
{
	const char *star = NULL;
	struct ds_str again = { 0 };

	if (strcmp(pattern, "*") == 0)
		return true;
	while (text.n) {
		size_t n = step(text);

		if (*pattern == '%') {
			star = ++pattern;
			again = text;
		} else if (*pattern == '_' || (n == 1 && *pattern == text.p[0])) {
			pattern++;
			text = (struct ds_str){ text.p + n, text.n - n };
		} else if (n > 1 && strncmp(pattern, text.p, n) == 0) {
			pattern += n;
			text = (struct ds_str){ text.p + n, text.n - n };
		} else if (star) {
			n = step(again);
			again = text = (struct ds_str){ again.p + n, again.n - n };
			pattern = star;
		} else {
			return false;
		}
	}
	while (*pattern == '%')
		pattern++;
	return *pattern == 0;
}

static bool equals(const struct ds_pg_filter *f, struct ds_str row)
{
	struct ds_str v;
	char *text;
	bool same;

	if (!ds_json_get(row, f->column, &v) || ds_json_kind(v) == DS_JSON_NULL)
		return false;
	text = ds_json_kind(v) == DS_JSON_STRING ? text_of(v) : ds_str_dup(v);
	same = strcmp(text, f->value) == 0;
	free(text);
	return same;
}

bool ds_pg_params_match(const struct ds_pg_params *p, struct ds_str event, struct ds_str schema,
			struct ds_str table, struct ds_str row)
{
	if (strcmp(p->event, "*") != 0 && !ds_str_eq(ds_str(p->event), event))
		return false;
	if (!ds_pg_like(p->schema, schema) || !ds_pg_like(p->table, table))
		return false;
	for (size_t i = 0; i < p->n_filters; i++)
		if (strcmp(p->filters[i].op, "eq") == 0 && !p->filters[i].negate &&
		    !equals(&p->filters[i], row))
			return false;
	return true;
}
