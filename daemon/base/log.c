/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 1024 };

static const struct {
	enum log_level level;
	const char *name;
} level_names[] = {
	{ LOG_LEVEL_ERROR, "error" },   { LOG_LEVEL_WARNING, "warning" },
	{ LOG_LEVEL_NOTICE, "notice" }, { LOG_LEVEL_INFO, "info" },
	{ LOG_LEVEL_DEBUG, "debug" },
};

static _Atomic int log_level_now = LOG_LEVEL_NOTICE;
static bool log_to_journal;

void log_init(void)
{
	log_to_journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

bool log_wants(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(*level_names); i++) {
		if (strcmp(name, level_names[i].name) == 0) {
			*ret = level_names[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

const char *log_level_name(enum log_level level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(*level_names); i++) {
		if (level_names[i].level == level)
			return level_names[i].name;
	}
	return "?";
}

static size_t log_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	char when[32];
	int n;

	if (log_to_journal) {
		n = snprintf(line, size, "<%d>", (int)level);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(line, size, "%s.%03ldZ %-7s ", when, now.tv_nsec / 1000000,
			     log_level_name(level));
	}
	return n > 0 ? (size_t)n : 0;
}

void log_linev(enum log_level level, const char *format, va_list args)
{
	char line[LOG_LINE_MAX];
	size_t start, len;
	int n;

	if (!log_wants(level))
		return;
	start = len = log_prefix(line, sizeof(line), level);
	n = vsnprintf(line + len, sizeof(line) - len - 1, format, args);
	if (n < 0)
		return;
	len += (size_t)n;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	/* What came from outside must not forge lines or colour the terminal. */
	for (size_t i = start; i < len; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
	}
	line[len++] = '\n';
	/* A log that cannot be written cannot be helped: the bridge goes on. */
	ssize_t written = write(STDERR_FILENO, line, len);
	(void)written;
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_linev(level, format, args);
	va_end(args);
}

bool log_limit_pass(struct log_limit *limit, unsigned long long now_ms, unsigned interval_ms,
		    unsigned *ret_held)
{
	if (now_ms < limit->next_ms) {
		limit->held++;
		return false;
	}
	*ret_held = limit->held;
	limit->held = 0;
	limit->next_ms = now_ms + interval_ms;
	return true;
}
