/* SPDX-License-Identifier: MIT */
/*
 * `rtbridge sub`: prints what comes. `rtbridge presence TOPIC watch`: the same without broadcasts.
 *
 * In the normal course of events stdout carries messages and rows, and nothing else. Notices (the
 * daemon or the upstream went away, a channel was rejected, and when that is over) come only when
 * something is wrong; -v asks for all of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

/* What is asked for: a topic, or a --pg. */
struct wish {
	struct sub *all;
	const char *spec; /* of the --pg; NULL: a topic */
	bool is_ready, is_troubled;
	bool is_replaying; /* of a topic with --since: what is stored has not come yet */
	int refused;       /* 0, or the exit code for it */
	struct rtb_sub *sub;
	enum rtb_presence_status presence; /* as told last */
	struct cli_waiting waiting;        /* of a topic */
	/* of a --pg */
	char *trouble;        /* as told last; NULL: none since it was ready */
	int64_t tell_at_ms;   /* when it is told that it waits, monotonic; -1: not */
	bool is_waiting_told; /* once is enough */
};

struct sub {
	struct cli *cli;
	bool json, is_watch;
	bool has_snapshot;
	char connection[32]; /* the state of it */
	uint64_t n_messages;
	size_t n_wishes;
	struct wish *wishes;
};

static const char *const channel_states[] = {
	[RTB_CHANNEL_JOINING] = "joining",   [RTB_CHANNEL_JOINED] = "joined",
	[RTB_CHANNEL_READY] = "ready",       [RTB_CHANNEL_REJOINING] = "rejoining",
	[RTB_CHANNEL_REJECTED] = "rejected", [RTB_CHANNEL_CLOSED] = "closed",
};
static const char *const binding_states[] = {
	[RTB_WATCH_PENDING] = "pending",
	[RTB_WATCH_READY] = "ready",
	[RTB_WATCH_ERROR] = "error",
};

/* ---- messages ---- */

static void print_json(const struct rtb_broadcast *msg)
{
	printf("{\"type\":\"broadcast\",\"topic\":");
	cli_put_json_text(stdout, msg->topic);
	printf(",\"event\":");
	cli_put_json_text(stdout, msg->event);
	cli_put_value(msg->raw ? "raw" : "payload", msg->payload, msg->payload_size);
	cli_put_value("meta", msg->meta, msg->meta_size);
	cli_put_value("extra", msg->extra, msg->extra_size);
	printf("%s}\n", msg->undecodable ? ",\"undecodable\":true" : "");
}

static void print_plain(const struct rtb_broadcast *msg)
{
	const void *bin;
	size_t size;

	cli_put_time(stdout);
	cli_put_plain(stdout, msg->topic);
	fputs(msg->replayed ? " [stored] " : " ", stdout);
	cli_put_plain(stdout, msg->event[0] ? msg->event : "-");
	putchar(' ');
	if (mp_is_bin((struct mp){ msg->payload, msg->payload_size }, &bin, &size)) {
		printf("%s of %zu bytes: ", msg->undecodable ? "undecodable" : "binary", size);
		cli_put_base64(stdout, bin, size);
	} else {
		cli_put_value_plain(msg->payload, msg->payload_size);
	}
	putchar('\n');
}

static void on_broadcast(struct rtb_sub *rtb_sub, const struct rtb_broadcast *msg, void *user)
{
	struct wish *w = user;
	struct sub *s = w->all;

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

static void on_change(struct rtb_watch *watch, const struct rtb_change *change, void *user)
{
	struct wish *w = user;
	struct sub *s = w->all;

	(void)watch;
	if (s->cli->is_done)
		return;
	cli_put_change(w->spec, change, s->json);
	if (++s->n_messages == s->cli->count)
		cli_finish(s->cli, CLI_OK);
}

static void on_presence(struct rtb_sub *rtb_sub, const struct rtb_presence *change, void *user)
{
	struct wish *w = user;
	struct sub *s = w->all;

	if (s->cli->is_done)
		return;
	w->presence = RTB_PRESENCE_OK;
	cli_put_presence(rtb_sub, change, s->json);
	/* Who is there already is no message. */
	if (change->event == RTB_PRESENCE_SYNC)
		s->has_snapshot = true;
	else if (++s->n_messages == s->cli->count)
		cli_finish(s->cli, CLI_OK);
}

/* ---- notices ---- */

static void check_all(struct sub *s);

static void on_gap(struct rtb_sub *rtb_sub, const struct rtb_gap *gap, void *user)
{
	struct wish *w = user;

	(void)rtb_sub;
	cli_notice_gap(w->all->cli, gap, NULL);
}

static void on_replay(struct rtb_sub *rtb_sub, const struct rtb_replay *replay, void *user)
{
	struct wish *w = user;

	(void)rtb_sub;
	if (w->all->cli->is_done)
		return;
	w->is_replaying = false;
	cli_notice_replay(w->all->cli, replay);
	check_all(w->all);
}

static void on_system(struct rtb_sub *rtb_sub, const struct rtb_system *notice, void *user)
{
	struct wish *w = user;
	const struct cli *cli = w->all->cli;

	(void)rtb_sub;
	/* In the normal course of events there are messages alone. */
	if (!cli->is_done &&
	    (cli->replication_ready || cli->verbose || strcmp(notice->status, "ok") != 0))
		cli_notice_system(cli, notice);
}

static void on_rows_gap(struct rtb_watch *watch, const struct rtb_gap *gap, void *user)
{
	const struct wish *w = user;

	(void)watch;
	cli_notice_gap(w->all->cli, gap, w->spec);
}

/* Whatever may be told, the exit may be due. */
static void check_all(struct sub *s)
{
	size_t n_ready = 0, n_refused = 0;
	int code = CLI_OK;

	for (size_t i = 0; i < s->n_wishes; i++) {
		const struct wish *w = &s->wishes[i];

		n_ready += w->is_ready && !w->is_replaying;
		n_refused += w->refused != 0;
		if (w->refused && code != CLI_DENIED)
			code = w->refused;
	}
	if (n_refused == s->n_wishes)
		cli_finish(s->cli, code);
	else if (s->cli->until_ready && n_ready + n_refused == s->n_wishes)
		cli_finish(s->cli, code);
}

/* That there will be nothing to tell about who is there. */
static void check_presence(struct wish *w)
{
	enum rtb_presence_status status = rtb_sub_presence(w->sub);
	bool is_denied = status == RTB_PRESENCE_DENIED;
	struct cli *cli = w->all->cli;
	const char *topic = rtb_sub_topic(w->sub);

	if (status == w->presence || (!is_denied && status != RTB_PRESENCE_OVERFLOW))
		return;
	w->presence = status;
	if (w->all->json) {
		printf("{\"type\":\"presence\"");
		cli_put_json_field(stdout, "topic", topic);
		printf(",\"event\":\"%s\"}\n", is_denied ? "denied" : "overflow");
	}
	/* What ends the run is said in every mode. */
	if (is_denied && (!w->all->json || w->all->is_watch)) {
		cli_error("cannot see who is in %s: denied; see the policies of the project",
			  topic);
	} else if (!w->all->json) {
		cli_error("cannot see who is in %s: it is more than the daemon keeps ([limits] "
			  "presence)",
			  topic);
	}
	if (is_denied && w->all->is_watch)
		cli_finish(cli, CLI_DENIED);
}

static void on_channel(struct rtb_sub *rtb_sub, const struct rtb_channel *ch, void *user)
{
	struct wish *w = user;
	struct sub *s = w->all;
	/* What the loss of the daemon does to each topic is said once, by on_state(). */
	bool is_detached = strcmp(ch->code, "detached") == 0;
	bool is_bad = ch->state != RTB_CHANNEL_READY && ch->state != RTB_CHANNEL_JOINED &&
		      (ch->state != RTB_CHANNEL_JOINING || ch->code[0]) && !is_detached;
	/* Who is refused for good is given it by cli_tell_rejected(). */
	bool is_advised = ch->state == RTB_CHANNEL_JOINING || ch->state == RTB_CHANNEL_REJOINING;
	char advice[CLI_ADVICE];

	(void)rtb_sub;
	w->is_ready = ch->state == RTB_CHANNEL_READY;
	w->refused = 0;
	s->cli->token_was_good = s->cli->token_was_good || w->is_ready;
	(void)cli_advice(s->cli, ch->code, ch->text, advice, sizeof(advice));
	if (s->cli->verbose || is_bad || (w->is_ready && w->is_troubled))
		cli_notice(s->cli, &(struct cli_notice){ .type = "channel",
							 .topic = ch->topic,
							 .state = channel_states[ch->state],
							 .code = ch->code,
							 .text = ch->text,
							 .retry_in_ms = ch->retry_in_ms,
							 .advice = is_advised ? advice : NULL });
	if (is_bad || w->is_ready) {
		w->is_troubled = is_bad;
		cli_waiting_end(&w->waiting);
	}
	if ((ch->state == RTB_CHANNEL_REJECTED || ch->state == RTB_CHANNEL_CLOSED) &&
	    !cli_awaits_token(s->cli, ch->code))
		w->refused = cli_tell_rejected(s->cli, ch);
	check_presence(w);
	check_all(s);
}

/* A --pg is tried again and again: its trouble is told to people when it is another one. */
static bool is_news(struct wish *w, const struct rtb_watch_status *status)
{
	char *text;
	bool is_same;

	if (asprintf(&text, "%s %s %s", binding_states[status->state], status->code, status->text) <
	    0)
		return true;
	is_same = w->trouble && strcmp(w->trouble, text) == 0;
	free(w->trouble);
	w->trouble = text;
	return !is_same;
}

/* From now on there will be nothing to see, and nobody has said why. */
static void wait_quietly(struct wish *w)
{
	if (w->tell_at_ms < 0 && !w->is_waiting_told)
		w->tell_at_ms = cli_now_ms() + CLI_WAITING_MS;
}

static void on_binding(struct rtb_watch *watch, const struct rtb_watch_status *status, void *user)
{
	struct wish *w = user;
	struct sub *s = w->all;
	bool is_detached = strcmp(status->code, "detached") == 0;
	bool is_refused =
		status->state == RTB_WATCH_ERROR && !cli_awaits_token(s->cli, status->code);
	bool is_bad = status->state != RTB_WATCH_READY && status->code[0] && !is_detached;
	bool is_new = (is_bad || is_refused) && is_news(w, status), is_due;

	(void)watch;
	w->is_ready = status->state == RTB_WATCH_READY;
	s->cli->token_was_good = s->cli->token_was_good || w->is_ready;
	w->refused = is_refused ? cli_exit_of(status->code) : 0;
	/* Programs get each state, people what they do not know yet, and a refusal once. */
	is_due = s->cli->verbose || (is_bad && (s->json || is_new)) ||
		 (w->is_ready && w->is_troubled);
	if (is_due && (s->json || !is_refused || !is_new))
		cli_notice(s->cli, &(struct cli_notice){ .type = "binding",
							 .pg = w->spec,
							 .state = binding_states[status->state],
							 .code = status->code,
							 .text = status->text,
							 .retry_in_ms = -1 });
	if (is_refused && is_new)
		cli_tell_refused(s->cli, w->spec, status);
	if (is_bad || w->is_ready)
		w->is_troubled = is_bad;
	if (w->is_ready) {
		free(w->trouble);
		w->trouble = NULL;
	}
	/* The loss of the daemon and any trouble have been told. */
	if (w->is_ready || is_refused || is_bad || is_detached)
		w->tell_at_ms = -1;
	else
		wait_quietly(w);
	check_all(s);
}

/* Without trouble nothing is told, and nothing comes: it looks like a quiet table or topic. */
static void tell_waiting(struct sub *s)
{
	bool is_online = strcmp(s->connection, "online") == 0;
	int64_t now = cli_now_ms(), at;

	s->cli->wake_ms = -1;
	for (size_t i = 0; i < s->n_wishes; i++) {
		struct wish *w = &s->wishes[i];

		if (w->tell_at_ms >= 0 && w->tell_at_ms <= now) {
			w->tell_at_ms = -1;
			w->is_waiting_told = true;
			cli_error("%s is pending: %s%s; see `rtbridge status`", w->spec,
				  is_online ? "the server has not said yet that its changes flow"
					    : "the daemon's connection to the server is ",
				  is_online ? "" : s->connection);
		}
		at = w->spec ? w->tell_at_ms : cli_waiting_look(&w->waiting);
		if (at >= 0 && (s->cli->wake_ms < 0 || at < s->cli->wake_ms))
			s->cli->wake_ms = at;
	}
}

static void on_connection(struct cli *cli, const struct rtb_connection *conn)
{
	struct sub *s = cli->verb;

	snprintf(s->connection, sizeof(s->connection), "%s", conn->state);
	cli_notice_connection(cli, conn);
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
	static const char *const none[] = { NULL };
	struct rtb_sub_options o = RTB_SUB_OPTIONS_INIT;
	int r;

	o.is_private = cli->is_private;
	o.self = cli->self;
	o.events = s->is_watch ? none : cli->events;
	o.presence = cli->presence || s->is_watch;
	o.handlers.broadcast = on_broadcast;
	o.handlers.channel = on_channel;
	o.handlers.presence = on_presence;
	o.handlers.gap = on_gap;
	o.handlers.replay = on_replay;
	o.handlers.system = on_system;
	o.replay = cli->has_since;
	o.replay_since_ms = cli->since_ms;
	o.replay_limit = (uint32_t)cli->limit;
	o.replication_ready = cli->replication_ready;
	for (int i = 0; i < cli->n_operands; i++) {
		struct wish *w = &s->wishes[s->n_wishes];

		if (is_repeated(cli->operands, i))
			continue;
		w->all = s;
		w->tell_at_ms = -1;
		w->is_replaying = cli->has_since;
		o.user = w;
		r = rtb_subscribe(cli->client, cli->operands[i], &o, &w->sub);
		if (r < 0) {
			cli_error("cannot subscribe to %s: %s", cli->operands[i], rtb_strerror(r));
			return r == RTB_E_TOPIC || r == RTB_E_EVENT ? CLI_USAGE : CLI_ERROR;
		}
		cli_waiting_start(&w->waiting, cli, cli->operands[i], CLI_WAITING_MS);
		s->n_wishes++;
	}
	return 0;
}

/* Where private channels alone are allowed, changes need one; of several none is better than the
 * others. */
static int watch_all(struct cli *cli, struct sub *s)
{
	struct rtb_watch_options o = RTB_WATCH_OPTIONS_INIT;
	struct rtb_watch *watch;
	int r;

	if (s->n_wishes == 1) {
		o.topic = cli->operands[0];
		o.is_private = cli->is_private;
	}
	o.change = on_change;
	o.state = on_binding;
	o.gap = on_rows_gap;
	for (size_t i = 0; i < cli->n_pgs; i++) {
		const struct cli_pg *pg = &cli->pgs[i];
		struct wish *w = &s->wishes[s->n_wishes];

		w->all = s;
		w->spec = pg->spec;
		w->tell_at_ms = -1;
		wait_quietly(w);
		o.event = pg->event;
		o.schema = pg->schema;
		o.table = pg->table;
		o.filter = pg->filter;
		o.select = pg->select;
		o.user = w;
		r = rtb_watch(cli->client, &o, &watch);
		if (r < 0) {
			cli_error("cannot watch %s: %s", pg->spec, rtb_strerror(r));
			return r == RTB_E_BINDING ? CLI_USAGE : CLI_ERROR;
		}
		s->n_wishes++;
	}
	return 0;
}

static void explain_timeout(const struct cli *cli, const struct sub *s)
{
	if (cli->until_ready)
		cli_error("not all was ready within %g s; see `rtbridge status`", cli->wait_s);
	else
		cli_error("%llu %s came within %g s", (unsigned long long)s->n_messages,
			  s->is_watch  ? "changes"
			  : cli->n_pgs ? "messages or rows"
				       : "messages",
			  cli->wait_s);
}

static int run(struct cli *cli, bool is_watch)
{
	struct sub s = { .cli = cli,
			 .json = cli->json || !isatty(STDOUT_FILENO),
			 .is_watch = is_watch };
	int r;

	s.wishes = calloc((size_t)cli->n_operands + cli->n_pgs, sizeof(*s.wishes));
	if (!s.wishes) {
		cli_error("out of memory");
		return CLI_ERROR;
	}
	cli->verb = &s;
	cli->on_state = cli_notice_state;
	cli->on_connection = on_connection;
	cli->notices_in_json = s.json;
	/* What is wrong with a wish needs no daemon to be found, and all of them are asked for
	 * together. */
	r = cli_start(cli);
	if (r == 0)
		r = subscribe_all(cli, &s);
	if (r == 0)
		r = watch_all(cli, &s);
	if (r == 0)
		r = cli_wait_attached(cli);
	while (r == 0 && !cli->is_done) {
		tell_waiting(&s);
		cli_turn(cli, NULL);
	}
	if (r == 0)
		r = cli->exit_code;
	/* Without a number to reach, -W says how long to listen: anything is enough. */
	if (r == CLI_TIMEOUT && !cli->until_ready && !cli->count &&
	    (s.n_messages || (is_watch && s.has_snapshot)))
		r = CLI_OK;
	else if (r == CLI_TIMEOUT)
		explain_timeout(cli, &s);
	/* The callbacks refer to `s`. */
	cli->client = rtb_client_free(cli->client);
	for (size_t i = 0; i < s.n_wishes; i++)
		free(s.wishes[i].trouble);
	free(s.wishes);
	return r;
}

int cli_sub(struct cli *cli)
{
	const char *of_topics = cli->has_since           ? "--since"
				: cli->replication_ready ? "--replication-ready"
				: cli->presence          ? "--presence"
				: cli->is_private        ? "--private"
				: cli->self              ? "--self"
				: cli->n_events          ? "--event"
							 : NULL;

	if (cli->has_since && !cli->is_private) {
		cli_error("--since needs --private: the server stores messages of private channels "
			  "alone; see `rtbridge sub --help`");
		return CLI_USAGE;
	}
	if (cli->limit && !cli->has_since) {
		cli_error("--limit is for --since; see `rtbridge sub --help`");
		return CLI_USAGE;
	}
	if (cli->n_operands < 1 && of_topics) {
		cli_error("%s needs a TOPIC; see `rtbridge sub --help`", of_topics);
		return CLI_USAGE;
	}
	if (cli->n_operands < 1 && !cli->n_pgs) {
		cli_error("sub needs a TOPIC or a --pg; see `rtbridge sub --help`");
		return CLI_USAGE;
	}
	return run(cli, false);
}

int cli_presence_watch(struct cli *cli)
{
	cli->n_operands = 1; /* the topic */
	return run(cli, true);
}
