/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of the M side share: wire.c (links, mailboxes) and wire_post.c (HTTP requests).
 * Nobody else includes this.
 */
#include "wire/mbox.h"
#include "wire/resolver.h"
#include "wire/wire.h"
#include "wire/wire_attempt.h"
#include "wire/wire_find.h"
#include "wire/wire_lws.h"
#include "wire/wire_proxy.h"
#include "wire/wire_request.h"

enum link_state { LINK_FREE, LINK_RESOLVING, LINK_GIVEN, LINK_UP };

struct link {
	enum link_state state;
	uint64_t epoch;
	bool ended, was_open;
	struct wire_attempt *attempt; /* while RESOLVING */
};

struct post {
	bool used;
	uint64_t nr, id;              /* ours; the caller's */
	struct wire_request *request; /* while its name is looked up */
};

struct wire {
	struct wire_conf conf;
	struct wire_proxy proxy; /* host NULL: none */
	/* What it points to: a thread that is left behind looks at it after the caller's is gone. */
	char proxy_host[WIRE_HOST_MAX + 1];
	struct secret *proxy_auth;
	const struct wire_ops *ops;
	void *ctx;
	int epfd; /* what M polls: the eventfd and the resolver */
	struct wire_shared shared;
	struct wire_find *find; /* slots: the links, then the posts */
	struct wire_lws *lws;
	struct mbox_item *inbox; /* taken from `shared.up`, not yet handed on */
	struct link links[WIRE_MAX_LINKS];
	struct post posts[WIRE_MAX_POSTS];
	uint64_t next_post;
};

_Static_assert((int)RESOLVER_SLOTS >= (int)WIRE_MAX_LINKS + (int)WIRE_MAX_POSTS,
	       "a resolver slot for each");

/* NULL: none. */
static inline const struct wire_proxy *wire_proxy_of(const struct wire *w)
{
	return w->proxy.host ? &w->proxy : NULL;
}

/* To W. Return: 0; 1 when the mailbox is full (never with `force`), the caller still owns it. */
int wire_give(struct wire *w, struct mbox_item *item, bool force);
/* To M itself, by the way of W's news: ops are called from wire_dispatch() only. */
void wire_tell(struct wire *w, struct mbox_item *item);

/* wire_post.c */
void wire_posts_on_found(struct wire *w, unsigned slot, const struct wire_found *found);
void wire_posts_on_item(struct wire *w, const struct mbox_item *item);
void wire_posts_done(struct wire *w);
