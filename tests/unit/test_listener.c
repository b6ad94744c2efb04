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
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop_util.h"

enum { MANY = 100, NOBODY = 65534 };

static struct loop *loop;
static struct listener *listener;
static struct listener_conf conf;
static char dir[32], path[64], lock_path[80];
static char text[512];
static unsigned fds_before;

static int accepted[MANY]; /* the daemon's ends */
static unsigned n_accepted;
static struct conn_cred last_cred;
static int clients[MANY];
static unsigned n_clients;
static bool stop_loop_at_accept, stop_listener_at_accept;

static void on_accept(void *ctx, int fd, const struct conn_cred *cred)
{
	ck_assert_ptr_eq(ctx, &conf);
	ck_assert_uint_lt(n_accepted, MANY);
	accepted[n_accepted++] = fd;
	last_cred = *cred;
	if (stop_loop_at_accept)
		loop_stop(loop);
	if (stop_listener_at_accept)
		listener_stop(listener);
}

static void setup(void)
{
	fds_before = open_fds();
	strcpy(dir, "/tmp/rtb-listen-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
	conf = (struct listener_conf){ .path = path, .mode = 0600 };
	loop = loop_new();
	listener = NULL;
	n_accepted = n_clients = 0;
	stop_loop_at_accept = stop_listener_at_accept = false;
}

static void close_all(void)
{
	while (n_accepted > 0)
		close(accepted[--n_accepted]);
	while (n_clients > 0)
		close(clients[--n_clients]);
}

static void teardown(void)
{
	close_all();
	ck_assert_ptr_null(listener_free(listener));
	loop_free(loop);
	if (unlink(path) < 0)
		rmdir(path);
	unlink(lock_path);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_uint_eq(open_fds(), fds_before);
}

static int start(void)
{
	text[0] = '\0';
	return listener_new(loop, &conf, on_accept, &conf, &listener, text, sizeof(text));
}

static void expect_start(void)
{
	int r = start();

	ck_assert_msg(r == 0, "%s", text);
}

static void expect_refusal(int error, const char *name, const char *part)
{
	ck_assert_int_eq(start(), error);
	ck_assert_ptr_null(listener);
	ck_assert_msg(strncmp(text, name, strlen(name)) == 0, "%s", text);
	ck_assert_msg(strstr(text, part) != NULL, "%s lacks %s", text, part);
}

static struct sockaddr_un address(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

/* Return: 0, or -errno of connect(). */
static int client_connect(void)
{
	struct sockaddr_un a = address();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	clients[n_clients++] = fd;
	return 0;
}

/* A socket's file that nobody listens on; or that the returned descriptor listens on. */
static int plant_socket(bool alive)
{
	struct sockaddr_un a = address();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	if (alive) {
		ck_assert_int_eq(listen(fd, 5), 0);
		return fd;
	}
	close(fd);
	return -1;
}

static void plant_file(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	close(fd);
}

static mode_t kind_of(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0 ? st.st_mode & S_IFMT : 0;
}

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

/* ---- the socket's file ---- */

START_TEST(file_has_the_mode_asked_for)
{
	static const mode_t modes[] = { 0600, 0660, 0666 };
	struct stat st;

	for (unsigned i = 0; i < 3; i++) {
		conf.mode = modes[i];
		umask(i == 1 ? 0 : 077);
		expect_start();
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_uint_eq(st.st_mode, S_IFSOCK | modes[i]);
		ck_assert_uint_eq(st.st_uid, geteuid());
		ck_assert_uint_eq(umask(022), i == 1 ? 0 : 077); /* as it was */
		listener = listener_free(listener);
	}
}
END_TEST

START_TEST(file_gets_the_group_asked_for)
{
	const struct group *own = getgrgid(getegid());
	char name[64];
	struct stat st;
	gid_t gid = getegid();

	if (geteuid() == 0) {
		own = getgrnam("daemon");
		gid = own ? own->gr_gid : gid;
	}
	ck_assert_ptr_nonnull(own);
	snprintf(name, sizeof(name), "%s", own->gr_name);
	conf.group = name;
	conf.mode = 0660;
	expect_start();
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_gid, gid);
	ck_assert_uint_eq(st.st_mode & 07777, 0660);
}
END_TEST

START_TEST(unknown_group_is_refused)
{
	conf.group = "rtb-no-such-group";
	expect_refusal(-EINVAL, path, "rtb-no-such-group");
	ck_assert_uint_eq(kind_of(path), 0);
}
END_TEST

START_TEST(stale_socket_is_replaced)
{
	plant_socket(false);
	ck_assert_int_eq(client_connect(), -ECONNREFUSED);
	expect_start();
	ck_assert_int_eq(client_connect(), 0);
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
}
END_TEST

START_TEST(living_daemon_is_refused)
{
	struct listener *first;

	expect_start();
	first = listener;
	listener = NULL;
	expect_refusal(-EADDRINUSE, path, "another rtbridged");
	ck_assert_int_eq(client_connect(), 0); /* the first one is untouched */
	run_turn(loop);
	ck_assert_uint_eq(n_accepted, 1);
	/* Even with its socket's file removed behind its back, it is alive. */
	ck_assert_int_eq(unlink(path), 0);
	expect_refusal(-EADDRINUSE, path, "another rtbridged");
	listener = first;
}
END_TEST

START_TEST(living_stranger_is_refused)
{
	int fd = plant_socket(true);

	expect_refusal(-EADDRINUSE, path, "another program");
	ck_assert_int_eq(client_connect(), 0);
	close(fd);
	expect_start(); /* stale now */
}
END_TEST

START_TEST(what_is_no_socket_stays)
{
	plant_file(path);
	expect_refusal(-EEXIST, path, "a regular file");
	ck_assert_uint_eq(kind_of(path), S_IFREG);
	unlink(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	expect_refusal(-EEXIST, path, "a directory");
	ck_assert_uint_eq(kind_of(path), S_IFDIR);
	rmdir(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	expect_refusal(-EEXIST, path, "a FIFO");
	ck_assert_uint_eq(kind_of(path), S_IFIFO);
}
END_TEST

START_TEST(links_are_not_followed)
{
	char real[64];

	plant_socket(false);
	snprintf(real, sizeof(real), "%s/real", dir);
	ck_assert_int_eq(rename(path, real), 0);
	ck_assert_int_eq(symlink(real, path), 0);
	expect_refusal(-EEXIST, path, "a symbolic link");
	ck_assert_uint_eq(kind_of(path), S_IFLNK);
	ck_assert_uint_eq(kind_of(real), S_IFSOCK);
	unlink(real);
	expect_refusal(-EEXIST, path, "a symbolic link"); /* dangling */
	unlink(path);
	unlink(lock_path);
	ck_assert_int_eq(symlink(real, lock_path), 0);
	expect_refusal(-EEXIST, lock_path, "no regular file");
	ck_assert_uint_eq(kind_of(real), 0); /* not made through the link */
}
END_TEST

START_TEST(foreign_files_stay)
{
	if (geteuid() != 0)
		return; /* only root can give a file away */
	plant_socket(false);
	ck_assert_int_eq(chown(path, NOBODY, NOBODY), 0);
	expect_refusal(-EEXIST, path, "belongs to uid 65534");
	ck_assert_uint_eq(kind_of(path), S_IFSOCK);
	unlink(path);
	ck_assert_int_eq(chown(lock_path, NOBODY, NOBODY), 0);
	expect_refusal(-EEXIST, lock_path, "belongs to uid 65534");
	ck_assert_uint_eq(kind_of(path), 0);
}
END_TEST

START_TEST(bad_places_for_the_lock)
{
	ck_assert_int_eq(mkdir(lock_path, 0700), 0);
	expect_refusal(-EEXIST, lock_path, "no regular file");
	rmdir(lock_path);
	ck_assert_int_eq(mkfifo(lock_path, 0600), 0);
	expect_refusal(-EEXIST, lock_path, "no regular file");
}
END_TEST

START_TEST(last_directory_is_made)
{
	char deep[64], under[64];
	struct stat st;

	snprintf(under, sizeof(under), "%s/new", dir);
	snprintf(deep, sizeof(deep), "%s/new/sock", dir);
	conf.path = deep;
	umask(077);
	expect_start();
	umask(022);
	ck_assert_int_eq(stat(under, &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFDIR | 0755);
	listener = listener_free(listener);
	ck_assert_uint_eq(kind_of(deep), 0);
	strcat(deep, ".lock");
	ck_assert_int_eq(unlink(deep), 0);
	ck_assert_int_eq(rmdir(under), 0);
	snprintf(deep, sizeof(deep), "%s/new/new/sock", dir);
	expect_refusal(-ENOENT, deep, "does not exist");
}
END_TEST

START_TEST(path_must_fit)
{
	char long_path[200];

	memset(long_path, 'x', sizeof(long_path));
	memcpy(long_path, dir, strlen(dir));
	long_path[strlen(dir)] = '/';
	long_path[108] = '\0';
	conf.path = long_path;
	expect_refusal(-ENAMETOOLONG, long_path, "at most 107 bytes");
	long_path[107] = '\0';
	expect_start(); /* just fits */
	listener = listener_free(listener);
	ck_assert_uint_eq(kind_of(long_path), 0);
	strcat(long_path, ".lock");
	ck_assert_int_eq(unlink(long_path), 0);
	conf.path = "";
	expect_refusal(-EINVAL, "", "empty");
}
END_TEST

START_TEST(free_removes_only_its_own_file)
{
	expect_start();
	ck_assert_int_eq(unlink(path), 0);
	int fd = plant_socket(true); /* somebody else's by now */
	listener = listener_free(listener);
	ck_assert_uint_eq(kind_of(path), S_IFSOCK);
	ck_assert_int_eq(client_connect(), 0);
	close(fd);
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
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "2", 1);
	if (start() != (with_stream ? 0 : -EADDRINUSE))
		return __LINE__;
	if (getenv("LISTEN_FDS")) /* would confuse programs that the daemon starts */
		return __LINE__;
	if (!with_stream)
		return 0;
	if (kind_of(lock_path) != 0)
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
	tcase_add_test(c, accepts_so_many_a_turn);
	tcase_add_test(c, stop_refuses_but_leaves_the_file);
	tcase_add_test(c, stop_inside_the_callback);
	tcase_add_test(c, out_of_descriptors_rests_and_recovers);
	tcase_add_test(c, free_while_resting);
	tcase_add_test(c, file_has_the_mode_asked_for);
	tcase_add_test(c, file_gets_the_group_asked_for);
	tcase_add_test(c, unknown_group_is_refused);
	tcase_add_test(c, stale_socket_is_replaced);
	tcase_add_test(c, living_daemon_is_refused);
	tcase_add_test(c, living_stranger_is_refused);
	tcase_add_test(c, what_is_no_socket_stays);
	tcase_add_test(c, links_are_not_followed);
	tcase_add_test(c, foreign_files_stay);
	tcase_add_test(c, bad_places_for_the_lock);
	tcase_add_test(c, last_directory_is_made);
	tcase_add_test(c, path_must_fit);
	tcase_add_test(c, free_removes_only_its_own_file);
	tcase_add_loop_test(c, takes_a_socket_over_from_systemd, 0, 2);
	suite_add_tcase(s, c);
	return run_suite(s);
}
