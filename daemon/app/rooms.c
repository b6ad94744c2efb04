/* SPDX-License-Identifier: MIT */
#include "app/rooms.h"

#include <errno.h>
#include <sys/random.h>
#include <unistd.h>

#include "app/conf.h"
#include "hub/hub.h"
#include "realtime/reasons.h"
#include "wire/wire.h"

enum {
	UPSTREAM_MESSAGE_MAX = 8 * 1024 * 1024, /* the server's own limit is 5 MB */
	WIRE_UP_BYTES = 8 * 1024 * 1024,
	WIRE_DOWN_BYTES = 8 * 1024 * 1024,
	WIRE_LINK_BYTES = 64 * 1024,
};

/* In a second, of all clients of the project; 0: not said. */
static unsigned joins_of_plan(enum conf_plan plan)
{
	switch (plan) {
	case CONF_PLAN_FREE:
		return 100;
	case CONF_PLAN_PRO:
		return 500;
	case CONF_PLAN_TEAM:
		return 2500;
	case CONF_PLAN_CUSTOM:
		break;
	}
	return 0;
}

int rooms_hub(const struct conf *conf, struct hub_conf *ret)
{
	hub_conf_init(ret);
	ret->session.vsn = conf->vsn;
	ret->session.backoff_min_ms = (uint32_t)conf->backoff_min_ms;
	ret->session.backoff_max_ms = (uint32_t)conf->backoff_max_ms;
	ret->session.stable_ms = (uint32_t)conf->stable_ms;
	ret->session.heartbeat_ms = (uint32_t)conf->heartbeat_ms;
	ret->session.heartbeat_reply_ms = (uint32_t)conf->heartbeat_reply_ms;
	if (getrandom(&ret->session.seed, sizeof(ret->session.seed), 0) < 0)
		return -errno;
	ret->url = conf->public_url;
	ret->apikey = conf->apikey;
	ret->peer_frame_bytes = conf->frame_bytes;
	ret->peer_queue_bytes = conf->client_queue_bytes;
	ret->max_peers = (unsigned)conf->max_clients;
	ret->max_subscriptions = (unsigned)conf->max_subscriptions;
	ret->max_channels = (unsigned)conf->max_channels;
	ret->max_links = (unsigned)conf->max_links;
	ret->max_bindings = (unsigned)conf->max_bindings;
	ret->private_only = conf->private_only == CONF_PRIVATE_YES  ? HUB_PRIVATE_YES
			    : conf->private_only == CONF_PRIVATE_NO ? HUB_PRIVATE_NO
								    : HUB_PRIVATE_AUTO;
	ret->presence_bytes = conf->presence_bytes;
	ret->trackers = conf->trackers == CONF_TRACKERS_MERGE    ? HUB_TRACKERS_MERGE
			: conf->trackers == CONF_TRACKERS_REFUSE ? HUB_TRACKERS_REFUSE
								 : HUB_TRACKERS_LINKS;
	ret->payload_bytes = conf->payload_bytes;
	ret->send_bytes = conf->send_bytes;
	ret->joins_per_s = (unsigned)conf->joins_per_s;
	ret->joins_most_per_s = joins_of_plan(conf->plan) / 4;
	ret->join_ms = (uint32_t)conf->join_timeout_ms;
	ret->acl = conf->acl;
	ret->owner = geteuid();
	ret->probation = conf->probation == CONF_PROBATION_ALWAYS ? HUB_PROBATION_ALWAYS
			 : conf->probation == CONF_PROBATION_OFF  ? HUB_PROBATION_OFF
								  : HUB_PROBATION_AFTER_FAILURE;
	ret->has_own_token = conf->token != CONF_TOKEN_NONE;
	ret->connect_always = conf->connect == CONF_CONNECT_ALWAYS;
	return 0;
}

void rooms_wire(const struct conf *conf, struct wire_conf *ret)
{
	*ret = (struct wire_conf){
		.ca_file = conf->ca_file,
		.allow_insecure = conf->allow_insecure,
		.max_message_bytes = UPSTREAM_MESSAGE_MAX,
		.up_bytes = WIRE_UP_BYTES,
		.down_bytes = WIRE_DOWN_BYTES,
		.link_bytes = WIRE_LINK_BYTES,
		.dns_ms = (uint32_t)conf->dns_ms,
		.connect_ms = (uint32_t)conf->connect_ms,
		.attempt_ms = (uint32_t)conf->attempt_ms,
		.tcp_ms = (uint32_t)conf->tcp_timeout_ms,
		.proxy_host = conf->proxy_at.host,
		.proxy_port = conf->proxy_at.port,
		.proxy_auth = conf->proxy_auth,
	};
}

static enum session_fault fault_of(const struct wire_end *end)
{
	switch (end->why) {
	case WIRE_BY_US:
		return SESSION_FAULT_NONE;
	case WIRE_BY_PEER:
		return reasons_from_close(end->close_code);
	case WIRE_LOST:
		return SESSION_FAULT_LOST;
	case WIRE_DNS:
		return SESSION_FAULT_DNS;
	case WIRE_CONNECT:
		return SESSION_FAULT_CONNECT;
	case WIRE_TLS:
		return SESSION_FAULT_TLS;
	case WIRE_HTTP:
		return reasons_from_http(end->http_status);
	case WIRE_HANDSHAKE:
		return SESSION_FAULT_HANDSHAKE;
	case WIRE_TOO_BIG:
	case WIRE_PROTOCOL:
		return SESSION_FAULT_PROTOCOL;
	case WIRE_PROXY_AUTH:
	case WIRE_INSECURE:
		return SESSION_FAULT_CONFIG;
	}
	return SESSION_FAULT_LOST;
}

void rooms_end(const struct wire_end *end, struct session_end *ret)
{
	*ret = (struct session_end){
		.fault = fault_of(end),
		.retry_after_s = end->retry_after_s,
		.text = end->text,
	};
}
