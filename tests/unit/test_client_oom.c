/* SPDX-License-Identifier: MIT */
/*
 * librtbridge without memory: a whole life of a client, in which the N-th allocation fails, for all
 * N. Nothing may crash, leak or get lost; only -ENOMEM may be seen, and trying again must work.
 *
 * The linker routes the allocations of library and protocol code through here (--wrap). Those of
 * the played daemon never fail: `armed` is set during calls of the library only.
 */
#include <rtbridge/rtbridge.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);

static struct {
	bool armed;
	long n, fail_from, fail_to; /* allocations counted from 1 */
	long n_failed;
} chaos;

static bool fails(void)
{
	if (!chaos.armed)
		return false;
	chaos.n++;
	if (chaos.n < chaos.fail_from || chaos.n > chaos.fail_to)
		return false;
	chaos.n_failed++;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

static int armed_wait(struct rtb_client *c, int timeout_ms)
{
	int r;

	chaos.armed = true;
	r = rtb_wait(c, timeout_ms);
	chaos.armed = false;
	return r;
}

/* The played daemon turns the client by this. */
#define rtb_wait(c, timeout_ms) armed_wait(c, timeout_ms)
#include "test_client_fake.h"

/* Repeats a call while it says -ENOMEM. */
#define TRY(r, call)                 \
	do {                         \
		chaos.armed = true;  \
		(r) = (call);        \
		chaos.armed = false; \
	} while ((r) == -ENOMEM)

/* What callbacks saw; they run armed, hence without the assertions of Check, which allocate. */
struct ear {
	int n_messages, n_ready, n_results, n_replies, n_syncs, n_changes, n_shown;
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

static void each_allocation(int n_in_a_row)
{
	struct fake f;

	fake_start(&f);
	for (long n = 1;; n++) {
		chaos.n = chaos.n_failed = 0;
		chaos.fail_from = n;
		chaos.fail_to = n + n_in_a_row - 1;
		one_life(&f);
		if (!chaos.n_failed)
			break;
		ck_assert_int_lt(n, 1000);
	}
	/* Did it fail where it should? A life takes at least this many. */
	ck_assert_int_gt(chaos.n, 15);
	fake_stop(&f);
}

START_TEST(one_fails)
{
	each_allocation(1);
}
END_TEST

START_TEST(several_in_a_row_fail)
{
	each_allocation(4);
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
	SRunner *runner = srunner_create(suite);
	TCase *t = tcase_create("oom");
	int failed;

	tcase_set_timeout(t, 280);
	tcase_add_test(t, one_fails);
	tcase_add_test(t, several_in_a_row_fail);
	tcase_add_test(t, payloads);
	suite_add_tcase(suite, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
