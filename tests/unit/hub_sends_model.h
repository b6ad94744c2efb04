/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What must be true of sends, kept from what peers ask and get and what leaves for the server
 * alone. Message n says its number: as a map {"n":n}, as a number, or as a binary "n".
 */
#include "hub_fixture.h"

enum {
	SENT_TOPICS = 5, /* "a" to "e"; the last two are private */
	SENT_SENDS = 700,
	SENT_KEPT_MS = 60000,
};
enum sent_payload { SENT_MAP, SENT_NUMBER, SENT_BIN };

struct sent {
	unsigned sender, topic;
	uid_t uid;
	char event;
	enum sent_payload payload;
	bool is_named, wants_answer;
	char via; /* as asked: 'a'uto, 'w's, 'h'ttp */
	/* what left */
	unsigned n_given;
	char way;        /* 'w' or 'h', once it has left */
	bool away;       /* in a request without an answer */
	bool returned;   /* nothing of it was done: it may leave again */
	bool acked;      /* the server said so, in time */
	bool barred;     /* its sender may not send it any more */
	bool refused;    /* the server has refused it, with or without a word */
	unsigned status; /* that of its last request */
	bool comes_back; /* the server has handed it out */
	unsigned char copies[FAKE_PEERS];
	/* what was answered */
	bool ended;
	char outcome[16];
	uint64_t ended_at_ms;
};

extern struct sent sent_all[SENT_SENDS]; /* from 1 on */
extern unsigned sent_n;

void sent_start(void);
bool sent_is_private(unsigned topic);
void sent_attached(struct fake_peer *p, uid_t uid);
/* To be called by the fixture with each message. */
void sent_on_message(struct fake_peer *p, const struct rtbp_msg *m);
/* Other rules from now on: who may write to a topic; `differ`: from those before. */
void sent_rules(bool (*may)(uid_t uid, unsigned topic), bool differ);
/* What the next request of the peer is about, and its id. */
uint32_t sent_subscribes(struct fake_peer *p, unsigned topic, char events, bool self);
uint32_t sent_unsubscribes(struct fake_peer *p, unsigned topic); /* SENT_TOPICS: all */
uint32_t sent_asks_outcome(struct fake_peer *p, unsigned send);
uint32_t sent_asks(struct fake_peer *p);
uint32_t sent_asks_send(struct fake_peer *p, unsigned send);
/* A further message; its number. */
unsigned sent_new_send(struct fake_peer *p, unsigned topic);
/* Looks at what has left since the last look. */
void sent_look(void);
/* Which message a frame carries; 0: none. */
unsigned sent_frame_send(const struct line *f);
/* The messages of a request, at most 32. Return: how many. */
unsigned sent_post_sends(const struct line *post, unsigned *ret);
/* The request is going to be answered so; it has been: the outcomes must be there. */
void sent_answers(const struct line *post, unsigned status, bool is_returned);
void sent_answered(const struct line *post);
/* The ack came: the outcome must be there, and everybody must have what he should. */
void sent_acked(unsigned send);
/* Message n has just been handed out to a joined channel. */
void sent_came_back(unsigned send);
/* All is over: each was answered, and once. */
void sent_check_end(void);
/* The hub's channel of this topic; NULL: there is none. */
struct chan *sent_chan(unsigned topic);
