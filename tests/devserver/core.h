/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The devserver without its sockets: frames and a clock in, frames and timers out. Single-threaded.
 *
 * It may not read a clock, touch a file descriptor or include libwebsockets, so that a model test
 * can drive it. Nothing calls back after ds_core_free().
 */
#include "fault.h"
#include "http.h"
#include "phx.h"

struct ds_core;
struct ds_socket;

/** struct ds_conf - how the server behaves; strings are borrowed for the core's life */
struct ds_conf {
	const char *jwt_secret;
	const char *tenant;    /* first label of the Host header, or NULL for any */
	const char *suspended; /* the label of a project that is suspended, or NULL */
	bool strict_refs;      /* drop messages whose join_ref is not the channel's */
	int64_t join_error_delay_ms;
	int64_t connect_error_delay_ms;
	int64_t idle_ms;          /* close 1000 after so long without bytes from the client */
	int64_t resubscribe_ms;   /* from a new token to the next "Subscribed to PostgreSQL" */
	size_t frame_max_bytes;   /* close 1009 beyond it */
	size_t payload_max_bytes; /* of one broadcast or presence state, as term.h measures it */
	size_t out_max_bytes;     /* unsent bytes of one socket; beyond it its TCP is dropped */
	int64_t pg_subscribe_delay_ms; /* from a join to the subscription of its bindings */
	int64_t replication_delay_ms;  /* from a join to "Replication connection established" */
	bool no_replay;                /* as a server that has never heard of replay */
	bool private_only;             /* refuse public joins */
	const char *policies;          /* file of rules for ops.read_file(), or NULL */
	unsigned channels_max;         /* of one socket */
	unsigned users_max;            /* sockets that have joined; this and the next: 0 for any */
	unsigned joins_max;            /* a second, of all sockets */
	unsigned events_max;           /* broadcasts sent and received, a second */
	unsigned presences_max;        /* presence messages, a second */
	int64_t rate_tick_ms;          /* from sample to sample of these three */
	unsigned presence_max;         /* presence calls of one channel ... */
	int64_t presence_window_ms;    /* ... in so long */
	int64_t token_life_s;          /* of access tokens that the token endpoint gives out */
	int64_t reuse_interval_ms;     /* in which a used refresh token may be used again */
	unsigned refresh_burst;        /* refreshes at once, and again in each minute; 0 for any */
	uint64_t seed;                 /* of phx_ref and presence keys */
};

/** ds_conf_default() - the real server's limits, without its delays */
struct ds_conf ds_conf_default(void);

/** struct ds_pg_request - "subscribe all bindings of a channel, or none of them" */
struct ds_pg_request {
	uint64_t first;         /* number of the first binding, never used again; others follow */
	unsigned n;             /* how many bindings */
	bool again;             /* ds_core_pg_lost() has asked for it: the client hears nothing */
	struct ds_str bindings; /* JSON array of what ds_pg_params_json() makes */
	struct ds_str role;     /* of the channel's token */
	struct ds_str claims;   /* the token's payload, JSON */
};

/** struct ds_replay - "the newest messages that are stored for a private channel" */
struct ds_replay {
	bool wanted;
	uint64_t socket_id; /* which waits for the answer */
	struct ds_str name; /* of the channel, without "realtime:" */
	int64_t since_ms;   /* since 1970 */
	unsigned limit;
};

/** struct ds_db_message - a row of realtime.messages */
struct ds_db_message {
	struct ds_str id;    /* at most 36 bytes */
	struct ds_str topic; /* without "realtime:" */
	struct ds_str event;
	struct ds_str payload; /* JSON, or bytes */
	bool binary;
	bool private;
};

enum ds_pg_outcome {
	DS_PG_OK,
	DS_PG_NO_TABLE, /* no table of the publication fits a binding */
	DS_PG_EXCEPTION /* the database refused a binding */
};

/** struct ds_pg_answer - to a struct ds_pg_request */
struct ds_pg_answer {
	enum ds_pg_outcome outcome;
	unsigned binding;   /* which one failed, from 0 */
	struct ds_str text; /* DS_PG_EXCEPTION: what PostgreSQL said */
};

enum ds_misdeed_kind {
	DS_MISDEED_CLOSE,     /* a close frame with @code and @bytes as its reason, then the end */
	DS_MISDEED_FIN,       /* the end of the TCP connection, without a close frame */
	DS_MISDEED_RAW,       /* @bytes as they are, in the midst of the frames */
	DS_MISDEED_FRAME,     /* announce a text frame of @size, send @sent of it, then silence */
	DS_MISDEED_FRAGMENTS, /* @times fragments of @size, none the last one, then silence */
	DS_MISDEED_DEAF,      /* read nothing more, so that the peer's TCP window fills */
	DS_MISDEED_HEARING
};

/** struct ds_misdeed - one order to a connection; @bytes is borrowed */
struct ds_misdeed {
	enum ds_misdeed_kind kind;
	int code;
	struct ds_str bytes;
	uint64_t size, sent;
	int64_t times; /* -1: without end */
	int64_t ms;    /* from one to the next */
};

/** struct ds_ops - what the core asks of its owner; @conn is what ds_core_open() was given */
struct ds_ops {
	/* Queue one frame. It may not call back into the core. */
	void (*send)(void *conn, bool binary, struct ds_str frame);
	/* Close with this code after what is queued; 0 drops the TCP connection at once. */
	void (*close)(void *conn, int code);
	/* Answer a ping. */
	void (*pong)(void *conn, struct ds_str payload);
	/* It is the turn of the peer's close: answer it, and call ds_core_gone(). */
	void (*bye)(void *conn, int code);
	/* Announce a text frame of @size_bytes, send half of it, drop the TCP connection. */
	void (*half_frame)(void *conn, size_t size_bytes);
	/* Do something to the connection that no good server does; NULL: it cannot be done. */
	void (*misbehave)(void *conn, const struct ds_misdeed *m);
	/*
	 * The database; NULL if there is none: then all tables exist, and rows come only from
	 * POST /_devserver/fault. Both only note what is wanted. A request replaces an earlier one
	 * with the same number; each is answered by ds_core_pg_result(), in their order.
	 */
	void (*pg_subscribe)(void *pg, const struct ds_pg_request *request);
	void (*pg_unsubscribe)(void *pg, uint64_t first);
	/* Answered by ds_core_pg_replayed(). NULL: the core keeps what is sent by the fault db_send. */
	void (*pg_replay)(void *pg, const struct ds_replay *replay);
	void *pg;
	/* The text of a file, for conf.policies; false with the reason in @ret_error. */
	bool (*read_file)(const char *path, struct ds_buf *ret_text, char *ret_error,
			  size_t error_size);
};

/** ds_core_new() - the caller frees it; @conf and @ops are copied */
struct ds_core *ds_core_new(const struct ds_conf *conf, const struct ds_ops *ops);
struct ds_core *ds_core_free(struct ds_core *c);
const struct ds_conf *ds_core_conf(const struct ds_core *c);

/**
 * ds_core_clock() - the time, told before every other call
 * @mono_ms: only grows
 * @wall_ms: since 1970, for tokens
 */
void ds_core_clock(struct ds_core *c, int64_t mono_ms, int64_t wall_ms);
/** ds_core_tick() - does what is due */
void ds_core_tick(struct ds_core *c);
/** ds_core_deadline() - when ds_core_tick() is wanted (mono_ms), or -1 */
int64_t ds_core_deadline(const struct ds_core *c);

/** struct ds_refusal - the HTTP answer instead of 101; status 0: let it in */
struct ds_refusal {
	int status;
	char error[160]; /* text of the JSON body; empty: no body */
	int64_t delay_ms;
	int64_t retry_after_s; /* -1: no such header */
	bool hang;             /* answer nothing at all */
	char bad[16];          /* let it in with a 101 that is wrong: how; empty: a good one */
};

/**
 * ds_core_upgrade() - may this WebSocket upgrade pass?
 * @host:   Host header
 * @vsn:    query value, p NULL if absent
 * @apikey: header or query value, p NULL if absent
 */
struct ds_refusal ds_core_upgrade(struct ds_core *c, struct ds_str host, struct ds_str vsn,
				  struct ds_str apikey);

/** ds_core_open() - a socket whose upgrade passed; freed by ds_core_gone() */
struct ds_socket *ds_core_open(struct ds_core *c, void *conn, struct ds_str vsn,
			       struct ds_str apikey);
/** ds_core_frame() - one message; bad ones are dropped without a word */
void ds_core_frame(struct ds_core *c, struct ds_socket *s, bool binary, struct ds_str frame);
/** ds_core_alive() - bytes of any sort came */
void ds_core_alive(struct ds_core *c, struct ds_socket *s);
/** ds_core_ping() - a ping; ops.pong() answers it, now or when the socket is no longer held up */
void ds_core_ping(struct ds_core *c, struct ds_socket *s, struct ds_str payload);
/**
 * ds_core_bye() - the peer has closed; ops.bye() follows when what came before is done
 *
 * @s may be freed when this returns.
 */
void ds_core_bye(struct ds_core *c, struct ds_socket *s, int code);
/** ds_core_muted() - does the server play dead? */
bool ds_core_muted(const struct ds_core *c);
/** ds_core_gone() - the connection has ended; @s is freed */
void ds_core_gone(struct ds_core *c, struct ds_socket *s);
/** ds_core_shutdown() - close 1012 to all */
void ds_core_shutdown(struct ds_core *c);

/** struct ds_answer - to a request of the HTTP API; the caller calls ds_answer_done() */
struct ds_answer {
	int status;
	const char *type;      /* content-type; NULL: none */
	struct ds_buf headers; /* further lines, each with CRLF */
	struct ds_buf body;
};
void ds_answer_done(struct ds_answer *a);

#define DS_REST_BODY_MAX 8000000

/** ds_gotrue_is() - is this path one of the auth server's? ds_rest_is() is true for them, too */
bool ds_gotrue_is(struct ds_str path);
/** ds_core_gotrue() - the part of ds_core_rest() that is about them */
void ds_core_gotrue(struct ds_core *c, const struct ds_request *r, struct ds_str body,
		    struct ds_answer *ret);
/** ds_rest_is() - is this path one of the HTTP API's, whether there is something or not? */
bool ds_rest_is(struct ds_str path);
/** ds_core_rest() - carries out a request of at most DS_REST_BODY_MAX bytes */
void ds_core_rest(struct ds_core *c, const struct ds_request *r, struct ds_str body,
		  struct ds_answer *ret);

/** struct ds_web - what is to become of one of these requests; owns its texts, see ds_web_done() */
struct ds_web {
	enum ds_web_how how; /* DS_WEB_NONE: what ds_core_rest() makes of it */
	bool work;           /* carry it out */
	bool close;          /* then end the connection, whatever the answer says */
	int status;          /* answer this instead; 0: the true answer */
	int64_t ms;
	int64_t retry_after_s; /* -1: no such header */
	size_t piece_bytes;
	char *body;
	char *type;
	char *headers; /* further lines, each with CRLF */
};
/**
 * ds_core_web() - asked once for each request, when its head has come
 * @named: only by rules that name a path, as for requests that are none to the HTTP API
 */
struct ds_web ds_core_web(struct ds_core *c, const struct ds_request *r, bool named);
void ds_web_done(struct ds_web *w);
/**
 * ds_core_web_log() - keeps a request for GET /_devserver/requests
 * @status: of the answer, 0 if there was none
 */
void ds_core_web_log(struct ds_core *c, const struct ds_request *r, struct ds_str body,
		     enum ds_web_how how, int status);
/** ds_core_requests() - appends the JSON of GET /_devserver/requests */
void ds_core_requests(struct ds_core *c, struct ds_buf *b);

/** ds_core_pg_result() - the database's answer to a request; unknown numbers are no error */
void ds_core_pg_result(struct ds_core *c, uint64_t first, bool again,
		       const struct ds_pg_answer *answer);
/**
 * ds_core_pg_change() - one changed row for all these bindings
 * @subs: their numbers, ascending
 * @data: JSON text of the message's "data"
 */
void ds_core_pg_change(struct ds_core *c, const uint64_t *subs, size_t n, struct ds_str data);
/** ds_core_db_message() - the database has sent this: passes it on to who listens */
void ds_core_db_message(struct ds_core *c, const struct ds_db_message *row);
/**
 * ds_core_pg_replayed() - the answer to ops.pg_replay()
 * @socket_id: unknown ones are no error
 * @rows:      JSON array of {"id","event","payload"} or {"id","event","base64"}, the oldest first;
 *             p NULL: the database could not
 */
void ds_core_pg_replayed(struct ds_core *c, uint64_t socket_id, struct ds_str rows);
/**
 * ds_core_database() - is the database there? It is, until this says otherwise
 *
 * What waits for it while it is away is done when it is back.
 */
void ds_core_database(struct ds_core *c, bool here);
/** ds_core_pg_lost() - the database has forgotten all subscriptions: requests them again */
void ds_core_pg_lost(struct ds_core *c);

/**
 * ds_core_policies() - new rules for private channels; see policy.h
 * @text: p NULL: none, everybody may do everything
 *
 * Return: true, or false with the reason in @ret_error, and all as it was
 */
bool ds_core_policies(struct ds_core *c, struct ds_str text, char *ret_error, size_t error_size);
/** ds_core_reload() - the same from the file that conf.policies names */
bool ds_core_reload(struct ds_core *c, char *ret_error, size_t error_size);

/** ds_core_log() - appends the JSON of GET /_devserver/log */
void ds_core_log(struct ds_core *c, struct ds_buf *b);
/** ds_core_sessions(), ds_core_tokens() - append the JSON of GET /_devserver/sessions, .../tokens */
void ds_core_sessions(struct ds_core *c, struct ds_buf *b);
void ds_core_tokens(struct ds_core *c, struct ds_buf *b);
/**
 * ds_core_session() - a session of the token endpoint, as POST /_devserver/session wants it
 * @ret: what a client would have been told when it logged in, and the session's id
 *
 * Return: true, or false with the reason in @ret_error
 */
bool ds_core_session(struct ds_core *c, struct ds_str json, struct ds_buf *ret, char *ret_error,
		     size_t error_size);
/** ds_core_status() - appends the JSON of GET /_devserver/status */
void ds_core_status(struct ds_core *c, struct ds_buf *b);
/**
 * ds_core_fault() - does what POST /_devserver/fault says
 * Return: true, or false with the reason in @ret_error
 */
bool ds_core_fault(struct ds_core *c, struct ds_str json, char *ret_error, size_t error_size);
