/* SPDX-License-Identifier: MIT */
#include "app/awake.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"

enum {
	DATAGRAM_MAX = 32 * 1024,
	DATAGRAMS_AT_A_TIME = 64,
	RENEWED_TICKS = 500, /* hundredths of a second: told later than this it is no new one */
};

struct awake {
	const struct awake_ops *ops;
	void *ctx;
	int timer, netlink;
	struct loop_fd timer_fd, netlink_fd;
	struct loop_timer quiet;
	bool is_moving;    /* since first_ms */
	uint64_t first_ms; /* clock_now() */
	struct awake_clocks clocks;
};

/* ---- sleep ---- */

uint64_t awake_look(struct awake_clocks *c, uint64_t now_ms, uint64_t boot_ms)
{
	uint64_t apart = boot_ms > now_ms ? boot_ms - now_ms : 0;
	uint64_t slept = c->known && apart > c->apart_ms ? apart - c->apart_ms : 0;

	if (c->known && slept < AWAKE_SLEPT_MIN_MS)
		return 0;
	c->known = true;
	c->apart_ms = apart;
	return slept;
}

static void on_timer(void *ctx, int fd, unsigned ready)
{
	struct awake *a = ctx;
	uint64_t n, slept;

	(void)ready;
	if (read(fd, &n, sizeof(n)) < 0)
		return;
	slept = awake_look(&a->clocks, clock_now(&clock_system), clock_boot(&clock_system));
	if (slept)
		a->ops->slept(a->ctx, slept);
}

static int timer_new(void)
{
	const struct itimerspec each = {
		.it_interval = { .tv_sec = AWAKE_LOOK_MS / 1000 },
		.it_value = { .tv_sec = AWAKE_LOOK_MS / 1000 },
	};
	int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	int e;

	if (fd >= 0 && timerfd_settime(fd, 0, &each, NULL) == 0)
		return fd;
	e = errno;
	if (fd >= 0)
		close(fd);
	return -e;
}

/* ---- network ---- */

/* An address that can be used, or one that is gone. The kernel tells the same address again
 * whenever its lifetime is renewed, some minutes, hours or days after it was made. */
static bool is_address_news(const struct nlmsghdr *h)
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	struct ifa_cacheinfo age = { 0 };
	uint32_t flags = m->ifa_flags;
	int size = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	const struct rtattr *at = IFA_RTA(m);

	for (; RTA_OK(at, size); at = RTA_NEXT(at, size)) {
		if (at->rta_type == IFA_FLAGS && RTA_PAYLOAD(at) >= sizeof(flags))
			memcpy(&flags, RTA_DATA(at), sizeof(flags));
		else if (at->rta_type == IFA_CACHEINFO && RTA_PAYLOAD(at) >= sizeof(age))
			memcpy(&age, RTA_DATA(at), sizeof(age));
	}
	if (m->ifa_scope >= RT_SCOPE_LINK)
		return false; /* of this machine or this cable only */
	return h->nlmsg_type == RTM_DELADDR ||
	       (!(flags & IFA_F_TENTATIVE) && age.tstamp - age.cstamp < RENEWED_TICKS);
}

/* Of the tables that traffic goes by; not the kernel's own notes of single hosts and addresses. */
static bool is_route_news(const struct nlmsghdr *h)
{
	const struct rtmsg *m = NLMSG_DATA(h);

	return (m->rtm_family == AF_INET || m->rtm_family == AF_INET6) &&
	       m->rtm_table != RT_TABLE_LOCAL && !(m->rtm_flags & RTM_F_CLONED) &&
	       (m->rtm_type == RTN_UNICAST || m->rtm_type == RTN_BLACKHOLE ||
		m->rtm_type == RTN_UNREACHABLE || m->rtm_type == RTN_PROHIBIT) &&
	       m->rtm_scope == RT_SCOPE_UNIVERSE;
}

static bool is_link_news(const struct nlmsghdr *h)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);

	return !(m->ifi_flags & IFF_LOOPBACK) &&
	       (h->nlmsg_type == RTM_DELLINK || (m->ifi_change & (IFF_UP | IFF_RUNNING)));
}

static bool fits(const struct nlmsghdr *h, size_t body)
{
	return h->nlmsg_len >= NLMSG_LENGTH(body);
}

bool awake_is_news(const void *data, size_t size)
{
	const struct nlmsghdr *h = data;
	int left = (int)size;

	for (; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
		switch (h->nlmsg_type) {
		case RTM_NEWADDR:
		case RTM_DELADDR:
			if (fits(h, sizeof(struct ifaddrmsg)) && is_address_news(h))
				return true;
			break;
		case RTM_NEWROUTE:
		case RTM_DELROUTE:
			if (fits(h, sizeof(struct rtmsg)) && is_route_news(h))
				return true;
			break;
		case RTM_NEWLINK:
		case RTM_DELLINK:
			if (fits(h, sizeof(struct ifinfomsg)) && is_link_news(h))
				return true;
			break;
		default:
			break;
		}
	}
	return false;
}

/* Changes come in bursts, and only what they leave behind can be used. */
static void wait_for_rest(struct awake *a)
{
	uint64_t now = clock_now(&clock_system), end;

	if (!a->is_moving)
		a->first_ms = now;
	a->is_moving = true;
	end = a->first_ms + AWAKE_LATE_MS;
	loop_timer_set(&a->quiet, end <= now                   ? 0
				  : end - now < AWAKE_QUIET_MS ? end - now
							       : AWAKE_QUIET_MS);
}

static void on_netlink(void *ctx, int fd, unsigned ready)
{
	static _Alignas(struct nlmsghdr) char data[DATAGRAM_MAX];
	struct awake *a = ctx;
	struct sockaddr_nl from;
	socklen_t from_size;
	bool is_news = false;
	ssize_t n;

	(void)ready;
	for (unsigned i = 0; i < DATAGRAMS_AT_A_TIME; i++) {
		from_size = sizeof(from);
		n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &from_size);
		if (n < 0 && errno == ENOBUFS)
			is_news = true; /* more has changed than the socket could hold */
		else if (n < 0)
			break;
		else if (from_size == sizeof(from) && from.nl_pid == 0) /* the kernel's */
			is_news |= awake_is_news(data, (size_t)n);
	}
	if (is_news)
		wait_for_rest(a);
}

static void on_quiet(void *ctx)
{
	struct awake *a = ctx;

	a->is_moving = false;
	log_info("the machine's network has changed");
	a->ops->network(a->ctx);
}

static int netlink_new(void)
{
	const struct sockaddr_nl at = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	int e;

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	e = errno;
	if (fd >= 0)
		close(fd);
	return -e;
}

/* ---- birth and death ---- */

static int watch(struct loop *loop, struct loop_fd *f, int fd,
		 void (*fn)(void *ctx, int fd, unsigned ready), struct awake *a)
{
	int r = loop_fd_init(loop, f, fd, fn, a);

	return r == 0 ? loop_fd_want(f, LOOP_READ) : r;
}

static int awake_build(struct awake *a, struct loop *loop)
{
	int r = loop_timer_init(loop, &a->quiet, on_quiet, a);

	if (r < 0)
		return r;
	a->timer = timer_new();
	if (a->timer < 0)
		return a->timer;
	(void)awake_look(&a->clocks, clock_now(&clock_system), clock_boot(&clock_system));
	r = watch(loop, &a->timer_fd, a->timer, on_timer, a);
	if (r < 0)
		return r;
	a->netlink = netlink_new();
	if (a->netlink < 0) {
		log_notice(
			"changes of the network cannot be watched (%s); the heartbeats find dead "
			"connections without it, later",
			strerror(-a->netlink));
		return 0;
	}
	return watch(loop, &a->netlink_fd, a->netlink, on_netlink, a);
}

int awake_new(struct loop *loop, const struct awake_ops *ops, void *ctx, struct awake **ret)
{
	struct awake *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->ops = ops;
	a->ctx = ctx;
	a->timer = a->netlink = -1;
	r = awake_build(a, loop);
	if (r < 0) {
		awake_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct awake *awake_free(struct awake *a)
{
	if (!a)
		return NULL;
	loop_fd_done(&a->timer_fd);
	loop_fd_done(&a->netlink_fd);
	loop_timer_done(&a->quiet);
	if (a->timer >= 0)
		close(a->timer);
	if (a->netlink >= 0)
		close(a->netlink);
	free(a);
	return NULL;
}
