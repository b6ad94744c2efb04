/* SPDX-License-Identifier: MIT */
/* wants: the bindings of one subscription: taken from a request, told in answers, notices and gaps.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mix.h"
#include "hub/impl.h"

/* ---- what a request says ---- */

const char *changes_wish_read(struct rtbp_val v, unsigned max, struct changes_wish *ret, char *text,
			      size_t size, enum rtbp_error *code)
{
	struct rtbp_iter it;
	struct rtbp_val e;
	bool no_memory = false;
	const char *wrong;

	*code = RTBP_E_BAD_REQUEST;
	if (!v.p || rtbp_is(v, RTBP_NIL))
		return NULL;
	if (!rtbp_iter_array(v, &it))
		return "postgres_changes is an array of bindings";
	ret->given = it.left > 0;
	/* Before any of them is looked at: a frame has room for hundreds of thousands. */
	if (it.left > max) {
		*code = RTBP_E_TOO_MANY;
		return "a client may have fewer bindings ([limits] bindings)";
	}
	ret->wishes = calloc(it.left + 1, sizeof(*ret->wishes));
	if (!ret->wishes) {
		*code = RTBP_E_BUSY;
		return "no memory";
	}
	while (rtbp_iter_next(&it, &e)) {
		wrong = binding_wish_read(e, &ret->wishes[ret->n], &no_memory);
		if (wrong) {
			*code = no_memory ? RTBP_E_BUSY : RTBP_E_BAD_REQUEST;
			snprintf(text, size, "postgres_changes[%u]: %s", ret->n, wrong);
			return text;
		}
		ret->n++;
	}
	return NULL;
}

/* ---- coming and going ---- */

static struct want *find_old(const struct sub *s, const struct binding *b)
{
	struct want *w;

	TAILQ_FOREACH(w, &b->wants, in_binding) {
		if (w->sub == s)
			return w;
	}
	return NULL;
}

static void attach(struct sub *s, struct want *w, struct binding *b)
{
	const struct want *old;

	w->sub = s;
	w->binding = b;
	if (!b)
		return; /* the rules do not allow it: nothing more is known of it */
	old = find_old(s, b);
	w->id = b->id;
	w->is_repeated = b->mark == s->peer->hub->mark;
	if (w->is_repeated)
		return;
	b->mark = s->peer->hub->mark;
	w->answered = old && old->answered;
	w->flowed = old && old->flowed;
	w->gap = old && old->gap;
	w->told = old ? old->told : 0;
	TAILQ_INSERT_TAIL(&b->wants, w, in_binding);
	b->n_wants++;
}

static void detach(struct want *w)
{
	struct binding *b = w->binding;

	if (w->is_repeated || !b)
		return;
	TAILQ_REMOVE(&b->wants, w, in_binding);
	b->n_wants--;
	if (b->n_wants == 0)
		b->gap_from_wall_ms = 0; /* there is nobody to be told */
	if (b->feed && b->feed->chan)
		chan_feed_left(b); /* all of these may end it, and the binding */
	else if (b->feed && b->n_wants == 0)
		feed_unwanted(b->feed);
	else if (b->suspects && b->n_wants == 0)
		suspects_drop(b);
	else
		binding_check(b);
}

static void detach_all(struct want *wants, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		detach(&wants[i]);
	free(wants);
}

/* Gives back what was got and is wanted by nobody. The same one may be there twice. */
static void give_back(struct hub *hub, struct binding **got, unsigned n)
{
	hub->mark++;
	for (unsigned i = 0; i < n; i++) {
		if (got[i] && got[i]->mark == hub->mark)
			got[i] = NULL;
		else if (got[i])
			got[i]->mark = hub->mark;
	}
	for (unsigned i = 0; i < n; i++) {
		if (got[i])
			binding_check(got[i]);
	}
	free(got);
}

/* Return: the bindings, in the order of the wishes, NULL in place of those that the rules do not
 * allow; NULL: nothing was made. */
static struct binding **get_all(const struct sub *s, struct changes_wish *w)
{
	struct hub *hub = s->peer->hub;
	struct binding **got = calloc(w->n + 1, sizeof(struct binding *));

	for (unsigned i = 0; got && i < w->n; i++) {
		if (!access_binding(s->peer, w->wishes[i].text, w->wishes[i].size))
			continue;
		got[i] = binding_get(hub, &w->wishes[i], s->chan->identity);
		if (!got[i]) {
			give_back(hub, got, i);
			return NULL;
		}
	}
	return got;
}

static void count_bindings(struct peer *p, unsigned more, unsigned less)
{
	p->n_bindings += more - less;
	if (p->user)
		p->user->n_bindings += more - less;
}

int wants_put(struct sub *s, struct changes_wish *w)
{
	struct binding_list list = TAILQ_HEAD_INITIALIZER(list);
	struct hub *hub = s->peer->hub;
	struct binding **got = get_all(s, w);
	struct want *old = s->wants, *wants = calloc(w->n + 1, sizeof(*wants));
	unsigned n_old = s->n_wants;

	if (!got || !wants) {
		if (got)
			give_back(hub, got, w->n);
		free(wants);
		return -ENOMEM;
	}
	hub->mark++;
	for (unsigned i = 0; i < w->n; i++)
		attach(s, &wants[i], got[i]);
	/* All are held now: what follows may end what nobody wants. */
	for (unsigned i = 0; i < w->n; i++) {
		if (got[i] && !wants[i].is_repeated && binding_retry(got[i]))
			TAILQ_INSERT_TAIL(&list, got[i], entry);
	}
	free(got);
	count_bindings(s->peer, w->n, n_old);
	s->wants = wants;
	s->n_wants = w->n;
	detach_all(old, n_old);
	feeds_place(hub, &list, s->peer, s->peer->cred.uid);
	return 0;
}

void wants_free(struct sub *s)
{
	struct want *old = s->wants;
	unsigned n_old = s->n_wants;

	s->wants = NULL;
	s->n_wants = 0;
	count_bindings(s->peer, 0, n_old);
	detach_all(old, n_old);
	if (s->has_news)
		TAILQ_REMOVE(&s->peer->hub->subs_with_news, s, in_news);
	s->has_news = false;
}

/* ---- how they stand ---- */

/* As binding_state(). */
static const char *want_state(const struct want *w, const char **ret_code, const char **ret_text)
{
	if (w->binding)
		return binding_state(w->binding, ret_code, ret_text);
	*ret_code = "forbidden";
	*ret_text = "the access rules do not allow this user to read this table";
	return "error";
}

/* What the rules do not allow any more ends; its peer hears of it with the next news. */
static void forbid(struct sub *s, unsigned first)
{
	struct binding *b = s->wants[first].binding;

	binding_news(b);
	/* The same one said again goes first: with the one that counts the binding may go. */
	for (unsigned i = s->n_wants; i-- > first;) {
		struct want *w = &s->wants[i];

		if (w->binding != b)
			continue;
		detach(w);
		w->binding = NULL;
		if (!w->answered)
			w->id = 0; /* as if it had never been there */
		w->gap = false;
	}
}

void wants_check_access(struct sub *s)
{
	for (unsigned i = 0; i < s->n_wants; i++) {
		struct want *w = &s->wants[i];

		if (w->binding && !access_binding(s->peer, w->binding->text, w->binding->size))
			forbid(s, i);
	}
}

const struct join *wants_join(const struct sub *s)
{
	for (unsigned i = 0; i < s->n_wants; i++) {
		const struct binding *b = s->wants[i].binding;

		if (b && b->feed && !binding_is_settled(b))
			return b->feed->join;
	}
	return NULL;
}

enum wants_state wants_state(const struct sub *s, bool known)
{
	enum wants_state state = WANTS_SETTLED;
	const struct binding *b;

	for (unsigned i = 0; i < s->n_wants; i++) {
		b = s->wants[i].binding;
		if (!b || binding_is_settled(b) || (known && !s->wants[i].answered))
			continue;
		if (!b->feed || !b->feed->join || b->feed->join->state != JOIN_JOINED)
			return WANTS_DOWN;
		state = WANTS_CARRIED;
	}
	return state;
}

unsigned wants_links(const struct sub *s)
{
	const struct feed *f;
	unsigned links = 0;

	for (unsigned i = 0; i < s->n_wants; i++) {
		f = s->wants[i].binding ? s->wants[i].binding->feed : NULL;
		if (f && f->join)
			links |= 1u << f->join->link->number;
	}
	return links;
}

static uint64_t how_it_stands(const struct want *w)
{
	const char *code, *text, *state = want_state(w, &code, &text);

	return mix_bytes(mix_bytes(mix_bytes(0, state, strlen(state)), code, strlen(code)), text,
			 strlen(text));
}

void wants_answered(struct sub *s, bool is_answer)
{
	const char *code, *text;

	for (unsigned i = 0; i < s->n_wants; i++) {
		struct want *w = &s->wants[i];

		w->answered |= is_answer;
		if (!w->answered)
			continue;
		w->flowed |= strcmp(want_state(w, &code, &text), "ready") == 0;
		w->told = how_it_stands(w);
	}
}

bool wants_are_told(const struct sub *s)
{
	for (unsigned i = 0; i < s->n_wants; i++) {
		if (s->wants[i].answered && !s->wants[i].is_repeated &&
		    s->wants[i].told != how_it_stands(&s->wants[i]))
			return false;
	}
	return true;
}

/* Notices are about what the peer has an answer for; long ones about what has changed. */
static bool is_told_of(const struct want *w)
{
	/* What never was allowed has no id to be told under. */
	if (!w->answered || w->is_repeated || !w->id)
		return false;
	return w->sub->n_wants <= WANTS_TOLD_WHOLE || w->told != how_it_stands(w);
}

void wants_pack(const struct sub *s, bool is_answer, struct rtbp_buf *b)
{
	const char *state, *code, *text;
	uint32_t n = 0;

	for (unsigned i = 0; i < s->n_wants; i++)
		n += is_answer || is_told_of(&s->wants[i]);
	rtbp_pack_field(b, RTBP_F_POSTGRES_CHANGES);
	rtbp_pack_array(b, n);
	for (unsigned i = 0; i < s->n_wants; i++) {
		if (!is_answer && !is_told_of(&s->wants[i]))
			continue;
		state = want_state(&s->wants[i], &code, &text);
		rtbp_pack_map(b, code[0] ? 4 : 2);
		rtbp_pack_field_uint(b, RTBP_F_ID, s->wants[i].id);
		rtbp_pack_field_text(b, RTBP_F_STATE, state);
		(void)reason_pack(code, text, true, b);
	}
}

/* ---- news ---- */

static bool same_gap(const struct want *w, const struct binding *first)
{
	return w->gap && w->binding->gap_from_wall_ms == first->gap_from_wall_ms &&
	       strcmp(w->binding->gap_cause, first->gap_cause) == 0;
}

/* One notice for all that were interrupted by the same thing. */
static void tell_gap(struct sub *s, const struct binding *first)
{
	struct rtbp_buf *b = hub_scratch(s->peer->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_GAP);
	uint32_t n = 0;

	for (unsigned i = 0; i < s->n_wants; i++)
		n += same_gap(&s->wants[i], first);
	rtbp_pack_map(b, 6);
	chan_pack_name(s->chan, b);
	rtbp_pack_field_uint(b, RTBP_F_FROM, (uint64_t)first->gap_from_wall_ms);
	rtbp_pack_field_uint(b, RTBP_F_TO, (uint64_t)clock_wall(s->peer->hub->clock));
	rtbp_pack_field_text(b, RTBP_F_CAUSE, first->gap_cause);
	rtbp_pack_field(b, RTBP_F_IDS);
	rtbp_pack_array(b, n);
	for (unsigned i = 0; i < s->n_wants; i++) {
		if (!same_gap(&s->wants[i], first))
			continue;
		rtbp_pack_uint(b, s->wants[i].binding->id);
		s->wants[i].gap = false;
	}
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
}

void wants_tell_gaps(struct sub *s)
{
	for (unsigned i = 0; i < s->n_wants; i++) {
		if (s->wants[i].gap)
			tell_gap(s, s->wants[i].binding);
	}
}

/* All of a binding's wants are told in the same round: then its gap is over. */
static void forget_gaps(struct sub *s)
{
	const char *code, *text;

	for (unsigned i = 0; i < s->n_wants; i++) {
		struct binding *b = s->wants[i].binding;

		s->wants[i].gap = false;
		if (b && strcmp(binding_state(b, &code, &text), "ready") == 0)
			b->gap_from_wall_ms = 0;
	}
}

void wants_tell(struct hub *hub)
{
	struct sub *s, *next;
	struct peer *p;

	if (TAILQ_EMPTY(&hub->subs_with_news) || hub->telling)
		return;
	hub->telling = true;
	for (s = TAILQ_FIRST(&hub->subs_with_news); s; s = next) {
		next = TAILQ_NEXT(s, in_news);
		sub_on_changes(s);
	}
	while ((s = TAILQ_FIRST(&hub->subs_with_news))) {
		TAILQ_REMOVE(&hub->subs_with_news, s, in_news);
		s->has_news = false;
		forget_gaps(s);
	}
	hub->telling = false;
	/* Barriers that waited for an answer stand behind all of it. */
	TAILQ_FOREACH(p, &hub->peers, entry)
		sync_check(p);
}
