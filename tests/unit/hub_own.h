/* SPDX-License-Identifier: MIT */
#pragma once
/* The hub's owner, as far as it keeps the daemon's own token: played by the test. */
#include "hub_fixture.h"

/* What the hub asked its owner for. */
struct owner {
	unsigned n_refused, n_key_refused, n_wanted;
	uint64_t serial; /* of the token that was refused last */
	char code[40], text[300];
	bool renews; /* each refusal is answered at once with the next token, from inside */
};
extern struct owner owner;

/* The hub's ops. */
void owner_token_refused(void *ctx, uint64_t serial, const char *code, const char *text);
void owner_key_refused(void *ctx);
void owner_token_wanted(void *ctx);

/* A rig whose daemon has a token of its own, and has none yet; three further links may be opened.
 * @more: changes the configuration further; NULL: nothing. Online. */
void own_start(void (*more)(struct hub_conf *conf));
void own_end(void);
/* "own-SERIAL", good for `lives_ms`; the turn is ended. */
void own_give(uint64_t serial, uint64_t lives_ms);
/* There is none any more. */
void own_take(uint64_t serial);
/* How it stands; the turn is ended. @text "": no trouble. */
void own_says(const char *state, int64_t next_try_ms, const char *code, const char *text);
/* What joins and messages carry: "own-SERIAL". */
const char *own_name(uint64_t serial);
/* The server ends the channel of this join, with that word about the token. */
void own_closed(struct line *join, const char *words);

#define OWN_EXPIRED "Token has expired 1 seconds ago"
