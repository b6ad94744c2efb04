/* SPDX-License-Identifier: MIT */
/*
 * slot: what the server shows of us through one join, kept to what should be shown with as few
 * calls as may be (realtime/calls.h).
 *
 *   version        of what should be shown: grows when a tracker comes, changes, goes
 *   sent_version   of what was last called for; while in_flight its answer is waited for
 *   acked_version  of what the server has confirmed
 *
 * One call at a time: what changes meanwhile is one call later, and the last state wins. A new join
 * starts from nothing, so everything is called for again.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

static void slot_timer_due(void *ctx)
{
	slot_run(ctx);
}

void slot_init(struct slot *slot, struct chan *chan)
{
	*slot = (struct slot){ .chan = chan, .version = 1 };
	TAILQ_INIT(&slot->trackers);
	timer_init(&slot->timer, slot_timer_due, slot);
}

void slot_done(struct slot *slot)
{
	timer_disarm(&slot->chan->hub->timers, &slot->timer);
}

void slot_lost(struct slot *slot, const char *code, const char *text)
{
	if (strcmp(code, "connection") == 0)
		text = "the connection to the server is down";
	else if (strcmp(code, "presence") == 0)
		text = "the channel is joined anew";
	trackers_hidden(slot, text);
	slot_done(slot);
	slot->sent_version = slot->acked_version = 0;
	slot->shown = slot->in_flight = false;
	slot->call_ref = 0;
}

void slot_joined(struct slot *slot)
{
	slot_lost(slot, "", "the channel is joined anew");
	calls_init(&slot->calls);
	slot_run(slot);
}

void slot_changed(struct slot *slot)
{
	slot->version++;
	slot_run(slot);
}

/* ---- answers ---- */

static void call_answered(struct slot *slot)
{
	slot->in_flight = false;
	slot->call_ref = 0;
	join_owed_less(slot->join);
}

/* Also when it was refused: asking again would not change that. */
static void nobody_shown(struct slot *slot)
{
	slot->shown = false;
	slot->acked_version = 0;
	slot_run(slot);
}

static void call_ok(struct slot *slot)
{
	call_answered(slot);
	if (slot->sent_nobody) {
		nobody_shown(slot);
		return;
	}
	slot->acked_version = slot->sent_version;
	trackers_acked(slot);
	slot_run(slot);
}

/* An update that is refused leaves the server with the state before it. */
static void call_refused(struct slot *slot, struct rtbp_val response)
{
	char text[192];

	call_answered(slot);
	join_reply_text(response, "the server's policies do not let this be shown", text,
			sizeof(text));
	log_notice("%s: presence refused: %s", slot->chan->topic_text, text);
	if (slot->sent_nobody) {
		nobody_shown(slot);
		return;
	}
	slot->shown = slot->was_shown;
	trackers_refused(slot, RTBP_E_REJECTED, "denied", text);
	slot_changed(slot);
	slot_update_owner(slot);
}

static void on_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
		     struct rtbp_val response)
{
	struct join *j = join_find(ctx, cookie);
	struct slot *slot = j ? join_slot(j) : NULL;

	if (!slot || slot->call_ref != ref)
		return;
	switch (result) {
	case SESSION_OK:
		call_ok(slot);
		break;
	case SESSION_ERROR:
		call_refused(slot, response);
		break;
	case SESSION_TIMEOUT:
		call_answered(slot);
		slot->sent_version = 0;
		slot_run(slot);
		break;
	case SESSION_LOST:
		break; /* the join is told next */
	}
	hub_wake(ctx);
}

/* ---- calls ---- */

static void pack_state(struct rtbp_buf *b, const struct tracker *t)
{
	struct rtbp_json_fault fault;
	int r = rtbp_mp_to_json(t->state->data, t->state->size, b, &fault);

	if (r && !b->error)
		b->error = -EINVAL; /* it was checked when it came */
}

static void pack_call(const struct slot *slot, struct rtbp_buf *b)
{
	const struct tracker *t = TAILQ_FIRST(&slot->trackers);

	if (!t) {
		rtbp_buf_text(b, "{\"type\":\"presence\",\"event\":\"untrack\"}");
		return;
	}
	rtbp_buf_text(b, "{\"type\":\"presence\",\"event\":\"track\",\"payload\":");
	if (slot->chan->hub->conf.trackers == HUB_TRACKERS_MERGE) {
		rtbp_buf_text(b, "{\"members\":{");
		TAILQ_FOREACH(t, &slot->trackers, in_slot) {
			rtbp_json_quote(b, t->key, strlen(t->key));
			rtbp_buf_text(b, ":");
			pack_state(b, t);
			if (TAILQ_NEXT(t, in_slot))
				rtbp_buf_text(b, ",");
		}
		rtbp_buf_text(b, "}}");
	} else {
		pack_state(b, t);
	}
	rtbp_buf_text(b, "}");
}

/* Return: as link_push(). */
static int push_call(struct slot *slot)
{
	struct join *j = slot->join;
	CLEANUP(rtbp_buf_done) struct rtbp_buf payload = RTBP_BUF_INIT;
	struct session_push push = {
		.timeout_ms = SLOT_CALL_MS,
		.fn = on_reply,
		.ctx = slot->chan->hub,
		.cookie = j->id,
	};
	int r;

	pack_call(slot, &payload);
	if (!rtbp_buf_ok(&payload))
		return payload.error;
	r = join_push_event(j, "presence", (const char *)payload.data, payload.size, &push);
	if (r == 0)
		slot->call_ref = push.ref;
	return r;
}

static bool is_due(const struct slot *slot)
{
	if (slot->n_trackers == 0)
		return slot->shown;
	return slot->sent_version != slot->version;
}

/* Nobody is to be shown any more: that does not wait for the answer to an earlier call, which then
 * counts no more. */
static bool is_busy(const struct slot *slot)
{
	return slot->in_flight && (slot->n_trackers > 0 || slot->sent_nobody);
}

/* Else it is about to be joined anew, with another one. */
static bool has_its_key(const struct join *j)
{
	struct join_config wanted = { .key = "" };

	join_wants_config(j, &wanted);
	return strcmp(j->key, wanted.key) == 0;
}

void slot_run(struct slot *slot)
{
	struct hub *hub = slot->chan->hub;
	struct join *j = slot->join;
	bool leaving = slot->n_trackers == 0 || slot->someone_left;
	uint64_t now = hub_now(hub), at;

	if (hub->dying || !j || !join_is_open(j) || is_busy(slot) || !is_due(slot) ||
	    (slot->n_trackers && !has_its_key(j)))
		return;
	timer_disarm(&hub->timers, &slot->timer);
	at = calls_next(&slot->calls, now, leaving);
	if (at <= now)
		at = bucket_take(&hub->calls_bucket, now, leaving ? CALLS_DEBT : 0);
	if (at > now) {
		timer_arm(&hub->timers, &slot->timer, at);
		trackers_throttled(slot, at - now);
		return;
	}
	if (push_call(slot) != 0) {
		bucket_give_back(&hub->calls_bucket);
		timer_arm(&hub->timers, &slot->timer, now + LINK_BUSY_RETRY_MS);
		return;
	}
	calls_made(&slot->calls, now);
	slot->in_flight = true;
	slot->someone_left = false;
	slot->sent_nobody = slot->n_trackers == 0;
	slot->sent_version = slot->version;
	slot->was_shown = slot->shown;
	if (slot->n_trackers)
		slot->shown = true;
	hub->counters.messages_out++;
	hub_wake(hub);
}
