/* SPDX-License-Identifier: MIT */
/* What must be true of a hub whenever a turn has ended. */
#include "hub_fixture.h"

static void check_join(struct hub *hub, struct join *j)
{
	unsigned n_subs = 0, n_sends = 0;
	bool queued_seen = false;
	struct send *send;
	struct sub *s;

	MUST(j->state != JOIN_DEAD);
	MUST(j->queued == (j->state == JOIN_WAITING));
	MUST(join_find(hub, j->topic, j->is_private) == j);
	MUST(!join_find(hub, j->topic, !j->is_private));
	TAILQ_FOREACH(s, &j->subs, in_join) {
		MUST(s->join == j);
		MUST(s->peer->state == PEER_READY);
		MUST(s->answered || s->waiting);
		MUST(s->waiting == s->timer.armed);
		MUST(sub_find(s->peer, j->chan) == s);
		n_subs++;
	}
	TAILQ_FOREACH(send, &j->sends, entry) {
		MUST(send->join == j);
		MUST(!(send->given && queued_seen));
		MUST(!send->given || j->state == JOIN_JOINED);
		MUST(send->given != send->ttl_timer.armed);
		queued_seen |= !send->given;
		n_sends++;
	}
	MUST(n_subs == j->n_subs);
	MUST(n_sends == j->n_sends);
	if (n_subs || n_sends)
		MUST(!j->linger_timer.armed);
	else
		MUST(j->state != JOIN_WAITING);
	if (!n_subs && !n_sends && (j->state == JOIN_JOINED || j->state == JOIN_REJECTED))
		MUST(j->linger_timer.armed);
	if (j->state == JOIN_REJECTED)
		MUST(n_sends == 0);
}

static void check_peer(struct hub *hub, struct peer *p)
{
	unsigned n_subs = 0, n_sends = 0;
	struct request *r;
	struct sub *s;

	MUST(!p->reaped);
	MUST(p->state != PEER_GONE);
	MUST(peer_find(hub, p->session) == p);
	MUST(p->hello_timer.armed == (p->state == PEER_NEW));
	TAILQ_FOREACH(s, &p->subs, in_peer)
		n_subs++;
	TAILQ_FOREACH(r, &p->requests, entry) {
		MUST(p->state == PEER_READY);
		n_sends += r->kind == REQUEST_SEND;
	}
	MUST(n_subs == p->n_subs);
	MUST(n_sends == p->queued.n + p->given.n);
	MUST(p->queued.n || !p->queued.bytes);
	MUST(p->given.n || !p->given.bytes);
	if (p->state == PEER_CLOSING)
		MUST(!n_subs && TAILQ_EMPTY(&p->requests));
	r = TAILQ_FIRST(&p->requests);
	if (r && r->kind == REQUEST_SYNC)
		MUST(((struct sync *)((char *)r - offsetof(struct sync, request)))->upstream);
}

void hub_check(struct hub *hub)
{
	unsigned n_peers = 0, n_joins = 0, n_by_key = 0, n_joining = 0, n_sends = 0, n_queued = 0;
	struct peer *p;
	struct join *j;
	struct send *s;
	size_t bytes = 0;

	if (!TAILQ_EMPTY(&hub->reap_peers) || !TAILQ_EMPTY(&hub->reap_joins))
		return; /* another turn is due */
	TAILQ_FOREACH(p, &hub->peers, entry) {
		check_peer(hub, p);
		n_peers++;
	}
	MUST(n_peers == hub->n_peers);
	RB_FOREACH(j, join_chan_tree, &hub->joins_by_chan) {
		check_join(hub, j);
		n_joins++;
		n_joining += j->state == JOIN_JOINING;
		n_sends += j->n_sends;
	}
	RB_FOREACH(j, join_key_tree, &hub->joins)
		n_by_key++;
	TAILQ_FOREACH(j, &hub->join_queue, queue_entry)
		n_queued++;
	RB_FOREACH(s, send_tree, &hub->sends) {
		bytes += s->notice->size;
		n_sends--;
	}
	MUST(n_joins == hub->n_joins);
	MUST(n_by_key == hub->n_joins);
	MUST(n_queued <= n_joins);
	MUST(n_sends == 0);
	MUST(bytes == hub->send_bytes);
	MUST(n_joining == hub->joins_unanswered);
	MUST(hub->joins_unanswered <= JOINS_UNANSWERED_MAX);
}
