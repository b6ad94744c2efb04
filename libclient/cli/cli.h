/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The `rtbridge` command: what its verbs share.
 *
 * It may include <rtbridge/rtbridge.h> and libc only, nothing of the project's inside: it is the
 * proof that the public API suffices. Data goes to stdout, everything else to stderr.
 */
#include <rtbridge/rtbridge.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/signalfd.h>

enum {
	CLI_OK = 0,
	CLI_ERROR = 1,
	CLI_USAGE = 2,
	CLI_NO_DAEMON = 3, /* nobody listens on the socket */
	CLI_OFFLINE = 4,   /* the daemon is up, its upstream is not */
	CLI_DENIED = 5,    /* by the daemon or by the server's policies */
	CLI_REFUSED = 6,   /* too big, a limit, busy, bad payload */
	CLI_UNKNOWN = 7,   /* it may have arrived */
	CLI_TIMEOUT = 27,  /* as mosquitto_sub has it */
	CLI_NO_EXEC = 126, /* a command cannot be run; as shells have it */
	CLI_NOT_FOUND = 127,
	CLI_SIGNAL = 128, /* plus the signal's number */
};

/* One --pg, and the --select behind it. */
struct cli_pg {
	const char *spec; /* as given, borrowed */
	const char *schema, *table;
	const char *event, *filter; /* NULL: none given; the filter points into the spec */
	const char **select;        /* NULL-terminated; NULL: none given */
	char *names, *columns;      /* what the others point into */
};

struct cli {
	/* from the command line */
	const char *socket; /* NULL: the default */
	bool json, verbose, quiet, is_private, self, until_ready, from_lines, help;
	bool presence;          /* sub: also who is there */
	bool from_stdin;        /* track: states from stdin */
	const char *key;        /* of --key; NULL: none */
	const char *token_file; /* NULL: none */
	const char **events;    /* of -e, NULL-terminated; NULL: none given */
	size_t n_events;
	struct cli_pg *pgs; /* of --pg */
	size_t n_pgs;
	uint64_t count;  /* of -C; 0: none */
	int64_t end_ms;  /* of -W, monotonic; -1: none */
	int64_t wake_ms; /* when a turn ends at the latest, monotonic; -1: whenever */
	double wait_s;   /* the same as given */
	uint32_t ttl_ms; /* 0: the daemon's default */
	enum rtb_via via;
	bool via_ws, via_http;  /* as given: not both */
	bool is_binary;         /* pub: the payload is any bytes */
	const char *file;       /* pub: of -f, "-": stdin; NULL: none */
	const char *id;         /* pub: of --id; NULL: none */
	bool has_since;         /* sub: stored messages first */
	int64_t since_ms;       /* of --since, since the Unix epoch */
	uint64_t limit;         /* of --limit; 0: none given */
	bool replication_ready; /* sub: told when messages of the database can flow */
	char **operands;        /* behind the verb */
	int n_operands;
	char **command; /* behind "--", NULL-terminated; NULL: none */

	/* while it runs */
	struct rtb_client *client;
	struct cli_token *token; /* token.c; NULL without a token_file */
	int64_t token_look_ms;   /* when the file is looked at, monotonic */
	bool token_was_good; /* something was reached with it: another one is worth waiting for */
	int signal_fd;
	bool was_attached;
	bool is_patient; /* go on without a daemon: on_state is told of all its states */
	bool is_done;
	int exit_code;
	/* Called for changes after the first attachment; may be NULL. */
	void (*on_state)(struct cli *cli, enum rtb_state state, int why);
	void (*on_connection)(struct cli *cli, const struct rtb_connection *conn);
	/* SIGCHLD, and, if not NULL, the others instead of the end. */
	void (*on_signal)(struct cli *cli, const struct signalfd_siginfo *info);
	sigset_t own_mask; /* as it was at the start: for commands */
	void *verb;        /* the verb's own */
	/* notice.c */
	bool notices_in_json, is_upstream_troubled, is_detached;
};

int cli_status(struct cli *cli);
int cli_channels(struct cli *cli);
int cli_clients(struct cli *cli);
int cli_reconnect(struct cli *cli);
int cli_refresh_token(struct cli *cli);
int cli_sub(struct cli *cli);
int cli_pub(struct cli *cli);
int cli_outcome(struct cli *cli);
int cli_presence_ls(struct cli *cli);
int cli_presence_watch(struct cli *cli);
int cli_presence_track(struct cli *cli);

/* help.c */

extern const char cli_help[], cli_help_sub[], cli_help_pub[], cli_help_presence[];

/* run.c */

/* Ends the run with this code; the first call counts. */
void cli_finish(struct cli *cli, int exit_code);
/* "rtbridge: ..." on stderr, as cli_put_plain() writes it, without tokens. */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Makes the client and waits until it is attached (not with is_patient). Return: 0, or the exit
 * code, with the error printed. */
int cli_attach(struct cli *cli);
/* Its two halves: the client that does not wait yet, so that wrong wishes are found first; and the
 * wait. */
int cli_start(struct cli *cli);
int cli_wait_attached(struct cli *cli);
/* One turn of the loop: waits for the client, signals, the end of -W and `extra` (may be NULL),
 * then processes. After that cli->is_done may be set. */
void cli_turn(struct cli *cli, struct pollfd *extra);
/* One request, attached for it: `fn` ends the run. Without -W for `wait_ms`. Return: the exit code. */
int cli_ask(struct cli *cli, int64_t (*ask)(struct rtb_client *c, rtb_reply_fn fn, void *user),
	    rtb_reply_fn fn, int wait_ms);
int64_t cli_now_ms(void);

/* token.c: the token in a file */

/* Reads it. @ret: NULL: none is wished for; borrowed. Return: 0, or the exit code, with the error
 * printed. */
int cli_token_start(struct cli *cli, const char **ret);
/* When it is due: has the file been replaced? */
void cli_token_look(struct cli *cli);
/* For rtb_handlers.token. */
void cli_token_ended(struct cli *cli, const struct rtb_token_event *event);
/* Whether something with this code was refused over the token. */
bool cli_is_token_code(const char *code);
/* Whether that is no end: the file may be replaced. */
bool cli_awaits_token(const struct cli *cli, const char *code);
/* Wipes it. */
void cli_token_free(struct cli *cli);

/* waiting.c: why a topic is not there yet */

enum { CLI_WAITING_MS = 5000 }; /* until then waiting is no news */

/* Must outlive the client. */
struct cli_waiting {
	struct cli *cli;
	const char *topic; /* borrowed */
	int64_t at_ms;     /* when to look, monotonic; -1: not (any more) */
	bool is_over;
	bool may_post, only_posts; /* a message that may, or will, go by HTTP, without a channel */
	char code[32], text[640];  /* what was found; "": nothing */
	int64_t retry_at_ms;       /* monotonic; -1: unknown */
};
void cli_waiting_start(struct cli_waiting *w, struct cli *cli, const char *topic, int64_t after_ms);
/* It is there, or what is wrong has been told. */
void cli_waiting_end(struct cli_waiting *w);
/* When it is due, asks the daemon, and tells on stderr why nothing has come yet. Return: at_ms. */
int64_t cli_waiting_look(struct cli_waiting *w);
/* What is left until the next try; -1: unknown, or past. */
int64_t cli_waiting_retry_ms(const struct cli_waiting *w);

/* hide.c: tokens in the wrong place */

/* For what is no file: "eyJ...", three long parts with dots between, "sb_...", "Bearer ...". */
bool cli_looks_like_token(const char *text);
/* Puts "(a token)" in the place of each in a message. */
void cli_hide_tokens(char *text);

/* lines.c: stdin, line by line */

struct cli_lines {
	char *buf; /* [start, end) is not taken yet */
	size_t start, end, cap;
	size_t n_peeked; /* bytes of the line that was peeked at, with its end */
	uint64_t n;      /* lines taken, as the user counts them */
	bool is_eof;
};
/* Reads once. Return: 0, or the exit code, with the error printed. */
int cli_lines_read(struct cli_lines *l);
/* The next whole line (the last one needs no end), borrowed until it is taken. */
bool cli_lines_peek(struct cli_lines *l, const char **ret, size_t *ret_size);
void cli_lines_take(struct cli_lines *l);
/* Whether a whole line is there, or the end has come: then there is no need to read. */
bool cli_lines_is_full(const struct cli_lines *l);
bool cli_lines_is_over(const struct cli_lines *l);
/* Return: 0, or the exit code when a line is too long, with the error printed. */
int cli_lines_check(const struct cli_lines *l);
bool cli_is_blank(const char *line, size_t size);

/* file.c: a payload as a whole */

struct cli_bytes {
	char *p; /* to be freed, whatever was returned */
	size_t size;
};
/* @path "-": stdin. Return: 0, or the exit code, with the error printed. */
int cli_read_file(const struct cli *cli, const char *path, struct cli_bytes *ret);

/* when.c */

/* "10m" (before now), an RFC 3339 time, or ms since the Unix epoch. */
bool cli_parse_when(const char *text, int64_t *ret_unix_ms);

/* outcome.c: what became of a send */

int cli_exit_of_outcome(enum rtb_outcome outcome);
/* @line: 0: none */
void cli_put_result_json(const struct rtb_result *result, uint64_t line);
/* Words about it on stderr, if there are any; with -v which way it went, too. */
void cli_put_result_words(const struct cli *cli, const struct rtb_result *result, const char *lead);

/* child.c: a command that runs beside */

/* Starts it, with the signals as they were for us, and with an empty stdin if wished. Return: 0, or
 * the exit code, with the error printed. */
int cli_child_start(const struct cli *cli, bool no_stdin, pid_t *ret);
/* For on_signal: forwards the signal, or notices the end. Return: -1 it runs, else its exit code.
 */
int cli_child_signal(pid_t pid, const struct signalfd_siginfo *info);

/* pg.c: which database changes */

/* Both fill `error` when they return -EINVAL: with the position of what is wrong and what would be
 * right. Also -ENOMEM. A failed parse has freed what it filled in, cli_pg_free() frees the rest. */
int cli_pg_parse(struct cli_pg *pg, const char *spec, char *error, size_t error_size);
int cli_pg_select(struct cli_pg *pg, const char *list, char *error, size_t error_size);
void cli_pg_free(struct cli_pg *pg);

/* rows.c: database changes */

void cli_put_change(const char *spec, const struct rtb_change *change, bool json);

/* notice.c: what is wrong, and when that is over. */

struct cli_notice {
	const char *type;
	const char *topic, *pg; /* what it is about; NULL: neither */
	const char *state, *code, *text;
	int64_t retry_in_ms; /* -1: none */
	/* Of cli_advice(), or NULL. People have it behind the rest; beside JSON the whole goes to
	 * stderr once more, because a program has no use for it. */
	const char *advice;
};
/* In JSON they are lines of their own type on stdout; for people they go to stderr. Empty texts are
 * left out. */
void cli_notice(const struct cli *cli, const struct cli_notice *notice);
/* For cli->on_state and cli->on_connection: trouble and its end; with -v everything. */
void cli_notice_state(struct cli *cli, enum rtb_state state, int why);
void cli_notice_connection(struct cli *cli, const struct rtb_connection *conn);
/* The end of what --since asked for: programs get it always, and so do people. */
void cli_notice_replay(const struct cli *cli, const struct rtb_replay *replay);
/* What the server says of a channel. */
void cli_notice_system(const struct cli *cli, const struct rtb_system *notice);
/* pg: the --pg that it is about; NULL: a topic. */
void cli_notice_gap(const struct cli *cli, const struct rtb_gap *gap, const char *pg);

/* advice.c: what is refused, and what to do about it */

/* The exit code for what was refused with this code. */
int cli_exit_of(const char *code);
enum { CLI_ADVICE = 600, CLI_WHEN = 48 };
/* "; next try in 1.5 s", if @what is "next try in"; "" when @ms is negative: not known. Returns
 * @buf, of CLI_WHEN bytes. */
const char *cli_when(const char *what, int64_t ms, char *buf, size_t size);
/* "; see ..." about a refusal, "" when there is none to give. @buf: of CLI_ADVICE bytes. Returns
 * it. */
const char *cli_advice(const struct cli *cli, const char *code, const char *text, char *buf,
		       size_t size);
/* A channel that will not be joined, on stderr whatever stdout carries. Return: the exit code. */
int cli_tell_rejected(const struct cli *cli, const struct rtb_channel *ch);
/* The same for a --pg that the server does not take. */
void cli_tell_refused(const struct cli *cli, const char *pg, const struct rtb_watch_status *status);
/* That the socket is there, and who may connect to it. */
void cli_tell_no_access(const struct cli *cli);

/* there.c: who is there */

void cli_put_entry(const struct rtb_presence_entry *entry);
void cli_put_presence(const struct rtb_sub *sub, const struct rtb_presence *change, bool json);

/* out.c */

/* "13:05:59 " */
void cli_put_time(FILE *f);
/* `"name":VALUE` on stdout, with a comma in front: MessagePack as JSON, binary as base64 under
 * another name; nothing when p is NULL. */
void cli_put_value(const char *name, const void *p, size_t size);
/* The same for a terminal, without a name. */
void cli_put_value_plain(const void *p, size_t size);

/* A JSON string with its quotes. */
void cli_put_json_text(FILE *f, const char *text);
/* `"name":"text"`, with a comma in front; nothing when the text is empty. */
void cli_put_json_field(FILE *f, const char *name, const char *text);
/* Text for a terminal: control characters, and what turns the direction, become '?'. */
void cli_put_plain(FILE *f, const char *text);
void cli_put_base64(FILE *f, const void *data, size_t size);
/* "41s", "3h12m", "5d2h" */
void cli_format_age(int64_t ms, char *buf, size_t size);
/* "2025-11-19 13:05:59, in 12m"; "-" for -1. */
void cli_format_until(int64_t unix_s, char *buf, size_t size);
enum { CLI_COLUMNS_MAX = 16 };
/* Pads to columns (at most CLI_COLUMNS_MAX): cells are given row by row, printed together. */
struct cli_table {
	unsigned n_columns;
	char **cells;
	size_t n_cells, cap;
	bool is_failed;
};
void cli_table_cell(struct cli_table *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Prints and empties it. */
void cli_table_print(struct cli_table *t, FILE *f);

/* state.c: how a connection and the daemon's token are, in words */

/* The connection works, or nothing needs it. */
bool cli_is_well(const char *state);
struct mp;
/* "  lost: broken; what to do: ...; next try in 1.5 s" as a line; nothing when there is nothing to
 * say. */
void cli_print_trouble(struct mp map);
/* "token good (refresh, authenticated) until ..., in 54m; next try in ..." as a line, with what is
 * wrong. @lead: what stands before. */
void cli_print_token(struct mp token, const char *lead);
/* Since when, from the member `since`; "-": not said. Returns @buf. */
const char *cli_age_of(struct mp map, char *buf, size_t size);

/* mp.c: reading MessagePack. A value that is not there has p NULL; all getters accept that. */

struct mp {
	const unsigned char *p;
	size_t size;
};
struct mp mp_find(struct mp map, const char *key);
/* The elements of an array, one after the other: start with mp_first(), p NULL is the end. Those of
 * a map are its keys and values in turn. `size` of an element reaches to the end of all. */
struct mp mp_first(struct mp container);
struct mp mp_next(struct mp element);
/* The element alone. */
struct mp mp_alone(struct mp element);
size_t mp_count(struct mp array);
bool mp_is_map(struct mp v);
bool mp_is_bin(struct mp v, const void **ret, size_t *ret_size);
int64_t mp_int(struct mp v, int64_t otherwise);
bool mp_bool(struct mp v);
#define CLI_CUT "\342\200\246" /* U+2026, three dots */
/* Copies a string; "" when it is none. One that does not fit is cut between characters, and ends in
 * CLI_CUT. `size` is at least 16. Returns buf. */
const char *mp_text(struct mp v, char *buf, size_t size);
