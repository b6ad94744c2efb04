/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A server that holds everything of a connection for 5 s before it refuses a join on it, as the
 * real one does: what comes behind waits. It answers whatever the hub sends, in the order of each
 * connection, heartbeats too; the clock moves in stall_run() only.
 */
#include "hub_fixture.h"

enum { STALL_MS = 5000, STALL_REFUSALS = 4096 };

struct stall {
	/* The words that refuse this join; NULL: it succeeds; stall_never: no answer. Asked when
	 * its turn has come. */
	const char *(*judge)(const struct line *join);
	bool silent[LINKS_MAX];  /* attempts to connect get no answer */
	bool refuses[LINKS_MAX]; /* attempts to connect are refused */
	struct stall_link {
		size_t *queue; /* indices into rig.frames */
		size_t n, cap;
		uint64_t epoch, free_at_ms; /* 0: nothing is held */
		char words[200];            /* of the refusal that holds it ... */
		unsigned refusal;           /* ... this one */
		unsigned n_joins, n_bad;    /* phx_joins that came, and those of them refused */
	} links[LINKS_MAX];
	struct stall_refusal {
		unsigned link;
		uint64_t at_ms;            /* when it began to hold */
		char topic[48], words[24]; /* how they begin */
		bool said; /* else the connection ended before, or the hub waited no longer */
	} refusals[STALL_REFUSALS];
	unsigned n_refusals;
	size_t next; /* the first frame that it has not seen */
};

extern struct stall stall;
extern const char stall_never[];

/* After rig_start(); stall_done() before rig_teardown(). */
void stall_start(const char *(*judge)(const struct line *join));
void stall_done(void);
void stall_run(uint64_t ms);
/* Return: how long the answer to the request took, in ms; `max_ms`: there is none. */
uint64_t stall_answer(struct fake_peer *p, uint32_t id, uint64_t max_ms);
/* How long refusals held a link since `from`, in the worst `window_ms` of that time. */
uint64_t stall_worst(unsigned link, uint64_t from, uint64_t window_ms);
/* phx_joins that wait for an answer on the link. */
unsigned stall_outstanding(unsigned link);
/* Is the join's topic, without "realtime:", begun with this? */
bool stall_is(const struct line *f, const char *prefix);
