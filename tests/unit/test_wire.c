/* SPDX-License-Identifier: MIT */
/* wire against a server that misbehaves (tests/wire/raw_server.py): each case ends as it should,
 * exactly once, and the same wire goes on working. */
#include <dirent.h>
#include <errno.h>

#include "wire_raw.h"

static const struct end_case {
	const char *path;
	enum wire_why why;
	uint16_t close_code, http_status;
	const char *text;     /* must be in end.text */
	const char *messages; /* all texts received, or NULL */
} end_cases[] = {
	{ "/hang-up", WIRE_HANDSHAKE, 0, 0, "", NULL },
	{ "/reset", WIRE_HANDSHAKE, 0, 0, "", NULL },
	{ "/half-answer", WIRE_HANDSHAKE, 0, 0, "", NULL },
	{ "/wrong-accept", WIRE_HANDSHAKE, 0, 0, "Accept hash wrong", NULL },
	{ "/no-accept", WIRE_HANDSHAKE, 0, 0, "ACCEPT missing", NULL },
	{ "/unasked-protocol", WIRE_HANDSHAKE, 0, 0, "PROTOCOL", NULL },
	{ "/unasked-extension", WIRE_HANDSHAKE, 0, 0, "EXT", NULL },

	{ "/status-200", WIRE_HTTP, 0, 200, "please log in", NULL },
	{ "/status-301", WIRE_HTTP, 0, 301, "moved", NULL },
	{ "/status-401", WIRE_HTTP, 0, 401, "API key is missing", NULL },
	{ "/status-401-chunked", WIRE_HTTP, 0, 401, "API key is missing", NULL },
	{ "/status-403", WIRE_HTTP, 0, 403, "tenant suspended", NULL },
	{ "/status-404", WIRE_HTTP, 0, 404, "tenant not found", NULL },
	{ "/status-429", WIRE_HTTP, 0, 429, "too many connections", NULL },
	{ "/status-302", WIRE_HTTP, 0, 302, "found", NULL },
	{ "/status-303", WIRE_HTTP, 0, 303, "see other", NULL },
	{ "/status-307", WIRE_HTTP, 0, 307, "elsewhere", NULL },
	{ "/status-308", WIRE_HTTP, 0, 308, "elsewhere", NULL },
	{ "/status-400", WIRE_HTTP, 0, 400, "bad request", NULL },
	{ "/status-500", WIRE_HTTP, 0, 500, "xxxxxxxx", NULL },
	{ "/status-502", WIRE_HTTP, 0, 502, "Bad gateway", NULL },
	{ "/status-502-cut", WIRE_HTTP, 0, 502, "Bad gateway", NULL },
	{ "/status-503", WIRE_HTTP, 0, 503, "503", NULL },
	{ "/status-503-retry", WIRE_HTTP, 0, 503, "503", NULL },
	{ "/status-504", WIRE_HTTP, 0, 504, "time-out", NULL },
	{ "/status-504-endless", WIRE_HTTP, 0, 504, "504", NULL },
	{ "/status-520", WIRE_HTTP, 0, 520, "unknown error", NULL },
	{ "/long-garbage", WIRE_HANDSHAKE, 0, 0, "", NULL },
	{ "/odd-status", WIRE_HANDSHAKE, 0, 0, "", NULL },
	{ "/no-upgrade", WIRE_HANDSHAKE, 0, 0, "", NULL },

	{ "/glued", WIRE_BY_PEER, 1000, 0, "", "glued" },
	/* No server may. libwebsockets reads it all the same, with the mask one byte off if the
	 * frame comes in pieces. */
	{ "/masked", WIRE_BY_PEER, 1000, 0, "", NULL },
	{ "/fragments", WIRE_BY_PEER, 1000, 0, "", "one two three" },
	{ "/empty-messages", WIRE_BY_PEER, 1000, 0, "", "" },

	{ "/opcode-3", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/opcode-11", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/rsv-1", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/rsv-3", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/long-ping", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/fragmented-ping", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/lone-continuation", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/text-in-fragments", WIRE_PROTOCOL, 0, 0, "protocol", "" },
	{ "/length-bit-63", WIRE_PROTOCOL, 0, 0, "protocol", NULL },
	{ "/close-1-byte", WIRE_PROTOCOL, 0, 0, "one byte", NULL },
	{ "/close-empty", WIRE_BY_PEER, 1005, 0, "", NULL },
	{ "/close-reason", WIRE_BY_PEER, 4001, 0, "Schl\u00fcssel abgelaufen", NULL },

	{ "/reset-mid-frame", WIRE_LOST, 0, 0, "", "" },
	{ "/fin-mid-frame", WIRE_LOST, 0, 0, "", "" },
	{ "/fin", WIRE_LOST, 0, 0, "", "" },

	{ "/big-frame", WIRE_TOO_BIG, 0, 0, "", "" },
	{ "/endless-fragments", WIRE_TOO_BIG, 0, 0, "", "" },

	{ "/code-1000", WIRE_BY_PEER, 1000, 0, "", NULL },
	{ "/code-1001", WIRE_BY_PEER, 1001, 0, "", NULL },
	{ "/code-1002", WIRE_BY_PEER, 1002, 0, "", NULL },
	{ "/code-1003", WIRE_BY_PEER, 1003, 0, "", NULL },
	/* libwebsockets 4.1.6 replaces the codes that it does not know (and those that must not be
	 * sent) before anybody can see them. */
	{ "/code-1004", WIRE_BY_PEER, 1002, 0, "1012", NULL },
	{ "/code-1005", WIRE_BY_PEER, 1002, 0, "1012", NULL },
	{ "/code-1006", WIRE_BY_PEER, 1002, 0, "1012", NULL },
	{ "/code-1007", WIRE_BY_PEER, 1007, 0, "", NULL },
	{ "/code-1008", WIRE_BY_PEER, 1008, 0, "", NULL },
	{ "/code-1009", WIRE_BY_PEER, 1009, 0, "", NULL },
	{ "/code-1010", WIRE_BY_PEER, 1010, 0, "", NULL },
	{ "/code-1011", WIRE_BY_PEER, 1011, 0, "", NULL },
	{ "/code-1012", WIRE_BY_PEER, 1002, 0, "1012", NULL },
	{ "/code-1013", WIRE_BY_PEER, 1002, 0, "1012", NULL },
	{ "/code-1014", WIRE_BY_PEER, 1002, 0, "1012", NULL },
	{ "/code-1015", WIRE_BY_PEER, 1002, 0, "1012", NULL },
	{ "/code-3000", WIRE_BY_PEER, 3000, 0, "", NULL },
	{ "/code-4999", WIRE_BY_PEER, 4999, 0, "", NULL },
};

/* The server of /reset-mid-frame waits for a sign that its half frame was taken. */

START_TEST(test_ends)
{
	const struct end_case *t = &end_cases[_i];
	const struct wire_end *end;
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	rig.on_opened = send_something;
	raw_open(&rig, 3, t->path);
	end = rig_until_closed(&rig, 3);
	rig.on_opened = NULL;
	ck_assert_msg(end->why == t->why, "%s: %s, %s", t->path, why_name(end->why), end->text);
	ck_assert_msg(end->close_code == t->close_code, "%s: %u", t->path, end->close_code);
	ck_assert_msg(end->http_status == t->http_status, "%s: %u", t->path, end->http_status);
	ck_assert_uint_eq(end->retry_after_s,
			  t->http_status == 429 || strstr(t->path, "retry") ? 7 : 0);
	ck_assert_msg(strstr(end->text, t->text) != NULL, "%s: %s", t->path, end->text);
	ck_assert_msg(strncmp(end->text, "127.0.0.1 port ", 15) == 0, "%s", end->text);
	if (t->messages)
		ck_assert_str_eq(rig.recs[3].text, t->messages);
	expect_works(&rig);
	rig_stop(&rig);
}
END_TEST

/* By somebody who takes connections and ends them: at whatever moment of ours that comes. */
START_TEST(test_ended_as_soon_as_taken)
{
	const char *name = _i / 2 == 0 ? "at-once-rst" : "at-once-fin";
	const struct wire_end *end;
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	for (int i = 0; i < 300; i++) {
		rig_open(&rig, 0, _i % 2, "127.0.0.1", server_port(&server, name), "/echo");
		end = rig_until_closed(&rig, 0);
		ck_assert_msg(end->why == WIRE_HANDSHAKE || end->why == WIRE_CONNECT, "%s: %s",
			      why_name(end->why), end->text);
	}
	expect_works(&rig);
	rig_stop(&rig);
}
END_TEST

/* A redirect would be sent the key. */
START_TEST(test_redirects_are_not_followed)
{
	static const unsigned codes[] = { 301, 302, 303, 307, 308 };
	char path[32];
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		snprintf(path, sizeof(path), "/status-%u", codes[i]);
		raw_open(&rig, 0, path);
		ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_HTTP);
	}
	raw_open(&rig, 0, "/seen-followed");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_PEER);
	ck_assert_str_eq(rig.recs[0].text, "0");
	/* It would have been seen. */
	raw_open(&rig, 0, "/followed");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_HTTP);
	raw_open(&rig, 0, "/seen-followed");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_PEER);
	ck_assert_str_eq(rig.recs[0].text, "1");
	rig_stop(&rig);
}
END_TEST

START_TEST(test_patient_upgrades)
{
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	raw_open(&rig, 0, "/slow-upgrade");
	raw_open(&rig, 1, "/big-headers");
	rig_until(&rig, rig.recs[0].n_opened == 1 && rig.recs[1].n_opened == 1);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_empty_messages_count)
{
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	raw_open(&rig, 0, "/empty-messages");
	rig_until_closed(&rig, 0);
	ck_assert_uint_eq(rig.recs[0].n_messages, 3);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_too_big_says_1009)
{
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	raw_open(&rig, 0, "/big-frame");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_TOO_BIG);
	/* The server notes the code in a thread of its own: ask until it has. */
	do {
		raw_open(&rig, 0, "/seen-close");
		ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_PEER);
	} while (strcmp(rig.recs[0].text, "0") == 0);
	ck_assert_str_eq(rig.recs[0].text, "1009");
	rig_stop(&rig);
}
END_TEST

/* libwebsockets answers the first of several pings that wait; the RFC allows to answer only some.
 */
START_TEST(test_ten_pings)
{
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	rig.on_message = send_something;
	raw_open(&rig, 0, "/ten-pings");
	rig_until(&rig, rig.recs[0].n_messages == 1);
	rig.on_message = NULL;
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_PEER);
	ck_assert_msg(strncmp(rig.recs[0].text, "gopongs ping 0", 14) == 0, "%s", rig.recs[0].text);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_stalled_upgrade)
{
	/* libwebsockets takes anything for the start of a long header. */
	static const char *const paths[] = { "/stall", "/garbage" };
	const struct wire_end *end;
	struct rig rig;

	rig_init(&rig);
	rig.conf.attempt_ms = 300;
	rig_start(&rig);
	raw_open(&rig, 0, paths[_i]);
	end = rig_until_closed(&rig, 0);
	ck_assert_int_eq(end->why, WIRE_HANDSHAKE);
	ck_assert_msg(strstr(end->text, "300 ms") != NULL, "%s", end->text);
	rig_stop(&rig);
}
END_TEST

/* At once, and at some moment of the handshake: each closes exactly once, and soon (a limit of the
 * attempt would end it, too, but only after the test's deadline). */
START_TEST(test_close_while_trying)
{
	static const char *const paths[] = { "/stall", "/echo", "/hang-up" };
	struct rig rig;

	rig_init(&rig);
	rig.conf.attempt_ms = 10 * WIRE_DEADLINE_MS;
	rig_start(&rig);
	for (unsigned i = 0; i < 60; i++) {
		unsigned link = i % WIRE_MAX_LINKS;

		raw_open(&rig, link, paths[i % 3]);
		for (volatile unsigned spin = 0; spin < i * 1000; spin++)
			;
		wire_close(rig.w, link, rig.recs[link].epoch, 1000);
		wire_close(rig.w, link, rig.recs[link].epoch, 1000);
		ck_assert_int_eq(rig_until_closed(&rig, link)->why, WIRE_BY_US);
		ck_assert_int_eq(rig.recs[link].n_opened, 0);
		wire_close(rig.w, link, rig.recs[link].epoch, 1000);
	}
	expect_works(&rig);
	rig_stop(&rig);
}
END_TEST

/* Neither a peer that ignores our close frame nor one that reads nothing holds us up. */
START_TEST(test_close_ignored)
{
	static const char *const paths[] = { "/no-close-answer", "/deaf" };
	static char big[12 << 20];
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	raw_open(&rig, 0, paths[_i]);
	rig_until(&rig, rig.recs[0].n_opened == 1);
	ck_assert_int_eq(wire_send(rig.w, 0, rig.recs[0].epoch, true, big, sizeof(big)), 0);
	ck_assert_int_eq(wire_send(rig.w, 0, rig.recs[0].epoch, true, big, 10), 0);
	wire_close(rig.w, 0, rig.recs[0].epoch, 1000);
	ck_assert_int_eq(wire_send(rig.w, 0, rig.recs[0].epoch, true, big, 10), WIRE_E_CLOSED);
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	expect_works(&rig);
	rig_stop(&rig);
}
END_TEST

/* What was sent before the close arrives. */
START_TEST(test_close_flushes)
{
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	raw_open(&rig, 0, "/echo");
	rig_until(&rig, rig.recs[0].n_opened == 1);
	for (int i = 0; i < 50; i++)
		send_something(&rig, 0);
	wire_close(rig.w, 0, rig.recs[0].epoch, 4123);
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	raw_open(&rig, 0, "/seen-close");
	rig_until_closed(&rig, 0);
	ck_assert_str_eq(rig.recs[0].text, "4123");
	rig_stop(&rig);
}
END_TEST

START_TEST(test_all_links_at_once)
{
	struct rig rig;
	int n = 0;

	rig_init(&rig);
	rig_start(&rig);
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		raw_open(&rig, i, "/echo");
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++) {
		rig_until(&rig, rig.recs[i].n_opened == 1);
		send_something(&rig, i);
	}
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++) {
		rig_until(&rig, rig.recs[i].n_messages == 1);
		n++;
	}
	ck_assert_int_eq(n, WIRE_MAX_LINKS);
	rig_stop(&rig);
}
END_TEST

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Freed in the middle of everything: no descriptor stays (and, under a sanitizer, no memory). */
START_TEST(test_free_takes_all)
{
	int before = count_fds();

	for (int i = 0; i < 5; i++) {
		struct rig rig;

		rig_init(&rig);
		rig_start(&rig);
		raw_open(&rig, 0, "/echo");
		raw_open(&rig, 1, "/deaf");
		raw_open(&rig, 2, "/stall");
		rig_until(&rig, rig.recs[0].n_opened == 1 && rig.recs[1].n_opened == 1);
		send_something(&rig, 0);
		raw_open(&rig, 3, "/echo");
		rig_open(&rig, 4, false, "localhost", server_port(&server, "raw"), "/echo");
		rig_stop(&rig);
		ck_assert_int_eq(count_fds(), before);
	}
}
END_TEST

START_TEST(test_bad_targets)
{
	static char long_path[3000], long_host[200];
	static const char *const bad_headers[] = { "x-a: b\r\nevil: 1", NULL };
	static const char *const no_colon[] = { "x-a", NULL };
	memset(long_path, '/', sizeof(long_path) - 1);
	memset(long_host, 'h', sizeof(long_host) - 1);
	const struct wire_target targets[] = {
		{ .host = "", .port = 80, .path = "/" },
		{ .host = "a b", .port = 80, .path = "/" },
		{ .host = "[::1]", .port = 80, .path = "/" },
		{ .host = long_host, .port = 80, .path = "/" },
		{ .host = "localhost", .port = 0, .path = "/" },
		{ .host = "localhost", .port = 80, .path = "no-slash" },
		{ .host = "localhost", .port = 80, .path = "/a b" },
		{ .host = "localhost", .port = 80, .path = "/\r\nevil: 1" },
		{ .host = "localhost", .port = 80, .path = long_path },
		{ .host = "localhost", .port = 80, .path = "/", .headers = bad_headers },
		{ .host = "localhost", .port = 80, .path = "/", .headers = no_colon },
	};
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++)
		ck_assert_int_eq(rig_try_open(&rig, 0, &targets[i]), -EINVAL);
	raw_open(&rig, 0, "/echo");
	ck_assert_int_eq(
		wire_open(rig.w, 0, 1000,
			  &(struct wire_target){ .host = "localhost", .port = 80, .path = "/" }),
		-EBUSY);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_no_ca_file)
{
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = "/nonexistent/ca.pem";
	log_set_level((enum log_level)0);
	ck_assert_int_eq(wire_new(&rig.conf, &rig_ops, &rig, &rig.w), -ENOENT);
}
END_TEST

/* http_proxy is for others, and stays for them. */
START_TEST(test_no_proxy)
{
	struct rig rig;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	rig_init(&rig);
	rig_start(&rig);
	expect_works(&rig);
	ck_assert_str_eq(getenv("http_proxy"), "http://127.0.0.1:1");
	rig_stop(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire");
	TCase *t = tcase_create("raw server");

	tcase_add_unchecked_fixture(t, start_server, stop_server);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_ends, 0, (int)(sizeof(end_cases) / sizeof(*end_cases)));
	tcase_add_loop_test(t, test_ended_as_soon_as_taken, 0, 4);
	tcase_add_test(t, test_redirects_are_not_followed);
	tcase_add_test(t, test_patient_upgrades);
	tcase_add_test(t, test_empty_messages_count);
	tcase_add_test(t, test_too_big_says_1009);
	tcase_add_test(t, test_ten_pings);
	tcase_add_loop_test(t, test_stalled_upgrade, 0, 2);
	tcase_add_test(t, test_close_while_trying);
	tcase_add_loop_test(t, test_close_ignored, 0, 2);
	tcase_add_test(t, test_close_flushes);
	tcase_add_test(t, test_all_links_at_once);
	tcase_add_test(t, test_free_takes_all);
	tcase_add_test(t, test_bad_targets);
	tcase_add_test(t, test_no_ca_file);
	tcase_add_test(t, test_no_proxy);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
