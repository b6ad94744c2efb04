/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A listener under test in a directory of its own, with clients beside it.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/listener.h"
#include "loop_util.h"

enum { MANY = 100, NOBODY = 65534 };

static struct loop *loop;
static struct listener *listener;
static struct listener_conf conf;
static char dir[32], path[64], lock_path[80];
static char text[512];
static unsigned fds_before;

static int accepted[MANY]; /* the daemon's ends */
static unsigned n_accepted;
static struct conn_cred last_cred;
static gid_t last_groups[MANY];
static int clients[MANY];
static unsigned n_clients;
static bool stop_loop_at_accept, stop_listener_at_accept;

static inline void on_accept(void *ctx, int fd, const struct conn_cred *cred)
{
	ck_assert_ptr_eq(ctx, &conf);
	ck_assert_uint_lt(n_accepted, MANY);
	accepted[n_accepted++] = fd;
	last_cred = *cred;
	ck_assert_uint_le(cred->n_groups, MANY);
	memcpy(last_groups, cred->groups, cred->n_groups * sizeof(gid_t));
	last_cred.groups = last_groups; /* cred's are borrowed */
	if (stop_loop_at_accept)
		loop_stop(loop);
	if (stop_listener_at_accept)
		listener_stop(listener);
}

static inline void setup(void)
{
	fds_before = open_fds();
	strcpy(dir, "/tmp/rtb-listen-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
	conf = (struct listener_conf){ .path = path, .mode = 0600 };
	loop = loop_new();
	listener = NULL;
	n_accepted = n_clients = 0;
	stop_loop_at_accept = stop_listener_at_accept = false;
}

static inline void close_all(void)
{
	while (n_accepted > 0)
		close(accepted[--n_accepted]);
	while (n_clients > 0)
		close(clients[--n_clients]);
}

static inline void teardown(void)
{
	close_all();
	ck_assert_ptr_null(listener_free(listener));
	loop_free(loop);
	if (unlink(path) < 0)
		rmdir(path);
	unlink(lock_path);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_uint_eq(open_fds(), fds_before);
}

static inline int start(void)
{
	text[0] = '\0';
	return listener_new(loop, &conf, on_accept, &conf, &listener, text, sizeof(text));
}

static inline void expect_start(void)
{
	int r = start();

	ck_assert_msg(r == 0, "%s", text);
}

static inline void expect_refusal(int error, const char *name, const char *part)
{
	ck_assert_int_eq(start(), error);
	ck_assert_ptr_null(listener);
	ck_assert_msg(strncmp(text, name, strlen(name)) == 0, "%s", text);
	ck_assert_msg(strstr(text, part) != NULL, "%s lacks %s", text, part);
}

static inline struct sockaddr_un address(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

/* Return: 0, or -errno of connect(). */
static inline int client_connect(void)
{
	struct sockaddr_un a = address();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	clients[n_clients++] = fd;
	return 0;
}

/* A socket's file that nobody listens on; or that the returned descriptor listens on. */
static inline int plant_socket(bool alive)
{
	struct sockaddr_un a = address();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	if (alive) {
		ck_assert_int_eq(listen(fd, 5), 0);
		return fd;
	}
	close(fd);
	return -1;
}

static inline void plant_file(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	close(fd);
}

static inline mode_t kind_of(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0 ? st.st_mode & S_IFMT : 0;
}
