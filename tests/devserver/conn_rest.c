/* SPDX-License-Identifier: MIT */
/*
 * Requests to the HTTP API: read, carried out and answered, or what a test wants instead. The
 * connection stays for the next one, as on the real server.
 */
#include <stdio.h>
#include <stdlib.h>

#include "conn_int.h"

#define GARBAGE "\x16\x03\x01 200 this is no HTTP\r\n\r\n"

/* Does the client want to keep the connection? */
static bool keeps(const struct ds_request *r)
{
	struct ds_str v = { "", 0 };

	(void)ds_http_header(r, "connection", &v);
	return r->old ? ds_http_has_token(v, "keep-alive") : !ds_http_has_token(v, "close");
}

/* What this request asked for has been said: the next one may begin. */
static void next_request(struct ds_conn *cn, size_t used)
{
	memmove(cn->in.data, cn->in.data + used, cn->in.len - used);
	cn->in.len -= used;
	cn->announced = false;
	ds_web_done(&cn->web);
	cn->state = DS_CONN_HEAD;
	ds_conn_wake(cn);
}

/* The answer that the rule has, in the place of the true one. */
static void made_up(struct ds_web *w, struct ds_answer *a)
{
	ds_answer_done(a);
	*a = (struct ds_answer){ .status = w->status, .type = w->type };
	ds_buf_text(&a->body, w->body);
	if (w->headers)
		ds_buf_text(&a->headers, w->headers);
	if (w->retry_after_s >= 0)
		ds_buf_fmt(&a->headers, "retry-after: %lld\r\n", (long long)w->retry_after_s);
}

static void later(struct ds_conn *cn, const struct ds_answer *a, size_t piece_bytes)
{
	ds_http_answer(&cn->later, a->status, a->type, ds_buf_view(&a->headers),
		       ds_buf_view(&a->body), false);
	cn->piece_bytes = piece_bytes;
	cn->delay_ms = cn->web.ms;
	cn->state = DS_CONN_DELAYED;
	ds_conn_wake(cn);
}

static void half(struct ds_conn *cn, const struct ds_answer *a)
{
	struct ds_buf whole = { 0 };

	ds_http_answer(&whole, a->status, a->type, ds_buf_view(&a->headers), ds_buf_view(&a->body),
		       false);
	/* Of an answer with a body half of the body, otherwise half of the head. */
	whole.len -= a->body.len ? (a->body.len + 1) / 2 : whole.len / 2;
	ds_buf_str(&cn->out, ds_buf_view(&whole));
	ds_buf_done(&whole);
	ds_conn_finish(cn, DS_CONN_FLUSH);
}

static void respond(struct ds_conn *cn, const struct ds_request *r, struct ds_answer *a,
		    size_t used)
{
	bool keep = keeps(r);

	switch (cn->web.how) {
	case DS_WEB_NONE:
	case DS_WEB_ANSWER:
		ds_http_answer(&cn->out, a->status, a->type, ds_buf_view(&a->headers),
			       ds_buf_view(&a->body), keep);
		if (keep && !cn->web.close)
			next_request(cn, used);
		else
			ds_conn_finish(cn, DS_CONN_FLUSH);
		break;
	case DS_WEB_GARBAGE:
		ds_buf_str(&cn->out, DS_STR(GARBAGE));
		ds_conn_finish(cn, DS_CONN_FLUSH);
		break;
	case DS_WEB_DELAY:
		later(cn, a, 0);
		break;
	case DS_WEB_SLOW:
		later(cn, a, cn->web.piece_bytes);
		break;
	case DS_WEB_HALF:
		half(cn, a);
		break;
	case DS_WEB_CLOSE:
		ds_conn_finish(cn, DS_CONN_DROP);
		break;
	case DS_WEB_DROP:
		ds_conn_finish(cn, DS_CONN_FLUSH); /* with nothing to flush */
		break;
	case DS_WEB_HANG:
		cn->state = DS_CONN_HUNG;
		break;
	case DS_WEB_CHUNKED:
		ds_conn_chunked(cn, a);
		break;
	case DS_WEB_ENDLESS:
		ds_conn_endless(cn, a);
		break;
	}
}

static bool is_answered(enum ds_web_how how)
{
	return how == DS_WEB_NONE || how == DS_WEB_ANSWER || how == DS_WEB_DELAY ||
	       how == DS_WEB_SLOW || how == DS_WEB_CHUNKED || how == DS_WEB_ENDLESS;
}

static void carry_out(struct ds_conn *cn, const struct ds_request *r, struct ds_str body)
{
	struct ds_answer a = { 0 };

	if (cn->web.work)
		ds_core_rest(cn->core, r, body, &a);
	if (cn->web.status)
		made_up(&cn->web, &a);
	ds_core_web_log(cn->core, r, body, cn->web.how, is_answered(cn->web.how) ? a.status : 0);
	respond(cn, r, &a, r->head_bytes + body.n);
	ds_answer_done(&a);
}

bool ds_conn_web_instead(struct ds_conn *cn, const struct ds_request *r)
{
	struct ds_str none = { "", 0 };
	struct ds_answer a = { 0 };

	cn->web = ds_core_web(cn->core, r, true);
	if (cn->web.how == DS_WEB_NONE)
		return false;
	if (cn->web.status == 0)
		cn->web.status = 503;
	if (cn->web.how == DS_WEB_ANSWER)
		cn->web.close = true;
	made_up(&cn->web, &a);
	ds_core_web_log(cn->core, r, none, cn->web.how, is_answered(cn->web.how) ? a.status : 0);
	respond(cn, r, &a, r->head_bytes);
	ds_answer_done(&a);
	return true;
}

void ds_conn_rest(struct ds_conn *cn, const struct ds_request *r)
{
	long bytes = ds_conn_body_bytes(r, DS_REST_BODY_MAX);
	struct ds_str none = { "", 0 };

	if (!cn->announced)
		cn->web = ds_core_web(cn->core, r, false);
	cn->announced = true;
	if (cn->web.how == DS_WEB_CLOSE) {
		ds_core_web_log(cn->core, r, none, cn->web.how, 0);
		ds_conn_finish(cn, DS_CONN_DROP);
	} else if (bytes == DS_BODY_TOO_LONG) {
		ds_core_web_log(cn->core, r, none, cn->web.how, 413);
		ds_conn_answer(cn, 413, "text/html; charset=utf-8",
			       DS_STR("Request Entity Too Large"));
	} else if (bytes < 0) {
		ds_core_web_log(cn->core, r, none, cn->web.how, 411);
		ds_conn_answer(cn, 411, NULL, DS_STR("a content-length is needed here\n"));
	} else if (ds_conn_whole(cn, r, (size_t)bytes)) {
		carry_out(cn, r, (struct ds_str){ cn->in.data + r->head_bytes, (size_t)bytes });
	}
}
