/* SPDX-License-Identifier: MIT */
#include "wire/wire_request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "wire/wire_alloc.h"
#include "wire/wire_lws.h"

/* One more than these would be read in two ways by two servers. */
static const char *const own_headers[] = { "host",           "connection",        "content-type",
					   "content-length", "transfer-encoding", "expect" };

static bool name_is_good(const char *header)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789"
				    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t len = strspn(header, token);

	if (len == 0 || header[len] != ':')
		return false;
	for (size_t i = 0; i < sizeof(own_headers) / sizeof(*own_headers); i++) {
		if (strlen(own_headers[i]) == len && strncasecmp(header, own_headers[i], len) == 0)
			return false;
	}
	return true;
}

static int post_check(const struct wire_post *post)
{
	const char *type = post->content_type;

	if (!type || !type[0] || strlen(type) > WIRE_TYPE_MAX || !wire_text_is_clean(type, true))
		return -EINVAL;
	if (post->size > WIRE_POST_MAX_BYTES || (post->size > 0 && !post->body))
		return -EINVAL;
	for (const char *const *h = post->target.headers; h && *h; h++) {
		if (!name_is_good(*h))
			return -EINVAL;
	}
	return post->timeout_ms == 0 || post->answer_bytes > WIRE_ANSWER_MAX_BYTES ? -EINVAL : 0;
}

static void add(char **at, const char *text)
{
	size_t len = strlen(text);

	memcpy(*at, text, len);
	*at += len;
}

static int bytes_make(struct wire_request *req, const struct wire_post *post)
{
	char fixed[WIRE_HOST_MAX + WIRE_TYPE_MAX + 160], *at;
	size_t headers = 2;
	int n;

	n = snprintf(fixed, sizeof(fixed),
		     " HTTP/1.1\r\nhost: %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n"
		     "connection: close\r\n",
		     req->to->authority, post->content_type, post->size);
	for (const char *const *h = post->target.headers; h && *h; h++)
		headers += strlen(*h) + 2;
	req->size = 5 + strlen(post->target.path) + (size_t)n + headers + post->size;
	/* All the room at once: growing would leave copies behind. */
	req->bytes = wire_alloc_realloc(NULL, req->size, "request");
	if (!req->bytes)
		return -ENOMEM;
	at = req->bytes;
	add(&at, "POST ");
	add(&at, post->target.path);
	add(&at, fixed);
	for (const char *const *h = post->target.headers; h && *h; h++) {
		add(&at, *h);
		add(&at, "\r\n");
	}
	add(&at, "\r\n");
	if (post->size > 0)
		memcpy(at, post->body, post->size);
	return 0;
}

int wire_request_new(const struct wire_post *post, struct wire_request **ret)
{
	CLEANUP(wire_request_freep) struct wire_request *req = NULL;
	int r = post_check(post);

	if (r < 0)
		return r;
	req = calloc(1, sizeof(*req));
	if (!req)
		return -ENOMEM;
	r = wire_attempt_to(&post->target, WIRE_POST_HEADERS_MAX, &req->to);
	if (r == 0)
		r = bytes_make(req, post);
	if (r < 0)
		return r;
	req->answer_room = post->answer_bytes > 0 ? post->answer_bytes : WIRE_ANSWER_BYTES;
	req->answer = mbox_item_new(sizeof(struct wire_answer) + req->answer_room);
	if (!req->answer)
		return -ENOMEM;
	req->answer->kind = WIRE_UP_ANSWERED;
	memset(req->answer->data, 0, sizeof(struct wire_answer));
	*ret = TAKE(req);
	return 0;
}

struct wire_request *wire_request_free(struct wire_request *req)
{
	if (req) {
		wire_attempt_free(req->to);
		wire_alloc_realloc(req->bytes, 0, "request");
		mbox_item_free(req->answer);
		free(req);
	}
	return NULL;
}

struct wire_answer *wire_request_answer(const struct wire_request *req)
{
	return (struct wire_answer *)(void *)req->answer->data;
}

char *wire_request_answer_body(const struct wire_request *req)
{
	return (char *)req->answer->data + sizeof(struct wire_answer);
}

struct mbox_item *wire_request_take_answer(struct wire_request *req)
{
	req->answer->size = sizeof(struct wire_answer) + wire_request_answer(req)->size;
	return TAKE(req->answer);
}
