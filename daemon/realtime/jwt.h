/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * jwt: the form of a JSON Web Token, and what it claims. It verifies no signature: that is the
 * server's to do, and nothing here may be taken for more than what the bearer says of itself. Pure:
 * no clock, no state.
 *
 * Why the form matters: the server takes a join's token that it cannot read, or that starts with
 * "sb_", for none, and uses the connection's own key in its place. So what is no token must never
 * be sent.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/rtbp_buf.h"
#include "proto/rtbp_val.h"

enum {
	JWT_ROLE_MAX = 63,
	JWT_DEPTH_MAX = 32, /* nesting of the claims */
};

/* The end of the year 9999; what is later counts as it. */
#define JWT_EXP_MAX INT64_C(253402300799)

struct jwt {
	int64_t exp_s;               /* seconds since the Unix epoch, rounded down */
	char role[JWT_ROLE_MAX + 1]; /* for people: cut, without control characters */
	struct rtbp_buf claims;      /* a MessagePack map: all of the payload; keys are sorted */
	uint64_t hash;               /* of the claims that jwt_same_claims() looks at */
};

/**
 * jwt_read() - reads a token
 * @now_s: wall clock, for `exp`
 * @ret: filled on success; jwt_done() frees it
 * @ret_text: static: what is wrong, as the end of a sentence that begins "the token "
 *
 * Wrong are: no bytes or more than RTBP_TOKEN_MAX, one that starts with "sb_" (an API key), other
 * than three parts of base64url without padding (nor stray bits), an empty signature, a header or
 * payload that is no JSON object or nested deeper than JWT_DEPTH_MAX, an `alg` that is missing or
 * none (in any case), an `exp` that is missing, no number, or not in the future, a `role` that is
 * missing or no string or empty.
 *
 * Return: 0; 1 with @ret_text; -ENOMEM.
 */
int jwt_read(const char *bytes, size_t size, int64_t now_s, struct jwt *ret, const char **ret_text);
/* Wipes and frees. */
void jwt_done(struct jwt *jwt);

/* Whether both claim the same, apart from exp, iat, nbf and jti at the top. The order of keys does
 * not count; numbers are equal when their bytes in MessagePack are (1 and 1.0 are not). Those
 * that differ mostly do in their hash; else it costs as much as to compare the bytes. */
bool jwt_same_claims(const struct jwt *a, const struct jwt *b);
