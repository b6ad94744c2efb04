/* SPDX-License-Identifier: MIT */
/* What the server has said, and for how long it is worth something; and the record of a user. */
#include "hub_fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T0 = 1000000 };

static struct verdicts v;

static struct verdict_key key_of(uid_t uid, const char *topic)
{
	return (struct verdict_key){ .uid = uid,
				     .is_private = true,
				     .topic = { topic, strlen(topic) } };
}

static void put(uid_t uid, const char *topic, uint64_t now)
{
	struct verdict_key key = key_of(uid, topic);

	verdicts_put(&v, &key, uid, now, "unauthorized", "no");
}

static bool has(uid_t uid, const char *topic, uint64_t now)
{
	struct verdict_key key = key_of(uid, topic);

	return verdicts_find(&v, &key, now) != NULL;
}

static void begin_refusals(void)
{
	verdicts_init(&v, true);
}

static void begin_proven(void)
{
	verdicts_init(&v, false);
}

static void end(void)
{
	verdicts_done(&v);
}

START_TEST(keys_are_told_apart)
{
	struct verdict_key key = key_of(1, "t");

	put(1, "t", T0);
	ck_assert(has(1, "t", T0));
	ck_assert(!has(2, "t", T0));
	ck_assert(!has(1, "tt", T0));
	ck_assert(!has(1, "", T0));
	key.is_private = false;
	ck_assert(!verdicts_find(&v, &key, T0));
	key.is_private = true;
	key.identity = 7;
	ck_assert(!verdicts_find(&v, &key, T0));
	key.identity = 0;
	ck_assert_str_eq(verdicts_find(&v, &key, T0)->text, "no");
	ck_assert_str_eq(verdicts_find(&v, &key, T0)->code, "unauthorized");
	verdicts_forget(&v, &key);
	verdicts_forget(&v, &key);
	ck_assert(!has(1, "t", T0));
	ck_assert_uint_eq(v.n, 0);
}
END_TEST

/* The topic's bytes may go, and hold a NUL's neighbours. */
START_TEST(it_keeps_its_own_bytes)
{
	char topic[] = "some topic";
	struct verdict_key key = { .uid = 1, .topic = { topic, 4 } };

	verdicts_put(&v, &key, 1, T0, "c", "t");
	memset(topic, 'x', sizeof(topic) - 1);
	key.topic = (struct rtbp_str){ "some", 4 };
	ck_assert(verdicts_find(&v, &key, T0));
}
END_TEST

START_TEST(pauses_double)
{
	uint64_t now = T0, pause = REFUSED_MIN_MS;

	for (unsigned i = 0; i < 8; i++) {
		put(1, "t", now);
		ck_assert(has(1, "t", now + pause - 1));
		ck_assert(!has(1, "t", now + pause));
		now += pause;
		pause = pause * 2 < REFUSED_MAX_MS ? pause * 2 : REFUSED_MAX_MS;
	}
	ck_assert_uint_eq(pause, REFUSED_MAX_MS);
	/* A long time without. */
	now += REFUSED_FORGET_MS + 1;
	put(1, "t", now);
	ck_assert(!has(1, "t", now + REFUSED_MIN_MS));
}
END_TEST

/* The same refusal heard by several is one. */
START_TEST(repeated_within_its_pause)
{
	for (unsigned i = 0; i < 5; i++)
		put(1, "t", T0 + i);
	ck_assert(has(1, "t", T0 + REFUSED_MIN_MS));
	ck_assert(!has(1, "t", T0 + 4 + REFUSED_MIN_MS));
}
END_TEST

START_TEST(of_one_user)
{
	char topic[20];

	put(2, "mine", T0);
	for (unsigned i = 0; i < 3 * REFUSALS_OF_USER_MAX; i++) {
		snprintf(topic, sizeof(topic), "t%u", i);
		put(1, topic, T0);
	}
	ck_assert_uint_eq(v.n, REFUSALS_OF_USER_MAX + 1);
	ck_assert(has(2, "mine", T0));
	ck_assert(!has(1, "t1023", T0));
	ck_assert(has(1, "t1024", T0));
	ck_assert(has(1, "t1535", T0));
}
END_TEST

START_TEST(of_all)
{
	char topic[20];

	for (unsigned i = 0; i < 2 * VERDICTS_MAX; i++) {
		snprintf(topic, sizeof(topic), "t%u", i);
		put(i / 100, topic, T0 + i);
	}
	ck_assert_uint_eq(v.n, VERDICTS_MAX);
	ck_assert(!has(40, "t4095", T0 + 2 * VERDICTS_MAX));
	ck_assert(has(40, "t4096", T0 + 2 * VERDICTS_MAX));
}
END_TEST

/* They hold for all, but who brought them does not push out what others' joins have shown. */
START_TEST(proven_by_one_user)
{
	struct verdict_key key = { .is_private = true };
	char topic[20];

	put(2, "mine", T0);
	key.topic = (struct rtbp_str){ "for all", 7 };
	verdicts_put(&v, &key, 2, T0, "", "");
	for (unsigned i = 0; i < 2 * VERDICTS_MAX; i++) {
		snprintf(topic, sizeof(topic), "t%u", i);
		key.topic = (struct rtbp_str){ topic, strlen(topic) };
		verdicts_put(&v, &key, 1, T0 + i, "", "");
	}
	ck_assert_uint_eq(v.n, PROVEN_OF_USER_MAX + 2);
	ck_assert(has(2, "mine", T0) && has(0, "for all", T0));
}
END_TEST

/* What was heard again is young again. */
START_TEST(the_oldest_goes)
{
	char topic[20];

	for (unsigned i = 0; i < PROVEN_OF_USER_MAX; i++) {
		snprintf(topic, sizeof(topic), "t%u", i);
		put(0, topic, T0);
	}
	put(0, "t0", T0 + 1);
	put(0, "new", T0 + 1);
	ck_assert(has(0, "t0", T0 + 1));
	ck_assert(!has(0, "t1", T0 + 1));
	ck_assert(has(0, "t2", T0 + 1));
	ck_assert_uint_eq(v.n, PROVEN_OF_USER_MAX);
}
END_TEST

START_TEST(for_an_hour)
{
	put(0, "t", T0);
	ck_assert(has(0, "t", T0 + PROVEN_MS - 1));
	ck_assert(!has(0, "t", T0 + PROVEN_MS));
	put(0, "t", T0 + PROVEN_MS + 1);
	ck_assert(has(0, "t", T0 + 2 * PROVEN_MS));
	ck_assert_uint_eq(v.n, 1);
}
END_TEST

/* ---- with a hub's clock ---- */

static struct user *user;

static void begin_hub(void)
{
	rig_setup_online();
	user = user_get(rig.hub, 2000);
}

START_TEST(record)
{
	ck_assert_ptr_eq(user_get(rig.hub, 2000), user);
	ck_assert(!user_has_record(user, hub_now(rig.hub)));
	ck_assert(!user_has_record(NULL, hub_now(rig.hub)));
	user_failed(rig.hub, user);
	ck_assert(user_has_record(user, hub_now(rig.hub) + RECORD_MS - 1));
	ck_assert(!user_has_record(user, hub_now(rig.hub) + RECORD_MS));
	users_trim(rig.hub);
	ck_assert_ptr_eq(user_get(rig.hub, 2000), user);
	ck_assert(user_is_owner(rig.hub, 0) && user_is_owner(rig.hub, 1000) &&
		  !user_is_owner(rig.hub, 2000));
}
END_TEST

START_TEST(budget_of_one)
{
	uint64_t now = hub_now(rig.hub);

	ck_assert_uint_eq(user_budget(rig.hub, user), now);
	user_stalled(rig.hub, user);
	ck_assert_uint_eq(user_budget(rig.hub, user), now);
	advance(1000);
	user_stalled(rig.hub, user);
	ck_assert_uint_eq(user_budget(rig.hub, user), now + BUDGET_MS);
	ck_assert_uint_eq(user_budget(rig.hub, user_get(rig.hub, 2001)), now + 1000);
	advance(BUDGET_MS - 1000);
	ck_assert_uint_eq(user_budget(rig.hub, user), hub_now(rig.hub));
	user_stalled(rig.hub, user);
	ck_assert_uint_eq(user_budget(rig.hub, user), now + 1000 + BUDGET_MS);
}
END_TEST

/* Those that nobody had to wait for are free. */
START_TEST(budget_of_all)
{
	uint64_t now = hub_now(rig.hub);

	for (unsigned i = 0; i < 50; i++)
		user_failed(rig.hub, user);
	ck_assert_uint_eq(user_budget(rig.hub, user), now);
	for (uid_t uid = 2001; uid < 2001 + BUDGET_OF_ALL; uid++)
		user_stalled(rig.hub, user_get(rig.hub, uid));
	ck_assert_uint_eq(user_budget(rig.hub, user), now + BUDGET_MS);
	ck_assert_uint_eq(user_budget(rig.hub, NULL), now + BUDGET_MS);
}
END_TEST

START_TEST(users_are_forgotten)
{
	struct user *u;
	unsigned n = 0;

	for (uid_t uid = 3000; uid < 3100; uid++)
		(void)user_get(rig.hub, uid);
	user_failed(rig.hub, user_get(rig.hub, 3050));
	users_trim(rig.hub);
	RB_FOREACH(u, user_tree, &rig.hub->users)
		n++;
	ck_assert_uint_eq(n, 1);
	advance(RECORD_MS);
	users_trim(rig.hub);
	ck_assert(RB_EMPTY(&rig.hub->users));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("verdicts");
	TCase *t = tcase_create("refusals");

	tcase_add_checked_fixture(t, begin_refusals, end);
	tcase_add_test(t, keys_are_told_apart);
	tcase_add_test(t, it_keeps_its_own_bytes);
	tcase_add_test(t, pauses_double);
	tcase_add_test(t, repeated_within_its_pause);
	tcase_add_test(t, of_one_user);
	suite_add_tcase(s, t);
	t = tcase_create("refusals of all");
	tcase_add_checked_fixture(t, begin_refusals, end);
	tcase_add_test(t, of_all);
	suite_add_tcase(s, t);
	t = tcase_create("proven");
	tcase_add_checked_fixture(t, begin_proven, end);
	tcase_add_test(t, the_oldest_goes);
	tcase_add_test(t, proven_by_one_user);
	tcase_add_test(t, for_an_hour);
	suite_add_tcase(s, t);
	t = tcase_create("users");
	tcase_add_checked_fixture(t, begin_hub, rig_teardown);
	tcase_add_test(t, record);
	tcase_add_test(t, budget_of_one);
	tcase_add_test(t, budget_of_all);
	tcase_add_test(t, users_are_forgotten);
	suite_add_tcase(s, t);
	return suite_run(s);
}
