/* SPDX-License-Identifier: MIT */
/* acl_is_same(): whether a reload has brought other rules. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/acl_util.h"
#include "suite.h"

static struct acl *rules_of(const char *const *texts)
{
	struct acl *a = acl_new(OWNER, SOCKET_GROUP);
	char why[256];

	for (; *texts; texts++) {
		if (strncmp(*texts, "own", 3) == 0)
			ck_assert_int_eq(acl_identity(a, *texts, why, sizeof(why)), 0);
		else
			ck_assert_int_eq(acl_rule(a, *texts, why, sizeof(why)), 0);
	}
	return a;
}

START_TEST(told_apart)
{
	static const char *const sets[][4] = {
		{ NULL },
		{ "allow * read topic a*" },
		{ "deny * read topic a*" },
		{ "allow * read topic a?" },
		{ "allow * read topic a" },
		{ "allow * read topic %u" },
		{ "allow * write topic a*" },
		{ "allow user 0 read topic a*" },
		{ "allow group 0 read topic a*" },
		{ "allow user 1 read topic a*" },
		{ "allow * admin" },
		{ "allow * read table public.t" },
		{ "allow * read table public.*" },
		{ "allow * read table t.public" },
		{ "allow * read topic a*", "own *" },
		{ "allow * read topic a*", "own user 0" },
		{ "allow * read topic a*", "deny * read topic b" },
		{ "deny * read topic b", "allow * read topic a*" },
	};
	enum { N = sizeof(sets) / sizeof(*sets) };
	struct acl *one[N], *two[N];

	for (unsigned i = 0; i < N; i++) {
		one[i] = rules_of(sets[i]);
		two[i] = rules_of(sets[i]);
	}
	for (unsigned i = 0; i < N; i++) {
		for (unsigned k = 0; k < N; k++)
			ck_assert_msg(acl_is_same(one[i], two[k]) == (i == k), "%u and %u", i, k);
	}
	acl_set_socket_group(two[1], SOCKET_GROUP + 1);
	ck_assert(!acl_is_same(one[1], two[1]));
	for (unsigned i = 0; i < N; i++) {
		acl_free(one[i]);
		acl_free(two[i]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("acl_same");
	TCase *t = tcase_create("same");

	tcase_add_test(t, told_apart);
	suite_add_tcase(s, t);
	return suite_run(s);
}
