/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_table.h"

#include "proto/rtbp_msg.h"
#include "proto_util.h"

static const struct {
	int code;
	const char *name, *sentence;
} errors[] = {
#define X(id, code, name, sentence) { code, name, sentence },
	RTBP_ERRORS(X)
#undef X
};

START_TEST(methods_find_themselves)
{
	for (int i = 0; i < RTBP_N_METHODS; i++) {
		const char *name = rtbp_method_name((enum rtbp_method)i);

		ck_assert_int_eq(rtbp_method_find(name, strlen(name)), i);
		ck_assert_int_eq(rtbp_method_find(name, strlen(name) - 1), -1);
	}
	ck_assert_int_eq(rtbp_method_find("", 0), -1);
	ck_assert_int_eq(rtbp_method_find("hello\0", 6), -1);
	ck_assert_int_eq(rtbp_method_find("Hello", 5), -1);
	ck_assert_int_eq(rtbp_method_find("connection", 10), -1);
	ck_assert_str_eq(rtbp_method_name(RTBP_M_SYNC), "sync");
}
END_TEST

START_TEST(notices_find_themselves)
{
	for (int i = 0; i < RTBP_N_NOTICES; i++) {
		const char *name = rtbp_notice_name((enum rtbp_notice)i);

		ck_assert_int_eq(rtbp_notice_find(name, strlen(name)), i);
	}
	ck_assert_int_eq(rtbp_notice_find("hello", 5), -1);
	ck_assert_str_eq(rtbp_notice_name(RTBP_N_CHANNEL), "channel");
}
END_TEST

START_TEST(fields_are_distinct)
{
	for (int i = 0; i < RTBP_N_FIELDS; i++) {
		for (int j = 0; j < i; j++)
			ck_assert_str_ne(rtbp_field_name((enum rtbp_field)i),
					 rtbp_field_name((enum rtbp_field)j));
	}
	ck_assert_str_eq(rtbp_field_name(RTBP_F_LAST_DISCONNECT), "last_disconnect");
}
END_TEST

/* Numbers and names are unique, each name is one that a binding may use as it stands, and every
 * error says something to a reader. */
START_TEST(errors_are_distinct)
{
	for (unsigned i = 0; i < N_OF(errors); i++) {
		ck_assert_str_eq(rtbp_error_name(errors[i].code), errors[i].name);
		ck_assert_str_eq(rtbp_error_sentence(errors[i].code), errors[i].sentence);
		ck_assert_int_ge(errors[i].code, 100);
		ck_assert_int_lt(errors[i].code, 500);
		ck_assert_uint_gt(strlen(errors[i].sentence), 10);
		ck_assert_uint_eq(strspn(errors[i].name, "abcdefghijklmnopqrstuvwxyz_"),
				  strlen(errors[i].name));
		for (unsigned j = 0; j < i; j++) {
			ck_assert_int_lt(errors[j].code, errors[i].code);
			ck_assert_str_ne(errors[j].name, errors[i].name);
		}
	}
	ck_assert_str_eq(rtbp_error_name(99), "error");
	ck_assert_str_eq(rtbp_error_name(-1), "error");
	ck_assert_uint_gt(strlen(rtbp_error_sentence(99)), 10);
}
END_TEST

/* The rules for names: expectation, then text. */
struct name {
	bool ok;
	size_t size;
	const char *text;
};

#define NAME(ok, text)                        \
	{                                     \
		ok, sizeof(text) - 1, text "" \
	}

static const struct name names[] = {
	NAME(false, ""),
	NAME(true, "a"),
	NAME(true, "*"),
	NAME(true, " "),
	NAME(true, "room:1/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
	NAME(true, "realtime:x"),
	NAME(false, "a\0b"),
	NAME(false, "\x01"),
	NAME(false, "a\tb"),
	NAME(false, "a\n"),
	NAME(false, "\x1f"),
	NAME(true, "\x20\x7e"),
	NAME(false, "\x7f"),
	NAME(false, "\xc2\x80"),
	NAME(false, "a\xc2\x85"),
	NAME(false, "\xc2\x9f"),
	NAME(true, "\xc2\xa0"),
	NAME(true, "\xc3\x80"), /* its second byte alone would be a control */
	NAME(true, "\xe0\xb2\x80"),
	NAME(true, "\xe2\x80\xa8"), /* U+2028 is a separator, no control */
	NAME(false, "\x80"),
	NAME(false, "a\xc2"), /* cut off: nothing may be read behind it */
	NAME(false, "\xc0\x80"),
	NAME(false, "\xed\xa0\x80"),
	NAME(false, "\xff"),
};

START_TEST(names_obey_the_rules)
{
	const struct name *n = &names[_i];
	char *text = (char *)exact(n->text, n->size);
	struct rtbp_str s = { text, n->size };

	ck_assert_int_eq(rtbp_topic_ok(s), n->ok);
	ck_assert_int_eq(rtbp_event_ok(s), n->ok);
	free(text);
}
END_TEST

START_TEST(names_have_a_length)
{
	char text[300];

	memset(text, 'x', sizeof(text));
	ck_assert(rtbp_topic_ok((struct rtbp_str){ text, 240 }));
	ck_assert(!rtbp_topic_ok((struct rtbp_str){ text, 241 }));
	ck_assert(rtbp_event_ok((struct rtbp_str){ text, 255 }));
	ck_assert(!rtbp_event_ok((struct rtbp_str){ text, 256 }));
	ck_assert(!rtbp_topic_ok((struct rtbp_str){ NULL, 0 }));
	/* Bytes count, not characters. */
	for (unsigned i = 0; i < 240; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	ck_assert(rtbp_topic_ok((struct rtbp_str){ text, 240 }));
	memmove(text + 1, text, 240);
	ck_assert(!rtbp_topic_ok((struct rtbp_str){ text, 241 }));
}
END_TEST

START_TEST(reserved_topics)
{
	ck_assert(!rtbp_topic_ok((struct rtbp_str){ "rtbridge:", 9 }));
	ck_assert(!rtbp_topic_ok((struct rtbp_str){ "rtbridge:x", 10 }));
	ck_assert(rtbp_topic_ok((struct rtbp_str){ "rtbridge", 8 }));
	ck_assert(rtbp_topic_ok((struct rtbp_str){ "rtbridgex:", 10 }));
	ck_assert(rtbp_topic_ok((struct rtbp_str){ "Rtbridge:", 9 }));
	ck_assert(rtbp_topic_ok((struct rtbp_str){ "xrtbridge:", 10 }));
	ck_assert(rtbp_event_ok((struct rtbp_str){ "rtbridge:x", 10 }));
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("table");

	tcase_add_test(c, methods_find_themselves);
	tcase_add_test(c, notices_find_themselves);
	tcase_add_test(c, fields_are_distinct);
	tcase_add_test(c, errors_are_distinct);
	LOOP(c, names_obey_the_rules, names);
	tcase_add_test(c, names_have_a_length);
	tcase_add_test(c, reserved_topics);
	return run_tests("table", c);
}
