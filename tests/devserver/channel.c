/* SPDX-License-Identifier: MIT */
/* Channels and the rooms in which they hear each other: one room per topic and privacy. */
#include "core_int.h"

#include <search.h>
#include <stdlib.h>

#include "term.h"

static int compare(struct ds_str a, struct ds_str b)
{
	if (a.n != b.n)
		return a.n < b.n ? -1 : 1;
	return memcmp(a.p, b.p, a.n);
}

static int by_topic(const void *a, const void *b)
{
	const struct ds_channel *x = a, *y = b;

	return compare(x->topic_json, y->topic_json);
}

static int by_name(const void *a, const void *b)
{
	const struct ds_room *x = a, *y = b;

	if (x->private != y->private)
		return x->private ? 1 : -1;
	return compare(x->topic_json, y->topic_json);
}

struct ds_channel *ds_channel_by_topic(struct ds_socket *s, struct ds_str topic_json)
{
	struct ds_channel key = { .topic_json = topic_json };
	struct ds_channel **hit = tfind(&key, &s->by_topic, by_topic);

	return hit ? *hit : NULL;
}

struct ds_channel *ds_channel_by_serial(struct ds_socket *s, uint64_t serial)
{
	struct ds_channel *ch;

	TAILQ_FOREACH(ch, &s->channels, in_socket)
		if (ch->serial == serial)
			return ch;
	return NULL;
}

struct ds_room *ds_room_find(struct ds_core *c, struct ds_str topic_json, bool private)
{
	struct ds_room key = { .topic_json = topic_json, .private = private };
	struct ds_room **hit = tfind(&key, &c->rooms, by_name);

	return hit ? *hit : NULL;
}

static struct ds_room *room_enter(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_room *room = ds_room_find(c, ch->topic_json, ch->private);

	if (!room) {
		room = ds_alloc(sizeof(*room));
		room->topic_json = (struct ds_str){ ds_str_dup(ch->topic_json), ch->topic_json.n };
		room->private = ch->private;
		TAILQ_INIT(&room->members);
		TAILQ_INIT(&room->ghosts);
		if (!tsearch(room, &c->rooms, by_name))
			abort();
	}
	TAILQ_INSERT_TAIL(&room->members, ch, in_room);
	return room;
}

struct ds_channel *ds_channel_new(struct ds_core *c, struct ds_socket *s, struct ds_str topic_json,
				  bool private)
{
	struct ds_channel *ch = ds_alloc(sizeof(*ch));

	ch->socket = s;
	ch->serial = c->next_id++;
	ch->topic_json = (struct ds_str){ ds_str_dup(topic_json), topic_json.n };
	ch->private = private;
	TAILQ_INSERT_TAIL(&s->channels, ch, in_socket);
	if (!tsearch(ch, &s->by_topic, by_topic))
		abort();
	s->n_channels++;
	ch->room = room_enter(c, ch);
	return ch;
}

void ds_room_check(struct ds_core *c, struct ds_room *room)
{
	if (!TAILQ_EMPTY(&room->members) || !TAILQ_EMPTY(&room->ghosts))
		return;
	tdelete(room, &c->rooms, by_name);
	free((char *)room->topic_json.p);
	free(room);
}

void ds_channel_end(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_socket *s = ch->socket;
	struct ds_room *room = ch->room;

	tdelete(ch, &s->by_topic, by_topic);
	TAILQ_REMOVE(&s->channels, ch, in_socket);
	s->n_channels--;
	TAILQ_REMOVE(&room->members, ch, in_room);
	ds_presence_gone(c, ch, room);
	ds_room_check(c, room);
	ds_presence_done(&ch->presence);
	ds_pg_end(c, ch);
	ds_replayed_done(ch);
	free((char *)ch->topic_json.p);
	free(ch->join_ref);
	free(ch->push_ref);
	free(ch->name);
	free(ch->token);
	ds_claims_done(&ch->claims);
	free(ch);
}

static void push(struct ds_core *c, struct ds_channel *ch, struct ds_str join_ref,
		 struct ds_str ref, const char *event, struct ds_str payload)
{
	struct ds_buf b = { 0 };

	ds_phx_push(&b, ch->socket->vsn, join_ref, ref, ch->topic_json, event, payload);
	ds_socket_send(c, ch->socket, false, ds_buf_view(&b));
	ds_buf_done(&b);
}

void ds_channel_push(struct ds_core *c, struct ds_channel *ch, const char *event,
		     struct ds_str payload)
{
	push(c, ch, ds_str(ch->push_ref), DS_NULL, event, payload);
}

void ds_channel_system(struct ds_core *c, struct ds_channel *ch, const char *extension,
		       const char *status, struct ds_str message)
{
	struct ds_buf b = { 0 };

	ds_buf_text(&b, "{\"message\":");
	ds_buf_json(&b, message);
	ds_buf_text(&b, ",\"status\":");
	ds_buf_json(&b, ds_str(status));
	ds_buf_text(&b, ",\"extension\":");
	ds_buf_json(&b, ds_str(extension));
	/* The topic without its head: that is plain ASCII, so the JSON text can be cut there. */
	ds_buf_text(&b, ",\"channel\":\"");
	ds_buf_text(&b, ch->topic_json.p + 1 + strlen(DS_TOPIC_HEAD));
	ds_buf_byte(&b, '}');
	ds_channel_push(c, ch, "system", ds_buf_view(&b));
	ds_buf_done(&b);
}

void ds_channel_close(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_timer t = { .kind = DS_TIMER_SEND, .socket_id = ch->socket->id };
	struct ds_str ref = ds_str(ch->join_ref);
	struct ds_buf topic = { 0 };
	struct ds_rule_hit hit;

	ds_json_text(ch->topic_json, &topic);
	if (ds_rules_use(&c->rules, DS_RULE_LATE_CLOSE, ds_buf_view(&topic), DS_STR("phx_close"),
			 &hit)) {
		free(hit.text);
		ds_phx_push(&t.frame, ch->socket->vsn, ref, ref, ch->topic_json, "phx_close",
			    DS_EMPTY);
		t.due_ms = c->mono_ms + hit.ms;
		ds_timers_add(&c->timers, t);
	} else {
		push(c, ch, ref, ref, "phx_close", DS_EMPTY);
	}
	ds_buf_done(&topic);
	ds_channel_end(c, ch);
}

void ds_channel_crash(struct ds_core *c, struct ds_channel *ch)
{
	push(c, ch, ds_str(ch->join_ref), ds_str(ch->join_ref), "phx_error",
	     DS_STR("{\"reason\":\"channel_crash\"}"));
	ds_channel_end(c, ch);
}

void ds_channel_shut(struct ds_core *c, struct ds_channel *ch, const char *message)
{
	ds_channel_system(c, ch, "system", "error", ds_str(message));
	ds_channel_close(c, ch);
}

/* What the real server holds against its limit: the decoded payload, or the parts of the frame. */
static size_t size_of(const struct ds_msg *m)
{
	if (m->form == DS_PAYLOAD_JSON)
		return ds_term_size(m->payload);
	return ds_term_bytes(m->payload.n + m->user_event.n) +
	       (m->user_json ? DS_TERM_PUSH_JSON : DS_TERM_PUSH_BINARY);
}

static void broadcast(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	struct ds_str ref = ds_str(ch->push_ref);
	bool fine;

	if (!ds_rights_ask(c, ch, DS_WRITE))
		return;
	ds_limit_event(c);
	if (size_of(m) > c->conf.payload_max_bytes) {
		if (ch->ack)
			ds_reply(c, ch->socket, ref, m, "error",
				 DS_STR("\"payload_size_exceeded\""));
		return;
	}
	if (!ds_cast_possible(ch->room, ch, m)) {
		ds_channel_crash(c, ch);
		return;
	}
	fine = ds_cast(c, ch->room, ch, (struct ds_str){ NULL, 0 }, m);
	if (ch->ack)
		ds_reply(c, ch->socket, ref, m, "ok", DS_EMPTY);
	if (!fine)
		ds_channel_shut(c, ch, DS_TOO_MANY_EVENTS);
}

void ds_channel_message(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	bool json = m->form == DS_PAYLOAD_JSON;

	if (!m->event.p)
		return;
	if (ds_str_eq(m->event, DS_STR("broadcast"))) {
		broadcast(c, ch, m);
	} else if (ds_str_eq(m->event, DS_STR("phx_leave"))) {
		ds_reply(c, ch->socket, ds_str(ch->push_ref), m, "ok", DS_EMPTY);
		ds_channel_close(c, ch);
	} else if (json && ds_str_eq(m->event, DS_STR("presence"))) {
		ds_presence_event(c, ch, m);
	} else if (!json || !ds_str_eq(m->event, DS_STR("access_token")) ||
		   !ds_new_token(c, ch, m->payload)) {
		ds_limit_event(c); /* unknown, and not answered; it counts all the same */
	}
}
