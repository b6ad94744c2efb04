/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * hub: who wants what, and who gets what. All policy of the bridge lives in this layer; it has no
 * sockets (bytes go through ops) and no clock of its own, so that a test can put it between a
 * script and a virtual clock.
 *
 *   in    link's frame -> links.c (session; finds the join) -> its owner: chan.c, slot.c, feed.c
 *         (packs once) -> news_deliver() -> peer.c -> io->send
 *   out   peer's frame -> peer.c (unpacks, limits) -> subscribe.c | send_ask.c | track.c ...
 *         -> join.c -> links.c (session) -> ops->link_send
 *         -> send_http.c -> ops->post
 *
 * Pointers never outlive a turn: what crosses to the server and back is a number (struct
 * session_push.cookie). Peers and joins that ended are freed by hub_turn_end(), never inside a call
 * that walks over them.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/blob.h"
#include "base/clock.h"
#include "base/secret.h"
#include "realtime/session.h"

struct acl;
struct hub;
struct peer;

struct hub_conf {
	struct session_conf session;
	const char *url; /* for people: where to, without the query; borrowed for the hub's life */
	const struct secret *apikey; /* borrowed until hub_set_apikey() */
	bool has_own_token; /* the daemon's identity has a token of its own (hub_set_token()): without
			       one what needs it waits, and never goes with the API key instead */
	size_t peer_frame_bytes; /* told in hello; the reader in ipc enforces it */
	size_t peer_queue_bytes; /* told in hello; the queue in ipc enforces it */
	unsigned max_peers;
	unsigned max_subscriptions;          /* per peer */
	unsigned max_channels;               /* joins on one link; the server's limit is 100 */
	unsigned max_bindings;               /* of database changes, per peer */
	enum hub_private {                   /* does the project allow private channels only? */
			   HUB_PRIVATE_AUTO, /* learned from the server's refusal */
			   HUB_PRIVATE_YES,
			   HUB_PRIVATE_NO,
	} private_only;
	unsigned max_links;    /* 1 to 8: the shared one, and further ones where it cannot serve */
	size_t presence_bytes; /* who is there, of one channel */
	/* Several local trackers of one channel (PROTOCOL.md, track). */
	enum hub_trackers {
		HUB_TRACKERS_LINKS,
		HUB_TRACKERS_MERGE,
		HUB_TRACKERS_REFUSE,
	} trackers;
	const struct acl *acl; /* borrowed until hub_set_acl(); NULL: everybody may everything */
	uid_t owner;           /* the daemon's own user: no shares are kept from it for others */
	enum hub_probation {   /* where joins that may fail are tried (probation.h) */
			     HUB_PROBATION_AFTER_FAILURE,
			     HUB_PROBATION_ALWAYS,
			     HUB_PROBATION_OFF,
	} probation;
	bool connect_always;       /* else the shared link is closed while nothing needs it */
	size_t payload_bytes;      /* the plan's limit for a broadcast; 0: not known */
	size_t send_bytes;         /* all sends that wait or are unanswered */
	unsigned joins_per_s;      /* the mean at first (realtime/pace.h) */
	unsigned joins_most_per_s; /* of a part of the plan's; 0: not known */
	uint32_t join_ms;          /* for the answer to one */
	uint32_t linger_ms;        /* a join without subscribers */
	uint32_t send_linger_ms;   /* a join that only a sender wanted */
};

/* The defaults of everything but url, apikey and seed. */
void hub_conf_init(struct hub_conf *conf);

/* An HTTP request to the project's Realtime endpoints. Everything is borrowed for the call. */
struct hub_post {
	const char *path;           /* below the endpoints' base: "/broadcast..." */
	const struct secret *token; /* for `authorization`; NULL: the API key */
	const char *content_type;
	const void *body;
	size_t size;
	uint32_t timeout_ms; /* for the whole */
};

/* What became of it. Borrowed. */
struct hub_answer {
	bool was_sent;          /* false: not one byte of it reached the server */
	unsigned status;        /* HTTP status; 0: there was no answer */
	uint32_t retry_after_s; /* not before that; also without an answer, 0: as the hub likes */
	const char *body;       /* the beginning of it */
	size_t size;
	const char *text; /* one line for people, when there was no answer */
};

/* How it stands with the daemon's own token, for people. Copied. NULL is "". */
struct hub_token_status {
	const char *source; /* "file", "command", "refresh" */
	const char *state;  /* as realtime/keeper.h names it */
	const char *role, *code, *text;
	int64_t since_wall_ms, ends_wall_ms; /* ends: -1: none */
	int64_t next_try_ms; /* from now; 0: an attempt is under way; -1: none is planned */
};

/* Down: to wire, and to the owner's loop. */
struct hub_ops {
	int (*link_open)(void *ctx, unsigned link, uint64_t epoch);
	int (*link_send)(void *ctx, unsigned link, uint64_t epoch, bool binary, const void *data,
			 size_t size);
	void (*link_close)(void *ctx, unsigned link, uint64_t epoch, uint16_t code);
	/* 0, then hub_on_answered() follows exactly once; > 0: not now; < 0: it cannot be sent. */
	int (*post)(void *ctx, uint64_t id, const struct hub_post *post);
	void (*wake)(void *ctx);    /* call hub_turn_end() at the end of this turn */
	void (*drained)(void *ctx); /* the end of hub_drain(), once */
	void (*status)(void *ctx, const char *line); /* one line for people, when it changes */
	/* The server refused the daemon's own token with this serial. Comes once for each. */
	void (*token_refused)(void *ctx, uint64_t serial, const char *code, const char *text);
	/* The server refused the API key at the door (401). */
	void (*key_refused)(void *ctx);
	/* Somebody asks for another token now. hub_set_token_status() follows when the attempt has
	 * begun (next_try_ms is 0 then), and when it has ended. */
	void (*token_wanted)(void *ctx);
	/* The last three may be NULL: nobody wants to know. */
};

/* Down: to one peer's connection (ipc/conn.h has the same verbs). */
struct peer_io {
	/* 0, also when it is closing by itself; > 0: over the limit; -ENOMEM */
	int (*send)(void *io, struct blob *blob);
	void (*finish)(void *io, struct blob *farewell, bool drop);
	void (*abort)(void *io, const char *text);
	void (*pause)(void *io, bool paused);
	size_t (*queued_bytes)(void *io);
};

struct peer_cred {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	const gid_t *groups; /* further ones; borrowed until hub_on_peer_closed(), as is `name` */
	size_t n_groups;
	const char *name; /* of the user; NULL: not known */
};

/* Return: 0, -ENOMEM. */
int hub_new(const struct hub_conf *conf, const struct clock *clock, const struct hub_ops *ops,
	    void *ctx, struct hub **ret);
struct hub *hub_free(struct hub *hub); /* peers must have been closed before. Returns NULL. */

/* The link is wanted from now on. */
void hub_start(struct hub *hub);
/* Stops in order: no new requests; what peers have sent is carried out for at most `grace_ms`; then
 * each peer gets `shutdown`, the link is closed, and ops->drained() is called. */
void hub_drain(struct hub *hub, uint32_t grace_ms);

/* Other access rules from now on, borrowed: what live clients may no longer do ends. */
void hub_set_acl(struct hub *hub, const struct acl *acl);

/* The daemon's own token from now on (copied): joined channels are told, a few at a time, further
 * joins carry it, what waited for it goes on. @serial grows; @lives_ms: from now. NULL: there is none
 * any more. Nothing without has_own_token. Return: 0; -ENOMEM: nothing has changed. */
int hub_set_token(struct hub *hub, const struct secret *token, uint64_t serial, uint64_t lives_ms);
void hub_set_token_status(struct hub *hub, const struct hub_token_status *st);
/* Another API key from now on, borrowed: the next attempt is made with it, at once unless a
 * connection is up. */
void hub_set_apikey(struct hub *hub, const struct secret *apikey);

/* The machine has slept for so long: what is joined may be gone without a word. */
void hub_on_slept(struct hub *hub, uint64_t ms);
/* Addresses or routes of the machine have changed: a connection may be dead, or possible again. */
void hub_on_network(struct hub *hub);

/* ---- from wire ---- */
void hub_on_opened(struct hub *hub, unsigned link, uint64_t epoch);
void hub_on_frame(struct hub *hub, unsigned link, uint64_t epoch, bool binary, const void *data,
		  size_t size);
void hub_on_closed(struct hub *hub, unsigned link, uint64_t epoch, const struct session_end *end);

void hub_on_answered(struct hub *hub, uint64_t id, const struct hub_answer *answer);

/* ---- from ipc ---- */
/**
 * hub_attach() - a process connected
 * @io, @io_ctx: its connection; must stay usable until hub_on_peer_closed()
 *
 * Return: 0; -ENOMEM (close it). A hub that is full answers by itself: farewell and finish.
 */
int hub_attach(struct hub *hub, const struct peer_cred *cred, const struct peer_io *io,
	       void *io_ctx, struct peer **ret);
void hub_on_peer_frame(struct peer *peer, const uint8_t *body, size_t size);
void hub_on_peer_oversize(struct peer *peer, size_t size);
/* The connection is gone: no io call follows. The peer is freed at the turn's end. */
void hub_on_peer_closed(struct peer *peer, const char *text);

/* ---- time ---- */
uint64_t
hub_deadline(struct hub *hub); /* clock_now() time of the next hub_tick(); UINT64_MAX: none */
void hub_tick(struct hub *hub);
void hub_turn_end(struct hub *hub);
