/* SPDX-License-Identifier: MIT */
/*
 * sync: the barrier. Answered when it stands first in its peer's list of unanswered requests and,
 * with `upstream`, heartbeats sent after it were answered by the server, on each link that carries
 * something for the peer.
 */
#include <errno.h>
#include <stdlib.h>

#include "hub/impl.h"

int sync_id_compare(struct sync *a, struct sync *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(sync_tree, sync, by_id, sync_id_compare)

void sync_free(struct sync *s)
{
	struct hub *hub = s->peer->hub;

	timer_disarm(&hub->timers, &s->timer);
	RB_REMOVE(sync_tree, &hub->syncs, s);
	TAILQ_REMOVE(&s->peer->requests, &s->request, entry);
	s->peer->n_syncs--;
	free(s);
}

static struct sync *sync_first(struct peer *p)
{
	struct request *r = TAILQ_FIRST(&p->requests);

	if (!r || r->kind != REQUEST_SYNC)
		return NULL;
	return (struct sync *)((char *)r - offsetof(struct sync, request));
}

void sync_check(struct peer *p)
{
	struct rtbp_buf *b;
	struct sync *s;
	size_t begin;

	if (p->hub->telling || !sync_first(p))
		return;
	wants_tell(p->hub);
	while (p->state == PEER_READY && (s = sync_first(p)) && !s->wanted) {
		if (s->request.wants_answer) {
			b = hub_scratch(p->hub);
			begin = rtbp_msg_begin_result(b, s->request.id);
			rtbp_pack_map(b, 0);
			(void)rtbp_msg_end(b, begin);
			peer_send_scratch(p);
		}
		sync_free(s);
	}
}

static void sync_on_probe(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
			  struct rtbp_val response)
{
	struct link *link = ctx;
	struct sync key = { .id = cookie };
	struct sync *s = RB_FIND(sync_tree, &link->hub->syncs, &key);
	unsigned bit = 1u << link->number;

	(void)ref;
	(void)response;
	if (!s)
		return;
	s->sent &=
		~bit; /* if it was lost: asked again on the next connection, should there be one */
	if (result != SESSION_OK && link->wanted)
		return;
	s->wanted &= ~bit;
	sync_check(s->peer);
}

static void sync_probe(struct sync *s)
{
	struct hub *hub = s->peer->hub;
	unsigned bit;
	int r;

	for (unsigned i = 0; i < LINKS_MAX; i++) {
		bit = 1u << i;
		if (!hub->links[i].wanted)
			s->wanted &= ~bit; /* it carries nothing any more, and may never have */
		if (!(s->wanted & bit) || s->sent & bit)
			continue;
		r = session_probe(hub->links[i].session, sync_on_probe, &hub->links[i], s->id);
		if (r == 0)
			s->sent |= bit;
		else if (r != -ENOTCONN)
			hub_try_again(hub);
	}
}

/* Each link that carries something for this peer, the shared one in any case. */
static unsigned links_of(const struct peer *p)
{
	const struct tracker *t;
	const struct sub *s;
	unsigned links = 1;

	TAILQ_FOREACH(s, &p->subs, in_peer) {
		if (s->chan->join)
			links |= 1u << s->chan->join->link->number;
		links |= wants_links(s);
	}
	TAILQ_FOREACH(t, &p->trackers, in_peer)
		links |= 1u << t->slot->join->link->number;
	return links;
}

void sync_probe_all(struct hub *hub)
{
	struct peer *p;
	struct sync *s;

	RB_FOREACH(s, sync_tree, &hub->syncs)
		sync_probe(s);
	TAILQ_FOREACH(p, &hub->peers, entry)
		sync_check(p);
}

static void sync_timeout(void *ctx)
{
	struct sync *s = ctx;
	struct peer *p = s->peer;

	peer_answer_error(p, &s->request, RTBP_M_SYNC, RTBP_E_TIMEOUT, NULL, -1);
	sync_free(s);
	sync_check(p);
}

void sync_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct rtbp_val v = rtbp_field(params, RTBP_F_TIMEOUT_MS);
	uint64_t timeout_ms = SUBSCRIBE_TIMEOUT_MS;
	struct hub *hub = p->hub;
	bool upstream = false;
	struct sync *s;

	if (v.p && (!rtbp_get_uint(v, &timeout_ms) || timeout_ms > SUBSCRIBE_TIMEOUT_MAX_MS)) {
		peer_answer_error(p, &now, RTBP_M_SYNC, RTBP_E_BAD_REQUEST,
				  "timeout_ms is an integer from 0 to 300000", -1);
		return;
	}
	s = p->n_syncs < PEER_SYNCS_MAX ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		peer_answer_error(p, &now, RTBP_M_SYNC, RTBP_E_BUSY,
				  p->n_syncs < PEER_SYNCS_MAX
					  ? "no memory"
					  : "this client has as many unanswered syncs as it may",
				  -1);
		return;
	}
	s->peer = p;
	p->n_syncs++;
	s->id = hub->next_id++;
	(void)rtbp_get_bool(rtbp_field(params, RTBP_F_UPSTREAM), &upstream);
	s->wanted = upstream ? links_of(p) : 0;
	timer_init(&s->timer, sync_timeout, s);
	timer_arm(&hub->timers, &s->timer, hub_now(hub) + peer_time_left(p, timeout_ms));
	RB_INSERT(sync_tree, &hub->syncs, s);
	peer_request_add(p, &s->request, REQUEST_SYNC, id, wants_answer);
	sync_probe(s);
	sync_check(p);
}
