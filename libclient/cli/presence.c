/* SPDX-License-Identifier: MIT */
/* `rtbridge presence TOPIC ls`: who is there, once it is known. */
#include <string.h>
#include <unistd.h>

#include "cli.h"

struct ls {
	struct cli *cli;
	bool json;
	struct cli_waiting waiting;
};

static void print_table(const struct rtb_sub *sub)
{
	const struct rtb_presence_entry *e = NULL;
	struct cli_table t = { .n_columns = 3 };
	char *json;

	while ((e = rtb_presence_next(sub, e))) {
		if (rtb_msgpack_to_json(e->state, e->state_size, &json, NULL, NULL, 0) != 0)
			json = NULL;
		cli_table_cell(&t, "%s", e->key[0] ? e->key : "-");
		cli_table_cell(&t, "%s", e->ref);
		cli_table_cell(&t, "%s", json ? json : "?");
		rtb_free(json);
	}
	cli_table_print(&t, stdout);
}

static void on_presence(struct rtb_sub *sub, const struct rtb_presence *change, void *user)
{
	const struct rtb_presence_entry *e = NULL;
	struct ls *ls = user;

	(void)change; /* the first one is all of it */
	if (ls->cli->is_done)
		return;
	if (!ls->json && rtb_presence_count(sub) == 0)
		fputs("nobody is there\n", stderr);
	else if (!ls->json)
		print_table(sub);
	while (ls->json && (e = rtb_presence_next(sub, e))) {
		cli_put_entry(e);
		putchar('\n');
	}
	cli_finish(ls->cli, CLI_OK);
}

static void on_channel(struct rtb_sub *sub, const struct rtb_channel *ch, void *user)
{
	enum rtb_presence_status status = rtb_sub_presence(sub);
	bool is_detached = strcmp(ch->code, "detached") == 0;
	bool is_back = ch->state == RTB_CHANNEL_REJOINING;
	struct ls *ls = user;
	char advice[CLI_ADVICE];

	if (ls->cli->is_done)
		return;
	if (ch->state == RTB_CHANNEL_REJECTED || ch->state == RTB_CHANNEL_CLOSED) {
		cli_finish(ls->cli, cli_tell_rejected(ls->cli, ch));
	} else if (status == RTB_PRESENCE_DENIED) {
		cli_error("cannot see who is in %s: denied; see the policies of the project",
			  ch->topic);
		cli_finish(ls->cli, CLI_DENIED);
	} else if (status == RTB_PRESENCE_OVERFLOW) {
		cli_error("cannot see who is in %s: it is more than the daemon keeps ([limits] "
			  "presence)",
			  ch->topic);
		cli_finish(ls->cli, CLI_REFUSED);
	} else if (ch->code[0] && !is_detached) {
		cli_notice(ls->cli,
			   &(struct cli_notice){ .type = "channel",
						 .topic = ch->topic,
						 .state = is_back ? "rejoining" : "joining",
						 .code = ch->code,
						 .text = ch->text,
						 .retry_in_ms = ch->retry_in_ms,
						 .advice = cli_advice(ls->cli, ch->code, ch->text,
								      advice, sizeof(advice)) });
		cli_waiting_end(&ls->waiting);
	}
}

int cli_presence_ls(struct cli *cli)
{
	static const char *const none[] = { NULL };
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	struct ls ls = { .cli = cli, .json = cli->json || !isatty(STDOUT_FILENO) };
	struct rtb_sub *sub;
	int r;

	o.is_private = cli->is_private;
	o.events = none;
	o.presence = true;
	o.handlers.presence = on_presence;
	o.handlers.channel = on_channel;
	o.user = &ls;
	/* Notices go to stderr also with JSON: on stdout are entries alone. */
	cli->on_state = cli_notice_state;
	cli->on_connection = cli_notice_connection;
	r = cli_attach(cli);
	if (r == 0) {
		r = rtb_subscribe(cli->client, cli->operands[0], &o, &sub);
		if (r < 0) {
			cli_error("cannot subscribe to %s: %s", cli->operands[0], rtb_strerror(r));
			r = r == RTB_E_TOPIC ? CLI_USAGE : CLI_ERROR;
		}
	}
	cli_waiting_start(&ls.waiting, cli, cli->operands[0], CLI_WAITING_MS);
	while (r == 0 && !cli->is_done) {
		cli->wake_ms = cli_waiting_look(&ls.waiting);
		cli_turn(cli, NULL);
	}
	if (r == 0)
		r = cli->exit_code;
	if (r == CLI_TIMEOUT)
		cli_error("who is there was not known within %g s; see `rtbridge status`",
			  cli->wait_s);
	/* The callbacks refer to `ls`. */
	cli->client = rtb_client_free(cli->client);
	return r;
}
