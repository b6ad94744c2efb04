/* SPDX-License-Identifier: MIT */
/* What may stand behind --pg and --select of the command, and what is said of the rest. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/cli/cli.h"
#include "suite.h"

static const struct good {
	const char *spec, *schema, *table, *event, *filter;
} good[] = {
	{ "public.todos", "public", "todos", NULL, NULL },
	{ "public.todos:INSERT", "public", "todos", "INSERT", NULL },
	{ "public.todos:update", "public", "todos", "UPDATE", NULL },
	{ "public.todos:Delete", "public", "todos", "DELETE", NULL },
	{ "public.todos:*", "public", "todos", "*", NULL },
	{ "public.todos?prio=gt.3", "public", "todos", NULL, "prio=gt.3" },
	{ "public.orders:UPDATE?status=eq.paid,total=gte.10.5", "public", "orders", "UPDATE",
	  "status=eq.paid,total=gte.10.5" },
	/* All behind the first ? is the filter's, whatever it is. */
	{ "a.b?c=eq.x?y:INSERT", "a", "b", NULL, "c=eq.x?y:INSERT" },
	{ "a.b?c=in.(\"x,y\",\"\"\"\")", "a", "b", NULL, "c=in.(\"x,y\",\"\"\"\")" },
	{ "public.*", "public", "*", NULL, NULL },
	{ "public.*:DELETE", "public", "*", "DELETE", NULL },
	{ "*.todos", "*", "todos", NULL, NULL },
	{ "*", "*", "*", NULL, NULL },
	{ "*:INSERT", "*", "*", "INSERT", NULL },
	{ "*.*", "*", "*", NULL, NULL },
	{ "public.\"My.Table\"", "public", "My.Table", NULL, NULL },
	{ "\"a:b\".\"c?d\":INSERT?e=eq.1", "a:b", "c?d", "INSERT", "e=eq.1" },
	{ "\"say \"\"hi\"\"\".\"\"\"\"", "say \"hi\"", "\"", NULL, NULL },
	{ "public.my table", "public", "my table", NULL, NULL },
	{ "sch\303\266n.\303\244", "sch\303\266n", "\303\244", NULL, NULL },
};

static void assert_text(const char *got, const char *want, const char *spec)
{
	ck_assert_msg((!got && !want) || (got && want && strcmp(got, want) == 0), "%s: %s, not %s",
		      spec, got ? got : "none", want ? want : "none");
}

START_TEST(takes)
{
	const struct good *g = &good[_i];
	char error[256] = "";
	struct cli_pg pg;

	ck_assert_msg(cli_pg_parse(&pg, g->spec, error, sizeof(error)) == 0, "%s: %s", g->spec,
		      error);
	ck_assert_ptr_eq(pg.spec, g->spec);
	assert_text(pg.schema, g->schema, g->spec);
	assert_text(pg.table, g->table, g->spec);
	assert_text(pg.event, g->event, g->spec);
	assert_text(pg.filter, g->filter, g->spec);
	ck_assert_ptr_null(pg.select);
	cli_pg_free(&pg);
}
END_TEST

static const struct bad {
	const char *spec, *error;
} bad[] = {
	{ "", "at character 1: a schema is missing here" },
	{ "todos", "at character 6: behind the schema comes a dot and a table, or * for all of its "
		   "tables; like public.todos" },
	{ "public",
	  "at character 7: behind the schema comes a dot and a table, or * for all of its "
	  "tables; like public.todos" },
	{ "\"public\"",
	  "at character 9: behind the schema comes a dot and a table, or * for all of "
	  "its tables; like public.todos" },
	/* As it was given, so that the advice can be followed. */
	{ "\"my.todos\"",
	  "at character 11: behind the schema comes a dot and a table, or * for all "
	  "of its tables; like public.\"my.todos\"" },
	{ "todos:INSERT", "at character 6: behind the schema comes a dot" },
	{ "todos?a=eq.1", "at character 6: behind the schema comes a dot" },
	{ ".todos", "at character 1: a schema is missing here" },
	{ "public.", "at character 8: a table is missing here" },
	{ "public.:INSERT", "at character 8: a table is missing here" },
	{ "public.my.table", "at character 10: a name with a dot stands in double quotes" },
	{ "public.\"a\".b", "at character 11: a name with a dot stands in double quotes" },
	{ "public.todos:", "at character 14: \"\" is no event; there are INSERT, UPDATE, DELETE "
			   "and *" },
	{ "public.todos:INSRT?a=eq.1", "at character 14: \"INSRT\" is no event" },
	{ "public.todos:INSERTS", "at character 14: \"INSERTS\" is no event" },
	{ "public.todos:INSERT,UPDATE", "at character 14: \"INSERT,UPDATE\" is no event" },
	{ "public.todos?", "at character 14: behind ? comes a filter, like prio=gt.3" },
	{ "public.todos:INSERT?", "at character 21: behind ? comes a filter" },
	{ "public.\"todos", "at character 8: this double quote is not closed" },
	{ "public.\"todos\"\"", "at character 8: this double quote is not closed" },
	{ "public.\"\"", "at character 8: there is no name between the double quotes" },
	{ "public.\"a\"b", "at character 11: a quoted name ends at its double quote" },
	{ "public.to\"dos\"", "at character 10: double quotes stand around a whole name" },
	/* Characters, not bytes. */
	{ "\303\244\303\266.\303\274.x", "at character 5: a name with a dot" },
};

START_TEST(refuses)
{
	const struct bad *b = &bad[_i];
	char error[256] = "", tiny[20] = "";
	struct cli_pg pg;

	ck_assert_int_eq(cli_pg_parse(&pg, b->spec, error, sizeof(error)), -EINVAL);
	ck_assert_msg(strncmp(error, b->error, strlen(b->error)) == 0, "%s: %s", b->spec, error);
	ck_assert_ptr_null(pg.names);
	/* An error that does not fit is cut. */
	ck_assert_int_eq(cli_pg_parse(&pg, b->spec, tiny, sizeof(tiny)), -EINVAL);
	ck_assert_uint_eq(strlen(tiny), sizeof(tiny) - 1);
	ck_assert_int_eq(strncmp(error, tiny, strlen(tiny)), 0);
}
END_TEST

static const struct {
	const char *list, *columns[4]; /* NULL-terminated */
	const char *error;
} selects[] = {
	{ "id", { "id" }, NULL },
	{ "id,title,prio", { "id", "title", "prio" }, NULL },
	{ "\"a,b\",c.d:e?", { "a,b", "c.d:e?" }, NULL },
	{ "", { NULL }, "at character 1: a column is missing here" },
	{ "a,,b", { NULL }, "at character 3: a column is missing here" },
	{ "a,", { NULL }, "at character 3: a column is missing here" },
	{ "a,\"b", { NULL }, "at character 3: this double quote is not closed" },
	{ "\"a\"b", { NULL }, "at character 4: a quoted name ends at its double quote" },
};

START_TEST(columns)
{
	char error[256] = "";
	struct cli_pg pg;
	int r;

	ck_assert_int_eq(cli_pg_parse(&pg, "a.b", error, sizeof(error)), 0);
	r = cli_pg_select(&pg, selects[_i].list, error, sizeof(error));
	ck_assert_int_eq(r, selects[_i].error ? -EINVAL : 0);
	if (r != 0)
		ck_assert_msg(strstr(error, selects[_i].error) == error, "%s", error);
	for (int i = 0; r == 0 && (i == 0 || selects[_i].columns[i - 1]); i++)
		assert_text(pg.select[i], selects[_i].columns[i], selects[_i].list);
	cli_pg_free(&pg);
	ck_assert_ptr_null(pg.select);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cli_pg");
	TCase *tc = tcase_create("specs");

	tcase_add_loop_test(tc, takes, 0, sizeof(good) / sizeof(*good));
	tcase_add_loop_test(tc, refuses, 0, sizeof(bad) / sizeof(*bad));
	tcase_add_loop_test(tc, columns, 0, sizeof(selects) / sizeof(*selects));
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
