/* SPDX-License-Identifier: MIT */
/*
 * --token-file: the token that the command acts with. It is never in argv, where everybody could
 * read it, and its file is held to the rules that the daemon has for its key.
 *
 * Whoever renews the token replaces the file. It is looked at every LOOK_MS, and at once when the
 * token has ended; only another token in it is news.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum {
	LOOK_MS = 2000,
	TOKEN_MAX = 8 * 1024, /* as the daemon takes */
	FILE_MAX = TOKEN_MAX + 1024,
};

static const char white[] = " \t\r\n";

struct cli_token {
	struct stat seen;     /* when it was read last */
	char said[FILE_MAX];  /* what the daemon got last */
	char fresh[FILE_MAX]; /* of the last reading */
};

static int check_file(const char *path, const struct stat *st, char *error, size_t size)
{
	bool is_for_root_group = st->st_uid == 0 && !(st->st_mode & (S_IWGRP | S_IRWXO));

	if (!S_ISREG(st->st_mode)) {
		(void)snprintf(error, size, "%s: not a regular file; write the token into one",
			       path);
		return -EINVAL;
	}
	if ((st->st_mode & (S_IRWXG | S_IRWXO)) && !is_for_root_group) {
		(void)snprintf(error, size,
			       "%s: mode %04o lets others read the token; run: chmod 600 %s", path,
			       (unsigned)(st->st_mode & 07777), path);
		return -EPERM;
	}
	return 0;
}

/* Fills `fresh`. Return: 0; a negative errno with a sentence. */
static int read_open(struct cli_token *t, const char *path, int fd, char *error, size_t size)
{
	size_t n = 0, start;
	ssize_t got;
	int r;

	if (fstat(fd, &t->seen) < 0) {
		r = -errno;
		(void)snprintf(error, size, "%s: %s", path, rtb_strerror(r));
		return r;
	}
	r = check_file(path, &t->seen, error, size);
	if (r < 0)
		return r;
	while (n < sizeof(t->fresh) - 1 &&
	       (got = read(fd, t->fresh + n, sizeof(t->fresh) - 1 - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			r = -errno;
			(void)snprintf(error, size, "%s: %s", path, rtb_strerror(r));
			return r;
		}
		n += (size_t)got;
	}
	while (n > 0 && memchr(white, t->fresh[n - 1], sizeof(white) - 1))
		n--;
	t->fresh[n] = '\0';
	start = strspn(t->fresh, white);
	memmove(t->fresh, t->fresh + start, n - start + 1);
	n -= start;
	if (n > 0 && n <= TOKEN_MAX && strlen(t->fresh) == n && !strpbrk(t->fresh, white))
		return 0;
	(void)snprintf(error, size, "%s: %s; it must hold the token alone", path,
		       n == 0           ? "empty"
		       : n <= TOKEN_MAX ? "more than one word"
					: "more than 8 KiB");
	return -EINVAL;
}

static int read_token(struct cli_token *t, const char *path, char *error, size_t size)
{
	/* Not blocking: a FIFO in the file's place must not hang. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), r;

	if (fd < 0) {
		r = -errno;
		if (cli_looks_like_token(path))
			(void)snprintf(error, size,
				       "this looks like a token itself; write it to a file and "
				       "name the file");
		else
			(void)snprintf(error, size, "%s: %s", path, rtb_strerror(r));
		t->seen = (struct stat){ 0 };
		return r;
	}
	r = read_open(t, path, fd, error, size);
	(void)close(fd);
	return r;
}

/* ---- the first one ---- */

void cli_token_free(struct cli *cli)
{
	if (cli->token)
		explicit_bzero(cli->token, sizeof(*cli->token));
	free(cli->token);
	cli->token = NULL;
}

int cli_token_start(struct cli *cli, const char **ret)
{
	char error[512];

	*ret = NULL;
	if (!cli->token_file)
		return 0;
	cli->token = calloc(1, sizeof(*cli->token));
	if (!cli->token) {
		cli_error("out of memory");
		return CLI_ERROR;
	}
	if (read_token(cli->token, cli->token_file, error, sizeof(error)) < 0) {
		cli_error("cannot use the token: %s", error);
		return CLI_ERROR;
	}
	memcpy(cli->token->said, cli->token->fresh, sizeof(cli->token->said));
	*ret = cli->token->said;
	cli->token_look_ms = cli_now_ms() + LOOK_MS;
	return 0;
}

/* ---- the next one ---- */

static void on_token(struct rtb_client *c, const char *topic, const struct rtb_token_result *result,
		     void *user)
{
	struct cli *cli = user;
	char until[64];

	(void)c;
	(void)topic;
	if (cli->is_done || result->error == -ECANCELED)
		return;
	if (result->error) {
		cli_error("cannot use the new token in %s: %s", cli->token_file, result->text);
		return;
	}
	cli_format_until(result->expires_unix_s, until, sizeof(until));
	cli_error("goes on with the new token in %s, which ends %s", cli->token_file, until);
}

/* Return: whether there was another one. */
static bool take(struct cli *cli)
{
	struct cli_token *t = cli->token;
	char error[512];
	int r = read_token(t, cli->token_file, error, sizeof(error));

	if (r == 0 && strcmp(t->fresh, t->said) == 0)
		return false;
	if (r == 0) {
		memcpy(t->said, t->fresh, sizeof(t->said));
		r = rtb_set_token(cli->client, NULL, t->said, on_token, cli);
		(void)snprintf(error, sizeof(error), "%s: %s", cli->token_file, rtb_strerror(r));
	}
	if (r == -ENOMEM)
		t->said[0] = '\0';      /* the next look finds it again */
	else if (r < 0 && r != -ENOENT) /* gone for a moment is how some replace it */
		cli_error("cannot use the new token: %s", error);
	return r == 0;
}

static bool is_other(const struct stat *a, const struct stat *b)
{
	return a->st_ino != b->st_ino || a->st_dev != b->st_dev || a->st_size != b->st_size ||
	       a->st_mode != b->st_mode || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	       a->st_mtim.tv_nsec != b->st_mtim.tv_nsec || a->st_ctim.tv_sec != b->st_ctim.tv_sec ||
	       a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

void cli_token_look(struct cli *cli)
{
	struct stat now;

	if (!cli->token || !cli->client || cli->is_done || cli_now_ms() < cli->token_look_ms)
		return;
	cli->token_look_ms = cli_now_ms() + LOOK_MS;
	if (rtb_client_state(cli->client) != RTB_FAILED && stat(cli->token_file, &now) == 0 &&
	    is_other(&now, &cli->token->seen))
		(void)take(cli);
}

void cli_token_ended(struct cli *cli, const struct rtb_token_event *event)
{
	if (cli->is_done || !cli->token || take(cli))
		return;
	/* What could never be done with it is refused now, which is told, and ends the command. */
	if (!cli->token_was_good && !cli->is_patient)
		return;
	cli_error("the token has ended: %s (%s); waiting for another one in %s", event->text,
		  event->code, cli->token_file);
}

/* ---- what is refused over it ---- */

bool cli_is_token_code(const char *code)
{
	return strncmp(code, "token_", strlen("token_")) == 0 || strcmp(code, "bad_token") == 0;
}

bool cli_awaits_token(const struct cli *cli, const char *code)
{
	return cli->token && cli->token_was_good && cli_is_token_code(code);
}
