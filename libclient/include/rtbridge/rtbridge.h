/* SPDX-License-Identifier: MIT */
#ifndef RTBRIDGE_H
#define RTBRIDGE_H
/*
 * librtbridge: take part in Supabase Realtime channels through the local rtbridged.
 *
 * A client is one attachment to the daemon over its Unix socket. It owns no thread and no loop:
 *
 *     poll rtb_client_fd() for rtb_client_events(), at most rtb_client_timeout_ms() long,
 *     then call rtb_client_process().
 *
 * rtb_client_process() reads, writes, calls the callbacks, and re-attaches by itself when the
 * daemon went away: it subscribes again to everything and tells by the state callback. The helpers
 * named rtb_wait_* do the polling for programs without a loop; callbacks run inside them, too.
 *
 * Threads: one client, one thread at a time; different clients are independent. The library starts
 * no thread, installs no signal handler, prints nothing. After fork() the child must not use the
 * parent's clients: rtb_client_process() returns -EPERM there, and rtb_client_free() only closes.
 * Callbacks: run only inside rtb_client_process(), rtb_wait_*() and, for results of sends,
 * rtb_client_free(). They may call every function of the same client except rtb_client_process(),
 * rtb_client_free() and rtb_wait_*(): those return -EDEADLK (free: does nothing). Errors: results
 * >= 0 are success. Negative ones are -errno (system) or RTB_E_*; rtb_strerror() says them in
 * words, rtb_client_error_text() says the last one of this client with its details. Memory: `const`
 * pointers given to callbacks are borrowed and die when the callback returns. Strings passed in are
 * borrowed for the call. Payloads are MessagePack; rtb_json_to_msgpack() and rtb_msgpack_to_json()
 * convert.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define RTB_API        __attribute__((visibility("default")))
#define RTB_MUST_CHECK __attribute__((warn_unused_result))
#else
#define RTB_API
#define RTB_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct rtb_client;
struct rtb_sub;
struct rtb_tracker;
struct rtb_watch;

/* Errors of this library (system errors are -errno). */
enum {
	RTB_E_DETACHED = -2000, /* not attached to the daemon now; it re-attaches by itself */
	RTB_E_BUSY = -2001,     /* the client's own send queue is full; process, then try again. As
				   the daemon's answer: not now, later perhaps */
	RTB_E_PROTOCOL = -2002, /* the daemon sent what this library does not understand */
	RTB_E_REFUSED =
		-2003, /* the daemon refused the request: rtb_client_error_text() has its words */
	RTB_E_TIMEOUT = -2004, /* a wait helper reached its time */
	RTB_E_TOPIC = -2005,   /* bad topic: 1 to 240 bytes of UTF-8, no control characters, not
				  "rtbridge:..." */
	RTB_E_EVENT = -2006,   /* bad event: 1 to 255 bytes of UTF-8, no control characters */
	RTB_E_PAYLOAD = -2007, /* the payload is not valid MessagePack (or JSON), or cannot be said
				  in JSON */
	RTB_E_TOO_BIG = -2008, /* larger than the daemon takes in one frame */
	RTB_E_FAILED = -2009,  /* the daemon refused this client for good (version, access): state
				  RTB_FAILED */
	RTB_E_NOT_DAEMON =
		-2010,     /* the socket belongs to neither root, nor this user, nor the owner
			     of its directory (which must stand where others cannot write) */
	RTB_E_KEY = -2011, /* bad presence key: 1 to 255 bytes of UTF-8, no control characters, not
			      "rtbridge:..." */
	RTB_E_BINDING = -2012, /* no schema and no table, an unknown event, or a string that is too
				  long or no clean UTF-8 */
	RTB_E_TYPE = -2013,    /* the column's value is of another type, or does not fit */
	RTB_E_TOKEN = -2014,   /* bad token: not the form of one, expired, or refused by the server;
				  or what is asked for needs one that is not bad */
	RTB_E_FORBIDDEN = -2015, /* the daemon's access rules do not allow it to this user */
};

/* Words for any negative result; static, never NULL. */
RTB_API const char *rtb_strerror(int error);

/* "0.1.0" */
RTB_API const char *rtb_version(void);

/* ---- client ---- */

enum rtb_state {
	RTB_ATTACHING, /* connecting to the daemon, or waiting before the next try */
	RTB_ATTACHED,  /* hello answered, subscriptions asked for again */
	RTB_FAILED     /* the daemon refused this client for good; only rtb_client_free() is left */
};

/* What the daemon says about its connection to the server. */
struct rtb_connection {
	const char *state;  /* "idle", "connecting", "online", "stalled", "backoff", "auth_failed",
			       "config_error", "draining" */
	const char *reason; /* short word, "" when there is none */
	const char *text;   /* a sentence, "" when there is none */
	int64_t since_unix_ms; /* since when this state holds */
	int64_t next_try_ms;   /* until the next attempt; -1: none is planned */
};

/* This client's own token has ended: it has expired, or was refused. */
struct rtb_token_event {
	const char *topic; /* whose it was; NULL: that for all topics without one of their own */
	/* Short word for the reason: "token_expired", or what the server has against it
	 * ("token_signature", "token_invalid", ...: PROTOCOL.md, section 8). "bad_token" when it
	 * was refused as it was said (`text` has more), or the daemon gave no reason. Another
	 * error's name when the daemon would not have any token, like "too_many". */
	const char *code;
	const char *text; /* a sentence */
};

struct rtb_handlers {
	/* Attachment to the daemon changed; `why` is 0 or the error that ended it. Attempts that
	 * fail in another way than the one before are told, too: as RTB_ATTACHING with the new
	 * reason. */
	void (*state)(struct rtb_client *c, enum rtb_state state, int why, void *user);
	/* The daemon's connection to the server changed; also called once after each attach. */
	void (*connection)(struct rtb_client *c, const struct rtb_connection *conn, void *user);
	/* The daemon reports an error that belongs to no request. */
	void (*error)(struct rtb_client *c, int code, const char *name, const char *text,
		      void *user);
	/* The token has ended, and what needs it is refused until rtb_set_token() brings a new one
	 * (here, or later). Also called when an attachment is refused for its token. Not called
	 * while a newer one is on its way. */
	void (*token)(struct rtb_client *c, const struct rtb_token_event *event, void *user);
};

struct rtb_options {
	size_t size;             /* sizeof(struct rtb_options): lets the struct grow */
	const char *socket_path; /* NULL: see rtb_default_socket() */
	const char *name;        /* shown by `rtbridge status`; NULL: the program's name */
	const char *version;     /* the same; NULL: none */
	struct rtb_handlers handlers;
	void *user;              /* handed to the handlers */
	size_t send_queue_bytes; /* 0: 1 MiB */
	bool once;               /* do not re-attach: the first failure ends in RTB_FAILED */
	/* This client's own token, as by rtb_set_token() for all topics; NULL: none. Copied. */
	const char *token;
};

/* Initialises all fields to their defaults. */
#define RTB_OPTIONS_INIT                                                            \
	{                                                                           \
		sizeof(struct rtb_options), 0, 0, 0, { 0, 0, 0, 0 }, 0, 0, false, 0 \
	}

/**
 * rtb_default_socket() - where the daemon's socket is expected
 *
 * $RTBRIDGE_SOCKET if set; else $XDG_RUNTIME_DIR/rtbridge/rtbridge.sock if that exists; else
 * /run/rtbridge/rtbridge.sock. The result is written to @buf.
 *
 * Return: length without NUL; -ENAMETOOLONG.
 */
RTB_API int rtb_default_socket(char *buf, size_t size);

/**
 * rtb_client_new() - make a client and start attaching
 * @options: NULL for the defaults; borrowed for the call
 * @ret:     the client, to be freed by rtb_client_free(); written only on success
 *
 * Does not block and does not fail because no daemon runs: the state callback tells.
 *
 * Return: 0; -EINVAL (options), RTB_E_TOKEN, -ENAMETOOLONG (socket path), -ENOMEM, -EMFILE and the
 * like.
 */
RTB_API int rtb_client_new(const struct rtb_options *options,
			   struct rtb_client **ret) RTB_MUST_CHECK;

/* Closes and frees. Requests without an answer get none; pending sends get outcome "unknown" first
 * (their callback runs). NULL is fine. Returns NULL; inside a callback it does nothing and returns
 * @c. */
RTB_API struct rtb_client *rtb_client_free(struct rtb_client *c);

/* The descriptor to poll: the same for the client's whole life, also over re-attaching (an epoll
 * descriptor). It becomes readable for timeouts, too: a loop that cannot keep timers may leave
 * rtb_client_timeout_ms() alone. */
RTB_API int rtb_client_fd(const struct rtb_client *c);
/* poll(2) events to wait for (POLLIN). */
RTB_API short rtb_client_events(const struct rtb_client *c);
/* How long poll may sleep, in ms; -1: until there is an event. */
RTB_API int rtb_client_timeout_ms(const struct rtb_client *c);
/**
 * rtb_client_process() - do what is due: never blocks
 *
 * Return: number of callbacks called (0: nothing happened); RTB_E_FAILED once in state RTB_FAILED;
 * -ENOMEM (the client is still usable, nothing was lost); -EDEADLK inside a callback; -EPERM in a
 * child of fork().
 */
RTB_API int rtb_client_process(struct rtb_client *c);

RTB_API enum rtb_state rtb_client_state(const struct rtb_client *c);
/* Details of the last negative result or of the last detachment; "" when there was none. Borrowed,
 * until the next call. */
RTB_API const char *rtb_client_error_text(const struct rtb_client *c);

/* ---- the client's own token ---- */

enum rtb_token_state {
	RTB_TOKEN_ACCEPTED, /* the server took this token */
	RTB_TOKEN_UNPROVEN, /* the first channel that is joined with it will show */
	RTB_TOKEN_CLEARED   /* there is none any more */
};

struct rtb_token_result {
	/* 0; RTB_E_TOKEN; RTB_E_TIMEOUT, RTB_E_BUSY: not decided now; RTB_E_REFUSED: this daemon
	 * takes no tokens; -ECANCELED: a later rtb_set_token() came before it was said. */
	int error;
	enum rtb_token_state state; /* without error */
	int64_t expires_unix_s;     /* when the token ends; -1: unknown, or there is none */
	const char *text;           /* what is wrong; "" without error */
};

typedef void (*rtb_token_fn)(struct rtb_client *c, const char *topic,
			     const struct rtb_token_result *result, void *user);

/**
 * rtb_set_token() - act with this token (a JSON Web Token) instead of the daemon's identity
 * @topic: for this topic only, private and public; NULL: for all that have none of their own
 * @token: without white space around it, at most 8 KiB; NULL clears. Copied; every copy that the
 *         library makes is wiped once it is not needed
 * @fn: told once what became of it (not after rtb_client_free()); may be NULL
 *
 * Does not block, works while detached: the token is a wish, and said again at every attachment
 * before anything else. A new one is set in the same way; while it is decided the old one holds,
 * and if it is refused the old one stays. What the daemon has ended because of the old token
 * (channels REJECTED, watches ERROR, trackers REFUSED, with a code that starts with "token_"), or
 * because its access rules have become others ("forbidden"), or has refused for that ("bad_token",
 * "forbidden"), is asked for again once the new one is taken, or the old one cleared; a `gap` with
 * that code as cause covers the time between. Without a new token it stays so, until the next
 * attachment, or until the program asks for the same again.
 *
 * What needs a token that is not taken never goes out with the daemon's identity instead:
 * subscriptions, watches and trackers wait while the token is being decided, and are refused with
 * the code "bad_token" when it was refused and none holds; rtb_broadcast() says RTB_E_BUSY, then
 * RTB_E_TOKEN. If the token for all topics is refused as the client attaches, it does not attach:
 * the state stays RTB_ATTACHING, the `token` handler is called, and nothing is tried until that
 * token is set anew or cleared.
 *
 * Return: 0; RTB_E_TOKEN (empty, too long, or a character that no token has), RTB_E_TOPIC,
 * RTB_E_FAILED, -ENOMEM. Nothing changed on error, and @fn is not called.
 */
RTB_API int rtb_set_token(struct rtb_client *c, const char *topic, const char *token,
			  rtb_token_fn fn, void *user) RTB_MUST_CHECK;

/* ---- subscriptions ---- */

enum rtb_channel_state {
	RTB_CHANNEL_JOINING,   /* asked for, not yet there (also while detached) */
	RTB_CHANNEL_JOINED,    /* broadcasts flow, other parts are pending */
	RTB_CHANNEL_READY,     /* everything asked for flows */
	RTB_CHANNEL_REJOINING, /* the link or channel broke; the daemon brings it back */
	RTB_CHANNEL_REJECTED,  /* refused for good: `text` has the server's words. Over a token, or
				  by the access rules: until a new one is set (rtb_set_token()) */
	RTB_CHANNEL_CLOSED     /* ended by rtb_unsubscribe() */
};

struct rtb_channel {
	enum rtb_channel_state state;
	uint64_t chan; /* the daemon's number for this channel (from 1 on); 0 while unknown */
	const char *topic;
	const char *code;    /* short word for the reason, "" when there is none */
	const char *text;    /* a sentence, "" when there is none */
	int64_t retry_in_ms; /* -1: no retry planned or needed */
};

struct rtb_broadcast {
	uint64_t chan;
	const char *topic;   /* NUL-terminated */
	const char *event;   /* NUL-terminated; "" when the message had none (see raw) */
	const void *payload; /* one MessagePack value; of a binary message a `bin` */
	size_t payload_size;
	const void *meta; /* MessagePack map of the server (id, replayed), or NULL */
	size_t meta_size;
	const void *extra; /* MessagePack map of unusual top-level keys, or NULL */
	size_t extra_size;
	bool raw;         /* the message was no event with payload: payload is all of it */
	bool undecodable; /* payload is a `bin` with the bytes that could not be decoded */
	const char *id;   /* of meta, NUL-terminated; "" when it has none (or one over 127 bytes) */
	bool replayed;    /* of meta: it was sent before, and stored by the server */
};

/* What became of messages of a time past that the server stores (those that its database sends to
 * private channels). */
enum rtb_stored {
	RTB_STORED_NONE,     /* not asked for, or not to be had */
	RTB_STORED_REPLAYED, /* all of them come (or came) as broadcasts with `replayed` */
	RTB_STORED_TRUNCATED /* the newest of them do, older ones may be missing */
};

/* Messages of the channel may have been missed between these two moments: it was joined anew. The
 * library's own when the daemon had ended the subscription over the client's token, or by changed
 * access rules: from then until it was there again; `cause` is that code. */
struct rtb_gap {
	uint64_t chan;
	const char *topic;
	int64_t from_unix_ms, to_unix_ms;
	const char *cause; /* short word, as rtb_channel.code */
	enum rtb_stored stored;
	uint64_t n; /* how many of those follow at most; what had come before is left out */
};

/* The stored messages that a subscription asked for (options.replay) have come. */
struct rtb_replay {
	uint64_t chan;
	const char *topic;
	enum rtb_stored stored; /* TRUNCATED: replay_limit came; NONE: `text` says why */
	uint64_t n;             /* how many this subscription was handed */
	const char *text;       /* a sentence, "" when there is none */
};

/* A notice of the server about the channel, in its words. */
struct rtb_system {
	uint64_t chan;
	const char *topic;
	const char *extension; /* short word: what it is about; "" when not told */
	const char *status;    /* "ok", "error" */
	const char *text;
};

/* ---- presence: who is there ---- */

/* One client that is there. Several may be present under one key; key and ref together name one. */
struct rtb_presence_entry {
	const char *key; /* NUL-terminated; may be "" */
	const char *ref;
	const void *state; /* the MessagePack map that it tracks */
	size_t state_size;
};

enum rtb_presence_event {
	/* The whole state is new: walk it by rtb_presence_next(). Told once to each subscription
	 * when the state is known first, behind the channel callback; then whenever another whole
	 * state came that differs (after a re-attachment, an overflow). */
	RTB_PRESENCE_SYNC,
	RTB_PRESENCE_JOIN,  /* entry came */
	RTB_PRESENCE_LEAVE, /* entry went (it is no longer in the state) */
	RTB_PRESENCE_UPDATE /* entry has another state now; previous is how it was */
};

struct rtb_presence {
	uint64_t chan;
	const char *topic;
	enum rtb_presence_event event;
	const struct rtb_presence_entry *entry;    /* NULL for SYNC */
	const struct rtb_presence_entry *previous; /* UPDATE only, else NULL */
	bool more; /* further events of the same change follow at once: a program that draws the
		      whole list waits for the last one */
};

/* What is known about the presence of a subscription that asked for it. That it became OK is told
 * by SYNC, that it became DENIED or OVERFLOW by the channel callback. */
enum rtb_presence_status {
	RTB_PRESENCE_NONE,   /* not asked for, or nothing is known yet */
	RTB_PRESENCE_OK,     /* known; while detached or the channel is not ready: as it was last */
	RTB_PRESENCE_DENIED, /* the server's policies do not show it */
	RTB_PRESENCE_OVERFLOW /* larger than the daemon keeps */
};

struct rtb_sub_handlers {
	void (*broadcast)(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user);
	void (*channel)(struct rtb_sub *sub, const struct rtb_channel *channel, void *user);
	/* Only with options.presence. Called after the state was brought up to date by everything
	 * that belongs to the same change. */
	void (*presence)(struct rtb_sub *sub, const struct rtb_presence *change, void *user);
	void (*gap)(struct rtb_sub *sub, const struct rtb_gap *gap, void *user);
	/* Once for each replay: after options.replay, and after each re-attachment with it. */
	void (*replay)(struct rtb_sub *sub, const struct rtb_replay *replay, void *user);
	void (*system)(struct rtb_sub *sub, const struct rtb_system *notice, void *user);
};

struct rtb_sub_options {
	size_t size;     /* sizeof(struct rtb_sub_options) */
	bool is_private; /* a private channel (checked by the server's policies) */
	bool self; /* also receive what this client sends; shared by all subscriptions of the topic
		      in this client */
	const char *const *events; /* only these events, NULL-terminated; NULL: all ("*" in the list
				      means all, too) */
	struct rtb_sub_handlers handlers;
	void *user;
	bool presence; /* also who is there, and what changes about it */
	/* With `presence`: under which key this client will track itself there (rtb_track()), so
	 * that the channel is joined with it at once; NULL: none. Shared by all subscriptions of
	 * the topic in this client: the first one given holds. */
	const char *presence_key;
	/* Stored messages first, the newest ones, oldest first: see below. Only with is_private. */
	bool replay;
	uint32_t replay_limit;   /* at most so many, 1 to 25; 0: 25 */
	int64_t replay_since_ms; /* since then, in ms since the Unix epoch */
	/* A `system` callback when messages that the database sends can flow. */
	bool replication_ready;
};

#define RTB_SUB_OPTIONS_INIT                                                                     \
	{                                                                                        \
		sizeof(struct rtb_sub_options), false, false, 0, { 0, 0, 0, 0, 0, 0 }, 0, false, \
			0, false, 0, 0, false                                                    \
	}

/**
 * rtb_subscribe() - want a topic
 * @topic: without "realtime:"; 1 to 240 bytes
 * @ret:   the subscription; freed by rtb_unsubscribe() or with the client
 *
 * Does not block. Works while detached, too: the wish is kept, and carried out at every
 * (re-)attach. The channel callback tells what becomes of it. Several subscriptions of one topic in
 * one client share one with the daemon.
 *
 * With options.replay the stored messages come after the channel callback, as broadcasts with
 * `replayed`, then the `replay` callback, then what is sent from now on. (What other subscriptions
 * of the topic in this client have brought already goes on meanwhile; wishes for other times are
 * carried out one after the other.) They come to those that asked for them alone. When the library
 * asks again, after a re-attachment or with another token, it is for what was missed: since the
 * last broadcast that this subscription was handed, less 60 s because clocks differ, and not
 * earlier than replay_since_ms; of what comes twice by that the second one is left out (by `id`,
 * among the last 64). What a `gap` announces comes to all subscriptions of the topic.
 *
 * Return: 0; RTB_E_TOPIC, RTB_E_EVENT, RTB_E_KEY, RTB_E_FAILED, -EINVAL (options; a replay of a
 * public channel, or of more than 25), -ENOMEM. Nothing changed on error.
 */
RTB_API int rtb_subscribe(struct rtb_client *c, const char *topic,
			  const struct rtb_sub_options *options,
			  struct rtb_sub **ret) RTB_MUST_CHECK;

/* Ends a subscription; no callback of it runs afterwards (safe inside its own callbacks). NULL is
 * fine. Returns NULL. */
RTB_API struct rtb_sub *rtb_unsubscribe(struct rtb_sub *sub);

RTB_API const char *rtb_sub_topic(const struct rtb_sub *sub);
RTB_API enum rtb_channel_state rtb_sub_state(const struct rtb_sub *sub);
RTB_API struct rtb_client *rtb_sub_client(const struct rtb_sub *sub);

/* ---- presence ---- */

RTB_API enum rtb_presence_status rtb_sub_presence(const struct rtb_sub *sub);
/* Entries in the state; 0 unless RTB_PRESENCE_OK. */
RTB_API size_t rtb_presence_count(const struct rtb_sub *sub);
/**
 * rtb_presence_next() - walk the state of the subscription's topic
 * @entry: NULL: the first one; else the one that this function returned last
 *
 * In order of key, then ref. Entries are borrowed until the callback returns, or until the client's
 * next rtb_client_process(), rtb_wait_*() or rtb_unsubscribe().
 *
 * Return: the next entry; NULL: no more (or the subscription did not ask for presence).
 */
RTB_API const struct rtb_presence_entry *rtb_presence_next(const struct rtb_sub *sub,
							   const struct rtb_presence_entry *entry);

/* Not one way only: what is SHOWN is PENDING again while the daemon, its connection or the channel
 * is away, and SHOWN after that, without the program's doing; the callback tells both. */
enum rtb_track_state {
	RTB_TRACK_PENDING,   /* wanted, not shown: the daemon, the channel or the server has not
				answered, or what showed it is gone for now */
	RTB_TRACK_THROTTLED, /* the daemon sends it in retry_in_ms: the server limits such calls */
	RTB_TRACK_SHOWN,     /* the server took the latest state */
	RTB_TRACK_REFUSED /* it is not shown and will not be: `text` says why. Only rtb_untrack() is
			     left; track again after the cause is gone. Over a token: until a new
			     one is set (rtb_set_token()) */
};

struct rtb_track {
	enum rtb_track_state state;
	const char *key; /* under which it is shown; "" while unknown */
	/* Short word for the reason, "" when there is none. With PENDING: "detached" (from the
	 * daemon) and "queued" (the channel is not joined, yet or any more); else "denied" (by the
	 * server's policies), "too_big", or the name of the daemon's error. */
	const char *code;
	const char *text;    /* a sentence, "" when there is none */
	int64_t retry_in_ms; /* -1: none */
};

struct rtb_track_options {
	size_t size; /* sizeof(struct rtb_track_options) */
	bool is_private;
	const char *key; /* NULL: the presence_key of a subscription of the topic, else one that the
			    daemon makes */
	/* What became of the latest state; called at each change of it, also after interruptions,
	 * but not for the PENDING that rtb_track() and rtb_track_update() make themselves. May be
	 * NULL. */
	void (*track)(struct rtb_tracker *tracker, const struct rtb_track *track, void *user);
	void *user;
};

#define RTB_TRACK_OPTIONS_INIT                                   \
	{                                                        \
		sizeof(struct rtb_track_options), false, 0, 0, 0 \
	}

/**
 * rtb_track() - be present in a channel
 * @state: one MessagePack map, at most 64 KiB; borrowed, copied before return
 * @options: NULL for the defaults
 * @ret: the tracker; ended by rtb_untrack() or with the client
 *
 * Does not block, needs no subscription, works while detached. The wish is kept: it is carried out
 * again after every (re-)attach, and by the daemon after every rejoin. When this process ends,
 * however, it is gone from the channel within a second. One tracker for each topic in a client.
 *
 * Return: 0; RTB_E_TOPIC, RTB_E_KEY, RTB_E_PAYLOAD (no map, or cannot be said in JSON),
 * RTB_E_TOO_BIG, RTB_E_FAILED, -EEXIST (this client tracks there already), -EINVAL (options),
 * -ENOMEM.
 */
RTB_API int rtb_track(struct rtb_client *c, const char *topic, const void *state, size_t state_size,
		      const struct rtb_track_options *options,
		      struct rtb_tracker **ret) RTB_MUST_CHECK;
/* The same with the state as JSON text of `json_size` bytes ((size_t)-1: NUL-terminated). */
RTB_API int rtb_track_json(struct rtb_client *c, const char *topic, const char *json,
			   size_t json_size, const struct rtb_track_options *options,
			   struct rtb_tracker **ret) RTB_MUST_CHECK;
/* Shows another state. Of several in quick succession the last one is certain to be shown, the
 * others may be skipped. Return: 0; RTB_E_PAYLOAD, RTB_E_TOO_BIG, RTB_E_REFUSED (the tracker is
 * over, and not over a token), -ENOMEM: then the old one stays. */
RTB_API int rtb_track_update(struct rtb_tracker *tracker, const void *state,
			     size_t state_size) RTB_MUST_CHECK;
RTB_API int rtb_track_update_json(struct rtb_tracker *tracker, const char *json,
				  size_t json_size) RTB_MUST_CHECK;
/* Ends it; no callback of it runs afterwards (safe inside its own). NULL is fine. Returns NULL. */
RTB_API struct rtb_tracker *rtb_untrack(struct rtb_tracker *tracker);

RTB_API const char *rtb_tracker_topic(const struct rtb_tracker *tracker);
RTB_API enum rtb_track_state rtb_tracker_state(const struct rtb_tracker *tracker);
RTB_API struct rtb_client *rtb_tracker_client(const struct rtb_tracker *tracker);

/* ---- database changes ---- */

/* One change of one row. Column values are read by rtb_change_*(), in whatever order. */
struct rtb_change {
	const char *type;             /* "INSERT", "UPDATE", "DELETE" */
	const char *schema, *table;   /* NUL-terminated */
	const char *commit_timestamp; /* "2025-11-19T00:22:40.877Z"; "" when the server told none */
	const void *record;           /* MessagePack map: the row as it is now; NULL for DELETE */
	size_t record_size;
	/* MessagePack map: the row as it was; NULL for INSERT. The table's replica identity says
	 * what is in it: by default the primary key only. */
	const void *old_record;
	size_t old_record_size;
	const void *columns; /* MessagePack array of maps: name, type; NULL: none */
	size_t columns_size;
	/* What the server says of this change, one after the other: "Error 413: Payload Too Large"
	 * (large values are left out), "Error 401: Unauthorized", "Error 400: Bad Request, no
	 * primary key" (no values at all). */
	const char *const *errors; /* NULL-terminated; NULL: none */
	const void *data;          /* MessagePack map: all of it, as it came */
	size_t data_size;
};

/* The row that a rtb_change_*() function reads. */
enum rtb_row {
	RTB_NEW, /* record */
	RTB_OLD  /* old_record */
};

/*
 * Values of columns. Return of all: 0; -ENOENT: the row has no such column (or there is no such
 * row: -ENOENT, too); -ENODATA: it is NULL; RTB_E_TYPE: the value is of another type, or does not
 * fit. @ret is written on 0 only; pointers are borrowed as the change is.
 */
RTB_API int rtb_change_bool(const struct rtb_change *change, enum rtb_row row, const char *column,
			    bool *ret) RTB_MUST_CHECK;
/* smallint to bigint, and numeric without fraction; RTB_E_TYPE when it does not fit 64 bits. */
RTB_API int rtb_change_int(const struct rtb_change *change, enum rtb_row row, const char *column,
			   int64_t *ret) RTB_MUST_CHECK;
/* Any number, rounded to a double. */
RTB_API int rtb_change_double(const struct rtb_change *change, enum rtb_row row, const char *column,
			      double *ret) RTB_MUST_CHECK;
/* A string as it is (text, uuid, timestamps, ... are strings on the wire): not NUL-terminated. */
RTB_API int rtb_change_str(const struct rtb_change *change, enum rtb_row row, const char *column,
			   const char **ret, size_t *ret_size) RTB_MUST_CHECK;
/* Any value as text: strings as they are, numbers with all their digits, true and false, the rest
 * (json, arrays) as JSON. NUL-terminated, to be freed by rtb_free(); also -ENOMEM. */
RTB_API int rtb_change_text(const struct rtb_change *change, enum rtb_row row, const char *column,
			    char **ret) RTB_MUST_CHECK;
/* The MessagePack value, whatever it is (0 for NULL, too). */
RTB_API int rtb_change_value(const struct rtb_change *change, enum rtb_row row, const char *column,
			     const void **ret, size_t *ret_size) RTB_MUST_CHECK;

enum rtb_binding_state {
	RTB_WATCH_PENDING, /* asked for; changes do not flow yet, or not now */
	RTB_WATCH_READY,   /* changes flow */
	RTB_WATCH_ERROR /* the server does not take it: `text` has its words. It is tried again now
			   and then: READY may follow */
};

struct rtb_watch_status {
	enum rtb_binding_state state;
	uint64_t id; /* the daemon's number of the binding; 0 while unknown */
	/* Short word for the reason, "" when there is none. The library's own: "detached" (PENDING:
	 * no daemon is there); "too_many" (ERROR: over the daemon's limit, asked for when there is
	 * room), "unsupported" (ERROR: this daemon has no database changes), "too_big" (ERROR: the
	 * request would not fit a frame). All others are the daemon's. */
	const char *code;
	const char *text; /* a sentence, "" when there is none */
};

struct rtb_watch_options {
	size_t size;        /* sizeof(struct rtb_watch_options) */
	const char *event;  /* "INSERT", "UPDATE", "DELETE"; NULL or "*": all */
	const char *schema; /* NULL or "*": all */
	const char *table;  /* NULL or "*": all */
	/* "column=operator.value", several joined by commas; NULL: none. PROTOCOL.md has the
	 * operators. */
	const char *filter;
	const char *const *select; /* only these columns, NULL-terminated; NULL: all */
	/* A channel to belong to: needed in projects that allow private channels only. NULL: none.
	 */
	const char *topic;
	bool is_private;
	void (*change)(struct rtb_watch *watch, const struct rtb_change *change, void *user);
	/* Called at each change of it. May be NULL. */
	void (*state)(struct rtb_watch *watch, const struct rtb_watch_status *status, void *user);
	/* Changes may have been missed. Comes before READY. May be NULL. With cause "detached" it
	 * is the library's own, after a re-attachment: from is when the daemon was last heard, or
	 * when the changes had ceased before; to is now. So it is with a cause that is about the
	 * client's token, and with "forbidden": from is when the daemon had ended it. */
	void (*gap)(struct rtb_watch *watch, const struct rtb_gap *gap, void *user);
	void *user;
};

#define RTB_WATCH_OPTIONS_INIT                                                        \
	{                                                                             \
		sizeof(struct rtb_watch_options), 0, 0, 0, 0, 0, 0, false, 0, 0, 0, 0 \
	}

/**
 * rtb_watch() - want the changes of a table, or of several
 * @ret: freed by rtb_unwatch() or with the client
 *
 * Does not block, works while detached; the wish is kept over re-attachments. Equal ones share one
 * with the daemon, and all watches without a topic (or of the same topic) are one subscription
 * there. A change that matches several watches of the client is told to each of them.
 *
 * Return: 0; RTB_E_BINDING, RTB_E_TOPIC, RTB_E_FAILED, -EINVAL (options), -ENOMEM.
 */
RTB_API int rtb_watch(struct rtb_client *c, const struct rtb_watch_options *options,
		      struct rtb_watch **ret) RTB_MUST_CHECK;
/* Ends it; no callback of it runs afterwards (safe inside its own). NULL is fine. Returns NULL. */
RTB_API struct rtb_watch *rtb_unwatch(struct rtb_watch *watch);
RTB_API enum rtb_binding_state rtb_watch_state(const struct rtb_watch *watch);
RTB_API struct rtb_client *rtb_watch_client(const struct rtb_watch *watch);

/* ---- sending ---- */

/* What became of a send. Each send that was accepted (result > 0) gets exactly one. */
enum rtb_outcome {
	RTB_ACKED,        /* the server took it */
	RTB_SENT,         /* the server took it by HTTP (a private message that its policies refuse
			     looks the same) */
	RTB_DENIED,       /* refused by the server's policies or the daemon's access rules, or for
			     want of a token that is not bad */
	RTB_UNKNOWN,      /* given away, and then no proof came: it may have arrived */
	RTB_TOO_BIG,      /* larger than the server takes */
	RTB_RATE_LIMITED, /* the server's rate limit */
	RTB_BUSY,         /* the daemon's queue is full */
	RTB_EXPIRED,      /* its time to live passed before it could be sent */
	RTB_NOT_JOINED,   /* the channel cannot be joined */
	RTB_UNSUPPORTED,  /* this daemon or server cannot send it that way */
	RTB_INVALID,      /* refused by the daemon as wrong: `text` says why */
	RTB_TOO_MANY,     /* a limit on a number of things is reached: `text` names it */
	RTB_BAD_PAYLOAD,  /* it cannot be said to this server; by HTTP: it is neither a map nor
			     binary */
	RTB_PENDING,      /* of rtb_outcome() alone: it has none yet */
	RTB_OTHER         /* a word of a later daemon: rtb_result.word */
};

/* How a message goes to the server. */
enum rtb_via {
	RTB_VIA_AUTO, /* by the channel's join if there is one, else by HTTP. In a result: not told */
	RTB_VIA_WS,   /* over the channel's join, which is made for it if need be */
	RTB_VIA_HTTP /* by an HTTP request: nothing is joined */
};

struct rtb_result {
	enum rtb_outcome outcome;
	const char *text;       /* a sentence, "" when there is none */
	int64_t retry_after_ms; /* when it may succeed; -1: unknown */
	const char *code;       /* the name of the daemon's error, "" when it was none */
	const char *word;       /* the outcome as a word: the daemon's own with RTB_OTHER */
	enum rtb_via via;       /* the way it took, when the daemon told it */
	const char *id;         /* by which rtb_outcome() finds it; "": it had none */
};

/* "acked", "sent", "denied", "unknown", "too_big", ... */
RTB_API const char *rtb_outcome_name(enum rtb_outcome outcome);

typedef void (*rtb_result_fn)(struct rtb_client *c, int64_t id, const struct rtb_result *result,
			      void *user);

/* What a payload is given as. */
enum rtb_form {
	RTB_MSGPACK, /* one MessagePack value; a `bin` is a binary message */
	RTB_JSON,    /* JSON text; (size_t)-1: NUL-terminated */
	RTB_BINARY   /* any bytes: a binary message */
};

struct rtb_send_options {
	size_t size; /* sizeof(struct rtb_send_options) */
	bool is_private;
	uint32_t ttl_ms; /* how long it may wait to be sent; 0: the daemon's default (10 s); at most
			    60000 */
	rtb_result_fn result; /* called exactly once for each accepted send; may be NULL */
	void *user;
	enum rtb_via via;
	enum rtb_form form; /* of the payload */
	/* A name for this send, 1 to 64 bytes of printable ASCII without blanks, unlike any other
	 * of this user's last 60 s. NULL: the library makes one, if the daemon offers outcomes. */
	const char *id;
	/* A MessagePack map: further keys beside the payload, at the top of the server's message;
	 * NULL: none. Not with a binary payload, not by HTTP. */
	const void *extra;
	size_t extra_size;
};

#define RTB_SEND_OPTIONS_INIT                                                                     \
	{                                                                                         \
		sizeof(struct rtb_send_options), false, 0, 0, 0, RTB_VIA_AUTO, RTB_MSGPACK, 0, 0, \
			0                                                                         \
	}

/**
 * rtb_broadcast() - send one broadcast; no subscription is needed
 * @payload: as options->form says; borrowed, copied before return
 * @options: NULL for the defaults
 *
 * Does not block: the message leaves on a later rtb_client_process(). It is given to the daemon
 * once, whatever happens. When the attachment ends before the answer came, the library asks the
 * next one what became of the message (a daemon with the feature "outcome" knows it by the id), and
 * tells that. RTB_UNKNOWN comes only if that daemon does not know, if there is none within 10 s, if
 * the message is pending 10 s after its time to live, or if the client ends (rtb_client_free(),
 * options.once).
 *
 * Return: the send's number (> 0); RTB_E_TOPIC, RTB_E_EVENT, RTB_E_PAYLOAD, RTB_E_TOO_BIG (over the
 * daemon's frames; or binary, and over the limit of the project's plan as the daemon knows it),
 * RTB_E_BUSY, RTB_E_DETACHED, RTB_E_TOKEN, RTB_E_FAILED, -EINVAL (options), -ENOMEM: then no result
 * callback follows. RTB_E_BUSY also while the client's own token is being decided.
 */
RTB_API int64_t rtb_broadcast(struct rtb_client *c, const char *topic, const char *event,
			      const void *payload, size_t payload_size,
			      const struct rtb_send_options *options) RTB_MUST_CHECK;

/* The same with the payload as JSON text of `json_size` bytes ((size_t)-1: NUL-terminated),
 * whatever options->form says. */
RTB_API int64_t rtb_broadcast_json(struct rtb_client *c, const char *topic, const char *event,
				   const char *json, size_t json_size,
				   const struct rtb_send_options *options) RTB_MUST_CHECK;

/**
 * rtb_outcome() - what became of a send of this user, from whichever client
 * @id: as in rtb_send_options, or rtb_result.id
 * @fn: called once, unless the client is freed before. Its result is RTB_PENDING while the send has
 *      no outcome; RTB_UNKNOWN with the code "unknown_id" when the daemon knows no such send (it
 *      forgets them after 60 s), with "detached" when the attachment ended before the answer, with
 *      another one when the daemon does not answer now
 *
 * Return: the question's number (> 0); RTB_E_REFUSED (this daemon knows no outcomes), -EINVAL (no
 * id), RTB_E_BUSY, RTB_E_DETACHED, RTB_E_TOKEN, RTB_E_FAILED, -ENOMEM.
 */
RTB_API int64_t rtb_outcome(struct rtb_client *c, const char *id, rtb_result_fn fn,
			    void *user) RTB_MUST_CHECK;

/* ---- asking the daemon ---- */

/* The answer to rtb_status() and the others below: error 0 and a MessagePack value, or a negative error
 * (RTB_E_FORBIDDEN, RTB_E_TIMEOUT, RTB_E_BUSY when it may succeed later, RTB_E_REFUSED, ...) and
 * its text. */
typedef void (*rtb_reply_fn)(struct rtb_client *c, int error, const char *error_text,
			     const void *value, size_t value_size, void *user);

/* Asks for the daemon's state: PROTOCOL.md names the fields. Return: request id (> 0);
 * RTB_E_DETACHED, RTB_E_TOKEN (the client is not attached for want of a better token), RTB_E_BUSY,
 * RTB_E_FAILED, -ENOMEM. */
RTB_API int64_t rtb_status(struct rtb_client *c, rtb_reply_fn fn, void *user) RTB_MUST_CHECK;

/* Barrier: answered after everything asked before is answered and delivered; with `upstream` also
 * after the server answered a heartbeat. Return: as rtb_status(). */
RTB_API int64_t rtb_sync(struct rtb_client *c, bool upstream, rtb_reply_fn fn,
			 void *user) RTB_MUST_CHECK;

/* Both need the right `admin` of the daemon's access rules (else RTB_E_FORBIDDEN). Return: as
 * rtb_status(). Each at most once in 10 s for all clients together: RTB_E_BUSY. An older daemon does
 * not know them: RTB_E_REFUSED. */

/* All connections of the daemon to the server are opened anew, at once, and what it had given up is
 * tried again. Answered with the state of the connection the moment after. */
RTB_API int64_t rtb_reconnect(struct rtb_client *c, rtb_reply_fn fn, void *user) RTB_MUST_CHECK;
/* The daemon gets another token of its own now. Answered when that has ended, with how it stands:
 * the map's `state` is "good" when one has come; RTB_E_TIMEOUT after 60 s. RTB_E_REFUSED: it has no
 * token of its own. */
RTB_API int64_t rtb_refresh_token(struct rtb_client *c, rtb_reply_fn fn, void *user) RTB_MUST_CHECK;

/* ---- for programs without a loop ---- */

/* Each processes until done, or `timeout_ms` passed (-1: no limit), in the thread that owns the
 * client and never inside a callback (-EDEADLK); callbacks of whatever comes meanwhile run inside.
 * Those that need the daemon wait for the attachment first (RTB_E_TOKEN when that waits for a better
 * token). Return: 0, or a negative error; RTB_E_TIMEOUT; RTB_E_FAILED; -EPERM in a child of fork();
 * -EINTR when a signal handler ran (what was asked for goes on, as after RTB_E_TIMEOUT). */
RTB_API int rtb_wait(struct rtb_client *c,
		     int timeout_ms); /* poll once and process: > 0 when callbacks ran */
RTB_API int rtb_wait_attached(struct rtb_client *c, int timeout_ms) RTB_MUST_CHECK;
/* Until the token is taken, or cleared, as rtb_set_token() sets it; its errors, and those of
 * rtb_token_result. After RTB_E_TIMEOUT it stays the wish. */
RTB_API int rtb_wait_token(struct rtb_client *c, const char *topic, const char *token,
			   int timeout_ms) RTB_MUST_CHECK;
/* Until the subscription is ready; RTB_E_REFUSED when it was rejected (RTB_E_TOKEN, RTB_E_FORBIDDEN
 * over those), -ECANCELED when a callback has unsubscribed it. */
RTB_API int rtb_wait_ready(struct rtb_sub *sub, int timeout_ms) RTB_MUST_CHECK;
/* Until the latest state is shown; RTB_E_REFUSED when it was refused (RTB_E_TOKEN, RTB_E_FORBIDDEN
 * over those; rtb_client_error_text() has the words), -ECANCELED when a callback has ended the
 * tracker. */
RTB_API int rtb_wait_shown(struct rtb_tracker *tracker, int timeout_ms) RTB_MUST_CHECK;
/* Until changes flow; RTB_E_REFUSED when the server does not take it (RTB_E_TOKEN, RTB_E_FORBIDDEN
 * as above; rtb_client_error_text() has the words), -ECANCELED when a callback has ended it. */
RTB_API int rtb_wait_watch(struct rtb_watch *watch, int timeout_ms) RTB_MUST_CHECK;
/* Sends JSON and waits for its outcome, which is written to @ret_outcome on 0; its text is
 * rtb_client_error_text(). options->result is not called. After RTB_E_TIMEOUT the message may still
 * leave. */
RTB_API int rtb_wait_broadcast_json(struct rtb_client *c, const char *topic, const char *event,
				    const char *json, const struct rtb_send_options *options,
				    int timeout_ms, enum rtb_outcome *ret_outcome) RTB_MUST_CHECK;

/* Of a send that was waited for. */
struct rtb_sent {
	enum rtb_outcome outcome;
	enum rtb_via via;       /* RTB_VIA_AUTO: not told */
	int64_t retry_after_ms; /* -1: unknown */
	bool is_sent;           /* it was accepted: it has this outcome, or will have one */
	char id[65];            /* "": it has none */
};

/**
 * rtb_wait_send() - send one broadcast and wait for its one outcome
 * @payload: as options->form says
 * @ret: always written
 *
 * As rtb_broadcast(), a full send queue is waited for. options->result is not called. The outcome's
 * words are rtb_client_error_text(). At the deadline the send goes on: to the caller its outcome is
 * RTB_UNKNOWN, and rtb_wait_outcome() can ask for it by ret->id (unless that is empty: this daemon
 * knows no outcomes). Sending the same again then may send it twice; without ret->is_sent it does
 * not.
 *
 * Return: 0: @ret has the outcome, whichever it is; or an error, also those of rtb_broadcast().
 */
RTB_API int rtb_wait_send(struct rtb_client *c, const char *topic, const char *event,
			  const void *payload, size_t payload_size,
			  const struct rtb_send_options *options, int timeout_ms,
			  struct rtb_sent *ret) RTB_MUST_CHECK;
/**
 * rtb_wait_outcome() - wait until a send has an outcome
 * @id: as for rtb_outcome(), which is asked again and again while the send is pending, and after
 *      each re-attachment; it may be @ret->id
 * @ret: always written; after RTB_E_TIMEOUT RTB_PENDING, if it was that at last
 *
 * Return: 0: @ret has the outcome; RTB_UNKNOWN also when the daemon knows no such send
 * (rtb_client_error_text() has its words); or an error, also those of rtb_outcome().
 */
RTB_API int rtb_wait_outcome(struct rtb_client *c, const char *id, int timeout_ms,
			     struct rtb_sent *ret) RTB_MUST_CHECK;
/* Until each accepted send has its outcome and was told it, those that callbacks add among them.
 * Also without a daemon: those that have been given away end by themselves. What has no outcome at
 * RTB_E_TIMEOUT goes on. */
RTB_API int rtb_wait_flush(struct rtb_client *c, int timeout_ms) RTB_MUST_CHECK;
/* The daemon's state as JSON text, to be freed by rtb_free(). */
RTB_API int rtb_wait_status_json(struct rtb_client *c, int timeout_ms,
				 char **ret_json) RTB_MUST_CHECK;
RTB_API int rtb_wait_sync(struct rtb_client *c, bool upstream, int timeout_ms) RTB_MUST_CHECK;

/* ---- payloads ---- */

/**
 * rtb_json_to_msgpack() / rtb_msgpack_to_json() - convert a payload
 * @ret:      NUL-terminated copy (the NUL is not counted), to be freed by rtb_free()
 * @ret_size: bytes of it
 * @error, @error_size: filled with what is wrong and where, when the result is RTB_E_PAYLOAD; may
 * be NULL, 0
 *
 * Numbers keep all their digits: integers that do not fit 64 bits and decimals that no double holds
 * are MessagePack ext type 1 with the number's text.
 *
 * Return: 0; RTB_E_PAYLOAD; -ENOMEM.
 */
RTB_API int rtb_json_to_msgpack(const char *json, size_t size, void **ret, size_t *ret_size,
				char *error, size_t error_size) RTB_MUST_CHECK;
RTB_API int rtb_msgpack_to_json(const void *msgpack, size_t size, char **ret, size_t *ret_size,
				char *error, size_t error_size) RTB_MUST_CHECK;
RTB_API void rtb_free(void *p);

#ifdef __cplusplus
}
#endif
#endif
