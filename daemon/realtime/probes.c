/* SPDX-License-Identifier: MIT */
#include "realtime/probes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 8 };

void probes_done(struct probes *p)
{
	free(p->at);
	*p = (struct probes){ NULL, 0, 0 };
}

int probes_add(struct probes *p, session_reply_fn fn, void *ctx, uint64_t cookie)
{
	size_t cap = p->cap ? p->cap * 2 : FIRST_CAP;
	struct probe *at;

	if (p->n == p->cap) {
		at = reallocarray(p->at, cap, sizeof(*at));
		if (!at)
			return -ENOMEM;
		p->at = at;
		p->cap = cap;
	}
	p->at[p->n++] = (struct probe){ 0, fn, ctx, cookie };
	return 0;
}

void probes_drop_last(struct probes *p)
{
	p->n--;
}

void probes_assign(struct probes *p, uint64_t ref)
{
	for (size_t i = p->n; i > 0 && !p->at[i - 1].ref; i--)
		p->at[i - 1].ref = ref;
}

bool probes_take(struct probes *p, uint64_t ref, struct probe *ret)
{
	if (!p->n || !p->at[0].ref || p->at[0].ref > ref)
		return false;
	*ret = p->at[0];
	p->n--;
	memmove(p->at, p->at + 1, p->n * sizeof(*p->at));
	return true;
}
