/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Sessions and their refresh tokens, as the real auth server keeps them: a token is used once, and
 * who uses it again too late ends the session. Knows no HTTP and no JSON; the caller gives the time.
 */
#include <sys/queue.h>

#include "buf.h"

#define DS_REFRESH_TOKEN_CHARS 12
#define DS_AUTH_ID_SIZE        37 /* a UUID */

TAILQ_HEAD(ds_auth_tokens, ds_auth_token);
TAILQ_HEAD(ds_auth_sessions, ds_auth_session);

struct ds_auth_token {
	TAILQ_ENTRY(ds_auth_token) link;
	char text[DS_REFRESH_TOKEN_CHARS + 1];
	char parent[DS_REFRESH_TOKEN_CHARS + 1]; /* for which it was given out; empty: the first */
	bool revoked;
	int64_t updated_ms; /* wall clock: made or revoked */
};

/* Why a session gives out nothing more. */
enum ds_auth_end {
	DS_AUTH_VALID,
	DS_AUTH_EXPIRED,
	DS_AUTH_IDLE,
	DS_AUTH_NEWER, /* its user has logged in elsewhere */
	DS_AUTH_ORPHAN /* its tokens are there, but it is not */
};

struct ds_auth_session {
	TAILQ_ENTRY(ds_auth_session) link;
	char id[DS_AUTH_ID_SIZE];
	char *sub;  /* of the user */
	char *role; /* of the access tokens */
	char *email;
	int64_t life_s; /* of an access token */
	int64_t created_ms;
	int64_t not_after_ms; /* 0: no end */
	enum ds_auth_end end;
	bool banned; /* its user is */
	struct ds_auth_tokens tokens;
};

struct ds_auth {
	struct ds_auth_sessions sessions;
	int64_t reuse_ms; /* a used token may be used again for so long */
	uint64_t (*random)(void *arg);
	void *arg;
};

/* What the use of a token that had been used before came to. */
enum ds_reuse {
	DS_REUSE_NONE,
	DS_REUSE_PARENT,   /* its successor was never used: it is told once more */
	DS_REUSE_INTERVAL, /* soon enough for another successor */
	DS_REUSE_ABUSE     /* the session has ended over it */
};

/** struct ds_refreshed - what became of a refresh; @code NULL: it succeeded */
struct ds_refreshed {
	const char *code;                /* the server's own word for it */
	const char *message;             /* with it */
	struct ds_auth_session *session; /* borrowed; NULL if there is none */
	const char *issued;              /* borrowed; NULL if it failed */
	enum ds_reuse reuse;
	bool known;     /* the presented token is one, so that its user is known */
	bool ended;     /* the session's tokens were all revoked just now */
	bool not_found; /* the session is gone, and the token with it: drop it, see ds_auth_end() */
};

struct ds_auth *ds_auth_new(int64_t reuse_ms, uint64_t (*random)(void *arg), void *arg);
struct ds_auth *ds_auth_free(struct ds_auth *a);

/**
 * ds_auth_begin() - a new session with its first token
 * @sub: NULL: a new user
 */
struct ds_auth_session *ds_auth_begin(struct ds_auth *a, const char *sub, const char *role,
				      const char *email, int64_t life_s, int64_t now_ms);
/** ds_auth_end() - forgets @s and its tokens, as a logout does */
void ds_auth_end(struct ds_auth *a, struct ds_auth_session *s);
struct ds_auth_session *ds_auth_by_id(struct ds_auth *a, const char *id);
/** ds_auth_active() - the newest token that is not revoked, or NULL */
struct ds_auth_token *ds_auth_active(const struct ds_auth_session *s);
/** ds_auth_revoke() - all its tokens, as of @now_ms */
void ds_auth_revoke(struct ds_auth_session *s, int64_t now_ms);

/**
 * ds_auth_refresh() - uses @token
 * @keep: a server that lies: nothing is rotated, the token is given out as its own successor
 */
struct ds_refreshed ds_auth_refresh(struct ds_auth *a, struct ds_str token, bool keep,
				    int64_t now_ms);
