/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A hub between a script and a clock that only the test moves: the test is the server at one end
 * and the attached processes at the other. Both ends write down what they get as text, so that a
 * story reads as a list of lines.
 *
 * In all texts ' stands for ", in patterns * for anything. Frames to the server are written as they
 * leave ([join_ref,ref,topic,event,payload], those of serializer 1.0.0, too); a binary broadcast as
 * [3,join_ref,ref,topic,event,payload]; messages to a peer as JSON of the whole array, a bin as
 * {'bin':'hex'}.
 *
 * After each step the hub's turn is ended and its lists are counted against each other
 * (hub_check.c). Heartbeats are answered at once unless `mute`.
 */
#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hub/hub.h"
#include "hub/impl.h"
#include "suite.h"

/* For what is asked thousands of times: ck_assert() writes a record for each success. */
#define MUST_MSG(condition, ...)                   \
	do {                                       \
		if (!(condition))                  \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)
#define MUST(condition) MUST_MSG(condition, "not true: %s", #condition)

enum { FAKE_PEERS = 40, FAKE_IDS = 1024 };

/* One frame or message, as text. */
struct line {
	char *text;
	bool taken;
	/* of a frame to the server */
	unsigned link;
	uint64_t at_ms, epoch, join_ref, ref;
	char topic[300], event[300];
	bool answered;
};

struct lines {
	struct line *at;
	size_t n, cap, next; /* next: the first that the test has not looked at */
};

struct fake_peer {
	struct peer *peer;
	struct lines got;
	bool attached, finished, dropped, paused;
	char *farewell;
	int send_result;      /* what the queue answers; 0: takes it */
	unsigned room;        /* messages taken before send_result counts */
	size_t queued;        /* what its queue is said to hold; 0: a little */
	bool asked[FAKE_IDS]; /* requests without an answer, by id */
	unsigned n_asked;
	/* Called with each message before it is written down; the random story's model. */
	void (*on_message)(struct fake_peer *p, const struct rtbp_msg *m);
};

struct rig {
	struct hub_conf conf;
	struct clock clock;
	struct hub *hub;
	struct secret *apikey;
	uint64_t now;
	bool awake, drained;
	char status[512];
	struct lines frames;
	struct lines posts; /* requests by HTTP: "PATH TYPE TOKEN BODY", a bin as hex */
	struct fake_link {
		uint64_t epoch;           /* of the latest link_open */
		bool is_open, is_closing; /* wire has an attempt; it was told to end it */
		unsigned n_opened;
	} links[LINKS_MAX];
	unsigned at;     /* the link that server_*() mean; answers go to the frame's */
	bool mute;       /* heartbeats are not answered */
	bool probes;     /* the hub's probes for presence are answered like heartbeats */
	bool no_turns;   /* the turn is not ended after each step */
	bool stuck;      /* link_close is not carried out */
	int send_result; /* of link_send */
	int open_result;
	int post_result;
	unsigned n_heartbeats;
	uid_t uid;            /* of the peers that attach from now on; 1000 is the daemon's own */
	int64_t wall_step_ms; /* the wall clock was set */
	struct fake_peer peers[FAKE_PEERS];
	uint64_t slept_ms; /* what clock_boot() is ahead */
};

extern struct rig rig;

/* A Check fixture: a hub that was started, and is online with rig_setup_online(). The teardown
 * closes what is open and frees; with CK_FORK=no a sanitizer sees each leak. */
void rig_setup(void);
void rig_setup_online(void);
void rig_teardown(void);
/* With another configuration; instead of rig_setup(), which allows one link only. */
void rig_start(void (*change)(struct hub_conf *conf));

/* ---- time ---- */
void turn(void);
/* Moves the clock, stopping at each deadline. */
void advance(uint64_t ms);

extern const struct clock rig_clock;
/* The machine sleeps: clock_boot() and the wall clock go on, timers do not. */
void fall_asleep(uint64_t ms);

/* ---- the server ---- */
void server_open(void);
/* The connection ends from outside. */
void server_drop(enum session_fault fault, const char *text);
/* A text frame, a printf format with ' for "; an array is said in the rig's serializer. */
void server_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void server_bytes(bool binary, const void *data, size_t size);
/* Kind 4. */
void server_broadcast(const char *topic, const char *event, const char *payload_json);
/* The next frame must match; it is returned. */
struct line *expect_frame(const char *pattern);
void expect_no_frame(void);
/* Its link has not ended since. */
bool frame_is_current(const struct line *f);
/* Answers a frame; `response` is JSON. */
void server_reply(struct line *frame, bool ok, const char *response);
/* expect_frame() of the join of `topic`, answered with ok. */
struct line *server_join(const char *topic);
/* Answers all frames that the test has not looked at: everything succeeds. */
void server_serve(void);

/* The next request by HTTP must match; it is returned. */
struct line *expect_post(const char *pattern);
void expect_no_post(void);
/* Answers it; status 0: there is no answer. */
void server_answer(struct line *post, unsigned status, const char *body);
/* ... with all that can be said. */
void server_answer_all(struct line *post, const struct hub_answer *a);

/* ---- the peers ---- */
struct fake_peer *peer_attach(void);
/* Attached, hello said and answered. */
struct fake_peer *peer_ready(void);
/* One request; `params` is JSON. Ids are below FAKE_IDS. */
void peer_ask(struct fake_peer *p, uint32_t id, const char *method, const char *params);
void peer_call(struct fake_peer *p, const char *method, const char *params); /* notification */
void peer_frame(struct fake_peer *p, const void *body, size_t size);
void peer_close(struct fake_peer *p);
/* The next message must match. */
const char *expect(struct fake_peer *p, const char *pattern);
void expect_nothing(struct fake_peer *p);
/* Passes over all that the peer has got and the test not looked at. Return: in how many `word` is.
 */
unsigned peer_skip(struct fake_peer *p, const char *word);
void expect_farewell(struct fake_peer *p, const char *error_name, bool drop);
/* subscribe with id 1 to a topic, joined by the server if it is not. */
void peer_join(struct fake_peer *p, const char *topic, const char *broadcast);

/* ---- text ---- */
bool text_matches(const char *pattern, const char *text);
/* " for '; to be freed. */
char *quoted(const char *text);
/* The value as JSON, a bin as {"bin":"hex"}; to be freed. */
char *render(struct rtbp_val v);

/* hub_check.c: counts and lists agree. */
void hub_check(struct hub *hub);
/* hub_wish.c: and no wish is forgotten. */
void hub_check_wish(struct hub *hub, struct join *j);
