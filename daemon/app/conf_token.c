/* SPDX-License-Identifier: MIT */
/* The daemon's own token, as far as the configuration knows of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/conf_impl.h"
#include "app/token_store.h"
#include "app/url.h"
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
	if (jwt.exp_s <= now_s)
		printf("warning   [upstream] token_file: %s: the token (role %s) has expired on "
		       "%s; "
		       "put a new one into it\n",
		       path, jwt.role, date);
	else
		printf("token     role %s, ends %s\n", jwt.role, date);
	jwt_done(&jwt);
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
	if (strncmp(bytes, "eyJ", 3) == 0 || strncmp(bytes, "sb_", 3) == 0)
		printf("warning   [upstream] refresh_token_file: %s: this looks like %s and not "
		       "like a refresh token; a login gives both\n",
		       path, *bytes == 'e' ? "an access token (or key)" : "an API key");
	secret_free(seed);
}

void conf_print_token(const struct conf *conf, int64_t now_s)
{
	switch (conf->token) {
	case CONF_TOKEN_NONE:
		break;
	case CONF_TOKEN_FILE:
		printf("token     from %s\n", conf->token_file);
		look_at_token(conf->token_file, now_s);
		break;
	case CONF_TOKEN_COMMAND:
		printf("token     from the command %s\n", conf->token_command);
		break;
	case CONF_TOKEN_REFRESH:
		printf("token     refreshed at %s, begun with %s, kept in %s\n", conf->auth.url,
		       conf->refresh_token_file, conf->state_dir);
		look_at_seed(conf);
		break;
	}
}
