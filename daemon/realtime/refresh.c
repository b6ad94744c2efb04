/* SPDX-License-Identifier: MIT */
#include "realtime/refresh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/backoff.h"

struct refresh {
	const struct clock *clock;
	const struct refresh_ops *ops;
	void *ctx;

	struct secret *token; /* NULL: none */
	bool is_stored;
	uint64_t store_at; /* the next attempt; UINT64_MAX: none is needed */
	unsigned n_stores; /* that failed in a row */
	char store_text[256];

	/* The keeper's fetch. */
	bool is_fetching;
	uint64_t fetch_nr;
	bool fails; /* it has failed, and the keeper will hear of it in the next tick */
	struct keeper_news failure;

	uint64_t post_nr; /* of the last post */
	bool is_posting;
};

static const char cannot_store[] = "cannot_store";

/* ---- storing ---- */

static void set_stored(struct refresh *r)
{
	bool had_trouble = r->n_stores > 0;

	r->is_stored = true;
	r->store_at = UINT64_MAX;
	r->n_stores = 0;
	if (had_trouble)
		r->ops->trouble(r->ctx, NULL, NULL);
}

/* Return: whether it is stored. */
static bool store(struct refresh *r)
{
	int e = r->ops->store(r->ctx, r->token);

	if (e == 0) {
		set_stored(r);
		return true;
	}
	r->store_at = clock_boot(r->clock) +
		      backoff_doubled(REFRESH_STORE_MIN_MS, r->n_stores++, REFRESH_STORE_MAX_MS);
	snprintf(
		r->store_text, sizeof(r->store_text),
		"the new refresh token cannot be stored (%s), and until it is, the access token is "
		"not renewed: see that the daemon may write to state_dir, and that there is "
		"room",
		strerror(-e));
	return false;
}

/* ---- fetching ---- */

/* In the next tick, because a fetch may not be answered from inside. */
static void fail(struct refresh *r, const char *code, const char *text)
{
	r->fails = true;
	r->failure = (struct keeper_news){ .got = KEEPER_FAILED, .code = code, .text = text };
}

static int post(struct refresh *r)
{
	struct rtbp_buf body = RTBP_BUF_INIT;
	int e;

	e = gotrue_body(r->token, &body);
	if (e == 0)
		e = r->ops->post(r->ctx, ++r->post_nr, body.data, body.size);
	secret_wipe_buf(&body);
	r->is_posting = e == 0;
	return e;
}

int refresh_fetch(struct refresh *r, uint64_t nr)
{
	int e = 0;

	r->is_fetching = true;
	r->fetch_nr = nr;
	r->fails = r->is_posting = false; /* what comes for an older post is dropped */
	if (!r->token) {
		fail(r, "no_token",
		     "there is no refresh token yet: log in, and give the daemon one");
		r->failure.got = KEEPER_REFUSED;
	} else if (!r->is_stored && !store(r)) {
		fail(r, cannot_store, r->store_text);
	} else {
		e = post(r);
	}
	if (e < 0)
		r->is_fetching = false;
	return e;
}

static void give(struct refresh *r, const struct keeper_news *news)
{
	r->is_fetching = r->fails = false;
	r->ops->give(r->ctx, r->fetch_nr, news);
}

/* ---- the token ---- */

static void take(struct refresh *r, struct secret *token, bool is_stored)
{
	secret_free(r->token);
	r->token = token;
	r->is_stored = is_stored;
	r->n_stores = 0;
	r->store_at = is_stored ? UINT64_MAX : clock_boot(r->clock);
}

static bool is_ours(const struct refresh *r, const char *bytes, size_t size)
{
	return r->token && secret_size(r->token) == size &&
	       memcmp(secret_bytes(r->token), bytes, size) == 0;
}

int refresh_set_token(struct refresh *r, const char *bytes, size_t size, bool is_stored)
{
	struct secret *token;
	int e;

	if (is_ours(r, bytes, size)) {
		if (is_stored)
			set_stored(r);
		return 0;
	}
	token = secret_new(bytes, size);
	if (!token)
		return -ENOMEM;
	set_stored(r); /* whatever became of the one before */
	take(r, token, is_stored);
	if (r->is_fetching) {
		e = refresh_fetch(r, r->fetch_nr);
		if (e < 0) {
			r->is_fetching = true;
			fail(r, "cannot_fetch", "Auth cannot be asked now");
		}
	}
	return 0;
}

/* ---- answers ---- */

/* Return: false: without memory; the token is as it was. */
static bool take_next(struct refresh *r, struct rtbp_str next)
{
	struct secret *token;

	if (is_ours(r, next.p, next.size))
		return true;
	token = secret_new(next.p, next.size);
	if (token)
		take(r, token, false);
	return token != NULL;
}

static void on_tokens(struct refresh *r, const struct gotrue_result *result,
		      struct keeper_news *news)
{
	if (!take_next(r, result->refresh)) {
		/* The one that we have is the parent of what we could not take. */
		news->code = "no_memory";
		news->text = "the daemon is out of memory";
		return;
	}
	*news = (struct keeper_news){ .got = KEEPER_TOKEN,
				      .token = result->access.p,
				      .size = result->access.size,
				      .lives_ms = result->lives_ms };
	if (!r->is_stored && !store(r)) {
		news->code = cannot_store;
		news->text = r->store_text;
	}
}

void refresh_on_answer(struct refresh *r, uint64_t nr, const struct gotrue_answer *answer)
{
	struct gotrue_result result;
	struct keeper_news news;

	if (!r->is_posting || nr != r->post_nr)
		return;
	r->is_posting = false;
	gotrue_read(answer, r->token, &result);
	news = (struct keeper_news){ .got = result.got == GOTRUE_DENIED ? KEEPER_REFUSED
									: KEEPER_FAILED,
				     .code = result.code,
				     .text = result.text,
				     .retry_after_s = result.retry_after_s };
	if (result.got == GOTRUE_TOKENS)
		on_tokens(r, &result, &news);
	give(r, &news);
	gotrue_done(&result);
}

/* ---- what else the owner calls ---- */

struct refresh *refresh_new(const struct clock *clock, const struct refresh_ops *ops, void *ctx)
{
	struct refresh *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->clock = clock;
	r->ops = ops;
	r->ctx = ctx;
	r->store_at = UINT64_MAX;
	return r;
}

struct refresh *refresh_free(struct refresh *r)
{
	if (r) {
		secret_free(r->token);
		free(r);
	}
	return NULL;
}

uint64_t refresh_deadline(const struct refresh *r)
{
	return r->fails ? clock_boot(r->clock) : r->store_at;
}

void refresh_tick(struct refresh *r)
{
	struct keeper_news news = r->failure;

	if (r->store_at <= clock_boot(r->clock) && !store(r))
		r->ops->trouble(r->ctx, cannot_store, r->store_text);
	if (r->fails)
		give(r, &news);
}

bool refresh_is_stored(const struct refresh *r)
{
	return r->token && r->is_stored;
}
