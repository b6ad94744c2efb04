/* SPDX-License-Identifier: MIT */
#include "hub_presence.h"

#include <inttypes.h>
#include <stdio.h>

struct line server_join_watched(const char *topic, struct line *ret_probe)
{
	char pattern[400];
	struct line join, probe;

	snprintf(pattern, sizeof(pattern),
		 "[*,*,'realtime:%s','phx_join',{*'presence':{'enabled':true,*", topic);
	join = *expect_frame(pattern);
	server_reply(&join, true, "{'postgres_changes':[]}");
	snprintf(pattern, sizeof(pattern), "[*,*,'realtime:%s','presence',{}]", topic);
	probe = *expect_frame(pattern);
	MUST(probe.join_ref == join.ref);
	if (ret_probe)
		*ret_probe = probe;
	return join;
}

void server_state(const struct line *join, const char *state)
{
	unsigned at = rig.at;

	rig.at = join->link;
	server_text("['%" PRIu64 "',null,'%s','presence_state',%s]", join->ref, join->topic, state);
	rig.at = at;
}

void server_diff(const char *topic, const char *joins, const char *leaves)
{
	server_text("[null,null,'realtime:%s','presence_diff',{'joins':%s,'leaves':%s}]", topic,
		    joins, leaves);
}

void server_close(const struct line *join, const char *text)
{
	char topic[sizeof(join->topic)];
	uint64_t ref = join->ref;
	unsigned at = rig.at;

	snprintf(topic, sizeof(topic), "%s", join->topic);
	rig.at = join->link;
	if (text)
		server_text("['%" PRIu64 "',null,'%s','system',{'status':'error','message':'%s',"
			    "'extension':'system'}]",
			    ref, topic, text);
	server_text("['%" PRIu64 "','%" PRIu64 "','%s','phx_close',{}]", ref, ref, topic);
	rig.at = at;
}

struct line *expect_call(const char *topic, const char *payload_pattern)
{
	char pattern[1000];

	snprintf(pattern, sizeof(pattern), "[*,*,'realtime:%s','presence',%s]", topic,
		 payload_pattern);
	return expect_frame(pattern);
}

struct line peer_watch(struct fake_peer *p, const char *topic, const char *state)
{
	char params[600];
	struct line join;

	snprintf(params, sizeof(params), "{'topic':'%s','presence':{}}", topic);
	peer_ask(p, 1, "subscribe", params);
	join = server_join_watched(topic, NULL);
	server_state(&join, state);
	expect(p, "[1,1,null,{*'state':'ready','presence':{'state':'ok','snapshot':[*]}}]");
	return join;
}
