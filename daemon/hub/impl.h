/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of the hub share: its objects and the calls between them. Nobody outside hub/
 * includes this. Links and joins, the road to the server, stand in join.h.
 *
 *   peer  1 -- n  sub      n -- 1  chan  1 -- 1  join        n -- 1  link
 *                                  chan  1 -- n  send
 *   peer  1 -- n  tracker  n -- 1  chan  1 -- 1  room        (who is there: watched)
 *                 tracker  n -- 1  slot  1 -- 1  join        (the chan's own, or a spill's)
 *          sub  1 -- n  want  n -- 1  binding  n -- 1  feed  1 -- 1  join    (changes.h)
 *
 * A chan is what clients see: (topic, private, identity) and its number. Its shared join carries
 * everything but the presence of further trackers: each of those has a spill, a join of its own on
 * a further link. A slot is what the server shows of us through one join, and the budget of calls
 * for that.
 *
 * Owners: the hub owns peers, chans, joins and links; a sub belongs to its peer and is listed in
 * its chan; a send belongs to its chan and outlives the peer that asked for it; a tracker belongs
 * to its peer; a spill belongs to its chan and ends with its join.
 */
#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "base/bucket.h"
#include "base/timers.h"
#include "hub/changes.h"
#include "hub/hub.h"
#include "hub/identity.h"
#include "hub/join.h"
#include "hub/own.h"
#include "hub/presence.h"
#include "hub/probation.h"
#include "hub/replay.h"
#include "hub/request.h"
#include "hub/send.h"
#include "proto/rtbp_msg.h"
#include "realtime/pace.h"

enum {
	SUBSCRIBE_TIMEOUT_MS = 15000,
	SUBSCRIBE_TIMEOUT_MAX_MS = 300000,
	HELLO_MS = 2000,
	PEER_SYNCS_MAX = 64, /* unanswered ones of one peer */
	REPORT_PAUSE_MS = 5, /* between what one user's clients ask for in the same turn */
	EVENTS_MAX = 64,     /* event filters of one subscription */
};

/* ---- peer ---- */

enum peer_state {
	PEER_NEW, /* no hello yet */
	PEER_READY,
	PEER_CLOSING, /* farewell queued, nothing is taken from it and nothing delivered to it any
			 more */
	PEER_GONE,    /* connection closed; freed at the turn's end */
};

struct peer {
	TAILQ_ENTRY(peer) entry;
	struct hub *hub;
	const struct peer_io *io;
	void *io_ctx;
	uint64_t session;
	struct peer_cred cred;
	char name[64], version[32];
	enum peer_state state;
	bool paused;
	bool is_full; /* many of its sends are on their way */
	struct {
		bool waits; /* for its turn, and the peer is not read meanwhile */
		enum rtbp_method method;
		uint32_t id;
		struct timer timer;
	} report; /* a `status`, `channels`, `clients` */
	struct timer hello_timer;
	TAILQ_HEAD(, sub) subs;
	unsigned n_subs;
	unsigned n_bindings; /* wants of all subs */
	uint64_t mark;       /* rows.c: of the last row it was given; report.c: it is counted */
	TAILQ_HEAD(, tracker) trackers;
	unsigned n_trackers;
	struct user *user; /* NULL: there was no memory for it */
	struct grant_list grants;
	unsigned n_grants;
	struct grant *pending; /* the server is being asked about its token; NULL: none */
	unsigned n_held;
	size_t held_bytes;
	bool releasing;   /* held requests are being carried out ... */
	uint64_t late_ms; /* ... this one so long after it came */
	struct request_list requests;
	struct send_sum {
		unsigned n;
		size_t bytes;
	} queued, given; /* its sends */
	unsigned n_syncs;
	TAILQ_ENTRY(peer) reap_entry;
	bool reaped; /* in hub->reap */
};

/* ---- sub ---- */

struct sub {
	TAILQ_ENTRY(sub) in_peer, in_chan;
	struct peer *peer;
	struct chan *chan;
	bool on_channel; /* wants something of the channel itself, not database changes only */
	bool broadcasts;
	char **events; /* of broadcasts; NULL: all */
	unsigned n_events;
	bool self;
	bool answered; /* the peer has the answer to `subscribe`: notices may follow */
	bool keep;
	bool wait_joined;         /* answered when broadcasts flow, not when everything does */
	bool presence;            /* wants to know who is there */
	bool has_snapshot;        /* was told who is there: changes may follow */
	bool behind;              /* its queue had no room for who is there: told when it has */
	unsigned presence_events; /* 1 << enum watch_event */
	char *presence_key;       /* NULL: none */
	struct want *wants;       /* in the order asked */
	unsigned n_wants;
	struct replay *replay; /* NULL: it has asked for none, or that is over */
	bool replication_ready,
		replication_told; /* wants to be told (system.c); was, of this join */
	unsigned told_progress;   /* subscribe.c: how far everything was when the peer was told */
	bool has_news;            /* in hub->subs_with_news */
	TAILQ_ENTRY(sub) in_news;
	struct request request; /* while !answered, or while a change waits */
	bool waiting;           /* request is in the peer's list */
	struct timer timer;
};

/* ---- chan ---- */

struct chan {
	RB_ENTRY(chan) by_key, by_number;
	struct hub *hub;
	uint64_t number;
	bool is_private;
	struct identity *identity; /* NULL: the daemon's own */
	uint64_t mark;             /* report_know.c: the asker's user has something of it */
	char *topic_text;
	struct rtbp_str topic;
	struct join *successor; /* that is to take the place of `join`, on a lower link (move.c) */
	uint64_t no_move_before_ms, sent_at_ms;
	struct join *join; /* NULL: only trackers on further links are left, or subs that want
			    * database changes only */
	bool sender_only;  /* no subscriber has ever come: lingers longer */
	TAILQ_HEAD(, sub) subs;
	unsigned n_subs;
	unsigned n_on_channel;     /* subs that need the join */
	struct feed *feed, *proof; /* of private projects (chan_feed.c); NULL: none */
	struct chan_sends sends;
	struct hold hold;           /* while its join is not told of */
	struct gap gap;             /* that is about to be told */
	bool runs_replays;          /* in replays_run() */
	struct recent *recent;      /* NULL: nothing with an id has come */
	bool replication_ready;     /* the server has said so of this join */
	char key[RTBP_KEY_MAX + 1]; /* of the shared join's presence */
	bool rekeyed;     /* the shared join was joined anew for a tracker's key: not again */
	bool key_is_made; /* by us: any tracker without a key of its own may have it */
	struct room room;
	struct slot slot;
	TAILQ_HEAD(, spill) spills;
	bool held; /* its shared join is being made: it stays, whatever else ends */
	bool dead;
	TAILQ_ENTRY(chan) reap_entry;
};

/* ---- sync ---- */

struct sync {
	struct request request;
	struct peer *peer;
	struct timer timer;
	RB_ENTRY(sync) by_id;
	uint64_t id;     /* the cookie of its heartbeats */
	unsigned wanted; /* 1 << link number: a heartbeat's answer is still wanted */
	unsigned sent;   /* 1 << link number: it was sent */
};

RB_HEAD(chan_key_tree, chan);
RB_HEAD(chan_number_tree, chan);
RB_HEAD(sync_tree, sync);

struct hub {
	struct hub_conf conf;
	const struct clock *clock;
	const struct hub_ops *ops;
	void *ctx;
	struct timers timers;
	bool awake;    /* ops->wake was called in this turn */
	uint64_t turn; /* its number, from 1 on */

	struct link links[LINKS_MAX];
	char told_state[16];      /* what peers and ops->status were told last */
	int64_t last_end_wall_ms; /* of the last connection that had been online */
	bool was_online;
	int64_t down_wall_ms;    /* since when there is none; 0 while online */
	int64_t stalled_wall_ms; /* since when the server lets us wait; 0: it does not */
	uint64_t online_epoch;   /* of the last connection that was online; 0: none was */
	char last_end_reason[32], last_end_text[256];

	TAILQ_HEAD(, peer) peers;
	unsigned n_peers;
	struct chan_key_tree chans;
	struct chan_number_tree chans_by_number;
	unsigned n_chans;
	struct join_id_tree joins;
	bool has_refusals; /* joins that would be refused for sure */
	bool seeks_places; /* joins that the server takes no more on their link */
	uint64_t n_turns;  /* joins sent */
	struct identity_list identities;
	uint64_t next_identity;
	struct token_list tokens, tokens_with_news;
	bool has_idle_tokens; /* perhaps: of which no client is left */
	unsigned n_tokens;
	struct user_tree users;
	struct verdicts proven, refused;
	struct probation probation;
	struct park park_all, park_public, park_own;
	uint64_t outage_at_ms; /* the last time the server spoke of one, and to whom */
	uid_t outage_uid;
	struct binding_text_tree bindings;
	struct binding_id_tree bindings_by_id;
	unsigned n_bindings;
	uint64_t next_binding;
	struct feed_list feeds;
	struct suspects_list suspects;
	unsigned n_feeds;
	uint64_t next_feed;
	char feed_prefix[40]; /* of the topics of this start */
	bool private_only;    /* database changes need private channels: configured, or learned */
	TAILQ_HEAD(, sub) subs_with_news; /* of their bindings */
	bool telling;                     /* in wants_tell() */
	uint64_t mark; /* the last one that was given to something, to know it again */
	uint64_t row_seed;
	struct timer tidy_timer, bindings_timer;
	char merge_key[32]; /* under which this daemon shows merged presence */
	/* Of all links: the server counts for the project. */
	struct pace joins_pace;
	struct bucket calls_bucket;
	struct own own; /* the daemon's own token */
	struct bucket pushes_bucket;
	struct timer push_timer;       /* a token that waits for its turn may be told */
	struct bucket refusals_bucket; /* of lines in the log */
	unsigned next_turn;            /* the link that may send the next join */
	struct timer join_timer;       /* a queue's head may go on */
	struct timer busy_timer;       /* a link's mailbox was full */
	struct timer behind_timer;     /* somebody is behind */
	struct send_tree sends;
	size_t send_bytes;
	TAILQ_HEAD(, chan) posts_waiting; /* that have something for HTTP, in turn */
	struct post posts[POSTS_MAX];
	struct timer post_timer; /* the server could not be reached, or no request was taken */
	uint64_t post_retry_at_ms;
	unsigned post_failures; /* in a row */
	char post_text[192];    /* the last one; "": there is none */
	struct outcome_tree outcomes;
	unsigned n_outcomes;
	TAILQ_HEAD(, outcome) ended; /* oldest first */
	struct timer outcome_timer;
	struct sync_tree syncs;

	TAILQ_HEAD(, peer) reap_peers;
	TAILQ_HEAD(, join) reap_joins;
	TAILQ_HEAD(, chan) reap_chans;

	uint64_t next_session, next_chan, next_id;
	uint64_t started_ms;
	uint64_t random;
	enum hub_drain { HUB_RUNNING, HUB_DRAINING, HUB_FAREWELL, HUB_DRAINED } drain;
	bool grace_over;
	bool dying; /* in hub_free(): what is below may be gone, nothing is sent any more */
	struct timer drain_timer;
	/* While draining: nothing has come from any peer since quiet_frames was taken. */
	bool quiet;
	uint64_t n_frames, quiet_frames;
	struct timer quiet_timer;
	struct rtbp_buf scratch; /* outgoing messages and frames are packed here */
	struct {
		uint64_t messages_in, messages_out, bytes_in, bytes_out, deliveries, undecoded,
			slow_consumers;
	} counters;
};

/* hub.c */
void hub_wake(struct hub *hub);
/* A link's mailbox was full: whoever has something for it is asked again in a moment. */
void hub_try_again(struct hub *hub);
uint64_t hub_now(const struct hub *hub);
/* Seconds since the Unix epoch. */
int64_t hub_wall_s(const struct hub *hub);
/* 0 .. ceiling, for jitter. */
uint64_t hub_random(struct hub *hub, uint64_t ceiling);
/* 36 characters and a NUL: a UUID of version 4 in form. It names, it protects nothing. */
void hub_make_uuid(struct hub *hub, char *ret);
/* The scratch buffer, empty. One user at a time: not held across calls that pack. */
struct rtbp_buf *hub_scratch(struct hub *hub);
/* The scratch's contents as a blob; NULL (and logged) without memory. */
struct blob *hub_scratch_blob(struct hub *hub);
/* Copies as much of `s`, which is UTF-8, as fits with a NUL: whole characters, so that it stays
 * UTF-8; without control characters. */
void hub_copy_text(struct rtbp_str s, char *to, size_t size);
/* Byte by byte; of two that begin alike the shorter one is less. */
int hub_compare_str(struct rtbp_str a, struct rtbp_str b);

/* peer.c */
void peer_send(struct peer *p,
	       struct blob *blob); /* over its limit: the peer is ended as a slow consumer */
/* `m`: the method that an `error` notice names; RTBP_N_METHODS: none that we know. */
void peer_answer_error(struct peer *p, const struct request *r, enum rtbp_method m,
		       enum rtbp_error code, const char *text, int64_t retry_after_ms);
/* Sends the scratch (a whole message) to this peer. */
void peer_send_scratch(struct peer *p);
void peer_end(struct peer *p, enum rtbp_error code, const char *text, bool drop);
void peer_request_add(struct peer *p, struct request *r, enum request_kind kind, uint32_t id,
		      bool wants_answer);
/* How much is left of the time that a request gives, which may have been held for a while. */
uint64_t peer_time_left(const struct peer *p, uint64_t ms);
/* Takes it off the list; what waited behind it may be answered now. */
void peer_request_done(struct peer *p, struct request *r);
void peer_update_pause(struct peer *p);
/* Hands a request to the file that knows what it means. */
void peer_carry_out(struct peer *p, enum rtbp_method m, uint32_t id, bool wants_answer,
		    struct rtbp_val params);
void peer_free(struct peer *p);

/* subscribe.c */
void subscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
void unsubscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
/* The channel's state changed: answers those who wait, tells the others. */
void subs_on_chan_state(struct chan *ch);
/* Who is there has become known, or that it will not: answers those who waited for it, tells the
 * others. */
void subs_on_room_settled(struct chan *ch);
/* There is news of the sub's database changes: told, and perhaps the answer. */
void sub_on_changes(struct sub *s);
void sub_free(struct sub *s);
/* It ends, by no wish of its peer: told, with `code` as the reason; a request that waits is
 * answered with `error`. */
void sub_reject(struct sub *s, enum rtbp_error error, const char *code, const char *text);
bool sub_wants(const struct sub *s, struct rtbp_str event);
/* The `channel` notification: how things stand. */
void sub_notice(struct sub *s);
struct sub *sub_find(struct peer *p, uint64_t number);
/* The chan that a request names by `chan` (the peer must subscribe or track there) or by topic and
 * private: one of the peer's own; with `make` also one that it has nothing of yet, with a join; for
 * that it needs these `rights`. Return: NULL with *ret_code, *ret_text (NULL: there is none). */
struct chan *request_chan(struct peer *p, struct rtbp_val params, bool make, unsigned rights,
			  enum rtbp_error *ret_code, const char **ret_text);
/* The same without a shared join, should there be none. */
struct chan *request_chan_only(struct peer *p, struct rtbp_val params, unsigned rights,
			       enum rtbp_error *ret_code, const char **ret_text);
/* Answers with an empty map. */
void peer_answer_empty(struct peer *p, uint32_t id, bool wants_answer);

/* ends.c: whether the peer has no longer these rights (ACL_*) to the channel. */
typedef bool (*gone_fn)(struct peer *p, const struct chan *ch, unsigned rights, const void *ctx);
/* What the peer has and may have no longer ends, with `code` in the words of `channel`. */
void ends_apply(struct peer *p, gone_fn gone, const void *ctx, enum rtbp_error error,
		const char *code, const char *text);
/* Of that only what is queued to be sent. */
void sends_reject(struct peer *p, gone_fn gone, const void *ctx, enum rtbp_error error,
		  const char *text);

/* sync.c */
int sync_id_compare(struct sync *a, struct sync *b);
RB_PROTOTYPE(sync_tree, sync, by_id, sync_id_compare)
void sync_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
/* Answers the syncs at the head of the peer's list whose time has come. */
void sync_check(struct peer *p);
/* A link has come up, has room again, or is needed no longer. */
void sync_probe_all(struct hub *hub);
void sync_free(struct sync *s);

/* chan.c */
int chan_key_compare(struct chan *a, struct chan *b);
int chan_number_compare(struct chan *a, struct chan *b);
RB_PROTOTYPE(chan_key_tree, chan, by_key, chan_key_compare)
RB_PROTOTYPE(chan_number_tree, chan, by_number, chan_number_compare)
struct chan *chan_find_number(struct hub *hub, uint64_t number);
/* Finds or makes the one of the peer's identity, with its shared join unless that is not needed.
 * Return: 0; RTBP_E_FORBIDDEN (without all of the `rights`), _BAD_TOKEN, _REJECTED (remembered),
 * _TOO_MANY with *ret_text; -ENOMEM. */
int chan_get(struct peer *p, struct rtbp_str topic, bool is_private, unsigned rights,
	     bool needs_join, struct chan **ret, const char **ret_text);
/* Gives it a shared join, which it has not. Return: 0; RTBP_E_TOO_MANY with *ret_text; -ENOMEM. */
int chan_make_join(struct chan *ch, struct peer *p, const char **ret_text);
/* Somebody came or went. */
void chan_update(struct chan *ch);
/* Another join, which has just been joined, carries it from now on. */
void chan_set_join(struct chan *ch, struct join *j);
/* Whose shared join it is; NULL: none's. */
struct chan *chan_of_join(const struct join *j);
const char *chan_state_name(const struct chan *ch);
bool chan_wants_presence(const struct chan *ch);
/* The two members `chan` and `topic` of a message. */
void chan_pack_name(const struct chan *ch, struct rtbp_buf *b);
void chan_free(struct chan *ch);

/* It is joined and not held (any more): told, and what waited for it goes on. */
void chan_is_ready(struct chan *ch);

/* system.c */
void system_on_notice(struct chan *ch, struct rtbp_str extension, bool ok, const char *text);
void system_answered(struct sub *s);
void system_joining(struct chan *ch);
bool system_wants_replication(const struct chan *ch);

/* move.c */
/* Links that are no longer needed are emptied, as far as that is possible. Return: when to look
 * again; UINT64_MAX: when something has changed. */
uint64_t moves_run(struct hub *hub);
/* It may not be moved any more. */
void move_check(struct chan *ch);
/* Its own join is gone. */
void move_forget(struct chan *ch);

/* access.c: what the rules (acl.h) say of a peer */
bool access_topic(const struct peer *p, unsigned rights, struct rtbp_str topic);
/* Which of the rights is missing, for people; NULL: none. It depends on what is asked for and on
 * the rules alone, never on what there is. */
const char *access_refusal(const struct peer *p, unsigned rights, struct rtbp_str topic);
/* What a subscription needs. Who only names a topic could learn something of it, too. */
unsigned access_rights(bool broadcasts, bool presence, struct rtbp_str topic);
/* Of a row; absent names are those of no table. */
bool access_row(const struct peer *p, struct rtbp_val schema, struct rtbp_val table);
/* Of a binding, as JSON. */
bool access_binding(const struct peer *p, const char *text, size_t size);
bool access_admin(const struct peer *p);
bool access_needs_token(const struct peer *p);
bool access_may_attach(const struct peer *p);

/* report.c */
/* `status`, `channels`, `clients`: one for each user in a turn. The others follow one by one. */
void report_request(struct peer *p, enum rtbp_method m, uint32_t id, bool wants_answer);
void report_timer_due(void *peer);
/* report_link.c */
struct report;
/* Packs the map of the `connection` notice; for all, or (@r) as far as its asker may know. */
void report_pack_connection(struct hub *hub, const struct report *r, struct rtbp_buf *b);
/* Tells everybody when the connection's state is another than told last. */
void report_connection(struct hub *hub);
/* The line for the service manager. */
void report_line(struct hub *hub);
