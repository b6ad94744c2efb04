/* SPDX-License-Identifier: MIT */
/*
 * librtbridge without memory: a whole life of a client, in which the N-th allocation fails, for all
 * N. Nothing may crash, leak or get lost; only -ENOMEM may be seen, and trying again must work.
 */
#include "test_client_chaos.h"
#include "suite.h"

/* What callbacks saw; they run armed, hence without the assertions of Check, which allocate. */
struct ear {
	int n_messages, n_ready, n_results, n_replies, n_syncs, n_changes, n_shown;
	int n_rows, n_errors, n_flowing, n_gaps, n_taken, n_ended;
	int64_t sum;
	size_t n_present;
	size_t event_size;
};

static void on_broadcast(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	struct ear *ear = user;

	(void)sub;
	ear->n_messages++;
	ear->event_size += strlen(msg->event);
}

static void on_channel(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	struct ear *ear = user;

	(void)sub;
	ear->n_ready += ch->state == RTB_CHANNEL_READY;
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	struct ear *ear = user;

	(void)c;
	(void)id;
	ear->n_results += result->outcome == RTB_ACKED ? 1 : 100;
}

static void on_reply(struct rtb_client *c, int error, const char *error_text, const void *value,
		     size_t size, void *user)
{
	struct ear *ear = user;

	(void)c;
	(void)error_text;
	(void)value;
	(void)size;
	ear->n_replies += error == 0 ? 1 : 100;
}

static void on_presence(struct rtb_sub *sub, const struct rtb_presence *p, void *user)
{
	struct ear *ear = user;

	ear->n_syncs += p->event == RTB_PRESENCE_SYNC;
	ear->n_changes += p->event != RTB_PRESENCE_SYNC;
	ear->n_present = rtb_presence_count(sub);
}

static void on_track(struct rtb_tracker *tracker, const struct rtb_track *track, void *user)
{
	struct ear *ear = user;

	(void)tracker;
	ear->n_shown += track->state == RTB_TRACK_SHOWN;
}

static void on_row(struct rtb_watch *watch, const struct rtb_change *change, void *user)
{
	struct ear *ear = user;
	int64_t id = 0;

	(void)watch;
	ear->n_rows++;
	ear->sum += rtb_change_int(change, RTB_NEW, "id", &id) == 0 ? id : 0;
	for (const char *const *e = change->errors; e && *e; e++)
		ear->n_errors++;
}

static void on_status(struct rtb_watch *watch, const struct rtb_watch_status *status, void *user)
{
	struct ear *ear = user;

	(void)watch;
	ear->n_flowing += status->state == RTB_WATCH_READY;
}

static void on_row_gap(struct rtb_watch *watch, const struct rtb_gap *gap, void *user)
{
	struct ear *ear = user;

	(void)watch;
	(void)gap;
	ear->n_gaps++;
}

static void on_taken(struct rtb_client *c, const char *topic, const struct rtb_token_result *result,
		     void *user)
{
	struct ear *ear = user;

	(void)c;
	(void)topic;
	ear->n_taken += result->error == 0 ? 1 : 100;
}

static void on_ended(struct rtb_client *c, const struct rtb_token_event *event, void *user)
{
	struct ear *ear = user;

	(void)c;
	(void)event;
	ear->n_ended++;
}

/* `ref` names the one who is there. */
static void subscribe_and_answer(struct fake *f, struct rtb_client *c, char ref)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);
	char json[200];

	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{\"self\":true}");
	ck_assert_str_eq(field_json(m.params, RTBP_F_PRESENCE), "{\"key\":\"me\"}");
	(void)snprintf(json, sizeof(json),
		       "{\"chan\":5,\"state\":\"ready\",\"presence\":{\"state\":\"ok\","
		       "\"snapshot\":[{\"key\":\"a\",\"ref\":\"%c\",\"state\":{}}]}}",
		       ref);
	say_result(f, m.id, json);
	fake_flush(f, c);
}

static struct rtb_sub *subscribe(struct rtb_client *c, struct ear *ear, const char *const *events)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct rtb_sub *sub;
	int r;

	o.self = true;
	o.events = events;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	o.handlers.presence = on_presence;
	o.presence = true;
	o.presence_key = "me";
	o.user = ear;
	TRY(r, rtb_subscribe(c, "t", &o, &sub));
	ck_assert_int_eq(r, 0);
	return sub;
}

static void send_and_ask(struct fake *f, struct rtb_client *c, struct ear *ear)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	char json[3000] = "\"";
	int64_t r;

	memset(json + 1, 'x', 2000);
	strcpy(json + 2001, "\"");
	o.result = on_result;
	o.user = ear;
	TRY(r, rtb_broadcast_json(c, "t", "e", json, (size_t)-1, &o));
	ck_assert_int_gt(r, 0);
	say_result(f, fake_expect(f, c, RTBP_M_BROADCAST).id, "{\"outcome\":\"acked\"}");
	TRY(r, rtb_status(c, on_reply, ear));
	ck_assert_int_gt(r, 0);
	say_result(f, fake_expect(f, c, RTBP_M_STATUS).id, "{}");
	fake_flush(f, c);
	UNTIL(c, ear->n_results == 1 && ear->n_replies == 1);
}

static void receive(struct fake *f, struct rtb_client *c, struct ear *ear)
{
	char json[600], name[301] = { 0 };

	/* More than fits where event names go without an allocation. */
	memset(name, 'n', 300);
	(void)snprintf(json, sizeof(json), "{\"chan\":5,\"event\":\"%s\",\"payload\":1}", name);
	say_notice(f, RTBP_N_BROADCAST, json);
	say_broadcast(f, 5, "e", "2");
	fake_flush(f, c);
	UNTIL(c, ear->n_messages == 2);
	ck_assert_uint_eq(ear->event_size, 301);
}

static void be_present(struct fake *f, struct rtb_client *c, struct ear *ear)
{
	say_notice(f, RTBP_N_PRESENCE,
		   "{\"chan\":5,\"leave\":[{\"key\":\"a\",\"ref\":\"1\",\"state\":{}}],"
		   "\"join\":[{\"key\":\"b\",\"ref\":\"1\",\"state\":{}},"
		   "{\"key\":\"c\",\"ref\":\"1\",\"state\":{}}],\"update\":[{\"key\":\"b\","
		   "\"prev\":\"1\",\"ref\":\"2\",\"state\":{\"n\":1}}]}");
	say_notice(f, RTBP_N_PRESENCE,
		   "{\"chan\":5,\"sync\":[{\"key\":\"a\",\"ref\":\"2\",\"state\":{}},"
		   "{\"key\":\"b\",\"ref\":\"2\",\"state\":{}}]}");
	fake_flush(f, c);
	UNTIL(c, ear->n_changes == 4 && ear->n_syncs == 2);
	ck_assert_uint_eq(ear->n_present, 2);
}

static struct rtb_tracker *show(struct fake *f, struct rtb_client *c, struct ear *ear)
{
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;
	struct rtb_tracker *tracker;
	int r;

	o.key = "me";
	o.track = on_track;
	o.user = ear;
	TRY(r, rtb_track_json(c, "t", "{\"n\":1}", 7, &o, &tracker));
	ck_assert_int_eq(r, 0);
	say_result(f, fake_expect(f, c, RTBP_M_TRACK).id, "{\"outcome\":\"acked\"}");
	fake_flush(f, c);
	UNTIL(c, ear->n_shown == 1);
	TRY(r, rtb_track_update_json(tracker, "{\"n\":2}", 7));
	ck_assert_int_eq(r, 0);
	say_result(f, fake_expect(f, c, RTBP_M_TRACK).id, "{\"outcome\":\"acked\"}");
	fake_flush(f, c);
	UNTIL(c, ear->n_shown == 2);
	return tracker;
}

static struct rtb_watch *watch(struct rtb_client *c, struct ear *ear, const char *table)
{
	static const char *const columns[] = { "id", "title", NULL };
	struct rtb_watch_options o = RTB_WATCH_OPTIONS_INIT;
	struct rtb_watch *w;
	int r;

	o.schema = "public";
	o.table = table;
	o.filter = "id=gt.3";
	o.select = columns;
	o.change = on_row;
	o.state = on_status;
	o.gap = on_row_gap;
	o.user = ear;
	TRY(r, rtb_watch(c, &o, &w));
	ck_assert_int_eq(r, 0);
	return w;
}

static void answer_watches(struct fake *f, struct rtb_client *c)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);

	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "absent");
	say_result(f, m.id,
		   "{\"chan\":7,\"state\":\"ready\",\"postgres_changes\":["
		   "{\"id\":1,\"state\":\"ready\"},{\"id\":2,\"state\":\"ready\"}]}");
	fake_flush(f, c);
}

/* More words than fit where they go without an allocation. */
static void say_row(struct fake *f)
{
	char json[1000] = "{\"ids\":[1,2],\"data\":{\"type\":\"INSERT\",\"schema\":\"public\","
			  "\"table\":\"a\",\"record\":{\"id\":1.50e2},\"errors\":[";

	for (int i = 0; i < 50; i++)
		(void)strcat(json, i ? ",\"error\"" : "\"error\"");
	(void)strcat(json, "]}}");
	say_notice(f, RTBP_N_POSTGRES_CHANGES, json);
}

static void a_life_with_changes(struct fake *f)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct ear ear = { 0 }, again = { 0 };
	struct rtb_watch *a;
	struct rtb_client *c;
	int r;

	o.socket_path = f->path;
	TRY(r, rtb_client_new(&o, &c));
	ck_assert_int_eq(r, 0);
	a = watch(c, &ear, "a");
	fake_attach(f, c);
	(void)watch(c, &ear, "b");
	(void)fake_expect(f, c, RTBP_M_SUBSCRIBE);
	fake_hang_up(f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	fake_attach(f, c);
	answer_watches(f, c);
	UNTIL(c, ear.n_flowing == 2);
	(void)watch(c, &again, "b");
	UNTIL(c, again.n_flowing == 1);
	say_row(f);
	say_notice(f, RTBP_N_GAP, "{\"chan\":7,\"from\":1,\"to\":2,\"cause\":\"x\",\"ids\":[2]}");
	fake_flush(f, c);
	UNTIL(c, again.n_gaps == 1);
	ck_assert_int_eq(ear.n_rows, 2);
	ck_assert_int_eq(ear.sum, 300);
	ck_assert_int_eq(ear.n_errors, 100);
	ck_assert_int_eq(ear.n_gaps, 1);
	ck_assert_int_eq(again.n_rows, 1);
	chaos.armed = true;
	a = rtb_unwatch(a);
	chaos.armed = false;
	ck_assert_ptr_null(a);
	(void)fake_expect(f, c, RTBP_M_SUBSCRIBE);
	chaos.armed = true;
	rtb_client_free(c);
	chaos.armed = false;
	fake_hang_up(f);
}

static void set_token(struct rtb_client *c, struct ear *ear, const char *topic, const char *token)
{
	int r;

	TRY(r, rtb_set_token(c, topic, token, on_taken, ear));
	ck_assert_int_eq(r, 0);
}

static void a_life_with_tokens(struct fake *f)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct ear ear = { 0 };
	struct rtb_client *c;
	int r;

	o.socket_path = f->path;
	o.token = "e30.e30.a";
	o.handlers.token = on_ended;
	o.user = &ear;
	TRY(r, rtb_client_new(&o, &c));
	ck_assert_int_eq(r, 0);
	set_token(c, &ear, "t", "e30.e30.b");
	subscribe(c, &ear, NULL);
	for (int i = 0; i < 2; i++) {
		fake_attach(f, c);
		say_result(f, fake_expect(f, c, RTBP_M_AUTH).id, "{\"state\":\"accepted\"}");
		fake_flush(f, c);
		subscribe_and_answer(f, c, '1');
		UNTIL(c, ear.n_ready == i + 1);
		if (i == 0)
			fake_hang_up(f);
	}
	say_channel(f, 5, "rejected", "token_expired", "");
	say_notice(f, RTBP_N_ERROR,
		   "{\"error\":[211,\"bad_token\",\"\",null],\"method\":\"auth\",\"topic\":\"t\"}");
	fake_flush(f, c);
	set_token(c, &ear, "t", NULL);
	say_result(f, fake_expect(f, c, RTBP_M_AUTH).id, "{\"state\":\"cleared\"}");
	fake_flush(f, c);
	subscribe_and_answer(f, c, '1');
	UNTIL(c, ear.n_ready == 3 && ear.n_taken == 2 && ear.n_ended == 0);
	chaos.armed = true;
	rtb_client_free(c);
	chaos.armed = false;
	fake_hang_up(f);
}

static void one_life(struct fake *f)
{
	static const char *const all[] = { "a", "*", NULL };
	struct rtb_options o = RTB_OPTIONS_INIT;
	struct ear ear = { 0 }, second = { 0 };
	struct rtb_client *c;
	struct rtb_tracker *tracker;
	struct rtb_sub *sub;
	int r;

	o.socket_path = f->path;
	o.version = "1";
	TRY(r, rtb_client_new(&o, &c));
	ck_assert_int_eq(r, 0);
	subscribe(c, &ear, NULL);
	fake_attach(f, c);
	subscribe_and_answer(f, c, '1');
	UNTIL(c, ear.n_ready == 1 && ear.n_syncs == 1);
	be_present(f, c, &ear);
	sub = subscribe(c, &second, all);
	UNTIL(c, second.n_ready == 1 && second.n_syncs == 1);
	ck_assert_ptr_null(rtb_unsubscribe(sub));
	receive(f, c, &ear);
	send_and_ask(f, c, &ear);
	tracker = show(f, c, &ear);
	fake_hang_up(f);
	UNTIL(c, rtb_client_state(c) == RTB_ATTACHING);
	fake_attach(f, c);
	subscribe_and_answer(f, c, '3');
	say_result(f, fake_expect(f, c, RTBP_M_TRACK).id, "{\"outcome\":\"acked\"}");
	fake_flush(f, c);
	UNTIL(c, ear.n_ready == 2 && ear.n_syncs == 3 && ear.n_shown == 3);
	chaos.armed = true;
	tracker = rtb_untrack(tracker);
	chaos.armed = false;
	fake_expect(f, c, RTBP_M_UNTRACK);
	ck_assert_int_eq(ear.n_messages, 2);
	ck_assert_int_eq(second.n_messages, 0);
	chaos.armed = true;
	rtb_client_free(c);
	chaos.armed = false;
	fake_hang_up(f);
}

START_TEST(one_fails)
{
	each_allocation(1, one_life);
	each_allocation(1, a_life_with_changes);
	each_allocation(1, a_life_with_tokens);
}
END_TEST

START_TEST(several_in_a_row_fail)
{
	each_allocation(4, one_life);
	each_allocation(4, a_life_with_changes);
	each_allocation(4, a_life_with_tokens);
}
END_TEST

START_TEST(values_of_columns)
{
	static const char json[] = "{\"text\":\"x\",\"json\":[1,{\"a\":1.50}]}";
	struct rtb_change change = { 0 };
	char *text;
	size_t size;
	void *mp;
	int r;

	ck_assert_int_eq(rtb_json_to_msgpack(json, strlen(json), &mp, &size, NULL, 0), 0);
	change.record = mp;
	change.record_size = size;
	for (long n = 1; n < 100; n++) {
		chaos.n = chaos.n_failed = 0;
		chaos.fail_from = chaos.fail_to = n;
		TRY(r, rtb_change_text(&change, RTB_NEW, "text", &text));
		ck_assert_int_eq(r, 0);
		ck_assert_str_eq(text, "x");
		rtb_free(text);
		TRY(r, rtb_change_text(&change, RTB_NEW, "json", &text));
		ck_assert_int_eq(r, 0);
		ck_assert_str_eq(text, "[1,{\"a\":1.50}]");
		rtb_free(text);
		if (!chaos.n_failed)
			break;
	}
	ck_assert_int_eq(chaos.n_failed, 0);
	ck_assert_int_gt(chaos.n, 1);
	rtb_free(mp);
}
END_TEST

START_TEST(payloads)
{
	char error[64], *json;
	size_t size;
	void *mp;
	int r;

	for (long n = 1; n < 100; n++) {
		chaos.n = chaos.n_failed = 0;
		chaos.fail_from = chaos.fail_to = n;
		TRY(r, rtb_json_to_msgpack("[1,\"two\",{\"a\":1.50}]", 20, &mp, &size, error,
					   sizeof(error)));
		ck_assert_int_eq(r, 0);
		TRY(r, rtb_msgpack_to_json(mp, size, &json, NULL, error, sizeof(error)));
		ck_assert_int_eq(r, 0);
		ck_assert_str_eq(json, "[1,\"two\",{\"a\":1.50}]");
		rtb_free(mp);
		rtb_free(json);
		if (!chaos.n_failed)
			return;
	}
	ck_abort_msg("endless");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_oom");
	TCase *t = tcase_create("oom");

	tcase_set_timeout(t, 280);
	tcase_add_test(t, one_fails);
	tcase_add_test(t, several_in_a_row_fail);
	tcase_add_test(t, payloads);
	tcase_add_test(t, values_of_columns);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
