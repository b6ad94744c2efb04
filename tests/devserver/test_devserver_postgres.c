/* SPDX-License-Identifier: MIT */
/* Bindings and rows in the devserver's core, with a database that is played by the test. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "devserver/core.h"
#include "devserver/jwt.h"
#include "devserver/pg_params.h"
#include "tests/unit/suite.h"

#ifdef NDEBUG
#error "tests need assertions"
#endif

#define SECRET  "a secret for tests"
#define WALL_MS 1800000000123

static struct ds_core *core;
static struct ds_socket *sock;
static struct ds_buf heard; /* all frames, each followed by a newline */
static struct ds_buf asked; /* what the database was asked, likewise */
static int64_t now_ms;

/* Bindings */

static void parse(const char *binding, const char *want)
{
	struct ds_pg_params p;
	struct ds_buf b = { 0 };

	if (ds_pg_params_parse(ds_str(binding), &p, &b))
		ds_pg_params_describe(&p, &b);
	ds_buf_byte(&b, 0);
	ck_assert_msg(strcmp(b.data, want) == 0, "%s\n gave %s\n not  %s", binding, b.data, want);
	ds_buf_done(&b);
	ds_pg_params_done(&p);
}

#define TODOS(more) "{\"schema\":\"public\",\"table\":\"todos\"" more "}"
#define SHOWN(filters, select) \
	"event: *, schema: public, table: todos, filters: " filters ", select: " select
#define NO_SUBJECT                                                                          \
	"No subscription params provided. Please provide at least a `schema` or `table` to" \
	" subscribe to: "
#define BAD_FILTER "Error parsing `filter` params: "

START_TEST(test_shapes)
{
	parse(TODOS(""), SHOWN("[]", "nil"));
	parse("{\"schema\":\"s\"}", "event: *, schema: s, table: *, filters: [], select: nil");
	parse("{\"table\":\"t\"}", "event: *, schema: public, table: t, filters: [], select: nil");
	parse("{\"schema\":\"*\",\"event\":\"delete\"}",
	      "event: DELETE, schema: *, table: *, filters: [], select: nil");
	parse(TODOS(",\"event\":\"TRUNCATE\",\"more\":1"), SHOWN("[]", "nil"));
	parse(TODOS(",\"event\":7"), SHOWN("[]", "nil"));
	parse("{}", NO_SUBJECT "%{}");
	parse("{\"table\":null,\"schema\":\"public\",\"event\":\"*\"}",
	      NO_SUBJECT "%{\"event\" => \"*\", \"schema\" => \"public\", \"table\" => nil}");
	parse(TODOS(",\"filter\":null"),
	      NO_SUBJECT "%{\"filter\" => nil, \"schema\" => \"public\", \"table\" => \"todos\"}");
	parse("{\"schema\":\"s\",\"filter\":\"a=eq.1\"}",
	      NO_SUBJECT "%{\"filter\" => \"a=eq.1\", \"schema\" => \"s\"}");
	parse("{\"table\":\"t\",\"filter\":\"#{x}\\n\",\"x\":[1,true,{\"b\":2.50,\"a\":\"\\u0001\"}"
	      "]}",
	      NO_SUBJECT "%{\"filter\" => \"\\#{x}\\n\", \"table\" => \"t\", \"x\" => [1, true, "
			 "%{\"a\" => \"\\x01\", \"b\" => 2.50}]}");
}
END_TEST

START_TEST(test_select)
{
	parse(TODOS(",\"select\":[\"id\",7,\"title\"]"), SHOWN("[]", "[\"id\", \"title\"]"));
	parse(TODOS(",\"select\":[]"), SHOWN("[]", "[]"));
	parse(TODOS(",\"select\":null"), SHOWN("[]", "nil"));
	parse(TODOS(",\"select\":\"id\""),
	      "Error parsing `select` params: expected a list of column name strings, e.g. "
	      "select: [\"col1\", \"col2\"]");
	parse("{\"schema\":\"public\",\"select\":[\"id\"]}",
	      "Column selection is not supported for wildcard subscriptions. Provide an explicit "
	      "schema and table name.");
}
END_TEST

static void filter(const char *json_text, const char *want)
{
	struct ds_buf binding = { 0 };

	ds_buf_fmt(&binding, "{\"schema\":\"public\",\"table\":\"todos\",\"filter\":\"%s\"}",
		   json_text);
	ds_buf_byte(&binding, 0);
	parse(binding.data, want);
	ds_buf_done(&binding);
}

START_TEST(test_filters)
{
	filter("", SHOWN("[]", "nil"));
	filter(" \\t ", SHOWN("[]", "nil"));
	filter("a=eq.1", SHOWN("[{\"a\", \"eq\", \"1\", false}]", "nil"));
	filter(" a=not.isdistinct.x , b=lte.2.5=", SHOWN("[{\"a\", \"isdistinct\", \"x\", true}, "
							 "{\"b\", \"lte\", \"2.5=\", false}]",
							 "nil"));
	filter("a=in.(1,\\\"x,)y\\\",3)",
	       SHOWN("[{\"a\", \"in\", \"{1,\\\"x,)y\\\",3}\", false}]", "nil"));
	filter("a=eq.\\\"1,\\\\\\\"2\\\",b=is.null",
	       SHOWN("[{\"a\", \"eq\", \"1,\\\"2\", false}, {\"b\", \"is\", \"null\", false}]",
		     "nil"));
	/* Quotes open only where a value begins, and close only at its end. */
	filter("a=eq.x\\\"y,b=eq.\\\"z\\\"q",
	       SHOWN("[{\"a\", \"eq\", \"x\\\"y\", false}, {\"b\", \"eq\", \"\\\"z\\\"q\", "
		     "false}]",
		     "nil"));
	filter("a=eq.", SHOWN("[{\"a\", \"eq\", \"\", false}]", "nil"));
	filter("garbage", BAD_FILTER "[\"garbage\"]");
	filter("a=foo.1", BAD_FILTER "[\"foo\", \"1\"]");
	filter("a=not.foo", BAD_FILTER "[\"foo\"]");
	filter("a=EQ.1", BAD_FILTER "[\"EQ\", \"1\"]");
	filter("a=eq.1,",
	       BAD_FILTER "filter must not contain empty segments (check for extra commas)");
	filter("a=in.1", BAD_FILTER "`in` filter value must be wrapped by parentheses");
	/* Beyond 80 columns it is shown in lines. */
	filter("aaaaaaaaaaaaaaaaaaaaaaaa=eq.1,bbbbbbbbbbbbbbbbbbbbbbbb=eq.2",
	       SHOWN("[\n  {\"aaaaaaaaaaaaaaaaaaaaaaaa\", \"eq\", \"1\", false},\n"
		     "  {\"bbbbbbbbbbbbbbbbbbbbbbbb\", \"eq\", \"2\", false}\n]",
		     "nil"));
	filter("a=eq.0123456789012345678901234567890123456789012345678901234567890123456789",
	       SHOWN("[\n  {\"a\", \"eq\",\n   "
		     "\"0123456789012345678901234567890123456789012345678901234567890123456789\","
		     "\n   false}\n]",
		     "nil"));
}
END_TEST

START_TEST(test_like)
{
	static const struct {
		const char *pattern, *text;
		bool fits;
	} cases[] = {
		{ "*", "", true },          { "*", "x", true },         { "%", "", true },
		{ "todos", "todos", true }, { "todos", "todo", false }, { "todo", "todos", false },
		{ "to_os", "toXos", true }, { "t_s", "täs", true },     { "täs", "täs", true },
		{ "t__s", "täs", false },   { "%a%b", "xaxbxb", true }, { "%a%b", "xaxbx", false },
		{ "a%", "a", true },        { "\\_", "\\x", true },     { "**", "x", false },
		{ "_", "", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_msg(ds_pg_like(cases[i].pattern, ds_str(cases[i].text)) == cases[i].fits,
			      "%s of %s", cases[i].pattern, cases[i].text);
}
END_TEST

/* Channels */

static void on_send(void *conn, bool binary, struct ds_str frame)
{
	ck_assert_ptr_eq(conn, &heard);
	ck_assert(!binary);
	ds_buf_str(&heard, frame);
	ds_buf_byte(&heard, '\n');
}

static void on_close(void *conn, int code)
{
	ck_abort_msg("close %d of %p", code, conn);
}

static void on_half_frame(void *conn, size_t size_bytes)
{
	ck_abort_msg("half frame of %zu on %p", size_bytes, conn);
}

static void on_subscribe(void *pg, const struct ds_pg_request *rq)
{
	ck_assert_ptr_eq(pg, &asked);
	ds_buf_fmt(&asked, "%s%llu+%u %.*s ", rq->again ? "again " : "",
		   (unsigned long long)rq->first, rq->n, (int)rq->role.n, rq->role.p);
	ds_buf_str(&asked, rq->bindings);
	ds_buf_byte(&asked, '\n');
}

static void on_unsubscribe(void *pg, uint64_t first)
{
	ck_assert_ptr_eq(pg, &asked);
	ds_buf_fmt(&asked, "off %llu\n", (unsigned long long)first);
}

static void token(struct ds_buf *b, const char *role)
{
	char claims[80];

	snprintf(claims, sizeof(claims), "{\"role\":\"%s\",\"exp\":%ld}", role,
		 (long)(WALL_MS / 1000) + 100000);
	ds_jwt_sign(ds_str(claims), SECRET, b);
}

static void begin(bool database, int64_t delay_ms)
{
	struct ds_conf conf = ds_conf_default();
	struct ds_ops ops = { .send = on_send, .close = on_close, .half_frame = on_half_frame };
	struct ds_buf key = { 0 };

	conf.jwt_secret = SECRET;
	conf.idle_ms = 1000000000;
	conf.pg_subscribe_delay_ms = delay_ms;
	if (database) {
		ops.pg = &asked;
		ops.pg_subscribe = on_subscribe;
		ops.pg_unsubscribe = on_unsubscribe;
	}
	core = ds_core_new(&conf, &ops);
	now_ms = 5000;
	ds_core_clock(core, now_ms, WALL_MS);
	token(&key, "anon");
	sock = ds_core_open(core, &heard, ds_str("2.0.0"), ds_buf_view(&key));
	ds_buf_done(&key);
}

static void end(void)
{
	core = ds_core_free(core);
	ds_buf_done(&heard);
	ds_buf_done(&asked);
}

static void pass(int64_t ms)
{
	now_ms += ms;
	ds_core_clock(core, now_ms, WALL_MS);
	ds_core_tick(core);
}

static void say(const char *text)
{
	ds_core_frame(core, sock, false, ds_str(text));
}

/* Joins with these bindings and drops what is answered to that, up to the reply. */
static void join(const char *topic, const char *bindings)
{
	struct ds_buf b = { 0 };
	char *end_of_reply;

	heard.len = 0;
	ds_buf_fmt(&b,
		   "[\"1\",\"1\",\"realtime:%s\",\"phx_join\",{\"config\":{\"postgres_changes\""
		   ":[%s]}}]",
		   topic, bindings);
	ds_core_frame(core, sock, false, ds_buf_view(&b));
	ds_buf_done(&b);
	ds_buf_byte(&heard, 0);
	end_of_reply = strchr(heard.data, '\n');
	ck_assert_ptr_nonnull(end_of_reply);
	heard.len = strlen(end_of_reply + 1);
	memmove(heard.data, end_of_reply + 1, heard.len);
}

static void leave(const char *topic)
{
	struct ds_buf b = { 0 };

	ds_buf_fmt(&b, "[\"1\",\"9\",\"realtime:%s\",\"phx_leave\",{}]", topic);
	ds_core_frame(core, sock, false, ds_buf_view(&b));
	ds_buf_done(&b);
	heard.len = 0;
}

static void order(const char *json)
{
	char error[200] = "";

	ck_assert_msg(ds_core_fault(core, ds_str(json), error, sizeof(error)), "%s", error);
}

static void bad_order(const char *json)
{
	char error[200] = "";

	ck_assert(!ds_core_fault(core, ds_str(json), error, sizeof(error)));
	ck_assert_str_ne(error, "");
}

/* Everything in @b since the last call. */
static void expect_in(struct ds_buf *b, const char *text)
{
	ds_buf_byte(b, 0);
	ck_assert_str_eq(b->data, text);
	b->len = 0;
}

static void result(uint64_t first, enum ds_pg_outcome outcome, unsigned binding, const char *text)
{
	struct ds_pg_answer a = { outcome, binding, ds_str(text) };

	ds_core_pg_result(core, first, false, &a);
}

#define SYSTEM(topic, status, text)                                                            \
	"[\"1\",null,\"realtime:" topic "\",\"system\",{\"message\":\"" text                   \
	"\",\"status\":\"" status "\",\"extension\":\"postgres_changes\",\"channel\":\"" topic \
	"\"}]\n"
#define SUBSCRIBED(topic) SYSTEM(topic, "ok", "Subscribed to PostgreSQL")
#define ROW(topic, data, ids)                                                             \
	"[null,null,\"realtime:" topic "\",\"postgres_changes\",{\"data\":" data ",\"ids" \
	"\":[" ids "]}]\n"
#define ASKED(table)                                                \
	"{\"event\":\"*\",\"schema\":\"public\",\"table\":\"" table \
	"\",\"filters\":[],\"select\":null}"
#define UNABLE "Unable to subscribe to changes with given parameters. "

/* The ids are hashes of the bindings. */
#define T    "{\"table\":\"t\"}"
#define T_ID "124024483"
#define U    "{\"table\":\"u\"}"
#define U_ID "72744884"

START_TEST(test_rows_reach_their_channels)
{
	uint64_t all[] = { 3, 4, 5, 7, 99 };

	begin(true, 0);
	join("a", T "," T "," U);
	expect_in(&asked, "3+3 anon [" ASKED("t") "," ASKED("t") "," ASKED("u") "]\n");
	ds_core_pg_change(core, all, 5, ds_str("{\"n\":0}"));
	expect_in(&heard, ""); /* not subscribed yet */
	result(3, DS_PG_OK, 0, "");
	expect_in(&heard, SUBSCRIBED("a"));
	join("b", U);
	expect_in(&asked, "7+1 anon [" ASKED("u") "]\n");
	result(7, DS_PG_OK, 0, "");
	expect_in(&heard, SUBSCRIBED("b"));
	ds_core_pg_change(core, all, 5, ds_str("{\"n\":1}"));
	expect_in(&heard,
		  ROW("a", "{\"n\":1}", T_ID "," T_ID "," U_ID) ROW("b", "{\"n\":1}", U_ID));
	ds_core_pg_change(core, all + 2, 1, ds_str("{\"n\":2}"));
	expect_in(&heard, ROW("a", "{\"n\":2}", U_ID));
	leave("a");
	expect_in(&asked, "off 3\n");
	ds_core_pg_change(core, all, 5, ds_str("{\"n\":3}"));
	expect_in(&heard, ROW("b", "{\"n\":3}", U_ID));
	result(3, DS_PG_OK, 0, ""); /* too late, no error */
	expect_in(&heard, "");
	end();
}
END_TEST

START_TEST(test_what_the_database_refuses)
{
	begin(true, 0);
	join("a", T "," U);
	result(3, DS_PG_NO_TABLE, 1, "");
	expect_in(&heard,
		  SYSTEM("a", "error",
			 UNABLE
			 "Please check Realtime is enabled for the given connect parameters: "
			 "[event: *, schema: public, table: u, filters: [], select: nil]"));
	join("b", T);
	result(6, DS_PG_EXCEPTION, 0, "ERROR 1");
	expect_in(&heard,
		  SYSTEM("b", "error",
			 UNABLE "An exception happened so please check your connect parameters: "
				"[event: *, schema: public, table: t, filters: [], select: nil]. "
				"Exception: ERROR 1"));
	asked.len = 0;
	/* What cannot be understood does not get that far. */
	join("c", T ",{}");
	expect_in(&heard, SYSTEM("c", "error", NO_SUBJECT "%{}"));
	expect_in(&asked, "");
	leave("c");
	expect_in(&asked, "");
	end();
}
END_TEST

START_TEST(test_subscribed_again)
{
	uint64_t one[] = { 3 };
	struct ds_buf b = { 0 };

	begin(true, 0);
	join("a", T);
	result(3, DS_PG_OK, 0, "");
	heard.len = asked.len = 0;
	ds_buf_text(&b, "[\"1\",\"2\",\"realtime:a\",\"access_token\",{\"access_token\":\"");
	token(&b, "authenticated");
	ds_buf_text(&b, "\"}]");
	ds_core_frame(core, sock, false, ds_buf_view(&b));
	ds_buf_done(&b);
	pass(999);
	expect_in(&asked, "");
	pass(1);
	expect_in(&asked, "3+1 authenticated [" ASKED("t") "]\n");
	/* The old subscription holds until the new one does. */
	ds_core_pg_change(core, one, 1, ds_str("{}"));
	expect_in(&heard, ROW("a", "{}", T_ID));
	result(3, DS_PG_OK, 0, "");
	expect_in(&heard, SUBSCRIBED("a"));
	/* A database that was lost is told again, the client hears nothing of it. */
	ds_core_pg_lost(core);
	expect_in(&asked, "again 3+1 authenticated [" ASKED("t") "]\n");
	ds_core_pg_result(core, 3, true, &(struct ds_pg_answer){ .outcome = DS_PG_OK });
	expect_in(&heard, "");
	ds_core_pg_change(core, one, 1, ds_str("{}"));
	expect_in(&heard, ROW("a", "{}", T_ID));
	end();
}
END_TEST

START_TEST(test_the_old_form_of_a_join)
{
	uint64_t one[] = { 3 };

	begin(true, 0);
	say("[\"1\",\"1\",\"realtime:public:t:a=eq.1\",\"phx_join\",{}]");
	expect_in(&asked, "3+1 anon [{\"event\":\"*\",\"schema\":\"public\",\"table\":\"t\","
			  "\"filters\":[[\"a\",\"eq\",\"1\",false]],\"select\":null}]\n");
	result(3, DS_PG_OK, 0, "");
	heard.len = 0;
	ds_core_pg_change(core, one, 1, ds_str("{\"type\":\"UPDATE\"}"));
	expect_in(&heard, "[null,null,\"realtime:public:t:a=eq.1\",\"UPDATE\",{\"type\":"
			  "\"UPDATE\"}]\n");
	end();
}
END_TEST

START_TEST(test_delays)
{
	begin(false, 300);
	order("{\"op\":\"postgres_delay\",\"prefix\":\"realtime:b\",\"ms\":200}");
	join("a", T);
	join("b", T);
	pass(299);
	expect_in(&heard, "");
	pass(1);
	expect_in(&heard, SUBSCRIBED("a"));
	order("{\"op\":\"postgres_row\",\"table\":\"t\",\"type\":\"INSERT\"}");
	ck_assert(memmem(heard.data, heard.len, "realtime:a", 10));
	ck_assert(!memmem(heard.data, heard.len, "realtime:b", 10));
	heard.len = 0;
	pass(199);
	expect_in(&heard, "");
	pass(1);
	expect_in(&heard, SUBSCRIBED("b"));
	end();
}
END_TEST

#define DATA                                                                                \
	"{\"type\":\"INSERT\",\"schema\":\"public\",\"table\":\"t\",\"record\":{\"id\": "   \
	"12345678901234567890},\"columns\":[],\"errors\":null,\"commit_timestamp\":\"2027-" \
	"01-15T08:00:00.123Z\"}"
#define ROW_ORDER(type, more) \
	"{\"op\":\"postgres_row\",\"table\":\"t\",\"type\":\"" type "\"" more "}"

START_TEST(test_rows_by_order)
{
	begin(false, 0);
	join("a", "{\"table\":\"t\",\"event\":\"INSERT\"}");
	heard.len = 0;
	join("b", "{\"table\":\"_\",\"schema\":\"public\",\"filter\":\"id=eq.7,id=gt.100\"}");
	heard.len = 0;
	order(ROW_ORDER("INSERT", ",\"record\":{\"id\": 12345678901234567890}"));
	expect_in(&heard, ROW("a", DATA, "44774428"));
	order(ROW_ORDER("UPDATE", ",\"record\":{\"id\":7},\"errors\":[\"e\"],\"columns\":[1],"
				  "\"commit_timestamp\":null"));
	expect_in(&heard, ROW("b",
			      "{\"type\":\"UPDATE\",\"schema\":\"public\",\"table\":\"t\","
			      "\"record\":{\"id\":7},\"old_record\":{},\"columns\":[1],"
			      "\"errors\":[\"e\"],\"commit_timestamp\":null}",
			      "48643171"));
	order(ROW_ORDER("DELETE", ",\"old_record\":{\"id\":\"8\"}"));
	order(ROW_ORDER("INSERT", ",\"schema\":\"other\",\"record\":{\"id\":7}"));
	expect_in(&heard, "");
	order("{\"op\":\"postgres_raw\",\"topic\":\"realtime:b\",\"payload\":[ 1.50 ]}");
	expect_in(&heard, "[null,null,\"realtime:b\",\"postgres_changes\",[ 1.50 ]]\n");
	bad_order(ROW_ORDER("TRUNCATE", ""));
	bad_order("{\"op\":\"postgres_row\",\"type\":\"INSERT\"}");
	bad_order("{\"op\":\"postgres_raw\",\"topic\":\"realtime:b\"}");
	bad_order("{\"op\":\"postgres_again\"}");
	bad_order("{\"op\":\"postgres_delay\"}");
	bad_order("{\"op\":\"postgres_refuse\",\"schema\":\"public\"}");
	end();
}
END_TEST

START_TEST(test_refused_and_lost_by_order)
{
	begin(false, 0);
	order("{\"op\":\"postgres_refuse\",\"schema\":\"public\",\"table\":\"u\",\"times\":1}");
	join("a", T "," U);
	expect_in(&heard,
		  SYSTEM("a", "error",
			 UNABLE
			 "Please check Realtime is enabled for the given connect parameters: "
			 "[event: *, schema: public, table: u, filters: [], select: nil]"));
	order(ROW_ORDER("INSERT", ""));
	expect_in(&heard, "");
	join("b", U);
	expect_in(&heard, SUBSCRIBED("b"));
	join("c", T);
	expect_in(&heard, SUBSCRIBED("c"));
	order("{\"op\":\"postgres_lost\",\"topic\":\"realtime:c\",\"ms\":50}");
	expect_in(&heard, SYSTEM("c", "error", "{:error, \\\"Too many database timeouts\\\"}"));
	order(ROW_ORDER("INSERT", ""));
	pass(49);
	expect_in(&heard, "");
	pass(1);
	expect_in(&heard, SUBSCRIBED("c"));
	order(ROW_ORDER("INSERT", ",\"record\":{\"id\": 12345678901234567890}"));
	expect_in(&heard, ROW("c", DATA, T_ID));
	order("{\"op\":\"postgres_again\",\"topic\":\"realtime:c\"}");
	expect_in(&heard, SUBSCRIBED("c"));
	end();
}
END_TEST

START_TEST(test_private_only)
{
	struct ds_conf conf = ds_conf_default();
	struct ds_ops ops = { .send = on_send, .close = on_close, .half_frame = on_half_frame };
	struct ds_buf key = { 0 };

	conf.jwt_secret = SECRET;
	conf.private_only = true;
	core = ds_core_new(&conf, &ops);
	ds_core_clock(core, 5000, WALL_MS);
	token(&key, "anon");
	sock = ds_core_open(core, &heard, ds_str("2.0.0"), ds_buf_view(&key));
	ds_buf_done(&key);
	say("[\"1\",\"1\",\"realtime:a\",\"phx_join\",{\"config\":{}}]");
	expect_in(&heard, "[\"1\",\"1\",\"realtime:a\",\"phx_reply\",{\"status\":\"error\","
			  "\"response\":{\"reason\":\"PrivateOnly: This project only allows "
			  "private channels\"}}]\n");
	say("[\"1\",\"1\",\"realtime:a\",\"phx_join\",{\"config\":{\"private\":true}}]");
	expect_in(&heard, "[\"1\",\"1\",\"realtime:a\",\"phx_reply\",{\"status\":\"ok\","
			  "\"response\":{\"postgres_changes\":[]}}]\n");
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("devserver postgres");
	TCase *tc = tcase_create("core");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_shapes);
	tcase_add_test(tc, test_select);
	tcase_add_test(tc, test_filters);
	tcase_add_test(tc, test_like);
	tcase_add_test(tc, test_rows_reach_their_channels);
	tcase_add_test(tc, test_what_the_database_refuses);
	tcase_add_test(tc, test_subscribed_again);
	tcase_add_test(tc, test_the_old_form_of_a_join);
	tcase_add_test(tc, test_delays);
	tcase_add_test(tc, test_rows_by_order);
	tcase_add_test(tc, test_refused_and_lost_by_order);
	tcase_add_test(tc, test_private_only);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
