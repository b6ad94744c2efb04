/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One TCP connection, with TLS or without. It never blocks; who polls it is another's business.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/wire_tls.h"

enum { WIRE_SOCK_UNSENT = 32 * 1024 }; /* bytes that the kernel may hold back for later */

struct wire_sock {
	int fd; /* -1: none */
	void *tls;
	/* What the last call waits for when it returned -EAGAIN: else for reading. */
	bool wants_write;
	struct wire_tls_text tls_text;
};

/* Starts to connect to a numeric address. `tcp_ms`: a peer whose kernel acknowledges nothing for so
 * long is gone (0: as long as the system likes). Return: 0, wait until it is writable; a negative
 * errno. */
int wire_sock_connect(struct wire_sock *s, const char *addr, uint16_t port, uint32_t tcp_ms);
/* Return: 0 when it is connected; -EAGAIN; a negative errno. */
int wire_sock_connected(struct wire_sock *s);
/* Return: 0; -ENOMEM. */
int wire_sock_tls_start(struct wire_sock *s, void *ssl_ctx, const char *host);
/* Return: 0 when the server's certificate is trusted; -EAGAIN; -EPROTO, see tls_text. */
int wire_sock_tls_step(struct wire_sock *s);

/* Return: bytes (0 from reading: the peer ended it in order); -EAGAIN; another negative errno when
 * the connection is broken. After a write that is broken reading may still find what came before. */
ssize_t wire_sock_read(struct wire_sock *s, void *data, size_t size);
/* Without TLS only: the bytes stay there to be read. */
ssize_t wire_sock_peek(struct wire_sock *s, void *data, size_t size);
ssize_t wire_sock_write(struct wire_sock *s, const void *data, size_t size);

/* The peer has ended the connection, and all that it sent before has been read. */
bool wire_sock_fd_ended(int fd);

/* Ends TLS. The descriptor is left to `ret_fd`, or closed if that is NULL. */
void wire_sock_done(struct wire_sock *s, int *ret_fd);
