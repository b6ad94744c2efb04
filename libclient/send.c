/* SPDX-License-Identifier: MIT */
/*
 * Requests: packed straight into the send queue, remembered until their answer comes.
 *
 * A request is all or nothing: rtbc_request_end() takes the bytes back when anything went wrong, so
 * a failed call leaves no trace. Each accepted send has exactly one entry in the table, and each
 * entry leaves it once: by its answer, by the end of the attachment, or with the client.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"
#include "proto/rtbp_json.h"

static struct rtbc_pending_list *bucket(struct rtb_client *c, int64_t id)
{
	return &c->pending_by_id[(uint32_t)id % RTBC_BUCKETS];
}

struct rtbc_pending *rtbc_pending_find(struct rtb_client *c, uint32_t wire_id)
{
	struct rtbc_pending *p;

	TAILQ_FOREACH(p, bucket(c, wire_id), bucket_link)
		if ((uint32_t)p->id == wire_id)
			return p;
	return NULL;
}

/* On the wire an id is 32 bits wide, and 0 is the hello's. */
static int64_t new_id(struct rtb_client *c)
{
	while ((uint32_t)c->next_id == 0 || rtbc_pending_find(c, (uint32_t)c->next_id))
		c->next_id++;
	return c->next_id++;
}

struct rtbc_pending *rtbc_request_begin(struct rtb_client *c, enum rtbp_method method,
					enum rtbc_kind kind, size_t *ret_begin, int *ret_error)
{
	bool is_counted = kind == RTBC_SEND || kind == RTBC_REPLY;
	struct rtbc_pending *p;

	/* Behind a token nothing is queued: see token.h. */
	if (c->out_has_token || rtbc_queued(c) >= c->queue_limit ||
	    (is_counted && c->n_pending >= RTBC_PENDING_MAX)) {
		*ret_error = rtbc_fail(c, RTB_E_BUSY, "the send queue is full");
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		*ret_error = rtbc_fail(c, -ENOMEM, "out of memory");
		return NULL;
	}
	p->kind = kind;
	p->id = new_id(c);
	*ret_begin = rtbp_msg_begin_request(&c->out, (uint32_t)p->id, method);
	return p;
}

static int check_request(struct rtb_client *c, size_t begin)
{
	size_t size = c->out.size - begin;

	if (rtbp_msg_end(&c->out, begin) < 0)
		return rtbc_fail(c, -ENOMEM, "out of memory");
	if (size - RTBP_HEADER_BYTES > c->frame_limit)
		return rtbc_fail(c, RTB_E_TOO_BIG, "%zu bytes, but the daemon takes at most %zu",
				 size - RTBP_HEADER_BYTES, c->frame_limit);
	/* One message may always go, however small the queue is made. */
	if (begin > c->out_sent && rtbc_queued(c) > c->queue_limit)
		return rtbc_fail(c, RTB_E_BUSY, "the send queue is full");
	return 0;
}

int64_t rtbc_request_end(struct rtb_client *c, struct rtbc_pending *p, size_t begin)
{
	int r = check_request(c, begin);

	if (r < 0) {
		if (p->kind == RTBC_AUTH && c->out.data)
			explicit_bzero(c->out.data + begin, c->out.size - begin);
		if (p->kind == RTBC_AUTH)
			c->out_has_token = false;
		c->out.size = begin;
		c->out.error = 0;
		free(p);
		return r;
	}
	TAILQ_INSERT_TAIL(&c->pending, p, order_link);
	TAILQ_INSERT_TAIL(bucket(c, p->id), p, bucket_link);
	c->n_pending++;
	if (p->topic) {
		TAILQ_INSERT_TAIL(&p->topic->pending, p, topic_link);
		p->topic->n_pending++;
	}
	if (p->tracker)
		p->tracker->n_pending++;
	rtbc_want_write(c);
	return p->id;
}

void rtbc_pending_take(struct rtb_client *c, struct rtbc_pending *p)
{
	TAILQ_REMOVE(&c->pending, p, order_link);
	TAILQ_REMOVE(bucket(c, p->id), p, bucket_link);
	if (p->topic)
		TAILQ_REMOVE(&p->topic->pending, p, topic_link);
	c->n_pending--;
}

void rtbc_pending_free(struct rtb_client *c, struct rtbc_pending *p)
{
	if (p->topic) {
		p->topic->n_pending--;
		c->is_reap_due = true;
	}
	if (p->tracker && --p->tracker->n_pending == 0)
		c->is_reap_due = true;
	free(p);
}

void rtbc_pending_drop_all(struct rtb_client *c)
{
	struct rtbc_pending *p;

	while ((p = TAILQ_FIRST(&c->pending))) {
		rtbc_pending_take(c, p);
		rtbc_pending_free(c, p);
	}
}

void rtbc_forget(struct rtb_client *c, int64_t id)
{
	struct rtbc_pending *p = rtbc_pending_find(c, (uint32_t)id);

	if (p && p->id == id) {
		p->result = NULL;
		p->reply = NULL;
	}
}

/* ---- answers ---- */

static void call_result(struct rtb_client *c, const struct rtbc_pending *p,
			enum rtb_outcome outcome, const char *text, int64_t retry_after_ms,
			const char *code)
{
	struct rtb_result result = { outcome, text, retry_after_ms, code };

	if (!p->result)
		return;
	rtbc_enter(c);
	p->result(c, p->id, &result, p->user);
	rtbc_leave(c);
}

static void call_reply(struct rtb_client *c, const struct rtbc_pending *p, int error,
		       const char *text, struct rtbp_val value)
{
	if (!p->reply)
		return;
	rtbc_enter(c);
	p->reply(c, error, text, value.p, value.size, p->user);
	rtbc_leave(c);
}

static enum rtb_outcome find_outcome(struct rtbp_str name)
{
	/* From there on they are the library's words for error responses. */
	if (rtbp_str_is(name, rtbp_error_name(RTBP_E_BAD_PAYLOAD)))
		return RTB_INVALID; /* found out late */
	for (int i = 0; i < RTB_INVALID; i++)
		if (rtbp_str_is(name, rtb_outcome_name((enum rtb_outcome)i)))
			return (enum rtb_outcome)i;
	return RTB_UNKNOWN;
}

void rtbc_on_result(struct rtb_client *c, const struct rtbc_pending *p, struct rtbp_val result)
{
	struct rtbp_str name = { NULL, 0 };
	char text[RTBC_TEXT_MAX];

	if (p->kind == RTBC_REPLY) {
		call_reply(c, p, 0, "", result);
		return;
	}
	(void)rtbp_get_str(rtbp_field(result, RTBP_F_OUTCOME), &name);
	rtbc_get_text(result, RTBP_F_TEXT, text, sizeof(text));
	call_result(c, p, find_outcome(name), text, -1, "");
}

int rtbc_error_of(const struct rtbp_error_info *e)
{
	switch (e->code) {
	case RTBP_E_TIMEOUT:
		return RTB_E_TIMEOUT;
	case RTBP_E_BAD_TOKEN:
		return RTB_E_TOKEN;
	case RTBP_E_FORBIDDEN:
		return RTB_E_FORBIDDEN;
	default: /* of the first hundred it may succeed later */
		return e->code < 200 ? RTB_E_BUSY : RTB_E_REFUSED;
	}
}

static enum rtb_outcome outcome_of(int code)
{
	switch (code) {
	case RTBP_E_FORBIDDEN:
	case RTBP_E_BAD_TOKEN:
		return RTB_DENIED;
	case RTBP_E_UNSUPPORTED:
		return RTB_UNSUPPORTED;
	case RTBP_E_REJECTED:
		return RTB_NOT_JOINED;
	case RTBP_E_TOO_MANY:
		return RTB_TOO_MANY;
	default:
		return code < 200 ? RTB_BUSY : RTB_INVALID;
	}
}

void rtbc_on_refused(struct rtb_client *c, const struct rtbc_pending *p,
		     const struct rtbp_error_info *e)
{
	struct rtbp_val none = { NULL, 0 };
	char text[RTBC_TEXT_MAX], code[RTBC_CODE_MAX];
	int64_t retry = -1;

	rtbc_copy(code, sizeof(code), e->name);
	rtbc_copy(text, sizeof(text), e->text);
	if (e->has_retry_after && e->retry_after_ms <= INT64_MAX)
		retry = (int64_t)e->retry_after_ms;
	if (p->kind == RTBC_REPLY) {
		call_reply(c, p, rtbc_error_of(e), text, none);
		return;
	}
	call_result(c, p, outcome_of(e->code), text, retry, code);
}

void rtbc_pending_end_all(struct rtb_client *c, bool with_replies)
{
	const char *why = with_replies ? "the daemon went away before it answered"
				       : "the client was freed before the daemon answered";
	struct rtbp_val none = { NULL, 0 };
	struct rtbc_pending *p;

	/* Callbacks cannot add to the list: nothing can be asked for while detached. */
	while ((p = TAILQ_FIRST(&c->pending))) {
		rtbc_pending_take(c, p);
		if (p->kind == RTBC_SEND)
			call_result(c, p, RTB_UNKNOWN, why, -1, "");
		else if (p->kind == RTBC_REPLY && with_replies)
			call_reply(c, p, RTB_E_DETACHED, c->error_text, none);
		rtbc_pending_free(c, p);
	}
}

/* ---- requests ---- */

static int read_options(const struct rtb_send_options *options, struct rtb_send_options *ret)
{
	*ret = (struct rtb_send_options)RTB_SEND_OPTIONS_INIT;
	if (!options)
		return 0;
	if (options->size < sizeof(*ret))
		return -EINVAL;
	*ret = *options;
	return 0;
}

/* What must hold before a request is packed; earlier wishes go first, so that a message never
 * overtakes the subscription made before it. */
static int check_ready(struct rtb_client *c)
{
	int r = rtbc_check_attached(c);

	if (r == 0)
		r = rtbc_flush(c);
	return r;
}

/* What needs a token that is not in force must not go out without it. */
static int check_gate(struct rtb_client *c, const char *topic)
{
	const char *text;

	switch (rtbc_token_gate(c, topic, &text)) {
	case RTBC_GATE_WAIT:
		return rtbc_fail(c, RTB_E_BUSY, "the token is being decided");
	case RTBC_GATE_REFUSED:
		return rtbc_fail(c, RTB_E_TOKEN, "the token was refused: %s", text);
	default:
		return 0;
	}
}

static int check_send(struct rtb_client *c, const char *topic, const char *event,
		      const void *payload, size_t payload_size)
{
	size_t offset;
	int r;

	if (!rtbp_topic_ok((struct rtbp_str){ topic, strlen(topic) }))
		return rtbc_fail(c, RTB_E_TOPIC, "%s", rtb_strerror(RTB_E_TOPIC));
	if (!rtbp_event_ok((struct rtbp_str){ event, strlen(event) }))
		return rtbc_fail(c, RTB_E_EVENT, "%s", rtb_strerror(RTB_E_EVENT));
	if (payload_size > c->frame_limit) /* before it is copied */
		return rtbc_fail(c, RTB_E_TOO_BIG, "%zu bytes, but the daemon takes at most %zu",
				 payload_size, c->frame_limit);
	r = rtbp_check(payload, payload_size, RTBP_JSON_DEPTH, &offset);
	if (r)
		return rtbc_fail(c, RTB_E_PAYLOAD, "bad payload: %s (at byte %zu)",
				 rtbp_val_text(r), offset);
	r = check_ready(c);
	return r < 0 ? r : check_gate(c, topic);
}

int64_t rtb_broadcast(struct rtb_client *c, const char *topic, const char *event,
		      const void *payload, size_t payload_size,
		      const struct rtb_send_options *options)
{
	struct rtb_send_options o;
	struct rtbc_pending *p;
	size_t begin;
	int r;

	r = read_options(options, &o);
	if (r < 0)
		return r;
	r = check_send(c, topic, event, payload, payload_size);
	if (r < 0)
		return r;
	p = rtbc_request_begin(c, RTBP_M_BROADCAST, RTBC_SEND, &begin, &r);
	if (!p)
		return r;
	p->result = o.result;
	p->user = o.user;
	rtbp_pack_map(&c->out, 3 + (o.is_private ? 1 : 0) + (o.ttl_ms ? 1 : 0));
	rtbp_pack_field_text(&c->out, RTBP_F_TOPIC, topic);
	if (o.is_private)
		rtbp_pack_field_bool(&c->out, RTBP_F_PRIVATE, true);
	rtbp_pack_field_text(&c->out, RTBP_F_EVENT, event);
	if (o.ttl_ms)
		rtbp_pack_field_uint(&c->out, RTBP_F_TTL_MS, o.ttl_ms);
	rtbp_pack_field(&c->out, RTBP_F_PAYLOAD);
	rtbp_pack_val(&c->out, (struct rtbp_val){ payload, payload_size });
	return rtbc_request_end(c, p, begin);
}

int64_t rtb_broadcast_json(struct rtb_client *c, const char *topic, const char *event,
			   const char *json, size_t json_size,
			   const struct rtb_send_options *options)
{
	char error[RTBC_TEXT_MAX / 2];
	void *payload;
	size_t size;
	int64_t r;

	if (json_size == (size_t)-1)
		json_size = strlen(json);
	r = rtb_json_to_msgpack(json, json_size, &payload, &size, error, sizeof(error));
	if (r == RTB_E_PAYLOAD)
		return rtbc_fail(c, RTB_E_PAYLOAD, "bad payload: %s", error);
	if (r < 0)
		return rtbc_fail(c, (int)r, "out of memory");
	r = rtb_broadcast(c, topic, event, payload, size, options);
	free(payload);
	return r;
}

static int64_t ask(struct rtb_client *c, enum rtbp_method method, bool upstream, rtb_reply_fn fn,
		   void *user)
{
	struct rtbc_pending *p;
	size_t begin;
	int r = check_ready(c);

	if (r < 0)
		return r;
	p = rtbc_request_begin(c, method, RTBC_REPLY, &begin, &r);
	if (!p)
		return r;
	p->reply = fn;
	p->user = user;
	rtbp_pack_map(&c->out, upstream ? 1 : 0);
	if (upstream)
		rtbp_pack_field_bool(&c->out, RTBP_F_UPSTREAM, true);
	return rtbc_request_end(c, p, begin);
}

int64_t rtb_status(struct rtb_client *c, rtb_reply_fn fn, void *user)
{
	return ask(c, RTBP_M_STATUS, false, fn, user);
}

int64_t rtb_sync(struct rtb_client *c, bool upstream, rtb_reply_fn fn, void *user)
{
	return ask(c, RTBP_M_SYNC, upstream, fn, user);
}
