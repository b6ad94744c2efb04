/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The few things that libwebsockets leaves to be said to OpenSSL, and the sessions of connections
 * that are not its own (wire_sock). Objects come as void pointers so that no other file needs
 * OpenSSL's headers.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Plain HTTP waits for the end of a line that never comes: it cannot be told from a slow server. */
#define WIRE_TLS_ENDED      "the connection ended in the TLS handshake (is this a TLS port?)"
#define WIRE_TLS_NOT_A_BYTE " (not a byte came: is this a TLS port?)"

struct wire_tls_hook {
	/* A handshake starts on socket `fd`. */
	void (*handshake)(void *ctx, void *ssl, int fd);
	/* A TLS alert came or went; `text` says which. `over`: the peer ends the session. */
	void (*alert)(void *ctx, int fd, bool over, const char *text);
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

/* Why verification stopped, with subject and dates of the certificate, and with this machine's date if
 * that is what is wrong; `store_ctx` is the X509_STORE_CTX of the verification callback. */
void wire_tls_verify_text(void *store_ctx, char *text, size_t size);

/* Not one byte has come from the peer. */
bool wire_tls_heard_nothing(void *ssl);

/* The peer has ended the TLS session in order (close_notify). */
bool wire_tls_peer_ended(void *ssl);

/* ---- sessions of our own: the trust is that of the SSL_CTX given to wire_tls_setup() ---- */

/* Why a handshake failed; of what is told first. */
struct wire_tls_text {
	char text[224];
};

/* A client session on the connected socket `fd` (which stays the caller's). `text` is borrowed for
 * its life. Return: the session; NULL without memory or when the name cannot be pinned. */
void *wire_tls_new(void *ssl_ctx, int fd, const char *host, struct wire_tls_text *text);
/* Says goodbye if it can do so at once, and frees. NULL is fine. Returns NULL. */
void *wire_tls_free(void *ssl);

/* Each returns -EAGAIN when the socket is not ready: `ret_write` tells that it must be writable for
 * the call to go on. Other failures: -EPROTO, and the session is of no more use.
 * The handshake returns 0 with a certificate that is trusted; reading 0 at the end that the peer has
 * announced. */
int wire_tls_handshake(void *ssl, bool *ret_write);
ssize_t wire_tls_read(void *ssl, void *data, size_t size, bool *ret_write);
ssize_t wire_tls_write(void *ssl, const void *data, size_t size, bool *ret_write);
