/* SPDX-License-Identifier: MIT */
#include "hub_tokens.h"

#include "hub_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_base64url(struct rtbp_buf *b, const char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = 0;

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (i + k < n ? (uint8_t)text[i + k] : 0);
		for (size_t k = 0; k < 4 && i * 8 + k * 6 < n * 8; k++)
			rtbp_buf_byte(b, (uint8_t)digits[v >> (18 - 6 * k) & 63]);
	}
}

const char *token_of(const char *claims, int64_t exp_in_s, unsigned serial)
{
	static struct rtbp_buf made[TOKENS];
	static unsigned next;
	struct rtbp_buf *b = &made[next++ % TOKENS];
	int64_t now_s = clock_wall(&rig.clock) / 1000;
	char *payload, *json, signature[32];

	rtbp_buf_done(b);
	*b = (struct rtbp_buf)RTBP_BUF_INIT;
	MUST(asprintf(&payload, "{%s,'exp':%" PRId64 ",'jti':'%u'}", claims, now_s + exp_in_s,
		      serial) >= 0);
	json = quoted(payload);
	snprintf(signature, sizeof(signature), "signature %u", serial);
	put_base64url(b, "{\"alg\":\"HS256\",\"typ\":\"JWT\"}");
	rtbp_buf_byte(b, '.');
	put_base64url(b, json);
	rtbp_buf_byte(b, '.');
	put_base64url(b, signature);
	rtbp_buf_byte(b, 0);
	MUST(rtbp_buf_ok(b));
	free(json);
	free(payload);
	return (const char *)b->data;
}

const char *token_of_user(const char *sub, unsigned serial)
{
	char claims[200];

	snprintf(claims, sizeof(claims), "'role':'authenticated','sub':'%s'", sub);
	return token_of(claims, 3600, serial);
}
