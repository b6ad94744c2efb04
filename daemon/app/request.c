/* SPDX-License-Identifier: MIT */
#include "app/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "app/conf.h"
#include "base/cleanup.h"
#include "hub/hub.h"
#include "realtime/gotrue.h"
#include "wire/wire.h"

/* NAME VALUE in one piece of memory that is wiped. */
static int put_secret(struct rtbp_buf *b, const char *name, const struct secret *value)
{
	(void)rtbp_buf_room(b, strlen(name) + secret_size(value) + 1);
	rtbp_buf_text(b, name);
	rtbp_buf_put(b, secret_bytes(value), secret_size(value));
	rtbp_buf_byte(b, '\0');
	return rtbp_buf_ok(b) ? 0 : b->error;
}

/* The configured ones, and the API key. Return: how many there are; 0 without memory. */
static size_t put_headers(const struct conf *conf, struct rtbp_buf *key, const char **ret)
{
	size_t n = 0;

	for (; conf->headers[n]; n++)
		ret[n] = conf->headers[n];
	if (put_secret(key, "apikey: ", conf->apikey) < 0)
		return 0;
	ret[n++] = (const char *)key->data;
	return n;
}

int request_post(struct wire *wire, const struct conf *conf, uint64_t id,
		 const struct hub_post *post)
{
	CLEANUP(secret_wipe_buf) struct rtbp_buf key = RTBP_BUF_INIT;
	CLEANUP(secret_wipe_buf) struct rtbp_buf token = RTBP_BUF_INIT;
	CLEANUP(freep) char *path = NULL;
	const char *headers[CONF_LIST_MAX + 3];
	struct wire_post request = {
		.target = { .tls = conf->tls,
			    .host = conf->host,
			    .port = conf->port,
			    .headers = headers },
		.content_type = post->content_type,
		.body = post->body,
		.size = post->size,
		.timeout_ms = post->timeout_ms,
	};
	size_t n;

	if (asprintf(&path, "%s%s", conf->api_path, post->path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	request.target.path = path;
	n = put_headers(conf, &key, headers);
	if (n == 0)
		return -ENOMEM;
	if (post->token) {
		if (put_secret(&token, "authorization: Bearer ", post->token) < 0)
			return -ENOMEM;
		headers[n++] = (const char *)token.data;
	}
	headers[n] = NULL;
	return wire_post(wire, id, &request);
}

void request_answer(const struct wire_answer *a, struct hub_answer *ret)
{
	*ret = (struct hub_answer){
		.was_sent = a->was_sent,
		.status = a->status,
		.retry_after_s = a->retry_after_s,
		.body = a->body,
		.size = a->size,
		.text = a->text,
	};
}

int request_refresh(struct wire *wire, const struct conf *conf, uint64_t id, const void *body,
		    size_t size)
{
	CLEANUP(secret_wipe_buf) struct rtbp_buf key = RTBP_BUF_INIT;
	CLEANUP(freep) char *path = NULL;
	const char *headers[CONF_LIST_MAX + 2];
	struct wire_post request = {
		.target = { .tls = conf->auth.tls,
			    .host = conf->auth.host,
			    .port = conf->auth.port,
			    .headers = headers },
		.content_type = GOTRUE_CONTENT_TYPE,
		.body = body,
		.size = size,
		.timeout_ms = (uint32_t)conf->token_timeout_ms,
		.answer_bytes = GOTRUE_ANSWER_MAX,
	};
	size_t n;

	if (asprintf(&path, "%s" GOTRUE_PATH, conf->auth.path) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	request.target.path = path;
	n = put_headers(conf, &key, headers);
	if (n == 0)
		return -ENOMEM;
	headers[n] = NULL;
	return wire_post(wire, id, &request);
}

void request_refresh_answer(const struct wire_answer *a, struct gotrue_answer *ret)
{
	*ret = (struct gotrue_answer){
		.status = a->status,
		.retry_after_s = a->retry_after_s,
		.body = a->body,
		.size = a->size,
		.whole = a->whole,
		.text = a->text,
	};
}
