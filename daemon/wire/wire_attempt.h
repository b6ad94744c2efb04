/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where one connection attempt goes: made by M from a wire_target, given to W, freed by W as soon
 * as the handshake is over. Path and headers are secrets.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/secret.h"
#include "wire/resolver.h"
#include "wire/wire.h"

struct wire_proxy;

enum {
	/* libwebsockets cuts the request line at 2048 bytes and the Host line at 128. */
	WIRE_PATH_MAX = 2000,
	WIRE_HOST_MAX = 110,
	WIRE_HEADERS_MAX = 8192,
	WIRE_WHERE_MAX = WIRE_HOST_MAX + 90, /* of wire_attempt_where(), which cuts */
};

struct wire_attempt {
	bool tls;
	uint16_t port;
	uint64_t deadline_ms;           /* CLOCK_MONOTONIC: of the whole attempt */
	uint32_t attempt_ms;            /* for the text */
	const struct wire_proxy *proxy; /* borrowed; NULL: none */
	struct resolver_answer addrs;   /* of the proxy, if there is one */
	struct secret *path;            /* NULL by wire_attempt_to() */
	struct secret *headers;         /* "name: value\r\n" lines; may be empty */
	char host[WIRE_HOST_MAX + 1];
	char authority[WIRE_HOST_MAX +
		       9]; /* host, in brackets if it is IPv6, and :port if unusual */
};

/* Return: 0; -EINVAL when a string cannot be put into a request (empty, too long, control
 * characters, a path without a slash); -ENOMEM. */
int wire_attempt_new(const struct wire_target *target, struct wire_attempt **ret);
/* Only where it goes; path and headers are checked and left to the caller. */
int wire_attempt_to(const struct wire_target *target, size_t headers_max,
		    struct wire_attempt **ret);
struct wire_attempt *wire_attempt_free(struct wire_attempt *a);
DEFINE_CLEANUP(struct wire_attempt, wire_attempt_free);

/* True when all addresses are of this machine (127.0.0.0/8, ::1, also as ::ffff:127.x). */
bool wire_attempt_is_local(const struct wire_attempt *a);

/* The clock of deadline_ms. */
uint64_t wire_now_ms(void);
/* Until the deadline; 0 when it is over. */
uint64_t wire_attempt_left_ms(const struct wire_attempt *a);

/* The address itself, or "localhost": no name service has a say in it. */
bool wire_host_is_local(const char *host);

/* "host port N (address)" of address number `addr`, or "... (proxy host:port)", for people. */
void wire_attempt_where(const struct wire_attempt *a, int addr, char *text, size_t size);

/* Return: false for a name that cannot be put into a request. */
bool wire_host_is_good(const char *host);

/* No line end can get out of it, and, where there may be none, no blank. */
bool wire_text_is_clean(const char *text, bool blank_allowed);
