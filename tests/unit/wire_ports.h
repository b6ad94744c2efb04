/* SPDX-License-Identifier: MIT */
#pragma once
/* Ports of other loopback addresses: that listen, that swallow, and who came there. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "wire_util.h"

static inline struct sockaddr_in sin_of(const char *addr, uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };

	ck_assert_int_eq(inet_pton(AF_INET, addr, &sin.sin_addr), 1);
	return sin;
}

/* A port that swallows: its queue of connections is full. */
struct hole {
	int fd, fill[4];
};

static inline int listen_at(const char *addr, uint16_t port, int backlog)
{
	struct sockaddr_in sin = sin_of(addr, port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

static inline uint16_t port_at(int listener)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
	return ntohs(sin.sin_port);
}

static inline void hole_dig(struct hole *h, const char *addr, uint16_t port)
{
	struct sockaddr_in sin = sin_of(addr, port);

	h->fd = listen_at(addr, port, 0);
	for (int i = 0; i < 4; i++) {
		h->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)!connect(h->fill[i], (struct sockaddr *)&sin, sizeof(sin));
	}
}

static inline void hole_fill(struct hole *h)
{
	for (int i = 0; i < 4; i++)
		close(h->fill[i]);
	close(h->fd);
}

static inline void until_connected(struct rig *rig, int listener)
{
	struct pollfd p[] = { { .fd = listener, .events = POLLIN },
			      { .fd = wire_fd(rig->w), .events = POLLIN } };
	int64_t deadline = rig_now_ms() + WIRE_DEADLINE_MS;

	while (!(p[0].revents & POLLIN)) {
		ck_assert_int_gt(poll(p, 2, (int)(deadline - rig_now_ms())), 0);
		wire_dispatch(rig->w);
	}
}
