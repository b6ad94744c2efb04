/* SPDX-License-Identifier: MIT */
/* librtbridge: stored messages, asked for again for what was missed. */
#include "test_client_stored.h"
#include "suite.h"

START_TEST(asked_again_for_what_was_missed)
{
	int64_t before, since, now;
	struct rtb_client *c;
	struct rtbp_msg m;
	struct ear ear, silent;
	struct fake f;
	char json[100];

	before = rtbc_wall_ms();
	c = replayed_client(&f, &ear);
	now = rtbc_wall_ms();
	listen_to(c, &silent, 3000, 2); /* it gets nothing */
	say_subscribed(&f, expect_wish(&f, c, "{\"replay\":{\"since\":3000,\"limit\":2}}"), 5,
		       "ready");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&silent, "ready ended:replayed:0 ");
	silent.heard[0] = '\0';
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	fake_attach(&f, c);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_int_eq(sscanf(field_json(m.params, RTBP_F_BROADCAST),
				"{\"replay\":{\"since\":%ld,\"limit\":25}}", &since),
			 1);
	ck_assert_int_ge(since, before - 60000);
	ck_assert_int_le(since, now - 60000);
	say_subscribed(&f, m.id, 5, "ready");
	say_stored(&f, "s", "s1"); /* known, whether it was stored or live */
	say_stored(&f, "e", "e1");
	say_stored(&f, "m", "m1");
	say_ended(&f, "truncated");
	fake_flush(&f, c);
	HEARD(&ear, "joining ready stored:m#m1 ended:truncated:1 ");
	/* Who has had nothing wants the same as before. */
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	(void)snprintf(json, sizeof(json), "{\"replay\":{\"since\":3000,\"limit\":2}}");
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), json);
	say_subscribed(&f, m.id, 5, "ready");
	say_stored(&f, "m", "m1");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&silent, "joining ready stored:m#m1 ended:replayed:1 ");
	end(&f, c);
}
END_TEST

static void attach_again(struct fake *f, struct rtb_client *c)
{
	fake_hang_up(f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	fake_attach(f, c);
}

/* One that could not be done has brought nothing: all of it is still missing. */
START_TEST(asked_again_for_all)
{
	static const char wish[] = "{\"replay\":{\"since\":1000,\"limit\":25}}";
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = attached(&f);
	listen_to(c, &ear, 1000, 0);
	say_subscribed(&f, expect_wish(&f, c, wish), 5, "ready");
	say_ended(&f, "none");
	say_live(&f, "e", "e1");
	fake_flush(&f, c);
	HEARD(&ear, "ready ended:none:0 e#e1 ");
	attach_again(&f, c);
	/* Nor one that has not ended. */
	say_subscribed(&f, expect_wish(&f, c, wish), 5, "ready");
	say_stored(&f, "s", "s1");
	fake_flush(&f, c);
	UNTIL(c, strstr(ear.heard, "stored:s#s1"));
	attach_again(&f, c);
	expect_wish(&f, c, wish);
	end(&f, c);
}
END_TEST

static void expect_recent(struct fake *f, struct rtb_client *c, const char *before)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);
	const char *json = field_json(m.params, RTBP_F_BROADCAST);
	int64_t since;

	ck_assert_int_eq(strncmp(json, before, strlen(before)), 0);
	ck_assert_int_eq(sscanf(json + strlen(before), "\"replay\":{\"since\":%ld,", &since), 1);
	ck_assert_int_gt(since, rtbc_wall_ms() - 120000);
	say_subscribed(f, m.id, 5, "ready");
}

/* The subscription has ended with the client's token, and comes back with the next one. */
START_TEST(asked_again_with_another_token)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = replayed_client(&f, &ear);
	say_channel(&f, 5, "rejected", "token_expired", "x");
	fake_flush(&f, c);
	HEARD(&ear, "rejected ");
	ck_assert_int_eq(rtb_set_token(c, NULL, "ey.ey.x", NULL, NULL), 0);
	say_result(&f, fake_expect(&f, c, RTBP_M_AUTH).id, "{\"state\":\"accepted\"}");
	fake_flush(&f, c);
	expect_recent(&f, c, "{");
	say_stored(&f, "e", "e1");
	say_stored(&f, "m", "m1");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&ear,
	      "rejected joining gap:token_expired:none:0 ready stored:m#m1 ended:replayed:1 ");
	end(&f, c);
}
END_TEST

/* The end comes while another request is on its way, which the daemon takes for a new one. */
START_TEST(asked_again_behind_a_request)
{
	struct rtb_sub_options o;
	struct ear ear, other = { 0 };
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct rtbp_msg m;
	struct fake f;

	c = replayed_client(&f, &ear);
	o = options_of(&other, -1, 0);
	o.self = true;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{\"self\":true}");
	say_channel(&f, 5, "rejected", "token_replaced", "x");
	say_subscribed(&f, m.id, 5, "ready");
	fake_flush(&f, c);
	expect_recent(&f, c, "{\"self\":true,");
	say_stored(&f, "m", "m1");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	UNTIL(c, strstr(ear.heard, "stored:m#m1 ended:replayed:1 "));
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

/* Two subscriptions are handed the same broadcast at slightly different moments. */
START_TEST(nearly_the_same_goes_together)
{
	static const struct {
		int64_t apart;
		int n_requests;
	} cases[] = { { 0, 1 }, { 900, 1 }, { -900, 1 }, { 5000, 2 }, { -5000, 2 } };
	int64_t last = rtbc_wall_ms(), since;
	struct ear ears[2];
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;
	char json[100];

	c = attached(&f);
	for (int i = 0; i < 2; i++) {
		listen_to(c, &ears[i], 1000, 0);
		say_subscribed(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id, 5, "ready");
		say_ended(&f, "replayed");
		fake_flush(&f, c);
		UNTIL(c, strstr(ears[i].heard, "ended"));
		ears[i].sub->replay->last = last + i * cases[_i].apart;
	}
	attach_again(&f, c);
	for (int i = 0; i < cases[_i].n_requests; i++) {
		m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
		since = last + i * cases[_i].apart;
		if (cases[_i].n_requests == 1 && cases[_i].apart < 0)
			since = last + cases[_i].apart; /* the earlier one */
		(void)snprintf(json, sizeof(json), "{\"replay\":{\"since\":%lld,\"limit\":25}}",
			       (long long)since - 60000);
		ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), json);
		say_subscribed(&f, m.id, 5, "ready");
		say_ended(&f, "replayed");
		fake_flush(&f, c);
	}
	for (int i = 0; i < 2; i++)
		UNTIL(c, strstr(strstr(ears[i].heard, "ended") + 1, "ended"));
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

/* Not before the time that was wished, and not what is older than the last 64 ids. */
START_TEST(the_limits_of_that)
{
	int64_t wished = rtbc_wall_ms() - 5000;
	char json[100], id[16];
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = attached(&f);
	(void)snprintf(json, sizeof(json), "{\"replay\":{\"since\":%lld,\"limit\":25}}",
		       (long long)wished);
	listen_to(c, &ear, wished, 0);
	say_subscribed(&f, expect_wish(&f, c, json), 5, "ready");
	say_ended(&f, "replayed");
	for (int i = 0; i < 65; i++) {
		(void)snprintf(id, sizeof(id), "%d", i);
		say_live(&f, "e", id);
	}
	fake_flush(&f, c);
	UNTIL(c, strstr(ear.heard, "e#64 "));
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	fake_attach(&f, c);
	ear.heard[0] = '\0';
	say_subscribed(&f, expect_wish(&f, c, json), 5, "ready");
	say_stored(&f, "e", "1");
	say_stored(&f, "e", "0");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&ear, "ready stored:e#0 ended:replayed:1 ");
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_replay_again");
	TCase *t = tcase_create("replay");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, asked_again_for_what_was_missed);
	tcase_add_test(t, asked_again_for_all);
	tcase_add_test(t, asked_again_with_another_token);
	tcase_add_test(t, asked_again_behind_a_request);
	tcase_add_test(t, the_limits_of_that);
	tcase_add_loop_test(t, nearly_the_same_goes_together, 0, 5);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
