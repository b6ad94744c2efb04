/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of presence share. Nobody else includes this.
 *
 *   presence.c         the tables: who is held, what waits, the limits
 *   presence_meta.c    one meta, read from what the server sent
 *   presence_member.c  the members under one bridge's key: who of several of one name is shown
 *   presence_view.c    what clients see of it: the entries, and the net difference of a call
 *
 *   presence 1 -- n presence_key 1 -- n presence_slot 1 -- 0..1 presence_meta
 *   presence_meta 1 -- n presence_member n -- 1 presence_key
 *
 * A slot is a place for the meta of one (key, ref). The first time that a call touches a slot it
 * remembers what stood there (`was`); at the end of the call only what was touched is compared. So
 * a diff costs what it brings (times the logarithm), however many metas others have put under the
 * same key, and nothing has to be limited for each key.
 *
 * The same holds for bridges: the members of all metas under the key are in one tree, those of one
 * name side by side in the order in which their metas came, and the last of them is shown. Members
 * of a slot's `was` stay in the tree to the end of the call, so that for each name that a touched
 * meta has it can be seen there what was shown and what is: behind the last one that was there
 * before and stays, there are only such as the call touched.
 */
#include <bsd/sys/tree.h>
#include <stdint.h>
#include <sys/queue.h>

#include "realtime/presence.h"

#define PRESENCE_BRIDGE "rtbridge:" /* how the key of a bridge that merges starts */

enum {
	/* What a meta and a member count in addition to their bytes: at least what the structs
	 * take, and more than the words around them in a snapshot. */
	PRESENCE_META_BYTES = 384,
	PRESENCE_MEMBER_BYTES = 80,
};

struct presence_member {
	RB_ENTRY(presence_member) by_name;
	struct presence_meta *meta;
	struct rtbp_str name;
	struct rtbp_val state;
	uint64_t compared; /* the comparison (presence.n_compared) that has looked at this name; of
			      the last of the name */
};

struct presence_meta {
	size_t cost;
	struct rtbp_val state;
	struct rtbp_str prev;       /* phx_ref_prev; `p` NULL: none */
	bool merges;                /* of a bridge: its members are shown in its place */
	struct presence_slot *slot; /* where it was put */
	uint64_t turn;              /* its place among all that came */
	size_t n_members;
	struct presence_member members[]; /* each name once, when put; the bytes follow */
};

struct presence_key;

struct presence_slot {
	RB_ENTRY(presence_slot) by_ref;
	TAILQ_ENTRY(presence_slot) in_order; /* while `now` */
	TAILQ_ENTRY(presence_slot) touch;    /* while is_touched */
	struct presence_key *key;
	struct presence_meta *now; /* NULL: gone, kept to the end of the call for `was` */
	struct presence_meta *was; /* before this call, while is_touched; may be `now` itself */
	bool is_touched;
	bool is_paired; /* is one half of an update */
	bool is_listed; /* the state that is being read has it */
	struct rtbp_str ref;
	char text[];
};

RB_HEAD(presence_slot_tree, presence_slot);
TAILQ_HEAD(presence_slot_list, presence_slot);
RB_HEAD(presence_member_tree, presence_member);

struct presence_key {
	RB_ENTRY(presence_key) by_name;
	struct presence_slot_tree slots;
	struct presence_slot_list order;
	struct presence_member_tree members; /* of every `now` and `was` that merges */
	bool is_bridge;
	struct rtbp_str name;
	char text[];
};

RB_HEAD(presence_key_tree, presence_key);
int presence_slot_compare(struct presence_slot *a, struct presence_slot *b);
int presence_key_compare(struct presence_key *a, struct presence_key *b);
int presence_member_compare(struct presence_member *a, struct presence_member *b);
RB_PROTOTYPE(presence_slot_tree, presence_slot, by_ref, presence_slot_compare)
RB_PROTOTYPE(presence_key_tree, presence_key, by_name, presence_key_compare)
RB_PROTOTYPE(presence_member_tree, presence_member, by_name, presence_member_compare)

_Static_assert(PRESENCE_META_BYTES >= sizeof(struct presence_key) + sizeof(struct presence_slot) +
					      sizeof(struct presence_meta) + 6 * sizeof(size_t),
	       "what an entry takes, three times malloc's own words included");
_Static_assert(PRESENCE_MEMBER_BYTES >= sizeof(struct presence_member), "what a member takes");

struct presence_diff;
TAILQ_HEAD(presence_diff_list, presence_diff);

struct presence {
	size_t max_bytes;
	size_t bytes; /* what is held, in terms of presence_meta.cost */
	size_t n_entries;
	struct presence_key_tree keys;
	struct presence_slot_list touched;
	uint64_t n_turns; /* metas that have come */
	uint64_t n_compared;
	struct presence_diff_list waiting;
	size_t waiting_bytes;
	struct {
		struct rtbp_buf entries; /* without the array's header */
		size_t n;
	} changes[PRESENCE_N_CHANGES];
	struct rtbp_buf scratch;
	bool is_known; /* a state has come since presence_joining() */
	bool is_lost;  /* overflow since presence_joining() */
};

/* Text of equal length first compared by length: it needs an order, not the dictionary's. */
int presence_str_compare(struct rtbp_str a, struct rtbp_str b);
struct presence_slot *presence_find_slot(struct presence_key *key, struct rtbp_str ref);

/* The phx_ref of a meta, borrowed. Return: false when it has none that counts. */
bool presence_meta_ref(struct rtbp_val meta, struct rtbp_str *ret);

/**
 * presence_meta_new() - a copy of what the server sent, the refs apart
 * @max_cost: what it may cost at most
 * @scratch: contents are of no interest before and after
 *
 * Return: 0; PRESENCE_E_OVERFLOW; -ENOMEM.
 */
int presence_meta_new(struct rtbp_val meta, const struct presence_key *key, struct rtbp_str ref,
		      size_t max_cost, struct rtbp_buf *scratch, struct presence_meta **ret);

/* Puts the members of a meta under the key of its slot; takes them away from there. */
void presence_members_put(struct presence_meta *m);
void presence_members_remove(struct presence_meta *m);

/* What was shown under the name of @m before this call, and what is now; NULL: nothing.
 * @n_compared: of this comparison. Return: false when it was asked about that name before. */
bool presence_member_news(struct presence_member *m, uint64_t n_compared,
			  struct presence_member **ret_was, struct presence_member **ret_now);

/* Whether no later meta has a member of that name. Not while slots are touched. */
bool presence_member_is_shown(struct presence_member *m);

/* Fills `changes` with what the touched slots say, and counts the entries anew.
 * Return: 0, -ENOMEM. */
int presence_compare(struct presence *p);
