/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Database changes in the hub: bindings (what is asked for), wants (who asks for it), feeds (what
 * carries it).
 *
 *   subscribe -> wants.c -> binding.c: equal ones are one -> feeds.c: placed in a feed -> join
 *   system ok | error -> feed.c: the bindings flow | halves -> wants.c: answers, notices, gaps
 *   postgres_changes -> rows.c: the server's ids -> bindings -> packed once -> peers
 *
 *   sub 1 -- n want n -- 1 binding n -- 1 feed 1 -- 1 join
 *
 * The topic of a channel means nothing to database changes, so they ride on feeds: joins on
 * invented public topics, each with up to FEED_BINDINGS bindings, fixed for the join's life. No
 * channel that clients see is ever joined anew because somebody asks for a table. The server takes
 * all bindings of a join or none: a feed that it refuses is halved until the bad one is alone. When
 * a link runs short of channels, small feeds are merged (feed_merge.c), the new one first.
 *
 * A project that allows private channels only has no invented topics: there a binding rides on the
 * join of a channel that one of its wants belongs to (chan_feed.c), after it was proved on a join
 * of the same topic on a further link.
 *
 * Owners: the hub owns bindings and feeds; a want belongs to its sub. A binding lives as long as a
 * want or a feed has it, so that who comes back finds it flowing.
 */
#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/timers.h"
#include "proto/rtbp_buf.h"
#include "proto/rtbp_val.h"

struct blob;
struct chan;
struct hub;
struct identity;
struct join;
struct link;
struct peer;
struct phx_msg;
struct sub;

enum {
	FEED_BINDINGS = 50,
	CHAN_BINDINGS = 200,  /* that ride on one private channel's join */
	BINDINGS_MAX = 10000, /* of all clients */
	BINDING_SELECT_MAX = 100,
	/* A refusal answers for so long; then who asks makes it be tried again. */
	BINDING_BAD_MS = 10000,
	/* By itself: the table may be there one day. The pause doubles. */
	BINDING_RETRY_MIN_MS = 60000,
	BINDING_RETRY_MAX_MS = 600000,
	/* After words of the server that mean nothing to us: if it does not come round by itself,
	 * they are taken for a refusal. */
	FEED_DOUBT_MS = 20000,
	PROOF_LINK_MS = 10000,    /* for its link to be there */
	PROOF_PATIENCE_MS = 5000, /* what is proven waits so long for what is still being tried */
	PROOF_TRIALS = 12, /* then what is proven goes first: others may bring more and more */
	BINDING_CODE_MAX = 32,
	BINDING_TEXT_MAX = 512,
};

/* ---- binding ---- */

enum change_event { CHANGE_ANY, CHANGE_INSERT, CHANGE_UPDATE, CHANGE_DELETE };

/* One as a request has it. `text` is its JSON as the server gets it, which is its name, too: equal
 * wishes have equal texts. */
struct binding_wish {
	char *text; /* owned */
	size_t size;
	enum change_event event;
};

struct binding {
	RB_ENTRY(binding) by_text, by_id;
	TAILQ_ENTRY(binding) entry; /* in a list of those that need a place */
	struct hub *hub;
	uint64_t id;
	struct identity *identity; /* whose rows: NULL: the daemon's own */
	char *text;
	size_t size;
	enum change_event event;
	TAILQ_HEAD(, want) wants;
	unsigned n_wants;
	unsigned n_items;          /* of feeds */
	struct feed *feed;         /* that delivers it, or will; NULL: none */
	struct suspects *suspects; /* it waits there for its trial; NULL: it does not */
	bool bad;                  /* the server refused it alone, or there is no place for it */
	bool proven;               /* the server took it once (private channels only) */
	char code[BINDING_CODE_MAX], reason[BINDING_TEXT_MAX]; /* of `bad` */
	uint64_t bad_at_ms, retry_at_ms;
	uint32_t retry_pause_ms;
	/* Changes may be missed since then; told when they flow again. 0: none are. */
	int64_t gap_from_wall_ms;
	char gap_cause[BINDING_CODE_MAX];
	uint64_t n_rows;
	uint64_t mark; /* rows.c: of the row that is being looked at; report_know.c: it is known */
};

RB_HEAD(binding_text_tree, binding);
RB_HEAD(binding_id_tree, binding);
TAILQ_HEAD(binding_list, binding);

/* What one subscription wants. In the order of its request; equal ones are there several times. */
struct want {
	TAILQ_ENTRY(want) in_binding;
	struct sub *sub;
	struct binding *binding; /* NULL: the access rules do not allow it */
	uint64_t id;             /* of the binding, as the peer was told; 0: none */
	bool is_repeated;        /* an earlier one of the sub is the same */
	bool answered;           /* the peer knows its id */
	bool flowed; /* the peer was told that it is ready: what it misses from then on is a gap */
	bool gap;    /* to be told with the next notice */
	uint64_t told; /* how it stood when the peer was told last: a hash */
};

/* ---- binding.c ---- */

/* Reads one. Return: NULL, or what is wrong. */
const char *binding_wish_read(struct rtbp_val v, struct binding_wish *ret, bool *ret_no_memory);
void binding_wishes_free(struct binding_wish *wishes, unsigned n);
int binding_text_compare(struct binding *a, struct binding *b);
int binding_id_compare(struct binding *a, struct binding *b);
RB_PROTOTYPE(binding_text_tree, binding, by_text, binding_text_compare)
RB_PROTOTYPE(binding_id_tree, binding, by_id, binding_id_compare)
/* Finds or makes it; takes the wish's text then. NULL without memory or over BINDINGS_MAX. */
struct binding *binding_get(struct hub *hub, struct binding_wish *wish, struct identity *identity);
/* Frees it if nobody has it any more. */
void binding_check(struct binding *b);
/* "ready", "pending", "error"; @ret_code, @ret_text: why, "" when there is nothing to say. */
const char *binding_state(const struct binding *b, const char **ret_code, const char **ret_text);
bool binding_is_settled(const struct binding *b); /* ready or error */
/* Changes are missed from now on. */
void binding_stops(struct binding *b, int64_t from_wall_ms, const char *cause);
/* Changes flow. */
void binding_flows(struct binding *b);
/* The server refuses it, or there is no place. */
void binding_refused(struct binding *b, const char *code, const char *text);
/* It may be tried again. Return: whether it needs a place now. */
bool binding_retry(struct binding *b);
/* Its wants have news to tell. */
void binding_news(struct binding *b);
/* Those whose time has come are tried again. */
void bindings_retry_due(void *hub);

/* ---- wants.c ---- */

/* What a subscribe request says of database changes. */
struct changes_wish {
	bool given;
	struct binding_wish *wishes;
	unsigned n;
};
/* @max: how many there may be. Return: NULL, or what is wrong, with the code, written to @text if
 * it needs to. */
const char *changes_wish_read(struct rtbp_val v, unsigned max, struct changes_wish *ret, char *text,
			      size_t size, enum rtbp_error *code);
/* The sub wants these from now on; what it wanted before and does not any more ends. Return: 0;
 * -ENOMEM or -E2BIG (BINDINGS_MAX): nothing changed. */
int wants_put(struct sub *s, struct changes_wish *w);
void wants_free(struct sub *s);
/* Those that the access rules do not allow any more end. */
void wants_check_access(struct sub *s);
/* Of what is still to come; NULL: none. */
const struct join *wants_join(const struct sub *s);
/* The sub's peer has been told how they stand: all of them by an answer, else those it knows. */
void wants_answered(struct sub *s, bool is_answer);
/* Whether they stand as the peer was told last. */
bool wants_are_told(const struct sub *s);
enum { WANTS_TOLD_WHOLE = 64 }; /* notices of more have only what changed */
/* How far the sub's changes are. */
enum wants_state { WANTS_DOWN, WANTS_CARRIED, WANTS_SETTLED };
/* `known`: only of those that the peer has an answer for. */
enum wants_state wants_state(const struct sub *s, bool known);
/* Appends the member postgres_changes: of the answer all, in the order asked, else the distinct
 * ones. */
void wants_pack(const struct sub *s, bool is_answer, struct rtbp_buf *b);
/* Packs the gaps that are to be told with the next notice, and sends each. */
void wants_tell_gaps(struct sub *s);
/* Answers and tells all subs that have news. Done at the end of each turn, so that what happens to
 * many feeds at once is one notice; and before a row is delivered or a barrier answered, which must
 * not overtake it. */
void wants_tell(struct hub *hub);
/* 1 << link of all that carries them. */
unsigned wants_links(const struct sub *s);

/* ---- feed ---- */

enum feed_state {
	FEED_DOWN,    /* not joined */
	FEED_PENDING, /* joined; the server has not said yet whether it takes the bindings */
	FEED_READY,
	FEED_OVER, /* being left */
};

struct feed_item {
	struct binding *binding;
	uint64_t server_id;
	bool sent;    /* the server's channel has it */
	bool sending; /* the join that is unanswered has it */
	bool handed;  /* it delivered the binding until its merge */
};

struct twin;
TAILQ_HEAD(twin_list, twin);

struct feed {
	TAILQ_ENTRY(feed) entry;
	struct hub *hub;
	uint64_t number;
	struct join *join;
	struct identity *identity; /* of all its bindings; NULL: the daemon's own */
	struct chan *chan; /* on whose join it rides, or which topic it is to prove; NULL: a topic
			    * of its own */
	bool is_proof;     /* a join of its own on the chan's topic, to try bindings out */
	bool is_piece;     /* of one that was refused: to be put together again */
	bool is_trial;     /* the server has not said yet whether it takes this piece */
	bool is_careful;   /* a chan's: bindings are tried one by one */
	struct timer doubt_timer; /* a text of the server that we do not know, and no word since */
	/* A proof's: for its link. A chan's: for the proof. */
	struct timer patience_timer;
	bool is_impatient; /* a chan's: what is proven waits no longer */
	bool needs_run;    /* chan_feed.c: its bindings have become more */
	unsigned n_trials; /* of a chan's: since its join was made last */
	bool no_proof;     /* of a chan's: there is no further link to try them on */
	bool bad_reply;    /* to the join: the bindings' ids are not known */
	enum feed_state state;
	struct feed_item *items;
	unsigned n_items, cap;
	char code[BINDING_CODE_MAX], text[BINDING_TEXT_MAX]; /* why it is pending */
	uid_t uid;                                           /* whose wish it was first */
	/* Merging: the new one, and the number of those that end in it. */
	struct feed *into;
	unsigned n_sources;
	bool overlaps; /* what this one brings may have come by a source, and the other way round */
	struct timer overlap_timer;
	int64_t ready_wall_ms; /* since when it delivers what its sources did */
	bool is_moved;         /* it takes the place of one on another link */
	bool is_planned;       /* while it is being decided what goes into one */
	struct twin_list twins;
	unsigned n_twins;
	uint64_t no_merge_before_ms;
};

TAILQ_HEAD(feed_list, feed);

/* ---- feed.c: one feed, through its life ---- */

/* For people: what a further link is needed for. */
const char *feed_why(bool is_proof);
struct feed *feed_new(struct link *link, struct chan *chan, bool is_proof,
		      struct identity *identity, uid_t uid);
/* Return: -ENOMEM. */
int feed_add(struct feed *f, struct binding *b);
void feed_remove(struct feed *f, unsigned i);
/* It is not among what the server has of us, and may be removed. */
bool item_is_free(const struct feed_item *item);
/* Wanted bindings that it delivers. */
unsigned feed_live(const struct feed *f);
/* A binding of it has no wants any more: it may end, and the binding with it. */
void feed_unwanted(struct feed *f);
/* It is needed no longer: left without lingering. May be freed by it. */
void feed_end(struct feed *f);
/* Somebody wants what it carries: stays, or is asked for again after a refusal. */
void feed_retry(struct feed *f);
/* Of the join's owner. feed_prepare(): before it is asked what the join is to have. */
void feed_prepare(struct feed *f);
size_t feed_encoded_size(const struct feed *f);
void feed_encode(const struct feed *f, struct rtbp_buf *out);
void feed_joining(struct feed *f);
void feed_on_reply(struct feed *f, struct rtbp_val response);
/* The join is in another state. */
void feed_on_changed(struct feed *f);
void feed_on_system(struct feed *f, bool ok, const char *text);
/* What it brought stops. `channel_lives`: the server's channel is there still, and what it brings
 * counts. */
void feed_on_lost(struct feed *f, int64_t from_wall_ms, const char *cause, bool channel_lives);
/* The server's channel is there no longer, after all. */
void feed_channel_gone(struct feed *f);
void feed_free(struct feed *f);
const char *feed_state_name(const struct feed *f);
/* Whose own join it is; NULL: none's. */
struct feed *feed_of_join(const struct join *j);

/* ---- feeds.c: which feed carries what ---- */

/* Finds places for bindings that have none. @p, @uid: whose wish it is; p NULL: the hub's own. */
void feeds_place(struct hub *hub, struct binding_list *list, struct peer *p, uid_t uid);
/* The server has refused this one: halves, or the end of a bad binding. */
void feed_refused(struct feed *f, const char *code, const char *text);
/* The join was refused for good. */
void feed_rejected(struct feed *f);
/* What is left of a refused feed, and waits for its trial: one at a time for each user, so that
 * thousands of bad bindings take neither all channels nor everybody's turn. */
struct suspects {
	TAILQ_ENTRY(suspects) entry;
	uid_t uid;
	struct binding_list list;
};
TAILQ_HEAD(suspects_list, suspects);
/* Nobody wants it any more. */
void suspects_drop(struct binding *b);
/* A trial of this user's is over. */
void suspects_next(struct hub *hub, uid_t uid);
/* This project allows private channels only: everything moves. */
void feeds_go_private(struct hub *hub);

/* ---- feed_merge.c ---- */

/* The number of a link's channels has changed, or a feed has become ready. */
void feeds_tidy_later(struct hub *hub);
void feeds_tidy(void *hub);
enum {
	MERGE_OVERLAP_MS = 2000, /* a source stays so long after the target is ready */
	MOVE_OVERLAP_MS = 20000, /* on another connection, which may stand still for a while */
};
void merge_ready(struct feed *target);
/* The target is over (the caller sees to its join), the sources stay. */
void merge_abandon(struct feed *target);
void merge_overlap_over(void *target);
void merge_forget(struct feed *f); /* it is being freed */
/* How long its sources stay. */
uint32_t merge_overlap_ms(const struct feed *target);
/* To a lower link: into a new feed there. */
bool merge_may_move(const struct feed *f);
void merge_move(struct feed *f, struct link *to);
/* Its connection is gone while another feed, on another one, takes over. */
void merge_source_lost(struct feed *f);
/* A row with this hash came by `f` for the item's binding: is it new to the peers? */
bool merge_is_new(struct feed *f, const struct feed_item *item, uint64_t hash);
/* Whether that needs the hash. */
bool merge_needs_hash(const struct feed *f);

/* ---- rows.c ---- */

void rows_on_message(struct feed *f, const struct phx_msg *msg);

/* ---- chan_feed.c: on a channel's own join ---- */

/* Finds a place for it with one of its chans. What is to be done there is done by chan_feeds_run(),
 * for all that came. */
void chan_feed_place(struct binding *b);
void chan_feeds_run(struct hub *hub);
/* Proved: it joins the others. */
void chan_feed_proved(struct feed *proof);
bool chan_feed_wanted(const struct chan *ch);
const char *chan_feed_misfit(const struct chan *ch);
/* The server refused what the chan's join has: what was not proven goes. */
void chan_feed_refused(struct feed *f, const char *code, const char *text);
/* The proof's join was refused for good. */
void chan_feed_rejected(struct feed *proof);
/* What the chan's join has flows. */
void chan_feed_ready(struct feed *f);
/* A want of it has gone. */
void chan_feed_left(struct binding *b);
/* Its link is down: should that last, what it was to prove is joined unproven. */
void chan_feed_watch_link(struct feed *proof);
void chan_feed_patience_over(void *feed);
/* Whether the next join of the feed, which rides on a chan's, has it. */
bool chan_feed_takes(const struct feed *f, const struct binding *b);
void chan_feed_forget(struct feed *f); /* it is being freed */
