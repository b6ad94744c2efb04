/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * heartbeat: when to send the next one, and when an answer is overdue. Private to session; pure.
 *
 * The interval runs from the clock, whatever else is sent or received: the server counts only what
 * it gets from us, and what we get proves nothing about what gets through.
 *
 * The server handles the frames of a link strictly in order and stands still while it works on a
 * join (5 s for each that fails, longer while a database wakes up). So unanswered joins extend the
 * limit for an answer; several heartbeats may be on their way meanwhile.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HEARTBEAT_JITTER_PERCENT = 8,
	HEARTBEAT_MAX_OUT = 8, /* unanswered ones; at the longest limit there are four */

	/* While joins are unanswered. */
	HEARTBEAT_JOINS_MS = 10000,       /* from the last frame received */
	HEARTBEAT_PER_JOIN_MS = 5000,     /* how long the server sleeps over a refused join */
	HEARTBEAT_JOINS_LEAST_MS = 40000, /* from the heartbeat */
	HEARTBEAT_JOINS_MOST_MS = 90000,

	HEARTBEAT_POKE_MS = 5000, /* for the answer to one that was sent out of turn */

	HEARTBEAT_BUSY_MS = 500, /* the next try when the mailbox to the wire was full */
};

struct heartbeat {
	uint32_t interval_ms, reply_ms;
	uint64_t next_ms; /* when to send one */
	struct {
		uint64_t ref, sent_ms;
	} out[HEARTBEAT_MAX_OUT]; /* unanswered, oldest first */
	unsigned n_out;
	uint64_t received_ms;  /* the last frame of any kind */
	uint64_t join_done_ms; /* the last reply to a join */
	uint64_t poked_ms;     /* when one was sent out of turn, because of a doubt; 0: answered */
	uint64_t busy_ms;      /* since when one could not be sent; 0: it could */
	bool answered;         /* any, on this connection */
	int32_t rtt_ms;        /* of the last answer; -1: none yet */
};

/* A connection begins. @jitter: 0 .. heartbeat_jitter_range(), here and below. */
void heartbeat_begin(struct heartbeat *h, uint64_t now, uint32_t jitter);
uint32_t heartbeat_jitter_range(const struct heartbeat *h);

void heartbeat_sent(struct heartbeat *h, uint64_t ref, uint64_t now, uint32_t jitter);
void heartbeat_not_sent(struct heartbeat *h, uint64_t now);
/* The one that is sent next, or was sent just now, is to be answered soon: the network or the
 * machine may have gone away meanwhile. Joins without an answer excuse as ever. */
void heartbeat_poke(struct heartbeat *h, uint64_t now);
/* Something else could be sent: the way out is crowded, not blocked. */
void heartbeat_room(struct heartbeat *h, uint64_t now);

/* Return: false when `ref` is none of an unanswered heartbeat. The answer to a later one answers
 * the earlier ones. */
bool heartbeat_answer(struct heartbeat *h, uint64_t ref, uint64_t now, uint64_t *ret_sent_ms);

/* From when on the oldest unanswered one is late without joins to excuse it; UINT64_MAX: none out.
 */
uint64_t heartbeat_late_ms(const struct heartbeat *h);
/* When the connection counts as dead; UINT64_MAX: nothing is waited for. */
uint64_t heartbeat_limit_ms(const struct heartbeat *h, size_t n_joins);
