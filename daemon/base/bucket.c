/* SPDX-License-Identifier: MIT */
#include "base/bucket.h"

void bucket_init(struct bucket *b, uint32_t per_s, uint32_t burst, uint64_t now)
{
	*b = (struct bucket){
		.per_s = per_s, .burst = burst, .milli = (int64_t)burst * 1000, .at_ms = now
	};
}

uint64_t bucket_take(struct bucket *b, uint64_t now, uint32_t debt)
{
	int64_t max = (int64_t)b->burst * 1000, least = 1000 - (int64_t)debt * 1000, missing;
	uint64_t passed = now - b->at_ms;

	/* After a long time it is full, however the product would have come out. */
	if (passed > 1000ull * (b->burst + debt + 1))
		b->milli = max;
	else
		b->milli += (int64_t)(passed * b->per_s);
	b->at_ms = now;
	if (b->milli > max)
		b->milli = max;
	if (b->milli < least) {
		missing = least - b->milli;
		return now + (uint64_t)(missing + b->per_s - 1) / b->per_s;
	}
	b->milli -= 1000;
	return 0;
}

void bucket_give_back(struct bucket *b)
{
	b->milli += 1000;
}
