/* SPDX-License-Identifier: MIT */
/* A payload from a file or from stdin, as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum {
	ROOM = 64 * 1024,
	MOST = 64 * 1024 * 1024, /* no daemon takes that much; what it takes is checked later */
};

/* Waits for stdin until the end of -W. Return: 0, or the exit code. */
static int wait_for(const struct cli *cli, int fd, const char *name)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t left;

	while (cli->end_ms >= 0) {
		left = cli->end_ms - cli_now_ms();
		if (left <= 0) {
			cli_error("%s has not ended within %g s (-W)", name, cli->wait_s);
			return CLI_TIMEOUT;
		}
		if (poll(&p, 1, left > INT_MAX ? INT_MAX : (int)left) > 0)
			break;
	}
	return 0;
}

static int read_all(const struct cli *cli, int fd, const char *name, struct cli_bytes *ret)
{
	size_t cap = 0;
	ssize_t n;
	char *p;
	int r;

	for (;;) {
		if (cap - ret->size < ROOM) {
			cap = 2 * cap + ROOM;
			p = realloc(ret->p, cap);
			if (!p) {
				cli_error("out of memory");
				return CLI_ERROR;
			}
			ret->p = p;
		}
		r = wait_for(cli, fd, name);
		if (r != 0)
			return r;
		n = read(fd, ret->p + ret->size, cap - ret->size);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0) {
			cli_error("cannot read %s: %s", name, rtb_strerror(-errno));
			return CLI_ERROR;
		}
		if (n == 0)
			return 0;
		ret->size += (size_t)n;
		if (ret->size > MOST) {
			cli_error("cannot send %s: it is larger than 64 MiB", name);
			return CLI_REFUSED;
		}
	}
}

int cli_read_file(const struct cli *cli, const char *path, struct cli_bytes *ret)
{
	bool is_stdin = strcmp(path, "-") == 0;
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), r;

	if (fd < 0) {
		cli_error("cannot read %s: %s", path, rtb_strerror(-errno));
		return CLI_ERROR;
	}
	r = read_all(cli, fd, is_stdin ? "stdin" : path, ret);
	if (!is_stdin)
		(void)close(fd);
	return r;
}
