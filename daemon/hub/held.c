/* SPDX-License-Identifier: MIT */
/* held: requests that a peer sent while the server was being asked about its token. They keep their
 * order, and are carried out, or answered with what their own time limit says. */
#include <stdlib.h>
#include <string.h>

#include "hub/impl.h"

struct held {
	struct request request;
	struct peer *peer;
	enum rtbp_method method;
	uint64_t since_ms;
	struct timer timer;
	size_t size;
	uint8_t params[];
};

bool held_must(const struct peer *p, enum rtbp_method m)
{
	/* Who asks how things stand wants to know it now. */
	if (m == RTBP_M_STATUS || m == RTBP_M_CHANNELS || m == RTBP_M_CLIENTS)
		return false;
	if (m == RTBP_M_RECONNECT || m == RTBP_M_REFRESH_TOKEN)
		return false; /* it has nothing to do with any identity */
	return p->pending != NULL;
}

static struct held *of_request(struct request *r)
{
	return (struct held *)((char *)r - offsetof(struct held, request));
}

static void take_off(struct held *h)
{
	struct peer *p = h->peer;

	timer_disarm(&p->hub->timers, &h->timer);
	p->n_held--;
	p->held_bytes -= h->size;
	peer_request_done(p, &h->request);
}

void held_free(struct request *r)
{
	struct held *h = of_request(r);

	take_off(h);
	free(h);
}

static const char not_yet[] = "the server has not said yet whether it takes this client's token";

static void held_late(void *ctx)
{
	struct held *h = ctx;

	if (h->method == RTBP_M_BROADCAST)
		send_answer(h->peer, &h->request, SEND_WS,
			    &(struct send_result){ "expired", not_yet, -1 });
	else
		peer_answer_error(h->peer, &h->request, h->method, RTBP_E_TIMEOUT, not_yet, -1);
	take_off(h);
	hub_wake(h->peer->hub);
	free(h);
}

/* As long as the request itself says that it may take. */
static uint64_t limit_of(enum rtbp_method m, struct rtbp_val params)
{
	bool is_send = m == RTBP_M_BROADCAST, keep = false;
	uint64_t ms = is_send ? SEND_TTL_MS : SUBSCRIBE_TIMEOUT_MS;

	/* What takes a wish back is carried out however late. */
	if (m == RTBP_M_UNSUBSCRIBE || m == RTBP_M_UNTRACK || m == RTBP_M_PRESENCE)
		return UINT64_MAX;

	(void)rtbp_get_uint(rtbp_field(params, is_send ? RTBP_F_TTL_MS : RTBP_F_TIMEOUT_MS), &ms);
	(void)rtbp_get_bool(rtbp_field(params, RTBP_F_KEEP), &keep);
	if (m == RTBP_M_SUBSCRIBE && keep)
		return UINT64_MAX; /* the wish outlives its time limit */
	return ms < SUBSCRIBE_TIMEOUT_MAX_MS ? ms : SUBSCRIBE_TIMEOUT_MAX_MS;
}

static const char too_much[] = "too much waits for the server's word about this client's token";

void held_add(struct peer *p, enum rtbp_method m, uint32_t id, bool wants_answer,
	      struct rtbp_val params)
{
	struct request now = { .id = id, .wants_answer = wants_answer };
	uint64_t limit_ms = limit_of(m, params);
	struct held *h = NULL;

	if (p->n_held < HELD_MAX && p->held_bytes + params.size <= HELD_BYTES_MAX)
		h = calloc(1, sizeof(*h) + params.size);
	if (!h) {
		if (m == RTBP_M_BROADCAST && wants_answer)
			send_answer(p, &now, SEND_WS,
				    &(struct send_result){ "busy", too_much, -1 });
		else
			peer_answer_error(p, &now, m, RTBP_E_BUSY, too_much, -1);
		return;
	}
	h->peer = p;
	h->method = m;
	h->since_ms = hub_now(p->hub);
	h->size = params.size;
	if (params.size)
		memcpy(h->params, params.p, params.size);
	p->n_held++;
	p->held_bytes += h->size;
	timer_init(&h->timer, held_late, h);
	if (limit_ms != UINT64_MAX)
		timer_arm(&p->hub->timers, &h->timer, h->since_ms + limit_ms);
	peer_request_add(p, &h->request, REQUEST_HELD, id, wants_answer);
}

static struct held *first(const struct peer *p)
{
	struct request *r;

	TAILQ_FOREACH(r, &p->requests, entry) {
		if (r->kind == REQUEST_HELD)
			return of_request(r);
	}
	return NULL;
}

/* It leaves the list before it is carried out, and may enter it again as what it has become: a
 * barrier behind it must not be answered in between. */
void held_release(struct peer *p)
{
	struct held *h;

	if (p->releasing)
		return;
	p->releasing = true;
	while (!p->pending && p->state == PEER_READY && (h = first(p))) {
		timer_disarm(&p->hub->timers, &h->timer);
		p->n_held--;
		p->held_bytes -= h->size;
		p->late_ms = hub_now(p->hub) - h->since_ms;
		TAILQ_REMOVE(&p->requests, &h->request, entry);
		peer_carry_out(p, h->method, h->request.id, h->request.wants_answer,
			       (struct rtbp_val){ h->params, h->size });
		explicit_bzero(h->params, h->size);
		free(h);
	}
	p->late_ms = 0;
	p->releasing = false;
	sync_check(p);
}
