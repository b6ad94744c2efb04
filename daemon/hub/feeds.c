/* SPDX-License-Identifier: MIT */
/* feeds: which feed carries which binding: places for new ones, halves of what was refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

static const char no_memory[] = "the daemon is out of memory";

/* All of an identity on one link, as long as they fit: so the changes of different feeds keep the
 * server's order. */
static struct link *place(struct hub *hub, const struct identity *identity, struct peer *p,
			  uid_t uid, const char **ret_text)
{
	unsigned links = 0;
	struct feed *f;

	/* First look, then ask for room: that may end feeds. */
	TAILQ_FOREACH(f, &hub->feeds, entry) {
		if (!f->chan && f->state != FEED_OVER && f->identity == identity)
			links |= 1u << f->join->link->number;
	}
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (links & 1u << i && link_has_room(&hub->links[i]))
			return &hub->links[i];
	}
	return link_place(hub, uid, p, (struct rtbp_str){ "rtbridge:", 9 }, feed_why(false),
			  ret_text);
}

/* One new feed with the first of the list that have one identity. Return: false: there is none,
 * @ret_text says why. */
static bool make_feed(struct link *link, struct binding_list *list, uid_t uid, bool is_piece,
		      unsigned n)
{
	struct identity *identity = TAILQ_FIRST(list)->identity;
	struct feed *f = feed_new(link, NULL, false, identity, uid);
	struct binding *b;

	if (!f)
		return false;
	f->is_piece = f->is_trial = is_piece;
	while (n-- > 0 && (b = TAILQ_FIRST(list)) && b->identity == identity &&
	       feed_add(f, b) == 0) {
		TAILQ_REMOVE(list, b, entry);
		b->feed = f;
		binding_news(b);
	}
	join_update(f->join); /* without any it is not wanted, and is freed */
	return true;
}

static void refuse_all(struct binding_list *list, const char *code, const char *text)
{
	struct binding *b;

	while ((b = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, b, entry);
		binding_refused(b, code, text);
	}
}

void feeds_place(struct hub *hub, struct binding_list *list, struct peer *p, uid_t uid)
{
	const char *text = no_memory;
	struct binding *b, *before = NULL;
	struct link *link;

	/* At the end nothing new is begun. */
	if (hub->dying || hub->drain >= HUB_FAREWELL)
		return;
	while (hub->private_only && (b = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, b, entry);
		chan_feed_place(b);
	}
	if (hub->private_only)
		chan_feeds_run(hub);
	while ((b = TAILQ_FIRST(list)) && b != before) {
		before = b;
		link = place(hub, b->identity, p, uid, &text);
		if (!link || !make_feed(link, list, uid, false, FEED_BINDINGS))
			break;
	}
	refuse_all(list, "too_many", text);
}

/* ---- what the server does not take ---- */

static void suspects_free(struct hub *hub, struct suspects *group)
{
	TAILQ_REMOVE(&hub->suspects, group, entry);
	free(group);
}

void suspects_drop(struct binding *b)
{
	struct suspects *group = b->suspects;

	b->suspects = NULL;
	TAILQ_REMOVE(&group->list, b, entry);
	if (TAILQ_EMPTY(&group->list))
		suspects_free(b->hub, group);
	binding_check(b);
}

/* Into the caller's list; the group is gone. */
static void suspects_take(struct hub *hub, struct suspects *group, struct binding_list *list)
{
	struct binding *b;

	TAILQ_FOREACH(b, &group->list, entry)
		b->suspects = NULL;
	TAILQ_CONCAT(list, &group->list, entry);
	suspects_free(hub, group);
}

static bool has_trial(const struct hub *hub, uid_t uid)
{
	const struct feed *f;

	TAILQ_FOREACH(f, &hub->feeds, entry) {
		if (f->is_trial && f->uid == uid && f->state != FEED_OVER)
			return true;
	}
	return false;
}

static struct suspects *suspects_of(const struct hub *hub, uid_t uid)
{
	struct suspects *group;

	TAILQ_FOREACH(group, &hub->suspects, entry) {
		if (group->uid == uid)
			return group;
	}
	return NULL;
}

void suspects_next(struct hub *hub, uid_t uid)
{
	struct binding_list list = TAILQ_HEAD_INITIALIZER(list);
	const char *text = no_memory;
	struct suspects *group;
	struct link *link;

	while (!hub->dying && !has_trial(hub, uid) && (group = suspects_of(hub, uid))) {
		suspects_take(hub, group, &list);
		link = place(hub, TAILQ_FIRST(&list)->identity, NULL, uid, &text);
		if (link)
			(void)make_feed(link, &list, uid, true, FEED_BINDINGS);
		refuse_all(&list, "too_many", text);
	}
}

/* The first `n` of the list; NULL without memory. */
static struct suspects *make_suspects(struct binding_list *list, unsigned n, uid_t uid)
{
	struct suspects *group = calloc(1, sizeof(*group));
	struct binding *b;

	if (!group)
		return NULL;
	group->uid = uid;
	TAILQ_INIT(&group->list);
	while (n-- > 0 && (b = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, b, entry);
		TAILQ_INSERT_TAIL(&group->list, b, entry);
		b->suspects = group;
	}
	return group;
}

/* It takes all bindings of a join or none, and does not say which one was wrong in a way that could
 * be relied on: so the feed is halved until the bad one is alone. The newest pieces are tried
 * first.
 */
static void halve(struct hub *hub, struct binding_list *list, unsigned n, uid_t uid)
{
	struct suspects *first = make_suspects(list, n / 2, uid), *second;

	second = first ? make_suspects(list, n, uid) : NULL;
	if (second)
		TAILQ_INSERT_HEAD(&hub->suspects, second, entry);
	if (first)
		TAILQ_INSERT_HEAD(&hub->suspects, first, entry);
	refuse_all(list, "too_many", no_memory); /* none, if there was memory */
}

void feed_refused(struct feed *f, const char *code, const char *text)
{
	struct binding_list list = TAILQ_HEAD_INITIALIZER(list);
	int64_t since_wall_ms = f->join->link->received_wall_ms;
	struct hub *hub = f->hub;
	struct binding *b;
	uid_t uid = f->uid;
	unsigned n = 0;

	if (f->chan) {
		chan_feed_refused(f, code, text);
		return;
	}
	if (f->n_sources && f->state != FEED_READY) {
		merge_abandon(f);
		join_update(f->join);
		return;
	}
	feed_on_lost(f, since_wall_ms, code, false);
	for (unsigned i = 0; i < f->n_items; i++) {
		b = f->items[i].binding;
		if (b->feed != f || !b->n_wants)
			continue;
		TAILQ_INSERT_TAIL(&list, b, entry);
		n++;
	}
	feed_end(f);
	if (n > 1)
		halve(hub, &list, n, uid);
	else
		refuse_all(&list, code, text);
	suspects_next(hub, uid);
}

/* The join itself was refused for good. */
void feed_rejected(struct feed *f)
{
	struct hub *hub = f->hub;

	if (f->n_sources) {
		merge_abandon(f);
		join_update(f->join);
	} else if (f->is_proof) {
		chan_feed_rejected(f);
	} else if (strcmp(f->join->code, "private_only") == 0 &&
		   hub->conf.private_only == HUB_PRIVATE_AUTO) {
		feeds_go_private(hub);
	} else {
		f->is_trial = false;
		suspects_next(hub, f->uid);
	}
}

void feeds_go_private(struct hub *hub)
{
	struct binding_list list = TAILQ_HEAD_INITIALIZER(list);
	struct feed *f, *next;
	struct binding *b;

	if (hub->private_only || hub->conf.private_only != HUB_PRIVATE_AUTO)
		return;
	log_notice("this project allows private channels only: database changes ride on the "
		   "private channels of those who ask for them");
	hub->private_only = true;
	while (!TAILQ_EMPTY(&hub->suspects))
		suspects_take(hub, TAILQ_FIRST(&hub->suspects), &list);
	for (f = TAILQ_FIRST(&hub->feeds); f; f = next) {
		next = TAILQ_NEXT(f, entry);
		if (f->chan || f->state == FEED_OVER)
			continue;
		feed_on_lost(f, f->join->link->received_wall_ms, "private_only", false);
		for (unsigned i = 0; i < f->n_items; i++) {
			b = f->items[i].binding;
			if (b->feed == f && b->n_wants)
				TAILQ_INSERT_TAIL(&list, b, entry);
		}
		feed_end(f);
	}
	feeds_place(hub, &list, NULL, 0);
}
