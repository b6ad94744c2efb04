/* SPDX-License-Identifier: MIT */
#pragma once
/* news: one message for the subscribers of a channel, of the server or of a client here. */
#include <stdbool.h>
#include <stdint.h>

#include "base/blob.h"
#include "proto/rtbp_val.h"

struct chan;
struct hub;
struct phx_msg;
struct sub;

struct news {
	struct blob *notice; /* packed once for all; what follows is in it */
	struct rtbp_str event;
	struct rtbp_val payload, extra; /* extra absent: there is none */
	uint64_t id;                    /* a hash of meta.id; 0: it has none */
	uint64_t sender; /* the session that sent it (gets it only with `self`); 0: none */
	bool is_replayed;
};

bool news_is_replayed(const struct phx_msg *msg);
uint64_t news_hash_id(const struct hub *hub, struct rtbp_str id);
/* Return: false (and logged): no memory. Else the caller gives ret->notice back. */
bool news_pack(const struct chan *ch, const struct phx_msg *msg, struct news *ret);
/* Whether the subscription wants such messages, and its client can be told. */
bool news_is_for(const struct news *news, const struct sub *s);
void news_give(const struct news *news, struct sub *s);
/* To all of the channel that it is for. */
void news_deliver(struct chan *ch, const struct news *news);
void news_on_broadcast(struct chan *ch, const struct phx_msg *msg);
