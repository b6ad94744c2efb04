/* SPDX-License-Identifier: MIT */
/* The daemon's own token, as far as the configuration knows of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "app/conf_impl.h"
#include "app/token_store.h"
#include "app/url.h"
#include "base/cleanup.h"
#include "realtime/jwt.h"

int conf_place_set(struct conf_place *p, const struct url_parts *u, int path_size)
{
	bool v6 = strchr(u->host, ':') != NULL;

	p->tls = u->tls;
	p->port = u->port;
	p->host = strdup(u->host);
	if (asprintf(&p->path, "%.*s", path_size, u->path) < 0)
		p->path = NULL;
	if (asprintf(&p->url, "%s://%s%s%s:%u%.*s", u->tls ? "https" : "http", v6 ? "[" : "",
		     u->host, v6 ? "]" : "", u->port, path_size, u->path) < 0)
		p->url = NULL;
	return p->host && p->path && p->url ? 0 : -ENOMEM;
}

/* A gateway has GoTrue beside Realtime: .../auth/v1 and .../realtime/v1. A bare server has none. */
static int derive_auth(struct conf *conf, const struct url_parts *realtime, struct conf_text *ret)
{
	static const char end[] = "/realtime/v1/websocket";
	size_t n = strlen(realtime->path), m = sizeof(end) - 1;
	struct url_parts u = *realtime;
	char text[384];

	if (conf->auth_url) {
		if (url_parse_base(conf->auth_url, &u, text, sizeof(text)) < 0)
			return conf_complain(ret, -EINVAL, "[upstream] auth_url: %s", text);
	} else if (n >= m && strcmp(u.path + n - m, end) == 0) {
		strcpy(u.path + n - m, "/auth/v1");
	} else {
		return conf_complain(
			ret, -EINVAL,
			"[upstream] refresh_token_file: where tokens are refreshed cannot "
			"be told from url; write auth_url = https://HOST/auth/v1");
	}
	return conf_place_set(&conf->auth, &u, (int)strlen(u.path)) < 0
		       ? conf_complain(ret, -ENOMEM, "no memory")
		       : 0;
}

/* Where the daemon's own token comes from. */
int conf_derive_token(struct conf *conf, const struct url_parts *realtime, struct conf_text *ret)
{
	unsigned n = (conf->token_file != NULL) + (conf->token_command != NULL) +
		     (conf->refresh_token_file != NULL);

	if (n > 1)
		return conf_complain(
			ret, -EINVAL,
			"[upstream] token_file, token_command and refresh_token_file: the "
			"daemon's token comes from one of them");
	if (conf->token_file)
		conf->token = CONF_TOKEN_FILE;
	else if (conf->token_command)
		conf->token = CONF_TOKEN_COMMAND;
	else if (conf->refresh_token_file)
		conf->token = CONF_TOKEN_REFRESH;
	if (conf->token != CONF_TOKEN_REFRESH)
		return 0;
	if (!conf->state_dir)
		return conf_complain(
			ret, -EINVAL,
			"[upstream] refresh_token_file: no folder is known to keep what it "
			"becomes; write state_dir = /PATH");
	return derive_auth(conf, realtime, ret);
}

/* ---- for people ---- */

static void warn_of_role(const char *role)
{
	if (strcmp(role, "service_role") == 0)
		printf("warning   [upstream] token_file: the token is of the role service_role, "
		       "which "
		       "no policy binds: every local client may all there; log in as a user with "
		       "the "
		       "rights that are needed, or bind the clients by rules ([access])\n");
	else if (strcmp(role, "anon") == 0)
		printf("warning   [upstream] token_file: the token is of the role anon: it gives "
		       "no "
		       "more than the anon key does, and when it ends everything waits; log in as "
		       "a "
		       "user, or leave token_file away\n");
}

/* What stands in the file now; it may not be there yet. */
static void look_at_token(const char *path, int64_t now_s)
{
	const char *wrong;
	struct secret *token;
	char text[384], date[32] = "";
	struct jwt jwt;
	struct tm tm;
	time_t exp;
	int r;

	if (access(path, F_OK) < 0 && errno == ENOENT) {
		printf("token     the file is not there yet; what needs it waits\n");
		return;
	}
	r = secret_read_file(path, RTBP_TOKEN_MAX, &token, text, sizeof(text));
	if (r < 0) {
		printf("warning   [upstream] token_file: %s\n", text);
		return;
	}
	/* Its end is looked at below: what has expired has a role, too. */
	r = jwt_read(secret_bytes(token), secret_size(token), INT64_MIN, &jwt, &wrong);
	secret_free(token);
	if (r != 0) {
		printf("warning   [upstream] token_file: %s: the token %s\n", path,
		       r > 0 ? wrong : "cannot be read without memory");
		return;
	}
	exp = (time_t)jwt.exp_s;
	if (gmtime_r(&exp, &tm))
		(void)strftime(date, sizeof(date), "%F %T UTC", &tm);
	warn_of_role(jwt.role);
	if (jwt.exp_s <= now_s)
		printf("warning   [upstream] token_file: %s: the token (role %s) has expired on "
		       "%s; "
		       "put a new one into it\n",
		       path, jwt.role, date);
	else
		printf("token     role %s, ends %s\n", jwt.role, date);
	jwt_done(&jwt);
}

/* The folder, or the lowest one above it that is there: nothing is made here. */
static void look_at_folder(const struct conf *conf)
{
	CLEANUP(freep) char *path = strdup(conf->state_dir);
	static const char what[] = "warning   [upstream] state_dir: ";
	bool is_there = true;
	struct stat st;
	char *slash;

	while (path && stat(path, &st) < 0) {
		slash = strrchr(path, '/');
		if (errno != ENOENT || !slash) {
			printf("%s%s: %s; name another folder\n", what, path, strerror(errno));
			return;
		}
		is_there = false;
		slash[slash == path] = '\0';
	}
	if (!path)
		return;
	if (!S_ISDIR(st.st_mode))
		printf("%s%s is no folder; name another one\n", what, path);
	else if (is_there && st.st_uid != geteuid())
		printf("%s%s belongs to uid %u, and this is uid %u; run this as the daemon's user, "
		       "or "
		       "give it a folder of its own\n",
		       what, path, (unsigned)st.st_uid, (unsigned)geteuid());
	else if (is_there && (st.st_mode & (S_IWGRP | S_IWOTH)))
		printf("%s%s: mode %04o lets others write to it; run: chmod 700 %s\n", what, path,
		       (unsigned)(st.st_mode & 07777), path);
	else if (access(path, W_OK | X_OK) < 0)
		printf("%s%s%s: %s; let the daemon's user write there, or name another folder\n",
		       what, path, is_there ? "" : ", where it would be made", strerror(errno));
}

/* The first word, if it is the name of a program: assignments may hold secrets, and arguments, too. */
static const char *program_of(const char *command, int *ret_size)
{
	size_t n;

	command += strspn(command, " \t");
	n = strspn(command, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+");
	*ret_size = (int)n;
	return n > 0 && strchr(" \t\n|;&<>()", command[n]) ? command : NULL;
}

/* The seed has no form of its own, but it is no access token and no key. */
static void look_at_seed(const struct conf *conf)
{
	const char *path = conf->refresh_token_file, *bytes;
	struct secret *seed;
	char text[384];

	if (access(path, F_OK) < 0 && errno == ENOENT) {
		printf("token     the file is not there: the session that %s knows of goes on, or "
		       "what needs a token waits\n",
		       conf->state_dir);
		return;
	}
	if (secret_read_file(path, TOKEN_STORE_BYTES_MAX, &seed, text, sizeof(text)) < 0) {
		printf("warning   [upstream] refresh_token_file: %s\n", text);
		return;
	}
	bytes = secret_bytes(seed);
	if (*bytes == '{')
		printf("warning   [upstream] refresh_token_file: %s: this looks like a login's "
		       "whole "
		       "answer; write its refresh_token alone\n",
		       path);
	else if (strncmp(bytes, "eyJ", 3) == 0 || strncmp(bytes, "sb_", 3) == 0)
		printf("warning   [upstream] refresh_token_file: %s: this looks like %s and not "
		       "like a refresh token; a login gives both\n",
		       path, *bytes == 'e' ? "an access token (or key)" : "an API key");
	secret_free(seed);
}

void conf_print_token(const struct conf *conf, int64_t now_s)
{
	const char *program;
	int n;

	switch (conf->token) {
	case CONF_TOKEN_NONE:
		break;
	case CONF_TOKEN_FILE:
		printf("token     from %s\n", conf->token_file);
		look_at_token(conf->token_file, now_s);
		break;
	case CONF_TOKEN_COMMAND:
		program = program_of(conf->token_command, &n);
		if (program)
			printf("token     from the command %.*s%s\n", n, program,
			       program[n] ? " ..." : "");
		else
			printf("token     from a command of the shell\n");
		break;
	case CONF_TOKEN_REFRESH:
		printf("token     refreshed at %s, begun with %s, kept in %s\n", conf->auth.url,
		       conf->refresh_token_file, conf->state_dir);
		look_at_seed(conf);
		look_at_folder(conf);
		break;
	}
}
