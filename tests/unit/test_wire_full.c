/* SPDX-License-Identifier: MIT */
/* What waits, in either direction: bounded, and told. */
#include "wire_raw.h"

START_TEST(test_down_full_is_busy)
{
	static char big[1 << 20];
	struct wire_stats stats;
	struct rig rig;
	int r = 0, n = 0;

	rig_init(&rig);
	rig.conf.down_bytes = 4 << 20;
	rig_start(&rig);
	raw_open(&rig, 0, "/deaf");
	rig_until(&rig, rig.recs[0].n_opened == 1);
	/* The kernel and libwebsockets take some; the rest fills the mailbox. */
	while (r == 0 && n++ < 100)
		r = wire_send(rig.w, 0, rig.recs[0].epoch, true, big, sizeof(big));
	ck_assert_int_eq(r, WIRE_E_BUSY);
	wire_get_stats(rig.w, &stats);
	ck_assert_uint_le(stats.down_queued, 5 << 20);
	wire_close(rig.w, 0, rig.recs[0].epoch, 1000);
	rig_until_closed(&rig, 0);
	expect_works(&rig);
	rig_stop(&rig);
}
END_TEST

/* What a peer that reads nothing leaves lying: the link's part, and what the kernel took of it. */
START_TEST(test_link_full_is_busy)
{
	enum { LINK = 128 * 1024, PIECE = 8000, HEARTBEAT = 100 };
	static char big[1 << 20];
	struct wire_stats before, stats;
	struct rig rig;
	int n_small = 0;

	rig_init(&rig);
	rig.conf.link_bytes = LINK;
	rig_start(&rig);
	for (unsigned i = 0; i < 2; i++) {
		raw_open(&rig, i, i == 0 ? "/deaf" : "/echo");
		rig_until(&rig, rig.recs[i].n_opened == 1);
	}
	/* Until nobody takes more. */
	do {
		wire_get_stats(rig.w, &before);
		for (int64_t end = rig_now_ms() + 200; rig_now_ms() < end; poll(NULL, 0, 10)) {
			while (wire_send(rig.w, 0, rig.recs[0].epoch, true, big, PIECE) == 0)
				;
		}
		wire_get_stats(rig.w, &stats);
	} while (stats.bytes_out > before.bytes_out);
	ck_assert_uint_le(stats.down_queued, LINK + 2 * PIECE);
	/* A heartbeat finds room all the same, though not for ever. */
	while (wire_send(rig.w, 0, rig.recs[0].epoch, false, big, HEARTBEAT) == 0)
		ck_assert_int_lt(n_small++, LINK / HEARTBEAT);
	ck_assert_int_gt(n_small, 10);
	/* Another link has its own part, and one message goes whatever its size. */
	ck_assert_int_eq(wire_send(rig.w, 1, rig.recs[1].epoch, true, big, sizeof(big)), 0);
	rig_until(&rig, rig.recs[1].n_messages > 0);
	wire_close(rig.w, 0, rig.recs[0].epoch, 1000);
	rig_until_closed(&rig, 0);
	/* What was dropped with it counts no more. */
	raw_open(&rig, 0, "/echo");
	rig_until(&rig, rig.recs[0].n_opened == 1);
	for (unsigned i = 0; i < LINK / PIECE; i++)
		ck_assert_int_eq(wire_send(rig.w, 0, rig.recs[0].epoch, true, big, PIECE), 0);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_up_full_pauses)
{
	enum { N = 300 };
	struct wire_stats stats = { 0 };
	struct rig rig;

	rig_init(&rig);
	rig.conf.up_bytes = 100000;
	rig_start(&rig);
	raw_open(&rig, 0, "/stream-300");
	rig_until(&rig, rig.recs[0].n_opened == 1);
	/* Not dispatched: W runs into the full mailbox. */
	for (int64_t end = rig_now_ms() + WIRE_DEADLINE_MS; stats.pauses == 0;) {
		ck_assert_int_lt(rig_now_ms(), end);
		poll(NULL, 0, 1);
		wire_get_stats(rig.w, &stats);
	}
	ck_assert_uint_le(stats.up_queued, 100000);
	rig_until(&rig, rig.recs[0].n_messages == N);
	ck_assert_uint_eq(rig.recs[0].n_bytes, N * 10004);
	ck_assert_int_eq(rig.recs[0].n_closed, 0);
	/* Paused and resumed: still alive both ways. */
	send_something(&rig, 0);
	rig_until(&rig, rig.recs[0].n_messages == N + 1);
	rig_stop(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_full");
	TCase *t = tcase_create("full");

	tcase_add_unchecked_fixture(t, start_server, stop_server);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_down_full_is_busy);
	tcase_add_test(t, test_link_full_is_busy);
	tcase_add_test(t, test_up_full_pauses);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
