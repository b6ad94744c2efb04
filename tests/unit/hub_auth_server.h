/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The server of the random stories about tokens: it knows which are good, whose they are, and who
 * may have private channels; what it sends says whose channel it was sent to, so that each message
 * that reaches a client can be looked at.
 */
#include "hub_fixture.h"

enum {
	STORY_IDENTITIES = 4, /* 0: the daemon's */
	STORY_TOKENS = 60,
	STORY_TABLES = 4, /* t0, t1, ... */
};

extern const char *const story_topics_of_auth[];
enum { STORY_TOPICS = 5 };

struct story_token {
	char *text;
	unsigned identity;
	bool forged, revoked;
	int64_t exp_s;
};

extern struct story_token story_tokens[STORY_TOKENS];
extern unsigned n_story_tokens;

void auth_server_start(unsigned (*draw)(unsigned n));
void auth_server_done(void);
/* A further token. Return: its number; STORY_TOKENS: there are enough. */
unsigned auth_server_token(unsigned identity, bool forged, int64_t exp_in_s);
/* Answers one frame; `kind`: nothing passing goes wrong. Return: false: there was none. */
bool auth_server_answer(bool kind);
/* Says something to one of its channels: a message, a row, who is there. */
void auth_server_says(void);
/* Closes one: over its token, over a right, for no reason. */
void auth_server_closes(void);
/* Connections that were asked for are there. */
void auth_server_opens(void);
