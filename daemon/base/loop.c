/* SPDX-License-Identifier: MIT */
#include "base/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "base/log.h"

struct loop {
	struct event_base *base;
	TAILQ_HEAD(, loop_task) tasks;
	bool stop;
	int error; /* what broke the loop, 0 if nothing */
};

static void loop_on_log(int severity, const char *text)
{
	if (severity >= EVENT_LOG_ERR)
		log_error("event loop: %s", text);
	else if (severity == EVENT_LOG_WARN)
		log_warning("event loop: %s", text);
	else
		log_debug("event loop: %s", text);
}

static struct event_base *loop_base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;
	int r;

	if (!config)
		return NULL;
	/* Precise: the coarse clock is up to 4 ms late, so that timers would come before their time
	 * by base/clock.h. Without the environment: EVENT_* variables are no configuration of ours.
	 */
	r = event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER |
						  EVENT_BASE_FLAG_IGNORE_ENV |
						  EVENT_BASE_FLAG_NOLOCK);
	base = r == 0 ? event_base_new_with_config(config) : NULL;
	event_config_free(config);
	return base;
}

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	event_set_log_callback(loop_on_log);
	TAILQ_INIT(&l->tasks);
	l->base = loop_base_new();
	if (!l->base) {
		free(l);
		return NULL;
	}
	return l;
}

struct loop *loop_free(struct loop *l)
{
	if (l) {
		event_base_free(l->base);
		free(l);
	}
	return NULL;
}

/* ---- turns and tasks ---- */

static void loop_run_tasks(struct loop *l)
{
	struct loop_task *t;

	while ((t = TAILQ_FIRST(&l->tasks))) {
		/* Taken off first: the callback may queue the task again, or free it. */
		TAILQ_REMOVE(&l->tasks, t, entry);
		t->queued = false;
		t->fn(t->ctx);
	}
}

int loop_run(struct loop *l)
{
	int r;

	for (;;) {
		loop_run_tasks(l);
		if (l->stop || l->error)
			break;
		if (event_base_loop(l->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY) < 0)
			l->error = errno ? -errno : -EIO;
	}
	r = l->error;
	l->stop = false;
	return r;
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

void loop_task_add(struct loop *l, struct loop_task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	TAILQ_INSERT_TAIL(&l->tasks, t, entry);
}

void loop_task_cancel(struct loop *l, struct loop_task *t)
{
	if (!t->queued)
		return;
	t->queued = false;
	TAILQ_REMOVE(&l->tasks, t, entry);
}

/* ---- descriptors ---- */

static void loop_on_fd(evutil_socket_t fd, short what, void *arg)
{
	struct loop_fd *f = arg;

	f->fn(f->ctx, fd, what & EV_READ ? LOOP_READ : LOOP_WRITE);
}

int loop_fd_init(struct loop *l, struct loop_fd *f, int fd,
		 void (*fn)(void *ctx, int fd, unsigned ready), void *ctx)
{
	*f = (struct loop_fd){ .fn = fn, .ctx = ctx, .fd = fd };
	f->read_event = event_new(l->base, fd, EV_READ | EV_PERSIST, loop_on_fd, f);
	f->write_event = event_new(l->base, fd, EV_WRITE | EV_PERSIST, loop_on_fd, f);
	if (!f->read_event || !f->write_event) {
		loop_fd_done(f);
		return -ENOMEM;
	}
	return 0;
}

static int loop_fd_switch(struct loop_fd *f, struct event *e, unsigned bit, unsigned want)
{
	if (((f->want ^ want) & bit) == 0)
		return 0;
	errno = 0;
	if ((want & bit ? event_add(e, NULL) : event_del(e)) < 0)
		return errno ? -errno : -ENOMEM;
	f->want ^= bit;
	return 0;
}

int loop_fd_want(struct loop_fd *f, unsigned want)
{
	int r = loop_fd_switch(f, f->read_event, LOOP_READ, want);

	return r < 0 ? r : loop_fd_switch(f, f->write_event, LOOP_WRITE, want);
}

void loop_fd_done(struct loop_fd *f)
{
	if (f->read_event)
		event_free(f->read_event);
	if (f->write_event)
		event_free(f->write_event);
	f->read_event = f->write_event = NULL;
	f->want = 0;
}

/* ---- timers ---- */

static void loop_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	(void)fd;
	(void)what;
	t->fn(t->ctx);
}

int loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(void *ctx), void *ctx)
{
	*t = (struct loop_timer){ .loop = l, .fn = fn, .ctx = ctx };
	t->event = evtimer_new(l->base, loop_on_timer, t);
	return t->event ? 0 : -ENOMEM;
}

void loop_timer_set(struct loop_timer *t, uint64_t in_ms)
{
	struct timeval in = { .tv_sec = (time_t)(in_ms / 1000),
			      .tv_usec = (suseconds_t)(in_ms % 1000 * 1000) };

	/* Only a heap that cannot grow by one pointer fails here. A deadline that never comes would
	 * be worse than a restart. */
	if (event_add(t->event, &in) < 0) {
		log_error("event loop: no memory for a timer, stopping");
		t->loop->error = -ENOMEM;
	}
}

void loop_timer_clear(struct loop_timer *t)
{
	if (t->event)
		event_del(t->event);
}

void loop_timer_done(struct loop_timer *t)
{
	if (t->event)
		event_free(t->event);
	t->event = NULL;
}

/* ---- signals ---- */

static void loop_on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct loop_signal *s = arg;

	(void)what;
	s->fn(s->ctx, signo);
}

int loop_signal_init(struct loop *l, struct loop_signal *s, int signo,
		     void (*fn)(void *ctx, int signo), void *ctx)
{
	*s = (struct loop_signal){ .fn = fn, .ctx = ctx };
	s->event = evsignal_new(l->base, signo, loop_on_signal, s);
	if (!s->event)
		return -ENOMEM;
	if (event_add(s->event, NULL) < 0) {
		loop_signal_done(s);
		return -EINVAL;
	}
	return 0;
}

void loop_signal_done(struct loop_signal *s)
{
	if (s->event)
		event_free(s->event);
	s->event = NULL;
}
