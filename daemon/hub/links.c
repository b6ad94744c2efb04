/* SPDX-License-Identifier: MIT */
/*
 * links: which WebSocket carries what. Link 0 is the shared one and carries whatever it can; a
 * further one is opened only for what the server's rules keep off the others: a topic that each of
 * them has already (another tracker, the private channel of a public one's name), or one channel
 * more than they may carry. Each has a session that talks to wire through the hub's ops.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

static const char prefix[] = "realtime:";

static int link_open(void *ctx, uint64_t epoch)
{
	struct link *link = ctx;

	return link->hub->ops->link_open(link->hub->ctx, link->number, epoch);
}

static int link_send(void *ctx, uint64_t epoch, bool binary, const void *data, size_t size)
{
	struct link *link = ctx;
	struct hub *hub = link->hub;
	int r = hub->ops->link_send(hub->ctx, link->number, epoch, binary, data, size);

	if (r == 0)
		hub->counters.bytes_out += size;
	return r;
}

static void link_close(void *ctx, uint64_t epoch, uint16_t code)
{
	struct link *link = ctx;

	link->hub->ops->link_close(link->hub->ctx, link->number, epoch, code);
}

static void link_online(void *ctx)
{
	struct link *link = ctx;
	struct hub *hub = link->hub;

	link->received_wall_ms = clock_wall(hub->clock);
	if (link->number == 0) {
		log_notice("online: %s", hub->conf.url);
		hub->down_wall_ms = 0;
		hub->was_online = true;
		report_connection(hub);
	} else {
		log_notice("link %u is online", link->number);
	}
	if (link->number == 0)
		parks_on_online(hub);
	link_update(link);
	probation_on_link(link);
	joins_run(hub);
	sync_probe_all(hub);
	hub_wake(hub);
}

static void link_offline(void *ctx)
{
	struct link *link = ctx;

	joins_on_offline(link);
	probation_on_link(link);
	hub_wake(link->hub);
}

/* The attempts that fail afterwards must not hide when and why the connection was lost. */
static void link_remember_end(struct hub *hub, const struct session_status *st)
{
	if (!hub->down_wall_ms)
		hub->down_wall_ms = clock_wall(hub->clock);
	if (!hub->was_online)
		return;
	hub->was_online = false;
	hub->last_end_wall_ms = clock_wall(hub->clock);
	snprintf(hub->last_end_reason, sizeof(hub->last_end_reason), "%s",
		 reasons_of_fault(st->fault)->name);
	snprintf(hub->last_end_text, sizeof(hub->last_end_text), "%s", st->text);
}

static void link_changed(void *ctx)
{
	struct link *link = ctx;
	struct hub *hub = link->hub;
	struct session_status st;
	char name[24] = "";

	session_get_status(link->session, &st);
	if (st.state == SESSION_BACKOFF) {
		if (link->number == 0)
			link_remember_end(hub, &st);
		if (link->number)
			snprintf(name, sizeof(name), "link %u ", link->number);
		log_warning("%snot connected (%s): %s; what to do: %s; next try in %lld ms", name,
			    reasons_of_fault(st.fault)->name, st.text,
			    reasons_of_fault(st.fault)->advice, (long long)st.next_try_ms);
	}
	if (link->number == 0)
		report_connection(hub);
	hub_wake(hub);
}

static void link_message(void *ctx, const struct phx_msg *msg)
{
	struct link *link = ctx;
	struct join *j = link_find(link, msg->topic);

	if (!j)
		return;
	log_debug("in: link %u %s %.*s", link->number, j->wire_topic, (int)msg->event.size,
		  msg->event.p);
	join_on_message(j, msg);
}

static const struct session_ops link_ops = {
	.open = link_open,
	.send = link_send,
	.close = link_close,
	.online = link_online,
	.offline = link_offline,
	.changed = link_changed,
	.message = link_message,
};

/* ---- from wire ---- */

void hub_on_opened(struct hub *hub, unsigned link, uint64_t epoch)
{
	if (hub->links[link].session)
		session_on_opened(hub->links[link].session, epoch);
	hub_wake(hub);
}

void hub_on_frame(struct hub *hub, unsigned link, uint64_t epoch, bool binary, const void *data,
		  size_t size)
{
	struct link *l = &hub->links[link];

	hub->counters.bytes_in += size;
	if (!l->session)
		return;
	l->received_wall_ms = clock_wall(hub->clock);
	session_on_frame(l->session, epoch, binary, data, size);
	hub_wake(hub);
}

void hub_on_closed(struct hub *hub, unsigned link, uint64_t epoch, const struct session_end *end)
{
	if (hub->links[link].session)
		session_on_closed(hub->links[link].session, epoch, end);
	if (link == 0 && end->fault == SESSION_FAULT_AUTH)
		own_key_refused(hub);
	hub_wake(hub);
}

/* ---- for the joins ---- */

bool link_is_online(const struct link *link)
{
	return link->session && session_get_state(link->session) == SESSION_ONLINE;
}

int link_push(struct link *link, const struct session_push *push)
{
	struct rtbp_buf *b = &link->hub->scratch;

	if (!rtbp_buf_ok(b))
		return b->error;
	return session_push(link->session, push, b->data, b->size);
}

struct join *link_find(struct link *link, struct rtbp_str wire_topic)
{
	struct join key;

	if (wire_topic.size < sizeof(prefix) - 1 ||
	    memcmp(wire_topic.p, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	key.topic = (struct rtbp_str){ wire_topic.p + sizeof(prefix) - 1,
				       wire_topic.size - (sizeof(prefix) - 1) };
	return RB_FIND(join_topic_tree, &link->joins, &key);
}

enum turn { TURN_USED, TURN_NOT_NEEDED, TURN_OUT_OF_TOKENS };

/* Why this one would be refused for sure; NULL: it would not. */
static const char *refusal_of(const struct join *j, const struct park *park, const char **ret_code)
{
	if (park && park->refuses && hub_now(j->hub) < park->until_ms) {
		*ret_code = park->code;
		return park->text;
	}
	*ret_code = "token_expired";
	return j->identity && !join_token(j) ? "every token of this identity has ended" : NULL;
}

/* The join of the queue whose turn it is: of those that may go, one of the user who has waited
 * longest. @next becomes earlier, if there is something to come back for. */
static struct join *next_join(struct link *link, uint64_t *next)
{
	struct hub *hub = link->hub;
	uint64_t now = hub_now(hub), at, turn, least = UINT64_MAX;
	bool is_full = place_is_full(link);
	struct join *j, *found = NULL;
	const struct park *park;
	const char *code;
	struct user *u;

	TAILQ_FOREACH(j, &link->queue, queue_entry) {
		if (!j->ops->wanted(j))
			continue; /* called off: it is about to be left */
		park = park_of(j, &at);
		if (refusal_of(j, park, &code)) {
			hub->has_refusals = true; /* told at the turn's end */
			hub_wake(hub);
			continue;
		}
		if (!park)
			at = j->retry_at_ms;
		if (park && hub_now(hub) < park->until_ms)
			join_wait_in(j, park);
		if (park || at > now) {
			*next = at < *next ? at : *next;
			continue;
		}
		if (j->ops->uid && !j->is_asked && !j->trial)
			j->uid = j->ops->uid(j);
		if (!probation_lets_go(j))
			continue;
		/* What is there still, and only joined anew, has its place. */
		if (is_full && !j->live) {
			place_seek(j);
			continue;
		}
		u = user_get(hub, j->uid);
		turn = u ? u->last_turn : 0;
		if (turn < least) {
			least = turn;
			found = j;
		}
	}
	return found;
}

static enum turn link_take_turn(struct link *link, uint64_t *next)
{
	struct hub *hub = link->hub;
	uint64_t now = hub_now(hub), at;
	struct join *j =
		link->joins_unanswered < JOINS_UNANSWERED_MAX ? next_join(link, next) : NULL;
	struct user *u;

	if (!j)
		return TURN_NOT_NEEDED; /* or a reply brings us back */
	/* Too many joins in a second, and the server closes the whole connection. */
	at = pace_take(&hub->joins_pace, now);
	if (at) {
		*next = at < *next ? at : *next;
		return TURN_OUT_OF_TOKENS;
	}
	if (join_push(j) == 0) {
		u = user_get(hub, j->uid);
		if (u)
			u->last_turn = ++hub->n_turns;
		return TURN_USED;
	}
	pace_give_back(&hub->joins_pace);
	at = now + LINK_BUSY_RETRY_MS;
	*next = at < *next ? at : *next;
	return TURN_NOT_NEEDED;
}

/* The links take turns: one with a long queue must not use up what there is for all. */
void joins_run(struct hub *hub)
{
	uint64_t next = UINT64_MAX;
	unsigned n_passed = 0;
	struct link *link;
	enum turn turn;

	if (hub->dying)
		return;
	while (n_passed < LINKS_MAX) {
		link = &hub->links[hub->next_turn];
		turn = link_is_online(link) ? link_take_turn(link, &next) : TURN_NOT_NEEDED;
		if (turn == TURN_OUT_OF_TOKENS)
			break; /* the next one is this link's */
		n_passed = turn == TURN_USED ? 0 : n_passed + 1;
		hub->next_turn = (hub->next_turn + 1) % LINKS_MAX;
	}
	if (next != UINT64_MAX)
		timer_arm(&hub->timers, &hub->join_timer, next);
}

static struct join *find_refused(struct link *link, const char **ret_code, const char **ret_text)
{
	struct join *j;
	uint64_t at;

	TAILQ_FOREACH(j, &link->queue, queue_entry) {
		*ret_text = j->ops->wanted(j) ? refusal_of(j, park_of(j, &at), ret_code) : NULL;
		if (*ret_text)
			return j;
	}
	return NULL;
}

void joins_refuse(struct hub *hub)
{
	const char *code, *text;
	struct join *j;

	if (!hub->has_refusals)
		return;
	hub->has_refusals = false;
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		while ((j = find_refused(&hub->links[i], &code, &text)))
			join_refuse_here(j, code, text);
	}
}

/* ---- which one ---- */

/* What goes goes before its time. A channel that is being left still counts at the server for a
 * moment; a few may overlap. */
bool link_has_room(struct link *link)
{
	unsigned max = link_max(link), n_staying = 0;
	struct join *j, *idle = NULL;

	if (link->n_joins < max)
		return true;
	RB_FOREACH(j, join_topic_tree, &link->joins) {
		if (j->state != JOIN_LEAVING)
			n_staying++;
		if ((!idle || j->id < idle->id) && !j->ops->wanted(j) && !j->lingers_on &&
		    (j->state == JOIN_JOINED || j->state == JOIN_REJECTED))
			idle = j;
	}
	if (idle) {
		join_evict(idle);
		n_staying -= idle->state == JOIN_LEAVING || idle->state == JOIN_DEAD;
	}
	return n_staying < max && link->n_joins < max + JOINS_LEAVING_MAX;
}

/* The server knows a topic once per connection, be it public or private: a second join would
 * replace the first. */
bool link_has_topic(struct link *link, struct rtbp_str topic)
{
	struct join key = { .topic = topic };

	return RB_FIND(join_topic_tree, &link->joins, &key) != NULL;
}

/* One that nobody wants any more goes at once: the server reads its leave before the next join. */
static bool link_can_take(struct link *link, struct rtbp_str topic)
{
	struct join key = { .topic = topic };
	struct join *j = RB_FIND(join_topic_tree, &link->joins, &key);

	/* Not that of the channel itself for which a place is looked for. */
	if (j && chan_of_join(j) && chan_of_join(j)->held)
		return false;
	return !j || (!j->ops->wanted(j) && !j->lingers_on && join_leave_now(j));
}

static bool link_make_session(struct link *link)
{
	struct session_conf conf = link->hub->conf.session;

	conf.seed += link->number;
	if (!link->session)
		link->session = session_new(&conf, link->hub->clock, &link_ops, link);
	return link->session != NULL;
}

const struct join *link_cause(struct link *link)
{
	struct join *j, *first = NULL;

	RB_FOREACH(j, join_topic_tree, &link->joins) {
		if (!first || j->id < first->id)
			first = j;
	}
	return first;
}

bool link_start(struct link *link)
{
	if (!link_make_session(link))
		return false;
	link->wanted = true;
	session_start(link->session);
	return true;
}

void link_stop(struct link *link)
{
	timer_disarm(&link->hub->timers, &link->idle_timer);
	if (link->number)
		log_notice("closing link %u: nothing needs it any more", link->number);
	else
		log_notice("closing the connection: nothing is joined; the next wish opens it");
	link->wanted = false;
	session_stop(link->session);
	sync_probe_all(link->hub);
	hub_wake(link->hub);
}

struct link *link_shared(struct hub *hub)
{
	struct link *link = &hub->links[0];

	if (!link->wanted && link_start(link))
		log_notice("connecting: there is something to join");
	return link;
}

/* Further links of which this user is the cause, and those that are still to be had. */
static void count_further(struct hub *hub, uid_t uid, unsigned *ret_own, unsigned *ret_unused)
{
	const struct join *cause;
	struct link *link;

	*ret_own = *ret_unused = 0;
	for (unsigned i = 1; i < hub->conf.max_links; i++) {
		link = &hub->links[i];
		cause = link->wanted && !link->is_probation ? link_cause(link) : NULL;
		*ret_own += cause && cause->uid == uid;
		*ret_unused += !link->wanted || link == hub->probation.link;
	}
}

/* Half of them at most, and the last one for who has none. */
static bool may_open(struct hub *hub, uid_t uid)
{
	unsigned n_own, n_unused, n_further = hub->conf.max_links - 1;

	if (user_is_owner(hub, uid))
		return true;
	count_further(hub, uid, &n_own, &n_unused);
	return n_own == 0 || (n_own < (n_further + 1) / 2 && n_unused > 1);
}

struct link *link_find_unused(struct hub *hub)
{
	struct link *link, *found = NULL;

	for (unsigned i = 1; i < hub->conf.max_links; i++) {
		link = &hub->links[i];
		if (link->wanted)
			continue;
		/* Rather one whose last connection is not just being closed. */
		if (!link->session || session_get_state(link->session) == SESSION_IDLE)
			return link;
		found = found ? found : link;
	}
	return found;
}

/* Return: NULL with @ret_text when there is none for this user. */
static struct link *open_further(struct hub *hub, uid_t uid, const char **ret_text)
{
	struct link *link;

	*ret_text = "this user causes as many further connections as one may: half of them, and "
		    "the last one is kept for others ([limits] links)";
	if (!may_open(hub, uid))
		return NULL;
	link = link_find_unused(hub);
	/* The connection on which joins are tried out can wait. */
	if (!link && probation_give_link(hub))
		link = link_find_unused(hub);
	*ret_text = NULL;
	return link && link_start(link) ? link : NULL;
}

struct link *link_place(struct hub *hub, uid_t uid, const struct peer *p, struct rtbp_str topic,
			const char *why, const char **ret_text)
{
	bool topic_everywhere = true;
	struct link *link;

	(void)link_shared(hub);
	for (unsigned i = 0; i < hub->conf.max_links; i++) {
		link = &hub->links[i];
		if (!link->wanted || link->is_probation || !link_can_take(link, topic))
			continue;
		topic_everywhere = false;
		if (link_has_room(link))
			return link;
	}
	link = open_further(hub, uid, ret_text);
	if (link && p)
		log_notice("opening link %u: %s (client %" PRIu64 ", uid %u, pid %d, %s)",
			   link->number, why, p->session, p->cred.uid, (int)p->cred.pid, p->name);
	else if (link)
		log_notice("opening link %u: %s (uid %u)", link->number, why, uid);
	if (link || *ret_text)
		return link;
	if (topic_everywhere)
		*ret_text = "each connection that may be opened has this topic already ([limits] "
			    "links says how many)";
	else
		*ret_text = "the connections carry as many channels as they may ([limits] links, "
			    "channels)";
	return NULL;
}

static void link_idle_over(void *ctx)
{
	struct link *link = ctx;

	/* Trouble with the shared one stays to be seen; link_online() brings us back. */
	if (!link->n_joins && link->wanted && (link->number || link_is_online(link)))
		link_stop(link);
}

void link_update(struct link *link)
{
	struct hub *hub = link->hub;

	if (hub->dying)
		return;
	feeds_tidy_later(hub);
	/* The one of the trials has its own time. */
	if (!link->wanted || link->is_probation || (link->number == 0 && hub->conf.connect_always))
		return;
	if (link->n_joins)
		timer_disarm(&hub->timers, &link->idle_timer);
	else if (!link->idle_timer.armed)
		timer_arm(&hub->timers, &link->idle_timer, hub_now(hub) + LINK_IDLE_MS);
}

/* ---- all of them ---- */

int links_init(struct hub *hub)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		struct link *link = &hub->links[i];

		link->number = i;
		link->hub = hub;
		RB_INIT(&link->joins);
		TAILQ_INIT(&link->queue);
		timer_init(&link->idle_timer, link_idle_over, link);
	}
	hub->links[0].wanted = true;
	return link_make_session(&hub->links[0]) ? 0 : -ENOMEM;
}

void links_done(struct hub *hub)
{
	for (unsigned i = 0; i < LINKS_MAX; i++)
		hub->links[i].session = session_free(hub->links[i].session);
}

void links_start(struct hub *hub)
{
	session_start(hub->links[0].session);
}

void links_stop(struct hub *hub)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		timer_disarm(&hub->timers, &hub->links[i].idle_timer);
		if (hub->links[i].session)
			session_stop(hub->links[i].session);
	}
}

bool links_are_idle(struct hub *hub)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (hub->links[i].session &&
		    session_get_state(hub->links[i].session) != SESSION_IDLE)
			return false;
	}
	return true;
}

uint64_t links_deadline(struct hub *hub)
{
	uint64_t next = UINT64_MAX, at;

	for (unsigned i = 0; i < LINKS_MAX; i++) {
		at = hub->links[i].session ? session_deadline(hub->links[i].session) : UINT64_MAX;
		next = at < next ? at : next;
	}
	return next;
}

void links_tick(struct hub *hub)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (hub->links[i].session &&
		    session_deadline(hub->links[i].session) <= hub_now(hub))
			session_tick(hub->links[i].session);
	}
}
