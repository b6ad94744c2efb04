/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The tables of the local protocol: methods, notices, field names, error codes. The only place they
 * live; a test compares PROTOCOL.md with them. Rows are only ever appended; a retired row keeps its
 * name and number.
 */
#include <stddef.h>
#include <stdint.h>

enum {
	RTBP_PROTOCOL = 1,     /* spoken version; hello refuses others */
	RTBP_HEADER_BYTES = 4, /* length in front of each frame, big-endian */
	RTBP_FRAME_MAX_UP =
		4 * 1024 * 1024, /* largest frame a client may send (default of the daemon) */
	RTBP_FRAME_MAX_DOWN = 16 * 1024 * 1024, /* largest frame the daemon ever sends */
	RTBP_DEPTH_MAX = 72,  /* nesting of a frame: a payload's 64 and the envelope around it */
	RTBP_TOPIC_MAX = 240, /* bytes; the server's limit less "realtime:" */
	RTBP_EVENT_MAX = 255, /* bytes; one length byte on the wire */
	RTBP_KEY_MAX = 255,   /* bytes of a presence key */
	RTBP_STATE_MAX = 64 * 1024,  /* bytes of a presence state, as MessagePack and as JSON */
	RTBP_BINDING_MAX = 8 * 1024, /* bytes of a binding's JSON, as the server gets it */
	RTBP_TOKEN_MAX = 8 * 1024,   /* bytes of a token */
};

/* Requests, X(ID, name). */
#define RTBP_METHODS(X)               \
	X(HELLO, "hello")             \
	X(SUBSCRIBE, "subscribe")     \
	X(UNSUBSCRIBE, "unsubscribe") \
	X(BROADCAST, "broadcast")     \
	X(STATUS, "status")           \
	X(SYNC, "sync")               \
	X(TRACK, "track")             \
	X(UNTRACK, "untrack")         \
	X(PRESENCE, "presence")       \
	X(AUTH, "auth")               \
	X(CHANNELS, "channels")       \
	X(CLIENTS, "clients")         \
	X(OUTCOME, "outcome")         \
	X(RECONNECT, "reconnect")     \
	X(REFRESH_TOKEN, "refresh_token")

/* Notifications from the daemon, X(ID, name). */
#define RTBP_NOTICES(X)                         \
	X(BROADCAST, "broadcast")               \
	X(CHANNEL, "channel")                   \
	X(CONNECTION, "connection")             \
	X(ERROR, "error")                       \
	X(PRESENCE, "presence")                 \
	X(GAP, "gap")                           \
	X(TRACK, "track")                       \
	X(POSTGRES_CHANGES, "postgres_changes") \
	X(REPLAY, "replay")                     \
	X(SYSTEM, "system")

/* Keys of params and results, X(ID, name). */
#define RTBP_FIELDS(X)                            \
	X(PROTOCOL, "protocol")                   \
	X(CLIENT, "client")                       \
	X(SERVER, "server")                       \
	X(NAME, "name")                           \
	X(VERSION, "version")                     \
	X(SESSION, "session")                     \
	X(LIMITS, "limits")                       \
	X(FEATURES, "features")                   \
	X(CONNECTION, "connection")               \
	X(TOPIC, "topic")                         \
	X(CHAN, "chan")                           \
	X(PRIVATE, "private")                     \
	X(BROADCAST, "broadcast")                 \
	X(EVENTS, "events")                       \
	X(SELF, "self")                           \
	X(WAIT, "wait")                           \
	X(TIMEOUT_MS, "timeout_ms")               \
	X(KEEP, "keep")                           \
	X(ALL, "all")                             \
	X(EVENT, "event")                         \
	X(PAYLOAD, "payload")                     \
	X(VIA, "via")                             \
	X(TTL_MS, "ttl_ms")                       \
	X(META, "meta")                           \
	X(EXTRA, "extra")                         \
	X(RAW, "raw")                             \
	X(UNDECODABLE, "undecodable")             \
	X(OUTCOME, "outcome")                     \
	X(STATE, "state")                         \
	X(CODE, "code")                           \
	X(TEXT, "text")                           \
	X(RETRY_IN_MS, "retry_in_ms")             \
	X(SINCE, "since")                         \
	X(REASON, "reason")                       \
	X(NEXT_TRY_MS, "next_try_ms")             \
	X(UPSTREAM, "upstream")                   \
	X(METHOD, "method")                       \
	X(ERROR, "error")                         \
	X(FRAME_BYTES, "frame_bytes")             \
	X(QUEUE_BYTES, "queue_bytes")             \
	X(TOPIC_BYTES, "topic_bytes")             \
	X(EVENT_BYTES, "event_bytes")             \
	X(DEPTH, "depth")                         \
	X(SUBSCRIPTIONS, "subscriptions")         \
	X(PID, "pid")                             \
	X(UID, "uid")                             \
	X(UPTIME_MS, "uptime_ms")                 \
	X(URL, "url")                             \
	X(VSN, "vsn")                             \
	X(LINKS, "links")                         \
	X(LINK, "link")                           \
	X(WHY, "why")                             \
	X(JOINS, "joins")                         \
	X(RTT_MS, "rtt_ms")                       \
	X(CLIENTS, "clients")                     \
	X(CHANNELS, "channels")                   \
	X(SUBSCRIBERS, "subscribers")             \
	X(QUEUED_BYTES, "queued_bytes")           \
	X(QUEUED_SENDS, "queued_sends")           \
	X(COUNTERS, "counters")                   \
	X(RECONNECTS, "reconnects")               \
	X(MESSAGES_IN, "messages_in")             \
	X(MESSAGES_OUT, "messages_out")           \
	X(BYTES_IN, "bytes_in")                   \
	X(BYTES_OUT, "bytes_out")                 \
	X(DELIVERIES, "deliveries")               \
	X(UNDECODED, "undecoded")                 \
	X(SLOW_CONSUMERS, "slow_consumers")       \
	X(LAST_DISCONNECT, "last_disconnect")     \
	X(PRESENCE, "presence")                   \
	X(KEY, "key")                             \
	X(SNAPSHOT, "snapshot")                   \
	X(SYNC, "sync")                           \
	X(JOIN, "join")                           \
	X(LEAVE, "leave")                         \
	X(UPDATE, "update")                       \
	X(REF, "ref")                             \
	X(PREV, "prev")                           \
	X(FROM, "from")                           \
	X(TO, "to")                               \
	X(CAUSE, "cause")                         \
	X(MEMBERS, "members")                     \
	X(TRACKERS, "trackers")                   \
	X(ENTRIES, "entries")                     \
	X(KEY_BYTES, "key_bytes")                 \
	X(STATE_BYTES, "state_bytes")             \
	X(SHOWN, "shown")                         \
	X(POSTGRES_CHANGES, "postgres_changes")   \
	X(SCHEMA, "schema")                       \
	X(TABLE, "table")                         \
	X(FILTER, "filter")                       \
	X(SELECT, "select")                       \
	X(ID, "id")                               \
	X(IDS, "ids")                             \
	X(DATA, "data")                           \
	X(FEEDS, "feeds")                         \
	X(FEED, "feed")                           \
	X(BINDINGS, "bindings")                   \
	X(BINDING, "binding")                     \
	X(ROWS, "rows")                           \
	X(PRIVATE_ONLY, "private_only")           \
	X(READY, "ready")                         \
	X(BINDING_BYTES, "binding_bytes")         \
	X(TYPE, "type")                           \
	X(COLUMNS, "columns")                     \
	X(RECORD, "record")                       \
	X(OLD_RECORD, "old_record")               \
	X(ERRORS, "errors")                       \
	X(COMMIT_TIMESTAMP, "commit_timestamp")   \
	X(TOKEN, "token")                         \
	X(EXPIRES, "expires")                     \
	X(IDENTITY, "identity")                   \
	X(IDENTITIES, "identities")               \
	X(ROLE, "role")                           \
	X(ADMIN, "admin")                         \
	X(REPLAY, "replay")                       \
	X(LIMIT, "limit")                         \
	X(REPLICATION_READY, "replication_ready") \
	X(STORED, "stored")                       \
	X(N, "n")                                 \
	X(EXTENSION, "extension")                 \
	X(STATUS, "status")                       \
	X(PAYLOAD_BYTES, "payload_bytes")         \
	X(HTTP, "http")                           \
	X(REQUESTS, "requests")                   \
	X(SOURCE, "source")                       \
	X(MALFORMED, "malformed")

/*
 * Errors, X(ID, code, name, sentence). The hundreds say what a retry is worth: 1xx the same request
 * may succeed later, 2xx after the caller changed it, 3xx never for this request, 4xx the
 * connection ends.
 */
#define RTBP_ERRORS(X)                                                                        \
	X(BUSY, 100, "busy", "a queue of the daemon is full; try again later")                \
	X(TIMEOUT, 101, "timeout", "not done within the time given")                          \
	X(JOIN_FAILED, 102, "join_failed", "the server refused the join for now")             \
	X(JOIN_BUDGET, 103, "join_budget",                                                    \
	  "too many joins of this user have failed; the next one is tried later")             \
	X(BAD_REQUEST, 200, "bad_request", "a parameter is missing or has the wrong type")    \
	X(BAD_TOPIC, 201, "bad_topic",                                                        \
	  "a topic is 1 to 240 bytes of UTF-8 without control characters, not starting with " \
	  "\"rtbridge:\"")                                                                    \
	X(BAD_EVENT, 202, "bad_event",                                                        \
	  "an event is 1 to 255 bytes of UTF-8 without control characters")                   \
	X(BAD_PAYLOAD, 203, "bad_payload", "the payload cannot be said in JSON")              \
	X(UNKNOWN_METHOD, 204, "unknown_method", "this daemon has no such method")            \
	X(UNSUPPORTED, 205, "unsupported", "this daemon does not offer that")                 \
	X(NOT_SUBSCRIBED, 206, "not_subscribed", "this client has no such subscription")      \
	X(TOO_MANY, 207, "too_many", "this client holds as many of them as it may")           \
	X(HELLO_FIRST, 208, "hello_first", "the first message of a connection must be hello") \
	X(BAD_KEY, 209, "bad_key",                                                            \
	  "a presence key is 1 to 255 bytes of UTF-8 without control characters, not "        \
	  "starting with \"rtbridge:\"")                                                      \
	X(PRESENCE_TAKEN, 210, "presence_taken",                                              \
	  "the channel shows another client's presence, and may show no further one")         \
	X(BAD_TOKEN, 211, "bad_token",                                                        \
	  "the token has not the form of one, has expired, or the server refused it")         \
	X(UNKNOWN_ID, 212, "unknown_id",                                                      \
	  "no send of this user has this id, or it was too long ago")                         \
	X(REJECTED, 300, "rejected", "the server refused the join and will refuse it again")  \
	X(FORBIDDEN, 301, "forbidden", "the access rules do not allow this to this user")     \
	X(PROTOCOL, 400, "protocol", "the frame is not a message of this protocol")           \
	X(TOO_BIG, 401, "too_big", "the frame is larger than the daemon takes")               \
	X(VERSION, 402, "version", "the daemon does not speak this protocol version")         \
	X(HELLO_TIMEOUT, 403, "hello_timeout", "no hello in time")                            \
	X(SLOW_CONSUMER, 404, "slow_consumer", "the client did not read what it asked for")   \
	X(SHUTDOWN, 405, "shutdown", "the daemon is stopping")                                \
	X(FULL, 406, "full", "the daemon has as many clients as it may")                      \
	X(DENIED, 407, "denied", "this user may not attach")                                  \
	X(NO_MEMORY, 408, "no_memory", "the daemon is out of memory")

enum rtbp_method {
#define X(id, name) RTBP_M_##id,
	RTBP_METHODS(X)
#undef X
		RTBP_N_METHODS
};

enum rtbp_notice {
#define X(id, name) RTBP_N_##id,
	RTBP_NOTICES(X)
#undef X
		RTBP_N_NOTICES
};

enum rtbp_field {
#define X(id, name) RTBP_F_##id,
	RTBP_FIELDS(X)
#undef X
		RTBP_N_FIELDS
};

enum rtbp_error {
#define X(id, code, name, sentence) RTBP_E_##id = code,
	RTBP_ERRORS(X)
#undef X
};

const char *rtbp_method_name(enum rtbp_method method);
const char *rtbp_notice_name(enum rtbp_notice notice);
const char *rtbp_field_name(enum rtbp_field field);
const char *rtbp_error_name(int code);     /* "error" for an unknown code */
const char *rtbp_error_sentence(int code); /* a general sentence for an unknown code */

/* Return: the enum's value, or -1 when the name is none of the table. */
int rtbp_method_find(const char *name, size_t size);
int rtbp_notice_find(const char *name, size_t size);
