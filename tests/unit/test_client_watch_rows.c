/* SPDX-License-Identifier: MIT */
/* librtbridge: who is told of which row, what stands in it, and what callbacks may do. */
#include "test_client_rows.h"
#include "suite.h"

START_TEST(each_once)
{
	struct eye a, b, both = { 0 }, elsewhere = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	watch_table(c, &both, "b");
	SAW(&both, "ready ");
	/* The same binding in another topic has the same id. */
	watch_in(c, &elsewhere, "t", "b");
	id = expect_bindings(&f, c, "[" TABLE("b") "]");
	say_row(&f, "2", 1);
	say_result(&f, id, "{\"chan\":8,\"state\":\"ready\",\"postgres_changes\":[" READY(2) "]}");
	/* Ids twice, of others, of another type. */
	say_row(&f, "2,9,2,1,\"2\",null,1,258", 2);
	say_row(&f, "", 3);
	say_row(&f, "9", 4);
	say_row(&f, "1", 5);
	fake_flush(&f, c);
	SAW(&a, "+2 +5 ");
	SAW(&b, "+1 +2 ");
	SAW(&both, "+1 +2 ");
	SAW(&elsewhere, "ready +2 ");
	/* Two wishes that the daemon takes for one. */
	rtb_unwatch(elsewhere.watch);
	fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	watch_table(c, &elsewhere, "c");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "," TABLE("c") "]");
	say_bound(&f, id, "ready", READY(1) "," READY(2) "," READY(2));
	say_row(&f, "2", 6);
	say_states(&f, "ready", PENDING(2));
	fake_flush(&f, c);
	SAW(&elsewhere, "ready +6 pending ");
	SAW(&b, "+6 pending ");
	end(&f, c);
}
END_TEST

START_TEST(gaps)
{
	struct eye a, b, other = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = seeing_client(&f, &a, &b);
	watch_in(c, &other, "t", "b");
	say_result(&f, expect_bindings(&f, c, "[" TABLE("b") "]"),
		   "{\"chan\":8,\"state\":\"ready\",\"postgres_changes\":[" READY(2) "]}");
	/* Of this subscription's bindings only; unknown ones, none, another channel. */
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":7,\"topic\":\"\",\"from\":1,\"to\":2,\"cause\":\"connection\","
		   "\"ids\":[2,2,5]}");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":7,\"topic\":\"\",\"from\":3,\"to\":4,\"cause\":\"undecodable\","
		   "\"ids\":[]}");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":9,\"topic\":\"\",\"from\":3,\"to\":4,\"cause\":\"x\",\"ids\":[1]}");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":7,\"topic\":\"\",\"from\":5,\"to\":6,\"cause\":\"undecodable\","
		   "\"ids\":[1,2]}");
	say_row(&f, "1,2", 1);
	fake_flush(&f, c);
	SAW(&a, "gap:undecodable:5-6 +1 ");
	SAW(&b, "gap:connection:1-2 gap:undecodable:5-6 +1 ");
	SAW(&other, "ready +1 ");
	end(&f, c);
}
END_TEST

/* ---- what stands in a row ---- */

struct rows {
	int n;
	char text[3][4096];
};

static void put_json(char *to, const char *name, const void *value, size_t size)
{
	char *json;

	if (!value) {
		ck_assert_uint_eq(size, 0);
		return;
	}
	ck_assert_int_eq(rtb_msgpack_to_json(value, size, &json, NULL, NULL, 0), 0);
	(void)sprintf(to + strlen(to), " %s=%s", name, json);
	rtb_free(json);
}

static void write_down(struct rtb_watch *w, const struct rtb_change *ch, void *user)
{
	struct rows *rows = user;
	char *to = rows->text[rows->n++];

	(void)w;
	(void)sprintf(to, "%s %s.%s [%s]", ch->type, ch->schema, ch->table, ch->commit_timestamp);
	put_json(to, "new", ch->record, ch->record_size);
	put_json(to, "old", ch->old_record, ch->old_record_size);
	put_json(to, "columns", ch->columns, ch->columns_size);
	for (const char *const *e = ch->errors; e && *e; e++)
		(void)sprintf(to + strlen(to), " !%s", *e);
	ck_assert_ptr_nonnull(ch->data);
}

static struct rtb_client *writing_client(struct fake *f, struct rows *rows)
{
	struct rtb_watch_options o = RTB_WATCH_OPTIONS_INIT;
	struct rtb_client *c;
	struct rtb_watch *w;

	fake_start(f);
	c = fake_client(f, NULL);
	o.schema = "*";
	o.change = write_down;
	o.user = rows;
	ck_assert_int_eq(rtb_watch(c, &o, &w), 0);
	fake_attach(f, c);
	say_bound(f, expect_bindings(f, c, "[{\"event\":\"*\",\"schema\":\"*\",\"table\":\"*\"}]"),
		  "ready", READY(1));
	return c;
}

START_TEST(what_stands_in_it)
{
	static struct rows rows;
	struct rtb_client *c;
	struct fake f;

	rows.n = 0;
	c = writing_client(&f, &rows);
	say_notice(&f, RTBP_N_POSTGRES_CHANGES,
		   "{\"later\":[1],\"data\":{\"later\":1,\"schema\":\"public\",\"table\":\"todos\","
		   "\"type\":\"UPDATE\",\"commit_timestamp\":\"2025-11-19T00:22:40.877Z\","
		   "\"columns\":[{\"name\":\"id\",\"type\":\"int8\"}],\"record\":{\"id\":46},"
		   "\"old_record\":{\"id\":45},\"errors\":null},\"ids\":[1]}");
	say_notice(&f, RTBP_N_POSTGRES_CHANGES,
		   "{\"ids\":[1],\"data\":{\"schema\":\"public\",\"table\":\"todos\","
		   "\"type\":\"DELETE\",\"commit_timestamp\":null,\"columns\":[],\"old_record\":{},"
		   "\"errors\":[\"Error 413: Payload Too Large\",5,\"Error 401: Unauthorized\"]}}");
	/* Nothing but what must be; things of other types. */
	say_notice(&f, RTBP_N_POSTGRES_CHANGES,
		   "{\"ids\":[1],\"data\":{\"type\":\"INSERT\",\"schema\":1,\"record\":[],"
		   "\"old_record\":null,\"columns\":{},\"errors\":[]}}");
	fake_flush(&f, c);
	UNTIL(c, rows.n == 3);
	ck_assert_str_eq(rows.text[0], "UPDATE public.todos [2025-11-19T00:22:40.877Z] "
				       "new={\"id\":46} old={\"id\":45} "
				       "columns=[{\"name\":\"id\",\"type\":\"int8\"}]");
	ck_assert_str_eq(rows.text[1], "DELETE public.todos [] old={} columns=[] "
				       "!Error 413: Payload Too Large !Error 401: Unauthorized");
	ck_assert_str_eq(rows.text[2], "INSERT . []");
	end(&f, c);
}
END_TEST

START_TEST(more_words_than_usual)
{
	static struct rows rows;
	char json[2048] = "{\"ids\":[1],\"data\":{\"type\":\"INSERT\",\"errors\":[", want[2048];
	char name[256] = { 0 };
	struct rtb_client *c;
	struct fake f;

	rows.n = 0;
	c = writing_client(&f, &rows);
	memset(name, 's', 255);
	for (int i = 0; i < 40; i++)
		(void)sprintf(json + strlen(json), "%s\"error %d\"", i ? "," : "", i);
	(void)sprintf(json + strlen(json), "],\"schema\":\"%s\",\"table\":\"t\"}}", name);
	say_notice(&f, RTBP_N_POSTGRES_CHANGES, json);
	fake_flush(&f, c);
	UNTIL(c, rows.n == 1);
	(void)sprintf(want, "INSERT %s.t []", name);
	for (int i = 0; i < 40; i++)
		(void)sprintf(want + strlen(want), " !error %d", i);
	ck_assert_str_eq(rows.text[0], want);
	end(&f, c);
}
END_TEST

/* ---- what callbacks may do ---- */

static void stop(struct eye *eye)
{
	ck_assert_ptr_null(rtb_unwatch(eye->watch));
	ck_assert_ptr_null(rtb_unwatch(eye->watch));
}

static void stop_both(struct eye *eye)
{
	stop(eye);
	rtb_unwatch(eye->other->watch);
}

static void watch_other(struct eye *eye)
{
	watch_table(eye->c, eye->other, "b");
}

static void stop_and_watch(struct eye *eye)
{
	stop(eye);
	/* This one tells the daemon at once, in the middle of the row. */
	ck_assert_int_gt(rtb_sync(eye->c, false, NULL, NULL), 0);
	watch_table(eye->c, eye->other, "a");
}

START_TEST(callbacks_end_watches)
{
	struct eye a, b, second = { 0 }, third = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = seeing_client(&f, &a, &b);
	watch_table(c, &second, "a");
	watch_table(c, &third, "a");
	SAW(&second, "ready ");
	SAW(&third, "ready ");
	/* Itself and the next one, in the middle of the walk. */
	a.act = stop_both;
	a.other = &second;
	say_row(&f, "1,2", 1);
	say_row(&f, "1,2", 2);
	fake_flush(&f, c);
	SAW(&b, "+1 +2 ");
	SAW(&third, "+1 +2 ");
	ck_assert_str_eq(a.heard, "+1 ");
	ck_assert_str_eq(second.heard, "");
	ck_assert(fake_is_quiet(&f, c));
	/* The last one of a binding, in its state and in its gap. */
	third.act = stop;
	say_states(&f, "rejoining", PENDING(1) "," PENDING(2));
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":7,\"topic\":\"\",\"from\":1,\"to\":2,\"cause\":\"x\",\"ids\":[1,2]}");
	say_states(&f, "ready", READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&b, "pending gap:x:1-2 ready ");
	ck_assert_str_eq(third.heard, "pending ");
	expect_bindings(&f, c, "[" TABLE("b") "]");
	b.act = stop;
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":7,\"topic\":\"\",\"from\":1,\"to\":2,\"cause\":\"x\",\"ids\":[2]}");
	say_row(&f, "2", 3);
	fake_flush(&f, c);
	fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	ck_assert_str_eq(b.heard, "gap:x:1-2 ");
	end(&f, c);
}
END_TEST

START_TEST(callbacks_make_watches)
{
	struct eye a, b, second = { 0 }, third = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	/* To a binding that this row is for, too: it hears the row, for it hears that it is ready
	 * before. */
	a.act = watch_other;
	a.other = &second;
	say_row(&f, "1,2", 1);
	fake_flush(&f, c);
	SAW(&a, "+1 ");
	SAW(&b, "+1 ");
	SAW(&second, "ready +1 ");
	ck_assert(fake_is_quiet(&f, c));
	/* In place of itself, with the daemon told in between: what was is over, and rows come
	 * again with the answer. */
	a.act = stop_and_watch;
	a.other = &third;
	say_row(&f, "1", 2);
	say_row(&f, "1,2", 3);
	fake_flush(&f, c);
	SAW(&b, "+3 ");
	expect_bindings(&f, c, "[" TABLE("b") "]");
	fake_expect(&f, c, RTBP_M_SYNC);
	id = expect_bindings(&f, c, "[" TABLE("b") "," TABLE("a") "]");
	ck_assert_str_eq(third.heard, "");
	say_row(&f, "1", 4);
	say_bound(&f, id, "ready", READY(2) "," READY(1));
	say_row(&f, "1", 5);
	fake_flush(&f, c);
	SAW(&third, "ready +5 ");
	ck_assert_str_eq(a.heard, "+2 ");
	end(&f, c);
}
END_TEST

/* ---- what is wrong ---- */

static void on_state(struct rtb_client *c, enum rtb_state state, int why, void *user)
{
	(void)c;
	(void)state;
	if (why)
		*(int *)user = why;
}

START_TEST(what_is_no_change)
{
	static const char *const bad[] = { "{\"data\":{}}", "{\"ids\":[1]}",
					   "{\"ids\":1,\"data\":{}}", "{\"ids\":[1],\"data\":[]}" };
	static const char *const bad_answers[] = {
		"{\"chan\":7,\"state\":\"ready\"}",
		"{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":{}}",
		"{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":[]}",
		"{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":[1]}",
		"{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":[{\"state\":\"ready\"}]}",
	};
	size_t n_bad = sizeof(bad) / sizeof(*bad), n = sizeof(bad_answers) / sizeof(*bad_answers);
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct eye eye = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;
	int why;

	fake_start(&f);
	o.handlers.state = on_state;
	o.user = &why;
	c = fake_client(&f, &o);
	watch_table(c, &eye, "a");
	for (size_t i = 0; i < n + n_bad; i++) {
		fake_attach(&f, c);
		why = 0;
		id = expect_bindings(&f, c, "[" TABLE("a") "]");
		if (i < n) {
			say_result(&f, id, bad_answers[i]);
		} else {
			say_bound(&f, id, "ready", READY(1));
			say_notice(&f, RTBP_N_POSTGRES_CHANGES, bad[i - n]);
		}
		fake_flush(&f, c);
		UNTIL(c, why == RTB_E_PROTOCOL);
		ck_assert_ptr_nonnull(
			strstr(rtb_client_error_text(c), i < n ? "bindings" : "change"));
		ck_assert_int_eq(rtb_watch_state(eye.watch), RTB_WATCH_PENDING);
		fake_hang_up(&f);
	}
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_watch_rows");
	TCase *t = tcase_create("rows");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, each_once);
	tcase_add_test(t, gaps);
	tcase_add_test(t, what_stands_in_it);
	tcase_add_test(t, more_words_than_usual);
	tcase_add_test(t, callbacks_end_watches);
	tcase_add_test(t, callbacks_make_watches);
	tcase_add_test(t, what_is_no_change);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
