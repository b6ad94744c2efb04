/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include "suite.h"

static const struct {
	const char *from, *to;
} texts[] = {
	{ "", "" },
	{ "plain words", "plain words" },
	{ "a\x1b]0;x\x07\n\x7f", "a?]0;x? ?" },
	{ "\xc2\x9b"
	  "31m",
	  "??31m" },
	{ "\xc2\xa0\xc3\xa9\xe2\x82\xac", "\xc2\xa0\xc3\xa9\xe2\x82\xac" },
	{ "caf\xe9 \xc3\xa9", "caf? ??" },
	{ "\xc2", "?" },
};

START_TEST(cleaned)
{
	char text[64];

	snprintf(text, sizeof(text), "%s", texts[_i].from);
	text_clean(text);
	ck_assert_str_eq(text, texts[_i].to);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("text");
	TCase *t = tcase_create("text");

	tcase_add_loop_test(t, cleaned, 0, sizeof(texts) / sizeof(*texts));
	suite_add_tcase(s, t);
	return suite_run(s);
}
