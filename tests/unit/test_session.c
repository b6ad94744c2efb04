/* SPDX-License-Identifier: MIT */
/* One link's states, epochs, pushes and delays: daemon/realtime/session.h. */
#include "tests/unit/test_session_util.h"

/* ---- states ---- */

START_TEST(test_life)
{
	ck_assert_int_eq(session_get_state(s), SESSION_IDLE);
	ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
	session_tick(s);
	session_start(s);
	session_start(s);
	check_log("open1 [connecting] ");
	ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
	session_on_opened(s, 1);
	check_log("online [ONLINE] ");
	session_stop(s);
	session_stop(s);
	check_log("close1000 [draining] ");
	closed(SESSION_FAULT_LOST);
	check_log("offline [idle] ");
	ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
	ck_assert_int_eq(status().fault, SESSION_FAULT_NONE);
}
END_TEST

START_TEST(test_backoff_and_status)
{
	struct session_status st;

	go_online();
	st = status();
	ck_assert_int_eq(st.fault, SESSION_FAULT_NONE);
	ck_assert_int_eq(st.next_try_ms, -1);
	ck_assert_int_eq(st.rtt_ms, -1);
	ck_assert_uint_eq(st.epoch, 1);
	ck_assert_int_eq(st.since_wall_ms, 1000000 + (int64_t)now);
	now += 10;
	closed(SESSION_FAULT_LOST);
	check_log("offline [backoff] ");
	st = status();
	ck_assert_int_eq(st.fault, SESSION_FAULT_LOST);
	ck_assert_str_eq(st.text, "it ended");
	ck_assert_int_le(st.next_try_ms, 1000);
	ck_assert_uint_eq(session_deadline(s), now + (uint64_t)st.next_try_ms);
	ck_assert_int_eq(st.since_wall_ms, 1000000 + (int64_t)now);
	run_until(now + 1000);
	check_log("open2 [connecting] ");
	ck_assert_int_eq(status().fault, SESSION_FAULT_LOST);
	ck_assert_uint_eq(status().reconnects, 0);
	ck_assert_int_eq(session_vsn(s), PHX_VSN_2);
	session_on_opened(s, 2);
	st = status();
	ck_assert_uint_eq(st.reconnects, 1);
	ck_assert_int_eq(st.fault, SESSION_FAULT_NONE);
	ck_assert_str_eq(st.text, "");
}
END_TEST

START_TEST(test_attempt_fails)
{
	session_start(s);
	closed(SESSION_FAULT_DNS);
	check_log("open1 [connecting] [backoff] "); /* it was never online: no offline */
	open_result = -ENOMEM;
	run_until(now + 1000);
	check_log("open2 [backoff] ");
	ck_assert_int_eq(status().fault, SESSION_FAULT_CONNECT);
	open_result = 0;
	run_until(now + 3000);
	check_log("open3 [connecting] ");
}
END_TEST

START_TEST(test_stale_epoch)
{
	struct session_end end = { .fault = SESSION_FAULT_LOST };

	session_start(s);
	session_on_opened(s, 7);
	session_on_closed(s, 7, &end);
	frame("[null,null,\"t\",\"e\",{}]"); /* not open yet */
	check_log("open1 [connecting] ");
	session_on_opened(s, 1);
	closed(SESSION_FAULT_LOST);
	run_until(now + 1000);
	session_on_opened(s, 2);
	recorded[0] = 0;
	session_on_frame(s, 1, false, "[null,null,\"t\",\"e\",{}]", 22);
	session_on_closed(s, 1, &end);
	session_on_opened(s, 2);
	session_on_opened(s, 1);
	check_log("");
	frame("[null,null,\"t\",\"e\",{}]");
	check_log("message:e ");
	closed(SESSION_FAULT_LOST);
	session_on_closed(s, 2, &end);
	check_log("offline [backoff] ");
}
END_TEST

START_TEST(test_stop_anywhere)
{
	session_stop(s);
	check_log("");
	/* while connecting; a late "opened" changes nothing */
	session_start(s);
	session_stop(s);
	check_log("open1 [connecting] close1000 [draining] ");
	session_on_opened(s, 1);
	frame("[null,null,\"t\",\"e\",{}]");
	closed(SESSION_FAULT_LOST);
	check_log("[idle] ");
	/* while waiting */
	now += 2000;
	session_start(s);
	closed(SESSION_FAULT_CONNECT);
	session_stop(s);
	check_log("open2 [connecting] [backoff] [idle] ");
	run_until(now + 100000);
	check_log("");
}
END_TEST

START_TEST(test_start_while_draining)
{
	go_online();
	now += 5000;
	session_stop(s);
	session_start(s);
	check_log("close1000 [draining] ");
	closed(SESSION_FAULT_LOST);
	check_log("offline open2 [connecting] ");
	/* and changed its mind again */
	session_stop(s);
	session_start(s);
	session_stop(s);
	closed(SESSION_FAULT_LOST);
	check_log("close1000 [draining] [idle] ");
}
END_TEST

/* A delay is no less because the link was not wanted for a moment. */
START_TEST(test_restart_keeps_delay)
{
	session_start(s);
	closed(SESSION_FAULT_AUTH);
	session_stop(s);
	now += 1000;
	session_start(s);
	check_log("open1 [connecting] [backoff] [idle] [backoff] ");
	ck_assert_int_ge(status().next_try_ms, 59000);
	ck_assert_int_le(status().next_try_ms, 60000);
}
END_TEST

START_TEST(test_reconnect)
{
	session_reconnect(s, SESSION_FAULT_LOST, "not wanted");
	check_log("");
	go_online();
	now += 20000;
	push(1, 5000, false);
	session_reconnect(s, SESSION_FAULT_LOST, "slept\nfor 60 s \xc3\xa4");
	check_log("send:1 close1000 lost(1)#1 offline [backoff] ");
	ck_assert_str_eq(status().text, "slept for 60 s \xc3\xa4");
	/* The next one waits until wire has closed the old one. */
	ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
	frame("[null,null,\"t\",\"e\",{}]");
	session_tick(s);
	check_log("");
	closed(SESSION_FAULT_LOST);
	ck_assert_uint_le(session_deadline(s), now);
	session_tick(s);
	check_log("open2 [connecting] ");
	/* Again at once: not within a second of the last one. */
	session_reconnect(s, SESSION_FAULT_LOST, "again \xff\x7f");
	ck_assert_str_eq(status().text, "again ??");
	closed(SESSION_FAULT_LOST);
	check_log("close1000 [backoff] ");
	ck_assert_int_eq(status().next_try_ms, 1000);
	/* In a long wait. */
	run_until(now + 1000);
	closed(SESSION_FAULT_AUTH);
	now += 2000;
	session_reconnect(s, SESSION_FAULT_NONE, "new key");
	check_log("open3 [connecting] [backoff] open4 [connecting] ");
	/* An attempt that was not waited for is followed by one that is. */
	closed(SESSION_FAULT_LOST);
	ck_assert_int_ge(status().next_try_ms, 500);
}
END_TEST

START_TEST(test_stop_while_given_up)
{
	go_online();
	now += 20000;
	session_reconnect(s, SESSION_FAULT_LOST, NULL);
	session_stop(s);
	check_log("close1000 offline [backoff] [draining] ");
	session_reconnect(s, SESSION_FAULT_LOST, NULL);
	closed(SESSION_FAULT_LOST);
	check_log("[idle] ");
	session_start(s);
	check_log("open2 [connecting] ");
}
END_TEST

START_TEST(test_epoch_base)
{
	session_free(s);
	conf.epoch_base = 41;
	s = session_new(&conf, &fake_clock, &fake_ops, NULL);
	session_start(s);
	check_log("open42 [connecting] ");
}
END_TEST

/* ---- pushes and replies ---- */

START_TEST(test_pushes)
{
	struct session_push p = { .ref = 9, .timeout_ms = 100, .fn = fake_reply };
	uint64_t a, b;

	ck_assert_int_eq(session_push(s, &p, "x", 1), -ENOTCONN);
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 1), -ENOTCONN);
	go_online();
	ck_assert_uint_eq(push(1, 1000, false), 1);
	ck_assert_uint_eq(push(2, 0, false), 2);
	ck_assert_uint_eq(push(3, 2000, false), 3);
	ck_assert_uint_eq(session_next_ref(s), 4);
	check_log("send:1 send:2 send:3 ");
	reply(3, "t", "error");
	reply(3, "t", "ok");  /* twice */
	reply(2, "t", "ok");  /* none was expected */
	reply(77, "t", "ok"); /* unknown */
	frame("[null,\"x\",\"t\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]");
	frame("[null,null,\"t\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]");
	reply(1, "t", "ok");
	check_log("error(3)#3 ok(1)#1 ");

	/* The frame is made after the ref was taken: order may differ a little. */
	a = session_next_ref(s);
	b = session_next_ref(s);
	p.ref = b;
	p.cookie = 5;
	ck_assert_int_eq(session_push(s, &p, "b", 1), 0);
	p.ref = a;
	p.cookie = 6;
	p.binary = true;
	ck_assert_int_eq(session_push(s, &p, "a", 1), 0);
	check_log("send:b send-binary:a ");
	closed(SESSION_FAULT_LOST);
	check_log("lost(6)#5 lost(5)#6 offline [backoff] ");
}
END_TEST

START_TEST(test_push_timeout)
{
	go_online();
	push(1, 1000, false);
	push(2, 500, false);
	push(3, 500, true);
	push(4, 3000, false);
	recorded[0] = 0;
	ck_assert_uint_eq(session_deadline(s), now + 500);
	run_until(now + 499);
	check_log("");
	run_until(now + 1);
	check_log("timeout(2)#2 timeout(3)#3 ");
	ck_assert_uint_eq(session_deadline(s), now + 500);
	reply(2, "t", "ok"); /* late */
	reply(3, "t", "ok");
	check_log("");
	run_until(now + 500);
	check_log("timeout(1)#1 ");
	closed(SESSION_FAULT_LOST);
	check_log("lost(4)#4 offline [backoff] ");
}
END_TEST

START_TEST(test_push_busy)
{
	struct session_push p = { .timeout_ms = 100, .fn = fake_reply };

	go_online();
	p.ref = session_next_ref(s);
	send_result = 3;
	ck_assert_int_eq(session_push(s, &p, "x", 1), 3);
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 901), 3);
	send_result = 0;
	run_until(now + 1000);
	check_log("");
	closed(SESSION_FAULT_LOST);
	check_log("offline [backoff] ");
}
END_TEST

/* Thousands that wait, answered in any order: each is answered once. */
START_TEST(test_many_pushes)
{
	enum { N = 5000 };
	struct session_push p = { .timeout_ms = 60000, .fn = fake_reply };
	uint32_t random = 1;

	go_online();
	for (unsigned i = 1; i <= N; i++) {
		p.ref = session_next_ref(s);
		p.cookie = p.ref % 800;
		ck_assert_int_eq(session_push(s, &p, "x", 1), 0);
		recorded[0] = 0;
		random = random * 1103515245 + 12345;
		if (random >> 30)
			reply(1 + (random >> 8) % i, "t", "ok");
		recorded[0] = 0;
	}
	for (unsigned i = 1; i <= N; i++) {
		char want[64];

		reply(i, "t", "ok");
		snprintf(want, sizeof(want), "ok(%u)#%u ", i % 800, i);
		if (recorded[0])
			check_log(want);
		reply(i, "t", "ok");
		check_log("");
	}
	closed(SESSION_FAULT_LOST);
	check_log("offline [backoff] ");
}
END_TEST

/* A window that moves on, as a steady sender makes it. */
START_TEST(test_steady_pushes)
{
	enum { WINDOW = 20, N = 2000 };

	go_online();
	for (unsigned i = 1; i <= N; i++) {
		char want[64];

		push(i % 800, 60000, i % 3 == 0);
		recorded[0] = 0;
		if (i <= WINDOW)
			continue;
		reply(i - WINDOW, "t", "ok");
		snprintf(want, sizeof(want), "ok(%u)#%u ", (i - WINDOW) % 800, i - WINDOW);
		check_log(want);
	}
}
END_TEST

/* ---- frames ---- */

START_TEST(test_messages)
{
	go_online();
	frame("[\"1\",null,\"realtime:a\",\"presence_state\",{}]");
	frame("[null,null,\"realtime:a\",\"broadcast\",{\"event\":\"e\",\"payload\":1}]");
	session_on_frame(s, epoch, true, "\x04\x01\x01\x00\x01te1", 8);
	session_on_frame(s, epoch, true, "\x09x", 2); /* carries nothing */
	check_log("message:presence_state message:broadcast message:broadcast ");
	ck_assert_uint_eq(status().malformed, 0);
	frame("nonsense");
	check_log("");
	ck_assert_uint_eq(status().malformed, 1);
	/* While we close, what comes still counts. */
	push(1, 1000, false);
	session_stop(s);
	recorded[0] = 0;
	frame("[null,null,\"realtime:a\",\"broadcast\",{\"event\":\"e\",\"payload\":1}]");
	reply(1, "t", "ok");
	check_log("message:broadcast ok(1)#1 ");
}
END_TEST

START_TEST(test_nonsense)
{
	go_online();
	for (int i = 0; i < 20; i++) {
		frame("nonsense");
		now += 100;
	}
	now += 58000; /* 60 s after the first one */
	for (int i = 0; i < 20; i++) {
		frame("nonsense");
		now += 100;
	}
	check_log("");
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	frame("nonsense");
	check_log("close1002 offline [backoff] ");
	ck_assert_int_eq(status().fault, SESSION_FAULT_PROTOCOL);
	ck_assert_ptr_nonnull(strstr(status().text, "malformed"));
	ck_assert_uint_eq(status().malformed, 41);
	/* The next connection starts with a clean sheet. */
	closed(SESSION_FAULT_LOST);
	run_until(now + 1000);
	session_on_opened(s, epoch);
	frame("nonsense");
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
}
END_TEST

/* ---- callbacks that act ---- */

static void push_again(const char *what, uint64_t n)
{
	struct session_push p = { .timeout_ms = 1000, .fn = fake_reply, .cookie = n + 10 };

	if (strcmp(what, "reply") != 0 || n > 30)
		return;
	p.ref = session_next_ref(s);
	record("{%d} ", session_push(s, &p, "again", 5));
}

START_TEST(test_push_from_reply)
{
	go_online();
	push(1, 1000, false);
	recorded[0] = 0;
	on_event = push_again;
	reply(1, "t", "ok");
	check_log("ok(1)#1 send:again {0} ");
	run_until(now + 1000);
	check_log("timeout(11)#2 send:again {0} ");
	closed(SESSION_FAULT_LOST);
	ck_assert_int_eq(-ENOTCONN, -107);
	check_log("lost(21)#3 {-107} offline [backoff] ");
}
END_TEST

static void stop_on_reply(const char *what, uint64_t n)
{
	(void)n;
	if (strcmp(what, "reply") == 0)
		session_stop(s);
}

START_TEST(test_stop_from_callback)
{
	go_online();
	push(1, 1000, false);
	push(2, 1000, false);
	recorded[0] = 0;
	on_event = stop_on_reply;
	run_until(now + 1000);
	check_log("timeout(1)#1 close1000 [draining] timeout(2)#2 ");
	closed(SESSION_FAULT_LOST);
	check_log("offline [idle] ");

	/* from inside the end of an epoch */
	now += 2000;
	go_online();
	push(1, 1000, false);
	push(2, 1000, false);
	recorded[0] = 0;
	closed(SESSION_FAULT_LOST);
	check_log("lost(1)#1 [idle] lost(2)#2 offline [idle] ");
	ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
}
END_TEST

static void reconnect_on_reply(const char *what, uint64_t n)
{
	if (strcmp(what, "reply") == 0 && n == 1)
		session_reconnect(s, SESSION_FAULT_LOST, "from a callback");
}

START_TEST(test_reconnect_from_callback)
{
	go_online();
	now += 5000;
	push(1, 1000, false);
	push(2, 1000, false);
	push(3, 500, false);
	recorded[0] = 0;
	on_event = reconnect_on_reply;
	run_until(now + 1000); /* in the middle of the list that is due */
	check_log("timeout(3)#3 timeout(1)#1 close1000 lost(2)#2 offline [backoff] ");
	closed(SESSION_FAULT_LOST);
	session_tick(s);
	session_on_opened(s, epoch);
	now += 5000;
	push(1, 1000, false);
	push(2, 1000, false);
	recorded[0] = 0;
	closed(SESSION_FAULT_LOST); /* while the end is being told */
	check_log("lost(1)#1 open3 [connecting] lost(2)#2 offline [connecting] ");
	session_on_opened(s, epoch);
	check_log("online [ONLINE] ");
}
END_TEST

static void restart_on_offline(const char *what, uint64_t n)
{
	(void)n;
	if (strcmp(what, "offline") == 0 && session_get_state(s) == SESSION_IDLE) {
		on_event = NULL;
		session_start(s);
	}
}

START_TEST(test_start_from_offline)
{
	go_online();
	now += 5000;
	on_event = restart_on_offline;
	session_stop(s);
	closed(SESSION_FAULT_LOST);
	check_log("close1000 [draining] offline open2 [connecting] [connecting] ");
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_life);
	tcase_add_test(tc, test_backoff_and_status);
	tcase_add_test(tc, test_attempt_fails);
	tcase_add_test(tc, test_stale_epoch);
	tcase_add_test(tc, test_stop_anywhere);
	tcase_add_test(tc, test_start_while_draining);
	tcase_add_test(tc, test_restart_keeps_delay);
	tcase_add_test(tc, test_reconnect);
	tcase_add_test(tc, test_stop_while_given_up);
	tcase_add_test(tc, test_epoch_base);
	tcase_add_test(tc, test_pushes);
	tcase_add_test(tc, test_push_timeout);
	tcase_add_test(tc, test_push_busy);
	tcase_add_test(tc, test_many_pushes);
	tcase_add_test(tc, test_steady_pushes);
	tcase_add_test(tc, test_messages);
	tcase_add_test(tc, test_nonsense);
	tcase_add_test(tc, test_push_from_reply);
	tcase_add_test(tc, test_stop_from_callback);
	tcase_add_test(tc, test_reconnect_from_callback);
	tcase_add_test(tc, test_start_from_offline);
}

int main(void)
{
	return run("session", add);
}
