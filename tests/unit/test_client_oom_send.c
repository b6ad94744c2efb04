/* SPDX-License-Identifier: MIT */
/*
 * librtbridge without memory: sends whose answers are lost, stored messages. Each send has one
 * outcome and goes once, each replay ends once; only -ENOMEM may be seen, and trying again works.
 */
#include "test_client_chaos.h"
#include "suite.h"

/* What callbacks saw; they run armed, hence without the assertions of Check, which allocate. */
struct ear {
	int n_ready, n_stored, n_live, n_ended, n_system, n_gaps;
	int n_results, n_acked, n_pending, n_unknown;
};

static void on_broadcast(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	struct ear *ear = user;

	(void)sub;
	ear->n_stored += msg->replayed;
	ear->n_live += !msg->replayed;
}

static void on_channel(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	struct ear *ear = user;

	(void)sub;
	ear->n_ready += ch->state == RTB_CHANNEL_READY;
}

static void on_replay(struct rtb_sub *sub, const struct rtb_replay *replay, void *user)
{
	struct ear *ear = user;

	(void)sub;
	(void)replay;
	ear->n_ended++;
}

static void on_system(struct rtb_sub *sub, const struct rtb_system *notice, void *user)
{
	struct ear *ear = user;

	(void)sub;
	(void)notice;
	ear->n_system++;
}

static void on_gap(struct rtb_sub *sub, const struct rtb_gap *gap, void *user)
{
	struct ear *ear = user;

	(void)sub;
	ear->n_gaps += gap->stored == RTB_STORED_REPLAYED;
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	struct ear *ear = user;

	(void)c;
	(void)id;
	ear->n_results++;
	ear->n_acked += result->outcome == RTB_ACKED;
	ear->n_pending += result->outcome == RTB_PENDING;
	ear->n_unknown += result->outcome == RTB_UNKNOWN;
}

static void send_all(struct fake *f, struct rtb_client *c, struct ear *ear)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	char json[2000];
	int64_t r;

	memset(json, 'x', sizeof(json));
	json[0] = json[sizeof(json) - 1] = '"';
	o.result = on_result;
	o.user = ear;
	o.id = "one";
	o.extra = "\x81\xa1k\x01";
	o.extra_size = 4;
	TRY(r, rtb_broadcast_json(c, "t", "e", json, sizeof(json), &o));
	ck_assert_int_gt(r, 0);
	o.id = NULL;
	o.extra = NULL;
	o.form = RTB_BINARY;
	TRY(r, rtb_broadcast(c, "t", "e", json, sizeof(json), &o));
	ck_assert_int_gt(r, 0);
	o.id = "three";
	TRY(r, rtb_broadcast(c, "t", "e", json, 3, &o));
	ck_assert_int_gt(r, 0);
	for (int i = 0; i < 3; i++)
		fake_expect(f, c, RTBP_M_BROADCAST);
}

static void answer_subscribe(struct fake *f, struct rtb_client *c, const char *gap)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);

	ck_assert(rtbp_field(rtbp_field(m.params, RTBP_F_BROADCAST), RTBP_F_REPLAY).p);
	say_subscribed(f, m.id, 5, "ready");
	if (gap)
		say_notice(f, RTBP_N_GAP, gap);
	say_notice(f, RTBP_N_BROADCAST,
		   "{\"chan\":5,\"event\":\"e\",\"payload\":1,\"meta\":{\"id\":\"a\","
		   "\"replayed\":true}}");
	say_notice(f, RTBP_N_REPLAY, "{\"chan\":5,\"stored\":\"replayed\",\"n\":1}");
	say_notice(f, RTBP_N_SYSTEM, "{\"chan\":5,\"status\":\"ok\",\"text\":\"words\"}");
	say_broadcast(f, 5, "e", "1");
	fake_flush(f, c);
}

static void ask_again(struct fake *f, struct rtb_client *c, struct ear *ear)
{
	int64_t r;

	for (int i = 0; i < 3; i++) {
		struct rtbp_msg m = fake_expect(f, c, RTBP_M_OUTCOME);

		if (i == 0)
			say_result(f, m.id, "{\"outcome\":\"pending\"}");
		else if (i == 1)
			say_result(f, m.id, "{\"outcome\":\"acked\"}");
		else
			say_error(f, m.id, RTBP_E_UNKNOWN_ID, "none");
	}
	answer_subscribe(f, c, NULL);
	say_result(f, fake_expect(f, c, RTBP_M_OUTCOME).id, "{\"outcome\":\"acked\"}");
	fake_flush(f, c);
	UNTIL(c, ear->n_results == 3);
	ck_assert_int_eq(ear->n_acked, 2);
	ck_assert_int_eq(ear->n_unknown, 1);
	TRY(r, rtb_outcome(c, "one", on_result, ear));
	ck_assert_int_gt(r, 0);
	say_result(f, fake_expect(f, c, RTBP_M_OUTCOME).id, "{\"outcome\":\"pending\"}");
	fake_flush(f, c);
	UNTIL(c, ear->n_pending == 1);
}

static void a_life_with_sends(struct fake *f)
{
	struct rtb_sub_options so = RTB_SUB_OPTIONS_INIT;
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct rtb_client *c;
	struct ear ear = { 0 };
	struct rtb_sub *sub;
	int r;

	f->features = "\"outcome\",\"replay\"";
	o.socket_path = f->path;
	TRY(r, rtb_client_new(&o, &c));
	ck_assert_int_eq(r, 0);
	so.is_private = so.replay = so.replication_ready = true;
	so.replay_since_ms = 1000;
	so.handlers.broadcast = on_broadcast;
	so.handlers.channel = on_channel;
	so.handlers.replay = on_replay;
	so.handlers.system = on_system;
	so.handlers.gap = on_gap;
	so.user = &ear;
	TRY(r, rtb_subscribe(c, "t", &so, &sub));
	ck_assert_int_eq(r, 0);
	fake_attach(f, c);
	answer_subscribe(f, c,
			 "{\"chan\":5,\"from\":1,\"to\":2,\"cause\":\"moved\","
			 "\"stored\":\"replayed\",\"n\":0}");
	UNTIL(c, ear.n_live == 1);
	send_all(f, c, &ear);
	fake_hang_up(f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	fake_attach(f, c);
	ask_again(f, c, &ear);
	UNTIL(c, ear.n_live == 2);
	ck_assert_int_eq(ear.n_ready, 2);
	ck_assert_int_eq(ear.n_stored, 1); /* known the second time */
	ck_assert_int_eq(ear.n_ended, 2);
	ck_assert_int_eq(ear.n_system, 2);
	ck_assert_int_eq(ear.n_gaps, 1);
	chaos.armed = true;
	rtb_client_free(c);
	chaos.armed = false;
	ck_assert_int_eq(ear.n_results, 4);
	fake_hang_up(f);
}

START_TEST(one_fails)
{
	each_allocation(1, a_life_with_sends);
}
END_TEST

START_TEST(several_in_a_row_fail)
{
	each_allocation(4, a_life_with_sends);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_oom_send");
	TCase *t = tcase_create("oom");

	tcase_set_timeout(t, 280);
	tcase_add_test(t, one_fails);
	tcase_add_test(t, several_in_a_row_fail);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
