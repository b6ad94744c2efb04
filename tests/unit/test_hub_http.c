/* SPDX-License-Identifier: MIT */
/* Stories about sends by HTTP: how they are put together, what the answers mean, what is tried
 * again and what is not. */
#include "hub_fixture.h"
#include "hub_sends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SENT(id)  "[1," #id ",null,{'outcome':'sent','via':'http'}]"
#define BATCH     "/broadcast application/json - "
#define SINGLY(n) BATCH "{'messages':[{*'payload':{'n':" #n "},'id':*}]}"

static struct fake_peer *a;

static void setup(void)
{
	rig_setup_online();
	a = peer_ready();
}

/* Number `n` to this topic, as request n. */
static void says_to(const char *topic, unsigned n)
{
	char params[200];

	snprintf(params, sizeof(params),
		 "{'topic':'%s','event':'e','payload':{'n':%u},'via':'http'}", topic, n);
	peer_ask(a, n, "broadcast", params);
}

static void says(unsigned n)
{
	says_to("t", n);
}

static void says_several(unsigned from, unsigned to)
{
	rig.no_turns = true;
	for (unsigned n = from; n <= to; n++)
		says(n);
	rig.no_turns = false;
	turn();
}

/* The numbers in a request must be these, in their order. */
static struct line *expect_numbers(unsigned from, unsigned to)
{
	struct line *post = expect_post(BATCH "*");
	const char *at = post->text;

	for (unsigned n = from; n <= to; n++) {
		at = strstr(at, "{\"n\":");
		MUST_MSG(at && strtoul(at + 5, NULL, 10) == n, "%s; expected %u to %u", post->text,
			 from, to);
		at++;
	}
	MUST(!strstr(at, "{\"n\":"));
	return post;
}

static void expect_all_sent(unsigned from, unsigned to)
{
	char pattern[100];

	for (unsigned n = from; n <= to; n++) {
		snprintf(pattern, sizeof(pattern), "[1,%u,null,{'outcome':'sent','via':'http'}]",
			 n);
		expect(a, pattern);
	}
}

/* ---- how they go together ---- */

START_TEST(one_at_a_time)
{
	struct line *first, *second;

	says_several(1, 3);
	first = expect_numbers(1, 3);
	/* What comes meanwhile goes together. */
	says(4);
	advance(1000);
	says(5);
	says(6);
	/* Other channels do not wait. */
	says_to("u", 7);
	second = expect_numbers(7, 7);
	server_answer(second, 202, "");
	expect_all_sent(7, 7);
	expect_no_post();
	server_answer(first, 202, "");
	expect_all_sent(1, 3);
	first = expect_numbers(4, 6);
	expect_no_post();
	server_answer(first, 202, "");
	expect_all_sent(4, 6);
	expect_no_post();
	ck_assert_uint_eq(rig.hub->n_chans, 0);
	expect_no_frame();
}
END_TEST

START_TEST(thirty_two_messages)
{
	says_several(1, 70);
	server_answer(expect_numbers(1, 32), 202, "");
	server_answer(expect_numbers(33, 64), 202, "");
	server_answer(expect_numbers(65, 70), 202, "");
	expect_all_sent(1, 70);
}
END_TEST

static void says_much(unsigned id, size_t size)
{
	char *params = malloc(size + 200);
	int n = sprintf(params, "{'topic':'t','event':'e','via':'http','payload':{'n':%u,'x':'",
			id);

	memset(params + n, 'x', size);
	strcpy(params + n + size, "'}}");
	peer_ask(a, id, "broadcast", params);
	free(params);
}

START_TEST(a_quarter_of_a_mebibyte)
{
	static const struct {
		unsigned from, to;
	} requests[] = { { 1, 2 }, { 3, 4 }, { 5, 5 }, { 6, 7 } };
	struct line *post;

	rig.no_turns = true;
	for (unsigned n = 1; n <= 4; n++)
		says_much(n, 100 * 1024);
	says_much(5, 300 * 1024); /* alone it may be larger */
	says_much(6, 1);
	says_much(7, 1);
	rig.no_turns = false;
	turn();
	for (unsigned i = 0; i < 4; i++) {
		post = expect_numbers(requests[i].from, requests[i].to);
		MUST(i == 2 || strlen(strchr(post->text, '{')) <= POST_BYTES_MAX + 2);
		server_answer(post, 202, "");
	}
	expect_all_sent(1, 7);
}
END_TEST

START_TEST(too_large_for_any_request)
{
	says_much(1, 3999000);
	server_answer(expect_numbers(1, 1), 202, "");
	expect(a, SENT(1));
	/* Three bytes for one, here and there. */
	rig.no_turns = true;
	says(2);
	peer_ask_bin(a, 3, "{'topic':'t','event':'e','via':'http'}", "b");
	says(4);
	rig.no_turns = false;
	turn();
	server_answer(expect_numbers(2, 2), 202, "");
	server_answer(expect_post("/broadcast/t/events/e?private=false * 62"), 202, "");
	server_answer(expect_numbers(4, 4), 202, "");
	expect(a, SENT(2));
	expect(a, SENT(3));
	expect(a, SENT(4));
}
END_TEST

/* A binary one goes alone, where it stands. */
START_TEST(binary_ones_between)
{
	struct line *post;

	rig.no_turns = true;
	says(1);
	says(2);
	peer_ask_bin(a, 3, "{'topic':'t','event':'e','via':'http'}", "b1");
	peer_ask_bin(a, 4, "{'topic':'t','event':'e','via':'http'}", "b2");
	says(5);
	rig.no_turns = false;
	turn();
	server_answer(expect_numbers(1, 2), 202, "");
	post = expect_post("/broadcast/t/events/e?private=false application/octet-stream - 6231");
	expect_no_post();
	server_answer(post, 202, "");
	post = expect_post("/broadcast/t/events/e?private=false application/octet-stream - 6232");
	server_answer(post, 202, "");
	server_answer(expect_numbers(5, 5), 202, "");
	expect_all_sent(1, 5);
}
END_TEST

START_TEST(odd_names)
{
	static const struct {
		const char *topic, *event, *path, *quoted;
	} rows[] = {
		{ "a/b c", "x?y&z=1#f", "/broadcast/a%2Fb%20c/events/x%3Fy%26z%3D1%23f?private=",
		  "'topic':'a/b c','event':'x?y&z=1#f'" },
		{ "100%", "+;:@,$!*()", "/broadcast/100%25/events/%2B%3B%3A%40%2C%24%21%2A%28%29?",
		  "'topic':'100%','event':'+;:@,$!*()'" },
		{ "\\u0022q\\\\", "\\u00e9\\u20ac", "/broadcast/%22q%5C/events/%C3%A9%E2%82%AC?",
		  "'topic':'\\\"q\\\\','event':'\xc3\xa9\xe2\x82\xac'" },
		{ "realtime:t", "A-Z_az.09~", "/broadcast/realtime%3At/events/A-Z_az.09~?",
		  "'topic':'realtime:t','event':'A-Z_az.09~'" },
		{ "%2F", " ", "/broadcast/%252F/events/%20?", "'topic':'%2F','event':' '" },
	};
	char params[300], pattern[300];

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(params, sizeof(params), "{'topic':'%s','event':'%s','via':'http'}",
			 rows[i].topic, rows[i].event);
		peer_ask_bin(a, 2 * i + 1, params, "b");
		snprintf(pattern, sizeof(pattern), "%s*", rows[i].path);
		server_answer(expect_post(pattern), 202, "");
		snprintf(params, sizeof(params),
			 "{'topic':'%s','event':'%s','via':'http','payload':{}}", rows[i].topic,
			 rows[i].event);
		peer_ask(a, 2 * i + 2, "broadcast", params);
		snprintf(pattern, sizeof(pattern), BATCH "{'messages':[{%s,*}]}", rows[i].quoted);
		server_answer(expect_post(pattern), 202, "");
		expect(a, "[1,*'sent'*");
		expect(a, "[1,*'sent'*");
	}
}
END_TEST

/* What is between two slashes may not be taken for a step in the path, however it is encoded: such
 * names go in a batch only. */
START_TEST(names_that_are_steps)
{
	static const char *const names[] = { "'.','event':'e'", "'..','event':'e'",
					     "'t','event':'.'", "'t','event':'..'" };
	char params[100];

	for (unsigned i = 0; i < 4; i++) {
		snprintf(params, sizeof(params), "{'topic':%s,'via':'http'}", names[i]);
		peer_ask_bin(a, i, params, "b");
		expect(a, "[1,*,null,{'outcome':'bad_payload','via':'http','text':'*'}]");
		snprintf(params, sizeof(params), "{'topic':%s,'payload':{},'via':'http'}",
			 names[i]);
		peer_ask(a, 10 + i, "broadcast", params);
		server_answer(expect_post(BATCH "*"), 202, "");
		expect(a, "[1,*,null,{'outcome':'sent','via':'http'}]");
	}
	expect_no_post();
	peer_ask_bin(a, 20, "{'topic':'..','event':'e'}", "b");
	server_join("..");
	server_reply(expect_frame("[3,*'realtime:..','e',bin:b]"), true, "{}");
	expect(a, "[1,20,null,{'outcome':'acked','via':'ws'}]");
	peer_ask_bin(a, 21, "{'topic':'...','event':'.e'}", "b");
	server_answer(expect_post("/broadcast/.../events/.e?private=false *"), 202, "");
	expect(a, SENT(21));
}
END_TEST

/* ---- what an answer means ---- */

/* In bodies ~ stands for '. */
static const struct {
	unsigned status;
	uint32_t retry_after_s;
	const char *body, *outcome;
} answers[] = {
	{ 200, 0, "", "'outcome':'sent','via':'http'}" },
	{ 202, 0, "{'message':'x'}", "'outcome':'sent','via':'http'}" },
	{ 204, 0, "", "'outcome':'sent','via':'http'}" },
	{ 299, 0, "", "'outcome':'sent','via':'http'}" },
	{ 401, 0, "{'message':'Unauthorized'}",
	  "'outcome':'denied','via':'http','text':'HTTP status 401: Unauthorized'}" },
	{ 403, 0, "", "'outcome':'denied','via':'http','text':'HTTP status 403'}" },
	{ 404, 0, "<html>", "'outcome':'unsupported','via':'http','text':'HTTP status 404'}" },
	{ 415, 0, "", "'outcome':'unsupported',*" },
	{ 413, 0, "", "'outcome':'too_big','via':'http','text':'HTTP status 413'}" },
	{ 422, 0, "{'errors':{'messages':[{'payload':['Payload size exceeds tenant limit']}]}}",
	  "'outcome':'too_big',*" },
	{ 422, 0, "{'errors':{'messages':[{'topic':['can~t be blank']}]}}",
	  "'outcome':'bad_payload',*" },
	{ 422, 0, "{'errors':{'messages':[{'payload':['is invalid']}]}}",
	  "'outcome':'bad_payload',*'HTTP status 422: the server finds a part of the message "
	  "invalid'}" },
	{ 422, 0, "{'error':'no policies here'}",
	  "'outcome':'denied','via':'http','text':'HTTP status 422: no policies here'}" },
	{ 429, 0, "{'message':'Too many messages'}",
	  "'outcome':'rate_limited','via':'http','text':'HTTP status 429: Too many messages'}" },
	{ 429, 7, "", "'outcome':'rate_limited',*,'retry_in_ms':7000}" },
	{ 429, 4294967295, "", "'outcome':'rate_limited',*,'retry_in_ms':4294967295000}" },
	{ 500, 0, "oops", "'outcome':'unknown','via':'http','text':'HTTP status 500'}" },
	/* A gateway that repeats what it was asked. */
	{ 500, 0, "{'message':'apikey: the-key'}",
	  "'outcome':'unknown','via':'http','text':'HTTP status 500'}" },
	{ 500, 0, "POST /x apikey: the-key",
	  "'outcome':'unknown','via':'http','text':'HTTP status 500'}" },
	{ 502, 0, "", "'outcome':'unknown',*" },
	{ 503, 30, "", "'outcome':'unknown',*,'retry_in_ms':30000}" },
	{ 504, 0, "", "'outcome':'unknown',*" },
	{ 599, 0, "", "'outcome':'unknown',*" },
	{ 302, 0, "", "'outcome':'unknown',*" },
	{ 999, 0, "", "'outcome':'unknown',*" },
};

START_TEST(answer)
{
	char *body = quoted(answers[_i].body), pattern[200];
	struct hub_answer h = {
		.was_sent = true,
		.status = answers[_i].status,
		.retry_after_s = answers[_i].retry_after_s,
		.body = body,
		.size = strlen(body),
		.text = "",
	};

	for (char *c = body; *c; c++)
		*c = *c == '~' ? '\'' : *c;
	peer_ask(a, 1, "broadcast",
		 "{'topic':'t','event':'e','payload':{},'via':'http','id':'one'}");
	server_answer_all(expect_post("*'id':'one'*"), &h);
	snprintf(pattern, sizeof(pattern), "[1,1,null,{%s]", answers[_i].outcome);
	expect(a, pattern);
	snprintf(pattern, sizeof(pattern), "null,{%s", answers[_i].outcome);
	expect_outcome(a, 2, "one", pattern);
	/* Whatever it was, the next one goes. */
	peer_ask_bin(a, 3, "{'topic':'t','event':'e','via':'http'}", "b");
	server_answer_all(expect_post("/broadcast/t/*"), &h);
	snprintf(pattern, sizeof(pattern), "[1,3,null,{%s]", answers[_i].outcome);
	expect(a, pattern);
	expect_no_post();
	free(body);
}
END_TEST

/* The text is UTF-8 without control characters, whatever the server sends (the fixture looks). */
START_TEST(garbage_for_a_body)
{
	static const struct {
		const char *bytes;
		size_t size;
	} rows[] = {
		{ NULL, 0 },
		{ "\xff\xfe\xfd", 3 },
		{ "a\0b", 3 },
		{ "{\"message\":\"a\\u0000\\u001b[31mb\"}", 32 },
		{ "{\"message\":\"\xc3\"}", 14 },
		{ "{\"message\":{\"x\":1},\"error\":[]}", 30 },
		{ "[[[[[[[[[[[[[[[[[[[[", 20 },
		{ "null", 4 },
		{ "\"words\"", 7 },
		{ "{\"message\":\"", 12 },
		{ "\n\n\n\t\x7f", 5 },
	};
	struct hub_answer h = { .was_sent = true, .status = 500, .text = "" };
	char large[5000];
	unsigned id = 1;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		/* Exactly as large, so that a sanitizer sees one byte too many. */
		char *copy = malloc(rows[i].size ? rows[i].size : 1);

		if (rows[i].size)
			memcpy(copy, rows[i].bytes, rows[i].size);
		h.body = rows[i].bytes ? copy : NULL;
		h.size = rows[i].size;
		says(id++);
		server_answer_all(expect_post("*"), &h);
		expect(a,
		       "[1,*,null,{'outcome':'unknown','via':'http','text':'HTTP status 500*'}]");
		free(copy);
	}
	/* Cut in the middle of a character, wherever that is. */
	for (unsigned shift = 0; shift < 3; shift++) {
		memset(large, 'x', shift);
		for (size_t i = shift; i + 3 <= sizeof(large); i += 3)
			memcpy(large + i, "\xe2\x82\xac", 3);
		h.body = large;
		h.size = sizeof(large);
		says(id++);
		server_answer_all(expect_post("*"), &h);
		expect(a,
		       "[1,*,null,{'outcome':'unknown','via':'http','text':'HTTP status 500*'}]");
	}
}
END_TEST

/* ---- a batch is refused: then each for itself ---- */

static const struct {
	unsigned status;
	const char *body;
} batch_refusals[] = {
	{ 413, "" },
	{ 422, "{'errors':{'messages':[{},{'payload':['is invalid']}]}}" },
	{ 429, "{'message':'Too many messages to broadcast, please reduce the batch size'}" },
};

START_TEST(singly)
{
	struct line *post;

	says_several(1, 3);
	post = expect_numbers(1, 3);
	says(4);
	says(5);
	server_answer(post, batch_refusals[_i].status, batch_refusals[_i].body);
	expect_nothing(a);
	server_answer(expect_post(SINGLY(1)), 202, "");
	expect(a, SENT(1));
	post = expect_post(SINGLY(2));
	expect_no_post();
	says(6);
	server_answer(post, batch_refusals[_i].status, batch_refusals[_i].body);
	expect(a, _i == 0 ? "[1,2,null,{'outcome':'too_big',*"
			  : (_i == 1 ? "[1,2,null,{'outcome':'bad_payload',*"
				     : "[1,2,null,{'outcome':'rate_limited',*"));
	/* It could not be reached: it is still one of those. */
	post_unreachable(expect_post(SINGLY(3)));
	advance(600);
	server_answer(expect_post(SINGLY(3)), 202, "");
	expect(a, SENT(3));
	/* From here on together again. */
	server_answer(expect_numbers(4, 6), 202, "");
	expect_all_sent(4, 6);
	expect_no_post();
}
END_TEST

/* Other words: it is the rate, and sending again would make it worse. */
START_TEST(rate_of_a_batch)
{
	struct hub_answer h = { .was_sent = true, .status = 429, .retry_after_s = 2, .text = "" };

	says_several(1, 3);
	server_answer_all(expect_numbers(1, 3), &h);
	for (unsigned i = 0; i < 3; i++)
		expect(a, "[1,*,null,{'outcome':'rate_limited',*'retry_in_ms':2000}]");
	expect_nothing(a);
	expect_no_post();
}
END_TEST

/* Those of a refused batch whose time is over meanwhile. */
START_TEST(singly_without_some)
{
	struct line *post;

	peer_ask(a, 1, "broadcast",
		 "{'topic':'t','event':'e','payload':{'n':1},'via':'http','ttl_ms':100}");
	rig.no_turns = true;
	peer_ask(a, 2, "broadcast",
		 "{'topic':'t','event':'e','payload':{'n':2},'via':'http','ttl_ms':1500}");
	says(3);
	rig.no_turns = false;
	post = expect_numbers(1, 1);
	advance(1000); /* given away in time: its time does not count any more */
	server_answer(post, 202, "");
	expect(a, SENT(1));
	post = expect_numbers(2, 3);
	advance(1000);
	server_answer(post, 413, "");
	/* Nothing was done of it, and its time is over. */
	advance(0);
	post = any_post();
	if (text_matches(SINGLY(2), post->text)) {
		server_answer(post, 202, "");
		expect(a, SENT(2));
		post = expect_post(SINGLY(3));
	} else {
		expect(a, "[1,2,null,{'outcome':'expired',*");
	}
	server_answer(post, 202, "");
	expect(a, SENT(3));
	expect_no_post();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hub_http");
	TCase *t = tcase_create("requests");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, rig_teardown);
	tcase_add_test(t, one_at_a_time);
	tcase_add_test(t, thirty_two_messages);
	tcase_add_test(t, a_quarter_of_a_mebibyte);
	tcase_add_test(t, too_large_for_any_request);
	tcase_add_test(t, binary_ones_between);
	tcase_add_test(t, odd_names);
	tcase_add_test(t, names_that_are_steps);
	tcase_add_loop_test(t, answer, 0, sizeof(answers) / sizeof(*answers));
	tcase_add_test(t, garbage_for_a_body);
	tcase_add_loop_test(t, singly, 0, 3);
	tcase_add_test(t, rate_of_a_batch);
	tcase_add_test(t, singly_without_some);
	suite_add_tcase(s, t);
	return suite_run(s);
}
