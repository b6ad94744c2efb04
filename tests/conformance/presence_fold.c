/* SPDX-License-Identifier: MIT */
/*
 * Runs daemon/realtime/presence.h for presence_fold.mjs. Each line of the input is a call: `n`
 * begins anew, `j` presence_joining(), `s` and `d`, a payload as JSON behind it,
 * presence_on_state() and presence_on_diff(). For each call a line of JSON comes out:
 *
 *   {"r":0,"current":true,"count":1,"snapshot":[..],"changes":[[leave],[join],[update]]}
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "proto/rtbp_json.h"
#include "proto/rtbp_pack.h"
#include "realtime/presence.h"

enum { MAX_BYTES = 16 * 1024 * 1024, DEPTH = 70 };

static int call(struct presence **p, const char *line, size_t size)
{
	struct rtbp_buf payload = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;
	struct rtbp_val v;
	int r = 0;

	switch (*line) {
	case 'n':
		presence_free(*p);
		*p = presence_new(MAX_BYTES);
		if (!*p)
			exit(EXIT_FAILURE);
		break;
	case 'j':
		presence_joining(*p);
		break;
	default:
		if (rtbp_json_to_mp(line + 1, size - 1, DEPTH, &payload, &fault)) {
			fprintf(stderr, "%s: %s\n", line, fault.text);
			exit(EXIT_FAILURE);
		}
		v = (struct rtbp_val){ payload.data, payload.size };
		r = *line == 's' ? presence_on_state(*p, v) : presence_on_diff(*p, v);
		rtbp_buf_done(&payload);
	}
	return r;
}

static void report(const struct presence *p, int r)
{
	struct rtbp_buf mp = RTBP_BUF_INIT, json = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;

	rtbp_pack_map(&mp, 5);
	rtbp_pack_text(&mp, "r");
	rtbp_pack_int(&mp, r);
	rtbp_pack_text(&mp, "current");
	rtbp_pack_bool(&mp, presence_is_current(p));
	rtbp_pack_text(&mp, "count");
	rtbp_pack_uint(&mp, presence_count(p));
	rtbp_pack_text(&mp, "snapshot");
	presence_pack_snapshot(p, &mp);
	rtbp_pack_text(&mp, "changes");
	rtbp_pack_array(&mp, PRESENCE_N_CHANGES);
	for (int i = 0; i < PRESENCE_N_CHANGES; i++)
		presence_pack_changes(p, (enum presence_change)i, &mp);
	if (rtbp_mp_to_json(mp.data, mp.size, &json, &fault)) {
		fprintf(stderr, "%s: %s\n", fault.path, fault.text);
		exit(EXIT_FAILURE);
	}
	rtbp_buf_byte(&json, '\n');
	fwrite(json.data, 1, json.size, stdout);
	rtbp_buf_done(&mp);
	rtbp_buf_done(&json);
}

int main(void)
{
	struct presence *p = presence_new(MAX_BYTES);
	char *line = NULL;
	size_t cap = 0;
	ssize_t size;

	while (p && (size = getline(&line, &cap, stdin)) > 0)
		report(p, call(&p, line, (size_t)size));
	free(line);
	presence_free(p);
	return fflush(stdout) || ferror(stdin) ? EXIT_FAILURE : EXIT_SUCCESS;
}
