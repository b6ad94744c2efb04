/* SPDX-License-Identifier: MIT */
/* What GET /_devserver/status shows. */
#include "core_int.h"

#include <search.h>
#include <stdlib.h>

static void number(struct ds_buf *b, const char *name, uint64_t value)
{
	ds_buf_fmt(b, "\"%s\":%llu,", name, (unsigned long long)value);
}

/* Of a private channel: null is what has not been looked up yet. */
static void add_rights(struct ds_buf *b, const struct ds_channel *ch)
{
	static const char *const names[DS_RIGHTS] = { "read", "write", "presence_read",
						      "presence_write" };
	static const char *const values[] = { "null", "true", "false" };

	ds_buf_text(b, ",\"rights\":{");
	for (int i = 0; i < DS_RIGHTS && ch->private; i++)
		ds_buf_fmt(b, "%s\"%s\":%s", i ? "," : "", names[i], values[ch->rights.of[i]]);
	ds_buf_byte(b, '}');
}

static void add_channel(struct ds_buf *b, const struct ds_channel *ch)
{
	ds_buf_text(b, "{\"topic\":");
	ds_buf_str(b, ch->topic_json);
	ds_buf_text(b, ",\"join_ref\":");
	ds_buf_str(b, ds_str(ch->join_ref));
	ds_buf_text(b, ",\"presence_key\":");
	ds_buf_json(b, ch->presence.key);
	ds_buf_fmt(b,
		   ",\"private\":%s,\"self\":%s,\"ack\":%s,\"presence\":%s,\"tracked\":%s,"
		   "\"presence_calls\":%u,\"bindings\":%u,\"subscribed\":%s,\"rows\":%llu,"
		   "\"access_tokens\":%u",
		   ch->private ? "true" : "false", ch->self ? "true" : "false",
		   ch->ack ? "true" : "false", ch->presence.on ? "true" : "false",
		   ch->presence.tracked ? "true" : "false", ch->presence.n_calls, ch->n_bindings,
		   ch->pg.state == DS_PG_SUBSCRIBED ? "true" : "false",
		   (unsigned long long)ch->pg.n_rows, ch->n_token_events);
	ds_claims_json(b, &ch->claims);
	add_rights(b, ch);
	ds_buf_byte(b, '}');
}

static void add_socket(struct ds_buf *b, const struct ds_socket *s)
{
	const struct ds_channel *ch;
	const char *comma = "";

	ds_buf_byte(b, '{');
	number(b, "id", s->id);
	number(b, "heartbeats", s->n_heartbeats);
	number(b, "received", s->n_received);
	number(b, "sent", s->n_sent);
	number(b, "joins", s->n_joins);
	number(b, "access_tokens", s->n_token_events);
	ds_buf_fmt(b, "\"vsn\":\"%d.0.0\",\"closing\":%s,\"topics\":[", (int)s->vsn,
		   s->closing ? "true" : "false");
	TAILQ_FOREACH(ch, &s->channels, in_socket) {
		ds_buf_text(b, comma);
		add_channel(b, ch);
		comma = ",";
	}
	ds_buf_text(b, "]}");
}

static void add_entry(struct ds_buf *b, const struct ds_entry *e)
{
	ds_buf_text(b, "{\"key\":");
	ds_buf_json(b, e->presence->key);
	ds_buf_fmt(b,
		   ",\"phx_ref\":\"%s\",\"socket\":%llu,\"late\":%s,\"state\":", e->presence->ref,
		   (unsigned long long)e->socket_id, e->late ? "true" : "false");
	ds_buf_str(b, ds_buf_view(&e->presence->payload));
	ds_buf_byte(b, '}');
}

struct rooms {
	struct ds_buf *b;
	const char *comma;
};

/* Rooms in which nobody is present are left out. */
static void add_room(const void *node, VISIT visit, void *arg)
{
	const struct ds_room *room = *(struct ds_room *const *)node;
	struct rooms *to = arg;
	struct ds_entry *list;
	size_t n;

	if (visit != postorder && visit != leaf)
		return;
	list = ds_presence_entries(room, &n);
	if (n > 0) {
		ds_buf_fmt(to->b, "%s{\"topic\":", to->comma);
		ds_buf_str(to->b, room->topic_json);
		ds_buf_fmt(to->b, ",\"private\":%s,\"entries\":[",
			   room->private ? "true" : "false");
		for (size_t i = 0; i < n; i++) {
			ds_buf_text(to->b, i > 0 ? "," : "");
			add_entry(to->b, &list[i]);
		}
		ds_buf_text(to->b, "]}");
		to->comma = ",";
	}
	free(list);
}

void ds_core_status(struct ds_core *c, struct ds_buf *b)
{
	const struct ds_socket *s;
	const char *comma = "";

	ds_buf_byte(b, '{');
	number(b, "sockets_open", c->n_sockets);
	number(b, "sockets_ever", c->n_opened);
	number(b, "upgrades_refused", c->n_refused);
	number(b, "joins_ever", c->n_joins);
	number(b, "joins_refused", c->n_joins_refused);
	number(b, "access_tokens", c->n_pushes);
	number(b, "tokens_bad", c->n_tokens_bad);
	number(b, "tokens_not_jwt", c->n_tokens_other);
	number(b, "heartbeats", c->n_heartbeats);
	number(b, "received", c->n_received);
	number(b, "relayed", c->n_relayed);
	number(b, "sent", c->n_sent);
	number(b, "rows", c->n_rows);
	number(b, "presence_calls", c->n_presence_calls);
	number(b, "presence_closed", c->n_presence_closed);
	ds_limit_status(c, b);
	ds_buf_fmt(b, "\"muted\":%s,\"database\":%s,\"sockets\":[", c->muted ? "true" : "false",
		   !c->ops.pg_subscribe ? "null"
		   : c->db_away         ? "false"
					: "true");
	TAILQ_FOREACH(s, &c->sockets, link) {
		ds_buf_text(b, comma);
		add_socket(b, s);
		comma = ",";
	}
	ds_buf_text(b, "],\"presence\":[");
	twalk_r(c->rooms, add_room, &(struct rooms){ b, "" });
	ds_buf_text(b, "]}\n");
}
