/* SPDX-License-Identifier: MIT */
/* What must be true of a hub whenever a turn has ended. */
#include "hub_fixture.h"

#include <string.h>

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
	if (j && join_is_open(j) && !join_misfit(j) && !slot->in_flight &&
	    (n ? slot->sent_version != slot->version : slot->shown))
		MUST(slot->timer.armed);
}

static void check_subs(struct chan *ch)
{
	unsigned n = 0, n_on_channel = 0;
	struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		MUST(s->chan == ch);
		MUST(s->on_channel || (!s->broadcasts && !s->presence && s->n_wants));
		MUST(!s->has_news);
		n_on_channel += s->on_channel;
		MUST(s->peer->state == PEER_READY);
		MUST(s->answered || s->waiting);
		MUST(s->waiting == s->timer.armed);
		MUST(sub_find(s->peer, ch->number) == s);
		MUST(!s->has_snapshot || (s->presence && s->answered));
		n++;
	}
	MUST(n == ch->n_subs);
	MUST(n_on_channel == ch->n_on_channel);
}

static unsigned check_sends(struct chan *ch, enum send_way way)
{
	struct send_queue *q = &ch->sends.ways[way];
	unsigned n = 0, n_given = 0;
	bool queued_seen = false;
	struct send *send;

	TAILQ_FOREACH(send, &q->list, entry) {
		MUST(send->chan == ch && send->way == way);
		MUST(!(send->given && queued_seen));
		MUST(way != SEND_WS || !send->given || ch->join->state == JOIN_JOINED);
		MUST(send->given != send->ttl_timer.armed);
		MUST(way != SEND_HTTP || send->name[0]);
		if (!send->given && !queued_seen)
			MUST(q->next == send);
		queued_seen |= !send->given;
		n_given += send->given;
		n++;
	}
	MUST(queued_seen == (q->next != NULL));
	MUST(n == q->n);
	return n_given;
}

static void check_ways(struct hub *hub, struct chan *ch)
{
	unsigned n_given = check_sends(ch, SEND_WS), n_posted = 0, n_posts = 0, n_echoes = 0;
	struct echo *e;
	struct chan *c;

	/* The oldest unanswered one is looked after: by a timer, or a question on its way. */
	MUST(!n_given || ch->sends.late_timer.armed || ch->join->probe_ref || ch->join->probe_due);
	n_given = check_sends(ch, SEND_HTTP);
	for (unsigned i = 0; i < POSTS_MAX; i++) {
		if (!hub->posts[i].id || hub->posts[i].chan != ch)
			continue;
		n_posted += hub->posts[i].n;
		n_posts++;
	}
	MUST(n_posted == n_given);
	MUST(n_posts == (ch->sends.is_posting ? 1 : 0));
	TAILQ_FOREACH(c, &hub->posts_waiting, sends.in_posts) {
		if (c == ch)
			break;
	}
	MUST((c != NULL) == ch->sends.waits_to_post);
	MUST(ch->sends.waits_to_post || ch->sends.is_posting || !ch->sends.ways[SEND_HTTP].n);
	TAILQ_FOREACH(e, &ch->sends.echoes, entry)
		n_echoes++;
	MUST(n_echoes == ch->sends.n_echoes && n_echoes <= ECHOES_MAX);
}

/* What is held is being asked about, and nobody has been told of it. */
static void check_hold(struct chan *ch)
{
	struct sub *s;

	if (ch->hold.active) {
		MUST(ch->join && ch->join->state == JOIN_JOINED);
		MUST(ch->join->probe_ref || ch->join->probe_due);
	} else {
		MUST(STAILQ_EMPTY(&ch->hold.stored) && STAILQ_EMPTY(&ch->hold.live));
		MUST(!ch->gap.from_wall_ms);
	}
	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!s->replay)
			continue;
		MUST(s->replay->sub == s);
		MUST(s->replay->state == REPLAY_ASIDE || !s->replay->join);
		MUST(s->replay->state != REPLAY_OVER || s->replay->timer.armed);
		MUST(s->replay->state != REPLAY_OVER || STAILQ_EMPTY(&s->replay->live));
		/* One whose channel is there has been seen to. */
		MUST(s->replay->state != REPLAY_WANTED || !s->answered ||
		     ch->join->state != JOIN_JOINED || ch->hold.active ||
		     replay_find(ch, REPLAY_ASIDE));
	}
}

static void check_chan(struct hub *hub, struct chan *ch)
{
	struct join *j = ch->join;
	struct spill *sp;

	MUST(!ch->dead);
	MUST(RB_FIND(chan_key_tree, &hub->chans, ch) == ch);
	MUST(!j || j->identity == ch->identity);
	MUST(j || ch->n_subs || ch->proof || ch->sends.ways[SEND_HTTP].n ||
	     !TAILQ_EMPTY(&ch->spills));
	MUST(j || (!ch->n_on_channel && !ch->sends.ways[SEND_WS].n && !ch->slot.n_trackers &&
		   !ch->room.fold));
	MUST(!ch->feed || (ch->feed->chan == ch && !ch->feed->is_proof && ch->feed->join == j));
	MUST(!ch->proof || (ch->proof->chan == ch && ch->proof->is_proof));
	MUST(!j || j->owner == ch);
	check_subs(ch);
	check_ways(hub, ch);
	check_hold(ch);
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
	else if (j->state == JOIN_JOINED)
		MUST(j->linger_timer.armed);
	MUST(wanted || j->state != JOIN_REJECTED);
	MUST(!j->trial || (j->trial->real == j && j->state != JOIN_JOINED));
	MUST(!j->sent_unproven || j->state == JOIN_JOINING);
	MUST(j->is_trial == j->link->is_probation || j->link->number == 0);
	MUST(!j->trial_token || (j->tries_token && j->owner));
	if (wanted && j->state == JOIN_JOINED)
		MUST((join_misfit(j) != NULL) == j->rejoin_timer.armed);
	else
		MUST(!j->rejoin_timer.armed);
}

/* ---- database changes ---- */

static bool has_item(const struct feed *f, const struct binding *b)
{
	for (unsigned i = 0; i < f->n_items; i++) {
		if (f->items[i].binding == b)
			return true;
	}
	return false;
}

static void check_items(struct hub *hub, const struct feed *f)
{
	unsigned max = f->chan && !f->is_proof ? CHAN_BINDINGS : FEED_BINDINGS;

	MUST(f->n_items <= max);
	for (unsigned i = 0; i < f->n_items; i++) {
		const struct feed_item *item = &f->items[i];
		struct binding *b = item->binding;

		MUST(RB_FIND(binding_id_tree, &hub->bindings_by_id, b) == b);
		MUST(!item->sent || f->join->state == JOIN_JOINED || f->join->live ||
		     f->state == FEED_OVER);
		for (unsigned k = 0; k < i; k++)
			MUST(f->items[k].binding != b);
		/* What it says it delivers the server's channel has. */
		if (f->state == FEED_READY && b->feed == f && b->n_wants && !f->chan)
			MUST(item->sent);
	}
}

static void check_feed(struct hub *hub, struct feed *f)
{
	unsigned n_sources = 0;
	struct feed *other;

	MUST(f->join);
	if (!f->chan || f->is_proof)
		MUST(f->join->owner == f);
	else
		MUST(f->chan->feed == f);
	if (f->is_proof)
		MUST(f->chan->proof == f);
	if (f->state == FEED_READY || f->state == FEED_PENDING)
		MUST(f->join->state == JOIN_JOINED);
	check_items(hub, f);
	TAILQ_FOREACH(other, &hub->feeds, entry) {
		n_sources += other->into == f;
		if (f->into == other)
			MUST(other->state != FEED_OVER);
	}
	MUST(n_sources == f->n_sources);
	MUST(!f->into || !f->n_sources);
	MUST(!f->overlaps || f->n_sources || f->overlap_timer.armed);
	MUST(TAILQ_EMPTY(&f->twins) == (f->n_twins == 0)); /* the element is feed_merge.c's own */
	MUST(!f->n_twins || f->overlaps || f->n_sources);
}

static void check_binding(struct hub *hub, struct binding *b)
{
	const char *code, *text;
	unsigned n_wants = 0;
	struct want *w;

	MUST(b->n_wants || b->n_items);
	MUST(RB_FIND(binding_text_tree, &hub->bindings, b) == b);
	TAILQ_FOREACH(w, &b->wants, in_binding) {
		MUST(w->binding == b);
		MUST(!w->is_repeated);
		MUST(!w->gap); /* told by now */
		MUST(w->sub->peer->state == PEER_READY);
		MUST(!w->flowed || w->answered);
		n_wants++;
	}
	MUST(n_wants == b->n_wants);
	MUST(!b->feed || (has_item(b->feed, b) && b->feed->state != FEED_OVER && !b->bad));
	MUST(!b->n_wants || b->feed || b->bad || b->suspects || hub->drain >= HUB_FAREWELL);
	if (b->n_wants && b->bad && !hub->private_only)
		MUST(hub->bindings_timer.armed && hub->bindings_timer.at_ms >= hub_now(hub));
	if (strcmp(binding_state(b, &code, &text), "ready") == 0)
		MUST(!b->gap_from_wall_ms);
}

static void check_wants(struct peer *p)
{
	struct sub *s;
	struct want *w;
	unsigned n = 0;

	TAILQ_FOREACH(s, &p->subs, in_peer) {
		n += s->n_wants;
		for (unsigned i = 0; i < s->n_wants; i++) {
			bool found = false;

			if (s->wants[i].binding) {
				TAILQ_FOREACH(w, &s->wants[i].binding->wants, in_binding)
					found |= w->sub == s;
				MUST(found);
				MUST(s->wants[i].binding->identity == s->chan->identity);
			}
			MUST(s->wants[i].sub == s);
		}
	}
	MUST(n == p->n_bindings);
	MUST(n <= p->hub->conf.max_bindings);
}

static void check_changes(struct hub *hub)
{
	unsigned n_bindings = 0, n_texts = 0, n_feeds = 0, n_items = 0;
	struct binding *b;
	struct feed *f;

	MUST(TAILQ_EMPTY(&hub->subs_with_news));
	TAILQ_FOREACH(f, &hub->feeds, entry) {
		check_feed(hub, f);
		n_items += f->n_items;
		n_feeds++;
	}
	MUST(n_feeds == hub->n_feeds);
	RB_FOREACH(b, binding_id_tree, &hub->bindings_by_id) {
		check_binding(hub, b);
		n_items -= b->n_items;
		n_bindings++;
	}
	RB_FOREACH(b, binding_text_tree, &hub->bindings)
		n_texts++;
	MUST(n_bindings == hub->n_bindings && n_texts == n_bindings);
	MUST(n_items == 0);
}

/* ---- identities ---- */

static void check_grant(const struct peer *p, const struct grant *g)
{
	const struct grant *other;
	bool found = false;

	MUST(g->peer == p);
	MUST(!g->token == (g->text[0] != '\0') || p->pending == g);
	if (!g->token)
		return;
	MUST(g->timer.armed);
	TAILQ_FOREACH(other, &g->token->grants, in_token)
		found |= other == g;
	MUST(found);
	MUST(p->pending == g ? g->token->state == TOKEN_WAITING : g->token->identity != NULL);
}

static void check_grants(struct peer *p)
{
	struct identity *identity;
	const char *text;
	struct grant *g;
	struct sub *s;
	unsigned n = 0;

	TAILQ_FOREACH(g, &p->grants, in_peer) {
		check_grant(p, g);
		n++;
	}
	MUST(n == p->n_grants);
	if (p->pending)
		check_grant(p, p->pending);
	MUST(p->n_held == 0 || p->pending);
	MUST(p->n_held || !p->held_bytes);
	TAILQ_FOREACH(s, &p->subs, in_peer) {
		MUST(peer_identity(p, s->chan->topic, &identity, &text) == 0);
		MUST(s->chan->identity == identity);
	}
}

static unsigned count_refs(struct hub *hub, const struct identity *i)
{
	unsigned n = 0;
	struct binding *b;
	struct chan *ch;
	struct feed *f;
	struct join *j;

	RB_FOREACH(ch, chan_number_tree, &hub->chans_by_number)
		n += ch->identity == i;
	RB_FOREACH(b, binding_id_tree, &hub->bindings_by_id)
		n += b->identity == i;
	TAILQ_FOREACH(f, &hub->feeds, entry)
		n += f->identity == i;
	RB_FOREACH(j, join_id_tree, &hub->joins)
		n += j->identity == i;
	return n;
}

static void check_identities(struct hub *hub)
{
	const struct grant *g;
	struct identity *i;
	struct token *t, *other;
	unsigned n = 0, n_grants, n_kept;

	MUST(TAILQ_EMPTY(&hub->tokens_with_news));
	TAILQ_FOREACH(t, &hub->tokens, entry) {
		n_grants = 0;
		TAILQ_FOREACH(g, &t->grants, in_token)
			n_grants++;
		MUST(n_grants == t->n_grants);
		MUST(n_grants || (t->identity && t->identity->n_refs));
		n_kept = 0;
		if (t->identity) {
			TAILQ_FOREACH(other, &t->identity->tokens, in_identity)
				n_kept += !other->n_grants;
		}
		MUST(n_kept <= 1);
		MUST(t->state != TOKEN_REFUSED);
		MUST((t->state == TOKEN_WAITING) == (t->identity == NULL));
		MUST(t->state != TOKEN_WAITING || t->trial || t->is_believed);
		MUST(!t->trial || t->trial->token == t);
		n++;
	}
	MUST(n == hub->n_tokens);
	TAILQ_FOREACH(i, &hub->identities, entry)
		MUST(i->n_refs == count_refs(hub, i) && (i->n_refs || !TAILQ_EMPTY(&i->tokens)));
}

static void check_link(struct hub *hub, struct link *link)
{
	unsigned n = 0, n_joining = 0, n_queued = 0, n_unproven = 0;
	struct join *j;

	RB_FOREACH(j, join_topic_tree, &link->joins) {
		MUST(j->link == link);
		n++;
		n_joining += j->state == JOIN_JOINING;
		n_unproven += j->sent_unproven;
	}
	TAILQ_FOREACH(j, &link->queue, queue_entry)
		n_queued++;
	MUST(n == link->n_joins);
	MUST(n_queued <= n);
	MUST(n_joining == link->joins_unanswered);
	MUST(n_unproven == link->unproven_unanswered);
	MUST(link->is_probation == (hub->probation.link == link));
	MUST(link->joins_unanswered <= JOINS_UNANSWERED_MAX);
	MUST(link->wanted || n == 0);
	MUST(link->number == 0 || link->number < hub->conf.max_links || !link->wanted);
	if (link->number && link->wanted && !link->is_probation && hub->drain == HUB_RUNNING)
		MUST(link->idle_timer.armed == (n == 0));
}

static void check_peer(struct peer *p)
{
	unsigned n_subs = 0, n_sends = 0, n_trackers = 0;
	struct request *r;
	struct tracker *t;
	struct sub *s;

	MUST(!p->reaped);
	MUST(p->state != PEER_GONE);
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
	check_wants(p);
	check_grants(p);
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
		n_sends += ch->sends.ways[SEND_WS].n + ch->sends.ways[SEND_HTTP].n;
	}
	RB_FOREACH(ch, chan_key_tree, &hub->chans)
		n_by_key++;
	RB_FOREACH(s, send_tree, &hub->sends) {
		bytes += s->news.notice->size;
		n_sends--;
	}
	MUST(n == hub->n_chans);
	MUST(n_by_key == hub->n_chans);
	MUST(n_sends == 0);
	MUST(bytes == hub->send_bytes);
}

static void check_users(struct hub *hub)
{
	unsigned n_peers = 0, n_outcomes = 0, n_posts;
	struct user *u;
	size_t bytes = 0;

	RB_FOREACH(u, user_tree, &hub->users) {
		n_posts = 0;
		for (unsigned i = 0; i < POSTS_MAX; i++)
			n_posts += hub->posts[i].id && hub->posts[i].user == u;
		MUST(n_posts == u->n_posts);
		MUST(user_is_owner(hub, u->uid) || n_posts <= POSTS_MAX / 2);
		n_peers += u->n_peers;
		n_outcomes += u->n_outcomes;
		bytes += u->send_bytes;
	}
	MUST(n_peers == hub->n_peers);
	MUST(n_outcomes == hub->n_outcomes && n_outcomes <= OUTCOMES_MAX);
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
		check_peer(p);
		n_peers++;
	}
	MUST(n_peers == hub->n_peers);
	check_chans(hub);
	check_users(hub);
	check_changes(hub);
	check_identities(hub);
	RB_FOREACH(j, join_id_tree, &hub->joins) {
		check_join(hub, j);
		hub_check_wish(hub, j);
		n_joins++;
	}
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		check_link(hub, &hub->links[i]);
		n_on_links += hub->links[i].n_joins;
	}
	MUST(n_joins == n_on_links);
}
