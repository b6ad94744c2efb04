/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * send: a broadcast of a peer, from request to its one outcome.
 *
 *   send_ask.c   the request: is it well-formed, is there room, which way does it go?
 *   send.c       the send itself: queued in its channel, in one queue for each way
 *   send_ws.c    over the channel's join: given to the link; acks, and questions when they are late
 *   send_http.c  by HTTP: given in batches, one request of a channel at a time
 *   outcome.c    what became of the sends that have a name, kept for a minute
 *
 *     QUEUED --sends_flush(), posts_run()--> GIVEN (to the link, or a request)
 *       | ttl: expired                        | ws:   ack: acked (then the others here get it)
 *       | join refused: not_joined            |       answer to something later: denied
 *       |                                     |       link or channel ended, or 10 s: unknown
 *       |                                     | http: by status; not one byte left: QUEUED again
 *       v                                     v
 *                one outcome, freed
 *
 * The message is packed once, as the notification that the others will get; the payload for the
 * server is read from there.
 */
#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/timers.h"
#include "hub/news.h"
#include "hub/request.h"
#include "proto/rtbp_table.h"
#include "proto/rtbp_val.h"

struct chan;
struct hub;
struct hub_answer;
struct peer;
struct user;

enum {
	SEND_TTL_MS = 10000,
	SEND_TTL_MAX_MS = 60000,
	SEND_ACK_MS = 10000,     /* without an ack for so long the outcome is "unknown" */
	SEND_ACK_LATE_MS = 2000, /* ... and after this the server is asked something else */
	SEND_POST_MS = 10000,    /* the whole of a request */
	SEND_ID_MAX = 64,
	/* Of one peer. Given away and unanswered: it is no longer read. Waiting for their channel,
	 * the link or HTTP: "busy". */
	PEER_SENDS_MAX = 512,
	PEER_SEND_BYTES_MAX = 2 * 1024 * 1024,
	POSTS_WAITING_MAX =
		1024, /* channels of one user that wait for HTTP: each turn looks at them */
	CHAN_SENDS_MAX = 4096, /* each way */
	POSTS_MAX = 8,         /* requests on their way */
	POST_MESSAGES_MAX = 32,
	POST_BYTES_MAX = 256 * 1024, /* of a batch; a larger message goes alone */
	POST_RETRY_MIN_MS = 500,     /* the server cannot be reached */
	POST_RETRY_MAX_MS = 5000,
	ECHO_MS = 30000,
	ECHOES_MAX = 1024, /* of a channel */
	OUTCOME_MS = 60000,
	OUTCOMES_MAX = 16384,
};

enum send_way { SEND_WS, SEND_HTTP, SEND_WAYS };

/* What is answered. */
struct send_result {
	const char *outcome; /* static */
	const char *text;    /* NULL: there is nothing to say */
	int64_t retry_ms;    /* -1: nobody has named a time */
};

struct send {
	TAILQ_ENTRY(send) entry;
	RB_ENTRY(send) by_id;
	struct chan *chan;
	enum send_way way;
	struct request request;
	struct peer *peer;    /* NULL when it is gone */
	struct user *user;    /* whose bytes these are; NULL: not counted */
	uint64_t id;          /* the cookie of its push */
	struct outcome *kept; /* by its name; NULL: it has none */
	struct news news;     /* for the others; what goes to the server is read from it */
	bool given;           /* away: never sent again, unless it is certain that nothing left */
	bool barred;  /* its sender may not send it any more: should it come back, it ends */
	uint64_t ref; /* SEND_WS, given: the push's */
	uint64_t given_at_ms, expires_ms;
	char name[SEND_ID_MAX + 1]; /* SEND_HTTP: its `id` at the server; made here or the peer's */
	struct timer ttl_timer;
};

TAILQ_HEAD(send_list, send);
RB_HEAD(send_tree, send);

/* One way of one channel. */
struct send_queue {
	struct send_list list; /* oldest first; given ones in front of queued ones */
	struct send *next;     /* the oldest queued one; NULL: all are given */
	unsigned n;
};

/* A message that went by HTTP and will come back. */
struct echo {
	TAILQ_ENTRY(echo) entry;
	uint64_t hash; /* of its id, or, without one (bin), of event and payload */
	bool has_id;
	uint64_t sender, until_ms;
};

/* A channel's sending. */
struct chan_sends {
	struct send_queue ways[SEND_WAYS];
	/* send_ws.c */
	struct timer late_timer; /* the oldest ack is late then: the join asks something else */
	/* send_http.c */
	TAILQ_ENTRY(chan) in_posts; /* hub->posts_waiting */
	bool waits_to_post, is_posting;
	struct user *waiter; /* who counts it as waiting; NULL: nobody does */
	unsigned n_singly;   /* the next ones go alone: the server did not take them together */
	TAILQ_HEAD(echo_list, echo) echoes; /* oldest first */
	unsigned n_echoes;
};

/* A request on its way. */
struct post {
	uint64_t id;           /* 0: this place is free */
	struct chan *chan;     /* which the sends keep */
	unsigned n;            /* of its queue's head */
	struct user *user;     /* whose share it takes; NULL: nobody's */
	struct own_token *own; /* that it carries, if it is the daemon's own; held */
	uint64_t token_number; /* of a client's token that it carries; 0: of none */
	uint64_t key_serial;   /* of the API key that it carries: own.h */
};

/* A broadcast request, unpacked. */
struct send_ask {
	struct chan *chan;
	enum send_way way;
	struct rtbp_str event, id; /* id.p NULL: it has none */
	struct rtbp_val payload, extra;
	size_t size; /* of the payload: as JSON, or of the bin's bytes */
	uint64_t ttl_ms;
};

/* ---- send_ask.c ---- */
void broadcast_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);

/* ---- send.c ---- */
int send_id_compare(struct send *a, struct send *b);
RB_PROTOTYPE(send_tree, send, by_id, send_id_compare)
void sends_init(struct chan *ch);
/* Of a channel that has none any more. */
void sends_done(struct chan *ch);
/* NULL: no memory. */
struct send *send_new(struct peer *p, const struct send_ask *a, const struct request *r,
		      struct outcome *kept);
void send_answer(struct peer *p, const struct request *r, enum send_way way,
		 const struct send_result *result);
/* Its one outcome; `s` is gone. */
void send_end(struct send *s, const struct send_result *result);
void send_end_as(struct send *s, const char *outcome, const char *text);
void send_set_given(struct send *s, bool given);
/* All queued sends over the join end with this outcome. */
void sends_fail(struct chan *ch, const char *outcome, const char *text);
/* All sends given to the join end as "unknown": no answer can come any more. */
void sends_lost(struct chan *ch, const char *text);
/* Everything, without a word: the daemon's end. */
void sends_drop(struct chan *ch);
void sends_forget_peer(struct peer *p);
/* Of a REQUEST_SEND: where it goes. */
struct chan *send_chan(const struct request *r);
/* What is queued of clients that are gone ends, or should it come back: whether they might send it
 * now cannot be said. */
unsigned sends_reject_orphans(struct hub *hub);

/* ---- send_ws.c ---- */
/* Gives the channel's queued sends to the link, as far as it takes them. */
void sends_flush(struct chan *ch);
/* The oldest unanswered one has ended: the next one may be late, too. */
void sends_watch_acks(struct chan *ch);
void sends_acks_late(void *chan);
/* What was asked as `ref` is answered, or will not be. */
void sends_probed(struct chan *ch, uint64_t ref, bool answered);

/* ---- send_http.c ---- */
void posts_init(struct hub *hub);
/* The channel has something for HTTP: it goes at the turn's end, with what comes until then. */
void posts_add(struct chan *ch);
/* Gives what may go. At the turn's end: it ends what cannot be sent at all. */
void posts_run(struct hub *hub);
/* Whether this message of the server is one that a session sent by HTTP, and which one. 0: it is
 * not. Asked once for each message. */
uint64_t posts_sender(struct chan *ch, struct rtbp_val meta, struct rtbp_str event,
		      struct rtbp_val payload);
void posts_forget(struct chan *ch);
/* own.c: a gateway may quote the request in its complaint `s`. What it carried and is not kept any more (a
 * key that was replaced, a token whose clients are gone) cannot be looked for: then it may. */
bool post_may_be_quoted(const struct post *post, struct rtbp_str s);

/* ---- outcome.c ---- */
struct outcome;
RB_HEAD(outcome_tree, outcome);
int outcome_name_compare(struct outcome *a, struct outcome *b);
RB_PROTOTYPE(outcome_tree, outcome, by_name, outcome_name_compare)
/* Return: NULL: it cannot be kept; with *ret_in_use: this user has one of this name already. */
struct outcome *outcome_new(struct peer *p, struct rtbp_str id, enum send_way way,
			    bool *ret_in_use);
void outcome_end(struct outcome *o, const struct send_result *result);
/* NULL is fine: as if it had never been. */
void outcome_drop(struct outcome *o);
void outcome_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
void outcomes_init(struct hub *hub);
void outcomes_done(struct hub *hub);
