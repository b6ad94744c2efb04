/* SPDX-License-Identifier: MIT */
#include "ipc/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "ipc/outq.h"
#include "proto/rtbp_frame.h"

enum {
	CONN_READ_CHUNK = 16 * 1024,
	CONN_SCRATCH = 64 * 1024, /* small messages of one write */
	CONN_BURST = 128 * 1024,  /* queued in one turn; more is written before the turn's end */
	/* Enough to make the system call cheap beside its messages; 1 KiB of stack. */
	CONN_IOV_MAX = 64,
};

enum conn_state {
	CONN_OPEN,
	CONN_DRAINING,  /* the client does not read any more; what it sent before is still read */
	CONN_FINISHING, /* the owner has ended it; what is queued is still written */
	CONN_CLOSED,    /* ops->closed is due at the end of this turn, or was called */
};

struct conn {
	struct loop *loop;
	const struct conn_ops *ops;
	void *ctx;
	struct conn_cred cred;
	gid_t *groups; /* of cred */
	enum conn_state state;
	bool paused;
	bool write_full;    /* the kernel takes nothing more: LOOP_WRITE is armed */
	bool timer_running; /* the deadline of a frame, or of the farewell */
	size_t max_queue_bytes;
	struct loop_fd watch;
	struct loop_timer timer; /* made when first needed: an idle conn has none */
	struct loop_task turn;
	struct rtbp_reader in;
	struct outq out;
	char *end_text; /* NULL: there was no memory for it */
};

/* ---- the end ---- */

/* The one door to CLOSED. The socket and the memory go at the end of the turn, because a frame of
 * `in` may be borrowed at this moment. */
static void conn_end(struct conn *c, const char *text)
{
	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	c->end_text = strdup(text);
	loop_task_add(c->loop, &c->turn);
}

static void conn_release(struct conn *c)
{
	loop_timer_done(&c->timer);
	loop_fd_done(&c->watch);
	if (c->watch.fd >= 0)
		close(c->watch.fd);
	c->watch.fd = -1;
	outq_done(&c->out);
	rtbp_reader_done(&c->in);
}

static const char *conn_error_text(int error)
{
	if (error == EPIPE || error == ECONNRESET)
		return "closed by the client";
	return strerror(error);
}

static void conn_on_timer(void *ctx)
{
	struct conn *c = ctx;

	c->timer_running = false;
	conn_end(c, c->state == CONN_FINISHING ? "the client did not read its farewell in time"
					       : "the client left half a frame");
}

static void conn_timer_set(struct conn *c, uint64_t in_ms)
{
	if (!c->timer.event && loop_timer_init(c->loop, &c->timer, conn_on_timer, c) < 0) {
		conn_end(c, "no memory");
		return;
	}
	loop_timer_set(&c->timer, in_ms);
	c->timer_running = true;
}

static void conn_timer_clear(struct conn *c)
{
	if (c->timer_running)
		loop_timer_clear(&c->timer);
	c->timer_running = false;
}

/* ---- watching ---- */

static bool conn_is_reading(const struct conn *c)
{
	return (c->state == CONN_OPEN || c->state == CONN_DRAINING) && !c->paused;
}

/* Brings the descriptor's watch in line with the state. */
static void conn_watch(struct conn *c)
{
	unsigned want = 0;
	int r;

	if (conn_is_reading(c))
		want |= LOOP_READ;
	if (c->write_full && c->state != CONN_CLOSED)
		want |= LOOP_WRITE;
	r = loop_fd_want(&c->watch, want);
	if (r < 0)
		conn_end(c, strerror(-r));
}

/* ---- reading ---- */

/* Return: how many frames came out. */
static unsigned conn_deliver(struct conn *c)
{
	const uint8_t *body;
	unsigned n = 0;
	size_t size;
	int r;

	while (conn_is_reading(c)) {
		r = rtbp_reader_next(&c->in, &body, &size);
		if (r == RTBP_FRAME_NONE)
			break;
		if (r < 0) {
			c->ops->oversize(c->ctx, size);
			/* Nothing behind it can be read: an owner that did not end it is helped. */
			if (c->state == CONN_OPEN || c->state == CONN_DRAINING)
				conn_end(c, "the client sent a frame over the limit");
			break;
		}
		n++;
		c->ops->frame(c->ctx, body, size);
	}
	return n;
}

/* After a round of reading: an idle conn keeps no buffer, half a frame gets a deadline. */
static void conn_settle_input(struct conn *c, unsigned n_frames)
{
	if (c->state != CONN_OPEN && c->state != CONN_DRAINING)
		return;
	if (rtbp_reader_partial(&c->in) == 0) {
		rtbp_reader_done(&c->in);
		conn_timer_clear(c);
	} else if (c->paused) {
		conn_timer_clear(c);
	} else if (n_frames > 0 || !c->timer_running) {
		conn_timer_set(c, CONN_PARTIAL_MS);
	}
}

static void conn_flush(struct conn *c);

/* Nothing more will come: `error` 0 is the end of the stream. */
static void conn_input_ended(struct conn *c, int error)
{
	if (error == 0 && c->state == CONN_OPEN) {
		/* What answers its last frames may still find a reader. */
		conn_flush(c);
	}
	if (error == 0 && rtbp_reader_partial(&c->in) > 0)
		conn_end(c, "closed by the client inside a frame");
	else
		conn_end(c, error ? conn_error_text(error) : "closed by the client");
}

static void conn_read(struct conn *c)
{
	size_t budget = CONN_READ_MAX, size;
	unsigned n_frames = conn_deliver(c);
	uint8_t *room;
	ssize_t n;

	while (budget > 0 && conn_is_reading(c)) {
		room = rtbp_reader_room(&c->in, CONN_READ_CHUNK, &size);
		if (!room) {
			conn_end(c, "no memory");
			break;
		}
		if (size > budget)
			size = budget;
		/* No control buffer: descriptors that a client sends along are closed by the
		 * kernel. */
		n = recv(c->watch.fd, room, size, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (c->state == CONN_DRAINING)
				conn_end(c, "closed by the client");
			break;
		}
		if (n <= 0) {
			conn_input_ended(c, n == 0 ? 0 : errno);
			break;
		}
		rtbp_reader_add(&c->in, (size_t)n);
		budget -= (size_t)n;
		n_frames += conn_deliver(c);
		/* A short read has emptied the socket, mostly; the next turn knows for sure. */
		if ((size_t)n < size && c->state == CONN_OPEN)
			break;
	}
	conn_settle_input(c, n_frames);
}

/* ---- writing ---- */

/* The client takes nothing more. What it sent before may still be waiting in the socket. */
static void conn_output_ended(struct conn *c, int error)
{
	c->write_full = false;
	if (c->state != CONN_OPEN || (error != EPIPE && error != ECONNRESET)) {
		conn_end(c, conn_error_text(error));
		return;
	}
	c->state = CONN_DRAINING;
	outq_done(&c->out);
	loop_task_add(c->loop, &c->turn);
}

static void conn_flush(struct conn *c)
{
	static uint8_t bytes_side_by_side[CONN_SCRATCH]; /* of thread M, as every conn is */
	struct outq_scratch scratch = { bytes_side_by_side, CONN_SCRATCH };
	struct iovec iov[CONN_IOV_MAX];
	struct msghdr msg = { .msg_iov = iov };
	size_t bytes;
	ssize_t n;

	c->write_full = false;
	while (c->out.n > 0 && !c->write_full) {
		msg.msg_iovlen = outq_peek(&c->out, &scratch, iov, CONN_IOV_MAX, &bytes);
		n = sendmsg(c->watch.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			conn_output_ended(c, errno);
			break;
		}
		if (n >= 0)
			outq_consume(&c->out, (size_t)n);
		c->write_full = n < 0 || (size_t)n < bytes;
	}
}

/* ---- the turn ---- */

static void conn_report(struct conn *c)
{
	const char *text = c->end_text ? c->end_text : "no memory";

	/* Nothing queues it again: every way there is barred by CLOSED. */
	loop_task_cancel(c->loop, &c->turn);
	conn_release(c);
	c->ops->closed(c->ctx, text); /* may free */
}

/* The end of a turn in which something happened: frames that waited for a resume, then one write of
 * all that was queued, then the end if it has come. */
static void conn_on_turn(void *ctx)
{
	struct conn *c = ctx;

	if (c->state == CONN_OPEN && rtbp_reader_partial(&c->in) > 0)
		conn_settle_input(c, conn_deliver(c));
	if ((c->state == CONN_OPEN || c->state == CONN_FINISHING) && !c->write_full)
		conn_flush(c);
	if (c->state == CONN_DRAINING)
		conn_read(c);
	if (c->state == CONN_FINISHING)
		rtbp_reader_done(&c->in);
	if (c->state == CONN_FINISHING && c->out.n == 0)
		conn_end(c, "closed by the bridge");
	else if (c->state == CONN_FINISHING && !c->timer_running)
		conn_timer_set(c, CONN_FINISH_MS);
	conn_watch(c);
	if (c->state == CONN_CLOSED)
		conn_report(c);
}

static void conn_on_ready(void *ctx, int fd, unsigned ready)
{
	struct conn *c = ctx;

	(void)fd;
	if (ready & LOOP_WRITE)
		c->write_full = false;
	else if (c->state == CONN_OPEN && !c->paused)
		conn_read(c);
	loop_task_add(c->loop, &c->turn);
}

/* ---- the calls of the owner ---- */

int conn_new(struct loop *loop, int fd, const struct conn_cred *cred, size_t max_frame_bytes,
	     size_t max_queue_bytes, const struct conn_ops *ops, void *ctx, struct conn **ret)
{
	struct conn *c = calloc(1, sizeof(*c));
	int r;

	if (c && cred->n_groups > 0)
		c->groups = calloc(cred->n_groups, sizeof(*c->groups));
	if (!c || (cred->n_groups > 0 && !c->groups)) {
		free(c);
		close(fd);
		return -ENOMEM;
	}
	c->loop = loop;
	c->ops = ops;
	c->ctx = ctx;
	c->cred = *cred;
	c->cred.groups = c->groups;
	if (cred->n_groups > 0)
		memcpy(c->groups, cred->groups, cred->n_groups * sizeof(*c->groups));
	c->max_queue_bytes = max_queue_bytes;
	c->turn = (struct loop_task){ .fn = conn_on_turn, .ctx = c };
	rtbp_reader_init(&c->in, max_frame_bytes);
	r = loop_fd_init(loop, &c->watch, fd, conn_on_ready, c);
	if (r == 0)
		r = loop_fd_want(&c->watch, LOOP_READ);
	if (r < 0) {
		conn_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct conn *conn_free(struct conn *c)
{
	if (c) {
		loop_task_cancel(c->loop, &c->turn);
		conn_release(c);
		free(c->end_text);
		free(c->groups);
		free(c);
	}
	return NULL;
}

const struct conn_cred *conn_get_cred(const struct conn *c)
{
	return &c->cred;
}

size_t conn_queued_bytes(const struct conn *c)
{
	return c->out.cost;
}

int conn_send(struct conn *c, struct blob *blob)
{
	size_t cost = outq_cost_of(blob);

	/* A burst of one turn is no proof that the client does not read: it gets the chance to. */
	if (c->state == CONN_OPEN && c->out.n > 0 &&
	    c->out.cost + cost > (c->write_full ? c->max_queue_bytes : CONN_BURST))
		conn_flush(c);
	if (c->state != CONN_OPEN)
		return CONN_E_CLOSED;
	if (c->out.n > 0 && (cost > c->max_queue_bytes || c->out.cost > c->max_queue_bytes - cost))
		return CONN_E_FULL;
	if (outq_push(&c->out, blob) < 0)
		return -ENOMEM;
	if (!c->write_full)
		loop_task_add(c->loop, &c->turn);
	return 0;
}

void conn_pause(struct conn *c, bool paused)
{
	if (c->paused == paused || !(c->state == CONN_OPEN || c->state == CONN_DRAINING))
		return;
	c->paused = paused;
	if (paused)
		conn_timer_clear(c);
	loop_task_add(c->loop, &c->turn);
}

void conn_finish(struct conn *c, struct blob *farewell, bool drop)
{
	if (c->state == CONN_DRAINING)
		conn_end(c, "closed by the client");
	if (c->state != CONN_OPEN)
		return;
	c->state = CONN_FINISHING;
	conn_timer_clear(c);
	if (drop)
		outq_drop(&c->out);
	/* Without memory there is no farewell, and the end is the same. */
	if (farewell)
		(void)outq_push(&c->out, farewell);
	loop_task_add(c->loop, &c->turn);
}

void conn_abort(struct conn *c, const char *text)
{
	conn_end(c, text);
}
