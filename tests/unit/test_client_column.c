/* SPDX-License-Identifier: MIT */
/* librtbridge: the values of a changed row. */
#include <check.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <rtbridge/rtbridge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_buf.h"
#include "proto/rtbp_pack.h"
#include "suite.h"

static const char row_json[] =
	"{\"null\":null,\"true\":true,\"false\":false,\"zero\":0,\"one\":1,\"minus\":-7,"
	"\"big\":9007199254740993,\"max\":9223372036854775807,\"min\":-9223372036854775808,"
	"\"unsigned\":18446744073709551615,\"float\":1.5,\"whole\":1e3,\"far\":1e300,"
	"\"numeric\":1.50,\"digits\":12345678901234567890.123,\"huge\":12345678901234567890123,"
	"\"two\":2.00,\"minus two\":-2.00,\"max as text\":9223372036854775807.00,"
	"\"over\":9223372036854775808.00,\"min as text\":-9223372036854775808.00,"
	"\"under\":-9223372036854775809.00,\"infinite\":1e400,\"tiny\":1.50e-400,"
	"\"scaled\":1234500e-2,\"exponent\":1.500E+3,\"cents\":1.00e-2,"
	"\"zeros\":0.00,\"minus zeros\":-0.00,\"zeros e\":0.00e99999999999,"
	"\"text\":\"gr\\u00fc\\u00df dich\",\"empty\":\"\",\"digits in text\":\"42\","
	"\"json\":{\"a\":[1,1.50,null]},\"array\":[\"x\",\"y\"],\"\":\"no name\"}";

static struct rtb_change change;
static void *row;

static void setup(void)
{
	size_t size;

	ck_assert_int_eq(rtb_json_to_msgpack(row_json, strlen(row_json), &row, &size, NULL, 0), 0);
	change = (struct rtb_change){ .type = "INSERT", .record = row, .record_size = size };
}

static void teardown(void)
{
	rtb_free(row);
}

START_TEST(absent_and_null)
{
	const void *value;
	const char *text;
	int64_t i = 5;
	char *copy;
	size_t n;
	double d;
	bool b;

	ck_assert_int_eq(rtb_change_bool(&change, RTB_NEW, "absent", &b), -ENOENT);
	ck_assert_int_eq(rtb_change_int(&change, RTB_NEW, "absent", &i), -ENOENT);
	ck_assert_int_eq(rtb_change_double(&change, RTB_NEW, "absent", &d), -ENOENT);
	ck_assert_int_eq(rtb_change_str(&change, RTB_NEW, "absent", &text, &n), -ENOENT);
	ck_assert_int_eq(rtb_change_text(&change, RTB_NEW, "absent", &copy), -ENOENT);
	ck_assert_int_eq(rtb_change_value(&change, RTB_NEW, "absent", &value, &n), -ENOENT);
	/* No such row. */
	ck_assert_int_eq(rtb_change_int(&change, RTB_OLD, "one", &i), -ENOENT);
	ck_assert_int_eq(rtb_change_value(&change, RTB_OLD, "one", &value, &n), -ENOENT);
	ck_assert_int_eq(rtb_change_bool(&change, RTB_NEW, "null", &b), -ENODATA);
	ck_assert_int_eq(rtb_change_int(&change, RTB_NEW, "null", &i), -ENODATA);
	ck_assert_int_eq(rtb_change_double(&change, RTB_NEW, "null", &d), -ENODATA);
	ck_assert_int_eq(rtb_change_str(&change, RTB_NEW, "null", &text, &n), -ENODATA);
	ck_assert_int_eq(rtb_change_text(&change, RTB_NEW, "null", &copy), -ENODATA);
	ck_assert_int_eq(rtb_change_value(&change, RTB_NEW, "null", &value, &n), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_mem_eq(value, "\xc0", 1);
	ck_assert_int_eq(i, 5);
}
END_TEST

START_TEST(old_and_new)
{
	struct rtb_change both = change;
	size_t size;
	int64_t i;
	void *old;

	ck_assert_int_eq(rtb_json_to_msgpack("{\"one\":11}", 10, &old, &size, NULL, 0), 0);
	both.old_record = old;
	both.old_record_size = size;
	ck_assert_int_eq(rtb_change_int(&both, RTB_OLD, "one", &i), 0);
	ck_assert_int_eq(i, 11);
	ck_assert_int_eq(rtb_change_int(&both, RTB_NEW, "one", &i), 0);
	ck_assert_int_eq(i, 1);
	ck_assert_int_eq(rtb_change_int(&both, RTB_OLD, "zero", &i), -ENOENT);
	rtb_free(old);
}
END_TEST

START_TEST(bools)
{
	static const char *const none[] = { "zero", "one", "float", "numeric", "text", "json" };
	bool b = false;

	ck_assert_int_eq(rtb_change_bool(&change, RTB_NEW, "true", &b), 0);
	ck_assert(b);
	ck_assert_int_eq(rtb_change_bool(&change, RTB_NEW, "false", &b), 0);
	ck_assert(!b);
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
		ck_assert_int_eq(rtb_change_bool(&change, RTB_NEW, none[i], &b), RTB_E_TYPE);
}
END_TEST

START_TEST(ints)
{
	static const struct {
		const char *column;
		int64_t value;
	} good[] = {
		{ "zero", 0 },
		{ "one", 1 },
		{ "minus", -7 },
		{ "big", 9007199254740993 },
		{ "max", INT64_MAX },
		{ "min", INT64_MIN },
		{ "whole", 1000 },
		{ "two", 2 },
		{ "minus two", -2 },
		{ "max as text", INT64_MAX },
		{ "min as text", INT64_MIN },
		{ "scaled", 12345 },
		{ "exponent", 1500 },
		{ "zeros", 0 },
		{ "minus zeros", 0 },
		{ "zeros e", 0 },
	};
	static const char *const bad[] = { "true",    "unsigned",      "float",  "far",
					   "numeric", "huge",          "digits", "over",
					   "under",   "infinite",      "tiny",   "cents",
					   "text",    "empty",         "json",   "array",
					   "",        "digits in text" };
	int64_t i;

	for (size_t k = 0; k < sizeof(good) / sizeof(*good); k++) {
		i = 77;
		ck_assert_msg(rtb_change_int(&change, RTB_NEW, good[k].column, &i) == 0 &&
				      i == good[k].value,
			      "%s: %lld", good[k].column, (long long)i);
	}
	i = 77;
	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++)
		ck_assert_msg(rtb_change_int(&change, RTB_NEW, bad[k], &i) == RTB_E_TYPE && i == 77,
			      "%s: %lld", bad[k], (long long)i);
}
END_TEST

START_TEST(doubles)
{
	static const struct {
		const char *column;
		double value;
	} good[] = {
		{ "zero", 0 },
		{ "minus", -7 },
		{ "big", 9007199254740992.0 },
		{ "max", 0x1p63 },
		{ "unsigned", 0x1p64 },
		{ "float", 1.5 },
		{ "whole", 1000 },
		{ "far", 1e300 },
		{ "numeric", 1.5 },
		{ "digits", 12345678901234567890.123 },
		{ "huge", 12345678901234567890123.0 },
		{ "minus two", -2 },
		{ "tiny", 0 },
		{ "scaled", 12345 },
		{ "exponent", 1500 },
		{ "cents", 0.01 },
		{ "zeros e", 0 },
	};
	static const char *const bad[] = { "true", "infinite", "text", "digits in text", "json" };
	double d;

	for (size_t k = 0; k < sizeof(good) / sizeof(*good); k++) {
		d = 77;
		ck_assert_msg(rtb_change_double(&change, RTB_NEW, good[k].column, &d) == 0 &&
				      d == good[k].value,
			      "%s: %a", good[k].column, d);
	}
	ck_assert_int_eq(rtb_change_double(&change, RTB_NEW, "minus zeros", &d), 0);
	ck_assert(d == 0 && signbit(d));
	d = 77;
	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++)
		ck_assert_msg(rtb_change_double(&change, RTB_NEW, bad[k], &d) == RTB_E_TYPE &&
				      d == 77,
			      "%s: %a", bad[k], d);
}
END_TEST

/* A row with one column "n", a number of this text. */
static struct rtb_change number(struct rtbp_buf *b, int8_t type, const char *text)
{
	rtbp_buf_reset(b, 65536);
	rtbp_pack_map(b, 1);
	rtbp_pack_text(b, "n");
	rtbp_pack_ext(b, type, text, strlen(text));
	ck_assert(rtbp_buf_ok(b));
	return (struct rtb_change){ .record = b->data, .record_size = b->size };
}

static void check_double(struct rtbp_buf *b, const char *text)
{
	struct rtb_change ch = number(b, 1, text);
	double want = strtod(text, NULL), d = 0;
	int r = rtb_change_double(&ch, RTB_NEW, "n", &d);

	if (isinf(want))
		ck_assert_msg(r == RTB_E_TYPE, "%s: %a", text, d);
	else
		ck_assert_msg(r == 0 && d == want, "%s: %d %a", text, r, d);
}

/* In the locale C, where it goes by a point. */
START_TEST(doubles_as_the_c_library)
{
	/* Next to the smallest ones, next to the largest, between two. */
	static const char *const hard[] = {
		"2.2250738585072011e-308",
		"0.500000000000000166533453693773481063544750213623046875",
		"1.7976931348623157e308",
		"1.7976931348623158e308",
		"1.7976931348623159e308",
		"1e-324",
		"5e-324",
		"3.00e-324",
		"9007199254740993",
		"9007199254740993.00000000000000000000000000000000000000000000000000000000001",
	};
	struct rtbp_buf b = RTBP_BUF_INIT;
	uint64_t seed = 1;
	char text[100];

	for (size_t i = 0; i < sizeof(hard) / sizeof(*hard); i++)
		check_double(&b, hard[i]);
	for (int i = 0; i < 20000; i++) {
		int n = 1 + (int)((seed >> 40) % 40), at = 0;

		for (int k = 0; k < n; k++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			if (k == n / 2 && k > 0)
				text[at++] = '.';
			text[at++] = (char)('0' + (seed >> 33) % 10);
		}
		(void)snprintf(text + at, sizeof(text) - (size_t)at, "e%d",
			       (int)((seed >> 35) % 700) - 350);
		check_double(&b, text);
	}
	rtbp_buf_done(&b);
}
END_TEST

/* A locale that writes 1,5; made for this test, since a machine may have none. */
START_TEST(doubles_in_another_locale)
{
	char dir[] = "/tmp/rtb-locale-XXXXXX", cmd[256], *got, *text;
	double d;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(cmd, sizeof(cmd), "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>%s/log", dir,
		       dir);
	(void)!system(cmd);
	setenv("LOCPATH", dir, 1);
	got = setlocale(LC_ALL, "de_DE.UTF-8");
	(void)snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	ck_assert_int_eq(system(cmd), 0);
	ck_assert_msg(got != NULL, "localedef with de_DE is needed: packages libc-bin and locales");
	ck_assert(strtod("1,5", NULL) == 1.5);
	ck_assert_int_eq(rtb_change_double(&change, RTB_NEW, "numeric", &d), 0);
	ck_assert(d == 1.5);
	ck_assert_int_eq(rtb_change_double(&change, RTB_NEW, "float", &d), 0);
	ck_assert(d == 1.5);
	ck_assert_int_eq(rtb_change_text(&change, RTB_NEW, "float", &text), 0);
	ck_assert_str_eq(text, "1.5");
	rtb_free(text);
}
END_TEST

/* Halfway between two doubles, and a digit far behind that decides; digits without end. */
START_TEST(more_digits_than_anybody_needs)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	char *text = calloc(1, 140000);
	struct rtb_change ch;
	int64_t i;
	double d;

	strcpy(text, "9007199254740993.");
	memset(text + 17, '0', 100000);
	ch = number(&b, 1, text);
	ck_assert_int_eq(rtb_change_double(&ch, RTB_NEW, "n", &d), 0);
	ck_assert(d == 9007199254740992.0);
	ck_assert_int_eq(rtb_change_int(&ch, RTB_NEW, "n", &i), 0);
	ck_assert_int_eq(i, 9007199254740993);
	text[100016] = '1';
	ch = number(&b, 1, text);
	ck_assert_int_eq(rtb_change_double(&ch, RTB_NEW, "n", &d), 0);
	ck_assert(d == 9007199254740994.0);
	ck_assert_int_eq(rtb_change_int(&ch, RTB_NEW, "n", &i), RTB_E_TYPE);
	memset(text, '0', 100000);
	strcpy(text + 100000, "12");
	ch = number(&b, 1, text);
	ck_assert_int_eq(rtb_change_double(&ch, RTB_NEW, "n", &d), 0);
	ck_assert(d == 12);
	memset(text, '9', 131000);
	strcpy(text + 131000, "e-130999");
	ch = number(&b, 1, text);
	ck_assert_int_eq(rtb_change_double(&ch, RTB_NEW, "n", &d), 0);
	ck_assert(d == 10);
	free(text);
	rtbp_buf_done(&b);
}
END_TEST

START_TEST(what_is_no_number)
{
	static const char *const bad[] = { "",   "-",    "1.",  ".5",  "1e",  "1e+",  "+1", "1x",
					   " 1", "0x10", "nan", "inf", "1,5", "1..2", "--1" };
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtb_change ch;
	int64_t i;
	double d;
	char *s;

	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++) {
		ch = number(&b, 1, bad[k]);
		ck_assert_int_eq(rtb_change_double(&ch, RTB_NEW, "n", &d), RTB_E_TYPE);
		ck_assert_int_eq(rtb_change_int(&ch, RTB_NEW, "n", &i), RTB_E_TYPE);
		ck_assert_int_eq(rtb_change_text(&ch, RTB_NEW, "n", &s), RTB_E_TYPE);
	}
	ch = number(&b, 2, "1");
	ck_assert_int_eq(rtb_change_double(&ch, RTB_NEW, "n", &d), RTB_E_TYPE);
	ck_assert_int_eq(rtb_change_text(&ch, RTB_NEW, "n", &s), RTB_E_TYPE);
	rtbp_buf_done(&b);
}
END_TEST

START_TEST(strings)
{
	static const char *const bad[] = { "true", "one", "numeric", "json", "array" };
	const char *s;
	size_t n = 9;

	ck_assert_int_eq(rtb_change_str(&change, RTB_NEW, "text", &s, &n), 0);
	ck_assert_uint_eq(n, 11);
	ck_assert_mem_eq(s, "gr\u00fc\u00df dich", 11);
	ck_assert_int_eq(rtb_change_str(&change, RTB_NEW, "empty", &s, &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(rtb_change_str(&change, RTB_NEW, "", &s, &n), 0);
	ck_assert_uint_eq(n, 7);
	for (size_t k = 0; k < sizeof(bad) / sizeof(*bad); k++)
		ck_assert_int_eq(rtb_change_str(&change, RTB_NEW, bad[k], &s, &n), RTB_E_TYPE);
}
END_TEST

START_TEST(texts)
{
	static const struct {
		const char *column, *text;
	} good[] = {
		{ "true", "true" },
		{ "false", "false" },
		{ "minus", "-7" },
		{ "unsigned", "18446744073709551615" },
		{ "float", "1.5" },
		{ "numeric", "1.50" },
		{ "huge", "12345678901234567890123" },
		{ "exponent", "1.500E+3" },
		{ "text", "gr\u00fc\u00df dich" },
		{ "empty", "" },
		{ "json", "{\"a\":[1,1.50,null]}" },
		{ "array", "[\"x\",\"y\"]" },
	};
	const void *value;
	size_t size;
	char *s;

	for (size_t k = 0; k < sizeof(good) / sizeof(*good); k++) {
		ck_assert_int_eq(rtb_change_text(&change, RTB_NEW, good[k].column, &s), 0);
		ck_assert_str_eq(s, good[k].text);
		rtb_free(s);
	}
	ck_assert_int_eq(rtb_change_value(&change, RTB_NEW, "json", &value, &size), 0);
	ck_assert_int_eq(rtb_msgpack_to_json(value, size, &s, NULL, NULL, 0), 0);
	ck_assert_str_eq(s, "{\"a\":[1,1.50,null]}");
	rtb_free(s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_column");
	TCase *t = tcase_create("column");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, absent_and_null);
	tcase_add_test(t, old_and_new);
	tcase_add_test(t, bools);
	tcase_add_test(t, ints);
	tcase_add_test(t, doubles);
	tcase_add_test(t, doubles_as_the_c_library);
	tcase_add_test(t, doubles_in_another_locale);
	tcase_add_test(t, more_digits_than_anybody_needs);
	tcase_add_test(t, what_is_no_number);
	tcase_add_test(t, strings);
	tcase_add_test(t, texts);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
