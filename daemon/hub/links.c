/* SPDX-License-Identifier: MIT */
/*
 * links: which WebSocket carries what. Link 0 carries everything; its session talks to wire through
 * the hub's ops.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "hub/impl.h"
#include "realtime/reasons.h"

enum { LINK_SHARED = 0 };

static int link_open(void *ctx, uint64_t epoch)
{
	struct hub *hub = ctx;

	return hub->ops->link_open(hub->ctx, LINK_SHARED, epoch);
}

static int link_send(void *ctx, uint64_t epoch, bool binary, const void *data, size_t size)
{
	struct hub *hub = ctx;
	int r = hub->ops->link_send(hub->ctx, LINK_SHARED, epoch, binary, data, size);

	if (r == 0)
		hub->counters.bytes_out += size;
	return r;
}

static void link_close(void *ctx, uint64_t epoch, uint16_t code)
{
	struct hub *hub = ctx;

	hub->ops->link_close(hub->ctx, LINK_SHARED, epoch, code);
}

static void link_online(void *ctx)
{
	struct hub *hub = ctx;

	log_notice("online: %s", hub->conf.url);
	hub->down_wall_ms = 0;
	hub->was_online = true;
	report_connection(hub);
	joins_run(hub);
	sync_probe_all(hub);
	hub_wake(hub);
}

static void link_offline(void *ctx)
{
	struct hub *hub = ctx;

	joins_on_offline(hub);
	hub_wake(hub);
}

/* The attempts that fail afterwards must not hide when and why the connection was lost. */
static void link_remember_end(struct hub *hub, const struct session_status *st)
{
	if (!hub->down_wall_ms)
		hub->down_wall_ms = clock_wall(hub->clock);
	if (!hub->was_online)
		return;
	hub->was_online = false;
	hub->last_end_wall_ms = clock_wall(hub->clock);
	snprintf(hub->last_end_reason, sizeof(hub->last_end_reason), "%s",
		 reasons_of_fault(st->fault)->name);
	snprintf(hub->last_end_text, sizeof(hub->last_end_text), "%s", st->text);
}

static void link_changed(void *ctx)
{
	struct hub *hub = ctx;
	struct session_status st;

	session_get_status(hub->session, &st);
	if (st.state == SESSION_BACKOFF) {
		link_remember_end(hub, &st);
		log_warning("not connected (%s): %s; what to do: %s; next try in %lld ms",
			    reasons_of_fault(st.fault)->name, st.text,
			    reasons_of_fault(st.fault)->advice, (long long)st.next_try_ms);
	}
	report_connection(hub);
	hub_wake(hub);
}

static void link_message(void *ctx, const struct phx_msg *msg);

static const struct session_ops link_ops = {
	.open = link_open,
	.send = link_send,
	.close = link_close,
	.online = link_online,
	.offline = link_offline,
	.changed = link_changed,
	.message = link_message,
};

/* ---- the inbound road ---- */

/* One message of a channel, packed once for all who listen here. */
static struct blob *pack_broadcast(struct hub *hub, const struct join *j, const struct phx_msg *msg)
{
	struct rtbp_buf *b = hub_scratch(hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_BROADCAST), map = rtbp_pack_map_begin(b);
	uint16_t n = 4;

	rtbp_pack_field_uint(b, RTBP_F_CHAN, j->chan);
	rtbp_pack_field(b, RTBP_F_TOPIC);
	rtbp_pack_str(b, j->topic.p, j->topic.size);
	rtbp_pack_field(b, RTBP_F_EVENT);
	rtbp_pack_str(b, msg->user_event.p ? msg->user_event.p : "", msg->user_event.size);
	/* Bytes that could not be decoded are no Phoenix payload that somebody might look into. */
	rtbp_pack_field(b, msg->user_event.p || msg->undecodable ? RTBP_F_PAYLOAD : RTBP_F_RAW);
	rtbp_pack_val(b, msg->payload);
	if (msg->meta.p) {
		rtbp_pack_field(b, RTBP_F_META);
		rtbp_pack_val(b, msg->meta);
		n++;
	}
	if (msg->extra.p) {
		rtbp_pack_field(b, RTBP_F_EXTRA);
		rtbp_pack_val(b, msg->extra);
		n++;
	}
	if (msg->undecodable) {
		rtbp_pack_field_bool(b, RTBP_F_UNDECODABLE, true);
		n++;
	}
	rtbp_pack_map_end(b, map, n);
	(void)rtbp_msg_end(b, begin);
	return hub_scratch_blob(hub);
}

static void link_broadcast(struct hub *hub, struct join *j, const struct phx_msg *msg)
{
	struct blob *notice;

	hub->counters.messages_in++;
	if (msg->undecodable)
		hub->counters.undecoded++;
	if (j->n_subs == 0)
		return;
	notice = pack_broadcast(hub, j, msg);
	if (!notice)
		return;
	hub_deliver(j, notice, msg->user_event, 0);
	blob_unref(notice);
}

static void link_message(void *ctx, const struct phx_msg *msg)
{
	struct hub *hub = ctx;
	struct join *j = join_find_wire(hub, msg->topic);

	if (!j)
		return;
	log_debug("in: %s %.*s", j->wire_topic, (int)msg->event.size, msg->event.p);
	if (msg->kind == PHX_BROADCAST) {
		/* Nothing of a channel comes before its join reply: what does is of the one before
		 * it. */
		if (j->state == JOIN_JOINED)
			link_broadcast(hub, j, msg);
	} else if (msg->kind == PHX_MESSAGE) {
		join_on_message(j, msg);
	}
}

/* ---- from wire ---- */

void hub_on_opened(struct hub *hub, unsigned link, uint64_t epoch)
{
	(void)link;
	session_on_opened(hub->session, epoch);
	hub_wake(hub);
}

void hub_on_frame(struct hub *hub, unsigned link, uint64_t epoch, bool binary, const void *data,
		  size_t size)
{
	(void)link;
	hub->counters.bytes_in += size;
	session_on_frame(hub->session, epoch, binary, data, size);
	hub_wake(hub);
}

void hub_on_closed(struct hub *hub, unsigned link, uint64_t epoch, const struct session_end *end)
{
	(void)link;
	session_on_closed(hub->session, epoch, end);
	hub_wake(hub);
}

/* ---- for the joins ---- */

int link_push(struct hub *hub, const struct session_push *push)
{
	if (!rtbp_buf_ok(&hub->scratch))
		return hub->scratch.error;
	return session_push(hub->session, push, hub->scratch.data, hub->scratch.size);
}

int links_init(struct hub *hub)
{
	hub->session = session_new(&hub->conf.session, hub->clock, &link_ops, hub);
	return hub->session ? 0 : -ENOMEM;
}

void links_done(struct hub *hub)
{
	hub->session = session_free(hub->session);
}
