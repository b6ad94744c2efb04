/* SPDX-License-Identifier: MIT */
/* phx_join, its checks and its options. */
#include "core_int.h"

#include <jansson.h>
#include <stdlib.h>

#define CANNOT_REPLAY "UnableToReplayMessages: Realtime was unable to replay messages"

struct join {
	struct ds_str sub; /* the topic without its head */
	struct ds_str config;
	bool has_config;
	struct ds_str broadcast;
	struct ds_str presence;
	bool private;
	char *name;          /* @sub, ended by a NUL */
	struct ds_buf token; /* the one that counts */
	char *carried;       /* the one that came with the join, or NULL */
	struct ds_claims claims;
	struct ds_rights rights;
	bool presence_on;
	bool ready; /* it wants to hear when messages of the database can flow */
	struct ds_replay replay;
	int64_t exp_ms;
	struct ds_buf wanted;   /* JSON array of the bindings as they came */
	struct ds_buf bindings; /* ... as the reply has them */
	unsigned n_bindings;
	struct ds_buf reason; /* why it fails; empty: it does not */
};

static bool member_bool(struct ds_str object, const char *key)
{
	struct ds_str v;
	char *text;
	bool yes;

	if (!ds_json_get(object, key, &v))
		return false;
	text = ds_member_text(object, key);
	yes = ds_json_kind(v) == DS_JSON_TRUE || (text && strcasecmp(text, "true") == 0);
	free(text);
	return yes;
}

static struct ds_str member_object(struct ds_str object, const char *key)
{
	struct ds_str v;

	if (ds_json_get(object, key, &v) && ds_json_kind(v) == DS_JSON_OBJECT)
		return v;
	return DS_EMPTY;
}

/* The real server's ids are a hash of the binding: equal bindings have equal ids, and the order of
 * the keys does not count. */
static unsigned binding_id(struct ds_str binding)
{
	json_t *parsed = json_loadb(binding.p, binding.n, JSON_ALLOW_NUL, NULL);
	char *sorted = parsed ? json_dumps(parsed, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
	struct ds_str text = sorted ? ds_str(sorted) : binding;
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < text.n; i++)
		h = (h ^ (unsigned char)text.p[i]) * 16777619u;
	free(sorted);
	json_decref(parsed);
	return h & 0x7ffffff;
}

/* The binding as it came, with its id. */
static void add_binding(struct join *j, struct ds_str binding)
{
	struct ds_json_iter it = ds_json_iter(binding);
	struct ds_str key, value;

	ds_buf_text(&j->wanted, j->n_bindings ? "," : "");
	ds_buf_str(&j->wanted, binding);
	ds_buf_fmt(&j->bindings, "%s{\"id\":%u", j->n_bindings++ ? "," : "", binding_id(binding));
	while (ds_json_member(&it, &key, &value)) {
		if (ds_json_key_is(key, "id"))
			continue;
		ds_buf_byte(&j->bindings, ',');
		ds_buf_str(&j->bindings, key);
		ds_buf_byte(&j->bindings, ':');
		ds_buf_str(&j->bindings, value);
	}
	ds_buf_byte(&j->bindings, '}');
}

/* A join without "config" is the old form: the topic names schema, table and filter. */
static void legacy_binding(struct join *j)
{
	static const char *const names[] = { "schema", "table", "filter" };
	struct ds_buf b = { 0 };
	struct ds_str rest = j->sub;

	ds_buf_byte(&b, '{');
	for (int i = 0; i < 3; i++) {
		const char *colon = i < 2 ? memchr(rest.p, ':', rest.n) : NULL;
		size_t n = colon ? (size_t)(colon - rest.p) : rest.n;

		ds_buf_fmt(&b, "%s\"%s\":", i ? "," : "", names[i]);
		ds_buf_json(&b, (struct ds_str){ rest.p, n });
		if (!colon)
			break;
		rest = (struct ds_str){ colon + 1, rest.n - n - 1 };
	}
	ds_buf_byte(&b, '}');
	add_binding(j, ds_buf_view(&b));
	ds_buf_done(&b);
}

static void collect_bindings(struct join *j)
{
	struct ds_json_iter it;
	struct ds_str list, item;

	ds_buf_byte(&j->wanted, '[');
	ds_buf_byte(&j->bindings, '[');
	if (!j->has_config) {
		legacy_binding(j);
	} else if (ds_json_get(j->config, "postgres_changes", &list) &&
		   ds_json_kind(list) == DS_JSON_ARRAY) {
		it = ds_json_iter(list);
		while (ds_json_item(&it, &item))
			if (ds_json_kind(item) == DS_JSON_OBJECT)
				add_binding(j, item);
	}
	ds_buf_byte(&j->wanted, ']');
	ds_buf_byte(&j->bindings, ']');
}

static void replay_reason(struct ds_core *c, const struct ds_socket *s, const struct ds_msg *m,
			  struct join *j)
{
	const char *why = ds_replay_parse(c, j->broadcast, j->private, &j->replay);
	struct ds_rule_hit hit;

	j->replay.name = j->sub;
	if (why) {
		ds_buf_text(&j->reason, "UnableToReplayMessages: ");
		ds_buf_text(&j->reason, why);
	} else if (j->replay.wanted && c->ops.pg_replay && s->rows.len == 0) {
		ds_buf_text(&j->reason, CANNOT_REPLAY);
	} else if (j->replay.wanted &&
		   ds_rules_use(&c->rules, DS_RULE_REFUSE_REPLAY, m->topic, m->event, &hit)) {
		ds_buf_text(&j->reason, hit.text ? hit.text : CANNOT_REPLAY);
		free(hit.text);
	}
}

static void payload_reason(struct join *j, const struct ds_msg *m)
{
	struct ds_str shown = m->payload;

	if (m->form != DS_PAYLOAD_JSON)
		shown = DS_STR("{:binary, <<>>}");
	else if (ds_json_kind(shown) == DS_JSON_NULL)
		shown = DS_STR("nil");
	ds_buf_text(&j->reason, "UnknownErrorOnChannel: expected params to be a :map, got: `");
	ds_buf_str(&j->reason, shown);
	ds_buf_byte(&j->reason, '`');
}

static void unauthorized(struct join *j)
{
	ds_buf_text(&j->reason,
		    "Unauthorized: You do not have permissions to read from this Channel topic: ");
	ds_buf_text(&j->reason, j->name);
}

/* What the join wants, be it right or wrong; of a payload that is no object, nothing. */
static void read_options(const struct ds_socket *s, const struct ds_msg *m, struct join *j)
{
	struct ds_str ready;

	j->config = DS_EMPTY;
	if (m->form != DS_PAYLOAD_JSON || ds_json_kind(m->payload) != DS_JSON_OBJECT)
		return;
	j->carried = ds_token_pick(s, m->payload, &j->token);
	j->has_config = ds_json_get(m->payload, "config", &j->config);
	if (ds_json_kind(j->config) == DS_JSON_NULL)
		j->config = DS_EMPTY;
	j->broadcast = member_object(j->config, "broadcast");
	j->presence = member_object(j->config, "presence");
	j->ready = ds_json_get(j->broadcast, "replication_ready", &ready) &&
		   ds_json_kind(ready) != DS_JSON_NULL && ds_json_kind(ready) != DS_JSON_FALSE;
	j->presence_on = member_bool(j->presence, "enabled");
	j->private = member_bool(j->config, "private");
}

/* The token, and what the policies let it read. */
static void authorize(struct ds_core *c, struct join *j)
{
	struct ds_str replay;

	ds_token_refusal(c, ds_buf_view(&j->token), &j->exp_ms, &j->reason);
	if (j->reason.len)
		return;
	j->claims = ds_claims_read(ds_buf_view(&j->token));
	if (!ds_rights_read(c, &j->rights, j->private, &j->claims, j->name, j->presence_on) ||
	    (j->private && j->rights.of[DS_READ] == DS_NO && !c->conf.no_replay &&
	     ds_json_get(j->broadcast, "replay", &replay)))
		unauthorized(j);
}

/* Fills @j, in the real server's order; stops at the first thing that is wrong. */
static void examine(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m, struct join *j)
{
	struct ds_rule_hit hit;
	const char *limit;

	if (ds_rules_use(&c->rules, DS_RULE_REFUSE_JOIN, m->topic, m->event, &hit)) {
		ds_buf_text(&j->reason, hit.text ? hit.text : "Unknown Error on Channel");
		free(hit.text);
		return;
	}
	if (j->sub.n == 0) {
		ds_buf_text(&j->reason, "TopicNameRequired: You must provide a topic name");
		return;
	}
	if (m->form != DS_PAYLOAD_JSON || ds_json_kind(m->payload) != DS_JSON_OBJECT) {
		payload_reason(j, m);
		return;
	}
	if (ds_json_kind(j->config) != DS_JSON_OBJECT) {
		ds_buf_text(&j->reason,
			    "UnknownErrorOnChannel: no function clause matching in Access.get/3");
		return;
	}
	if (c->conf.private_only && !j->private) {
		ds_buf_text(&j->reason, "PrivateOnly: This project only allows private channels");
		return;
	}
	limit = ds_limit_join(c, s);
	if (limit)
		ds_buf_text(&j->reason, limit);
	else
		authorize(c, j);
	if (!j->reason.len)
		replay_reason(c, s, m, j);
	if (!j->reason.len)
		collect_bindings(j);
}

/* phx_close of the channel that a join of the same topic has replaced. */
static void push_old_close(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m,
			   const char *old_ref)
{
	struct ds_buf b = { 0 };

	ds_phx_push(&b, s->vsn, ds_str(old_ref), ds_str(old_ref), m->topic_json, "phx_close",
		    DS_EMPTY);
	ds_socket_send(c, s, false, ds_buf_view(&b));
	ds_buf_done(&b);
}

/* After these the real server closes the socket, too. */
static bool closes(struct ds_str reason)
{
	static const char *const codes[] = { "ClientJoinRateLimitReached", "TenantNotFound" };

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (reason.n >= strlen(codes[i]) &&
		    memcmp(reason.p, codes[i], strlen(codes[i])) == 0)
			return true;
	return false;
}

static void refuse(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m,
		   const struct join *j, const char *old_ref)
{
	struct ds_held_list waiting;

	/* The real server sleeps inside the socket's process: the answer goes in front of what
	 * waits already. */
	TAILQ_INIT(&waiting);
	TAILQ_CONCAT(&waiting, &s->held, link);
	if (c->conf.join_error_delay_ms > 0)
		ds_socket_stick(c, s, c->conf.join_error_delay_ms);
	ds_reply_reason(c, s, m->join_ref, m, ds_buf_view(&j->reason));
	if (old_ref)
		push_old_close(c, s, m, old_ref);
	if (closes(ds_buf_view(&j->reason))) {
		if (s->stuck)
			ds_socket_hold(s, DS_HELD_CLOSE, DS_STR(""), false)->code = 1001;
		else
			ds_socket_close(c, s, 1001);
	}
	TAILQ_CONCAT(&s->held, &waiting, link);
}

static struct ds_channel *establish(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m,
				    struct join *j)
{
	struct ds_channel *ch = ds_channel_new(c, s, m->topic_json, j->private);
	bool has_ref = ds_json_kind(m->join_ref) != DS_JSON_NULL;

	ch->join_ref = ds_str_dup(m->join_ref);
	ch->push_ref = ds_str_dup(has_ref ? m->join_ref : m->ref);
	ch->self = member_bool(j->broadcast, "self");
	ch->ack = member_bool(j->broadcast, "ack");
	ch->name = j->name;
	ch->token = ds_str_dup(ds_buf_view(&j->token));
	ch->claims = j->claims;
	ch->rights = j->rights;
	ch->exp_ms = j->exp_ms;
	ch->n_bindings = j->n_bindings;
	ds_pg_init(c, ch, ds_buf_view(&j->wanted), ds_buf_view(&j->bindings), !j->has_config);
	ds_presence_init(c, ch, j->presence);
	ch->presence.on = j->presence_on;
	j->name = NULL;
	j->claims = (struct ds_claims){ 0 };
	ds_arm_expiry(c, ch);
	ds_limit_joined(c, s);
	return ch;
}

static void log_join(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m,
		     const struct join *j)
{
	ds_log_add(c, s,
		   (struct ds_log_entry){ .topic_json = m->topic_json,
					  .private = j->private,
					  .carried = ds_token_carried(c, j->carried),
					  .token = ds_buf_view(&j->token),
					  .outcome = j->reason.len ? ds_buf_view(&j->reason)
								   : DS_STR("ok") });
}

static void join_done(struct join *j)
{
	free(j->name);
	free(j->carried);
	ds_claims_done(&j->claims);
	ds_buf_done(&j->token);
	ds_buf_done(&j->wanted);
	ds_buf_done(&j->bindings);
	ds_buf_done(&j->reason);
}

/* What the channel says by itself, in the real server's order. */
static void push_first(struct ds_core *c, struct ds_channel *ch, const struct ds_msg *m,
		       const struct join *j)
{
	struct ds_buf rows = { 0 };

	if (j->replay.wanted) {
		ds_replay_rows(c, ch->socket, &j->replay, &rows);
		ds_replay_push(c, ch, ds_buf_view(&rows));
		ds_buf_done(&rows);
	}
	if ((!j->ready || ds_replication_joined(c, ch, m)) && ds_presence_joined(c, ch))
		ds_pg_joined(c, ch, m);
}

void ds_join(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m)
{
	struct ds_channel *ch = ds_channel_by_topic(s, m->topic_json);
	size_t head = strlen(DS_TOPIC_HEAD);
	struct join j = { 0 };
	struct ds_buf response = { 0 };
	char *old_ref = NULL;

	j.sub = (struct ds_str){ m->topic.p + head, m->topic.n - head };
	j.name = ds_str_dup(j.sub);
	s->n_joins++;
	c->n_joins++;
	if (ch) {
		old_ref = ds_str_dup(ds_str(ch->join_ref));
		ds_channel_end(c, ch);
	}
	read_options(s, m, &j);
	examine(c, s, m, &j);
	log_join(c, s, m, &j);
	if (j.reason.len) {
		refuse(c, s, m, &j, old_ref);
	} else {
		ch = establish(c, s, m, &j);
		ds_buf_text(&response, "{\"postgres_changes\":");
		ds_buf_str(&response, ds_buf_view(&j.bindings));
		ds_buf_byte(&response, '}');
		ds_reply(c, s, m->join_ref, m, "ok", ds_buf_view(&response));
		if (old_ref)
			push_old_close(c, s, m, old_ref);
		push_first(c, ch, m, &j);
	}
	free(old_ref);
	ds_buf_done(&response);
	join_done(&j);
}
