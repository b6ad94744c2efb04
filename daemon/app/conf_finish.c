/* SPDX-License-Identifier: MIT */
/* What belongs together, what follows from it, and how it is shown. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/conf_impl.h"
#include "app/url.h"
#include "base/cleanup.h"
#include "realtime/jwt.h"

static void put_encoded(struct rtbp_buf *b, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		if (isalnum((unsigned char)*text) || strchr("-._~", *text)) {
			rtbp_buf_byte(b, (uint8_t)*text);
		} else {
			rtbp_buf_byte(b, '%');
			rtbp_buf_byte(b, (uint8_t)hex[(unsigned char)*text >> 4]);
			rtbp_buf_byte(b, (uint8_t)hex[(unsigned char)*text & 15]);
		}
	}
}

/* The key goes as the query's `apikey`, as the official clients send it: hosted gateways check it
 * there. */
static struct secret *make_request(const struct conf *conf, const struct secret *key)
{
	CLEANUP(secret_wipe_buf) struct rtbp_buf b = RTBP_BUF_INIT;
	size_t size = strlen(conf->path) + 3 * secret_size(key) + 64;

	for (char *const *p = conf->params; *p; p++)
		size += strlen(*p) + 1;
	/* All at once: a growing buffer would leave copies of the key behind in freed memory. */
	if (!rtbp_buf_room(&b, size))
		return NULL;
	rtbp_buf_text(&b, conf->path);
	rtbp_buf_text(&b, "?apikey=");
	put_encoded(&b, secret_bytes(key));
	for (char *const *p = conf->params; *p; p++) {
		rtbp_buf_text(&b, "&");
		rtbp_buf_text(&b, *p);
	}
	rtbp_buf_text(&b, conf->vsn == PHX_VSN_2 ? "&vsn=2.0.0" : "&vsn=1.0.0");
	return rtbp_buf_ok(&b) ? secret_new(b.data, b.size) : NULL;
}

/* Publishable and secret keys are random; others are tokens. Return: as conf_finish(). */
static int look_at_key(struct conf *conf, const struct secret *apikey, struct conf_text *ret)
{
	const char *key = secret_bytes(apikey);
	struct jwt jwt;
	int r;

	/* What no key has, and what would make another key of it on its way. */
	for (const char *p = key; *p; p++) {
		if (iscntrl((unsigned char)*p))
			return conf_complain(
				ret, -EINVAL,
				"[upstream] apikey_file: %s: a control character; it must "
				"hold the key alone",
				conf->apikey_file);
	}
	if (strncmp(key, "sb_", 3) == 0) {
		conf->key_kind =
			strncmp(key, "sb_secret_", 10) == 0 ? CONF_KEY_SECRET : CONF_KEY_PLAIN;
		conf->key_exp_s = 0;
		return 0;
	}
	r = jwt_read(key, secret_size(apikey), INT64_MIN, &jwt, &conf->key_odd);
	if (r < 0)
		return conf_complain(ret, r, "no memory");
	conf->key_kind = CONF_KEY_PLAIN;
	conf->key_exp_s = 0;
	if (r > 0) {
		conf->key_kind = CONF_KEY_ODD;
		return 0;
	}
	if (strcmp(jwt.role, "service_role") == 0)
		conf->key_kind = CONF_KEY_SERVICE_ROLE;
	conf->key_exp_s = jwt.exp_s;
	jwt_done(&jwt);
	return 0;
}

/* The endpoints for HTTP stand beside the WebSocket's: .../socket/websocket and .../api on a bare
 * server, .../realtime/v1/websocket and .../realtime/v1/api behind a gateway. */
static int derive_api(struct conf *conf, const struct url_parts *u)
{
	static const char end[] = "/websocket", socket[] = "/socket";
	size_t n = strlen(u->path) - (sizeof(end) - 1);
	struct url_parts api = *u;

	if (n >= sizeof(socket) - 1 &&
	    memcmp(u->path + n - (sizeof(socket) - 1), socket, sizeof(socket) - 1) == 0)
		n -= sizeof(socket) - 1;
	strcpy(api.path + n, "/api"); /* shorter than what stood there */
	return conf_place_set(&conf->api, &api, (int)strlen(api.path));
}

static int derive_proxy(struct conf *conf, struct conf_text *ret)
{
	struct url_parts u;
	char text[384];
	int r;

	if (!conf->proxy)
		return conf->proxy_auth_file ? conf_complain(ret, -EINVAL,
							     "[upstream] proxy_auth_file: there is "
							     "no proxy")
					     : 0;
	r = url_parse_base(conf->proxy, &u, text, sizeof(text));
	if (r < 0)
		return conf_complain(ret, r, "[upstream] proxy: %s", text);
	if (conf_place_set(&conf->proxy_at, &u, 0) < 0)
		return conf_complain(ret, -ENOMEM, "no memory");
	if (!conf->proxy_auth_file)
		return 0;
	r = secret_read_file(conf->proxy_auth_file, CONF_PROXY_AUTH_MAX, &conf->proxy_auth, text,
			     sizeof(text));
	if (r < 0)
		return conf_complain(ret, r, "[upstream] proxy_auth_file: %s", text);
	return strchr(secret_bytes(conf->proxy_auth), ':')
		       ? 0
		       : conf_complain(ret, -EINVAL,
				       "[upstream] proxy_auth_file: %s: expected USER:PASSWORD",
				       conf->proxy_auth_file);
}

/* The server allows a little more than the round number. */
static void derive_payload(struct conf *conf)
{
	static const uint64_t kb_of[] = {
		[CONF_PLAN_CUSTOM] = 0,
		[CONF_PLAN_FREE] = 256,
		[CONF_PLAN_PRO] = 3000,
		[CONF_PLAN_TEAM] = 3000,
	};
	uint64_t kb = conf->payload_kb ? conf->payload_kb : kb_of[conf->plan];

	conf->payload_bytes = kb ? kb * 1000 + 500 : 0;
}

int conf_rekey(struct conf *conf, struct secret **ret_old, struct conf_text *ret)
{
	struct secret *key, *request;
	char text[384];
	int r;

	r = secret_read_file(conf->apikey_file, CONF_KEY_BYTES_MAX, &key, text, sizeof(text));
	if (r < 0)
		return conf_complain(ret, r, "[upstream] apikey_file: %s", text);
	if (secret_equal(key, conf->apikey)) {
		secret_free(key);
		return CONF_SAME;
	}
	request = make_request(conf, key);
	r = request ? look_at_key(conf, key, ret) : conf_complain(ret, -ENOMEM, "no memory");
	if (r < 0) {
		secret_free(key);
		secret_free(request);
		return r;
	}
	if (ret_old)
		*ret_old = conf->apikey;
	else
		secret_free(conf->apikey);
	conf->apikey = key;
	secret_free(conf->request);
	conf->request = request;
	return 0;
}

int conf_finish(struct conf *conf, struct conf_text *ret)
{
	struct url_parts u;
	char text[384];
	bool v6;
	int r;

	if (!conf->url)
		return conf_complain(
			ret, -EINVAL,
			"[upstream] url is missing; write the project's address, such as "
			"url = https://REF.supabase.co");
	if (!conf->apikey_file)
		return conf_complain(
			ret, -EINVAL,
			"[upstream] apikey_file is missing; name a file that holds the "
			"project's anon key");
	r = url_parse(conf->url, &u, text, sizeof(text));
	if (r < 0)
		return conf_complain(ret, r, "[upstream] url: %s", text);
	if (conf->backoff_min_ms > conf->backoff_max_ms)
		return conf_complain(ret, -EINVAL,
				     "[upstream] backoff_min is longer than backoff_max");
	conf->tls = u.tls;
	conf->port = u.port;
	conf->host = strdup(u.host);
	conf->path = strdup(u.path);
	v6 = strchr(u.host, ':') != NULL;
	if (asprintf(&conf->public_url, "%s://%s%s%s:%u%s", u.tls ? "wss" : "ws", v6 ? "[" : "",
		     u.host, v6 ? "]" : "", u.port, u.path) < 0)
		conf->public_url = NULL;
	derive_payload(conf);
	if (!conf->host || !conf->path || !conf->public_url || derive_api(conf, &u) < 0)
		return conf_complain(ret, -ENOMEM, "no memory");
	r = conf_derive_token(conf, &u, ret);
	if (r == 0)
		r = derive_proxy(conf, ret);
	if (r < 0)
		return r;
	r = conf_rekey(conf, NULL, ret);
	return r < 0 ? r : 0;
}

int conf_load(const struct conf_source *source, struct conf *ret, struct conf_text *ret_text)
{
	struct conf_text text;
	int r = conf_init(ret);

	snprintf(ret_text->text, sizeof(ret_text->text), "no memory");
	if (r == 0)
		r = conf_read(ret, source->path, ret_text);
	if (r == 0 && source->socket_path)
		r = conf_set(ret, "--socket", "socket", "path", source->socket_path, ret_text);
	if (r == 0 && source->log_level)
		r = conf_set(ret, "--log-level", "log", "level", source->log_level, ret_text);
	if (r < 0)
		return r;
	r = conf_finish(ret, &text);
	if (r < 0) /* the key's name is of more use than the end of a long path */
		snprintf(ret_text->text, sizeof(ret_text->text), "%.200s: %.300s", source->path,
			 text.text);
	return r;
}

/* ---- for people ---- */

void conf_print(const struct conf *conf, int64_t now_s)
{
	static const char *const trackers[] = {
		[CONF_TRACKERS_LINKS] = "each further client of a channel on a further connection",
		[CONF_TRACKERS_MERGE] = "all clients of a channel merged into one entry",
		[CONF_TRACKERS_REFUSE] = "one client of a channel",
	};

	static const char *const probation[] = {
		[CONF_PROBATION_AFTER_FAILURE] = "of a user whose joins have failed",
		[CONF_PROBATION_ALWAYS] = "of every join",
		[CONF_PROBATION_OFF] = "off",
	};
	struct conf_text text;

	printf("upstream  %s\n", conf->public_url);
	printf("http      %s\n", conf->api.url);
	printf("vsn       %s\n", conf->vsn == PHX_VSN_2 ? "2.0.0" : "1.0.0");
	printf("apikey    %s (%zu bytes)\n", conf->apikey_file, secret_size(conf->apikey));
	conf_print_token(conf, now_s);
	if (conf->proxy)
		printf("proxy     %s%s\n", conf->proxy_at.url,
		       conf->proxy_auth ? ", with a password" : "");
	for (char *const *p = conf->params; *p; p++)
		printf("param     %.*s=...\n", (int)strcspn(*p, "="), *p);
	for (char *const *p = conf->headers; *p; p++)
		printf("header    %.*s: ...\n", (int)strcspn(*p, ":"), *p);
	printf("socket    %s, mode %04o%s%s\n", conf->socket_path, (unsigned)conf->socket_mode,
	       conf->socket_group ? ", group " : "", conf->socket_group ? conf->socket_group : "");
	if (conf->payload_bytes)
		printf("payload   at most %zu bytes\n", conf->payload_bytes);
	printf("links     at most %" PRIu64 ", %" PRIu64 " channels each\n", conf->max_links,
	       conf->max_channels);
	printf("presence  %s\n", trackers[conf->trackers]);
	printf("changes   at most %" PRIu64 " bindings a client%s\n", conf->max_bindings,
	       conf->private_only == CONF_PRIVATE_YES ? ", on private channels only" : "");
	printf("connect   %s\n", conf->connect == CONF_CONNECT_ALWAYS ? "always" : "on demand");
	printf("probation %s\n", probation[conf->probation]);
	if (conf->n_rules + conf->n_identities == 0)
		printf("access    no rules: this user, root and the socket's group may all\n");
	else
		printf("access    %u rule%s, %u about identities\n", conf->n_rules,
		       conf->n_rules == 1 ? "" : "s", conf->n_identities);
	for (unsigned i = 0; conf_warning(conf, i, now_s, &text); i++)
		printf("warning   %s\n", text.text);
}
