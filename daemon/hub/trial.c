/* SPDX-License-Identifier: MIT */
/* trial: the join that tries out a topic or a token on a connection apart, and what its answer
 * says. It shows nothing and takes nothing; once answered it is left. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hub/impl.h"
#include "realtime/reasons.h"

/* ---- its answer, and its end ---- */

static bool is_wanted(const struct join *j)
{
	const struct trial *t = j->owner;

	return t && (t->real || t->token);
}

/* A topic may be open to who asks for presence only. */
static void config(const struct join *j, struct join_config *ret)
{
	const struct trial *t = j->owner;
	struct join_config real = { .key = "" };

	if (t && t->real)
		join_wants_config(t->real, &real);
	ret->presence = real.presence;
}

static void dead(struct join *j)
{
	struct trial *t = j->owner;

	if (t)
		t->join = NULL;
	if (t && !t->real && !t->token)
		trial_free(t);
	hub_wake(j->hub); /* its topic may be tried again */
}

/* The trial is over; its join goes its own way. */
static void over(struct trial *t)
{
	t->join->owner = NULL;
	t->join->trial_token = NULL;
	trial_free(t);
}

/* What it carried, if that is not what was tried. */
static struct token *carried(const struct join *j)
{
	return identity_find_token(j->identity, j->token_number);
}

static void succeeded(struct trial *t)
{
	struct token *token = t->token ? t->token : carried(t->join);
	struct hub *hub = t->hub;

	if (t->real)
		join_remember_success(t->real);
	over(t);
	if (token)
		token_accepted(token);
	joins_run(hub);
}

/* In a project of private channels, where nobody may read what was invented, "no right" comes after
 * the token was looked at. */
static bool shows_token(const struct join *j, const struct reason *reason)
{
	return j->is_private && strcmp(reason->code, "unauthorized") == 0;
}

/* The answer says nothing of what was tried: once more, behind the others. */
static void again_later(struct trial *t, uint32_t ms)
{
	struct hub *hub = t->hub;

	t->join->owner = NULL;
	t->join->trial_token = NULL;
	if (t->real) {
		t->real->retry_at_ms = hub_now(hub) + ms;
		trial_free(t); /* its next turn makes another */
		joins_run(hub);
		return;
	}
	t->join = NULL;
	hub->probation.current = NULL;
	t->not_before_ms = hub_now(hub) + ms;
	TAILQ_REMOVE(&t->user->trials, t, entry);
	TAILQ_INSERT_TAIL(&t->user->trials, t, entry);
	hub_wake(hub);
}

/* Its own record, not that of who waits for it. */
static struct user *payer(const struct trial *t)
{
	return user_get(t->hub, t->payer);
}

static void token_failed(struct trial *t, const struct reason *reason, const char *text)
{
	struct token *token = t->token;

	if (reason->class == REASON_AUTH) {
		user_failed(t->hub, payer(t));
		over(t);
		token_refused(token, reason->code, text);
	} else if (shows_token(t->join, reason)) {
		succeeded(t);
	} else {
		again_later(t, reason->class == REASON_PRIVATE_ONLY ? 0 : TRIAL_AGAIN_MS);
	}
}

static void join_failed(struct trial *t, const char *text)
{
	struct join *real = t->real;

	real->token_number = t->join->token_number; /* whose refusal it is, if it is a token's */
	real->own_serial = t->join->own_serial;
	over(t);
	join_refused(real, text, true);
}

/* Who asked for it is gone, or has given up. */
static void orphan_failed(struct trial *t, const struct reason *reason, const char *text)
{
	struct join *j = t->join;
	struct verdict_key key = join_verdict_key(j, t->payer);
	struct token *token = carried(j);
	struct hub *hub = t->hub;

	if (t->token_name[0]) {
		key.is_private = false;
		key.topic = (struct rtbp_str){ t->token_name, strlen(t->token_name) };
	}
	if (join_is_at_fault(j, reason) && !(t->token_name[0] && shows_token(j, reason))) {
		user_failed(hub, payer(t));
		verdicts_put(&hub->refused, &key, t->payer, hub_now(hub), reason->code, text);
	}
	over(t);
	if (token && reason->class == REASON_AUTH)
		token_refused(token, reason->code, text);
}

static void refused(struct trial *t)
{
	const struct reason *reason = reason_find(t->join->text, strlen(t->join->text));
	char text[sizeof(t->join->text)];

	memcpy(text, t->join->text, sizeof(text));
	if (!t->join->link->is_probation && t->join->join_ref) /* else it was never sent */
		user_stalled(t->hub, payer(t));
	if (reason->class == REASON_TOO_MANY_USERS && t->join->link->is_probation)
		probation_give_up_link(t->hub);
	else if (t->token)
		token_failed(t, reason, text);
	else if (t->real)
		join_failed(t, text);
	else
		orphan_failed(t, reason, text);
}

static void changed(struct join *j)
{
	struct trial *t = j->owner;

	if (!t)
		return;
	if (j->state == JOIN_JOINED)
		succeeded(t);
	else if (j->refused && (j->state == JOIN_REJECTED || j->state == JOIN_WAITING))
		refused(t);
	else if (j->state == JOIN_WAITING && is_wanted(j) && strcmp(j->code, "connection") != 0)
		again_later(t, TRIAL_AGAIN_MS); /* no answer */
}

static const struct join_ops trial_ops = {
	.wanted = is_wanted,
	.config = config,
	.changed = changed,
	.dead = dead,
};

bool trial_make_join(struct trial *t, struct link *link)
{
	struct hub *hub = t->hub;
	char name[80];
	int n;

	if (t->real) {
		t->join = join_new(link, t->real->topic, t->real->is_private, t->real->identity,
				   &trial_ops, t);
	} else {
		n = snprintf(name, sizeof(name), "rtbridge:%s:t%" PRIu64, hub->feed_prefix,
			     t->token->number);
		t->join = join_new(link, (struct rtbp_str){ name, (size_t)n },
				   hub->private_only || hub->park_public.until_ms, NULL, &trial_ops,
				   t);
	}
	if (!t->join)
		return false;
	t->join->is_trial = true;
	t->join->tries_token = t->token != NULL;
	t->join->trial_token = t->token;
	join_set_cause(t->join, t->user->uid, "trying out joins that may fail");
	return true;
}
