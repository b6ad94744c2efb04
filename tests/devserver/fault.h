/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Rules that a test has laid down: "the next 2 join replies of this topic come 300 ms late".
 */
#include <sys/queue.h>

#include "buf.h"

enum ds_rule_op {
	DS_RULE_DELAY_REPLY,
	DS_RULE_DELAY_JOIN, /* the whole socket stands still for it, as in a slow join */
	DS_RULE_DROP_REPLY,
	DS_RULE_REFUSE_JOIN,
	DS_RULE_REFUSE_UPGRADE,
	DS_RULE_HANG_UPGRADE,
	DS_RULE_POSTGRES_ERROR,
	DS_RULE_POSTGRES_DELAY,
	DS_RULE_POSTGRES_REFUSE, /* asked by ds_rules_refuse() */
	DS_RULE_DENY_PRESENCE,   /* stands until it is lifted; asked by ds_rules_deny() */
	DS_RULE_NO_STATE,
	DS_RULE_LATE_LEAVE,
	DS_RULE_REFUSE_REPLAY,
	DS_RULE_REPLICATION,
	DS_RULE_LATE_CLOSE,
	DS_RULE_BAD_UPGRADE,
	DS_RULE_TOKEN, /* asked by ds_auth_lie() */
	DS_RULE_WEB    /* asked by ds_core_web() */
};

/* What becomes of a request to the HTTP API. */
enum ds_web_how {
	DS_WEB_NONE,
	DS_WEB_ANSWER,  /* this answer */
	DS_WEB_GARBAGE, /* bytes that are no HTTP, and the end */
	DS_WEB_DELAY,   /* the answer comes late */
	DS_WEB_SLOW,    /* it comes piece by piece */
	DS_WEB_HALF,    /* half of it, and the end */
	DS_WEB_CLOSE,   /* the connection is reset before the body is read */
	DS_WEB_DROP,    /* it ends after the request, without an answer */
	DS_WEB_HANG,    /* nothing ever comes */
	DS_WEB_CHUNKED, /* it comes in chunks, without a length */
	DS_WEB_ENDLESS  /* a head, and a body that never ends */
};

struct ds_rule {
	TAILQ_ENTRY(ds_rule) link;
	enum ds_rule_op op;
	char *topic;  /* NULL: any */
	char *event;  /* NULL: any */
	char *prefix; /* of the topic; NULL: any */
	char *schema; /* DS_RULE_POSTGRES_REFUSE: exactly these, never NULL there */
	char *table;
	char *text;            /* reason, message or error text; may be NULL */
	int64_t ms;            /* DS_RULE_NO_STATE: -1 swallows it */
	int64_t retry_after_s; /* -1: none */
	int status;
	bool fail; /* DS_RULE_REPLICATION: it never is ready */
	bool stale; /* DS_RULE_NO_STATE: the state as it was at the join; DS_RULE_TOKEN: the old token */
	bool read; /* DS_RULE_DENY_PRESENCE: these are denied */
	bool write;
	int64_t count; /* uses left; -1: without end */
	/* DS_RULE_WEB; @status 0: the true answer, where there is one */
	enum ds_web_how how;
	char *path; /* pattern; NULL: any */
	char *body;
	char *type;
	char *headers; /* lines, each with CRLF */
	int64_t piece_bytes;
	bool work;  /* the request is carried out all the same */
	bool close; /* the connection ends behind the answer, which does not say so */
};

TAILQ_HEAD(ds_rules, ds_rule);

/** struct ds_rule_hit - what the rule that matched says; @text is NULL or a copy to free */
struct ds_rule_hit {
	int64_t ms;
	int64_t retry_after_s;
	int status;
	bool fail;
	bool stale;
	char *text;
};

/** ds_rules_use() - the first rule of this kind that matches, used up once; @event may be NULL */
bool ds_rules_use(struct ds_rules *rules, enum ds_rule_op op, struct ds_str topic,
		  struct ds_str event, struct ds_rule_hit *ret);
/** ds_rules_deny() - may nobody of this topic read, or write, presence? */
bool ds_rules_deny(const struct ds_rules *rules, struct ds_str topic, bool write);
/** ds_rules_refuse() - shall a binding with just these names be refused? Used up once */
bool ds_rules_refuse(struct ds_rules *rules, const char *schema, const char *table);
/** ds_rules_used() - counts a use of @r, which may be its last one */
void ds_rules_used(struct ds_rules *rules, struct ds_rule *r);
void ds_rules_clear(struct ds_rules *rules);
