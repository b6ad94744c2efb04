/* SPDX-License-Identifier: MIT */
/* daemon/realtime/presence: the fold, its changes, its limits. */
#include "tests/unit/test_presence_util.h"
#include "suite.h"

#define ENTRY(key, ref, state) "{\"key\":\"" key "\",\"ref\":\"" ref "\",\"state\":" state "}"
#define RENAMED(key, prev, ref, state) \
	"{\"key\":\"" key "\",\"prev\":\"" prev "\",\"ref\":\"" ref "\",\"state\":" state "}"
#define A1 ENTRY("a", "1", "{\"n\":1}")
#define B2 ENTRY("b", "2", "{}")

static struct presence *p;

static void setup(void)
{
	p = presence_new(ROOMY);
	ck_assert_ptr_nonnull(p);
}

static void teardown(void)
{
	p = presence_free(p);
	ck_assert_ptr_null(p);
}

START_TEST(test_state_and_diff)
{
	ck_assert(!presence_is_current(p));
	holds(p, 0, "[]");
	UNCHANGED(p);
	ck_assert_int_eq(on_state(p, "{\"a\":{\"metas\":[{\"phx_ref\":\"1\",\"n\":1}]}}"), 0);
	ck_assert(presence_is_current(p));
	CHANGED(p, "[]", "[" A1 "]", "[]");
	holds(p, 1, "[" A1 "]");
	ck_assert_int_eq(on_diff(p, "{\"joins\":{\"b\":{\"metas\":[{\"phx_ref\":\"2\"}]}},"
				    "\"leaves\":{}}"),
			 0);
	CHANGED(p, "[]", "[" B2 "]", "[]");
	holds(p, 2, "[" A1 "," B2 "]");
	/* All about the one who leaves is in the change, whatever the diff says of it. */
	ck_assert_int_eq(on_diff(p, "{\"leaves\":{\"a\":{\"metas\":[{\"phx_ref\":\"1\"}]},"
				    "\"nobody\":{\"metas\":[{\"phx_ref\":\"1\"}]}}}"),
			 0);
	CHANGED(p, "[" A1 "]", "[]", "[]");
	holds(p, 1, "[" B2 "]");
	ck_assert_int_eq(on_diff(p, "{}"), 0);
	UNCHANGED(p);
}
END_TEST

START_TEST(test_update)
{
	on_state(p, "{\"a\":{\"metas\":[{\"phx_ref\":\"1\",\"n\":1},{\"phx_ref\":\"o\"}]}}");
	on_diff(p, "{\"joins\":{\"a\":{\"metas\":[{\"phx_ref\":\"2\",\"phx_ref_prev\":\"1\",\"n\":"
		   "2}]}},"
		   "\"leaves\":{\"a\":{\"metas\":[{\"phx_ref\":\"1\",\"n\":1}]}}}");
	CHANGED(p, "[]", "[]", "[" RENAMED("a", "1", "2", "{\"n\":2}") "]");
	/* Without the leave it is no update: both are there. */
	on_diff(p, "{\"joins\":{\"a\":{\"metas\":[{\"phx_ref\":\"3\",\"phx_ref_prev\":\"2\"}]}}}");
	CHANGED(p, "[]", "[" ENTRY("a", "3", "{}") "]", "[]");
	/* Only one can follow it, and only under the same key. */
	on_diff(p, "{\"joins\":{\"b\":{\"metas\":[{\"phx_ref\":\"7\",\"phx_ref_prev\":\"3\"}]},"
		   "\"a\":{\"metas\":[{\"phx_ref\":\"4\",\"phx_ref_prev\":\"3\"},"
		   "{\"phx_ref\":\"5\",\"phx_ref_prev\":\"3\"},{\"phx_ref\":\"6\",\"phx_ref_prev\":"
		   "5}]}},"
		   "\"leaves\":{\"a\":{\"metas\":[{\"phx_ref\":\"3\"}]}}}");
	CHANGED(p, "[]",
		"[" ENTRY("b", "7", "{}") "," ENTRY("a", "5", "{}") "," ENTRY("a", "6", "{}") "]",
		"[" RENAMED("a", "3", "4", "{}") "]");
	/* Nor when what it names stays with another state. */
	on_diff(p, "{\"joins\":{\"b\":{\"metas\":[{\"phx_ref\":\"7\",\"n\":1},"
		   "{\"phx_ref\":\"8\",\"phx_ref_prev\":\"7\"}]}}}");
	CHANGED(p, "[]", "[" ENTRY("b", "8", "{}") "]",
		"[" RENAMED("b", "7", "7", "{\"n\":1}") "]");
	on_diff(p, "{\"leaves\":{\"b\":{\"metas\":[{\"phx_ref\":\"8\"}]}}}");
	CHANGED(p, "[" ENTRY("b", "8", "{}") "]", "[]", "[]");
	/* Another state under the same ref. */
	on_diff(p, "{\"joins\":{\"b\":{\"metas\":[{\"phx_ref\":\"7\",\"n\":7}]}}}");
	CHANGED(p, "[]", "[]", "[" RENAMED("b", "7", "7", "{\"n\":7}") "]");
	/* The same state again. */
	on_diff(p, "{\"joins\":{\"b\":{\"metas\":[{\"phx_ref\":\"7\",\"phx_ref_prev\":\"2\",\"n\":"
		   "7}]}}}");
	UNCHANGED(p);
	/* Joins are applied before leaves. */
	on_diff(p, "{\"leaves\":{\"b\":{\"metas\":[{\"phx_ref\":\"7\"},{\"phx_ref\":\"8\"}]}},"
		   "\"joins\":{\"b\":{\"metas\":[{\"phx_ref\":\"8\"}]}}}");
	CHANGED(p, "[" ENTRY("b", "7", "{\"n\":7}") "]", "[]", "[]");
}
END_TEST

START_TEST(test_waiting)
{
	/* Diffs wait; what they say together with the state is one change. */
	on_diff(p, "{\"joins\":{\"a\":{\"metas\":[{\"phx_ref\":\"1\",\"n\":1}]}}}");
	on_diff(p, "{\"leaves\":{\"gone\":{\"metas\":[{\"phx_ref\":\"g\"}]}}}");
	UNCHANGED(p);
	ck_assert(!presence_is_current(p));
	on_state(p, "{\"gone\":{\"metas\":[{\"phx_ref\":\"g\"}]}}");
	CHANGED(p, "[]", "[" A1 "]", "[]");
	holds(p, 1, "[" A1 "]");
	/* A rejoin: what is held stays until the new state. */
	presence_joining(p);
	ck_assert(!presence_is_current(p));
	UNCHANGED(p);
	on_diff(p, "{\"joins\":{\"c\":{\"metas\":[{\"phx_ref\":\"3\"}]}}}");
	holds(p, 1, "[" A1 "]");
	/* Yet another one: the next state knows what the diff said. */
	presence_joining(p);
	on_diff(p, "{\"joins\":{\"b\":{\"metas\":[{\"phx_ref\":\"2\"}]}}}");
	on_state(p, "{\"a\":{\"metas\":[{\"phx_ref\":\"4\",\"phx_ref_prev\":\"1\"}]}}");
	CHANGED(p, "[]", "[" B2 "]", "[" RENAMED("a", "1", "4", "{}") "]");
	/* The held state said again, and a ref with another state. */
	presence_joining(p);
	on_state(p, "{\"a\":{\"metas\":[{\"phx_ref\":\"4\"}]},"
		    "\"b\":{\"metas\":[{\"phx_ref\":\"2\",\"n\":0}]}}");
	CHANGED(p, "[]", "[]", "[" RENAMED("b", "2", "2", "{\"n\":0}") "]");
	presence_joining(p);
	on_state(p, "{}");
	CHANGED(p, "[" ENTRY("a", "4", "{}") "," ENTRY("b", "2", "{\"n\":0}") "]", "[]", "[]");
	holds(p, 0, "[]");
}
END_TEST

START_TEST(test_shapes)
{
	static const char *const bad_states[] = { "[]", "null", "7", "\"x\"" };
	static const char *const bad_diffs[] = { "[]", "null", "{\"joins\":[]}",
						 "{\"leaves\":null}",
						 "{\"joins\":{},\"leaves\":1}" };

	for (size_t i = 0; i < sizeof(bad_diffs) / sizeof(*bad_diffs); i++)
		ck_assert_int_eq(on_diff(p, bad_diffs[i]), PRESENCE_E_MALFORMED);
	ck_assert_int_eq(on_state(p, "[]"), PRESENCE_E_MALFORMED);
	ck_assert(!presence_is_current(p));
	ck_assert_int_eq(on_state(p,
				  "{\"a\":{\"metas\":[1,{},{\"phx_ref\":7},{\"phx_ref\":null},"
				  "{\"phx_ref\":\"rtbridge:x\"},{\"phx_ref\":\"1\",\"n\":1},[]]},"
				  "\"b\":{\"metas\":{\"phx_ref\":\"1\"}},\"c\":{},\"d\":null,"
				  "\"e\":[{\"phx_ref\":\"1\"}],\"f\":{\"metas\":[]}}"),
			 0);
	CHANGED(p, "[]", "[" A1 "]", "[]");
	for (size_t i = 0; i < sizeof(bad_states) / sizeof(*bad_states); i++) {
		ck_assert_int_eq(on_state(p, bad_states[i]), PRESENCE_E_MALFORMED);
		UNCHANGED(p);
	}
	for (size_t i = 0; i < sizeof(bad_diffs) / sizeof(*bad_diffs); i++)
		ck_assert_int_eq(on_diff(p, bad_diffs[i]), PRESENCE_E_MALFORMED);
	ck_assert(presence_is_current(p));
	holds(p, 1, "[" A1 "]");
	/* Of equal refs the last one counts. */
	on_state(p, "{\"\":{\"metas\":[{\"phx_ref\":\"\",\"n\":1},{\"phx_ref\":\"\",\"n\":2}]}}");
	holds(p, 1, "[" ENTRY("", "", "{\"n\":2}") "]");
	on_diff(p, "{\"joins\":{\"\":{\"metas\":[{\"phx_ref\":\"\",\"n\":3},{\"phx_ref\":\"\","
		   "\"n\":4}]}}}");
	CHANGED(p, "[]", "[]", "[" RENAMED("", "", "", "{\"n\":4}") "]");
}
END_TEST

#define BRIDGE(ref, members) "\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"" ref "\"," members "}]}"
#define GONE(ref)            "{\"leaves\":{\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"" ref "\"}]}}}"
#define MEMBER(key, state)   ENTRY(key, "rtbridge:h", state)
#define MOVED(key, state)    RENAMED(key, "rtbridge:h", "rtbridge:h", state)

START_TEST(test_members)
{
	on_state(p, "{" BRIDGE("1", "\"members\":{\"x\":{\"n\":1},\"y\":{},\"odd\":7}") "}");
	CHANGED(p, "[]", "[" MEMBER("x", "{\"n\":1}") "," MEMBER("y", "{}") "]", "[]");
	holds(p, 2, "[" MEMBER("x", "{\"n\":1}") "," MEMBER("y", "{}") "]");
	/* An update of the one meta says only what is another one in it. */
	on_diff(p, "{\"joins\":{" BRIDGE("2", "\"phx_ref_prev\":\"1\",\"members\":{\"z\":{},\"x\":"
					      "{\"n\":2}}") "},"
							    "\"leaves\":{" BRIDGE(
								    "1", "\"members\":{}") "}}");
	CHANGED(p, "[" MEMBER("y", "{}") "]", "[" MEMBER("z", "{}") "]",
		"[" MOVED("x", "{\"n\":2}") "]");
	/* The successor of a join counts at once; who is not in it is there as long as the old one.
	 */
	on_diff(p, "{\"joins\":{" BRIDGE("3", "\"members\":{\"x\":{\"n\":3},\"y\":{}}") "}}");
	CHANGED(p, "[]", "[" MEMBER("y", "{}") "]", "[" MOVED("x", "{\"n\":3}") "]");
	on_diff(p, GONE("2"));
	CHANGED(p, "[" MEMBER("z", "{}") "]", "[]", "[]");
	/* When the last that names somebody leaves, what the one before said is shown again. */
	on_diff(p, "{\"joins\":{" BRIDGE("4", "\"members\":{\"x\":{},\"z\":{}}") "}}");
	CHANGED(p, "[]", "[" MEMBER("z", "{}") "]", "[" MOVED("x", "{}") "]");
	on_diff(p, GONE("4"));
	CHANGED(p, "[" MEMBER("z", "{}") "]", "[]", "[" MOVED("x", "{\"n\":3}") "]");
	on_diff(p, GONE("3"));
	CHANGED(p, "[" MEMBER("x", "{\"n\":3}") "," MEMBER("y", "{}") "]", "[]", "[]");
	holds(p, 0, "[]");
}
END_TEST

/* A stranger under the bridge's key hides nobody: neither with no members nor with others, before
 * or after the bridge, in a diff or in a state. */
START_TEST(test_stranger)
{
	static const char both[] = "[" MEMBER("x", "{\"n\":1}") "," MEMBER("y", "{}") "]";

	on_state(p, "{\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"s\",\"members\":{}},"
		    "{\"phx_ref\":\"1\",\"members\":{\"x\":{\"n\":1},\"y\":{}}},"
		    "{\"phx_ref\":\"t\",\"members\":{}}]}}");
	holds(p, 2, both);
	on_diff(p, "{\"joins\":{" BRIDGE("u", "\"members\":{}") "}}");
	UNCHANGED(p);
	/* Nor by naming one and showing nothing of it, or by following the bridge's meta. */
	on_diff(p, "{\"joins\":{" BRIDGE(
			   "v", "\"phx_ref_prev\":\"1\",\"members\":{\"x\":null,\"y\":7}") "}}");
	UNCHANGED(p);
	/* He adds: members, and what is none. */
	on_diff(p, "{\"joins\":{" BRIDGE("w", "\"members\":{\"m\":{}}") "}}");
	CHANGED(p, "[]", "[" MEMBER("m", "{}") "]", "[]");
	on_diff(p, "{\"joins\":{" BRIDGE("e", "\"members\":[]") "}}");
	CHANGED(p, "[]", "[" ENTRY("rtbridge:h", "e", "{\"members\":[]}") "]", "[]");
	/* He contradicts, until the bridge speaks again. */
	on_diff(p, "{\"joins\":{" BRIDGE("c", "\"members\":{\"x\":{\"n\":0}}") "}}");
	CHANGED(p, "[]", "[]", "[" MOVED("x", "{\"n\":0}") "]");
	on_diff(p, "{\"joins\":{" BRIDGE(
			   "2", "\"members\":{\"x\":{\"n\":1},\"y\":{}}") "},"
									  "\"leaves\":{" BRIDGE(
										  "1",
										  "\"n\":0") "}}");
	CHANGED(p, "[]", "[]", "[" MOVED("x", "{\"n\":1}") "]");
	/* He goes, and the bridge is as it was. */
	on_diff(p, "{\"leaves\":{\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"s\"},{\"phx_ref\":"
		   "\"t\"},{\"phx_ref\":\"u\"},{\"phx_ref\":\"v\"},{\"phx_ref\":\"w\"},{\"phx_"
		   "ref\":\"e\"},{\"phx_ref\":\"c\"}]}}}");
	CHANGED(p, "[" MEMBER("m", "{}") "," ENTRY("rtbridge:h", "e", "{\"members\":[]}") "]", "[]",
		"[]");
	holds(p, 2, both);
	/* In a state what is held keeps its place, wherever the server names it. */
	presence_joining(p);
	on_state(p, "{\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"s\",\"members\":{\"y\":{\"n\":0}}},"
		    "{\"phx_ref\":\"2\",\"members\":{\"x\":{\"n\":1},\"y\":{}}}]}}");
	CHANGED(p, "[]", "[]", "[" MOVED("y", "{\"n\":0}") "]");
}
END_TEST

START_TEST(test_members_after_rejoin)
{
	on_state(p, "{" BRIDGE("1", "\"members\":{\"x\":{\"n\":1},\"y\":{}}") "}");
	presence_joining(p);
	/* The server names the successor first; what came last counts all the same. */
	on_state(p, "{\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"2\",\"members\":{\"x\":{\"n\":2}}},"
		    "{\"phx_ref\":\"1\",\"members\":{\"x\":{\"n\":1},\"y\":{}}}]}}");
	CHANGED(p, "[]", "[]", "[" MOVED("x", "{\"n\":2}") "]");
	presence_joining(p);
	on_state(p, "{" BRIDGE("3", "\"members\":{\"x\":{\"n\":2},\"y\":{}}") "}");
	UNCHANGED(p);
	/* No state under the same ref is passed over, either. */
	on_state(p, "{" BRIDGE("3", "\"members\":{\"x\":{}}") "}");
	CHANGED(p, "[" MEMBER("y", "{}") "]", "[]", "[" MOVED("x", "{}") "]");
	/* It keeps its place with that: the one behind it still says more. */
	on_diff(p, "{\"joins\":{" BRIDGE("4", "\"members\":{\"x\":{\"n\":4}}") "}}");
	on_state(p, "{\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"4\",\"members\":{\"x\":{\"n\":4}}},"
		    "{\"phx_ref\":\"3\",\"members\":{\"x\":{\"n\":3},\"z\":{}}}]}}");
	CHANGED(p, "[]", "[" MEMBER("z", "{}") "]", "[]");
	on_diff(p, GONE("4"));
	CHANGED(p, "[]", "[]", "[" MOVED("x", "{\"n\":3}") "]");
	/* A join takes a place anew. */
	on_diff(p, "{\"joins\":{" BRIDGE("5", "\"members\":{\"x\":{\"n\":5}}") "}}");
	on_diff(p, "{\"joins\":{" BRIDGE("3", "\"members\":{\"x\":{\"n\":3},\"z\":{}}") "}}");
	CHANGED(p, "[]", "[]", "[" MOVED("x", "{\"n\":3}") "]");
}
END_TEST

START_TEST(test_bridge_as_it_stands)
{
	on_state(p, "{" BRIDGE("1", "\"members\":[]") "}");
	CHANGED(p, "[]", "[" ENTRY("rtbridge:h", "1", "{\"members\":[]}") "]", "[]");
	on_diff(p, "{\"joins\":{" BRIDGE(
			   "2", "\"phx_ref_prev\":\"1\",\"n\":1") "},"
								  "\"leaves\":{" BRIDGE(
									  "1", "\"n\":1") "}}");
	CHANGED(p, "[]", "[]", "[" RENAMED("rtbridge:h", "1", "2", "{\"n\":1}") "]");
	on_diff(p, "{\"joins\":{" BRIDGE("2", "\"n\":2") "}}");
	CHANGED(p, "[]", "[]", "[" RENAMED("rtbridge:h", "2", "2", "{\"n\":2}") "]");
	/* All of them, beside the members, in whichever order they came. */
	on_diff(p,
		"{\"joins\":{" BRIDGE("3", "\"phx_ref_prev\":\"2\",\"members\":{\"x\":{}}") "}}");
	CHANGED(p, "[]", "[" MEMBER("x", "{}") "]", "[]");
	/* A phx_ref_prev cannot name a member. */
	on_diff(p, "{\"joins\":{" BRIDGE("4", "\"phx_ref_prev\":\"rtbridge:h\"") "}}");
	CHANGED(p, "[]", "[" ENTRY("rtbridge:h", "4", "{}") "]", "[]");
	holds(p, 3,
	      "[" ENTRY("rtbridge:h", "2", "{\"n\":2}") "," ENTRY("rtbridge:h", "4",
								  "{}") "," MEMBER("x", "{}") "]");
	/* One ref can be one thing after the other. */
	on_diff(p, "{\"joins\":{" BRIDGE("4", "\"members\":{\"y\":{}}") "}}");
	CHANGED(p, "[" ENTRY("rtbridge:h", "4", "{}") "]", "[" MEMBER("y", "{}") "]", "[]");
	on_diff(p,
		"{\"joins\":{" BRIDGE("4", "\"phx_ref_prev\":\"2\"") "},"
								     "\"leaves\":{" BRIDGE(
									     "2", "\"n\":1") "}}");
	CHANGED(p, "[" MEMBER("y", "{}") "]", "[]", "[" RENAMED("rtbridge:h", "2", "4", "{}") "]");
}
END_TEST

/* The prefix alone decides, ordinary keys may have members, and names are what clients may use. */
START_TEST(test_member_names)
{
	static const char long_key[] =
		"{\"rtbridge:h\":{\"metas\":[{\"phx_ref\":\"1\",\"members\":{\"%0256d\":{},"
		"\"%0255d\":{}}}]}}";
	char json[sizeof(long_key) + 512], entry[512];

	on_state(p, "{\"rtbridge\":{\"metas\":[{\"phx_ref\":\"1\",\"members\":{\"x\":{}}}]}}");
	holds(p, 1, "[" ENTRY("rtbridge", "1", "{\"members\":{\"x\":{}}}") "]");
	on_state(p, "{\"rtbridge:\":{\"metas\":[{\"phx_ref\":\"1\",\"members\":{\"\":{},\"x\":{},"
		    "\"a\\u0000\":{},\"\\n\":{},\"\\u0085\":{},\"\\u00a0\":{},\"rtbridge:\":{},"
		    "\"rtbridge:x\":{},\"rtbridge\":{}}}]}}");
	holds(p, 3,
	      "[" ENTRY("x", "rtbridge:", "{}") "," ENTRY("\u00a0", "rtbridge:", "{}") "," ENTRY(
		      "rtbridge", "rtbridge:", "{}") "]");
	snprintf(json, sizeof(json), long_key, 1, 2);
	snprintf(entry, sizeof(entry), "[" MEMBER("%0255d", "{}") "]", 2);
	on_state(p, json);
	holds(p, 1, entry);
}
END_TEST

/* A member under the key and with the state of somebody else is not the same entry. */
START_TEST(test_names_apart)
{
	on_state(p, "{\"x\":{\"metas\":[{\"phx_ref\":\"1\"},{\"phx_ref\":\"rtbridge:h\"}]}," BRIDGE(
			    "1", "\"members\":{\"x\":{}}") "}");
	holds(p, 2, "[" ENTRY("x", "1", "{}") "," MEMBER("x", "{}") "]");
}
END_TEST

/* Equal keys cannot come from JSON; in MessagePack the last one counts. */
START_TEST(test_equal_member_keys)
{
	struct rtbp_buf b = RTBP_BUF_INIT;

	rtbp_pack_map(&b, 1);
	rtbp_pack_text(&b, "rtbridge:h");
	rtbp_pack_map(&b, 1);
	rtbp_pack_text(&b, "metas");
	rtbp_pack_array(&b, 1);
	rtbp_pack_map(&b, 2);
	rtbp_pack_text(&b, "phx_ref");
	rtbp_pack_text(&b, "1");
	rtbp_pack_text(&b, "members");
	rtbp_pack_map(&b, 41);
	for (int i = 0; i < 40; i++) {
		rtbp_pack_text(&b, "x");
		rtbp_pack_map(&b, 1);
		rtbp_pack_text(&b, "n");
		rtbp_pack_int(&b, i);
	}
	rtbp_pack_int(&b, 1);
	rtbp_pack_map(&b, 0);
	ck_assert_int_eq(presence_on_state(p, (struct rtbp_val){ b.data, b.size }), 0);
	rtbp_buf_done(&b);
	holds(p, 1, "[" MEMBER("x", "{\"n\":39}") "]");
}
END_TEST

static Suite *presence_suite(void)
{
	Suite *suite = suite_create("presence");
	TCase *tc = tcase_create("presence");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_state_and_diff);
	tcase_add_test(tc, test_update);
	tcase_add_test(tc, test_waiting);
	tcase_add_test(tc, test_shapes);
	tcase_add_test(tc, test_members);
	tcase_add_test(tc, test_stranger);
	tcase_add_test(tc, test_members_after_rejoin);
	tcase_add_test(tc, test_bridge_as_it_stands);
	tcase_add_test(tc, test_member_names);
	tcase_add_test(tc, test_names_apart);
	tcase_add_test(tc, test_equal_member_keys);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return suite_run(presence_suite());
}
