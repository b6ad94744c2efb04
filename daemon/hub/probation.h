/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Joins that may fail. The server answers a refused join after 5 s, and for so long the whole
 * connection stands still; too many joins in a second, and it closes it. So:
 *
 *   link_take_turn() -> verdicts.c: proven? -> goes, private ones by twos
 *                    -> its user's joins have failed lately? -> probation.c: tried on a connection
 *                       apart first, one at a time, each user in turn; joined in its place then
 *                    -> else goes, one such join at a time on each link
 *   a refusal        -> verdicts.c: remembered for that user; user.c: its user's record;
 *                       park.c: a reason that concerns all, or all public ones: they wait, and one
 *                       tests again
 *
 * A join is proven when it is public with a token that the server has taken, or when the same
 * (topic, private, identity) succeeded within the last hour.
 *
 * Where no connection apart can be had ([limits] links = 1, or all in use), such joins go in their
 * place, one at a time, and only so many failures are borne: of one user, and of all.
 */
#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/timers.h"
#include "proto/rtbp_val.h"

struct chan;
struct hub;
struct join;
struct link;
struct reason;
struct token;

enum {
	PROVEN_MS = 3600000,
	/* Of one user on one link: rights may have been taken away since, and each refusal stops
	 * the link. With the pacing of joins more would hardly be faster. */
	PRIVATE_UNANSWERED_MAX = 2,
	REFUSED_MIN_MS = 10000, /* a refusal answers for so long; doubles with each in a row */
	REFUSED_MAX_MS = 300000,
	REFUSED_FORGET_MS = 900000,
	VERDICTS_MAX = 4096,        /* of each kind; the oldest goes first */
	REFUSALS_OF_USER_MAX = 512, /* by joins of one user: it pushes out its own */
	PROVEN_OF_USER_MAX = VERDICTS_MAX / 2,
	RECORD_MS = 600000, /* so long a user's joins are tried apart after a failure */
	BUDGET_MS = 300000, /* in which ... */
	BUDGET_OF_USER = 2, /* ... so many failures of one user are borne */
	BUDGET_OF_ALL = 4,
	PROBATION_IDLE_MS = 30000,
	PROBATION_LINK_MS = 15000,  /* for its connection to be there; else in their place ... */
	TRIAL_AGAIN_MS = 5000,      /* after an answer that says nothing of it */
	PROBATION_AGAIN_MS = 60000, /* ... for so long */
	PARK_MAX_MS = 300000,
};

/* ---- verdicts.c: what the server has said, by whom it was asked. Pure ---- */

struct verdict_key {
	uid_t uid; /* 0 among the proven ones: they hold for all */
	uint64_t identity;
	bool is_private;
	struct rtbp_str topic;
};

struct verdict {
	RB_ENTRY(verdict) by_key;
	TAILQ_ENTRY(verdict) by_age;
	struct verdict_key key;
	uid_t by; /* whose join it came from */
	char *topic;
	uint64_t at_ms, until_ms;
	uint32_t pause_ms;
	char code[32], text[192];
};

RB_HEAD(verdict_tree, verdict);
struct verdicts {
	struct verdict_tree tree;
	TAILQ_HEAD(, verdict) ages; /* oldest first */
	unsigned n;
	bool are_refusals; /* else: of what succeeded */
};

int verdict_key_compare(struct verdict *a, struct verdict *b);
RB_PROTOTYPE(verdict_tree, verdict, by_key, verdict_key_compare)
void verdicts_init(struct verdicts *v, bool are_refusals);
void verdicts_done(struct verdicts *v);
/* Notes it, as of now, as learned by a join of @by. Without memory it is forgotten. */
void verdicts_put(struct verdicts *v, const struct verdict_key *key, uid_t by, uint64_t now,
		  const char *code, const char *text);
/* What still holds; NULL: nothing. */
const struct verdict *verdicts_find(const struct verdicts *v, const struct verdict_key *key,
				    uint64_t now);
void verdicts_forget(struct verdicts *v, const struct verdict_key *key);
/* Of topics; what is known of tokens stays. */
void verdicts_forget_identity(struct verdicts *v, uint64_t identity);
void verdicts_forget_topics(struct verdicts *v); /* of all identities */
/* A token has no topic: its bytes are hashed into one that no client can name. @room: for that. */
struct verdict_key verdict_key_of_token(const struct hub *hub, struct rtbp_str bytes, uid_t uid,
					char room[48]);
void verdict_name_token(const struct hub *hub, const struct token *t, char ret[48]);

/* ---- user.c: what is known of a local user ---- */

struct user {
	RB_ENTRY(user) by_uid;
	uid_t uid;
	unsigned n_peers, n_bindings; /* of all its clients, as the two that follow */
	size_t send_bytes;
	uint64_t record_until_ms; /* a join of it failed: its unproven ones are tried apart */
	uint64_t failed_at_ms[BUDGET_OF_USER]; /* the latest ones; 0: none */
	uint64_t last_turn;              /* when it got a join, as a number that grows with each */
	uint64_t report_turn, report_ms; /* report.c: the last one, and that of those that wait */
	TAILQ_HEAD(, trial) trials;
	unsigned n_posts;   /* HTTP requests on their way */
	unsigned n_waiting; /* channels that wait for one */
	unsigned n_outcomes;
	TAILQ_HEAD(, outcome) ended; /* of those, oldest first (outcome.c) */
};

RB_HEAD(user_tree, user);
int user_uid_compare(struct user *a, struct user *b);
RB_PROTOTYPE(user_tree, user, by_uid, user_uid_compare)
/* Finds or makes it; without memory NULL, which the functions below take. */
struct user *user_get(struct hub *hub, uid_t uid);
bool user_is_owner(const struct hub *hub, uid_t uid);
/* One user may have half of what there is for all, so that there is something left for others. */
bool user_may_have(const struct hub *hub, const struct user *u, size_t has, size_t all);
bool user_has_record(const struct user *u, uint64_t now);
/* One of its joins was refused: its unproven ones are tried apart for a while. */
void user_failed(struct hub *hub, struct user *u);
/* ... and all others had to wait: it counts against what can be borne. */
void user_stalled(struct hub *hub, struct user *u);
/* When a further failure of it can be borne where all would stand still: now, or later. */
uint64_t user_budget(const struct hub *hub, const struct user *u);
/* Forgets those of whom nothing needs to be known. */
void users_trim(struct hub *hub);
void users_free(struct hub *hub);

/* ---- probation.c ---- */

struct trial {
	TAILQ_ENTRY(trial) entry; /* in its user's list */
	struct hub *hub;
	struct user *user;   /* in whose queue it is */
	uid_t payer;         /* who is charged with its failure */
	struct join *real;   /* whose place is being tried out, or */
	struct token *token; /* what is being tried out; neither: it was dropped, and its answer
			      * is still to come */
	struct join *join;   /* the trial's own; NULL: it waits for its turn */
	char token_name[48]; /* of the verdict about the token */
	uint64_t not_before_ms;
	bool in_place; /* the real one goes itself: there is no connection apart */
};

struct probation {
	struct trial *current; /* one at a time */
	struct link *link;     /* NULL: there is none now */
	uid_t last_uid;        /* whose turn it was last */
	uint64_t no_link_until_ms;
	uint64_t failed_at_ms[BUDGET_OF_ALL];
	struct timer link_timer;  /* to be there by then */
	struct timer again_timer; /* the next trial may go */
	struct timer idle_timer;  /* the link is not needed any more */
};

void probation_init(struct hub *hub);
void probation_done(struct hub *hub);
/* May this join, whose turn it is, be sent? If not, whatever is to come first is under way. */
bool probation_lets_go(struct join *j);
bool join_is_proven(const struct join *j);
/* Somebody else wants it, too: it goes by the one of them whose joins have not failed. */
void probation_asked_by(struct join *j, uid_t uid);
/* Its phx_join was sent. */
void probation_going(struct join *j);
/* The server has answered its phx_join, or will not: then one of the two that follow. */
void probation_answered(struct join *j);
void probation_succeeded(struct join *j);
/* @stalls_others: it was in its place, and all others there had to wait. */
void probation_refused(struct join *j, const struct reason *reason, const char *text,
		       bool stalls_others);
/* It works, or has until now: worth something for an hour. */
void join_remember_success(struct join *j);
void join_forget_success(struct join *j);
/* It ends, is left, or waits no longer. */
void probation_forget_join(struct join *j);
/* The token is to be tried. @waiting: the user who waits for that: another one than who brought it
 * does not stand in that one's queue. Return: false: no memory. */
bool trial_token(struct token *t, uid_t waiting);
/* No connection apart is to be had: what is being tried goes in its place. */
void probation_give_up_link(struct hub *hub);
struct verdict_key join_verdict_key(const struct join *j, uid_t uid);
/* Whether the refusal says something about the join, not about the project or the moment. */
bool join_is_at_fault(const struct join *j, const struct reason *reason);
/* What it was for is gone, or known: forgotten, but not before the server's answer. */
void trial_drop(struct trial *t);
void trial_free(struct trial *t);
void probation_on_link(struct link *link); /* online, or not any more */
/* The daemon has no token of its own (own.h): what would be tried with it makes no others wait. */
void probation_without_own(struct hub *hub);
/* Next one. */
void probation_run(struct hub *hub);
/* Is there, or can there be, a connection apart? */
bool probation_has_link(struct hub *hub);
/* A link is needed: the one of the trials may be had, if none is running. */
bool probation_give_link(struct hub *hub);

/* ---- trial.c ---- */

/* Makes its join. Return: false: no memory. */
bool trial_make_join(struct trial *t, struct link *link);

/* ---- park.c: reasons that concern many joins ---- */

struct park {
	uint64_t until_ms; /* 0: not parked */
	uint32_t pause_ms;
	bool refuses;   /* what comes is refused with these words, without waiting */
	bool lasts;     /* until something lifts it: until_ms is no time */
	uint64_t probe; /* the join that tests again; 0: none is out */
	char code[32], text[192];
};

/* The server refused a join for this reason. Return: NULL if it concerns no others. */
bool park_concerns(const struct join *j, const struct reason *reason);
struct park *park_on_refusal(struct join *j, const struct reason *reason, const char *text);
void park_on_success(struct join *j);
void parks_on_online(struct hub *hub);
/* The park that this join has to wait in; NULL: none. Else @ret_at is when it may be over. One is
 * let through when its time has come: it must be sent then. */
struct park *park_of(struct join *j, uint64_t *ret_at);
/* It is being sent. */
void park_going(struct join *j);
void park_forget_join(struct join *j);
