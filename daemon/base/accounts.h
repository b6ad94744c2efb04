/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * accounts: what the system's sources of names (nsswitch.conf) say of users and groups. They are
 * waited for.
 */
#include <stddef.h>
#include <sys/types.h>

enum { ACCOUNTS_NONE = 1 }; /* all sources have answered, and there is none */

/* Return: 0; ACCOUNTS_NONE; -ENOMEM; another negative errno, with which a source that could not
 * answer came: -ENOENT, too. Unless 0, @ret is as it was. */
int accounts_uid(const char *user, uid_t *ret);
int accounts_gid(const char *group, gid_t *ret);
/* @size: of @ret; a name that does not fit with its NUL counts as none. */
int accounts_name(uid_t uid, char *ret, size_t size);
