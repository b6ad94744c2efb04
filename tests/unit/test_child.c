/* SPDX-License-Identifier: MIT */
#include "base/child.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop_util.h"

enum { MAX_BYTES = 8192, LONG_MS = 50000 };

static struct loop *loop;
static struct child *child;
static struct child_result got; /* output apart */
static char output[MAX_BYTES + 1], text[128];
static unsigned fds_before, calls;

/* Processes that nobody can end, as another user's. */
static bool is_powerless;

int __real_kill(pid_t pid, int signo);
int __wrap_kill(pid_t pid, int signo);
int __wrap_kill(pid_t pid, int signo)
{
	if (!is_powerless)
		return __real_kill(pid, signo);
	errno = EPERM;
	return -1;
}

static void setup(void)
{
	fds_before = open_fds();
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	calls = 0;
}

static void teardown(void)
{
	loop_free(loop);
	ck_assert_uint_eq(open_fds(), fds_before);
}

static void on_end(void *ctx, const struct child_result *result)
{
	ck_assert_ptr_eq(ctx, &got);
	got = *result;
	snprintf(text, sizeof(text), "%s", result->text);
	output[0] = '\0';
	if (result->output)
		snprintf(output, sizeof(output), "%s", secret_bytes(result->output));
	ck_assert_int_eq(result->output != NULL, result->end == CHILD_DONE);
	calls++;
	child = child_free(child);
	loop_stop(loop);
}

static void begin(const char *command, uint32_t timeout_ms)
{
	struct child_conf conf = {
		.command = command,
		.max_bytes = MAX_BYTES,
		.timeout_ms = timeout_ms,
	};

	ck_assert_int_eq(child_new(loop, &conf, on_end, &got, &child), 0);
}

static void run(const char *command, uint32_t timeout_ms, enum child_end end)
{
	begin(command, timeout_ms);
	run_until_stopped(loop, command);
	ck_assert_msg(got.end == end, "%s: end %d: %s %s", command, (int)got.end, text, got.line);
}

/* A process that is not ours to wait for. */
static void wait_gone(const char *pid_text)
{
	int pid = atoi(pid_text), fd;
	struct pollfd p;

	ck_assert_int_gt(pid, 1);
	fd = pidfd_open(pid, 0);
	if (fd < 0) {
		ck_assert_int_eq(errno, ESRCH);
		return;
	}
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	ck_assert_msg(poll(&p, 1, WAIT_MAX_MS) == 1, "still there: %s", pid_text);
	close(fd);
}

START_TEST(output_is_handed_over)
{
	run("printf 'a\\n b'; printf c", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(output, "a\n bc");
	ck_assert_str_eq(text, "");
	ck_assert_str_eq(got.line, "");
	run("true", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(output, "");
	/* Its end is what counts, not that of what holds its output open. */
	run("cat", LONG_MS, CHILD_DONE); /* stdin has nothing */
	run("exec 1>&-; exec 2>&-; sleep 0.05", LONG_MS, CHILD_DONE);
	ck_assert_uint_eq(calls, 4);
}
END_TEST

START_TEST(as_much_as_is_allowed)
{
	run("head -c 8192 /dev/zero | tr '\\0' a", LONG_MS, CHILD_DONE);
	ck_assert_uint_eq(strlen(output), MAX_BYTES);
	run("head -c 8193 /dev/zero | tr '\\0' a", LONG_MS, CHILD_TOO_MUCH);
	ck_assert_str_eq(text, "printed more than 8192 bytes");
	/* Without an end, and it does not listen. */
	run("trap '' TERM; yes", LONG_MS, CHILD_TOO_MUCH);
}
END_TEST

START_TEST(causes)
{
	run("exit 3", LONG_MS, CHILD_STATUS);
	ck_assert_int_eq(got.status, 3);
	ck_assert_str_eq(text, "ended with status 3");
	run("/nowhere/at-all", LONG_MS, CHILD_STATUS);
	ck_assert_int_eq(got.status, 127);
	ck_assert_ptr_nonnull(strstr(text, "finds no such program"));
	ck_assert_ptr_nonnull(strstr(got.line, "not found"));
	run("/etc/passwd", LONG_MS, CHILD_STATUS);
	ck_assert_ptr_nonnull(strstr(text, "may not run"));
	run("kill -USR1 $$", LONG_MS, CHILD_SIGNAL);
	ck_assert_int_eq(got.status, SIGUSR1);
	ck_assert_ptr_nonnull(strstr(text, "User defined"));
	/* What it had printed before counts for nothing. */
	run("echo a; exit 1", LONG_MS, CHILD_STATUS);
}
END_TEST

START_TEST(over_its_time)
{
	run("sleep 1000", 50, CHILD_TIMEOUT);
	ck_assert_str_eq(text, "took longer than 50 ms and was ended");
	/* SIGKILL comes behind. */
	run("trap '' TERM; while :; do sleep 1000; done", 50, CHILD_TIMEOUT);
	/* SIGTERM comes first; who ends well by it is late all the same. */
	run("trap 'echo bye >&2; exit 0' TERM; echo a; while :; do :; done", 50, CHILD_TIMEOUT);
	ck_assert_str_eq(got.line, "bye");
}
END_TEST

START_TEST(whole_group_ends)
{
	/* What it leaves behind. */
	run("sleep 1000 >/dev/null 2>&1 & echo $!", LONG_MS, CHILD_DONE);
	wait_gone(output);
	/* Over its time: the shell and what it waits for; the line is that of the inner one. */
	run("sleep 1000 & echo $! >&2; wait", 300, CHILD_TIMEOUT);
	wait_gone(got.line);
}
END_TEST

START_TEST(who_left_the_group_is_not_waited_for)
{
	run("setsid sleep 1000 & echo $!", LONG_MS, CHILD_DONE);
	ck_assert_int_gt(atoi(output), 1);
	kill(atoi(output), SIGKILL);
	wait_gone(output);
}
END_TEST

/* It is ended all the same when it is in a group that is not its own. */
START_TEST(who_left_its_group_is_ended)
{
	run("exec perl -e 'setpgrp(0, getpgrp(getppid())); print STDERR qq($$\\n); sleep 1000'",
	    500, CHILD_TIMEOUT);
	ck_assert_str_eq(text, "took longer than 500 ms and was ended");
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(what_cannot_be_ended_is_left)
{
	struct child_conf conf = { .command = "true", .max_bytes = 1, .timeout_ms = LONG_MS };
	pid_t pids[CHILD_LEFT_MAX];
	uint64_t began = clock_now(&clock_system);

	is_powerless = true;
	for (unsigned i = 0; i < CHILD_LEFT_MAX; i++) {
		run("echo $$ >&2; exec sleep 1000", 50, CHILD_TIMEOUT);
		ck_assert_str_eq(text, "took longer than 50 ms and cannot be ended");
		pids[i] = atoi(got.line);
		ck_assert_int_gt(pids[i], 1);
	}
	ck_assert_uint_eq(calls, CHILD_LEFT_MAX);
	/* Each cost its time and two graces, and to free it nothing. */
	ck_assert_uint_ge(clock_now(&clock_system) - began, CHILD_LEFT_MAX * 2 * CHILD_GRACE_MS);
	ck_assert_int_eq(child_new(loop, &conf, on_end, &got, &child), -EBUSY);
	is_powerless = false;
	/* One of them has ended, and is reaped before another one begins. */
	ck_assert_int_eq(kill(pids[0], SIGKILL), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pids[0], &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	run("true", LONG_MS, CHILD_DONE);
	ck_assert_int_eq(waitpid(pids[0], NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
	for (unsigned i = 1; i < CHILD_LEFT_MAX; i++) {
		ck_assert_int_eq(kill(pids[i], SIGKILL), 0);
		ck_assert_int_eq(waitid(P_PID, (id_t)pids[i], &(siginfo_t){ 0 }, WEXITED | WNOWAIT),
				 0);
	}
	run("true", LONG_MS, CHILD_DONE);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}
END_TEST

START_TEST(first_line_of_stderr)
{
	run("printf '\\n\\none\\ttwo\\033[1m\\nthree\\n' >&2", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(got.line, "one two?[1m");
	run("printf 'no end' >&2; exit 1", LONG_MS, CHILD_STATUS);
	ck_assert_str_eq(got.line, "no end");
	/* However much there is, it does not stop for it. */
	run("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo out", LONG_MS, CHILD_DONE);
	ck_assert_uint_eq(strlen(got.line), CHILD_LINE_MAX);
	ck_assert_str_eq(output, "out\n");
	run("printf 'a\\0b\\377\\n' >&2", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(got.line, "a?b?");
}
END_TEST

START_TEST(no_token_in_the_line)
{
	run("printf '+ echo eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoi_-x.c2ln and eyJ; "
	    "eyJhbGciOiJIUzI1NiJ9.x\\n' >&2",
	    LONG_MS, CHILD_DONE);
	ck_assert_str_eq(got.line, "+ echo [token] and eyJ; [token]");
	/* Cut in the middle. */
	run("printf '%0190d eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoi' 0 >&2", LONG_MS, CHILD_DONE);
	ck_assert_uint_eq(strlen(got.line), CHILD_LINE_MAX);
	ck_assert_str_eq(got.line + 191, "eyJhbGciO");
}
END_TEST

static const struct {
	const char *said, *kept;
} keys[] = {
	{ "apikey=sb_secret_N7UND0Ugj and sb_publishable_ACJW.", "apikey=[token] and [token]" },
	{ "sb_secret_ sb_publishable_ sbp_ab", "sb_secret_ sb_publishable_ sbp_ab" },
	{ "'sbp_0102' \"sb_secret_x\"", "'[token]' \"[token]\"" },
	{ "token: q7Rk2ZpT0aBcD9eFgH1iJkL3mNoP5qRs!", "token: [token]!" },
	{ "/usr/lib/x86_64-linux-gnu/libwebsockets.so.17 is missing", NULL },
	{ "3f2504e0-4f89-41d3-9a0c-0305e82c3301 AUTHENTICATION_SERVICE_UNAVAILABLE_1", NULL },
	{ "xeyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjo", "x[token]" },
};

START_TEST(no_key_in_the_line)
{
	setenv("SAID", keys[_i].said, 1);
	run("printf '%s\\n' \"$SAID\" >&2", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(got.line, keys[_i].kept ? keys[_i].kept : keys[_i].said);
	unsetenv("SAID");
}
END_TEST

START_TEST(surroundings)
{
	sigset_t set;
	int extra = open("/dev/null", O_RDONLY), high; /* NOLINT: not O_CLOEXEC on purpose */

	ck_assert_int_ge(extra, 0);
	high = fcntl(extra, F_DUPFD, 200);
	ck_assert_int_ge(high, 200);
	/* The fourth is that of ls itself. */
	run("ls /proc/self/fd", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(output, "0\n1\n2\n3\n");
	close(extra);
	close(high);
	run("readlink /proc/self/fd/0", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(output, "/dev/null\n");

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* All but the two that libc keeps for itself, 32 and 33. */
	run("sed -nE 's/^Sig(Blk|Ign):\\t[0-9a-f]{7}//p' /proc/self/status", LONG_MS, CHILD_DONE);
	ck_assert_str_eq(output, "000000000\n180000000\n");
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	signal(SIGPIPE, SIG_DFL);

	run("set -- $(cat /proc/$$/stat); [ $1 = $$ ] && [ $5 = $$ ]", LONG_MS, CHILD_DONE);
}
END_TEST

START_TEST(environment)
{
	setenv("NOTIFY_SOCKET", "/x", 1);
	setenv("LISTEN_FDS", "1", 1);
	setenv("LISTEN_PID", "1", 1);
	setenv("WATCHDOG_USEC", "1", 1);
	setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x", 1);
	setenv("RTB_ANOTHER", "stays", 1);
	run("env | grep -E '^(NOTIFY_|LISTEN_|WATCHDOG_)'; echo \"$CREDENTIALS_DIRECTORY "
	    "$RTB_ANOTHER\"",
	    LONG_MS, CHILD_DONE);
	ck_assert_str_eq(output, "/run/credentials/x stays\n");
	ck_assert_str_eq(getenv("NOTIFY_SOCKET"), "/x"); /* ours is as it was */
}
END_TEST

START_TEST(end_is_seen_although_ignored)
{
	signal(SIGCHLD, SIG_IGN);
	run("exit 5", LONG_MS, CHILD_STATUS);
	ck_assert_int_eq(got.status, 5);
	signal(SIGCHLD, SIG_DFL);
}
END_TEST

struct waiter {
	struct loop_timer timer;
	char path[32];
	char pid[32];
};

static void look_for_pid(void *ctx)
{
	struct waiter *w = ctx;
	FILE *f = fopen(w->path, "re");

	ck_assert_ptr_nonnull(f);
	if (fgets(w->pid, sizeof(w->pid), f) && strchr(w->pid, '\n'))
		loop_stop(loop);
	else
		loop_timer_set(&w->timer, 10);
	fclose(f);
}

START_TEST(freed_while_it_runs)
{
	struct waiter w = { .path = "/tmp/rtb-child-XXXXXX" };
	int fd = mkostemp(w.path, O_CLOEXEC);
	char command[100];

	ck_assert_int_ge(fd, 0);
	close(fd);
	snprintf(command, sizeof(command), "trap '' TERM; sleep 1000 & echo $! > %s; wait", w.path);
	begin(command, LONG_MS);
	ck_assert_int_eq(loop_timer_init(loop, &w.timer, look_for_pid, &w), 0);
	loop_timer_set(&w.timer, 0);
	run_until_stopped(loop, "the command runs");
	loop_timer_done(&w.timer);
	child = child_free(child);
	ck_assert_uint_eq(calls, 0);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
	ck_assert_int_eq(errno, ECHILD);
	wait_gone(w.pid);
	unlink(w.path);
}
END_TEST

START_TEST(freed_without_a_turn)
{
	for (unsigned i = 0; i < 20; i++) {
		begin("sleep 1000", LONG_MS);
		child = child_free(child);
	}
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_ptr_null(child_free(NULL));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("child");
	TCase *c = tcase_create("child");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, output_is_handed_over);
	tcase_add_test(c, as_much_as_is_allowed);
	tcase_add_test(c, causes);
	tcase_add_test(c, over_its_time);
	tcase_add_test(c, whole_group_ends);
	tcase_add_test(c, who_left_the_group_is_not_waited_for);
	tcase_add_test(c, who_left_its_group_is_ended);
	tcase_add_test(c, what_cannot_be_ended_is_left);
	tcase_add_test(c, first_line_of_stderr);
	tcase_add_test(c, no_token_in_the_line);
	tcase_add_loop_test(c, no_key_in_the_line, 0, sizeof(keys) / sizeof(*keys));
	tcase_add_test(c, surroundings);
	tcase_add_test(c, environment);
	tcase_add_test(c, end_is_seen_although_ignored);
	tcase_add_test(c, freed_while_it_runs);
	tcase_add_test(c, freed_without_a_turn);
	suite_add_tcase(s, c);
	return suite_run(s);
}
