/* SPDX-License-Identifier: MIT */
/* Watches: making, ending, telling how they stand. */
#include "libclient/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "libclient/client.h"
#include "proto/rtbp_json.h"

/* ---- what is asked for ---- */

static const char *event_of(const char *event)
{
	static const char *const names[] = { "*", "INSERT", "UPDATE", "DELETE" };

	for (size_t i = 0; event && i < sizeof(names) / sizeof(*names); i++)
		if (strcasecmp(event, names[i]) == 0)
			return names[i];
	return event ? NULL : names[0];
}

static bool is_text(const char *text, size_t max)
{
	return rtbp_name_ok((struct rtbp_str){ text, strlen(text) }, max);
}

static size_t count(const char *const *names)
{
	size_t n = 0;

	while (names && names[n])
		n++;
	return n;
}

static bool is_binding(const struct rtb_watch_options *o)
{
	size_t n = count(o->select);

	if ((!o->schema && !o->table) || !event_of(o->event) || n > RTBC_SELECT_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_text(o->select[i], RTBP_EVENT_MAX))
			return false;
	return (!o->schema || is_text(o->schema, RTBP_EVENT_MAX)) &&
	       (!o->table || is_text(o->table, RTBP_EVENT_MAX)) &&
	       (!o->filter || !*o->filter || is_text(o->filter, RTBP_BINDING_MAX));
}

/* Always with event, schema and table, because servers differ in what it means to leave one out. So
 * equal wishes have equal bytes, too. */
static void pack_binding(const struct rtb_watch_options *o, struct rtbp_buf *b)
{
	bool filter = o->filter && *o->filter;
	uint32_t n = (uint32_t)count(o->select);

	rtbp_pack_map(b, 3 + (filter ? 1 : 0) + (n ? 1 : 0));
	rtbp_pack_field_text(b, RTBP_F_EVENT, event_of(o->event));
	rtbp_pack_field_text(b, RTBP_F_SCHEMA, o->schema ? o->schema : "*");
	rtbp_pack_field_text(b, RTBP_F_TABLE, o->table ? o->table : "*");
	if (filter)
		rtbp_pack_field_text(b, RTBP_F_FILTER, o->filter);
	if (!n)
		return;
	rtbp_pack_field(b, RTBP_F_SELECT);
	rtbp_pack_array(b, n);
	for (uint32_t i = 0; i < n; i++)
		rtbp_pack_text(b, o->select[i]);
}

/* Return: 0; RTB_E_BINDING, -ENOMEM. */
static int read_binding(const struct rtb_watch_options *o, struct rtbp_buf *b)
{
	struct rtbp_buf json = RTBP_BUF_INIT;
	size_t size;
	int r;

	if (!is_binding(o))
		return RTB_E_BINDING;
	pack_binding(o, b);
	if (b->error)
		return -ENOMEM;
	r = rtbp_mp_to_json(b->data, b->size, &json, NULL);
	size = json.size;
	rtbp_buf_done(&json);
	if (r < 0)
		return -ENOMEM;
	return r == 0 && size <= RTBP_BINDING_MAX ? 0 : RTB_E_BINDING;
}

static int read_options(struct rtb_client *c, const struct rtb_watch_options *options,
			struct rtb_watch_options *ret)
{
	*ret = (struct rtb_watch_options)RTB_WATCH_OPTIONS_INIT;
	if (!options || options->size < sizeof(*ret))
		return rtbc_fail(c, -EINVAL, "the options of a watch are missing, or too short");
	*ret = *options;
	if (!ret->topic)
		ret->topic = "";
	if (!*ret->topic && ret->is_private)
		return rtbc_fail(c, -EINVAL, "a private channel needs a topic");
	if (*ret->topic && !rtbp_topic_ok((struct rtbp_str){ ret->topic, strlen(ret->topic) }))
		return rtbc_fail(c, RTB_E_TOPIC, "%s", rtb_strerror(RTB_E_TOPIC));
	return 0;
}

/* ---- making ---- */

static struct rtbc_binding *binding_new(const struct rtbp_buf *bytes)
{
	struct rtbc_binding *b = calloc(1, sizeof(*b) + bytes->size);

	if (!b)
		return NULL;
	TAILQ_INIT(&b->watches);
	b->state = RTB_WATCH_PENDING;
	b->n_changes = 1;
	b->size = bytes->size;
	memcpy(b->bytes, bytes->data, bytes->size);
	return b;
}

static struct rtbc_binding *binding_find(struct rtbc_topic *t, const struct rtbp_buf *bytes)
{
	struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link)
		if (!b->last && b->size == bytes->size &&
		    memcmp(b->bytes, bytes->data, b->size) == 0)
			break;
	return b;
}

static struct rtb_watch *watch_new(const struct rtb_watch_options *o)
{
	struct rtb_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->change = o->change;
	w->state = o->state;
	w->gap = o->gap;
	w->user = o->user;
	return w;
}

/* Nothing can fail from here on. */
static void enter(struct rtbc_topic *t, struct rtbc_binding *b, struct rtb_watch *w)
{
	/* Who asks anew for what was refused makes the daemon try it again. */
	if (b->state == RTB_WATCH_ERROR && b->is_known) {
		rtbc_binding_set(b, RTB_WATCH_PENDING, "", "");
		rtbc_topic_ask_anew(t);
	}
	w->binding = b;
	TAILQ_INSERT_TAIL(&b->watches, w, link);
	b->n_live++;
	t->n_live++;
	/* Pending for no reason is how it begins: that is no news. */
	if (b->state == RTB_WATCH_PENDING && !b->code[0] && !b->text[0])
		w->reported = b->n_changes;
	rtbc_topic_touch(t);
	rtbc_flush_now(t->client);
	if (w->reported != b->n_changes) {
		t->client->is_report_due = true;
		rtbc_kick(t->client, 0);
	}
}

static int make(struct rtb_client *c, const struct rtb_watch_options *o,
		const struct rtbp_buf *bytes, struct rtb_watch **ret)
{
	struct rtbc_binding *fresh = binding_new(bytes), *b;
	struct rtb_watch *w = watch_new(o);
	struct rtbc_topic *t = NULL;

	if (fresh && w)
		t = rtbc_topic_get(c, (struct rtbp_str){ o->topic, strlen(o->topic) },
				   o->is_private);
	if (!t) {
		free(fresh);
		free(w);
		return -ENOMEM;
	}
	b = binding_find(t, bytes);
	if (b) {
		free(fresh);
	} else {
		b = fresh;
		b->topic = t;
		TAILQ_INSERT_TAIL(&t->bindings, b, link);
	}
	enter(t, b, w);
	*ret = w;
	return 0;
}

int rtb_watch(struct rtb_client *c, const struct rtb_watch_options *options, struct rtb_watch **ret)
{
	struct rtbp_buf bytes = RTBP_BUF_INIT;
	struct rtb_watch_options o;
	int r;

	if (c->phase == RTBC_FAILED)
		return RTB_E_FAILED;
	r = read_options(c, options, &o);
	if (r < 0)
		return r;
	r = read_binding(&o, &bytes);
	if (r == RTB_E_BINDING)
		(void)rtbc_fail(c, r, "%s", rtb_strerror(r));
	if (r == 0)
		r = make(c, &o, &bytes, ret);
	rtbp_buf_done(&bytes);
	return r == -ENOMEM ? rtbc_fail(c, r, "out of memory") : r;
}

/* ---- ending ---- */

struct rtb_watch *rtb_unwatch(struct rtb_watch *w)
{
	struct rtbc_topic *t;
	struct rtb_client *c;

	if (!w || w->is_dead)
		return NULL;
	t = w->binding->topic;
	c = t->client;
	w->is_dead = true;
	w->binding->n_live--;
	t->n_live--;
	if (c->waited_watch == w)
		c->waited_watch = NULL;
	rtbc_topic_touch(t);
	c->is_reap_due = true;
	/* Else the daemon is told at the end of process(): who watches the same before that keeps
	 * what there is. */
	if (!c->in_process && !c->in_callback) {
		rtbc_flush_now(c);
		rtbc_topic_left(t);
	}
	return NULL;
}

static bool is_over(const struct rtbc_binding *b)
{
	const struct rtbc_pending *oldest = TAILQ_FIRST(&b->topic->pending);

	if (!TAILQ_EMPTY(&b->watches))
		return false;
	/* Answers to requests that had it are read by its place in the list. */
	return !b->first || (b->last && (!oldest || b->last < oldest->serial));
}

static void binding_free(struct rtbc_binding *b)
{
	struct rtb_watch *w;

	while ((w = TAILQ_FIRST(&b->watches))) {
		TAILQ_REMOVE(&b->watches, w, link);
		free(w);
	}
	rtbc_binding_unhash(b);
	TAILQ_REMOVE(&b->topic->bindings, b, link);
	free(b);
}

void rtbc_watches_reap(struct rtbc_topic *t)
{
	struct rtbc_binding *b, *next;
	struct rtb_watch *w, *next_watch;

	for (b = TAILQ_FIRST(&t->bindings); b; b = next) {
		next = TAILQ_NEXT(b, link);
		for (w = TAILQ_FIRST(&b->watches); w; w = next_watch) {
			next_watch = TAILQ_NEXT(w, link);
			if (w->is_dead) {
				TAILQ_REMOVE(&b->watches, w, link);
				free(w);
			}
		}
		if (is_over(b))
			binding_free(b);
	}
}

void rtbc_watches_free(struct rtbc_topic *t)
{
	struct rtbc_binding *b;

	while ((b = TAILQ_FIRST(&t->bindings)))
		binding_free(b);
}

/* ---- how they stand ---- */

void rtbc_binding_set(struct rtbc_binding *b, enum rtb_binding_state state, const char *code,
		      const char *text)
{
	if (b->state == state && strcmp(b->code, code) == 0 && strcmp(b->text, text) == 0)
		return;
	b->n_changes++;
	if (state == RTB_WATCH_READY)
		b->stopped_at = 0;
	else if (b->state == RTB_WATCH_READY)
		b->stopped_at = rtbc_wall_ms();
	b->state = state;
	rtbc_copy(b->code, sizeof(b->code), (struct rtbp_str){ code, strlen(code) });
	rtbc_copy(b->text, sizeof(b->text), (struct rtbp_str){ text, strlen(text) });
	b->topic->client->is_report_due = true;
}

void rtbc_watches_set(struct rtbc_topic *t, enum rtb_binding_state state, const char *code,
		      const char *text)
{
	struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link)
		rtbc_binding_set(b, state, code, text);
}

/* An earlier gap that was not told yet only gets longer. */
static void note_missed(struct rtb_watch *w, int64_t from, const char *cause)
{
	bool is_missing = w->was_ready || w->binding->state == RTB_WATCH_READY;

	w->was_ready = false;
	if (!is_missing || w->gap_from)
		return;
	w->gap_from = from;
	rtbc_copy(w->gap_cause, sizeof(w->gap_cause), (struct rtbp_str){ cause, strlen(cause) });
}

void rtbc_watches_on_detach(struct rtbc_topic *t)
{
	struct rtbc_binding *b;
	struct rtb_watch *w;
	int64_t from;

	TAILQ_FOREACH(b, &t->bindings, link) {
		from = t->client->heard_at;
		if (b->stopped_at && b->stopped_at < from)
			from = b->stopped_at;
		TAILQ_FOREACH(w, &b->watches, link)
			note_missed(w, from, "detached");
	}
	rtbc_watches_set(t, RTB_WATCH_PENDING, "detached", t->client->error_text);
}

void rtbc_binding_missed(struct rtbc_binding *b, const char *cause)
{
	int64_t from = b->stopped_at ? b->stopped_at : rtbc_wall_ms();
	struct rtb_watch *w;

	TAILQ_FOREACH(w, &b->watches, link)
		note_missed(w, from, cause);
}

void rtbc_watches_missed(struct rtbc_topic *t, const char *cause)
{
	struct rtbc_binding *b;

	TAILQ_FOREACH(b, &t->bindings, link)
		rtbc_binding_missed(b, cause);
}

bool rtbc_watches_revive(struct rtbc_topic *t)
{
	struct rtbc_binding *b;
	bool any = false;

	TAILQ_FOREACH(b, &t->bindings, link) {
		if (b->last || b->state != RTB_WATCH_ERROR || !rtbc_is_token_code(b->code))
			continue;
		rtbc_binding_set(b, RTB_WATCH_PENDING, "", "");
		any = true;
	}
	return any;
}

void rtbc_watch_tell_missed(struct rtb_watch *w)
{
	struct rtbc_topic *t = w->binding->topic;
	struct rtb_gap gap = { .chan = t->chan,
			       .topic = t->name,
			       .from_unix_ms = w->gap_from,
			       .to_unix_ms = rtbc_wall_ms(),
			       .cause = w->gap_cause };

	if (w->is_dead || !w->gap_from)
		return;
	w->gap_from = 0;
	if (!w->gap)
		return;
	rtbc_enter(t->client);
	w->gap(w, &gap, w->user);
	rtbc_leave(t->client);
}

void rtbc_watch_report(struct rtb_watch *w)
{
	struct rtbc_binding *b = w->binding;
	char code[RTBC_WATCH_CODE_MAX], text[RTBC_WATCH_TEXT_MAX];
	struct rtb_watch_status status = { .code = code, .text = text };

	if (w->is_dead || w->reported == b->n_changes)
		return;
	if (b->state == RTB_WATCH_READY) {
		w->was_ready = true;
		rtbc_watch_tell_missed(w);
	}
	w->reported = b->n_changes;
	if (w->is_dead || !w->state)
		return;
	status.state = b->state;
	status.id = b->is_known ? b->id : 0;
	/* What the callback asks for may change them. */
	memcpy(code, b->code, sizeof(code));
	memcpy(text, b->text, sizeof(text));
	rtbc_enter(b->topic->client);
	w->state(w, &status, w->user);
	rtbc_leave(b->topic->client);
}

void rtbc_watches_report(struct rtbc_topic *t)
{
	struct rtbc_binding *b, *last = TAILQ_LAST(&t->bindings, rtbc_binding_list);
	struct rtb_watch *w, *last_watch;

	TAILQ_FOREACH(b, &t->bindings, link) {
		last_watch = TAILQ_LAST(&b->watches, rtbc_watch_list);
		TAILQ_FOREACH(w, &b->watches, link) {
			rtbc_watch_report(w);
			if (w == last_watch)
				break;
		}
		if (b == last)
			break;
	}
}

enum rtb_binding_state rtb_watch_state(const struct rtb_watch *w)
{
	return w->binding->state;
}

struct rtb_client *rtb_watch_client(const struct rtb_watch *w)
{
	return w->binding->topic->client;
}
