/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * pending: the pushes of one connection that wait for their reply, in order of ref. Private to
 * session.
 *
 * An array with a moving start: refs grow and replies come about in order, so nearly everything is
 * an append at the end and a removal near the start.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "realtime/session.h"

struct pending_push {
	uint64_t ref;
	uint64_t sent_ms, deadline_ms;
	uint64_t cookie;
	session_reply_fn fn; /* NULL: answered, or a join that timed out */
	void *ctx;
	bool is_join; /* the server still owes a reply */
};

struct pending {
	struct pending_push *at;
	size_t first, end, cap;
	size_t n_joins;         /* joins the server still owes a reply, timed out or not */
	uint64_t next_deadline; /* not later than the earliest deadline; UINT64_MAX: none */
};

void pending_init(struct pending *p);
void pending_done(struct pending *p);

/* Makes room for one more, so that the pending_add() that follows cannot fail. Return: 0, -ENOMEM.
 */
int pending_reserve(struct pending *p);
void pending_add(struct pending *p, const struct pending_push *push);

/* The reply to `ref` came. Return: false when nothing waits for it (unknown, or timed out). */
bool pending_answer(struct pending *p, uint64_t ref, struct pending_push *ret);

/* Takes the first push behind ref `after` whose deadline is reached. A join stays counted in
 * n_joins: the server is still busy with it. Return: false when there is none; then next_deadline
 * is exact. */
bool pending_expire(struct pending *p, uint64_t now, uint64_t after, struct pending_push *ret);

/* Replies come in order: whatever was sent by `sent_ms` has been dealt with, so timed-out joins
 * from then are owed no more. */
void pending_settle(struct pending *p, uint64_t sent_ms);
