/* SPDX-License-Identifier: MIT */
#include "realtime/gotrue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "proto/rtbp_json.h"

enum {
	DEPTH_MAX = 256,  /* whatever a user's metadata is like */
	QUOTED_BYTES = 4, /* so many of the token's bytes in a row are no accident */
	CODE_MAX = 48,
};

/* Tokens live for hours; this only keeps sums from going over. */
#define LIVES_MAX_S (100.0 * 366 * 86400)

static const char login_needed[] = "login_needed", bad_apikey[] = "bad_apikey";

/* What ends a session or is wrong for good. Older servers have no code and say it in words. */
static const struct denial {
	const char *error_code, *words, *code, *text;
} denials[] = {
	{ "refresh_token_already_used", "Already Used", login_needed,
	  "the refresh token was used by another program as well, so its session was ended: log in "
	  "again, and give the new refresh token to this daemon alone" },
	{ "refresh_token_not_found", "Refresh Token Not Found", login_needed,
	  "the server does not know the refresh token (logged out, user deleted, or of another "
	  "project): log in again" },
	{ "session_not_found", "No Valid Session Found", login_needed,
	  "the session is gone (logged out, or the user was deleted): log in again" },
	{ "session_expired", "Session Expired", login_needed,
	  "the session has ended by the project's rules for sessions: log in again" },
	{ "user_banned", "User Banned", login_needed,
	  "the user is banned: have the ban lifted and log in again, or log in as another user" },
	{ "user_not_found", "User not found", login_needed,
	  "the user does not exist any more: log in as another user" },
	{ "validation_failed", "Refresh token is not valid", login_needed,
	  "what was given is no refresh token: log in again, and give the refresh_token of the "
	  "answer" },
	{ "bad_jwt", NULL, bad_apikey,
	  "the server does not take the API key: see that it is this project's" },
	{ "no_authorization", NULL, bad_apikey,
	  "the server misses an API key: see that it is this project's" },
	{ "invalid_grant", "Invalid Refresh Token", login_needed,
	  "the server does not take the refresh token any more: log in again" },
	{ "invalid_client", NULL, login_needed,
	  "the session belongs to an OAuth client, which this daemon is not: log in without one" },
};

/* ---- the request ---- */

int gotrue_body(const struct secret *token, struct rtbp_buf *ret)
{
	/* All the room at once: a buffer that grows leaves copies behind. */
	if (rtbp_buf_room(ret, secret_size(token) * 6 + 64)) {
		rtbp_buf_text(ret, "{\"refresh_token\":");
		rtbp_json_quote(ret, secret_bytes(token), secret_size(token));
		rtbp_buf_byte(ret, '}');
		return 0;
	}
	rtbp_buf_done(ret);
	return -ENOMEM;
}

/* ---- texts ---- */

/* Whether enough of the token is in it to tell something of it. */
static bool quotes(struct rtbp_str s, const struct secret *token)
{
	const char *bytes = secret_bytes(token);
	size_t n = secret_size(token), run = n < QUOTED_BYTES ? n : QUOTED_BYTES;

	for (size_t i = 0; i + run <= n; i++) {
		if (memmem(s.p, s.size, bytes + i, run))
			return true;
	}
	return false;
}

/* An error code is a word in lower case; nothing else of the server's is shown. */
static bool is_code(struct rtbp_str s)
{
	if (s.size == 0 || s.size > CODE_MAX)
		return false;
	for (size_t i = 0; i < s.size; i++) {
		if (!(s.p[i] >= 'a' && s.p[i] <= 'z') && !(s.p[i] >= '0' && s.p[i] <= '9') &&
		    s.p[i] != '_')
			return false;
	}
	return true;
}

static void say(struct gotrue_result *r, const char *code, unsigned status, struct rtbp_str word,
		const char *text)
{
	r->code = code;
	snprintf(r->text, sizeof(r->text), "HTTP status %u%s%.*s: %s", status,
		 word.size ? ", " : "", (int)word.size, word.size ? word.p : "", text);
}

static const struct rtbp_str no_word = { NULL, 0 };

/* ---- tokens ---- */

/* What is kept in a file as one word must be one. */
static bool is_word(struct rtbp_str s)
{
	if (s.size == 0 || s.size > GOTRUE_REFRESH_MAX)
		return false;
	for (size_t i = 0; i < s.size; i++) {
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return false;
	}
	return true;
}

static uint64_t life_of(struct rtbp_val v)
{
	int64_t n;
	double d;

	if (rtbp_get_int(v, &n))
		d = (double)n;
	else if (!rtbp_get_float(v, &d))
		return 0;
	if (!(d > 0))
		return 0;
	return (uint64_t)((d < LIVES_MAX_S ? d : LIVES_MAX_S) * 1000);
}

/* The body as a value; absent if it is no JSON, or there was no memory (r->mp.error). */
static struct rtbp_val parse(const struct gotrue_answer *a, struct gotrue_result *r)
{
	int e;

	/* All the room at once, for the copies that it would leave behind (of two bytes, "0,", may
	 * become one, of three, "-0,", nine). */
	if (!a->size || a->size > GOTRUE_ANSWER_MAX || !rtbp_buf_room(&r->mp, a->size * 3 + 64))
		return (struct rtbp_val){ NULL, 0 };
	e = rtbp_json_to_mp(a->body, a->size, DEPTH_MAX, &r->mp, NULL);
	if (e == 0)
		return (struct rtbp_val){ r->mp.data, r->mp.size };
	if (e == -ENOMEM)
		r->mp.error = e;
	return (struct rtbp_val){ NULL, 0 };
}

static struct rtbp_str string_of(struct rtbp_val map, const char *key)
{
	struct rtbp_str s = { NULL, 0 };

	(void)rtbp_get_str(rtbp_find(map, key, strlen(key)), &s);
	return s;
}

static void read_tokens(const struct gotrue_answer *a, struct gotrue_result *r)
{
	struct rtbp_val v = { NULL, 0 };

	if (!a->whole || a->size > GOTRUE_ANSWER_MAX) {
		say(r, "bad_answer", a->status, no_word,
		    a->size >= GOTRUE_ANSWER_MAX
			    ? "the answer is longer than 256 KiB: keep less in the user's metadata"
			    : "the answer was cut off on its way");
		return;
	}
	v = parse(a, r);
	r->access = string_of(v, "access_token");
	r->refresh = string_of(v, "refresh_token");
	if (r->mp.error == -ENOMEM) {
		say(r, "no_memory", a->status, no_word, "the daemon is out of memory");
	} else if (!rtbp_is(v, RTBP_MAP)) {
		say(r, "bad_answer", a->status, no_word,
		    "the answer is no JSON object: see auth_url (rtbridged --check shows the "
		    "address)");
	} else if (!r->access.size || !is_word(r->refresh)) {
		say(r, "bad_answer", a->status, no_word,
		    "the answer has no access_token and refresh_token that could be used: see "
		    "auth_url (rtbridged --check shows the address)");
	} else {
		r->got = GOTRUE_TOKENS;
		r->lives_ms = life_of(rtbp_find(v, "expires_in", 10));
	}
}

/* ---- refusals ---- */

/* The newer API's `code` is a word, the older one's a number beside `error_code`. */
static struct rtbp_str error_code_of(struct rtbp_val v)
{
	static const char *const keys[] = { "error_code", "code", "error" };
	struct rtbp_str s;

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		s = string_of(v, keys[i]);
		if (is_code(s))
			return s;
	}
	return no_word;
}

static struct rtbp_str words_of(struct rtbp_val v)
{
	struct rtbp_str s = string_of(v, "error_description");

	if (!s.size)
		s = string_of(v, "msg");
	return s.size ? s : string_of(v, "message");
}

/* With a code of its own a refusal is judged by that alone; "invalid_grant" is what servers without
 * such codes say of all. */
static const struct denial *find_denial(struct rtbp_str code, struct rtbp_str words)
{
	const struct denial *end = denials + sizeof(denials) / sizeof(*denials);
	bool by_words = words.size && (!code.size || rtbp_str_is(code, "invalid_grant"));

	for (const struct denial *d = denials; by_words && d < end; d++) {
		if (d->words && memmem(words.p, words.size, d->words, strlen(d->words)))
			return d;
	}
	for (const struct denial *d = denials; d < end; d++) {
		if (rtbp_str_is(code, d->error_code))
			return d;
	}
	return NULL;
}

/* 4xx, but those that say "later" by their number. */
static void read_refusal(const struct gotrue_answer *a, const struct secret *sent,
			 struct gotrue_result *r)
{
	struct rtbp_val v = parse(a, r);
	struct rtbp_str code = error_code_of(v), words = words_of(v), word = no_word;
	const struct denial *d = find_denial(code, words);

	if (d) {
		r->got = GOTRUE_DENIED;
		word = (struct rtbp_str){ d->error_code, strlen(d->error_code) };
		say(r, d->code, a->status, word, d->text);
		return;
	}
	r->retry_after_s = a->retry_after_s > GOTRUE_OTHER_S ? a->retry_after_s : GOTRUE_OTHER_S;
	if (a->status == 401 && !code.size && words.size) {
		/* What stands before Auth: {"message": "Invalid API key"}, now and then also when it
		 * has a bad hour of its own. */
		say(r, bad_apikey, a->status, no_word,
		    "the API key in apikey_file is refused: see that it is this project's and has "
		    "not been "
		    "disabled");
	} else {
		if (code.size && !quotes(code, sent))
			word = code;
		say(r, "unexpected", a->status, word,
		    rtbp_is(v, RTBP_MAP)
			    ? "Auth does not renew the token now: see the project's Auth logs"
			    : "no answer of Auth: see auth_url (rtbridged --check shows the "
			      "address), and what stands between");
	}
}

void gotrue_read(const struct gotrue_answer *a, const struct secret *sent,
		 struct gotrue_result *ret)
{
	unsigned s = a->status;

	*ret = (struct gotrue_result){ .got = GOTRUE_TRANSIENT,
				       .retry_after_s = a->retry_after_s,
				       .code = "" };
	if (s == 0) {
		ret->code = "no_answer";
		snprintf(ret->text, sizeof(ret->text),
			 "Auth cannot be asked: %.180s; see auth_url, the network and the proxy",
			 a->text);
		text_clean(ret->text);
	} else if (s >= 200 && s < 300) {
		read_tokens(a, ret);
	} else if (s == 429) {
		if (!ret->retry_after_s)
			ret->retry_after_s = GOTRUE_RATE_S;
		say(ret, "rate_limited", s, no_word,
		    "too many requests for tokens: see who else uses Auth from this address, and "
		    "the project's rate limits");
	} else if (s >= 500 || s == 408 || s == 409 || s == 425) {
		say(ret, "server_error", s, no_word, "Auth has a trouble of its own");
	} else {
		read_refusal(a, sent, ret);
	}
	if (ret->got != GOTRUE_TOKENS) {
		secret_wipe_buf(&ret->mp);
		ret->access = ret->refresh = no_word;
	}
}

void gotrue_done(struct gotrue_result *r)
{
	secret_wipe_buf(&r->mp);
	r->access = r->refresh = no_word;
}
