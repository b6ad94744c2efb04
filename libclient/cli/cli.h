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
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

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
	CLI_SIGNAL = 128,  /* plus the signal's number */
};

struct cli {
	/* from the command line */
	const char *socket; /* NULL: the default */
	bool json, verbose, quiet, is_private, self, until_ready, from_lines;
	const char **events; /* of -e, NULL-terminated; NULL: none given */
	size_t n_events;
	uint64_t count;  /* of -C; 0: none */
	int64_t end_ms;  /* of -W, monotonic; -1: none */
	double wait_s;   /* the same as given */
	uint32_t ttl_ms; /* 0: the daemon's default */
	char **operands; /* behind the verb */
	int n_operands;

	/* while it runs */
	struct rtb_client *client;
	int signal_fd;
	bool was_attached;
	bool is_done;
	int exit_code;
	/* Called for changes after the first attachment; may be NULL. */
	void (*on_state)(struct cli *cli, enum rtb_state state, int why);
	void (*on_connection)(struct cli *cli, const struct rtb_connection *conn);
	void *verb; /* the verb's own */
};

int cli_status(struct cli *cli);
int cli_sub(struct cli *cli);
int cli_pub(struct cli *cli);

/* run.c */

/* Ends the run with this code; the first call counts. */
void cli_finish(struct cli *cli, int exit_code);
/* "rtbridge: ..." on stderr. */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Makes the client and waits until it is attached. Return: 0, or the exit code, with the error
 * printed. */
int cli_attach(struct cli *cli);
/* One turn of the loop: waits for the client, signals, the end of -W and `extra` (may be NULL),
 * then processes. After that cli->is_done may be set. */
void cli_turn(struct cli *cli, struct pollfd *extra);
int64_t cli_now_ms(void);

/* out.c */

/* A JSON string with its quotes. */
void cli_put_json_text(FILE *f, const char *text);
/* `"name":"text"`, with a comma in front; nothing when the text is empty. */
void cli_put_json_field(FILE *f, const char *name, const char *text);
/* Text for a terminal: control characters become '?'. */
void cli_put_plain(FILE *f, const char *text);
void cli_put_base64(FILE *f, const void *data, size_t size);
/* "41s", "3h12m", "5d2h" */
void cli_format_age(int64_t ms, char *buf, size_t size);
/* Pads to columns: cells are given row by row, printed together. */
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

/* mp.c: reading MessagePack. A value that is not there has p NULL; all getters accept that. */

struct mp {
	const unsigned char *p;
	size_t size;
};
struct mp mp_find(struct mp map, const char *key);
/* The elements of an array, one after the other: start with mp_first(), p NULL is the end. */
struct mp mp_first(struct mp array);
struct mp mp_next(struct mp element);
size_t mp_count(struct mp array);
bool mp_is_bin(struct mp v, const void **ret, size_t *ret_size);
int64_t mp_int(struct mp v, int64_t otherwise);
bool mp_bool(struct mp v);
/* Copies a string, cut to fit; "" when it is none. Returns buf. */
const char *mp_text(struct mp v, char *buf, size_t size);
