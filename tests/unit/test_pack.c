/* SPDX-License-Identifier: MIT */
#include "proto/rtbp_pack.h"

#include "alloc_util.h"
#include "proto_util.h"

static struct rtbp_buf buf;

static void setup(void)
{
	buf = (struct rtbp_buf)RTBP_BUF_INIT;
}

static void teardown(void)
{
	rtbp_buf_done(&buf);
}

static struct rtbp_val packed(void)
{
	size_t offset;

	ck_assert(rtbp_buf_ok(&buf));
	ck_assert_int_eq(rtbp_check(buf.data, buf.size, RTBP_DEPTH_MAX, &offset), 0);
	return (struct rtbp_val){ buf.data, buf.size };
}

static void expect(const char *hex)
{
	uint8_t bytes[128];
	size_t size = unhex(hex, bytes, sizeof(bytes));

	ck_assert(rtbp_buf_ok(&buf));
	ck_assert_uint_eq(buf.size, size);
	ck_assert_mem_eq(buf.data, bytes, size);
	buf.size = 0;
}

static const struct {
	int64_t v;
	const char *hex;
} ints[] = {
	{ 0, "00" },
	{ 1, "01" },
	{ 127, "7f" },
	{ 128, "cc80" },
	{ 255, "ccff" },
	{ 256, "cd0100" },
	{ 65535, "cdffff" },
	{ 65536, "ce00010000" },
	{ UINT32_MAX, "ceffffffff" },
	{ (int64_t)UINT32_MAX + 1, "cf0000000100000000" },
	{ INT64_MAX, "cf7fffffffffffffff" },
	{ -1, "ff" },
	{ -32, "e0" },
	{ -33, "d0df" },
	{ -128, "d080" },
	{ -129, "d1ff7f" },
	{ -32768, "d18000" },
	{ -32769, "d2ffff7fff" },
	{ INT32_MIN, "d280000000" },
	{ (int64_t)INT32_MIN - 1, "d3ffffffff7fffffff" },
	{ INT64_MIN, "d38000000000000000" },
};

START_TEST(integers_are_as_short_as_can_be)
{
	int64_t i;

	rtbp_pack_int(&buf, ints[_i].v);
	ck_assert(rtbp_get_int(packed(), &i) && i == ints[_i].v);
	expect(ints[_i].hex);
	if (ints[_i].v >= 0) {
		rtbp_pack_uint(&buf, (uint64_t)ints[_i].v);
		expect(ints[_i].hex);
	}
}
END_TEST

START_TEST(scalars)
{
	rtbp_pack_uint(&buf, UINT64_MAX);
	expect("cfffffffffffffffff");
	rtbp_pack_nil(&buf);
	rtbp_pack_bool(&buf, true);
	rtbp_pack_bool(&buf, false);
	expect("c0 c3 c2");
	/* Always float64, even where less would do: a float stays a float. */
	rtbp_pack_float(&buf, 1.5);
	rtbp_pack_float(&buf, 0);
	rtbp_pack_float(&buf, -0.0);
	rtbp_pack_float(&buf, 3);
	expect("cb3ff8000000000000 cb0000000000000000 cb8000000000000000 cb4008000000000000");
}
END_TEST

/* Sizes around each change of header, with the header that belongs there. */
static const struct {
	uint32_t n;
	const char *str, *bin, *ext;
} bodies[] = {
	{ 0, "a0", "c400", "c70001" },
	{ 1, "a1", "c401", "d401" },
	{ 2, "a2", "c402", "d501" },
	{ 3, "a3", "c403", "c70301" },
	{ 4, "a4", "c404", "d601" },
	{ 8, "a8", "c408", "d701" },
	{ 16, "b0", "c410", "d801" },
	{ 17, "b1", "c411", "c71101" },
	{ 31, "bf", "c41f", "c71f01" },
	{ 32, "d920", "c420", "c72001" },
	{ 255, "d9ff", "c4ff", "c7ff01" },
	{ 256, "da0100", "c50100", "c8010001" },
	{ 65535, "daffff", "c5ffff", "c8ffff01" },
	{ 65536, "db00010000", "c600010000", "c90001000001" },
};

static void expect_body(const char *head, const char *text, uint32_t n, struct rtbp_str s)
{
	ck_assert_uint_eq(s.size, n);
	ck_assert_mem_eq(s.p, text, n);
	(void)packed();
	buf.size -= n;
	expect(head);
}

START_TEST(bodies_of_every_size)
{
	uint32_t n = bodies[_i].n;
	char *text = malloc(n + 1);
	struct rtbp_str s = { NULL, 0 };
	int8_t type = 0;

	ck_assert_ptr_nonnull(text);
	memset(text, 'x', n);
	text[n] = 0;
	rtbp_pack_str(&buf, text, n);
	ck_assert(rtbp_get_str(packed(), &s));
	expect_body(bodies[_i].str, text, n, s);
	rtbp_pack_text(&buf, text);
	ck_assert(rtbp_get_str(packed(), &s));
	expect_body(bodies[_i].str, text, n, s);
	rtbp_pack_bin(&buf, text, n);
	ck_assert(rtbp_get_bin(packed(), &s));
	expect_body(bodies[_i].bin, text, n, s);
	rtbp_pack_ext(&buf, 1, text, n);
	ck_assert(rtbp_get_ext(packed(), &type, &s));
	ck_assert_int_eq(type, 1);
	expect_body(bodies[_i].ext, text, n, s);
	free(text);
}
END_TEST

START_TEST(empty_bodies_need_no_pointer)
{
	rtbp_pack_str(&buf, NULL, 0);
	rtbp_pack_bin(&buf, NULL, 0);
	rtbp_pack_ext(&buf, -1, NULL, 0);
	expect("a0 c400 c700ff");
}
END_TEST

START_TEST(containers_of_every_size)
{
	static const struct {
		uint32_t n;
		const char *array, *map;
	} heads[] = {
		{ 0, "90", "80" },
		{ 15, "9f", "8f" },
		{ 16, "dc0010", "de0010" },
		{ 65535, "dcffff", "deffff" },
		{ 65536, "dd00010000", "df00010000" },
		{ UINT32_MAX, "ddffffffff", "dfffffffff" },
	};

	for (unsigned i = 0; i < N_OF(heads); i++) {
		rtbp_pack_array(&buf, heads[i].n);
		expect(heads[i].array);
		rtbp_pack_map(&buf, heads[i].n);
		expect(heads[i].map);
	}
}
END_TEST

START_TEST(fields)
{
	rtbp_pack_map(&buf, 4);
	rtbp_pack_field(&buf, RTBP_F_ALL);
	rtbp_pack_nil(&buf);
	rtbp_pack_field_text(&buf, RTBP_F_VIA, "ws");
	rtbp_pack_field_uint(&buf, RTBP_F_PID, 300);
	rtbp_pack_field_bool(&buf, RTBP_F_KEEP, true);
	(void)packed();
	expect("84 a3616c6c c0 a3766961 a27773 a3706964 cd012c a46b656570 c3");
}
END_TEST

START_TEST(values_are_copied_as_they_stand)
{
	static const uint8_t longer[] = { 0xdd, 0, 0, 0, 1, 0xcd, 0, 7 };

	rtbp_pack_array(&buf, 1);
	rtbp_pack_val(&buf, (struct rtbp_val){ longer, sizeof(longer) });
	expect("91 dd00000001 cd0007");
}
END_TEST

/* The patched header keeps its three bytes, whatever the number of pairs. */
START_TEST(maps_counted_at_their_end)
{
	size_t begin;
	uint64_t u;

	rtbp_pack_array(&buf, 2);
	begin = rtbp_pack_map_begin(&buf);
	rtbp_pack_map_end(&buf, begin, 0);
	begin = rtbp_pack_map_begin(&buf);
	rtbp_pack_field_uint(&buf, RTBP_F_CHAN, 1);
	rtbp_pack_field_uint(&buf, RTBP_F_SINCE, 2);
	rtbp_pack_map_end(&buf, begin, 2);
	ck_assert(rtbp_get_uint(rtbp_field(rtbp_at(packed(), 1), RTBP_F_SINCE), &u) && u == 2);
	expect("92 de0000 de0002 a46368616e 01 a573696e6365 02");

	begin = rtbp_pack_map_begin(&buf);
	for (unsigned i = 0; i < 65535; i++) {
		rtbp_pack_uint(&buf, i);
		rtbp_pack_nil(&buf);
	}
	rtbp_pack_map_end(&buf, begin, 65535);
	(void)packed();
	ck_assert_mem_eq(buf.data, "\xde\xff\xff\0\xc0", 5);
}
END_TEST

/* Everything packed into a buffer with a limit, for each limit: what is there is always a prefix
 * of the whole, and nothing is appended behind a hole. */
START_TEST(limits_cut_at_any_byte)
{
	struct rtbp_buf whole = RTBP_BUF_INIT;
	size_t begin;

	for (size_t max = 0; max == 0 || whole.size > max; max++) {
		struct rtbp_buf *b = max ? &buf : &whole;

		buf.max_bytes = max;
		rtbp_pack_array(b, 6);
		rtbp_pack_text(b, "some text");
		rtbp_pack_uint(b, 70000);
		rtbp_pack_ext(b, 1, "1.50", 4);
		begin = rtbp_pack_map_begin(b);
		rtbp_pack_field_bool(b, RTBP_F_SELF, true);
		rtbp_pack_map_end(b, begin, 1);
		rtbp_pack_bin(b, "bytes", 5);
		rtbp_pack_float(b, 1);
		if (max == 0) {
			ck_assert(rtbp_buf_ok(&whole));
			continue;
		}
		ck_assert_int_eq(b->error, -EMSGSIZE);
		ck_assert_uint_le(b->size, max);
		/* The map's count is not filled in any more once the buffer is broken. */
		for (size_t i = 0; i < b->size; i++) {
			if (b->data[i] != whole.data[i] && (b->data[i] || whole.data[i] != 1))
				ck_abort_msg("limit %zu, byte %zu", max, i);
		}
		rtbp_buf_reset(b, 0);
	}
	rtbp_buf_done(&whole);
}
END_TEST

START_TEST(no_memory_sticks)
{
	size_t begin;

	allocs_watch(true);
	begin = rtbp_pack_map_begin(&buf);
	rtbp_pack_field_text(&buf, RTBP_F_TEXT, "text");
	rtbp_pack_map_end(&buf, begin, 1);
	allocs_unwatch();
	rtbp_pack_nil(&buf);
	ck_assert_int_eq(buf.error, -ENOMEM);
	ck_assert_uint_eq(buf.size, 0);
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("pack");

	tcase_add_checked_fixture(c, setup, teardown);
	LOOP(c, integers_are_as_short_as_can_be, ints);
	tcase_add_test(c, scalars);
	LOOP(c, bodies_of_every_size, bodies);
	tcase_add_test(c, empty_bodies_need_no_pointer);
	tcase_add_test(c, containers_of_every_size);
	tcase_add_test(c, fields);
	tcase_add_test(c, values_are_copied_as_they_stand);
	tcase_add_test(c, maps_counted_at_their_end);
	tcase_add_test(c, limits_cut_at_any_byte);
	tcase_add_test(c, no_memory_sticks);
	return run_tests("pack", c);
}
