/* SPDX-License-Identifier: MIT */
/*
 * The client's life and its attachment:
 *
 *     WAITING --attach_at--> HELLO --answer--> ATTACHED
 *        ^  connect failed     |                   |
 *        +---------------------+-------------------+   the daemon went away: rtbc_detach()
 *                              |                   |
 *                              +--> FAILED <-------+   refused for good, or options.once
 *
 * One epoll descriptor holds the socket (which changes) and a timer (which does not), so that a
 * loop has one descriptor to watch for the client's whole life, and misses no retry even if it
 * forgets about rtb_client_timeout_ms().
 */
#include "libclient/client.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int64_t rtbc_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t rtbc_wall_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int rtbc_fail(struct rtb_client *c, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->error_text, sizeof(c->error_text), fmt, ap);
	va_end(ap);
	return error;
}

int rtbc_check_attached(struct rtb_client *c)
{
	if (c->phase == RTBC_FAILED)
		return RTB_E_FAILED; /* keeps the text of what failed */
	if (c->phase != RTBC_ATTACHED) {
		if (!c->error_text[0])
			return rtbc_fail(c, RTB_E_DETACHED, "not attached to %s yet", c->path);
		/* keeps the text of the last detachment */
		return c->waits_for_token ? RTB_E_TOKEN : RTB_E_DETACHED;
	}
	return 0;
}

void rtbc_copy(char *to, size_t size, struct rtbp_str from)
{
	size_t n = from.size;

	if (n > size - 1) {
		n = size - 1;
		while (n > 0 && ((unsigned char)from.p[n] & 0xc0) == 0x80)
			n--;
	}
	if (n)
		memcpy(to, from.p, n);
	to[n] = '\0';
}

/* ---- time ---- */

static int64_t earlier(int64_t a, int64_t b)
{
	if (a < 0 || b < 0)
		return a < 0 ? b : a;
	return a < b ? a : b;
}

static int64_t next_deadline(const struct rtb_client *c)
{
	int64_t at = c->kick_at;

	if (c->phase == RTBC_WAITING && !c->waits_for_token)
		at = earlier(at, c->attach_at);
	else if (c->phase == RTBC_HELLO)
		at = earlier(at, c->hello_by);
	return c->phase == RTBC_FAILED ? -1 : at;
}

static void arm_timer(struct rtb_client *c)
{
	int64_t at = next_deadline(c);
	struct itimerspec ts = { 0 };

	if (at == c->armed_at)
		return;
	if (at >= 0) {
		ts.it_value.tv_sec = at / 1000;
		ts.it_value.tv_nsec = at % 1000 * 1000000;
		if (at == 0)
			ts.it_value.tv_nsec = 1; /* 0 would disarm */
	}
	/* Cannot fail with these arguments. Setting also clears what has expired. */
	(void)timerfd_settime(c->timer_fd, TFD_TIMER_ABSTIME, &ts, NULL);
	c->armed_at = at;
}

void rtbc_kick(struct rtb_client *c, int64_t ms)
{
	c->kick_at = earlier(c->kick_at, rtbc_now_ms() + ms);
	if (!c->in_process)
		arm_timer(c);
}

/* Full jitter, so that a restarted daemon is not met by all its clients at once. */
static int64_t backoff_ms(struct rtb_client *c)
{
	int64_t most = RTBC_BACKOFF_FIRST_MS;

	for (unsigned i = 0; i < c->n_attempts && most < RTBC_BACKOFF_CAP_MS; i++)
		most *= 2;
	if (most > RTBC_BACKOFF_CAP_MS)
		most = RTBC_BACKOFF_CAP_MS;
	c->n_attempts++;
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return (int64_t)(c->random % (uint64_t)(most + 1));
}

/* ---- new and free ---- */

int rtb_default_socket(char *buf, size_t size)
{
	const char *env = getenv("RTBRIDGE_SOCKET"), *run = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;

	if (env && *env) {
		n = snprintf(buf, size, "%s", env);
	} else {
		n = run && *run ? snprintf(buf, size, "%s/rtbridge/rtbridge.sock", run) : 0;
		if (n <= 0 || (size_t)n >= size || stat(buf, &st) != 0)
			n = snprintf(buf, size, "/run/rtbridge/rtbridge.sock");
	}
	return (size_t)n < size ? n : -ENAMETOOLONG;
}

static int read_options(const struct rtb_options *options, struct rtb_options *ret)
{
	*ret = (struct rtb_options)RTB_OPTIONS_INIT;
	if (!options)
		return 0;
	if (options->size < offsetof(struct rtb_options, once))
		return -EINVAL;
	/* A caller with a later header may have more fields than this library knows. */
	memcpy(ret, options, options->size < sizeof(*ret) ? options->size : sizeof(*ret));
	return 0;
}

static int dup_text(const char *text, char **ret)
{
	if (!text)
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int open_descriptors(struct rtb_client *c)
{
	struct epoll_event ev = { .events = EPOLLIN };

	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll_fd < 0)
		return -errno;
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timer_fd < 0)
		return -errno;
	if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->timer_fd, &ev) < 0)
		return -errno;
	return 0;
}

static void free_parts(struct rtb_client *c)
{
	rtbc_pending_drop_all(c);
	rtbc_subs_free(c);
	rtbc_tracks_free(c);
	rtbc_tokens_free(c);
	rtbp_reader_done(&c->reader);
	rtbc_out_wipe(c);
	rtbp_buf_done(&c->out);
	if (c->fd >= 0)
		(void)close(c->fd);
	if (c->timer_fd >= 0)
		(void)close(c->timer_fd);
	if (c->epoll_fd >= 0)
		(void)close(c->epoll_fd);
	free(c->path);
	free(c->name);
	free(c->version);
	free(c);
}

/* Without randomness, in the first second of a machine: the process, the moment, the place. */
static uint64_t make_seed(const struct rtb_client *c)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return ((uint64_t)ts.tv_sec << 32 | (uint64_t)ts.tv_nsec) ^ (uint64_t)c->pid << 40 ^
	       (uint64_t)(uintptr_t)c << 8;
}

static void init(struct rtb_client *c, const struct rtb_options *o)
{
	uint64_t seeds[2] = { 0, 0 };

	c->handlers = o->handlers;
	c->user = o->user;
	c->queue_limit = o->send_queue_bytes ? o->send_queue_bytes : RTBC_SEND_QUEUE;
	c->once = o->once;
	c->pid = getpid();
	c->epoll_fd = c->timer_fd = c->fd = -1;
	c->hello_by = c->attached_at = c->kick_at = c->armed_at = -1;
	c->attach_at = rtbc_now_ms();
	c->next_id = 1;
	c->frame_limit = RTBP_FRAME_MAX_UP;
	rtbp_reader_init(&c->reader, RTBP_FRAME_MAX_DOWN);
	c->payload_limit = SIZE_MAX;
	c->lost_at = -1;
	TAILQ_INIT(&c->pending);
	TAILQ_INIT(&c->lost);
	TAILQ_INIT(&c->topics);
	TAILQ_INIT(&c->dirty);
	TAILQ_INIT(&c->trackers);
	TAILQ_INIT(&c->tokens);
	TAILQ_INIT(&c->tokens_told);
	for (size_t i = 0; i < RTBC_BUCKETS; i++)
		TAILQ_INIT(&c->pending_by_id[i]);
	if (getrandom(&c->random, sizeof(c->random), GRND_NONBLOCK) != sizeof(c->random))
		c->random = (uint64_t)rtbc_now_ms() * 2654435761u + (uint64_t)c->pid;
	c->random |= 1; /* the generator would stay at 0 */
	/* Other clients of this user have other names: never what c->random makes of the clock. */
	if (getrandom(seeds, sizeof(seeds), GRND_NONBLOCK) != sizeof(seeds))
		seeds[0] = make_seed(c);
	(void)snprintf(c->name_prefix, sizeof(c->name_prefix), "%016" PRIx64 "-", seeds[0]);
	c->hash_seed = seeds[1];
}

int rtb_client_new(const struct rtb_options *options, struct rtb_client **ret)
{
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct rtb_options o;
	struct rtb_client *c;
	int r;

	r = read_options(options, &o);
	if (r < 0)
		return r;
	if (!o.socket_path) {
		r = rtb_default_socket(path, sizeof(path));
		if (r < 0)
			return r;
		o.socket_path = path;
	}
	if (strlen(o.socket_path) >= sizeof(path))
		return -ENAMETOOLONG;
	if (!*o.socket_path)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	init(c, &o);
	r = dup_text(o.socket_path, &c->path);
	if (r == 0)
		r = dup_text(o.name ? o.name : program_invocation_short_name, &c->name);
	if (r == 0)
		r = dup_text(o.version, &c->version);
	if (r == 0)
		r = rtbc_tokens_init(c, o.token);
	if (r == 0)
		r = open_descriptors(c);
	if (r < 0) {
		free_parts(c);
		return r;
	}
	arm_timer(c); /* due at once: the first rtb_client_process() connects */
	*ret = c;
	return 0;
}

struct rtb_client *rtb_client_free(struct rtb_client *c)
{
	if (!c)
		return NULL;
	if (c->in_callback)
		return c;
	c->phase = RTBC_FAILED;
	if (c->pid == getpid()) { /* in a child of fork() the results are the parent's */
		(void)rtbc_fail(c, 0, "the client was freed");
		rtbc_pending_end_all(c, false); /* the phase says that no other one comes */
	}
	free_parts(c);
	return NULL;
}

int rtbc_flush(struct rtb_client *c)
{
	int r = rtbc_tokens_flush(c);

	if (r == 0)
		r = rtbc_lost_flush(c);
	if (r == 0)
		r = rtbc_subs_flush(c);
	return r < 0 ? r : rtbc_tracks_flush(c);
}

void rtbc_flush_now(struct rtb_client *c)
{
	/* A full queue empties by itself and the socket says so; memory does not. */
	if (c->phase == RTBC_ATTACHED && rtbc_flush(c) == -ENOMEM)
		rtbc_kick(c, RTBC_NOMEM_RETRY_MS);
}

/* ---- the phases ---- */

static void tell_state(struct rtb_client *c, enum rtb_state state, int why)
{
	c->last_why = why;
	if (!c->handlers.state)
		return;
	rtbc_enter(c);
	c->handlers.state(c, state, why, c->user);
	rtbc_leave(c);
}

void rtbc_detach(struct rtb_client *c, int why, bool is_final)
{
	bool was_attached = c->phase == RTBC_ATTACHED;
	int64_t now = rtbc_now_ms();

	rtbc_disconnect(c);
	if (was_attached && now - c->attached_at >= RTBC_STABLE_MS)
		c->n_attempts = 0;
	is_final = is_final || c->once;
	c->phase = is_final ? RTBC_FAILED : RTBC_WAITING;
	c->attach_at = now + backoff_ms(c);
	rtbc_tokens_on_detach(c);
	if (was_attached) {
		rtbc_lost_on_detach(c);
		rtbc_subs_on_detach(c);
		rtbc_tracks_on_detach(c);
	}
	/* Attempts that fail like the one before are not told again. */
	if (is_final || was_attached || why != c->last_why)
		tell_state(c, is_final ? RTB_FAILED : RTB_ATTACHING, why);
	rtbc_pending_end_all(c, true);
	rtbc_tokens_report(c);
	rtbc_subs_report(c);
	rtbc_tracks_report(c);
}

void rtbc_on_hello(struct rtb_client *c, struct rtbp_val result)
{
	uint64_t limit;

	c->heard_at = rtbc_wall_ms();
	c->phase = RTBC_ATTACHED;
	c->attached_at = rtbc_now_ms();
	c->error_text[0] = '\0';
	c->frame_limit = RTBP_FRAME_MAX_UP;
	if (rtbp_get_uint(rtbp_field(rtbp_field(result, RTBP_F_LIMITS), RTBP_F_FRAME_BYTES),
			  &limit) &&
	    limit <= UINT32_MAX)
		c->frame_limit = (size_t)limit;
	c->payload_limit = SIZE_MAX;
	if (rtbp_get_uint(rtbp_field(rtbp_field(result, RTBP_F_LIMITS), RTBP_F_PAYLOAD_BYTES),
			  &limit) &&
	    limit > 0 && limit < SIZE_MAX)
		c->payload_limit = (size_t)limit;
	c->has_outcome = rtbc_has_feature(result, rtbp_method_name(RTBP_M_OUTCOME));
	c->has_replay = rtbc_has_feature(result, rtbp_notice_name(RTBP_N_REPLAY));
	rtbc_watches_on_hello(c, result);
	rtbc_tokens_on_hello(c, result);
	rtbc_lost_on_attach(c);
	rtbc_subs_on_attach(c);
	rtbc_flush_now(c); /* the rest follows as the queue empties */
	tell_state(c, RTB_ATTACHED, 0);
	rtbc_tell_connection(c, rtbp_field(result, RTBP_F_CONNECTION));
	rtbc_tokens_report(c);
}

static int put_hello(struct rtb_client *c)
{
	size_t begin = rtbp_msg_begin_request(&c->out, 0, RTBP_M_HELLO);

	rtbp_pack_map(&c->out, 2 + rtbc_token_in_hello(c));
	rtbp_pack_field_uint(&c->out, RTBP_F_PROTOCOL, RTBP_PROTOCOL);
	rtbp_pack_field(&c->out, RTBP_F_CLIENT);
	rtbp_pack_map(&c->out, c->version ? 2 : 1);
	rtbp_pack_field_text(&c->out, RTBP_F_NAME, c->name);
	if (c->version)
		rtbp_pack_field_text(&c->out, RTBP_F_VERSION, c->version);
	rtbc_token_pack_hello(c);
	return rtbp_msg_end(&c->out, begin);
}

/* Return: 0 (also when it failed in the ordinary way), -ENOMEM. */
static int try_attach(struct rtb_client *c, int64_t now)
{
	int r = put_hello(c); /* first, so that memory is not found short with a connection made */

	if (r < 0) {
		rtbc_disconnect(c);
		c->attach_at = now + RTBC_NOMEM_RETRY_MS;
		return r;
	}
	r = rtbc_connect(c);
	if (r == -EAGAIN) { /* the daemon is there, its backlog is full: not a failure */
		rtbc_disconnect(c);
		c->attach_at = now + 1 + backoff_ms(c);
		return 0;
	}
	if (r < 0) {
		rtbc_detach(c, r, false);
		return 0;
	}
	rtbc_token_hello_sent(c);
	c->phase = RTBC_HELLO;
	c->hello_by = now + RTBC_HELLO_MS;
	return 0;
}

static int run_timers(struct rtb_client *c)
{
	int64_t now = rtbc_now_ms();

	if (c->armed_at >= 0 && c->armed_at <= now)
		c->armed_at = -2; /* it has fired: arm_timer() must set it again in any case */
	if (c->kick_at >= 0 && c->kick_at <= now)
		c->kick_at = -1;
	rtbc_lost_tick(c, now);
	if (c->phase == RTBC_WAITING && !c->waits_for_token && now >= c->attach_at)
		return try_attach(c, now);
	if (c->phase == RTBC_HELLO && now >= c->hello_by)
		rtbc_detach(c,
			    rtbc_fail(c, RTB_E_TIMEOUT, "%s did not answer hello within %d s",
				      c->path, RTBC_HELLO_MS / 1000),
			    false);
	else if (c->phase == RTBC_ATTACHED) {
		rtbc_tokens_tick(c, now);
		rtbc_subs_tick(c, now);
		rtbc_tracks_tick(c, now);
	}
	return 0;
}

static void reap(struct rtb_client *c)
{
	if (!c->is_reap_due)
		return;
	c->is_reap_due = false;
	rtbc_subs_reap(c);
	rtbc_tracks_reap(c);
}

int rtb_client_process(struct rtb_client *c)
{
	int r, flushed = 0;

	if (c->in_callback)
		return -EDEADLK;
	if (c->pid != getpid())
		return -EPERM; /* reading here would steal from the parent */
	if (c->phase == RTBC_FAILED)
		return RTB_E_FAILED;
	c->in_process = true;
	c->n_callbacks = 0;
	r = run_timers(c);
	if (r == 0 && c->fd >= 0)
		r = rtbc_read(c);
	rtbc_tokens_report(c);
	rtbc_subs_report(c);
	rtbc_tracks_report(c);
	if (c->phase == RTBC_ATTACHED)
		flushed = rtbc_flush(c);
	if (c->fd >= 0)
		rtbc_write(c);
	c->in_process = false;
	reap(c);
	/* A full queue empties by itself and the socket says so; memory does not. */
	if (r == -ENOMEM || flushed == -ENOMEM)
		rtbc_kick(c, RTBC_NOMEM_RETRY_MS);
	else if (flushed == RTB_E_BUSY && rtbc_queued(c) == 0)
		rtbc_kick(c, 0);
	arm_timer(c);
	if (c->phase == RTBC_FAILED)
		return RTB_E_FAILED;
	if (r == -ENOMEM || flushed == -ENOMEM)
		return rtbc_fail(c, -ENOMEM, "out of memory");
	return c->n_callbacks;
}

/* ---- what a loop asks ---- */

int rtb_client_fd(const struct rtb_client *c)
{
	return c->epoll_fd;
}

short rtb_client_events(const struct rtb_client *c)
{
	(void)c;
	return POLLIN;
}

int rtb_client_timeout_ms(const struct rtb_client *c)
{
	int64_t at = next_deadline(c), left;

	if (at < 0)
		return -1;
	left = at - rtbc_now_ms();
	if (left < 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

enum rtb_state rtb_client_state(const struct rtb_client *c)
{
	if (c->phase == RTBC_FAILED)
		return RTB_FAILED;
	return c->phase == RTBC_ATTACHED ? RTB_ATTACHED : RTB_ATTACHING;
}

const char *rtb_client_error_text(const struct rtb_client *c)
{
	return c->error_text;
}
