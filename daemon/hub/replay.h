/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * replay: messages that the server stores (those that its database sends to private channels),
 * asked for with a join, which is the only way to ask.
 *
 *   after a gap      the rejoin itself asks, from a minute before the gap on (hold.c)
 *   a subscription   asks with the channel's first join if nobody else does (hold.c), or with a
 *                    join of its own on a further link, left as soon as it is done (replay.c)
 *
 *     join's answer   stored messages, oldest first   ... live ones ...   answer to a probe
 *          |<------------------------- held --------------------------------->|
 *                                                                             v
 *               gap or the answer to `subscribe`; stored ones; [`replay`;] what came live
 *
 * While a channel is held its clients are told that it is being joined. What is stored and live
 * comes once: by the id that the server gives to stored messages.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/timers.h"
#include "hub/news.h"

struct chan;
struct hub;
struct join;
struct join_config;
struct phx_msg;
struct sub;

enum {
	REPLAY_MAX = 25,         /* the server gives no more */
	REPLAY_BACK_MS = 60000,  /* before a gap: clocks differ */
	REPLAY_MS = 15000,       /* a join of its own is given up after that, and a wait for one */
	REPLAY_AGAIN_MS = 60000, /* after the server refused it */
	REPLAY_BYTES = 8 * 1024 * 1024, /* of one that is fetched for a subscription */
	REPLAY_KNOWN_MS = 60000,        /* a live copy of a stored message may be late */
	RECENT_MAX = 1024,              /* ids that a channel remembers, of HTTP as well */
	HOLD_BYTES = 1024 * 1024,       /* more is not held: it is given up */
};

/* The last moment that the server's database can say. */
#define REPLAY_SINCE_MAX UINT64_C(253402300799999)

/* What is kept back; without a notice it is of the presence. */
struct kept {
	STAILQ_ENTRY(kept) entry;
	struct news news;
	bool is_state;
	size_t size;
	uint8_t payload[];
};
STAILQ_HEAD(kept_list, kept);

/* What a gap will be told as. from_wall_ms 0: there is none. */
struct gap {
	int64_t from_wall_ms, to_wall_ms;
	char cause[32];
	const char *stored;
	unsigned n;
};

/* A channel that is joined, and whose clients do not know it yet. */
struct hold {
	bool active, was_joined;
	bool is_full; /* too much came */
	struct kept_list stored, live;
	unsigned n_stored; /* that came, known ones too */
	unsigned limit;    /* asked for */
	size_t bytes;
};

/* The ids of what came last, as a ring. */
struct recent {
	uint64_t ids[RECENT_MAX];
	unsigned next;
};

/* What a subscription asked for. */
struct replay {
	enum replay_state {
		REPLAY_WANTED, /* the channel is not joined yet, or another one's is on its way */
		REPLAY_RIDES,  /* the channel's own join asks */
		REPLAY_ASIDE,  /* a join of its own asks */
		REPLAY_HERE,   /* it came, and `subscribe` is not answered yet */
		REPLAY_OVER,   /* known ids are remembered for a while */
	} state;
	struct sub *sub;
	uint64_t number; /* grows with each wish */
	uint64_t since_ms;
	unsigned limit;
	struct join *join; /* REPLAY_ASIDE */
	struct kept_list stored, live;
	unsigned n_stored;
	const char *failed; /* why not; static */
	size_t bytes, stored_bytes;
	struct timer timer;
	uint64_t ids[2 * REPLAY_MAX]; /* that came stored, as a ring */
	unsigned n_ids;
};

/* ---- hold.c ---- */
extern const char hold_too_much[]; /* for people */
void kept_free_all(struct kept_list *list);
/* Appends; takes a reference of the notice. Return: false: no memory. */
bool kept_add(struct kept_list *list, const struct news *news);
void hold_init(struct chan *ch);
/* What the next join of the channel shall ask for. */
void hold_config(const struct chan *ch, const struct join *j, struct join_config *ret);
/* That join was sent: whose wish it carries. */
void hold_joining(struct chan *ch, const struct join *j);
/* It is joined. Return: whether it is held; then the rest follows from hold_probed(). */
bool hold_begin(struct chan *ch);
void hold_probed(struct chan *ch, bool answered);
/* A message while it is held. */
void hold_presence(struct chan *ch, const struct phx_msg *msg);
void hold_news(struct chan *ch, const struct news *news);
/* The join is gone: what was held is dropped, and belongs to the next gap. */
void hold_lost(struct chan *ch);
void hold_done(struct chan *ch);
/* To one who had the channel before a gap. */
void hold_deliver_stored(struct sub *s);
/* Remembers the id. Return: whether it was known. */
bool recent_add(struct chan *ch, uint64_t id);

/* ---- replay.c ---- */
/* The subscription wants it, in the place of an earlier wish. Return: false: no memory. */
bool replay_wish(struct sub *s, uint64_t since_ms, unsigned limit);
/* The first of the channel's that is in this state; NULL: none is. */
struct replay *replay_find(const struct chan *ch, enum replay_state state);
/* The channel's own join did not come about, or did not ask: the wish waits. */
void replays_ride_no_more(struct chan *ch);
/* Messages of the channel may be missed from now on: what is kept back comes before that is told. */
void replays_lost(struct chan *ch);
/* The channel is there: who still waits gets a join of its own, one after the other. */
void replays_run(struct chan *ch);
/* One that rode has ended with these messages; text: why not, or NULL. */
void replay_rode(struct replay *r, struct kept_list *stored, unsigned n_stored, const char *text);
/* The subscription has its answer: what is there may follow, what is not may be fetched. */
void replay_answered(struct sub *s);
/* A live message for this subscription. Return: whether that was seen to (kept back, or known). */
bool replay_takes(struct sub *s, const struct news *news);
void replay_free(struct sub *s);
