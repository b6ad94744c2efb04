/* SPDX-License-Identifier: MIT */
/* daemon/app/conf.h: access rules, what --check says of them, and what a reload finds changed. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hub/acl.h"
#include "tests/unit/conf_util.h"
#include "suite.h"

static bool may(uid_t uid, unsigned rights, const char *topic)
{
	struct acl_who who = { .uid = uid, .gid = 60000, .name = "someone" };

	return acl_topic(conf.acl, &who, rights, (struct rtbp_str){ topic, strlen(topic) });
}

START_TEST(rules_in_order)
{
	ck_assert_int_eq(
		read_text("[access]\n"
			  "rule = deny user 60001 read topic a:*\n"
			  "identity = own user 60001\n"
			  "[log]\n"
			  "level = info\n"
			  "[access]\n"
			  "rule = allow * read topic a:*  \n"
			  "rule = allow user 60001 read topic a:1\n"
			  "rule = allow user 60002 write topic with  \\# blanks; and \\\\\n"
			  "identity = own user 60002\n"),
		0);
	ck_assert_uint_eq(conf.n_rules, 4);
	ck_assert_uint_eq(conf.n_identities, 2);
	ck_assert(!may(60001, ACL_READ, "a:1") && may(60002, ACL_READ, "a:1"));
	ck_assert(may(60002, ACL_WRITE, "with  # blanks; and \\"));
	ck_assert(!may(60003, ACL_WRITE, "a:1") && may(geteuid(), ACL_WRITE, "a:1"));
	ck_assert(acl_needs_own_identity(conf.acl, &(struct acl_who){ .uid = 60002 }));
	ck_assert(!acl_needs_own_identity(conf.acl, &(struct acl_who){ .uid = 60003 }));
	ck_assert(!acl_needs_names(conf.acl));
}
END_TEST

START_TEST(quotes_in_a_file)
{
	struct acl_who who = { .uid = 60001, .gid = 60000 };
	struct rtbp_str s = { "p", 1 }, odd = { "My \"odd\" #.Table", 16 }, t = { "t", 1 };

	ck_assert_int_eq(read_text("[access]\n"
				   "rule = deny * read table p.\"My \"\"odd\"\" #.Table\"\n"
				   "rule = allow * read table \"p\".*\n"),
			 0);
	ck_assert(!acl_table(conf.acl, &who, s, odd) && acl_table(conf.acl, &who, s, t));
}
END_TEST

START_TEST(drop_ins_append)
{
	char *d = path_in("x.conf.d"), *a = path_in("x.conf.d/1.conf"),
	     *b = path_in("x.conf.d/2.conf");
	static const char deny[] = "[access]\nrule = deny user 60001 read topic x\n",
			  allow[] = "[access]\nrule = allow * read topic *\nrule = allow * read "
				    "topic %u\n";

	ck_assert_int_eq(mkdir(d, 0700), 0);
	put(a, deny, sizeof(deny) - 1, 0644);
	put(b, allow, sizeof(allow) - 1, 0644);
	ck_assert_int_eq(read_text("[access]\nrule = deny user 60002 read topic x\n"), 0);
	ck_assert_uint_eq(conf.n_rules, 4);
	ck_assert(!may(60001, ACL_READ, "x") && !may(60002, ACL_READ, "x"));
	ck_assert(may(60003, ACL_READ, "x") && may(60001, ACL_READ, "y"));
	ck_assert(acl_needs_names(conf.acl));
	/* The drop-in's own name and line. */
	put(b, "[access]\n\nrule = allow\n", 23, 0644);
	ck_assert_int_eq(conf_read(&conf, file, &why), -EINVAL);
	ck_assert_msg(strstr(why.text, "2.conf:3: [access] rule: expected"), "%s", why.text);
	free(d);
	free(a);
	free(b);
}
END_TEST

START_TEST(wrong_rules)
{
	refused("[access]\nrule = allow * read topic x\nrule = allow me read topic x\n", 3,
		"[access] rule: expected \"user NAME\"");
	refused("[access]\nrule =\n", 2, "[access] rule: expected allow or deny");
	refused("[access]\nrule = deny user has-no-such-name admin\n", 2,
		"[access] rule: there is no user \"has-no-such-name\"");
	refused("[access]\nidentity = *\n", 2, "[access] identity: expected \"own\"");
	refused("[access]\nrule = deny * read topic a # why\n", 2,
		"a comment has a line of its own");
	refused("[access]\nrule = deny * read topic \"a\"\n", 2, "without quotes");
	refused("[access]\nrule = deny * read table a.b.c\n", 2, "double quotes around it");
	refused("[access]\nidentity = own * # why\n", 2, "a comment has a line of its own");
	refused("[access]\nrules = allow * admin\n", 2, "[access] has no key \"rules\"");
}
END_TEST

START_TEST(what_check_says)
{
	char *text;

	ck_assert_int_eq(finish("https://h"), 0);
	text = printed(0);
	ck_assert_ptr_nonnull(strstr(text, "\naccess    no rules"));
	ck_assert_ptr_nonnull(strstr(text, "\nconnect   on demand\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nprobation of a user whose joins have failed\n"));
	free(text);
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
	ck_assert_int_eq(read_text("[upstream]\nconnect = always\nprobation = always\n"
				   "[access]\nrule = allow * admin\nidentity = own *\n"),
			 0);
	ck_assert_int_eq(finish("https://h"), 0);
	text = printed(0);
	ck_assert_ptr_nonnull(strstr(text, "\naccess    1 rule, 1 about identities\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nconnect   always\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nprobation of every join\n"));
	free(text);
}
END_TEST

/* ---- a reload ---- */

static struct conf other;

/* Return: what has changed, or "". */
static const char *changed(const char *from, const char *to)
{
	struct conf_source source = { .path = file };
	char *text;

	for (int i = 0; i < 2; i++) {
		conf_done(i ? &other : &conf);
		ck_assert_int_ge(
			asprintf(&text, "[upstream]\napikey_file = %s\n%s", key, i ? to : from), 0);
		put(file, text, strlen(text), 0644);
		free(text);
		ck_assert_msg(conf_load(&source, i ? &other : &conf, &why) == 0, "%s", why.text);
	}
	why.text[0] = '\0';
	ck_assert(conf_differs(&conf, &other, &why) == (why.text[0] != '\0'));
	conf_done(&other);
	return why.text;
}

START_TEST(what_needs_a_restart)
{
	static const struct {
		const char *from, *to, *keys;
	} rows[] = {
#define URL "url = https://h\n"
		{ URL, URL, "" },
		{ URL, "url = https://i\n", "[upstream] url" },
		{ URL, URL "params = a=b\n", "[upstream] params" },
		{ URL "params = a=b\nparams = c=d\n", URL "params = c=d\nparams = a=b\n",
		  "[upstream] params" },
		{ URL "header = x-a: b\n", URL "header = x-a: c\n", "[upstream] header" },
		{ URL "vsn = 2.0.0\n", URL, "" },
		{ URL "vsn = 1.0.0\n", URL, "[upstream] vsn" },
		{ URL "ca_file = /x\n", URL, "[upstream] ca_file" },
		{ URL "allow_insecure = yes\n", URL, "[upstream] allow_insecure" },
		{ URL "probation = off\n", URL "connect = always\n",
		  "[upstream] probation, [upstream] connect" },
		{ URL "[socket]\nmode = 0660\n", URL "[limits]\nlinks = 2\nframe = 4097\n",
		  "[socket] mode, [limits] links, [limits] frame" },
		{ URL "[presence]\ntrackers = merge\n", URL, "[presence] trackers" },
		{ URL "[log]\nlevel = debug\n", URL "[access]\nrule = allow * admin\n", "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_str_eq(changed(rows[i].from, rows[i].to), rows[i].keys);
}
END_TEST

START_TEST(another_key)
{
	ck_assert_str_eq(changed("url = https://h\n", "url = https://h\n"), "");
	put(key, "another-secret", 14, 0600);
	ck_assert_int_eq(conf_load(&(struct conf_source){ .path = file }, &other, &why), 0);
	ck_assert(!conf_differs(&conf, &other, &why)); /* a running daemon takes it over */
	conf_done(&other);
}
END_TEST

START_TEST(loading)
{
	struct conf_source source = { .path = file, .socket_path = "/x/y", .log_level = "error" };

	/* The command line wins over the file. */
	ck_assert_str_eq(changed("url = https://h\n[socket]\npath = /a\n", "url = https://h\n"),
			 "[socket] path");
	ck_assert_int_eq(conf_load(&source, &other, &why), 0);
	ck_assert_str_eq(other.socket_path, "/x/y");
	ck_assert_int_eq(other.log_level, LOG_LEVEL_ERROR);
	conf_done(&other);
	source.log_level = "loud";
	ck_assert_int_eq(conf_load(&source, &other, &why), -EINVAL);
	ck_assert_msg(strncmp(why.text, "--log-level: ", 13) == 0, "%s", why.text);
	conf_done(&other);
	source.log_level = NULL;
	put(file, "[log]\n", 6, 0644);
	ck_assert_int_eq(conf_load(&source, &other, &why), -EINVAL);
	ck_assert_msg(strncmp(why.text, file, strlen(file)) == 0, "%s", why.text);
	ck_assert_msg(strstr(why.text, ": [upstream] url is missing"), "%s", why.text);
	conf_done(&other);
	source.path = "/nonexistent/c";
	ck_assert_int_eq(conf_load(&source, &other, &why), -ENOENT);
	conf_done(&other);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conf_access");
	TCase *t = tcase_create("conf_access");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, rules_in_order);
	tcase_add_test(t, quotes_in_a_file);
	tcase_add_test(t, drop_ins_append);
	tcase_add_test(t, wrong_rules);
	tcase_add_test(t, what_check_says);
	tcase_add_test(t, what_needs_a_restart);
	tcase_add_test(t, another_key);
	tcase_add_test(t, loading);
	suite_add_tcase(s, t);
	return suite_run(s);
}
