/* SPDX-License-Identifier: MIT */
/* What must be true of a hub whenever a turn has ended. */
#include "hub_fixture.h"

static void check_slot(struct slot *slot, const struct chan *ch, const struct join *j)
{
	struct tracker *t;
	unsigned n = 0;

	MUST(slot->chan == ch);
	MUST(slot->join == j);
	TAILQ_FOREACH(t, &slot->trackers, in_slot) {
		MUST(t->slot == slot);
		MUST(t->chan == ch);
		MUST(t->peer->state == PEER_READY);
		MUST(t->waiting == t->timer.armed);
		MUST(t->version <= slot->version);
		MUST(tracker_find(t->peer, ch) == t);
		n++;
	}
	MUST(n == slot->n_trackers);
	MUST(!slot->in_flight || (j && j->state == JOIN_JOINED && slot->call_ref));
	MUST(slot->acked_version <= slot->sent_version || !slot->sent_version);
	MUST(slot->sent_version <= slot->version);
	/* What is to be shown has been called for, or somebody will see to it. */
	if (j && join_is_open(j) && !j->ops->misfit(j) && !slot->in_flight &&
	    (n ? slot->sent_version != slot->version : slot->shown))
		MUST(slot->timer.armed);
}

static void check_subs(struct chan *ch)
{
	struct sub *s;
	unsigned n = 0;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		MUST(s->chan == ch);
		MUST(s->peer->state == PEER_READY);
		MUST(s->answered || s->waiting);
		MUST(s->waiting == s->timer.armed);
		MUST(sub_find(s->peer, ch->number) == s);
		MUST(!s->has_snapshot || (s->presence && s->answered));
		n++;
	}
	MUST(n == ch->n_subs);
}

static void check_sends(struct chan *ch)
{
	bool queued_seen = false;
	struct send *send;
	unsigned n = 0;

	TAILQ_FOREACH(send, &ch->sends, entry) {
		MUST(send->chan == ch);
		MUST(!(send->given && queued_seen));
		MUST(!send->given || ch->join->state == JOIN_JOINED);
		MUST(send->given != send->ttl_timer.armed);
		if (!send->given && !queued_seen)
			MUST(ch->next_send == send);
		queued_seen |= !send->given;
		n++;
	}
	MUST(queued_seen == (ch->next_send != NULL));
	MUST(n == ch->n_sends);
}

static void check_chan(struct hub *hub, struct chan *ch)
{
	struct join *j = ch->join;
	struct spill *sp;

	MUST(!ch->dead);
	MUST(chan_find(hub, ch->topic, ch->is_private) == ch);
	MUST(j || !TAILQ_EMPTY(&ch->spills));
	MUST(j || (!ch->n_subs && !ch->n_sends && !ch->slot.n_trackers && !ch->room.fold));
	MUST(!j || j->owner == ch);
	check_subs(ch);
	check_sends(ch);
	check_slot(&ch->slot, ch, j);
	TAILQ_FOREACH(sp, &ch->spills, entry) {
		MUST(sp->chan == ch);
		MUST(sp->slot.join && sp->slot.join->owner == sp);
		MUST(sp->slot.n_trackers <= 1);
		check_slot(&sp->slot, ch, sp->slot.join);
	}
	if (hub->conf.trackers != HUB_TRACKERS_MERGE)
		MUST(ch->slot.n_trackers <= 1);
	if (j && j->state == JOIN_JOINED && ch->room.state == ROOM_PENDING && ch->room.fold)
		MUST(ch->room.probe_ref || hub->busy_timer.armed);
}

static void check_join(struct hub *hub, struct join *j)
{
	bool wanted = j->ops->wanted(j);
	struct join key = { .topic = j->topic };

	MUST(j->state != JOIN_DEAD);
	MUST(j->queued == (j->state == JOIN_WAITING));
	MUST(join_find(hub, j->id) == j);
	MUST(RB_FIND(join_topic_tree, &j->link->joins, &key) == j);
	MUST(!j->live || j->state == JOIN_WAITING || j->state == JOIN_JOINING);
	MUST(!j->rejoin_by_ms || j->state == JOIN_JOINED);
	MUST(wanted || j->state != JOIN_WAITING || (j->live && j->linger_timer.armed));
	if (wanted)
		MUST(!j->linger_timer.armed);
	else if (j->state == JOIN_JOINED || j->state == JOIN_REJECTED)
		MUST(j->linger_timer.armed);
	if (wanted && j->state == JOIN_JOINED)
		MUST((j->ops->misfit(j) != NULL) == j->rejoin_timer.armed);
	else
		MUST(!j->rejoin_timer.armed);
}

static void check_link(struct hub *hub, struct link *link)
{
	unsigned n = 0, n_joining = 0, n_queued = 0;
	struct join *j;

	RB_FOREACH(j, join_topic_tree, &link->joins) {
		MUST(j->link == link);
		n++;
		n_joining += j->state == JOIN_JOINING;
	}
	TAILQ_FOREACH(j, &link->queue, queue_entry)
		n_queued++;
	MUST(n == link->n_joins);
	MUST(n_queued <= n);
	MUST(n_joining == link->joins_unanswered);
	MUST(link->joins_unanswered <= JOINS_UNANSWERED_MAX);
	MUST(link->wanted || n == 0);
	MUST(link->number == 0 || link->number < hub->conf.max_links || !link->wanted);
	if (link->number && link->wanted && hub->drain == HUB_RUNNING)
		MUST(link->idle_timer.armed == (n == 0));
}

static void check_peer(struct hub *hub, struct peer *p)
{
	unsigned n_subs = 0, n_sends = 0, n_trackers = 0;
	struct request *r;
	struct tracker *t;
	struct sub *s;

	MUST(!p->reaped);
	MUST(p->state != PEER_GONE);
	MUST(peer_find(hub, p->session) == p);
	MUST(p->hello_timer.armed == (p->state == PEER_NEW));
	TAILQ_FOREACH(s, &p->subs, in_peer)
		n_subs++;
	TAILQ_FOREACH(t, &p->trackers, in_peer) {
		MUST(t->peer == p);
		n_trackers++;
	}
	MUST(n_trackers == p->n_trackers);
	TAILQ_FOREACH(r, &p->requests, entry) {
		MUST(p->state == PEER_READY);
		n_sends += r->kind == REQUEST_SEND;
	}
	MUST(n_subs == p->n_subs);
	MUST(n_sends == p->queued.n + p->given.n);
	MUST(p->queued.n || !p->queued.bytes);
	MUST(p->given.n || !p->given.bytes);
	if (p->state == PEER_CLOSING)
		MUST(!n_subs && !n_trackers && TAILQ_EMPTY(&p->requests));
	r = TAILQ_FIRST(&p->requests);
	if (r && r->kind == REQUEST_SYNC)
		MUST(((struct sync *)((char *)r - offsetof(struct sync, request)))->wanted);
}

static void check_chans(struct hub *hub)
{
	unsigned n = 0, n_by_key = 0, n_sends = 0;
	struct chan *ch;
	struct send *s;
	size_t bytes = 0;

	RB_FOREACH(ch, chan_number_tree, &hub->chans_by_number) {
		check_chan(hub, ch);
		n++;
		n_sends += ch->n_sends;
	}
	RB_FOREACH(ch, chan_key_tree, &hub->chans)
		n_by_key++;
	RB_FOREACH(s, send_tree, &hub->sends) {
		bytes += s->notice->size;
		n_sends--;
	}
	MUST(n == hub->n_chans);
	MUST(n_by_key == hub->n_chans);
	MUST(n_sends == 0);
	MUST(bytes == hub->send_bytes);
}

void hub_check(struct hub *hub)
{
	unsigned n_peers = 0, n_joins = 0, n_on_links = 0;
	struct peer *p;
	struct join *j;

	if (!TAILQ_EMPTY(&hub->reap_peers) || !TAILQ_EMPTY(&hub->reap_joins) ||
	    !TAILQ_EMPTY(&hub->reap_chans))
		return; /* another turn is due */
	TAILQ_FOREACH(p, &hub->peers, entry) {
		check_peer(hub, p);
		n_peers++;
	}
	MUST(n_peers == hub->n_peers);
	check_chans(hub);
	RB_FOREACH(j, join_id_tree, &hub->joins) {
		check_join(hub, j);
		n_joins++;
	}
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		check_link(hub, &hub->links[i]);
		n_on_links += hub->links[i].n_joins;
	}
	MUST(n_joins == n_on_links);
}
