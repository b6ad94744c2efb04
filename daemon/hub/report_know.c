/* SPDX-License-Identifier: MIT */
/* report_know: what the asker of a `status` may know. */
#include "hub/acl.h"
#include "hub/impl.h"
#include "hub/report.h"

static void mark_sub(const struct sub *s, uint64_t mark)
{
	s->chan->mark = mark;
	for (unsigned i = 0; i < s->n_wants; i++) {
		if (s->wants[i].binding)
			s->wants[i].binding->mark = mark;
	}
}

static void mark_all_of(const struct peer *p, uint64_t mark)
{
	const struct tracker *t;
	const struct request *r;
	const struct grant *g;
	const struct sub *s;

	TAILQ_FOREACH(s, &p->subs, in_peer)
		mark_sub(s, mark);
	TAILQ_FOREACH(t, &p->trackers, in_peer)
		t->chan->mark = mark;
	TAILQ_FOREACH(r, &p->requests, entry) {
		if (r->kind == REQUEST_SEND)
			send_chan(r)->mark = mark;
	}
	TAILQ_FOREACH(g, &p->grants, in_peer) {
		if (g->token && g->token->identity)
			g->token->identity->mark = mark;
	}
}

void report_begin(struct report *r, struct peer *asker, struct rtbp_buf *b)
{
	struct hub *hub = asker->hub;
	const struct peer *p;

	*r = (struct report){
		.hub = hub,
		.asker = asker,
		.b = b,
		.sees_all = access_admin(asker),
		.may_be_own = !access_needs_token(asker),
		.mark = ++hub->mark,
	};
	if (r->sees_all)
		return;
	TAILQ_FOREACH(p, &hub->peers, entry) {
		if (p->cred.uid == asker->cred.uid)
			mark_all_of(p, r->mark);
	}
}

bool report_knows_user(const struct report *r, uid_t uid)
{
	return r->sees_all || r->asker->cred.uid == uid;
}

/* Somebody of the asker's user gave a token of it. */
bool report_knows_identity(const struct report *r, const struct identity *i)
{
	return r->sees_all || i->mark == r->mark;
}

/* Somebody of the asker's user wants one of these. */
bool report_knows_binding(const struct report *r, const struct binding *b)
{
	return r->sees_all || b->mark == r->mark;
}

/* Those that somebody of the asker's user uses, and those that it might. */
bool report_knows_channel(const struct report *r, const struct chan *ch)
{
	if (r->sees_all || ch->mark == r->mark)
		return true;
	return !ch->identity && r->may_be_own &&
	       (access_topic(r->asker, ACL_READ, ch->topic) ||
		access_topic(r->asker, ACL_WRITE, ch->topic) ||
		access_topic(r->asker, ACL_PRESENCE, ch->topic));
}
