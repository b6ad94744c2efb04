/* SPDX-License-Identifier: MIT */
/*
 * feed_merge: small feeds of a link become one, without a hole and without a row twice.
 *
 *   plan: the smallest ones that fit into one -> target joined with all their bindings
 *   system ok -> the bindings are the target's; the sources stay for MERGE_OVERLAP_MS, then leave
 *
 * The server looks up who wants a row and then tells them, so a row may still come by a source
 * alone a moment after the target is ready; most come by both, at the same time. In the overlap
 * each row is remembered, by binding and a hash of its contents, until its twin has come by the
 * other feed and was dropped.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

enum {
	MERGE_SETTLE_MS = 200,
	MERGES_AT_ONCE = 4, /* of a link: each is a channel more for a moment */
	MERGE_AGAIN_MS = 300000,
	MERGE_TWIN_MS = 1000, /* longer than the sources stay */
	TWINS_MAX = 4096,
};

struct twin {
	TAILQ_ENTRY(twin) entry;
	uint64_t binding; /* its id: no pointer, it may go */
	uint64_t hash;
	bool by_target;
};

/* ---- rows in the overlap ---- */

static void twin_free(struct feed *target, struct twin *t)
{
	TAILQ_REMOVE(&target->twins, t, entry);
	target->n_twins--;
	free(t);
}

static void twins_free(struct feed *target)
{
	while (!TAILQ_EMPTY(&target->twins))
		twin_free(target, TAILQ_FIRST(&target->twins));
}

/* Return: whether a note of it by the other side was there, and is gone. */
static bool twin_take(struct feed *target, struct binding *b, uint64_t hash, bool by_target)
{
	struct twin *t;

	TAILQ_FOREACH(t, &target->twins, entry) {
		if (t->binding == b->id && t->hash == hash && t->by_target != by_target) {
			twin_free(target, t);
			return true;
		}
	}
	return false;
}

static bool twin_came(struct feed *target, struct binding *b, uint64_t hash, bool by_target)
{
	struct twin *t;

	if (twin_take(target, b, hash, by_target))
		return true;
	t = malloc(sizeof(*t));
	if (!t)
		return false; /* twice is better than not at all */
	*t = (struct twin){ .binding = b->id, .hash = hash, .by_target = by_target };
	TAILQ_INSERT_TAIL(&target->twins, t, entry);
	if (++target->n_twins > TWINS_MAX)
		twin_free(target, TAILQ_FIRST(&target->twins));
	return false;
}

bool merge_needs_hash(const struct feed *f)
{
	return f->overlaps || f->n_sources || f->into;
}

bool merge_is_new(struct feed *f, const struct feed_item *item, uint64_t hash)
{
	struct binding *b = item->binding;

	if (f->into && f->into->overlaps && b->feed == f->into)
		return item->handed && !twin_came(f->into, b, hash, false);
	if (b->feed != f) {
		/* A target that is not ready: the source brings it, or has brought it. */
		if (f->n_sources && f->state == FEED_PENDING)
			(void)twin_take(f, b, hash, true);
		return false;
	}
	/* The word that the target is ready may come between the two copies of a row. */
	if (f->into && f->into->state == FEED_PENDING)
		(void)twin_came(f->into, b, hash, false);
	return !f->overlaps || !twin_came(f, b, hash, true);
}

/* ---- its course ---- */

static void set_handed(struct feed *source, const struct binding *b, bool handed)
{
	for (unsigned i = 0; i < source->n_items; i++) {
		if (!b || source->items[i].binding == b)
			source->items[i].handed = handed;
	}
}

uint32_t merge_overlap_ms(const struct feed *target)
{
	return target->is_moved ? MOVE_OVERLAP_MS : MERGE_OVERLAP_MS;
}

void merge_ready(struct feed *target)
{
	struct feed *f, *next;
	struct binding *b;

	target->overlaps = true;
	target->ready_wall_ms = clock_wall(target->hub->clock);
	timer_arm(&target->hub->timers, &target->overlap_timer,
		  hub_now(target->hub) + merge_overlap_ms(target) + MERGE_TWIN_MS);
	for (unsigned i = 0; i < target->n_items; i++) {
		b = target->items[i].binding;
		if (!target->items[i].sent || !b->feed || b->feed->into != target)
			continue;
		set_handed(b->feed, b, true);
		b->feed = target;
	}
	/* They are wanted no longer, and leave after a while. */
	for (f = TAILQ_FIRST(&target->hub->feeds); f; f = next) {
		next = TAILQ_NEXT(f, entry);
		if (f->into != target)
			continue;
		f->join->lingers_on = true;
		join_update(f->join);
	}
}

void merge_abandon(struct feed *target)
{
	struct feed *f;

	log_info("feeds were not merged: the new one could not be joined");
	TAILQ_FOREACH(f, &target->hub->feeds, entry) {
		if (f->into != target)
			continue;
		f->into = NULL;
		f->no_merge_before_ms = hub_now(target->hub) + MERGE_AGAIN_MS;
	}
	target->n_sources = 0;
	twins_free(target);
	target->state = FEED_OVER;
}

/* A source may be there still: a binding of it that nobody wanted when it was planned has been
 * asked for again. It is a feed like any other from now on. */
void merge_overlap_over(void *ctx)
{
	struct feed *target = ctx, *f;

	timer_disarm(&target->hub->timers, &target->overlap_timer);
	TAILQ_FOREACH(f, &target->hub->feeds, entry) {
		if (f->into != target)
			continue;
		f->into = NULL;
		f->join->lingers_on = false;
		set_handed(f, NULL, false);
	}
	target->n_sources = 0;
	target->overlaps = false;
	twins_free(target);
	feeds_tidy_later(target->hub);
}

/* It is freed. */
void merge_forget(struct feed *f)
{
	struct hub *hub = f->hub;
	struct feed *other;

	if (f->into && --f->into->n_sources == 0 && !f->into->overlaps)
		twins_free(f->into);
	TAILQ_FOREACH(other, &hub->feeds, entry) {
		if (other->into != f)
			continue;
		other->into = NULL;
		other->join->lingers_on = false;
	}
	twins_free(f);
}

/* ---- which ---- */

static bool may_merge(const struct feed *f, const struct link *link)
{
	return f->join->link == link && !f->chan && f->state == FEED_READY && !f->into &&
	       !f->n_sources && !f->overlaps && hub_now(f->hub) >= f->no_merge_before_ms &&
	       feed_live(f) > 0;
}

static bool add_all(struct feed *target, struct feed *source)
{
	for (unsigned i = 0; i < source->n_items; i++) {
		struct binding *b = source->items[i].binding;

		if (b->n_wants && b->feed == source && feed_add(target, b) < 0)
			return false;
	}
	return true;
}

/* ---- to another link ---- */

bool merge_may_move(const struct feed *f)
{
	return may_merge(f, f->join->link);
}

void merge_move(struct feed *f, struct link *to)
{
	struct feed *target = feed_new(to, NULL, false, f->identity, f->uid);

	if (!target)
		return;
	target->is_moved = true;
	if (add_all(target, f)) {
		f->into = target;
		target->n_sources = 1;
		log_info("feed %" PRIu64 " moves from link %u to link %u", f->number,
			 f->join->link->number, to->number);
	}
	join_update(target->join); /* without bindings it is not wanted, and is freed */
}

/* What was on its way there when the other feed took over is lost, unless something that was sent
 * later has come. */
void merge_source_lost(struct feed *f)
{
	struct binding *b;

	if (!f->into || !f->into->is_moved || !f->into->overlaps ||
	    f->join->link->received_wall_ms > f->into->ready_wall_ms + MERGE_OVERLAP_MS)
		return;
	for (unsigned i = 0; i < f->n_items; i++) {
		b = f->items[i].binding;
		if (!f->items[i].handed || b->feed != f->into)
			continue;
		binding_stops(b, f->join->link->received_wall_ms, "moved");
		binding_flows(b);
	}
}

/* ---- when, and which ones together ---- */

void feeds_tidy_later(struct hub *hub)
{
	uint64_t at = hub_now(hub) + MERGE_SETTLE_MS;

	if (!hub->dying && (!hub->tidy_timer.armed || hub->tidy_timer.at_ms > at))
		timer_arm(&hub->timers, &hub->tidy_timer, at);
}

/* `like`: of this one's identity; NULL: of any. */
static struct feed *smallest(struct link *link, unsigned at_most, bool pieces_only,
			     const struct feed *like)
{
	struct feed *f, *found = NULL;
	unsigned n, least = at_most + 1;

	TAILQ_FOREACH(f, &link->hub->feeds, entry) {
		if (!may_merge(f, link) || f->is_planned || (pieces_only && !f->is_piece) ||
		    (like && f->identity != like->identity))
			continue;
		n = feed_live(f);
		if (n < least) {
			least = n;
			found = f;
		}
	}
	return found;
}

/* Marks what goes into one with `first`. Return: how many feeds. */
static unsigned plan_with(struct link *link, struct feed *first, bool pieces_only)
{
	unsigned room = FEED_BINDINGS - feed_live(first), n = 1;
	struct feed *f;

	first->is_planned = true;
	while ((f = smallest(link, room, pieces_only, first))) {
		f->is_planned = true;
		room -= feed_live(f);
		n++;
	}
	return n;
}

/* Marks what goes into one: the smallest of an identity that has several. Return: how many feeds.
 */
static unsigned plan(struct link *link, bool pieces_only)
{
	struct feed *f, *first;
	unsigned n = 0;

	TAILQ_FOREACH(f, &link->hub->feeds, entry)
		f->is_planned = false;
	while ((first = smallest(link, FEED_BINDINGS, pieces_only, NULL))) {
		n = plan_with(link, first, pieces_only);
		if (n > 1)
			break;
		/* Alone: it stays marked, so that the next one is another. */
	}
	if (n < 2)
		return n;
	TAILQ_FOREACH(f, &link->hub->feeds, entry)
		f->is_planned &= f->identity == first->identity;
	return n;
}

static struct identity *planned_identity(const struct hub *hub)
{
	const struct feed *f;

	TAILQ_FOREACH(f, &hub->feeds, entry) {
		if (f->is_planned)
			return f->identity;
	}
	return NULL;
}

static void merge(struct link *link)
{
	struct feed *f, *target = feed_new(link, NULL, false, planned_identity(link->hub), 0);

	if (!target)
		return;
	TAILQ_FOREACH(f, &link->hub->feeds, entry) {
		if (f == target || !f->is_planned)
			continue;
		if (!add_all(target, f))
			break;
		target->uid = f->uid;
		f->into = target;
		target->n_sources++;
	}
	target->join->uid = target->uid;
	log_info("merging %u feeds on link %u into one", target->n_sources, link->number);
	join_update(target->join);
}

/* A few channels before the link is full; then all that can be is merged, for calm afterwards. */
static bool is_short(const struct link *link)
{
	unsigned max = link_max(link), margin = max / 10 > 2 ? max / 10 : 2;

	return link->n_joins + margin >= max;
}

/* The pieces are not known yet. */
static bool is_halving(const struct link *link)
{
	const struct feed *f;

	TAILQ_FOREACH(f, &link->hub->feeds, entry) {
		if (f->join->link == link && f->is_trial && f->state != FEED_OVER)
			return true;
	}
	return !TAILQ_EMPTY(&link->hub->suspects);
}

static void tidy_link(struct link *link)
{
	unsigned n_running = 0;
	struct feed *f;
	bool pieces_only;

	TAILQ_FOREACH(f, &link->hub->feeds, entry)
		n_running += f->join->link == link && (f->n_sources || f->overlaps);
	link->merging |= is_short(link);
	if (!link->merging && is_halving(link))
		return;
	for (; n_running < MERGES_AT_ONCE; n_running++) {
		pieces_only = !link->merging;
		if (plan(link, pieces_only) < 2) {
			link->merging &= n_running > 0;
			return;
		}
		merge(link);
	}
}

void feeds_tidy(void *ctx)
{
	struct hub *hub = ctx;
	uint64_t at;

	for (unsigned i = 0; i < hub->conf.max_links; i++) {
		if (link_is_online(&hub->links[i]))
			tidy_link(&hub->links[i]);
	}
	at = moves_run(hub);
	if (at != UINT64_MAX && !hub->tidy_timer.armed)
		timer_arm(&hub->timers, &hub->tidy_timer, at);
}
