/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * child: runs a command of the operator's and hands over what it prints.
 *
 *   /bin/sh -c COMMAND    stdin: /dev/null
 *        | stdout --------> a struct secret, at most max_bytes
 *        | stderr --------> its first line, for the log; the rest is read and dropped
 *        | end (pidfd) ---> fn(ctx, result), once, from the loop
 *
 * The command is alone in a process group, with default signals, no descriptor but those three, and
 * the daemon's environment without what speaks of the daemon's own service (NOTIFY_SOCKET, LISTEN_*,
 * WATCHDOG_*). Over its time the group gets SIGTERM, CHILD_GRACE_MS later SIGKILL; and whatever it
 * leaves running in its group when it ends gets SIGTERM: a command that runs every hour must not
 * leave a process behind each time.
 *
 * What even SIGKILL does not end within another CHILD_GRACE_MS is left behind, and fn() is called all
 * the same: whoever waits for a token goes on. It is reaped later, when the next command begins; and
 * when CHILD_LEFT_MAX are there, none begins any more: they would pile up.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/secret.h"

struct child;
struct loop;

enum {
	CHILD_GRACE_MS = 1000,
	CHILD_LINE_MAX = 200, /* bytes of the line of stderr */
	CHILD_LEFT_MAX = 4,   /* that cannot be ended */
};

enum child_end {
	CHILD_DONE,     /* status 0 */
	CHILD_STATUS,   /* another one */
	CHILD_SIGNAL,   /* ended by a signal that was not ours */
	CHILD_TIMEOUT,  /* it took longer than timeout_ms */
	CHILD_TOO_MUCH, /* it printed more than max_bytes, and was ended for it */
	CHILD_BROKEN,   /* its output could not be read */
};

/* Borrowed for the call. */
struct child_result {
	enum child_end end;
	int status;            /* CHILD_STATUS: its own; CHILD_SIGNAL: the signal's number */
	struct secret *output; /* CHILD_DONE: all of stdout; the callee may trim it */
	const char *text;      /* the end of a sentence that begins "the command"; "" if done */
	char line[CHILD_LINE_MAX + 1]; /* the first line of stderr: one clean line, and what has the
					  form of a token or a key in it, or is a long word of
					  letters of both kinds and digits, is left out; "" for
					  none */
};

struct child_conf {
	const char *command; /* borrowed for the call */
	size_t max_bytes;
	uint32_t timeout_ms;
};

/**
 * child_new() - start the command
 * @fn: called once, unless child_free() comes first; it may call child_free()
 *
 * Return: 0; a negative errno: nothing runs, @fn is not called. -EBUSY: CHILD_LEFT_MAX are left behind.
 */
int child_new(struct loop *loop, const struct child_conf *conf,
	      void (*fn)(void *ctx, const struct child_result *result), void *ctx,
	      struct child **ret);
/* What still runs is killed, and waited for: the kernel needs no time for that; for what it cannot end a
 * second at most. NULL is fine. Returns NULL. */
struct child *child_free(struct child *c);
