/* SPDX-License-Identifier: MIT */
/*
 * Anything at any time: a keeper of the daemon's own token is asked, refused, answered (also late, twice,
 * with nonsense), put to sleep, and its wall clock is moved. What must hold whatever happens is checked
 * after each step.
 */
#include "tests/unit/test_keeper_util.h"

#include "base/mix.h"

enum { SEEDS = 100, STEPS = 400 };

static uint64_t random_state;

static unsigned below(unsigned n)
{
	return (unsigned)(mix_next(&random_state) % n);
}

static unsigned n_fetching; /* fetches that are on their way */
static bool has_adopted;
static struct keeper_status shown; /* when changed() was called last */

static int any_fetch(void *ctx, uint64_t n, bool is_renewal)
{
	(void)is_renewal;
	ck_assert_uint_eq(n_fetching, 0); /* one at a time */
	n_fetching = fake_fetch(ctx, n, is_renewal) == 0;
	fetch_result = below(10) ? 0 : -EAGAIN;
	return n_fetching ? 0 : -EAGAIN;
}

static void any_adopt(void *ctx, const struct secret *token, const struct jwt *jwt, uint64_t s,
		      uint64_t lives_ms)
{
	(void)ctx, (void)jwt;
	ck_assert(token || has_adopted); /* nothing is taken away that was not there */
	ck_assert_uint_gt(s, serial);
	ck_assert_int_eq(lives_ms > 0, token != NULL);
	has_adopted = token != NULL;
	serial = s;
	ends_at = boot + lives_ms;
}

static void any_changed(void *ctx)
{
	(void)ctx;
	shown = status();
}

static const struct keeper_ops any_ops = { any_fetch, any_adopt, any_changed };

/* ---- steps ---- */

/* One of few tokens, so that the same come again; some are none. */
static void any_token(char *to)
{
	static const int64_t lives[] = { 3600, 600, 60, 1, 0, -5, 86400 };
	int64_t iat = EPOCH + (int64_t)(boot - START) / 600000 * 600 - (below(4) ? 0 : 300);

	make_token(below(5) ? iat : -1, iat + lives[below(7)], below(3), to);
	if (!below(12))
		make_token_of("{\"alg\":\"HS256\"}", "{\"exp\":1900000000,\"role\":\"other\"}", to);
	if (!below(12))
		to[below((unsigned)strlen(to))] = (char)below(256);
}

static void any_answer(void)
{
	static const uint64_t lives[] = { 0, HOUR, 600 * SECOND, SECOND, 1, UINT64_MAX };
	static const char *const texts[] = { NULL, "", "no", "\377\n\033" };
	char token[1024];
	struct keeper_news news = { .got = (enum keeper_got)below(below(4) ? 2 : 3),
				    .token = token,
				    .lives_ms = lives[below(6)],
				    .retry_after_s = below(4) ? 0 : below(10000),
				    .code = below(3) ? NULL : "code",
				    .text = texts[below(4)] };

	any_token(token);
	news.size = strlen(token);
	if (below(8)) {
		n_fetching = 0;
		keeper_on_fetched(k, nr, &news);
	} else { /* nobody waits for that one */
		keeper_on_fetched(k, nr + (below(2) ? 1 : UINT64_MAX), &news);
	}
}

static void any_step(void)
{
	static const uint64_t times[] = { 0, 1, 1000, 60000, 300000, 3600000, 86400000 };
	uint64_t at;

	switch (below(12)) {
	case 0:
		keeper_ask(k, below(2));
		break;
	case 1:
		keeper_refused(k, below(3) ? serial : serial - 1, below(2) ? "why" : NULL, "words");
		break;
	case 2:
		boot += times[below(7)];
		slept += below(2) ? boot - START - slept : 0;
		break;
	case 3:
		wall_off = below(3) ? (int64_t)below(20 * MINUTE) - 10 * MINUTE : -true_ms();
		break;
	case 4:
		keeper_set_trouble(k, below(2) ? "trouble" : NULL, "words");
		break;
	case 5:
	case 6:
	case 7:
		at = keeper_deadline(k);
		if (at != UINT64_MAX && at > boot)
			boot = at;
		break;
	default:
		any_answer();
	}
}

/* ---- what holds ---- */

static void check_shown(const struct keeper_status *st)
{
	ck_assert_int_eq(st->state, shown.state);
	ck_assert_int_eq(st->has_token, shown.has_token);
	ck_assert_int_eq(st->is_fetching, shown.is_fetching);
	ck_assert_str_eq(st->code, shown.code);
	ck_assert_str_eq(st->text, shown.text);
	ck_assert_str_eq(st->role, shown.role);
}

static unsigned n_seen[KEEPER_DENIED + 1];

static void check_state(const struct keeper_status *st)
{
	ck_assert_int_eq(st->is_fetching, n_fetching);
	ck_assert_int_eq(st->has_token, has_adopted);
	n_seen[st->state]++;
	switch (st->state) {
	case KEEPER_GOOD:
		ck_assert(st->has_token);
		break;
	case KEEPER_LATE:
		ck_assert(st->has_token && *st->code);
		break;
	case KEEPER_BAD:
		ck_assert(!st->has_token && *st->code);
		break;
	case KEEPER_WAITING:
		ck_assert(!st->has_token && serial == 0);
		break;
	case KEEPER_DENIED:
		ck_assert(*st->code);
		ck_assert(st->is_fetching || st->next_try_ms == -1);
		break;
	}
	/* Somebody is asked, or will be, or must not be: never nothing. */
	if (st->state != KEEPER_DENIED && !st->is_fetching)
		ck_assert_int_ge(st->next_try_ms, 0);
	ck_assert_int_le(st->next_try_ms, JWT_EXP_MAX * 1000);
	if (has_adopted) {
		ck_assert_uint_gt(ends_at, boot);
		ck_assert_int_eq(st->ends_in_ms, (int64_t)(ends_at - boot));
		ck_assert_uint_le(keeper_deadline(k), ends_at);
	}
}

static void one_seed(unsigned seed)
{
	struct keeper_status st;

	random_state = seed;
	teardown();
	setup();
	teardown();
	conf = (struct keeper_conf){ .lead_ms = LEAD,
				     .seed = random_state,
				     .is_watched = seed % 3 == 0 };
	k = keeper_new(&conf, &fake_clock, &any_ops, NULL);
	quiet = true;
	shown = status();
	n_fetching = 0;
	has_adopted = false;
	keeper_start(k);
	for (unsigned step = 0; step < STEPS; step++) {
		any_step();
		/* A deadline moves, if not at once. */
		for (unsigned n = 0; keeper_deadline(k) <= boot; n++) {
			ck_assert_uint_lt(n, 20);
			keeper_tick(k);
		}
		st = status();
		check_shown(&st);
		check_state(&st);
	}
}

START_TEST(test_anything)
{
	for (unsigned seed = 0; seed < SEEDS; seed++)
		one_seed(seed);
	for (int i = KEEPER_WAITING; i <= KEEPER_DENIED; i++)
		ck_assert_uint_gt(n_seen[i], SEEDS);
}
END_TEST

static void add(TCase *tc)
{
	tcase_add_test(tc, test_anything);
}

int main(void)
{
	return run("keeper_random", add);
}
