/* SPDX-License-Identifier: MIT */
#include "base/loop.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop_util.h"

static struct loop *loop;
static unsigned fds_before;
static char story[128]; /* what happened, one letter each */
static char letter_a[] = "a", letter_b[] = "b", letter_c[] = "c";
static struct loop_task task_a, task_b, task_c;
static struct loop_timer timer_a, timer_b;
static struct loop_fd watch_a, watch_b;
static int pair_a[2], pair_b[2];

static void tell(char c)
{
	size_t n = strlen(story);

	ck_assert_uint_lt(n, sizeof(story) - 1);
	story[n] = c;
	story[n + 1] = '\0';
}

static void tell_text(void *ctx)
{
	tell(*(const char *)ctx);
}

static void setup(void)
{
	fds_before = open_fds();
	story[0] = '\0';
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	task_a = (struct loop_task){ .fn = tell_text, .ctx = letter_a };
	task_b = (struct loop_task){ .fn = tell_text, .ctx = letter_b };
	task_c = (struct loop_task){ .fn = tell_text, .ctx = letter_c };
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair_a), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair_b), 0);
}

static void teardown(void)
{
	loop_timer_done(&timer_a);
	loop_timer_done(&timer_b);
	loop_fd_done(&watch_a);
	loop_fd_done(&watch_b);
	for (int i = 0; i < 2; i++) {
		close(pair_a[i]);
		close(pair_b[i]);
	}
	ck_assert_ptr_null(loop_free(loop));
	ck_assert_uint_eq(open_fds(), fds_before);
}

/* ---- tasks ---- */

START_TEST(tasks_run_in_order)
{
	loop_task_add(loop, &task_a);
	loop_task_add(loop, &task_b);
	loop_task_add(loop, &task_a); /* stays where it is */
	loop_task_add(loop, &task_c);
	run_turn(loop);
	ck_assert_str_eq(story, "abc");
	run_turn(loop);
	ck_assert_str_eq(story, "abc");
}
END_TEST

START_TEST(cancelled_tasks_do_not_run)
{
	loop_task_add(loop, &task_a);
	loop_task_add(loop, &task_b);
	loop_task_add(loop, &task_c);
	loop_task_cancel(loop, &task_b);
	loop_task_cancel(loop, &task_b);
	ck_assert(!task_b.queued);
	run_turn(loop);
	ck_assert_str_eq(story, "ac");
	loop_task_cancel(loop, &task_a); /* not queued: nothing */
	loop_task_add(loop, &task_b);
	run_turn(loop);
	ck_assert_str_eq(story, "acb");
}
END_TEST

static void add_b_and_self_once(void *ctx)
{
	tell('x');
	loop_task_add(loop, &task_b);
	if (strlen(story) < 4)
		loop_task_add(loop, ctx);
}

START_TEST(tasks_of_tasks_run_in_the_same_turn)
{
	struct loop_task self = { .fn = add_b_and_self_once };

	self.ctx = &self;
	loop_task_add(loop, &self);
	loop_task_add(loop, &task_c);
	run_turn(loop);
	ck_assert_str_eq(story, "xcbxb");
}
END_TEST

static void cancel_c(void *ctx)
{
	(void)ctx;
	tell('x');
	loop_task_cancel(loop, &task_c);
}

START_TEST(task_may_cancel_a_later_one)
{
	struct loop_task canceller = { .fn = cancel_c };

	loop_task_add(loop, &canceller);
	loop_task_add(loop, &task_c);
	loop_task_add(loop, &task_a);
	run_turn(loop);
	ck_assert_str_eq(story, "xa");
}
END_TEST

START_TEST(stop_before_run_runs_the_tasks)
{
	loop_task_add(loop, &task_a);
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_str_eq(story, "a");
}
END_TEST

/* ---- descriptors ---- */

static void on_ready_add_task(void *ctx, int fd, unsigned ready)
{
	char byte;

	ck_assert_uint_eq(ready, LOOP_READ);
	ck_assert_int_eq(read(fd, &byte, 1), 1);
	tell(byte);
	loop_task_add(loop, ctx);
}

START_TEST(tasks_come_after_all_callbacks_of_the_turn)
{
	ck_assert_int_eq(loop_fd_init(loop, &watch_a, pair_a[0], on_ready_add_task, &task_a), 0);
	ck_assert_int_eq(loop_fd_init(loop, &watch_b, pair_b[0], on_ready_add_task, &task_b), 0);
	ck_assert_int_eq(loop_fd_want(&watch_a, LOOP_READ), 0);
	ck_assert_int_eq(loop_fd_want(&watch_b, LOOP_READ), 0);
	ck_assert_int_eq(write(pair_a[1], "1", 1), 1);
	ck_assert_int_eq(write(pair_b[1], "1", 1), 1);
	run_turn(loop);
	ck_assert_uint_eq(strlen(story), 4);
	ck_assert_int_eq(strncmp(story, "11", 2), 0);
	ck_assert_ptr_nonnull(strchr(story, 'a'));
	ck_assert_ptr_nonnull(strchr(story, 'b'));
}
END_TEST

static void on_ready_tell(void *ctx, int fd, unsigned ready)
{
	(void)ctx;
	(void)fd;
	ck_assert(ready == LOOP_READ || ready == LOOP_WRITE);
	tell(ready == LOOP_READ ? 'r' : 'w');
}

START_TEST(watches_exactly_what_is_wanted)
{
	ck_assert_int_eq(loop_fd_init(loop, &watch_a, pair_a[0], on_ready_tell, NULL), 0);
	ck_assert_int_eq(write(pair_a[1], "1", 1), 1);
	run_turn(loop);
	ck_assert_str_eq(story, "");
	ck_assert_int_eq(loop_fd_want(&watch_a, LOOP_READ), 0);
	run_turn(loop);
	ck_assert_str_eq(story, "r");
	run_turn(loop); /* level triggered */
	ck_assert_str_eq(story, "rr");
	ck_assert_int_eq(loop_fd_want(&watch_a, LOOP_WRITE), 0);
	run_turn(loop);
	ck_assert_str_eq(story, "rrw");
	ck_assert_int_eq(loop_fd_want(&watch_a, LOOP_READ | LOOP_WRITE), 0);
	run_turn(loop);
	ck_assert_uint_eq(strlen(story), 5);
	ck_assert_int_eq(loop_fd_want(&watch_a, 0), 0);
	run_turn(loop);
	ck_assert_uint_eq(strlen(story), 5);
}
END_TEST

static void on_ready_end_both(void *ctx, int fd, unsigned ready)
{
	(void)ctx;
	(void)fd;
	(void)ready;
	tell('e');
	loop_fd_done(&watch_a);
	loop_fd_done(&watch_b);
}

START_TEST(done_inside_a_callback_silences_the_other)
{
	ck_assert_int_eq(loop_fd_init(loop, &watch_a, pair_a[0], on_ready_end_both, NULL), 0);
	ck_assert_int_eq(loop_fd_init(loop, &watch_b, pair_b[0], on_ready_end_both, NULL), 0);
	ck_assert_int_eq(loop_fd_want(&watch_a, LOOP_READ | LOOP_WRITE), 0);
	ck_assert_int_eq(loop_fd_want(&watch_b, LOOP_READ | LOOP_WRITE), 0);
	ck_assert_int_eq(write(pair_a[1], "1", 1), 1);
	ck_assert_int_eq(write(pair_b[1], "1", 1), 1);
	run_turn(loop);
	run_turn(loop);
	ck_assert_str_eq(story, "e");
}
END_TEST

START_TEST(hang_up_is_reported_as_wanted)
{
	ck_assert_int_eq(loop_fd_init(loop, &watch_a, pair_a[0], on_ready_tell, NULL), 0);
	ck_assert_int_eq(loop_fd_want(&watch_a, LOOP_READ), 0);
	close(pair_a[1]);
	pair_a[1] = -1;
	run_turn(loop);
	ck_assert_str_eq(story, "r");
}
END_TEST

START_TEST(what_cannot_be_watched_is_an_error)
{
	struct loop_fd file;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(loop_fd_init(loop, &file, fd, on_ready_tell, NULL), 0);
	ck_assert_int_eq(loop_fd_want(&file, LOOP_READ), -EPERM);
	ck_assert_uint_eq(file.want, 0);
	loop_fd_done(&file);
	loop_fd_done(&file);
	close(fd);
}
END_TEST

/* ---- timers ---- */

static void tell_and_stop_at_b(void *ctx)
{
	tell_text(ctx);
	if (*(const char *)ctx == 'b')
		loop_stop(loop);
}

START_TEST(timers_run_in_order_and_once)
{
	ck_assert_int_eq(loop_timer_init(loop, &timer_b, tell_and_stop_at_b, letter_b), 0);
	ck_assert_int_eq(loop_timer_init(loop, &timer_a, tell_and_stop_at_b, letter_a), 0);
	loop_timer_set(&timer_b, 40);
	loop_timer_set(&timer_a, 5);
	run_until_stopped(loop, "timer b");
	ck_assert_str_eq(story, "ab");
	run_turn(loop);
	ck_assert_str_eq(story, "ab");
}
END_TEST

START_TEST(timers_replace_and_clear)
{
	ck_assert_int_eq(loop_timer_init(loop, &timer_b, tell_and_stop_at_b, letter_b), 0);
	ck_assert_int_eq(loop_timer_init(loop, &timer_a, tell_and_stop_at_b, letter_a), 0);
	loop_timer_set(&timer_a, 0);
	loop_timer_set(&timer_b, 3600 * 1000);
	loop_timer_set(&timer_b, 10); /* replaces the hour */
	loop_timer_clear(&timer_a);
	loop_timer_clear(&timer_a);
	run_until_stopped(loop, "timer b");
	ck_assert_str_eq(story, "b");
}
END_TEST

static void again_until_five(void *ctx)
{
	tell('t');
	if (strlen(story) < 5)
		loop_timer_set(ctx, 1);
	else
		loop_stop(loop);
}

START_TEST(timer_may_set_itself_again)
{
	ck_assert_int_eq(loop_timer_init(loop, &timer_a, again_until_five, &timer_a), 0);
	loop_timer_set(&timer_a, 1);
	run_until_stopped(loop, "the fifth time");
	ck_assert_str_eq(story, "ttttt");
}
END_TEST

static void on_ready_nothing(void *ctx, int fd, unsigned ready)
{
	(void)ctx;
	(void)fd;
	(void)ready;
}

/* Logic that asks the clock inside its timer must find the time come. A descriptor that is always
 * ready keeps the loop turning, so that it looks at its timers all the time. */
START_TEST(timers_are_never_early)
{
	uint64_t due;

	ck_assert_int_eq(loop_timer_init(loop, &timer_b, tell_and_stop_at_b, letter_b), 0);
	ck_assert_int_eq(loop_fd_init(loop, &watch_a, pair_a[0], on_ready_nothing, NULL), 0);
	ck_assert_int_eq(loop_fd_want(&watch_a, LOOP_WRITE), 0);
	for (unsigned ms = 1; ms < 40; ms += 3) {
		/* Away from the kernel's tick, which the last timer may have ended on. */
		due = clock_now(&clock_system) + 3;
		while (clock_now(&clock_system) < due)
			;
		due = clock_now(&clock_system) + ms;
		loop_timer_set(&timer_b, ms);
		run_until_stopped(loop, "timer b");
		ck_assert_uint_ge(clock_now(&clock_system), due);
	}
}
END_TEST

static void done_with_self(void *ctx)
{
	tell('d');
	loop_timer_done(ctx);
	loop_stop(loop);
}

START_TEST(timer_may_end_itself)
{
	ck_assert_int_eq(loop_timer_init(loop, &timer_a, done_with_self, &timer_a), 0);
	loop_timer_set(&timer_a, 0);
	run_until_stopped(loop, "the timer");
	ck_assert_str_eq(story, "d");
	loop_timer_clear(&timer_a); /* after done: nothing */
}
END_TEST

/* ---- signals ---- */

static void on_signal(void *ctx, int signo)
{
	(void)ctx;
	tell(signo == SIGUSR1 ? '1' : '2');
	if (signo == SIGUSR2)
		loop_stop(loop);
}

START_TEST(signals_come_as_callbacks)
{
	struct loop_signal one, two;

	ck_assert_int_eq(loop_signal_init(loop, &one, SIGUSR1, on_signal, NULL), 0);
	ck_assert_int_eq(loop_signal_init(loop, &two, SIGUSR2, on_signal, NULL), 0);
	raise(SIGUSR1);
	run_turn(loop);
	ck_assert_str_eq(story, "1");
	raise(SIGUSR1);
	run_turn(loop);
	raise(SIGUSR2);
	run_until_stopped(loop, "SIGUSR2");
	ck_assert_str_eq(story, "112");
	loop_signal_done(&one);
	loop_signal_done(&one);
	loop_signal_done(&two);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop");
	TCase *c = tcase_create("loop");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, tasks_run_in_order);
	tcase_add_test(c, cancelled_tasks_do_not_run);
	tcase_add_test(c, tasks_of_tasks_run_in_the_same_turn);
	tcase_add_test(c, task_may_cancel_a_later_one);
	tcase_add_test(c, stop_before_run_runs_the_tasks);
	tcase_add_test(c, tasks_come_after_all_callbacks_of_the_turn);
	tcase_add_test(c, watches_exactly_what_is_wanted);
	tcase_add_test(c, done_inside_a_callback_silences_the_other);
	tcase_add_test(c, hang_up_is_reported_as_wanted);
	tcase_add_test(c, what_cannot_be_watched_is_an_error);
	tcase_add_test(c, timers_run_in_order_and_once);
	tcase_add_test(c, timers_replace_and_clear);
	tcase_add_test(c, timer_may_set_itself_again);
	tcase_add_test(c, timers_are_never_early);
	tcase_add_test(c, timer_may_end_itself);
	tcase_add_test(c, signals_come_as_callbacks);
	suite_add_tcase(s, c);
	return suite_run(s);
}
