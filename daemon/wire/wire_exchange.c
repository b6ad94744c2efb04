/* SPDX-License-Identifier: MIT */
/*
 *  IDLE --POST--> DIALLING --> TLS --> TALKING --answer, end, deadline--> IDLE
 */
#include "wire/wire_exchange.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "wire/wire_conn.h"

enum { READS_AT_A_TIME = 4 };

static void on_dialled(struct wire_dial *dial, bool ok);
static void on_ready(struct wire_watch *watch, bool hung_up);

void wire_exchange_init(struct wire_exchange *x, struct wire_lws *w, unsigned nr)
{
	x->w = w;
	x->nr = nr;
	x->sock.fd = -1;
	wire_dial_init(&x->dial, w, x->where, on_dialled);
	wire_watch_init(&x->watch, w, on_ready);
}

bool wire_exchange_is_idle(const struct wire_exchange *x)
{
	return x->state == EXCHANGE_IDLE;
}

/* ---- ends ---- */

static void exchange_end(struct wire_exchange *x, enum wire_why why, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The first cause wins. */
static void exchange_end(struct wire_exchange *x, enum wire_why why, const char *format, ...)
{
	struct wire_answer *a = wire_request_answer(x->req);
	va_list args;
	int n;

	if (x->ended)
		return;
	x->ended = true;
	a->why = why;
	n = snprintf(a->text, sizeof(a->text), "%s: ", x->where);
	va_start(args, format);
	vsnprintf(a->text + n, sizeof(a->text) - (size_t)n, format, args);
	va_end(args);
}

/* The first word on the connection stands. */
static void judge(struct wire_exchange *x, enum wire_dial_verdict verdict)
{
	if (x->state == EXCHANGE_DIALLING || x->judged)
		return;
	x->judged = true;
	wire_dial_judge(&x->dial, x->req->to, verdict);
}

/* The socket goes; who watches it closes it. */
static void exchange_drop(struct wire_exchange *x)
{
	int fd;

	wire_dial_stop(&x->dial);
	wire_sock_done(&x->sock, x->watch.fd >= 0 ? &fd : NULL);
	wire_watch_stop(&x->watch);
}

void wire_exchange_stop(struct wire_exchange *x)
{
	if (x->state == EXCHANGE_IDLE)
		return;
	exchange_drop(x);
	lws_sul_cancel(&x->sul_all);
	x->req = wire_request_free(x->req);
	explicit_bzero(&x->http, sizeof(x->http));
	x->state = EXCHANGE_IDLE;
}

static void exchange_finish(struct wire_exchange *x)
{
	struct wire_answer *a = wire_request_answer(x->req);
	struct wire_shared *shared = x->w->shared;
	struct mbox_item *item;
	bool wake = false;

	judge(x, WIRE_DIAL_ENDED);
	if (x->http.status != 0) {
		x->ended = false;
		exchange_end(x, WIRE_HTTP, "HTTP status %u", x->http.status);
	}
	a->was_sent = x->was_sent;
	a->status = (uint16_t)x->http.status;
	a->retry_after_s = x->http.status != 0 ? x->http.retry_after_s : 0;
	a->size = x->http.body_size;
	a->whole = x->http.whole;
	item = wire_request_take_answer(x->req);
	item->link = x->nr;
	item->epoch = x->epoch;
	wire_exchange_stop(x);
	mbox_put(shared->up, item, true, &wake);
	if (wake)
		wire_ring(shared->efd);
}

static void exchange_step(struct wire_exchange *x);

static void on_deadline(lws_sorted_usec_list_t *sul)
{
	struct wire_exchange *x = lws_container_of(sul, struct wire_exchange, sul_all);
	unsigned ms = (unsigned)x->req->to->attempt_ms;
	const char *late;

	/* If we were held up, the answer may be there. */
	if (x->state == EXCHANGE_TALKING)
		exchange_step(x);
	if (x->state == EXCHANGE_DIALLING) {
		late = wire_dial_late(&x->dial);
		exchange_end(x, x->dial.why, "%s", late);
	} else if (x->state == EXCHANGE_TLS) {
		exchange_end(x, WIRE_HANDSHAKE, "the TLS handshake did not end in %u ms%s", ms,
			     wire_tls_heard_nothing(x->sock.tls) ? WIRE_TLS_NOT_A_BYTE : "");
	} else if (x->state == EXCHANGE_TALKING) {
		exchange_end(x, WIRE_HANDSHAKE, "no answer in %u ms", ms);
	}
	if (x->state != EXCHANGE_IDLE) {
		judge(x, WIRE_DIAL_SILENT);
		exchange_finish(x);
	}
}

void wire_exchange_start(struct wire_exchange *x, struct mbox_item *item)
{
	x->req = TAKE(item->rider);
	x->epoch = item->epoch;
	x->state = EXCHANGE_DIALLING;
	x->ended = x->judged = x->was_sent = x->deaf = false;
	x->n_sent = 0;
	wire_http_init(&x->http, wire_request_answer_body(x->req), x->req->answer_room);
	wire_timer(x->w, &x->sul_all, on_deadline, wire_attempt_left_ms(x->req->to));
	wire_dial_start(&x->dial, x->req->to);
}

/* ---- connected ---- */

static void on_dialled(struct wire_dial *dial, bool ok)
{
	struct wire_exchange *x = lws_container_of(dial, struct wire_exchange, dial);
	const struct wire_attempt *to = x->req->to;

	if (!ok) {
		exchange_end(x, dial->why, "%s", dial->text);
		exchange_finish(x);
		return;
	}
	wire_dial_take(dial, &x->sock, &x->watch);
	if (!to->tls) {
		x->state = EXCHANGE_TALKING;
	} else if (wire_sock_tls_start(&x->sock, x->w->ssl_ctx, to->host) == 0) {
		x->state = EXCHANGE_TLS;
	} else {
		exchange_end(x, WIRE_TLS, "TLS: no memory");
		exchange_finish(x);
	}
}

static void step_tls(struct wire_exchange *x)
{
	int r = wire_sock_tls_step(&x->sock);

	if (r == 0) {
		judge(x, WIRE_DIAL_SPOKE);
		x->state = EXCHANGE_TALKING;
	} else if (r != -EAGAIN) {
		if (x->sock.tls_text.text[0])
			exchange_end(x, WIRE_TLS, "TLS: %s", x->sock.tls_text.text);
		else if (wire_sock_fd_ended(x->sock.fd))
			exchange_end(x, WIRE_LOST, WIRE_TLS_ENDED);
		else
			exchange_end(x, WIRE_TLS, "TLS: no valid handshake (is this a TLS port?)");
		exchange_finish(x);
	} else if (x->sock.wants_write) {
		wire_watch_writable(&x->watch);
	}
}

/* Nothing more comes. */
static void answer_over(struct wire_exchange *x, bool orderly)
{
	if (wire_http_end(&x->http, orderly) < 0)
		exchange_end(x, WIRE_LOST, "the connection ended before an answer");
	exchange_finish(x);
}

/* What is there of the answer. It may finish the exchange. */
static void receive(struct wire_exchange *x)
{
	ssize_t n;
	int r;

	for (int i = 0; i < READS_AT_A_TIME; i++) {
		n = wire_sock_read(&x->sock, x->w->read_buf, WIRE_READ_SIZE);
		if (n == -EAGAIN) {
			if (x->sock.wants_write)
				wire_watch_writable(&x->watch);
			return;
		}
		if (n <= 0) {
			answer_over(x, n == 0);
			return;
		}
		r = wire_http_feed(&x->http, x->w->read_buf, (size_t)n);
		explicit_bzero(x->w->read_buf, (size_t)n);
		if (x->http.status != 0)
			judge(x, WIRE_DIAL_SPOKE);
		if (r < 0)
			exchange_end(x, WIRE_HTTP, "the answer is not HTTP");
		if (r != 0) {
			exchange_finish(x);
			return;
		}
	}
	/* TLS may hold bytes that no event tells of. */
	wire_watch_writable(&x->watch);
}

static void transmit(struct wire_exchange *x)
{
	size_t left = x->req->size - x->n_sent;
	ssize_t n;

	/* A server that has refused it need not have read it all. */
	if (left == 0 || x->deaf || x->http.status >= 300)
		return;
	x->was_sent = true;
	n = wire_sock_write(&x->sock, x->req->bytes + x->n_sent,
			    left < WIRE_WRITE_SIZE ? left : WIRE_WRITE_SIZE);
	if (n > 0)
		x->n_sent += (size_t)n;
	if (n > 0 ? x->n_sent < x->req->size : n == -EAGAIN && x->sock.wants_write) {
		wire_watch_writable(&x->watch);
	} else if (n < 0 && n != -EAGAIN) {
		/* Why it hung up may be there to be read, before the end of it. */
		x->deaf = true;
		receive(x);
	}
}

static void exchange_step(struct wire_exchange *x)
{
	if (x->state == EXCHANGE_TLS)
		step_tls(x);
	if (x->state == EXCHANGE_TALKING)
		receive(x);
	if (x->state == EXCHANGE_TALKING)
		transmit(x);
}

static void on_ready(struct wire_watch *watch, bool hung_up)
{
	struct wire_exchange *x = lws_container_of(watch, struct wire_exchange, watch);

	exchange_step(x);
	if (!hung_up)
		return;
	if (x->state == EXCHANGE_TLS)
		exchange_end(x, WIRE_LOST, WIRE_TLS_ENDED);
	if (x->state == EXCHANGE_TLS || x->state == EXCHANGE_TALKING)
		answer_over(x, false);
}
