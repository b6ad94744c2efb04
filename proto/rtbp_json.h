/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * JSON text <-> MessagePack, both directions, without a tree in between.
 *
 * Lives in proto/ because the number rule is part of the local protocol: the daemon applies it to
 * what the server sends, the client library and the command undo it. Strict, iterative (no
 * recursion), safe on hostile input; no locale dependence.
 *
 * JSON to MessagePack:
 *   - integers that fit int64 or uint64 become integers (smallest encoding);
 *   - other numbers become float64 if their digits survive: the shortest text that reads back as
 * that float has the same decimal digits and the same magnitude. How the exponent is written does
 * not matter, and one ".0" is no digit, but further zeros at the end of a plain fraction are (a
 * `numeric` 1.50 is not 1.5). Else they become ext type RTBP_EXT_NUMBER whose bytes are the
 * number's JSON text as it came. So `numeric` columns and 23-digit integers lose nothing; -0
 * becomes float64 -0.0, 1e400 an ext;
 *   - duplicate keys of an object: the last one wins, at the first one's place or at its own;
 *   - a lone surrogate escape becomes U+FFFD; \u0000 is an ordinary character;
 *   - invalid UTF-8, control characters in strings, trailing bytes, depth beyond the limit:
 * refused.
 *
 * MessagePack to JSON (input need not have been checked before):
 *   - refused with the path of the culprit: keys that are no strings, duplicate keys, NaN and
 * infinities, bin, ext other than RTBP_EXT_NUMBER (whose bytes must be one JSON number), invalid
 * UTF-8, depth beyond RTBP_JSON_DEPTH, malformed or trailing bytes;
 *   - floats print shortest such that they read back as the same float64, always with '.' or
 * exponent;
 *   - no spaces between tokens; '/' and non-ASCII are not escaped.
 */
#include <stddef.h>

#include "proto/rtbp_buf.h"

enum {
	RTBP_EXT_NUMBER = 1,  /* ext type: a JSON number as text */
	RTBP_JSON_DEPTH = 64, /* deepest nesting of arrays and objects in a payload */
};

enum {
	RTBP_JSON_E_SYNTAX = 1, /* not JSON, or not MessagePack */
	RTBP_JSON_E_DEPTH,      /* nested deeper than the limit */
	RTBP_JSON_E_UTF8,       /* a string is not UTF-8 */
	RTBP_JSON_E_KEY,        /* MessagePack map key that is no string, or twice the same */
	RTBP_JSON_E_VALUE, /* MessagePack value that JSON cannot say: bin, ext, NaN, infinity */
};

/* Where and what: filled only when a function returns > 0. */
struct rtbp_json_fault {
	size_t offset;  /* byte offset in the input */
	char path[128]; /* MessagePack to JSON: like `$.a[3]."b c"`, cut with "..." when longer;
			   else "" */
	char text[128]; /* a sentence for people, without the path and without the input's contents
			 */
};

/**
 * rtbp_json_to_mp() - append one JSON document to @out as one MessagePack value
 * @max_depth: deepest nesting accepted (at most 256)
 *
 * Return: 0; RTBP_JSON_E_* with @fault filled (@fault may be NULL); -ENOMEM or -EMSGSIZE from @out.
 * On anything but 0 @out has the size that it had before (a sticky error of @out stays).
 */
int rtbp_json_to_mp(const char *json, size_t size, unsigned max_depth, struct rtbp_buf *out,
		    struct rtbp_json_fault *fault);

/**
 * rtbp_mp_to_json() - append one MessagePack value to @out as JSON text (no NUL at the end)
 *
 * Return: as rtbp_json_to_mp().
 */
int rtbp_mp_to_json(const void *mp, size_t size, struct rtbp_buf *out,
		    struct rtbp_json_fault *fault);

/* Appends @text as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD, so it cannot fail.
 */
void rtbp_json_quote(struct rtbp_buf *out, const char *text, size_t size);
