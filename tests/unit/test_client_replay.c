/* SPDX-License-Identifier: MIT */
/* librtbridge: stored messages, gaps that announce them, notices of the server. */
#include "test_client_stored.h"
#include "suite.h"

START_TEST(what_is_asked)
{
	struct rtb_sub_options o;
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct ear ear = { 0 };
	struct fake f;

	c = attached(&f);
	o = options_of(&ear, 5, 26);
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), -EINVAL);
	o = options_of(&ear, 5, 0);
	o.replay_since_ms = -1;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), -EINVAL);
	o = options_of(&ear, 5, 0);
	o.is_private = false;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), -EINVAL);
	ck_assert_ptr_nonnull(strstr(rtb_client_error_text(c), "private"));
	/* From a program that was made with an earlier header. */
	o = options_of(&ear, 5, 26);
	o.size = offsetof(struct rtb_sub_options, replay);
	ck_assert_int_eq(rtb_subscribe(c, "u", &o, &sub), 0);
	expect_wish(&f, c, "{}");
	o.size--;
	ck_assert_int_eq(rtb_subscribe(c, "v", &o, &sub), -EINVAL);
	o = options_of(&ear, 0, 1);
	o.replication_ready = true;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	expect_wish(&f, c, "{\"replication_ready\":true,\"replay\":{\"since\":0,\"limit\":1}}");
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(a_replay)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = replayed_client(&f, &ear);
	/* Ends that belong to nothing. */
	say_ended(&f, "replayed");
	say_notice(&f, RTBP_N_REPLAY, "{\"chan\":6,\"stored\":\"none\"}");
	say_notice(&f, RTBP_N_REPLAY, "{\"stored\":\"none\"}");
	/* What is sent twice comes twice. */
	say_live(&f, "f", "f1");
	say_live(&f, "f", "f1");
	fake_flush(&f, c);
	HEARD(&ear, "f#f1 f#f1 ");
	end(&f, c);
}
END_TEST

START_TEST(how_it_ends)
{
	static const char *const ends[] = {
		"{\"chan\":5,\"stored\":\"truncated\",\"n\":25}",
		"ended:truncated:0 ",
		"{\"chan\":5,\"stored\":\"none\",\"n\":0,\"text\":\"not now\"}",
		"ended:none:0:not now ",
		"{\"chan\":5,\"stored\":\"from later\"}",
		"ended:none:0 ",
	};
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = attached(&f);
	listen_to(c, &ear, 7, 3);
	say_subscribed(&f, expect_wish(&f, c, "{\"replay\":{\"since\":7,\"limit\":3}}"), 5,
		       "ready");
	fake_flush(&f, c);
	HEARD(&ear, "ready ");
	ear.heard[0] = '\0';
	say_notice(&f, RTBP_N_REPLAY, ends[2 * _i]);
	say_live(&f, "e", "e1");
	fake_flush(&f, c);
	UNTIL(c, strstr(ear.heard, "e#e1"));
	ck_assert_int_eq(strncmp(ear.heard, ends[2 * _i + 1], strlen(ends[2 * _i + 1])), 0);
	end(&f, c);
}
END_TEST

/* Stored ones are for who asked, one wish after the other; equal ones that are due together go
 * together. */
START_TEST(several_in_one_topic)
{
	struct ear plain, a, b, other;
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	c = attached(&f);
	listen_to(c, &plain, -1, 0);
	say_subscribed(&f, expect_wish(&f, c, "{}"), 5, "ready");
	fake_flush(&f, c);
	HEARD(&plain, "ready ");
	listen_to(c, &a, 1000, 0);
	listen_to(c, &b, 1000, 25);
	listen_to(c, &other, 2000, 0);
	say_subscribed(&f, expect_wish(&f, c, "{\"replay\":{\"since\":1000,\"limit\":25}}"), 5,
		       "ready");
	say_live(&f, "e", "e1");
	say_stored(&f, "s", "s1");
	say_stored(&f, "s", "e1"); /* it has had that */
	fake_flush(&f, c);
	HEARD(&a, "ready e#e1 stored:s#s1 ");
	ck_assert(fake_is_quiet(&f, c));
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&a, "ready e#e1 stored:s#s1 ended:replayed:1 ");
	HEARD(&b, "ready e#e1 ");
	say_subscribed(&f, expect_wish(&f, c, "{\"replay\":{\"since\":1000,\"limit\":25}}"), 5,
		       "ready");
	say_stored(&f, "s", "s1");
	say_ended(&f, "truncated");
	fake_flush(&f, c);
	HEARD(&b, "ready e#e1 stored:s#s1 ended:truncated:1 ");
	say_subscribed(&f, expect_wish(&f, c, "{\"replay\":{\"since\":2000,\"limit\":25}}"), 5,
		       "ready");
	say_stored(&f, "s", "s1");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&other, "ready e#e1 stored:s#s1 ended:replayed:1 ");
	HEARD(&b, "ready e#e1 stored:s#s1 ended:truncated:1 ");
	HEARD(&a, "ready e#e1 stored:s#s1 ended:replayed:1 ");
	HEARD(&plain, "ready e#e1 ");
	ck_assert(fake_is_quiet(&f, c));
	/* All of them are due when another daemon is there, for nearly the same. */
	say_live(&f, "l", "l1");
	fake_flush(&f, c);
	UNTIL(c, strstr(other.heard, "l#l1"));
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	a.heard[0] = b.heard[0] = other.heard[0] = plain.heard[0] = '\0';
	fake_attach(&f, c);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert(rtbp_field(rtbp_field(m.params, RTBP_F_BROADCAST), RTBP_F_REPLAY).p);
	say_subscribed(&f, m.id, 5, "ready");
	say_stored(&f, "n", "n1");
	say_stored(&f, "l", "l1");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&plain, "ready ");
	HEARD(&a, "ready stored:n#n1 ended:replayed:1 ");
	HEARD(&b, "ready stored:n#n1 ended:replayed:1 ");
	HEARD(&other, "ready stored:n#n1 ended:replayed:1 ");
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(gaps)
{
	struct ear ear, plain;
	struct rtb_client *c;
	struct fake f;

	c = replayed_client(&f, &ear);
	listen_to(c, &plain, -1, 0);
	HEARD(&plain, "ready ");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"from\":1,\"to\":2,\"cause\":\"connection\","
		   "\"stored\":\"truncated\",\"n\":3}");
	say_stored(&f, "a", "a1");
	say_stored(&f, "e", "e1"); /* it had come before */
	say_live(&f, "l", "l1");
	say_notice(&f, RTBP_N_GAP, "{\"chan\":5,\"from\":1,\"to\":2,\"cause\":\"moved\"}");
	fake_flush(&f, c);
	HEARD(&plain, "ready gap:connection:truncated:3 stored:a#a1 stored:e#e1 l#l1 "
		      "gap:moved:none:0 ");
	HEARD(&ear, "gap:connection:truncated:3 stored:a#a1 l#l1 gap:moved:none:0 ");
	/* Fewer may follow than were announced: what somebody asks for then is not for all. */
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"from\":1,\"to\":2,\"cause\":\"moved\",\"stored\":\"replayed\","
		   "\"n\":9}");
	fake_flush(&f, c);
	UNTIL(c, strstr(plain.heard, "gap:moved:replayed:9 "));
	/* Those that a gap announces come to all, also while somebody's replay is on its way. */
	plain.heard[0] = ear.heard[0] = '\0';
	rtb_unsubscribe(ear.sub);
	listen_to(c, &ear, 4000, 0);
	say_subscribed(&f, expect_wish(&f, c, "{\"replay\":{\"since\":4000,\"limit\":25}}"), 5,
		       "ready");
	say_stored(&f, "a", "a2");
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"from\":1,\"to\":2,\"cause\":\"moved\",\"stored\":\"replayed\","
		   "\"n\":2}");
	say_stored(&f, "b", "b1");
	say_stored(&f, "b", "b2");
	say_stored(&f, "c", "c1");
	fake_flush(&f, c);
	HEARD(&ear, "ready stored:a#a2 gap:moved:replayed:2 stored:b#b1 stored:b#b2 stored:c#c1 ");
	HEARD(&plain, "gap:moved:replayed:2 stored:b#b1 stored:b#b2 ");
	ear.heard[0] = plain.heard[0] = '\0';
	say_notice(&f, RTBP_N_GAP,
		   "{\"chan\":5,\"from\":1,\"to\":2,\"cause\":\"moved\",\"stored\":\"replayed\","
		   "\"n\":9}");
	say_live(&f, "l", "l2");
	say_stored(&f, "d", "d1");
	say_ended(&f, "replayed");
	fake_flush(&f, c);
	HEARD(&ear, "gap:moved:replayed:9 l#l2 stored:d#d1 ended:replayed:5 ");
	HEARD(&plain, "gap:moved:replayed:9 l#l2 ");
	end(&f, c);
}
END_TEST

START_TEST(system_notices)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = replayed_client(&f, &ear);
	say_notice(&f, RTBP_N_SYSTEM, "{\"status\":\"ok\"}");
	say_notice(&f, RTBP_N_SYSTEM, "{\"chan\":6,\"status\":\"ok\"}");
	say_notice(&f, RTBP_N_SYSTEM, "{\"chan\":5}");
	say_notice(&f, RTBP_N_SYSTEM,
		   "{\"chan\":5,\"topic\":\"t\",\"extension\":\"system\",\"status\":\"error\","
		   "\"text\":\"some words\"}");
	fake_flush(&f, c);
	HEARD(&ear, "system::: system:system:error:some words ");
	end(&f, c);
}
END_TEST

START_TEST(a_daemon_without_it)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	listen_to(c, &ear, 1000, 0);
	say_subscribed(&f, expect_wish(&f, c, "{}"), 5, "ready");
	fake_flush(&f, c);
	HEARD(&ear, "ready ended:none:0:this daemon has no replay ");
	say_live(&f, "e", "");
	fake_flush(&f, c);
	HEARD(&ear, "ready ended:none:0:this daemon has no replay e ");
	/* The next one has it. */
	ear.heard[0] = '\0';
	fake_hang_up(&f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	f.features = features;
	fake_attach(&f, c);
	fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	end(&f, c);
}
END_TEST

START_TEST(refused)
{
	struct ear plain, ear, third;
	struct rtb_client *c;
	struct fake f;

	c = attached(&f);
	listen_to(c, &plain, -1, 0);
	say_subscribed(&f, expect_wish(&f, c, "{}"), 5, "ready");
	fake_flush(&f, c);
	HEARD(&plain, "ready ");
	listen_to(c, &ear, 1000, 0);
	say_error(&f, expect_wish(&f, c, "{\"replay\":{\"since\":1000,\"limit\":25}}"),
		  RTBP_E_BAD_REQUEST, "no");
	say_ended(&f, "replayed");
	say_live(&f, "e", "e1");
	fake_flush(&f, c);
	HEARD(&plain, "ready e#e1 ");
	HEARD(&ear, "rejected ");
	/* Asked for again together with the next wish. */
	listen_to(c, &third, 1000, 0);
	say_subscribed(&f, expect_wish(&f, c, "{\"replay\":{\"since\":1000,\"limit\":25}}"), 5,
		       "ready");
	say_stored(&f, "s", "s1");
	fake_flush(&f, c);
	HEARD(&third, "ready stored:s#s1 ");
	/* The program may leave where it likes. */
	third.leaves = ear.leaves = true;
	say_ended(&f, "replayed");
	say_live(&f, "f", "f1");
	fake_flush(&f, c);
	HEARD(&plain, "ready e#e1 f#f1 ");
	ck_assert_str_eq(third.heard, "ready stored:s#s1 ended:replayed:1 ");
	ck_assert_str_eq(ear.heard, "rejected ready stored:s#s1 ended:replayed:1 ");
	end(&f, c);
}
END_TEST

START_TEST(odd_ids)
{
	char json[400], name[RTBC_META_ID_SIZE + 1];
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = replayed_client(&f, &ear);
	memset(name, 'n', sizeof(name));
	name[RTBC_META_ID_SIZE] = '\0';
	for (int i = 0; i < 2; i++, name[RTBC_META_ID_SIZE - 1] = '\0') {
		(void)snprintf(
			json, sizeof(json),
			"{\"chan\":5,\"event\":\"%d\",\"payload\":1,\"meta\":{\"id\":\"%s\"}}", i,
			name);
		say_notice(&f, RTBP_N_BROADCAST, json);
	}
	say_notice(&f, RTBP_N_BROADCAST,
		   "{\"chan\":5,\"event\":\"x\",\"payload\":1,\"meta\":{\"id\":7,"
		   "\"replayed\":\"yes\"}}");
	say_notice(&f, RTBP_N_BROADCAST, "{\"chan\":5,\"event\":\"y\",\"payload\":1,\"meta\":[1]}");
	/* Without ids nothing is known to be the same. */
	for (int i = 0; i < 2; i++)
		say_notice(
			&f, RTBP_N_BROADCAST,
			"{\"chan\":5,\"event\":\"z\",\"payload\":1,\"meta\":{\"replayed\":true}}");
	fake_flush(&f, c);
	UNTIL(c, strstr(ear.heard, "stored:z stored:z "));
	(void)snprintf(json, sizeof(json), "0 1#%.127s x y stored:z stored:z ", name);
	ck_assert_str_eq(ear.heard, json);
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_replay");
	TCase *t = tcase_create("replay");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, what_is_asked);
	tcase_add_test(t, a_replay);
	tcase_add_loop_test(t, how_it_ends, 0, 3);
	tcase_add_test(t, several_in_one_topic);
	tcase_add_test(t, gaps);
	tcase_add_test(t, system_notices);
	tcase_add_test(t, a_daemon_without_it);
	tcase_add_test(t, refused);
	tcase_add_test(t, odd_ids);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
