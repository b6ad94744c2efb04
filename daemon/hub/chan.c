/* SPDX-License-Identifier: MIT */
/*
 * chan: what clients mean by a topic: (topic, private), its number, and who wants what of it. It
 * owns the shared join and turns what happens to that into answers, notices, and deliveries.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"

int chan_key_compare(struct chan *a, struct chan *b)
{
	uint64_t x = identity_number(a->identity), y = identity_number(b->identity);
	int r = hub_compare_str(a->topic, b->topic);

	if (!r)
		r = (int)a->is_private - (int)b->is_private;
	return r ? r : (x > y) - (x < y);
}

int chan_number_compare(struct chan *a, struct chan *b)
{
	return a->number < b->number ? -1 : a->number > b->number;
}

RB_GENERATE(chan_key_tree, chan, by_key, chan_key_compare)
RB_GENERATE(chan_number_tree, chan, by_number, chan_number_compare)

static struct chan *chan_find(struct hub *hub, struct rtbp_str topic, bool is_private,
			      struct identity *identity)
{
	struct chan key = { .topic = topic, .is_private = is_private, .identity = identity };

	return RB_FIND(chan_key_tree, &hub->chans, &key);
}

struct chan *chan_find_number(struct hub *hub, uint64_t number)
{
	struct chan key = { .number = number };

	return RB_FIND(chan_number_tree, &hub->chans_by_number, &key);
}

bool chan_wants_presence(const struct chan *ch)
{
	const struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (s->presence)
			return true;
	}
	return false;
}

const char *chan_state_name(const struct chan *ch)
{
	if (ch->hold.active)
		return ch->hold.was_joined ? "rejoining" : "joining";
	return ch->join ? join_state_name(ch->join) : "closed";
}

void chan_pack_name(const struct chan *ch, struct rtbp_buf *b)
{
	rtbp_pack_field_uint(b, RTBP_F_CHAN, ch->number);
	rtbp_pack_field(b, RTBP_F_TOPIC);
	rtbp_pack_str(b, ch->topic.p, ch->topic.size);
}

/* ---- the inbound road ---- */

static void chan_on_row(struct chan *ch, const struct phx_msg *msg)
{
	if (ch->feed)
		rows_on_message(ch->feed, msg);
}

/* ---- its shared join ---- */

static bool chan_wanted(const struct join *j)
{
	const struct chan *ch = j->owner;

	return ch->n_on_channel > 0 || ch->sends.ways[SEND_WS].n > 0 || ch->slot.n_trackers > 0 ||
	       chan_feed_wanted(ch);
}

enum { TURNS_LOOKED_AT = 64 };

/* One without failures goes before others, then who waits longest. */
static bool goes_before(const struct user *a, const struct user *b, uint64_t now)
{
	bool a_failed = user_has_record(a, now), b_failed = user_has_record(b, now);

	return a_failed != b_failed ? b_failed : a->last_turn < b->last_turn;
}

/* Of those who want something here now: whoever shares a channel does not stand in another one's
 * queue. */
static uid_t chan_uid(const struct join *j)
{
	const struct chan *ch = j->owner;
	const struct user *u, *best = NULL;
	const struct tracker *t = TAILQ_FIRST(&ch->slot.trackers);
	uint64_t now = hub_now(ch->hub);
	unsigned n = 0;
	struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		u = s->on_channel ? s->peer->user : NULL;
		if (u && (!best || goes_before(u, best, now)))
			best = u;
		if (++n == TURNS_LOOKED_AT)
			break;
	}
	if (best)
		return best->uid;
	return t ? t->peer->cred.uid : j->uid;
}

static uint32_t chan_linger_ms(const struct join *j)
{
	const struct chan *ch = j->owner;

	return ch->sender_only ? ch->hub->conf.send_linger_ms : ch->hub->conf.linger_ms;
}

static void chan_config(const struct join *j, struct join_config *ret)
{
	const struct chan *ch = j->owner;

	/* Who tracks brings the server's differences anyway; with the state as well, the first
	 * watcher finds it all here and nothing is joined anew. */
	ret->presence = chan_wants_presence(ch) || ch->slot.n_trackers > 0;
	ret->key = ch->key;
	ret->feed = ch->feed;
	if (ch->feed)
		feed_prepare(ch->feed);
	ret->replication_ready = system_wants_replication(ch);
	hold_config(ch, j, ret);
}

static void chan_joining(struct join *j)
{
	struct chan *ch = j->owner;

	room_joining(ch, j->has_presence);
	hold_joining(ch, j);
	system_joining(ch);
	if (ch->feed)
		feed_joining(ch->feed);
}

static const char *chan_misfit(const struct join *j)
{
	const struct chan *ch = j->owner;

	if (!j->has_presence && chan_wants_presence(ch))
		return "presence";
	if (ch->slot.n_trackers && strcmp(j->key, ch->key) != 0)
		return "presence";
	if (!j->has_replication && system_wants_replication(ch))
		return "replication_ready";
	return chan_feed_misfit(ch);
}

static bool chan_owed(const struct join *j)
{
	const struct chan *ch = j->owner;
	const struct send *s = TAILQ_FIRST(&ch->sends.ways[SEND_WS].list);

	return (s && s->given) || ch->slot.in_flight;
}

/* For each user who asked: it answers the next time, without a word of the server. */
static void remember_refusal(const struct chan *ch)
{
	const struct join *j = ch->join;
	struct verdict_key key = join_verdict_key(j, j->uid);
	uint64_t now = hub_now(ch->hub);
	const struct sub *s;

	verdicts_put(&ch->hub->refused, &key, key.uid, now, j->code, j->text);
	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		key.uid = s->peer->cred.uid;
		if (!verdicts_find(&ch->hub->refused, &key, now))
			verdicts_put(&ch->hub->refused, &key, key.uid, now, j->code, j->text);
	}
}

void chan_is_ready(struct chan *ch)
{
	subs_on_chan_state(ch);
	ch->gap = (struct gap){ 0 };
	replays_run(ch);
	sends_flush(ch);
}

static void chan_changed(struct join *j)
{
	struct chan *ch = j->owner;
	bool is_held;

	if (j->state != JOIN_JOINED && j->state != JOIN_JOINING)
		replays_ride_no_more(ch);
	switch (j->state) {
	case JOIN_JOINED:
		is_held = hold_begin(ch); /* its probe before that of the presence */
		slot_joined(&ch->slot);
		room_joined(ch);
		if (ch->feed)
			feed_on_changed(ch->feed);
		if (!is_held)
			chan_is_ready(ch);
		break;
	case JOIN_REJECTED:
		remember_refusal(ch);
		if (strcmp(j->code, "private_only") == 0)
			feeds_go_private(ch->hub);
		sends_fail(ch, "not_joined", j->text);
		trackers_refused(&ch->slot, join_refusal_error(j), NULL, j->text);
		subs_on_chan_state(ch);
		break;
	default:
		subs_on_chan_state(ch);
		break;
	}
	if (ch->feed && j->state != JOIN_JOINED)
		feed_on_changed(ch->feed);
	move_check(ch);
}

static void chan_reply(struct join *j, struct rtbp_val response)
{
	struct chan *ch = j->owner;

	if (ch->feed)
		feed_on_reply(ch->feed, response);
}

static void chan_system(struct join *j, bool ok, const char *text)
{
	struct chan *ch = j->owner;

	if (ch->feed)
		feed_on_system(ch->feed, ok, text);
}

static void chan_opened(struct join *j)
{
	struct chan *ch = j->owner;

	slot_run(&ch->slot);
	sends_flush(ch);
}

static void chan_lost(struct join *j, const char *code, const char *text)
{
	struct chan *ch = j->owner;

	hold_lost(ch);
	replays_lost(ch);
	sends_lost(ch, text);
	if (strcmp(code, "track_too_big") == 0)
		trackers_refused_new(&ch->slot, text);
	slot_lost(&ch->slot, code, text);
	if (ch->feed)
		feed_on_lost(ch->feed, j->gap_from_wall_ms, code, j->live);
}

static void chan_on_message(struct join *j, const struct phx_msg *msg)
{
	struct chan *ch = j->owner;

	if (msg->kind == PHX_BROADCAST)
		news_on_broadcast(ch, msg);
	else if (msg->kind == PHX_MESSAGE && rtbp_str_is(msg->event, "postgres_changes"))
		chan_on_row(ch, msg);
	else if (ch->hold.active)
		hold_presence(ch, msg);
	else
		room_on_message(ch, msg);
}

static void chan_notice(struct join *j, struct rtbp_str extension, bool ok, const char *text)
{
	system_on_notice(j->owner, extension, ok, text);
}

static void chan_probed(struct join *j, uint64_t ref, bool answered)
{
	hold_probed(j->owner, answered);
	sends_probed(j->owner, ref, answered);
}

/* Nobody refers to it any more: freed at the turn's end. */
static void chan_release(struct chan *ch)
{
	if (ch->dead || ch->held || ch->join || ch->successor || ch->n_subs ||
	    ch->sends.ways[SEND_WS].n || ch->sends.ways[SEND_HTTP].n || ch->slot.n_trackers ||
	    ch->feed || ch->proof || !TAILQ_EMPTY(&ch->spills))
		return;
	ch->dead = true;
	RB_REMOVE(chan_key_tree, &ch->hub->chans, ch);
	RB_REMOVE(chan_number_tree, &ch->hub->chans_by_number, ch);
	ch->hub->n_chans--;
	if (ch->identity)
		ch->identity->n_chans--;
	TAILQ_INSERT_TAIL(&ch->hub->reap_chans, ch, reap_entry);
	hub_wake(ch->hub);
}

static void chan_join_dead(struct join *j)
{
	struct chan *ch = j->owner;

	hold_lost(ch);
	ch->join = ch->slot.join = NULL;
	move_forget(ch);
	ch->rekeyed = false;
	slot_lost(&ch->slot, "", "the channel was left");
	room_free(ch);
	if (ch->feed) {
		ch->feed->join = NULL;
		feed_free(ch->feed);
	}
	if (ch->proof)
		join_update(ch->proof->join); /* there is nothing more to try */
	chan_release(ch);
}

static const struct join_ops chan_join_ops = {
	.wanted = chan_wanted,
	.uid = chan_uid,
	.linger_ms = chan_linger_ms,
	.config = chan_config,
	.joining = chan_joining,
	.misfit = chan_misfit,
	.owed = chan_owed,
	.changed = chan_changed,
	.opened = chan_opened,
	.lost = chan_lost,
	.message = chan_on_message,
	.reply = chan_reply,
	.system = chan_system,
	.notice = chan_notice,
	.probed = chan_probed,
	.dead = chan_join_dead,
};

/* ---- birth, wishes, death ---- */

struct chan *chan_of_join(const struct join *j)
{
	return j->ops == &chan_join_ops ? j->owner : NULL;
}

void chan_set_join(struct chan *ch, struct join *j)
{
	j->ops = &chan_join_ops;
	j->owner = ch;
	j->had_joined = true;
	ch->join = ch->slot.join = j;
	chan_joining(j); /* the presence is learned anew */
	chan_changed(j);
}

void chan_update(struct chan *ch)
{
	move_check(ch);
	if (ch->join)
		join_update(ch->join);
	chan_release(ch);
}

static struct chan *chan_new(struct hub *hub, struct rtbp_str topic, bool is_private,
			     struct identity *identity)
{
	struct chan *ch = calloc(1, sizeof(*ch));

	if (ch)
		ch->topic_text = strndup(topic.p, topic.size);
	if (!ch || !ch->topic_text) {
		free(ch);
		return NULL;
	}
	ch->hub = hub;
	ch->number = hub->next_chan++;
	ch->is_private = is_private;
	ch->identity = identity_ref(identity);
	if (identity)
		identity->n_chans++;
	ch->topic = (struct rtbp_str){ ch->topic_text, topic.size };
	ch->sender_only = true;
	TAILQ_INIT(&ch->subs);
	sends_init(ch);
	hold_init(ch);
	TAILQ_INIT(&ch->spills);
	slot_init(&ch->slot, ch);
	ch->key_is_made = true;
	if (hub->conf.trackers == HUB_TRACKERS_MERGE)
		snprintf(ch->key, sizeof(ch->key), "%s", hub->merge_key);
	else
		hub_make_uuid(hub, ch->key);
	RB_INSERT(chan_key_tree, &hub->chans, ch);
	RB_INSERT(chan_number_tree, &hub->chans_by_number, ch);
	hub->n_chans++;
	return ch;
}

int chan_make_join(struct chan *ch, struct peer *p, const char **ret_text)
{
	struct link *link;
	char why[JOIN_WHY_MAX], topic[101];

	hub_copy_text(ch->topic, topic, sizeof(topic));
	snprintf(why, sizeof(why), "%s channel %s, for which the connections before have no place",
		 ch->is_private ? "private" : "public", topic);
	/* Which may need the place of this channel's last spill, if that is only a memory. */
	ch->held = true;
	link = link_place(p->hub, p->cred.uid, p, ch->topic, why, ret_text);
	ch->held = false;
	if (!link)
		return RTBP_E_TOO_MANY;
	ch->join = join_new(link, ch->topic, ch->is_private, ch->identity, &chan_join_ops, ch);
	ch->slot.join = ch->join;
	if (ch->join)
		join_set_cause(ch->join, p->cred.uid, why);
	link_update(link);
	return ch->join ? 0 : -ENOMEM;
}

/* Whoever asks within a while of a refusal has it again; not who shares what others have joined. */
static const struct verdict *remembered_refusal(const struct peer *p, struct rtbp_str topic,
						bool is_private, const struct identity *identity)
{
	struct verdict_key key = {
		.identity = identity_number(identity),
		.is_private = is_private,
		.topic = topic,
	};

	if (verdicts_find(&p->hub->proven, &key, hub_now(p->hub)))
		return NULL; /* another user has it since */
	key.uid = p->cred.uid;
	return verdicts_find(&p->hub->refused, &key, hub_now(p->hub));
}

int chan_get(struct peer *p, struct rtbp_str topic, bool is_private, unsigned rights,
	     bool needs_join, struct chan **ret, const char **ret_text)
{
	const struct verdict *refusal = NULL;
	struct identity *identity;
	struct chan *ch;
	int r;

	*ret_text = access_refusal(p, rights, topic);
	if (*ret_text)
		return RTBP_E_FORBIDDEN;
	r = peer_identity(p, topic, &identity, ret_text);
	if (r)
		return r;
	*ret_text = NULL;
	ch = chan_find(p->hub, topic, is_private, identity);
	if (needs_join && (!ch || !ch->join || ch->join->state == JOIN_REJECTED))
		refusal = remembered_refusal(p, topic, is_private, identity);
	/* Who holds a subscription there may change it; it is told the refusal in due course. */
	if (refusal && !(ch && ch->join && sub_find(p, ch->number))) {
		*ret_text = refusal->text;
		return RTBP_E_REJECTED;
	}
	if (!ch && !(ch = chan_new(p->hub, topic, is_private, identity)))
		return -ENOMEM;
	if (ch->join && needs_join)
		probation_asked_by(ch->join, p->cred.uid);
	if (ch->join && needs_join && !refusal && ch->join->state == JOIN_REJECTED) {
		ch->join->uid = p->cred.uid;
		ch->join->is_asked = true;
		join_retry(ch->join);
	}
	if (!ch->join && needs_join)
		r = chan_make_join(ch, p, ret_text);
	if (r)
		chan_release(ch);
	else
		*ret = ch;
	return r;
}

void chan_free(struct chan *ch)
{
	sends_done(ch);
	hold_done(ch);
	room_free(ch);
	identity_unref(ch->identity);
	free(ch->topic_text);
	free(ch);
}

/* What of a channel that a request names there is to be. */
enum make { MAKE_NOTHING, MAKE_CHAN, MAKE_JOIN };

static struct chan *make_chan(struct peer *p, struct rtbp_str topic, bool is_private,
			      enum make make, unsigned rights, enum rtbp_error *ret_code,
			      const char **ret_text)
{
	struct chan *ch = NULL;
	int r = chan_get(p, topic, is_private, rights, make == MAKE_JOIN, &ch, ret_text);

	*ret_code = r == -ENOMEM ? RTBP_E_BUSY : (enum rtbp_error)r;
	if (r == -ENOMEM)
		*ret_text = "no memory";
	return ch;
}

/* Of what this peer has: its identity may have ended, or be another by now. */
static struct chan *find_own(struct peer *p, struct rtbp_str topic, bool is_private)
{
	const struct tracker *t;
	const struct sub *s;

	TAILQ_FOREACH(s, &p->subs, in_peer) {
		if (s->chan->is_private == is_private &&
		    hub_compare_str(s->chan->topic, topic) == 0)
			return s->chan;
	}
	TAILQ_FOREACH(t, &p->trackers, in_peer) {
		if (t->chan->is_private == is_private &&
		    hub_compare_str(t->chan->topic, topic) == 0)
			return t->chan;
	}
	return NULL;
}

static struct chan *by_number(struct peer *p, uint64_t number, enum make make, unsigned rights,
			      enum rtbp_error *ret_code, const char **ret_text)
{
	struct chan *ch = chan_find_number(p->hub, number);

	*ret_code = RTBP_E_NOT_SUBSCRIBED;
	*ret_text = "this client has no subscription with this chan";
	if (!ch || (!sub_find(p, number) && !tracker_find(p, ch)))
		return NULL;
	/* Who only tracks, on a further link, does not keep the shared join. */
	if (make == MAKE_NOTHING)
		return ch;
	return make_chan(p, ch->topic, ch->is_private, make, rights, ret_code, ret_text);
}

static struct chan *find_or_make(struct peer *p, struct rtbp_val params, enum make make,
				 unsigned rights, enum rtbp_error *ret_code, const char **ret_text)
{
	struct rtbp_val v = rtbp_field(params, RTBP_F_PRIVATE);
	bool is_private = false;
	struct rtbp_str topic;
	uint64_t number;

	*ret_text = NULL;
	if (rtbp_get_uint(rtbp_field(params, RTBP_F_CHAN), &number))
		return by_number(p, number, make, rights, ret_code, ret_text);
	*ret_code = RTBP_E_BAD_REQUEST;
	*ret_text = "name the channel by chan or by topic";
	if (!rtbp_get_str(rtbp_field(params, RTBP_F_TOPIC), &topic))
		return NULL;
	*ret_text = "private is a boolean";
	if (v.p && !rtbp_is(v, RTBP_NIL) && !rtbp_get_bool(v, &is_private))
		return NULL;
	*ret_code = RTBP_E_BAD_TOPIC;
	*ret_text = rtbp_error_sentence(RTBP_E_BAD_TOPIC);
	/* "" is the name of what database changes alone are asked under. */
	if (!rtbp_topic_ok(topic) && (make || topic.size))
		return NULL;
	*ret_text = NULL;
	*ret_code = RTBP_E_NOT_SUBSCRIBED;
	if (!make)
		return find_own(p, topic, is_private);
	return make_chan(p, topic, is_private, make, rights, ret_code, ret_text);
}

struct chan *request_chan(struct peer *p, struct rtbp_val params, bool make, unsigned rights,
			  enum rtbp_error *ret_code, const char **ret_text)
{
	return find_or_make(p, params, make ? MAKE_JOIN : MAKE_NOTHING, rights, ret_code, ret_text);
}

struct chan *request_chan_only(struct peer *p, struct rtbp_val params, unsigned rights,
			       enum rtbp_error *ret_code, const char **ret_text)
{
	return find_or_make(p, params, MAKE_CHAN, rights, ret_code, ret_text);
}
