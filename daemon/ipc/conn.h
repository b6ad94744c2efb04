/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * conn: one attached process on the wire side. Frames in, references to shared blobs out.
 *
 *     readable -> rtbp_reader -> ops->frame (whole bodies, at most CONN_READ_MAX bytes a turn)
 *     conn_send(blob) -> ring of references -> one sendmsg of many iovecs at the end of the turn
 *
 * It knows no messages, no topics, no policy. The queue is bounded in bytes: conn_send() says when
 * it is over the limit, and the peer above decides. States:
 *
 *     OPEN ---- conn_finish() ---> FINISHING (reads nothing; writes the rest, for CONN_FINISH_MS)
 *      | \                             |
 *      |  -- the client is gone ----> DRAINING (writes nothing; reads what it had sent before)
 *      |                               |
 *      `-- end of stream, error, -----> CLOSED
 *          conn_abort()
 *
 * A client that shuts down its sending side has left: there is no half-open conversation. Whole
 * frames that it sent before are delivered first. A frame that has begun must be whole within
 * CONN_PARTIAL_MS; the time during which the conn is paused does not count.
 *
 * ops->closed comes exactly once, at the end of a turn, never inside a conn_*() call; the owner
 * frees then or later.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/blob.h"

struct conn;
struct loop;

enum {
	CONN_E_FULL = 1,   /* over the limit: nothing was queued */
	CONN_E_CLOSED = 2, /* not OPEN any more: nothing was queued */
};

enum {
	CONN_READ_MAX =
		64 *
		1024, /* bytes read from one peer in one turn, so that none starves the others */
	CONN_FINISH_MS = 10000,  /* how long a farewell may wait for its reader */
	CONN_PARTIAL_MS = 10000, /* how long a frame may take: half a frame holds memory */
};

struct conn_cred {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* for people only: it may be reused */
	/* Its further groups at the moment when it connected; borrowed for a call, or of the conn.
	 */
	const gid_t *groups;
	size_t n_groups;
};

struct conn_ops {
	/* One whole frame body, borrowed for the call. The callee may conn_send/finish/abort. */
	void (*frame)(void *ctx, const uint8_t *body, size_t size);
	/* The stream cannot be read on: a frame claims to be `size` bytes long. The callee says
	 * farewell. */
	void (*oversize)(void *ctx, size_t size);
	/* The end, once. `text`: one line for the log ("closed by the client", "connection reset").
	 */
	void (*closed)(void *ctx, const char *text);
};

/**
 * conn_new() - take over an accepted socket
 * @fd:              non-blocking; given: closed by the conn, also on error
 * @cred:            copied, groups too
 * @max_frame_bytes: largest frame accepted
 * @max_queue_bytes: limit of the out queue; one message larger than that is taken when the queue is
 * empty
 *
 * Return: 0; -ENOMEM, or -ENOSPC when the kernel watches no more descriptors.
 */
int conn_new(struct loop *loop, int fd, const struct conn_cred *cred, size_t max_frame_bytes,
	     size_t max_queue_bytes, const struct conn_ops *ops, void *ctx, struct conn **ret);
/* Closes without a further ops call. Not inside ops->frame or ops->oversize of the same conn;
 * ops->closed may free. NULL is fine. Returns NULL. */
struct conn *conn_free(struct conn *c);

/* For as long as the conn lives. */
const struct conn_cred *conn_get_cred(const struct conn *c);
/* What the kernel has not yet taken, with a fixed cost per message on top (ipc/outq.h): the figure
 * that the limit is held against. */
size_t conn_queued_bytes(const struct conn *c);

/* Queues one reference (the caller keeps its own). Return: 0; CONN_E_FULL; CONN_E_CLOSED; -ENOMEM.
 */
int conn_send(struct conn *c, struct blob *blob);

/* Stops or resumes reading (the kernel's buffer then slows the client down). While paused no frame
 * is delivered, not even one that was read already, and a client that leaves is noticed only
 * afterwards: who pauses must resume or end. Resuming delivers at the end of the turn, not inside
 * this call. */
void conn_pause(struct conn *c, bool paused);

/*
 * Ends the conversation in order: what is queued is written first, then `farewell` (may be NULL;
 * the caller keeps its reference), then the socket is closed. With `drop` everything queued is
 * dropped except the rest of a frame that is half written: for a reader that does not read.
 */
void conn_finish(struct conn *c, struct blob *farewell, bool drop);
/* Ends it at once. */
void conn_abort(struct conn *c, const char *text);
