/* SPDX-License-Identifier: MIT */
/*
 * Rules for libwebsockets 4.1.6 that shape this file:
 * - Never return non-zero from RECEIVE: it goes on writing into a full buffer. Flag, discard, close
 *   from WRITEABLE.
 * - An attempt may end without any error callback: its end hangs on WSI_DESTROY and on a NULL
 *   connect, its limits on timers of our own (sul).
 * - Connect from a timer only (wire_conn_open says why).
 * - Timers and all calls but lws_cancel_service() belong to this thread.
 *
 * - Its own way to a server is not used: it tries addresses by its own clock, says nothing of why they
 *   failed, and of a proxy it wants the exact word "200" in the first packet, without telling what came
 *   instead; it cannot be given a connection that is there. So it connects to a Unix socket of ours
 *   that takes nobody (its queue is full): "not yet", says connect(), and it waits for the descriptor
 *   to become writable. Then the dialled connection takes the place of that socket under the same
 *   number (dup3), which is all that libwebsockets and poll() know of it. It must not connect at once:
 *   it would write and read inside of that call, and use what it has freed when the connection ends
 *   there.
 *
 *  IDLE --OPEN--> TRYING --101--> OPEN --CLOSE, too big--> CLOSING
 *   ^               |              |                          |
 *   +---- CLOSED ---+--------------+--------------------------+
 */
#include "wire/wire_conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/wire_log.h"
#include "wire/wire_tls.h"

_Static_assert(LWS_PRE <= WIRE_PRE, "headroom of mailbox items");

enum {
	FLUSH_MS = 1000, /* after a close: what was queued before may still leave */
	KILL_AGAIN_MS = 20,
	LINGER_MS = 1000, /* after a close frame: wait for the other one */
};

static void on_dialled(struct wire_dial *dial, bool ok);
static void wire_conn_gone(struct wire_conn *c);
static void wire_conn_kill(struct wire_conn *c);

void wire_conn_init(struct wire_conn *c, struct wire_lws *w, unsigned nr, size_t max_message_bytes)
{
	c->w = w;
	wire_link_init(&c->l, nr, w->shared, max_message_bytes);
	wire_dial_init(&c->dial, w, c->l.where, on_dialled);
}

static void timer(struct wire_conn *c, lws_sorted_usec_list_t *sul, sul_cb_t cb, uint64_t ms)
{
	wire_timer(c->w, sul, cb, ms);
}

static void on_kill_again(lws_sorted_usec_list_t *sul)
{
	wire_conn_kill(lws_container_of(sul, struct wire_conn, sul_kill));
}

/* Ends the TCP connection without ceremony; wire_conn_gone() follows, from the loop. The wish is a
 * timeout of the wsi, which has only one: a step of the handshake in the same turn sets its own
 * over it. So it is repeated until the wsi is gone. */
static void wire_conn_kill(struct wire_conn *c)
{
	if (c->wsi) {
		lws_set_timeout(c->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
		timer(c, &c->sul_kill, on_kill_again, KILL_AGAIN_MS);
	} else if (!c->connecting) {
		wire_conn_gone(c);
	}
}

/* The first word on it stands. */
static void judge(struct wire_conn *c, enum wire_dial_verdict verdict)
{
	if (!c->handed || c->judged)
		return;
	c->judged = true;
	wire_dial_judge(&c->dial, c->l.attempt, verdict);
}

static void on_attempt_timeout(lws_sorted_usec_list_t *sul)
{
	struct wire_conn *c = lws_container_of(sul, struct wire_conn, sul_attempt);
	unsigned ms = c->l.attempt ? (unsigned)c->l.attempt->attempt_ms : 0;

	if (c->dial.state != DIAL_IDLE) {
		const char *text = wire_dial_late(&c->dial);

		wire_link_end(&c->l, c->dial.why, "%s", text);
	} else if (!c->l.request_sent) {
		wire_link_end(&c->l, WIRE_HANDSHAKE, "the TLS handshake did not end in %u ms%s", ms,
			      c->wsi && wire_tls_heard_nothing(lws_get_ssl(c->wsi))
				      ? WIRE_TLS_NOT_A_BYTE
				      : "");
	} else {
		wire_link_end(&c->l, WIRE_HANDSHAKE, "no answer to the WebSocket upgrade in %u ms",
			      ms);
	}
	judge(c, WIRE_DIAL_SILENT);
	wire_conn_kill(c);
}

static void on_close_timeout(lws_sorted_usec_list_t *sul)
{
	struct wire_conn *c = lws_container_of(sul, struct wire_conn, sul_close);

	if (c->l.flush_over || c->l.state != LINK_CLOSING) {
		wire_conn_kill(c);
		return;
	}
	c->l.flush_over = true;
	timer(c, &c->sul_close, on_close_timeout, LINGER_MS);
	if (c->wsi)
		lws_callback_on_writable(c->wsi);
}

static void wire_conn_cancel_timers(struct wire_conn *c)
{
	lws_sul_cancel(&c->sul_attempt);
	lws_sul_cancel(&c->sul_close);
	lws_sul_cancel(&c->sul_kill);
}

/* A socket under a name that the kernel chooses, and the one that fills its queue. Whoever else finds
 * it meanwhile is heard by nobody. */
struct door {
	int fd, filler;
	char address[32]; /* in the form of libwebsockets */
};

static void door_close(struct door *d)
{
	if (d->fd >= 0)
		close(d->fd);
	if (d->filler >= 0)
		close(d->filler);
}

/* Return: 0; a negative errno. door_close() in either case. */
static int door_open(struct door *d)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sun);

	d->filler = -1;
	d->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (d->fd >= 0)
		d->filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd < 0 || d->filler < 0 ||
	    bind(d->fd, (struct sockaddr *)&sun, sizeof(sa_family_t)) < 0 || listen(d->fd, 0) < 0 ||
	    getsockname(d->fd, (struct sockaddr *)&sun, &len) < 0)
		return -errno;
	snprintf(d->address, sizeof(d->address), "+@%.*s",
		 (int)(len - offsetof(struct sockaddr_un, sun_path) - 1), sun.sun_path + 1);
	/* Refused (EAGAIN) when somebody else was faster: then that one fills it. */
	return connect(d->filler, (struct sockaddr *)&sun, len) == 0 || errno == EAGAIN ? 0
											: -errno;
}

static void end_unhanded(struct wire_conn *c)
{
	wire_link_end(&c->l, WIRE_CONNECT, "the connection cannot be handed on: %s",
		      c->why_not[0] ? c->why_not : "libwebsockets did not take it");
}

static void say_why_not(struct wire_conn *c, const char *why)
{
	if (!c->why_not[0])
		snprintf(c->why_not, sizeof(c->why_not), "%s", why);
}

/* libwebsockets takes over, from a timer: a connection made while events are being handed out inherits
 * those of the last owner of its place in the poll table. */
static void wire_conn_upgrade(struct wire_conn *c)
{
	const struct wire_attempt *a = c->l.attempt;
	struct lws_client_connect_info info = { 0 };
	struct lws *wsi = NULL;
	struct door door;
	int r;

	info.context = c->w->context;
	info.address = door.address;
	info.port = a->port;
	info.path = secret_bytes(a->path);
	info.host = a->authority;
	info.local_protocol_name = "rtbridge";
	info.ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT | (a->tls ? LCCSCF_USE_SSL : 0);
	info.alpn = "http/1.1";
	info.opaque_user_data = c;
	info.pwsi = &c->wsi;
	c->gone = c->handed = false;
	c->why_not[0] = '\0';
	c->connecting = true;
	r = door_open(&door);
	if (r == 0) {
		errno = 0;
		wsi = lws_client_connect_via_info(&info);
		/* It does not say why; the kernel may have. */
		r = wsi && !c->gone ? 0 : -errno;
	}
	door_close(&door);
	c->connecting = false;
	if (wsi && !c->gone) {
		r = wire_dial_take_as(&c->dial, lws_get_socket_fd(wsi));
		c->handed = r == 0;
	}
	if (r < 0)
		say_why_not(c, strerror(-r));
	wire_dial_stop(&c->dial);
	if (!wsi || c->gone) {
		c->wsi = NULL;
		wire_conn_gone(c);
	} else if (!c->handed) {
		end_unhanded(c);
		wire_conn_kill(c);
	}
}

static void on_dialled(struct wire_dial *dial, bool ok)
{
	struct wire_conn *c = lws_container_of(dial, struct wire_conn, dial);

	if (ok) {
		wire_conn_upgrade(c);
		return;
	}
	wire_link_end(&c->l, dial->why, "%s", dial->text);
	wire_conn_gone(c);
}

static const char ended_early[] = "the server ended the connection before the WebSocket was open";

/* It ended before there was a WebSocket, and nobody has said why. */
static void end_unopened(struct wire_conn *c, const char *why)
{
	struct wire_link *l = &c->l;

	if (!c->handed)
		end_unhanded(c);
	else if (!l->attempt->tls || l->request_sent)
		wire_link_end(l, WIRE_HANDSHAKE, "%s", why);
	else if (l->tls_text[0])
		wire_link_end(l, WIRE_TLS, "TLS: %s", l->tls_text);
	else if (c->hung_up)
		wire_link_end(l, WIRE_HANDSHAKE, WIRE_TLS_ENDED);
	else
		/* libwebsockets has emptied OpenSSL's error queue already. */
		wire_link_end(l, WIRE_TLS, "TLS: no valid handshake (is this a TLS port?)");
}

/* The wsi is destroyed, or never came to be: also of what fails before lws_client_connect_via_info()
 * has returned nothing else tells. */
static void wire_conn_gone(struct wire_conn *c)
{
	struct wire_link *l = &c->l;

	c->wsi = NULL;
	wire_dial_stop(&c->dial);
	if (l->state == LINK_TRYING) {
		end_unopened(c, ended_early);
		if (l->end.why != WIRE_BY_US)
			judge(c, WIRE_DIAL_ENDED);
	} else {
		wire_link_end(l, WIRE_LOST, "the connection ended without a close frame");
	}
	wire_conn_cancel_timers(c);
	wire_link_finish(l);
}

/* ---- what M wants ---- */

void wire_conn_open(struct wire_conn *c, struct mbox_item *item)
{
	wire_link_begin(&c->l, item);
	timer(c, &c->sul_attempt, on_attempt_timeout, wire_attempt_left_ms(c->l.attempt));
	c->handed = c->hung_up = c->judged = false;
	wire_dial_start(&c->dial, c->l.attempt);
}

void wire_conn_close(struct wire_conn *c, enum wire_why why, uint16_t code, const char *text)
{
	wire_link_end(&c->l, why, "%s", text);
	if (c->l.state == LINK_TRYING) {
		wire_conn_kill(c);
	} else if (c->l.state == LINK_OPEN) {
		c->l.state = LINK_CLOSING;
		c->l.close_code = code;
		wire_rx_reset(&c->l.rx);
		timer(c, &c->sul_close, on_close_timeout, FLUSH_MS);
		/* The peer's close frame is behind whatever it has sent. */
		lws_rx_flow_control(c->wsi, 1);
		lws_callback_on_writable(c->wsi);
	}
}

void wire_conn_send(struct wire_conn *c, struct mbox_item *item)
{
	wire_link_out_add(&c->l, item);
	lws_callback_on_writable(c->wsi);
}

void wire_conn_resume(struct wire_conn *c)
{
	if (c->l.state != LINK_OPEN || !c->l.paused || !wire_link_unhold(&c->l))
		return;
	c->l.paused = false;
	lws_rx_flow_control(c->wsi, 1);
}

/* ---- what libwebsockets reports ---- */

static void on_append_headers(struct wire_conn *c, unsigned char **at, size_t room)
{
	const struct secret *headers = c->l.attempt->headers;

	c->l.request_sent = true;
	if (c->l.attempt->tls)
		judge(c, WIRE_DIAL_SPOKE);
	if (secret_size(headers) > room)
		return; /* cannot be: WIRE_HEADERS_MAX is far below SERVICE_BUFFER */
	memcpy(*at, secret_bytes(headers), secret_size(headers));
	*at += secret_size(headers);
}

/* Return: 0 for a 101; else -1, after reading what is there of the body: the server's reason. */
static int on_http_answer(struct wire_conn *c, struct lws *wsi)
{
	unsigned status = lws_http_client_http_response(wsi);
	char buf[LWS_PRE + 1024], retry[16];
	size_t before;
	int n;

	judge(c, WIRE_DIAL_SPOKE);
	if (status == 101)
		return 0;
	if (lws_hdr_copy(wsi, retry, sizeof(retry), WSI_TOKEN_HTTP_RETRY_AFTER) > 0)
		c->l.end.retry_after_s = (uint32_t)strtoul(retry, NULL, 10);
	do {
		char *p = buf + LWS_PRE;

		before = c->l.body_size;
		n = (int)sizeof(buf) - LWS_PRE;
		n = lws_http_client_read(wsi, &p, &n);
	} while (n == 0 && c->l.body_size > before);
	return -1;
}

static void on_http_body(struct wire_conn *c, const char *data, size_t size)
{
	size_t left = sizeof(c->l.body) - c->l.body_size;

	if (size > left)
		size = left;
	memcpy(c->l.body + c->l.body_size, data, size);
	c->l.body_size += size;
}

static void on_connect_error(struct wire_conn *c, struct lws *wsi, const char *in, size_t len)
{
	struct wire_link *l = &c->l;
	unsigned status = lws_http_client_http_response(wsi);
	char why[128], body[sizeof(l->body) + 1], text[192];

	wire_log_clean(why, sizeof(why), in ? in : "", in ? len : 0);
	if (!c->handed)
		say_why_not(c, why);
	if (status != 0 && status != 101) {
		wire_log_clean(body, sizeof(body), l->body, l->body_size);
		if (!l->ended)
			l->end.http_status = (uint16_t)status;
		wire_link_end(l, WIRE_HTTP, "HTTP status %u instead of a WebSocket%s%s", status,
			      body[0] ? ": " : "", body);
	} else {
		c->hung_up = wire_sock_fd_ended(lws_get_socket_fd(wsi));
		snprintf(text, sizeof(text), "no valid answer to the WebSocket upgrade: %s", why);
		end_unopened(c, c->hung_up && !l->request_sent ? ended_early : text);
	}
}

/* Return: -1 when the end is decided already (closed by us, out of time): too late to open. */
static int on_established(struct wire_conn *c)
{
	if (c->l.ended)
		return -1;
	judge(c, WIRE_DIAL_SPOKE);
	wire_conn_cancel_timers(c);
	wire_link_opened(&c->l);
	return 0;
}

static void on_receive(struct wire_conn *c, struct lws *wsi, const void *in, size_t len)
{
	struct wire_shared *shared = c->l.shared;
	struct mbox_item *item;
	struct wire_rx_piece piece = {
		.data = in,
		.size = len,
		.frame_rest = lws_remaining_packet_payload(wsi),
		.first = lws_is_first_fragment(wsi) != 0,
		.final = lws_is_final_fragment(wsi) != 0,
		.binary = lws_frame_is_binary(wsi) != 0,
	};
	int r;

	atomic_fetch_add_explicit(&shared->bytes_in, len, memory_order_relaxed);
	if (c->l.state != LINK_OPEN)
		return;
	r = wire_rx_add(&c->l.rx, &piece, &item);
	if (r == WIRE_RX_E_TOO_BIG) {
		wire_conn_close(c, WIRE_TOO_BIG, 1009, "a message is over the limit in size");
	} else if (r < 0) {
		wire_conn_close(c, WIRE_LOST, 1011, "no memory for a message");
	} else if (item) {
		atomic_fetch_add_explicit(&shared->messages_in, 1, memory_order_relaxed);
		if (wire_link_deliver(&c->l, item) && !c->l.paused) {
			c->l.paused = true;
			atomic_fetch_add_explicit(&shared->pauses, 1, memory_order_relaxed);
			lws_rx_flow_control(wsi, 0);
		}
	}
}

/* Return: -1 closes. */
static int on_writable(struct wire_conn *c, struct lws *wsi)
{
	struct wire_shared *shared = c->l.shared;
	struct mbox_item *item;
	int n;

	/* A second refusal would end the wait for the peer's close frame. */
	if (c->l.close_sent)
		return 0;
	if (c->l.state == LINK_CLOSING && (c->l.flush_over || !c->l.out.head)) {
		c->l.close_sent = true;
		if (!c->l.flush_over) {
			c->l.flush_over = true;
			timer(c, &c->sul_close, on_close_timeout, LINGER_MS);
		}
		lws_close_reason(wsi, (enum lws_close_status)c->l.close_code, NULL, 0);
		return -1;
	}
	item = wire_link_out_take(&c->l);
	if (!item)
		return 0;
	n = lws_write(wsi, item->data, item->size,
		      item->binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
	if (n >= 0) {
		atomic_fetch_add_explicit(&shared->bytes_out, item->size, memory_order_relaxed);
		atomic_fetch_add_explicit(&shared->messages_out, 1, memory_order_relaxed);
	}
	wire_down_done(shared, item);
	if (n < 0)
		return -1;
	if (c->l.out.head || c->l.state == LINK_CLOSING)
		lws_callback_on_writable(wsi);
	return 0;
}

static void on_peer_close(struct wire_conn *c, const unsigned char *in, size_t len)
{
	unsigned code = len >= 2 ? (unsigned)(in[0] << 8 | in[1]) : 1005;
	char reason[126];

	/* The echo leaves at once or the connection is dead: either way this ends it. */
	timer(c, &c->sul_close, on_close_timeout, LINGER_MS);
	if (len == 1) {
		wire_link_end(&c->l, WIRE_PROTOCOL, "the server sent a close frame of one byte");
		return;
	}
	wire_log_clean(reason, sizeof(reason), len > 2 ? (const char *)in + 2 : "",
		       len > 2 ? len - 2 : 0);
	if (!c->l.ended)
		c->l.end.close_code = (uint16_t)code;
	wire_link_end(&c->l, WIRE_BY_PEER, "closed by the server with code %u%s%s%s", code,
		      code == 1002 ? " (perhaps 1012 to 1014, which look the same here)" : "",
		      reason[0] ? ": " : "", reason);
}

/* An open connection is over and nobody has said why: if the peer has not hung up, it was
 * libwebsockets that did, because of a broken frame. */
static void on_closed(struct wire_conn *c, struct lws *wsi)
{
	if (!wire_sock_fd_ended(lws_get_socket_fd(wsi)) && !wire_tls_peer_ended(lws_get_ssl(wsi)))
		wire_link_end(&c->l, WIRE_PROTOCOL, "the server broke the WebSocket protocol");
}

void wire_conn_on_tls_handshake(struct wire_conn *c, void *ssl)
{
	if (c->l.attempt)
		c->l.pinned = wire_tls_pin_name(ssl, c->l.attempt->host);
}

void wire_conn_on_tls_alert(struct wire_conn *c, bool over, const char *text)
{
	/* The verification's own words say more than the alert that follows them. */
	if (!c->l.tls_text[0])
		snprintf(c->l.tls_text, sizeof(c->l.tls_text), "%s", text);
	/* A server that says goodbye instead of shaking hands is waited for by libwebsockets. */
	if (over && c->l.state == LINK_TRYING && !c->l.request_sent)
		wire_conn_kill(c);
}

/* Return: non-zero refuses the certificate. */
static int on_tls_verify(struct wire_conn *c, void *store_ctx, bool ok)
{
	if (!ok && !c->l.tls_text[0])
		wire_tls_verify_text(store_ctx, c->l.tls_text, sizeof(c->l.tls_text));
	return !ok || !c->l.pinned;
}

int wire_conn_on_callback(struct wire_conn *c, struct lws *wsi, enum lws_callback_reasons reason,
			  void *user, void *in, size_t len)
{
	switch ((int)reason) {
	case LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION:
		return on_tls_verify(c, user, len != 0);
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		on_append_headers(c, in, len);
		return 0;
	case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
		return on_http_answer(c, wsi);
	case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
		on_http_body(c, in, len);
		return 0;
	case LWS_CALLBACK_COMPLETED_CLIENT_HTTP:
	case LWS_CALLBACK_CLIENT_HTTP_REDIRECT:
		return -1;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		on_connect_error(c, wsi, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		return on_established(c);
	case LWS_CALLBACK_CLIENT_RECEIVE:
		on_receive(c, wsi, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return on_writable(c, wsi);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		on_peer_close(c, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_CLOSED:
		on_closed(c, wsi);
		return 0;
	case LWS_CALLBACK_WSI_DESTROY:
		if (c->connecting)
			c->gone = true;
		else if (c->wsi == wsi)
			wire_conn_gone(c);
		return 0;
	default:
		return 0;
	}
}
