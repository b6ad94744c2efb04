/* SPDX-License-Identifier: MIT */
/* The HTTP API of the devserver's core and what a database sends, the clock played by the test. */
#include <stdlib.h>

#include "devserver/play_auth.h"
#include "devserver/term.h"
#include "tests/unit/suite.h"

#define REPLAY "{\"private\":true,\"broadcast\":{\"replay\":{\"since\":1234,\"limit\":3}}}"
#define ROW    "[{\"id\" : \"i-1\", \"event\" : \"e\", \"payload\" : {\"n\": 1}, \"base64\" : null}]"
#define ROW_HEARD                                                                             \
	"[\"1\",null,\"realtime:r\",\"broadcast\",{\"event\":\"e\",\"meta\":{\"id\":\"i-1\"," \
	"\"replayed\":true},\"payload\":{\"n\": 1},\"type\":\"broadcast\"}]\n"

static struct ds_replay asked;
static char asked_name[40];
static unsigned n_asked;

static void on_replay(void *pg, const struct ds_replay *replay)
{
	ck_assert_ptr_eq(pg, &asked);
	asked = *replay;
	snprintf(asked_name, sizeof(asked_name), "%.*s", (int)replay->name.n, replay->name.p);
	n_asked++;
}

static void begin_with_database(const struct ds_conf *conf)
{
	static const struct ds_ops ops = { .send = on_send,
					   .close = on_close,
					   .pong = on_pong,
					   .bye = on_bye,
					   .half_frame = on_half_frame,
					   .pg_replay = on_replay,
					   .pg = &asked };

	begin(conf);
	ds_core_free(core);
	core = ds_core_new(conf, &ops);
	ds_core_clock(core, now_ms, WALL_MS);
	n_asked = 0;
}

static struct ds_socket *open_version_1(void)
{
	struct ds_buf key = { 0 };
	struct ds_socket *s;

	token(&key, 10000);
	s = ds_core_open(core, &heard, ds_str("1.0.0"), ds_buf_view(&key));
	ds_buf_done(&key);
	return s;
}

/* The status of a request whose token ends @seconds after the start; its headers in @ret_headers. */
static int request(const char *line, long seconds, const char *body, char ret_headers[200])
{
	struct ds_buf head = { 0 }, key = { 0 };
	struct ds_request r;
	struct ds_answer a;
	int status;

	token(&key, seconds);
	ds_buf_fmt(&head, "%s HTTP/1.1\r\ncontent-type: application/json\r\napikey: ", line);
	ds_buf_str(&head, ds_buf_view(&key));
	ds_buf_text(&head, "\r\n\r\n");
	ck_assert_int_eq(ds_http_parse(ds_buf_view(&head), &r), 1);
	ck_assert(ds_rest_is(r.path));
	ds_core_rest(core, &r, ds_str(body), &a);
	if (ret_headers)
		snprintf(ret_headers, 200, "%.*s", (int)a.headers.len, a.headers.data);
	status = a.status;
	ds_answer_done(&a);
	ds_buf_done(&head);
	ds_buf_done(&key);
	return status;
}

#define SINGLE   "POST /x/api/broadcast/r/events/e"
#define BATCH    "POST /api/broadcast"
#define MESSAGE  "{\"topic\":\"r\",\"event\":\"e\",\"payload\":{}}"
#define MESSAGES "{\"messages\":[" MESSAGE "," MESSAGE "]}"
#define HEARD    CAST("r", "{\"event\":\"e\",\"payload\":{},\"type\":\"broadcast\"}")

START_TEST(test_sizes)
{
	static const struct {
		const char *json;
		size_t size;
	} cases[] = {
		{ "null", 6 },
		{ " true ", 7 },
		{ "false", 8 },
		{ "0", 3 },
		{ "255", 3 },
		{ "256", 6 },
		{ "-1", 6 },
		{ "2147483647", 6 },
		{ "2147483648", 8 },
		{ "4294967296", 12 },
		{ "1.5", 10 },
		{ "-1e3", 10 },
		{ "\"\"", 6 },
		{ "\"a\\\"\\n\"", 9 },
		{ "\"\\u00e9\\u0041\\u20ac\"", 12 },
		{ "\"\\ud83d\\ude00\"", 10 },
		{ "[]", 2 },
		{ "[ [ ] , [\n] ]", 9 },
		{ "{}", 6 },
		{ "{\"a\" : [1, \"b\", {\"c\": null}]}", 42 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_msg(ds_term_size(ds_str(cases[i].json)) == cases[i].size, "%s: %zu",
			      cases[i].json, ds_term_size(ds_str(cases[i].json)));
	ck_assert_uint_eq(ds_term_bytes(10), 16);
}
END_TEST

START_TEST(test_a_token_of_a_request)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	s = open_socket(1000);
	say(s, JOIN("1", "r"));
	forget();
	pass(9999);
	ck_assert_int_eq(request(BATCH, 10, MESSAGES, NULL), 202);
	expect(HEARD HEARD);
	pass(1);
	ck_assert_int_eq(request(BATCH, 10, MESSAGES, NULL), 401);
	ck_assert_int_eq(request(SINGLE, 10, "{}", NULL), 401);
	expect("");
	end();
}
END_TEST

/* A batch counts as so many events; its listeners hear too much like those of anybody else. */
START_TEST(test_rates_of_events)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	conf.events_max = 10;
	begin(&conf);
	s = open_socket(1000);
	say(s, JOIN("1", "r"));
	forget();
	/* 49 and the first sample of nothing: 4.9 a second. */
	for (int i = 0; i < 12; i++)
		ck_assert_int_eq(request(BATCH, 1000, MESSAGES, NULL), 202);
	ck_assert_int_eq(request("POST /api/broadcast/else/events/e", 1000, "{}", NULL), 202);
	forget();
	pass(5000);
	ck_assert_int_eq(request(BATCH, 1000,
				 "{\"messages\":[" MESSAGE "," MESSAGE "," MESSAGE "," MESSAGE
				 "," MESSAGE "]}",
				 NULL),
			 202);
	ck_assert_int_eq(request(BATCH, 1000,
				 "{\"messages\":[" MESSAGE "," MESSAGE "," MESSAGE "," MESSAGE
				 "," MESSAGE "," MESSAGE "]}",
				 NULL),
			 429);
	expect(HEARD HEARD HEARD HEARD HEARD);
	/* With the 10 of these, 106 in the third sample: 155 in 15 s. */
	for (int i = 0; i < 24; i++)
		ck_assert_int_eq(request(BATCH, 1000, MESSAGES, NULL), 202);
	forget();
	pass(5000);
	ck_assert_int_eq(request(SINGLE, 1000, "{}", NULL), 429);
	ck_assert_int_eq(request(BATCH, 1000, MESSAGES, NULL), 429);
	expect("");
	pass(5000);
	ck_assert_int_eq(request(BATCH, 1000, MESSAGES, NULL), 202);
	expect(HEARD HEARD);
	end();
}
END_TEST

START_TEST(test_listeners_that_hear_too_much)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	conf.events_max = 1;
	begin(&conf);
	s = open_socket(1000);
	say(s, JOIN("1", "r"));
	for (int i = 0; i < 10; i++)
		say(s, PUSH("9", "r", "nothing", "{}"));
	pass(5000);
	forget();
	/* The average is 1: too much for one request, and for who listens; a batch may reach it. */
	ck_assert_int_eq(request(SINGLE, 1000, "{}", NULL), 429);
	ck_assert_int_eq(request(BATCH, 1000, MESSAGES, NULL), 429);
	fault("{\"op\":\"db_send\",\"topic\":\"r\",\"event\":\"e\",\"payload\":{}}");
	expect("");
	end();
}
END_TEST

START_TEST(test_rates_of_requests)
{
	struct ds_conf conf = test_conf();
	char headers[200];

	conf.events_max = 2;
	begin(&conf);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(request("GET /api/ping", 1000, "", headers), 200);
	ck_assert_str_eq(headers,
			 "x-rate-rolling: 0\r\nx-rate-limit: 2\r\nx-rate-limit-remaining: 2\r\n");
	pass(5000);
	ck_assert_int_eq(request("GET /api/ping", 1000, "", headers), 429);
	ck_assert_str_eq(headers,
			 "x-rate-rolling: 2\r\nx-rate-limit: 2\r\nx-rate-limit-remaining: 0\r\n");
	ck_assert_int_eq(request(SINGLE, 1, "{}", NULL), 429);
	pass(5000);
	ck_assert_int_eq(request("GET /api/ping", 1000, "", headers), 200);
	end();
}
END_TEST

/* The socket stands still until the database has answered, and goes on in order. */
START_TEST(test_a_replay_of_a_database)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s, *other;

	begin_with_database(&conf);
	s = open_socket(1000);
	other = open_socket(1000);
	say_as(s, ANN, JOIN_AS("1", "r", REPLAY));
	say(s, "[null,\"2\",\"phoenix\",\"heartbeat\",{}]");
	say(other, JOIN("1", "x"));
	expect(JOINED("1", "x"));
	ck_assert_uint_eq(n_asked, 1);
	ck_assert_str_eq(asked_name, "r");
	ck_assert_int_eq(asked.since_ms, 1234);
	ck_assert_uint_eq(asked.limit, 3);
	ds_core_pg_replayed(core, asked.socket_id + 100, ds_str(ROW));
	expect("");
	ds_core_pg_replayed(core, asked.socket_id, ds_str(ROW));
	expect(JOINED("1", "r") ROW_HEARD BEAT("2"));
	ck_assert_uint_eq(n_asked, 1);
	/* The next one asks again. */
	say_as(s, ANN, JOIN_AS("3", "r", REPLAY));
	ck_assert_uint_eq(n_asked, 2);
	ds_core_pg_replayed(core, asked.socket_id, ds_str("[]"));
	expect(JOINED("3", "r") "[\"1\",\"1\",\"realtime:r\",\"phx_close\",{}]\n");
	end();
}
END_TEST

START_TEST(test_who_asks_no_database)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin_with_database(&conf);
	s = open_socket(1000);
	say_as(s, ANN, JOIN_AS("1", "a", "{\"broadcast\":{\"replay\":{\"since\":1}}}"));
	say_as(s, ANN, JOIN_AS("1", "b", "{\"private\":true,\"broadcast\":{\"replay\":{}}}"));
	say_as(s, ANN, JOIN_AS("1", "c", "{\"private\":true,\"broadcast\":{\"replay\":null}}"));
	say(s, "[\"1\",\"1\",\"realtime:d\",\"broadcast\",{\"config\":{\"private\":true,"
	       "\"broadcast\":{\"replay\":{\"since\":1}}}}]");
	ck_assert_uint_eq(n_asked, 0);
	ck_assert_uint_eq(times("UnableToReplayMessages"), 2);
	ck_assert_uint_eq(times("postgres_changes"), 1);
	end();
}
END_TEST

START_TEST(test_a_database_that_cannot)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	conf.join_error_delay_ms = 5000;
	begin_with_database(&conf);
	s = open_socket(1000);
	say_as(s, ANN, JOIN_AS("1", "r", REPLAY));
	ds_core_pg_replayed(core, asked.socket_id, (struct ds_str){ NULL, 0 });
	pass(4999);
	expect("");
	pass(1);
	expect(REFUSED("1", "r", "UnableToReplayMessages: Realtime was unable to replay messages"));
	/* Who goes meanwhile is not answered, and the answer finds nobody. */
	say_as(s, ANN, JOIN_AS("2", "r", REPLAY));
	ds_core_gone(core, s);
	ds_core_pg_replayed(core, asked.socket_id, ds_str(ROW));
	expect("");
	end();
}
END_TEST

START_TEST(test_a_message_of_the_database)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;
	struct ds_db_message m = { .private = true };

	begin_with_database(&conf);
	s = open_version_1();
	say(s, "{\"topic\":\"realtime:r\",\"event\":\"phx_join\",\"ref\":\"1\",\"payload\":"
	       "{\"config\":{\"private\":true}}}");
	forget();
	m.id = ds_str("i-2");
	m.topic = ds_str("r");
	m.event = ds_str("e");
	m.payload = ds_str("{\"n\": 2}");
	ds_core_db_message(core, &m);
	expect("{\"ref\":null,\"event\":\"broadcast\",\"topic\":\"realtime:r\",\"payload\":{"
	       "\"event\":\"e\",\"meta\":{\"id\":\"i-2\"},\"payload\":{\"n\": 2},\"type\":"
	       "\"broadcast\"}}\n");
	m.private = false;
	ds_core_db_message(core, &m);
	m.private = m.binary = true;
	ds_core_db_message(core, &m);
	expect("");
	end();
}
END_TEST

/* 72 hours, to the message. */
START_TEST(test_how_long_it_is_stored)
{
	struct ds_conf conf = test_conf();
	struct ds_socket *s;

	begin(&conf);
	fault("{\"op\":\"db_send\",\"topic\":\"r\",\"event\":\"e\",\"payload\":{\"n\":1},\"age_"
	      "ms\":"
	      "259200000}");
	fault("{\"op\":\"db_send\",\"topic\":\"r\",\"event\":\"e\",\"payload\":{\"n\":2},\"age_"
	      "ms\":"
	      "-60000}");
	fault("{\"op\":\"db_send\",\"topic\":\"r\",\"event\":\"e\",\"payload\":{\"n\":3},\"age_"
	      "ms\":"
	      "-59999}");
	s = open_socket(1000);
	say_as(s, ANN,
	       JOIN_AS("1", "r", "{\"private\":true,\"broadcast\":{\"replay\":{\"since\":0}}}"));
	ck_assert_uint_eq(times("\"n\":1"), 1);
	ck_assert_uint_eq(times("\"n\":2"), 0); /* a minute ahead is too far */
	ck_assert_uint_eq(times("\"n\":3"), 1);
	forget();
	pass(1);
	fault("{\"op\":\"db_send\",\"topic\":\"r\",\"event\":\"e\",\"payload\":{},\"private\":"
	      "false}");
	say_as(s, ANN,
	       JOIN_AS("2", "r", "{\"private\":true,\"broadcast\":{\"replay\":{\"since\":0}}}"));
	ck_assert_uint_eq(times("\"n\":1"), 0);
	ck_assert_uint_eq(times("\"n\":2"), 1);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("devserver: the HTTP API and what a database sends");
	TCase *tc = tcase_create("rest");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_sizes);
	tcase_add_test(tc, test_a_token_of_a_request);
	tcase_add_test(tc, test_rates_of_events);
	tcase_add_test(tc, test_listeners_that_hear_too_much);
	tcase_add_test(tc, test_rates_of_requests);
	tcase_add_test(tc, test_a_replay_of_a_database);
	tcase_add_test(tc, test_who_asks_no_database);
	tcase_add_test(tc, test_a_database_that_cannot);
	tcase_add_test(tc, test_a_message_of_the_database);
	tcase_add_test(tc, test_how_long_it_is_stored);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
