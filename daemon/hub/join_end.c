/* SPDX-License-Identifier: MIT */
/* join_end: why a join is not joined: refused, closed by the server, or its connection is gone; and
 * what comes next. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

/* ---- refused ---- */

/* Refused for good: until the next connection, or until somebody asks again. */
static void join_reject(struct join *j)
{
	join_unqueue(j);
	park_forget_join(j); /* it tests nothing any more */
	j->state = JOIN_REJECTED;
	j->rejected_at_ms = hub_now(j->hub);
	place_given_up(j);
}

bool join_is_refused_for_token(const struct join *j)
{
	return strncmp(j->code, "token_", 6) == 0;
}

enum rtbp_error join_refusal_error(const struct join *j)
{
	return j->identity && join_is_refused_for_token(j) ? RTBP_E_BAD_TOKEN : RTBP_E_REJECTED;
}

static uint64_t next_pause(struct join *j, const struct reason *reason)
{
	uint64_t ceiling = JOIN_BACKOFF_MIN_MS;

	for (unsigned n = j->n_failures; n > 0 && ceiling < JOIN_BACKOFF_MAX_MS; n--)
		ceiling *= 2;
	if (ceiling > JOIN_BACKOFF_MAX_MS)
		ceiling = JOIN_BACKOFF_MAX_MS;
	j->n_failures++;
	return (uint64_t)reason->retry_ms + hub_random(j->hub, ceiling);
}

/* The server's word was about one token of several: the join goes on with the next. */
static bool has_other_token(const struct join *j, const struct reason *reason)
{
	return reason->class == REASON_AUTH && j->identity && identity_token(j->identity) &&
	       identity_token(j->identity)->number != j->token_number;
}

/* It is not the channel that is refused. */
static bool is_about_replay(const struct join *j, const struct reason *reason)
{
	return j->has_replay && strncmp(reason->code, "replay_", 7) == 0;
}

int64_t join_next_ms(const struct join *j)
{
	uint64_t now = hub_now(j->hub);

	if (j->state != JOIN_WAITING)
		return -1;
	if (own_is_missing_for(j))
		return own_next_ms(j->hub);
	return j->retry_at_ms > now ? (int64_t)(j->retry_at_ms - now) : -1;
}

unsigned reason_pack(const char *code, const char *text, bool advise, struct rtbp_buf *b)
{
	const struct reason *reason = advise ? reason_of_code(code) : NULL;
	char whole[1200];

	if (!code[0])
		return 0;
	snprintf(whole, sizeof(whole), "%s%s%s", text, reason ? "; what to do: " : "",
		 reason ? reason->advice : "");
	rtbp_pack_field_text(b, RTBP_F_CODE, code);
	rtbp_pack_field_text(b, RTBP_F_TEXT, whole);
	return 2;
}

unsigned join_pack_reason(const struct join *j, struct rtbp_buf *b)
{
	int64_t next_ms = join_next_ms(j);
	/* Words about the daemon's own token say themselves what to do. */
	unsigned n = reason_pack(j->code, j->text, !own_is_missing_for(j), b);

	if (next_ms >= 0) {
		rtbp_pack_field_uint(b, RTBP_F_RETRY_IN_MS, (uint64_t)next_ms);
		n++;
	}
	return n;
}

/* Perhaps not: who asks for stored messages must be allowed to read, and the presence alone is
 * enough for a join. */
static bool may_be_about_replay(const struct join *j, const struct reason *reason)
{
	return j->has_replay && strcmp(reason->code, "unauthorized") == 0 &&
	       (j->had_joined || j->has_presence);
}

/* Waits by the class of what the server said, then tries again; or gives up until the next
 * connection. `park`: what it waits in, with others; NULL: alone. */
void join_backoff(struct join *j, const char *text, const struct park *park)
{
	struct hub *hub = j->hub;
	const struct reason *reason = reason_find(text, strlen(text));

	j->live = false;
	join_set_reason(j, reason->code, text);
	if (is_about_replay(j, reason) || may_be_about_replay(j, reason)) {
		log_notice("%s: %s; joining without the stored messages", j->wire_topic, text);
		j->no_replay_before_ms =
			is_about_replay(j, reason) ? hub_now(hub) + REPLAY_AGAIN_MS : UINT64_MAX;
		j->has_replay = false;
		j->retry_at_ms = 0;
		join_queue(j);
	} else if (has_other_token(j, reason) || (reason->class == REASON_AUTH && own_is_for(j))) {
		/* With that one; or with the daemon's next one, when there is one. */
		j->retry_at_ms = 0;
		join_queue(j);
	} else if (reason->retry_ms == REASON_NEVER) {
		if (!j->is_trial) /* what was tried says it */
			log_warning("%s: refused: %s; what to do: %s", j->wire_topic, text,
				    reason->advice);
		join_reject(j);
	} else {
		j->retry_at_ms = park ? park->until_ms : hub_now(hub) + next_pause(j, reason);
		if (!park && !j->is_trial)
			log_notice("%s: %s; what to do: %s; next try in %" PRIu64 " ms",
				   j->wire_topic, text, reason->advice,
				   j->retry_at_ms - hub_now(hub));
		join_queue(j);
	}
	j->ops->changed(j);
	join_update(j);
	joins_run(hub);
}

void join_refused(struct join *j, const char *text, bool by_trial)
{
	const struct reason *reason = reason_find(text, strlen(text));

	j->refused = true;
	if (is_about_replay(j, reason)) {
		join_backoff(j, text, NULL);
		return;
	}
	probation_refused(j, reason, text, !by_trial && !j->link->is_probation);
	if (reason->class == REASON_TOO_MANY_CHANNELS && !by_trial && place_wanted(j, text))
		return;
	join_backoff(j, text, by_trial ? NULL : park_on_refusal(j, reason, text));
}

void join_refuse_here(struct join *j, const char *code, const char *text)
{
	probation_forget_join(j); /* else what waits to be tried waits for this one's answer */
	j->refused = true;
	j->live = false;
	join_set_reason(j, code, text);
	join_reject(j);
	j->ops->changed(j);
	join_update(j);
}

void join_wait_in(struct join *j, const struct park *park)
{
	if (park->lasts && strcmp(j->code, park->code) != 0) {
		j->has_news = j->hub->own.has_news = true;
		hub_wake(j->hub);
	}
	join_set_reason(j, park->code, park->text);
	if (park->lasts) {
		j->retry_at_ms = 0;
		return;
	}
	j->retry_at_ms = park->until_ms;
	j->refused = true; /* as good as: who asks is told when it is tried again */
}

void join_no_budget(struct join *j, uint64_t at_ms)
{
	const struct user *u = user_get(j->hub, j->uid);
	uint64_t oldest = u ? u->failed_at_ms[BUDGET_OF_USER - 1] : 0;
	bool is_own = oldest && oldest + BUDGET_MS >= at_ms;
	unsigned n_links = j->hub->conf.max_links;
	char text[sizeof(j->text)];

	snprintf(text, sizeof(text),
		 "%d joins of %s have failed within %d minutes, and each makes all others wait "
		 "(%s[limits] links = %u%s)",
		 is_own ? BUDGET_OF_USER : BUDGET_OF_ALL, is_own ? "this user" : "all users",
		 BUDGET_MS / 60000, n_links > 1 ? "none of " : "", n_links,
		 n_links > 1 ? " is free to try joins apart" : "");
	join_set_reason(j, "join_budget", text);
	j->retry_at_ms = at_ms;
	j->ops->changed(j);
	joins_run(j->hub);
}

/* ---- what the server and the link do to it ---- */

/* It has just been told another token, and the end of the one before crossed that. The join with the
 * new one will show. */
static bool is_about_earlier(const struct join *j, const struct reason *reason)
{
	return j->told_at_ms && hub_now(j->hub) - j->told_at_ms < TOKEN_DOUBT_MS &&
	       strcmp(reason->code, "token_expired") == 0;
}

/* The channel is gone at the server though we did not leave: rejoin by the class of `text`. */
static void join_lost(struct join *j, const char *text)
{
	const struct reason *reason = reason_find(text, strlen(text));
	struct token *t = identity_find_token(j->identity, j->token_number);

	join_remember_success(j);
	if (reason->class == REASON_PERMANENT || reason->class == REASON_AUTH)
		join_forget_success(j);
	if (is_about_earlier(j, reason))
		j->token_number = 0; /* not what it was told: it goes on with that one */
	else if (reason->class == REASON_AUTH && t)
		token_refused(t, reason->code, text);
	else if (reason->class == REASON_AUTH && own_is_for(j))
		own_was_refused(j->hub, j->own_serial, reason->code, text);
	if (hub_now(j->hub) - j->joined_at_ms >= JOIN_STABLE_MS)
		j->n_failures = 0;
	j->rejoined_at_ms = 0; /* this one was not by our wish, and has whatever is wanted now */
	join_gap_begins(j, reason->code);
	join_tell_lost(j, reason->code, text);
	(void)join_rejoin_cancel(j);
	if (j->ops->wanted(j))
		join_backoff(j, text, NULL);
	else
		join_kill(j);
}

static void join_on_system(struct join *j, const struct phx_msg *msg)
{
	struct rtbp_str s, extension = { "", 0 };
	bool is_error =
		rtbp_get_str(rtbp_find(msg->payload, "status", 6), &s) && rtbp_str_is(s, "error");
	char text[sizeof(j->system_text)] = "";
	uint64_t ref;

	if (rtbp_get_str(rtbp_find(msg->payload, "message", 7), &s) && rtbp_utf8_valid(s.p, s.size))
		hub_copy_text(s, text, sizeof(text));
	(void)rtbp_get_str(rtbp_find(msg->payload, "extension", 9), &extension);
	if (!rtbp_str_is(extension, "postgres_changes")) {
		if (is_error && text[0])
			memcpy(j->system_text, text, sizeof(text));
		if (j->ops->notice && j->state == JOIN_JOINED &&
		    (!phx_ref(msg->join_ref, &ref) || ref == j->join_ref))
			j->ops->notice(j, extension, !is_error, text);
		return;
	}
	/* The channel stays, whatever it says. On vsn 1 it does not say which one it is: nothing of
	 * the new one comes before its reply. */
	if (j->ops->system && j->state == JOIN_JOINED &&
	    (!phx_ref(msg->join_ref, &ref) || ref == j->join_ref))
		j->ops->system(j, !is_error, text);
}

void join_on_message(struct join *j, const struct phx_msg *msg)
{
	bool is_close, is_error;
	uint64_t ref;

	if (msg->kind == PHX_MESSAGE && rtbp_str_is(msg->event, "system")) {
		join_on_system(j, msg);
		return;
	}
	is_close = msg->kind == PHX_MESSAGE && rtbp_str_is(msg->event, "phx_close");
	is_error = msg->kind == PHX_MESSAGE && rtbp_str_is(msg->event, "phx_error");
	if (!is_close && !is_error) {
		/* Nothing of a channel comes before its join reply: what does is of the one before
		 * it. */
		if (j->ops->message && (j->state == JOIN_JOINED || j->live))
			j->ops->message(j, msg);
		return;
	}
	/* Both carry the ref of the join that they end. */
	if (!phx_ref(msg->ref, &ref) || ref != j->join_ref)
		return;
	if (j->state == JOIN_WAITING) {
		j->live = false; /* the rejoin that waits for its turn is needed all the more */
		return;
	}
	if (j->state != JOIN_JOINED)
		return;
	if (is_close)
		join_lost(j, j->system_text[0] ? j->system_text : "the server closed the channel");
	else
		join_lost(j, "channel_crash: the channel's process at the server died");
}

static void join_on_offline(struct join *j)
{
	bool had = j->state == JOIN_JOINED || j->live;

	j->live = false;
	probation_answered(j);
	park_forget_join(j);
	if (had) {
		join_remember_success(j);
		j->rejoined_at_ms = 0;
		join_gap_begins(j, "connection");
		join_tell_lost(j, "connection",
			       "the connection to the server ended before the answer");
		(void)join_rejoin_cancel(j);
	}
	if (!j->ops->wanted(j)) {
		join_kill(j);
		return;
	}
	if (j->state == JOIN_WAITING && !had)
		return;
	if (j->state == JOIN_LEAVING)
		j->had_joined = false;
	j->refused = false;
	j->retry_at_ms = 0;
	join_queue(j);
	join_set_reason(j, "connection", "the connection to the server is down");
	j->ops->changed(j);
}

void joins_on_offline(struct link *link)
{
	struct join *j, *next;

	link->joins_unanswered = 0;
	link->park = (struct park){ 0 };
	link->max_here = 0;
	for (j = RB_MIN(join_topic_tree, &link->joins); j; j = next) {
		next = RB_NEXT(join_topic_tree, &link->joins, j);
		join_on_offline(j);
	}
}
