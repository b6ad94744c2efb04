/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files report*.c share: one `status`, `channels` or `clients` that is being answered. What
 * the asker may know is found out once, in one pass over what its user's own clients have; the rest
 * costs what is printed.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct binding;
struct chan;
struct hub;
struct identity;
struct peer;
struct rtbp_buf;

struct report {
	struct hub *hub;
	const struct peer *asker;
	struct rtbp_buf *b;
	bool sees_all;   /* the right `admin` */
	bool may_be_own; /* it may act with the daemon's own identity */
	uint64_t mark;   /* what the asker's user has something of has this mark */
};

/* report_know.c: what the asker may know. The answers hold until the next report or row. */
void report_begin(struct report *r, struct peer *asker, struct rtbp_buf *b);
bool report_knows_user(const struct report *r, uid_t uid);
bool report_knows_identity(const struct report *r, const struct identity *i);
bool report_knows_binding(const struct report *r, const struct binding *b);
bool report_knows_channel(const struct report *r, const struct chan *ch);

/* report_link.c: the member links of `status` */
void report_pack_links(const struct report *r);

/* report_changes.c: the members feeds, postgres_changes, private_only of `status`. */
enum { REPORT_CHANGES_MEMBERS = 3 };
void report_pack_changes(const struct report *r);
