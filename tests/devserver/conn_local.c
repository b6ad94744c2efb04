/* SPDX-License-Identifier: MIT */
/* /_devserver: what tests ask and order, from this machine only. */
#include <stdlib.h>

#include "conn_int.h"

#define BODY_MAX (32 * 1024 * 1024)

long ds_conn_body_bytes(const struct ds_request *r, long most)
{
	struct ds_str v;
	char text[20] = "";
	char *end;
	long n;

	if (!ds_http_header(r, "content-length", &v))
		return ds_http_header(r, "transfer-encoding", &v) ? DS_BODY_UNKNOWN : 0;
	if (v.n == 0 || v.n >= sizeof(text))
		return DS_BODY_UNKNOWN;
	memcpy(text, v.p, v.n);
	n = strtol(text, &end, 10);
	if (*end || n < 0)
		return DS_BODY_UNKNOWN;
	return n > most ? DS_BODY_TOO_LONG : n;
}

bool ds_conn_whole(struct ds_conn *cn, const struct ds_request *r, size_t body_bytes)
{
	struct ds_str expect;

	if (cn->in.len - r->head_bytes >= body_bytes)
		return true;
	if (cn->state == DS_CONN_HEAD && ds_http_header(r, "expect", &expect)) {
		ds_buf_text(&cn->out, "HTTP/1.1 100 Continue\r\n\r\n");
		ds_conn_wake(cn);
	}
	cn->state = DS_CONN_BODY;
	return false;
}

static bool fault(struct ds_core *c, struct ds_str body, struct ds_buf *ret, char *ret_error,
		  size_t error_size)
{
	ds_buf_text(ret, "{}");
	return ds_core_fault(c, body, ret_error, error_size);
}

static const struct {
	const char *path;
	bool (*work)(struct ds_core *c, struct ds_str body, struct ds_buf *ret, char *ret_error,
		     size_t error_size);
} orders[] = {
	{ "/_devserver/fault", fault },
	{ "/_devserver/session", ds_core_session },
};

#define N_ORDERS (sizeof(orders) / sizeof(orders[0]))

/* Which of the orders this is; N_ORDERS if it is none. */
static size_t order_at(struct ds_str path)
{
	size_t i = 0;

	while (i < N_ORDERS && !ds_str_eq(path, ds_str(orders[i].path)))
		i++;
	return i;
}

static void obey(struct ds_conn *cn, size_t order, struct ds_str body)
{
	struct ds_buf b = { 0 };
	char error[200] = "";
	bool ok = orders[order].work(cn->core, body, &b, error, sizeof(error));

	if (!ok) {
		b.len = 0;
		ds_buf_text(&b, "{\"error\":");
		ds_buf_json(&b, ds_str(error));
		ds_buf_text(&b, "}\n");
	}
	ds_conn_answer(cn, ok ? 200 : 400, DS_JSON_TYPE, ds_buf_view(&b));
	ds_buf_done(&b);
}

static const struct {
	const char *path;
	void (*show)(struct ds_core *c, struct ds_buf *b);
} views[] = {
	{ "/_devserver/log", ds_core_log },           { "/_devserver/requests", ds_core_requests },
	{ "/_devserver/sessions", ds_core_sessions }, { "/_devserver/status", ds_core_status },
	{ "/_devserver/tokens", ds_core_tokens },
};

static bool show(struct ds_conn *cn, struct ds_str path)
{
	struct ds_buf b = { 0 };

	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
		if (ds_str_eq(path, ds_str(views[i].path))) {
			views[i].show(cn->core, &b);
			ds_conn_answer(cn, 200, DS_JSON_TYPE, ds_buf_view(&b));
			ds_buf_done(&b);
			return true;
		}
	return false;
}

void ds_conn_local(struct ds_conn *cn, const struct ds_request *r)
{
	bool post = ds_str_eq(r->method, DS_STR("POST"));
	long body = ds_conn_body_bytes(r, BODY_MAX);

	if (body < 0) {
		ds_conn_answer(cn, 413, NULL, DS_STR("content-length is missing or too large\n"));
	} else if (post && order_at(r->path) < N_ORDERS) {
		if (ds_conn_whole(cn, r, (size_t)body))
			obey(cn, order_at(r->path),
			     (struct ds_str){ cn->in.data + r->head_bytes, (size_t)body });
	} else if (post || !show(cn, r->path)) {
		ds_conn_answer(cn, 404, NULL,
			       DS_STR("try GET /_devserver/status, .../log, .../requests, "
				      ".../tokens, .../sessions, or POST /_devserver/fault, "
				      ".../session\n"));
	}
}
