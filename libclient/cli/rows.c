/* SPDX-License-Identifier: MIT */
/* Database changes: as JSON Lines, with all that the server told, and for people. */
#include <string.h>

#include "cli.h"

static void put_json(const char *spec, const struct rtb_change *change)
{
	printf("{\"type\":\"postgres_changes\",\"pg\":");
	cli_put_json_text(stdout, spec);
	cli_put_value("data", change->data, change->data_size);
	printf("}\n");
}

/* What was otherwise before: all that the old row has, without what has not changed. By default the
 * server knows the old row's key alone, and then there is mostly nothing to say. */
static void put_was(struct mp old, struct mp new)
{
	struct mp name, value, now;
	bool is_first = true;
	char column[256]; /* PostgreSQL's names have at most 63 bytes */

	for (name = mp_first(old); name.p; name = mp_next(value)) {
		value = mp_next(name);
		now = mp_find(new, mp_text(name, column, sizeof(column)));
		if (!now.p || !value.p)
			continue;
		if (now.size == mp_alone(value).size && memcmp(now.p, value.p, now.size) == 0)
			continue;
		fputs(is_first ? ", was {" : ",", stdout);
		is_first = false;
		cli_put_value_plain(name.p, mp_alone(name).size);
		putchar(':');
		cli_put_value_plain(value.p, mp_alone(value).size);
	}
	if (!is_first)
		putchar('}');
}

static void put_plain(const struct rtb_change *change)
{
	struct mp new = { change->record, change->record_size };
	struct mp old = { change->old_record, change->old_record_size };
	struct mp shown = new.p ? new : old;

	cli_put_time(stdout);
	cli_put_plain(stdout, change->type);
	putchar(' ');
	cli_put_plain(stdout, change->schema);
	putchar('.');
	cli_put_plain(stdout, change->table);
	if (shown.p) {
		putchar(' ');
		cli_put_value_plain(shown.p, shown.size);
	}
	if (new.p && old.p)
		put_was(old, new);
	for (const char *const *error = change->errors; error && *error; error++) {
		fputs(" -- ", stdout);
		cli_put_plain(stdout, *error);
	}
	putchar('\n');
}

void cli_put_change(const char *spec, const struct rtb_change *change, bool json)
{
	if (json)
		put_json(spec, change);
	else
		put_plain(change);
}
