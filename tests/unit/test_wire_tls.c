/* SPDX-License-Identifier: MIT */
/* TLS with certificates made for the occasion, names and addresses: who is trusted, what is refused
 * before a packet leaves, and that each refusal says why. */
#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "wire/resolver.h"
#include "wire_util.h"

static struct server server;
static char folder[] = "/tmp/rtb-wire-tls-XXXXXX";
static char ca_file[PATH_MAX];

static void start_server(void)
{
	static const char *const names[] = { "good",   "unknown", "wrong-name", "expired",
					     "future", "old",     "self-signed" };
	const char *const make[] = { "sh", RTB_WIRE_TESTS "/make_certs.sh", folder, NULL };
	const char *argv[4 + 7] = { RTB_PYTHON, RTB_WIRE_TESTS "/tls_server.py", folder };
	int status;
	pid_t pid;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", folder);
	ck_assert_int_eq(posix_spawnp(&pid, "sh", NULL, NULL, (char **)(uintptr_t)make, environ),
			 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	for (int i = 0; i < 7; i++)
		argv[3 + i] = names[i];
	server_start(&server, argv);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void stop_server(void)
{
	server_stop(&server);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void tls_open(struct rig *rig, const char *host, const char *name)
{
	rig_open(rig, 0, true, host, server_port(&server, name), "/echo");
}

static void close_it(struct rig *rig, unsigned link)
{
	wire_close(rig->w, link, rig->recs[link].epoch, 1000);
}

static void send_big(struct rig *rig, unsigned link)
{
	static uint8_t big[1 << 20];

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 31 >> 3);
	ck_assert_int_eq(wire_send(rig->w, link, rig->recs[link].epoch, true, big, sizeof(big)), 0);
}

START_TEST(test_good)
{
	static const char *const hosts[] = { "localhost", "127.0.0.1", "LOCALHOST" };
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	rig.on_opened = send_big;
	rig.on_message = close_it;
	tls_open(&rig, hosts[_i], "good");
	ck_assert_msg(rig_until_closed(&rig, 0)->why == WIRE_BY_US, "%s", rig.recs[0].end.text);
	ck_assert_uint_eq(rig.recs[0].n_bytes, 1 << 20);
	rig_stop(&rig);
}
END_TEST

static const struct {
	const char *name, *host, *text;
} refused[] = {
	{ "unknown", "localhost", "unable to get local issuer certificate" },
	{ "wrong-name", "localhost", "hostname mismatch" },
	{ "wrong-name", "127.0.0.1", "IP address mismatch" },
	{ "expired", "localhost", "certificate has expired" },
	{ "expired", "localhost", "valid 2020-01-01 to 2020-02-01" },
	{ "future", "localhost", "TLS: certificate is not yet valid" },
	{ "self-signed", "localhost", "self-signed certificate" },
	{ "old", "localhost", "the server sent a TLS alert: protocol version" },
	/* No TLS at all, and the connection stays. */
	{ "banner", "localhost", "is this a TLS port?" },
	{ "http", "localhost", "is this a TLS port?" },
	{ "refusal", "localhost", "the server sent a TLS alert: handshake failure" },
	{ "notify", "localhost", "the server sent a TLS alert: close notify" },
};

START_TEST(test_refused)
{
	const struct wire_end *end;
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	tls_open(&rig, refused[_i].host, refused[_i].name);
	end = rig_until_closed(&rig, 0);
	ck_assert_msg(end->why == WIRE_TLS, "%s: %s, %s", refused[_i].name, why_name(end->why),
		      end->text);
	ck_assert_msg(strstr(end->text, refused[_i].text) != NULL, "%s: %s", refused[_i].name,
		      end->text);
	/* The same wire trusts the good one afterwards. */
	rig.on_opened = close_it;
	tls_open(&rig, "localhost", "good");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	rig_stop(&rig);
}
END_TEST

/* Whose certificate, and of when. */
START_TEST(test_certificate_is_named)
{
	static const char *const names[] = { "unknown", "wrong-name", "expired", "future",
					     "self-signed" };
	const char *text;
	char subject[64];
	struct rig rig;

	snprintf(subject, sizeof(subject), "(certificate /CN=%s, valid 20", names[_i]);
	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	tls_open(&rig, "localhost", names[_i]);
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_TLS);
	text = rig.recs[0].end.text;
	ck_assert_msg(strstr(text, subject) != NULL && text[strlen(text) - 1] == ')', "%s", text);
	ck_assert_msg(strstr(text, "clock") == NULL, "%s", text);
	rig_stop(&rig);
}
END_TEST

/* ---- a machine whose clock stands at 1970 (linked with --wrap) ---- */

static bool clock_is_wrong;

time_t __real_time(time_t *ret);
time_t __wrap_time(time_t *ret);
time_t __wrap_time(time_t *ret)
{
	time_t now = clock_is_wrong ? 86400 : __real_time(NULL);

	if (ret)
		*ret = now;
	return now;
}

START_TEST(test_wrong_clock)
{
	struct rig rig;

	clock_is_wrong = true;
	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	tls_open(&rig, "localhost", "future");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_TLS);
	ck_assert_msg(
		strstr(rig.recs[0].end.text,
		       "this machine's clock is wrong, it says 1970-01-02: certificate is not "
		       "yet valid (certificate /CN=future, valid 2090-01-01 to 2091-01-01)") !=
			NULL,
		"%s", rig.recs[0].end.text);
	/* What has expired has expired whatever it says. */
	tls_open(&rig, "localhost", "expired");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_TLS);
	ck_assert_ptr_null(strstr(rig.recs[0].end.text, "clock"));
	rig_stop(&rig);
	clock_is_wrong = false;
}
END_TEST

START_TEST(test_good_ipv6)
{
	struct rig rig;
	bool there = false;

	for (int i = 0; i < server.n_ports; i++)
		there = there || strcmp(server.ports[i].name, "good6") == 0;
	if (!there)
		return;
	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	rig.on_opened = close_it;
	tls_open(&rig, "::1", "good6");
	ck_assert_msg(rig_until_closed(&rig, 0)->why == WIRE_BY_US, "%s", rig.recs[0].end.text);
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
	tls_open(&rig, "localhost", "good");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_TLS);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_tls_to_a_plain_port)
{
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	tls_open(&rig, "localhost", "plain");
	ck_assert_msg(rig_until_closed(&rig, 0)->why == WIRE_TLS, "%s", rig.recs[0].end.text);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_tls_stalls)
{
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig.conf.attempt_ms = 300;
	rig_start(&rig);
	tls_open(&rig, "localhost", _i == 0 ? "mute" : "half");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_HANDSHAKE);
	ck_assert_msg(strstr(rig.recs[0].end.text, "the TLS handshake did not end in 300 ms") !=
			      NULL,
		      "%s", rig.recs[0].end.text);
	ck_assert_msg((strstr(rig.recs[0].end.text, "is this a TLS port?") != NULL) == (_i == 0),
		      "%s", rig.recs[0].end.text);
	rig_stop(&rig);
}
END_TEST

/* A network's fault, and not one of certificates. */
START_TEST(test_tls_hang_up)
{
	static const char *const names[] = { "gone", "cut" };
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	tls_open(&rig, "localhost", names[_i]);
	ck_assert_msg(rig_until_closed(&rig, 0)->why == WIRE_HANDSHAKE, "%s", rig.recs[0].end.text);
	ck_assert_msg(strstr(rig.recs[0].end.text, "ended in the TLS handshake") != NULL, "%s",
		      rig.recs[0].end.text);
	rig_stop(&rig);
}
END_TEST

/* ---- names and addresses ---- */

static struct resolver_answer fake_answer;
static sem_t may_answer;
static atomic_bool asked_with_dot;

static void fake_lookup(const char *host, struct resolver_answer *ret)
{
	if (strcmp(host, "localhost.") == 0)
		atomic_store(&asked_with_dot, true);
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
	rig_init(&rig);
	rig_start(&rig);
	rig_open(&rig, 0, false, hosts[_i], 80, "/");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_INSECURE);
	ck_assert_ptr_nonnull(strstr(rig.recs[0].end.text, "wss://"));
	rig_stop(&rig);
}
END_TEST

/* The dot at the end of a whole name is for the name service: neither SNI nor certificates have it. */
START_TEST(test_whole_name)
{
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig_start(&rig);
	rig.on_opened = close_it;
	tls_open(&rig, "localhost.", "good");
	ck_assert_msg(rig_until_closed(&rig, 0)->why == WIRE_BY_US, "%s", rig.recs[0].end.text);
	ck_assert(atomic_load(&asked_with_dot));
	tls_open(&rig, "localhost.", "wrong-name");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_TLS);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_dns_fails)
{
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	rig_init(&rig);
	rig_start(&rig);
	rig_open(&rig, 0, true, "gone.example", 443, "/");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_DNS);
	ck_assert_str_eq(rig.recs[0].end.text, "gone.example: Name or service not known");
	rig_stop(&rig);
}
END_TEST

/* Neither the other links nor the end of the program wait for a hung name service. */
START_TEST(test_dns_hangs)
{
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	rig_init(&rig);
	rig.conf.dns_ms = 200;
	rig_start(&rig);
	rig_open(&rig, 0, true, "hangs.example", 443, "/");
	rig_open(&rig, 1, false, "works.example", server_port(&server, "plain"), "/echo");
	rig_until(&rig, rig.recs[1].n_opened == 1);
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_DNS);
	ck_assert_ptr_nonnull(strstr(rig.recs[0].end.text, "200 ms"));
	rig_open(&rig, 0, true, "hangs.example", 443, "/");
	wire_close(rig.w, 0, rig.recs[0].epoch, 1000);
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	rig_open(&rig, 0, true, "hangs.example", 443, "/");
	rig_stop(&rig);
	for (int i = 0; i < 3; i++)
		sem_post(&may_answer);
}
END_TEST

/* The address that worked an hour ago is better than none. */
START_TEST(test_dns_remembers)
{
	struct rig rig;

	answer_with("127.0.0.1", NULL);
	rig_init(&rig);
	rig_start(&rig);
	rig.on_opened = close_it;
	rig_open(&rig, 0, false, "works.example", server_port(&server, "plain"), "/echo");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	fake_answer.n_addrs = 0;
	log_set_level(LOG_LEVEL_ERROR);
	rig_open(&rig, 0, false, "works.example", server_port(&server, "plain"), "/echo");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_BY_US);
	ck_assert_int_eq(rig.recs[0].n_opened, 1);
	rig_open(&rig, 0, false, "other.example", server_port(&server, "plain"), "/echo");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_DNS);
	rig_stop(&rig);
}
END_TEST

/* A port whose accept queue is full does not answer: each address has its time, then the whole
 * attempt. */
START_TEST(test_attempt_limit)
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
	rig_init(&rig);
	rig.conf.connect_ms = _i == 0 ? 200 : WIRE_DEADLINE_MS;
	rig.conf.attempt_ms = _i == 0 ? WIRE_DEADLINE_MS : 300;
	rig_start(&rig);
	rig_open(&rig, 0, false, "full.example", ntohs(sin.sin_port), "/echo");
	ck_assert_int_eq(rig_until_closed(&rig, 0)->why, WIRE_CONNECT);
	ck_assert_msg(strstr(rig.recs[0].end.text, _i == 0 ? "200 ms" : "300 ms") != NULL, "%s",
		      rig.recs[0].end.text);
	rig_stop(&rig);
	for (int i = 0; i < 4; i++)
		close(fill[i]);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_tls");
	TCase *t = tcase_create("tls and names");

	tcase_add_unchecked_fixture(t, start_server, stop_server);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_good, 0, 3);
	tcase_add_loop_test(t, test_refused, 0, (int)(sizeof(refused) / sizeof(*refused)));
	tcase_add_test(t, test_good_ipv6);
	tcase_add_test(t, test_system_store_does_not_know_it);
	tcase_add_test(t, test_tls_to_a_plain_port);
	tcase_add_loop_test(t, test_tls_stalls, 0, 2);
	tcase_add_loop_test(t, test_tls_hang_up, 0, 2);
	tcase_add_loop_test(t, test_certificate_is_named, 0, 5);
	tcase_add_test(t, test_wrong_clock);
	tcase_add_loop_test(t, test_insecure_is_refused, 0, 4);
	tcase_add_test(t, test_whole_name);
	tcase_add_test(t, test_dns_fails);
	tcase_add_test(t, test_dns_hangs);
	tcase_add_test(t, test_dns_remembers);
	tcase_add_loop_test(t, test_attempt_limit, 0, 2);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
