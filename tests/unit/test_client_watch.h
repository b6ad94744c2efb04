/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Subscriptions that also write down who is there. Include in one file of a test program only.
 *
 *     sync(a/1={} b/2={"n":1})   the walk at that moment
 *     +a/1={}  -a/1  ~a/1>2={}   join, leave, update; with a "&" behind it more follows
 *     gap:CODE:FROM-TO
 */
#include "test_client_ear.h"

static size_t put_entry(char *to, size_t size, const struct rtb_presence_entry *e)
{
	char *json;
	int n;

	ck_assert_int_eq(rtb_msgpack_to_json(e->state, e->state_size, &json, NULL, NULL, 0), 0);
	n = snprintf(to, size, "%s/%s=%s", e->key, e->ref, json);
	rtb_free(json);
	return (size_t)n;
}

/* Who is there, in a buffer that the next call overwrites. */
static const char *who(const struct rtb_sub *sub)
{
	static char text[1024];
	const struct rtb_presence_entry *e = NULL;
	size_t at = 0, n = 0;

	text[0] = '\0';
	while ((e = rtb_presence_next(sub, e))) {
		at += put_entry(text + at, sizeof(text) - at - 1, e);
		text[at++] = ' ';
		text[at] = '\0';
		n++;
	}
	ck_assert_uint_eq(n, rtb_presence_count(sub));
	if (at)
		text[at - 1] = '\0';
	return text;
}

static void on_presence(struct rtb_sub *sub, const struct rtb_presence *p, void *user)
{
	struct ear *ear = user;
	char text[1100];
	size_t at;

	ck_assert_ptr_eq(p->topic, rtb_sub_topic(sub));
	ck_assert_uint_gt(p->chan, 0);
	ck_assert_int_eq(p->event == RTB_PRESENCE_UPDATE, p->previous != NULL);
	if (p->event == RTB_PRESENCE_SYNC) {
		ck_assert_ptr_null(p->entry);
		(void)snprintf(text, sizeof(text), "sync(%s)", who(sub));
	} else if (p->event == RTB_PRESENCE_LEAVE) {
		(void)snprintf(text, sizeof(text), "-%s/%s", p->entry->key, p->entry->ref);
	} else if (p->event == RTB_PRESENCE_JOIN) {
		text[0] = '+';
		(void)put_entry(text + 1, sizeof(text) - 1, p->entry);
	} else {
		at = (size_t)snprintf(text, sizeof(text), "~%s/%s>", p->previous->key,
				      p->previous->ref);
		ck_assert_str_eq(p->previous->key, p->entry->key);
		(void)put_entry(text + at, sizeof(text) - at, p->entry);
		memmove(text + at, strchr(text + at, '/') + 1, strlen(strchr(text + at, '/')));
	}
	if (p->more)
		(void)strcat(text, "&");
	hear(ear, text);
	if (ear->act) {
		void (*act)(struct ear *) = ear->act;

		ear->act = NULL;
		act(ear);
	}
}

static void on_gap(struct rtb_sub *sub, const struct rtb_gap *gap, void *user)
{
	char text[128];

	ck_assert_ptr_eq(gap->topic, rtb_sub_topic(sub));
	(void)snprintf(text, sizeof(text), "gap:%s:%lld-%lld", gap->cause,
		       (long long)gap->from_unix_ms, (long long)gap->to_unix_ms);
	hear(user, text);
}

static void watch(struct rtb_client *c, struct ear *ear, const char *topic, const char *key)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;

	ear->c = c;
	o.presence = true;
	o.presence_key = key;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	o.handlers.presence = on_presence;
	o.handlers.gap = on_gap;
	o.user = ear;
	ck_assert_int_eq(rtb_subscribe(c, topic, &o, &ear->sub), 0);
}

/* The next message subscribes with this `presence`. Return: its id. */
static uint32_t expect_watch(struct fake *f, struct rtb_client *c, const char *presence)
{
	struct rtbp_msg m = fake_expect(f, c, RTBP_M_SUBSCRIBE);

	ck_assert_str_eq(field_json(m.params, RTBP_F_PRESENCE), presence);
	ck_assert(strcmp(presence, "absent") == 0 || field_text(m.params, RTBP_F_WAIT, "joined"));
	return m.id;
}

/* The answer on chan 5. `snapshot`: a JSON array. */
static void say_watched(struct fake *f, uint32_t id, const char *state, const char *presence,
			const char *snapshot)
{
	char json[2048];

	(void)snprintf(json, sizeof(json),
		       "{\"chan\":5,\"topic\":\"t\",\"private\":false,\"state\":\"%s\","
		       "\"presence\":{\"state\":\"%s\",\"snapshot\":%s}}",
		       state, presence, snapshot);
	say_result(f, id, json);
}

/* A notification on chan 5: what stands in its map besides chan and topic. */
FAKE_UNUSED static void say_presence(struct fake *f, const char *rest)
{
	char json[2048];

	(void)snprintf(json, sizeof(json), "{\"chan\":5,\"topic\":\"t\",%s}", rest);
	say_notice(f, RTBP_N_PRESENCE, json);
}

#define ALICE "{\"key\":\"alice\",\"ref\":\"1\",\"state\":{\"n\":1}}"
#define BOB   "{\"key\":\"bob\",\"ref\":\"2\",\"state\":{}}"

/* Attached, watching "t" as chan 5, where alice and bob are. */
FAKE_UNUSED static struct rtb_client *watching_client(struct fake *f, struct ear *ear)
{
	struct rtb_client *c;

	fake_start(f);
	c = fake_client(f, NULL);
	fake_attach(f, c);
	*ear = (struct ear){ 0 };
	watch(c, ear, "t", NULL);
	say_watched(f, expect_watch(f, c, "{}"), "ready", "ok", "[" BOB "," ALICE "]");
	fake_flush(f, c);
	HEARD(ear, "ready sync(alice/1={\"n\":1} bob/2={}) ");
	ear->heard[0] = '\0';
	return c;
}
