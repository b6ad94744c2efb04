/* SPDX-License-Identifier: MIT */
/* daemon/app/conf.h: what --check and the start warn of. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/conf_util.h"
#include "suite.h"

/* What is put into the key's file: {"alg":"HS256"}, and what says iss, role and exp 1983812996. */
#define ANON                    \
	"eyJhbGciOiJIUzI1NiJ9." \
	"eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9.c2ln"
#define SERVICE                                                                                \
	"eyJhbGciOiJIUzI1NiJ9."                                                                \
	"eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6InNlcnZpY2Vfcm9sZSIsImV4cCI6MTk4MzgxMjk5Nn0." \
	"c2ln"

/* The role, but no exp. */
#define ENDLESS "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2ln"

enum { KEY_EXP_S = 1983812996 };

#define IN_CLEAR      "[upstream] url: without TLS"
#define AUTH_IN_CLEAR "[upstream] auth_url: without TLS"
#define KEY_IS        "[upstream] apikey_file: the key is "
#define KEY_ODD       "[upstream] apikey_file: the key begins with no sb_"
#define KEY_OLD       "[upstream] apikey_file: the key has expired on 2032-11-11"
#define ONE_LINK      "[limits] links: with 1, "

/* The warnings begin with these; --check prints the same ones. */
static void warns(const char *key_text, const char *url, const char *more, int64_t now_s,
		  const char *const *begin)
{
	char line[600], *text;
	unsigned i, printed_n = 0;

	put(key, key_text, strlen(key_text), 0600);
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
	ck_assert_msg(read_text(more) == 0, "%s", why.text);
	ck_assert_msg(finish(url) == 0, "%s", why.text);
	text = printed(now_s);
	for (i = 0; conf_warning(&conf, i, now_s, &why); i++) {
		ck_assert_msg(begin[i] && strncmp(why.text, begin[i], strlen(begin[i])) == 0,
			      "%s; expected %s", why.text, begin[i] ? begin[i] : "none");
		snprintf(line, sizeof(line), "\nwarning   %s\n", why.text);
		ck_assert_ptr_nonnull(strstr(text, line));
	}
	ck_assert_msg(!begin[i], "missing: %s", begin[i]);
	for (const char *p = text; (p = strstr(p, "\nwarning   ")); p++)
		printed_n++;
	ck_assert_uint_eq(printed_n, i);
	free(text);
}

static const struct {
	const char *key;
	int64_t now_s;
	const char *warning;
} keys[] = {
	{ ANON, KEY_EXP_S - 1, NULL },
	{ ANON "\n", KEY_EXP_S - 1, NULL },
	{ ANON, KEY_EXP_S, KEY_OLD },
	{ SERVICE, 0, KEY_IS "of the role service_role, which no policy binds" },
	{ "sb_secret_abcdefgh", INT64_MAX,
	  KEY_IS "a secret one (sb_secret_...), which no policy binds" },
	{ "sb_publishable_abcdefgh", INT64_MAX, NULL },
	{ "garbage", 0, KEY_ODD },
	{ "Sb_secret_abcdefgh", 0, KEY_ODD },
	{ "a.b.c", 0, KEY_ODD },
	{ "a\377b", 0, KEY_ODD },
	/* Half of it, and one of the three parts. */
	{ "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJzdXBhYmFzZS1k", 0, KEY_ODD },
	{ ENDLESS, 0, KEY_ODD ", and as a JSON Web Token it does not say when it expires" },
};

START_TEST(one_key)
{
	const char *expected[] = { keys[_i].warning, NULL };

	warns(keys[_i].key, "https://h", "", keys[_i].now_s, expected);
	/* Nothing of the key is told. */
	if (strncmp(keys[_i].key, "sb_", 3) != 0 && keys[_i].warning) {
		ck_assert(conf_warning(&conf, 0, keys[_i].now_s, &why));
		ck_assert_ptr_null(strstr(why.text, keys[_i].key));
	}
}
END_TEST

START_TEST(no_keys)
{
	static const char *const bad[] = { "a\001b", "a\177", "\033[31m" ANON, "sb_secret_\002" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		put(key, bad[i], strlen(bad[i]), 0600);
		ck_assert_int_eq(finish("https://h"), -EINVAL);
		ck_assert_msg(strstr(why.text, "[upstream] apikey_file: ") &&
				      strstr(why.text, "a control character"),
			      "%s", why.text);
		conf_done(&conf);
		ck_assert_int_eq(conf_init(&conf), 0);
	}
}
END_TEST

static const struct {
	const char *url;
	bool warns;
} urls[] = {
	{ "https://ref.supabase.co", false },
	{ "wss://10.0.0.1", false },
	{ "http://127.0.0.1:4000/socket", false },
	{ "ws://127.255.255.255", false },
	{ "http://localhost", false },
	{ "http://LocalHost.:4000", false },
	{ "http://api.localhost", false },
	{ "http://[::1]:4000", false },
	{ "http://[::ffff:127.0.0.1]", false },
	{ "http://ref.supabase.co", true },
	{ "ws://10.0.0.1:4000", true },
	{ "http://128.0.0.1", true },
	{ "http://[::2]", true },
	{ "http://[::ffff:10.0.0.1]", true },
	{ "http://notlocalhost", true },
	{ "http://localhost.example.org", true },
	{ "http://127.0.0.1.example.org", true },
};

START_TEST(one_url)
{
	const char *expected[] = { urls[_i].warns ? IN_CLEAR : NULL, NULL };

	warns(ANON, urls[_i].url, "", 0, expected);
	if (urls[_i].warns) {
		/* Without leave there will be no connection; with it, all can be read. */
		ck_assert(conf_warning(&conf, 0, 0, &why));
		ck_assert_msg(strstr(why.text, "no connection unless ") &&
				      strstr(why.text, conf.host),
			      "%s", why.text);
		expected[0] = IN_CLEAR " (allow_insecure) the key, the clients' tokens and all";
	}
	warns(ANON, urls[_i].url, "[upstream]\nallow_insecure = yes\n", 0, expected);
}
END_TEST

static const struct {
	const char *url, *auth;
	bool url_warns, auth_warns;
} auths[] = {
	{ "https://h", "https://auth", false, false },
	{ "https://h", "http://127.0.0.1:9999", false, false },
	{ "https://h", "http://localhost", false, false },
	{ "https://h", "http://auth.example.org:9999", false, true },
	{ "http://127.0.0.1/socket", "http://10.0.0.1", false, true },
	{ "http://h", "http://10.0.0.1", true, true },
	{ "http://h", "https://10.0.0.1", true, false },
	/* Beside url: it is said of that. */
	{ "http://h", NULL, true, false },
	{ "https://h", NULL, false, false },
};

START_TEST(one_auth_url)
{
	const char *expected[3] = { NULL };
	char more[200];
	unsigned n = 0;

	if (auths[_i].url_warns)
		expected[n++] = IN_CLEAR;
	if (auths[_i].auth_warns)
		expected[n] = AUTH_IN_CLEAR;
	snprintf(more, sizeof(more),
		 "[upstream]\nrefresh_token_file = %s/seed\nstate_dir = %s\n%s%s\n", dir, dir,
		 auths[_i].auth ? "auth_url = " : "", auths[_i].auth ? auths[_i].auth : "");
	warns("sb_publishable_x", auths[_i].url, more, 0, expected);
	if (!auths[_i].auth_warns)
		return;
	ck_assert(conf_warning(&conf, n, 0, &why));
	ck_assert_msg(strstr(why.text, "is not renewed unless ") &&
			      strstr(why.text, conf.auth.host),
		      "%s", why.text);
	expected[n] = AUTH_IN_CLEAR " (allow_insecure) the key and the refresh token go in clear";
	strcat(more, "allow_insecure = yes\n");
	warns("sb_publishable_x", auths[_i].url, more, 0, expected);
}
END_TEST

START_TEST(one_link)
{
	static const char *const none[] = { NULL }, *const said[] = { ONE_LINK, NULL };

	warns(ANON, "https://h", "[limits]\nlinks = 1\n", 0, none);
	warns(ANON, "https://h", "[limits]\nlinks = 1\n[access]\nrule = allow * admin\n", 0, said);
	warns(ANON, "https://h", "[limits]\nlinks = 1\n[access]\nidentity = own *\n", 0, said);
	warns(ANON, "https://h", "[limits]\nlinks = 2\n[access]\nrule = allow * admin\n", 0, none);
}
END_TEST

START_TEST(several)
{
	static const char *const all[] = { IN_CLEAR, KEY_IS, KEY_OLD, ONE_LINK, NULL };

	warns(SERVICE, "http://h", "[limits]\nlinks = 1\n[access]\nidentity = own *\n", KEY_EXP_S,
	      all);
}
END_TEST

/* The longest of everything is cut, not written past. */
START_TEST(long_ones)
{
	char url[300];

	snprintf(url, sizeof(url), "http://%0255d", 1);
	warns(ANON, url, "", 0, (const char *const[]){ IN_CLEAR, NULL });
	ck_assert(conf_warning(&conf, 0, 0, &why));
	ck_assert_msg(strstr(why.text, "write https://"), "%s", why.text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conf_warning");
	TCase *t = tcase_create("conf_warning");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, one_key, 0, sizeof(keys) / sizeof(*keys));
	tcase_add_test(t, no_keys);
	tcase_add_loop_test(t, one_url, 0, sizeof(urls) / sizeof(*urls));
	tcase_add_loop_test(t, one_auth_url, 0, sizeof(auths) / sizeof(*auths));
	tcase_add_test(t, one_link);
	tcase_add_test(t, several);
	tcase_add_test(t, long_ones);
	suite_add_tcase(s, t);
	return suite_run(s);
}
