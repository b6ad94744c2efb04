/* SPDX-License-Identifier: MIT */
/* machine: what happens to the machine and may have happened to its connections. */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "hub/impl.h"

/* The server ends a connection that is silent for 60 s; what it has sent into a longer sleep is lost
 * in any case. */
enum { SLEPT_TOO_LONG_MS = 50000 };

void hub_on_slept(struct hub *hub, uint64_t ms)
{
	char text[96];

	snprintf(text, sizeof(text), "the machine slept for %" PRIu64 " s", (ms + 500) / 1000);
	log_notice("%s", text);
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (!hub->links[i].session)
			continue;
		if (ms > SLEPT_TOO_LONG_MS)
			session_reconnect(hub->links[i].session, SESSION_FAULT_SLEPT, text);
		else
			session_poke(hub->links[i].session);
	}
	hub_wake(hub);
}

void hub_on_network(struct hub *hub)
{
	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (hub->links[i].session)
			session_poke(hub->links[i].session);
	}
	hub_wake(hub);
}
