/* SPDX-License-Identifier: MIT */
/*
 *  HEAD -> BODY -> FLUSH                 /_devserver and refused requests
 *  HEAD -> BODY -> HEAD                  the HTTP API: the next request may follow
 *  HEAD -> BODY -> DELAYED | HUNG ...    ... unless a test wants it otherwise
 *  HEAD -> DELAYED -> FLUSH              a refused upgrade, after the real server's pause
 *  HEAD -> OPEN -> FLUSH | DROP          a WebSocket, closed with or without a close frame
 */
#include "conn_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void ds_conn_wake(struct ds_conn *cn)
{
	if (cn->wake)
		cn->wake(cn->arg);
}

void ds_conn_finish(struct ds_conn *cn, enum ds_conn_state state)
{
	if (cn->state != DS_CONN_DROP)
		cn->state = state;
	ds_conn_wake(cn);
}

void ds_conn_answer(struct ds_conn *cn, int status, const char *type, struct ds_str body)
{
	ds_http_answer(&cn->out, status, type, DS_STR(""), body, false);
	ds_conn_finish(cn, DS_CONN_FLUSH);
}

/* What the core asks. */

/* A peer that does not read is cut off, as the real server's heap limit does. */
static void check_room(struct ds_conn *cn)
{
	if (cn->out.len - cn->out_sent > ds_core_conf(cn->core)->out_max_bytes)
		cn->state = DS_CONN_DROP;
	ds_conn_wake(cn);
}

static void op_send(void *conn, bool binary, struct ds_str frame)
{
	struct ds_conn *cn = conn;

	if (cn->state != DS_CONN_OPEN)
		return;
	ds_ws_frame(&cn->out, binary ? DS_WS_BINARY : DS_WS_TEXT, frame);
	check_room(cn);
}

static void op_close(void *conn, int code)
{
	struct ds_conn *cn = conn;
	char payload[2] = { (char)(code >> 8), (char)code };

	if (cn->state != DS_CONN_OPEN)
		return;
	cn->ws.ended = true;
	if (code == 0) {
		ds_conn_finish(cn, DS_CONN_DROP);
		return;
	}
	ds_ws_frame(&cn->out, DS_WS_CLOSE, (struct ds_str){ payload, code == 1005 ? 0 : 2 });
	ds_conn_finish(cn, DS_CONN_FLUSH);
}

static void op_pong(void *conn, struct ds_str payload)
{
	struct ds_conn *cn = conn;

	if (cn->state != DS_CONN_OPEN)
		return;
	ds_ws_frame(&cn->out, DS_WS_PONG, payload);
	check_room(cn);
}

static void op_bye(void *conn, int code)
{
	struct ds_conn *cn = conn;
	struct ds_socket *s = cn->socket;

	op_close(cn, code);
	/* Its channels end now, not when the TCP connection does. */
	cn->socket = NULL;
	ds_core_gone(cn->core, s);
}

static bool op_read_file(const char *path, struct ds_buf *ret_text, char *ret_error,
			 size_t error_size)
{
	char bytes[4096];
	FILE *f = fopen(path, "re");
	bool ok;
	size_t n;

	while (f && (n = fread(bytes, 1, sizeof(bytes), f)) > 0)
		ds_buf_add(ret_text, bytes, n);
	ok = f && !ferror(f);
	if (!ok)
		snprintf(ret_error, error_size, "cannot read %s: %s", path, strerror(errno));
	if (f)
		fclose(f);
	return ok;
}

static void op_half_frame(void *conn, size_t size_bytes)
{
	struct ds_conn *cn = conn;

	if (cn->state != DS_CONN_OPEN)
		return;
	cn->ws.ended = true;
	ds_ws_head(&cn->out, DS_WS_TEXT, size_bytes);
	for (size_t i = 0; i < size_bytes / 2; i++)
		ds_buf_byte(&cn->out, 'x');
	ds_conn_finish(cn, DS_CONN_FLUSH);
}

const struct ds_ops *ds_conn_ops(void)
{
	static const struct ds_ops ops = { .send = op_send,
					   .close = op_close,
					   .pong = op_pong,
					   .bye = op_bye,
					   .half_frame = op_half_frame,
					   .misbehave = ds_conn_misbehave,
					   .read_file = op_read_file };

	return &ops;
}

/* What the WebSocket says. */

static void on_message(void *arg, bool binary, struct ds_str message)
{
	struct ds_conn *cn = arg;

	ds_core_frame(cn->core, cn->socket, binary, message);
}

static void on_ping(void *arg, struct ds_str payload)
{
	struct ds_conn *cn = arg;

	if (cn->state == DS_CONN_OPEN)
		ds_core_ping(cn->core, cn->socket, payload);
}

static void on_close(void *arg, int code)
{
	struct ds_conn *cn = arg;

	if (cn->socket)
		ds_core_bye(cn->core, cn->socket, code);
}

static const struct ds_ws_ops ws_ops = { on_message, on_ping, on_close };

/* Requests. */

static bool path_is_socket(struct ds_str path)
{
	return ds_str_eq(path, DS_STR("/websocket")) ||
	       ds_str_eq(path, DS_STR("/socket/websocket")) ||
	       ds_str_eq(path, DS_STR("/realtime/v1/websocket"));
}

static void refuse(struct ds_conn *cn, const struct ds_refusal *r)
{
	struct ds_buf body = { 0 };
	char extra[64] = "";

	if (r->error[0]) {
		ds_buf_text(&body, "{\"error\":");
		ds_buf_json(&body, ds_str(r->error));
		ds_buf_byte(&body, '}');
	}
	if (r->retry_after_s >= 0)
		snprintf(extra, sizeof(extra), "retry-after: %lld\r\n",
			 (long long)r->retry_after_s);
	ds_http_answer(&cn->later, r->status, body.len ? DS_JSON_TYPE : NULL, ds_str(extra),
		       ds_buf_view(&body), false);
	ds_buf_done(&body);
	cn->delay_ms = r->delay_ms;
	cn->state = DS_CONN_DELAYED;
	if (r->delay_ms <= 0)
		ds_conn_delay_over(cn);
	else
		ds_conn_wake(cn);
}

/* In the real server's words, which tell the header as a list. */
static void no_upgrade(struct ds_conn *cn, const struct ds_request *r)
{
	struct ds_buf b = { 0 };
	struct ds_str value;

	ds_buf_text(&b, "'connection' header must contain 'upgrade', got [");
	if (ds_http_header(r, "connection", &value))
		ds_buf_json(&b, value);
	ds_buf_byte(&b, ']');
	ds_conn_answer(cn, 400, NULL, ds_buf_view(&b));
	ds_buf_done(&b);
}

static void open_socket(struct ds_conn *cn, const struct ds_request *r, struct ds_str vsn,
			struct ds_str apikey, const char *bad)
{
	struct ds_str value, key;

	if (!ds_http_header(r, "connection", &value) || !ds_http_has_token(value, "upgrade")) {
		no_upgrade(cn, r);
		return;
	}
	if (!ds_http_header(r, "upgrade", &value) || !ds_http_has_token(value, "websocket") ||
	    !ds_http_header(r, "sec-websocket-key", &key) ||
	    !ds_http_header(r, "sec-websocket-version", &value) ||
	    !ds_str_eq(value, DS_STR("13"))) {
		ds_conn_answer(cn, 400, NULL, DS_STR("not a WebSocket upgrade of version 13"));
		return;
	}
	ds_conn_101(cn, key, bad);
	cn->ws = (struct ds_ws){ .max_bytes = ds_core_conf(cn->core)->frame_max_bytes,
				 .ops = &ws_ops,
				 .arg = cn };
	cn->state = DS_CONN_OPEN;
	cn->socket = ds_core_open(cn->core, cn, vsn, apikey);
	ds_conn_wake(cn);
}

static void upgrade(struct ds_conn *cn, const struct ds_request *r)
{
	struct ds_buf vsn = { 0 }, query_key = { 0 };
	struct ds_str host = { "", 0 }, vsn_text = { NULL, 0 }, apikey = { NULL, 0 };
	struct ds_refusal refusal;

	(void)ds_http_header(r, "host", &host);
	if (ds_http_query(r, "vsn", &vsn))
		vsn_text = (struct ds_str){ vsn.data ? vsn.data : "", vsn.len };
	if (ds_http_query(r, "apikey", &query_key))
		apikey = (struct ds_str){ query_key.data ? query_key.data : "", query_key.len };
	(void)ds_http_header(r, "x-api-key", &apikey);
	refusal = ds_core_upgrade(cn->core, host, vsn_text, apikey);
	if (refusal.hang)
		cn->state = DS_CONN_HUNG;
	else if (refusal.status)
		refuse(cn, &refusal);
	else
		open_socket(cn, r, vsn_text, apikey, refusal.bad);
	ds_buf_done(&vsn);
	ds_buf_done(&query_key);
}

static void request(struct ds_conn *cn, const struct ds_request *r)
{
	if (r->path.n >= 11 && memcmp(r->path.p, "/_devserver", 11) == 0 && cn->loopback)
		ds_conn_local(cn, r);
	else if (ds_rest_is(r->path))
		ds_conn_rest(cn, r);
	else if (!ds_str_eq(r->method, DS_STR("GET")) || !path_is_socket(r->path))
		ds_conn_answer(cn, 404, "text/html; charset=utf-8", DS_STR("Not Found"));
	else if (!ds_conn_web_instead(cn, r))
		upgrade(cn, r);
}

/* What has come makes a request, maybe several. */
static void read_requests(struct ds_conn *cn)
{
	struct ds_request r;
	size_t before;
	int found;

	do {
		before = cn->in.len;
		found = ds_http_parse(ds_buf_view(&cn->in), &r);
		if (found < 0)
			ds_conn_answer(cn, 400, NULL, DS_STR("Bad Request"));
		if (found > 0)
			request(cn, &r);
	} while (cn->state == DS_CONN_HEAD && cn->in.len && cn->in.len < before);
	if (cn->state == DS_CONN_OPEN) {
		/* A hasty client's first frames came along with the request. */
		ds_ws_feed(&cn->ws, (struct ds_str){ cn->in.data + r.head_bytes,
						     cn->in.len - r.head_bytes });
		ds_buf_done(&cn->in);
	}
}

void ds_conn_init(struct ds_conn *cn, struct ds_core *core, bool loopback)
{
	*cn = (struct ds_conn){ .core = core, .loopback = loopback };
}

void ds_conn_done(struct ds_conn *cn)
{
	cn->wake = NULL;
	cn->state = DS_CONN_DROP;
	if (cn->socket)
		ds_core_gone(cn->core, cn->socket);
	cn->socket = NULL;
	ds_ws_done(&cn->ws);
	ds_buf_done(&cn->in);
	ds_buf_done(&cn->out);
	ds_buf_done(&cn->later);
	ds_buf_done(&cn->piece);
	ds_web_done(&cn->web);
}

void ds_conn_input(struct ds_conn *cn, struct ds_str bytes)
{
	switch (cn->state) {
	case DS_CONN_OPEN:
		ds_core_alive(cn->core, cn->socket);
		ds_ws_feed(&cn->ws, bytes);
		break;
	case DS_CONN_HEAD:
	case DS_CONN_BODY:
		ds_buf_str(&cn->in, bytes);
		read_requests(cn);
		break;
	default:
		break; /* too late to be heard */
	}
}

void ds_conn_delay_over(struct ds_conn *cn)
{
	struct ds_str rest = { cn->later.data + cn->later_sent, cn->later.len - cn->later_sent };

	if (cn->state != DS_CONN_DELAYED)
		return;
	if (cn->piece_bytes && cn->piece_bytes < rest.n)
		rest.n = cn->piece_bytes;
	ds_buf_str(&cn->out, rest);
	cn->later_sent += rest.n;
	if (cn->piece.len && rest.n == 0)
		ds_conn_more(cn);
	else if (cn->later_sent < cn->later.len || cn->piece.len)
		ds_conn_wake(cn);
	else
		ds_conn_finish(cn, DS_CONN_FLUSH);
}

struct ds_str ds_conn_unsent(const struct ds_conn *cn)
{
	return (struct ds_str){ cn->out.data + cn->out_sent, cn->out.len - cn->out_sent };
}

void ds_conn_sent(struct ds_conn *cn, size_t n)
{
	cn->out_sent += n;
	if (cn->out_sent == cn->out.len) {
		cn->out_sent = cn->out.len = 0;
		if (cn->out.cap > 1024 * 1024)
			ds_buf_done(&cn->out);
	} else if (cn->out_sent > cn->out.len / 2 && cn->out_sent > 65536) {
		memmove(cn->out.data, cn->out.data + cn->out_sent, cn->out.len - cn->out_sent);
		cn->out.len -= cn->out_sent;
		cn->out_sent = 0;
	}
}
