/* SPDX-License-Identifier: MIT */
#pragma once
/* wish: what a subscribe request says, unpacked and checked. */
#include "hub/changes.h"
#include "proto/rtbp_msg.h"

struct wish {
	struct rtbp_str topic; /* "": none */
	bool is_private, self, keep;
	bool on_channel; /* anything but database changes */
	bool broadcasts, replication_ready;
	uint64_t replay_since_ms;
	unsigned replay_limit; /* 0: no replay */
	uint64_t timeout_ms;
	char **events; /* given to the sub, as presence_key and what changes has */
	unsigned n_events;
	bool wait_joined, presence;
	unsigned presence_events;
	char *presence_key;
	struct changes_wish changes;
};

/* Return: NULL and the wish; or what is wrong, with the code; `text` is room for saying it. In any
 * case wish_done() frees what was not given away. */
const char *wish_read(struct rtbp_val params, unsigned max_bindings, struct wish *w,
		      enum rtbp_error *code, char *text, size_t size);
void wish_done(struct wish *w);
void wish_events_free(char **events, unsigned n);
