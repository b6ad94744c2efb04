/* SPDX-License-Identifier: MIT */
/* The keys: how each is written, and where it goes. */
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

static const char *set_base(struct conf *conf, const struct key *key, const char *value)
{
	static char text[384];
	struct url_parts u;

	return url_parse_base(value, &u, text, sizeof(text)) < 0 ? text
								 : set_string(conf, key, value);
}

static const char *set_proxy(struct conf *conf, const struct key *key, const char *value)
{
	static char text[384];
	struct url_parts u;

	if (strncasecmp(value, "http://", 7) != 0)
		return "expected http://HOST:PORT: the proxy itself is spoken to without TLS, what "
		       "goes through it has its own";
	if (url_parse_base(value, &u, text, sizeof(text)) < 0)
		return strchr(value, '@') ? "user and password belong into a file: proxy_auth_file"
					  : text;
	return u.path[0] ? "expected http://HOST:PORT, without a path"
			 : set_string(conf, key, value);
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

/* What systemd's LoadCredential= and SetCredential= have put there for this service alone. */
static const char *set_credential(struct conf *conf, const struct key *key, const char *name)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY"), *wrong;
	char *path;

	if (!*name || strchr(name, '/') || *name == '.')
		return "expected credential:NAME, with the name that stands in LoadCredential=";
	if (!folder || *folder != '/')
		return "credential:NAME is for a service that systemd starts with "
		       "LoadCredential=NAME:PATH; this process has no CREDENTIALS_DIRECTORY (by "
		       "hand: name the file itself)";
	if (asprintf(&path, "%s/%s", folder, name) < 0)
		return "no memory";
	wrong = set_string(conf, key, path);
	free(path);
	return wrong;
}

static const char *set_file(struct conf *conf, const struct key *key, const char *value)
{
	static const char credential[] = "credential:";

	if (looks_like_key(value))
		return "this looks like a key itself; write it into a file and name that here "
		       "(a file that is really called so: ./NAME)";
	if (strncmp(value, credential, sizeof(credential) - 1) == 0)
		return set_credential(conf, key, value + sizeof(credential) - 1);
	return set_string(conf, key, value);
}

static const char *set_command(struct conf *conf, const struct key *key, const char *value)
{
	return looks_like_key(value) && !strchr(value, ' ')
		       ? "this looks like a token itself; write it into a file and name that in "
			 "token_file"
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
	{ "upstream", "stable", set_duration, AT(stable_ms), 10, 3600000, NULL },
	{ "upstream", "dns_timeout", set_duration, AT(dns_ms), 100, 60000, NULL },
	{ "upstream", "connect_timeout", set_duration, AT(connect_ms), 100, 60000, NULL },
	{ "upstream", "attempt_timeout", set_duration, AT(attempt_ms), 100, 120000, NULL },
	{ "upstream", "tcp_timeout", set_duration, AT(tcp_timeout_ms), 1000, 600000, NULL },
	{ "upstream", "join_timeout", set_duration, AT(join_timeout_ms), 100, 120000, NULL },
	{ "upstream", "joins_per_second", set_number, AT(joins_per_s), 1, 1000, NULL },
	{ "upstream", "proxy", set_proxy, AT(proxy), 0, 0, NULL },
	{ "upstream", "proxy_auth_file", set_file, AT(proxy_auth_file), 0, 0, NULL },
	{ "upstream", "token_file", set_file, AT(token_file), 0, 0, NULL },
	{ "upstream", "token_command", set_command, AT(token_command), 0, 0, NULL },
	{ "upstream", "refresh_token_file", set_file, AT(refresh_token_file), 0, 0, NULL },
	{ "upstream", "auth_url", set_base, AT(auth_url), 0, 0, NULL },
	{ "upstream", "state_dir", set_path, AT(state_dir), 0, 0, NULL },
	{ "upstream", "token_lead", set_duration, AT(token_lead_ms), 100, 3600000, NULL },
	{ "upstream", "token_timeout", set_duration, AT(token_timeout_ms), 100, 120000, NULL },
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
	    key->fn == set_url || key->fn == set_base || key->fn == set_proxy ||
	    key->fn == set_command)
		return same_string(*(char *const *)a, *(char *const *)b);
	if (key->fn == add_param || key->fn == add_header)
		return same_list(a, b);
	return memcmp(a, b, key->size) == 0;
}

const char *conf_key_differs(unsigned i, const struct conf *from, const struct conf *to,
			     const char **ret_name)
{
	if (i >= sizeof(keys) / sizeof(*keys))
		return NULL;
	*ret_name = same_value(&keys[i], from, to) ? NULL : keys[i].name;
	return keys[i].section;
}
