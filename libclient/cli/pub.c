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
	WAITING_MS = 2000, /* well before the message expires */
};

struct slot {
	bool is_done;
	struct rtb_result result; /* its texts are the following */
	char *text;               /* may be NULL */
	char code[32], word[32], id[65];
	struct pub *pub;
};

struct pub {
	struct cli *cli;
	int worst;
	char end_text[64]; /* what ends the wait for answers; "": nothing yet */
	struct slot slots[WINDOW];
	uint64_t n_taken, n_printed; /* lines; slot = number % WINDOW */
	uint64_t line_of[WINDOW];    /* as the user counts them */
	struct cli_lines in;
	struct cli_bytes file;      /* the payload of -f, or of --binary */
	struct cli_waiting waiting; /* from the first message on, to any answer */
};

/* ---- outcomes ---- */

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
	char lead[32] = "";

	p->worst = worse(p->worst, cli_exit_of_outcome(slot->result.outcome));
	if (p->cli->quiet)
		return;
	if (p->cli->json) {
		cli_put_result_json(&slot->result, line);
		return;
	}
	printf("%s\n", slot->result.word);
	if (line)
		(void)snprintf(lead, sizeof(lead), "line %llu: ", (unsigned long long)line);
	/* Why nobody waits any longer is said once for all of them. */
	if (!p->end_text[0] || !slot->text || strcmp(slot->text, p->end_text) != 0)
		cli_put_result_words(p->cli, &slot->result, lead);
	else if (!line && slot->id[0])
		cli_error("to ask what became of it: rtbridge outcome %s", slot->id);
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

static void set_outcome(struct slot *slot, const struct rtb_result *result)
{
	slot->is_done = true;
	slot->result = *result;
	slot->text = *result->text ? strdup(result->text) : NULL; /* or, without memory, no words */
	(void)snprintf(slot->code, sizeof(slot->code), "%s", result->code);
	(void)snprintf(slot->word, sizeof(slot->word), "%s", result->word);
	(void)snprintf(slot->id, sizeof(slot->id), "%s", result->id);
	slot->result.text = slot->text ? slot->text : "";
	slot->result.code = slot->code;
	slot->result.word = slot->word;
	slot->result.id = slot->id;
}

static void on_result(struct rtb_client *c, int64_t id, const struct rtb_result *result, void *user)
{
	struct rtb_result as_ended = *result;
	struct slot *slot = user;

	(void)c;
	(void)id;
	/* It is the client that is ended: the daemon has done nothing. */
	if (slot->pub->end_text[0])
		as_ended.text = slot->pub->end_text;
	/* The status has said more about it. */
	if (result->outcome == RTB_EXPIRED && slot->pub->waiting.code[0]) {
		as_ended.code = slot->pub->waiting.code;
		as_ended.retry_after_ms = cli_waiting_retry_ms(&slot->pub->waiting);
	}
	cli_waiting_end(&slot->pub->waiting);
	set_outcome(slot, &as_ended);
}

/* ---- sending ---- */

static enum rtb_outcome outcome_of(int64_t error)
{
	if (error == RTB_E_TOKEN)
		return RTB_DENIED;
	return error == RTB_E_TOO_BIG ? RTB_TOO_BIG : RTB_INVALID;
}

static void start_waiting(struct pub *p)
{
	const struct cli *cli = p->cli;
	int64_t half = cli->ttl_ms / 2;

	cli_waiting_start(&p->waiting, p->cli, cli->operands[0],
			  half && half < WAITING_MS ? half : WAITING_MS);
	p->waiting.may_post = cli->via != RTB_VIA_WS;
	p->waiting.only_posts = cli->via == RTB_VIA_HTTP;
}

/* Return: 1 taken (it has or will have an outcome), 0 not now, or the exit code. */
static int send_one(struct pub *p, const char *payload, size_t size, uint64_t line, int *ret_exit)
{
	struct rtb_send_options o = RTB_SEND_OPTIONS_INIT;
	struct slot *slot = &p->slots[p->n_taken % WINDOW];
	struct cli *cli = p->cli;
	int64_t r;

	*slot = (struct slot){ .pub = p };
	o.is_private = cli->is_private;
	o.ttl_ms = cli->ttl_ms;
	o.via = cli->via;
	o.form = cli->is_binary ? RTB_BINARY : RTB_JSON;
	o.id = cli->id;
	o.result = on_result;
	o.user = slot;
	r = rtb_broadcast(cli->client, cli->operands[0], cli->operands[1], payload, size, &o);
	if (r == RTB_E_DETACHED || r == RTB_E_BUSY || r == -ENOMEM ||
	    (r == RTB_E_TOKEN && rtb_client_state(cli->client) != RTB_ATTACHED))
		return 0;
	if (r == RTB_E_TOPIC || r == RTB_E_EVENT || r == -EINVAL) {
		cli_error("cannot send: %s", rtb_client_error_text(cli->client));
		*ret_exit = CLI_USAGE;
		return -1;
	}
	if (r < 0)
		set_outcome(slot, &(struct rtb_result){ .outcome = outcome_of(r),
							.text = rtb_client_error_text(cli->client),
							.retry_after_ms = -1,
							.code = r == RTB_E_TOKEN ? "bad_token" : "",
							.word = rtb_outcome_name(outcome_of(r)),
							.id = "" });
	else if (!cli->quiet && p->n_taken == 0)
		start_waiting(p);
	p->line_of[p->n_taken % WINDOW] = line;
	p->n_taken++;
	return 1;
}

static int pub_one(struct pub *p)
{
	const char *json = p->cli->n_operands > 2 ? p->cli->operands[2] : "{}";
	bool is_file = p->cli->file || p->cli->is_binary;
	struct cli_bytes payload = is_file ? p->file : (struct cli_bytes){ NULL, strlen(json) };
	int r = 0, code = CLI_ERROR;

	while (!p->cli->is_done && p->n_printed == 0) {
		if (r == 0)
			r = send_one(p, is_file ? payload.p : json, payload.size, 0, &code);
		if (r < 0)
			return code;
		p->cli->wake_ms = cli_waiting_look(&p->waiting);
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
		cli->wake_ms = cli_waiting_look(&p->waiting);
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
	bool is_other = cli->from_lines || cli->file || cli->is_binary;
	const char *wrong = NULL;

	if (cli->from_lines && (cli->file || cli->is_binary || cli->id))
		wrong = "pub -l does not go with -f, --binary or --id: each line is a message";
	else if (cli->via_ws && cli->via_http)
		wrong = "pub goes by one way: --ws or --http";
	else if (cli->n_operands < 2 || cli->n_operands > 3)
		wrong = "pub needs TOPIC, EVENT and at most one JSON";
	else if (cli->n_operands > 2 && is_other)
		wrong = "pub takes its payload from one place: JSON, -f, -l or --binary";
	if (!wrong)
		return 0;
	cli_error("%s; see `rtbridge pub --help`", wrong);
	return CLI_USAGE;
}

/* Sent, and not answered. @ret_line: the first. */
static unsigned long long count_open(const struct pub *p, unsigned long long *ret_line)
{
	unsigned long long n = 0;

	for (uint64_t i = p->n_printed; i < p->n_taken; i++) {
		if (p->slots[i % WINDOW].is_done)
			continue;
		if (n++ == 0)
			*ret_line = p->line_of[i % WINDOW];
	}
	return n;
}

/* Nothing waits for an answer, and -W is over. */
static void tell_unsent(const struct pub *p)
{
	const struct cli *cli = p->cli;

	if (cli->from_lines && rtb_client_state(cli->client) == RTB_ATTACHED)
		cli_error("stdin has not ended within %g s (-W)", cli->wait_s);
	else if (p->n_taken == 0)
		cli_error("%s from the daemon; nothing was sent", p->end_text);
	else if (cli->from_lines)
		cli_error("%s from the daemon; the lines that were not answered before were not "
			  "sent",
			  p->end_text);
}

/* What ended the run before all was answered: it was not the daemon. */
static void tell_end(struct pub *p)
{
	const struct cli *cli = p->cli;
	unsigned long long line = 0, n = count_open(p, &line);

	if (cli->exit_code == CLI_TIMEOUT)
		(void)snprintf(p->end_text, sizeof(p->end_text), "no answer within %g s (-W)",
			       cli->wait_s);
	else if (cli->exit_code > CLI_SIGNAL && n)
		(void)snprintf(p->end_text, sizeof(p->end_text), "interrupted before the answer");
	else
		return;
	if (n == 0)
		tell_unsent(p);
	else if (!cli->from_lines)
		cli_error("%s; the message may have arrived", p->end_text);
	else if (n == 1)
		cli_error("%s to line %llu; it may have arrived", p->end_text, line);
	else
		cli_error("%s to %llu lines, of which line %llu is the first; they may have "
			  "arrived",
			  p->end_text, n, line);
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
	p->waiting.at_ms = p->waiting.retry_at_ms = -1;
	cli->verb = p;
	cli->on_state = on_state;
	cli->via = cli->via_ws ? RTB_VIA_WS : cli->via_http ? RTB_VIA_HTTP : RTB_VIA_AUTO;
	if (cli->file || cli->is_binary)
		r = cli_read_file(cli, cli->file ? cli->file : "-", &p->file);
	if (r == 0)
		r = cli_attach(cli);
	if (r == 0)
		r = cli->from_lines ? pub_lines(p) : pub_one(p);
	if (cli->is_done)
		tell_end(p);
	/* The callbacks refer to `p`; what is still open becomes "unknown". */
	cli->client = rtb_client_free(cli->client);
	print_ready(p);
	for (size_t i = 0; i < WINDOW; i++)
		free(p->slots[i].text);
	free(p->in.buf);
	free(p->file.p);
	free(p);
	return r;
}
