/* SPDX-License-Identifier: MIT */
/* daemon/app/conf.h: times, the proxy, and the daemon's own token. */
#include "tests/unit/conf_util.h"
#include "suite.h"

static void set(const char *name, const char *value)
{
	ck_assert_msg(conf_set(&conf, "here", "upstream", name, value, &why) == 0, "%s", why.text);
}

static void set_refused(const char *name, const char *value, const char *word)
{
	ck_assert_int_eq(conf_set(&conf, "here", "upstream", name, value, &why), -EINVAL);
	ck_assert_msg(strstr(why.text, word), "%s; expected %s", why.text, word);
}

static void finish_refused(const char *url, const char *word)
{
	ck_assert_int_lt(finish(url), 0);
	ck_assert_msg(strstr(why.text, word), "%s; expected %s", why.text, word);
}

static void again(void)
{
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
}

static void expect_printed(const char *words, const char *never)
{
	char *text = printed(0);

	ck_assert_msg(strstr(text, words), "%s; expected %s", text, words);
	ck_assert_msg(!never || !strstr(text, never), "%s; with %s", text, never);
	free(text);
}

START_TEST(test_times)
{
	ck_assert_uint_eq(conf.stable_ms, 30000);
	ck_assert_uint_eq(conf.dns_ms, 10000);
	ck_assert_uint_eq(conf.connect_ms, 5000);
	ck_assert_uint_eq(conf.attempt_ms, 25000);
	ck_assert_uint_eq(conf.tcp_timeout_ms, 35000);
	ck_assert_uint_eq(conf.join_timeout_ms, 15000);
	ck_assert_uint_eq(conf.joins_per_s, 10);
	ck_assert_uint_eq(conf.token_lead_ms, 120000);
	ck_assert_uint_eq(conf.token_timeout_ms, 10000);
	set("stable", "1m");
	set("dns_timeout", "2s");
	set("connect_timeout", "1s");
	set("attempt_timeout", "9s");
	set("tcp_timeout", "20s");
	set("join_timeout", "12s");
	set("joins_per_second", "3");
	set("token_lead", "30s");
	set("token_timeout", "4s");
	ck_assert_uint_eq(conf.stable_ms, 60000);
	ck_assert_uint_eq(conf.dns_ms, 2000);
	ck_assert_uint_eq(conf.connect_ms, 1000);
	ck_assert_uint_eq(conf.attempt_ms, 9000);
	ck_assert_uint_eq(conf.tcp_timeout_ms, 20000);
	ck_assert_uint_eq(conf.join_timeout_ms, 12000);
	ck_assert_uint_eq(conf.joins_per_s, 3);
	ck_assert_uint_eq(conf.token_lead_ms, 30000);
	ck_assert_uint_eq(conf.token_timeout_ms, 4000);
	set_refused("tcp_timeout", "10ms", "expected a time");
	set_refused("connect_timeout", "5", "expected a time");
	set_refused("joins_per_second", "0", "expected a number from 1");
}
END_TEST

START_TEST(test_proxy)
{
	char *auth = path_in("proxy");

	set("proxy", "http://proxy.corp:3128");
	ck_assert_msg(finish("https://x.supabase.co") == 0, "%s", why.text);
	ck_assert_str_eq(conf.proxy_at.host, "proxy.corp");
	ck_assert_uint_eq(conf.proxy_at.port, 3128);
	ck_assert_ptr_null(conf.proxy_auth);
	expect_printed("proxy     http://proxy.corp:3128\n", NULL);
	again();
	set("proxy", "http://[::1]");
	set("proxy_auth_file", auth);
	finish_refused("https://x.supabase.co", "proxy_auth_file");
	again();
	put(auth, "user:pass word\n", 15, 0600);
	set("proxy", "http://[::1]");
	set("proxy_auth_file", auth);
	finish_refused("https://x.supabase.co", "proxy_auth_file");
	again();
	put(auth, "nobody\n", 7, 0600);
	set("proxy", "http://[::1]");
	set("proxy_auth_file", auth);
	finish_refused("https://x.supabase.co", "USER:PASSWORD");
	again();
	put(auth, "user:hidden-word\n", 17, 0600);
	set("proxy", "http://[::1]");
	set("proxy_auth_file", auth);
	ck_assert_msg(finish("https://x.supabase.co") == 0, "%s", why.text);
	ck_assert_str_eq(conf.proxy_at.host, "::1");
	ck_assert_uint_eq(conf.proxy_at.port, 80);
	expect_printed("with a password", "hidden-word");
	again();
	set("proxy_auth_file", auth);
	finish_refused("https://x.supabase.co", "there is no proxy");
	set_refused("proxy", "https://x", "without TLS");
	set_refused("proxy", "socks5://x", "http://HOST:PORT");
	set_refused("proxy", "http://u:p@x:1", "proxy_auth_file");
	set_refused("proxy", "http://x/path", "without a path");
	set_refused("proxy", "http://x:99999", "port");
	free(auth);
}
END_TEST

START_TEST(test_auth_address)
{
	static const struct {
		const char *url, *auth_url, *is;
	} cases[] = {
		{ "https://ref.supabase.co", NULL, "https://ref.supabase.co:443/auth/v1" },
		{ "wss://gw/some/realtime/v1", NULL, "https://gw:443/some/auth/v1" },
		{ "http://127.0.0.1:4000/socket", "http://127.0.0.1:9999",
		  "http://127.0.0.1:9999" },
		{ "https://a", "https://b:1/auth/v1/", "https://b:1/auth/v1" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		again();
		set("refresh_token_file", "/run/seed");
		set("state_dir", "/var/lib/x");
		if (cases[i].auth_url)
			set("auth_url", cases[i].auth_url);
		ck_assert_msg(finish(cases[i].url) == 0, "%s", why.text);
		ck_assert_str_eq(conf.auth.url, cases[i].is);
		ck_assert_int_eq(conf.token, CONF_TOKEN_REFRESH);
	}
	expect_printed("begun with /run/seed, kept in /var/lib/x", NULL);
	again();
	set("refresh_token_file", "/run/seed");
	finish_refused("http://127.0.0.1:4000/socket", "auth_url");
	set_refused("auth_url", "ftp://x", "https://");
}
END_TEST

START_TEST(test_one_source)
{
	set("token_file", "/a");
	set("token_command", "/b | c");
	finish_refused("https://x.supabase.co", "one of them");
	again();
	ck_assert_int_eq(finish("https://x.supabase.co"), 0);
	ck_assert_int_eq(conf.token, CONF_TOKEN_NONE);
	again();
	set("token_command", "vault read -field=jwt x");
	ck_assert_int_eq(finish("https://x.supabase.co"), 0);
	ck_assert_int_eq(conf.token, CONF_TOKEN_COMMAND);
	expect_printed("token     from the command vault ...\n", "jwt");
	set_refused("token_file", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "write it into a file");
	set_refused("token_command", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "token_file");
	set_refused("state_dir", "relative", "absolute");
}
END_TEST

/* What a command says may be a secret; its program is none. */
START_TEST(test_command_printed)
{
	static const struct {
		const char *command, *said;
	} cases[] = {
		{ "/usr/local/bin/get-token", "from the command /usr/local/bin/get-token\n" },
		{ "get_token --password=hidden", "from the command get_token ...\n" },
		{ "cat /x|jq hidden", "from the command cat ...\n" },
		{ "VAULT_TOKEN=hidden vault read x", "from a command of the shell\n" },
		{ "P=\"a hidden\" x", "from a command of the shell\n" },
		{ "\"a hidden\"", "from a command of the shell\n" },
		{ "$hidden", "from a command of the shell\n" },
		{ "(hidden)", "from a command of the shell\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		again();
		set("token_command", cases[i].command);
		ck_assert_int_eq(finish("https://x.supabase.co"), 0);
		expect_printed(cases[i].said, "hidden");
	}
}
END_TEST

/* {"role":...,"exp":1983812996} */
#define TOKEN_OF(payload) "eyJhbGciOiJIUzI1NiJ9." payload ".c2ln\n"
#define SERVICE_PAYLOAD                                                                    \
	"eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6InNlcnZpY2Vfcm9sZSIsImV4cCI6MTk4MzgxMjk5" \
	"Nn0"
#define ANON_PAYLOAD "eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9"

static void expect_of_token(const char *bytes, const char *words, const char *never)
{
	char *token = path_in("token");

	again();
	if (bytes)
		put(token, bytes, strlen(bytes), 0600);
	set("token_file", token);
	ck_assert_msg(finish("https://x.supabase.co") == 0, "%s", why.text);
	expect_printed(words, never);
	free(token);
}

START_TEST(test_token_printed)
{
	expect_of_token(NULL, "token     the file is not there yet", "warning   [upstream] token");
	expect_of_token(TOKEN_OF(ANON_PAYLOAD),
			"token_file: the token is of the role anon: it gives no more",
			"service_role");
	expect_of_token(TOKEN_OF(SERVICE_PAYLOAD),
			"token_file: the token is of the role service_role, which no policy binds",
			"eyJ");
	/* {"role":"worker","exp":1983812996} */
	expect_of_token(TOKEN_OF("eyJyb2xlIjoid29ya2VyIiwiZXhwIjoxOTgzODEyOTk2fQ"),
			"token     role worker, ends 2032-11-11", "warning   [upstream] token");
	expect_of_token("nonsense", "warning   [upstream] token_file: ", "nonsense");
}
END_TEST

static void expect_of_seed(const char *bytes, const char *words, const char *never)
{
	char *seed = path_in("seed");

	again();
	put(seed, bytes, strlen(bytes), 0600);
	set("refresh_token_file", seed);
	set("state_dir", dir);
	ck_assert_msg(finish("https://x.supabase.co") == 0, "%s", why.text);
	expect_printed(words, never);
	free(seed);
}

START_TEST(test_seed_printed)
{
	expect_of_seed("abcdefghij12\n", "begun with", "warning   [upstream] refresh");
	expect_of_seed("{\"refresh_token\":\"hush\"}", "write its refresh_token alone", "hush");
	expect_of_seed(TOKEN_OF(ANON_PAYLOAD), "looks like an access token", "c2ln");
	expect_of_seed("sb_secret_hush", "looks like an API key", "hush");
	expect_of_seed("two words", "it must hold the", "words\"");
}
END_TEST

static void expect_of_folder(const char *folder, const char *words)
{
	char *path = path_in(folder), *text;

	again();
	set("refresh_token_file", key);
	set("state_dir", path);
	ck_assert_msg(finish("https://x.supabase.co") == 0, "%s", why.text);
	text = printed(0);
	if (words)
		ck_assert_msg(strstr(text, "warning   [upstream] state_dir: ") &&
				      strstr(text, words),
			      "%s; expected %s", text, words);
	else
		ck_assert_msg(!strstr(text, "state_dir"), "%s", text);
	free(text);
	free(path);
}

/* Where what the refresh token becomes is kept; nothing is made by looking. */
START_TEST(test_state_printed)
{
	char *path = path_in("state");

	expect_of_folder("state", NULL);
	expect_of_folder("state/below/", NULL);
	ck_assert_int_eq(access(path, F_OK), -1);
	expect_of_folder("key", "is no folder");
	expect_of_folder("key/below", "Not a directory");
	ck_assert_int_eq(mkdir(path, 0700), 0);
	expect_of_folder("state", NULL);
	ck_assert_int_eq(chmod(path, 0770), 0);
	expect_of_folder("state", "run: chmod 700");
	ck_assert_int_eq(chmod(path, 0500), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(path, 12345, (gid_t)-1), 0);
		expect_of_folder("state", "belongs to uid 12345");
	} else {
		expect_of_folder("state", "Permission denied");
		expect_of_folder("state/below", "where it would be made: Permission denied");
	}
	free(path);
}
END_TEST

static void state_is(const char *systemd, const char *xdg, const char *home, const char *is)
{
	const char *const names[] = { "STATE_DIRECTORY", "XDG_STATE_HOME", "HOME" };
	const char *const values[] = { systemd, xdg, home };

	for (unsigned i = 0; i < 3; i++) {
		if (values[i])
			setenv(names[i], values[i], 1);
		else
			unsetenv(names[i]);
	}
	again();
	if (is)
		ck_assert_str_eq(conf.state_dir, is);
	else
		ck_assert_ptr_null(conf.state_dir);
}

START_TEST(test_state_dir)
{
	state_is("/var/lib/rtbridged", "/x", "/home/a", "/var/lib/rtbridged");
	state_is("/var/lib/a:/var/lib/b", NULL, NULL, "/var/lib/a");
	state_is(NULL, "/x", "/home/a", "/x/rtbridge");
	state_is(NULL, "relative", "/home/a", "/home/a/.local/state/rtbridge");
	state_is(NULL, NULL, NULL, NULL);
	set("refresh_token_file", "/run/seed");
	finish_refused("https://x.supabase.co", "state_dir = /PATH");
}
END_TEST

/* Another key in the file: the request has it, and only it. */
START_TEST(test_rekey)
{
	struct secret *old = NULL;
	char *bad;

	ck_assert_int_eq(finish("https://x.supabase.co"), 0);
	ck_assert_int_eq(conf_rekey(&conf, &old, &why), CONF_SAME);
	ck_assert_ptr_null(old);
	put(key, "sb_publishable_another\n", 23, 0600);
	ck_assert_int_eq(conf_rekey(&conf, &old, &why), 0);
	ck_assert_ptr_nonnull(old);
	ck_assert_str_eq(secret_bytes(old), KEY);
	old = secret_free(old);
	ck_assert_str_eq(secret_bytes(conf.apikey), "sb_publishable_another");
	ck_assert_ptr_nonnull(strstr(secret_bytes(conf.request), "apikey=sb_publishable_another&"));
	ck_assert_int_eq(conf.key_kind, CONF_KEY_PLAIN);
	/* What is wrong changes nothing, and says where. */
	put(key, "two words\n", 10, 0600);
	ck_assert_int_lt(conf_rekey(&conf, &old, &why), 0);
	ck_assert_ptr_null(old);
	bad = strstr(why.text, key);
	ck_assert_msg(bad, "%s", why.text);
	ck_assert_str_eq(secret_bytes(conf.apikey), "sb_publishable_another");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conf_upstream");
	TCase *t = tcase_create("upstream");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_times);
	tcase_add_test(t, test_proxy);
	tcase_add_test(t, test_auth_address);
	tcase_add_test(t, test_one_source);
	tcase_add_test(t, test_command_printed);
	tcase_add_test(t, test_token_printed);
	tcase_add_test(t, test_state_dir);
	tcase_add_test(t, test_seed_printed);
	tcase_add_test(t, test_state_printed);
	tcase_add_test(t, test_rekey);
	suite_add_tcase(s, t);
	return suite_run(s);
}
