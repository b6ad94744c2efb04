/* SPDX-License-Identifier: MIT */
/* Several addresses, of which some are black holes; what is remembered of them; names that cannot be
 * looked up any more; and what the kernel is told about silent peers. Nothing leaves this machine. */
#include <errno.h>
#include <netinet/tcp.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "wire/resolver.h"
#include "wire/wire_attempt.h"
#include "wire/wire_dial.h"
#include "wire/wire_reach.h"
#include "wire_ports.h"
#include "wire_post_util.h"

/* ---- the clock of what is remembered (linked with --wrap) ---- */

static _Atomic uint64_t later_ms;

uint64_t __real_wire_now_ms(void);
uint64_t __wrap_wire_now_ms(void);
uint64_t __wrap_wire_now_ms(void)
{
	return __real_wire_now_ms() + atomic_load(&later_ms);
}

/* ---- names ---- */

static struct resolver_answer fake_answer;
static atomic_bool hanging;
static sem_t may_answer, has_asked;

static void fake_lookup(const char *host, struct resolver_answer *ret)
{
	if (atomic_load(&hanging)) {
		sem_post(&has_asked);
		sem_wait(&may_answer);
	}
	if (strcmp(host, "gone.example") != 0)
		*ret = fake_answer;
	if (ret->n_addrs == 0)
		strcpy(ret->text, "Temporary failure in name resolution");
}

static void answer_with(const char *const *addrs, int n)
{
	memset(&fake_answer, 0, sizeof(fake_answer));
	for (int i = 0; i < n; i++)
		strcpy(fake_answer.addrs[i], addrs[i]);
	fake_answer.n_addrs = n;
	sem_init(&may_answer, 0, 0);
	sem_init(&has_asked, 0, 0);
	resolver_set_lookup(fake_lookup);
}

/* ---- rigs ---- */

static void addrs_init(struct rig *rig)
{
	rig_init(rig);
	rig->conf.ca_file = ca_file;
}

static void close_it(struct rig *rig, unsigned link)
{
	wire_close(rig->w, link, rig->recs[link].epoch, 1000);
}

static void ask(struct rig *rig, const char *host)
{
	struct wire_post p = post_to(false, "/status-202");

	p.target.host = host;
	ck_assert_int_eq(rig_try_post(rig, 0, &p), 0);
}

/* One connection of a kind: 0 a WebSocket, 1 a request. */
static void expect_works(struct rig *rig, int kind, const char *host)
{
	rig->on_opened = close_it;
	if (kind == 0) {
		rig_open(rig, 0, false, host, server_port(&server, "plain"), "/ws");
		ck_assert_msg(rig_until_closed(rig, 0)->why == WIRE_BY_US, "%s",
			      rig->recs[0].end.text);
	} else {
		ask(rig, host);
		ck_assert_msg(rig_until_answered(rig, 0)->status == 202, "%s",
			      rig->posts[0].answer.text);
	}
}

static const char *expect_fails(struct rig *rig, int kind, const char *host, enum wire_why why)
{
	if (kind == 0) {
		rig_open(rig, 0, false, host, server_port(&server, "plain"), "/ws");
		ck_assert_msg(rig_until_closed(rig, 0)->why == why, "%s", rig->recs[0].end.text);
		return rig->recs[0].end.text;
	}
	ask(rig, host);
	ck_assert_msg(rig_until_answered(rig, 0)->why == why, "%s", rig->posts[0].answer.text);
	ck_assert(!rig->posts[0].answer.was_sent);
	return rig->posts[0].answer.text;
}

/* ---- how long an address has ---- */

START_TEST(test_shares)
{
	for (int n = 1; n <= 6; n++) {
		uint32_t sum = 0;

		for (int i = 0; i + 1 < n; i++) {
			uint32_t ms = wire_dial_share_ms(i, n, 5000);

			ck_assert_uint_ge(ms, 1000);
			ck_assert_uint_le(ms, 5000);
			ck_assert_uint_le(wire_dial_share_ms(i, n, 300), 300);
			sum += ms;
		}
		ck_assert_uint_le(sum, 5000);
		ck_assert_uint_eq(wire_dial_share_ms(n - 1, n, 5000), 5000);
		ck_assert_uint_eq(wire_dial_share_ms(n - 1, n, 300), 300);
	}
}
END_TEST

/* One hole of three addresses, first or second: at most 6 s, measured. */
START_TEST(test_hole_costs_little)
{
	static const char *const addrs[2][3] = { { "127.0.0.2", "127.0.0.1", "127.0.0.3" },
						 { "127.0.0.3", "127.0.0.2", "127.0.0.1" } };
	int64_t start;
	struct hole hole;
	struct rig rig;

	/* At 127.0.0.3 nobody listens. */
	hole_dig(&hole, "127.0.0.2", server_port(&server, "plain"));
	answer_with(addrs[_i % 2], 3);
	addrs_init(&rig);
	rig_start(&rig);
	start = rig_now_ms();
	expect_works(&rig, _i / 2, "three.example");
	ck_assert_int_ge(rig_now_ms() - start, 2000);
	ck_assert_int_le(rig_now_ms() - start, 6000);
	rig_stop(&rig);
	hole_fill(&hole);
}
END_TEST

/* Seven holes in front of one that works: only six are tried. */
START_TEST(test_six_at_most)
{
	const char *addrs[8];
	char texts[8][16];
	const char *text;
	struct rig rig;

	for (int i = 0; i < 8; i++) {
		snprintf(texts[i], sizeof(texts[i]), "127.0.0.%d", i == 7 ? 1 : i + 2);
		addrs[i] = texts[i];
	}
	answer_with(addrs, 8);
	addrs_init(&rig);
	rig_start(&rig);
	text = expect_fails(&rig, _i, "eight.example", WIRE_CONNECT);
	ck_assert_msg(strstr(text, "(127.0.0.7): cannot connect: Connection refused (the last of 6 "
				   "addresses)") != NULL,
		      "%s", text);
	/* What failed goes behind what nothing is known of. */
	expect_works(&rig, _i, "eight.example");
	rig_stop(&rig);
}
END_TEST

/* A hole costs its time once: then it is behind the one that worked, also for the other kind. */
START_TEST(test_hole_costs_once)
{
	static const char *const addrs[] = { "127.0.0.2", "127.0.0.1" };
	uint16_t port = server_port(&server, "plain");
	struct hole hole;
	struct rig rig;
	int fd;

	hole_dig(&hole, addrs[0], port);
	answer_with(addrs, 2);
	addrs_init(&rig);
	rig.conf.connect_ms = 300;
	rig_start(&rig);
	expect_works(&rig, _i, "two.example");
	hole_fill(&hole);
	/* Now somebody listens there, and hears nothing. */
	fd = listen_at(addrs[0], port, 8);
	expect_works(&rig, 0, "two.example");
	expect_works(&rig, 1, "two.example");
	expect_works(&rig, 0, "other-name.example");
	ck_assert_int_lt(accept4(fd, NULL, NULL, SOCK_CLOEXEC), 0);
	ck_assert_int_eq(errno, EAGAIN);
	/* After ten minutes it is as good as any. */
	atomic_store(&later_ms, WIRE_REACH_MS + 60000);
	rig_open(&rig, 1, false, "two.example", port, "/ws");
	until_connected(&rig, fd);
	rig_stop(&rig);
	close(fd);
	atomic_store(&later_ms, 0);
}
END_TEST

/* ---- what is remembered ---- */

static struct resolver_answer list(const char *text)
{
	struct resolver_answer a = { 0 };
	char copy[256], *rest, *word;

	snprintf(copy, sizeof(copy), "%s", text);
	for (word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		strcpy(a.addrs[a.n_addrs++], word);
	return a;
}

static void expect_order(struct wire_reach *r, uint64_t now_ms, const char *from, const char *want)
{
	struct resolver_answer a = list(from), b = list(want);

	wire_reach_sort(r, &a, now_ms);
	ck_assert_int_eq(a.n_addrs, b.n_addrs);
	for (int i = 0; i < a.n_addrs; i++)
		ck_assert_str_eq(a.addrs[i], b.addrs[i]);
}

START_TEST(test_reach_order)
{
	static const char all[] = "2001:db8::1 10.0.0.1 2001:db8::2 10.0.0.2";
	struct wire_reach r = { 0 };

	wire_reach_init(&r);
	expect_order(&r, 1000, all, all);
	/* One failed: behind all, and its family behind the other. */
	wire_reach_note(&r, "2001:db8::1", false, 1000);
	expect_order(&r, 1001, all, "10.0.0.1 10.0.0.2 2001:db8::2 2001:db8::1");
	/* The last that worked goes first. */
	wire_reach_note(&r, "10.0.0.1", true, 1002);
	wire_reach_note(&r, "10.0.0.2", true, 1003);
	expect_order(&r, 1004, all, "10.0.0.2 10.0.0.1 2001:db8::2 2001:db8::1");
	wire_reach_note(&r, "10.0.0.1", true, 1005);
	expect_order(&r, 1006, all, "10.0.0.1 10.0.0.2 2001:db8::2 2001:db8::1");
	/* It works again, and so does its family. */
	wire_reach_note(&r, "2001:db8::1", true, 1007);
	expect_order(&r, 1008, all, "2001:db8::1 10.0.0.1 10.0.0.2 2001:db8::2");
	/* What worked once is not forgiven the next time. */
	wire_reach_note(&r, "10.0.0.1", false, 1009);
	expect_order(&r, 1010, all, "2001:db8::1 10.0.0.2 2001:db8::2 10.0.0.1");
	/* All of it is forgotten ten minutes later, each by its own time. */
	expect_order(&r, 1004 + WIRE_REACH_MS, all, "2001:db8::1 2001:db8::2 10.0.0.2 10.0.0.1");
	expect_order(&r, 1010 + WIRE_REACH_MS, all, all);
	wire_reach_done(&r);
}
END_TEST

START_TEST(test_reach_all_failed)
{
	static const char all[] = "2001:db8::1 10.0.0.1 10.0.0.2";
	struct wire_reach r = { 0 };

	wire_reach_init(&r);
	wire_reach_note(&r, "2001:db8::1", false, 1);
	wire_reach_note(&r, "10.0.0.1", false, 2);
	wire_reach_note(&r, "10.0.0.2", false, 3);
	expect_order(&r, 4, all, all);
	wire_reach_done(&r);
}
END_TEST

/* The oldest makes room. */
START_TEST(test_reach_is_bounded)
{
	struct wire_reach r = { 0 };
	char addr[16];

	wire_reach_init(&r);
	for (unsigned i = 0; i <= WIRE_REACH_ADDRS; i++) {
		snprintf(addr, sizeof(addr), "10.0.1.%u", i);
		wire_reach_note(&r, addr, true, 100 + i);
	}
	expect_order(&r, 200, "10.0.1.0 10.0.1.1 10.0.1.32", "10.0.1.32 10.0.1.1 10.0.1.0");
	expect_order(&r, 200, "10.0.1.0 10.0.9.9 10.0.1.1", "10.0.1.1 10.0.1.0 10.0.9.9");
	wire_reach_done(&r);
}
END_TEST

/* ---- the name service ---- */

/* It fails: the addresses known before serve, for an hour. */
START_TEST(test_last_good_addresses)
{
	static const char *const addrs[] = { "127.0.0.1" };
	const uint64_t minute = 60 * 1000;
	const char *text;
	struct rig rig;

	answer_with(addrs, 1);
	addrs_init(&rig);
	rig_start(&rig);
	expect_works(&rig, _i, "works.example");
	fake_answer.n_addrs = 0;
	expect_works(&rig, _i, "works.example");
	atomic_store(&later_ms, 59 * minute);
	expect_works(&rig, _i, "works.example");
	atomic_store(&later_ms, 61 * minute);
	text = expect_fails(&rig, _i, "works.example", WIRE_DNS);
	ck_assert_str_eq(text, "works.example: Temporary failure in name resolution");
	/* Known anew, the hour is, too. */
	fake_answer.n_addrs = 1;
	expect_works(&rig, _i, "works.example");
	fake_answer.n_addrs = 0;
	atomic_store(&later_ms, 120 * minute);
	expect_works(&rig, _i, "works.example");
	/* A name that was never known has none. */
	expect_fails(&rig, _i, "gone.example", WIRE_DNS);
	rig_stop(&rig);
	atomic_store(&later_ms, 0);
}
END_TEST

static void say_something(struct rig *rig, unsigned link)
{
	ck_assert_int_eq(wire_send(rig->w, link, rig->recs[link].epoch, false, "ping", 4), 0);
}

/* It hangs: the addresses known before serve after the limit, and a connection that works hears
 * nothing of it all. */
START_TEST(test_hanging_name_service)
{
	static const char *const addrs[] = { "127.0.0.1" };
	uint16_t port = server_port(&server, "plain");
	struct rig rig;

	answer_with(addrs, 1);
	addrs_init(&rig);
	rig.conf.dns_ms = 1000;
	rig_start(&rig);
	rig_open(&rig, 1, false, "works.example", port, "/ws");
	rig_until(&rig, rig.recs[1].n_opened == 1);
	atomic_store(&hanging, true);
	rig_open(&rig, 0, false, "works.example", port, "/ws");
	rig_open(&rig, 2, false, "never-known.example", port, "/ws");
	sem_wait(&has_asked);
	sem_wait(&has_asked);
	for (unsigned i = 1; i <= 20; i++) {
		say_something(&rig, 1);
		rig_until(&rig, rig.recs[1].n_messages == i);
	}
	rig.on_opened = close_it;
	ck_assert_msg(rig_until_closed(&rig, 0)->why == WIRE_BY_US, "%s", rig.recs[0].end.text);
	ck_assert_int_eq(rig_until_closed(&rig, 2)->why, WIRE_DNS);
	ck_assert_msg(strstr(rig.recs[2].end.text, "no answer from the name service in 1000 ms") !=
			      NULL,
		      "%s", rig.recs[2].end.text);
	say_something(&rig, 1);
	rig_until(&rig, rig.recs[1].n_messages == 21);
	ck_assert_int_eq(rig.recs[1].n_closed, 0);
	rig_stop(&rig);
	atomic_store(&hanging, false);
	sem_post(&may_answer);
	sem_post(&may_answer);
}
END_TEST

/* ---- silence ---- */

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	ck_assert_int_eq(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

/* Return: how many sockets to this port there are; each has the limits. */
static int check_limits(uint16_t port, int ms)
{
	int n = 0;

	for (int fd = 3; fd < 1024; fd++) {
		struct sockaddr_in sin;
		socklen_t len = sizeof(sin);

		if (getpeername(fd, (struct sockaddr *)&sin, &len) < 0 ||
		    sin.sin_family != AF_INET || ntohs(sin.sin_port) != port)
			continue;
		n++;
		ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), ms);
		ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
		ck_assert_int_eq(option(fd, SOL_SOCKET, SO_KEEPALIVE), ms > 0);
		if (ms == 0)
			continue;
		ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPIDLE) +
					 option(fd, IPPROTO_TCP, TCP_KEEPCNT) *
						 option(fd, IPPROTO_TCP, TCP_KEEPINTVL),
				 ms < 4000 ? 4 : ms / 1000);
	}
	return n;
}

START_TEST(test_silent_peers)
{
	static const int limits[] = { 35000, 1000, 4000, 600000, 0 };
	bool tls = _i % 2;
	struct wire_post p = post_to(tls, "/stall-status");
	uint16_t port = p.target.port;
	struct rig rig;

	addrs_init(&rig);
	rig.conf.tcp_ms = (uint32_t)limits[_i / 2];
	rig_start(&rig);
	rig_open(&rig, 0, tls, "127.0.0.1", port, "/ws");
	rig_until(&rig, rig.recs[0].n_opened == 1);
	/* The one that was dialled may have two descriptors for a moment. */
	ck_assert_int_ge(check_limits(port, limits[_i / 2]), 1);
	close_it(&rig, 0);
	rig_until_closed(&rig, 0);
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	while (check_limits(port, limits[_i / 2]) == 0)
		poll(NULL, 0, 1);
	rig_stop(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_addrs");
	TCase *t = tcase_create("addresses");

	tcase_add_unchecked_fixture(t, http_server_start, http_server_stop);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_shares);
	tcase_add_loop_test(t, test_hole_costs_little, 0, 4);
	tcase_add_loop_test(t, test_six_at_most, 0, 2);
	tcase_add_loop_test(t, test_hole_costs_once, 0, 2);
	tcase_add_test(t, test_reach_order);
	tcase_add_test(t, test_reach_all_failed);
	tcase_add_test(t, test_reach_is_bounded);
	tcase_add_loop_test(t, test_last_good_addresses, 0, 2);
	tcase_add_test(t, test_hanging_name_service);
	tcase_add_loop_test(t, test_silent_peers, 0, 10);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
