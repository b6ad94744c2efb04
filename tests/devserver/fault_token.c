/* SPDX-License-Identifier: MIT */
/*
 * The token endpoint as tests steer it: sessions made and ended, answers that lie, and the log of
 * what was asked.
 */
#include <stdlib.h>

#include "auth_int.h"
#include "fault_int.h"

#define LOG_MAX 5000

struct ds_asked {
	TAILQ_ENTRY(ds_asked) link;
	struct ds_buf json;
};

/* Sessions. */

static const struct {
	const char *name;
	enum ds_auth_end end;
} ends[] = {
	{ "expire", DS_AUTH_EXPIRED },
	{ "idle", DS_AUTH_IDLE },
	{ "newer", DS_AUTH_NEWER },
	{ "orphan", DS_AUTH_ORPHAN },
};

/* POST /_devserver/session */
bool ds_core_session(struct ds_core *c, struct ds_str json, struct ds_buf *ret, char *ret_error,
		     size_t error_size)
{
	static const char *const known[] = {
		"role", "sub", "email", "life_s", "not_after_ms", NULL
	};
	json_error_t at;
	struct ds_order o = { .c = c, .raw = json, .error = ret_error, .error_size = error_size };
	int64_t life_s, not_after_ms;
	struct ds_auth_session *s;
	bool ok = false;

	o.json = json_loadb(json.n ? json.p : "{}", json.n ? json.n : 2,
			    JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &at);
	life_s = ds_order_number(&o, "life_s", c->conf.token_life_s);
	not_after_ms = ds_order_number(&o, "not_after_ms", 0);
	if (!json_is_object(o.json)) {
		ds_order_fail(&o, "not a JSON object", at.text);
	} else if (life_s < 1 || not_after_ms < 0) {
		ds_order_fail(&o, "a session needs times that are not negative",
			      "life_s, not_after_ms");
	} else if (ds_order_known(&o, known)) {
		s = ds_auth_begin(ds_core_auth(c), ds_order_text(&o, "sub", NULL),
				  ds_order_text(&o, "role", "authenticated"),
				  ds_order_text(&o, "email", "user@example.com"), life_s,
				  c->wall_ms);
		s->not_after_ms = not_after_ms ? c->wall_ms + not_after_ms : 0;
		ds_auth_answer(c, s, ds_auth_active(s)->text, true, ret);
		ok = true;
	}
	json_decref(o.json);
	return ok;
}

static bool apply(struct ds_core *c, struct ds_auth_session *s, const char *how)
{
	if (strcmp(how, "ban") == 0 || strcmp(how, "unban") == 0) {
		s->banned = how[0] == 'b';
		return true;
	}
	if (strcmp(how, "end") == 0) {
		ds_auth_end(c->auth, s);
		return true;
	}
	if (strcmp(how, "revoke") == 0) {
		/* Too long ago for any of them to be used again. */
		ds_auth_revoke(s, c->wall_ms);
		for (struct ds_auth_token *t = TAILQ_FIRST(&s->tokens); t; t = TAILQ_NEXT(t, link))
			t->updated_ms = 0;
		return true;
	}
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (strcmp(ends[i].name, how) == 0) {
			s->end = ends[i].end;
			return true;
		}
	return false;
}

/* What befalls sessions: of one id, of one sub, or all of them. */
bool ds_op_session(struct ds_order *o)
{
	struct ds_auth *a = ds_core_auth(o->c);
	const char *id = ds_order_text(o, "id", NULL), *sub = ds_order_text(o, "sub", NULL);
	const char *how = ds_order_text(o, "how", "");
	struct ds_auth_session *s, *next;
	unsigned n = 0;

	for (s = TAILQ_FIRST(&a->sessions); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if ((id && strcmp(id, s->id) != 0) || (sub && strcmp(sub, s->sub) != 0))
			continue;
		if (!apply(o->c, s, how))
			return ds_order_fail(o,
					     "session needs ban, unban, expire, idle, newer, "
					     "orphan, revoke or end",
					     "how");
		n++;
	}
	return n > 0 || ds_order_fail(o, "there is no such session", id ? id : sub ? sub : "");
}

/* GET /_devserver/sessions */
void ds_core_sessions(struct ds_core *c, struct ds_buf *b)
{
	const struct ds_auth_session *s;
	const struct ds_auth_token *t;
	const char *comma = "", *inner;

	ds_buf_text(b, "{\"sessions\":[");
	TAILQ_FOREACH(s, &ds_core_auth(c)->sessions, link) {
		ds_buf_fmt(b, "%s{\"id\":\"%s\",\"sub\":", comma, s->id);
		ds_buf_json(b, ds_str(s->sub));
		ds_buf_text(b, ",\"role\":");
		ds_buf_json(b, ds_str(s->role));
		ds_buf_fmt(b, ",\"life_s\":%lld,\"banned\":%s,\"ended\":%s,\"active\":[",
			   (long long)s->life_s, s->banned ? "true" : "false",
			   s->end == DS_AUTH_VALID ? "false" : "true");
		inner = "";
		TAILQ_FOREACH(t, &s->tokens, link) {
			if (t->revoked)
				continue;
			ds_buf_fmt(b, "%s\"%s\"", inner, t->text);
			inner = ",";
		}
		ds_buf_text(b, "]}");
		comma = ",\n";
	}
	ds_buf_text(b, "]}\n");
}

/* Lies. */

bool ds_op_token_answer(struct ds_order *o)
{
	struct ds_str set = DS_EMPTY, without = DS_STR("[]");
	struct ds_str raw = ds_json_trim(o->raw);
	struct ds_buf text = { 0 };
	struct ds_rule *r;

	(void)ds_json_get(raw, "set", &set);
	(void)ds_json_get(raw, "without", &without);
	if (ds_json_kind(set) != DS_JSON_OBJECT || ds_json_kind(without) != DS_JSON_ARRAY)
		return ds_order_fail(o, "token_answer needs an object and a list", "set, without");
	r = ds_order_add(o, DS_RULE_TOKEN, 1);
	r->stale = json_is_true(json_object_get(o->json, "keep"));
	ds_buf_text(&text, "{\"set\":");
	ds_buf_str(&text, set);
	ds_buf_text(&text, ",\"without\":");
	ds_buf_str(&text, without);
	ds_buf_byte(&text, '}');
	r->body = ds_str_dup(ds_buf_view(&text));
	ds_buf_done(&text);
	return true;
}

struct ds_rule *ds_auth_lie(struct ds_core *c)
{
	struct ds_rule *r;

	TAILQ_FOREACH(r, &c->rules, link)
		if (r->op == DS_RULE_TOKEN)
			return r;
	return NULL;
}

/* Is the member @key (raw) another one in the lie, or none at all? */
static bool changed(struct ds_str set, struct ds_str without, struct ds_str key)
{
	struct ds_buf name = { 0 };
	struct ds_json_iter it = ds_json_iter(without);
	struct ds_str v;
	bool yes;

	ds_json_text(key, &name);
	ds_buf_byte(&name, 0);
	yes = ds_json_get(set, name.data, &v);
	while (!yes && ds_json_item(&it, &v))
		yes = ds_json_kind(v) == DS_JSON_STRING && ds_json_key_is(v, name.data);
	ds_buf_done(&name);
	return yes;
}

static void add_members(struct ds_buf *b, struct ds_str from, struct ds_str set,
			struct ds_str without)
{
	struct ds_json_iter it = ds_json_iter(from);
	struct ds_str key, value;

	while (ds_json_member(&it, &key, &value)) {
		if (changed(set, without, key))
			continue;
		if (b->len > 1)
			ds_buf_byte(b, ',');
		ds_buf_str(b, key);
		ds_buf_byte(b, ':');
		ds_buf_str(b, value);
	}
}

void ds_auth_tell_lie(struct ds_core *c, struct ds_rule *lie, struct ds_buf *b)
{
	struct ds_str set = DS_EMPTY, without = DS_STR("[]"), rule = ds_str(lie->body);
	struct ds_buf told = { 0 };

	(void)ds_json_get(rule, "set", &set);
	(void)ds_json_get(rule, "without", &without);
	ds_buf_byte(&told, '{');
	add_members(&told, ds_buf_view(b), set, without);
	add_members(&told, set, DS_EMPTY, DS_STR("[]"));
	ds_buf_byte(&told, '}');
	ds_buf_done(b);
	*b = told;
	ds_rules_used(&c->rules, lie);
}

/* The log. */

void ds_auth_log_drop(struct ds_core *c)
{
	struct ds_asked *e = TAILQ_FIRST(&c->asked);

	TAILQ_REMOVE(&c->asked, e, link);
	c->n_asked_kept--;
	ds_buf_done(&e->json);
	free(e);
}

void ds_auth_log(struct ds_core *c, const char *token, const char *code, int status,
		 const struct ds_refreshed *r)
{
	static const char *const reuses[] = { NULL, "parent", "interval", "abuse" };
	struct ds_asked *e = ds_alloc(sizeof(*e));
	struct ds_buf *b = &e->json;

	ds_buf_fmt(b, "{\"n\":%llu,\"at_ms\":%lld,\"status\":%d", (unsigned long long)++c->n_asked,
		   (long long)c->wall_ms, status);
	ds_member_json(b, "presented", token);
	ds_member_json(b, "error_code", code);
	ds_member_json(b, "session", r->known ? r->session->id : NULL);
	ds_member_json(b, "sub", r->known ? r->session->sub : NULL);
	ds_member_json(b, "issued", r->issued);
	ds_member_json(b, "reuse", reuses[r->reuse]);
	ds_buf_fmt(b, ",\"revoked\":%d}", r->ended ? 1 : 0);
	TAILQ_INSERT_TAIL(&c->asked, e, link);
	if (++c->n_asked_kept > LOG_MAX)
		ds_auth_log_drop(c);
}

/* GET /_devserver/tokens */
void ds_core_tokens(struct ds_core *c, struct ds_buf *b)
{
	const struct ds_asked *e;

	ds_buf_fmt(b, "{\"ever\":%llu,\"entries\":[", (unsigned long long)c->n_asked);
	TAILQ_FOREACH(e, &c->asked, link) {
		if (e != TAILQ_FIRST(&c->asked))
			ds_buf_text(b, ",\n");
		ds_buf_str(b, ds_buf_view(&e->json));
	}
	ds_buf_text(b, "]}\n");
}
