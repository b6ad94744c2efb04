/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the core's files share. Ownership: core owns sockets, rooms, rules, timers; a socket owns
 * its channels; a room ends with its last channel.
 */
#include <sys/queue.h>

#include "core.h"
#include "fault.h"
#include "pg_params.h"
#include "policy.h"
#include "rates.h"
#include "span.h"
#include "timer.h"

#define DS_NULL       DS_STR("null")
#define DS_EMPTY      DS_STR("{}")
#define DS_REF_SIZE   17 /* 16 characters */
#define DS_TOPIC_HEAD "realtime:"
#define DS_ID_SIZE    37 /* a UUID */

#define DS_TOO_MANY_EVENTS "Too many messages per second"

TAILQ_HEAD(ds_channel_list, ds_channel);
TAILQ_HEAD(ds_socket_list, ds_socket);
TAILQ_HEAD(ds_held_list, ds_held);
TAILQ_HEAD(ds_ghost_list, ds_ghost);
TAILQ_HEAD(ds_log, ds_logged);
TAILQ_HEAD(ds_posted_list, ds_posted);
TAILQ_HEAD(ds_stored_list, ds_stored);
TAILQ_HEAD(ds_asked_list, ds_asked);

struct ds_room {
	struct ds_str topic_json; /* owned */
	bool private;
	struct ds_channel_list members;
	struct ds_ghost_list ghosts;
};

/* What a token says, whether it is good or not; NULL or empty where it says nothing. Owned. */
struct ds_claims {
	char *role;
	char *sub;
	struct ds_buf exp_json;
};

enum ds_tri { DS_UNASKED, DS_YES, DS_NO };

/* Of a private channel, kept until its next token. */
struct ds_rights {
	enum ds_tri of[DS_RIGHTS];
};

struct ds_presence {
	bool on; /* by the join, or by a track that was let pass */
	bool tracked;
	struct ds_str key; /* owned */
	char ref[DS_REF_SIZE];
	struct ds_buf payload;
	struct ds_buf meta; /* payload with phx_ref, as it is sent */
	int64_t *calls;     /* times of the last calls, a ring of conf.presence_max */
	unsigned n_calls;   /* those that were let pass */
};

/* An entry that a rule lets stay for a while after its channel's end. */
struct ds_ghost {
	TAILQ_ENTRY(ds_ghost) in_room;
	TAILQ_ENTRY(ds_ghost) in_core;
	struct ds_room *room;
	uint64_t serial; /* of the channel that was */
	uint64_t socket_id;
	struct ds_presence presence;
};

/* One entry of a room; borrowed from its channel or ghost. */
struct ds_entry {
	const struct ds_presence *presence;
	uint64_t serial;
	uint64_t socket_id;
	bool late; /* a ghost's */
};

/* What the database has sent, while there is no real one. */
struct ds_stored {
	TAILQ_ENTRY(ds_stored) link;
	char id[DS_ID_SIZE];
	struct ds_buf name, event, payload;
	bool private;
	bool binary;
	int64_t at_ms; /* since 1970 */
};

enum ds_pg_state { DS_PG_IDLE, DS_PG_ASKED, DS_PG_SUBSCRIBED, DS_PG_FAILED };

/* The bindings of one channel; all zero if it has none. */
struct ds_pg {
	struct ds_channel *channel;
	struct ds_pg_params *bindings;
	unsigned *ids; /* as the client knows them */
	unsigned n;
	uint64_t first;      /* number of the first binding */
	struct ds_buf error; /* why they cannot be understood; empty if they can */
	enum ds_pg_state state;
	bool requested; /* the database has heard of it */
	bool legacy;    /* a join of the old form: rows come as plain INSERT, UPDATE, DELETE */
	uint64_t n_rows;
};

struct ds_channel {
	TAILQ_ENTRY(ds_channel) in_socket;
	TAILQ_ENTRY(ds_channel) in_room;
	struct ds_socket *socket;
	struct ds_room *room;
	uint64_t serial;
	struct ds_str topic_json; /* owned; the name by which it is found */
	char *join_ref;           /* JSON text as the join had it */
	char *push_ref;           /* the same, or the join's ref where it had none */
	bool self;
	bool ack;
	bool private;
	bool waits; /* for the database: what comes for it waits as well */
	char *name; /* the topic without its head */
	char *token;
	struct ds_claims claims; /* of the token */
	struct ds_rights rights;
	int64_t exp_ms;
	int64_t check_ms; /* when the token is looked at next (mono) */
	unsigned n_bindings;
	unsigned n_token_events;
	struct ds_presence presence;
	struct ds_pg pg;
	char (*replayed)[DS_ID_SIZE]; /* messages that its join replayed: they come once */
	unsigned n_replayed;
};

/* What waits because its socket is stuck in a join. */
enum ds_held_kind {
	DS_HELD_IN,
	DS_HELD_PING, /* its payload */
	DS_HELD_BYE,  /* the peer has closed */
	DS_HELD_OUT,
	DS_HELD_CLOSE
};

struct ds_held {
	TAILQ_ENTRY(ds_held) link;
	enum ds_held_kind kind;
	bool binary;
	bool no_delay; /* DS_HELD_IN: the wait of this join is over */
	int code;      /* DS_HELD_BYE, DS_HELD_CLOSE */
	struct ds_buf frame;
};

struct ds_socket {
	TAILQ_ENTRY(ds_socket) link;
	void *conn;
	uint64_t id;
	enum ds_vsn vsn;
	char *apikey;
	struct ds_channel_list channels;
	void *by_topic; /* tsearch tree of struct ds_channel */
	unsigned n_channels;
	bool closing;
	bool stuck;
	bool stalled;                /* stuck until a test says otherwise */
	bool no_beats;               /* heartbeats are not answered */
	bool awaits_db;              /* stuck until the database is back */
	struct ds_held_list waiting; /* for the database, of channels that wait for it */
	bool draining;               /* what was held is being worked off ... */
	bool queueing;               /* ... and what a channel says now comes behind it */
	bool counted;                /* as one of the users */
	struct ds_held_list held;
	size_t held_bytes;
	int64_t heard_ms;
	struct ds_buf rows; /* what the database has for the join that waits ... */
	bool rows_here;     /* ... once it has said so; with no rows at all it could not */
	uint64_t n_received, n_sent, n_heartbeats, n_joins, n_token_events;
};

struct ds_core {
	struct ds_conf conf;
	struct ds_ops ops;
	int64_t mono_ms, wall_ms;
	struct ds_socket_list sockets;
	void *rooms;      /* tsearch tree of struct ds_room */
	void *by_id;      /* tsearch tree of struct ds_socket */
	void *by_binding; /* tsearch tree of struct ds_pg */
	unsigned n_sockets;
	uint64_t next_id;
	uint64_t n_random;
	struct ds_timers timers;
	struct ds_rules rules;
	struct ds_ghost_list ghosts;
	bool muted;
	bool db_away;
	struct ds_policies *policies; /* NULL: everybody may do everything */
	unsigned n_users;
	struct ds_rate joins, events, presences, requests;
	struct ds_log log;
	uint64_t n_log, n_pushes, n_tokens_bad, n_tokens_other, n_joins_refused;
	uint64_t n_opened, n_refused, n_joins, n_heartbeats, n_received, n_relayed, n_sent;
	uint64_t n_presence_calls, n_presence_closed, n_rows;
	struct ds_posted_list posted; /* requests to the HTTP API that are still known */
	size_t posted_bytes, n_kept;
	uint64_t n_posted;
	struct ds_stored_list stored; /* what the database has sent, the oldest first */
	size_t n_stored;
	struct ds_auth *auth;       /* NULL until somebody asks for a session */
	struct ds_asked_list asked; /* refreshes that are still known */
	size_t n_asked_kept;
	uint64_t n_asked;
	int64_t refresh_credit;       /* in ms of the bucket, as of ... */
	int64_t refresh_credit_at_ms; /* ... this time; 0: it is full */
};

/* core.c: sockets */
struct ds_socket *ds_socket_by_id(struct ds_core *c, uint64_t id);
void ds_socket_send(struct ds_core *c, struct ds_socket *s, bool binary, struct ds_str frame);
void ds_socket_close(struct ds_core *c, struct ds_socket *s, int code);
/* The socket does nothing until then; frames wait in the order in which they came. */
void ds_socket_stick(struct ds_core *c, struct ds_socket *s, int64_t ms);
/* It stands still until the opposite is said; what waited is then worked off. May end the socket. */
void ds_socket_stall(struct ds_core *c, struct ds_socket *s, bool on);
struct ds_held *ds_socket_hold(struct ds_socket *s, enum ds_held_kind kind, struct ds_str frame,
			       bool first);
/* One frame of the client, now. May end channels. */
void ds_socket_work(struct ds_core *c, struct ds_socket *s, bool binary, struct ds_str frame);
/* What it stood still for is over. May end the socket. */
void ds_socket_resume(struct ds_core *c, struct ds_socket *s);
uint64_t ds_random(struct ds_core *c);
/* Answers @m; the rules may swallow or delay it. */
void ds_reply(struct ds_core *c, struct ds_socket *s, struct ds_str join_ref,
	      const struct ds_msg *m, const char *status, struct ds_str response);
void ds_reply_reason(struct ds_core *c, struct ds_socket *s, struct ds_str join_ref,
		     const struct ds_msg *m, struct ds_str reason);

/* join.c */
void ds_join(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m);

/* token.c */
enum ds_carried { DS_CARRIED_NONE, DS_CARRIED_KEY, DS_CARRIED_JWT, DS_CARRIED_OTHER };
/* What sort of token is this? NULL: none at all. A bad JWT is one, too. */
enum ds_carried ds_token_carried(struct ds_core *c, const char *text);
/* Text of the string member @key, or NULL; the caller frees it. */
char *ds_member_text(struct ds_str object, const char *key);
struct ds_claims ds_claims_read(struct ds_str token);
void ds_claims_done(struct ds_claims *claims);
/* Appends the token of a join. Return: the one that the join itself carries, or NULL; to be freed.
 */
char *ds_token_pick(const struct ds_socket *s, struct ds_str payload, struct ds_buf *token);
/* Appends why a join with this token is refused; nothing if it is not. */
void ds_token_refusal(struct ds_core *c, struct ds_str token, int64_t *ret_exp_ms,
		      struct ds_buf *why);
/* An access_token event; false if it is none that the real server knows. May end the channel. */
bool ds_new_token(struct ds_core *c, struct ds_channel *ch, struct ds_str payload);
void ds_arm_expiry(struct ds_core *c, struct ds_channel *ch);
void ds_expire(struct ds_core *c, struct ds_channel *ch);

/* rights.c */
/* Forgets them all and looks up those to read; false if there is none. @name: without its head. */
bool ds_rights_read(const struct ds_core *c, struct ds_rights *r, bool private,
		    const struct ds_claims *claims, const char *name, bool presence);
/* Has a right to read been lost? */
bool ds_rights_lost(const struct ds_rights *old, const struct ds_rights *now);
/* For who is in no channel: DS_NO also where the role does not exist at all. */
enum ds_tri ds_rights_look_up(const struct ds_core *c, const struct ds_claims *claims,
			      const char *name, enum ds_right right);
/* Looks it up if nobody has yet. */
bool ds_rights_ask(const struct ds_core *c, struct ds_channel *ch, enum ds_right right);
/* What nobody has looked up is not there. */
bool ds_rights_has(const struct ds_channel *ch, enum ds_right right);

/* limits.c: each says NULL or true if there is nothing against it */
const char *ds_limit_upgrade(struct ds_core *c);
const char *ds_limit_join(struct ds_core *c, const struct ds_socket *s);
void ds_limit_joined(struct ds_core *c, struct ds_socket *s);
void ds_limit_gone(struct ds_core *c, struct ds_socket *s);
/* One message sent, or received by one channel; false: there are too many. */
bool ds_limit_event(struct ds_core *c);
/* A request by HTTP: counts it, appends its headers; false: there were too many. */
bool ds_limit_request(struct ds_core *c, struct ds_buf *headers);
/* May a batch of @n messages come by HTTP, or (0) a single one? NULL, or what is wrong. */
const char *ds_limit_posted(struct ds_core *c, unsigned n);
/* One presence_state or track; false: there are too many. */
bool ds_limit_presence(struct ds_core *c);
/* Is there too much going on? Counts nothing. */
bool ds_limit_flooded(struct ds_core *c);
/* So many presence_diff were sent. */
void ds_limit_diffs(struct ds_core *c, unsigned n);
void ds_limit_status(struct ds_core *c, struct ds_buf *b);

/* log.c */
struct ds_log_entry {
	bool push; /* an access_token event, otherwise a join */
	struct ds_str topic_json;
	bool private;
	enum ds_carried carried;
	struct ds_str token; /* the one that counts */
	struct ds_str outcome;
};
void ds_log_add(struct ds_core *c, const struct ds_socket *s, struct ds_log_entry e);
/* Drops the oldest entry. */
void ds_log_drop(struct ds_core *c);
/* ,"NAME":TEXT; @text NULL: null */
void ds_member_json(struct ds_buf *b, const char *name, const char *text);
/* ,"role":..,"sub":..,"exp":.. */
void ds_claims_json(struct ds_buf *b, const struct ds_claims *claims);

/* channel.c */
struct ds_channel *ds_channel_by_topic(struct ds_socket *s, struct ds_str topic_json);
struct ds_channel *ds_channel_by_serial(struct ds_socket *s, uint64_t serial);
/* NULL if nobody is in it. */
struct ds_room *ds_room_find(struct ds_core *c, struct ds_str topic_json, bool private);
struct ds_channel *ds_channel_new(struct ds_core *c, struct ds_socket *s, struct ds_str topic_json,
				  bool private);
/* Frees a room that neither a channel nor a ghost is in any more. */
void ds_room_check(struct ds_core *c, struct ds_room *room);
/* Leaves the room, tells presence, frees it. Sends its own socket nothing. */
void ds_channel_end(struct ds_core *c, struct ds_channel *ch);
void ds_channel_push(struct ds_core *c, struct ds_channel *ch, const char *event,
		     struct ds_str payload);
void ds_channel_system(struct ds_core *c, struct ds_channel *ch, const char *extension,
		       const char *status, struct ds_str message);
/* phx_close or phx_error, then the end. */
void ds_channel_close(struct ds_core *c, struct ds_channel *ch);
void ds_channel_crash(struct ds_core *c, struct ds_channel *ch);
/* An orderly end for a reason: system error, phx_close. */
void ds_channel_shut(struct ds_core *c, struct ds_channel *ch, const char *message);
void ds_channel_message(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m);

/* outage.c */
/* Has this message to wait for the database? Then it is kept. */
bool ds_outage_holds(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m, bool binary,
		     struct ds_str frame);
/* Frees what still waits. */
void ds_outage_gone(struct ds_socket *s);

/* upgrade.c: whose request is it? */
enum ds_tenant { DS_TENANT_OK, DS_TENANT_UNKNOWN, DS_TENANT_SUSPENDED };
enum ds_tenant ds_tenant_of(const struct ds_core *c, struct ds_str host);

/* rest.c */
/* An answer of {"message":TEXT}. */
void ds_rest_message(struct ds_answer *ret, int status, const char *text);
/* rest_batch.c. @body: JSON, an object or not */
void ds_rest_batch(struct ds_core *c, const struct ds_claims *claims, struct ds_str body,
		   struct ds_answer *ret);

/* web.c: drops the oldest request that is still known */
void ds_web_drop(struct ds_core *c);

/* cast.c */
/* What no encoder of a receiver can write kills the sender's process on the real server. @from: the
 * channel that sends it, or NULL. */
bool ds_cast_possible(const struct ds_room *room, const struct ds_channel *from,
		      const struct ds_msg *m);
/* To all who are to hear it. Closes those that have heard too much, but not @from: false if that is
 * to be closed, too. @id: of the message, empty if it has none. The room may end. */
bool ds_cast(struct ds_core *c, struct ds_room *room, struct ds_channel *from, struct ds_str id,
	     const struct ds_msg *m);
/* What comes from no channel; counts it, and sets the topics of @m until then. False: impossible. */
bool ds_cast_outside(struct ds_core *c, struct ds_str name, bool private, struct ds_str id,
		     struct ds_msg *m);

/* stored.c */
/* Drops the oldest message. */
void ds_stored_drop(struct ds_core *c);
/* Appends the server's metadata of a message. */
void ds_stored_meta(struct ds_buf *b, struct ds_str id, bool replayed);

/* replayed.c */
/* What the "broadcast" options of a join say about replay. Return: NULL, or why it is refused. */
const char *ds_replay_parse(const struct ds_core *c, struct ds_str broadcast, bool private,
			    struct ds_replay *ret);
/* Has the database been asked, so that this join has to wait? */
bool ds_replay_ask(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m);
/* Appends what is to be replayed, as in ds_core_pg_replayed(). */
void ds_replay_rows(struct ds_core *c, struct ds_socket *s, const struct ds_replay *replay,
		    struct ds_buf *rows);
void ds_replay_push(struct ds_core *c, struct ds_channel *ch, struct ds_str rows);
/* Has the message with this id (may be empty) been replayed to the channel? */
bool ds_replayed(const struct ds_channel *ch, struct ds_str id);
void ds_replayed_done(struct ds_channel *ch);
/* After the reply to a join that asks for it; false if the channel has ended over it. */
bool ds_replication_joined(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m);
void ds_replication_ready(struct ds_core *c, struct ds_channel *ch, bool fail);

/* postgres.c */
/* @wanted: JSON array of the bindings; @reply: the same, each with its id. */
void ds_pg_init(struct ds_core *c, struct ds_channel *ch, struct ds_str wanted, struct ds_str reply,
		bool legacy);
/* After the reply to the join: subscribes now or later, or says why not. */
void ds_pg_joined(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m);
/* Subscribes with the channel's token, be it for the first time or again. */
void ds_pg_subscribe(struct ds_core *c, struct ds_channel *ch);
void ds_pg_subscribed(struct ds_core *c, struct ds_channel *ch);
/* Rows pass the channel by until it is subscribed again, @ms from now. */
void ds_pg_lose(struct ds_core *c, struct ds_channel *ch, const char *message, int64_t ms);
/* A row that no database has judged. @row is what filters look at. */
void ds_pg_row(struct ds_core *c, struct ds_str event, struct ds_str schema, struct ds_str table,
	       struct ds_str row, struct ds_str data);
void ds_pg_push(struct ds_core *c, struct ds_channel *ch, struct ds_str payload);
void ds_pg_end(struct ds_core *c, struct ds_channel *ch);

/* presence.c */
void ds_presence_init(struct ds_core *c, struct ds_channel *ch, struct ds_str config);
void ds_presence_done(struct ds_presence *p);
/* The entries of @room by key, then by age; the caller frees the array. */
struct ds_entry *ds_presence_entries(const struct ds_room *room, size_t *ret_n);
/* After the reply to the join: the state, unless it is not wanted, denied or held up by a rule.
 * Return: false if the channel has ended over it. */
bool ds_presence_joined(struct ds_core *c, struct ds_channel *ch);
/* presence_state with this payload; if it is empty, as things are now. */
void ds_presence_state(struct ds_core *c, struct ds_channel *ch, struct ds_str payload);
void ds_presence_event(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m);
/* After @ch has left its room @room; may take away what ch->presence owns. */
void ds_presence_gone(struct ds_core *c, struct ds_channel *ch, struct ds_room *room);
/* The ghost of the channel @serial leaves, and all members hear of it. */
void ds_presence_ghost_gone(struct ds_core *c, uint64_t serial);
