/* SPDX-License-Identifier: MIT */
#include "ws.h"

#include <openssl/evp.h>

#define FIN         0x80
#define CONTROL     0x08
#define OP_PING     9
#define SHRINK_FROM 65536 /* a buffer that a large message grew is given back */

struct head {
	unsigned first;
	size_t size;  /* of the payload */
	size_t bytes; /* of the head itself, with the mask */
	unsigned char mask[4];
};

static void end(struct ds_ws *w, int code)
{
	w->ended = true;
	w->ops->close(w->arg, code);
}

/* 0: not all here yet; > 0: a close code; < 0: read. */
static int read_head(struct ds_str in, struct head *h)
{
	const unsigned char *p = (const unsigned char *)in.p;
	size_t extra = 0;
	uint64_t size;

	if (in.n < 2)
		return 0;
	h->first = p[0];
	if ((p[0] & 0x70) || !(p[1] & 0x80))
		return 1002;
	size = p[1] & 0x7f;
	if (size >= 126) {
		extra = size == 126 ? 2 : 8;
		if (in.n < 2 + extra)
			return 0;
		size = 0;
		for (size_t i = 0; i < extra; i++)
			size = size << 8 | p[2 + i];
	}
	if ((p[0] & CONTROL) && (size > 125 || !(p[0] & FIN)))
		return 1002;
	if (size > (uint64_t)1 << 40)
		return 1009;
	h->size = (size_t)size;
	h->bytes = 2 + extra + 4;
	if (in.n < h->bytes)
		return 0;
	memcpy(h->mask, p + 2 + extra, 4);
	return -1;
}

static void unmask(char *p, size_t n, const unsigned char mask[4])
{
	for (size_t i = 0; i < n; i++)
		p[i] = (char)((unsigned char)p[i] ^ mask[i & 3]);
}

static void control(struct ds_ws *w, unsigned opcode, struct ds_str payload)
{
	const unsigned char *p = (const unsigned char *)payload.p;
	int code;

	if (opcode == OP_PING) {
		w->ops->ping(w->arg, payload);
	} else if (opcode == DS_WS_CLOSE) {
		code = payload.n == 0 ? 1005 : 1002;
		if (payload.n >= 2)
			code = p[0] << 8 | p[1];
		end(w, code);
	} else if (opcode != DS_WS_PONG) {
		end(w, 1002);
	}
}

static void data(struct ds_ws *w, const struct head *h, struct ds_str payload)
{
	unsigned opcode = h->first & 0x0f;
	bool first = opcode != 0, last = h->first & FIN;

	if (opcode > DS_WS_BINARY || first == (w->opcode != 0)) {
		end(w, 1002);
		return;
	}
	if (first && last) {
		w->ops->message(w->arg, opcode == DS_WS_BINARY, payload);
		return;
	}
	if (first)
		w->opcode = (int)opcode;
	ds_buf_str(&w->message, payload);
	if (!last)
		return;
	opcode = (unsigned)w->opcode;
	w->opcode = 0;
	w->ops->message(w->arg, opcode == DS_WS_BINARY, ds_buf_view(&w->message));
	w->message.len = 0;
	if (w->message.cap > SHRINK_FROM)
		ds_buf_done(&w->message);
}

void ds_ws_feed(struct ds_ws *w, struct ds_str bytes)
{
	size_t used = 0;

	ds_buf_str(&w->in, bytes);
	while (!w->ended) {
		struct ds_str rest = { w->in.data + used, w->in.len - used };
		struct head h = { 0 };
		int r = read_head(rest, &h);
		struct ds_str payload;

		if (r > 0)
			end(w, r);
		else if (r < 0 && !(h.first & CONTROL) && h.size + w->message.len > w->max_bytes)
			end(w, 1009);
		if (w->ended || r == 0 || rest.n - h.bytes < h.size)
			break;
		payload = (struct ds_str){ rest.p + h.bytes, h.size };
		unmask(w->in.data + used + h.bytes, h.size, h.mask);
		used += h.bytes + h.size;
		if (h.first & CONTROL)
			control(w, h.first & 0x0f, payload);
		else
			data(w, &h, payload);
	}
	if (w->ended)
		used = w->in.len;
	w->in.len -= used;
	if (used && w->in.len)
		memmove(w->in.data, w->in.data + used, w->in.len);
	if (w->in.len == 0 && w->in.cap > SHRINK_FROM)
		ds_buf_done(&w->in);
}

void ds_ws_done(struct ds_ws *w)
{
	ds_buf_done(&w->in);
	ds_buf_done(&w->message);
}

void ds_ws_head(struct ds_buf *b, enum ds_ws_opcode opcode, size_t size)
{
	ds_buf_byte(b, (unsigned char)(FIN | opcode));
	if (size < 126) {
		ds_buf_byte(b, (unsigned char)size);
	} else if (size < 65536) {
		ds_buf_byte(b, 126);
		ds_buf_byte(b, (unsigned char)(size >> 8));
		ds_buf_byte(b, (unsigned char)size);
	} else {
		ds_buf_byte(b, 127);
		for (int shift = 56; shift >= 0; shift -= 8)
			ds_buf_byte(b, (unsigned char)((uint64_t)size >> shift));
	}
}

void ds_ws_frame(struct ds_buf *b, enum ds_ws_opcode opcode, struct ds_str payload)
{
	ds_ws_head(b, opcode, payload.n);
	ds_buf_str(b, payload);
}

void ds_ws_accept(struct ds_buf *b, struct ds_str key)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char digest[EVP_MAX_MD_SIZE];
	char text[EVP_MAX_MD_SIZE * 2];
	struct ds_buf both = { 0 };
	unsigned n = 0;

	ds_buf_str(&both, key);
	ds_buf_text(&both, guid);
	EVP_Digest(both.data, both.len, digest, &n, EVP_sha1(), NULL);
	EVP_EncodeBlock((unsigned char *)text, digest, (int)n);
	ds_buf_text(b, text);
	ds_buf_done(&both);
}
