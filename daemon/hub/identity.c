/* SPDX-License-Identifier: MIT */
/* identity: tokens of peers, and which of them are one identity. */
#include "hub/identity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

const char *token_state_name(const struct token *t)
{
	switch (t->state) {
	case TOKEN_WAITING:
		return "pending";
	case TOKEN_UNPROVEN:
		return "unproven";
	case TOKEN_ACCEPTED:
		return "accepted";
	case TOKEN_REFUSED:
		break;
	}
	return "rejected";
}

/* ---- identities ---- */

struct identity *identity_ref(struct identity *i)
{
	if (i)
		i->n_refs++;
	return i;
}

static void identity_check(struct identity *i)
{
	if (i->n_refs || !TAILQ_EMPTY(&i->tokens))
		return;
	TAILQ_REMOVE(&i->hub->identities, i, entry);
	free(i);
}

void tokens_look(struct hub *hub)
{
	hub->has_idle_tokens = true;
	hub_wake(hub);
}

void identity_unref(struct identity *i)
{
	if (!i || --i->n_refs)
		return;
	if (!TAILQ_EMPTY(&i->tokens))
		tokens_look(i->hub);
	identity_check(i);
}

uint64_t identity_number(const struct identity *i)
{
	return i ? i->number : 0;
}

static struct identity *identity_new(struct hub *hub)
{
	struct identity *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->hub = hub;
	i->number = hub->next_identity++;
	TAILQ_INIT(&i->tokens);
	TAILQ_INSERT_TAIL(&hub->identities, i, entry);
	return i;
}

struct token *identity_find_token(const struct identity *i, uint64_t number)
{
	struct token *t;

	if (!i)
		return NULL;
	TAILQ_FOREACH(t, &i->tokens, in_identity) {
		if (t->number == number)
			return t;
	}
	return NULL;
}

bool identity_is_accepted(const struct identity *i)
{
	const struct token *t;

	if (!i)
		return true;
	TAILQ_FOREACH(t, &i->tokens, in_identity) {
		if (t->state == TOKEN_ACCEPTED)
			return true;
	}
	return false;
}

static bool is_better(const struct token *a, const struct token *b)
{
	if (a->state != b->state)
		return a->state == TOKEN_ACCEPTED;
	return a->jwt.exp_s > b->jwt.exp_s;
}

/* Of those that clients have; `idle`: of those that none has any more. */
static struct token *best_token(const struct identity *i, bool idle)
{
	struct token *t, *best = NULL;

	TAILQ_FOREACH(t, &i->tokens, in_identity) {
		if (!t->n_grants == idle && t->jwt.exp_s > hub_wall_s(i->hub) &&
		    (!best || is_better(t, best)))
			best = t;
	}
	return best;
}

struct token *identity_token(const struct identity *i)
{
	return best_token(i, false);
}

void identity_push(struct identity *i)
{
	struct join *j;

	RB_FOREACH(j, join_id_tree, &i->hub->joins) {
		if (j->identity == i)
			push_look(j);
	}
	pushes_run(i->hub);
}

static void set_identity(struct token *t, struct identity *i)
{
	t->identity = i;
	TAILQ_INSERT_TAIL(&i->tokens, t, in_identity);
}

static void leave_identity(struct token *t)
{
	struct identity *i = t->identity;

	if (!i)
		return;
	TAILQ_REMOVE(&i->tokens, t, in_identity);
	t->identity = NULL;
	identity_check(i);
}

/* The one that says the same of its bearer; `accepted`: and that the server believes. */
static struct identity *find_same(struct token *t, bool accepted)
{
	struct identity *i;
	const struct token *other;

	TAILQ_FOREACH(i, &t->hub->identities, entry) {
		if (i == t->identity || (accepted && !identity_is_accepted(i)))
			continue;
		other = TAILQ_FIRST(&i->tokens);
		/* Who has gone before the server has said anything is not waited for. */
		if (other && !other->n_grants && other->state != TOKEN_ACCEPTED)
			continue;
		if (other && jwt_same_claims(&other->jwt, &t->jwt))
			return i;
	}
	return NULL;
}

/* Another one that claims the same waits for the server's word. */
static bool is_claimed(const struct token *t)
{
	const struct token *other;

	TAILQ_FOREACH(other, &t->hub->tokens, entry) {
		if (other->state == TOKEN_WAITING && jwt_same_claims(&other->jwt, &t->jwt))
			return true;
	}
	return false;
}

/* ---- tokens ---- */

static void token_news(struct token *t)
{
	if (!t->has_news) {
		t->has_news = true;
		TAILQ_INSERT_TAIL(&t->hub->tokens_with_news, t, in_news);
	}
	hub_wake(t->hub);
}

/* It waits for the server's word; an identity that claims the same and has not been believed
 * either must have it first, so that the two can become one. What comes after it and claims the
 * same waits, too, and becomes no identity before it: so nobody can keep it waiting. */
static bool token_try(struct token *t)
{
	struct identity *same = find_same(t, false);
	struct token *other;

	if (same) {
		TAILQ_FOREACH(other, &same->tokens, in_identity) {
			if (other->state == TOKEN_UNPROVEN && !trial_token(other, t->uid))
				return false;
		}
	}
	return trial_token(t, t->uid);
}

static void token_free(struct token *t);

static int token_new(struct hub *hub, struct rtbp_str bytes, struct jwt *jwt, uid_t uid,
		     struct token **ret)
{
	struct token *t = calloc(1, sizeof(*t));
	struct identity *own = NULL;

	if (!t)
		return -ENOMEM;
	t->hub = hub;
	t->jwt = *jwt;
	if (!find_same(t, false) && !is_claimed(t) && !(own = identity_new(hub))) {
		free(t);
		return -ENOMEM;
	}
	t->bytes = secret_new(bytes.p, bytes.size);
	if (!t->bytes) {
		if (own)
			identity_check(own);
		free(t);
		return -ENOMEM;
	}
	*jwt = (struct jwt){ 0 };
	t->number = hub->next_id++;
	t->uid = uid;
	TAILQ_INIT(&t->grants);
	t->state = own ? TOKEN_UNPROVEN : TOKEN_WAITING;
	if (own)
		set_identity(t, own);
	TAILQ_INSERT_TAIL(&hub->tokens, t, entry);
	hub->n_tokens++;
	if (!own && !token_try(t)) {
		token_free(t);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

static struct token *find_bytes(struct hub *hub, struct rtbp_str bytes)
{
	struct token *t;

	TAILQ_FOREACH(t, &hub->tokens, entry) {
		if (secret_size(t->bytes) == bytes.size &&
		    memcmp(secret_bytes(t->bytes), bytes.p, bytes.size) == 0)
			return t;
	}
	return NULL;
}

/* One user must not take the places of all. */
static bool has_room(struct hub *hub, uid_t uid)
{
	const struct token *t;
	unsigned n = 0;

	if (hub->n_tokens >= TOKENS_MAX)
		return false;
	TAILQ_FOREACH(t, &hub->tokens, entry)
		n += t->uid == uid;
	return user_may_have(hub, user_get(hub, uid), n + 1, TOKENS_MAX);
}

int token_get(struct hub *hub, struct rtbp_str bytes, uid_t uid, struct token **ret, char *text,
	      size_t size)
{
	char name[48];
	struct verdict_key key = verdict_key_of_token(hub, bytes, uid, name);
	const struct verdict *refusal;
	const char *wrong = NULL;
	struct jwt jwt = { 0 };
	int r;

	r = jwt_read(bytes.p, bytes.size, hub_wall_s(hub), &jwt, &wrong);
	if (r > 0) {
		snprintf(text, size, "the token %s", wrong);
		return RTBP_E_BAD_TOKEN;
	}
	*ret = r == 0 ? find_bytes(hub, bytes) : NULL;
	if (r == 0 && !*ret && (refusal = verdicts_find(&hub->refused, &key, hub_now(hub)))) {
		snprintf(text, size, "%s", refusal->text);
		r = RTBP_E_BAD_TOKEN;
	} else if (r == 0 && !*ret && !has_room(hub, uid)) {
		snprintf(text, size,
			 "the daemon holds as many tokens as it may, or as many of "
			 "this user's");
		r = RTBP_E_TOO_MANY;
	} else if (r == 0 && !*ret) {
		r = token_new(hub, bytes, &jwt, uid, ret);
	}
	jwt_done(&jwt);
	if (r == -ENOMEM) {
		snprintf(text, size, "no memory");
		r = RTBP_E_BUSY;
	}
	return r;
}

/* Those that the server takes, and that waited for others with the same claims to be tried, become
 * one identity with them, or one of their own. */
static void settle_believed(struct hub *hub)
{
	struct token *t, *next;
	struct identity *i;
	bool is_further;

	for (t = TAILQ_FIRST(&hub->tokens); t; t = next) {
		next = TAILQ_NEXT(t, entry);
		if (!t->is_believed || t->state != TOKEN_WAITING)
			continue;
		i = find_same(t, true);
		if (!i && find_same(t, false))
			continue;
		if (!i && !(i = identity_new(hub)))
			continue; /* no memory: with the next news of a token */
		is_further = !TAILQ_EMPTY(&i->tokens);
		set_identity(t, i);
		t->state = TOKEN_ACCEPTED;
		identity_push(i);
		if (is_further) {
			verdicts_forget_identity(&hub->refused, i->number);
			joins_lift(hub, i, false);
		}
		token_news(t);
	}
}

void token_accepted(struct token *t)
{
	struct hub *hub = t->hub;

	if (t->trial)
		trial_drop(t->trial);
	if (t->state == TOKEN_WAITING) {
		t->is_believed = true;
	} else if (t->state == TOKEN_UNPROVEN) {
		t->state = TOKEN_ACCEPTED;
		identity_push(t->identity);
	} else {
		return;
	}
	settle_believed(hub);
	joins_run(hub);
}

static void token_free(struct token *t)
{
	struct hub *hub = t->hub;

	if (t->state != TOKEN_REFUSED)
		TAILQ_REMOVE(&hub->tokens, t, entry);
	if (t->trial)
		trial_drop(t->trial);
	if (t->has_news)
		TAILQ_REMOVE(&hub->tokens_with_news, t, in_news);
	leave_identity(t);
	if (!hub->dying)
		settle_believed(hub);
	hub->n_tokens--;
	secret_free(t->bytes);
	jwt_done(&t->jwt);
	free(t);
}

/* Of the tokens that nobody has any more an identity keeps the one that lives longest, while
 * anything of it is there: who comes back with that one finds its channels, and who comes with
 * another that says the same is known. No join carries it. */
static struct token *kept_token(const struct identity *i)
{
	return i && i->n_refs && !i->hub->dying ? best_token(i, true) : NULL;
}

void token_check(struct token *t)
{
	if (t->n_grants)
		return;
	if (t->identity && t->identity->n_refs) {
		tokens_look(t->hub);
		return;
	}
	token_free(t);
}

void tokens_trim(struct hub *hub)
{
	struct token *t, *next;

	if (!hub->has_idle_tokens)
		return;
	hub->has_idle_tokens = false;
	for (t = TAILQ_FIRST(&hub->tokens); t; t = next) {
		next = TAILQ_NEXT(t, entry);
		if (t->n_grants || t == kept_token(t->identity))
			continue;
		token_free(t);
	}
}

void token_refused(struct token *t, const char *code, const char *text)
{
	struct verdict_key key;
	char name[48];

	if (t->state == TOKEN_REFUSED)
		return;
	if (t->trial)
		trial_drop(t->trial);
	if (bucket_take(&t->hub->refusals_bucket, hub_now(t->hub), 0) == 0)
		log_notice("a token of uid %u (role %s) was refused: %s", t->uid, t->jwt.role,
			   text);
	key = verdict_key_of_token(
		t->hub, (struct rtbp_str){ secret_bytes(t->bytes), secret_size(t->bytes) }, t->uid,
		name);
	verdicts_put(&t->hub->refused, &key, t->uid, hub_now(t->hub), code, text);
	TAILQ_REMOVE(&t->hub->tokens, t, entry);
	t->state = TOKEN_REFUSED;
	leave_identity(t);
	snprintf(t->code, sizeof(t->code), "%s", code);
	snprintf(t->text, sizeof(t->text), "%s", text);
	token_news(t);
	settle_believed(t->hub);
}
