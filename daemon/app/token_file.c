/* SPDX-License-Identifier: MIT */
#include "app/token_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/secret.h"
#include "base/watch.h"
#include "proto/rtbp_table.h"

struct token_file {
	struct token_source source;
	struct loop *loop;
	const char *path;
	const struct token_news *news;
	struct watch_file *watched;
	struct loop_task task; /* a fetch is not answered from inside */
	uint64_t nr;
};

static void file_read(void *ctx)
{
	struct token_file *f = ctx;
	struct keeper_news news = { .got = KEEPER_TOKEN };
	struct secret *token = NULL;
	char text[384];
	size_t n;
	int r = secret_read_file(f->path, RTBP_TOKEN_MAX, &token, text, sizeof(text));

	if (r == 0) {
		news.token = secret_bytes(token);
		news.size = secret_size(token);
	} else {
		/* It may be between two tokens, or about to come. */
		news.got = KEEPER_FAILED;
		news.code = r == -ENOENT ? "no_token" : "bad_file";
		news.text = text;
		n = strlen(text);
		if (r == -ENOENT)
			snprintf(text + n, sizeof(text) - n, "; write the token into it");
	}
	f->news->fetched(f->news->ctx, f->nr, &news);
	secret_free(token);
}

static int file_fetch(struct token_source *s, uint64_t nr, bool is_renewal)
{
	struct token_file *f = (struct token_file *)s;

	(void)is_renewal;
	f->nr = nr;
	loop_task_add(f->loop, &f->task);
	return 0;
}

static void file_on_change(void *ctx)
{
	struct token_file *f = ctx;

	f->news->changed(f->news->ctx);
}

static struct token_source *file_free(struct token_source *s)
{
	struct token_file *f = (struct token_file *)s;

	watch_remove(f->watched);
	loop_task_cancel(f->loop, &f->task);
	free(f);
	return NULL;
}

struct token_source *token_file_new(struct loop *loop, struct watch *watch, const char *path,
				    const struct token_news *news)
{
	static const struct token_source_ops ops = { .fetch = file_fetch, .free = file_free };
	struct token_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->source.ops = &ops;
	f->source.name = "file";
	f->loop = loop;
	f->path = path;
	f->news = news;
	f->task = (struct loop_task){ .fn = file_read, .ctx = f };
	f->source.is_watched = watch && watch_add(watch, path, file_on_change, f, &f->watched) == 0;
	return &f->source;
}
