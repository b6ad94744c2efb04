/* SPDX-License-Identifier: MIT */
#include "base/child.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"

enum {
	DROP_BYTES = 4096,
	DROPS_MAX = 16,  /* reads of stderr in one turn */
	REAP_MS = 1000,  /* for the end of what was killed */
	OPAQUE_MIN = 32, /* bytes of a word that is no word of people's */
};

struct child {
	pid_t pid; /* 0: its end has been taken */
	int pidfd, out, err;
	struct loop_fd pid_fd, out_fd, err_fd;
	struct loop_timer timer;
	struct secret *output;
	size_t max_bytes;
	uint32_t timeout_ms;
	bool line_is_whole, term_sent, kill_sent, is_left;
	enum child_end why; /* CHILD_DONE until something else is to blame */
	int error;          /* CHILD_BROKEN */
	size_t line_size;
	struct child_result result;
	char text[128];
	void (*fn)(void *ctx, const struct child_result *result);
	void *ctx;
};

/* ---- those that cannot be ended ---- */

/* What is another user's now (sudo) or hangs in the kernel (a dead NFS server) is no more waited for,
 * but it is our child still: reaped when the next one is to begin. Thread M's alone. */
static pid_t left[CHILD_LEFT_MAX];

/* Return: where there is room for another one; NULL: nowhere. */
static pid_t *reap_left(void)
{
	pid_t *room = NULL;

	for (size_t i = 0; i < CHILD_LEFT_MAX; i++) {
		if (left[i] && waitpid(left[i], NULL, WNOHANG) != 0)
			left[i] = 0;
		if (!left[i])
			room = &left[i];
	}
	return room;
}

static void leave_behind(struct child *c)
{
	pid_t *room = reap_left();

	log_warning(
		"process %d, a command, cannot be ended and is left behind; see what holds it up",
		(int)c->pid);
	if (room) /* always, as long as one runs at a time */
		*room = c->pid;
	c->pid = 0;
}

/* ---- what it says ---- */

/* Where in a word something begins that is for nobody's eyes; NULL: nowhere. */
static char *find_secret(char *word, const char *end)
{
	static const struct {
		const char *begin;
		int min; /* bytes: what is shorter tells nothing */
	} forms[] = {
		{ "eyJ", 20 }, { "sb_secret_", 11 }, { "sb_publishable_", 16 }, { "sbp_", 8 }
	};
	bool upper = false, lower = false, digit = false;
	char *at;

	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		at = memmem(word, (size_t)(end - word), forms[i].begin, strlen(forms[i].begin));
		if (at && end - at >= forms[i].min)
			return at;
	}
	for (at = word; at < end; at++) {
		upper |= isupper((unsigned char)*at) != 0;
		lower |= islower((unsigned char)*at) != 0;
		digit |= isdigit((unsigned char)*at) != 0;
	}
	return end - word >= OPAQUE_MIN && upper && lower && digit ? word : NULL;
}

/* A shell with -x repeats everything on stderr: what looks like a token or a key does not go on from
 * here. */
static void leave_out_secrets(char *line)
{
	static const char note[] = "[token]";
	char *at = line, *end, *secret;

	while (*at) {
		for (end = at; isalnum((unsigned char)*end) || (*end && strchr("-_.", *end)); end++)
			;
		secret = find_secret(at, end);
		if (secret) {
			/* What is left out is never shorter than the note. */
			memmove(secret + sizeof(note) - 1, end, strlen(end) + 1);
			memcpy(secret, note, sizeof(note) - 1);
			end = secret + sizeof(note) - 1;
		}
		at = *end ? end + 1 : end;
	}
}

static void take_line(struct child *c, const char *data, size_t size)
{
	const char *end = memchr(data, '\n', size);
	size_t n = end ? (size_t)(end - data) : size;

	if (c->line_is_whole)
		return;
	if (n > CHILD_LINE_MAX - c->line_size)
		n = CHILD_LINE_MAX - c->line_size;
	for (size_t i = 0; i < n; i++)
		c->result.line[c->line_size++] = data[i] ? data[i] : '?';
	/* An empty line says nothing: the next one counts. */
	if (c->line_size == CHILD_LINE_MAX || (end && c->line_size > 0))
		c->line_is_whole = true;
	else if (end)
		take_line(c, end + 1, size - (size_t)(end + 1 - data));
}

/* Return: whether there may be more. */
static bool read_err(struct child *c)
{
	char data[DROP_BYTES];
	ssize_t n = read(c->err, data, sizeof(data));

	if (n > 0)
		take_line(c, data, (size_t)n);
	explicit_bzero(data, sizeof(data));
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		(void)loop_fd_want(&c->err_fd, 0);
	return n > 0 || (n < 0 && errno == EINTR);
}

static void child_on_err(void *ctx, int fd, unsigned ready)
{
	struct child *c = ctx;

	(void)fd;
	(void)ready;
	for (unsigned i = 0; i < DROPS_MAX && read_err(c); i++)
		;
}

static void child_blame(struct child *c, enum child_end why, int error)
{
	if (c->why == CHILD_DONE) {
		c->why = why;
		c->error = error;
	}
}

/* It is not reaped before its end has been taken, so its number is its own until then. */
static void child_signal(struct child *c, int signo)
{
	if (c->pid <= 0)
		return;
	(void)kill(-c->pid, signo);
	if (getpgid(c->pid) != c->pid) /* it has gone to another group */
		(void)kill(c->pid, signo);
}

static void child_end_it(struct child *c, enum child_end why, int error)
{
	child_blame(c, why, error);
	if (c->term_sent)
		return;
	c->term_sent = true;
	child_signal(c, SIGTERM);
	loop_timer_set(&c->timer, CHILD_GRACE_MS);
}

/* Return: whether there may be more. */
static bool read_out(struct child *c)
{
	size_t room;
	char *to = secret_space(c->output, &room); /* one byte more than is allowed */
	ssize_t n = read(c->out, to, room);

	if (n > 0)
		secret_grow(c->output, (size_t)n);
	if (secret_size(c->output) > c->max_bytes) {
		(void)loop_fd_want(&c->out_fd, 0);
		child_end_it(c, CHILD_TOO_MUCH, 0);
		return false;
	}
	if (n < 0 && errno != EINTR && errno != EAGAIN)
		child_end_it(c, CHILD_BROKEN, -errno);
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		(void)loop_fd_want(&c->out_fd, 0);
	return n > 0 || (n < 0 && errno == EINTR);
}

static void child_on_out(void *ctx, int fd, unsigned ready)
{
	struct child *c = ctx;

	(void)fd;
	(void)ready;
	while (secret_size(c->output) <= c->max_bytes && read_out(c))
		;
}

/* ---- its end ---- */

static void judge(struct child *c, int status)
{
	if (WIFSIGNALED(status) && c->why == CHILD_DONE) {
		c->why = CHILD_SIGNAL;
		c->result.status = WTERMSIG(status);
	} else if (WIFEXITED(status) && WEXITSTATUS(status) != 0 && c->why == CHILD_DONE) {
		c->why = CHILD_STATUS;
		c->result.status = WEXITSTATUS(status);
	}
}

static void say(struct child *c)
{
	int status = c->result.status;

	switch (c->why) {
	case CHILD_DONE:
		break;
	case CHILD_STATUS:
		snprintf(c->text, sizeof(c->text), "ended with status %d%s", status,
			 status == 127   ? " (as a shell does that finds no such program)"
			 : status == 126 ? " (as a shell does that may not run the program)"
					 : "");
		break;
	case CHILD_SIGNAL:
		snprintf(c->text, sizeof(c->text), "was ended by signal %d (%s)", status,
			 strsignal(status));
		break;
	case CHILD_TIMEOUT:
		snprintf(c->text, sizeof(c->text), "took longer than %u ms and %s", c->timeout_ms,
			 c->is_left ? "cannot be ended" : "was ended");
		break;
	case CHILD_TOO_MUCH:
		snprintf(c->text, sizeof(c->text), "printed more than %zu bytes", c->max_bytes);
		break;
	case CHILD_BROKEN:
		snprintf(c->text, sizeof(c->text), "printed what could not be read: %s",
			 strerror(-c->error));
		break;
	}
}

static void finish(struct child *c, int status)
{
	(void)loop_fd_want(&c->pid_fd, 0);
	(void)loop_fd_want(&c->out_fd, 0);
	(void)loop_fd_want(&c->err_fd, 0);
	loop_timer_clear(&c->timer);
	judge(c, status);
	say(c);
	text_clean(c->result.line);
	leave_out_secrets(c->result.line);
	c->result.end = c->why;
	c->result.text = c->text;
	c->result.output = c->why == CHILD_DONE ? c->output : NULL;
	c->fn(c->ctx, &c->result);
}

static void child_on_timer(void *ctx)
{
	struct child *c = ctx;

	if (!c->term_sent) {
		child_end_it(c, CHILD_TIMEOUT, 0);
	} else if (!c->kill_sent) {
		c->kill_sent = true;
		child_signal(c, SIGKILL);
		loop_timer_set(&c->timer, CHILD_GRACE_MS);
	} else {
		leave_behind(c);
		c->is_left = true;
		finish(c, 0);
	}
}

static void child_on_end(void *ctx, int fd, unsigned ready)
{
	struct child *c = ctx;
	int status = 0;
	pid_t r;

	(void)fd;
	(void)ready;
	/* What it printed last, and then what it leaves behind; before it is reaped, or the group's
	 * number might be another's. */
	child_on_out(c, c->out, LOOP_READ);
	child_on_err(c, c->err, LOOP_READ);
	child_signal(c, c->term_sent ? SIGKILL : SIGTERM);
	do
		r = waitpid(c->pid, &status, WNOHANG);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return;
	c->pid = 0;
	if (r < 0)
		child_blame(c, CHILD_BROKEN, -errno);
	finish(c, status);
}

/* ---- its beginning ---- */

/* The daemon's environment without what is meant for the daemon alone. The strings are borrowed. */
static char **make_environ(void)
{
	static const char *const own[] = { "NOTIFY_SOCKET=", "LISTEN_", "WATCHDOG_" };
	size_t n = 0, to = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++) {
		bool is_own = false;

		for (size_t k = 0; k < sizeof(own) / sizeof(*own); k++)
			is_own |= strncmp(environ[i], own[k], strlen(own[k])) == 0;
		if (!is_own)
			env[to++] = environ[i];
	}
	return env;
}

static int make_attr(posix_spawnattr_t *attr)
{
	sigset_t all, none;

	/* What is ignored stays so over exec, and the daemon ignores SIGPIPE. */
	sigfillset(&all);
	sigdelset(&all, SIGKILL);
	sigdelset(&all, SIGSTOP);
	sigemptyset(&none);
	if (posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
						   POSIX_SPAWN_SETSIGMASK) != 0 ||
	    posix_spawnattr_setpgroup(attr, 0) != 0 ||
	    posix_spawnattr_setsigdefault(attr, &all) != 0 ||
	    posix_spawnattr_setsigmask(attr, &none) != 0)
		return -EINVAL;
	return 0;
}

static int make_actions(posix_spawn_file_actions_t *a, int out, int err)
{
	int r = posix_spawn_file_actions_addopen(a, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

	if (r == 0)
		r = posix_spawn_file_actions_adddup2(a, out, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(a, err, STDERR_FILENO);
	/* All of ours are O_CLOEXEC; a library's may not be. */
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(a, STDERR_FILENO + 1);
	return -r;
}

static int spawn(const char *command, int out, int err, pid_t *ret)
{
	const char *const argv[] = { "sh", "-c", command, NULL };
	CLEANUP(freep) char **env = make_environ();
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r;

	if (!env || posix_spawn_file_actions_init(&actions) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	r = make_attr(&attr);
	if (r == 0)
		r = make_actions(&actions, out, err);
	if (r == 0)
		r = -posix_spawn(ret, "/bin/sh", &actions, &attr, (char *const *)argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

/* Whoever started the daemon may have ignored SIGCHLD: then the kernel reaps, and no status is left. */
static void keep_ends(void)
{
	struct sigaction sa;

	if (sigaction(SIGCHLD, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN) {
		sa.sa_handler = SIG_DFL;
		(void)sigaction(SIGCHLD, &sa, NULL);
	}
}

static int start(struct child *c, const char *command)
{
	int out[2] = { -1, -1 }, err[2] = { -1, -1 }, r = 0;

	keep_ends();
	if (!reap_left())
		return -EBUSY;
	/* Only our ends must not wait: the other ones are the command's stdout and stderr. */
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ||
	    fcntl(out[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(err[0], F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	c->out = out[0];
	c->err = err[0];
	if (r == 0)
		r = spawn(command, out[1], err[1], &c->pid);
	closep(&out[1]);
	closep(&err[1]);
	if (r < 0) {
		c->pid = 0;
		return r;
	}
	c->pidfd = pidfd_open(c->pid, 0);
	return c->pidfd < 0 ? -errno : 0;
}

static int listen_to(struct child *c, struct loop *loop)
{
	int r = loop_timer_init(loop, &c->timer, child_on_timer, c);

	if (r == 0)
		r = loop_fd_init(loop, &c->out_fd, c->out, child_on_out, c);
	if (r == 0)
		r = loop_fd_init(loop, &c->err_fd, c->err, child_on_err, c);
	if (r == 0)
		r = loop_fd_init(loop, &c->pid_fd, c->pidfd, child_on_end, c);
	if (r == 0)
		r = loop_fd_want(&c->out_fd, LOOP_READ);
	if (r == 0)
		r = loop_fd_want(&c->err_fd, LOOP_READ);
	if (r == 0)
		r = loop_fd_want(&c->pid_fd, LOOP_READ);
	if (r == 0)
		loop_timer_set(&c->timer, c->timeout_ms);
	return r;
}

int child_new(struct loop *loop, const struct child_conf *conf,
	      void (*fn)(void *ctx, const struct child_result *result), void *ctx,
	      struct child **ret)
{
	struct child *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->pidfd = c->out = c->err = -1;
	c->fn = fn;
	c->ctx = ctx;
	c->max_bytes = conf->max_bytes;
	c->timeout_ms = conf->timeout_ms;
	c->output = secret_new_empty(conf->max_bytes + 1);
	r = c->output ? start(c, conf->command) : -ENOMEM;
	if (r == 0)
		r = listen_to(c, loop);
	if (r < 0) {
		child_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void reap(struct child *c)
{
	struct pollfd end = { .fd = c->pidfd, .events = POLLIN };

	child_signal(c, SIGKILL);
	/* Without a pidfd (an old kernel) it cannot be waited for with a limit. */
	if (c->pidfd >= 0 && poll(&end, 1, c->kill_sent ? 0 : REAP_MS) != 1)
		leave_behind(c);
	else
		(void)waitpid(c->pid, NULL, c->pidfd < 0 ? 0 : WNOHANG);
}

struct child *child_free(struct child *c)
{
	if (!c)
		return NULL;
	if (c->pid > 0)
		reap(c);
	loop_fd_done(&c->pid_fd);
	loop_fd_done(&c->out_fd);
	loop_fd_done(&c->err_fd);
	loop_timer_done(&c->timer);
	closep(&c->pidfd);
	closep(&c->out);
	closep(&c->err);
	secret_free(c->output);
	free(c);
	return NULL;
}
