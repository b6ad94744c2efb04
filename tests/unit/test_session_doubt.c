/* SPDX-License-Identifier: MIT */
/* session: what happens when the network has changed or the machine slept: nobody waits for the next
 * heartbeat, or for the end of a delay that belongs to another network. */
#include "test_session_util.h"

/* What works is only asked. */
START_TEST(test_answered)
{
	go_online();
	now += 3000;
	session_poke(s);
	ck_assert_uint_le(session_deadline(s), now);
	run_until(now);
	check_log("heartbeat ");
	/* The same burst of news asks once. */
	session_poke(s);
	run_until(now);
	check_log("");
	answer_heartbeat();
	run_until(now + 20000);
	check_log("");
	/* The interval runs on from there. */
	run_until(heartbeat_at + HEARTBEAT + JITTER);
	check_log("heartbeat ");
}
END_TEST

START_TEST(test_dead)
{
	uint64_t begin;

	go_online();
	now += 3000;
	begin = now;
	session_poke(s);
	run_until(begin + 4999);
	check_log("heartbeat ");
	/* What comes is no answer: it may have been on its way before. */
	frame("[null,null,\"t\",\"e\",{}]");
	check_log("message:e ");
	run_until(begin + 5000);
	check_log("close1000 offline [backoff] ");
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
}
END_TEST

/* One that is on its way already says nothing of now: it may have left before. */
START_TEST(test_after_a_heartbeat)
{
	uint64_t first;

	go_online();
	run_until(now + HEARTBEAT + JITTER);
	check_log("heartbeat ");
	first = heartbeat_ref;
	session_poke(s);
	run_until(now);
	check_log("heartbeat ");
	reply(first, "phoenix", "ok");
	run_until(heartbeat_at + 5000);
	check_log("close1000 offline [backoff] ");
}
END_TEST

/* The server stands still while it works on a join. */
START_TEST(test_join_excuses)
{
	uint64_t begin, ref;

	go_online();
	begin = now;
	ref = push(1, 15000, true);
	session_poke(s);
	run_until(begin + 9000);
	check_log("send:1 heartbeat ");
	reply(ref, "t", "ok");
	check_log("ok(1)#1 ");
	/* From there its answer is due. */
	run_until(begin + 13999);
	check_log("[ONLINE stalled] ");
	run_until(begin + 14000);
	check_log("close1000 offline [backoff] ");
}
END_TEST

/* A full mailbox: it is tried again, and what cannot be sent for too long is dead as ever. */
START_TEST(test_busy)
{
	go_online();
	send_result = 1;
	session_poke(s);
	run_until(now + 4000);
	check_log("");
	send_result = 0;
	run_until(now + 600);
	check_log("heartbeat ");
	answer_heartbeat();
	run_until(now + 10000);
	check_log("");
}
END_TEST

/* Another network ends the wait for this one; what the server said holds on every network. */
START_TEST(test_backoff)
{
	static const struct {
		enum session_fault fault;
		bool at_once;
	} cases[] = {
		{ SESSION_FAULT_DNS, true },           { SESSION_FAULT_CONNECT, true },
		{ SESSION_FAULT_TLS, true },           { SESSION_FAULT_HANDSHAKE, true },
		{ SESSION_FAULT_NOT_WEBSOCKET, true }, { SESSION_FAULT_LOST, true },
		{ SESSION_FAULT_HEARTBEAT, true },     { SESSION_FAULT_SLEPT, true },
		{ SESSION_FAULT_AUTH, false },         { SESSION_FAULT_FORBIDDEN, false },
		{ SESSION_FAULT_NOT_FOUND, false },    { SESSION_FAULT_RATE, false },
		{ SESSION_FAULT_SERVER, false },       { SESSION_FAULT_OVERLOAD, false },
		{ SESSION_FAULT_CONFIG, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		session_free(s);
		setup();
		session_start(s);
		for (unsigned n = 0; n < 8; n++) {
			run_until(now + 2000000);
			closed(cases[i].fault);
		}
		recorded[0] = 0;
		ck_assert_int_ge(status().next_try_ms, 1);
		/* Not twice within the shortest delay, whatever the network does. */
		session_poke(s);
		ck_assert_int_eq(status().next_try_ms <= 1000, cases[i].at_once);
		run_until(now + 1000);
		ck_assert_int_eq(session_get_state(s) == SESSION_CONNECTING, cases[i].at_once);
	}
}
END_TEST

/* A network that flaps does not make a storm: the next delay is a delay again. */
START_TEST(test_flapping)
{
	uint64_t begin = now, first_epoch;

	session_start(s);
	first_epoch = epoch;
	while (now - begin < 600000) {
		closed(SESSION_FAULT_CONNECT);
		for (unsigned i = 0; i < 5; i++) {
			session_poke(s);
			run_until(now + 300);
		}
		recorded[0] = 0;
		run_until(now + 500);
	}
	ck_assert_uint_le(epoch - first_epoch, 601);
}
END_TEST

START_TEST(test_elsewhere)
{
	session_poke(s);
	check_log("");
	session_start(s);
	session_poke(s);
	check_log("open1 [connecting] ");
	session_stop(s);
	recorded[0] = 0;
	session_poke(s);
	check_log("");
	closed(SESSION_FAULT_NONE);
	recorded[0] = 0;
	session_poke(s);
	check_log("");
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_answered);
	tcase_add_test(tc, test_dead);
	tcase_add_test(tc, test_after_a_heartbeat);
	tcase_add_test(tc, test_join_excuses);
	tcase_add_test(tc, test_busy);
	tcase_add_test(tc, test_backoff);
	tcase_add_test(tc, test_flapping);
	tcase_add_test(tc, test_elsewhere);
}

int main(void)
{
	return run("session_doubt", add);
}
