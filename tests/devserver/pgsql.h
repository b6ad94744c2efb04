/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A real PostgreSQL behind the core: one connection streams what is committed (wal2json in a
 * temporary slot), another one asks pgsql.sql which subscription may see which row.
 *
 * Only pgsql*.c include libpq. They own no loop: the shell watches the descriptors. Nothing here
 * waits for the database, except the start and the attempts to get a lost one back.
 */
#include "core.h"

struct ds_pgsql;

/** struct ds_pgsql_conf - borrowed strings */
struct ds_pgsql_conf {
	const char *conninfo; /* of libpq; NULL: no database */
	int64_t delay_ms;     /* how long each row is held back */
};

enum ds_pgsql_link { DS_PGSQL_STREAM, DS_PGSQL_QUERY, DS_PGSQL_LINKS };

/**
 * ds_pgsql_new() - connects to the database and makes it ready; may take its time
 * @ops: pg_subscribe, pg_unsubscribe and pg are set
 * Return: NULL if the database is of no use; what is wrong has been said on stderr.
 */
struct ds_pgsql *ds_pgsql_new(const struct ds_pgsql_conf *conf, struct ds_ops *ops);
/** ds_pgsql_free() - after the core's end; NULL is allowed */
struct ds_pgsql *ds_pgsql_free(struct ds_pgsql *p);

/**
 * ds_pgsql_fd() - the descriptor to watch, or -1 while the connection is lost
 *
 * It belongs to libpq. If it closes, ds_pgsql_epoch() changes.
 */
int ds_pgsql_fd(const struct ds_pgsql *p, enum ds_pgsql_link link);
unsigned ds_pgsql_epoch(const struct ds_pgsql *p);
/** ds_pgsql_wants_read() - false while there is more than enough to do */
bool ds_pgsql_wants_read(const struct ds_pgsql *p, enum ds_pgsql_link link);
bool ds_pgsql_wants_write(const struct ds_pgsql *p, enum ds_pgsql_link link);
/** ds_pgsql_ready() - the descriptor is readable or writable; rows and answers go to @core */
void ds_pgsql_ready(struct ds_pgsql *p, enum ds_pgsql_link link, struct ds_core *core,
		    int64_t mono_ms);

/**
 * ds_pgsql_turn() - does what is due; to be called after every event
 * @unsent_bytes: of the socket that has most of them; rows wait for slow readers, but not for ever
 */
void ds_pgsql_turn(struct ds_pgsql *p, struct ds_core *core, int64_t mono_ms, size_t unsent_bytes);
/** ds_pgsql_deadline() - when ds_pgsql_turn() is wanted (mono_ms), or -1 */
int64_t ds_pgsql_deadline(const struct ds_pgsql *p);
