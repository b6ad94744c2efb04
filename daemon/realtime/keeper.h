/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * keeper: the daemon's own token, kept fresh. Sans-I/O: where tokens come from is behind ops, time
 * comes from the clock, the owner calls keeper_tick() when keeper_deadline() is reached.
 *
 *                        ops->fetch --> a file, a command, GoTrue (app/token*.c)
 *                            ^               |
 *   deadline, keeper_ask() --+               v keeper_on_fetched()
 *   keeper_refused() --------+        form checked (jwt) --> ops->adopt --> hub_set_token()
 *
 * One fetch at a time: what is asked for meanwhile is answered by the next one, and only if it still
 * matters then (who wanted a newer token has it when the one on its way brings one). Each is
 * numbered; an answer with another number is dropped.
 *
 *   WAITING --got--> GOOD --lead reached--> (fetch) --got--> GOOD
 *      ^               |                       \--failed--> LATE --got--> GOOD
 *      |               \--end of the token, the server's refusal--> BAD --got another--> GOOD
 *      \--failed: again after full jitter 1 s to 30 s; DENIED: not before keeper_ask()
 *
 * When: `lead_ms` or a tenth of the token's life before its end, whichever is longer, and up to 60 s
 * earlier by chance, but never in the first half of its life. Failures: full jitter, 1 s doubling to
 * 30 s, and after KEEPER_SERIES of them in a row a rest of KEEPER_REST_MS. A source that has the same
 * token still is asked again after KEEPER_REST_MS, or at the token's end if that comes first.
 *
 * The life of a token runs on a clock that goes on while the machine sleeps. How much of it is left
 * when it comes is asked of those who can know, so that a good token is never refused because the
 * wall clock is wrong (by minutes, or at 1970), and one that has ended is rarely taken for good. The
 * first that applies:
 *   - the source said it (lives_ms): so much, but not more than exp - iat, from the moment when the
 *     fetch began. The wall clock has no say.
 *   - `iat` is in the future by the wall clock, which is behind, then: exp - iat.
 *   - exp - now by the wall clock, if that is more than nothing. Of a token made minutes ago (`iat`),
 *     too: a file may have held it for so long, and if it is the wall clock that is ahead, its
 *     renewal comes earlier by that, no more.
 *   - nothing is left by the wall clock, but `iat` is no older than KEEPER_FRESH_MS: exp - iat. If the
 *     clock is right after all, the server will say so.
 *   - it has ended.
 *
 * What the server has refused is fetched anew once, at once. If the same bytes come again, or the
 * next ones are refused as well, it is KEEPER_SLOW_MIN_MS doubling to KEEPER_SLOW_MAX_MS. A token
 * that was good for KEEPER_SLOW_MAX_MS, or a source that has changed, starts that anew.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/secret.h"
#include "realtime/jwt.h"

struct keeper;

enum {
	KEEPER_JITTER_MS = 60000,
	KEEPER_RETRY_MIN_MS = 1000,
	KEEPER_RETRY_MAX_MS = 30000,
	KEEPER_SERIES = 10,
	KEEPER_REST_MS = 60000,
	KEEPER_SLOW_MIN_MS = 60000,
	KEEPER_SLOW_MAX_MS = 15 * 60000,
	KEEPER_FRESH_MS = 10 * 60000,
};

enum keeper_state {
	KEEPER_WAITING, /* none has come yet */
	KEEPER_GOOD,
	KEEPER_LATE,   /* the token is still good, and the last attempt to renew it has failed */
	KEEPER_BAD,    /* the last one has ended or was refused, and no other has come */
	KEEPER_DENIED, /* the source will give none until somebody changes it (a login is needed);
			  the last token may still be good: status.has_token */
};

struct keeper_status {
	enum keeper_state state;
	bool has_token, is_fetching;
	int64_t since_wall_ms;       /* of the state */
	char role[JWT_ROLE_MAX + 1]; /* of the token; "" without one */
	int64_t ends_in_ms;          /* of the token; -1 without one */
	int64_t next_try_ms;         /* from now; 0 while fetching; -1: when somebody changes
					something */
	/* Why LATE, BAD, DENIED, or still WAITING; with GOOD: a trouble that is no failure (keeper_news,
	 * keeper_set_trouble()). A word, and a sentence with what to do, never a secret; "" and "". */
	char code[32];
	char text[256];
	uint64_t fetches, failures; /* in all */
};

/* What a fetch brought. Everything is borrowed for the call. A token that cannot be read, has ended,
 * or finds no memory counts as KEEPER_FAILED; the one before stays. */
struct keeper_news {
	enum keeper_got {
		KEEPER_TOKEN,   /* `token` */
		KEEPER_FAILED,  /* not now: try again */
		KEEPER_REFUSED, /* not until somebody changes something */
	} got;
	const char *token;
	size_t size;
	/* From the beginning of the fetch, as the source said; 0: as the token says. */
	uint64_t lives_ms;
	uint32_t retry_after_s; /* FAILED: not before (an hour at most, backoff.h); 0: not said */
	/* A word and a sentence, for KEEPER_FAILED and _REFUSED, and for a KEEPER_TOKEN with a
	 * trouble that stays (what it was renewed with cannot be stored): shown until the next news or
	 * keeper_set_trouble(). Copied; made one clean line. */
	const char *code, *text;
};

/* Of the calls below only keeper_get_status() and keeper_set_trouble() may be made from inside these. */
struct keeper_ops {
	/* Begin to fetch; keeper_on_fetched() with this number follows exactly once, not from inside.
	 * @is_renewal: false: the first one, or one for a changed source. Return: 0; a negative errno
	 * (counts as a failure). */
	int (*fetch)(void *ctx, uint64_t nr, bool is_renewal);
	/* Joins use this from now on. `token` and `jwt` are borrowed for the call; `serial` grows with
	 * each call; `lives_ms` from now. NULL, NULL: there is none any more, joins that need it wait. */
	void (*adopt)(void *ctx, const struct secret *token, const struct jwt *jwt, uint64_t serial,
		      uint64_t lives_ms);
	/* The status is another one (all but ends_in_ms, next_try_ms and the counters). */
	void (*changed)(void *ctx);
};

struct keeper_conf {
	uint64_t lead_ms;
	uint64_t seed;
	/* The source says by itself when there is another token (a watched file): to find the same one
	 * from the lead on is its everyday life and no failure, until the token has ended. It is asked
	 * each KEEPER_REST_MS from then on all the same, in case the news got lost. */
	bool is_watched;
};

/* @ops, @clock: borrowed. NULL without memory. */
struct keeper *keeper_new(const struct keeper_conf *conf, const struct clock *clock,
			  const struct keeper_ops *ops, void *ctx);
struct keeper *keeper_free(struct keeper *k); /* no calls. Returns NULL. */

/* Begins. */
void keeper_start(struct keeper *k);
/* Somebody changed something (the file, the configuration: @is_renewal false) or asks for a new one:
 * fetch now, also after KEEPER_DENIED. While one is on its way another one follows it. */
void keeper_ask(struct keeper *k, bool is_renewal);
/* The server refused the token with this serial: it is gone. Nothing if it is an older one. */
void keeper_refused(struct keeper *k, uint64_t serial, const char *code, const char *text);
void keeper_on_fetched(struct keeper *k, uint64_t nr, const struct keeper_news *news);
/* A trouble that came or (NULL, NULL) went between two fetches, and that is no failure of them. */
void keeper_set_trouble(struct keeper *k, const char *code, const char *text);

/* clock_boot() time; UINT64_MAX: none. Ask again after each call, and tick after a suspend. */
uint64_t keeper_deadline(const struct keeper *k);
void keeper_tick(struct keeper *k);

void keeper_get_status(const struct keeper *k, struct keeper_status *ret);
/* "waiting", "good", "late", "bad", "denied". */
const char *keeper_state_name(enum keeper_state state);
