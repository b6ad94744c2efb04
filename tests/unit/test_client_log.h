/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Trackers that write down what they hear. Include in one file of a test program only.
 */
#include "test_client_fake.h"

/* What a tracker's callback heard, as text: "throttled shown:key refused:code:text ". */
struct log {
	char heard[1024];
	struct rtb_tracker *tracker;
	void (*act)(struct log *log); /* on the next call */
	struct log *other;
	struct rtb_client *c;
};

static const char *const names[] = { "pending", "throttled", "shown", "refused" };

static void on_track(struct rtb_tracker *tracker, const struct rtb_track *track, void *user)
{
	struct log *log = user;
	size_t n = strlen(log->heard);

	ck_assert_int_eq(rtb_tracker_state(tracker), track->state);
	ck_assert_int_eq(track->retry_in_ms >= 0,
			 track->state == RTB_TRACK_THROTTLED || strcmp(track->code, "busy") == 0);
	(void)snprintf(log->heard + n, sizeof(log->heard) - n, "%s%s%s%s%s%s%s ",
		       names[track->state], track->key[0] ? "@" : "", track->key,
		       track->code[0] ? ":" : "", track->code, track->text[0] ? ":" : "",
		       track->text);
	if (log->act) {
		void (*act)(struct log *) = log->act;

		log->act = NULL;
		act(log);
	}
}

static void show(struct rtb_client *c, struct log *log, const char *topic, const char *key,
		 const char *json)
{
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;

	log->c = c;
	o.key = key;
	o.track = on_track;
	o.user = log;
	ck_assert_int_eq(rtb_track_json(c, topic, json, (size_t)-1, &o, &log->tracker), 0);
}

FAKE_UNUSED static void change(struct log *log, const char *json)
{
	ck_assert_int_eq(rtb_track_update_json(log->tracker, json, (size_t)-1), 0);
}

FAKE_UNUSED static uint32_t expect_track(struct fake *f, struct rtb_client *c, const char *topic,
					 const char *key, const char *state)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_TRACK);

	ck_assert(field_text(m.params, RTBP_F_TOPIC, topic));
	ck_assert_str_eq(field_json(m.params, RTBP_F_PRIVATE), "false");
	ck_assert_str_eq(field_json(m.params, RTBP_F_KEY), key);
	ck_assert_str_eq(field_json(m.params, RTBP_F_STATE), state);
	return m.id;
}

#define HEARD(log, text) UNTIL((log)->c, strcmp((log)->heard, text) == 0)

FAKE_UNUSED static struct rtb_client *attached(struct fake *f)
{
	struct rtb_client *c;

	fake_start(f);
	c = fake_client(f, NULL);
	fake_attach(f, c);
	return c;
}

/* Attached, and shown as {"n":1} in "t". */
FAKE_UNUSED static struct rtb_client *shown_client(struct fake *f, struct log *log)
{
	struct rtb_client *c = attached(f);

	*log = (struct log){ 0 };
	show(c, log, "t", NULL, "{\"n\":1}");
	say_result(f, expect_track(f, c, "t", "absent", "{\"n\":1}"),
		   "{\"outcome\":\"acked\",\"key\":\"k\"}");
	fake_flush(f, c);
	HEARD(log, "shown@k ");
	log->heard[0] = '\0';
	return c;
}

static void end(struct fake *f, struct rtb_client *c)
{
	rtb_client_free(c);
	fake_stop(f);
}

/* Something that is heard behind everything else. */
FAKE_UNUSED static void marker(struct fake *f, struct rtb_client *c)
{
	ck_assert_int_gt(rtb_sync(c, false, NULL, NULL), 0);
	say_result(f, fake_expect(f, c, RTBP_M_SYNC).id, "{}");
	fake_flush(f, c);
	ck_assert(fake_is_quiet(f, c));
}
