/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Rules that say who may do what in private channels, in the place of a database's policies. Knows
 * no channels.
 *
 *   # comment
 *   read            authenticated  room:*
 *   write           sub=4711       room:lobby
 *   presence_read   *              *
 *   presence_write  *              room:?
 */
#include "buf.h"

enum ds_right { DS_READ, DS_WRITE, DS_PRESENCE_READ, DS_PRESENCE_WRITE, DS_RIGHTS };

struct ds_policies;

/**
 * ds_policies_new() - reads rules, one a line
 *
 * WHO is a role, "sub=" with a token's sub, or "*". The topic is a shell pattern (fnmatch), without
 * "realtime:"; "/" is nothing special in it.
 *
 * Return: NULL with the line and the reason in @ret_error; the caller frees what is not NULL.
 */
struct ds_policies *ds_policies_new(struct ds_str text, char *ret_error, size_t error_size);
struct ds_policies *ds_policies_free(struct ds_policies *p);

/**
 * ds_policies_allow() - is there a rule that gives this right?
 * @role, @sub: of the token, NULL if it has none
 * @topic:      without "realtime:"
 *
 * service_role may do everything, as in a database. A role that does not exist may do nothing,
 * even where everybody may: those exist that Supabase makes, and those that a rule names.
 */
bool ds_policies_allow(const struct ds_policies *p, enum ds_right right, const char *role,
		       const char *sub, const char *topic);
/** ds_policies_knows() - does this role exist? */
bool ds_policies_knows(const struct ds_policies *p, const char *role);
