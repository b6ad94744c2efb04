/* SPDX-License-Identifier: MIT */
/* What is said to Supabase Auth, and what its answers mean: daemon/realtime/gotrue.h. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "realtime/gotrue.h"
#include "suite.h"

static struct secret *sent;
static struct gotrue_result result;

static void setup(void)
{
	sent = secret_new("v7xq0kz3mwpt", 12);
	ck_assert_ptr_nonnull(sent);
	memset(&result, 0, sizeof(result));
}

static void teardown(void)
{
	gotrue_done(&result);
	sent = secret_free(sent);
}

static void read_answer(unsigned status, const char *body)
{
	struct gotrue_answer a = { .status = status,
				   .body = body,
				   .size = strlen(body),
				   .whole = true,
				   .text = "auth.example: connection refused" };

	gotrue_done(&result);
	gotrue_read(&a, sent, &result);
}

/* ---- the request ---- */

static void check_body(const void *token, size_t size, const char *want)
{
	struct secret *s = secret_new(token, size);
	struct rtbp_buf body = RTBP_BUF_INIT;

	ck_assert_int_eq(gotrue_body(s, &body), 0);
	ck_assert_uint_eq(body.size, strlen(want));
	ck_assert_mem_eq(body.data, want, body.size);
	secret_wipe_buf(&body);
	secret_free(s);
}

START_TEST(test_body)
{
	char token[GOTRUE_REFRESH_MAX], want[sizeof(token) * 6 + 64];

	check_body("abcdefghij12", 12, "{\"refresh_token\":\"abcdefghij12\"}");
	check_body("a\"b\\c", 5, "{\"refresh_token\":\"a\\\"b\\\\c\"}");
	check_body("a\377", 2, "{\"refresh_token\":\"a\357\277\275\"}");
	check_body("", 0, "{\"refresh_token\":\"\"}");
	memset(token, 1, sizeof(token));
	strcpy(want, "{\"refresh_token\":\"");
	for (size_t i = 0; i < sizeof(token); i++)
		strcpy(want + 18 + 6 * i, "\\u0001");
	strcat(want, "\"}");
	check_body(token, sizeof(token), want);
}
END_TEST

/* ---- tokens ---- */

static void check_tokens(const char *access, const char *refresh, uint64_t lives_ms)
{
	ck_assert_msg(result.got == GOTRUE_TOKENS, "%s", result.text);
	ck_assert(rtbp_str_is(result.access, access));
	ck_assert(rtbp_str_is(result.refresh, refresh));
	ck_assert_uint_eq(result.lives_ms, lives_ms);
}

START_TEST(test_tokens)
{
	read_answer(200,
		    "{\"access_token\":\"a.b.c\",\"token_type\":\"bearer\",\"expires_in\":3600,"
		    "\"expires_at\":1800003600,\"refresh_token\":\"abcdefghij12\","
		    "\"user\":{\"id\":\"x\",\"user_metadata\":{\"access_token\":\"not this\"}},"
		    "\"weak_password\":null}");
	check_tokens("a.b.c", "abcdefghij12", 3600000);
	/* In any order; what is said twice counts as said last. */
	read_answer(200, " {\"refresh_token\":\"r-_1\",\"x\":[],\"access_token\":\"1\","
			 "\"access_token\":\"2\",\"expires_in\":1.5}\n");
	check_tokens("2", "r-_1", 1500);
	read_answer(201, "{\"refresh_token\":\"r\",\"access_token\":\"\\u00e4 b\"}");
	check_tokens("\303\244 b", "r", 0);
}
END_TEST

static const struct {
	const char *text;
	uint64_t ms;
} lives[] = {
	{ "0", 0 },
	{ "-1", 0 },
	{ "-0", 0 },
	{ "null", 0 },
	{ "\"3600\"", 0 },
	{ "[1]", 0 },
	{ "1", 1000 },
	{ "0.25", 250 },
	{ "1e300", UINT64_C(3162240000000) },
	{ "18446744073709551615", 0 }, /* over int64 */
	{ "9223372036854775807", UINT64_C(3162240000000) },
	{ "1e400", 0 },
};

START_TEST(test_lives)
{
	char body[256];

	snprintf(body, sizeof(body),
		 "{\"access_token\":\"a\",\"refresh_token\":\"r\",\"expires_in\":%s}",
		 lives[_i].text);
	read_answer(200, body);
	check_tokens("a", "r", lives[_i].ms);
}
END_TEST

/* Metadata up to the limit, and then one byte more; as deep as JSON is read at all. */
START_TEST(test_huge_user)
{
	static char body[GOTRUE_ANSWER_MAX + 2];
	static const char head[] = "{\"access_token\":\"a\",\"refresh_token\":\"r\","
				   "\"user\":{\"m\":[-0";
	struct gotrue_answer a = { .status = 200, .body = body, .whole = true };
	size_t n = strlen(head);

	strcpy(body, head);
	while (n < GOTRUE_ANSWER_MAX - 10) {
		memcpy(body + n, ",-0", 3); /* what grows the most */
		n += 3;
	}
	strcpy(body + n, "]}}");
	a.size = n + 3;
	memset(body + a.size, ' ', GOTRUE_ANSWER_MAX - a.size);
	a.size = GOTRUE_ANSWER_MAX;
	gotrue_read(&a, sent, &result);
	check_tokens("a", "r", 0);
	gotrue_done(&result);
	body[a.size++] = ' ';
	gotrue_read(&a, sent, &result);
	ck_assert_int_eq(result.got, GOTRUE_TRANSIENT);
	ck_assert_str_eq(result.code, "bad_answer");
	ck_assert_ptr_nonnull(strstr(result.text, "256 KiB"));

	n = (size_t)sprintf(body, "{\"access_token\":\"a\",\"refresh_token\":\"r\",\"m\":");
	memset(body + n, '[', 255);
	memset(body + n + 255, ']', 255);
	strcpy(body + n + 510, "}");
	read_answer(200, body);
	check_tokens("a", "r", 0);
}
END_TEST

/* ---- what cannot be read ---- */

static const char *const unreadable[] = {
	"",
	"{",
	"<html>Welcome to this hotel</html>",
	"null",
	"[]",
	"{}",
	"{\"access_token\":\"a\"}",
	"{\"refresh_token\":\"r\"}",
	"{\"access_token\":\"\",\"refresh_token\":\"r\"}",
	"{\"access_token\":\"a\",\"refresh_token\":\"\"}",
	"{\"access_token\":1,\"refresh_token\":\"r\"}",
	"{\"access_token\":\"a\",\"refresh_token\":1}",
	"{\"access_token\":\"a\",\"refresh_token\":null}",
	/* Of these nobody could keep the refresh token in a file as one word. */
	"{\"access_token\":\"a\",\"refresh_token\":\"r r\"}",
	"{\"access_token\":\"a\",\"refresh_token\":\"r\\n\"}",
	"{\"access_token\":\"a\",\"refresh_token\":\"r\\u0000\"}",
	"{\"access_token\":\"a\",\"refresh_token\":\"r\\u007f\"}",
	"{\"access_token\":\"a\",\"refresh_token\":\"\\u00e4\"}",
	"{\"access_token\":\"a\",\"refresh_token\":\"r\",\"user\":\"\377\"}",
};

START_TEST(test_unreadable)
{
	read_answer(200, unreadable[_i]);
	ck_assert_int_eq(result.got, GOTRUE_TRANSIENT);
	ck_assert_str_eq(result.code, "bad_answer");
	ck_assert_ptr_nonnull(strstr(result.text, "HTTP status 200: "));
	ck_assert_ptr_null(result.access.p);
	ck_assert_ptr_null(result.refresh.p);
	ck_assert_ptr_null(result.mp.data);
}
END_TEST

START_TEST(test_refresh_token_too_long)
{
	static char body[GOTRUE_REFRESH_MAX + 200];
	size_t n;

	for (size_t more = 0; more < 2; more++) {
		n = (size_t)sprintf(body, "{\"access_token\":\"a\",\"refresh_token\":\"");
		memset(body + n, 'r', GOTRUE_REFRESH_MAX + more);
		strcpy(body + n + GOTRUE_REFRESH_MAX + more, "\"}");
		read_answer(200, body);
		ck_assert_int_eq(result.got, more ? GOTRUE_TRANSIENT : GOTRUE_TOKENS);
	}
}
END_TEST

START_TEST(test_cut)
{
	static const char body[] = "{\"access_token\":\"a\",\"refresh_token\":\"r\"}";
	struct gotrue_answer a = {
		.status = 200, .retry_after_s = 7, .body = body, .size = sizeof(body) - 1
	};

	gotrue_read(&a, sent, &result);
	ck_assert_int_eq(result.got, GOTRUE_TRANSIENT);
	ck_assert_str_eq(result.code, "bad_answer");
	ck_assert_ptr_nonnull(strstr(result.text, "cut off"));
	ck_assert_uint_eq(result.retry_after_s, 7);
	gotrue_done(&result);
	/* What was kept of it is all that there is room for. */
	a.size = GOTRUE_ANSWER_MAX;
	gotrue_read(&a, sent, &result);
	ck_assert_ptr_nonnull(strstr(result.text, "256 KiB"));
}
END_TEST

/* ---- not now ---- */

static const struct {
	unsigned status;
	uint32_t retry_after_s;
	const char *body, *code;
	uint32_t want_s;
} later[] = {
	{ 0, 0, "", "no_answer", 0 },
	{ 500, 0, "{\"code\":500,\"error_code\":\"unexpected_failure\",\"msg\":\"no\"}",
	  "server_error", 0 },
	{ 502, 0, "<html>", "server_error", 0 },
	{ 503, 12, "", "server_error", 12 },
	{ 504, 0, "{\"code\":\"request_timeout\",\"message\":\"no\"}", "server_error", 0 },
	{ 540, 0, "{}", "server_error", 0 },
	{ 599, 0, "{\"error_code\":\"refresh_token_not_found\"}", "server_error", 0 },
	{ 408, 0, "", "server_error", 0 },
	{ 409, 0, "{\"code\":409,\"error_code\":\"conflict\",\"msg\":\"Too many concurrent\"}",
	  "server_error", 0 },
	{ 425, 0, "", "server_error", 0 },
	{ 429, 0, "{\"code\":429,\"error_code\":\"over_request_rate_limit\"}", "rate_limited", 60 },
	{ 429, 5, "", "rate_limited", 5 },
	{ 429, 900, "", "rate_limited", 900 },
	/* Nobody knows whose words these are: a gateway's, a firewall's, a hook's. */
	{ 400, 0, "", "unexpected", 60 },
	{ 400, 0, "{\"message\":\"no\"}", "unexpected", 60 },
	{ 401, 0, "<html>Sign in to this network</html>", "unexpected", 60 },
	{ 401, 0, "{}", "unexpected", 60 },
	{ 403, 0, "<html>Forbidden</html>", "unexpected", 60 },
	{ 403, 0, "{\"code\":403,\"error_code\":\"hook_error\",\"msg\":\"v7xq0kz3mwpt\"}",
	  "unexpected", 60 },
	{ 401, 0, "{\"code\":401,\"error_code\":\"never_heard_of\",\"msg\":\"no\"}", "unexpected",
	  60 },
	/* With a code the words do not count. */
	{ 400, 0, "{\"code\":400,\"error_code\":\"hook\",\"msg\":\"Already Used, User Banned\"}",
	  "unexpected", 60 },
	{ 404, 0, "{\"message\":\"no Route matched with those values\"}", "unexpected", 60 },
	{ 404, 300, "Not Found", "unexpected", 300 },
	/* What stands before Auth says nothing of the session. */
	{ 401, 0, "{\"message\":\"Invalid API key\",\"hint\":\"Double check your Supabase key.\"}",
	  "bad_apikey", 60 },
	{ 401, 5, "{\"message\":\"No API key found in request\"}", "bad_apikey", 60 },
	{ 401, 300, "{\"statusCode\":401,\"error\":\"Unauthorized\",\"message\":\"Unauthorized\"}",
	  "bad_apikey", 300 },
	{ 404, 5, "Not Found", "unexpected", 60 },
	{ 422, 0, "{\"code\":422,\"error_code\":\"hook_timeout\",\"msg\":\"no\"}", "unexpected",
	  60 },
	{ 302, 0, "", "unexpected", 60 },
	{ 101, 0, "", "unexpected", 60 },
};

START_TEST(test_later)
{
	struct gotrue_answer a = { .status = later[_i].status,
				   .retry_after_s = later[_i].retry_after_s,
				   .body = later[_i].body,
				   .size = strlen(later[_i].body),
				   .whole = true,
				   .text = "auth.example: connection\nrefused" };

	gotrue_read(&a, sent, &result);
	ck_assert_int_eq(result.got, GOTRUE_TRANSIENT);
	ck_assert_str_eq(result.code, later[_i].code);
	ck_assert_uint_eq(result.retry_after_s, later[_i].want_s);
	ck_assert_ptr_null(strstr(result.text, "v7xq"));
	if (!a.status)
		ck_assert_ptr_nonnull(strstr(result.text, "auth.example: connection refused"));
	if (strcmp(result.code, "bad_apikey") == 0)
		ck_assert_ptr_nonnull(strstr(
			result.text, "HTTP status 401: the API key in apikey_file is refused"));
}
END_TEST

/* ---- never again ---- */

static const struct {
	unsigned status;
	const char *body, *code, *words;
} never[] = {
	{ 400,
	  "{\"code\":400,\"error_code\":\"refresh_token_already_used\","
	  "\"msg\":\"Invalid Refresh Token: Already Used\"}",
	  "login_needed", "HTTP status 400, refresh_token_already_used: " },
	{ 400, "{\"code\":\"refresh_token_already_used\",\"message\":\"no\"}", "login_needed",
	  "another program" },
	{ 400, "{\"code\":400,\"error_code\":\"refresh_token_not_found\",\"msg\":\"\"}",
	  "login_needed", "does not know" },
	{ 403, "{\"code\":403,\"error_code\":\"session_not_found\",\"msg\":\"\"}", "login_needed",
	  "is gone" },
	{ 400, "{\"code\":400,\"error_code\":\"session_expired\",\"msg\":\"\"}", "login_needed",
	  "rules for sessions" },
	{ 400, "{\"code\":400,\"error_code\":\"user_banned\",\"msg\":\"\"}", "login_needed",
	  "banned" },
	{ 403, "{\"code\":403,\"error_code\":\"user_not_found\",\"msg\":\"\"}", "login_needed",
	  "another user" },
	{ 404, "{\"code\":404,\"error_code\":\"user_not_found\",\"msg\":\"\"}", "login_needed",
	  "another user" },
	{ 400,
	  "{\"code\":400,\"error_code\":\"validation_failed\","
	  "\"msg\":\"Refresh token is not valid\"}",
	  "login_needed", "no refresh token" },
	{ 403, "{\"code\":403,\"error_code\":\"bad_jwt\",\"msg\":\"\"}", "bad_apikey", "API key" },
	{ 401, "{\"code\":401,\"error_code\":\"no_authorization\",\"msg\":\"\"}", "bad_apikey",
	  "API key" },
	/* Before there were codes. */
	{ 400, "{\"code\":400,\"msg\":\"Invalid Refresh Token: Refresh Token Not Found\"}",
	  "login_needed", "does not know" },
	{ 400,
	  "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid Refresh Token: Already "
	  "Used\"}",
	  "login_needed", "another program" },
	{ 400, "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid Refresh Token\"}",
	  "login_needed", "any more: log in again" },
	{ 400, "{\"error\":\"invalid_grant\",\"error_description\":\"never heard of\"}",
	  "login_needed", "any more: log in again" },
	{ 400, "{\"error\":\"invalid_grant\"}", "login_needed", "log in again" },
	{ 400,
	  "{\"error\":\"invalid_client\",\"error_description\":\"Client authentication "
	  "required for OAuth session\"}",
	  "login_needed", "OAuth" },
};

START_TEST(test_never)
{
	read_answer(never[_i].status, never[_i].body);
	ck_assert_int_eq(result.got, GOTRUE_DENIED);
	ck_assert_str_eq(result.code, never[_i].code);
	ck_assert_msg(strstr(result.text, never[_i].words), "%s", result.text);
	ck_assert_uint_lt(strlen(result.text), sizeof(result.text) - 8); /* nothing is cut */
	ck_assert_ptr_null(result.mp.data);
}
END_TEST

/* ---- no secrets ---- */

static const struct {
	const char *error_code, *shown; /* NULL: none of it */
} words[] = {
	{ "hook_error", "hook_error: " },
	{ "a_code_2_know", "a_code_2_know: " },
	{ "v7xq0kz3mwpt", NULL },
	{ "no_v7xq0kz3mwpt", NULL },
	{ "the_0kz3_one", NULL },
	{ "0kz_7xq_mwp", "0kz_7xq_mwp: " }, /* three in a row tell nothing */
	{ "Hook", NULL },
	{ "hook error", NULL },
	{ "hook\\nerror", NULL },
	{ "eyJhbGciOi.eyJh.c2ln", NULL },
	{ "", NULL },
	{ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL }, /* 49 */
};

START_TEST(test_quoted)
{
	char body[256], want[128];

	snprintf(body, sizeof(body), "{\"code\":403,\"error_code\":\"%s\",\"msg\":\"%s\"}",
		 words[_i].error_code, "v7xq0kz3mwpt");
	read_answer(403, body);
	ck_assert_str_eq(result.code, "unexpected");
	snprintf(want, sizeof(want), "HTTP status 403%s%s", words[_i].shown ? ", " : ": ",
		 words[_i].shown ? words[_i].shown : "Auth does not");
	ck_assert_msg(strncmp(result.text, want, strlen(want)) == 0, "%s", result.text);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

int main(void)
{
	TCase *tc = tcase_create("gotrue");
	Suite *suite = suite_create("gotrue");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_body);
	tcase_add_test(tc, test_tokens);
	tcase_add_loop_test(tc, test_lives, 0, ROWS(lives));
	tcase_add_test(tc, test_huge_user);
	tcase_add_loop_test(tc, test_unreadable, 0, ROWS(unreadable));
	tcase_add_test(tc, test_refresh_token_too_long);
	tcase_add_test(tc, test_cut);
	tcase_add_loop_test(tc, test_later, 0, ROWS(later));
	tcase_add_loop_test(tc, test_never, 0, ROWS(never));
	tcase_add_loop_test(tc, test_quoted, 0, ROWS(words));
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
