/* SPDX-License-Identifier: MIT */
/* The daemon's own token and its session when the n-th allocation fails, for every n, and when all
 * fail for a while: what there was stays, and it goes on when there is memory again. */
#include <sys/mman.h>

#include "tests/unit/test_keeper_util.h"
#include "oom_util.h"
#include "suite.h"

#include "realtime/refresh.h"

/* ---- memory ---- */

static int n_secrets; /* that are mapped */
static bool has_left; /* one was given back with something in it */

void *__real_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t size);

/* Secrets have pages of their own. */
void *__wrap_mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	if (!granted())
		return MAP_FAILED;
	n_secrets++;
	return __real_mmap(at, size, prot, flags, fd, offset);
}

int __wrap_munmap(void *at, size_t size)
{
	const char *bytes = at;

	for (size_t i = 0; i < size; i++)
		has_left = has_left || bytes[i];
	n_secrets--;
	return __real_munmap(at, size);
}

/* ---- a session ---- */

static struct refresh *r;
static char body[512], disk[64];
static uint64_t post_nr;
static unsigned n_posts, n_adopted, n_drops, n_stores;
static unsigned head; /* of the server's chain: r0, r1, ... */
static bool is_behind, is_misunderstood;

static int oom_fetch(void *ctx, uint64_t n, bool is_renewal)
{
	(void)ctx, (void)is_renewal;
	return refresh_fetch(r, n);
}

static void oom_adopt(void *ctx, const struct secret *token, const struct jwt *jwt, uint64_t s,
		      uint64_t lives_ms)
{
	(void)ctx, (void)jwt, (void)s, (void)lives_ms;
	n_adopted += token != NULL;
	n_drops += token == NULL;
}

static void oom_changed(void *ctx)
{
	(void)ctx;
}

static int oom_post(void *ctx, uint64_t n, const void *bytes, size_t size)
{
	(void)ctx;
	memcpy(body, bytes, size);
	body[size] = '\0';
	post_nr = n;
	n_posts++;
	return 0;
}

static int oom_store(void *ctx, const struct secret *token)
{
	(void)ctx;
	strcpy(disk, secret_bytes(token));
	n_stores++;
	return 0;
}

static void oom_give(void *ctx, uint64_t n, const struct keeper_news *news)
{
	(void)ctx;
	if (news->code && strcmp(news->code, "no_memory") != 0)
		is_misunderstood = true;
	keeper_on_fetched(k, n, news);
}

static void oom_trouble(void *ctx, const char *code, const char *text)
{
	(void)ctx;
	keeper_set_trouble(k, code, text);
}

static const struct keeper_ops oom_ops = { oom_fetch, oom_adopt, oom_changed };
static const struct refresh_ops oom_refresh = { oom_post, oom_store, oom_give, oom_trouble };

/* The newest or its parent is presented: then comes the newest, else the session would be over. */
static void answer_post(void)
{
	static char text[2048];
	struct gotrue_answer a = { .status = 200, .body = text, .whole = true };
	char token[1024];
	unsigned n = 0;

	if (sscanf(body, "{\"refresh_token\":\"r%u\"}", &n) != 1 || n > head || n + 1 < head)
		is_behind = true;
	if (n == head)
		head++;
	make_token(true_ms() / 1000, true_ms() / 1000 + 3600, n_posts, token);
	a.size = (size_t)snprintf(text, sizeof(text),
				  "{\"access_token\":\"%s\",\"expires_in\":3600,"
				  "\"refresh_token\":\"r%u\",\"user\":{\"0\":[{\"a\":1}]",
				  token, head);
	/* More keys than are compared without memory. */
	for (n = 1; n < 100; n++)
		a.size += (size_t)sprintf(text + a.size, ",\"%u\":1", n);
	a.size += (size_t)sprintf(text + a.size, "}}");
	refresh_on_answer(r, post_nr, &a);
}

static uint64_t deadline(void)
{
	uint64_t a = keeper_deadline(k), b = refresh_deadline(r);

	return a < b ? a : b;
}

/* Until `n` tokens have come, or too many turns were made. */
static void run_to(unsigned n)
{
	unsigned answered = n_posts;

	for (unsigned turn = 0; turn < 60 && n_adopted < n; turn++) {
		if (deadline() == UINT64_MAX && answered == n_posts)
			break;
		if (answered != n_posts) {
			answered = n_posts;
			answer_post();
			continue;
		}
		if (deadline() > boot)
			boot = deadline();
		refresh_tick(r);
		keeper_tick(k);
	}
}

/* Return: whether there was memory to begin with. */
static bool one_life(void)
{
	bool made;

	k = keeper_new(&conf, &fake_clock, &oom_ops, NULL);
	r = refresh_new(&fake_clock, &oom_refresh, NULL);
	made = k && r && refresh_set_token(r, "r0", 2, true) == 0;
	if (made) {
		keeper_start(k);
		if (n_posts)
			answer_post();
		run_to(1);
		run_to(3);
	}
	return made;
}

static void reset(void)
{
	boot = START;
	slept = 0;
	wall_off = 0;
	conf = (struct keeper_conf){ .lead_ms = LEAD, .seed = 7 };
	post_nr = 0;
	n_posts = n_adopted = n_drops = n_stores = head = 0;
	is_behind = has_failed = is_misunderstood = has_left = false;
	strcpy(disk, "r0");
}

START_TEST(test_one)
{
	bool made;

	for (unsigned n = 1;; n++) {
		reset();
		all = false;
		fail_at = n;
		made = one_life();
		fail_at = 0;
		if (made) {
			ck_assert_msg(n_adopted == 3, "allocation %u: %u tokens", n, n_adopted);
			ck_assert_uint_eq(n_drops, 0);
			ck_assert(!is_behind && !is_misunderstood);
			ck_assert_uint_le(n_posts, 4);
			ck_assert_int_eq(disk[0], 'r');
			ck_assert_uint_eq((unsigned)atoi(disk + 1), head);
		}
		r = refresh_free(r);
		k = keeper_free(k);
		ck_assert_int_eq(n_secrets, 0);
		ck_assert(!has_left);
		if (!has_failed)
			break;
		ck_assert_uint_lt(n, 1000);
	}
	ck_assert_uint_eq(n_posts, 3);
	ck_assert_uint_eq(n_stores, 3);
}
END_TEST

/* From the n-th on none is granted for a while: the token stays until it ends, nothing is told
 * twice, and then it goes on. */
START_TEST(test_all)
{
	unsigned before, failures;

	for (unsigned n = 1;; n++) {
		reset();
		k = keeper_new(&conf, &fake_clock, &oom_ops, NULL);
		r = refresh_new(&fake_clock, &oom_refresh, NULL);
		ck_assert_int_eq(refresh_set_token(r, "r0", 2, true), 0);
		keeper_start(k);
		answer_post();
		ck_assert_uint_eq(n_adopted, 1);
		before = n_adopted;
		all = true;
		fail_at = n;
		for (unsigned i = 0; i < 3; i++) /* the lead, and a few more */
			run_to(before + 1);
		fail_at = 0;
		failures = (unsigned)status().failures;
		run_to(n_adopted + 1);
		ck_assert_uint_ge(n_adopted, 2);
		ck_assert_uint_le(n_drops, 1);
		ck_assert(!is_behind);
		ck_assert(status().has_token);
		ck_assert_int_eq(failures > 0, has_failed);
		r = refresh_free(r);
		k = keeper_free(k);
		if (!has_failed)
			break;
		ck_assert_uint_lt(n, 1000);
	}
}
END_TEST

/* Whatever becomes of tokens, they are wiped and given back. */
START_TEST(test_secrets)
{
	reset();
	k = keeper_new(&conf, &fake_clock, &fake_ops, NULL);
	quiet = true;
	nr = serial = 0;
	keeper_start(k);
	got(HOUR, 0);
	keeper_refused(k, serial, "x", "y");
	got(HOUR, 1);
	ck_assert_int_eq(n_secrets, 1);
	boot = ends_at;
	keeper_tick(k);
	ck_assert_int_eq(n_secrets, 1); /* to know it again */
	keeper_ask(k, true);
	got(HOUR, 2);
	keeper_ask(k, true);
	got(HOUR, 3);
	ck_assert_int_eq(n_secrets, 1);
	keeper_refused(k, serial, "x", "y");
	keeper_free(k);
	ck_assert_int_eq(n_secrets, 0);
	ck_assert(!has_left);
}
END_TEST

START_TEST(test_set_token)
{
	int result;

	reset();
	k = keeper_new(&conf, &fake_clock, &oom_ops, NULL);
	r = refresh_new(&fake_clock, &oom_refresh, NULL);
	ck_assert_int_eq(refresh_set_token(r, "r0", 2, true), 0);
	keeper_start(k);
	all = true;
	fail_at = 1;
	result = refresh_set_token(r, "s0", 2, true);
	fail_at = 0;
	ck_assert_int_eq(result, -ENOMEM);
	answer_post(); /* to what it has still */
	ck_assert_uint_eq(n_adopted, 1);
	/* The secret is there, its request is not: the fetch fails. */
	keeper_ask(k, true);
	all = false;
	fail_at = 2;
	result = refresh_set_token(r, "r7", 2, true);
	fail_at = 0;
	ck_assert_int_eq(result, 0);
	ck_assert(has_failed);
	ck_assert(status().is_fetching);
	refresh_tick(r);
	ck_assert_int_eq(status().state, KEEPER_LATE);
	ck_assert_str_eq(status().code, "cannot_fetch");
	head = 7;
	run_to(2);
	ck_assert_uint_eq(n_adopted, 2);
	ck_assert_str_eq(disk, "r8");
	r = refresh_free(r);
	k = keeper_free(k);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("keeper_oom");
	Suite *suite = suite_create("keeper_oom");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_one);
	tcase_add_test(tc, test_all);
	tcase_add_test(tc, test_secrets);
	tcase_add_test(tc, test_set_token);
	suite_add_tcase(suite, tc);
	return suite_run(suite);
}
