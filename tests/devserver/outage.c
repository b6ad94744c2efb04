/* SPDX-License-Identifier: MIT */
/*
 * While the database is away. The real server says nothing of it: joins wait, and with them all that
 * is behind them on their socket; so does what a channel may only do after a look at the policies,
 * and what that channel is told later. When the database is back all of it is done.
 */
#include <stdlib.h>

#include "core_int.h"

/* Is this one of those for which the policies are asked? */
static bool asks(const struct ds_channel *ch, const struct ds_msg *m)
{
	if (!ch->private || !m->event.p)
		return false;
	if (ds_str_eq(m->event, DS_STR("broadcast")))
		return ch->rights.of[DS_WRITE] == DS_UNASKED;
	if (ds_str_eq(m->event, DS_STR("presence")))
		return ch->rights.of[DS_PRESENCE_WRITE] == DS_UNASKED;
	return ds_str_eq(m->event, DS_STR("access_token"));
}

static bool is_join(const struct ds_msg *m)
{
	return m->event.p && m->topic.p && ds_str_eq(m->event, DS_STR("phx_join")) &&
	       m->topic.n >= strlen(DS_TOPIC_HEAD) &&
	       memcmp(m->topic.p, DS_TOPIC_HEAD, strlen(DS_TOPIC_HEAD)) == 0;
}

bool ds_outage_holds(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m, bool binary,
		     struct ds_str frame)
{
	struct ds_channel *ch = NULL;
	struct ds_held *h;

	if (!c->db_away)
		return false;
	if (is_join(m)) {
		ds_socket_hold(s, DS_HELD_IN, frame, true)->binary = binary;
		s->stuck = true;
		s->awaits_db = true;
		return true;
	}
	if (m->topic.p)
		ch = ds_channel_by_topic(s, m->topic_json);
	if (!ch || (!ch->waits && !asks(ch, m)))
		return false;
	ch->waits = true;
	h = ds_alloc(sizeof(*h));
	h->kind = DS_HELD_IN;
	h->binary = binary;
	ds_buf_str(&h->frame, frame);
	TAILQ_INSERT_TAIL(&s->waiting, h, link);
	return true;
}

static void held_free(struct ds_socket *s, struct ds_held *h)
{
	TAILQ_REMOVE(&s->waiting, h, link);
	ds_buf_done(&h->frame);
	free(h);
}

void ds_outage_gone(struct ds_socket *s)
{
	while (!TAILQ_EMPTY(&s->waiting))
		held_free(s, TAILQ_FIRST(&s->waiting));
}

/* What waits now; what comes meanwhile has its own turn. */
static void resume(struct ds_core *c, struct ds_socket *s)
{
	struct ds_channel *ch;
	struct ds_held *h;

	TAILQ_FOREACH(ch, &s->channels, in_socket)
		ch->waits = false;
	while ((h = TAILQ_FIRST(&s->waiting)) != NULL) {
		if (!s->closing)
			ds_socket_work(c, s, h->binary, ds_buf_view(&h->frame));
		held_free(s, h);
	}
}

void ds_core_database(struct ds_core *c, bool here)
{
	uint64_t *ids, n = 0;
	struct ds_socket *s;

	if (here != c->db_away)
		return;
	c->db_away = !here;
	if (!here)
		return;
	/* A socket may end over what it has waited for. */
	ids = ds_alloc((c->n_sockets + 1) * sizeof(*ids));
	TAILQ_FOREACH(s, &c->sockets, link)
		ids[n++] = s->id;
	for (uint64_t i = 0; i < n; i++) {
		s = ds_socket_by_id(c, ids[i]);
		if (s && s->awaits_db) {
			s->awaits_db = false;
			ds_socket_resume(c, s);
			s = ds_socket_by_id(c, ids[i]);
		}
		if (s)
			resume(c, s);
	}
	free(ids);
}
