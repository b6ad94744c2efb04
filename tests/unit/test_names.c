/* SPDX-License-Identifier: MIT */
/* daemon/app/names.h: who is asked for, how often, and what is kept. */
#include <check.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/names.h"
#include "base/accounts.h"
#include "suite.h"

static uint64_t now;
static unsigned n_asked;
static uid_t last_asked;
static const char *prefix = "user";
static int error;     /* the answer to all */
static bool all_gone; /* all users are */
static struct names *names;

static uint64_t test_now(void *ctx)
{
	(void)ctx;
	return now;
}

static const struct clock test_clock = { .now_ms = test_now };

static int find(uid_t uid, char *ret)
{
	n_asked++;
	last_asked = uid;
	if (error == 0)
		snprintf(ret, NAMES_BYTES_MAX + 1, "%s%u", prefix, (unsigned)uid);
	if (error == 0 && all_gone)
		ret[0] = '\0';
	return error;
}

int __real_accounts_name(uid_t uid, char *ret, size_t size);
int __wrap_accounts_name(uid_t uid, char *ret, size_t size);

int __wrap_accounts_name(uid_t uid, char *ret, size_t size)
{
	return error ? error : __real_accounts_name(uid, ret, size);
}

static void setup(void)
{
	now = 1000;
	n_asked = 0;
	prefix = "user";
	error = 0;
	all_gone = false;
	names = names_new(&test_clock, find);
	ck_assert_ptr_nonnull(names);
}

static void teardown(void)
{
	ck_assert_ptr_null(names_free(names));
}

static struct name *take(uid_t uid)
{
	struct name *name = names_take(names, uid);

	ck_assert_ptr_nonnull(name);
	return name;
}

START_TEST(nothing_is_asked_without_need)
{
	struct name *a = take(7);

	ck_assert_str_eq(name_text(a), "");
	ck_assert_uint_eq(n_asked, 0);
	names_need(names, false);
	ck_assert_uint_eq(n_asked, 0);
	/* Who is there already gets its name in its place. */
	names_need(names, true);
	ck_assert_str_eq(name_text(a), "user7");
	ck_assert_uint_eq(n_asked, 1);
	names_give(names, a);
}
END_TEST

START_TEST(one_question_for_each_user)
{
	struct name *a, *b, *c;

	names_need(names, true);
	a = take(1);
	b = take(1);
	c = take(2);
	ck_assert_ptr_eq(a, b);
	ck_assert_str_eq(name_text(c), "user2");
	ck_assert_uint_eq(n_asked, 2);
	names_give(names, a);
	names_give(names, b);
	/* Gone, and back within the minute. */
	now += NAMES_AGE_MS - 1;
	a = take(1);
	ck_assert_uint_eq(n_asked, 2);
	now++;
	b = take(1);
	ck_assert_uint_eq(n_asked, 3);
	ck_assert_uint_eq(last_asked, 1);
	names_give(names, a);
	names_give(names, b);
	names_give(names, c);
}
END_TEST

START_TEST(a_reload_asks_anew)
{
	struct name *a, *gone;

	names_need(names, true);
	a = take(1);
	gone = take(2);
	names_give(names, gone);
	prefix = "other";
	names_need(names, true);
	ck_assert_str_eq(name_text(a), "other1");
	ck_assert_uint_eq(n_asked, 3); /* nobody asks for who has gone */
	gone = take(2);
	ck_assert_str_eq(name_text(gone), "other2");
	/* Needed no more, and again: an old answer does not count. */
	names_need(names, false);
	names_give(names, take(1));
	ck_assert_uint_eq(n_asked, 4);
	prefix = "third";
	names_need(names, true);
	ck_assert_str_eq(name_text(a), "third1");
	names_give(names, a);
	names_give(names, gone);
}
END_TEST

START_TEST(without_an_answer_a_name_stays)
{
	struct name *a, *never;

	names_need(names, true);
	a = take(1);
	error = -ENOENT; /* so says one whose server is away */
	names_need(names, true);
	ck_assert_uint_eq(n_asked, 2);
	ck_assert_str_eq(name_text(a), "user1");
	error = -EIO;
	now += NAMES_AGE_MS;
	names_give(names, take(1));
	ck_assert_uint_eq(n_asked, 3);
	ck_assert_str_eq(name_text(a), "user1");
	/* Who was never told has none, and no command in a loop asks for it again and again. */
	never = take(2);
	ck_assert_str_eq(name_text(never), "");
	names_give(names, take(2));
	ck_assert_uint_eq(n_asked, 4);
	error = 0;
	now += NAMES_AGE_MS;
	names_give(names, take(2));
	ck_assert_str_eq(name_text(never), "user2");
	/* That there is no such user any more is an answer. */
	all_gone = true;
	names_need(names, true);
	ck_assert_str_eq(name_text(a), "");
	names_give(names, a);
	names_give(names, never);
}
END_TEST

START_TEST(few_are_kept)
{
	names_need(names, true);
	for (uid_t uid = 0; uid <= NAMES_IDLE_MAX; uid++)
		names_give(names, take(uid));
	ck_assert_uint_eq(n_asked, NAMES_IDLE_MAX + 1);
	names_give(names, take(1));
	ck_assert_uint_eq(n_asked, NAMES_IDLE_MAX + 1);
	names_give(names, take(0)); /* the one that went first */
	ck_assert_uint_eq(n_asked, NAMES_IDLE_MAX + 2);
	names_give(names, take(2)); /* pushed out by it; 1 had been used later */
	ck_assert_uint_eq(n_asked, NAMES_IDLE_MAX + 3);
}
END_TEST

START_TEST(of_the_system)
{
	char text[NAMES_BYTES_MAX + 1] = "x";
	const struct passwd *root = getpwuid(0);

	ck_assert_ptr_nonnull(root);
	ck_assert_int_eq(names_of_system(0, text), 0);
	ck_assert_str_eq(text, root->pw_name);
	/* Without an answer it is left as it was; that there is none is an answer. */
	error = -ENOENT;
	ck_assert_int_eq(names_of_system(0, text), -ENOENT);
	ck_assert_str_eq(text, root->pw_name);
	error = 0;
	ck_assert_int_eq(names_of_system(4294967294, text), 0);
	ck_assert_str_eq(text, "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("names");
	TCase *t = tcase_create("names");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nothing_is_asked_without_need);
	tcase_add_test(t, one_question_for_each_user);
	tcase_add_test(t, a_reload_asks_anew);
	tcase_add_test(t, without_an_answer_a_name_stays);
	tcase_add_test(t, few_are_kept);
	tcase_add_test(t, of_the_system);
	suite_add_tcase(s, t);
	return suite_run(s);
}
