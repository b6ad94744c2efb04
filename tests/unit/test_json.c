/* SPDX-License-Identifier: MIT */
/* JSON to MessagePack, value by value: proto/rtbp_json.h. */
#include "tests/unit/test_json_util.h"

/* Text as C string, the MessagePack as hex. */
struct good {
	const char *json, *mp;
};

static void check_good(const struct good *g)
{
	struct rtbp_buf out = RTBP_BUF_INIT;
	uint8_t want[512];
	size_t n = unhex(g->mp, want, sizeof(want));
	struct rtbp_json_fault fault = { 0 };
	int r;

	rtbp_buf_text(&out, "before");
	r = rtbp_json_to_mp(g->json, strlen(g->json), 64, &out, &fault);
	ck_assert_msg(r == 0, "%s: %d %s at %zu", g->json, r, fault.text, fault.offset);
	ck_assert_msg(out.size == 6 + n && !memcmp(out.data, "before", 6) &&
			      !memcmp(out.data + 6, want, n),
		      "%s: %s, not %s", g->json, hex(out.data + 6, out.size - 6), hex(want, n));
	rtbp_buf_done(&out);
}

static const struct good scalars[] = {
	{ "null", "c0" },
	{ "true", "c3" },
	{ "false", "c2" },
	{ " \t\r\nnull \t\r\n", "c0" },
	{ "0", "00" },
	{ "127", "7f" },
	{ "128", "cc80" },
	{ "255", "ccff" },
	{ "256", "cd0100" },
	{ "65535", "cdffff" },
	{ "65536", "ce00010000" },
	{ "4294967295", "ceffffffff" },
	{ "4294967296", "cf0000000100000000" },
	{ "9223372036854775807", "cf7fffffffffffffff" },
	{ "9223372036854775808", "cf8000000000000000" },
	{ "18446744073709551615", "cfffffffffffffffff" },
	{ "-1", "ff" },
	{ "-32", "e0" },
	{ "-33", "d0df" },
	{ "-128", "d080" },
	{ "-129", "d1ff7f" },
	{ "-32768", "d18000" },
	{ "-32769", "d2ffff7fff" },
	{ "-2147483648", "d280000000" },
	{ "-2147483649", "d3ffffffff7fffffff" },
	{ "-9223372036854775808", "d38000000000000000" },
};

START_TEST(test_scalar)
{
	check_good(&scalars[_i]);
}
END_TEST

static const struct good floats[] = {
	{ "-0", "cb 8000000000000000" },
	{ "-0.0", "cb 8000000000000000" },
	{ "0.0", "cb 0000000000000000" },
	{ "0e5", "cb 0000000000000000" },
	{ "0e99999999999999999999", "cb 0000000000000000" },
	{ "0.0e-7", "cb 0000000000000000" },
	{ "-0e-1", "cb 8000000000000000" },
	{ "1.0", "cb 3ff0000000000000" },
	{ "1.5", "cb 3ff8000000000000" },
	{ "-1.5", "cb bff8000000000000" },
	{ "1e0", "cb 3ff0000000000000" },
	{ "1e2", "cb 4059000000000000" },
	{ "1E+2", "cb 4059000000000000" },
	{ "1e02", "cb 4059000000000000" },
	{ "100.0", "cb 4059000000000000" },
	{ "100e0", "cb 4059000000000000" },
	{ "10000e-2", "cb 4059000000000000" },
	{ "1.0e2", "cb 4059000000000000" },
	{ "0.1", "cb 3fb999999999999a" },
	{ "123456789012345.0", "cb 42dc12218377de40" },
	{ "0.1234567890123456", "cb 3fbf9add3746f659" },
	/* what most readers get wrong */
	{ "1e23", "cb 44b52d02c7e14af6" },
	{ "8.41e21", "cb 447c7e83209e90b2" },
	{ "5e-324", "cb 0000000000000001" },
	{ "1e-323", "cb 0000000000000002" },
	{ "2.225073858507201e-308", "cb 000fffffffffffff" },
	{ "2.2250738585072014e-308", "cb 0010000000000000" },
	{ "1.7976931348623157e308", "cb 7fefffffffffffff" },
	{ "1.7976931348623157E+308", "cb 7fefffffffffffff" },
	{ "0.17976931348623157e309", "cb 7fefffffffffffff" },
	/* powers of two, whose lower neighbour is nearer than the upper one */
	{ "5.684341886080802e-14", "cb 3d30000000000000" },
	{ "5.684341886080801e-14", "cb 3d2fffffffffffff" },
	{ "9007199254740992.0", "cb 4340000000000000" },
	{ "9.007199254740992e15", "cb 4340000000000000" },
	{ "6.103515625e-05", "cb 3f10000000000000" },
	/* integers too large for 64 bits whose digits a float64 has */
	{ "100000000000000000000", "cb 4415af1d78b58c40" },
	{ "-100000000000000000000", "cb c415af1d78b58c40" },
	{ "1000000000000000000000000000000e-30", "cb 3ff0000000000000" },
	{ "0.000000000000000000000000000001e30", "cb 3ff0000000000000" },
	/* the even one of two equally near texts */
	{ "1234567890123456.8", "cb 43118b54f22aeb03" },
};

START_TEST(test_float)
{
	check_good(&floats[_i]);
}
END_TEST

static const char *const texts[] = {
	"1.50",
	"0.00",
	"-0.00",
	"1.00",
	"1.50e3",
	"1.00e5",
	"100.00",
	"18446744073709551616",
	"19999999999999999999",
	"99999999999999999999",
	"-9223372036854775809",
	"12345678901234567890123",
	"9007199254740993.0",
	"9007199254740993e0",
	"0.1000000000000000055511151231257827",
	"0.30000000000000004441",
	"3.14159265358979323846264338327950288",
	"4.9e-324",
	"4.9406564584124654e-324",
	"3e-324",
	"2e-324",
	"1e-400",
	"1e400",
	"-1e400",
	"1.7976931348623159e308",
	"1e99999999999999999999",
	"1e-99999999999999999999",
	"2.22507385850720138309e-308",
	"5.6843418860808015e-14",
	"1234567890123456.7",
	"0.12345678901234567",
	"123456.78901234567890",
};

START_TEST(test_number_as_text)
{
	const char *json = texts[_i];
	size_t n = strlen(json);
	struct rtbp_buf out = RTBP_BUF_INIT, back;
	bool is_fix = n == 1 || n == 2 || n == 4 || n == 8 || n == 16;
	size_t head = is_fix ? 2 : 3;

	ck_assert_int_eq(rtbp_json_to_mp(json, n, 0, &out, NULL), 0);
	ck_assert_msg(out.size == head + n, "%s: %s", json, hex(out.data, out.size));
	ck_assert_int_eq(out.data[0], is_fix ? 0xd4 + __builtin_ctz((unsigned)n) : 0xc7);
	if (!is_fix)
		ck_assert_uint_eq(out.data[1], n);
	ck_assert_int_eq(out.data[head - 1], RTBP_EXT_NUMBER);
	ck_assert_mem_eq(out.data + head, json, n);
	ck_assert_int_eq(to_json(&out, &back), 0);
	ck_assert_uint_eq(back.size, n);
	ck_assert_mem_eq(back.data, json, n);
	rtbp_buf_done(&back);
	rtbp_buf_done(&out);
}
END_TEST

/* Numbers of many digits: every size of ext header. */
START_TEST(test_long_number)
{
	static const struct {
		size_t n;
		const char *head;
	} sizes[] = {
		{ 2, "d501" },       { 4, "d601" },         { 8, "d701" },
		{ 16, "d801" },      { 17, "c71101" },      { 255, "c7ff01" },
		{ 256, "c8010001" }, { 65535, "c8ffff01" }, { 65536, "c90001000001" },
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rtbp_buf json = RTBP_BUF_INIT, out, back;
		size_t n_head = strlen(sizes[i].head) / 2;

		if (sizes[i].n < 6) {
			rtbp_buf_text(&json, sizes[i].n == 2 ? "-0" : "0.00");
		} else {
			rtbp_buf_text(&json, "0.");
			put_n(&json, "1", sizes[i].n - 3);
			rtbp_buf_text(&json, "0");
		}
		ck_assert_int_eq(to_mp(&json, &out), 0);
		if (sizes[i].n > 2) { /* -0 is a float64; no text of two bytes needs the ext */
			ck_assert_str_eq(hex(out.data, n_head), sizes[i].head);
			ck_assert_uint_eq(out.size, n_head + json.size);
			ck_assert_int_eq(to_json(&out, &back), 0);
			ck_assert_uint_eq(back.size, json.size);
			ck_assert_mem_eq(back.data, json.data, json.size);
			rtbp_buf_done(&back);
		}
		rtbp_buf_done(&json);
		rtbp_buf_done(&out);
	}
}
END_TEST

static const struct good strings[] = {
	{ "\"\"", "a0" },
	{ "\"a\"", "a161" },
	{ "\"\x7f\"", "a17f" },
	{ "\"0123456789012345678901234567890\"",
	  "bf 30313233343536373839303132333435363738393031323334353637383930" },
	{ "\"01234567890123456789012345678901\"",
	  "d920 3031323334353637383930313233343536373839303132333435363738393031" },
	{ "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a8 225c2f080c0a0d09" },
	{ "\"\\u0000\"", "a100" },
	{ "\"a\\u0000b\"", "a3610062" },
	{ "\"\\u0041\\u00e9\\u20ac\\uD83D\\uDE00\"", "aa 41 c3a9 e282ac f09f9880" },
	{ "\"\\uABCD\\uabcd\"", "a6 eaaf8d eaaf8d" },
	{ "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"",
	  "ad c3a9 e282ac f09f9880 f48fbfbf" },
	{ "\"\\uffff\\udbff\\udfff\"", "a7 efbfbf f48fbfbf" },
	/* lone surrogates: each becomes U+FFFD, what follows stays */
	{ "\"\\ud800\"", "a3 efbfbd" },
	{ "\"\\udc00\"", "a3 efbfbd" },
	{ "\"\\ud800x\"", "a4 efbfbd 78" },
	{ "\"\\ud800\\n\"", "a4 efbfbd 0a" },
	{ "\"\\ud800\\u0041\"", "a4 efbfbd 41" },
	{ "\"\\ud800\\ud83d\\ude00\"", "a7 efbfbd f09f9880" },
	{ "\"\\ude00\\ud83d\"", "a6 efbfbd efbfbd" },
	{ "\"\\ud83d\xf0\x9f\x98\x80\"", "a7 efbfbd f09f9880" },
	/* an escape in each kind of header, and the 16-byte steps of the scan */
	{ "\"0123456789012345678901234567\\u20ac\"",
	  "bf 30313233343536373839303132333435363738393031323334353637 e282ac" },
	{ "\"01234567890123456789012345678\\u20ac\"",
	  "d920 3031323334353637383930313233343536373839303132333435363738 e282ac" },
	{ "\"012345678901234\\\"\"", "b0 303132333435363738393031323334 22" },
	{ "\"0123456789012345\\\"\"", "b1 30313233343536373839303132333435 22" },
	{ "\"012345678901234\xc3\xa9\"", "b1 303132333435363738393031323334 c3a9" },
};

START_TEST(test_string)
{
	check_good(&strings[_i]);
}
END_TEST

static const struct good containers[] = {
	{ "[]", "90" },
	{ "{}", "80" },
	{ "[ ]", "90" },
	{ "{ }", "80" },
	{ "[[],{}]", "92 90 80" },
	{ " [ 1 , 2 ] ", "92 01 02" },
	{ " { \"a\" : 1 , \"b\" : [ ] } ", "82 a161 01 a162 90" },
	{ "[[[[1]],2],3]", "92 92 91 91 01 02 03" },
	{ "{\"a\":{\"a\":{\"a\":1}}}", "81 a161 81 a161 81 a161 01" },
	{ "{\"\":0}", "81 a0 00" },
	{ "{\"a\\u0000b\":0,\"a\":1}", "82 a3610062 00 a161 01" },
	/* duplicate keys: the last pair, at its own place */
	{ "{\"a\":1,\"a\":2}", "81 a161 02" },
	{ "{\"a\":1,\"b\":2,\"a\":3}", "82 a162 02 a161 03" },
	{ "{\"a\":1,\"\\u0061\":2}", "81 a161 02" },
	{ "{\"a\":[1,2,3],\"b\":{\"a\":1,\"a\":2},\"a\":null,\"c\":4}",
	  "83 a162 81 a161 02 a161 c0 a163 04" },
	{ "[{\"a\":1},{\"a\":2}]", "92 81 a161 01 81 a161 02" },
	{ "{\"\\ud800\":1,\"\\udfff\":2}", "81 a3efbfbd 02" },
	{ "{\"a\":1,\"a\":2,\"a\":3,\"a\":4}", "81 a161 04" },
	{ "{\"0123456789012345678901234567890123\":1,\"b\":2,"
	  "\"0123456789012345678901234567890123\":3}",
	  "82 a162 02 d922 30313233343536373839303132333435363738393031323334353637383930313233 "
	  "03" },
};

START_TEST(test_container)
{
	check_good(&containers[_i]);
}
END_TEST

struct bad {
	const char *json;
	int condition;
	size_t offset;
};

static const struct bad bads[] = {
	{ "", RTBP_JSON_E_SYNTAX, 0 },
	{ " ", RTBP_JSON_E_SYNTAX, 1 },
	{ "x", RTBP_JSON_E_SYNTAX, 0 },
	{ "nul", RTBP_JSON_E_SYNTAX, 3 },
	{ "nulL", RTBP_JSON_E_SYNTAX, 3 },
	{ "nulll", RTBP_JSON_E_SYNTAX, 4 },
	{ "True", RTBP_JSON_E_SYNTAX, 0 },
	{ "NaN", RTBP_JSON_E_SYNTAX, 0 },
	{ "Infinity", RTBP_JSON_E_SYNTAX, 0 },
	{ "-Infinity", RTBP_JSON_E_SYNTAX, 1 },
	{ "-", RTBP_JSON_E_SYNTAX, 1 },
	{ "+1", RTBP_JSON_E_SYNTAX, 0 },
	{ ".5", RTBP_JSON_E_SYNTAX, 0 },
	{ "5.", RTBP_JSON_E_SYNTAX, 2 },
	{ "5.e1", RTBP_JSON_E_SYNTAX, 2 },
	{ "01", RTBP_JSON_E_SYNTAX, 1 },
	{ "-01", RTBP_JSON_E_SYNTAX, 2 },
	{ "00", RTBP_JSON_E_SYNTAX, 1 },
	{ "1e", RTBP_JSON_E_SYNTAX, 2 },
	{ "1e+", RTBP_JSON_E_SYNTAX, 3 },
	{ "1e+-1", RTBP_JSON_E_SYNTAX, 3 },
	{ "1ex", RTBP_JSON_E_SYNTAX, 2 },
	{ "1.5.5", RTBP_JSON_E_SYNTAX, 3 },
	{ "0x10", RTBP_JSON_E_SYNTAX, 1 },
	{ "1_000", RTBP_JSON_E_SYNTAX, 1 },
	{ "1 2", RTBP_JSON_E_SYNTAX, 2 },
	{ "[", RTBP_JSON_E_SYNTAX, 1 },
	{ "]", RTBP_JSON_E_SYNTAX, 0 },
	{ "[1", RTBP_JSON_E_SYNTAX, 2 },
	{ "[1,", RTBP_JSON_E_SYNTAX, 3 },
	{ "[1,]", RTBP_JSON_E_SYNTAX, 3 },
	{ "[,1]", RTBP_JSON_E_SYNTAX, 1 },
	{ "[1 2]", RTBP_JSON_E_SYNTAX, 3 },
	{ "[1}", RTBP_JSON_E_SYNTAX, 2 },
	{ "[1]]", RTBP_JSON_E_SYNTAX, 3 },
	{ "{", RTBP_JSON_E_SYNTAX, 1 },
	{ "}", RTBP_JSON_E_SYNTAX, 0 },
	{ "{]", RTBP_JSON_E_SYNTAX, 1 },
	{ "{\"a\"}", RTBP_JSON_E_SYNTAX, 4 },
	{ "{\"a\":}", RTBP_JSON_E_SYNTAX, 5 },
	{ "{\"a\" 1}", RTBP_JSON_E_SYNTAX, 5 },
	{ "{\"a\":1,}", RTBP_JSON_E_SYNTAX, 7 },
	{ "{\"a\":1]", RTBP_JSON_E_SYNTAX, 6 },
	{ "{\"a\"::1}", RTBP_JSON_E_SYNTAX, 5 },
	{ "{,}", RTBP_JSON_E_SYNTAX, 1 },
	{ "{1:1}", RTBP_JSON_E_SYNTAX, 1 },
	{ "{a:1}", RTBP_JSON_E_SYNTAX, 1 },
	{ "{'a':1}", RTBP_JSON_E_SYNTAX, 1 },
	{ "\"", RTBP_JSON_E_SYNTAX, 1 },
	{ "\"a", RTBP_JSON_E_SYNTAX, 2 },
	{ "\"\\\"", RTBP_JSON_E_SYNTAX, 3 },
	{ "\"\\x41\"", RTBP_JSON_E_SYNTAX, 2 },
	{ "\"\\'\"", RTBP_JSON_E_SYNTAX, 2 },
	{ "\"\\U0041\"", RTBP_JSON_E_SYNTAX, 2 },
	{ "\"\\u004\"", RTBP_JSON_E_SYNTAX, 6 },
	{ "\"\\u00g0\"", RTBP_JSON_E_SYNTAX, 5 },
	{ "\"\\u+041\"", RTBP_JSON_E_SYNTAX, 3 },
	{ "\"\\ud800\\u00\"", RTBP_JSON_E_SYNTAX, 11 },
	{ "\"\\ud800\\x\"", RTBP_JSON_E_SYNTAX, 8 },
	{ "\"\n\"", RTBP_JSON_E_SYNTAX, 1 },
	{ "\"\t\"", RTBP_JSON_E_SYNTAX, 1 },
	{ "\"\x1f\"", RTBP_JSON_E_SYNTAX, 1 },
	{ "'a'", RTBP_JSON_E_SYNTAX, 0 },
	{ "/**/1", RTBP_JSON_E_SYNTAX, 0 },
	{ "1//", RTBP_JSON_E_SYNTAX, 1 },
	{ "\xef\xbb\xbf"
	  "1",
	  RTBP_JSON_E_SYNTAX, 0 },
	{ "\xc2\xa0"
	  "1",
	  RTBP_JSON_E_SYNTAX, 0 },
	{ "\v1", RTBP_JSON_E_SYNTAX, 0 },
	{ "\f1", RTBP_JSON_E_SYNTAX, 0 },
	{ "[\xff]", RTBP_JSON_E_SYNTAX, 1 },
	/* UTF-8 */
	{ "\"\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"a\xbf\"", RTBP_JSON_E_UTF8, 2 },
	{ "\"\xc0\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xc1\xbf\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xc3\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xc3(\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xe0\x80\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xe0\x9f\xbf\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xe2\x82\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xed\xa0\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xed\xbf\xbf\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xed\xa0\xbd\xed\xb8\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xf0\x80\x80\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xf0\x8f\xbf\xbf\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xf4\x90\x80\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xf5\x80\x80\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xf8\x88\x80\x80\x80\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xfe\"", RTBP_JSON_E_UTF8, 1 },
	{ "\"\xff\"", RTBP_JSON_E_UTF8, 1 },
	{ "{\"\xff\":1}", RTBP_JSON_E_UTF8, 2 },
	{ "\"\\n\xff\"", RTBP_JSON_E_UTF8, 3 },
};

START_TEST(test_bad)
{
	const struct bad *b = &bads[_i];
	struct rtbp_buf out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;
	int r;

	memset(&fault, 'x', sizeof(fault));
	rtbp_buf_text(&out, "before");
	r = rtbp_json_to_mp(b->json, strlen(b->json), 64, &out, &fault);
	ck_assert_msg(r == b->condition, "%s: %d", b->json, r);
	ck_assert_msg(fault.offset == b->offset, "%s: at %zu", b->json, fault.offset);
	ck_assert_str_eq(fault.path, "");
	ck_assert_uint_gt(strnlen(fault.text, sizeof(fault.text)), 5);
	ck_assert_uint_lt(strnlen(fault.text, sizeof(fault.text)), sizeof(fault.text));
	ck_assert_uint_eq(out.size, 6);
	ck_assert_int_eq(out.error, 0);
	ck_assert_int_eq(rtbp_json_to_mp(b->json, strlen(b->json), 64, &out, NULL), b->condition);
	rtbp_buf_done(&out);
}
END_TEST

/* NUL is no white space and no end. */
START_TEST(test_nul)
{
	struct rtbp_buf out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;

	ck_assert_int_eq(rtbp_json_to_mp("1\0", 2, 64, &out, &fault), RTBP_JSON_E_SYNTAX);
	ck_assert_uint_eq(fault.offset, 1);
	ck_assert_int_eq(rtbp_json_to_mp("\"\0\"", 3, 64, &out, &fault), RTBP_JSON_E_SYNTAX);
	ck_assert_uint_eq(fault.offset, 1);
	ck_assert_int_eq(rtbp_json_to_mp("\"\\\0\"", 4, 64, &out, &fault), RTBP_JSON_E_SYNTAX);
	ck_assert_uint_eq(fault.offset, 2);
	ck_assert_int_eq(rtbp_json_to_mp(NULL, 0, 64, &out, &fault), RTBP_JSON_E_SYNTAX);
	ck_assert_uint_eq(out.size, 0);
	rtbp_buf_done(&out);
}
END_TEST

/* Every proper beginning of a document is refused, without reading behind it. */
START_TEST(test_truncated)
{
	static const char json[] = "[{\"k\\u00e9y\":[1,-2.5e+10,true,false,null,\"\\ud83d\\ude00"
				   "\xe2\x82\xac\"],\"\":{}},[[]],\"0123456789abcdef\\n\"]";

	for (size_t n = 0; n < sizeof(json) - 1; n++) {
		struct rtbp_buf out = RTBP_BUF_INIT;
		struct rtbp_json_fault fault;
		char *copy = malloc(n ? n : 1); /* so that a sanitizer sees one byte too many */

		ck_assert_ptr_nonnull(copy);
		memcpy(copy, json, n);
		ck_assert_int_gt(rtbp_json_to_mp(copy, n, 64, &out, &fault), 0);
		ck_assert_uint_le(fault.offset, n);
		ck_assert_uint_eq(out.size, 0);
		free(copy);
		rtbp_buf_done(&out);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("json");
	TCase *t = tcase_create("json_to_mp");

	tcase_set_timeout(t, 120);
	LOOP(t, test_scalar, scalars);
	LOOP(t, test_float, floats);
	LOOP(t, test_number_as_text, texts);
	tcase_add_test(t, test_long_number);
	LOOP(t, test_string, strings);
	LOOP(t, test_container, containers);
	LOOP(t, test_bad, bads);
	tcase_add_test(t, test_nul);
	tcase_add_test(t, test_truncated);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
