/* SPDX-License-Identifier: MIT */
#include "wire/wire_lws.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "wire/wire_alloc.h"
#include "wire/wire_conn.h"
#include "wire/wire_exchange.h"
#include "wire/wire_log.h"
#include "wire/wire_tls.h"
#include "wire/wire_watch.h"

enum {
	SERVICE_BUFFER = 65536, /* also the receive buffer: larger ones gain nothing */
	/* Proxies and load balancers send long header fields; the default of 4096 refuses them. */
	HEADER_MAX = 16384,
	/* Twice the requests: the last one's socket may be there still when the next one starts. A
	 * link has one that is dialled, besides. */
	FD_MAX = 3 * WIRE_MAX_LINKS + 2 * WIRE_MAX_POSTS + 16,
	STOP_MS = 1000,
	JOIN_MS = 2000,
};

/* Ids of the protocols: who is behind a wsi. */
enum { OF_LINK = 1, OF_WATCH };

void wire_timer(struct wire_lws *w, lws_sorted_usec_list_t *sul, sul_cb_t cb, uint64_t ms)
{
	lws_sul_schedule(w->context, 0, sul, cb, (lws_usec_t)ms * LWS_US_PER_MS + 1);
}

void wire_ring(int efd)
{
	uint64_t one = 1;
	ssize_t n = write(efd, &one, sizeof(one));

	(void)n; /* full means that it is readable, which is all we want */
}

void wire_down_done(struct wire_shared *shared, struct mbox_item *item)
{
	if (item->kind == WIRE_DOWN_SEND)
		atomic_fetch_sub(&shared->unsent[item->link], item->size);
	mbox_done(shared->down, item);
}

static void on_item(struct wire_lws *w, struct mbox_item *item)
{
	struct wire_conn *c = &w->conns[item->link];
	bool current = c->l.state != LINK_IDLE && item->epoch == c->l.epoch;

	switch ((enum wire_down)item->kind) {
	case WIRE_DOWN_OPEN:
		wire_conn_open(c, item);
		break;
	case WIRE_DOWN_SEND:
		if (current && c->l.state == LINK_OPEN) {
			wire_conn_send(c, item);
			return;
		}
		break;
	case WIRE_DOWN_CLOSE:
		if (current)
			wire_conn_close(c, WIRE_BY_US, (uint16_t)item->code, "closed by us");
		break;
	case WIRE_DOWN_RESUME:
		for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
			wire_conn_resume(&w->conns[i]);
		break;
	case WIRE_DOWN_POST:
		wire_exchange_start(&w->exchanges[item->link], item);
		break;
	}
	wire_down_done(w->shared, item);
}

static void on_stop_timeout(lws_sorted_usec_list_t *sul)
{
	struct wire_lws *w = lws_container_of(sul, struct wire_lws, sul_stop);

	w->stop_now = true;
}

static void on_wake(struct wire_lws *w)
{
	struct mbox_item *item, *next;

	for (item = mbox_take(w->shared->down); item; item = next) {
		next = item->next;
		on_item(w, item);
	}
	if (!atomic_load(&w->stop))
		return;
	lws_sul_schedule(w->context, 0, &w->sul_stop, on_stop_timeout, STOP_MS * LWS_US_PER_MS);
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++) {
		if (w->conns[i].l.state != LINK_IDLE)
			wire_conn_close(&w->conns[i], WIRE_BY_US, 1000, "closed by us");
	}
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		wire_exchange_stop(&w->exchanges[i]);
}

static struct wire_conn *wire_conn_by_fd(struct wire_lws *w, int fd)
{
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++) {
		if (w->conns[i].wsi && lws_get_socket_fd(w->conns[i].wsi) == fd)
			return &w->conns[i];
	}
	return NULL;
}

static void on_tls_handshake(void *ctx, void *ssl, int fd)
{
	struct wire_conn *c = wire_conn_by_fd(ctx, fd);

	if (c)
		wire_conn_on_tls_handshake(c, ssl);
}

static void on_tls_alert(void *ctx, int fd, bool over, const char *text)
{
	struct wire_conn *c = wire_conn_by_fd(ctx, fd);

	if (c)
		wire_conn_on_tls_alert(c, over, text);
}

static int on_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		       size_t len)
{
	struct wire_conn *c;

	if (reason == LWS_CALLBACK_EVENT_WAIT_CANCELLED) {
		on_wake(lws_context_user(lws_get_context(wsi)));
		return 0;
	}
	if (reason == LWS_CALLBACK_OPENSSL_LOAD_EXTRA_CLIENT_VERIFY_CERTS) {
		struct wire_lws *w = lws_context_user(lws_get_context(wsi));

		w->ssl_ctx = user;
		wire_tls_setup(user, &w->tls_hook);
		return 0;
	}
	/* Calls about the context itself come with a wsi of nobody or none at all; births and deaths of
	 * the requests' come here, too. */
	c = wsi ? lws_get_opaque_user_data(wsi) : NULL;
	if (!c || lws_get_protocol(wsi)->id != OF_LINK)
		return 0;
	return wire_conn_on_callback(c, wsi, reason, user, in, len);
}

static int on_watch_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user,
			     void *in, size_t len)
{
	struct wire_watch *watch = wsi ? lws_get_opaque_user_data(wsi) : NULL;

	(void)user;
	(void)in;
	(void)len;
	if (watch)
		wire_watch_on_callback(watch, reason);
	return 0;
}

static _Atomic bool starting;

static void on_log(int level, const char *line)
{
	wire_log_lws((level & LLL_ERR) != 0, atomic_load(&starting), line);
}

static const struct lws_protocols protocols[] = {
	{ .name = "rtbridge",
	  .callback = on_callback,
	  .rx_buffer_size = SERVICE_BUFFER,
	  .id = OF_LINK },
	{ .name = WIRE_WATCH_PROTOCOL, .callback = on_watch_callback, .id = OF_WATCH },
	{ .name = NULL },
};

/* Their pings are not wanted: a pause in reading would look like a dead peer to them. The session
 * has heartbeats, TCP its own limit. */
static const lws_retry_bo_t no_pings;

static struct lws_context *context_new(struct wire_lws *w, const struct wire_conf *conf)
{
	struct lws_context_creation_info info = { 0 };

	info.port = CONTEXT_PORT_NO_LISTEN;
	info.protocols = protocols;
	info.user = w;
	info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
	info.client_ssl_ca_filepath = conf->ca_file;
	info.ssl_client_options_set = (long)(SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	info.alpn = "http/1.1";
	info.retry_and_idle_policy = &no_pings;
	info.pt_serv_buf_size = SERVICE_BUFFER;
	info.max_http_header_data = HEADER_MAX;
	info.max_http_header_pool = WIRE_MAX_LINKS;
	info.fd_limit_per_thread = FD_MAX;
	/* Our own timers are the limits; these only must not be shorter. */
	info.timeout_secs = conf->attempt_ms / 1000 + 5;
	info.connect_timeout_secs = conf->attempt_ms / 1000 + 5;
	return lws_create_context(&info);
}

/* libwebsockets would send ws and wss through the proxy that the variable http_proxy names, and
 * knows neither https_proxy nor no_proxy. The children that we start keep the variable. */
static struct lws_context *context_new_without_proxy(struct wire_lws *w,
						     const struct wire_conf *conf)
{
	const char *value = getenv("http_proxy");
	char *proxy = value ? strdup(value) : NULL;
	struct lws_context *context;

	unsetenv("http_proxy");
	context = context_new(w, conf);
	if (proxy)
		setenv("http_proxy", proxy, 1);
	free(proxy);
	return context;
}

static bool all_idle(const struct wire_lws *w)
{
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++) {
		if (w->conns[i].l.state != LINK_IDLE)
			return false;
	}
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++) {
		if (!wire_exchange_is_idle(&w->exchanges[i]))
			return false;
	}
	return true;
}

static void *thread_main(void *arg)
{
	struct wire_lws *w = arg;

	pthread_setname_np(pthread_self(), "rtb-wire");
	while (!atomic_load(&w->stop) || !(w->stop_now || all_idle(w))) {
		if (lws_service(w->context, 0) < 0) {
			log_error("wire: the service loop failed; no connection is possible");
			break;
		}
	}
	wire_ring(w->over);
	return NULL;
}

static int run(struct wire_lws *w)
{
	int r = thread_start(&w->thread, NULL, thread_main, w);

	w->running = r == 0;
	return r;
}

int wire_lws_new(const struct wire_conf *conf, struct wire_shared *shared, struct wire_lws **ret)
{
	struct wire_lws *w = calloc(1, sizeof(*w));
	int r = -EIO;

	if (!w)
		return -ENOMEM;
	w->over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->over < 0) {
		r = -errno;
		free(w);
		return r;
	}
	w->shared = shared;
	w->connect_ms = conf->connect_ms;
	w->tcp_ms = conf->tcp_ms;
	w->tls_hook = (struct wire_tls_hook){ on_tls_handshake, on_tls_alert, w };
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		wire_conn_init(&w->conns[i], w, i, conf->max_message_bytes);
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		wire_exchange_init(&w->exchanges[i], w, i);
	lws_set_allocator(wire_alloc_realloc);
	/* Nothing below warning: info and debug lines quote requests. */
	lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
	signal(SIGPIPE, SIG_IGN);
	w->read_buf = wire_alloc_realloc(NULL, WIRE_READ_SIZE, "read buffer");
	atomic_store(&starting, true);
	if (w->read_buf)
		w->context = context_new_without_proxy(w, conf);
	atomic_store(&starting, false);
	if (w->context)
		r = run(w);
	if (r < 0) {
		log_error("wire: cannot start libwebsockets");
		wire_lws_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

void wire_lws_wake(struct wire_lws *w)
{
	lws_cancel_service(w->context);
}

/* Not by pthread_timedjoin_np(), whose end is a moment of the wall clock, which may be set. */
static bool thread_join(struct wire_lws *w)
{
	struct pollfd over = { .fd = w->over, .events = POLLIN };
	uint64_t now, until = wire_now_ms() + JOIN_MS;
	int n = 0;

	atomic_store(&w->stop, true);
	wire_lws_wake(w);
	while (n <= 0 && (now = wire_now_ms()) < until)
		n = poll(&over, 1, (int)(until - now));
	return n > 0 && pthread_join(w->thread, NULL) == 0;
}

bool wire_lws_free(struct wire_lws *w)
{
	if (!w)
		return true;
	if (w->running && !thread_join(w)) {
		log_warning("wire: the network thread does not end; left behind");
		return false;
	}
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		wire_exchange_stop(&w->exchanges[i]);
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		wire_dial_stop(&w->conns[i].dial);
	if (w->context)
		lws_context_destroy(w->context);
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		wire_link_done(&w->conns[i].l);
	wire_alloc_realloc(w->read_buf, 0, "read buffer");
	close(w->over);
	free(w);
	return true;
}
