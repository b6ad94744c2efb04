/* SPDX-License-Identifier: MIT */
#include "app/token_refresh.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/conf.h"
#include "app/request.h"
#include "app/token_store.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/watch.h"
#include "realtime/refresh.h"
#include "wire/wire.h"

enum { LOOK_MS = 60000 };

struct token_refresh {
	struct token_source source;
	struct loop *loop;
	struct wire *wire;
	const struct conf *conf;
	const struct token_news *news;
	struct token_store *store;
	struct refresh *refresh;
	struct watch_file *watched;
	struct loop_timer timer; /* refresh_deadline() */
	struct loop_timer look;  /* the file, while nothing comes of asking */
	struct loop_task task;   /* a fetch is not answered from inside */
	uint64_t nr;
	bool is_watched; /* the file. The source is not (keeper.h): it says nothing of the next token */
	bool has_token, is_denied;
	int error; /* of the last load; 0: none */
	char text[256], logged[256];
};

static void set_timer(struct token_refresh *t)
{
	uint64_t at = refresh_deadline(t->refresh), now = clock_boot(&clock_system);

	if (at == UINT64_MAX)
		loop_timer_clear(&t->timer);
	else
		loop_timer_set(&t->timer, at > now ? at - now : 0);
}

static void refresh_on_timer(void *ctx)
{
	struct token_refresh *t = ctx;

	refresh_tick(t->refresh);
	set_timer(t);
}

/* Not every way in which a file comes to be there is seen by a watch (another host's, a mount, a lock
 * that is gone), and a session that is over waits for one. Before it has begun the keeper asks. */
static void look_again(struct token_refresh *t)
{
	if (t->has_token && (t->is_denied || t->error < 0))
		loop_timer_set(&t->look, LOOK_MS);
	else
		loop_timer_clear(&t->look);
}

/* ---- the session's ops ---- */

static int op_post(void *ctx, uint64_t nr, const void *body, size_t size)
{
	struct token_refresh *t = ctx;
	int r = request_refresh(t->wire, t->conf, nr | TOKEN_POST_BIT, body, size);

	return r > 0 ? -EAGAIN : r;
}

static int op_store(void *ctx, const struct secret *token)
{
	struct token_refresh *t = ctx;
	char text[384];
	int r = token_store_save(t->store, token, text, sizeof(text));

	if (r < 0)
		log_error("the refresh token is not kept: %s", text);
	return r;
}

static void op_give(void *ctx, uint64_t nr, const struct keeper_news *news)
{
	struct token_refresh *t = ctx;

	t->is_denied = news->got == KEEPER_REFUSED;
	look_again(t);
	t->news->fetched(t->news->ctx, nr, news);
}

static void op_trouble(void *ctx, const char *code, const char *text)
{
	struct token_refresh *t = ctx;

	t->news->trouble(t->news->ctx, code, text);
}

/* ---- the file ---- */

/* Each look finds the same. */
static void log_error_of_load(struct token_refresh *t)
{
	if (t->error == 0) {
		t->logged[0] = '\0';
	} else if (t->has_token && strcmp(t->text, t->logged) != 0) {
		memcpy(t->logged, t->text, sizeof(t->logged));
		log_warning("%s; until then the session goes on as it is", t->text);
	}
}

/* Return: whether there is another token than before. */
static bool load(struct token_refresh *t)
{
	struct secret *token = NULL;
	int r = token_store_load(t->store, &token, t->text, sizeof(t->text));

	t->error = r < 0 ? r : 0;
	if (r == 0) {
		t->error = refresh_set_token(t->refresh, secret_bytes(token), secret_size(token),
					     true);
		if (t->error < 0) {
			token_store_forget(t->store);
			snprintf(t->text, sizeof(t->text), "the daemon is out of memory");
		}
		secret_free(token);
		t->has_token |= t->error == 0;
	}
	log_error_of_load(t);
	return r == 0 && t->error == 0;
}

static void file_on_change(void *ctx)
{
	struct token_refresh *t = ctx;

	if (load(t)) {
		log_notice("%s holds another refresh token: the session begins anew with it",
			   t->conf->refresh_token_file);
		t->news->changed(t->news->ctx);
	} else if (t->error < 0 && !t->has_token) {
		t->news->changed(t->news->ctx); /* says what is wrong now */
	}
	look_again(t);
	set_timer(t);
}

/* ---- as a source ---- */

static void give_error(void *ctx)
{
	struct token_refresh *t = ctx;
	struct keeper_news news = {
		/* It may come to be there in a way that the watch does not see. */
		.got = KEEPER_FAILED,
		.retry_after_s = t->is_watched ? LOOK_MS / 1000 : 0,
		.code = t->error == -ENOENT ? "no_token" : "bad_file",
		.text = t->text,
	};

	t->news->fetched(t->news->ctx, t->nr, &news);
}

static int refresh_source_fetch(struct token_source *s, uint64_t nr, bool is_renewal)
{
	struct token_refresh *t = (struct token_refresh *)s;
	int r;

	t->nr = nr;
	if (!is_renewal || !t->has_token) {
		(void)load(t);
		look_again(t);
	}
	if (!t->has_token) {
		loop_task_add(t->loop, &t->task);
		return 0;
	}
	r = refresh_fetch(t->refresh, nr);
	set_timer(t);
	return r;
}

void token_refresh_answered(struct token_source *s, uint64_t id, const struct wire_answer *answer)
{
	struct token_refresh *t = (struct token_refresh *)s;
	struct gotrue_answer a;

	request_refresh_answer(answer, &a);
	refresh_on_answer(t->refresh, id & ~TOKEN_POST_BIT, &a);
	set_timer(t);
}

void token_refresh_on_slept(struct token_source *s)
{
	set_timer((struct token_refresh *)s);
}

static struct token_source *refresh_source_free(struct token_source *s)
{
	struct token_refresh *t = (struct token_refresh *)s;

	watch_remove(t->watched);
	loop_task_cancel(t->loop, &t->task);
	loop_timer_done(&t->timer);
	loop_timer_done(&t->look);
	refresh_free(t->refresh);
	token_store_free(t->store);
	free(t);
	return NULL;
}

int token_refresh_new(struct loop *loop, struct watch *watch, struct wire *wire,
		      const struct conf *conf, const struct token_news *news,
		      struct token_source **ret, struct conf_text *ret_text)
{
	static const struct token_source_ops ops = { .fetch = refresh_source_fetch,
						     .free = refresh_source_free };
	static const struct refresh_ops session_ops = {
		.post = op_post, .store = op_store, .give = op_give, .trouble = op_trouble
	};
	struct token_refresh *t = calloc(1, sizeof(*t));
	int r = -ENOMEM;

	if (!t)
		return -ENOMEM;
	t->source = (struct token_source){ .ops = &ops, .name = "refresh" };
	t->loop = loop;
	t->wire = wire;
	t->conf = conf;
	t->news = news;
	t->task = (struct loop_task){ .fn = give_error, .ctx = t };
	t->refresh = refresh_new(&clock_system, &session_ops, t);
	if (t->refresh)
		r = loop_timer_init(loop, &t->timer, refresh_on_timer, t);
	if (r == 0)
		r = loop_timer_init(loop, &t->look, file_on_change, t);
	if (r == 0)
		r = token_store_new(conf->state_dir, conf->refresh_token_file, &t->store,
				    ret_text->text, sizeof(ret_text->text));
	if (r < 0) {
		refresh_source_free(&t->source);
		return r;
	}
	t->is_watched = watch && watch_add(watch, conf->refresh_token_file, file_on_change, t,
					   &t->watched) == 0;
	*ret = &t->source;
	return 0;
}
