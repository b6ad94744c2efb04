/* SPDX-License-Identifier: MIT */
#include "realtime/probes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 8 };

void probes_done(struct probes *p)
{
	free(p->at);
	*p = (struct probes){ NULL, 0, 0, 0 };
}

int probes_add(struct probes *p, session_reply_fn fn, void *ctx, uint64_t cookie)
{
	size_t cap = p->cap ? p->cap * 2 : FIRST_CAP;
	struct probe *at;

	if (p->first + p->n == p->cap && p->first > p->cap / 2) {
		memmove(p->at, p->at + p->first, p->n * sizeof(*p->at));
		p->first = 0;
	}
	if (p->first + p->n == p->cap) {
		at = reallocarray(p->at, cap, sizeof(*at));
		if (!at)
			return -ENOMEM;
		p->at = at;
		p->cap = cap;
	}
	p->at[p->first + p->n++] = (struct probe){ 0, fn, ctx, cookie };
	return 0;
}

void probes_drop_last(struct probes *p)
{
	p->n--;
}

void probes_assign(struct probes *p, uint64_t ref)
{
	for (size_t i = p->first + p->n; i > p->first && !p->at[i - 1].ref; i--)
		p->at[i - 1].ref = ref;
}

bool probes_take(struct probes *p, uint64_t ref, struct probe *ret)
{
	if (!p->n || !p->at[p->first].ref || p->at[p->first].ref > ref)
		return false;
	*ret = p->at[p->first++];
	if (--p->n == 0)
		p->first = 0;
	return true;
}
