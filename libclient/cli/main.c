/* SPDX-License-Identifier: MIT */
/* The `rtbridge` command: options and verbs. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

/* Options that only some verbs take, as bits. */
enum {
	VERB_STATUS = 1,
	VERB_SUB = 2,
	VERB_PUB = 4,
	VERB_LS = 8,
	VERB_WATCH = 16,
	VERB_TRACK = 32,
	VERB_OUTCOME = 64,
	VERB_ANY = 127,
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
	OPT_PG,
	OPT_SELECT,
	OPT_TOKEN_FILE,
	OPT_HTTP,
	OPT_WS,
	OPT_BINARY,
	OPT_ID,
	OPT_SINCE,
	OPT_LIMIT,
	OPT_REPLICATION_READY,
};

static const char short_options[] = "hs:W:ve:C:Elqf:";
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
	{ "pg", required_argument, NULL, OPT_PG },
	{ "select", required_argument, NULL, OPT_SELECT },
	{ "token-file", required_argument, NULL, OPT_TOKEN_FILE },
	{ "http", no_argument, NULL, OPT_HTTP },
	{ "ws", no_argument, NULL, OPT_WS },
	{ "binary", no_argument, NULL, OPT_BINARY },
	{ "file", required_argument, NULL, 'f' },
	{ "id", required_argument, NULL, OPT_ID },
	{ "since", required_argument, NULL, OPT_SINCE },
	{ "limit", required_argument, NULL, OPT_LIMIT },
	{ "replication-ready", no_argument, NULL, OPT_REPLICATION_READY },
	{ NULL, 0, NULL, 0 },
};

static int verbs_of(int option)
{
	switch (option) {
	case 'e':
	case 'E':
	case OPT_SELF:
	case OPT_PRESENCE:
	case OPT_PG:
	case OPT_SELECT:
	case OPT_SINCE:
	case OPT_LIMIT:
	case OPT_REPLICATION_READY:
		return VERB_SUB;
	case 'C':
		return VERB_SUB | VERB_WATCH;
	case 'l':
	case 'q':
	case 'f':
	case OPT_TTL:
	case OPT_HTTP:
	case OPT_WS:
	case OPT_BINARY:
	case OPT_ID:
		return VERB_PUB;
	case OPT_KEY:
	case OPT_STDIN:
		return VERB_TRACK;
	case 'v':
		return VERB_ANY & ~(VERB_STATUS | VERB_LS);
	case OPT_PRIVATE:
	case OPT_TOKEN_FILE:
		return VERB_ANY & ~(VERB_STATUS | VERB_OUTCOME);
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
	{ "channels", NULL, VERB_STATUS, cli_channels },
	{ "clients", NULL, VERB_STATUS, cli_clients },
	{ "reconnect", NULL, VERB_STATUS, cli_reconnect },
	{ "refresh-token", NULL, VERB_STATUS, cli_refresh_token },
	{ "sub", NULL, VERB_SUB, cli_sub },
	{ "pub", NULL, VERB_PUB, cli_pub },
	{ "outcome", NULL, VERB_OUTCOME, cli_outcome },
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
	case OPT_HTTP:
		cli->via_http = true;
		break;
	case OPT_WS:
		cli->via_ws = true;
		break;
	case OPT_BINARY:
		cli->is_binary = true;
		break;
	case OPT_REPLICATION_READY:
		cli->replication_ready = true;
		break;
	default:
		return CLI_USAGE; /* getopt has said what is wrong */
	}
	return -1;
}

/* Return: -1 go on, else the exit code. */
static int take_pg(struct cli *cli, const char *value)
{
	char error[256];
	int r = cli_pg_parse(&cli->pgs[cli->n_pgs], value, error, sizeof(error));

	if (r == 0) {
		cli->n_pgs++;
		return -1;
	}
	if (r == -EINVAL)
		cli_error("cannot use --pg %s: %s; see `rtbridge sub --help`", value, error);
	else
		cli_error("%s", rtb_strerror(r));
	return r == -EINVAL ? CLI_USAGE : CLI_ERROR;
}

static int take_select(struct cli *cli, const char *value)
{
	struct cli_pg *pg = cli->n_pgs ? &cli->pgs[cli->n_pgs - 1] : NULL;
	char error[256];
	int r;

	if (!pg || pg->select)
		return bad_value("--select", value, "for the --pg before it, once for each");
	r = cli_pg_select(pg, value, error, sizeof(error));
	if (r == -EINVAL)
		cli_error("cannot use --select %s: %s; see `rtbridge sub --help`", value, error);
	else if (r < 0)
		cli_error("%s", rtb_strerror(r));
	return r == 0 ? -1 : r == -EINVAL ? CLI_USAGE : CLI_ERROR;
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
	case OPT_TOKEN_FILE:
		cli->token_file = value;
		return -1;
	case 'f':
		cli->file = value;
		return -1;
	case OPT_ID:
		cli->id = value;
		return -1;
	case OPT_SINCE:
		cli->has_since = cli_parse_when(value, &cli->since_ms);
		return cli->has_since ? -1
				      : bad_value("--since", value,
						  "10m or 2h before now, or a time like "
						  "2026-11-23T14:05:00Z, or ms since 1970");
	case OPT_LIMIT:
		return parse_count(value, &cli->limit) && cli->limit <= 25
			       ? -1
			       : bad_value("--limit", value, "a number from 1 to 25");
	case OPT_PG:
		return take_pg(cli, value);
	case OPT_SELECT:
		return take_select(cli, value);
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
	if (strcmp(command, "sub") == 0)
		return "`rtbridge sub --help`";
	if (strcmp(command, "pub") == 0 || strcmp(command, "outcome") == 0)
		return "`rtbridge pub --help`";
	return strcmp(command, "presence") == 0 ? "`rtbridge presence --help`"
						: "`rtbridge --help`";
}

static const char *help_text(const char *command)
{
	if (strcmp(command, "sub") == 0)
		return cli_help_sub;
	if (strcmp(command, "pub") == 0 || strcmp(command, "outcome") == 0)
		return cli_help_pub;
	return strcmp(command, "presence") == 0 ? cli_help_presence : cli_help;
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

/* Words in the wrong place are repeated, but no secrets. */
static const char *without_token(const char *word)
{
	return cli_looks_like_token(word) ? "(a token)" : word;
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
			  without_token(operands[2]), help_of("presence"));
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
		cli_error("unknown command %s; see `rtbridge --help`", without_token(name));
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
	if (!cli->token_file && !(v->bit & (VERB_STATUS | VERB_OUTCOME)))
		cli->token_file = getenv("RTBRIDGE_TOKEN_FILE");
	if (cli->token_file && !*cli->token_file)
		cli->token_file = NULL;
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
	bool is_presence;

	/* `help sub` is `sub --help`. */
	if (n > 0 && strcmp(operands[0], "help") == 0) {
		cli->help = true;
		operands++;
		n--;
	}
	is_presence = n > 0 && strcmp(operands[0], "presence") == 0;
	if (cli->help) {
		fputs(help_text(n > 0 ? operands[0] : ""), stdout);
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
	struct cli cli = { .end_ms = -1, .wake_ms = -1, .signal_fd = -1 };
	int option, code = -1, allowed = VERB_ANY, culprit = 0, n_tail = count_tail(argc, argv);
	const char **events = calloc((size_t)argc + 1, sizeof(*events));

	cli.events = events;
	cli.pgs = calloc((size_t)argc, sizeof(*cli.pgs));
	if (!events || !cli.pgs)
		code = CLI_ERROR;
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
	cli_token_free(&cli);
	if (cli.signal_fd >= 0)
		(void)close(cli.signal_fd);
	free(events);
	for (size_t i = 0; i < cli.n_pgs; i++)
		cli_pg_free(&cli.pgs[i]);
	free(cli.pgs);
	if (fflush(stdout) != 0 && code == CLI_OK)
		code = CLI_ERROR;
	return code;
}
