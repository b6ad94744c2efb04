/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "proto/rtbp_pack.h"
#include "realtime/presence_impl.h"

static bool same_bytes(struct rtbp_val a, struct rtbp_val b)
{
	return a.size == b.size && memcmp(a.p, b.p, a.size) == 0;
}

static void pack_str_field(struct rtbp_buf *b, enum rtbp_field field, struct rtbp_str s)
{
	rtbp_pack_field(b, field);
	rtbp_pack_str(b, s.p, s.size);
}

/* @prev: NULL but for an update. */
static void pack_entry(struct rtbp_buf *b, const struct presence_member *m,
		       const struct rtbp_str *prev, struct rtbp_str ref)
{
	rtbp_pack_map(b, prev ? 4 : 3);
	pack_str_field(b, RTBP_F_KEY, m->key);
	if (prev)
		pack_str_field(b, RTBP_F_PREV, *prev);
	pack_str_field(b, RTBP_F_REF, ref);
	rtbp_pack_field(b, RTBP_F_STATE);
	rtbp_pack_val(b, m->state);
}

static void emit(struct presence *p, enum presence_change which, const struct presence_member *m,
		 struct rtbp_str prev, struct rtbp_str ref)
{
	pack_entry(&p->changes[which].entries, m, which == PRESENCE_UPDATE ? &prev : NULL, ref);
	p->changes[which].n++;
}

/* ---- keys of which every meta is an entry ---- */

/* A slot that was empty before and whose meta names one that is empty now. The first that names it
 * has it: anybody can send a phx_ref_prev. */
static void pair_slot(struct presence *p, struct presence_slot *s)
{
	struct presence_member m = { .key = s->key->name };
	struct presence_slot *prev;

	if (s->was || !s->now || !s->now->prev.p)
		return;
	prev = presence_find_slot(s->key, s->now->prev);
	if (!prev || !prev->was || prev->now || prev->is_paired)
		return;
	prev->is_paired = s->is_paired = true;
	m.state = s->now->state;
	emit(p, PRESENCE_UPDATE, &m, prev->ref, s->ref);
}

static void compare_slot(struct presence *p, struct presence_slot *s)
{
	struct presence_member m = { .key = s->key->name };

	m.state = s->now ? s->now->state : s->was->state;
	if (s->is_paired)
		return;
	if (!s->now)
		emit(p, PRESENCE_LEAVE, &m, s->ref, s->ref);
	else if (!s->was)
		emit(p, PRESENCE_JOIN, &m, s->ref, s->ref);
	else if (!same_bytes(s->was->state, m.state))
		emit(p, PRESENCE_UPDATE, &m, s->ref, s->ref);
}

/* ---- bridges ---- */

/* What is shown of a bridge: its members, or the one meta as it stands. */
struct side {
	struct rtbp_str ref;
	struct rtbp_str prev;
	const struct presence_member *members;
	size_t n;
	struct presence_member itself;
};

/* @meta: of @slot, now or before; NULL: nothing is shown. */
static void side_init(struct side *side, const struct presence_slot *slot,
		      const struct presence_meta *meta)
{
	*side = (struct side){ .n = 0 };
	if (meta && meta->merges) {
		side->ref = slot->key->name;
		side->members = meta->members;
		side->n = meta->n_members;
	} else if (meta) {
		side->ref = slot->ref;
		side->prev = meta->prev;
		side->itself = (struct presence_member){ slot->key->name, meta->state };
		side->members = &side->itself;
		side->n = 1;
	}
}

/* Both in order of key, and what has the same key has the same ref. */
static void compare_members(struct presence *p, const struct side *was, const struct side *now)
{
	size_t i = 0, j = 0;
	int order;

	while (i < was->n || j < now->n) {
		order = i == was->n ? 1
			: j == now->n
				? -1
				: presence_str_compare(was->members[i].key, now->members[j].key);
		if (order < 0)
			emit(p, PRESENCE_LEAVE, &was->members[i], was->ref, was->ref);
		else if (order > 0)
			emit(p, PRESENCE_JOIN, &now->members[j], now->ref, now->ref);
		else if (!same_bytes(was->members[i].state, now->members[j].state))
			emit(p, PRESENCE_UPDATE, &now->members[j], was->ref, now->ref);
		i += order <= 0;
		j += order >= 0;
	}
}

static void compare_bridge(struct presence *p, struct presence_key *k)
{
	struct presence_slot *before = k->shown, *after = TAILQ_LAST(&k->order, presence_slot_list);
	const struct presence_meta *was = NULL;
	struct side a, b, nobody = { .n = 0 };

	if (before)
		was = before->is_touched ? before->was : before->now;
	if (before == after && (!after || was == after->now))
		return;
	side_init(&a, before, was);
	side_init(&b, after, after ? after->now : NULL);
	if (presence_str_compare(a.ref, b.ref) == 0) {
		compare_members(p, &a, &b);
	} else if (was && !was->merges && b.prev.p && presence_str_compare(a.ref, b.prev) == 0) {
		emit(p, PRESENCE_UPDATE, b.members, a.ref, b.ref);
	} else {
		compare_members(p, &a, &nobody);
		compare_members(p, &nobody, &b);
	}
}

int presence_compare(struct presence *p)
{
	struct presence_slot *s;
	struct presence_key *k;

	TAILQ_FOREACH(s, &p->touched, touch) {
		if (!s->key->is_bridge)
			pair_slot(p, s);
	}
	TAILQ_FOREACH(s, &p->touched, touch) {
		if (!s->key->is_bridge)
			compare_slot(p, s);
	}
	TAILQ_FOREACH(k, &p->touched_bridges, touch)
		compare_bridge(p, k);
	p->n_entries += p->changes[PRESENCE_JOIN].n;
	p->n_entries -= p->changes[PRESENCE_LEAVE].n;
	for (int i = 0; i < PRESENCE_N_CHANGES; i++) {
		if (!rtbp_buf_ok(&p->changes[i].entries))
			return -ENOMEM;
	}
	return 0;
}

/* ---- out ---- */

static void pack_slot(struct rtbp_buf *b, const struct presence_slot *s)
{
	struct side side;

	side_init(&side, s, s->now);
	for (size_t i = 0; i < side.n; i++)
		pack_entry(b, &side.members[i], NULL, side.ref);
}

void presence_pack_snapshot(const struct presence *p, struct rtbp_buf *b)
{
	struct presence_key_tree keys = p->keys; /* the macros want to be able to write */
	struct presence_slot *s;
	struct presence_key *k;

	rtbp_pack_array(b, (uint32_t)p->n_entries);
	RB_FOREACH(k, presence_key_tree, &keys) {
		if (k->is_bridge) {
			pack_slot(b, TAILQ_LAST(&k->order, presence_slot_list));
			continue;
		}
		TAILQ_FOREACH(s, &k->order, in_order)
			pack_slot(b, s);
	}
}

size_t presence_n_changes(const struct presence *p, enum presence_change which)
{
	return p->changes[which].n;
}

void presence_pack_changes(const struct presence *p, enum presence_change which, struct rtbp_buf *b)
{
	rtbp_pack_array(b, (uint32_t)p->changes[which].n);
	rtbp_buf_put(b, p->changes[which].entries.data, p->changes[which].entries.size);
}
