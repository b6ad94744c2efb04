/* SPDX-License-Identifier: MIT */
/*
 * Just enough MessagePack to walk the daemon's status, and the columns of a row. The library has
 * checked the bytes; sizes are checked here all the same.
 */
#include <string.h>

#include "cli.h"

struct head {
	size_t size;     /* of the header */
	uint64_t body;   /* bytes behind it */
	uint64_t values; /* values behind it */
	bool is_map, is_array, is_str, is_bin;
};

static uint64_t be(const unsigned char *p, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* Headers 0xc0 to 0xdf: bytes of the length, then fixed bytes of the body. */
static const unsigned char wide[32][2] = {
	{ 0, 0 },  { 0, 0 }, { 0, 0 }, { 0, 0 }, { 1, 0 }, { 2, 0 }, { 4, 0 }, { 1, 1 },
	{ 2, 1 },  { 4, 1 }, { 0, 4 }, { 0, 8 }, { 0, 1 }, { 0, 2 }, { 0, 4 }, { 0, 8 },
	{ 0, 1 },  { 0, 2 }, { 0, 4 }, { 0, 8 }, { 0, 2 }, { 0, 3 }, { 0, 5 }, { 0, 9 },
	{ 0, 17 }, { 1, 0 }, { 2, 0 }, { 4, 0 }, { 2, 0 }, { 4, 0 }, { 2, 0 }, { 4, 0 },
};

static bool read_head(struct mp v, struct head *h)
{
	unsigned char c;
	uint64_t n;

	memset(h, 0, sizeof(*h));
	if (!v.p || v.size == 0)
		return false;
	c = *v.p;
	h->size = 1;
	if (c < 0x80 || c >= 0xe0)
		return true;
	h->is_map = c < 0x90 || c == 0xde || c == 0xdf;
	h->is_array = (c >= 0x90 && c < 0xa0) || c == 0xdc || c == 0xdd;
	h->is_str = (c >= 0xa0 && c < 0xc0) || (c >= 0xd9 && c <= 0xdb);
	h->is_bin = c >= 0xc4 && c <= 0xc6;
	if (c < 0xc0) {
		n = h->is_str ? c & 0x1f : c & 0x0f;
	} else {
		h->size += wide[c - 0xc0][0];
		if (h->size > v.size)
			return false;
		n = be(v.p + 1, wide[c - 0xc0][0]) + wide[c - 0xc0][1];
	}
	if (h->is_map || h->is_array)
		h->values = h->is_map ? 2 * n : n;
	else
		h->body = n;
	return h->body <= v.size - h->size;
}

/* Bytes of the value at v.p, 0 when it is not whole. */
static size_t value_size(struct mp v)
{
	uint64_t left = 1;
	struct head h;
	size_t at = 0;

	while (left--) {
		if (!read_head((struct mp){ v.p + at, v.size - at }, &h))
			return 0;
		at += h.size + (size_t)h.body;
		left += h.values;
	}
	return at;
}

struct mp mp_first(struct mp container)
{
	struct mp none = { NULL, 0 };
	struct head h;

	if (!read_head(container, &h) || !(h.is_array || h.is_map) || h.values == 0)
		return none;
	container.size = value_size(container);
	if (!container.size)
		return none;
	return (struct mp){ container.p + h.size, container.size - h.size };
}

struct mp mp_alone(struct mp element)
{
	size_t n = value_size(element);

	return (struct mp){ n ? element.p : NULL, n };
}

struct mp mp_next(struct mp element)
{
	size_t n = value_size(element);

	if (n == 0 || n >= element.size)
		return (struct mp){ NULL, 0 };
	return (struct mp){ element.p + n, element.size - n };
}

size_t mp_count(struct mp array)
{
	struct head h;

	return read_head(array, &h) && h.is_array ? (size_t)h.values : 0;
}

struct mp mp_find(struct mp map, const char *key)
{
	struct mp none = { NULL, 0 }, k, v;
	struct head h, hk;
	uint64_t pairs;
	size_t n;

	if (!read_head(map, &h) || !h.is_map)
		return none;
	k = (struct mp){ map.p + h.size, map.size - h.size };
	for (pairs = h.values / 2; pairs > 0; pairs--) {
		n = value_size(k);
		if (n == 0)
			break;
		v = (struct mp){ k.p + n, k.size - n };
		if (read_head(k, &hk) && hk.is_str && hk.body == strlen(key) &&
		    memcmp(k.p + hk.size, key, strlen(key)) == 0) {
			v.size = value_size(v);
			return v.size ? v : none;
		}
		n = value_size(v);
		if (n == 0)
			break;
		k = (struct mp){ v.p + n, v.size - n };
	}
	return none;
}

bool mp_is_map(struct mp v)
{
	struct head h;

	return read_head(v, &h) && h.is_map;
}

bool mp_is_bin(struct mp v, const void **ret, size_t *ret_size)
{
	struct head h;

	if (!read_head(v, &h) || !h.is_bin)
		return false;
	*ret = v.p + h.size;
	*ret_size = (size_t)h.body;
	return true;
}

int64_t mp_int(struct mp v, int64_t otherwise)
{
	struct head h;
	uint64_t u;

	if (!read_head(v, &h))
		return otherwise;
	if (*v.p < 0x80 || *v.p >= 0xe0)
		return (signed char)*v.p;
	if (*v.p < 0xcc || *v.p > 0xd3)
		return otherwise;
	u = be(v.p + 1, (unsigned)h.body);
	switch (*v.p) {
	case 0xd0:
		return (int8_t)u;
	case 0xd1:
		return (int16_t)u;
	case 0xd2:
		return (int32_t)u;
	case 0xd3:
		return (int64_t)u;
	default:
		return u > INT64_MAX ? INT64_MAX : (int64_t)u;
	}
}

bool mp_bool(struct mp v)
{
	return v.p && v.size && *v.p == 0xc3;
}

const char *mp_text(struct mp v, char *buf, size_t size)
{
	bool is_cut = false;
	struct head h;
	size_t n = 0;

	if (read_head(v, &h) && h.is_str) {
		n = (size_t)h.body;
		is_cut = h.body >= size;
		if (is_cut)
			n = size - sizeof(CLI_CUT);
		/* The first byte that is left out begins a character. */
		while (is_cut && n > 0 && (v.p[h.size + n] & 0xc0) == 0x80)
			n--;
		memcpy(buf, v.p + h.size, n);
	}
	snprintf(buf + n, size - n, "%s", is_cut ? CLI_CUT : "");
	return buf;
}
