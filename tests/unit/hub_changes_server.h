/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the stories about database changes share: the server's words about them, one by one for
 * those that are told line by line, and a whole server (database_*) for those with many bindings.
 */
#include "hub_fixture.h"

#define FEED_TOPIC "realtime:rtbridge:*"
#define PG         "'extension':'postgres_changes'"
#define BAD_TEXT                                                                                  \
	"Unable to subscribe to changes with given parameters. Please check Realtime is enabled " \
	"for the given connect parameters: [event: *, schema: public, table: bad, filters: []]"

/* ---- one by one; JSON with ' for " ---- */

/* The next frame is the join of a feed with these bindings (a pattern for what stands in []).
 * Return: a copy, as lines move when more are written down. */
struct line expect_feed(const char *bindings);
/* The join is answered with these ids, as in "11,12"; ok comes without a word about the bindings.
 */
void server_takes(struct line *join, const char *ids);
/* What the server says of the bindings, on the link of the join. */
void server_system(const struct line *join, bool ok, const char *text);
void server_row(const struct line *join, const char *ids, const char *data);
/* An INSERT of row n. */
void server_numbered(const struct line *join, const char *ids, unsigned n);
/* The next frame is the join of the private channel p with these bindings, on this link. */
struct line expect_private(unsigned link, const char *bindings);
/* The channel is closed, with phx_close. */
void server_ends(const struct line *join);
/* The next frame leaves what this joined: answered. */
void server_left(const struct line *join);
/* expect_feed(), server_takes() and the bindings flow. */
struct line server_feed(const char *bindings, const char *ids);

/* The peer has the binding 1 to table t, with the server's id 11, and nothing else. */
struct line peer_flowing(struct fake_peer *p);

/* ---- a whole server ---- */

enum { DB_CHANNELS = 400, DB_BINDINGS = 200 };

/* Tables are called "t" or "bad" and a number; the server does not take the bad ones. */
struct db_binding {
	bool bad;
	unsigned table, event; /* index of db_events */
	uint64_t id;
};

struct db_channel {
	bool used, is_private;
	bool subscribed; /* the rows are looked up for it */
	bool told;       /* it was said that they flow, or why not */
	unsigned link, n;
	uint64_t epoch, ref;
	char topic[300];
	struct db_binding at[DB_BINDINGS];
};

extern const char *const db_events[4];

extern struct database {
	struct db_channel channels[DB_CHANNELS];
	/* What is to be said to the joins, from 0: all is well. */
	bool private_only;   /* joins of public channels are refused */
	bool every_event;    /* an old server: each channel gets all types of a table's rows */
	bool late;           /* rows wait in the queue of their link until database_send() */
	unsigned n_silent;   /* so many joins get no word about their bindings at first */
	unsigned n_refused;  /* so many joins are answered with an error that passes */
	unsigned n_troubled; /* so many get an error that passes about their bindings first */
	/* Counted. */
	unsigned n_joins, n_leaves;
} database;

void database_start(void);
/* The next frame on some link, which `first` chooses, is answered. Return: false: there is none. */
bool database_frame(unsigned first);
/* The word about some channel's bindings that is still to come. Return: false: there is none. */
bool database_word(unsigned first);
/* A link that was asked for is there. Return: false: there is none. */
bool database_open_link(void);
/* Opens links that are asked for, and answers until all is quiet. */
void database_serve(void);
/* The same again and again, while time goes on. */
void database_serve_for(uint64_t ms, uint64_t step);
/* A row changes: {..., 'record':{'n':N}}. */
void database_row(unsigned table, const char *type, unsigned n);
/* The next late row of the link. Return: false: there is none. */
bool database_send(unsigned link);
/* The server closes a channel; its process forgets its bindings, then asks for them again. */
void database_close(struct db_channel *c);
void database_trouble(struct db_channel *c);
/* It is there, at the server and on a link that lives. */
bool database_has(const struct db_channel *c);
/* Channels with bindings that are there. */
unsigned database_feeds(void);
