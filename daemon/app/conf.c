/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/conf_impl.h"
#include "hub/acl.h"

int conf_complain(struct conf_text *ret, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ret->text, sizeof(ret->text), format, args);
	va_end(args);
	return error;
}

/* ---- defaults ---- */

static char *default_socket(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char *path = NULL;

	if (run && *run == '/' && asprintf(&path, "%s/rtbridge/rtbridge.sock", run) < 0)
		return NULL;
	return path ? path : strdup("/run/rtbridge/rtbridge.sock");
}

/* The service manager's, else the user's own. */
static int default_state(struct conf *conf)
{
	const char *given = getenv("STATE_DIRECTORY"), *home = getenv("HOME");
	const char *xdg = getenv("XDG_STATE_HOME");
	int n = 0;

	if (given && *given == '/')
		n = asprintf(&conf->state_dir, "%.*s", (int)strcspn(given, ":"), given);
	else if (xdg && *xdg == '/')
		n = asprintf(&conf->state_dir, "%s/rtbridge", xdg);
	else if (home && *home == '/')
		n = asprintf(&conf->state_dir, "%s/.local/state/rtbridge", home);
	if (n < 0)
		conf->state_dir = NULL;
	return n < 0 ? -ENOMEM : 0;
}

int conf_init(struct conf *conf)
{
	*conf = (struct conf){
		.vsn = PHX_VSN_2,
		.backoff_min_ms = 1000,
		.backoff_max_ms = 30000,
		.heartbeat_ms = 25000, /* the server ends a silent connection after 60 s */
		.heartbeat_reply_ms = 10000,
		.stable_ms = 30000,
		.dns_ms = 10000,
		.connect_ms = 5000,
		.attempt_ms = 25000, /* the server keeps refusals back for 2 s */
		.tcp_timeout_ms = 35000,
		.join_timeout_ms = 15000, /* the server may take 9 s for a refusal */
		.joins_per_s = 10,
		.token_lead_ms = 120000,
		.token_timeout_ms = 10000,
		.socket_mode = 0600,
		.max_clients = 1000,
		.max_subscriptions = 100,
		.max_channels = 90, /* the server allows 100 on one connection */
		.max_links = 4,
		.max_bindings = 1000,
		.presence_bytes = 2 * 1024 * 1024,
		.trackers = CONF_TRACKERS_LINKS,
		.client_queue_bytes = 4 * 1024 * 1024,
		.frame_bytes = 4 * 1024 * 1024,
		.send_bytes = 16 * 1024 * 1024,
		.log_level = LOG_LEVEL_NOTICE,
	};
	conf->socket_path = default_socket();
	conf->acl = acl_new(geteuid(), (gid_t)-1);
	return conf->socket_path && conf->acl && default_state(conf) == 0 ? 0 : -ENOMEM;
}

static void place_done(struct conf_place *p)
{
	free(p->host);
	free(p->path);
	free(p->url);
}

void conf_done(struct conf *conf)
{
	for (size_t i = 0; i < CONF_LIST_MAX; i++) {
		free(conf->params[i]);
		free(conf->headers[i]);
	}
	free(conf->url);
	free(conf->apikey_file);
	free(conf->ca_file);
	free(conf->proxy);
	free(conf->proxy_auth_file);
	free(conf->token_file);
	free(conf->token_command);
	free(conf->refresh_token_file);
	free(conf->auth_url);
	free(conf->state_dir);
	place_done(&conf->api);
	place_done(&conf->auth);
	place_done(&conf->proxy_at);
	free(conf->socket_path);
	free(conf->socket_group);
	free(conf->host);
	free(conf->path);
	free(conf->public_url);
	acl_free(conf->acl);
	secret_free(conf->proxy_auth);
	secret_free(conf->apikey);
	secret_free(conf->request);
	*conf = (struct conf){ 0 };
}

/* ---- what has changed ---- */

static void name_key(struct conf_text *ret, const char *section, const char *name)
{
	size_t n = strlen(ret->text);

	snprintf(ret->text + n, sizeof(ret->text) - n, "%s[%s] %s", n > 0 ? ", " : "", section,
		 name);
}

bool conf_differs(const struct conf *from, const struct conf *to, struct conf_text *ret)
{
	const char *section, *name;

	ret->text[0] = '\0';
	for (unsigned i = 0; (section = conf_key_differs(i, from, to, &name)); i++) {
		if (name)
			name_key(ret, section, name);
	}
	return ret->text[0] != '\0';
}
