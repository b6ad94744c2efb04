/* SPDX-License-Identifier: MIT */
#include "app/token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "app/conf.h"
#include "app/key.h"
#include "app/token_command.h"
#include "app/token_file.h"
#include "app/token_refresh.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "hub/hub.h"
#include "realtime/keeper.h"

struct token {
	struct loop *loop;
	struct hub *hub;
	struct key *key;
	enum conf_token kind;
	struct keeper *keeper;
	struct token_source *source;
	struct token_news news;
	struct loop_timer timer; /* keeper_deadline() */
	/* What the keeper cannot be told where it becomes known. */
	struct loop_task refusal, wish;
	uint64_t serial, refused_serial;
	char refused_code[32], refused_text[256];
	/* For the log. */
	bool is_adopted; /* another one than when it was told last */
	enum keeper_state told;
	char told_code[32], told_text[256];
};

/* ---- what people are told ---- */

static void tell_hub(struct token *t, const struct keeper_status *st)
{
	struct hub_token_status hub = {
		.source = t->source->name,
		.state = keeper_state_name(st->state),
		.role = st->role,
		.code = st->code,
		.text = st->text,
		.since_wall_ms = st->since_wall_ms,
		.ends_wall_ms = -1,
		.next_try_ms = st->next_try_ms,
	};

	if (st->ends_in_ms >= 0)
		hub.ends_wall_ms = clock_wall(&clock_system) + st->ends_in_ms;
	hub_set_token_status(t->hub, &hub);
}

static void log_adopted(const struct keeper_status *st)
{
	time_t end = (time_t)((clock_wall(&clock_system) + st->ends_in_ms) / 1000);
	char date[32] = "", next[64] = "";
	struct tm tm;

	if (gmtime_r(&end, &tm))
		(void)strftime(date, sizeof(date), "%F %T UTC", &tm);
	if (st->next_try_ms > 0)
		snprintf(next, sizeof(next), ", the next one is asked for in %lld s",
			 (long long)(st->next_try_ms + 999) / 1000);
	log_notice("the daemon's token: role %s, ends %s (in %lld s)%s", st->role, date,
		   (long long)st->ends_in_ms / 1000, next);
}

/* The words of a text without those that have a digit: numbers, times, addresses, which differ each
 * time. */
static void words_of(const char *text, char *ret)
{
	size_t n;

	for (; *text; text += n) {
		n = strspn(text, " ");
		n += strcspn(text + n, " ");
		if (strcspn(text, "0123456789") >= n)
			ret = mempcpy(ret, text, n);
	}
	*ret = '\0';
}

/* Once for each state and cause. */
static void log_trouble(struct token *t, const struct keeper_status *st)
{
	char words[sizeof(st->text)];

	words_of(st->text, words);
	if (st->state == t->told && strcmp(st->code, t->told_code) == 0 &&
	    strcmp(words, t->told_text) == 0)
		return;
	t->told = st->state;
	snprintf(t->told_code, sizeof(t->told_code), "%s", st->code);
	strcpy(t->told_text, words);
	if (st->code[0])
		log_warning("the daemon's token (%s) is %s: %s: %s", t->source->name,
			    keeper_state_name(st->state), st->code, st->text);
}

/* After each call of the keeper. */
static void settle(struct token *t)
{
	uint64_t at = keeper_deadline(t->keeper), now = clock_boot(&clock_system);
	struct keeper_status st;

	if (at == UINT64_MAX)
		loop_timer_clear(&t->timer);
	else
		loop_timer_set(&t->timer, at > now ? at - now : 0);
	keeper_get_status(t->keeper, &st);
	tell_hub(t, &st);
	if (t->is_adopted && st.has_token)
		log_adopted(&st);
	t->is_adopted = false;
	log_trouble(t, &st);
}

/* ---- keeper's ops ---- */

static int op_fetch(void *ctx, uint64_t nr, bool is_renewal)
{
	struct token *t = ctx;

	return t->source->ops->fetch(t->source, nr, is_renewal);
}

static void op_adopt(void *ctx, const struct secret *token, const struct jwt *jwt, uint64_t serial,
		     uint64_t lives_ms)
{
	struct token *t = ctx;

	(void)jwt;
	t->serial = serial;
	t->is_adopted = token != NULL;
	/* The hub goes on with the one before, which ends soon: fetched anew, this is tried again. */
	if (hub_set_token(t->hub, token, serial, lives_ms) < 0)
		token_on_refused(t, serial, "no_memory", "the daemon is out of memory");
}

static void op_changed(void *ctx)
{
	struct token *t = ctx;
	struct keeper_status st;

	keeper_get_status(t->keeper, &st);
	tell_hub(t, &st);
}

/* ---- the source's news ---- */

static void on_fetched(void *ctx, uint64_t nr, const struct keeper_news *news)
{
	struct token *t = ctx;

	/* The file may hold another one that nobody has told us of; that one makes us ask anew. */
	if (news->code && strcmp(news->code, "bad_apikey") == 0)
		key_ask(t->key);
	keeper_on_fetched(t->keeper, nr, news);
	settle(t);
}

static void on_changed(void *ctx)
{
	struct token *t = ctx;

	keeper_ask(t->keeper, false);
	settle(t);
}

static void on_trouble(void *ctx, const char *code, const char *text)
{
	struct token *t = ctx;

	keeper_set_trouble(t->keeper, code, text);
	settle(t);
}

static void token_on_timer(void *ctx)
{
	struct token *t = ctx;

	keeper_tick(t->keeper);
	settle(t);
}

static void token_carry_refusal(void *ctx)
{
	struct token *t = ctx;

	keeper_refused(t->keeper, t->refused_serial, t->refused_code, t->refused_text);
	settle(t);
}

/* ---- what the app calls ---- */

void token_start(struct token *t)
{
	if (!t)
		return;
	keeper_start(t->keeper);
	settle(t);
}

void token_reread(struct token *t)
{
	if (!t)
		return;
	keeper_ask(t->keeper, false);
	settle(t);
}

void token_on_refused(struct token *t, uint64_t serial, const char *code, const char *text)
{
	if (!t || serial != t->serial)
		return;
	t->refused_serial = serial;
	snprintf(t->refused_code, sizeof(t->refused_code), "%s", code);
	snprintf(t->refused_text, sizeof(t->refused_text), "%s", text);
	loop_task_add(t->loop, &t->refusal);
}

static void token_carry_wish(void *ctx)
{
	struct token *t = ctx;

	keeper_ask(t->keeper, true);
	settle(t);
}

void token_on_wanted(struct token *t)
{
	if (t)
		loop_task_add(t->loop, &t->wish);
}

void token_on_slept(struct token *t)
{
	if (!t)
		return;
	if (t->kind == CONF_TOKEN_REFRESH)
		token_refresh_on_slept(t->source);
	keeper_tick(t->keeper);
	settle(t);
}

bool token_on_answered(struct token *t, uint64_t id, const struct wire_answer *answer)
{
	if (!(id & TOKEN_POST_BIT))
		return false;
	if (t && t->kind == CONF_TOKEN_REFRESH)
		token_refresh_answered(t->source, id, answer);
	return true;
}

/* ---- birth and death ---- */

static int make_source(struct token *t, struct watch *watch, struct wire *wire,
		       const struct conf *conf, struct conf_text *ret_text)
{
	switch (conf->token) {
	case CONF_TOKEN_NONE:
		break;
	case CONF_TOKEN_FILE:
		t->source = token_file_new(t->loop, watch, conf->token_file, &t->news);
		break;
	case CONF_TOKEN_COMMAND:
		t->source = token_command_new(t->loop, conf->token_command,
					      (uint32_t)conf->token_timeout_ms, &t->news);
		break;
	case CONF_TOKEN_REFRESH:
		return token_refresh_new(t->loop, watch, wire, conf, &t->news, &t->source,
					 ret_text);
	}
	return t->source ? 0 : -ENOMEM;
}

int token_new(struct loop *loop, struct watch *watch, struct wire *wire, struct hub *hub,
	      struct key *key, const struct conf *conf, struct token **ret,
	      struct conf_text *ret_text)
{
	static const struct keeper_ops ops = { .fetch = op_fetch,
					       .adopt = op_adopt,
					       .changed = op_changed };
	struct keeper_conf keeper_conf = { .lead_ms = conf->token_lead_ms };
	struct token *t;
	int r;

	*ret = NULL;
	if (conf->token == CONF_TOKEN_NONE)
		return 0;
	if (getrandom(&keeper_conf.seed, sizeof(keeper_conf.seed), 0) < 0)
		return -errno;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->loop = loop;
	t->hub = hub;
	t->key = key;
	t->kind = conf->token;
	t->news = (struct token_news){
		.fetched = on_fetched, .changed = on_changed, .trouble = on_trouble, .ctx = t
	};
	t->refusal = (struct loop_task){ .fn = token_carry_refusal, .ctx = t };
	t->wish = (struct loop_task){ .fn = token_carry_wish, .ctx = t };
	r = loop_timer_init(loop, &t->timer, token_on_timer, t);
	if (r == 0)
		r = make_source(t, watch, wire, conf, ret_text);
	if (r == 0) {
		keeper_conf.is_watched = t->source->is_watched;
		t->keeper = keeper_new(&keeper_conf, &clock_system, &ops, t);
		r = t->keeper ? 0 : -ENOMEM;
	}
	if (r < 0) {
		token_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct token *token_free(struct token *t)
{
	if (!t)
		return NULL;
	if (t->source)
		t->source->ops->free(t->source);
	loop_task_cancel(t->loop, &t->refusal);
	loop_task_cancel(t->loop, &t->wish);
	loop_timer_done(&t->timer);
	keeper_free(t->keeper);
	free(t);
	return NULL;
}
