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
	"    --presence                  also who is there, and its changes; -e filters none\n"
	"    -C, --count N               end after N messages or changes of who is there\n"
	"    -E, --exit-ready            end once all topics are ready\n"
	"    --self                      also what this process sends\n"
	"    -v, --verbose               all notices, not only those of trouble\n"
	"  pub TOPIC EVENT [JSON]        send JSON (default {}), print the outcome\n"
	"    -l, --lines                 one payload per line of stdin, in order\n"
	"    --ttl TIME                  how long it may wait for the channel: 2s, 500ms\n"
	"    -q, --quiet                 print no outcome\n"
	"  presence TOPIC ls|watch|track who is there, and being there: rtbridge presence --help\n"
	"  for all but status: --private a private channel\n"
	"  for all: -s, --socket PATH    the daemon's socket; else $RTBRIDGE_SOCKET, else\n"
	"                                $XDG_RUNTIME_DIR/rtbridge/rtbridge.sock if it exists,\n"
	"                                else /run/rtbridge/rtbridge.sock\n"
	"           -W, --wait SECONDS   give up then (27); sub without -C: 0 if something came\n"
	"           --json               JSON output        -h, --help        --version\n"
	"exit: 0 ok, 1 error, 2 usage, 3 daemon not running, 4 daemon up but not connected,\n"
	"  5 denied or rejected, 6 refused (size, limit, busy, bad payload), 7 outcome unknown,\n"
	"  27 time over, 128+n signal n. pub exits by its outcome, -l by its worst.\n";

static const char presence_help[] =
	"usage: rtbridge presence TOPIC COMMAND\n"
	"  ls                            who is there, once that is known\n"
	"  watch                         who is there, then each change, until stopped\n"
	"    -C, --count N               end after N changes\n"
	"    -v, --verbose               all notices, not only those of trouble\n"
	"  track [JSON]                  be there with this state (default {}) until SIGINT or\n"
	"                                SIGTERM; tells when it is shown, throttled or refused\n"
	"    --key KEY                   under this key, else under one that the daemon makes\n"
	"    -, --stdin                  each line of stdin is a new state, the first one, too,\n"
	"                                if there is no JSON; ends once the last one is shown\n"
	"  track [JSON] -- CMD ARG...    be there while CMD runs. It starts at once, presence\n"
	"                                follows when it can, even without a daemon at first;\n"
	"                                signals go to CMD, the exit code is its own (126 cannot\n"
	"                                be run, 127 not found), its stdin is /dev/null with -.\n"
	"                                Once refused, it is not tried again before a new state\n"
	"                                comes. SIGKILL of track leaves CMD without presence.\n"
	"  for all: --private, -s, -W and --json as `rtbridge --help` says. JSON Lines unless on\n"
	"  a terminal. With -W, watch exits by 0 if who is there came in time (with -C: N\n"
	"  changes), else by 27; track is there for that long; a CMD takes no -W.\n"
	"exit: as `rtbridge --help` says; 2 also a bad key, 5 the server's policies do not show\n"
	"  it, or do not let this be shown, 6 a bad state, or refused by the daemon\n"
	"  (presence_taken, a limit)\n";

/* Options that only some verbs take, as bits. */
enum {
	VERB_STATUS = 1,
	VERB_SUB = 2,
	VERB_PUB = 4,
	VERB_LS = 8,
	VERB_WATCH = 16,
	VERB_TRACK = 32,
	VERB_ANY = 63,
};

enum {
	OPT_JSON = 256,
	OPT_VERSION,
	OPT_PRIVATE,
	OPT_SELF,
	OPT_TTL,
	OPT_PRESENCE,
	OPT_KEY,
	OPT_STDIN,
};

static const char short_options[] = "hs:W:ve:C:Elq";
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
	{ "presence", no_argument, NULL, OPT_PRESENCE },
	{ "key", required_argument, NULL, OPT_KEY },
	{ "stdin", no_argument, NULL, OPT_STDIN },
	{ NULL, 0, NULL, 0 },
};

static int verbs_of(int option)
{
	switch (option) {
	case 'e':
	case 'E':
	case OPT_SELF:
	case OPT_PRESENCE:
		return VERB_SUB;
	case 'C':
		return VERB_SUB | VERB_WATCH;
	case 'l':
	case 'q':
	case OPT_TTL:
		return VERB_PUB;
	case OPT_KEY:
	case OPT_STDIN:
		return VERB_TRACK;
	case 'v':
		return VERB_ANY & ~(VERB_STATUS | VERB_LS);
	case OPT_PRIVATE:
		return VERB_ANY & ~VERB_STATUS;
	default:
		return VERB_ANY;
	}
}

struct verb {
	const char *name, *part; /* part: the word behind the first operand; NULL: none */
	int bit;
	int (*run)(struct cli *cli);
};

static const struct verb verbs[] = {
	{ "status", NULL, VERB_STATUS, cli_status },
	{ "sub", NULL, VERB_SUB, cli_sub },
	{ "pub", NULL, VERB_PUB, cli_pub },
	{ "presence", "ls", VERB_LS, cli_presence_ls },
	{ "presence", "watch", VERB_WATCH, cli_presence_watch },
	{ "presence", "track", VERB_TRACK, cli_presence_track },
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
		cli->help = true;
		break;
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
	case OPT_PRESENCE:
		cli->presence = true;
		break;
	case OPT_STDIN:
		cli->from_stdin = true;
		break;
	default:
		return CLI_USAGE; /* getopt has said what is wrong */
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
	case OPT_KEY:
		cli->key = value;
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

static const char *help_of(const char *command)
{
	return strcmp(command, "presence") == 0 ? "`rtbridge presence --help`"
						: "`rtbridge --help`";
}

/* Behind what getopt said. The rest of the options tells which command it is. */
static void advise(int argc, char **argv)
{
	opterr = 0;
	while (getopt_long(argc, argv, short_options, long_options, NULL) != -1)
		;
	fprintf(stderr, "Try %s.\n", help_of(optind < argc ? argv[optind] : ""));
}

static bool is_part(const char *word)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (verbs[i].part && strcmp(verbs[i].part, word) == 0)
			return true;
	return false;
}

/* `presence` and no verb of it. */
static void explain_presence(char **operands, int n)
{
	if (n < 2)
		cli_error("presence needs a TOPIC, then ls, watch or track; see %s",
			  help_of("presence"));
	else if (is_part(operands[1]))
		cli_error("the topic comes first: rtbridge presence %s %s; see %s",
			  n > 2 ? operands[2] : "TOPIC", operands[1], help_of("presence"));
	else if (n < 3)
		cli_error("after the topic comes ls, watch or track; see %s", help_of("presence"));
	else
		cli_error("unknown: %s; after the topic comes ls, watch or track; see %s",
			  operands[2], help_of("presence"));
}

static const struct verb *find_verb(char **operands, int n_operands)
{
	const char *name = n_operands ? operands[0] : "status";
	const char *part = n_operands > 2 ? operands[2] : "";

	for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
		const struct verb *v = &verbs[i];

		if (strcmp(v->name, name) == 0 && (!v->part || strcmp(v->part, part) == 0))
			return v;
	}
	if (strcmp(name, "presence") == 0)
		explain_presence(operands, n_operands);
	else
		cli_error("unknown command %s; see `rtbridge --help`", name);
	return NULL;
}

/* Operands that the verb itself does not look at. */
static bool has_too_many(const struct cli *cli, const struct verb *v)
{
	int n = cli->n_operands + (cli->command != NULL);

	return (v->bit == VERB_STATUS && n > 0) || (v->bit & (VERB_LS | VERB_WATCH) && n > 2);
}

static int run_verb(struct cli *cli, char **operands, int n_operands, int allowed, int culprit)
{
	const struct verb *v = find_verb(operands, n_operands);
	const char *blank = v && v->part ? " " : "", *part = v && v->part ? v->part : "";

	if (!v)
		return CLI_USAGE;
	if (!(v->bit & allowed)) {
		cli_error("%s%s%s does not take --%s; see %s", v->name, blank, part,
			  option_name(culprit), help_of(v->name));
		return CLI_USAGE;
	}
	cli->operands = operands + (n_operands ? 1 : 0);
	cli->n_operands = n_operands ? n_operands - 1 : 0;
	if (has_too_many(cli, v)) {
		cli_error("%s%s%s takes no further operand; see %s", v->name, blank, part,
			  help_of(v->name));
		return CLI_USAGE;
	}
	return v->run(cli);
}

/* What stands behind "--": the command of `presence TOPIC track`, for all others operands that may
 * look like options. getopt_long() moves "--" in front of all operands. Return: how many; -1: there
 * is no "--". */
static int count_tail(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--") == 0)
			return argc - i - 1;
	return -1;
}

static int run(struct cli *cli, char **operands, int n, int n_tail, int allowed, int culprit)
{
	bool is_presence = n > 0 && strcmp(operands[0], "presence") == 0;

	if (cli->help) {
		fputs(is_presence ? presence_help : help, stdout);
		return CLI_OK;
	}
	if (is_presence && n_tail == 0 && n > 2 && strcmp(operands[2], "track") == 0) {
		cli_error("a command must stand behind --; see %s", help_of("presence"));
		return CLI_USAGE;
	}
	if (is_presence && n_tail > 0 && n - n_tail >= 3) {
		n -= n_tail;
		cli->command = operands + n;
	}
	return run_verb(cli, operands, n, allowed, culprit);
}

int main(int argc, char **argv)
{
	struct cli cli = { .end_ms = -1, .signal_fd = -1 };
	int option, code = -1, allowed = VERB_ANY, culprit = 0, n_tail = count_tail(argc, argv);
	const char **events = calloc((size_t)argc + 1, sizeof(*events));

	if (!events)
		return CLI_ERROR;
	cli.events = events;
	/* getopt_long() permutes: options may stand before and behind the operands. */
	while (code < 0 &&
	       (option = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
		code = take_option(&cli, option, optarg);
		if (option == '?')
			advise(argc, argv);
		if ((allowed & verbs_of(option)) != allowed)
			culprit = option;
		allowed &= verbs_of(option);
	}
	if (cli.n_events == 0)
		cli.events = NULL;
	if (code < 0)
		code = run(&cli, argv + optind, argc - optind, n_tail, allowed, culprit);
	rtb_client_free(cli.client);
	if (cli.signal_fd >= 0)
		(void)close(cli.signal_fd);
	free(events);
	if (fflush(stdout) != 0 && code == CLI_OK)
		code = CLI_ERROR;
	return code;
}
