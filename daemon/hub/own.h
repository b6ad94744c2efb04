/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * own: the daemon's own token, where it has one (hub_conf.has_own_token): what carries it, what waits
 * for it, what the server thinks of it.
 *
 *   hub_set_token() -> in force: joins and HTTP requests of the daemon's identity carry it;
 *                      push.c tells the joined channels, a few at a time; park_own lets one join
 *                      test it, the others follow
 *   its end by the clock, hub_set_token(NULL), the server's refusal
 *        -> nothing is in force: park_own lasts, and says why; joins wait in it, HTTP requests in
 *           their queue, until the next hub_set_token(). Channels that are joined stay so: the server
 *           ends them when it will
 *
 * Without has_own_token the daemon's identity goes with the API key, and nothing here does anything.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/timers.h"
#include "hub/request.h"

struct chan;
struct hub;
struct join;
struct peer;
struct rtbp_buf;
struct rtbp_val;
struct secret;

enum {
	/* Its end is a moment on a clock that goes on while the machine sleeps: looked at again at
	 * least so often. */
	OWN_LOOK_MS = 60000,
	OWN_CODE_MAX = 32,
	OWN_TEXT_MAX = 256,
	REFRESH_TIMEOUT_MS = 60000,
	ASKED_PAUSE_MS = 10000, /* between two wishes for another token, or for a new connection */
};

/* Kept as long as an answer to something that carries it may quote it. */
struct own_token {
	struct secret *bytes;
	uint64_t serial;
	uint64_t ends_boot_ms; /* clock_boot() */
	unsigned n_refs;
};

/* Who waits for the outcome of `refresh_token`. */
struct refresh_asked {
	TAILQ_ENTRY(refresh_asked) entry;
	struct request request;
	struct peer *peer;
	struct timer timer;
};
TAILQ_HEAD(refresh_asked_list, refresh_asked);

struct own {
	struct own_token *token; /* in force; NULL: none is */
	struct timer end_timer;
	bool has_news;  /* a join waits in park_own and its subscribers have not been told why */
	bool has_ended; /* just now: trials that need it are called off at the turn's end */
	bool tells;     /* the owner has to be told of the refusal below, at the turn's end */
	uint64_t refused_serial;
	char refused_code[OWN_CODE_MAX], refused_text[OWN_TEXT_MAX];
	struct own_status {
		char source[16], state[16], role[64], code[OWN_CODE_MAX], text[OWN_TEXT_MAX];
		int64_t since_wall_ms, ends_wall_ms; /* ends: -1: none */
		uint64_t next_try_boot_ms;           /* clock_boot(); UINT64_MAX: none */
	} status;                                    /* source "": there is none */
	uint64_t key_serial; /* of the API key in use: how often it has been replaced */
	struct refresh_asked_list refreshes;
	uint64_t refresh_again_ms, reconnect_again_ms; /* such a wish is not carried out before */
};

void own_init(struct hub *hub);
void own_done(struct hub *hub);
/* At the turn's end: its end by the clock, and those that wait hear why. */
void own_run(struct hub *hub);

/* In force now; NULL: none. Borrowed for the turn. */
struct own_token *own_token(struct hub *hub);
struct own_token *own_ref(struct own_token *t); /* NULL is fine */
void own_unref(struct own_token *t);
/* The join goes with it, and waits without it. */
bool own_is_for(const struct join *j);
/* ... and there is none now: it waits until another comes. */
bool own_is_missing_for(const struct join *j);
/* What is sent to it by HTTP waits. */
bool own_is_missing_for_chan(const struct chan *ch);
/* The server's word, in an answer to something that carried the token with this serial. */
void own_was_refused(struct hub *hub, uint64_t serial, const char *code, const char *text);
/* Until the next attempt to get another one, from now; -1: not known, or one is in force. */
int64_t own_next_ms(const struct hub *hub);
/* Link 0 was refused at the door (401). */
void own_key_refused(struct hub *hub);

/* own_status.c */
bool own_has_status(const struct hub *hub);
/* Packs the map `token` of a status. */
void own_status_pack(const struct hub *hub, struct rtbp_buf *b);
/* "; token: ..." for the one line, or "". */
void own_status_line(const struct hub *hub, char *ret, size_t size);
/* Requests of clients with the right `admin`. */
void reconnect_request(struct peer *p, uint32_t id, bool wants_answer);
void refresh_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params);
void refresh_asked_free(struct refresh_asked *r);
/* A token has come, or the attempt to get one has ended. */
void refreshes_answer(struct hub *hub);

/* push.c: joined channels get the token that lives longer: few at a time, those first whose own ends
 * first. */
enum { PUSHES_PER_S = 15, PUSHES_BURST = 5 }; /* 20 in any second, over all links */
/* It may need a better one. */
void push_look(struct join *j);
/* Sends what may be sent now. */
void pushes_run(struct hub *hub);
