/* SPDX-License-Identifier: MIT */
/* The `rtbridge` command: options and verbs. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const char help[] =
	"usage: rtbridge [-s SOCKET] [--json] COMMAND\n"
	"  status                        how the daemon and its connection are (default)\n"
	"  sub TOPIC...                  print messages; JSON Lines unless on a terminal\n"
	"    -e, --event EVENT           only these events (repeatable)\n"
	"    -C, --count N               end after N messages\n"
	"    -E, --exit-ready            end once all topics are ready\n"
	"    --self                      also what this process sends\n"
	"    -v, --verbose               all notices, not only those of trouble\n"
	"  pub TOPIC EVENT [JSON]        send JSON (default {}), print the outcome\n"
	"    -l, --lines                 one payload per line of stdin, in order\n"
	"    --ttl TIME                  how long it may wait for the channel: 2s, 500ms\n"
	"    -q, --quiet                 print no outcome\n"
	"  for sub and pub: --private    a private channel\n"
	"  for all: -s, --socket PATH    the daemon's socket; else $RTBRIDGE_SOCKET, else\n"
	"                                $XDG_RUNTIME_DIR/rtbridge/rtbridge.sock if it exists,\n"
	"                                else /run/rtbridge/rtbridge.sock\n"
	"           -W, --wait SECONDS   give up then (27)\n"
	"           --json               JSON output        -h, --help        --version\n"
	"exit: 0 ok, 1 error, 2 usage, 3 daemon not running, 4 daemon up but not connected,\n"
	"  5 denied or rejected, 6 refused (size, limit, busy, bad payload), 7 outcome unknown,\n"
	"  27 time over, 128+n signal n. pub exits by its outcome, -l by its worst.\n";

/* Options that only some verbs take, as bits. */
enum {
	VERB_STATUS = 1,
	VERB_SUB = 2,
	VERB_PUB = 4,
	VERB_ANY = 7,
};

enum { OPT_JSON = 256, OPT_VERSION, OPT_PRIVATE, OPT_SELF, OPT_TTL };

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, 's' },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "wait", required_argument, NULL, 'W' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "event", required_argument, NULL, 'e' },
	{ "count", required_argument, NULL, 'C' },
	{ "exit-ready", no_argument, NULL, 'E' },
	{ "self", no_argument, NULL, OPT_SELF },
	{ "private", no_argument, NULL, OPT_PRIVATE },
	{ "lines", no_argument, NULL, 'l' },
	{ "ttl", required_argument, NULL, OPT_TTL },
	{ "quiet", no_argument, NULL, 'q' },
	{ NULL, 0, NULL, 0 },
};

static int verbs_of(int option)
{
	switch (option) {
	case 'e':
	case 'C':
	case 'E':
	case OPT_SELF:
		return VERB_SUB;
	case 'l':
	case 'q':
	case OPT_TTL:
		return VERB_PUB;
	case 'v':
	case OPT_PRIVATE:
		return VERB_SUB | VERB_PUB;
	default:
		return VERB_ANY;
	}
}

static const struct {
	const char *name;
	int bit;
	int (*run)(struct cli *cli);
} verbs[] = {
	{ "status", VERB_STATUS, cli_status },
	{ "sub", VERB_SUB, cli_sub },
	{ "pub", VERB_PUB, cli_pub },
};

/* ---- values ---- */

static bool parse_count(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return !errno && *text >= '0' && *text <= '9' && !*end && *ret > 0;
}

static bool parse_wait(struct cli *cli, const char *text)
{
	double s;
	char *end;

	s = strtod(text, &end);
	if (end == text || *end || !isfinite(s) || s < 0 || s > 1e9)
		return false;
	cli->wait_s = s;
	cli->end_ms = cli_now_ms() + (int64_t)(s * 1000);
	return true;
}

/* "2s", "500ms", "1m"; a bare number is seconds. At most what the daemon allows: 60 s. */
static bool parse_ttl(const char *text, uint32_t *ret_ms)
{
	double v;
	char *end;

	v = strtod(text, &end);
	if (end == text || !isfinite(v))
		return false;
	if (strcmp(end, "ms") == 0)
		v /= 1000;
	else if (strcmp(end, "m") == 0)
		v *= 60;
	else if (*end && strcmp(end, "s") != 0)
		return false;
	if (v < 0.001 || v > 60)
		return false;
	*ret_ms = (uint32_t)(v * 1000 + 0.5);
	return true;
}

static int bad_value(const char *option, const char *value, const char *wanted)
{
	cli_error("cannot use %s %s: it is %s", option, value, wanted);
	return CLI_USAGE;
}

/* Return: -1 go on, else the exit code. */
static int take_flag(struct cli *cli, int option)
{
	switch (option) {
	case 'h':
		fputs(help, stdout);
		return CLI_OK;
	case OPT_VERSION:
		printf("rtbridge %s\n", rtb_version());
		return CLI_OK;
	case OPT_JSON:
		cli->json = true;
		break;
	case OPT_PRIVATE:
		cli->is_private = true;
		break;
	case OPT_SELF:
		cli->self = true;
		break;
	case 'v':
		cli->verbose = true;
		break;
	case 'q':
		cli->quiet = true;
		break;
	case 'l':
		cli->from_lines = true;
		break;
	case 'E':
		cli->until_ready = true;
		break;
	default: /* getopt has said what is wrong */
		fputs("Try `rtbridge --help`.\n", stderr);
		return CLI_USAGE;
	}
	return -1;
}

static int take_option(struct cli *cli, int option, const char *value)
{
	switch (option) {
	case 's':
		cli->socket = value;
		return -1;
	case 'e':
		cli->events[cli->n_events++] = value;
		return -1;
	case 'C':
		return parse_count(value, &cli->count) ? -1
						       : bad_value("-C", value, "a number from 1");
	case 'W':
		return parse_wait(cli, value) ? -1 : bad_value("-W", value, "seconds, like 2.5");
	case OPT_TTL:
		return parse_ttl(value, &cli->ttl_ms)
			       ? -1
			       : bad_value("--ttl", value, "1ms to 60s, like 500ms or 2s");
	default:
		return take_flag(cli, option);
	}
}

/* ---- */

static const char *option_name(int option)
{
	for (const struct option *o = long_options; o->name; o++)
		if (o->val == option)
			return o->name;
	return "?";
}

static int run_verb(struct cli *cli, char **operands, int n_operands, int allowed, int culprit)
{
	const char *name = n_operands ? operands[0] : "status";

	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		if (strcmp(verbs[i].name, name) != 0)
			continue;
		if (!(verbs[i].bit & allowed)) {
			cli_error("%s does not take --%s; see `rtbridge --help`", name,
				  option_name(culprit));
			return CLI_USAGE;
		}
		cli->operands = operands + (n_operands ? 1 : 0);
		cli->n_operands = n_operands ? n_operands - 1 : 0;
		if (verbs[i].bit == VERB_STATUS && cli->n_operands) {
			cli_error("status takes no operand; see `rtbridge --help`");
			return CLI_USAGE;
		}
		return verbs[i].run(cli);
	}
	cli_error("unknown command %s; see `rtbridge --help`", name);
	return CLI_USAGE;
}

int main(int argc, char **argv)
{
	struct cli cli = { .end_ms = -1, .signal_fd = -1 };
	int option, code = -1, allowed = VERB_ANY, culprit = 0;
	const char **events = calloc((size_t)argc + 1, sizeof(*events));

	if (!events)
		return CLI_ERROR;
	cli.events = events;
	/* getopt_long() permutes: options may stand before and behind the operands. */
	while (code < 0 &&
	       (option = getopt_long(argc, argv, "hs:W:ve:C:Elq", long_options, NULL)) != -1) {
		code = take_option(&cli, option, optarg);
		if ((allowed & verbs_of(option)) != allowed)
			culprit = option;
		allowed &= verbs_of(option);
	}
	if (cli.n_events == 0)
		cli.events = NULL;
	if (code < 0)
		code = run_verb(&cli, argv + optind, argc - optind, allowed, culprit);
	rtb_client_free(cli.client);
	if (cli.signal_fd >= 0)
		(void)close(cli.signal_fd);
	free(events);
	if (fflush(stdout) != 0 && code == CLI_OK)
		code = CLI_ERROR;
	return code;
}
