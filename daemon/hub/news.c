/* SPDX-License-Identifier: MIT */
/* news: one message of a channel, packed once for all who listen to it here, and handed to them. */
#include "base/mix.h"
#include "hub/impl.h"

bool news_is_replayed(const struct phx_msg *msg)
{
	bool replayed = false;

	return rtbp_get_bool(rtbp_find(msg->meta, "replayed", 8), &replayed) && replayed;
}

bool news_pack(const struct chan *ch, const struct phx_msg *msg, struct news *ret)
{
	struct rtbp_buf *b = hub_scratch(ch->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_BROADCAST), map = rtbp_pack_map_begin(b), at;
	struct rtbp_str id;
	uint16_t n = 4;

	chan_pack_name(ch, b);
	rtbp_pack_field(b, RTBP_F_EVENT);
	rtbp_pack_str(b, msg->user_event.p ? msg->user_event.p : "", msg->user_event.size);
	at = b->size - msg->user_event.size;
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
	*ret = (struct news){ .notice = hub_scratch_blob(ch->hub) };
	if (!ret->notice)
		return false;
	ret->event =
		(struct rtbp_str){ (const char *)ret->notice->data + at, msg->user_event.size };
	ret->is_replayed = news_is_replayed(msg);
	if (rtbp_get_str(rtbp_find(msg->meta, "id", 2), &id))
		ret->id = mix_bytes(ch->hub->row_seed, id.p, id.size) | 1;
	return true;
}

void news_deliver(struct chan *ch, const struct news *news)
{
	struct sub *s;

	/* A peer whose queue is full is only marked by peer_send(); it leaves this list at the
	 * turn's end. */
	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!s->broadcasts || s->peer->state != PEER_READY || !sub_wants(s, news->event))
			continue;
		if (news->sender && s->peer->session == news->sender && !s->self)
			continue;
		if (replay_takes(s, news) || !s->answered)
			continue;
		ch->hub->counters.deliveries++;
		peer_send(s->peer, news->notice);
	}
}

void news_on_broadcast(struct chan *ch, const struct phx_msg *msg)
{
	struct hub *hub = ch->hub;
	struct news news;
	uint64_t sender;

	hub->counters.messages_in++;
	if (msg->undecodable)
		hub->counters.undecoded++;
	sender = posts_sender(ch, msg->meta, msg->user_event, msg->payload);
	if (ch->n_subs == 0 || !news_pack(ch, msg, &news))
		return;
	news.sender = sender;
	if (sender)
		news.id = 0; /* by HTTP: nothing that is stored */
	if (ch->hold.active)
		hold_news(ch, &news);
	else if (!recent_add(ch, news.id) || !news.is_replayed)
		news_deliver(ch, &news);
	blob_unref(news.notice);
}
