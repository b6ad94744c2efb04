/* SPDX-License-Identifier: MIT */
/*
 * What became of sends: their exit codes, how they are printed, and `rtbridge outcome ID`, which
 * asks the daemon for one whose answer nobody has seen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { PAUSE_FIRST_MS = 250, PAUSE_CAP_MS = 2000 };

int cli_exit_of_outcome(enum rtb_outcome outcome)
{
	switch (outcome) {
	case RTB_ACKED:
	case RTB_SENT:
		return CLI_OK;
	case RTB_DENIED:
	case RTB_NOT_JOINED:
		return CLI_DENIED;
	case RTB_UNKNOWN:
	case RTB_PENDING:
	case RTB_OTHER:
		return CLI_UNKNOWN;
	case RTB_EXPIRED:
		return CLI_TIMEOUT;
	default:
		return CLI_REFUSED;
	}
}

static const char *const via_names[] = {
	[RTB_VIA_AUTO] = "",
	[RTB_VIA_WS] = "ws",
	[RTB_VIA_HTTP] = "http",
};

void cli_put_result_json(const struct rtb_result *result, uint64_t line)
{
	printf("{\"outcome\":");
	cli_put_json_text(stdout, result->word);
	if (line)
		printf(",\"line\":%llu", (unsigned long long)line);
	cli_put_json_field(stdout, "via", via_names[result->via]);
	cli_put_json_field(stdout, "id", result->id);
	cli_put_json_field(stdout, "code", result->code);
	cli_put_json_field(stdout, "text", result->text);
	if (result->retry_after_ms >= 0)
		printf(",\"retry_in_ms\":%lld", (long long)result->retry_after_ms);
	printf("}\n");
}

void cli_put_result_words(const struct cli *cli, const struct rtb_result *result, const char *lead)
{
	char code[40] = "", advice[CLI_ADVICE], when[CLI_WHEN];

	if (cli->verbose && (result->via || *result->id))
		cli_error("%s%s%s%s%s%s", lead, result->via ? "by " : "", via_names[result->via],
			  result->via && *result->id ? ", " : "", *result->id ? "id " : "",
			  result->id);
	if (!*result->text && !*result->code)
		return;
	if (*result->code)
		(void)snprintf(code, sizeof(code), "%s(%s)", *result->text ? " " : "",
			       result->code);
	cli_error("%s%s%s%s%s", lead, result->text, code,
		  cli_when("try again in", result->retry_after_ms, when, sizeof(when)),
		  cli_advice(cli, result->code, result->text, advice, sizeof(advice)));
}

/* ---- the verb ---- */

struct question {
	struct cli *cli;
	bool is_open;   /* asked, and not answered */
	int64_t ask_ms; /* when to ask, monotonic */
	int64_t pause_ms;
	bool is_told;
	int exit_code;
};

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	struct question *q = user;
	bool is_known = !*result->code || strcmp(result->code, "unknown_id") == 0;

	(void)c;
	(void)id;
	q->is_open = false;
	q->ask_ms = cli_now_ms() + q->pause_ms;
	q->pause_ms = 2 * q->pause_ms < PAUSE_CAP_MS ? 2 * q->pause_ms : PAUSE_CAP_MS;
	/* Without -W what there is now is enough; that the daemon went away is no answer. */
	if (strcmp(result->code, "detached") == 0 ||
	    (q->cli->end_ms >= 0 && (!is_known || result->outcome == RTB_PENDING)))
		return;
	q->is_told = true;
	q->exit_code = is_known ? cli_exit_of_outcome(result->outcome) : CLI_REFUSED;
	if (q->cli->json) {
		cli_put_result_json(result, 0);
		return;
	}
	printf("%s\n", result->word);
	cli_put_result_words(q->cli, result, "");
}

/* Return: 0, or the exit code. */
static int ask(struct question *q)
{
	struct cli *cli = q->cli;
	int64_t r;

	if (q->is_open || q->ask_ms > cli_now_ms())
		return 0;
	r = rtb_outcome(cli->client, cli->operands[0], on_result, q);
	q->is_open = r > 0;
	if (q->is_open)
		return 0;
	q->ask_ms = cli_now_ms() + PAUSE_FIRST_MS;
	if (r == RTB_E_DETACHED || r == RTB_E_BUSY || r == -ENOMEM)
		return 0;
	cli_error("cannot ask: %s", rtb_client_error_text(cli->client));
	return r == -EINVAL ? CLI_USAGE : CLI_REFUSED;
}

int cli_outcome(struct cli *cli)
{
	struct question q = { .cli = cli, .pause_ms = PAUSE_FIRST_MS };
	int r;

	if (cli->n_operands != 1) {
		cli_error("outcome needs the ID of a send; see `rtbridge pub --help`");
		return CLI_USAGE;
	}
	r = cli_attach(cli);
	while (r == 0 && !q.is_told && !cli->is_done) {
		r = ask(&q);
		cli->wake_ms = q.is_open ? -1 : q.ask_ms;
		if (r == 0)
			cli_turn(cli, NULL);
	}
	if (r == 0)
		r = q.is_told ? q.exit_code : cli->exit_code;
	if (r == CLI_TIMEOUT && !q.is_told)
		cli_error("it has no outcome yet, %g s (-W) are over", cli->wait_s);
	/* The callback refers to `q`. */
	cli->client = rtb_client_free(cli->client);
	return r;
}
