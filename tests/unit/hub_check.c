/* SPDX-License-Identifier: MIT */
/* What must be true of a hub whenever a turn has ended. */
#include "hub_fixture.h"

static void check_join(struct hub *hub, struct join *j)
{
	unsigned n_subs = 0, n_sends = 0;
	bool queued_seen = false;
	struct send *send;
	struct sub *s;

	ck_assert(j->state != JOIN_DEAD);
	ck_assert(j->queued == (j->state == JOIN_WAITING));
	ck_assert_ptr_eq(join_find(hub, j->topic, j->is_private), j);
	ck_assert_ptr_null(join_find(hub, j->topic, !j->is_private));
	TAILQ_FOREACH(s, &j->subs, in_join) {
		ck_assert_ptr_eq(s->join, j);
		ck_assert_int_eq(s->peer->state, PEER_READY);
		ck_assert(s->answered || s->waiting);
		ck_assert(s->waiting == s->timer.armed);
		ck_assert_ptr_eq(sub_find(s->peer, j->chan), s);
		n_subs++;
	}
	TAILQ_FOREACH(send, &j->sends, entry) {
		ck_assert_ptr_eq(send->join, j);
		ck_assert_msg(!(send->given && queued_seen), "a given send behind a queued one");
		ck_assert_msg(!send->given || j->state == JOIN_JOINED,
			      "a given send on a join that is not joined");
		ck_assert(send->given != send->ttl_timer.armed);
		queued_seen |= !send->given;
		n_sends++;
	}
	ck_assert_uint_eq(n_subs, j->n_subs);
	ck_assert_uint_eq(n_sends, j->n_sends);
	if (n_subs || n_sends)
		ck_assert(!j->linger_timer.armed);
	else
		ck_assert_int_ne(j->state, JOIN_WAITING);
	if (!n_subs && !n_sends && (j->state == JOIN_JOINED || j->state == JOIN_REJECTED))
		ck_assert(j->linger_timer.armed);
	if (j->state == JOIN_REJECTED)
		ck_assert_uint_eq(n_sends, 0);
}

static void check_peer(struct hub *hub, struct peer *p)
{
	unsigned n_subs = 0, n_sends = 0;
	struct request *r;
	struct sub *s;

	ck_assert(!p->reaped);
	ck_assert_int_ne(p->state, PEER_GONE);
	ck_assert_ptr_eq(peer_find(hub, p->session), p);
	ck_assert(p->hello_timer.armed == (p->state == PEER_NEW));
	TAILQ_FOREACH(s, &p->subs, in_peer)
		n_subs++;
	TAILQ_FOREACH(r, &p->requests, entry) {
		ck_assert_int_eq(p->state, PEER_READY);
		n_sends += r->kind == REQUEST_SEND;
	}
	ck_assert_uint_eq(n_subs, p->n_subs);
	ck_assert_uint_eq(n_sends, p->queued.n + p->given.n);
	ck_assert(p->queued.n || !p->queued.bytes);
	ck_assert(p->given.n || !p->given.bytes);
	if (p->state == PEER_CLOSING)
		ck_assert(!n_subs && TAILQ_EMPTY(&p->requests));
	r = TAILQ_FIRST(&p->requests);
	if (r && r->kind == REQUEST_SYNC)
		ck_assert(((struct sync *)((char *)r - offsetof(struct sync, request)))->upstream);
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
	ck_assert_uint_eq(n_peers, hub->n_peers);
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
	ck_assert_uint_eq(n_joins, hub->n_joins);
	ck_assert_uint_eq(n_by_key, hub->n_joins);
	ck_assert_uint_le(n_queued, n_joins);
	ck_assert_uint_eq(n_sends, 0);
	ck_assert_uint_eq(bytes, hub->send_bytes);
	ck_assert_uint_eq(n_joining, hub->joins_unanswered);
	ck_assert_uint_le(hub->joins_unanswered, JOINS_UNANSWERED_MAX);
}
