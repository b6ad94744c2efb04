/* SPDX-License-Identifier: MIT */
/* The frame that joins a channel, and what its refusal says. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

static void put_replay(const struct join_config *config, struct rtbp_buf *b)
{
	char text[96];

	snprintf(text, sizeof(text), ",\"replay\":{\"since\":%" PRIu64 ",\"limit\":%u}",
		 config->replay_since_ms, config->replay_limit);
	rtbp_buf_text(b, text);
}

void join_encode(const struct join *j, const struct join_config *config, uint64_t ref,
		 struct rtbp_buf *out)
{
	const struct secret *key = config->token;
	CLEANUP(secret_wipe_buf) struct rtbp_buf payload = RTBP_BUF_INIT;
	size_t changes;

	/* Room for all at once: a growing buffer would leave copies of the token behind in freed
	 * memory. */
	changes = config->feed ? feed_encoded_size(config->feed) : 0;
	(void)rtbp_buf_room(&payload, 256 + 6 * sizeof(j->key) + 6 * secret_size(key) + changes);
	(void)rtbp_buf_room(out, 512 + 6 * sizeof(j->key) + 6 * strlen(j->wire_topic) +
					 6 * secret_size(key) + changes);
	rtbp_buf_text(&payload, "{\"config\":{\"broadcast\":{\"ack\":true,\"self\":false");
	/* Left out when it is not wanted: on a public channel even null is refused. */
	if (config->replay_since_ms)
		put_replay(config, &payload);
	if (config->replication_ready)
		rtbp_buf_text(&payload, ",\"replication_ready\":true");
	rtbp_buf_text(&payload, "},\"presence\":{\"enabled\":");
	rtbp_buf_text(&payload, config->presence ? "true,\"key\":" : "false,\"key\":");
	rtbp_json_quote(&payload, config->key, strlen(config->key));
	rtbp_buf_text(&payload, "},\"postgres_changes\":[");
	if (config->feed)
		feed_encode(config->feed, &payload);
	rtbp_buf_text(&payload, "],\"private\":");
	rtbp_buf_text(&payload, j->is_private ? "true}" : "false}");
	/* The server takes the connection's key for an sb_ key in a join; said or not is the same
	 * then. (Tokens of peers are no such thing: that was looked at.) */
	if (strncmp(secret_bytes(key), "sb_", 3) != 0) {
		rtbp_buf_text(&payload, ",\"access_token\":");
		rtbp_json_quote(&payload, secret_bytes(key), secret_size(key));
	}
	rtbp_buf_text(&payload, "}");
	if (rtbp_buf_ok(&payload))
		phx_encode(session_vsn(j->link->session), ref, ref, j->wire_topic,
			   strlen(j->wire_topic), "phx_join", (const char *)payload.data,
			   payload.size, out);
	else
		out->error = payload.error;
}

const struct token *join_token(const struct join *j)
{
	if (j->trial_token)
		return j->trial_token;
	return j->identity ? identity_token(j->identity) : NULL;
}

int join_tell_token(struct join *j, const struct secret *token)
{
	CLEANUP(secret_wipe_buf) struct rtbp_buf payload = RTBP_BUF_INIT;
	struct rtbp_buf *frame = hub_scratch(j->hub);
	struct session_push push = { 0 };
	int r;

	(void)rtbp_buf_room(&payload, 64 + 6 * secret_size(token));
	(void)rtbp_buf_room(frame, 512 + 6 * (strlen(j->wire_topic) + secret_size(token)));
	rtbp_buf_text(&payload, "{\"access_token\":");
	rtbp_json_quote(&payload, secret_bytes(token), secret_size(token));
	rtbp_buf_text(&payload, "}");
	if (!rtbp_buf_ok(&payload))
		return payload.error;
	r = join_push_event(j, "access_token", (const char *)payload.data, payload.size, &push);
	if (frame->data)
		explicit_bzero(frame->data, frame->cap);
	return r;
}

void join_reply_text(struct rtbp_val response, const char *otherwise, char *text, size_t size)
{
	struct rtbp_str s = { NULL, 0 };

	if (!rtbp_get_str(response, &s))
		(void)rtbp_get_str(rtbp_find(response, "reason", 6), &s);
	if (!s.p || s.size == 0 || !rtbp_utf8_valid(s.p, s.size))
		snprintf(text, size, "%s", otherwise);
	else
		hub_copy_text(s, text, size);
}
