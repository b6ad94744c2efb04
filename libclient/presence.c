/* SPDX-License-Identifier: MIT */
/* Presence: reading entries, folding changes, telling the subscriptions. */
#include "libclient/presence.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/client.h"

static int compare_bytes(const char *a, size_t a_size, const char *b, size_t b_size)
{
	size_t n = a_size < b_size ? a_size : b_size;
	int r = n ? memcmp(a, b, n) : 0;

	return r ? r : (a_size > b_size) - (a_size < b_size);
}

static int entry_compare(const struct rtbc_entry *a, const struct rtbc_entry *b)
{
	int r = compare_bytes(a->pub.key, a->key_size, b->pub.key, b->key_size);

	return r ? r : compare_bytes(a->pub.ref, a->ref_size, b->pub.ref, b->ref_size);
}

/* RB_GENERATE_STATIC wants a __unused that only BSD's own headers define. */
RB_GENERATE_INTERNAL(rtbc_entry_tree, rtbc_entry, node, entry_compare,
		     __attribute__((unused)) static)

/* ---- entries of a frame ---- */

struct view {
	struct rtbp_str key, ref, prev;
	struct rtbp_val state;
};

static bool view_read(struct rtbp_val v, bool has_prev, struct view *ret)
{
	ret->state = rtbp_field(v, RTBP_F_STATE);
	return rtbp_get_str(rtbp_field(v, RTBP_F_KEY), &ret->key) &&
	       rtbp_get_str(rtbp_field(v, RTBP_F_REF), &ret->ref) &&
	       (!has_prev || rtbp_get_str(rtbp_field(v, RTBP_F_PREV), &ret->prev));
}

static char *put(char *at, const void *p, size_t size)
{
	if (size)
		memcpy(at, p, size);
	at[size] = '\0';
	return at + size + 1;
}

static struct rtbc_entry *entry_new(const struct view *v)
{
	struct rtbc_entry *e =
		malloc(sizeof(*e) + v->key.size + 1 + v->ref.size + 1 + v->state.size + 1);
	char *at;

	if (!e)
		return NULL;
	e->key_size = v->key.size;
	e->ref_size = v->ref.size;
	e->pub.key = e->bytes;
	at = put(e->bytes, v->key.p, v->key.size);
	e->pub.ref = at;
	at = put(at, v->ref.p, v->ref.size);
	e->pub.state = at;
	e->pub.state_size = v->state.size;
	(void)put(at, v->state.p, v->state.size);
	return e;
}

static struct rtbc_entry *tree_find(struct rtbc_entry_tree *tree, struct rtbp_str key,
				    struct rtbp_str ref)
{
	struct rtbc_entry probe = { .pub = { .key = key.p, .ref = ref.p },
				    .key_size = key.size,
				    .ref_size = ref.size };

	return RB_FIND(rtbc_entry_tree, tree, &probe);
}

static void tree_free(struct rtbc_entry_tree *tree)
{
	struct rtbc_entry *e, *next;

	RB_FOREACH_SAFE(e, rtbc_entry_tree, tree, next) {
		RB_REMOVE(rtbc_entry_tree, tree, e);
		free(e);
	}
}

static void list_free(struct rtbc_entry_list *list)
{
	struct rtbc_entry *e;

	while ((e = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		free(e);
	}
}

/* ---- the whole state ---- */

static void forget(struct rtbc_presence *p, enum rtb_presence_status status)
{
	tree_free(&p->entries);
	p->n = 0;
	p->status = status;
}

static bool is_same(struct rtbc_entry_tree *a, struct rtbc_entry_tree *b)
{
	struct rtbc_entry *x = RB_MIN(rtbc_entry_tree, a), *y = RB_MIN(rtbc_entry_tree, b);

	for (; x && y; x = RB_NEXT(rtbc_entry_tree, a, x), y = RB_NEXT(rtbc_entry_tree, b, y)) {
		if (entry_compare(x, y) != 0 || compare_bytes(x->pub.state, x->pub.state_size,
							      y->pub.state, y->pub.state_size) != 0)
			return false;
	}
	return !x && !y;
}

/* Return: 0, -ENOMEM, RTB_E_PROTOCOL; then the tree is empty. */
static int read_snapshot(struct rtbp_val array, struct rtbc_entry_tree *ret, size_t *ret_n)
{
	struct rtbc_entry *e, *old;
	struct rtbp_iter it;
	struct rtbp_val v;
	struct view view;
	int r = 0;

	RB_INIT(ret);
	*ret_n = 0;
	if (!rtbp_iter_array(array, &it))
		return RTB_E_PROTOCOL;
	while (r == 0 && rtbp_iter_next(&it, &v)) {
		if (!view_read(v, false, &view) || !rtbp_is(view.state, RTBP_MAP))
			r = RTB_E_PROTOCOL;
		else if (!(e = entry_new(&view)))
			r = -ENOMEM;
		else if ((old = RB_INSERT(rtbc_entry_tree, ret, e)))
			free(e); /* twice the same name: the first one holds */
		else
			++*ret_n;
	}
	if (r < 0)
		tree_free(ret);
	return r;
}

static int replace(struct rtbc_presence *p, struct rtbp_val snapshot)
{
	struct rtbc_entry_tree entries;
	size_t n;
	int r = read_snapshot(snapshot, &entries, &n);

	if (r < 0)
		return r;
	if (p->status == RTB_PRESENCE_OK && is_same(&p->entries, &entries)) {
		tree_free(&entries);
		return 0;
	}
	forget(p, RTB_PRESENCE_OK);
	p->entries = entries;
	p->n = n;
	p->n_syncs++;
	return 0;
}

void rtbc_presence_set_state(struct rtbc_topic *t, struct rtbp_val state)
{
	struct rtbp_str s = { NULL, 0 };

	/* "ok" comes with a snapshot or behind one, "pending" leaves what was known. */
	if (!t->presence.is_asked || !rtbp_get_str(state, &s))
		return;
	if (rtbp_str_is(s, "denied"))
		forget(&t->presence, RTB_PRESENCE_DENIED);
	else if (rtbp_str_is(s, "overflow"))
		forget(&t->presence, RTB_PRESENCE_OVERFLOW);
}

int rtbc_presence_answered(struct rtbc_topic *t, struct rtbp_val presence)
{
	struct rtbp_val state = rtbp_field(presence, RTBP_F_STATE);
	struct rtbp_str s = { NULL, 0 };

	if (t->presence.is_asked && rtbp_get_str(state, &s) && rtbp_str_is(s, "ok"))
		return replace(&t->presence, rtbp_field(presence, RTBP_F_SNAPSHOT));
	rtbc_presence_set_state(t, state);
	return 0;
}

/* ---- changes ---- */

struct change {
	enum rtb_presence_event event;
	const struct rtbc_entry *entry, *previous;
};

/* One notification: read first, applied when everything that it needs is there. */
struct changes {
	struct rtbp_val leave, join, update;
	struct rtbc_entry_list fresh; /* the entries of join and update, in their order */
	struct rtbc_entry_list gone;  /* no longer in the state, but still to be told */
	struct change *items;
	size_t n;
};

static void changes_done(struct changes *ch)
{
	list_free(&ch->fresh);
	list_free(&ch->gone);
	free(ch->items);
}

/* Counts an array's entries into @n_most, the most changes that it can become; makes those that
 * will be in the state. */
static int read_array(struct changes *ch, enum rtbp_field field, struct rtbp_val array,
		      size_t *n_most)
{
	struct rtbc_entry *e;
	struct rtbp_iter it;
	struct rtbp_val v;
	struct view view;

	if (!array.p)
		return 0;
	if (!rtbp_iter_array(array, &it))
		return RTB_E_PROTOCOL;
	for (; rtbp_iter_next(&it, &v); ++*n_most) {
		if (!view_read(v, field == RTBP_F_UPDATE, &view))
			return RTB_E_PROTOCOL;
		if (field == RTBP_F_LEAVE)
			continue;
		if (!rtbp_is(view.state, RTBP_MAP))
			return RTB_E_PROTOCOL;
		e = entry_new(&view);
		if (!e)
			return -ENOMEM;
		STAILQ_INSERT_TAIL(&ch->fresh, e, link);
		if (field == RTBP_F_UPDATE) /* it may also push another one out */
			++*n_most;
	}
	return 0;
}

/* Return: 0; -ENOMEM, RTB_E_PROTOCOL. In any case changes_done() is due. */
static int changes_read(struct changes *ch, struct rtbp_val params)
{
	size_t n_most = 0;
	int r;

	*ch = (struct changes){ .leave = rtbp_field(params, RTBP_F_LEAVE),
				.join = rtbp_field(params, RTBP_F_JOIN),
				.update = rtbp_field(params, RTBP_F_UPDATE) };
	STAILQ_INIT(&ch->fresh);
	STAILQ_INIT(&ch->gone);
	r = read_array(ch, RTBP_F_LEAVE, ch->leave, &n_most);
	if (r == 0)
		r = read_array(ch, RTBP_F_JOIN, ch->join, &n_most);
	if (r == 0)
		r = read_array(ch, RTBP_F_UPDATE, ch->update, &n_most);
	if (r == 0 && n_most > 0 && !(ch->items = calloc(n_most, sizeof(*ch->items))))
		r = -ENOMEM;
	return r;
}

static void note(struct changes *ch, enum rtb_presence_event event, const struct rtbc_entry *entry,
		 const struct rtbc_entry *previous)
{
	ch->items[ch->n++] = (struct change){ event, entry, previous };
}

static struct rtbc_entry *take(struct rtbc_presence *p, struct changes *ch, struct rtbc_entry *e)
{
	if (!e)
		return NULL;
	RB_REMOVE(rtbc_entry_tree, &p->entries, e);
	STAILQ_INSERT_TAIL(&ch->gone, e, link);
	p->n--;
	return e;
}

/* The next fresh entry comes into the state. Return: the one of the same name that it pushed out,
 * or NULL. */
static struct rtbc_entry *insert_fresh(struct rtbc_presence *p, struct changes *ch,
				       struct rtbc_entry **ret)
{
	struct rtbc_entry *e = STAILQ_FIRST(&ch->fresh), *old;

	STAILQ_REMOVE_HEAD(&ch->fresh, link);
	old = take(p, ch, RB_FIND(rtbc_entry_tree, &p->entries, e));
	RB_INSERT(rtbc_entry_tree, &p->entries, e);
	p->n++;
	*ret = e;
	return old;
}

static void changes_apply(struct changes *ch, struct rtbc_presence *p)
{
	struct rtbc_entry *e, *old, *other;
	struct rtbp_iter it;
	struct rtbp_val v;
	struct view view;

	if (rtbp_iter_array(ch->leave, &it)) {
		while (rtbp_iter_next(&it, &v)) {
			(void)view_read(v, false, &view);
			old = take(p, ch, tree_find(&p->entries, view.key, view.ref));
			if (old)
				note(ch, RTB_PRESENCE_LEAVE, old, NULL);
		}
	}
	if (rtbp_iter_array(ch->join, &it)) {
		while (rtbp_iter_next(&it, &v)) {
			old = insert_fresh(p, ch, &e);
			note(ch, old ? RTB_PRESENCE_UPDATE : RTB_PRESENCE_JOIN, e, old);
		}
	}
	if (rtbp_iter_array(ch->update, &it)) {
		while (rtbp_iter_next(&it, &v)) {
			(void)view_read(v, true, &view);
			old = take(p, ch, tree_find(&p->entries, view.key, view.prev));
			other = insert_fresh(p, ch, &e);
			if (old && other)
				note(ch, RTB_PRESENCE_LEAVE, other, NULL);
			old = old ? old : other;
			note(ch, old ? RTB_PRESENCE_UPDATE : RTB_PRESENCE_JOIN, e, old);
		}
	}
}

/* ---- telling ---- */

static void tell(struct rtb_sub *sub, struct rtb_presence *event)
{
	struct rtbc_topic *t = sub->topic;

	if (!sub->handlers.presence)
		return;
	event->chan = t->chan;
	event->topic = t->name;
	rtbc_enter(t->client);
	sub->handlers.presence(sub, event, sub->user);
	rtbc_leave(t->client);
}

void rtbc_presence_tell_sync(struct rtb_sub *sub)
{
	struct rtbc_topic *t = sub->topic;
	struct rtb_presence event = { .event = RTB_PRESENCE_SYNC };

	if (sub->is_dead || !sub->presence || t->acked < sub->serial ||
	    t->presence.status != RTB_PRESENCE_OK || sub->synced == t->presence.n_syncs)
		return;
	sub->synced = t->presence.n_syncs;
	tell(sub, &event);
}

static void tell_changes(struct rtb_sub *sub, const struct changes *ch)
{
	for (size_t i = 0; i < ch->n && !sub->is_dead; i++) {
		const struct change *item = &ch->items[i];
		struct rtb_presence event = { .event = item->event,
					      .entry = &item->entry->pub,
					      .more = i + 1 < ch->n };

		if (item->previous)
			event.previous = &item->previous->pub;
		tell(sub, &event);
	}
}

/* To those who know the state from before; the others get all of it. */
static void deliver(struct rtbc_topic *t, const struct changes *ch)
{
	struct rtb_sub *sub, *last = TAILQ_LAST(&t->subs, rtbc_sub_list);

	TAILQ_FOREACH(sub, &t->subs, link) {
		if (!sub->is_dead && sub->presence && t->acked >= sub->serial) {
			bool is_known = sub->synced == t->presence.n_syncs;

			rtbc_sub_report(sub);
			if (is_known)
				tell_changes(sub, ch);
		}
		if (sub == last)
			break;
	}
}

static int fold(struct rtbc_topic *t, struct rtbp_val params)
{
	struct changes ch;
	int r;

	if (t->presence.status != RTB_PRESENCE_OK)
		return 0; /* there is nothing to change */
	r = changes_read(&ch, params);
	if (r == 0) {
		changes_apply(&ch, &t->presence);
		deliver(t, &ch);
	}
	changes_done(&ch);
	return r;
}

int rtbc_on_presence(struct rtb_client *c, struct rtbp_val params)
{
	struct rtbp_val sync = rtbp_field(params, RTBP_F_SYNC);
	struct rtbc_topic *t;
	uint64_t chan;
	int r;

	if (!rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &chan))
		return rtbc_protocol_error(c, "presence without chan", 0);
	t = rtbc_topic_by_chan(c, chan);
	if (!t || !t->presence.is_asked)
		return 0; /* on its way while we withdrew the wish */
	r = sync.p ? replace(&t->presence, sync) : fold(t, params);
	if (r == 0 && sync.p)
		rtbc_topic_report(t);
	if (r == RTB_E_PROTOCOL)
		return rtbc_protocol_error(c, "a presence entry that is none", 0);
	return r;
}

/* ---- forgetting ---- */

void rtbc_presence_reap(struct rtbc_topic *t)
{
	struct rtb_sub *sub;
	bool wants = false;

	TAILQ_FOREACH(sub, &t->subs, link)
		wants = wants || (!sub->is_dead && sub->presence);
	/* What the daemon still sends is folded until it has been told. */
	if (t->presence.is_withdrawn || (!wants && !t->presence.is_asked))
		forget(&t->presence, RTB_PRESENCE_NONE);
	t->presence.is_withdrawn = false;
}

void rtbc_presence_free(struct rtbc_topic *t)
{
	tree_free(&t->presence.entries);
}

/* ---- asking for it ---- */

enum rtb_presence_status rtbc_sub_presence(const struct rtb_sub *sub)
{
	const struct rtbc_topic *t = sub->topic;

	/* Who has seen it keeps seeing it while the daemon is away. */
	if (sub->is_dead || !sub->presence || (!sub->synced && t->acked < sub->serial))
		return RTB_PRESENCE_NONE;
	return t->presence.status;
}

enum rtb_presence_status rtb_sub_presence(const struct rtb_sub *sub)
{
	return rtbc_sub_presence(sub);
}

size_t rtb_presence_count(const struct rtb_sub *sub)
{
	return rtbc_sub_presence(sub) == RTB_PRESENCE_OK ? sub->topic->presence.n : 0;
}

const struct rtb_presence_entry *rtb_presence_next(const struct rtb_sub *sub,
						   const struct rtb_presence_entry *entry)
{
	struct rtbc_entry *e;

	if (rtbc_sub_presence(sub) != RTB_PRESENCE_OK)
		return NULL;
	if (entry)
		e = RB_NEXT(rtbc_entry_tree, &sub->topic->presence.entries,
			    (struct rtbc_entry *)(uintptr_t)entry);
	else
		e = RB_MIN(rtbc_entry_tree, &sub->topic->presence.entries);
	return e ? &e->pub : NULL;
}
