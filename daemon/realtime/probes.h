/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * probes: who waits for the answer to a heartbeat, in order of asking. Private to session.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "realtime/session.h"

struct probe {
	uint64_t ref; /* of the heartbeat; 0: one that is still to be sent */
	session_reply_fn fn;
	void *ctx;
	uint64_t cookie;
};

struct probes {
	struct probe *at; /* n of them, from `first` on */
	size_t first, n, cap;
};

void probes_done(struct probes *p);

/* Return: 0, -ENOMEM. */
int probes_add(struct probes *p, session_reply_fn fn, void *ctx, uint64_t cookie);
void probes_drop_last(struct probes *p);

/* A heartbeat went out: those who still waited for one wait for its answer now. */
void probes_assign(struct probes *p, uint64_t ref);

/* Takes the first one that the answer to heartbeat `ref` satisfies. Return: false: none. */
bool probes_take(struct probes *p, uint64_t ref, struct probe *ret);
