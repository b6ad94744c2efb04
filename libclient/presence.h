/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Who is there in one topic, folded from the daemon's snapshots and changes; shared by the topic's
 * subscriptions.
 *
 * The library asks the daemon for all events and keeps the whole state, because the walk over it
 * must be right whatever a handler listens to. Its size is bounded by what the daemon keeps of a
 * channel, and each change by the size of a frame.
 *
 * Nothing is half done when memory is short: whatever a frame needs is fetched before the first
 * change, and the frame is tried again. Entries are freed only where no callback runs.
 */
#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "libclient/include/rtbridge/rtbridge.h"
#include "proto/rtbp_val.h"

struct rtbc_topic;

struct rtbc_entry {
	struct rtb_presence_entry pub; /* first: callers hold pointers to it */
	RB_ENTRY(rtbc_entry) node;
	STAILQ_ENTRY(rtbc_entry) link;
	size_t key_size, ref_size; /* others may write a NUL into a key */
	char bytes[];              /* key, ref, state */
};

RB_HEAD(rtbc_entry_tree, rtbc_entry);
STAILQ_HEAD(rtbc_entry_list, rtbc_entry);

struct rtbc_presence {
	struct rtbc_entry_tree entries;
	size_t n;
	enum rtb_presence_status status;
	uint64_t n_syncs;  /* how often the whole state was another one */
	bool is_asked;     /* the last subscribe request wants presence */
	bool is_withdrawn; /* a request did not: changes were missed, nothing is known */
};

/* What an answer to `subscribe` says under `presence`. Return: 0; -ENOMEM, RTB_E_PROTOCOL: nothing
 * was changed. */
int rtbc_presence_answered(struct rtbc_topic *t, struct rtbp_val presence);
/* The same for a `channel` notification, which has the state alone. */
void rtbc_presence_set_state(struct rtbc_topic *t, struct rtbp_val state);
/* The notification. Return: as rtbc_dispatch(). */
int rtbc_on_presence(struct rtb_client *c, struct rtbp_val params);

enum rtb_presence_status rtbc_sub_presence(const struct rtb_sub *sub);
/* Calls the handler with SYNC if this subscription does not know the whole state yet. */
void rtbc_presence_tell_sync(struct rtb_sub *sub);

/* Forgets what nobody wants any more; not while a callback runs. */
void rtbc_presence_reap(struct rtbc_topic *t);
void rtbc_presence_free(struct rtbc_topic *t);
