/* SPDX-License-Identifier: MIT */
/*
 * One MessagePack value: rtbp_check() and msgpack-c's unpacker must agree on whether it is one and
 * how long it is, and the readers of rtbp_val.h must find in it what msgpack-c found. Whatever is
 * accepted, written anew by rtbp_pack.h, is the same value again.
 *
 * msgpack-c goes 32 levels deep and takes memory by what headers promise, so deeper values are not
 * compared, and a value refused for a count that its bytes cannot hold is not shown to it.
 */
#include "fuzz.h"

#include <math.h>
#include <msgpack/unpack.h>
#include <stdbool.h>
#include <string.h>

#include "proto/rtbp_msg.h"

static bool same_bytes(struct rtbp_str s, const char *p, size_t size)
{
	return s.size == size && (size == 0 || memcmp(s.p, p, size) == 0);
}

static void compare(struct rtbp_val v, const msgpack_object *o);

static void compare_array(struct rtbp_val v, const msgpack_object_array *o)
{
	struct rtbp_val element;
	struct rtbp_iter it;

	FUZZ_CHECK(rtbp_iter_array(v, &it) && it.left == o->size);
	for (uint32_t i = 0; i < o->size; i++) {
		FUZZ_CHECK(rtbp_iter_next(&it, &element));
		compare(element, &o->ptr[i]);
	}
	FUZZ_CHECK(!rtbp_iter_next(&it, &element) && it.p == v.p + v.size);
	FUZZ_CHECK(!rtbp_at(v, o->size).p);
	if (o->size > 0)
		FUZZ_CHECK(rtbp_at(v, o->size - 1).p + rtbp_at(v, o->size - 1).size ==
			   v.p + v.size);
}

/* The last pair's index with this key. */
static uint32_t last_of(const msgpack_object_map *o, const msgpack_object_str *key)
{
	uint32_t i = o->size;

	while (i-- > 0) {
		const msgpack_object *k = &o->ptr[i].key;

		if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == key->size &&
		    (key->size == 0 || memcmp(k->via.str.ptr, key->ptr, key->size) == 0))
			break;
	}
	return i;
}

/* A key is found where the last pair with it stands. */
static void look_up(struct rtbp_val v, const msgpack_object_map *o, const msgpack_object_str *key)
{
	struct rtbp_val found = rtbp_find(v, key->ptr, key->size), value;
	uint32_t last = last_of(o, key);
	struct rtbp_iter it;

	FUZZ_CHECK(rtbp_iter_map(v, &it));
	for (uint64_t i = 0; i < 2 * (uint64_t)last + 2; i++)
		FUZZ_CHECK(rtbp_iter_next(&it, &value));
	FUZZ_CHECK(found.p == value.p && found.size == value.size);
}

static void compare_map(struct rtbp_val v, const msgpack_object_map *o)
{
	struct rtbp_val key, value;
	struct rtbp_iter it;

	FUZZ_CHECK(rtbp_iter_map(v, &it) && it.left == 2 * (uint64_t)o->size);
	for (uint32_t i = 0; i < o->size; i++) {
		FUZZ_CHECK(rtbp_iter_next(&it, &key) && rtbp_iter_next(&it, &value));
		compare(key, &o->ptr[i].key);
		compare(value, &o->ptr[i].val);
		/* Look-ups are linear: a few of them say enough. */
		if (i < 4 && o->ptr[i].key.type == MSGPACK_OBJECT_STR)
			look_up(v, o, &o->ptr[i].key.via.str);
	}
	FUZZ_CHECK(!rtbp_iter_next(&it, &key) && it.p == v.p + v.size);
}

static void compare_number(struct rtbp_val v, const msgpack_object *o)
{
	bool is_float = o->type == MSGPACK_OBJECT_FLOAT32 || o->type == MSGPACK_OBJECT_FLOAT64;
	uint64_t u = 0;
	int64_t i = 0;
	double d = 0;

	FUZZ_CHECK(rtbp_get_float(v, &d) == is_float);
	FUZZ_CHECK(!is_float || d == o->via.f64 || (isnan(d) && isnan(o->via.f64)));
	FUZZ_CHECK(rtbp_get_uint(v, &u) == (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER));
	FUZZ_CHECK(u == 0 || u == o->via.u64);
	FUZZ_CHECK(rtbp_get_int(v, &i) ==
		   (!is_float &&
		    (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 <= INT64_MAX)));
	FUZZ_CHECK(i == 0 || i == o->via.i64);
}

static void compare(struct rtbp_val v, const msgpack_object *o)
{
	struct rtbp_str s;
	int8_t type;
	bool b;

	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		FUZZ_CHECK(rtbp_is(v, RTBP_NIL));
		break;
	case MSGPACK_OBJECT_BOOLEAN:
		FUZZ_CHECK(rtbp_get_bool(v, &b) && b == o->via.boolean);
		break;
	case MSGPACK_OBJECT_STR:
		FUZZ_CHECK(rtbp_get_str(v, &s) && same_bytes(s, o->via.str.ptr, o->via.str.size));
		(void)rtbp_utf8_valid(s.p, s.size);
		(void)rtbp_topic_ok(s);
		(void)rtbp_event_ok(s);
		break;
	case MSGPACK_OBJECT_BIN:
		FUZZ_CHECK(rtbp_get_bin(v, &s) && same_bytes(s, o->via.bin.ptr, o->via.bin.size));
		break;
	case MSGPACK_OBJECT_EXT:
		FUZZ_CHECK(rtbp_get_ext(v, &type, &s) && type == o->via.ext.type &&
			   same_bytes(s, o->via.ext.ptr, o->via.ext.size));
		break;
	case MSGPACK_OBJECT_ARRAY:
		compare_array(v, &o->via.array);
		break;
	case MSGPACK_OBJECT_MAP:
		compare_map(v, &o->via.map);
		break;
	default:
		compare_number(v, o);
	}
}

static void write_again(struct rtbp_buf *b, struct rtbp_val v)
{
	struct rtbp_iter it;
	struct rtbp_val child;
	struct rtbp_str s;
	uint64_t u;
	int64_t i;
	int8_t type;
	double d;
	bool flag;

	if (rtbp_iter_array(v, &it) || rtbp_iter_map(v, &it)) {
		if (rtbp_is(v, RTBP_ARRAY))
			rtbp_pack_array(b, it.left);
		else
			rtbp_pack_map(b, it.left / 2);
		while (rtbp_iter_next(&it, &child))
			write_again(b, child);
	} else if (rtbp_get_str(v, &s)) {
		rtbp_pack_str(b, s.p, s.size);
	} else if (rtbp_get_bin(v, &s)) {
		rtbp_pack_bin(b, s.p, s.size);
	} else if (rtbp_get_ext(v, &type, &s)) {
		rtbp_pack_ext(b, type, s.p, s.size);
	} else if (rtbp_get_uint(v, &u)) {
		rtbp_pack_uint(b, u);
	} else if (rtbp_get_int(v, &i)) {
		rtbp_pack_int(b, i);
	} else if (rtbp_get_float(v, &d)) {
		rtbp_pack_float(b, d);
	} else if (rtbp_get_bool(v, &flag)) {
		rtbp_pack_bool(b, flag);
	} else {
		rtbp_pack_nil(b);
	}
}

/* Written in the shortest form it is the same value, no longer (but for a float of 32 bits), and
 * written once more the same bytes. */
static void check_writing(struct rtbp_val v, const msgpack_object *o)
{
	struct rtbp_buf once = RTBP_BUF_INIT, twice = RTBP_BUF_INIT;
	size_t offset;

	write_again(&once, v);
	FUZZ_CHECK(rtbp_buf_ok(&once) && once.size <= 2 * v.size);
	FUZZ_CHECK(rtbp_check(once.data, once.size, RTBP_DEPTH_MAX, &offset) == 0);
	v = (struct rtbp_val){ once.data, once.size };
	compare(v, o);
	write_again(&twice, v);
	FUZZ_CHECK(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
	rtbp_buf_done(&once);
	rtbp_buf_done(&twice);
}

/* What rtbp_check() refuses msgpack-c must refuse as well, unless we are stricter on purpose. */
static void check_refused(int r, const uint8_t *data, size_t size, size_t offset,
			  msgpack_zone *zone)
{
	msgpack_unpack_return ret;
	msgpack_object o;
	size_t end = 0;

	FUZZ_CHECK(offset <= size && *rtbp_val_text(r));
	if (r == RTBP_VAL_E_TRAILING) {
		FUZZ_CHECK(rtbp_val_size(data, size, RTBP_DEPTH_MAX) == offset);
		FUZZ_CHECK(rtbp_check(data, offset, RTBP_DEPTH_MAX, &end) == 0);
		return;
	}
	FUZZ_CHECK(rtbp_val_size(data, size, RTBP_DEPTH_MAX) == 0);
	if (r == RTBP_VAL_E_BYTE)
		FUZZ_CHECK(data[offset] == 0xc1);
	if (r != RTBP_VAL_E_DEPTH &&
	    (offset == size || (data[offset] >= 0xa0 && data[offset] < 0xdc))) {
		/* No container at fault, so all counts before can be held. */
		ret = msgpack_unpack((const char *)data, size, &end, zone, &o);
		FUZZ_CHECK(ret != MSGPACK_UNPACK_SUCCESS && ret != MSGPACK_UNPACK_EXTRA_BYTES);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	msgpack_unpack_return ret;
	struct rtbp_fault fault;
	size_t offset, end = 0;
	msgpack_zone zone;
	struct rtbp_msg m;
	msgpack_object o;
	int r;

	r = rtbp_check(data, size, RTBP_DEPTH_MAX, &offset);
	FUZZ_CHECK(r == 0 || rtbp_msg_parse(data, size, &m, &fault) == RTBP_E_PROTOCOL);
	FUZZ_CHECK(msgpack_zone_init(&zone, 8192));
	if (r) {
		check_refused(r, data, size, offset, &zone);
	} else {
		FUZZ_CHECK(offset == size && rtbp_val_size(data, size, RTBP_DEPTH_MAX) == size);
		ret = msgpack_unpack((const char *)data, size, &end, &zone, &o);
		/* Its own limits (32 levels), and no others. */
		FUZZ_CHECK(ret == MSGPACK_UNPACK_SUCCESS || ret == MSGPACK_UNPACK_NOMEM_ERROR);
		if (ret == MSGPACK_UNPACK_SUCCESS) {
			compare((struct rtbp_val){ data, size }, &o);
			check_writing((struct rtbp_val){ data, size }, &o);
		}
		(void)rtbp_msg_parse(data, size, &m, &fault);
	}
	msgpack_zone_destroy(&zone);
	return 0;
}
