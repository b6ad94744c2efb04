/* SPDX-License-Identifier: MIT */
/*
 * MessagePack to JSON text.
 *
 * One pass over bytes that nobody has checked before: counts and lengths are believed only as far
 * as there are bytes, and nothing is allocated by them.
 */
#include "proto/rtbp_json_impl.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* An open container. */
struct frame {
	uint32_t count, index; /* children declared; children begun */
	size_t first_key;      /* map: its first place in the stack of keys */
	bool is_map, has_key;  /* has_key: its last key in the stack is the current child's */
};

struct out {
	const uint8_t *start, *p, *end;
	struct rtbp_buf *out;
	struct rtbp_json_fault *fault;
	struct rtbp_keys keys;
	unsigned depth;
	struct frame stack[RTBP_JSON_DEPTH];
};

int rtbp_json_fail(struct rtbp_json_fault *fault, int condition, size_t offset, const char *text)
{
	size_t n = strnlen(text, sizeof(fault->text) - 1);

	if (fault) {
		fault->offset = offset;
		fault->path[0] = 0;
		memcpy(fault->text, text, n);
		fault->text[n] = 0;
	}
	return condition;
}

static bool is_word(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!((p[i] | 0x20) >= 'a' && (p[i] | 0x20) <= 'z') && p[i] != '_' &&
		    !(i && p[i] >= '0' && p[i] <= '9'))
			return false;
	return n > 0;
}

/* Appends one step of a path: [3], .name or ."any name". */
static void put_step(struct rtbp_buf *path, const struct out *o, const struct frame *f,
		     const struct rtbp_key *key)
{
	enum { ENOUGH = sizeof(o->fault->path) }; /* the rest of a longer key would be cut anyway */
	char digits[RTBP_NUM_TEXT_MAX];
	const uint8_t *name;
	size_t n;

	if (!f->is_map) {
		rtbp_json_byte(path, '[');
		rtbp_buf_put(path, digits, rtbp_num_print_uint(f->index - 1, digits));
		rtbp_json_byte(path, ']');
		return;
	}
	name = o->start + key->at;
	n = key->len < ENOUGH ? key->len : ENOUGH;
	rtbp_json_byte(path, '.');
	if (is_word(name, n))
		rtbp_buf_put(path, name, n);
	else
		rtbp_json_quote(path, (const char *)name, n);
}

static void copy_path(struct rtbp_json_fault *fault, const struct rtbp_buf *path)
{
	static const char cut[] = "...";
	size_t n = path->size;

	if (n < sizeof(fault->path)) {
		memcpy(fault->path, path->data, n);
		fault->path[n] = 0;
		return;
	}
	n = sizeof(fault->path) - sizeof(cut);
	while (n && (path->data[n] & 0xc0) == 0x80)
		n--; /* not amid a character */
	memcpy(fault->path, path->data, n);
	memcpy(fault->path + n, cut, sizeof(cut));
}

/* The path of the value being read, or of the container's key while that is still being read. */
static void write_path(const struct out *o)
{
	struct rtbp_buf path = RTBP_BUF_INIT;
	const struct frame *f = o->stack;
	size_t last;

	rtbp_json_byte(&path, '$');
	for (unsigned i = 0; i < o->depth && path.size < sizeof(o->fault->path); i++, f++) {
		if (f->is_map ? !f->has_key : !f->index)
			break;
		/* A map's last key is the one before the first of the map inside it. */
		last = i + 1 < o->depth ? f[1].first_key : o->keys.n;
		put_step(&path, o, f, f->is_map ? &o->keys.v[last - 1] : NULL);
	}
	if (rtbp_buf_ok(&path))
		copy_path(o->fault, &path);
	rtbp_buf_done(&path);
}

static int fail_at(struct out *o, const uint8_t *where, int condition, const char *text)
{
	rtbp_json_fail(o->fault, condition, (size_t)(where - o->start), text);
	if (o->fault)
		write_path(o);
	return condition;
}

static int fail_cut(struct out *o)
{
	return fail_at(o, o->end, RTBP_JSON_E_SYNTAX, "the bytes end too early");
}

static uint64_t get_be(const uint8_t *p, unsigned size)
{
	uint64_t n = 0;

	while (size--)
		n = n << 8 | *p++;
	return n;
}

/* Reads the `size` bytes behind the code; o->p goes behind them. */
static int argument(struct out *o, unsigned size, uint64_t *ret)
{
	if ((size_t)(o->end - o->p) < 1 + (size_t)size)
		return fail_cut(o);
	*ret = get_be(o->p + 1, size);
	o->p += 1 + size;
	return 0;
}

static void put_escaped(struct rtbp_buf *out, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	char text[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
	const char *found = c ? strchr(from, c) : NULL;

	if (found)
		text[1] = to[found - from];
	rtbp_buf_put(out, text, found ? 2 : sizeof(text));
}

/*
 * Appends `p` .. `end` as a JSON string. Bytes that are not UTF-8 become U+FFFD, or, with
 * `ret_bad`, end the work: then *ret_bad is the first of them, else NULL.
 */
static void put_string(struct rtbp_buf *out, const uint8_t *p, const uint8_t *end,
		       const uint8_t **ret_bad)
{
	const uint8_t *run = p;
	unsigned n;

	rtbp_json_byte(out, '"');
	while ((p = rtbp_skip_plain(p, end)) < end) {
		if (*p >= 0x80 && (n = rtbp_utf8_len(p, end))) {
			p += n;
			continue;
		}
		if (*p >= 0x80 && ret_bad) {
			*ret_bad = p;
			return;
		}
		rtbp_buf_put(out, run, (size_t)(p - run));
		if (*p >= 0x80)
			rtbp_buf_text(out, "\xef\xbf\xbd");
		else
			put_escaped(out, *p);
		run = ++p;
	}
	rtbp_buf_put(out, run, (size_t)(p - run));
	rtbp_json_byte(out, '"');
	if (ret_bad)
		*ret_bad = NULL;
}

void rtbp_json_quote(struct rtbp_buf *out, const char *text, size_t size)
{
	const uint8_t *p = (const uint8_t *)(size ? text : "");

	put_string(out, p, p + size, NULL);
}

static bool is_string(uint8_t code)
{
	return (code & 0xe0) == 0xa0 || (code >= 0xd9 && code <= 0xdb);
}

/* o->p at the code of a string; `ret` (may be NULL) is where its bytes are. */
static int string(struct out *o, const uint8_t **ret, uint32_t *ret_len)
{
	const uint8_t *text, *bad;
	uint64_t n = *o->p & 0x1f;
	int r;

	if (*o->p >= 0xd9) {
		r = argument(o, 1U << (*o->p - 0xd9), &n);
		if (r)
			return r;
	} else {
		o->p++;
	}
	if (n > (size_t)(o->end - o->p))
		return fail_cut(o);
	text = o->p;
	put_string(o->out, text, text + n, &bad);
	if (bad)
		return fail_at(o, bad, RTBP_JSON_E_UTF8, "a string is not UTF-8");
	o->p += n;
	if (ret) {
		*ret = text;
		*ret_len = (uint32_t)n;
	}
	return 0;
}

static int key(struct out *o, struct frame *f)
{
	const uint8_t *text = NULL;
	uint32_t n = 0;
	int r;

	f->has_key = false;
	if (o->p == o->end)
		return fail_cut(o);
	if (!is_string(*o->p))
		return fail_at(o, o->p, RTBP_JSON_E_KEY, "a key is not a string");
	r = string(o, &text, &n);
	if (!r)
		r = rtbp_keys_push(&o->keys, o->start, (size_t)(text - o->start), n);
	if (r)
		return r;
	f->has_key = true;
	rtbp_json_byte(o->out, ':');
	return 0;
}

static int open_container(struct out *o, uint64_t count, bool is_map, const uint8_t *head)
{
	struct frame *f;

	if (o->depth == RTBP_JSON_DEPTH)
		return fail_at(o, head, RTBP_JSON_E_DEPTH, "nested too deep");
	/* Each child takes a byte at least. */
	if (count * (is_map ? 2 : 1) > (size_t)(o->end - o->p))
		return fail_cut(o);
	f = &o->stack[o->depth++];
	f->count = (uint32_t)count;
	f->index = 0;
	f->first_key = o->keys.n;
	f->is_map = is_map;
	f->has_key = false;
	rtbp_json_byte(o->out, is_map ? '{' : '[');
	return 0;
}

/* Refuses the map just read if two of its keys are equal; the path leads to that key. */
static int check_repeated(struct out *o, struct frame *f)
{
	struct rtbp_key *v = o->keys.v + f->first_key, again;
	size_t n = o->keys.n - f->first_key, i = 0, j;

	if (!rtbp_keys_find_repeated(v, n, o->start)) {
		o->keys.n = f->first_key;
		return 0;
	}
	while (!v[i].is_repeated)
		i++;
	for (j = i + 1; !rtbp_key_equal(&v[i], &v[j], o->start);)
		j++;
	again = v[j];
	o->keys.n = f->first_key + 1;
	v[0] = again;
	return fail_at(o, o->start + again.at, RTBP_JSON_E_KEY, "a key stands twice in a map");
}

static int close_container(struct out *o, struct frame *f)
{
	int r = f->is_map ? check_repeated(o, f) : 0;

	if (r)
		return r;
	rtbp_json_byte(o->out, f->is_map ? '}' : ']');
	o->depth--;
	return 0;
}

static int put_double(struct out *o, double d, const uint8_t *where)
{
	char text[RTBP_NUM_TEXT_MAX];

	if (!isfinite(d))
		return fail_at(o, where, RTBP_JSON_E_VALUE, "JSON knows neither NaN nor infinity");
	rtbp_buf_put(o->out, text, rtbp_num_print(d, text));
	return 0;
}

static int floating(struct out *o)
{
	const uint8_t *where = o->p;
	bool is_double = *where == 0xcb;
	uint64_t bits;
	uint32_t bits32;
	double d;
	float f;
	int r = argument(o, is_double ? 8 : 4, &bits);

	if (r)
		return r;
	if (is_double) {
		memcpy(&d, &bits, sizeof(d));
	} else {
		bits32 = (uint32_t)bits;
		memcpy(&f, &bits32, sizeof(f));
		d = (double)f;
	}
	return put_double(o, d, where);
}

static void put_integer(struct rtbp_buf *out, uint64_t magnitude, bool is_negative)
{
	char text[RTBP_NUM_TEXT_MAX];

	if (is_negative)
		rtbp_json_byte(out, '-');
	rtbp_buf_put(out, text, rtbp_num_print_uint(is_negative ? 0 - magnitude : magnitude, text));
}

/* uint 8 to 64 (codes cc to cf) and int 8 to 64 (d0 to d3). */
static int integer(struct out *o)
{
	bool is_signed = *o->p >= 0xd0, is_negative;
	unsigned size = 1U << (*o->p & 3);
	uint64_t n;
	int r = argument(o, size, &n);

	if (r)
		return r;
	is_negative = is_signed && n >> (size * 8 - 1);
	if (is_negative && size < 8)
		n |= UINT64_MAX << (size * 8);
	put_integer(o->out, n, is_negative);
	return 0;
}

/* Any ext: o->p at its code. Only numbers as text can be said in JSON. */
static int ext(struct out *o)
{
	static const char only[] = "only ext type 1, the text of one JSON number, has a JSON form";
	const uint8_t *head = o->p, *bad;
	uint64_t n;
	int r = 0;

	if (*head >= 0xd4) {
		n = UINT64_C(1) << (*head - 0xd4);
		o->p++;
	} else {
		r = argument(o, 1U << (*head - 0xc7), &n);
	}
	if (r)
		return r;
	if (n + 1 > (size_t)(o->end - o->p))
		return fail_cut(o);
	if (!n || *o->p != RTBP_EXT_NUMBER ||
	    rtbp_num_read(o->p + 1, o->p + 1 + n, NULL, &bad) != n)
		return fail_at(o, head, RTBP_JSON_E_VALUE, only);
	rtbp_buf_put(o->out, o->p + 1, n);
	o->p += 1 + n;
	return 0;
}

static int sized_container(struct out *o)
{
	const uint8_t *head = o->p;
	bool is_map = *head >= 0xde;
	uint64_t n;
	int r = argument(o, *head & 1 ? 4 : 2, &n);

	return r ? r : open_container(o, n, is_map, head);
}

/* Codes c0 to df, but for strings. */
static int coded_value(struct out *o)
{
	static const char *const words[] = { "null", "", "false", "true" };
	uint8_t code = *o->p;

	switch (code) {
	case 0xc0:
	case 0xc2:
	case 0xc3:
		o->p++;
		rtbp_buf_text(o->out, words[code & 3]);
		return 0;
	case 0xc4 ... 0xc6:
		return fail_at(o, o->p, RTBP_JSON_E_VALUE, "JSON has no binary values");
	case 0xca:
	case 0xcb:
		return floating(o);
	case 0xcc ... 0xd3:
		return integer(o);
	case 0xc7 ... 0xc9:
	case 0xd4 ... 0xd8:
		return ext(o);
	case 0xdc ... 0xdf:
		/* odd codes have the 4-byte length */
		return sized_container(o);
	default:
		return fail_at(o, o->p, RTBP_JSON_E_SYNTAX, "a byte that MessagePack does not use");
	}
}

static int value(struct out *o)
{
	const uint8_t *head = o->p;
	uint8_t code;

	if (head == o->end)
		return fail_cut(o);
	code = *head;
	if (is_string(code))
		return string(o, NULL, NULL);
	if (code >= 0xc0 && code < 0xe0)
		return coded_value(o);
	o->p++;
	if (code < 0x80)
		put_integer(o->out, code, false);
	else if (code >= 0xe0)
		put_integer(o->out, (uint64_t)(int8_t)code, true);
	else
		return open_container(o, code & 15, code < 0x90, head);
	return 0;
}

static int convert(struct out *o)
{
	struct frame *f;
	int r = value(o);

	while (!r && o->depth && !o->out->error) {
		f = &o->stack[o->depth - 1];
		if (f->index == f->count) {
			r = close_container(o, f);
			continue;
		}
		if (f->index++)
			rtbp_json_byte(o->out, ',');
		if (f->is_map)
			r = key(o, f);
		if (!r)
			r = value(o);
	}
	if (!r && !o->depth && o->p != o->end)
		r = fail_at(o, o->p, RTBP_JSON_E_SYNTAX, "something after the end of the value");
	return r;
}

int rtbp_mp_to_json(const void *mp, size_t size, struct rtbp_buf *out,
		    struct rtbp_json_fault *fault)
{
	struct out o; /* not zeroed: the stacks are large */
	size_t before = out->size;
	int r;

	if (out->error)
		return out->error;
	o.start = o.p = size ? mp : (const void *)"";
	o.end = o.start + size;
	o.out = out;
	o.fault = fault;
	o.depth = 0;
	rtbp_keys_init(&o.keys);
	r = convert(&o);
	rtbp_keys_done(&o.keys);
	if (out->error)
		r = out->error;
	if (r)
		out->size = before;
	return r;
}
