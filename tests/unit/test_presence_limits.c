/* SPDX-License-Identifier: MIT */
/* daemon/realtime/presence when there is too much, too long, or no memory. */
#include <errno.h>
#include <time.h>

#include "tests/unit/test_presence_util.h"
#include "oom_util.h"
#include "suite.h"

/* ---- no memory ---- */

#define LONG         "0123456789012345678901234567890123456789012345678901234567890123456789"
#define M(ref, more) "{\"phx_ref\":\"" ref "\"" more "}"

enum { STATE, DIFF, JOINING };

static const struct {
	int call;
	const char *json;
} steps[] = {
	{ DIFF, "{\"joins\":{\"a\":{\"metas\":[" M("2", "") "]}}}" },
	{ STATE, "{\"a\":{\"metas\":[" M(
			 "1", ",\"text\":\"" LONG LONG LONG LONG
			      "\"") "]},"
				    "\"rtbridge:h\":{\"metas\":[" M(
					    "1", ",\"members\":{\"x\":{},\"y\":{\"n\":1}}") "]}}" },
	{ DIFF, "{\"joins\":{\"a\":{\"metas\":[" M(
			"3", ",\"phx_ref_prev\":\"1\"") "]},"
							"\"b\":{\"metas\":[" M(
								"4", "") "]}},\"leaves\":{\"a\":{"
									 "\"metas\":[" M(
										 "1", "") "]}}}" },
	{ JOINING, NULL },
	{ DIFF, "{\"leaves\":{\"b\":{\"metas\":[" M("4", "") "]}}}" },
	{ STATE, "{\"b\":{\"metas\":[" M("4", ",\"n\":1") "," M(
			 "5", "") "]},"
				  "\"rtbridge:h\":{\"metas\":[" M(
					  "1", ",\"members\":{\"x\":{\"n\":2}}") "]}}" },
};

enum { N_STEPS = sizeof(steps) / sizeof(*steps) };

START_TEST(test_no_memory)
{
	struct rtbp_buf bytes[N_STEPS];
	struct rtbp_val payloads[N_STEPS];

	for (int i = 0; i < N_STEPS; i++)
		payloads[i] = packed(steps[i].json ? steps[i].json : "{}", &bytes[i]);
	for (unsigned n = 1;; n++) {
		struct presence *p = presence_new(ROOMY);
		int r = 0, i;

		has_failed = false;
		fail_at = n;
		for (i = 0; i < N_STEPS && r == 0; i++) {
			if (steps[i].call == JOINING)
				presence_joining(p);
			else
				r = (steps[i].call == STATE ? presence_on_state
							    : presence_on_diff)(p, payloads[i]);
		}
		fail_at = 0;
		ck_assert_int_eq(r, has_failed ? -ENOMEM : 0);
		if (r) {
			ck_assert(!presence_is_current(p));
			holds(p, 0, "[]");
			UNCHANGED(p);
			/* What was lost with it must not pass for the whole. */
			ck_assert_int_eq(on_diff(p, steps[0].json), 0);
			ck_assert_int_eq(on_state(p, "{}"), PRESENCE_E_OVERFLOW);
			presence_joining(p);
			ck_assert_int_eq(on_state(p, steps[1].json), 0);
			ck_assert_uint_eq(presence_count(p), 3);
		} else {
			ck_assert_uint_eq(presence_count(p), 2);
		}
		presence_free(p);
		if (!has_failed)
			break;
		ck_assert_uint_lt(n, 1000);
	}
	for (int i = 0; i < N_STEPS; i++)
		rtbp_buf_done(&bytes[i]);
}
END_TEST

START_TEST(test_none_to_begin_with)
{
	struct presence *p;

	fail_at = 1;
	p = presence_new(ROOMY);
	fail_at = 0;
	ck_assert_ptr_null(p);
	ck_assert_ptr_null(presence_free(NULL));
}
END_TEST

/* ---- too much ---- */

enum { LIMIT = 100000 };

/* A key for each meta; one key; one of a bridge, each meta with a member. */
enum shape { APART, TOGETHER, BRIDGED, N_SHAPES };

/* `n` metas, each state of `pad` bytes. @first: of the numbers that name them. */
static void pack_keys(struct rtbp_buf *b, enum shape shape, unsigned first, unsigned n, size_t pad)
{
	static char zeros[LIMIT];
	char name[16];

	rtbp_pack_map(b, shape == APART ? n : 1);
	for (unsigned i = first; i < first + n; i++) {
		snprintf(name, sizeof(name), "%u", i);
		if (i == first || shape == APART) {
			rtbp_pack_text(b, shape == APART      ? name
					  : shape == TOGETHER ? "k"
							      : "rtbridge:k");
			rtbp_pack_map(b, 1);
			rtbp_pack_text(b, "metas");
			rtbp_pack_array(b, shape == APART ? 1 : n);
		}
		rtbp_pack_map(b, 2);
		rtbp_pack_text(b, "phx_ref");
		rtbp_pack_text(b, name);
		if (shape == BRIDGED) {
			rtbp_pack_text(b, "members");
			rtbp_pack_map(b, 1);
			rtbp_pack_text(b, name);
			rtbp_pack_map(b, 1);
		}
		rtbp_pack_text(b, "pad");
		rtbp_pack_str(b, zeros, pad);
	}
}

static int state_of(struct presence *p, enum shape shape, unsigned first, unsigned n, size_t pad)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	int r;

	pack_keys(&b, shape, first, n, pad);
	r = presence_on_state(p, (struct rtbp_val){ b.data, b.size });
	rtbp_buf_done(&b);
	return r;
}

static int diff_of(struct presence *p, const char *what, enum shape shape, unsigned first,
		   unsigned n, size_t pad)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	int r;

	rtbp_pack_map(&b, 1);
	rtbp_pack_text(&b, what);
	pack_keys(&b, shape, first, n, pad);
	r = presence_on_diff(p, (struct rtbp_val){ b.data, b.size });
	rtbp_buf_done(&b);
	return r;
}

static void is_lost(struct presence *p)
{
	ck_assert(!presence_is_current(p));
	holds(p, 0, "[]");
	UNCHANGED(p);
}

START_TEST(test_state_over_the_limit)
{
	struct presence *p = presence_new(LIMIT);

	ck_assert_int_eq(state_of(p, (enum shape)_i, 0, 60, 1000), 0);
	ck_assert_uint_eq(presence_count(p), 60);
	/* Entirely another one, as large: there is room for both while one replaces the other. */
	presence_joining(p);
	ck_assert_int_eq(state_of(p, (enum shape)_i, 60, 60, 1000), 0);
	ck_assert_uint_eq(presence_count(p), 60);
	ck_assert_uint_eq(presence_n_changes(p, PRESENCE_LEAVE), 60);
	ck_assert_uint_eq(presence_n_changes(p, PRESENCE_JOIN), 60);
	presence_joining(p);
	ck_assert_int_eq(state_of(p, (enum shape)_i, 0, 90, 1000), PRESENCE_E_OVERFLOW);
	is_lost(p);
	presence_joining(p);
	ck_assert_int_eq(state_of(p, (enum shape)_i, 0, 2, LIMIT), PRESENCE_E_OVERFLOW);
	is_lost(p);
	presence_joining(p);
	ck_assert_int_eq(state_of(p, (enum shape)_i, 0, 60, 1000), 0);
	ck_assert_uint_eq(presence_count(p), 60);
	presence_free(p);
}
END_TEST

START_TEST(test_diffs_over_the_limit)
{
	struct presence *p = presence_new(LIMIT);
	unsigned n;
	int r = 0;

	ck_assert_int_eq(on_state(p, "{}"), 0);
	for (n = 0; r == 0; n++)
		r = diff_of(p, "joins", (enum shape)_i, n, 1, 1000);
	ck_assert_int_eq(r, PRESENCE_E_OVERFLOW);
	ck_assert_uint_gt(n, 60);
	is_lost(p);
	/* Those who come and go may be as many as they want. */
	presence_joining(p);
	ck_assert_int_eq(on_state(p, "{}"), 0);
	for (n = 0; n < 1000; n++) {
		ck_assert_int_eq(diff_of(p, "joins", (enum shape)_i, n, 1, 1000), 0);
		ck_assert_int_eq(diff_of(p, "leaves", (enum shape)_i, n, 1, 1000), 0);
	}
	holds(p, 0, "[]");
	presence_free(p);
}
END_TEST

START_TEST(test_waiting_over_the_limit)
{
	struct presence *p = presence_new(LIMIT);
	unsigned n;
	int r = 0;

	ck_assert_int_eq(state_of(p, APART, 0, 60, 1000), 0);
	presence_joining(p);
	for (n = 0; n < 90; n++)
		ck_assert_int_eq(diff_of(p, n % 2 ? "leaves" : "joins", TOGETHER, n / 2, 1, 1000),
				 0);
	ck_assert_int_eq(state_of(p, APART, 0, 60, 1000), 0);
	ck_assert_uint_eq(presence_count(p), 60);
	UNCHANGED(p);
	presence_joining(p);
	for (n = 0; r == 0; n++)
		r = on_diff(p, "{}");
	ck_assert_int_eq(r, PRESENCE_E_OVERFLOW);
	ck_assert_uint_gt(n, LIMIT / 100); /* nothing of those before counts any more */
	ck_assert_uint_lt(n, LIMIT);
	is_lost(p);
	presence_free(p);
}
END_TEST

/* A few bytes must not make a large snapshot: entries repeat their key, members that of the server.
 */
START_TEST(test_long_key)
{
	struct presence *p = presence_new(10 * LIMIT);
	struct rtbp_buf b = RTBP_BUF_INIT, snapshot = RTBP_BUF_INIT;
	char *key = malloc(LIMIT);
	int r;

	ck_assert_ptr_nonnull(key);
	memset(key, 'x', LIMIT);
	memcpy(key, "rtbridge:", 9);
	for (unsigned n = 1; n < 50; n++) {
		rtbp_buf_reset(&b, SIZE_MAX);
		rtbp_pack_map(&b, 1);
		rtbp_pack_str(&b, _i ? key : key + 1, LIMIT - 1);
		rtbp_pack_map(&b, 1);
		rtbp_pack_text(&b, "metas");
		rtbp_pack_array(&b, _i ? 1 : n);
		for (unsigned i = 0; i < (_i ? 1 : n); i++) {
			rtbp_pack_map(&b, 2);
			rtbp_pack_text(&b, "phx_ref");
			rtbp_pack_str(&b, key + 20, i);
			rtbp_pack_text(&b, "members");
			rtbp_pack_map(&b, n);
			for (unsigned j = 0; j < n; j++) {
				rtbp_pack_str(&b, key + 20, j + 1);
				rtbp_pack_map(&b, 0);
			}
		}
		presence_joining(p);
		r = presence_on_state(p, (struct rtbp_val){ b.data, b.size });
		ck_assert_int_eq(r, n < (_i ? 9 : 10) ? 0 : PRESENCE_E_OVERFLOW);
		rtbp_buf_reset(&snapshot, SIZE_MAX);
		presence_pack_snapshot(p, &snapshot);
		ck_assert_uint_lt(snapshot.size, 10 * LIMIT);
		ck_assert_uint_eq(presence_count(p), r ? 0 : n);
	}
	rtbp_buf_done(&b);
	rtbp_buf_done(&snapshot);
	free(key);
	presence_free(p);
}
END_TEST

/* ---- too long ---- */

enum { FEW = 500, MANY = 64 * FEW };

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds that a state of `n` takes, and its replacement by another one with diffs that waited. */
static double time_states(struct presence *p, enum shape shape, unsigned n)
{
	double start = cpu_s();

	presence_joining(p);
	ck_assert_int_eq(state_of(p, shape, 0, n, 0), 0);
	ck_assert_uint_eq(presence_count(p), n);
	presence_joining(p);
	ck_assert_int_eq(diff_of(p, "joins", shape, 2 * n, n, 0), 0);
	ck_assert_int_eq(diff_of(p, "leaves", shape, 2 * n, n, 0), 0);
	ck_assert_int_eq(state_of(p, shape, n / 2, n, 1), 0);
	ck_assert_uint_eq(presence_count(p), n);
	ck_assert_uint_eq(presence_n_changes(p, PRESENCE_LEAVE), n / 2);
	ck_assert_uint_eq(presence_n_changes(p, PRESENCE_UPDATE), n - n / 2);
	return cpu_s() - start;
}

/* Seconds that FEW small diffs take while `n` are there. */
static double time_diffs(struct presence *p, enum shape shape, unsigned n)
{
	double start;

	presence_joining(p);
	ck_assert_int_eq(state_of(p, shape, 0, n, 0), 0);
	start = cpu_s();
	for (unsigned i = 0; i < FEW; i++) {
		ck_assert_int_eq(diff_of(p, "joins", shape, n, 1, 0), 0);
		ck_assert_int_eq(diff_of(p, "leaves", shape, n, 1, 0), 0);
		ck_assert_uint_eq(presence_n_changes(p, PRESENCE_LEAVE), 1);
	}
	return cpu_s() - start;
}

/* The processor's time, as a ratio: with a walk through a list for each meta, 64 times as many
 * would take 4096 times as long, and a diff 64 times. */
START_TEST(test_many)
{
	struct presence *p = presence_new(ROOMY);
	double few, many;

	few = time_states(p, (enum shape)_i, FEW);
	many = time_states(p, (enum shape)_i, MANY);
	ck_assert_msg(many < 64 * 16 * few, "states: %g s and %g s", few, many);
	few = time_diffs(p, (enum shape)_i, FEW / 10);
	many = time_diffs(p, (enum shape)_i, MANY);
	ck_assert_msg(many < 16 * few, "diffs: %g s and %g s", few, many);
	presence_free(p);
}
END_TEST

/* A bridge's key with `n_metas`, named from `first` on, each of which names the same `n_members`.
 */
static void pack_bridge(struct rtbp_buf *b, unsigned first, unsigned n_metas, unsigned n_members)
{
	char name[16];

	rtbp_pack_map(b, 1);
	rtbp_pack_text(b, "rtbridge:k");
	rtbp_pack_map(b, 1);
	rtbp_pack_text(b, "metas");
	rtbp_pack_array(b, n_metas);
	for (unsigned i = first; i < first + n_metas; i++) {
		snprintf(name, sizeof(name), "%u", i);
		rtbp_pack_map(b, 2);
		rtbp_pack_text(b, "phx_ref");
		rtbp_pack_text(b, name);
		rtbp_pack_text(b, "members");
		rtbp_pack_map(b, n_members);
		for (unsigned j = 0; j < n_members; j++) {
			snprintf(name, sizeof(name), "%u", j);
			rtbp_pack_text(b, name);
			rtbp_pack_map(b, 1);
			rtbp_pack_text(b, "by");
			rtbp_pack_uint(b, i);
		}
	}
}

static int bridge_diff(struct presence *p, const char *what, unsigned first, unsigned n_metas,
		       unsigned n_members)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	int r;

	rtbp_pack_map(&b, 1);
	rtbp_pack_text(&b, what);
	pack_bridge(&b, first, n_metas, n_members);
	r = presence_on_diff(p, (struct rtbp_val){ b.data, b.size });
	rtbp_buf_done(&b);
	return r;
}

/* Seconds for all at once: they come, and leave again. @one_name: what they have in common is the
 * name of their member, else that they are one meta's members. */
static double time_members_at_once(struct presence *p, bool one_name, unsigned n)
{
	unsigned n_metas = one_name ? n : 1, n_members = one_name ? 1 : n;
	double start = cpu_s();

	ck_assert_int_eq(bridge_diff(p, "joins", 0, n_metas, n_members), 0);
	ck_assert_uint_eq(presence_n_changes(p, PRESENCE_JOIN), n_members);
	ck_assert_int_eq(bridge_diff(p, "leaves", 0, n_metas, 0), 0);
	ck_assert_uint_eq(presence_n_changes(p, PRESENCE_LEAVE), n_members);
	return cpu_s() - start;
}

/* Seconds that FEW strangers need to contradict one member and leave. */
static double time_strangers(struct presence *p, bool one_name, unsigned n)
{
	double start;

	ck_assert_int_eq(bridge_diff(p, "joins", 0, one_name ? n : 1, one_name ? 1 : n), 0);
	start = cpu_s();
	for (unsigned i = 0; i < FEW; i++) {
		ck_assert_int_eq(bridge_diff(p, "joins", n, 1, 1), 0);
		ck_assert_uint_eq(presence_n_changes(p, PRESENCE_UPDATE), 1);
		ck_assert_int_eq(bridge_diff(p, "leaves", n, 1, 0), 0);
		ck_assert_uint_eq(presence_n_changes(p, PRESENCE_UPDATE), 1);
	}
	start = cpu_s() - start;
	ck_assert_int_eq(bridge_diff(p, "leaves", 0, one_name ? n : 1, 0), 0);
	ck_assert_uint_eq(presence_count(p), 0);
	return start;
}

/* As test_many(), for what many metas say of one member, and for many members of one meta. */
START_TEST(test_many_members)
{
	struct presence *p = presence_new(ROOMY);
	double few, many;

	ck_assert_int_eq(on_state(p, "{}"), 0);
	few = time_members_at_once(p, _i, FEW);
	many = time_members_at_once(p, _i, MANY);
	ck_assert_msg(many < 64 * 16 * few, "at once: %g s and %g s", few, many);
	few = time_strangers(p, _i, FEW / 10);
	many = time_strangers(p, _i, MANY);
	ck_assert_msg(many < 16 * few, "strangers: %g s and %g s", few, many);
	presence_free(p);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("presence_limits");
	Suite *suite = suite_create("presence_limits");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_no_memory);
	tcase_add_test(tc, test_none_to_begin_with);
	tcase_add_loop_test(tc, test_state_over_the_limit, 0, N_SHAPES);
	tcase_add_loop_test(tc, test_diffs_over_the_limit, 0, N_SHAPES);
	tcase_add_test(tc, test_waiting_over_the_limit);
	tcase_add_loop_test(tc, test_long_key, 0, 2);
	tcase_add_loop_test(tc, test_many, 0, N_SHAPES);
	tcase_add_loop_test(tc, test_many_members, 0, 2);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
