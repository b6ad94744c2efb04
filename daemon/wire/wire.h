/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * wire: the network thread: WebSockets, and single HTTP requests. Knows addresses, TLS and bytes;
 * no topics, no peers, no policy.
 *
 *   thread M (libevent)              thread R (getaddrinfo)     thread W (libwebsockets)
 *   wire_open ---> resolver ----------> lookup
 *                  resolver <---------- addresses
 *   mbox down: OPEN SEND CLOSE RESUME POST ------------------> lws_cancel_service, wsi
 *   wire_dispatch <--- eventfd <----- mbox up: OPENED MESSAGE CLOSED ANSWERED, callbacks
 *
 * Everything here is called on M; nothing here blocks M except wire_free() (bounded). Items are
 * given, never shared; they carry link and epoch, and wire_dispatch() drops those of an epoch that
 * M has ended. Wakes are hints: both sides drain everything they find.
 *
 * A link is a small number chosen by the caller (0 .. WIRE_MAX_LINKS-1); an epoch names one
 * connection attempt of it and grows with each wire_open(). For each successful wire_open() there
 * is exactly one ops->closed(), preceded by at most one ops->opened(); nothing of that epoch comes
 * after closed().
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct secret;
struct wire;

enum {
	WIRE_MAX_LINKS = 16,
	WIRE_PRE = 16, /* bytes in front of every outgoing payload that belong to wire (LWS_PRE) */
	/* In flight at a time: the hub's eight, and one for the daemon's token. */
	WIRE_MAX_POSTS = 9,
	WIRE_POST_MAX_BYTES = 5000000, /* of a request's body */
	WIRE_SMALL_BYTES = 512,    /* a message that finds room for an eighth longer: a heartbeat */
	WIRE_ANSWER_BYTES = 16384, /* of an answer's body that are kept, unless asked for more */
	WIRE_ANSWER_MAX_BYTES = 262144, /* at most */
};

/* Conditions (positive results). */
enum {
	WIRE_E_BUSY =
		1, /* the mailbox to W, or the link's part of it, is full, or WIRE_MAX_POSTS are in flight: try later */
	WIRE_E_CLOSED, /* the link has no open connection with this epoch */
};

/* Why a connection ended, or never came to be. */
enum wire_why {
	WIRE_BY_US,   /* wire_close() was called */
	WIRE_BY_PEER, /* a close frame came: close_code (1005 when it was empty; libwebsockets 4.1.6
			 writes 1002 over less than 1000, 1004 to 1006 and 1012 to 2999, in the only
			 buffer that it shows, before it shows it) */
	WIRE_LOST,    /* TCP or TLS ended without a close frame */
	WIRE_DNS,     /* the name, or the proxy's, did not resolve, or not in time */
	WIRE_CONNECT, /* refused, unreachable, timed out (all addresses); or the proxy refused, did
			 not answer, or not in HTTP: the text begins with "the proxy" then, behind
			 where it was to go */
	WIRE_PROXY_AUTH, /* the proxy wants a user and password, or others (407, 401) */
	WIRE_TLS,        /* handshake or certificate: text has OpenSSL's reason */
	WIRE_HTTP,       /* an answer other than 101: http_status, retry_after_s, text has the start
			 of what came of the body together with the header */
	WIRE_HANDSHAKE,  /* connected, but no (valid) upgrade answer within the limit; or the
			   connection ended before, be it in the TLS handshake */
	WIRE_TOO_BIG,    /* a message over max_message_bytes (we close with 1009) */
	WIRE_PROTOCOL,   /* the peer broke the WebSocket protocol */
	WIRE_INSECURE,   /* ws:// or http:// to an address that is not loopback, or through a proxy
			   that is not, and not allowed */
};

struct wire_end {
	enum wire_why why;
	uint16_t close_code;    /* WIRE_BY_PEER, else 0 */
	uint16_t http_status;   /* WIRE_HTTP, else 0 */
	uint32_t retry_after_s; /* WIRE_HTTP with Retry-After, else 0 */
	bool was_open;          /* opened() had been called */
	char text[256]; /* one line for people: what was tried (host, address), what happened; no
			   secrets */
};

/* Where to connect. All strings are borrowed for the call. `path` contains the API key: wire copies
 * it into memory that is neither dumped nor swapped and wipes every copy that it makes. */
struct wire_target {
	bool tls;
	const char *host; /* name or numeric address, no brackets; SNI, Host header, certificate
			     check */
	uint16_t port;
	const char *path;           /* path and query */
	const char *const *headers; /* "x-name: value" lines, NULL-terminated, may be NULL */
};

/* One POST. Everything is borrowed for the call; wire's copies of target, headers and body are kept
 * out of core dumps and wiped. The headers may be up to 24 KiB in all; host, connection,
 * content-type, content-length, transfer-encoding and expect are wire's own and may not be among
 * them. */
struct wire_post {
	struct wire_target target;
	const char *content_type;
	const void *body;
	size_t size;         /* up to WIRE_POST_MAX_BYTES */
	uint32_t timeout_ms; /* for all of it: name, connections, TLS, request, answer */
	size_t answer_bytes; /* of the answer's body that are kept; 0: WIRE_ANSWER_BYTES */
};

/*
 * What became of a POST. With a status the server has answered, whatever happened to the rest of
 * its answer (cut off, endless, too slow, garbage); why is WIRE_HTTP then. Without one:
 *
 *   WIRE_DNS, WIRE_CONNECT, WIRE_PROXY_AUTH, WIRE_TLS, WIRE_INSECURE   never was_sent
 *   WIRE_HANDSHAKE   no answer in timeout_ms (not was_sent: TLS did not come about in that time)
 *   WIRE_LOST        the connection ended before an answer (not was_sent: it had just come about, or
 *                    TLS had not)
 *   WIRE_HTTP        what came is not HTTP
 *
 * An answer may come before all of the request is sent: what is not a 2xx stops the sending.
 */
struct wire_answer {
	enum wire_why why;
	/* False: not one byte of the request can have reached the server's HTTP, so that trying
	 * again cannot do anything twice. True when in doubt. */
	bool was_sent;
	uint16_t status;        /* 0: none came. Never 100, 102 to 199 */
	uint32_t retry_after_s; /* Retry-After in seconds (at most a day), else 0 */
	const char *body; /* its first answer_bytes; it may hold secrets: wiped after the call */
	size_t size;
	bool whole;     /* this is all of the body, and it came in order */
	char text[256]; /* one line for people, as in wire_end; nothing of the body */
};

struct wire_conf {
	const char *ca_file;      /* PEM; NULL: /etc/ssl/certs/ca-certificates.crt */
	bool allow_insecure;      /* ws:// to any address */
	size_t max_message_bytes; /* reassembled size of a received message */
	size_t up_bytes;          /* mailbox W to M: full means W stops reading */
	size_t down_bytes;        /* mailbox M to W: full means WIRE_E_BUSY */
	size_t link_bytes; /* of these, for one link: WIRE_E_BUSY beyond it (one message always goes);
			      0: no limit of its own */
	/* Limits: name, the last address of an attempt (others have less, so that a few that do not
	 * answer cost a second more than one does), whole attempt. */
	uint32_t dns_ms, connect_ms, attempt_ms;
	uint32_t
		tcp_ms; /* bytes that nobody acknowledges, and silence of the peer's kernel: dead after
			    this (TCP_USER_TIMEOUT and keepalive) */
	/* An HTTP proxy: everything goes through CONNECT there, and it looks the names up. Copied. NULL
	 * host: none. */
	const char *proxy_host;
	uint16_t proxy_port;
	const struct secret *proxy_auth; /* "USER:PASSWORD"; NULL: none */
};

/* Calls from wire_dispatch(), on M. Pointers are borrowed for the call. They may call wire_*()
 * except wire_free(). */
struct wire_ops {
	void (*opened)(void *ctx, unsigned link, uint64_t epoch);
	void (*message)(void *ctx, unsigned link, uint64_t epoch, bool binary, const uint8_t *data,
			size_t size);
	void (*closed)(void *ctx, unsigned link, uint64_t epoch, const struct wire_end *end);
	void (*answered)(void *ctx, uint64_t id, const struct wire_answer *answer);
};

/**
 * wire_new() - create the context and start W and R
 *
 * Return: 0; a negative errno (context, thread or eventfd could not be made; text in the log).
 */
int wire_new(const struct wire_conf *conf, const struct wire_ops *ops, void *ctx,
	     struct wire **ret);

/* Closes all, waits at most 2 s for W (then leaves it behind), frees. NULL is fine. Returns NULL.
 */
struct wire *wire_free(struct wire *w);

/* Readable when wire_dispatch() has work; stays the same for the wire's life. */
int wire_fd(const struct wire *w);

/* Drains what W sent. Call when wire_fd() is readable. */
void wire_dispatch(struct wire *w);

/**
 * wire_open() - start a connection attempt on a link that has none
 * @epoch: larger than any epoch used on that link before
 *
 * A name is looked up first; its addresses (six at most) are tried one after the other: what worked
 * in the last ten minutes first, what did not last. When the lookup fails, the addresses of the last
 * good lookup of that name serve for an hour.
 *
 * Return: 0; -ENOMEM; -EBUSY when the link still has a connection; -EINVAL when the target cannot
 * be put into a request (host over 110 bytes, path without a slash or over 2000 bytes, blanks or
 * control characters, header lines over 8 KiB in all).
 */
int wire_open(struct wire *w, unsigned link, uint64_t epoch, const struct wire_target *target);

/**
 * wire_send() - give one message to W
 *
 * The bytes are copied; the copy is wiped after sending (they may hold a token). Messages of one
 * link leave in the order of the calls.
 *
 * Return: 0; WIRE_E_BUSY; WIRE_E_CLOSED; -ENOMEM. Nothing is sent unless 0.
 */
int wire_send(struct wire *w, unsigned link, uint64_t epoch, bool binary, const void *data,
	      size_t size);

/* Ends the connection or attempt: a close frame with `code` when open. ops->closed(WIRE_BY_US)
 * follows, within about 2 s, and nothing else of this epoch. What was given to wire_send() before
 * is still written first, as far as the peer takes it within 1 s. */
void wire_close(struct wire *w, unsigned link, uint64_t epoch, uint16_t code);

/**
 * wire_post() - send one HTTP request, on a connection of its own
 * @id: the caller's; ops->answered() gives it back
 *
 * For each successful call there is exactly one ops->answered(), from wire_dispatch(), unless
 * wire_free() comes first. Addresses, TLS and the refusal of unencrypted ways are those of
 * wire_open(). No redirect is followed. The bodies count in no mailbox: they never make
 * wire_send() busy.
 *
 * Return: 0; WIRE_E_BUSY when WIRE_MAX_POSTS are in flight; -ENOMEM; -EINVAL when it cannot be put
 * into a request: as for wire_open(), or a header's name is no HTTP token or wire's own, the body
 * is too long, the content type has control characters, timeout_ms is 0, answer_bytes is over
 * WIRE_ANSWER_MAX_BYTES.
 */
int wire_post(struct wire *w, uint64_t id, const struct wire_post *post);

/* Counters for status and metrics; readable on M at any time. */
struct wire_stats {
	uint64_t bytes_in, bytes_out, messages_in, messages_out;
	size_t up_queued, down_queued; /* bytes waiting in the mailboxes now */
	uint64_t pauses;               /* how often W had to stop reading */
};
void wire_get_stats(const struct wire *w, struct wire_stats *ret);
