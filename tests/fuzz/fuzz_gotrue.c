/* SPDX-License-Identifier: MIT */
/*
 * daemon/realtime/gotrue.h on any answer. The first byte says the status, and whether all of the
 * body came; the rest is the body.
 *
 * Checked: a result is whole and says something; no text tells anything of the token that was sent,
 * nor obeys a terminal; the same answer means the same again; tokens that were read can be presented
 * again, and read again from a plain answer; what is denied for good was said by the server in full.
 */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "proto/rtbp_json.h"
#include "realtime/gotrue.h"

static const unsigned statuses[] = { 200, 400, 401, 403, 404, 422, 429, 500, 0, 302, 201, 409 };
enum { N_STATUSES = sizeof(statuses) / sizeof(*statuses) };

/* Four of these in a row stand in no text of ours. */
static const char canary[] = "zq0xk9w7vjy3";

static void check_text(const struct gotrue_result *r)
{
	FUZZ_CHECK(r->code[0] && strlen(r->code) < 32);
	FUZZ_CHECK(r->text[0] && strnlen(r->text, sizeof(r->text)) < sizeof(r->text));
	for (const char *p = r->text; *p; p++)
		FUZZ_CHECK(*p >= ' ' && *p <= '~');
	for (size_t i = 0; i + 4 < sizeof(canary); i++)
		FUZZ_CHECK(!memmem(r->text, strlen(r->text), canary + i, 4));
	FUZZ_CHECK(!r->access.p && !r->refresh.p && !r->mp.data);
}

static bool equal(struct rtbp_str a, struct rtbp_str b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.p, b.p, a.size) == 0);
}

/* The token that came is presented next, whole. */
static void check_presented(struct rtbp_str token)
{
	struct secret *s = secret_new(token.p, token.size);
	struct rtbp_buf body = RTBP_BUF_INIT, mp = RTBP_BUF_INIT;
	struct rtbp_str back;

	FUZZ_CHECK(s && gotrue_body(s, &body) == 0);
	FUZZ_CHECK(rtbp_json_to_mp((const char *)body.data, body.size, 2, &mp, NULL) == 0);
	FUZZ_CHECK(rtbp_get_str(
		rtbp_find((struct rtbp_val){ mp.data, mp.size }, "refresh_token", 13), &back));
	FUZZ_CHECK(equal(back, token));
	rtbp_buf_done(&mp);
	secret_wipe_buf(&body);
	secret_free(s);
}

static void check_tokens(const struct gotrue_result *r, const struct secret *sent)
{
	struct rtbp_buf plain = RTBP_BUF_INIT;
	struct gotrue_answer a = { .status = 200, .whole = true };
	struct gotrue_result again;

	FUZZ_CHECK(r->access.size > 0 && r->refresh.size > 0);
	FUZZ_CHECK(r->refresh.size <= GOTRUE_REFRESH_MAX);
	for (size_t i = 0; i < r->refresh.size; i++)
		FUZZ_CHECK(r->refresh.p[i] > ' ' && r->refresh.p[i] <= '~');
	FUZZ_CHECK(r->lives_ms < UINT64_C(1) << 42);
	check_presented(r->refresh);
	rtbp_buf_text(&plain, "{\"access_token\":");
	rtbp_json_quote(&plain, r->access.p, r->access.size);
	rtbp_buf_text(&plain, ",\"refresh_token\":");
	rtbp_json_quote(&plain, r->refresh.p, r->refresh.size);
	rtbp_buf_text(&plain, "}");
	a.body = (const char *)plain.data;
	a.size = plain.size;
	gotrue_read(&a, sent, &again);
	FUZZ_CHECK(again.got == GOTRUE_TOKENS && again.lives_ms == 0);
	FUZZ_CHECK(equal(again.access, r->access) && equal(again.refresh, r->refresh));
	gotrue_done(&again);
	rtbp_buf_done(&plain);
}

static void check(const struct gotrue_answer *a, const struct secret *sent)
{
	struct gotrue_result r, again;

	gotrue_read(a, sent, &r);
	gotrue_read(a, sent, &again);
	FUZZ_CHECK(r.got == again.got && strcmp(r.code, again.code) == 0 &&
		   strcmp(r.text, again.text) == 0 && equal(r.access, again.access));
	gotrue_done(&again);
	if (r.got == GOTRUE_TOKENS) {
		FUZZ_CHECK(a->whole && a->status >= 200 && a->status < 300);
		check_tokens(&r, sent);
	} else {
		check_text(&r);
	}
	if (r.got == GOTRUE_DENIED) {
		FUZZ_CHECK(a->status >= 300 && a->status < 500 && a->status != 429);
		FUZZ_CHECK(strcmp(r.code, "login_needed") == 0 ||
			   strcmp(r.code, "bad_apikey") == 0);
	}
	gotrue_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct secret *sent = secret_new(canary, sizeof(canary) - 1);
	struct gotrue_answer a = { .text = "host: connection refused" };

	FUZZ_CHECK(sent);
	if (size > 0) {
		a.status = statuses[(data[0] & 0x7f) % N_STATUSES];
		a.whole = !(data[0] & 0x80);
		a.body = (const char *)data + 1;
		a.size = size - 1;
		check(&a, sent);
	}
	secret_free(sent);
	return 0;
}
