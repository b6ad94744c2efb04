/* SPDX-License-Identifier: MIT */
/*
 * `rtbridge pub`: sends one message, or with -l one for each line of stdin.
 *
 * Lines are sent without waiting for the outcome of the one before, at most WINDOW at once.
 * Outcomes are printed in the order of the lines. While the daemon is away nothing is read; what
 * had no outcome by then is "unknown", because it may have arrived.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum {
	WINDOW = 256,
};

struct slot {
	bool is_done;
	enum rtb_outcome outcome;
	char *text; /* may be NULL */
};

struct pub {
	struct cli *cli;
	int worst;
	struct slot slots[WINDOW];
	uint64_t n_taken, n_printed; /* lines; slot = number % WINDOW */
	uint64_t line_of[WINDOW];    /* as the user counts them */
	struct cli_lines in;
};

/* ---- outcomes ---- */

static int exit_of(enum rtb_outcome outcome)
{
	switch (outcome) {
	case RTB_ACKED:
	case RTB_SENT:
		return CLI_OK;
	case RTB_DENIED:
	case RTB_NOT_JOINED:
		return CLI_DENIED;
	case RTB_UNKNOWN:
		return CLI_UNKNOWN;
	case RTB_EXPIRED:
		return CLI_TIMEOUT;
	default:
		return CLI_REFUSED;
	}
}

/* Of several outcomes: what certainly failed is worse than what may have arrived. */
static int worse(int a, int b)
{
	static const int order[] = { CLI_DENIED, CLI_REFUSED, CLI_TIMEOUT, CLI_UNKNOWN };

	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
		if (a == order[i] || b == order[i])
			return order[i];
	return a;
}

static void print_outcome(struct pub *p, const struct slot *slot, uint64_t line)
{
	const char *name = rtb_outcome_name(slot->outcome), *text = slot->text ? slot->text : "";

	p->worst = worse(p->worst, exit_of(slot->outcome));
	if (p->cli->quiet)
		return;
	if (p->cli->json) {
		printf("{\"outcome\":\"%s\"", name);
		if (p->cli->from_lines)
			printf(",\"line\":%llu", (unsigned long long)line);
		cli_put_json_field(stdout, "text", text);
		printf("}\n");
		return;
	}
	printf("%s\n", name);
	if (*text && p->cli->from_lines)
		cli_error("line %llu: %s", (unsigned long long)line, text);
	else if (*text)
		cli_error("%s", text);
}

static void print_ready(struct pub *p)
{
	struct slot *slot;

	while (p->n_printed < p->n_taken && p->slots[p->n_printed % WINDOW].is_done) {
		slot = &p->slots[p->n_printed % WINDOW];
		print_outcome(p, slot, p->line_of[p->n_printed % WINDOW]);
		free(slot->text);
		slot->text = NULL;
		p->n_printed++;
	}
}

static void set_outcome(struct slot *slot, enum rtb_outcome outcome, const char *text)
{
	slot->is_done = true;
	slot->outcome = outcome;
	slot->text = *text ? strdup(text) : NULL; /* without memory it goes without words */
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	(void)c;
	(void)id;
	set_outcome(user, result->outcome, result->text);
}

/* ---- sending ---- */

static enum rtb_outcome outcome_of(int64_t error)
{
	if (error == RTB_E_TOKEN)
		return RTB_DENIED;
	return error == RTB_E_TOO_BIG ? RTB_TOO_BIG : RTB_INVALID;
}

/* Return: 1 taken (it has or will have an outcome), 0 not now, or the exit code. */
static int send_one(struct pub *p, const char *json, size_t size, uint64_t line, int *ret_exit)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct slot *slot = &p->slots[p->n_taken % WINDOW];
	struct cli *cli = p->cli;
	int64_t r;

	*slot = (struct slot){ false, RTB_UNKNOWN, NULL };
	o.is_private = cli->is_private;
	o.ttl_ms = cli->ttl_ms;
	o.result = on_result;
	o.user = slot;
	r = rtb_broadcast_json(cli->client, cli->operands[0], cli->operands[1], json, size, &o);
	if (r == RTB_E_DETACHED || r == RTB_E_BUSY || r == -ENOMEM ||
	    (r == RTB_E_TOKEN && rtb_client_state(cli->client) != RTB_ATTACHED))
		return 0;
	if (r == RTB_E_TOPIC || r == RTB_E_EVENT) {
		cli_error("cannot send: %s", rtb_client_error_text(cli->client));
		*ret_exit = CLI_USAGE;
		return -1;
	}
	if (r < 0)
		set_outcome(slot, outcome_of(r), rtb_client_error_text(cli->client));
	p->line_of[p->n_taken % WINDOW] = line;
	p->n_taken++;
	return 1;
}

static int pub_one(struct pub *p)
{
	const char *json = p->cli->n_operands > 2 ? p->cli->operands[2] : "{}";
	int r = 0, code = CLI_ERROR;

	while (!p->cli->is_done && p->n_printed == 0) {
		if (r == 0)
			r = send_one(p, json, strlen(json), 0, &code);
		if (r < 0)
			return code;
		if (!p->slots[0].is_done)
			cli_turn(p->cli, NULL);
		print_ready(p);
	}
	return p->n_printed ? p->worst : p->cli->exit_code;
}

/* ---- lines ---- */

/* Sends the whole lines that are there. Return: 0, or the exit code. */
static int send_lines(struct pub *p)
{
	int r = 1, code = CLI_ERROR;
	const char *line;
	size_t size;

	while (p->n_taken - p->n_printed < WINDOW && cli_lines_peek(&p->in, &line, &size)) {
		if (!cli_is_blank(line, size))
			r = send_one(p, line, size, p->in.n + 1, &code);
		if (r < 0)
			return code;
		if (r == 0)
			return 0;
		cli_lines_take(&p->in);
		r = 1;
	}
	return cli_lines_check(&p->in);
}

static int pub_lines(struct pub *p)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	struct cli *cli = p->cli;
	uint64_t n_taken;
	bool can_read;
	int r = 0;

	while (r == 0 && !cli->is_done) {
		/* What is printed makes room in the window, until all are sent or wait. */
		do {
			print_ready(p);
			n_taken = p->n_taken;
			r = send_lines(p);
		} while (r == 0 && p->n_taken != n_taken);
		if (r != 0 || (cli_lines_is_over(&p->in) && p->n_printed == p->n_taken))
			break;
		can_read = p->n_taken - p->n_printed < WINDOW &&
			   rtb_client_state(cli->client) == RTB_ATTACHED &&
			   !cli_lines_is_full(&p->in);
		in.revents = 0;
		cli_turn(cli, can_read ? &in : NULL);
		if (in.revents)
			r = cli_lines_read(&p->in);
	}
	print_ready(p);
	if (r != 0)
		return r;
	return cli->is_done ? cli->exit_code : p->worst;
}

static void on_state(struct cli *cli, enum rtb_state state, int why)
{
	if (why && state == RTB_ATTACHING && cli->verbose)
		cli_error("%s; attaching again", rtb_client_error_text(cli->client));
}

static int check_operands(const struct cli *cli)
{
	int most = cli->from_lines ? 2 : 3;

	if (cli->n_operands >= 2 && cli->n_operands <= most)
		return 0;
	cli_error(cli->from_lines ? "pub -l needs TOPIC and EVENT; see `rtbridge --help`"
				  : "pub needs TOPIC, EVENT and at most one JSON; see "
				    "`rtbridge --help`");
	return CLI_USAGE;
}

int cli_pub(struct cli *cli)
{
	struct pub *p;
	int r = check_operands(cli);

	if (r != 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p) {
		cli_error("out of memory");
		return CLI_ERROR;
	}
	p->cli = cli;
	cli->verb = p;
	cli->on_state = on_state;
	r = cli_attach(cli);
	if (r == 0)
		r = cli->from_lines ? pub_lines(p) : pub_one(p);
	if (r == CLI_TIMEOUT && cli->is_done && p->n_printed < p->n_taken)
		cli_error("no outcome within %g s; the message may still arrive", cli->wait_s);
	/* The callbacks refer to `p`; what is still open becomes "unknown". */
	cli->client = rtb_client_free(cli->client);
	print_ready(p);
	for (size_t i = 0; i < WINDOW; i++)
		free(p->slots[i].text);
	free(p->in.buf);
	free(p);
	return r;
}
