/* SPDX-License-Identifier: MIT */
/* One pass over the text: nothing of a value's size depends on what it is in. */
#include "term.h"

enum {
	VERSION = 1,   /* in front of it all */
	CONTAINER = 5, /* a map, or a list; the latter ends with an empty one */
	NIL = 1,
	STRING = 5,
	FLOAT = 9,
	SMALL = 2, /* 0 to 255 */
	INTEGER = 5,
	BIG = 3
};

size_t ds_term_bytes(size_t n)
{
	return VERSION + STRING + n;
}

/* The bytes of UTF-8 that the escape at @p stands for; *@at_p goes to its last character. */
static size_t escape_size(const char **at_p)
{
	const char *p = *at_p;
	unsigned code = 0;

	if (p[1] != 'u') {
		*at_p = p + 1;
		return 1;
	}
	for (int i = 2; i < 6; i++)
		code = (code << 4) + ((unsigned)p[i] & 15) + (p[i] > '9' ? 9 : 0);
	*at_p = p + 5;
	if (code >= 0xd800 && code < 0xe000)
		return 2; /* one half of a pair, which has four */
	return code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
}

/* @p stands at the opening quote and goes to the closing one. */
static size_t string_size(const char **at_p)
{
	const char *p = *at_p + 1;
	size_t n = STRING;

	for (; *p != '"'; p++)
		n += *p == '\\' ? escape_size(&p) : 1;
	*at_p = p;
	return n;
}

static size_t number_size(const char **at_p, const char *end)
{
	const char *p = *at_p;
	size_t digits = 0;
	uint64_t v = 0;
	bool minus = *p == '-', real = false;

	for (p += minus; p < end && strchr("0123456789.eE+-", *p) && *p; p++) {
		real |= *p < '0' || *p > '9';
		v = v * 10 + (uint64_t)(*p - '0');
		digits++;
	}
	*at_p = p - 1;
	if (real)
		return FLOAT;
	if (digits > 18)
		return BIG + digits * 10 / 24; /* a byte has 2.4 digits */
	if (v < 256 && !minus)
		return SMALL;
	if (v < 0x80000000)
		return INTEGER;
	return BIG + (v < 0x100000000 ? 4 : 8);
}

static const char *past_blanks(const char *p, const char *end)
{
	while (p < end && strchr(" \t\r\n", *p) && *p)
		p++;
	return p;
}

size_t ds_term_size(struct ds_str json)
{
	const char *end = json.p + json.n;
	size_t n = VERSION;

	for (const char *p = json.p; p < end; p++) {
		switch (*p) {
		case '{':
			n += CONTAINER;
			break;
		case '[':
			n += *past_blanks(p + 1, end) == ']' ? NIL : CONTAINER + NIL;
			break;
		case '"':
			n += string_size(&p);
			break;
		case 't':
		case 'f':
		case 'n':
			n += *p == 't' ? 6 : *p == 'f' ? 7 : 5;
			p += *p == 'f' ? 4 : 3;
			break;
		default:
			if (*p == '-' || (*p >= '0' && *p <= '9'))
				n += number_size(&p, end);
			break;
		}
	}
	return n;
}
