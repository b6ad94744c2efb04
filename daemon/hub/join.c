/* SPDX-License-Identifier: MIT */
/*
 * join: one topic on the link, shared by all who want it here.
 *
 *                     (queue, pacing)           reply ok
 *     join_get --> WAITING ----------> JOINING ----------> JOINED --linger--> LEAVING --reply-->
 * DEAD ^  ^                 |  reply error,     |  phx_close,                | |  \---- backoff
 * ----/  timeout          |  phx_error, link down      | wanted again
 *                    \----------------------------------------/----------------------------/
 *     JOINING --reply error for good--> REJECTED --next connection, if wanted--> WAITING
 *
 * join_update() is the only place that decides from "who wants it" what to do next.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"
#include "realtime/reasons.h"

static const char prefix[] = "realtime:";

int join_key_compare(struct join *a, struct join *b)
{
	size_t n = a->topic.size < b->topic.size ? a->topic.size : b->topic.size;
	int r = memcmp(a->topic.p, b->topic.p, n);

	if (r)
		return r;
	if (a->topic.size != b->topic.size)
		return a->topic.size < b->topic.size ? -1 : 1;
	return (int)a->is_private - (int)b->is_private;
}

int join_chan_compare(struct join *a, struct join *b)
{
	return a->chan < b->chan ? -1 : a->chan > b->chan;
}

RB_GENERATE(join_key_tree, join, by_key, join_key_compare)
RB_GENERATE(join_chan_tree, join, by_chan, join_chan_compare)

struct join *join_find(struct hub *hub, struct rtbp_str topic, bool is_private)
{
	struct join key = { .topic = topic, .is_private = is_private };

	return RB_FIND(join_key_tree, &hub->joins, &key);
}

struct join *join_find_chan(struct hub *hub, uint64_t chan)
{
	struct join key = { .chan = chan };

	return RB_FIND(join_chan_tree, &hub->joins_by_chan, &key);
}

struct join *join_find_wire(struct hub *hub, struct rtbp_str wire_topic)
{
	struct rtbp_str topic;
	struct join *j;

	if (wire_topic.size < sizeof(prefix) - 1 ||
	    memcmp(wire_topic.p, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	topic = (struct rtbp_str){ wire_topic.p + sizeof(prefix) - 1,
				   wire_topic.size - (sizeof(prefix) - 1) };
	/* One connection has a topic at most once (join_get sees to it), as public or as private.
	 */
	j = join_find(hub, topic, false);
	return j ? j : join_find(hub, topic, true);
}

/* ---- who waits for the link ---- */

static void queue_join(struct join *j)
{
	j->state = JOIN_WAITING;
	if (j->queued)
		return;
	j->queued = true;
	TAILQ_INSERT_TAIL(&j->hub->join_queue, j, queue_entry);
}

static void unqueue_join(struct join *j)
{
	if (j->queued) {
		j->queued = false;
		TAILQ_REMOVE(&j->hub->join_queue, j, queue_entry);
	}
}

void join_kill(struct join *j)
{
	struct hub *hub = j->hub;

	if (j->state == JOIN_DEAD)
		return;

	unqueue_join(j);
	timer_disarm(&hub->timers, &j->linger_timer);
	j->state = JOIN_DEAD;
	RB_REMOVE(join_key_tree, &hub->joins, j);
	RB_REMOVE(join_chan_tree, &hub->joins_by_chan, j);
	hub->n_joins--;
	TAILQ_INSERT_TAIL(&hub->reap_joins, j, reap_entry);
	hub_wake(hub);
}

void join_free(struct join *j)
{
	free(j->wire_topic);
	free(j);
}

/* ---- leaving ---- */

static bool join_wanted(const struct join *j)
{
	return j->n_subs > 0 || j->n_sends > 0;
}

static void join_left(struct join *j)
{
	j->had_joined = false;
	if (join_wanted(j)) {
		queue_join(j);
		joins_run(j->hub);
	} else {
		join_kill(j);
	}
}

static void join_on_leave_reply(void *ctx, uint64_t cookie, enum session_result result,
				uint64_t ref, struct rtbp_val response)
{
	struct join *j = join_find_chan(ctx, cookie);

	(void)ref;
	(void)response;
	/* LOST is handled for all joins by joins_on_offline(). */
	if (j && j->state == JOIN_LEAVING && result != SESSION_LOST)
		join_left(j);
}

static void push_leave(struct join *j, bool wants_reply)
{
	struct hub *hub = j->hub;
	struct session_push push = {
		.ref = session_next_ref(hub->session),
		.timeout_ms = wants_reply ? LEAVE_REPLY_MS : 0,
		.fn = join_on_leave_reply,
		.ctx = hub,
		.cookie = j->chan,
	};

	phx_encode(session_vsn(hub->session), j->join_ref, push.ref, j->wire_topic,
		   strlen(j->wire_topic), "phx_leave", "{}", 2, hub_scratch(hub));
	/* A full mailbox, or no memory: try again in a moment. */
	if (link_push(hub, &push) != 0 && wants_reply)
		timer_arm(&hub->timers, &j->linger_timer, hub_now(hub) + LINK_BUSY_RETRY_MS);
	else if (wants_reply)
		j->state = JOIN_LEAVING;
}

static void join_linger_over(void *ctx)
{
	struct join *j = ctx;

	if (join_wanted(j))
		return;
	if (j->state == JOIN_JOINED) {
		log_info("leaving %s: nobody wants it any more", j->wire_topic);
		push_leave(j, true);
	} else if (j->state == JOIN_REJECTED) {
		join_kill(j);
	}
	hub_wake(j->hub);
}

void join_update(struct join *j)
{
	struct hub *hub = j->hub;
	uint32_t linger_ms = j->sender_only ? hub->conf.send_linger_ms : hub->conf.linger_ms;

	if (j->state == JOIN_DEAD)
		return;
	if (join_wanted(j)) {
		timer_disarm(&hub->timers, &j->linger_timer);
		if (j->state == JOIN_WAITING)
			joins_run(hub);
		return;
	}
	if (j->state == JOIN_WAITING) {
		join_kill(j);
	} else if (j->state == JOIN_JOINED || j->state == JOIN_REJECTED) {
		if (j->state == JOIN_REJECTED)
			linger_ms = JOIN_REJECTED_MS;
		if (!j->linger_timer.armed)
			timer_arm(&hub->timers, &j->linger_timer, hub_now(hub) + linger_ms);
	}
}

/* ---- joining ---- */

const char *join_state_name(const struct join *j)
{
	switch (j->state) {
	case JOIN_WAITING:
	case JOIN_JOINING:
		return j->had_joined ? "rejoining" : "joining";
	case JOIN_JOINED:
		return "ready";
	case JOIN_REJECTED:
		return "rejected";
	case JOIN_LEAVING:
	case JOIN_DEAD:
		break;
	}
	return "closed";
}

static void set_reason(struct join *j, const char *code, const char *text)
{
	snprintf(j->code, sizeof(j->code), "%s", code);
	snprintf(j->text, sizeof(j->text), "%s", text);
}

/* Waits by the class of what the server said, then tries again; or gives up until the next
 * connection. */
static void join_backoff(struct join *j, const char *text)
{
	struct hub *hub = j->hub;
	const struct reason *reason = reason_find(text, strlen(text));
	uint64_t ceiling = JOIN_BACKOFF_MIN_MS;

	set_reason(j, reason->code, text);
	if (reason->retry_ms == REASON_NEVER) {
		log_warning("%s: refused: %s; %s", j->wire_topic, text, reason->advice);
		j->state = JOIN_REJECTED;
		j->rejected_at_ms = hub_now(hub);
		sends_fail(j, "not_joined", j->text);
	} else {
		for (unsigned n = j->n_failures; n > 0 && ceiling < JOIN_BACKOFF_MAX_MS; n--)
			ceiling *= 2;
		if (ceiling > JOIN_BACKOFF_MAX_MS)
			ceiling = JOIN_BACKOFF_MAX_MS;
		j->n_failures++;
		j->retry_at_ms =
			hub_now(hub) + (uint64_t)reason->retry_ms + hub_random(hub, ceiling);
		log_notice("%s: %s; next try in %" PRIu64 " ms", j->wire_topic, text,
			   j->retry_at_ms - hub_now(hub));
		queue_join(j);
	}
	subs_on_join_state(j);
	join_update(j);
	joins_run(hub);
}

/* The server's words: `{"reason": TEXT}`, or a bare string. */
static void reply_text(struct rtbp_val response, char *text, size_t size)
{
	struct rtbp_str s = { NULL, 0 };

	if (!rtbp_get_str(response, &s))
		(void)rtbp_get_str(rtbp_find(response, "reason", 6), &s);
	if (!s.p || s.size == 0 || !rtbp_utf8_valid(s.p, s.size))
		snprintf(text, size, "the server refused the join without a reason");
	else
		hub_copy_text(s, text, size);
}

static void join_joined(struct join *j)
{
	log_info("joined %s%s", j->wire_topic, j->is_private ? " (private)" : "");
	j->state = JOIN_JOINED;
	j->joined_at_ms = hub_now(j->hub);
	j->system_text[0] = '\0';
	set_reason(j, "", "");
	subs_on_join_state(j);
	j->had_joined = true;
	sends_flush(j);
	join_update(j);
}

static void join_on_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
			  struct rtbp_val response)
{
	struct hub *hub = ctx;
	struct join *j = join_find_chan(hub, cookie);
	char text[sizeof(j->text)];

	hub->joins_unanswered--;
	if (j && j->state == JOIN_JOINING && j->join_ref == ref) {
		j->refused = result == SESSION_ERROR;
		switch (result) {
		case SESSION_OK:
			join_joined(j);
			break;
		case SESSION_ERROR:
			reply_text(response, text, sizeof(text));
			join_backoff(j, text);
			break;
		case SESSION_TIMEOUT:
			/* The server may still answer; a leave undoes a join that succeeds late. */
			push_leave(j, false);
			join_backoff(j, "the server did not answer the join");
			break;
		case SESSION_LOST:
			break; /* joins_on_offline() follows */
		}
	}
	joins_run(hub);
}

static void encode_join(struct join *j, uint64_t ref, struct rtbp_buf *out)
{
	const struct secret *key = j->hub->conf.apikey;
	CLEANUP(secret_wipe_buf) struct rtbp_buf payload = RTBP_BUF_INIT;

	/* Room for all at once: a growing buffer would leave copies of the token behind in freed
	 * memory. */
	(void)rtbp_buf_room(&payload, 256 + 6 * secret_size(key));
	(void)rtbp_buf_room(out, 512 + 6 * strlen(j->wire_topic) + 6 * secret_size(key));
	rtbp_buf_text(&payload,
		      "{\"config\":{\"broadcast\":{\"ack\":true,\"self\":false},"
		      "\"presence\":{\"enabled\":false,\"key\":\"\"},\"postgres_changes\":[],"
		      "\"private\":");
	rtbp_buf_text(&payload, j->is_private ? "true}" : "false}");
	/* The server takes the connection's key for an sb_ key in a join; said or not is the same
	 * then. */
	if (strncmp(secret_bytes(key), "sb_", 3) != 0) {
		rtbp_buf_text(&payload, ",\"access_token\":");
		rtbp_json_quote(&payload, secret_bytes(key), secret_size(key));
	}
	rtbp_buf_text(&payload, "}");
	if (rtbp_buf_ok(&payload))
		phx_encode(session_vsn(j->hub->session), ref, ref, j->wire_topic,
			   strlen(j->wire_topic), "phx_join", (const char *)payload.data,
			   payload.size, out);
	else
		out->error = payload.error;
}

/* Return: 0, or what link_push() says. */
static int push_join(struct join *j)
{
	struct hub *hub = j->hub;
	struct rtbp_buf *b = hub_scratch(hub);
	struct session_push push = {
		.ref = session_next_ref(hub->session),
		.is_join = true,
		.timeout_ms = JOIN_REPLY_MS,
		.fn = join_on_reply,
		.ctx = hub,
		.cookie = j->chan,
	};
	int r;

	encode_join(j, push.ref, b);
	r = link_push(hub, &push);
	if (b->data)
		explicit_bzero(b->data, b->cap);
	if (r)
		return r;
	unqueue_join(j);
	j->state = JOIN_JOINING;
	j->join_ref = push.ref;
	hub->joins_unanswered++;
	return 0;
}

/* Joins are paced by a token bucket: too many in a second, and the server closes the whole
 * connection. */
static bool take_join_token(struct hub *hub, uint64_t *ret_wait_until_ms)
{
	uint64_t now = hub_now(hub), max = (uint64_t)JOINS_BURST * 1000;

	hub->join_tokens_milli += (now - hub->join_tokens_at_ms) * JOINS_PER_S;
	hub->join_tokens_at_ms = now;
	if (hub->join_tokens_milli > max)
		hub->join_tokens_milli = max;
	if (hub->join_tokens_milli < 1000) {
		*ret_wait_until_ms =
			now + (1000 - hub->join_tokens_milli + JOINS_PER_S - 1) / JOINS_PER_S;
		return false;
	}
	hub->join_tokens_milli -= 1000;
	return true;
}

void joins_run(struct hub *hub)
{
	uint64_t now = hub_now(hub), next = UINT64_MAX;
	struct join *j, *following;

	if (hub->dying || session_get_state(hub->session) != SESSION_ONLINE)
		return;
	for (j = TAILQ_FIRST(&hub->join_queue); j; j = following) {
		following = TAILQ_NEXT(j, queue_entry);
		if (hub->joins_unanswered >= JOINS_UNANSWERED_MAX)
			break; /* a reply brings us back */
		if (j->retry_at_ms > now) {
			if (j->retry_at_ms < next)
				next = j->retry_at_ms;
			continue;
		}
		if (!take_join_token(hub, &next))
			break;
		if (push_join(j) != 0) {
			hub->join_tokens_milli += 1000;
			next = now + LINK_BUSY_RETRY_MS;
			break;
		}
	}
	if (next != UINT64_MAX)
		timer_arm(&hub->timers, &hub->join_timer, next);
}

/* Room for one more channel: those that nobody wants any more go first, before their time. A
 * channel that is being left still counts at the server for a moment; a few may overlap. */
static bool make_room(struct hub *hub)
{
	struct join *j, *idle = NULL;
	unsigned n_staying = 0;

	if (hub->n_joins < hub->conf.max_channels)
		return true;
	RB_FOREACH(j, join_chan_tree, &hub->joins_by_chan) {
		if (j->state != JOIN_LEAVING)
			n_staying++;
		if (!idle && !join_wanted(j) &&
		    (j->state == JOIN_JOINED || j->state == JOIN_REJECTED))
			idle = j;
	}
	if (idle) {
		timer_disarm(&hub->timers, &idle->linger_timer);
		join_linger_over(idle);
		n_staying -= idle->state == JOIN_LEAVING || idle->state == JOIN_DEAD;
	}
	return n_staying < hub->conf.max_channels &&
	       hub->n_joins < hub->conf.max_channels + JOINS_LEAVING_MAX;
}

int join_get(struct hub *hub, struct rtbp_str topic, bool is_private, struct join **ret,
	     const char **ret_text)
{
	struct join *j = join_find(hub, topic, is_private), *other;

	if (j) {
		/* A refusal answers for a while only: rights change at the server without a word.
		 */
		if (j->state == JOIN_REJECTED &&
		    hub_now(hub) - j->rejected_at_ms >= JOIN_REJECTED_MS) {
			j->retry_at_ms = 0;
			queue_join(j);
		}
		*ret = j;
		return 0;
	}
	other = join_find(hub, topic, !is_private);
	/* Only the memory of a refusal, perhaps one that says to ask the other way. */
	if (other && other->state == JOIN_REJECTED && !join_wanted(other)) {
		join_kill(other);
		other = NULL;
	}
	if (other) {
		*ret_text = is_private ? "the topic is in use as a public channel; one connection "
					 "cannot carry both"
				       : "the topic is in use as a private channel; one connection "
					 "cannot carry both";
		return RTBP_E_UNSUPPORTED;
	}
	if (!make_room(hub)) {
		*ret_text = "the connection carries as many channels as it may ([limits] channels)";
		return RTBP_E_TOO_MANY;
	}
	j = calloc(1, sizeof(*j));
	if (!j || asprintf(&j->wire_topic, "%s%.*s", prefix, (int)topic.size, topic.p) < 0) {
		free(j);
		return -ENOMEM;
	}
	j->hub = hub;
	j->chan = hub->next_chan++;
	j->is_private = is_private;
	j->topic = (struct rtbp_str){ j->wire_topic + sizeof(prefix) - 1, topic.size };
	j->sender_only = true;
	TAILQ_INIT(&j->subs);
	TAILQ_INIT(&j->sends);
	timer_init(&j->linger_timer, join_linger_over, j);
	RB_INSERT(join_key_tree, &hub->joins, j);
	RB_INSERT(join_chan_tree, &hub->joins_by_chan, j);
	hub->n_joins++;
	queue_join(j);
	*ret = j;
	return 0;
}

/* ---- what the server and the link do to it ---- */

void join_lost(struct join *j, const char *text)
{
	if (hub_now(j->hub) - j->joined_at_ms >= JOIN_STABLE_MS)
		j->n_failures = 0;
	sends_lost(j, "the channel ended before the answer");
	if (join_wanted(j))
		join_backoff(j, text);
	else
		join_kill(j);
}

void join_on_message(struct join *j, const struct phx_msg *msg)
{
	struct rtbp_str s;
	uint64_t ref;

	if (rtbp_str_is(msg->event, "system")) {
		if (rtbp_get_str(rtbp_find(msg->payload, "status", 6), &s) &&
		    rtbp_str_is(s, "error") &&
		    rtbp_get_str(rtbp_find(msg->payload, "message", 7), &s) &&
		    rtbp_utf8_valid(s.p, s.size))
			hub_copy_text(s, j->system_text, sizeof(j->system_text));
		return;
	}
	/* Both carry the ref of the join that they end. */
	if (j->state != JOIN_JOINED || !phx_ref(msg->ref, &ref) || ref != j->join_ref)
		return;
	if (rtbp_str_is(msg->event, "phx_close"))
		join_lost(j, j->system_text[0] ? j->system_text : "the server closed the channel");
	else if (rtbp_str_is(msg->event, "phx_error"))
		join_lost(j, "the channel crashed at the server");
}

void joins_on_offline(struct hub *hub)
{
	struct join *j, *next;

	hub->joins_unanswered = 0;
	for (j = RB_MIN(join_chan_tree, &hub->joins_by_chan); j; j = next) {
		next = RB_NEXT(join_chan_tree, &hub->joins_by_chan, j);
		if (!join_wanted(j)) {
			join_kill(j);
			continue;
		}
		if (j->state == JOIN_WAITING)
			continue;
		if (j->state == JOIN_LEAVING)
			j->had_joined = false;
		j->retry_at_ms = 0;
		queue_join(j);
		set_reason(j, "connection", "the connection to the server is down");
		subs_on_join_state(j);
	}
}
