/* SPDX-License-Identifier: MIT */
/* binding: one wish for database changes, shared by all who have the same. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

int binding_text_compare(struct binding *a, struct binding *b)
{
	uint64_t x = identity_number(a->identity), y = identity_number(b->identity);
	int r = hub_compare_str((struct rtbp_str){ a->text, a->size },
				(struct rtbp_str){ b->text, b->size });

	return r ? r : (x > y) - (x < y);
}

int binding_id_compare(struct binding *a, struct binding *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(binding_text_tree, binding, by_text, binding_text_compare)
RB_GENERATE(binding_id_tree, binding, by_id, binding_id_compare)

/* ---- as a request has it ---- */

static const char *const event_names[] = {
	[CHANGE_ANY] = "*",
	[CHANGE_INSERT] = "INSERT",
	[CHANGE_UPDATE] = "UPDATE",
	[CHANGE_DELETE] = "DELETE",
};

static const char *read_event(struct rtbp_val v, enum change_event *ret)
{
	struct rtbp_str s;

	*ret = CHANGE_ANY;
	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	if (!rtbp_get_str(v, &s))
		return "event is a string";
	for (int i = CHANGE_ANY; i <= CHANGE_DELETE; i++) {
		if (s.size == strlen(event_names[i]) &&
		    strncasecmp(s.p, event_names[i], s.size) == 0) {
			*ret = (enum change_event)i;
			return NULL;
		}
	}
	return "event is \"*\", \"INSERT\", \"UPDATE\" or \"DELETE\"";
}

static void put_member(struct rtbp_buf *b, const char *name, struct rtbp_str value)
{
	rtbp_buf_text(b, ",\"");
	rtbp_buf_text(b, name);
	rtbp_buf_text(b, "\":");
	rtbp_json_quote(b, value.p, value.size);
}

/* Appends the member, if it is there. Return: whether it is absent or right. */
static bool put_name(struct rtbp_val v, const char *name, size_t max, bool may_be_empty,
		     bool *ret_is, struct rtbp_buf *b)
{
	struct rtbp_str s;

	*ret_is = false;
	if (!v.p || rtbp_is(v, RTBP_NIL))
		return true;
	if (!rtbp_get_str(v, &s))
		return false;
	if (s.size == 0 && may_be_empty)
		return true;
	/* A name with % would be a pattern for the server, whatever our rules made of it. */
	if (!rtbp_name_ok(s, max) || (max == RTBP_EVENT_MAX && memchr(s.p, '%', s.size)))
		return false;
	*ret_is = true;
	put_member(b, name, s);
	return true;
}

static const char *put_select(struct rtbp_val v, struct rtbp_buf *b)
{
	struct rtbp_iter it;
	struct rtbp_val e;
	struct rtbp_str s;
	bool first = true;

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	if (!rtbp_iter_array(v, &it) || it.left > BINDING_SELECT_MAX)
		return "select is an array of at most 100 names of columns";
	while (rtbp_iter_next(&it, &e)) {
		if (!rtbp_get_str(e, &s) || !rtbp_name_ok(s, RTBP_EVENT_MAX))
			return "a column's name in select is 1 to 255 bytes of UTF-8 without "
			       "control characters";
		rtbp_buf_text(b, first ? ",\"select\":[" : ",");
		rtbp_json_quote(b, s.p, s.size);
		first = false;
	}
	if (!first)
		rtbp_buf_text(b, "]");
	return NULL;
}

static const char *put_all(struct rtbp_val v, enum change_event event, struct rtbp_buf *b)
{
	bool has_schema, has_table, has_filter;

	rtbp_buf_text(b, "{\"event\":\"");
	rtbp_buf_text(b, event_names[event]);
	rtbp_buf_text(b, "\"");
	if (!put_name(rtbp_field(v, RTBP_F_SCHEMA), "schema", RTBP_EVENT_MAX, false, &has_schema,
		      b))
		return "schema is 1 to 255 bytes of UTF-8 without control characters, and without "
		       "% (\"*\" stands for all)";
	if (!put_name(rtbp_field(v, RTBP_F_TABLE), "table", RTBP_EVENT_MAX, false, &has_table, b))
		return "table is 1 to 255 bytes of UTF-8 without control characters, and without "
		       "% (\"*\" stands for all)";
	if (!has_schema && !has_table)
		return "a schema or a table is missing";
	if (!put_name(rtbp_field(v, RTBP_F_FILTER), "filter", RTBP_BINDING_MAX, true, &has_filter,
		      b))
		return "filter is a string of UTF-8 without control characters, of at most 8 KiB";
	if (has_filter && !has_table)
		return "a filter needs a table";
	return put_select(rtbp_field(v, RTBP_F_SELECT), b);
}

const char *binding_wish_read(struct rtbp_val v, struct binding_wish *ret, bool *ret_no_memory)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	const char *wrong;

	if (!rtbp_is(v, RTBP_MAP))
		return "a binding is a map";
	wrong = read_event(rtbp_field(v, RTBP_F_EVENT), &ret->event);
	if (!wrong)
		wrong = put_all(v, ret->event, &b);
	rtbp_buf_text(&b, "}");
	if (!wrong && rtbp_buf_ok(&b) && b.size > RTBP_BINDING_MAX)
		wrong = "the binding is larger than 8 KiB";
	if (!wrong && rtbp_buf_ok(&b)) {
		ret->text = (char *)b.data; /* given away */
		ret->size = b.size;
		return NULL;
	}
	*ret_no_memory = !wrong;
	rtbp_buf_done(&b);
	return wrong ? wrong : "no memory";
}

void binding_wishes_free(struct binding_wish *wishes, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(wishes[i].text);
	free(wishes);
}

/* ---- birth and death ---- */

struct binding *binding_get(struct hub *hub, struct binding_wish *wish, struct identity *identity)
{
	struct binding key = { .text = wish->text, .size = wish->size, .identity = identity };
	struct binding *b = RB_FIND(binding_text_tree, &hub->bindings, &key);

	if (b)
		return b;
	if (hub->n_bindings >= BINDINGS_MAX)
		return NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->hub = hub;
	b->id = hub->next_binding++;
	b->identity = identity_ref(identity);
	b->text = wish->text;
	b->size = wish->size;
	b->event = wish->event;
	wish->text = NULL;
	TAILQ_INIT(&b->wants);
	RB_INSERT(binding_text_tree, &hub->bindings, b);
	RB_INSERT(binding_id_tree, &hub->bindings_by_id, b);
	hub->n_bindings++;
	return b;
}

void binding_check(struct binding *b)
{
	if (b->n_wants || b->n_items)
		return;
	RB_REMOVE(binding_text_tree, &b->hub->bindings, b);
	RB_REMOVE(binding_id_tree, &b->hub->bindings_by_id, b);
	b->hub->n_bindings--;
	identity_unref(b->identity);
	free(b->text);
	free(b);
}

/* ---- how it stands ---- */

static const struct feed_item *item_of(const struct binding *b)
{
	for (unsigned i = 0; b->feed && i < b->feed->n_items; i++) {
		if (b->feed->items[i].binding == b)
			return &b->feed->items[i];
	}
	return NULL;
}

static bool is_ready(const struct binding *b)
{
	const struct feed_item *item;

	if (b->bad || !b->feed || b->feed->state != FEED_READY || b->feed->is_proof)
		return false;
	item = item_of(b);
	return item && item->sent;
}

const char *binding_state(const struct binding *b, const char **ret_code, const char **ret_text)
{
	const struct join *j = b->feed ? b->feed->join : NULL;

	*ret_code = *ret_text = "";
	if (b->bad) {
		*ret_code = b->code;
		*ret_text = b->reason;
		return "error";
	}
	if (is_ready(b))
		return "ready";
	if (j && j->code[0]) {
		*ret_code = j->code;
		/* The server's words name the channel, which may be another client's. */
		*ret_text = b->feed->chan ? "the channel that carries it is not joined" : j->text;
	} else if (b->feed && b->feed->code[0]) {
		*ret_code = b->feed->code;
		*ret_text = b->feed->text;
	}
	return j && j->state == JOIN_REJECTED ? "error" : "pending";
}

bool binding_is_settled(const struct binding *b)
{
	const char *code, *text;

	return strcmp(binding_state(b, &code, &text), "pending") != 0;
}

/* ---- news ---- */

void binding_news(struct binding *b)
{
	struct hub *hub = b->hub;
	struct want *w;

	TAILQ_FOREACH(w, &b->wants, in_binding) {
		if (w->sub->has_news)
			continue;
		w->sub->has_news = true;
		TAILQ_INSERT_TAIL(&hub->subs_with_news, w->sub, in_news);
	}
}

void binding_stops(struct binding *b, int64_t from_wall_ms, const char *cause)
{
	if (!b->gap_from_wall_ms) {
		b->gap_from_wall_ms = from_wall_ms ? from_wall_ms : clock_wall(b->hub->clock);
		snprintf(b->gap_cause, sizeof(b->gap_cause), "%s", cause);
	}
	binding_news(b);
}

void binding_flows(struct binding *b)
{
	struct want *w;
	bool is_gap = false;

	b->bad = false;
	b->proven = true;
	b->retry_pause_ms = 0;
	TAILQ_FOREACH(w, &b->wants, in_binding) {
		w->gap |= w->flowed && b->gap_from_wall_ms;
		is_gap |= w->gap;
	}
	if (!is_gap)
		b->gap_from_wall_ms = 0;
	binding_news(b);
}

void binding_refused(struct binding *b, const char *code, const char *text)
{
	struct hub *hub = b->hub;

	/* Who asks for thousands does not fill the log. */
	if (bucket_take(&hub->refusals_bucket, hub_now(hub), 0) == 0)
		log_notice("database changes %.*s: refused: %s",
			   (int)(b->size < 300 ? b->size : 300), b->text, text);
	b->bad = true;
	b->proven = false;
	b->feed = NULL;
	snprintf(b->code, sizeof(b->code), "%s", code);
	snprintf(b->reason, sizeof(b->reason), "%s", text);
	b->bad_at_ms = hub_now(hub);
	b->retry_pause_ms = b->retry_pause_ms ? b->retry_pause_ms * 2 : BINDING_RETRY_MIN_MS;
	if (b->retry_pause_ms > BINDING_RETRY_MAX_MS)
		b->retry_pause_ms = BINDING_RETRY_MAX_MS;
	b->retry_at_ms = hub_now(hub) + b->retry_pause_ms;
	if (!hub->bindings_timer.armed || b->retry_at_ms < hub->bindings_timer.at_ms)
		timer_arm(&hub->timers, &hub->bindings_timer, b->retry_at_ms);
	binding_news(b);
}

bool binding_retry(struct binding *b)
{
	if (b->feed) {
		feed_retry(b->feed);
		return false;
	}
	if (b->suspects)
		return false; /* its trial is to come */
	/* Who asks now may bring the private channel that was missing. */
	if (b->bad && hub_now(b->hub) - b->bad_at_ms < BINDING_BAD_MS &&
	    !(b->hub->private_only && strcmp(b->code, "private_only") == 0))
		return false;
	b->bad = false;
	return true;
}

/* One at a time: a bad one must not take others with it, and a thousand bad ones not the joins of
 * all. */
void bindings_retry_due(void *ctx)
{
	struct hub *hub = ctx;
	struct binding_list list = TAILQ_HEAD_INITIALIZER(list);
	struct binding *b, *due = NULL;
	uint64_t now = hub_now(hub), next = UINT64_MAX;

	/* Without a further link to try it on, it would take the others of its channel with it. */
	if (hub->private_only && hub->conf.max_links == 1)
		return;
	RB_FOREACH(b, binding_id_tree, &hub->bindings_by_id) {
		if (b->bad && b->n_wants && (!due || b->retry_at_ms < due->retry_at_ms)) {
			next = due && due->retry_at_ms < next ? due->retry_at_ms : next;
			due = b;
		} else if (b->bad && b->n_wants && b->retry_at_ms < next) {
			next = b->retry_at_ms;
		}
	}
	if (due && due->retry_at_ms > now) {
		next = due->retry_at_ms;
	} else if (due) {
		due->bad = false;
		TAILQ_INSERT_TAIL(&list, due, entry);
		feeds_place(hub, &list, NULL, TAILQ_FIRST(&due->wants)->sub->peer->cred.uid);
	}
	if (next != UINT64_MAX)
		timer_arm(&hub->timers, &hub->bindings_timer,
			  next > now + 1000 ? next : now + 1000);
}
