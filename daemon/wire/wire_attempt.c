/* SPDX-License-Identifier: MIT */
#include "wire/wire_attempt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/rtbp_buf.h"
#include "wire/wire_proxy.h"

bool wire_text_is_clean(const char *text, bool blank_allowed)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f || (c == ' ' && !blank_allowed))
			return false;
	}
	return true;
}

bool wire_host_is_good(const char *host)
{
	return host[0] && strlen(host) <= WIRE_HOST_MAX && wire_text_is_clean(host, false) &&
	       !strpbrk(host, "[]/@");
}

static int target_check(const struct wire_target *t, size_t headers_max)
{
	size_t headers = 0;

	if (!t->host || !wire_host_is_good(t->host))
		return -EINVAL;
	if (!t->path || t->path[0] != '/' || strlen(t->path) > WIRE_PATH_MAX ||
	    !wire_text_is_clean(t->path, false))
		return -EINVAL;
	for (const char *const *h = t->headers; h && *h; h++) {
		headers += strlen(*h) + 2;
		if (!strchr(*h, ':') || !wire_text_is_clean(*h, true) || headers > headers_max)
			return -EINVAL;
	}
	return t->port == 0 ? -EINVAL : 0;
}

static struct secret *headers_join(const char *const *headers)
{
	struct rtbp_buf buf = RTBP_BUF_INIT;
	struct secret *s = NULL;

	/* All the room at once: growing would leave copies behind. */
	if (rtbp_buf_room(&buf, WIRE_HEADERS_MAX)) {
		for (; headers && *headers; headers++) {
			rtbp_buf_text(&buf, *headers);
			rtbp_buf_text(&buf, "\r\n");
		}
		if (rtbp_buf_ok(&buf))
			s = secret_new(buf.data, buf.size);
	}
	secret_wipe_buf(&buf);
	return s;
}

int wire_attempt_to(const struct wire_target *target, size_t headers_max, struct wire_attempt **ret)
{
	bool usual = target->port == (target->tls ? 443 : 80);
	const char *host = target->host;
	struct wire_attempt *a;
	char port[8] = "";
	int r;

	r = target_check(target, headers_max);
	if (r < 0)
		return r;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->tls = target->tls;
	a->port = target->port;
	strcpy(a->host, host);
	if (!usual)
		snprintf(port, sizeof(port), ":%u", (unsigned)target->port);
	snprintf(a->authority, sizeof(a->authority), strchr(host, ':') ? "[%s]%s" : "%s%s", host,
		 port);
	*ret = a;
	return 0;
}

int wire_attempt_new(const struct wire_target *target, struct wire_attempt **ret)
{
	CLEANUP(wire_attempt_freep) struct wire_attempt *a = NULL;
	int r;

	r = wire_attempt_to(target, WIRE_HEADERS_MAX, &a);
	if (r < 0)
		return r;
	a->path = secret_new(target->path, strlen(target->path));
	a->headers = headers_join(target->headers);
	if (!a->path || !a->headers)
		return -ENOMEM;
	*ret = TAKE(a);
	return 0;
}

struct wire_attempt *wire_attempt_free(struct wire_attempt *a)
{
	if (a) {
		secret_free(a->path);
		secret_free(a->headers);
		free(a);
	}
	return NULL;
}

static bool addr_is_local(const char *text)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	if (inet_pton(AF_INET6, text, &v6) != 1)
		return false;
	return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

bool wire_attempt_is_local(const struct wire_attempt *a)
{
	for (int i = 0; i < a->addrs.n_addrs; i++) {
		if (!addr_is_local(a->addrs.addrs[i]))
			return false;
	}
	return a->addrs.n_addrs > 0;
}

bool wire_host_is_local(const char *host)
{
	return addr_is_local(host) || resolver_is_localhost(host);
}

void wire_attempt_where(const struct wire_attempt *a, int addr, char *text, size_t size)
{
	if (a->proxy)
		snprintf(text, size, "%s port %u (proxy %s:%u)", a->host, (unsigned)a->port,
			 a->proxy->host, (unsigned)a->proxy->port);
	else if (strcmp(a->host, a->addrs.addrs[addr]) == 0)
		snprintf(text, size, "%s port %u", a->host, (unsigned)a->port);
	else
		snprintf(text, size, "%s port %u (%s)", a->host, (unsigned)a->port,
			 a->addrs.addrs[addr]);
}

uint64_t wire_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t wire_attempt_left_ms(const struct wire_attempt *a)
{
	uint64_t now = wire_now_ms();

	return a->deadline_ms > now ? a->deadline_ms - now : 0;
}
