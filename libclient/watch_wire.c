/* SPDX-License-Identifier: MIT */
/* Watches: what the daemon is told about bindings, and what it says of them. */
#include "libclient/watch.h"

#include <stdio.h>
#include <string.h>

#include "libclient/client.h"

/* ---- asking ---- */

static bool is_asked(const struct rtbc_binding *b)
{
	return b->first && !b->last;
}

static bool is_wanted(const struct rtbc_binding *b)
{
	return !b->last && b->n_live && !b->is_left_out;
}

/* The daemon would refuse the whole request, and with it what it carries already. */
static void leave_out(struct rtbc_binding *b)
{
	struct rtb_client *c = b->topic->client;
	char text[RTBC_WATCH_TEXT_MAX];

	b->is_left_out = c->has_left_out = true;
	if (c->binding_limit)
		(void)snprintf(text, sizeof(text),
			       "the daemon lets a client have at most %zu bindings",
			       c->binding_limit);
	else
		(void)snprintf(text, sizeof(text), "this daemon does not offer database changes");
	rtbc_binding_set(b, RTB_WATCH_ERROR, c->binding_limit ? "too_many" : "unsupported", text);
	rtbc_kick(c, 0);
}

bool rtbc_watches_pack(struct rtbc_topic *t, struct rtbp_buf *out)
{
	struct rtb_client *c = t->client;
	size_t others = c->n_asked - t->n_asked;
	struct rtbc_binding *b;
	uint32_t n = 0;

	/* What the daemon has keeps its place, wherever it stands in the list. */
	TAILQ_FOREACH(b, &t->bindings, link) {
		b->is_left_out = false;
		n += is_wanted(b) && is_asked(b);
	}
	TAILQ_FOREACH(b, &t->bindings, link) {
		if (!is_wanted(b) || is_asked(b))
			continue;
		if (others + n >= c->binding_limit)
			leave_out(b);
		else
			n++;
	}
	if (n == 0)
		return false;
	rtbp_pack_field(out, RTBP_F_POSTGRES_CHANGES);
	rtbp_pack_array(out, n);
	TAILQ_FOREACH(b, &t->bindings, link)
		if (is_wanted(b))
			rtbp_buf_put(out, b->bytes, b->size);
	return true;
}

/* There is room again. */
static void ask_for_left_out(struct rtb_client *c)
{
	struct rtbc_binding *b;
	struct rtbc_topic *t;

	if (!c->has_left_out || c->phase != RTBC_ATTACHED)
		return;
	c->has_left_out = false;
	TAILQ_FOREACH(t, &c->topics, link)
		TAILQ_FOREACH(b, &t->bindings, link)
			if (b->is_left_out && b->n_live)
				rtbc_topic_touch(t);
}

static void set_asked(struct rtbc_topic *t, size_t n)
{
	struct rtb_client *c = t->client;
	bool is_less = n < t->n_asked;

	c->n_asked = c->n_asked - t->n_asked + n;
	t->n_asked = n;
	if (is_less)
		ask_for_left_out(c);
}

void rtbc_watches_asked(struct rtbc_topic *t, uint64_t serial)
{
	struct rtbc_binding *b;
	size_t n = 0;

	TAILQ_FOREACH(b, &t->bindings, link) {
		if (is_wanted(b)) {
			n++;
			if (b->first)
				continue;
			b->first = serial;
			if (b->state == RTB_WATCH_ERROR) {
				rtbc_binding_set(b, RTB_WATCH_PENDING, "", "");
				rtbc_kick(t->client, 0);
			}
		} else if (is_asked(b)) {
			b->last = serial - 1;
			b->is_known = false;
			t->client->is_reap_due = true;
		}
	}
	set_asked(t, n);
}

void rtbc_watches_restart(struct rtbc_topic *t, const char *code, const char *text)
{
	struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link) {
		if (b->is_known)
			rtbc_binding_set(b, RTB_WATCH_PENDING, code, text);
		b->is_known = false;
	}
}

void rtbc_watches_forget(struct rtbc_topic *t)
{
	struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link) {
		/* What was over stays over: another with the same wish may stand behind it. */
		b->first = 0;
		b->is_known = false;
	}
	t->client->is_reap_due = true;
	set_asked(t, 0);
}

/* They keep their places below the limit: to give them away would only make others be refused. */
void rtbc_watches_refused(struct rtbc_topic *t, uint64_t held, enum rtb_binding_state state,
			  const char *code, const char *text)
{
	struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link) {
		if (!is_asked(b) || b->first <= held)
			continue;
		b->first = 0;
		rtbc_binding_set(b, state, code, text);
	}
}

void rtbc_watches_unsent(struct rtbc_topic *t, const char *code, const char *text)
{
	struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link)
		if (is_wanted(b) && !b->first)
			rtbc_binding_set(b, RTB_WATCH_ERROR, code, text);
}

void rtbc_watches_on_hello(struct rtb_client *c, struct rtbp_val result)
{
	struct rtbp_val limits = rtbp_field(result, RTBP_F_LIMITS);
	uint64_t limit = UINT32_MAX;

	c->binding_limit = 0;
	c->has_left_out = false;
	(void)rtbp_get_uint(rtbp_field(limits, RTBP_F_BINDINGS), &limit);
	if (rtbc_has_feature(result, rtbp_notice_name(RTBP_N_POSTGRES_CHANGES)))
		c->binding_limit = limit < UINT32_MAX ? (size_t)limit : UINT32_MAX;
}

/* ---- ids ---- */

static struct rtbc_binding **bucket(struct rtb_client *c, uint64_t id)
{
	return &c->by_binding[id % RTBC_BUCKETS];
}

void rtbc_binding_unhash(struct rtbc_binding *b)
{
	struct rtbc_binding **at = bucket(b->topic->client, b->id);

	if (!b->is_hashed)
		return;
	while (*at != b)
		at = &(*at)->id_next;
	*at = b->id_next;
	b->is_hashed = false;
}

static void set_id(struct rtbc_binding *b, uint64_t id)
{
	struct rtbc_binding **at = bucket(b->topic->client, id);

	b->is_known = true;
	if (b->is_hashed && b->id == id)
		return;
	rtbc_binding_unhash(b);
	b->id = id;
	b->id_next = *at;
	*at = b;
	b->is_hashed = true;
}

/* ---- what the daemon says ---- */

static bool is_in(const struct rtbc_binding *b, uint64_t serial)
{
	return b->first && b->first <= serial && (!b->last || serial <= b->last);
}

bool rtbc_watches_fit(const struct rtbc_topic *t, uint64_t serial, struct rtbp_val array)
{
	const struct rtbc_binding *b;
	struct rtbp_iter it;
	struct rtbp_val v;
	uint64_t id;

	if (!rtbp_iter_array(array, &it))
		it.left = 0;
	TAILQ_FOREACH(b, &t->bindings, link)
		if (is_in(b, serial) &&
		    (!rtbp_iter_next(&it, &v) || !rtbp_get_uint(rtbp_field(v, RTBP_F_ID), &id)))
			return false;
	return true;
}

static void read_entry(struct rtbc_binding *b, struct rtbp_val v)
{
	struct rtbp_str state = { NULL, 0 };
	char code[RTBC_WATCH_CODE_MAX], text[RTBC_WATCH_TEXT_MAX];
	enum rtb_binding_state as = RTB_WATCH_PENDING;

	(void)rtbp_get_str(rtbp_field(v, RTBP_F_STATE), &state);
	if (rtbp_str_is(state, "ready"))
		as = RTB_WATCH_READY;
	else if (rtbp_str_is(state, "error"))
		as = RTB_WATCH_ERROR;
	rtbc_get_text(v, RTBP_F_CODE, code, sizeof(code));
	rtbc_get_text(v, RTBP_F_TEXT, text, sizeof(text));
	/* What else is an error for a while the daemon keeps, and tells the gap of. */
	if (as == RTB_WATCH_ERROR && rtbc_is_forbidden(code))
		rtbc_binding_missed(b, code);
	rtbc_binding_set(b, as, code, text);
}

void rtbc_watches_answered(struct rtbc_topic *t, uint64_t serial, struct rtbp_val array)
{
	struct rtbc_binding *b;
	struct rtbp_iter it;
	struct rtbp_val v;
	uint64_t id = 0;

	if (!rtbp_iter_array(array, &it))
		return;
	TAILQ_FOREACH(b, &t->bindings, link) {
		if (!is_in(b, serial) || !rtbp_iter_next(&it, &v) || b->last)
			continue;
		(void)rtbp_get_uint(rtbp_field(v, RTBP_F_ID), &id);
		set_id(b, id);
		read_entry(b, v);
	}
}

/* The next known binding of that id, behind `b` or from the first on; `t` NULL: of any topic. */
static struct rtbc_binding *next_of(struct rtb_client *c, const struct rtbc_topic *t, uint64_t id,
				    struct rtbc_binding *b)
{
	b = b ? b->id_next : *bucket(c, id);
	while (b && (b->id != id || !b->is_known || (t && b->topic != t)))
		b = b->id_next;
	return b;
}

void rtbc_watches_on_channel(struct rtbc_topic *t, struct rtbp_val array)
{
	struct rtbc_binding *b;
	struct rtbp_iter it;
	struct rtbp_val v;
	uint64_t id;

	if (!rtbp_iter_array(array, &it))
		return;
	while (rtbp_iter_next(&it, &v)) {
		if (!rtbp_get_uint(rtbp_field(v, RTBP_F_ID), &id))
			continue;
		for (b = NULL; (b = next_of(t->client, t, id, b));)
			read_entry(b, v);
	}
}

bool rtbc_watches_are_pending(const struct rtbc_topic *t)
{
	const struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link)
		if (b->is_known && b->state == RTB_WATCH_PENDING)
			return true;
	return false;
}

/* One of both. */
struct news {
	const struct rtb_change *change;
	const struct rtb_gap *gap;
};

/* It hears how it stands before it hears anything else. */
static void tell_watch(struct rtb_watch *w, const struct news *news)
{
	struct rtb_client *c = w->binding->topic->client;

	rtbc_watch_tell_missed(w);
	rtbc_watch_report(w);
	if (w->is_dead || !(news->change ? w->change != NULL : w->gap != NULL))
		return;
	rtbc_enter(c);
	if (news->change)
		w->change(w, news->change, w->user);
	else
		w->gap(w, news->gap, w->user);
	rtbc_leave(c);
}

static void tell(struct rtbc_binding *b, const struct news *news)
{
	struct rtb_watch *w, *last = TAILQ_LAST(&b->watches, rtbc_watch_list);

	TAILQ_FOREACH(w, &b->watches, link) {
		tell_watch(w, news);
		if (w == last)
			break;
	}
}

static void tell_ids(struct rtb_client *c, const struct rtbc_topic *t, struct rtbp_val ids,
		     const struct news *news)
{
	uint64_t row = ++c->n_rows, id;
	struct rtbc_binding *b;
	struct rtbp_iter it;
	struct rtbp_val v;

	if (!rtbp_iter_array(ids, &it))
		return;
	while (rtbp_iter_next(&it, &v)) {
		if (!rtbp_get_uint(v, &id))
			continue;
		for (b = NULL; (b = next_of(c, t, id, b));) {
			if (b->row == row)
				continue; /* the id stands there twice */
			b->row = row;
			tell(b, news);
		}
	}
}

void rtbc_watches_deliver(struct rtb_client *c, struct rtbp_val ids,
			  const struct rtb_change *change)
{
	struct news news = { .change = change };

	tell_ids(c, NULL, ids, &news);
}

void rtbc_watches_tell_gap(struct rtbc_topic *t, struct rtbp_val ids, const struct rtb_gap *gap)
{
	struct news news = { .gap = gap };

	tell_ids(t->client, t, ids, &news);
}
