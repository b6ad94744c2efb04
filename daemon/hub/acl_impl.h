/* SPDX-License-Identifier: MIT */
#pragma once
/* What acl_parse.c makes and acl.c asks. */
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
