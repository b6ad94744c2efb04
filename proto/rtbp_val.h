/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Reading MessagePack in place: a bounded check that allocates nothing, then views into the checked
 * bytes.
 *
 * rtbp_check() runs once over whatever comes from outside, before anything else touches it.
 * Everything else here takes values that it accepted: views borrow the bytes and live as long as
 * those.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/rtbp_table.h"

enum rtbp_kind {
	RTBP_NIL,
	RTBP_BOOL,
	RTBP_INT, /* signed or unsigned */
	RTBP_FLOAT,
	RTBP_STR,
	RTBP_BIN,
	RTBP_ARRAY,
	RTBP_MAP,
	RTBP_EXT,
};

/* One whole MessagePack value, borrowed. `p` NULL: absent (what a failed look-up returns). */
struct rtbp_val {
	const uint8_t *p;
	size_t size;
};

/* Borrowed text, not NUL-terminated. */
struct rtbp_str {
	const char *p;
	size_t size;
};

enum {
	RTBP_VAL_E_TRUNCATED = 1, /* the bytes end inside a value */
	RTBP_VAL_E_BYTE,          /* 0xc1, which MessagePack never uses */
	RTBP_VAL_E_DEPTH,         /* nested deeper than max_depth */
	RTBP_VAL_E_TRAILING,      /* bytes behind the value */
};

/**
 * rtbp_check() - is this exactly one MessagePack value, nested at most max_depth deep?
 *
 * Reads each header once, allocates nothing, never reads past @size; a declared count larger than
 * the bytes that are left fails at once. Time is linear in @size.
 *
 * Return: 0; RTBP_VAL_E_*, with @ret_offset at the value that is wrong.
 */
int rtbp_check(const void *data, size_t size, unsigned max_depth, size_t *ret_offset);

/* The sentence that goes with a RTBP_VAL_E_* condition. */
const char *rtbp_val_text(int condition);

/* Size of the value that starts at `p`, within `size` bytes; 0 when it is no whole value. */
size_t rtbp_val_size(const uint8_t *p, size_t size, unsigned max_depth);

enum rtbp_kind rtbp_kind_of(struct rtbp_val v);

static inline bool rtbp_is(struct rtbp_val v, enum rtbp_kind kind)
{
	return v.p && rtbp_kind_of(v) == kind;
}

/* Each fills *ret and returns true when the value is of that kind (and fits), else leaves *ret
 * alone. */
bool rtbp_get_bool(struct rtbp_val v, bool *ret);
bool rtbp_get_uint(struct rtbp_val v, uint64_t *ret);
bool rtbp_get_int(struct rtbp_val v, int64_t *ret);
bool rtbp_get_float(struct rtbp_val v, double *ret);
bool rtbp_get_str(struct rtbp_val v, struct rtbp_str *ret);
bool rtbp_get_bin(struct rtbp_val v, struct rtbp_str *ret);
bool rtbp_get_ext(struct rtbp_val v, int8_t *ret_type, struct rtbp_str *ret);

/* Walks an array's elements, or a map's keys and values in turn. */
struct rtbp_iter {
	const uint8_t *p, *end;
	uint32_t left; /* values still to come: elements, or twice the pairs */
};
bool rtbp_iter_array(struct rtbp_val v, struct rtbp_iter *ret);
bool rtbp_iter_map(struct rtbp_val v, struct rtbp_iter *ret);
bool rtbp_iter_next(struct rtbp_iter *it, struct rtbp_val *ret);

/* The value of a key in a map, absent when there is none (or `map` is no map). The last of equal
 * keys wins. */
struct rtbp_val rtbp_find(struct rtbp_val map, const char *key, size_t key_size);
struct rtbp_val rtbp_field(struct rtbp_val map, enum rtbp_field field);
struct rtbp_val rtbp_at(struct rtbp_val array, uint32_t index);

bool rtbp_str_is(struct rtbp_str s, const char *text);
bool rtbp_utf8_valid(const char *p, size_t size);
