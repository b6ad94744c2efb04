/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * refresh: the daemon's session with Supabase Auth, as the source of a keeper (realtime/keeper.h).
 * Sans-I/O: it holds the one refresh token, says what to post and what to store, and reads what
 * comes back (realtime/gotrue.h).
 *
 *   keeper: ops->fetch --> refresh_fetch() --> ops->post --> Auth
 *                                                             |
 *   keeper_on_fetched() <-- ops->give <-- ops->store <-- refresh_on_answer()
 *
 * Each use of a refresh token gives another one. Auth forgives one step: who presents the parent of
 * the newest token gets the newest again. It does not forgive two: a token that is older ends the
 * session. From that:
 *   - the new token is stored before anything is done with what came with it;
 *   - one that could not be stored is not used. The access token that came with it is given all the
 *     same, with a trouble ("cannot_store"), and storing is tried again, after REFRESH_STORE_MIN_MS
 *     doubling to REFRESH_STORE_MAX_MS, and by each fetch, which fails if it fails. So what is on the
 *     disk is never more than one step behind, whenever the daemon dies;
 *   - after an answer that was lost or cannot be read the same token is presented again.
 *
 * Posts have numbers of their own. With another token from outside, the answer that is still on its
 * way belongs to a session that is none of ours any more: it is dropped, whatever it brings.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/secret.h"
#include "realtime/gotrue.h"
#include "realtime/keeper.h"

struct refresh;

enum {
	REFRESH_STORE_MIN_MS = 1000,
	REFRESH_STORE_MAX_MS = 60000,
};

/* Of the calls below only refresh_fetch() may be made from inside these, and that from give() (the
 * keeper may want another one at once). */
struct refresh_ops {
	/* Begin to post this body to GOTRUE_PATH; refresh_on_answer() with this number follows exactly
	 * once, within the time that a fetch may take, not from inside. `body` is borrowed, and wiped
	 * after the call. Return: 0; a negative errno: it was not sent. */
	int (*post)(void *ctx, uint64_t nr, const void *body, size_t size);
	/* Keep it in a way that a crash cannot undo, in place of the one before. When it fails, either
	 * of the two may be there. Return: 0; a negative errno. */
	int (*store)(void *ctx, const struct secret *token);
	/* For keeper_on_fetched(), with the keeper's number. */
	void (*give)(void *ctx, uint64_t nr, const struct keeper_news *news);
	/* For keeper_set_trouble(). May come from inside refresh_fetch(). */
	void (*trouble)(void *ctx, const char *code, const char *text);
};

/* @ops, @clock: borrowed. NULL without memory. */
struct refresh *refresh_new(const struct clock *clock, const struct refresh_ops *ops, void *ctx);
struct refresh *refresh_free(struct refresh *r); /* no calls. Returns NULL. */

/**
 * refresh_set_token() - what somebody logged in with, or what was stored
 * @is_stored: it can be read again after a crash (it comes from a file that stays). If not, it is
 * stored before it is used.
 *
 * A fetch that is on its way begins anew with it. The bytes that it has already change nothing but
 * @is_stored. Return: 0; -ENOMEM: nothing has changed.
 */
int refresh_set_token(struct refresh *r, const char *bytes, size_t size, bool is_stored);

/* For keeper_ops.fetch. A fetch that is still on its way is forgotten. Return: 0; a negative errno. */
int refresh_fetch(struct refresh *r, uint64_t nr);

/* The answer to a post. Borrowed. */
void refresh_on_answer(struct refresh *r, uint64_t nr, const struct gotrue_answer *answer);

/* clock_boot() time; UINT64_MAX: none. Ask again after each call. */
uint64_t refresh_deadline(const struct refresh *r);
void refresh_tick(struct refresh *r);

/* Whether the token that it has is stored; false without one. */
bool refresh_is_stored(const struct refresh *r);
