/* SPDX-License-Identifier: MIT */
/* Prints what happens on room:1: `hello`, next to `rtbridge pub room:1 hello '{"n":1}'`. */
#include <rtbridge/rtbridge.h>
#include <stdio.h>

static void on_broadcast(struct rtb_sub *sub, const struct rtb_broadcast *msg, void *user)
{
	char *json;

	(void)user;
	if (rtb_msgpack_to_json(msg->payload, msg->payload_size, &json, NULL, NULL, 0) < 0)
		return; /* a binary payload */
	printf("%s %s %s\n", rtb_sub_topic(sub), msg->event, json);
	rtb_free(json);
}

int main(void)
{
	struct rtb_sub_options options = RTB_SUB_OPTIONS_INIT;
	struct rtb_client *client;
	struct rtb_sub *sub;
	int r;

	options.handlers.broadcast = on_broadcast;
	r = rtb_client_new(NULL, &client);
	if (r == 0)
		r = rtb_subscribe(client, "room:1", &options, &sub);
	while (r >= 0) {
		fflush(stdout);
		r = rtb_wait(client, -1);
	}
	fprintf(stderr, "hello: %s\n", rtb_strerror(r));
	return 1;
}
