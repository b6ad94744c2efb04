/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions and the topics that they share (with watches, watch.c).
 *
 * All rtb_sub of one (topic, private) hang on one rtbc_topic, for which the daemon holds one
 * subscription with the union of their wishes (subs_wire.c). Each rtb_sub filters for itself, and
 * counts as ready only when the daemon has answered a request that covers its wishes.
 */
#include "libclient/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- topics ---- */

static size_t name_bucket(struct rtbp_str name, bool is_private)
{
	uint32_t h = 2166136261u + (is_private ? 1 : 0);

	for (size_t i = 0; i < name.size; i++)
		h = (h ^ (unsigned char)name.p[i]) * 16777619u;
	return h % RTBC_BUCKETS;
}

static struct rtbc_topic *topic_find(struct rtb_client *c, struct rtbp_str name, bool is_private)
{
	struct rtbc_topic *t = c->by_name[name_bucket(name, is_private)];

	while (t && (t->is_private != is_private || t->name_size != name.size ||
		     memcmp(t->name, name.p, name.size) != 0))
		t = t->name_next;
	return t;
}

static struct rtbc_topic *topic_new(struct rtb_client *c, struct rtbp_str name, bool is_private)
{
	struct rtbc_topic *t = calloc(1, sizeof(*t) + name.size + 1), **head;

	if (!t)
		return NULL;
	t->client = c;
	t->is_private = is_private;
	t->retry_at = t->retry_in_ms = -1;
	t->state = RTB_CHANNEL_JOINING;
	RB_INIT(&t->presence.entries);
	TAILQ_INIT(&t->subs);
	TAILQ_INIT(&t->bindings);
	TAILQ_INIT(&t->pending);
	t->name_size = name.size;
	memcpy(t->name, name.p, name.size);
	head = &c->by_name[name_bucket(name, is_private)];
	t->name_next = *head;
	*head = t;
	TAILQ_INSERT_TAIL(&c->topics, t, link);
	return t;
}

struct rtbc_topic *rtbc_topic_get(struct rtb_client *c, struct rtbp_str name, bool is_private)
{
	struct rtbc_topic *t = topic_find(c, name, is_private);

	return t ? t : topic_new(c, name, is_private);
}

void rtbc_topic_set_chan(struct rtbc_topic *t, uint64_t chan)
{
	struct rtbc_topic **at;

	if (t->chan == chan)
		return;
	if (t->chan) {
		at = &t->client->by_chan[t->chan % RTBC_BUCKETS];
		while (*at != t)
			at = &(*at)->chan_next;
		*at = t->chan_next;
	}
	t->chan = chan;
	if (chan) {
		at = &t->client->by_chan[chan % RTBC_BUCKETS];
		t->chan_next = *at;
		*at = t;
	}
}

struct rtbc_topic *rtbc_topic_by_chan(struct rtb_client *c, uint64_t chan)
{
	struct rtbc_topic *t = c->by_chan[chan % RTBC_BUCKETS];

	while (t && t->chan != chan)
		t = t->chan_next;
	return t;
}

static void topic_free(struct rtbc_topic *t)
{
	struct rtb_client *c = t->client;
	struct rtbc_topic **at;
	struct rtb_sub *sub;

	while ((sub = TAILQ_FIRST(&t->subs))) {
		TAILQ_REMOVE(&t->subs, sub, link);
		free(sub);
	}
	rtbc_watches_free(t);
	rtbc_topic_set_chan(t, 0);
	at = &c->by_name[name_bucket((struct rtbp_str){ t->name, t->name_size }, t->is_private)];
	while (*at != t)
		at = &(*at)->name_next;
	*at = t->name_next;
	if (t->is_dirty)
		TAILQ_REMOVE(&c->dirty, t, dirty_link);
	TAILQ_REMOVE(&c->topics, t, link);
	rtbc_presence_free(t);
	free(t->sent);
	free(t);
}

void rtbc_topic_touch(struct rtbc_topic *t)
{
	if (t->is_dirty)
		return;
	t->is_dirty = true;
	TAILQ_INSERT_TAIL(&t->client->dirty, t, dirty_link);
}

static bool is_over(const struct rtbc_topic *t)
{
	return t->n_live == 0 && t->n_pending == 0 && !t->is_asked && !t->is_dirty;
}

void rtbc_subs_reap(struct rtb_client *c)
{
	struct rtbc_topic *t, *next_topic;
	struct rtb_sub *sub, *next;

	for (t = TAILQ_FIRST(&c->topics); t; t = next_topic) {
		next_topic = TAILQ_NEXT(t, link);
		for (sub = TAILQ_FIRST(&t->subs); sub; sub = next) {
			next = TAILQ_NEXT(sub, link);
			if (sub->is_dead) {
				TAILQ_REMOVE(&t->subs, sub, link);
				free(sub);
			}
		}
		rtbc_presence_reap(t);
		rtbc_watches_reap(t);
		if (is_over(t))
			topic_free(t);
	}
}

void rtbc_topic_left(struct rtbc_topic *t)
{
	struct rtb_client *c = t->client;

	rtbc_presence_reap(t);
	rtbc_watches_reap(t);
	if (t->n_live == 0 && c->phase != RTBC_ATTACHED && t->is_dirty) {
		t->is_dirty = false; /* no daemon to tell */
		TAILQ_REMOVE(&c->dirty, t, dirty_link);
	}
	if (is_over(t))
		topic_free(t);
}

void rtbc_subs_free(struct rtb_client *c)
{
	struct rtbc_topic *t;

	while ((t = TAILQ_FIRST(&c->topics)))
		topic_free(t);
}

/* ---- subscriptions ---- */

/* Sums up the event list; `ret_all` when it filters nothing. Return: 0 or RTB_E_EVENT. */
static int read_events(const char *const *events, bool *ret_all, size_t *ret_size)
{
	size_t size = 0;
	bool all = !events;

	for (; events && *events; events++) {
		if (strcmp(*events, "*") == 0)
			all = true;
		else if (!rtbp_event_ok((struct rtbp_str){ *events, strlen(*events) }))
			return RTB_E_EVENT;
		size += strlen(*events) + 1;
	}
	*ret_all = all;
	*ret_size = all ? 0 : size;
	return 0;
}

static struct rtb_sub *sub_new(const struct rtb_sub_options *o, bool all, size_t events_size)
{
	size_t key_size = o->presence_key ? strlen(o->presence_key) + 1 : 0;
	size_t texts = (events_size + 1 + key_size + 7) & ~(size_t)7;
	size_t replay = (sizeof(struct rtb_sub) + 7) & ~(size_t)7;
	struct rtb_sub *sub = calloc(1, replay + texts + (o->replay ? sizeof(*sub->replay) : 0));
	char *at;

	if (!sub)
		return NULL;
	if (o->replay) {
		sub->replay = (struct rtbc_replay *)((char *)sub + replay + texts);
		sub->replay->since = o->replay_since_ms;
		sub->replay->limit = o->replay_limit ? o->replay_limit : RTBC_REPLAY_MAX;
	}
	sub->replication_ready = o->replication_ready;
	sub->handlers = o->handlers;
	sub->user = o->user;
	sub->self = o->self;
	sub->all = all;
	sub->presence = o->presence;
	sub->reported = RTB_CHANNEL_JOINING;
	at = sub->events;
	for (const char *const *e = all ? NULL : o->events; e && *e; e++)
		at = stpcpy(at, *e) + 1;
	if (o->presence_key)
		sub->presence_key = strcpy(at + 1, o->presence_key);
	return sub;
}

int rtb_subscribe(struct rtb_client *c, const char *topic, const struct rtb_sub_options *options,
		  struct rtb_sub **ret)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct rtbp_str name = { topic, strlen(topic) };
	struct rtbc_topic *t;
	struct rtb_sub *sub;
	size_t events_size;
	bool all;

	if (options && options->size < offsetof(struct rtb_sub_options, replay))
		return -EINVAL;
	if (options)
		memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
	if (o.replay &&
	    (!o.is_private || o.replay_limit > RTBC_REPLAY_MAX || o.replay_since_ms < 0))
		return rtbc_fail(c, -EINVAL,
				 "a replay is of a private channel, of at most %d messages",
				 RTBC_REPLAY_MAX);
	if (c->phase == RTBC_FAILED)
		return RTB_E_FAILED;
	if (!rtbp_topic_ok(name))
		return rtbc_fail(c, RTB_E_TOPIC, "%s", rtb_strerror(RTB_E_TOPIC));
	if (read_events(o.events, &all, &events_size) < 0)
		return rtbc_fail(c, RTB_E_EVENT, "%s", rtb_strerror(RTB_E_EVENT));
	if (o.presence_key &&
	    !rtbp_key_ok((struct rtbp_str){ o.presence_key, strlen(o.presence_key) }))
		return rtbc_fail(c, RTB_E_KEY, "%s", rtb_strerror(RTB_E_KEY));
	sub = sub_new(&o, all, events_size);
	t = sub ? rtbc_topic_get(c, name, o.is_private) : NULL;
	if (!t) {
		free(sub);
		return rtbc_fail(c, -ENOMEM, "out of memory");
	}
	sub->topic = t;
	t->refusal.serial = 0;       /* asked again */
	sub->serial = t->serial + 1; /* until the flush finds that the last request covers it */
	TAILQ_INSERT_TAIL(&t->subs, sub, link);
	t->n_live++;
	rtbc_topic_touch(t);
	rtbc_flush_now(c);
	sub->reported_changes = t->n_changes; /* what was before is no news to it */
	*ret = sub;
	return 0;
}

struct rtb_sub *rtb_unsubscribe(struct rtb_sub *sub)
{
	struct rtbc_topic *t;
	struct rtb_client *c;

	if (!sub || sub->is_dead)
		return NULL;
	t = sub->topic;
	c = t->client;
	sub->is_dead = true;
	t->n_live--;
	if (c->waited == sub)
		c->waited = NULL;
	rtbc_topic_touch(t);
	if (c->in_process || c->in_callback) {
		/* The daemon is told at the end of process(): who subscribes again to the same
		 * before that keeps what there is. */
		c->is_reap_due = true;
		return NULL;
	}
	rtbc_flush_now(c);
	TAILQ_REMOVE(&t->subs, sub, link);
	free(sub);
	rtbc_topic_left(t);
	return NULL;
}

const char *rtb_sub_topic(const struct rtb_sub *sub)
{
	return sub->topic->name;
}

enum rtb_channel_state rtb_sub_state(const struct rtb_sub *sub)
{
	return rtbc_sub_state(sub);
}

struct rtb_client *rtb_sub_client(const struct rtb_sub *sub)
{
	return sub->topic->client;
}

/* ---- callbacks ---- */

const struct rtbc_refusal *rtbc_sub_refusal(const struct rtb_sub *sub)
{
	const struct rtbc_topic *t = sub->topic;

	if (sub->is_dead || t->state == RTB_CHANNEL_REJECTED || t->state == RTB_CHANNEL_CLOSED)
		return NULL;
	if (sub->serial <= t->acked || sub->serial <= t->refusal.held)
		return NULL;
	return sub->serial <= t->refusal.serial ? &t->refusal : NULL;
}

enum rtb_channel_state rtbc_sub_state(const struct rtb_sub *sub)
{
	const struct rtbc_refusal *refusal = rtbc_sub_refusal(sub);
	const struct rtbc_topic *t = sub->topic;

	if (sub->is_dead)
		return RTB_CHANNEL_CLOSED;
	if (t->state == RTB_CHANNEL_REJECTED || t->state == RTB_CHANNEL_CLOSED)
		return t->state;
	if (refusal && refusal->is_final)
		return RTB_CHANNEL_REJECTED;
	return t->acked >= sub->serial ? t->state : RTB_CHANNEL_JOINING;
}

void rtbc_topic_set(struct rtbc_topic *t, enum rtb_channel_state state, const char *code,
		    const char *text, int64_t retry_in_ms)
{
	if (t->state != state || strcmp(t->code, code) != 0 || strcmp(t->text, text) != 0)
		t->n_changes++;
	t->state = state;
	t->retry_in_ms = retry_in_ms;
	rtbc_copy(t->code, sizeof(t->code), (struct rtbp_str){ code, strlen(code) });
	rtbc_copy(t->text, sizeof(t->text), (struct rtbp_str){ text, strlen(text) });
	t->client->is_report_due = true;
}

void rtbc_sub_report(struct rtb_sub *sub)
{
	struct rtbc_topic *t = sub->topic;
	enum rtb_channel_state state = rtbc_sub_state(sub);
	struct rtb_channel channel = { state, t->chan, t->name, "", "", -1 };
	const struct rtbc_refusal *refusal = rtbc_sub_refusal(sub);
	enum rtb_presence_status presence = rtbc_sub_presence(sub);
	bool is_news = state != sub->reported;

	/* A new reason in the same state is news, too, for those whom that state concerns. */
	if (refusal) {
		is_news = is_news || sub->reported_refusal != refusal->n;
		sub->reported_refusal = refusal->n;
		channel.code = refusal->code;
		channel.text = refusal->text;
		channel.retry_in_ms = refusal->retry_in_ms;
	} else if (state == t->state) {
		is_news = is_news || sub->reported_changes != t->n_changes;
		channel.code = t->code;
		channel.text = t->text;
		channel.retry_in_ms = t->retry_in_ms;
	}
	/* That it is known is told by SYNC, that it will not be here. */
	if (presence == RTB_PRESENCE_DENIED || presence == RTB_PRESENCE_OVERFLOW)
		is_news = is_news || presence != sub->reported_presence;
	sub->reported = state;
	sub->reported_changes = t->n_changes;
	sub->reported_presence = presence;
	if (is_news && sub->handlers.channel) {
		rtbc_enter(t->client);
		sub->handlers.channel(sub, &channel, sub->user);
		rtbc_leave(t->client);
	}
	rtbc_presence_tell_sync(sub);
}

/* Those that callbacks add meanwhile stand behind `last`, and nobody is unlinked. */
void rtbc_topic_report(struct rtbc_topic *t)
{
	struct rtb_sub *sub, *last = TAILQ_LAST(&t->subs, rtbc_sub_list);

	TAILQ_FOREACH(sub, &t->subs, link) {
		if (!sub->is_dead)
			rtbc_sub_report(sub);
		if (sub == last)
			break;
	}
	rtbc_watches_report(t);
}

void rtbc_subs_report(struct rtb_client *c)
{
	struct rtbc_topic *t, *last = TAILQ_LAST(&c->topics, rtbc_topic_list);

	if (!c->is_report_due || !last)
		return;
	c->is_report_due = false;
	TAILQ_FOREACH(t, &c->topics, link) {
		rtbc_topic_report(t);
		if (t == last)
			break;
	}
	/* What became due meanwhile is told by the next call. */
	if (c->is_report_due)
		rtbc_kick(c, 0);
}

static bool wants_event(const struct rtb_sub *sub, const char *event, size_t size)
{
	const char *e = sub->events;
	size_t n;

	if (sub->all)
		return true;
	for (; *e; e += n + 1) {
		n = strlen(e);
		if (n == size && memcmp(e, event, n) == 0)
			return true;
	}
	return false;
}

void rtbc_topic_deliver(struct rtbc_topic *t, const struct rtb_broadcast *msg, size_t event_size)
{
	struct rtb_sub *sub, *last = TAILQ_LAST(&t->subs, rtbc_sub_list);

	TAILQ_FOREACH(sub, &t->subs, link) {
		/* It hears that it is there before it hears anything else. */
		if (!sub->is_dead && t->acked >= sub->serial)
			rtbc_sub_report(sub);
		if (!sub->is_dead && t->acked >= sub->serial && sub->handlers.broadcast &&
		    wants_event(sub, msg->event, event_size) && rtbc_replay_takes(sub, msg)) {
			rtbc_enter(t->client);
			sub->handlers.broadcast(sub, msg, sub->user);
			rtbc_leave(t->client);
		}
		if (sub == last)
			break;
	}
}

void rtbc_sub_tell_gap(struct rtb_sub *sub, const struct rtb_gap *gap)
{
	struct rtb_client *c = sub->topic->client;

	if (sub->is_dead || !sub->handlers.gap)
		return;
	rtbc_enter(c);
	sub->handlers.gap(sub, gap, sub->user);
	rtbc_leave(c);
}

void rtbc_topic_tell_gap(struct rtbc_topic *t, const struct rtb_gap *gap)
{
	struct rtb_sub *sub, *last = TAILQ_LAST(&t->subs, rtbc_sub_list);

	TAILQ_FOREACH(sub, &t->subs, link) {
		if (!sub->is_dead && t->acked >= sub->serial)
			rtbc_sub_report(sub);
		if (t->acked >= sub->serial)
			rtbc_sub_tell_gap(sub, gap);
		if (sub == last)
			break;
	}
}
