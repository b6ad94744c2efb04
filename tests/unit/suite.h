/* SPDX-License-Identifier: MIT */
#pragma once
/* How a program of tests ends. */
#include <check.h>
#include <stdlib.h>

/* Runs them, as CK_FORK, CK_VERBOSITY and their like say, and frees the suite. Return: for main(). */
static inline int suite_run(Suite *s)
{
	SRunner *runner = srunner_create(s);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
