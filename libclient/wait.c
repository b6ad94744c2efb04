/* SPDX-License-Identifier: MIT */
/* Helpers for programs without a loop: poll, process, until it is done. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"

/* When a wait ends; -1: never. */
static int64_t end_of(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : rtbc_now_ms() + timeout_ms;
}

static int left_ms(int64_t end)
{
	int64_t left;

	if (end < 0)
		return -1;
	left = end - rtbc_now_ms();
	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

int rtb_wait(struct rtb_client *c, int timeout_ms)
{
	struct pollfd p = { .fd = rtb_client_fd(c), .events = rtb_client_events(c) };
	int next = rtb_client_timeout_ms(c);

	if (c->in_callback)
		return -EDEADLK;
	if (next >= 0 && (timeout_ms < 0 || next < timeout_ms))
		timeout_ms = next;
	if (rtb_client_state(c) == RTB_FAILED)
		return RTB_E_FAILED;
	if (poll(&p, 1, timeout_ms) < 0)
		return -errno;
	return rtb_client_process(c);
}

/* One turn of a longer wait. Return: 0 go on; RTB_E_TIMEOUT (but what is waited for may have come
 * in this last turn), RTB_E_FAILED, -EINTR. */
static int turn(struct rtb_client *c, int64_t end, const char *what)
{
	int left = left_ms(end), r = rtb_wait(c, left);

	/* The client is usable without memory, and it may come back. */
	if (r < 0 && r != -ENOMEM)
		return r;
	return left == 0 ? rtbc_fail(c, RTB_E_TIMEOUT, "%s: not done in time", what) : 0;
}

static int until_attached(struct rtb_client *c, int64_t end)
{
	char text[RTBC_TEXT_MAX];
	int r = 0;

	if (c->in_callback)
		return -EDEADLK;
	while (r == 0 && rtb_client_state(c) != RTB_ATTACHED) {
		if (c->waits_for_token)
			return RTB_E_TOKEN; /* error_text has the words */
		memcpy(text, c->error_text, sizeof(text));
		r = turn(c, end, "attaching to the daemon");
		if (r == RTB_E_TIMEOUT && text[0]) /* the reason says more than the time */
			memcpy(c->error_text, text, sizeof(text));
	}
	return rtb_client_state(c) == RTB_ATTACHED ? 0 : r;
}

int rtb_wait_attached(struct rtb_client *c, int timeout_ms)
{
	return until_attached(c, end_of(timeout_ms));
}

int rtb_wait_ready(struct rtb_sub *sub, int timeout_ms)
{
	struct rtb_client *c = sub->topic->client;
	int64_t end = end_of(timeout_ms);
	const struct rtbc_refusal *refusal;
	enum rtb_channel_state state;
	int r = 0;

	if (c->in_callback)
		return -EDEADLK;
	c->waited = sub;
	for (;;) {
		if (!c->waited) /* a callback has unsubscribed it: `sub` is gone */
			return rtbc_fail(c, -ECANCELED, "unsubscribed");
		state = rtbc_sub_state(sub);
		if (state == RTB_CHANNEL_READY && sub->reported == state)
			r = 0;
		else if ((refusal = rtbc_sub_refusal(sub)) && refusal->is_final)
			r = rtbc_fail(c, rtbc_refused_error(refusal->code), "%s (%s)",
				      refusal->text, refusal->code);
		else if (state == RTB_CHANNEL_REJECTED || state == RTB_CHANNEL_CLOSED)
			r = rtbc_fail(c, rtbc_refused_error(sub->topic->code), "%s (%s)",
				      sub->topic->text, sub->topic->code);
		else if (r == 0) {
			r = turn(c, end, "joining");
			continue;
		}
		c->waited = NULL;
		return r;
	}
}

int rtb_wait_shown(struct rtb_tracker *tr, int timeout_ms)
{
	struct rtb_client *c = tr->client;
	int64_t end = end_of(timeout_ms);
	int r = 0;

	if (c->in_callback)
		return -EDEADLK;
	c->waited_tracker = tr;
	for (;;) {
		if (!c->waited_tracker) /* a callback has ended it: `tr` is gone */
			return rtbc_fail(c, -ECANCELED, "untracked");
		if (tr->result == RTB_TRACK_SHOWN && tr->reported == tr->n_changes)
			r = 0;
		else if (tr->result == RTB_TRACK_REFUSED)
			r = rtbc_fail(c, rtbc_refused_error(tr->code), "%s (%s)", tr->text,
				      tr->code);
		else if (r == 0) {
			r = turn(c, end, "tracking");
			continue;
		}
		c->waited_tracker = NULL;
		return r;
	}
}

int rtb_wait_watch(struct rtb_watch *w, int timeout_ms)
{
	struct rtb_client *c = rtb_watch_client(w);
	int64_t end = end_of(timeout_ms);
	const struct rtbc_binding *b;
	int r = 0;

	if (c->in_callback)
		return -EDEADLK;
	c->waited_watch = w;
	for (;;) {
		if (!c->waited_watch) /* a callback has ended it: `w` is gone */
			return rtbc_fail(c, -ECANCELED, "unwatched");
		b = w->binding;
		if (b->state == RTB_WATCH_READY && w->reported == b->n_changes)
			r = 0;
		else if (b->state == RTB_WATCH_ERROR)
			r = rtbc_fail(c, rtbc_refused_error(b->code), "%s (%s)", b->text, b->code);
		else if (r == 0) {
			r = turn(c, end, "database changes");
			continue;
		}
		c->waited_watch = NULL;
		return r;
	}
}

/* ---- requests ---- */

struct answer {
	bool is_there;
	int error;
	struct rtb_sent *sent;
	char code[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];
	bool wants_json;
	char *json;
};

/* Waits for the answer to `id`, which is the result of the request. */
static int until_answered(struct rtb_client *c, int64_t id, const struct answer *a, int64_t end,
			  const char *what)
{
	int r = id < 0 ? (int)id : 0;

	while (r == 0 && !a->is_there)
		r = turn(c, end, what);
	if (r == 0 || a->is_there)
		return 0;
	if (id > 0)
		rtbc_forget(c, id); /* `a` is about to go out of scope */
	return r;
}

/* Whether the request is to be made again: the queue was full, and a turn may have emptied it.
 * @ret: what ended the wait for that, else 0. */
static bool is_busy(struct rtb_client *c, int64_t id, int64_t end, int *ret)
{
	*ret = id == RTB_E_BUSY ? turn(c, end, "room in the send queue") : 0;
	return id == RTB_E_BUSY && *ret == 0;
}

static void keep_text(struct answer *a, const char *text)
{
	rtbc_copy(a->text, sizeof(a->text), (struct rtbp_str){ text, strlen(text) });
}

static void on_outcome(struct rtb_client *c, int64_t id, const struct rtb_result *result,
		       void *user)
{
	struct answer *a = user;

	(void)c;
	(void)id;
	a->is_there = true;
	a->sent->outcome = result->outcome;
	a->sent->via = result->via;
	a->sent->retry_after_ms = result->retry_after_ms;
	rtbc_copy(a->code, sizeof(a->code),
		  (struct rtbp_str){ result->code, strlen(result->code) });
	keep_text(a, result->text);
}

/* Until it was given to the library. Return: its number, or an error. */
static int64_t until_sent(struct rtb_client *c, const char *topic, const char *event,
			  const void *payload, size_t payload_size,
			  const struct rtb_send_options *o, int64_t end)
{
	int64_t id;
	int r = until_attached(c, end);

	if (r < 0)
		return r;
	do
		id = rtb_broadcast(c, topic, event, payload, payload_size, o);
	while (is_busy(c, id, end, &r));
	return r < 0 ? r : id;
}

int rtb_wait_send(struct rtb_client *c, const char *topic, const char *event, const void *payload,
		  size_t payload_size, const struct rtb_send_options *options, int timeout_ms,
		  struct rtb_sent *ret)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct answer a = { .sent = ret };
	int64_t end = end_of(timeout_ms), id;
	char name[RTBC_NAME_SIZE];
	int r;

	*ret = (struct rtb_sent){ .outcome = RTB_UNKNOWN, .retry_after_ms = -1 };
	if (options && options->size < offsetof(struct rtb_send_options, via))
		return -EINVAL;
	if (options)
		memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
	o.size = sizeof(o);
	o.result = on_outcome;
	o.user = &a;
	id = until_sent(c, topic, event, payload, payload_size, &o, end);
	if (id < 0)
		return (int)id;
	ret->is_sent = true;
	(void)strcpy(ret->id, rtbc_send_name(c, rtbc_pending_find(c, (uint32_t)id), name));
	r = until_answered(c, id, &a, end, "sending");
	if (r == 0)
		memcpy(c->error_text, a.text, sizeof(a.text));
	return r;
}

int rtb_wait_broadcast_json(struct rtb_client *c, const char *topic, const char *event,
			    const char *json, const struct rtb_send_options *options,
			    int timeout_ms, enum rtb_outcome *ret_outcome)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct rtb_sent sent;
	int r;

	if (options && options->size < offsetof(struct rtb_send_options, via))
		return -EINVAL;
	if (options)
		memcpy(&o, options, options->size < sizeof(o) ? options->size : sizeof(o));
	o.size = sizeof(o);
	o.form = RTB_JSON;
	r = rtb_wait_send(c, topic, event, json, (size_t)-1, &o, timeout_ms, &sent);
	if (r == 0)
		*ret_outcome = sent.outcome;
	return r;
}

static const char detached[] = "detached"; /* as rtbc_pending_end_all() has it */

/* The daemon, or this attachment, could not tell now: another question may. */
static bool is_for_now(const char *code)
{
	return strcmp(code, detached) == 0 || strcmp(code, rtbp_error_name(RTBP_E_BUSY)) == 0 ||
	       strcmp(code, rtbp_error_name(RTBP_E_TIMEOUT)) == 0;
}

/* One question. Return: 0 with @a, or an error. */
static int ask_outcome(struct rtb_client *c, const char *id, struct answer *a, int64_t end)
{
	int r = until_attached(c, end);
	int64_t number;

	if (r < 0)
		return r;
	do
		number = rtb_outcome(c, id, on_outcome, a);
	while (is_busy(c, number, end, &r));
	if (number == RTB_E_DETACHED) { /* since then */
		(void)strcpy(a->code, detached);
		return 0;
	}
	return r < 0 ? r : until_answered(c, number, a, end, "asking for an outcome");
}

int rtb_wait_outcome(struct rtb_client *c, const char *id, int timeout_ms, struct rtb_sent *ret)
{
	int64_t end = end_of(timeout_ms), pause = RTBC_ASK_FIRST_MS, until;
	char name[RTBC_NAME_SIZE + 1]; /* one that is too long stays so */
	struct answer a;
	int r;

	(void)snprintf(name, sizeof(name), "%s", id ? id : ""); /* it may stand in @ret */
	*ret = (struct rtb_sent){ .outcome = RTB_UNKNOWN, .retry_after_ms = -1, .is_sent = true };
	for (;; pause = 2 * pause < RTBC_ASK_CAP_MS ? 2 * pause : RTBC_ASK_CAP_MS) {
		a = (struct answer){ .sent = ret };
		r = ask_outcome(c, name, &a, end);
		rtbc_copy(ret->id, sizeof(ret->id), (struct rtbp_str){ name, strlen(name) });
		if (r < 0)
			return r;
		if (ret->outcome != RTB_PENDING && !is_for_now(a.code))
			break;
		until = rtbc_now_ms() + pause;
		while (r == 0 && rtbc_now_ms() < until && left_ms(end) != 0)
			r = turn(c, end < 0 || until < end ? until : end, "an outcome");
		if (r < 0 && r != RTB_E_TIMEOUT)
			return r;
		if (left_ms(end) == 0)
			return rtbc_fail(c, RTB_E_TIMEOUT, "the send is pending");
	}
	memcpy(c->error_text, a.text, sizeof(a.text));
	if (*a.code && strcmp(a.code, rtbp_error_name(RTBP_E_UNKNOWN_ID)) != 0)
		return RTB_E_REFUSED;
	return 0;
}

int rtb_wait_flush(struct rtb_client *c, int timeout_ms)
{
	int64_t end = end_of(timeout_ms);
	int r = 0;

	if (c->in_callback)
		return -EDEADLK;
	while (r == 0 && c->n_sends)
		r = turn(c, end, "sending");
	return c->n_sends ? r : 0;
}

static void on_reply(struct rtb_client *c, int error, const char *error_text, const void *value,
		     size_t value_size, void *user)
{
	struct answer *a = user;

	(void)c;
	a->is_there = true;
	a->error = error;
	keep_text(a, error_text);
	if (error == 0 && a->wants_json)
		a->error = rtb_msgpack_to_json(value, value_size, &a->json, NULL, a->text,
					       sizeof(a->text));
}

static int finish_reply(struct rtb_client *c, const struct answer *a)
{
	if (a->error < 0)
		return rtbc_fail(c, a->error, "%s", a->text);
	return 0;
}

int rtb_wait_status_json(struct rtb_client *c, int timeout_ms, char **ret_json)
{
	struct answer a = { .wants_json = true };
	int64_t end = end_of(timeout_ms), id;
	int r = until_attached(c, end);

	if (r < 0)
		return r;
	do
		id = rtb_status(c, on_reply, &a);
	while (is_busy(c, id, end, &r));
	if (r == 0)
		r = until_answered(c, id, &a, end, "asking for the status");
	if (r == 0)
		r = finish_reply(c, &a);
	if (r == 0)
		*ret_json = a.json;
	return r;
}

int rtb_wait_sync(struct rtb_client *c, bool upstream, int timeout_ms)
{
	int64_t end = end_of(timeout_ms), id;
	struct answer a = { 0 };
	int r = until_attached(c, end);

	if (r < 0)
		return r;
	do
		id = rtb_sync(c, upstream, on_reply, &a);
	while (is_busy(c, id, end, &r));
	if (r == 0)
		r = until_answered(c, id, &a, end, "the barrier");
	return r < 0 ? r : finish_reply(c, &a);
}

static void on_token(struct rtb_client *c, const char *topic, const struct rtb_token_result *result,
		     void *user)
{
	struct answer *a = user;

	(void)c;
	(void)topic;
	a->is_there = true;
	a->error = result->error;
	keep_text(a, result->text);
}

int rtb_wait_token(struct rtb_client *c, const char *topic, const char *token, int timeout_ms)
{
	int64_t end = end_of(timeout_ms);
	struct answer a = { 0 };
	int r;

	if (c->in_callback)
		return -EDEADLK;
	r = rtb_set_token(c, topic, token, on_token, &a);
	while (r == 0 && !a.is_there)
		r = turn(c, end, "setting the token");
	if (a.is_there)
		return finish_reply(c, &a);
	rtbc_token_forget(c, on_token, &a); /* `a` is about to go out of scope */
	return r;
}
