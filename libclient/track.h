/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What this client shows of itself in channels: one durable wish per (topic, private), carried out
 * anew on every attachment.
 *
 * Of one tracker at most one `track` is without an answer; a state given meanwhile is sent after
 * it, the newest only. What becomes of a state that was answered `throttled` or `queued`, or that
 * was shown and is not any more, the daemon tells by a `track` notification. Should none come, the
 * library asks again with the same state after the outcome should be known: the daemon answers that
 * without a further call of the server.
 *
 * A tracker that was ended stays in the list until its `untrack` is answered. That keeps the order
 * of a later one for the same topic, and what the daemon still says about the old one away from it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "libclient/include/rtbridge/rtbridge.h"
#include "proto/rtbp_msg.h"

enum {
	RTBC_TRACK_AGAIN_MS = 1000, /* between two questions about the same state */
	RTBC_TRACK_LEAST_MS = 100,  /* whatever the daemon says */
	RTBC_TRACK_MOST_MS = 300000,
	RTBC_TRACK_SLACK_MS = 1000, /* behind the moment that the daemon named: its notification
				       needs the server's answer */
	RTBC_TRACK_CODE_MAX = 32,
	RTBC_TRACK_TEXT_MAX = 512,
};

struct rtb_tracker {
	TAILQ_ENTRY(rtb_tracker) link;
	struct rtb_client *client;
	void (*handler)(struct rtb_tracker *tracker, const struct rtb_track *track, void *user);
	void *user;
	bool is_private, is_dead;
	bool is_told;       /* the daemon got a `track` on this attachment, and no `untrack` */
	bool is_asking;     /* a `track` has no answer yet */
	unsigned n_pending; /* requests without an answer */
	uint8_t *state;
	size_t state_size;
	uint64_t version;      /* of `state`, from 1 */
	uint64_t asked;        /* the version that was sent last; 0: to be sent */
	uint64_t token_serial; /* rtbc_token_serial() at that time */
	uint64_t taken;        /* the version that the daemon keeps, as it answered; 0: none */
	int64_t asked_at;      /* monotonic ms */
	int64_t ask_at;        /* when to send it again; -1: no need */
	enum rtb_track_state result;
	uint64_t n_changes, reported; /* of result, code, text */
	int64_t retry_in_ms;
	char code[RTBC_TRACK_CODE_MAX];
	char text[RTBC_TRACK_TEXT_MAX];
	char key[RTBP_KEY_MAX + 1]; /* as the daemon told it */
	const char *wanted_key;     /* behind `name`; NULL: none */
	size_t name_size;
	char name[];
};

/* Sends what the daemon has not been told yet. Return: as rtbc_subs_flush(). */
int rtbc_tracks_flush(struct rtb_client *c);
void rtbc_tracks_on_detach(struct rtb_client *c);
/* Questions that are due again. */
void rtbc_tracks_tick(struct rtb_client *c, int64_t now_ms);
void rtbc_on_tracked(struct rtb_tracker *tr, uint64_t version, struct rtbp_val result);
void rtbc_on_track_error(struct rtb_tracker *tr, uint64_t version, const struct rtbp_error_info *e);
/* An `error` notification about a track that was answered before. Return: whether it is one. */
bool rtbc_on_track_refused(struct rtb_client *c, struct rtbp_val params,
			   const struct rtbp_error_info *e);
/* A `track` notification. */
void rtbc_on_track_notice(struct rtb_client *c, struct rtbp_val params);

/* Changes what is known; rtbc_tracks_report() calls the callbacks. */
void rtbc_tracker_set(struct rtb_tracker *tr, enum rtb_track_state state, const char *code,
		      const char *text, int64_t retry_in_ms);
void rtbc_tracks_report(struct rtb_client *c);
/* Ended, and the daemon has nothing more to say about it. */
bool rtbc_tracker_is_over(const struct rtb_tracker *tr);
/* Frees what is over; not while a callback runs. */
void rtbc_tracks_reap(struct rtb_client *c);
void rtbc_tracks_free(struct rtb_client *c);
