/* SPDX-License-Identifier: MIT */
/*
 * outcome: what became of the sends that have a name, for who lost the answer together with the
 * connection. Kept for a minute after the end; each user sees those of its own clients only, and
 * may have half of the places, so the oldest ended ones of that user go when there are too many.
 */
#include <stdlib.h>
#include <string.h>

#include "hub/impl.h"

enum { OUTCOME_TEXT_MAX = 160 };

struct outcome {
	RB_ENTRY(outcome) by_name;
	TAILQ_ENTRY(outcome) by_end, of_user;
	struct hub *hub;
	struct user *user;
	struct rtbp_str id;
	enum send_way way;
	const char *word; /* NULL: pending */
	char *text;
	int64_t retry_ms;
	uint64_t forget_at_ms;
	char bytes[SEND_ID_MAX + 1]; /* of id */
};

int outcome_name_compare(struct outcome *a, struct outcome *b)
{
	if (a->user->uid != b->user->uid)
		return a->user->uid < b->user->uid ? -1 : 1;
	return hub_compare_str(a->id, b->id);
}

RB_GENERATE(outcome_tree, outcome, by_name, outcome_name_compare)

static struct outcome *find(struct hub *hub, struct user *u, struct rtbp_str id)
{
	struct outcome key = { .user = u, .id = id };

	return RB_FIND(outcome_tree, &hub->outcomes, &key);
}

/* ---- forgetting ---- */

static void forget(struct outcome *o)
{
	struct hub *hub = o->hub;

	if (o->word) {
		TAILQ_REMOVE(&hub->ended, o, by_end);
		TAILQ_REMOVE(&o->user->ended, o, of_user);
	}
	RB_REMOVE(outcome_tree, &hub->outcomes, o);
	hub->n_outcomes--;
	o->user->n_outcomes--;
	free(o->text);
	free(o);
}

void outcome_drop(struct outcome *o)
{
	if (o)
		forget(o);
}

static void forget_due(void *ctx)
{
	struct hub *hub = ctx;
	struct outcome *o;

	while ((o = TAILQ_FIRST(&hub->ended)) && o->forget_at_ms <= hub_now(hub))
		forget(o);
	if (o)
		timer_arm(&hub->timers, &hub->outcome_timer, o->forget_at_ms);
	users_trim(hub);
}

/* Return: whether there is room for one more of this user. */
static bool make_room(struct hub *hub, struct user *u)
{
	struct outcome *o;

	if (!user_may_have(hub, u, u->n_outcomes + 1, OUTCOMES_MAX)) {
		o = TAILQ_FIRST(&u->ended);
	} else if (hub->n_outcomes >= OUTCOMES_MAX) {
		/* Who may have all shall not push out what others are entitled to. */
		o = TAILQ_FIRST(&u->ended);
		o = o ? o : TAILQ_FIRST(&hub->ended);
	} else {
		return true;
	}
	if (o)
		forget(o);
	return o != NULL;
}

/* ---- keeping ---- */

struct outcome *outcome_new(struct peer *p, struct rtbp_str id, enum send_way way, bool *ret_in_use)
{
	struct hub *hub = p->hub;
	struct outcome *o;

	*ret_in_use = p->user && find(hub, p->user, id);
	if (!p->user || *ret_in_use || !make_room(hub, p->user))
		return NULL;
	o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->hub = hub;
	o->user = p->user;
	o->way = way;
	o->retry_ms = -1;
	memcpy(o->bytes, id.p, id.size);
	o->id = (struct rtbp_str){ o->bytes, id.size };
	RB_INSERT(outcome_tree, &hub->outcomes, o);
	hub->n_outcomes++;
	o->user->n_outcomes++;
	return o;
}

void outcome_end(struct outcome *o, const struct send_result *result)
{
	struct hub *hub;

	if (!o)
		return;
	hub = o->hub;
	o->word = result->outcome;
	o->text = result->text ? strndup(result->text, OUTCOME_TEXT_MAX) : NULL;
	o->retry_ms = result->retry_ms;
	o->forget_at_ms = hub_now(hub) + OUTCOME_MS;
	TAILQ_INSERT_TAIL(&hub->ended, o, by_end);
	TAILQ_INSERT_TAIL(&o->user->ended, o, of_user);
	if (!hub->outcome_timer.armed)
		timer_arm(&hub->timers, &hub->outcome_timer, o->forget_at_ms);
}

void outcomes_init(struct hub *hub)
{
	RB_INIT(&hub->outcomes);
	TAILQ_INIT(&hub->ended);
	timer_init(&hub->outcome_timer, forget_due, hub);
}

void outcomes_done(struct hub *hub)
{
	struct outcome *o;

	while ((o = RB_MIN(outcome_tree, &hub->outcomes)))
		forget(o);
}

/* ---- asking ---- */

void outcome_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct send_result result = { .outcome = "pending", .retry_ms = -1 };
	struct rtbp_str name;
	struct outcome *o;

	if (!rtbp_get_str(rtbp_field(params, RTBP_F_ID), &name)) {
		peer_answer_error(p, &now, RTBP_M_OUTCOME, RTBP_E_BAD_REQUEST,
				  "id is the string that the broadcast had", -1);
		return;
	}
	o = p->user ? find(p->hub, p->user, name) : NULL;
	if (!o) {
		peer_answer_error(p, &now, RTBP_M_OUTCOME, RTBP_E_UNKNOWN_ID, NULL, -1);
		return;
	}
	if (o->word)
		result = (struct send_result){ o->word, o->text, o->retry_ms };
	send_answer(p, &now, o->way, &result);
}
