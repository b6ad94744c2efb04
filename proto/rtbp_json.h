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
 *   - everything in its smallest encoding, so one document has exactly one encoding;
 *   - integers (neither fraction nor exponent) that fit int64 or uint64 become integers;
 *   - other numbers become float64 if their digits survive: the shortest text that reads back as
 *     that float has the same decimal digits and the same magnitude. How the exponent is written
 *     does not matter, zeros that only carry the magnitude are no digits (100e3, 1e5 and 100000.0
 *     have one), nor is one ".0"; but further zeros at the end of a fraction are digits, with or
 *     without an exponent (a `numeric` 1.50 is not 1.5, 2.00 not 2.0). Else they become ext type
 *     RTBP_EXT_NUMBER whose bytes are the number's JSON text as it came. So `numeric` columns and
 *     23-digit integers lose nothing; -0 becomes float64 -0.0, 1e400 an ext;
 *   - duplicate keys of an object (compared after unescaping): the last pair wins and stands at its
 *     own place, the earlier ones are gone;
 *   - a lone surrogate escape becomes U+FFFD; \u0000 is an ordinary character;
 *   - refused: anything that RFC 8259 does not allow (a byte order mark too), invalid UTF-8,
 *     trailing bytes, depth beyond the limit. An array or object in itself has depth 1.
 *
 * MessagePack to JSON (input need not have been checked before; any encoding size is accepted):
 *   - refused with the path of the culprit: keys that are no strings, duplicate keys, NaN and
 *     infinities, bin, ext other than RTBP_EXT_NUMBER (whose bytes must be one JSON number),
 * invalid UTF-8, depth beyond RTBP_JSON_DEPTH, malformed or trailing bytes;
 *   - floats print shortest such that they read back as the same float64, always with '.' or
 *     exponent: plain from 0.0001 to below 1e16, else like 1.5e-7;
 *   - no spaces between tokens; '/', DEL and non-ASCII are not escaped.
 *
 * Time is O(n log n) and memory O(n) in the input's size n whatever the input is (times the depth
 * for moving containers that need a longer header or lose duplicates).
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

/* Where and what: means something only when a function returned > 0. */
struct rtbp_json_fault {
	size_t offset;  /* byte offset in the input */
	char path[128]; /* MessagePack to JSON: like `$.a[3]."b c"`, cut with "..." when longer;
			   the map's own path when the key is no string or not UTF-8.
			   JSON to MessagePack: "" */
	char text[128]; /* a sentence for people, without the path and without the input's contents
			 */
};

/**
 * rtbp_json_to_mp() - append one JSON document to @out as one MessagePack value
 * @max_depth: deepest nesting accepted; more than 256 counts as 256, 0 allows scalars only
 *
 * The limit of @out holds all the time, so a document may break it by pairs that would have been
 * dropped as duplicates. Thread-safe; needs about 10 KiB of stack.
 *
 * Return: 0; RTBP_JSON_E_* with @fault filled (@fault may be NULL); -ENOMEM, -EMSGSIZE: from @out,
 * or for want of memory while working, or because @size is 4 GiB or more. On anything but 0 @out
 * has the size that it had before (a sticky error of @out stays).
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

/* Appends @text as a JSON string with its quotes. Each byte that is no part of valid UTF-8 becomes
 * U+FFFD, so it cannot fail (but for @out's own error). */
void rtbp_json_quote(struct rtbp_buf *out, const char *text, size_t size);
