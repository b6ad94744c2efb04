/* SPDX-License-Identifier: MIT */
/* user: what is known of a local user: whether its joins failed lately, and when it had its turn.
 */
#include <stdlib.h>
#include <string.h>

#include "hub/impl.h"

int user_uid_compare(struct user *a, struct user *b)
{
	return a->uid < b->uid ? -1 : a->uid > b->uid;
}

RB_GENERATE(user_tree, user, by_uid, user_uid_compare)

struct user *user_get(struct hub *hub, uid_t uid)
{
	struct user key = { .uid = uid }, *u = RB_FIND(user_tree, &hub->users, &key);

	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	u->last_turn = hub->n_turns; /* nobody is served before the others by going and coming */
	TAILQ_INIT(&u->trials);
	TAILQ_INIT(&u->ended);
	RB_INSERT(user_tree, &hub->users, u);
	return u;
}

bool user_is_owner(const struct hub *hub, uid_t uid)
{
	return uid == 0 || uid == hub->conf.owner;
}

bool user_may_have(const struct hub *hub, const struct user *u, size_t has, size_t all)
{
	return !u || user_is_owner(hub, u->uid) || has <= (all + 1) / 2;
}

bool user_has_record(const struct user *u, uint64_t now)
{
	return u && now < u->record_until_ms;
}

static void note(uint64_t *at, unsigned n, uint64_t now)
{
	memmove(at + 1, at, (n - 1) * sizeof(*at));
	at[0] = now;
}

void user_failed(struct hub *hub, struct user *u)
{
	if (u)
		u->record_until_ms = hub_now(hub) + RECORD_MS;
}

void user_stalled(struct hub *hub, struct user *u)
{
	note(hub->probation.failed_at_ms, BUDGET_OF_ALL, hub_now(hub));
	if (u)
		note(u->failed_at_ms, BUDGET_OF_USER, hub_now(hub));
}

static bool is_live(uint64_t failed_at_ms, uint64_t now)
{
	return failed_at_ms && failed_at_ms + BUDGET_MS > now;
}

static uint64_t later(uint64_t oldest, uint64_t now)
{
	return is_live(oldest, now) ? oldest + BUDGET_MS : now;
}

uint64_t user_budget(const struct hub *hub, const struct user *u)
{
	uint64_t now = hub_now(hub),
		 all = later(hub->probation.failed_at_ms[BUDGET_OF_ALL - 1], now),
		 own = u ? later(u->failed_at_ms[BUDGET_OF_USER - 1], now) : now;

	return all > own ? all : own;
}

void users_trim(struct hub *hub)
{
	uint64_t now = hub_now(hub);
	struct user *u, *next;

	/* Nor is anything borne anew of who goes and comes. */
	for (u = RB_MIN(user_tree, &hub->users); u; u = next) {
		next = RB_NEXT(user_tree, &hub->users, u);
		if (u->n_peers || u->send_bytes || u->n_outcomes || u->n_posts || u->n_waiting ||
		    !TAILQ_EMPTY(&u->trials) || user_has_record(u, now) ||
		    is_live(u->failed_at_ms[0], now))
			continue;
		RB_REMOVE(user_tree, &hub->users, u);
		free(u);
	}
}

void users_free(struct hub *hub)
{
	struct user *u;

	while ((u = RB_MIN(user_tree, &hub->users))) {
		RB_REMOVE(user_tree, &hub->users, u);
		free(u);
	}
}
