/* SPDX-License-Identifier: MIT */
/*
 * send_ws: broadcasts over the channel's join.
 *
 * A write that the server's policies refuse has no reply at all. But replies of one join come in
 * order: the ack of a later message, or the answer to anything else asked later, proves that what
 * stands before it will have none. So when an ack is late, something harmless is asked (a presence
 * message without an event, which is answered and not counted).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

static struct send_queue *queue_of(struct chan *ch)
{
	return &ch->sends.ways[SEND_WS];
}

static struct send *oldest_given(struct chan *ch)
{
	struct send *s = TAILQ_FIRST(&queue_of(ch)->list);

	return s && s->given ? s : NULL;
}

/* ---- replies ---- */

/* Whatever was given before it and has no answer by now will have none. */
static void deny_before(struct send *s)
{
	struct send *first;

	while ((first = oldest_given(s->chan)) != s)
		send_end_as(first, "denied",
			    "the server answered a later message of the channel, but not this one");
}

static void send_acked(struct send *s)
{
	deny_before(s);
	news_deliver(s->chan, &s->news);
	send_end_as(s, "acked", NULL);
}

static void send_refused(struct send *s, struct rtbp_val response)
{
	struct rtbp_str reason = { NULL, 0 };
	char words[121], text[160];

	if (!rtbp_get_str(response, &reason))
		(void)rtbp_get_str(rtbp_find(response, "reason", 6), &reason);
	if (!reason.p || !rtbp_utf8_valid(reason.p, reason.size))
		reason = (struct rtbp_str){ "no reason given", 15 };
	hub_copy_text(reason, words, sizeof(words));
	snprintf(text, sizeof(text), "the server answered: %s", words);
	/* That one is not said by the channel, but by the socket, which does not know it. */
	if (!rtbp_str_is(reason, "unmatched topic"))
		deny_before(s);
	if (rtbp_str_is(reason, "payload_size_exceeded"))
		send_end_as(s, "too_big", text);
	else if (rtbp_str_is(reason, "unmatched topic"))
		send_end_as(s, "not_joined", text);
	else
		send_end_as(s, "denied", text);
}

static void on_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
		     struct rtbp_val response)
{
	struct hub *hub = ctx;
	struct send key = { .id = cookie };
	struct send *s = RB_FIND(send_tree, &hub->sends, &key);

	(void)ref;
	if (!s)
		return;
	switch (result) {
	case SESSION_OK:
		send_acked(s);
		break;
	case SESSION_ERROR:
		send_refused(s, response);
		break;
	case SESSION_LOST:
		send_end_as(s, "unknown", "the connection to the server ended before the answer");
		break;
	case SESSION_TIMEOUT:
		send_end_as(s, "unknown", "the server did not answer within 10 s");
		break;
	}
}

/* ---- when acks are late ---- */

void sends_probed(struct chan *ch, uint64_t ref, bool answered)
{
	struct send *s;

	ch->held = true; /* with its last send a channel may go */
	while (answered && (s = oldest_given(ch)) && s->ref < ref)
		send_end_as(s, "denied",
			    "the server answered a later question, but did not acknowledge this "
			    "message");
	ch->held = false;
	sends_watch_acks(ch);
	chan_update(ch);
}

void sends_acks_late(void *ctx)
{
	struct chan *ch = ctx;

	if (oldest_given(ch) && ch->join)
		join_probe(ch->join);
}

void sends_watch_acks(struct chan *ch)
{
	struct timers *timers = &ch->hub->timers;
	struct send *s = oldest_given(ch);
	struct join *j = ch->join;

	if (!s)
		timer_disarm(timers, &ch->sends.late_timer);
	if (!s && j && !ch->hold.active)
		j->probe_due = false; /* nobody needs it any more */
	if (s && j && !j->probe_ref && !j->probe_due && !ch->hub->dying)
		timer_arm(timers, &ch->sends.late_timer, s->given_at_ms + SEND_ACK_LATE_MS);
}

/* ---- to the link ---- */

/* Return: 0: it is in the scratch; 1: it can never be sent, and has ended. */
static int encode(struct send *s, struct session_push *push)
{
	struct join *j = s->chan->join;
	struct hub *hub = s->chan->hub;
	struct session *session = j->link->session;
	struct rtbp_json_fault fault;
	char text[288];
	int r;

	r = phx_encode_broadcast(session_vsn(session), j->join_ref, push->ref, j->wire_topic,
				 strlen(j->wire_topic), s->news.event, s->news.payload,
				 s->news.extra, hub_scratch(hub), &push->binary, &fault);
	if (r == 0 && hub->scratch.size <= LINK_FRAME_MAX)
		return 0;
	if (r == 0) {
		snprintf(text, sizeof(text), "%zu bytes as JSON, the server takes %d",
			 hub->scratch.size, LINK_FRAME_MAX);
		send_end_as(s, "too_big", text);
	} else if (r == -ENOTSUP) {
		send_end_as(s, "unsupported",
			    "binary payloads need vsn 2.0.0 ([upstream] vsn), or to go by HTTP");
	} else if (r > 0) {
		snprintf(text, sizeof(text), "%s: %s", fault.path, fault.text);
		send_end_as(s, "bad_payload", text);
	} else {
		send_end_as(s, "busy", "the daemon is out of memory");
	}
	return 1;
}

/* Return: 0 given (or ended: it can never be sent); > 0 the link takes nothing now. */
static int send_give(struct send *s)
{
	struct join *j = s->chan->join;
	struct hub *hub = s->chan->hub;
	struct session_push push = {
		.ref = session_next_ref(j->link->session),
		.timeout_ms = SEND_ACK_MS,
		.fn = on_reply,
		.ctx = hub,
		.cookie = s->id,
	};
	int r = encode(s, &push);

	if (r)
		return 0;
	r = link_push(j->link, &push);
	if (r < 0)
		return 1; /* the link ended in this turn: the sends stay queued for the next
			     connection */
	if (r == 0) {
		s->ref = push.ref;
		send_set_given(s, true);
		hub->counters.messages_out++;
		log_debug("out: %s ref %llu", j->wire_topic, (unsigned long long)push.ref);
		sends_watch_acks(s->chan);
	}
	return r;
}

void sends_flush(struct chan *ch)
{
	struct send *s;

	/* What is acked is delivered here, behind what is held. */
	while (ch->join && join_is_open(ch->join) && !ch->hold.active && (s = queue_of(ch)->next)) {
		if (send_give(s) != 0) {
			hub_try_again(ch->hub);
			return;
		}
	}
}
