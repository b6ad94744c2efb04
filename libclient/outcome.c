/* SPDX-License-Identifier: MIT */
/*
 * Sends whose answers were lost with the attachment.
 *
 *     SENT --the attachment ends--> LOST --`outcome` is asked--> ASKED --an outcome--> told
 *                                     ^                            |
 *                                     +--- pending, or the end ----+
 *
 * Each send has a name (the daemon keeps what became of it for a minute), and stays in the table of
 * requests under its number, by which the questions go as well: to ask needs no memory. Whatever
 * happens it ends once: told by the daemon; as "unknown" when that does not know, when there is no
 * new attachment in time, or with the client.
 */
#include <errno.h>
#include <string.h>

#include "libclient/client.h"

static const char gone[] = "the daemon went away before it answered";

const char *rtbc_send_name(const struct rtb_client *c, const struct rtbc_pending *p,
			   char buf[RTBC_NAME_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	uint64_t number = (uint64_t)p->id, rest = number;
	size_t n = sizeof(c->name_prefix) - 1;

	if (*p->name || !p->has_name)
		return p->name;
	memcpy(buf, c->name_prefix, n);
	do
		n++;
	while (rest >>= 4);
	buf[n] = '\0';
	for (; n >= sizeof(c->name_prefix); number >>= 4)
		buf[--n] = digits[number & 15];
	return buf;
}

static void set_due(struct rtb_client *c, int64_t at)
{
	if (c->lost_at < 0 || at < c->lost_at)
		c->lost_at = at;
	rtbc_kick(c, at - rtbc_now_ms());
}

void rtbc_lost_add(struct rtb_client *c, struct rtbc_pending *p)
{
	int64_t now = rtbc_now_ms();

	TAILQ_REMOVE(&c->pending, p, order_link);
	TAILQ_INSERT_TAIL(&c->lost, p, order_link);
	p->stage = RTBC_LOST;
	/* The daemon's clock of it has started before. */
	p->until = now + p->ttl_ms + RTBC_LOST_MS;
	if (c->lost_at < 0)
		set_due(c, c->detached_at + RTBC_LOST_MS);
}

void rtbc_lost_on_detach(struct rtb_client *c)
{
	struct rtbc_pending *p;

	c->detached_at = rtbc_now_ms();
	c->is_ask_due = false;
	c->lost_at = -1;
	TAILQ_FOREACH(p, &c->lost, order_link)
		p->stage = RTBC_LOST;
	if (!TAILQ_EMPTY(&c->lost))
		set_due(c, c->detached_at + RTBC_LOST_MS);
}

void rtbc_lost_on_attach(struct rtb_client *c)
{
	struct rtbc_pending *p;
	int64_t now = rtbc_now_ms();

	TAILQ_FOREACH(p, &c->lost, order_link) {
		p->at = now;
		p->pause_ms = 0;
	}
	if (!TAILQ_EMPTY(&c->lost))
		set_due(c, now);
	c->is_ask_due = c->has_outcome && !TAILQ_EMPTY(&c->lost);
}

/* ---- asking ---- */

static int ask(struct rtb_client *c, struct rtbc_pending *p, int64_t now)
{
	char name[RTBC_NAME_SIZE];
	size_t begin;
	int r;

	if (c->out_has_token || rtbc_queued(c) >= c->queue_limit)
		return rtbc_fail(c, RTB_E_BUSY, "the send queue is full");
	begin = rtbp_msg_begin_request(&c->out, (uint32_t)p->id, RTBP_M_OUTCOME);
	rtbp_pack_map(&c->out, 1);
	rtbp_pack_field_text(&c->out, RTBP_F_ID, rtbc_send_name(c, p, name));
	r = rtbc_request_check(c, begin);
	if (r < 0)
		return r;
	p->stage = RTBC_ASKED;
	p->at = now + RTBC_LOST_MS;
	set_due(c, p->at);
	return 0;
}

int rtbc_lost_flush(struct rtb_client *c)
{
	int64_t now = c->is_ask_due ? rtbc_now_ms() : 0;
	struct rtbc_pending *p;
	int r;

	if (!c->is_ask_due)
		return 0;
	TAILQ_FOREACH(p, &c->lost, order_link) {
		if (p->stage != RTBC_LOST || p->at > now)
			continue;
		r = ask(c, p, now);
		if (r < 0)
			return r;
	}
	c->is_ask_due = false;
	return 0;
}

/* It has no outcome yet, or the daemon cannot tell now. */
static void ask_later(struct rtb_client *c, struct rtbc_pending *p)
{
	int64_t now = rtbc_now_ms();

	if (now >= p->until) {
		rtbc_end_unknown(c, p, "the daemon had no outcome of it in time", "");
		return;
	}
	p->pause_ms = p->pause_ms ? 2 * p->pause_ms : RTBC_ASK_FIRST_MS;
	if (p->pause_ms > RTBC_ASK_CAP_MS)
		p->pause_ms = RTBC_ASK_CAP_MS;
	p->stage = RTBC_LOST;
	p->at = now + p->pause_ms < p->until ? now + p->pause_ms : p->until;
	set_due(c, p->at);
}

void rtbc_lost_answered(struct rtb_client *c, struct rtbc_pending *p, struct rtbp_val result,
			const struct rtbp_error_info *e)
{
	struct rtbp_str word = { NULL, 0 };

	if (p->stage != RTBC_ASKED)
		return; /* from a daemon that was not asked */
	if (e && e->code >= 200) {
		rtbc_end_unknown(c, p,
				 "the connection to the daemon was lost before the answer, and the "
				 "daemon knows no more of it",
				 "");
		return;
	}
	(void)rtbp_get_str(rtbp_field(result, RTBP_F_OUTCOME), &word);
	if (e || rtbp_str_is(word, rtb_outcome_name(RTB_PENDING))) {
		ask_later(c, p);
		return;
	}
	rtbc_pending_take(c, p);
	rtbc_on_result(c, p, result);
	rtbc_pending_free(c, p);
}

/* ---- time ---- */

/* Return: when it is due next; -1: it has ended. */
static int64_t look(struct rtb_client *c, struct rtbc_pending *p, int64_t now)
{
	int64_t end = c->detached_at + RTBC_LOST_MS;

	if (c->phase == RTBC_ATTACHED && c->has_outcome) {
		if (p->at > now)
			return p->at;
		if (p->stage == RTBC_LOST) {
			c->is_ask_due = true;
			return now + RTBC_LOST_MS; /* asking sets it */
		}
	} else if (c->phase != RTBC_ATTACHED && end > now) {
		return end;
	}
	rtbc_end_unknown(c, p, gone, "");
	return -1;
}

void rtbc_lost_tick(struct rtb_client *c, int64_t now)
{
	struct rtbc_pending *p, *next_one;
	int64_t at, next = -1;

	if (c->lost_at < 0)
		return;
	if (c->lost_at > now) {
		rtbc_kick(c, c->lost_at - now);
		return;
	}
	c->lost_at = -1;
	/* Callbacks neither add to this list nor take from it. */
	for (p = TAILQ_FIRST(&c->lost); p; p = next_one) {
		next_one = TAILQ_NEXT(p, order_link);
		at = look(c, p, now);
		if (at >= 0 && (next < 0 || at < next))
			next = at;
	}
	if (next >= 0)
		set_due(c, next);
}

void rtbc_lost_end_all(struct rtb_client *c, const char *why)
{
	struct rtbc_pending *p;

	while ((p = TAILQ_FIRST(&c->lost)))
		rtbc_end_unknown(c, p, why, "");
}
