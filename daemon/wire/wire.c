/* SPDX-License-Identifier: MIT */
/*
 * The M side: one state per link, the mailboxes, the resolver.
 *
 *  FREE --wire_open--> RESOLVING --addresses--> GIVEN (to W) --OPENED--> OPEN
 *   ^                      | failed, refused        |                     |
 *   +------ CLOSED --------+------------------------+---------------------+
 *
 * `ended` marks an epoch that wire_close() was called for: of that one only closed() is told.
 */
#include "wire/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "wire/mbox.h"
#include "wire/resolver.h"
#include "wire/wire_attempt.h"
#include "wire/wire_lws.h"

#define DEFAULT_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

enum {
	DISPATCH_BYTES = 256 * 1024, /* of messages handed on in one call */
	ITEM_BYTES = 64,             /* what even an empty one counts */
	/* Addresses that worked are used when the name service fails, for this long. */
	REMEMBER_MS = 3600 * 1000,
};

enum link_state { LINK_FREE, LINK_RESOLVING, LINK_GIVEN, LINK_UP };

struct link {
	enum link_state state;
	uint64_t epoch;
	bool ended, was_open;
	struct wire_attempt *attempt; /* while RESOLVING */
	char host[WIRE_HOST_MAX + 1]; /* of the addresses below */
	struct resolver_answer known;
	uint64_t known_ms;
};

struct wire {
	struct wire_conf conf;
	const struct wire_ops *ops;
	void *ctx;
	int epfd; /* what M polls: the eventfd and the resolver */
	struct wire_shared shared;
	struct resolver *resolver;
	struct wire_lws *lws;
	struct mbox_item *inbox; /* taken from `shared.up`, not yet handed on */
	struct link links[WIRE_MAX_LINKS];
};

_Static_assert((int)RESOLVER_SLOTS >= (int)WIRE_MAX_LINKS, "a resolver slot per link");

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void on_addresses(void *ctx, unsigned slot, uint64_t cookie,
			 const struct resolver_answer *answer);

static int epoll_watch(int epfd, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int fds_new(struct wire *w)
{
	int r;

	w->epfd = epoll_create1(EPOLL_CLOEXEC);
	w->shared.efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->epfd < 0 || w->shared.efd < 0)
		return -errno;
	r = resolver_new(on_addresses, w, &w->resolver);
	if (r == 0)
		r = epoll_watch(w->epfd, w->shared.efd);
	if (r == 0)
		r = epoll_watch(w->epfd, resolver_fd(w->resolver));
	return r;
}

/* All but the W side. */
static void wire_done(struct wire *w)
{
	struct mbox_item *item;

	while ((item = w->inbox)) {
		w->inbox = item->next;
		(void)mbox_done(w->shared.up, item);
	}
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		w->links[i].attempt = wire_attempt_free(w->links[i].attempt);
	resolver_free(w->resolver);
	mbox_free(w->shared.up);
	mbox_free(w->shared.down);
	closep(&w->epfd);
	closep(&w->shared.efd);
	free(w);
}

int wire_new(const struct wire_conf *conf, const struct wire_ops *ops, void *ctx, struct wire **ret)
{
	struct wire *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->conf = *conf;
	w->ops = ops;
	w->ctx = ctx;
	w->epfd = w->shared.efd = -1;
	if (!w->conf.ca_file)
		w->conf.ca_file = DEFAULT_CA_FILE;
	w->shared.up = mbox_new(conf->up_bytes);
	w->shared.down = mbox_new(conf->down_bytes);
	r = w->shared.up && w->shared.down ? fds_new(w) : -ENOMEM;
	if (r == 0 && access(w->conf.ca_file, R_OK) < 0) {
		r = -errno;
		log_error("wire: CA file %s: %s; set ca_file or install ca-certificates",
			  w->conf.ca_file, strerror(errno));
	} else if (r == 0) {
		r = wire_lws_new(&w->conf, &w->shared, &w->lws);
	}
	w->conf.ca_file = NULL; /* was borrowed for the call */
	if (r < 0) {
		wire_done(w);
		return r;
	}
	*ret = w;
	return 0;
}

struct wire *wire_free(struct wire *w)
{
	if (w && wire_lws_free(w->lws))
		wire_done(w);
	return NULL;
}

int wire_fd(const struct wire *w)
{
	return w->epfd;
}

/* ---- to W ---- */

static int post(struct wire *w, struct mbox_item *item, bool force)
{
	bool wake = false;
	int r = mbox_put(w->shared.down, item, force, &wake);

	if (r == 0 && wake)
		wire_lws_wake(w->lws);
	return r;
}

/* An attempt that ended before W knew of it. The news goes through the mailbox, too: closed() comes
 * from wire_dispatch() only. */
static void fail(struct wire *w, unsigned nr, enum wire_why why, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void fail(struct wire *w, unsigned nr, enum wire_why why, const char *format, ...)
{
	struct link *l = &w->links[nr];
	struct wire_end end = { .why = why };
	struct mbox_item *item = mbox_item_new(sizeof(end));
	bool wake = false;
	va_list args;

	if (!item) {
		log_error("wire: no memory to report a connection's state; giving up");
		abort();
	}
	/* The words may be about the attempt: it goes after them. */
	va_start(args, format);
	vsnprintf(end.text, sizeof(end.text), format, args);
	va_end(args);
	l->attempt = wire_attempt_free(l->attempt);
	l->state = LINK_GIVEN;
	item->kind = WIRE_UP_CLOSED;
	item->link = nr;
	item->epoch = l->epoch;
	memcpy(item->data, &end, sizeof(end));
	mbox_put(w->shared.up, item, true, &wake);
	if (wake)
		wire_ring(w->shared.efd);
}

static void rider_free(void *rider)
{
	wire_attempt_free(rider);
}

/* The addresses are in the attempt. */
static void give(struct wire *w, unsigned nr)
{
	struct link *l = &w->links[nr];
	struct mbox_item *item;

	if (!l->attempt->tls && !w->conf.allow_insecure && !wire_attempt_is_local(l->attempt)) {
		fail(w, nr, WIRE_INSECURE,
		     "%s: refused to send the API key unencrypted to %s, which is not this "
		     "machine; use wss://",
		     l->attempt->host, l->attempt->addrs.addrs[0]);
		return;
	}
	item = mbox_item_new(0);
	if (!item) {
		fail(w, nr, WIRE_CONNECT, "no memory");
		return;
	}
	item->kind = WIRE_DOWN_OPEN;
	item->link = nr;
	item->epoch = l->epoch;
	item->rider = TAKE(l->attempt);
	item->rider_free = rider_free;
	l->state = LINK_GIVEN;
	post(w, item, true);
}

static void on_addresses(void *ctx, unsigned slot, uint64_t cookie,
			 const struct resolver_answer *answer)
{
	struct wire *w = ctx;
	struct link *l = &w->links[slot];

	if (l->state != LINK_RESOLVING || l->epoch != cookie)
		return;
	if (answer->n_addrs > 0) {
		l->known = *answer;
		l->known_ms = now_ms();
		strcpy(l->host, l->attempt->host);
	} else if (strcmp(l->host, l->attempt->host) != 0 || now_ms() - l->known_ms > REMEMBER_MS) {
		fail(w, slot, WIRE_DNS, "%s: %s", l->attempt->host, answer->text);
		return;
	} else {
		log_notice("wire: %s: %s; using the addresses known before", l->host, answer->text);
	}
	l->attempt->addrs = l->known;
	give(w, slot);
}

static bool host_is_address(const char *host)
{
	unsigned char raw[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

int wire_open(struct wire *w, unsigned link, uint64_t epoch, const struct wire_target *target)
{
	CLEANUP(wire_attempt_freep) struct wire_attempt *a = NULL;
	uint32_t dns_ms = w->conf.dns_ms;
	struct link *l = &w->links[link];
	int r;

	if (l->state != LINK_FREE)
		return -EBUSY;
	r = wire_attempt_new(target, &a);
	if (r < 0)
		return r;
	a->attempt_ms = w->conf.attempt_ms;
	a->deadline_ms = now_ms() + w->conf.attempt_ms;
	l->epoch = epoch;
	l->ended = l->was_open = false;
	l->state = LINK_RESOLVING;
	l->attempt = TAKE(a);
	if (host_is_address(target->host)) {
		l->attempt->addrs.n_addrs = 1;
		snprintf(l->attempt->addrs.addrs[0], sizeof(l->attempt->addrs.addrs[0]), "%s",
			 target->host);
		give(w, link);
		return 0;
	}
	if (dns_ms > w->conf.attempt_ms)
		dns_ms = w->conf.attempt_ms;
	r = resolver_lookup(w->resolver, link, epoch, target->host, dns_ms);
	if (r < 0)
		fail(w, link, WIRE_DNS, "%s: cannot look the name up: %s", target->host,
		     r == -EAGAIN ? "too many lookups hang in the system's resolver"
				  : strerror(-r));
	return 0;
}

int wire_send(struct wire *w, unsigned link, uint64_t epoch, bool binary, const void *data,
	      size_t size)
{
	struct link *l = &w->links[link];
	struct mbox_item *item;

	if (l->state != LINK_UP || l->epoch != epoch || l->ended)
		return WIRE_E_CLOSED;
	item = mbox_item_new(size);
	if (!item)
		return -ENOMEM;
	item->kind = WIRE_DOWN_SEND;
	item->link = link;
	item->epoch = epoch;
	item->binary = binary;
	if (size > 0)
		memcpy(item->data, data, size);
	if (post(w, item, false) != 0) {
		mbox_item_free(item);
		return WIRE_E_BUSY;
	}
	return 0;
}

void wire_close(struct wire *w, unsigned link, uint64_t epoch, uint16_t code)
{
	struct link *l = &w->links[link];
	struct mbox_item *item;

	if (l->state == LINK_FREE || l->epoch != epoch || l->ended)
		return;
	l->ended = true;
	if (l->state == LINK_RESOLVING) {
		resolver_cancel(w->resolver, link);
		fail(w, link, WIRE_BY_US, "%s: closed by us", l->attempt->host);
		return;
	}
	item = mbox_item_new(0);
	if (!item) {
		log_error("wire: no memory to close a connection; giving up");
		abort();
	}
	item->kind = WIRE_DOWN_CLOSE;
	item->link = link;
	item->epoch = epoch;
	item->code = code;
	post(w, item, true);
}

/* ---- from W ---- */

static void on_closed(struct wire *w, struct link *l, const struct mbox_item *item)
{
	struct wire_end end;

	memcpy(&end, item->data, sizeof(end));
	end.was_open = l->was_open;
	if (l->ended)
		end.why = WIRE_BY_US;
	if (end.why != WIRE_BY_PEER)
		end.close_code = 0;
	if (end.why != WIRE_HTTP)
		end.http_status = 0, end.retry_after_s = 0;
	/* Before the call: closed() may open it again. */
	l->state = LINK_FREE;
	w->ops->closed(w->ctx, item->link, item->epoch, &end);
}

static void on_item(struct wire *w, const struct mbox_item *item)
{
	struct link *l = &w->links[item->link];

	if (l->state == LINK_FREE || l->epoch != item->epoch)
		return;
	switch ((enum wire_up)item->kind) {
	case WIRE_UP_OPENED:
		l->state = LINK_UP;
		if (l->ended)
			break;
		l->was_open = true;
		w->ops->opened(w->ctx, item->link, item->epoch);
		break;
	case WIRE_UP_MESSAGE:
		if (!l->ended)
			w->ops->message(w->ctx, item->link, item->epoch, item->binary, item->data,
					item->size);
		break;
	case WIRE_UP_CLOSED:
		on_closed(w, l, item);
		break;
	}
}

static void resume(struct wire *w)
{
	struct mbox_item *item = mbox_item_new(0);

	if (!item) {
		log_error("wire: no memory to go on reading; giving up");
		abort();
	}
	item->kind = WIRE_DOWN_RESUME;
	post(w, item, true);
}

void wire_dispatch(struct wire *w)
{
	struct mbox_item *item;
	size_t budget = DISPATCH_BYTES, charge;
	bool more;
	uint64_t rings;
	ssize_t n = read(w->shared.efd, &rings, sizeof(rings));

	(void)n; /* nothing rang: the resolver did */
	resolver_dispatch(w->resolver);
	more = w->inbox != NULL;
	if (!more)
		w->inbox = mbox_take(w->shared.up);
	while ((item = w->inbox) && budget > 0) {
		charge = item->size + ITEM_BYTES;
		budget -= charge < budget ? charge : budget;
		w->inbox = item->next;
		on_item(w, item);
		if (mbox_done(w->shared.up, item))
			resume(w);
	}
	/* M has others to hear, too: what is left here, or has come into the mailbox meanwhile, has
	 * its turn after them. */
	if (w->inbox || more)
		wire_ring(w->shared.efd);
}

void wire_get_stats(const struct wire *w, struct wire_stats *ret)
{
	const struct wire_shared *s = &w->shared;

	ret->bytes_in = atomic_load_explicit(&s->bytes_in, memory_order_relaxed);
	ret->bytes_out = atomic_load_explicit(&s->bytes_out, memory_order_relaxed);
	ret->messages_in = atomic_load_explicit(&s->messages_in, memory_order_relaxed);
	ret->messages_out = atomic_load_explicit(&s->messages_out, memory_order_relaxed);
	ret->pauses = atomic_load_explicit(&s->pauses, memory_order_relaxed);
	ret->up_queued = mbox_bytes(s->up);
	ret->down_queued = mbox_bytes(s->down);
}
