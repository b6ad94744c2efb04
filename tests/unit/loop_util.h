/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * For tests around a loop: single turns, waiting for an observed event with a deadline, and the
 * count of open descriptors.
 */
#include <check.h>
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/loop.h"
#include "suite.h"

enum { WAIT_MAX_MS = 60000 }; /* generous: sanitizers on a busy machine */

static inline unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline void turn_stop(void *loop)
{
	loop_stop(loop);
}

/* Everything that is ready now calls back, then the tasks run. Does not wait. */
static inline void run_turn(struct loop *l)
{
	struct loop_timer t;

	ck_assert_int_eq(loop_timer_init(l, &t, turn_stop, l), 0);
	loop_timer_set(&t, 0);
	ck_assert_int_eq(loop_run(l), 0);
	loop_timer_done(&t);
}

static inline void wait_too_long(void *what)
{
	ck_abort_msg("waited too long for: %s", (const char *)what);
}

/* Runs until somebody calls loop_stop(). */
static inline void run_until_stopped(struct loop *l, const char *what)
{
	struct loop_timer t;

	ck_assert_int_eq(loop_timer_init(l, &t, wait_too_long, (void *)(size_t)what), 0);
	loop_timer_set(&t, WAIT_MAX_MS);
	ck_assert_int_eq(loop_run(l), 0);
	loop_timer_done(&t);
}
