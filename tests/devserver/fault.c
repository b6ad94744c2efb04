/* SPDX-License-Identifier: MIT */
/* Rules, and the orders of POST /_devserver/fault. */
#include "fault_int.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "jwt.h"

static void rule_free(struct ds_rules *rules, struct ds_rule *r)
{
	TAILQ_REMOVE(rules, r, link);
	free(r->topic);
	free(r->event);
	free(r->text);
	free(r->prefix);
	free(r->schema);
	free(r->table);
	free(r->path);
	free(r->body);
	free(r->type);
	free(r->headers);
	free(r);
}

void ds_rules_clear(struct ds_rules *rules)
{
	struct ds_rule *r;

	while ((r = TAILQ_FIRST(rules)) != NULL)
		rule_free(rules, r);
}

static bool fits(const char *wanted, struct ds_str given)
{
	return !wanted || (given.p && ds_str_eq(ds_str(wanted), given));
}

static bool begins(const char *wanted, struct ds_str given)
{
	size_t n = wanted ? strlen(wanted) : 0;

	return n == 0 || (given.n >= n && memcmp(wanted, given.p, n) == 0);
}

void ds_rules_used(struct ds_rules *rules, struct ds_rule *r)
{
	if (r->count > 0 && --r->count == 0)
		rule_free(rules, r);
}

bool ds_rules_refuse(struct ds_rules *rules, const char *schema, const char *table)
{
	struct ds_rule *r;

	TAILQ_FOREACH(r, rules, link)
		if (r->op == DS_RULE_POSTGRES_REFUSE && strcmp(r->schema, schema) == 0 &&
		    strcmp(r->table, table) == 0) {
			ds_rules_used(rules, r);
			return true;
		}
	return false;
}

bool ds_rules_use(struct ds_rules *rules, enum ds_rule_op op, struct ds_str topic,
		  struct ds_str event, struct ds_rule_hit *ret)
{
	struct ds_rule *r;

	TAILQ_FOREACH(r, rules, link) {
		if (r->op != op || !fits(r->topic, topic) || !fits(r->event, event) ||
		    !begins(r->prefix, topic))
			continue;
		*ret = (struct ds_rule_hit){ .ms = r->ms,
					     .retry_after_s = r->retry_after_s,
					     .status = r->status,
					     .fail = r->fail,
					     .stale = r->stale,
					     .text = r->text ? ds_str_dup(ds_str(r->text)) : NULL };
		ds_rules_used(rules, r);
		return true;
	}
	return false;
}

bool ds_rules_deny(const struct ds_rules *rules, struct ds_str topic, bool write)
{
	const struct ds_rule *r;

	TAILQ_FOREACH(r, rules, link)
		if (r->op == DS_RULE_DENY_PRESENCE && fits(r->topic, topic) &&
		    (write ? r->write : r->read))
			return true;
	return false;
}

bool ds_order_fail(struct ds_order *o, const char *text, const char *what)
{
	snprintf(o->error, o->error_size, "%s: %s", text, what);
	return false;
}

const char *ds_order_text(struct ds_order *o, const char *key, const char *otherwise)
{
	json_t *v = json_object_get(o->json, key);

	return json_is_string(v) ? json_string_value(v) : otherwise;
}

int64_t ds_order_number(struct ds_order *o, const char *key, int64_t otherwise)
{
	double v = json_number_value(json_object_get(o->json, key));

	if (!json_is_number(json_object_get(o->json, key)) || fabs(v) > 1e15 || v != trunc(v))
		return otherwise;
	return (int64_t)v;
}

char *ds_order_copy(struct ds_order *o, const char *key)
{
	const char *text = ds_order_text(o, key, NULL);

	return text ? ds_str_dup(ds_str(text)) : NULL;
}

struct ds_rule *ds_order_add(struct ds_order *o, enum ds_rule_op op, int64_t count)
{
	struct ds_rule *r = ds_alloc(sizeof(*r));

	r->op = op;
	r->topic = ds_order_copy(o, "topic");
	r->event = ds_order_copy(o, "event");
	r->text = ds_order_copy(o, "reason");
	r->prefix = ds_order_copy(o, "prefix");
	r->schema = ds_order_copy(o, "schema");
	r->table = ds_order_copy(o, "table");
	r->ms = ds_order_number(o, "ms", 0);
	r->status = (int)ds_order_number(o, "status", 503);
	r->retry_after_s = ds_order_number(o, "retry_after", -1);
	r->stale = json_is_true(json_object_get(o->json, "stale"));
	r->read = json_is_true(json_object_get(o->json, "read"));
	r->write = json_is_true(json_object_get(o->json, "write"));
	r->count = ds_order_number(o, "count", count);
	TAILQ_INSERT_TAIL(&o->c->rules, r, link);
	return r;
}

bool ds_order_rule(struct ds_order *o, enum ds_rule_op op, int64_t count)
{
	return ds_order_add(o, op, count) != NULL;
}

static bool op_delay_reply(struct ds_order *o)
{
	bool stall = !json_is_false(json_object_get(o->json, "stall"));

	if (ds_order_number(o, "ms", -1) < 0)
		return ds_order_fail(o, "delay_reply needs a number", "ms");
	if (stall && strcmp(ds_order_text(o, "event", ""), "phx_join") == 0)
		return ds_order_rule(o, DS_RULE_DELAY_JOIN, 1);
	return ds_order_rule(o, DS_RULE_DELAY_REPLY, 1);
}

static bool op_drop_reply(struct ds_order *o)
{
	return ds_order_rule(o, DS_RULE_DROP_REPLY, 1);
}

static bool op_drop_ack(struct ds_order *o)
{
	if (json_object_set_new(o->json, "event", json_string("broadcast")) < 0)
		abort();
	return ds_order_rule(o, DS_RULE_DROP_REPLY, 1);
}

static bool op_refuse_join(struct ds_order *o)
{
	return ds_order_rule(o, DS_RULE_REFUSE_JOIN, 1);
}

static bool op_refuse_upgrade(struct ds_order *o)
{
	int64_t status = ds_order_number(o, "status", 503);

	if (status < 200 || status > 599)
		return ds_order_fail(o, "refuse_upgrade needs an HTTP status of 200 to 599",
				     "status");
	return ds_order_rule(o, DS_RULE_REFUSE_UPGRADE, 1);
}

static bool op_hang_upgrade(struct ds_order *o)
{
	return ds_order_rule(o, DS_RULE_HANG_UPGRADE, 1);
}

static bool same_topic(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Like policies, it stands until the next order for the same topic; both false lift it. */
static bool op_deny_presence(struct ds_order *o)
{
	json_t *read = json_object_get(o->json, "read"), *write = json_object_get(o->json, "write");
	struct ds_rule *r, *next;

	if ((!read && !write) || (read && !json_is_boolean(read)) ||
	    (write && !json_is_boolean(write)))
		return ds_order_fail(o, "deny_presence needs a boolean", "read or write");
	if (json_object_get(o->json, "count"))
		return ds_order_fail(o, "deny_presence stands until it is lifted", "count");
	for (r = TAILQ_FIRST(&o->c->rules); r; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->op == DS_RULE_DENY_PRESENCE &&
		    same_topic(r->topic, ds_order_text(o, "topic", NULL)))
			rule_free(&o->c->rules, r);
	}
	if (!json_is_true(read) && !json_is_true(write))
		return true;
	return ds_order_rule(o, DS_RULE_DENY_PRESENCE, -1);
}

static bool op_no_presence_state(struct ds_order *o)
{
	json_t *ms = json_object_get(o->json, "ms");

	if (ms && ds_order_number(o, "ms", -1) < 0)
		return ds_order_fail(o, "no_presence_state needs a time that is not negative",
				     "ms");
	if (!ms && json_object_set_new(o->json, "ms", json_integer(-1)) < 0)
		abort();
	return ds_order_rule(o, DS_RULE_NO_STATE, 1);
}

static bool op_late_leave(struct ds_order *o)
{
	if (ds_order_number(o, "ms", -1) < 0)
		return ds_order_fail(o, "late_leave needs a time that is not negative", "ms");
	return ds_order_rule(o, DS_RULE_LATE_LEAVE, 1);
}

static bool op_mute(struct ds_order *o)
{
	o->c->muted = true;
	return true;
}

static bool op_unmute(struct ds_order *o)
{
	o->c->muted = false;
	return true;
}

static bool op_clear(struct ds_order *o)
{
	ds_rules_clear(&o->c->rules);
	while (!TAILQ_EMPTY(&o->c->ghosts))
		ds_presence_ghost_gone(o->c, TAILQ_FIRST(&o->c->ghosts)->serial);
	o->c->muted = false;
	ds_link_clear(o->c);
	return true;
}

/* "sockets": "all" (or absent), one id, or a list of ids, as the status names them. */
bool ds_order_chosen(struct ds_order *o, const struct ds_socket *s)
{
	json_t *which = json_object_get(o->json, "sockets");
	json_t *one;
	size_t i;

	if (!which || json_is_string(which))
		return true;
	if (json_is_number(which))
		return (uint64_t)json_number_value(which) == s->id;
	json_array_foreach(which, i,
			   one) if ((uint64_t)json_number_value(one) == s->id) return true;
	return false;
}

static void send_to_chosen(struct ds_order *o, bool binary, struct ds_str frame)
{
	const char *topic = ds_order_text(o, "topic", NULL);
	struct ds_buf name = { 0 };
	struct ds_socket *s;

	ds_buf_json(&name, ds_str(topic ? topic : ""));
	TAILQ_FOREACH(s, &o->c->sockets, link)
		if (ds_order_chosen(o, s) && (!topic || ds_channel_by_topic(s, ds_buf_view(&name))))
			ds_socket_send(o->c, s, binary, frame);
	ds_buf_done(&name);
}

static bool op_send(struct ds_order *o)
{
	json_t *text = json_object_get(o->json, "text");

	if (!json_is_string(text))
		return ds_order_fail(o, "send needs a string", "text");
	send_to_chosen(o, false,
		       (struct ds_str){ json_string_value(text), json_string_length(text) });
	return true;
}

static bool op_send_binary(struct ds_order *o)
{
	struct ds_buf bytes = { 0 };
	const char *text = ds_order_text(o, "base64", NULL);
	bool ok = text && ds_base64_decode(&bytes, ds_str(text));

	if (ok)
		send_to_chosen(o, true, ds_buf_view(&bytes));
	ds_buf_done(&bytes);
	return ok || ds_order_fail(o, "send_binary needs base64 text", "base64");
}

static bool op_bad_json(struct ds_order *o)
{
	send_to_chosen(o, false, DS_STR("[null,null,\"realtime:x\",\"broadcast\",{\"a\":"));
	return true;
}

static bool shut_channels(struct ds_order *o)
{
	struct ds_buf topic = { 0 };
	const char *message = ds_order_text(o, "message", "fault");
	struct ds_socket *s;

	ds_buf_json(&topic, ds_str(ds_order_text(o, "topic", "")));
	TAILQ_FOREACH(s, &o->c->sockets, link) {
		struct ds_channel *ch = NULL;

		if (ds_order_chosen(o, s))
			ch = ds_channel_by_topic(s, ds_buf_view(&topic));

		if (!ch)
			continue;
		if (strcmp(o->op, "phx_error") == 0) {
			ds_channel_crash(o->c, ch);
			continue;
		}
		if (strcmp(o->op, "system") == 0)
			ds_channel_system(o->c, ch, ds_order_text(o, "extension", "system"),
					  ds_order_text(o, "status", "error"), ds_str(message));
		if (strcmp(o->op, "phx_close") == 0 ||
		    json_is_true(json_object_get(o->json, "close")))
			ds_channel_close(o->c, ch);
	}
	ds_buf_done(&topic);
	return true;
}

static bool op_channels(struct ds_order *o)
{
	if (!ds_order_text(o, "topic", NULL))
		return ds_order_fail(o, "this needs a topic, with its \"realtime:\"", "topic");
	return shut_channels(o);
}

static const struct {
	const char *name;
	bool (*run)(struct ds_order *o);
} orders[] = {
	{ "bad_json", op_bad_json },
	{ "bad_upgrade", ds_op_bad_upgrade },
	{ "clear", op_clear },
	{ "close", ds_op_close },
	{ "db_send", ds_op_db_send },
	{ "delay_reply", op_delay_reply },
	{ "deny_presence", op_deny_presence },
	{ "disconnect", ds_op_disconnect },
	{ "drop_ack", op_drop_ack },
	{ "drop_reply", op_drop_reply },
	{ "fragments", ds_op_fragments },
	{ "half_frame", ds_op_half_frame },
	{ "hang_upgrade", op_hang_upgrade },
	{ "heartbeats", ds_op_heartbeats },
	{ "http", ds_op_http },
	{ "late_close", ds_op_late_close },
	{ "late_leave", op_late_leave },
	{ "mute", op_mute },
	{ "no_presence_state", op_no_presence_state },
	{ "phx_close", op_channels },
	{ "phx_error", op_channels },
	{ "policies", ds_op_policies },
	{ "postgres_again", ds_op_postgres_channels },
	{ "postgres_delay", ds_op_postgres_delay },
	{ "postgres_error", ds_op_postgres_error },
	{ "postgres_lost", ds_op_postgres_channels },
	{ "postgres_raw", ds_op_postgres_channels },
	{ "postgres_refuse", ds_op_postgres_refuse },
	{ "postgres_row", ds_op_postgres_row },
	{ "push", ds_op_push },
	{ "raw", ds_op_raw },
	{ "refuse_join", op_refuse_join },
	{ "refuse_replay", ds_op_refuse_replay },
	{ "refuse_upgrade", op_refuse_upgrade },
	{ "replication", ds_op_replication },
	{ "send", op_send },
	{ "send_binary", op_send_binary },
	{ "session", ds_op_session },
	{ "stall", ds_op_stall },
	{ "system", op_channels },
	{ "token_answer", ds_op_token_answer },
	{ "unmute", op_unmute },
	{ "unstall", ds_op_stall },
};

/* A misspelt member would be a fault that silently does not happen. */
bool ds_order_known(struct ds_order *o, const char *const *known)
{
	const char *key;
	json_t *v;

	json_object_foreach(o->json, key, v)
	{
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return ds_order_fail(o, "unknown member", key);
	}
	return true;
}

/* clang-format off */
static const char *const members[] = {
	"age_ms", "answer", "base64", "body", "bytes", "close", "code", "columns", "commit_timestamp",
	"count", "deliver", "errors", "event", "extension", "fail", "headers", "how", "id", "join_ref",
	"keep", "message", "ms", "old_record", "op", "path", "payload", "prefix", "private", "read",
	"reason", "record", "ref", "reload", "retry_after", "schema", "sent", "set", "sockets",
	"stale", "stall", "status", "store", "sub", "table", "tcp", "text", "times", "topic", "type",
	"without", "work", "write", NULL
};
/* clang-format on */

bool ds_core_fault(struct ds_core *c, struct ds_str json, char *ret_error, size_t error_size)
{
	json_error_t at;
	struct ds_order o = { .c = c, .raw = json, .error = ret_error, .error_size = error_size };
	bool ok = false;

	/* All numbers as reals: a row may have integers that are too big for jansson. */
	o.json = json_loadb(json.p ? json.p : "", json.n,
			    JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &at);
	o.op = json_string_value(json_object_get(o.json, "op"));
	if (!o.json)
		ds_order_fail(&o, "not JSON", at.text);
	else if (!o.op)
		ds_order_fail(&o, "no member", "op");
	else if (ds_order_known(&o, members)) {
		size_t i = 0, n = sizeof(orders) / sizeof(orders[0]);

		while (i < n && strcmp(orders[i].name, o.op) != 0)
			i++;
		ok = i < n ? orders[i].run(&o) : ds_order_fail(&o, "unknown op", o.op);
	}
	json_decref(o.json);
	return ok;
}
