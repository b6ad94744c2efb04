/* SPDX-License-Identifier: MIT */
/* The frame that joins a channel. */
#include <string.h>

#include "base/cleanup.h"
#include "hub/impl.h"
#include "proto/rtbp_json.h"

void join_encode(const struct join *j, const struct join_config *config, uint64_t ref,
		 struct rtbp_buf *out)
{
	const struct secret *key = j->hub->conf.apikey;
	CLEANUP(secret_wipe_buf) struct rtbp_buf payload = RTBP_BUF_INIT;

	/* Room for all at once: a growing buffer would leave copies of the token behind in freed
	 * memory. */
	(void)rtbp_buf_room(&payload, 256 + 6 * sizeof(j->key) + 6 * secret_size(key));
	(void)rtbp_buf_room(out, 512 + 6 * sizeof(j->key) + 6 * strlen(j->wire_topic) +
					 6 * secret_size(key));
	rtbp_buf_text(&payload, "{\"config\":{\"broadcast\":{\"ack\":true,\"self\":false},"
				"\"presence\":{\"enabled\":");
	rtbp_buf_text(&payload, config->presence ? "true,\"key\":" : "false,\"key\":");
	rtbp_json_quote(&payload, config->key, strlen(config->key));
	rtbp_buf_text(&payload, "},\"postgres_changes\":[],\"private\":");
	rtbp_buf_text(&payload, j->is_private ? "true}" : "false}");
	/* The server takes the connection's key for an sb_ key in a join; said or not is the same
	 * then. */
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
