/* SPDX-License-Identifier: MIT */
/* Phoenix binary frames, cut frames, and the way out: daemon/realtime/phx.h. */
#include "tests/unit/test_phx_util.h"

/* ---- binary frames ---- */

#define TOPIC "realtime:room1"

START_TEST(test_kind4)
{
	ck_assert_int_eq(BINARY("\x04\x0e\x03\x00\x01" TOPIC "msg{\"a\":1}"), 0);
	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	str_is(msg.join_ref, NULL);
	str_is(msg.ref, NULL);
	str_is(msg.topic, TOPIC);
	str_is(msg.event, "broadcast");
	str_is(msg.user_event, "msg");
	json_is(msg.payload, "{\"a\":1}");
	json_is(msg.meta, NULL);
	json_is(msg.extra, NULL);
	ck_assert(!msg.undecodable);

	ck_assert_int_eq(BINARY("\x04\x0e\x03\x0a\x01" TOPIC "msg{\"id\":\"u\"}[1,2]"), 0);
	json_is(msg.meta, "{\"id\":\"u\"}");
	json_is(msg.payload, "[1,2]");

	ck_assert_int_eq(BINARY("\x04\x0e\x02\x00\x00" TOPIC "bb\x00\x01\x02\xfd\xfe\xff"), 0);
	str_is(msg.user_event, "bb");
	bin_is(msg.payload, "\x00\x01\x02\xfd\xfe\xff", 6);
	ck_assert(!msg.undecodable);

	/* Nothing but a topic. */
	ck_assert_int_eq(BINARY("\x04\x0e\x00\x00\x00" TOPIC), 0);
	str_is(msg.user_event, "");
	bin_is(msg.payload, "", 0);
	/* Any other encoding is JSON. */
	ck_assert_int_eq(BINARY("\x04\x0e\x01\x00\x07" TOPIC "e5"), 0);
	json_is(msg.payload, "5");
}
END_TEST

START_TEST(test_kind4_spoilt)
{
	ck_assert_int_eq(BINARY("\x04\x0e\x07\x00\x01" TOPIC "badjson{nope"), 0);
	str_is(msg.user_event, "badjson");
	ck_assert(msg.undecodable);
	bin_is(msg.payload, "{nope", 5);

	ck_assert_int_eq(BINARY("\x04\x0e\x01\x00\x01" TOPIC "e"), 0);
	ck_assert(msg.undecodable);
	bin_is(msg.payload, "", 0);

	ck_assert_int_eq(BINARY("\x04\x0e\x02\x00\x01" TOPIC "\xc3("
				"{}"),
			 0);
	str_is(msg.user_event, NULL);
	ck_assert(msg.undecodable);
	bin_is(msg.payload, "{}", 2);

	/* Metadata that is no JSON, or no map, costs the metadata only. */
	ck_assert_int_eq(BINARY("\x04\x0e\x01\x02\x01" TOPIC "e{x5"), 0);
	json_is(msg.meta, NULL);
	json_is(msg.payload, "5");
	ck_assert_int_eq(BINARY("\x04\x0e\x01\x02\x01" TOPIC "e[]5"), 0);
	json_is(msg.meta, NULL);

	ck_assert_int_eq(BINARY("\x04\x02\x01\x00\x01\xc3(e5"), PHX_E_MALFORMED);
}
END_TEST

START_TEST(test_other_kinds)
{
	/* Kind 0 has three lengths in this direction. */
	ck_assert_int_eq(BINARY("\x00\x01\x0e\x04"
				"1" TOPIC "ping\x01\x02"),
			 0);
	ck_assert_int_eq(msg.kind, PHX_MESSAGE);
	str_is(msg.join_ref, "1");
	str_is(msg.ref, NULL);
	str_is(msg.topic, TOPIC);
	str_is(msg.event, "ping");
	bin_is(msg.payload, "\x01\x02", 2);
	ck_assert_int_eq(BINARY("\x00\x00\x0e\x09" TOPIC "broadcast!"), 0);
	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	str_is(msg.join_ref, NULL);
	str_is(msg.user_event, NULL);
	bin_is(msg.payload, "!", 1);

	ck_assert_int_eq(BINARY("\x01\x01\x02\x0e\x02"
				"112" TOPIC "ok{}"),
			 0);
	ck_assert_int_eq(msg.kind, PHX_REPLY);
	str_is(msg.join_ref, "1");
	str_is(msg.ref, "12");
	str_is(msg.event, "phx_reply");
	ck_assert(msg.ok);
	bin_is(msg.payload, "{}", 2);
	ck_assert_int_eq(BINARY("\x01\x00\x00\x0e\x05" TOPIC "error"), 0);
	ck_assert(!msg.ok);
	str_is(msg.ref, NULL);

	ck_assert_int_eq(BINARY("\x02\x0e\x09" TOPIC "broadcastraw!"), 0);
	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	str_is(msg.user_event, NULL);
	bin_is(msg.payload, "raw!", 4);
	ck_assert(!msg.undecodable);
	ck_assert_int_eq(BINARY("\x02\x0e\x02" TOPIC "xyraw!"), 0);
	ck_assert_int_eq(msg.kind, PHX_MESSAGE);
	str_is(msg.event, "xy");

	ck_assert_int_eq(BINARY("\x09\x01\x02\x03"), PHX_E_IGNORED);
	ck_assert_int_eq(BINARY("\x03\x01\x01\x0e\x03\x00\x01"
				"14" TOPIC "msg{\"a\":1}"),
			 PHX_E_IGNORED);
	ck_assert_ptr_nonnull(why);
	ck_assert_int_eq(BINARY(""), PHX_E_MALFORMED);
	ck_assert_int_eq(decode(PHX_VSN_1, true, "\x09", 1), PHX_E_MALFORMED);
}
END_TEST

/* Every frame cut at every byte, in a block of exactly that size. `least`: the header and the
 * strings; a shorter frame is none. */
static void cut_everywhere(const char *bytes, size_t size, size_t least)
{
	for (size_t n = 0; n < size; n++)
		ck_assert_int_eq(decode(PHX_VSN_2, true, bytes, n),
				 n < least ? PHX_E_MALFORMED : 0);
}

#define CUT(bytes, least) cut_everywhere(bytes, sizeof(bytes) - 1, least)

START_TEST(test_truncated)
{
	static const char v2[] = "[\"1\",2,\"t\\u0041\",\"broadcast\",{\"event\":\"e\",\"a\":{}}]";
	static const char v1[] = "{\"topic\":\"t\",\"event\":\"broadcast\",\"payload\":"
				 "{\"event\":\"e\",\"payload\":{}},\"ref\":null}";

	CUT("\x04\x0e\x03\x08\x01" TOPIC "msg{\"i\":\"\"}{\"a\":1}", 5 + 14 + 3 + 8);
	CUT("\x02\x0e\x09" TOPIC "broadcastraw!", 3 + 14 + 9);
	CUT("\x01\x01\x02\x0e\x02"
	    "112" TOPIC "ok{}",
	    5 + 3 + 14 + 2);
	CUT("\x00\x01\x0e\x04"
	    "1" TOPIC "ping\x01\x02",
	    4 + 1 + 14 + 4);
	for (size_t n = 0; n < sizeof(v2) - 1; n++)
		ck_assert_int_eq(decode(PHX_VSN_2, false, v2, n), PHX_E_MALFORMED);
	for (size_t n = 0; n < sizeof(v1) - 1; n++)
		(void)decode(PHX_VSN_1, false, v1, n);
}
END_TEST

/* ---- the way out ---- */

static void out_is(struct rtbp_buf *out, const void *want, size_t size)
{
	ck_assert(rtbp_buf_ok(out));
	ck_assert_msg(out->size == size && !memcmp(out->data, want, size), "%.*s", (int)out->size,
		      (const char *)out->data);
	rtbp_buf_reset(out, 0);
}

#define OUT_IS(text) out_is(&out, text, sizeof(text) - 1)

START_TEST(test_encode)
{
	struct rtbp_buf out = RTBP_BUF_INIT;

	phx_encode(PHX_VSN_2, 1, 26, "realtime:a\"b", 12, "phx_join", "{\"x\":1}", 7, &out);
	OUT_IS("[\"1\",\"26\",\"realtime:a\\\"b\",\"phx_join\",{\"x\":1}]");
	phx_encode(PHX_VSN_2, 0, 18446744073709551615u, "phoenix", 7, "heartbeat", "{}", 2, &out);
	OUT_IS("[null,\"18446744073709551615\",\"phoenix\",\"heartbeat\",{}]");
	phx_encode(PHX_VSN_1, 1, 2, "t", 1, "e", "{}", 2, &out);
	OUT_IS("{\"join_ref\":\"1\",\"ref\":\"2\",\"topic\":\"t\",\"event\":\"e\",\"payload\":{}}");
	phx_encode(PHX_VSN_1, 0, 0, "t", 1, "e", "{}", 2, &out);
	OUT_IS("{\"ref\":null,\"topic\":\"t\",\"event\":\"e\",\"payload\":{}}");
}
END_TEST

static int encode(enum phx_vsn vsn, const struct rtbp_buf *payload, struct rtbp_buf *out,
		  bool *binary)
{
	struct rtbp_json_fault fault;

	return phx_encode_broadcast(vsn, 1, 4, TOPIC, 14, (struct rtbp_str){ "msg", 3 },
				    (struct rtbp_val){ payload->data, payload->size },
				    (struct rtbp_val){ NULL, 0 }, out, binary, &fault);
}

START_TEST(test_encode_broadcast)
{
	struct rtbp_buf out = RTBP_BUF_INIT, payload = RTBP_BUF_INIT;
	bool binary = false;

	rtbp_pack_map(&payload, 1);
	rtbp_pack_text(&payload, "a");
	rtbp_pack_uint(&payload, 1);
	ck_assert_int_eq(encode(PHX_VSN_2, &payload, &out, &binary), 0);
	ck_assert(binary);
	OUT_IS("\x03\x01\x01\x0e\x03\x00\x01"
	       "14" TOPIC "msg{\"a\":1}");
	ck_assert_int_eq(encode(PHX_VSN_1, &payload, &out, &binary), 0);
	ck_assert(!binary);
	OUT_IS("{\"join_ref\":\"1\",\"ref\":\"4\",\"topic\":\"realtime:room1\","
	       "\"event\":\"broadcast\",\"payload\":{\"type\":\"broadcast\",\"event\":\"msg\","
	       "\"payload\":{\"a\":1}}}");

	rtbp_buf_reset(&payload, 0);
	rtbp_pack_bin(&payload, "\x00\xff", 2);
	ck_assert_int_eq(encode(PHX_VSN_2, &payload, &out, &binary), 0);
	OUT_IS("\x03\x01\x01\x0e\x03\x00\x00"
	       "14" TOPIC "msg\x00\xff");
	ck_assert_int_eq(encode(PHX_VSN_1, &payload, &out, &binary), -ENOTSUP);
	rtbp_buf_done(&payload);
	rtbp_buf_done(&out);
}
END_TEST

START_TEST(test_encode_refused)
{
	struct rtbp_buf out = RTBP_BUF_INIT, payload = RTBP_BUF_INIT;
	struct rtbp_json_fault fault;
	char longer[256];
	bool binary;

	rtbp_buf_text(&out, "before");
	rtbp_pack_array(&payload, 2); /* a bin below the top has no JSON */
	rtbp_pack_nil(&payload);
	rtbp_pack_bin(&payload, "x", 1);
	ck_assert_int_eq(encode(PHX_VSN_2, &payload, &out, &binary), RTBP_JSON_E_VALUE);
	ck_assert_uint_eq(out.size, 6);
	ck_assert_int_eq(encode(PHX_VSN_1, &payload, &out, &binary), RTBP_JSON_E_VALUE);
	ck_assert_uint_eq(out.size, 6);

	memset(longer, 'x', sizeof(longer));
	rtbp_buf_reset(&payload, 0);
	rtbp_pack_nil(&payload);
	ck_assert_int_eq(phx_encode_broadcast(PHX_VSN_2, 1, 4, longer, 256,
					      (struct rtbp_str){ "e", 1 },
					      (struct rtbp_val){ payload.data, payload.size },
					      (struct rtbp_val){ NULL, 0 }, &out, &binary, &fault),
			 -EMSGSIZE);
	ck_assert_int_eq(phx_encode_broadcast(PHX_VSN_1, 1, 4, "t", 1,
					      (struct rtbp_str){ longer, 256 },
					      (struct rtbp_val){ payload.data, payload.size },
					      (struct rtbp_val){ NULL, 0 }, &out, &binary, &fault),
			 -EMSGSIZE);
	out.max_bytes = 20;
	ck_assert_int_eq(encode(PHX_VSN_2, &payload, &out, &binary), -EMSGSIZE);
	ck_assert_uint_eq(out.size, 6);
	rtbp_buf_done(&payload);
	rtbp_buf_done(&out);
}
END_TEST

START_TEST(test_ref)
{
	static const char *const bad[] = { "",
					   "0",
					   "01",
					   "-1",
					   "1 ",
					   " 1",
					   "1a",
					   "0x1",
					   "1.0",
					   "18446744073709551616",
					   "99999999999999999999",
					   "111111111111111111111" };
	uint64_t ref = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ck_assert_msg(!phx_ref((struct rtbp_str){ bad[i], strlen(bad[i]) }, &ref), "%s",
			      bad[i]);
	ck_assert(!phx_ref((struct rtbp_str){ NULL, 0 }, &ref));
	ck_assert(phx_ref((struct rtbp_str){ "18446744073709551615", 20 }, &ref));
	ck_assert_uint_eq(ref, UINT64_MAX);
	ck_assert(phx_ref((struct rtbp_str){ "26", 2 }, &ref));
	ck_assert_uint_eq(ref, 26);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_kind4);
	tcase_add_test(tc, test_kind4_spoilt);
	tcase_add_test(tc, test_other_kinds);
	tcase_add_test(tc, test_truncated);
	tcase_add_test(tc, test_encode);
	tcase_add_test(tc, test_encode_broadcast);
	tcase_add_test(tc, test_encode_refused);
	tcase_add_test(tc, test_ref);
}

int main(void)
{
	return run("phx_bytes", add);
}
