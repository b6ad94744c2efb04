/* SPDX-License-Identifier: MIT */
/*
 * Two tokens of any bytes, the second one behind the first newline. What follows the first byte is
 * taken as it stands when that is `t`; with `c` both are claims in JSON, which are wrapped up as
 * tokens first, so that the fuzzer need not learn base64.
 *
 * Checked: what is taken keeps the promises of the header; to be of one bearer is symmetric, and
 * every token is of its own; claims in another encoding of the same bytes say the same.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "proto/rtbp_json.h"
#include "realtime/jwt.h"

enum { NOW = 1800000000 };

static void encode(struct rtbp_buf *to, const uint8_t *bytes, size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789-_";
	uint32_t bits = 0;
	unsigned n_bits = 0;

	for (size_t i = 0; i < size; i++) {
		bits = bits << 8 | bytes[i];
		for (n_bits += 8; n_bits >= 6; n_bits -= 6)
			rtbp_buf_byte(to, (uint8_t)digits[bits >> (n_bits - 6) & 63]);
	}
	if (n_bits > 0)
		rtbp_buf_byte(to, (uint8_t)digits[bits << (6 - n_bits) & 63]);
}

/* Return: whether `ret` is a token. */
static bool read_token(const uint8_t *bytes, size_t size, struct jwt *ret)
{
	const char *text = NULL;
	size_t end;
	int r = jwt_read((const char *)bytes, size, NOW, ret, &text);

	FUZZ_CHECK(r == 0 || (r == 1 && text && *text));
	if (r != 0)
		return false;
	FUZZ_CHECK(size > 0 && size <= RTBP_TOKEN_MAX && !memchr(bytes, '\0', size));
	FUZZ_CHECK(ret->exp_s > NOW && ret->exp_s <= JWT_EXP_MAX);
	FUZZ_CHECK(*ret->role && strlen(ret->role) <= JWT_ROLE_MAX);
	FUZZ_CHECK(rtbp_utf8_valid(ret->role, strlen(ret->role)));
	for (const char *p = ret->role; *p; p++)
		FUZZ_CHECK((uint8_t)*p >= 0x20 && *p != 0x7f);
	FUZZ_CHECK(rtbp_check(ret->claims.data, ret->claims.size, JWT_DEPTH_MAX, &end) == 0);
	FUZZ_CHECK(rtbp_is((struct rtbp_val){ ret->claims.data, ret->claims.size }, RTBP_MAP));
	FUZZ_CHECK(jwt_same_claims(ret, ret));
	return true;
}

static bool read_claims(const uint8_t *json, size_t size, struct jwt *ret)
{
	struct rtbp_buf b = RTBP_BUF_INIT;
	bool ok;

	rtbp_buf_text(&b, "eyJhbGciOiJIUzI1NiJ9.");
	encode(&b, json, size);
	rtbp_buf_text(&b, ".c2ln");
	ok = read_token(b.data, b.size, ret);
	rtbp_buf_done(&b);
	return ok;
}

/* The keys of all maps were sorted; as JSON and back they say the same again. */
static void check_round_trip(const struct jwt *jwt)
{
	struct rtbp_buf json = RTBP_BUF_INIT;
	struct jwt again;

	FUZZ_CHECK(rtbp_mp_to_json(jwt->claims.data, jwt->claims.size, &json, NULL) == 0);
	/* It may have grown: "\b" became "\u0008". */
	if (json.size < RTBP_TOKEN_MAX / 4 * 3 - 64) {
		FUZZ_CHECK(read_claims(json.data, json.size, &again));
		FUZZ_CHECK(again.claims.size == jwt->claims.size &&
			   memcmp(again.claims.data, jwt->claims.data, jwt->claims.size) == 0);
		FUZZ_CHECK(jwt_same_claims(jwt, &again) && again.exp_s == jwt->exp_s);
		jwt_done(&again);
	}
	rtbp_buf_done(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool (*read)(const uint8_t *bytes, size_t size, struct jwt *ret);
	const uint8_t *second;
	struct jwt a, b;
	bool has_a, has_b;
	size_t n;

	if (size == 0)
		return 0;
	read = data[0] == 'c' ? read_claims : read_token;
	data++;
	size--;
	second = memchr(data, '\n', size);
	n = second ? (size_t)(second - data) : size;
	has_a = read(data, n, &a);
	has_b = second && read(second + 1, size - n - 1, &b);
	if (has_a)
		check_round_trip(&a);
	if (has_a && has_b)
		FUZZ_CHECK(jwt_same_claims(&a, &b) == jwt_same_claims(&b, &a));
	if (has_a)
		jwt_done(&a);
	if (has_b)
		jwt_done(&b);
	return 0;
}
