/* SPDX-License-Identifier: MIT */
#include "app/conf_impl.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/url.h"
#include "hub/acl.h"

enum { KEY_BYTES_MIN = 40 }; /* no name of a file in the daemon's own folder is so long */

int conf_complain(struct conf_text *ret, int error, const char *format, ...)
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
	key_fn fn;           /* returns NULL, or what would be right */
	size_t offset, size; /* of the field in struct conf */
	uint64_t min, max;   /* of numbers */
	const char *const *words;
};

static const void *field_of(const struct conf *conf, const struct key *key)
{
	return (const char *)conf + key->offset;
}

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

/* A key in the place of its file's name: complaints and --check repeat names. A path with a / in
 * front of what looks like a key is a path. */
static bool looks_like_key(const char *value)
{
	static const char *const begins[] = { "eyJ", "sb_secret_", "sb_publishable_" };
	const char *at;

	for (size_t i = 0; i < sizeof(begins) / sizeof(*begins); i++) {
		at = strstr(value, begins[i]);
		if (at &&
		    (at == value || !(isalnum((unsigned char)at[-1]) || strchr("/._-", at[-1]))))
			return true;
	}
	return !strchr(value, '/') && strlen(value) >= KEY_BYTES_MIN;
}

static const char *set_file(struct conf *conf, const struct key *key, const char *value)
{
	return looks_like_key(value)
		       ? "this looks like a key itself; write it into a file and name that here "
			 "(a file that is really called so: ./NAME)"
		       : set_string(conf, key, value);
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

/* One of the key's words, which stand in the order of the enum. */
static const char *set_word(struct conf *conf, const struct key *key, const char *value)
{
	static char text[96];
	unsigned *to = field(conf, key);
	size_t n = 0;

	for (unsigned i = 0; key->words[i]; i++) {
		if (strcmp(value, key->words[i]) == 0) {
			*to = i;
			return NULL;
		}
	}
	for (unsigned i = 0; key->words[i] && n < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s",
				      i == 0              ? "expected "
				      : key->words[i + 1] ? ", "
							  : " or ",
				      key->words[i]);
	return text;
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

static const char *add_rule(struct conf *conf, const struct key *key, const char *value)
{
	static char text[384];

	(void)key;
	if (acl_rule(conf->acl, value, text, sizeof(text)) < 0)
		return text;
	conf->n_rules++;
	return NULL;
}

static const char *add_identity(struct conf *conf, const struct key *key, const char *value)
{
	static char text[384];

	(void)key;
	if (acl_identity(conf->acl, value, text, sizeof(text)) < 0)
		return text;
	conf->n_identities++;
	return NULL;
}

static const char *const private_words[] = { "auto", "yes", "no", NULL };
static const char *const tracker_words[] = { "links", "merge", "refuse", NULL };
static const char *const probation_words[] = { "after_failure", "always", "off", NULL };
static const char *const plan_words[] = { "custom", "free", "pro", "team", NULL };
static const char *const connect_words[] = { "on-demand", "always", NULL };

#define AT(member) offsetof(struct conf, member), sizeof(((struct conf *)0)->member)
static const struct key keys[] = {
	{ "upstream", "url", set_url, AT(url), 0, 0, NULL },
	{ "upstream", "apikey_file", set_file, AT(apikey_file), 0, 0, NULL },
	{ "upstream", "vsn", set_vsn, AT(vsn), 0, 0, NULL },
	{ "upstream", "private_only", set_word, AT(private_only), 0, 0, private_words },
	{ "upstream", "probation", set_word, AT(probation), 0, 0, probation_words },
	{ "upstream", "connect", set_word, AT(connect), 0, 0, connect_words },
	{ "upstream", "params", add_param, AT(params), 0, 0, NULL },
	{ "upstream", "header", add_header, AT(headers), 0, 0, NULL },
	{ "upstream", "ca_file", set_file, AT(ca_file), 0, 0, NULL },
	{ "upstream", "allow_insecure", set_bool, AT(allow_insecure), 0, 0, NULL },
	{ "upstream", "backoff_min", set_duration, AT(backoff_min_ms), 10, 60000, NULL },
	{ "upstream", "backoff_max", set_duration, AT(backoff_max_ms), 10, 3600000, NULL },
	{ "upstream", "heartbeat", set_duration, AT(heartbeat_ms), 100, 50000, NULL },
	{ "upstream", "heartbeat_reply", set_duration, AT(heartbeat_reply_ms), 100, 60000, NULL },
	{ "socket", "path", set_path, AT(socket_path), 0, 0, NULL },
	{ "socket", "mode", set_mode, AT(socket_mode), 0, 0, NULL },
	{ "socket", "group", set_string, AT(socket_group), 0, 0, NULL },
	{ "limits", "clients", set_number, AT(max_clients), 1, 100000, NULL },
	{ "limits", "subscriptions", set_number, AT(max_subscriptions), 1, 10000, NULL },
	{ "limits", "channels", set_number, AT(max_channels), 1, 10000, NULL },
	{ "limits", "links", set_number, AT(max_links), 1, 8, NULL },
	{ "limits", "bindings", set_number, AT(max_bindings), 1, 10000, NULL },
	{ "limits", "client_queue", set_number, AT(client_queue_bytes), 64 * 1024,
	  256 * 1024 * 1024, NULL },
	{ "limits", "frame", set_number, AT(frame_bytes), 4096, 16 * 1024 * 1024, NULL },
	{ "limits", "unsent", set_number, AT(send_bytes), 64 * 1024, 256 * 1024 * 1024, NULL },
	{ "limits", "presence", set_number, AT(presence_bytes), 4096, 8 * 1024 * 1024, NULL },
	{ "presence", "trackers", set_word, AT(trackers), 0, 0, tracker_words },
	{ "plan", "name", set_word, AT(plan), 0, 0, plan_words },
	{ "plan", "payload_kb", set_number, AT(payload_kb), 1, 5000, NULL },
	{ "access", "rule", add_rule, AT(acl), 0, 0, NULL },
	{ "access", "identity", add_identity, AT(acl), 0, 0, NULL },
	{ "log", "level", set_level, AT(log_level), 0, 0, NULL },
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
			return conf_complain(ret, -EINVAL, "%s: [%s] %s: %s", where, section, name,
					     wrong);
		return 0;
	}
	if (section_known)
		return conf_complain(ret, -EINVAL, "%s: [%s] has no key \"%s\"", where, section,
				     name);
	return conf_complain(
		ret, -EINVAL,
		"%s: no section [%s]; there are [upstream], [socket], [limits], [presence], "
		"[plan], [access], [log]",
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
	conf->acl = acl_new(geteuid(), (gid_t)-1);
	return conf->socket_path && conf->acl ? 0 : -ENOMEM;
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
	free(conf->api_path);
	free(conf->api_url);
	acl_free(conf->acl);
	secret_free(conf->apikey);
	secret_free(conf->request);
	*conf = (struct conf){ 0 };
}

/* ---- what has changed ---- */

static bool same_list(char *const *a, char *const *b)
{
	while (*a && *b && strcmp(*a, *b) == 0) {
		a++;
		b++;
	}
	return !*a && !*b;
}

static bool same_string(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_value(const struct key *key, const struct conf *from, const struct conf *to)
{
	const void *a = field_of(from, key), *b = field_of(to, key);

	if (key->fn == add_rule || key->fn == add_identity || key->fn == set_level)
		return true;
	if (key->fn == set_string || key->fn == set_path || key->fn == set_file ||
	    key->fn == set_url)
		return same_string(*(char *const *)a, *(char *const *)b);
	if (key->fn == add_param || key->fn == add_header)
		return same_list(a, b);
	return memcmp(a, b, key->size) == 0;
}

static void name_key(struct conf_text *ret, const char *section, const char *name)
{
	size_t n = strlen(ret->text);

	snprintf(ret->text + n, sizeof(ret->text) - n, "%s[%s] %s", n > 0 ? ", " : "", section,
		 name);
}

bool conf_differs(const struct conf *from, const struct conf *to, struct conf_text *ret)
{
	size_t size = secret_size(from->apikey);

	ret->text[0] = '\0';
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (!same_value(&keys[i], from, to))
			name_key(ret, keys[i].section, keys[i].name);
	}
	if (same_string(from->apikey_file, to->apikey_file) &&
	    (size != secret_size(to->apikey) ||
	     memcmp(secret_bytes(from->apikey), secret_bytes(to->apikey), size) != 0))
		name_key(ret, "upstream", "apikey_file (what it holds)");
	return ret->text[0] != '\0';
}
