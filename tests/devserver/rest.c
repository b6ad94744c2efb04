/* SPDX-License-Identifier: MIT */
/*
 * The HTTP API: who asks, for what, and the message of one request. Checks come in the real
 * server's order; what it answers before it knows the project has no headers about rates.
 */
#include "core_int.h"

#include <stdlib.h>

#include "jwt.h"
#include "term.h"

#define BASE    "/api/"
#define BINARY  "application/octet-stream"
#define TOO_BIG "{\"errors\":{\"payload\":[\"Payload size exceeds tenant limit\"]}}"

enum place { NOWHERE, PING, BATCH, SINGLE };

struct rest {
	struct ds_core *c;
	const struct ds_request *r;
	struct ds_answer *ret;
	struct ds_str type; /* content-type, empty if there is none */
	struct ds_str body; /* JSON; of a binary request the bytes */
	bool binary;
	struct ds_buf wrapped; /* what @body may point into */
	struct ds_buf topic, event;
	struct ds_claims claims;
};

void ds_answer_done(struct ds_answer *a)
{
	ds_buf_done(&a->headers);
	ds_buf_done(&a->body);
}

static const char *after_base(struct ds_str path)
{
	const char *hit = memmem(path.p, path.n, BASE, strlen(BASE));

	return hit ? hit + strlen(BASE) : NULL;
}

bool ds_rest_is(struct ds_str path)
{
	return after_base(path) != NULL || ds_gotrue_is(path);
}

static void plain(struct ds_answer *ret, int status, const char *text)
{
	ret->status = status;
	ret->type = "text/html; charset=utf-8";
	ds_buf_text(&ret->body, text);
}

static void json(struct ds_answer *ret, int status, const char *text)
{
	ret->status = status;
	ret->type = DS_JSON_TYPE;
	ds_buf_text(&ret->body, text);
}

void ds_rest_message(struct ds_answer *ret, int status, const char *text)
{
	json(ret, status, "{\"message\":");
	ds_buf_json(&ret->body, ds_str(text));
	ds_buf_byte(&ret->body, '}');
}

/* The next part of a path; empty ones do not count. */
static struct ds_str part(struct ds_str *rest)
{
	struct ds_str word;

	while (rest->n && *rest->p == '/')
		rest->p++, rest->n--;
	word = (struct ds_str){ rest->p, 0 };
	while (rest->n && *rest->p != '/')
		rest->p++, rest->n--, word.n++;
	return word;
}

static enum place find(struct rest *q)
{
	const char *at = after_base(q->r->path);
	struct ds_str rest = { at, q->r->path.n - (size_t)(at - q->r->path.p) };
	bool post = ds_str_eq(q->r->method, DS_STR("POST"));
	struct ds_str first = part(&rest), topic = part(&rest), events = part(&rest);
	struct ds_str event = part(&rest);

	if (part(&rest).n)
		return NOWHERE;
	if (topic.n == 0) {
		if (ds_str_eq(first, DS_STR("ping")) && ds_str_eq(q->r->method, DS_STR("GET")))
			return PING;
		return post && ds_str_eq(first, DS_STR("broadcast")) ? BATCH : NOWHERE;
	}
	if (!post || !ds_str_eq(first, DS_STR("broadcast")) ||
	    !ds_str_eq(events, DS_STR("events")) || event.n == 0)
		return NOWHERE;
	ds_http_decode(&q->topic, topic);
	ds_http_decode(&q->event, event);
	return SINGLE;
}

/* JSON that is no object becomes one, as on the real server; nothing at all is an empty one. */
static bool read_body(struct rest *q, struct ds_str body)
{
	bool is_json = ds_http_media(q->type, "application/json");

	q->binary = ds_http_media(q->type, BINARY);
	q->body = q->binary ? body : DS_EMPTY;
	if (!is_json || body.n == 0)
		return true;
	if (!ds_json_valid(body))
		return false;
	q->body = ds_json_trim(body);
	if (ds_json_kind(q->body) == DS_JSON_OBJECT)
		return true;
	ds_buf_text(&q->wrapped, "{\"_json\":");
	ds_buf_str(&q->wrapped, q->body);
	ds_buf_byte(&q->wrapped, '}');
	q->body = ds_buf_view(&q->wrapped);
	return true;
}

/* Whose request it is, and whether there are too many; false if it has been answered. */
static bool admitted(struct rest *q)
{
	struct ds_str host = { "", 0 };

	(void)ds_http_header(q->r, "host", &host);
	if (ds_tenant_of(q->c, host) == DS_TENANT_UNKNOWN) {
		ds_rest_message(q->ret, 401, "Tenant not found in database");
		return false;
	}
	if (!ds_limit_request(q->c, &q->ret->headers)) {
		ds_rest_message(q->ret, 429, "Too many requests");
		return false;
	}
	return true;
}

/* The token; p NULL if there is none. False: the header is one over which the real server falls. */
static bool pick_token(struct rest *q, struct ds_str *ret)
{
	struct ds_str value, word, space = { NULL, 0 };

	*ret = (struct ds_str){ NULL, 0 };
	(void)ds_http_header(q->r, "apikey", ret);
	if (!ds_http_header(q->r, "authorization", &value) || value.n == 0)
		return true;
	space.p = memchr(value.p, ' ', value.n);
	if (!space.p)
		return false;
	word = (struct ds_str){ value.p, (size_t)(space.p - value.p) };
	space = (struct ds_str){ space.p + 1, value.n - word.n - 1 };
	if (space.n && memchr(space.p, ' ', space.n))
		return false;
	if (word.n == 6 && strncasecmp(word.p, "bearer", 6) == 0)
		*ret = space;
	return true;
}

static bool authorized(struct rest *q)
{
	struct ds_str token, host = { "", 0 };
	int64_t exp_ms;

	if (!pick_token(q, &token)) {
		json(q->ret, 500, "\"Internal Server Error\"");
		return false;
	}
	if (!token.p ||
	    ds_jwt_check(token, q->c->conf.jwt_secret, q->c->wall_ms, &exp_ms) != DS_JWT_OK) {
		ds_rest_message(q->ret, 401, "Unauthorized");
		return false;
	}
	q->claims = ds_claims_read(token);
	(void)ds_http_header(q->r, "host", &host);
	if (ds_tenant_of(q->c, host) == DS_TENANT_SUSPENDED) {
		ds_rest_message(q->ret, 403, "Tenant is suspended");
		return false;
	}
	return true;
}

/* The member of the body counts more than the query. */
static bool wants_private(const struct rest *q)
{
	struct ds_buf text = { 0 };
	struct ds_str v;
	bool yes;

	if (!q->binary && ds_json_get(q->body, "private", &v)) {
		yes = ds_json_kind(v) == DS_JSON_TRUE;
		if (ds_json_kind(v) == DS_JSON_STRING)
			yes = ds_json_key_is(v, "true");
		return yes;
	}
	yes = ds_http_query(q->r, "private", &text) &&
	      ds_str_eq(ds_buf_view(&text), DS_STR("true"));
	ds_buf_done(&text);
	return yes;
}

static bool may_write(struct rest *q)
{
	const struct ds_policies *p = q->c->policies;
	char *name;
	bool yes;

	if (p && !ds_policies_knows(p, q->claims.role)) {
		ds_rest_message(q->ret, 422, "RLS policy error");
		return false;
	}
	name = ds_str_dup(ds_buf_view(&q->topic));
	yes = ds_rights_look_up(q->c, &q->claims, name, DS_WRITE) == DS_YES;
	free(name);
	if (!yes)
		ds_rest_message(q->ret, 403, "Unauthorized");
	return yes;
}

static bool blank(const struct ds_buf *b)
{
	for (size_t i = 0; i < b->len; i++)
		if (!strchr(" \t\r\n", b->data[i]))
			return false;
	return true;
}

static bool complete(struct rest *q)
{
	size_t size = q->binary ? ds_term_bytes(q->body.n) : ds_term_size(q->body);
	const char *limit;

	if (blank(&q->topic) || blank(&q->event)) {
		json(q->ret, 422,
		     blank(&q->topic) ? "{\"errors\":{\"topic\":[\"can't be blank\"]}}"
				      : "{\"errors\":{\"event\":[\"can't be blank\"]}}");
		return false;
	}
	if (size > q->c->conf.payload_max_bytes) {
		json(q->ret, 422, TOO_BIG);
		return false;
	}
	limit = ds_limit_posted(q->c, 0);
	if (limit)
		ds_rest_message(q->ret, 429, limit);
	return !limit;
}

static void single(struct rest *q)
{
	struct ds_msg m = { .form = DS_PAYLOAD_USER };
	bool private;

	if (q->type.n && !ds_http_media(q->type, "application/json") && !q->binary) {
		json(q->ret, 415,
		     "{\"error\":\"Unsupported Media Type. Use application/json or "
		     "application/octet-stream\"}");
		return;
	}
	if (!admitted(q) || !authorized(q))
		return;
	private = wants_private(q);
	if (!complete(q) || (private && !may_write(q)))
		return;
	m.user_event = ds_buf_view(&q->event);
	m.user_json = !q->binary;
	m.payload = q->body;
	if (ds_cast_outside(q->c, ds_buf_view(&q->topic), private, (struct ds_str){ NULL, 0 }, &m))
		q->ret->status = 202;
	else
		json(q->ret, 500, "\"Internal Server Error\"");
}

static void route(struct rest *q, enum place place)
{
	if (place == NOWHERE) {
		plain(q->ret, 404, "Not Found");
	} else if (place == SINGLE) {
		single(q);
	} else if (admitted(q)) {
		if (place == PING)
			ds_rest_message(q->ret, 200, "Success");
		else if (authorized(q))
			ds_rest_batch(q->c, &q->claims, q->binary ? DS_EMPTY : q->body, q->ret);
	}
}

void ds_core_rest(struct ds_core *c, const struct ds_request *r, struct ds_str body,
		  struct ds_answer *ret)
{
	struct rest q = { .c = c, .r = r, .ret = ret, .type = { "", 0 } };
	enum place place;

	if (ds_gotrue_is(r->path)) {
		ds_core_gotrue(c, r, body, ret);
		return;
	}
	*ret = (struct ds_answer){ 0 };
	(void)ds_http_header(r, "content-type", &q.type);
	place = find(&q);
	/* A body is read before anybody asks what it is for. */
	if (ds_str_eq(r->method, DS_STR("POST")) && !read_body(&q, body))
		plain(ret, 400, "Bad Request");
	else
		route(&q, place);
	ds_buf_done(&q.wrapped);
	ds_buf_done(&q.topic);
	ds_buf_done(&q.event);
	ds_claims_done(&q.claims);
}
