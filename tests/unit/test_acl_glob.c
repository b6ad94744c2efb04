/* SPDX-License-Identifier: MIT */
/* daemon/hub/acl.h: which topics a rule means. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/acl_util.h"
#include "suite.h"

/* ---- globs ---- */

static const struct {
	const char *glob, *topic;
	bool fits;
} globs[] = {
	/* What would be taken for a mistake, meant. */
	{ "\\realtime:x", "realtime:x", true },
	{ "\\realtime:x", "x", false },
	{ "realtime", "realtime", true },
	{ "real*:x", "realtime:x", true },
	{ "\\\"a\\\"", "\"a\"", true },
	{ "\\'a\\'", "'a'", true },
	{ "it's", "it's", true },
	{ "a \\# b", "a # b", true },
	{ "a \\; b", "a ; b", true },
	{ "a#b", "a#b", true },
	{ "#a", "#a", true },
	{ "\\# a", "# a", true },
	{ ";a", ";a", true },
	{ "a\\, b", "a, b", true },
	{ "a,b", "a,b", true },
	{ "a", "a", true },
	{ "a", "b", false },
	{ "a", "aa", false },
	{ "aa", "a", false },
	{ "*", "a", true },
	{ "*", "a\nb", true },
	{ "**", "abc", true },
	{ "chat:*", "chat:", true },
	{ "chat:*", "chat:x", true },
	{ "chat:*", "chat", false },
	{ "chat:*", "xchat:x", false },
	{ "*:x", "a:b:x", true },
	{ "*:x", "a:b:xy", false },
	{ "a*b*c", "abc", true },
	{ "a*b*c", "axxbyyc", true },
	{ "a*b*c", "axxbyycz", false },
	{ "a*b*c", "ac", false },
	{ "*ab", "aab", true },
	{ "*aab", "aaab", true },
	{ "*a*ab", "aab", true },
	{ "*a*ab", "ab", false },
	{ "?", "a", true },
	{ "?", "", false },
	{ "?", "ab", false },
	{ "??", "ab", true },
	{ "?*", "a", true },
	{ "*?", "a", true },
	{ "*??*", "a", false },
	{ "?", "\303\244", true },
	{ "??", "\303\244", false },
	{ "a?c", "a\342\202\254c", true },
	{ "a??c", "a\342\202\254c", false },
	{ "*?c", "\360\237\230\200c", true },
	{ "*??c", "\360\237\230\200c", false },
	{ "\303\244*", "\303\244b", true },
	{ "\303\244", "\303\266", false },
	{ "\\*", "*", true },
	{ "\\*", "a", false },
	{ "\\?", "?", true },
	{ "\\?", "a", false },
	{ "\\\\", "\\", true },
	{ "\\%u", "%u", true },
	{ "\\%u", "alice", false },
	{ "\\a", "a", true },
	{ "\\\303\244", "\303\244", true },
	{ "a b  c", "a b  c", true },
	{ "\\ a", " a", true },
	{ "#x", "#x", true },
	{ "%u", "alice", true },
	{ "%u", "alic", false },
	{ "%u", "alicea", false },
	{ "user:%u:*", "user:alice:inbox", true },
	{ "user:%u:*", "user:bob:inbox", false },
	{ "user:%u:*", "user:alice2:inbox", false },
	{ "user:%u", "user:", false },
	{ "*%u", "malalice", true },
	{ "*%u*", "xalialicey", true },
	{ "%u%u", "alicealice", true },
	{ "%u%u", "alice", false },
	{ "?%u", "xalice", true },
};

START_TEST(glob)
{
	char text[256];

	snprintf(text, sizeof(text), "allow * read topic %s", globs[_i].glob);
	rule(text);
	ck_assert_msg(may(&alice, ACL_READ, globs[_i].topic) == globs[_i].fits, "%s and %s",
		      globs[_i].glob, globs[_i].topic);
}
END_TEST

/* The same by the definition, for short globs of plain bytes. */
static bool by_definition(const char *g, const char *s)
{
	if (!*g)
		return !*s;
	if (*g == '*')
		return by_definition(g + 1, s) || (*s && by_definition(g, s + 1));
	return *s && (*g == '?' || *g == *s) && by_definition(g + 1, s + 1);
}

static void fill(char *to, unsigned long n, const char *letters, unsigned length)
{
	size_t base = strlen(letters);

	for (unsigned i = 0; i < length; i++, n /= base)
		to[i] = letters[n % base];
	to[length] = '\0';
}

START_TEST(all_short_globs)
{
	char g[8], s[8], text[64];

	for (unsigned length = 1; length <= 5; length++) {
		for (unsigned long i = 0; i < 1UL << (2 * length); i++) {
			fill(g, i, "ab*?", length);
			acl_free(acl);
			setup();
			snprintf(text, sizeof(text), "allow * read topic %s", g);
			rule(text);
			for (unsigned m = 1; m <= 5; m++) {
				for (unsigned long k = 0; k < 1UL << m; k++) {
					fill(s, k, "ab", m);
					if (may(&alice, ACL_READ, s) != by_definition(g, s))
						ck_abort_msg("%s and %s", g, s);
				}
			}
		}
	}
}
END_TEST

/* No name that %u could stand for. */
static const char *const no_names[] = { "*", "a*", "?", "a?", "%u", "%", "\\", "\\a", "", NULL };
enum { N_NO_NAMES = sizeof(no_names) / sizeof(*no_names) };

START_TEST(nothing_is_allowed_to_no_name)
{
	struct acl_who who = { .uid = 3000, .gid = 1, .name = no_names[_i] };
	char topic[32];

	rule("allow * read topic user:%u");
	ck_assert(acl_needs_names(acl));
	ck_assert(acl_may_attach(acl, &alice) && !acl_may_attach(acl, &who));
	snprintf(topic, sizeof(topic), "user:%s", who.name ? who.name : "(null)");
	ck_assert(!may(&who, ACL_READ, topic) && !may(&who, ACL_READ, "user:") &&
		  !may(&who, ACL_READ, "user:alice"));
	who.name = "a.b-c_d$";
	ck_assert(may(&who, ACL_READ, "user:a.b-c_d$") && !may(&who, ACL_READ, "user:alice"));
}
END_TEST

/* It could be any name's. */
START_TEST(no_name_is_denied_what_is_any_names)
{
	struct acl_who who = { .uid = 3000, .gid = 1, .name = no_names[_i] };
	struct acl_who owner = { .uid = OWNER, .gid = 1, .name = no_names[_i] };
	char topic[32];

	rule("deny * write topic audit:%u");
	rule("deny user 900 read topic %u:?");
	rule("allow * write topic *");
	snprintf(topic, sizeof(topic), "audit:%s", who.name ? who.name : "(null)");
	ck_assert(!may(&who, ACL_WRITE, topic) && !may(&who, ACL_WRITE, "audit:alice"));
	ck_assert(!may(&who, ACL_WRITE, "audit:a:b") && !may(&who, ACL_WRITE, "audit:"));
	ck_assert(may(&who, ACL_WRITE, "audit") && may(&who, ACL_WRITE, "x:audit:alice"));
	/* The daemon's own user as all others, and what was not denied stays its own. */
	ck_assert(!may(&owner, ACL_WRITE, "audit:alice") && !may(&owner, ACL_READ, "x:1"));
	ck_assert(may(&owner, ACL_READ, "x:12") && may(&owner, ACL_PRESENCE, "audit:alice"));
	/* A name is one name. */
	ck_assert(!may(&alice, ACL_WRITE, "audit:alice") && may(&alice, ACL_WRITE, "audit:bob"));
	ck_assert(may(&alice, ACL_WRITE, "audit:") && may(&alice, ACL_WRITE, topic));
}
END_TEST

/* Of all short patterns: %u is * in a deny. The letter u stands for %u here. */
START_TEST(all_short_globs_without_a_name)
{
	char g[8], s[8], text[64], stars[8];
	const char *const base = "deny user 900 read topic ";

	for (unsigned length = 1; length <= 5; length++) {
		for (unsigned long i = 0; i < 1UL << (2 * length); i++) {
			fill(g, i, "ab?u", length);
			strcpy(text, base);
			for (unsigned k = 0; k < length; k++) {
				stars[k] = g[k] == 'u' ? '*' : g[k];
				strncat(text, g[k] == 'u' ? "%u" : g + k, g[k] == 'u' ? 2 : 1);
			}
			stars[length] = '\0';
			acl_free(acl);
			setup();
			rule(text);
			for (unsigned m = 1; m <= 5; m++) {
				for (unsigned long k = 0; k < 1UL << m; k++) {
					fill(s, k, "ab", m);
					if (may(&(struct acl_who){ .uid = OWNER, .gid = 1 },
						ACL_READ, s) == by_definition(stars, s))
						ck_abort_msg("%s and %s", text, s);
				}
			}
		}
	}
}
END_TEST

/* Trying each * anew for each other would take longer than the universe is old: the limit of the
 * test's time finds that. */
START_TEST(hostile_globs)
{
	char text[1100] = "allow * read topic ", topic[241];

	/* As many as fit any topic at all. */
	for (int i = 0; i < 239; i++)
		strcat(text, "*a");
	strcat(text, "b");
	rule(text);
	strcpy(text, "allow * read topic ");
	for (int i = 0; i < 240; i++)
		strcat(text, "*%u");
	rule(text);
	strcpy(text, "deny * read topic ");
	for (int i = 0; i < 119; i++)
		strcat(text, "%ua");
	strcat(text, "b");
	rule(text);
	strcpy(text, "allow * read topic ");
	for (int i = 0; i < 239; i++)
		strcat(text, "*?");
	strcat(text, "b");
	rule(text);
	memset(topic, 'a', 240);
	topic[240] = '\0';
	for (int i = 0; i < 2; i++)
		ck_assert(!may(&(struct acl_who){ .uid = 1,
						  .gid = 1,
						  .name = i % 2 ? "aaaaaaaaac" : NULL },
			       ACL_READ, topic));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("acl_glob");
	TCase *t = tcase_create("acl_glob");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, glob, 0, sizeof(globs) / sizeof(*globs));
	tcase_add_test(t, all_short_globs);
	tcase_add_loop_test(t, nothing_is_allowed_to_no_name, 0, N_NO_NAMES);
	tcase_add_loop_test(t, no_name_is_denied_what_is_any_names, 0, N_NO_NAMES);
	tcase_add_test(t, all_short_globs_without_a_name);
	tcase_add_test(t, hostile_globs);
	suite_add_tcase(s, t);
	return suite_run(s);
}
