/* SPDX-License-Identifier: MIT */
#pragma once
/* What the files of the token endpoint share. */
#include "core_int.h"
#include "gotrue.h"

/* gotrue_answer.c */
/* The sessions, which begin to be with the first question for them. */
struct ds_auth *ds_core_auth(struct ds_core *c);
/*
 * Appends what a client is told of a session: both tokens and the user.
 * @issued:  the refresh token
 * @with_id: the session's id, too, which the real server does not tell
 */
void ds_auth_answer(struct ds_core *c, const struct ds_auth_session *s, const char *issued,
		    bool with_id, struct ds_buf *b);

/* fault_token.c */
/* The rule about the next good answer, or NULL. */
struct ds_rule *ds_auth_lie(struct ds_core *c);
/* Makes of the true answer @b what @lie says, and uses it up. */
void ds_auth_tell_lie(struct ds_core *c, struct ds_rule *lie, struct ds_buf *b);
/* @token, @code: NULL if there is none */
void ds_auth_log(struct ds_core *c, const char *token, const char *code, int status,
		 const struct ds_refreshed *r);
/* Drops the oldest entry. */
void ds_auth_log_drop(struct ds_core *c);
