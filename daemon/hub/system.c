/* SPDX-License-Identifier: MIT */
/*
 * system: notices of the server about a channel, in its words, for those who subscribe to it. That
 * messages of the database can flow is told to those who asked for it, and to who asks later. An
 * error is followed by the channel's end, which is told with the same words.
 */
#include <string.h>

#include "hub/impl.h"

static const char ready_text[] = "Replication connection established";

static void tell(const struct sub *s, struct rtbp_str extension, bool ok, const char *text)
{
	struct rtbp_buf *b = hub_scratch(s->peer->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_SYSTEM);

	rtbp_pack_map(b, 5);
	chan_pack_name(s->chan, b);
	rtbp_pack_field(b, RTBP_F_EXTENSION);
	rtbp_pack_str(b, extension.p, extension.size);
	rtbp_pack_field_text(b, RTBP_F_STATUS, ok ? "ok" : "error");
	rtbp_pack_field_text(b, RTBP_F_TEXT, text);
	(void)rtbp_msg_end(b, begin);
	peer_send_scratch(s->peer);
}

static void tell_ready(struct sub *s)
{
	s->replication_told = true;
	tell(s, (struct rtbp_str){ "system", 6 }, true, ready_text);
}

void system_on_notice(struct chan *ch, struct rtbp_str extension, bool ok, const char *text)
{
	bool is_ready = ok && strcmp(text, ready_text) == 0;
	struct sub *s;

	if (!text[0] || (!ok && (extension.size == 0 || rtbp_str_is(extension, "system"))))
		return;
	if (!rtbp_utf8_valid(extension.p, extension.size))
		extension = (struct rtbp_str){ "?", 1 };
	if (is_ready)
		ch->replication_ready = true;
	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!s->answered || !s->on_channel || s->peer->state != PEER_READY)
			continue;
		if (!is_ready)
			tell(s, extension, ok, text);
		else if (s->replication_ready)
			tell_ready(s);
	}
}

void system_answered(struct sub *s)
{
	if (s->replication_ready && s->chan->replication_ready && !s->replication_told)
		tell_ready(s);
}

void system_joining(struct chan *ch)
{
	struct sub *s;

	ch->replication_ready = false;
	TAILQ_FOREACH(s, &ch->subs, in_chan)
		s->replication_told = false;
}

bool system_wants_replication(const struct chan *ch)
{
	const struct sub *s;

	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (s->replication_ready)
			return true;
	}
	return false;
}
