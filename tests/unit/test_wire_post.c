/* SPDX-License-Identifier: MIT */
/* HTTP requests against a server that misbehaves (tests/wire/http_server.py), plain and by TLS:
 * each is answered once, with the status if there was one. */
#include <errno.h>

#include "wire_post_util.h"

/* Limits that are waited for; what has to come before them needs much less. */
enum { STALL_MS = 3000 };

static const struct answer_case {
	const char *path;
	unsigned status;
	bool whole;
	const char *body; /* NULL: any */
	uint32_t retry_after_s;
} answers[] = {
	{ "/status-200", 200, true, "{\"message\":\"200\"}", 0 },
	{ "/status-202", 202, true, "{\"message\":\"202\"}", 0 },
	{ "/status-400", 400, true, NULL, 0 },
	{ "/status-401", 401, true, NULL, 0 },
	{ "/status-403", 403, true, NULL, 0 },
	{ "/status-404", 404, true, NULL, 0 },
	{ "/status-413", 413, true, NULL, 0 },
	{ "/status-415", 415, true, NULL, 0 },
	{ "/status-422", 422, true, "{\"message\":\"422\"}", 0 },
	{ "/status-429", 429, true, NULL, 0 },
	{ "/status-500", 500, true, NULL, 0 },
	{ "/status-503", 503, true, NULL, 0 },
	{ "/status-599", 599, true, NULL, 0 },
	{ "/status-202?with=query&and=more", 202, true, NULL, 0 },
	{ "/redirect", 302, true, "moved", 3 },
	{ "/retry-429", 429, true, "{\"message\":\"slow down\"}", 7 },
	{ "/retry-503", 503, true, "", 120 },
	{ "/retry-date", 503, true, "", 0 },
	{ "/retry-long", 503, true, "", 86400 },
	{ "/continue", 202, true, "ok", 0 },
	{ "/switching", 101, true, "", 0 },
	{ "/no-content", 204, true, "", 0 },
	{ "/not-modified", 304, true, "", 0 },
	{ "/lf-only", 200, true, "ok", 0 },
	{ "/no-reason", 202, true, "", 0 },
	{ "/chunked", 200, true, "one two ", 0 },
	{ "/slow-answer", 200, true, "one two ", 0 },
	{ "/chunked-broken", 200, false, "one", 0 },
	{ "/chunked-cut", 200, false, "one t", 0 },
	{ "/two-lengths", 200, false, "ok", 0 },
	{ "/body-16384", 200, true, NULL, 0 },
	{ "/body-16385", 200, false, NULL, 0 },
	{ "/body-1000000", 200, false, NULL, 0 },
	{ "/endless-body", 202, false, NULL, 0 },
	{ "/endless-chunked", 200, false, NULL, 0 },
	{ "/huge-headers", 202, true, "ok", 0 },
	{ "/long-header", 202, true, "ok", 0 },
	{ "/endless-headers", 202, false, "", 0 },
	{ "/endless-header", 202, false, "", 0 },
	{ "/cut-body", 200, false, NULL, 0 },
	{ "/cut-headers", 202, false, "", 0 },
	{ "/reset-mid-body", 200, false, NULL, 0 },
};

enum { N_ANSWERS = sizeof(answers) / sizeof(*answers) };

START_TEST(test_answers)
{
	const struct answer_case *t = &answers[_i % N_ANSWERS];
	const struct wire_answer *a;
	struct rig rig;

	post_rig(&rig);
	post(&rig, 3, _i >= N_ANSWERS, t->path);
	a = rig_until_answered(&rig, 3);
	ck_assert_msg(a->status == t->status, "%s: %u, %s", t->path, a->status, a->text);
	ck_assert_int_eq(a->why, WIRE_HTTP);
	ck_assert(a->was_sent);
	ck_assert_msg(a->whole == t->whole, "%s", t->path);
	ck_assert_uint_eq(a->retry_after_s, t->retry_after_s);
	if (t->body)
		ck_assert_str_eq(a->body, t->body);
	ck_assert_msg(strncmp(a->text, "127.0.0.1 port ", 15) == 0, "%s", a->text);
	/* The same wire goes on working. */
	post(&rig, 4, _i >= N_ANSWERS, "/status-202");
	ck_assert_uint_eq(rig_until_answered(&rig, 4)->status, 202);
	rig_stop(&rig);
}
END_TEST

/* As far as the connection told; TLS tells more. */
START_TEST(test_body_to_the_end)
{
	static const char *const paths[] = { "/to-end", "/http-1.0" };
	const struct wire_answer *a;
	struct rig rig;

	post_rig(&rig);
	post(&rig, 0, false, paths[_i]);
	a = rig_until_answered(&rig, 0);
	ck_assert_uint_eq(a->status, 200);
	ck_assert_str_eq(a->body, "until the end");
	ck_assert(a->whole);
	/* The server closes TLS without a word: it may be cut off. */
	post(&rig, 1, true, paths[_i]);
	a = rig_until_answered(&rig, 1);
	ck_assert_uint_eq(a->status, 200);
	ck_assert_str_eq(a->body, "until the end");
	ck_assert(!a->whole);
	rig_stop(&rig);
}
END_TEST

/* As much of a large body as was asked for, and no more. */
static const struct {
	size_t asked, kept;
	bool whole;
} kept[] = {
	{ 0, WIRE_ANSWER_BYTES, false },
	{ 1, 1, false },
	{ 99999, 99999, false },
	{ 100000, 100000, true },
	{ WIRE_ANSWER_MAX_BYTES, 100000, true },
};

START_TEST(test_kept_body)
{
	struct wire_post p = post_to(false, "/body-100000");
	const struct wire_answer *a;
	struct rig rig;

	post_rig(&rig);
	p.answer_bytes = kept[_i].asked;
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	a = rig_until_answered(&rig, 0);
	ck_assert_uint_eq(a->status, 200);
	ck_assert_uint_eq(a->size, kept[_i].kept);
	ck_assert_int_eq(a->whole, kept[_i].whole);
	for (size_t i = 0; i < a->size; i++)
		ck_assert_int_eq(a->body[i], 'b');
	rig_stop(&rig);
}
END_TEST

START_TEST(test_kept_body_at_most)
{
	struct wire_post p = post_to(false, "/body-1000000");
	const struct wire_answer *a;
	struct rig rig;

	post_rig(&rig);
	p.answer_bytes = WIRE_ANSWER_MAX_BYTES + 1;
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), -EINVAL);
	p.answer_bytes = WIRE_ANSWER_MAX_BYTES;
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	a = rig_until_answered(&rig, 0);
	ck_assert_uint_eq(a->size, WIRE_ANSWER_MAX_BYTES);
	ck_assert(!a->whole);
	rig_stop(&rig);
}
END_TEST

static const struct {
	const char *path;
	enum wire_why why;
	const char *text;
} failures[] = {
	{ "/nothing", WIRE_LOST, "ended before an answer" },
	{ "/cut-status", WIRE_LOST, "ended before an answer" },
	{ "/garbage", WIRE_HTTP, "not HTTP" },
	{ "/garbage-later", WIRE_HTTP, "not HTTP" },
	{ "/old-http", WIRE_HTTP, "not HTTP" },
	{ "/endless-100", WIRE_HTTP, "not HTTP" },
};

enum { N_FAILURES = sizeof(failures) / sizeof(*failures) };

START_TEST(test_no_answer)
{
	const struct wire_answer *a;
	struct rig rig;

	post_rig(&rig);
	post(&rig, 0, _i >= N_FAILURES, failures[_i % N_FAILURES].path);
	a = rig_until_answered(&rig, 0);
	ck_assert_msg(a->why == failures[_i % N_FAILURES].why, "%s: %s, %s",
		      failures[_i % N_FAILURES].path, why_name(a->why), a->text);
	ck_assert_uint_eq(a->status, 0);
	ck_assert(a->was_sent);
	ck_assert_uint_eq(a->size, 0);
	ck_assert_msg(strstr(a->text, failures[_i % N_FAILURES].text) != NULL, "%s", a->text);
	rig_stop(&rig);
}
END_TEST

static const struct {
	const char *path;
	unsigned status;
} stalls[] = {
	{ "/stall", 0 },        { "/stall-status", 0 },      { "/stall-headers", 202 },
	{ "/stall-body", 202 }, { "/stall-no-length", 202 }, { "/deaf", 0 },
};

enum { N_STALLS = sizeof(stalls) / sizeof(*stalls) };

_Static_assert((int)N_STALLS <= (int)WIRE_MAX_POSTS, "all at once");

/* The deadline ends it; a status that came counts. */
START_TEST(test_stalls)
{
	static const char big[4000000];
	const struct wire_answer *a;
	struct rig rig;

	post_rig(&rig);
	for (unsigned i = 0; i < N_STALLS; i++) {
		struct wire_post p = post_to(_i == 1, stalls[i].path);

		/* Enough that it cannot be sent to one that does not read. */
		if (strcmp(p.target.path, "/deaf") == 0) {
			p.body = big;
			p.size = sizeof(big);
		}
		p.timeout_ms = STALL_MS;
		ck_assert_int_eq(rig_try_post(&rig, i, &p), 0);
	}
	for (unsigned i = 0; i < N_STALLS; i++) {
		a = rig_until_answered(&rig, i);
		ck_assert_msg(a->status == stalls[i].status, "%s: %u, %s", stalls[i].path,
			      a->status, a->text);
		ck_assert_int_eq(a->why, a->status ? WIRE_HTTP : WIRE_HANDSHAKE);
		ck_assert(!a->whole);
		ck_assert(a->was_sent);
		if (a->status == 0)
			ck_assert_msg(strstr(a->text, " ms") != NULL, "%s", a->text);
	}
	rig_stop(&rig);
}
END_TEST

static const struct {
	const char *path;
	unsigned status;
} early[] = {
	{ "/early-413", 413 }, { "/early-413-deaf", 413 }, { "/early-403-endless", 403 },
	{ "/early-200", 200 }, { "/early-hang-up", 0 },    { "/early-reset", 0 },
};

enum { N_EARLY = sizeof(early) / sizeof(*early) };

/* A server that refuses the request need not read it: its answer must not get lost. */
START_TEST(test_early_answers)
{
	static const char big[WIRE_POST_MAX_BYTES];
	struct wire_post p = post_to(_i >= N_EARLY, early[_i % N_EARLY].path);
	const struct wire_answer *a;
	struct rig rig;

	p.body = big;
	p.size = sizeof(big);
	post_rig(&rig);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(rig_try_post(&rig, i, &p), 0);
		a = rig_until_answered(&rig, i);
		ck_assert_msg(a->status == early[_i % N_EARLY].status, "%s: %u, %s", p.target.path,
			      a->status, a->text);
		ck_assert_int_eq(a->why, a->status ? WIRE_HTTP : WIRE_LOST);
		ck_assert(a->was_sent);
		if (a->status == 200)
			ck_assert(a->whole);
	}
	rig_stop(&rig);
}
END_TEST

/* A server that has refused it and reads on does not get all of it. */
START_TEST(test_refused_is_not_sent_on)
{
	static const char big[WIRE_POST_MAX_BYTES];
	struct wire_post p = post_to(_i == 1, "/early-403-half");
	const struct wire_answer *a;
	struct rig rig;

	p.body = big;
	p.size = sizeof(big);
	p.timeout_ms = STALL_MS;
	post_rig(&rig);
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	ck_assert_uint_eq(rig_until_answered(&rig, 0)->status, 403);
	/* The server notes in a thread of its own: ask until it has. */
	do {
		post(&rig, 1, false, "/noted");
		a = rig_until_answered(&rig, 1);
	} while (strcmp(a->body, "0") == 0);
	ck_assert_int_gt(atoi(a->body), 0);
	ck_assert_int_lt(atoi(a->body), WIRE_POST_MAX_BYTES);
	rig_stop(&rig);
}
END_TEST

/* All the places, again and again. */
START_TEST(test_many)
{
	struct rig rig;

	post_rig(&rig);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
			post(&rig, i, i % 2, answers[(round * 8 + i) % 30].path);
		for (unsigned i = 0; i < WIRE_MAX_POSTS; i++) {
			rig_until_answered(&rig, i);
			ck_assert_uint_eq(rig.posts[i].answer.status,
					  answers[(round * 8 + i) % 30].status);
		}
	}
	rig_stop(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_post");
	TCase *t = tcase_create("http server");

	tcase_add_unchecked_fixture(t, http_server_start, http_server_stop);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_answers, 0, 2 * N_ANSWERS);
	tcase_add_loop_test(t, test_body_to_the_end, 0, 2);
	tcase_add_loop_test(t, test_kept_body, 0, (int)(sizeof(kept) / sizeof(*kept)));
	tcase_add_test(t, test_kept_body_at_most);
	tcase_add_loop_test(t, test_no_answer, 0, 2 * N_FAILURES);
	tcase_add_loop_test(t, test_stalls, 0, 2);
	tcase_add_loop_test(t, test_early_answers, 0, 2 * N_EARLY);
	tcase_add_loop_test(t, test_refused_is_not_sent_on, 0, 2);
	tcase_add_test(t, test_many);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
