/* SPDX-License-Identifier: MIT */
#include "app/conf.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/url.h"
#include "base/cleanup.h"

static int complain(struct conf_text *ret, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int complain(struct conf_text *ret, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ret->text, sizeof(ret->text), format, args);
	va_end(args);
	return error;
}

/* ---- values ---- */

struct key;
typedef const char *(*key_fn)(struct conf *conf, const struct key *key, const char *value);

/* One key of the configuration: where it goes and how it is read. */
struct key {
	const char *section, *name;
	key_fn fn;         /* returns NULL, or what would be right */
	size_t offset;     /* of the field in struct conf */
	uint64_t min, max; /* of numbers */
};

static void *field(struct conf *conf, const struct key *key)
{
	return (char *)conf + key->offset;
}

static const char *set_string(struct conf *conf, const struct key *key, const char *value)
{
	char **to = field(conf, key), *copy;

	if (!*value)
		return "a value is missing";
	copy = strdup(value);
	if (!copy)
		return "no memory";
	free(*to);
	*to = copy;
	return NULL;
}

static const char *set_url(struct conf *conf, const struct key *key, const char *value)
{
	static char text[384];
	struct url_parts u;

	return url_parse(value, &u, text, sizeof(text)) < 0 ? text : set_string(conf, key, value);
}

static const char *set_path(struct conf *conf, const struct key *key, const char *value)
{
	return *value == '/' ? set_string(conf, key, value) : "expected an absolute path";
}

static const char *set_bool(struct conf *conf, const struct key *key, const char *value)
{
	bool *to = field(conf, key);

	if (strcmp(value, "yes") == 0 || strcmp(value, "true") == 0)
		*to = true;
	else if (strcmp(value, "no") == 0 || strcmp(value, "false") == 0)
		*to = false;
	else
		return "expected yes or no";
	return NULL;
}

static const char *set_vsn(struct conf *conf, const struct key *key, const char *value)
{
	(void)key;
	if (strcmp(value, "1.0.0") == 0)
		conf->vsn = PHX_VSN_1;
	else if (strcmp(value, "2.0.0") == 0)
		conf->vsn = PHX_VSN_2;
	else
		return "expected 1.0.0 or 2.0.0";
	return NULL;
}

static const char *set_mode(struct conf *conf, const struct key *key, const char *value)
{
	char *end;
	unsigned long mode = strtoul(value, &end, 8);

	(void)key;
	if (!isdigit((unsigned char)*value) || *end || mode > 0777 || !(mode & 0600))
		return "expected an octal mode such as 0600 or 0660";
	conf->socket_mode = (mode_t)mode;
	return NULL;
}

static const char *set_level(struct conf *conf, const struct key *key, const char *value)
{
	(void)key;
	return log_level_parse(value, &conf->log_level) < 0
		       ? "expected error, warning, notice, info or debug"
		       : NULL;
}

static const char *set_private_only(struct conf *conf, const struct key *key, const char *value)
{
	(void)key;
	if (strcmp(value, "auto") == 0)
		conf->private_only = CONF_PRIVATE_AUTO;
	else if (strcmp(value, "yes") == 0)
		conf->private_only = CONF_PRIVATE_YES;
	else if (strcmp(value, "no") == 0)
		conf->private_only = CONF_PRIVATE_NO;
	else
		return "expected auto, yes or no";
	return NULL;
}

static const char *set_trackers(struct conf *conf, const struct key *key, const char *value)
{
	(void)key;
	if (strcmp(value, "links") == 0)
		conf->trackers = CONF_TRACKERS_LINKS;
	else if (strcmp(value, "merge") == 0)
		conf->trackers = CONF_TRACKERS_MERGE;
	else if (strcmp(value, "refuse") == 0)
		conf->trackers = CONF_TRACKERS_REFUSE;
	else
		return "expected links, merge or refuse";
	return NULL;
}

/* A number, with K or M for powers of 1024. */
static const char *set_number(struct conf *conf, const struct key *key, const char *value)
{
	static char text[96];
	uint64_t *to = field(conf, key), n, unit = 1;
	char *end;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (*end == 'K' || *end == 'k') {
		unit = 1024;
		end++;
	} else if (*end == 'M' || *end == 'm') {
		unit = 1024 * 1024;
		end++;
	}
	if (!isdigit((unsigned char)*value) || *end || errno || n > UINT64_MAX / unit ||
	    n * unit < key->min || n * unit > key->max) {
		snprintf(text, sizeof(text),
			 "expected a number from %" PRIu64 " to %" PRIu64 " (K and M allowed)",
			 key->min, key->max);
		return text;
	}
	*to = n * unit;
	return NULL;
}

/* A time: "500ms", "25s", "2m". */
static const char *set_duration(struct conf *conf, const struct key *key, const char *value)
{
	static char text[96];
	uint64_t *to = field(conf, key), n, unit = 0;
	char *end;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (strcmp(end, "ms") == 0)
		unit = 1;
	else if (strcmp(end, "s") == 0)
		unit = 1000;
	else if (strcmp(end, "m") == 0)
		unit = 60000;
	if (!isdigit((unsigned char)*value) || errno || !unit || n > UINT64_MAX / unit ||
	    n * unit < key->min || n * unit > key->max) {
		snprintf(text, sizeof(text),
			 "expected a time such as 500ms, 25s or 2m, from %" PRIu64 "ms to %" PRIu64
			 "s",
			 key->min, key->max / 1000);
		return text;
	}
	*to = n * unit;
	return NULL;
}

static const char *list_add(char **list, const char *value)
{
	size_t n = 0;

	while (list[n])
		n++;
	if (n == CONF_LIST_MAX)
		return "at most 32 of them are allowed";
	list[n] = strdup(value);
	return list[n] ? NULL : "no memory";
}

static const char *add_param(struct conf *conf, const struct key *key, const char *value)
{
	size_t name = strcspn(value, "=");

	(void)key;
	if (name == 0 || value[name] != '=' ||
	    value[strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				"abcdefghijklmnopqrstuvwxyz0123456789"
				"-._~%=&+")])
		return "expected NAME=VALUE in URL encoding";
	if (strncmp(value, "apikey=", 7) == 0 || strstr(value, "&apikey="))
		return "the key belongs into a file: apikey_file";
	if (strncmp(value, "vsn=", 4) == 0 || strstr(value, "&vsn="))
		return "the version has a key of its own: vsn";
	return list_add(conf->params, value);
}

static const char *add_header(struct conf *conf, const struct key *key, const char *value)
{
	size_t name = strcspn(value, ":");

	(void)key;
	if (strncasecmp(value, "x-", 2) != 0 || value[name] != ':')
		return "expected \"x-NAME: VALUE\"; the server reads no others";
	for (size_t i = 0; i < name; i++) {
		if (!isalnum((unsigned char)value[i]) && value[i] != '-' && value[i] != '_')
			return "the header's name holds a character that is none of letters, "
			       "digits, '-', '_'";
	}
	for (const char *v = value + name; *v; v++) {
		if (iscntrl((unsigned char)*v) && *v != '\t')
			return "the header's value holds a control character";
	}
	if (strncasecmp(value, "x-api-key:", 10) == 0)
		return "the key belongs into a file: apikey_file";
	return list_add(conf->headers, value);
}

#define AT(member) offsetof(struct conf, member)
static const struct key keys[] = {
	{ "upstream", "url", set_url, AT(url), 0, 0 },
	{ "upstream", "apikey_file", set_string, AT(apikey_file), 0, 0 },
	{ "upstream", "vsn", set_vsn, 0, 0, 0 },
	{ "upstream", "private_only", set_private_only, 0, 0, 0 },
	{ "upstream", "params", add_param, 0, 0, 0 },
	{ "upstream", "header", add_header, 0, 0, 0 },
	{ "upstream", "ca_file", set_string, AT(ca_file), 0, 0 },
	{ "upstream", "allow_insecure", set_bool, AT(allow_insecure), 0, 0 },
	{ "upstream", "backoff_min", set_duration, AT(backoff_min_ms), 10, 60000 },
	{ "upstream", "backoff_max", set_duration, AT(backoff_max_ms), 10, 3600000 },
	{ "upstream", "heartbeat", set_duration, AT(heartbeat_ms), 100, 50000 },
	{ "upstream", "heartbeat_reply", set_duration, AT(heartbeat_reply_ms), 100, 60000 },
	{ "socket", "path", set_path, AT(socket_path), 0, 0 },
	{ "socket", "mode", set_mode, 0, 0, 0 },
	{ "socket", "group", set_string, AT(socket_group), 0, 0 },
	{ "limits", "clients", set_number, AT(max_clients), 1, 100000 },
	{ "limits", "subscriptions", set_number, AT(max_subscriptions), 1, 10000 },
	{ "limits", "channels", set_number, AT(max_channels), 1, 10000 },
	{ "limits", "links", set_number, AT(max_links), 1, 8 },
	{ "limits", "bindings", set_number, AT(max_bindings), 1, 10000 },
	{ "limits", "client_queue", set_number, AT(client_queue_bytes), 64 * 1024,
	  256 * 1024 * 1024 },
	{ "limits", "frame", set_number, AT(frame_bytes), 4096, 16 * 1024 * 1024 },
	{ "limits", "unsent", set_number, AT(send_bytes), 64 * 1024, 256 * 1024 * 1024 },
	{ "limits", "presence", set_number, AT(presence_bytes), 4096, 8 * 1024 * 1024 },
	{ "presence", "trackers", set_trackers, 0, 0, 0 },
	{ "log", "level", set_level, 0, 0, 0 },
};
#undef AT

int conf_set(struct conf *conf, const char *where, const char *section, const char *name,
	     const char *value, struct conf_text *ret)
{
	bool section_known = false;
	const char *wrong;

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (strcmp(keys[i].section, section) != 0)
			continue;
		section_known = true;
		if (strcmp(keys[i].name, name) != 0)
			continue;
		wrong = keys[i].fn(conf, &keys[i], value);
		if (wrong)
			return complain(ret, -EINVAL, "%s: [%s] %s: %s", where, section, name,
					wrong);
		return 0;
	}
	if (section_known)
		return complain(ret, -EINVAL, "%s: [%s] has no key \"%s\"", where, section, name);
	return complain(
		ret, -EINVAL,
		"%s: no section [%s]; there are [upstream], [socket], [limits], [presence], [log]",
		where, section);
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

int conf_init(struct conf *conf)
{
	*conf = (struct conf){
		.vsn = PHX_VSN_2,
		.backoff_min_ms = 1000,
		.backoff_max_ms = 30000,
		.heartbeat_ms = 25000, /* the server ends a silent connection after 60 s */
		.heartbeat_reply_ms = 10000,
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
	return conf->socket_path ? 0 : -ENOMEM;
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
	free(conf->socket_path);
	free(conf->socket_group);
	free(conf->host);
	free(conf->path);
	free(conf->public_url);
	secret_free(conf->apikey);
	secret_free(conf->request);
	*conf = (struct conf){ 0 };
}

/* ---- what belongs together ---- */

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
static struct secret *make_request(const struct conf *conf)
{
	CLEANUP(secret_wipe_buf) struct rtbp_buf b = RTBP_BUF_INIT;
	size_t size = strlen(conf->path) + 3 * secret_size(conf->apikey) + 64;

	for (char *const *p = conf->params; *p; p++)
		size += strlen(*p) + 1;
	/* All at once: a growing buffer would leave copies of the key behind in freed memory. */
	if (!rtbp_buf_room(&b, size))
		return NULL;
	rtbp_buf_text(&b, conf->path);
	rtbp_buf_text(&b, "?apikey=");
	put_encoded(&b, secret_bytes(conf->apikey));
	for (char *const *p = conf->params; *p; p++) {
		rtbp_buf_text(&b, "&");
		rtbp_buf_text(&b, *p);
	}
	rtbp_buf_text(&b, conf->vsn == PHX_VSN_2 ? "&vsn=2.0.0" : "&vsn=1.0.0");
	return rtbp_buf_ok(&b) ? secret_new(b.data, b.size) : NULL;
}

int conf_finish(struct conf *conf, struct conf_text *ret)
{
	struct url_parts u;
	char text[384];
	bool v6;
	int r;

	if (!conf->url)
		return complain(ret, -EINVAL,
				"[upstream] url is missing; write the project's address, such as "
				"url = https://REF.supabase.co");
	if (!conf->apikey_file)
		return complain(ret, -EINVAL,
				"[upstream] apikey_file is missing; name a file that holds the "
				"project's anon key");
	r = url_parse(conf->url, &u, text, sizeof(text));
	if (r < 0)
		return complain(ret, r, "[upstream] url: %s", text);
	if (conf->backoff_min_ms > conf->backoff_max_ms)
		return complain(ret, -EINVAL, "[upstream] backoff_min is longer than backoff_max");
	conf->tls = u.tls;
	conf->port = u.port;
	conf->host = strdup(u.host);
	conf->path = strdup(u.path);
	v6 = strchr(u.host, ':') != NULL;
	if (asprintf(&conf->public_url, "%s://%s%s%s:%u%s", u.tls ? "wss" : "ws", v6 ? "[" : "",
		     u.host, v6 ? "]" : "", u.port, u.path) < 0)
		conf->public_url = NULL;
	if (!conf->host || !conf->path || !conf->public_url)
		return complain(ret, -ENOMEM, "no memory");
	r = secret_read_file(conf->apikey_file, CONF_KEY_BYTES_MAX, &conf->apikey, text,
			     sizeof(text));
	if (r < 0)
		return complain(ret, r, "[upstream] apikey_file: %s", text);
	conf->request = make_request(conf);
	return conf->request ? 0 : complain(ret, -ENOMEM, "no memory");
}

void conf_print(const struct conf *conf)
{
	static const char *const trackers[] = {
		[CONF_TRACKERS_LINKS] = "each further client of a channel on a further connection",
		[CONF_TRACKERS_MERGE] = "all clients of a channel merged into one entry",
		[CONF_TRACKERS_REFUSE] = "one client of a channel",
	};

	printf("upstream  %s\n", conf->public_url);
	printf("vsn       %s\n", conf->vsn == PHX_VSN_2 ? "2.0.0" : "1.0.0");
	printf("apikey    %s (%zu bytes)\n", conf->apikey_file, secret_size(conf->apikey));
	for (char *const *p = conf->params; *p; p++)
		printf("param     %.*s=...\n", (int)strcspn(*p, "="), *p);
	for (char *const *p = conf->headers; *p; p++)
		printf("header    %.*s: ...\n", (int)strcspn(*p, ":"), *p);
	printf("socket    %s, mode %04o%s%s\n", conf->socket_path, (unsigned)conf->socket_mode,
	       conf->socket_group ? ", group " : "", conf->socket_group ? conf->socket_group : "");
	printf("links     at most %" PRIu64 ", %" PRIu64 " channels each\n", conf->max_links,
	       conf->max_channels);
	printf("presence  %s\n", trackers[conf->trackers]);
	printf("changes   at most %" PRIu64 " bindings a client%s\n", conf->max_bindings,
	       conf->private_only == CONF_PRIVATE_YES ? ", on private channels only" : "");
}
