/* SPDX-License-Identifier: MIT */
/* HTTP requests: the bytes on the wire, how large and how many they may be, what is refused, and
 * what else goes on meanwhile. */
#include <dirent.h>
#include <errno.h>

#include "wire_post_util.h"

/* Of the largest body below, computed with Python's hashlib. */
#define BODY_SHA256 "5662ce8b1b7899724dc372ab4634fd7841a44f47177603728469e75cd1af7913"

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
	struct wire_post p = post_to(_i == 1, _i == 1 ? "/drip?b" : "/drip?a");
	struct rig rig;

	rig_init(&rig);
	rig.conf.ca_file = ca_file;
	rig.conf.down_bytes = 4096;
	rig_start(&rig);
	rig_open(&rig, 0, false, "127.0.0.1", server_port(&server, "plain"),
		 _i == 1 ? "/ws?b" : "/ws?a");
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

START_TEST(test_one_too_many_is_busy)
{
	struct wire_post p = post_to(false, "/stall");
	struct rig rig;

	post_rig(&rig);
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		post(&rig, i, i % 2, i == 5 ? "/drip?c" : "/stall");
	ck_assert_int_eq(rig_try_post(&rig, WIRE_MAX_POSTS, &p), WIRE_E_BUSY);
	/* Let one of them go. */
	rig_open(&rig, 0, false, "127.0.0.1", server_port(&server, "plain"), "/ws?c");
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

/* Every place of both kinds. */
START_TEST(test_all_links_and_requests)
{
	struct rig rig;

	post_rig(&rig);
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		rig_open(&rig, i, i % 2, "127.0.0.1",
			 server_port(&server, i % 2 ? "good" : "plain"), "/ws?d");
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		rig_until(&rig, rig.recs[i].n_opened == 1);
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		post(&rig, i, i % 2, i == 0 ? "/drip?d" : "/stall");
	ping(&rig);
	/* Its place is taken again at once. */
	for (unsigned n = 0; n < 10; n++) {
		ck_assert_uint_eq(rig_until_answered(&rig, 0)->status, 202);
		post(&rig, 0, n % 2, "/status-202");
	}
	rig_until_answered(&rig, 0);
	ck_assert_uint_eq(rig.n_answers, 11);
	for (unsigned i = 0; i < WIRE_MAX_LINKS; i++)
		ck_assert_int_eq(rig.recs[i].n_closed, 0);
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
	Suite *suite = suite_create("wire_post_send");
	TCase *t = tcase_create("http server");

	tcase_add_unchecked_fixture(t, http_server_start, http_server_stop);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_bytes, 0, 2);
	tcase_add_loop_test(t, test_largest, 0, 2);
	tcase_add_loop_test(t, test_slow_reader_and_websocket, 0, 2);
	tcase_add_test(t, test_one_too_many_is_busy);
	tcase_add_test(t, test_all_links_and_requests);
	tcase_add_test(t, test_free_takes_all);
	tcase_add_test(t, test_free_with_news_waiting);
	tcase_add_test(t, test_bad_posts);
	suite_add_tcase(suite, t);
	return run_wire_suite(suite);
}
