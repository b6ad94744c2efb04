/* SPDX-License-Identifier: MIT */
/* POST .../broadcast: many messages in one request. One that is wrong refuses them all. */
#include "core_int.h"

#include <stdlib.h>

#include "term.h"

#define BLANK   "can't be blank"
#define INVALID "is invalid"

struct message {
	struct ds_str topic, event, payload, id; /* JSON; p NULL: not there */
	bool private;
	char *name; /* the topic, decoded */
};

struct batch {
	struct ds_core *c;
	struct message *messages;
	unsigned n;
	bool wrong;
	struct ds_buf errors; /* of each message an object */
};

static void add_error(struct ds_buf *b, size_t start, const char *key, const char *text)
{
	ds_buf_fmt(b, "%s\"%s\":[\"%s\"]", b->len > start ? "," : "", key, text);
}

/* Text that is more than blanks; what is wrong about it goes to @b. */
static struct ds_str text_member(struct ds_str object, const char *key, struct ds_buf *b,
				 size_t start, bool required)
{
	struct ds_str v = { NULL, 0 };
	struct ds_buf text = { 0 };
	bool blank = true;

	if (!ds_json_get(object, key, &v) || ds_json_kind(v) == DS_JSON_NULL) {
		v.p = NULL;
	} else if (ds_json_kind(v) != DS_JSON_STRING) {
		add_error(b, start, key, INVALID);
		return (struct ds_str){ NULL, 0 };
	} else {
		ds_json_text(v, &text);
		for (size_t i = 0; i < text.len; i++)
			blank &= strchr(" \t\r\n", text.data[i]) != NULL;
		ds_buf_done(&text);
	}
	if (v.p && !blank)
		return v;
	if (required)
		add_error(b, start, key, BLANK);
	return (struct ds_str){ NULL, 0 };
}

static bool private_member(struct ds_str object, struct ds_buf *b, size_t start)
{
	struct ds_str v;

	if (!ds_json_get(object, "private", &v))
		return false;
	switch (ds_json_kind(v)) {
	case DS_JSON_TRUE:
		return true;
	case DS_JSON_FALSE:
	case DS_JSON_NULL:
		return false;
	case DS_JSON_STRING:
		if (ds_json_key_is(v, "true") || ds_json_key_is(v, "1"))
			return true;
		if (ds_json_key_is(v, "false") || ds_json_key_is(v, "0") || ds_json_key_is(v, ""))
			return false;
		break;
	default:
		break;
	}
	add_error(b, start, "private", INVALID);
	return false;
}

static struct ds_str payload_member(struct batch *q, struct ds_str object, size_t start)
{
	struct ds_str v = { NULL, 0 };
	const char *wrong = NULL;

	if (!ds_json_get(object, "payload", &v) || ds_json_kind(v) == DS_JSON_NULL)
		wrong = BLANK;
	else if (ds_json_kind(v) != DS_JSON_OBJECT)
		wrong = INVALID;
	else if (ds_term_size(v) > q->c->conf.payload_max_bytes)
		wrong = "Payload size exceeds tenant limit";
	if (wrong)
		add_error(&q->errors, start, "payload", wrong);
	return v;
}

static void read_message(struct batch *q, struct ds_str object)
{
	struct message *m = &q->messages[q->n];
	struct ds_buf name = { 0 };
	size_t start;

	ds_buf_text(&q->errors, q->n++ ? ",{" : "{");
	start = q->errors.len;
	m->topic = text_member(object, "topic", &q->errors, start, true);
	m->payload = payload_member(q, object, start);
	m->event = text_member(object, "event", &q->errors, start, true);
	m->private = private_member(object, &q->errors, start);
	m->id = text_member(object, "id", &q->errors, start, false);
	q->wrong |= q->errors.len > start;
	ds_buf_byte(&q->errors, '}');
	if (m->topic.p)
		ds_json_text(m->topic, &name);
	m->name = ds_str_dup(ds_buf_view(&name));
	ds_buf_done(&name);
}

/* Return: NULL, or what is wrong with the list as a whole. */
static const char *read_messages(struct batch *q, struct ds_str body)
{
	struct ds_json_iter it;
	struct ds_str list, item;
	unsigned n = 0;

	if (!ds_json_get(body, "messages", &list) || ds_json_kind(list) == DS_JSON_NULL)
		return BLANK;
	if (ds_json_kind(list) != DS_JSON_ARRAY)
		return INVALID;
	for (it = ds_json_iter(list); ds_json_item(&it, &item); n++)
		if (ds_json_kind(item) != DS_JSON_OBJECT)
			return INVALID;
	if (n == 0)
		return BLANK;
	q->messages = ds_alloc(n * sizeof(*q->messages));
	it = ds_json_iter(list);
	while (ds_json_item(&it, &item))
		read_message(q, item);
	return NULL;
}

static void send_message(struct ds_core *c, const struct message *message)
{
	struct ds_buf payload = { 0 }, id = { 0 };
	struct ds_msg m = { .form = DS_PAYLOAD_JSON };

	ds_buf_text(&payload, "{\"event\":");
	ds_buf_str(&payload, message->event);
	if (message->id.p) {
		ds_buf_text(&payload, ",\"meta\":{\"id\":");
		ds_buf_str(&payload, message->id);
		ds_buf_byte(&payload, '}');
		ds_json_text(message->id, &id);
	}
	ds_buf_text(&payload, ",\"payload\":");
	ds_buf_str(&payload, message->payload);
	ds_buf_text(&payload, ",\"type\":\"broadcast\"}");
	m.payload = ds_buf_view(&payload);
	ds_cast_outside(c, ds_str(message->name), message->private, ds_buf_view(&id), &m);
	ds_buf_done(&payload);
	ds_buf_done(&id);
}

static int by_topic(const void *a, const void *b)
{
	const struct message *x = *(const struct message *const *)a;
	const struct message *y = *(const struct message *const *)b;
	int order = strcmp(x->name, y->name);

	return order ? order : x < y ? -1 : x > y;
}

/* Those of a topic together, in their order; what is denied is dropped without a word. */
static void send_private(struct batch *q, const struct ds_claims *claims)
{
	const struct message **list = ds_alloc(q->n * sizeof(const struct message *));
	const char *topic = NULL;
	bool allowed = false;
	unsigned n = 0;

	for (unsigned i = 0; i < q->n; i++)
		if (q->messages[i].private)
			list[n++] = &q->messages[i];
	qsort(list, n, sizeof(const struct message *), by_topic);
	for (unsigned i = 0; i < n; i++) {
		if (!topic || strcmp(topic, list[i]->name) != 0)
			allowed =
				ds_rights_look_up(q->c, claims, list[i]->name, DS_WRITE) == DS_YES;
		topic = list[i]->name;
		if (allowed)
			send_message(q->c, list[i]);
	}
	free(list);
}

static void send_all(struct batch *q, const struct ds_claims *claims, struct ds_answer *ret)
{
	const char *limit = ds_limit_posted(q->c, q->n);

	if (limit) {
		ds_rest_message(ret, 429, limit);
		return;
	}
	for (unsigned i = 0; i < q->n; i++)
		if (!q->messages[i].private)
			send_message(q->c, &q->messages[i]);
	send_private(q, claims);
	ret->status = 202;
}

void ds_rest_batch(struct ds_core *c, const struct ds_claims *claims, struct ds_str body,
		   struct ds_answer *ret)
{
	struct batch q = { .c = c };
	const char *wrong = read_messages(&q, body);

	if (!wrong && !q.wrong) {
		send_all(&q, claims, ret);
	} else {
		ret->status = 422;
		ret->type = DS_JSON_TYPE;
		ds_buf_text(&ret->body, "{\"errors\":{\"messages\":[");
		if (wrong)
			ds_buf_json(&ret->body, ds_str(wrong));
		else
			ds_buf_str(&ret->body, ds_buf_view(&q.errors));
		ds_buf_text(&ret->body, "]}}");
	}
	for (unsigned i = 0; i < q.n; i++)
		free(q.messages[i].name);
	free(q.messages);
	ds_buf_done(&q.errors);
}
