/* SPDX-License-Identifier: MIT */
/* librtbridge: subscriptions, shared and single, and what they deliver. */
#include "test_client_ear.h"
#include "suite.h"

START_TEST(messages_come)
{
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = ready_client(&f, &ear);
	say_broadcast(&f, 5, "e", "{\"n\":[1,2.5,null]}");
	say_broadcast(&f, 5, "f", "\"x\"");
	say_channel(&f, 5, "rejoining", "link_lost", "again");
	say_channel(&f, 5, "ready", "", "");
	fake_flush(&f, c);
	HEARD(&ear, "ready e={\"n\":[1,2.5,null]} f=\"x\" rejoining:link_lost ready ");
	ck_assert_ptr_eq(rtb_sub_client(ear.sub), c);
	end(&f, c);
}
END_TEST

START_TEST(byte_by_byte)
{
	struct rtb_client *c;
	struct rtbp_buf all;
	struct ear ear;
	struct fake f;

	c = ready_client(&f, &ear);
	say_broadcast(&f, 5, "e", "\"a longer text, more than thirty-one bytes\"");
	say_broadcast(&f, 5, "f", "1");
	all = f.out;
	f.out = (struct rtbp_buf)RTBP_BUF_INIT;
	for (size_t i = 0; i < all.size; i++) {
		rtbp_buf_put(&f.out, all.data + i, 1);
		fake_flush(&f, c);
		ck_assert_int_ge(rtb_client_process(c), 0);
	}
	rtbp_buf_done(&all);
	HEARD(&ear, "ready e=\"a longer text, more than thirty-one bytes\" f=1 ");
	end(&f, c);
}
END_TEST

static void on_size(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	(void)sub;
	*(size_t *)user += msg->payload_size;
}

START_TEST(a_giant_frame)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	size_t size = 15 * 1024 * 1024, got = 0, begin;
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct ear ear;
	struct fake f;
	char *big;

	c = ready_client(&f, &ear);
	rtb_unsubscribe(ear.sub);
	fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	o.handlers.broadcast = on_size;
	o.user = &got;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	say_subscribed(&f, fake_expect(&f, c, RTBP_M_SUBSCRIBE).id, 6, "ready");
	big = calloc(1, size);
	begin = rtbp_msg_begin_notice(&f.out, RTBP_N_BROADCAST);
	rtbp_pack_map(&f.out, 2);
	rtbp_pack_field_uint(&f.out, RTBP_F_CHAN, 6);
	rtbp_pack_field(&f.out, RTBP_F_PAYLOAD);
	rtbp_pack_bin(&f.out, big, size);
	rtbp_msg_end(&f.out, begin);
	free(big);
	fake_flush(&f, c);
	UNTIL(c, got == size + 5);
	end(&f, c);
}
END_TEST

static void on_odd(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	int *n = user;

	(void)sub;
	switch ((*n)++) {
	case 0: /* raw */
		ck_assert(msg->raw && !msg->undecodable && !msg->meta && !msg->extra);
		ck_assert_str_eq(msg->event, "");
		ck_assert_uint_eq(msg->payload_size, 1);
		break;
	case 1: /* an event of 300 bytes, more than the protocol allows, less than nothing */
		ck_assert_uint_eq(strlen(msg->event), 300);
		ck_assert(!msg->raw);
		break;
	default:
		ck_assert(msg->undecodable && msg->meta && msg->extra);
		ck_assert_uint_eq(msg->meta_size, 1);
		ck_assert_uint_eq(msg->extra_size, 4);
	}
}

START_TEST(odd_messages)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	char json[512], name[301] = { 0 };
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct ear ear;
	struct fake f;
	int n = 0;

	c = ready_client(&f, &ear);
	o.handlers.broadcast = on_odd;
	o.user = &n;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	say_notice(&f, RTBP_N_BROADCAST, "{\"chan\":5,\"event\":\"\",\"raw\":7}");
	memset(name, 'x', 300);
	(void)snprintf(json, sizeof(json), "{\"chan\":5,\"event\":\"%s\",\"payload\":1}", name);
	say_notice(&f, RTBP_N_BROADCAST, json);
	say_notice(&f, RTBP_N_BROADCAST,
		   "{\"chan\":5,\"event\":\"e\",\"payload\":1,\"meta\":{},"
		   "\"extra\":{\"k\":1},\"undecodable\":true}");
	fake_flush(&f, c);
	UNTIL(c, n == 3);
	end(&f, c);
}
END_TEST

START_TEST(second_one_shares)
{
	struct ear ear, two = { 0 };
	struct rtb_client *c;
	struct fake f;

	c = ready_client(&f, &ear);
	listen_to(c, &two, "t", false, only_b);
	ck_assert_int_eq(rtb_sub_state(two.sub), RTB_CHANNEL_READY);
	ck_assert_str_eq(two.heard, ""); /* told by process(), not within rtb_subscribe() */
	HEARD(&two, "ready ");
	ck_assert(fake_is_quiet(&f, c));
	say_broadcast(&f, 5, "a", "1");
	say_broadcast(&f, 5, "b", "2");
	fake_flush(&f, c);
	HEARD(&ear, "ready a=1 b=2 ");
	HEARD(&two, "ready b=2 ");
	/* The other one leaves: the union shrinks, and the daemon hears so. */
	rtb_unsubscribe(ear.sub);
	ck_assert_str_eq(field_json(fake_expect(&f, c, RTBP_M_SUBSCRIBE).params, RTBP_F_BROADCAST),
			 "{\"events\":[\"b\"]}");
	rtb_unsubscribe(two.sub);
	fake_expect(&f, c, RTBP_M_UNSUBSCRIBE);
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

START_TEST(the_union_of_wishes)
{
	struct ear one = { 0 }, two = { 0 }, three = { 0 };
	struct rtb_client *c;
	struct rtbp_msg m;
	struct fake f;

	fake_start(&f);
	c = fake_client(&f, NULL);
	fake_attach(&f, c);
	listen_to(c, &one, "t", false, only_a);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{\"events\":[\"a\"]}");
	say_subscribed(&f, m.id, 1, "ready");
	fake_flush(&f, c);
	HEARD(&one, "ready ");
	listen_to(c, &two, "t", true, a_b);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST),
			 "{\"self\":true,\"events\":[\"a\",\"b\"]}");
	/* The first one stays ready; the second is only when its wishes are answered. */
	ck_assert_int_eq(rtb_sub_state(one.sub), RTB_CHANNEL_READY);
	ck_assert_int_eq(rtb_sub_state(two.sub), RTB_CHANNEL_JOINING);
	say_broadcast(&f, 1, "a", "1");
	say_subscribed(&f, m.id, 1, "ready");
	say_broadcast(&f, 1, "b", "2");
	fake_flush(&f, c);
	HEARD(&two, "ready b=2 ");
	HEARD(&one, "ready a=1 ");
	listen_to(c, &three, "t", false, star);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{\"self\":true}");
	end(&f, c);
}
END_TEST

START_TEST(private_is_another_channel)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct rtb_client *c;
	struct rtb_sub *sub;
	struct rtbp_msg m;
	struct ear ear;
	struct fake f;

	c = ready_client(&f, &ear);
	o.is_private = true;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), 0);
	m = fake_expect(&f, c, RTBP_M_SUBSCRIBE);
	ck_assert(field_bool(m.params, RTBP_F_PRIVATE));
	say_subscribed(&f, m.id, 6, "ready");
	say_broadcast(&f, 6, "e", "1");
	say_broadcast(&f, 5, "e", "2");
	fake_flush(&f, c);
	HEARD(&ear, "ready e=2 ");
	end(&f, c);
}
END_TEST

START_TEST(wrong_names)
{
	static const char *const bad_event[] = { "ok", "\x01", NULL };
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct rtb_sub *sub = NULL;
	struct rtb_client *c;
	struct ear ear;
	struct fake f;

	c = ready_client(&f, &ear);
	ck_assert_int_eq(rtb_subscribe(c, "", NULL, &sub), RTB_E_TOPIC);
	ck_assert_int_eq(rtb_subscribe(c, "rtbridge:x", NULL, &sub), RTB_E_TOPIC);
	ck_assert_int_eq(rtb_subscribe(c, "\xff", NULL, &sub), RTB_E_TOPIC);
	ck_assert_str_ne(rtb_client_error_text(c), "");
	o.events = bad_event;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), RTB_E_EVENT);
	o.size = 1;
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &sub), -EINVAL);
	ck_assert_ptr_null(sub);
	ck_assert_ptr_null(rtb_unsubscribe(NULL));
	ck_assert(fake_is_quiet(&f, c));
	end(&f, c);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_subs");
	TCase *t = tcase_create("subs");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, messages_come);
	tcase_add_test(t, byte_by_byte);
	tcase_add_test(t, a_giant_frame);
	tcase_add_test(t, odd_messages);
	tcase_add_test(t, second_one_shares);
	tcase_add_test(t, the_union_of_wishes);
	tcase_add_test(t, private_is_another_channel);
	tcase_add_test(t, wrong_names);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
