/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * acl: the access rules: who may do what. Built once from the configuration, then read only; a
 * reload makes a new one. Pure: it looks nobody up after acl_rule().
 *
 *   rule = allow user alice read,presence topic chat:*
 *   rule = deny group interns write topic admin:*
 *   rule = allow * read,write,presence topic user:%u:*
 *   rule = deny group workers read table public."Pay.Roll"
 *   rule = allow group workers read table public.*
 *   rule = allow user 1000 admin
 *   identity = own group workers
 *
 * ACTION WHO RIGHTS [WHAT]. ACTION: allow, deny. WHO: `user NAME`, `group NAME` (names or numbers),
 * `*`. RIGHTS: read, write, presence, joined by commas, for `topic GLOB`; read for `table
 * SCHEMA.TABLE`; admin alone. The first rule that fits decides; where none fits, the daemon's own
 * user, root and the members of the socket's group may all, others nothing.
 *
 * GLOB is the rest of the line: * stands for any characters, ? for one (of UTF-8), %u for the
 * user's name, \ takes the next character as it is. It stands without the prefix realtime: of the
 * server's topics, and without quotes or a comment behind it: what looks so is refused. For a user
 * whose name has one of * ? % \ in it, or whom the system knows no name for, an `allow` with %u fits
 * nothing, and a `deny` fits as if %u was *: who cannot be judged is refused.
 *
 * SCHEMA and TABLE are names, or * for all. Double quotes are needed around a name that is not
 * letters, digits, _ $ - alone; inside all is literal, but that a double quote is written twice.
 * Case counts. Who asks for all tables of a schema (or of all schemas) needs a rule that says so; a
 * `deny` for a single table does not hinder that, its rows are held back one by one.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/rtbp_val.h"

struct acl;

enum acl_right {
	ACL_READ = 1,     /* broadcasts of a topic; rows of a table */
	ACL_WRITE = 2,    /* broadcasts to a topic */
	ACL_PRESENCE = 4, /* who is in a topic, and to be seen there */
	ACL_ADMIN = 8,    /* everything of `status` */
};

/* One process, as the kernel says. */
struct acl_who {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* further ones; borrowed */
	size_t n_groups;
	const char *name; /* of the user, NULL, "": not known; borrowed. For acl_needs_names() */
};

/* Without rules. @owner: the daemon's user; @socket_group: (gid_t)-1: none. NULL without memory. */
struct acl *acl_new(uid_t owner, gid_t socket_group);
struct acl *acl_free(struct acl *acl); /* NULL is fine. Returns NULL. */

/* Appends what stands behind `rule =`. Looks user and group up. Return: 0; -EINVAL (also for an
 * unknown name), -ENOMEM, with what would be right in @ret_text. */
int acl_rule(struct acl *acl, const char *text, char *ret_text, size_t size);
/* What stands behind `identity =`: `own WHO`. */
int acl_identity(struct acl *acl, const char *text, char *ret_text, size_t size);
/* The group of the socket is known only when it is there. */
void acl_set_socket_group(struct acl *acl, gid_t gid);

/* Both have the same rules, in the same order, for the same users and groups. */
bool acl_is_same(const struct acl *a, const struct acl *b);

/* Some rule might allow it something. */
bool acl_may_attach(const struct acl *acl, const struct acl_who *who);
/* @rights: all of them. */
bool acl_topic(const struct acl *acl, const struct acl_who *who, unsigned rights,
	       struct rtbp_str topic);
/* May it ask for these? "*" means all; never absent. Of a row: its own names. */
bool acl_table(const struct acl *acl, const struct acl_who *who, struct rtbp_str schema,
	       struct rtbp_str table);
bool acl_admin(const struct acl *acl, const struct acl_who *who);
/* It may not use the daemon's identity. */
bool acl_needs_own_identity(const struct acl *acl, const struct acl_who *who);
/* A rule has %u. */
bool acl_needs_names(const struct acl *acl);
/* The daemon's own user, or root: no shares are kept from it for others. */
bool acl_is_owner(const struct acl *acl, uid_t uid);
