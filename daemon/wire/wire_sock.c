/* SPDX-License-Identifier: MIT */
#include "wire/wire_sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

static socklen_t sockaddr_of(const char *addr, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, addr, &v4.sin_addr) == 1) {
		memcpy(ret, &v4, sizeof(v4));
		return sizeof(v4);
	}
	if (inet_pton(AF_INET6, addr, &v6.sin6_addr) == 1) {
		memcpy(ret, &v6, sizeof(v6));
		return sizeof(v6);
	}
	return 0;
}

/* Idle, it is asked after four sevenths of the time, then three times: an end that has vanished is
 * noticed in time also by who has nothing to send. Whole seconds are all that keepalive knows. */
static void limit_silence(int fd, uint32_t tcp_ms)
{
	int on = 1, probes = 3, user = (int)tcp_ms;
	int seconds = (int)(tcp_ms / 1000), every = seconds / 7 > 0 ? seconds / 7 : 1;
	int idle = seconds > 4 * every ? seconds - 3 * every : 1;

	if (tcp_ms == 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user, sizeof(user));
}

int wire_sock_connect(struct wire_sock *s, const char *addr, uint16_t port, uint32_t tcp_ms)
{
	struct sockaddr_storage to;
	socklen_t len = sockaddr_of(addr, port, &to);
	int on = 1, unsent = WIRE_SOCK_UNSENT, e;

	*s = (struct wire_sock){ .fd = -1 };
	if (len == 0)
		return -EINVAL;
	s->fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return -errno;
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* The kernel would take megabytes, and a heartbeat stands behind all of them. */
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	limit_silence(s->fd, tcp_ms);
	if (connect(s->fd, (struct sockaddr *)&to, len) == 0 || errno == EINPROGRESS)
		return 0;
	e = errno;
	wire_sock_done(s, NULL);
	return -e;
}

int wire_sock_connected(struct wire_sock *s)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(int);
	int e = 0;

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0)
		return -errno;
	if (e != 0)
		return -e;
	/* A wake-up that was meant for somebody else proves nothing. */
	len = sizeof(peer);
	if (getpeername(s->fd, (struct sockaddr *)&peer, &len) == 0)
		return 0;
	s->wants_write = true;
	return errno == ENOTCONN ? -EAGAIN : -errno;
}

int wire_sock_tls_start(struct wire_sock *s, void *ssl_ctx, const char *host)
{
	s->tls = wire_tls_new(ssl_ctx, s->fd, host, &s->tls_text);
	return s->tls ? 0 : -ENOMEM;
}

int wire_sock_tls_step(struct wire_sock *s)
{
	return wire_tls_handshake(s->tls, &s->wants_write);
}

ssize_t wire_sock_read(struct wire_sock *s, void *data, size_t size)
{
	ssize_t n;

	if (s->tls)
		return wire_tls_read(s->tls, data, size, &s->wants_write);
	s->wants_write = false;
	n = recv(s->fd, data, size, 0);
	return n < 0 ? -errno : n;
}

ssize_t wire_sock_peek(struct wire_sock *s, void *data, size_t size)
{
	ssize_t n = recv(s->fd, data, size, MSG_PEEK);

	s->wants_write = false;
	return n < 0 ? -errno : n;
}

ssize_t wire_sock_write(struct wire_sock *s, const void *data, size_t size)
{
	ssize_t n;

	if (s->tls)
		return wire_tls_write(s->tls, data, size, &s->wants_write);
	s->wants_write = true;
	n = send(s->fd, data, size, MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

bool wire_sock_fd_ended(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN);
}

void wire_sock_done(struct wire_sock *s, int *ret_fd)
{
	s->tls = wire_tls_free(s->tls);
	if (ret_fd)
		*ret_fd = s->fd;
	else
		closep(&s->fd);
	s->fd = -1;
}
