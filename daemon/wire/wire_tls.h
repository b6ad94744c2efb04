/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The few things that libwebsockets leaves to be said to OpenSSL. Objects come as void pointers so
 * that no other file needs OpenSSL's headers.
 */
#include <stdbool.h>
#include <stddef.h>

struct wire_tls_hook {
	/* A handshake starts on socket `fd`. */
	void (*handshake)(void *ctx, void *ssl, int fd);
	/* A TLS alert came or went; `text` says which. */
	void (*alert)(void *ctx, int fd, const char *text);
	void *ctx;
};

/* Sets the lowest version and who hears of handshakes. `ssl_ctx` is the SSL_CTX of all client
 * connections; the hook is borrowed for its life. (The info callback that libwebsockets 4.1.6
 * offers crashes on client connections: it takes another object for its context.) */
void wire_tls_setup(void *ssl_ctx, const struct wire_tls_hook *hook);

/* Sets SNI and the name that the certificate must carry, at the handshake's start. libwebsockets
 * takes both from the Host header, cut at 127 bytes and at the first colon, which turns an IPv6
 * address into an empty name that OpenSSL does not check at all.
 * Return: false when OpenSSL did not take it: then the handshake must not go on. */
bool wire_tls_pin_name(void *ssl, const char *host);

/* Why verification stopped, with subject and dates of the certificate; `store_ctx` is the
 * X509_STORE_CTX of the verification callback. */
void wire_tls_verify_text(void *store_ctx, char *text, size_t size);

/* The peer has ended the TLS session in order (close_notify). */
bool wire_tls_peer_ended(void *ssl);
