/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * names: what the users of attached processes are called, for access rules with %u.
 *
 * The system's sources of names are asked at once and waited for: microseconds for /etc/passwd,
 * but a server's answer where names come from one; meanwhile the daemon does nothing else. So
 * nothing is asked unless a rule has %u, and then once for each user, when one of its processes
 * attaches and the last answer is NAMES_AGE_MS old, and at a reload. When they cannot answer, a name
 * that is known stays, and they are asked no earlier for that. There are as many entries as users
 * attached, and NAMES_IDLE_MAX of users who have gone, so that a command in a loop asks once.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/clock.h"

enum {
	NAMES_AGE_MS = 60000,
	NAMES_IDLE_MAX = 64,
	NAMES_BYTES_MAX = 255, /* a longer name counts as none */
};

struct names;
struct name;

/* How a name is found. @ret: NAMES_BYTES_MAX + 1 bytes. Return: 0: the name, empty when there is
 * none; a negative errno: it cannot be told, and @ret is as it was. */
typedef int (*names_fn)(uid_t uid, char *ret);
/* Asks the system. */
int names_of_system(uid_t uid, char *ret);

/* @clock: borrowed. NULL without memory. */
struct names *names_new(const struct clock *clock, names_fn fn);
/* All must have been given back. NULL is fine. Returns NULL. */
struct names *names_free(struct names *n);

/* Off (as at birth): what is taken has no name until names_need(true). Asks for all who are
 * attached when `need`, and forgets who has gone. */
void names_need(struct names *n, bool need);

/* The user of one more process; give it back. NULL without memory. */
struct name *names_take(struct names *n, uid_t uid);
void names_give(struct names *n, struct name *name);
/* Empty: there is none, or none is needed. The address stays until the last names_give(), what
 * stands there may change with each names_need() and names_take(). */
const char *name_text(const struct name *name);
