/* SPDX-License-Identifier: MIT */
#include "app/token_command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/log.h"
#include "base/loop.h"
#include "proto/rtbp_table.h"

struct token_command {
	struct token_source source;
	struct loop *loop;
	const char *command;
	uint32_t timeout_ms;
	const struct token_news *news;
	struct child *child;
	struct loop_task task; /* a fetch is not answered from inside */
	uint64_t nr;
	char line[CHILD_LINE_MAX + 1]; /* of stderr, as it was logged last */
};

/* White space around the token is not counted: this much of it. */
enum { WHITE_MAX = 256 };

static void log_line_of(struct token_command *t, const struct child_result *result)
{
	/* A command that fails says the same again and again. */
	if (!result->line[0] || strcmp(result->line, t->line) == 0)
		return;
	snprintf(t->line, sizeof(t->line), "%s", result->line);
	if (result->end == CHILD_DONE)
		log_info("token_command says: %s", t->line);
	else
		log_warning("token_command says: %s", t->line);
}

/* The end of a sentence: what to do. */
static const char *advice(const struct child_result *result)
{
	if (result->end == CHILD_TOO_MUCH)
		return "it must print the token alone";
	if (result->end == CHILD_TIMEOUT)
		return "see what it waits for, or give it more time (token_timeout)";
	return "run it by hand as the daemon's user; what it says on stderr is in the log";
}

static void command_on_end(void *ctx, const struct child_result *result)
{
	struct token_command *t = ctx;
	struct child *done = t->child; /* the next one may begin from inside */
	struct keeper_news news = { .got = KEEPER_FAILED, .code = "command_failed" };
	char text[256];

	t->child = NULL;
	log_line_of(t, result);
	news.text = text;
	if (result->end != CHILD_DONE) {
		snprintf(text, sizeof(text), "token_command %s; %s", result->text, advice(result));
	} else if (!secret_trim(result->output)) {
		snprintf(text, sizeof(text),
			 "token_command printed %s; it must print the token alone",
			 secret_size(result->output) == 0 ? "nothing" : "more than one word");
	} else {
		news = (struct keeper_news){ .got = KEEPER_TOKEN,
					     .token = secret_bytes(result->output),
					     .size = secret_size(result->output) };
		t->line[0] = '\0';
	}
	t->news->fetched(t->news->ctx, t->nr, &news);
	child_free(done);
}

static void give_busy(void *ctx)
{
	struct token_command *t = ctx;
	struct keeper_news news = {
		.got = KEEPER_FAILED,
		.code = "command_failed",
		.text = "token_command is not run: too many processes of it cannot be ended; the "
			"log has "
			"their numbers, see what holds them up",
	};

	t->news->fetched(t->news->ctx, t->nr, &news);
}

static int command_fetch(struct token_source *s, uint64_t nr, bool is_renewal)
{
	struct token_command *t = (struct token_command *)s;
	struct child_conf conf = {
		.command = t->command,
		.max_bytes = RTBP_TOKEN_MAX + WHITE_MAX,
		.timeout_ms = t->timeout_ms,
	};
	int r;

	(void)is_renewal;
	t->nr = nr;
	r = child_new(t->loop, &conf, command_on_end, t, &t->child);
	if (r != -EBUSY)
		return r;
	loop_task_add(t->loop, &t->task);
	return 0;
}

static struct token_source *command_free(struct token_source *s)
{
	struct token_command *t = (struct token_command *)s;

	child_free(t->child);
	loop_task_cancel(t->loop, &t->task);
	free(t);
	return NULL;
}

struct token_source *token_command_new(struct loop *loop, const char *command, uint32_t timeout_ms,
				       const struct token_news *news)
{
	static const struct token_source_ops ops = { .fetch = command_fetch, .free = command_free };
	struct token_command *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->source.ops = &ops;
	t->source.name = "command";
	t->task = (struct loop_task){ .fn = give_busy, .ctx = t };
	t->loop = loop;
	t->command = command;
	t->timeout_ms = timeout_ms;
	t->news = news;
	return &t->source;
}
