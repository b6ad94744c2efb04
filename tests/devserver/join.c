/* SPDX-License-Identifier: MIT */
/* phx_join, its checks and its options; the token of a channel and its end. */
#include "core_int.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "jwt.h"

#define RECONFIRM_MS 300000 /* as often as the real server looks at a channel's token */

struct join {
	struct ds_str sub; /* the topic without its head */
	struct ds_str config;
	bool has_config;
	struct ds_str broadcast;
	struct ds_str presence;
	bool private;
	struct ds_buf token;
	int64_t exp_ms;
	struct ds_buf wanted;   /* JSON array of the bindings as they came */
	struct ds_buf bindings; /* ... as the reply has them */
	unsigned n_bindings;
	char reason[400]; /* why it fails; empty: it does not */
};

/* Text of the string member @key, or NULL; the caller frees it. */
static char *member_text(struct ds_str object, const char *key)
{
	struct ds_buf b = { 0 };
	struct ds_str v;

	if (!ds_json_get(object, key, &v) || ds_json_kind(v) != DS_JSON_STRING)
		return NULL;
	ds_json_text(v, &b);
	ds_buf_byte(&b, 0);
	return b.data;
}

static bool member_bool(struct ds_str object, const char *key)
{
	struct ds_str v;
	char *text;
	bool yes;

	if (!ds_json_get(object, key, &v))
		return false;
	text = member_text(object, key);
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

/* The join's own token, unless it is none or a publishable key: then the socket's. */
static void pick_token(const struct ds_socket *s, struct ds_str payload, struct ds_buf *b)
{
	char *text = member_text(payload, "user_token");

	if (!text)
		text = member_text(payload, "access_token");
	if (text && strncmp(text, "sb_", 3) != 0)
		ds_buf_text(b, text);
	else
		ds_buf_str(b, ds_json_trim(ds_str(s->apikey)));
	free(text);
}

static void token_reason(struct ds_core *c, struct join *j)
{
	const char *why = "";

	switch (ds_jwt_check(ds_buf_view(&j->token), c->conf.jwt_secret, c->wall_ms, &j->exp_ms)) {
	case DS_JWT_OK:
		return;
	case DS_JWT_MALFORMED:
		why = "MalformedJWT: The token provided is not a valid JWT";
		break;
	case DS_JWT_SIGNER:
		why = "JwtSignerError: Failed to generate JWT signer, check your JWT secret or "
		      "JWKS configuration";
		break;
	case DS_JWT_SIGNATURE:
		why = "JwtSignatureError: Failed to validate JWT signature";
		break;
	case DS_JWT_EXP_TYPE:
		why = "Unknown Error on Channel";
		break;
	case DS_JWT_CLAIMS:
		why = "InvalidJWTToken: Fields `role` and `exp` are required in JWT";
		break;
	case DS_JWT_EXPIRED:
		snprintf(j->reason, sizeof(j->reason),
			 "InvalidJWTToken: Token has expired %lld seconds ago",
			 (long long)((c->wall_ms - j->exp_ms) / 1000));
		return;
	}
	snprintf(j->reason, sizeof(j->reason), "%s", why);
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

static bool is_integer(struct ds_str v)
{
	return ds_json_kind(v) == DS_JSON_NUMBER && !memchr(v.p, '.', v.n) &&
	       !memchr(v.p, 'e', v.n) && !memchr(v.p, 'E', v.n);
}

static void replay_reason(struct join *j)
{
	struct ds_str replay, v;
	const char *why = NULL;

	if (!ds_json_get(j->broadcast, "replay", &replay))
		return;
	if (!j->private)
		why = "Replay is not allowed for public channels";
	else if (!ds_json_get(replay, "since", &v) || !is_integer(v) ||
		 (ds_json_get(replay, "limit", &v) && !is_integer(v)))
		why = "Replay params are not valid";
	if (why)
		snprintf(j->reason, sizeof(j->reason), "UnableToReplayMessages: %s", why);
}

static void payload_reason(struct join *j, const struct ds_msg *m)
{
	struct ds_str shown = m->payload;

	if (m->form != DS_PAYLOAD_JSON)
		shown = DS_STR("{:binary, <<>>}");
	else if (ds_json_kind(shown) == DS_JSON_NULL)
		shown = DS_STR("nil");
	snprintf(j->reason, sizeof(j->reason),
		 "UnknownErrorOnChannel: expected params to be a :map, got: `%.*s`",
		 (int)(shown.n < 200 ? shown.n : 200), shown.p);
}

/* Fills @j, in the real server's order; stops at the first thing that is wrong. */
static void examine(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m, struct join *j)
{
	struct ds_rule_hit hit;

	if (ds_rules_use(&c->rules, DS_RULE_REFUSE_JOIN, m->topic, m->event, &hit)) {
		snprintf(j->reason, sizeof(j->reason), "%s",
			 hit.text ? hit.text : "Unknown Error on Channel");
		free(hit.text);
		return;
	}
	if (m->form != DS_PAYLOAD_JSON || ds_json_kind(m->payload) != DS_JSON_OBJECT) {
		payload_reason(j, m);
		return;
	}
	if (j->sub.n == 0) {
		snprintf(j->reason, sizeof(j->reason), "%s",
			 "TopicNameRequired: You must provide a topic name");
		return;
	}
	j->config = DS_EMPTY;
	j->has_config = ds_json_get(m->payload, "config", &j->config);
	if (ds_json_kind(j->config) == DS_JSON_NULL)
		j->config = DS_EMPTY;
	if (ds_json_kind(j->config) != DS_JSON_OBJECT) {
		snprintf(j->reason, sizeof(j->reason), "%s",
			 "UnknownErrorOnChannel: no function clause matching in Access.get/3");
		return;
	}
	j->broadcast = member_object(j->config, "broadcast");
	j->presence = member_object(j->config, "presence");
	j->private = member_bool(j->config, "private");
	if (c->conf.private_only && !j->private) {
		snprintf(j->reason, sizeof(j->reason), "%s",
			 "PrivateOnly: This project only allows private channels");
		return;
	}
	if (s->n_channels >= c->conf.channels_max) {
		snprintf(j->reason, sizeof(j->reason), "%s",
			 "ChannelRateLimitReached: Too many channels");
		return;
	}
	pick_token(s, m->payload, &j->token);
	token_reason(c, j);
	if (!j->reason[0])
		replay_reason(j);
	if (!j->reason[0])
		collect_bindings(j);
}

void ds_arm_expiry(struct ds_core *c, struct ds_channel *ch)
{
	struct ds_timer t = { .kind = DS_TIMER_EXPIRY, .socket_id = ch->socket->id };
	int64_t left = ch->exp_ms - c->wall_ms;

	t.serial = ch->serial;
	t.due_ms = c->mono_ms + (left < RECONFIRM_MS ? left : RECONFIRM_MS);
	ds_timers_add(&c->timers, t);
}

static void expired(struct ds_core *c, struct ds_channel *ch, int64_t exp_ms)
{
	char text[80];

	snprintf(text, sizeof(text), "Token has expired %lld seconds ago",
		 (long long)((c->wall_ms - exp_ms) / 1000));
	ds_channel_shut(c, ch, text);
}

void ds_expire(struct ds_core *c, struct ds_channel *ch)
{
	if (c->wall_ms >= ch->exp_ms)
		expired(c, ch, ch->exp_ms);
	else
		ds_arm_expiry(c, ch);
}

void ds_new_token(struct ds_core *c, struct ds_channel *ch, struct ds_str payload)
{
	struct ds_timer t = { .kind = DS_TIMER_SUBSCRIBE, .socket_id = ch->socket->id };
	char *text = member_text(payload, "access_token");
	const char *why = NULL;
	int64_t exp_ms = 0;

	ch->n_token_events++;
	ch->socket->n_token_events++;
	if (!text || strncmp(text, "sb_", 3) == 0 || strcmp(text, ch->token) == 0) {
		free(text);
		return;
	}
	switch (ds_jwt_check(ds_str(text), c->conf.jwt_secret, c->wall_ms, &exp_ms)) {
	case DS_JWT_OK:
		free(ch->token);
		ch->token = text;
		ch->exp_ms = exp_ms;
		ds_arm_expiry(c, ch);
		t.serial = ch->serial;
		t.due_ms = c->mono_ms + c->conf.resubscribe_ms;
		if (ch->n_bindings)
			ds_timers_add(&c->timers, t);
		return;
	case DS_JWT_EXPIRED:
		expired(c, ch, exp_ms);
		break;
	case DS_JWT_MALFORMED:
		why = "The token provided is not a valid JWT";
		break;
	case DS_JWT_SIGNER:
		why = ":error_generating_signer";
		break;
	case DS_JWT_SIGNATURE:
		why = ":signature_error";
		break;
	case DS_JWT_EXP_TYPE:
		why = ":expiration_error";
		break;
	case DS_JWT_CLAIMS:
		why = "Fields `role` and `exp` are required in JWT";
		break;
	}
	free(text);
	if (why)
		ds_channel_shut(c, ch, why);
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
	ds_reply_reason(c, s, m->join_ref, m, j->reason);
	if (old_ref)
		push_old_close(c, s, m, old_ref);
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
	ch->token = ds_str_dup(ds_buf_view(&j->token));
	ch->exp_ms = j->exp_ms;
	ch->n_bindings = j->n_bindings;
	ds_pg_init(c, ch, ds_buf_view(&j->wanted), ds_buf_view(&j->bindings), !j->has_config);
	ds_presence_init(c, ch, j->presence);
	ch->presence.on = member_bool(j->presence, "enabled");
	ds_arm_expiry(c, ch);
	return ch;
}

void ds_join(struct ds_core *c, struct ds_socket *s, const struct ds_msg *m)
{
	struct ds_channel *ch = ds_channel_by_topic(s, m->topic_json);
	size_t head = strlen(DS_TOPIC_HEAD);
	struct join j = { 0 };
	struct ds_buf response = { 0 };
	char *old_ref = NULL;

	j.sub = (struct ds_str){ m->topic.p + head, m->topic.n - head };
	s->n_joins++;
	c->n_joins++;
	if (ch) {
		old_ref = ds_str_dup(ds_str(ch->join_ref));
		ds_channel_end(c, ch);
	}
	examine(c, s, m, &j);
	if (j.reason[0]) {
		refuse(c, s, m, &j, old_ref);
	} else {
		ch = establish(c, s, m, &j);
		ds_buf_text(&response, "{\"postgres_changes\":");
		ds_buf_str(&response, ds_buf_view(&j.bindings));
		ds_buf_byte(&response, '}');
		ds_reply(c, s, m->join_ref, m, "ok", ds_buf_view(&response));
		if (old_ref)
			push_old_close(c, s, m, old_ref);
		ds_presence_joined(c, ch);
		ds_pg_joined(c, ch, m);
	}
	free(old_ref);
	ds_buf_done(&response);
	ds_buf_done(&j.token);
	ds_buf_done(&j.wanted);
	ds_buf_done(&j.bindings);
}
