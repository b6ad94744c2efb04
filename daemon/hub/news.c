/* SPDX-License-Identifier: MIT */
/* news: one message of a channel, packed once for all who listen to it here, and handed to them. */
#include "base/mix.h"
#include "hub/impl.h"

bool news_is_replayed(const struct phx_msg *msg)
{
	bool replayed = false;

	return rtbp_get_bool(rtbp_find(msg->meta, "replayed", 8), &replayed) && replayed;
}

uint64_t news_hash_id(const struct hub *hub, struct rtbp_str id)
{
	return mix_bytes(hub->row_seed, id.p, id.size) | 1;
}

bool news_pack(const struct chan *ch, const struct phx_msg *msg, struct news *ret)
{
	struct rtbp_buf *b = hub_scratch(ch->hub);
	size_t begin = rtbp_msg_begin_notice(b, RTBP_N_BROADCAST), event, payload, extra = 0;
	const uint8_t *data;
	struct rtbp_str id;

	rtbp_pack_map(b, 4 + (msg->meta.p != NULL) + (msg->extra.p != NULL) + msg->undecodable);
	chan_pack_name(ch, b);
	rtbp_pack_field(b, RTBP_F_EVENT);
	rtbp_pack_str(b, msg->user_event.p ? msg->user_event.p : "", msg->user_event.size);
	event = b->size - msg->user_event.size;
	/* Bytes that could not be decoded are no Phoenix payload that somebody might look into. */
	rtbp_pack_field(b, msg->user_event.p || msg->undecodable ? RTBP_F_PAYLOAD : RTBP_F_RAW);
	payload = b->size;
	rtbp_pack_val(b, msg->payload);
	if (msg->meta.p) {
		rtbp_pack_field(b, RTBP_F_META);
		rtbp_pack_val(b, msg->meta);
	}
	if (msg->extra.p) {
		rtbp_pack_field(b, RTBP_F_EXTRA);
		extra = b->size;
		rtbp_pack_val(b, msg->extra);
	}
	if (msg->undecodable)
		rtbp_pack_field_bool(b, RTBP_F_UNDECODABLE, true);
	(void)rtbp_msg_end(b, begin);
	*ret = (struct news){ .notice = hub_scratch_blob(ch->hub) };
	if (!ret->notice)
		return false;
	data = ret->notice->data;
	ret->event = (struct rtbp_str){ (const char *)data + event, msg->user_event.size };
	ret->payload = (struct rtbp_val){ data + payload, msg->payload.size };
	if (extra)
		ret->extra = (struct rtbp_val){ data + extra, msg->extra.size };
	ret->is_replayed = news_is_replayed(msg);
	if (rtbp_get_str(rtbp_find(msg->meta, "id", 2), &id))
		ret->id = news_hash_id(ch->hub, id);
	return true;
}

bool news_is_for(const struct news *news, const struct sub *s)
{
	return s->broadcasts && s->peer->state == PEER_READY && sub_wants(s, news->event);
}

void news_give(const struct news *news, struct sub *s)
{
	s->peer->hub->counters.deliveries++;
	peer_send(s->peer, news->notice);
}

void news_deliver(struct chan *ch, const struct news *news)
{
	struct sub *s;

	/* A peer whose queue is full is only marked by peer_send(); it leaves this list at the
	 * turn's end. */
	TAILQ_FOREACH(s, &ch->subs, in_chan) {
		if (!news_is_for(news, s))
			continue;
		if (news->sender && s->peer->session == news->sender && !s->self)
			continue;
		if (!replay_takes(s, news) && s->answered)
			news_give(news, s);
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
