/* SPDX-License-Identifier: MIT */
/* librtbridge: who is there, and gaps. */
#include "test_client_watch.h"
#include "suite.h"

START_TEST(changes_are_folded)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = watching_client(&f, &ear);
	ck_assert_int_eq(rtb_sub_presence(ear.sub), RTB_PRESENCE_OK);
	/* In any order in the frame, but leave, join, update in effect; who leaves may come anew.
	 */
	say_presence(&f, "\"update\":[{\"key\":\"bob\",\"prev\":\"2\",\"ref\":\"3\","
			 "\"state\":{\"n\":2}}],"
			 "\"join\":[{\"key\":\"\",\"ref\":\"9\",\"state\":{}}," ALICE "],"
			 "\"leave\":[" ALICE "]");
	fake_flush(&f, c);
	HEARD(&ear, "-alice/1& +/9={}& +alice/1={\"n\":1}& ~bob/2>3={\"n\":2} ");
	ck_assert_str_eq(who(ear.sub), "/9={} alice/1={\"n\":1} bob/3={\"n\":2}");
	end(&f, c);
}
END_TEST

START_TEST(what_does_not_fit_is_made_to_fit)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = watching_client(&f, &ear);
	/* Who is not there cannot leave; under each part of the name there is somebody. */
	say_presence(&f, "\"leave\":[{\"key\":\"alice\",\"ref\":\"2\",\"state\":{}},"
			 "{\"key\":\"carol\",\"ref\":\"1\",\"state\":{}}]");
	/* A join of somebody known, updates of somebody unknown, within a ref, onto another. */
	say_presence(&f, "\"join\":[{\"key\":\"alice\",\"ref\":\"1\",\"state\":{\"n\":5}}]");
	say_presence(&f,
		     "\"update\":[{\"key\":\"eve\",\"prev\":\"7\",\"ref\":\"8\",\"state\":{}}]");
	say_presence(&f, "\"update\":[{\"key\":\"eve\",\"prev\":\"8\",\"ref\":\"8\","
			 "\"state\":{\"n\":1}}]");
	say_presence(&f, "\"join\":[{\"key\":\"eve\",\"ref\":\"9\",\"state\":{}}]");
	say_presence(&f, "\"update\":[{\"key\":\"eve\",\"prev\":\"8\",\"ref\":\"9\","
			 "\"state\":{\"n\":2}}]");
	/* For another channel, and with nothing in it. */
	say_notice(&f, RTBP_N_PRESENCE, "{\"chan\":6,\"topic\":\"u\",\"leave\":[" BOB "]}");
	say_presence(&f, "\"later\":[1]");
	say_broadcast(&f, 5, "end", "1");
	fake_flush(&f, c);
	HEARD(&ear, "~alice/1>1={\"n\":5} +eve/8={} ~eve/8>8={\"n\":1} +eve/9={} "
		    "-eve/9& ~eve/8>9={\"n\":2} end=1 ");
	ck_assert_str_eq(who(ear.sub), "alice/1={\"n\":5} bob/2={} eve/9={\"n\":2}");
	end(&f, c);
}
END_TEST

START_TEST(known_after_the_join)
{
	struct ear ear = { 0 };
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	watch(c, &ear, "t", NULL);
	ck_assert_int_eq(rtb_sub_presence(ear.sub), RTB_PRESENCE_NONE);
	fake_attach(&f, c);
	say_watched(&f, expect_watch(&f, c, "{}"), "joined", "pending", "[]");
	say_broadcast(&f, 5, "e", "1");
	/* Nothing is known that this could change. */
	say_presence(&f, "\"join\":[" BOB "]");
	fake_flush(&f, c);
	HEARD(&ear, "joined e=1 ");
	ck_assert_int_eq(rtb_sub_presence(ear.sub), RTB_PRESENCE_NONE);
	ck_assert_uint_eq(rtb_presence_count(ear.sub), 0);
	ck_assert_ptr_null(rtb_presence_next(ear.sub, NULL));
	say_presence(&f, "\"sync\":[" ALICE "," ALICE "]");
	say_notice(&f, RTBP_N_CHANNEL,
		   "{\"chan\":5,\"topic\":\"t\",\"state\":\"ready\",\"presence\":\"ok\"}");
	fake_flush(&f, c);
	ck_assert_int_eq(rtb_wait_ready(ear.sub, 60000), 0);
	ck_assert_str_eq(ear.heard, "joined e=1 sync(alice/1={\"n\":1}) ready ");
	end(&f, c);
}
END_TEST

START_TEST(denied_and_overflow)
{
	struct ear ear = { 0 };
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	watch(c, &ear, "t", NULL);
	say_watched(&f, expect_watch(&f, c, "{}"), "ready", "denied", "[]");
	fake_flush(&f, c);
	HEARD(&ear, "ready ");
	ck_assert_int_eq(rtb_sub_presence(ear.sub), RTB_PRESENCE_DENIED);
	say_presence(&f, "\"sync\":[" BOB "]");
	fake_flush(&f, c);
	HEARD(&ear, "ready sync(bob/2={}) ");
	/* The same channel state, but the presence is lost: that is news. */
	say_notice(&f, RTBP_N_CHANNEL,
		   "{\"chan\":5,\"topic\":\"t\",\"state\":\"ready\",\"presence\":\"overflow\"}");
	say_presence(&f, "\"leave\":[" BOB "]");
	say_broadcast(&f, 5, "e", "1");
	fake_flush(&f, c);
	HEARD(&ear, "ready sync(bob/2={}) ready e=1 ");
	ck_assert_int_eq(rtb_sub_presence(ear.sub), RTB_PRESENCE_OVERFLOW);
	ck_assert_uint_eq(rtb_presence_count(ear.sub), 0);
	/* "ok" and "pending" alone say nothing; an empty state is one, too. */
	say_notice(&f, RTBP_N_CHANNEL,
		   "{\"chan\":5,\"topic\":\"t\",\"state\":\"ready\",\"presence\":\"pending\"}");
	say_presence(&f, "\"sync\":[]");
	fake_flush(&f, c);
	HEARD(&ear, "ready sync(bob/2={}) ready e=1 sync() ");
	ck_assert_int_eq(rtb_sub_presence(ear.sub), RTB_PRESENCE_OK);
	end(&f, c);
}
END_TEST

START_TEST(a_later_one_gets_its_own_sync)
{
	struct ear ear, plain = { 0 }, two = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = watching_client(&f, &ear);
	listen_to(c, &plain, "t", false, NULL);
	watch(c, &two, "t", NULL);
	/* The state is at hand, and is told by process(). */
	ck_assert_str_eq(who(two.sub), "alice/1={\"n\":1} bob/2={}");
	ck_assert_int_eq(rtb_sub_presence(plain.sub), RTB_PRESENCE_NONE);
	ck_assert_ptr_null(rtb_presence_next(plain.sub, NULL));
	/* It hears the whole with the change in it, not the change as well. */
	say_presence(&f, "\"leave\":[" ALICE "]");
	fake_flush(&f, c);
	HEARD(&two, "ready sync(bob/2={}) ");
	say_presence(&f, "\"join\":[" ALICE "]");
	fake_flush(&f, c);
	HEARD(&two, "ready sync(bob/2={}) +alice/1={\"n\":1} ");
	HEARD(&ear, "-alice/1 +alice/1={\"n\":1} ");
	HEARD(&plain, "ready ");
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(wished_for_later_and_no_more)
{
	struct ear plain, ear = { 0 }, again = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = ready_client(&f, &plain);
	watch(c, &ear, "t", NULL);
	id = expect_watch(&f, c, "{}");
	ck_assert_int_eq(rtb_sub_state(ear.sub), RTB_CHANNEL_JOINING);
	say_channel(&f, 5, "rejoining", "presence", "joined anew");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"topic\":\"t\",\"from\":1,\"to\":2,\"cause\":\"presence\"}");
	say_watched(&f, id, "ready", "ok", "[" ALICE "]");
	fake_flush(&f, c);
	HEARD(&ear, "ready sync(alice/1={\"n\":1}) ");
	HEARD(&plain, "ready rejoining:presence ready ");
	rtb_unsubscribe(ear.sub);
	id = expect_watch(&f, c, "absent");
	/* Said before the daemon has read that: nobody cares. */
	say_presence(&f, "\"sync\":[" BOB "]");
	say_broadcast(&f, 5, "e", "1");
	fake_flush(&f, c);
	HEARD(&plain, "ready rejoining:presence ready e=1 ");
	/* Wished for again before the answer: what was known may be wrong by now. */
	watch(c, &again, "t", NULL);
	say_presence(&f, "\"join\":[" BOB "]");
	say_subscribed(&f, id, 5, "ready");
	fake_flush(&f, c);
	id = expect_watch(&f, c, "{}");
	ck_assert_int_eq(rtb_sub_presence(again.sub), RTB_PRESENCE_NONE);
	say_watched(&f, id, "ready", "pending", "[]");
	fake_flush(&f, c);
	HEARD(&again, "ready ");
	ck_assert_uint_eq(rtb_presence_count(again.sub), 0);
	end(&f, c);
}
END_TEST

START_TEST(keys)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct ear one = { 0 }, two = { 0 }, three = { 0 };
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	o.presence_key = "rtbridge:x";
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), RTB_E_KEY);
	ck_assert_str_eq(rtb_client_error_text(c), rtb_strerror(RTB_E_KEY));
	o.presence_key = "";
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), RTB_E_KEY);
	ck_assert(fake_is_quiet(&f, c));
	watch(c, &one, "t", NULL);
	expect_watch(&f, c, "{}");
	watch(c, &two, "t", "me");
	expect_watch(&f, c, "{\"key\":\"me\"}");
	watch(c, &three, "t", "you");
	ck_assert(fake_is_quiet(&f, c));
	rtb_unsubscribe(two.sub);
	expect_watch(&f, c, "{\"key\":\"you\"}");
	end(&f, c);
}
END_TEST

START_TEST(over_a_restart_of_the_daemon)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = watching_client(&f, &ear);
	for (int i = 0; i < 3; i++) {
		fake_close(&f);
		HEARD(&ear, "joining:detached ");
		ck_assert_int_eq(rtb_sub_presence(ear.sub), RTB_PRESENCE_OK);
		ck_assert_uint_eq(rtb_presence_count(ear.sub), i == 2 ? 1 : 2);
		fake_listen(&f);
		fake_attach(&f, c);
		ear.heard[0] = '\0';
		if (i == 0) { /* as it was: no news */
			say_watched(&f, expect_watch(&f, c, "{}"), "ready", "ok",
				    "[" ALICE "," BOB "]");
			say_broadcast(&f, 5, "e", "1");
			fake_flush(&f, c);
			HEARD(&ear, "ready e=1 ");
		} else if (i == 1) { /* another one, and then as before */
			say_watched(&f, expect_watch(&f, c, "{}"), "ready", "ok", "[" BOB "]");
			say_presence(&f, "\"sync\":[" BOB "]");
			say_broadcast(&f, 5, "e", "1");
			fake_flush(&f, c);
			HEARD(&ear, "ready sync(bob/2={}) e=1 ");
		} else { /* not known yet */
			say_watched(&f, expect_watch(&f, c, "{}"), "joined", "pending", "[]");
			say_broadcast(&f, 5, "e", "1");
			fake_flush(&f, c);
			HEARD(&ear, "joined e=1 ");
			ck_assert_str_eq(who(ear.sub), "bob/2={}");
			say_presence(&f, "\"sync\":[{\"key\":\"bob\",\"ref\":\"2\",\"state\":"
					 "{\"n\":1}}]");
			fake_flush(&f, c);
			HEARD(&ear, "joined e=1 sync(bob/2={\"n\":1}) ");
		}
		ear.heard[0] = '\0';
	}
	end(&f, c);
}
END_TEST

static void leave_both(struct ear *ear)
{
	ear->other->sub = rtb_unsubscribe(ear->other->sub);
	ck_assert_str_eq(who(ear->sub), "alice/1={\"n\":1}");
	rtb_unsubscribe(ear->sub);
	ck_assert_int_eq(rtb_sub_presence(ear->sub), RTB_PRESENCE_NONE);
	ck_assert_ptr_null(rtb_presence_next(ear->sub, NULL));
}

/* Whoever wants presence goes, somebody else asks the daemon something, and a new one comes. */
static void leave_and_come(struct ear *ear)
{
	rtb_unsubscribe(ear->sub);
	ck_assert_int_gt(rtb_sync(ear->c, false, NULL, NULL), 0);
	watch(ear->c, ear->other, "t", NULL);
	ck_assert_uint_eq(rtb_presence_count(ear->other->sub), 0);
}

START_TEST(unsubscribed_in_a_callback)
{
	struct ear ear, two = { 0 }, plain = { 0 }, new = { 0 };
	struct rtb_client *c;
	struct fake f;
	uint32_t id;

	c = watching_client(&f, &ear);
	listen_to(c, &plain, "t", false, NULL);
	watch(c, &two, "t", NULL);
	HEARD(&two, "ready sync(alice/1={\"n\":1} bob/2={}) ");
	ear.act = leave_both;
	ear.other = &two;
	say_presence(&f, "\"leave\":[" BOB "],\"update\":[{\"key\":\"alice\",\"prev\":\"1\","
			 "\"ref\":\"1\",\"state\":{\"n\":1}}]");
	fake_flush(&f, c);
	expect_watch(&f, c, "absent");
	ck_assert_str_eq(ear.heard, "-bob/2& ");
	ck_assert_str_eq(two.heard, "ready sync(alice/1={\"n\":1} bob/2={}) ");
	/* The same within one callback, with another one who comes. */
	ear = (struct ear){ 0 };
	watch(c, &ear, "t", NULL);
	say_watched(&f, expect_watch(&f, c, "{}"), "ready", "ok", "[" ALICE "]");
	fake_flush(&f, c);
	HEARD(&ear, "ready sync(alice/1={\"n\":1}) ");
	ear.act = leave_and_come;
	ear.other = &new;
	say_presence(&f, "\"join\":[" BOB "]");
	fake_flush(&f, c);
	expect_watch(&f, c, "absent");
	fake_expect(&f, c, RTBP_M_SYNC);
	id = expect_watch(&f, c, "{}");
	ck_assert_int_eq(rtb_sub_presence(new.sub), RTB_PRESENCE_NONE);
	/* Between the two requests changes were missed: what was known is not shown. */
	say_watched(&f, id, "joined", "pending", "[]");
	say_broadcast(&f, 5, "e", "1");
	fake_flush(&f, c);
	HEARD(&new, "joined e=1 ");
	ck_assert_int_eq(rtb_sub_presence(new.sub), RTB_PRESENCE_NONE);
	end(&f, c);
}
END_TEST

START_TEST(one_for_the_other_behind_a_full_queue)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct ear ear = { 0 }, two = { 0 };
	struct rtb_client *c;
	struct fake f;

	fake_start(&f);
	o.send_queue_bytes = 1;
	c = fake_client(&f, &o);
	fake_attach(&f, c);
	watch(c, &ear, "t", NULL);
	say_watched(&f, expect_watch(&f, c, "{}"), "ready", "ok", "[" ALICE "]");
	fake_flush(&f, c);
	HEARD(&ear, "ready sync(alice/1={\"n\":1}) ");
	ck_assert_int_gt(rtb_broadcast_json(c, "t", "e", "1", 1, NULL), 0);
	rtb_unsubscribe(ear.sub);
	watch(c, &two, "t", NULL);
	fake_expect(&f, c, RTBP_M_BROADCAST);
	/* The daemon never learns of it, so what is known goes on without hole. */
	HEARD(&two, "ready sync(alice/1={\"n\":1}) ");
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

static void come(struct ear *ear)
{
	watch(ear->c, ear->other, "t", NULL);
}

START_TEST(subscribed_in_a_callback)
{
	struct ear ear, two = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = watching_client(&f, &ear);
	ear.act = come;
	ear.other = &two;
	say_presence(&f, "\"leave\":[" ALICE "," BOB "]");
	fake_flush(&f, c);
	HEARD(&ear, "-alice/1& -bob/2 ");
	HEARD(&two, "ready sync() ");
	end(&f, c);
}
END_TEST

START_TEST(gaps)
{
	struct ear ear, plain = { 0 }, early = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = watching_client(&f, &ear);
	listen_to(c, &plain, "t", false, NULL);
	HEARD(&plain, "ready ");
	watch(c, &early, "t", "me"); /* not answered: the gap was before its time */
	say_notice(&f, RTBP_N_GAP, "{\"chan\":6,\"topic\":\"u\",\"from\":1,\"to\":2}");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"topic\":\"t\",\"from\":1700000000000,\"to\":1700000001000,"
		   "\"cause\":\"connection\"}");
	say_channel(&f, 5, "joined", "", "");
	fake_flush(&f, c);
	HEARD(&ear, "gap:connection:1700000000000-1700000001000 joined ");
	HEARD(&plain, "ready joined ");
	ck_assert_str_eq(early.heard, "");
	end(&f, c);
}
END_TEST

static void on_state(struct rtb_client *c, enum rtb_state state, int why, void *user)
{
	(void)c;
	(void)state;
	if (why)
		*(int *)user = why;
}

START_TEST(what_is_no_presence)
{
	static const char *const bad[] = {
		"{\"sync\":[]}",
		"{\"chan\":5,\"sync\":1}",
		"{\"chan\":5,\"sync\":[{\"key\":\"a\",\"ref\":\"b\"}]}",
		"{\"chan\":5,\"join\":[{\"key\":\"a\",\"ref\":1,\"state\":{}}]}",
		"{\"chan\":5,\"leave\":[{\"key\":1,\"ref\":\"b\",\"state\":{}}]}",
		"{\"chan\":5,\"leave\":[" BOB "],\"update\":[" ALICE "]}",
		"{\"chan\":5,\"join\":[" ALICE ",1]}",
	};
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct ear ear = { 0 };
	struct rtb_client *c;
	struct fake f;
	int why;

	fake_start(&f);
	o.handlers.state = on_state;
	o.user = &why;
	c = fake_client(&f, &o);
	watch(c, &ear, "t", NULL);
	for (size_t i = 0; i <= sizeof(bad) / sizeof(*bad); i++) {
		fake_attach(&f, c);
		why = 0;
		say_watched(&f, expect_watch(&f, c, "{}"), "ready", "ok",
			    i == 0 ? "{}" : "[" ALICE "," BOB "]");
		if (i > 0)
			say_notice(&f, RTBP_N_PRESENCE, bad[i - 1]);
		fake_flush(&f, c);
		UNTIL(c, why == RTB_E_PROTOCOL);
		ck_assert_int_eq(rtb_client_state(c), RTB_ATTACHING);
		/* Nothing of it was applied. */
		ck_assert_uint_eq(rtb_presence_count(ear.sub), i == 0 ? 0 : 2);
		fake_hang_up(&f);
	}
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "presence"));
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_presence");
	TCase *t = tcase_create("presence");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, changes_are_folded);
	tcase_add_test(t, what_does_not_fit_is_made_to_fit);
	tcase_add_test(t, known_after_the_join);
	tcase_add_test(t, denied_and_overflow);
	tcase_add_test(t, a_later_one_gets_its_own_sync);
	tcase_add_test(t, wished_for_later_and_no_more);
	tcase_add_test(t, keys);
	tcase_add_test(t, over_a_restart_of_the_daemon);
	tcase_add_test(t, unsubscribed_in_a_callback);
	tcase_add_test(t, one_for_the_other_behind_a_full_queue);
	tcase_add_test(t, subscribed_in_a_callback);
	tcase_add_test(t, gaps);
	tcase_add_test(t, what_is_no_presence);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
