/* SPDX-License-Identifier: MIT */
/* report: the answers to `status`, `channels` and `clients`. What is said of the connections stands
 * in report_link.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hub/impl.h"
#include "hub/report.h"

/* ---- the parts of a status ---- */

static void pack_clients(const struct report *r)
{
	struct hub *hub = r->hub;
	struct rtbp_buf *b = r->b;
	struct peer *p;
	uint32_t n = 0;

	TAILQ_FOREACH(p, &hub->peers, entry)
		n += p->state == PEER_READY && report_knows_user(r, p->cred.uid);
	rtbp_pack_field(b, RTBP_F_CLIENTS);
	rtbp_pack_array(b, n);
	TAILQ_FOREACH(p, &hub->peers, entry) {
		if (p->state != PEER_READY || !report_knows_user(r, p->cred.uid))
			continue;
		rtbp_pack_map(b, 8);
		rtbp_pack_field_uint(b, RTBP_F_SESSION, p->session);
		rtbp_pack_field_uint(b, RTBP_F_UID, p->cred.uid);
		rtbp_pack_field_uint(b, RTBP_F_PID, (uint64_t)p->cred.pid);
		rtbp_pack_field_text(b, RTBP_F_NAME, p->name);
		rtbp_pack_field_text(b, RTBP_F_VERSION, p->version);
		rtbp_pack_field_uint(b, RTBP_F_SUBSCRIPTIONS, p->n_subs);
		rtbp_pack_field_uint(b, RTBP_F_TRACKERS, p->n_trackers);
		rtbp_pack_field_uint(b, RTBP_F_QUEUED_BYTES, p->io->queued_bytes(p->io_ctx));
	}
}

static unsigned count_shown(const struct slot *slot)
{
	const struct tracker *t;
	unsigned n = 0;

	TAILQ_FOREACH(t, &slot->trackers, in_slot)
		n += slot->acked_version && t->version <= slot->acked_version;
	return n;
}

static void count_trackers(const struct chan *ch, unsigned *ret_all, unsigned *ret_shown)
{
	const struct spill *sp;

	*ret_all = ch->slot.n_trackers;
	*ret_shown = count_shown(&ch->slot);
	TAILQ_FOREACH(sp, &ch->spills, entry) {
		*ret_all += sp->slot.n_trackers;
		*ret_shown += count_shown(&sp->slot);
	}
}

static void pack_channel(const struct chan *ch, struct rtbp_buf *b)
{
	/* The shared join; without one, a further tracker's. */
	const struct join *j = ch->join ? ch->join : TAILQ_FIRST(&ch->spills)->slot.join;
	bool watched = ch->room.fold != NULL;
	unsigned n_trackers, n_shown, n = watched ? 12 : 10;
	size_t map = rtbp_pack_map_begin(b);

	count_trackers(ch, &n_trackers, &n_shown);
	chan_pack_name(ch, b);
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE, ch->is_private);
	rtbp_pack_field_uint(b, RTBP_F_IDENTITY, identity_number(ch->identity));
	rtbp_pack_field_text(b, RTBP_F_STATE, chan_state_name(ch));
	rtbp_pack_field_uint(b, RTBP_F_LINK, j->link->number);
	rtbp_pack_field_uint(b, RTBP_F_SUBSCRIBERS, ch->n_subs);
	rtbp_pack_field_uint(b, RTBP_F_QUEUED_SENDS,
			     ch->sends.ways[SEND_WS].n + ch->sends.ways[SEND_HTTP].n);
	if (watched) {
		rtbp_pack_field_text(b, RTBP_F_PRESENCE, room_state_name(ch));
		rtbp_pack_field_uint(b, RTBP_F_ENTRIES,
				     ch->room.state == ROOM_OK ? presence_count(ch->room.fold) : 0);
	}
	rtbp_pack_field_uint(b, RTBP_F_TRACKERS, n_trackers);
	rtbp_pack_field_uint(b, RTBP_F_SHOWN, n_shown);
	rtbp_pack_map_end(b, map, (uint16_t)(n + join_pack_reason(j, b)));
}

/* Not those that are only the name of somebody's database changes. */
static bool is_shown(const struct report *r, const struct chan *ch)
{
	return (ch->join || !TAILQ_EMPTY(&ch->spills)) && report_knows_channel(r, ch);
}

static void pack_channels(const struct report *r)
{
	struct hub *hub = r->hub;
	struct rtbp_buf *b = r->b;
	struct chan *ch;
	uint32_t n = 0;

	RB_FOREACH(ch, chan_number_tree, &hub->chans_by_number)
		n += is_shown(r, ch);
	rtbp_pack_field(b, RTBP_F_CHANNELS);
	rtbp_pack_array(b, n);
	RB_FOREACH(ch, chan_number_tree, &hub->chans_by_number) {
		if (is_shown(r, ch))
			pack_channel(ch, b);
	}
}

/* One that gave a token of it for several topics is one. */
static unsigned count_clients(struct hub *hub, const struct identity *i)
{
	const struct token *t;
	const struct grant *g;
	unsigned n = 0;

	hub->mark++;
	TAILQ_FOREACH(t, &i->tokens, in_identity) {
		TAILQ_FOREACH(g, &t->grants, in_token) {
			if (g->peer->pending == g || g->peer->mark == hub->mark)
				continue;
			g->peer->mark = hub->mark;
			n++;
		}
	}
	return n;
}

static void pack_identity(struct hub *hub, const struct identity *i, struct rtbp_buf *b)
{
	const struct token *best = identity_token(i);

	if (!best)
		best = TAILQ_FIRST(&i->tokens);
	rtbp_pack_map(b, 6);
	rtbp_pack_field_uint(b, RTBP_F_IDENTITY, i->number);
	rtbp_pack_field_text(b, RTBP_F_ROLE, best->jwt.role);
	rtbp_pack_field_text(b, RTBP_F_STATE, token_state_name(best));
	rtbp_pack_field_uint(b, RTBP_F_EXPIRES, (uint64_t)best->jwt.exp_s);
	rtbp_pack_field_uint(b, RTBP_F_CLIENTS, count_clients(hub, i));
	rtbp_pack_field_uint(b, RTBP_F_CHANNELS, i->n_chans);
}

/* Not those that are there only until what was joined with them has ended. */
static bool shows_identity(const struct report *r, const struct identity *i)
{
	return !TAILQ_EMPTY(&i->tokens) && report_knows_identity(r, i);
}

static void pack_identities(const struct report *r)
{
	const struct identity *i;
	uint32_t n = 0;

	TAILQ_FOREACH(i, &r->hub->identities, entry)
		n += shows_identity(r, i);
	rtbp_pack_field(r->b, RTBP_F_IDENTITIES);
	rtbp_pack_array(r->b, n);
	TAILQ_FOREACH(i, &r->hub->identities, entry) {
		if (shows_identity(r, i))
			pack_identity(r->hub, i, r->b);
	}
}

static void pack_counters(struct hub *hub, struct rtbp_buf *b)
{
	uint64_t reconnects = 0, malformed = 0;
	struct session_status st;

	for (unsigned i = LINKS_MAX; i-- > 0;) {
		if (!hub->links[i].session)
			continue;
		session_get_status(hub->links[i].session, &st);
		malformed += st.malformed;
		reconnects = st.reconnects; /* of the shared one */
	}
	rtbp_pack_field(b, RTBP_F_COUNTERS);
	rtbp_pack_map(b, 9);
	rtbp_pack_field_uint(b, RTBP_F_RECONNECTS, reconnects);
	rtbp_pack_field_uint(b, RTBP_F_MESSAGES_IN, hub->counters.messages_in);
	rtbp_pack_field_uint(b, RTBP_F_MESSAGES_OUT, hub->counters.messages_out);
	rtbp_pack_field_uint(b, RTBP_F_BYTES_IN, hub->counters.bytes_in);
	rtbp_pack_field_uint(b, RTBP_F_BYTES_OUT, hub->counters.bytes_out);
	rtbp_pack_field_uint(b, RTBP_F_DELIVERIES, hub->counters.deliveries);
	rtbp_pack_field_uint(b, RTBP_F_UNDECODED, hub->counters.undecoded);
	rtbp_pack_field_uint(b, RTBP_F_SLOW_CONSUMERS, hub->counters.slow_consumers);
	rtbp_pack_field_uint(b, RTBP_F_MALFORMED, malformed);
}

static void pack_http(const struct report *r)
{
	const struct hub *hub = r->hub;
	uint64_t now = hub_now(hub), n = 0;
	bool is_down = hub->post_failures > 0;

	for (unsigned i = 0; i < POSTS_MAX; i++)
		n += hub->posts[i].id != 0;
	rtbp_pack_field(r->b, RTBP_F_HTTP);
	rtbp_pack_map(r->b, is_down ? 3 : 1);
	rtbp_pack_field_uint(r->b, RTBP_F_REQUESTS, n);
	if (!is_down)
		return;
	rtbp_pack_field_text(r->b, RTBP_F_TEXT, hub->post_text);
	rtbp_pack_field_uint(r->b, RTBP_F_NEXT_TRY_MS,
			     hub->post_retry_at_ms > now ? hub->post_retry_at_ms - now : 0);
}

/* That of an identity that the asker may act with. */
static bool shows_token(const struct report *r)
{
	return own_has_status(r->hub) && (r->sees_all || r->may_be_own);
}

static void pack_status(const struct report *r)
{
	struct rtbp_buf *b = r->b;
	struct hub *hub = r->hub;
	bool had_end = hub->last_end_wall_ms != 0, has_token = shows_token(r);

	rtbp_pack_map(b, 11 + had_end + has_token + REPORT_CHANGES_MEMBERS);
	rtbp_pack_field(b, RTBP_F_SERVER);
	rtbp_pack_map(b, 4);
	rtbp_pack_field_text(b, RTBP_F_NAME, "rtbridged");
	rtbp_pack_field_text(b, RTBP_F_VERSION, RTB_VERSION);
	rtbp_pack_field_uint(b, RTBP_F_PID, (uint64_t)getpid());
	rtbp_pack_field_uint(b, RTBP_F_UPTIME_MS, hub_now(hub) - hub->started_ms);
	rtbp_pack_field(b, RTBP_F_CONNECTION);
	report_pack_connection(hub, r, b);
	rtbp_pack_field_text(b, RTBP_F_URL, hub->conf.url);
	rtbp_pack_field_text(b, RTBP_F_VSN,
			     session_vsn(hub->links[0].session) == PHX_VSN_2 ? "2.0.0" : "1.0.0");
	rtbp_pack_field_bool(b, RTBP_F_ADMIN, r->sees_all);
	report_pack_links(r);
	if (has_token) {
		rtbp_pack_field(b, RTBP_F_TOKEN);
		own_status_pack(hub, b);
	}
	pack_clients(r);
	pack_channels(r);
	pack_identities(r);
	report_pack_changes(r);
	pack_http(r);
	pack_counters(hub, b);
	if (had_end) {
		rtbp_pack_field(b, RTBP_F_LAST_DISCONNECT);
		rtbp_pack_map(b, 3);
		rtbp_pack_field_uint(b, RTBP_F_SINCE, (uint64_t)hub->last_end_wall_ms);
		rtbp_pack_field_text(b, RTBP_F_REASON, hub->last_end_reason);
		rtbp_pack_field_text(b, RTBP_F_TEXT, hub->last_end_text);
	}
}

/* ---- the requests ---- */

static void answer(struct peer *p, enum rtbp_method m, uint32_t id)
{
	struct rtbp_buf *b = hub_scratch(p->hub);
	size_t begin = rtbp_msg_begin_result(b, id);
	struct report r;

	if (p->user)
		p->user->report_turn = p->hub->turn;
	report_begin(&r, p, b);
	if (m == RTBP_M_STATUS) {
		pack_status(&r);
	} else {
		rtbp_pack_map(b, 1);
		if (m == RTBP_M_CHANNELS)
			pack_channels(&r);
		else
			pack_clients(&r);
	}
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(p);
}

/* A few bytes ask for what costs as much as hundreds of other requests: so it is not answered as
 * often as it is asked for while everybody else waits. */
static void wait_for_turn(struct peer *p, enum rtbp_method m, uint32_t id)
{
	uint64_t now = hub_now(p->hub), last = p->user->report_ms;

	p->user->report_ms = (last > now ? last : now) + REPORT_PAUSE_MS;
	p->report.waits = true;
	p->report.method = m;
	p->report.id = id;
	timer_arm(&p->hub->timers, &p->report.timer, p->user->report_ms);
	peer_update_pause(p);
}

void report_timer_due(void *peer)
{
	struct peer *p = peer;

	/* Many are due at once when answers cost more than the pause: one in a turn all the same. */
	if (p->user->report_turn == p->hub->turn) {
		timer_arm(&p->hub->timers, &p->report.timer, hub_now(p->hub) + REPORT_PAUSE_MS);
		return;
	}
	p->report.waits = false;
	if (p->state == PEER_READY)
		answer(p, p->report.method, p->report.id);
	peer_update_pause(p);
	hub_wake(p->hub);
}

void report_request(struct peer *p, enum rtbp_method m, uint32_t id, bool wants_answer)
{
	if (!wants_answer)
		return;
	if (p->user && p->user->report_turn == p->hub->turn && !p->report.waits)
		wait_for_turn(p, m, id);
	else
		answer(p, m, id);
}
