/* SPDX-License-Identifier: MIT */
/*
 * From frames to callbacks.
 *
 * Strings for callbacks are copied so that they end in a NUL. All but event names go into fixed
 * arrays (they are words and sentences for people, cut when longer); only a long event name needs
 * memory, and is fetched before anything else happens, so that a frame can be tried again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"

void rtbc_get_text(struct rtbp_val map, enum rtbp_field field, char *to, size_t size)
{
	struct rtbp_str s = { NULL, 0 };

	(void)rtbp_get_str(rtbp_field(map, field), &s);
	rtbc_copy(to, size, s);
}

static int64_t get_ms(struct rtbp_val map, enum rtbp_field field)
{
	int64_t ms;

	return rtbp_get_int(rtbp_field(map, field), &ms) ? ms : -1;
}

bool rtbc_has_feature(struct rtbp_val result, const char *name)
{
	struct rtbp_iter it;
	struct rtbp_val v;
	struct rtbp_str s;

	if (!rtbp_iter_array(rtbp_field(result, RTBP_F_FEATURES), &it))
		return false;
	while (rtbp_iter_next(&it, &v))
		if (rtbp_get_str(v, &s) && rtbp_str_is(s, name))
			return true;
	return false;
}

int rtbc_protocol_error(struct rtb_client *c, const char *what, size_t offset)
{
	(void)rtbc_fail(c, 0,
			"the daemon sent a frame that this library does not understand: %s "
			"(at byte %zu)",
			what, offset);
	rtbc_detach(c, RTB_E_PROTOCOL, false);
	return 1;
}

/* The daemon ends this connection. Only two of its reasons are for good. */
static int ended_by_daemon(struct rtb_client *c, const struct rtbp_error_info *e)
{
	bool is_final = e->code == RTBP_E_VERSION || e->code == RTBP_E_DENIED;

	(void)rtbc_fail(c, 0, "the daemon ended the connection: %.*s (%d %.*s)", (int)e->text.size,
			e->text.p, e->code, (int)e->name.size, e->name.p);
	rtbc_detach(c, is_final ? RTB_E_FAILED : RTB_E_DETACHED, is_final);
	return 1;
}

/* ---- notifications ---- */

void rtbc_tell_connection(struct rtb_client *c, struct rtbp_val v)
{
	char state[RTBC_CODE_MAX], reason[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];
	struct rtb_connection conn = { state, reason, text, 0, -1 };

	if (!c->handlers.connection || !rtbp_is(v, RTBP_MAP))
		return;
	rtbc_get_text(v, RTBP_F_STATE, state, sizeof(state));
	rtbc_get_text(v, RTBP_F_REASON, reason, sizeof(reason));
	rtbc_get_text(v, RTBP_F_TEXT, text, sizeof(text));
	conn.since_unix_ms = get_ms(v, RTBP_F_SINCE);
	conn.next_try_ms = get_ms(v, RTBP_F_NEXT_TRY_MS);
	rtbc_enter(c);
	c->handlers.connection(c, &conn, c->user);
	rtbc_leave(c);
}

static void get_map(struct rtbp_val params, enum rtbp_field field, const void **ret,
		    size_t *ret_size)
{
	struct rtbp_val v = rtbp_field(params, field);

	if (rtbp_is(v, RTBP_MAP)) {
		*ret = v.p;
		*ret_size = v.size;
	}
}

static void get_meta(struct rtbp_val params, struct rtb_broadcast *msg, char id[RTBC_META_ID_SIZE])
{
	static const char replayed[] = "replayed";
	struct rtbp_val meta = rtbp_field(params, RTBP_F_META);
	struct rtbp_str s;

	id[0] = '\0';
	msg->id = id;
	get_map(params, RTBP_F_META, &msg->meta, &msg->meta_size);
	if (rtbp_get_str(rtbp_field(meta, RTBP_F_ID), &s) && s.size < RTBC_META_ID_SIZE)
		rtbc_copy(id, RTBC_META_ID_SIZE, s);
	(void)rtbp_get_bool(rtbp_find(meta, replayed, sizeof(replayed) - 1), &msg->replayed);
}

static int on_broadcast(struct rtb_client *c, struct rtbp_val params)
{
	char small[RTBP_EVENT_MAX + 1], *event = small, id[RTBC_META_ID_SIZE];
	struct rtb_broadcast msg = { 0 };
	struct rtbp_str name = { NULL, 0 };
	struct rtbp_val payload = rtbp_field(params, RTBP_F_PAYLOAD);
	struct rtbc_topic *t;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &msg.chan))
		return rtbc_protocol_error(c, "a broadcast without chan", 0);
	if (!payload.p) {
		payload = rtbp_field(params, RTBP_F_RAW);
		msg.raw = true;
	}
	if (!payload.p)
		return rtbc_protocol_error(c, "a broadcast without payload", 0);
	t = rtbc_topic_by_chan(c, msg.chan);
	if (!t)
		return 0; /* on its way while we unsubscribed */
	(void)rtbp_get_str(rtbp_field(params, RTBP_F_EVENT), &name);
	if (name.size >= sizeof(small)) {
		event = malloc(name.size + 1);
		if (!event)
			return -ENOMEM;
	}
	rtbc_copy(event, name.size + 1, name);
	msg.topic = t->name;
	msg.event = event;
	msg.payload = payload.p;
	msg.payload_size = payload.size;
	get_map(params, RTBP_F_EXTRA, &msg.extra, &msg.extra_size);
	(void)rtbp_get_bool(rtbp_field(params, RTBP_F_UNDECODABLE), &msg.undecodable);
	get_meta(params, &msg, id);
	rtbc_topic_deliver(t, &msg, name.size);
	rtbc_replay_passed(t, &msg);
	if (event != small)
		free(event);
	return 0;
}

static int on_gap(struct rtb_client *c, struct rtbp_val params)
{
	char cause[RTBC_CODE_MAX];
	struct rtbp_val ids = rtbp_field(params, RTBP_F_IDS);
	struct rtb_gap gap = { .cause = cause };
	struct rtbc_topic *t;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &gap.chan))
		return rtbc_protocol_error(c, "a gap without chan", 0);
	t = rtbc_topic_by_chan(c, gap.chan);
	if (!t)
		return 0;
	rtbc_get_text(params, RTBP_F_CAUSE, cause, sizeof(cause));
	gap.topic = t->name;
	gap.from_unix_ms = get_ms(params, RTBP_F_FROM);
	gap.to_unix_ms = get_ms(params, RTBP_F_TO);
	gap.stored = rtbc_get_stored(params);
	(void)rtbp_get_uint(rtbp_field(params, RTBP_F_N), &gap.n);
	if (rtbp_is(ids, RTBP_ARRAY)) {
		rtbc_watches_tell_gap(t, ids, &gap);
	} else {
		rtbc_replay_on_gap(t, &gap);
		rtbc_topic_tell_gap(t, &gap);
	}
	return 0;
}

static int on_error_notice(struct rtb_client *c, struct rtbp_val params)
{
	char name[RTBC_CODE_MAX], text[RTBC_TEXT_MAX];
	struct rtbp_error_info e;

	if (!rtbp_msg_error(rtbp_field(params, RTBP_F_ERROR), &e))
		return rtbc_protocol_error(c, "an error that is none", 0);
	if (e.code >= 400)
		return ended_by_daemon(c, &e);
	if (rtbc_on_track_refused(c, params, &e) || rtbc_on_token_ended(c, params, &e) ||
	    !c->handlers.error)
		return 0;
	rtbc_copy(name, sizeof(name), e.name);
	rtbc_copy(text, sizeof(text), e.text);
	rtbc_enter(c);
	c->handlers.error(c, e.code, name, text, c->user);
	rtbc_leave(c);
	return 0;
}

static int on_notice(struct rtb_client *c, const struct rtbp_msg *m)
{
	switch (rtbp_notice_find(m->method.p, m->method.size)) {
	case RTBP_N_BROADCAST:
		return on_broadcast(c, m->params);
	case RTBP_N_CHANNEL:
		rtbc_on_channel(c, m->params);
		return 0;
	case RTBP_N_PRESENCE:
		return rtbc_on_presence(c, m->params);
	case RTBP_N_GAP:
		return on_gap(c, m->params);
	case RTBP_N_POSTGRES_CHANGES:
		return rtbc_on_change(c, m->params);
	case RTBP_N_CONNECTION:
		rtbc_tell_connection(c, m->params);
		return 0;
	case RTBP_N_ERROR:
		return on_error_notice(c, m->params);
	case RTBP_N_REPLAY:
		rtbc_on_replay(c, m->params);
		return 0;
	case RTBP_N_SYSTEM:
		rtbc_on_system(c, m->params);
		return 0;
	case RTBP_N_TRACK:
		rtbc_on_track_notice(c, m->params);
		return 0;
	default:
		return 0; /* from a later daemon */
	}
}

/* ---- responses ---- */

static int on_hello_answer(struct rtb_client *c, const struct rtbp_msg *m,
			   const struct rtbp_error_info *e)
{
	uint64_t protocol;
	int r;

	if (m->id != 0)
		return rtbc_protocol_error(c, "an answer before the one to hello", 0);
	if (e)
		return rtbc_token_hello_refused(c, e) ? 1 : ended_by_daemon(c, e);
	if (!rtbp_get_uint(rtbp_field(m->result, RTBP_F_PROTOCOL), &protocol) ||
	    protocol != RTBP_PROTOCOL)
		return rtbc_protocol_error(c, "the answer to hello names another protocol", 0);
	r = rtbc_tokens_check_hello(c, m->result);
	if (r < 0) {
		rtbc_detach(c, r, false);
		return 1;
	}
	rtbc_on_hello(c, m->result);
	return 0;
}

/* Whether a callback waits for the answer. */
static bool asks(enum rtbc_kind kind)
{
	return kind == RTBC_SEND || kind == RTBC_REPLY || kind == RTBC_OUTCOME;
}

/* The request stays in the table until it is certain that its answer can be handled. */
static int on_answer(struct rtb_client *c, const struct rtbp_msg *m,
		     const struct rtbp_error_info *e)
{
	struct rtbc_pending *p = rtbc_pending_find(c, m->id);
	int r;

	if (!p)
		return 0;
	if (p->stage != RTBC_SENT) {
		rtbc_lost_answered(c, p, m->result, e);
		return 0;
	}
	if (p->kind == RTBC_SUBSCRIBE && !e) {
		r = rtbc_on_subscribed(p->topic, p->serial, m->result);
		if (r == RTB_E_PROTOCOL)
			return rtbc_protocol_error(c, "a presence snapshot that is none", 0);
		if (r != 0)
			return r;
	}
	rtbc_pending_take(c, p);
	if (p->kind == RTBC_AUTH && e)
		rtbc_on_token_error(c, p->user, e);
	else if (p->kind == RTBC_AUTH)
		rtbc_on_token_answer(c, p->user, m->result);
	else if (p->kind == RTBC_SUBSCRIBE && e)
		rtbc_on_subscribe_error(c, p->topic, p->serial, e);
	else if (p->kind == RTBC_TRACK && e)
		rtbc_on_track_error(p->tracker, p->serial, e);
	else if (p->kind == RTBC_TRACK)
		rtbc_on_tracked(p->tracker, p->serial, m->result);
	else if (asks(p->kind) && e)
		rtbc_on_refused(c, p, e);
	else if (asks(p->kind))
		rtbc_on_result(c, p, m->result);
	rtbc_pending_free(c, p);
	return 0;
}

int rtbc_dispatch(struct rtb_client *c, const void *body, size_t size)
{
	struct rtbp_error_info info, *e = NULL;
	struct rtbp_fault fault;
	struct rtbp_msg m;

	if (rtbp_msg_parse(body, size, &m, &fault))
		return rtbc_protocol_error(c, fault.text, fault.offset);
	if (m.type == RTBP_REQUEST)
		return rtbc_protocol_error(c, "a request", 0);
	if (m.type == RTBP_NOTIFICATION)
		return on_notice(c, &m);
	if (m.error.p) {
		e = &info;
		if (!rtbp_msg_error(m.error, &info))
			return rtbc_protocol_error(c, "an error that is none", 0);
	}
	if (c->phase == RTBC_HELLO)
		return on_hello_answer(c, &m, e);
	if (e && e->code >= 400)
		return ended_by_daemon(c, e);
	return on_answer(c, &m, e);
}
