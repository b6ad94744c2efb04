/* SPDX-License-Identifier: MIT */
/* ends: what a client has and may have no longer, because its token has ended or the access rules
 * have changed: its subscriptions, what it tracks, what it has queued. */
#include "hub/acl.h"
#include "hub/impl.h"

static struct sub *find_sub(struct peer *p, gone_fn gone, const void *ctx)
{
	struct sub *s;

	TAILQ_FOREACH(s, &p->subs, in_peer) {
		if (gone(p, s->chan, access_rights(s->broadcasts, s->presence, s->chan->topic),
			 ctx))
			break;
	}
	return s;
}

static struct tracker *find_tracker(struct peer *p, gone_fn gone, const void *ctx)
{
	struct tracker *t;

	TAILQ_FOREACH(t, &p->trackers, in_peer) {
		if (gone(p, t->chan, ACL_PRESENCE, ctx))
			break;
	}
	return t;
}

void ends_apply(struct peer *p, gone_fn gone, const void *ctx, enum rtbp_error error,
		const char *code, const char *text)
{
	struct tracker *t;
	struct sub *s;

	/* From the start after each end, which may be the end of others. */
	while ((s = find_sub(p, gone, ctx)))
		sub_reject(s, error, code, text);
	while ((t = find_tracker(p, gone, ctx)))
		tracker_reject(t, error, text);
	sends_reject(p, gone, ctx, error, text);
}
