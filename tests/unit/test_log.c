/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop_util.h"

static FILE *captured;
static int real_stderr;
static unsigned fds_before;

static void setup(void)
{
	fds_before = open_fds();
	captured = tmpfile();
	ck_assert_ptr_nonnull(captured);
	ck_assert_int_eq(fcntl(fileno(captured), F_SETFL, O_APPEND), 0);
	real_stderr = dup(STDERR_FILENO);
	dup2(fileno(captured), STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
	log_init();
	log_set_level(LOG_LEVEL_NOTICE);
}

static void teardown(void)
{
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	fclose(captured);
	ck_assert_uint_eq(open_fds(), fds_before);
}

/* All that was logged so far. Borrowed. */
static const char *logged(void)
{
	static char text[8192];
	ssize_t n = pread(fileno(captured), text, sizeof(text) - 1, 0);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	return text;
}

static bool logged_matches(const char *pattern)
{
	regex_t re;
	bool match;

	ck_assert_int_eq(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
	match = regexec(&re, logged(), 0, NULL, 0) == 0;
	regfree(&re);
	return match;
}

START_TEST(levels_have_names)
{
	static const char *const names[] = { "error", "warning", "notice", "info", "debug" };
	enum log_level level;

	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(log_level_parse(names[i], &level), 0);
		ck_assert_str_eq(log_level_name(level), names[i]);
		ck_assert_int_eq(level, (int)i + 3);
	}
	ck_assert_int_eq(log_level_parse("", &level), -EINVAL);
	ck_assert_int_eq(log_level_parse("Error", &level), -EINVAL);
	ck_assert_int_eq(log_level_parse("warn", &level), -EINVAL);
	ck_assert_str_eq(log_level_name((enum log_level)9), "?");
}
END_TEST

START_TEST(only_wanted_levels_are_written)
{
	log_error("e");
	log_notice("n");
	log_info("i");
	log_debug("d");
	ck_assert(logged_matches("error +e\n"));
	ck_assert(logged_matches("notice +n\n"));
	ck_assert(!logged_matches("info"));
	ck_assert(!logged_matches("debug"));
	log_set_level(LOG_LEVEL_DEBUG);
	ck_assert(log_wants(LOG_LEVEL_DEBUG));
	log_debug("d%d", 7);
	ck_assert(logged_matches("debug +d7\n"));
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("w");
	ck_assert(!logged_matches("warning"));
}
END_TEST

START_TEST(a_terminal_gets_time_and_level)
{
	log_warning("one %s", "two");
	ck_assert(logged_matches("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{"
				 "3}Z warning one two\n$"));
}
END_TEST

START_TEST(the_journal_gets_a_priority)
{
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_init();
	log_error("text");
	log_notice("text");
	ck_assert_str_eq(logged(), "<3>text\n<5>text\n");
	unsetenv("JOURNAL_STREAM");
}
END_TEST

START_TEST(outside_text_forges_no_line)
{
	setenv("JOURNAL_STREAM", "8:1", 1);
	log_init();
	log_error("name %s", "a\n<3>forged\r\x1b[31m\x7f\t!\xc3\xa9");
	ck_assert_str_eq(logged(), "<3>name a <3>forged  [31m  !\xc3\xa9\n");
}
END_TEST

START_TEST(long_lines_are_cut_and_still_end)
{
	char text[4000];
	const char *line;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_error("%s", text);
	log_error("next");
	line = logged();
	ck_assert_uint_le(strcspn(line, "\n"), 1023);
	ck_assert_uint_ge(strcspn(line, "\n"), 900);
	ck_assert(logged_matches("x\n[^x]*error +next\n$"));
}
END_TEST

static void *log_many(void *who)
{
	for (int i = 0; i < 300; i++)
		log_error("%c%c%c%c%c%c%c%c", *(char *)who, *(char *)who, *(char *)who,
			  *(char *)who, *(char *)who, *(char *)who, *(char *)who, *(char *)who);
	return NULL;
}

START_TEST(lines_of_threads_stay_whole)
{
	pthread_t threads[4];
	char who[] = "abcd", line[64];
	unsigned n[4] = { 0 };
	FILE *f;

	setenv("JOURNAL_STREAM", "8:1", 1);
	log_init();
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, log_many, &who[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	f = fdopen(dup(fileno(captured)), "r");
	ck_assert_ptr_nonnull(f);
	rewind(f);
	while (fgets(line, sizeof(line), f)) {
		ck_assert_uint_eq(strlen(line), 12);
		ck_assert_uint_eq(strspn(line + 3, (char[]){ line[3], '\0' }), 8);
		n[line[3] - 'a']++;
	}
	fclose(f);
	for (int i = 0; i < 4; i++)
		ck_assert_uint_eq(n[i], 300);
}
END_TEST

START_TEST(limits_count_what_they_hold_back)
{
	struct log_limit limit = { 0 };
	unsigned held = 99;

	ck_assert(log_limit_pass(&limit, 1000, 500, &held));
	ck_assert_uint_eq(held, 0);
	ck_assert(!log_limit_pass(&limit, 1001, 500, &held));
	ck_assert(!log_limit_pass(&limit, 1499, 500, &held));
	ck_assert(log_limit_pass(&limit, 1500, 500, &held));
	ck_assert_uint_eq(held, 2);
	ck_assert(log_limit_pass(&limit, 9000, 500, &held));
	ck_assert_uint_eq(held, 0);
}
END_TEST

START_TEST(a_closed_log_stops_nothing)
{
	close(STDERR_FILENO);
	log_error("nobody reads this");
	dup2(real_stderr, STDERR_FILENO);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log");
	TCase *c = tcase_create("log");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, levels_have_names);
	tcase_add_test(c, only_wanted_levels_are_written);
	tcase_add_test(c, a_terminal_gets_time_and_level);
	tcase_add_test(c, the_journal_gets_a_priority);
	tcase_add_test(c, outside_text_forges_no_line);
	tcase_add_test(c, long_lines_are_cut_and_still_end);
	tcase_add_test(c, lines_of_threads_stay_whole);
	tcase_add_test(c, limits_count_what_they_hold_back);
	tcase_add_test(c, a_closed_log_stops_nothing);
	suite_add_tcase(s, c);
	return suite_run(s);
}
