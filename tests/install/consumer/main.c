/* SPDX-License-Identifier: MIT */
/* A program of somebody else: uses the installed library, needs no daemon. */
#include <rtbridge/rtbridge.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct rtb_options options = RTB_OPTIONS_INIT;
	struct rtb_client *client;
	size_t size;
	void *mp;

	options.socket_path = "/nonexistent/rtbridge.sock";
	if (rtb_client_new(&options, &client) < 0)
		return 1;
	if (rtb_wait_attached(client, 100) != RTB_E_TIMEOUT)
		return 1;
	rtb_client_free(client);
	if (rtb_json_to_msgpack("[1.50]", 6, &mp, &size, NULL, 0) < 0)
		return 1;
	rtb_free(mp);
	puts(rtb_version());
	return strcmp(rtb_version(), EXPECTED) != 0;
}
