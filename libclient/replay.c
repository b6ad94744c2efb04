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
 * go together and others wait. A stored message is for those whose replay is OPEN; outside of
 * replays, and as many as a gap has announced, for all.
 *
 * Asked again, a subscription wants what it missed: since the last broadcast that it was handed,
 * less a minute because the server's clock is another one. What comes twice by that is known by its
 * id.
 */
#include <string.h>

#include "libclient/client.h"

enum { BACK_MS = 60000 };

/* ---- asking ---- */

static int64_t since_of(const struct rtbc_replay *r)
{
	int64_t again = r->last - BACK_MS;

	return r->last && again > r->since ? again : r->since;
}

static struct rtb_sub *first_due(const struct rtbc_topic *t)
{
	struct rtb_sub *sub;

	TAILQ_FOREACH(sub, &t->subs, link)
		if (!sub->is_dead && sub->replay && sub->replay->stage == RTBC_REPLAY_DUE)
			return sub;
	return NULL;
}

bool rtbc_replay_is_due(const struct rtbc_topic *t)
{
	return t->client->has_replay && !t->replay_serial && first_due(t);
}

void rtbc_replay_pack(struct rtbc_topic *t, struct rtbp_buf *b)
{
	const struct rtbc_replay *r = first_due(t)->replay;

	rtbp_pack_field(b, RTBP_F_REPLAY);
	rtbp_pack_map(b, 2);
	rtbp_pack_field_uint(b, RTBP_F_SINCE, (uint64_t)since_of(r));
	rtbp_pack_field_uint(b, RTBP_F_LIMIT, r->limit);
}

void rtbc_replay_asked(struct rtbc_topic *t)
{
	struct rtb_sub *sub = first_due(t);
	int64_t since = since_of(sub->replay);
	uint32_t limit = sub->replay->limit;

	t->replay_serial = t->serial;
	for (; sub; sub = TAILQ_NEXT(sub, link)) {
		struct rtbc_replay *r = sub->replay;

		if (sub->is_dead || !r || r->stage != RTBC_REPLAY_DUE || r->limit != limit ||
		    since_of(r) != since)
			continue;
		r->stage = RTBC_REPLAY_ASKED;
		r->n = 0;
	}
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
	uint64_t h = c->name_prefix ^ 0x9e3779b97f4a7c15u;

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
