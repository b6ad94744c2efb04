/* SPDX-License-Identifier: MIT */
#pragma once
/* Access rules, and who asks, for one file of a Check program. */
#include <check.h>
#include <string.h>

#include "hub/acl.h"

enum { OWNER = 900, SOCKET_GROUP = 800, ALICE = 1001, WORKERS = 2001 };

static struct acl *acl;
static const struct acl_who alice = { .uid = ALICE, .gid = WORKERS, .name = "alice" };

static inline void setup(void)
{
	acl = acl_new(OWNER, SOCKET_GROUP);
	ck_assert_ptr_nonnull(acl);
}

static inline void teardown(void)
{
	acl = acl_free(acl);
}

static inline void rule(const char *text)
{
	char why[256] = "";

	ck_assert_msg(acl_rule(acl, text, why, sizeof(why)) == 0, "%s: %s", text, why);
}

static inline struct rtbp_str str(const char *text)
{
	return (struct rtbp_str){ text, strlen(text) };
}

static inline bool may(const struct acl_who *who, unsigned rights, const char *topic)
{
	return acl_topic(acl, who, rights, str(topic));
}
