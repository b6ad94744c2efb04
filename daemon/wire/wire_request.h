/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One HTTP request on its way: where it goes, its bytes, and the room for its answer. Made by M,
 * given to W, which gives the room back as news for M. Everything that can want memory is in here,
 * so that an answer can always be told.
 */
#include "base/cleanup.h"
#include "wire/mbox.h"
#include "wire/wire.h"
#include "wire/wire_attempt.h"

enum {
	WIRE_POST_HEADERS_MAX = 24576, /* a token and a key of 8 KiB each, and some more */
	WIRE_TYPE_MAX = 256,
};

struct wire_request {
	struct wire_attempt *to;
	char *bytes; /* request line, headers, body; never in a core dump, wiped */
	size_t size;
	size_t answer_room;       /* of its body that is kept */
	struct mbox_item *answer; /* WIRE_UP_ANSWERED; wiped with its last use */
};

/* What is in `answer`: the body's room is behind the struct, whose own `body` is not set. */
struct wire_answer *wire_request_answer(const struct wire_request *req);
char *wire_request_answer_body(const struct wire_request *req);
/* Takes the finished answer out. */
struct mbox_item *wire_request_take_answer(struct wire_request *req);

/* Return: 0; -EINVAL as wire_post() says; -ENOMEM. The attempt's times are the caller's to set. */
int wire_request_new(const struct wire_post *post, struct wire_request **ret);
struct wire_request *wire_request_free(struct wire_request *req);
DEFINE_CLEANUP(struct wire_request, wire_request_free);
