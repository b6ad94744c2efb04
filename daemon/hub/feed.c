/* SPDX-License-Identifier: MIT */
/* feed: one join that carries database changes: its bindings, what the server says of them. Which
 * bindings go where stands in feeds.c. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

/* ---- items ---- */

int feed_add(struct feed *f, struct binding *b)
{
	struct feed_item *items;
	unsigned cap;

	if (f->n_items == f->cap) {
		cap = f->cap ? f->cap * 2 : 8;
		items = reallocarray(f->items, cap, sizeof(*items));
		if (!items)
			return -ENOMEM;
		f->items = items;
		f->cap = cap;
	}
	f->items[f->n_items++] = (struct feed_item){ .binding = b };
	b->n_items++;
	return 0;
}

void feed_remove(struct feed *f, unsigned i)
{
	struct binding *b = f->items[i].binding;

	memmove(&f->items[i], &f->items[i + 1], (f->n_items - i - 1) * sizeof(*f->items));
	f->n_items--;
	b->n_items--;
	if (b->feed == f)
		b->feed = NULL;
	binding_check(b);
}

unsigned feed_live(const struct feed *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->n_items; i++)
		n += f->items[i].binding->n_wants && f->items[i].binding->feed == f;
	return n;
}

/* Wanted of this feed: it delivers the binding, or will when it is ready. */
static bool item_is_wanted(const struct feed *f, const struct feed_item *item)
{
	const struct binding *b = item->binding;

	if (f->is_proof)
		return b->n_wants && !b->proven && f->chan->feed && b->feed == f->chan->feed;
	return b->n_wants && (b->feed == f || (f->n_sources && b->feed && b->feed->into == f));
}

/* Whether the next join is to have it. */
static bool item_goes(const struct feed *f, const struct feed_item *item)
{
	return item_is_wanted(f, item) &&
	       (!f->chan || f->is_proof || chan_feed_takes(f, item->binding));
}

bool item_is_free(const struct feed_item *item)
{
	return !item->sent && !item->sending;
}

static void feed_trim(struct feed *f)
{
	for (unsigned i = f->n_items; i-- > 0;) {
		if (!item_is_wanted(f, &f->items[i]) && item_is_free(&f->items[i]))
			feed_remove(f, i);
	}
}

/* ---- joining ---- */

void feed_prepare(struct feed *f)
{
	/* What an earlier join, that came to nothing, was to have. */
	for (unsigned i = 0; f->join->state == JOIN_WAITING && i < f->n_items; i++)
		f->items[i].sending = false;
	feed_trim(f);
}

size_t feed_encoded_size(const struct feed *f)
{
	size_t size = 0;

	for (unsigned i = 0; i < f->n_items; i++)
		size += f->items[i].binding->size + 1;
	return size;
}

void feed_encode(const struct feed *f, struct rtbp_buf *out)
{
	bool first = true;

	for (unsigned i = 0; i < f->n_items; i++) {
		if (!item_goes(f, &f->items[i]))
			continue;
		if (!first)
			rtbp_buf_byte(out, ',');
		first = false;
		rtbp_buf_put(out, f->items[i].binding->text, f->items[i].binding->size);
	}
}

void feed_joining(struct feed *f)
{
	if (f->is_proof)
		timer_disarm(&f->hub->timers, &f->patience_timer);
	for (unsigned i = 0; i < f->n_items; i++)
		f->items[i].sending = item_goes(f, &f->items[i]);
}

/* The server answers with the bindings in the order of the join, each with its id: a hash of the
 * binding. Return: what is wrong, or NULL. */
static const char *take_ids(struct feed *f, struct rtbp_val response)
{
	struct rtbp_val list = rtbp_find(response, "postgres_changes", 16), v;
	struct rtbp_iter it;
	uint64_t id;

	if (!rtbp_iter_array(list, &it))
		it.left = 0;
	for (unsigned i = 0; i < f->n_items; i++) {
		f->items[i].sent = f->items[i].sending;
		f->items[i].sending = false;
		if (!f->items[i].sent)
			continue;
		if (!rtbp_iter_next(&it, &v) || !rtbp_get_uint(rtbp_find(v, "id", 2), &id))
			return "the server's answer has not all of the bindings";
		f->items[i].server_id = id;
		for (unsigned k = 0; k < i; k++) {
			if (f->items[k].sent && f->items[k].server_id == id)
				return "the server gives two bindings one id";
		}
	}
	return it.left ? "the server's answer has more bindings than were asked for" : NULL;
}

void feed_on_reply(struct feed *f, struct rtbp_val response)
{
	const char *wrong;

	if (f->state == FEED_OVER)
		return;
	wrong = take_ids(f, response);
	f->bad_reply = wrong != NULL;
	if (wrong)
		log_error("feed %" PRIu64 ": %s", f->number, wrong);
	feed_trim(f);
}

/* Of what it delivers: a target of a merge has nothing to tell before it is ready. */
static void feed_news(struct feed *f)
{
	for (unsigned i = 0; i < f->n_items; i++) {
		if (f->items[i].binding->feed == f)
			binding_news(f->items[i].binding);
	}
}

void feed_retry(struct feed *f)
{
	bool was_rejected = f->join->state == JOIN_REJECTED;

	/* A refusal answers for a while only: rights change at the server without a word. */
	if (hub_now(f->hub) - f->join->rejected_at_ms >= JOIN_REJECTED_MS)
		join_retry(f->join);
	if (was_rejected && f->join->state != JOIN_REJECTED)
		feed_news(f);
	if (f->into)
		join_update(f->into->join);
	join_update(f->join);
}

static bool sent_any(const struct feed *f)
{
	for (unsigned i = 0; i < f->n_items; i++) {
		if (f->items[i].sent)
			return true;
	}
	return false;
}

static void on_joined(struct feed *f)
{
	f->state = sent_any(f) ? FEED_PENDING : FEED_READY;
	f->code[0] = f->text[0] = '\0';
	/* With ids that mean two things nobody's changes would be known: the same cure as for a
	 * binding that the server does not take. */
	if (f->bad_reply)
		feed_refused(f, "unknown", "the server's answer does not fit what was asked");
	else
		feed_news(f);
	if (f->state == FEED_READY && f->chan && !f->is_proof)
		chan_feed_ready(f);
}

/* ---- what the server says of the bindings ---- */

static void feed_ready(struct feed *f)
{
	struct binding *b;

	f->state = FEED_READY;
	f->code[0] = f->text[0] = '\0';
	timer_disarm(&f->hub->timers, &f->doubt_timer);
	log_info("feed %" PRIu64 " on link %u: the changes of %u bindings flow", f->number,
		 f->join->link->number, feed_live(f));
	if (f->is_trial) {
		f->is_trial = false;
		suspects_next(f->hub, f->uid);
	}
	if (f->n_sources)
		merge_ready(f);
	for (unsigned i = 0; i < f->n_items; i++) {
		b = f->items[i].binding;
		if (f->items[i].sent && b->feed == f && !f->is_proof)
			binding_flows(b);
	}
	feeds_tidy_later(f->hub);
	if (f->is_proof)
		chan_feed_proved(f);
	else if (f->chan)
		chan_feed_ready(f);
}

void feed_on_system(struct feed *f, bool ok, const char *text)
{
	const struct reason *reason;

	/* DOWN: it was refused already, and is about to be joined anew. */
	if (f->state == FEED_OVER || f->state == FEED_DOWN)
		return;
	if (ok && f->state == FEED_PENDING) {
		feed_ready(f);
	} else if (!ok) {
		reason = reason_find(text, strlen(text));
		if (reason->retry_ms == REASON_NEVER) {
			feed_refused(f, reason->code, text);
		} else {
			/* The server's own trouble: it tries again by itself, and says so. */
			log_warning("feed %" PRIu64 ": %s; %s", f->number, text, reason->advice);
			feed_on_lost(f, f->join->link->received_wall_ms, reason->code, true);
			f->state = FEED_PENDING;
			snprintf(f->code, sizeof(f->code), "%s", reason->code);
			snprintf(f->text, sizeof(f->text), "%s", text);
			if (reason->class == REASON_UNKNOWN && !f->doubt_timer.armed)
				timer_arm(&f->hub->timers, &f->doubt_timer,
					  hub_now(f->hub) + FEED_DOUBT_MS);
		}
	}
}

static void doubt_over(void *ctx)
{
	struct feed *f = ctx;
	char text[BINDING_TEXT_MAX];

	/* Another word may have come since, that says more. */
	if (f->state != FEED_PENDING || strcmp(f->code, "unknown") != 0)
		return;
	memcpy(text, f->text, sizeof(text));
	feed_refused(f, "unknown", text);
}

void feed_channel_gone(struct feed *f)
{
	for (unsigned i = 0; i < f->n_items; i++)
		f->items[i].sent = f->items[i].sending = false;
}

void feed_on_lost(struct feed *f, int64_t from_wall_ms, const char *cause, bool channel_lives)
{
	bool had = f->state == FEED_READY;

	if (f->state == FEED_OVER)
		return;
	f->state = FEED_DOWN;
	if (f->overlaps && !channel_lives)
		merge_overlap_over(f);
	for (unsigned i = 0; i < f->n_items; i++) {
		struct feed_item *item = &f->items[i];

		if (item->binding->feed == f && had && item->sent)
			binding_stops(item->binding, from_wall_ms, cause);
		else if (item->binding->feed == f)
			binding_news(item->binding);
	}
	if (channel_lives)
		return;
	feed_channel_gone(f);
	timer_disarm(&f->hub->timers, &f->doubt_timer);
	if (f->is_proof)
		chan_feed_watch_link(f);
}

void feed_on_changed(struct feed *f)
{
	const struct join *j = f->join;

	if (j->state != JOIN_JOINED && !j->live)
		feed_channel_gone(f);
	if (f->state != FEED_OVER && j->state == JOIN_JOINED)
		on_joined(f);
	else if (f->state != FEED_OVER)
		feed_news(f);
}

/* ---- the owner of a join of its own ---- */

static bool feed_wanted(const struct join *j)
{
	const struct feed *f = j->owner;

	for (unsigned i = 0; f->state != FEED_OVER && i < f->n_items; i++) {
		if (item_is_wanted(f, &f->items[i]))
			return true;
	}
	return false;
}

static uint32_t feed_linger_ms(const struct join *j)
{
	const struct feed *f = j->owner;

	if (f->into)
		return merge_overlap_ms(f->into);
	return f->state == FEED_OVER || f->is_proof ? 0 : j->hub->conf.linger_ms;
}

static void feed_config(const struct join *j, struct join_config *ret)
{
	feed_prepare(j->owner);
	ret->feed = j->owner;
}

static void feed_join_sent(struct join *j)
{
	feed_joining(j->owner);
}

/* Only a proof is joined anew: with other bindings to try. */
static const char *feed_misfit(const struct join *j)
{
	const struct feed *f = j->owner;

	for (unsigned i = 0; f->is_proof && f->state == FEED_DOWN && i < f->n_items; i++) {
		if (item_is_wanted(f, &f->items[i]))
			return "postgres_changes";
	}
	return NULL;
}

static void feed_changed(struct join *j)
{
	struct feed *f = j->owner;

	feed_on_changed(f);
	if (f->state != FEED_OVER && j->state == JOIN_REJECTED)
		feed_rejected(f);
}

static void feed_lost(struct join *j, const char *code, const char *text)
{
	struct feed *f = j->owner;

	(void)text;
	if (*code) /* not by our own leaving */
		merge_source_lost(f);
	if (f->n_sources && f->state != FEED_READY && f->state != FEED_OVER)
		merge_abandon(f);
	else
		feed_on_lost(f, j->gap_from_wall_ms, code, false);
}

static void feed_message(struct join *j, const struct phx_msg *msg)
{
	rows_on_message(j->owner, msg);
}

static void feed_reply(struct join *j, struct rtbp_val response)
{
	feed_on_reply(j->owner, response);
}

static void feed_system(struct join *j, bool ok, const char *text)
{
	feed_on_system(j->owner, ok, text);
}

static void feed_dead(struct join *j)
{
	struct feed *f = j->owner;

	f->join = NULL;
	f->state = FEED_OVER;
	feed_free(f);
}

static const struct join_ops feed_join_ops = {
	.wanted = feed_wanted,
	.linger_ms = feed_linger_ms,
	.config = feed_config,
	.joining = feed_join_sent,
	.misfit = feed_misfit,
	.changed = feed_changed,
	.lost = feed_lost,
	.message = feed_message,
	.reply = feed_reply,
	.system = feed_system,
	.dead = feed_dead,
};

/* ---- birth and death ---- */

const char *feed_why(bool is_proof)
{
	return is_proof ? "trying out database changes of a private channel"
			: "database changes, for which the connections before have no place";
}

static struct join *make_join(struct feed *f, struct link *link)
{
	struct hub *hub = f->hub;
	char topic[64];
	int n;

	if (f->chan)
		return join_new(link, f->chan->topic, f->chan->is_private, f->identity,
				&feed_join_ops, f);
	n = snprintf(topic, sizeof(topic), "rtbridge:%s:%" PRIu64, hub->feed_prefix, f->number);
	return join_new(link, (struct rtbp_str){ topic, (size_t)n }, false, f->identity,
			&feed_join_ops, f);
}

struct feed *feed_new(struct link *link, struct chan *chan, bool is_proof,
		      struct identity *identity, uid_t uid)
{
	struct hub *hub = link ? link->hub : chan->hub;
	struct feed *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->hub = hub;
	f->number = hub->next_feed++;
	f->chan = chan;
	f->is_proof = is_proof;
	f->identity = identity_ref(identity);
	f->uid = uid;
	TAILQ_INIT(&f->twins);
	timer_init(&f->overlap_timer, merge_overlap_over, f);
	timer_init(&f->doubt_timer, doubt_over, f);
	timer_init(&f->patience_timer, chan_feed_patience_over, f);
	f->join = link ? make_join(f, link) : chan->join;
	if (!f->join) {
		identity_unref(f->identity);
		free(f);
		return NULL;
	}
	if (link)
		join_set_cause(f->join, uid, feed_why(is_proof));
	TAILQ_INSERT_TAIL(&hub->feeds, f, entry);
	hub->n_feeds++;
	return f;
}

void feed_unwanted(struct feed *f)
{
	/* What it is being merged into has lost a wish, too. */
	if (f->into)
		join_update(f->into->join);
	join_update(f->join);
}

void feed_end(struct feed *f)
{
	f->state = FEED_OVER;
	for (unsigned i = 0; i < f->n_items; i++) {
		if (f->items[i].binding->feed == f)
			f->items[i].binding->feed = NULL;
	}
	join_update(f->join);
}

void feed_free(struct feed *f)
{
	struct hub *hub = f->hub;

	timer_disarm(&hub->timers, &f->overlap_timer);
	timer_disarm(&hub->timers, &f->doubt_timer);
	timer_disarm(&hub->timers, &f->patience_timer);
	merge_forget(f);
	chan_feed_forget(f);
	while (f->n_items)
		feed_remove(f, f->n_items - 1);
	TAILQ_REMOVE(&hub->feeds, f, entry);
	hub->n_feeds--;
	if (f->is_trial)
		suspects_next(hub, f->uid); /* nobody wanted it any more */
	identity_unref(f->identity);
	free(f->items);
	free(f);
}

struct feed *feed_of_join(const struct join *j)
{
	return j->ops == &feed_join_ops ? j->owner : NULL;
}

const char *feed_state_name(const struct feed *f)
{
	if (f->state == FEED_PENDING)
		return "joined";
	return f->join ? join_state_name(f->join) : "closed";
}
