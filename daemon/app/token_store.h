/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * token_store: the refresh token over restarts.
 *
 * The operator's file (the seed) begins a session and is never written. Each refresh ends the token
 * that it was made with, so what the seed has become is kept in STATE_DIR/refresh-token: one line,
 * the SHA-256 of the seed in hex, a colon, the token. When the seed has that hash, the session goes
 * on with the line's token; another seed is a new session.
 *
 * Whoever uses a refresh token twice loses the session. So both are locked (flock) for the store's
 * life, and a second daemon with either of them refuses to start: with the same folder it would go on
 * with our token, with the same seed and a folder of its own it would begin the session a second time.
 * Who may read the seed (a group-readable one of root's) can lock it, too, and so stop a start: it
 * could as well use the token, and end the session.
 *
 * No crash loses the token: it is written beside the old one, synced, renamed, and the folder synced.
 * That is done where it is called, on thread M: 2 ms in the median, 40 ms at the worst of a thousand
 * (ext4 on a busy virtual disk), once in a token's life. A disk that hangs holds the daemon up as long;
 * a thread of its own would have to be waited for as well, because nothing may be done with what came
 * with the token before it is kept.
 *
 * A folder, or a lock in it, that was removed or replaced meanwhile is made and locked anew by the next
 * call.
 */
#include <stddef.h>

#include "base/secret.h"
#include "proto/rtbp_table.h"

struct token_store;

enum {
	TOKEN_STORE_BYTES_MAX = RTBP_TOKEN_MAX, /* of a refresh token */
	TOKEN_STORE_SAME = 1,
};

/**
 * token_store_new() - open and lock the folder
 * @dir: made with mode 0700 if it is not there; must belong to this user, and others may not write
 * to it
 * @seed: the operator's file; it need not be there
 *
 * Return: 0; a negative errno with a sentence that names the file; -EBUSY: another daemon has it.
 */
int token_store_new(const char *dir, const char *seed, struct token_store **ret, char *ret_text,
		    size_t text_size);
struct token_store *token_store_free(struct token_store *s); /* NULL is fine. Returns NULL. */

/**
 * token_store_load() - the token that the session goes on with; what is saved from now on descends from
 * the seed as it was read here
 *
 * Return: 0, and @ret is the caller's; TOKEN_STORE_SAME: the seed is the one of the last call that
 * returned 0, so that the caller knows more than the disk does; -ENOENT: there is neither a seed nor a state; -EBUSY: the
 * seed is another one, which another daemon has; another negative errno; each with a sentence.
 */
int token_store_load(struct token_store *s, struct secret **ret, char *ret_text, size_t text_size);

/* What the last load gave could not be taken: the session is the one before still, and the next load
 * gives it again. Only after a load that returned 0. */
void token_store_forget(struct token_store *s);

/* Keeps `token` in the place of the one before, which is lost only when this one is on the disk.
 * Return: 0; a negative errno with a sentence that says which step failed. */
int token_store_save(struct token_store *s, const struct secret *token, char *ret_text,
		     size_t text_size);
