/* SPDX-License-Identifier: MIT */
/* What a client is told of a session, in the form of the real auth server. */
#include <time.h>

#include "auth_int.h"
#include "jwt.h"

#define AUDIENCE "authenticated"

static uint64_t random_of(void *core)
{
	return ds_random(core);
}

struct ds_auth *ds_core_auth(struct ds_core *c)
{
	if (!c->auth)
		c->auth = ds_auth_new(c->conf.reuse_interval_ms, random_of, c);
	return c->auth;
}

static void add_time(struct ds_buf *b, const char *name, int64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	char text[32] = "";
	struct tm tm;

	if (gmtime_r(&s, &tm))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	ds_buf_fmt(b, ",\"%s\":\"%s.%03dZ\"", name, text, (int)(ms % 1000));
}

static void add_text(struct ds_buf *b, const char *name, const char *text)
{
	ds_buf_fmt(b, "\"%s\":", name);
	ds_buf_json(b, ds_str(text));
	ds_buf_byte(b, ',');
}

static void add_meta(struct ds_buf *b)
{
	ds_buf_text(b, "\"app_metadata\":{\"provider\":\"email\",\"providers\":[\"email\"]},"
		       "\"user_metadata\":{\"email_verified\":true},");
}

/*
 * Whole seconds, as the real server has them. Its tokens of one second are equal; here each has an
 * id of its own (jti), so that tests need not wait for the next second to see another one.
 */
static void add_access_token(struct ds_core *c, const struct ds_auth_session *s, int64_t now_s,
			     struct ds_buf *b)
{
	struct ds_buf claims = { 0 };

	ds_buf_byte(&claims, '{');
	add_text(&claims, "iss", "http://127.0.0.1/auth/v1");
	add_text(&claims, "sub", s->sub);
	add_text(&claims, "aud", AUDIENCE);
	ds_buf_fmt(&claims, "\"exp\":%lld,\"iat\":%lld,", (long long)(now_s + s->life_s),
		   (long long)now_s);
	add_text(&claims, "email", s->email);
	add_text(&claims, "phone", "");
	add_meta(&claims);
	add_text(&claims, "role", s->role);
	add_text(&claims, "aal", "aal1");
	ds_buf_fmt(&claims, "\"amr\":[{\"method\":\"password\",\"timestamp\":%lld}],",
		   (long long)(s->created_ms / 1000));
	add_text(&claims, "session_id", s->id);
	ds_buf_fmt(&claims, "\"is_anonymous\":false,\"jti\":\"%016llx\"}",
		   (unsigned long long)ds_random(c));
	ds_jwt_sign(ds_buf_view(&claims), c->conf.jwt_secret, b);
	ds_buf_done(&claims);
}

static void add_identity(const struct ds_auth_session *s, struct ds_buf *b)
{
	ds_buf_text(b, "\"identities\":[{");
	add_text(b, "identity_id", s->id);
	add_text(b, "id", s->sub);
	add_text(b, "user_id", s->sub);
	ds_buf_text(b, "\"identity_data\":{");
	add_text(b, "email", s->email);
	add_text(b, "sub", s->sub);
	ds_buf_text(b, "\"email_verified\":true,\"phone_verified\":false},\"provider\":\"email\"");
	add_time(b, "last_sign_in_at", s->created_ms);
	add_time(b, "created_at", s->created_ms);
	add_time(b, "updated_at", s->created_ms);
	ds_buf_byte(b, ',');
	add_text(b, "email", s->email);
	b->len--;
	ds_buf_text(b, "}]");
}

static void add_user(struct ds_core *c, const struct ds_auth_session *s, struct ds_buf *b)
{
	ds_buf_byte(b, '{');
	add_text(b, "id", s->sub);
	add_text(b, "aud", AUDIENCE);
	add_text(b, "role", s->role);
	add_text(b, "email", s->email);
	b->len--;
	add_time(b, "email_confirmed_at", s->created_ms);
	ds_buf_text(b, ",\"phone\":\"\"");
	add_time(b, "confirmed_at", s->created_ms);
	add_time(b, "last_sign_in_at", c->wall_ms);
	ds_buf_byte(b, ',');
	add_meta(b);
	add_identity(s, b);
	add_time(b, "created_at", s->created_ms);
	add_time(b, "updated_at", c->wall_ms);
	ds_buf_text(b, ",\"is_anonymous\":false}");
}

void ds_auth_answer(struct ds_core *c, const struct ds_auth_session *s, const char *issued,
		    bool with_id, struct ds_buf *b)
{
	int64_t now_s = c->wall_ms / 1000;

	ds_buf_text(b, "{\"access_token\":\"");
	add_access_token(c, s, now_s, b);
	ds_buf_fmt(b,
		   "\",\"token_type\":\"bearer\",\"expires_in\":%lld,\"expires_at\":%lld,"
		   "\"refresh_token\":\"%s\",",
		   (long long)s->life_s, (long long)(now_s + s->life_s), issued);
	if (with_id)
		add_text(b, "session_id", s->id);
	ds_buf_text(b, "\"user\":");
	add_user(c, s, b);
	ds_buf_byte(b, '}');
}
