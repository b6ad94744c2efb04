/* SPDX-License-Identifier: MIT */
/* report_changes: database changes in the answer to `status`. */
#include <string.h>

#include "hub/impl.h"
#include "proto/rtbp_json.h"

enum {
	BINDING_SHOWN_MAX = 1024,
	BINDINGS_SHOWN_MAX = 2 * 1024 * 1024, /* of all */
};

static void pack_feed(const struct feed *f, struct rtbp_buf *b)
{
	const struct join *j = f->join;
	const char *code = j->code[0] ? j->code : f->code;
	const char *text = j->code[0] ? j->text : f->text;

	rtbp_pack_map(b, 5 + (f->chan != NULL) + (code[0] ? 2 : 0));
	rtbp_pack_field_uint(b, RTBP_F_FEED, f->number);
	rtbp_pack_field_uint(b, RTBP_F_LINK, j->link->number);
	rtbp_pack_field_text(b, RTBP_F_STATE, feed_state_name(f));
	rtbp_pack_field_uint(b, RTBP_F_BINDINGS, feed_live(f));
	rtbp_pack_field_bool(b, RTBP_F_READY, f->state == FEED_READY);
	if (f->chan)
		rtbp_pack_field_uint(b, RTBP_F_CHAN, f->chan->number);
	if (code[0]) {
		rtbp_pack_field_text(b, RTBP_F_CODE, code);
		rtbp_pack_field_text(b, RTBP_F_TEXT, text);
	}
}

/* `room`: for the bindings themselves; they may be long, and a frame has an end. */
static void pack_binding(const struct binding *bi, size_t *room, struct rtbp_buf *b)
{
	const char *code, *text, *state = binding_state(bi, &code, &text);
	bool fits = bi->size <= BINDING_SHOWN_MAX && bi->size <= *room;
	struct rtbp_json_fault fault;

	*room -= fits ? bi->size : 0;
	rtbp_pack_map(b, 4 + fits + (bi->feed != NULL) + (code[0] ? 2 : 0));
	rtbp_pack_field_uint(b, RTBP_F_ID, bi->id);
	if (fits)
		rtbp_pack_field(b, RTBP_F_BINDING);
	if (fits && rtbp_json_to_mp(bi->text, bi->size, 4, b, &fault) != 0)
		rtbp_pack_nil(b); /* not reached: the text is ours */
	rtbp_pack_field_text(b, RTBP_F_STATE, state);
	if (bi->feed)
		rtbp_pack_field_uint(b, RTBP_F_FEED, bi->feed->number);
	rtbp_pack_field_uint(b, RTBP_F_CLIENTS, bi->n_wants);
	rtbp_pack_field_uint(b, RTBP_F_ROWS, bi->n_rows);
	if (code[0]) {
		rtbp_pack_field_text(b, RTBP_F_CODE, code);
		rtbp_pack_field_text(b, RTBP_F_TEXT, text);
	}
}

void report_pack_changes(struct hub *hub, struct rtbp_buf *b)
{
	size_t room = BINDINGS_SHOWN_MAX;
	struct binding *bi;
	struct feed *f;
	uint32_t n = 0;

	rtbp_pack_field(b, RTBP_F_FEEDS);
	/* Not those that are being left. */
	TAILQ_FOREACH(f, &hub->feeds, entry)
		n += f->state != FEED_OVER;
	rtbp_pack_array(b, n);
	TAILQ_FOREACH(f, &hub->feeds, entry) {
		if (f->state != FEED_OVER)
			pack_feed(f, b);
	}
	n = 0;
	/* Those that nobody wants any more are there only until what carries them goes. */
	RB_FOREACH(bi, binding_id_tree, &hub->bindings_by_id)
		n += bi->n_wants > 0;
	rtbp_pack_field(b, RTBP_F_POSTGRES_CHANGES);
	rtbp_pack_array(b, n);
	RB_FOREACH(bi, binding_id_tree, &hub->bindings_by_id) {
		if (bi->n_wants)
			pack_binding(bi, &room, b);
	}
	rtbp_pack_field_bool(b, RTBP_F_PRIVATE_ONLY, hub->private_only);
}
