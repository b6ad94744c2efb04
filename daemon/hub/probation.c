/* SPDX-License-Identifier: MIT */
/* probation: joins and tokens that the server may refuse are tried on a connection apart, one at a
 * time, each user in turn; probation.h says which. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

struct verdict_key join_verdict_key(const struct join *j, uid_t uid)
{
	return (struct verdict_key){
		.uid = uid,
		.identity = identity_number(j->identity),
		.is_private = j->is_private,
		.topic = j->topic,
	};
}

bool join_is_proven(const struct join *j)
{
	struct verdict_key key = join_verdict_key(j, 0);

	if (!identity_is_accepted(j->identity))
		return false;
	return !j->is_private || verdicts_find(&j->hub->proven, &key, hub_now(j->hub));
}

void join_remember_success(struct join *j)
{
	struct verdict_key key = join_verdict_key(j, 0);

	if (j->is_private && !j->is_trial)
		verdicts_put(&j->hub->proven, &key, j->uid, hub_now(j->hub), "", "");
	key.uid = j->uid;
	verdicts_forget(&j->hub->refused, &key);
}

void join_forget_success(struct join *j)
{
	struct verdict_key key = join_verdict_key(j, 0);

	verdicts_forget(&j->hub->proven, &key);
}

/* ---- who is tried, and where ---- */

bool probation_has_link(struct hub *hub)
{
	if (hub_now(hub) < hub->probation.no_link_until_ms)
		return false;
	return hub->probation.link || link_find_unused(hub);
}

static struct link *get_link(struct hub *hub)
{
	struct probation *pr = &hub->probation;

	if (!pr->link && probation_has_link(hub)) {
		pr->link = link_find_unused(hub);
		if (link_start(pr->link)) {
			pr->link->is_probation = true;
			log_notice("opening link %u: joins that may fail are tried on it, apart "
				   "from the others",
				   pr->link->number);
		} else {
			pr->link = NULL;
		}
	}
	return pr->link;
}

void trial_free(struct trial *t)
{
	struct hub *hub = t->hub;

	if (hub->probation.current == t)
		hub->probation.current = NULL;
	TAILQ_REMOVE(&t->user->trials, t, entry);
	if (t->real)
		t->real->trial = NULL;
	if (t->token)
		t->token->trial = NULL;
	free(t);
	hub_wake(hub); /* the next one */
}

/* If its join is out already its answer still counts, and nothing else is tried before: who goes
 * away in between has made all others wait just the same. */
void trial_drop(struct trial *t)
{
	struct join *j = t->join;

	if (t->real)
		t->real->trial = NULL;
	if (t->token)
		t->token->trial = NULL;
	t->real = NULL;
	t->token = NULL;
	if (j)
		j->trial_token = NULL;
	if (j && j->state == JOIN_JOINING)
		return;
	trial_free(t);
	if (j) {
		j->owner = NULL;
		join_update(j);
	}
}

static struct trial *trial_new(struct hub *hub, uid_t uid)
{
	struct user *u = user_get(hub, uid);
	struct trial *t = u ? calloc(1, sizeof(*t)) : NULL;

	if (!t)
		return NULL;
	t->hub = hub;
	t->user = u;
	t->payer = uid;
	TAILQ_INSERT_TAIL(&u->trials, t, entry);
	hub_wake(hub);
	return t;
}

/* To the front of this user's queue. */
static void bring_forward(struct trial *t, uid_t uid)
{
	struct user *u = user_get(t->hub, uid);

	if (!u || t->join)
		return;
	TAILQ_REMOVE(&t->user->trials, t, entry);
	t->user = u;
	TAILQ_INSERT_HEAD(&u->trials, t, entry);
}

bool trial_token(struct token *t, uid_t waiting)
{
	if (!t->trial) {
		t->trial = trial_new(t->hub, t->uid);
		if (!t->trial)
			return false;
		verdict_name_token(t->hub, t, t->trial->token_name);
		t->trial->token = t;
	}
	if (waiting != t->uid)
		bring_forward(t->trial, waiting);
	return true;
}

static bool trial_join(struct join *j)
{
	struct trial *t = trial_new(j->hub, j->uid);

	if (!t)
		return false;
	t->real = j;
	j->trial = t;
	join_set_reason(j, "probation",
			"waits to be tried out, because joins of this user have failed");
	return true;
}

/* Of the join's user on its link. */
static unsigned n_private_unanswered(const struct join *j)
{
	struct join *other;
	unsigned n = 0;

	if (j->link->joins_unanswered == 0)
		return 0;
	RB_FOREACH(other, join_topic_tree, &j->link->joins)
		n += other->state == JOIN_JOINING && other->is_private && other->uid == j->uid;
	return n;
}

bool probation_lets_go(struct join *j)
{
	enum hub_probation mode = j->hub->conf.probation;
	const struct user *u;

	if (j->is_trial || (j->trial && j->trial->in_place))
		return j->link->is_probation || j->link->unproven_unanswered == 0;
	if (mode == HUB_PROBATION_OFF)
		return true;
	if (join_is_proven(j))
		return !j->is_private || n_private_unanswered(j) < PRIVATE_UNANSWERED_MAX;
	if (j->trial)
		return false;
	u = user_get(j->hub, j->uid);
	if (mode == HUB_PROBATION_ALWAYS || user_has_record(u, hub_now(j->hub)) ||
	    !probation_has_link(j->hub))
		return !trial_join(j); /* without memory it goes as it is */
	return j->link->unproven_unanswered == 0;
}

/* ---- the link ---- */

static void close_link(struct hub *hub)
{
	struct link *link = hub->probation.link;
	struct join *j;

	/* What is being left there goes with the connection. */
	while ((j = RB_MIN(join_topic_tree, &link->joins)))
		join_kill(j);
	hub->probation.link = NULL;
	timer_disarm(&hub->timers, &hub->probation.idle_timer);
	link->is_probation = false;
	link_stop(link);
}

static void idle_over(void *ctx)
{
	struct hub *hub = ctx;

	if (hub->probation.link && !hub->probation.current)
		close_link(hub);
}

/* No connection more is to be had. */
void probation_give_up_link(struct hub *hub)
{
	struct trial *t = hub->probation.current;
	struct join *j = t->join;

	log_notice("link %u, for joins that may fail, is not to be had: they go in their place",
		   hub->probation.link->number);
	hub->probation.no_link_until_ms = hub_now(hub) + PROBATION_AGAIN_MS;
	hub->probation.current = NULL;
	t->join = NULL;
	if (j) {
		j->owner = NULL;
		join_kill(j);
	}
	if (!t->real && !t->token)
		trial_free(t);
	close_link(hub);
	hub_wake(hub);
}

/* ---- one after the other ---- */

static bool is_needed(const struct trial *t)
{
	if (t->real)
		return t->real->state == JOIN_WAITING && t->real->ops->wanted(t->real) &&
		       !join_is_proven(t->real) && !own_is_missing_for(t->real);
	/* Nothing is tried of who is gone. */
	return t->token->n_grants &&
	       (t->token->state == TOKEN_WAITING || t->token->state == TOKEN_UNPROVEN);
}

/* Where failing makes all others wait. It is for the user in whose queue it is: else who brings what
 * others have to wait for, and has used up its own, would keep them waiting. Return: false: it may
 * not be borne now. */
static bool has_budget(struct trial *t)
{
	struct hub *hub = t->hub;
	uint64_t at = user_budget(hub, t->user);
	struct join *real = t->real;

	if (at <= hub_now(hub))
		return true;
	if (!real) {
		t->not_before_ms = at;
		return false;
	}
	trial_free(t);
	join_no_budget(real, at);
	return false;
}

static void start(struct trial *t)
{
	struct probation *pr = &t->hub->probation;
	struct link *link = get_link(t->hub);

	if (!link && !has_budget(t))
		return;
	pr->current = t;
	pr->last_uid = t->payer;
	timer_disarm(&t->hub->timers, &pr->idle_timer);
	if (!link && t->real) {
		t->in_place = true;
		join_set_reason(t->real, "", "");
	} else if (!trial_make_join(t, link ? link : link_shared(t->hub))) {
		trial_free(t);
		return;
	} else {
		join_update(t->join);
	}
	if (link && !link_is_online(link))
		timer_arm(&t->hub->timers, &pr->link_timer, hub_now(t->hub) + PROBATION_LINK_MS);
	joins_run(t->hub);
}

/* An earlier trial of the same topic is being left. */
static bool is_still_there(const struct trial *t)
{
	struct link *link = t->hub->probation.link;

	return link && t->real && link_has_topic(link, t->real->topic);
}

/* Of one payer first what others wait for. */
static bool is_before(const struct trial *a, const struct trial *b)
{
	return a->payer < b->payer || (a->payer == b->payer && a->user->uid != a->payer);
}

/* The first that may be tried of the users behind the one that was last: of those who pay, because
 * what one has brought may stand in the queue of another who waits for it. @ret_at: or when one may
 * be. */
static struct trial *next_trial(struct hub *hub, uint64_t *ret_at)
{
	uint64_t now = hub_now(hub);
	uid_t last = hub->probation.last_uid;
	struct trial *t, *found = NULL, *after = NULL;
	struct user *u;

	*ret_at = UINT64_MAX;
	RB_FOREACH(u, user_tree, &hub->users) {
		TAILQ_FOREACH(t, &u->trials, entry) {
			if (t->not_before_ms <= now && !is_still_there(t))
				break;
			if (t->not_before_ms > now && t->not_before_ms < *ret_at)
				*ret_at = t->not_before_ms;
		}
		if (!t)
			continue;
		if (!found || is_before(t, found))
			found = t;
		if (t->payer > last && (!after || is_before(t, after)))
			after = t;
	}
	return after ? after : found;
}

void probation_without_own(struct hub *hub)
{
	struct trial *t = hub->probation.current;

	if (!t || !t->real || !own_is_missing_for(t->real))
		return;
	if (t->in_place && t->real->state == JOIN_WAITING)
		trial_free(t);
	else if (t->join && t->join->state == JOIN_WAITING)
		trial_drop(t); /* the next turn of its join makes another */
}

void probation_run(struct hub *hub)
{
	struct probation *pr = &hub->probation;
	uint64_t at = UINT64_MAX;
	struct trial *t;

	if (hub->dying || hub->drain >= HUB_FAREWELL)
		return;
	while (!pr->current && (t = next_trial(hub, &at))) {
		if (is_needed(t))
			start(t);
		else
			trial_drop(t);
	}
	if (!pr->current && at != UINT64_MAX)
		timer_arm(&hub->timers, &pr->again_timer, at);
	if (!pr->current && pr->link && !pr->idle_timer.armed)
		timer_arm(&hub->timers, &pr->idle_timer, hub_now(hub) + PROBATION_IDLE_MS);
}

/* ---- from the link and the clock ---- */

static void again_due(void *ctx)
{
	hub_wake(ctx);
}

static void link_late(void *ctx)
{
	struct hub *hub = ctx;
	struct probation *pr = &hub->probation;

	if (pr->current && pr->link && !pr->current->in_place && !link_is_online(pr->link) &&
	    (link_is_online(&hub->links[0]) || !hub->links[0].wanted))
		probation_give_up_link(hub);
	hub_wake(hub);
}

void probation_on_link(struct link *link)
{
	struct hub *hub = link->hub;
	struct probation *pr = &hub->probation;

	if (!pr->current || pr->current->in_place || !pr->link)
		return;
	if (link_is_online(pr->link))
		timer_disarm(&hub->timers, &pr->link_timer);
	else if (!pr->link_timer.armed)
		timer_arm(&hub->timers, &pr->link_timer, hub_now(hub) + PROBATION_LINK_MS);
}

bool probation_give_link(struct hub *hub)
{
	if (!hub->probation.link || hub->probation.current)
		return false;
	close_link(hub);
	return true;
}

/* ---- what the server says of joins in their place ---- */

bool join_is_at_fault(const struct join *j, const struct reason *reason)
{
	switch (reason->class) {
	case REASON_PERMANENT:
	case REASON_CRASH:
	case REASON_UNKNOWN:
		return true;
	case REASON_AUTH:
		return !join_is_own(j);
	default:
		return false;
	}
}

void probation_asked_by(struct join *j, uid_t uid)
{
	struct hub *hub = j->hub;
	const struct user *u = user_get(hub, uid);

	if (j->state != JOIN_WAITING || j->uid == uid || user_has_record(u, hub_now(hub)) ||
	    !user_has_record(user_get(hub, j->uid), hub_now(hub)))
		return;
	j->uid = uid;
	j->is_asked = true;
	if (j->trial && !j->trial->join && !j->trial->in_place)
		trial_drop(j->trial);
	if (strcmp(j->code, "join_budget") == 0) {
		join_set_reason(j, "", "");
		j->retry_at_ms = 0;
	}
	joins_run(hub);
}

void probation_going(struct join *j)
{
	/* Proven meanwhile, by another join. */
	if (j->trial && !j->trial->in_place)
		trial_drop(j->trial);
	if (j->is_trial ? !j->link->is_probation : !join_is_proven(j)) {
		j->sent_unproven = true;
		j->link->unproven_unanswered++;
	}
}

void probation_answered(struct join *j)
{
	if (j->sent_unproven)
		j->link->unproven_unanswered--;
	j->sent_unproven = false;
	if (j->trial && j->trial->in_place)
		trial_free(j->trial);
}

void probation_succeeded(struct join *j)
{
	struct token *t = identity_find_token(j->identity, j->token_number);

	if (j->is_trial)
		return;
	join_remember_success(j);
	if (t)
		token_accepted(t);
}

void probation_refused(struct join *j, const struct reason *reason, const char *text,
		       bool stalls_others)
{
	struct token *t = identity_find_token(j->identity, j->token_number);
	struct user *u = user_get(j->hub, j->uid);
	bool is_alone = !park_concerns(j, reason), was_proven = join_is_proven(j);

	if (j->is_trial)
		return;
	if (join_is_at_fault(j, reason) || (is_alone && !was_proven))
		user_failed(j->hub, u);
	if (stalls_others && is_alone && !was_proven)
		user_stalled(j->hub, u);
	/* Rights were taken away: what proved one proves no other any more. */
	if (join_is_at_fault(j, reason) && j->is_private && was_proven)
		verdicts_forget_identity(&j->hub->proven, identity_number(j->identity));
	if (t && reason->class == REASON_AUTH)
		token_refused(t, reason->code, text);
}

void probation_forget_join(struct join *j)
{
	probation_answered(j);
	if (j->trial)
		trial_drop(j->trial);
}

void probation_init(struct hub *hub)
{
	timer_init(&hub->probation.link_timer, link_late, hub);
	timer_init(&hub->probation.again_timer, again_due, hub);
	timer_init(&hub->probation.idle_timer, idle_over, hub);
	verdicts_init(&hub->proven, false);
	verdicts_init(&hub->refused, true);
}

void probation_done(struct hub *hub)
{
	struct trial *t;
	struct user *u;

	RB_FOREACH(u, user_tree, &hub->users) {
		while ((t = TAILQ_FIRST(&u->trials)))
			trial_drop(t);
	}
	verdicts_done(&hub->proven);
	verdicts_done(&hub->refused);
	users_free(hub);
}
