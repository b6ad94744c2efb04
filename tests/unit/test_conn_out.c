/* SPDX-License-Identifier: MIT */
#include "ipc/conn.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn_util.h"
#include "ipc/outq.h"

/* ---- frames out ---- */

/* A packet socket shows what one write took. */
START_TEST(a_turn_is_one_write)
{
	char got[64];

	side_close(&side);
	side_open(&side, SOCK_SEQPACKET, QUEUE_MAX);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(send_text("12345"), 0);
	ck_assert_int_eq(recv(side.client, got, sizeof(got), 0), -1);
	run_turn(loop);
	ck_assert_int_eq(recv(side.client, got, sizeof(got), 0), 25);
	ck_assert_int_eq(recv(side.client, got, sizeof(got), 0), -1);
}
END_TEST

/* Fills the socket, so that what is queued stays queued. Return: the bytes that still wait. */
static size_t fill_socket(void)
{
	static const char big[4 * QUEUE_MAX];
	struct blob *b = blob_new(big, sizeof(big));

	ck_assert_int_eq(conn_send(side.conn, b), 0); /* alone: taken, however large */
	ck_assert_uint_eq(conn_queued_bytes(side.conn), sizeof(big) + OUTQ_ENTRY_COST);
	run_turn(loop);
	ck_assert_uint_gt(conn_queued_bytes(side.conn), QUEUE_MAX);
	blob_unref(b);
	return conn_queued_bytes(side.conn);
}

START_TEST(the_queue_is_bounded_in_bytes_and_count)
{
	static char got[8 * QUEUE_MAX];
	struct blob *tiny = blob_new("x", 1);
	size_t left = fill_socket();

	ck_assert_int_eq(conn_send(side.conn, tiny), CONN_E_FULL);
	ck_assert_uint_eq(tiny->n_refs, 1);
	ck_assert_uint_eq(conn_queued_bytes(side.conn), left);
	/* Read until there is room, then not any more. */
	while (conn_queued_bytes(side.conn) > QUEUE_MAX / 2) {
		ck_assert_uint_gt(client_take(got, 32 * 1024), 0);
		run_turn(loop);
	}
	while (conn_send(side.conn, tiny) == 0)
		;
	ck_assert_uint_le(conn_queued_bytes(side.conn), QUEUE_MAX);
	ck_assert_uint_gt(conn_queued_bytes(side.conn), QUEUE_MAX - 1 - OUTQ_ENTRY_COST);
	ck_assert_int_eq(conn_send(side.conn, tiny), CONN_E_FULL);
	side.conn = conn_free(side.conn);
	ck_assert_uint_eq(tiny->n_refs, 1);
	blob_unref(tiny);
}
END_TEST

/* More than the limit in one turn, to a client that reads all the while. */
START_TEST(a_burst_does_not_hit_who_reads)
{
	static char message[QUEUE_MAX / 20], got[2 * QUEUE_MAX];
	struct blob *b = blob_new(message, sizeof(message));
	size_t n = 0;

	for (unsigned i = 0; i < 100; i++) {
		ck_assert_int_eq(conn_send(side.conn, b), 0);
		n += client_take(got, sizeof(got));
	}
	run_turn(loop);
	n += client_take(got, sizeof(got));
	ck_assert_uint_eq(n, 100 * sizeof(message));
	blob_unref(b);
}
END_TEST

/* Message i of the long test: its number, then as many bytes as follow from it. */
static size_t nth_size(unsigned i)
{
	return i % 1000 == 999 ? 50 * 1000 : 8 + i % 700;
}

START_TEST(ten_thousand_messages_through_a_slow_reader)
{
	static uint8_t got[64 * 1024], body[64 * 1024];
	struct rtbp_reader in;
	const uint8_t *frame;
	unsigned sent = 0, read = 0, n_full = 0;
	struct blob *b = NULL;
	size_t n, size, room;
	uint8_t *at;
	int r;

	rtbp_reader_init(&in, sizeof(body));
	srandom(3);
	while (read < 10000) {
		while (sent < 10000) {
			size = nth_size(sent);
			memset(body, (int)sent & 0xff, size + 4);
			rtbp_put_length(body, size);
			memcpy(body + 4, &sent, sizeof(sent));
			b = blob_new(body, size + 4);
			r = conn_send(side.conn, b);
			blob_unref(b);
			n_full += r == CONN_E_FULL;
			if (r == CONN_E_FULL)
				break;
			ck_assert_int_eq(r, 0);
			sent++;
		}
		run_turn(loop);
		n = client_take(got, 1 + (size_t)random() % sizeof(got));
		at = rtbp_reader_room(&in, n + 1, &room);
		memcpy(at, got, n);
		rtbp_reader_add(&in, n);
		while (rtbp_reader_next(&in, &frame, &size) == RTBP_FRAME_ONE) {
			ck_assert_uint_eq(size, nth_size(read));
			memset(body, (int)read & 0xff, size);
			memcpy(body, &read, sizeof(read));
			ck_assert_mem_eq(frame, body, size);
			read++;
		}
	}
	ck_assert_uint_gt(n_full, 10); /* the reader was slow */
	run_turn(loop);
	ck_assert_uint_eq(conn_queued_bytes(side.conn), 0);
	ck_assert_uint_eq(side.n_closed, 0);
	rtbp_reader_done(&in);
}
END_TEST

/* Queues more than the kernel takes, all of one letter, and runs a turn. */
static size_t half_write(char letter)
{
	static char big[QUEUE_MAX];
	int small = 4096;
	struct blob *b;

	ck_assert_int_eq(setsockopt(side.client, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	for (int i = 0; i < 5; i++) { /* more than the default of 208 KiB in all */
		memset(big, letter, sizeof(big));
		b = blob_new(big, sizeof(big));
		if (conn_send(side.conn, b) == 0)
			run_turn(loop);
		blob_unref(b);
	}
	ck_assert_uint_gt(conn_queued_bytes(side.conn), OUTQ_ENTRY_COST);
	return sizeof(big);
}

/* Reads to the end of the stream. Return: how many bytes; they must be `letter`s and `tail`. */
static size_t client_read_all(char letter, const char *tail)
{
	static char got[4 * QUEUE_MAX];
	size_t n = 0, part, n_tail = strlen(tail);

	for (int i = 0; i < 1000 && side.n_closed == 0; i++) {
		part = client_take(got + n, sizeof(got) - n);
		n += part;
		run_turn(loop);
	}
	n += client_take(got + n, sizeof(got) - n);
	ck_assert(client_sees_end());
	ck_assert_uint_ge(n, n_tail);
	ck_assert_mem_eq(got + n - n_tail, tail, n_tail);
	for (size_t i = 0; i < n - n_tail; i++)
		if (got[i] != letter) /* ck_assert is too slow for every byte */
			ck_abort_msg("byte %zu is %d", i, got[i]);
	return n - n_tail;
}

START_TEST(finish_writes_what_is_queued_first)
{
	size_t size = half_write('a');

	while (conn_queued_bytes(side.conn) > 1000 && send_text("") == 0)
		; /* fills the count too */
	finish("BYE", false);
	ck_assert_int_eq(send_text("x"), CONN_E_CLOSED);
	run_turn(loop);
	ck_assert_uint_eq(side.n_closed, 0);
	ck_assert_uint_eq(client_read_all('a', "BYE") % size, 0);
	expect_end("closed by the bridge");
}
END_TEST

START_TEST(finish_with_drop_keeps_the_half_written_frame_whole)
{
	size_t size = half_write('a'), queued;

	while (send_text("dropped") == 0)
		;
	queued = conn_queued_bytes(side.conn);
	finish("BYE", true);
	ck_assert_uint_lt(conn_queued_bytes(side.conn), queued);
	finish("never a second one", false);
	run_turn(loop);
	ck_assert_uint_eq(client_read_all('a', "BYE") % size, 0);
	expect_end("closed by the bridge");
}
END_TEST

START_TEST(finish_with_drop_before_anything_is_written)
{
	ck_assert_int_eq(send_text("dropped"), 0);
	finish("BYE", true);
	run_turn(loop);
	ck_assert_uint_eq(client_read_all('a', "BYE"), 0);
	expect_end("closed by the bridge");
}
END_TEST

START_TEST(finish_without_farewell_ends_in_this_turn)
{
	finish(NULL, false);
	ck_assert_uint_eq(side.n_closed, 0);
	run_turn(loop);
	expect_end("closed by the bridge");
	ck_assert(client_sees_end());
}
END_TEST

START_TEST(client_that_leaves_during_the_farewell)
{
	half_write('a');
	finish("BYE", false);
	run_turn(loop);
	side_leave(&side);
	run_turn(loop);
	expect_end("closed by the client");
}
END_TEST

/* Both deadlines in one test, because each takes its ten seconds. */
START_TEST(deadlines_end_what_hangs)
{
	struct side half;

	half_write('a');
	finish("BYE", false);
	side_open(&half, SOCK_STREAM, QUEUE_MAX);
	ck_assert_int_eq(send(half.client, "\0\0\0\5hal", 7, 0), 7);
	side.stop_when_closed = half.stop_when_closed = true;
	while (side.n_closed == 0 || half.n_closed == 0)
		run_until_stopped(loop, "the deadlines");
	ck_assert_str_eq(half.end, "the client left half a frame");
	expect_end("the client did not read its farewell in time");
	side_close(&half);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conn_out");
	TCase *c = tcase_create("conn");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_turn_is_one_write);
	tcase_add_test(c, the_queue_is_bounded_in_bytes_and_count);
	tcase_add_test(c, a_burst_does_not_hit_who_reads);
	tcase_add_test(c, ten_thousand_messages_through_a_slow_reader);
	tcase_add_test(c, finish_writes_what_is_queued_first);
	tcase_add_test(c, finish_with_drop_keeps_the_half_written_frame_whole);
	tcase_add_test(c, finish_with_drop_before_anything_is_written);
	tcase_add_test(c, finish_without_farewell_ends_in_this_turn);
	tcase_add_test(c, client_that_leaves_during_the_farewell);
	tcase_add_test(c, deadlines_end_what_hangs);
	suite_add_tcase(s, c);
	return suite_run(s);
}
