/* SPDX-License-Identifier: MIT */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "wire/resolver.h"
#include "suite.h"

enum { DEADLINE_MS = 60000 };

static struct {
	int n;
	unsigned slot;
	uint64_t cookie;
	struct resolver_answer answer;
} got;

static sem_t hung; /* posted once per lookup that may end */
static sem_t back; /* posted by each lookup that has come back from hanging */

static void on_answer(void *ctx, unsigned slot, uint64_t cookie,
		      const struct resolver_answer *answer)
{
	(void)ctx;
	got.n++;
	got.slot = slot;
	got.cookie = cookie;
	got.answer = *answer;
}

static void fake_lookup(const char *host, struct resolver_answer *ret)
{
	if (strcmp(host, "hangs") == 0) {
		sem_wait(&hung);
		sem_post(&back);
	}
	if (strcmp(host, "fails") == 0) {
		snprintf(ret->text, sizeof(ret->text), "does not exist");
	} else if (strcmp(host, "mixed") == 0) {
		static const char *const list[] = { "::1", "::2", "::3", "1.1.1.1", "2.2.2.2" };

		for (int i = 0; i < 5; i++)
			strcpy(ret->addrs[i], list[i]);
		ret->n_addrs = 5;
	} else if (strcmp(host, "nothing") != 0) {
		snprintf(ret->addrs[0], sizeof(ret->addrs[0]), "127.0.0.1");
		ret->n_addrs = 1;
	}
}

static struct resolver *new_resolver(resolver_lookup_fn fn)
{
	struct resolver *r;

	memset(&got, 0, sizeof(got));
	sem_init(&hung, 0, 0);
	sem_init(&back, 0, 0);
	resolver_set_lookup(fn);
	ck_assert_int_eq(resolver_new(on_answer, NULL, &r), 0);
	return r;
}

static void until_answers(struct resolver *r, int n)
{
	struct pollfd p = { .fd = resolver_fd(r), .events = POLLIN };

	while (got.n < n) {
		ck_assert_int_eq(poll(&p, 1, DEADLINE_MS), 1);
		resolver_dispatch(r);
	}
	ck_assert_int_eq(got.n, n);
}

START_TEST(test_answers)
{
	struct resolver *r = new_resolver(fake_lookup);

	ck_assert_int_eq(resolver_lookup(r, 3, 77, "works", DEADLINE_MS), 0);
	until_answers(r, 1);
	ck_assert_uint_eq(got.slot, 3);
	ck_assert_uint_eq(got.cookie, 77);
	ck_assert_int_eq(got.answer.n_addrs, 1);
	ck_assert_str_eq(got.answer.addrs[0], "127.0.0.1");
	ck_assert_int_eq(resolver_lookup(r, 3, 78, "fails", DEADLINE_MS), 0);
	until_answers(r, 2);
	ck_assert_int_eq(got.answer.n_addrs, 0);
	ck_assert_str_eq(got.answer.text, "does not exist");
	ck_assert_int_eq(resolver_lookup(r, 3, 79, "nothing", DEADLINE_MS), 0);
	until_answers(r, 3);
	ck_assert_int_eq(got.answer.n_addrs, 0);
	ck_assert(got.answer.text[0]);
	resolver_free(r);
	ck_assert_ptr_null(resolver_free(NULL));
}
END_TEST

START_TEST(test_families_take_turns)
{
	static const char *const want[] = { "::1", "1.1.1.1", "::2", "2.2.2.2", "::3" };
	struct resolver *r = new_resolver(fake_lookup);

	ck_assert_int_eq(resolver_lookup(r, 0, 1, "mixed", DEADLINE_MS), 0);
	until_answers(r, 1);
	ck_assert_int_eq(got.answer.n_addrs, 5);
	for (int i = 0; i < 5; i++)
		ck_assert_str_eq(got.answer.addrs[i], want[i]);
	resolver_free(r);
}
END_TEST

START_TEST(test_hang_is_answered_in_time)
{
	struct resolver *r = new_resolver(fake_lookup);

	ck_assert_int_eq(resolver_lookup(r, 1, 5, "hangs", 50), 0);
	until_answers(r, 1);
	ck_assert_int_eq(got.answer.n_addrs, 0);
	ck_assert_msg(strstr(got.answer.text, "50 ms") != NULL, "%s", got.answer.text);
	/* Others are not held up, and the late answer is not delivered. */
	sem_post(&hung);
	sem_wait(&back);
	ck_assert_int_eq(resolver_lookup(r, 1, 6, "works", DEADLINE_MS), 0);
	until_answers(r, 2);
	ck_assert_uint_eq(got.cookie, 6);
	resolver_free(r);
}
END_TEST

START_TEST(test_cancel_and_replace)
{
	struct resolver *r = new_resolver(fake_lookup);

	ck_assert_int_eq(resolver_lookup(r, 1, 5, "hangs", DEADLINE_MS), 0);
	resolver_cancel(r, 1);
	ck_assert_int_eq(resolver_lookup(r, 1, 6, "hangs", DEADLINE_MS), 0);
	ck_assert_int_eq(resolver_lookup(r, 1, 7, "works", DEADLINE_MS), 0);
	until_answers(r, 1);
	ck_assert_uint_eq(got.cookie, 7);
	sem_post(&hung);
	sem_post(&hung);
	sem_wait(&back);
	sem_wait(&back);
	resolver_dispatch(r);
	ck_assert_int_eq(got.n, 1);
	resolver_free(r);
}
END_TEST

START_TEST(test_free_leaves_hung_lookups)
{
	struct resolver *r = new_resolver(fake_lookup);

	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(resolver_lookup(r, i, i, "hangs", DEADLINE_MS), 0);
	resolver_free(r);
	for (unsigned i = 0; i < 4; i++) {
		sem_post(&hung);
		sem_wait(&back);
	}
}
END_TEST

START_TEST(test_too_many_hang)
{
	struct resolver *r = new_resolver(fake_lookup);
	int n = 0, e;

	while ((e = resolver_lookup(r, 0, 1, "hangs", DEADLINE_MS)) == 0)
		n++;
	ck_assert_int_eq(e, -EAGAIN);
	ck_assert_int_eq(n, RESOLVER_MAX_THREADS);
	sem_post(&hung);
	sem_wait(&back);
	/* As soon as one thread is gone there is room again. */
	while ((e = resolver_lookup(r, 0, 2, "works", DEADLINE_MS)) == -EAGAIN)
		poll(NULL, 0, 1);
	ck_assert_int_eq(e, 0);
	until_answers(r, 1);
	resolver_free(r);
	while (--n > 0) {
		sem_post(&hung);
		sem_wait(&back);
	}
}
END_TEST

START_TEST(test_system)
{
	char host[400];
	struct resolver *r = new_resolver(NULL);

	ck_assert_int_eq(resolver_lookup(r, 0, 1, "localhost", DEADLINE_MS), 0);
	until_answers(r, 1);
	ck_assert_int_ge(got.answer.n_addrs, 1);
	/* .invalid never resolves; without a name service the answer is another failure. */
	ck_assert_int_eq(resolver_lookup(r, 0, 2, "host.invalid", DEADLINE_MS), 0);
	until_answers(r, 2);
	ck_assert_int_eq(got.answer.n_addrs, 0);
	ck_assert(got.answer.text[0]);
	memset(host, 'a', sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	ck_assert_int_eq(resolver_lookup(r, 0, 3, host, DEADLINE_MS), -ENAMETOOLONG);
	resolver_free(r);
}
END_TEST

START_TEST(test_many)
{
	struct resolver *r = new_resolver(fake_lookup);

	for (int round = 0; round < 50; round++) {
		for (unsigned i = 0; i < RESOLVER_SLOTS; i++) {
			int e;

			while ((e = resolver_lookup(r, i, i, "works", DEADLINE_MS)) == -EAGAIN)
				poll(NULL, 0, 1);
			ck_assert_int_eq(e, 0);
		}
		until_answers(r, (round + 1) * RESOLVER_SLOTS);
	}
	resolver_free(r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("resolver");
	TCase *t = tcase_create("resolver");

	suite_add_tcase(suite, t);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_answers);
	tcase_add_test(t, test_families_take_turns);
	tcase_add_test(t, test_hang_is_answered_in_time);
	tcase_add_test(t, test_cancel_and_replace);
	tcase_add_test(t, test_free_leaves_hung_lookups);
	tcase_add_test(t, test_too_many_hang);
	tcase_add_test(t, test_system);
	tcase_add_test(t, test_many);
	return suite_run(suite);
}
