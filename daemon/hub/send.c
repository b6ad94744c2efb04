/* SPDX-License-Identifier: MIT */
/*
 * send: one broadcast of a peer, from request to outcome.
 *
 *     QUEUED (join not joined, or the link's mailbox full) --sends_flush()--> GIVEN (to the link,
 * never again) | ttl: expired, join refused: not_joined             | ack: acked (then the others
 * here get it) |                                                    | a later ack first: denied;
 * link or channel ended, v                                                    v or 10 s without
 * ack: unknown; error reply: too_big ... one outcome, freed
 *
 * The message is packed once, as the notification that the others will get; the payload for the
 * server is read from there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/acl.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

int send_id_compare(struct send *a, struct send *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(send_tree, send, by_id, send_id_compare)

/* What a broadcast request says, unpacked. */
struct ask {
	struct chan *chan;
	struct rtbp_str event;
	struct rtbp_val payload;
	uint64_t ttl_ms;
};

void send_answer_outcome(struct peer *p, const struct request *r, const char *outcome,
			 const char *text)
{
	struct rtbp_buf *b;
	size_t begin;

	if (!r->wants_answer)
		return;
	b = hub_scratch(p->hub);
	begin = rtbp_msg_begin_result(b, r->id);
	rtbp_pack_map(b, text ? 3 : 2);
	rtbp_pack_field_text(b, RTBP_F_OUTCOME, outcome);
	rtbp_pack_field_text(b, RTBP_F_VIA, "ws");
	if (text)
		rtbp_pack_field_text(b, RTBP_F_TEXT, text);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(p);
}

/* Adds the send to the peer's sum of those that are given, or not, or takes it off. */
static void count_send(struct peer *p, const struct send *s, bool add)
{
	struct send_sum *sum = s->given ? &p->given : &p->queued;

	if (add) {
		sum->n++;
		sum->bytes += s->notice->size;
	} else {
		sum->n--;
		sum->bytes -= s->notice->size;
	}
}

/* Unlinks from everything and frees; the answer, if any, was given before. */
static void send_free(struct send *s)
{
	struct chan *ch = s->chan;
	struct hub *hub = ch->hub;
	struct peer *p = s->peer;

	timer_disarm(&hub->timers, &s->ttl_timer);
	if (ch->next_send == s)
		ch->next_send = TAILQ_NEXT(s, entry);
	TAILQ_REMOVE(&ch->sends, s, entry);
	ch->n_sends--;
	RB_REMOVE(send_tree, &hub->sends, s);
	hub->send_bytes -= s->notice->size;
	if (s->user)
		s->user->send_bytes -= s->notice->size;
	if (p) {
		count_send(p, s, false);
		peer_request_done(p, &s->request);
		peer_update_pause(p);
	}
	blob_unref(s->notice);
	free(s);
}

/* Without an answer. */
static void send_drop(struct send *s)
{
	struct chan *ch = s->chan;

	send_free(s);
	if (ch->join)
		join_owed_less(ch->join);
	chan_update(ch);
}

static void send_end(struct send *s, const char *outcome, const char *text)
{
	if (s->peer)
		send_answer_outcome(s->peer, &s->request, outcome, text);
	send_drop(s);
}

void sends_fail(struct chan *ch, const char *outcome, const char *text)
{
	while (ch->next_send)
		send_end(ch->next_send, outcome, text);
}

void sends_lost(struct chan *ch, const char *text)
{
	struct send *s;

	while ((s = TAILQ_FIRST(&ch->sends)) && s->given)
		send_end(s, "unknown", text);
}

static struct send *of_request(const struct request *r)
{
	return (struct send *)((char *)r - offsetof(struct send, request));
}

struct chan *send_chan(const struct request *r)
{
	return of_request(r)->chan;
}

static struct send *find_queued(struct peer *p, gone_fn gone, const void *ctx)
{
	struct request *r;
	struct send *s;

	TAILQ_FOREACH(r, &p->requests, entry) {
		s = of_request(r);
		if (r->kind == REQUEST_SEND && !s->given && gone(p, s->chan, ACL_WRITE, ctx))
			return s;
	}
	return NULL;
}

/* Looked for anew each time: with one of them a barrier behind it may be answered and go. */
void sends_reject(struct peer *p, gone_fn gone, const void *ctx, enum rtbp_error error,
		  const char *text)
{
	struct request answered;
	struct send *s;

	while ((s = find_queued(p, gone, ctx))) {
		answered = s->request;
		peer_answer_error(p, &answered, RTBP_M_BROADCAST, error, text, -1);
		send_drop(s);
	}
}

unsigned sends_reject_orphans(struct hub *hub)
{
	struct send next = { .id = 0 }, *s;
	unsigned n = 0;

	/* By number: the end of one may be that of others. */
	while ((s = RB_NFIND(send_tree, &hub->sends, &next))) {
		next.id = s->id + 1;
		if (s->peer || s->given)
			continue;
		send_drop(s);
		n++;
	}
	return n;
}

void sends_forget_peer(struct peer *p)
{
	struct request *r, *next;
	struct send *s;

	for (r = TAILQ_FIRST(&p->requests); r; r = next) {
		next = TAILQ_NEXT(r, entry);
		if (r->kind != REQUEST_SEND)
			continue;
		s = of_request(r);
		TAILQ_REMOVE(&p->requests, r, entry);
		s->peer = NULL;
		count_send(p, s, false);
	}
}

/* ---- replies ---- */

static void send_acked(struct send *s)
{
	struct send *first;

	/* Replies of one join come in order: what stands before it had none and will have none. */
	while ((first = TAILQ_FIRST(&s->chan->sends)) != s)
		send_end(
			first, "denied",
			"the server acknowledged a later message of the channel, but not this one");
	hub_deliver(s->chan, s->notice, s->event, s->sender);
	send_end(s, "acked", NULL);
}

static void send_refused(struct send *s, struct rtbp_val response)
{
	struct rtbp_str reason = { NULL, 0 };
	char words[121], text[160];

	if (!rtbp_get_str(response, &reason))
		(void)rtbp_get_str(rtbp_find(response, "reason", 6), &reason);
	if (!reason.p || !rtbp_utf8_valid(reason.p, reason.size))
		reason = (struct rtbp_str){ "no reason given", 15 };
	hub_copy_text(reason, words, sizeof(words));
	snprintf(text, sizeof(text), "the server answered: %s", words);
	if (rtbp_str_is(reason, "payload_size_exceeded"))
		send_end(s, "too_big", text);
	else if (rtbp_str_is(reason, "unmatched topic"))
		send_end(s, "not_joined", text);
	else
		send_end(s, "denied", text);
}

static void send_on_reply(void *ctx, uint64_t cookie, enum session_result result, uint64_t ref,
			  struct rtbp_val response)
{
	struct hub *hub = ctx;
	struct send key = { .id = cookie };
	struct send *s = RB_FIND(send_tree, &hub->sends, &key);

	(void)ref;
	if (!s)
		return;
	switch (result) {
	case SESSION_OK:
		send_acked(s);
		break;
	case SESSION_ERROR:
		send_refused(s, response);
		break;
	case SESSION_LOST:
		send_end(s, "unknown", "the connection to the server ended before the answer");
		break;
	case SESSION_TIMEOUT:
		send_end(s, "unknown", "the server did not answer within 10 s");
		break;
	}
}

/* ---- to the link ---- */

/* Return: 0 given (or ended: it can never be sent); > 0 the link takes nothing now. */
static int send_give(struct send *s)
{
	struct chan *ch = s->chan;
	struct join *j = ch->join;
	struct hub *hub = ch->hub;
	struct session *session = j->link->session;
	struct session_push push = {
		.timeout_ms = SEND_ACK_MS, .fn = send_on_reply, .ctx = hub, .cookie = s->id
	};
	struct rtbp_json_fault fault;
	char text[288];
	int r;

	push.ref = session_next_ref(session);
	r = phx_encode_broadcast(session_vsn(session), j->join_ref, push.ref, j->wire_topic,
				 strlen(j->wire_topic), s->event, s->payload, hub_scratch(hub),
				 &push.binary, &fault);
	if (r == -ENOTSUP) {
		send_end(s, "unsupported", "binary payloads need vsn 2.0.0 ([upstream] vsn)");
		return 0;
	}
	if (r > 0) {
		snprintf(text, sizeof(text), "%s: %s", fault.path, fault.text);
		send_end(s, "bad_payload", text);
		return 0;
	}
	if (r < 0) {
		send_end(s, "busy", "the daemon is out of memory");
		return 0;
	}
	if (hub->scratch.size > LINK_FRAME_MAX) {
		snprintf(text, sizeof(text), "%zu bytes as JSON, the server takes %d",
			 hub->scratch.size, LINK_FRAME_MAX);
		send_end(s, "too_big", text);
		return 0;
	}
	r = link_push(j->link, &push);
	if (r < 0)
		return 1; /* the link ended in this turn: the sends stay queued for the next
			     connection */
	if (r == 0) {
		if (s->peer)
			count_send(s->peer, s, false);
		s->given = true;
		ch->next_send = TAILQ_NEXT(s, entry);
		timer_disarm(&hub->timers, &s->ttl_timer);
		hub->counters.messages_out++;
		log_debug("out: %s ref %llu", j->wire_topic, (unsigned long long)push.ref);
		if (s->peer) {
			count_send(s->peer, s, true);
			peer_update_pause(s->peer);
		}
	}
	return r;
}

void sends_flush(struct chan *ch)
{
	struct send *s;

	while (ch->join && join_is_open(ch->join) && (s = ch->next_send)) {
		if (send_give(s) != 0) {
			hub_try_again(ch->hub);
			return;
		}
	}
}

/* ---- requests ---- */

/* The payload must be sayable in JSON: found out now, where the sender can still mend it. */
static const char *ask_payload(struct hub *hub, struct ask *a, char *text, size_t size)
{
	struct rtbp_json_fault fault;
	int r;

	if (!a->payload.p)
		return "payload is missing";
	if (rtbp_is(a->payload, RTBP_BIN))
		return NULL;
	r = rtbp_mp_to_json(a->payload.p, a->payload.size, hub_scratch(hub), &fault);
	if (r == 0)
		return NULL;
	if (r > 0)
		snprintf(text, size, "%s: %s", fault.path, fault.text);
	else
		snprintf(text, size, "no memory");
	return text;
}

/* Return: NULL and the unpacked request; or what is wrong, with the code. */
static const char *ask_read(struct peer *p, struct rtbp_val params, struct ask *a,
			    enum rtbp_error *code, char *text, size_t size)
{
	struct rtbp_str via = { "auto", 4 };
	struct rtbp_val v;
	const char *wrong;

	*code = RTBP_E_BAD_REQUEST;
	if (!rtbp_get_str(rtbp_field(params, RTBP_F_EVENT), &a->event))
		return "event is a string";
	if (!rtbp_event_ok(a->event)) {
		*code = RTBP_E_BAD_EVENT;
		return rtbp_error_sentence(RTBP_E_BAD_EVENT);
	}
	v = rtbp_field(params, RTBP_F_TTL_MS);
	a->ttl_ms = SEND_TTL_MS;
	if (v.p && (!rtbp_get_uint(v, &a->ttl_ms) || a->ttl_ms > SEND_TTL_MAX_MS))
		return "ttl_ms is an integer from 0 to 60000";
	v = rtbp_field(params, RTBP_F_VIA);
	if (v.p && !rtbp_get_str(v, &via))
		return "via is a string";
	if (!rtbp_str_is(via, "auto") && !rtbp_str_is(via, "ws")) {
		*code = RTBP_E_UNSUPPORTED;
		return "this daemon sends via \"ws\" or \"auto\"";
	}
	a->payload = rtbp_field(params, RTBP_F_PAYLOAD);
	wrong = ask_payload(p->hub, a, text, size);
	if (wrong) {
		*code = a->payload.p ? RTBP_E_BAD_PAYLOAD : RTBP_E_BAD_REQUEST;
		return wrong;
	}
	a->chan = request_chan(p, params, true, ACL_WRITE, code, &wrong);
	return a->chan ? NULL : wrong;
}

static void send_expired(void *ctx)
{
	struct send *s = ctx;
	const struct join *j = s->chan->join;

	send_end(s, "expired", j->text[0] ? j->text : "the channel was not joined in time");
}

/* The notification that the others get; payload and event are then found in it. */
static struct blob *pack_notice(struct hub *hub, const struct ask *a, size_t *ret_event,
				size_t *ret_payload)
{
	struct rtbp_buf *b = hub_scratch(hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_BROADCAST);

	rtbp_pack_map(b, 4);
	chan_pack_name(a->chan, b);
	rtbp_pack_field(b, RTBP_F_EVENT);
	rtbp_pack_str(b, a->event.p, a->event.size);
	*ret_event = b->size - a->event.size;
	rtbp_pack_field(b, RTBP_F_PAYLOAD);
	*ret_payload = b->size;
	rtbp_pack_val(b, a->payload);
	(void)rtbp_msg_end(b, begin);
	return hub_scratch_blob(hub);
}

static struct send *send_new(struct peer *p, const struct ask *a, const struct request *r)
{
	struct hub *hub = p->hub;
	struct send *s = calloc(1, sizeof(*s));
	size_t event, payload;

	if (!s)
		return NULL;
	s->notice = pack_notice(hub, a, &event, &payload);
	if (!s->notice) {
		free(s);
		return NULL;
	}
	s->chan = a->chan;
	s->peer = p;
	s->sender = p->session;
	s->id = hub->next_id++;
	s->event = (struct rtbp_str){ (const char *)s->notice->data + event, a->event.size };
	s->payload = (struct rtbp_val){ s->notice->data + payload, a->payload.size };
	timer_init(&s->ttl_timer, send_expired, s);
	timer_arm(&hub->timers, &s->ttl_timer, hub_now(hub) + peer_time_left(p, a->ttl_ms));
	peer_request_add(p, &s->request, REQUEST_SEND, r->id, r->wants_answer);
	count_send(p, s, true);
	hub->send_bytes += s->notice->size;
	s->user = p->user;
	if (s->user)
		s->user->send_bytes += s->notice->size;
	RB_INSERT(send_tree, &hub->sends, s);
	TAILQ_INSERT_TAIL(&s->chan->sends, s, entry);
	if (!s->chan->next_send)
		s->chan->next_send = s;
	s->chan->n_sends++;
	s->chan->sent_at_ms = hub_now(hub);
	move_check(s->chan);
	return s;
}

/* Return: NULL, or why the send cannot be taken now. */
static const char *send_room(struct peer *p, const struct chan *ch, size_t size)
{
	if (p->hub->send_bytes + size > p->hub->conf.send_bytes)
		return "the daemon holds as many unsent bytes as it may";
	if (p->user &&
	    !user_may_have(p->hub, p->user, p->user->send_bytes + size, p->hub->conf.send_bytes))
		return "this user has as many unsent bytes as one may: half of [limits] unsent";
	if (ch->n_sends >= CHAN_SENDS_MAX)
		return "the channel has as many unsent messages as it may";
	if (p->queued.n >= PEER_SENDS_MAX || p->queued.bytes >= PEER_SEND_BYTES_MAX)
		return "this client has as many unsent messages as it may";
	return NULL;
}

void broadcast_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct ask a = { 0 };
	enum rtbp_error code;
	char text[288];
	const char *wrong = ask_read(p, params, &a, &code, text, sizeof(text));

	/* Refused a moment ago. */
	if (wrong && code == RTBP_E_REJECTED) {
		send_answer_outcome(p, &now, "not_joined", wrong);
		return;
	}
	if (wrong) {
		peer_answer_error(p, &now, RTBP_M_BROADCAST, code, wrong, -1);
		return;
	}
	if (a.chan->join->state == JOIN_REJECTED) {
		send_answer_outcome(p, &now, "not_joined", a.chan->join->text);
		return;
	}
	wrong = send_room(p, a.chan, a.payload.size);
	if (wrong || !send_new(p, &a, &now)) {
		send_answer_outcome(p, &now, "busy", wrong ? wrong : "the daemon is out of memory");
		chan_update(a.chan);
		return;
	}
	chan_update(a.chan);
	sends_flush(a.chan);
}
