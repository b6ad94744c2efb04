/* SPDX-License-Identifier: MIT */
/* What GET /_devserver/status shows. */
#include "core_int.h"

static void number(struct ds_buf *b, const char *name, uint64_t value)
{
	ds_buf_fmt(b, "\"%s\":%llu,", name, (unsigned long long)value);
}

static void add_channel(struct ds_buf *b, const struct ds_channel *ch)
{
	ds_buf_text(b, "{\"topic\":");
	ds_buf_str(b, ch->topic_json);
	ds_buf_text(b, ",\"join_ref\":");
	ds_buf_str(b, ds_str(ch->join_ref));
	ds_buf_text(b, ",\"presence_key\":");
	ds_buf_json(b, ds_str(ch->presence.key));
	ds_buf_fmt(b,
		   ",\"private\":%s,\"self\":%s,\"ack\":%s,\"presence\":%s,\"tracked\":%s,"
		   "\"bindings\":%u,\"access_tokens\":%u,\"exp\":%lld}",
		   ch->private ? "true" : "false", ch->self ? "true" : "false",
		   ch->ack ? "true" : "false", ch->presence.on ? "true" : "false",
		   ch->presence.tracked ? "true" : "false", ch->n_bindings, ch->n_token_events,
		   (long long)(ch->exp_ms / 1000));
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

void ds_core_status(struct ds_core *c, struct ds_buf *b)
{
	const struct ds_socket *s;
	const char *comma = "";

	ds_buf_byte(b, '{');
	number(b, "sockets_open", c->n_sockets);
	number(b, "sockets_ever", c->n_opened);
	number(b, "upgrades_refused", c->n_refused);
	number(b, "joins_ever", c->n_joins);
	number(b, "heartbeats", c->n_heartbeats);
	number(b, "received", c->n_received);
	number(b, "relayed", c->n_relayed);
	number(b, "sent", c->n_sent);
	ds_buf_fmt(b, "\"muted\":%s,\"sockets\":[", c->muted ? "true" : "false");
	TAILQ_FOREACH(s, &c->sockets, link) {
		ds_buf_text(b, comma);
		add_socket(b, s);
		comma = ",";
	}
	ds_buf_text(b, "]}\n");
}
