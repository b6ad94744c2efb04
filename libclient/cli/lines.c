/* SPDX-License-Identifier: MIT */
/* stdin, line by line, read only when the caller has use for it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum {
	LINE_MOST = 16 * 1024 * 1024, /* more than any daemon takes */
	READ_SIZE = 64 * 1024,
};

int cli_lines_read(struct cli_lines *l)
{
	char *buf;
	ssize_t n;

	if (l->start > 0) {
		memmove(l->buf, l->buf + l->start, l->end - l->start);
		l->end -= l->start;
		l->start = 0;
	}
	if (l->cap - l->end < READ_SIZE) {
		buf = realloc(l->buf, 2 * l->cap + READ_SIZE);
		if (!buf) {
			cli_error("out of memory");
			return CLI_ERROR;
		}
		l->buf = buf;
		l->cap = 2 * l->cap + READ_SIZE;
	}
	n = read(STDIN_FILENO, l->buf + l->end, l->cap - l->end);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		cli_error("cannot read stdin: %s", rtb_strerror(-errno));
		return CLI_ERROR;
	}
	l->end += (size_t)n;
	l->is_eof = n == 0;
	return 0;
}

static const char *find_end(const struct cli_lines *l)
{
	return l->start < l->end ? memchr(l->buf + l->start, '\n', l->end - l->start) : NULL;
}

bool cli_lines_peek(struct cli_lines *l, const char **ret, size_t *ret_size)
{
	const char *nl = find_end(l);

	if (l->start == l->end || (!nl && !l->is_eof))
		return false;
	*ret = l->buf + l->start;
	*ret_size = nl ? (size_t)(nl - *ret) : l->end - l->start;
	l->n_peeked = *ret_size + (nl ? 1 : 0);
	return true;
}

void cli_lines_take(struct cli_lines *l)
{
	l->start += l->n_peeked;
	l->n_peeked = 0;
	l->n++;
}

bool cli_lines_is_full(const struct cli_lines *l)
{
	return l->is_eof || find_end(l);
}

bool cli_lines_is_over(const struct cli_lines *l)
{
	return l->is_eof && l->start == l->end;
}

int cli_lines_check(const struct cli_lines *l)
{
	if (l->end - l->start <= LINE_MOST || find_end(l))
		return 0;
	cli_error("line %llu is longer than 16 MiB", (unsigned long long)l->n + 1);
	return CLI_REFUSED;
}

bool cli_is_blank(const char *line, size_t size)
{
	while (size > 0 && (*line == ' ' || *line == '\t' || *line == '\r')) {
		line++;
		size--;
	}
	return size == 0;
}
