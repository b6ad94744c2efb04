/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_msg.h"

#include <string.h>

#include "proto/rtbp_frame.h"

static int fault(struct rtbp_fault *ret, size_t offset, const char *text)
{
	ret->offset = offset;
	ret->text = text;
	return RTBP_E_PROTOCOL;
}

static int parse_request(struct rtbp_iter *it, const uint8_t *body, struct rtbp_msg *m,
			 struct rtbp_fault *ret_fault)
{
	struct rtbp_val v = { body, 0 };
	uint64_t id;

	if (m->type == RTBP_REQUEST) {
		if (!rtbp_iter_next(it, &v) || !rtbp_get_uint(v, &id) || id > UINT32_MAX)
			return fault(ret_fault, (size_t)(v.p - body),
				     "the id of a request is an integer from 0 to 4294967295");
		m->id = (uint32_t)id;
	}
	if (!rtbp_iter_next(it, &v) || !rtbp_get_str(v, &m->method))
		return fault(ret_fault, (size_t)(v.p - body), "the method is a string");
	if (!rtbp_iter_next(it, &m->params) || !rtbp_is(m->params, RTBP_MAP))
		return fault(ret_fault, (size_t)(m->params.p - body), "the params are a map");
	return 0;
}

static int parse_response(struct rtbp_iter *it, const uint8_t *body, struct rtbp_msg *m,
			  struct rtbp_fault *ret_fault)
{
	struct rtbp_val v = { body, 0 };
	uint64_t id;

	if (!rtbp_iter_next(it, &v) || !rtbp_get_uint(v, &id) || id > UINT32_MAX)
		return fault(ret_fault, (size_t)(v.p - body),
			     "the id of a response is an integer from 0 to 4294967295");
	m->id = (uint32_t)id;
	if (!rtbp_iter_next(it, &m->error) || !rtbp_iter_next(it, &m->result))
		return fault(ret_fault, (size_t)(it->p - body), "a response has four elements");
	if (rtbp_is(m->error, RTBP_NIL)) {
		m->error = (struct rtbp_val){ NULL, 0 };
		if (!rtbp_is(m->result, RTBP_MAP))
			return fault(ret_fault, (size_t)(m->result.p - body),
				     "a result without an error is a map");
	} else {
		if (!rtbp_is(m->error, RTBP_ARRAY))
			return fault(ret_fault, (size_t)(m->error.p - body),
				     "an error is nil or an array");
		m->result = (struct rtbp_val){ NULL, 0 };
	}
	return 0;
}

int rtbp_msg_parse(const void *body, size_t size, struct rtbp_msg *ret,
		   struct rtbp_fault *ret_fault)
{
	struct rtbp_msg m = { 0 };
	struct rtbp_iter it;
	struct rtbp_val v = { body, 0 };
	uint64_t type;
	size_t offset;
	int r;

	r = rtbp_check(body, size, RTBP_DEPTH_MAX, &offset);
	if (r)
		return fault(ret_fault, offset, rtbp_val_text(r));
	if (!rtbp_iter_array((struct rtbp_val){ body, size }, &it) || it.left < 3)
		return fault(ret_fault, 0, "a message is an array of at least three elements");
	if (!rtbp_iter_next(&it, &v) || !rtbp_get_uint(v, &type) || type > RTBP_NOTIFICATION)
		return fault(ret_fault, (size_t)(v.p - (const uint8_t *)body),
			     "the type of a message is 0, 1 or 2");
	m.type = (enum rtbp_msg_type)type;
	if (m.type != RTBP_NOTIFICATION && it.left < 3)
		return fault(ret_fault, 0, "requests and responses have four elements");
	if (m.type == RTBP_RESPONSE)
		r = parse_response(&it, body, &m, ret_fault);
	else
		r = parse_request(&it, body, &m, ret_fault);
	if (r == 0)
		*ret = m;
	return r;
}

bool rtbp_msg_error(struct rtbp_val error, struct rtbp_error_info *ret)
{
	struct rtbp_error_info e = { 0 };
	uint64_t code;

	if (!rtbp_get_uint(rtbp_at(error, 0), &code) || code > INT32_MAX ||
	    !rtbp_get_str(rtbp_at(error, 1), &e.name) || !rtbp_get_str(rtbp_at(error, 2), &e.text))
		return false;
	e.code = (int)code;
	e.has_retry_after = rtbp_get_uint(rtbp_at(error, 3), &e.retry_after_ms);
	*ret = e;
	return true;
}

static size_t begin(struct rtbp_buf *b, uint32_t n)
{
	static const uint8_t length[RTBP_HEADER_BYTES] = { 0 };
	size_t at = b->size;

	rtbp_buf_put(b, length, sizeof(length));
	rtbp_pack_array(b, n);
	return at;
}

size_t rtbp_msg_begin_request(struct rtbp_buf *b, uint32_t id, enum rtbp_method method)
{
	size_t at = begin(b, 4);

	rtbp_pack_uint(b, RTBP_REQUEST);
	rtbp_pack_uint(b, id);
	rtbp_pack_text(b, rtbp_method_name(method));
	return at;
}

size_t rtbp_msg_begin_call(struct rtbp_buf *b, enum rtbp_method method)
{
	size_t at = begin(b, 3);

	rtbp_pack_uint(b, RTBP_NOTIFICATION);
	rtbp_pack_text(b, rtbp_method_name(method));
	return at;
}

size_t rtbp_msg_begin_result(struct rtbp_buf *b, uint32_t id)
{
	size_t at = begin(b, 4);

	rtbp_pack_uint(b, RTBP_RESPONSE);
	rtbp_pack_uint(b, id);
	rtbp_pack_nil(b);
	return at;
}

size_t rtbp_msg_begin_notice(struct rtbp_buf *b, enum rtbp_notice notice)
{
	size_t at = begin(b, 3);

	rtbp_pack_uint(b, RTBP_NOTIFICATION);
	rtbp_pack_text(b, rtbp_notice_name(notice));
	return at;
}

int rtbp_msg_end(struct rtbp_buf *b, size_t at)
{
	if (rtbp_buf_ok(b))
		rtbp_put_length(b->data + at, b->size - at - RTBP_HEADER_BYTES);
	return b->error;
}

void rtbp_pack_error(struct rtbp_buf *b, enum rtbp_error code, const char *text,
		     int64_t retry_after_ms)
{
	rtbp_pack_array(b, 4);
	rtbp_pack_uint(b, code);
	rtbp_pack_text(b, rtbp_error_name(code));
	rtbp_pack_text(b, text ? text : rtbp_error_sentence(code));
	if (retry_after_ms < 0)
		rtbp_pack_nil(b);
	else
		rtbp_pack_uint(b, (uint64_t)retry_after_ms);
}

int rtbp_msg_put_error(struct rtbp_buf *b, uint32_t id, enum rtbp_error code, const char *text,
		       int64_t retry_after_ms)
{
	size_t at = begin(b, 4);

	rtbp_pack_uint(b, RTBP_RESPONSE);
	rtbp_pack_uint(b, id);
	rtbp_pack_error(b, code, text, retry_after_ms);
	rtbp_pack_nil(b);
	return rtbp_msg_end(b, at);
}

bool rtbp_name_ok(struct rtbp_str s, size_t max)
{
	if (s.size < 1 || s.size > max || !rtbp_utf8_valid(s.p, s.size))
		return false;
	for (size_t i = 0; i < s.size; i++) {
		/* C1 controls are two bytes: 0xc2 and 0x80 .. 0x9f. */
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
		if ((unsigned char)s.p[i] == 0xc2 && (unsigned char)s.p[i + 1] < 0xa0)
			return false;
	}
	return true;
}

static bool starts_with(struct rtbp_str s, const char *prefix)
{
	return s.size >= strlen(prefix) && memcmp(s.p, prefix, strlen(prefix)) == 0;
}

bool rtbp_topic_ok(struct rtbp_str topic)
{
	return rtbp_name_ok(topic, RTBP_TOPIC_MAX) && !starts_with(topic, "rtbridge:");
}

bool rtbp_event_ok(struct rtbp_str event)
{
	return rtbp_name_ok(event, RTBP_EVENT_MAX);
}

bool rtbp_key_ok(struct rtbp_str key)
{
	return rtbp_name_ok(key, RTBP_KEY_MAX) && !starts_with(key, "rtbridge:");
}
