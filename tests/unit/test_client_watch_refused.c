/* SPDX-License-Identifier: MIT */
/* librtbridge: requests that the daemon refuses, and what of them goes on; what is left of the
 * past.
 */
#include <malloc.h>

#include "test_client_rows.h"
#include "suite.h"

static void stop_both(struct eye *eye)
{
	rtb_unwatch(eye->watch);
	rtb_unwatch(eye->other->watch);
}

START_TEST(refused_requests)
{
	struct eye a = { 0 }, b = { 0 }, d = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_in(c, &a, "t", "a");
	id = expect_bindings(&f, c, "[" TABLE("a") "]");
	/* Asked again by itself. */
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id, RTBP_E_TIMEOUT, "slow", -1), 0);
	fake_flush(&f, c);
	SAW(&a, "pending:timeout ");
	id = expect_bindings(&f, c, "[" TABLE("a") "]");
	say_bound(&f, id, "ready", READY(1));
	fake_flush(&f, c);
	SAW(&a, "ready ");
	watch_in(c, &b, "t", "b");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id, RTBP_E_REJECTED, "no", -1), 0);
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	/* The daemon keeps what it has. */
	SAW(&b, "error:rejected ");
	SAW(&a, "+1 ");
	ck_assert_int_eq(rtb_watch_state(a.watch), RTB_WATCH_READY);
	ck_assert_int_eq(rtb_wait_watch(b.watch, 60000), RTB_E_REFUSED);
	ck_assert_str_eq(rtb_client_error_text(c), "no (rejected)");
	/* Whoever asks again asks for all. */
	watch_in(c, &d, "t", "d");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "," TABLE("d") "]");
	SAW(&b, "pending ");
	say_row(&f, "1", 2);
	say_bound(&f, id, "ready", READY(1) "," READY(2) "," READY(3));
	say_row(&f, "1,2,3", 3);
	fake_flush(&f, c);
	SAW(&a, "+2 +3 ");
	SAW(&b, "ready +3 ");
	SAW(&d, "ready +3 ");
	end(&f, c);
}
END_TEST

/* A change that the daemon refuses leaves it with what it had. */
START_TEST(a_change_refused_for_now)
{
	struct eye a, b, x = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	uint32_t id;

	c = seeing_client(&f, &a, &b);
	watch_table(c, &x, "x");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "," TABLE("x") "]");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id, RTBP_E_BUSY, "full", -1), 0);
	say_row(&f, "1", 1);
	say_states(&f, "ready", READY(1) "," PENDING(2));
	fake_flush(&f, c);
	SAW(&b, "pending ");
	SAW(&a, "+1 ");
	SAW(&x, "pending:busy ");
	/* By itself; and once more. */
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "," TABLE("x") "]");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id, RTBP_E_BUSY, "full", -1), 0);
	say_row(&f, "2", 2);
	fake_flush(&f, c);
	SAW(&b, "+2 ");
	/* The daemon hears that nothing of it is wanted any more. */
	a.other = &b;
	a.act = stop_both;
	say_row(&f, "1", 3);
	fake_flush(&f, c);
	SAW(&a, "+3 ");
	id = expect_bindings(&f, c, "[" TABLE("x") "]");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id, RTBP_E_BAD_REQUEST, "no", -1), 0);
	fake_flush(&f, c);
	SAW(&x, "error:bad_request ");
	rtb_unwatch(x.watch);
	m = fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_TOPIC), "\"\"");
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

/* Refused at once, while earlier requests still wait: their answers count, and their refusals. */
START_TEST(refused_before_the_earlier_is_answered)
{
	struct eye a = { 0 }, b = { 0 }, x = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id[3];

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	id[0] = expect_bindings(&f, c, "[" TABLE("a") "]");
	watch_table(c, &b, "b");
	id[1] = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	watch_table(c, &x, "x");
	id[2] = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "," TABLE("x") "]");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id[2], RTBP_E_TOO_MANY, "x", -1), 0);
	fake_flush(&f, c);
	SAW(&x, "error:too_many ");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id[1], RTBP_E_BAD_REQUEST, "b", -1), 0);
	fake_flush(&f, c);
	SAW(&b, "error:bad_request ");
	ck_assert_str_eq(a.heard, "");
	say_bound(&f, id[0], "ready", READY(1));
	say_row(&f, "1", 1);
	fake_flush(&f, c);
	SAW(&a, "ready +1 ");
	ck_assert(fake_is_quiet(&f, c));
	/* All refused: nothing is held. */
	rtb_unwatch(a.watch);
	id[0] = expect_bindings(&f, c, "[" TABLE("b") "," TABLE("x") "]");
	SAW(&b, "pending ");
	say_bound(&f, id[0], "ready", READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&b, "ready ");
	SAW(&x, "pending ready ");
	end(&f, c);
}
END_TEST

START_TEST(refused_with_all_that_came_before)
{
	struct eye a = { 0 }, b = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id[2];

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	id[0] = expect_bindings(&f, c, "[" TABLE("a") "]");
	watch_table(c, &b, "b");
	id[1] = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id[1], RTBP_E_TOO_MANY, "b", -1), 0);
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id[0], RTBP_E_BAD_REQUEST, "a", -1), 0);
	fake_flush(&f, c);
	SAW(&a, "error:bad_request ");
	SAW(&b, "error:too_many error:bad_request ");
	/* The daemon has nothing that it had to be told of. */
	rtb_unwatch(a.watch);
	id[0] = expect_bindings(&f, c, "[" TABLE("b") "]");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, id[0], RTBP_E_BAD_REQUEST, "b", -1), 0);
	fake_flush(&f, c);
	SAW(&b, "pending error:bad_request ");
	rtb_unwatch(b.watch);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

/* What is over is kept only as long as an answer may need its place. */
START_TEST(many_that_come_and_go)
{
	enum { N = 2000 };
	struct eye a = { 0 }, b = { 0 };
	struct rtb_watch_options o;
	struct rtb_client *c;
	size_t before = 0;
	struct fake f;
	char name[32];
	uint32_t id;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch_table(c, &a, "a");
	id = expect_bindings(&f, c, "[" TABLE("a") "]");
	for (int i = 0; i < N; i++) {
		(void)snprintf(name, sizeof(name), "table_%d", i);
		o = eye_options(c, &b);
		o.table = name;
		ck_assert_int_eq(rtb_watch(c, &o, &b.watch), 0);
		/* Each request is answered when the next one has come: one is always open. */
		say_bound(&f, id, "joining", PENDING(1));
		id = fake_expect(&f, c, RTBP_M_SUBSCRIBE).id;
		fake_flush(&f, c);
		rtb_unwatch(b.watch);
		say_bound(&f, id, "joining", PENDING(1) "," PENDING(2));
		id = expect_bindings(&f, c, "[" TABLE("a") "]");
		fake_flush(&f, c);
		if (i == N / 10)
			before = mallinfo2().uordblks;
	}
	ck_assert_uint_le(mallinfo2().uordblks, before + 100000);
	say_bound(&f, id, "ready", READY(1));
	fake_flush(&f, c);
	SAW(&a, "ready ");
	end(&f, c);
}
END_TEST

/* The same of subscriptions: who was there stays, who is new hears why not. */
START_TEST(beside_a_subscription)
{
	struct ear ear = { 0 }, more = { 0 };
	struct eye eye = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	listen_to(c, &ear, "t", false, only_a);
	fake_attach(&f, c);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	say_subscribed(&f, m.id, 5, "ready");
	fake_flush(&f, c);
	HEARD(&ear, "ready ");
	listen_to(c, &more, "t", false, only_b);
	watch_in(c, &eye, "t", "a");
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	if (strcmp(field_json(m.params, RTBP_F_POSTGRES_CHANGES), "absent") == 0) {
		ck_assert_int_eq(rtbp_msg_put_error(&f.out, m.id, RTBP_E_TOO_MANY, "too", -1), 0);
		m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	}
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, m.id, RTBP_E_TOO_MANY, "so many", -1), 0);
	say_broadcast(&f, 5, "a", "1");
	fake_flush(&f, c);
	HEARD(&ear, "ready a=1 ");
	SAW(&eye, "error:too_many ");
	ck_assert_int_eq(rtb_sub_state(ear.sub), RTB_CHANNEL_READY);
	ck_assert_int_eq(rtb_wait_ready(ear.sub, 60000), 0);
	ck_assert_int_eq(rtb_sub_state(more.sub), RTB_CHANNEL_REJECTED);
	ck_assert_str_eq(more.heard, "rejected:too_many ");
	ck_assert_int_eq(rtb_wait_ready(more.sub, 60000), RTB_E_REFUSED);
	ck_assert_str_eq(rtb_client_error_text(c), "so many (too_many)");
	/* Asked again by whatever changes. */
	rtb_unwatch(eye.watch);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{\"events\":[\"a\",\"b\"]}");
	say_subscribed(&f, m.id, 5, "ready");
	say_broadcast(&f, 5, "b", "2");
	fake_flush(&f, c);
	HEARD(&more, "rejected:too_many ready b=2 ");
	ck_assert_str_eq(ear.heard, "ready a=1 ");
	end(&f, c);
}
END_TEST

START_TEST(too_big_beside_a_subscription)
{
	struct ear ear = { 0 }, more = { 0 };
	struct rtb_watch_options o;
	char filter[2000] = { 0 };
	struct eye big = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	f.frame_bytes = 1000;
	c = fake_client(&f, NULL);
	listen_to(c, &ear, "t", false, only_a);
	fake_attach(&f, c);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	say_subscribed(&f, m.id, 5, "ready");
	fake_flush(&f, c);
	HEARD(&ear, "ready ");
	memset(filter, 'f', sizeof(filter) - 1);
	o = eye_options(c, &big);
	o.topic = "t";
	o.filter = filter;
	ck_assert_int_eq(rtb_watch(c, &o, &big.watch), 0);
	SAW(&big, "error:too_big ");
	listen_to(c, &more, "t", false, only_b);
	HEARD(&more, "rejected:too_big ");
	say_broadcast(&f, 5, "a", "1");
	fake_flush(&f, c);
	HEARD(&ear, "ready a=1 ");
	ck_assert_int_eq(rtb_wait_ready(ear.sub, 60000), 0);
	rtb_unwatch(big.watch);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	say_subscribed(&f, m.id, 5, "ready");
	fake_flush(&f, c);
	HEARD(&more, "rejected:too_big ready ");
	ck_assert_str_eq(ear.heard, "ready a=1 ");
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_watch_refused");
	TCase *t = tcase_create("refused");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, refused_requests);
	tcase_add_test(t, a_change_refused_for_now);
	tcase_add_test(t, refused_before_the_earlier_is_answered);
	tcase_add_test(t, refused_with_all_that_came_before);
	tcase_add_test(t, many_that_come_and_go);
	tcase_add_test(t, beside_a_subscription);
	tcase_add_test(t, too_big_beside_a_subscription);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
