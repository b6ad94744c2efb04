/* SPDX-License-Identifier: MIT */
/* Moments, as the command line has them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

/* Before it a bare number is rather seconds or minutes than ms since 1970: it is of 1973. */
static const int64_t first_ms = 100000000000;

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static const struct {
	const char *name;
	int64_t ms;
} units[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", 86400 * 1000 }
};

/* "10m": before now. */
static bool parse_ago(const char *text, int64_t *ret)
{
	double v, ms;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	v = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		ms = v * (double)units[i].ms;
		if (strcmp(end, units[i].name) == 0 && ms < (double)now_ms()) {
			*ret = now_ms() - (int64_t)ms;
			return true;
		}
	}
	return false;
}

static bool parse_ms(const char *text, int64_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*ret = strtoll(text, &end, 10);
	return !errno && !*end && *ret >= first_ms;
}

/* Exactly `n` digits. */
static bool digits(const char **at, int n, int *ret)
{
	*ret = 0;
	for (; n > 0; n--, (*at)++) {
		if (**at < '0' || **at > '9')
			return false;
		*ret = *ret * 10 + (**at - '0');
	}
	return true;
}

static bool literal(const char **at, const char *any_of)
{
	if (!**at || !strchr(any_of, **at))
		return false;
	(*at)++;
	return true;
}

/* "Z", "+02:00" and the end. */
static bool parse_offset(const char *at, int *ret_s)
{
	int sign = *at == '-' ? -1 : 1, h = 0, m = 0;

	*ret_s = 0;
	if (literal(&at, "Zz"))
		return !*at;
	if (!literal(&at, "+-") || !digits(&at, 2, &h) || !literal(&at, ":") ||
	    !digits(&at, 2, &m) || h > 23 || m > 59)
		return false;
	*ret_s = sign * (h * 3600 + m * 60);
	return !*at;
}

/* "2026-11-23T14:05:59.5Z" */
static bool parse_rfc3339(const char *at, int64_t *ret)
{
	int ms = 0, scale = 100, offset;
	struct tm tm = { 0 }, same;
	time_t t;

	if (!digits(&at, 4, &tm.tm_year) || !literal(&at, "-") || !digits(&at, 2, &tm.tm_mon) ||
	    !literal(&at, "-") || !digits(&at, 2, &tm.tm_mday) || !literal(&at, "Tt ") ||
	    !digits(&at, 2, &tm.tm_hour) || !literal(&at, ":") || !digits(&at, 2, &tm.tm_min) ||
	    !literal(&at, ":") || !digits(&at, 2, &tm.tm_sec))
		return false;
	if (literal(&at, ".")) {
		if (*at < '0' || *at > '9')
			return false;
		for (; *at >= '0' && *at <= '9'; at++, scale /= 10)
			ms += (*at - '0') * scale;
	}
	if (!parse_offset(at, &offset))
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	if (tm.tm_sec == 60) /* a leap second */
		tm.tm_sec = 59;
	same = tm;
	t = timegm(&same);
	/* timegm() takes a 31st of February for a day in March. */
	if (same.tm_mday != tm.tm_mday || same.tm_mon != tm.tm_mon || same.tm_hour != tm.tm_hour ||
	    same.tm_min != tm.tm_min || same.tm_sec != tm.tm_sec)
		return false;
	*ret = ((int64_t)t - offset) * 1000 + ms;
	return *ret >= 0;
}

bool cli_parse_when(const char *text, int64_t *ret_unix_ms)
{
	return parse_ms(text, ret_unix_ms) || parse_ago(text, ret_unix_ms) ||
	       parse_rfc3339(text, ret_unix_ms);
}
