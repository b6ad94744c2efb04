/* SPDX-License-Identifier: MIT */
#include "realtime/heartbeat.h"

#include <string.h>

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint32_t heartbeat_jitter_range(const struct heartbeat *h)
{
	return (uint32_t)((uint64_t)h->interval_ms * 2 * HEARTBEAT_JITTER_PERCENT / 100);
}

static void plan(struct heartbeat *h, uint64_t now, uint32_t jitter)
{
	h->next_ms = now + h->interval_ms - heartbeat_jitter_range(h) / 2 + jitter;
}

void heartbeat_begin(struct heartbeat *h, uint64_t now, uint32_t jitter)
{
	h->n_out = 0;
	h->received_ms = now;
	h->join_done_ms = h->busy_ms = h->poked_ms = 0;
	h->answered = false;
	h->rtt_ms = -1;
	plan(h, now, jitter);
}

void heartbeat_sent(struct heartbeat *h, uint64_t ref, uint64_t now, uint32_t jitter)
{
	if (h->n_out < HEARTBEAT_MAX_OUT) {
		h->out[h->n_out].ref = ref;
		h->out[h->n_out++].sent_ms = now;
	}
	h->busy_ms = 0;
	plan(h, now, jitter);
}

void heartbeat_not_sent(struct heartbeat *h, uint64_t now)
{
	if (!h->busy_ms)
		h->busy_ms = now;
	h->next_ms = now + HEARTBEAT_BUSY_MS;
}

void heartbeat_poke(struct heartbeat *h, uint64_t now)
{
	h->poked_ms = now;
	if (h->next_ms > now)
		h->next_ms = now;
}

void heartbeat_room(struct heartbeat *h, uint64_t now)
{
	if (h->busy_ms)
		h->busy_ms = h->next_ms = now;
}

bool heartbeat_answer(struct heartbeat *h, uint64_t ref, uint64_t now, uint64_t *ret_sent_ms)
{
	unsigned i = 0;

	while (i < h->n_out && h->out[i].ref != ref)
		i++;
	if (i == h->n_out)
		return false;
	*ret_sent_ms = h->out[i].sent_ms;
	h->rtt_ms = (int32_t)earlier(now - h->out[i].sent_ms, INT32_MAX);
	h->answered = true;
	if (h->out[i].sent_ms >= h->poked_ms)
		h->poked_ms = 0;
	h->n_out -= i + 1;
	memmove(h->out, h->out + i + 1, h->n_out * sizeof(*h->out));
	return true;
}

uint64_t heartbeat_late_ms(const struct heartbeat *h)
{
	return h->n_out ? h->out[0].sent_ms + h->reply_ms : UINT64_MAX;
}

uint64_t heartbeat_limit_ms(const struct heartbeat *h, size_t n_joins)
{
	uint64_t limit = UINT64_MAX, sent, joins;

	if (h->n_out) {
		sent = h->out[0].sent_ms;
		if (n_joins) {
			joins = h->received_ms + HEARTBEAT_JOINS_MS +
				(uint64_t)n_joins * HEARTBEAT_PER_JOIN_MS;
			limit = later(joins, sent + HEARTBEAT_JOINS_LEAST_MS);
		} else {
			/* The answer stood behind the join's; it has its full time from there. */
			limit = later(sent, h->join_done_ms) + h->reply_ms;
		}
		limit = earlier(limit, sent + later(HEARTBEAT_JOINS_MOST_MS, h->reply_ms));
	}
	if (h->poked_ms && !n_joins)
		limit = earlier(limit, later(h->poked_ms, h->join_done_ms) +
					       earlier(h->reply_ms, HEARTBEAT_POKE_MS));
	if (h->busy_ms)
		limit = earlier(limit, h->busy_ms + h->reply_ms);
	return limit;
}
