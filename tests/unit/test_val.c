/* SPDX-License-Identifier: MIT */
/* The bounded check of MessagePack from outside: what it lets pass, and that it costs nothing. */
#include "proto/rtbp_val.h"

#include "alloc_util.h"
#include "proto_util.h"

static int check(const void *data, size_t size, unsigned depth, size_t *ret_offset)
{
	uint8_t *copy = exact(data, size);
	int r;

	allocs_reset();
	allocs_watch(false);
	r = rtbp_check(copy, size, depth, ret_offset);
	allocs_unwatch();
	if (allocs.n_calls)
		ck_abort_msg("%u allocations", allocs.n_calls);
	free(copy);
	return r;
}

static void expect(const void *data, size_t size, unsigned depth, int result, size_t offset)
{
	size_t at = SIZE_MAX;

	ck_assert_int_eq(check(data, size, depth, &at), result);
	ck_assert_uint_eq(at, offset);
	ck_assert_uint_eq(rtbp_val_size(data, size, depth),
			  result == 0 || result == RTBP_VAL_E_TRAILING ? offset : 0);
}

/* One whole value that begins with `byte` and, where it has a length, has `n`. The specification
 * once more in other words: what the code's table is judged by. Return: its size, 0 for none. */
static size_t whole_value(uint8_t byte, uint32_t n, uint8_t *ret, enum rtbp_kind *ret_kind)
{
	static const uint8_t fixext[] = { 1, 2, 4, 8, 16 };
	uint8_t *p = ret;
	size_t body = 0;

	*p++ = byte;
	switch (byte) {
	case 0xc0:
		*ret_kind = RTBP_NIL;
		break;
	case 0xc1:
		return 0;
	case 0xc2:
	case 0xc3:
		*ret_kind = RTBP_BOOL;
		break;
	case 0xc4 ... 0xc9:
		*ret_kind = byte < 0xc7 ? RTBP_BIN : RTBP_EXT;
		put_be(p, n, 1u << ((byte - 0xc4) % 3));
		p += 1u << ((byte - 0xc4) % 3);
		body = n + (byte >= 0xc7);
		break;
	case 0xca ... 0xcb:
		*ret_kind = RTBP_FLOAT;
		body = byte == 0xca ? 4 : 8;
		break;
	case 0xcc ... 0xd3:
		*ret_kind = RTBP_INT;
		body = 1u << (byte & 3);
		break;
	case 0xd4 ... 0xd8:
		*ret_kind = RTBP_EXT;
		body = 1u + fixext[byte - 0xd4];
		break;
	case 0xd9 ... 0xdb:
		*ret_kind = RTBP_STR;
		put_be(p, n, 1u << (byte - 0xd9));
		p += 1u << (byte - 0xd9);
		body = n;
		break;
	case 0xdc ... 0xdf:
		*ret_kind = byte < 0xde ? RTBP_ARRAY : RTBP_MAP;
		put_be(p, n, byte & 1 ? 4 : 2);
		p += byte & 1 ? 4 : 2;
		body = byte < 0xde ? n : 2 * (size_t)n;
		break;
	case 0x80 ... 0x8f:
		*ret_kind = RTBP_MAP;
		body = 2u * (byte & 15);
		break;
	case 0x90 ... 0x9f:
		*ret_kind = RTBP_ARRAY;
		body = byte & 15;
		break;
	case 0xa0 ... 0xbf:
		*ret_kind = RTBP_STR;
		body = byte & 31;
		break;
	default:
		*ret_kind = RTBP_INT;
	}
	/* A nil each: right as elements, and as bytes as good as any. */
	memset(p, 0xc0, body);
	return (size_t)(p - ret) + body;
}

static void check_whole(uint8_t byte, uint32_t n)
{
	uint8_t value[1024];
	enum rtbp_kind kind;
	size_t size = whole_value(byte, n, value, &kind);

	if (size == 0) {
		ck_assert_uint_eq(byte, 0xc1);
		expect(&byte, 1, 72, RTBP_VAL_E_BYTE, 0);
		return;
	}
	expect(value, size, 72, 0, size);
	ck_assert_int_eq((int)rtbp_kind_of((struct rtbp_val){ value, size }), (int)kind);
	value[size] = 0xc0;
	expect(value, size + 1, 72, RTBP_VAL_E_TRAILING, size);
}

START_TEST(every_type_byte)
{
	static const uint32_t lengths[] = { 0, 1, 3, 255 };

	for (unsigned byte = 0; byte < 256; byte++) {
		for (unsigned i = 0; i < N_OF(lengths); i++)
			check_whole((uint8_t)byte, lengths[i]);
	}
}
END_TEST

/* Cut at every byte: always "truncated", never a byte read behind the end. */
static void check_cuts(const uint8_t *value, size_t size)
{
	size_t offset;

	for (size_t cut = 0; cut < size; cut++) {
		if (check(value, cut, 72, &offset) != RTBP_VAL_E_TRUNCATED || offset > cut)
			ck_abort_msg("type %02x cut at %zu", value[0], cut);
	}
}

START_TEST(every_truncation)
{
	uint8_t value[1024], nested[2048];
	enum rtbp_kind kind;
	size_t size;

	for (unsigned byte = 0; byte < 256; byte++) {
		size = whole_value((uint8_t)byte, 40, value, &kind);
		if (size == 0)
			continue;
		check_cuts(value, size);
		/* The same inside an array and a map, in front of a last element. */
		memcpy(nested, "\x92\x81\xa1k", 4);
		memcpy(nested + 4, value, size);
		nested[4 + size] = 0x07;
		check_cuts(nested, size + 5);
		expect(nested, size + 5, 72, 0, size + 5);
	}
}
END_TEST

/* Sizes that promise up to 8 GiB in a handful of bytes. */
static const char *const giants[] = {
	"dd ffffffff",
	"df ffffffff",
	"c6 ffffffff",
	"db ffffffff",
	"c9 ffffffff 01",
	"dd 80000000",
	"df 80000000",
	"df 7fffffff",
	"dc ffff",
	"de ffff",
	"c5 ffff",
	"da ffff",
	"c8 ffff 01",
	"d8 01",
	"cf",
	"91 dd ffffffff",
	"81 a1 6b df ffffffff",
	"dd ffffffff c0 c0 c0 c0",
};

START_TEST(giant_sizes)
{
	uint8_t bytes[32];
	size_t size = unhex(giants[_i], bytes, sizeof(bytes)), offset;

	ck_assert_int_eq(check(bytes, size, 72, &offset), RTBP_VAL_E_TRUNCATED);
	ck_assert_uint_lt(offset, size);
}
END_TEST

/* `n` containers inside each other, the innermost empty; a map's key is nil. */
static size_t nest(uint8_t *at, unsigned n, bool maps)
{
	uint8_t *p = at;

	for (unsigned i = 1; i < n; i++) {
		*p++ = maps ? 0x81 : 0x91;
		if (maps)
			*p++ = 0xc0;
	}
	*p++ = maps ? 0x80 : 0x90;
	return (size_t)(p - at);
}

START_TEST(nesting_at_the_limits)
{
	uint8_t bytes[400];
	bool maps = _i;
	size_t size, per = maps ? 2 : 1;

	for (unsigned depth = 0; depth <= 72; depth++) {
		if (depth > 0) {
			size = nest(bytes, depth, maps);
			expect(bytes, size, depth, 0, size);
		}
		size = nest(bytes, depth + 1, maps);
		expect(bytes, size, depth, RTBP_VAL_E_DEPTH, depth * per);
	}
	/* More than 72 is never granted, whatever is asked for. */
	size = nest(bytes, 73, maps);
	expect(bytes, size, 1000, RTBP_VAL_E_DEPTH, 72 * per);
	expect(bytes, size, UINT32_MAX, RTBP_VAL_E_DEPTH, 72 * per);
	expect("\xc0", 1, 0, 0, 1);
	expect("\x80", 1, 0, RTBP_VAL_E_DEPTH, 0);
}
END_TEST

/* Depth is what is open, not what was: siblings and their children do not add up. */
START_TEST(siblings_do_not_add_depth)
{
	uint8_t bytes[2000] = { 0xdc, 0x01, 0x00 };
	size_t size = 3;

	for (unsigned i = 0; i < 256; i++) {
		memcpy(bytes + size, i & 1 ? "\x81\xc0\x91\x90" : "\x92\x90\x91\x80", 4);
		size += 4;
	}
	expect(bytes, size, 4, 0, size);
	expect(bytes, size, 3, RTBP_VAL_E_DEPTH, 6);
}
END_TEST

/* Each container claims as much as the bytes behind it could just be. */
START_TEST(count_bombs)
{
	enum { SIZE = 64 * 1024 };
	uint8_t *bytes = malloc(SIZE);
	size_t at = 0, offset;

	ck_assert_ptr_nonnull(bytes);
	memset(bytes, 0xc0, SIZE);
	for (unsigned depth = 0; depth < 72; depth++, at += 5) {
		bytes[at] = 0xdd;
		put_be(bytes + at + 1, SIZE - at - 5, 4);
	}
	ck_assert_int_eq(check(bytes, SIZE, 72, &offset), RTBP_VAL_E_TRUNCATED);
	ck_assert_uint_eq(offset, SIZE);
	bytes[at] = 0x90;
	expect(bytes, SIZE, 72, RTBP_VAL_E_DEPTH, at);
	/* Twice the pairs of a map must not wrap around. */
	memcpy(bytes, "\xdf\x80\x00\x00\x00\xc0", 6);
	expect(bytes, SIZE, 72, RTBP_VAL_E_TRUNCATED, 0);
	memcpy(bytes, "\xdf\x80\x00\x00\x01\xc0", 6);
	expect(bytes, SIZE, 72, RTBP_VAL_E_TRUNCATED, 0);
	free(bytes);
}
END_TEST

/* Shapes that make a careless walk quadratic or worse, in a size at which it would never end:
 * 1 MiB of empty containers, of the deepest chains, of one-byte keys, of equal keys. */
static const struct {
	const char *unit; /* repeated as the elements of one array */
	unsigned n_values, depth;
} hostile[] = {
	{ "c0", 1, 1 },
	{ "90", 1, 2 },
	{ "80", 1, 2 },
	{ "dd 00000000", 1, 2 },
	{ "df 00000000", 1, 2 },
	{ "db 00000000", 1, 1 },
	{ "91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 "
	  "91 "
	  "91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 91 "
	  "91 "
	  "91 91 91 91 91 91 91 91 91 91 90",
	  1, 72 },
	{ "82 a1 6b 01 a1 6b 02", 1, 2 },
};

START_TEST(hostile_shapes_are_linear)
{
	enum { SIZE = 1 << 20 };
	uint8_t unit[128], *bytes = malloc(SIZE);
	size_t size = 5, step = unhex(hostile[_i].unit, unit, sizeof(unit)), n = 0, offset;
	struct rtbp_iter it;
	struct rtbp_val v;

	ck_assert_ptr_nonnull(bytes);
	bytes[0] = 0xdd;
	for (; size + step <= SIZE; size += step, n++)
		memcpy(bytes + size, unit, step);
	put_be(bytes + 1, n * hostile[_i].n_values, 4);
	expect(bytes, size, 72, 0, size);
	ck_assert_int_eq(check(bytes, size, hostile[_i].depth - 1, &offset), RTBP_VAL_E_DEPTH);
	/* Walking the elements looks at each of them once, too. */
	ck_assert(rtbp_iter_array((struct rtbp_val){ bytes, size }, &it));
	while (rtbp_iter_next(&it, &v))
		n--;
	ck_assert_uint_eq(n, 0);
	free(bytes);
}
END_TEST

START_TEST(every_condition_has_words)
{
	for (int i = RTBP_VAL_E_TRUNCATED; i <= RTBP_VAL_E_TRAILING; i++)
		ck_assert_uint_gt(strlen(rtbp_val_text(i)), 10);
	ck_assert_str_eq(rtbp_val_text(0), "");
	expect("", 0, 72, RTBP_VAL_E_TRUNCATED, 0);
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("val");

	tcase_add_test(c, every_type_byte);
	tcase_add_test(c, every_truncation);
	LOOP(c, giant_sizes, giants);
	tcase_add_loop_test(c, nesting_at_the_limits, 0, 2);
	tcase_add_test(c, siblings_do_not_add_depth);
	tcase_add_test(c, count_bombs);
	LOOP(c, hostile_shapes_are_linear, hostile);
	tcase_add_test(c, every_condition_has_words);
	return run_tests("val", c);
}
