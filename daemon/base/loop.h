/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The loop of thread M: the one door to libevent. Descriptors, timers, signals, and work for the
 * turn's end.
 *
 * A turn is: all ready descriptors, due timers and signals call back; then the tasks that these
 * have scheduled run, in the order of scheduling, until none is left. Queues are flushed and dead
 * objects freed there, so nothing is freed inside its own callback.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct loop;
struct event;

struct loop *loop_new(void); /* NULL without memory or descriptors */
struct loop *loop_free(struct loop *l);

/* Runs until loop_stop(). Return: 0; a negative errno when the loop itself breaks (a timer that
 * could not be kept counts as that). */
int loop_run(struct loop *l);
/* The turn is brought to its end first, tasks included. Before loop_run(): one pass of tasks. */
void loop_stop(struct loop *l);

/* ---- work at the end of this turn ---- */

struct loop_task {
	TAILQ_ENTRY(loop_task) entry;
	void (*fn)(void *ctx);
	void *ctx;
	bool queued;
};

/* A task that is queued already stays where it is. The struct belongs to the caller and must
 * outlive the turn, or be cancelled. */
void loop_task_add(struct loop *l, struct loop_task *t);
void loop_task_cancel(struct loop *l, struct loop_task *t);

/* ---- descriptors ---- */

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

struct loop_fd {
	struct event *read_event, *write_event;
	void (*fn)(void *ctx, int fd, unsigned ready);
	void *ctx;
	int fd;
	unsigned want;
};

/* Watches nothing yet. `fn` is called with LOOP_READ or LOOP_WRITE, once for each; an error or a
 * hang-up is reported as what is wanted. It may call any loop_fd_*() of its own.
 * Return: 0, -ENOMEM. */
int loop_fd_init(struct loop *l, struct loop_fd *f, int fd,
		 void (*fn)(void *ctx, int fd, unsigned ready), void *ctx);
/* Watches exactly `want` from now on; cheap when nothing changes. Return: 0; a negative errno when
 * the kernel takes no more watches, the old ones then still stand. */
int loop_fd_want(struct loop_fd *f, unsigned want);
/* Stops watching and frees what init allocated; the descriptor itself is the caller's. A zeroed
 * struct is fine. */
void loop_fd_done(struct loop_fd *f);

/* ---- timers (one shot) ---- */

struct loop_timer {
	struct event *event;
	struct loop *loop;
	void (*fn)(void *ctx);
	void *ctx;
};

int loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(void *ctx), void *ctx);
void loop_timer_set(struct loop_timer *t, uint64_t in_ms); /* replaces what was set */
void loop_timer_clear(struct loop_timer *t);
void loop_timer_done(struct loop_timer *t);

/* ---- signals ---- */

struct loop_signal {
	struct event *event;
	void (*fn)(void *ctx, int signo);
	void *ctx;
};

int loop_signal_init(struct loop *l, struct loop_signal *s, int signo,
		     void (*fn)(void *ctx, int signo), void *ctx);
void loop_signal_done(struct loop_signal *s);
