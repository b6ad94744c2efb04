/* SPDX-License-Identifier: MIT */
#include "ipc/conn.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn_util.h"

/* ---- frames in ---- */

START_TEST(frames_cut_at_every_byte)
{
	static const char stream[] = "\0\0\0\3abc\0\0\0\0\0\0\0\5defgh\0\0\0\1i";
	size_t size = sizeof(stream) - 1;

	for (size_t cut = 0; cut <= size; cut++) {
		rtbp_buf_reset(&side.bodies, 0);
		client_write(stream, cut);
		run_turn(loop);
		client_write(stream + cut, size - cut);
		run_turn(loop);
		expect_bodies("abc||defgh|i|");
	}
	rtbp_buf_reset(&side.bodies, 0);
	for (size_t i = 0; i < size; i++) {
		client_write(stream + i, 1);
		run_turn(loop);
	}
	expect_bodies("abc||defgh|i|");
	ck_assert_uint_eq(side.n_closed, 0);
}
END_TEST

START_TEST(largest_frame_passes_larger_does_not)
{
	static uint8_t frame[4 + FRAME_MAX];
	size_t sent = 0;
	ssize_t n;

	rtbp_put_length(frame, FRAME_MAX);
	memset(frame + 4, 'x', FRAME_MAX);
	while (sent < sizeof(frame)) {
		n = send(side.client, frame + sent, sizeof(frame) - sent, 0);
		if (n > 0)
			sent += (size_t)n;
		run_turn(loop);
	}
	run_turn(loop);
	run_turn(loop);
	ck_assert_uint_eq(side.n_frames, 1);
	ck_assert_uint_eq(side.bodies.size, FRAME_MAX + 1);
	rtbp_put_length(frame, FRAME_MAX + 1);
	client_write(frame, 4);
	run_turn(loop);
	ck_assert_uint_eq(side.n_oversize, 1);
	ck_assert_uint_eq(side.oversize, FRAME_MAX + 1);
	expect_end("the client sent a frame over the limit");
	ck_assert(client_sees_end());
}
END_TEST

static void finish_with_bye(struct side *s)
{
	struct blob *b = blob_new("BYE", 3);

	conn_finish(s->conn, b, false);
	blob_unref(b);
}

START_TEST(oversize_owner_says_farewell)
{
	char got[64];

	side.on_oversize = finish_with_bye;
	client_frame("ok");
	client_write("\xff\xff\xff\xff", 4);
	client_frame("never read");
	run_turn(loop);
	expect_bodies("ok|");
	ck_assert_uint_eq(side.oversize, 0xffffffff);
	ck_assert_uint_eq(client_take(got, sizeof(got)), 3);
	ck_assert_mem_eq(got, "BYE", 3);
	expect_end("closed by the bridge");
}
END_TEST

START_TEST(one_turn_reads_no_more_than_its_share)
{
	static char stream[300 * 1000]; /* empty frames */
	int room = sizeof(stream) * 2;
	size_t sent;

	ck_assert_int_eq(setsockopt(side.client, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
	sent = (size_t)send(side.client, stream, sizeof(stream), 0);
	ck_assert_uint_gt(sent, 2 * CONN_READ_MAX);
	run_turn(loop);
	ck_assert_uint_le(side.n_frames, CONN_READ_MAX / 4);
	ck_assert_uint_gt(side.n_frames, 0);
	for (int i = 0; i < 100 && side.n_frames < sent / 4; i++)
		run_turn(loop);
	ck_assert_uint_eq(side.n_frames, sent / 4);
}
END_TEST

/* ---- the end ---- */

START_TEST(whole_frames_are_delivered_before_the_end)
{
	client_frame("one");
	client_frame("two");
	client_write("\0\0\0\5hal", 7);
	side_leave(&side);
	run_turn(loop);
	run_turn(loop);
	expect_bodies("one|two|");
	expect_end("closed by the client inside a frame");
}
END_TEST

static void answer(struct side *s)
{
	(void)s;
	ck_assert_int_eq(send_text("answer"), 0);
}

START_TEST(shut_down_by_the_client_is_the_end)
{
	char got[64];

	side.on_frame = answer;
	client_frame("one");
	shutdown(side.client, SHUT_WR);
	for (int i = 0; i < 3; i++)
		run_turn(loop);
	expect_bodies("one|");
	expect_end("closed by the client");
	ck_assert_uint_eq(client_take(got, sizeof(got)), 6); /* the answer found its reader */
	ck_assert_int_eq(send_text("x"), CONN_E_CLOSED);
}
END_TEST

/* The frame fills the buffer to its last byte, so the end is seen in the same turn. */
START_TEST(answers_go_out_when_the_end_comes_at_once)
{
	static uint8_t frame[16 * 1024];
	char got[64];

	side.on_frame = answer;
	rtbp_put_length(frame, sizeof(frame) - 4);
	client_write(frame, sizeof(frame));
	shutdown(side.client, SHUT_WR);
	run_turn(loop);
	ck_assert_uint_eq(side.n_frames, 1);
	expect_end("closed by the client");
	ck_assert_uint_eq(client_take(got, sizeof(got)), 6);
}
END_TEST

/* The bridge notices by a failed write, before it has read what the client had sent. */
START_TEST(sends_of_a_client_that_left_are_still_read)
{
	ck_assert_int_eq(send_text("event"), 0);
	client_frame("one");
	client_frame("two");
	run_turn(loop);
	ck_assert_int_eq(send_text("event"), 0);
	client_frame("three");
	client_frame("four");
	side_leave(&side); /* with unread data: the bridge's end gets a reset */
	conn_pause(side.conn, true);
	run_turn(loop); /* the write fails here */
	ck_assert_uint_eq(side.n_closed, 0);
	ck_assert_int_eq(send_text("event"), CONN_E_CLOSED);
	conn_pause(side.conn, false);
	run_turn(loop);
	run_turn(loop);
	expect_bodies("one|two|three|four|");
	expect_end("closed by the client");
}
END_TEST

START_TEST(a_client_that_only_stops_reading_is_gone)
{
	ck_assert_int_eq(send_text("event"), 0);
	client_frame("one");
	shutdown(side.client, SHUT_RD);
	conn_pause(side.conn, true);
	run_turn(loop);
	conn_pause(side.conn, false);
	run_turn(loop);
	expect_bodies("one|");
	expect_end("closed by the client");
}
END_TEST

static void abort_it(struct side *s)
{
	char text[] = "a reason of its own";

	s->inside_call = true;
	conn_abort(s->conn, text);
	conn_abort(s->conn, "another");
	conn_finish(s->conn, NULL, true);
	conn_pause(s->conn, true);
	memset(text, 'x', sizeof(text) - 1);
	s->inside_call = false;
}

START_TEST(abort_inside_a_frame_ends_once)
{
	side.on_frame = abort_it;
	client_frame("one");
	client_frame("two");
	run_turn(loop);
	expect_bodies("one|");
	expect_end("a reason of its own");
	ck_assert(client_sees_end());
}
END_TEST

START_TEST(finish_inside_a_frame_stops_delivery)
{
	char got[64];

	side.on_frame = finish_with_bye;
	client_frame("one");
	client_frame("two");
	run_turn(loop);
	expect_bodies("one|");
	ck_assert_uint_eq(client_take(got, sizeof(got)), 3);
	expect_end("closed by the bridge");
}
END_TEST

START_TEST(owner_may_free_in_closed)
{
	side.free_in_closed = true;
	ck_assert_int_eq(send_text("x"), 0);
	conn_abort(side.conn, "over");
	run_turn(loop);
	ck_assert_ptr_null(side.conn);
	expect_end("over");
}
END_TEST

START_TEST(owner_may_free_at_any_time)
{
	ck_assert_int_eq(send_text("queued"), 0);
	client_frame("one");
	side.conn = conn_free(side.conn);
	run_turn(loop);
	ck_assert_uint_eq(side.n_closed, 0);
	ck_assert_uint_eq(side.n_frames, 0);
	ck_assert_ptr_null(conn_free(NULL));
}
END_TEST

/* ---- pausing ---- */

static void pause_it(struct side *s)
{
	s->inside_call = true;
	conn_pause(s->conn, true);
	s->inside_call = false;
}

START_TEST(paused_delivers_nothing_not_even_what_is_buffered)
{
	side.on_frame = pause_it;
	client_frame("one");
	client_frame("two");
	client_frame("three");
	run_turn(loop);
	run_turn(loop);
	expect_bodies("one|");
	for (int i = 0; i < 2; i++) {
		side.inside_call = true;
		conn_pause(side.conn, false); /* delivers nothing by itself */
		side.inside_call = false;
		run_turn(loop);
		run_turn(loop);
	}
	expect_bodies("one|two|three|");
	ck_assert_int_eq(send_text("still sending"), 0);
	run_turn(loop);
	ck_assert_uint_eq(conn_queued_bytes(side.conn), 0);
}
END_TEST

START_TEST(paused_reads_nothing)
{
	conn_pause(side.conn, true);
	client_frame("one");
	side_leave(&side);
	run_turn(loop);
	run_turn(loop);
	ck_assert_uint_eq(side.n_frames, 0);
	ck_assert_uint_eq(side.n_closed, 0);
	conn_pause(side.conn, false);
	for (int i = 0; i < 3; i++)
		run_turn(loop);
	expect_bodies("one|");
	expect_end("closed by the client");
}
END_TEST

/* ---- what a client may try ---- */

START_TEST(descriptors_sent_along_are_closed)
{
	union {
		char bytes[CMSG_SPACE(20 * sizeof(int))];
		struct cmsghdr align;
	} control;
	char frame[] = "\0\0\0\1x";
	struct iovec iov = { frame, 5 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int pipe_fds[2], fds[20];
	unsigned before;

	ck_assert_int_eq(pipe(pipe_fds), 0);
	for (int i = 0; i < 20; i++)
		fds[i] = pipe_fds[1];
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	before = open_fds();
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(sendmsg(side.client, &msg, 0), 5);
		run_turn(loop);
	}
	ck_assert_uint_eq(open_fds(), before);
	expect_bodies("x|x|x|");
	/* Nobody holds the writing end any more: the kernel has dropped all copies. */
	close(pipe_fds[1]);
	ck_assert_int_eq(read(pipe_fds[0], &(char){ 0 }, 1), 0);
	close(pipe_fds[0]);
}
END_TEST

START_TEST(credentials_are_kept)
{
	ck_assert_uint_eq(conn_get_cred(side.conn)->uid, 1);
	ck_assert_uint_eq(conn_get_cred(side.conn)->gid, 2);
	ck_assert_int_eq(conn_get_cred(side.conn)->pid, 3);
	ck_assert_uint_eq(conn_get_cred(side.conn)->n_groups, 0);
	/* The groups are the conn's own. */
	{
		gid_t groups[] = { 4, 5 };
		struct conn_cred with = { .uid = 1, .groups = groups, .n_groups = 2 };
		struct conn *conn;
		int pair[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		ck_assert_int_eq(
			conn_new(loop, pair[0], &with, FRAME_MAX, QUEUE_MAX, &ops, &side, &conn),
			0);
		groups[0] = groups[1] = 0;
		ck_assert_uint_eq(conn_get_cred(conn)->n_groups, 2);
		ck_assert_uint_eq(conn_get_cred(conn)->groups[0], 4);
		ck_assert_uint_eq(conn_get_cred(conn)->groups[1], 5);
		conn_free(conn);
		close(pair[1]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conn");
	TCase *c = tcase_create("conn");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, frames_cut_at_every_byte);
	tcase_add_test(c, largest_frame_passes_larger_does_not);
	tcase_add_test(c, oversize_owner_says_farewell);
	tcase_add_test(c, one_turn_reads_no_more_than_its_share);
	tcase_add_test(c, whole_frames_are_delivered_before_the_end);
	tcase_add_test(c, shut_down_by_the_client_is_the_end);
	tcase_add_test(c, answers_go_out_when_the_end_comes_at_once);
	tcase_add_test(c, sends_of_a_client_that_left_are_still_read);
	tcase_add_test(c, a_client_that_only_stops_reading_is_gone);
	tcase_add_test(c, abort_inside_a_frame_ends_once);
	tcase_add_test(c, finish_inside_a_frame_stops_delivery);
	tcase_add_test(c, owner_may_free_in_closed);
	tcase_add_test(c, owner_may_free_at_any_time);
	tcase_add_test(c, paused_delivers_nothing_not_even_what_is_buffered);
	tcase_add_test(c, paused_reads_nothing);
	tcase_add_test(c, descriptors_sent_along_are_closed);
	tcase_add_test(c, credentials_are_kept);
	suite_add_tcase(s, c);
	return suite_run(s);
}
