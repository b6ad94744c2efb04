/* SPDX-License-Identifier: MIT */
/* send_ask: a broadcast request: whether it can be said and taken, and which way it goes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hub/acl.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

enum via { VIA_AUTO, VIA_WS, VIA_HTTP };

/* Why a request is refused, or answered at once with an outcome. */
struct refusal {
	enum rtbp_error code;
	const char *outcome; /* NULL: an error */
	const char *text;
	char buf[288];
};

static bool refuse(struct refusal *ret, enum rtbp_error code, const char *text)
{
	ret->code = code;
	ret->text = text;
	return false;
}

static bool answer_as(struct refusal *ret, const char *outcome, const char *text)
{
	ret->outcome = outcome;
	ret->text = text;
	return false;
}

/* ---- its parts ---- */

/* It must be sayable in JSON: found out now, where the sender can still mend it. */
static bool check_payload(struct hub *hub, struct send_ask *a, struct refusal *ret)
{
	struct rtbp_json_fault fault;
	struct rtbp_str bin;
	int r;

	if (!a->payload.p)
		return refuse(ret, RTBP_E_BAD_REQUEST, "payload is missing");
	if (rtbp_get_bin(a->payload, &bin)) {
		a->size = bin.size;
		return true;
	}
	r = rtbp_mp_to_json(a->payload.p, a->payload.size, hub_scratch(hub), &fault);
	if (r < 0)
		return answer_as(ret, "busy", "the daemon is out of memory");
	if (r > 0) {
		snprintf(ret->buf, sizeof(ret->buf), "%s: %s", fault.path, fault.text);
		return refuse(ret, RTBP_E_BAD_PAYLOAD, ret->buf);
	}
	a->size = hub->scratch.size;
	return true;
}

/* What is sent as it is counts at the server with its bytes, at least; what the server takes apart
 * counts in another way (a number may be shorter than its digits), and it has to be asked. */
static bool check_plan(const struct hub *hub, const struct send_ask *a, struct refusal *ret)
{
	size_t limit = hub->conf.payload_bytes;
	bool is_text = a->way == SEND_HTTP || hub->conf.session.vsn == PHX_VSN_1 || a->extra.p;
	bool is_bin = rtbp_is(a->payload, RTBP_BIN);

	if (!limit || a->size <= limit || (is_text && !is_bin))
		return true;
	snprintf(ret->buf, sizeof(ret->buf),
		 "%zu bytes%s, the project's plan takes %zu ([plan] name, payload_kb)", a->size,
		 is_bin ? "" : " as JSON", limit);
	return answer_as(ret, "too_big", ret->buf);
}

static bool is_own_key(struct rtbp_str key)
{
	return rtbp_str_is(key, "type") || rtbp_str_is(key, "event") ||
	       rtbp_str_is(key, "payload") || rtbp_str_is(key, "meta");
}

static bool read_extra(struct hub *hub, struct rtbp_val params, struct send_ask *a,
		       struct refusal *ret)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_EXTRA), key, value;
	struct rtbp_json_fault fault;
	struct rtbp_iter it;
	struct rtbp_str s;

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return true;
	if (!rtbp_iter_map(v, &it))
		return refuse(ret, RTBP_E_BAD_REQUEST, "extra is a map");
	if (it.left == 0)
		return true;
	if (rtbp_is(a->payload, RTBP_BIN))
		return refuse(ret, RTBP_E_BAD_REQUEST, "extra does not go with a bin payload");
	if (rtbp_mp_to_json(v.p, v.size, hub_scratch(hub), &fault) != 0) {
		snprintf(ret->buf, sizeof(ret->buf), "extra%s: %s",
			 fault.path[0] == '$' ? fault.path + 1 : fault.path, fault.text);
		return refuse(ret, RTBP_E_BAD_PAYLOAD, ret->buf);
	}
	while (rtbp_iter_next(&it, &key) && rtbp_iter_next(&it, &value)) {
		if (rtbp_get_str(key, &s) && is_own_key(s))
			return refuse(ret, RTBP_E_BAD_REQUEST,
				      "extra has no type, event, payload or meta: those keys are "
				      "the message's own");
	}
	a->extra = v;
	return true;
}

static bool read_id(struct rtbp_val params, struct send_ask *a, struct refusal *ret)
{
	static const char wrong[] = "id is a string of 1 to 64 bytes of printable ASCII";
	struct rtbp_val v = rtbp_field(params, RTBP_F_ID);

	if (!v.p || rtbp_is(v, RTBP_NIL))
		return true;
	if (!rtbp_get_str(v, &a->id) || a->id.size == 0 || a->id.size > SEND_ID_MAX)
		return refuse(ret, RTBP_E_BAD_REQUEST, wrong);
	for (size_t i = 0; i < a->id.size; i++) {
		if (a->id.p[i] < 0x21 || a->id.p[i] > 0x7e)
			return refuse(ret, RTBP_E_BAD_REQUEST, wrong);
	}
	return true;
}

static bool read_via(struct rtbp_val params, enum via *ret_via, struct refusal *ret)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_VIA);
	struct rtbp_str via = { "auto", 4 };

	if (v.p && !rtbp_is(v, RTBP_NIL) && !rtbp_get_str(v, &via))
		return refuse(ret, RTBP_E_BAD_REQUEST, "via is a string");
	if (rtbp_str_is(via, "auto"))
		*ret_via = VIA_AUTO;
	else if (rtbp_str_is(via, "ws"))
		*ret_via = VIA_WS;
	else if (rtbp_str_is(via, "http"))
		*ret_via = VIA_HTTP;
	else
		return refuse(ret, RTBP_E_BAD_REQUEST, "via is \"auto\", \"ws\" or \"http\"");
	return true;
}

static bool read_parts(struct peer *p, struct rtbp_val params, struct send_ask *a,
		       enum via *ret_via, struct refusal *ret)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_TTL_MS);

	if (!rtbp_get_str(rtbp_field(params, RTBP_F_EVENT), &a->event))
		return refuse(ret, RTBP_E_BAD_REQUEST, "event is a string");
	if (!rtbp_event_ok(a->event))
		return refuse(ret, RTBP_E_BAD_EVENT, rtbp_error_sentence(RTBP_E_BAD_EVENT));
	a->ttl_ms = SEND_TTL_MS;
	if (v.p && (!rtbp_get_uint(v, &a->ttl_ms) || a->ttl_ms > SEND_TTL_MAX_MS))
		return refuse(ret, RTBP_E_BAD_REQUEST, "ttl_ms is an integer from 0 to 60000");
	a->payload = rtbp_field(params, RTBP_F_PAYLOAD);
	return read_id(params, a, ret) && read_via(params, ret_via, ret) &&
	       read_extra(p->hub, params, a, ret);
}

/* ---- which way ---- */

static bool is_step(struct rtbp_str name)
{
	return rtbp_str_is(name, ".") || rtbp_str_is(name, "..");
}

/* What the batch endpoint takes is a map; there is no place for more beside it. Of a binary one
 * topic and event stand in the path, where a step means the same however it is encoded: it would
 * go to another endpoint. */
static const char *no_http(const struct send_ask *a)
{
	bool is_bin = rtbp_is(a->payload, RTBP_BIN);

	if (a->extra.p)
		return "extra does not go by HTTP";
	if (!rtbp_is(a->payload, RTBP_MAP) && !is_bin)
		return "by HTTP a payload is a map, or bin";
	if (is_bin && (is_step(a->chan->topic) || is_step(a->event)))
		return "by HTTP bin does not go to a topic or event \".\" or \"..\"";
	return NULL;
}

/* Of a channel that a message may go through: it is joined, or somebody waits for it to be. */
static bool has_road(const struct chan *ch)
{
	const struct join *j = ch->join;

	return j && j->state != JOIN_REJECTED && j->state != JOIN_LEAVING &&
	       (j->state == JOIN_JOINED || j->ops->wanted(j));
}

static enum send_way choose(const struct send_ask *a, enum via via)
{
	if (via != VIA_AUTO)
		return via == VIA_HTTP ? SEND_HTTP : SEND_WS;
	if (no_http(a))
		return SEND_WS;
	if (a->chan->hub->conf.session.vsn == PHX_VSN_1 && rtbp_is(a->payload, RTBP_BIN))
		return SEND_HTTP;
	/* What is on its way by HTTP already must not be overtaken. */
	return has_road(a->chan) && !a->chan->sends.ways[SEND_HTTP].n ? SEND_WS : SEND_HTTP;
}

/* The channel, and with a join if the message goes over one. */
static bool find_way(struct peer *p, struct rtbp_val params, struct send_ask *a, enum via via,
		     struct refusal *ret)
{
	struct chan *found = NULL;

	if (via != VIA_WS) {
		a->chan = found = request_chan_only(p, params, ACL_WRITE, &ret->code, &ret->text);
		if (!found)
			return false;
		a->way = choose(a, via);
		if (via == VIA_HTTP && no_http(a))
			return answer_as(ret, "bad_payload", no_http(a));
	}
	if (!check_plan(p->hub, a, ret))
		return false;
	if (a->way == SEND_HTTP)
		return true;
	a->chan = request_chan(p, params, true, ACL_WRITE, &ret->code, &ret->text);
	if (!a->chan && found)
		chan_update(found); /* it may have been made here */
	/* Refused a moment ago. */
	if (!a->chan)
		return ret->code == RTBP_E_REJECTED ? answer_as(ret, "not_joined", ret->text)
						    : false;
	if (a->chan->join->state == JOIN_REJECTED)
		return answer_as(ret, "not_joined", a->chan->join->text);
	return true;
}

/* ---- room ---- */

/* One user fills no channel for the others: counted only where it may have come to that. */
static bool has_share(const struct peer *p, const struct send_queue *q)
{
	const struct send *s;
	unsigned n = 1;

	if (q->n < CHAN_SENDS_MAX / 2)
		return true;
	TAILQ_FOREACH(s, &q->list, entry)
		n += s->user == p->user;
	return user_may_have(p->hub, p->user, n, CHAN_SENDS_MAX);
}

static bool has_room(struct peer *p, const struct send_ask *a, struct refusal *ret)
{
	size_t all = p->hub->conf.send_bytes, size = a->payload.size + a->extra.size;

	if (p->hub->send_bytes + size > all)
		return answer_as(ret, "busy", "the daemon holds as many unsent bytes as it may");
	if (p->user && !user_may_have(p->hub, p->user, p->user->send_bytes + size, all))
		return answer_as(
			ret, "busy",
			"this user has as many unsent bytes as one may: half of [limits] unsent");
	if (a->chan->sends.ways[a->way].n >= CHAN_SENDS_MAX)
		return answer_as(ret, "busy", "the channel has as many unsent messages as it may");
	if (a->way == SEND_HTTP && p->user && p->user->n_waiting >= POSTS_WAITING_MAX &&
	    !a->chan->sends.ways[SEND_HTTP].n)
		return answer_as(
			ret, "busy",
			"this user's messages wait for HTTP in as many channels as they may");
	if (!has_share(p, &a->chan->sends.ways[a->way]))
		return answer_as(
			ret, "busy",
			"this user has as many unsent messages for the channel as one may: "
			"half of them");
	if (p->queued.n >= PEER_SENDS_MAX || p->queued.bytes >= PEER_SEND_BYTES_MAX)
		return answer_as(ret, "busy", "this client has as many unsent messages as it may");
	return true;
}

/* Return: false with @ret: it ends here; else it is queued. */
static bool queue(struct peer *p, const struct send_ask *a, const struct request *now,
		  struct outcome *kept, struct refusal *ret)
{
	struct send *s;

	if (!has_room(p, a, ret))
		return false;
	s = send_new(p, a, now, kept);
	if (!s)
		return answer_as(ret, "busy", "the daemon is out of memory");
	a->chan->sent_at_ms = hub_now(p->hub);
	if (a->way == SEND_WS)
		move_check(a->chan);
	else if (!s->name[0])
		hub_make_uuid(p->hub, s->name);
	return true;
}

/* With the name's entry, if it has one: who lost the answer finds this, too. */
static void tell(struct peer *p, const struct request *now, const struct send_ask *a,
		 struct outcome *kept, const struct refusal *why)
{
	struct send_result result = { why->outcome, why->text, -1 };

	if (why->outcome) {
		send_answer(p, now, a->way, &result);
		outcome_end(kept, &result);
	} else {
		peer_answer_error(p, now, RTBP_M_BROADCAST, why->code, why->text, -1);
		outcome_drop(kept);
	}
}

void broadcast_request(struct peer *p, uint32_t id, bool wants_answer, struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	struct send_ask a = { .way = SEND_WS };
	struct refusal why = { .code = RTBP_E_BUSY };
	struct outcome *kept = NULL;
	bool in_use = false, ok;
	enum via via;

	ok = read_parts(p, params, &a, &via, &why) && check_payload(p->hub, &a, &why) &&
	     find_way(p, params, &a, via, &why);
	/* Nothing is kept of what is an error: it may be asked again under the same name. */
	if ((ok || why.outcome) && a.id.p)
		kept = outcome_new(p, a.id, a.way, &in_use);
	if (in_use) {
		why.outcome = NULL;
		ok = refuse(
			&why, RTBP_E_BAD_REQUEST,
			"this id is that of another send of the last 60 s; `outcome` tells what "
			"became of it");
	}
	if (!ok || !queue(p, &a, &now, kept, &why))
		tell(p, &now, &a, kept, &why);
	if (!a.chan)
		return;
	if (a.way == SEND_HTTP)
		posts_add(a.chan);
	chan_update(a.chan);
	if (ok && a.way == SEND_WS)
		sends_flush(a.chan);
}
