/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * watch: says when a file may have become another one, by inotify. Its reader compares.
 *
 * A path is walked as the kernel does it, symbolic links included, and each folder on the way is
 * watched for the one name that was looked up in it. So all of this is seen: another file renamed
 * over it, a write in place, a link or a folder on the way that is swapped (Kubernetes: ..data), a
 * folder that is not there yet, removed, or made anew. After each such event the path is walked
 * again. Folders that may not be read (0711) cannot be watched: what changes there is not seen.
 *
 * fn() is called WATCH_QUIET_MS after the last event (and the last write to the file), and WATCH_LATE_MS after the first at the
 * latest, once for all of them; never from inside a call here.
 */
#include <stdint.h>

struct loop;
struct watch;
struct watch_file;

enum {
	WATCH_QUIET_MS = 100,
	WATCH_LATE_MS = 1000,
	WATCH_LINKS_MAX = 16, /* symbolic links in one path */
};

/* One inotify descriptor. Return: 0; a negative errno: the kernel gives none (its limits: EMFILE). */
int watch_new(struct loop *loop, struct watch **ret);
/* Its files must have been removed. NULL is fine. Returns NULL. */
struct watch *watch_free(struct watch *w);

/* @path: copied; it need not exist, and a relative one counts from where the daemon is now.
 * Return: 0; -ENOMEM; -ENAMETOOLONG. */
int watch_add(struct watch *w, const char *path, void (*fn)(void *ctx), void *ctx,
	      struct watch_file **ret);
/* No call after this; also from fn(). NULL is fine. Returns NULL. */
struct watch_file *watch_remove(struct watch_file *f);
