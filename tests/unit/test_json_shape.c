/* SPDX-License-Identifier: MIT */
/* JSON to MessagePack: depth, counts, sizes, duplicates, limits, locale, threads. */
#include "tests/unit/test_json_util.h"

#include <locale.h>
#include <pthread.h>

static int nested(size_t depth, unsigned max_depth, bool is_map, size_t *ret_offset)
{
	struct rtbp_buf json = RTBP_BUF_INIT, out = RTBP_BUF_INIT;
	struct rtbp_json_fault fault = { 0 };
	int r;

	put_n(&json, is_map ? "{\"a\":" : "[", depth);
	rtbp_buf_text(&json, "1");
	put_n(&json, is_map ? "}" : "]", depth);
	r = rtbp_json_to_mp((const char *)json.data, json.size, max_depth, &out, &fault);
	*ret_offset = fault.offset;
	rtbp_buf_done(&json);
	rtbp_buf_done(&out);
	return r;
}

START_TEST(test_depth)
{
	size_t offset;

	for (int is_map = 0; is_map < 2; is_map++) {
		ck_assert_int_eq(nested(0, 0, is_map, &offset), 0);
		ck_assert_int_eq(nested(1, 0, is_map, &offset), RTBP_JSON_E_DEPTH);
		ck_assert_int_eq(nested(64, 64, is_map, &offset), 0);
		ck_assert_int_eq(nested(65, 64, is_map, &offset), RTBP_JSON_E_DEPTH);
		ck_assert_uint_eq(offset, is_map ? 64 * 5 : 64);
		ck_assert_int_eq(nested(256, 256, is_map, &offset), 0);
		ck_assert_int_eq(nested(257, 256, is_map, &offset), RTBP_JSON_E_DEPTH);
		ck_assert_int_eq(nested(257, 100000, is_map, &offset), RTBP_JSON_E_DEPTH);
		ck_assert_int_eq(nested(1000000, 64, is_map, &offset), RTBP_JSON_E_DEPTH);
	}
}
END_TEST

static const struct {
	uint32_t n;
	const char *array, *map;
} counts[] = {
	{ 0, "90", "80" },
	{ 1, "91", "81" },
	{ 15, "9f", "8f" },
	{ 16, "dc0010", "de0010" },
	{ 65535, "dcffff", "deffff" },
	{ 65536, "dd00010000", "df00010000" },
	{ 100000, "dd000186a0", "df000186a0" },
};

/* Takes the map of `n` pairs between two other values, so that moving it meets its surroundings. */
static void check_map(uint32_t n, const char *head)
{
	struct rtbp_buf json = RTBP_BUF_INIT, out, back;
	size_t n_head = strlen(head) / 2;

	rtbp_buf_text(&json, "[7,{");
	for (uint32_t i = 0; i < n; i++)
		put_fmt(&json, "%s\"%x\":%u", i ? "," : "", i, i);
	rtbp_buf_text(&json, "},8]");
	ck_assert_int_eq(to_mp(&json, &out), 0);
	ck_assert_str_eq(hex(out.data, 2), "9307");
	ck_assert_str_eq(hex(out.data + 2, n_head), head);
	ck_assert_int_eq(out.data[out.size - 1], 8);
	if (n)
		ck_assert_str_eq(hex(out.data + 2 + n_head, 3), "a13000");
	ck_assert_int_eq(to_json(&out, &back), 0);
	ck_assert_uint_eq(back.size, json.size);
	ck_assert_mem_eq(back.data, json.data, json.size);
	rtbp_buf_done(&json);
	rtbp_buf_done(&out);
	rtbp_buf_done(&back);
}

START_TEST(test_count)
{
	struct rtbp_buf json = RTBP_BUF_INIT, out;
	uint32_t n = counts[_i].n;
	size_t n_head = strlen(counts[_i].array) / 2;

	check_map(n, counts[_i].map);
	rtbp_buf_byte(&json, '[');
	for (uint32_t i = 0; i < n; i++)
		rtbp_buf_text(&json, i ? ",5" : "5");
	rtbp_buf_byte(&json, ']');
	ck_assert_int_eq(to_mp(&json, &out), 0);
	ck_assert_uint_eq(out.size, n_head + n);
	ck_assert_str_eq(hex(out.data, n_head), counts[_i].array);
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(out.data[n_head + i], 5);
	rtbp_buf_done(&json);
	rtbp_buf_done(&out);
}
END_TEST

/* Strings of all header sizes, plain and with an escape. */
START_TEST(test_string_size)
{
	static const struct {
		uint32_t n;
		const char *head;
	} sizes[] = { { 31, "bf" },
		      { 32, "d920" },
		      { 255, "d9ff" },
		      { 256, "da0100" },
		      { 65535, "daffff" },
		      { 65536, "db00010000" },
		      { 300000, "db000493e0" } };

	for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rtbp_buf json = RTBP_BUF_INIT, out, back;
		bool is_escaped = i % 2;
		uint32_t n = sizes[i / 2].n;
		size_t n_head = strlen(sizes[i / 2].head) / 2;

		rtbp_buf_text(&json, is_escaped ? "\"\\n" : "\"x");
		put_n(&json, "y", n - 1);
		rtbp_buf_text(&json, "\"");
		ck_assert_int_eq(to_mp(&json, &out), 0);
		ck_assert_uint_eq(out.size, n_head + n);
		ck_assert_str_eq(hex(out.data, n_head), sizes[i / 2].head);
		ck_assert_int_eq(out.data[n_head], is_escaped ? '\n' : 'x');
		ck_assert_int_eq(to_json(&out, &back), 0);
		ck_assert_uint_eq(back.size, json.size);
		ck_assert_mem_eq(back.data, json.data, json.size);
		rtbp_buf_done(&json);
		rtbp_buf_done(&out);
		rtbp_buf_done(&back);
	}
}
END_TEST

/* An object of `n` keys of which each comes `times`; long keys share their beginning. */
static void check_repeated(uint32_t n, uint32_t times, const char *prefix)
{
	struct rtbp_buf json = RTBP_BUF_INIT, want = RTBP_BUF_INIT, out, back;

	rtbp_buf_byte(&json, '{');
	rtbp_buf_byte(&want, '{');
	for (uint32_t t = 0; t < times; t++)
		for (uint32_t i = 0; i < n; i++) {
			put_fmt(&json, "%s\"%s%u\":[%u]", t || i ? "," : "", prefix, i, t);
			if (t + 1 == times)
				put_fmt(&want, "%s\"%s%u\":[%u]", i ? "," : "", prefix, i, t);
		}
	rtbp_buf_byte(&json, '}');
	rtbp_buf_byte(&want, '}');
	ck_assert_int_eq(to_mp(&json, &out), 0);
	ck_assert_int_eq(to_json(&out, &back), 0);
	ck_assert_uint_eq(back.size, want.size);
	ck_assert_mem_eq(back.data, want.data, want.size);
	rtbp_buf_done(&json);
	rtbp_buf_done(&want);
	rtbp_buf_done(&out);
	rtbp_buf_done(&back);
}

START_TEST(test_repeated)
{
	static const uint32_t n[] = { 1, 2, 15, 16, 31, 32, 33, 64, 65, 100, 1000 };

	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++)
		for (uint32_t times = 1; times <= 4; times++) {
			check_repeated(n[i], times, "");
			check_repeated(n[i], times, "a rather long beginning of a key");
		}
	check_repeated(50000, 2, "");
	check_repeated(100000, 1, "");
	check_repeated(1, 100000, "");
}
END_TEST

/* Hostile shapes that a quadratic search would not survive within the test's time limit. */
START_TEST(test_hostile)
{
	struct rtbp_buf json = RTBP_BUF_INIT, out;

	/* 64 objects open at once, 20,000 keys in the innermost, again and again */
	for (int i = 0; i < 63; i++)
		rtbp_buf_text(&json, "{\"a\":1,\"b\":2,\"a\":");
	rtbp_buf_byte(&json, '{');
	for (int i = 0; i < 20000; i++)
		put_fmt(&json, "\"%d\":{\"x\":1,\"x\":2,\"y\":{}},", i % 10000);
	rtbp_buf_text(&json, "\"z\":0}");
	put_n(&json, "}", 63);
	ck_assert_int_eq(to_mp(&json, &out), 0);
	ck_assert_uint_lt(out.size, json.size);
	rtbp_buf_done(&json);
	rtbp_buf_done(&out);

	/* 400,000 small objects */
	rtbp_buf_byte(&json, '[');
	put_n(&json, "{\"a\":0,\"b\":0,\"c\":0},", 400000);
	rtbp_buf_text(&json, "0]");
	ck_assert_int_eq(to_mp(&json, &out), 0);
	rtbp_buf_done(&json);
	rtbp_buf_done(&out);

	/* a million digits, a million of zeros in front of one */
	put_n(&json, "1", 1000000);
	ck_assert_int_eq(to_mp(&json, &out), 0);
	ck_assert_uint_eq(out.size, json.size + 6);
	rtbp_buf_done(&out);
	rtbp_buf_reset(&json, 0);
	rtbp_buf_text(&json, "0.");
	put_n(&json, "0", 999999);
	rtbp_buf_text(&json, "1e1000000");
	ck_assert_int_eq(to_mp(&json, &out), 0);
	ck_assert_str_eq(hex(out.data, out.size), "cb3ff0000000000000");
	rtbp_buf_done(&json);
	rtbp_buf_done(&out);
}
END_TEST

START_TEST(test_limit)
{
	static const char json[] = "{\"a\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],\"b\\n\":1.5,"
				   "\"c\":\"\\u20ac0123456789012345678901234567890123456789\","
				   "\"d\":1.50,\"e\":[[],{},-300,true]}";
	struct rtbp_buf whole = RTBP_BUF_INIT;

	ck_assert_int_eq(rtbp_json_to_mp(json, sizeof(json) - 1, 64, &whole, NULL), 0);
	for (size_t limit = 2; limit <= whole.size + 4; limit++) {
		struct rtbp_buf out = RTBP_BUF_INIT;
		bool fits = limit >= 2 + whole.size;

		out.max_bytes = limit;
		rtbp_buf_text(&out, "ab");
		ck_assert_int_eq(rtbp_json_to_mp(json, sizeof(json) - 1, 64, &out, NULL),
				 fits ? 0 : -EMSGSIZE);
		ck_assert_int_eq(out.error, fits ? 0 : -EMSGSIZE);
		ck_assert_uint_eq(out.size, fits ? 2 + whole.size : 2);
		if (fits)
			ck_assert_mem_eq(out.data + 2, whole.data, whole.size);
		else
			ck_assert_int_eq(rtbp_json_to_mp("1", 1, 64, &out, NULL), -EMSGSIZE);
		rtbp_buf_done(&out);
	}
	rtbp_buf_done(&whole);
}
END_TEST

START_TEST(test_too_large)
{
	struct rtbp_buf out = RTBP_BUF_INIT;

	/* refused before the first byte is read */
	ck_assert_int_eq(rtbp_json_to_mp("1", (size_t)UINT32_MAX + 1, 64, &out, NULL), -EMSGSIZE);
	ck_assert_uint_eq(out.size, 0);
	rtbp_buf_done(&out);
}
END_TEST

/* The linker sends the allocations of proto/ here (tests/unit/CMakeLists.txt). */
static long allocations_left = -1; /* negative: no end */

static bool may_allocate(void)
{
	if (allocations_left > 0)
		allocations_left--;
	return allocations_left != 0;
}

void *__real_malloc(size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
	return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
	return may_allocate() ? __real_realloc(p, size) : NULL;
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return may_allocate() ? __real_reallocarray(p, n, size) : NULL;
}

/* Converts with fewer and fewer failures until it works; returns how often it failed. */
static int until_enough(const struct rtbp_buf *from, bool is_json)
{
	struct rtbp_buf out;
	int r, n = 0;

	do {
		out = (struct rtbp_buf)RTBP_BUF_INIT;
		rtbp_buf_text(&out, "before");
		allocations_left = n + 1; /* the last of them fails */
		r = is_json ? rtbp_json_to_mp((const char *)from->data, from->size, 64, &out, NULL)
			    : rtbp_mp_to_json(from->data, from->size, &out, NULL);
		allocations_left = -1;
		if (r) {
			ck_assert_int_eq(r, -ENOMEM);
			ck_assert_uint_eq(out.size, 6);
			ck_assert_mem_eq(out.data, "before", 6);
			n++;
		}
		rtbp_buf_done(&out);
	} while (r);
	return n;
}

/* Every allocation fails once, of the output and of the stack of keys. */
START_TEST(test_no_memory)
{
	struct rtbp_buf json = RTBP_BUF_INIT, mp;

	rtbp_buf_text(&json, "[{");
	for (int i = 0; i < 1000; i++)
		put_fmt(&json, "\"key %d\":\"\\n%d\",", i, i);
	rtbp_buf_text(&json, "\"last\":1.50}]");
	ck_assert_int_eq(to_mp(&json, &mp), 0);
	ck_assert_int_ge(until_enough(&json, true), 8);
	ck_assert_int_ge(until_enough(&mp, false), 8);
	rtbp_buf_done(&json);
	rtbp_buf_done(&mp);
}
END_TEST

/* Reads and prints numbers that go through strtod_l() and snprintf(). */
static void check_number_roads(void)
{
	static const char json[] = "[1.5,5e-324,1.7976931348623157e308,5.684341886080802e-14,"
				   "0.1234567890123456,1e23,9.007199254740993e22,1.50]";
	struct rtbp_buf out = RTBP_BUF_INIT, back;

	ck_assert_int_eq(rtbp_json_to_mp(json, sizeof(json) - 1, 64, &out, NULL), 0);
	ck_assert_int_eq(out.data[1], 0xcb);
	ck_assert_int_eq(to_json(&out, &back), 0);
	ck_assert_uint_eq(back.size, sizeof(json) - 1);
	ck_assert_mem_eq(back.data, json, back.size);
	rtbp_buf_done(&out);
	rtbp_buf_done(&back);
}

/* A locale that writes 1,5; made for this test, since a machine may have none. */
START_TEST(test_locale)
{
	char dir[] = "/tmp/rtb-locale-XXXXXX", cmd[256], text[16];
	char *got;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(cmd, sizeof(cmd), "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>%s/log", dir, dir);
	(void)!system(cmd);
	setenv("LOCPATH", dir, 1);
	got = setlocale(LC_ALL, "de_DE.UTF-8");
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	ck_assert_int_eq(system(cmd), 0);
	ck_assert_msg(got != NULL, "localedef with de_DE is needed: packages libc-bin and locales");
	snprintf(text, sizeof(text), "%.1f", 1.5);
	ck_assert_str_eq(text, "1,5");
	check_number_roads();
	setlocale(LC_ALL, "C");
	check_number_roads();
}
END_TEST

static void *number_thread(void *arg)
{
	pthread_barrier_wait(arg);
	for (int i = 0; i < 200; i++)
		check_number_roads();
	return NULL;
}

START_TEST(test_threads)
{
	enum { N = 4 };
	pthread_t threads[N];
	pthread_barrier_t start;

	ck_assert_int_eq(pthread_barrier_init(&start, NULL, N), 0);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, number_thread, &start), 0);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	pthread_barrier_destroy(&start);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("json_shape");
	TCase *t = tcase_create("json_shape");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_depth);
	LOOP(t, test_count, counts);
	tcase_add_test(t, test_string_size);
	tcase_add_test(t, test_repeated);
	tcase_add_test(t, test_hostile);
	tcase_add_test(t, test_limit);
	tcase_add_test(t, test_too_large);
	tcase_add_test(t, test_no_memory);
	tcase_add_test(t, test_locale);
	tcase_add_test(t, test_threads);
	suite_add_tcase(suite, t);
	return suite_run(suite);
}
