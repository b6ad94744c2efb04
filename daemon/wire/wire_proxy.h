/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The words with an HTTP proxy in front of a connection: CONNECT and its answer. Not one byte behind
 * the answer's header is taken: they belong to what is connected.
 */
#include <stddef.h>
#include <stdint.h>

#include "wire/wire_http.h"
#include "wire/wire_sock.h"

struct secret;
struct wire_attempt;

/* All borrowed for the wire's life. */
struct wire_proxy {
	const char *host; /* name or numeric address, no brackets */
	uint16_t port;
	const struct secret *auth; /* USER:PASSWORD; NULL: none */
};

enum {
	WIRE_PROXY_HEADER_MAX = 16384, /* of its answer */
	WIRE_PROXY_AUTH_MAX = 4096,
};

struct wire_proxy_talk {
	char *bytes; /* the request, with the password; never in a core dump, wiped */
	size_t size, n_sent;
	size_t n_read;
	struct wire_http http;
	char text[128]; /* what went wrong, for people; nothing of what it sent */
};

/* All zeros before, and after wire_proxy_done(). Return: 0; -ENOMEM. */
int wire_proxy_begin(struct wire_proxy_talk *t, const struct wire_proxy *proxy,
		     const struct wire_attempt *to);
/* Goes on as far as the socket allows. Return: 0: what follows is spoken with the target; -EAGAIN
 * (s->wants_write tells for what); see text: -EACCES when it wants a user and password, or others;
 * -EPROTO. */
int wire_proxy_step(struct wire_proxy_talk *t, struct wire_sock *s);
void wire_proxy_done(struct wire_proxy_talk *t);
