/* SPDX-License-Identifier: MIT */
/* What a join asks of the messages that the database sends: those of before, and when more can come. */
#include "core_int.h"

#include <stdlib.h>

#include "jwt.h"

#define AHEAD_MS       60000 /* later ones are not looked for */
#define LIMIT_MAX      25
#define SINCE_LEAST_MS -377705116800000
#define SINCE_MOST_MS  253402300799999

/* A number without fraction; false if it is anything else. */
static bool integer(struct ds_str v, double *ret)
{
	char text[32] = "";

	if (ds_json_kind(v) != DS_JSON_NUMBER || memchr(v.p, '.', v.n) || memchr(v.p, 'e', v.n) ||
	    memchr(v.p, 'E', v.n))
		return false;
	memcpy(text, v.p, v.n < sizeof(text) ? v.n : sizeof(text) - 1);
	*ret = strtod(text, NULL);
	return true;
}

const char *ds_replay_parse(const struct ds_core *c, struct ds_str broadcast, bool private,
			    struct ds_replay *ret)
{
	struct ds_str replay, since = { "", 0 }, limit;
	double since_ms, n = LIMIT_MAX;

	*ret = (struct ds_replay){ .wanted = false };
	if (c->conf.no_replay || !ds_json_get(broadcast, "replay", &replay))
		return NULL;
	if (!private)
		return "Replay is not allowed for public channels";
	if (ds_json_kind(replay) != DS_JSON_OBJECT)
		return NULL;
	if (ds_json_get(replay, "limit", &limit) && ds_json_kind(limit) != DS_JSON_NULL &&
	    ds_json_kind(limit) != DS_JSON_FALSE && !integer(limit, &n))
		return "Replay params are not valid";
	if (!ds_json_get(replay, "since", &since) || !integer(since, &since_ms) ||
	    since_ms < SINCE_LEAST_MS || since_ms > SINCE_MOST_MS)
		return "Replay params are not valid";
	*ret = (struct ds_replay){ .wanted = true, .since_ms = (int64_t)since_ms };
	ret->limit = n < 1 ? 1 : n > LIMIT_MAX ? LIMIT_MAX : (unsigned)n;
	return NULL;
}

bool ds_replay_ask(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m)
{
	struct ds_str config, broadcast, private;
	size_t head = strlen(DS_TOPIC_HEAD);
	struct ds_replay replay;

	if (!c->ops.pg_replay || s->rows_here || !m->event.p || !m->topic.p ||
	    !ds_str_eq(m->event, DS_STR("phx_join")) || m->form != DS_PAYLOAD_JSON ||
	    m->topic.n <= head || memcmp(m->topic.p, DS_TOPIC_HEAD, head) != 0)
		return false;
	if (!ds_json_get(m->payload, "config", &config) ||
	    !ds_json_get(config, "broadcast", &broadcast) ||
	    !ds_json_get(config, "private", &private) || ds_json_kind(private) == DS_JSON_FALSE ||
	    ds_replay_parse(c, broadcast, true, &replay) || !replay.wanted)
		return false;
	replay.socket_id = s->id;
	replay.name = (struct ds_str){ m->topic.p + head, m->topic.n - head };
	c->ops.pg_replay(c->ops.pg, &replay);
	return true;
}

static void add_row(struct ds_buf *b, const struct ds_stored *st)
{
	ds_buf_text(b, b->len > 1 ? ",{\"id\":" : "{\"id\":");
	ds_buf_json(b, ds_str(st->id));
	ds_buf_text(b, ",\"event\":");
	ds_buf_json(b, ds_buf_view(&st->event));
	if (st->binary) {
		ds_buf_text(b, ",\"base64\":\"");
		ds_base64url(b, st->payload.data, st->payload.len);
		ds_buf_text(b, "\"}");
		return;
	}
	ds_buf_text(b, ",\"payload\":");
	ds_buf_str(b, ds_buf_view(&st->payload));
	ds_buf_byte(b, '}');
}

static bool replays(const struct ds_core *c, const struct ds_stored *st,
		    const struct ds_replay *replay)
{
	return st->private && st->at_ms >= replay->since_ms && st->at_ms < c->wall_ms + AHEAD_MS &&
	       ds_str_eq(ds_buf_view(&st->name), replay->name);
}

void ds_replay_rows(struct ds_core *c, struct ds_socket *s, const struct ds_replay *replay,
		    struct ds_buf *rows)
{
	const struct ds_stored *st, *first = NULL;
	unsigned n = 0;

	if (c->ops.pg_replay) {
		ds_buf_str(rows, ds_buf_view(&s->rows));
		return;
	}
	for (st = TAILQ_LAST(&c->stored, ds_stored_list); st && n < replay->limit;
	     st = TAILQ_PREV(st, ds_stored_list, link))
		if (replays(c, st, replay)) {
			first = st;
			n++;
		}
	ds_buf_byte(rows, '[');
	for (st = first; st; st = TAILQ_NEXT(st, link))
		if (replays(c, st, replay))
			add_row(rows, st);
	ds_buf_byte(rows, ']');
}

static void push_binary(struct ds_core *c, struct ds_channel *ch, struct ds_str event,
			struct ds_str base64, struct ds_str meta)
{
	struct ds_buf topic = { 0 }, name = { 0 }, bytes = { 0 }, frame = { 0 };
	struct ds_msg m = { .form = DS_PAYLOAD_USER, .meta = meta };

	if (ch->socket->vsn == DS_VSN_1)
		return; /* it cannot carry bytes */
	ds_json_text(ch->topic_json, &topic);
	ds_json_text(event, &name);
	(void)ds_base64_decode(&bytes, (struct ds_str){ base64.p + 1, base64.n - 2 });
	m.topic = ds_buf_view(&topic);
	m.user_event = ds_buf_view(&name);
	m.payload = ds_buf_view(&bytes);
	ds_phx_user_binary(&frame, &m);
	ds_socket_send(c, ch->socket, true, ds_buf_view(&frame));
	ds_buf_done(&topic);
	ds_buf_done(&name);
	ds_buf_done(&bytes);
	ds_buf_done(&frame);
}

/* A text frame even to version 2, other than what is live. */
static void push_json(struct ds_core *c, struct ds_channel *ch, struct ds_str event,
		      struct ds_str payload, struct ds_str meta)
{
	struct ds_buf b = { 0 };

	ds_buf_text(&b, "{\"event\":");
	ds_buf_str(&b, event);
	ds_buf_text(&b, ",\"meta\":");
	ds_buf_str(&b, meta);
	ds_buf_text(&b, ",\"payload\":");
	ds_buf_str(&b, payload);
	ds_buf_text(&b, ",\"type\":\"broadcast\"}");
	ds_channel_push(c, ch, "broadcast", ds_buf_view(&b));
	ds_buf_done(&b);
}

static void push_row(struct ds_core *c, struct ds_channel *ch, struct ds_str row, struct ds_str id)
{
	struct ds_str event = DS_STR("\"\""), payload = DS_EMPTY, base64;
	struct ds_buf meta = { 0 };

	(void)ds_json_get(row, "event", &event);
	(void)ds_json_get(row, "payload", &payload);
	ds_stored_meta(&meta, id, true);
	if (ds_json_get(row, "base64", &base64) && ds_json_kind(base64) == DS_JSON_STRING)
		push_binary(c, ch, event, base64, ds_buf_view(&meta));
	else
		push_json(c, ch, event, payload, ds_buf_view(&meta));
	ds_buf_done(&meta);
}

void ds_replay_push(struct ds_core *c, struct ds_channel *ch, struct ds_str rows)
{
	struct ds_json_iter it = ds_json_iter(rows);
	struct ds_str row, id;

	ch->replayed = ds_alloc(LIMIT_MAX * sizeof(*ch->replayed));
	while (ch->n_replayed < LIMIT_MAX && ds_json_item(&it, &row)) {
		if (!ds_json_get(row, "id", &id) || id.n < 2 || id.n > DS_ID_SIZE + 1)
			continue;
		id = (struct ds_str){ id.p + 1, id.n - 2 };
		memcpy(ch->replayed[ch->n_replayed++], id.p, id.n);
		push_row(c, ch, row, id);
	}
}

bool ds_replayed(const struct ds_channel *ch, struct ds_str id)
{
	for (unsigned i = 0; id.n && i < ch->n_replayed; i++)
		if (ds_str_eq(ds_str(ch->replayed[i]), id))
			return true;
	return false;
}

void ds_replayed_done(struct ds_channel *ch)
{
	free(ch->replayed);
	ch->replayed = NULL;
	ch->n_replayed = 0;
}

/* "Messages that the database sends can flow." */

void ds_replication_ready(struct ds_core *c, struct ds_channel *ch, bool fail)
{
	if (fail)
		ds_channel_shut(c, ch, "Replication connection was not established in time");
	else
		ds_channel_system(c, ch, "system", "ok",
				  DS_STR("Replication connection established"));
}

bool ds_replication_joined(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	struct ds_timer t = { .kind = DS_TIMER_READY, .socket_id = ch->socket->id };
	struct ds_rule_hit hit = { .ms = 0 };

	if (ds_rules_use(&c->rules, DS_RULE_REPLICATION, m->topic, m->event, &hit))
		free(hit.text);
	if (hit.ms + c->conf.replication_delay_ms <= 0) {
		ds_replication_ready(c, ch, hit.fail);
		return !hit.fail;
	}
	t.serial = ch->serial;
	t.due_ms = c->mono_ms + hit.ms + c->conf.replication_delay_ms;
	if (hit.fail)
		ds_buf_text(&t.frame, "fail");
	ds_timers_add(&c->timers, t);
	return true;
}
