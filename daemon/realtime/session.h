/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * session: the life of one link, without I/O: connect, heartbeats, replies, backoff. It knows
 * Phoenix messages and refs, but no join, no peer, no socket; bytes go out through ops, time comes
 * from the clock, and the owner calls session_tick() when session_deadline() is reached.
 *
 *      IDLE --start--> CONNECTING --opened--> ONLINE --closed--> BACKOFF --deadline--> CONNECTING
 *                           \---------closed------------------------^
 *      any --session_stop()--> DRAINING --closed--> IDLE
 *
 * Each connection has an epoch (grows with each attempt). When it ends, every push without an
 * answer is reported once as SESSION_LOST (in order of ref, then the probes), then ops->offline()
 * is called. When the session itself gives a connection up (heartbeat, nonsense,
 * session_reconnect()), that happens at once, and the next attempt waits for ops->close() to be
 * carried out, that is for session_on_closed().
 *
 * Who may call what: open, send and close must not call back into the session. The calls up
 * (online, offline, changed, message, replies) may call anything but session_free() and
 * session_on_*(); they may come from inside every function below except session_new(),
 * session_free(), session_push(), session_probe(), session_next_ref() and the getters. After each
 * call into the session session_deadline() may have changed.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "proto/rtbp_buf.h"
#include "realtime/phx.h"

struct session;

enum session_state {
	SESSION_IDLE,       /* nothing wanted */
	SESSION_CONNECTING, /* an attempt is running */
	SESSION_ONLINE,
	SESSION_BACKOFF,  /* waiting for the next attempt */
	SESSION_DRAINING, /* closing by our own wish */
};

/* Why a link is down, for people and for the delay before the next attempt (realtime/reasons.h has
 * the table). */
enum session_fault {
	SESSION_FAULT_NONE,
	SESSION_FAULT_DNS,
	SESSION_FAULT_CONNECT,
	SESSION_FAULT_TLS,
	SESSION_FAULT_HANDSHAKE,
	SESSION_FAULT_NOT_WEBSOCKET, /* 200, 30x: a captive portal or a wrong address */
	SESSION_FAULT_AUTH,          /* 401 */
	SESSION_FAULT_FORBIDDEN,     /* 403 */
	SESSION_FAULT_NOT_FOUND,     /* 404, other 4xx */
	SESSION_FAULT_RATE,          /* 429 */
	SESSION_FAULT_SERVER,        /* 5xx */
	SESSION_FAULT_CLOSED,        /* the server closed */
	SESSION_FAULT_RESTART,       /* close 1001, 1012 (or 1002, reasons.c): come back soon */
	SESSION_FAULT_OVERLOAD,      /* close 1013 */
	SESSION_FAULT_POLICY,        /* close 1003, 1007 to 1010: what we sent is not borne there */
	SESSION_FAULT_POLICY_AGAIN,  /* ... for the third time in a row, and so each time */
	SESSION_FAULT_LOST,          /* the connection broke */
	SESSION_FAULT_HEARTBEAT,     /* no answer to a heartbeat */
	SESSION_FAULT_PROTOCOL,      /* the server broke the protocol, or sent too much nonsense */
	SESSION_FAULT_SLEPT,         /* the machine did, for longer than the server waits */
	SESSION_FAULT_CONFIG,        /* cannot work as configured (ws:// to a foreign host) */
};

/* The end of one connection or attempt, as the owner learned it from wire. */
struct session_end {
	enum session_fault fault;
	uint32_t retry_after_s;
	const char *text; /* one line for people, borrowed */
};

struct session_status {
	enum session_state state;
	int64_t since_wall_ms;
	enum session_fault fault; /* of the last end, SESSION_FAULT_NONE when online */
	char text[256];
	int64_t next_try_ms; /* from now; -1: none planned */
	int32_t rtt_ms;      /* of the last heartbeat of this connection; -1: none yet */
	bool stalled; /* ONLINE, a heartbeat is overdue, and only unanswered joins excuse it */
	uint64_t epoch;
	uint64_t reconnects; /* times ONLINE, but for the first */
	uint64_t malformed;  /* frames dropped because they were none */
};

enum session_result {
	SESSION_OK,      /* reply "ok" */
	SESSION_ERROR,   /* reply "error" */
	SESSION_LOST,    /* the connection ended first */
	SESSION_TIMEOUT, /* no reply within the push's limit; a later reply is dropped */
};

/* A reply. `response` is borrowed; absent unless OK or ERROR, for a probe, and when the server's
 * reply has none. */
typedef void (*session_reply_fn)(void *ctx, uint64_t cookie, enum session_result result,
				 uint64_t ref, struct rtbp_val response);

struct session_ops {
	/* down: to wire. send: 0, or > 0 when it must be tried later (busy), or < 0. */
	int (*open)(void *ctx, uint64_t epoch);
	int (*send)(void *ctx, uint64_t epoch, bool binary, const void *data, size_t size);
	void (*close)(void *ctx, uint64_t epoch, uint16_t code);
	/* up: to hub */
	void (*online)(void *ctx);
	void (*offline)(void *ctx); /* after each end of an epoch that had been online */
	/* The status changed (all but rtt_ms and malformed): read it by session_get_status().
	 * Comes last. */
	void (*changed)(void *ctx);
	/* A message of the server that is no reply to us. Borrowed. */
	void (*message)(void *ctx, const struct phx_msg *msg);
};

struct session_conf {
	enum phx_vsn vsn;
	uint32_t heartbeat_ms;       /* 25000 */
	uint32_t heartbeat_reply_ms; /* 10000; joins without an answer extend it, see session_push()
				      */
	uint32_t backoff_min_ms;     /* 1000 */
	uint32_t backoff_max_ms;     /* 30000 */
	uint32_t stable_ms;          /* 30000 online before the backoff starts anew */
	uint64_t seed;               /* of the jitter */
	uint64_t epoch_base; /* epochs grow from here; the last one of an earlier session on the
				same link */
};

struct session *session_new(const struct session_conf *conf, const struct clock *clock,
			    const struct session_ops *ops, void *ctx);
/* No call of any kind, down or up: stop it first, or the connection below stays. Returns NULL. */
struct session *session_free(struct session *s);

/* The link is wanted from now on. Idempotent. A delay that was running when it was stopped goes on.
 */
void session_start(struct session *s);
/* The link is not wanted any more: closes with 1000. Replies and messages still come until it is
 * closed; SESSION_LOST and offline() come then. */
void session_stop(struct session *s);
/* Drops the connection or the attempt, if any, or the delay, and connects again at once (suspend,
 * operator, new key), though never twice within backoff_min_ms. Nothing when the link is not
 * wanted. */
void session_reconnect(struct session *s, enum session_fault fault, const char *text);

/* The network has changed, or the machine slept for a moment: what works is asked for a heartbeat
 * that must be answered within 5 s; a delay that was chosen without the server's own word (its HTTP
 * status, its close code) ends now, as by session_reconnect(). */
void session_poke(struct session *s);

/* From wire, with the epoch that it names; those of a dead epoch are ignored. */
void session_on_opened(struct session *s, uint64_t epoch);
void session_on_frame(struct session *s, uint64_t epoch, bool binary, const void *data,
		      size_t size);
void session_on_closed(struct session *s, uint64_t epoch, const struct session_end *end);

/* When session_tick() wants to be called (clock_now() time); UINT64_MAX: not at all. */
uint64_t session_deadline(const struct session *s);
void session_tick(struct session *s);

enum session_state session_get_state(const struct session *s);
void session_get_status(const struct session *s, struct session_status *ret);
enum phx_vsn session_vsn(const struct session *s);

/* The next ref (from 1, never reused in an epoch). A join's own ref is its join_ref. */
uint64_t session_next_ref(struct session *s);

struct session_push {
	uint64_t ref; /* from session_next_ref() */
	bool binary;
	bool is_join; /* a reply may lawfully take 5 s and hold up everything else: heartbeats wait
			 longer */
	uint32_t timeout_ms; /* for the reply; 0: no reply is expected and fn is not called */
	session_reply_fn fn;
	void *ctx;
	uint64_t cookie; /* an id, never a pointer: what it stands for may be gone when the reply
			    comes */
};

/**
 * session_push() - give one encoded frame to the link
 *
 * Return: 0, then fn is called exactly once (if timeout_ms > 0) and never from inside this call; >
 * 0 when the wire's mailbox is full; -ENOTCONN unless ONLINE; -ENOMEM. Nothing was sent unless 0.
 */
int session_push(struct session *s, const struct session_push *push, const void *frame,
		 size_t size);

/* Asks for one heartbeat now; `fn` is called when the answer to one sent after this call arrives
 * (OK, response absent), or LOST. While one is on its way the next one waits for its answer, so
 * any number of probes costs two heartbeats. Return: as session_push(). */
int session_probe(struct session *s, session_reply_fn fn, void *ctx, uint64_t cookie);
