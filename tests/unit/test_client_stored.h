/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Subscriptions to stored messages that write down what they hear. Include in one file of a test
 * program only.
 */
#include "libclient/client.h"
#include "test_client_fake.h"

static const char features[] = "\"replay\",\"system\",\"outcome\"";

/* What one subscription heard, as text: "ready e=1 stored:e=2 ended:replayed:1 ". */
struct ear {
	char heard[2048];
	struct rtb_sub *sub;
	struct rtb_client *c;
	bool leaves; /* at the next replay callback */
};

static const char *const stored_names[] = { "none", "replayed", "truncated" };

static void hear(struct ear *ear, const char *text)
{
	size_t n = strlen(ear->heard);

	(void)snprintf(ear->heard + n, sizeof(ear->heard) - n, "%s ", text);
}

static void on_broadcast(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	struct ear *ear = user;
	char text[300];

	(void)sub;
	(void)snprintf(text, sizeof(text), "%s%s%s%s", msg->replayed ? "stored:" : "", msg->event,
		       *msg->id ? "#" : "", msg->id);
	hear(ear, text);
}

static void on_channel(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	static const char *const names[] = { "joining",   "joined",   "ready",
					     "rejoining", "rejected", "closed" };

	(void)sub;
	hear(user, names[ch->state]);
}

static void on_gap(struct rtb_sub *sub, const struct rtb_gap *gap, void *user)
{
	char text[100];

	(void)sub;
	(void)snprintf(text, sizeof(text), "gap:%s:%s:%u", gap->cause, stored_names[gap->stored],
		       (unsigned)gap->n);
	hear(user, text);
}

static void on_replay(struct rtb_sub *sub, const struct rtb_replay *replay, void *user)
{
	struct ear *ear = user;
	char text[200];

	ck_assert_str_eq(replay->topic, "t");
	(void)snprintf(text, sizeof(text), "ended:%s:%u%s%s", stored_names[replay->stored],
		       (unsigned)replay->n, *replay->text ? ":" : "", replay->text);
	hear(ear, text);
	if (ear->leaves)
		rtb_unsubscribe(sub);
}

static void on_system(struct rtb_sub *sub, const struct rtb_system *notice, void *user)
{
	char text[200];

	(void)sub;
	ck_assert_str_eq(notice->topic, "t");
	ck_assert_uint_eq(notice->chan, 5);
	(void)snprintf(text, sizeof(text), "system:%s:%s:%s", notice->extension, notice->status,
		       notice->text);
	hear(user, text);
}

/* since < 0: no replay */
static struct rtb_sub_options options_of(struct ear *ear, int64_t since, uint32_t limit)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;

	o.is_private = true;
	o.replay = since >= 0;
	o.replay_since_ms = since >= 0 ? since : 0;
	o.replay_limit = limit;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	o.handlers.gap = on_gap;
	o.handlers.replay = on_replay;
	o.handlers.system = on_system;
	o.user = ear;
	return o;
}

FAKE_UNUSED static void listen_to(struct rtb_client *c, struct ear *ear, int64_t since,
				  uint32_t limit)
{
	struct rtb_sub_options o = options_of(ear, since, limit);

	*ear = (struct ear){ .c = c };
	ck_assert_int_eq(rtb_subscribe(c, "t", &o, &ear->sub), 0);
}

FAKE_UNUSED static struct rtb_client *attached(struct fake *f)
{
	struct rtb_client *c;

	fake_start(f);
	f->features = features;
	c = fake_client(f, NULL);
	fake_attach(f, c);
	return c;
}

FAKE_UNUSED static void end(struct fake *f, struct rtb_client *c)
{
	rtb_client_free(c);
	fake_stop(f);
}

FAKE_UNUSED static uint32_t expect_wish(struct fake *f, struct rtb_client *c, const char *broadcast)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);

	ck_assert_str_eq(field_json(m.params, RTBP_F_BROADCAST), broadcast);
	return m.id;
}

FAKE_UNUSED static void say_stored(struct fake *f, const char *event, const char *id)
{
	char json[300];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":5,\"event\":\"%s\",\"payload\":1,\"meta\":{\"id\":\"%s\","
		       "\"replayed\":true}}",
		       event, id);
	say_notice(f, RTBP_N_BROADCAST, json);
}

FAKE_UNUSED static void say_live(struct fake *f, const char *event, const char *id)
{
	char json[300];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":5,\"event\":\"%s\",\"payload\":1,\"meta\":{\"id\":\"%s\"}}",
		       event, id);
	say_notice(f, RTBP_N_BROADCAST, json);
}

FAKE_UNUSED static void say_ended(struct fake *f, const char *stored)
{
	char json[100];

	(void)snprintf(json, sizeof(json), "{\"chan\":5,\"topic\":\"t\",\"stored\":\"%s\",\"n\":9}",
		       stored);
	say_notice(f, RTBP_N_REPLAY, json);
}

#define HEARD(ear, text) UNTIL((ear)->c, strcmp((ear)->heard, text) == 0)

/* Attached, with one subscription whose replay since 1000 has brought "s1", and then "e". */
FAKE_UNUSED static struct rtb_client *replayed_client(struct fake *f, struct ear *ear)
{
	struct rtb_client *c = attached(f);

	listen_to(c, ear, 1000, 0);
	say_subscribed(f, expect_wish(f, c, "{\"replay\":{\"since\":1000,\"limit\":25}}"), 5,
		       "ready");
	say_stored(f, "s", "s1");
	say_ended(f, "replayed");
	say_live(f, "e", "e1");
	fake_flush(f, c);
	HEARD(ear, "ready stored:s#s1 ended:replayed:1 e#e1 ");
	ck_assert(fake_is_quiet(f, c));
	ear->heard[0] = '\0';
	return c;
}
