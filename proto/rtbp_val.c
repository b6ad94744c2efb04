/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_val.h"

#include <string.h>

/* What one header says: its own length, the length of the bytes behind it, and how many values
 * follow. */
struct head {
	uint8_t size;
	uint8_t kind;
	uint64_t body;     /* str, bin, ext (with its type byte), scalar bytes */
	uint64_t children; /* array elements, or twice the map pairs */
};

static uint64_t be(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* Headers 0xc0 .. 0xdf: kind, bytes of the length field, and for scalars the bytes of the value. */
static const struct {
	int8_t kind;
	uint8_t len_bytes;
	uint8_t body;
} wide[32] = {
	{ RTBP_NIL, 0, 0 },   { -1, 0, 0 },         { RTBP_BOOL, 0, 0 },  { RTBP_BOOL, 0, 0 },
	{ RTBP_BIN, 1, 0 },   { RTBP_BIN, 2, 0 },   { RTBP_BIN, 4, 0 },   { RTBP_EXT, 1, 1 },
	{ RTBP_EXT, 2, 1 },   { RTBP_EXT, 4, 1 },   { RTBP_FLOAT, 0, 4 }, { RTBP_FLOAT, 0, 8 },
	{ RTBP_INT, 0, 1 },   { RTBP_INT, 0, 2 },   { RTBP_INT, 0, 4 },   { RTBP_INT, 0, 8 },
	{ RTBP_INT, 0, 1 },   { RTBP_INT, 0, 2 },   { RTBP_INT, 0, 4 },   { RTBP_INT, 0, 8 },
	{ RTBP_EXT, 0, 2 },   { RTBP_EXT, 0, 3 },   { RTBP_EXT, 0, 5 },   { RTBP_EXT, 0, 9 },
	{ RTBP_EXT, 0, 17 },  { RTBP_STR, 1, 0 },   { RTBP_STR, 2, 0 },   { RTBP_STR, 4, 0 },
	{ RTBP_ARRAY, 2, 0 }, { RTBP_ARRAY, 4, 0 }, { RTBP_MAP, 2, 0 },   { RTBP_MAP, 4, 0 },
};

/* Return: 0, RTBP_VAL_E_TRUNCATED or RTBP_VAL_E_BYTE. Only the header is read. */
static int read_head(const uint8_t *p, size_t size, struct head *h)
{
	uint8_t c;
	uint64_t n;

	if (size == 0)
		return RTBP_VAL_E_TRUNCATED;
	c = *p;
	*h = (struct head){ .size = 1 };
	if (c < 0x80 || c >= 0xe0) {
		h->kind = RTBP_INT;
	} else if (c < 0x90) {
		h->kind = RTBP_MAP;
		h->children = 2 * (uint64_t)(c & 0x0f);
	} else if (c < 0xa0) {
		h->kind = RTBP_ARRAY;
		h->children = c & 0x0f;
	} else if (c < 0xc0) {
		h->kind = RTBP_STR;
		h->body = c & 0x1f;
	} else {
		if (wide[c - 0xc0].kind < 0)
			return RTBP_VAL_E_BYTE;
		h->kind = (uint8_t)wide[c - 0xc0].kind;
		h->size = (uint8_t)(1 + wide[c - 0xc0].len_bytes);
		if (size < h->size)
			return RTBP_VAL_E_TRUNCATED;
		n = be(p + 1, wide[c - 0xc0].len_bytes);
		if (h->kind == RTBP_ARRAY)
			h->children = n;
		else if (h->kind == RTBP_MAP)
			h->children = 2 * n;
		else
			h->body = n + wide[c - 0xc0].body;
	}
	return 0;
}

/*
 * Walks one value. Instead of a stack of counts it keeps, per open container, how many values are
 * left; depth is bounded, so the stack is a small array.
 */
static int walk(const uint8_t *data, size_t size, unsigned max_depth, size_t *ret_end)
{
	uint64_t left[RTBP_DEPTH_MAX + 1];
	unsigned depth = 0;
	size_t at = 0;
	struct head h;
	int r;

	if (max_depth > RTBP_DEPTH_MAX)
		max_depth = RTBP_DEPTH_MAX;
	for (;;) {
		*ret_end = at;
		r = read_head(data + at, size - at, &h);
		if (r)
			return r;
		if (h.body > size - at - h.size || h.children > size - at - h.size)
			return RTBP_VAL_E_TRUNCATED;
		at += h.size + (size_t)h.body;
		if (h.kind == RTBP_ARRAY || h.kind == RTBP_MAP) {
			if (depth >= max_depth)
				return RTBP_VAL_E_DEPTH;
			left[depth++] = h.children;
		}
		while (depth > 0 && left[depth - 1] == 0)
			depth--;
		if (depth == 0)
			break;
		left[depth - 1]--;
	}
	*ret_end = at;
	return 0;
}

int rtbp_check(const void *data, size_t size, unsigned max_depth, size_t *ret_offset)
{
	int r = walk(data, size, max_depth, ret_offset);

	if (r == 0 && *ret_offset != size)
		r = RTBP_VAL_E_TRAILING;
	return r;
}

const char *rtbp_val_text(int condition)
{
	switch (condition) {
	case RTBP_VAL_E_TRUNCATED:
		return "the bytes end inside a MessagePack value";
	case RTBP_VAL_E_BYTE:
		return "0xc1 is no MessagePack";
	case RTBP_VAL_E_DEPTH:
		return "nested too deeply";
	case RTBP_VAL_E_TRAILING:
		return "bytes behind the MessagePack value";
	default:
		return "";
	}
}

size_t rtbp_val_size(const uint8_t *p, size_t size, unsigned max_depth)
{
	size_t end;

	return walk(p, size, max_depth, &end) == 0 ? end : 0;
}

enum rtbp_kind rtbp_kind_of(struct rtbp_val v)
{
	struct head h = { 0 };

	(void)read_head(v.p, v.size, &h);
	return (enum rtbp_kind)h.kind;
}

bool rtbp_get_bool(struct rtbp_val v, bool *ret)
{
	if (!v.p || (*v.p & 0xfe) != 0xc2)
		return false;
	*ret = *v.p & 1;
	return true;
}

bool rtbp_get_uint(struct rtbp_val v, uint64_t *ret)
{
	int64_t i;

	if (v.p && *v.p >= 0xcc && *v.p <= 0xcf) {
		*ret = be(v.p + 1, 1u << (*v.p - 0xcc));
		return true;
	}
	if (!rtbp_get_int(v, &i) || i < 0)
		return false;
	*ret = (uint64_t)i;
	return true;
}

bool rtbp_get_int(struct rtbp_val v, int64_t *ret)
{
	uint64_t u;

	if (!v.p)
		return false;
	switch (*v.p) {
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		u = be(v.p + 1, 1u << (*v.p - 0xcc));
		if (u > INT64_MAX)
			return false;
		*ret = (int64_t)u;
		return true;
	case 0xd0:
		*ret = (int8_t)v.p[1];
		return true;
	case 0xd1:
		*ret = (int16_t)be(v.p + 1, 2);
		return true;
	case 0xd2:
		*ret = (int32_t)be(v.p + 1, 4);
		return true;
	case 0xd3:
		*ret = (int64_t)be(v.p + 1, 8);
		return true;
	default:
		if (*v.p >= 0x80 && *v.p < 0xe0)
			return false;
		*ret = (int8_t)*v.p;
		return true;
	}
}

bool rtbp_get_float(struct rtbp_val v, double *ret)
{
	uint64_t bits;
	uint32_t bits32;
	float f;

	if (!v.p)
		return false;
	if (*v.p == 0xca) {
		bits32 = (uint32_t)be(v.p + 1, 4);
		memcpy(&f, &bits32, sizeof(f));
		*ret = (double)f;
		return true;
	}
	if (*v.p != 0xcb)
		return false;
	bits = be(v.p + 1, 8);
	memcpy(ret, &bits, sizeof(*ret));
	return true;
}

static bool get_bytes(struct rtbp_val v, enum rtbp_kind kind, struct rtbp_str *ret)
{
	struct head h;

	if (!v.p || read_head(v.p, v.size, &h) || h.kind != kind)
		return false;
	ret->p = (const char *)v.p + h.size;
	ret->size = (size_t)h.body;
	return true;
}

bool rtbp_get_str(struct rtbp_val v, struct rtbp_str *ret)
{
	return get_bytes(v, RTBP_STR, ret);
}

bool rtbp_get_bin(struct rtbp_val v, struct rtbp_str *ret)
{
	return get_bytes(v, RTBP_BIN, ret);
}

bool rtbp_get_ext(struct rtbp_val v, int8_t *ret_type, struct rtbp_str *ret)
{
	struct rtbp_str s;

	if (!get_bytes(v, RTBP_EXT, &s))
		return false;
	*ret_type = (int8_t)s.p[0];
	ret->p = s.p + 1;
	ret->size = s.size - 1;
	return true;
}

static bool iter_init(struct rtbp_val v, enum rtbp_kind kind, struct rtbp_iter *ret)
{
	struct head h;

	if (!v.p || read_head(v.p, v.size, &h) || h.kind != kind)
		return false;
	ret->p = v.p + h.size;
	ret->end = v.p + v.size;
	ret->left = (uint32_t)h.children;
	return true;
}

bool rtbp_iter_array(struct rtbp_val v, struct rtbp_iter *ret)
{
	return iter_init(v, RTBP_ARRAY, ret);
}

bool rtbp_iter_map(struct rtbp_val v, struct rtbp_iter *ret)
{
	return iter_init(v, RTBP_MAP, ret);
}

bool rtbp_iter_next(struct rtbp_iter *it, struct rtbp_val *ret)
{
	size_t n;

	if (it->left == 0)
		return false;
	n = rtbp_val_size(it->p, (size_t)(it->end - it->p), RTBP_DEPTH_MAX);
	if (n == 0)
		return false;
	*ret = (struct rtbp_val){ it->p, n };
	it->p += n;
	it->left--;
	return true;
}

/* memcmp() wants pointers even for no bytes; empty text may have none. */
static bool same_text(struct rtbp_str s, const char *text, size_t size)
{
	return s.size == size && (size == 0 || memcmp(s.p, text, size) == 0);
}

struct rtbp_val rtbp_find(struct rtbp_val map, const char *key, size_t key_size)
{
	struct rtbp_val k, v, found = { NULL, 0 };
	struct rtbp_iter it;
	struct rtbp_str s;

	if (!rtbp_iter_map(map, &it))
		return found;
	while (rtbp_iter_next(&it, &k) && rtbp_iter_next(&it, &v)) {
		if (rtbp_get_str(k, &s) && same_text(s, key, key_size))
			found = v;
	}
	return found;
}

struct rtbp_val rtbp_field(struct rtbp_val map, enum rtbp_field field)
{
	const char *name = rtbp_field_name(field);

	return rtbp_find(map, name, strlen(name));
}

struct rtbp_val rtbp_at(struct rtbp_val array, uint32_t index)
{
	struct rtbp_val v = { NULL, 0 };
	struct rtbp_iter it;

	if (!rtbp_iter_array(array, &it) || index >= it.left)
		return v;
	do {
		if (!rtbp_iter_next(&it, &v))
			return (struct rtbp_val){ NULL, 0 };
	} while (index-- > 0);
	return v;
}

bool rtbp_str_is(struct rtbp_str s, const char *text)
{
	return same_text(s, text, strlen(text));
}

bool rtbp_utf8_valid(const char *text, size_t size)
{
	static const uint32_t least[4] = { 0, 0x80, 0x800, 0x10000 };
	const uint8_t *p = (const uint8_t *)text, *end = p + size;
	unsigned n, i;
	uint32_t c;

	while (p < end) {
		if (*p < 0x80) {
			p++;
			continue;
		}
		n = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
		if (*p < 0xc2 || *p > 0xf4 || (size_t)(end - p) <= n)
			return false;
		c = *p & (0x3fu >> n);
		for (i = 1; i <= n; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (p[i] & 0x3f);
		}
		if (c < least[n] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
			return false;
		p += n + 1;
	}
	return true;
}
