/* SPDX-License-Identifier: MIT */
/* What a command's end means to the daemon's token: app/token_command.h. The commands themselves are
 * played by tests/unit/test_child.c and the stories with the real daemon. */
#include "app/token_command.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/child.h"
#include "loop_util.h"

static struct loop *loop;
static struct token_source *source;
static char recorded[512];
static bool is_full; /* with processes that cannot be ended */

int __real_child_new(struct loop *l, const struct child_conf *conf,
		     void (*fn)(void *ctx, const struct child_result *result), void *ctx,
		     struct child **ret);
int __wrap_child_new(struct loop *l, const struct child_conf *conf,
		     void (*fn)(void *ctx, const struct child_result *result), void *ctx,
		     struct child **ret);
int __wrap_child_new(struct loop *l, const struct child_conf *conf,
		     void (*fn)(void *ctx, const struct child_result *result), void *ctx,
		     struct child **ret)
{
	return is_full ? -EBUSY : __real_child_new(l, conf, fn, ctx, ret);
}

static void on_fetched(void *ctx, uint64_t nr, const struct keeper_news *news)
{
	size_t n = strlen(recorded);

	(void)ctx;
	snprintf(recorded + n, sizeof(recorded) - n, "%d:%s:%.*s ", (int)nr,
		 news->got == KEEPER_TOKEN ? "token" : news->text, (int)news->size,
		 news->token ? news->token : "");
	ck_assert(news->got == KEEPER_TOKEN || strcmp(news->code, "command_failed") == 0);
	loop_stop(loop);
}

static const struct token_news news_ops = { .fetched = on_fetched };

static void setup(void)
{
	recorded[0] = '\0';
	is_full = false;
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	source = token_command_new(loop, "echo ' abc '", 50000, &news_ops);
	ck_assert_ptr_nonnull(source);
}

static void teardown(void)
{
	if (source)
		source = source->ops->free(source);
	loop_free(loop);
}

/* It is told as every failure is, behind the call, and what to do; and is over when they have ended. */
START_TEST(none_can_begin)
{
	is_full = true;
	ck_assert_int_eq(source->ops->fetch(source, 1, false), 0);
	ck_assert_str_eq(recorded, "");
	run_until_stopped(loop, "an answer");
	ck_assert_msg(strncmp(recorded, "1:token_command is not run: ", 28) == 0 &&
			      strstr(recorded, "see what holds them up"),
		      "%s", recorded);
	recorded[0] = '\0';
	is_full = false;
	ck_assert_int_eq(source->ops->fetch(source, 2, true), 0);
	run_until_stopped(loop, "the command");
	ck_assert_str_eq(recorded, "2:token:abc ");
}
END_TEST

START_TEST(freed_before_it_is_told)
{
	is_full = true;
	ck_assert_int_eq(source->ops->fetch(source, 1, false), 0);
	source = source->ops->free(source);
	run_turn(loop);
	ck_assert_str_eq(recorded, "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("token_command");
	TCase *c = tcase_create("token_command");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, none_can_begin);
	tcase_add_test(c, freed_before_it_is_told);
	suite_add_tcase(s, c);
	return suite_run(s);
}
