/* SPDX-License-Identifier: MIT */
/* librtbridge: sends and their outcomes, questions, the send queue. */
#include "test_client_fake.h"
#include "suite.h"

struct log {
	char heard[4096];
	struct rtb_client *c;
	bool sends_again;
};

static void hear(struct log *log, const char *text)
{
	size_t n = strlen(log->heard);

	(void)snprintf(log->heard + n, sizeof(log->heard) - n, "%s ", text);
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	struct log *log = user;
	char text[256];

	(void)snprintf(text, sizeof(text), "%lld:%s%s%s", (long long)id,
		       rtb_outcome_name(result->outcome), result->text[0] ? ":" : "", result->text);
	hear(log, text);
	ck_assert_str_eq(result->id, "");
	if (result->outcome == RTB_OTHER) {
		(void)snprintf(text, sizeof(text), "word=%s", result->word);
		hear(log, text);
	} else {
		ck_assert_str_eq(result->word, rtb_outcome_name(result->outcome));
	}
	if (result->via)
		hear(log, result->via == RTB_VIA_WS ? "via=ws" : "via=http");
	if (result->code[0]) {
		(void)snprintf(text, sizeof(text), "code=%s", result->code);
		hear(log, text);
	}
	if (result->retry_after_ms >= 0) {
		(void)snprintf(text, sizeof(text), "retry=%lld", (long long)result->retry_after_ms);
		hear(log, text);
	}
	if (log->sends_again)
		ck_assert_int_lt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
}

static void on_reply(struct rtb_client *c, int error, const char *error_text, const void *value,
		     size_t size, void *user)
{
	struct log *log = user;
	char text[256], *json = NULL;

	(void)c;
	if (!error)
		ck_assert_int_eq(rtb_msgpack_to_json(value, size, &json, NULL, NULL, 0), 0);
	(void)snprintf(text, sizeof(text), "%d:%s", error, json ? json : error_text);
	rtb_free(json);
	hear(log, text);
}

static int64_t send_json(struct rtb_client *c, struct log *log, const char *json)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;

	o.result = on_result;
	o.user = log;
	return rtb_broadcast_json(c, "t", "e", json, (size_t)-1, &o);
}

static struct rtb_client *attached(struct fake *f, struct log *log, size_t queue)
{
	struct rtb_options o = RTB_OPTIONS_INIT;

	fake_start(f);
	*log = (struct log){ 0 };
	o.send_queue_bytes = queue;
	log->c = fake_client(f, &o);
	fake_attach(f, log->c);
	return log->c;
}

static void end(struct fake *f, struct rtb_client *c)
{
	rtb_client_free(c);
	fake_stop(f);
}

START_TEST(what_is_sent)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	struct log log;

	c = attached(&f, &log, 0);
	o.is_private = true;
	o.ttl_ms = 2500;
	ck_assert_int_gt(rtb_broadcast_json(c, "room:1", "hello", "{\"n\":1.50}", (size_t)-1, &o),
			 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(field_text(m.params, RTBP_F_TOPIC, "room:1"));
	ck_assert(field_text(m.params, RTBP_F_EVENT, "hello"));
	ck_assert(field_bool(m.params, RTBP_F_PRIVATE));
	ck_assert_str_eq(field_json(m.params, RTBP_F_TTL_MS), "2500");
	ck_assert_str_eq(field_json(m.params, RTBP_F_PAYLOAD), "{\"n\":1.50}");
	ck_assert_int_gt(rtb_broadcast(c, "room:1", "hello", "\xc0", 1, NULL), 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(!rtbp_field(m.params, RTBP_F_PRIVATE).p);
	ck_assert(!rtbp_field(m.params, RTBP_F_TTL_MS).p);
	ck_assert_str_eq(field_json(m.params, RTBP_F_PAYLOAD), "null");
	ck_assert_int_eq(rtb_broadcast(c, "", "e", "\xc0", 1, NULL), RTB_E_TOPIC);
	ck_assert_int_eq(rtb_broadcast(c, "t", "", "\xc0", 1, NULL), RTB_E_EVENT);
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc1", 1, NULL), RTB_E_PAYLOAD);
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "", 0, NULL), RTB_E_PAYLOAD);
	ck_assert_int_eq(rtb_broadcast_json(c, "t", "e", "{", 1, NULL), RTB_E_PAYLOAD);
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "byte"));
	o.size = 8;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), -EINVAL);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(options)
{
	/* {"k":1} */
	static const char extra[] = "\x81\xa1k\x01";
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct rtb_client *c;
	struct rtbp_str bin;
	struct rtbp_msg m;
	struct fake f;
	struct log log;

	c = attached(&f, &log, 0);
	o.via = RTB_VIA_HTTP;
	o.form = RTB_JSON;
	o.id = "the-id";
	o.extra = extra;
	o.extra_size = 4;
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", "[1]", (size_t)-1, &o), 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(field_text(m.params, RTBP_F_VIA, "http"));
	ck_assert(field_text(m.params, RTBP_F_ID, "the-id"));
	ck_assert_str_eq(field_json(m.params, RTBP_F_PAYLOAD), "[1]");
	ck_assert_str_eq(field_json(m.params, RTBP_F_EXTRA), "{\"k\":1}");
	o = (struct rtb_send_options)RTB_SEND_OPTIONS_INIT;
	o.via = RTB_VIA_WS;
	o.form = RTB_BINARY;
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", "\0{\xff", 3, &o), 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(field_text(m.params, RTBP_F_VIA, "ws"));
	ck_assert(rtbp_get_bin(rtbp_field(m.params, RTBP_F_PAYLOAD), &bin));
	ck_assert_uint_eq(bin.size, 3);
	ck_assert_int_eq(memcmp(bin.p, "\0{\xff", 3), 0);
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", NULL, 0, &o), 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(rtbp_get_bin(rtbp_field(m.params, RTBP_F_PAYLOAD), &bin));
	ck_assert_uint_eq(bin.size, 0);
	/* JSON whatever the form says. */
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "[2]", 3, &o), 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert_str_eq(field_json(m.params, RTBP_F_PAYLOAD), "[2]");
	/* Of a program that was made with an earlier header. */
	o.size = offsetof(struct rtb_send_options, via);
	o.id = "not read";
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), 0);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(!rtbp_field(m.params, RTBP_F_VIA).p && !rtbp_field(m.params, RTBP_F_ID).p);
	ck_assert_str_eq(field_json(m.params, RTBP_F_PAYLOAD), "null");
	end(&f, c);
}
END_TEST

START_TEST(wrong_options)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, 0);
	o.via = (enum rtb_via)3;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), -EINVAL);
	o.via = RTB_VIA_AUTO;
	o.form = (enum rtb_form)3;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), -EINVAL);
	o.form = RTB_MSGPACK;
	o.extra = "\x90"; /* an array, half a map, too much */
	o.extra_size = 1;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), RTB_E_PAYLOAD);
	o.extra = "\x81\xa1k";
	o.extra_size = 3;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), RTB_E_PAYLOAD);
	o.extra = "\x80\x80";
	o.extra_size = 2;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), RTB_E_PAYLOAD);
	o.extra_size = SIZE_MAX;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc0", 1, &o), RTB_E_PAYLOAD);
	o.extra_size = 1;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "\xc4\x01x", 3, &o), -EINVAL);
	o.form = RTB_BINARY;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", "x", 1, &o), -EINVAL);
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "binary"));
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

/* What the daemon knows of the plan; only what it would refuse in any case is refused here. */
START_TEST(over_the_plan)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	static char bytes[2000] = "\xc5\x03\xe9";
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	f.payload_bytes = 1000;
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	o.form = RTB_BINARY;
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", bytes, 1001, &o), RTB_E_TOO_BIG);
	ck_assert_str_eq(rtb_client_error_text(c), "1001 bytes, the project's plan takes 1000");
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", bytes, 1000, &o), 0);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	o.form = RTB_MSGPACK; /* 1001 bytes of `bin`, then 1000 */
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", bytes, 1004, &o), RTB_E_TOO_BIG);
	bytes[2]--;
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", bytes, 1003, &o), 0);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	/* JSON may become shorter on its way. */
	memset(bytes, 'x', sizeof(bytes));
	bytes[0] = bytes[1500] = '"';
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", bytes, 1501, NULL), 0);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	/* Another daemon, another plan. */
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	f.payload_bytes = 0;
	fake_attach(&f, c);
	o.form = RTB_BINARY;
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", bytes, 1001, &o), 0);
	end(&f, c);
}
END_TEST

static const struct {
	const char *answer; /* JSON of the result, or NULL: the error */
	enum rtbp_error error;
	const char *heard;
} outcomes[] = {
	{ "{\"outcome\":\"acked\",\"via\":\"ws\"}", 0, "1:acked via=ws " },
	{ "{\"outcome\":\"sent\"}", 0, "1:sent " },
	{ "{\"outcome\":\"denied\",\"text\":\"no\"}", 0, "1:denied:no " },
	{ "{\"outcome\":\"unknown\"}", 0, "1:unknown " },
	{ "{\"outcome\":\"too_big\"}", 0, "1:too_big " },
	{ "{\"outcome\":\"rate_limited\"}", 0, "1:rate_limited " },
	{ "{\"outcome\":\"busy\"}", 0, "1:busy " },
	{ "{\"outcome\":\"expired\"}", 0, "1:expired " },
	{ "{\"outcome\":\"not_joined\"}", 0, "1:not_joined " },
	{ "{\"outcome\":\"unsupported\"}", 0, "1:unsupported " },
	{ "{\"outcome\":\"from a later daemon\"}", 0, "1:other word=from a later daemon " },
	/* Words that are the library's own, or of other answers. */
	{ "{\"outcome\":\"invalid\"}", 0, "1:other word=invalid " },
	{ "{\"outcome\":\"too_many\"}", 0, "1:other word=too_many " },
	{ "{\"outcome\":\"pending\"}", 0, "1:other word=pending " },
	{ "{\"outcome\":\"\"}", 0, "1:unknown " },
	{ "{\"outcome\":7}", 0, "1:unknown " },
	{ "{\"outcome\":\"bad_payload\",\"text\":\"late\"}", 0, "1:bad_payload:late " },
	{ "{\"outcome\":\"sent\",\"via\":\"http\"}", 0, "1:sent via=http " },
	{ "{\"outcome\":\"sent\",\"via\":\"pigeon\"}", 0, "1:sent " },
	{ "{\"outcome\":\"rate_limited\",\"via\":\"http\",\"retry_in_ms\":2500}", 0,
	  "1:rate_limited via=http retry=2500 " },
	{ "{\"outcome\":\"rate_limited\",\"retry_in_ms\":-5}", 0, "1:rate_limited " },
	{ NULL, RTBP_E_BUSY, "1:busy:words code=busy retry=1500 " },
	{ NULL, RTBP_E_JOIN_BUDGET, "1:busy:words code=join_budget retry=1500 " },
	{ NULL, RTBP_E_BAD_PAYLOAD, "1:invalid:words code=bad_payload retry=1500 " },
	{ NULL, RTBP_E_UNSUPPORTED, "1:unsupported:words code=unsupported retry=1500 " },
	{ NULL, RTBP_E_REJECTED, "1:not_joined:words code=rejected retry=1500 " },
	{ NULL, RTBP_E_TOO_MANY, "1:too_many:words code=too_many retry=1500 " },
	{ NULL, RTBP_E_FORBIDDEN, "1:denied:words code=forbidden retry=1500 " },
	{ NULL, RTBP_E_BAD_TOKEN, "1:denied:words code=bad_token retry=1500 " },
};

START_TEST(each_outcome)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;
	uint32_t id;

	c = attached(&f, &log, 0);
	ck_assert_int_eq(send_json(c, &log, "1"), 1);
	id = fake_expect(&f, c, RTBP_M_BROADCAST).id;
	if (outcomes[_i].answer)
		say_result(&f, id, outcomes[_i].answer);
	else
		rtbp_msg_put_error(&f.out, id, outcomes[_i].error, "words", 1500);
	say_result(&f, id, "{\"outcome\":\"denied\"}"); /* a second answer is none */
	fake_flush(&f, c);
	UNTIL(c, log.heard[0]);
	ck_assert(fake_is_quiet(&f, c));
	ck_assert_str_eq(log.heard, outcomes[_i].heard);
	end(&f, c);
	ck_assert_str_eq(log.heard, outcomes[_i].heard);
}
END_TEST

START_TEST(lost_with_the_daemon)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, 0);
	log.sends_again = true;
	ck_assert_int_eq(send_json(c, &log, "1"), 1);
	ck_assert_int_eq(rtb_status(c, on_reply, &log), 2);
	ck_assert_int_eq(send_json(c, &log, "3"), 3);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	ck_assert_int_eq(strncmp(log.heard, "1:unknown:the daemon went away ", 31), 0);
	ck_assert_ptr_nonnull(strstr(log.heard, "answered -2000:the daemon closed the connection"));
	ck_assert_ptr_nonnull(strstr(log.heard, " 3:unknown:the daemon went away "));
	ck_assert_int_eq(send_json(c, &log, "4"), RTB_E_DETACHED);
	fake_attach(&f, c);
	ck_assert(fake_is_quiet(&f, c)); /* nothing is sent twice */
	end(&f, c);
}
END_TEST

START_TEST(freed_before_the_answer)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;

	c = attached(&f, &log, 0);
	log.sends_again = true;
	ck_assert_int_eq(send_json(c, &log, "1"), 1);
	ck_assert_int_eq(rtb_sync(c, false, on_reply, &log), 2);
	end(&f, c);
	ck_assert_str_eq(log.heard, "1:unknown:the client was freed before the daemon answered ");
}
END_TEST

START_TEST(questions)
{
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	struct log log;
	uint32_t id;

	c = attached(&f, &log, 0);
	ck_assert_int_eq(rtb_status(c, on_reply, &log), 1);
	ck_assert_int_eq(rtb_sync(c, true, on_reply, &log), 2);
	ck_assert_int_eq(rtb_sync(c, false, NULL, NULL), 3);
	id = fake_expect(&f, c, RTBP_M_STATUS).id;
	say_result(&f, id, "{\"a\":[]}");
	m = fake_expect(&f, c, RTBP_M_SYNC);
	ck_assert(field_bool(m.params, RTBP_F_UPSTREAM));
	rtbp_msg_put_error(&f.out, m.id, RTBP_E_TIMEOUT, "late", -1);
	id = fake_expect(&f, c, RTBP_M_SYNC).id;
	say_result(&f, id, "{}");
	fake_flush(&f, c);
	UNTIL(c, strcmp(log.heard, "0:{\"a\":[]} -2004:late ") == 0);
	ck_assert_int_eq(rtb_status(c, on_reply, &log), 4);
	id = fake_expect(&f, c, RTBP_M_STATUS).id;
	rtbp_msg_put_error(&f.out, id, RTBP_E_UNSUPPORTED, "no", -1);
	fake_flush(&f, c);
	UNTIL(c, strstr(log.heard, "-2003:no"));
	ck_assert_int_eq(rtb_sync(c, false, on_reply, &log), 5);
	id = fake_expect(&f, c, RTBP_M_SYNC).id;
	rtbp_msg_put_error(&f.out, id, RTBP_E_BUSY, "not now", -1);
	fake_flush(&f, c);
	UNTIL(c, strstr(log.heard, "-2001:not now"));
	ck_assert_int_eq(rtb_reconnect(c, on_reply, &log), 6);
	id = fake_expect(&f, c, RTBP_M_RECONNECT).id;
	say_result(&f, id, "{\"state\":\"connecting\"}");
	ck_assert_int_eq(rtb_refresh_token(c, on_reply, &log), 7);
	id = fake_expect(&f, c, RTBP_M_REFRESH_TOKEN).id;
	rtbp_msg_put_error(&f.out, id, RTBP_E_FORBIDDEN, "not you", -1);
	fake_flush(&f, c);
	UNTIL(c,
	      strstr(log.heard, "0:{\"state\":\"connecting\"} -") && strstr(log.heard, ":not you"));
	end(&f, c);
}
END_TEST

START_TEST(the_queue_is_bounded_and_in_order)
{
	struct rtb_client *c;
	char json[1100];
	struct rtbp_msg m;
	struct fake f;
	struct log log;
	int n = 0, seen = 0;
	int64_t r;

	c = attached(&f, &log, 64 * 1024);
	memset(json, 'x', sizeof(json));
	for (;;) {
		(void)snprintf(json, sizeof(json), "\"%06d", n);
		json[7] = 'x';
		memcpy(json + 1022, "\"", 2);
		r = rtb_broadcast_json(c, "t", "e", json, (size_t)-1, NULL);
		if (r < 0)
			break;
		n++;
	}
	ck_assert_int_eq(r, RTB_E_BUSY);
	ck_assert_int_ge(n, 50);
	ck_assert_int_le(n, 64);
	for (; seen < n; seen++) {
		m = fake_expect(&f, c, RTBP_M_BROADCAST);
		(void)snprintf(json, sizeof(json), "\"%06dx", seen);
		ck_assert(strncmp(field_json(m.params, RTBP_F_PAYLOAD), json, 8) == 0);
	}
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	end(&f, c);
}
END_TEST

START_TEST(one_big_message_may_always_go)
{
	size_t size = 3 * 1024 * 1024, got = 0;
	char *big = malloc(size + 5);
	struct rtb_client *c;
	struct rtbp_str bin;
	struct rtbp_msg m;
	struct fake f;
	struct log log;

	memset(big, 'b', size + 5);
	memcpy(big, "\xc6\x00\x30\x00\x00", 5);
	c = attached(&f, &log, 1000);
	ck_assert_int_gt(rtb_broadcast(c, "t", "e", big, size + 5, NULL), 0);
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", big, size + 5, NULL), RTB_E_BUSY);
	m = fake_expect(&f, c, RTBP_M_BROADCAST);
	ck_assert(rtbp_get_bin(rtbp_field(m.params, RTBP_F_PAYLOAD), &bin));
	got = bin.size;
	ck_assert_uint_eq(got, size);
	end(&f, c);
	f.frame_bytes = 0;
	/* A daemon that takes less says so in hello. */
	fake_start(&f);
	f.frame_bytes = 5000;
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", big, size + 5, NULL), RTB_E_TOO_BIG);
	memcpy(big, "\xc6\x00\x00\x13\x80", 5);
	ck_assert_int_eq(rtb_broadcast(c, "t", "e", big, 4992 + 5, NULL), RTB_E_TOO_BIG);
	ck_assert(fake_is_quiet(&f, c));
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	free(big);
	end(&f, c);
}
END_TEST

START_TEST(many_answers_at_once)
{
	struct rtb_client *c;
	struct fake f;
	struct log log;
	int64_t last = 0;
	uint32_t ids[300];

	c = attached(&f, &log, 0);
	for (int i = 0; i < 300; i++)
		last = rtb_broadcast_json(c, "t", "e", "1", 1, NULL);
	ck_assert_int_eq(last, 300);
	for (int i = 0; i < 300; i++)
		ids[i] = fake_expect(&f, c, RTBP_M_BROADCAST).id;
	ck_assert_int_eq(send_json(c, &log, "1"), 301);
	say_result(&f, fake_expect(&f, c, RTBP_M_BROADCAST).id, "{\"outcome\":\"acked\"}");
	for (int i = 299; i >= 0; i--)
		say_result(&f, ids[i], "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	UNTIL(c, strcmp(log.heard, "301:acked ") == 0);
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_send");
	TCase *t = tcase_create("send");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, what_is_sent);
	tcase_add_test(t, options);
	tcase_add_test(t, wrong_options);
	tcase_add_test(t, over_the_plan);
	tcase_add_loop_test(t, each_outcome, 0, sizeof(outcomes) / sizeof(*outcomes));
	tcase_add_test(t, lost_with_the_daemon);
	tcase_add_test(t, freed_before_the_answer);
	tcase_add_test(t, questions);
	tcase_add_test(t, the_queue_is_bounded_and_in_order);
	tcase_add_test(t, one_big_message_may_always_go);
	tcase_add_test(t, many_answers_at_once);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
