/* SPDX-License-Identifier: MIT */
#include "wire/wire_find.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "wire/resolver.h"
#include "wire/wire_proxy.h"
#include "wire/wire_reach.h"

enum {
	/* Addresses that worked are used when the name service fails, for this long. */
	REMEMBER_MS = 3600 * 1000,
	/* The project's host, perhaps a second one; the oldest makes room. */
	MAX_NAMES = 4,
	/* The rest of a longer list would have no time in an attempt. */
	MAX_ADDRS = 6,
};

struct name {
	char host[WIRE_HOST_MAX + 1]; /* "": unused */
	struct resolver_answer known;
	uint64_t known_ms;
};

struct wire_find {
	bool allow_insecure;
	struct wire_reach *reach;
	wire_find_fn fn;
	void *ctx;
	struct resolver *resolver;
	struct wire_attempt *slots[RESOLVER_SLOTS];
	struct name names[MAX_NAMES];
};

/* Return: what is known of the host; NULL. */
static struct name *name_get(struct wire_find *f, const char *host)
{
	for (unsigned i = 0; i < MAX_NAMES; i++) {
		if (strcmp(f->names[i].host, host) == 0)
			return &f->names[i];
	}
	return NULL;
}

static void name_put(struct wire_find *f, const char *host, const struct resolver_answer *answer)
{
	struct name *n = name_get(f, host);

	if (!n) {
		n = &f->names[0];
		for (unsigned i = 1; i < MAX_NAMES; i++) {
			if (f->names[i].known_ms < n->known_ms)
				n = &f->names[i];
		}
	}
	strcpy(n->host, host);
	n->known = *answer;
	n->known_ms = wire_now_ms();
}

static void fail(struct wire_find *f, unsigned slot, enum wire_why why, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void fail(struct wire_find *f, unsigned slot, enum wire_why why, const char *format, ...)
{
	struct wire_found found = { .why = why };
	va_list args;

	va_start(args, format);
	vsnprintf(found.text, sizeof(found.text), format, args);
	va_end(args);
	f->slots[slot] = NULL;
	f->fn(f->ctx, slot, &found);
}

/* What is looked up. */
static const char *name_of(const struct wire_attempt *a)
{
	return a->proxy ? a->proxy->host : a->host;
}

/* A proxy reads what passes through it, wherever it leads; on this machine it may. */
static bool may_go(const struct wire_find *f, const struct wire_attempt *a)
{
	if (a->tls || f->allow_insecure)
		return true;
	return wire_attempt_is_local(a) && (!a->proxy || wire_host_is_local(a->host));
}

/* The addresses are in the attempt. */
static void found(struct wire_find *f, unsigned slot)
{
	struct wire_attempt *a = f->slots[slot];

	if (!may_go(f, a)) {
		fail(f, slot, WIRE_INSECURE,
		     "%s: refused to send the API key unencrypted %s%s%s; use wss:// or https://",
		     a->host, a->proxy ? "through the proxy " : "to ",
		     a->proxy ? a->proxy->host : a->addrs.addrs[0],
		     a->proxy ? "" : ", which is not this machine");
		return;
	}
	wire_reach_sort(f->reach, &a->addrs, wire_now_ms());
	if (a->addrs.n_addrs > MAX_ADDRS)
		a->addrs.n_addrs = MAX_ADDRS;
	f->slots[slot] = NULL;
	f->fn(f->ctx, slot, &(struct wire_found){ .ok = true });
}

/* The cookie is not needed: a slot that looks for something else has cancelled its old lookup. */
static void on_addresses(void *ctx, unsigned slot, uint64_t cookie,
			 const struct resolver_answer *answer)
{
	struct wire_find *f = ctx;
	struct wire_attempt *a = f->slots[slot];
	const char *host;
	const struct name *n;

	(void)cookie;
	if (!a)
		return;
	host = name_of(a);
	if (answer->n_addrs > 0) {
		name_put(f, host, answer);
		a->addrs = *answer;
		found(f, slot);
		return;
	}
	n = name_get(f, host);
	if (!n || wire_now_ms() - n->known_ms > REMEMBER_MS) {
		fail(f, slot, WIRE_DNS, "%s%s: %s", host, a->proxy ? " (the proxy)" : "",
		     answer->text);
		return;
	}
	log_notice("wire: %s: %s; using the addresses known before", host, answer->text);
	a->addrs = n->known;
	found(f, slot);
}

int wire_find_new(bool allow_insecure, struct wire_reach *reach, wire_find_fn fn, void *ctx,
		  struct wire_find **ret)
{
	struct wire_find *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->allow_insecure = allow_insecure;
	f->reach = reach;
	f->fn = fn;
	f->ctx = ctx;
	r = resolver_new(on_addresses, f, &f->resolver);
	if (r < 0) {
		free(f);
		return r;
	}
	*ret = f;
	return 0;
}

struct wire_find *wire_find_free(struct wire_find *f)
{
	if (f) {
		resolver_free(f->resolver);
		free(f);
	}
	return NULL;
}

int wire_find_fd(const struct wire_find *f)
{
	return resolver_fd(f->resolver);
}

void wire_find_dispatch(struct wire_find *f)
{
	resolver_dispatch(f->resolver);
}

static bool host_is_address(const char *host)
{
	unsigned char raw[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

void wire_find_start(struct wire_find *f, unsigned slot, struct wire_attempt *a, uint32_t dns_ms)
{
	struct resolver_answer none = { 0 };
	const char *host = name_of(a);
	int r;

	f->slots[slot] = a;
	if (host_is_address(host)) {
		a->addrs.n_addrs = 1;
		snprintf(a->addrs.addrs[0], sizeof(a->addrs.addrs[0]), "%.45s", host);
		found(f, slot);
		return;
	}
	if (dns_ms > a->attempt_ms)
		dns_ms = a->attempt_ms;
	r = resolver_lookup(f->resolver, slot, 0, host, dns_ms);
	if (r == 0)
		return;
	/* What is known serves here, too. */
	snprintf(none.text, sizeof(none.text), "cannot look the name up: %s",
		 r == -EAGAIN ? "too many lookups hang in the system's resolver" : strerror(-r));
	on_addresses(f, slot, 0, &none);
}

void wire_find_stop(struct wire_find *f, unsigned slot)
{
	f->slots[slot] = NULL;
	resolver_cancel(f->resolver, slot);
}
