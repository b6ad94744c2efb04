/* SPDX-License-Identifier: MIT */
/*
 * What the daemon is told about topics, and what it answers.
 *
 * A topic is "dirty" when the daemon's picture of it may differ from the wishes of its
 * subscriptions. rtbc_subs_flush() compares, and sends `subscribe` or `unsubscribe` only where it
 * does differ. Nothing is lost when the queue is full or memory short: the topic stays dirty.
 *
 * Each `subscribe` of a topic has a serial. Its answer acknowledges all wishes up to it; answers
 * from before an `unsubscribe` are stale and ignored.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"

enum { RETRY_LEAST_MS = 1000 };

/* ---- asking ---- */

static bool is_repeated(struct rtb_sub *end, const char *end_event, const char *event)
{
	struct rtb_sub *sub;

	TAILQ_FOREACH(sub, &end->topic->subs, link) {
		for (const char *e = sub->is_dead ? "" : sub->events; *e; e += strlen(e) + 1) {
			if (sub == end && e == end_event)
				return false;
			if (strcmp(e, event) == 0)
				return true;
		}
	}
	return false;
}

/* The union of the wishes for presence. Return: whether there is one. */
static bool wants_presence(const struct rtbc_topic *t, const char **ret_key)
{
	const struct rtb_sub *sub;
	bool wants = false;

	*ret_key = NULL;
	TAILQ_FOREACH(sub, &t->subs, link) {
		if (sub->is_dead || !sub->presence)
			continue;
		wants = true;
		if (!*ret_key)
			*ret_key = sub->presence_key;
	}
	return wants;
}

/* The `presence` part: all events, because the state is kept from them. Return: whether there is
 * one. */
static bool pack_presence(const struct rtbc_topic *t, struct rtbp_buf *b)
{
	const char *key;

	if (!wants_presence(t, &key))
		return false;
	rtbp_pack_field(b, RTBP_F_PRESENCE);
	rtbp_pack_map(b, key ? 1 : 0);
	if (key)
		rtbp_pack_field_text(b, RTBP_F_KEY, key);
	return true;
}

/* The `broadcast` part of a subscribe: the union of the wishes. Return: whether there is one;
 * always explicitly, because beside database changes its absence means no events. */
static bool pack_broadcast(struct rtbc_topic *t, struct rtbp_buf *b, bool replay)
{
	bool any = false, all = false, self = false, ready = false;
	struct rtb_sub *sub;
	uint32_t n = 0;

	TAILQ_FOREACH(sub, &t->subs, link) {
		any = any || !sub->is_dead;
		all = all || (!sub->is_dead && sub->all);
		self = self || (!sub->is_dead && sub->self);
		ready = ready || (!sub->is_dead && sub->replication_ready);
	}
	if (!any)
		return false;
	rtbp_pack_field(b, RTBP_F_BROADCAST);
	rtbp_pack_map(b, (all ? 0 : 1) + (self ? 1 : 0) + (ready ? 1 : 0) + (replay ? 1 : 0));
	if (self)
		rtbp_pack_field_bool(b, RTBP_F_SELF, true);
	if (ready)
		rtbp_pack_field_bool(b, RTBP_F_REPLICATION_READY, true);
	if (replay)
		rtbc_replay_pack(t, b);
	if (all)
		return true;
	rtbp_pack_field(b, RTBP_F_EVENTS);
	/* First count, then write. */
	for (int pass = 0; pass < 2; pass++) {
		TAILQ_FOREACH(sub, &t->subs, link) {
			const char *e = sub->is_dead ? "" : sub->events;

			for (; *e; e += strlen(e) + 1) {
				if (is_repeated(sub, e, e))
					continue;
				if (pass == 0)
					n++;
				else
					rtbp_pack_text(b, e);
			}
		}
		if (pass == 0)
			rtbp_pack_array(b, n);
	}
	return true;
}

/* What is asked for in one request. */
struct wishes {
	struct rtbp_buf bytes; /* pairs of the request's map */
	uint32_t n;
	bool presence;
};

static void pack_wishes(struct rtbc_topic *t, struct wishes *w, bool replay)
{
	bool changes;

	*w = (struct wishes){ .bytes = RTBP_BUF_INIT };
	w->n += pack_broadcast(t, &w->bytes, replay);
	w->presence = pack_presence(t, &w->bytes);
	changes = rtbc_watches_pack(t, &w->bytes);
	w->n += w->presence;
	w->n += changes;
	if (!w->presence && !changes)
		return;
	/* The answer is wanted as soon as broadcasts flow, and the ids of bindings are known. That
	 * the presence is there, or a slow database has made changes flow, is told behind it. */
	rtbp_pack_field_text(&w->bytes, RTBP_F_WAIT, "joined");
	w->n++;
}

void rtbc_topic_ask_anew(struct rtbc_topic *t)
{
	free(t->sent);
	t->sent = NULL;
	t->sent_size = 0;
}

void rtbc_topic_forget(struct rtbc_topic *t)
{
	t->is_asked = false;
	t->presence.is_asked = false;
	t->acked = 0;
	t->retry_at = -1;
	t->refusal.serial = 0;
	rtbc_replay_reset(t);
	rtbc_topic_set_chan(t, 0);
	rtbc_watches_forget(t);
	rtbc_topic_ask_anew(t);
}

/* The first request that the daemon has not answered; NULL: none. */
static const struct rtbc_pending *first_unanswered(const struct rtbc_topic *t)
{
	const struct rtbc_pending *p;

	TAILQ_FOREACH(p, &t->pending, topic_link)
		if (t->is_asked && p->serial >= t->first_serial && p->serial > t->acked)
			break;
	return p;
}

bool rtbc_topic_restart(struct rtbc_topic *t, const char *code, const char *text)
{
	const struct rtbc_pending *p = first_unanswered(t);

	if (!p)
		return false;
	t->first_serial = p->serial;
	t->acked = 0;
	t->refusal.serial = 0;
	rtbc_replay_restart(t);
	rtbc_topic_set_chan(t, 0);
	rtbc_watches_restart(t, code, text);
	return true;
}

/* The daemon was told. What was known without hole until here has one from here on. */
static void note_withdrawn(struct rtbc_topic *t, bool presence)
{
	if (t->presence.is_asked && !presence)
		t->presence.is_withdrawn = t->client->is_reap_due = true;
	t->presence.is_asked = presence;
}

static int send_unsubscribe(struct rtbc_topic *t)
{
	struct rtb_client *c = t->client;
	struct rtbc_pending *p;
	size_t begin;
	int64_t id;
	int r;

	p = rtbc_request_begin(c, RTBP_M_UNSUBSCRIBE, RTBC_IGNORE, &begin, &r);
	if (!p)
		return r;
	rtbp_pack_map(&c->out, 2);
	rtbp_pack_field_text(&c->out, RTBP_F_TOPIC, t->name);
	rtbp_pack_field_bool(&c->out, RTBP_F_PRIVATE, t->is_private);
	id = rtbc_request_end(c, p, begin);
	if (id < 0)
		return (int)id;
	note_withdrawn(t, false);
	rtbc_topic_forget(t);
	return 0;
}

/* With `keep`, so that the daemon holds on to the wish however long the upstream is down. */
static int send_subscribe(struct rtbc_topic *t, const struct wishes *w)
{
	struct rtb_client *c = t->client;
	struct rtbc_pending *p;
	size_t begin;
	int64_t id;
	int r;

	p = rtbc_request_begin(c, RTBP_M_SUBSCRIBE, RTBC_SUBSCRIBE, &begin, &r);
	if (!p)
		return r;
	p->topic = t;
	p->serial = t->serial + 1;
	rtbp_pack_map(&c->out, (t->name_size ? 3 : 2) + w->n);
	if (t->name_size)
		rtbp_pack_field_text(&c->out, RTBP_F_TOPIC, t->name);
	rtbp_pack_field_bool(&c->out, RTBP_F_PRIVATE, t->is_private);
	rtbp_buf_put(&c->out, w->bytes.data, w->bytes.size);
	rtbp_pack_field_bool(&c->out, RTBP_F_KEEP, true);
	id = rtbc_request_end(c, p, begin);
	return id < 0 ? (int)id : 0;
}

/* The wishes as they are compared with the next ones, or with the replay that is due. */
static int send_wishes(struct rtbc_topic *t, const struct wishes *w)
{
	struct wishes with;
	int r;

	if (!rtbc_replay_is_due(t))
		return send_subscribe(t, w);
	pack_wishes(t, &with, true);
	r = with.bytes.error;
	if (r == 0)
		r = send_subscribe(t, &with);
	rtbp_buf_done(&with.bytes);
	return r;
}

static void cover_all(struct rtbc_topic *t)
{
	struct rtb_sub *sub;

	TAILQ_FOREACH(sub, &t->subs, link) {
		if (sub->serial <= t->serial)
			continue;
		sub->serial = t->serial;
		t->client->is_report_due = true;
		rtbc_kick(t->client, 0);
	}
}

static void note_sent(struct rtbc_topic *t, struct wishes *w)
{
	note_withdrawn(t, w->presence);
	t->serial++;
	if (!t->is_asked)
		t->first_serial = t->serial;
	t->is_asked = true;
	if (rtbc_replay_is_due(t))
		rtbc_replay_asked(t);
	t->token_serial = rtbc_token_serial(t->client, t->name);
	t->retry_at = -1;
	t->refusal.serial = 0;
	free(t->sent);
	t->sent = rtbp_buf_take(&w->bytes, &t->sent_size);
	rtbc_watches_asked(t, t->serial);
}

/* The last request that the daemon keeps to, or will answer; 0: none. */
static uint64_t held_serial(const struct rtbc_topic *t)
{
	const struct rtbc_pending *newest = TAILQ_LAST(&t->pending, rtbc_pending_list);

	/* Older ones than the first are from before an unsubscribe. */
	if (newest && newest->serial >= t->first_serial && newest->serial > t->acked)
		return newest->serial;
	return t->acked;
}

static void set_refusal(struct rtbc_topic *t, uint64_t serial, const struct rtbc_refusal *r)
{
	struct rtbc_refusal *to = &t->refusal;
	uint64_t n = to->n;

	if (n == 0 || to->is_final != r->is_final || strcmp(to->code, r->code) != 0 ||
	    strcmp(to->text, r->text) != 0)
		n++;
	*to = *r;
	to->held = held_serial(t);
	to->serial = serial;
	to->n = n;
	t->client->is_report_due = true;
}

/* The request cannot be sent: it is too big (some 16 000 event names, or long filters), or its
 * token is bad. No later try will help, and what the daemon has it keeps. */
static void refuse_unsent(struct rtbc_topic *t, const char *code, const char *text)
{
	struct rtbc_refusal refusal = { .is_final = true, .retry_in_ms = -1 };

	rtbc_copy(refusal.code, sizeof(refusal.code), (struct rtbp_str){ code, strlen(code) });
	rtbc_copy(refusal.text, sizeof(refusal.text), (struct rtbp_str){ text, strlen(text) });
	if (t->is_asked)
		set_refusal(t, t->serial + 1, &refusal);
	else
		rtbc_topic_set(t, RTB_CHANNEL_REJECTED, refusal.code, text, -1);
	rtbc_watches_unsent(t, code, text);
	rtbc_kick(t->client, 0);
}

static bool is_over(enum rtb_channel_state state)
{
	return state == RTB_CHANNEL_REJECTED || state == RTB_CHANNEL_CLOSED;
}

static bool is_same(const struct rtbc_topic *t, const struct wishes *w)
{
	return t->is_asked && w->bytes.size == t->sent_size &&
	       memcmp(w->bytes.data, t->sent, t->sent_size) == 0;
}

static int flush_subscribe(struct rtbc_topic *t)
{
	const char *text;
	bool was_over = is_over(t->state);
	enum rtbc_gate gate;
	struct wishes w;
	int r;

	pack_wishes(t, &w, false);
	r = w.bytes.error;
	if (r == 0 && w.n == 0) { /* nothing but what the daemon would refuse */
		r = t->is_asked ? send_unsubscribe(t) : 0;
	} else if (r == 0 && is_same(t, &w) && !was_over && !rtbc_replay_is_due(t)) {
		cover_all(t);
	} else if (r == 0 &&
		   (gate = rtbc_token_gate(t->client, t->name, &text)) != RTBC_GATE_OPEN) {
		if (gate == RTBC_GATE_WAIT)
			t->is_held = true;
		else
			refuse_unsent(t, rtbp_error_name(RTBP_E_BAD_TOKEN), text);
	} else if (r == 0) {
		r = send_wishes(t, &w);
		if (r == 0)
			note_sent(t, &w);
		if (r == 0)
			t->was_over = was_over;
		if (r == 0 && was_over)
			rtbc_topic_set(t, RTB_CHANNEL_JOINING, "", "", -1);
	}
	rtbp_buf_done(&w.bytes);
	return r;
}

int rtbc_subs_flush(struct rtb_client *c)
{
	struct rtbc_topic *t;
	int r;

	while ((t = TAILQ_FIRST(&c->dirty))) {
		r = 0;
		if (t->n_live > 0)
			r = flush_subscribe(t);
		else if (t->is_asked)
			r = send_unsubscribe(t);
		if (r == RTB_E_TOO_BIG)
			refuse_unsent(t, "too_big", c->error_text);
		else if (r < 0)
			return r;
		TAILQ_REMOVE(&c->dirty, t, dirty_link);
		t->is_dirty = false;
		c->is_reap_due = c->is_reap_due || t->n_live == 0;
	}
	return 0;
}

void rtbc_subs_tick(struct rtb_client *c, int64_t now_ms)
{
	struct rtbc_topic *t;
	int64_t next = -1;

	TAILQ_FOREACH(t, &c->topics, link) {
		if (rtbc_is_due(&t->retry_at, now_ms, &next))
			rtbc_topic_touch(t);
	}
	if (next >= 0)
		rtbc_kick(c, next - now_ms);
}

/* ---- attachment ---- */

void rtbc_subs_on_attach(struct rtb_client *c)
{
	struct rtbc_topic *t;

	TAILQ_FOREACH(t, &c->topics, link)
		rtbc_topic_touch(t);
}

void rtbc_subs_on_detach(struct rtb_client *c)
{
	struct rtbc_topic *t;

	while ((t = TAILQ_FIRST(&c->dirty))) {
		TAILQ_REMOVE(&c->dirty, t, dirty_link);
		t->is_dirty = false;
	}
	TAILQ_FOREACH(t, &c->topics, link) {
		rtbc_topic_forget(t);
		t->is_held = false;
		rtbc_topic_set(t, RTB_CHANNEL_JOINING, "detached", c->error_text, -1);
		rtbc_watches_on_detach(t);
	}
	c->is_reap_due = true;
}

/* ---- answers ---- */

static const struct {
	const char *name;
	enum rtb_channel_state state;
} states[] = {
	{ "joining", RTB_CHANNEL_JOINING },   { "joined", RTB_CHANNEL_JOINED },
	{ "ready", RTB_CHANNEL_READY },       { "rejoining", RTB_CHANNEL_REJOINING },
	{ "rejected", RTB_CHANNEL_REJECTED }, { "closed", RTB_CHANNEL_CLOSED },
};

static bool get_state(struct rtbp_val map, enum rtb_channel_state *ret)
{
	struct rtbp_str name;

	if (!rtbp_get_str(rtbp_field(map, RTBP_F_STATE), &name))
		return false;
	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		if (rtbp_str_is(name, states[i].name)) {
			*ret = states[i].state;
			return true;
		}
	}
	return false;
}

/* For subscriptions all is there when nothing but changes is to come. */
static enum rtb_channel_state state_beside_watches(const struct rtbc_topic *t,
						   enum rtb_channel_state state)
{
	bool is_known = !t->presence.is_asked || t->presence.status != RTB_PRESENCE_NONE;

	return state == RTB_CHANNEL_JOINED && is_known && rtbc_watches_are_pending(t)
		       ? RTB_CHANNEL_READY
		       : state;
}

static bool is_there(enum rtb_channel_state state)
{
	return state == RTB_CHANNEL_JOINED || state == RTB_CHANNEL_READY;
}

static bool is_stale(const struct rtbc_topic *t, uint64_t serial)
{
	return !t->is_asked || serial < t->first_serial;
}

int rtbc_on_subscribed(struct rtbc_topic *t, uint64_t serial, struct rtbp_val result)
{
	struct rtbp_val changes = rtbp_field(result, RTBP_F_POSTGRES_CHANGES);
	enum rtb_channel_state state = RTB_CHANNEL_JOINING;
	uint64_t chan = 0;
	int r;

	if (is_stale(t, serial))
		return 0;
	if (!rtbc_watches_fit(t, serial, changes))
		return rtbc_protocol_error(t->client,
					   "an answer that does not fit the bindings asked for", 0);
	r = rtbc_presence_answered(t, rtbp_field(result, RTBP_F_PRESENCE));
	if (r < 0)
		return r;
	if (serial > t->acked)
		t->acked = serial;
	t->was_over = false;
	(void)rtbp_get_uint(rtbp_field(result, RTBP_F_CHAN), &chan);
	(void)get_state(result, &state);
	rtbc_topic_set_chan(t, chan);
	rtbc_watches_answered(t, serial, changes);
	if (is_there(state))
		rtbc_topic_tell_missed(t);
	rtbc_topic_set(t, state_beside_watches(t, state), "", "", -1);
	rtbc_topic_report(t);
	rtbc_replay_answered(t, serial);
	return 0;
}

static void read_refusal(const struct rtbc_topic *t, uint64_t serial,
			 const struct rtbp_error_info *e, struct rtbc_refusal *ret)
{
	bool is_later_retried = serial < t->serial && t->retry_at >= 0;
	int64_t wait_ms = RETRY_LEAST_MS;

	*ret = (struct rtbc_refusal){ .retry_in_ms = -1 };
	rtbc_copy(ret->code, sizeof(ret->code), e->name);
	rtbc_copy(ret->text, sizeof(ret->text), e->text);
	ret->is_final = e->code >= 200 && !is_later_retried;
	if (ret->is_final)
		return;
	if (e->has_retry_after && e->retry_after_ms > (uint64_t)wait_ms &&
	    e->retry_after_ms < INT32_MAX)
		wait_ms = (int64_t)e->retry_after_ms;
	ret->retry_in_ms = wait_ms;
}

void rtbc_on_subscribe_error(struct rtb_client *c, struct rtbc_topic *t, uint64_t serial,
			     const struct rtbp_error_info *e)
{
	enum rtb_binding_state state = RTB_WATCH_PENDING;
	struct rtbc_refusal refusal;
	uint64_t held;

	/* A later request of this topic was or will be answered, too: that answer counts. */
	if (is_stale(t, serial) || (held = held_serial(t)) > serial)
		return;
	read_refusal(t, serial, e, &refusal);
	if (refusal.is_final)
		state = RTB_WATCH_ERROR;
	if (held) {
		rtbc_topic_ask_anew(t);
		rtbc_replay_refused(t, serial);
		rtbc_watches_refused(t, held, state, refusal.code, refusal.text);
		set_refusal(t, t->serial, &refusal);
	} else {
		rtbc_topic_forget(t);
		rtbc_watches_set(t, state, refusal.code, refusal.text);
	}
	if (!refusal.is_final) {
		t->retry_at = rtbc_now_ms() + refusal.retry_in_ms;
		rtbc_kick(c, refusal.retry_in_ms);
	}
	/* That the channel is rejected concerns all. */
	if (!held || t->was_over || e->code == RTBP_E_REJECTED)
		rtbc_topic_set(t, refusal.is_final ? RTB_CHANNEL_REJECTED : RTB_CHANNEL_JOINING,
			       refusal.code, refusal.text, refusal.retry_in_ms);
	rtbc_topic_report(t);
	rtbc_topic_ask_if_newer(t, refusal.code);
}

void rtbc_on_channel(struct rtb_client *c, struct rtbp_val params)
{
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];
	enum rtb_channel_state state;
	struct rtbc_topic *t;
	int64_t retry = -1;
	uint64_t chan;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &chan) || !get_state(params, &state))
		return;
	t = rtbc_topic_by_chan(c, chan);
	if (!t)
		return;
	rtbc_get_text(params, RTBP_F_CODE, code, sizeof(code));
	rtbc_get_text(params, RTBP_F_TEXT, text, sizeof(text));
	(void)rtbp_get_int(rtbp_field(params, RTBP_F_RETRY_IN_MS), &retry);
	rtbc_presence_set_state(t, rtbp_field(params, RTBP_F_PRESENCE));
	/* All of it has ended, whatever the notification says of its parts. */
	if (is_over(state) && rtbc_is_token_code(code))
		state = rtbc_topic_ended(t, code, text) ? RTB_CHANNEL_JOINING : state;
	else
		rtbc_watches_on_channel(t, rtbp_field(params, RTBP_F_POSTGRES_CHANGES));
	if (is_there(state))
		rtbc_topic_tell_missed(t);
	rtbc_topic_set(t, state_beside_watches(t, state), code, text, retry);
	rtbc_topic_report(t);
	if (is_over(state))
		rtbc_topic_ask_if_newer(t, code);
}
