/* SPDX-License-Identifier: MIT */
#include "gotrue.h"

#include <stdio.h>
#include <stdlib.h>

struct ds_auth *ds_auth_new(int64_t reuse_ms, uint64_t (*random)(void *arg), void *arg)
{
	struct ds_auth *a = ds_alloc(sizeof(*a));

	*a = (struct ds_auth){ .reuse_ms = reuse_ms, .random = random, .arg = arg };
	TAILQ_INIT(&a->sessions);
	return a;
}

static void token_free(struct ds_auth_session *s, struct ds_auth_token *t)
{
	TAILQ_REMOVE(&s->tokens, t, link);
	free(t);
}

void ds_auth_end(struct ds_auth *a, struct ds_auth_session *s)
{
	while (!TAILQ_EMPTY(&s->tokens))
		token_free(s, TAILQ_FIRST(&s->tokens));
	TAILQ_REMOVE(&a->sessions, s, link);
	free(s->sub);
	free(s->role);
	free(s->email);
	free(s);
}

struct ds_auth *ds_auth_free(struct ds_auth *a)
{
	if (!a)
		return NULL;
	while (!TAILQ_EMPTY(&a->sessions))
		ds_auth_end(a, TAILQ_FIRST(&a->sessions));
	free(a);
	return NULL;
}

static struct ds_auth_token *find(struct ds_auth *a, struct ds_str text,
				  struct ds_auth_session **ret_session)
{
	struct ds_auth_token *t;

	TAILQ_FOREACH(*ret_session, &a->sessions, link)
		TAILQ_FOREACH(t, &(*ret_session)->tokens, link)
			if (ds_str_eq(ds_str(t->text), text))
				return t;
	return NULL;
}

static struct ds_auth_token *issue(struct ds_auth *a, struct ds_auth_session *s, const char *parent,
				   int64_t now_ms)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	struct ds_auth_token *t = ds_alloc(sizeof(*t));
	struct ds_auth_session *other;

	do {
		for (int i = 0; i < DS_REFRESH_TOKEN_CHARS; i++)
			t->text[i] = letters[a->random(a->arg) % (sizeof(letters) - 1)];
	} while (find(a, ds_str(t->text), &other));
	snprintf(t->parent, sizeof(t->parent), "%s", parent);
	t->updated_ms = now_ms;
	TAILQ_INSERT_TAIL(&s->tokens, t, link);
	return t;
}

static void add_uuid(struct ds_auth *a, char ret[DS_AUTH_ID_SIZE])
{
	uint64_t x = a->random(a->arg), y = a->random(a->arg);

	snprintf(ret, DS_AUTH_ID_SIZE, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(x >> 32),
		 (unsigned)(x >> 16 & 0xffff), (unsigned)(x & 0xfff),
		 (unsigned)(y >> 48 & 0x3fff) | 0x8000, (unsigned long long)(y & 0xffffffffffff));
}

struct ds_auth_session *ds_auth_begin(struct ds_auth *a, const char *sub, const char *role,
				      const char *email, int64_t life_s, int64_t now_ms)
{
	struct ds_auth_session *s = ds_alloc(sizeof(*s));
	const struct ds_auth_session *other;
	char id[DS_AUTH_ID_SIZE];

	add_uuid(a, s->id);
	add_uuid(a, id);
	s->sub = ds_str_dup(ds_str(sub ? sub : id));
	s->role = ds_str_dup(ds_str(role));
	s->email = ds_str_dup(ds_str(email));
	s->life_s = life_s;
	s->created_ms = now_ms;
	TAILQ_INIT(&s->tokens);
	TAILQ_FOREACH(other, &a->sessions, link)
		s->banned |= other->banned && strcmp(other->sub, s->sub) == 0;
	TAILQ_INSERT_TAIL(&a->sessions, s, link);
	issue(a, s, "", now_ms);
	return s;
}

struct ds_auth_session *ds_auth_by_id(struct ds_auth *a, const char *id)
{
	struct ds_auth_session *s;

	TAILQ_FOREACH(s, &a->sessions, link)
		if (strcmp(s->id, id) == 0)
			return s;
	return NULL;
}

struct ds_auth_token *ds_auth_active(const struct ds_auth_session *s)
{
	struct ds_auth_token *t;

	TAILQ_FOREACH_REVERSE(t, &s->tokens, ds_auth_tokens, link)
	if (!t->revoked)
		return t;
	return NULL;
}

static void revoke(struct ds_auth_token *t, int64_t now_ms)
{
	t->revoked = true;
	t->updated_ms = now_ms;
}

void ds_auth_revoke(struct ds_auth_session *s, int64_t now_ms)
{
	struct ds_auth_token *t;

	TAILQ_FOREACH(t, &s->tokens, link)
		if (!t->revoked)
			revoke(t, now_ms);
}

static struct ds_refreshed refuse(struct ds_refreshed r, const char *code, const char *message)
{
	r.code = code;
	r.message = message;
	return r;
}

/* What the session has against it; all of it is @r if that is nothing. */
static struct ds_refreshed check(const struct ds_auth_session *s, struct ds_refreshed r,
				 int64_t now_ms)
{
	if (s->banned)
		return refuse(r, "user_banned", "Invalid Refresh Token: User Banned");
	if (s->end == DS_AUTH_ORPHAN) {
		r.not_found = true;
		return refuse(r, "session_not_found",
			      "Invalid Refresh Token: No Valid Session Found");
	}
	if (s->end == DS_AUTH_EXPIRED || (s->not_after_ms && now_ms > s->not_after_ms))
		return refuse(r, "session_expired", "Invalid Refresh Token: Session Expired");
	if (s->end == DS_AUTH_IDLE)
		return refuse(r, "session_expired",
			      "Invalid Refresh Token: Session Expired (Inactivity)");
	if (s->end == DS_AUTH_NEWER)
		return refuse(r, "session_expired",
			      "Invalid Refresh Token: Session Expired (Revoked by Newer Login)");
	return r;
}

/* A token that was used before. Return: with @code set, or what is to be told once more. */
static struct ds_refreshed again(struct ds_auth *a, struct ds_auth_token *t, struct ds_refreshed r,
				 int64_t now_ms)
{
	const struct ds_auth_token *active = ds_auth_active(r.session);

	if (active && strcmp(active->parent, t->text) == 0) {
		r.reuse = DS_REUSE_PARENT;
		r.issued = active->text;
		return r;
	}
	r.reuse = DS_REUSE_INTERVAL;
	/* The real server's clock is finer, so that an interval of nothing is over at once. */
	if (now_ms < t->updated_ms + a->reuse_ms)
		return r;
	/* Who has just been revoked may be used again for the interval: so it is there, too. */
	ds_auth_revoke(r.session, now_ms);
	r.reuse = DS_REUSE_ABUSE;
	r.ended = true;
	return refuse(r, "refresh_token_already_used", "Invalid Refresh Token: Already Used");
}

struct ds_refreshed ds_auth_refresh(struct ds_auth *a, struct ds_str token, bool keep,
				    int64_t now_ms)
{
	struct ds_refreshed r = { 0 };
	struct ds_auth_token *t = find(a, token, &r.session);

	if (!t)
		return refuse(r, "refresh_token_not_found",
			      "Invalid Refresh Token: Refresh Token Not Found");
	r.known = true;
	r = check(r.session, r, now_ms);
	if (!r.code && t->revoked)
		r = again(a, t, r, now_ms);
	if (r.code || r.issued)
		return r;
	if (keep) {
		r.issued = t->text;
		return r;
	}
	revoke(t, now_ms);
	r.issued = issue(a, r.session, t->text, now_ms)->text;
	return r;
}
