/* SPDX-License-Identifier: MIT */
/* librtbridge: watches of database changes, what they ask for and how they stand. */
#include "test_client_rows.h"
#include "suite.h"

static void stop(struct eye *eye)
{
	rtb_unwatch(eye->watch);
}

START_TEST(one)
{
	struct rtb_watch_options o;
	struct eye eye = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	o = eye_options(c, &eye);
	o.event = "insert";
	o.table = "todos";
	ck_assert_int_eq(rtb_watch(c, &o, &eye.watch), 0);
	ck_assert_int_eq(rtb_watch_state(eye.watch), RTB_WATCH_PENDING);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_TOPIC), "absent");
	ck_assert_str_eq(field_json(m.params, RTBP_F_PRIVATE), "false");
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "absent");
	ck_assert_str_eq(field_json(m.params, RTBP_F_PRESENCE), "absent");
	ck_assert_str_eq(field_json(m.params, RTBP_F_WAIT), "\"joined\"");
	ck_assert_str_eq(field_json(m.params, RTBP_F_KEEP), "true");
	ck_assert_str_eq(field_json(m.params, RTBP_F_POSTGRES_CHANGES),
			 "[{\"event\":\"INSERT\",\"schema\":\"public\",\"table\":\"todos\"}]");
	/* Pending for no reason is how it began: no news. A row is told whatever the state. */
	say_bound(&f, m.id, "joined", PENDING(11));
	say_row(&f, "11", 1);
	say_states(&f, "ready", READY(11));
	say_row(&f, "12", 2);
	say_row(&f, "11", 3);
	fake_flush(&f, c);
	SAW(&eye, "+1 ready +3 ");
	ck_assert_uint_eq(eye.id, 11);
	ck_assert_ptr_null(rtb_unwatch(eye.watch));
	ck_assert_ptr_null(rtb_unwatch(NULL));
	m = fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_TOPIC), "\"\"");
	ck_assert_str_eq(field_json(m.params, RTBP_F_PRIVATE), "false");
	end(&f, c);
}
END_TEST

START_TEST(everything_said)
{
	static const char *const columns[] = { "id", "na\"me", NULL }, *const none[] = { NULL };
	struct eye eye[4] = { 0 };
	struct rtb_watch_options o;
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	o = eye_options(c, &eye[0]);
	o.table = "todos";
	o.filter = "prio=gt.3,done=is.false";
	o.select = columns;
	o.topic = "room:1";
	o.is_private = true;
	ck_assert_int_eq(rtb_watch(c, &o, &eye[0].watch), 0);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert(field_text(m.params, RTBP_F_TOPIC, "room:1"));
	ck_assert(field_bool(m.params, RTBP_F_PRIVATE));
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "absent");
	ck_assert_str_eq(
		field_json(m.params, RTBP_F_POSTGRES_CHANGES),
		"[{\"event\":\"*\",\"schema\":\"public\",\"table\":\"todos\","
		"\"filter\":\"prio=gt.3,done=is.false\",\"select\":[\"id\",\"na\\\"me\"]}]");
	/* What is left out means all, and empty things are as if left out: one binding. */
	o = eye_options(c, &eye[1]);
	o.filter = "";
	o.select = none;
	o.topic = "";
	ck_assert_int_eq(rtb_watch(c, &o, &eye[1].watch), 0);
	expect_bindings(&f, c, "[{\"event\":\"*\",\"schema\":\"public\",\"table\":\"*\"}]");
	o = eye_options(c, &eye[2]);
	o.event = "*";
	o.table = "*";
	ck_assert_int_eq(rtb_watch(c, &o, &eye[2].watch), 0);
	o = eye_options(c, &eye[3]);
	o.schema = NULL;
	o.table = "t";
	o.event = "Delete";
	ck_assert_int_eq(rtb_watch(c, &o, &eye[3].watch), 0);
	expect_bindings(&f, c,
			"[{\"event\":\"*\",\"schema\":\"public\",\"table\":\"*\"},"
			"{\"event\":\"DELETE\",\"schema\":\"*\",\"table\":\"t\"}]");
	end(&f, c);
}
END_TEST

START_TEST(equal_ones_share)
{
	struct eye a, b, again = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = seeing_client(&f, &a, &b);
	watch_table(c, &again, "a");
	ck_assert_int_eq(rtb_watch_state(again.watch), RTB_WATCH_READY);
	SAW(&again, "ready ");
	ck_assert_uint_eq(again.id, 1);
	ck_assert(fake_is_quiet(&f, c));
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	SAW(&a, "+1 ");
	SAW(&again, "+1 ");
	/* One of both is enough. */
	rtb_unwatch(a.watch);
	ck_assert(fake_is_quiet(&f, c));
	say_row(&f, "1,2", 2);
	fake_flush(&f, c);
	SAW(&b, "+2 ");
	SAW(&again, "+2 ");
	ck_assert_str_eq(a.heard, "");
	rtb_unwatch(again.watch);
	expect_bindings(&f, c, "[" TABLE("b") "]");
	say_row(&f, "1", 3);
	say_row(&f, "2", 4);
	fake_flush(&f, c);
	SAW(&b, "+4 ");
	end(&f, c);
}
END_TEST

START_TEST(over_a_restart_of_the_daemon)
{
	struct eye a, b, late = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	fake_close(&f);
	SAW(&a, "pending:detached ");
	SAW(&b, "pending:detached ");
	ck_assert_int_eq(rtb_watch_state(a.watch), RTB_WATCH_PENDING);
	ck_assert_uint_eq(a.id, 0);
	rtb_unwatch(a.watch);
	watch_table(c, &late, "c");
	fake_listen(&f);
	fake_attach(&f, c);
	id = expect_bindings(&f, c, "[" TABLE("b") "," TABLE("c") "]");
	/* The old ids may be anybody's now. */
	say_row(&f, "1,2", 1);
	say_bound(&f, id, "ready", READY(5) "," READY(2));
	say_row(&f, "2", 2);
	say_row(&f, "5", 3);
	fake_flush(&f, c);
	/* Whoever had changes has missed some, perhaps. */
	SAW(&b, "gap:detached ready +3 ");
	SAW(&late, "ready +2 ");
	ck_assert_str_eq(a.heard, "");
	end(&f, c);
}
END_TEST

static int64_t wall_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Once, however many attachments fail meanwhile; from when the last was heard and nothing more was
 * there to be read, or from when changes ceased to flow. */
START_TEST(what_was_missed_while_detached)
{
	int64_t before = wall_ms(), hung_up, stopped, ended;
	struct eye a, b, late = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	say_states(&f, "ready", "{\"id\":2,\"state\":\"pending\",\"code\":\"connection\"}");
	fake_flush(&f, c);
	SAW(&b, "pending:connection ");
	stopped = wall_ms();
	UNTIL(c, wall_ms() > stopped);
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	SAW(&a, "+1 ");
	fake_hang_up(&f);
	hung_up = wall_ms();
	SAW(&a, "pending:detached ");
	SAW(&b, "pending:detached ");
	ended = wall_ms();
	/* Two attachments that end before changes flow. */
	fake_accept(&f, c);
	fake_hang_up(&f);
	fake_attach(&f, c);
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	say_bound(&f, id, "joined", PENDING(1) "," PENDING(2));
	fake_flush(&f, c);
	SAW(&a, "pending ");
	SAW(&b, "pending ");
	fake_hang_up(&f);
	SAW(&a, "pending:detached ");
	SAW(&b, "pending:detached ");
	watch_table(c, &late, "a");
	fake_attach(&f, c);
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	/* Before the first row, too, if that comes first. */
	say_bound(&f, id, "joined", PENDING(1) "," PENDING(2));
	say_row(&f, "1", 2);
	say_states(&f, "ready", READY(1) "," READY(2));
	say_states(&f, "ready", PENDING(1) "," READY(2));
	say_states(&f, "ready", READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&a, "pending gap:detached +2 ready pending ready ");
	SAW(&b, "pending gap:detached ready ");
	SAW(&late, "pending:detached pending +2 ready pending ready ");
	ck_assert_int_ge(a.gap_from, stopped);
	ck_assert_int_le(a.gap_from, hung_up);
	ck_assert_int_ge(b.gap_from, before);
	ck_assert_int_le(b.gap_from, stopped);
	ck_assert_int_ge(a.gap_to, ended);
	ck_assert_int_le(b.gap_to, wall_ms());
	end(&f, c);
}
END_TEST

/* Ready, but not told yet; and ended by the callback that tells the gap. */
START_TEST(a_gap_and_the_end)
{
	struct eye a, b, again = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	watch_table(c, &again, "a");
	fake_hang_up(&f);
	SAW(&a, "pending:detached ");
	fake_attach(&f, c);
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	again.heard[0] = '\0';
	a.act = stop;
	say_bound(&f, id, "ready", READY(1) "," READY(2));
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	SAW(&again, "gap:detached ready +1 ");
	ck_assert_str_eq(a.heard, "gap:detached ");
	end(&f, c);
}
END_TEST

START_TEST(beside_subscriptions)
{
	struct eye eye = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct ear ear;
	struct fake f;

	c = ready_client(&f, &ear);
	ear.heard[0] = '\0';
	watch_in(c, &eye, "t", "a");
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert(field_text(m.params, RTBP_F_TOPIC, "t"));
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{}");
	ck_assert_str_eq(field_json(m.params, RTBP_F_WAIT), "\"joined\"");
	ck_assert_str_eq(field_json(m.params, RTBP_F_POSTGRES_CHANGES), "[" TABLE("a") "]");
	/* A slow database: broadcasts flow meanwhile, and that is all the other one asked for. */
	say_result(&f, m.id,
		   "{\"chan\":5,\"state\":\"joined\",\"postgres_changes\":[" PENDING(1) "]}");
	say_broadcast(&f, 5, "e", "1");
	/* A gap with ids is about these, one without about broadcasts. */
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"topic\":\"t\",\"from\":1,\"to\":2,\"cause\":\"connection\"}");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"topic\":\"t\",\"from\":3,\"to\":4,\"cause\":\"connection\","
		   "\"ids\":[1]}");
	say_notice(&f, RTBP_N_CHANNEL,
		   "{\"chan\":5,\"topic\":\"t\",\"state\":\"ready\","
		   "\"postgres_changes\":[" READY(1) "]}");
	fake_flush(&f, c);
	SAW(&eye, "gap:connection:3-4 ready ");
	HEARD(&ear, "e=1 ");
	/* Each part may go alone. */
	rtb_unsubscribe(ear.sub);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "absent");
	ck_assert_str_eq(field_json(m.params, RTBP_F_POSTGRES_CHANGES), "[" TABLE("a") "]");
	listen_to(c, &ear, "t", false, only_a);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{\"events\":[\"a\"]}");
	rtb_unwatch(eye.watch);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{\"events\":[\"a\"]}");
	ck_assert_str_eq(field_json(m.params, RTBP_F_POSTGRES_CHANGES), "absent");
	ck_assert_str_eq(field_json(m.params, RTBP_F_WAIT), "absent");
	end(&f, c);
}
END_TEST

START_TEST(each_change_of_state_is_told)
{
	struct eye a, b;
	struct rtb_client *c;
	struct fake f;

	c = seeing_client(&f, &a, &b);
	say_states(&f, "rejoining",
		   "{\"id\":1,\"state\":\"pending\",\"code\":\"connection\",\"text\":\"x\"}");
	/* The same again, another text, another code, for no reason. */
	say_states(&f, "rejoining",
		   "{\"id\":1,\"state\":\"pending\",\"code\":\"connection\",\"text\":\"x\"}");
	say_states(&f, "rejoining",
		   "{\"id\":1,\"state\":\"pending\",\"code\":\"connection\",\"text\":\"y\"}");
	say_states(&f, "rejoining",
		   "{\"id\":1,\"state\":\"pending\",\"code\":\"database_query\",\"text\":\"y\"}");
	say_states(&f, "ready", PENDING(1) "," READY(2));
	say_states(&f, "ready",
		   "{\"id\":1,\"state\":\"error\",\"code\":\"bad_filter\",\"text\":\"z\"}");
	/* Of other clients, without a number, of a later daemon, no list. */
	say_states(&f, "ready", READY(3) ",{\"state\":\"ready\"},1," READY(2));
	say_states(&f, "ready", "{\"id\":2,\"state\":\"resting\",\"more\":1}");
	say_notice(&f, RTBP_N_CHANNEL, "{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":5}");
	say_states(&f, "ready", READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&a, "pending:connection pending:connection pending:database_query pending "
		"error:bad_filter ready ");
	SAW(&b, "pending ready ");
	end(&f, c);
}
END_TEST

START_TEST(asked_for_again_after_an_error)
{
	struct eye a, b, again = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	say_states(&f, "ready", "{\"id\":1,\"state\":\"error\",\"code\":\"binding_refused\"}");
	fake_flush(&f, c);
	SAW(&a, "error:binding_refused ");
	/* The table may be there by now: the daemon is asked. */
	watch_table(c, &again, "a");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	ck_assert_int_eq(rtb_watch_state(again.watch), RTB_WATCH_PENDING);
	SAW(&a, "pending ");
	say_bound(&f, id, "ready", READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&again, "ready ");
	SAW(&a, "ready ");
	ck_assert_str_eq(b.heard, "");
	end(&f, c);
}
END_TEST

/* Answers find their bindings by place, also those of requests that others have followed. */
START_TEST(answers_of_several_requests)
{
	struct eye a = { 0 }, b = { 0 }, again = { 0 };
	struct rtb_client *c;
	uint32_t id[4];
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	id[0] = expect_bindings(&f, c, "[" TABLE("a") "]");
	watch_table(c, &b, "b");
	id[1] = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	rtb_unwatch(a.watch);
	id[2] = expect_bindings(&f, c, "[" TABLE("b") "]");
	watch_table(c, &again, "a");
	id[3] = expect_bindings(&f, c, "[" TABLE("b") "," TABLE("a") "]");
	say_bound(&f, id[0], "ready", READY(1));
	say_row(&f, "1,2", 1); /* not asked for, as far as anybody is told */
	say_bound(&f, id[1], "joined", READY(1) "," PENDING(2));
	say_row(&f, "1", 2);
	say_row(&f, "2", 3);
	say_bound(&f, id[2], "ready", READY(2));
	say_row(&f, "1", 4);
	say_bound(&f, id[3], "ready", READY(2) "," READY(1));
	say_row(&f, "1", 5);
	say_row(&f, "2", 6);
	fake_flush(&f, c);
	SAW(&b, "+3 ready +6 ");
	SAW(&again, "ready +5 ");
	ck_assert_str_eq(a.heard, "");
	end(&f, c);
}
END_TEST

START_TEST(back_before_the_daemon_heard)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct eye a = { 0 }, again = { 0 };
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	o.send_queue_bytes = 1;
	c = fake_client(&f, &o);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "]"), "ready", READY(1));
	fake_flush(&f, c);
	SAW(&a, "ready ");
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	rtb_unwatch(a.watch);
	watch_table(c, &again, "a");
	fake_expect(&f, c, RTBP_M_BROADCAST);
	SAW(&again, "ready ");
	ck_assert(fake_is_quiet(&f, c));
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	SAW(&again, "+1 ");
	end(&f, c);
}
END_TEST

static void wait_inside(struct eye *eye)
{
	ck_assert_int_eq(rtb_wait_watch(eye->watch, 0), -EDEADLK);
}

START_TEST(waiting)
{
	struct eye a = { 0 }, b = { 0 }, again = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	id = expect_bindings(&f, c, "[" TABLE("a") "]");
	ck_assert_int_eq(rtb_wait_watch(a.watch, 0), RTB_E_TIMEOUT);
	say_bound(&f, id, "joined", PENDING(1));
	say_states(&f, "ready", READY(1));
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_watch(a.watch, 60000), 0);
	ck_assert_str_eq(a.heard, "ready ");
	a.act = wait_inside;
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	HEARD(&a, "ready +1 ");
	/* Ready before it was made; not before it was told, however. */
	watch_table(c, &again, "a");
	ck_assert_int_eq(rtb_wait_watch(again.watch, 60000), 0);
	ck_assert_str_eq(again.heard, "ready ");
	/* Refused, with the server's words. */
	watch_table(c, &b, "b");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	say_bound(&f, id, "ready",
		  READY(1) ",{\"id\":2,\"state\":\"error\",\"code\":\"binding_refused\","
			   "\"text\":\"no such table\"}");
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_watch(b.watch, 60000), RTB_E_REFUSED);
	ck_assert_str_eq(rtb_client_error_text(c), "no such table (binding_refused)");
	/* Ended by its own callback. */
	say_states(&f, "ready", READY(1) "," PENDING(2));
	fake_flush(&f, c);
	UNTIL(c, rtb_watch_state(b.watch) == RTB_WATCH_PENDING);
	b.act = stop;
	say_states(&f, "ready", READY(1) "," READY(2));
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_watch(b.watch, 60000), -ECANCELED);
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_watches");
	TCase *t = tcase_create("watches");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, one);
	tcase_add_test(t, everything_said);
	tcase_add_test(t, equal_ones_share);
	tcase_add_test(t, over_a_restart_of_the_daemon);
	tcase_add_test(t, what_was_missed_while_detached);
	tcase_add_test(t, a_gap_and_the_end);
	tcase_add_test(t, beside_subscriptions);
	tcase_add_test(t, each_change_of_state_is_told);
	tcase_add_test(t, asked_for_again_after_an_error);
	tcase_add_test(t, answers_of_several_requests);
	tcase_add_test(t, back_before_the_daemon_heard);
	tcase_add_test(t, waiting);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
