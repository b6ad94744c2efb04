/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Links and joins: one WebSocket, and one topic joined on it. A join knows the road to the server
 * and nothing of clients: who owns it (a channel that clients see, or a tracker's own place)
 * decides what to join with, whether it is still wanted, and what its messages mean.
 *
 *     WAITING  -- its turn on the link (queue, pacing) --> JOINING
 *     JOINING  -- reply ok --> JOINED
 *              -- reply error, timeout, link down --> WAITING, after its backoff
 *              -- reply error for good --> REJECTED
 *     JOINED   -- phx_close, phx_error, link down, fits no longer --> WAITING
 *              -- nobody wants it, and has not for its linger time --> LEAVING
 *     REJECTED -- the next connection, if it is wanted; asked for again --> WAITING
 *     LEAVING  -- reply, timeout, link down --> DEAD; wanted again --> WAITING, then
 *
 * A join that is there but no longer fits (somebody wants presence now, or another key) is joined
 * anew: those who want such a thing within REJOIN_GATHER_MS share one rejoin, answers still owed
 * for what was given to the old channel are waited for, and what that one still brings counts
 * (`live`) until the new one's reply.
 */
#include <bsd/sys/tree.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/timers.h"
#include "hub/hub.h"
#include "hub/probation.h"
#include "proto/rtbp_table.h"

enum {
	LINKS_MAX = 8,
	JOIN_WHY_MAX = 192,
	JOIN_REPLY_MS =
		15000, /* the server holds refusals back for 5 s, and others may stand before */
	LEAVE_REPLY_MS = 10000,
	PROBE_MS = 10000,
	JOINS_UNANSWERED_MAX = 10, /* of a link; each failing one stalls the socket for 5 s */
	JOINS_LEAVING_MAX = 8,     /* over max_channels, while they are being left */
	JOINS_PER_S = 10,
	JOIN_REJECTED_MS = 10000, /* before who asks again makes a feed be tried again */
	JOIN_STABLE_MS = 30000,
	JOIN_BACKOFF_MIN_MS = 1000,
	JOIN_BACKOFF_MAX_MS = 30000,
	REJOIN_GATHER_MS = 200,
	REJOIN_OWED_MS = 2000,
	/* Each is a gap for all who share the join: the pause doubles with each, and is forgotten
	 * after a while without. */
	REJOIN_PAUSE_MIN_MS = 10000,
	REJOIN_PAUSE_MAX_MS = 300000,
	REJOIN_FORGET_MS = 900000,
	LINK_BUSY_RETRY_MS = 10,
	TOKEN_DOUBT_MS = 30000, /* the end of the token before may have crossed the next one */
	LINK_IDLE_MS = 50000,   /* a link without joins; the server would close it later */
	/* The server closes the whole connection (1009) for a larger message. */
	LINK_FRAME_MAX = 5000000,
};

struct feed;
struct identity;
struct join;
struct peer;
struct token;
struct trial;
RB_HEAD(join_topic_tree, join);
RB_HEAD(join_id_tree, join);

/* ---- link ---- */

struct link {
	unsigned number; /* 0: the shared one */
	struct hub *hub;
	struct session *session;
	bool wanted;
	struct join_topic_tree joins;
	unsigned n_joins;
	TAILQ_HEAD(, join) queue; /* JOIN_WAITING */
	unsigned joins_unanswered;
	unsigned unproven_unanswered; /* of those, the ones that may well fail: one at a time */
	bool is_probation;            /* for trials only (probation.h) */
	struct park park;             /* the server has no room for this connection */
	unsigned max_here; /* channels that the server takes on this connection, if it has
				       * refused one over that; 0: it has not */
	bool merging;      /* its feeds are being merged, as far as they can be */
	struct timer idle_timer;
	int64_t received_wall_ms; /* the last frame */
};

/* ---- join ---- */

enum join_state {
	JOIN_WAITING, /* wanted; the link, its turn or its backoff is waited for */
	JOIN_JOINING, /* phx_join is out */
	JOIN_JOINED,
	JOIN_REJECTED, /* refused for good; kept as the answer for whoever asks next, tried again on
			* the next connection if somebody still wants it */
	JOIN_LEAVING,  /* phx_leave is out */
	JOIN_DEAD,     /* freed at the turn's end */
};

/* What a channel is joined with, fixed for its life. */
struct join_config {
	bool presence;
	const char *key;          /* of presence; "": the server makes one */
	uint64_t replay_since_ms; /* stored messages from then on; 0: none */
	unsigned replay_limit;
	bool replication_ready;     /* say when what the database sends can flow */
	struct feed *feed;          /* the database changes it carries; NULL: none */
	const struct secret *token; /* not the owner's to say */
};

/* What the owner is asked and told. `changed` is called after each change of state but to LEAVING,
 * before which `lost` is called if the channel had been joined. All but `wanted`, `changed` and
 * `dead` may be NULL: nothing to say, nothing to do; no linger_ms: leaves at once. */
struct join_ops {
	bool (*wanted)(const struct join *j);
	/* Whose turn it takes, of those who want it now. NULL: j->uid stays. */
	uid_t (*uid)(const struct join *j);
	uint32_t (*linger_ms)(const struct join *j);
	void (*config)(const struct join *j, struct join_config *ret);
	void (*joining)(struct join *j); /* the join was sent, with that configuration */
	/* NULL: what it was joined with still serves; else the reason word for joining anew. */
	const char *(*misfit)(const struct join *j);
	bool (*owed)(const struct join *j); /* answers of the server are still to come */
	void (*changed)(struct join *j);
	/* A rejoin that held things back was called off: they may be given now. */
	void (*opened)(struct join *j);
	/* What was given and has no answer will have none. `code`: a reason word. */
	void (*lost)(struct join *j, const char *code, const char *text);
	void (*message)(struct join *j, const struct phx_msg *msg); /* presence, broadcasts, rows */
	/* The join succeeded with this response; called before `changed`. */
	void (*reply)(struct join *j, struct rtbp_val response);
	/* What the server says about the database changes of the joined channel. */
	void (*system)(struct join *j, bool ok, const char *text);
	/* Any other notice of the server about the channel. */
	void (*notice)(struct join *j, struct rtbp_str extension, bool ok, const char *text);
	/* The answer to join_probe(), which went out as `ref`: whatever the server had to say to what was
	 * asked before has come. false: none came. */
	void (*probed)(struct join *j, uint64_t ref, bool answered);
	void (*dead)(struct join *j); /* forget it; freed at the turn's end */
};

struct join {
	RB_ENTRY(join) by_id, by_topic;
	TAILQ_ENTRY(join) queue_entry; /* JOIN_WAITING: in link->queue */
	struct hub *hub;
	struct link *link;
	const struct join_ops *ops;
	void *owner;
	uint64_t id;               /* the cookie of its pushes */
	uid_t uid;                 /* whose wish it is: for shares, turns, and failures */
	bool is_asked;             /* by that user just now: who asks pays */
	struct identity *identity; /* whose token it carries; NULL: the daemon's own */
	struct token *trial_token; /* this one instead, to try it out; NULL: it is gone */
	bool tries_token;
	uint64_t token_number; /* that the server's channel has; 0: the daemon's own */
	int64_t token_exp_s;
	uint64_t own_serial, own_ends_ms; /* of the daemon's own, if it is one (own.h); 0: the API
					   * key */
	uint64_t told_at_ms;    /* when it was told another one, if that was about the end of the
				 * one before; 0: it was not */
	bool token_due;         /* a better one waits for its turn (push.c) */
	bool needs_place;       /* the server takes no more on this link (place.c) */
	bool has_news;          /* why it waits is another reason than was told */
	bool is_trial;          /* it is itself a trial */
	bool sent_unproven;     /* counted in link->unproven_unanswered */
	struct trial *trial;    /* it waits for its outcome; NULL: it does not */
	bool lingers_on;        /* nobody wants it, but it may not go before its time */
	char why[JOIN_WHY_MAX]; /* for people: what its link is needed for, if a further one */
	bool is_private;
	char *wire_topic;      /* "realtime:...", NUL-terminated */
	struct rtbp_str topic; /* the part behind the prefix */
	enum join_state state;
	bool queued;
	bool had_joined; /* then WAITING is told as "rejoining" */
	uint64_t join_ref;
	uint64_t retry_at_ms;
	uint64_t joined_at_ms;
	bool refused;        /* the server answered the last phx_join with an error */
	unsigned n_failures; /* in a row; a join that held JOIN_STABLE_MS starts anew */
	uint64_t rejected_at_ms;
	char code[32], text[192]; /* why it is not joined, "" when there is nothing to say */
	char system_text[512]; /* the last `system` error: the reason of the phx_close that follows
				*/
	/* What the server's channel was joined with. */
	bool has_presence, has_replay, has_replication;
	uint64_t no_replay_before_ms; /* the server would not have it */
	uint64_t probe_ref;           /* of join_probe(); 0: none is out */
	bool probe_due;               /* it did not fit into the mailbox */
	char key[RTBP_KEY_MAX + 1];
	/* Since when, and why, messages may be missed; told when it is back. 0: none are. */
	int64_t gap_from_wall_ms;
	char gap_cause[32];
	/* The rejoin by our own wish. */
	struct timer rejoin_timer;
	uint64_t rejoined_at_ms;  /* the last one; 0: none yet */
	uint32_t rejoin_pause_ms; /* after it */
	uint64_t rejoin_by_ms;    /* 0: none is due, or it is still being gathered for */
	bool live;                /* WAITING or JOINING, and the channel before is still there */
	struct timer linger_timer;
	TAILQ_ENTRY(join) reap_entry;
};

RB_PROTOTYPE(join_topic_tree, join, by_topic, join_topic_compare)
RB_PROTOTYPE(join_id_tree, join, by_id, join_id_compare)

/* join.c */
int join_topic_compare(struct join *a, struct join *b);
int join_id_compare(struct join *a, struct join *b);
struct join *join_find(struct hub *hub, uint64_t id);
/* Makes one on a link that has no join of this topic. `topic` comes without "realtime:". NULL
 * without memory. */
struct join *join_new(struct link *link, struct rtbp_str topic, bool is_private,
		      struct identity *identity, const struct join_ops *ops, void *owner);
/* Somebody came or went, or wants something else: joins, rejoins, lingers, leaves accordingly. */
void join_update(struct join *j);
/* An owed answer came: a rejoin that waited for it may go. */
void join_owed_less(struct join *j);
/* Joined, and staying so: what is for the server may be given to it. */
bool join_is_open(const struct join *j);
/* A refused one is asked for again. */
void join_retry(struct join *j);
/* What was refused of this identity for its token's sake, and is wanted, is asked for again; `all`:
 * whatever was refused, of whichever identity. */
void joins_lift(struct hub *hub, const struct identity *of, bool all);
/* When it is tried again by itself, from now; -1: that is not known, or it does not wait. */
int64_t join_next_ms(const struct join *j);
/* Packs the members `code` and `text`, with what to do if that is wished for and known. Return: how
 * many: none without a code. */
unsigned reason_pack(const char *code, const char *text, bool advise, struct rtbp_buf *b);
/* Packs the members `code`, `text` (with what to do) and `retry_in_ms`, as far as there is something
 * to say. Return: how many. */
unsigned join_pack_reason(const struct join *j, struct rtbp_buf *b);
/* The server will not have it, by its own answer or by that to a trial in its stead. */
void join_refused(struct join *j, const char *text, bool by_trial);
/* What those who asked for it are told: the server's word about a client's own token is one about
 * what that client gave. */
enum rtbp_error join_refusal_error(const struct join *j);
/* Of the last refusal: it was about the token that was sent, the daemon's own too. */
bool join_is_refused_for_token(const struct join *j);
/* It would be refused: without asking the server. */
void join_refuse_here(struct join *j, const char *code, const char *text);
/* With others: it is known why, and until when. */
void join_wait_in(struct join *j, const struct park *park);
/* Too many have failed: not before `at_ms`. */
void join_no_budget(struct join *j, uint64_t at_ms);
/* Why it is not joined; told with the next news. */
void join_set_reason(struct join *j, const char *code, const char *text);
/* Waits by the class of `text`, in `park` or alone, then tries again; or gives up until the next
 * connection. */
void join_backoff(struct join *j, const char *text, const struct park *park);
/* The owner's words, if it has any. */
const char *join_misfit(const struct join *j);
void join_wants_config(const struct join *j, struct join_config *ret);
void join_tell_lost(struct join *j, const char *code, const char *text);
/* Into and out of the queue of its link. */
void join_queue(struct join *j);
void join_unqueue(struct join *j);
/* Return: whether something may have been held back for a rejoin by our own wish. */
bool join_rejoin_cancel(struct join *j);
/* Messages may be missed from the last frame on, until it is joined again. */
void join_gap_begins(struct join *j, const char *cause);
/* With the daemon's own token. */
bool join_is_own(const struct join *j);
/* Nobody wants it: goes before its time. */
void join_evict(struct join *j);
/* Nobody wants it, and its place is needed: left without waiting for the answer. Return: false: it
 * cannot be now; else it is dead. */
bool join_leave_now(struct join *j);
const char *join_state_name(const struct join *j); /* as notices and status say it */
/* Encodes an event of the joined channel with push->ref (set here) and gives it to the link.
 * Return: as link_push(). */
int join_push_event(struct join *j, const char *event, const char *payload, size_t size,
		    struct session_push *push);
/* Asks the server something harmless, once at a time; ops->probed() follows unless the channel ends
 * first. */
void join_probe(struct join *j);
/* Sends the phx_join. Return: 0, or what link_push() says. */
int join_push(struct join *j);
void joins_on_offline(struct link *link);
/* A message of the server for this join. */
void join_on_message(struct join *j, const struct phx_msg *msg);
/* Forgets it at once, whoever wants it. */
void join_kill(struct join *j);
void join_free(struct join *j);
/* join_encode.c: appends the phx_join. The buffer holds the key then. */
void join_encode(const struct join *j, const struct join_config *config, uint64_t ref,
		 struct rtbp_buf *out);
/* What it carries next; NULL: the daemon's own, or the identity has none any more. */
const struct token *join_token(const struct join *j);
/* Tells the server's channel another token. Return: as link_push(). */
int join_tell_token(struct join *j, const struct secret *token);
/* {"reason": TEXT} or a bare string, as text for people; `otherwise` when there is none. */
void join_reply_text(struct rtbp_val response, const char *otherwise, char *text, size_t size);

/* place.c */
/* How many channels it may carry. */
unsigned link_max(const struct link *link);
/* The server takes no more channels on its link. Return: whether another place is looked for, at the
 * turn's end. */
bool place_wanted(struct join *j, const char *text);
/* The server has said how many channels it takes on this link, and has so many. */
bool place_is_full(struct link *link);
/* It would be refused for that: at the turn's end another place is looked for, or it is refused. */
void place_seek(struct join *j);
void places_run(struct hub *hub);
/* A channel of this link has been left: of those that were refused for want of a place one is tried
 * again, rather one of this link. */
void place_left(struct link *link);
/* This one has been refused: the same, unless it was for that. */
void place_given_up(const struct join *j);

/* links.c */
int links_init(struct hub *hub);
void links_done(struct hub *hub);
void links_start(struct hub *hub);
void links_stop(struct hub *hub);
bool links_are_idle(struct hub *hub);
uint64_t links_deadline(struct hub *hub);
void links_tick(struct hub *hub);
void join_set_cause(struct join *j, uid_t uid, const char *why);
/**
 * link_place() - the link that a further join goes to: the lowest that can take it, else a new one
 * @uid: whose wish it is: one user may cause half of the further links, and the last one is kept
 *       for those who cause none
 * @p: of which client, for the log; NULL: the hub's own
 * @why: for the log, should one be opened
 *
 * Return: NULL with @ret_text when there is none.
 */
struct link *link_place(struct hub *hub, uid_t uid, const struct peer *p, struct rtbp_str topic,
			const char *why, const char **ret_text);
/* The shared link; wanted from now on, if it was idle. */
struct link *link_shared(struct hub *hub);
/* Wanted from now on. Return: false: no memory. */
bool link_start(struct link *link);
/* One that may be opened; NULL: all are in use. */
struct link *link_find_unused(struct hub *hub);
/* Needed no longer. */
void link_stop(struct link *link);
/* It has a join of this topic, public or private, perhaps one that is being left. */
bool link_has_topic(struct link *link, struct rtbp_str topic);
/* Room for one more channel: those that nobody wants any more go first. */
bool link_has_room(struct link *link);
/* The join that needs this link longest; NULL: nothing does. */
const struct join *link_cause(struct link *link);
/* The join on this link that a frame with this topic belongs to, NULL: none. */
struct join *link_find(struct link *link, struct rtbp_str wire_topic);
/* Sends what of the links' queues may go now. */
void joins_run(struct hub *hub);
/* Refuses those that the server would refuse for sure. At the turn's end, because it ends what
 * others may be walking over. */
void joins_refuse(struct hub *hub);
/* Its joins have become fewer or more. */
void link_update(struct link *link);
/* A frame in the scratch buffer to the link. Return: as session_push(). */
int link_push(struct link *link, const struct session_push *push);
bool link_is_online(const struct link *link);
