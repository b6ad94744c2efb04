/* SPDX-License-Identifier: MIT */
/* How a connection and the daemon's own token are, in words: for `status` and what changes them. */
#include <string.h>
#include <time.h>

#include "cli.h"

static int64_t unix_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool cli_is_well(const char *state)
{
	return strcmp(state, "online") == 0 || strcmp(state, "idle") == 0;
}

const char *cli_age_of(struct mp map, char *buf, size_t size)
{
	int64_t since = mp_int(mp_find(map, "since"), -1);

	if (since < 0)
		snprintf(buf, size, "-");
	else
		cli_format_age(unix_ms() - since, buf, size);
	return buf;
}

/* "code: text; next try in 1.5 s", as much of it as there is. @word: the key of the code. */
static void put_why(struct mp map, const char *word)
{
	char code[64], text[800], when[CLI_WHEN];
	int64_t next = mp_int(mp_find(map, "next_try_ms"), -1);

	mp_text(mp_find(map, word), code, sizeof(code));
	mp_text(mp_find(map, "text"), text, sizeof(text));
	cli_put_plain(stdout, code);
	printf("%s", code[0] && text[0] ? ": " : "");
	cli_put_plain(stdout, text);
	cli_when("next try in", next, when, sizeof(when));
	printf("%s\n", code[0] || text[0] || !when[0] ? when : when + 2);
}

void cli_print_trouble(struct mp map)
{
	if (!mp_find(map, "reason").p && !mp_find(map, "text").p && !mp_find(map, "next_try_ms").p)
		return;
	printf("  ");
	put_why(map, "reason");
}

void cli_print_token(struct mp token, const char *lead)
{
	char state[32], source[32], role[64], age[32], until[64];
	int64_t expires = mp_int(mp_find(token, "expires"), -1);

	mp_text(mp_find(token, "state"), state, sizeof(state));
	mp_text(mp_find(token, "source"), source, sizeof(source));
	mp_text(mp_find(token, "role"), role, sizeof(role));
	printf("%s", lead);
	cli_put_plain(stdout, state);
	printf(" %s (", cli_age_of(token, age, sizeof(age)));
	cli_put_plain(stdout, source);
	printf("%s", role[0] ? ", " : "");
	cli_put_plain(stdout, role);
	putchar(')');
	if (expires >= 0) {
		cli_format_until(expires, until, sizeof(until));
		printf(", until %s", until);
	}
	/* When it is renewed while all is well is nobody's worry. */
	if (strcmp(state, "good") == 0 && !mp_find(token, "text").p) {
		putchar('\n');
		return;
	}
	printf(": ");
	put_why(token, "code");
}
