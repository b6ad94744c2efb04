/* SPDX-License-Identifier: MIT */
#include "app/request.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/conf.h"
#include "base/cleanup.h"
#include "hub/hub.h"
#include "hub/send.h"
#include "realtime/gotrue.h"
#include "wire/wire.h"

/* The daemon's token must not wait until the server has answered the sends. */
static_assert((int)POSTS_MAX < (int)WIRE_MAX_POSTS, "the hub takes every place for requests");

enum { PROXY_AUTH_RETRY_S = 60 };

/* NAME VALUE in one piece of memory that is wiped. */
static int put_secret(struct rtbp_buf *b, const char *name, const struct secret *value)
{
	(void)rtbp_buf_room(b, strlen(name) + secret_size(value) + 1);
	rtbp_buf_text(b, name);
	rtbp_buf_put(b, secret_bytes(value), secret_size(value));
	rtbp_buf_byte(b, '\0');
	return rtbp_buf_ok(b) ? 0 : b->error;
}

/* To what is below the place, with the configured headers, the API key, and the token (NULL: none). The
 * target of @request is filled in here. */
static int post_to(struct wire *wire, const struct conf *conf, const struct conf_place *place,
		   const char *below, const struct secret *token, uint64_t id,
		   struct wire_post *request)
{
	CLEANUP(secret_wipe_buf) struct rtbp_buf key = RTBP_BUF_INIT;
	CLEANUP(secret_wipe_buf) struct rtbp_buf bearer = RTBP_BUF_INIT;
	CLEANUP(freep) char *path = NULL;
	const char *headers[CONF_LIST_MAX + 3];
	size_t n = 0;

	if (asprintf(&path, "%s%s", place->path, below) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	for (; conf->headers[n]; n++)
		headers[n] = conf->headers[n];
	if (put_secret(&key, "apikey: ", conf->apikey) < 0)
		return -ENOMEM;
	headers[n++] = (const char *)key.data;
	if (token) {
		if (put_secret(&bearer, "authorization: Bearer ", token) < 0)
			return -ENOMEM;
		headers[n++] = (const char *)bearer.data;
	}
	headers[n] = NULL;
	request->target = (struct wire_target){ .tls = place->tls,
						.host = place->host,
						.port = place->port,
						.path = path,
						.headers = headers };
	return wire_post(wire, id, request);
}

int request_post(struct wire *wire, const struct conf *conf, uint64_t id,
		 const struct hub_post *post)
{
	struct wire_post request = {
		.content_type = post->content_type,
		.body = post->body,
		.size = post->size,
		.timeout_ms = post->timeout_ms,
	};

	return post_to(wire, conf, &conf->api, post->path, post->token, id, &request);
}

/* A proxy to which a wrong password is told again and again may lock the account. */
static uint32_t retry_after_s(const struct wire_answer *a)
{
	return a->why == WIRE_PROXY_AUTH ? PROXY_AUTH_RETRY_S : a->retry_after_s;
}

void request_answer(const struct wire_answer *a, struct hub_answer *ret)
{
	*ret = (struct hub_answer){
		.was_sent = a->was_sent,
		.status = a->status,
		.retry_after_s = retry_after_s(a),
		.body = a->body,
		.size = a->size,
		.text = a->text,
	};
}

int request_refresh(struct wire *wire, const struct conf *conf, uint64_t id, const void *body,
		    size_t size)
{
	struct wire_post request = {
		.content_type = GOTRUE_CONTENT_TYPE,
		.body = body,
		.size = size,
		.timeout_ms = (uint32_t)conf->token_timeout_ms,
		.answer_bytes = GOTRUE_ANSWER_MAX,
	};

	return post_to(wire, conf, &conf->auth, GOTRUE_PATH, NULL, id, &request);
}

void request_refresh_answer(const struct wire_answer *a, struct gotrue_answer *ret)
{
	*ret = (struct gotrue_answer){
		.status = a->status,
		.retry_after_s = retry_after_s(a),
		.body = a->body,
		.size = a->size,
		.whole = a->whole,
		.text = a->text,
	};
}
