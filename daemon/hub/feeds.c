/* SPDX-License-Identifier: MIT */
/* feeds: which feed carries which binding: places for new ones, halves of what was refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

static const char no_memory[] = "the daemon is out of memory";

/* All on one link, as long as they fit: so the changes of different feeds keep the server's order.
 */
static struct link *place(struct hub *hub, struct peer *p, const char **ret_text)
{
	unsigned links = 0;
	struct feed *f;

	/* First look, then ask for room: that may end feeds. */
	TAILQ_FOREACH(f, &hub->feeds, entry) {
		if (!f->chan && f->state != FEED_OVER)
			links |= 1u << f->join->link->number;
	}
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (links & 1u << i && link_has_room(&hub->links[i]))
			return &hub->links[i];
	}
	return link_place(hub, p, (struct rtbp_str){ "rtbridge:", 9 },
			  "database changes, for which the connections before have no place",
			  ret_text);
}

/* One new feed with the first of the list. Return: false: there is none, @ret_text says why. */
static bool make_feed(struct link *link, struct binding_list *list, uid_t uid, bool is_piece,
		      unsigned n)
{
	struct feed *f = feed_new(link, NULL, false, uid);
	struct binding *b;

	if (!f)
		return false;
	f->is_piece = is_piece;
	while (n-- > 0 && (b = TAILQ_FIRST(list)) && feed_add(f, b) == 0) {
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

	while (hub->private_only && (b = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, b, entry);
		chan_feed_place(b);
	}
	if (hub->private_only)
		chan_feeds_run(hub);
	while ((b = TAILQ_FIRST(list)) && b != before) {
		before = b;
		link = place(hub, p, &text);
		if (!link || !make_feed(link, list, uid, false, FEED_BINDINGS))
			break;
	}
	refuse_all(list, "too_many", text);
}

/* ---- what the server does not take ---- */

/* It takes all bindings of a join or none, and does not say which one was wrong in a way that could
 * be relied on: so the feed is halved until the bad one is alone. */
static void halve(struct link *link, struct binding_list *list, unsigned n, uid_t uid)
{
	struct hub *hub = link->hub;
	const char *text = no_memory;

	for (unsigned part = 0; part < 2; part++) {
		if (!link_has_room(link))
			link = place(hub, NULL, &text);
		if (!link || !make_feed(link, list, uid, true, part ? n : n / 2))
			break;
	}
	refuse_all(list, "too_many", text);
}

void feed_refused(struct feed *f, const char *code, const char *text)
{
	struct binding_list list = TAILQ_HEAD_INITIALIZER(list);
	struct link *link = f->join->link;
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
	feed_on_lost(f, link->received_wall_ms, code, false);
	for (unsigned i = 0; i < f->n_items; i++) {
		b = f->items[i].binding;
		if (b->feed != f || !b->n_wants)
			continue;
		TAILQ_INSERT_TAIL(&list, b, entry);
		n++;
	}
	feed_end(f);
	if (n == 1)
		refuse_all(&list, code, text);
	else if (n)
		halve(link, &list, n, uid);
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
		for (unsigned i = 0; i < f->n_items; i++)
			binding_news(f->items[i].binding);
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
