/* SPDX-License-Identifier: MIT */
/* The daemon's own session as a source of tokens, and what token.c makes of its news, between a server
 * and a hub that the test plays: app/token_refresh.h, app/token.h. */
#include "app/token_refresh.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/conf.h"
#include "app/key.h"
#include "app/request.h"
#include "app/token.h"
#include "base/watch.h"
#include "hub/hub.h"
#include "loop_util.h"
#include "realtime/refresh.h"
#include "wire/wire.h"

enum { LOOK_MS = 60000 };

static struct loop *loop;
static struct watch *watch;
static struct token_source *source;
static struct conf conf;
static struct conf_text why;
static char root[] = "/tmp/rtb-refresh-XXXXXX";
static char seed[64], dir[64], logged[64];
static uint64_t post_id;
static char recorded[1024];
static bool looks_soon; /* a minute is a moment */
static unsigned n_looks, n_key_asked;
static bool has_no_memory;

static void record(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void record(const char *format, ...)
{
	size_t n = strlen(recorded);
	va_list args;

	va_start(args, format);
	vsnprintf(recorded + n, sizeof(recorded) - n, format, args);
	va_end(args);
}

static void check_log(const char *want)
{
	ck_assert_str_eq(recorded, want);
	recorded[0] = '\0';
}

/* ---- neighbours ---- */

void __real_loop_timer_set(struct loop_timer *t, uint64_t in_ms);
void __wrap_loop_timer_set(struct loop_timer *t, uint64_t in_ms);
void __wrap_loop_timer_set(struct loop_timer *t, uint64_t in_ms)
{
	bool is_look = in_ms == LOOK_MS && t->fn != wait_too_long;

	n_looks += is_look;
	__real_loop_timer_set(t, is_look && looks_soon ? 1 : in_ms);
}

int __real_refresh_set_token(struct refresh *r, const char *bytes, size_t size, bool is_stored);
int __wrap_refresh_set_token(struct refresh *r, const char *bytes, size_t size, bool is_stored);
int __wrap_refresh_set_token(struct refresh *r, const char *bytes, size_t size, bool is_stored)
{
	return has_no_memory ? -ENOMEM : __real_refresh_set_token(r, bytes, size, is_stored);
}

int __wrap_request_refresh(struct wire *wire, const struct conf *c, uint64_t id, const void *body,
			   size_t size);
int __wrap_request_refresh(struct wire *wire, const struct conf *c, uint64_t id, const void *body,
			   size_t size)
{
	ck_assert_ptr_null(wire);
	ck_assert_ptr_eq(c, &conf);
	ck_assert_uint_ne(id & TOKEN_POST_BIT, 0);
	post_id = id;
	record("post:%.*s ", (int)size, (const char *)body);
	return 0;
}

int __wrap_hub_set_token(struct hub *hub, const struct secret *token, uint64_t serial,
			 uint64_t lives_ms);
int __wrap_hub_set_token(struct hub *hub, const struct secret *token, uint64_t serial,
			 uint64_t lives_ms)
{
	(void)hub;
	(void)serial;
	(void)lives_ms;
	record("%s ", token ? "token" : "no token");
	return 0;
}

void __wrap_hub_set_token_status(struct hub *hub, const struct hub_token_status *status);
void __wrap_hub_set_token_status(struct hub *hub, const struct hub_token_status *status)
{
	(void)hub;
	(void)status;
}

void __wrap_key_ask(struct key *k);
void __wrap_key_ask(struct key *k)
{
	(void)k;
	n_key_asked++;
}

static void on_fetched(void *ctx, uint64_t nr, const struct keeper_news *news)
{
	static const char *const names[] = { "token", "failed", "refused" };

	(void)ctx;
	record("%s%d", names[news->got], (int)nr);
	if (news->code)
		record("(%s)", news->code);
	if (news->retry_after_s)
		record("+%u", news->retry_after_s);
	record(" ");
	loop_stop(loop);
}

static void on_changed(void *ctx)
{
	(void)ctx;
	record("changed ");
	loop_stop(loop);
}

static void on_trouble(void *ctx, const char *code, const char *text)
{
	(void)ctx;
	(void)text;
	record("trouble:%s ", code ? code : "none");
}

static const struct token_news news_ops = { on_fetched, on_changed, on_trouble, NULL };

/* ---- the rig ---- */

static void put(const char *bytes, mode_t mode)
{
	char new[80];
	FILE *f;

	snprintf(new, sizeof(new), "%s.new", seed);
	f = fopen(new, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(bytes, f), 0);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(new, mode), 0);
	ck_assert_int_eq(rename(new, seed), 0);
}

static void setup(void)
{
	strcpy(root + strlen(root) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(seed, sizeof(seed), "%s/seed", root);
	snprintf(dir, sizeof(dir), "%s/state", root);
	snprintf(logged, sizeof(logged), "%s/log", root);
	conf = (struct conf){ .refresh_token_file = seed,
			      .state_dir = dir,
			      .token = CONF_TOKEN_REFRESH,
			      .token_lead_ms = 120000,
			      .token_timeout_ms = 10000 };
	recorded[0] = '\0';
	n_looks = n_key_asked = 0;
	looks_soon = has_no_memory = false;
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	ck_assert_int_eq(watch_new(loop, &watch), 0);
}

static void teardown(void)
{
	char command[100];

	if (source)
		source = source->ops->free(source);
	watch_free(watch);
	loop_free(loop);
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	ck_assert_int_eq(system(command), 0); /* NOLINT: a path of our own making */
}

/* @w: NULL: a watch that says nothing. */
static void begin(struct watch *w)
{
	ck_assert_msg(token_refresh_new(loop, w, NULL, &conf, &news_ops, &source, &why) == 0, "%s",
		      why.text);
}

static void fetch(uint64_t nr, bool is_renewal)
{
	ck_assert_int_eq(source->ops->fetch(source, nr, is_renewal), 0);
}

static struct wire_answer answer_of(uint16_t status, const char *body)
{
	return (struct wire_answer){ .why = WIRE_HTTP,
				     .was_sent = true,
				     .status = status,
				     .body = body,
				     .size = strlen(body),
				     .whole = true };
}

static void answer(uint16_t status, const char *body)
{
	struct wire_answer a = answer_of(status, body);

	token_refresh_answered(source, post_id, &a);
}

#define POST(token) "post:{\"refresh_token\":\"" token "\"} "
#define USED        "{\"error_code\":\"refresh_token_already_used\",\"msg\":\"\"}"
#define TOKENS(a, after) \
	"{\"access_token\":\"" a "\",\"expires_in\":60,\"refresh_token\":\"" after "\"}"

/* ---- a file that the watch does not see ---- */

START_TEST(a_login_after_the_end)
{
	put("seed0", 0600);
	begin(NULL);
	fetch(1, false);
	ck_assert_uint_eq(n_looks, 0);
	looks_soon = true;
	answer(400, USED);
	check_log(POST("seed0") "refused1(login_needed) ");
	/* It looks again and again, and finds the same. */
	while (n_looks < 5)
		run_turn(loop);
	check_log("");
	put("seed1", 0600);
	run_until_stopped(loop, "another login");
	check_log("changed ");
	fetch(2, false);
	answer(200, TOKENS("a", "r1"));
	check_log(POST("seed1") "token2 ");
	/* And then no more. */
	n_looks = 0;
	fetch(3, true);
	answer(503, "");
	check_log(POST("r1") "failed3(server_error) ");
	ck_assert_uint_eq(n_looks, 0);
}
END_TEST

/* Before there is one, who waits for a token asks: a minute later at a file that is watched. */
START_TEST(none_at_first)
{
	begin(watch);
	fetch(1, false);
	run_until_stopped(loop, "an answer");
	check_log("failed1(no_token)+60 ");
	put("two words", 0600);
	run_until_stopped(loop, "the watch");
	check_log("changed ");
	fetch(2, false);
	run_until_stopped(loop, "an answer");
	check_log("failed2(bad_file)+60 ");
	put("seed0", 0600);
	run_until_stopped(loop, "the watch");
	check_log("changed ");
	fetch(3, false);
	check_log(POST("seed0"));
}
END_TEST

START_TEST(none_at_first_and_no_watch)
{
	begin(NULL);
	fetch(1, false);
	run_until_stopped(loop, "an answer");
	check_log("failed1(no_token) ");
	put("seed0", 0600);
	fetch(2, false); /* as the keeper does by itself */
	check_log(POST("seed0"));
}
END_TEST

static unsigned count_logged(const char *words)
{
	FILE *f = fopen(logged, "re");
	char line[600];
	unsigned n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, words) != NULL;
	fclose(f);
	return n;
}

/* What cannot be read is told once, and a session that has begun goes on. */
START_TEST(unreadable_meanwhile)
{
	int fd = open(logged, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
	    saved = dup(STDERR_FILENO);

	put("seed0", 0600);
	begin(NULL);
	fetch(1, false);
	answer(200, TOKENS("a", "r1"));
	check_log(POST("seed0") "token1 ");
	put("seed1", 0644);
	looks_soon = true;
	ck_assert(fd >= 0 && saved >= 0);
	dup2(fd, STDERR_FILENO);
	fetch(2, false);
	while (n_looks < 5)
		run_turn(loop);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd);
	ck_assert_uint_eq(count_logged("chmod 600"), 1);
	answer(200, TOKENS("a", "r2"));
	check_log(POST("r1") "token2 ");
	run_turn(loop); /* that was outside of it */
	ck_assert_int_eq(chmod(seed, 0600), 0);
	run_until_stopped(loop, "the file");
	check_log("changed ");
}
END_TEST

/* A token for which there was no memory is read again. */
START_TEST(no_memory_for_it)
{
	put("seed0", 0600);
	begin(NULL);
	has_no_memory = true;
	fetch(1, false);
	run_until_stopped(loop, "an answer");
	check_log("failed1(bad_file) ");
	has_no_memory = false;
	fetch(2, false);
	check_log(POST("seed0"));
}
END_TEST

/* ---- the key ---- */

START_TEST(key_is_looked_at)
{
	static const char bad_key[] = "{\"message\":\"Invalid API key\"}";
	struct wire_answer a = answer_of(401, bad_key);
	struct token *t;

	put("seed0", 0600);
	ck_assert_int_eq(token_new(loop, NULL, NULL, NULL, NULL, &conf, &t, &why), 0);
	token_start(t);
	check_log(POST("seed0"));
	ck_assert(token_on_answered(t, post_id, &a));
	ck_assert_uint_eq(n_key_asked, 1);
	/* Another key: at once, and not in a minute. */
	check_log("");
	token_reread(t);
	check_log(POST("seed0"));
	a = answer_of(503, "");
	ck_assert(token_on_answered(t, post_id, &a));
	ck_assert_uint_eq(n_key_asked, 1);
	token_free(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("token_refresh");
	TCase *c = tcase_create("token_refresh");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, a_login_after_the_end);
	tcase_add_test(c, none_at_first);
	tcase_add_test(c, none_at_first_and_no_watch);
	tcase_add_test(c, unreadable_meanwhile);
	tcase_add_test(c, no_memory_for_it);
	tcase_add_test(c, key_is_looked_at);
	suite_add_tcase(s, c);
	return suite_run(s);
}
