/* SPDX-License-Identifier: MIT */
#include "http.h"

#include <stdlib.h>

static struct ds_str trim(struct ds_str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static bool same_word(struct ds_str s, const char *word)
{
	return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

/* The text before @c, which is taken from @rest together with @c; all of it without @c. */
static struct ds_str until(struct ds_str *rest, char c)
{
	const char *hit = rest->n ? memchr(rest->p, c, rest->n) : NULL;
	struct ds_str word = { rest->p, hit ? (size_t)(hit - rest->p) : rest->n };
	size_t used = hit ? word.n + 1 : word.n;

	rest->p += used;
	rest->n -= used;
	return word;
}

int ds_http_parse(struct ds_str bytes, struct ds_request *ret)
{
	const char *end = bytes.n ? memmem(bytes.p, bytes.n, "\r\n\r\n", 4) : NULL;
	struct ds_str rest, line, target;

	if (!end)
		return bytes.n > DS_HTTP_HEAD_MAX ? -1 : 0;
	*ret = (struct ds_request){ .head_bytes = (size_t)(end - bytes.p) + 4 };
	rest = (struct ds_str){ bytes.p, (size_t)(end - bytes.p) };
	line = until(&rest, '\n');
	ret->headers = rest;
	ret->method = until(&line, ' ');
	target = until(&line, ' ');
	ret->path = until(&target, '?');
	ret->query = target;
	if (ret->method.n == 0 || ret->path.n == 0 || line.n < 8 ||
	    memcmp(line.p, "HTTP/1.", 7) != 0)
		return -1;
	return 1;
}

bool ds_http_header(const struct ds_request *r, const char *name, struct ds_str *ret_value)
{
	struct ds_str rest = r->headers;

	while (rest.n) {
		struct ds_str line = until(&rest, '\n');
		struct ds_str key;

		if (line.n && line.p[line.n - 1] == '\r')
			line.n--;
		key = until(&line, ':');
		if (same_word(key, name)) {
			*ret_value = trim(line);
			return true;
		}
	}
	return false;
}

bool ds_http_query(const struct ds_request *r, const char *name, struct ds_buf *ret_value)
{
	struct ds_str rest = r->query;

	while (rest.n) {
		struct ds_str value = until(&rest, '&');
		struct ds_str key = until(&value, '=');

		if (!ds_str_eq(key, ds_str(name)))
			continue;
		ds_buf_reserve(ret_value, value.n + 1);
		for (size_t i = 0; i < value.n; i++) {
			char hex[3] = { 0 };
			char *end = hex;
			long byte = 0;

			if (value.p[i] == '%' && i + 2 < value.n) {
				memcpy(hex, value.p + i + 1, 2);
				byte = strtol(hex, &end, 16);
			}
			if (end == hex + 2) {
				ds_buf_byte(ret_value, (unsigned char)byte);
				i += 2;
			} else {
				ds_buf_byte(ret_value,
					    value.p[i] == '+' ? ' ' : (unsigned char)value.p[i]);
			}
		}
		return true;
	}
	return false;
}

bool ds_http_has_token(struct ds_str list, const char *token)
{
	while (list.n)
		if (same_word(trim(until(&list, ',')), token))
			return true;
	return false;
}

static const char *phrase(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 413:
		return "Payload Too Large";
	case 429:
		return "Too Many Requests";
	case 500:
		return "Internal Server Error";
	case 503:
		return "Service Unavailable";
	default:
		return "Status";
	}
}

void ds_http_answer(struct ds_buf *b, int status, const char *type, const char *extra,
		    struct ds_str body)
{
	ds_buf_fmt(b, "HTTP/1.1 %d %s\r\n", status, phrase(status));
	ds_buf_text(b, "cache-control: max-age=0, private, must-revalidate\r\n");
	ds_buf_fmt(b, "content-length: %zu\r\n", body.n);
	if (type)
		ds_buf_fmt(b, "content-type: %s\r\n", type);
	ds_buf_text(b, extra);
	ds_buf_text(b, "connection: close\r\n\r\n");
	ds_buf_str(b, body);
}
