/* SPDX-License-Identifier: MIT */
#include "wire/wire_log.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"

/* What stands in front of a secret: in a URL, a header, or JSON. */
static const struct mark {
	const char *name;
	bool is_header; /* else not behind a mere colon: people write "bad token: ..." */
} marks[] = {
	{ "apikey", true }, { "api-key", true }, { "authorization", true }, { "token", false }
};

static const struct mark *name_at(const char *from, size_t left)
{
	for (size_t i = 0; i < sizeof(marks) / sizeof(*marks); i++) {
		size_t len = strlen(marks[i].name);

		if (len <= left && strncasecmp(from, marks[i].name, len) == 0)
			return &marks[i];
	}
	return NULL;
}

static bool is_quote(char c)
{
	return c == '"' || c == '\'';
}

/* How many blanks, then backslashes (of JSON in JSON), then quotes there are, one at most. */
static size_t quote_at(const char *from, size_t left, bool *ret_escaped, bool *ret_quoted)
{
	size_t n = 0;

	while (n < left && from[n] == ' ')
		n++;
	*ret_escaped = n < left && from[n] == '\\';
	while (n < left && from[n] == '\\')
		n++;
	*ret_quoted = n < left && is_quote(from[n]);
	return *ret_quoted ? n + 1 : n;
}

/* Return: bytes from a secret's name to what stands between it and the secret; 0: there is none. */
static size_t mark_at(const char *from, size_t left, char *ret_separator)
{
	const struct mark *mark = name_at(from, left);
	size_t n = mark ? strlen(mark->name) : 0;
	bool escaped, quoted;

	if (!mark)
		return 0;
	n += quote_at(from + n, left - n, &escaped, &quoted);
	while (n < left && from[n] == ' ')
		n++;
	if (n == left || !(from[n] == '=' || (from[n] == ':' && (mark->is_header || quoted))))
		return 0;
	*ret_separator = from[n];
	return n + 1;
}

/* Return: the bytes of the secret here. A line behind a header's colon is one. */
static size_t secret_at(const char *from, size_t left, char separator)
{
	const char *ends = separator == '=' ? "& \t\r\n\"'" : "\r\n";
	bool escaped, quoted;
	size_t n = quote_at(from, left, &escaped, &quoted);

	if (quoted) {
		while (n < left && !is_quote(from[n]))
			n += from[n] == '\\' && !escaped ? 2 : 1;
		return n < left ? n + 1 : left;
	}
	while (n < left && (!from[n] || !strchr(ends, from[n])))
		n++;
	return n;
}

void wire_log_clean(char *to, size_t size, const char *from, size_t from_size)
{
	size_t n = 0, i = 0, mark;
	char separator;

	while (i < from_size && n + 1 < size) {
		mark = mark_at(from + i, from_size - i, &separator);
		if (mark > 0 && n + mark + 4 < size) {
			memcpy(to + n, from + i, mark);
			memcpy(to + n + mark, "...", 3);
			n += mark + 3;
			i += mark;
			i += secret_at(from + i, from_size - i, separator);
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
