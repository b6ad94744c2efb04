/* SPDX-License-Identifier: MIT */
#include "ipc/listener.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "listener_util.h"

/* ---- accepting ---- */

START_TEST(accepts_with_credentials)
{
	expect_start();
	ck_assert_int_eq(client_connect(), 0);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
	ck_assert_uint_eq(last_cred.uid, getuid());
	ck_assert_uint_eq(last_cred.gid, getgid());
	ck_assert_int_eq(last_cred.pid, getpid());
	ck_assert_int_eq(fcntl(accepted[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	ck_assert_int_eq(fcntl(accepted[0], F_GETFD), FD_CLOEXEC);
}
END_TEST

/* As many as fit the listener's own room, more, and none. Who may not choose them has its own. */
START_TEST(accepts_with_groups)
{
	static const size_t sizes[] = { 64, 65, MANY, 0 };
	gid_t groups[MANY];
	int n;

	for (gid_t i = 0; i < MANY; i++)
		groups[i] = 7000 + i;
	if (geteuid() == 0)
		ck_assert_int_eq(setgroups(sizes[_i], groups), 0);
	n = getgroups(MANY, groups);
	ck_assert_int_ge(n, 0);
	expect_start();
	ck_assert_int_eq(client_connect(), 0);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
	ck_assert_uint_eq(last_cred.n_groups, (size_t)n);
	for (int i = 0; i < n; i++)
		ck_assert_uint_eq(last_cred.groups[i], groups[i]);
}
END_TEST

START_TEST(group_of_the_file)
{
	struct stat st;

	expect_start();
	ck_assert_uint_eq(listener_group(listener), (gid_t)-1); /* mode 0600 */
	listener = listener_free(listener);
	conf.mode = 0620;
	expect_start();
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(listener_group(listener), st.st_gid);
	listener_stop(listener);
	ck_assert_uint_eq(listener_group(listener), st.st_gid);
	listener = listener_free(listener);
	conf.mode = 0606;
	expect_start();
	ck_assert_uint_eq(listener_group(listener), (gid_t)-1);
}
END_TEST

START_TEST(accepts_so_many_a_turn)
{
	expect_start();
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(client_connect(), 0);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, LISTENER_ACCEPT_MAX);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, MANY);
}
END_TEST

START_TEST(stop_refuses_but_leaves_the_file)
{
	expect_start();
	listener_stop(listener);
	ck_assert_int_eq(client_connect(), -ECONNREFUSED);
	ck_assert_uint_eq(kind_of(path), S_IFSOCK);
	listener_stop(listener);
	run_turn(loop);
	listener = listener_free(listener);
	ck_assert_int_eq(client_connect(), -ENOENT);
	ck_assert_ptr_null(listener_free(NULL));
}
END_TEST

START_TEST(stop_inside_the_callback)
{
	expect_start();
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(client_connect(), 0);
	stop_listener_at_accept = true;
	run_turn(loop);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
}
END_TEST

/* ---- out of descriptors ---- */

/* Lowers the limit so that exactly `room` more descriptors fit. */
static void leave_room_for(rlim_t room)
{
	struct rlimit limit;
	int fd = dup(STDIN_FILENO);

	/* The lowest free number: everything below is in use. */
	ck_assert_int_ge(fd, 0);
	close(fd);
	for (int i = fd; i < fd + 64; i++)
		ck_assert_int_eq(fcntl(i, F_GETFD), -1);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = (rlim_t)fd + room;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

START_TEST(out_of_descriptors_rests_and_recovers)
{
	struct rlimit limit;
	unsigned n_turns = 0;
	char byte;

	expect_start();
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(client_connect(), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	leave_room_for(1);
	run_turn(loop);
	/* One fitted, one was refused by the spare descriptor, two wait without being harmed. */
	ck_assert_uint_eq(n_accepted, 1);
	ck_assert_int_eq(recv(clients[1], &byte, 1, 0), 0);
	ck_assert_int_eq(recv(clients[0], &byte, 1, 0), -1);
	ck_assert_int_eq(errno, EAGAIN);
	/* Resting: the pending ones do not wake it. */
	run_turn(loop);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
	ck_assert_int_eq(recv(clients[2], &byte, 1, 0), -1);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	stop_loop_at_accept = true;
	while (n_accepted < 3) {
		run_until_stopped(loop, "the listener to try again");
		n_turns++;
	}
	ck_assert_uint_eq(n_accepted, 3);
	ck_assert_uint_le(n_turns, 2); /* it woke for nothing else */
	ck_assert_int_eq(recv(clients[2], &byte, 1, 0), -1);
	ck_assert_int_eq(recv(clients[3], &byte, 1, 0), -1);
	ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

START_TEST(free_while_resting)
{
	struct rlimit limit;

	expect_start();
	ck_assert_int_eq(client_connect(), 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	leave_room_for(0);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	listener = listener_free(listener);
	run_turn(loop);
}
END_TEST

/* ---- sockets from systemd ---- */

/* The child of a fork, because descriptor 3 belongs to the test's framework here. Return: the line
 * that failed. */
static int as_activated(bool with_stream)
{
	struct sockaddr_un a = address();
	int pair[2], fd;
	char pid[16];

	loop_free(loop); /* its descriptors may have the numbers that are needed */
	fd = plant_socket(true);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	if (fd < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
		return __LINE__;
	pair[0] = fcntl(pair[0], F_DUPFD_CLOEXEC, 10);
	if (dup2(pair[0], 3) != 3 || dup2(with_stream ? fd : pair[0], 4) != 4)
		return __LINE__;
	loop = loop_new();
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (chmod(path, 0660) < 0)
		return __LINE__;
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "2", 1);
	if (start() != (with_stream ? 0 : -EADDRINUSE))
		return __LINE__;
	if (getenv("LISTEN_FDS")) /* would confuse programs that the daemon starts */
		return __LINE__;
	if (!with_stream)
		return 0;
	if (kind_of(lock_path) != 0 || listener_group(listener) != getegid())
		return __LINE__;
	close(fd);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return __LINE__;
	run_turn(loop);
	if (n_accepted != 1 || !(fcntl(4, F_GETFL) & O_NONBLOCK))
		return __LINE__;
	listener = listener_free(listener);
	/* Not ours to remove. */
	return kind_of(path) == S_IFSOCK ? 0 : __LINE__;
}

START_TEST(takes_a_socket_over_from_systemd)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		status = as_activated(_i == 1);
		if (status)
			fprintf(stderr, "line %d: %s\n", status, text);
		_exit(status ? 1 : 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("listener");
	TCase *c = tcase_create("listener");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, accepts_with_credentials);
	tcase_add_loop_test(c, accepts_with_groups, 0, 4);
	tcase_add_test(c, group_of_the_file);
	tcase_add_test(c, accepts_so_many_a_turn);
	tcase_add_test(c, stop_refuses_but_leaves_the_file);
	tcase_add_test(c, stop_inside_the_callback);
	tcase_add_test(c, out_of_descriptors_rests_and_recovers);
	tcase_add_test(c, free_while_resting);
	tcase_add_loop_test(c, takes_a_socket_over_from_systemd, 0, 2);
	suite_add_tcase(s, c);
	return suite_run(s);
}
