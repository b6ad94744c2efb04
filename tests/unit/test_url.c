/* SPDX-License-Identifier: MIT */
#include "app/url.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "suite.h"

static const struct {
	const char *url;
	bool tls;
	const char *host;
	uint16_t port;
	const char *path;
} good[] = {
#define V1 "/realtime/v1/websocket"
	{ "https://ref.supabase.co", true, "ref.supabase.co", 443, V1 },
	{ "https://ref.supabase.co/", true, "ref.supabase.co", 443, V1 },
	{ "https://ref.supabase.co///", true, "ref.supabase.co", 443, V1 },
	{ "https://ref.supabase.co/realtime/v1", true, "ref.supabase.co", 443, V1 },
	{ "https://ref.supabase.co/realtime/v1/", true, "ref.supabase.co", 443, V1 },
	{ "https://ref.supabase.co/realtime/v1/websocket", true, "ref.supabase.co", 443, V1 },
	{ "https://ref.supabase.co/realtime/v1/websocket/", true, "ref.supabase.co", 443, V1 },
	{ "wss://ref.supabase.co/realtime/v1/websocket", true, "ref.supabase.co", 443, V1 },
	{ "wss://h/socket", true, "h", 443, "/socket/websocket" },
	{ "ws://h/socket/websocket", false, "h", 80, "/socket/websocket" },
	{ "http://localhost:54321", false, "localhost", 54321, V1 },
	{ "http://localhost:54321/socket/", false, "localhost", 54321, "/socket/websocket" },
	{ "ws://127.0.0.1:1/any/path/websocket", false, "127.0.0.1", 1, "/any/path/websocket" },
	{ "ws://h:65535", false, "h", 65535, V1 },
	{ "http://[::1]:4000/socket", false, "::1", 4000, "/socket/websocket" },
	{ "https://[2001:db8::2]", true, "2001:db8::2", 443, V1 },
	{ "HTTPS://Ref.Supabase.co", true, "Ref.Supabase.co", 443, V1 },
	{ "WsS://h_1-2/x", true, "h_1-2", 443, "/x" V1 },
	{ "https://h/mysocket", true, "h", 443, "/mysocket" V1 },
	{ "https://h/mywebsocket", true, "h", 443, "/mywebsocket" V1 },
	{ "https://h/a@b/websocket", true, "h", 443, "/a@b/websocket" },
};

static const struct {
	const char *url, *word;
} bad[] = {
	{ "", "https://" },
	{ "ref.supabase.co", "https://" },
	{ "ref", "https://" },
	{ "ftp://h", "https://" },
	{ "https:/h", "https://" },
	{ " https://h", "https://" },
	{ "https://", "no host" },
	{ "https:///path", "no host" },
	{ "https://:443", "no host" },
	{ "https://[]", "no host" },
	{ "https://[::1", "no host" },
	{ "https://[::1]x", "path may follow" },
	{ "https://[fe80::1%eth0]", "character" },
	{ "https://[nothing]", "IPv6" },
	{ "https://h ", "space" },
	{ "https://h/a b", "space" },
	{ "https://h\r\nx", "space" },
	{ "https://h\177", "not ASCII" },
	{ "https://\303\244.de", "not ASCII" },
	{ "https://h,i", "character" },
	{ "https://user@h", "user" },
	{ "https://user:pw@h", "user" },
	{ "https://h?apikey=x", "query" },
	{ "https://h/realtime/v1/websocket?apikey=x&vsn=1.0.0", "query" },
	{ "https://h/#x", "'#'" },
	{ "https://h:", "port" },
	{ "https://h:0", "port" },
	{ "https://h:65536", "port" },
	{ "https://h:99999999999999999999999", "port" },
	{ "https://h:-1", "port" },
	{ "https://h:+1", "port" },
	{ "https://h:x", "port" },
	{ "https://h:80x", "path may follow" },
	{ "https://h:80:90", "path may follow" },
};

START_TEST(forms)
{
	struct url_parts u;
	char text[256];

	memset(&u, 0xee, sizeof(u));
	ck_assert_msg(url_parse(good[_i].url, &u, text, sizeof(text)) == 0, "%s: %s", good[_i].url,
		      text);
	ck_assert(u.tls == good[_i].tls);
	ck_assert_str_eq(u.host, good[_i].host);
	ck_assert_uint_eq(u.port, good[_i].port);
	ck_assert_str_eq(u.path, good[_i].path);
}
END_TEST

START_TEST(refusals)
{
	struct url_parts u;
	char text[256] = "";

	ck_assert_msg(url_parse(bad[_i].url, &u, text, sizeof(text)) == -EINVAL, "%s is taken",
		      bad[_i].url);
	ck_assert_msg(strstr(text, bad[_i].word) && strstr(text, "; expected "), "%s: %s",
		      bad[_i].url, text);
}
END_TEST

START_TEST(lengths)
{
	struct url_parts u;
	char url[1200], text[256];

	snprintf(url, sizeof(url), "https://%0255d", 1);
	ck_assert_int_eq(url_parse(url, &u, text, sizeof(text)), 0);
	ck_assert_uint_eq(strlen(u.host), 255);
	snprintf(url, sizeof(url), "https://%0256d", 1);
	ck_assert_int_eq(url_parse(url, &u, text, sizeof(text)), -EINVAL);
	snprintf(url, sizeof(url), "https://h/%0500d/websocket", 1);
	ck_assert_int_eq(url_parse(url, &u, text, sizeof(text)), 0);
	ck_assert_uint_eq(strlen(u.path), 511);
	snprintf(url, sizeof(url), "https://h/%0501d/websocket", 1);
	ck_assert_int_eq(url_parse(url, &u, text, sizeof(text)), -EINVAL);
	/* A small text buffer is no reason to write past it. */
	ck_assert_int_eq(url_parse("x", &u, text, 5), -EINVAL);
	ck_assert_uint_eq(strlen(text), 4);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("url");
	TCase *t = tcase_create("url");

	tcase_add_loop_test(t, forms, 0, sizeof(good) / sizeof(*good));
	tcase_add_loop_test(t, refusals, 0, sizeof(bad) / sizeof(*bad));
	tcase_add_test(t, lengths);
	suite_add_tcase(s, t);
	return suite_run(s);
}
