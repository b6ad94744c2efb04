/* SPDX-License-Identifier: MIT */
/* Writing: JSON strings, base64, ages, tables. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

void cli_put_time(FILE *f)
{
	struct timespec now;
	char text[16] = "";
	struct tm tm;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (localtime_r(&now.tv_sec, &tm))
		(void)strftime(text, sizeof(text), "%H:%M:%S", &tm);
	fprintf(f, "%s ", text);
}

void cli_put_json_text(FILE *f, const char *text)
{
	fputc('"', f);
	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < 0x20)
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

void cli_put_json_field(FILE *f, const char *name, const char *text)
{
	if (!*text)
		return;
	fprintf(f, ",\"%s\":", name);
	cli_put_json_text(f, text);
}

/* Bytes of a character that is not for showing, 0: it is. Besides the control characters, of which
 * terminals obey U+0080 to U+009F, too, those that end a line or turn its direction: with them a
 * text could look like another one. */
static size_t hidden_size(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	if (p[0] < 0x20 || p[0] == 0x7f)
		return 1;
	if ((p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) || (p[0] == 0xd8 && p[1] == 0x9c))
		return 2;
	if (p[0] != 0xe2)
		return 0;
	/* U+200E, U+200F, U+2028 to U+202E; U+2066 to U+2069 */
	if (p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae)))
		return 3;
	return p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9 ? 3 : 0;
}

void cli_put_plain(FILE *f, const char *text)
{
	while (*text) {
		size_t n = hidden_size(text);

		fputc(n ? '?' : *text, f);
		text += n ? n : 1;
	}
}

void cli_put_base64(FILE *f, const void *data, size_t size)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = data;
	unsigned long v;
	size_t n;

	for (; size > 0; size -= n, p += n) {
		n = size < 3 ? size : 3;
		v = (unsigned long)p[0] << 16 | (n > 1 ? (unsigned long)p[1] << 8 : 0) |
		    (n > 2 ? p[2] : 0);
		fputc(digits[v >> 18 & 63], f);
		fputc(digits[v >> 12 & 63], f);
		fputc(n > 1 ? digits[v >> 6 & 63] : '=', f);
		fputc(n > 2 ? digits[v & 63] : '=', f);
	}
}

void cli_put_value(const char *name, const void *p, size_t size)
{
	const void *bin;
	size_t bin_size;
	char *json;

	if (!p)
		return;
	if (mp_is_bin((struct mp){ p, size }, &bin, &bin_size)) {
		printf(",\"%s_base64\":\"", name);
		cli_put_base64(stdout, bin, bin_size);
		printf("\"");
	} else if (rtb_msgpack_to_json(p, size, &json, NULL, NULL, 0) == 0) {
		printf(",\"%s\":%s", name, json);
		rtb_free(json);
	} else {
		printf(",\"%s_msgpack_base64\":\"", name); /* not from this daemon */
		cli_put_base64(stdout, p, size);
		printf("\"");
	}
}

void cli_put_value_plain(const void *p, size_t size)
{
	char *json;

	if (rtb_msgpack_to_json(p, size, &json, NULL, NULL, 0) != 0)
		return;
	cli_put_plain(stdout, json);
	rtb_free(json);
}

void cli_format_age(int64_t ms, char *buf, size_t size)
{
	long long s = ms < 0 ? 0 : ms / 1000;

	if (s < 60)
		(void)snprintf(buf, size, "%llds", s);
	else if (s < 3600)
		(void)snprintf(buf, size, "%lldm%02llds", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(buf, size, "%lldh%02lldm", s / 3600, s / 60 % 60);
	else
		(void)snprintf(buf, size, "%lldd%lldh", s / 86400, s / 3600 % 24);
}

void cli_format_until(int64_t unix_s, char *buf, size_t size)
{
	int64_t left = unix_s - (int64_t)time(NULL);
	time_t at = (time_t)unix_s;
	char age[32], clock[32] = "?";
	struct tm tm;

	if (unix_s < 0) {
		(void)snprintf(buf, size, "-");
		return;
	}
	if (localtime_r(&at, &tm))
		(void)strftime(clock, sizeof(clock), "%Y-%m-%d %H:%M:%S", &tm);
	cli_format_age((left < 0 ? -left : left) * 1000, age, sizeof(age));
	(void)snprintf(buf, size, left < 0 ? "%s, %s ago" : "%s, in %s", clock, age);
}

/* ---- tables ---- */

void cli_table_cell(struct cli_table *t, const char *fmt, ...)
{
	char **cells, *cell;
	va_list ap;
	int r;

	if (t->is_failed)
		return;
	if (t->n_cells == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;

		cells = realloc(t->cells, cap * sizeof(*cells));
		if (!cells) {
			t->is_failed = true;
			return;
		}
		t->cells = cells;
		t->cap = cap;
	}
	va_start(ap, fmt);
	r = vasprintf(&cell, fmt, ap);
	va_end(ap);
	if (r < 0)
		t->is_failed = true;
	else
		t->cells[t->n_cells++] = cell;
}

/* Characters, near enough for columns: bytes that do not continue one. */
static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void cli_table_print(struct cli_table *t, FILE *f)
{
	size_t widest[CLI_COLUMNS_MAX] = { 0 }, i, n;
	unsigned col;

	for (i = 0; i < t->n_cells; i++) {
		n = width(t->cells[i]);
		col = (unsigned)(i % t->n_columns);
		widest[col] = n > widest[col] ? n : widest[col];
	}
	for (i = 0; i < t->n_cells; i++) {
		col = (unsigned)(i % t->n_columns);
		cli_put_plain(f, t->cells[i]);
		if (col + 1 < t->n_columns)
			fprintf(f, "%*s", (int)(widest[col] - width(t->cells[i])) + 2, "");
		else
			fputc('\n', f);
	}
	for (i = 0; i < t->n_cells; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct cli_table){ .n_columns = t->n_columns };
}
