/* SPDX-License-Identifier: MIT */
/* librtbridge: what may be watched, and how much of it. */
#include "test_client_rows.h"
#include "suite.h"

static int try(struct rtb_client *c, const struct rtb_watch_options *o)
{
	struct rtb_watch *w = NULL;
	int r = rtb_watch(c, o, &w);

	ck_assert_int_eq(r == 0, w != NULL);
	if (r < 0 && r != -EINVAL)
		ck_assert_str_eq(rtb_client_error_text(c), rtb_strerror(r));
	rtb_unwatch(w);
	return r;
}

START_TEST(names)
{
	static const char *const bad[] = { "", "a\nb", "\x7f", "\xc2\x85", "\xff", "\xc3" };
	char name[257] = { 0 };
	struct rtb_watch_options o;
	struct rtb_client *c;
	struct eye eye = { 0 };
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	memset(name, 'n', 256);
	o = eye_options(c, &eye);
	ck_assert_int_eq(try(c, &o), 0);
	for (size_t i = 0; i <= sizeof(bad) / sizeof(*bad); i++) {
		const char *text = i < sizeof(bad) / sizeof(*bad) ? bad[i] : name;
		const char *const columns[] = { "id", text, NULL };

		o = eye_options(c, &eye);
		o.schema = text;
		ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
		o = eye_options(c, &eye);
		o.table = text;
		ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
		o = eye_options(c, &eye);
		o.select = columns;
		ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
		o = eye_options(c, &eye);
		o.filter = text;
		ck_assert_int_eq(try(c, &o), text == name || !*text ? 0 : RTB_E_BINDING);
	}
	name[255] = '\0';
	o.schema = o.table = name;
	ck_assert_int_eq(try(c, &o), 0);
	o.schema = o.table = NULL;
	ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
	o.schema = "*";
	ck_assert_int_eq(try(c, &o), 0);
	ck_assert_ptr_nonnull(strstr(rtb_strerror(RTB_E_BINDING), "a schema or a table"));
	ck_assert_ptr_nonnull(strstr(rtb_strerror(RTB_E_TYPE), "another type"));
	end(&f, c);
}
END_TEST

START_TEST(events_and_options)
{
	static const char *const bad[] = { "", "TRUNCATE", "INSERTS", "INSER", "**", "in sert" };
	struct rtb_watch_options o;
	struct eye eye = { 0 };
	char topic[242] = { 0 };
	struct rtb_client *c;
	struct rtb_watch *w;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	o = eye_options(c, &eye);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		o.event = bad[i];
		ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
	}
	o.event = "UpDate";
	ck_assert_int_eq(try(c, &o), 0);
	memset(topic, 't', 241);
	o.topic = topic;
	ck_assert_int_eq(try(c, &o), RTB_E_TOPIC);
	o.topic = "rtbridge:x";
	ck_assert_int_eq(try(c, &o), RTB_E_TOPIC);
	o.topic = NULL;
	o.is_private = true;
	ck_assert_int_eq(try(c, &o), -EINVAL);
	o.topic = "t";
	ck_assert_int_eq(try(c, &o), 0);
	o.size--;
	ck_assert_int_eq(try(c, &o), -EINVAL);
	ck_assert_int_eq(rtb_watch(c, NULL, &w), -EINVAL);
	end(&f, c);
}
END_TEST

START_TEST(sizes)
{
	/* {"event":"*","schema":"public","table":"*","filter":""} */
	enum { REST = 55 };
	const char *columns[102] = { NULL };
	char filter[8300] = { 0 };
	struct rtb_watch_options o;
	struct eye eye = { 0 };
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	o = eye_options(c, &eye);
	o.filter = filter;
	memset(filter, 'f', 8192 - REST);
	ck_assert_int_eq(try(c, &o), 0);
	filter[8192 - REST] = 'f';
	ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
	/* JSON writes it in two bytes. */
	filter[8192 - REST] = '\0';
	filter[0] = '"';
	ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
	o.filter = NULL;
	o.select = columns;
	for (int i = 0; i < 100; i++)
		columns[i] = "column";
	ck_assert_int_eq(try(c, &o), 0);
	columns[100] = "column";
	ck_assert_int_eq(try(c, &o), RTB_E_BINDING);
	end(&f, c);
}
END_TEST

START_TEST(more_than_the_daemon_allows)
{
	struct eye a = { 0 }, b = { 0 }, over = { 0 }, other = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	fake_start(&f);
	f.bindings = 2;
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "]"), "ready", READY(1));
	watch_in(c, &b, "t", "b");
	say_result(&f, expect_bindings(&f, c, "[" TABLE("b") "]"),
		   "{\"chan\":8,\"state\":\"ready\",\"postgres_changes\":[" READY(2) "]}");
	fake_flush(&f, c);
	SAW(&a, "ready ");
	SAW(&b, "ready ");
	/* One too many harms no other, whether its topic has some or none. */
	watch_table(c, &over, "c");
	SAW(&over, "error:too_many ");
	watch_in(c, &other, "u", "d");
	SAW(&other, "error:too_many ");
	ck_assert(fake_is_quiet(&f, c));
	ck_assert_int_eq(rtb_wait_watch(other.watch, 60000), RTB_E_REFUSED);
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "at most 2 bindings"));
	say_row(&f, "1,2", 1);
	fake_flush(&f, c);
	SAW(&a, "+1 ");
	SAW(&b, "+1 ");
	/* There is room again, first in another topic, then in the last one's own. */
	rtb_unwatch(b.watch);
	fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("c") "]");
	say_bound(&f, id, "ready", READY(1) "," READY(3));
	fake_flush(&f, c);
	SAW(&over, "pending ready ");
	rtb_unwatch(a.watch);
	expect_bindings(&f, c, "[" TABLE("c") "]");
	expect_bindings(&f, c, "[" TABLE("d") "]");
	SAW(&other, "pending ");
	end(&f, c);
}
END_TEST

static struct eye early, late;

/* The daemon hears of `late` while `early`, made before it, is not wanted. */
static void change_places(struct eye *eye)
{
	watch_table(eye->c, &early, "early");
	rtb_unwatch(early.watch);
	rtb_unwatch(eye->watch);
	watch_table(eye->c, &late, "late");
	ck_assert_int_gt(rtb_broadcast_json(eye->c, "t", "e", "1", 1, NULL), 0);
	watch_table(eye->c, &early, "early");
}

START_TEST(what_the_daemon_has_keeps_its_place)
{
	struct eye a = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	fake_start(&f);
	f.bindings = 1;
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "]"), "ready", READY(1));
	fake_flush(&f, c);
	SAW(&a, "ready ");
	a.act = change_places;
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	id = expect_bindings(&f, c, "[" TABLE("late") "]");
	fake_expect(&f, c, RTBP_M_BROADCAST);
	SAW(&early, "error:too_many ");
	ck_assert(fake_is_quiet(&f, c));
	say_bound(&f, id, "ready", READY(2));
	fake_flush(&f, c);
	SAW(&late, "ready ");
	rtb_unwatch(late.watch);
	expect_bindings(&f, c, "[" TABLE("early") "]");
	SAW(&early, "pending ");
	end(&f, c);
}
END_TEST

static struct eye dupe;

static void want_again(struct eye *eye)
{
	watch_table(eye->c, &dupe, "a");
}

/* An ended wish and a newer one of the same: the end of the attachment makes no two of them. */
START_TEST(what_is_over_stays_over)
{
	struct eye a, b, again = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	rtb_unwatch(a.watch);
	expect_bindings(&f, c, "[" TABLE("b") "]");
	watch_table(c, &again, "a");
	expect_bindings(&f, c, "[" TABLE("b") "," TABLE("a") "]");
	again.act = want_again;
	fake_hang_up(&f);
	SAW(&again, "pending:detached ");
	fake_attach(&f, c);
	id = expect_bindings(&f, c, "[" TABLE("b") "," TABLE("a") "]");
	say_bound(&f, id, "ready", READY(1) "," READY(2));
	say_row(&f, "2", 1);
	fake_flush(&f, c);
	SAW(&again, "ready +1 ");
	SAW(&dupe, "pending:detached ready +1 ");
	end(&f, c);
}
END_TEST

START_TEST(a_daemon_without_database_changes)
{
	struct eye eye = { 0 }, beside = { 0 };
	struct ear ear = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	f.bindings = 0;
	c = fake_client(&f, NULL);
	watch_table(c, &eye, "a");
	watch_in(c, &beside, "t", "a");
	fake_attach(&f, c);
	SAW(&eye, "error:unsupported ");
	SAW(&beside, "error:unsupported ");
	ck_assert(fake_is_quiet(&f, c));
	listen_to(c, &ear, "t", false, NULL);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_POSTGRES_CHANGES), "absent");
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{}");
	say_subscribed(&f, m.id, 5, "ready");
	fake_flush(&f, c);
	HEARD(&ear, "ready ");
	rtb_unsubscribe(ear.sub);
	fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	/* The next daemon does. */
	fake_close(&f);
	SAW(&eye, "pending:detached ");
	f.bindings = 10;
	fake_listen(&f);
	fake_attach(&f, c);
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "]"), "ready", READY(1));
	expect_bindings(&f, c, "[" TABLE("a") "]");
	fake_flush(&f, c);
	SAW(&eye, "ready ");
	end(&f, c);
}
END_TEST

START_TEST(a_request_too_big_for_the_daemon)
{
	char filter[2000] = { 0 };
	struct eye a = { 0 }, big = { 0 };
	struct rtb_watch_options o;
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	f.frame_bytes = 1000;
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "]"), "ready", READY(1));
	fake_flush(&f, c);
	SAW(&a, "ready ");
	memset(filter, 'f', sizeof(filter) - 1);
	o = eye_options(c, &big);
	o.table = "b";
	o.filter = filter;
	ck_assert_int_eq(rtb_watch(c, &o, &big.watch), 0);
	SAW(&big, "error:too_big ");
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	SAW(&a, "+1 ");
	end(&f, c);
}
END_TEST

/* As many as a client may have: made, answered, told; in no time. */
START_TEST(many)
{
	enum { N = 500 };
	static struct eye eyes[N], again[N];
	struct rtb_client *c;
	struct fake f;
	char name[32];
	size_t begin;
	uint32_t id;

	fake_start(&f);
	c = fake_client(&f, NULL);
	for (int i = 0; i < N; i++) {
		(void)snprintf(name, sizeof(name), "table_%d", i);
		watch_table(c, &eyes[i], name);
		watch_table(c, &again[i], name);
	}
	fake_attach(&f, c);
	id = fake_expect(&f, c, RTBP_M_SUBSCRIBE).id;
	begin = rtbp_msg_begin_result(&f.out, id);
	rtbp_pack_map(&f.out, 3);
	rtbp_pack_field_uint(&f.out, RTBP_F_CHAN, 7);
	rtbp_pack_field_text(&f.out, RTBP_F_STATE, "ready");
	rtbp_pack_field(&f.out, RTBP_F_POSTGRES_CHANGES);
	rtbp_pack_array(&f.out, N);
	for (int i = 0; i < N; i++) {
		rtbp_pack_map(&f.out, 2);
		rtbp_pack_field_uint(&f.out, RTBP_F_ID, 1000 + (uint64_t)i);
		rtbp_pack_field_text(&f.out, RTBP_F_STATE, "ready");
	}
	ck_assert_int_eq(rtbp_msg_end(&f.out, begin), 0);
	for (int i = 0; i < N; i++) {
		(void)snprintf(name, sizeof(name), "%d", 1000 + i);
		say_row(&f, name, i);
	}
	fake_flush(&f, c);
	(void)snprintf(name, sizeof(name), "ready +%d ", N - 1);
	HEARD(&again[N - 1], name);
	for (int i = 0; i < N; i++) {
		(void)snprintf(name, sizeof(name), "ready +%d ", i);
		ck_assert_str_eq(eyes[i].heard, name);
		ck_assert_str_eq(again[i].heard, name);
		rtb_unwatch(eyes[i].watch);
	}
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_watch_limits");
	TCase *t = tcase_create("limits");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, names);
	tcase_add_test(t, events_and_options);
	tcase_add_test(t, sizes);
	tcase_add_test(t, more_than_the_daemon_allows);
	tcase_add_test(t, what_the_daemon_has_keeps_its_place);
	tcase_add_test(t, what_is_over_stays_over);
	tcase_add_test(t, a_daemon_without_database_changes);
	tcase_add_test(t, a_request_too_big_for_the_daemon);
	tcase_add_test(t, many);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
