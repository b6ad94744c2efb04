/* SPDX-License-Identifier: MIT */
#include "ipc/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "ipc/sockfile.h"

enum {
	LISTENER_LOG_MS = 10000, /* one line about a lasting shortage in that time */
	LISTENER_GROUPS = 64,    /* of a client, without an allocation */
};

struct listener {
	listener_fn fn;
	void *ctx;
	struct sockfile *file;  /* NULL: the socket came from systemd */
	int spare_fd;           /* given up for a moment to refuse a newcomer; -1: not regained */
	struct loop_fd watch;   /* fd -1: stopped */
	struct loop_timer rest; /* running: not accepting */
	struct log_limit shortage;
	gid_t group; /* (gid_t)-1: none */
};

static void listener_spare(struct listener *l)
{
	if (l->spare_fd < 0)
		l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void listener_accept_again(struct listener *l)
{
	int r;

	if (l->watch.fd < 0)
		return;
	listener_spare(l);
	r = loop_fd_want(&l->watch, LOOP_READ);
	if (r < 0) {
		log_error("listener: cannot watch the socket: %s; trying again in %d ms",
			  strerror(-r), LISTENER_REST_MS);
		loop_timer_set(&l->rest, LISTENER_REST_MS);
	}
}

static void listener_on_rested(void *ctx)
{
	listener_accept_again(ctx);
}

/* A pending connection keeps the socket readable, so going on would spin: one newcomer learns that
 * there is no room, the others wait in the kernel's backlog for a better moment. */
static void listener_rest(struct listener *l, int error)
{
	unsigned held;
	int fd;

	if (l->spare_fd >= 0 && (error == EMFILE || error == ENFILE)) {
		close(l->spare_fd);
		l->spare_fd = -1;
		fd = accept4(l->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			close(fd);
		listener_spare(l);
	}
	(void)loop_fd_want(&l->watch, 0);
	loop_timer_set(&l->rest, LISTENER_REST_MS);
	if (!log_limit_pass(&l->shortage, clock_now(&clock_system), LISTENER_LOG_MS, &held))
		return;
	log_error("listener: cannot accept: %s; those attached are not touched, next try in %d ms",
		  strerror(error), LISTENER_REST_MS);
	if (held > 0)
		log_error("listener: the same happened %u times since the last such line", held);
}

/* Calls back with the groups of the client, or refuses it: without them no rule that denies a group
 * something would bind it. */
static void listener_greet_groups(struct listener *l, int fd, struct conn_cred *cred)
{
	CLEANUP(freep) gid_t *many = NULL;
	gid_t few[LISTENER_GROUPS];
	socklen_t size = sizeof(few);
	int r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, few, &size);

	cred->groups = few;
	if (r < 0 && errno == ERANGE) { /* now `size` is as much as is needed */
		many = malloc(size);
		cred->groups = many;
		r = many ? getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, many, &size) : -1;
	}
	if (r < 0) {
		log_warning("listener: the groups of a client are not known: %s; refused",
			    strerror(errno));
		close(fd);
		return;
	}
	cred->n_groups = size / sizeof(gid_t);
	l->fn(l->ctx, fd, cred);
}

static void listener_greet(struct listener *l, int fd)
{
	struct conn_cred cred;
	socklen_t size;
	struct ucred u;

	size = sizeof(u);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &size) < 0) {
		log_warning("listener: no credentials of a client: %s; refused", strerror(errno));
		close(fd);
		return;
	}
	cred = (struct conn_cred){ .uid = u.uid, .gid = u.gid, .pid = u.pid };
	listener_greet_groups(l, fd, &cred);
}

static void listener_on_ready(void *ctx, int listen_fd, unsigned ready)
{
	struct listener *l = ctx;
	int fd;

	(void)ready;
	/* The callee may stop the listener: then its descriptor is gone. */
	for (int i = 0; i < LISTENER_ACCEPT_MAX && l->watch.fd == listen_fd; i++) {
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			listener_greet(l, fd);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		listener_rest(l, errno);
		return;
	}
}

/* ---- start and end ---- */

/* Return: the first listening AF_UNIX stream socket from systemd; -1 if there is none. */
static int listener_from_systemd(void)
{
	int n = sd_listen_fds(1), fd, flags;

	for (int i = 0; i < n; i++) {
		fd = SD_LISTEN_FDS_START + i;
		if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0)
			continue;
		flags = fcntl(fd, F_GETFL);
		if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0)
			return fd;
	}
	if (n > 0)
		log_warning("listener: none of the %d sockets from systemd is a listening Unix "
			    "stream socket; making one",
			    n);
	return -1;
}

/* A descriptor of a socket tells nothing of its file, so this asks by the name that it is bound to.
 */
static gid_t listener_find_group(int fd)
{
	struct sockaddr_un addr;
	socklen_t size = sizeof(addr);
	char path[sizeof(addr.sun_path) + 1];
	struct stat st;
	size_t n;

	if (getsockname(fd, (struct sockaddr *)&addr, &size) < 0 ||
	    size <= offsetof(struct sockaddr_un, sun_path) || addr.sun_path[0] == '\0')
		return (gid_t)-1;
	n = size - offsetof(struct sockaddr_un, sun_path);
	if (n > sizeof(addr.sun_path)) /* a full one: the kernel counts a NUL that has no room */
		n = sizeof(addr.sun_path);
	memcpy(path, addr.sun_path, n);
	path[n] = '\0';
	if (stat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || !(st.st_mode & S_IWGRP))
		return (gid_t)-1;
	return st.st_gid;
}

int listener_new(struct loop *loop, const struct listener_conf *conf, listener_fn fn, void *ctx,
		 struct listener **ret, char *ret_text, size_t text_size)
{
	struct listener *l = calloc(1, sizeof(*l));
	int fd, r = 0;

	if (!l) {
		snprintf(ret_text, text_size, "%s: no memory", conf->path);
		return -ENOMEM;
	}
	l->fn = fn;
	l->ctx = ctx;
	l->spare_fd = l->watch.fd = -1;
	fd = listener_from_systemd();
	if (fd < 0)
		r = sockfile_new(conf, LISTENER_BACKLOG, &l->file, &fd, ret_text, text_size);
	if (r < 0)
		goto fail;
	r = loop_fd_init(loop, &l->watch, fd, listener_on_ready, l);
	if (r == 0)
		r = loop_timer_init(loop, &l->rest, listener_on_rested, l);
	if (r == 0)
		r = loop_fd_want(&l->watch, LOOP_READ);
	if (r < 0) {
		snprintf(ret_text, text_size, "%s: cannot watch the socket: %s", conf->path,
			 strerror(-r));
		goto fail;
	}
	listener_spare(l);
	l->group = listener_find_group(fd);
	*ret = l;
	return 0;

fail:
	listener_free(l);
	return r;
}

gid_t listener_group(const struct listener *l)
{
	return l->group;
}

void listener_stop(struct listener *l)
{
	int fd = l->watch.fd;

	loop_timer_done(&l->rest);
	loop_fd_done(&l->watch);
	l->watch.fd = -1;
	if (fd >= 0)
		close(fd);
	if (l->spare_fd >= 0)
		close(l->spare_fd);
	l->spare_fd = -1;
}

struct listener *listener_free(struct listener *l)
{
	if (l) {
		listener_stop(l);
		sockfile_free(l->file);
		free(l);
	}
	return NULL;
}
