/* SPDX-License-Identifier: MIT */
/*
 * The golden frames of proto/vectors: rtbp_msg_parse() takes each of them and finds what its
 * meaning says, and the meaning written through rtbp_msg.h gives the same bytes again.
 */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rtbp_frame.h"
#include "proto/rtbp_msg.h"

#ifdef NDEBUG
#error tests need their assertions
#endif

static json_t *vectors;

static const char *text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	ck_assert_msg(text != NULL, "a vector lacks %s", key);
	return text;
}

static void from_hex(const char *hex, struct rtbp_buf *ret)
{
	unsigned byte;

	for (; *hex; hex += 2) {
		ck_assert_int_eq(sscanf(hex, "%2x", &byte), 1);
		rtbp_buf_byte(ret, (uint8_t)byte);
	}
}

static void from_base64(const char *text, struct rtbp_buf *ret)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/";
	unsigned bits = 0, n_bits = 0;

	for (; *text && *text != '='; text++) {
		const char *digit = strchr(digits, *text);

		ck_assert_ptr_nonnull(digit);
		bits = bits << 6 | (unsigned)(digit - digits);
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			rtbp_buf_byte(ret, (uint8_t)(bits >> n_bits));
		}
	}
}

static void pack(struct rtbp_buf *b, json_t *value);

/* {"$bin": base64}, {"$ext": [type, text]}, {"$int": digits}. */
static bool pack_special(struct rtbp_buf *b, json_t *map)
{
	struct rtbp_buf bin = RTBP_BUF_INIT;
	const char *text;
	json_t *v;

	if (json_object_size(map) != 1)
		return false;
	if ((v = json_object_get(map, "$bin"))) {
		from_base64(json_string_value(v), &bin);
		rtbp_pack_bin(b, bin.data, bin.size);
		rtbp_buf_done(&bin);
	} else if ((v = json_object_get(map, "$ext"))) {
		text = json_string_value(json_array_get(v, 1));
		rtbp_pack_ext(b, (int8_t)json_integer_value(json_array_get(v, 0)), text,
			      strlen(text));
	} else if ((v = json_object_get(map, "$int"))) {
		text = json_string_value(v);
		if (*text == '-')
			rtbp_pack_int(b, strtoll(text, NULL, 10));
		else
			rtbp_pack_uint(b, strtoull(text, NULL, 10));
	} else {
		return false;
	}
	return true;
}

static void pack_map(struct rtbp_buf *b, json_t *map)
{
	const char *key;
	json_t *v;

	if (pack_special(b, map))
		return;
	rtbp_pack_map(b, (uint32_t)json_object_size(map));
	json_object_foreach(map, key, v)
	{
		rtbp_pack_text(b, key);
		pack(b, v);
	}
}

static void pack(struct rtbp_buf *b, json_t *value)
{
	size_t i;
	json_t *v;

	switch (json_typeof(value)) {
	case JSON_OBJECT:
		pack_map(b, value);
		break;
	case JSON_ARRAY:
		rtbp_pack_array(b, (uint32_t)json_array_size(value));
		json_array_foreach(value, i, v) pack(b, v);
		break;
	case JSON_STRING:
		rtbp_pack_str(b, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		rtbp_pack_int(b, json_integer_value(value));
		break;
	case JSON_REAL:
		rtbp_pack_float(b, json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		rtbp_pack_bool(b, json_is_true(value));
		break;
	default:
		rtbp_pack_nil(b);
	}
}

static int method_of(json_t *name)
{
	return rtbp_method_find(json_string_value(name), json_string_length(name));
}

static int notice_of(json_t *name)
{
	return rtbp_notice_find(json_string_value(name), json_string_length(name));
}

static void write_error(struct rtbp_buf *b, uint32_t id, json_t *error)
{
	json_t *retry = json_array_get(error, 3);

	(void)rtbp_msg_put_error(b, id,
				 (enum rtbp_error)json_integer_value(json_array_get(error, 0)),
				 json_string_value(json_array_get(error, 2)),
				 json_is_null(retry) ? -1 : json_integer_value(retry));
}

/* The whole frame, as the daemon or the library writes it. Return: false for a method that the
 * tables do not have, which no function writes. */
static bool write_frame(struct rtbp_buf *b, json_t *message, bool from_client)
{
	uint32_t id = (uint32_t)json_integer_value(json_array_get(message, 1));
	json_t *name = json_array_get(message, 1);
	size_t begin;

	switch (json_integer_value(json_array_get(message, 0))) {
	case RTBP_REQUEST:
		name = json_array_get(message, 2);
		if (method_of(name) < 0)
			return false;
		begin = rtbp_msg_begin_request(b, id, (enum rtbp_method)method_of(name));
		break;
	case RTBP_RESPONSE:
		if (!json_is_null(json_array_get(message, 2))) {
			write_error(b, id, json_array_get(message, 2));
			return true;
		}
		begin = rtbp_msg_begin_result(b, id);
		break;
	default:
		if (from_client)
			begin = rtbp_msg_begin_call(b, (enum rtbp_method)method_of(name));
		else
			begin = rtbp_msg_begin_notice(b, (enum rtbp_notice)notice_of(name));
	}
	pack(b, json_array_get(message, json_array_size(message) - 1));
	ck_assert_int_eq(rtbp_msg_end(b, begin), 0);
	return true;
}

static void expect_same(const struct rtbp_buf *a, const struct rtbp_buf *b, const char *name)
{
	ck_assert_msg(rtbp_buf_ok(b) && a->size == b->size, "%s: %zu bytes, %zu written", name,
		      a->size, b->size);
	for (size_t i = 0; i < a->size; i++)
		ck_assert_msg(a->data[i] == b->data[i], "%s: byte %zu", name, i);
}

/* What rtbp_msg_parse() says about the frame against its meaning. */
static void check_meaning(const struct rtbp_msg *m, json_t *message)
{
	struct rtbp_error_info e;
	json_t *v;

	ck_assert_int_eq((int)m->type, json_integer_value(json_array_get(message, 0)));
	if (m->type != RTBP_NOTIFICATION)
		ck_assert_int_eq(m->id, json_integer_value(json_array_get(message, 1)));
	if (m->type == RTBP_RESPONSE) {
		v = json_array_get(message, 2);
		ck_assert_int_eq(m->error.p == NULL, json_is_null(v));
		ck_assert_int_eq(m->result.p != NULL, json_is_null(v));
		if (!m->error.p)
			return;
		ck_assert(rtbp_msg_error(m->error, &e));
		ck_assert_int_eq(e.code, json_integer_value(json_array_get(v, 0)));
		ck_assert(rtbp_str_is(e.name, rtbp_error_name(e.code)));
		return;
	}
	v = json_array_get(message, m->type == RTBP_REQUEST ? 2 : 1);
	ck_assert(rtbp_str_is(m->method, json_string_value(v)));
}

START_TEST(read_and_written)
{
	json_t *vector = json_array_get(vectors, (size_t)_i);
	const char *name = text_of(vector, "name");
	struct rtbp_buf frame = RTBP_BUF_INIT, again = RTBP_BUF_INIT;
	json_t *message = json_object_get(vector, "message");
	struct rtbp_reader reader;
	struct rtbp_fault fault;
	struct rtbp_msg m;
	const uint8_t *body;
	size_t size, room;

	from_hex(text_of(vector, "hex"), &frame);
	rtbp_reader_init(&reader, RTBP_FRAME_MAX_UP);
	memcpy(rtbp_reader_room(&reader, frame.size, &room), frame.data, frame.size);
	rtbp_reader_add(&reader, frame.size);
	ck_assert_int_eq(rtbp_reader_next(&reader, &body, &size), RTBP_FRAME_ONE);
	ck_assert_uint_eq(rtbp_reader_partial(&reader), 0);
	ck_assert_msg(rtbp_msg_parse(body, size, &m, &fault) == 0, "%s: %s", name, fault.text);
	check_meaning(&m, message);
	if (!json_is_true(json_object_get(vector, "other_form")) &&
	    write_frame(&again, message, strcmp(text_of(vector, "from"), "client") == 0))
		expect_same(&frame, &again, name);
	rtbp_reader_done(&reader);
	rtbp_buf_done(&frame);
	rtbp_buf_done(&again);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("vectors");
	TCase *cases = tcase_create("vectors");
	json_error_t error;
	SRunner *runner;
	int n_failed;

	vectors = json_load_file(RTB_FRAMES, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!vectors || json_array_size(vectors) == 0) {
		fprintf(stderr, "%s: %s\n", RTB_FRAMES, error.text);
		return EXIT_FAILURE;
	}
	tcase_add_loop_test(cases, read_and_written, 0, (int)json_array_size(vectors));
	suite_add_tcase(suite, cases);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	json_decref(vectors);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
