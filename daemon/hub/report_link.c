/* SPDX-License-Identifier: MIT */
/* report_link: what is said of the connections: `connection` notices, the members `connection` and
 * `links` of a status, the one line for the service manager. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "hub/impl.h"
#include "hub/report.h"
#include "realtime/reasons.h"

enum { TEXT_MAX = 600 };

static const char *state_of(const struct link *link, const struct session_status *st)
{
	if (link->hub->drain != HUB_RUNNING)
		return "draining";
	switch (st->state) {
	case SESSION_IDLE:
		return "idle";
	case SESSION_CONNECTING:
		return "connecting";
	case SESSION_ONLINE:
		return st->stalled ? "stalled" : "online";
	case SESSION_BACKOFF:
		return reasons_of_fault(st->fault)->state;
	case SESSION_DRAINING:
		break; /* closed because nothing needs it */
	}
	return "idle";
}

/* ---- what is wrong, and what comes next ---- */

/* The join that everything behind it waits for: the server answers in order, and a refusal late. */
static const struct join *waited_for(struct link *link)
{
	const struct join *first = NULL;
	struct join *j;

	RB_FOREACH(j, join_topic_tree, &link->joins) {
		if (j->state == JOIN_JOINING && (!first || j->join_ref < first->join_ref))
			first = j;
	}
	return first;
}

static bool may_name(const struct report *r, const struct join *j)
{
	const struct chan *ch = chan_of_join(j);

	return r && (report_knows_user(r, j->uid) || (ch && report_knows_channel(r, ch)));
}

static void say_stalled(const struct report *r, struct link *link, char *text, size_t size)
{
	const struct join *j = waited_for(link);
	char topic[101], what[200];

	if (!j) {
		snprintf(what, sizeof(what), "for nothing that it could be busy with");
	} else if (may_name(r, j)) {
		hub_copy_text(j->topic, topic, sizeof(topic));
		snprintf(what, sizeof(what), "with the join of %s (uid %u) before it", topic,
			 j->uid);
	} else {
		snprintf(what, sizeof(what), "with the join of a channel before it");
	}
	snprintf(text, size,
		 "the server has not answered a heartbeat, %s; what to do: nothing; if no answer "
		 "comes the daemon connects again",
		 what);
}

static void say_fault(const struct session_status *st, char *text, size_t size)
{
	const struct fault_reason *reason = reasons_of_fault(st->fault);

	snprintf(text, size, "%s; what to do: %s", st->text, reason->advice);
}

/* "" when there is nothing to say. */
static void say_state(const struct report *r, struct link *link, const struct session_status *st,
		      char *text, size_t size)
{
	text[0] = '\0';
	if (link->hub->drain != HUB_RUNNING)
		snprintf(text, size, "the daemon is stopping");
	else if (st->state == SESSION_ONLINE && st->stalled)
		say_stalled(r, link, text, size);
	else if (st->state == SESSION_ONLINE)
		return;
	else if (st->fault != SESSION_FAULT_NONE)
		say_fault(st, text, size);
	else if (st->state == SESSION_CONNECTING || st->state == SESSION_BACKOFF)
		snprintf(text, size, "the connection is being opened");
	else
		snprintf(text, size,
			 "closed, because nothing is joined; the next wish opens it again");
}

/* Packs reason, text, next_try_ms, as far as there is something to say. Return: how many. */
static unsigned pack_trouble(const struct report *r, struct link *link,
			     const struct session_status *st, struct rtbp_buf *b)
{
	char text[TEXT_MAX];
	unsigned n = 0;

	if (st->state != SESSION_ONLINE && st->fault != SESSION_FAULT_NONE) {
		rtbp_pack_field_text(b, RTBP_F_REASON, reasons_of_fault(st->fault)->name);
		n++;
	}
	say_state(r, link, st, text, sizeof(text));
	if (text[0]) {
		rtbp_pack_field_text(b, RTBP_F_TEXT, text);
		n++;
	}
	if (st->next_try_ms >= 0) {
		rtbp_pack_field_uint(b, RTBP_F_NEXT_TRY_MS, (uint64_t)st->next_try_ms);
		n++;
	}
	return n;
}

static int64_t since(const struct hub *hub, const struct session_status *st)
{
	if (st->state == SESSION_ONLINE && st->stalled && hub->stalled_wall_ms)
		return hub->stalled_wall_ms;
	return hub->down_wall_ms && st->state != SESSION_IDLE ? hub->down_wall_ms
							      : st->since_wall_ms;
}

void report_pack_connection(struct hub *hub, const struct report *r, struct rtbp_buf *b)
{
	size_t map = rtbp_pack_map_begin(b);
	struct session_status st;
	unsigned n;

	session_get_status(hub->links[0].session, &st);
	rtbp_pack_field_text(b, RTBP_F_STATE, state_of(&hub->links[0], &st));
	rtbp_pack_field_uint(b, RTBP_F_SINCE, (uint64_t)since(hub, &st));
	n = 2 + pack_trouble(r, &hub->links[0], &st, b);
	rtbp_pack_map_end(b, map, (uint16_t)n);
}

/* ---- links ---- */

static void pack_link(const struct report *r, struct link *link)
{
	const struct join *cause = link->number ? link_cause(link) : NULL;
	const char *why = "shared by all";
	struct session_status st;
	struct rtbp_buf *b = r->b;
	size_t map = rtbp_pack_map_begin(b);
	unsigned n = 6;

	if (link->number)
		why = cause ? cause->why : "unused; closed soon";
	if (cause && !report_knows_user(r, cause->uid)) {
		why = "needed by another user";
		cause = NULL;
	}
	session_get_status(link->session, &st);
	rtbp_pack_field_uint(b, RTBP_F_LINK, link->number);
	rtbp_pack_field_text(b, RTBP_F_STATE, state_of(link, &st));
	rtbp_pack_field_uint(b, RTBP_F_SINCE, (uint64_t)st.since_wall_ms);
	rtbp_pack_field_text(b, RTBP_F_WHY, why);
	rtbp_pack_field_uint(b, RTBP_F_JOINS, link->n_joins);
	rtbp_pack_field(b, RTBP_F_RTT_MS);
	if (st.rtt_ms >= 0)
		rtbp_pack_uint(b, (uint64_t)st.rtt_ms);
	else
		rtbp_pack_nil(b);
	if (cause) {
		rtbp_pack_field_uint(b, RTBP_F_UID, cause->uid);
		n++;
	}
	n += pack_trouble(r, link, &st, b);
	rtbp_pack_map_end(b, map, (uint16_t)n);
}

void report_pack_links(const struct report *r)
{
	struct hub *hub = r->hub;
	struct rtbp_buf *b = r->b;
	uint32_t n = 0;

	for (unsigned i = 0; i < LINKS_MAX; i++)
		n += hub->links[i].wanted;
	rtbp_pack_field(b, RTBP_F_LINKS);
	rtbp_pack_array(b, n);
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (hub->links[i].wanted)
			pack_link(r, &hub->links[i]);
	}
}

/* ---- the one line ---- */

/* Of this day by the time alone. */
static void say_time(const struct hub *hub, int64_t wall_ms, char *ret, size_t size)
{
	time_t t = (time_t)(wall_ms / 1000), now = (time_t)(clock_wall(hub->clock) / 1000);
	struct tm tm, today;

	if (!localtime_r(&t, &tm) || !localtime_r(&now, &today))
		snprintf(ret, size, "?");
	else if (tm.tm_year == today.tm_year && tm.tm_yday == today.tm_yday)
		(void)strftime(ret, size, "%H:%M:%S", &tm);
	else
		(void)strftime(ret, size, "%Y-%m-%d %H:%M:%S", &tm);
}

/* Seconds, or minutes when it is long. */
static void say_delay(int64_t ms, char *ret, size_t size)
{
	if (ms < 120000)
		snprintf(ret, size, "%" PRId64 " s", (ms + 999) / 1000);
	else
		snprintf(ret, size, "%" PRId64 " min", (ms + 59999) / 60000);
}

static void say_down(struct hub *hub, const struct session_status *st, char *ret, size_t size)
{
	char attempt[40] = "", delay[32] = "", time[40] = "";

	ret[0] = '\0';
	if (st->fault == SESSION_FAULT_NONE || st->state == SESSION_IDLE)
		return;
	if (st->next_try_ms >= 0)
		say_delay(st->next_try_ms, delay, sizeof(delay));
	if (hub->down_wall_ms)
		say_time(hub, hub->down_wall_ms, time, sizeof(time));
	if (st->epoch > hub->online_epoch)
		snprintf(attempt, sizeof(attempt), "; attempt %" PRIu64,
			 st->epoch - hub->online_epoch);
	snprintf(ret, size, ": %s: %s%s%s%s%s%s", reasons_of_fault(st->fault)->name, st->text,
		 attempt, delay[0] ? (attempt[0] ? ", next in " : "; next attempt in ") : "", delay,
		 time[0] ? "; down since " : "", time);
}

void report_line(struct hub *hub)
{
	char line[800], token[320], more[420];
	struct session_status st;
	const char *state;

	session_get_status(hub->links[0].session, &st);
	state = state_of(&hub->links[0], &st);
	own_status_line(hub, token, sizeof(token));
	if (st.state == SESSION_ONLINE) {
		snprintf(line, sizeof(line), "%s: %s, %u clients, %u channels%s", state,
			 hub->conf.url, hub->n_peers, hub->n_chans, token);
	} else {
		say_down(hub, &st, more, sizeof(more));
		snprintf(line, sizeof(line), "%s: %s%s%s", state, hub->conf.url, more, token);
	}
	hub->ops->status(hub->ctx, line);
}

/* ---- notices ---- */

/*
 * Attempts after a loss go BACKOFF, CONNECTING, BACKOFF, ...: peers hear of the loss once, and once
 * of its end. Only another word for the trouble (say auth_failed) is news in between.
 */
static bool is_news(const char *told, const char *state)
{
	if (strcmp(told, state) == 0)
		return false;
	if (strcmp(state, "connecting") == 0)
		return told[0] == '\0' || strcmp(told, "idle") == 0;
	return true;
}

static void remember(struct hub *hub, const struct session_status *st)
{
	if (st->state == SESSION_ONLINE)
		hub->online_epoch = st->epoch;
	if (st->state != SESSION_ONLINE || !st->stalled)
		hub->stalled_wall_ms = 0;
	else if (!hub->stalled_wall_ms)
		hub->stalled_wall_ms = clock_wall(hub->clock);
}

void report_connection(struct hub *hub)
{
	struct session_status st;
	struct blob *notice;
	struct rtbp_buf *b;
	struct peer *p;
	const char *state;
	size_t begin;

	session_get_status(hub->links[0].session, &st);
	remember(hub, &st);
	state = state_of(&hub->links[0], &st);
	report_line(hub);
	if (!is_news(hub->told_state, state))
		return;
	snprintf(hub->told_state, sizeof(hub->told_state), "%s", state);
	b = hub_scratch(hub);
	begin = rtbp_msg_begin_notice(b, RTBP_N_CONNECTION);
	report_pack_connection(hub, NULL, b);
	(void)rtbp_msg_end(b, begin);
	notice = hub_scratch_blob(hub);
	TAILQ_FOREACH(p, &hub->peers, entry) {
		if (p->state == PEER_READY)
			peer_send(p, notice);
	}
	blob_unref(notice);
}
