/* SPDX-License-Identifier: MIT */
#include "realtime/pace.h"

void pace_init(struct pace *p, uint32_t base, uint32_t most, uint64_t now)
{
	*p = (struct pace){ .base = base, .most = base * PACE_FASTER };
	if (most && most < p->most)
		p->most = most > base ? most : base;
	bucket_init(&p->bucket, base, PACE_BURST, now);
}

uint32_t pace_per_s(const struct pace *p, uint64_t now)
{
	if (now < p->slow_until_ms)
		return p->base > 1 ? p->base / 2 : 1;
	return p->n_clean >= PACE_CLEAN ? p->most : p->base;
}

uint64_t pace_take(struct pace *p, uint64_t now)
{
	p->bucket.per_s = pace_per_s(p, now);
	return bucket_take(&p->bucket, now, 0);
}

void pace_give_back(struct pace *p)
{
	bucket_give_back(&p->bucket);
}

void pace_clean(struct pace *p)
{
	if (p->n_clean < PACE_CLEAN)
		p->n_clean++;
}

void pace_too_fast(struct pace *p, uint64_t now)
{
	p->n_clean = 0;
	p->slow_until_ms = now + PACE_SLOW_MS;
}
