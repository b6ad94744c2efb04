/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * reasons: what the server's texts, close codes and HTTP answers mean. Tables and look-ups, nothing
 * else: no state, no policy beyond the figures in the rows.
 */
#include <stdint.h>

#include "realtime/session.h"

/* ---- why a join was refused, or a channel ended ---- */

enum reason_class {
	REASON_TRANSIENT,         /* the server's own trouble: try again */
	REASON_PERMANENT,         /* the same request will be refused again */
	REASON_AUTH,              /* the token: expired, malformed, signature */
	REASON_JOIN_RATE,         /* joins per second of the project; the link is closed too */
	REASON_RATE,              /* messages per second of the project */
	REASON_PRESENCE_RATE,     /* presence calls of this channel or of the project */
	REASON_TOO_MANY_CHANNELS, /* on this link */
	REASON_TOO_MANY_USERS,    /* connections of the project */
	REASON_PRIVATE_ONLY,      /* the project takes no public channels */
	REASON_PROJECT,           /* the whole project: suspended, not there */
	REASON_OUTAGE,  /* the project's database, or the server: each other join meets it, too */
	REASON_CRASH,   /* the channel process died */
	REASON_UNKNOWN, /* a text that the table does not have: treat as transient */
};

enum { REASON_NEVER = -1 };

struct reason {
	enum reason_class class;
	const char *code;   /* short word for people and programs */
	int32_t retry_ms;   /* least delay before the next join; REASON_NEVER: not until something
			       changes (token, options, configuration) */
	const char *advice; /* what to do, as one part of a sentence: no capital, no full stop */
};

/**
 * reason_find() - the row for a server's text
 * @text: `response.reason` of a refused join ("Code: sentence"), or the `message` of a `system`
 *        error before a phx_close (the bare sentence), or the reason of a phx_error
 *
 * Return: never NULL; a static row.
 */
const struct reason *reason_find(const char *text, size_t size);

/**
 * reason_of_code() - what is said of a reason whose short word alone was kept
 *
 * Rows of one code have the same class and the same advice.
 *
 * Return: NULL when it is no word of this table (the hub has some of its own: "connection").
 */
const struct reason *reason_of_code(const char *code);

/* The table itself, row by row, for tests. Return: NULL behind the last. */
const struct reason *reason_row(size_t i, const char **ret_text);

/* ---- why a link ended ---- */

struct fault_reason {
	const char *name;   /* short word: "dns", "tls", "restart" */
	const char *state;  /* what the connection is meanwhile: "backoff", "auth_failed",
			       "config_error" */
	uint32_t floor_ms;  /* least delay before the next attempt; 0: none */
	uint32_t grown_ms;  /* what the floor doubles up to; 0: it does not grow */
	const char *advice; /* a sentence: what to do; "" for SESSION_FAULT_NONE */
};

/* Return: never NULL; the row of SESSION_FAULT_NONE for a value that is none. */
const struct fault_reason *reasons_of_fault(enum session_fault fault);

/* An HTTP answer other than a good 101. */
enum session_fault reasons_from_http(unsigned status);

/* A close frame of the server; 1005 is an empty one. */
enum session_fault reasons_from_close(unsigned code);
