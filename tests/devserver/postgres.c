/* SPDX-License-Identifier: MIT */
/*
 * The bindings of channels: their subscription, which the database (or nobody) has to agree to,
 * and the rows that come of it. A subscription is all of a channel's bindings or none.
 */
#include <search.h>
#include <stdio.h>
#include <stdlib.h>

#include "core_int.h"
#include "jwt.h"

/* Those whose ranges of numbers overlap are equal, so that a range of one finds its owner. */
static int by_binding(const void *a, const void *b)
{
	const struct ds_pg *x = a, *y = b;

	if (x->first + x->n <= y->first)
		return -1;
	return y->first + y->n <= x->first;
}

static struct ds_pg *find(struct ds_core *c, uint64_t number)
{
	struct ds_pg key = { .first = number, .n = 1 };
	struct ds_pg **hit = tfind(&key, &c->by_binding, by_binding);

	return hit ? *hit : NULL;
}

static unsigned id_of(struct ds_str binding)
{
	struct ds_str id;

	return ds_json_get(binding, "id", &id) ? (unsigned)strtoul(id.p, NULL, 10) : 0;
}

void ds_pg_init(struct ds_core *c, struct ds_channel *ch, struct ds_str wanted, struct ds_str reply,
		bool legacy)
{
	struct ds_json_iter in = ds_json_iter(wanted), out = ds_json_iter(reply);
	struct ds_str binding, with_id;
	struct ds_pg *pg = &ch->pg;

	if (ch->n_bindings == 0)
		return;
	*pg = (struct ds_pg){ .channel = ch, .first = c->next_id, .legacy = legacy };
	pg->bindings = ds_alloc(ch->n_bindings * sizeof(*pg->bindings));
	pg->ids = ds_alloc(ch->n_bindings * sizeof(*pg->ids));
	for (; pg->n < ch->n_bindings && ds_json_item(&in, &binding); pg->n++) {
		if (ds_json_item(&out, &with_id))
			pg->ids[pg->n] = id_of(with_id);
		/* The first that is wrong is the only one that is spoken of. */
		if (pg->error.len == 0)
			ds_pg_params_parse(binding, &pg->bindings[pg->n], &pg->error);
	}
	c->next_id += pg->n;
	if (!tsearch(pg, &c->by_binding, by_binding))
		abort();
}

static void fail(struct ds_core *c, struct ds_channel *ch, struct ds_str message)
{
	ch->pg.state = DS_PG_FAILED;
	ds_channel_system(c, ch, "postgres_changes", "error", message);
}

static void refuse(struct ds_core *c, struct ds_channel *ch, const struct ds_pg_answer *answer)
{
	struct ds_buf b = { 0 };

	ds_buf_fmt(&b, "Unable to subscribe to changes with given parameters. %s [",
		   answer->outcome == DS_PG_NO_TABLE
			   ? "Please check Realtime is enabled for the given connect parameters:"
			   : "An exception happened so please check your connect parameters:");
	if (answer->binding < ch->pg.n)
		ds_pg_params_describe(&ch->pg.bindings[answer->binding], &b);
	ds_buf_byte(&b, ']');
	if (answer->outcome == DS_PG_EXCEPTION) {
		ds_buf_text(&b, ". Exception: ");
		ds_buf_str(&b, answer->text);
	}
	fail(c, ch, ds_buf_view(&b));
	ds_buf_done(&b);
}

void ds_pg_subscribed(struct ds_core *c, struct ds_channel *ch)
{
	ch->pg.state = DS_PG_SUBSCRIBED;
	ds_channel_system(c, ch, "postgres_changes", "ok", DS_STR("Subscribed to PostgreSQL"));
}

static void request(struct ds_core *c, struct ds_pg *pg, bool again)
{
	struct ds_pg_request rq = { .first = pg->first, .n = pg->n, .again = again };
	struct ds_buf bindings = { 0 }, claims = { 0 }, role = { 0 };
	struct ds_str v;

	for (unsigned i = 0; i < pg->n; i++) {
		ds_buf_byte(&bindings, i ? ',' : '[');
		ds_pg_params_json(&pg->bindings[i], &bindings);
	}
	ds_buf_byte(&bindings, ']');
	ds_jwt_claims(ds_str(pg->channel->token), &claims);
	if (ds_json_get(ds_buf_view(&claims), "role", &v) && ds_json_kind(v) == DS_JSON_STRING)
		ds_json_text(v, &role);
	rq.bindings = ds_buf_view(&bindings);
	rq.claims = ds_buf_view(&claims);
	rq.role = ds_buf_view(&role);
	pg->requested = true;
	c->ops.pg_subscribe(c->ops.pg, &rq);
	ds_buf_done(&bindings);
	ds_buf_done(&claims);
	ds_buf_done(&role);
}

void ds_pg_subscribe(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_pg *pg = &ch->pg;

	if (pg->error.len) {
		fail(c, ch, ds_buf_view(&pg->error));
		return;
	}
	for (unsigned i = 0; i < pg->n; i++)
		if (ds_rules_refuse(&c->rules, pg->bindings[i].schema, pg->bindings[i].table)) {
			struct ds_pg_answer no = { .outcome = DS_PG_NO_TABLE, .binding = i };

			refuse(c, ch, &no);
			return;
		}
	if (!c->ops.pg_subscribe) {
		ds_pg_subscribed(c, ch);
		return;
	}
	if (pg->state != DS_PG_SUBSCRIBED)
		pg->state = DS_PG_ASKED;
	request(c, pg, false);
}

static void subscribe_in(struct ds_core *c, struct ds_channel *ch, int64_t ms)
{
	struct ds_timer t = { .kind = DS_TIMER_SUBSCRIBE, .socket_id = ch->socket->id };

	t.serial = ch->serial;
	t.due_ms = c->mono_ms + ms;
	ds_timers_add(&c->timers, t);
}

void ds_pg_joined(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m)
{
	int64_t ms = c->conf.pg_subscribe_delay_ms;
	struct ds_rule_hit hit;

	if (!ch->n_bindings)
		return;
	if (ds_rules_use(&c->rules, DS_RULE_POSTGRES_ERROR, m->topic, m->event, &hit)) {
		fail(c, ch,
		     hit.text ? ds_str(hit.text)
			      : DS_STR("Unable to subscribe to changes with given parameters"));
		free(hit.text);
		return;
	}
	if (ds_rules_use(&c->rules, DS_RULE_POSTGRES_DELAY, m->topic, m->event, &hit)) {
		ms += hit.ms;
		free(hit.text);
	}
	if (ms > 0)
		subscribe_in(c, ch, ms);
	else
		ds_pg_subscribe(c, ch);
}

void ds_pg_lose(struct ds_core *c, struct ds_channel *ch, const char *message, int64_t ms)
{
	if (!ch->n_bindings)
		return;
	fail(c, ch, ds_str(message));
	subscribe_in(c, ch, ms);
}

void ds_pg_end(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_pg *pg = &ch->pg;

	if (!pg->channel)
		return;
	tdelete(pg, &c->by_binding, by_binding);
	if (pg->requested)
		c->ops.pg_unsubscribe(c->ops.pg, pg->first);
	for (unsigned i = 0; i < pg->n; i++)
		ds_pg_params_done(&pg->bindings[i]);
	free(pg->bindings);
	free(pg->ids);
	ds_buf_done(&pg->error);
	pg->channel = NULL;
}

void ds_core_pg_result(struct ds_core *c, uint64_t first, bool again,
		       const struct ds_pg_answer *answer)
{
	struct ds_pg *pg = find(c, first);

	if (!pg || pg->channel->socket->closing)
		return;
	if (answer->outcome != DS_PG_OK)
		refuse(c, pg->channel, answer);
	else if (again)
		pg->state = DS_PG_SUBSCRIBED;
	else
		ds_pg_subscribed(c, pg->channel);
}

static void ask_again(const void *node, VISIT visit, void *arg)
{
	struct ds_pg *pg = *(struct ds_pg *const *)node;

	if ((visit == postorder || visit == leaf) && pg->state == DS_PG_SUBSCRIBED)
		request(arg, pg, true);
}

void ds_core_pg_lost(struct ds_core *c)
{
	twalk_r(c->by_binding, ask_again, c);
}

static void push_as(struct ds_core *c, struct ds_channel *ch, const char *event,
		    struct ds_str payload)
{
	struct ds_buf b = { 0 };

	ds_phx_push(&b, ch->socket->vsn, DS_NULL, DS_NULL, ch->topic_json, event, payload);
	ds_socket_send(c, ch->socket, false, ds_buf_view(&b));
	ds_buf_done(&b);
}

void ds_pg_push(struct ds_core *c, struct ds_channel *ch, struct ds_str payload)
{
	push_as(c, ch, "postgres_changes", payload);
}

/* The old form of a row: its type is the event. */
static void push_legacy(struct ds_core *c, struct ds_channel *ch, struct ds_str data)
{
	struct ds_buf type = { 0 };
	struct ds_str v;

	if (ds_json_get(data, "type", &v) && ds_json_kind(v) == DS_JSON_STRING)
		ds_json_text(v, &type);
	ds_buf_byte(&type, 0);
	push_as(c, ch, type.data, data);
	ds_buf_done(&type);
}

/* One row for bindings of one channel. @ids: JSON numbers with commas */
static void deliver(struct ds_core *c, struct ds_pg *pg, struct ds_str ids, struct ds_str data)
{
	struct ds_buf payload = { 0 };

	if (pg->state != DS_PG_SUBSCRIBED)
		return;
	pg->n_rows++;
	c->n_rows++;
	if (pg->legacy) {
		push_legacy(c, pg->channel, data);
		return;
	}
	ds_buf_reserve(&payload, data.n + ids.n + 20);
	ds_buf_text(&payload, "{\"data\":");
	ds_buf_str(&payload, data);
	ds_buf_text(&payload, ",\"ids\":[");
	ds_buf_str(&payload, ids);
	ds_buf_text(&payload, "]}");
	ds_pg_push(c, pg->channel, ds_buf_view(&payload));
	ds_buf_done(&payload);
}

void ds_core_pg_change(struct ds_core *c, const uint64_t *subs, size_t n, struct ds_str data)
{
	struct ds_buf ids = { 0 };

	for (size_t i = 0; i < n;) {
		struct ds_pg *pg = find(c, subs[i]);

		if (!pg) {
			i++;
			continue;
		}
		ids.len = 0;
		for (; i < n && subs[i] < pg->first + pg->n; i++)
			ds_buf_fmt(&ids, "%s%u", ids.len ? "," : "", pg->ids[subs[i] - pg->first]);
		deliver(c, pg, ds_buf_view(&ids), data);
	}
	ds_buf_done(&ids);
}

struct row {
	struct ds_core *c;
	struct ds_str event, schema, table, row, data;
};

static void deliver_row(const void *node, VISIT visit, void *arg)
{
	struct ds_pg *pg = *(struct ds_pg *const *)node;
	struct ds_buf ids = { 0 };
	struct row *r = arg;

	if ((visit != postorder && visit != leaf) || pg->error.len)
		return;
	for (unsigned i = 0; i < pg->n; i++)
		if (ds_pg_params_match(&pg->bindings[i], r->event, r->schema, r->table, r->row))
			ds_buf_fmt(&ids, "%s%u", ids.len ? "," : "", pg->ids[i]);
	if (ids.len)
		deliver(r->c, pg, ds_buf_view(&ids), r->data);
	ds_buf_done(&ids);
}

void ds_pg_row(struct ds_core *c, struct ds_str event, struct ds_str schema, struct ds_str table,
	       struct ds_str row, struct ds_str data)
{
	twalk_r(c->by_binding, deliver_row, &(struct row){ c, event, schema, table, row, data });
}
