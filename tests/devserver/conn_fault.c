/* SPDX-License-Identifier: MIT */
/* What no good server does to a connection. */
#include <stdlib.h>

#include "conn_int.h"

#define UNREAD_MAX 4000000 /* of what never ends: more waits until the peer has read */
#define FIN        0x80

static void fill(struct ds_buf *b, uint64_t n)
{
	ds_buf_reserve(b, n);
	memset(b->data + b->len, 'x', n);
	b->len += n;
}

/* From now on nothing but pieces, if there are any. */
static void begin(struct ds_conn *cn, int64_t ms)
{
	cn->state = cn->piece.len && cn->pieces_left ? DS_CONN_DELAYED : DS_CONN_HUNG;
	cn->delay_ms = ms > 0 ? ms : 1;
	cn->piece_bytes = 0;
	ds_conn_wake(cn);
}

void ds_conn_chunked(struct ds_conn *cn, const struct ds_answer *a)
{
	struct ds_str rest = ds_buf_view(&a->body);
	struct ds_buf *b = &cn->later;

	ds_buf_fmt(b, "HTTP/1.1 %d OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n",
		   a->status);
	if (a->type)
		ds_buf_fmt(b, "content-type: %s\r\n", a->type);
	ds_buf_str(b, ds_buf_view(&a->headers));
	ds_buf_text(b, "\r\n");
	while (rest.n) {
		struct ds_str piece = { rest.p, rest.n < cn->web.piece_bytes
							? rest.n
							: cn->web.piece_bytes };

		ds_buf_fmt(b, "%zx\r\n", piece.n);
		ds_buf_str(b, piece);
		ds_buf_text(b, "\r\n");
		rest.p += piece.n;
		rest.n -= piece.n;
	}
	ds_buf_text(b, "0\r\n\r\n");
	cn->piece_bytes = 0;
	if (cn->web.ms > 0) {
		/* In halves, wherever that is. */
		cn->piece_bytes = (b->len + 1) / 2;
	}
	cn->delay_ms = cn->web.ms;
	cn->state = DS_CONN_DELAYED;
	if (cn->web.ms > 0)
		ds_conn_wake(cn);
	else
		ds_conn_delay_over(cn);
}

void ds_conn_endless(struct ds_conn *cn, const struct ds_answer *a)
{
	ds_buf_fmt(&cn->out, "HTTP/1.1 %d OK\r\nconnection: close\r\ncontent-type: %s\r\n",
		   a->status, a->type ? a->type : "application/json");
	ds_buf_str(&cn->out, ds_buf_view(&a->headers));
	ds_buf_text(&cn->out, "\r\n");
	if (a->body.len)
		ds_buf_str(&cn->out, ds_buf_view(&a->body));
	else
		ds_buf_text(&cn->out, "{\"access_token\":\"");
	fill(&cn->piece, cn->web.piece_bytes);
	cn->pieces_left = -1;
	begin(cn, cn->web.ms);
}

void ds_conn_more(struct ds_conn *cn)
{
	if (cn->pieces_left == 0) {
		cn->state = DS_CONN_HUNG;
		return;
	}
	if (cn->out.len - cn->out_sent < UNREAD_MAX) {
		ds_buf_str(&cn->out, ds_buf_view(&cn->piece));
		if (cn->pieces_left > 0)
			cn->pieces_left--;
	}
	ds_conn_wake(cn);
}

/* The first fragment is of opcode text, the others of opcode 0; none has the bit of the last. */
static void fragments(struct ds_conn *cn, const struct ds_misdeed *m)
{
	size_t first = cn->out.len;

	ds_ws_head(&cn->out, DS_WS_TEXT, m->size);
	cn->out.data[first] = DS_WS_TEXT;
	fill(&cn->out, m->size);
	ds_ws_head(&cn->piece, DS_WS_TEXT, m->size);
	cn->piece.data[0] = 0;
	fill(&cn->piece, m->size);
	cn->pieces_left = m->times < 0 ? -1 : m->times - 1;
	begin(cn, m->ms);
}

static void close_with(struct ds_conn *cn, const struct ds_misdeed *m)
{
	struct ds_buf payload = { 0 };

	cn->ws.ended = true;
	ds_buf_byte(&payload, (unsigned char)(m->code >> 8));
	ds_buf_byte(&payload, (unsigned char)m->code);
	ds_buf_str(&payload, m->bytes);
	ds_ws_frame(&cn->out, DS_WS_CLOSE, ds_buf_view(&payload));
	ds_buf_done(&payload);
	ds_conn_finish(cn, DS_CONN_FLUSH);
}

void ds_conn_misbehave(void *conn, const struct ds_misdeed *m)
{
	struct ds_conn *cn = conn;

	if (cn->state != DS_CONN_OPEN)
		return;
	switch (m->kind) {
	case DS_MISDEED_CLOSE:
		close_with(cn, m);
		break;
	case DS_MISDEED_FIN:
		cn->ws.ended = true;
		ds_conn_finish(cn, DS_CONN_FLUSH);
		break;
	case DS_MISDEED_RAW:
		ds_buf_str(&cn->out, m->bytes);
		ds_conn_wake(cn);
		break;
	case DS_MISDEED_FRAME:
		ds_ws_head(&cn->out, DS_WS_TEXT, m->size);
		fill(&cn->out, m->sent);
		begin(cn, 0);
		break;
	case DS_MISDEED_FRAGMENTS:
		fragments(cn, m);
		break;
	case DS_MISDEED_DEAF:
	case DS_MISDEED_HEARING:
		cn->deaf = m->kind == DS_MISDEED_DEAF;
		ds_conn_wake(cn);
		break;
	}
}

static bool is(const char *bad, const char *how)
{
	return strcmp(bad, how) == 0;
}

void ds_conn_101(struct ds_conn *cn, struct ds_str key, const char *bad)
{
	struct ds_buf *b = &cn->out;

	ds_buf_fmt(b,
		   "HTTP/1.%c 101 Switching Protocols\r\n"
		   "cache-control: max-age=0, private, must-revalidate\r\n",
		   is(bad, "old http") ? '0' : '1');
	if (!is(bad, "no connection"))
		ds_buf_text(b, "connection: Upgrade\r\n");
	if (!is(bad, "no upgrade"))
		ds_buf_text(b, "upgrade: websocket\r\n");
	if (!is(bad, "no accept")) {
		ds_buf_text(b, "sec-websocket-accept: ");
		ds_ws_accept(b, is(bad, "accept") ? DS_STR("another key") : key);
		ds_buf_text(b, "\r\n");
	}
	if (is(bad, "extension"))
		ds_buf_text(b, "sec-websocket-extensions: permessage-deflate\r\n");
	if (is(bad, "protocol"))
		ds_buf_text(b, "sec-websocket-protocol: mqtt\r\n");
	ds_buf_text(b, "\r\n");
}
