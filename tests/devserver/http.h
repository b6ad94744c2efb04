/* SPDX-License-Identifier: MIT */
#pragma once
/* Just enough of HTTP/1.1: the head of a request, and answers that end the connection. */
#include "buf.h"

#define DS_HTTP_HEAD_MAX 16384
#define DS_JSON_TYPE     "application/json; charset=utf-8"

/** struct ds_request - spans into the head */
struct ds_request {
	struct ds_str method;
	struct ds_str path;  /* without the query */
	struct ds_str query; /* without the ? */
	struct ds_str headers;
	size_t head_bytes;
	bool old; /* HTTP/1.0 */
};

/** ds_http_parse() - 1: a whole head; 0: more bytes are needed; -1: broken or too long */
int ds_http_parse(struct ds_str bytes, struct ds_request *ret);

/** ds_http_header() - the trimmed value; false if absent. Names compare without case */
bool ds_http_header(const struct ds_request *r, const char *name, struct ds_str *ret_value);

/** ds_http_decode() - appends @text without its percent escapes; a plus stays a plus */
void ds_http_decode(struct ds_buf *b, struct ds_str text);

/** ds_http_query() - appends the decoded value of a query parameter; false if absent */
bool ds_http_query(const struct ds_request *r, const char *name, struct ds_buf *ret_value);

/** ds_http_line() - takes the next of the header lines @rest; empty if there is nothing in it */
struct ds_str ds_http_line(struct ds_str *rest, struct ds_str *ret_name, struct ds_str *ret_value);

/** ds_http_has_token() - does the comma-separated @list contain @token (without case)? */
bool ds_http_has_token(struct ds_str list, const char *token);

/** ds_http_media() - does a content-type header name this type, whatever its parameters? */
bool ds_http_media(struct ds_str header, const char *type);

/**
 * ds_http_answer() - appends a whole answer
 * @extra: further header lines, each with CRLF
 * @keep:  the connection stays, otherwise the answer says that it ends
 */
void ds_http_answer(struct ds_buf *b, int status, const char *type, struct ds_str extra,
		    struct ds_str body, bool keep);
