/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Log lines to standard error, one write(2) each, from any thread.
 *
 * Under systemd (JOURNAL_STREAM set) a line starts with its priority as `<n>`, else with time and
 * level. A message says what happened, to whom, and what is done about it. Secrets have no
 * formatter (base/secret.h).
 */
#include <stdarg.h>
#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR = 3, /* as syslog: the operator must act */
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5, /* state changes an operator wants to see: default */
	LOG_LEVEL_INFO = 6,   /* peers and channels coming and going */
	LOG_LEVEL_DEBUG = 7,  /* every frame's envelope (never payloads) */
};

/* Reads JOURNAL_STREAM; call once before threads start. */
void log_init(void);
void log_set_level(enum log_level level);
bool log_wants(enum log_level level);
/* Return: 0 and the level; -EINVAL for a name that is none of error warning notice info debug. */
int log_level_parse(const char *name, enum log_level *ret);
const char *log_level_name(enum log_level level);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_linev(enum log_level level, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                          \
	do {                                                    \
		if (log_wants(LOG_LEVEL_DEBUG))                 \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)

/* At most one line per `key` and `interval_ms`; the next one that passes says how many were held
 * back. */
struct log_limit {
	unsigned long long next_ms;
	unsigned held;
};
bool log_limit_pass(struct log_limit *limit, unsigned long long now_ms, unsigned interval_ms,
		    unsigned *ret_held);
