/* SPDX-License-Identifier: MIT */
#include "wire/wire_log.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"

/* What stands in front of a secret, in a URL or a header. */
static const char *const marks[] = { "apikey=", "api-key:", "apikey:", "token=", "authorization:" };

static size_t mark_at(const char *from, size_t left)
{
	for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++) {
		size_t len = strlen(marks[i]);

		if (len <= left && strncasecmp(from, marks[i], len) == 0)
			return len;
	}
	return 0;
}

void wire_log_clean(char *to, size_t size, const char *from, size_t from_size)
{
	size_t n = 0, i = 0, mark;

	while (i < from_size && n + 1 < size) {
		mark = mark_at(from + i, from_size - i);
		if (mark > 0 && n + mark + 4 < size) {
			memcpy(to + n, from + i, mark);
			memcpy(to + n + mark, "...", 3);
			n += mark + 3;
			i += mark;
			while (i < from_size && from[i] == ' ')
				i++;
			while (i < from_size && !strchr("& \t\r\n\"'", from[i]))
				i++;
		} else if (mark > 0) {
			break;
		} else {
			to[n++] = iscntrl((unsigned char)from[i]) ? ' ' : from[i];
			i++;
		}
	}
	while (n > 0 && to[n - 1] == ' ')
		n--;
	to[n] = '\0';
}

void wire_log_lws(bool error, bool starting, const char *line)
{
	enum log_level level = LOG_LEVEL_INFO;
	char clean[512];

	if (starting)
		level = error ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING;
	if (!log_wants(level))
		return;
	wire_log_clean(clean, sizeof(clean), line, strlen(line));
	log_line(level, "wire: libwebsockets: %s", clean);
}
