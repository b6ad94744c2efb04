/* SPDX-License-Identifier: MIT */
/* Heartbeats and probes of one link: daemon/realtime/session.h. */
#include "tests/unit/test_session_util.h"

static uint64_t opened_at;

static void online(void)
{
	go_online();
	opened_at = now;
}

static void run_to_heartbeat(void)
{
	unsigned n = n_heartbeats;

	while (n_heartbeats == n) {
		ck_assert_uint_le(session_deadline(s), now + HEARTBEAT + JITTER);
		run_until(session_deadline(s));
	}
}

START_TEST(test_interval)
{
	uint64_t last, least = UINT64_MAX, most = 0;

	online();
	last = now;
	for (int i = 0; i < 500; i++) {
		run_to_heartbeat();
		ck_assert_uint_ge(now - last, HEARTBEAT - JITTER);
		ck_assert_uint_le(now - last, HEARTBEAT + JITTER);
		least = now - last < least ? now - last : least;
		most = now - last > most ? now - last : most;
		last = now;
		answer_heartbeat();
	}
	/* Spread over the whole range. */
	ck_assert_uint_lt(least, HEARTBEAT - JITTER + 100);
	ck_assert_uint_gt(most, HEARTBEAT + JITTER - 100);
}
END_TEST

/* Neither what we send nor what we receive puts a heartbeat off. */
START_TEST(test_constant_traffic)
{
	unsigned answered = 0;

	online();
	while (now < opened_at + 600000) {
		run_until(now + 50);
		if (session_get_state(s) != SESSION_ONLINE)
			break;
		frame("[null,null,\"t\",\"e\",{}]");
		push(1, 0, false);
		if (n_heartbeats > answered) {
			answered = n_heartbeats;
			answer_heartbeat();
		}
		recorded[0] = 0;
	}
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	ck_assert_uint_ge(n_heartbeats, 600000 / (HEARTBEAT + JITTER));
}
END_TEST

START_TEST(test_no_answer)
{
	online();
	push(1, 60000, false);
	run_to_heartbeat();
	recorded[0] = 0;
	for (int i = 0; i < 99; i++) { /* data that flows is no answer */
		run_until(now + 100);
		frame("[null,null,\"t\",\"e\",{}]");
	}
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	recorded[0] = 0;
	run_until(heartbeat_at + REPLY - 1);
	check_log("");
	run_until(heartbeat_at + REPLY);
	check_log("close1000 lost(1)#1 offline [backoff] ");
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
	ck_assert_uint_eq(session_deadline(s), UINT64_MAX);
	answer_heartbeat(); /* too late */
	closed(SESSION_FAULT_LOST);
	check_log("");
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
	run_until(now + 1000);
	check_log("open2 [connecting] ");
}
END_TEST

START_TEST(test_late_answer)
{
	online();
	run_to_heartbeat();
	run_until(heartbeat_at + REPLY - 1);
	answer_heartbeat();
	ck_assert_int_eq(status().rtt_ms, REPLY - 1);
	run_until(heartbeat_at + REPLY + 1);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	answer_heartbeat(); /* a second answer */
	reply(heartbeat_ref + 1, "phoenix", "ok");
	run_to_heartbeat();
	ck_assert_int_eq(status().rtt_ms, REPLY - 1);
	now += 20;
	answer_heartbeat();
	ck_assert_int_eq(status().rtt_ms, 20);
}
END_TEST

/* ---- joins hold everything up ---- */

START_TEST(test_joins_extend)
{
	online();
	run_to_heartbeat();
	push(1, 200000, true);
	recorded[0] = 0;
	run_until(heartbeat_at + REPLY - 1);
	check_log("");
	run_until(heartbeat_at + REPLY);
	check_log("[ONLINE stalled] ");
	ck_assert(status().stalled);
	n_heartbeats = 0;
	run_until(opened_at + 2 * HEARTBEAT + 2 * JITTER);
	ck_assert_uint_eq(n_heartbeats, 1); /* the interval goes on meanwhile */
	recorded[0] = 0;
	/* The heartbeats' answers stand behind the join's. */
	reply(2, "t", "ok");
	check_log("ok(1)#2 ");
	reply(heartbeat_ref, "phoenix", "ok");
	check_log("[ONLINE] ");
	ck_assert(!status().stalled);
	run_until(now + REPLY);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
}
END_TEST

/* Returns how long after its heartbeat the link was given up. */
static uint64_t time_to_end(unsigned n_joins, uint64_t last_frame_ms)
{
	uint64_t at;

	online();
	for (unsigned i = 0; i < n_joins; i++)
		push(i, 300000, true);
	run_to_heartbeat();
	at = heartbeat_at;
	if (last_frame_ms) {
		run_until(at + last_frame_ms);
		frame("[null,null,\"t\",\"e\",{}]");
	}
	while (session_get_state(s) == SESSION_ONLINE)
		run_until(session_deadline(s));
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
	return now - at;
}

static const struct {
	unsigned n_joins;
	uint64_t last_frame_ms, end_ms;
} limits[] = {
	{ 0, 5000, 10000 },  { 1, 0, 40000 },      { 1, 24000, 40000 }, { 1, 30000, 45000 },
	{ 4, 30000, 60000 }, { 10, 39000, 90000 }, { 50, 1000, 90000 },
};

START_TEST(test_join_limit)
{
	ck_assert_uint_eq(time_to_end(limits[_i].n_joins, limits[_i].last_frame_ms),
			  limits[_i].end_ms);
}
END_TEST

/* The last join is answered after the plain limit: the heartbeat has its time from there. */
START_TEST(test_join_done)
{
	uint64_t ref, sent;

	online();
	run_to_heartbeat();
	sent = heartbeat_at;
	ref = push(1, 15000, true);
	run_until(sent + 20000); /* for its owner it timed out; the server is still at it */
	ck_assert_ptr_nonnull(strstr(recorded, "timeout(1)#2"));
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	reply(ref, "t", "error");
	run_until(sent + 20000 + REPLY - 1);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	run_until(sent + 20000 + REPLY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
}
END_TEST

/* A join that the server never answers excuses nothing once a later heartbeat is answered. */
START_TEST(test_join_never_answered)
{
	online();
	push(1, 5000, true);
	run_to_heartbeat();
	answer_heartbeat();
	run_to_heartbeat();
	run_until(heartbeat_at + REPLY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
}
END_TEST

/* ---- the way out is full ---- */

START_TEST(test_mailbox_full)
{
	uint64_t due;

	online();
	send_result = 1;
	due = session_deadline(s);
	run_until(due + 2000);
	ck_assert_uint_eq(n_heartbeats, 0);
	send_result = 0;
	run_until(due + 2500);
	ck_assert_uint_eq(n_heartbeats, 1);
	answer_heartbeat();
	send_result = 1;
	due = session_deadline(s);
	run_until(due + REPLY - 1);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	run_until(due + REPLY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
}
END_TEST

START_TEST(test_mailbox_crowded)
{
	uint64_t due;

	online();
	send_result = 1;
	due = session_deadline(s);
	run_until(due + 9000);
	send_result = 0;
	push(1, 0, false); /* something got through: heartbeats are tried at once */
	ck_assert_uint_le(session_deadline(s), now);
	send_result = 1;
	run_until(due + 18000);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
}
END_TEST

/* ---- probes ---- */

START_TEST(test_probe)
{
	online();
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 901), 0);
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 902), 0);
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 903), 0);
	check_log("heartbeat ");
	now += 7;
	answer_heartbeat(); /* those who asked later wait for a later one */
	check_log("ok(901)#1 heartbeat ");
	answer_heartbeat();
	check_log("ok(902)#2 ok(903)#2 ");
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 904), 0);
	push(5, 1000, false);
	check_log("heartbeat send:5 ");
	closed(SESSION_FAULT_LOST);
	check_log("lost(5)#4 lost(904)#3 offline [backoff] ");
}
END_TEST

static void probe_again(const char *what, uint64_t n)
{
	if (strcmp(what, "reply") == 0 && n == 901)
		ck_assert_int_eq(session_probe(s, fake_reply, NULL, 905), 0);
}

START_TEST(test_probe_from_callback)
{
	online();
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 901), 0);
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 902), 0);
	on_event = probe_again;
	recorded[0] = 0;
	answer_heartbeat();
	check_log("ok(901)#1 heartbeat ");
	answer_heartbeat();
	check_log("ok(902)#2 ok(905)#2 ");
}
END_TEST

static void stop_on_reply(const char *what, uint64_t n)
{
	if (strcmp(what, "reply") == 0 && n == 901)
		session_stop(s);
}

START_TEST(test_stop_from_probe)
{
	online();
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 901), 0);
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 902), 0);
	on_event = stop_on_reply;
	answer_heartbeat();
	check_log("heartbeat ok(901)#1 close1000 [draining] ");
	closed(SESSION_FAULT_LOST);
	check_log("lost(902)#0 offline [idle] ");
}
END_TEST

START_TEST(test_probe_behind_full_mailbox)
{
	online();
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 901), 0);
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 902), 0);
	send_result = 1;
	answer_heartbeat();
	check_log("heartbeat ok(901)#1 ");
	send_result = 0;
	run_until(now + 500);
	check_log("heartbeat ");
	answer_heartbeat();
	check_log("ok(902)#3 ");
}
END_TEST

static void reconnect_on_stall(const char *what, uint64_t n)
{
	(void)n;
	if (strcmp(what, "changed") == 0 && status().stalled)
		session_reconnect(s, SESSION_FAULT_HEARTBEAT, "not with us");
}

START_TEST(test_reconnect_from_stall)
{
	online();
	run_to_heartbeat();
	push(1, 60000, true);
	recorded[0] = 0;
	on_event = reconnect_on_stall;
	run_until(heartbeat_at + REPLY);
	check_log("[ONLINE stalled] close1000 lost(1)#2 offline [backoff] ");
}
END_TEST

/* A probe is a heartbeat: it must be answered in time, and it counts as one. */
START_TEST(test_probe_dead)
{
	online();
	ck_assert_int_eq(session_probe(s, fake_reply, NULL, 901), 0);
	run_until(now + REPLY);
	check_log("heartbeat close1000 lost(901)#1 offline [backoff] ");
}
END_TEST

/* ---- what counts as stable ---- */

/* The ceiling of the next delay, found by asking often. */
static int64_t longest_delay(unsigned stay_ms, bool answer)
{
	int64_t most = 0;

	for (unsigned i = 0; i < 40; i++) {
		session_free(s);
		setup();
		conf.seed = i;
		session_free(s);
		s = session_new(&conf, &fake_clock, &fake_ops, NULL);
		session_start(s);
		for (unsigned n = 0; n < 5; n++) { /* a series of failures */
			closed(SESSION_FAULT_CONNECT);
			while (session_get_state(s) == SESSION_BACKOFF)
				run_until(session_deadline(s));
		}
		session_on_opened(s, epoch);
		for (uint64_t until = now + stay_ms; now < until;) {
			run_until(session_deadline(s) < until ? session_deadline(s) : until);
			if (answer && heartbeat_at == now)
				answer_heartbeat();
		}
		ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
		closed(SESSION_FAULT_LOST);
		most = status().next_try_ms > most ? status().next_try_ms : most;
	}
	return most;
}

START_TEST(test_stable)
{
	ck_assert_int_le(longest_delay(31000, true), 1000);
	ck_assert_int_gt(longest_delay(29000, true), 20000);
	ck_assert_int_gt(longest_delay(31000, false), 20000);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_interval);
	tcase_add_test(tc, test_constant_traffic);
	tcase_add_test(tc, test_no_answer);
	tcase_add_test(tc, test_late_answer);
	tcase_add_test(tc, test_joins_extend);
	tcase_add_loop_test(tc, test_join_limit, 0, sizeof(limits) / sizeof(*limits));
	tcase_add_test(tc, test_join_done);
	tcase_add_test(tc, test_join_never_answered);
	tcase_add_test(tc, test_mailbox_full);
	tcase_add_test(tc, test_mailbox_crowded);
	tcase_add_test(tc, test_probe);
	tcase_add_test(tc, test_probe_from_callback);
	tcase_add_test(tc, test_stop_from_probe);
	tcase_add_test(tc, test_probe_behind_full_mailbox);
	tcase_add_test(tc, test_reconnect_from_stall);
	tcase_add_test(tc, test_probe_dead);
	tcase_add_test(tc, test_stable);
}

int main(void)
{
	return run("session_beats", add);
}
