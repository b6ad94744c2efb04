/* SPDX-License-Identifier: MIT */
/*
 * `rtbridge sub`: prints what comes.
 *
 * In the normal course of events stdout carries messages and nothing else. Notices (the daemon or
 * the upstream went away, a channel was rejected, and when that is over) come only when something
 * is wrong; -v asks for all of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

struct topic {
	struct sub *all;
	struct rtb_sub *sub;
	bool is_ready, is_rejected, is_troubled;
};

struct sub {
	struct cli *cli;
	bool json;
	bool is_upstream_troubled, is_detached;
	uint64_t n_messages;
	int n_topics;
	struct topic *topics;
};

static const char *const channel_states[] = {
	[RTB_CHANNEL_JOINING] = "joining",   [RTB_CHANNEL_JOINED] = "joined",
	[RTB_CHANNEL_READY] = "ready",       [RTB_CHANNEL_REJOINING] = "rejoining",
	[RTB_CHANNEL_REJECTED] = "rejected", [RTB_CHANNEL_CLOSED] = "closed",
};

/* ---- messages ---- */

static void put_time(FILE *f)
{
	struct timespec now;
	char text[16] = "";
	struct tm tm;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (localtime_r(&now.tv_sec, &tm))
		(void)strftime(text, sizeof(text), "%H:%M:%S", &tm);
	fprintf(f, "%s ", text);
}

/* `lead` and the value as JSON; binary as base64 under another name. */
static void put_value(const char *name, const void *p, size_t size)
{
	const void *bin;
	size_t bin_size;
	char *json;

	if (!p)
		return;
	if (mp_is_bin((struct mp){ p, size }, &bin, &bin_size)) {
		printf(",\"%s_base64\":\"", name);
		cli_put_base64(stdout, bin, bin_size);
		printf("\"");
	} else if (rtb_msgpack_to_json(p, size, &json, NULL, NULL, 0) == 0) {
		printf(",\"%s\":%s", name, json);
		rtb_free(json);
	} else {
		printf(",\"%s_msgpack_base64\":\"", name); /* not from this daemon */
		cli_put_base64(stdout, p, size);
		printf("\"");
	}
}

static void print_json(const struct rtb_broadcast *msg)
{
	printf("{\"type\":\"broadcast\",\"topic\":");
	cli_put_json_text(stdout, msg->topic);
	printf(",\"event\":");
	cli_put_json_text(stdout, msg->event);
	put_value(msg->raw ? "raw" : "payload", msg->payload, msg->payload_size);
	put_value("meta", msg->meta, msg->meta_size);
	put_value("extra", msg->extra, msg->extra_size);
	printf("%s}\n", msg->undecodable ? ",\"undecodable\":true" : "");
}

static void print_plain(const struct rtb_broadcast *msg)
{
	const void *bin;
	size_t size;
	char *json;

	put_time(stdout);
	cli_put_plain(stdout, msg->topic);
	putchar(' ');
	cli_put_plain(stdout, msg->event[0] ? msg->event : "-");
	putchar(' ');
	if (mp_is_bin((struct mp){ msg->payload, msg->payload_size }, &bin, &size)) {
		printf("%s of %zu bytes: ", msg->undecodable ? "undecodable" : "binary", size);
		cli_put_base64(stdout, bin, size);
	} else if (rtb_msgpack_to_json(msg->payload, msg->payload_size, &json, NULL, NULL, 0) ==
		   0) {
		cli_put_plain(stdout, json);
		rtb_free(json);
	}
	putchar('\n');
}

static void on_broadcast(struct rtb_sub *rtb_sub, const struct rtb_broadcast *msg, void *user)
{
	struct topic *t = user;
	struct sub *s = t->all;

	(void)rtb_sub;
	if (s->cli->is_done)
		return;
	if (s->json)
		print_json(msg);
	else
		print_plain(msg);
	if (++s->n_messages == s->cli->count)
		cli_finish(s->cli, CLI_OK);
}

/* ---- notices ---- */

/* In JSON they are lines of their own type on stdout; for people they go to stderr. */
static void notice(struct sub *s, const char *type, const char *topic, const char *state,
		   const char *code, const char *text, int64_t retry_ms)
{
	if (s->json) {
		printf("{\"type\":\"%s\"", type);
		cli_put_json_field(stdout, "topic", topic);
		cli_put_json_field(stdout, "state", state);
		cli_put_json_field(stdout, "code", code);
		cli_put_json_field(stdout, "text", text);
		if (retry_ms >= 0)
			printf(",\"retry_in_ms\":%lld", (long long)retry_ms);
		printf("}\n");
		return;
	}
	fflush(stdout);
	put_time(stderr);
	fprintf(stderr, "-- %s ", type);
	if (*topic) {
		cli_put_plain(stderr, topic);
		fputc(' ', stderr);
	}
	fputs(state, stderr);
	if (*code || *text) {
		fputs(": ", stderr);
		cli_put_plain(stderr, *text ? text : code);
	}
	if (retry_ms >= 0)
		fprintf(stderr, "; next try in %.1f s", (double)retry_ms / 1000);
	fputc('\n', stderr);
}

static void on_state(struct cli *cli, enum rtb_state state, int why)
{
	struct sub *s = cli->verb;
	bool is_detached = state != RTB_ATTACHED;

	/* One line when it goes, one when it is back; the attempts between only with -v. */
	if (cli->verbose || is_detached != s->is_detached)
		notice(s, "state", "", is_detached ? "attaching" : "attached", "",
		       why ? rtb_client_error_text(cli->client) : "", -1);
	s->is_detached = is_detached;
}

static void on_connection(struct cli *cli, const struct rtb_connection *conn)
{
	struct sub *s = cli->verb;
	bool is_well = strcmp(conn->state, "online") == 0 || strcmp(conn->state, "idle") == 0;
	bool is_bad = !is_well && strcmp(conn->state, "connecting") != 0;

	if (cli->verbose || is_bad || (is_well && s->is_upstream_troubled))
		notice(s, "connection", "", conn->state, conn->reason, conn->text,
		       conn->next_try_ms);
	s->is_upstream_troubled = is_bad || (s->is_upstream_troubled && !is_well);
}

/* Whatever may be told, the exit may be due. */
static void check_all(struct sub *s)
{
	int n_ready = 0, n_rejected = 0;

	for (int i = 0; i < s->n_topics; i++) {
		n_ready += s->topics[i].is_ready;
		n_rejected += s->topics[i].is_rejected;
	}
	if (n_rejected == s->n_topics)
		cli_finish(s->cli, CLI_DENIED);
	else if (s->cli->until_ready && n_ready + n_rejected == s->n_topics)
		cli_finish(s->cli, n_rejected ? CLI_DENIED : CLI_OK);
}

static void on_channel(struct rtb_sub *rtb_sub, const struct rtb_channel *ch, void *user)
{
	struct topic *t = user;
	struct sub *s = t->all;
	/* What the loss of the daemon does to each topic is said once, by on_state(). */
	bool is_detached = strcmp(ch->code, "detached") == 0;
	bool is_bad = ch->state != RTB_CHANNEL_READY && ch->state != RTB_CHANNEL_JOINED &&
		      (ch->state != RTB_CHANNEL_JOINING || ch->code[0]) && !is_detached;

	(void)rtb_sub;
	t->is_ready = ch->state == RTB_CHANNEL_READY;
	t->is_rejected = ch->state == RTB_CHANNEL_REJECTED || ch->state == RTB_CHANNEL_CLOSED;
	if (s->cli->verbose || is_bad || (t->is_ready && t->is_troubled))
		notice(s, "channel", ch->topic, channel_states[ch->state], ch->code, ch->text,
		       ch->retry_in_ms);
	if (is_bad || t->is_ready)
		t->is_troubled = is_bad;
	if (t->is_rejected && !s->json)
		cli_error("cannot join %s: %s (%s); see the policies of the project", ch->topic,
			  ch->text, ch->code);
	check_all(s);
}

/* ---- the verb ---- */

static bool is_repeated(char **topics, int i)
{
	for (int k = 0; k < i; k++)
		if (strcmp(topics[k], topics[i]) == 0)
			return true;
	return false;
}

static int subscribe_all(struct cli *cli, struct sub *s)
{
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	int r;

	o.is_private = cli->is_private;
	o.self = cli->self;
	o.events = cli->events;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	for (int i = 0; i < cli->n_operands; i++) {
		struct topic *t = &s->topics[s->n_topics];

		if (is_repeated(cli->operands, i))
			continue;
		t->all = s;
		o.user = t;
		r = rtb_subscribe(cli->client, cli->operands[i], &o, &t->sub);
		if (r < 0) {
			cli_error("cannot subscribe to %s: %s", cli->operands[i], rtb_strerror(r));
			return r == RTB_E_TOPIC || r == RTB_E_EVENT ? CLI_USAGE : CLI_ERROR;
		}
		s->n_topics++;
	}
	return 0;
}

static void explain_timeout(const struct cli *cli, const struct sub *s)
{
	if (cli->until_ready)
		cli_error("not all topics were ready within %g s; see `rtbridge status`",
			  cli->wait_s);
	else
		cli_error("%llu messages came within %g s", (unsigned long long)s->n_messages,
			  cli->wait_s);
}

int cli_sub(struct cli *cli)
{
	struct sub s = { .cli = cli, .json = cli->json || !isatty(STDOUT_FILENO) };
	int r;

	if (cli->n_operands < 1) {
		cli_error("sub needs a TOPIC; see `rtbridge --help`");
		return CLI_USAGE;
	}
	s.topics = calloc((size_t)cli->n_operands, sizeof(*s.topics));
	if (!s.topics) {
		cli_error("out of memory");
		return CLI_ERROR;
	}
	cli->verb = &s;
	cli->on_state = on_state;
	cli->on_connection = on_connection;
	r = cli_attach(cli);
	if (r == 0)
		r = subscribe_all(cli, &s);
	while (r == 0 && !cli->is_done)
		cli_turn(cli, NULL);
	if (r == 0)
		r = cli->exit_code;
	/* Without a number to reach, -W says how long to listen: anything is enough. */
	if (r == CLI_TIMEOUT && !cli->until_ready && !cli->count && s.n_messages)
		r = CLI_OK;
	else if (r == CLI_TIMEOUT)
		explain_timeout(cli, &s);
	/* The callbacks refer to `s`. */
	cli->client = rtb_client_free(cli->client);
	free(s.topics);
	return r;
}
