/* SPDX-License-Identifier: MIT */
/* rtbridge-devserver: options, and the maker of test tokens. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "jwt.h"
#include "shell.h"

#define USAGE_ERROR 2
#define PAYLOAD_PAD 500 /* bytes that the real server allows beyond its setting */

static const char help[] =
	"Usage: rtbridge-devserver --jwt-secret S [--listen ADDR:PORT] [OPTION...]\n"
	"       rtbridge-devserver --jwt-secret S --print-token ROLE [--sub SUB] [--exp SECONDS]\n"
	"\n"
	"A small server that speaks the Supabase Realtime protocol, for demos and tests.\n"
	"The first line on stdout is its URL. SIGTERM ends it with close 1012 to all.\n"
	"\n"
	"  --jwt-secret S              the secret that signs API keys (HS256, HS384, HS512)\n"
	"  --listen ADDR:PORT          IPv4 address and port, 0 for any [127.0.0.1:0]\n"
	"  --tls-cert F, --tls-key F   PEM files: serve wss:// instead of ws://\n"
	"  --tls-old                   nothing newer than TLS 1.1\n"
	"  --print-token ROLE          print a signed token with this role and exit\n"
	"  --sub SUB                   ... of this user: a UUID, or a name of --policies\n"
	"  --exp SECONDS               ... that ends after so long [10 years]\n"
	"  --strict-refs               drop messages whose join_ref is wrong or missing\n"
	"  --tenant NAME               answer 404 if the Host header does not start with NAME\n"
	"  --suspended-tenant NAME     answer 403 if it starts with this NAME\n"
	"  --connect-error-delay-ms N  pause before a refused upgrade is answered [0]\n"
	"  --join-error-delay-ms N     pause of the whole socket before a refused join is [0]\n"
	"  --idle-ms N                 close 1000 after N ms of silence [60000]\n"
	"  --resubscribe-ms N          pause from a new token to the next system message [1000]\n"
	"  --faithful-delays           pause as the real server: upgrades 2000, joins 5000\n"
	"  --replication-delay-ms N    pause from a join to \"Replication connection ...\" [0]\n"
	"  --no-replay                 know nothing of replay, as older servers\n"
	"  --private-only              refuse joins of public channels\n"
	"  --policies FILE             rules for private channels [everybody may do all]\n"
	"  --postgres CONNINFO         serve the row changes of this database [none]\n"
	"  --pg-delay-ms N             hold each row back for so long [0]\n"
	"  --pg-subscribe-delay-ms N   pause from a join to its subscription [0]\n"
	"  --max-frame-bytes N         close 1009 beyond it [5000000]\n"
	"  --max-payload-kb N          size of one broadcast or presence state [3000]\n"
	"  --max-out-bytes N           unsent bytes of a socket before it is dropped [50000000]\n"
	"  --max-channels N            joined topics of a socket [100]\n"
	"  --max-users N               sockets that have joined, 0 for any [0]\n"
	"  --max-joins-per-second N    averages of all sockets, 0 for any [0]\n"
	"  --max-events-per-second N   ... of broadcasts sent and received [0]\n"
	"  --max-presence-per-second N ... of presence messages [0]\n"
	"  --rate-tick-ms N            how often these averages are looked at [5000]\n"
	"  --presence-calls N          presence calls of a channel in one window [5]\n"
	"  --presence-window-ms N      [30000]\n"
	"  --token-life S              of access tokens of .../auth/v1/token, in seconds [3600]\n"
	"  --reuse-interval-ms N       in which a used refresh token may be used again [10000]\n"
	"  --max-refreshes N           at once, and again in each minute, 0 for any [0]\n"
	"  --seed N                    of presence refs and keys [random]\n"
	"  --help, --version\n";

enum {
	OPT_LISTEN = 256,
	OPT_SECRET,
	OPT_CERT,
	OPT_KEY,
	OPT_TLS_OLD,
	OPT_TOKEN,
	OPT_SUB,
	OPT_EXP,
	OPT_STRICT,
	OPT_TENANT,
	OPT_SUSPENDED,
	OPT_REPLICATION,
	OPT_NO_REPLAY,
	OPT_CONNECT_DELAY,
	OPT_JOIN_DELAY,
	OPT_IDLE,
	OPT_RESUBSCRIBE,
	OPT_PRIVATE,
	OPT_FAITHFUL,
	OPT_POLICIES,
	OPT_USERS,
	OPT_REUSE,
	OPT_REFRESHES,
	OPT_JOINS,
	OPT_EVENTS,
	OPT_PRESENCES,
	OPT_POSTGRES,
	OPT_PG_DELAY,
	OPT_PG_SUBSCRIBE,
	OPT_FRAME,
	OPT_LIFE,
	OPT_PAYLOAD,
	OPT_OUT,
	OPT_CHANNELS,
	OPT_CALLS,
	OPT_TICK,
	OPT_WINDOW,
	OPT_SEED,
	OPT_HELP,
	OPT_VERSION
};

static const struct option options[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "jwt-secret", required_argument, NULL, OPT_SECRET },
	{ "tls-cert", required_argument, NULL, OPT_CERT },
	{ "tls-key", required_argument, NULL, OPT_KEY },
	{ "tls-old", no_argument, NULL, OPT_TLS_OLD },
	{ "print-token", required_argument, NULL, OPT_TOKEN },
	{ "sub", required_argument, NULL, OPT_SUB },
	{ "exp", required_argument, NULL, OPT_EXP },
	{ "strict-refs", no_argument, NULL, OPT_STRICT },
	{ "tenant", required_argument, NULL, OPT_TENANT },
	{ "suspended-tenant", required_argument, NULL, OPT_SUSPENDED },
	{ "replication-delay-ms", required_argument, NULL, OPT_REPLICATION },
	{ "no-replay", no_argument, NULL, OPT_NO_REPLAY },
	{ "connect-error-delay-ms", required_argument, NULL, OPT_CONNECT_DELAY },
	{ "join-error-delay-ms", required_argument, NULL, OPT_JOIN_DELAY },
	{ "idle-ms", required_argument, NULL, OPT_IDLE },
	{ "resubscribe-ms", required_argument, NULL, OPT_RESUBSCRIBE },
	{ "private-only", no_argument, NULL, OPT_PRIVATE },
	{ "faithful-delays", no_argument, NULL, OPT_FAITHFUL },
	{ "policies", required_argument, NULL, OPT_POLICIES },
	{ "max-users", required_argument, NULL, OPT_USERS },
	{ "max-joins-per-second", required_argument, NULL, OPT_JOINS },
	{ "max-events-per-second", required_argument, NULL, OPT_EVENTS },
	{ "max-presence-per-second", required_argument, NULL, OPT_PRESENCES },
	{ "rate-tick-ms", required_argument, NULL, OPT_TICK },
	{ "postgres", required_argument, NULL, OPT_POSTGRES },
	{ "pg-delay-ms", required_argument, NULL, OPT_PG_DELAY },
	{ "pg-subscribe-delay-ms", required_argument, NULL, OPT_PG_SUBSCRIBE },
	{ "max-frame-bytes", required_argument, NULL, OPT_FRAME },
	{ "max-payload-kb", required_argument, NULL, OPT_PAYLOAD },
	{ "max-out-bytes", required_argument, NULL, OPT_OUT },
	{ "max-channels", required_argument, NULL, OPT_CHANNELS },
	{ "presence-calls", required_argument, NULL, OPT_CALLS },
	{ "presence-window-ms", required_argument, NULL, OPT_WINDOW },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "token-life", required_argument, NULL, OPT_LIFE },
	{ "reuse-interval-ms", required_argument, NULL, OPT_REUSE },
	{ "max-refreshes", required_argument, NULL, OPT_REFRESHES },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ 0 },
};

struct args {
	struct ds_conf conf;
	struct ds_listen at;
	struct ds_pgsql_conf pg;
	char host[INET_ADDRSTRLEN];
	const char *role, *sub;
	bool faithful;
	int64_t exp_s;
};

__attribute__((format(printf, 1, 2), noreturn)) static void usage(const char *fmt, ...)
{
	va_list ap;

	fputs("rtbridge-devserver: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("; see rtbridge-devserver --help\n", stderr);
	exit(USAGE_ERROR);
}

static int64_t number(const char *name, const char *text, int64_t least)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno || end == text || *end || v < least || v > 1000000000000)
		usage("--%s needs a number of at least %lld, not \"%s\"", name, (long long)least,
		      text);
	return v;
}

static void parse_listen(struct args *a, const char *text)
{
	const char *colon = strrchr(text, ':');
	struct in_addr addr;
	size_t n = colon ? (size_t)(colon - text) : 0;

	if (n == 9 && memcmp(text, "localhost", 9) == 0)
		snprintf(a->host, sizeof(a->host), "127.0.0.1");
	else
		snprintf(a->host, sizeof(a->host), "%.*s",
			 (int)(n < sizeof(a->host) ? n : sizeof(a->host) - 1), text);
	if (!colon || inet_pton(AF_INET, a->host, &addr) != 1)
		usage("--listen needs an IPv4 address and a port, like 127.0.0.1:0, not \"%s\"",
		      text);
	a->at.host = a->host;
	a->at.port = (int)number("listen", colon + 1, 0);
	if (a->at.port > 65535)
		usage("--listen: %d is no port", a->at.port);
}

static int64_t *time_at(struct args *a, int opt)
{
	switch (opt) {
	case OPT_EXP:
		return &a->exp_s;
	case OPT_CONNECT_DELAY:
		return &a->conf.connect_error_delay_ms;
	case OPT_JOIN_DELAY:
		return &a->conf.join_error_delay_ms;
	case OPT_IDLE:
		return &a->conf.idle_ms;
	case OPT_RESUBSCRIBE:
		return &a->conf.resubscribe_ms;
	case OPT_REPLICATION:
		return &a->conf.replication_delay_ms;
	case OPT_PG_DELAY:
		return &a->pg.delay_ms;
	case OPT_PG_SUBSCRIBE:
		return &a->conf.pg_subscribe_delay_ms;
	case OPT_TICK:
		return &a->conf.rate_tick_ms;
	case OPT_WINDOW:
		return &a->conf.presence_window_ms;
	case OPT_LIFE:
		return &a->conf.token_life_s;
	case OPT_REUSE:
		return &a->conf.reuse_interval_ms;
	default:
		return NULL;
	}
}

static unsigned *count_at(struct args *a, int opt)
{
	switch (opt) {
	case OPT_USERS:
		return &a->conf.users_max;
	case OPT_JOINS:
		return &a->conf.joins_max;
	case OPT_EVENTS:
		return &a->conf.events_max;
	case OPT_PRESENCES:
		return &a->conf.presences_max;
	case OPT_CHANNELS:
		return &a->conf.channels_max;
	case OPT_CALLS:
		return &a->conf.presence_max;
	case OPT_REFRESHES:
		return &a->conf.refresh_burst;
	default:
		return NULL;
	}
}

static void set_number(struct args *a, int opt, const char *name, const char *text)
{
	int64_t n = number(name, text, opt >= OPT_FRAME && opt <= OPT_WINDOW ? 1 : 0);

	if (time_at(a, opt))
		*time_at(a, opt) = n;
	else if (count_at(a, opt))
		*count_at(a, opt) = (unsigned)n;
	else if (opt == OPT_FRAME)
		a->conf.frame_max_bytes = (size_t)n;
	else if (opt == OPT_PAYLOAD)
		a->conf.payload_max_bytes = (size_t)n * 1000 + PAYLOAD_PAD;
	else if (opt == OPT_OUT)
		a->conf.out_max_bytes = (size_t)n;
	else
		a->conf.seed = (uint64_t)n;
}

static void set(struct args *a, int opt, const char *name)
{
	switch (opt) {
	case OPT_LISTEN:
		parse_listen(a, optarg);
		break;
	case OPT_SECRET:
		a->conf.jwt_secret = optarg;
		break;
	case OPT_CERT:
		a->at.tls_cert = optarg;
		break;
	case OPT_KEY:
		a->at.tls_key = optarg;
		break;
	case OPT_TLS_OLD:
		a->at.tls_old = true;
		break;
	case OPT_TOKEN:
		a->role = optarg;
		break;
	case OPT_SUB:
		a->sub = optarg;
		break;
	case OPT_STRICT:
		a->conf.strict_refs = true;
		break;
	case OPT_TENANT:
		a->conf.tenant = optarg;
		break;
	case OPT_SUSPENDED:
		a->conf.suspended = optarg;
		break;
	case OPT_NO_REPLAY:
		a->conf.no_replay = true;
		break;
	case OPT_PRIVATE:
		a->conf.private_only = true;
		break;
	case OPT_FAITHFUL:
		a->faithful = true;
		break;
	case OPT_POLICIES:
		a->conf.policies = optarg;
		break;
	case OPT_POSTGRES:
		a->pg.conninfo = optarg;
		break;
	case OPT_HELP:
		fputs(help, stdout);
		exit(0);
	case OPT_VERSION:
		puts("rtbridge-devserver " RTB_VERSION);
		exit(0);
	default:
		set_number(a, opt, name, optarg);
		break;
	}
}

static void parse(struct args *a, int argc, char **argv)
{
	int opt, index = 0;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, &index)) != -1) {
		if (opt == '?')
			usage("unknown option %s", argv[optind - 1]);
		if (opt == ':')
			usage("%s needs a value", argv[optind - 1]);
		set(a, opt, options[index].name);
	}
	if (optind < argc)
		usage("unexpected \"%s\"", argv[optind]);
	/* What was asked for in milliseconds counts more. */
	if (a->faithful && a->conf.connect_error_delay_ms == 0)
		a->conf.connect_error_delay_ms = 2000;
	if (a->faithful && a->conf.join_error_delay_ms == 0)
		a->conf.join_error_delay_ms = 5000;
	if (!a->conf.jwt_secret || !a->conf.jwt_secret[0])
		usage("--jwt-secret is missing");
	if (a->pg.delay_ms && !a->pg.conninfo)
		usage("--pg-delay-ms needs --postgres");
	if (a->sub && !a->role)
		usage("--sub needs --print-token");
	if (!a->at.tls_cert != !a->at.tls_key)
		usage("--tls-cert and --tls-key go together");
	if (a->at.tls_old && !a->at.tls_cert)
		usage("--tls-old needs --tls-cert");
}

static int print_token(const struct args *a)
{
	struct ds_buf claims = { 0 }, token = { 0 };
	long long now = time(NULL);

	ds_buf_text(&claims, "{\"iss\":\"supabase\",\"role\":");
	ds_buf_json(&claims, ds_str(a->role));
	if (a->sub) {
		ds_buf_text(&claims, ",\"sub\":");
		ds_buf_json(&claims, ds_str(a->sub));
	}
	ds_buf_fmt(&claims, ",\"iat\":%lld,\"exp\":%lld}", now, now + (long long)a->exp_s);
	ds_jwt_sign(ds_buf_view(&claims), a->conf.jwt_secret, &token);
	printf("%.*s\n", (int)token.len, token.data);
	ds_buf_done(&claims);
	ds_buf_done(&token);
	return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct args a;

	a.conf = ds_conf_default();
	a.conf.seed = (uint64_t)time(NULL);
	a.exp_s = 315360000; /* as the keys that Supabase hands out */
	parse_listen(&a, "127.0.0.1:0");
	parse(&a, argc, argv);
	return a.role ? print_token(&a) : ds_shell_run(&a.at, &a.pg, &a.conf);
}
