/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_msg.h"

#include "alloc_util.h"
#include "proto/rtbp_frame.h"
#include "proto_util.h"

static int parse(const void *body, size_t size, struct rtbp_msg *m, struct rtbp_fault *fault)
{
	int r;

	allocs_reset();
	*fault = (struct rtbp_fault){ SIZE_MAX, NULL };
	allocs_watch(false);
	r = rtbp_msg_parse(body, size, m, fault);
	allocs_unwatch();
	ck_assert_uint_eq(allocs.n_calls, 0);
	return r;
}

static struct rtbp_msg good(const void *body, size_t size)
{
	struct rtbp_fault fault;
	struct rtbp_msg m;

	memset(&m, 0xaa, sizeof(m));
	ck_assert_int_eq(parse(body, size, &m, &fault), 0);
	return m;
}

static struct rtbp_msg good_hex(const char *hex)
{
	static uint8_t bytes[256];

	return good(bytes, unhex(hex, bytes, sizeof(bytes)));
}

START_TEST(requests)
{
	struct rtbp_msg m = good_hex("94 00 07 a4 73796e63 81 a8 757073747265616d c2");
	bool upstream = true;

	ck_assert_int_eq((int)m.type, RTBP_REQUEST);
	ck_assert_uint_eq(m.id, 7);
	ck_assert(rtbp_str_is(m.method, "sync"));
	ck_assert(rtbp_get_bool(rtbp_field(m.params, RTBP_F_UPSTREAM), &upstream));
	ck_assert(!upstream);
	ck_assert_ptr_null(m.error.p);
	ck_assert_ptr_null(m.result.p);
	ck_assert_uint_eq(good_hex("94 00 ce ffffffff a0 80").id, UINT32_MAX);
	ck_assert_uint_eq(good_hex("94 00 00 a0 80").id, 0);
}
END_TEST

START_TEST(responses)
{
	struct rtbp_error_info e;
	struct rtbp_msg m = good_hex("94 01 07 c0 81 a4 6368616e 05");
	uint64_t chan;

	ck_assert_int_eq((int)m.type, RTBP_RESPONSE);
	ck_assert_uint_eq(m.id, 7);
	ck_assert_ptr_null(m.error.p);
	ck_assert_ptr_null(m.method.p);
	ck_assert_ptr_null(m.params.p);
	ck_assert(rtbp_get_uint(rtbp_field(m.result, RTBP_F_CHAN), &chan) && chan == 5);

	m = good_hex("94 01 07 94 64 a4 62757379 a1 78 cd03e8 c0");
	ck_assert(rtbp_msg_error(m.error, &e));
	ck_assert_int_eq(e.code, RTBP_E_BUSY);
	ck_assert(rtbp_str_is(e.name, "busy"));
	ck_assert(rtbp_str_is(e.text, "x"));
	ck_assert(e.has_retry_after);
	ck_assert_uint_eq(e.retry_after_ms, 1000);
	ck_assert_ptr_null(m.result.p);
	/* Beside an error a result means nothing. */
	ck_assert_ptr_null(good_hex("94 01 07 90 80").result.p);
}
END_TEST

START_TEST(notifications)
{
	struct rtbp_msg m = good_hex("93 02 a7 6368616e6e656c 80");

	ck_assert_int_eq((int)m.type, RTBP_NOTIFICATION);
	ck_assert(rtbp_str_is(m.method, "channel"));
	ck_assert(rtbp_is(m.params, RTBP_MAP));
	ck_assert_uint_eq(m.id, 0);
}
END_TEST

/* Later versions add elements and keys; encoders may use any form that MessagePack has. */
START_TEST(room_for_growth)
{
	ck_assert_uint_eq(good_hex("96 00 07 a0 80 c0 93 01 02 03").id, 7);
	ck_assert_uint_eq(good_hex("95 01 07 c0 80 a1 78").id, 7);
	(void)good_hex("94 02 a0 80 c3");
	(void)good_hex(
		"93 02 a0 82 a1 78 01 05 06"); /* an unknown key, and one that is no string */
	ck_assert_uint_eq(good_hex("dc 0004 cc00 d3 0000000000000007 d900 de0000").id, 7);
	ck_assert_uint_eq(good_hex("dd 00000004 cf 0000000000000001 ce00000007 c0 df00000000").id,
			  7);
}
END_TEST

/* What is no message, at which byte that shows, and a word of what is said about it. */
static const struct {
	const char *hex;
	size_t offset;
	const char *word;
} bad[] = {
	{ "", 0, "end inside" },
	{ "c1", 0, "0xc1" },
	{ "94 00 07 a4 73796e63 c1", 8, "0xc1" },
	{ "94 00 07 a4 73796e63 81 a1 78", 11, "end inside" },
	{ "94 00 07 a4 73796e63 80 80", 9, "bytes behind" },
	{ "94 00 07 a4 7379", 3, "end inside" },
	{ "dd ffffffff", 0, "end inside" },
	{ "c0", 0, "array" },
	{ "07", 0, "array" },
	{ "a0", 0, "array" },
	{ "83 00 01 02 03 04 05", 0, "array" },
	{ "90", 0, "array of at least three" },
	{ "91 02", 0, "array of at least three" },
	{ "92 02 a0", 0, "array of at least three" },
	{ "93 03 a0 80", 1, "type" },
	{ "93 ff a0 80", 1, "type" },
	{ "93 c0 a0 80", 1, "type" },
	{ "93 a1 32 a0 80", 1, "type" },
	{ "93 cb 4000000000000000 a0 80", 1, "type" },
	{ "93 cf ffffffffffffffff a0 80", 1, "type" },
	{ "93 00 07 a0", 0, "four elements" },
	{ "93 01 07 c0", 0, "four elements" },
	{ "94 00 c0 a0 80", 2, "id of a request" },
	{ "94 00 ff a0 80", 2, "id of a request" },
	{ "94 00 a1 37 a0 80", 2, "id of a request" },
	{ "94 00 cf 0000000100000000 a0 80", 2, "id of a request" },
	{ "94 00 cb 4000000000000000 a0 80", 2, "id of a request" },
	{ "94 01 c0 c0 80", 2, "id of a response" },
	{ "94 01 cf 0000000100000000 c0 80", 2, "id of a response" },
	{ "94 00 07 c0 80", 3, "method" },
	{ "94 00 07 c4 00 80", 3, "method" },
	{ "94 00 07 05 80", 3, "method" },
	{ "93 02 c0 80", 2, "method" },
	{ "93 02 81 a0 a0 80", 2, "method" },
	{ "94 00 07 a4 73796e63 c0", 8, "params" },
	{ "94 00 07 a4 73796e63 90", 8, "params" },
	{ "95 00 07 a4 73796e63 a3 616263 80", 8, "params" },
	{ "93 02 a1 78 c0", 4, "params" },
	{ "94 02 a1 78 93 010203 80", 4, "params" },
	{ "94 01 07 05 c0", 3, "error" },
	{ "94 01 07 80 c0", 3, "error" },
	{ "94 01 07 a1 78 c0", 3, "error" },
	{ "94 01 07 c2 80", 3, "error" },
	{ "94 01 07 c0 c0", 4, "result" },
	{ "94 01 07 c0 90", 4, "result" },
	{ "94 01 07 c0 05", 4, "result" },
};

START_TEST(malformed)
{
	struct rtbp_msg m, untouched;
	struct rtbp_fault fault;
	uint8_t bytes[64], *body;
	size_t size = unhex(bad[_i].hex, bytes, sizeof(bytes));

	memset(&m, 0xaa, sizeof(m));
	untouched = m;
	body = exact(bytes, size);
	ck_assert_int_eq(parse(body, size, &m, &fault), RTBP_E_PROTOCOL);
	ck_assert_msg(strstr(fault.text, bad[_i].word) != NULL, "%s: %s", bad[_i].hex, fault.text);
	ck_assert_msg(fault.offset == bad[_i].offset, "%s: offset %zu", bad[_i].hex, fault.offset);
	ck_assert_mem_eq(&m, &untouched, sizeof(m));
	free(body);
}
END_TEST

/* A good message cut at every byte is none, whatever the cut leaves. */
START_TEST(truncated_at_every_byte)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_fault fault;
	struct rtbp_msg m;
	size_t begin = rtbp_msg_begin_request(&b, 300, RTBP_M_BROADCAST);
	uint8_t *cut;

	rtbp_pack_map(&b, 2);
	rtbp_pack_field_text(&b, RTBP_F_TOPIC, "a topic of more than thirty-one bytes");
	rtbp_pack_field(&b, RTBP_F_PAYLOAD);
	rtbp_pack_array(&b, 2);
	rtbp_pack_float(&b, 1.5);
	rtbp_pack_ext(&b, 1, "1.50", 4);
	ck_assert_int_eq(rtbp_msg_end(&b, begin), 0);
	for (size_t size = 0; size < b.size - RTBP_HEADER_BYTES; size++) {
		cut = exact(b.data + RTBP_HEADER_BYTES, size);
		ck_assert_int_eq(parse(cut, size, &m, &fault), RTBP_E_PROTOCOL);
		ck_assert_uint_le(fault.offset, size);
		free(cut);
	}
	(void)good(b.data + RTBP_HEADER_BYTES, b.size - RTBP_HEADER_BYTES);
	rtbp_buf_done(&b);
}
END_TEST

/* [2, "broadcast", {payload: 64 levels}] and more pass; 72 is the end. */
START_TEST(depth_of_a_frame)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_fault fault;
	struct rtbp_msg m;
	size_t begin;

	for (unsigned depth = 1; depth <= 71; depth++) {
		rtbp_buf_reset(&b, 4096);
		begin = rtbp_msg_begin_call(&b, RTBP_M_BROADCAST);
		rtbp_pack_map(&b, 1);
		rtbp_pack_field(&b, RTBP_F_PAYLOAD);
		for (unsigned i = 0; i < depth; i++)
			rtbp_pack_array(&b, i + 1 < depth);
		ck_assert_int_eq(rtbp_msg_end(&b, begin), 0);
		ck_assert_int_eq(
			parse(b.data + RTBP_HEADER_BYTES, b.size - RTBP_HEADER_BYTES, &m, &fault),
			depth + 2 <= RTBP_DEPTH_MAX ? 0 : RTBP_E_PROTOCOL);
	}
	ck_assert_str_eq(fault.text, "nested too deeply");
	ck_assert_uint_eq(fault.offset, b.size - RTBP_HEADER_BYTES - 1);
	rtbp_buf_done(&b);
}
END_TEST

static const char *const no_errors[] = {
	"c0",
	"90",
	"91 64",
	"92 64 a0",
	"93 64 a0 c0",
	"93 64 05 a0",
	"93 a0 a0 a0",
	"93 ff a0 a0",
	"93 ce 80000000 a0 a0",
	"83 64 a0 a0 a0 a0 a0",
};

START_TEST(error_arrays)
{
	struct rtbp_error_info e = { .code = 4711 };
	uint8_t bytes[64];

	for (unsigned i = 0; i < N_OF(no_errors); i++) {
		size_t size = unhex(no_errors[i], bytes, sizeof(bytes));

		ck_assert_msg(!rtbp_msg_error((struct rtbp_val){ bytes, size }, &e), "%s",
			      no_errors[i]);
	}
	ck_assert(!rtbp_msg_error((struct rtbp_val){ NULL, 0 }, &e));
	ck_assert_int_eq(e.code, 4711);
	/* Without the fourth element, with a nil there, with more behind it, with a code that this
	 * version does not know. */
	ck_assert(rtbp_msg_error((struct rtbp_val){ bytes, unhex("93 64 a0 a0", bytes, 64) }, &e));
	ck_assert(!e.has_retry_after);
	ck_assert(
		rtbp_msg_error((struct rtbp_val){ bytes, unhex("94 64 a0 a0 c0", bytes, 64) }, &e));
	ck_assert(!e.has_retry_after);
	ck_assert(rtbp_msg_error(
		(struct rtbp_val){ bytes, unhex("96 cd03e7 a178 a0 05 c0 c0", bytes, 64) }, &e));
	ck_assert_int_eq(e.code, 999);
	ck_assert(rtbp_str_is(e.name, "x"));
	ck_assert_uint_eq(e.retry_after_ms, 5);
}
END_TEST

/* Each kind of message written, framed, taken apart again. */
static struct rtbp_msg next(struct rtbp_reader *r)
{
	const uint8_t *body;
	size_t size;

	ck_assert_int_eq(rtbp_reader_next(r, &body, &size), RTBP_FRAME_ONE);
	return good(body, size);
}

START_TEST(written_and_read)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_error_info e;
	struct rtbp_reader r;
	struct rtbp_msg m;
	size_t begin, room;

	for (int i = 0; i < RTBP_N_METHODS; i++) {
		begin = rtbp_msg_begin_request(&b, UINT32_MAX - (uint32_t)i, (enum rtbp_method)i);
		rtbp_pack_map(&b, 0);
		ck_assert_int_eq(rtbp_msg_end(&b, begin), 0);
		begin = rtbp_msg_begin_call(&b, (enum rtbp_method)i);
		rtbp_pack_map(&b, 0);
		ck_assert_int_eq(rtbp_msg_end(&b, begin), 0);
	}
	for (int i = 0; i < RTBP_N_NOTICES; i++) {
		begin = rtbp_msg_begin_notice(&b, (enum rtbp_notice)i);
		rtbp_pack_map(&b, 0);
		ck_assert_int_eq(rtbp_msg_end(&b, begin), 0);
	}
	begin = rtbp_msg_begin_result(&b, 5);
	rtbp_pack_map(&b, 0);
	ck_assert_int_eq(rtbp_msg_end(&b, begin), 0);
	ck_assert_int_eq(rtbp_msg_put_error(&b, 6, RTBP_E_BUSY, "words", 250), 0);
	ck_assert_int_eq(rtbp_msg_put_error(&b, 7, RTBP_E_REJECTED, NULL, -1), 0);

	rtbp_reader_init(&r, 1 << 20);
	memcpy(rtbp_reader_room(&r, b.size, &room), b.data, b.size);
	rtbp_reader_add(&r, b.size);
	for (int i = 0; i < RTBP_N_METHODS; i++) {
		m = next(&r);
		ck_assert_int_eq((int)m.type, RTBP_REQUEST);
		ck_assert_uint_eq(m.id, UINT32_MAX - (uint32_t)i);
		ck_assert_int_eq(rtbp_method_find(m.method.p, m.method.size), i);
		m = next(&r);
		ck_assert_int_eq((int)m.type, RTBP_NOTIFICATION);
		ck_assert_int_eq(rtbp_method_find(m.method.p, m.method.size), i);
	}
	for (int i = 0; i < RTBP_N_NOTICES; i++) {
		m = next(&r);
		ck_assert_int_eq(rtbp_notice_find(m.method.p, m.method.size), i);
	}
	m = next(&r);
	ck_assert_int_eq((int)m.type, RTBP_RESPONSE);
	ck_assert_uint_eq(m.id, 5);
	ck_assert(rtbp_is(m.result, RTBP_MAP));
	m = next(&r);
	ck_assert_uint_eq(m.id, 6);
	ck_assert(rtbp_msg_error(m.error, &e));
	ck_assert(e.code == RTBP_E_BUSY && rtbp_str_is(e.name, "busy") &&
		  rtbp_str_is(e.text, "words") && e.has_retry_after && e.retry_after_ms == 250);
	m = next(&r);
	ck_assert(rtbp_msg_error(m.error, &e));
	ck_assert(e.code == RTBP_E_REJECTED && !e.has_retry_after &&
		  rtbp_str_is(e.text, rtbp_error_sentence(RTBP_E_REJECTED)));
	ck_assert_uint_eq(rtbp_reader_partial(&r), 0);
	rtbp_reader_done(&r);
	rtbp_buf_done(&b);
}
END_TEST

/* A message that does not fit is an error of the whole buffer, for any limit. */
START_TEST(limits)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	size_t whole, begin;

	ck_assert_int_eq(rtbp_msg_put_error(&b, 6, RTBP_E_BUSY, "words", 250), 0);
	whole = b.size;
	for (size_t max = 1; max <= whole; max++) {
		rtbp_buf_reset(&b, 0);
		b.max_bytes = max;
		ck_assert_int_eq(rtbp_msg_put_error(&b, 6, RTBP_E_BUSY, "words", 250),
				 max < whole ? -EMSGSIZE : 0);
	}
	/* A second message that breaks the buffer leaves the first one's bytes alone. */
	begin = rtbp_msg_begin_notice(&b, RTBP_N_CHANNEL);
	rtbp_pack_map(&b, 0);
	ck_assert_int_eq(rtbp_msg_end(&b, begin), -EMSGSIZE);
	(void)good(b.data + RTBP_HEADER_BYTES, whole - RTBP_HEADER_BYTES);
	b.max_bytes = 0;
	rtbp_buf_reset(&b, 0);
	allocs_watch(true);
	begin = rtbp_msg_begin_result(&b, 1);
	rtbp_pack_nil(&b);
	allocs_unwatch();
	ck_assert_int_eq(rtbp_msg_end(&b, begin), -ENOMEM);
	rtbp_buf_done(&b);
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("msg");

	tcase_add_test(c, requests);
	tcase_add_test(c, responses);
	tcase_add_test(c, notifications);
	tcase_add_test(c, room_for_growth);
	LOOP(c, malformed, bad);
	tcase_add_test(c, truncated_at_every_byte);
	tcase_add_test(c, depth_of_a_frame);
	tcase_add_test(c, error_arrays);
	tcase_add_test(c, written_and_read);
	tcase_add_test(c, limits);
	return run_tests("msg", c);
}
