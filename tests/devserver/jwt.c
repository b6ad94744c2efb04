/* SPDX-License-Identifier: MIT */
#include "jwt.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

void ds_base64url(struct ds_buf *b, const void *bytes, size_t n)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const unsigned char *p = bytes;

	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)p[i] << 16;

		if (i + 1 < n)
			v |= (unsigned)p[i + 1] << 8;
		if (i + 2 < n)
			v |= p[i + 2];
		ds_buf_byte(b, (unsigned char)letters[v >> 18]);
		ds_buf_byte(b, (unsigned char)letters[(v >> 12) & 63]);
		if (i + 1 < n)
			ds_buf_byte(b, (unsigned char)letters[(v >> 6) & 63]);
		if (i + 2 < n)
			ds_buf_byte(b, (unsigned char)letters[v & 63]);
	}
}

static int letter_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-' || c == '+')
		return 62;
	return c == '_' || c == '/' ? 63 : -1;
}

bool ds_base64_decode(struct ds_buf *b, struct ds_str text)
{
	unsigned bits = 0;
	int n = 0;

	while (text.n && text.p[text.n - 1] == '=')
		text.n--;
	if (text.n % 4 == 1)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		int v = letter_value(text.p[i]);

		if (v < 0)
			return false;
		bits = bits << 6 | (unsigned)v;
		n += 6;
		if (n >= 8) {
			n -= 8;
			ds_buf_byte(b, (unsigned char)(bits >> n));
		}
	}
	return true;
}

/* One base64url part that holds a JSON object; the caller drops the reference. */
static json_t *part_object(struct ds_str part)
{
	struct ds_buf b = { 0 };
	json_t *j = NULL;

	if (ds_base64_decode(&b, part))
		j = json_loadb(b.data ? b.data : "", b.len, 0, NULL);
	ds_buf_done(&b);
	if (json_is_object(j))
		return j;
	json_decref(j);
	return NULL;
}

static const EVP_MD *algorithm(const json_t *header)
{
	const char *alg = json_string_value(json_object_get(header, "alg"));

	if (alg && strcmp(alg, "HS256") == 0)
		return EVP_sha256();
	if (alg && strcmp(alg, "HS384") == 0)
		return EVP_sha384();
	if (alg && strcmp(alg, "HS512") == 0)
		return EVP_sha512();
	return NULL;
}

static bool signature_matches(const EVP_MD *md, const char *secret, struct ds_str signed_part,
			      struct ds_str signature)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned mac_n = 0;
	struct ds_buf given = { 0 };
	bool same;

	HMAC(md, secret, (int)strlen(secret), (const unsigned char *)signed_part.p, signed_part.n,
	     mac, &mac_n);
	same = ds_base64_decode(&given, signature) && given.len == mac_n &&
	       CRYPTO_memcmp(given.data, mac, mac_n) == 0;
	ds_buf_done(&given);
	return same;
}

static enum ds_jwt check_claims(const json_t *claims, int64_t now_ms, int64_t *ret_exp_ms)
{
	json_t *exp = json_object_get(claims, "exp");
	double exp_s;

	if (exp && !json_is_number(exp))
		return DS_JWT_EXP_TYPE;
	if (!exp || !json_object_get(claims, "role"))
		return DS_JWT_CLAIMS;
	exp_s = json_number_value(exp);
	/* Beyond the year 5000 all times are alike, and the sums with them stay within int64. */
	if (exp_s > 1e11)
		exp_s = 1e11;
	if (exp_s < -1e11)
		exp_s = -1e11;
	*ret_exp_ms = (int64_t)(exp_s * 1000);
	return *ret_exp_ms > now_ms ? DS_JWT_OK : DS_JWT_EXPIRED;
}

enum ds_jwt ds_jwt_check(struct ds_str token, const char *secret, int64_t now_ms,
			 int64_t *ret_exp_ms)
{
	const char *end = token.p + token.n;
	const char *dot1 = token.n ? memchr(token.p, '.', token.n) : NULL;
	const char *dot2 = dot1 ? memchr(dot1 + 1, '.', (size_t)(end - dot1 - 1)) : NULL;
	struct ds_str signature;
	json_t *header, *claims;
	enum ds_jwt r = DS_JWT_MALFORMED;

	if (!dot2 || memchr(dot2 + 1, '.', (size_t)(end - dot2 - 1)))
		return DS_JWT_MALFORMED;
	signature = (struct ds_str){ dot2 + 1, (size_t)(end - dot2 - 1) };
	header = part_object((struct ds_str){ token.p, (size_t)(dot1 - token.p) });
	claims = part_object((struct ds_str){ dot1 + 1, (size_t)(dot2 - dot1 - 1) });
	if (header && claims) {
		const EVP_MD *md = algorithm(header);
		struct ds_str body = { token.p, (size_t)(dot2 - token.p) };

		if (!md)
			r = DS_JWT_SIGNER;
		else if (!signature_matches(md, secret, body, signature))
			r = DS_JWT_SIGNATURE;
		else
			r = check_claims(claims, now_ms, ret_exp_ms);
	}
	json_decref(header);
	json_decref(claims);
	return r;
}

void ds_jwt_claims(struct ds_str token, struct ds_buf *b)
{
	const char *end = token.p + token.n;
	const char *dot1 = memchr(token.p, '.', token.n);
	const char *dot2 = dot1 ? memchr(dot1 + 1, '.', (size_t)(end - dot1 - 1)) : NULL;

	if (dot2)
		ds_base64_decode(b, (struct ds_str){ dot1 + 1, (size_t)(dot2 - dot1 - 1) });
}

void ds_jwt_sign(struct ds_str claims, const char *secret, struct ds_buf *b)
{
	static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned mac_n = 0;
	size_t start = b->len;

	ds_base64url(b, header, sizeof(header) - 1);
	ds_buf_byte(b, '.');
	ds_base64url(b, claims.p, claims.n);
	HMAC(EVP_sha256(), secret, (int)strlen(secret), (unsigned char *)b->data + start,
	     b->len - start, mac, &mac_n);
	ds_buf_byte(b, '.');
	ds_base64url(b, mac, mac_n);
}
