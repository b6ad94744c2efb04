/* SPDX-License-Identifier: MIT */
#include "realtime/jwt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mix.h"
#include "base/secret.h"
#include "base/text.h"
#include "proto/rtbp_json.h"
#include "proto/rtbp_pack.h"
#include "proto/rtbp_table.h"

enum {
	PART_MAX = RTBP_TOKEN_MAX / 4 * 3 + 2, /* bytes of a part, decoded */
};

/* What makes two tokens of one bearer differ without making them another bearer's. */
static const char *const passing[] = { "exp", "iat", "nbf", "jti" };

/* ---- base64url ---- */

static int digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* One form for each sequence of bytes: no padding, and the bits that carry nothing are zero.
 * Return: the number of bytes, 0 for none; -1. */
static int decode(const char *text, size_t size, uint8_t *ret)
{
	uint32_t bits = 0;
	unsigned n_bits = 0;
	int n = 0, d;

	if (size % 4 == 1)
		return -1;
	for (size_t i = 0; i < size; i++) {
		d = digit(text[i]);
		if (d < 0)
			return -1;
		bits = (bits << 6 | (uint32_t)d) & 0xffff;
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			ret[n++] = (uint8_t)(bits >> n_bits);
		}
	}
	return bits & ((1u << n_bits) - 1) ? -1 : n;
}

/* ---- maps in one order ---- */

struct pair {
	struct rtbp_str key;
	struct rtbp_val value;
};

static int by_key(const void *one, const void *other)
{
	const struct pair *a = one, *b = other;
	size_t n = a->key.size < b->key.size ? a->key.size : b->key.size;
	int r = n ? memcmp(a->key.p, b->key.p, n) : 0;

	return r != 0 ? r : (a->key.size > b->key.size) - (a->key.size < b->key.size);
}

static int put_sorted(struct rtbp_buf *out, struct rtbp_val v);

static int put_sorted_map(struct rtbp_buf *out, struct rtbp_iter it)
{
	size_t n = it.left / 2;
	struct pair *pairs = calloc(n ? n : 1, sizeof(*pairs));
	struct rtbp_val key;
	int r = 0;

	if (!pairs)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		rtbp_iter_next(&it, &key);
		rtbp_get_str(key, &pairs[i].key);
		rtbp_iter_next(&it, &pairs[i].value);
	}
	qsort(pairs, n, sizeof(*pairs), by_key);
	rtbp_pack_map(out, (uint32_t)n);
	for (size_t i = 0; i < n && r == 0; i++) {
		rtbp_pack_str(out, pairs[i].key.p, pairs[i].key.size);
		r = put_sorted(out, pairs[i].value);
	}
	free(pairs);
	return r;
}

/* Appends `v` with the keys of all its maps in the order of their bytes, so that equal claims are
 * equal bytes. Recursive: `v` is at most JWT_DEPTH_MAX deep. */
static int put_sorted(struct rtbp_buf *out, struct rtbp_val v)
{
	struct rtbp_iter it;
	int r = 0;

	if (rtbp_iter_map(v, &it))
		return put_sorted_map(out, it);
	if (!rtbp_iter_array(v, &it)) {
		rtbp_pack_val(out, v);
		return 0;
	}
	rtbp_pack_array(out, it.left);
	while (r == 0 && rtbp_iter_next(&it, &v))
		r = put_sorted(out, v);
	return r;
}

/* ---- the parts ---- */

/* A part that is a JSON object. Return: 0; 1: it is none; -ENOMEM. */
static int read_object(const char *part, size_t size, struct rtbp_buf *ret, const char **ret_text)
{
	uint8_t json[PART_MAX];
	int n = decode(part, size, json), r;

	if (n < 0) {
		*ret_text = "is not base64url without padding";
		return 1;
	}
	r = rtbp_json_to_mp((const char *)json, (size_t)n, JWT_DEPTH_MAX, ret, NULL);
	explicit_bzero(json, sizeof(json));
	if (r == RTBP_JSON_E_DEPTH) {
		*ret_text = "is nested too deep";
		return 1;
	}
	if (r > 0 || (r == 0 && !rtbp_is((struct rtbp_val){ ret->data, ret->size }, RTBP_MAP))) {
		*ret_text = "has a part that is no JSON object";
		return 1;
	}
	return r;
}

static int check_header(const char *part, size_t size, const char **ret_text)
{
	struct rtbp_buf header = RTBP_BUF_INIT;
	int r = read_object(part, size, &header, ret_text);
	struct rtbp_str alg;

	if (r == 0) {
		if (!rtbp_get_str(
			    rtbp_find((struct rtbp_val){ header.data, header.size }, "alg", 3),
			    &alg) ||
		    alg.size == 0) {
			*ret_text = "does not say how it is signed (alg)";
			r = 1;
		} else if (alg.size == 4 && strncasecmp(alg.p, "none", 4) == 0) {
			*ret_text = "is not signed (alg none)";
			r = 1;
		}
	}
	rtbp_buf_done(&header);
	return r;
}

static int check_signature(const char *part, size_t size, const char **ret_text)
{
	uint8_t bytes[PART_MAX];
	int n = decode(part, size, bytes);

	explicit_bzero(bytes, sizeof(bytes));
	if (n > 0)
		return 0;
	*ret_text = n < 0 ? "is not base64url without padding" : "has no signature";
	return 1;
}

/* ---- whose? ---- */

static bool is_passing(struct rtbp_str key)
{
	for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++) {
		if (rtbp_str_is(key, passing[i]))
			return true;
	}
	return false;
}

/* The next pair that counts. */
static bool next_pair(struct rtbp_iter *it, struct pair *ret)
{
	struct rtbp_val key;

	while (rtbp_iter_next(it, &key) && rtbp_iter_next(it, &ret->value)) {
		rtbp_get_str(key, &ret->key);
		if (!is_passing(ret->key))
			return true;
	}
	return false;
}

static uint64_t hash_of(struct rtbp_val claims)
{
	struct rtbp_iter it;
	struct pair pair;
	uint64_t hash = 0;

	rtbp_iter_map(claims, &it);
	while (next_pair(&it, &pair)) {
		hash = mix_bytes(hash, pair.key.p, pair.key.size);
		hash = mix_bytes(hash, pair.value.p, pair.value.size);
	}
	return hash;
}

/* ---- the claims ---- */

static int64_t seconds_of(double s)
{
	if (s >= (double)JWT_EXP_MAX)
		return JWT_EXP_MAX;
	return s <= 0 ? 0 : (int64_t)s;
}

/* A time before the epoch is as much in the past as the epoch itself. */
static bool read_exp(struct rtbp_val v, int64_t *ret)
{
	char text[PART_MAX];
	struct rtbp_str digits;
	int64_t n;
	int8_t type;
	double d;

	if (rtbp_is(v, RTBP_INT)) {
		if (!rtbp_get_int(v, &n) || n > JWT_EXP_MAX) /* what does not fit is too large */
			n = JWT_EXP_MAX;
		*ret = n > 0 ? n : 0;
		return true;
	}
	if (rtbp_get_float(v, &d)) {
		*ret = seconds_of(d);
		return true;
	}
	/* 1800000000.50: text, because a float would lose a digit (proto/rtbp_json.h). The daemon
	 * never leaves the locale "C". */
	if (!rtbp_get_ext(v, &type, &digits) || type != RTBP_EXT_NUMBER ||
	    digits.size >= sizeof(text))
		return false;
	memcpy(text, digits.p, digits.size);
	text[digits.size] = '\0';
	*ret = seconds_of(strtod(text, NULL));
	return true;
}

/* As much as fits, in whole characters, and none that a terminal would obey. */
static void copy_role(char *to, struct rtbp_str role)
{
	size_t n = role.size;

	if (n > JWT_ROLE_MAX) {
		n = JWT_ROLE_MAX;
		while (n > 0 && ((uint8_t)role.p[n] & 0xc0) == 0x80)
			n--;
	}
	for (size_t i = 0; i < n; i++)
		to[i] = role.p[i] ? role.p[i] : '?';
	to[n] = '\0';
	text_clean(to);
}

static int read_claims(struct jwt *jwt, int64_t now_s, const char **ret_text)
{
	struct rtbp_val claims = { jwt->claims.data, jwt->claims.size };
	struct rtbp_val exp = rtbp_find(claims, "exp", 3);
	struct rtbp_str role;

	if (!exp.p)
		*ret_text = "does not say when it expires (exp)";
	else if (!read_exp(exp, &jwt->exp_s))
		*ret_text = "has an exp that is no number";
	else if (jwt->exp_s <= now_s)
		*ret_text = "has expired";
	else if (!rtbp_get_str(rtbp_find(claims, "role", 4), &role) || role.size == 0)
		*ret_text = "names no role";
	else
		*ret_text = NULL;
	if (*ret_text)
		return 1;
	copy_role(jwt->role, role);
	jwt->hash = hash_of(claims);
	return 0;
}

/* `part` becomes jwt->claims. */
static int read_payload(struct jwt *jwt, const char *part, size_t size, const char **ret_text)
{
	struct rtbp_buf raw = RTBP_BUF_INIT;
	int r = read_object(part, size, &raw, ret_text);

	/* All at once, so that it is wiped as a whole. */
	if (r == 0 && !rtbp_buf_room(&jwt->claims, raw.size))
		r = -ENOMEM;
	if (r == 0)
		r = put_sorted(&jwt->claims, (struct rtbp_val){ raw.data, raw.size });
	if (r == 0 && !rtbp_buf_ok(&jwt->claims))
		r = -ENOMEM;
	secret_wipe_buf(&raw);
	return r;
}

static const char *look_at(const char *bytes, size_t size)
{
	if (size == 0)
		return "is empty";
	if (size > RTBP_TOKEN_MAX)
		return "is longer than 8192 bytes";
	if (size >= 3 && memcmp(bytes, "sb_", 3) == 0)
		return "is an API key, no JSON Web Token";
	return NULL;
}

int jwt_read(const char *bytes, size_t size, int64_t now_s, struct jwt *ret, const char **ret_text)
{
	struct jwt jwt = { .claims = RTBP_BUF_INIT };
	const char *end = bytes + size, *payload = NULL, *signature = NULL;
	int r;

	*ret_text = look_at(bytes, size);
	if (*ret_text)
		return 1;
	payload = memchr(bytes, '.', size);
	if (payload)
		signature = memchr(payload + 1, '.', (size_t)(end - payload - 1));
	if (!signature || memchr(signature + 1, '.', (size_t)(end - signature - 1))) {
		*ret_text = "has not three parts with dots between them";
		return 1;
	}
	r = check_header(bytes, (size_t)(payload - bytes), ret_text);
	if (r == 0)
		r = check_signature(signature + 1, (size_t)(end - signature - 1), ret_text);
	if (r == 0)
		r = read_payload(&jwt, payload + 1, (size_t)(signature - payload - 1), ret_text);
	if (r == 0)
		r = read_claims(&jwt, now_s, ret_text);
	if (r == 0)
		*ret = jwt;
	else
		jwt_done(&jwt);
	return r;
}

void jwt_done(struct jwt *jwt)
{
	secret_wipe_buf(&jwt->claims);
	explicit_bzero(jwt, sizeof(*jwt));
}

bool jwt_same_claims(const struct jwt *a, const struct jwt *b)
{
	struct rtbp_iter it_a, it_b;
	struct pair x, y;
	bool more_a, more_b;

	if (a->hash != b->hash ||
	    !rtbp_iter_map((struct rtbp_val){ a->claims.data, a->claims.size }, &it_a) ||
	    !rtbp_iter_map((struct rtbp_val){ b->claims.data, b->claims.size }, &it_b))
		return false;
	for (;;) {
		more_a = next_pair(&it_a, &x);
		more_b = next_pair(&it_b, &y);
		if (!more_a || !more_b)
			return more_a == more_b;
		if (x.key.size != y.key.size || x.value.size != y.value.size ||
		    memcmp(x.key.p, y.key.p, x.key.size) != 0 ||
		    memcmp(x.value.p, y.value.p, x.value.size) != 0)
			return false;
	}
}
