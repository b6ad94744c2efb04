/* SPDX-License-Identifier: MIT */
/* Addresses that take connections and come to nothing, what is no address's fault, and a network thread
 * that was held up: what is noted of which. Nothing leaves this machine. */
#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "wire/mbox.h"
#include "wire/resolver.h"
#include "wire/wire_dial.h"
#include "wire_ports.h"
#include "wire_post_util.h"

#define OTHER "127.0.0.2" /* the servers are at 127.0.0.1 */

enum { ATTEMPT_MS = 3000 };

/* ---- the network thread, held up, and a machine with troubles of its own (linked with --wrap) ---- */

static atomic_bool hold_at_start, hold_at_stop, hold_at_wake;
static sem_t is_held, may_go;
static atomic_int trouble; /* errno of each connect(); 0: none */

static void hold(atomic_bool *flag)
{
	if (atomic_exchange(flag, false)) {
		sem_post(&is_held);
		sem_wait(&may_go);
	}
}

int __real_wire_watch_start(struct wire_watch *watch, int fd);
int __wrap_wire_watch_start(struct wire_watch *watch, int fd);
int __wrap_wire_watch_start(struct wire_watch *watch, int fd)
{
	int r = __real_wire_watch_start(watch, fd);

	hold(&hold_at_start);
	return r;
}

void __real_wire_watch_stop(struct wire_watch *watch);
void __wrap_wire_watch_stop(struct wire_watch *watch);
void __wrap_wire_watch_stop(struct wire_watch *watch)
{
	hold(&hold_at_stop);
	__real_wire_watch_stop(watch);
}

/* Both threads take from mailboxes: the network thread when it is woken. */
struct mbox_item *__real_mbox_take(struct mbox *mbox);
struct mbox_item *__wrap_mbox_take(struct mbox *mbox);
struct mbox_item *__wrap_mbox_take(struct mbox *mbox)
{
	if (gettid() != getpid())
		hold(&hold_at_wake);
	return __real_mbox_take(mbox);
}

int __real_wire_sock_connect(struct wire_sock *s, const char *addr, uint16_t port, uint32_t tcp_ms);
int __wrap_wire_sock_connect(struct wire_sock *s, const char *addr, uint16_t port, uint32_t tcp_ms);
int __wrap_wire_sock_connect(struct wire_sock *s, const char *addr, uint16_t port, uint32_t tcp_ms)
{
	int e = atomic_load(&trouble);

	if (e == 0)
		return __real_wire_sock_connect(s, addr, port, tcp_ms);
	*s = (struct wire_sock){ .fd = -1 };
	return -e;
}

/* ---- rigs ---- */

static void both_addresses(const char *host, struct resolver_answer *ret)
{
	(void)host;
	strcpy(ret->addrs[0], OTHER);
	strcpy(ret->addrs[1], "127.0.0.1");
	ret->n_addrs = 2;
}

static void silent_init(struct rig *rig)
{
	resolver_set_lookup(both_addresses);
	sem_init(&is_held, 0, 0);
	sem_init(&may_go, 0, 0);
	rig_init(rig);
	rig->conf.ca_file = ca_file;
}

static void close_it(struct rig *rig, unsigned link)
{
	wire_close(rig->w, link, rig->recs[link].epoch, 1000);
}

static uint16_t port_of(bool tls)
{
	return server_port(&server, tls ? "good" : "plain");
}

enum kind { SOCKET, REQUEST };

static void start(struct rig *rig, enum kind kind, bool tls, uint32_t timeout_ms)
{
	struct wire_post p = post_to(tls, "/status-202");

	p.target.host = "localhost";
	p.timeout_ms = timeout_ms;
	rig->on_opened = close_it;
	if (kind == SOCKET)
		rig_open(rig, 0, tls, p.target.host, p.target.port, "/ws");
	else
		ck_assert_int_eq(rig_try_post(rig, 0, &p), 0);
}

static const char *until_failed(struct rig *rig, enum kind kind, enum wire_why why)
{
	const char *text;
	enum wire_why got;

	if (kind == SOCKET) {
		got = rig_until_closed(rig, 0)->why;
		text = rig->recs[0].end.text;
	} else {
		got = rig_until_answered(rig, 0)->why;
		text = rig->posts[0].answer.text;
		ck_assert_uint_eq(rig->posts[0].answer.status, 0);
	}
	ck_assert_msg(got == why, "%s: %s", why_name(got), text);
	return text;
}

static void expect_works(struct rig *rig, enum kind kind, bool tls)
{
	start(rig, kind, tls, WIRE_DEADLINE_MS);
	if (kind == SOCKET)
		ck_assert_msg(rig_until_closed(rig, 0)->why == WIRE_BY_US, "%s",
			      rig->recs[0].end.text);
	else
		ck_assert_msg(rig_until_answered(rig, 0)->status == 202, "%s",
			      rig->posts[0].answer.text);
}

static int take_next(struct rig *rig, int listener)
{
	int fd;

	until_connected(rig, listener);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void expect_nobody(int listener)
{
	ck_assert_int_lt(accept4(listener, NULL, NULL, SOCK_CLOEXEC), 0);
	ck_assert_int_eq(errno, EAGAIN);
}

/* ---- who takes connections, and nothing more ---- */

/* It swallows all that comes: it is asked once, and then the other one is first. */
START_TEST(test_says_nothing)
{
	enum kind kind = _i & 1 ? REQUEST : SOCKET;
	bool tls = _i & 2;
	int fd = listen_at(OTHER, port_of(tls), 8);
	struct rig rig;

	silent_init(&rig);
	rig.conf.attempt_ms = ATTEMPT_MS;
	rig_start(&rig);
	start(&rig, kind, tls, ATTEMPT_MS);
	until_failed(&rig, kind, WIRE_HANDSHAKE);
	close(take_next(&rig, fd));
	expect_works(&rig, kind, tls);
	/* What one of them has found out, the other one knows. */
	expect_works(&rig, kind == SOCKET ? REQUEST : SOCKET, tls);
	expect_nobody(fd);
	rig_stop(&rig);
	close(fd);
}
END_TEST

/* It hangs up as soon as it is spoken to, by a reset or in order. */
START_TEST(test_hangs_up)
{
	enum kind kind = _i & 1 ? REQUEST : SOCKET;
	bool tls = _i & 2;
	int fd = listen_at(OTHER, port_of(tls), 8), sock;
	char byte;
	struct rig rig;

	silent_init(&rig);
	rig_start(&rig);
	start(&rig, kind, tls, WIRE_DEADLINE_MS);
	sock = take_next(&rig, fd);
	ck_assert_int_eq(recv(sock, &byte, 1, 0), 1);
	if (_i & 4)
		ck_assert_int_eq(shutdown(sock, SHUT_WR), 0);
	else
		close(sock); /* with bytes unread */
	until_failed(&rig, kind, kind == SOCKET ? WIRE_HANDSHAKE : WIRE_LOST);
	expect_works(&rig, kind, tls);
	expect_nobody(fd);
	rig_stop(&rig);
	close(fd);
	if (_i & 4)
		close(sock);
}
END_TEST

/* A short wait proves nothing: of a connection, and of what comes after it. */
START_TEST(test_short_of_time)
{
	uint16_t port = port_of(false);
	struct hole hole;
	struct rig rig;
	int fd = -1;

	if (_i == 0)
		hole_dig(&hole, OTHER, port);
	else
		fd = listen_at(OTHER, port, 8);
	silent_init(&rig);
	rig_start(&rig);
	start(&rig, REQUEST, false, WIRE_DIAL_LEAST_MS / 4);
	until_failed(&rig, REQUEST, _i == 0 ? WIRE_CONNECT : WIRE_HANDSHAKE);
	if (_i == 0) {
		hole_fill(&hole);
		fd = listen_at(OTHER, port, 8);
	} else {
		close(take_next(&rig, fd));
	}
	start(&rig, SOCKET, false, 0);
	close(take_next(&rig, fd));
	rig_until_closed(&rig, 0);
	rig_stop(&rig);
	close(fd);
}
END_TEST

/* A proxy that refuses is there, and another address of it may be better off. */
START_TEST(test_proxy_refuses)
{
	static const char answer[] = "HTTP/1.1 502 No\r\n\r\n";
	int fd = listen_at(OTHER, 0, 8), better, sock;
	struct rig rig;

	silent_init(&rig);
	rig.conf.proxy_host = "proxy.example";
	rig.conf.proxy_port = port_at(fd);
	rig_start(&rig);
	start(&rig, SOCKET, true, 0);
	sock = take_next(&rig, fd);
	ck_assert_int_eq(send(sock, answer, sizeof(answer) - 1, MSG_NOSIGNAL), sizeof(answer) - 1);
	until_failed(&rig, SOCKET, WIRE_CONNECT);
	close(sock);
	better = listen_at("127.0.0.1", port_at(fd), 8);
	start(&rig, SOCKET, true, 0);
	close(take_next(&rig, better));
	expect_nobody(fd);
	close(better);
	rig_stop(&rig);
	close(fd);
}
END_TEST

/* ---- what is this machine's own ---- */

START_TEST(test_own_trouble)
{
	static const int own[] = { ENETUNREACH, EMFILE, ENFILE, EPERM, EADDRNOTAVAIL, ENOBUFS };
	uint16_t port = port_of(false);
	struct rig rig;
	int fd;

	silent_init(&rig);
	rig_start(&rig);
	/* Nobody listens at the other one yet. */
	expect_works(&rig, SOCKET, false);
	fd = listen_at(OTHER, port, 8);
	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++) {
		atomic_store(&trouble, own[i]);
		start(&rig, SOCKET, false, 0);
		ck_assert_ptr_nonnull(
			strstr(until_failed(&rig, SOCKET, WIRE_CONNECT), strerror(own[i])));
		atomic_store(&trouble, 0);
		expect_works(&rig, SOCKET, false);
		expect_nobody(fd);
	}
	/* A refusal is the address's: now both have failed, and the order is that of the names. */
	atomic_store(&trouble, ECONNREFUSED);
	start(&rig, SOCKET, false, 0);
	until_failed(&rig, SOCKET, WIRE_CONNECT);
	atomic_store(&trouble, 0);
	start(&rig, SOCKET, false, 0);
	close(take_next(&rig, fd));
	rig_stop(&rig);
	close(fd);
}
END_TEST

/* ---- a thread that is held up ---- */

static void until_held(struct rig *rig)
{
	struct pollfd p = { .fd = wire_fd(rig->w), .events = POLLIN };
	int64_t deadline = rig_now_ms() + WIRE_DEADLINE_MS;

	while (sem_trywait(&is_held) < 0) {
		ck_assert_int_lt(rig_now_ms(), deadline);
		if (poll(&p, 1, 5) > 0)
			wire_dispatch(rig->w);
	}
}

static void let_go_at(int64_t ms)
{
	while (rig_now_ms() < ms)
		poll(NULL, 0, (int)(ms - rig_now_ms()));
	sem_post(&may_go);
}

/* The thread comes to where it is held, and stands still there for so long. */
static void stand_still(struct rig *rig, int64_t ms)
{
	until_held(rig);
	let_go_at(rig_now_ms() + ms);
}

/* The connection that is none of the hole's own. */
static int take_other(struct rig *rig, struct hole *h)
{
	struct sockaddr_in peer, own;
	socklen_t len;
	int sock;

	for (;;) {
		bool is_own = false;

		until_connected(rig, h->fd);
		len = sizeof(peer);
		sock = accept4(h->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
		ck_assert_int_ge(sock, 0);
		for (int i = 0; i < 4; i++) {
			len = sizeof(own);
			ck_assert_int_eq(getsockname(h->fill[i], (struct sockaddr *)&own, &len), 0);
			is_own = is_own || own.sin_port == peer.sin_port;
		}
		if (!is_own)
			return sock;
		close(sock);
	}
}

/* The address's time is over when the thread looks, or that of the whole attempt; the connection has
 * come meanwhile. In the first case it is used, in the other it was not the address's fault at least:
 * it is the first one of the next attempt, too. */
START_TEST(test_held_up_while_connecting)
{
	enum { TIME_MS = 3500 }; /* a SYN is sent again after 1 s and 3 s */
	struct hole hole;
	const char *text;
	struct rig rig;
	int64_t over;
	char byte;
	int sock;

	hole_dig(&hole, OTHER, port_of(false));
	silent_init(&rig);
	if (_i == 0)
		rig.conf.connect_ms = TIME_MS;
	else
		rig.conf.attempt_ms = TIME_MS;
	rig_start(&rig);
	atomic_store(&hold_at_start, true);
	start(&rig, SOCKET, false, 0);
	until_held(&rig);
	over = rig_now_ms() + TIME_MS + 100;
	sem_post(&may_go);
	atomic_store(&hold_at_wake, true);
	rig_open(&rig, 1, false, "127.0.0.9", port_of(false), "/ws");
	until_held(&rig);
	sock = take_other(&rig, &hole);
	let_go_at(over);
	if (_i == 0) {
		ck_assert_int_eq(recv(sock, &byte, 1, 0), 1);
	} else {
		text = until_failed(&rig, SOCKET, WIRE_CONNECT);
		ck_assert_msg(strstr(text, "there was a connection, but the attempt's 3500 ms") !=
				      NULL,
			      "%s", text);
		start(&rig, SOCKET, false, 0);
		close(take_other(&rig, &hole));
	}
	rig_stop(&rig);
	close(sock);
	hole_fill(&hole);
}
END_TEST

/* Refused meanwhile: that is what is told. */
START_TEST(test_held_up_and_refused)
{
	const char *text;
	struct rig rig;

	silent_init(&rig);
	rig.conf.connect_ms = _i == 0 ? 50 : WIRE_DEADLINE_MS;
	rig.conf.attempt_ms = _i == 0 ? WIRE_DEADLINE_MS : 50;
	rig_start(&rig);
	atomic_store(&hold_at_start, true);
	rig_open(&rig, 0, false, "127.0.0.9", port_of(false), "/ws");
	stand_still(&rig, 100);
	text = until_failed(&rig, SOCKET, WIRE_CONNECT);
	ck_assert_msg(strstr(text, "cannot connect: Connection refused") != NULL, "%s", text);
	rig_stop(&rig);
}
END_TEST

/* The whole attempt's time is over. It was not the address's fault: the next attempt goes there. */
START_TEST(test_held_up_for_all_the_time)
{
	int fd = listen_at(OTHER, port_of(false), 8);
	const char *text;
	struct rig rig;

	silent_init(&rig);
	rig.conf.attempt_ms = WIRE_DIAL_LEAST_MS + 200;
	rig_start(&rig);
	atomic_store(&hold_at_start, true);
	start(&rig, SOCKET, false, 0);
	stand_still(&rig, WIRE_DIAL_LEAST_MS + 300);
	text = until_failed(&rig, SOCKET, WIRE_CONNECT);
	ck_assert_msg(strstr(text, "there was a connection, but the attempt's 1200 ms were over") !=
			      NULL,
		      "%s", text);
	close(take_next(&rig, fd));
	start(&rig, SOCKET, false, 0);
	close(take_next(&rig, fd));
	rig_stop(&rig);
	close(fd);
}
END_TEST

/* What was known to be wrong is told, though the time is over, too. */
START_TEST(test_held_up_behind_a_failure)
{
	static const char answer[] = "HTTP/1.1 502 No\r\n\r\n";
	int fd = listen_at("127.0.0.1", 0, 8), sock;
	const char *text;
	struct rig rig;

	silent_init(&rig);
	rig.conf.attempt_ms = 1000;
	rig.conf.proxy_host = "127.0.0.1";
	rig.conf.proxy_port = port_at(fd);
	rig_start(&rig);
	start(&rig, SOCKET, true, 0);
	sock = take_next(&rig, fd);
	atomic_store(&hold_at_stop, true);
	ck_assert_int_eq(send(sock, answer, sizeof(answer) - 1, MSG_NOSIGNAL), sizeof(answer) - 1);
	stand_still(&rig, 1100);
	text = until_failed(&rig, SOCKET, WIRE_CONNECT);
	ck_assert_msg(strstr(text, "HTTP status 502") != NULL, "%s", text);
	rig_stop(&rig);
	close(sock);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_silent");
	TCase *t = tcase_create("silent addresses");

	tcase_add_unchecked_fixture(t, http_server_start, http_server_stop);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_says_nothing, 0, 4);
	tcase_add_loop_test(t, test_hangs_up, 0, 8);
	tcase_add_loop_test(t, test_short_of_time, 0, 2);
	tcase_add_test(t, test_proxy_refuses);
	tcase_add_test(t, test_own_trouble);
	tcase_add_loop_test(t, test_held_up_while_connecting, 0, 2);
	tcase_add_loop_test(t, test_held_up_and_refused, 0, 2);
	tcase_add_test(t, test_held_up_for_all_the_time);
	tcase_add_test(t, test_held_up_behind_a_failure);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
