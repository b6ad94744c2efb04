/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The client's own tokens: one durable wish for all topics (the first of the list, always there),
 * and one for each topic that has its own.
 *
 * A slot has up to four wishes:
 *
 *     next     to be said        --said-->     asking
 *     asking   said, no answer   --taken-->    holds       (the one before is wiped)
 *                                --refused-->  wiped, when another one holds; else refused
 *     holds    in force, on this attachment (also when the daemon said that it has ended)
 *     refused  none is in force: nothing that needs it may be asked for, because the daemon would
 *              do it with its own identity
 *
 * With the end of the attachment the newest of them is the next one again. So a slot without
 * `holds` keeps what depends on it back until `asking` is decided.
 *
 * Tokens lie in memory that is wiped before it is freed. In the send queue nothing is put behind
 * one, so that the queue never moves while it holds one, and is wiped when it was written.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "libclient/include/rtbridge/rtbridge.h"
#include "proto/rtbp_msg.h"

struct rtbc_topic;

enum {
	RTBC_TOKEN_TEXT_MAX = 512,
	RTBC_TOKEN_AGAIN_MS = 1000, /* between two questions that could not be decided, at least */
	RTBC_TOKEN_MOST_MS = 60000, /* whatever the daemon says */
};

/* What somebody is to be told; made with the wish, so that telling needs no memory. */
struct rtbc_token_told {
	TAILQ_ENTRY(rtbc_token_told) link; /* client->tokens_told */
	rtb_token_fn fn;
	void *user;
	int error;
	enum rtb_token_state state;
	int64_t expires;
	char text[RTBC_TOKEN_TEXT_MAX];
	char name[]; /* "": for all topics */
};

struct rtbc_token_wish {
	struct rtbc_token_told *told; /* NULL: nobody waits (any more) */
	size_t size;                  /* 0: no token, which clears */
	char bytes[];
};

struct rtbc_token {
	TAILQ_ENTRY(rtbc_token) link; /* client->tokens */
	struct rtbc_token_wish *next, *asking, *holds, *refused;
	uint64_t serial; /* client->n_tokens_taken when one was taken last */
	int64_t say_at;  /* monotonic ms: `next` not before; -1: at once */
	char refused_text[RTBC_TOKEN_TEXT_MAX];
	char name[]; /* of the topic; "": for all */
};

TAILQ_HEAD(rtbc_token_list, rtbc_token);
TAILQ_HEAD(rtbc_token_told_list, rtbc_token_told);

/* Whether something for a topic may be asked for. */
enum rtbc_gate {
	RTBC_GATE_OPEN,
	RTBC_GATE_WAIT,    /* its token is being decided; rtbc_revive() comes then */
	RTBC_GATE_REFUSED, /* its token is bad */
};

/* token.c */

/* The slot for all topics; `token` NULL: none. Return: 0; RTB_E_TOKEN, -ENOMEM. */
int rtbc_tokens_init(struct rtb_client *c, const char *token);
void rtbc_tokens_free(struct rtb_client *c);
/* @ret_text: with REFUSED why; borrowed. */
enum rtbc_gate rtbc_token_gate(const struct rtb_client *c, const char *topic,
			       const char **ret_text);
/* Whether `topic` acts with the token of this slot. */
bool rtbc_token_governs(const struct rtb_client *c, const struct rtbc_token *token,
			const char *topic);
/* Another one after each token that was taken for the topic: to tell what was asked for before. */
uint64_t rtbc_token_serial(const struct rtb_client *c, const char *topic);
/* Codes of what has ended, or was refused, for want of a (better) token. */
bool rtbc_is_token_code(const char *code);
/* That of the access rules alone. */
bool rtbc_is_forbidden(const char *code);
/* The error of a wait that ended with this code. */
int rtbc_refused_error(const char *code);
/* Wipes and frees; NULL is fine. */
void rtbc_token_drop(struct rtbc_token_wish *wish);
/* Ends the wait of whoever is to be told; the callback follows by rtbc_tokens_report(). */
void rtbc_token_tell(struct rtb_client *c, struct rtbc_token_wish *wish, int error,
		     const char *text);
void rtbc_token_tell_state(struct rtb_client *c, struct rtbc_token_wish *wish,
			   enum rtb_token_state state, int64_t expires);
void rtbc_tokens_report(struct rtb_client *c);
/* Frees the slot of a topic that has no wish any more. */
void rtbc_token_reap(struct rtb_client *c, struct rtbc_token *token);
/* Nobody waits for what was to be told to `user` any more. */
void rtbc_token_forget(struct rtb_client *c, rtb_token_fn fn, const void *user);

/* token_wire.c */

/* How many members hello gets for it: 0 or 1. */
uint32_t rtbc_token_in_hello(const struct rtb_client *c);
/* Appends that member: the last one. */
void rtbc_token_pack_hello(struct rtb_client *c);
/* That hello is on its way. */
void rtbc_token_hello_sent(struct rtb_client *c);
/* Would the answer to hello let go out what needs a token without it? Then this is a daemon from
 * before tokens. Return: 0, RTB_E_TOKEN with its text. */
int rtbc_tokens_check_hello(struct rtb_client *c, struct rtbp_val result);
void rtbc_tokens_on_hello(struct rtb_client *c, struct rtbp_val result);
/* Detaches. Return: 1; 0: it is not about a token. */
int rtbc_token_hello_refused(struct rtb_client *c, const struct rtbp_error_info *e);
/* Says what the daemon has not been told yet. Return: as rtbc_subs_flush(). */
int rtbc_tokens_flush(struct rtb_client *c);
void rtbc_tokens_tick(struct rtb_client *c, int64_t now_ms);
void rtbc_tokens_on_detach(struct rtb_client *c);
void rtbc_on_token_answer(struct rtb_client *c, struct rtbc_token *token, struct rtbp_val result);
void rtbc_on_token_error(struct rtb_client *c, struct rtbc_token *token,
			 const struct rtbp_error_info *e);
/* An `error` notification about a token. Return: whether it is one (and was told). */
bool rtbc_on_token_ended(struct rtb_client *c, struct rtbp_val params,
			 const struct rtbp_error_info *e);

/* revive.c: what tokens end, and what comes back with the next one */

/* The slot's token was taken, cleared or refused: asks for what has waited for that, and unless it
 * was refused for what had ended or been refused over the one before. */
void rtbc_revive(struct rtb_client *c, const struct rtbc_token *token, bool is_taken);
/* The daemon has ended the topic's subscription over a token, or because its access rules are
 * others now. The topic is set and reported by the caller. Return: whether it is asked for again
 * already, by a request that was on its way. */
bool rtbc_topic_ended(struct rtbc_topic *t, const char *code, const char *text);
/* That was news from before the token that holds now: asks again. */
void rtbc_topic_ask_if_newer(struct rtbc_topic *t, const char *code);
void rtbc_tracker_ask_if_newer(struct rtb_tracker *tr);
/* Tells the gap between that end and now, if there is one. */
void rtbc_topic_tell_missed(struct rtbc_topic *t);
