/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of the hub share: its objects and the calls between them. Nobody outside hub/
 * includes this.
 *
 *   hub    1 -- n  peer   1 -- n  sub  n -- 1  join  1 -- n  send
 *   hub    1 -- 1  link (struct session)              (spill links will be further ones)
 *
 * Owners: the hub owns peers, joins and the link; a sub belongs to its peer and is listed in its
 * join; a send belongs to its join and outlives the peer that asked for it.
 */
#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "base/timers.h"
#include "hub/hub.h"
#include "proto/rtbp_msg.h"

enum {
	SUBSCRIBE_TIMEOUT_MS = 15000,
	SUBSCRIBE_TIMEOUT_MAX_MS = 300000,
	SEND_TTL_MS = 10000,
	SEND_TTL_MAX_MS = 60000,
	SEND_ACK_MS = 10000, /* without an ack for so long the outcome is "unknown" */
	JOIN_REPLY_MS =
		15000, /* the server holds refusals back for 5 s, and others may stand before */
	LEAVE_REPLY_MS = 10000,
	HELLO_MS = 2000,
	JOINS_UNANSWERED_MAX = 10, /* each failing one stalls the socket for 5 s */
	JOINS_LEAVING_MAX = 8,     /* over max_channels, while they are being left */
	JOINS_PER_S = 10,
	JOINS_BURST = 10,
	/* Of one peer. Given to the link and unanswered: it is no longer read. Waiting for their
	 * channel or for the link: "busy". */
	PEER_SENDS_MAX = 512,
	PEER_SEND_BYTES_MAX = 2 * 1024 * 1024,
	PEER_SYNCS_MAX = 64, /* unanswered ones of one peer */
	JOIN_SENDS_MAX = 4096,
	JOIN_REJECTED_MS = 10000, /* how long a refusal answers for the next who asks */
	JOIN_STABLE_MS = 30000,
	JOIN_BACKOFF_MIN_MS = 1000,
	JOIN_BACKOFF_MAX_MS = 30000,
	LINK_BUSY_RETRY_MS = 10,
	/* The server closes the whole connection (1009) for a larger message. */
	LINK_FRAME_MAX = 5000000,
	EVENTS_MAX = 64, /* event filters of one subscription */
};

/* ---- requests that wait for something ---- */

enum request_kind { REQUEST_SUBSCRIBE, REQUEST_SEND, REQUEST_SYNC };

/* In a peer's list from arrival to answer, so that `sync` knows what came before it. */
struct request {
	TAILQ_ENTRY(request) entry;
	enum request_kind kind;
	uint32_t id;
	bool wants_answer; /* false: it came as a notification */
};

TAILQ_HEAD(request_list, request);

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
	RB_ENTRY(peer) by_session;
	struct hub *hub;
	const struct peer_io *io;
	void *io_ctx;
	uint64_t session;
	struct peer_cred cred;
	char name[64], version[32];
	enum peer_state state;
	bool paused;
	struct timer hello_timer;
	TAILQ_HEAD(, sub) subs;
	unsigned n_subs;
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
	TAILQ_ENTRY(sub) in_peer, in_join;
	struct peer *peer;
	struct join *join;
	char **events; /* NULL: all */
	unsigned n_events;
	bool self;
	bool answered; /* the peer has the answer to `subscribe`: notices may follow */
	bool keep;
	struct request request; /* while !answered, or while a change waits */
	bool waiting;           /* request is in the peer's list */
	struct timer timer;
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

struct join {
	RB_ENTRY(join) by_key, by_chan;
	TAILQ_ENTRY(join) queue_entry; /* JOIN_WAITING: in hub->join_queue */
	struct hub *hub;
	uint64_t chan;
	bool is_private;
	char *wire_topic;      /* "realtime:...", NUL-terminated */
	struct rtbp_str topic; /* the part behind the prefix */
	enum join_state state;
	bool queued;
	bool had_joined; /* since the oldest subscriber came: then WAITING is told as "rejoining" */
	bool sender_only; /* no subscriber has ever come: lingers longer */
	uint64_t join_ref;
	uint64_t retry_at_ms;
	uint64_t joined_at_ms;
	bool refused;        /* the server answered the last phx_join with an error */
	unsigned n_failures; /* in a row; a join that held JOIN_STABLE_MS starts anew */
	uint64_t rejected_at_ms;
	char code[32], text[192]; /* why it is not joined, "" when there is nothing to say */
	char system_text[192]; /* the last `system` error: the reason of the phx_close that follows
				*/
	TAILQ_HEAD(, sub) subs;
	unsigned n_subs;
	TAILQ_HEAD(send_list, send) sends; /* oldest first; given ones in front of queued ones */
	unsigned n_sends;
	struct send *next_send; /* the oldest queued one; NULL: all are given */
	struct timer linger_timer;
	TAILQ_ENTRY(join) reap_entry;
};

/* ---- send ---- */

struct send {
	TAILQ_ENTRY(send) entry;
	RB_ENTRY(send) by_id;
	struct join *join;
	struct request request;
	struct peer *peer;       /* NULL when it is gone */
	uint64_t id;             /* the cookie of its push */
	uint64_t sender;         /* the peer's session, to leave it out of the loopback */
	struct blob *notice;     /* the packed `broadcast` notification for the others */
	struct rtbp_str event;   /* in notice */
	struct rtbp_val payload; /* in notice */
	bool given;              /* to the link: never sent again */
	struct timer ttl_timer;
};

/* ---- sync ---- */

struct sync {
	struct request request;
	struct peer *peer;
	struct timer timer;
	RB_ENTRY(sync) by_id;
	uint64_t id;   /* the cookie of its heartbeat */
	bool upstream; /* a heartbeat's answer is still wanted */
	bool probe_sent;
};

RB_HEAD(peer_tree, peer);
RB_HEAD(join_key_tree, join);
RB_HEAD(join_chan_tree, join);
RB_HEAD(send_tree, send);
RB_HEAD(sync_tree, sync);

struct hub {
	struct hub_conf conf;
	const struct clock *clock;
	const struct hub_ops *ops;
	void *ctx;
	struct timers timers;
	bool awake; /* ops->wake was called in this turn */

	struct session *session;  /* link 0 */
	char told_state[16];      /* what peers and ops->status were told last */
	int64_t last_end_wall_ms; /* of the last connection that had been online */
	bool was_online;
	int64_t down_wall_ms; /* since when there is none; 0 while online */
	char last_end_reason[32], last_end_text[256];

	TAILQ_HEAD(, peer) peers;
	struct peer_tree peers_by_session;
	unsigned n_peers;
	struct join_key_tree joins;
	struct join_chan_tree joins_by_chan;
	unsigned n_joins;
	TAILQ_HEAD(, join) join_queue;
	unsigned joins_unanswered;
	uint64_t join_tokens_milli; /* of the token bucket, in thousandths */
	uint64_t join_tokens_at_ms;
	struct timer join_timer; /* the queue's head may go on */
	struct timer busy_timer; /* the link's mailbox was full */
	struct send_tree sends;
	size_t send_bytes;
	struct sync_tree syncs;

	TAILQ_HEAD(, peer) reap_peers;
	TAILQ_HEAD(, join) reap_joins;

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
uint64_t hub_now(const struct hub *hub);
/* 0 .. ceiling, for jitter. */
uint64_t hub_random(struct hub *hub, uint64_t ceiling);
/* The scratch buffer, empty. One user at a time: not held across calls that pack. */
struct rtbp_buf *hub_scratch(struct hub *hub);
/* The scratch's contents as a blob; NULL (and logged) without memory. */
struct blob *hub_scratch_blob(struct hub *hub);
/* Copies as much of `s`, which is UTF-8, as fits with a NUL: whole characters, so that it stays
 * UTF-8. */
void hub_copy_text(struct rtbp_str s, char *to, size_t size);
/* One packed message of the server, or of a local sender, to the join's subscribers that want
 * `event`. `sender`: the session that sent it (gets it only with `self`), 0: none. */
void hub_deliver(struct join *j, struct blob *notice, struct rtbp_str event, uint64_t sender);

/* peer.c */
int peer_session_compare(struct peer *a, struct peer *b);
RB_PROTOTYPE(peer_tree, peer, by_session, peer_session_compare)
struct peer *peer_find(struct hub *hub, uint64_t session);
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
/* Takes it off the list; what waited behind it may be answered now. */
void peer_request_done(struct peer *p, struct request *r);
void peer_update_pause(struct peer *p);
void peer_free(struct peer *p);

/* subscribe.c */
void subscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
void unsubscribe_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
/* The join's state changed: answers those who wait, tells the others. */
void subs_on_join_state(struct join *j);
void sub_free(struct sub *s);
bool sub_wants(const struct sub *s, struct rtbp_str event);
struct sub *sub_find(struct peer *p, uint64_t chan);

/* send.c */
int send_id_compare(struct send *a, struct send *b);
RB_PROTOTYPE(send_tree, send, by_id, send_id_compare)
void broadcast_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
/* Gives the join's queued sends to the link, as far as it takes them. */
void sends_flush(struct join *j);
/* All of the join's queued sends end with this outcome. */
void sends_fail(struct join *j, const char *outcome, const char *text);
/* All of the join's given sends end as "unknown": no answer can come any more. */
void sends_lost(struct join *j, const char *text);
void sends_forget_peer(struct peer *p);

/* sync.c */
int sync_id_compare(struct sync *a, struct sync *b);
RB_PROTOTYPE(sync_tree, sync, by_id, sync_id_compare)
void sync_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
/* Answers the syncs at the head of the peer's list whose time has come. */
void sync_check(struct peer *p);
/* The link has come up, or has room again. */
void sync_probe_all(struct hub *hub);
void sync_free(struct sync *s);

/* join.c */
int join_key_compare(struct join *a, struct join *b);
int join_chan_compare(struct join *a, struct join *b);
RB_PROTOTYPE(join_key_tree, join, by_key, join_key_compare)
RB_PROTOTYPE(join_chan_tree, join, by_chan, join_chan_compare)
struct join *join_find(struct hub *hub, struct rtbp_str topic, bool is_private);
struct join *join_find_chan(struct hub *hub, uint64_t chan);
/* The join on the link that a frame with this topic belongs to; NULL when there is none. */
struct join *join_find_wire(struct hub *hub, struct rtbp_str wire_topic);
/* Finds or makes one. Return: 0; RTBP_E_TOO_MANY or RTBP_E_UNSUPPORTED with *ret_text; -ENOMEM. */
int join_get(struct hub *hub, struct rtbp_str topic, bool is_private, struct join **ret,
	     const char **ret_text);
/* Somebody came or went: joins, lingers, leaves accordingly. */
void join_update(struct join *j);
const char *join_state_name(const struct join *j); /* as notices and status say it */
/* Sends what of the queue may go now. */
void joins_run(struct hub *hub);
void joins_on_offline(struct hub *hub);
/* A Phoenix message of the server for this join that is no broadcast. */
void join_on_message(struct join *j, const struct phx_msg *msg);
/* Forgets it at once, whoever wants it; freed at the turn's end. */
void join_kill(struct join *j);
void join_free(struct join *j);
/* The channel is gone at the server though we did not leave: rejoin by the class of `text`. */
void join_lost(struct join *j, const char *text);

/* links.c */
int links_init(struct hub *hub);
void links_done(struct hub *hub);
/* A frame in the scratch buffer to the link. Return: as session_push(). */
int link_push(struct hub *hub, const struct session_push *push);

/* report.c */
void status_request(struct peer *p, uint32_t id, bool wants_answer);
/* Packs the map of the `connection` notice. */
void report_pack_connection(struct hub *hub, struct rtbp_buf *b);
/* Tells everybody when the connection's state is another than told last. */
void report_connection(struct hub *hub);
