/* SPDX-License-Identifier: MIT */
/* MessagePack to JSON, and quoting: proto/rtbp_json.h. */
#include "tests/unit/test_json_util.h"

struct good {
	const char *mp, *json;
};

static const struct good goods[] = {
	{ "c0", "null" },
	{ "c2", "false" },
	{ "c3", "true" },
	{ "00", "0" },
	{ "7f", "127" },
	{ "e0", "-32" },
	{ "ff", "-1" },
	/* integers of every size, smallest encoding or not */
	{ "cc00", "0" },
	{ "ccff", "255" },
	{ "cd0001", "1" },
	{ "cdffff", "65535" },
	{ "ce00000002", "2" },
	{ "ceffffffff", "4294967295" },
	{ "cf0000000000000003", "3" },
	{ "cfffffffffffffffff", "18446744073709551615" },
	{ "d07f", "127" },
	{ "d080", "-128" },
	{ "d0ff", "-1" },
	{ "d17fff", "32767" },
	{ "d18000", "-32768" },
	{ "d27fffffff", "2147483647" },
	{ "d280000000", "-2147483648" },
	{ "d37fffffffffffffff", "9223372036854775807" },
	{ "d38000000000000000", "-9223372036854775808" },
	{ "d3ffffffffffffffff", "-1" },
	/* floats: shortest, plain where that is readable */
	{ "cb0000000000000000", "0.0" },
	{ "cb8000000000000000", "-0.0" },
	{ "cb3ff0000000000000", "1.0" },
	{ "cbbff8000000000000", "-1.5" },
	{ "cb3fb999999999999a", "0.1" },
	{ "cb3fd3333333333334", "0.30000000000000004" },
	{ "cb400921fb54442d18", "3.141592653589793" },
	{ "cb4059000000000000", "100.0" },
	{ "cb430c6bf526340000", "1000000000000000.0" },
	{ "cb4341c37937e07fff", "9999999999999998.0" },
	{ "cb4341c37937e08000", "1e16" },
	{ "cb44b52d02c7e14af6", "1e23" },
	{ "cb7fefffffffffffff", "1.7976931348623157e308" },
	{ "cb0010000000000000", "2.2250738585072014e-308" },
	{ "cb000fffffffffffff", "2.225073858507201e-308" },
	{ "cb0000000000000001", "5e-324" },
	{ "cb8000000000000001", "-5e-324" },
	{ "cb0000000000000003", "1.5e-323" },
	{ "cb3f1a36e2eb1c432d", "0.0001" },
	{ "cb3ee4f8b588e368f1", "1e-5" },
	{ "cb3d30000000000000", "5.684341886080802e-14" },
	{ "cb3f10000000000000", "6.103515625e-5" },
	{ "cb3f20000000000000", "0.0001220703125" },
	{ "cb4330000000000000", "4503599627370496.0" },
	{ "cb4340000000000000", "9007199254740992.0" },
	{ "cb43118b54f22aeb03", "1234567890123456.8" },
	{ "ca3f800000", "1.0" },
	{ "ca3dcccccd", "0.10000000149011612" },
	{ "ca80000000", "-0.0" },
	{ "ca00000001", "1.401298464324817e-45" },
	/* strings */
	{ "a0", "\"\"" },
	{ "a161", "\"a\"" },
	{ "d900", "\"\"" },
	{ "d90161", "\"a\"" },
	{ "da000161", "\"a\"" },
	{ "db0000000161", "\"a\"" },
	{ "a8225c2f080c0a0d09", "\"\\\"\\\\/\\b\\f\\n\\r\\t\"" },
	{ "a4001f0b7f", "\"\\u0000\\u001f\\u000b\x7f\"" },
	{ "ad c3a9 e282ac f09f9880 f48fbfbf",
	  "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"" },
	{ "a6 e280a8 e280a9", "\"\xe2\x80\xa8\xe2\x80\xa9\"" },
	/* containers */
	{ "90", "[]" },
	{ "80", "{}" },
	{ "93 01 92 02 03 90", "[1,[2,3],[]]" },
	{ "dc0001 05", "[5]" },
	{ "dd00000001 05", "[5]" },
	{ "dc0000", "[]" },
	{ "dd00000000", "[]" },
	{ "82 a161 01 a162 81 a161 02", "{\"a\":1,\"b\":{\"a\":2}}" },
	{ "de0001 a161 01", "{\"a\":1}" },
	{ "df00000001 a161 01", "{\"a\":1}" },
	{ "81 a0 c0", "{\"\":null}" },
	{ "81 d90161 c0", "{\"a\":null}" },
	{ "82 a100 00 a20000 01", "{\"\\u0000\":0,\"\\u0000\\u0000\":1}" },
	/* numbers as text, as they are */
	{ "d4 01 37", "7" },
	{ "d5 01 2d30", "-0" },
	{ "d6 01 312e3530", "1.50" },
	{ "d7 01 312e303030303030", "1.000000" },
	{ "d8 01 31323334353637383930313233343536", "1234567890123456" },
	{ "c7 03 01 314530", "1E0" },
	{ "c8 0003 01 312e30", "1.0" },
	{ "c9 00000003 01 312e30", "1.0" },
};

START_TEST(test_good)
{
	const struct good *g = &goods[_i];
	uint8_t mp[512];
	size_t n = unhex(g->mp, mp, sizeof(mp));
	struct rtbp_buf out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault = { 0 };
	int r;

	rtbp_buf_text(&out, "before");
	r = rtbp_mp_to_json(mp, n, &out, &fault);
	ck_assert_msg(r == 0, "%s: %d %s", g->mp, r, fault.text);
	rtbp_buf_byte(&out, 0);
	ck_assert_str_eq((char *)out.data + 6, g->json);
	rtbp_buf_done(&out);
}
END_TEST

struct bad {
	const char *mp;
	int condition;
	size_t offset;
	const char *path;
};

static const struct bad bads[] = {
	{ "", RTBP_JSON_E_SYNTAX, 0, "$" },
	{ "c1", RTBP_JSON_E_SYNTAX, 0, "$" },
	{ "92 01 c1", RTBP_JSON_E_SYNTAX, 2, "$[1]" },
	{ "c0 c0", RTBP_JSON_E_SYNTAX, 1, "$" },
	{ "90 90", RTBP_JSON_E_SYNTAX, 1, "$" },
	{ "91", RTBP_JSON_E_SYNTAX, 1, "$" },
	{ "92 01", RTBP_JSON_E_SYNTAX, 2, "$" },
	{ "81 a161", RTBP_JSON_E_SYNTAX, 3, "$.a" },
	{ "92 a3 6162", RTBP_JSON_E_SYNTAX, 4, "$[0]" },
	{ "dd ffffffff 00", RTBP_JSON_E_SYNTAX, 6, "$" },
	{ "df ffffffff 00", RTBP_JSON_E_SYNTAX, 6, "$" },
	{ "db ffffffff 00", RTBP_JSON_E_SYNTAX, 6, "$" },
	{ "c9 ffffffff 01 31", RTBP_JSON_E_SYNTAX, 7, "$" },
	{ "cb 00", RTBP_JSON_E_SYNTAX, 2, "$" },
	/* values without a JSON form */
	{ "c400", RTBP_JSON_E_VALUE, 0, "$" },
	{ "c50000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "c600000000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "81 a161 94 00 01 02 81 a3622063 c40101", RTBP_JSON_E_VALUE, 12, "$.a[3].\"b c\"" },
	{ "cb 7ff0000000000000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "cb fff0000000000000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "cb 7ff8000000000000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "ca 7f800000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "91 ca ff800000", RTBP_JSON_E_VALUE, 1, "$[0]" },
	{ "91 ca 7fc00000", RTBP_JSON_E_VALUE, 1, "$[0]" },
	{ "d4 00 31", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d4 02 31", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d6 ff 00000000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d7 ff 0000000000000000", RTBP_JSON_E_VALUE, 0, "$" },
	{ "c7 0c ff 000000000000000000000000", RTBP_JSON_E_VALUE, 0, "$" },
	/* ext type 1 that is not exactly one number */
	{ "c7 00 01", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d4 01 20", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d5 01 3120", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d5 01 2031", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d5 01 3031", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d5 01 312e", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d5 01 3165", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d5 01 5b5d", RTBP_JSON_E_VALUE, 0, "$" },
	{ "d5 01 3100", RTBP_JSON_E_VALUE, 0, "$" },
	{ "c7 03 01 4e614e", RTBP_JSON_E_VALUE, 0, "$" },
	/* keys */
	{ "81 01 02", RTBP_JSON_E_KEY, 1, "$" },
	{ "81 c0 02", RTBP_JSON_E_KEY, 1, "$" },
	{ "81 90 02", RTBP_JSON_E_KEY, 1, "$" },
	{ "81 c40161 02", RTBP_JSON_E_KEY, 1, "$" },
	{ "82 a161 00 c3 00", RTBP_JSON_E_KEY, 4, "$" },
	{ "81 a161 82 a178 00 c3 00", RTBP_JSON_E_KEY, 7, "$.a" },
	{ "82 a161 00 a161 00", RTBP_JSON_E_KEY, 5, "$.a" },
	{ "82 a161 00 d90161 00", RTBP_JSON_E_KEY, 6, "$.a" },
	{ "81 a178 92 00 83 a161 80 a16b 81 a16b 00 db0000000161 00", RTBP_JSON_E_KEY, 20,
	  "$.x[1].a" },
	/* UTF-8 */
	{ "a1 80", RTBP_JSON_E_UTF8, 1, "$" },
	{ "a2 c080", RTBP_JSON_E_UTF8, 1, "$" },
	{ "a3 eda080", RTBP_JSON_E_UTF8, 1, "$" },
	{ "a4 f4908080", RTBP_JSON_E_UTF8, 1, "$" },
	{ "a3 61 c3 28", RTBP_JSON_E_UTF8, 2, "$" },
	{ "92 a1c3 a1a9", RTBP_JSON_E_UTF8, 2, "$[0]" },
	{ "81 a161 a1ff", RTBP_JSON_E_UTF8, 4, "$.a" },
	{ "81 a161 81 a1ff 00", RTBP_JSON_E_UTF8, 5, "$.a" },
	/* how paths are written */
	{ "81 a0 c1", RTBP_JSON_E_SYNTAX, 2, "$.\"\"" },
	{ "81 a3615f31 c1", RTBP_JSON_E_SYNTAX, 5, "$.a_1" },
	{ "81 a23161 c1", RTBP_JSON_E_SYNTAX, 4, "$.\"1a\"" },
	{ "81 a3610a22 c1", RTBP_JSON_E_SYNTAX, 5, "$.\"a\\n\\\"\"" },
	{ "81 a2c3a9 c1", RTBP_JSON_E_SYNTAX, 4, "$.\"\xc3\xa9\"" },
	{ "82 a161 81 a162 00 a163 91 81 a164 c1", RTBP_JSON_E_SYNTAX, 13, "$.c[0].d" },
};

START_TEST(test_bad)
{
	const struct bad *b = &bads[_i];
	uint8_t mp[128];
	size_t n = unhex(b->mp, mp, sizeof(mp));
	struct rtbp_buf out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;
	int r;

	memset(&fault, 'x', sizeof(fault));
	rtbp_buf_text(&out, "before");
	r = rtbp_mp_to_json(n ? mp : NULL, n, &out, &fault);
	ck_assert_msg(r == b->condition, "%s: %d", b->mp, r);
	ck_assert_msg(fault.offset == b->offset, "%s: at %zu", b->mp, fault.offset);
	ck_assert_msg(!strcmp(fault.path, b->path), "%s: %s", b->mp, fault.path);
	ck_assert_uint_gt(strnlen(fault.text, sizeof(fault.text)), 5);
	ck_assert_uint_lt(strnlen(fault.text, sizeof(fault.text)), sizeof(fault.text));
	ck_assert_uint_eq(out.size, 6);
	ck_assert_int_eq(out.error, 0);
	ck_assert_int_eq(rtbp_mp_to_json(mp, n, &out, NULL), b->condition);
	rtbp_buf_done(&out);
}
END_TEST

/* Every proper beginning of a value is refused, without reading behind it. */
START_TEST(test_truncated)
{
	static const char all[] =
		"dc0012 c0 c2 05 e5 cc80 cd0100 ce00010000 cf0000000100000000 d080 d18000 "
		"d280000000 "
		"d38000000000000000 ca3fc00000 cb3ff8000000000000 a3e282ac d90161 da000162 "
		"df00000002 a161 c7030131 2e30 db0000000162 dd00000001 d60131323334";
	uint8_t mp[256];
	size_t size = unhex(all, mp, sizeof(mp));
	struct rtbp_buf out = RTBP_BUF_INIT;

	ck_assert_int_eq(rtbp_mp_to_json(mp, size, &out, NULL), 0);
	for (size_t n = 0; n < size; n++) {
		struct rtbp_json_fault fault;
		uint8_t *copy = malloc(n ? n : 1); /* so that a sanitizer sees one byte too many */

		ck_assert_ptr_nonnull(copy);
		memcpy(copy, mp, n);
		rtbp_buf_reset(&out, 0);
		ck_assert_int_eq(rtbp_mp_to_json(copy, n, &out, &fault), RTBP_JSON_E_SYNTAX);
		ck_assert_uint_eq(fault.offset, n);
		ck_assert_uint_eq(out.size, 0);
		free(copy);
	}
	rtbp_buf_done(&out);
}
END_TEST

START_TEST(test_depth)
{
	for (size_t depth = 1; depth < 80; depth++)
		for (int is_map = 0; is_map < 2; is_map++) {
			struct rtbp_buf mp = RTBP_BUF_INIT, out = RTBP_BUF_INIT;
			struct rtbp_json_fault fault = { 0 };
			bool fits = depth <= RTBP_JSON_DEPTH;

			put_n(&mp, is_map ? "\x81\xa1k" : "\x91", depth);
			rtbp_buf_byte(&mp, 0);
			ck_assert_int_eq(rtbp_mp_to_json(mp.data, mp.size, &out, &fault),
					 fits ? 0 : RTBP_JSON_E_DEPTH);
			if (!fits) {
				ck_assert_uint_eq(fault.offset,
						  RTBP_JSON_DEPTH * (is_map ? 3U : 1U));
				ck_assert_uint_eq(strlen(fault.path), 127);
				ck_assert_str_eq(fault.path + 124, "...");
			}
			rtbp_buf_done(&mp);
			rtbp_buf_done(&out);
		}
}
END_TEST

/* Long paths are cut, and never amid a character. */
START_TEST(test_long_path)
{
	for (size_t n = 100; n < 300; n++)
		for (int wide = 0; wide < 2; wide++) {
			struct rtbp_buf mp = RTBP_BUF_INIT, out = RTBP_BUF_INIT,
					quoted = RTBP_BUF_INIT;
			struct rtbp_json_fault fault;
			size_t len = wide ? n * 3 : n;

			rtbp_buf_put(&mp, "\x81\xda", 2);
			rtbp_buf_byte(&mp, (uint8_t)(len >> 8));
			rtbp_buf_byte(&mp, (uint8_t)len);
			put_n(&mp, wide ? "\xe2\x82\xac" : "k", n);
			rtbp_buf_byte(&mp, 0xc1);
			ck_assert_int_eq(rtbp_mp_to_json(mp.data, mp.size, &out, &fault),
					 RTBP_JSON_E_SYNTAX);
			if (!wide && n <= 125) {
				ck_assert_uint_eq(strlen(fault.path), 2 + n);
			} else {
				ck_assert_uint_ge(strlen(fault.path), 124);
				ck_assert_uint_le(strlen(fault.path), 127);
				ck_assert_str_eq(fault.path + strlen(fault.path) - 3, "...");
			}
			/* U+FFFD in the quoted text would tell of a half character */
			rtbp_json_quote(&quoted, fault.path, strlen(fault.path));
			rtbp_buf_byte(&quoted, 0);
			ck_assert_ptr_null(strstr((char *)quoted.data, "\xef\xbf\xbd"));
			rtbp_buf_done(&mp);
			rtbp_buf_done(&out);
			rtbp_buf_done(&quoted);
		}
}
END_TEST

/* A map of `n` different keys and, if `again`, the first of them once more at the end. */
static void check_keys(uint32_t n, bool again)
{
	struct rtbp_buf mp = RTBP_BUF_INIT, out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;
	uint32_t total = n + again;
	char key[16];

	rtbp_buf_byte(&mp, 0xdf);
	for (int shift = 24; shift >= 0; shift -= 8)
		rtbp_buf_byte(&mp, (uint8_t)(total >> shift));
	for (uint32_t i = 0; i < total; i++) {
		snprintf(key, sizeof(key), "\xa7%07u", i % n);
		rtbp_buf_text(&mp, key);
		rtbp_buf_byte(&mp, 0xc0);
	}
	if (again) {
		ck_assert_int_eq(rtbp_mp_to_json(mp.data, mp.size, &out, &fault), RTBP_JSON_E_KEY);
		ck_assert_str_eq(fault.path, "$.\"0000000\"");
		ck_assert_uint_eq(fault.offset, mp.size - 8);
	} else {
		ck_assert_int_eq(rtbp_mp_to_json(mp.data, mp.size, &out, &fault), 0);
		ck_assert_uint_eq(out.size, n ? n * 15 + 1 : 2);
	}
	rtbp_buf_done(&mp);
	rtbp_buf_done(&out);
}

START_TEST(test_keys)
{
	static const uint32_t n[] = { 1, 2, 15, 16, 31, 32, 33, 64, 65, 1000, 100000 };

	check_keys(0, false);
	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
		check_keys(n[i], false);
		check_keys(n[i], true);
	}
}
END_TEST

START_TEST(test_limit)
{
	uint8_t mp[128];
	size_t size;
	struct rtbp_buf whole = RTBP_BUF_INIT;

	size = unhex("95 a461e282ac a10a cb3ff8000000000000 82 a161 c3 a162 d38000000000000000 "
		     "d6 01 31323334",
		     mp, sizeof(mp));
	ck_assert_int_eq(rtbp_mp_to_json(mp, size, &whole, NULL), 0);
	for (size_t limit = 2; limit <= whole.size + 4; limit++) {
		struct rtbp_buf out = RTBP_BUF_INIT;
		bool fits = limit >= 2 + whole.size;

		out.max_bytes = limit;
		rtbp_buf_text(&out, "ab");
		ck_assert_int_eq(rtbp_mp_to_json(mp, size, &out, NULL), fits ? 0 : -EMSGSIZE);
		ck_assert_int_eq(out.error, fits ? 0 : -EMSGSIZE);
		ck_assert_uint_eq(out.size, fits ? 2 + whole.size : 2);
		if (!fits)
			ck_assert_int_eq(rtbp_mp_to_json("\1", 1, &out, NULL), -EMSGSIZE);
		rtbp_buf_done(&out);
	}
	rtbp_buf_done(&whole);
}
END_TEST

static const struct {
	const char *text;
	size_t size;
	const char *json;
} quotes[] = {
	{ "", 0, "\"\"" },
	{ NULL, 0, "\"\"" },
	{ "plain text that is longer than a vector", 39,
	  "\"plain text that is longer than a vector\"" },
	{ "\"\\/\b\f\n\r\t", 8, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"" },
	{ "\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\"" },
	{ "\xc3\xa9\xf0\x9f\x98\x80", 6, "\"\xc3\xa9\xf0\x9f\x98\x80\"" },
	{ "a\xff"
	  "b",
	  3,
	  "\"a\xef\xbf\xbd"
	  "b\"" },
	{ "\xe2\x82", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "\xc3"
	  "a",
	  2,
	  "\"\xef\xbf\xbd"
	  "a\"" },
};

START_TEST(test_quote)
{
	struct rtbp_buf out = RTBP_BUF_INIT;

	rtbp_json_quote(&out, quotes[_i].text, quotes[_i].size);
	ck_assert_uint_eq(out.size, strlen(quotes[_i].json));
	ck_assert_mem_eq(out.data, quotes[_i].json, out.size);
	rtbp_buf_done(&out);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("json_out");
	TCase *t = tcase_create("mp_to_json");

	tcase_set_timeout(t, 120);
	LOOP(t, test_good, goods);
	LOOP(t, test_bad, bads);
	tcase_add_test(t, test_truncated);
	tcase_add_test(t, test_depth);
	tcase_add_test(t, test_long_path);
	tcase_add_test(t, test_keys);
	tcase_add_test(t, test_limit);
	LOOP(t, test_quote, quotes);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
