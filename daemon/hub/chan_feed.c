/* SPDX-License-Identifier: MIT */
/*
 * chan_feed: database changes in projects that allow private channels only. A binding rides on the
 * join of a private channel that one of its wants belongs to.
 *
 *   new binding, channel joined:     proof (the same topic, on a further link) --ok--> proven
 *   proven, or nobody to disturb:    the channel's join is made (anew) with it
 *
 * Where there is no further link, bindings are joined unproven; if the server refuses them, it is
 * tried with one unproven binding after the other.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

static struct feed_item *find_item(struct feed *f, const struct binding *b)
{
	for (unsigned i = 0; f && i < f->n_items; i++) {
		if (f->items[i].binding == b)
			return &f->items[i];
	}
	return NULL;
}

static bool is_unproven(const struct feed *f, const struct binding *b)
{
	return b->n_wants && b->feed == f && !b->proven;
}

static unsigned count_unproven(const struct feed *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->n_items; i++)
		n += is_unproven(f, f->items[i].binding);
	return n;
}

/* There are others on the channel, who would hear of each refusal. */
static bool must_prove(const struct feed *f)
{
	return f->join && f->join->had_joined && !f->no_proof;
}

bool chan_feed_takes(const struct feed *f, const struct binding *b)
{
	if (b->proven)
		return true;
	if (f->chan->proof || must_prove(f))
		return false;
	for (unsigned i = 0; f->is_careful && i < f->n_items; i++) {
		if (is_unproven(f, f->items[i].binding))
			return f->items[i].binding == b;
	}
	return true;
}

bool chan_feed_wanted(const struct chan *ch)
{
	return ch->feed && feed_live(ch->feed) > 0;
}

const char *chan_feed_misfit(const struct chan *ch)
{
	const struct feed *f = ch->feed;
	const struct binding *b;

	/* Once for all that are being tried, if that does not take too long. */
	if (ch->proof && ch->proof->n_items && !ch->feed->is_impatient)
		return NULL;
	for (unsigned i = 0; f && i < f->n_items; i++) {
		b = f->items[i].binding;
		if (b->n_wants && b->feed == f && !f->items[i].sent && chan_feed_takes(f, b))
			return "postgres_changes";
	}
	return NULL;
}

/* ---- trying them out ---- */

void chan_feed_watch_link(struct feed *proof)
{
	if (!link_is_online(proof->join->link) && !proof->patience_timer.armed)
		timer_arm(&proof->hub->timers, &proof->patience_timer,
			  hub_now(proof->hub) + PROOF_LINK_MS);
}

static void make_proof(struct chan *ch)
{
	const char *text;
	struct link *link =
		link_place(ch->hub, ch->feed->uid, NULL, ch->topic, feed_why(true), &text);

	if (link)
		ch->proof = feed_new(link, ch, true, ch->identity, ch->feed->uid);
	if (link && !ch->proof)
		link_update(link);
	if (ch->proof)
		chan_feed_watch_link(ch->proof);
	else
		ch->feed->no_proof = true;
}

/* The next ones that are to be tried. */
static void fill_proof(struct chan *ch)
{
	struct feed *f = ch->feed, *proof = ch->proof;
	struct binding *b;

	for (unsigned i = 0; f && i < f->n_items && proof->n_items < FEED_BINDINGS; i++) {
		b = f->items[i].binding;
		if (is_unproven(f, b) && feed_add(proof, b) < 0)
			break;
	}
}

/* Proven, and not on the channel's join yet. */
static bool has_waiting(const struct feed *f)
{
	const struct binding *b;

	for (unsigned i = 0; f && i < f->n_items; i++) {
		b = f->items[i].binding;
		if (b->n_wants && b->feed == f && b->proven && item_is_free(&f->items[i]))
			return true;
	}
	return false;
}

static void try_more(struct chan *ch)
{
	struct feed *proof = ch->proof;

	if (proof->n_items == 0 && (++proof->n_trials <= PROOF_TRIALS || !has_waiting(ch->feed)))
		fill_proof(ch);
	proof->state = FEED_DOWN;
	feed_channel_gone(proof);
	proof->join->rejoined_at_ms = 0; /* it disturbs nobody */
	join_update(proof->join);        /* anew, or away with it */
}

/* Something about the channel's bindings has changed: the next step. */
static void run(struct chan *ch)
{
	/* What is proven goes first. */
	bool may_try = ch->join && count_unproven(ch->feed) && !has_waiting(ch->feed);

	if (may_try && !ch->proof && must_prove(ch->feed))
		make_proof(ch);
	if (may_try && ch->proof && ch->proof->state == FEED_DOWN && ch->proof->n_items == 0)
		try_more(ch);
	if (ch->join)
		join_update(ch->join);
}

void chan_feed_proved(struct feed *proof)
{
	struct chan *ch = proof->chan;

	for (unsigned i = proof->n_items; i-- > 0;) {
		if (proof->items[i].sent) {
			proof->items[i].binding->proven = true;
			feed_remove(proof, i);
		}
	}
	if (ch->feed && !ch->feed->patience_timer.armed)
		timer_arm(&ch->hub->timers, &ch->feed->patience_timer,
			  hub_now(ch->hub) + PROOF_PATIENCE_MS);
	try_more(ch);
	if (ch->feed)
		run(ch);
}

static void refuse(struct feed *f, struct binding *b, const char *code, const char *text)
{
	struct feed_item *item;

	binding_refused(b, code, text);
	item = find_item(f, b);
	if (item && item_is_free(item))
		feed_remove(f, (unsigned)(item - f->items));
}

/* Half of what was tried is tried next; the rest waits for its turn. */
static void proof_refused(struct feed *proof, const char *code, const char *text)
{
	struct chan *ch = proof->chan;
	struct binding *b = proof->items[0].binding;
	unsigned keep = proof->n_items / 2;
	bool is_known = ch->feed && is_unproven(ch->feed, b);

	if (proof->n_items == 1) {
		feed_remove(proof, 0); /* the end of it, if nobody wants it any more */
		if (is_known)
			refuse(ch->feed, b, code, text);
	}
	while (proof->n_items > keep)
		feed_remove(proof, proof->n_items - 1);
	try_more(ch);
	if (ch->feed)
		run(ch);
}

/* Nobody knows which: the unproven ones, one after the other. */
static void own_refused(struct feed *f, const char *code, const char *text)
{
	struct binding *b, *one = NULL;
	unsigned n = 0;

	/* Suspects: what was joined unproven, though nobody may want it any more. */
	for (unsigned i = 0; i < f->n_items; i++) {
		b = f->items[i].binding;
		if (f->items[i].sent && !b->proven) {
			one = b;
			n++;
		}
	}
	feed_on_lost(f, f->join->link->received_wall_ms, code, false);
	if (n == 1) {
		if (is_unproven(f, one))
			refuse(f, one, code, text);
	} else {
		for (unsigned i = 0; n == 0 && i < f->n_items; i++)
			f->items[i].binding->proven = false;
		f->is_careful = true;
	}
	f->join->rejoined_at_ms = 0; /* nothing flows: the repair does not wait */
	run(f->chan);
}

void chan_feed_refused(struct feed *f, const char *code, const char *text)
{
	if (!f->is_proof)
		own_refused(f, code, text);
	else if (f->n_items)
		proof_refused(f, code, text);
}

void chan_feed_rejected(struct feed *proof)
{
	struct chan *ch = proof->chan;
	struct binding *b;
	bool is_known;

	while (proof->n_items) {
		b = proof->items[0].binding;
		is_known = ch->feed && is_unproven(ch->feed, b);
		feed_remove(proof, 0);
		if (is_known)
			refuse(ch->feed, b, proof->join->code, proof->join->text);
	}
	proof->state = FEED_OVER;
	join_update(proof->join);
}

static void give_up(struct feed *proof)
{
	log_notice("no further connection to try database changes out on: they are joined as they "
		   "are");
	if (proof->chan->feed)
		proof->chan->feed->no_proof = true;
	while (proof->n_items)
		feed_remove(proof, proof->n_items - 1);
	proof->state = FEED_OVER;
	join_update(proof->join); /* its end makes the channel's join go on */
}

void chan_feed_patience_over(void *ctx)
{
	struct feed *f = ctx;

	if (f->is_proof && !link_is_online(f->join->link)) {
		give_up(f);
	} else if (!f->is_proof && f->chan && has_waiting(f)) {
		f->is_impatient = true;
		join_update(f->join);
	}
}

void chan_feed_ready(struct feed *f)
{
	timer_disarm(&f->hub->timers, &f->patience_timer);
	f->is_impatient = false;
	if (count_unproven(f) == 0)
		f->is_careful = f->no_proof = false;
	if (f->is_careful)
		f->join->rejoined_at_ms = 0; /* soon over, rather than a little for hours */
	if (f->chan->proof)
		f->chan->proof->n_trials = 0;
	run(f->chan);
}

/* ---- places ---- */

static struct sub *find_home(const struct binding *b)
{
	struct sub *found = NULL;
	struct want *w;

	TAILQ_FOREACH(w, &b->wants, in_binding) {
		if (!w->sub->chan->is_private || !w->sub->chan->topic.size)
			continue;
		if (!found || w->sub->chan->feed)
			found = w->sub;
	}
	return found;
}

void chan_feed_place(struct binding *b)
{
	static const char none[] = "this project allows private channels only: subscribe with "
				   "private and a topic that the token may read";
	const char *text = "the daemon is out of memory";
	struct sub *home = find_home(b);
	struct chan *ch = home ? home->chan : NULL;

	if (!home) {
		binding_refused(b, "private_only", none);
		return;
	}
	if (!ch->join && chan_make_join(ch, home->peer, &text) != 0) {
		binding_refused(b, "too_many", text);
		return;
	}
	if (!ch->feed)
		ch->feed = feed_new(NULL, ch, false, ch->identity, home->peer->cred.uid);
	if (ch->feed && ch->feed->n_items >= CHAN_BINDINGS && !find_item(ch->feed, b)) {
		binding_refused(b, "too_many",
				"the channel carries as many different bindings as it may");
		return;
	}
	if (!ch->feed || (!find_item(ch->feed, b) && feed_add(ch->feed, b) < 0)) {
		binding_refused(b, "too_many", "the daemon is out of memory");
		return;
	}
	b->feed = ch->feed;
	ch->sender_only = false;
	binding_news(b);
	ch->feed->needs_run = true;
}

void chan_feeds_run(struct hub *hub)
{
	struct feed *f;

	/* From the start after each: looking for a link may end feeds. */
	for (f = TAILQ_FIRST(&hub->feeds); f;) {
		if (!f->needs_run) {
			f = TAILQ_NEXT(f, entry);
			continue;
		}
		f->needs_run = false;
		run(f->chan);
		f = TAILQ_FIRST(&hub->feeds);
	}
}

void chan_feed_left(struct binding *b)
{
	struct binding_list list = TAILQ_HEAD_INITIALIZER(list);
	struct feed *f = b->feed;
	struct chan *home = f->chan;
	struct hub *hub = b->hub;
	struct feed_item *item;
	struct want *w;

	TAILQ_FOREACH(w, &b->wants, in_binding) {
		if (w->sub->chan == home)
			return;
	}
	item = find_item(f, b);
	if (b->n_wants) {
		/* Others want it, on other channels. */
		binding_stops(b, f->join ? f->join->link->received_wall_ms : 0, "postgres_changes");
		b->feed = NULL;
		TAILQ_INSERT_TAIL(&list, b, entry);
	}
	if (item && item_is_free(item))
		feed_remove(f, (unsigned)(item - f->items)); /* may be the end of the binding */
	feeds_place(hub, &list, NULL, f->uid);
	if (home->proof)
		join_update(home->proof->join); /* perhaps there is nothing more to try */
	chan_update(home);
}

void chan_feed_forget(struct feed *f)
{
	if (f->chan && f->chan->feed == f)
		f->chan->feed = NULL;
	if (f->chan && f->chan->proof == f) {
		f->chan->proof = NULL;
		if (f->chan->feed && !f->hub->dying)
			run(f->chan);
		chan_update(f->chan);
	}
}
