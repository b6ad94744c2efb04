/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Messages: what the body of a frame says.
 *
 *     request       [0, id, method, params]        id: 0 .. 2^32-1, chosen by the client
 *     response      [1, id, error|nil, result]     error: [code, name, text, retry_after_ms|nil]
 *     notification  [2, method, params]
 *
 * rtbp_msg_parse() checks the whole body before it looks inside (depth, counts, bytes; no
 * allocation). Params and results are maps with string keys; unknown keys are ignored. A message
 * may have more elements than listed: they are ignored, too, which is how later versions can grow.
 */
#include "proto/rtbp_buf.h"
#include "proto/rtbp_pack.h"
#include "proto/rtbp_val.h"

enum rtbp_msg_type {
	RTBP_REQUEST = 0,
	RTBP_RESPONSE = 1,
	RTBP_NOTIFICATION = 2,
};

struct rtbp_msg {
	enum rtbp_msg_type type;
	uint32_t id;            /* request, response */
	struct rtbp_str method; /* request, notification */
	struct rtbp_val params; /* request, notification: a map */
	struct rtbp_val error;  /* response: an array, or absent */
	struct rtbp_val result; /* response without error: a map; absent beside an error */
};

struct rtbp_error_info {
	int code;
	struct rtbp_str name, text;
	bool has_retry_after;
	uint64_t retry_after_ms;
};

struct rtbp_fault {
	size_t offset;
	const char *text;
};

/**
 * rtbp_msg_parse() - check and open the body of one frame
 * @ret: views into @body
 *
 * Return: 0; RTBP_E_PROTOCOL with @ret_fault saying where and what.
 */
int rtbp_msg_parse(const void *body, size_t size, struct rtbp_msg *ret,
		   struct rtbp_fault *ret_fault);

/* Return: whether `error` has the shape of an error; *ret borrows from it. */
bool rtbp_msg_error(struct rtbp_val error, struct rtbp_error_info *ret);

/*
 * Writing: begin reserves the length, then the caller packs exactly one value (params or result),
 * then rtbp_msg_end() fills the length in. Several messages may follow each other in one buffer.
 * Return of _begin: what _end wants. Return of _end: 0 or the buffer's sticky error.
 */
size_t rtbp_msg_begin_request(struct rtbp_buf *b, uint32_t id, enum rtbp_method method);
size_t rtbp_msg_begin_call(struct rtbp_buf *b,
			   enum rtbp_method method); /* a method as notification */
size_t rtbp_msg_begin_result(struct rtbp_buf *b, uint32_t id);
size_t rtbp_msg_begin_notice(struct rtbp_buf *b, enum rtbp_notice notice);
int rtbp_msg_end(struct rtbp_buf *b, size_t begin);

/* A whole error response. `text` NULL: the table's sentence. `retry_after_ms` < 0: nil. */
int rtbp_msg_put_error(struct rtbp_buf *b, uint32_t id, enum rtbp_error code, const char *text,
		       int64_t retry_after_ms);
/* The error array itself, as it stands in responses and `error` notices. */
void rtbp_pack_error(struct rtbp_buf *b, enum rtbp_error code, const char *text,
		     int64_t retry_after_ms);

/* The rules for names, both sides. The first one: 1 to @max bytes of UTF-8 without control
 * characters.
 */
bool rtbp_name_ok(struct rtbp_str s, size_t max);
bool rtbp_topic_ok(struct rtbp_str topic);
bool rtbp_event_ok(struct rtbp_str event);
bool rtbp_key_ok(struct rtbp_str key); /* of presence */
