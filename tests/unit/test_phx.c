/* SPDX-License-Identifier: MIT */
/* Phoenix text frames: daemon/realtime/phx.h. */
#include "tests/unit/test_phx_util.h"

/* ---- envelope ---- */

static const struct {
	const char *json, *join_ref, *ref;
} refs[] = {
	{ "[null,null,\"t\",\"e\",1]", NULL, NULL },
	{ "[\"7\",\"8\",\"t\",\"e\",1]", "7", "8" },
	{ "[\"\",\"x y\",\"t\",\"e\",1]", "", "x y" },
	{ "[7,18446744073709551615,\"t\",\"e\",1]", "7", "18446744073709551615" },
	{ "[-9223372036854775808,0,\"t\",\"e\",1]", "-9223372036854775808", "0" },
	{ "[null,\"1\",\"t\",\"e\",1,{\"more\":[]},2]", NULL, "1" },
	{ " [ null , \"1\" , \"t\" , \"e\" , 1 ] ", NULL, "1" },
};

START_TEST(test_refs_vsn2)
{
	ck_assert_int_eq(text2(refs[_i].json), 0);
	ck_assert_int_eq(msg.kind, PHX_MESSAGE);
	str_is(msg.join_ref, refs[_i].join_ref);
	str_is(msg.ref, refs[_i].ref);
	str_is(msg.topic, "t");
	str_is(msg.event, "e");
	json_is(msg.payload, "1");
	ck_assert(!msg.undecodable);
}
END_TEST

START_TEST(test_vsn1)
{
	ck_assert_int_eq(text1("{\"ref\":\"3\",\"event\":\"phx_close\",\"topic\":\"realtime:a\","
			       "\"payload\":{}}"),
			 0);
	ck_assert_int_eq(msg.kind, PHX_MESSAGE);
	str_is(msg.join_ref, NULL);
	str_is(msg.ref, "3");
	str_is(msg.topic, "realtime:a");
	str_is(msg.event, "phx_close");
	json_is(msg.payload, "{}");

	ck_assert_int_eq(text1("{\"payload\":null,\"topic\":\"t\",\"event\":\"e\",\"join_ref\":4,"
			       "\"other\":[1]}"),
			 0);
	str_is(msg.join_ref, "4");
	str_is(msg.ref, NULL);
	json_is(msg.payload, "null");
}
END_TEST

static const struct {
	enum phx_vsn vsn;
	const char *text;
} no_frames[] = {
	{ PHX_VSN_2, "" },
	{ PHX_VSN_2, "nope" },
	{ PHX_VSN_2, "null" },
	{ PHX_VSN_2, "[]" },
	{ PHX_VSN_2, "{}" },
	{ PHX_VSN_2, "[null,null,\"t\",\"e\"]" },
	{ PHX_VSN_2, "[null,null,\"t\",5,{}]" },
	{ PHX_VSN_2, "[null,null,null,\"e\",{}]" },
	{ PHX_VSN_2, "[true,null,\"t\",\"e\",{}]" },
	{ PHX_VSN_2, "[null,1.5,\"t\",\"e\",{}]" },
	{ PHX_VSN_2, "[null,[],\"t\",\"e\",{}]" },
	{ PHX_VSN_2, "{\"topic\":\"t\",\"event\":\"e\",\"payload\":{},\"ref\":null}" },
	{ PHX_VSN_2, "[null,\"1\",\"t\",\"phx_reply\",{}]" },
	{ PHX_VSN_2, "[null,\"1\",\"t\",\"phx_reply\",\"ok\"]" },
	{ PHX_VSN_2, "[null,\"1\",\"t\",\"phx_reply\",{\"status\":1,\"response\":{}}]" },
	/* The envelope itself is broken, or the payload's end is not where it must be. */
	{ PHX_VSN_2, "[null,null,\"t\",\"broadcast\",{nope}" },
	{ PHX_VSN_2, "[null,nope,\"t\",\"broadcast\",{}]" },
	{ PHX_VSN_2, "[null,null,\"t\",\"phx_reply\",{nope}]" },
	{ PHX_VSN_2, "]]]]" },
	{ PHX_VSN_2, "\"[null,null,1,2,]" },
	{ PHX_VSN_2, "[\"\\" },
	{ PHX_VSN_1, "[null,null,\"t\",\"e\",{}]" },
	{ PHX_VSN_1, "{}" },
	{ PHX_VSN_1, "{\"topic\":\"t\",\"event\":\"e\",\"ref\":null}" },
	{ PHX_VSN_1, "{\"topic\":\"t\",\"payload\":{},\"ref\":null}" },
	{ PHX_VSN_1, "{\"event\":\"e\",\"payload\":{},\"ref\":null}" },
	{ PHX_VSN_1, "{\"event\":\"broadcast\",\"payload\":{nope}}" },
	{ PHX_VSN_1, "{\"payload\":" },
};

START_TEST(test_no_frame)
{
	const char *text = no_frames[_i].text;

	ck_assert_int_eq(decode(no_frames[_i].vsn, false, text, strlen(text)), PHX_E_MALFORMED);
	ck_assert_ptr_nonnull(why);
	ck_assert_uint_gt(strlen(why), 5);
}
END_TEST

START_TEST(test_reply)
{
	ck_assert_int_eq(text2("[\"1\",\"2\",\"t\",\"phx_reply\",{\"status\":\"ok\",\"response\":"
			       "{\"postgres_changes\":[]}}]"),
			 0);
	ck_assert_int_eq(msg.kind, PHX_REPLY);
	ck_assert(msg.ok);
	str_is(msg.join_ref, "1");
	str_is(msg.ref, "2");
	json_is(msg.payload, "{\"postgres_changes\":[]}");

	/* The response may be a bare text, and be missing. */
	ck_assert_int_eq(text2("[\"1\",\"2\",\"t\",\"phx_reply\",{\"response\":"
			       "\"payload_size_exceeded\",\"status\":\"error\"}]"),
			 0);
	ck_assert(!msg.ok);
	json_is(msg.payload, "\"payload_size_exceeded\"");
	ck_assert_int_eq(text2("[\"1\",\"2\",\"t\",\"phx_reply\",{\"status\":\"ok\"}]"), 0);
	ck_assert(msg.ok);
	json_is(msg.payload, NULL);
}
END_TEST

/* ---- broadcasts as text ---- */

static const struct {
	const char *phoenix, *user_event, *payload, *meta, *extra;
} broadcasts[] = {
	{ "{\"event\":\"cursor\",\"payload\":{\"x\":1,\"y\":2},\"type\":\"broadcast\"}", "cursor",
	  "{\"x\":1,\"y\":2}", NULL, NULL },
	{ "{\"event\":\"cursor\",\"extra\":[1,\"two\"],\"id\":\"abc\",\"payload\":{\"x\":1},"
	  "\"type\":\"broadcast\"}",
	  "cursor", "{\"x\":1}", NULL, "{\"extra\":[1,\"two\"],\"id\":\"abc\"}" },
	{ "{\"event\":\"nopayload\",\"type\":\"broadcast\"}", "nopayload", "{}", NULL, NULL },
	{ "{\"event\":\"notype\",\"payload\":\"a string\"}", "notype", "\"a string\"", NULL, NULL },
	{ "{\"event\":\"\",\"payload\":null}", "", "null", NULL, NULL },
	{ "{\"event\":\"e\",\"payload\":1,\"type\":\"other\"}", "e", "1", NULL,
	  "{\"type\":\"other\"}" },
	{ "{\"event\":\"e\",\"payload\":1,\"type\":null}", "e", "1", NULL, "{\"type\":null}" },
	{ "{\"event\":\"e\",\"payload\":1,\"meta\":{\"id\":\"u\",\"replayed\":true}}", "e", "1",
	  "{\"id\":\"u\",\"replayed\":true}", NULL },
	{ "{\"event\":\"e\",\"payload\":1,\"meta\":\"text\",\"a\":2}", "e", "1", NULL,
	  "{\"meta\":\"text\",\"a\":2}" },
	{ "{\"event\":\"a\",\"event\":\"b\",\"payload\":1,\"payload\":2}", "b", "2", NULL, NULL },
	/* No user event: the whole as it came. */
	{ "{}", NULL, "{}", NULL, NULL },
	{ "{\"event\":5,\"payload\":1}", NULL, "{\"event\":5,\"payload\":1}", NULL, NULL },
	{ "{\"payload\":{\"event\":\"e\"}}", NULL, "{\"payload\":{\"event\":\"e\"}}", NULL, NULL },
	{ "\"text\"", NULL, "\"text\"", NULL, NULL },
	{ "null", NULL, "null", NULL, NULL },
	{ "[\"event\",\"e\"]", NULL, "[\"event\",\"e\"]", NULL, NULL },
};

static void check_broadcast(int i)
{
	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	str_is(msg.topic, "realtime:a");
	str_is(msg.event, "broadcast");
	str_is(msg.user_event, broadcasts[i].user_event);
	json_is(msg.payload, broadcasts[i].payload);
	json_is(msg.meta, broadcasts[i].meta);
	json_is(msg.extra, broadcasts[i].extra);
	ck_assert(!msg.undecodable);
}

START_TEST(test_broadcast_text)
{
	char json[512];

	snprintf(json, sizeof(json), "[null,null,\"realtime:a\",\"broadcast\",%s]",
		 broadcasts[_i].phoenix);
	ck_assert_int_eq(text2(json), 0);
	check_broadcast(_i);
	snprintf(json, sizeof(json),
		 "{\"topic\":\"realtime:a\",\"event\":\"broadcast\",\"ref\":null,\"payload\":%s}",
		 broadcasts[_i].phoenix);
	ck_assert_int_eq(text1(json), 0);
	check_broadcast(_i);
}
END_TEST

START_TEST(test_many_extra_keys)
{
	enum { N = 70000 }; /* over 16 bits */
	struct rtbp_buf b = RTBP_BUF_INIT;
	struct rtbp_iter it;
	char key[32];

	rtbp_buf_text(&b, "[null,null,\"t\",\"broadcast\",{\"event\":\"e\"");
	for (int i = 0; i < N; i++) {
		snprintf(key, sizeof(key), ",\"k%d\":%d", i, i);
		rtbp_buf_text(&b, key);
	}
	rtbp_buf_text(&b, "}]");
	ck_assert_int_eq(decode(PHX_VSN_2, false, b.data, b.size), 0);
	ck_assert(rtbp_iter_map(msg.extra, &it));
	ck_assert_uint_eq(it.left, 2 * N);
	json_is(rtbp_find(msg.extra, "k69999", 6), "69999");
	rtbp_buf_done(&b);
}
END_TEST

/* ---- what other users may spoil ---- */

static void put_nested(struct rtbp_buf *b, unsigned depth)
{
	for (unsigned i = 0; i < depth; i++)
		rtbp_buf_byte(b, '[');
	for (unsigned i = 0; i < depth; i++)
		rtbp_buf_byte(b, ']');
}

static int decode_nested(const char *before, unsigned depth, const char *after, enum phx_vsn vsn)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	int r;

	rtbp_buf_text(&b, before);
	put_nested(&b, depth);
	rtbp_buf_text(&b, after);
	r = decode(vsn, false, b.data, b.size);
	rtbp_buf_done(&b);
	return r;
}

START_TEST(test_depth)
{
	static const char v2[] = "[null,null,\"realtime:a\",\"broadcast\",{\"event\":\"e\","
				 "\"payload\":";
	static const char changes[] = "[null,null,\"t\",\"postgres_changes\",{\"data\":"
				      "{\"record\":{\"c\":";
	struct rtbp_str s;

	ck_assert_int_eq(decode_nested(v2, RTBP_JSON_DEPTH, "}]", PHX_VSN_2), 0);
	str_is(msg.user_event, "e");
	ck_assert_int_eq(decode_nested(changes, RTBP_JSON_DEPTH, "}}}]", PHX_VSN_2), 0);
	ck_assert_int_eq(msg.kind, PHX_MESSAGE);

	/* Deeper: what can be told of it. */
	ck_assert_int_eq(decode_nested(v2, 1000, "}]", PHX_VSN_2), 0);
	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	ck_assert(msg.undecodable);
	str_is(msg.topic, "realtime:a");
	str_is(msg.user_event, NULL);
	ck_assert(rtbp_get_bin(msg.payload, &s));
	ck_assert_uint_eq(s.size, strlen("{\"event\":\"e\",\"payload\":}") + 2000);
	ck_assert(s.p[0] == '{' && s.p[s.size - 1] == '}');

	ck_assert_int_eq(decode_nested(changes, 1000, "}}}]", PHX_VSN_2), 0);
	ck_assert_int_eq(msg.kind, PHX_MESSAGE);
	ck_assert(msg.undecodable);
	str_is(msg.event, "postgres_changes");

	ck_assert_int_eq(decode_nested("[null,\"1\",\"t\",\"phx_reply\",{\"status\":\"ok\","
				       "\"response\":",
				       1000, "}]", PHX_VSN_2),
			 PHX_E_MALFORMED);
}
END_TEST

/* On vsn 1 the server splices a kind 3 payload into its own JSON, unread. */
START_TEST(test_spliced)
{
	static const char payload[] = "{\"event\":\"badjson\",\"payload\":{nope,\"type\":"
				      "\"broadcast\"}";
	char json[256];

	snprintf(json, sizeof(json),
		 "{\"ref\":null,\"event\":\"broadcast\",\"topic\":\"realtime:\\\"payload\\\":\","
		 "\"payload\":%s}",
		 payload);
	ck_assert_int_eq(text1(json), 0);
	ck_assert_int_eq(msg.kind, PHX_BROADCAST);
	ck_assert(msg.undecodable);
	str_is(msg.topic, "realtime:\"payload\":");
	str_is(msg.user_event, NULL);
	bin_is(msg.payload, payload, strlen(payload));
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_loop_test(tc, test_refs_vsn2, 0, sizeof(refs) / sizeof(*refs));
	tcase_add_test(tc, test_vsn1);
	tcase_add_loop_test(tc, test_no_frame, 0, sizeof(no_frames) / sizeof(*no_frames));
	tcase_add_test(tc, test_reply);
	tcase_add_loop_test(tc, test_broadcast_text, 0, sizeof(broadcasts) / sizeof(*broadcasts));
	tcase_add_test(tc, test_many_extra_keys);
	tcase_add_test(tc, test_depth);
	tcase_add_test(tc, test_spliced);
}

int main(void)
{
	return run("phx", add);
}
