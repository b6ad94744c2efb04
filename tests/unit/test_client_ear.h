/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Subscriptions that write down what they hear. Include in one file of a test program only.
 */
#include "test_client_fake.h"

/* What one subscription heard, as text: "joining ready e=1 f=2 ". */
struct ear {
	char heard[2048];
	struct rtb_sub *sub;
	/* What it does on its next broadcast. */
	void (*act)(struct ear *ear);
	struct ear *other;
	struct rtb_client *c;
};

FAKE_UNUSED static void hear(struct ear *ear, const char *text)
{
	size_t n = strlen(ear->heard);

	(void)snprintf(ear->heard + n, sizeof(ear->heard) - n, "%s ", text);
}

static void on_broadcast(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	struct ear *ear = user;
	char text[256], *json;

	ck_assert_ptr_eq(rtb_sub_topic(sub), msg->topic);
	ck_assert_int_eq(rtb_msgpack_to_json(msg->payload, msg->payload_size, &json, NULL, NULL, 0),
			 0);
	(void)snprintf(text, sizeof(text), "%s=%s", msg->event, json);
	rtb_free(json);
	hear(ear, text);
	if (ear->act) {
		void (*act)(struct ear *) = ear->act;

		ear->act = NULL;
		act(ear);
	}
}

static void on_channel(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	static const char *const names[] = { "joining",   "joined",   "ready",
					     "rejoining", "rejected", "closed" };
	struct ear *ear = user;
	char text[256];

	ck_assert_int_eq(rtb_sub_state(sub), ch->state);
	(void)snprintf(text, sizeof(text), "%s%s%s", names[ch->state], ch->code[0] ? ":" : "",
		       ch->code);
	hear(ear, text);
}

static void listen_to(struct rtb_client *c, struct ear *ear, const char *topic, bool self,
		      const char *const *events)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;

	ear->c = c;
	o.self = self;
	o.events = events;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	o.user = ear;
	ck_assert_int_eq(rtb_subscribe(c, topic, &o, &ear->sub), 0);
}

#define HEARD(ear, text) UNTIL((ear)->c, strcmp((ear)->heard, text) == 0)

FAKE_UNUSED static const char *const only_a[] = { "a", NULL }, *const only_b[] = { "b", NULL };
FAKE_UNUSED static const char *const a_b[] = { "a", "b", NULL }, *const star[] = { "a", "*", NULL };

/* Attached, and subscribed with an ear to all events of "t", chan 5. */
FAKE_UNUSED static struct rtb_client *ready_client(struct fake *f, struct ear *ear)
{
	struct rtb_client *c;
	struct rtbp_msg m;

	fake_start(f);
	c = fake_client(f, NULL);
	fake_attach(f, c);
	*ear = (struct ear){ 0 };
	listen_to(c, ear, "t", false, NULL);
	m = fake_expect(f, c, RTBP_M_SUBSCRIBE);
	ck_assert(field_text(m.params, RTBP_F_TOPIC, "t"));
	ck_assert(!field_bool(m.params, RTBP_F_PRIVATE));
	ck_assert(field_bool(m.params, RTBP_F_KEEP));
	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), "{}");
	say_subscribed(f, m.id, 5, "ready");
	fake_flush(f, c);
	HEARD(ear, "ready ");
	return c;
}

FAKE_UNUSED static void end(struct fake *f, struct rtb_client *c)
{
	rtb_client_free(c);
	fake_stop(f);
}
