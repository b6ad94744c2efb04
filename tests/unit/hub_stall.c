/* SPDX-License-Identifier: MIT */
#include "hub_stall.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stall stall;
const char stall_never[] = "";

void stall_start(const char *(*judge)(const struct line *join))
{
	stall_done();
	stall = (struct stall){ .judge = judge };
	rig.mute = true; /* heartbeats wait like all else */
}

void stall_done(void)
{
	for (unsigned i = 0; i < LINKS_MAX; i++)
		free(stall.links[i].queue);
	stall = (struct stall){ 0 };
}

bool stall_is(const struct line *f, const char *prefix)
{
	size_t n = strlen("realtime:");

	return strncmp(f->topic, "realtime:", n) == 0 &&
	       strncmp(f->topic + n, prefix, strlen(prefix)) == 0;
}

static bool is_join(const struct line *f)
{
	return strcmp(f->event, "phx_join") == 0;
}

/* ---- what comes ---- */

static void take(size_t at)
{
	struct line *f = &rig.frames.at[at];
	struct stall_link *l = &stall.links[f->link];

	f->taken = true;
	if (l->epoch != f->epoch) {
		l->epoch = f->epoch;
		l->n = 0;
		l->free_at_ms = 0;
	}
	if (l->n == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 64;
		l->queue = realloc(l->queue, l->cap * sizeof(*l->queue));
		MUST(l->queue);
	}
	l->queue[l->n++] = at;
	l->n_joins += is_join(f);
}

static void pop(struct stall_link *l)
{
	l->n--;
	memmove(l->queue, l->queue + 1, l->n * sizeof(*l->queue));
}

static void hold(struct stall_link *l, const struct line *f, const char *words)
{
	struct stall_refusal *r;

	MUST(stall.n_refusals < STALL_REFUSALS);
	l->refusal = stall.n_refusals++;
	r = &stall.refusals[l->refusal];
	r->link = f->link;
	r->at_ms = rig.now;
	snprintf(r->topic, sizeof(r->topic), "%.47s", f->topic);
	snprintf(r->words, sizeof(r->words), "%.23s", words);
	snprintf(l->words, sizeof(l->words), "%s", words);
	l->free_at_ms = rig.now + STALL_MS;
	l->n_bad++;
}

/* One answer. Return: false: there is none to give now. */
static bool answer(struct stall_link *l)
{
	char response[300];
	const char *words;
	struct line f;

	if (!l->n || l->free_at_ms > rig.now)
		return false;
	f = rig.frames.at[l->queue[0]];
	if (!frame_is_current(&f) || f.answered || strcmp(f.event, "access_token") == 0) {
		pop(l);
		return true;
	}
	words = l->free_at_ms ? l->words : is_join(&f) ? stall.judge(&f) : NULL;
	if (words == stall_never) {
		pop(l);
		return true;
	}
	if (words && !l->free_at_ms) {
		hold(l, &f, words);
		return false;
	}
	rig.frames.at[l->queue[0]].answered = true;
	l->free_at_ms = 0;
	pop(l);
	if (words)
		stall.refusals[l->refusal].said = rig.now < f.at_ms + JOIN_REPLY_MS;
	if (words)
		snprintf(response, sizeof(response), "{'reason':'%s'}", words);
	server_reply(&f, !words, words ? response : "{}");
	return true;
}

static bool connect_links(void)
{
	unsigned at = rig.at;
	bool did = false;

	for (rig.at = 0; rig.at < LINKS_MAX; rig.at++) {
		struct fake_link *l = &rig.links[rig.at];

		if (!l->is_open || l->is_closing || stall.silent[rig.at] ||
		    link_is_online(&rig.hub->links[rig.at]))
			continue;
		if (stall.refuses[rig.at])
			server_drop(SESSION_FAULT_RATE, "429");
		else
			server_open();
		did = true;
	}
	rig.at = at;
	return did;
}

static void serve(void)
{
	bool did = true;

	while (did) {
		did = connect_links();
		for (; stall.next < rig.frames.n; stall.next++)
			take(stall.next);
		for (unsigned i = 0; i < LINKS_MAX; i++)
			did |= answer(&stall.links[i]);
	}
}

/* ---- time ---- */

static uint64_t next_event(uint64_t until)
{
	uint64_t next = until, at = hub_deadline(rig.hub);

	next = at < next ? at : next;
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		at = stall.links[i].free_at_ms;
		next = at && at < next ? at : next;
	}
	return next > rig.now ? next : rig.now + 1;
}

void stall_run(uint64_t ms)
{
	uint64_t until = rig.now + ms;

	serve();
	while (rig.now < until) {
		advance(next_event(until) - rig.now);
		serve();
	}
}

uint64_t stall_answer(struct fake_peer *p, uint32_t id, uint64_t max_ms)
{
	uint64_t from = rig.now, until = from + max_ms;

	serve();
	while (p->asked[id] && rig.now < until) {
		advance(next_event(until) - rig.now);
		serve();
	}
	return rig.now - from;
}

uint64_t stall_worst(unsigned link, uint64_t from, uint64_t window_ms)
{
	uint64_t sum, worst = 0;

	for (unsigned i = 0; i < stall.n_refusals; i++) {
		if (stall.refusals[i].link != link || stall.refusals[i].at_ms < from)
			continue;
		sum = 0;
		for (unsigned k = i; k < stall.n_refusals; k++) {
			if (stall.refusals[k].link == link &&
			    stall.refusals[k].at_ms < stall.refusals[i].at_ms + window_ms)
				sum += STALL_MS;
		}
		worst = sum > worst ? sum : worst;
	}
	return worst;
}

unsigned stall_outstanding(unsigned link)
{
	const struct stall_link *l = &stall.links[link];
	unsigned n = 0;

	for (size_t i = 0; i < l->n; i++) {
		const struct line *f = &rig.frames.at[l->queue[i]];

		n += frame_is_current(f) && is_join(f) && !f->answered;
	}
	return n;
}
