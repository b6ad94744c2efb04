/* SPDX-License-Identifier: MIT */
#pragma once
/* What acl_parse.c and acl_what.c make and acl.c asks. */
#include <stddef.h>
#include <stdint.h>

#include "hub/acl.h"

enum who_kind { WHO_ALL, WHO_USER, WHO_GROUP };

struct who_spec {
	enum who_kind kind;
	id_t id;
};

/* A glob is a string of these; what is below 256 is a byte that stands for itself. */
enum { GLOB_ANY = 256, GLOB_ONE, GLOB_USER };

enum what_kind { WHAT_NONE, WHAT_TOPIC, WHAT_TABLE };

struct rule {
	bool allow, has_user; /* has_user: %u stands in the glob */
	struct who_spec who;
	unsigned rights;
	enum what_kind what;
	uint16_t *glob;
	size_t n_glob;
	char *schema, *table; /* NULL: all */
};

struct acl {
	uid_t owner;
	gid_t socket_group;
	struct rule *rules;
	size_t n_rules;
	struct who_spec *own; /* who needs its own identity */
	size_t n_own;
	bool needs_names;
};

/* Frees what the rule holds, not the rule. */
void acl_rule_done(struct rule *rule);

/* ---- reading ---- */

/* Where a complaint goes. */
struct acl_text {
	char *to;
	size_t size;
};

/* Writes the complaint. Returns @r. */
int acl_wrong(struct acl_text *t, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
const char *acl_skip_blanks(const char *p);
/* The next word of *at; empty at the end. */
struct rtbp_str acl_next_word(const char **at);
/* The end of a complaint about a word: what to do if it was meant as a comment, or "". */
const char *acl_about_comment(struct rtbp_str word);
#define ACL_WORD(w) (int)(w).size, (w).p

/* Reads the rest of a rule, of which the rights are known: topic, table, or nothing for `admin`.
 * What could never fit is refused. Return: 0, -EINVAL, -ENOMEM; after an error acl_rule_done(). */
int acl_parse_what(const char *at, struct rule *rule, struct acl_text *t);
