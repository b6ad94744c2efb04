/* SPDX-License-Identifier: MIT */
/*
 * room: who is there in a channel, for those who watch. The server tells it once per join; what
 * came is folded, and whoever comes later gets it from here.
 *
 * A server whose policies do not show the presence says nothing at all. So after each join with
 * presence a call without meaning is sent (the probe; it does not count as a presence call):
 * replies of a channel come in order, so its answer without a state before it means "denied".
 *
 * A new join has forgotten whom we show, and they are called for again at once, before the probe.
 * Then the state counts as known only with the probe's answer: who asks at that moment does not
 * find the processes of this machine missing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

enum { WATCH_ALL = (1 << WATCH_N_EVENTS) - 1 };

static const struct {
	enum watch_event event;
	enum rtbp_field field;
} changes[PRESENCE_N_CHANGES] = {
	[PRESENCE_LEAVE] = { WATCH_LEAVE, RTBP_F_LEAVE },
	[PRESENCE_JOIN] = { WATCH_JOIN, RTBP_F_JOIN },
	[PRESENCE_UPDATE] = { WATCH_UPDATE, RTBP_F_UPDATE },
};

const char *room_state_name(const struct chan *ch)
{
	switch (ch->room.state) {
	case ROOM_OK:
		return "ok";
	case ROOM_DENIED:
		return "denied";
	case ROOM_OVERFLOW:
		return "overflow";
	case ROOM_PENDING:
		break;
	}
	return "pending";
}

/* ---- telling ---- */

void room_pack(const struct chan *ch, bool is_behind, struct rtbp_buf *b)
{
	rtbp_pack_map(b, 2);
	rtbp_pack_field_text(b, RTBP_F_STATE, is_behind ? "pending" : room_state_name(ch));
	rtbp_pack_field(b, RTBP_F_SNAPSHOT);
	if (ch->room.state == ROOM_OK && !is_behind)
		presence_pack_snapshot(ch->room.fold, b);
	else
		rtbp_pack_array(b, 0);
}

static size_t notice_begin(const struct chan *ch, struct rtbp_buf *b, uint32_t n_more)
{
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_PRESENCE);

	rtbp_pack_map(b, 2 + n_more);
	chan_pack_name(ch, b);
	return begin;
}

/* A snapshot is large, and several at once could fill the queue of a client that reads well: they
 * wait until at most a quarter of it is taken. */
bool room_fits_queue(const struct sub *s)
{
	const struct peer *p = s->peer;

	return p->io->queued_bytes(p->io_ctx) <= p->hub->conf.peer_queue_bytes / 4;
}

void room_fall_behind(struct sub *s)
{
	struct hub *hub = s->peer->hub;

	s->has_snapshot = false;
	s->behind = true;
	if (!hub->behind_timer.armed)
		timer_arm(&hub->timers, &hub->behind_timer, hub_now(hub) + BEHIND_RETRY_MS);
}

void room_tell_sync(struct sub *s)
{
	const struct chan *ch = s->chan;
	struct rtbp_buf *b;
	size_t begin;

	s->behind = false;
	s->has_snapshot = ch->room.state == ROOM_OK;
	if (!(s->presence_events & 1 << WATCH_SYNC))
		return;
	if (s->has_snapshot && !room_fits_queue(s)) {
		room_fall_behind(s);
		return;
	}
	b = hub_scratch(ch->hub);
	begin = notice_begin(ch, b, 1);
	rtbp_pack_field(b, RTBP_F_SYNC);
	if (s->has_snapshot)
		presence_pack_snapshot(ch->room.fold, b);
	else
		rtbp_pack_array(b, 0);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
}

/* The changes that match `events`. NULL: none do, or there is no memory. */
static struct blob *pack_changes(const struct chan *ch, unsigned events)
{
	const struct presence *fold = ch->room.fold;
	struct rtbp_buf *b = hub_scratch(ch->hub);
	uint32_t n = 0;
	size_t begin;

	for (unsigned i = 0; i < PRESENCE_N_CHANGES; i++)
		n += presence_n_changes(fold, i) && (events & 1 << changes[i].event);
	if (!n)
		return NULL;
	begin = notice_begin(ch, b, n);
	for (unsigned i = 0; i < PRESENCE_N_CHANGES; i++) {
		if (!presence_n_changes(fold, i) || !(events & 1 << changes[i].event))
			continue;
		rtbp_pack_field(b, changes[i].field);
		presence_pack_changes(fold, i, b);
	}
	(void)rtbp_msg_end(b, begin);
	return hub_scratch_blob(ch->hub);
}

static void tell_changes(struct chan *ch)
{
	struct blob *all = NULL, *some;
	struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!s->answered || !s->has_snapshot || s->peer->state != PEER_READY)
			continue;
		/* Who does not read loses the changes, and gets the whole later instead. */
		if (s->presence_events & 1 << WATCH_SYNC && !room_fits_queue(s)) {
			room_fall_behind(s);
			continue;
		}
		ch->hub->counters.deliveries++;
		if ((s->presence_events & WATCH_ALL) == WATCH_ALL) {
			if (!all && !(all = pack_changes(ch, WATCH_ALL)))
				return;
			peer_send(s->peer, all);
			continue;
		}
		some = pack_changes(ch, s->presence_events);
		peer_send(s->peer, some);
		blob_unref(some);
	}
	blob_unref(all);
}

/* The timer's: those who are behind and have room now are told. */
void rooms_catch_up(struct hub *hub)
{
	struct chan *ch;
	struct sub *s;
	bool again = false;

	RB_FOREACH(ch, chan_number_tree, &hub->chans_by_number) {
		TAILQ_FOREACH(s, &ch->subs, in_chan) {
			if (!s->behind || s->peer->state != PEER_READY)
				continue;
			if (ch->room.state == ROOM_OK && !room_fits_queue(s)) {
				again = true;
				continue;
			}
			s->behind = false;
			if (ch->room.state == ROOM_OK) {
				room_tell_sync(s);
				sub_notice(s);
			}
		}
	}
	if (again && !hub->behind_timer.armed)
		timer_arm(&hub->timers, &hub->behind_timer, hub_now(hub) + BEHIND_RETRY_MS);
}

static void settle(struct chan *ch, enum room_state state)
{
	struct sub *s;

	ch->room.state = state;
	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		/* Who knew something knows nothing now. */
		if (state != ROOM_OK && s->has_snapshot && s->peer->state == PEER_READY)
			room_tell_sync(s);
	}
	subs_on_room_settled(ch);
}

static void give_up(struct chan *ch, int error)
{
	if (error == PRESENCE_E_OVERFLOW)
		log_warning("%s: its presence is larger than the daemon keeps ([limits] presence)",
			    ch->topic_text);
	else
		log_error("%s: its presence is lost: out of memory", ch->topic_text);
	settle(ch, ROOM_OVERFLOW);
}

/* ---- from the server ---- */

void room_on_message(struct chan *ch, const struct phx_msg *msg)
{
	struct room *room = &ch->room;
	bool is_state = rtbp_str_is(msg->event, "presence_state");
	uint64_t ref;
	int r;

	/* On its way from the channel before; changes count from wherever they come. */
	if (is_state && phx_ref(msg->join_ref, &ref) && ref != ch->join->join_ref)
		return;
	if (!room->fold || room->state == ROOM_OVERFLOW ||
	    (!is_state && !rtbp_str_is(msg->event, "presence_diff")))
		return;
	ch->hub->counters.messages_in++;
	r = is_state ? presence_on_state(room->fold, msg->payload)
		     : presence_on_diff(room->fold, msg->payload);
	if (r == PRESENCE_E_MALFORMED) {
		ch->hub->counters.undecoded++;
		log_debug("%s: a %.*s was no such thing", ch->topic_text, (int)msg->event.size,
			  msg->event.p);
	} else if (r) {
		give_up(ch, r);
	} else if (presence_is_current(room->fold)) {
		tell_changes(ch);
		if (room->state != ROOM_OK && !(room->waits_for_own && room->probe_ref))
			settle(ch, ROOM_OK);
	}
}

/* ---- the probe ---- */

static void on_probe(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
		     struct rtbp_val response)
{
	struct join *j = join_find(ctx, cookie);
	struct chan *ch = j ? chan_of_join(j) : NULL; /* not any more, if another took over */

	(void)response;
	if (!ch || ch->room.probe_ref != ref || result == SESSION_LOST)
		return;
	ch->room.probe_ref = 0;
	feeds_tidy_later(ch->hub); /* it may be moved now */
	if (ch->room.state != ROOM_PENDING || !ch->room.fold)
		return;
	if (presence_is_current(ch->room.fold)) {
		settle(ch, ROOM_OK);
	} else if (result == SESSION_TIMEOUT) {
		room_probe(ch); /* proves nothing */
	} else {
		log_notice("%s: the server's policies do not show its presence", ch->topic_text);
		settle(ch, ROOM_DENIED);
	}
}

void room_probe(struct chan *ch)
{
	struct join *j = ch->join;
	struct session_push push = {
		.timeout_ms = ROOM_PROBE_MS,
		.fn = on_probe,
		.ctx = ch->hub,
	};

	if (!j || j->state != JOIN_JOINED || !j->has_presence || ch->room.probe_ref ||
	    ch->room.state != ROOM_PENDING)
		return;
	push.cookie = j->id;
	if (join_push_event(j, "presence", "{}", 2, &push) == 0)
		ch->room.probe_ref = push.ref;
	else
		hub_try_again(ch->hub);
}

/* ---- from the join ---- */

void room_joining(struct chan *ch, bool with_presence)
{
	struct room *room = &ch->room;

	room->probe_ref = 0;
	room->state = ROOM_PENDING;
	if (!with_presence) {
		room_free(ch);
		return;
	}
	if (!room->fold)
		room->fold = presence_new(ch->hub->conf.presence_bytes);
	if (room->fold)
		presence_joining(room->fold);
}

void room_joined(struct chan *ch)
{
	if (!ch->join->has_presence)
		return;
	ch->room.waits_for_own = ch->slot.in_flight;
	if (ch->room.fold) {
		/* What came before the join's answer, from the channel before, is older than the
		 * state that follows. */
		presence_joining(ch->room.fold);
		room_probe(ch);
	} else {
		ch->room.state = ROOM_OVERFLOW; /* there was no memory for it */
	}
}

void room_free(struct chan *ch)
{
	ch->room.fold = presence_free(ch->room.fold);
	ch->room.state = ROOM_PENDING;
	ch->room.probe_ref = 0;
}
