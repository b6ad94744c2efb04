/* SPDX-License-Identifier: MIT */
/* daemon/realtime/jwt.h: the form of a token, and whose it is. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/rtbp_json.h"
#include "realtime/jwt.h"
#include "suite.h"

enum { NOW = 1800000000 };

#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

/* ---- making tokens ---- */

static size_t encode(const char *bytes, size_t size, char *to)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789-_";
	uint32_t bits = 0;
	unsigned n_bits = 0;
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		bits = bits << 8 | (uint8_t)bytes[i];
		for (n_bits += 8; n_bits >= 6; n_bits -= 6)
			to[n++] = digits[bits >> (n_bits - 6) & 63];
	}
	if (n_bits > 0)
		to[n++] = digits[bits << (6 - n_bits) & 63];
	return n;
}

static char token[64 * 1024];

static size_t make_sized(const char *header, const char *payload, size_t payload_size,
			 const char *signature)
{
	size_t n = encode(header, strlen(header), token);

	token[n++] = '.';
	n += encode(payload, payload_size, token + n);
	token[n++] = '.';
	memcpy(token + n, signature, strlen(signature) + 1);
	return n + strlen(signature);
}

static size_t make(const char *header, const char *payload)
{
	return make_sized(header, payload, strlen(payload), "c2lnbmF0dXJl");
}

/* ---- reading ---- */

static void assert_wrong(size_t size, const char *words)
{
	const char *text = NULL;
	struct jwt jwt;

	ck_assert_msg(jwt_read(token, size, NOW, &jwt, &text) == 1, "taken: %.*s", (int)size,
		      token);
	ck_assert_msg(strstr(text, words), "\"%s\" for %.*s", text, (int)size, token);
}

static struct jwt read_claims(const char *payload)
{
	const char *text = "";
	size_t size = make(HEADER, payload);
	struct jwt jwt;

	ck_assert_msg(jwt_read(token, size, NOW, &jwt, &text) == 0, "%s: %s", payload, text);
	return jwt;
}

/* The keys that every local Supabase has. */
START_TEST(golden)
{
	static const struct {
		const char *token, *role;
		int64_t exp_s;
	} tokens[] = {
		{ "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
		  "eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6ImFub24iLCJleHAiOjE5ODM4MTI5OTZ9."
		  "CRXP1A7WOeoJeXxjNni43kdQwgnWNReilDMblYTn_I0",
		  "anon", 1983812996 },
		{ "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
		  "eyJpc3MiOiJzdXBhYmFzZS1kZW1vIiwicm9sZSI6InNlcnZpY2Vfcm9sZSIsImV4cCI6MTk4MzgxMjk"
		  "5Nn0."
		  "EGIM96RAZx35lJzdJsyH-qQwv8Hdp7fsn3W0YpN81IU",
		  "service_role", 1983812996 },
	};
	const char *text = NULL;
	struct jwt jwt;
	struct rtbp_str s;

	for (size_t i = 0; i < sizeof(tokens) / sizeof(*tokens); i++) {
		ck_assert_int_eq(
			jwt_read(tokens[i].token, strlen(tokens[i].token), NOW, &jwt, &text), 0);
		ck_assert_str_eq(jwt.role, tokens[i].role);
		ck_assert_int_eq(jwt.exp_s, tokens[i].exp_s);
		ck_assert(rtbp_get_str(
			rtbp_find((struct rtbp_val){ jwt.claims.data, jwt.claims.size }, "iss", 3),
			&s));
		ck_assert(rtbp_str_is(s, "supabase-demo"));
		jwt_done(&jwt);
		/* Once more is fine, and so is the moment before; at exp it has expired. */
		jwt_done(&jwt);
		ck_assert_int_eq(jwt_read(tokens[i].token, strlen(tokens[i].token),
					  tokens[i].exp_s - 1, &jwt, &text),
				 0);
		jwt_done(&jwt);
		ck_assert_int_eq(jwt_read(tokens[i].token, strlen(tokens[i].token), tokens[i].exp_s,
					  &jwt, &text),
				 1);
		ck_assert_str_eq(text, "has expired");
	}
}
END_TEST

/* Each with an "exp" and a "role" that would do, unless that is what is wrong. */
static const struct {
	const char *token, *words;
} forms[] = {
	{ "", "is empty" },
	{ "sb_publishable_abc", "API key" },
	{ "sb_.e30.c2ln", "API key" },
	{ "sb", "three parts" },
	{ "e30", "three parts" },
	{ "e30.e30", "three parts" },
	{ "e30.e30.e30.e30", "three parts" },
	{ "e30.e30.c2ln.", "three parts" },
	{ "..", "JSON object" },
	{ ".e30.c2ln", "JSON object" },
	{ "eyJhbGciOiJIUzI1NiJ9..c2ln", "JSON object" },
	{ "eyJhbGciOiJIUzI1NiJ9.e30.", "no signature" },
	{ "eyJhbGciOiJIUzI1NiJ9.e30.c2ln==", "base64url" }, /* padded */
	{ "eyJhbGciOiJIUzI1NiJ9.e30=.c2ln", "base64url" },
	{ "eyJhbGciOiJIUzI1NiJ9=.e30.c2ln", "base64url" },
	{ "eyJhbGciOiJIUzI1NiJ9.e30.c2l+", "base64url" }, /* base64, not base64url */
	{ "eyJhbGciOiJIUzI1NiJ9.e30.c2l/", "base64url" },
	{ "eyJhbGciOiJIUzI1NiJ9.e30.c2ln\n", "base64url" },
	{ " eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "base64url" },
	{ "eyJhbGciOiJIUzI1NiJ9.e30.c2lnA", "base64url" }, /* a digit alone is no byte */
	{ "eyJhbGciOiJIUzI1NiJ9.e31.c2ln", "base64url" },  /* stray bits */
	{ "eyJhbGciOiJIUzI1NiJ9.e30.c2l\303\244", "base64url" },
	{ "e30.e30.c2ln", "alg" },
	{ "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "exp" },
	{ "eyJhbGciOiJIUzI1NiJ9.W10.c2ln", "JSON object" }, /* [] */
	{ "W10.e30.c2ln", "JSON object" },
	{ "e30.e.c2ln", "alg" }, /* the header is looked at first */
};

START_TEST(wrong_forms)
{
	size_t size = strlen(forms[_i].token);

	memcpy(token, forms[_i].token, size + 1);
	assert_wrong(size, forms[_i].words);
}
END_TEST

static const struct {
	const char *header, *payload, *words;
} contents[] = {
#define OK "\"exp\":1900000000,\"role\":\"r\""
	{ "{\"typ\":\"JWT\"}", "{" OK "}", "alg" },
	{ "{\"alg\":\"\"}", "{" OK "}", "alg" },
	{ "{\"alg\":1}", "{" OK "}", "alg" },
	{ "{\"alg\":null}", "{" OK "}", "alg" },
	{ "{\"alg\":\"none\"}", "{" OK "}", "not signed" },
	{ "{\"alg\":\"NONE\"}", "{" OK "}", "not signed" },
	{ "{\"alg\":\"nOnE\"}", "{" OK "}", "not signed" },
	{ "{\"alg\":\"HS256\",\"alg\":\"none\"}", "{" OK "}", "not signed" },
	{ "{\"alg\":\"HS256\"", "{" OK "}", "JSON object" },
	{ "\"alg\"", "{" OK "}", "JSON object" },
	{ HEADER, "", "JSON object" },
	{ HEADER, "null", "JSON object" },
	{ HEADER, "[{" OK "}]", "JSON object" },
	{ HEADER, "{" OK "} {}", "JSON object" },
	{ HEADER, "{" OK ",}", "JSON object" },
	{ HEADER, "\357\273\277{" OK "}", "JSON object" },
	{ HEADER, "{" OK ",\"x\":\"\377\"}", "JSON object" },
	{ HEADER, "{\"role\":\"r\"}", "when it expires" },
	{ HEADER, "{\"role\":\"r\",\"exp\":\"1900000000\"}", "no number" },
	{ HEADER, "{\"role\":\"r\",\"exp\":null}", "no number" },
	{ HEADER, "{\"role\":\"r\",\"exp\":true}", "no number" },
	{ HEADER, "{\"role\":\"r\",\"exp\":[1900000000]}", "no number" },
	{ HEADER, "{\"role\":\"r\",\"exp\":1800000000}", "expired" },
	{ HEADER, "{\"role\":\"r\",\"exp\":1800000000.5}", "expired" },
	{ HEADER, "{\"role\":\"r\",\"exp\":1800000000.50}", "expired" },
	{ HEADER, "{\"role\":\"r\",\"exp\":0}", "expired" },
	{ HEADER, "{\"role\":\"r\",\"exp\":-1}", "expired" },
	{ HEADER, "{\"role\":\"r\",\"exp\":-1e300}", "expired" },
	{ HEADER, "{\"role\":\"r\",\"exp\":-99999999999999999999999}", "expired" },
	{ HEADER, "{\"role\":\"r\",\"exp\":1900000000,\"exp\":1}", "expired" },
	{ HEADER, "{\"exp\":1900000000}", "no role" },
	{ HEADER, "{\"exp\":1900000000,\"role\":\"\"}", "no role" },
	{ HEADER, "{\"exp\":1900000000,\"role\":null}", "no role" },
	{ HEADER, "{\"exp\":1900000000,\"role\":[\"r\"]}", "no role" },
	{ HEADER, "{\"exp\":1900000000,\"user\":{\"role\":\"r\"}}", "no role" },
};

START_TEST(wrong_contents)
{
	assert_wrong(make(contents[_i].header, contents[_i].payload), contents[_i].words);
}
END_TEST

START_TEST(times)
{
	static const struct {
		const char *exp;
		int64_t s;
	} good[] = {
		{ "1800000001", NOW + 1 },
		{ "1800000001.0", NOW + 1 },
		{ "1800000001.999", NOW + 1 },
		{ "1800000001.50", NOW + 1 }, /* stays text on its way through MessagePack */
		{ "1.9e9", 1900000000 },
		{ "1.90e9", 1900000000 },
		{ "253402300799", JWT_EXP_MAX },
		{ "253402300800", JWT_EXP_MAX },
		{ "9223372036854775807", JWT_EXP_MAX },
		{ "18446744073709551615", JWT_EXP_MAX },
		{ "12345678901234567890123", JWT_EXP_MAX },
		{ "1e300", JWT_EXP_MAX },
		{ "1e999", JWT_EXP_MAX },
		{ "1234567890123456789012345678901234567890123456789012345678901234567890"
		  "123456789012345678901234567890.00",
		  JWT_EXP_MAX },
	};
	char payload[256];
	struct jwt jwt;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		snprintf(payload, sizeof(payload), "{\"exp\":%s,\"role\":\"r\"}", good[i].exp);
		jwt = read_claims(payload);
		ck_assert_msg(jwt.exp_s == good[i].s, "%s: %lld", good[i].exp,
			      (long long)jwt.exp_s);
		jwt_done(&jwt);
	}
}
END_TEST

START_TEST(roles)
{
	static const struct {
		const char *json, *role;
	} cases[] = {
		{ "authenticated", "authenticated" },
		{ "a\\u0000b", "a?b" },
		{ "\\u0000", "?" },
		{ "a\\nb\\tc\\u001b[31m", "a b c?[31m" },
		{ "\\u0085x", "??x" },
		{ "\303\244", "\303\244" },
#define LONG "0123456789012345678901234567890123456789012345678901234567890"
		{ LONG "12", LONG "12" },
		{ LONG "12\303\244", LONG "12" },
		{ LONG "1\303\244", LONG "1" }, /* 64 bytes: the last character does not fit */
		{ LONG "\303\244", LONG "\303\244" },
		{ LONG LONG, LONG "01" },
	};
	char payload[512];
	struct jwt jwt;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		snprintf(payload, sizeof(payload), "{\"exp\":1900000000,\"role\":\"%s\"}",
			 cases[i].json);
		jwt = read_claims(payload);
		ck_assert_str_eq(jwt.role, cases[i].role);
		jwt_done(&jwt);
	}
}
END_TEST

/* A payload of `depth` nested arrays; the map itself is one more. */
static size_t make_deep(unsigned depth)
{
	char payload[256] = "{" OK ",\"x\":";

	for (unsigned i = 0; i < depth; i++)
		strcat(payload, "[");
	for (unsigned i = 0; i < depth; i++)
		strcat(payload, "]");
	strcat(payload, "}");
	return make(HEADER, payload);
}

START_TEST(limits)
{
	static char payload[16 * 1024];
	const char *text;
	struct jwt jwt;
	size_t size;

	ck_assert_int_eq(jwt_read(token, make_deep(JWT_DEPTH_MAX - 1), NOW, &jwt, &text), 0);
	jwt_done(&jwt);
	assert_wrong(make_deep(JWT_DEPTH_MAX), "too deep");
	/* To the byte: three bytes of the payload are four of the token. */
	memset(payload, ' ', sizeof(payload));
	memcpy(payload, "{" OK "}", strlen("{" OK "}"));
	for (size_t n = 6080;; n++) {
		size = make_sized(HEADER, payload, n, "c2lnbmF0dXJl");
		if (size > RTBP_TOKEN_MAX)
			break;
		ck_assert_int_eq(jwt_read(token, size, NOW, &jwt, &text), 0);
		jwt_done(&jwt);
	}
	assert_wrong(size, "longer than 8192");
	/* The largest parts of each kind. */
	memset(token, 'A', RTBP_TOKEN_MAX);
	token[RTBP_TOKEN_MAX - 2] = token[RTBP_TOKEN_MAX - 1] = '.';
	assert_wrong(RTBP_TOKEN_MAX, "");
	memset(token, 'A', RTBP_TOKEN_MAX);
	token[0] = token[1] = '.';
	assert_wrong(RTBP_TOKEN_MAX, "");
	/* Nothing is read behind the end: no terminator is needed. */
	size = make(HEADER, "{" OK "}");
	char *exact = malloc(size);

	ck_assert_ptr_nonnull(exact);
	memcpy(exact, token, size);
	ck_assert_int_eq(jwt_read(exact, size, NOW, &jwt, &text), 0);
	jwt_done(&jwt);
	free(exact);
}
END_TEST

/* ---- whose? ---- */

static const struct {
	const char *one, *other;
	bool same;
} pairs[] = {
	{ "", "", true },
	{ "\"sub\":\"u1\"", "\"sub\":\"u1\"", true },
	{ "\"sub\":\"u1\"", "\"sub\":\"u2\"", false },
	{ "\"sub\":\"u1\"", "", false },
	{ "", "\"zz\":null", false },
	{ "\"a\":1,\"b\":2", "\"b\":2,\"a\":1", true },
	{ "\"a\":1,\"b\":2", "\"a\":2,\"b\":1", false },
	{ "\"ab\":1,\"a\":2", "\"a\":2,\"ab\":1", true },
	{ "\"a\":{\"x\":{\"p\":1,\"q\":[{\"m\":1,\"n\":2}]},\"y\":2}",
	  "\"a\":{\"y\":2,\"x\":{\"q\":[{\"n\":2,\"m\":1}],\"p\":1}}", true },
	{ "\"a\":[1,2]", "\"a\":[2,1]", false },
	{ "\"a\":{\"x\":1}", "\"a\":{\"x\":1,\"y\":1}", false },
	{ "\"a\":1", "\"a\":1.0", false },
	{ "\"a\":1", "\"a\":true", false },
	{ "\"a\":1", "\"a\":\"1\"", false },
	{ "\"a\":0", "\"a\":-0", false },
	{ "\"a\":1e3", "\"a\":1000.0", true },
	{ "\"a\":1.50", "\"a\":1.5", false },
	{ "\"a\":1,\"a\":2", "\"a\":2", true }, /* the last one counts */
	{ "\"a\":1,\"a\":2", "\"a\":2,\"a\":1", false },
	{ "\"a\":2,\"b\":3,\"a\":1", "\"b\":3,\"a\":1", true },
	{ "\"\\u0061\":1", "\"a\":1", true },
	{ "\"a\":\"\\u00e4\"", "\"a\":\"\303\244\"", true },
	{ "\"a\\u0000\":1", "\"a\":1", false },
	{ "\"iat\":1,\"nbf\":2,\"jti\":\"x\"", "", true },
	{ "\"iat\":1", "\"iat\":\"two\"", true },
	{ "\"jti\":{\"a\":1},\"sub\":\"u\"", "\"sub\":\"u\"", true },
	{ "\"a\":{\"exp\":1}", "\"a\":{\"exp\":2}", false }, /* at the top only */
	{ "\"a\":{\"jti\":1}", "\"a\":{}", false },
	{ "\"EXP\":1", "", false },
	{ "\"exp2\":1", "", false },
};

START_TEST(same_claims)
{
	char payload[512];
	struct jwt a, b;

	snprintf(payload, sizeof(payload), "{%s%s\"exp\":1900000000,\"role\":\"r\"}", pairs[_i].one,
		 *pairs[_i].one ? "," : "");
	a = read_claims(payload);
	snprintf(payload, sizeof(payload), "{\"role\":\"r\",\"exp\":1900000001%s%s}",
		 *pairs[_i].other ? "," : "", pairs[_i].other);
	b = read_claims(payload);
	ck_assert(jwt_same_claims(&a, &b) == pairs[_i].same);
	ck_assert(jwt_same_claims(&b, &a) == pairs[_i].same);
	ck_assert(jwt_same_claims(&a, &a) && jwt_same_claims(&b, &b));
	jwt_done(&a);
	jwt_done(&b);
}
END_TEST

START_TEST(another_role)
{
	struct jwt a = read_claims("{" OK "}"), b;

	b = read_claims("{\"exp\":1900000000,\"role\":\"s\"}");
	ck_assert(!jwt_same_claims(&a, &b));
	jwt_done(&a);
	jwt_done(&b);
}
END_TEST

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Claims of about `size` bytes, of as many keys as fit, or as deep, in the worst order. Return:
 * the least of the processor's seconds that reading them twice and comparing took. */
static double time_claims(int kind, size_t size)
{
	static char payload[16 * 1024];
	const char *text;
	struct jwt a, b;
	double began, took, least = 1e9;
	size_t n = (size_t)sprintf(payload, "{" OK);

	for (int i = 1000; n < size; i--) {
		if (kind == 0)
			n += (size_t)sprintf(payload + n, ",\"%x\":0", i);
		else if (kind == 1)
			n += (size_t)sprintf(payload + n, ",\"same\":%d", i);
		else
			n += (size_t)sprintf(payload + n, ",\"%x\":[[[[[[[[{\"a\":{}}]]]]]]]]", i);
	}
	strcpy(payload + n, "}");
	size = make(HEADER, payload);
	ck_assert_uint_le(size, RTBP_TOKEN_MAX);
	for (int i = 0; i < 100; i++) {
		began = seconds();
		ck_assert_int_eq(jwt_read(token, size, NOW, &a, &text), 0);
		ck_assert_int_eq(jwt_read(token, size, NOW, &b, &text), 0);
		ck_assert(jwt_same_claims(&a, &b));
		jwt_done(&a);
		jwt_done(&b);
		took = seconds() - began;
		least = took < least ? took : least;
	}
	return least;
}

/* The processor's time, as a ratio: what is quadratic would take 64 times as long for eight times
 * as many. */
START_TEST(hostile_claims)
{
	double few = time_claims(_i, 5900 / 8), many = time_claims(_i, 5900);

	ck_assert_msg(many < 32 * few, "kind %d: %g s and %g s", _i, few, many);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("jwt");
	TCase *t = tcase_create("jwt");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, golden);
	tcase_add_loop_test(t, wrong_forms, 0, sizeof(forms) / sizeof(*forms));
	tcase_add_loop_test(t, wrong_contents, 0, sizeof(contents) / sizeof(*contents));
	tcase_add_test(t, times);
	tcase_add_test(t, roles);
	tcase_add_test(t, limits);
	tcase_add_loop_test(t, same_claims, 0, sizeof(pairs) / sizeof(*pairs));
	tcase_add_test(t, another_role);
	tcase_add_loop_test(t, hostile_claims, 0, 3);
	suite_add_tcase(s, t);
	return suite_run(s);
}
