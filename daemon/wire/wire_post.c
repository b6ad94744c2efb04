/* SPDX-License-Identifier: MIT */
/*
 * HTTP requests on the M side: which are in flight. A request is in exactly one place: here while
 * its name is looked up, then in W's hands; its room for the answer comes back as news.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "wire/wire_main.h"

static void rider_free(void *rider)
{
	wire_request_free(rider);
}

/* It ends before W knows of it. */
static void post_fail(struct wire *w, unsigned slot, enum wire_why why, const char *text)
{
	struct post *p = &w->posts[slot];
	struct wire_answer *answer = wire_request_answer(p->request);
	struct mbox_item *item;

	answer->why = why;
	snprintf(answer->text, sizeof(answer->text), "%s", text);
	item = wire_request_take_answer(p->request);
	p->request = wire_request_free(p->request);
	item->link = slot;
	item->epoch = p->nr;
	wire_tell(w, item);
}

void wire_posts_on_found(struct wire *w, unsigned slot, const struct wire_found *found)
{
	struct post *p = &w->posts[slot];
	struct mbox_item *item;

	if (!found->ok) {
		post_fail(w, slot, found->why, found->text);
		return;
	}
	item = mbox_item_new(0);
	if (!item) {
		post_fail(w, slot, WIRE_CONNECT, "no memory");
		return;
	}
	item->kind = WIRE_DOWN_POST;
	item->link = slot;
	item->epoch = p->nr;
	item->rider = TAKE(p->request);
	item->rider_free = rider_free;
	wire_give(w, item, true);
}

int wire_post(struct wire *w, uint64_t id, const struct wire_post *post)
{
	CLEANUP(wire_request_freep) struct wire_request *req = NULL;
	struct post *p;
	unsigned slot = 0;
	int r;

	while (slot < WIRE_MAX_POSTS && w->posts[slot].used)
		slot++;
	if (slot == WIRE_MAX_POSTS)
		return WIRE_E_BUSY;
	r = wire_request_new(post, &req);
	if (r < 0)
		return r;
	p = &w->posts[slot];
	p->used = true;
	p->id = id;
	p->nr = ++w->next_post;
	req->to->proxy = wire_proxy_of(w);
	req->to->attempt_ms = post->timeout_ms;
	req->to->deadline_ms = wire_now_ms() + post->timeout_ms;
	p->request = TAKE(req);
	wire_find_start(w->find, WIRE_MAX_LINKS + slot, p->request->to, w->conf.dns_ms);
	return 0;
}

void wire_posts_on_item(struct wire *w, const struct mbox_item *item)
{
	struct post *p = &w->posts[item->link];
	struct wire_answer answer;

	if (!p->used || p->nr != item->epoch)
		return;
	memcpy(&answer, item->data, sizeof(answer));
	answer.body = (const char *)item->data + sizeof(answer);
	/* Before the call: it may post again. */
	p->used = false;
	w->ops->answered(w->ctx, p->id, &answer);
}

void wire_posts_done(struct wire *w)
{
	for (unsigned i = 0; i < WIRE_MAX_POSTS; i++)
		w->posts[i].request = wire_request_free(w->posts[i].request);
}
