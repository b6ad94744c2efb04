/* SPDX-License-Identifier: MIT */
/* term: never less than what Erlang's term_to_binary() gives. The figures beside the values are of
 * Erlang (version byte included). */
#include "realtime/term.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_json.h"
#include "suite.h"

static const struct {
	const char *json;
	size_t erlang;
} values[] = {
	{ "{}", 6 },
	{ "[]", 2 },
	{ "\"\"", 6 },
	{ "\"abc\"", 9 },
	{ "null", 6 },
	{ "true", 7 },
	{ "false", 8 },
	{ "0", 3 },
	{ "255", 3 },
	{ "-1", 6 },
	{ "2147483647", 6 },
	{ "2147483648", 8 },
	{ "18446744073709551615", 12 },
	{ "1.5", 10 },
	{ "[[\"\"],[\"\"]]", 29 },
	{ "{\"a\":1}", 14 },
	{ "{\"members\":{\"k\":{\"n\":1.5}}}", 49 },
	{ "[null,true,false]", 25 },
};

START_TEST(at_least_as_large)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_val v;

	ck_assert_int_eq(rtbp_json_to_mp(values[_i].json, strlen(values[_i].json), 64, &b, NULL),
			 0);
	v = (struct rtbp_val){ b.data, b.size };
	ck_assert_uint_ge(term_size(v), values[_i].erlang);
	/* And not so much more that it would be of no use: numbers and atoms are small. */
	ck_assert_uint_le(term_size(v), 3 * values[_i].erlang + 32);
	rtbp_buf_done(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("term");
	TCase *t = tcase_create("term");

	tcase_add_loop_test(t, at_least_as_large, 0, sizeof(values) / sizeof(*values));
	suite_add_tcase(s, t);
	return suite_run(s);
}
