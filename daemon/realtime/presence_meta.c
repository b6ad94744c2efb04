/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_msg.h"
#include "proto/rtbp_pack.h"
#include "realtime/presence_impl.h"

enum { SCRATCH_KEEP = 16 * 1024 };

static const char ref_key[] = "phx_ref", prev_key[] = "phx_ref_prev";

static bool starts_with_bridge(struct rtbp_str s)
{
	size_t n = sizeof(PRESENCE_BRIDGE) - 1;

	return s.size >= n && memcmp(s.p, PRESENCE_BRIDGE, n) == 0;
}

bool presence_meta_ref(struct rtbp_val meta, struct rtbp_str *ret)
{
	/* Trackers can put a phx_ref of their own into the payload, so it may be anything;
	 * "rtbridge:" would be taken for the name of a member. */
	return rtbp_get_str(rtbp_find(meta, ref_key, sizeof(ref_key) - 1), ret) &&
	       !starts_with_bridge(*ret);
}

static bool is_ref(struct rtbp_val key)
{
	struct rtbp_str s;

	return rtbp_get_str(key, &s) && (rtbp_str_is(s, ref_key) || rtbp_str_is(s, prev_key));
}

/* The meta without the refs. */
static int pack_state(struct rtbp_val meta, struct rtbp_buf *b)
{
	struct rtbp_iter it, again;
	struct rtbp_val k, v;
	uint32_t n = 0;

	rtbp_buf_reset(b, SCRATCH_KEEP);
	if (rtbp_iter_map(meta, &it)) {
		again = it;
		while (rtbp_iter_next(&it, &k) && rtbp_iter_next(&it, &v))
			n += !is_ref(k);
		rtbp_pack_map(b, n);
		while (rtbp_iter_next(&again, &k) && rtbp_iter_next(&again, &v)) {
			if (!is_ref(k))
				rtbp_buf_put(b, k.p, k.size + v.size); /* side by side */
		}
	}
	return b->error;
}

/* The next pair that makes a member: what no client of a bridge could track is nobody's. */
static bool next_member(struct rtbp_iter *it, struct presence_member *ret)
{
	struct rtbp_val k;

	while (rtbp_iter_next(it, &k) && rtbp_iter_next(it, &ret->state)) {
		if (rtbp_get_str(k, &ret->name) && rtbp_key_ok(ret->name) &&
		    rtbp_is(ret->state, RTBP_MAP))
			return true;
	}
	return false;
}

static bool iter_members(struct rtbp_val state, struct rtbp_iter *ret)
{
	return rtbp_iter_map(rtbp_field(state, RTBP_F_MEMBERS), ret);
}

static void fill_members(struct presence_meta *m)
{
	struct presence_member member = { .meta = m };
	struct rtbp_iter it;

	if (!iter_members(m->state, &it))
		return;
	m->merges = true;
	while (next_member(&it, &member))
		m->members[m->n_members++] = member;
}

/* Stops at the first for which there is no room. */
static size_t count_members(struct rtbp_val state, size_t max)
{
	struct presence_member member;
	struct rtbp_iter it;
	size_t n = 0;

	if (iter_members(state, &it)) {
		while (n <= max && next_member(&it, &member))
			n++;
	}
	return n;
}

int presence_meta_new(struct rtbp_val meta, const struct presence_key *key, struct rtbp_str ref,
		      size_t max_cost, struct rtbp_buf *scratch, struct presence_meta **ret)
{
	/* An entry that comes out carries its key (a member that of the server), so each counts it:
	 * a long key with many short metas would else make a snapshot far over the limit. */
	size_t each = PRESENCE_MEMBER_BYTES + key->name.size, n = 0, cost;
	struct rtbp_str prev = { NULL, 0 };
	struct presence_meta *m;
	struct rtbp_val state;
	uint8_t *bytes;

	if (pack_state(meta, scratch))
		return -ENOMEM;
	state = (struct rtbp_val){ scratch->data, scratch->size };
	(void)rtbp_get_str(rtbp_find(meta, prev_key, sizeof(prev_key) - 1), &prev);
	cost = PRESENCE_META_BYTES + key->name.size + ref.size + prev.size + state.size;
	if (cost > max_cost)
		return PRESENCE_E_OVERFLOW;
	if (key->is_bridge)
		n = count_members(state, (max_cost - cost) / each);
	if (n > (max_cost - cost) / each)
		return PRESENCE_E_OVERFLOW;
	m = calloc(1, sizeof(*m) + n * sizeof(*m->members) + state.size + prev.size);
	if (!m)
		return -ENOMEM;
	bytes = (uint8_t *)&m->members[n];
	memcpy(bytes, state.p, state.size);
	m->cost = cost + n * each;
	m->state = (struct rtbp_val){ bytes, state.size };
	if (prev.p) {
		bytes += state.size;
		memcpy(bytes, prev.p, prev.size);
		m->prev = (struct rtbp_str){ (const char *)bytes, prev.size };
	}
	if (key->is_bridge)
		fill_members(m);
	*ret = m;
	return 0;
}
