/* SPDX-License-Identifier: MIT */
#include "app/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	bool tls;
} schemes[] = {
	{ "https://", true }, { "wss://", true }, { "http://", false }, { "ws://", false }
};

static int complain(char *text, size_t size, const char *what)
{
	snprintf(text, size, "%s; expected an address like https://REF.supabase.co", what);
	return -EINVAL;
}

/* host, [v6], with an optional :port. Return: what is left, or NULL. */
static const char *parse_host(const char *p, struct url_parts *u, const char **ret_wrong)
{
	const char *end, *rest;
	struct in6_addr v6;
	unsigned long port;
	char *after;
	size_t n;

	if (*p == '[') {
		end = strchr(++p, ']');
		rest = end ? end + 1 : NULL;
	} else {
		end = rest = p + strcspn(p, ":/?#");
	}
	*ret_wrong = "no host in the address";
	if (!end || end == p)
		return NULL;
	n = (size_t)(end - p);
	*ret_wrong = "the host's name is too long";
	if (n >= sizeof(u->host))
		return NULL;
	*ret_wrong =
		"a character in the host's name is none of letters, digits, '.', '-', '_', ':'";
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)p[i]) && !strchr(".-_:", p[i]))
			return NULL;
	}
	memcpy(u->host, p, n);
	u->host[n] = '\0';
	*ret_wrong = "between '[' and ']' stands no IPv6 address";
	if (p[-1] == '[' && inet_pton(AF_INET6, u->host, &v6) != 1)
		return NULL;
	if (*rest == ':') {
		*ret_wrong = "the port is a number from 1 to 65535";
		errno = 0;
		port = isdigit((unsigned char)rest[1]) ? strtoul(rest + 1, &after, 10) : 0;
		if (port < 1 || port > 65535)
			return NULL;
		u->port = (uint16_t)port;
		rest = after;
	}
	*ret_wrong = "nothing but a path may follow host and port";
	return *rest == '/' || *rest == '\0' ? rest : NULL;
}

static bool ends_with(const char *text, size_t n, const char *end)
{
	size_t m = strlen(end);

	return n >= m && memcmp(text + n - m, end, m) == 0;
}

static int parse_path(const char *path, bool is_base, struct url_parts *u)
{
	const char *more;
	size_t n = strlen(path);
	int len;

	while (n > 0 && path[n - 1] == '/')
		n--;
	if (is_base || ends_with(path, n, "/websocket"))
		more = "";
	else if (ends_with(path, n, "/realtime/v1") || ends_with(path, n, "/socket"))
		more = "/websocket";
	else
		more = "/realtime/v1/websocket";
	len = snprintf(u->path, sizeof(u->path), "%.*s%s", (int)n, path, more);
	return len >= 0 && (size_t)len < sizeof(u->path) ? 0 : -1;
}

static int parse(const char *url, bool is_base, struct url_parts *ret, char *text, size_t size)
{
	struct url_parts u = { .tls = false };
	const char *p = NULL, *wrong;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		if (strncasecmp(url, schemes[i].name, strlen(schemes[i].name)) == 0) {
			p = url + strlen(schemes[i].name);
			u.tls = schemes[i].tls;
		}
	}
	if (!p)
		return complain(
			text, size,
			"the address does not start with https://, wss://, http:// or ws://");
	for (const char *c = p; *c; c++) {
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
			return complain(
				text, size,
				"the address holds a space or a character that is not ASCII");
	}
	if (memchr(p, '@', strcspn(p, "/?#")))
		return complain(
			text, size,
			"the address holds a user or password, which the server does not use");
	if (strchr(p, '?'))
		return complain(
			text, size,
			"the address holds a query; the key belongs into a file (apikey_file), "
			"other parameters into params");
	if (strchr(p, '#'))
		return complain(text, size, "the address holds a '#'");
	u.port = u.tls ? 443 : 80;
	p = parse_host(p, &u, &wrong);
	if (!p)
		return complain(text, size, wrong);
	if (parse_path(p, is_base, &u) < 0)
		return complain(text, size, "the path is too long");
	*ret = u;
	return 0;
}

int url_parse(const char *url, struct url_parts *ret, char *text, size_t size)
{
	return parse(url, false, ret, text, size);
}

int url_parse_base(const char *url, struct url_parts *ret, char *text, size_t size)
{
	return parse(url, true, ret, text, size);
}

bool url_host_is_local(const char *host)
{
	static const char name[] = "localhost";
	size_t n = strlen(host), m = sizeof(name) - 1;
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6) ||
		       (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
	if (n > 0 && host[n - 1] == '.')
		n--;
	return n >= m && strncasecmp(host + n - m, name, m) == 0 &&
	       (n == m || host[n - m - 1] == '.');
}
