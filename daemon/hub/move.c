/* SPDX-License-Identifier: MIT */
/*
 * move: a further link with one join left is emptied, if a lower one can carry that join by now:
 * each link is a connection that is paid for.
 *
 *   channel: joined on the lower link beside the old one; with the answer it takes over, the old
 *            one is left, and a gap tells that the two connections need not have been level
 *   feed:    merged into a new one on the lower link (feed_merge.c)
 *
 * What shows somebody's presence stays: it would vanish for a moment. So does a channel that
 * somebody sends to: while a topic is joined twice the server sends us our own messages.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

enum {
	MOVE_SETTLED_MS = 10000, /* it has been calm for so long */
	MOVE_AGAIN_MS = 300000,
};

static bool is_calm(const struct chan *ch)
{
	/* What goes by HTTP comes to both joins, and only one of its copies is known for its
	 * sender's. */
	return !ch->hold.active && !ch->sends.ways[SEND_WS].n && !ch->sends.ways[SEND_HTTP].n &&
	       !ch->slot.n_trackers && !ch->slot.shown && !ch->feed && !ch->proof &&
	       !ch->room.probe_ref;
}

/* ---- the join that is to take over ---- */

static bool is_wanted(const struct join *j)
{
	const struct chan *ch = j->owner;

	return ch && ch->join && ch->join->state == JOIN_JOINED &&
	       ch->join->ops->wanted(ch->join) && !join_misfit(ch->join) && is_calm(ch);
}

static void config(const struct join *j, struct join_config *ret)
{
	const struct chan *ch = j->owner;

	join_wants_config(ch->join, ret);
	ret->replay_since_ms = 0; /* what comes before it takes over is the old one's */
}

/* Left to itself: nobody's, and about to be left. */
static void forget(struct join *j)
{
	struct chan *ch = j->owner;

	j->owner = NULL;
	if (ch) {
		ch->successor = NULL;
		ch->no_move_before_ms = hub_now(j->hub) + MOVE_AGAIN_MS;
	}
}

static void take_over(struct join *j)
{
	struct chan *ch = j->owner;
	struct join *old = ch->join;

	log_info("%s moves from link %u to link %u", j->wire_topic, old->link->number,
		 j->link->number);
	j->gap_from_wall_ms = old->link->received_wall_ms;
	snprintf(j->gap_cause, sizeof(j->gap_cause), "moved");
	old->ops = j->ops;
	old->owner = NULL;
	ch->successor = NULL;
	chan_set_join(ch, j);
	join_update(old); /* wanted by nobody: left at once */
}

static void changed(struct join *j)
{
	struct chan *ch = j->owner;

	if (!ch)
		return;
	if (j->state == JOIN_JOINED && is_wanted(j)) {
		take_over(j);
	} else if (j->state == JOIN_JOINED || j->refused || j->state == JOIN_REJECTED) {
		forget(j);
		hub_wake(j->hub);
	}
}

static void dead(struct join *j)
{
	struct chan *ch = j->owner;

	if (!ch)
		return;
	forget(j);
	chan_update(ch);
}

static const struct join_ops successor_ops = {
	.wanted = is_wanted,
	.config = config,
	.changed = changed,
	.dead = dead,
};

void move_forget(struct chan *ch)
{
	struct join *j = ch->successor;

	if (!j)
		return;
	forget(j);
	join_update(j);
}

void move_check(struct chan *ch)
{
	if (ch->successor)
		join_update(ch->successor);
}

/* ---- what may move where ---- */

static struct link *find_lower(struct link *from, struct rtbp_str topic)
{
	struct link *link;

	for (unsigned i = 0; i < from->number; i++) {
		link = &from->hub->links[i];
		/* With some air: it must not come back at once. */
		if (link_is_online(link) && link->wanted && !link->is_probation &&
		    !link_has_topic(link, topic) && link->n_joins + 2 <= link_max(link))
			return link;
	}
	return NULL;
}

static void move_channel(struct chan *ch, struct link *to)
{
	struct join *old = ch->join;

	join_remember_success(old);
	ch->successor = join_new(to, ch->topic, ch->is_private, ch->identity, &successor_ops, ch);
	if (!ch->successor)
		return;
	join_set_cause(ch->successor, old->uid, old->why);
	join_update(ch->successor);
}

/* Return: when it may be moved; 0: it was, UINT64_MAX: not at all as it stands. */
static uint64_t try_move(struct link *link, struct join *j)
{
	struct link *to = find_lower(link, j->topic);
	uint64_t now = hub_now(link->hub), at = j->joined_at_ms + MOVE_SETTLED_MS;
	struct chan *ch = chan_of_join(j);
	struct feed *f = ch ? NULL : feed_of_join(j);

	if (!to || j->state != JOIN_JOINED || !j->ops->wanted(j) || join_misfit(j))
		return UINT64_MAX;
	if (ch && (ch->successor || !is_calm(ch)))
		return UINT64_MAX; /* its own end brings us back */
	if (ch && ch->no_move_before_ms > at)
		at = ch->no_move_before_ms;
	if (ch && ch->sent_at_ms + MOVE_SETTLED_MS > at)
		at = ch->sent_at_ms + MOVE_SETTLED_MS;
	if (!ch && !(f && merge_may_move(f)))
		return UINT64_MAX;
	if (at > now)
		return at;
	if (ch)
		move_channel(ch, to);
	else
		merge_move(f, to);
	return 0;
}

uint64_t moves_run(struct hub *hub)
{
	uint64_t next = UINT64_MAX, at;
	struct link *link;

	for (unsigned i = 1; i < hub->conf.max_links; i++) {
		link = &hub->links[i];
		if (!link_is_online(link) || link->is_probation || link->n_joins != 1)
			continue;
		at = try_move(link, RB_MIN(join_topic_tree, &link->joins));
		if (at && at < next)
			next = at;
	}
	return next;
}
