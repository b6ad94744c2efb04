/* SPDX-License-Identifier: MIT */
#pragma once
/* request: one of a peer's that waits for something. In a peer's list from arrival to answer, so
 * that `sync` knows what came before it. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum request_kind {
	REQUEST_SUBSCRIBE,
	REQUEST_SEND,
	REQUEST_SYNC,
	REQUEST_TRACK,
	REQUEST_AUTH,
	REQUEST_HELD,
	REQUEST_REFRESH,
};

struct request {
	TAILQ_ENTRY(request) entry;
	enum request_kind kind;
	uint32_t id;
	bool wants_answer; /* false: it came as a notification */
};

TAILQ_HEAD(request_list, request);
