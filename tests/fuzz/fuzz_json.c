/* SPDX-License-Identifier: MIT */
/*
 * proto/rtbp_json.h on any bytes, read as JSON, as MessagePack and as text to quote.
 *
 * Checked: what is accepted as JSON agrees with jansson, and so do the values; both directions undo
 * each other; limits hold exactly; a refusal leaves the buffer alone and says where.
 *
 * Where jansson 2.14 is not the judge: it refuses integers beyond int64, numbers beyond float64,
 * lone surrogates and NUL in keys; it allows depth 2048; it takes a NUL byte behind the document
 * for the end of the input; it reads -0 as the integer 0 and rounds every fraction to float64.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "proto/rtbp_json.h"

enum { MAX_DEPTH = RTBP_JSON_DEPTH };

static void check_fault(const struct rtbp_json_fault *fault, int r, size_t size)
{
	FUZZ_CHECK(r >= RTBP_JSON_E_SYNTAX && r <= RTBP_JSON_E_VALUE);
	FUZZ_CHECK(fault->offset <= size);
	FUZZ_CHECK(strnlen(fault->text, sizeof(fault->text)) < sizeof(fault->text));
	FUZZ_CHECK(strnlen(fault->path, sizeof(fault->path)) < sizeof(fault->path));
}

/* Converts into a buffer that has something in it already. Returns false if it is refused. */
static bool to_mp(const void *json, size_t size, struct rtbp_buf *ret, int *ret_condition)
{
	struct rtbp_json_fault fault;
	int r;

	*ret = (struct rtbp_buf)RTBP_BUF_INIT;
	rtbp_buf_byte(ret, '#');
	r = rtbp_json_to_mp(json, size, MAX_DEPTH, ret, &fault);
	*ret_condition = r;
	FUZZ_CHECK(rtbp_buf_ok(ret) && ret->data[0] == '#');
	if (r) {
		check_fault(&fault, r, size);
		FUZZ_CHECK(ret->size == 1);
		return false;
	}
	FUZZ_CHECK(ret->size > 1);
	memmove(ret->data, ret->data + 1, --ret->size);
	return true;
}

static bool to_json(const void *mp, size_t size, struct rtbp_buf *ret)
{
	struct rtbp_json_fault fault;
	int r;

	*ret = (struct rtbp_buf)RTBP_BUF_INIT;
	rtbp_buf_byte(ret, '#');
	r = rtbp_mp_to_json(mp, size, ret, &fault);
	FUZZ_CHECK(rtbp_buf_ok(ret) && ret->data[0] == '#');
	if (r) {
		check_fault(&fault, r, size);
		FUZZ_CHECK(fault.path[0] == '$' && ret->size == 1);
		return false;
	}
	FUZZ_CHECK(ret->size > 1);
	memmove(ret->data, ret->data + 1, --ret->size);
	return true;
}

static bool equal_bytes(const struct rtbp_buf *a, const struct rtbp_buf *b)
{
	return a->size == b->size && !memcmp(a->data, b->data, a->size);
}

static bool equal_values(const json_t *a, const json_t *b);

static bool equal_objects(const json_t *a, const json_t *b)
{
	const char *key;
	json_t *value;

	if (json_object_size(a) != json_object_size(b))
		return false;
	json_object_foreach((json_t *)(uintptr_t)a, key, value)
	{
		if (!equal_values(value, json_object_get(b, key)))
			return false;
	}
	return true;
}

/* json_equal(), but -0 (an integer to jansson) equals -0.0. */
static bool equal_values(const json_t *a, const json_t *b)
{
	if (!b)
		return false;
	if (json_is_number(a) && json_is_number(b)) {
		if (json_is_integer(a) && json_is_integer(b))
			return json_integer_value(a) == json_integer_value(b);
		return json_is_real(a) == json_is_real(b)
			       ? json_real_value(a) == json_real_value(b)
			       : json_number_value(a) == 0 && json_number_value(b) == 0;
	}
	if (json_typeof(a) != json_typeof(b))
		return false;
	if (json_is_object(a))
		return equal_objects(a, b);
	if (!json_is_array(a))
		return json_equal(a, b);
	if (json_array_size(a) != json_array_size(b))
		return false;
	for (size_t i = 0; i < json_array_size(a); i++)
		if (!equal_values(json_array_get(a, i), json_array_get(b, i)))
			return false;
	return true;
}

static json_t *load(const void *json, size_t size, json_error_t *error)
{
	return json_loadb(json, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, error);
}

/* jansson refused: may it be one of its own limits? */
static bool is_janssons_limit(const json_error_t *error)
{
	enum json_error_code code = json_error_code(error);

	return code == json_error_numeric_overflow || code == json_error_null_byte_in_key ||
	       (code == json_error_invalid_syntax && strstr(error->text, "invalid Unicode"));
}

/* Compares the verdict about `json`, and if both accept it, the values behind `back`. */
static void check_with_jansson(const void *json, size_t size, int condition,
			       const struct rtbp_buf *back)
{
	json_error_t error;
	json_t *theirs = load(json, size, &error), *ours;

	if (!theirs) {
		FUZZ_CHECK(condition || is_janssons_limit(&error));
		return;
	}
	FUZZ_CHECK(!condition || condition == RTBP_JSON_E_DEPTH || memchr(json, 0, size));
	if (!condition) {
		ours = load(back->data, back->size, &error);
		FUZZ_CHECK(ours && equal_values(theirs, ours));
		json_decref(ours);
	}
	json_decref(theirs);
}

/* With room for `size` bytes the result fits; with one byte less it does not. */
static void check_limit(const void *data, size_t size, bool is_json, const struct rtbp_buf *result)
{
	for (size_t less = 0; less < 2 && less < result->size; less++) {
		struct rtbp_buf out = RTBP_BUF_INIT;
		int r;

		out.max_bytes = result->size - less;
		r = is_json ? rtbp_json_to_mp(data, size, MAX_DEPTH, &out, NULL)
			    : rtbp_mp_to_json(data, size, &out, NULL);
		FUZZ_CHECK(r == (less ? -EMSGSIZE : 0));
		FUZZ_CHECK(out.error == r && out.size == (less ? 0 : result->size));
		rtbp_buf_done(&out);
	}
}

static void read_as_json(const uint8_t *data, size_t size)
{
	struct rtbp_buf mp, back = RTBP_BUF_INIT, again = RTBP_BUF_INIT;
	int condition;

	if (to_mp(data, size, &mp, &condition)) {
		FUZZ_CHECK(to_json(mp.data, mp.size, &back));
		FUZZ_CHECK(to_mp(back.data, back.size, &again, &condition));
		FUZZ_CHECK(equal_bytes(&mp, &again));
		check_limit(back.data, back.size, true, &mp); /* duplicate keys are gone */
		check_limit(mp.data, mp.size, false, &back);
	}
	check_with_jansson(data, size, condition, &back);
	rtbp_buf_done(&mp);
	rtbp_buf_done(&back);
	rtbp_buf_done(&again);
}

static void read_as_mp(const uint8_t *data, size_t size)
{
	struct rtbp_buf json, mp, back, again;
	int condition;

	if (to_json(data, size, &json)) {
		check_limit(data, size, false, &json);
		FUZZ_CHECK(to_mp(json.data, json.size, &mp, &condition));
		/* An ext may have become a number that fits; from here on nothing changes. */
		FUZZ_CHECK(to_json(mp.data, mp.size, &back));
		FUZZ_CHECK(to_mp(back.data, back.size, &again, &condition));
		FUZZ_CHECK(equal_bytes(&mp, &again));
		rtbp_buf_done(&mp);
		rtbp_buf_done(&back);
		rtbp_buf_done(&again);
	}
	rtbp_buf_done(&json);
}

static void read_as_text(const uint8_t *data, size_t size)
{
	struct rtbp_buf quoted = RTBP_BUF_INIT, mp, again = RTBP_BUF_INIT;
	int condition;

	rtbp_json_quote(&quoted, (const char *)data, size);
	FUZZ_CHECK(to_mp(quoted.data, quoted.size, &mp, &condition));
	FUZZ_CHECK(to_json(mp.data, mp.size, &again));
	FUZZ_CHECK(equal_bytes(&quoted, &again));
	rtbp_buf_done(&quoted);
	rtbp_buf_done(&mp);
	rtbp_buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_as_json(data, size);
	read_as_mp(data, size);
	read_as_text(data, size);
	return 0;
}
