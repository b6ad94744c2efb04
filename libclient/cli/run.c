/* SPDX-License-Identifier: MIT */
/* The loop that all verbs run in: one client, signals, the end of -W. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

int64_t cli_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void cli_error(const char *fmt, ...)
{
	va_list ap;
	char *text;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (r >= 0)
		cli_hide_tokens(text);
	fflush(stdout);
	fputs("rtbridge: ", stderr);
	cli_put_plain(stderr, r < 0 ? "out of memory" : text);
	fputc('\n', stderr);
	if (r >= 0)
		free(text);
}

void cli_finish(struct cli *cli, int exit_code)
{
	if (cli->is_done)
		return;
	cli->is_done = true;
	cli->exit_code = exit_code;
}

static int cannot_attach(struct cli *cli, int why)
{
	const char *text = rtb_client_error_text(cli->client);
	char advice[CLI_ADVICE];

	switch (why) {
	case -ENOENT:
	case -ECONNREFUSED:
		cli_error(
			"cannot reach the daemon: %s; start it (rtbridged --config FILE), or name "
			"its socket with -s or $RTBRIDGE_SOCKET",
			text);
		return CLI_NO_DAEMON;
	case -EACCES:
	case -EPERM:
		cli_tell_no_access(cli);
		return CLI_DENIED;
	case RTB_E_TOKEN:
		cli_error("cannot attach: %s%s", text,
			  cli_advice(cli, "bad_token", text, advice, sizeof(advice)));
		return CLI_DENIED;
	case RTB_E_NOT_DAEMON:
		cli_error("cannot trust the daemon: %s; check the path given with -s", text);
		return CLI_ERROR;
	case RTB_E_FAILED:
		/* One of two: the access rules, or the version of the protocol. */
		if (strstr(text, "denied)")) {
			cli_error("cannot attach: %s%s", text,
				  cli_advice(cli, "forbidden", text, advice, sizeof(advice)));
			return CLI_DENIED;
		}
		cli_error("cannot attach: %s; see the daemon's log, and compare "
			  "`rtbridge --version` with `rtbridged --version`",
			  text);
		return CLI_DENIED;
	default:
		cli_error("cannot attach: %s; see the daemon's log", text);
		return CLI_ERROR;
	}
}

static void on_state(struct rtb_client *c, enum rtb_state state, int why, void *user)
{
	struct cli *cli = user;

	(void)c;
	if (cli->is_patient && cli->on_state)
		cli->on_state(cli, state, why);
	else if (!cli->was_attached && state == RTB_ATTACHED)
		cli->was_attached = true;
	else if (!cli->was_attached || state == RTB_FAILED)
		cli_finish(cli, cannot_attach(cli, why));
	else if (cli->on_state)
		cli->on_state(cli, state, why);
}

static void on_connection(struct rtb_client *c, const struct rtb_connection *conn, void *user)
{
	struct cli *cli = user;

	(void)c;
	if (cli->on_connection)
		cli->on_connection(cli, conn);
}

static void on_error(struct rtb_client *c, int code, const char *name, const char *text, void *user)
{
	(void)c;
	(void)user;
	cli_error("the daemon reports: %s (%d %s)", text, code, name);
}

static void on_token(struct rtb_client *c, const struct rtb_token_event *event, void *user)
{
	(void)c;
	cli_token_ended(user, event);
}

static int watch_signals(struct cli *cli)
{
	sigset_t set, blocked;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (cli->command) {
		/* These are the command's: they must not end us and leave it alone. */
		sigaddset(&set, SIGQUIT);
		sigaddset(&set, SIGUSR1);
		sigaddset(&set, SIGUSR2);
		sigaddset(&set, SIGALRM);
	}
	blocked = set;
	/* Nor must somebody who no longer reads our notices. */
	if (cli->command)
		sigaddset(&blocked, SIGPIPE);
	if (sigprocmask(SIG_BLOCK, &blocked, &cli->own_mask) < 0)
		return -errno;
	cli->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return cli->signal_fd < 0 ? -errno : 0;
}

int cli_start(struct cli *cli)
{
	struct rtb_options o = RTB_OPTIONS_INIT;
	int r;

	o.socket_path = cli->socket;
	o.version = rtb_version();
	o.handlers.state = on_state;
	o.handlers.connection = on_connection;
	o.handlers.error = on_error;
	o.handlers.token = on_token;
	o.user = cli;
	r = cli_token_start(cli, &o.token);
	if (r != 0)
		return r;
	r = watch_signals(cli);
	if (r == 0)
		r = rtb_client_new(&o, &cli->client);
	if (r < 0) {
		if (r == -ENAMETOOLONG)
			cli_error("cannot start: the socket's path is longer than 107 bytes; see "
				  "-s and $RTBRIDGE_SOCKET");
		else if (r == -EINVAL)
			cli_error("cannot start: the socket's path is empty; see -s and "
				  "$RTBRIDGE_SOCKET");
		else if (r == RTB_E_TOKEN)
			cli_error("cannot use the token: %s: it has not the form of one",
				  cli->token_file);
		else
			cli_error("cannot start: %s", rtb_strerror(r));
		return r == -ENAMETOOLONG || r == -EINVAL ? CLI_USAGE : CLI_ERROR;
	}
	return 0;
}

int cli_attach(struct cli *cli)
{
	int r = cli_start(cli);

	return r != 0 ? r : cli_wait_attached(cli);
}

int cli_wait_attached(struct cli *cli)
{
	while (!cli->was_attached && !cli->is_done)
		cli_turn(cli, NULL);
	return cli->is_done ? cli->exit_code : 0;
}

/* The earlier of what is left until `at_ms` (-1: never), and `next` (the same). */
static int earlier(int next, int64_t at_ms)
{
	int64_t left = at_ms - cli_now_ms();

	if (at_ms < 0)
		return next;
	left = left < 0 ? 0 : left > INT_MAX ? INT_MAX : left;
	return next >= 0 && next < left ? next : (int)left;
}

static int poll_ms(const struct cli *cli)
{
	int next = cli->client ? rtb_client_timeout_ms(cli->client) : -1;

	next = earlier(next, cli->token && cli->client ? cli->token_look_ms : -1);
	return earlier(earlier(next, cli->end_ms), cli->wake_ms);
}

static void take_signal(struct cli *cli)
{
	struct signalfd_siginfo info;

	if (read(cli->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (cli->on_signal)
		cli->on_signal(cli, &info);
	else if (info.ssi_signo != SIGCHLD)
		cli_finish(cli, CLI_SIGNAL + (int)info.ssi_signo);
}

static void process(struct cli *cli)
{
	int r = rtb_client_process(cli->client);
	bool is_told = cli->is_done || (r == RTB_E_FAILED && cli->is_patient);

	if (r < 0 && r != -ENOMEM && !is_told) {
		cli_error("%s", rtb_client_error_text(cli->client));
		cli_finish(cli, CLI_ERROR);
	}
}

void cli_turn(struct cli *cli, struct pollfd *extra)
{
	struct pollfd fds[3] = {
		{ .fd = cli->signal_fd, .events = POLLIN },
		{ .fd = -1 },
		{ .fd = -1 },
	};
	int r;

	if (cli->client) {
		fds[1].fd = rtb_client_fd(cli->client);
		fds[1].events = rtb_client_events(cli->client);
	}
	if (extra)
		fds[2] = *extra;
	r = poll(fds, 3, poll_ms(cli));
	if (extra)
		extra->revents = r > 0 ? fds[2].revents : 0;
	/* Before what came is read: what was there before a child ended is then known at its end. */
	take_signal(cli);
	if (cli->client)
		process(cli);
	cli_token_look(cli);
	/* One flush for all that came at once; whoever reads the pipe sees it now. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		if (errno != EPIPE)
			cli_error("cannot write: %s", rtb_strerror(-errno));
		cli_finish(cli, CLI_ERROR);
	}
	if (cli->end_ms >= 0 && cli_now_ms() >= cli->end_ms)
		cli_finish(cli, CLI_TIMEOUT);
}

int cli_ask(struct cli *cli, int64_t (*ask)(struct rtb_client *c, rtb_reply_fn fn, void *user),
	    rtb_reply_fn fn, int wait_ms)
{
	int64_t id;
	int r;

	if (cli->end_ms < 0) {
		cli->wait_s = wait_ms / 1000;
		cli->end_ms = cli_now_ms() + wait_ms;
	}
	r = cli_attach(cli);
	if (r == 0) {
		id = ask(cli->client, fn, cli);
		if (id < 0) {
			cli_error("cannot ask the daemon: %s", rtb_strerror((int)id));
			return CLI_ERROR;
		}
		while (!cli->is_done)
			cli_turn(cli, NULL);
		r = cli->exit_code;
	}
	if (r == CLI_TIMEOUT)
		cli_error("no answer from the daemon within %g s", cli->wait_s);
	return r;
}
