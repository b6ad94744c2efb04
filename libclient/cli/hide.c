/* SPDX-License-Identifier: MIT */
/*
 * Tokens and keys in the wrong place: what was meant for a file, and given where its name belongs.
 * Messages end up in logs, so no message repeats them.
 */
#include <string.h>

#include "cli.h"

enum {
	PART_LEAST = 10,  /* of one of the three parts; the names of files have shorter ones */
	TOKEN_LEAST = 20, /* what is shorter is no secret, whatever it begins with */
};

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
static const char inside[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool has_three_parts(const char *text)
{
	size_t n;

	for (int part = 0; part < 3; part++) {
		n = strspn(text, letters);
		if (n < PART_LEAST || text[n] != (part < 2 ? '.' : '\0'))
			return false;
		text += n + (part < 2);
	}
	return true;
}

bool cli_looks_like_token(const char *text)
{
	text += strspn(text, " \t\r\n");
	if (begins(text, "Bearer "))
		return true;
	if (begins(text, "eyJ")) /* {" in base64 */
		return true;
	return (begins(text, "sb_") && !strchr(text, '/')) || has_three_parts(text);
}

void cli_hide_tokens(char *text)
{
	static const char instead[] = "(a token)";
	size_t n;

	_Static_assert(sizeof(instead) <= TOKEN_LEAST, "it must fit in its place");
	while (*(text += strcspn(text, inside))) {
		n = strspn(text, inside);
		if (n >= TOKEN_LEAST && (begins(text, "eyJ") || begins(text, "sb_secret_"))) {
			memcpy(text, instead, sizeof(instead) - 1);
			memmove(text + sizeof(instead) - 1, text + n, strlen(text + n) + 1);
			n = sizeof(instead) - 1;
		}
		text += n;
	}
}
