/* SPDX-License-Identifier: MIT */
/*
 * What ends with a token, or by other access rules, comes back with the next token.
 *
 * What the daemon says about an old token may come behind the answer that takes the new one. So
 * each request notes which token was in force when it was sent: when it is ended or refused and
 * another one has been taken since, it is asked again at once, and otherwise with the next one.
 * Each token so causes one further request at most.
 */
#include <string.h>

#include "libclient/client.h"

static void revive_topic(struct rtbc_topic *t)
{
	if ((t->state == RTB_CHANNEL_REJECTED || t->state == RTB_CHANNEL_CLOSED) &&
	    rtbc_is_token_code(t->code)) {
		rtbc_topic_touch(t);
		return;
	}
	if (t->refusal.serial && rtbc_is_token_code(t->refusal.code)) {
		rtbc_topic_ask_anew(t);
		rtbc_topic_touch(t);
	}
	if (rtbc_watches_revive(t)) {
		rtbc_topic_ask_anew(t);
		rtbc_topic_touch(t);
	}
}

static bool is_revivable(const struct rtb_tracker *tr)
{
	return !tr->is_dead && tr->result == RTB_TRACK_REFUSED && rtbc_is_token_code(tr->code);
}

static void revive_tracker(struct rtb_tracker *tr)
{
	rtbc_tracker_set(tr, RTB_TRACK_PENDING, "", "", -1);
	tr->asked = tr->taken = 0;
	tr->ask_at = -1;
	tr->client->is_track_due = true;
}

void rtbc_revive(struct rtb_client *c, const struct rtbc_token *token, bool is_taken)
{
	struct rtb_tracker *tr;
	struct rtbc_topic *t;

	TAILQ_FOREACH(t, &c->topics, link) {
		if (!rtbc_token_governs(c, token, t->name))
			continue;
		if (t->is_held)
			rtbc_topic_touch(t);
		t->is_held = false;
		if (is_taken)
			revive_topic(t);
	}
	TAILQ_FOREACH(tr, &c->trackers, link)
		if (is_taken && is_revivable(tr) && rtbc_token_governs(c, token, tr->name))
			revive_tracker(tr);
	c->is_track_due = true; /* some may have waited */
}

void rtbc_topic_ask_if_newer(struct rtbc_topic *t, const char *code)
{
	if (rtbc_is_token_code(code) && rtbc_token_serial(t->client, t->name) != t->token_serial)
		rtbc_topic_touch(t);
}

void rtbc_tracker_ask_if_newer(struct rtb_tracker *tr)
{
	if (is_revivable(tr) && rtbc_token_serial(tr->client, tr->name) != tr->token_serial)
		revive_tracker(tr);
}

bool rtbc_topic_ended(struct rtbc_topic *t, const char *code, const char *text)
{
	bool was_there = t->state == RTB_CHANNEL_JOINED || t->state == RTB_CHANNEL_READY ||
			 t->state == RTB_CHANNEL_REJOINING;
	struct rtb_sub *sub;

	TAILQ_FOREACH(sub, &t->subs, link)
		if (was_there && t->acked >= sub->serial && !sub->missed_from)
			sub->missed_from = rtbc_wall_ms();
	rtbc_copy(t->missed_cause, sizeof(t->missed_cause),
		  (struct rtbp_str){ code, strlen(code) });
	rtbc_watches_missed(t, code);
	if (rtbc_topic_restart(t, code, text))
		return true;
	rtbc_watches_set(t, RTB_WATCH_ERROR, code, text);
	rtbc_topic_forget(t);
	return false;
}

void rtbc_topic_tell_missed(struct rtbc_topic *t)
{
	struct rtb_sub *sub, *last = TAILQ_LAST(&t->subs, rtbc_sub_list);
	struct rtb_gap gap = { .chan = t->chan,
			       .topic = t->name,
			       .to_unix_ms = rtbc_wall_ms(),
			       .cause = t->missed_cause };

	TAILQ_FOREACH(sub, &t->subs, link) {
		if (!sub->is_dead && sub->missed_from) {
			rtbc_sub_report(sub);
			gap.from_unix_ms = sub->missed_from;
			sub->missed_from = 0;
			rtbc_sub_tell_gap(sub, &gap);
		}
		if (sub == last)
			break;
	}
}
