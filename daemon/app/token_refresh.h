/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * token_refresh: the daemon's own token, renewed at Supabase Auth. The session is realtime/refresh.h;
 * here are its file and its folder (token_store.h), its requests and its time.
 *
 *   watch --> token_store_load() --> refresh_set_token()          another login: a new session
 *   refresh --ops->post--> request_refresh() --> wire --> token_refresh_answered() --> refresh
 *   refresh --ops->store--> token_store_save()
 */
#include "app/token_source.h"

struct conf;
struct conf_text;
struct loop;
struct watch;
struct wire;
struct wire_answer;

/* In the ids of wire_post(): those of the hub do not have it. */
#define TOKEN_POST_BIT (UINT64_C(1) << 63)

/* All borrowed. @watch: NULL: the file is not watched. Return: 0; a negative errno with a sentence:
 * the folder cannot be used, or another daemon uses it. */
int token_refresh_new(struct loop *loop, struct watch *watch, struct wire *wire,
		      const struct conf *conf, const struct token_news *news,
		      struct token_source **ret, struct conf_text *ret_text);
/* The answer to a post with an id that has TOKEN_POST_BIT. */
void token_refresh_answered(struct token_source *s, uint64_t id, const struct wire_answer *answer);
/* The machine slept: timers stood still meanwhile. */
void token_refresh_on_slept(struct token_source *s);
