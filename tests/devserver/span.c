/* SPDX-License-Identifier: MIT */
#include "span.h"

#define DEPTH_MAX 65536

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && blank(*p))
		p++;
	return p;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Four hex digits at @p, or -1. */
static long hex4(const char *p, const char *end)
{
	long v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int d = hex_digit(p[i]);

		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

/* After the backslash at @p - 1: returns the end of the escape or NULL. */
static const char *check_escape(const char *p, const char *end)
{
	long v;

	if (p == end)
		return NULL;
	if (*p != 'u')
		return strchr("\"\\/bfnrt", *p) && *p ? p + 1 : NULL;
	v = hex4(p + 1, end);
	if (v < 0 || (v >= 0xdc00 && v <= 0xdfff))
		return NULL;
	p += 5;
	if (v < 0xd800 || v > 0xdbff)
		return p;
	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return NULL;
	v = hex4(p + 2, end);
	return v >= 0xdc00 && v <= 0xdfff ? p + 6 : NULL;
}

/* One UTF-8 sequence that starts with a byte over 0x7f: its end or NULL. */
static const char *check_utf8(const char *text, const char *end)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xbf;
	int more;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		more = 1;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		more = 2;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		more = 3;
	else
		return NULL;
	if (end - text <= more)
		return NULL;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return NULL;
	for (int i = 2; i <= more; i++)
		if ((p[i] & 0xc0) != 0x80)
			return NULL;
	return text + more + 1;
}

static const char *check_string(const char *p, const char *end)
{
	if (p == end || *p != '"')
		return NULL;
	p++;
	while (p && p < end) {
		unsigned char c = (unsigned char)*p;

		if (c == '"')
			return p + 1;
		if (c < 0x20)
			return NULL;
		if (c == '\\')
			p = check_escape(p + 1, end);
		else if (c < 0x80)
			p++;
		else
			p = check_utf8(p, end);
	}
	return NULL;
}

static const char *digits(const char *p, const char *end)
{
	const char *start = p;

	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p > start ? p : NULL;
}

static const char *check_number(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else
		p = digits(p, end);
	if (p && p < end && *p == '.')
		p = digits(p + 1, end);
	if (p && p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = digits(p, end);
	}
	return p;
}

static const char *check_word(const char *p, const char *end, struct ds_str word)
{
	return (size_t)(end - p) >= word.n && memcmp(p, word.p, word.n) == 0 ? p + word.n : NULL;
}

static const char *check_scalar(const char *p, const char *end)
{
	switch (*p) {
	case '"':
		return check_string(p, end);
	case 't':
		return check_word(p, end, DS_STR("true"));
	case 'f':
		return check_word(p, end, DS_STR("false"));
	case 'n':
		return check_word(p, end, DS_STR("null"));
	default:
		return check_number(p, end);
	}
}

/* A key and its colon. */
static const char *check_key(const char *p, const char *end)
{
	p = check_string(skip_blanks(p, end), end);
	if (!p)
		return NULL;
	p = skip_blanks(p, end);
	return p < end && *p == ':' ? p + 1 : NULL;
}

struct levels {
	unsigned char is_object[DEPTH_MAX / 8];
	size_t depth;
};

static void push(struct levels *l, bool object)
{
	unsigned char bit = (unsigned char)(1u << (l->depth % 8));

	if (object)
		l->is_object[l->depth / 8] |= bit;
	else
		l->is_object[l->depth / 8] &= (unsigned char)~bit;
	l->depth++;
}

static bool in_object(const struct levels *l)
{
	return l->is_object[(l->depth - 1) / 8] & (1u << ((l->depth - 1) % 8));
}

/* After a value: closes what ends here. Returns where the next value starts, NULL for broken text,
 * or @end with depth 0 when the document is complete. */
static const char *after_value(struct levels *l, const char *p, const char *end)
{
	for (;;) {
		bool object;

		p = skip_blanks(p, end);
		if (l->depth == 0)
			return p == end ? end : NULL;
		if (p == end)
			return NULL;
		object = in_object(l);
		if (*p == ',')
			return object ? check_key(p + 1, end) : p + 1;
		if (*p != (object ? '}' : ']'))
			return NULL;
		p++;
		l->depth--;
	}
}

bool ds_json_valid(struct ds_str text)
{
	struct levels l;
	const char *p = text.p, *end = text.p + text.n;

	l.depth = 0;
	do {
		p = skip_blanks(p, end);
		if (p == end)
			return false;
		if (*p == '{' || *p == '[') {
			bool object = *p == '{';
			const char *first = skip_blanks(p + 1, end);

			if (l.depth == DEPTH_MAX || first == end)
				return false;
			push(&l, object);
			if (*first != (object ? '}' : ']')) {
				p = object ? check_key(first, end) : first;
				continue;
			}
			p = first;
		} else {
			p = check_scalar(p, end);
			if (!p)
				return false;
		}
		p = after_value(&l, p, end);
	} while (p && l.depth > 0);
	return p != NULL;
}

struct ds_str ds_json_trim(struct ds_str text)
{
	while (text.n && blank(text.p[0])) {
		text.p++;
		text.n--;
	}
	while (text.n && blank(text.p[text.n - 1]))
		text.n--;
	return text;
}

enum ds_json_kind ds_json_kind(struct ds_str value)
{
	value = ds_json_trim(value);
	switch (value.n ? value.p[0] : 'n') {
	case '{':
		return DS_JSON_OBJECT;
	case '[':
		return DS_JSON_ARRAY;
	case '"':
		return DS_JSON_STRING;
	case 't':
		return DS_JSON_TRUE;
	case 'f':
		return DS_JSON_FALSE;
	case 'n':
		return DS_JSON_NULL;
	default:
		return DS_JSON_NUMBER;
	}
}

static const char *skip_string(const char *p)
{
	for (p++; *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p + 1;
}

/* The end of the value at @p; the text is known to be good. */
static const char *skip_value(const char *p, const char *end)
{
	size_t depth = 0;

	do {
		if (*p == '"') {
			p = skip_string(p);
			continue;
		}
		if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
			depth--;
		else if (depth == 0) {
			while (p < end && !blank(*p) && !strchr(",]}", *p))
				p++;
			return p;
		}
		p++;
	} while (depth > 0);
	return p;
}

struct ds_json_iter ds_json_iter(struct ds_str value)
{
	value = ds_json_trim(value);
	if (value.n == 0 || (value.p[0] != '{' && value.p[0] != '['))
		return (struct ds_json_iter){ value.p, value.p };
	return (struct ds_json_iter){ value.p + 1, value.p + value.n };
}

bool ds_json_item(struct ds_json_iter *it, struct ds_str *ret_value)
{
	const char *p = it->p;

	while (p < it->end && (blank(*p) || *p == ',' || *p == ':'))
		p++;
	if (p == it->end || *p == ']' || *p == '}')
		return false;
	it->p = skip_value(p, it->end);
	*ret_value = (struct ds_str){ p, (size_t)(it->p - p) };
	return true;
}

bool ds_json_member(struct ds_json_iter *it, struct ds_str *ret_key, struct ds_str *ret_value)
{
	return ds_json_item(it, ret_key) && ds_json_item(it, ret_value);
}

bool ds_json_key_is(struct ds_str raw, const char *text)
{
	struct ds_buf plain = { 0 };
	bool same;

	if (!memchr(raw.p, '\\', raw.n))
		return raw.n == strlen(text) + 2 && memcmp(raw.p + 1, text, raw.n - 2) == 0;
	ds_json_text(raw, &plain);
	same = ds_str_eq(ds_buf_view(&plain), ds_str(text));
	ds_buf_done(&plain);
	return same;
}

bool ds_json_get(struct ds_str object, const char *key, struct ds_str *ret_value)
{
	struct ds_json_iter it = ds_json_iter(object);
	struct ds_str name, value;
	bool found = false;

	if (ds_json_kind(object) != DS_JSON_OBJECT)
		return false;
	while (ds_json_member(&it, &name, &value))
		if (ds_json_key_is(name, key)) {
			*ret_value = value;
			found = true;
		}
	return found;
}

static void add_utf8(struct ds_buf *b, long v)
{
	if (v < 0x80) {
		ds_buf_byte(b, (unsigned char)v);
	} else if (v < 0x800) {
		ds_buf_byte(b, (unsigned char)(0xc0 | v >> 6));
		ds_buf_byte(b, (unsigned char)(0x80 | (v & 0x3f)));
	} else if (v < 0x10000) {
		ds_buf_byte(b, (unsigned char)(0xe0 | v >> 12));
		ds_buf_byte(b, (unsigned char)(0x80 | ((v >> 6) & 0x3f)));
		ds_buf_byte(b, (unsigned char)(0x80 | (v & 0x3f)));
	} else {
		ds_buf_byte(b, (unsigned char)(0xf0 | v >> 18));
		ds_buf_byte(b, (unsigned char)(0x80 | ((v >> 12) & 0x3f)));
		ds_buf_byte(b, (unsigned char)(0x80 | ((v >> 6) & 0x3f)));
		ds_buf_byte(b, (unsigned char)(0x80 | (v & 0x3f)));
	}
}

/* The escape at @p, after its backslash. */
static const char *add_escape(struct ds_buf *b, const char *p, const char *end)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *hit;
	long v;

	if (*p != 'u') {
		hit = strchr(from, *p);
		ds_buf_byte(b, (unsigned char)(hit ? to[hit - from] : *p));
		return p + 1;
	}
	v = hex4(p + 1, end);
	p += 5;
	if (v >= 0xd800 && v <= 0xdbff) {
		v = 0x10000 + ((v - 0xd800) << 10) + (hex4(p + 2, end) - 0xdc00);
		p += 6;
	}
	add_utf8(b, v);
	return p;
}

void ds_json_text(struct ds_str raw, struct ds_buf *b)
{
	const char *p = raw.p + 1, *end = raw.p + raw.n - 1;

	while (p < end) {
		const char *slash = memchr(p, '\\', (size_t)(end - p));

		ds_buf_add(b, p, (size_t)((slash ? slash : end) - p));
		if (!slash)
			return;
		p = add_escape(b, slash + 1, end);
	}
}
