/* SPDX-License-Identifier: MIT */
/* Reading checked MessagePack: numbers, text, keys, elements. */
#include "proto/rtbp_val.h"

#include <math.h>

#include "proto_util.h"

static uint8_t bytes[8][1024];

/* A checked value from hex; the fifth next call uses its bytes again. */
static struct rtbp_val val(const char *hex)
{
	static unsigned turn;
	uint8_t *at = bytes[turn++ % N_OF(bytes)];
	size_t size = unhex(hex, at, sizeof(bytes[0])), offset;

	ck_assert_int_eq(rtbp_check(at, size, RTBP_DEPTH_MAX, &offset), 0);
	return (struct rtbp_val){ at, size };
}

static const struct rtbp_val absent;

static const struct {
	const char *hex;
	bool is_int, is_uint;
	int64_t i;
	uint64_t u;
} ints[] = {
	{ "00", true, true, 0, 0 },
	{ "7f", true, true, 127, 127 },
	{ "ff", true, false, -1, 0 },
	{ "e0", true, false, -32, 0 },
	{ "cc 00", true, true, 0, 0 },
	{ "cc ff", true, true, 255, 255 },
	{ "cd ffff", true, true, 65535, 65535 },
	{ "ce ffffffff", true, true, UINT32_MAX, UINT32_MAX },
	{ "cf 7fffffffffffffff", true, true, INT64_MAX, INT64_MAX },
	{ "cf 8000000000000000", false, true, 0, (uint64_t)INT64_MAX + 1 },
	{ "cf ffffffffffffffff", false, true, 0, UINT64_MAX },
	{ "cf 0000000000000007", true, true, 7, 7 }, /* longer than needed */
	{ "d0 7f", true, true, 127, 127 },
	{ "d0 80", true, false, -128, 0 },
	{ "d0 ff", true, false, -1, 0 },
	{ "d1 7fff", true, true, 32767, 32767 },
	{ "d1 8000", true, false, -32768, 0 },
	{ "d2 7fffffff", true, true, INT32_MAX, INT32_MAX },
	{ "d2 80000000", true, false, INT32_MIN, 0 },
	{ "d3 7fffffffffffffff", true, true, INT64_MAX, INT64_MAX },
	{ "d3 8000000000000000", true, false, INT64_MIN, 0 },
	{ "d3 ffffffffffffffff", true, false, -1, 0 },
	{ "c0", false, false, 0, 0 },
	{ "c2", false, false, 0, 0 },
	{ "c3", false, false, 0, 0 },
	{ "a0", false, false, 0, 0 },
	{ "a1 01", false, false, 0, 0 },
	{ "90", false, false, 0, 0 },
	{ "80", false, false, 0, 0 },
	{ "c4 00", false, false, 0, 0 },
	{ "ca 3f800000", false, false, 0, 0 },
	{ "cb 3ff0000000000000", false, false, 0, 0 },
	{ "d4 00 01", false, false, 0, 0 },
	{ "dc 0000", false, false, 0, 0 },
};

START_TEST(integers)
{
	struct rtbp_val v = val(ints[_i].hex);
	uint64_t u = 4711;
	int64_t i = 4711;

	ck_assert_int_eq(rtbp_get_int(v, &i), ints[_i].is_int);
	ck_assert_int_eq(i, ints[_i].is_int ? ints[_i].i : 4711);
	ck_assert_int_eq(rtbp_get_uint(v, &u), ints[_i].is_uint);
	ck_assert_uint_eq(u, ints[_i].is_uint ? ints[_i].u : 4711);
	ck_assert_int_eq(rtbp_is(v, RTBP_INT), ints[_i].is_int || ints[_i].is_uint);
}
END_TEST

START_TEST(floats)
{
	double d = 4711;

	ck_assert(rtbp_get_float(val("ca 3fc00000"), &d));
	ck_assert(d == 1.5);
	ck_assert(rtbp_get_float(val("cb bff8000000000000"), &d));
	ck_assert(d == -1.5);
	ck_assert(rtbp_get_float(val("cb 0000000000000001"), &d));
	ck_assert(d > 0 && d < 1e-320);
	ck_assert(rtbp_get_float(val("cb 8000000000000000"), &d));
	ck_assert(d == 0 && signbit(d));
	ck_assert(rtbp_get_float(val("cb 7ff0000000000000"), &d));
	ck_assert(isinf(d));
	ck_assert(rtbp_get_float(val("ca 7fc00000"), &d));
	ck_assert(isnan(d));
	d = 4711;
	ck_assert(!rtbp_get_float(val("01"), &d)); /* an integer is none */
	ck_assert(!rtbp_get_float(val("c0"), &d));
	ck_assert(!rtbp_get_float(absent, &d));
	ck_assert(d == 4711);
}
END_TEST

START_TEST(booleans)
{
	static const char *const others[] = { "c0", "00", "01", "c4 00", "90", "80", "a0" };
	bool b = false;

	ck_assert(rtbp_get_bool(val("c3"), &b));
	ck_assert(b);
	for (unsigned i = 0; i < N_OF(others); i++)
		ck_assert(!rtbp_get_bool(val(others[i]), &b));
	ck_assert(!rtbp_get_bool(absent, &b));
	ck_assert(b);
	ck_assert(rtbp_get_bool(val("c2"), &b));
	ck_assert(!b);
}
END_TEST

START_TEST(bytes_of_each_kind)
{
	struct rtbp_str s = { NULL, 4711 };
	int8_t type = 0;

	ck_assert(rtbp_get_str(val("a3 616263"), &s) && rtbp_str_is(s, "abc"));
	ck_assert(rtbp_get_str(val("d9 03 616263"), &s) && rtbp_str_is(s, "abc"));
	ck_assert(rtbp_get_str(val("da 0003 616263"), &s) && rtbp_str_is(s, "abc"));
	ck_assert(rtbp_get_str(val("db 00000003 616263"), &s) && rtbp_str_is(s, "abc"));
	ck_assert(rtbp_get_str(val("a0"), &s) && rtbp_str_is(s, ""));
	ck_assert(rtbp_get_bin(val("c4 02 0001"), &s) && s.size == 2 && s.p[1] == 1);
	ck_assert(rtbp_get_bin(val("c5 0000"), &s) && s.size == 0);
	ck_assert(rtbp_get_bin(val("c6 00000001 61"), &s) && rtbp_str_is(s, "a"));
	ck_assert(rtbp_get_ext(val("d4 01 61"), &type, &s) && rtbp_str_is(s, "a"));
	ck_assert_int_eq(type, 1);
	ck_assert(rtbp_get_ext(val("c7 00 80"), &type, &s) && s.size == 0);
	ck_assert_int_eq(type, -128);
	ck_assert(rtbp_get_ext(val("c7 03 7f 616263"), &type, &s) && rtbp_str_is(s, "abc"));
	ck_assert_int_eq(type, 127);
	ck_assert(rtbp_get_ext(val("c8 0001 01 61"), &type, &s) && rtbp_str_is(s, "a"));
	ck_assert(rtbp_get_ext(val("c9 00000001 01 61"), &type, &s) && rtbp_str_is(s, "a"));
	ck_assert(rtbp_get_ext(val("d8 01 61616161616161616161616161616161"), &type, &s));
	ck_assert_uint_eq(s.size, 16);

	s = (struct rtbp_str){ NULL, 4711 };
	ck_assert(!rtbp_get_str(val("c4 01 61"), &s));
	ck_assert(!rtbp_get_bin(val("a1 61"), &s));
	ck_assert(!rtbp_get_ext(val("a1 61"), &type, &s));
	ck_assert(!rtbp_get_str(absent, &s));
	ck_assert(!rtbp_get_bin(absent, &s));
	ck_assert(!rtbp_get_ext(absent, &type, &s));
	ck_assert_uint_eq(s.size, 4711);
}
END_TEST

START_TEST(text_compares_whole)
{
	ck_assert(!rtbp_str_is((struct rtbp_str){ "abc", 3 }, "ab"));
	ck_assert(!rtbp_str_is((struct rtbp_str){ "abc", 3 }, "abcd"));
	ck_assert(!rtbp_str_is((struct rtbp_str){ "a\0c", 3 }, "a"));
	ck_assert(!rtbp_str_is((struct rtbp_str){ "abd", 3 }, "abc"));
	ck_assert(rtbp_str_is((struct rtbp_str){ NULL, 0 }, "")); /* nor is memcmp() asked */
	ck_assert(!rtbp_str_is((struct rtbp_str){ NULL, 0 }, "a"));
}
END_TEST

START_TEST(the_last_of_equal_keys_wins)
{
	struct rtbp_val map = val("84 a1 61 01  a1 62 02  a1 61 03  a2 6161 04");
	uint64_t u;

	ck_assert(rtbp_get_uint(rtbp_find(map, "a", 1), &u) && u == 3);
	ck_assert(rtbp_get_uint(rtbp_find(map, "b", 1), &u) && u == 2);
	ck_assert(rtbp_get_uint(rtbp_find(map, "aa", 2), &u) && u == 4);
	ck_assert_ptr_null(rtbp_find(map, "", 0).p);
	ck_assert_ptr_null(rtbp_find(map, "c", 1).p);
	/* A nil found is found: not the same as absent. */
	map = val("82 a1 61 01 a1 61 c0");
	ck_assert(rtbp_is(rtbp_find(map, "a", 1), RTBP_NIL));
	ck_assert(!rtbp_is(absent, RTBP_NIL));
}
END_TEST

START_TEST(only_keys_of_this_map_are_found)
{
	/* "a" as a value, inside a value, inside a container that is a key, as bin, as ext. */
	struct rtbp_val map = val("86 a1 62 a1 61  a1 63 81 a1 61 01  81 a1 61 01 02"
				  "c4 01 61 03  d4 01 61 04  61 05");

	ck_assert_ptr_null(rtbp_find(map, "a", 1).p);
	ck_assert(rtbp_is(rtbp_find(map, "c", 1), RTBP_MAP));
	ck_assert_ptr_null(rtbp_find(val("92 a1 61 01"), "a", 1).p); /* an array */
	ck_assert_ptr_null(rtbp_find(val("80"), "a", 1).p);
	ck_assert_ptr_null(rtbp_find(val("a1 61"), "a", 1).p);
	ck_assert_ptr_null(rtbp_find(absent, "a", 1).p);
	ck_assert(rtbp_is(rtbp_find(val("81 a0 c3"), "", 0), RTBP_BOOL));
	ck_assert(rtbp_is(rtbp_find(val("81 a0 c3"), NULL, 0), RTBP_BOOL));
}
END_TEST

START_TEST(fields_by_number)
{
	struct rtbp_val map = val("82 a4 6368616e 07 a5 746f706963 a1 74");
	struct rtbp_str s;
	uint64_t u;

	ck_assert(rtbp_get_uint(rtbp_field(map, RTBP_F_CHAN), &u) && u == 7);
	ck_assert(rtbp_get_str(rtbp_field(map, RTBP_F_TOPIC), &s) && rtbp_str_is(s, "t"));
	ck_assert_ptr_null(rtbp_field(map, RTBP_F_EVENT).p);
	ck_assert_ptr_null(rtbp_field(absent, RTBP_F_EVENT).p);
}
END_TEST

static void expect_array(const char *hex, unsigned n)
{
	struct rtbp_val v, array = val(hex);
	struct rtbp_iter it;
	uint64_t u;

	ck_assert(rtbp_iter_array(array, &it));
	ck_assert_uint_eq(it.left, n);
	for (unsigned i = 0; i < n; i++) {
		ck_assert(rtbp_iter_next(&it, &v));
		ck_assert(rtbp_get_uint(v, &u) && u == i);
		ck_assert(rtbp_get_uint(rtbp_at(array, i), &u) && u == i);
	}
	ck_assert(!rtbp_iter_next(&it, &v));
	ck_assert(!rtbp_iter_next(&it, &v));
	ck_assert_ptr_null(rtbp_at(array, n).p);
	ck_assert_ptr_null(rtbp_at(array, UINT32_MAX).p);
	ck_assert(!rtbp_iter_map(array, &it));
}

START_TEST(arrays_are_walked)
{
	expect_array("90", 0);
	expect_array("93 00 01 02", 3);
	expect_array("dc 0003 00 cc01 cd0002", 3);
	expect_array("dd 00000001 00", 1);
	ck_assert_ptr_null(rtbp_at(absent, 0).p);
	ck_assert_ptr_null(rtbp_at(val("81 00 01"), 0).p);
}
END_TEST

START_TEST(elements_may_be_deep)
{
	struct rtbp_val v, array = val("93 92 90 81 00 91 05 c4 02 9191 07");
	struct rtbp_iter it;

	ck_assert(rtbp_iter_array(array, &it));
	ck_assert(rtbp_iter_next(&it, &v));
	ck_assert_uint_eq(v.size, 6);
	ck_assert(rtbp_iter_next(&it, &v));
	ck_assert(rtbp_is(v, RTBP_BIN));
	ck_assert(rtbp_iter_next(&it, &v));
	ck_assert(rtbp_is(v, RTBP_INT));
	ck_assert(!rtbp_iter_next(&it, &v));
}
END_TEST

START_TEST(maps_are_walked_in_pairs)
{
	static const char *const maps[] = { "82 00 01 02 03", "de 0002 00 01 02 03",
					    "df 00000002 00 01 02 03" };
	struct rtbp_iter it;
	struct rtbp_val v;
	uint64_t u;

	for (unsigned i = 0; i < N_OF(maps); i++) {
		ck_assert(rtbp_iter_map(val(maps[i]), &it));
		ck_assert_uint_eq(it.left, 4);
		for (unsigned n = 0; n < 4; n++) {
			ck_assert(rtbp_iter_next(&it, &v));
			ck_assert(rtbp_get_uint(v, &u) && u == n);
		}
		ck_assert(!rtbp_iter_next(&it, &v));
	}
	ck_assert(!rtbp_iter_map(absent, &it));
	ck_assert(!rtbp_iter_array(absent, &it));
	ck_assert(!rtbp_iter_array(val("c0"), &it));
}
END_TEST

static bool utf8(const void *text, size_t size)
{
	char *copy = (char *)exact(text, size);
	bool r = rtbp_utf8_valid(copy, size);

	free(copy);
	return r;
}

static size_t encode(uint32_t c, uint8_t *at)
{
	static const uint8_t leads[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (unsigned i = n; i-- > 1; c >>= 6)
		at[i] = (uint8_t)(0x80 | (c & 0x3f));
	at[0] = (uint8_t)(leads[n] | c);
	return n;
}

START_TEST(utf8_every_code_point)
{
	uint8_t text[4];
	size_t n;

	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		n = encode(c, text);
		if (rtbp_utf8_valid((char *)text, n) != (c < 0xd800 || c > 0xdfff))
			ck_abort_msg("U+%04X", c);
	}
	for (uint32_t c = 0x80; c <= 0x10ffff; c += 997) {
		n = encode(c, text);
		for (size_t cut = 1; cut < n; cut++)
			ck_assert(!utf8(text, cut));
	}
}
END_TEST

/* Of all strings of up to three bytes exactly as many are valid as the counts of code points say,
 * so none is valid that should not be: no overlong form, no surrogate, no stray byte. */
START_TEST(utf8_counted)
{
	enum { ASCII = 128, TWO = 0x800 - 0x80, THREE = 0x10000 - 0x800 - 0x800 };
	unsigned n[4] = { 0 };
	char text[3];

	for (unsigned c = 0; c < 1u << 24; c++) {
		text[0] = (char)(c >> 16);
		text[1] = (char)(c >> 8);
		text[2] = (char)c;
		n[3] += rtbp_utf8_valid(text, 3);
		if (c < 1u << 16)
			n[2] += rtbp_utf8_valid(text + 1, 2);
		if (c < 1u << 8)
			n[1] += rtbp_utf8_valid(text + 2, 1);
	}
	ck_assert_uint_eq(n[1], ASCII);
	ck_assert_uint_eq(n[2], ASCII * ASCII + TWO);
	ck_assert_uint_eq(n[3], ASCII * ASCII * ASCII + 2 * ASCII * TWO + THREE);
}
END_TEST

static const char *const bad_utf8[] = {
	"c0 80",
	"c1 bf",
	"e0 80 80",
	"e0 9f bf",
	"ed a0 80",
	"ed bf bf",
	"f0 80 80 80",
	"f0 8f bf bf",
	"f4 90 80 80",
	"f5 80 80 80",
	"f8 88 80 80 80",
	"fc 84 80808080",
	"fe",
	"ff",
	"80",
	"bf",
	"61 80",
	"c3",
	"e2 82",
	"f0 9f 98",
	"f0 9f 98 41",
	"e2 41 ac",
	"c3 c3 a9",
	"f0 9f c3 a9",
	"61 62 f0",
	"f0 7f 80 80",
	"f0 c0 80 80",
	"f0 9f 98 80 80",
};

START_TEST(utf8_refused)
{
	uint8_t text[16];

	ck_assert(!utf8(text, unhex(bad_utf8[_i], text, sizeof(text))));
}
END_TEST

START_TEST(utf8_accepted)
{
	ck_assert(utf8("", 0));
	ck_assert(rtbp_utf8_valid(NULL, 0));
	ck_assert(utf8("a\0b", 3));
	ck_assert(utf8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\xef\xbf\xbf", 11));
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("val_get");

	LOOP(c, integers, ints);
	tcase_add_test(c, floats);
	tcase_add_test(c, booleans);
	tcase_add_test(c, bytes_of_each_kind);
	tcase_add_test(c, text_compares_whole);
	tcase_add_test(c, the_last_of_equal_keys_wins);
	tcase_add_test(c, only_keys_of_this_map_are_found);
	tcase_add_test(c, fields_by_number);
	tcase_add_test(c, arrays_are_walked);
	tcase_add_test(c, elements_may_be_deep);
	tcase_add_test(c, maps_are_walked_in_pairs);
	tcase_add_test(c, utf8_every_code_point);
	tcase_add_test(c, utf8_counted);
	LOOP(c, utf8_refused, bad_utf8);
	tcase_add_test(c, utf8_accepted);
	return run_tests("val_get", c);
}
