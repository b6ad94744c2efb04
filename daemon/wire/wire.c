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

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "wire/mbox.h"
#include "wire/wire_attempt.h"
#include "wire/wire_find.h"
#include "wire/wire_lws.h"
#include "wire/wire_main.h"

#define DEFAULT_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

enum {
	DISPATCH_BYTES = 256 * 1024, /* of messages handed on in one call */
	ITEM_BYTES = 64,             /* what even an empty one counts */
};

static void on_found(void *ctx, unsigned slot, const struct wire_found *found);

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
	r = wire_find_new(w->conf.allow_insecure, &w->shared.reach, on_found, w, &w->find);
	if (r == 0)
		r = epoll_watch(w->epfd, w->shared.efd);
	if (r == 0)
		r = epoll_watch(w->epfd, wire_find_fd(w->find));
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
	wire_posts_done(w);
	wire_find_free(w->find);
	secret_free(w->proxy_auth);
	mbox_free(w->shared.up);
	mbox_free(w->shared.down);
	closep(&w->epfd);
	closep(&w->shared.efd);
	wire_reach_done(&w->shared.reach);
	free(w);
}

/* Return: 0; -EINVAL; -ENOMEM. */
static int proxy_set(struct wire *w, const struct wire_conf *conf)
{
	if (!conf->proxy_host)
		return 0;
	if (!wire_host_is_good(conf->proxy_host) || conf->proxy_port == 0 ||
	    (conf->proxy_auth && secret_size(conf->proxy_auth) > WIRE_PROXY_AUTH_MAX)) {
		log_error("wire: the proxy's host, port or password cannot be put into a request");
		return -EINVAL;
	}
	if (conf->proxy_auth) {
		w->proxy_auth =
			secret_new(secret_bytes(conf->proxy_auth), secret_size(conf->proxy_auth));
		if (!w->proxy_auth)
			return -ENOMEM;
	}
	strcpy(w->proxy_host, conf->proxy_host);
	w->proxy = (struct wire_proxy){ w->proxy_host, conf->proxy_port, w->proxy_auth };
	return 0;
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
	wire_reach_init(&w->shared.reach);
	w->shared.up = mbox_new(conf->up_bytes);
	w->shared.down = mbox_new(conf->down_bytes);
	r = w->shared.up && w->shared.down ? fds_new(w) : -ENOMEM;
	if (r == 0)
		r = proxy_set(w, conf);
	if (r == 0 && access(w->conf.ca_file, R_OK) < 0) {
		r = -errno;
		log_error("wire: CA file %s: %s; set ca_file or install ca-certificates",
			  w->conf.ca_file, strerror(errno));
	} else if (r == 0) {
		r = wire_lws_new(&w->conf, &w->shared, &w->lws);
	}
	/* Were borrowed for the call. */
	w->conf.ca_file = w->conf.proxy_host = NULL;
	w->conf.proxy_auth = NULL;
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

int wire_give(struct wire *w, struct mbox_item *item, bool force)
{
	bool wake = false;
	int r = mbox_put(w->shared.down, item, force, &wake);

	if (r == 0 && wake)
		wire_lws_wake(w->lws);
	return r;
}

void wire_tell(struct wire *w, struct mbox_item *item)
{
	bool wake = false;

	mbox_put(w->shared.up, item, true, &wake);
	if (wake)
		wire_ring(w->shared.efd);
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
	wire_tell(w, item);
}

static void rider_free(void *rider)
{
	wire_attempt_free(rider);
}

/* The addresses are in the attempt. */
static void give(struct wire *w, unsigned nr)
{
	struct link *l = &w->links[nr];
	struct mbox_item *item = mbox_item_new(0);

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
	wire_give(w, item, true);
}

static void on_found(void *ctx, unsigned slot, const struct wire_found *found)
{
	struct wire *w = ctx;

	if (slot >= WIRE_MAX_LINKS)
		wire_posts_on_found(w, slot - WIRE_MAX_LINKS, found);
	else if (found->ok)
		give(w, slot);
	else
		fail(w, slot, found->why, "%s", found->text);
}

int wire_open(struct wire *w, unsigned link, uint64_t epoch, const struct wire_target *target)
{
	CLEANUP(wire_attempt_freep) struct wire_attempt *a = NULL;
	struct link *l = &w->links[link];
	int r;

	if (l->state != LINK_FREE)
		return -EBUSY;
	r = wire_attempt_new(target, &a);
	if (r < 0)
		return r;
	a->proxy = wire_proxy_of(w);
	a->attempt_ms = w->conf.attempt_ms;
	a->deadline_ms = wire_now_ms() + w->conf.attempt_ms;
	l->epoch = epoch;
	l->ended = l->was_open = false;
	l->state = LINK_RESOLVING;
	l->attempt = TAKE(a);
	wire_find_start(w->find, link, l->attempt, w->conf.dns_ms);
	return 0;
}

/* What waits in front of a heartbeat must leave within its time, also on a slow line; what is small
 * finds room when others do not. */
static bool has_room(struct wire *w, unsigned link, size_t size)
{
	size_t unsent = atomic_load(&w->shared.unsent[link]), max = w->conf.link_bytes;

	if (size <= WIRE_SMALL_BYTES)
		max += max / 8;
	return !w->conf.link_bytes || unsent == 0 || unsent + size <= max;
}

int wire_send(struct wire *w, unsigned link, uint64_t epoch, bool binary, const void *data,
	      size_t size)
{
	struct link *l = &w->links[link];
	struct mbox_item *item;

	if (l->state != LINK_UP || l->epoch != epoch || l->ended)
		return WIRE_E_CLOSED;
	if (!has_room(w, link, size))
		return WIRE_E_BUSY;
	item = mbox_item_new(size);
	if (!item)
		return -ENOMEM;
	item->kind = WIRE_DOWN_SEND;
	item->link = link;
	item->epoch = epoch;
	item->binary = binary;
	if (size > 0)
		memcpy(item->data, data, size);
	atomic_fetch_add(&w->shared.unsent[link], size);
	if (wire_give(w, item, false) != 0) {
		atomic_fetch_sub(&w->shared.unsent[link], size);
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
		wire_find_stop(w->find, link);
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
	wire_give(w, item, true);
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

	if (item->kind == WIRE_UP_ANSWERED) {
		wire_posts_on_item(w, item);
		return;
	}
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
	case WIRE_UP_ANSWERED:
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
	wire_give(w, item, true);
}

void wire_dispatch(struct wire *w)
{
	struct mbox_item *item;
	size_t budget = DISPATCH_BYTES, charge;
	bool more;
	uint64_t rings;
	ssize_t n = read(w->shared.efd, &rings, sizeof(rings));

	(void)n; /* nothing rang: the resolver did */
	wire_find_dispatch(w->find);
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
