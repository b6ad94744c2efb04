/* SPDX-License-Identifier: MIT */
#include "realtime/presence.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/presence_impl.h"

enum { CHANGES_KEEP = 16 * 1024 };

/* A diff that waits for the state. */
struct presence_diff {
	TAILQ_ENTRY(presence_diff) entry;
	size_t size;
	uint8_t payload[];
};

int presence_str_compare(struct rtbp_str a, struct rtbp_str b)
{
	if (a.size != b.size)
		return a.size < b.size ? -1 : 1;
	return a.size ? memcmp(a.p, b.p, a.size) : 0;
}

int presence_slot_compare(struct presence_slot *a, struct presence_slot *b)
{
	return presence_str_compare(a->ref, b->ref);
}

int presence_key_compare(struct presence_key *a, struct presence_key *b)
{
	return presence_str_compare(a->name, b->name);
}

RB_GENERATE(presence_slot_tree, presence_slot, by_ref, presence_slot_compare)
RB_GENERATE(presence_key_tree, presence_key, by_name, presence_key_compare)

/* ---- keys and slots ---- */

static struct presence_key *find_key(struct presence *p, struct rtbp_str name)
{
	struct presence_key key = { .name = name };

	return RB_FIND(presence_key_tree, &p->keys, &key);
}

struct presence_slot *presence_find_slot(struct presence_key *key, struct rtbp_str ref)
{
	struct presence_slot slot = { .ref = ref };

	return RB_FIND(presence_slot_tree, &key->slots, &slot);
}

static struct presence_key *add_key(struct presence *p, struct rtbp_str name)
{
	size_t n = sizeof(PRESENCE_BRIDGE) - 1;
	struct presence_key *k = calloc(1, sizeof(*k) + name.size);

	if (!k)
		return NULL;
	memcpy(k->text, name.p, name.size);
	k->name = (struct rtbp_str){ k->text, name.size };
	k->is_bridge = name.size >= n && memcmp(name.p, PRESENCE_BRIDGE, n) == 0;
	RB_INIT(&k->slots);
	TAILQ_INIT(&k->order);
	RB_INIT(&k->members);
	RB_INSERT(presence_key_tree, &p->keys, k);
	return k;
}

static struct presence_slot *add_slot(struct presence_key *k, struct rtbp_str ref)
{
	struct presence_slot *s = calloc(1, sizeof(*s) + ref.size);

	if (!s)
		return NULL;
	memcpy(s->text, ref.p, ref.size);
	s->ref = (struct rtbp_str){ s->text, ref.size };
	s->key = k;
	RB_INSERT(presence_slot_tree, &k->slots, s);
	return s;
}

static void free_key_if_empty(struct presence *p, struct presence_key *k)
{
	if (!RB_EMPTY(&k->slots))
		return;
	RB_REMOVE(presence_key_tree, &p->keys, k);
	free(k);
}

static void free_meta(struct presence_meta *m)
{
	if (m)
		presence_members_remove(m);
	free(m);
}

/* Ends the slot's part in the call; frees it if nothing is in it. The key stays. */
static void settle_slot(struct presence *p, struct presence_slot *s)
{
	if (s->is_touched) {
		TAILQ_REMOVE(&p->touched, s, touch);
		if (s->was != s->now)
			free_meta(s->was);
		s->was = NULL;
		s->is_touched = s->is_paired = false;
	}
	if (!s->now) {
		RB_REMOVE(presence_slot_tree, &s->key->slots, s);
		free(s);
	}
}

/* Before anything is changed about it or its place. */
static void touch_slot(struct presence *p, struct presence_slot *s)
{
	if (!s->is_touched) {
		s->is_touched = true;
		s->was = s->now;
		TAILQ_INSERT_TAIL(&p->touched, s, touch);
	}
}

/* @s: touched; @meta: given away; NULL: none. @turn: of @meta */
static void put_meta(struct presence *p, struct presence_slot *s, struct presence_meta *meta,
		     uint64_t turn)
{
	struct presence_meta *old = s->now;

	s->now = meta;
	if (meta) {
		p->bytes += meta->cost;
		meta->slot = s;
		meta->turn = turn;
		presence_members_put(meta);
	}
	if (old)
		p->bytes -= old->cost;
	if (old != s->was)
		free_meta(old);
}

static void remove_meta(struct presence *p, struct presence_slot *s)
{
	touch_slot(p, s);
	TAILQ_REMOVE(&s->key->order, s, in_order);
	put_meta(p, s, NULL, 0);
	/* What came and went within the call is dropped at once, so that many diffs that waited
	 * cannot pile up. */
	if (!s->was)
		settle_slot(p, s);
}

/* ---- the end of a call ---- */

static void clear_changes(struct presence *p)
{
	for (int i = 0; i < PRESENCE_N_CHANGES; i++) {
		rtbp_buf_reset(&p->changes[i].entries, CHANGES_KEEP);
		p->changes[i].n = 0;
	}
}

static void settle(struct presence *p)
{
	struct presence_slot *s;
	struct presence_key *k;

	while ((s = TAILQ_FIRST(&p->touched))) {
		k = s->key;
		settle_slot(p, s);
		free_key_if_empty(p, k);
	}
}

static void drop_waiting(struct presence *p)
{
	struct presence_diff *d;

	while ((d = TAILQ_FIRST(&p->waiting))) {
		TAILQ_REMOVE(&p->waiting, d, entry);
		free(d);
	}
	p->waiting_bytes = 0;
}

/* Empty and unknown. */
static void forget(struct presence *p)
{
	struct presence_key *k, *next_key;
	struct presence_slot *s;

	for (k = RB_MIN(presence_key_tree, &p->keys); k; k = next_key) {
		next_key = RB_NEXT(presence_key_tree, &p->keys, k);
		while ((s = TAILQ_FIRST(&k->order)))
			remove_meta(p, s);
		free_key_if_empty(p, k);
	}
	settle(p);
	drop_waiting(p);
	clear_changes(p);
	p->n_entries = 0;
	p->is_known = false;
	p->is_lost = true;
}

static int finish(struct presence *p, int r)
{
	if (r == 0 && p->bytes > p->max_bytes)
		r = PRESENCE_E_OVERFLOW;
	if (r == 0)
		r = presence_compare(p);
	if (r)
		forget(p);
	else
		settle(p);
	return r;
}

/* ---- reading payloads ---- */

typedef int (*meta_fn)(struct presence *p, struct presence_key *k, struct rtbp_val meta,
		       struct rtbp_str ref);

/* Puts one meta under its key, behind the others. */
static int join_meta(struct presence *p, struct presence_key *k, struct rtbp_val meta,
		     struct rtbp_str ref)
{
	struct presence_slot *s = presence_find_slot(k, ref);
	struct presence_meta *m;
	int r;

	/* What a state replaces leaves after it has come, so there may be twice as much for a
	 * while. */
	r = presence_meta_new(meta, k, ref, 2 * p->max_bytes - p->bytes, &p->scratch, &m);
	if (r)
		return r;
	if (!s) {
		s = add_slot(k, ref);
		if (!s) {
			free(m);
			return -ENOMEM;
		}
	}
	touch_slot(p, s);
	if (s->now)
		TAILQ_REMOVE(&k->order, s, in_order);
	put_meta(p, s, m, ++p->n_turns);
	TAILQ_INSERT_TAIL(&k->order, s, in_order);
	return 0;
}

/* Like join_meta(), for a state: what is held already keeps its place, for its order is that in
 * which things came. The server's is another one. */
static int list_meta(struct presence *p, struct presence_key *k, struct rtbp_val meta,
		     struct rtbp_str ref)
{
	struct presence_slot *s = presence_find_slot(k, ref);
	struct presence_meta *m;
	int r;

	if (s && s->now && (s->was || !s->is_touched)) {
		r = presence_meta_new(meta, k, ref, 2 * p->max_bytes - p->bytes, &p->scratch, &m);
		if (r)
			return r;
		if (m->state.size == s->now->state.size &&
		    memcmp(m->state.p, s->now->state.p, m->state.size) == 0) {
			free(m);
		} else {
			touch_slot(p, s);
			put_meta(p, s, m, s->now->turn);
		}
	} else {
		r = join_meta(p, k, meta, ref);
		if (r)
			return r;
		s = presence_find_slot(k, ref);
	}
	s->is_listed = true;
	return 0;
}

static int leave_meta(struct presence *p, struct presence_key *k, struct rtbp_val meta,
		      struct rtbp_str ref)
{
	struct presence_slot *s = presence_find_slot(k, ref);

	(void)meta;
	if (s && s->now)
		remove_meta(p, s);
	return 0;
}

static int read_key(struct presence *p, struct rtbp_str name, struct rtbp_val metas, meta_fn fn)
{
	struct presence_key *k = find_key(p, name);
	struct rtbp_val meta;
	struct rtbp_iter it;
	struct rtbp_str ref;
	int r = 0;

	if (!rtbp_iter_array(metas, &it) || (!k && fn == leave_meta))
		return 0;
	if (!k)
		k = add_key(p, name);
	if (!k)
		return -ENOMEM;
	while (r == 0 && rtbp_iter_next(&it, &meta)) {
		if (presence_meta_ref(meta, &ref))
			r = fn(p, k, meta, ref);
	}
	free_key_if_empty(p, k);
	return r;
}

/* @keys: a map, or absent. */
static int read_keys(struct presence *p, struct rtbp_val keys, meta_fn fn)
{
	struct rtbp_iter it;
	struct rtbp_val k, v;
	struct rtbp_str name;
	int r = 0;

	if (!rtbp_iter_map(keys, &it))
		return 0;
	while (r == 0 && rtbp_iter_next(&it, &k) && rtbp_iter_next(&it, &v)) {
		if (rtbp_get_str(k, &name))
			r = read_key(p, name, rtbp_find(v, "metas", 5), fn);
	}
	return r;
}

static struct rtbp_val joins_of(struct rtbp_val diff)
{
	return rtbp_find(diff, "joins", 5);
}

static struct rtbp_val leaves_of(struct rtbp_val diff)
{
	return rtbp_find(diff, "leaves", 6);
}

static bool is_diff(struct rtbp_val v)
{
	struct rtbp_val joins = joins_of(v), leaves = leaves_of(v);

	return rtbp_is(v, RTBP_MAP) && (!joins.p || rtbp_is(joins, RTBP_MAP)) &&
	       (!leaves.p || rtbp_is(leaves, RTBP_MAP));
}

static int read_diff(struct presence *p, struct rtbp_val diff)
{
	int r = read_keys(p, joins_of(diff), join_meta);

	return r ? r : read_keys(p, leaves_of(diff), leave_meta);
}

static int keep_diff(struct presence *p, struct rtbp_val diff)
{
	size_t cost = sizeof(struct presence_diff) + diff.size;
	struct presence_diff *d;

	if (cost > p->max_bytes - p->waiting_bytes)
		return PRESENCE_E_OVERFLOW;
	d = malloc(cost);
	if (!d)
		return -ENOMEM;
	d->size = diff.size;
	memcpy(d->payload, diff.p, diff.size);
	TAILQ_INSERT_TAIL(&p->waiting, d, entry);
	p->waiting_bytes += cost;
	return 0;
}

/* What is held and was not in the state that was read. */
static void remove_unlisted(struct presence *p)
{
	struct presence_slot *s, *next;
	struct presence_key *k;

	RB_FOREACH(k, presence_key_tree, &p->keys) {
		for (s = TAILQ_FIRST(&k->order); s; s = next) {
			next = TAILQ_NEXT(s, in_order);
			if (!s->is_listed)
				remove_meta(p, s);
			else
				s->is_listed = false;
		}
	}
}

/* ---- the calls ---- */

struct presence *presence_new(size_t max_bytes)
{
	struct presence *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->max_bytes = max_bytes < SIZE_MAX / 4 ? max_bytes : SIZE_MAX / 4;
	RB_INIT(&p->keys);
	TAILQ_INIT(&p->touched);
	TAILQ_INIT(&p->waiting);
	return p;
}

struct presence *presence_free(struct presence *p)
{
	if (!p)
		return NULL;
	forget(p);
	for (int i = 0; i < PRESENCE_N_CHANGES; i++)
		rtbp_buf_done(&p->changes[i].entries);
	rtbp_buf_done(&p->scratch);
	free(p);
	return NULL;
}

void presence_joining(struct presence *p)
{
	/* Whatever waits belongs to the join before: the next state knows it, and somebody who has
	 * come and gone since must not be brought back by it. */
	drop_waiting(p);
	clear_changes(p);
	p->is_known = p->is_lost = false;
}

bool presence_is_current(const struct presence *p)
{
	return p->is_known;
}

int presence_on_state(struct presence *p, struct rtbp_val payload)
{
	struct presence_diff *d;
	int r;

	clear_changes(p);
	if (!rtbp_is(payload, RTBP_MAP))
		return PRESENCE_E_MALFORMED;
	/* Diffs that belong to it are gone. */
	if (p->is_lost)
		return PRESENCE_E_OVERFLOW;
	r = read_keys(p, payload, list_meta);
	if (r == 0)
		remove_unlisted(p);
	TAILQ_FOREACH(d, &p->waiting, entry) {
		if (r == 0)
			r = read_diff(p, (struct rtbp_val){ d->payload, d->size });
	}
	drop_waiting(p);
	p->is_known = true;
	return finish(p, r);
}

int presence_on_diff(struct presence *p, struct rtbp_val payload)
{
	int r;

	clear_changes(p);
	if (!is_diff(payload))
		return PRESENCE_E_MALFORMED;
	if (p->is_lost)
		return 0;
	if (p->is_known)
		return finish(p, read_diff(p, payload));
	r = keep_diff(p, payload);
	if (r)
		forget(p);
	return r;
}

size_t presence_count(const struct presence *p)
{
	return p->n_entries;
}
