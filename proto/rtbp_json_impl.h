/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the two directions of rtbp_json share: text scanning, numbers, duplicate keys.
 *
 * Private to rtbp_json_*.c; nobody else may include it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/rtbp_json.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Both stacks (open containers, either direction) have this many places. */
enum { RTBP_JSON_STACK = 256 };

static inline bool rtbp_is_plain(uint8_t c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/*
 * Skips what stands for itself in a JSON string, in both directions: ASCII but for controls, quote
 * and backslash. Returns the first other byte, or `end`.
 */
static inline const uint8_t *rtbp_skip_plain(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__
	const __m128i space = _mm_set1_epi8(0x20), quote = _mm_set1_epi8('"'),
		      backslash = _mm_set1_epi8('\\');

	for (; end - p >= 16; p += 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
		/* Signed: bytes from 0x80 on are negative, hence below the space as well. */
		__m128i odd = _mm_or_si128(
			_mm_cmplt_epi8(x, space),
			_mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, backslash)));
		unsigned mask = (unsigned)_mm_movemask_epi8(odd);

		if (mask)
			return p + __builtin_ctz(mask);
	}
#endif
	while (p < end && rtbp_is_plain(*p))
		p++;
	return p;
}

/* Length of the UTF-8 sequence at `p` (1 to 4), or 0: overlong, surrogate, above U+10FFFF, cut. */
static inline unsigned rtbp_utf8_len(const uint8_t *p, const uint8_t *end)
{
	size_t left = (size_t)(end - p);
	unsigned n;

	if (!left)
		return 0;
	if (p[0] < 0x80)
		return 1;
	n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || left < n)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* rtbp_buf_room() without the call in the usual case. */
static inline uint8_t *rtbp_json_room(struct rtbp_buf *b, size_t n)
{
	if (!b->error && b->data && n <= b->cap - b->size &&
	    (!b->max_bytes || (b->size <= b->max_bytes && n <= b->max_bytes - b->size)))
		return b->data + b->size;
	return rtbp_buf_room(b, n);
}

static inline void rtbp_json_byte(struct rtbp_buf *b, uint8_t byte)
{
	uint8_t *at = rtbp_json_room(b, 1);

	if (at) {
		*at = byte;
		b->size++;
	}
}

/* The sentence is cut to fit; `fault` may be NULL. Returns `condition`, for `return`. */
int rtbp_json_fail(struct rtbp_json_fault *fault, int condition, size_t offset, const char *text);

/* Numbers: rtbp_json_num.c */

enum rtbp_num_kind {
	RTBP_NUM_UINT,  /* u */
	RTBP_NUM_INT,   /* i, negative */
	RTBP_NUM_FLOAT, /* d */
	RTBP_NUM_TEXT,  /* only the text says it: the ext type */
};

struct rtbp_num {
	enum rtbp_num_kind kind;
	uint64_t u;
	int64_t i;
	double d;
};

/**
 * rtbp_num_read() - read the JSON number at @p and decide what carries it without loss
 * @ret: written when the result is not 0; may be NULL to check the grammar only
 *
 * Return: bytes of the number, or 0 when there is none (then *@ret_bad is where it goes wrong).
 */
size_t rtbp_num_read(const uint8_t *p, const uint8_t *end, struct rtbp_num *ret,
		     const uint8_t **ret_bad);

enum { RTBP_NUM_TEXT_MAX = 32 }; /* room that either printer needs */

/* Writes the shortest JSON text that reads back as `d` (finite), no NUL; returns its length. */
size_t rtbp_num_print(double d, char *ret);

/* Writes an integer in decimal, no NUL; returns its length (at most 20). */
size_t rtbp_num_print_uint(uint64_t u, char *ret);

/* Writing MessagePack: rtbp_json_put.c */

/* How a string, array or map says its length: in the first byte up to fix_max, else behind a code.
 */
struct rtbp_mp_head {
	uint8_t fix, fix_max, code8, code16, code32; /* code8 0: there is none */
};

extern const struct rtbp_mp_head rtbp_mp_head_str, rtbp_mp_head_array, rtbp_mp_head_map;

unsigned rtbp_mp_head_size(const struct rtbp_mp_head *kind, uint32_t n);
void rtbp_mp_write_head(uint8_t *at, const struct rtbp_mp_head *kind, uint32_t n);

/*
 * Turns the one byte kept at out->data[head] into the real header; moves up what follows if it is
 * longer. The buffer must have no error.
 */
void rtbp_mp_settle_head(struct rtbp_buf *out, size_t head, const struct rtbp_mp_head *kind,
			 uint32_t n);

void rtbp_mp_put_uint(struct rtbp_buf *out, uint64_t u);
void rtbp_mp_put_negative(struct rtbp_buf *out, int64_t i);
void rtbp_mp_put_float(struct rtbp_buf *out, double d);
void rtbp_mp_put_number_text(struct rtbp_buf *out, const uint8_t *text, uint32_t n);

/* Duplicate keys: rtbp_json_keys.c */

struct rtbp_key {
	size_t at; /* where the key's bytes (without header) start, relative to a base */
	uint32_t len;
	uint32_t hash : 31;
	uint32_t is_repeated : 1; /* an equal key comes later */
};

enum { RTBP_KEYS_INLINE = 64 };

/* The keys of all open objects, one object after the other: a stack. */
struct rtbp_keys {
	struct rtbp_key *v;
	size_t n, cap;
	struct rtbp_key inline_v[RTBP_KEYS_INLINE]; /* most documents need no allocation */
};

void rtbp_keys_init(struct rtbp_keys *keys);
void rtbp_keys_done(struct rtbp_keys *keys);

/* Adds the key at base[at]; returns 0 or -ENOMEM. */
int rtbp_keys_push(struct rtbp_keys *keys, const uint8_t *base, size_t at, uint32_t len);

/*
 * Sets is_repeated in those of the `n` keys at `v` that come again later; returns how many. When
 * that is 0 the order of `v` may have changed, else it is by `at` as before. O(n log n) in the
 * worst case, whatever the keys are: there is no hash table to flood.
 */
size_t rtbp_keys_find_repeated(struct rtbp_key *v, size_t n, const uint8_t *base);

/* Are these the same key? */
bool rtbp_key_equal(const struct rtbp_key *a, const struct rtbp_key *b, const uint8_t *base);
