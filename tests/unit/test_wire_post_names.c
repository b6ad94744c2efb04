/* SPDX-License-Identifier: MIT */
/* HTTP requests that do not reach a server's HTTP: names, addresses, certificates. Each says that
 * nothing was sent, and why. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/socket.h>

#include "wire/resolver.h"
#include "wire_post_util.h"

static void names_init(struct rig *rig)
{
	rig_init(rig);
	rig->conf.ca_file = ca_file;
}

static void ask(struct rig *rig, unsigned id, bool tls, const char *host, uint16_t port,
		uint32_t timeout_ms)
{
	struct wire_post p = {
		.target = { .tls = tls, .host = host, .port = port, .path = "/status-202" },
		.content_type = "application/json",
		.body = "{}",
		.size = 2,
		.timeout_ms = timeout_ms,
	};

	ck_assert_int_eq(rig_try_post(rig, id, &p), 0);
}

static const struct wire_answer *expect_unsent(struct rig *rig, unsigned id, enum wire_why why,
					       const char *text)
{
	const struct wire_answer *a = rig_until_answered(rig, id);

	ck_assert_msg(a->why == why, "%s: %s", why_name(a->why), a->text);
	ck_assert_msg(strstr(a->text, text) != NULL, "%s", a->text);
	ck_assert_msg(!a->was_sent, "%s", a->text);
	ck_assert_uint_eq(a->status, 0);
	ck_assert_uint_eq(a->size, 0);
	return a;
}

static void expect_202(struct rig *rig, unsigned id)
{
	const struct wire_answer *a = rig_until_answered(rig, id);

	ck_assert_msg(a->status == 202, "%s: %s", why_name(a->why), a->text);
}

static const struct {
	const char *name, *host, *text;
} refused[] = {
	{ "unknown", "localhost", "unable to get local issuer certificate" },
	{ "wrong-name", "localhost", "hostname mismatch" },
	{ "wrong-name", "127.0.0.1", "IP address mismatch" },
	{ "expired", "localhost", "certificate has expired" },
	{ "expired", "localhost", "valid 2020-01-01 to 2020-02-01" },
	{ "future", "localhost", "certificate is not yet valid" },
	{ "self-signed", "localhost",
	  "self-signed certificate (certificate /CN=self-signed, valid 20" },
	{ "plain", "localhost", "TLS" },
};

START_TEST(test_refused)
{
	struct rig rig;

	names_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, true, refused[_i].host, server_port(&server, refused[_i].name),
	    WIRE_DEADLINE_MS);
	expect_unsent(&rig, 0, WIRE_TLS, refused[_i].text);
	/* The same wire trusts the good one afterwards. */
	ask(&rig, 1, true, "localhost", server_port(&server, "good"), WIRE_DEADLINE_MS);
	expect_202(&rig, 1);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_good)
{
	static const char *const hosts[] = { "localhost", "127.0.0.1", "LOCALHOST" };
	struct rig rig;

	names_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, true, hosts[_i], server_port(&server, "good"), WIRE_DEADLINE_MS);
	expect_202(&rig, 0);
	rig_stop(&rig);
}
END_TEST

/* Only the given file is trusted, and without one only the system's. */
START_TEST(test_system_store_does_not_know_it)
{
	struct rig rig;

	setenv("SSL_CERT_FILE", ca_file, 1);
	rig_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, true, "localhost", server_port(&server, "good"), WIRE_DEADLINE_MS);
	expect_unsent(&rig, 0, WIRE_TLS, "certificate");
	rig_stop(&rig);
}
END_TEST

/* ---- names and addresses ---- */

static struct resolver_answer fake_answer;
static sem_t may_answer;

static void fake_lookup(const char *host, struct resolver_answer *ret)
{
	if (strcmp(host, "hangs.example") == 0)
		sem_wait(&may_answer);
	if (strcmp(host, "gone.example") != 0)
		*ret = fake_answer;
	else
		strcpy(ret->text, "Name or service not known");
}

static void answer_with(const char *a, const char *b)
{
	memset(&fake_answer, 0, sizeof(fake_answer));
	strcpy(fake_answer.addrs[0], a);
	strcpy(fake_answer.addrs[1], b ? b : "");
	fake_answer.n_addrs = b ? 2 : 1;
	sem_init(&may_answer, 0, 0);
	resolver_set_lookup(fake_lookup);
}

START_TEST(test_insecure_is_refused)
{
	/* TEST-NET-1: nothing answers there, so a packet would end in a timeout or an error. */
	static const char *const hosts[] = { "192.0.2.1", "2001:db8::1", "far.example",
					     "both.example" };
	struct rig rig;

	if (_i == 3)
		answer_with("127.0.0.1", "192.0.2.1");
	else
		answer_with("192.0.2.1", NULL);
	names_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, false, hosts[_i], 80, WIRE_DEADLINE_MS);
	expect_unsent(&rig, 0, WIRE_INSECURE, "https://");
	rig_stop(&rig);
}
END_TEST

START_TEST(test_dns_fails)
{
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	names_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, true, "gone.example", 443, WIRE_DEADLINE_MS);
	expect_unsent(&rig, 0, WIRE_DNS, "gone.example: Name or service not known");
	rig_stop(&rig);
}
END_TEST

/* Its own limit, or that of the request if it is shorter; others are not held up, nor is the end.
 */
START_TEST(test_dns_hangs)
{
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	names_init(&rig);
	rig.conf.dns_ms = _i == 0 ? 200 : WIRE_DEADLINE_MS;
	rig_start(&rig);
	ask(&rig, 0, true, "hangs.example", 443, _i == 0 ? WIRE_DEADLINE_MS : 200);
	ask(&rig, 1, false, "works.example", server_port(&server, "plain"), WIRE_DEADLINE_MS);
	expect_202(&rig, 1);
	expect_unsent(&rig, 0, WIRE_DNS, "200 ms");
	ask(&rig, 0, true, "hangs.example", 443, WIRE_DEADLINE_MS);
	rig_stop(&rig);
	for (int i = 0; i < 2; i++)
		sem_post(&may_answer);
}
END_TEST

static void close_it(struct rig *rig, unsigned link)
{
	wire_close(rig->w, link, rig->recs[link].epoch, 1000);
}

/* Addresses that worked are remembered for links and requests together. */
START_TEST(test_dns_remembers)
{
	uint16_t port = server_port(&server, "plain");
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	names_init(&rig);
	rig_start(&rig);
	rig.on_opened = close_it;
	ask(&rig, 0, false, "a.example", port, WIRE_DEADLINE_MS);
	expect_202(&rig, 0);
	rig_open(&rig, 0, false, "b.example", port, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	fake_answer.n_addrs = 0;
	log_set_level(LOG_LEVEL_ERROR);
	ask(&rig, 0, false, "b.example", port, WIRE_DEADLINE_MS);
	expect_202(&rig, 0);
	rig_open(&rig, 0, false, "a.example", port, "/ws");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	ck_assert_int_eq(rig.recs[0].n_opened, 1);
	ask(&rig, 0, false, "other.example", port, WIRE_DEADLINE_MS);
	expect_unsent(&rig, 0, WIRE_DNS, "other.example");
	rig_stop(&rig);
}
END_TEST

/* The oldest of several names makes room; what was asked for again is not the oldest. */
START_TEST(test_dns_remembers_some)
{
	static const char *const hosts[] = { "a.example", "b.example", "c.example",
					     "d.example", "a.example", "e.example" };
	uint16_t port = server_port(&server, "plain");
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	names_init(&rig);
	rig_start(&rig);
	for (unsigned i = 0; i < 6; i++) {
		int64_t before = rig_now_ms();

		ask(&rig, 0, false, hosts[i], port, WIRE_DEADLINE_MS);
		expect_202(&rig, 0);
		/* Ages are counted in these. */
		while (rig_now_ms() == before)
			;
	}
	fake_answer.n_addrs = 0;
	log_set_level(LOG_LEVEL_ERROR);
	ask(&rig, 0, false, "a.example", port, WIRE_DEADLINE_MS);
	expect_202(&rig, 0);
	ask(&rig, 0, false, "b.example", port, WIRE_DEADLINE_MS);
	expect_unsent(&rig, 0, WIRE_DNS, "b.example");
	rig_stop(&rig);
}
END_TEST

/* Bound and not listened to: nobody else gets it meanwhile. */
static uint16_t refusing_port(int *ret_fd)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);

	*ret_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(*ret_fd, (struct sockaddr *)&sin, len), 0);
	ck_assert_int_eq(getsockname(*ret_fd, (struct sockaddr *)&sin, &len), 0);
	return ntohs(sin.sin_port);
}

START_TEST(test_connection_refused)
{
	struct rig rig;
	int fd;
	uint16_t port = refusing_port(&fd);

	answer_with("127.0.0.1", "127.0.0.1");
	names_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, _i % 2, _i < 2 ? "127.0.0.1" : "two.example", port, WIRE_DEADLINE_MS);
	expect_unsent(&rig, 0, WIRE_CONNECT, "Connection refused");
	ask(&rig, 0, false, "127.0.0.1", server_port(&server, "plain"), WIRE_DEADLINE_MS);
	expect_202(&rig, 0);
	rig_stop(&rig);
	close(fd);
}
END_TEST

/* A port whose accept queue is full does not answer: each address has its time, then the whole
 * request. */
START_TEST(test_black_hole)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fill[4];
	struct rig rig;

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, len), 0);
	ck_assert_int_eq(listen(fd, 0), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	for (int i = 0; i < 4; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], (struct sockaddr *)&sin, len);
	}
	answer_with("127.0.0.1", "127.0.0.1");
	names_init(&rig);
	rig.conf.connect_ms = _i == 0 ? 200 : WIRE_DEADLINE_MS;
	rig_start(&rig);
	ask(&rig, 0, false, "full.example", ntohs(sin.sin_port), _i == 0 ? WIRE_DEADLINE_MS : 300);
	expect_unsent(&rig, 0, WIRE_CONNECT, _i == 0 ? "200 ms" : "300 ms");
	rig_stop(&rig);
	for (int i = 0; i < 4; i++)
		close(fill[i]);
	close(fd);
}
END_TEST

/* Connected, and then not a word. */
START_TEST(test_tls_stalls)
{
	int fd;
	uint16_t port = refusing_port(&fd);
	struct rig rig;

	ck_assert_int_eq(listen(fd, 8), 0);
	names_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, true, "localhost", port, 1000);
	expect_unsent(
		&rig, 0, WIRE_HANDSHAKE,
		"TLS handshake did not end in 1000 ms (not a byte came: is this a TLS port?)");
	rig_stop(&rig);
	close(fd);
}
END_TEST

/* Connected, the server's TLS hangs up, at once or after the first bytes. */
START_TEST(test_tls_hang_up)
{
	struct linger linger = { .l_onoff = 1 };
	char hello[64];
	int fd, peer;
	uint16_t port = refusing_port(&fd);
	struct rig rig;

	ck_assert_int_eq(listen(fd, 8), 0);
	names_init(&rig);
	rig_start(&rig);
	ask(&rig, 0, true, "127.0.0.1", port, WIRE_DEADLINE_MS);
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(peer, 0);
	if (_i > 0)
		ck_assert_int_gt(recv(peer, hello, sizeof(hello), 0), 0);
	if (_i > 1)
		setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(peer);
	expect_unsent(&rig, 0, WIRE_LOST, "the connection ended in the TLS handshake");
	rig_stop(&rig);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_post_names");
	TCase *t = tcase_create("tls and names");

	tcase_add_unchecked_fixture(t, http_server_start, http_server_stop);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_refused, 0, (int)(sizeof(refused) / sizeof(*refused)));
	tcase_add_loop_test(t, test_good, 0, 3);
	tcase_add_test(t, test_system_store_does_not_know_it);
	tcase_add_loop_test(t, test_insecure_is_refused, 0, 4);
	tcase_add_test(t, test_dns_fails);
	tcase_add_loop_test(t, test_dns_hangs, 0, 2);
	tcase_add_test(t, test_dns_remembers);
	tcase_add_test(t, test_dns_remembers_some);
	tcase_add_loop_test(t, test_connection_refused, 0, 4);
	tcase_add_loop_test(t, test_black_hole, 0, 2);
	tcase_add_test(t, test_tls_stalls);
	tcase_add_loop_test(t, test_tls_hang_up, 0, 3);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
