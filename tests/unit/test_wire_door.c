/* SPDX-License-Identifier: MIT */
/* The moment in which libwebsockets takes a connection over, by way of a Unix socket that takes nobody:
 * without descriptors for it, and with strangers who find that socket. */
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "wire_raw.h"

enum { MAX_STRANGERS = 4 };

/* ---- who stands before the door as soon as it is there (linked with --wrap) ---- */

static int n_strangers, strangers[MAX_STRANGERS];

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);
	int r = __real_listen(fd, backlog);

	if (r < 0 || getsockname(fd, (struct sockaddr *)&sun, &len) < 0 ||
	    sun.sun_family != AF_UNIX)
		return r;
	for (int i = 0; i < n_strangers; i++) {
		strangers[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)!connect(strangers[i], (struct sockaddr *)&sun, len);
	}
	return r;
}

/* ---- descriptors ---- */

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* So many more can be opened. */
static void leave_free(int n)
{
	struct rlimit limit;
	rlim_t fd = 0;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (; n > 0 || fcntl((int)fd, F_GETFD) >= 0; fd++) {
		if (fcntl((int)fd, F_GETFD) < 0)
			n--;
	}
	limit.rlim_cur = fd;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* The network thread gives back what it has from its loop, not at once. */
static void until_fds(struct rig *rig, int n)
{
	int64_t deadline = rig_now_ms() + WIRE_DEADLINE_MS;

	while (count_fds() != n) {
		ck_assert_msg(rig_now_ms() < deadline, "%d descriptors, not %d", count_fds(), n);
		poll(NULL, 0, 1);
		wire_dispatch(rig->w);
	}
}

/* Each step of it finds none: the attempt fails with the reason, and nothing stays behind. */
START_TEST(test_no_descriptors)
{
	struct rlimit limit;
	const char *text;
	int n_before, n_failed = 0;
	struct rig rig;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	rig_init(&rig);
	rig_start(&rig);
	expect_works(&rig);
	until_fds(&rig, count_fds());
	n_before = count_fds();
	for (int n = 0; n_failed == n; n++) {
		ck_assert_int_lt(n, 10);
		rig.on_opened = close_when_answered;
		leave_free(n);
		raw_open(&rig, 0, "/echo");
		rig_until_closed(&rig, 0);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		rig.on_opened = NULL;
		until_fds(&rig, n_before);
		if (rig.recs[0].n_opened)
			break;
		n_failed++;
		text = rig.recs[0].end.text;
		ck_assert_int_eq(rig.recs[0].end.why, WIRE_CONNECT);
		ck_assert_msg(strstr(text, strerror(EMFILE)) != NULL, "%d: %s", n, text);
		ck_assert_msg((strstr(text, "the connection cannot be handed on") != NULL) ==
				      (n > 0),
			      "%d: %s", n, text);
		expect_works(&rig);
		until_fds(&rig, n_before);
	}
	/* Its own, the door's two, that of libwebsockets. */
	ck_assert_int_eq(n_failed, 4);
	rig_stop(&rig);
}
END_TEST

/* Whoever is there before us hears nothing, and the connection comes about all the same. */
START_TEST(test_strangers)
{
	char byte;
	struct rig rig;

	rig_init(&rig);
	rig_start(&rig);
	n_strangers = _i;
	for (int i = 0; i < MAX_STRANGERS; i++)
		strangers[i] = -1;
	expect_works(&rig);
	for (int i = 0; i < n_strangers; i++) {
		ssize_t n = recv(strangers[i], &byte, 1, MSG_DONTWAIT);

		ck_assert_int_ge(strangers[i], 0);
		/* Its end, or it never came in. */
		ck_assert_msg(n == 0 || (n < 0 && (errno == ECONNRESET || errno == EINVAL ||
						   errno == ENOTCONN)),
			      "%d: %zd %s", i, n, strerror(errno));
		close(strangers[i]);
	}
	rig_stop(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_door");
	TCase *t = tcase_create("handing over");

	tcase_add_unchecked_fixture(t, start_server, stop_server);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_no_descriptors);
	tcase_add_loop_test(t, test_strangers, 0, MAX_STRANGERS + 1);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
