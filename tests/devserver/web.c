/* SPDX-License-Identifier: MIT */
/* Requests to the HTTP API as tests see them: what was asked, and what is to go wrong. */
#include <fnmatch.h>
#include <stdlib.h>

#include "fault_int.h"
#include "jwt.h"

#define LOG_MAX   2000
#define LOG_BYTES 64000000

struct ds_posted {
	TAILQ_ENTRY(ds_posted) link;
	struct ds_buf json; /* what the list shows of it */
};

static const struct {
	const char *name;
	enum ds_web_how how;
	bool works; /* carries the request out, unless the order says otherwise */
} hows[] = {
	{ "answer", DS_WEB_ANSWER, false },  { "garbage", DS_WEB_GARBAGE, false },
	{ "delay", DS_WEB_DELAY, true },     { "slow", DS_WEB_SLOW, true },
	{ "half", DS_WEB_HALF, true },       { "close", DS_WEB_CLOSE, false },
	{ "drop", DS_WEB_DROP, true },       { "hang", DS_WEB_HANG, true },
	{ "chunked", DS_WEB_CHUNKED, true }, { "endless", DS_WEB_ENDLESS, false },
};

#define N_HOWS (sizeof(hows) / sizeof(hows[0]))

/* "headers": an object, as the lines of an answer; NULL if there is none. */
static char *headers(struct ds_order *o)
{
	json_t *all = json_object_get(o->json, "headers"), *v;
	struct ds_buf b = { 0 };
	const char *name;

	if (!json_is_object(all))
		return NULL;
	json_object_foreach(all, name, v)
	{
		ds_buf_fmt(&b, "%s: %s\r\n", name, json_is_string(v) ? json_string_value(v) : "");
	}
	ds_buf_byte(&b, 0);
	return b.data;
}

bool ds_op_http(struct ds_order *o)
{
	const char *name = ds_order_text(o, "how", "");
	int64_t status = ds_order_number(o, "status", 0);
	json_t *work = json_object_get(o->json, "work");
	struct ds_rule *r;
	size_t i = 0;

	while (i < N_HOWS && strcmp(hows[i].name, name) != 0)
		i++;
	if (i == N_HOWS)
		return ds_order_fail(
			o,
			"http needs answer, garbage, delay, slow, half, close, drop, hang, "
			"chunked or endless",
			"how");
	if (status != 0 && (status < 200 || status > 599))
		return ds_order_fail(o, "http needs a status of 200 to 599", "status");
	if (ds_order_number(o, "bytes", 1) < 1 || ds_order_number(o, "ms", 0) < 0)
		return ds_order_fail(o, "http needs numbers that are not negative", "bytes, ms");
	r = ds_order_add(o, DS_RULE_WEB, 1);
	r->how = hows[i].how;
	r->work = work ? json_is_true(work) : hows[i].works;
	r->close = json_is_true(json_object_get(o->json, "close"));
	r->status = (int)status;
	r->path = ds_order_copy(o, "path");
	r->body = ds_order_copy(o, "body");
	r->type = ds_order_copy(o, "type");
	r->headers = headers(o);
	r->piece_bytes = ds_order_number(o, "bytes", 1);
	/* What is not carried out has no true answer. */
	if (r->status == 0 && !r->work)
		r->status = r->how == DS_WEB_ENDLESS ? 200 : 503;
	return true;
}

static bool path_fits(const struct ds_rule *r, struct ds_str path)
{
	char *text = ds_str_dup(path);
	bool fits = !r->path || fnmatch(r->path, text, 0) == 0;

	free(text);
	return fits;
}

struct ds_web ds_core_web(struct ds_core *c, const struct ds_request *rq, bool named)
{
	struct ds_web w = { .how = DS_WEB_NONE, .work = true };
	struct ds_rule *r;

	TAILQ_FOREACH(r, &c->rules, link) {
		if (r->op != DS_RULE_WEB || !path_fits(r, rq->path) || (named && !r->path))
			continue;
		w = (struct ds_web){ .how = r->how,
				     .work = r->work,
				     .close = r->close,
				     .status = r->status,
				     .ms = r->ms,
				     .retry_after_s = r->retry_after_s,
				     .piece_bytes = (size_t)r->piece_bytes };
		w.body = ds_str_dup(ds_str(r->body ? r->body : ""));
		w.type = r->type ? ds_str_dup(ds_str(r->type)) : NULL;
		w.headers = r->headers ? ds_str_dup(ds_str(r->headers)) : NULL;
		ds_rules_used(&c->rules, r);
		break;
	}
	return w;
}

void ds_web_done(struct ds_web *w)
{
	free(w->body);
	free(w->type);
	free(w->headers);
	*w = (struct ds_web){ .how = DS_WEB_NONE };
}

static const char *name_of(enum ds_web_how how)
{
	for (size_t i = 0; i < N_HOWS; i++)
		if (hows[i].how == how)
			return hows[i].name;
	return NULL;
}

/* {"name":"value",...}, the names in small letters. */
static void add_headers(struct ds_buf *b, struct ds_str lines)
{
	const char *comma = "";

	ds_buf_byte(b, '{');
	while (lines.n) {
		struct ds_str key, value, line = ds_http_line(&lines, &key, &value);
		char *name;

		if (line.n == 0)
			continue;
		name = ds_str_dup(key);
		for (char *p = name; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p + 'a' - 'A');
		ds_buf_text(b, comma);
		ds_buf_json(b, ds_str(name));
		ds_buf_byte(b, ':');
		ds_buf_json(b, value);
		free(name);
		comma = ",";
	}
	ds_buf_byte(b, '}');
}

void ds_web_drop(struct ds_core *c)
{
	struct ds_posted *p = TAILQ_FIRST(&c->posted);

	TAILQ_REMOVE(&c->posted, p, link);
	c->posted_bytes -= p->json.len;
	c->n_kept--;
	ds_buf_done(&p->json);
	free(p);
}

void ds_core_web_log(struct ds_core *c, const struct ds_request *rq, struct ds_str body,
		     enum ds_web_how how, int status)
{
	struct ds_posted *p = ds_alloc(sizeof(*p));
	struct ds_buf *b = &p->json;

	ds_buf_fmt(b, "{\"n\":%llu,\"at_ms\":%lld,\"method\":", (unsigned long long)++c->n_posted,
		   (long long)c->wall_ms);
	ds_buf_json(b, rq->method);
	ds_buf_text(b, ",\"path\":");
	ds_buf_json(b, rq->path);
	ds_buf_text(b, ",\"query\":");
	ds_buf_json(b, rq->query);
	ds_buf_text(b, ",\"headers\":");
	add_headers(b, rq->headers);
	ds_buf_text(b, ",\"body\":\"");
	ds_base64url(b, body.p, body.n);
	ds_buf_text(b, "\",\"fault\":");
	if (name_of(how))
		ds_buf_json(b, ds_str(name_of(how)));
	else
		ds_buf_text(b, "null");
	if (status)
		ds_buf_fmt(b, ",\"status\":%d}", status);
	else
		ds_buf_text(b, ",\"status\":null}");
	TAILQ_INSERT_TAIL(&c->posted, p, link);
	c->posted_bytes += b->len;
	c->n_kept++;
	while (c->n_kept > LOG_MAX || (c->posted_bytes > LOG_BYTES && c->n_kept > 1))
		ds_web_drop(c);
}

void ds_core_requests(struct ds_core *c, struct ds_buf *b)
{
	const struct ds_posted *p;

	ds_buf_fmt(b, "{\"ever\":%llu,\"entries\":[", (unsigned long long)c->n_posted);
	TAILQ_FOREACH(p, &c->posted, link) {
		if (p != TAILQ_FIRST(&c->posted))
			ds_buf_text(b, ",\n");
		ds_buf_str(b, ds_buf_view(&p->json));
	}
	ds_buf_text(b, "]}\n");
}
