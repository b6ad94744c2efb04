/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/conf_util.h"
#include "suite.h"

START_TEST(every_key)
{
	ck_assert_int_eq(read_text("# a comment\n"
				   "[upstream]\n"
				   "url = https://ref.supabase.co\n"
				   "apikey_file=/etc/key\n"
				   "vsn = 1.0.0\n"
				   "params = a=b%20c&d=%25\n"
				   "params = log_level=info\n"
				   "header = x-one: 1\n"
				   "header = X-Two: a: b\n"
				   "ca_file = /etc/ca.pem\n"
				   "probation = off\n"
				   "connect = always\n"
				   "private_only = no\n"
				   "allow_insecure = yes\n"
				   "\n"
				   "[socket]\n"
				   "path = /run/x.sock\n"
				   "mode = 0660\n"
				   "group = staff\n"
				   "; another comment\n"
				   "[limits]\n"
				   "clients = 5\n"
				   "subscriptions = 6\n"
				   "channels = 7\n"
				   "client_queue = 1M\n"
				   "frame = 64k\n"
				   "unsent = 65536\n"
				   "[log]\n"
				   "level = debug\n"),
			 0);
	ck_assert_str_eq(conf.url, "https://ref.supabase.co");
	ck_assert_str_eq(conf.apikey_file, "/etc/key");
	ck_assert_int_eq(conf.vsn, PHX_VSN_1);
	ck_assert_str_eq(conf.params[0], "a=b%20c&d=%25");
	ck_assert_str_eq(conf.params[1], "log_level=info");
	ck_assert_ptr_null(conf.params[2]);
	ck_assert_str_eq(conf.headers[0], "x-one: 1");
	ck_assert_str_eq(conf.headers[1], "X-Two: a: b");
	ck_assert_ptr_null(conf.headers[2]);
	ck_assert_str_eq(conf.ca_file, "/etc/ca.pem");
	ck_assert(conf.allow_insecure);
	ck_assert_int_eq(conf.probation, CONF_PROBATION_OFF);
	ck_assert_int_eq(conf.connect, CONF_CONNECT_ALWAYS);
	ck_assert_int_eq(conf.private_only, CONF_PRIVATE_NO);
	ck_assert_int_eq(conf.trackers, CONF_TRACKERS_LINKS);
	ck_assert_str_eq(conf.socket_path, "/run/x.sock");
	ck_assert_uint_eq(conf.socket_mode, 0660);
	ck_assert_str_eq(conf.socket_group, "staff");
	ck_assert_uint_eq(conf.max_clients, 5);
	ck_assert_uint_eq(conf.max_subscriptions, 6);
	ck_assert_uint_eq(conf.max_channels, 7);
	ck_assert_uint_eq(conf.client_queue_bytes, 1024 * 1024);
	ck_assert_uint_eq(conf.frame_bytes, 65536);
	ck_assert_uint_eq(conf.send_bytes, 65536);
	ck_assert_int_eq(conf.log_level, LOG_LEVEL_DEBUG);
}
END_TEST

START_TEST(wrong_values)
{
	static const struct {
		const char *section, *line, *word;
	} rows[] = {
		{ "upstream", "vsn = 3.0.0", "[upstream] vsn: expected 1.0.0 or 2.0.0" },
		{ "upstream", "url =", "[upstream] url" },
		{ "upstream", "url = ref.supabase.co", "[upstream] url: " },
		{ "upstream", "url = https://u:sesame@h", "[upstream] url: " },
		{ "upstream", "params = novalue", "params: expected NAME=VALUE" },
		{ "upstream", "params = =x", "params: expected NAME=VALUE" },
		{ "upstream", "params = a=b c", "params: expected NAME=VALUE" },
		{ "upstream", "params = a=b#c", "params: expected NAME=VALUE" },
		{ "upstream", "params = apikey=sesame", "apikey_file" },
		{ "upstream", "params = a=b&apikey=sesame", "apikey_file" },
		{ "upstream", "params = vsn=2.0.0", "vsn" },
		{ "upstream", "header = Authorization: sesame", "x-NAME" },
		{ "upstream", "header = x-nothing", "x-NAME" },
		{ "upstream", "header = x-a b: c", "character" },
		{ "upstream", "header = x-api-key: sesame", "apikey_file" },
		{ "upstream", "header = x-a: b\rx-evil: c", "control character" },
		{ "upstream", "allow_insecure = perhaps", "expected yes or no" },
		{ "socket", "path = run/x.sock", "absolute path" },
		{ "socket", "mode = 999", "octal" },
		{ "socket", "mode = 01777", "octal" },
		{ "socket", "mode = rw", "octal" },
		{ "socket", "mode = 0", "octal" },
		{ "limits", "clients = 0", "from 1 to 100000" },
		{ "limits", "clients = -1", "from 1 to 100000" },
		{ "limits", "clients = 1x", "from 1 to 100000" },
		{ "limits", "clients = 99999999999999999999999", "from 1 to 100000" },
		{ "limits", "client_queue = 18014398509481984K", "from 65536 to 268435456" },
		{ "limits", "frame = 17M", "from 4096 to 16777216" },
		{ "log", "level = loud", "expected error, warning" },
		{ "log", "levle = info", "[log] has no key \"levle\"" },
		{ "logs", "level = info", "no section [logs]" },
		{ "upstream", "private_only = maybe", "expected auto, yes or no" },
		{ "upstream", "probation = on", "expected after_failure, always or off" },
		{ "upstream", "connect = on_demand", "expected on-demand or always" },
		{ "presence", "trackers = all", "expected links, merge or refuse" },
		{ "plan", "name = large", "expected custom, free, pro or team" },
		{ "plan", "payload_kb = 0", "1" },
		{ "plan", "payload_kb = 5001", "5000" },
	};
	char text[300];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(text, sizeof(text), "[log]\nlevel = info\n\n[%s]\n%s\n", rows[i].section,
			 rows[i].line);
		refused(text, 5, rows[i].word);
		ck_assert_ptr_null(strstr(why.text, "sesame"));
	}
}
END_TEST

START_TEST(syntax)
{
	refused("level = debug\n[log]\n", 1, "[section]");
	refused("\n\n# x\nlevel = debug\n", 4, "[section]");
	ck_assert_int_eq(read_text("[log]\nlevel\n"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why.text, "2"));
	ck_assert_int_eq(read_text("[log\nlevel = info\n"), -EINVAL);
	ck_assert_int_eq(strncmp(why.text, file, strlen(file)), 0);
	ck_assert_int_eq(read_text(""), 0);
	ck_assert_int_eq(read_text("# nothing\n"), 0);
	ck_assert_int_eq(read_text("[log]\n[log]\nlevel = info"), 0);
	ck_assert_int_eq(conf.log_level, LOG_LEVEL_INFO);
}
END_TEST

START_TEST(ways_to_write)
{
	static const char bom[] = "\xef\xbb\xbf[log]\nlevel = debug\n";
	static const char nul[] = "[upstream]\nurl = https://h\0.example\n";
	char *text;

	ck_assert_int_eq(read_text("[log]\r\nlevel = debug\r\n[socket]\r\nmode = 0600\r\n"), 0);
	ck_assert_int_eq(conf.log_level, LOG_LEVEL_DEBUG);
	conf.log_level = LOG_LEVEL_NOTICE;
	ck_assert_msg(read_text(bom) == 0, "%s", why.text);
	ck_assert_int_eq(conf.log_level, LOG_LEVEL_DEBUG);
	/* A NUL would cut the value in silence. */
	put(file, nul, sizeof(nul) - 1, 0644);
	ck_assert_int_eq(conf_read(&conf, file, &why), -EINVAL);
	ck_assert_msg(strstr(why.text, ":2: ") && strstr(why.text, "NUL"), "%s", why.text);
	ck_assert_int_eq(read_text("[log]\n# \xfc\n"), -EINVAL);
	ck_assert_msg(strstr(why.text, ":2: ") && strstr(why.text, "UTF-8"), "%s", why.text);
	/* Long lines are whole. */
	ck_assert_int_ge(asprintf(&text, "[upstream]\nparams = a=%010000d\n", 7), 0);
	ck_assert_int_eq(read_text(text), 0);
	ck_assert_uint_eq(strlen(conf.params[0]), 10002);
	free(text);
	/* The last one of a key that does not repeat. */
	ck_assert_int_eq(read_text("[log]\nlevel = error\nlevel = info\n"), 0);
	ck_assert_int_eq(conf.log_level, LOG_LEVEL_INFO);
}
END_TEST

/* The endpoints for HTTP stand beside the WebSocket's. */
START_TEST(http_addresses)
{
	static const struct {
		const char *url, *path, *http;
	} rows[] = {
		{ "https://ref.example", "/realtime/v1/api",
		  "https://ref.example:443/realtime/v1/api" },
		{ "wss://ref.example/realtime/v1", "/realtime/v1/api",
		  "https://ref.example:443/realtime/v1/api" },
		{ "wss://ref.example/realtime/v1/websocket", "/realtime/v1/api",
		  "https://ref.example:443/realtime/v1/api" },
		{ "http://[::1]:4000/socket", "/api", "http://[::1]:4000/api" },
		{ "ws://h:4000/socket/websocket", "/api", "http://h:4000/api" },
		{ "ws://h:4000/behind/a/socket/", "/behind/a/api", "http://h:4000/behind/a/api" },
		{ "ws://h:4000/websocket", "/api", "http://h:4000/api" },
		{ "ws://h:4000/odd/websocket", "/odd/api", "http://h:4000/odd/api" },
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		conf_done(&conf);
		ck_assert_int_eq(conf_init(&conf), 0);
		ck_assert_int_eq(conf_set(&conf, "x", "upstream", "url", rows[i].url, &why), 0);
		ck_assert_int_eq(conf_set(&conf, "x", "upstream", "apikey_file", key, &why), 0);
		ck_assert_msg(conf_finish(&conf, &why) == 0, "%s", why.text);
		ck_assert_str_eq(conf.api.path, rows[i].path);
		ck_assert_str_eq(conf.api.url, rows[i].http);
	}
}
END_TEST

START_TEST(plans)
{
	static const struct {
		const char *text;
		size_t bytes;
	} rows[] = {
		{ "", 0 },
		{ "name = free\n", 256500 },
		{ "name = pro\n", 3000500 },
		{ "name = team\n", 3000500 },
		{ "name = custom\n", 0 },
		{ "payload_kb = 10\n", 10500 },
		{ "name = free\npayload_kb = 10\n", 10500 },
	};
	char text[200];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		conf_done(&conf);
		ck_assert_int_eq(conf_init(&conf), 0);
		snprintf(text, sizeof(text),
			 "[upstream]\nurl = https://h\napikey_file = %s\n[plan]\n%s", key,
			 rows[i].text);
		ck_assert_msg(read_text(text) == 0, "%s", why.text);
		ck_assert_msg(conf_finish(&conf, &why) == 0, "%s", why.text);
		ck_assert_uint_eq(conf.payload_bytes, rows[i].bytes);
	}
}
END_TEST

START_TEST(too_many_params)
{
	char text[1000] = "[upstream]\n";

	for (unsigned i = 0; i < CONF_LIST_MAX; i++)
		strcat(text, "params = a=b\n");
	ck_assert_int_eq(read_text(text), 0);
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
	strcat(text, "params = a=b\n");
	refused(text, CONF_LIST_MAX + 2, "at most 32");
}
END_TEST

START_TEST(drop_ins)
{
	char *d = path_in("x.conf.d"), *a = path_in("x.conf.d/10-a.conf"),
	     *b = path_in("x.conf.d/9-b.conf"), *hidden = path_in("x.conf.d/.c.conf"),
	     *other = path_in("x.conf.d/d.conf~"), *sub = path_in("x.conf.d/e.conf");

	ck_assert_int_eq(mkdir(d, 0700), 0);
	put(a, "[log]\nlevel = error\n[upstream]\nparams = b=1\n", 44, 0644);
	put(b, "[log]\nlevel = debug\n[upstream]\nparams = c=1\n", 44, 0644);
	put(hidden, "x", 1, 0644);
	put(other, "x", 1, 0644);
	ck_assert_int_eq(read_text("[log]\nlevel = info\n[upstream]\nparams = a=1\n"), 0);
	ck_assert_int_eq(conf.log_level, LOG_LEVEL_DEBUG); /* "10" sorts before "9" */
	ck_assert_str_eq(conf.params[0], "a=1");
	ck_assert_str_eq(conf.params[1], "b=1");
	ck_assert_str_eq(conf.params[2], "c=1");
	put(a, "[log]\nlevel = silent\n", 21, 0644);
	ck_assert_int_eq(conf_read(&conf, file, &why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why.text, "10-a.conf:2: "));
	put(a, "", 0, 0644);
	ck_assert_int_eq(mkdir(sub, 0700), 0);
	ck_assert_int_lt(conf_read(&conf, file, &why), 0);
	ck_assert_ptr_nonnull(strstr(why.text, "e.conf"));
	free(d);
	free(a);
	free(b);
	free(hidden);
	free(other);
	free(sub);
}
END_TEST

START_TEST(drop_ins_that_cannot_be_read)
{
	char *d = path_in("x.conf.d");

	put(d, "", 0, 0644); /* a file in the folder's place */
	ck_assert_int_eq(read_text("[log]\nlevel = info\n"), -ENOTDIR);
	ck_assert_msg(strstr(why.text, "x.conf.d: "), "%s", why.text);
	free(d);
}
END_TEST

START_TEST(missing_file)
{
	ck_assert_int_eq(conf_read(&conf, file, &why), -ENOENT);
	ck_assert_ptr_nonnull(strstr(why.text, file));
	ck_assert_int_eq(mkdir(file, 0700), 0);
	ck_assert_int_lt(conf_read(&conf, file, &why), 0);
	ck_assert_ptr_nonnull(strstr(why.text, file));
}
END_TEST

START_TEST(fifo_as_file)
{
	ck_assert_int_eq(mkfifo(file, 0600), 0);
	ck_assert_int_lt(conf_read(&conf, file, &why), 0);
	ck_assert_ptr_nonnull(strstr(why.text, file));
}
END_TEST

START_TEST(what_is_derived)
{
	ck_assert_int_eq(conf_set(&conf, "x", "upstream", "params", "a=%2525", &why), 0);
	ck_assert_int_eq(finish("http://[::1]:4000/socket"), 0);
	ck_assert(!conf.tls);
	ck_assert_str_eq(conf.host, "::1");
	ck_assert_uint_eq(conf.port, 4000);
	ck_assert_str_eq(conf.public_url, "ws://[::1]:4000/socket/websocket");
	ck_assert_str_eq(secret_bytes(conf.request),
			 "/socket/websocket?apikey=" KEY "&a=%2525&vsn=2.0.0");
}
END_TEST

START_TEST(odd_keys_are_encoded)
{
	put(key, "a+b/c=&?%\xff", 10, 0600);
	ck_assert_int_eq(conf_set(&conf, "x", "upstream", "vsn", "1.0.0", &why), 0);
	ck_assert_int_eq(finish("https://h"), 0);
	ck_assert_str_eq(secret_bytes(conf.request),
			 "/realtime/v1/websocket?apikey=a%2Bb%2Fc%3D%26%3F%25%FF&vsn=1.0.0");
}
END_TEST

START_TEST(what_is_missing)
{
	ck_assert_int_eq(conf_finish(&conf, &why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why.text, "[upstream] url is missing"));
	ck_assert_int_eq(conf_set(&conf, "x", "upstream", "url", "https://h", &why), 0);
	ck_assert_int_eq(conf_finish(&conf, &why), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why.text, "[upstream] apikey_file is missing"));
}
END_TEST

START_TEST(key_files)
{
	static const struct {
		const char *data;
		mode_t mode;
		const char *word;
	} rows[] = {
		{ "", 0600, "empty" },
		{ " \n\t", 0600, "empty" },
		{ "the-secret words", 0600, "more than one word" },
		{ "the-secret\nwords\n", 0600, "more than one word" },
		{ "the-secret", 0666, "others" },
	};
	char big[9000];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		put(key, rows[i].data, strlen(rows[i].data), rows[i].mode);
		ck_assert_int_lt(finish("https://h"), 0);
		ck_assert_msg(strstr(why.text, rows[i].word), "%s", why.text);
		ck_assert_ptr_nonnull(strstr(why.text, key));
		ck_assert_ptr_null(strstr(why.text, "the-secret"));
		conf_done(&conf);
		ck_assert_int_eq(conf_init(&conf), 0);
	}
	memset(big, 'x', sizeof(big));
	put(key, big, sizeof(big), 0600);
	ck_assert_int_eq(finish("https://h"), -EFBIG);
	ck_assert_int_eq(unlink(key), 0);
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
	ck_assert_int_eq(finish("https://h"), -ENOENT);
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
	ck_assert_int_eq(mkfifo(key, 0600), 0);
	ck_assert_int_eq(finish("https://h"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why.text, "not a regular file"));
}
END_TEST

/* A key where its file belongs is not repeated: the complaint goes to the journal. */
START_TEST(a_key_for_its_file)
{
	static const char *const keys[] = { "eyJhbGciOi.eyJzZXNhbWUi.sesame",
					    "\"eyJ.sesame\"",
					    "Bearer eyJ/sesame",
					    "https://h/?apikey=eyJsesame",
					    "sb_secret_sesame",
					    "sb_publishable_sesame",
					    "0123456789012345678901234567890123sesame" };
	static const char *const files[] = {
		"/etc/eyJ.key", "./eyJ", "a.key", "keyJ", "x/sb_secret_y", "anon-sb_secret_key"
	};
	char text[200];

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		for (int k = 0; k < 2; k++) {
			snprintf(text, sizeof(text), "[upstream]\n%s = %s\n",
				 k ? "apikey_file" : "ca_file", keys[i]);
			refused(text, 2, "_file: this looks like a key itself; write it into");
			ck_assert_ptr_null(strstr(why.text, "sesame"));
		}
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		snprintf(text, sizeof(text), "[upstream]\napikey_file = %s\n", files[i]);
		ck_assert_msg(read_text(text) == 0, "%s", why.text);
		ck_assert_str_eq(conf.apikey_file, files[i]);
	}
}
END_TEST

/* A file that systemd keeps for the service alone. */
START_TEST(credentials)
{
	char *path = path_in("key");

	ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
	ck_assert_msg(read_text("[upstream]\nurl = https://h\napikey_file = credential:key\n"
				"refresh_token_file = credential:session\n") == 0,
		      "%s", why.text);
	ck_assert_str_eq(conf.apikey_file, path);
	ck_assert_int_eq(conf_finish(&conf, &why), 0);
	conf_done(&conf);
	ck_assert_int_eq(conf_init(&conf), 0);
	refused("[upstream]\napikey_file = credential:\n", 2, "LoadCredential=");
	refused("[upstream]\napikey_file = credential:../key\n", 2, "LoadCredential=");
	refused("[upstream]\napikey_file = credential:a/b\n", 2, "LoadCredential=");
	refused("[upstream]\napikey_file = credential:eyJsesame\n", 2, "looks like a key itself");
	ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", "here", 1), 0);
	refused("[upstream]\napikey_file = credential:key\n", 2, "no CREDENTIALS_DIRECTORY");
	ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	refused("[upstream]\ntoken_file = credential:key\n", 2, "no CREDENTIALS_DIRECTORY");
	free(path);
}
END_TEST

START_TEST(nothing_secret_is_printed)
{
	char *text;

	ck_assert_int_eq(conf_set(&conf, "x", "upstream", "header", "x-h: hush", &why), 0);
	ck_assert_int_eq(conf_set(&conf, "x", "upstream", "params", "p=hush", &why), 0);
	ck_assert_int_eq(finish("https://ref.supabase.co"), 0);
	text = printed(0);
	ck_assert_ptr_nonnull(strstr(text, "wss://ref.supabase.co:443/realtime/v1/websocket\n"));
	ck_assert_ptr_nonnull(strstr(text, "18 bytes"));
	ck_assert_ptr_nonnull(strstr(text, "p=..."));
	ck_assert_ptr_nonnull(strstr(text, "x-h: ..."));
	ck_assert_ptr_null(strstr(text, "hush"));
	ck_assert_ptr_null(strstr(text, "secret"));
	free(text);
}
END_TEST

START_TEST(default_socket)
{
	conf_done(&conf);
	setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
	ck_assert_int_eq(conf_init(&conf), 0);
	ck_assert_str_eq(conf.socket_path, "/run/user/7/rtbridge/rtbridge.sock");
	conf_done(&conf);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	ck_assert_int_eq(conf_init(&conf), 0);
	ck_assert_str_eq(conf.socket_path, "/run/rtbridge/rtbridge.sock");
	conf_done(&conf);
	unsetenv("XDG_RUNTIME_DIR");
	ck_assert_int_eq(conf_init(&conf), 0);
	ck_assert_str_eq(conf.socket_path, "/run/rtbridge/rtbridge.sock");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conf");
	TCase *t = tcase_create("conf");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, every_key);
	tcase_add_test(t, wrong_values);
	tcase_add_test(t, syntax);
	tcase_add_test(t, ways_to_write);
	tcase_add_test(t, http_addresses);
	tcase_add_test(t, plans);
	tcase_add_test(t, too_many_params);
	tcase_add_test(t, drop_ins);
	tcase_add_test(t, drop_ins_that_cannot_be_read);
	tcase_add_test(t, missing_file);
	tcase_add_test(t, fifo_as_file);
	tcase_add_test(t, what_is_derived);
	tcase_add_test(t, odd_keys_are_encoded);
	tcase_add_test(t, what_is_missing);
	tcase_add_test(t, key_files);
	tcase_add_test(t, a_key_for_its_file);
	tcase_add_test(t, credentials);
	tcase_add_test(t, nothing_secret_is_printed);
	tcase_add_test(t, default_socket);
	suite_add_tcase(s, t);
	return suite_run(s);
}
