/* SPDX-License-Identifier: MIT */
#include "wire/wire_proxy.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/secret.h"
#include "wire/wire_alloc.h"
#include "wire/wire_attempt.h"

int wire_proxy_begin(struct wire_proxy_talk *t, const struct wire_proxy *proxy,
		     const struct wire_attempt *to)
{
	size_t auth = proxy->auth ? secret_size(proxy->auth) : 0;
	size_t room = 2 * WIRE_HOST_MAX + 256 + (auth + 2) / 3 * 4;
	bool v6 = strchr(to->host, ':') != NULL;
	char where[WIRE_HOST_MAX + 16];
	int n;

	*t = (struct wire_proxy_talk){ 0 };
	t->bytes = wire_alloc_realloc(NULL, room, "proxy request");
	if (!t->bytes)
		return -ENOMEM;
	wire_http_init(&t->http, NULL, 0);
	snprintf(where, sizeof(where), "%s%s%s:%u", v6 ? "[" : "", to->host, v6 ? "]" : "",
		 (unsigned)to->port);
	n = snprintf(t->bytes, room, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", where, where);
	if (proxy->auth) {
		n += snprintf(t->bytes + n, room - (size_t)n, "Proxy-Authorization: Basic ");
		n += EVP_EncodeBlock((unsigned char *)t->bytes + n,
				     (const unsigned char *)secret_bytes(proxy->auth), (int)auth);
		n += snprintf(t->bytes + n, room - (size_t)n, "\r\n");
	}
	n += snprintf(t->bytes + n, room - (size_t)n, "\r\n");
	t->size = (size_t)n;
	return 0;
}

void wire_proxy_done(struct wire_proxy_talk *t)
{
	if (t->bytes)
		wire_alloc_realloc(t->bytes, 0, "proxy request");
	explicit_bzero(t, sizeof(*t));
}

static const char *hint(unsigned status)
{
	switch (status) {
	case 401:
	case 407:
		return " (it wants a user and password, or others: see proxy_auth_file)";
	case 403:
		return " (it does not allow this host or port)";
	case 502:
	case 503:
	case 504:
		return " (it cannot reach the host)";
	default:
		return "";
	}
}

/* The header's bytes among these. Return: how many; `ret` as for wire_proxy_step(). */
static size_t read_header(struct wire_proxy_talk *t, const char *data, size_t size, int *ret)
{
	size_t n = 0;
	int r;

	*ret = -EAGAIN;
	while (n < size && *ret == -EAGAIN) {
		r = wire_http_feed(&t->http, &data[n++], 1);
		if (r < 0) {
			snprintf(t->text, sizeof(t->text),
				 "the proxy did not answer in HTTP (is it an HTTP proxy?)");
			*ret = -EPROTO;
		} else if (t->http.status != 0 && t->http.status / 100 != 2) {
			snprintf(t->text, sizeof(t->text), "the proxy refused: HTTP status %u%s",
				 t->http.status, hint(t->http.status));
			*ret = t->http.status == 401 || t->http.status == 407 ? -EACCES : -EPROTO;
		} else if (t->http.status != 0 && t->http.state > HTTP_HEADERS) {
			*ret = 0;
		}
	}
	return n;
}

static int receive(struct wire_proxy_talk *t, struct wire_sock *s)
{
	char data[1024];
	ssize_t n;
	size_t used;
	int r = -EAGAIN;

	while (r == -EAGAIN) {
		n = wire_sock_peek(s, data, sizeof(data));
		if (n == -EAGAIN)
			return -EAGAIN;
		if (n <= 0) {
			snprintf(t->text, sizeof(t->text), "the proxy %s %s its answer",
				 n == 0 ? "hung up" : "broke the connection",
				 t->n_read == 0 ? "before" : "in the middle of");
			return -EPROTO;
		}
		used = read_header(t, data, (size_t)n, &r);
		/* Cannot fall short: nobody else reads here. */
		if (wire_sock_read(s, data, used) != (ssize_t)used)
			r = -EPROTO;
		t->n_read += used;
		if (r == -EAGAIN && t->n_read >= WIRE_PROXY_HEADER_MAX) {
			snprintf(t->text, sizeof(t->text),
				 "the proxy's answer has more than %d bytes of header",
				 WIRE_PROXY_HEADER_MAX);
			r = -EPROTO;
		}
	}
	explicit_bzero(data, sizeof(data));
	return r;
}

int wire_proxy_step(struct wire_proxy_talk *t, struct wire_sock *s)
{
	ssize_t n;

	while (t->n_sent < t->size) {
		n = wire_sock_write(s, t->bytes + t->n_sent, t->size - t->n_sent);
		if (n == -EAGAIN)
			return -EAGAIN;
		/* A proxy that has hung up may have said why. */
		t->n_sent = n < 0 ? t->size : t->n_sent + (size_t)n;
	}
	s->wants_write = false;
	return receive(t, s);
}
