/* SPDX-License-Identifier: MIT */
/* report_changes: database changes in the answer to `status`. */
#include <string.h>

#include "hub/impl.h"
#include "hub/report.h"
#include "proto/rtbp_json.h"

enum {
	BINDING_SHOWN_MAX = 1024,
	BINDINGS_SHOWN_MAX = 2 * 1024 * 1024, /* of all */
};

static bool shows_binding(const struct report *r, const struct binding *bi)
{
	/* Those that nobody wants any more are there only until what carries them goes. */
	return bi->n_wants && report_knows_binding(r, bi);
}

static bool shows_feed(const struct report *r, const struct feed *f)
{
	bool own = r->sees_all;

	for (unsigned i = 0; !own && i < f->n_items; i++)
		own = report_knows_binding(r, f->items[i].binding);
	return own && f->state != FEED_OVER; /* not those that are being left */
}

static void pack_feed(const struct report *r, const struct feed *f)
{
	bool shows_chan = f->chan && report_knows_channel(r, f->chan);
	struct rtbp_buf *b = r->b;
	const struct join *j = f->join;
	const char *code = j->code[0] ? j->code : f->code;
	const char *text = j->code[0] ? j->text : f->text;

	/* It may ride on a channel that is none of the asker's business. */
	if (f->chan && !shows_chan)
		code = "";
	rtbp_pack_map(b, 6 + shows_chan + (code[0] ? 2 : 0));
	rtbp_pack_field_uint(b, RTBP_F_FEED, f->number);
	rtbp_pack_field_uint(b, RTBP_F_IDENTITY, identity_number(f->identity));
	rtbp_pack_field_uint(b, RTBP_F_LINK, j->link->number);
	rtbp_pack_field_text(b, RTBP_F_STATE, feed_state_name(f));
	rtbp_pack_field_uint(b, RTBP_F_BINDINGS, feed_live(f));
	rtbp_pack_field_bool(b, RTBP_F_READY, f->state == FEED_READY);
	if (shows_chan)
		rtbp_pack_field_uint(b, RTBP_F_CHAN, f->chan->number);
	(void)reason_pack(code, text, true, b);
}

/* `room`: for the bindings themselves; they may be long, and a frame has an end. */
static void pack_binding(const struct binding *bi, size_t *room, struct rtbp_buf *b)
{
	const char *code, *text, *state = binding_state(bi, &code, &text);
	bool fits = bi->size <= BINDING_SHOWN_MAX && bi->size <= *room;
	struct rtbp_json_fault fault;

	*room -= fits ? bi->size : 0;
	rtbp_pack_map(b, 5 + fits + (bi->feed != NULL) + (code[0] ? 2 : 0));
	rtbp_pack_field_uint(b, RTBP_F_ID, bi->id);
	rtbp_pack_field_uint(b, RTBP_F_IDENTITY, identity_number(bi->identity));
	if (fits)
		rtbp_pack_field(b, RTBP_F_BINDING);
	if (fits && rtbp_json_to_mp(bi->text, bi->size, 4, b, &fault) != 0)
		rtbp_pack_nil(b); /* not reached: the text is ours */
	rtbp_pack_field_text(b, RTBP_F_STATE, state);
	if (bi->feed)
		rtbp_pack_field_uint(b, RTBP_F_FEED, bi->feed->number);
	rtbp_pack_field_uint(b, RTBP_F_CLIENTS, bi->n_wants);
	rtbp_pack_field_uint(b, RTBP_F_ROWS, bi->n_rows);
	(void)reason_pack(code, text, true, b);
}

void report_pack_changes(const struct report *r)
{
	struct rtbp_buf *b = r->b;
	struct hub *hub = r->hub;
	size_t room = BINDINGS_SHOWN_MAX;
	struct binding *bi;
	struct feed *f;
	uint32_t n = 0;

	rtbp_pack_field(b, RTBP_F_FEEDS);
	TAILQ_FOREACH(f, &hub->feeds, entry)
		n += shows_feed(r, f);
	rtbp_pack_array(b, n);
	TAILQ_FOREACH(f, &hub->feeds, entry) {
		if (shows_feed(r, f))
			pack_feed(r, f);
	}
	n = 0;
	RB_FOREACH(bi, binding_id_tree, &hub->bindings_by_id)
		n += shows_binding(r, bi);
	rtbp_pack_field(b, RTBP_F_POSTGRES_CHANGES);
	rtbp_pack_array(b, n);
	RB_FOREACH(bi, binding_id_tree, &hub->bindings_by_id) {
		if (shows_binding(r, bi))
			pack_binding(bi, &room, b);
	}
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE_ONLY, hub->private_only);
}
