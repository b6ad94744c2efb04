/* SPDX-License-Identifier: MIT */
/*
 * Which database changes: SCHEMA.TABLE[:EVENT][?FILTER] and COLUMN,... of the command line.
 *
 * The filter is the server's language and changes with it, so it is passed on as it stands: what is
 * wrong with it the server tells.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli.h"

/* Reads `at` on, writes names without their quotes behind each other. */
struct reader {
	const char *start, *at;
	char *out;
	char *error;
	size_t error_size;
};

static int fail(const struct reader *r, const char *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Positions are told in characters from 1 on, as people count them. */
static int fail(const struct reader *r, const char *at, const char *fmt, ...)
{
	size_t n = 1, used;
	va_list ap;
	int k;

	for (const char *p = r->start; p < at; p++)
		n += ((unsigned char)*p & 0xc0) != 0x80;
	k = snprintf(r->error, r->error_size, "at character %zu: ", n);
	used = k < 0 ? 0 : (size_t)k;
	if (used < r->error_size) {
		va_start(ap, fmt);
		(void)vsnprintf(r->error + used, r->error_size - used, fmt, ap);
		va_end(ap);
	}
	return -EINVAL;
}

static int take_quoted(struct reader *r, const char **ret)
{
	const char *open = r->at++;

	*ret = r->out;
	while (*r->at && (*r->at != '"' || r->at[1] == '"')) {
		r->at += *r->at == '"';
		*r->out++ = *r->at++;
	}
	if (!*r->at)
		return fail(r, open, "this double quote is not closed");
	if (r->out == *ret)
		return fail(r, open, "there is no name between the double quotes");
	r->at++;
	*r->out++ = '\0';
	return 0;
}

/* One name up to one of `ends`, which quotes may hide. `what` is it, for people. */
static int take_name(struct reader *r, const char *ends, const char *what, const char **ret)
{
	size_t n = strcspn(r->at, ends);
	const char *quote = memchr(r->at, '"', n);
	int k;

	if (*r->at == '"') {
		k = take_quoted(r, ret);
		if (k == 0 && *r->at && !strchr(ends, *r->at))
			k = fail(r, r->at,
				 "a quoted name ends at its double quote; one in a name is "
				 "written twice");
		return k;
	}
	if (n == 0)
		return fail(r, r->at, "%s is missing here", what);
	if (quote)
		return fail(r, quote, "double quotes stand around a whole name");
	*ret = r->out;
	memcpy(r->out, r->at, n);
	r->out[n] = '\0';
	r->out += n + 1;
	r->at += n;
	return 0;
}

static int take_event(struct reader *r, const char **ret)
{
	static const char *const events[] = { "INSERT", "UPDATE", "DELETE", "*" };
	size_t n = strcspn(r->at, "?");

	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
		if (n == strlen(events[i]) && strncasecmp(r->at, events[i], n) == 0) {
			*ret = events[i];
			r->at += n;
			return 0;
		}
	}
	return fail(r, r->at, "\"%.*s\" is no event; there are INSERT, UPDATE, DELETE and *",
		    n > 40 ? 40 : (int)n, r->at);
}

static int take_names(struct reader *r, struct cli_pg *pg)
{
	int k = take_name(r, ".:?", "a schema", &pg->schema);
	/* Who has said no more than one name has mostly left out this one. */
	bool is_public = k == 0 && strcmp(pg->schema, "public") == 0;

	if (k == 0 && *r->at == '.') {
		r->at++;
		k = take_name(r, ".:?", "a table", &pg->table);
	} else if (k == 0 && strcmp(pg->schema, "*") == 0) {
		pg->table = pg->schema;
	} else if (k == 0) {
		k = fail(r, r->at,
			 "behind the schema comes a dot and a table, or * for all of its tables; "
			 "like public.%.*s",
			 is_public ? 5 : (int)(r->at - r->start), is_public ? "todos" : r->start);
	}
	if (k == 0 && *r->at == '.')
		k = fail(r, r->at, "a name with a dot stands in double quotes");
	return k;
}

int cli_pg_parse(struct cli_pg *pg, const char *spec, char *error, size_t error_size)
{
	struct reader r = { spec, spec, NULL, error, error_size };
	int k;

	*pg = (struct cli_pg){ .spec = spec };
	/* No name is longer than what it was read from, its end takes the place of a separator. */
	pg->names = r.out = malloc(strlen(spec) + 1);
	if (!r.out)
		return -ENOMEM;
	k = take_names(&r, pg);
	if (k == 0 && *r.at == ':') {
		r.at++;
		k = take_event(&r, &pg->event);
	}
	if (k == 0 && *r.at == '?') {
		pg->filter = r.at + 1;
		if (!*pg->filter)
			k = fail(&r, pg->filter, "behind ? comes a filter, like prio=gt.3");
	}
	if (k != 0)
		cli_pg_free(pg);
	return k;
}

int cli_pg_select(struct cli_pg *pg, const char *list, char *error, size_t error_size)
{
	struct reader r = { list, list, NULL, error, error_size };
	size_t n = 0, most = 2;
	int k;

	for (const char *p = list; *p; p++)
		most += *p == ',';
	pg->columns = r.out = malloc(strlen(list) + 1);
	pg->select = calloc(most, sizeof(*pg->select));
	if (!r.out || !pg->select)
		return -ENOMEM;
	do {
		k = take_name(&r, ",", "a column", &pg->select[n++]);
	} while (k == 0 && *r.at++);
	return k;
}

void cli_pg_free(struct cli_pg *pg)
{
	free(pg->names);
	free(pg->columns);
	free(pg->select);
	*pg = (struct cli_pg){ 0 };
}
