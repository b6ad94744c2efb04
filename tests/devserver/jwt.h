/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * JSON Web Tokens signed with a shared secret (HS256, HS384, HS512): check and make.
 * Knows no sockets and no clock; the caller gives the time.
 */
#include "buf.h"

/** enum ds_jwt - what is wrong with a token; the order of the checks is the order here */
enum ds_jwt {
	DS_JWT_OK,
	DS_JWT_MALFORMED, /* not three parts of base64url with JSON objects in the first two */
	DS_JWT_SIGNER,    /* an algorithm that the secret cannot serve */
	DS_JWT_SIGNATURE,
	DS_JWT_EXP_TYPE, /* exp is no number */
	DS_JWT_EXPIRED,
	DS_JWT_CLAIMS /* role or exp is missing */
};

/**
 * ds_jwt_check() - checks signature, exp and role
 * @now_ms:     wall clock, milliseconds since 1970
 * @ret_exp_ms: when the token ends; set for DS_JWT_OK and DS_JWT_EXPIRED
 */
enum ds_jwt ds_jwt_check(struct ds_str token, const char *secret, int64_t now_ms,
			 int64_t *ret_exp_ms);

/** ds_jwt_claims() - appends the JSON text of the claims of a token that ds_jwt_check() let pass */
void ds_jwt_claims(struct ds_str token, struct ds_buf *b);

/**
 * ds_jwt_sign() - appends a HS256 token
 * @claims: JSON text of the claims
 */
void ds_jwt_sign(struct ds_str claims, const char *secret, struct ds_buf *b);

/** ds_base64url() - appends @bytes in base64url without padding */
void ds_base64url(struct ds_buf *b, const void *bytes, size_t n);
/** ds_base64_decode() - appends the bytes of base64 or base64url text; false if it is neither */
bool ds_base64_decode(struct ds_buf *b, struct ds_str text);
