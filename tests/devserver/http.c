/* SPDX-License-Identifier: MIT */
#include "http.h"

#include <ctype.h>
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
	ret->old = line.p[7] == '0';
	return 1;
}

struct ds_str ds_http_line(struct ds_str *rest, struct ds_str *ret_name, struct ds_str *ret_value)
{
	struct ds_str line = until(rest, '\n'), value;

	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	value = line;
	*ret_name = until(&value, ':');
	*ret_value = trim(value);
	return line;
}

bool ds_http_header(const struct ds_request *r, const char *name, struct ds_str *ret_value)
{
	struct ds_str rest = r->headers, key, value;

	while (rest.n) {
		(void)ds_http_line(&rest, &key, &value);
		if (same_word(key, name)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

/* The byte that the three characters at @p stand for; -1: they are no escape. */
static int escaped(const char *p, size_t n)
{
	char hex[3] = { 0 };

	if (n < 3 || p[0] != '%' || !isxdigit((unsigned char)p[1]) ||
	    !isxdigit((unsigned char)p[2]))
		return -1;
	memcpy(hex, p + 1, 2);
	return (int)strtol(hex, NULL, 16);
}

static void decode(struct ds_buf *b, struct ds_str text, unsigned char plus)
{
	ds_buf_reserve(b, text.n + 1);
	for (size_t i = 0; i < text.n; i++) {
		int byte = escaped(text.p + i, text.n - i);

		if (byte >= 0)
			i += 2;
		else
			byte = text.p[i] == '+' ? plus : (unsigned char)text.p[i];
		ds_buf_byte(b, (unsigned char)byte);
	}
}

void ds_http_decode(struct ds_buf *b, struct ds_str text)
{
	decode(b, text, '+');
}

bool ds_http_query(const struct ds_request *r, const char *name, struct ds_buf *ret_value)
{
	struct ds_str rest = r->query;

	while (rest.n) {
		struct ds_str value = until(&rest, '&');
		struct ds_str key = until(&value, '=');

		if (!ds_str_eq(key, ds_str(name)))
			continue;
		decode(ret_value, value, ' ');
		return true;
	}
	return false;
}

bool ds_http_media(struct ds_str header, const char *type)
{
	return same_word(trim(until(&header, ';')), type);
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
	case 202:
		return "Accepted";
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
		return "Request Entity Too Large";
	case 415:
		return "Unsupported Media Type";
	case 422:
		return "Unprocessable Entity";
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

void ds_http_answer(struct ds_buf *b, int status, const char *type, struct ds_str extra,
		    struct ds_str body, bool keep)
{
	ds_buf_fmt(b, "HTTP/1.1 %d %s\r\n", status, phrase(status));
	ds_buf_text(b, "cache-control: max-age=0, private, must-revalidate\r\n");
	ds_buf_fmt(b, "content-length: %zu\r\n", body.n);
	if (type)
		ds_buf_fmt(b, "content-type: %s\r\n", type);
	ds_buf_str(b, extra);
	ds_buf_text(b, keep ? "\r\n" : "connection: close\r\n\r\n");
	ds_buf_str(b, body);
}
