/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The server of the random stories about presence: it reads the hub's frames in the order in which
 * they came on each link, answers, refuses, forgets; keeps who is there; and tells all channels
 * that have presence, as the server does.
 */
#include "hub_fixture.h"

enum { TOPICS = 5, ENTRIES = 64, VIEW_MAX = 100 };

/* What stories are about. One of them is public and private under the same name; of one the
 * server's policies do not show the presence. */
extern const struct story_topic {
	const char *name;
	bool is_private, denied;
} story_topics[TOPICS];

/* Return: TOPICS for none. */
unsigned story_topic(const char *name, bool is_private);

/* An entry as watchers are to see it; the state as render() says it. */
struct seen {
	char key[64], ref[64], state[64];
};

struct view {
	struct seen at[VIEW_MAX];
	unsigned n;
};

struct seen *view_find(struct view *v, const char *key, const char *ref);

/* `draw`: where chance comes from. */
void story_server_start(unsigned (*draw)(unsigned n));
/* Answers one frame, on whatever link; `kind`: with success. Return: false: there was none. */
bool story_server_answer(bool kind);
/* Somebody outside comes, changes or goes; a channel is closed. */
void story_server_outside(void);
void story_server_close(void);
/* Links of which it has not heard that they are gone. */
void story_server_notice_ends(void);
/* Who is there, as a watcher is to see it. */
void story_server_view(unsigned topic, struct view *ret);
/* Who is there through the hub: the servers's keys and states, ref is not filled. */
void story_server_ours(unsigned topic, struct view *ret);
/* No channel got more presence calls than the server takes. */
void story_server_check_calls(void);
