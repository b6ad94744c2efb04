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
 * Whoever uses a refresh token twice loses the session. So both files are locked (flock) for the
 * store's life, and a second daemon with either of them refuses to start.
 *
 * No crash loses the token: it is written beside the old one, synced, renamed, and the folder synced.
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

/* Keeps `token` in the place of the one before, which is lost only when this one is on the disk.
 * Return: 0; a negative errno with a sentence that says which step failed. */
int token_store_save(struct token_store *s, const struct secret *token, char *ret_text,
		     size_t text_size);
