/* SPDX-License-Identifier: MIT */
/*
 * What went wrong in other clients of such servers, told as stories about one link. Each names the
 * public report that it comes from.
 */
#include "tests/unit/test_session_util.h"

#include "realtime/reasons.h"

/* For what is asked thousands of times: ck_assert() writes a record for each success. */
#define MUST(condition)                                           \
	do {                                                      \
		if (!(condition))                                 \
			ck_abort_msg("not true: %s", #condition); \
	} while (0)

static void run_to_heartbeat(void)
{
	unsigned n = n_heartbeats;

	while (n_heartbeats == n) {
		MUST(session_deadline(s) <= now + HEARTBEAT + JITTER);
		run_until(session_deadline(s));
	}
}

/* ---- heartbeats ---- */

/* realtime-js#94, realtime-js#133: each message that came put the next heartbeat off, so a busy
 * channel was closed by the server once a minute. */
/* A server that closes for a policy's sake is not knocked at every few seconds for ever; one that does
 * it now and then is nothing of the kind. */
START_TEST(a_policy_that_stays)
{
	session_start(s);
	for (unsigned i = 0; i < 2; i++) {
		session_on_opened(s, epoch);
		closed(SESSION_FAULT_POLICY);
		ck_assert_int_eq(status().fault, SESSION_FAULT_POLICY);
		ck_assert_int_le(status().next_try_ms, 4000);
		run_until(now + 5000);
	}
	session_on_opened(s, epoch);
	closed(SESSION_FAULT_POLICY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_POLICY_AGAIN);
	ck_assert_str_eq(reasons_of_fault(status().fault)->state, "config_error");
	ck_assert_int_ge(status().next_try_ms, 60000);
	/* Another end in between: the count begins anew. */
	run_until(now + 120000);
	session_on_opened(s, epoch);
	closed(SESSION_FAULT_LOST);
	run_until(now + 60000);
	session_on_opened(s, epoch);
	closed(SESSION_FAULT_POLICY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_POLICY);
	/* It lasted: so it does there. */
	run_until(now + 120000);
	session_on_opened(s, epoch);
	for (unsigned i = 0; i < 3; i++) {
		run_until(now + HEARTBEAT + JITTER);
		answer_heartbeat();
	}
	closed(SESSION_FAULT_POLICY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_POLICY);
	recorded[0] = 0;
}
END_TEST

START_TEST(what_comes_puts_no_heartbeat_off)
{
	static const unsigned pauses[] = { 10, 1000, 24000, 29000 };
	uint64_t end = now + 3600000, next, last;

	go_online();
	last = now;
	next = now + pauses[_i];
	while (now < end) {
		unsigned before = n_heartbeats;

		run_until(session_deadline(s) < next ? session_deadline(s) : next);
		if (n_heartbeats > before) {
			MUST(heartbeat_at - last <= HEARTBEAT + JITTER);
			last = heartbeat_at;
			answer_heartbeat();
		}
		if (now == next) {
			frame("[null,null,\"t\",\"e\",{}]");
			next += pauses[_i];
		}
		recorded[0] = 0;
	}
	ck_assert_uint_le(now - last, HEARTBEAT + JITTER);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
}
END_TEST

/* The other half of it: what comes says nothing about what gets through, so an answer that is
 * missing is noticed in the midst of it. */
START_TEST(what_comes_is_no_answer)
{
	go_online();
	run_to_heartbeat();
	for (unsigned i = 0; i < REPLY / 10 - 1; i++) {
		run_until(now + 10);
		frame("[null,null,\"t\",\"e\",{}]");
		push(1, 0, false);
		recorded[0] = 0;
	}
	run_until(heartbeat_at + REPLY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
}
END_TEST

static void come_back(enum session_fault fault)
{
	if (fault != SESSION_FAULT_HEARTBEAT)
		closed(fault);
	while (session_get_state(s) == SESSION_BACKOFF)
		run_until(session_deadline(s));
	session_on_opened(s, epoch);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	recorded[0] = 0;
}

/* supabase-js#2625: a heartbeat without an answer outlived its connection and closed the next one,
 * healthy as that was, in place of its first heartbeat. */
START_TEST(heartbeat_of_the_connection_before)
{
	uint64_t lost_at;

	go_online();
	run_to_heartbeat();
	lost_at = heartbeat_at;
	now += 5000;
	come_back(SESSION_FAULT_LOST);
	ck_assert_uint_lt(now, lost_at + REPLY);
	run_until(lost_at + REPLY + 5000); /* when that one would have been late */
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	for (unsigned i = 0; i < 10; i++) {
		run_to_heartbeat();
		answer_heartbeat();
		ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
	}
}
END_TEST

/* ... nor does an answer to it count for one of the next connection. */
START_TEST(answer_of_the_connection_before)
{
	uint64_t old_epoch, old_ref;
	char answer[128];

	go_online();
	push(1, 0, false); /* so that the refs of the heartbeats differ */
	run_to_heartbeat();
	old_epoch = epoch;
	old_ref = heartbeat_ref;
	come_back(SESSION_FAULT_LOST);
	run_to_heartbeat();
	ck_assert_uint_ne(heartbeat_ref, old_ref);
	snprintf(answer, sizeof(answer),
		 "[null,\"%d\",\"phoenix\",\"phx_reply\",{\"status\":\"ok\",\"response\":{}}]",
		 (int)heartbeat_ref);
	session_on_frame(s, old_epoch, false, answer, strlen(answer));
	reply(old_ref, "phoenix", "ok");
	ck_assert_int_eq(status().rtt_ms, -1);
	run_until(heartbeat_at + REPLY);
	ck_assert_int_eq(status().fault, SESSION_FAULT_HEARTBEAT);
}
END_TEST

/* ---- ends ---- */

/* realtime-py#236: still "connected" after the connection had broken. */
START_TEST(an_end_shows_at_once)
{
	struct session_push p = { .ref = 1, .timeout_ms = 100, .fn = fake_reply };

	go_online();
	closed(SESSION_FAULT_LOST);
	check_log("offline [backoff] ");
	ck_assert_int_eq(session_push(s, &p, "x", 1), -ENOTCONN);
	ck_assert_int_ge(status().next_try_ms, 0);
}
END_TEST

/* realtime-py#311: a close with 1000 was taken for our own, and nothing came after it. */
START_TEST(every_close_is_followed_by_an_attempt)
{
	static const uint16_t some[] = { 0, 3000, 3999, 4000, 4999, 65535 };
	unsigned code = (unsigned)_i < 1016 ? (unsigned)_i : some[_i - 1016];
	enum session_fault fault = reasons_from_close(code);

	ck_assert_int_ne(fault, SESSION_FAULT_NONE);
	ck_assert_str_eq(reasons_of_fault(fault)->state, "backoff");
	go_online();
	now += 40000;
	closed(fault);
	ck_assert_int_eq(session_get_state(s), SESSION_BACKOFF);
	run_until(now + 11000 + REPLY);
	ck_assert_int_eq(session_get_state(s), SESSION_CONNECTING);
}
END_TEST

/* realtime-py gave up after 5 attempts; supabase-kt#504: one attempt that failed, and no other ever
 * came. */
START_TEST(never_gives_up)
{
	uint64_t first = now, last;

	session_start(s);
	for (unsigned i = 0; i < 10000; i++) {
		last = now;
		open_result = i % 7 == 3 ? -ENOMEM : 0; /* some do not even begin */
		if (session_get_state(s) == SESSION_CONNECTING)
			closed(i % 5 ? SESSION_FAULT_CONNECT : SESSION_FAULT_HANDSHAKE);
		MUST(session_get_state(s) == SESSION_BACKOFF);
		MUST(session_deadline(s) - last <= 61000);
		run_until(session_deadline(s));
		recorded[0] = 0;
	}
	/* Nor does it hurry, in all that time. */
	ck_assert_uint_gt(now - first, 10000ull * 10000);
	open_result = 0;
	while (session_get_state(s) != SESSION_CONNECTING)
		run_until(session_deadline(s));
	session_on_opened(s, epoch);
	ck_assert_int_eq(session_get_state(s), SESSION_ONLINE);
}
END_TEST

/* supabase-js#2596: a token that was dead was tried again every five seconds, for ever. */
START_TEST(a_refused_key_is_tried_seldom)
{
	uint64_t end = now + 24 * 3600000;
	unsigned n = 0;

	session_start(s);
	for (; now < end; n++) {
		closed(SESSION_FAULT_AUTH);
		run_until(session_deadline(s));
		MUST(session_get_state(s) == SESSION_CONNECTING);
		recorded[0] = 0;
	}
	ck_assert_uint_ge(n, 24 * 4 - 8); /* each 15 min at last */
	ck_assert_uint_le(n, 24 * 4 + 8);
}
END_TEST

/* ---- the stack ---- */

static uintptr_t deepest, highest;

static void measure(const char *what, uint64_t n)
{
	char here;
	uintptr_t at = (uintptr_t)&here;

	(void)what;
	(void)n;
	deepest = at < deepest ? at : deepest;
	highest = at > highest ? at : highest;
}

/* supabase-swift#747, #742: each attempt was made from inside the one before, until the stack was
 * full. */
START_TEST(the_stack_does_not_grow)
{
	uintptr_t after_ten = 0;

	on_event = measure;
	deepest = UINTPTR_MAX;
	session_start(s);
	for (unsigned i = 0; i < 10000; i++) {
		open_result = i % 3 ? -ENOMEM : 0;
		if (session_get_state(s) == SESSION_CONNECTING)
			closed(SESSION_FAULT_CONNECT);
		run_until(session_deadline(s));
		recorded[0] = 0;
		if (i == 10)
			after_ten = highest - deepest;
	}
	ck_assert_uint_eq(highest - deepest, after_ten);
}
END_TEST

/* ---- many at once ---- */

enum { DAEMONS = 1000, OUTAGE_S = 600 };

/* Attempts that fail at once, at each second of an outage, of one session. */
static unsigned count_attempts(uint64_t seed, unsigned per_second[OUTAGE_S])
{
	uint64_t begun, at;
	unsigned n = 0;

	session_free(s);
	setup();
	session_free(s);
	conf.seed = seed;
	s = session_new(&conf, &fake_clock, &fake_ops, NULL);
	go_online();
	begun = now;
	closed(SESSION_FAULT_LOST);
	while ((at = session_deadline(s)) < begun + OUTAGE_S * 1000) {
		run_until(at);
		closed(SESSION_FAULT_CONNECT);
		per_second[(at - begun) / 1000]++;
		n++;
		recorded[0] = 0;
	}
	return n;
}

/* phoenix#4045 and others: clients that come back in step keep the server down. After the first
 * few attempts, which are soon so that a short outage is a short gap, they are spread. */
START_TEST(a_thousand_after_an_outage)
{
	static unsigned per_second[OUTAGE_S];
	unsigned n, most = 0, sum = 0;

	for (unsigned i = 0; i < DAEMONS; i++) {
		n = count_attempts(i, per_second);
		most = n > most ? n : most;
		sum += n;
	}
	ck_assert_uint_le(sum / DAEMONS, 45);
	ck_assert_uint_le(most, 45);
	for (unsigned i = 0; i < OUTAGE_S; i++)
		ck_assert_msg(per_second[i] <= (i < 15 ? 2 * DAEMONS : DAEMONS / 10), "%u at %u s",
			      per_second[i], i);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, what_comes_puts_no_heartbeat_off, 0, 4);
	tcase_add_test(tc, a_policy_that_stays);
	tcase_add_test(tc, what_comes_is_no_answer);
	tcase_add_test(tc, heartbeat_of_the_connection_before);
	tcase_add_test(tc, answer_of_the_connection_before);
	tcase_add_test(tc, an_end_shows_at_once);
	tcase_add_loop_test(tc, every_close_is_followed_by_an_attempt, 1000, 1022);
	tcase_add_test(tc, never_gives_up);
	tcase_add_test(tc, a_refused_key_is_tried_seldom);
	tcase_add_test(tc, the_stack_does_not_grow);
	tcase_add_test(tc, a_thousand_after_an_outage);
}

int main(void)
{
	return run("session_bugs", add);
}
