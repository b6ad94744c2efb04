/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a postgres_changes binding asks for: its shape, its filters, and what the real server says
 * about those it does not understand. Knows no channels and no database.
 */
#include "buf.h"

struct ds_pg_filter {
	char *column;
	const char *op; /* eq, neq, ...; static */
	char *value;    /* unquoted; of "in": an array literal of PostgreSQL */
	bool negate;
};

/** struct ds_pg_params - one binding; all zero is an empty one */
struct ds_pg_params {
	const char *event; /* *, INSERT, UPDATE or DELETE; static */
	char *schema;      /* LIKE patterns without an escape character; "*" is any */
	char *table;
	struct ds_pg_filter *filters; /* all must hold */
	size_t n_filters;
	char **select; /* names of columns */
	size_t n_select;
	bool has_select; /* false: all columns */
};

/**
 * ds_pg_params_parse() - reads a binding
 * @binding:   JSON text of an object
 * @ret:       owned by the caller, ds_pg_params_done(); also to be called on failure
 * @ret_error: the real server's text is appended if this returns false
 */
bool ds_pg_params_parse(struct ds_str binding, struct ds_pg_params *ret, struct ds_buf *ret_error);
void ds_pg_params_done(struct ds_pg_params *p);

/** ds_pg_params_describe() - appends "event: *, schema: public, ..." as the real server shows it */
void ds_pg_params_describe(const struct ds_pg_params *p, struct ds_buf *b);

/** ds_pg_params_json() - appends JSON: event, schema, table, filters (arrays of 4), select or null
 */
void ds_pg_params_json(const struct ds_pg_params *p, struct ds_buf *b);

/** ds_pg_like() - SQL's LIKE without an escape character; "*" alone matches all */
bool ds_pg_like(const char *pattern, struct ds_str text);

/**
 * ds_pg_params_match() - does a row that no database has judged fit?
 *
 * Filters of the form column=eq.value compare the value as text; all others hold.
 *
 * @row: JSON text of the new row, of the old one for a DELETE
 */
bool ds_pg_params_match(const struct ds_pg_params *p, struct ds_str event, struct ds_str schema,
			struct ds_str table, struct ds_str row);

/** ds_elixir_inspect() - appends a JSON value as Elixir shows it: %{"a" => nil} */
void ds_elixir_inspect(struct ds_str json, struct ds_buf *b);
