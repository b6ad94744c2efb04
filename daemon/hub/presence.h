/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Presence in the hub: the room (who is there, as watchers see it), the slot (what the server shows
 * of us through one join), trackers (local processes that want to be shown).
 *
 *   server's presence_state, presence_diff -> join -> room: folded (realtime/presence) -> subs
 *   track, untrack -> track.c: which slot -> slot: paced (realtime/calls) -> join -> server
 *
 * A slot shows one entry, because the server keeps one per join, under a key that is fixed at the
 * join. With `[presence] trackers = merge` the entry holds the states of all its trackers, else it
 * has one tracker at most.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/timers.h"
#include "hub/request.h"
#include "proto/rtbp_msg.h"
#include "realtime/calls.h"
#include "realtime/presence.h"

struct chan;
struct hub;
struct join;
struct peer;
struct sub;

enum {
	ROOM_PROBE_MS = 10000,
	BEHIND_RETRY_MS = 50,
	/* The server closes channels over too many presence messages in the whole project; the
	 * smallest plan has 20 in a second. Somebody's going may borrow. */
	CALLS_PER_S = 10,
	CALLS_BURST = 10,
	CALLS_DEBT = 10,
	SLOT_CALL_MS = 10000,
	TRACK_TIMEOUT_MS = 15000,
	TRACK_TIMEOUT_MAX_MS = 300000,
	/* Of a merged state, as the server counts it (realtime/term.h); the smallest plan takes
	 * 256 KB. */
	MERGED_STATE_MAX = 200 * 1024,
};

/* ---- room ---- */

enum watch_event { WATCH_SYNC, WATCH_JOIN, WATCH_LEAVE, WATCH_UPDATE, WATCH_N_EVENTS };

enum room_state {
	ROOM_PENDING, /* not joined with presence, or its state has not come yet */
	ROOM_OK,
	ROOM_DENIED,   /* the policies do not show it */
	ROOM_OVERFLOW, /* larger than we keep */
};

struct room {
	enum room_state state;
	struct presence *fold; /* NULL: nobody has wanted to know */
	uint64_t probe_ref;    /* 0: none is out */
	bool waits_for_own;    /* our trackers were called for just before the probe */
};

/* room.c */
const char *room_state_name(const struct chan *ch);
/* The shared join was sent. */
void room_joining(struct chan *ch, bool with_presence);
void room_joined(struct chan *ch);
/* Sends the probe if it is still wanted and not yet out. */
void room_probe(struct chan *ch);
void room_on_message(struct chan *ch, const struct phx_msg *msg);
/* The map {state, snapshot} of an answer; `is_behind`: without the snapshot, as if still unknown.
 */
void room_pack(const struct chan *ch, bool is_behind, struct rtbp_buf *b);
bool room_fits_queue(const struct sub *s);
/* There is no room in the peer's queue: it gets the whole state as soon as there is. */
void room_fall_behind(struct sub *s);
void rooms_catch_up(struct hub *hub);
/* The sub learns the whole state by a notice. */
void room_tell_sync(struct sub *s);
void room_free(struct chan *ch);

/* ---- slot ---- */

struct slot {
	struct chan *chan;
	struct join *join; /* NULL: none now */
	TAILQ_HEAD(, tracker) trackers;
	unsigned n_trackers;
	uint64_t version;      /* of what should be shown; grows with each change */
	uint64_t sent_version; /* 0: nothing, through this join */
	uint64_t acked_version;
	bool shown;        /* the server has an entry of ours, or may have */
	bool was_shown;    /* the same, before the last call */
	bool someone_left; /* since the last call: the next one may use the reserve */
	bool in_flight;
	bool sent_nobody; /* the last call took the entry away */
	uint64_t call_ref;
	struct calls calls;
	struct timer timer;
};

/* slot.c */
void slot_init(struct slot *slot, struct chan *chan);
/* The join is there (anew), gone, or its channel is. */
void slot_joined(struct slot *slot);
void slot_lost(struct slot *slot, const char *code, const char *text);
/* What should be shown has changed. */
void slot_changed(struct slot *slot);
/* Calls what may be called now. */
void slot_run(struct slot *slot);
void slot_done(struct slot *slot);
/* Its trackers have become fewer or more: is its join still wanted, does it fit? */
void slot_update_owner(struct slot *slot);
/* Through whom a join shows presence. */
struct slot *join_slot(struct join *j);

/* A place of its own for a further tracker of a channel. */
struct spill {
	TAILQ_ENTRY(spill) entry;
	struct chan *chan;
	struct slot slot;
	char key[RTBP_KEY_MAX + 1];
	bool key_is_made; /* by us: the next one without a key of its own may have it */
};

/* spill.c */
/* One that is free, or a new one, for this key (NULL: any). NULL with *ret_text. */
struct spill *spill_get(struct chan *ch, struct peer *p, const char *key, const char **ret_text);

/* ---- trackers ---- */

struct tracker {
	TAILQ_ENTRY(tracker) in_peer, in_slot;
	struct peer *peer;
	struct chan *chan;
	struct slot *slot;
	char key[RTBP_KEY_MAX + 1]; /* under which it is shown */
	bool has_key;               /* it asked for that one */
	struct blob *state;         /* a MessagePack map */
	size_t term_size;           /* of key and state, as the server counts */
	uint64_t version;           /* of the slot, with this state */
	bool told_shown;            /* the last that its peer heard */
	struct request request;     /* while waiting */
	bool waiting;               /* request is in the peer's list, the timer armed */
	struct timer timer;
};

/* track.c */
void track_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
void untrack_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
void presence_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
struct tracker *tracker_find(struct peer *p, const struct chan *ch);
/* Goes away, and what it showed with it. */
void tracker_free(struct tracker *t);
/* It ends, by no wish of its peer, who is told. */
void tracker_reject(struct tracker *t, enum rtbp_error code, const char *text);
/* The slot's state: `acked` up to a version, held back for `ms`, refused for good. */
void trackers_acked(struct slot *slot);
/* What was shown is so no more, until the join is back. */
void trackers_hidden(struct slot *slot, const char *text);
void trackers_throttled(struct slot *slot, uint64_t ms);
void trackers_refused(struct slot *slot, enum rtbp_error code, const char *outcome,
		      const char *text);
/* The server found the state too large: those whose states it had not taken before, or if there are
 * none, all. */
void trackers_refused_new(struct slot *slot, const char *text);
