/* SPDX-License-Identifier: MIT */
/*
 * One query runs at a time. Subscriptions and what joins ask for go before rows, as on the real
 * server, where they do not wait for each other; rows and messages go in the order of their commits,
 * rows as many at once as have come.
 */
#include "pgsql.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "pgsql_connect.h"
#include "pgsql_message.h"

#define BATCH_ROWS     500
#define BATCH_BYTES    4000000
#define QUEUE_BYTES    32000000 /* beyond it the stream is not read */
#define UNSENT_BYTES   4000000  /* rows wait while a socket has so many unsent bytes ... */
#define UNSENT_WAIT_MS 5000     /* ... but no longer than that */
#define STATUS_MS      2000     /* how often the database hears what need not be kept for us */
#define RETRY_MS       500      /* between attempts to get a lost database back */

/* Microseconds from 1970 to PostgreSQL's year 2000. */
#define EPOCH_US 946684800000000

TAILQ_HEAD(change_list, change);
TAILQ_HEAD(job_list, job);

struct change {
	TAILQ_ENTRY(change) link;
	char *copy_data; /* as libpq gave it */
	struct ds_str json;
	int64_t due_ms;
	bool message; /* of realtime.messages: nobody has to judge it */
};

enum job_kind { UNSUBSCRIBE, SUBSCRIBE, REPLAY };

struct job {
	TAILQ_ENTRY(job) link;
	enum job_kind kind;
	bool again;
	uint64_t first;                 /* REPLAY: the socket's id */
	char *bindings, *role, *claims; /* SUBSCRIBE */
	char *name;                     /* REPLAY: the channel's; this and the next two */
	int64_t since_ms;
	unsigned limit;
};

enum running { IDLE, SUBSCRIBING, UNSUBSCRIBING, REPLAYING, JUDGING };

struct ds_pgsql {
	struct ds_pgsql_conf conf;
	PGconn *conn[DS_PGSQL_LINKS];
	unsigned epoch;
	bool want_write[DS_PGSQL_LINKS];
	bool lost;
	int64_t retry_ms;
	int64_t status_ms;
	uint64_t received_lsn;
	struct change_list changes;
	size_t queued_bytes;
	struct job_list jobs;
	enum running running;
	struct job *job;    /* SUBSCRIBING, REPLAYING: the one that is being done */
	size_t n_judging;   /* JUDGING: so many of the first changes */
	bool answered;      /* the running query has had its result */
	int64_t stalled_ms; /* since when rows wait for a slow reader; -1: they do not */
	bool heedless;      /* they have waited long enough */
};

static void job_free(struct job *j)
{
	free(j->bindings);
	free(j->role);
	free(j->claims);
	free(j->name);
	free(j);
}

static void on_subscribe(void *pg, const struct ds_pg_request *rq)
{
	struct ds_pgsql *p = pg;
	struct job *j = ds_alloc(sizeof(*j));

	*j = (struct job){ .kind = SUBSCRIBE, .again = rq->again, .first = rq->first };
	j->bindings = ds_str_dup(rq->bindings);
	j->role = ds_str_dup(rq->role);
	j->claims = ds_str_dup(rq->claims);
	TAILQ_INSERT_TAIL(&p->jobs, j, link);
}

static void on_unsubscribe(void *pg, uint64_t first)
{
	struct ds_pgsql *p = pg;
	struct job *j = ds_alloc(sizeof(*j));

	j->first = first;
	TAILQ_INSERT_TAIL(&p->jobs, j, link);
}

static void on_replay(void *pg, const struct ds_replay *replay)
{
	struct ds_pgsql *p = pg;
	struct job *j = ds_alloc(sizeof(*j));

	*j = (struct job){ .kind = REPLAY, .first = replay->socket_id };
	j->since_ms = replay->since_ms;
	j->limit = replay->limit;
	j->name = ds_str_dup(replay->name);
	TAILQ_INSERT_TAIL(&p->jobs, j, link);
}

static bool open_all(struct ds_pgsql *p)
{
	p->conn[DS_PGSQL_QUERY] = pgsql_open_query(p->conf.conninfo);
	if (p->conn[DS_PGSQL_QUERY])
		p->conn[DS_PGSQL_STREAM] = pgsql_open_stream(p->conf.conninfo);
	return p->conn[DS_PGSQL_STREAM] != NULL;
}

static void close_all(struct ds_pgsql *p)
{
	for (int i = 0; i < DS_PGSQL_LINKS; i++) {
		PQfinish(p->conn[i]);
		p->conn[i] = NULL;
		p->want_write[i] = false;
	}
	p->epoch++;
}

struct ds_pgsql *ds_pgsql_new(const struct ds_pgsql_conf *conf, struct ds_ops *ops)
{
	struct ds_pgsql *p = ds_alloc(sizeof(*p));

	p->conf = *conf;
	p->stalled_ms = -1;
	TAILQ_INIT(&p->changes);
	TAILQ_INIT(&p->jobs);
	if (!open_all(p))
		return ds_pgsql_free(p);
	ops->pg = p;
	ops->pg_subscribe = on_subscribe;
	ops->pg_unsubscribe = on_unsubscribe;
	ops->pg_replay = on_replay;
	return p;
}

static void drop_change(struct ds_pgsql *p)
{
	struct change *ch = TAILQ_FIRST(&p->changes);

	TAILQ_REMOVE(&p->changes, ch, link);
	p->queued_bytes -= ch->json.n + sizeof(*ch);
	PQfreemem(ch->copy_data);
	free(ch);
}

struct ds_pgsql *ds_pgsql_free(struct ds_pgsql *p)
{
	struct job *j;

	if (!p)
		return NULL;
	close_all(p);
	while (!TAILQ_EMPTY(&p->changes))
		drop_change(p);
	if (p->job)
		job_free(p->job);
	while ((j = TAILQ_FIRST(&p->jobs)) != NULL) {
		TAILQ_REMOVE(&p->jobs, j, link);
		job_free(j);
	}
	free(p);
	return NULL;
}

int ds_pgsql_fd(const struct ds_pgsql *p, enum ds_pgsql_link link)
{
	return p->conn[link] ? PQsocket(p->conn[link]) : -1;
}

unsigned ds_pgsql_epoch(const struct ds_pgsql *p)
{
	return p->epoch;
}

bool ds_pgsql_wants_read(const struct ds_pgsql *p, enum ds_pgsql_link link)
{
	return link != DS_PGSQL_STREAM || p->queued_bytes < QUEUE_BYTES;
}

bool ds_pgsql_wants_write(const struct ds_pgsql *p, enum ds_pgsql_link link)
{
	return p->want_write[link];
}

/* What was being done is done again when the database is back. */
static void lose(struct ds_pgsql *p, struct ds_core *core, enum ds_pgsql_link link, int64_t mono_ms)
{
	fprintf(stderr, "rtbridge-devserver: --postgres: lost, trying again: %s\n",
		pgsql_said(p->conn[link]));
	close_all(p);
	p->lost = true;
	p->retry_ms = mono_ms;
	if (p->job)
		TAILQ_INSERT_HEAD(&p->jobs, p->job, link);
	p->job = NULL;
	p->running = IDLE;
	ds_core_database(core, false);
}

static bool flush(struct ds_pgsql *p, enum ds_pgsql_link link)
{
	int r = PQflush(p->conn[link]);

	p->want_write[link] = r == 1;
	return r >= 0;
}

/* The stream. */

static void put64(char *at, uint64_t v)
{
	v = htobe64(v);
	memcpy(at, &v, sizeof(v));
}

static uint64_t get64(const char *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return be64toh(v);
}

/* All that has come may be forgotten: the slot is temporary, a new one begins at its own time. */
static bool send_status(struct ds_pgsql *p, int64_t mono_ms)
{
	char b[34] = { 'r' };

	put64(b + 1, p->received_lsn);
	put64(b + 9, p->received_lsn);
	put64(b + 17, p->received_lsn);
	put64(b + 25, (uint64_t)0);
	p->status_ms = mono_ms + STATUS_MS;
	return PQputCopyData(p->conn[DS_PGSQL_STREAM], b, sizeof(b)) >= 0 &&
	       flush(p, DS_PGSQL_STREAM);
}

static bool take_stream_data(struct ds_pgsql *p, char *data, size_t n, int64_t mono_ms)
{
	struct change *ch;
	uint64_t lsn = n >= 18 ? get64(data + (data[0] == 'w' ? 9 : 1)) : 0;

	if (lsn > p->received_lsn)
		p->received_lsn = lsn;
	if (n < 25 || data[0] != 'w') {
		bool reply = n >= 18 && data[0] == 'k' && data[17];

		PQfreemem(data);
		return !reply || send_status(p, mono_ms);
	}
	ch = ds_alloc(sizeof(*ch));
	ch->copy_data = data;
	ch->json = (struct ds_str){ data + 25, n - 25 };
	ch->due_ms = mono_ms + p->conf.delay_ms;
	ch->message = pgsql_is_message(ch->json);
	p->queued_bytes += ch->json.n + sizeof(*ch);
	TAILQ_INSERT_TAIL(&p->changes, ch, link);
	return true;
}

static bool read_stream(struct ds_pgsql *p, int64_t mono_ms)
{
	PGconn *conn = p->conn[DS_PGSQL_STREAM];
	char *data;
	int n;

	while ((n = PQgetCopyData(conn, &data, 1)) > 0)
		if (!take_stream_data(p, data, (size_t)n, mono_ms))
			return false;
	return n == 0;
}

/* The queries. */

static bool query(struct ds_pgsql *p, enum running what, const char *sql, int n,
		  const char *const *values)
{
	p->running = what;
	p->answered = false;
	return PQsendQueryParams(p->conn[DS_PGSQL_QUERY], sql, n, NULL, values, NULL, NULL, 0) &&
	       flush(p, DS_PGSQL_QUERY);
}

static bool start_subscription(struct ds_pgsql *p, struct job *j)
{
	char first[24];
	const char *values[] = { first, j->role, j->claims, j->bindings };

	TAILQ_REMOVE(&p->jobs, j, link);
	p->job = j;
	snprintf(first, sizeof(first), "%llu", (unsigned long long)j->first);
	return query(p, SUBSCRIBING, "select rtbridge_devserver.subscribe($1, $2, $3, $4)", 4,
		     values);
}

static bool start_replay(struct ds_pgsql *p, struct job *j)
{
	char since[24], limit[12];
	const char *values[] = { j->name, since, limit };

	TAILQ_REMOVE(&p->jobs, j, link);
	p->job = j;
	snprintf(since, sizeof(since), "%lld", (long long)j->since_ms);
	snprintf(limit, sizeof(limit), "%u", j->limit);
	return query(p, REPLAYING, "select rtbridge_devserver.replay($1, $2, $3)", 3, values);
}

/* All that stand together at the head of the queue. */
static bool start_unsubscription(struct ds_pgsql *p)
{
	struct ds_buf list = { 0 };
	struct job *j;
	bool ok;

	while ((j = TAILQ_FIRST(&p->jobs)) != NULL && j->kind == UNSUBSCRIBE) {
		ds_buf_fmt(&list, "%c%llu", list.len ? ',' : '{', (unsigned long long)j->first);
		TAILQ_REMOVE(&p->jobs, j, link);
		job_free(j);
	}
	ds_buf_add(&list, "}", 2);
	ok = query(p, UNSUBSCRIBING, "select rtbridge_devserver.unsubscribe($1)", 1,
		   (const char *const *)&list.data);
	ds_buf_done(&list);
	return ok;
}

static bool start_judging(struct ds_pgsql *p, int64_t mono_ms)
{
	struct ds_buf batch = { 0 };
	struct change *ch;
	bool ok;

	p->n_judging = 0;
	TAILQ_FOREACH(ch, &p->changes, link) {
		if (ch->due_ms > mono_ms || ch->message || p->n_judging == BATCH_ROWS ||
		    (batch.len > 0 && batch.len + ch->json.n > BATCH_BYTES))
			break;
		ds_buf_byte(&batch, p->n_judging++ ? ',' : '[');
		ds_buf_str(&batch, ch->json);
	}
	ds_buf_add(&batch, "]", 2);
	ok = query(p, JUDGING,
		   "select numbers, data from rtbridge_devserver.changes($1) order by ord", 1,
		   (const char *const *)&batch.data);
	ds_buf_done(&batch);
	return ok;
}

/* The names that Elixir's driver gives to those states that a binding can bring about. */
static const char *condition_name(const char *state)
{
	static const char *const names[][2] = {
		{ "22003", "numeric_value_out_of_range" },
		{ "22007", "invalid_datetime_format" },
		{ "22008", "datetime_field_overflow" },
		{ "22P02", "invalid_text_representation" },
		{ "22P05", "untranslatable_character" },
		{ "2201B", "invalid_regular_expression" },
		{ "42501", "insufficient_privilege" },
		{ "42601", "syntax_error" },
		{ "42704", "undefined_object" },
		{ "42804", "datatype_mismatch" },
		{ "42883", "undefined_function" },
		{ "P0001", "raise_exception" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i][0], state) == 0)
			return names[i][1];
	return "error";
}

static const char *field(const PGresult *r, int code)
{
	const char *text = PQresultErrorField(r, code);

	return text ? text : "";
}

static void answer(struct ds_core *core, const struct job *j, const PGresult *r)
{
	struct ds_pg_answer a = { .outcome = DS_PG_OK };
	const char *state = field(r, PG_DIAG_SQLSTATE);
	struct ds_buf text = { 0 };

	if (PQresultStatus(r) != PGRES_TUPLES_OK) {
		a.outcome = strcmp(state, "DS404") == 0 ? DS_PG_NO_TABLE : DS_PG_EXCEPTION;
		a.binding = (unsigned)strtoul(field(r, PG_DIAG_MESSAGE_DETAIL), NULL, 10);
		ds_buf_fmt(&text, "ERROR %s (%s) %s", state, condition_name(state),
			   field(r, PG_DIAG_MESSAGE_PRIMARY));
		a.text = ds_buf_view(&text);
	}
	ds_core_pg_result(core, j->first, j->again, &a);
	ds_buf_done(&text);
}

static void deliver(struct ds_core *core, const PGresult *r)
{
	uint64_t *numbers = NULL;
	size_t room = 0;

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		fprintf(stderr, "rtbridge-devserver: --postgres: changes are lost: %s",
			PQresultErrorMessage(r));
	for (int i = 0; i < PQntuples(r); i++) {
		char *at = PQgetvalue(r, i, 0), *end;
		size_t n = 0;

		if (room < (size_t)PQgetlength(r, i, 0)) {
			free(numbers);
			room = (size_t)PQgetlength(r, i, 0);
			numbers = ds_alloc(room * sizeof(*numbers));
		}
		for (; *at && at[1] && at[1] != '}'; at = end)
			numbers[n++] = strtoull(at + 1, &end, 10);
		ds_core_pg_change(
			core, numbers, n,
			(struct ds_str){ PQgetvalue(r, i, 1), (size_t)PQgetlength(r, i, 1) });
	}
	free(numbers);
}

/* No rows at all, not even none: the database could not. */
static void replayed(struct ds_core *core, const struct job *j, const PGresult *r)
{
	struct ds_str rows = { NULL, 0 };

	if (PQntuples(r) == 1)
		rows = (struct ds_str){ PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0) };
	ds_core_pg_replayed(core, j->first, rows);
}

static void take_result(struct ds_pgsql *p, struct ds_core *core, const PGresult *r)
{
	p->answered = true;
	if (p->running == JUDGING)
		deliver(core, r);
	else if (p->running == SUBSCRIBING)
		answer(core, p->job, r);
	else if (p->running == REPLAYING)
		replayed(core, p->job, r);
	else if (PQresultStatus(r) != PGRES_TUPLES_OK)
		fprintf(stderr, "rtbridge-devserver: --postgres: %s", PQresultErrorMessage(r));
}

static void end_query(struct ds_pgsql *p)
{
	if (p->running == JUDGING)
		for (; p->n_judging > 0; p->n_judging--)
			drop_change(p);
	if (p->job)
		job_free(p->job);
	p->job = NULL;
	p->running = IDLE;
}

/* A connection that ends in the middle has a result, too, which says so. */
static bool read_results(struct ds_pgsql *p, struct ds_core *core)
{
	PGconn *conn = p->conn[DS_PGSQL_QUERY];

	while (p->running != IDLE && !PQisBusy(conn)) {
		PGresult *r = PQgetResult(conn);

		if (PQstatus(conn) != CONNECTION_OK) {
			PQclear(r);
			return false;
		}
		if (!r)
			end_query(p);
		else if (!p->answered)
			take_result(p, core, r);
		PQclear(r);
	}
	return true;
}

void ds_pgsql_ready(struct ds_pgsql *p, enum ds_pgsql_link link, struct ds_core *core,
		    int64_t mono_ms)
{
	bool ok;

	if (!p->conn[link])
		return;
	ok = PQconsumeInput(p->conn[link]) && flush(p, link);
	if (ok)
		ok = link == DS_PGSQL_STREAM ? read_stream(p, mono_ms) : read_results(p, core);
	if (!ok)
		lose(p, core, link, mono_ms);
}

static void retry(struct ds_pgsql *p, struct ds_core *core, int64_t mono_ms)
{
	if (mono_ms < p->retry_ms)
		return;
	pgsql_be_quiet(true);
	if (!open_all(p)) {
		close_all(p);
		p->retry_ms = mono_ms + RETRY_MS;
		return;
	}
	fputs("rtbridge-devserver: --postgres: back again\n", stderr);
	p->epoch++;
	p->lost = false;
	p->received_lsn = 0;
	ds_core_pg_lost(core);
	ds_core_database(core, true);
}

/* A reader that has too much to read already holds the rows back, for a while. */
static bool must_wait(struct ds_pgsql *p, int64_t mono_ms, size_t unsent_bytes)
{
	if (unsent_bytes <= UNSENT_BYTES) {
		p->stalled_ms = -1;
		p->heedless = false;
		return false;
	}
	if (p->stalled_ms < 0)
		p->stalled_ms = mono_ms;
	if (mono_ms - p->stalled_ms >= UNSENT_WAIT_MS)
		p->heedless = true;
	return !p->heedless;
}

static bool start_job(struct ds_pgsql *p, struct job *j)
{
	if (j->kind == UNSUBSCRIBE)
		return start_unsubscription(p);
	return j->kind == SUBSCRIBE ? start_subscription(p, j) : start_replay(p, j);
}

/* Rows up to the next message, or the messages up to the next row. */
static bool pass_on(struct ds_pgsql *p, struct ds_core *core, int64_t mono_ms)
{
	struct change *ch = TAILQ_FIRST(&p->changes);

	if (!ch->message)
		return start_judging(p, mono_ms);
	for (; ch && ch->message && ch->due_ms <= mono_ms; ch = TAILQ_FIRST(&p->changes)) {
		pgsql_message(core, ch->json);
		drop_change(p);
	}
	return !ch || ch->due_ms > mono_ms || start_judging(p, mono_ms);
}

void ds_pgsql_turn(struct ds_pgsql *p, struct ds_core *core, int64_t mono_ms, size_t unsent_bytes)
{
	struct job *j = TAILQ_FIRST(&p->jobs);
	struct change *ch = TAILQ_FIRST(&p->changes);
	bool ok = true;

	if (p->lost) {
		retry(p, core, mono_ms);
		return;
	}
	if (mono_ms >= p->status_ms && !send_status(p, mono_ms)) {
		lose(p, core, DS_PGSQL_STREAM, mono_ms);
		return;
	}
	if (p->running != IDLE)
		return;
	if (j)
		ok = start_job(p, j);
	else if (ch && ch->due_ms <= mono_ms && !must_wait(p, mono_ms, unsent_bytes))
		ok = pass_on(p, core, mono_ms);
	if (!ok)
		lose(p, core, DS_PGSQL_QUERY, mono_ms);
}

int64_t ds_pgsql_deadline(const struct ds_pgsql *p)
{
	const struct change *ch = TAILQ_FIRST(&p->changes);
	int64_t due = p->lost ? p->retry_ms : p->status_ms, rows;

	if (p->lost || p->running != IDLE || !ch)
		return due;
	rows = p->stalled_ms >= 0 && !p->heedless ? p->stalled_ms + UNSENT_WAIT_MS : ch->due_ms;
	return rows < due ? rows : due;
}
