/* SPDX-License-Identifier: MIT */
#include "base/timers.h"

#include "proto_util.h"

/* What a timer of the tests does when it runs: writes its name, then perhaps something else. */
struct act {
	struct timer timer;
	char name;
	struct act *arms, *disarms;
	uint64_t arms_at_ms;
	bool dies;
};

static struct timers timers;
static char ran[4096];
static size_t n_ran;

static void on_timer(void *ctx)
{
	struct act *a = ctx;

	ck_assert(!a->timer.armed);
	ck_assert_uint_lt(n_ran, sizeof(ran) - 1);
	ran[n_ran++] = a->name;
	if (a->disarms)
		timer_disarm(&timers, &a->disarms->timer);
	if (a->arms)
		timer_arm(&timers, &a->arms->timer, a->arms_at_ms);
	if (a->dies)
		free(a);
}

static void setup(void)
{
	timers_init(&timers);
	memset(ran, 0, sizeof(ran));
	n_ran = 0;
}

static void act_init(struct act *a, char name)
{
	*a = (struct act){ .name = name };
	timer_init(&a->timer, on_timer, a);
}

static void run(uint64_t now_ms, const char *expected)
{
	n_ran = 0;
	memset(ran, 0, sizeof(ran));
	timers_run(&timers, now_ms);
	ck_assert_str_eq(ran, expected);
}

START_TEST(deadline_is_the_earliest)
{
	struct act a, b;

	act_init(&a, 'a');
	act_init(&b, 'b');
	ck_assert_uint_eq(timers_deadline(&timers), UINT64_MAX);
	run(UINT64_MAX, "");
	timer_arm(&timers, &a.timer, 20);
	ck_assert_uint_eq(timers_deadline(&timers), 20);
	timer_arm(&timers, &b.timer, 10);
	ck_assert_uint_eq(timers_deadline(&timers), 10);
	run(9, "");
	run(10, "b");
	ck_assert_uint_eq(timers_deadline(&timers), 20);
	timer_disarm(&timers, &a.timer);
	timer_disarm(&timers, &a.timer); /* of a timer at rest: nothing */
	ck_assert_uint_eq(timers_deadline(&timers), UINT64_MAX);
	timer_arm(&timers, &a.timer, 0);
	run(0, "a");
}
END_TEST

START_TEST(order_is_time_then_arming)
{
	struct act acts[5];

	for (unsigned i = 0; i < N_OF(acts); i++)
		act_init(&acts[i], (char)('a' + i));
	timer_arm(&timers, &acts[4].timer, 30);
	timer_arm(&timers, &acts[2].timer, 20);
	timer_arm(&timers, &acts[0].timer, 20);
	timer_arm(&timers, &acts[1].timer, 20);
	timer_arm(&timers, &acts[3].timer, 10);
	run(100, "dcabe");
	/* Arming again moves a timer to the end of its moment. */
	timer_arm(&timers, &acts[0].timer, 20);
	timer_arm(&timers, &acts[1].timer, 20);
	timer_arm(&timers, &acts[0].timer, 20);
	run(19, "");
	run(20, "ba");
}
END_TEST

START_TEST(arming_again_replaces)
{
	struct act a;

	act_init(&a, 'a');
	timer_arm(&timers, &a.timer, 10);
	timer_arm(&timers, &a.timer, 50);
	ck_assert_uint_eq(timers_deadline(&timers), 50);
	run(49, "");
	timer_arm(&timers, &a.timer, 5);
	run(49, "a");
	run(50, "");
}
END_TEST

/* What is armed during a run for a moment that has passed waits for the next run: a timer that
 * arms itself for "now" does not hold the thread. */
START_TEST(rearmed_in_its_callback)
{
	struct act a, b;

	act_init(&a, 'a');
	act_init(&b, 'b');
	a.arms = &a;
	a.arms_at_ms = 5;
	timer_arm(&timers, &a.timer, 10);
	timer_arm(&timers, &b.timer, 10);
	run(10, "ab");
	ck_assert_uint_eq(timers_deadline(&timers), 5);
	run(10, "a");
	run(10, "a");
	a.arms_at_ms = 11;
	run(10, "a");
	run(10, "");
	a.arms = NULL;
	run(11, "a");
	ck_assert_uint_eq(timers_deadline(&timers), UINT64_MAX);
}
END_TEST

/* One that is still due in this run and is armed anew by an earlier one leaves the run, too. */
START_TEST(another_is_rearmed)
{
	struct act a, b, c;

	act_init(&a, 'a');
	act_init(&b, 'b');
	act_init(&c, 'c');
	a.arms = &b;
	a.arms_at_ms = 10;
	timer_arm(&timers, &a.timer, 10);
	timer_arm(&timers, &b.timer, 10);
	timer_arm(&timers, &c.timer, 10);
	run(10, "ac");
	run(10, "b");
}
END_TEST

START_TEST(disarmed_in_a_callback)
{
	struct act a, b, c;

	act_init(&a, 'a');
	act_init(&b, 'b');
	act_init(&c, 'c');
	a.disarms = &b;
	c.disarms = &c;
	timer_arm(&timers, &a.timer, 10);
	timer_arm(&timers, &b.timer, 10);
	timer_arm(&timers, &c.timer, 10);
	run(10, "ac");
	ck_assert_uint_eq(timers_deadline(&timers), UINT64_MAX);
}
END_TEST

START_TEST(freed_in_its_callback)
{
	struct act *a = malloc(sizeof(*a)), b;

	ck_assert_ptr_nonnull(a);
	act_init(a, 'a');
	a->dies = true;
	act_init(&b, 'b');
	timer_arm(&timers, &a->timer, 10);
	timer_arm(&timers, &b.timer, 10);
	run(10, "ab");
}
END_TEST

START_TEST(far_ends_of_the_clock)
{
	struct act a, b;

	act_init(&a, 'a');
	act_init(&b, 'b');
	timer_arm(&timers, &a.timer, UINT64_MAX);
	timer_arm(&timers, &b.timer, 0);
	run(UINT64_MAX - 1, "b");
	run(UINT64_MAX, "a");
}
END_TEST

/* Many timers in a jumbled order come out sorted, with some of them taken out again. */
START_TEST(many_timers)
{
	enum { N = 2000 };
	struct act *acts = calloc(N, sizeof(*acts));
	uint64_t last = 0, deadline;
	size_t n = 0;

	ck_assert_ptr_nonnull(acts);
	for (unsigned i = 0; i < N; i++) {
		act_init(&acts[i], 'x');
		timer_arm(&timers, &acts[i].timer, i * 7919u % 1009);
	}
	for (unsigned i = 0; i < N; i += 4)
		timer_disarm(&timers, &acts[i].timer);
	while ((deadline = timers_deadline(&timers)) != UINT64_MAX) {
		ck_assert_uint_ge(deadline, last);
		last = deadline + 1;
		n_ran = 0;
		timers_run(&timers, deadline);
		ck_assert_uint_gt(n_ran, 0);
		n += n_ran;
	}
	ck_assert_uint_eq(n, N - N / 4);
	free(acts);
}
END_TEST

int main(void)
{
	TCase *c = tcase_create("timers");

	tcase_add_checked_fixture(c, setup, NULL);
	tcase_add_test(c, deadline_is_the_earliest);
	tcase_add_test(c, order_is_time_then_arming);
	tcase_add_test(c, arming_again_replaces);
	tcase_add_test(c, rearmed_in_its_callback);
	tcase_add_test(c, another_is_rearmed);
	tcase_add_test(c, disarmed_in_a_callback);
	tcase_add_test(c, freed_in_its_callback);
	tcase_add_test(c, far_ends_of_the_clock);
	tcase_add_test(c, many_timers);
	return run_tests("timers", c);
}
