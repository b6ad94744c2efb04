/* SPDX-License-Identifier: MIT */
#include "pgsql_connect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

extern const char pgsql_sql[]; /* pgsql.sql, embedded by the build; the next likewise */
extern const char pgsql_realtime_sql[];

/* Values are to look the same whatever the database's and the user's defaults are. */
#define SETTINGS                                                                       \
	"select set_config('timezone', 'UTC', false), set_config('datestyle', 'ISO', " \
	"false), set_config('intervalstyle', 'postgres', false), set_config('bytea_"   \
	"output', 'hex', false), set_config('statement_timeout', '0', false), set_"    \
	"config('extra_float_digits', '1', false), set_config('lc_monetary', 'C', false)"

static bool quiet;

__attribute__((format(printf, 2, 3))) static PGconn *give_up(PGconn *conn, const char *fmt, ...)
{
	va_list ap;

	if (quiet) {
		PQfinish(conn);
		return NULL;
	}
	fputs("rtbridge-devserver: --postgres: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	PQfinish(conn);
	return NULL;
}

const char *pgsql_said(const PGconn *conn)
{
	static char text[500];

	snprintf(text, sizeof(text), "%s", PQerrorMessage(conn));
	text[strcspn(text, "\n")] = 0;
	return text[0] ? text : "the connection has ended";
}

void pgsql_be_quiet(bool yes)
{
	quiet = yes;
}

static void on_notice(void *arg, const PGresult *r)
{
	const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);

	(void)arg;
	if (severity && strcmp(severity, "NOTICE") != 0)
		fprintf(stderr, "rtbridge-devserver: PostgreSQL: %s: %s\n", severity,
			PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
}

static bool run(PGconn *conn, const char *sql)
{
	PGresult *r = PQexec(conn, sql);
	ExecStatusType status = PQresultStatus(r);

	PQclear(r);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_COPY_BOTH;
}

static PGconn *open_session(const char *conninfo, const char *replication)
{
	const char *const keys[] = { "dbname",          "client_encoding",
				     "connect_timeout", "fallback_application_name",
				     "replication",     NULL };
	const char *const values[] = { conninfo,    "UTF8", "5", "rtbridge-devserver",
				       replication, NULL };
	PGconn *conn = PQconnectdbParams(keys, values, 1);

	if (PQstatus(conn) != CONNECTION_OK)
		return give_up(conn,
			       "%s; it takes a connection string like \"host=/run/postgresql "
			       "dbname=postgres user=postgres\"",
			       pgsql_said(conn));
	PQsetNoticeReceiver(conn, on_notice, NULL);
	if (strcmp(PQparameterStatus(conn, "server_encoding"), "UTF8") != 0)
		return give_up(conn,
			       "the database's encoding is %s; it has to be UTF8 (createdb -E "
			       "UTF8 -T template0)",
			       PQparameterStatus(conn, "server_encoding"));
	if (!run(conn, SETTINGS))
		return give_up(conn, "%s", pgsql_said(conn));
	return conn;
}

static bool is_logical(PGconn *conn)
{
	PGresult *r = PQexec(conn, "show wal_level");
	bool logical = PQntuples(r) == 1 && strcmp(PQgetvalue(r, 0, 0), "logical") == 0;

	PQclear(r);
	return logical;
}

PGconn *pgsql_open_query(const char *conninfo)
{
	PGconn *conn = open_session(conninfo, "false");

	if (!conn)
		return NULL;
	if (!is_logical(conn))
		return give_up(conn, "wal_level is not \"logical\"; set wal_level = logical in "
				     "postgresql.conf and restart PostgreSQL");
	if (!run(conn, pgsql_sql) || !run(conn, pgsql_realtime_sql) ||
	    !run(conn, "select rtbridge_devserver.begin_session()"))
		return give_up(conn,
			       "%s; its user has to be a superuser, or one who may create roles, "
			       "schemas and publications here",
			       pgsql_said(conn));
	if (PQsetnonblocking(conn, 1) != 0)
		return give_up(conn, "%s", pgsql_said(conn));
	return conn;
}

PGconn *pgsql_open_stream(const char *conninfo)
{
	PGconn *conn = open_session(conninfo, "database");
	char slot[64], sql[400];
	unsigned salt = 0;

	if (!conn)
		return NULL;
	if (getrandom(&salt, sizeof(salt), 0) < 0)
		salt = 0;
	snprintf(slot, sizeof(slot), "rtbridge_devserver_%ld_%08x", (long)getpid(), salt);
	snprintf(sql, sizeof(sql),
		 "CREATE_REPLICATION_SLOT \"%s\" TEMPORARY LOGICAL \"wal2json\" NOEXPORT_SNAPSHOT",
		 slot);
	if (!run(conn, sql))
		return give_up(
			conn,
			"%s; needed are the plugin wal2json (Debian: postgresql-15-wal2json), "
			"a user with REPLICATION, and room within max_replication_slots and "
			"max_wal_senders",
			pgsql_said(conn));
	snprintf(sql, sizeof(sql),
		 "START_REPLICATION SLOT \"%s\" LOGICAL 0/0 (\"format-version\" '2', "
		 "\"include-timestamp\" 'true', \"include-transaction\" 'false', "
		 "\"include-xids\" 'true', "
		 "\"include-types\" 'false', \"actions\" 'insert,update,delete')",
		 slot);
	if (!run(conn, sql) || PQsetnonblocking(conn, 1) != 0)
		return give_up(conn, "%s; the plugin has to be wal2json 2.5 or later",
			       pgsql_said(conn));
	return conn;
}
