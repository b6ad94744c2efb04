/* SPDX-License-Identifier: MIT */
#include "realtime/presence_impl.h"

/* By name; those of one name in the order in which their metas came. A state can give a meta
 * another content in its place: until the end of the call both are there with the same turn, and
 * which is first does not matter, for one of them only was and the other one only is. */
int presence_member_compare(struct presence_member *a, struct presence_member *b)
{
	int r = presence_str_compare(a->name, b->name);

	if (r == 0)
		r = (a->meta->turn > b->meta->turn) - (a->meta->turn < b->meta->turn);
	if (r == 0)
		r = ((uintptr_t)a->meta > (uintptr_t)b->meta) -
		    ((uintptr_t)a->meta < (uintptr_t)b->meta);
	return r;
}

RB_GENERATE(presence_member_tree, presence_member, by_name, presence_member_compare)

void presence_members_put(struct presence_meta *m)
{
	struct presence_member *next, *same;
	size_t kept = 0;

	for (size_t i = 0; i < m->n_members; i++) {
		next = &m->members[kept];
		*next = m->members[i];
		same = RB_INSERT(presence_member_tree, &m->slot->key->members, next);
		/* Equal names in one map, which JSON cannot bring: the last one counts. */
		if (same)
			same->state = next->state;
		else
			kept++;
	}
	m->n_members = kept;
}

void presence_members_remove(struct presence_meta *m)
{
	for (size_t i = 0; i < m->n_members; i++)
		RB_REMOVE(presence_member_tree, &m->slot->key->members, &m->members[i]);
}

static bool same_name(const struct presence_member *a, const struct presence_member *b)
{
	return presence_str_compare(a->name, b->name) == 0;
}

/* Of those with the name of @m, in the tree. */
static struct presence_member *last_of_name(struct presence_member *m)
{
	struct presence_member_tree *tree = &m->meta->slot->key->members;
	struct presence_meta end = { .turn = UINT64_MAX };
	struct presence_member probe = { .meta = &end, .name = m->name }, *behind;

	behind = RB_NFIND(presence_member_tree, tree, &probe);
	return behind ? RB_PREV(presence_member_tree, tree, behind)
		      : RB_MAX(presence_member_tree, tree);
}

bool presence_member_news(struct presence_member *m, uint64_t n_compared,
			  struct presence_member **ret_was, struct presence_member **ret_now)
{
	struct presence_member *last = last_of_name(m);
	const struct presence_slot *slot;

	if (last->compared == n_compared)
		return false;
	last->compared = n_compared;
	*ret_was = *ret_now = NULL;
	for (m = last; m && same_name(m, last) && !(*ret_was && *ret_now);
	     m = RB_PREV(presence_member_tree, &slot->key->members, m)) {
		slot = m->meta->slot;
		if (!*ret_now && slot->now == m->meta)
			*ret_now = m;
		if (!*ret_was && (slot->is_touched ? slot->was : slot->now) == m->meta)
			*ret_was = m;
	}
	return true;
}

bool presence_member_is_shown(struct presence_member *m)
{
	struct presence_member *next =
		RB_NEXT(presence_member_tree, &m->meta->slot->key->members, m);

	return !next || !same_name(m, next);
}
