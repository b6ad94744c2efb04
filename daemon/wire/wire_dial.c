/* SPDX-License-Identifier: MIT */
#include "wire/wire_dial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "wire/wire_conn.h"
#include "wire/wire_reach.h"

#define CAME_TOO_LATE "there was a connection, but the attempt's %u ms were over"

uint32_t wire_dial_share_ms(int addr, int n, uint32_t connect_ms)
{
	uint32_t share;

	if (addr + 1 >= n)
		return connect_ms;
	share = WIRE_DIAL_OTHERS_MS / (uint32_t)(n - 1);
	if (share < WIRE_DIAL_LEAST_MS)
		share = WIRE_DIAL_LEAST_MS;
	return share < connect_ms ? share : connect_ms;
}

static void on_ready(struct wire_watch *watch, bool hung_up);

void wire_dial_init(struct wire_dial *dial, struct wire_lws *w, char *where,
		    void (*done)(struct wire_dial *dial, bool ok))
{
	*dial = (struct wire_dial){ .w = w, .where = where, .done = done, .sock = { .fd = -1 } };
	wire_watch_init(&dial->watch, w, on_ready);
}

/* The socket goes; who watches it closes it. */
static void drop(struct wire_dial *dial)
{
	int fd;

	wire_sock_done(&dial->sock, dial->watch.fd >= 0 ? &fd : NULL);
	wire_watch_stop(&dial->watch);
	wire_proxy_done(&dial->talk);
	lws_sul_cancel(&dial->sul_addr);
}

void wire_dial_stop(struct wire_dial *dial)
{
	if (dial->state == DIAL_IDLE)
		return;
	drop(dial);
	lws_sul_cancel(&dial->sul_next);
	dial->to = NULL;
	dial->state = DIAL_IDLE;
}

static void note(struct wire_dial *dial, const struct wire_attempt *to, bool good)
{
	wire_reach_note(&dial->w->shared->reach, to->addrs.addrs[dial->addr], good, wire_now_ms());
}

/* A request may have had a few milliseconds only: that is not enough to call an address silent. */
static bool had_time(const struct wire_dial *dial)
{
	return wire_now_ms() - dial->since_ms >= WIRE_DIAL_LEAST_MS;
}

static void say(struct wire_dial *dial, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void say(struct wire_dial *dial, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(dial->text, sizeof(dial->text), format, args);
	va_end(args);
}

static void on_next(lws_sorted_usec_list_t *sul);
static void on_connected(struct wire_dial *dial, int r);

/* This address is of no use. */
static void address_failed(struct wire_dial *dial)
{
	size_t len;

	drop(dial);
	dial->state = DIAL_CONNECTING;
	if (dial->addr + 1 == dial->to->addrs.n_addrs && dial->addr > 0) {
		len = strlen(dial->text);
		snprintf(dial->text + len, sizeof(dial->text) - len, " (the last of %d addresses)",
			 dial->to->addrs.n_addrs);
	}
	wire_timer(dial->w, &dial->sul_next, on_next, 0);
}

/* There is somebody, and no way on: this attempt is over. */
static void dial_failed(struct wire_dial *dial)
{
	drop(dial);
	dial->state = DIAL_FAILED;
	wire_timer(dial->w, &dial->sul_next, on_next, 0);
}

/* Not this machine's own trouble: no network, no descriptors, a firewall. That says nothing of an
 * address, and fails at once. */
static bool is_of_address(int e)
{
	return e == ECONNREFUSED || e == ETIMEDOUT || e == EHOSTUNREACH || e == ECONNRESET ||
	       e == ECONNABORTED;
}

static void cannot_connect(struct wire_dial *dial, int e)
{
	say(dial, "cannot connect%s: %s", dial->to->proxy ? " to the proxy" : "", strerror(-e));
	if (is_of_address(-e))
		note(dial, dial->to, false);
	address_failed(dial);
}

static void say_no_connection(struct wire_dial *dial, uint64_t ms)
{
	say(dial, "no TCP connection%s in %u ms", dial->to->proxy ? " with the proxy" : "",
	    (unsigned)ms);
}

static void on_addr_timeout(lws_sorted_usec_list_t *sul)
{
	struct wire_dial *dial = lws_container_of(sul, struct wire_dial, sul_addr);
	int r = wire_sock_connected(&dial->sock);

	/* If we were held up, it may be there. */
	if (r != -EAGAIN) {
		on_connected(dial, r);
		return;
	}
	say_no_connection(
		dial, wire_dial_share_ms(dial->addr, dial->to->addrs.n_addrs, dial->w->connect_ms));
	note(dial, dial->to, false);
	address_failed(dial);
}

static void finish(struct wire_dial *dial)
{
	wire_dial_stop(dial);
	dial->done(dial, false);
}

/* From a timer, where descriptors may be adopted: the next address, or the news. */
static void on_next(lws_sorted_usec_list_t *sul)
{
	struct wire_dial *dial = lws_container_of(sul, struct wire_dial, sul_next);
	const struct wire_attempt *to = dial->to;
	int n = to->addrs.n_addrs, r;

	if (dial->state == DIAL_THERE) {
		dial->done(dial, true);
		return;
	}
	if (dial->state == DIAL_FAILED || dial->addr + 1 >= n) {
		finish(dial);
		return;
	}
	dial->addr++;
	dial->since_ms = wire_now_ms();
	wire_attempt_where(to, dial->addr, dial->where, WIRE_WHERE_MAX);
	wire_timer(dial->w, &dial->sul_addr, on_addr_timeout,
		   wire_dial_share_ms(dial->addr, n, dial->w->connect_ms));
	r = wire_sock_connect(&dial->sock, to->addrs.addrs[dial->addr],
			      to->proxy ? to->proxy->port : to->port, dial->w->tcp_ms);
	if (r == 0)
		r = wire_watch_start(&dial->watch, dial->sock.fd);
	if (r < 0)
		cannot_connect(dial, r);
}

void wire_dial_start(struct wire_dial *dial, const struct wire_attempt *to)
{
	dial->to = to;
	dial->addr = -1;
	dial->state = DIAL_CONNECTING;
	dial->why = WIRE_CONNECT;
	dial->text[0] = '\0';
	wire_attempt_where(to, 0, dial->where, WIRE_WHERE_MAX);
	wire_timer(dial->w, &dial->sul_next, on_next, 0);
}

/* ---- steps ---- */

static void there(struct wire_dial *dial)
{
	dial->state = DIAL_THERE;
	wire_timer(dial->w, &dial->sul_next, on_next, 0);
}

/* `r`: what wire_sock_connected() said. */
static void on_connected(struct wire_dial *dial, int r)
{
	if (r < 0) {
		cannot_connect(dial, r);
		return;
	}
	lws_sul_cancel(&dial->sul_addr);
	if (!dial->to->proxy) {
		there(dial);
		return;
	}
	dial->state = DIAL_ASKING;
	if (wire_proxy_begin(&dial->talk, dial->to->proxy, dial->to) < 0) {
		say(dial, "no memory");
		dial_failed(dial);
		return;
	}
	wire_watch_writable(&dial->watch);
}

static void step_connecting(struct wire_dial *dial)
{
	int r = wire_sock_connected(&dial->sock);

	if (r == -EAGAIN)
		wire_watch_writable(&dial->watch);
	else
		on_connected(dial, r);
}

static void proxy_failed(struct wire_dial *dial, int e)
{
	dial->why = e == -EACCES ? WIRE_PROXY_AUTH : WIRE_CONNECT;
	say(dial, "%s", dial->talk.text);
	/* Another address of it may be better off. */
	note(dial, dial->to, false);
	dial_failed(dial);
}

static void step_asking(struct wire_dial *dial)
{
	int r = wire_proxy_step(&dial->talk, &dial->sock);

	if (r == 0) {
		wire_proxy_done(&dial->talk);
		note(dial, dial->to, true);
		there(dial);
	} else if (r != -EAGAIN) {
		proxy_failed(dial, r);
	} else if (dial->sock.wants_write) {
		wire_watch_writable(&dial->watch);
	}
}

static void on_ready(struct wire_watch *watch, bool hung_up)
{
	struct wire_dial *dial = lws_container_of(watch, struct wire_dial, watch);

	if (dial->state == DIAL_CONNECTING)
		step_connecting(dial);
	if (dial->state == DIAL_ASKING && watch->fd >= 0)
		step_asking(dial);
	if (!hung_up || watch->fd < 0)
		return;
	if (dial->state == DIAL_CONNECTING) {
		cannot_connect(dial, -ECONNABORTED);
		return;
	}
	/* The proxy, or what is behind it, has gone before a word was spoken. */
	say(dial, dial->to->proxy ? "the proxy hung up" : "the server hung up at once");
	note(dial, dial->to, false);
	dial_failed(dial);
}

/* ---- its owner's time is over ---- */

/* The attempt's time is over, and its own timer goes first. */
static void late_to_connect(struct wire_dial *dial, unsigned ms)
{
	int r = wire_sock_connected(&dial->sock);

	if (r == 0) {
		say(dial, CAME_TOO_LATE, ms);
	} else if (r != -EAGAIN) {
		cannot_connect(dial, r);
	} else {
		say_no_connection(dial, ms);
		if (had_time(dial))
			note(dial, dial->to, false);
	}
}

static void late_to_ask(struct wire_dial *dial, unsigned ms)
{
	int r = wire_proxy_step(&dial->talk, &dial->sock);

	if (r == 0) {
		say(dial, CAME_TOO_LATE, ms);
	} else if (r != -EAGAIN) {
		proxy_failed(dial, r);
	} else {
		say(dial, "the proxy did not answer in %u ms", ms);
		if (had_time(dial))
			note(dial, dial->to, false);
	}
}

const char *wire_dial_late(struct wire_dial *dial)
{
	unsigned ms = (unsigned)dial->to->attempt_ms;

	if (dial->state == DIAL_CONNECTING && dial->sock.fd >= 0)
		late_to_connect(dial, ms);
	else if (dial->state == DIAL_ASKING)
		late_to_ask(dial, ms);
	else if (dial->state == DIAL_THERE)
		say(dial, CAME_TOO_LATE, ms);
	else if (!dial->text[0])
		say_no_connection(dial, ms);
	wire_dial_stop(dial);
	return dial->text;
}

/* ---- handing over ---- */

void wire_dial_judge(struct wire_dial *dial, const struct wire_attempt *to,
		     enum wire_dial_verdict verdict)
{
	if (!to->proxy && (verdict != WIRE_DIAL_SILENT || had_time(dial)))
		note(dial, to, verdict == WIRE_DIAL_SPOKE);
}

void wire_dial_take(struct wire_dial *dial, struct wire_sock *ret_sock, struct wire_watch *to)
{
	*ret_sock = dial->sock;
	dial->sock = (struct wire_sock){ .fd = -1 };
	wire_watch_move(to, &dial->watch);
	wire_dial_stop(dial);
}

int wire_dial_take_as(struct wire_dial *dial, int fd)
{
	return dup3(dial->sock.fd, fd, O_CLOEXEC) < 0 ? -errno : 0;
}
