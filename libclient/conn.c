/* SPDX-License-Identifier: MIT */
/*
 * The socket: connecting to a daemon that can be trusted, reading, writing.
 *
 * Only the reading side ends an attachment. A failed write says merely that the daemon is gone; its
 * last words (an `error` notification with the reason) may still wait to be read.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libclient/client.h"

enum {
	READ_WANT = 64 * 1024,
	READ_MOST = 1024 * 1024,  /* per call, so that a flood does not starve the caller's loop */
	OUT_KEEP = 64 * 1024,     /* kept allocated when the queue is empty */
	OUT_COMPACT = 256 * 1024, /* written bytes at the front worth a memmove */
};

/*
 * Is the owner of the socket's directory as good as the user's own choice? Yes if nobody else could
 * have made that directory: its parent belongs to root, to us or to the same user, and others
 * cannot write there. So /run/rtbridge (made by root for the service's user) counts, and what
 * somebody put into /tmp does not.
 */
static bool owns_directory(const char *path, uid_t uid)
{
	char dir[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 4];
	const char *slash = strrchr(path, '/');
	struct stat st, up;

	(void)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 2,
		       slash ? path : "./");
	if (stat(dir, &st) != 0 || st.st_uid != uid)
		return false;
	(void)strcat(dir, "..");
	if (stat(dir, &up) != 0 || (up.st_mode & (S_IWGRP | S_IWOTH)))
		return false;
	return up.st_uid == 0 || up.st_uid == geteuid() || up.st_uid == uid;
}

static int check_daemon(struct rtb_client *c, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return rtbc_fail(c, -errno, "cannot tell who listens on %s: %s", c->path,
				 rtb_strerror(-errno));
	if (cred.uid == 0 || cred.uid == geteuid() || owns_directory(c->path, cred.uid))
		return 0;
	return rtbc_fail(c, RTB_E_NOT_DAEMON,
			 "%s belongs to uid %u, which is neither root nor this user nor the owner "
			 "of a directory of its own there",
			 c->path, (unsigned)cred.uid);
}

int rtbc_connect(struct rtb_client *c)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT };
	int fd, r;

	(void)strcpy(addr.sun_path, c->path); /* its length was checked by rtb_client_new() */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return rtbc_fail(c, -errno, "cannot make a socket: %s", rtb_strerror(-errno));
	r = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	if (r < 0)
		(void)rtbc_fail(c, r, "cannot connect to %s: %s", c->path,
				r == -EAGAIN ? "the daemon has too many new clients at once"
					     : rtb_strerror(r));
	else
		r = check_daemon(c, fd);
	if (r == 0 && epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		r = rtbc_fail(c, -errno, "cannot watch the socket: %s", rtb_strerror(-errno));
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	c->fd = fd;
	c->wants_write = true;
	c->is_write_dead = false;
	return 0;
}

void rtbc_disconnect(struct rtb_client *c)
{
	if (c->fd >= 0) {
		/* Explicitly, because a forked child may hold another copy of the descriptor. */
		(void)epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
		(void)close(c->fd);
	}
	c->fd = -1;
	c->held = NULL;
	rtbp_reader_done(&c->reader);
	rtbc_out_wipe(c);
	rtbp_buf_reset(&c->out, 0);
	c->out_sent = 0;
}

/* ---- reading ---- */

/* Return: 0 all frames done, -ENOMEM, 1 detached. */
static int dispatch_all(struct rtb_client *c)
{
	const uint8_t *body;
	size_t size;
	int r;

	for (;;) {
		if (c->held) {
			body = c->held;
			size = c->held_size;
			c->held = NULL;
		} else {
			r = rtbp_reader_next(&c->reader, &body, &size);
			if (r == RTBP_FRAME_NONE)
				return 0;
			if (r < 0) {
				(void)rtbc_fail(c, 0, "the daemon sent a frame of %zu bytes", size);
				rtbc_detach(c, RTB_E_PROTOCOL, false);
				return 1;
			}
		}
		r = rtbc_dispatch(c, body, size);
		if (r == -ENOMEM) {
			c->held = body;
			c->held_size = size;
		}
		if (r != 0)
			return r;
	}
}

static void on_end(struct rtb_client *c, int error)
{
	(void)rtbc_fail(c, 0, "the daemon closed the connection%s%s", error ? ": " : "",
			error ? rtb_strerror(error) : "");
	rtbc_detach(c, RTB_E_DETACHED, false);
}

int rtbc_read(struct rtb_client *c)
{
	size_t room, total = 0;
	uint8_t *at;
	ssize_t n;
	int r;

	if (c->held) {
		r = dispatch_all(c);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	while (total < READ_MOST) {
		at = rtbp_reader_room(&c->reader, READ_WANT, &room);
		if (!at)
			return -ENOMEM;
		n = recv(c->fd, at, room, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->heard_at = rtbc_wall_ms();
			return 0;
		}
		if (n <= 0) {
			on_end(c, n < 0 ? -errno : 0);
			return 0;
		}
		rtbp_reader_add(&c->reader, (size_t)n);
		total += (size_t)n;
		r = dispatch_all(c);
		if (r != 0)
			return r < 0 ? r : 0;
		if ((size_t)n < room) { /* a short read: there was no more */
			c->heard_at = rtbc_wall_ms();
			return 0;
		}
	}
	return 0;
}

/* ---- writing ---- */

void rtbc_out_wipe(struct rtb_client *c)
{
	if (c->out_has_token && c->out.data)
		explicit_bzero(c->out.data, c->out.size);
	c->out_has_token = false;
}

size_t rtbc_queued(const struct rtb_client *c)
{
	return c->out.size - c->out_sent;
}

static void watch_write(struct rtb_client *c, bool wants)
{
	struct epoll_event ev = { .events = EPOLLIN | (wants ? (unsigned)EPOLLOUT : 0) };

	if (c->wants_write == wants)
		return;
	/* Can only fail for lack of kernel memory; the next call tries again. */
	if (epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) == 0)
		c->wants_write = wants;
}

void rtbc_want_write(struct rtb_client *c)
{
	/* process() writes at its end anyway. */
	if (!c->in_process && c->fd >= 0 && !c->is_write_dead)
		watch_write(c, true);
}

void rtbc_write(struct rtb_client *c)
{
	ssize_t n;

	while (rtbc_queued(c) > 0 && !c->is_write_dead) {
		n = send(c->fd, c->out.data + c->out_sent, rtbc_queued(c), MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			c->is_write_dead = true;
		else
			c->out_sent += (size_t)n;
	}
	if (rtbc_queued(c) == 0 || c->is_write_dead) {
		rtbc_out_wipe(c);
		rtbp_buf_reset(&c->out, OUT_KEEP);
		c->out_sent = 0;
	} else if (c->out_sent >= OUT_COMPACT && !c->out_has_token) {
		memmove(c->out.data, c->out.data + c->out_sent, rtbc_queued(c));
		c->out.size -= c->out_sent;
		c->out_sent = 0;
	}
	watch_write(c, rtbc_queued(c) > 0);
}
