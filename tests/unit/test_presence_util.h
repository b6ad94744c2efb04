/* SPDX-License-Identifier: MIT */
#pragma once
/* Payloads and what comes of them, as JSON. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_json.h"
#include "proto/rtbp_pack.h"
#include "realtime/presence.h"

enum { ROOMY = 64 * 1024 * 1024 };

static inline struct rtbp_val packed(const char *json, struct rtbp_buf *b)
{
	struct rtbp_json_fault fault = { .text = "" };

	*b = (struct rtbp_buf)RTBP_BUF_INIT;
	ck_assert_msg(rtbp_json_to_mp(json, strlen(json), 64, b, &fault) == 0, "%s: %s", json,
		      fault.text);
	return (struct rtbp_val){ b->data, b->size };
}

static inline int on_state(struct presence *p, const char *json)
{
	struct rtbp_buf b;
	int r = presence_on_state(p, packed(json, &b));

	rtbp_buf_done(&b);
	return r;
}

static inline int on_diff(struct presence *p, const char *json)
{
	struct rtbp_buf b;
	int r = presence_on_diff(p, packed(json, &b));

	rtbp_buf_done(&b);
	return r;
}

static inline void says(struct rtbp_buf *mp, const char *want, const char *what)
{
	struct rtbp_buf json = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;

	ck_assert_int_eq(rtbp_mp_to_json(mp->data, mp->size, &json, &fault), 0);
	rtbp_buf_byte(&json, 0);
	ck_assert_msg(strcmp((const char *)json.data, want) == 0, "%s: %s, expected %s", what,
		      (const char *)json.data, want);
	rtbp_buf_done(&json);
	rtbp_buf_done(mp);
}

/* @want: {leave, join, update} as JSON arrays */
static inline void changed(const struct presence *p, const char *const want[3])
{
	static const char *const names[3] = { "leave", "join", "update" };

	for (int i = 0; i < PRESENCE_N_CHANGES; i++) {
		struct rtbp_buf b = RTBP_BUF_INIT;
		struct rtbp_iter it;

		presence_pack_changes(p, (enum presence_change)i, &b);
		ck_assert(rtbp_iter_array((struct rtbp_val){ b.data, b.size }, &it));
		ck_assert_uint_eq(it.left, presence_n_changes(p, (enum presence_change)i));
		says(&b, want[i], names[i]);
	}
}

#define CHANGED(p, leave, join, update) changed(p, (const char *const[3]){ leave, join, update })
#define UNCHANGED(p)                    CHANGED(p, "[]", "[]", "[]")

static inline void holds(const struct presence *p, size_t n, const char *want)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	ck_assert_uint_eq(presence_count(p), n);
	presence_pack_snapshot(p, &b);
	says(&b, want, "snapshot");
}
