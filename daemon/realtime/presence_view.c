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
static void pack_entry(struct rtbp_buf *b, struct rtbp_str key, const struct rtbp_str *prev,
		       struct rtbp_str ref, struct rtbp_val state)
{
	rtbp_pack_map(b, prev ? 4 : 3);
	pack_str_field(b, RTBP_F_KEY, key);
	if (prev)
		pack_str_field(b, RTBP_F_PREV, *prev);
	pack_str_field(b, RTBP_F_REF, ref);
	rtbp_pack_field(b, RTBP_F_STATE);
	rtbp_pack_val(b, state);
}

/* ---- metas that are entries ---- */

/* @meta: if it is an entry, else NULL. */
static const struct presence_meta *entry_of(const struct presence_meta *meta)
{
	return meta && !meta->merges ? meta : NULL;
}

static void emit(struct presence *p, enum presence_change which, const struct presence_slot *s,
		 struct rtbp_str prev, const struct presence_meta *meta)
{
	pack_entry(&p->changes[which].entries, s->key->name,
		   which == PRESENCE_UPDATE ? &prev : NULL, s->ref, meta->state);
	p->changes[which].n++;
}

/* A slot without an entry before, whose meta names one without an entry now. The first that names
 * it has it: anybody can send a phx_ref_prev. */
static void pair_slot(struct presence *p, struct presence_slot *s)
{
	const struct presence_meta *now = entry_of(s->now);
	struct presence_slot *prev;

	if (entry_of(s->was) || !now || !now->prev.p)
		return;
	prev = presence_find_slot(s->key, now->prev);
	if (!prev || !entry_of(prev->was) || entry_of(prev->now) || prev->is_paired)
		return;
	prev->is_paired = s->is_paired = true;
	emit(p, PRESENCE_UPDATE, s, prev->ref, now);
}

static void compare_slot(struct presence *p, struct presence_slot *s)
{
	const struct presence_meta *was = entry_of(s->was), *now = entry_of(s->now);

	if (s->is_paired)
		return;
	if (was && !now)
		emit(p, PRESENCE_LEAVE, s, s->ref, was);
	else if (!was && now)
		emit(p, PRESENCE_JOIN, s, s->ref, now);
	else if (now && !same_bytes(was->state, now->state))
		emit(p, PRESENCE_UPDATE, s, s->ref, now);
}

/* ---- metas whose members are entries ---- */

/* @key: under which the members are: their ref, before and after. */
static void emit_member(struct presence *p, enum presence_change which,
			const struct presence_key *key, const struct presence_member *m)
{
	pack_entry(&p->changes[which].entries, m->name,
		   which == PRESENCE_UPDATE ? &key->name : NULL, key->name, m->state);
	p->changes[which].n++;
}

/* @meta: of a touched slot of @key; or NULL */
static void compare_members(struct presence *p, const struct presence_key *key,
			    struct presence_meta *meta)
{
	struct presence_member *was, *now;

	for (size_t i = 0; meta && i < meta->n_members; i++) {
		if (!presence_member_news(&meta->members[i], p->n_compared, &was, &now))
			continue;
		if (was && !now)
			emit_member(p, PRESENCE_LEAVE, key, was);
		else if (!was && now)
			emit_member(p, PRESENCE_JOIN, key, now);
		else if (now && !same_bytes(was->state, now->state))
			emit_member(p, PRESENCE_UPDATE, key, now);
	}
}

int presence_compare(struct presence *p)
{
	struct presence_slot *s;

	p->n_compared++;
	TAILQ_FOREACH(s, &p->touched, touch)
		pair_slot(p, s);
	TAILQ_FOREACH(s, &p->touched, touch) {
		compare_slot(p, s);
		compare_members(p, s->key, s->was);
		compare_members(p, s->key, s->now);
	}
	p->n_entries += p->changes[PRESENCE_JOIN].n;
	p->n_entries -= p->changes[PRESENCE_LEAVE].n;
	for (int i = 0; i < PRESENCE_N_CHANGES; i++) {
		if (!rtbp_buf_ok(&p->changes[i].entries))
			return -ENOMEM;
	}
	return 0;
}

/* ---- out ---- */

void presence_pack_snapshot(const struct presence *p, struct rtbp_buf *b)
{
	struct presence_key_tree keys = p->keys; /* the macros want to be able to write */
	struct presence_member *m;
	struct presence_slot *s;
	struct presence_key *k;

	rtbp_pack_array(b, (uint32_t)p->n_entries);
	RB_FOREACH(k, presence_key_tree, &keys) {
		TAILQ_FOREACH(s, &k->order, in_order) {
			if (entry_of(s->now))
				pack_entry(b, k->name, NULL, s->ref, s->now->state);
		}
		RB_FOREACH(m, presence_member_tree, &k->members) {
			if (presence_member_is_shown(m))
				pack_entry(b, m->name, NULL, k->name, m->state);
		}
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
