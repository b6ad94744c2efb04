/* SPDX-License-Identifier: MIT */
/* The last joins and new tokens, as GET /_devserver/log shows them. */
#include "core_int.h"

#include <stdlib.h>

#include "jwt.h"

struct ds_logged {
	TAILQ_ENTRY(ds_logged) link;
	struct ds_buf json;
};

#define ENTRIES_MAX 5000

void ds_member_json(struct ds_buf *b, const char *name, const char *text)
{
	ds_buf_fmt(b, ",\"%s\":", name);
	if (text)
		ds_buf_json(b, ds_str(text));
	else
		ds_buf_text(b, "null");
}

void ds_claims_json(struct ds_buf *b, const struct ds_claims *claims)
{
	ds_member_json(b, "role", claims->role);
	ds_member_json(b, "sub", claims->sub);
	ds_buf_text(b, ",\"exp\":");
	ds_buf_str(b, claims->exp_json.len ? ds_buf_view(&claims->exp_json) : DS_NULL);
}

void ds_log_add(struct ds_core *c, const struct ds_socket *s, struct ds_log_entry e)
{
	static const char *const carried[] = { "none", "key", "jwt", "other" };
	struct ds_logged *l = ds_alloc(sizeof(*l));
	struct ds_claims claims = ds_claims_read(e.token);
	int64_t exp_ms;
	bool bad = e.carried == DS_CARRIED_OTHER ||
		   (e.carried == DS_CARRIED_JWT &&
		    ds_jwt_check(e.token, c->conf.jwt_secret, c->wall_ms, &exp_ms) != DS_JWT_OK);

	c->n_log++;
	c->n_pushes += e.push;
	c->n_tokens_bad += bad;
	c->n_tokens_other += e.carried == DS_CARRIED_OTHER;
	c->n_joins_refused += !e.push && !ds_str_eq(e.outcome, DS_STR("ok"));
	ds_buf_fmt(&l->json,
		   "{\"n\":%llu,\"at_ms\":%lld,\"socket\":%llu,\"event\":\"%s\",\"topic\":",
		   (unsigned long long)c->n_log, (long long)c->wall_ms, (unsigned long long)s->id,
		   e.push ? "access_token" : "phx_join");
	ds_buf_str(&l->json, e.topic_json);
	ds_buf_fmt(&l->json, ",\"private\":%s,\"token\":\"%s\"", e.private ? "true" : "false",
		   carried[e.carried]);
	ds_claims_json(&l->json, &claims);
	ds_buf_text(&l->json, ",\"outcome\":");
	ds_buf_json(&l->json, e.outcome);
	ds_buf_byte(&l->json, '}');
	ds_claims_done(&claims);
	TAILQ_INSERT_TAIL(&c->log, l, link);
	if (c->n_log > ENTRIES_MAX)
		ds_log_drop(c);
}

void ds_log_drop(struct ds_core *c)
{
	struct ds_logged *l = TAILQ_FIRST(&c->log);

	if (!l)
		return;
	TAILQ_REMOVE(&c->log, l, link);
	ds_buf_done(&l->json);
	free(l);
}

void ds_core_log(struct ds_core *c, struct ds_buf *b)
{
	const struct ds_logged *l;
	const char *comma = "";

	ds_buf_fmt(b, "{\"ever\":%llu,\"entries\":[", (unsigned long long)c->n_log);
	TAILQ_FOREACH(l, &c->log, link) {
		ds_buf_text(b, comma);
		ds_buf_str(b, ds_buf_view(&l->json));
		comma = ",";
	}
	ds_buf_text(b, "]}\n");
}
