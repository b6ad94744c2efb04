/* SPDX-License-Identifier: MIT */
/*
 * park: some refusals say nothing of the join that met them but of the project (it is switched off,
 * its database is down, too many joins in a second), of all its public channels, of the daemon's
 * own token, of the connection. Each further join would only hold everything up for 5 s more: they
 * wait, and when the pause is over one tests again.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

enum { PARKS = 4, PARK_REFUSES_MS = 60000, OUTAGE_BELIEVED_MS = 60000 };

/* Those that a join may have to wait in. */
static unsigned parks_of(struct join *j, struct park *ret[PARKS])
{
	unsigned n = 0;

	ret[n++] = &j->hub->park_all;
	ret[n++] = &j->link->park;
	if (!j->is_private)
		ret[n++] = &j->hub->park_public;
	if (join_is_own(j))
		ret[n++] = &j->hub->park_own;
	return n;
}

/* A policy that fails, on a topic that somebody chose, looks like the database being down. It is
 * believed when a join meets it that cannot be blamed, or that of a second user. */
static bool is_outage_of_one(const struct join *j)
{
	const struct hub *hub = j->hub;

	if (!j->is_private || (!j->is_trial && join_is_proven(j)))
		return false;
	return !hub->outage_at_ms || hub_now(hub) - hub->outage_at_ms > OUTAGE_BELIEVED_MS ||
	       hub->outage_uid == j->uid;
}

static struct park *concerned(const struct join *j, const struct reason *reason)
{
	switch (reason->class) {
	case REASON_OUTAGE:
		return is_outage_of_one(j) ? NULL : &j->hub->park_all;
	case REASON_PROJECT:
	case REASON_JOIN_RATE:
		return &j->hub->park_all;
	case REASON_TOO_MANY_USERS:
		return &j->link->park;
	case REASON_PRIVATE_ONLY:
		return j->is_private ? NULL : &j->hub->park_public;
	case REASON_AUTH:
		return join_is_own(j) ? &j->hub->park_own : NULL;
	default:
		return NULL;
	}
}

bool park_concerns(const struct join *j, const struct reason *reason)
{
	return concerned(j, reason) != NULL;
}

/* What tested got another answer: what it was to test is over. */
static void tested(struct join *j, const struct park *but)
{
	struct park *parks[PARKS];
	unsigned n = parks_of(j, parks);

	for (unsigned i = 0; i < n; i++) {
		if (parks[i] != but && parks[i]->probe == j->id)
			*parks[i] = (struct park){ 0 };
	}
}

struct park *park_on_refusal(struct join *j, const struct reason *reason, const char *text)
{
	struct park *p = concerned(j, reason);
	uint64_t now = hub_now(j->hub);
	uint32_t least;

	tested(j, p);
	if (reason->class == REASON_JOIN_RATE)
		pace_too_fast(&j->hub->joins_pace, now);
	if (reason->class == REASON_AUTH && own_is_for(j)) {
		own_was_refused(j->hub, j->own_serial, reason->code, text);
		return p->lasts ? p : NULL; /* there is another one by now */
	}
	if (reason->class == REASON_OUTAGE) {
		j->hub->outage_at_ms = now;
		j->hub->outage_uid = j->uid;
	}
	if (!p || now < p->until_ms)
		return p; /* others that were out already meet the same */
	least = reason->retry_ms == REASON_NEVER ? PARK_REFUSES_MS : (uint32_t)reason->retry_ms;
	p->pause_ms = p->pause_ms ? p->pause_ms * 2 : least;
	if (p->pause_ms > PARK_MAX_MS)
		p->pause_ms = PARK_MAX_MS;
	p->until_ms = now + p->pause_ms + hub_random(j->hub, p->pause_ms / 8);
	p->probe = 0;
	p->refuses = reason->retry_ms == REASON_NEVER;
	snprintf(p->code, sizeof(p->code), "%s", reason->code);
	snprintf(p->text, sizeof(p->text), "%s", text);
	log_warning("%s (uid %u): %s; what concerns it waits %" PRIu64
		    " ms, then one join tests again; what to do: %s",
		    j->wire_topic, j->uid, text, p->until_ms - now, reason->advice);
	return p;
}

/* A new connection, and perhaps a project or a key that has changed: one tests at once. */
void parks_on_online(struct hub *hub)
{
	struct park *parks[] = { &hub->park_public, &hub->park_own };

	for (unsigned i = 0; i < sizeof(parks) / sizeof(*parks); i++) {
		if (!parks[i]->lasts && parks[i]->until_ms > hub_now(hub))
			parks[i]->until_ms = hub_now(hub);
	}
}

void park_on_success(struct join *j)
{
	struct park *parks[PARKS];
	unsigned n = parks_of(j, parks);

	/* Only the one that tests says something of now: others may have been sent before. */
	for (unsigned i = 0; i < n; i++) {
		if (parks[i]->probe == j->id)
			*parks[i] = (struct park){ 0 };
	}
}

struct park *park_of(struct join *j, uint64_t *ret_at)
{
	struct park *parks[PARKS];
	unsigned n = parks_of(j, parks);

	if (own_is_for(j))
		(void)own_token(j->hub); /* it may have ended: park_own says so then */
	for (unsigned i = 0; i < n; i++) {
		if (!parks[i]->until_ms)
			continue;
		*ret_at = parks[i]->until_ms;
		if (hub_now(j->hub) < parks[i]->until_ms)
			return parks[i];
		*ret_at = UINT64_MAX; /* the answer of the one that tests brings us back */
		if (parks[i]->probe ? parks[i]->probe != j->id : j->link->joins_unanswered > 0)
			return parks[i]; /* behind what was out already it would only wait */
	}
	return NULL;
}

void park_going(struct join *j)
{
	struct park *parks[PARKS];
	unsigned n = parks_of(j, parks);

	for (unsigned i = 0; i < n; i++) {
		if (parks[i]->until_ms)
			parks[i]->probe = j->id;
	}
}

void park_forget_join(struct join *j)
{
	struct park *parks[PARKS];
	unsigned n = parks_of(j, parks);

	for (unsigned i = 0; i < n; i++) {
		if (parks[i]->probe == j->id)
			parks[i]->probe = 0;
	}
}
