/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * listener: the daemon's Unix socket. Takes it over from systemd (sd_listen_fds) or makes it,
 * safely: a lock file beside it tells a living daemon from a stale socket; what is no socket, or
 * belongs to another user, is never removed.
 *
 * Out of descriptors it neither spins nor dies: a spare descriptor is used to accept and close the
 * newcomer, and the listener rests LISTENER_REST_MS.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "ipc/conn.h"

struct listener;

enum {
	LISTENER_BACKLOG = 4096,
	LISTENER_ACCEPT_MAX = 64, /* per turn */
	LISTENER_REST_MS = 500,
};

struct listener_conf {
	const char *path;
	mode_t mode;       /* permissions of the socket, e.g. 0600 */
	const char *group; /* its group by name, NULL: the process's own */
};

/* A new connection: `fd` is given, non-blocking; `cred` is borrowed for the call. It may call
 * listener_stop(), not _free. */
typedef void (*listener_fn)(void *ctx, int fd, const struct conn_cred *cred);

/**
 * listener_new() - start listening
 * @ret_text: on error a sentence: the path, what is wrong, what to do
 *
 * The lock file is PATH.lock; it stays behind on purpose, because removing a lock file lets two
 * daemons hold two of them.
 *
 * Uses the first AF_UNIX stream socket that systemd handed over, if there is one (then `conf` only
 * names it in messages). The directory must exist, except that the last component is made (0755)
 * when its parent exists.
 *
 * Return: 0; a negative errno: -EADDRINUSE (another daemon lives there), -EEXIST (a foreign file or
 * link is in the way), -EINVAL (no such group), -ENOENT, -EACCES, -ENAMETOOLONG, ...
 */
int listener_new(struct loop *loop, const struct listener_conf *conf, listener_fn fn, void *ctx,
		 struct listener **ret, char *ret_text, size_t text_size);
/* Whose members may connect because they are members: the group of the socket's file if its mode
 * lets the group write (also of a socket from systemd), as it was at the start; else (gid_t)-1. */
gid_t listener_group(const struct listener *l);
/* Stops accepting and closes the socket; its file stays until _free so that a client's connect
 * fails clearly ("connection refused"), not oddly. A socket from systemd stays open there, and its
 * clients wait for the next start. */
void listener_stop(struct listener *l);
/* Removes the socket's file if this process made it and it is still the same. NULL is fine. Returns
 * NULL. */
struct listener *listener_free(struct listener *l);
