/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * sockfile: the socket's place in the file system, made and removed safely.
 *
 * The lock beside it (PATH.lock) is held as long as the sockfile lives, so at most one daemon at a
 * time touches PATH. What lies there is removed only when it is a socket, belongs to this user, and
 * nobody answers on it.
 */
#include <stddef.h>
#include <sys/types.h>

struct listener_conf;
struct sockfile;

/**
 * sockfile_new() - bind and listen
 * @ret_fd: the listening socket, non-blocking; given
 * @ret_text: on error a sentence: the path, what is wrong, what to do
 *
 * Return: as listener_new().
 */
int sockfile_new(const struct listener_conf *conf, int backlog, struct sockfile **ret, int *ret_fd,
		 char *ret_text, size_t text_size);
/* Removes the file if it is still the one that was made, then lets go of the lock. NULL is fine.
 * Returns NULL. */
struct sockfile *sockfile_free(struct sockfile *s);
