/* SPDX-License-Identifier: MIT */
/*
 * POST .../auth/v1/token?grant_type=refresh_token: the gateway's question for a key first, then the
 * auth server's own checks, in their order.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "auth_int.h"
#include "jwt.h"

#define BASE        "/auth/v1/"
#define FORM        "application/x-www-form-urlencoded"
#define API_VERSION "2024-01-01" /* from which on errors look different */
#define PLAIN_JSON  "application/json"
#define BURST_MS    60000 /* in which as many requests are free again as a burst has */

struct grant {
	struct ds_core *c;
	const struct ds_request *r;
	struct ds_answer *ret;
	struct ds_str body;
	char *token; /* as it was presented; NULL: none was understood */
	const char *code;
};

static const char *after_base(struct ds_str path)
{
	const char *hit = memmem(path.p, path.n, BASE, strlen(BASE));

	return hit ? hit + strlen(BASE) : NULL;
}

bool ds_gotrue_is(struct ds_str path)
{
	return after_base(path) != NULL;
}

/* New clients name the version of the API that they know; a date. */
static bool wants_new_errors(const struct ds_request *r)
{
	struct ds_str date;

	return ds_http_header(r, "x-supabase-api-version", &date) &&
	       date.n == strlen(API_VERSION) && date.p[4] == '-' && date.p[7] == '-' &&
	       memcmp(date.p, API_VERSION, date.n) >= 0;
}

static void refuse(struct grant *g, int status, const char *code, const char *message)
{
	struct ds_buf *b = &g->ret->body;
	bool new = wants_new_errors(g->r);

	g->code = code;
	g->ret->status = status;
	g->ret->type = PLAIN_JSON;
	if (new)
		ds_buf_text(&g->ret->headers, "x-supabase-api-version: " API_VERSION "\r\n");
	ds_buf_fmt(&g->ret->headers, "x-sb-error-code: %s\r\n", code);
	if (new)
		ds_buf_fmt(b, "{\"code\":\"%s\",\"message\":", code);
	else
		ds_buf_fmt(b, "{\"code\":%d,\"error_code\":\"%s\",\"msg\":", status, code);
	ds_buf_json(b, ds_str(message));
	ds_buf_byte(b, '}');
}

static void gateway(struct grant *g, const char *text)
{
	g->code = "gateway";
	g->ret->status = 401;
	g->ret->type = DS_JSON_TYPE;
	ds_buf_text(&g->ret->body, text);
}

/* The gateway lets nobody pass without a key of the project, in the header or in the query. */
static bool has_key(struct grant *g)
{
	struct ds_buf text = { 0 };
	struct ds_str key;
	int64_t exp_ms;
	bool good;

	if (ds_http_header(g->r, "apikey", &key)) {
		ds_buf_str(&text, key);
	} else if (!ds_http_query(g->r, "apikey", &text)) {
		gateway(g, "{\"message\":\"No API key found in request\",\"hint\":\"No `apikey` "
			   "request header or url param was found.\"}");
		return false;
	}
	key = (struct ds_str){ text.data ? text.data : "", text.len };
	good = (key.n > 3 && memcmp(key.p, "sb_", 3) == 0) ||
	       ds_jwt_check(key, g->c->conf.jwt_secret, g->c->wall_ms, &exp_ms) == DS_JWT_OK;
	if (!good)
		gateway(g, "{\"message\":\"Invalid API key\",\"hint\":\"Double check your Supabase "
			   "`anon` or `service_role` API key.\"}");
	ds_buf_done(&text);
	return good;
}

/* A form counts more than the query, and is eaten by being looked at. */
static bool refreshes(struct grant *g)
{
	struct ds_str type = { "", 0 };
	struct ds_request form = { .query = g->body };
	struct ds_buf grant = { 0 };
	bool is_form, yes;

	(void)ds_http_header(g->r, "content-type", &type);
	is_form = ds_http_media(type, FORM);
	if (!is_form || !ds_http_query(&form, "grant_type", &grant))
		(void)ds_http_query(g->r, "grant_type", &grant);
	if (is_form)
		g->body = (struct ds_str){ "", 0 };
	yes = grant.len && ds_str_eq(ds_buf_view(&grant), DS_STR("refresh_token"));
	ds_buf_done(&grant);
	if (!yes)
		refuse(g, 400, "invalid_credentials", "unsupported_grant_type");
	return yes;
}

/* Real servers have such a bucket for each address; here all callers come from one. */
static bool within_rate(struct grant *g)
{
	struct ds_core *c = g->c;
	int64_t burst = c->conf.refresh_burst, full = burst * BURST_MS;

	if (burst == 0)
		return true;
	if (c->refresh_credit_at_ms == 0)
		c->refresh_credit = full;
	else
		c->refresh_credit += (c->mono_ms - c->refresh_credit_at_ms) * burst;
	c->refresh_credit_at_ms = c->mono_ms;
	if (c->refresh_credit > full)
		c->refresh_credit = full;
	if (c->refresh_credit < BURST_MS) {
		refuse(g, 429, "over_request_rate_limit", "Request rate limit reached");
		return false;
	}
	c->refresh_credit -= BURST_MS;
	return true;
}

static const char *kind_of(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return "object";
	case JSON_ARRAY:
		return "array";
	case JSON_STRING:
		return "string";
	case JSON_TRUE:
	case JSON_FALSE:
		return "bool";
	default:
		return "number";
	}
}

static bool bad_json(struct grant *g, const char *why, const char *kind, const char *into)
{
	char text[200];

	snprintf(text, sizeof(text), "Could not parse request body as JSON: %s%s%s", why,
		 kind ? kind : "", into);
	refuse(g, 400, "bad_json", text);
	return false;
}

static bool take_token(struct grant *g, const json_t *body)
{
	const json_t *token = json_object_get(body, "refresh_token");

	if (!json_is_object(body) && !json_is_null(body))
		return bad_json(g, "json: cannot unmarshal ", kind_of(body),
				" into Go value of type api.RefreshTokenGrantParams");
	if (token && !json_is_string(token) && !json_is_null(token))
		return bad_json(g, "json: cannot unmarshal ", kind_of(token),
				" into Go struct field RefreshTokenGrantParams.refresh_token of "
				"type string");
	g->token = ds_str_dup(ds_str(json_is_string(token) ? json_string_value(token) : ""));
	return true;
}

static bool read_body(struct grant *g)
{
	json_t *body = json_loadb(g->body.n ? g->body.p : "", g->body.n, JSON_DECODE_ANY, NULL);
	struct ds_str text = ds_json_trim(g->body);
	char first[2] = { text.n ? text.p[0] : ' ', 0 };
	bool ok;

	if (!body && (text.n == 0 || strchr("{[\"-0123456789tfn", first[0])))
		return bad_json(g, "unexpected end of JSON input", NULL, "");
	if (!body)
		return bad_json(g, "invalid character '", first,
				"' looking for beginning of value");
	ok = take_token(g, body);
	json_decref(body);
	return ok;
}

/* Tokens of the newer form are longer; this server has none of those. */
static bool well_formed(const char *token)
{
	return strlen(token) == DS_REFRESH_TOKEN_CHARS &&
	       strspn(token, "abcdefghijklmnopqrstuvwxyz0123456789") == DS_REFRESH_TOKEN_CHARS;
}

static void add_headers(struct ds_buf *b, const struct ds_refreshed *r)
{
	if (!r->known)
		return;
	ds_buf_fmt(b, "sb-auth-user-id: %s\r\n", r->session->sub);
	if (r->session->end != DS_AUTH_ORPHAN && !r->session->banned)
		ds_buf_fmt(b, "sb-auth-session-id: %s\r\n", r->session->id);
	if (r->issued)
		ds_buf_fmt(b, "sb-auth-refresh-token-prefix: %.5s\r\n", r->issued);
	if (r->issued && r->reuse != DS_REUSE_PARENT)
		ds_buf_text(b, "sb-auth-refresh-token-reuse: false\r\n");
}

static void grant(struct grant *g, struct ds_refreshed *r)
{
	struct ds_rule *lie = ds_auth_lie(g->c);

	*r = ds_auth_refresh(ds_core_auth(g->c), ds_str(g->token), lie && lie->stale,
			     g->c->wall_ms);
	add_headers(&g->ret->headers, r);
	if (r->code) {
		refuse(g, 400, r->code, r->message);
		return;
	}
	g->ret->status = 200;
	g->ret->type = PLAIN_JSON;
	ds_auth_answer(g->c, r->session, r->issued, false, &g->ret->body);
	if (lie)
		ds_auth_tell_lie(g->c, lie, &g->ret->body);
}

/* Is there anything at this path? If not, it has been answered. */
static bool found(struct grant *g)
{
	const char *at = after_base(g->r->path);
	struct ds_str rest = { at, g->r->path.n - (size_t)(at - g->r->path.p) };

	if (ds_str_eq(rest, DS_STR("token")) && ds_str_eq(g->r->method, DS_STR("POST")))
		return true;
	g->ret->status = ds_str_eq(rest, DS_STR("token")) ? 405 : 404;
	if (g->ret->status == 404) {
		g->ret->type = "text/plain; charset=utf-8";
		ds_buf_text(&g->ret->body, "404 page not found\n");
	}
	return false;
}

void ds_core_gotrue(struct ds_core *c, const struct ds_request *r, struct ds_str body,
		    struct ds_answer *ret)
{
	struct grant g = { .c = c, .r = r, .ret = ret, .body = body };
	struct ds_refreshed did = { 0 };

	*ret = (struct ds_answer){ 0 };
	if (!has_key(&g) || !found(&g))
		return;
	if (refreshes(&g) && within_rate(&g) && read_body(&g)) {
		if (well_formed(g.token))
			grant(&g, &did);
		else
			refuse(&g, 400, "validation_failed", "Refresh token is not valid");
	}
	ds_auth_log(c, g.token, g.code, ret->status, &did);
	if (did.not_found)
		ds_auth_end(c->auth, did.session);
	free(g.token);
}
