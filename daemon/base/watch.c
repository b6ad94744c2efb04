/* SPDX-License-Identifier: MIT */
#include "base/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"

enum {
	STEPS_MAX = 64,
	READS_MAX =
		16, /* in one turn: in a folder that others write to, there may always be more */
};

#define EVENTS                                                                              \
	(IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB | \
	 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

/* A name that was looked up in a folder. */
struct step {
	int wd;
	char *name;
};

struct watch_file {
	TAILQ_ENTRY(watch_file) entry;
	struct watch *watch;
	char *path; /* absolute */
	struct step steps[STEPS_MAX];
	unsigned n_steps;
	bool dirty;
	uint64_t first_ms; /* of the events since the last call */
	struct loop_timer timer;
	void (*fn)(void *ctx);
	void *ctx;
};

struct watch {
	struct loop *loop;
	int fd;
	struct loop_fd loop_fd;
	TAILQ_HEAD(, watch_file) files;
};

/* ---- the way to a file ---- */

static bool is_used(const struct watch *w, int wd)
{
	const struct watch_file *f;

	TAILQ_FOREACH(f, &w->files, entry) {
		for (unsigned i = 0; i < f->n_steps; i++) {
			if (f->steps[i].wd == wd)
				return true;
		}
	}
	return false;
}

/* The kernel has one watch of a folder for all of us. */
static void drop_steps(struct watch_file *f, struct step *steps, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!is_used(f->watch, steps[i].wd))
			(void)inotify_rm_watch(f->watch->fd, steps[i].wd);
		free(steps[i].name);
	}
}

/* Watches `folder` for `name`, before that is looked at: what comes later is an event. */
static void add_step(struct watch_file *f, const char *folder, const char *name)
{
	struct step *s = &f->steps[f->n_steps];
	int wd;

	if (f->n_steps == STEPS_MAX)
		return;
	wd = inotify_add_watch(f->watch->fd, folder, EVENTS);
	if (wd < 0) {
		if (errno == ENOSPC)
			log_warning("watching %s: the kernel's limit of watches is reached "
				    "(fs.inotify.max_user_watches)",
				    f->path);
		return;
	}
	s->name = strdup(name);
	if (s->name) {
		s->wd = wd;
		f->n_steps++;
	}
}

/* One name of the path. @at: the folder, ends with a slash. @rest: what comes behind it; a link's target
 * is put in front of it. Return: whether to go on. */
static bool walk_name(struct watch_file *f, char *at, char *rest, unsigned *links)
{
	char name[NAME_MAX + 1], link[PATH_MAX], both[PATH_MAX];
	size_t n = strcspn(rest, "/"), end = strlen(at);
	ssize_t size;

	if (n > NAME_MAX)
		return false;
	memcpy(name, rest, n);
	name[n] = '\0';
	memmove(rest, rest + n, strlen(rest + n) + 1);
	while (*rest == '/')
		memmove(rest, rest + 1, strlen(rest));
	if (strcmp(name, ".") == 0 || n == 0)
		return true;
	if (strcmp(name, "..") == 0) {
		/* Links have been followed up to here: it is what stands in front. */
		while (end > 1 && at[end - 2] != '/')
			end--;
		at[end > 1 ? end - 1 : 1] = '\0';
		return true;
	}
	add_step(f, at, name);
	if (end + n + 1 >= PATH_MAX)
		return false;
	memcpy(at + end, name, n + 1);
	size = readlink(at, link, sizeof(link) - 1);
	if (size < 0) {
		at[end + n] = '/';
		at[end + n + 1] = '\0';
		return errno == EINVAL; /* it is there, and no link */
	}
	link[size] = '\0';
	if (++*links > WATCH_LINKS_MAX || (size_t)snprintf(both, sizeof(both), "%s%s%s", link,
							   *rest ? "/" : "", rest) >= sizeof(both))
		return false;
	at[link[0] == '/' ? 1 : end] = '\0';
	n = strspn(both, "/");
	memmove(rest, both + n, strlen(both + n) + 1);
	return true;
}

static void walk(struct watch_file *f)
{
	struct step old[STEPS_MAX];
	unsigned n_old = f->n_steps, links = 0;
	char at[PATH_MAX + 1] = "/", rest[PATH_MAX];

	memcpy(old, f->steps, sizeof(old));
	f->n_steps = 0;
	snprintf(rest, sizeof(rest), "%s", f->path + strspn(f->path, "/"));
	while (*rest && walk_name(f, at, rest, &links))
		;
	drop_steps(f, old, n_old);
}

/* ---- events ---- */

/* A file that was made and is still written to makes no events before it is closed, but its time goes
 * on. */
static bool is_being_written(const struct watch_file *f)
{
	struct timespec now;
	struct stat st;
	int64_t age_ms;

	if (clock_now(&clock_system) >= f->first_ms + WATCH_LATE_MS || stat(f->path, &st) < 0 ||
	    clock_gettime(CLOCK_REALTIME, &now) < 0)
		return false;
	age_ms = (int64_t)(now.tv_sec - st.st_mtim.tv_sec) * 1000 +
		 (now.tv_nsec - st.st_mtim.tv_nsec) / 1000000;
	return age_ms >= 0 && age_ms < WATCH_QUIET_MS;
}

static void watch_on_timer(void *ctx)
{
	struct watch_file *f = ctx;

	if (is_being_written(f)) {
		loop_timer_set(&f->timer, WATCH_QUIET_MS);
		return;
	}
	f->dirty = false;
	/* First the way, then the reader: what changes behind its back is an event again. */
	walk(f);
	f->fn(f->ctx);
}

static void mark(struct watch_file *f)
{
	uint64_t now = clock_now(&clock_system), late;

	if (!f->dirty)
		f->first_ms = now;
	f->dirty = true;
	late = f->first_ms + WATCH_LATE_MS;
	loop_timer_set(&f->timer, late <= now                   ? 0
				  : late - now < WATCH_QUIET_MS ? late - now
								: WATCH_QUIET_MS);
}

static bool concerns(const struct watch_file *f, const struct inotify_event *e)
{
	/* Events were lost, or the folder itself is gone, or another one now. */
	if (e->mask & IN_Q_OVERFLOW)
		return true;
	for (unsigned i = 0; i < f->n_steps; i++) {
		if (f->steps[i].wd != e->wd)
			continue;
		if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED))
			return true;
		if (e->len > 0 && strcmp(e->name, f->steps[i].name) == 0)
			return true;
	}
	return false;
}

static void watch_on_fd(void *ctx, int fd, unsigned ready)
{
	char data[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct watch *w = ctx;
	const struct inotify_event *e;
	struct watch_file *f;
	ssize_t n;

	(void)ready;
	/* What is left makes the descriptor ready in the next turn. */
	for (unsigned i = 0; i < READS_MAX && (n = read(fd, data, sizeof(data))) > 0; i++) {
		for (char *p = data; p < data + n; p += sizeof(*e) + e->len) {
			e = (const struct inotify_event *)p;
			TAILQ_FOREACH(f, &w->files, entry) {
				if (concerns(f, e))
					mark(f);
			}
		}
	}
}

/* ---- birth and death ---- */

int watch_new(struct loop *loop, struct watch **ret)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	TAILQ_INIT(&w->files);
	w->loop = loop;
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	r = w->fd < 0 ? -errno : loop_fd_init(loop, &w->loop_fd, w->fd, watch_on_fd, w);
	if (r == 0)
		r = loop_fd_want(&w->loop_fd, LOOP_READ);
	if (r < 0) {
		watch_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

struct watch *watch_free(struct watch *w)
{
	if (w) {
		loop_fd_done(&w->loop_fd);
		closep(&w->fd);
		free(w);
	}
	return NULL;
}

static char *absolute(const char *path)
{
	CLEANUP(freep) char *here = NULL;
	char *both = NULL;

	if (*path == '/')
		return strdup(path);
	here = getcwd(NULL, 0);
	if (here && asprintf(&both, "%s/%s", here, path) < 0)
		both = NULL;
	return both;
}

int watch_add(struct watch *w, const char *path, void (*fn)(void *ctx), void *ctx,
	      struct watch_file **ret)
{
	struct watch_file *f = calloc(1, sizeof(*f));
	int r = -ENOMEM;

	if (!f)
		return -ENOMEM;
	f->watch = w;
	f->fn = fn;
	f->ctx = ctx;
	f->path = absolute(path);
	if (f->path)
		r = strlen(f->path) < PATH_MAX
			    ? loop_timer_init(w->loop, &f->timer, watch_on_timer, f)
			    : -ENAMETOOLONG;
	if (r < 0) {
		free(f->path);
		free(f);
		return r;
	}
	TAILQ_INSERT_TAIL(&w->files, f, entry);
	walk(f);
	*ret = f;
	return 0;
}

struct watch_file *watch_remove(struct watch_file *f)
{
	unsigned n;

	if (!f)
		return NULL;
	TAILQ_REMOVE(&f->watch->files, f, entry);
	n = f->n_steps;
	f->n_steps = 0;
	drop_steps(f, f->steps, n);
	loop_timer_done(&f->timer);
	free(f->path);
	free(f);
	return NULL;
}
