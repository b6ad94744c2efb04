/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * presence: who is there in one channel, folded from the server's `presence_state` and
 * `presence_diff`. Pure: no clock, no I/O, no knowledge of joins or clients.
 *
 * The server keeps, for each key, a list of metas; a meta is known by its phx_ref. The fold is that
 * of the Phoenix client (presence.js): a new join's diffs wait for its state; the held state
 * outlives a rejoin, and what the new state says otherwise becomes changes; joins are applied
 * before leaves. A call that takes a meta away and brings one whose phx_ref_prev names it makes an
 * update, not a leave and a join; of several that name the same one, the first.
 *
 * It departs from presence.js in three points. Diffs whose state never came are dropped at the next
 * join, for they would bring back who has left since. A state is believed about refs that are held
 * already: the server makes each ref once, but a tracker can write one into its payload and so keep
 * another state under it. And nothing that comes in makes it throw (see presence_on_state()).
 *
 * What comes out are entries {key, ref, state}, as PROTOCOL.md shows them: state is the meta
 * without phx_ref and phx_ref_prev, ref its phx_ref. A server key that starts with "rtbridge:" is
 * that of a bridge that merges (PROTOCOL.md, `track`): a meta of it that has a map `members` does
 * not come out itself, and the union of the members of all such metas does, one entry for each,
 * {key: the member's, ref: the server's key}. For a member that several metas name, the one that
 * came last says the state. So a bridge's rejoin (its new meta comes before the old one leaves)
 * shows only what it changed, and a stranger, who may join under any key, can add members or
 * contradict one, as he can under ordinary keys, but hides nobody. Members whose name is no key
 * (rtbp_key_ok()) or whose state is no map are left out. The metas without a map `members` come out
 * as they stand, beside the members.
 *
 * Other users write what comes in: everything is bounded, nothing of it can fail worse than
 * "overflow". A call's time is that of its payload and of the metas that it takes away, members
 * included (times a logarithm), not that of what is held, however much of it is under one key;
 * presence_on_state() walks over that, too.
 */
#include <stdbool.h>
#include <stddef.h>

#include "proto/rtbp_buf.h"
#include "proto/rtbp_val.h"

struct presence;

enum presence_change { PRESENCE_LEAVE, PRESENCE_JOIN, PRESENCE_UPDATE, PRESENCE_N_CHANGES };

enum {
	PRESENCE_E_MALFORMED = 1, /* not of that shape: nothing was changed */
	PRESENCE_E_OVERFLOW,      /* over the limit: the state is empty and unknown until
				     presence_joining() and a new state, for diffs are missing now */
};

/* @max_bytes: for keys, refs, states and a fixed overhead for each entry (384 bytes, 80 for a
 * member; a key counts for each of its entries); as much again for diffs that wait. While a call is
 * at work it may be three times as much for a moment, and what it changed is kept, packed, until
 * the next one. A snapshot is smaller than @max_bytes. Return: NULL without memory. */
struct presence *presence_new(size_t max_bytes);
struct presence *presence_free(struct presence *p); /* Returns NULL. */

/* The channel is being joined (anew): from now on diffs wait for the next presence_on_state().
 * Those that wait already are dropped. Needless before the first join. Changes nothing. */
void presence_joining(struct presence *p);

/* Whether a state has come since presence_joining(). */
bool presence_is_current(const struct presence *p);

/**
 * presence_on_state(), presence_on_diff() - the payload of a `presence_state`, `presence_diff`
 * @payload: checked MessagePack, borrowed for the call
 *
 * Parts that have not the expected shape (a key whose value has no array `metas`, a meta that is
 * no map, has no phx_ref, or one that starts with "rtbridge:") are passed over; a payload that is
 * no map, or a diff whose `joins` or `leaves` is present and no map, is malformed. A diff that
 * waits changes nothing until its state is there. Of equal refs of one key the last one counts.
 * On anything but 0 there are no changes to be told. After an overflow diffs are passed over (0),
 * and a state for the same join is refused (PRESENCE_E_OVERFLOW).
 *
 * Return: 0; PRESENCE_E_*; -ENOMEM (as overflow: the state is empty and unknown).
 */
int presence_on_state(struct presence *p, struct rtbp_val payload);
int presence_on_diff(struct presence *p, struct rtbp_val payload);

/* Number of entries. */
size_t presence_count(const struct presence *p);

/* Packs the array of all entries. */
void presence_pack_snapshot(const struct presence *p, struct rtbp_buf *b);

/* What the last call of the three above (joining, state, diff) changed on the whole (a state
 * together with the diffs that waited for it is one change): how many, and the array of them,
 * packed. An entry whose state is another one under the same ref is an update, too. Applied to the
 * snapshot before in the order of the enum, they give the snapshot after; no entry is named twice.
 * Valid until the next of those calls. */
size_t presence_n_changes(const struct presence *p, enum presence_change which);
void presence_pack_changes(const struct presence *p, enum presence_change which,
			   struct rtbp_buf *b);
