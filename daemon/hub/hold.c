/* SPDX-License-Identifier: MIT */
/* hold: a channel whose join asked for stored messages, from the join's answer until they are all
 * there (replay.h has the picture). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

/* ---- what is kept ---- */

static void kept_free(struct kept *k)
{
	blob_unref(k->news.notice);
	free(k);
}

void kept_free_all(struct kept_list *list)
{
	struct kept *k;

	while ((k = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, entry);
		kept_free(k);
	}
}

bool kept_add(struct kept_list *list, const struct news *news)
{
	struct kept *k = calloc(1, sizeof(*k));

	if (!k)
		return false;
	k->news = *news;
	k->news.notice = blob_ref(news->notice);
	STAILQ_INSERT_TAIL(list, k, entry);
	return true;
}

static bool recent_knows(const struct chan *ch, uint64_t id)
{
	for (unsigned i = 0; id && ch->recent && i < RECENT_MAX; i++) {
		if (ch->recent->ids[i] == id)
			return true;
	}
	return false;
}

bool recent_add(struct chan *ch, uint64_t id)
{
	struct recent *r = ch->recent;

	if (!id || !ch->is_private)
		return false; /* nothing of it is stored */
	if (recent_knows(ch, id))
		return true;
	if (!r && !(r = ch->recent = calloc(1, sizeof(*r))))
		return false;
	r->ids[r->next] = id;
	r->next = (r->next + 1) % RECENT_MAX;
	return false;
}

/* ---- what the join asks for ---- */

static bool somebody_listens(const struct chan *ch)
{
	const struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (s->broadcasts && s->answered)
			return true;
	}
	return false;
}

void hold_config(const struct chan *ch, const struct join *j, struct join_config *ret)
{
	const struct replay *r;

	if (!ch->is_private || hub_now(ch->hub) < j->no_replay_before_ms)
		return;
	if (j->gap_from_wall_ms > REPLAY_BACK_MS && somebody_listens(ch)) {
		ret->replay_since_ms = (uint64_t)(j->gap_from_wall_ms - REPLAY_BACK_MS);
		ret->replay_limit = REPLAY_MAX;
		return;
	}
	r = j->gap_from_wall_ms ? NULL : replay_find(ch, REPLAY_WANTED);
	if (r) {
		ret->replay_since_ms = r->since_ms;
		ret->replay_limit = r->limit;
	}
}

void hold_joining(struct chan *ch, const struct join *j)
{
	struct replay *r;

	ch->hold.limit = REPLAY_MAX;
	if (!j->has_replay || j->gap_from_wall_ms)
		return;
	r = replay_find(ch, REPLAY_WANTED);
	if (!r)
		return;
	r->state = REPLAY_RIDES;
	ch->hold.limit = r->limit;
}

/* ---- while it lasts ---- */

void hold_init(struct chan *ch)
{
	STAILQ_INIT(&ch->hold.stored);
	STAILQ_INIT(&ch->hold.live);
}

static void forget_all(struct chan *ch)
{
	struct hold *h = &ch->hold;

	h->active = h->is_full = false;
	h->n_stored = 0;
	h->bytes = 0;
	kept_free_all(&h->stored);
	kept_free_all(&h->live);
}

void hold_done(struct chan *ch)
{
	forget_all(ch);
	free(ch->recent);
	ch->recent = NULL;
}

void hold_lost(struct chan *ch)
{
	if (!ch->hold.active)
		return;
	/* What came is forgotten, and lies in the gap that begins before it. */
	if (ch->gap.from_wall_ms && ch->join) {
		ch->join->gap_from_wall_ms = ch->gap.from_wall_ms;
		memcpy(ch->join->gap_cause, ch->gap.cause, sizeof(ch->gap.cause));
	}
	ch->gap = (struct gap){ 0 };
	forget_all(ch);
}

bool hold_begin(struct chan *ch)
{
	struct join *j = ch->join;

	forget_all(ch);
	ch->gap = (struct gap){ .from_wall_ms = j->gap_from_wall_ms, .stored = "none" };
	if (j->gap_from_wall_ms) {
		ch->gap.to_wall_ms = clock_wall(ch->hub->clock);
		memcpy(ch->gap.cause, j->gap_cause, sizeof(ch->gap.cause));
	}
	if (!j->has_replay)
		return false;
	ch->hold.active = true;
	ch->hold.was_joined = j->had_joined;
	join_probe(j);
	return true;
}

static bool has_room(struct chan *ch, size_t size)
{
	struct hold *h = &ch->hold;

	h->bytes += size;
	if (h->bytes <= HOLD_BYTES)
		return true;
	h->is_full = true;
	return false;
}

void hold_presence(struct chan *ch, const struct phx_msg *msg)
{
	bool is_state = rtbp_str_is(msg->event, "presence_state");
	struct kept *k;
	uint64_t ref;

	if ((!is_state && !rtbp_str_is(msg->event, "presence_diff")) ||
	    (is_state && phx_ref(msg->join_ref, &ref) && ref != ch->join->join_ref))
		return;
	/* Folded at once, it would be told before the gap. One that finds no room ends the wait. */
	k = has_room(ch, sizeof(*k) + msg->payload.size) ? calloc(1, sizeof(*k) + msg->payload.size)
							 : NULL;
	if (!k) {
		hold_probed(ch, false);
		room_on_message(ch, msg);
		return;
	}
	k->is_state = is_state;
	k->size = msg->payload.size;
	memcpy(k->payload, msg->payload.p, msg->payload.size);
	STAILQ_INSERT_TAIL(&ch->hold.live, k, entry);
}

void hold_news(struct chan *ch, const struct news *news)
{
	struct hold *h = &ch->hold;

	if (news->is_replayed) {
		h->n_stored++;
		/* A wish for what is stored is one for all of it. It is known when it is told: until
		 * then it may be lost with the join. */
		if (ch->gap.from_wall_ms && recent_knows(ch, news->id))
			return;
	}
	if (has_room(ch, sizeof(struct kept) + news->notice->size) &&
	    kept_add(news->is_replayed ? &h->stored : &h->live, news))
		return;
	hold_probed(ch, false);
	news_deliver(ch, news);
}

/* ---- its end ---- */

static bool was_stored(const struct hold *h, uint64_t id)
{
	const struct kept *k;

	STAILQ_FOREACH(k, &h->stored, entry) {
		if (id && k->news.id == id)
			return true;
	}
	return false;
}

/* Of what is stored and live one is enough; ids that came live before may be anybody's. */
static void deliver_live(struct chan *ch, struct kept_list *live, bool after_gap)
{
	struct phx_msg msg = { .kind = PHX_MESSAGE };
	struct kept *k;

	while ((k = STAILQ_FIRST(live))) {
		STAILQ_REMOVE_HEAD(live, entry);
		if (k->news.notice) {
			(void)recent_add(ch, k->news.id);
			/* Stored ones went to all; without a gap to one who asked only. */
			if (!after_gap || !was_stored(&ch->hold, k->news.id))
				news_deliver(ch, &k->news);
		} else {
			msg.event = k->is_state ? (struct rtbp_str){ "presence_state", 14 }
						: (struct rtbp_str){ "presence_diff", 13 };
			msg.payload = (struct rtbp_val){ k->payload, k->size };
			room_on_message(ch, &msg);
		}
		kept_free(k);
	}
}

void hold_deliver_stored(struct sub *s)
{
	struct kept *k;

	STAILQ_FOREACH(k, &s->chan->hold.stored, entry) {
		if (news_is_for(&k->news, s) && !replay_takes(s, &k->news))
			news_give(&k->news, s);
	}
}

const char hold_too_much[] = "more came in the meantime than the daemon keeps";

void hold_probed(struct chan *ch, bool answered)
{
	static const char no_answer[] = "the server did not answer in time";
	struct kept_list live = STAILQ_HEAD_INITIALIZER(live);
	struct replay *r = replay_find(ch, REPLAY_RIDES);
	struct hold *h = &ch->hold;
	bool after_gap = ch->gap.from_wall_ms != 0;
	struct kept *k;

	if (!h->active)
		return;
	h->active = false;
	STAILQ_CONCAT(&live, &h->live);
	STAILQ_FOREACH(k, &h->stored, entry)
		ch->gap.n++;
	if (answered)
		ch->gap.stored = h->n_stored >= h->limit ? "truncated" : "replayed";
	else if (ch->gap.n)
		ch->gap.stored = "truncated"; /* what has come is told */
	if (ch->gap.from_wall_ms && !answered) {
		log_notice("%s: the stored messages of the gap did not come: %s", ch->topic_text,
			   h->is_full ? hold_too_much : no_answer);
	}
	STAILQ_FOREACH(k, &h->stored, entry)
		(void)recent_add(ch, k->news.id);
	ch->join->gap_from_wall_ms = 0;
	chan_is_ready(ch); /* answers, gaps with what is stored, notices */
	if (r && r->state == REPLAY_RIDES)
		replay_rode(r, &h->stored, h->n_stored,
			    answered     ? NULL
			    : h->is_full ? hold_too_much
					 : no_answer);
	deliver_live(ch, &live, after_gap);
	forget_all(ch);
}
