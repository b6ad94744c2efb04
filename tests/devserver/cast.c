/* SPDX-License-Identifier: MIT */
/* One message to all members of a room, wherever it comes from. */
#include "core_int.h"

/* Is @to to have it, if @from (NULL: none of the channels) sends it? */
static bool hears(const struct ds_channel *to, const struct ds_channel *from, struct ds_str id)
{
	return (to != from || from->self) && ds_rights_has(to, DS_READ) && !ds_replayed(to, id);
}

static bool anybody(const struct ds_room *room, const struct ds_channel *from, enum ds_vsn vsn)
{
	const struct ds_channel *to;

	TAILQ_FOREACH(to, &room->members, in_room)
		if (to->socket->vsn == vsn && hears(to, from, (struct ds_str){ NULL, 0 }))
			return true;
	return false;
}

bool ds_cast_possible(const struct ds_room *room, const struct ds_channel *from,
		      const struct ds_msg *m)
{
	if (m->form == DS_PAYLOAD_JSON)
		return ds_json_kind(m->payload) == DS_JSON_OBJECT || !anybody(room, from, DS_VSN_2);
	if (m->form == DS_PAYLOAD_RAW)
		return !anybody(room, from, DS_VSN_1);
	return (m->topic.n <= 255 && m->user_event.n <= 255 && m->meta.n <= 255) ||
	       !anybody(room, from, DS_VSN_2);
}

/* The frame for receivers of this version; nothing is appended if they do not get it. */
static void encode(struct ds_buf *b, const struct ds_msg *m, enum ds_vsn vsn)
{
	if (m->form == DS_PAYLOAD_JSON)
		ds_phx_push(b, vsn, DS_NULL, DS_NULL, m->topic_json, "broadcast", m->payload);
	else if (m->form == DS_PAYLOAD_RAW)
		ds_phx_raw_binary(b, m);
	else if (vsn == DS_VSN_2)
		ds_phx_user_binary(b, m);
	else if (m->user_json)
		ds_phx_user_text(b, m);
}

bool ds_cast(struct ds_core *c, struct ds_room *room, struct ds_channel *from, struct ds_str id,
	     const struct ds_msg *m)
{
	struct ds_buf frame[3] = { { 0 } };
	struct ds_channel *to, *next;
	bool fine = true;

	for (enum ds_vsn vsn = DS_VSN_1; vsn <= DS_VSN_2; vsn++)
		if (anybody(room, from, vsn))
			encode(&frame[vsn], m, vsn);
	/* The room ends with the last of those that are closed here; then there is no next one. */
	for (to = TAILQ_FIRST(&room->members); to; to = next) {
		struct ds_buf *b = &frame[to->socket->vsn];
		bool binary = m->form != DS_PAYLOAD_JSON && to->socket->vsn == DS_VSN_2;

		next = TAILQ_NEXT(to, in_room);
		if (!hears(to, from, id))
			continue;
		if (b->len) {
			c->n_relayed++;
			ds_socket_send(c, to->socket, binary, ds_buf_view(b));
		}
		/* What version 1 cannot carry counts all the same. */
		if (ds_limit_event(c))
			continue;
		if (to == from)
			fine = false;
		else
			ds_channel_shut(c, to, DS_TOO_MANY_EVENTS);
	}
	ds_buf_done(&frame[DS_VSN_1]);
	ds_buf_done(&frame[DS_VSN_2]);
	return fine;
}

bool ds_cast_outside(struct ds_core *c, struct ds_str name, bool private, struct ds_str id,
		     struct ds_msg *m)
{
	struct ds_buf topic = { 0 }, topic_json = { 0 };
	struct ds_room *room;
	bool possible = true;

	ds_buf_text(&topic, DS_TOPIC_HEAD);
	ds_buf_str(&topic, name);
	ds_buf_json(&topic_json, ds_buf_view(&topic));
	m->topic = ds_buf_view(&topic);
	m->topic_json = ds_buf_view(&topic_json);
	room = ds_room_find(c, m->topic_json, private);
	ds_limit_event(c);
	if (room)
		possible = ds_cast_possible(room, NULL, m);
	if (room && possible)
		ds_cast(c, room, NULL, id, m);
	ds_buf_done(&topic);
	ds_buf_done(&topic_json);
	return possible;
}
