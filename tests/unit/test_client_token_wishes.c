/* SPDX-License-Identifier: MIT */
/* librtbridge: watches and trackers that end with a token, or by other access rules, and come back
 * with the next token. */
#include "test_client_token.h"
#include "test_client_rows.h"
#include "suite.h"

START_TEST(watches_come_back)
{
	struct rtb_client *c;
	struct eye a = { 0 }, d = { 0 };
	struct bearer b;
	struct fake f;

	c = bearing_client(&f, &b);
	watch_table(c, &a, "a");
	watch_table(c, &d, "b");
	fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	say_result(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id,
		   "{\"chan\":7,\"state\":\"joined\",\"postgres_changes\":["
		   "{\"id\":1,\"state\":\"ready\"},{\"id\":2,\"state\":\"pending\"}]}");
	fake_flush(&f, c);
	SAW(&a, "ready ");
	say_notice(&f, RTBP_N_CHANNEL,
		   "{\"chan\":7,\"topic\":\"\",\"private\":false,\"state\":\"rejected\","
		   "\"code\":\"token_expired\",\"text\":\"it has expired\","
		   "\"postgres_changes\":[{\"id\":1,\"state\":\"pending\"},"
		   "{\"id\":2,\"state\":\"pending\"}]}");
	fake_flush(&f, c);
	SAW(&a, "error:token_expired ");
	SAW(&d, "error:token_expired ");
	ck_assert_int_eq(rtb_wait_watch(a.watch, -1), RTB_E_TOKEN);
	ck_assert(fake_is_quiet(&f, c));
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_result(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id,
		   "{\"chan\":8,\"state\":\"ready\",\"postgres_changes\":["
		   "{\"id\":3,\"state\":\"ready\"},{\"id\":4,\"state\":\"ready\"}]}");
	fake_flush(&f, c);
	/* The second one had never flowed: it has missed nothing. */
	SAW(&d, "ready ");
	SAW(&a, "gap:token_expired ready ");
	ck_assert_int_gt(a.gap_from, 1600000000000);
	ck_assert_int_le(a.gap_from, a.gap_to);
	say_notice(&f, RTBP_N_POSTGRES_CHANGES,
		   "{\"ids\":[3],\"data\":{\"type\":\"INSERT\",\"schema\":\"public\","
		   "\"table\":\"a\",\"record\":{\"id\":1}}}");
	fake_flush(&f, c);
	SAW(&a, "+1 ");
	end(&f, c);
}
END_TEST

/* The access rules forbid one table of two. */
START_TEST(one_binding_forbidden)
{
	struct rtb_client *c;
	struct eye a = { 0 }, d = { 0 };
	struct bearer b;
	struct fake f;

	c = bearing_client(&f, &b);
	watch_table(c, &a, "a");
	watch_table(c, &d, "b");
	fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	say_result(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id,
		   "{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":["
		   "{\"id\":1,\"state\":\"ready\"},"
		   "{\"id\":0,\"state\":\"error\",\"code\":\"forbidden\",\"text\":\"no\"}]}");
	fake_flush(&f, c);
	SAW(&a, "ready ");
	SAW(&d, "error:forbidden ");
	ck_assert_uint_eq(d.id, 0);
	ck_assert_int_eq(rtb_wait_watch(d.watch, -1), RTB_E_FORBIDDEN);
	ck_assert(fake_is_quiet(&f, c));
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_result(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id,
		   "{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":["
		   "{\"id\":1,\"state\":\"ready\"},{\"id\":2,\"state\":\"ready\"}]}");
	fake_flush(&f, c);
	SAW(&d, "pending ready ");
	ck_assert_str_eq(a.heard, "");
	end(&f, c);
}
END_TEST

/* The access rules have changed. */
static void say_forbidden(struct fake *f, const char *state)
{
	char json[256];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":7,\"topic\":\"\",\"private\":false,\"state\":\"%s\","
		       "\"code\":\"forbidden\",\"text\":\"not any more\"}",
		       state);
	say_notice(f, RTBP_N_CHANNEL, json);
}

/* Attached with TOKEN_A, watching public.a (id 1). */
static struct rtb_client *bearing_watcher(struct fake *f, struct bearer *b, struct eye *eye)
{
	struct rtb_client *c = bearing_client(f, b);

	*eye = (struct eye){ 0 };
	watch_table(c, eye, "a");
	say_bound(f, expect_bindings(f, c, "[" TABLE("a") "]"), "ready", READY(1));
	fake_flush(f, c);
	SAW(eye, "ready ");
	return c;
}

static void check_all_forbidden(const char *state)
{
	struct eye a, other = { 0 };
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearing_watcher(&f, &b, &a);
	say_forbidden(&f, state);
	fake_flush(&f, c);
	SAW(&a, "error:forbidden ");
	ck_assert_int_eq(rtb_watch_state(a.watch), RTB_WATCH_ERROR);
	ck_assert_int_eq(rtb_wait_watch(a.watch, -1), RTB_E_FORBIDDEN);
	ck_assert_str_eq(rtb_client_error_text(c), "not any more (forbidden)");
	ck_assert(fake_is_quiet(&f, c));
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "]"), "joined", PENDING(3));
	say_states(&f, "ready", READY(3));
	say_row(&f, "3", 1);
	fake_flush(&f, c);
	SAW(&a, "pending gap:forbidden ready +1 ");
	ck_assert_int_gt(a.gap_from, 1600000000000);
	ck_assert_int_le(a.gap_from, a.gap_to);
	/* Who asks by itself finds out whether it is allowed again; all else is asked for with it. */
	say_forbidden(&f, state);
	fake_flush(&f, c);
	SAW(&a, "error:forbidden ");
	watch_table(c, &other, "b");
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]"), "ready",
		  READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&a, "pending gap:forbidden ready ");
	SAW(&other, "ready ");
	/* So is it at an attachment. */
	say_forbidden(&f, state);
	fake_flush(&f, c);
	SAW(&a, "error:forbidden ");
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_B));
	answer_hello(&f, c, ACCEPTED);
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]"), "ready",
		  READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&a, "pending:detached gap:forbidden ready ");
	end(&f, c);
}

START_TEST(all_forbidden)
{
	check_all_forbidden("rejected");
	check_all_forbidden("closed");
}
END_TEST

/* What was asked for before that news came is taken for new by the daemon. */
START_TEST(all_forbidden_meanwhile)
{
	struct eye a, more = { 0 }, third = { 0 };
	struct rtb_client *c;
	struct bearer b;
	struct fake f;
	uint32_t id;

	c = bearing_watcher(&f, &b, &a);
	watch_table(c, &more, "b");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]");
	say_forbidden(&f, "rejected");
	fake_flush(&f, c);
	SAW(&a, "pending:forbidden ");
	say_bound(&f, id, "ready", READY(1) "," READY(2));
	say_row(&f, "1,2", 1);
	fake_flush(&f, c);
	SAW(&a, "gap:forbidden ready +1 ");
	SAW(&more, "ready +1 ");
	ck_assert(fake_is_quiet(&f, c));
	/* Of two such requests the last one counts. */
	rtb_unwatch(more.watch);
	id = expect_bindings(&f, c, "[" TABLE("a") "]");
	watch_table(c, &third, "c");
	say_forbidden(&f, "rejected");
	say_error(&f, id, RTBP_E_FORBIDDEN, "not any more");
	id = expect_bindings(&f, c, "[" TABLE("a") "," TABLE("c") "]");
	fake_flush(&f, c);
	SAW(&a, "pending:forbidden ");
	say_error(&f, id, RTBP_E_FORBIDDEN, "not any more");
	fake_flush(&f, c);
	SAW(&a, "error:forbidden ");
	SAW(&third, "error:forbidden ");
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

/* The rules take away one table of two, which had flowed. */
START_TEST(one_binding_forbidden_later)
{
	struct eye a, d = { 0 };
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearing_watcher(&f, &b, &a);
	watch_table(c, &d, "b");
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]"), "ready",
		  READY(1) "," READY(2));
	say_states(&f, "ready",
		   READY(1) ",{\"id\":2,\"state\":\"error\",\"code\":\"forbidden\","
			    "\"text\":\"no\"}");
	fake_flush(&f, c);
	SAW(&d, "ready error:forbidden ");
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	say_bound(&f, expect_bindings(&f, c, "[" TABLE("a") "," TABLE("b") "]"), "ready",
		  READY(1) "," READY(2));
	fake_flush(&f, c);
	SAW(&d, "pending gap:forbidden ready ");
	ck_assert_str_eq(a.heard, "");
	end(&f, c);
}
END_TEST

/* ---- trackers ---- */

static void on_track(struct rtb_tracker *tracker, const struct rtb_track *track, void *user)
{
	static const char *const names[] = { "pending", "throttled", "shown", "refused" };
	char text[100];

	(void)tracker;
	(void)snprintf(text, sizeof(text), "%s%s%s", names[track->state], track->code[0] ? ":" : "",
		       track->code);
	note(user, "track", text);
}

/* Shown in "t". */
static struct rtb_tracker *show(struct fake *f, struct bearer *b)
{
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;
	struct rtb_tracker *tracker;

	o.track = on_track;
	o.user = b;
	ck_assert_int_eq(rtb_track_json(b->c, "t", "{\"n\":1}", 7, &o, &tracker), 0);
	say_result(f, fake_expect(f, b->c, RTBP_M_TRACK).id, "{\"outcome\":\"acked\"}");
	fake_flush(f, b->c);
	SAID(b, "track/shown ");
	return tracker;
}

static void say_track_ended(struct fake *f, enum rtbp_error code)
{
	size_t begin = rtbp_msg_begin_notice(&f->out, RTBP_N_ERROR);

	rtbp_pack_map(&f->out, 5);
	rtbp_pack_field(&f->out, RTBP_F_ERROR);
	rtbp_pack_error(&f->out, code, "no", -1);
	rtbp_pack_field_text(&f->out, RTBP_F_METHOD, "track");
	rtbp_pack_field_uint(&f->out, RTBP_F_CHAN, 5);
	rtbp_pack_field_text(&f->out, RTBP_F_TOPIC, "t");
	rtbp_pack_field_bool(&f->out, RTBP_F_PRIVATE, false);
	ck_assert_int_eq(rtbp_msg_end(&f->out, begin), 0);
}

START_TEST(trackers_come_back)
{
	struct rtb_tracker *tracker;
	struct rtb_client *c;
	struct bearer b;
	struct rtbp_msg m;
	struct fake f;

	c = bearing_client(&f, &b);
	tracker = show(&f, &b);
	say_track_ended(&f, RTBP_E_BAD_TOKEN);
	fake_flush(&f, c);
	SAID(&b, "track/refused:bad_token ");
	ck_assert_int_eq(rtb_wait_shown(tracker, -1), RTB_E_TOKEN);
	/* A newer state is kept for when it comes back. */
	ck_assert_int_eq(rtb_track_update_json(tracker, "{\"n\":2}", 7), 0);
	ck_assert_int_eq(rtb_tracker_state(tracker), RTB_TRACK_REFUSED);
	ck_assert(fake_is_quiet(&f, c));
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	m = fake_expect(&f, c, RTBP_M_TRACK);
	ck_assert_str_eq(field_json(m.params, RTBP_F_STATE), "{\"n\":2}");
	say_result(&f, m.id, "{\"outcome\":\"acked\"}");
	fake_flush(&f, c);
	SAID(&b, "accepted@7 track/pending track/shown ");
	/* What is told of the old one behind the answer is tried again at once, but once. */
	take_token(&f, &b, "t", TOKEN_C, JSON(TOKEN_C));
	say_track_ended(&f, RTBP_E_FORBIDDEN);
	fake_flush(&f, c);
	say_error(&f, fake_expect(&f, c, RTBP_M_TRACK).id, RTBP_E_FORBIDDEN, "no");
	fake_flush(&f, c);
	SAID(&b, "t/accepted@7 track/refused:forbidden track/pending track/refused:forbidden ");
	ck_assert(fake_is_quiet(&f, c));
	/* At the next attachment it is asked again, too. */
	fake_hang_up(&f);
	expect_hello(&f, c, JSON(TOKEN_B));
	answer_hello(&f, c, ACCEPTED);
	say_result(&f, expect_auth(&f, c, JSON("t"), JSON(TOKEN_C)), ACCEPTED);
	fake_flush(&f, c);
	fake_expect(&f, c, RTBP_M_TRACK);
	SAID(&b, "attaching:-2000 track/pending:detached attached ");
	end(&f, c);
}
END_TEST

/* What is refused for other reasons stays refused. */
START_TEST(other_refusals_stay)
{
	struct rtb_tracker *tracker;
	struct rtb_client *c;
	struct bearer b;
	struct fake f;

	c = bearing_client(&f, &b);
	tracker = show(&f, &b);
	say_track_ended(&f, RTBP_E_PRESENCE_TAKEN);
	fake_flush(&f, c);
	SAID(&b, "track/refused:presence_taken ");
	take_token(&f, &b, NULL, TOKEN_B, JSON(TOKEN_B));
	SAID(&b, "accepted@7 ");
	ck_assert(fake_is_quiet(&f, c));
	ck_assert_int_eq(rtb_track_update_json(tracker, "{}", 2), RTB_E_REFUSED);
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_token_wishes");
	TCase *t = tcase_create("wishes");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, watches_come_back);
	tcase_add_test(t, one_binding_forbidden);
	tcase_add_test(t, all_forbidden);
	tcase_add_test(t, all_forbidden_meanwhile);
	tcase_add_test(t, one_binding_forbidden_later);
	tcase_add_test(t, trackers_come_back);
	tcase_add_test(t, other_refusals_stay);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
