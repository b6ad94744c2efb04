/* SPDX-License-Identifier: MIT */
/* rows: the inbound road of database changes: which bindings a change is for, packed once for all
 * peers that have one of them. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/mix.h"
#include "hub/impl.h"

/* ---- the contents of a row as a number ---- */

/* The server writes the keys of a map in any order: their order must not count. The depth of what
 * came is bounded by the decoder. */
static uint64_t hash_value(uint64_t seed, struct rtbp_val v)
{
	struct rtbp_iter it;
	struct rtbp_val key, e;
	uint64_t h = seed;

	if (rtbp_iter_map(v, &it)) {
		while (rtbp_iter_next(&it, &key) && rtbp_iter_next(&it, &e))
			h += mix64(hash_value(seed + 1, key) ^ mix64(hash_value(seed + 2, e)));
		return mix64(h);
	}
	if (rtbp_iter_array(v, &it)) {
		while (rtbp_iter_next(&it, &e))
			h = mix64(h ^ hash_value(seed + 3, e));
		return h;
	}
	return mix_bytes(seed, v.p, v.size);
}

/* ---- which bindings ---- */

enum { IDS_MAX = 4 * CHAN_BINDINGS };

static bool event_fits(const struct binding *b, struct rtbp_str type)
{
	switch (b->event) {
	case CHANGE_ANY:
		break;
	case CHANGE_INSERT:
		return rtbp_str_is(type, "INSERT");
	case CHANGE_UPDATE:
		return rtbp_str_is(type, "UPDATE");
	case CHANGE_DELETE:
		return rtbp_str_is(type, "DELETE");
	}
	return true;
}

struct row {
	struct feed *feed;
	struct rtbp_val data;
	struct rtbp_str type;
	uint64_t hash; /* 0: not needed */
	struct binding **matches;
	unsigned n;
};

/* Ids of one feed are of different bindings; the server may name one several times. */
static void match_id(struct row *row, uint64_t id)
{
	struct feed *f = row->feed;
	struct binding *b;

	for (unsigned i = 0; i < f->n_items; i++) {
		b = f->items[i].binding;
		if (!f->items[i].sent || f->items[i].server_id != id || b->mark == f->hub->mark)
			continue;
		b->mark = f->hub->mark;
		if (!b->n_wants || !event_fits(b, row->type) ||
		    !merge_is_new(f, &f->items[i], row->hash))
			continue;
		b->n_rows++;
		row->matches[row->n++] = b;
	}
}

/* Return: false: the message is not one of a row. */
static bool match(struct row *row, struct rtbp_val payload)
{
	struct rtbp_iter it;
	struct rtbp_val v;
	uint64_t id;
	struct feed *f = row->feed;
	unsigned n_ids;

	row->data = rtbp_find(payload, "data", 4);
	if (!rtbp_is(row->data, RTBP_MAP) ||
	    !rtbp_get_str(rtbp_find(row->data, "type", 4), &row->type) ||
	    !rtbp_iter_array(rtbp_find(payload, "ids", 3), &it))
		return false;
	f->hub->mark++;
	if (merge_needs_hash(f))
		row->hash = hash_value(f->hub->row_seed, row->data);
	/* One may be there several times, but not without end. */
	for (n_ids = 0; n_ids < IDS_MAX && rtbp_iter_next(&it, &v); n_ids++) {
		if (rtbp_get_uint(v, &id))
			match_id(row, id);
	}
	return true;
}

/* ---- to the peers ---- */

static bool peer_has(const struct peer *p, const struct binding *b)
{
	const struct want *w;

	TAILQ_FOREACH(w, &b->wants, in_binding) {
		if (w->sub->peer == p && w->answered)
			return true;
	}
	return false;
}

/* `p` NULL: for all; else with its own ids only. */
static struct blob *pack(const struct row *row, const struct peer *p)
{
	struct hub *hub = row->feed->hub;
	struct rtbp_buf *b = hub_scratch(hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_POSTGRES_CHANGES);
	unsigned n = 0;

	for (unsigned i = 0; i < row->n; i++)
		n += !p || peer_has(p, row->matches[i]);
	rtbp_pack_map(b, 2);
	rtbp_pack_field(b, RTBP_F_IDS);
	rtbp_pack_array(b, n);
	for (unsigned i = 0; i < row->n; i++) {
		if (!p || peer_has(p, row->matches[i]))
			rtbp_pack_uint(b, row->matches[i]->id);
	}
	rtbp_pack_field(b, RTBP_F_DATA);
	rtbp_pack_val(b, row->data);
	(void)rtbp_msg_end(b, begin);
	return hub_scratch_blob(hub);
}

static void deliver(const struct row *row)
{
	struct hub *hub = row->feed->hub;
	struct blob *shared = NULL, *own;
	struct rtbp_val schema, table;
	struct want *w;
	struct peer *p;

	schema = rtbp_find(row->data, "schema", 6);
	table = rtbp_find(row->data, "table", 5);
	wants_tell(hub);
	for (unsigned i = 0; i < row->n; i++) {
		TAILQ_FOREACH(w, &row->matches[i]->wants, in_binding) {
			p = w->sub->peer;
			if (!w->answered || p->state != PEER_READY || p->mark == hub->mark)
				continue;
			p->mark = hub->mark;
			/* The server reads names as patterns: it may be of another table than the
			 * one that was asked for. */
			if (!access_row(p, schema, table))
				continue;
			hub->counters.deliveries++;
			/* On a private channel's join stand the bindings of all who share it: what
			 * the others ask for is none of this one's business. */
			if (row->feed->chan) {
				own = pack(row, p);
				peer_send(p, own);
				blob_unref(own);
				continue;
			}
			if (!shared)
				shared = pack(row, NULL);
			peer_send(p, shared);
		}
	}
	blob_unref(shared);
}

/* Something came that is no row we can read: what it was for is not known, so all are told. */
static void rows_missed(struct feed *f)
{
	struct binding *b;

	f->hub->counters.undecoded++;
	if (bucket_take(&f->hub->refusals_bucket, hub_now(f->hub), 0) == 0)
		log_warning("feed %" PRIu64
			    ": a change could not be read; its clients are told of a gap",
			    f->number);
	for (unsigned i = 0; i < f->n_items; i++) {
		b = f->items[i].binding;
		if (b->feed != f || !f->items[i].sent || f->state != FEED_READY)
			continue;
		binding_stops(b, clock_wall(f->hub->clock), "undecodable");
		binding_flows(b);
	}
	wants_tell(f->hub);
}

void rows_on_message(struct feed *f, const struct phx_msg *msg)
{
	struct binding *matches[CHAN_BINDINGS];
	struct row row = { .feed = f, .matches = matches };

	if (msg->kind != PHX_MESSAGE || !rtbp_str_is(msg->event, "postgres_changes") || f->is_proof)
		return;
	f->hub->counters.messages_in++;
	/* Before the server says that the bindings flow nothing was promised; after an interruption
	 * what comes until then lies in the gap, which is told first. */
	if ((f->state == FEED_PENDING && !f->n_sources) || f->state == FEED_OVER)
		return;
	if (msg->undecodable || !match(&row, msg->payload))
		rows_missed(f);
	else
		deliver(&row);
}
