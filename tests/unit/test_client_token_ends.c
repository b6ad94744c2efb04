/* SPDX-License-Identifier: MIT */
/* librtbridge: what ends, waits or is refused with a token, and comes back with the next one. */
#include "test_client_token.h"
#include "suite.h"

/* All that it heard since the last time. */
#define HEARS(ear, text)                                               \
	do {                                                           \
		UNTIL((ear)->c, strlen((ear)->heard) >= strlen(text)); \
		ck_assert_str_eq((ear)->heard, text);                  \
		(ear)->heard[0] = '\0';                                \
	} while (0)

static void on_gap(struct rtb_sub *sub, const struct rtb_gap *gap, void *user)
{
	char text[64];

	ck_assert_ptr_eq(gap->topic, rtb_sub_topic(sub));
	ck_assert_int_gt(gap->from_unix_ms, 1600000000000);
	ck_assert_int_le(gap->from_unix_ms, gap->to_unix_ms);
	(void)snprintf(text, sizeof(text), "gap:%s", gap->cause);
	hear(user, text);
}

static void follow(struct rtb_client *c, struct ear *ear, const char *topic)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;

	ear->c = c;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	o.handlers.gap = on_gap;
	o.user = ear;
	ck_assert_int_eq(rtb_subscribe(c, topic, &o, &ear->sub), 0);
}

static uint32_t expect_subscribe(struct fake *f, struct rtb_client *c, const char *topic)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);

	ck_assert(field_text(m.params, RTBP_F_TOPIC, topic));
	return m.id;
}

/* TOKEN_A holds, "t" is chan 5. */
static struct rtb_client *following_client(struct fake *f, struct bearer *b, struct ear *ear)
{
	struct rtb_client *c = bearing_client(f, b);

	*ear = (struct ear){ 0 };
	follow(c, ear, "t");
	say_subscribed(f, expect_subscribe(f, c, "t"), 5, "ready");
	fake_flush(f, c);
	HEARD(ear, "ready ");
	ear->heard[0] = '\0';
	return c;
}

/* Something that is heard behind everything else; nothing else is said. */
static void marker(struct fake *f, struct rtb_client *c)
{
	ck_assert_int_gt(rtb_sync(c, false, NULL, NULL), 0);
	say_result(f, fake_expect(f, c, RTBP_M_SYNC).id, "{}");
	fake_flush(f, c);
	ck_assert(fake_is_quiet(f, c));
}

START_TEST(expired_until_the_next)
{
	struct ear ear, late = { 0 };
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = following_client(&f, &b, &ear);
	say_channel(&f, 5, "rejected", "token_expired", "the token has expired");
	say_token_ended(&f, NULL, "token_expired", "the token has expired");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:token_expired ");
	SAID(&b, "!token_expired:the token has expired ");
	ck_assert_int_eq(rtb_wait_ready(ear.sub, -1), RTB_E_TOKEN);
	marker(&f, c); /* it is not asked in a loop */
	/* Who asks anew is asked for, and refused by the daemon. */
	follow(c, &late, "t");
	say_error(&f, expect_subscribe(&f, c, "t"), RTBP_E_BAD_TOKEN, "the token has expired");
	fake_flush(&f, c);
	HEARS(&late, "rejected:bad_token ");
	HEARS(&ear, "joining rejected:bad_token ");
	marker(&f, c);
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 6, "ready");
	say_broadcast(&f, 6, "e", "1");
	fake_flush(&f, c);
	HEARS(&ear, "joining gap:token_expired ready e=1 ");
	HEARS(&late, "ready e=1 "); /* it was not there before */
	SAID(&b, "accepted@7 ");
	marker(&f, c);
	end(&f, c);
}
END_TEST

/* The daemon may tell the end of the old one before and behind its answer to the new one. */
START_TEST(replaced)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear;
	struct fake f;
	uint32_t id;

	c = following_client(&f, &b, &ear);
	set_token(&b, NULL, TOKEN_B);
	id = expect_auth(&f, c, "absent", JSON(TOKEN_B));
	say_channel(&f, 5, "rejected", "token_replaced", "");
	say_result(&f, id, ACCEPTED);
	fake_flush(&f, c);
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 6, "joining");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:token_replaced joining ");
	say_channel(&f, 6, "joined", "", "");
	say_channel(&f, 6, "ready", "", "");
	fake_flush(&f, c);
	HEARS(&ear, "gap:token_replaced joined ready ");
	take_token(&f, &b, NULL, TOKEN_C, JSON(TOKEN_C));
	say_channel(&f, 6, "rejected", "token_replaced", "");
	fake_flush(&f, c);
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 7, "ready");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:token_replaced joining gap:token_replaced ready ");
	/* To clear it is the program's wish for the daemon's identity. */
	set_token(&b, NULL, NULL);
	id = expect_auth(&f, c, "absent", "null");
	say_channel(&f, 7, "rejected", "token_cleared", "");
	say_result(&f, id, "{\"state\":\"cleared\"}");
	fake_flush(&f, c);
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 8, "ready");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:token_cleared joining gap:token_cleared ready ");
	marker(&f, c);
	/* With nothing new behind it an end is an end, whatever its word. */
	say_channel(&f, 8, "rejected", "token_replaced", "");
	fake_flush(&f, c);
	marker(&f, c);
	end(&f, c);
}
END_TEST

/* Told once, and asked again at the next attachment only. */
static void check_refused(enum rtbp_error code, const char *heard, int error)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear;
	struct fake f;
	char all[64];

	c = following_client(&f, &b, &ear);
	for (int i = 0; i < 2; i++) {
		fake_hang_up(&f);
		expect_hello(&f, c, JSON(TOKEN_A));
		answer_hello(&f, c, ACCEPTED);
		say_error(&f, expect_subscribe(&f, c, "t"), code, "no");
		fake_flush(&f, c);
		(void)snprintf(all, sizeof(all), "joining:detached %s ", heard);
		HEARS(&ear, all);
		marker(&f, c);
		ck_assert_int_eq(rtb_wait_ready(ear.sub, -1), error);
	}
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_error(&f, expect_subscribe(&f, c, "t"), code, "no");
	fake_flush(&f, c);
	(void)snprintf(all, sizeof(all), "%s ", heard);
	HEARS(&ear, all);
	marker(&f, c);
	end(&f, c);
}

START_TEST(refused_at_attachment)
{
	check_refused(RTBP_E_BAD_TOKEN, "rejected:bad_token", RTB_E_TOKEN);
	check_refused(RTBP_E_FORBIDDEN, "rejected:forbidden", RTB_E_FORBIDDEN);
}
END_TEST

/* The end of what was is told also when the daemon went away in between. */
START_TEST(expired_then_detached)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear;
	struct fake f;

	c = following_client(&f, &b, &ear);
	say_channel(&f, 5, "rejected", "token_signature", "forged");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:token_signature ");
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_A));
	answer_hello(&f, c, ACCEPTED);
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 5, "ready");
	fake_flush(&f, c);
	HEARS(&ear, "joining:detached gap:token_signature ready ");
	end(&f, c);
}
END_TEST

/* The access rules have changed. */
START_TEST(forbidden_from_now_on)
{
	struct ear ear, late = { 0 };
	struct rtb_client *c;
	struct bearer b;
	struct fake f;
	uint32_t id;

	c = following_client(&f, &b, &ear);
	say_channel(&f, 5, "rejected", "forbidden", "not any more");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:forbidden ");
	ck_assert_int_eq(rtb_wait_ready(ear.sub, -1), RTB_E_FORBIDDEN);
	marker(&f, c);
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 6, "ready");
	fake_flush(&f, c);
	HEARS(&ear, "joining gap:forbidden ready ");
	/* What had been asked for before that news came is taken for new: it is refused, or not. */
	listen_to(c, &late, "t", true, NULL);
	id = expect_subscribe(&f, c, "t");
	say_channel(&f, 6, "rejected", "forbidden", "not any more");
	say_subscribed(&f, id, 7, "ready");
	say_broadcast(&f, 7, "e", "1");
	fake_flush(&f, c);
	HEARS(&ear, "joining:forbidden gap:forbidden ready e=1 ");
	HEARS(&late, "joining:forbidden ready e=1 "); /* it was not there before */
	rtb_unsubscribe(late.sub);
	id = expect_subscribe(&f, c, "t");
	say_channel(&f, 7, "rejected", "forbidden", "not any more");
	say_error(&f, id, RTBP_E_FORBIDDEN, "not any more");
	fake_flush(&f, c);
	HEARS(&ear, "joining:forbidden rejected:forbidden ");
	marker(&f, c);
	end(&f, c);
}
END_TEST

START_TEST(what_the_server_rejects_stays)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear;
	struct fake f;

	c = following_client(&f, &b, &ear);
	say_channel(&f, 5, "rejected", "unauthorized", "no");
	fake_flush(&f, c);
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	SAID(&b, "accepted@7 ");
	marker(&f, c);
	end(&f, c);
}
END_TEST

START_TEST(each_topic_its_own)
{
	struct ear ear, other = { 0 };
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = following_client(&f, &b, &ear);
	follow(c, &other, "u");
	say_subscribed(&f, expect_subscribe(&f, c, "u"), 6, "ready");
	take_token(&f, &b, "u", TOKEN_C, JSON(TOKEN_C));
	say_channel(&f, 5, "rejected", "token_expired", "");
	say_channel(&f, 6, "rejected", "token_expired", "");
	fake_flush(&f, c);
	/* The news may be older than its token: so it is tried. */
	say_error(&f, expect_subscribe(&f, c, "u"), RTBP_E_BAD_TOKEN, "expired");
	fake_flush(&f, c);
	HEARS(&other, "ready rejected:token_expired rejected:bad_token ");
	/* The general one is nothing to a topic with its own. */
	HEARS(&ear, "rejected:token_expired ");
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	SAID(&b, "u/accepted@7 accepted@7 ");
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 8, "ready");
	fake_flush(&f, c);
	marker(&f, c);
	take_token(&f, &b, "u", TOKEN_A, JSON(TOKEN_A));
	say_subscribed(&f, expect_subscribe(&f, c, "u"), 7, "ready");
	fake_flush(&f, c);
	marker(&f, c);
	end(&f, c);
}
END_TEST

/* On a fresh attachment nothing goes out without the token that it needs. */
START_TEST(waits_then_refused)
{
	struct rtb_track_options to = RTB_TRACK_OPTIONS_INIT;
	struct rtb_watch_options wo = RTB_WATCH_OPTIONS_INIT;
	struct rtb_tracker *tracker;
	struct rtb_watch *watch;
	struct rtb_client *c;
	struct bearer b;
	struct ear ear = { 0 };
	struct fake f;
	uint32_t id;

	c = bearer_client(&f, &b, NULL);
	set_token(&b, "t", TOKEN_A);
	follow(c, &ear, "t");
	ck_assert_int_eq(rtb_track_json(c, "t", "{}", 2, &to, &tracker), 0);
	wo.table = "a";
	wo.topic = "t";
	ck_assert_int_eq(rtb_watch(c, &wo, &watch), 0);
	expect_hello(&f, c, "absent");
	answer_hello(&f, c, NULL);
	id = expect_auth(&f, c, JSON("t"), JSON(TOKEN_A));
	ck_assert_int_eq(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), RTB_E_BUSY);
	marker(&f, c);
	say_error(&f, id, RTBP_E_BAD_TOKEN, "forged");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:bad_token ");
	ck_assert_int_eq(rtb_tracker_state(tracker), RTB_TRACK_REFUSED);
	ck_assert_int_eq(rtb_watch_state(watch), RTB_WATCH_ERROR);
	ck_assert_int_eq(rtb_wait_shown(tracker, -1), RTB_E_TOKEN);
	ck_assert_int_eq(rtb_wait_watch(watch, -1), RTB_E_TOKEN);
	ck_assert_int_eq(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), RTB_E_TOKEN);
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "forged"));
	ck_assert_int_eq(rtb_track_update_json(tracker, "{\"n\":2}", 7), 0);
	marker(&f, c);
	ck_assert_int_gt(rtb_broadcast_json(c, "u", "e", "1", 1, NULL), 0);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	SAID(&b, "attached t/-2014:forged ");
	/* At the next attachment it is said again, and nobody waits for that answer. */
	fake_hang_up(&f);
	expect_hello(&f, c, "absent");
	answer_hello(&f, c, NULL);
	say_error(&f, expect_auth(&f, c, JSON("t"), JSON(TOKEN_A)), RTBP_E_BAD_TOKEN, "forged");
	fake_flush(&f, c);
	HEARS(&ear, "joining:detached rejected:bad_token ");
	SAID(&b, "attaching:-2000 attached t!bad_token:forged ");
	marker(&f, c);
	take_token(&f, &b, "t", TOKEN_B, JSON(TOKEN_B));
	expect_subscribe(&f, c, "t");
	ck_assert_str_eq(field_json(fake_expect(&f, c, RTBP_M_TRACK).params, RTBP_F_STATE),
			 "{\"n\":2}");
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	end(&f, c);
}
END_TEST

/* Cleared instead, all goes on with the daemon's identity. */
START_TEST(refused_then_cleared)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear = { 0 };
	struct fake f;

	c = bearer_client(&f, &b, NULL);
	expect_hello(&f, c, "absent");
	answer_hello(&f, c, NULL);
	set_token(&b, NULL, TOKEN_A);
	follow(c, &ear, "t");
	say_error(&f, expect_auth(&f, c, "absent", JSON(TOKEN_A)), RTBP_E_BAD_TOKEN, "forged");
	fake_flush(&f, c);
	HEARS(&ear, "rejected:bad_token ");
	set_token(&b, NULL, NULL);
	say_result(&f, expect_auth(&f, c, "absent", "null"), "{\"state\":\"cleared\"}");
	fake_flush(&f, c);
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 5, "ready");
	fake_flush(&f, c);
	HEARS(&ear, "ready ");
	end(&f, c);
}
END_TEST

/* Not decided, and none holds: it is said again until it is. */
START_TEST(not_decided)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear = { 0 };
	struct fake f;

	c = bearer_client(&f, &b, NULL);
	expect_hello(&f, c, "absent");
	answer_hello(&f, c, NULL);
	set_token(&b, "t", TOKEN_A);
	follow(c, &ear, "t");
	say_error(&f, expect_auth(&f, c, JSON("t"), JSON(TOKEN_A)), RTBP_E_TIMEOUT, "too slow");
	fake_flush(&f, c);
	SAID(&b, "attached t/-2004:too slow ");
	marker(&f, c);
	say_result(&f, expect_auth(&f, c, JSON("t"), JSON(TOKEN_A)), ACCEPTED);
	fake_flush(&f, c);
	expect_subscribe(&f, c, "t");
	end(&f, c);
}
END_TEST

/* The daemon keeps what it has when it refuses to change it. */
START_TEST(a_change_refused)
{
	struct ear ear, more = { 0 };
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = following_client(&f, &b, &ear);
	listen_to(c, &more, "t", true, NULL);
	say_error(&f, expect_subscribe(&f, c, "t"), RTBP_E_FORBIDDEN, "no");
	fake_flush(&f, c);
	HEARS(&more, "rejected:forbidden ");
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 5, "ready");
	fake_flush(&f, c);
	HEARS(&more, "ready ");
	ck_assert_str_eq(ear.heard, "");
	end(&f, c);
}
END_TEST

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	(void)c;
	(void)id;
	note(user, rtb_outcome_name(result->outcome), result->text);
}

static void on_reply(struct rtb_client *c, int error, const char *text, const void *value,
		     size_t size, void *user)
{
	char line[64];

	(void)c;
	(void)value;
	(void)size;
	(void)snprintf(line, sizeof(line), "%d:%s", error, text);
	note(user, NULL, line);
}

START_TEST(requests_refused)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct rtb_client *c;
	struct bearer b;
	struct ear ear;
	struct fake f;

	c = following_client(&f, &b, &ear);
	o.result = on_result;
	o.user = &b;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, &o), 0);
		say_error(&f, fake_expect(&f, c, RTBP_M_BROADCAST).id,
			  i ? RTBP_E_FORBIDDEN : RTBP_E_BAD_TOKEN, "no");
		ck_assert_int_gt(rtb_status(c, on_reply, &b), 0);
		say_error(&f, fake_expect(&f, c, RTBP_M_STATUS).id,
			  i ? RTBP_E_FORBIDDEN : RTBP_E_BAD_TOKEN, "no");
	}
	fake_flush(&f, c);
	SAID(&b, "denied/no -2014:no denied/no -2015:no ");
	end(&f, c);
}
END_TEST

/* Whose joins have failed too often is told when it may try again. */
START_TEST(join_budget)
{
	struct rtb_client *c;
	struct bearer b;
	struct ear ear = { 0 };
	struct fake f;

	c = bearing_client(&f, &b);
	follow(c, &ear, "t");
	ck_assert_int_eq(rtbp_msg_put_error(&f.out, expect_subscribe(&f, c, "t"),
					    RTBP_E_JOIN_BUDGET, "later", 1200),
			 0);
	fake_flush(&f, c);
	HEARS(&ear, "joining:join_budget ");
	marker(&f, c);
	say_subscribed(&f, expect_subscribe(&f, c, "t"), 5, "ready");
	fake_flush(&f, c);
	HEARS(&ear, "ready ");
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_token_ends");
	TCase *t = tcase_create("ends");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, expired_until_the_next);
	tcase_add_test(t, replaced);
	tcase_add_test(t, refused_at_attachment);
	tcase_add_test(t, expired_then_detached);
	tcase_add_test(t, forbidden_from_now_on);
	tcase_add_test(t, what_the_server_rejects_stays);
	tcase_add_test(t, each_topic_its_own);
	tcase_add_test(t, waits_then_refused);
	tcase_add_test(t, refused_then_cleared);
	tcase_add_test(t, not_decided);
	tcase_add_test(t, a_change_refused);
	tcase_add_test(t, requests_refused);
	tcase_add_test(t, join_budget);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
