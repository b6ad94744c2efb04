/* SPDX-License-Identifier: MIT */
/* send: a broadcast in its channel's queue, and its end (send.h has the picture). */
#include "hub/send.h"

#include <stdlib.h>
#include <string.h>

#include "hub/acl.h"
#include "hub/impl.h"

int send_id_compare(struct send *a, struct send *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(send_tree, send, by_id, send_id_compare)

static struct send_queue *queue_of(const struct send *s)
{
	return &s->chan->sends.ways[s->way];
}

void sends_init(struct chan *ch)
{
	for (unsigned i = 0; i < SEND_WAYS; i++)
		TAILQ_INIT(&ch->sends.ways[i].list);
	TAILQ_INIT(&ch->sends.echoes);
	timer_init(&ch->sends.late_timer, sends_acks_late, ch);
}

void sends_done(struct chan *ch)
{
	timer_disarm(&ch->hub->timers, &ch->sends.late_timer);
	posts_forget(ch);
}

/* ---- the answer ---- */

void send_answer(struct peer *p, const struct request *r, enum send_way way,
		 const struct send_result *result)
{
	struct rtbp_buf *b;
	size_t begin;

	if (!r->wants_answer)
		return;
	b = hub_scratch(p->hub);
	begin = rtbp_msg_begin_result(b, r->id);
	rtbp_pack_map(b, 2 + (result->text != NULL) + (result->retry_ms >= 0));
	rtbp_pack_field_text(b, RTBP_F_OUTCOME, result->outcome);
	rtbp_pack_field_text(b, RTBP_F_VIA, way == SEND_HTTP ? "http" : "ws");
	if (result->text)
		rtbp_pack_field_text(b, RTBP_F_TEXT, result->text);
	if (result->retry_ms >= 0)
		rtbp_pack_field_uint(b, RTBP_F_RETRY_IN_MS, (uint64_t)result->retry_ms);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(p);
}

/* ---- birth and death ---- */

/* Adds the send to the peer's sum of those that are given, or not, or takes it off. */
static void count_send(struct peer *p, const struct send *s, bool add)
{
	struct send_sum *sum = s->given ? &p->given : &p->queued;

	if (add) {
		sum->n++;
		sum->bytes += s->news.notice->size;
	} else {
		sum->n--;
		sum->bytes -= s->news.notice->size;
	}
}

static void send_expired(void *ctx)
{
	struct send *s = ctx;
	const struct hub *hub = s->chan->hub;
	const struct join *j = s->chan->join;
	const char *why;

	if (s->way == SEND_HTTP && !s->chan->identity && hub->park_own.lasts)
		why = hub->park_own.text;
	else if (s->way == SEND_HTTP)
		why = hub->post_text[0] ? hub->post_text : "other requests were before it";
	else
		why = j && j->text[0] ? j->text : "the channel was not joined in time";
	send_end_as(s, "expired", why);
}

static void enqueue(struct send *s)
{
	struct send_queue *q = queue_of(s);

	TAILQ_INSERT_TAIL(&q->list, s, entry);
	q->n++;
	if (!q->next)
		q->next = s;
}

struct send *send_new(struct peer *p, const struct send_ask *a, const struct request *r,
		      struct outcome *kept)
{
	struct hub *hub = p->hub;
	struct send *s = calloc(1, sizeof(*s));
	const struct phx_msg msg = {
		.user_event = a->event,
		.payload = a->payload,
		.extra = a->extra,
	};

	if (!s || !news_pack(a->chan, &msg, &s->news)) {
		free(s);
		return NULL;
	}
	s->news.sender = p->session;
	s->chan = a->chan;
	s->way = a->way;
	s->peer = p;
	s->kept = kept;
	s->id = hub->next_id++;
	if (a->id.p)
		memcpy(s->name, a->id.p, a->id.size);
	s->expires_ms = hub_now(hub) + peer_time_left(p, a->ttl_ms);
	timer_init(&s->ttl_timer, send_expired, s);
	timer_arm(&hub->timers, &s->ttl_timer, s->expires_ms);
	peer_request_add(p, &s->request, REQUEST_SEND, r->id, r->wants_answer);
	count_send(p, s, true);
	hub->send_bytes += s->news.notice->size;
	s->user = p->user;
	if (s->user)
		s->user->send_bytes += s->news.notice->size;
	RB_INSERT(send_tree, &hub->sends, s);
	enqueue(s);
	return s;
}

/* Unlinks from everything and frees; the answer, if any, was given before. */
static void send_free(struct send *s)
{
	struct hub *hub = s->chan->hub;
	struct send_queue *q = queue_of(s);
	struct peer *p = s->peer;

	timer_disarm(&hub->timers, &s->ttl_timer);
	if (q->next == s)
		q->next = TAILQ_NEXT(s, entry);
	TAILQ_REMOVE(&q->list, s, entry);
	q->n--;
	RB_REMOVE(send_tree, &hub->sends, s);
	hub->send_bytes -= s->news.notice->size;
	if (s->user)
		s->user->send_bytes -= s->news.notice->size;
	if (p) {
		count_send(p, s, false);
		peer_request_done(p, &s->request);
		peer_update_pause(p);
	}
	blob_unref(s->news.notice);
	free(s);
}

/* Without an answer. */
static void send_drop(struct send *s)
{
	struct chan *ch = s->chan;

	send_free(s);
	if (ch->join)
		join_owed_less(ch->join);
	if (ch->join && ch->join->link->number && !ch->sends.ways[SEND_WS].n &&
	    !ch->sends.ways[SEND_HTTP].n)
		feeds_tidy_later(ch->hub); /* it may be moved now */
	sends_watch_acks(ch);
	chan_update(ch);
}

void send_end(struct send *s, const struct send_result *result)
{
	if (s->peer)
		send_answer(s->peer, &s->request, s->way, result);
	outcome_end(s->kept, result);
	send_drop(s);
}

void send_end_as(struct send *s, const char *outcome, const char *text)
{
	send_end(s, &(struct send_result){ outcome, text, -1 });
}

void send_set_given(struct send *s, bool given)
{
	struct hub *hub = s->chan->hub;
	struct send_queue *q = queue_of(s);

	if (s->peer)
		count_send(s->peer, s, false);
	s->given = given;
	if (given) {
		s->given_at_ms = hub_now(hub);
		q->next = TAILQ_NEXT(s, entry);
		timer_disarm(&hub->timers, &s->ttl_timer);
	} else {
		q->next = s; /* they come back from the last to the first */
		timer_arm(&hub->timers, &s->ttl_timer, s->expires_ms);
	}
	if (s->peer) {
		count_send(s->peer, s, true);
		peer_update_pause(s->peer);
	}
}

/* ---- many at once ---- */

void sends_fail(struct chan *ch, const char *outcome, const char *text)
{
	while (ch->sends.ways[SEND_WS].next)
		send_end_as(ch->sends.ways[SEND_WS].next, outcome, text);
}

void sends_lost(struct chan *ch, const char *text)
{
	struct send *s;

	while ((s = TAILQ_FIRST(&ch->sends.ways[SEND_WS].list)) && s->given)
		send_end_as(s, "unknown", text);
}

void sends_drop(struct chan *ch)
{
	struct send *s;

	for (unsigned i = 0; i < SEND_WAYS; i++) {
		while ((s = TAILQ_FIRST(&ch->sends.ways[i].list))) {
			outcome_drop(s->kept);
			send_drop(s);
		}
	}
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

/* What is away is the server's, unless it turns out that it never got there. */
static void bar_given(struct peer *p, gone_fn gone, const void *ctx)
{
	struct request *r;
	struct send *s;

	TAILQ_FOREACH(r, &p->requests, entry) {
		s = of_request(r);
		if (r->kind == REQUEST_SEND && s->given && gone(p, s->chan, ACL_WRITE, ctx))
			s->barred = true;
	}
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
		outcome_end(s->kept, &(struct send_result){ "denied", text, -1 });
		send_drop(s);
	}
	bar_given(p, gone, ctx);
}

unsigned sends_reject_orphans(struct hub *hub)
{
	struct send next = { .id = 0 }, *s;
	unsigned n = 0;

	/* By number: the end of one may be that of others. */
	while ((s = RB_NFIND(send_tree, &hub->sends, &next))) {
		next.id = s->id + 1;
		if (s->peer)
			continue;
		if (s->given) {
			s->barred = true;
			continue;
		}
		send_end_as(s, "denied", "the access rules have changed, and the client is gone");
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
