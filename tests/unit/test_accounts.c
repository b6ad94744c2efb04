/* SPDX-License-Identifier: MIT */
/* daemon/base/accounts.h. The C library's questions are answered here: nobody can break nsswitch.conf
 * for a test. */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/accounts.h"
#include "suite.h"

enum { MIB = 1 << 20 };

static int answers[4]; /* errno of the first questions */
static unsigned n_asked;
static size_t needed; /* of the buffer, bytes */
static bool known;
static char name[300];

int __wrap_getpwuid_r(uid_t uid, struct passwd *to, char *buf, size_t size, struct passwd **ret);
int __wrap_getpwnam_r(const char *user, struct passwd *to, char *buf, size_t size,
		      struct passwd **ret);
int __wrap_getgrnam_r(const char *group, struct group *to, char *buf, size_t size,
		      struct group **ret);

static int answer(char *buf, size_t size)
{
	int r = n_asked < sizeof(answers) / sizeof(*answers) ? answers[n_asked] : 0;

	n_asked++;
	if (r == 0 && needed > size)
		r = ERANGE;
	if (r == 0)
		memset(buf, 'x', size); /* all of it is there */
	return r;
}

int __wrap_getpwuid_r(uid_t uid, struct passwd *to, char *buf, size_t size, struct passwd **ret)
{
	int r = answer(buf, size);

	*to = (struct passwd){ .pw_uid = uid, .pw_name = name };
	*ret = r == 0 && known ? to : NULL;
	return r;
}

int __wrap_getpwnam_r(const char *user, struct passwd *to, char *buf, size_t size,
		      struct passwd **ret)
{
	int r = answer(buf, size);

	*to = (struct passwd){ .pw_uid = 7 };
	*ret = r == 0 && known && strcmp(user, name) == 0 ? to : NULL;
	return r;
}

int __wrap_getgrnam_r(const char *group, struct group *to, char *buf, size_t size,
		      struct group **ret)
{
	int r = answer(buf, size);

	*to = (struct group){ .gr_gid = 8 };
	*ret = r == 0 && known && strcmp(group, name) == 0 ? to : NULL;
	return r;
}

static void setup(void)
{
	memset(answers, 0, sizeof(answers));
	n_asked = 0;
	needed = 0;
	known = true;
	strcpy(name, "ann");
}

/* Each of the three. @ret: left as it was but for 0. */
static int ask(int which)
{
	char text[256] = "before";
	uid_t id = 99;
	int r;

	if (which == 0) {
		r = accounts_name(5, text, sizeof(text));
		ck_assert_str_eq(text, r == 0 ? name : "before");
		return r;
	}
	r = which == 1 ? accounts_uid("ann", &id) : accounts_gid("ann", &id);
	ck_assert_uint_eq(id, r == 0 ? (which == 1 ? 7U : 8U) : 99U);
	return r;
}

START_TEST(found)
{
	ck_assert_int_eq(ask(_i), 0);
	ck_assert_uint_eq(n_asked, 1);
}
END_TEST

START_TEST(none)
{
	known = false;
	ck_assert_int_eq(ask(_i), ACCOUNTS_NONE);
}
END_TEST

/* Not the same as none: another time there may be one. */
START_TEST(errors)
{
	static const int all[] = { ENOENT, EIO, EMFILE, ETIMEDOUT, EINVAL };

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		n_asked = 0;
		answers[0] = all[i];
		ck_assert_int_eq(ask(_i), -all[i]);
		ck_assert_uint_eq(n_asked, 1);
	}
}
END_TEST

START_TEST(asked_again)
{
	answers[0] = EINTR;
	answers[1] = ERANGE;
	answers[2] = EINTR;
	ck_assert_int_eq(ask(_i), 0);
	ck_assert_uint_eq(n_asked, 4);
}
END_TEST

START_TEST(large_entries)
{
	needed = MIB;
	ck_assert_int_eq(ask(_i), 0);
	needed = MIB + 1;
	ck_assert_int_eq(ask(_i), -ERANGE);
}
END_TEST

START_TEST(long_names)
{
	char text[256];

	memset(name, 'n', 255);
	name[255] = '\0';
	ck_assert_int_eq(accounts_name(5, text, sizeof(text)), 0);
	ck_assert_str_eq(text, name);
	ck_assert_int_eq(accounts_name(5, text, sizeof(text) - 1), ACCOUNTS_NONE);
	ck_assert_str_eq(text, name);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("accounts");
	TCase *t = tcase_create("accounts");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, found, 0, 3);
	tcase_add_loop_test(t, none, 0, 3);
	tcase_add_loop_test(t, errors, 0, 3);
	tcase_add_loop_test(t, asked_again, 0, 3);
	tcase_add_loop_test(t, large_entries, 0, 3);
	tcase_add_test(t, long_names);
	suite_add_tcase(s, t);
	return suite_run(s);
}
