/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * JSON by its text: checks a document once and then finds the spans of its parts, so that what is
 * relayed stays the bytes that came (large integers, many digits, duplicate keys, \u0000).
 *
 * It changes nothing and allocates nothing, except ds_json_text() into the caller's buffer. All
 * functions but ds_json_valid() take only text that ds_json_valid() accepted, or a part of it.
 */
#include "buf.h"

enum ds_json_kind {
	DS_JSON_NULL,
	DS_JSON_TRUE,
	DS_JSON_FALSE,
	DS_JSON_NUMBER,
	DS_JSON_STRING,
	DS_JSON_ARRAY,
	DS_JSON_OBJECT
};

/** struct ds_json_iter - position between the elements of an array or object */
struct ds_json_iter {
	const char *p;
	const char *end;
};

/**
 * ds_json_valid() - is @text exactly one JSON value?
 *
 * RFC 8259 and UTF-8, surrogates only in pairs, at most 65536 levels: what the real server's
 * parser takes. Blanks around the value are allowed.
 */
bool ds_json_valid(struct ds_str text);

/** ds_json_trim() - @text without blanks around it */
struct ds_str ds_json_trim(struct ds_str text);

enum ds_json_kind ds_json_kind(struct ds_str value);

/** ds_json_iter() - before the first element of @value; at the end if it is no container */
struct ds_json_iter ds_json_iter(struct ds_str value);
/** ds_json_item() - the next array element, false at the end */
bool ds_json_item(struct ds_json_iter *it, struct ds_str *ret_value);
/** ds_json_member() - the next key (a raw JSON string) and value, false at the end */
bool ds_json_member(struct ds_json_iter *it, struct ds_str *ret_key, struct ds_str *ret_value);

/** ds_json_get() - the last member named @key; false if absent or @object is no object */
bool ds_json_get(struct ds_str object, const char *key, struct ds_str *ret_value);

/** ds_json_key_is() - does the raw JSON string @raw mean @text? */
bool ds_json_key_is(struct ds_str raw, const char *text);

/** ds_json_text() - appends the decoded text of the JSON string @raw */
void ds_json_text(struct ds_str raw, struct ds_buf *b);
