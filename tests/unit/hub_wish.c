/* SPDX-License-Identifier: MIT */
/* Whenever a turn has ended no wish is forgotten: something brings each on. */
#include "hub_fixture.h"

#include <inttypes.h>

#include "realtime/reasons.h"

/* The queue is looked at again by then: by its timer, or with an answer that is still to come. */
static bool is_looked_at(const struct hub *hub, const struct join *j, uint64_t at)
{
	return (hub->join_timer.armed && hub->join_timer.at_ms <= at) || j->link->joins_unanswered;
}

/* What it waits in is lifted by somebody: its time, the one that tests, another token. */
static bool is_lifted(struct hub *hub, const struct join *j, const struct park *park)
{
	if (park->lasts)
		return park == &hub->park_own && hub->conf.has_own_token && !hub->own.token;
	if (hub_now(hub) < park->until_ms)
		return is_looked_at(hub, j, park->until_ms);
	return park->probe || j->link->joins_unanswered;
}

/* One is being tried, this one's time comes, or an earlier one of its topic is being left. */
static bool is_tried(const struct hub *hub, const struct trial *t)
{
	struct link *link = hub->probation.link;

	return hub->probation.current || hub->probation.again_timer.armed ||
	       (link && link_has_topic(link, t->real->topic));
}

/* JOIN_WAITING on a connection that is there. */
static bool is_on_its_way(struct hub *hub, struct join *j)
{
	uint64_t at, now = hub_now(hub);
	struct park *park = park_of(j, &at);

	if (park)
		return is_lifted(hub, j, park);
	if (j->retry_at_ms > now)
		return is_looked_at(hub, j, j->retry_at_ms);
	if (j->trial && !j->trial->in_place)
		return is_tried(hub, j->trial);
	return is_looked_at(hub, j, now + 1000); /* the pace of joins, or a full mailbox */
}

/* Every wish is joined, on its way, waiting with a time or for something that comes, or refused for
 * good with a word that says why. */
void hub_check_wish(struct hub *hub, struct join *j)
{
	enum session_state link = session_get_state(j->link->session);
	const struct reason *reason;

	if (hub->drain >= HUB_FAREWELL || hub->awake || !j->ops->wanted(j))
		return;
	MUST(j->link->wanted);
	MUST(link != SESSION_IDLE);
	switch (j->state) {
	case JOIN_WAITING:
		MUST_MSG(link != SESSION_ONLINE || is_on_its_way(hub, j),
			 "%s waits, and nothing brings it on: code %s, trial %d, retry at %" PRIu64
			 ", now %" PRIu64,
			 j->wire_topic, j->code, j->trial != NULL, j->retry_at_ms, hub_now(hub));
		break;
	case JOIN_REJECTED:
		reason = reason_of_code(j->code);
		MUST_MSG(reason && reason->retry_ms == REASON_NEVER,
			 "%s is refused for good: code %s", j->wire_topic, j->code);
		MUST(!own_is_for(j) || reason->class != REASON_AUTH);
		MUST(!j->retry_at_ms || j->text[0]);
		break;
	default:
		MUST(link == SESSION_ONLINE);
		break;
	}
	MUST(!j->token_due || hub->push_timer.armed || hub->busy_timer.armed);
	MUST(!j->has_news && !j->needs_place);
}
