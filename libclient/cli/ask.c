/* SPDX-License-Identifier: MIT */
/* `rtbridge reconnect`, `rtbridge refresh-token`: what those with the right admin may ask the daemon
 * for. */
#include <string.h>

#include "cli.h"

enum { ASK_WAIT_MS = 60000 };

static int exit_of(int error)
{
	switch (error) {
	case RTB_E_FORBIDDEN:
		return CLI_DENIED;
	case RTB_E_REFUSED:
	case RTB_E_BUSY:
		return CLI_REFUSED;
	case RTB_E_TIMEOUT:
		return CLI_TIMEOUT;
	default:
		return CLI_ERROR;
	}
}

/* Return: whether the daemon has not done it, which is told then. */
static bool has_failed(struct cli *cli, const char *what, int error, const char *error_text)
{
	if (error >= 0)
		return false;
	cli_error("cannot %s: %s", what, error_text);
	cli_finish(cli, exit_of(error));
	return true;
}

static int print_json(const char *type, struct mp v)
{
	char *json, error[128];
	int r = rtb_msgpack_to_json(v.p, v.size, &json, NULL, error, sizeof(error));

	if (r < 0) {
		cli_error("cannot print the answer: %s", error);
		return CLI_ERROR;
	}
	printf("{\"type\":\"%s\",\"%s\":%s}\n", type, type, json);
	rtb_free(json);
	return CLI_OK;
}

static void on_reconnect(struct rtb_client *c, int error, const char *error_text, const void *value,
			 size_t size, void *user)
{
	struct mp v = { value, size };
	struct cli *cli = user;
	int code = CLI_OK;
	char state[32];

	(void)c;
	if (has_failed(cli, "reconnect", error, error_text))
		return;
	if (cli->json) {
		code = print_json("connection", v);
	} else {
		mp_text(mp_find(v, "state"), state, sizeof(state));
		cli_put_plain(stdout, state);
		putchar('\n');
		cli_print_trouble(v);
	}
	cli_finish(cli, code);
}

static void on_token(struct rtb_client *c, int error, const char *error_text, const void *value,
		     size_t size, void *user)
{
	struct mp v = { value, size };
	struct cli *cli = user;
	int code = CLI_OK;
	char state[32];

	(void)c;
	if (has_failed(cli, "get another token", error, error_text))
		return;
	mp_text(mp_find(v, "state"), state, sizeof(state));
	if (cli->json)
		code = print_json("token", v);
	else
		cli_print_token(v, "");
	cli_finish(cli, code != CLI_OK || strcmp(state, "good") == 0 ? code : CLI_ERROR);
}

int cli_reconnect(struct cli *cli)
{
	return cli_ask(cli, rtb_reconnect, on_reconnect, ASK_WAIT_MS);
}

int cli_refresh_token(struct cli *cli)
{
	return cli_ask(cli, rtb_refresh_token, on_token, ASK_WAIT_MS);
}
