/* SPDX-License-Identifier: MIT */
/* WebSockets and requests through HTTP proxies (tests/wire/proxy_server.py): what leads on, how each
 * refusal ends, whose certificate counts, and where the password goes. */
#include <errno.h>

#include "base/secret.h"
#include "wire/resolver.h"
#include "wire_post_util.h"

#define PASSWORD "someone:open:sesame \xc3\xa4"

static struct server proxies;

static void start_servers(void)
{
	const char *const argv[] = { RTB_PYTHON,    RTB_WIRE_TESTS "/proxy_server.py",
				     "ok",          "auth",
				     "odd",         "slow",
				     "407",         "401",
				     "403",         "502",
				     "504",         "301",
				     "hang",        "garbage",
				     "endless",     "close",
				     "close-early", "cut",
				     "reset",       "eager",
				     NULL };

	http_server_start();
	server_start(&proxies, argv);
}

static void stop_servers(void)
{
	server_stop(&proxies);
	http_server_stop();
}

static void proxy_init(struct rig *rig, const char *mode)
{
	rig_init(rig);
	rig->conf.ca_file = ca_file;
	rig->conf.proxy_host = "127.0.0.1";
	rig->conf.proxy_port = server_port(&proxies, mode);
}

static void close_it(struct rig *rig, unsigned link)
{
	wire_close(rig->w, link, rig->recs[link].epoch, 1000);
}

static void say_something(struct rig *rig, unsigned link)
{
	ck_assert_int_eq(wire_send(rig->w, link, rig->recs[link].epoch, false, "through", 7), 0);
}

/* A message and a request there and back. */
static void expect_works(struct rig *rig, bool tls, const char *host)
{
	uint16_t port = server_port(&server, tls ? "good" : "plain");
	struct wire_post p = post_to(tls, "/bytes");
	const struct wire_answer *a;

	rig->on_opened = say_something;
	rig->on_message = close_it;
	rig_open(rig, 0, tls, host, port, "/ws");
	ck_assert_msg(rig_until_closed(rig, 0)->why == WIRE_BY_US, "%s", rig->recs[0].end.text);
	ck_assert_str_eq(rig->recs[0].text, "through");
	p.target.host = host;
	ck_assert_int_eq(rig_try_post(rig, 0, &p), 0);
	a = rig_until_answered(rig, 0);
	ck_assert_msg(a->status == 200, "%s", a->text);
	ck_assert_ptr_nonnull(strstr(a->body, "POST /bytes HTTP/1.1"));
	/* The proxy's words are not the server's. */
	ck_assert_ptr_null(strcasestr(a->body, "proxy"));
}

START_TEST(test_works)
{
	static const char *const modes[] = { "ok", "odd", "slow", "auth" };
	struct secret *auth = secret_new(PASSWORD, strlen(PASSWORD));
	struct rig rig;

	proxy_init(&rig, modes[_i / 2]);
	rig.conf.proxy_auth = auth;
	rig_start(&rig);
	expect_works(&rig, _i % 2, "localhost");
	expect_works(&rig, _i % 2, "127.0.0.1");
	rig_stop(&rig);
	secret_free(auth);
}
END_TEST

/* What the configuration lent is gone as soon as wire_new() has returned. */
START_TEST(test_nothing_is_borrowed)
{
	struct secret *auth = secret_new(PASSWORD, strlen(PASSWORD));
	char host[] = "localhost";
	struct rig rig;

	proxy_init(&rig, "auth");
	rig.conf.proxy_host = host;
	rig.conf.proxy_auth = auth;
	rig_start(&rig);
	memset(host, 'x', sizeof(host) - 1);
	secret_free(auth);
	expect_works(&rig, true, "localhost");
	rig_stop(&rig);
}
END_TEST

static void fake_lookup(const char *host, struct resolver_answer *ret)
{
	if (strcmp(host, "proxy.example") == 0) {
		/* Nobody listens at the first. */
		strcpy(ret->addrs[0], "127.0.0.9");
		strcpy(ret->addrs[1], "127.0.0.1");
		ret->n_addrs = 2;
	} else {
		snprintf(ret->text, sizeof(ret->text), "%s was looked up", host);
	}
}

/* The proxy's name is looked up here, all others there. */
START_TEST(test_names)
{
	struct rig rig;

	resolver_set_lookup(fake_lookup);
	proxy_init(&rig, "ok");
	rig.conf.proxy_host = "proxy.example";
	rig.conf.allow_insecure = true;
	rig_start(&rig);
	expect_works(&rig, false, "only-there.example");
	expect_works(&rig, false, "2001:db8::1");
	rig_stop(&rig);
	proxy_init(&rig, "ok");
	rig.conf.proxy_host = "nowhere.example";
	rig_start(&rig);
	rig_open(&rig, 0, true, "localhost", 443, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_DNS);
	ck_assert_str_eq(rig.recs[0].end.text,
			 "nowhere.example (the proxy): nowhere.example was looked up");
	rig_stop(&rig);
}
END_TEST

static const struct {
	const char *mode, *text;
	bool is_auth;
} refusals[] = {
	{ "407",
	  "the proxy refused: HTTP status 407 (it wants a user and password, or others: see "
	  "proxy_auth_file)",
	  true },
	{ "401", "the proxy refused: HTTP status 401 (it wants a user and password", true },
	{ "auth", "the proxy refused: HTTP status 407", true },
	{ "403", "the proxy refused: HTTP status 403 (it does not allow this host or port)",
	  false },
	{ "502", "the proxy refused: HTTP status 502 (it cannot reach the host)", false },
	{ "504", "the proxy refused: HTTP status 504 (it cannot reach the host)", false },
	{ "301", "the proxy refused: HTTP status 301", false },
	{ "garbage", "the proxy did not answer in HTTP", false },
	{ "endless", "the proxy's answer has more than 16384 bytes of header", false },
	{ "close", "the proxy hung up before its answer", false },
	{ "cut", "the proxy hung up in the middle of its answer", false },
	{ "reset", "the proxy broke the connection before its answer", false },
};

static void expect_refusal(const char *text, const char *want, const char *mode)
{
	char head[64];

	snprintf(head, sizeof(head),
		 "localhost port 443 (proxy 127.0.0.1:%u): ", server_port(&proxies, mode));
	ck_assert_msg(strncmp(text, head, strlen(head)) == 0, "%s", text);
	ck_assert_msg(strstr(text, want) != NULL, "%s", text);
}

static void ask(struct rig *rig, uint32_t timeout_ms)
{
	struct wire_post p = post_to(true, "/status-202");

	p.target.host = "localhost";
	p.target.port = 443;
	p.timeout_ms = timeout_ms;
	ck_assert_int_eq(rig_try_post(rig, 0, &p), 0);
}

START_TEST(test_refusals)
{
	enum wire_why why = refusals[_i].is_auth ? WIRE_PROXY_AUTH : WIRE_CONNECT;
	const char *mode = refusals[_i].mode;
	const struct wire_answer *a;
	struct rig rig;

	proxy_init(&rig, mode);
	rig_start(&rig);
	rig_open(&rig, 0, true, "localhost", 443, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, why);
	expect_refusal(rig.recs[0].end.text, refusals[_i].text, mode);
	ask(&rig, WIRE_DEADLINE_MS);
	a = rig_until_answered(&rig, 0);
	ck_assert_int_eq(a->why, why);
	ck_assert(!a->was_sent);
	ck_assert_uint_eq(a->status, 0);
	expect_refusal(a->text, refusals[_i].text, mode);
	rig_stop(&rig);
}
END_TEST

/* The target's first bytes come together with the proxy's answer: not one of them is lost. */
START_TEST(test_eager_target)
{
	struct wire_post p = post_to(false, "/status-202");
	const struct wire_answer *a;
	const struct wire_end *end;
	struct rig rig;

	proxy_init(&rig, "eager");
	rig_start(&rig);
	rig_open(&rig, 0, false, "localhost", 80, "/ws");
	end = rig_until_closed(&rig, 0);
	ck_assert_msg(end->why == WIRE_HTTP, "%s", end->text);
	ck_assert_uint_eq(end->http_status, 503);
	ck_assert_uint_eq(end->retry_after_s, 7);
	ck_assert_ptr_nonnull(strstr(end->text, "busy"));
	p.target.host = "localhost";
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	a = rig_until_answered(&rig, 0);
	ck_assert_msg(a->status == 503, "%s", a->text);
	ck_assert(a->whole);
	ck_assert_str_eq(a->body, "busy");
	rig_stop(&rig);
}
END_TEST

/* Hangs up before it was asked anything: with luck the connection is seen to be there at all. */
START_TEST(test_hangs_up_at_once)
{
	struct rig rig;

	proxy_init(&rig, "close-early");
	rig_start(&rig);
	for (int i = 0; i < 20; i++) {
		rig_open(&rig, 0, true, "localhost", 443, "/ws");
		ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_CONNECT);
		ck_assert_msg(strstr(rig.recs[0].end.text, "proxy") != NULL, "%s",
			      rig.recs[0].end.text);
	}
	rig_stop(&rig);
}
END_TEST

START_TEST(test_no_answer)
{
	const struct wire_answer *a;
	struct rig rig;

	proxy_init(&rig, "hang");
	rig.conf.attempt_ms = 300;
	rig_start(&rig);
	rig_open(&rig, 0, true, "localhost", 443, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_CONNECT);
	expect_refusal(rig.recs[0].end.text, "the proxy did not answer in 300 ms", "hang");
	ask(&rig, 400);
	a = rig_until_answered(&rig, 0);
	ck_assert_int_eq(a->why, WIRE_CONNECT);
	ck_assert(!a->was_sent);
	expect_refusal(a->text, "the proxy did not answer in 400 ms", "hang");
	rig_stop(&rig);
}
END_TEST

START_TEST(test_no_proxy_there)
{
	struct rig rig;

	proxy_init(&rig, "ok");
	rig.conf.proxy_host = "127.0.0.9";
	rig_start(&rig);
	rig_open(&rig, 0, true, "localhost", 443, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_CONNECT);
	ck_assert_msg(strstr(rig.recs[0].end.text,
			     "cannot connect to the proxy: Connection refused") != NULL,
		      "%s", rig.recs[0].end.text);
	rig_stop(&rig);
}
END_TEST

/* Also while it waits for the proxy. */
START_TEST(test_close_while_asking)
{
	static const char *const modes[] = { "hang", "slow", "ok", "407" };
	struct rig rig;

	proxy_init(&rig, modes[_i]);
	rig.conf.attempt_ms = 10 * WIRE_DEADLINE_MS;
	rig_start(&rig);
	for (unsigned i = 0; i < 40; i++) {
		rig_open(&rig, 0, true, "localhost", server_port(&server, "good"), "/ws");
		for (volatile unsigned spin = 0; spin < i * 5000; spin++)
			;
		close_it(&rig, 0);
		ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	}
	/* And the end of everything. */
	rig_open(&rig, 0, true, "localhost", server_port(&server, "good"), "/ws");
	ask(&rig, WIRE_DEADLINE_MS);
	rig_stop(&rig);
}
END_TEST

/* It is the server's certificate that counts, under the server's name. */
static const struct {
	const char *name, *host, *text;
} certs[] = {
	{ "wrong-name", "localhost", "hostname mismatch" },
	{ "good", "proxy.example", "hostname mismatch" },
	{ "unknown", "localhost", "unable to get local issuer certificate" },
	{ "expired", "localhost", "valid 2020-01-01 to 2020-02-01" },
	{ "plain", "localhost", "TLS" },
};

START_TEST(test_certificates)
{
	struct wire_post p = post_to(true, "/status-202");
	const struct wire_answer *a;
	struct rig rig;

	resolver_set_lookup(fake_lookup);
	proxy_init(&rig, "ok");
	rig.conf.proxy_host = "proxy.example";
	rig_start(&rig);
	p.target.host = certs[_i].host;
	p.target.port = server_port(&server, certs[_i].name);
	rig_open(&rig, 0, true, p.target.host, p.target.port, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_TLS);
	ck_assert_msg(strstr(rig.recs[0].end.text, certs[_i].text) != NULL, "%s",
		      rig.recs[0].end.text);
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	a = rig_until_answered(&rig, 0);
	ck_assert_int_eq(a->why, WIRE_TLS);
	ck_assert(!a->was_sent);
	ck_assert_msg(strstr(a->text, certs[_i].text) != NULL, "%s", a->text);
	rig_stop(&rig);
}
END_TEST

/* What goes through a proxy unencrypted is read there. Only on this machine it may. */
START_TEST(test_insecure)
{
	static const struct {
		const char *proxy, *host;
	} ways[] = {
		{ "127.0.0.1", "far.example" },
		{ "127.0.0.1", "192.0.2.1" },
		{ "192.0.2.1", "localhost" },
		{ "192.0.2.1", "127.0.0.1" },
	};
	struct wire_post p = post_to(false, "/status-202");
	struct rig rig;

	proxy_init(&rig, "ok");
	rig.conf.proxy_host = ways[_i].proxy;
	rig_start(&rig);
	rig_open(&rig, 0, false, ways[_i].host, 80, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_INSECURE);
	ck_assert_msg(strstr(rig.recs[0].end.text, "unencrypted through the proxy") != NULL, "%s",
		      rig.recs[0].end.text);
	p.target.host = ways[_i].host;
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	ck_assert_int_eq(rig_until_answered(&rig, 0)->why, WIRE_INSECURE);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_bad_proxies)
{
	static const struct {
		const char *host;
		uint16_t port;
	} bad[] = { { "", 80 }, { "a b", 80 }, { "a\r\nb", 80 }, { "[::1]", 80 }, { "a", 0 } };
	struct rig rig;

	log_set_level((enum log_level)0);
	proxy_init(&rig, "ok");
	rig.conf.proxy_host = bad[_i].host;
	rig.conf.proxy_port = bad[_i].port;
	ck_assert_int_eq(wire_new(&rig.conf, &rig_ops, &rig, &rig.w), -EINVAL);
}
END_TEST

/* Whatever goes wrong, and whatever is logged of it: the password is nowhere. */
START_TEST(test_password_is_told_to_nobody)
{
	static const char base64[] = "c29tZW9uZTpvcGVuOnNlc2FtZSDDpA";
	static char log[65536];
	struct secret *auth = secret_new(PASSWORD, strlen(PASSWORD));
	int saved = dup(2);
	FILE *file = tmpfile();
	struct rig rig;

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(dup2(fileno(file), 2), 0);
	log_set_level(LOG_LEVEL_DEBUG);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		if (strcmp(refusals[i].mode, "auth") == 0)
			continue;
		proxy_init(&rig, refusals[i].mode);
		rig.conf.proxy_auth = auth;
		rig_start(&rig);
		rig_open(&rig, 0, true, "localhost", 443, "/ws");
		ck_assert_int_eq(rig_until_closed(&rig, 0)->why,
				 refusals[i].is_auth ? WIRE_PROXY_AUTH : WIRE_CONNECT);
		fprintf(stderr, "%s\n", rig.recs[0].end.text);
		rig_stop(&rig);
	}
	fflush(stderr);
	ck_assert_int_ge(dup2(saved, 2), 0);
	close(saved);
	rewind(file);
	ck_assert_uint_gt(fread(log, 1, sizeof(log) - 1, file), 500);
	fclose(file);
	ck_assert_ptr_null(strstr(log, base64));
	ck_assert_ptr_null(strstr(log, "sesame"));
	secret_free(auth);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_proxy");
	TCase *t = tcase_create("proxies");

	tcase_add_unchecked_fixture(t, start_servers, stop_servers);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_works, 0, 8);
	tcase_add_test(t, test_nothing_is_borrowed);
	tcase_add_test(t, test_names);
	tcase_add_loop_test(t, test_refusals, 0, (int)(sizeof(refusals) / sizeof(*refusals)));
	tcase_add_test(t, test_eager_target);
	tcase_add_test(t, test_hangs_up_at_once);
	tcase_add_test(t, test_no_answer);
	tcase_add_test(t, test_no_proxy_there);
	tcase_add_loop_test(t, test_close_while_asking, 0, 4);
	tcase_add_loop_test(t, test_certificates, 0, (int)(sizeof(certs) / sizeof(*certs)));
	tcase_add_loop_test(t, test_insecure, 0, 4);
	tcase_add_loop_test(t, test_bad_proxies, 0, 5);
	tcase_add_test(t, test_password_is_told_to_nobody);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
