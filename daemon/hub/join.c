/* SPDX-License-Identifier: MIT */
/* join: one topic on one link; join.h has the picture. join_update() is the only place that decides
 * from "is it wanted, does it fit" what to do next. */
#include "hub/join.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

static const char prefix[] = "realtime:";

int join_topic_compare(struct join *a, struct join *b)
{
	return hub_compare_str(a->topic, b->topic);
}

int join_id_compare(struct join *a, struct join *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(join_topic_tree, join, by_topic, join_topic_compare)
RB_GENERATE(join_id_tree, join, by_id, join_id_compare)

struct join *join_find(struct hub *hub, uint64_t id)
{
	struct join key = { .id = id };

	return RB_FIND(join_id_tree, &hub->joins, &key);
}

/* ---- what its owner says ---- */

const char *join_misfit(const struct join *j)
{
	return j->ops->misfit ? j->ops->misfit(j) : NULL;
}

void join_wants_config(const struct join *j, struct join_config *ret)
{
	if (j->ops->config)
		j->ops->config(j, ret);
}

static bool join_owes(const struct join *j)
{
	return j->ops->owed && j->ops->owed(j);
}

static void join_reopened(struct join *j)
{
	if (j->ops->opened)
		j->ops->opened(j);
}

void join_tell_lost(struct join *j, const char *code, const char *text)
{
	if (j->ops->lost)
		j->ops->lost(j, code, text);
}

/* ---- who waits for the link ---- */

void join_queue(struct join *j)
{
	j->state = JOIN_WAITING;
	if (j->queued)
		return;
	j->queued = true;
	TAILQ_INSERT_TAIL(&j->link->queue, j, queue_entry);
}

void join_unqueue(struct join *j)
{
	j->is_asked = false;
	if (j->queued) {
		j->queued = false;
		TAILQ_REMOVE(&j->link->queue, j, queue_entry);
	}
}

/* Return: whether something may have been held back for it. */
bool join_rejoin_cancel(struct join *j)
{
	bool held = j->rejoin_timer.armed || j->rejoin_by_ms;

	timer_disarm(&j->hub->timers, &j->rejoin_timer);
	j->rejoin_by_ms = 0;
	return held;
}

static void rejoin_arm(struct join *j)
{
	uint64_t at = hub_now(j->hub) + REJOIN_GATHER_MS;

	if (j->rejoined_at_ms && j->rejoined_at_ms + j->rejoin_pause_ms > at)
		at = j->rejoined_at_ms + j->rejoin_pause_ms;
	timer_arm(&j->hub->timers, &j->rejoin_timer, at);
}

void join_kill(struct join *j)
{
	struct hub *hub = j->hub;
	bool was_refused = j->state == JOIN_REJECTED;

	if (j->state == JOIN_DEAD)
		return;
	join_unqueue(j);
	(void)join_rejoin_cancel(j);
	probation_forget_join(j);
	park_forget_join(j);
	timer_disarm(&hub->timers, &j->linger_timer);
	j->state = JOIN_DEAD;
	RB_REMOVE(join_topic_tree, &j->link->joins, j);
	RB_REMOVE(join_id_tree, &hub->joins, j);
	j->link->n_joins--;
	TAILQ_INSERT_TAIL(&hub->reap_joins, j, reap_entry);
	hub_wake(hub);
	j->ops->dead(j);
	if (!was_refused)
		place_left(j->link);
	link_update(j->link);
}

void join_free(struct join *j)
{
	identity_unref(j->identity);
	free(j->wire_topic);
	free(j);
}

/* Messages may be missed from the last frame on, until it is joined again. */
void join_gap_begins(struct join *j, const char *cause)
{
	if (j->gap_from_wall_ms)
		return;
	j->gap_from_wall_ms = j->link->received_wall_ms;
	snprintf(j->gap_cause, sizeof(j->gap_cause), "%s", cause);
}

/* ---- leaving ---- */

static void join_left(struct join *j)
{
	j->had_joined = false;
	if (j->ops->wanted(j)) {
		join_queue(j);
		joins_run(j->hub);
	} else {
		join_kill(j);
	}
}

static void join_on_leave_reply(void *ctx, uint64_t cookie, enum session_result result,
				uint64_t ref, struct rtbp_val response)
{
	struct join *j = join_find(ctx, cookie);

	(void)ref;
	(void)response;
	/* LOST is handled for all joins by joins_on_offline(). */
	if (j && j->state == JOIN_LEAVING && result != SESSION_LOST)
		join_left(j);
}

int join_push_event(struct join *j, const char *event, const char *payload, size_t size,
		    struct session_push *push)
{
	struct session *session = j->link->session;

	push->ref = session_next_ref(session);
	phx_encode(session_vsn(session), j->join_ref, push->ref, j->wire_topic,
		   strlen(j->wire_topic), event, payload, size, hub_scratch(j->hub));
	return link_push(j->link, push);
}

/* Return: as link_push(). */
static int push_leave(struct join *j, bool wants_reply)
{
	struct hub *hub = j->hub;
	struct session_push push = {
		.timeout_ms = wants_reply ? LEAVE_REPLY_MS : 0,
		.fn = join_on_leave_reply,
		.ctx = hub,
		.cookie = j->id,
	};

	return join_push_event(j, "phx_leave", "{}", 2, &push);
}

static const char left_text[] = "the channel was left before the answer";

static void join_leave(struct join *j)
{
	/* A full mailbox, or no memory: try again in a moment. */
	if (push_leave(j, true) != 0) {
		timer_arm(&j->hub->timers, &j->linger_timer, hub_now(j->hub) + LINK_BUSY_RETRY_MS);
		return;
	}
	j->live = false;
	join_tell_lost(j, "", left_text);
	join_unqueue(j);
	j->gap_from_wall_ms = 0;
	j->state = JOIN_LEAVING;
}

bool join_leave_now(struct join *j)
{
	if (j->state == JOIN_JOINING)
		return false;
	if (j->state == JOIN_JOINED || (j->state == JOIN_WAITING && j->live)) {
		if (push_leave(j, false) != 0)
			return false;
		j->live = false;
		join_tell_lost(j, "", left_text);
	}
	join_kill(j);
	return true;
}

static void join_linger_over(void *ctx)
{
	struct join *j = ctx;

	if (j->ops->wanted(j))
		return;
	if (j->state == JOIN_JOINED || (j->state == JOIN_WAITING && j->live)) {
		log_info("leaving %s: nobody wants it any more", j->wire_topic);
		join_leave(j);
	} else if (j->state == JOIN_REJECTED) {
		join_kill(j);
	}
	hub_wake(j->hub);
}

void join_evict(struct join *j)
{
	timer_disarm(&j->hub->timers, &j->linger_timer);
	join_linger_over(j);
}

static void join_linger(struct join *j)
{
	struct hub *hub = j->hub;
	/* That it was refused is remembered elsewhere. */
	uint32_t linger_ms =
		j->state == JOIN_REJECTED || !j->ops->linger_ms ? 0 : j->ops->linger_ms(j);

	if (join_rejoin_cancel(j))
		join_reopened(j);
	if (j->linger_timer.armed)
		return;
	if (linger_ms)
		timer_arm(&hub->timers, &j->linger_timer, hub_now(hub) + linger_ms);
	else
		join_linger_over(j);
}

/* Nobody wants it any more. */
static void join_unwanted(struct join *j)
{
	if (j->state == JOIN_WAITING && j->live) {
		/* The rejoin is called off before it was sent. The channel before is still there,
		 * with whatever it shows: it is left at once. */
		if (!j->linger_timer.armed)
			join_linger_over(j);
	} else if (j->state == JOIN_WAITING) {
		join_kill(j);
	} else if (j->state == JOIN_JOINED || j->state == JOIN_REJECTED) {
		join_linger(j);
	}
}

void join_update(struct join *j)
{
	if (j->state == JOIN_DEAD || j->hub->dying)
		return;
	if (!j->ops->wanted(j)) {
		join_unwanted(j);
		return;
	}
	timer_disarm(&j->hub->timers, &j->linger_timer);
	if (j->state == JOIN_WAITING) {
		joins_run(j->hub);
	} else if (j->state == JOIN_JOINED && !join_misfit(j)) {
		if (join_rejoin_cancel(j))
			join_reopened(j);
	} else if (j->state == JOIN_JOINED && !j->rejoin_timer.armed) {
		rejoin_arm(j);
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

bool join_is_open(const struct join *j)
{
	return j->state == JOIN_JOINED && !j->rejoin_by_ms;
}

bool join_is_own(const struct join *j)
{
	return !j->identity && !j->tries_token;
}

void join_set_reason(struct join *j, const char *code, const char *text)
{
	snprintf(j->code, sizeof(j->code), "%s", code);
	snprintf(j->text, sizeof(j->text), "%s", text);
}

static void join_joined(struct join *j)
{
	log_info("joined %s%s on link %u", j->wire_topic, j->is_private ? " (private)" : "",
		 j->link->number);
	j->state = JOIN_JOINED;
	j->live = false;
	j->joined_at_ms = hub_now(j->hub);
	j->system_text[0] = '\0';
	join_set_reason(j, "", "");
	j->ops->changed(j);
	j->had_joined = true;
	j->gap_from_wall_ms = 0;
	push_look(j); /* one may have come while it was joining */
	pushes_run(j->hub);
	join_update(j);
}

static void join_on_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
			  struct rtbp_val response)
{
	struct link *link = ctx;
	struct hub *hub = link->hub;
	struct join *j = join_find(hub, cookie);
	char text[sizeof(j->text)];

	link->joins_unanswered--;
	if (j && j->state == JOIN_JOINING && j->join_ref == ref) {
		j->refused = result == SESSION_ERROR;
		/* It may well be refused in the end, and holds up the others until then. */
		if (result == SESSION_TIMEOUT && j->sent_unproven)
			user_stalled(hub, user_get(hub, j->uid));
		probation_answered(j);
		if (result == SESSION_TIMEOUT || result == SESSION_LOST)
			park_forget_join(j);
		switch (result) {
		case SESSION_OK:
			pace_clean(&hub->joins_pace);
			park_on_success(j);
			probation_succeeded(j);
			if (j->ops->reply)
				j->ops->reply(j, response);
			join_joined(j);
			break;
		case SESSION_ERROR:
			join_reply_text(response, "the server refused the join without a reason",
					text, sizeof(text));
			join_refused(j, text, false);
			break;
		case SESSION_TIMEOUT:
			/* The server may still answer; a leave undoes a join that succeeds late. */
			(void)push_leave(j, false);
			join_backoff(j, "the server did not answer the join", NULL);
			break;
		case SESSION_LOST:
			break; /* joins_on_offline() follows */
		}
	}
	joins_run(hub);
}

int join_push(struct join *j)
{
	struct rtbp_buf *b = hub_scratch(j->hub);
	/* Looked for once: it may end between two looks at the clock. */
	const struct token *token = join_token(j);
	const struct own_token *own = own_is_for(j) ? own_token(j->hub) : NULL;
	struct join_config config = { .key = "" };
	struct session_push push = {
		.ref = session_next_ref(j->link->session),
		.is_join = true,
		.timeout_ms = j->hub->conf.join_ms,
		.fn = join_on_reply,
		.ctx = j->link,
		.cookie = j->id,
	};
	int r;

	if (!token && (!join_is_own(j) || (own_is_for(j) && !own)))
		return 1; /* the next walk refuses it, or makes it wait */
	config.token = token ? token->bytes : own ? own->bytes : j->hub->conf.apikey;
	join_wants_config(j, &config);
	join_encode(j, &config, push.ref, b);
	r = link_push(j->link, &push);
	if (b->data)
		explicit_bzero(b->data, b->cap);
	if (r)
		return r;
	join_unqueue(j);
	park_going(j);
	j->state = JOIN_JOINING;
	j->join_ref = push.ref;
	j->token_number = token ? token->number : 0;
	j->token_exp_s = token ? token->jwt.exp_s : 0;
	j->own_serial = own ? own->serial : 0;
	j->own_ends_ms = own ? own->ends_boot_ms : 0;
	j->told_at_ms = 0;
	j->token_due = j->has_news = false;
	probation_going(j);
	j->has_presence = config.presence;
	j->has_replay = config.replay_since_ms != 0;
	j->has_replication = config.replication_ready;
	j->probe_ref = 0;
	j->probe_due = false;
	snprintf(j->key, sizeof(j->key), "%s", config.key);
	j->link->joins_unanswered++;
	if (j->ops->joining)
		j->ops->joining(j);
	return 0;
}

/* ---- what has come when something else is answered ---- */

static void on_probe_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
			   struct rtbp_val response)
{
	struct join *j = join_find(ctx, cookie);

	(void)response;
	if (!j || j->probe_ref != ref)
		return;
	j->probe_ref = 0;
	if (result != SESSION_LOST && j->ops->probed && j->state == JOIN_JOINED)
		j->ops->probed(j, ref, result != SESSION_TIMEOUT);
}

void join_probe(struct join *j)
{
	struct session_push push = {
		.timeout_ms = PROBE_MS,
		.fn = on_probe_reply,
		.ctx = j->hub,
		.cookie = j->id,
	};

	j->probe_due = false;
	if (j->state != JOIN_JOINED || j->probe_ref)
		return;
	if (join_push_event(j, "presence", "{}", 2, &push) == 0) {
		j->probe_ref = push.ref;
	} else {
		j->probe_due = true;
		hub_try_again(j->hub);
	}
}

/* ---- joining anew, by our own wish ---- */

static void rejoin_note(struct join *j)
{
	uint64_t now = hub_now(j->hub);

	if (!j->rejoined_at_ms || now - j->rejoined_at_ms > REJOIN_FORGET_MS)
		j->rejoin_pause_ms = REJOIN_PAUSE_MIN_MS;
	else if (j->rejoin_pause_ms < REJOIN_PAUSE_MAX_MS / 2)
		j->rejoin_pause_ms *= 2;
	else
		j->rejoin_pause_ms = REJOIN_PAUSE_MAX_MS;
	j->rejoined_at_ms = now;
}

static void rejoin_go(struct join *j)
{
	const char *code = join_misfit(j);

	rejoin_note(j);
	join_remember_success(j);
	log_info("joining %s anew: what it was joined with serves no longer", j->wire_topic);
	join_gap_begins(j, code);
	j->live = true;
	join_tell_lost(j, code, "the channel was joined anew before the answer");
	(void)join_rejoin_cancel(j); /* whose end was told may have asked for it again */
	join_set_reason(j, code,
			strcmp(code, "presence") == 0 ? "joined anew for somebody's presence"
			: strcmp(code, "replication_ready") == 0
				? "joined anew for somebody who waits for the replication"
				: "joined anew for somebody's database changes");
	j->retry_at_ms = 0;
	join_queue(j);
	j->ops->changed(j);
	joins_run(j->hub);
}

/* The wishes are gathered: from now on nothing new is given to the old channel, and what it owes is
 * waited for. */
static void rejoin_due(void *ctx)
{
	struct join *j = ctx;
	uint64_t now = hub_now(j->hub);

	if (j->state != JOIN_JOINED || !j->ops->wanted(j) || !join_misfit(j))
		return;
	if (own_is_missing_for(j)) {
		/* It works, and could not be joined again: the wish waits, not the channel. */
		j->rejoin_by_ms = 0;
		timer_arm(&j->hub->timers, &j->rejoin_timer, now + REJOIN_PAUSE_MIN_MS);
		join_reopened(j);
		hub_wake(j->hub);
		return;
	}
	if (!j->rejoin_by_ms)
		j->rejoin_by_ms = now + REJOIN_OWED_MS;
	if (join_owes(j) && now < j->rejoin_by_ms)
		timer_arm(&j->hub->timers, &j->rejoin_timer, j->rejoin_by_ms);
	else
		rejoin_go(j);
	hub_wake(j->hub);
}

/* By way of the timer: the caller may be in the middle of a walk over what is owed. */
void join_owed_less(struct join *j)
{
	if (j->state == JOIN_JOINED && j->rejoin_by_ms && !join_owes(j))
		timer_arm(&j->hub->timers, &j->rejoin_timer, hub_now(j->hub));
}

void join_retry(struct join *j)
{
	if (j->state == JOIN_REJECTED) {
		j->retry_at_ms = 0;
		join_queue(j);
	}
}

struct join *join_new(struct link *link, struct rtbp_str topic, bool is_private,
		      struct identity *identity, const struct join_ops *ops, void *owner)
{
	struct join *j = calloc(1, sizeof(*j));

	if (!j || asprintf(&j->wire_topic, "%s%.*s", prefix, (int)topic.size, topic.p) < 0) {
		free(j);
		return NULL;
	}
	j->hub = link->hub;
	j->link = link;
	j->ops = ops;
	j->owner = owner;
	j->id = link->hub->next_id++;
	j->is_private = is_private;
	j->identity = identity_ref(identity);
	j->topic = (struct rtbp_str){ j->wire_topic + sizeof(prefix) - 1, topic.size };
	timer_init(&j->linger_timer, join_linger_over, j);
	timer_init(&j->rejoin_timer, rejoin_due, j);
	RB_INSERT(join_topic_tree, &link->joins, j);
	RB_INSERT(join_id_tree, &link->hub->joins, j);
	link->n_joins++;
	join_queue(j);
	link_update(link);
	return j;
}

void join_set_cause(struct join *j, uid_t uid, const char *why)
{
	j->uid = uid;
	snprintf(j->why, sizeof(j->why), "%s", why);
}
