/* SPDX-License-Identifier: MIT */
#pragma once
/* token_source: where the daemon's own token comes from, as token.c sees it: one of token_file.c,
 * token_command.c, token_refresh.c. */
#include <stdbool.h>
#include <stdint.h>

#include "realtime/keeper.h"

/* Up. Never from inside a call of the source. */
struct token_news {
	void (*fetched)(void *ctx, uint64_t nr, const struct keeper_news *news);
	/* There may be another token where it comes from. */
	void (*changed)(void *ctx);
	/* A trouble that came or (NULL, NULL) went: keeper_set_trouble(). */
	void (*trouble)(void *ctx, const char *code, const char *text);
	void *ctx;
};

struct token_source {
	const struct token_source_ops {
		/* As keeper_ops.fetch: news->fetched() with this number follows exactly once. */
		int (*fetch)(struct token_source *s, uint64_t nr, bool is_renewal);
		struct token_source *(*free)(struct token_source *s); /* returns NULL */
	} * ops;
	const char *name; /* "file", "command", "refresh" */
	bool is_watched;  /* keeper_conf.is_watched */
};
