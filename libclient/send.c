/* SPDX-License-Identifier: MIT */
/*
 * Requests: packed straight into the send queue, remembered until their answer comes.
 *
 * A request is all or nothing: rtbc_request_end() takes the bytes back when anything went wrong, so
 * a failed call leaves no trace. Each accepted send has exactly one entry in the table, and each
 * entry leaves it once: by its answer, by the end of the attachment (unless the next one can be
 * asked what became of it: outcome.c), or with the client.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"

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

struct rtbc_pending *rtbc_request_begin_named(struct rtb_client *c, enum rtbp_method method,
					      enum rtbc_kind kind, const char *name,
					      size_t *ret_begin, int *ret_error)
{
	bool is_counted = kind == RTBC_SEND || kind == RTBC_REPLY || kind == RTBC_OUTCOME;
	struct rtbc_pending *p;

	/* Behind a token nothing is queued: see token.h. */
	if (c->out_has_token || rtbc_queued(c) >= c->queue_limit ||
	    (is_counted && c->n_pending >= RTBC_PENDING_MAX)) {
		*ret_error = rtbc_fail(c, RTB_E_BUSY, "the send queue is full");
		return NULL;
	}
	p = calloc(1, sizeof(*p) + strlen(name) + 1);
	if (!p) {
		*ret_error = rtbc_fail(c, -ENOMEM, "out of memory");
		return NULL;
	}
	(void)strcpy(p->name, name);
	p->kind = kind;
	p->id = new_id(c);
	*ret_begin = rtbp_msg_begin_request(&c->out, (uint32_t)p->id, method);
	return p;
}

struct rtbc_pending *rtbc_request_begin(struct rtb_client *c, enum rtbp_method method,
					enum rtbc_kind kind, size_t *ret_begin, int *ret_error)
{
	return rtbc_request_begin_named(c, method, kind, "", ret_begin, ret_error);
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

int rtbc_request_check(struct rtb_client *c, size_t begin)
{
	int r = check_request(c, begin);

	if (r == 0) {
		rtbc_want_write(c);
		return 0;
	}
	if (c->out.data) /* it may have been a token */
		explicit_bzero(c->out.data + begin, c->out.size - begin);
	c->out.size = begin;
	c->out.error = 0;
	return r;
}

int64_t rtbc_request_end(struct rtb_client *c, struct rtbc_pending *p, size_t begin)
{
	int r = rtbc_request_check(c, begin);

	if (r < 0) {
		if (p->kind == RTBC_AUTH)
			c->out_has_token = false;
		free(p);
		return r;
	}
	c->n_sends += p->kind == RTBC_SEND;
	TAILQ_INSERT_TAIL(&c->pending, p, order_link);
	TAILQ_INSERT_TAIL(bucket(c, p->id), p, bucket_link);
	c->n_pending++;
	if (p->topic) {
		TAILQ_INSERT_TAIL(&p->topic->pending, p, topic_link);
		p->topic->n_pending++;
	}
	if (p->tracker)
		p->tracker->n_pending++;
	return p->id;
}

void rtbc_pending_take(struct rtb_client *c, struct rtbc_pending *p)
{
	TAILQ_REMOVE(p->stage == RTBC_SENT ? &c->pending : &c->lost, p, order_link);
	TAILQ_REMOVE(bucket(c, p->id), p, bucket_link);
	if (p->topic)
		TAILQ_REMOVE(&p->topic->pending, p, topic_link);
	c->n_pending--;
}

void rtbc_pending_free(struct rtb_client *c, struct rtbc_pending *p)
{
	c->n_sends -= p->kind == RTBC_SEND;
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

	while ((p = TAILQ_FIRST(&c->pending)) || (p = TAILQ_FIRST(&c->lost))) {
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
			struct rtb_result *result)
{
	char name[RTBC_NAME_SIZE];

	if (!p->result)
		return;
	if (!result->word)
		result->word = rtb_outcome_name(result->outcome);
	result->id = rtbc_send_name(c, p, name);
	rtbc_enter(c);
	p->result(c, p->id, result, p->user);
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

/* `extra`: one more that is possible here. */
static enum rtb_outcome find_outcome(struct rtbp_str name, enum rtb_outcome extra)
{
	/* From there on they are the library's words for error responses. */
	for (int i = 0; i < RTB_INVALID; i++)
		if (rtbp_str_is(name, rtb_outcome_name((enum rtb_outcome)i)))
			return (enum rtb_outcome)i;
	if (rtbp_str_is(name, rtb_outcome_name(RTB_BAD_PAYLOAD)))
		return RTB_BAD_PAYLOAD;
	if (rtbp_str_is(name, rtb_outcome_name(extra)))
		return extra;
	return name.size ? RTB_OTHER : RTB_UNKNOWN;
}

static enum rtb_via get_via(struct rtbp_val result)
{
	struct rtbp_str via = { NULL, 0 };

	(void)rtbp_get_str(rtbp_field(result, RTBP_F_VIA), &via);
	if (rtbp_str_is(via, rtbc_via_name(RTB_VIA_WS)))
		return RTB_VIA_WS;
	return rtbp_str_is(via, rtbc_via_name(RTB_VIA_HTTP)) ? RTB_VIA_HTTP : RTB_VIA_AUTO;
}

void rtbc_on_result(struct rtb_client *c, const struct rtbc_pending *p, struct rtbp_val result)
{
	struct rtbp_str name = { NULL, 0 };
	char text[RTBC_TEXT_MAX], word[RTBC_CODE_MAX];
	struct rtb_result told = { .text = text, .retry_after_ms = -1, .code = "" };

	if (p->kind == RTBC_REPLY) {
		call_reply(c, p, 0, "", result);
		return;
	}
	(void)rtbp_get_str(rtbp_field(result, RTBP_F_OUTCOME), &name);
	rtbc_get_text(result, RTBP_F_TEXT, text, sizeof(text));
	told.outcome = find_outcome(name, p->kind == RTBC_OUTCOME ? RTB_PENDING : RTB_ACKED);
	if (told.outcome == RTB_OTHER) {
		rtbc_copy(word, sizeof(word), name);
		told.word = word;
	}
	if (!rtbp_get_int(rtbp_field(result, RTBP_F_RETRY_IN_MS), &told.retry_after_ms) ||
	    told.retry_after_ms < 0)
		told.retry_after_ms = -1;
	told.via = get_via(result);
	call_result(c, p, &told);
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
	struct rtb_result told = { .text = text, .retry_after_ms = -1, .code = code };

	rtbc_copy(code, sizeof(code), e->name);
	rtbc_copy(text, sizeof(text), e->text);
	if (e->has_retry_after && e->retry_after_ms <= INT64_MAX)
		told.retry_after_ms = (int64_t)e->retry_after_ms;
	if (p->kind == RTBC_REPLY) {
		call_reply(c, p, rtbc_error_of(e), text, none);
		return;
	}
	/* That a question was refused says nothing about the send. */
	told.outcome = p->kind == RTBC_OUTCOME ? RTB_UNKNOWN : outcome_of(e->code);
	call_result(c, p, &told);
}

void rtbc_end_unknown(struct rtb_client *c, struct rtbc_pending *p, const char *why,
		      const char *code)
{
	struct rtb_result told = {
		.outcome = RTB_UNKNOWN, .text = why, .retry_after_ms = -1, .code = code
	};

	rtbc_pending_take(c, p);
	call_result(c, p, &told);
	rtbc_pending_free(c, p);
}

void rtbc_pending_end_all(struct rtb_client *c, bool with_replies)
{
	const char *why = with_replies ? "the daemon went away before it answered"
				       : "the client was freed before the daemon answered";
	struct rtbp_val none = { NULL, 0 };
	struct rtbc_pending *p;

	/* Callbacks cannot add to the list: nothing can be asked for while detached. */
	while ((p = TAILQ_FIRST(&c->pending))) {
		if (p->kind == RTBC_SEND && p->has_name && c->phase != RTBC_FAILED) {
			rtbc_lost_add(c, p);
			continue;
		}
		if (p->kind == RTBC_SEND || (p->kind == RTBC_OUTCOME && with_replies)) {
			rtbc_end_unknown(c, p, why, p->kind == RTBC_SEND ? "" : "detached");
			continue;
		}
		rtbc_pending_take(c, p);
		if (p->kind == RTBC_REPLY && with_replies)
			call_reply(c, p, RTB_E_DETACHED, c->error_text, none);
		rtbc_pending_free(c, p);
	}
	if (c->phase == RTBC_FAILED)
		rtbc_lost_end_all(c, why);
}
