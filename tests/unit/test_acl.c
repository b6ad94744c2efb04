/* SPDX-License-Identifier: MIT */
/* daemon/hub/acl.h: who may do what. */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_util.h"
#include "tests/unit/acl_util.h"
#include "suite.h"

enum { BOB = 1002, INTERNS = 2002 };

static const gid_t interns[] = { 5, INTERNS, 7 };
static const struct acl_who bob = {
	.uid = BOB, .gid = BOB, .groups = interns, .n_groups = 3, .name = "bob"
};

static bool may_read(const struct acl_who *who, const char *schema, const char *table)
{
	return acl_table(acl, who, str(schema), str(table));
}

/* ---- the defaults ---- */

START_TEST(without_rules)
{
	static const gid_t groups[] = { 1, SOCKET_GROUP };
	const struct acl_who all[] = {
		{ .uid = 0, .gid = 0 },
		{ .uid = OWNER, .gid = 1 },
		{ .uid = ALICE, .gid = SOCKET_GROUP },
		{ .uid = ALICE, .gid = 1, .groups = groups, .n_groups = 2 },
	};
	const struct acl_who none[] = {
		{ .uid = ALICE, .gid = 1 },
		{ .uid = ALICE, .gid = 1, .groups = groups, .n_groups = 1 },
		{ .uid = SOCKET_GROUP, .gid = OWNER }, /* a uid is no gid */
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		ck_assert(acl_may_attach(acl, &all[i]) && acl_admin(acl, &all[i]));
		ck_assert(may(&all[i], ACL_READ | ACL_WRITE | ACL_PRESENCE, "any"));
		ck_assert(may_read(&all[i], "public", "t") && may_read(&all[i], "*", "*"));
		ck_assert(!acl_needs_own_identity(acl, &all[i]));
	}
	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
		ck_assert(!acl_may_attach(acl, &none[i]) && !acl_admin(acl, &none[i]));
		ck_assert(!may(&none[i], ACL_READ, "any") && !may(&none[i], ACL_WRITE, "any"));
		ck_assert(!may(&none[i], ACL_PRESENCE, "any"));
		ck_assert(!may_read(&none[i], "public", "t") && !may_read(&none[i], "*", "*"));
	}
	ck_assert(!acl_needs_names(acl));
	ck_assert(acl_is_owner(acl, 0) && acl_is_owner(acl, OWNER) && !acl_is_owner(acl, ALICE));
}
END_TEST

START_TEST(socket_group)
{
	const struct acl_who member = { .uid = ALICE, .gid = SOCKET_GROUP };
	const struct acl_who other = { .uid = ALICE, .gid = INTERNS };
	const struct acl_who odd = { .uid = ALICE, .gid = (gid_t)-1 };

	acl_set_socket_group(acl, INTERNS);
	ck_assert(!acl_may_attach(acl, &member) && acl_may_attach(acl, &other));
	acl_set_socket_group(acl, (gid_t)-1);
	ck_assert(!acl_may_attach(acl, &member) && !acl_may_attach(acl, &other));
	ck_assert(!acl_may_attach(acl, &odd));
}
END_TEST

/* ---- rules ---- */

START_TEST(first_match_wins)
{
	rule("deny group 2002 write topic admin:*");
	rule("allow * read,write topic *");
	rule("deny user 1001 read topic *");
	ck_assert(may(&alice, ACL_READ | ACL_WRITE, "admin:x"));
	ck_assert(may(&bob, ACL_READ, "admin:x") && !may(&bob, ACL_WRITE, "admin:x"));
	ck_assert(!may(&bob, ACL_READ | ACL_WRITE, "admin:x"));
	ck_assert(may(&bob, ACL_READ | ACL_WRITE, "admin"));
	ck_assert(!may(&alice, ACL_PRESENCE, "x"));
	ck_assert(!may(&alice, ACL_READ | ACL_PRESENCE, "x"));
}
END_TEST

START_TEST(rights_are_apart)
{
	const struct acl_who owner = { .uid = OWNER, .gid = 1 };

	rule("allow user 1001 write topic w");
	rule("allow user 1001 presence,read topic pr");
	ck_assert(may(&alice, ACL_WRITE, "w") && !may(&alice, ACL_READ, "w"));
	ck_assert(may(&alice, ACL_READ | ACL_PRESENCE, "pr") && !may(&alice, ACL_WRITE, "pr"));
	ck_assert(!may_read(&alice, "public", "pr") && !acl_admin(acl, &alice));
	/* Rules bind the daemon's own user, too; what they leave open it may. */
	rule("deny user 900 write topic secret");
	rule("deny user 900 admin");
	ck_assert(!may(&owner, ACL_WRITE, "secret") && may(&owner, ACL_READ, "secret"));
	ck_assert(may(&owner, ACL_WRITE, "other") && !acl_admin(acl, &owner));
	rule("allow user 1001 admin");
	ck_assert(acl_admin(acl, &alice) && !acl_admin(acl, &bob));
}
END_TEST

START_TEST(who_by_number)
{
	const struct acl_who big = { .uid = 4294967294, .gid = 4294967293 };

	rule("allow user 4294967294 read topic u");
	rule("allow group 4294967293 read topic g");
	rule("allow group 2002 read topic i");
	rule("allow user 0001001 read topic a");
	ck_assert(may(&big, ACL_READ, "u") && may(&big, ACL_READ, "g") &&
		  !may(&big, ACL_READ, "i"));
	ck_assert(may(&bob, ACL_READ, "i") && !may(&bob, ACL_READ, "u"));
	ck_assert(may(&alice, ACL_READ, "a") && !may(&bob, ACL_READ, "a"));
}
END_TEST

START_TEST(who_by_name)
{
	const struct acl_who root = { .uid = 0, .gid = 9 }, in_root = { .uid = 9, .gid = 0 };
	const struct passwd *passwd = getpwuid(0);
	const struct group *group = getgrgid(0);
	char text[256];

	ck_assert(passwd && group);
	snprintf(text, sizeof(text), "deny user %s read topic u", passwd->pw_name);
	rule(text);
	snprintf(text, sizeof(text), "allow group %s read topic g", group->gr_name);
	rule(text);
	ck_assert(!may(&root, ACL_READ, "u") && may(&root, ACL_WRITE, "u"));
	ck_assert(may(&in_root, ACL_READ, "g") && !may(&in_root, ACL_WRITE, "g"));
}
END_TEST

/* ---- tables ---- */

START_TEST(tables)
{
	rule("deny * read table public.secret");
	rule("allow user 1001 read table public.*");
	rule("allow user 1001 read table app.orders");
	ck_assert(may_read(&alice, "public", "messages") && !may_read(&alice, "public", "secret"));
	/* All of them: the one that is denied does not hinder it. */
	ck_assert(may_read(&alice, "public", "*"));
	ck_assert(may_read(&alice, "app", "orders") && !may_read(&alice, "app", "order"));
	ck_assert(!may_read(&alice, "app", "*") && !may_read(&alice, "*", "*"));
	ck_assert(!may_read(&alice, "*", "messages") && !may_read(&alice, "*", "orders"));
	ck_assert(!may_read(&alice, "PUBLIC", "messages") && !may_read(&bob, "public", "messages"));
	ck_assert(!may(&alice, ACL_READ, "public.messages"));
}
END_TEST

START_TEST(quoted_tables)
{
	static const struct {
		const char *rule, *schema, *table;
	} rows[] = {
		{ "public.\"My.Table\"", "public", "My.Table" },
		{ "\"my.schema\".t", "my.schema", "t" },
		{ "\"s\".\"t\"  ", "s", "t" },
		{ "p.\"a b # c; d\"", "p", "a b # c; d" },
		{ "p.\"say \"\"hi\"\"\"", "p", "say \"hi\"" },
		{ "p.\"\"\"\"", "p", "\"" },
		{ "p.\"a*\"", "p", "a*" },
		{ "p.\"**\"", "p", "**" },
		{ "p.\"%u\\\"", "p", "%u\\" },
		{ "p.\"\342\200\234x\342\200\235\"", "p", "\342\200\234x\342\200\235" },
		{ "p.Case_1$-\303\244", "p", "Case_1$-\303\244" },
		{ "*.\"*x\"", "any", "*x" },
	};
	const struct acl_who root = { .uid = 0, .gid = 0 };
	char text[128];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(text, sizeof(text), "deny user 0 read table %s", rows[i].rule);
		rule(text);
		ck_assert_msg(!may_read(&root, rows[i].schema, rows[i].table), "%s", text);
	}
	/* Inside quotes all is literal. */
	ck_assert(may_read(&root, "p", "ab") && may_read(&root, "p", "*"));
	ck_assert(may_read(&root, "p", "Say \"hi\"") && may_read(&root, "p", "A*"));
	ck_assert(may_read(&root, "public", "my.table") &&
		  may_read(&root, "public", "\"My.Table\""));
	ck_assert(may_read(&root, "any", "*") && may_read(&root, "any", "x"));
	/* In front of the rule for all. */
	rule("deny user 1001 read table public.\"Pay.Roll\"");
	rule("allow user 1001 read table public.*");
	ck_assert(!may_read(&alice, "public", "Pay.Roll") && may_read(&alice, "public", "Pay"));
}
END_TEST

START_TEST(rights_in_a_list)
{
	rule("allow user 1001 read, write topic a");
	rule("allow user 1001 read,\tpresence,  write\ttopic b");
	ck_assert(may(&alice, ACL_READ | ACL_WRITE, "a") && !may(&alice, ACL_PRESENCE, "a"));
	ck_assert(may(&alice, ACL_READ | ACL_WRITE | ACL_PRESENCE, "b"));
}
END_TEST

START_TEST(all_tables)
{
	const struct acl_who root = { .uid = 0, .gid = 0 };

	rule("deny user 1002 read table *.audit");
	rule("deny user 1002 read table private.*");
	rule("allow user 1002 read table *.*");
	ck_assert(may_read(&bob, "*", "*") && may_read(&bob, "public", "*") &&
		  may_read(&bob, "public", "t") && may_read(&bob, "*", "t"));
	ck_assert(!may_read(&bob, "public", "audit") && !may_read(&bob, "*", "audit"));
	ck_assert(!may_read(&bob, "private", "*") && !may_read(&bob, "private", "t"));
	rule("allow user 1001 read table *.audit");
	ck_assert(may_read(&alice, "*", "audit") && may_read(&alice, "public", "audit"));
	ck_assert(!may_read(&alice, "*", "*") && !may_read(&alice, "public", "*"));
	/* A deny for all binds whoever could otherwise do all. */
	rule("deny user 0 read table *.*");
	ck_assert(!may_read(&root, "*", "*") && !may_read(&root, "public", "t"));
}
END_TEST

/* ---- may it attach at all? ---- */

static const struct {
	const char *rules[5];
	bool alice, owner; /* the owner has no name here */
} attaching[] = {
	{ { NULL }, false, true },
	{ { "allow user 1001 read topic x" }, true, true },
	{ { "allow user 1002 read topic x" }, false, true },
	{ { "allow group 2001 presence topic x" }, true, true },
	{ { "allow * write topic x" }, true, true },
	{ { "allow user 1001 read table a.b" }, true, true },
	{ { "allow user 1001 admin" }, true, true },
	{ { "deny user 1001 read topic x" }, false, true },
	{ { "allow * read topic %u" }, true, true },
	{ { "deny user 1001 read topic x", "allow * read topic x" }, true, true },
	/* What was taken as a whole is not given back. */
	{ { "deny user 1001 read topic *", "allow * read topic x" }, false, true },
	{ { "deny user 1001 read topic *", "allow * read,write topic x" }, true, true },
	{ { "deny user 1001 read topic *", "allow * read table a.b" }, true, true },
	{ { "deny user 1001 read table *.*", "allow * read table a.b" }, false, true },
	{ { "deny user 1001 read table a.*", "allow * read table a.b" }, true, true },
	{ { "deny user 1001 admin", "allow * admin" }, false, true },
	{ { "deny * read,write,presence topic *", "deny * read table *.*" }, false, true },
	/* Who has no name has nothing with %u, and may not have what is not for some name. */
	{ { "deny * read,write,presence topic *%u", "deny * read table *.*", "deny * admin",
	    "allow * read topic x" },
	  true,
	  false },
	{ { "deny * read,write,presence topic x%u", "deny * read table *.*", "deny * admin",
	    "allow * read topic x" },
	  true,
	  true },
	{ { "deny * read,write,presence topic *", "deny * read table *.*", "deny * admin",
	    "allow * read topic %u" },
	  false,
	  false },
	{ { "deny * read,write,presence topic *", "deny * read table *.*", "deny * admin" },
	  false,
	  false },
};

START_TEST(attach)
{
	const struct acl_who owner = { .uid = OWNER, .gid = 1 };

	for (const char *const *r = attaching[_i].rules; *r; r++)
		rule(*r);
	ck_assert(acl_may_attach(acl, &alice) == attaching[_i].alice);
	ck_assert(acl_may_attach(acl, &owner) == attaching[_i].owner);
}
END_TEST

/* ---- identities ---- */

START_TEST(own_identity)
{
	const struct acl_who root = { .uid = 0, .gid = 0 };
	char why[256];

	ck_assert_int_eq(acl_identity(acl, "own group 2002", why, sizeof(why)), 0);
	ck_assert(acl_needs_own_identity(acl, &bob) && !acl_needs_own_identity(acl, &alice));
	ck_assert_int_eq(acl_identity(acl, " own\tuser  1001 ", why, sizeof(why)), 0);
	ck_assert(acl_needs_own_identity(acl, &alice) && !acl_needs_own_identity(acl, &root));
	/* It gives no rights. */
	ck_assert(!acl_may_attach(acl, &alice));
	ck_assert_int_eq(acl_identity(acl, "own *", why, sizeof(why)), 0);
	ck_assert(acl_needs_own_identity(acl, &root));
}
END_TEST

/* ---- what is wrong ---- */

static const struct {
	const char *text, *words;
} wrong_rules[] = {
	{ "", "allow or deny" },
	{ "permit * read topic x", "allow or deny instead of \"permit\"" },
	{ "Allow * read topic x", "allow or deny" },
	{ "allow", "user NAME" },
	{ "allow all read topic x", "instead of \"all\"" },
	{ "allow alice read topic x", "instead of \"alice\"" },
	{ "allow user", "a name or a number" },
	{ "allow user nobody-has-this-name read topic x", "no user \"nobody-has-this-name\"" },
	{ "allow group nobody-has-this-name read topic x", "no group \"nobody-has-this-name\"" },
	{ "allow user 4294967295 read topic x", "no user" },
	{ "allow user 99999999999999999999999999 read topic x", "no user" },
	{ "allow user -1 read topic x", "no user" },
	{ "allow user * read topic x", "no user" },
	{ "allow *", "read, write, presence" },
	{ "allow * topic x", "instead of \"topic\"" },
	{ "allow * reads topic x", "instead of \"reads\"" },
	{ "allow * read, topic x", "instead of \"topic\"" },
	{ "allow * read,", "instead of \"\"" },
	{ "allow * read ,write topic x", "instead of \",write\"" },
	{ "allow * read,,write topic x", "instead of \"\"" },
	{ "allow * ,read topic x", "instead of \"\"" },
	{ "allow * read,admin topic x", "admin stands alone" },
	{ "allow * admin topic x", "nothing behind admin" },
	{ "allow * admin *", "nothing behind admin" },
	{ "allow * admin # all", "a comment has a line of its own" },
	{ "allow * read", "topic GLOB" },
	{ "allow * read x", "instead of \"x\"" },
	{ "allow * read topics x", "instead of \"topics\"" },
	{ "allow * read topic", "expected a topic" },
	{ "allow * read topic  ", "expected a topic" },
	{ "allow * read topic %", "%u" },
	{ "allow * read topic %U", "%u" },
	{ "allow * read topic 100%:x", "\\%" },
	{ "allow * read topic x\\", "behind the last \\" },
	{ "allow * read topic a\001", "control character" },
	{ "allow * read topic a\177", "control character" },
	{ "allow * read topic a\377", "UTF-8" },
	{ "allow * read topic a\302\205b", "control character" },
	/* Written as in other places: what to write here. */
	{ "deny * read topic realtime:room:1", "write \"room:1\"" },
	{ "deny * read topic realtime:", "write \"*\"" },
	{ "deny * read topic \"room\"", "without quotes" },
	{ "deny * read topic 'room'", "without quotes" },
	{ "deny * read topic \"room", "without quotes" },
	{ "deny * read topic room'", "without quotes" },
	{ "deny * read topic \"", "without quotes" },
	{ "deny * read topic room # a comment", "a comment has a line of its own" },
	{ "deny * read topic room\t; a comment", "a comment has a line of its own" },
	{ "deny * read topic room #", "written \\# or \\;" },
	{ "deny * read topic # a comment", "expected a topic" },
	{ "deny * read # a comment", "a comment has a line of its own" },
	{ "deny * read topic a:*, b:*", "one topic" },
	{ "deny * read topic room\t\302\205", "control character" },
	{ "deny * read topic rtbridge:x", "reserved" },
	{ "deny * read topic \\rt\\bridge:*", "reserved" },
	{ "allow * read table", "SCHEMA.TABLE" },
	{ "allow * read table messages", "public.messages" },
	{ "allow * read table *", "public.messages" },
	{ "allow * read table .t", "SCHEMA.TABLE" },
	{ "allow * read table s.", "SCHEMA.TABLE" },
	{ "allow * read table s.t*", "whole name" },
	{ "allow * read table s*.t", "whole name" },
	{ "deny * read table s.a.b", "public.\"My.Table\"" },
	{ "deny * read table s.*.b", "public.\"My.Table\"" },
	{ "deny * read table s.a b", "with \" \" in it" },
	{ "deny * read table s.a,s.b", "with \",\" in it" },
	{ "deny * read table s.a, s.b", "with \",\" in it" },
	{ "deny * read table 's.a'", "with \"'\" in it" },
	{ "deny * read table s.\342\200\234a\342\200\235", "with \"\342\200\234\" in it" },
	{ "deny * read table s.a\302\240", "with \"\302\240\" in it" },
	{ "deny * read table s.%u", "topics alone" },
	{ "deny * read table s.a?", "no event and no filter" },
	{ "deny * read table s.a:INSERT", "no event and no filter" },
	{ "deny * read table s.a # comment", "a comment has a line of its own" },
	{ "deny * read table s.a\t# comment", "a comment has a line of its own" },
	{ "deny * read table s.* # comment", "a comment has a line of its own" },
	{ "deny * read table s.\"a\" # comment", "a comment has a line of its own" },
	{ "deny * read table s # comment", "a comment has a line of its own" },
	{ "deny * read table * # comment", "a comment has a line of its own" },
	{ "deny * read table # comment", "\"#\" in it" },
	{ "deny * read table \"s.a\"", "double quotes of its own" },
	{ "deny * read table \"s\"", "public.messages" },
	{ "deny * read table s.a\001", "control character" },
	{ "deny * read table s.a\302\205", "control character" },
	{ "deny * read table s.\"a\001\"", "control character" },
	{ "deny * read table s.\"a", "not closed" },
	{ "deny * read table s.\"a\"\"", "not closed" },
	{ "deny * read table \"s.a", "not closed" },
	{ "deny * read table s.\"\"", "no name between" },
	{ "deny * read table s.\"a\"b", "ends at its double quote" },
	{ "deny * read table s.\"a\".b", "public.\"My.Table\"" },
	{ "deny * read table s.a\"b\"", "around a whole name" },
	{ "deny * read table s.\"*\"", "all of them" },
	{ "deny * read table \"*\".t", "all of them" },
	{ "allow * write table s.t", "read alone" },
	{ "allow * read,write table s.t", "read alone" },
	{ "allow * presence table s.t", "read alone" },
};

START_TEST(refused_rules)
{
	char why[256] = "";

	ck_assert_int_eq(acl_rule(acl, wrong_rules[_i].text, why, sizeof(why)), -EINVAL);
	ck_assert_msg(strstr(why, wrong_rules[_i].words), "%s: %s", wrong_rules[_i].text, why);
	/* It left nothing behind. */
	ck_assert(!acl_may_attach(acl, &alice) && !acl_needs_names(acl));
}
END_TEST

START_TEST(refused_identities)
{
	static const char *const wrong[] = {
		"",         "own",     "mine *",       "own x",
		"own user", "own * *", "own user 1 2", "own group nobody-has-this-name"
	};
	char why[256];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		why[0] = '\0';
		ck_assert_int_eq(acl_identity(acl, wrong[i], why, sizeof(why)), -EINVAL);
		ck_assert(*why && !acl_needs_own_identity(acl, &alice));
	}
}
END_TEST

START_TEST(limits)
{
	char text[2000] = "allow * read topic ", why[256];
	size_t n = strlen(text);

	memset(text + n, '*', 1024);
	text[n + 1024] = '\0';
	rule(text);
	strcat(text, "*");
	ck_assert_int_eq(acl_rule(acl, text, why, sizeof(why)), -EINVAL);
	ck_assert_msg(strstr(why, "1024"), "%s", why);
	/* No topic is longer; with a pattern that may be nothing it can still fit. */
	snprintf(text, sizeof(text), "allow * read topic *%0239d?", 1);
	rule(text);
	strcat(text, "?");
	ck_assert_int_eq(acl_rule(acl, text, why, sizeof(why)), -EINVAL);
	ck_assert_msg(strstr(why, "240"), "%s", why);
	snprintf(text, sizeof(text), "allow * read table s.\"%0255d\"", 1);
	rule(text);
	snprintf(text, sizeof(text), "allow * read table s.%0256d", 1);
	ck_assert_int_eq(acl_rule(acl, text, why, sizeof(why)), -EINVAL);
	ck_assert_msg(strstr(why, "255"), "%s", why);
	snprintf(text, sizeof(text), "allow user %0300d read topic x", 1);
	ck_assert_int_eq(acl_rule(acl, text, why, sizeof(why)), -EINVAL);
	/* A small buffer for the text is no reason to write past it. */
	ck_assert_int_eq(acl_rule(acl, "x", why, 5), -EINVAL);
	ck_assert_uint_eq(strlen(why), 4);
	for (int i = 3; i < 1000; i++)
		rule("allow * read topic x");
	ck_assert_int_eq(acl_rule(acl, "allow * read topic x", why, sizeof(why)), -EINVAL);
	ck_assert_msg(strstr(why, "1000"), "%s", why);
	ck_assert_ptr_null(acl_free(NULL));
}
END_TEST

/* ---- without memory ---- */

START_TEST(without_memory)
{
	static const char *const texts[] = { "allow user root read topic a*",
					     "allow * read topic a", "own group root",
					     "deny * read table \"s\".t" };
	char why[256];
	int r;

	allocs_watch(true);
	r = acl_new(0, 0) == NULL;
	allocs_unwatch();
	ck_assert(r);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		allocs_watch(true);
		r = *texts[i] == 'o' ? acl_identity(acl, texts[i], why, sizeof(why))
				     : acl_rule(acl, texts[i], why, sizeof(why));
		allocs_unwatch();
		ck_assert_int_eq(r, -ENOMEM);
		ck_assert_str_eq(why, "no memory");
	}
	ck_assert(!acl_may_attach(acl, &alice));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("acl");
	TCase *t = tcase_create("acl");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, without_rules);
	tcase_add_test(t, socket_group);
	tcase_add_test(t, first_match_wins);
	tcase_add_test(t, rights_are_apart);
	tcase_add_test(t, rights_in_a_list);
	tcase_add_test(t, who_by_number);
	tcase_add_test(t, who_by_name);
	tcase_add_test(t, tables);
	tcase_add_test(t, quoted_tables);
	tcase_add_test(t, all_tables);
	tcase_add_loop_test(t, attach, 0, sizeof(attaching) / sizeof(*attaching));
	tcase_add_test(t, own_identity);
	tcase_add_loop_test(t, refused_rules, 0, sizeof(wrong_rules) / sizeof(*wrong_rules));
	tcase_add_test(t, refused_identities);
	tcase_add_test(t, limits);
	tcase_add_test(t, without_memory);
	suite_add_tcase(s, t);
	return suite_run(s);
}
