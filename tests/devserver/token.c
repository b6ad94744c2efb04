/* SPDX-License-Identifier: MIT */
/* The tokens of channels: which one a join has, what it says, its end, and the next one. */
#include "core_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "jwt.h"

#define RECONFIRM_MS 300000 /* as often as the real server looks at a channel's token */
#define PUBLISHABLE  "sb_"

char *ds_member_text(struct ds_str object, const char *key)
{
	struct ds_buf b = { 0 };
	struct ds_str v;

	if (!ds_json_get(object, key, &v) || ds_json_kind(v) != DS_JSON_STRING)
		return NULL;
	ds_json_text(v, &b);
	ds_buf_byte(&b, 0);
	return b.data;
}

static bool publishable(const char *text)
{
	return text && strncmp(text, PUBLISHABLE, strlen(PUBLISHABLE)) == 0;
}

struct ds_claims ds_claims_read(struct ds_str token)
{
	struct ds_claims claims = { 0 };
	struct ds_buf json = { 0 };
	struct ds_str exp;

	if (token.n)
		ds_jwt_claims(token, &json);
	if (json.len && ds_json_valid(ds_buf_view(&json))) {
		struct ds_str object = ds_json_trim(ds_buf_view(&json));

		claims.role = ds_member_text(object, "role");
		claims.sub = ds_member_text(object, "sub");
		if (ds_json_get(object, "exp", &exp) && ds_json_kind(exp) == DS_JSON_NUMBER)
			ds_buf_str(&claims.exp_json, exp);
	}
	ds_buf_done(&json);
	return claims;
}

void ds_claims_done(struct ds_claims *claims)
{
	free(claims->role);
	free(claims->sub);
	ds_buf_done(&claims->exp_json);
	*claims = (struct ds_claims){ 0 };
}

enum ds_carried ds_token_carried(struct ds_core *c, const char *text)
{
	int64_t exp_ms;

	if (!text)
		return DS_CARRIED_NONE;
	if (publishable(text))
		return DS_CARRIED_KEY;
	if (ds_jwt_check(ds_str(text), c->conf.jwt_secret, c->wall_ms, &exp_ms) == DS_JWT_MALFORMED)
		return DS_CARRIED_OTHER;
	return DS_CARRIED_JWT;
}

/*
 * A publishable key in "access_token", or in "user_token" alone, stands for the socket's own key.
 * Of two strings "user_token" counts otherwise, whatever it is.
 */
char *ds_token_pick(const struct ds_socket *s, struct ds_str payload, struct ds_buf *token)
{
	char *user = ds_member_text(payload, "user_token");
	char *access = ds_member_text(payload, "access_token");
	char *carried = user ? user : access;

	if (carried && !publishable(access ? access : user))
		ds_buf_text(token, carried);
	else
		ds_buf_str(token, ds_json_trim(ds_str(s->apikey)));
	if (user)
		free(access);
	return carried;
}

static void add_expired(struct ds_core *c, int64_t exp_ms, struct ds_buf *why)
{
	ds_buf_fmt(why, "Token has expired %lld seconds ago",
		   (long long)((c->wall_ms - exp_ms) / 1000));
}

void ds_token_refusal(struct ds_core *c, struct ds_str token, int64_t *ret_exp_ms,
		      struct ds_buf *why)
{
	switch (ds_jwt_check(token, c->conf.jwt_secret, c->wall_ms, ret_exp_ms)) {
	case DS_JWT_OK:
		break;
	case DS_JWT_MALFORMED:
		ds_buf_text(why, "MalformedJWT: The token provided is not a valid JWT");
		break;
	case DS_JWT_SIGNER:
		ds_buf_text(why, "JwtSignerError: Failed to generate JWT signer, check your JWT "
				 "secret or JWKS configuration");
		break;
	case DS_JWT_SIGNATURE:
		ds_buf_text(why, "JwtSignatureError: Failed to validate JWT signature");
		break;
	case DS_JWT_EXP_TYPE:
		ds_buf_text(why, "Unknown Error on Channel");
		break;
	case DS_JWT_CLAIMS:
		ds_buf_text(why, "InvalidJWTToken: Fields `role` and `exp` are required in JWT");
		break;
	case DS_JWT_EXPIRED:
		ds_buf_text(why, "InvalidJWTToken: ");
		add_expired(c, *ret_exp_ms, why);
		break;
	}
}

/* The same for a channel that has been joined: other words, no code in front. */
static void push_refusal(struct ds_core *c, struct ds_str token, int64_t *ret_exp_ms,
			 struct ds_buf *why)
{
	switch (ds_jwt_check(token, c->conf.jwt_secret, c->wall_ms, ret_exp_ms)) {
	case DS_JWT_OK:
		break;
	case DS_JWT_MALFORMED:
		ds_buf_text(why, "The token provided is not a valid JWT");
		break;
	case DS_JWT_SIGNER:
		ds_buf_text(why, ":error_generating_signer");
		break;
	case DS_JWT_SIGNATURE:
		ds_buf_text(why, ":signature_error");
		break;
	case DS_JWT_EXP_TYPE:
		ds_buf_text(why, ":expiration_error");
		break;
	case DS_JWT_CLAIMS:
		ds_buf_text(why, "Fields `role` and `exp` are required in JWT");
		break;
	case DS_JWT_EXPIRED:
		add_expired(c, *ret_exp_ms, why);
		break;
	}
}

void ds_arm_expiry(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_timer t = { .kind = DS_TIMER_EXPIRY, .socket_id = ch->socket->id };
	int64_t left = ch->exp_ms - c->wall_ms;

	t.serial = ch->serial;
	t.due_ms = c->mono_ms + (left < RECONFIRM_MS ? left : RECONFIRM_MS);
	ch->check_ms = t.due_ms;
	ds_timers_add(&c->timers, t);
}

void ds_expire(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_buf why = { 0 };

	if (c->mono_ms < ch->check_ms)
		return; /* the timer of an earlier token */
	if (c->wall_ms < ch->exp_ms) {
		ds_arm_expiry(c, ch);
		return;
	}
	add_expired(c, ch->exp_ms, &why);
	ds_buf_byte(&why, 0);
	ds_channel_shut(c, ch, why.data);
	ds_buf_done(&why);
}

/* The channel has this token from now on. It may lose what the old one let it read. */
static void replace(struct ds_core *c, struct ds_channel *ch, const char *token, int64_t exp_ms,
		    struct ds_buf *why)
{
	struct ds_timer t = { .kind = DS_TIMER_SUBSCRIBE, .socket_id = ch->socket->id };
	struct ds_rights old = ch->rights;

	free(ch->token);
	ch->token = ds_str_dup(ds_str(token));
	ch->exp_ms = exp_ms;
	ds_claims_done(&ch->claims);
	ch->claims = ds_claims_read(ds_str(token));
	if (!ds_rights_read(c, &ch->rights, ch->private, &ch->claims, ch->name, ch->presence.on))
		ds_buf_text(why, "You do not have permissions to read from this Channel topic: ");
	else if (ds_rights_lost(&old, &ch->rights))
		ds_buf_text(why, "You no longer have permission to read from this Channel topic: ");
	if (why->len) {
		ds_buf_text(why, ch->name);
		return;
	}
	ds_arm_expiry(c, ch);
	t.serial = ch->serial;
	t.due_ms = c->mono_ms + c->conf.resubscribe_ms;
	if (ch->n_bindings)
		ds_timers_add(&c->timers, t);
}

bool ds_new_token(struct ds_core *c, struct ds_channel *ch, struct ds_str payload)
{
	char *text = ds_member_text(payload, "access_token");
	struct ds_buf why = { 0 };
	struct ds_str value;
	const char *outcome = "ok";
	int64_t exp_ms = 0;

	if (!text &&
	    (!ds_json_get(payload, "access_token", &value) || ds_json_kind(value) != DS_JSON_NULL))
		return false;
	ch->n_token_events++;
	ch->socket->n_token_events++;
	if (!text || publishable(text)) {
		outcome = "ignored";
	} else if (strcmp(text, ch->token) == 0) {
		outcome = "same";
	} else {
		push_refusal(c, ds_str(text), &exp_ms, &why);
		if (why.len == 0)
			replace(c, ch, text, exp_ms, &why);
	}
	if (why.len) {
		ds_buf_byte(&why, 0);
		outcome = why.data;
	}
	ds_log_add(c, ch->socket,
		   (struct ds_log_entry){ .push = true,
					  .topic_json = ch->topic_json,
					  .private = ch->private,
					  .carried = ds_token_carried(c, text),
					  .token = ds_str(text ? text : ""),
					  .outcome = ds_str(outcome) });
	if (why.len)
		ds_channel_shut(c, ch, why.data);
	ds_buf_done(&why);
	free(text);
	return true;
}
