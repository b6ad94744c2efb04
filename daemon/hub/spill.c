/* SPDX-License-Identifier: MIT */
/* spill: a further tracker's own join, on a further link: the server keeps one presence per join,
 * and a topic once per connection. It shows presence and discards everything that comes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/impl.h"

static bool spill_wanted(const struct join *j)
{
	const struct spill *sp = j->owner;

	return sp->slot.n_trackers > 0;
}

/* It stays a while, as the budget of its calls does: a client that comes and goes would start a new
 * one each time. If no call is left to take the presence away, leaving does it. */
static uint32_t spill_linger_ms(const struct join *j)
{
	const struct spill *sp = j->owner;
	const struct slot *slot = &sp->slot;

	if (slot->shown && !(slot->in_flight && slot->sent_nobody))
		return 0;
	return j->hub->conf.linger_ms;
}

static void spill_config(const struct join *j, struct join_config *ret)
{
	const struct spill *sp = j->owner;

	ret->key = sp->key;
}

static const char *spill_misfit(const struct join *j)
{
	const struct spill *sp = j->owner;

	return strcmp(j->key, sp->key) == 0 ? NULL : "presence";
}

static bool spill_owed(const struct join *j)
{
	const struct spill *sp = j->owner;

	return sp->slot.in_flight;
}

static void spill_changed(struct join *j)
{
	struct spill *sp = j->owner;

	if (j->state == JOIN_JOINED)
		slot_joined(&sp->slot);
	else if (j->state == JOIN_REJECTED)
		trackers_refused(&sp->slot, join_refusal_error(j), NULL, j->text);
}

static void spill_opened(struct join *j)
{
	struct spill *sp = j->owner;

	slot_run(&sp->slot);
}

static void spill_lost(struct join *j, const char *code, const char *text)
{
	struct spill *sp = j->owner;

	if (strcmp(code, "track_too_big") == 0)
		trackers_refused_new(&sp->slot, text);
	slot_lost(&sp->slot, code, text);
}

static void spill_dead(struct join *j)
{
	struct spill *sp = j->owner;
	struct chan *ch = sp->chan;

	slot_done(&sp->slot);
	TAILQ_REMOVE(&ch->spills, sp, entry);
	free(sp);
	chan_update(ch);
}

static const struct join_ops spill_join_ops = {
	.wanted = spill_wanted,
	.linger_ms = spill_linger_ms,
	.config = spill_config,
	.misfit = spill_misfit,
	.owed = spill_owed,
	.changed = spill_changed,
	.opened = spill_opened,
	.lost = spill_lost,
	.dead = spill_dead,
};

struct slot *join_slot(struct join *j)
{
	struct chan *ch;

	if (j->ops == &spill_join_ops)
		return &((struct spill *)j->owner)->slot;
	ch = chan_of_join(j);
	return ch ? &ch->slot : NULL;
}

void slot_update_owner(struct slot *slot)
{
	if (slot == &slot->chan->slot)
		chan_update(slot->chan);
	else if (slot->join)
		join_update(slot->join);
}

struct spill *spill_get(struct chan *ch, struct peer *p, const char *key, const char **ret_text)
{
	struct spill *sp;
	struct link *link;
	char why[JOIN_WHY_MAX], topic[101];

	/* One whose tracker has gone, and that is still there. It is left before it is joined with
	 * another key. */
	TAILQ_FOREACH(sp, &ch->spills, entry) {
		if (sp->slot.n_trackers || sp->slot.join->state == JOIN_REJECTED)
			continue;
		if (sp->slot.join->state == JOIN_JOINED &&
		    (key ? strcmp(key, sp->key) != 0 : !sp->key_is_made))
			join_evict(sp->slot.join);
		sp->slot.join->uid = p->cred.uid;
		return sp;
	}
	hub_copy_text(ch->topic, topic, sizeof(topic));
	snprintf(why, sizeof(why), "one more tracker in channel %s", topic);
	ch->held = true;
	link = link_place(p->hub, p->cred.uid, p, ch->topic, why, ret_text);
	ch->held = false;
	if (!link)
		return NULL;
	sp = calloc(1, sizeof(*sp));
	if (sp) {
		sp->chan = ch;
		slot_init(&sp->slot, ch);
		sp->slot.join = join_new(link, ch->topic, ch->is_private, ch->identity,
					 &spill_join_ops, sp);
	}
	if (!sp || !sp->slot.join) {
		free(sp);
		link_update(link);
		*ret_text = "the daemon is out of memory";
		return NULL;
	}
	join_set_cause(sp->slot.join, p->cred.uid, why);
	TAILQ_INSERT_TAIL(&ch->spills, sp, entry);
	return sp;
}
