/* SPDX-License-Identifier: MIT */
/*
 * hub: birth, turns, time, fan-out, and the orderly end. What is done with requests stands in the
 * files beside.
 */
#include "hub/hub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mix.h"
#include "base/text.h"
#include "hub/impl.h"

enum {
	SCRATCH_KEEP_BYTES = 256 * 1024,
	DRAIN_QUIET_MS = 50, /* a peer that has more to say says it within that time */
	FAREWELL_MS = 2000,  /* for peers to read their last message and for the link to close */
};

void hub_conf_init(struct hub_conf *conf)
{
	*conf = (struct hub_conf){
		.session = {
			.vsn = PHX_VSN_2,
			.heartbeat_ms = 25000,
			.heartbeat_reply_ms = 10000,
			.backoff_min_ms = 1000,
			.backoff_max_ms = 30000,
			.stable_ms = 30000,
		},
		.peer_frame_bytes = RTBP_FRAME_MAX_UP,
		.peer_queue_bytes = 4 * 1024 * 1024,
		.max_peers = 1000,
		.max_subscriptions = 100,
		.max_channels = 90,
		.max_links = 4,
		.max_bindings = 1000,
		.presence_bytes = 2 * 1024 * 1024,
		.trackers = HUB_TRACKERS_LINKS,
		.send_bytes = 16 * 1024 * 1024,
		.joins_per_s = JOINS_PER_S,
		.join_ms = JOIN_REPLY_MS,
		.linger_ms = 2000,
		.send_linger_ms = 30000,
	};
}

void hub_wake(struct hub *hub)
{
	if (!hub->awake) {
		hub->awake = true;
		hub->ops->wake(hub->ctx);
	}
}

uint64_t hub_now(const struct hub *hub)
{
	return clock_now(hub->clock);
}

int64_t hub_wall_s(const struct hub *hub)
{
	return clock_wall(hub->clock) / 1000;
}

uint64_t hub_random(struct hub *hub, uint64_t ceiling)
{
	/* Jitter needs spread, not secrecy, and tests need the same numbers again. */
	return mix_next(&hub->random) % (ceiling + 1);
}

void hub_make_uuid(struct hub *hub, char *ret)
{
	uint64_t a = hub_random(hub, UINT64_MAX - 1), b = hub_random(hub, UINT64_MAX - 1);

	snprintf(ret, 37, "%08" PRIx64 "-%04" PRIx64 "-4%03" PRIx64 "-%04" PRIx64 "-%012" PRIx64,
		 a >> 32, a >> 16 & 0xffff, a & 0xfff, 0x8000 | (b >> 48 & 0x3fff),
		 b & 0xffffffffffff);
}

struct rtbp_buf *hub_scratch(struct hub *hub)
{
	rtbp_buf_reset(&hub->scratch, SCRATCH_KEEP_BYTES);
	return &hub->scratch;
}

struct blob *hub_scratch_blob(struct hub *hub)
{
	struct blob *b = NULL;

	if (rtbp_buf_ok(&hub->scratch))
		b = blob_new(hub->scratch.data, hub->scratch.size);
	if (!b)
		log_error("a message was not sent: %s",
			  hub->scratch.error ? strerror(-hub->scratch.error) : "no memory");
	return b;
}

void hub_copy_text(struct rtbp_str s, char *to, size_t size)
{
	size_t n = s.size < size ? s.size : size - 1;

	while (n > 0 && n < s.size && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n--;
	if (n)
		memcpy(to, s.p, n);
	to[n] = '\0';
	text_clean(to);
}

int hub_compare_str(struct rtbp_str a, struct rtbp_str b)
{
	int r = memcmp(a.p, b.p, a.size < b.size ? a.size : b.size);

	if (r)
		return r;
	return a.size < b.size ? -1 : a.size > b.size;
}

/* ---- time ---- */

uint64_t hub_deadline(struct hub *hub)
{
	uint64_t a = timers_deadline(&hub->timers), b = links_deadline(hub);

	return a < b ? a : b;
}

void hub_tick(struct hub *hub)
{
	links_tick(hub);
	timers_run(&hub->timers, hub_now(hub));
	hub_wake(hub);
}

static void join_timer_due(void *ctx)
{
	joins_run(ctx);
}

void hub_try_again(struct hub *hub)
{
	if (!hub->busy_timer.armed)
		timer_arm(&hub->timers, &hub->busy_timer, hub_now(hub) + LINK_BUSY_RETRY_MS);
}

static void behind_timer_due(void *ctx)
{
	rooms_catch_up(ctx);
}

static void busy_timer_due(void *ctx)
{
	struct hub *hub = ctx;
	struct chan *ch, *next;
	struct join *j;

	/* What a join asks itself goes before what is asked of its presence. */
	pushes_run(hub);
	RB_FOREACH(j, join_id_tree, &hub->joins) {
		if (j->probe_due)
			join_probe(j);
	}
	for (ch = RB_MIN(chan_number_tree, &hub->chans_by_number); ch && !hub->busy_timer.armed;
	     ch = next) {
		next = RB_NEXT(chan_number_tree, &hub->chans_by_number, ch);
		room_probe(ch);
		sends_flush(ch);
	}
	sync_probe_all(hub);
}

/* ---- the end ---- */

static void push_timer_due(void *ctx)
{
	pushes_run(ctx);
}

static void drain_timer_due(void *ctx)
{
	struct hub *hub = ctx;

	hub->grace_over = true;
}

static void quiet_timer_due(void *ctx)
{
	struct hub *hub = ctx;

	hub->quiet = true;
}

/* Every send is answered, and no peer has said anything for a moment: what was in their sockets is
 * carried out. */
static bool drain_is_quiet(struct hub *hub)
{
	bool silent = RB_EMPTY(&hub->sends) && hub->n_frames == hub->quiet_frames;

	if (silent && hub->quiet)
		return true;
	if (!silent || !hub->quiet_timer.armed) {
		hub->quiet = false;
		hub->quiet_frames = hub->n_frames;
		timer_arm(&hub->timers, &hub->quiet_timer, hub_now(hub) + DRAIN_QUIET_MS);
	}
	return false;
}

static void drain_step(struct hub *hub)
{
	struct peer *p;

	if (hub->drain == HUB_DRAINING && (hub->grace_over || drain_is_quiet(hub))) {
		hub->drain = HUB_FAREWELL;
		hub->grace_over = false;
		timer_disarm(&hub->timers, &hub->quiet_timer);
		timer_arm(&hub->timers, &hub->drain_timer, hub_now(hub) + FAREWELL_MS);
		TAILQ_FOREACH(p, &hub->peers, entry)
			peer_end(p, RTBP_E_SHUTDOWN, NULL, false);
		links_stop(hub);
	}
	if (hub->drain == HUB_FAREWELL &&
	    (hub->grace_over || (hub->n_peers == 0 && links_are_idle(hub)))) {
		hub->drain = HUB_DRAINED;
		timer_disarm(&hub->timers, &hub->drain_timer);
		hub->ops->drained(hub->ctx);
	}
}

void hub_drain(struct hub *hub, uint32_t grace_ms)
{
	if (hub->drain != HUB_RUNNING)
		return;
	hub->drain = HUB_DRAINING;
	timer_arm(&hub->timers, &hub->drain_timer, hub_now(hub) + grace_ms);
	report_connection(hub);
	hub_wake(hub);
}

static void reap(struct hub *hub)
{
	struct chan *ch;
	struct join *j;
	struct peer *p;

	while ((p = TAILQ_FIRST(&hub->reap_peers))) {
		TAILQ_REMOVE(&hub->reap_peers, p, reap_entry);
		peer_free(p);
	}
	while ((j = TAILQ_FIRST(&hub->reap_joins))) {
		TAILQ_REMOVE(&hub->reap_joins, j, reap_entry);
		join_free(j);
	}
	while ((ch = TAILQ_FIRST(&hub->reap_chans))) {
		TAILQ_REMOVE(&hub->reap_chans, ch, reap_entry);
		chan_free(ch);
	}
}

void hub_turn_end(struct hub *hub)
{
	hub->awake = false;
	hub->turn++;
	reap(hub);
	auth_run(hub);
	own_run(hub);
	places_run(hub);
	joins_refuse(hub);
	probation_run(hub);
	tokens_trim(hub);
	posts_run(hub);
	wants_tell(hub); /* a peer that ended may have taken the place of others' changes with it */
	drain_step(hub);
}

/* ---- birth and death ---- */

int hub_new(const struct hub_conf *conf, const struct clock *clock, const struct hub_ops *ops,
	    void *ctx, struct hub **ret)
{
	struct hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		return -ENOMEM;
	hub->conf = *conf;
	hub->clock = clock;
	hub->ops = ops;
	hub->ctx = ctx;
	hub->random = conf->session.seed;
	hub->next_session = hub->next_chan = hub->next_id = hub->turn = 1;
	hub->next_binding = hub->next_feed = hub->next_identity = 1;
	hub->private_only = conf->private_only == HUB_PRIVATE_YES;
	hub->started_ms = hub_now(hub);
	pace_init(&hub->joins_pace, conf->joins_per_s, conf->joins_most_per_s, hub_now(hub));
	bucket_init(&hub->refusals_bucket, 1, 10, hub_now(hub));
	bucket_init(&hub->pushes_bucket, PUSHES_PER_S, PUSHES_BURST, hub_now(hub));
	bucket_init(&hub->calls_bucket, CALLS_PER_S, CALLS_BURST, hub_now(hub));
	timers_init(&hub->timers);
	timer_init(&hub->join_timer, join_timer_due, hub);
	timer_init(&hub->busy_timer, busy_timer_due, hub);
	timer_init(&hub->push_timer, push_timer_due, hub);
	timer_init(&hub->behind_timer, behind_timer_due, hub);
	timer_init(&hub->tidy_timer, feeds_tidy, hub);
	timer_init(&hub->bindings_timer, bindings_retry_due, hub);
	timer_init(&hub->drain_timer, drain_timer_due, hub);
	timer_init(&hub->quiet_timer, quiet_timer_due, hub);
	TAILQ_INIT(&hub->peers);
	TAILQ_INIT(&hub->reap_peers);
	TAILQ_INIT(&hub->reap_joins);
	TAILQ_INIT(&hub->reap_chans);
	RB_INIT(&hub->joins);
	RB_INIT(&hub->chans);
	RB_INIT(&hub->chans_by_number);
	RB_INIT(&hub->bindings);
	RB_INIT(&hub->bindings_by_id);
	TAILQ_INIT(&hub->identities);
	TAILQ_INIT(&hub->tokens);
	TAILQ_INIT(&hub->tokens_with_news);
	RB_INIT(&hub->users);
	probation_init(hub);
	own_init(hub);
	TAILQ_INIT(&hub->feeds);
	TAILQ_INIT(&hub->suspects);
	TAILQ_INIT(&hub->subs_with_news);
	RB_INIT(&hub->sends);
	posts_init(hub);
	outcomes_init(hub);
	RB_INIT(&hub->syncs);
	snprintf(hub->merge_key, sizeof(hub->merge_key), "rtbridge:%016" PRIx64,
		 hub_random(hub, UINT64_MAX - 1));
	snprintf(hub->feed_prefix, sizeof(hub->feed_prefix), "%016" PRIx64 "%016" PRIx64,
		 hub_random(hub, UINT64_MAX - 1), hub_random(hub, UINT64_MAX - 1));
	hub->row_seed = hub_random(hub, UINT64_MAX - 1);
	if (links_init(hub) < 0) {
		probation_done(hub);
		free(hub);
		return -ENOMEM;
	}
	*ret = hub;
	return 0;
}

struct hub *hub_free(struct hub *hub)
{
	struct peer *p, *next_peer;
	struct chan *ch, *next_chan;
	struct join *j;

	if (!hub)
		return NULL;
	hub->dying = true;
	for (p = TAILQ_FIRST(&hub->peers); p; p = next_peer) {
		next_peer = TAILQ_NEXT(p, entry);
		p->state = PEER_GONE;
		if (p->reaped)
			TAILQ_REMOVE(&hub->reap_peers, p, reap_entry);
		peer_free(p);
	}
	/* Without peers nobody hears the outcomes: sends are only freed, and joins die for want of
	 * them. */
	for (ch = RB_MIN(chan_number_tree, &hub->chans_by_number); ch; ch = next_chan) {
		next_chan = RB_NEXT(chan_number_tree, &hub->chans_by_number, ch);
		sends_drop(ch);
	}
	while ((j = RB_MIN(join_id_tree, &hub->joins)))
		join_kill(j);
	reap(hub);
	outcomes_done(hub);
	tokens_trim(hub);
	probation_done(hub);
	links_done(hub);
	own_done(hub);
	rtbp_buf_done(&hub->scratch);
	free(hub);
	return NULL;
}

void hub_start(struct hub *hub)
{
	links_start(hub);
	hub_wake(hub);
}
