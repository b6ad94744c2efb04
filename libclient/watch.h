/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Database changes: the watches of one topic, and the bindings that they share.
 *
 *   rtb_watch n -- 1 binding n -- 1 topic
 *
 * Equal wishes within a topic are one binding. A topic's subscribe request has its wanted bindings
 * in the order of their making; the answer tells how each stands, by its place, and its id, by
 * which notifications name it.
 *
 * A binding belongs to the requests from `first` to `last`. Once a request was sent without it, it
 * is never asked for again: who wants the same later gets a new one, at the end. So the bindings of
 * an earlier request that is still unanswered can be told from the list alone.
 *
 * While a callback runs, watches and bindings are only added at the tail; ids are only given and
 * taken where none runs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "libclient/include/rtbridge/rtbridge.h"
#include "proto/rtbp_buf.h"
#include "proto/rtbp_val.h"

struct rtbc_topic;

enum {
	RTBC_SELECT_MAX = 100,
	RTBC_WATCH_CODE_MAX = 32,
	RTBC_WATCH_TEXT_MAX = 512,
};

TAILQ_HEAD(rtbc_watch_list, rtb_watch);
TAILQ_HEAD(rtbc_binding_list, rtbc_binding);

struct rtbc_binding {
	TAILQ_ENTRY(rtbc_binding) link; /* topic->bindings */
	struct rtbc_binding *id_next;   /* hash chain; equal ids are possible */
	struct rtbc_topic *topic;
	struct rtbc_watch_list watches;
	unsigned n_live;      /* watches that are not dead */
	uint64_t first, last; /* serials of the requests with it; first 0: not asked for, last 0:
				 still wanted */
	bool is_left_out;     /* over the limit: not asked for */
	bool is_known;        /* a request with it was answered: its id means something */
	bool is_hashed;       /* under its id, known or not any more */
	uint64_t id;
	uint64_t row; /* the last row (client->n_rows) or gap that was told to its watches */
	enum rtb_binding_state state;
	int64_t stopped_at; /* wall ms: when it ceased to be ready; 0: it is, or never was */
	uint64_t n_changes; /* of state, code, text; from 1 */
	char code[RTBC_WATCH_CODE_MAX];
	char text[RTBC_WATCH_TEXT_MAX];
	size_t size;
	uint8_t bytes[]; /* the MessagePack map, as it is asked for */
};

struct rtb_watch {
	TAILQ_ENTRY(rtb_watch) link; /* binding->watches */
	struct rtbc_binding *binding;
	void (*change)(struct rtb_watch *watch, const struct rtb_change *change, void *user);
	void (*state)(struct rtb_watch *watch, const struct rtb_watch_status *status, void *user);
	void (*gap)(struct rtb_watch *watch, const struct rtb_gap *gap, void *user);
	void *user;
	bool is_dead;
	bool was_ready;   /* in this attachment */
	int64_t gap_from; /* wall ms: since when changes are missed that no daemon will tell of;
			     0: none are, or it was told */
	char gap_cause[RTBC_WATCH_CODE_MAX];
	uint64_t reported; /* the binding's n_changes when it was told */
};

/* watch.c */

void rtbc_binding_set(struct rtbc_binding *b, enum rtb_binding_state state, const char *code,
		      const char *text);
/* All of the topic. */
void rtbc_watches_set(struct rtbc_topic *t, enum rtb_binding_state state, const char *code,
		      const char *text);
/* Calls the state callback of each watch that has not heard of its state. */
void rtbc_watches_report(struct rtbc_topic *t);
void rtbc_watch_report(struct rtb_watch *w);
/* What the daemon would have told now is missed: a gap, to be told before they flow again. */
void rtbc_watches_on_detach(struct rtbc_topic *t);
/* The same for what the daemon has ended, and will tell no gap of. Before the state is set. */
void rtbc_binding_missed(struct rtbc_binding *b, const char *cause);
void rtbc_watches_missed(struct rtbc_topic *t, const char *cause);
/* Those that were refused one by one for want of another token are pending again. Return: whether
 * there is one. */
bool rtbc_watches_revive(struct rtbc_topic *t);
/* Tells that gap, if there is one. */
void rtbc_watch_tell_missed(struct rtb_watch *w);
/* Frees what is dead or over; not while a callback runs. */
void rtbc_watches_reap(struct rtbc_topic *t);
void rtbc_watches_free(struct rtbc_topic *t);

/* watch_wire.c */

/* Appends the `postgres_changes` member of a request, if there is something to ask for, and marks
 * what the daemon's limit leaves out. Return: whether it did. */
bool rtbc_watches_pack(struct rtbc_topic *t, struct rtbp_buf *b);
/* That request was sent, as `serial`. */
void rtbc_watches_asked(struct rtbc_topic *t, uint64_t serial);
/* The daemon has no wishes of this topic any more, as far as we know. */
void rtbc_watches_forget(struct rtbc_topic *t);
/* The same, but requests are on their way: what it had is pending until they are answered. */
void rtbc_watches_restart(struct rtbc_topic *t, const char *code, const char *text);
/* The last request was refused; what those up to `held` asked for the daemon has, or will answer.
 * The rest gets this state, and is asked for again by the next request. */
void rtbc_watches_refused(struct rtbc_topic *t, uint64_t held, enum rtb_binding_state state,
			  const char *code, const char *text);
/* The request cannot be sent: what the daemon has not taken yet gets an error. */
void rtbc_watches_unsent(struct rtbc_topic *t, const char *code, const char *text);
/* What the answer to hello says. */
void rtbc_watches_on_hello(struct rtb_client *c, struct rtbp_val result);
/* Does the answer to the request `serial` fit it? `array`: its member postgres_changes. */
bool rtbc_watches_fit(const struct rtbc_topic *t, uint64_t serial, struct rtbp_val array);
void rtbc_watches_answered(struct rtbc_topic *t, uint64_t serial, struct rtbp_val array);
/* The same of a `channel` notification, whose entries are found by id. */
void rtbc_watches_on_channel(struct rtbc_topic *t, struct rtbp_val array);
/* Does the daemon have some that are neither ready nor refused? */
bool rtbc_watches_are_pending(const struct rtbc_topic *t);
/* A gap of these ids. */
void rtbc_watches_tell_gap(struct rtbc_topic *t, struct rtbp_val ids, const struct rtb_gap *gap);
void rtbc_binding_unhash(struct rtbc_binding *b);
/* A change: tells it to whoever watches one of the ids, each once. */
void rtbc_watches_deliver(struct rtb_client *c, struct rtbp_val ids,
			  const struct rtb_change *change);

/* row.c: the notification. Return: as rtbc_dispatch(). */
int rtbc_on_change(struct rtb_client *c, struct rtbp_val params);
