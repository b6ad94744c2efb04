/* SPDX-License-Identifier: MIT */
#pragma once
/* What stories about sends share: binary payloads, the server's side of HTTP, what a peer got. */
#include "hub_fixture.h"

/* One request with a bin payload; `params`: JSON of a map of 1 to 14 members, without payload. */
void peer_ask_bin(struct fake_peer *p, uint32_t id, const char *params, const char *bytes);
/* The server's hands out what the request says, as the real one does: to every channel that is
 * joined here with the same topic and `private`, whoever sent it; a batch as text with the id, a
 * binary one without. */
void post_echoes(const struct line *post);
/* ... and answers 202. */
void post_taken(struct line *post);
/* Not one byte of it left. */
void post_unreachable(struct line *post);
/* The next one that the test has not looked at, taken; NULL: there is none. */
struct line *any_post(void);
struct line *any_frame(void);

/* What a peer has got since the test looked last, and the test has looked now. */
struct haul {
	unsigned n_copies;   /* `broadcast` notifications */
	unsigned n_answers;  /* responses */
	bool copy_is_behind; /* a copy came behind an answer */
	char copy[600], answer[600];
};
void haul(struct fake_peer *p, struct haul *ret);
/* The peer asks with request `id` what became of `name`; the answer must match. */
void expect_outcome(struct fake_peer *p, uint32_t id, const char *name, const char *pattern);
