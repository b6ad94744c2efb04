/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * token: the daemon's own token: a keeper (realtime/keeper.h), the source that the configuration
 * names, and the hub, which uses what the keeper adopts.
 *
 *   conf --> token_file | token_command | token_refresh --> keeper --> hub_set_token()
 *                                                           |   ^      hub_set_token_status()
 *                                                          log  +----- hub_ops.token_refused
 *
 * Where the source says that it is the API key that is refused, its file is read again.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct conf_text;
struct hub;
struct key;
struct loop;
struct token;
struct watch;
struct wire;
struct wire_answer;

/* All borrowed, for its life. @watch: NULL: files are not watched. @ret: NULL when the configuration
 * names no source. Return: 0; a negative errno with a sentence. */
int token_new(struct loop *loop, struct watch *watch, struct wire *wire, struct hub *hub,
	      struct key *key, const struct conf *conf, struct token **ret,
	      struct conf_text *ret_text);

/* Of these, each takes NULL for a daemon without a token of its own. */
struct token *token_free(struct token *t); /* returns NULL */
void token_start(struct token *t);
/* SIGHUP: the source is asked, whatever it said last. */
void token_reread(struct token *t);
/* From inside the hub, too: carried out at the turn's end. */
void token_on_refused(struct token *t, uint64_t serial, const char *code, const char *text);
/* Somebody asks for another one now. From inside the hub, too. */
void token_on_wanted(struct token *t);
/* The machine has slept: the loop's timers have not. */
void token_on_slept(struct token *t);

/* Whether this answer of wire_post() is one of ours: then it has been used. */
bool token_on_answered(struct token *t, uint64_t id, const struct wire_answer *answer);
