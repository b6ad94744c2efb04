/* SPDX-License-Identifier: MIT */
/* HTTP requests against a server that misbehaves (tests/wire/http_server.py), plain and by TLS:
 * each is answered once, with the status if there was one. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>

#include "wire_util.h"

/* Of the largest body below, computed with Python's hashlib. */
#define BODY_SHA256 "5662ce8b1b7899724dc372ab4634fd7841a44f47177603728469e75cd1af7913"

static struct server server;
static char folder[] = "/tmp/rtb-wire-post-XXXXXX";
static char ca_file[PATH_MAX];

static void start_server(void)
{
	const char *const make[] = { "sh", RTB_WIRE_TESTS "/make_certs.sh", folder, NULL };
	const char *const argv[] = { RTB_PYTHON, RTB_WIRE_TESTS "/http_server.py", folder, "good",
				     NULL };
	int status;
	pid_t pid;

	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", folder);
	ck_assert_int_eq(posix_spawnp(&pid, "sh", NULL, NULL, (char **)(uintptr_t)make, environ),
			 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	server_start(&server, argv);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void stop_server(void)
{
	server_stop(&server);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void post_rig(struct rig *rig)
{
	rig_init(rig);
	rig->conf.ca_file = ca_file;
	rig_start(rig);
}

static struct wire_post post_to(bool tls, const char *path)
{
	return (struct wire_post){
		.target = { .tls = tls,
			    .host = "127.0.0.1",
			    .port = server_port(&server, tls ? "good" : "plain"),
			    .path = path },
		.content_type = "application/json",
		.body = "{\"messages\":[]}",
		.size = 15,
		.timeout_ms = WIRE_DEADLINE_MS,
	};
}

static void post(struct rig *rig, unsigned id, bool tls, const char *path)
{
	struct wire_post p = post_to(tls, path);

	ck_assert_int_eq(rig_try_post(rig, id, &p), 0);
}

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

START_TEST(test_kept_body)
{
	const struct wire_answer *a;
	struct rig rig;

	post_rig(&rig);
	post(&rig, 0, false, "/body-1000000");
	a = rig_until_answered(&rig, 0);
	ck_assert_uint_eq(a->size, WIRE_ANSWER_MAX_BYTES);
	for (size_t i = 0; i < a->size; i++)
		ck_assert_int_eq(a->body[i], 'b');
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

/* The deadline ends it; a status that came counts. */
START_TEST(test_stalls)
{
	static const char big[4000000];
	struct wire_post p = post_to(_i >= N_STALLS, stalls[_i % N_STALLS].path);
	const struct wire_answer *a;
	struct rig rig;

	/* Enough that it cannot be sent to one that does not read. */
	if (strcmp(p.target.path, "/deaf") == 0) {
		p.body = big;
		p.size = sizeof(big);
	}
	p.timeout_ms = 500;
	post_rig(&rig);
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	a = rig_until_answered(&rig, 0);
	ck_assert_uint_eq(a->status, stalls[_i % N_STALLS].status);
	ck_assert_int_eq(a->why, a->status ? WIRE_HTTP : WIRE_HANDSHAKE);
	ck_assert(!a->whole);
	ck_assert(a->was_sent);
	if (a->status == 0)
		ck_assert_msg(strstr(a->text, "500 ms") != NULL, "%s", a->text);
	rig_stop(&rig);
}
END_TEST

/* A server that refuses the request need not read it: its answer must not get lost. */
START_TEST(test_early_answers)
{
	static const struct {
		const char *path;
		unsigned status;
	} cases[] = {
		{ "/early-413", 413 },   { "/early-413-deaf", 413 }, { "/early-403-endless", 403 },
		{ "/early-hang-up", 0 }, { "/early-reset", 0 },
	};
	static const char big[WIRE_POST_MAX_BYTES];
	struct wire_post p = post_to(_i >= 5, cases[_i % 5].path);
	const struct wire_answer *a;
	struct rig rig;

	p.body = big;
	p.size = sizeof(big);
	post_rig(&rig);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(rig_try_post(&rig, i, &p), 0);
		a = rig_until_answered(&rig, i);
		ck_assert_msg(a->status == cases[_i % 5].status, "%s: %u, %s", p.target.path,
			      a->status, a->text);
		ck_assert_int_eq(a->why, a->status ? WIRE_HTTP : WIRE_LOST);
		ck_assert(a->was_sent);
	}
	rig_stop(&rig);
}
END_TEST

START_TEST(test_bytes)
{
	static const char *const headers[] = { "apikey: key", "Authorization: Bearer token",
					       "x-client-info:  rtbridge/1 ", NULL };
	struct wire_post p = post_to(_i == 1, "/bytes?a=b&c=%20d");
	char expected[1024];
	struct rig rig;

	p.target.headers = headers;
	p.content_type = "text/plain; charset=utf-8";
	p.body = "hello";
	p.size = 5;
	snprintf(expected, sizeof(expected),
		 "POST /bytes?a=b&c=%%20d HTTP/1.1\r\nhost: 127.0.0.1:%u\r\n"
		 "content-type: text/plain; charset=utf-8\r\ncontent-length: 5\r\n"
		 "connection: close\r\napikey: key\r\nAuthorization: Bearer token\r\n"
		 "x-client-info:  rtbridge/1 \r\n\r\n"
		 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
		 (unsigned)p.target.port);
	post_rig(&rig);
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	ck_assert_str_eq(rig_until_answered(&rig, 0)->body, expected);
	/* Without a body. */
	p.body = NULL;
	p.size = 0;
	ck_assert_int_eq(rig_try_post(&rig, 1, &p), 0);
	ck_assert_ptr_nonnull(
		strstr(rig_until_answered(&rig, 1)->body, "\r\ncontent-length: 0\r\n"));
	rig_stop(&rig);
}
END_TEST

static void fill(char *to, size_t size, const char *start)
{
	memset(to, 'k', size - 1);
	memcpy(to, start, strlen(start));
	to[size - 1] = '\0';
}

/* The largest there is, and it can be read while it is sent. */
START_TEST(test_largest)
{
	static char token[8192 + 32], key[8192 + 32], other[8000], body[WIRE_POST_MAX_BYTES];
	const char *const headers[] = { token, key, other, NULL };
	struct wire_post p = post_to(_i == 1, "/sizes-");
	struct rig rig;

	fill(token, sizeof("authorization: Bearer ") + 8192, "authorization: Bearer ");
	fill(key, sizeof("apikey: ") + 8192, "apikey: ");
	fill(other, 7900, "x-other: ");
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)(i * 31 >> 4);
	p.target.headers = headers;
	p.body = body;
	p.size = sizeof(body);
	post_rig(&rig);
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	/* wire's copy is its own. */
	memset(body, 0, sizeof(body));
	fill(token, 100, "x");
	rig_until_answered(&rig, 0);
	ck_assert_uint_eq(rig.posts[0].answer.status, 200);
	ck_assert_ptr_nonnull(strstr(rig.posts[0].body, "authorization=8199 apikey=8192 "));
	ck_assert_ptr_nonnull(strstr(rig.posts[0].body, "content-length=7"));
	ck_assert_msg(strstr(rig.posts[0].body, " body " BODY_SHA256) != NULL, "%s",
		      rig.posts[0].body);
	rig_stop(&rig);
}
END_TEST

static void ping(struct rig *rig)
{
	unsigned before = rig->recs[0].n_messages;

	ck_assert_int_eq(wire_send(rig->w, 0, rig->recs[0].epoch, false, "ping", 4), 0);
	rig_until(rig, rig->recs[0].n_messages == before + 1);
}

/* The server reads a piece of the request for each message on the WebSocket: those are answered
 * while it is on its way. The mailbox is much smaller than the request. */
START_TEST(test_slow_reader_and_websocket)
{
	static char body[WIRE_POST_MAX_BYTES];
	struct wire_post p = post_to(_i == 1, "/drip");
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig.conf.down_bytes = 4096;
	rig_start(&rig);
	rig_open(&rig, 0, false, "127.0.0.1", server_port(&server, "plain"), "/ws");
	rig_until(&rig, rig.recs[0].n_opened == 1);
	p.body = body;
	p.size = sizeof(body);
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), 0);
	for (size_t read = 0; read < sizeof(body); read += 65536) {
		ck_assert_int_eq(rig.posts[0].n_answered, 0);
		ping(&rig);
	}
	ck_assert_uint_eq(rig_until_answered(&rig, 0)->status, 202);
	ping(&rig);
	ck_assert_int_eq(rig.recs[0].n_closed, 0);
	rig_stop(&rig);
}
END_TEST

START_TEST(test_ninth_is_busy)
{
	struct wire_post p = post_to(false, "/stall");
	struct rig rig;

	post_rig(&rig);
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		post(&rig, i, i % 2, i == 5 ? "/drip" : "/stall");
	ck_assert_int_eq(rig_try_post(&rig, WIRE_MAX_POSTS, &p), WIRE_E_BUSY);
	/* Let one of them go. */
	rig_open(&rig, 0, false, "127.0.0.1", server_port(&server, "plain"), "/ws");
	rig_until(&rig, rig.recs[0].n_opened == 1);
	ck_assert_int_eq(wire_send(rig.w, 0, rig.recs[0].epoch, false, "go", 2), 0);
	ck_assert_uint_eq(rig_until_answered(&rig, 5)->status, 202);
	ck_assert_uint_eq(rig.n_answers, 1);
	post(&rig, WIRE_MAX_POSTS, true, "/status-202");
	ck_assert_uint_eq(rig_until_answered(&rig, WIRE_MAX_POSTS)->status, 202);
	ck_assert_uint_eq(rig.n_answers, 2);
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

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Freed in the middle of everything: no descriptor stays (and, under a sanitizer, no memory). */
START_TEST(test_free_takes_all)
{
	static const char big[3000000];
	int before = count_fds();

	for (int i = 0; i < 5; i++) {
		struct wire_post p = post_to(false, "/deaf");
		struct rig rig;

		p.body = big;
		p.size = sizeof(big);
		post_rig(&rig);
		post(&rig, 0, false, "/status-202");
		rig_until_answered(&rig, 0);
		post(&rig, 0, false, "/stall");
		post(&rig, 1, true, "/stall-body");
		ck_assert_int_eq(rig_try_post(&rig, 2, &p), 0);
		p.target.tls = true;
		p.target.port = server_port(&server, "good");
		ck_assert_int_eq(rig_try_post(&rig, 3, &p), 0);
		p.target.host = "localhost";
		ck_assert_int_eq(rig_try_post(&rig, 4, &p), 0);
		post(&rig, 5, true, "/status-202");
		if (i % 2)
			rig_until_answered(&rig, 5);
		rig_stop(&rig);
		ck_assert_int_eq(count_fds(), before);
	}
}
END_TEST

START_TEST(test_free_with_news_waiting)
{
	struct rig rig;

	post_rig(&rig);
	post(&rig, 0, false, "/status-202");
	post(&rig, 1, false, "/status-202");
	rig_until_answered(&rig, 0);
	/* Its news may be in the mailbox. */
	rig_stop(&rig);
}
END_TEST

START_TEST(test_bad_posts)
{
	static char long_header[WIRE_POST_MAX_BYTES], long_type[300];
	static const char *const bad_headers[][2] = {
		{ "x-a: b\r\nevil: 1", NULL },
		{ "x-a: b\nevil: 1", NULL },
		{ "x-a\r\n: b", NULL },
		{ "x-a", NULL },
		{ ": b", NULL },
		{ "x a: b", NULL },
		{ " x-a: b", NULL },
		{ "x-a : b", NULL },
		{ "Host: elsewhere", NULL },
		{ "content-length: 0", NULL },
		{ "Content-Type: a", NULL },
		{ "Transfer-Encoding: chunked", NULL },
		{ "connection: keep-alive", NULL },
		{ "Expect: 100-continue", NULL },
		{ long_header, NULL },
	};
	static const char *const bad_paths[] = { "status-202", "",           "/a b", "/\r\nevil: 1",
						 "/a\nb",      "/ HTTP/1.1", "/\x7f" };
	static const char *const bad_types[] = { "", "a\r\nevil: 1", long_type };
	struct wire_post p;
	struct rig rig;

	fill(long_header, 25000, "x-a: ");
	fill(long_type, sizeof(long_type), "a/");
	post_rig(&rig);
	for (size_t i = 0; i < sizeof(bad_headers) / sizeof(*bad_headers); i++) {
		p = post_to(false, "/status-202");
		p.target.headers = bad_headers[i];
		ck_assert_msg(rig_try_post(&rig, 0, &p) == -EINVAL, "%zu", i);
	}
	for (size_t i = 0; i < sizeof(bad_paths) / sizeof(*bad_paths); i++) {
		p = post_to(false, bad_paths[i]);
		ck_assert_msg(rig_try_post(&rig, 0, &p) == -EINVAL, "%s", bad_paths[i]);
	}
	for (size_t i = 0; i < sizeof(bad_types) / sizeof(*bad_types); i++) {
		p = post_to(false, "/status-202");
		p.content_type = bad_types[i];
		ck_assert_msg(rig_try_post(&rig, 0, &p) == -EINVAL, "%s", bad_types[i]);
	}
	p = post_to(false, "/status-202");
	p.size = WIRE_POST_MAX_BYTES + 1;
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), -EINVAL);
	p = post_to(false, "/status-202");
	p.content_type = NULL;
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), -EINVAL);
	p = post_to(false, "/status-202");
	p.timeout_ms = 0;
	ck_assert_int_eq(rig_try_post(&rig, 0, &p), -EINVAL);
	/* None of them took a place. */
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		post(&rig, i, false, "/status-202");
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		ck_assert_uint_eq(rig_until_answered(&rig, i)->status, 202);
	rig_stop(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("wire_post");
	TCase *t = tcase_create("http server");

	tcase_add_unchecked_fixture(t, start_server, stop_server);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_answers, 0, 2 * N_ANSWERS);
	tcase_add_loop_test(t, test_body_to_the_end, 0, 2);
	tcase_add_test(t, test_kept_body);
	tcase_add_loop_test(t, test_no_answer, 0, 2 * N_FAILURES);
	tcase_add_loop_test(t, test_stalls, 0, 2 * N_STALLS);
	tcase_add_loop_test(t, test_early_answers, 0, 10);
	tcase_add_loop_test(t, test_bytes, 0, 2);
	tcase_add_loop_test(t, test_largest, 0, 2);
	tcase_add_loop_test(t, test_slow_reader_and_websocket, 0, 2);
	tcase_add_test(t, test_ninth_is_busy);
	tcase_add_test(t, test_many);
	tcase_add_test(t, test_free_takes_all);
	tcase_add_test(t, test_free_with_news_waiting);
	tcase_add_test(t, test_bad_posts);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
