/* SPDX-License-Identifier: MIT */
/*
 * Stored messages: what a subscription asked for, and what a gap has announced.
 *
 *     DUE --a request asks--> ASKED --its answer--> OPEN --`replay`--> DONE
 *      ^                        |                     |                  |
 *      +------------------------+---------------------+------------------+   the daemon has nothing
 *                                                                            of it any more
 *
 * The daemon carries out one replay of a topic at a time (a later one replaces it), so equal wishes
 * that are due together go together, and others wait. A stored message is for those whose replay is OPEN; outside of
 * replays, and as many as a gap has announced, for all.
 *
 * Asked again, a subscription wants what it missed: since the last broadcast that it was handed,
 * less a minute because the server's clock is another one. What comes twice by that is known by its
 * id.
 */
#include <string.h>

#include "libclient/client.h"

enum { BACK_MS = 60000, NEAR_MS = 1000 };

/* ---- asking ---- */

static int64_t since_of(const struct rtbc_replay *r)
{
	int64_t again = r->last - BACK_MS;

	return r->was_done && again > r->since ? again : r->since;
}

static struct rtb_sub *first_due(const struct rtbc_topic *t)
{
	struct rtb_sub *sub;

	TAILQ_FOREACH(sub, &t->subs, link)
		if (!sub->is_dead && sub->replay && sub->replay->stage == RTBC_REPLAY_DUE)
			return sub;
	return NULL;
}

/* Whether a wish is carried out together with the first one that is due: it is for the same, but
 * for the moment between the callbacks of two subscriptions. */
static bool goes_with(const struct rtbc_replay *first, const struct rtb_sub *sub)
{
	const struct rtbc_replay *r = sub->replay;
	int64_t apart;

	if (sub->is_dead || !r || r->stage != RTBC_REPLAY_DUE || r->limit != first->limit)
		return false;
	apart = since_of(r) - since_of(first);
	return r == first ||
	       (first->was_done && r->was_done && apart >= -NEAR_MS && apart <= NEAR_MS) ||
	       apart == 0;
}

bool rtbc_replay_is_due(const struct rtbc_topic *t)
{
	return t->client->has_replay && !t->replay_serial && first_due(t);
}

void rtbc_replay_pack(struct rtbc_topic *t, struct rtbp_buf *b)
{
	const struct rtbc_replay *first = first_due(t)->replay;
	int64_t since = since_of(first);
	const struct rtb_sub *sub;

	TAILQ_FOREACH(sub, &t->subs, link)
		if (goes_with(first, sub) && since_of(sub->replay) < since)
			since = since_of(sub->replay);
	rtbp_pack_field(b, RTBP_F_REPLAY);
	rtbp_pack_map(b, 2);
	rtbp_pack_field_uint(b, RTBP_F_SINCE, (uint64_t)since);
	rtbp_pack_field_uint(b, RTBP_F_LIMIT, first->limit);
}

void rtbc_replay_asked(struct rtbc_topic *t)
{
	struct rtb_sub *sub = first_due(t), *next;
	struct rtbc_replay *first = sub->replay;

	t->replay_serial = t->serial;
	for (next = TAILQ_NEXT(sub, link); next; next = TAILQ_NEXT(next, link)) {
		if (!goes_with(first, next))
			continue;
		next->replay->stage = RTBC_REPLAY_ASKED;
		next->replay->n = 0;
	}
	first->stage = RTBC_REPLAY_ASKED;
	first->n = 0;
}

void rtbc_replay_reset(struct rtbc_topic *t)
{
	struct rtb_sub *sub;

	t->replay_serial = 0;
	t->n_following = 0;
	TAILQ_FOREACH(sub, &t->subs, link)
		if (sub->replay)
			sub->replay->stage = RTBC_REPLAY_DUE;
}

void rtbc_replay_restart(struct rtbc_topic *t)
{
	uint64_t serial = t->replay_serial;
	struct rtb_sub *sub;

	if (serial < t->first_serial) {
		rtbc_replay_reset(t);
	} else {
		TAILQ_FOREACH(sub, &t->subs, link)
			if (sub->replay && sub->replay->stage != RTBC_REPLAY_ASKED)
				sub->replay->stage = RTBC_REPLAY_DUE;
	}
	if (rtbc_replay_is_due(t))
		rtbc_topic_touch(t);
}

void rtbc_replay_refused(struct rtbc_topic *t, uint64_t serial)
{
	struct rtb_sub *sub;

	if (!t->replay_serial || t->replay_serial > serial)
		return;
	t->replay_serial = 0;
	TAILQ_FOREACH(sub, &t->subs, link)
		if (sub->replay && sub->replay->stage == RTBC_REPLAY_ASKED)
			sub->replay->stage = RTBC_REPLAY_DUE;
}

/* ---- telling ---- */

static void tell(struct rtb_sub *sub, enum rtb_stored stored, const char *text)
{
	struct rtbc_topic *t = sub->topic;
	struct rtb_replay replay = { t->chan, t->name, stored, sub->replay->n, text };

	sub->replay->stage = RTBC_REPLAY_DONE;
	sub->replay->was_done = sub->replay->was_done || stored != RTB_STORED_NONE;
	rtbc_sub_report(sub); /* it hears that it is there before it hears anything else */
	if (sub->is_dead || !sub->handlers.replay)
		return;
	rtbc_enter(t->client);
	sub->handlers.replay(sub, &replay, sub->user);
	rtbc_leave(t->client);
}

/* Those in this stage. */
static void tell_all(struct rtbc_topic *t, int stage, enum rtb_stored stored, const char *text)
{
	struct rtb_sub *sub, *last = TAILQ_LAST(&t->subs, rtbc_sub_list);

	TAILQ_FOREACH(sub, &t->subs, link) {
		if (!sub->is_dead && sub->replay && (int)sub->replay->stage == stage &&
		    t->acked >= sub->serial)
			tell(sub, stored, text);
		if (sub == last)
			break;
	}
}

void rtbc_replay_answered(struct rtbc_topic *t, uint64_t serial)
{
	struct rtb_sub *sub;

	if (!t->client->has_replay) {
		tell_all(t, RTBC_REPLAY_DUE, RTB_STORED_NONE, "this daemon has no replay");
		return;
	}
	if (!t->replay_serial || t->replay_serial > serial)
		return;
	t->n_following = 0; /* they have come before the answer */
	TAILQ_FOREACH(sub, &t->subs, link)
		if (sub->replay && sub->replay->stage == RTBC_REPLAY_ASKED)
			sub->replay->stage = RTBC_REPLAY_OPEN;
}

enum rtb_stored rtbc_get_stored(struct rtbp_val params)
{
	struct rtbp_str word = { NULL, 0 };

	(void)rtbp_get_str(rtbp_field(params, RTBP_F_STORED), &word);
	if (rtbp_str_is(word, "replayed"))
		return RTB_STORED_REPLAYED;
	return rtbp_str_is(word, "truncated") ? RTB_STORED_TRUNCATED : RTB_STORED_NONE;
}

void rtbc_on_replay(struct rtb_client *c, struct rtbp_val params)
{
	char text[RTBC_TEXT_MAX];
	struct rtbc_topic *t;
	uint64_t chan;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &chan))
		return;
	t = rtbc_topic_by_chan(c, chan);
	if (!t || !t->replay_serial || t->acked < t->replay_serial)
		return;
	t->replay_serial = 0;
	rtbc_get_text(params, RTBP_F_TEXT, text, sizeof(text));
	tell_all(t, RTBC_REPLAY_OPEN, rtbc_get_stored(params), text);
	if (first_due(t))
		rtbc_topic_touch(t);
}

void rtbc_on_system(struct rtb_client *c, struct rtbp_val params)
{
	char extension[RTBC_CODE_MAX], status[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];
	struct rtb_system notice = { .extension = extension, .status = status, .text = text };
	struct rtb_sub *sub, *last;
	struct rtbc_topic *t;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &notice.chan))
		return;
	t = rtbc_topic_by_chan(c, notice.chan);
	if (!t)
		return;
	rtbc_get_text(params, RTBP_F_EXTENSION, extension, sizeof(extension));
	rtbc_get_text(params, RTBP_F_STATUS, status, sizeof(status));
	rtbc_get_text(params, RTBP_F_TEXT, text, sizeof(text));
	notice.topic = t->name;
	last = TAILQ_LAST(&t->subs, rtbc_sub_list);
	TAILQ_FOREACH(sub, &t->subs, link) {
		if (!sub->is_dead && t->acked >= sub->serial)
			rtbc_sub_report(sub);
		if (!sub->is_dead && t->acked >= sub->serial && sub->handlers.system) {
			rtbc_enter(c);
			sub->handlers.system(sub, &notice, sub->user);
			rtbc_leave(c);
		}
		if (sub == last)
			break;
	}
}

/* ---- which messages ---- */

/* Seeded: nobody shall be able to make ids that look like those of others. */
static uint64_t hash(const struct rtb_client *c, const char *id)
{
	uint64_t h = c->hash_seed ^ 0x9e3779b97f4a7c15u;

	for (; *id; id++) {
		h = (h ^ (unsigned char)*id) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	return h ? h : 1;
}

/* Return: whether it has been seen before. */
static bool remember(struct rtbc_replay *r, uint64_t id)
{
	for (unsigned i = 0; i < RTBC_SEEN; i++)
		if (r->seen[i] == id)
			return true;
	r->seen[r->n_seen] = id;
	r->n_seen = (r->n_seen + 1) % RTBC_SEEN;
	return false;
}

static bool is_open(const struct rtbc_topic *t)
{
	const struct rtb_sub *sub;

	TAILQ_FOREACH(sub, &t->subs, link)
		if (sub->replay && sub->replay->stage == RTBC_REPLAY_OPEN)
			return true;
	return false;
}

bool rtbc_replay_takes(struct rtb_sub *sub, const struct rtb_broadcast *msg)
{
	struct rtbc_replay *r = sub->replay;
	bool is_mine = r && r->stage == RTBC_REPLAY_OPEN, is_known;

	if (msg->replayed && !is_mine && !sub->topic->n_following && is_open(sub->topic))
		return false;
	if (!r)
		return true;
	is_known = *msg->id && remember(r, hash(sub->topic->client, msg->id));
	if (msg->replayed && is_known)
		return false;
	r->n += msg->replayed && is_mine;
	r->last = rtbc_wall_ms();
	return true;
}

void rtbc_replay_passed(struct rtbc_topic *t, const struct rtb_broadcast *msg)
{
	/* What a gap announces follows it, before anything that is sent from then on. */
	if (!msg->replayed)
		t->n_following = 0;
	else if (t->n_following)
		t->n_following--;
}

void rtbc_replay_on_gap(struct rtbc_topic *t, const struct rtb_gap *gap)
{
	t->n_following = gap->stored == RTB_STORED_NONE ? 0 : gap->n;
}
