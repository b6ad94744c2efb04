/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Whose token a join uses. NULL in place of an identity stands for the daemon's own, everywhere.
 *
 *   hello.token, auth -> auth.c: form checked -> identity.c: which token, which identity
 *        new claims:                an identity of its own, in force at once; its first join shows
 *                                   whether the server takes it
 *        claims of another one's:   TOKEN_WAITING: tried on a join of its own (probation.c); the
 *                                   peer's requests are held meanwhile (held.c)
 *   server's word -> token_accepted() | token_refused() -> auth_run() at the turn's end
 *        -> the peers' grants are in force, or end, and what hung on them with them
 *
 *   peer 1 -- n grant n -- 1 token n -- 1 identity 1 -- n chan, binding, feed, join
 *
 * Without clients an identity is kept, with one token, while something of it is still there: a
 * command that is run again and again is the same one each time.
 *
 * Joins carry the token that lives longest; what is joined is told when there is a better one. A
 * peer's own rights end with the token that it gave.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/timers.h"
#include "hub/request.h"
#include "proto/rtbp_msg.h"
#include "realtime/jwt.h"

struct chan;
struct hub;
struct join;
struct peer;
struct secret;
struct trial;

enum {
	GRANTS_MAX = 64,  /* of one peer: one for all topics and 63 for single ones */
	TOKENS_MAX = 512, /* of all peers: each is locked in memory */
	HELD_MAX = 256,   /* requests of one peer that wait for its token */
	HELD_BYTES_MAX = 1024 * 1024,
	AUTH_TIMEOUT_MS = 15000,
	AUTH_TIMEOUT_MAX_MS = 300000,
	/* The end of a token is a moment of the wall clock: looked at again at least so often. */
	EXPIRY_LOOK_MS = 60000,
	AUTH_CODE_MAX = 32,
	AUTH_TEXT_MAX = 192,
};

/* ---- identity.c: tokens, and which of them are one ---- */

enum token_state {
	TOKEN_WAITING,  /* it claims to be an identity that others use: the server is asked */
	TOKEN_UNPROVEN, /* an identity of its own; no join has shown yet whether it is taken */
	TOKEN_ACCEPTED,
	TOKEN_REFUSED, /* in no list any more; its grants are about to end */
};

struct token {
	TAILQ_ENTRY(token) entry, in_identity, in_news;
	struct hub *hub;
	uint64_t number;
	struct secret *bytes;
	struct jwt jwt;
	struct identity *identity; /* NULL while waiting, and when refused */
	enum token_state state;
	bool is_believed; /* WAITING: the server takes it; another one that claims the same is still
			   * being tried */
	bool has_news;    /* in hub->tokens_with_news: its grants are to be told */
	char code[AUTH_CODE_MAX], text[AUTH_TEXT_MAX]; /* why it was refused */
	uid_t uid;                                     /* who brought it first */
	TAILQ_HEAD(, grant) grants;
	unsigned n_grants;
	struct trial *trial; /* that is to show whether the server takes it */
};

struct identity {
	TAILQ_ENTRY(identity) entry;
	struct hub *hub;
	uint64_t number; /* never used again */
	TAILQ_HEAD(, token) tokens;
	unsigned n_refs; /* of channels, bindings, feeds and joins */
	unsigned n_chans;
	uint64_t mark; /* report_know.c: the asker's user gave a token of it */
};

TAILQ_HEAD(token_list, token);
TAILQ_HEAD(identity_list, identity);

/* Finds or makes it. Return: 0; RTBP_E_BAD_TOKEN, _TOO_MANY, _BUSY with @ret_text, which @text may
 * hold. A new one without a grant is freed by token_check(). */
int token_get(struct hub *hub, struct rtbp_str bytes, uid_t uid, struct token **ret, char *text,
	      size_t size);
/* Frees it, if nobody has it any more and its identity need not keep it. */
void token_check(struct token *t);
/* There may be some that need not be kept: looked at at the turn's end, not in a walk. */
void tokens_look(struct hub *hub);
void tokens_trim(struct hub *hub);
/* The server took a join with it. */
void token_accepted(struct token *t);
/* The server will not have it: `code` and its words. */
void token_refused(struct token *t, const char *code, const char *text);
/* The identity's token with that number; NULL: gone, or the daemon's own. */
struct token *identity_find_token(const struct identity *i, uint64_t number);
/* What joins carry now; NULL: all that clients have given have ended. */
struct token *identity_token(const struct identity *i);
/* Whether the server took one of its tokens. */
bool identity_is_accepted(const struct identity *i);
struct identity *identity_ref(struct identity *i); /* NULL is fine */
void identity_unref(struct identity *i);
uint64_t identity_number(const struct identity *i); /* 0: the daemon's own */
/* What is joined gets the token that lives longer. */
void identity_push(struct identity *i);
const char *token_state_name(const struct token *t);

/* ---- auth.c: what peers bring ---- */

struct grant {
	TAILQ_ENTRY(grant) in_peer, in_token;
	struct peer *peer;
	char *topic;         /* NULL: for all topics without one of their own */
	struct token *token; /* NULL: it has ended, for the reason below; there is no way back to
			      * the daemon's identity but by the peer's own word */
	char code[AUTH_CODE_MAX], text[AUTH_TEXT_MAX];
	struct timer timer; /* its end; of an `auth` that waits its deadline, too */
	uint64_t deadline_ms;
	struct request request; /* an `auth` that waits */
	bool waiting;           /* request is in the peer's list */
};
TAILQ_HEAD(grant_list, grant);

void auth_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
/* The token of a hello. Return: false: answered with what is wrong with it. @ret: NULL: none was
 * given. */
bool auth_hello(struct peer *p, uint32_t id, struct rtbp_val token, struct grant **ret);
/* The member `token` of the answer to hello. */
void auth_pack(const struct grant *g, struct rtbp_buf *b);
/* Tokens with news: their grants. At the turn's end, because requests are carried out by it. */
void auth_run(struct hub *hub);
void auth_forget_peer(struct peer *p);
/* Whose identity a peer's request about this topic has. Return: 0; RTBP_E_BAD_TOKEN or _FORBIDDEN
 * with @ret_text. */
int peer_identity(struct peer *p, struct rtbp_str topic, struct identity **ret,
		  const char **ret_text);

/* ---- held.c: requests that wait for the peer's token ---- */

/* Whether this one has to wait. */
bool held_must(const struct peer *p, enum rtbp_method m);
void held_add(struct peer *p, enum rtbp_method m, uint32_t id, bool wants_answer,
	      struct rtbp_val params);
/* Carries out what is held, in its order, until a further token has to be waited for. */
void held_release(struct peer *p);
void held_free(struct request *r);
