/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * gotrue: what is said to Supabase Auth (GoTrue) to renew a token, and what its answers mean. Pure:
 * no clock, no state, no I/O.
 *
 * A refresh token can be used once: the answer brings the next one. The server gives the same answer
 * again to who presents the parent of the newest one (its answer got lost), and ends the whole
 * session when an older one comes. So after an answer that nobody could read the same token is
 * presented again, and nothing here ever advises to use a newer one that is not stored
 * (realtime/refresh.h).
 *
 * Denied is only what Auth says in words known here: the session is over, or the API key is wrong. Any
 * other refusal may be a gateway's (of the API key, too), a firewall's, a hook's that has its bad hour,
 * and is worth another try in a minute.
 *
 * No text has a word of the server's in it but an error code, and that only when it shares nothing
 * with the token that was sent: servers and what stands before them quote requests.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/secret.h"
#include "proto/rtbp_buf.h"
#include "proto/rtbp_table.h"
#include "proto/rtbp_val.h"

/* Below the address of Auth ("https://PROJECT/auth/v1"). The API key goes into the header `apikey`. */
#define GOTRUE_PATH         "/token?grant_type=refresh_token"
#define GOTRUE_CONTENT_TYPE "application/json;charset=UTF-8"

enum {
	GOTRUE_ANSWER_MAX = 256 * 1024, /* of the answer that are looked at */
	GOTRUE_REFRESH_MAX = RTBP_TOKEN_MAX,
	GOTRUE_RATE_S = 60,  /* after a 429 that says nothing */
	GOTRUE_OTHER_S = 60, /* after a refusal that is not understood */
};

struct gotrue_answer {
	unsigned status; /* HTTP status; 0: there was no answer */
	uint32_t retry_after_s;
	const char *body;
	size_t size;
	bool whole;       /* all of the body is there */
	const char *text; /* without a status: what happened, for people, without secrets */
};

struct gotrue_result {
	enum gotrue_got {
		GOTRUE_TOKENS,
		GOTRUE_TRANSIENT, /* try again, with the same token */
		GOTRUE_DENIED,    /* not until somebody changes something */
	} got;
	/* GOTRUE_TOKENS: the access token as it came (its form is for jwt.h to judge); a refresh token
	 * that is one printable word of at most GOTRUE_REFRESH_MAX bytes, so that it can be kept in a
	 * file; how long the access token lives (expires_in), 0: not said. expires_at is not looked
	 * at: it is the server's wall clock, and the token says the same. */
	struct rtbp_str access, refresh;
	uint64_t lives_ms;
	/* The others. */
	uint32_t retry_after_s; /* 0: not said */
	const char *code;       /* "login_needed", "bad_apikey"; "no_answer", "rate_limited",
				   "server_error", "bad_answer", "unexpected", "no_memory". Static */
	char text[256];         /* a sentence with what to do */

	struct rtbp_buf mp; /* what access and refresh point into */
};

/* The request's body for a refresh token. The caller wipes it (secret_wipe_buf()). Return: 0;
 * -ENOMEM, and nothing is in `ret`. */
int gotrue_body(const struct secret *token, struct rtbp_buf *ret);

/* @sent: the refresh token of the request. @ret: gotrue_done() frees it. */
void gotrue_read(const struct gotrue_answer *a, const struct secret *sent,
		 struct gotrue_result *ret);
/* Wipes and frees. */
void gotrue_done(struct gotrue_result *r);
