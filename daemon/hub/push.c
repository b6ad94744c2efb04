/* SPDX-License-Identifier: MIT */
/*
 * push: another token for channels that are joined. The server looks it up for each, and a project
 * has many channels: so a few go at a time, those first whose own ends first. A channel that is
 * joined anew meanwhile has it from its join.
 */
#include "hub/impl.h"

/* The token that its channel is to have instead; NULL: the one it has serves. The server says nothing
 * to it. One that it has not taken yet could end the channel for all who share it. */
static const struct secret *better_one(const struct join *j)
{
	const struct token *t = j->identity ? identity_token(j->identity) : NULL;
	const struct own_token *own = own_is_for(j) ? j->hub->own.token : NULL;

	if (j->is_trial || !(j->state == JOIN_JOINED || (j->state == JOIN_WAITING && j->live)))
		return NULL;
	if (own)
		return own->serial != j->own_serial ? own->bytes : NULL;
	return t && t->state == TOKEN_ACCEPTED && t->jwt.exp_s > j->token_exp_s ? t->bytes : NULL;
}

void push_look(struct join *j)
{
	j->token_due = better_one(j) != NULL;
}

/* How long that of its channel is good; 0: it has ended. */
static uint64_t left_ms(const struct join *j)
{
	uint64_t boot = clock_boot(j->hub->clock);
	int64_t wall_s = hub_wall_s(j->hub);

	if (own_is_for(j))
		return j->own_ends_ms > boot ? j->own_ends_ms - boot : 0;
	return j->token_exp_s > wall_s ? (uint64_t)(j->token_exp_s - wall_s) * 1000 : 0;
}

static struct join *next_due(struct hub *hub)
{
	struct join *j, *found = NULL;

	RB_FOREACH(j, join_id_tree, &hub->joins) {
		if (!j->token_due)
			continue;
		push_look(j); /* it may have ended meanwhile, or have been joined anew */
		if (j->token_due && (!found || left_ms(j) < left_ms(found)))
			found = j;
	}
	return found;
}

static void has_it(struct join *j)
{
	const struct token *t = j->identity ? identity_token(j->identity) : NULL;
	const struct own_token *own = own_is_for(j) ? j->hub->own.token : NULL;

	j->token_due = false;
	j->told_at_ms = left_ms(j) < TOKEN_DOUBT_MS ? hub_now(j->hub) : 0;
	j->token_number = t ? t->number : 0;
	j->token_exp_s = t ? t->jwt.exp_s : 0;
	j->own_serial = own ? own->serial : 0;
	j->own_ends_ms = own ? own->ends_boot_ms : 0;
}

void pushes_run(struct hub *hub)
{
	struct join *j;
	uint64_t at;

	(void)own_token(hub); /* it may have ended */
	while (!hub->dying && (j = next_due(hub))) {
		at = bucket_take(&hub->pushes_bucket, hub_now(hub), 0);
		if (at) {
			timer_arm(&hub->timers, &hub->push_timer, at);
			return;
		}
		if (join_tell_token(j, better_one(j)) != 0) {
			bucket_give_back(&hub->pushes_bucket);
			hub_try_again(hub);
			return;
		}
		has_it(j);
	}
}
