/* SPDX-License-Identifier: MIT */
/*
 * `rtbridge presence TOPIC track`: is there.
 *
 * Alone it is a verb like the others: it needs the daemon, tells on stdout what becomes of its
 * state, and ends when that is refused. Around a command nothing about presence may keep the
 * command from running, or end it; stdout and the exit code are the command's.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

struct track {
	struct cli *cli;
	const char *topic, *json; /* json NULL: the first state comes from stdin */
	bool is_json;
	bool is_troubled, was_shown, is_refused;
	bool is_lost; /* the daemon refused us for good, the command runs on */
	int worst;    /* 0, or the exit code of the lines that were no states */
	struct rtb_tracker *tracker;
	struct cli_lines in;
	struct cli_waiting waiting;
	pid_t child; /* 0: none */
};

/* ---- telling ---- */

static const char *const state_names[] = {
	[RTB_TRACK_PENDING] = "pending",
	[RTB_TRACK_THROTTLED] = "throttled",
	[RTB_TRACK_SHOWN] = "shown",
	[RTB_TRACK_REFUSED] = "refused",
};

static void print_json(const struct track *t, const struct rtb_track *track)
{
	printf("{\"type\":\"track\"");
	cli_put_json_field(stdout, "topic", t->topic);
	cli_put_json_field(stdout, "state", state_names[track->state]);
	cli_put_json_field(stdout, "key", track->key);
	cli_put_json_field(stdout, "code", track->code);
	cli_put_json_field(stdout, "text", track->text);
	if (track->retry_in_ms >= 0)
		printf(",\"retry_in_ms\":%lld", (long long)track->retry_in_ms);
	printf("}\n");
}

static void print_plain(const struct track *t, const struct rtb_track *track, FILE *f)
{
	char when[CLI_WHEN];

	fflush(stdout);
	cli_put_time(f);
	if (t->child)
		fputs("-- presence ", f);
	cli_put_plain(f, t->topic);
	fprintf(f, " %s", state_names[track->state]);
	if (track->key[0]) {
		fputs(" as ", f);
		cli_put_plain(f, track->key);
	}
	if (track->text[0] || track->code[0]) {
		fputs(": ", f);
		cli_put_plain(f, track->text[0] ? track->text : track->code);
	}
	fputs(cli_when("next try in", track->retry_in_ms, when, sizeof(when)), f);
	fputc('\n', f);
}

static void tell_refused(struct track *t, const struct rtb_track *track)
{
	bool is_denied =
		strcmp(track->code, "denied") == 0 || cli_exit_of(track->code) == CLI_DENIED;
	char advice[CLI_ADVICE];

	if (t->is_json)
		print_json(t, track);
	cli_error("cannot be shown in %s: %s (%s)%s", t->topic, track->text, track->code,
		  cli_advice(t->cli, track->code, track->text, advice, sizeof(advice)));
	if (!t->child && !cli_awaits_token(t->cli, track->code))
		cli_finish(t->cli, is_denied ? CLI_DENIED : CLI_REFUSED);
}

static void on_track(struct rtb_tracker *tracker, const struct rtb_track *track, void *user)
{
	struct track *t = user;
	bool is_shown = track->state == RTB_TRACK_SHOWN;
	/* What the loss of the daemon does is said by cli_notice_state(). */
	bool is_detached = strcmp(track->code, "detached") == 0;

	(void)tracker;
	t->was_shown = t->was_shown || is_shown; /* also when the command has just ended */
	if (t->cli->is_done || is_detached)
		return;
	t->cli->token_was_good = t->was_shown;
	t->is_refused = track->state == RTB_TRACK_REFUSED;
	if (track->state != RTB_TRACK_PENDING)
		cli_waiting_end(&t->waiting);
	if (t->is_refused)
		tell_refused(t, track);
	else if (t->is_json)
		print_json(t, track);
	else if (!t->child)
		print_plain(t, track, stdout);
	else if (!is_shown || t->is_troubled || t->cli->verbose)
		print_plain(t, track, stderr);
	t->is_troubled = !is_shown;
}

/* Around a command: told of all states, and none ends it. */
static void on_state(struct cli *cli, enum rtb_state state, int why)
{
	struct track *t = cli->verb;

	if (state != RTB_FAILED) {
		cli_notice_state(cli, state, why);
		return;
	}
	cli_error("cannot be shown in %s: %s; the command runs on", t->topic,
		  rtb_client_error_text(cli->client));
	t->is_lost = true;
}

static void on_signal(struct cli *cli, const struct signalfd_siginfo *info)
{
	const struct track *t = cli->verb;
	int code = cli_child_signal(t->child, info);

	if (code >= 0)
		cli_finish(cli, code);
}

/* ---- states ---- */

/* Says it in JSON's words; the library knows states in MessagePack only. Return: 0, or the exit
 * code, with the error printed behind `lead`. */
static int check_state(const char *lead, const char *json, size_t size)
{
	char error[256];
	size_t state_size;
	void *state;
	bool is_map;
	int r = rtb_json_to_msgpack(json, size, &state, &state_size, error, sizeof(error));

	if (r == RTB_E_PAYLOAD) {
		cli_error("%sthe state is not JSON: %s", lead, error);
		return CLI_REFUSED;
	}
	if (r < 0) {
		cli_error("%s%s", lead, rtb_strerror(r));
		return CLI_ERROR;
	}
	is_map = mp_is_map((struct mp){ state, state_size });
	rtb_free(state);
	if (is_map)
		return 0;
	cli_error("%sa state is a JSON object, like {\"n\":1}", lead);
	return CLI_REFUSED;
}

/* The same. */
static int set_state(struct track *t, const char *lead, const char *json, size_t size)
{
	struct rtb_track_options o = RTB_TRACK_OPTIONS_INIT;
	struct rtb_client *c = t->cli->client;
	int r = check_state(lead, json, size);

	if (r != 0)
		return r;
	o.is_private = t->cli->is_private;
	o.key = t->cli->key;
	o.track = on_track;
	o.user = t;
	/* What was refused may be possible by now. */
	if (t->tracker && rtb_tracker_state(t->tracker) == RTB_TRACK_REFUSED)
		t->tracker = rtb_untrack(t->tracker);
	if (t->tracker)
		r = rtb_track_update_json(t->tracker, json, size);
	else
		r = rtb_track_json(c, t->topic, json, size, &o, &t->tracker);
	if (r >= 0)
		return 0;
	if (r == RTB_E_KEY)
		cli_error("cannot be shown under the key \"%s\": %s", o.key, rtb_strerror(r));
	else
		cli_error("%s%s", lead, rtb_client_error_text(c));
	if (r == RTB_E_TOPIC || r == RTB_E_KEY)
		return CLI_USAGE;
	return r == RTB_E_PAYLOAD || r == RTB_E_TOO_BIG ? CLI_REFUSED : CLI_ERROR;
}

/* A line that is no state leaves the one before. Return: 0, or the exit code. */
static int take_lines(struct track *t)
{
	const char *line;
	char lead[48];
	size_t size;
	int r;

	while (!t->cli->is_done && cli_lines_peek(&t->in, &line, &size)) {
		(void)snprintf(lead, sizeof(lead), "line %llu: ", (unsigned long long)t->in.n + 1);
		r = cli_is_blank(line, size) ? 0 : set_state(t, lead, line, size);
		if (r == CLI_REFUSED)
			t->worst = r;
		else if (r != 0)
			return r;
		cli_lines_take(&t->in);
	}
	return cli_lines_check(&t->in);
}

/* The end of stdin ends it, but not before the last state has been seen. */
static void check_end(struct track *t)
{
	if (!t->cli->from_stdin || t->child || !cli_lines_is_over(&t->in))
		return;
	if (t->tracker && rtb_tracker_state(t->tracker) == RTB_TRACK_SHOWN) {
		cli_finish(t->cli, t->worst);
	} else if (!t->tracker) {
		cli_error("no state came on stdin");
		cli_finish(t->cli, t->worst ? t->worst : CLI_ERROR);
	}
}

/* ---- the verb ---- */

static int run(struct track *t)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	struct cli *cli = t->cli;
	bool can_read;
	int r = 0;

	while (r == 0 && !cli->is_done) {
		if (t->is_lost && cli->client) {
			cli->client = rtb_client_free(cli->client);
			t->tracker = NULL;
		}
		check_end(t);
		if (cli->is_done)
			break;
		can_read = cli->from_stdin && cli->client && !t->in.is_eof;
		in.revents = 0;
		cli->wake_ms = t->is_lost ? -1 : cli_waiting_look(&t->waiting);
		cli_turn(cli, can_read ? &in : NULL);
		if (in.revents)
			r = cli_lines_read(&t->in);
		if (r == 0 && cli->client && !t->is_lost)
			r = take_lines(t);
		if (r != 0 && t->child) { /* the state stays as it was */
			cli->from_stdin = false;
			r = 0;
		}
	}
	return r;
}

static int check_operands(struct cli *cli, struct track *t)
{
	int n = cli->n_operands - 2;
	char **rest = cli->operands + 2;

	if (n > 0 && strcmp(rest[n - 1], "-") == 0) {
		cli->from_stdin = true;
		n--;
	}
	if (n > 1) {
		cli_error("track needs at most one JSON; a command stands behind --; see "
			  "`rtbridge presence --help`");
		return CLI_USAGE;
	}
	if (cli->command && cli->end_ms >= 0) {
		cli_error("track does not take -W around a command; see "
			  "`rtbridge presence --help`");
		return CLI_USAGE;
	}
	t->topic = cli->operands[0];
	t->json = n == 1 ? rest[0] : cli->from_stdin ? NULL : "{}";
	return 0;
}

/* Before the first state has come. */
static int try_key(struct track *t)
{
	int r = set_state(t, "cannot be shown: ", "{}", 2);

	t->tracker = rtb_untrack(t->tracker);
	return r;
}

static int start(struct cli *cli, struct track *t)
{
	int r;

	cli->verb = t;
	cli->on_connection = cli_notice_connection;
	cli->is_patient = cli->command != NULL;
	cli->on_state = cli->command ? on_state : cli_notice_state;
	/* A command has stdout for itself. */
	t->is_json = !cli->command && (cli->json || !isatty(STDOUT_FILENO));
	cli->notices_in_json = t->is_json;
	r = cli_start(cli);
	/* What is wrong with the wish needs no daemon to be found. */
	if (r == 0)
		r = t->json ? set_state(t, "cannot be shown: ", t->json, strlen(t->json))
			    : try_key(t);
	if (r == 0 && !cli->command)
		r = cli_wait_attached(cli);
	if (r == 0 && cli->command) {
		r = cli_child_start(cli, cli->from_stdin, &t->child);
		cli->on_signal = on_signal;
	}
	return r;
}

int cli_presence_track(struct cli *cli)
{
	struct track t = { .cli = cli };
	int r = check_operands(cli, &t);

	if (r != 0)
		return r;
	cli_waiting_start(&t.waiting, cli, t.topic, CLI_WAITING_MS);
	r = start(cli, &t);
	if (r == 0)
		r = run(&t);
	if (r == 0)
		r = cli->exit_code;
	/* -W says how long to be there. */
	if (r == CLI_TIMEOUT && t.tracker && rtb_tracker_state(t.tracker) == RTB_TRACK_SHOWN)
		r = CLI_OK;
	else if (r == CLI_TIMEOUT)
		cli_error("not shown in %s within %g s; see `rtbridge status`", t.topic,
			  cli->wait_s);
	if (t.child && !t.was_shown && !t.is_refused && !t.is_lost)
		cli_error("%s ended before its presence was shown in %s", cli->command[0], t.topic);
	/* The callbacks refer to `t`. */
	cli->client = rtb_client_free(cli->client);
	free(t.in.buf);
	return r;
}
