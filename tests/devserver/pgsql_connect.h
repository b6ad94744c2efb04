/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Opens the two connections to the database and makes it ready. All of this blocks; it runs at the
 * start and to get a lost database back. What is wrong is said on stderr, with what to do.
 */
#include <libpq-fe.h>
#include <stdbool.h>

/** pgsql_open_query() - an ordinary session with the devserver's functions; NULL on failure */
PGconn *pgsql_open_query(const char *conninfo);
/** pgsql_be_quiet() - attempts are expected to fail: say nothing */
void pgsql_be_quiet(bool yes);
/** pgsql_said() - libpq's last message without its newline; valid until the next call */
const char *pgsql_said(const PGconn *conn);
/** pgsql_open_stream() - a session that streams what is committed from now on; NULL on failure */
PGconn *pgsql_open_stream(const char *conninfo);
